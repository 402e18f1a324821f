"""Gratings, plaids and Gabor patches: sinusoids at the centres of pixels.

Bars of orientation 0 are horizontal, and orientation goes counter-clockwise: those of 45 rise to the right. At phase 0
the middle of a bright bar lies on (position_x, position_y); phase moves the bars towards ``orientation + 90``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from neuroprobe.stimuli.generators.contract import Setting, generator
from neuroprobe.stimuli.generators.painting import (
    ANGLE,
    APERTURES,
    COLOUR,
    CONTRAST,
    FREQUENCY,
    POSITION,
    painted,
    window,
)
from neuroprobe.stimuli.generators.screen import Screen

SIZE = Setting(math.nan, "extent")
APERTURE = Setting(0, "word", words=APERTURES)


def wave(screen: Screen, orientation: Tensor, spatial_frequency: Tensor, phase: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Sinusoids (n, height, width) in [-1, 1]."""
    _, across = screen.turned(orientation, x, y)
    turns = spatial_frequency.view(-1, 1, 1) * across - phase.view(-1, 1, 1) / 360
    return torch.cos(2 * math.pi * turns)


@generator(
    "grating",
    orientation=ANGLE,
    spatial_frequency=FREQUENCY,
    phase=ANGLE,
    contrast=CONTRAST,
    size=SIZE,
    aperture=APERTURE,
    position_x=POSITION,
    position_y=POSITION,
    colour=COLOUR,
)
def grating(
    screen: Screen,
    orientation: Tensor,
    spatial_frequency: Tensor,
    phase: Tensor,
    contrast: Tensor,
    size: Tensor,
    aperture: Tensor,
    position_x: Tensor,
    position_y: Tensor,
    colour: Tensor,
) -> Tensor:
    """Sinusoidal grating, over the whole image or through an aperture of a `size`."""
    bars = wave(screen, orientation, spatial_frequency, phase, position_x, position_y)
    return painted(bars * window(screen, aperture, size, position_x, position_y), contrast, colour)


@generator(
    "plaid",
    orientation=ANGLE,
    angle=Setting(90.0, "angle"),
    spatial_frequency=FREQUENCY,
    phase=ANGLE,
    phase_2=ANGLE,
    contrast=CONTRAST,
    size=SIZE,
    aperture=APERTURE,
    position_x=POSITION,
    position_y=POSITION,
    colour=COLOUR,
)
def plaid(
    screen: Screen,
    orientation: Tensor,
    angle: Tensor,
    spatial_frequency: Tensor,
    phase: Tensor,
    phase_2: Tensor,
    contrast: Tensor,
    size: Tensor,
    aperture: Tensor,
    position_x: Tensor,
    position_y: Tensor,
    colour: Tensor,
) -> Tensor:
    """Sum of two gratings of half the contrast each, the second one turned by `angle`."""
    bars = wave(screen, orientation, spatial_frequency, phase, position_x, position_y)
    bars = (bars + wave(screen, orientation + angle, spatial_frequency, phase_2, position_x, position_y)) / 2
    return painted(bars * window(screen, aperture, size, position_x, position_y), contrast, colour)


@generator(
    "gabor",
    orientation=ANGLE,
    spatial_frequency=FREQUENCY,
    phase=ANGLE,
    contrast=CONTRAST,
    sigma=Setting(1 / 8, "extent"),
    aspect=Setting(1.0, low=0.05, high=20),
    position_x=POSITION,
    position_y=POSITION,
    colour=COLOUR,
)
def gabor(
    screen: Screen,
    orientation: Tensor,
    spatial_frequency: Tensor,
    phase: Tensor,
    contrast: Tensor,
    sigma: Tensor,
    aspect: Tensor,
    position_x: Tensor,
    position_y: Tensor,
    colour: Tensor,
) -> Tensor:
    """Grating under a Gaussian of standard deviation `sigma` across its bars, `aspect` times that along them."""
    along, across = screen.turned(orientation, position_x, position_y)
    sd = sigma.view(-1, 1, 1)
    envelope = torch.exp(-0.5 * ((across / sd) ** 2 + (along / (sd * aspect.view(-1, 1, 1))) ** 2))
    return painted(
        envelope * wave(screen, orientation, spatial_frequency, phase, position_x, position_y), contrast, colour
    )
