"""Labelled analyses of recordings and results."""
