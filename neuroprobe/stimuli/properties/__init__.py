"""Properties of stimuli that can be taken away, each by a batched torch function: what units are selective for.

A selectivity index of the kind "stimulus manipulation" asks how much of its response a unit loses where its top stimuli
lose a property (Rafegas et al. 2019, arXiv 1702.00382): their colour, orientation, shape. Here are the manipulations
and their registry; responses are read elsewhere, and `statistics.manipulation_selectivity` makes the indexes of them.

A manipulation is a function ``f(crops, options, keys)`` of float crops (n, 3, height, width) in [0, 1], its options,
and one int64 key per crop, from which it draws what is random in it. It gives (members, n, 3, height, width) in [0, 1],
one member or a family, as of angles; a crop that a member does not apply to is NaN there. A package offers its own by
an entry point in the group ``neuroprobe.selectivity_indexes``.
"""

# importing these registers what they hold
from neuroprobe.stimuli.properties import colour, frequency, geometry, shape  # noqa: F401
from neuroprobe.stimuli.properties.contract import (
    MANIPULATIONS,
    Manipulation,
    NoOptions,
    check_manipulation,
    manipulation,
)
from neuroprobe.stimuli.properties.labels import LABELLERS, Labeller, labeller
from neuroprobe.stimuli.properties.sham import energy, sham, sham_changes

__all__ = [
    "LABELLERS",
    "MANIPULATIONS",
    "Labeller",
    "Manipulation",
    "NoOptions",
    "check_manipulation",
    "energy",
    "labeller",
    "manipulation",
    "sham",
    "sham_changes",
]
