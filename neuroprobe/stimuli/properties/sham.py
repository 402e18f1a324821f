"""Sham manipulations: changes of equal energy that have nothing to do with the property."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from neuroprobe.stimuli.properties.randomness import bits_for

PER_DRAW: Final = 7  # random integers of a draw: member, shift (2), sign, order of the channels (3)


def energy(crops: Tensor, altered: Tensor) -> Tensor:
    """Mean squared change of each crop, over its pixels and channels.

    Parameters
    ----------
    crops : Tensor (n, 3, height, width)
    altered : Tensor (…, n, 3, height, width)
        By a manipulation or by a sham one.

    Returns
    -------
    Tensor (…, n)
        NaN where a member does not apply.

    Examples
    --------
    >>> energy(torch.zeros(2, 3, 4, 4), torch.full((5, 2, 3, 4, 4), 0.5))[0]
    tensor([0.2500, 0.2500])
    """
    return (altered - crops).square().mean((-3, -2, -1))


def sham_changes(crops: Tensor, altered: Tensor, keys: Tensor, n_draws: int) -> Tensor:
    """Changes that a sham manipulation adds to crops, before they are clipped.

    Parameters
    ----------
    crops : Tensor (n, 3, height, width)
    altered : Tensor (members, n, 3, height, width)
        By the manipulation.
    keys : int64 Tensor (n,)
    n_draws : int

    Returns
    -------
    Tensor (n_draws, n, 3, height, width)
        Each is the change by one of the members, at random among those that apply to the crop, moved by a random
        circular shift, with a random sign and its channels in a random order: the energy of that member, and its
        spectrum. NaN where no member applies.

    Notes
    -----
    The manipulation itself is one of the possible draws. A draw is a function of key and number: of more draws the
    first ones are the same.
    """
    n, channels, height, width = crops.shape
    bits = bits_for("sham", keys, n_draws * PER_DRAW).view(n, n_draws, PER_DRAW)
    applies = ~altered[:, :, 0, 0, 0].isnan()
    # the first members of each crop are those that apply to it
    usable = applies.to(torch.uint8).argsort(dim=0, descending=True, stable=True)
    n_usable = applies.sum(0).clamp(min=1)
    crop, y, x = (torch.arange(length, device=crops.device) for length in (n, height, width))
    changes = crops.new_empty(n_draws, *crops.shape)
    for draw, place in enumerate(changes):
        member, dy, dx, sign, *order = bits[:, draw].unbind(1)
        change = altered[usable[member % n_usable, crop], crop] - crops
        change = change * (1 - 2 * (sign & 1)).view(-1, 1, 1, 1)
        rows, columns = (y - dy[:, None]) % height, (x - dx[:, None]) % width
        source = (rows[:, :, None] * width + columns[:, None]).view(n, 1, height * width)
        channel = torch.stack(order, 1).argsort(1).view(n, channels, 1)
        change = change.flatten(2).gather(1, channel.expand(-1, -1, height * width))
        torch.gather(change, 2, source.expand_as(change), out=place.view_as(change))
    return changes


def sham(crops: Tensor, altered: Tensor, keys: Tensor, n_draws: int) -> Tensor:
    """Crops, changed as much as by a manipulation, at random and without relation to its property.

    Parameters
    ----------
    crops, altered, keys, n_draws
        As in `sham_changes`.

    Returns
    -------
    Tensor (n_draws, n, 3, height, width)
        In [0, 1], with NaN where no member applies.

    Notes
    -----
    They are clipped, which takes energy away: of changes that were moved to where there is no room for them. Report
    how much, as a share: ``energy(crops, sham)`` over ``energy(crops, altered)``.

    Examples
    --------
    >>> crops = torch.rand(2, 3, 8, 8)
    >>> shams = sham(crops, crops.flip(3)[None], keys=torch.arange(2), n_draws=19)
    >>> bool((energy(crops, shams) <= energy(crops, crops.flip(3)) + 1e-6).all())
    True
    """
    return sham_changes(crops, altered, keys, n_draws).add_(crops).clamp_(0, 1)
