from __future__ import annotations

import torch
from torch import Tensor

from altering import random_images
from manipulating import manipulated
from neuroprobe.stimuli.properties import MANIPULATIONS
from neuroprobe.stimuli.properties.randomness import bits_for


def numbered(n: int, height: int, width: int) -> Tensor:
    """Crops whose pixels are numbered, in three channels that tell whether they move together."""
    values = torch.arange(height * width).view(1, 1, height, width) / (height * width)
    return torch.cat([values, values / 2, 1 - values], 1).expand(n, -1, -1, -1).clone()


def test_the_pixels_stay_and_their_channels_stay_together(crops: Tensor) -> None:
    def colours(images: Tensor) -> list[list[tuple[float, ...]]]:
        return [sorted(map(tuple, image.flatten(1).T.tolist())) for image in images]

    for altered in manipulated("shape", crops).values():
        assert colours(altered) == colours(crops)


def test_draws_and_crops_have_orders_of_their_own() -> None:
    crops = numbered(4, 6, 5)
    orders = {tuple(crop[0].ravel().tolist()) for altered in manipulated("shape", crops).values() for crop in altered}
    assert len(orders) == 5 * 4


def test_of_more_draws_the_first_ones_are_the_same(crops: Tensor) -> None:
    few, many = manipulated("shape", crops, draws=2), manipulated("shape", crops, draws=7)
    assert list(many) == list("1234567")
    for label, altered in few.items():
        assert torch.equal(altered, many[label])


def test_an_order_belongs_to_the_key() -> None:
    thing = MANIPULATIONS["shape"]
    crops, keys = numbered(3, 4, 4), torch.tensor([5, 8, 5])
    altered = thing.alter(crops, thing.options(), keys)
    assert torch.equal(altered[:, 0], altered[:, 2])
    assert not torch.equal(altered[:, 0], altered[:, 1])


def test_every_order_is_as_likely() -> None:
    """Of three pixels, six orders: a χ² of 5 degrees of freedom, which 6000 fixed draws keep below its 99.9 %."""
    thing = MANIPULATIONS["shape"]
    altered = thing.alter(numbered(6000, 1, 3), thing.options(draws=1), torch.arange(6000))[0, :, 0, 0]
    _, counts = (altered * 3).round().unique(dim=0, return_counts=True)
    assert len(counts) == 6
    assert float(((counts - 1000.0) ** 2 / 1000).sum()) < 20.5


def test_one_pixel_stays() -> None:
    crops = random_images(1, 1)
    assert all(torch.equal(altered, crops) for altered in manipulated("shape", crops).values())


def test_two_purposes_draw_independently_from_the_same_keys() -> None:
    keys = torch.arange(500)
    draws = [bits_for(purpose, keys, 3) for purpose in ("shape", "sham")]
    assert len(torch.cat(draws).unique()) == 2 * 500 * 3
    assert torch.equal(bits_for("shape", keys, 5)[:, :3], draws[0])
