"""Alterations that move pixels: flips, cyclic shifts, and affine maps about the centre."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from neuroprobe.design.laws import Law
from neuroprobe.stimuli.alterations.contract import Parameter, alteration, choose, per_image


@alteration("hflip")
def hflip(images: Tensor) -> Tensor:
    """Mirror left and right."""
    return images.flip(3)


@alteration(
    "rolling",
    dy=Parameter(Law("integers", (-44, 44)), identity=0.0, units="px", is_length=True),
    dx=Parameter(Law("integers", (-44, 44)), identity=0.0, units="px", is_length=True),
)
def rolling(images: Tensor, dy: Tensor, dx: Tensor) -> Tensor:
    """Shift cyclically, `dy` down and `dx` to the right (px, rounded to whole ones)."""
    n, channels, height, width = images.shape
    # every row twice holds all its cyclic shifts as stretches, each of which is copied as a whole
    doubled = images.unsqueeze(3).expand(-1, -1, -1, 2, -1).reshape(-1)
    stretches = doubled.as_strided((len(doubled) - width + 1, width), (1, 1))
    row = torch.remainder(torch.arange(height, device=images.device) - dy.round().long()[:, None], height)
    column = torch.remainder(-dx.round().long(), width)
    start = row * (2 * width) + column[:, None]
    plane = torch.arange(0, len(doubled), 2 * height * width, device=images.device).view(n, channels, 1)
    return stretches.index_select(0, (plane + start[:, None]).view(-1)).view_as(images)


@alteration(
    "rotation",
    angle=Parameter(Law("uniform", (-10, 10)), identity=0.0, units="degrees"),
    crop=Parameter(Law("constant", (0,)), words=(False, True)),
)
def rotation(images: Tensor, angle: Tensor, crop: Tensor) -> Tensor:
    """Rotate about the centre by `angle` (degrees, counter-clockwise), bilinear, border reflected, size kept.

    With `crop`, a margin of side·t/(1 + t), t = tan|angle|, is cut off on each side and the rest brought back to the
    size, as in the study: no reflection is seen, and a rotation by 10° enlarges 1.43 times. Both are one resampling.
    Beyond 45°, where nothing would be left, the margin is that of the angle to the nearest quarter turn.
    """
    radians = torch.deg2rad(angle)
    quarter = math.pi / 2
    tangent = (radians - quarter * (radians / quarter).round()).abs().tan()
    scale = torch.lerp(torch.ones_like(angle), (1 - tangent) / (1 + tangent), crop)
    cos, sin = scale * radians.cos(), scale * radians.sin()
    zero = torch.zeros_like(angle)
    return _resampled(images, ((cos, -sin), (sin, cos)), (zero, zero), changed=angle != 0)


@alteration(
    "shift",
    dy=Parameter(Law("uniform", (-24, 24)), identity=0.0, units="px", is_length=True),
    dx=Parameter(Law("uniform", (-24, 24)), identity=0.0, units="px", is_length=True),
)
def shift(images: Tensor, dy: Tensor, dx: Tensor) -> Tensor:
    """Shift `dy` down and `dx` to the right (px, fractions too), bilinear, border reflected.

    The law holds the translations of Engstrom et al. 2019 (arXiv 1712.02779): a tenth of the side.
    """
    one, zero = torch.ones_like(dx), torch.zeros_like(dx)
    return _resampled(images, ((one, zero), (zero, one)), (-dx, -dy), changed=(dy != 0) | (dx != 0))


@alteration("zoom", factor=Parameter(Law("loguniform", (0.8, 1.25)), low=0.01, identity=1.0))
def zoom(images: Tensor, factor: Tensor) -> Tensor:
    """Enlarge by `factor` about the centre, bilinear, border reflected, size kept.

    The law, ours, is symmetric: enlarging and shrinking by up to a quarter.
    """
    scale, zero = 1 / factor, torch.zeros_like(factor)
    return _resampled(images, ((scale, zero), (zero, scale)), (zero, zero), changed=factor != 1)


Pair = tuple[Tensor, Tensor]


def _resampled(images: Tensor, matrix: tuple[Pair, Pair], offset: Pair, changed: Tensor) -> Tensor:
    """Show at (x, y) from the centre what lies at matrix @ (x, y) + offset (px); bilinear, border reflected.

    All are given per image (n,); where `changed` is false the image stays as it is, bit for bit.
    """
    n, _, height, width = images.shape
    x = torch.arange(width, device=images.device) - (width - 1) / 2
    y = torch.arange(height, device=images.device)[:, None] - (height - 1) / 2
    # grid_sample counts in half sides; torch's affine_grid is eight times slower
    grid = images.new_empty((n, height, width, 2))
    for axis, half in enumerate((width / 2, height / 2)):
        by_x, by_y, start = (value.view(-1, 1, 1) / half for value in (*matrix[axis], offset[axis]))
        torch.add(by_x * x + start, by_y * y, out=grid[..., axis])
    sampled = functional.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return choose(per_image(changed.to(images)), sampled.clamp_(0, 1), images)
