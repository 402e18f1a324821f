"""Pictures of labelled results: holoviews objects, styled for matplotlib; they compute no statistic."""

from neuroprobe.plot.interactions import interactions
from neuroprobe.plot.maps import index_maps
from neuroprobe.plot.sensitivity import convergence, depth_profile, index_distributions
from neuroprobe.plot.specialisation import confusions, correlations, factor_trees, specialisation_profile
from neuroprobe.plot.stimuli import stimulus_examples
from neuroprobe.plot.units import activity, preferences, stacked_shares, strongest_units

__all__ = [
    "activity",
    "confusions",
    "convergence",
    "correlations",
    "depth_profile",
    "factor_trees",
    "index_distributions",
    "index_maps",
    "interactions",
    "preferences",
    "specialisation_profile",
    "stacked_shares",
    "stimulus_examples",
    "strongest_units",
]
