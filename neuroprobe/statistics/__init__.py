"""Streaming statistics and numeric kernels: arrays in, arrays out; no labels, no networks."""
