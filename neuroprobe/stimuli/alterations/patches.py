"""Alterations that cover a part of the image."""

from __future__ import annotations

import torch
from torch import Tensor

from neuroprobe.design.laws import Law
from neuroprobe.stimuli.alterations.contract import Parameter, alteration


@alteration(
    "erasing",
    row=Parameter(Law("uniform", (44, 180)), units="px", is_length=True),
    column=Parameter(Law("uniform", (44, 180)), units="px", is_length=True),
    area=Parameter(Law("uniform", (0.02, 0.33)), low=0, high=1, identity=0.0),
    aspect=Parameter(Law("loguniform", (0.3, 3.3)), low=1e-6),
    outside=Parameter(Law("constant", (0,)), words=("clip", "skip")),
)
def erasing(images: Tensor, row: Tensor, column: Tensor, area: Tensor, aspect: Tensor, outside: Tensor) -> Tensor:
    """Fill a rectangle with black, clipped to the image on all sides.

    `row` and `column` place the centre (px), `area` is a share of the image, `aspect` is height over width. `outside`
    says what becomes of a rectangle that leaves the image at the bottom or on the right: it is clipped there too, or
    the image is skipped and stays as it is, as in the code of the study.
    """
    sides = (torch.stack([aspect, 1 / aspect]) * (area * images[0, 0].numel())).sqrt().round()
    centre = torch.stack([row, column])
    ends = (centre - sides / 2).round() + sides
    leaves = (ends > torch.tensor(images.shape[-2:], device=ends.device)[:, None]).any(0)
    sides = sides * ~(leaves & (outside > 0))
    return _filled(images, centre, sides, torch.zeros_like(row))


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
    """Fill a rectangle of each image, by its centre and sides (2, n) in px, both rounded, with one value (n,)."""
    sides = sides.round()
    start = (centre - sides / 2).round()
    boxes = torch.stack([start, start + sides]).clamp(min=0).int().permute(2, 0, 1).tolist()
    filled = images.clone()
    # image by image: masks for all at once would be read and written as often as the images
    for image, ((top, left), (bottom, right)), level in zip(filled, boxes, value.tolist(), strict=True):
        image[:, top:bottom, left:right] = level
    return filled
