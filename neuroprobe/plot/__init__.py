"""Pictures of labelled results: holoviews objects, styled for matplotlib; they compute no statistic."""

from neuroprobe.plot.sensitivity import depth_profile, index_maps

__all__ = ["depth_profile", "index_maps"]
