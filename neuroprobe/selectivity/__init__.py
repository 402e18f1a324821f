"""Selectivity in a run: what is opened, recorded, shown again as crops, and made a result."""
