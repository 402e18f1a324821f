"""Pictures of labelled results: holoviews objects, styled for matplotlib; they compute no statistic."""

from neuroprobe.plot.comparison import dissimilarities, layer_scores, lesion_drops, profile_clouds
from neuroprobe.plot.contrast import accuracies, effect_sizes, significant_units
from neuroprobe.plot.decomposition import decomposition
from neuroprobe.plot.dose import dose_response
from neuroprobe.plot.gallery import neuron_features, top_crops
from neuroprobe.plot.interactions import interactions
from neuroprobe.plot.maps import index_maps
from neuroprobe.plot.masking import accuracy_dendrogram, accuracy_differences, cross_table, headline
from neuroprobe.plot.redundancy import removal_curve
from neuroprobe.plot.relevance import relevance_tree
from neuroprobe.plot.selectivity import index_scatter, selectivity_by_layer
from neuroprobe.plot.selectivity_units import activation_curve, label_shares, selectivity_profile, similarity_map
from neuroprobe.plot.sensitivity import convergence, depth_profile, index_distributions
from neuroprobe.plot.single_class import class_shifts, jaccards
from neuroprobe.plot.specialisation import confusions, correlations, factor_trees, specialisation_profile
from neuroprobe.plot.spike_trains import psth, raster
from neuroprobe.plot.stimuli import stimulus_examples, stimulus_sheet
from neuroprobe.plot.tuning import reliability, tuning_curves, unit_distributions
from neuroprobe.plot.units import activity, preferences, stacked_shares, strongest_units

__all__ = [
    "accuracies",
    "accuracy_dendrogram",
    "accuracy_differences",
    "activation_curve",
    "activity",
    "class_shifts",
    "confusions",
    "convergence",
    "correlations",
    "cross_table",
    "decomposition",
    "depth_profile",
    "dissimilarities",
    "dose_response",
    "effect_sizes",
    "factor_trees",
    "headline",
    "index_distributions",
    "index_maps",
    "index_scatter",
    "interactions",
    "jaccards",
    "label_shares",
    "layer_scores",
    "lesion_drops",
    "neuron_features",
    "preferences",
    "profile_clouds",
    "psth",
    "raster",
    "relevance_tree",
    "reliability",
    "removal_curve",
    "selectivity_by_layer",
    "selectivity_profile",
    "significant_units",
    "similarity_map",
    "specialisation_profile",
    "stacked_shares",
    "stimulus_examples",
    "stimulus_sheet",
    "strongest_units",
    "top_crops",
    "tuning_curves",
    "unit_distributions",
]
