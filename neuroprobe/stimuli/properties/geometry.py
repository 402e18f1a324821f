"""Manipulations that turn and mirror."""

from __future__ import annotations

import math
from typing import Annotated, Final, Literal

import torch
from pydantic import AfterValidator, Field
from torch import Tensor
from torch.nn import functional

from neuroprobe.protocol.model import Model
from neuroprobe.stimuli.properties.contract import distinct, labels, manipulation


class OrientationOptions(Model):
    """Options of `orientation`.

    Attributes
    ----------
    step : float
        Between angles (degrees): all multiples of it below a full turn, without 0.
    """

    step: Annotated[float, Field(ge=1, lt=360)] = 15.0

    @property
    def angles(self) -> list[float]:
        """Angles in degrees, counter-clockwise."""
        # 360 / step may be a whole number but for its rounding
        return [self.step * k for k in range(1, math.ceil(360 / self.step - 1e-9))]


def _angles(options: OrientationOptions) -> tuple[str, ...]:
    return labels(options.angles)


@manipulation("orientation", options=OrientationOptions, members=_angles)
def orientation(crops: Tensor, options: OrientationOptions, keys: Tensor) -> Tensor:
    """Rotate the crop about its centre, its border replicated, over a family of angles.

    Half turns, and quarter turns of square crops, move whole pixels. Between pixels the interpolation is bicubic, with
    the four nearest of a row (torch's kernel, a = -3/4), against the cubic spline through all of them of the study: of
    photographs they differ by a quarter of a grey level of 255 on average. Clipped to [0, 1].
    """
    turned = crops.new_empty(len(options.angles), *crops.shape)
    for place, angle in zip(turned, options.angles, strict=True):
        place.copy_(_rotated(crops, angle))
    return turned


def _rotated(crops: Tensor, angle: float) -> Tensor:
    """Crops, turned about their centre (degrees, counter-clockwise)."""
    n, _, height, width = crops.shape
    if angle == 180 or (angle % 90 == 0 and height == width):
        return crops.rot90(round(angle / 90), (2, 3))
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    x = torch.arange(width, device=crops.device, dtype=torch.float64) - (width - 1) / 2
    y = torch.arange(height, device=crops.device, dtype=torch.float64)[:, None] - (height - 1) / 2
    # grid_sample counts in half sides
    grid = torch.stack([(cos * x - sin * y) / (width / 2), (sin * x + cos * y) / (height / 2)], -1).to(crops)
    # the border mode holds for each pixel that the kernel reads: as if the border were replicated without end
    sampled = functional.grid_sample(
        crops, grid.expand(n, -1, -1, -1), mode="bicubic", padding_mode="border", align_corners=False
    )
    return sampled.clamp_(0, 1)


Axis = Literal[0, 45, 90, 135]
AXES: Final = (0, 45, 90, 135)


class SymmetryOptions(Model):
    """Options of `symmetry`.

    Attributes
    ----------
    axes : tuple of int
        Axes of mirrors (degrees, counter-clockwise from the horizontal).
    """

    axes: Annotated[tuple[Axis, ...], Field(min_length=1, strict=False), AfterValidator(distinct)] = AXES


def _axes(options: SymmetryOptions) -> tuple[str, ...]:
    return labels(options.axes)


@manipulation("symmetry", options=SymmetryOptions, members=_axes, invariance=True)
def symmetry(crops: Tensor, options: SymmetryOptions, keys: Tensor) -> Tensor:
    """Mirror the crop: about 0° up and down change places, about 90° left and right, about 135° rows and columns.

    About 45° rows and columns change places over the other diagonal. For the diagonals a crop has to be square; else it
    is NaN. The index is what is left of the response: high is symmetric, or does not care.
    """
    return torch.stack([_mirrored(crops, axis) for axis in options.axes])


def _mirrored(crops: Tensor, axis: Axis) -> Tensor:
    if axis in (0, 90):
        return crops.flip(2 if axis == 0 else 3)
    if crops.shape[2] != crops.shape[3]:
        return torch.full_like(crops, math.nan)
    return crops.mT if axis == 135 else crops.mT.flip((2, 3))
