from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from altering import random_images
from manipulating import manipulated
from neuroprobe.stimuli.properties import energy, sham, sham_changes

KEYS = torch.arange(6)


def family(name: str, crops: Tensor) -> Tensor:
    return torch.stack(list(manipulated(name, crops).values()))


@pytest.mark.parametrize("name", ["colour", "spatial_frequency", "shape"])
def test_each_draw_has_the_energy_of_a_member(name: str, crops: Tensor) -> None:
    altered = family(name, crops)
    changes = sham_changes(crops, altered, KEYS, 19)
    found, members = changes.square().mean((2, 3, 4)), energy(crops, altered)
    assert found.shape == (19, 6)
    nearest = (found[:, None] - members).abs().amin(1)
    assert (nearest <= 1e-6 + 1e-5 * found).all()
    # and all members are drawn
    if len(altered) > 1:
        chosen = (found[:, None] - members).abs().argmin(1)
        assert set(chosen.ravel().tolist()) == set(range(len(altered)))


def test_a_draw_has_the_spectrum_of_the_change_and_its_values(crops: Tensor) -> None:
    altered = family("colour", crops)
    change = (altered[0] - crops).double()
    amplitude = torch.fft.fft2(change).abs().sort(1).values
    for drawn in sham_changes(crops, altered, KEYS, 5).double():
        torch.testing.assert_close(torch.fft.fft2(drawn).abs().sort(1).values, amplitude, atol=1e-4, rtol=1e-4)
        sizes, expected = drawn.abs().flatten(1).sort(1).values, change.abs().flatten(1).sort(1).values
        torch.testing.assert_close(sizes, expected, atol=1e-6, rtol=0)


def test_against_one_crop_at_a_time() -> None:
    """Every draw is the change moved, with a sign and an order of its channels; each of those is found."""
    crops = random_images(2, 3, n=200)
    change = (crops.flip(3) - crops).numpy()
    changes = sham_changes(crops, crops.flip(3)[None], torch.arange(200), 1)[0].numpy()
    seen = set()
    for one, drawn in zip(change, changes, strict=True):
        fits = [
            (dy, dx, sign, order)
            for dy in range(2)
            for dx in range(3)
            for sign in (-1, 1)
            for order in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))
            if np.allclose(sign * np.roll(one[list(order)], (dy, dx), (1, 2)), drawn, atol=1e-6)
        ]
        assert fits
        seen |= set(fits)
    # 72 ways, of which 200 draws leave out 1 in 16
    assert len(seen) > 60


def test_clipping_takes_energy_away_and_never_gives_any(crops: Tensor) -> None:
    altered = family("colour", crops)
    changes, shams = sham_changes(crops, altered, KEYS, 9), sham(crops, altered, KEYS, 9)
    assert torch.equal(shams, (crops + changes).clamp(0, 1))
    before = changes.square().mean((2, 3, 4))
    assert (energy(crops, shams) <= before + 1e-6).all()
    assert (energy(crops, shams).sum() / before.sum()).item() > 0.5


def test_the_sham_of_no_change_is_no_change(crops: Tensor) -> None:
    assert torch.equal(sham(crops, crops[None], KEYS, 3), crops.expand(3, -1, -1, -1, -1))


def test_members_that_do_not_apply_are_not_drawn() -> None:
    crops = random_images(4, 5)
    altered = family("symmetry", crops)
    assert altered.isnan().any()
    changes = sham_changes(crops, altered, KEYS, 30)
    assert changes.isfinite().all()
    members = energy(crops, altered)[[0, 2]]
    nearest = (changes.square().mean((2, 3, 4))[:, None] - members).abs()
    assert (nearest.amin(1) < 1e-5).all()
    assert len(nearest.argmin(1).unique()) == 2


def test_crops_to_which_no_member_applies_are_missing() -> None:
    crops = random_images(4, 4)
    altered = crops.expand(2, -1, -1, -1, -1).clone()
    altered[:, 3] = math.nan
    shams = sham(crops, altered, KEYS, 4)
    assert shams[:, 3].isnan().all()
    assert torch.equal(shams[:, [0, 1, 2, 4, 5]], crops[[0, 1, 2, 4, 5]].expand(4, -1, -1, -1, -1))


def test_a_draw_belongs_to_key_and_number_alone(crops: Tensor) -> None:
    altered = family("contrast", crops)
    shams = sham(crops, altered, KEYS, 8)
    assert torch.equal(sham(crops, altered, KEYS, 3), shams[:3])
    for i in range(len(crops)):
        part = slice(i, i + 1)
        assert torch.equal(sham(crops[part], altered[:, part], KEYS[part], 8), shams[:, part])
    assert not torch.equal(sham(crops, altered, KEYS + 1, 8), shams)


def test_energy_is_a_mean_over_pixels_and_channels() -> None:
    crops = torch.zeros(2, 3, 2, 2)
    altered = crops.expand(3, -1, -1, -1, -1).clone()
    altered[1, 0, 0, 0, 0] = 1
    altered[2, 1] = math.nan
    found = energy(crops, altered)
    torch.testing.assert_close(found, torch.tensor([[0, 0], [1 / 12, 0], [0, math.nan]]), equal_nan=True)
