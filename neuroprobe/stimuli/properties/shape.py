"""Manipulation that takes the shape away and leaves each pixel."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from neuroprobe.protocol.model import Model
from neuroprobe.stimuli.properties.contract import labels, manipulation
from neuroprobe.stimuli.properties.randomness import bits_for


class ShapeOptions(Model):
    """Options of `shape`.

    Attributes
    ----------
    draws : int
        Random orders of the pixels of each crop.
    """

    draws: Annotated[int, Field(ge=1)] = 5


def _members(options: ShapeOptions) -> tuple[str, ...]:
    return labels(range(1, options.draws + 1))


@manipulation("shape", options=ShapeOptions, members=_members)
def shape(crops: Tensor, options: ShapeOptions, keys: Tensor) -> Tensor:
    """Put the pixels of the crop into a random order: its colours stay, and how often each one is there.

    The members are draws, so that the index has a mean and an error over them. A draw is a function of key and number:
    of more draws the first ones are the same.
    """
    pixels = crops.flatten(2)
    bits = bits_for("shape", keys, options.draws * pixels.shape[2]).view(len(keys), options.draws, pixels.shape[2])
    shuffled = crops.new_empty(options.draws, *pixels.shape)
    for draw, place in enumerate(shuffled):
        order = bits[:, draw].argsort(1)
        torch.gather(pixels, 2, order[:, None].expand_as(pixels), out=place)
    return shuffled.view(options.draws, *crops.shape)
