"""What generators share: a pattern around mean grey along an axis of colour, and windows that it is seen through."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from neuroprobe.stimuli.generators.contract import Setting
from neuroprobe.stimuli.generators.screen import Screen

GREY: Final = 0.5  # of the background
# directions in RGB, of a display and not of cones, whose signals its spectra and calibration decide
AXES: Final = {
    "luminance": (1, 1, 1),
    "red_green": (1, -1, 0),
    "blue_yellow": (-1, -1, 1),
    "red": (1, 0, 0),
    "green": (0, 1, 0),
    "blue": (0, 0, 1),
}
APERTURES: Final = ("circle", "square", "gaussian")
SDS_PER_SIZE: Final = 4  # of a Gaussian window: its size is four standard deviations
COLOUR: Final = Setting(0, "word", words=tuple(AXES))
CONTRAST: Final = Setting(1.0, low=0, high=1)
SIGNED: Final = Setting(1.0, low=-1, high=1)  # contrast: above 0 lighter than the background, below 0 darker
ANGLE: Final = Setting(0.0, "angle")
POSITION: Final = Setting(0.0, "position")
FREQUENCY: Final = Setting(4.0, "frequency", low=0)


def painted(pattern: Tensor, contrast: Tensor, colour: Tensor) -> Tensor:
    """Paint patterns (n, height, width) in [-1, 1] around mean grey: float32 (n, 3, height, width) in [0, 1].

    Parameters
    ----------
    contrast : tensor (n,)
        Michelson's, of a pattern that goes from -1 to 1.
    colour : tensor (n,)
        Number of the axis among `AXES`.
    """
    axes = torch.tensor(list(AXES.values()), dtype=pattern.dtype, device=pattern.device)
    axis = axes[colour.long()] * contrast.view(-1, 1)
    shown = GREY * (1 + axis[:, :, None, None] * pattern[:, None])
    return shown.clamp(0, 1).float()


def window(screen: Screen, aperture: Tensor, size: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Share of a pattern that is seen (n, height, width) through apertures around points; all of it where size is NaN.

    Parameters
    ----------
    aperture : tensor (n,)
        Number among `APERTURES`.
    size : tensor (n,)
        Diameter or side; of a Gaussian, four standard deviations.
    """
    dx, dy = screen.around(x, y)
    half = (size / 2).view(-1, 1, 1)
    radius = torch.hypot(dx, dy)
    circle = screen.inside(radius - half)
    square = screen.inside(dx.abs() - half) * screen.inside(dy.abs() - half)
    gaussian = torch.exp(-0.5 * (radius * (SDS_PER_SIZE / 2) / half) ** 2)
    kind = aperture.view(-1, 1, 1)
    seen = torch.where(kind == 0, circle, torch.where(kind == 1, square, gaussian))
    return torch.where(half.isnan(), 1.0, seen)
