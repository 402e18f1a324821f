"""Spots, annuli, bars and edges, with edges of one pixel; a contrast above 0 is lighter than the background."""

from __future__ import annotations

import torch
from torch import Tensor

from neuroprobe.stimuli.generators.contract import Setting, generator
from neuroprobe.stimuli.generators.painting import ANGLE, COLOUR, POSITION, SIGNED, painted
from neuroprobe.stimuli.generators.screen import Screen


@generator(
    "spot", size=Setting(1 / 4, "extent"), contrast=SIGNED, position_x=POSITION, position_y=POSITION, colour=COLOUR
)
def spot(
    screen: Screen, size: Tensor, contrast: Tensor, position_x: Tensor, position_y: Tensor, colour: Tensor
) -> Tensor:
    """Uniform disc of diameter `size`."""
    distance = torch.hypot(*screen.around(position_x, position_y))
    return painted(screen.inside(distance - size.view(-1, 1, 1) / 2), contrast, colour)


@generator(
    "annulus",
    size=Setting(1 / 2, "extent"),
    inner=Setting(1 / 4, "extent", low=0),
    contrast=SIGNED,
    position_x=POSITION,
    position_y=POSITION,
    colour=COLOUR,
)
def annulus(
    screen: Screen,
    size: Tensor,
    inner: Tensor,
    contrast: Tensor,
    position_x: Tensor,
    position_y: Tensor,
    colour: Tensor,
) -> Tensor:
    """Disc of diameter `size` without the disc of diameter `inner` in it; nothing where that is as large."""
    distance = torch.hypot(*screen.around(position_x, position_y))
    outside, hole = (screen.inside(distance - diameter.view(-1, 1, 1) / 2) for diameter in (size, inner))
    # without a hole it is a spot, whose middle pixel is not lost
    hole = torch.where(inner.view(-1, 1, 1) > 0, hole, 0.0)
    return painted((outside - hole).clamp(min=0), contrast, colour)


@generator(
    "bar",
    orientation=ANGLE,
    length=Setting(1 / 2, "extent"),
    width=Setting(1 / 8, "extent"),
    contrast=SIGNED,
    position_x=POSITION,
    position_y=POSITION,
    colour=COLOUR,
)
def bar(
    screen: Screen,
    orientation: Tensor,
    length: Tensor,
    width: Tensor,
    contrast: Tensor,
    position_x: Tensor,
    position_y: Tensor,
    colour: Tensor,
) -> Tensor:
    """Uniform bar; of orientation 0 it is horizontal, and orientation goes counter-clockwise."""
    along, across = screen.turned(orientation, position_x, position_y)
    ends = screen.inside(along.abs() - length.view(-1, 1, 1) / 2)
    return painted(ends * screen.inside(across.abs() - width.view(-1, 1, 1) / 2), contrast, colour)


@generator("edge", orientation=ANGLE, contrast=SIGNED, position_x=POSITION, position_y=POSITION, colour=COLOUR)
def edge(
    screen: Screen, orientation: Tensor, contrast: Tensor, position_x: Tensor, position_y: Tensor, colour: Tensor
) -> Tensor:
    """Straight edge through a point: lighter towards ``orientation + 90``, darker on the other side."""
    _, across = screen.turned(orientation, position_x, position_y)
    return painted(2 * screen.inside(-across) - 1, contrast, colour)
