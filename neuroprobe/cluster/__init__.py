"""Runs on many workers through dask.distributed: on the cores of one machine, or on a cluster."""
