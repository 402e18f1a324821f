"""Alterations of images: pure batched torch functions with one parameter per image, and their registry.

An alteration is a function ``f(images, **parameters)`` of float images (n, 3, height, width) in [0, 1] and one
tensor (n,) per parameter, on the images' device, giving images of the same shape in [0, 1]. One that draws at random
takes `key` too, an int64 tensor (n,), and is a function of it. Unless a protocol gives others, laws are those of
Kharyuk et al. 2025 (arXiv 2503.03283) for the twelve alterations of their study, and those that it names for another.
"""

# importing these registers what they hold
from neuroprobe.stimuli.alterations import colour, corruptions, filters, geometry, patches  # noqa: F401
from neuroprobe.stimuli.alterations.contract import (
    ALTERATIONS,
    REFERENCE_SIDE,
    Alteration,
    Parameter,
    alteration,
    check_alteration,
)

__all__ = ["ALTERATIONS", "REFERENCE_SIDE", "Alteration", "Parameter", "alteration", "check_alteration"]
