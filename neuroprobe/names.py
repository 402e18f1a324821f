"""The one place where dimension, coordinate, variable and attribute names are spelled."""

from __future__ import annotations

from typing import Final

# dimensions
PRESENTATION: Final = "presentation"
CHANNEL: Final = "channel"
CHANNEL_2: Final = "channel_2"
EARLIER_CHANNEL: Final = "earlier_channel"  # of the layer recorded before
Y: Final = "y"
X: Final = "x"
TOKEN: Final = "token"
UNIT: Final = "unit"
FACTOR: Final = "factor"
FACTOR_2: Final = "factor_2"
SUBSET: Final = "subset"
LAYER: Final = "layer"
SAMPLES: Final = "samples"
QUANTILE: Final = "quantile"
TREATMENT: Final = "treatment"
COLOUR: Final = "colour"
BIN: Final = "bin"
RANK: Final = "rank"
THRESHOLD: Final = "threshold"
TEST: Final = "test"
MEASURE: Final = "measure"
VALUE: Final = "value"
VALUE_2: Final = "value_2"
NORMALISATION: Final = "normalisation"
MERGE: Final = "merge"
PART: Final = "part"
CLUSTER: Final = "cluster"
INPUT: Final = "input"
RULE: Final = "rule"
MASK: Final = "mask"
VECTOR: Final = "vector"
FIELD_Y: Final = "field_y"
FIELD_X: Final = "field_x"
CROP: Final = "crop"
TOP_CROP: Final = "top_crop"
CROP_Y: Final = "crop_y"
CROP_X: Final = "crop_x"
RGB: Final = "rgb"
COLOUR_NAME: Final = "colour_name"
HALF: Final = "half"
N_KEPT: Final = "n_kept"
REMOVAL: Final = "removal"
REMOVED_SHARE: Final = "removed_share"
NODE: Final = "node"
TIME_BIN: Final = "time_bin"
SUBJECT: Final = "subject"
PAIR: Final = "pair"

# coordinates of the presentation table
DESIGN: Final = "design"
SAMPLE: Final = "sample"
ROLE: Final = "role"
IMAGE_ID: Final = "image_id"
CLASS_LABEL: Final = "class_label"
SOURCE: Final = "source"
ARM: Final = "arm"
STIMULUS_ID: Final = "stimulus_id"

REPETITION: Final = "repetition"
N_TRIALS: Final = "n_trials"
CONTROL_KIND: Final = "control_kind"
BLANK: Final = "blank"  # kind of a presentation without a stimulus
GENERATOR: Final = "generator"
OF_IMAGE: Final = "of_image"  # what a stimulus was made of
FILE: Final = "file"  # of a stimulus that was written
STIMULUS_SET: Final = "stimulus_set"  # hash of the images that were written
START_TIME: Final = "start_time"
STOP_TIME: Final = "stop_time"
ID: Final = "id"  # of a row of a table in NWB

# the row of a treatment-control design that is not altered
CONTROL: Final = "control"

# coordinates of units
UNIT_ID: Final = "unit_id"
REGION: Final = "region"
SUBJECT_ID: Final = "subject_id"
ELECTRODE: Final = "electrode"

# coordinates of bins of time
TIME_BIN_START: Final = "time_bin_start"
TIME_BIN_END: Final = "time_bin_end"

# coordinates of pairs of conditions
STIMULUS_1: Final = "stimulus_1"
STIMULUS_2: Final = "stimulus_2"

# designs, which are the sessions of a run too
PICK_FREEZE: Final = "pick-freeze"
TREATMENT_CONTROL: Final = "treatment-control"
MASKING: Final = "masking"  # the group of its results too
SELECTIVITY: Final = "selectivity"  # the group of its results too
REPEATED: Final = "repeated"  # images as they are, several times
AS_THEY_ARE: Final = (SELECTIVITY, REPEATED)  # sessions that show images without the treatment

# factors that are not alterations
IMAGE: Final = "image"
CLASS: Final = "class"
PARTITION: Final = "partition"
ORDER: Final = "order"

# groups of a store
RESPONSES: Final = "responses"
CONVERGENCE: Final = "convergence"
STIMULI: Final = "stimuli"
EXAMPLES: Final = "examples"
SHOWN: Final = "shown"
ACCURACY: Final = "accuracy"
CHANNELS: Final = "channels"
SINGLE_CLASS: Final = "single_class"

# variables
RESPONSE: Final = "response"
BASELINE: Final = "baseline"
RDM: Final = "rdm"
FIRST_ORDER: Final = "first_order"
TOTAL_ORDER: Final = "total_order"
SECOND_ORDER: Final = "second_order"
TOTAL_INTERACTION: Final = "total_interaction"
VARIANCE: Final = "variance"
MEAN: Final = "mean"
SHAPLEY_EFFECT: Final = "shapley_effect"
COMPONENT: Final = "component"
COEFFICIENT_OF_VARIATION: Final = "coefficient_of_variation"
ACTIVITY_RATE: Final = "activity_rate"
DEFINED: Final = "defined"
MEAN_DIFFERENCE: Final = "mean_difference"
EFFECT_SIZE: Final = "effect_size"
RANK_BISERIAL: Final = "rank_biserial"
P_VALUE: Final = "p_value"
P_ADJUSTED: Final = "p_adjusted"
CONTROL_MEAN: Final = "control_mean"
TREATMENT_MEAN: Final = "treatment_mean"
N_POSITIVE: Final = "n_positive"
N_NEGATIVE: Final = "n_negative"
N_DROPPED: Final = "n_dropped"
STIMULUS: Final = "stimulus"
SETTINGS: Final = "settings"  # of generated stimuli, in words
PARAMETERS: Final = "parameters"
SHARE: Final = "share"
STRENGTH: Final = "strength"
HIGH: Final = "high"
OUTSIDE: Final = "outside"
UNCLEAR: Final = "unclear"
BIN_START: Final = "bin_start"
BIN_END: Final = "bin_end"
N_UNITS: Final = "n_units"
N_DEFINED: Final = "n_defined"
N_UNDEFINED: Final = "n_undefined"
N_UNCHANGED: Final = "n_unchanged"
N_SILENT: Final = "n_silent"
N_CONSTANT: Final = "n_constant"
N_LOST: Final = "n_lost"
N_RARE: Final = "n_rare"
N_WITH_DROPPED: Final = "n_with_dropped"
CORRELATION: Final = "correlation"
MEAN_CORRELATION: Final = "mean_correlation"
AGREEMENT: Final = "agreement"
VARIATION_CORRELATION: Final = "variation_correlation"
PERMUTED_ACCURACY: Final = "permuted_accuracy"
CONFUSION: Final = "confusion"
LINKAGE: Final = "linkage"
LEAF: Final = "leaf"
CLUSTER_OF: Final = "cluster_of"
CLUSTER_SIZE: Final = "cluster_size"
CLUSTER_PROFILE: Final = "cluster_profile"
N_PIXELS: Final = "n_pixels"
N_USED: Final = "n_used"
N_CHANNELS: Final = "n_channels"
N_FOLDS: Final = "n_folds"
N_FEATURES: Final = "n_features"
N_IMPUTED: Final = "n_imputed"
ESTIMATE: Final = "estimate"
DIFFERENCE: Final = "difference"
UNLESIONED: Final = "unlesioned"
RANDOM_DIFFERENCE: Final = "random_difference"
RANDOM_MEAN: Final = "random_mean"
RANDOM: Final = "random"
N_RANDOM: Final = "n_random"
OTHERS: Final = "others"
EXCESS: Final = "excess"
AGAINST_OTHERS: Final = "against_others"
P_LESS: Final = "p_less"
P_LESS_ADJUSTED: Final = "p_less_adjusted"
P_OTHERS: Final = "p_others"
DIAGONAL: Final = "diagonal"
P_DIAGONAL: Final = "p_diagonal"
CROSS: Final = "cross"
MULTIPLY: Final = "multiply"
MASKED_SHARE: Final = "masked_share"
N_MASKED: Final = "n_masked"
N_CANDIDATES: Final = "n_candidates"
N_CLIPPED: Final = "n_clipped"
JACCARD: Final = "jaccard"
FENCE: Final = "fence"
P_UNLESIONED: Final = "p_unlesioned"
P_UNLESIONED_ADJUSTED: Final = "p_unlesioned_adjusted"
P_SHIFT: Final = "p_shift"
P_SHIFT_ADJUSTED: Final = "p_shift_adjusted"
SENSITIVE_CLASS: Final = "sensitive_class"
SENSITIVITY: Final = "sensitivity"
CLASS_SHARE: Final = "class_share"
CLASS_SHARE_SHIFT: Final = "class_share_shift"
RECALL: Final = "recall"
RECALL_SHIFT: Final = "recall_shift"
GAMMA: Final = "gamma"
N_LABELS: Final = "n_labels"
CLASS_MASS: Final = "class_mass"
POPULATION_CODE: Final = "population_code"
ENTROPY: Final = "entropy"
TOP_VALUE: Final = "top_value"
TOP_IMAGE: Final = "top_image"
TOP_Y: Final = "top_y"
TOP_X: Final = "top_x"
NEURON_FEATURE: Final = "neuron_feature"
COVERAGE: Final = "coverage"
PEAK: Final = "peak"
RESPONSE_QUANTILE: Final = "response_quantile"
SIMILARITY: Final = "similarity"
RELEVANCE: Final = "relevance"
SIGNED_RELEVANCE: Final = "signed_relevance"
CLASS_DROP: Final = "class_drop"
DROPPED_CLASS: Final = "dropped_class"
CLASS_FREQUENCY: Final = "class_frequency"
COLOUR_SHARE: Final = "colour_share"
CLASS_SELECTIVITY: Final = "class_selectivity"
PREFERRED_CLASS: Final = "preferred_class"
CLASS_MEAN: Final = "class_mean"
D_PRIME: Final = "d_prime"
AUC: Final = "auc"
AUC_REACH: Final = "auc_reach"
INFORMEDNESS: Final = "informedness"
INFORMEDNESS_P_ADJUSTED: Final = "informedness_p_adjusted"
PRECISION: Final = "precision"
PRECISION_CLASS: Final = "precision_class"
SPARSENESS: Final = "sparseness"
TREVES_ROLLS: Final = "treves_rolls"
DEPTH_OF_SELECTIVITY: Final = "depth_of_selectivity"
HYPERNYM: Final = "hypernym"
HYPERNYM_DEPTH: Final = "hypernym_depth"
HYPERNYM_WEIGHT: Final = "hypernym_weight"
HUE_MODES: Final = "hue_modes"
OPPONENT: Final = "opponent"
CHROMA: Final = "chroma"
MEMBER: Final = "member"
SIDE: Final = "side"
SIGNIFICANT: Final = "significant"
N_TESTED: Final = "n_tested"
WHOLE_IMAGE: Final = "whole_image"
N_REMOVED: Final = "n_removed"
REMOVED: Final = "removed"
LOSS: Final = "loss"
LOSS_CHANGE: Final = "loss_change"
ACCURACY_CHANGE: Final = "accuracy_change"
RANDOM_DEVIATION: Final = "random_deviation"

# measures of the output of a network
TOP_1: Final = "top_1"
TOP_5: Final = "top_5"
PROBABILITY: Final = "probability"

# attributes
LABELS: Final = "labels"
LEAST: Final = "least"
EARLIER: Final = "earlier"  # the layer recorded before
HIERARCHY: Final = "hierarchy"
DRAWS: Final = "draws"
FACTORS: Final = "factors"
GROUPS: Final = "groups"
PROVENANCE: Final = "neuroprobe_provenance"
UNTIL: Final = "until"
CONVENTIONS: Final = "CF-1.11 neuroprobe-1"


def se(name: str) -> str:
    """Name of the standard error of a variable."""
    return f"{name}_se"


def column(variable: str, *labels: str) -> str:
    """Name of a column of a table of units: ``variance``, ``first_order_hue``, ``shapley_hue`` of `shapley_effect`."""
    return "_".join([variable.replace(SHAPLEY_EFFECT, "shapley") if labels else variable, *labels])


def lower(name: str) -> str:
    """Name of the lower end of the interval of a variable."""
    return f"{name}_lower"


def upper(name: str) -> str:
    """Name of the upper end of the interval of a variable."""
    return f"{name}_upper"


def ends(name: str) -> list[str]:
    """Names of a variable and of the two ends of its interval."""
    return [name, lower(name), upper(name)]


def median(name: str) -> str:
    """Name of the median of a variable over units."""
    return f"{name}_median"


def switch(alteration: str) -> str:
    """Name of the coordinate that says whether an alteration was applied."""
    return f"{alteration}_on"


def parameter(alteration: str, name: str) -> str:
    """Name of the coordinate of an alteration's parameter."""
    return f"{alteration}_{name}"


def control(alteration: str) -> str:
    """Name of an alteration of the control."""
    return f"{CONTROL}_{alteration}"


def pick(level: str) -> str:
    """Name of the coordinate of the number in [0, 1) that picks an image, or its class or partition, by rank."""
    return f"{level}_u"


def walk(k: int) -> str:
    """Role of a row: point A with the first `k` factors of a permutation taken from point B."""
    return f"walk_{k}"


def draw(alteration: str, number: int) -> str:
    """Role of a treatment-control row: one alteration alone, with the parameters of one draw."""
    return f"{alteration}_{number}"


def altered_by_b(role: str, *factors: str) -> str:
    """Role of a pick-freeze row: point A (or B) with one factor, or several, taken from the other point."""
    return f"{role}_{'+'.join(factors)}"
