"""Generators of controlled stimuli: pure batched torch functions of settings, and their registry.

All are drawn on a `Screen`: lengths in degrees of visual angle or px, x to the right, y upward, the origin in the
centre, angles in degrees and counter-clockwise, on a background of mean grey (0.5). Bars of orientation 0 are
horizontal. A contrast is Michelson's, (highest - lowest) / (highest + lowest), in values of pixels: what a display
makes of these is up to its calibration.
"""

# importing these registers what they hold
from neuroprobe.stimuli.generators import colours, gratings, noise, shapes  # noqa: F401
from neuroprobe.stimuli.generators.contract import (
    GENERATORS,
    Generator,
    Setting,
    check_generator,
    generator,
)
from neuroprobe.stimuli.generators.screen import Screen

__all__ = ["GENERATORS", "Generator", "Screen", "Setting", "check_generator", "generator"]
