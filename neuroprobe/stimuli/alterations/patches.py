"""Alterations that cover a part of the image."""

from __future__ import annotations

import torch
from torch import Tensor

from neuroprobe.design.laws import Law
from neuroprobe.stimuli.alterations.contract import Parameter, alteration, per_image, where_one


@alteration(
    "erasing",
    row=Parameter(Law("uniform", (44, 180)), units="px", is_length=True),
    column=Parameter(Law("uniform", (44, 180)), units="px", is_length=True),
    area=Parameter(Law("uniform", (0.02, 0.33)), low=0, high=1, identity=0.0),
    aspect=Parameter(Law("loguniform", (0.3, 3.3)), low=1e-6),
)
def erasing(images: Tensor, row: Tensor, column: Tensor, area: Tensor, aspect: Tensor) -> Tensor:
    """Fill a rectangle with black, clipped to the image on all sides.

    `row` and `column` place the centre (px), `area` is a share of the image, `aspect` is height over width.
    """
    sides = (torch.stack([aspect, 1 / aspect]) * area * (images.shape[-2] * images.shape[-1])).sqrt()
    return _filled(images, torch.stack([row, column]), sides, torch.zeros_like(row))


@alteration(
    "occlusion",
    row=Parameter(Law("uniform", (0, 224)), units="px", is_length=True),
    column=Parameter(Law("uniform", (0, 224)), units="px", is_length=True),
    side=Parameter(Law("uniform", (32, 64)), low=0, identity=0.0, units="px", is_length=True),
    value=Parameter(Law("constant", (0.5,)), low=0, high=1),
)
def occlusion(images: Tensor, row: Tensor, column: Tensor, side: Tensor, value: Tensor) -> Tensor:
    """Cover a square with grey, clipped to the image on all sides, as Zeiler & Fergus 2014 (arXiv 1311.2901) did.

    `row` and `column` place the centre, anywhere in the image (px); `value` is the grey, from 0 black to 1 white.
    """
    return _filled(images, torch.stack([row, column]), torch.stack([side, side]), value)


def _filled(images: Tensor, centre: Tensor, sides: Tensor, value: Tensor) -> Tensor:
    """Fill a rectangle, given by its centre and sides (2, n) in px, rounded, with one value per image."""
    sides = sides.round()
    start = (centre - sides / 2).round()
    in_rows, in_columns = (
        _between(length, first, last)
        for length, first, last in zip(images.shape[-2:], start, start + sides, strict=True)
    )
    inside = in_rows[:, :, None].to(images) * in_columns[:, None, :]
    return where_one(inside[:, None], per_image(value), images)


def _between(length: int, first: Tensor, last: Tensor) -> Tensor:
    """Whether each position along a side (n, length) is from `first` on and before `last`."""
    position = torch.arange(length, device=first.device)
    return (position >= first[:, None]) & (position < last[:, None])
