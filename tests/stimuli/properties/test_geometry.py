from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from altering import photographs, random_images
from manipulating import manipulated


def by_spline(crops: Tensor, angle: float, order: int = 3) -> Tensor:
    """Rotate as the study did: half a crop of its border around it, a spline, and the middle."""
    height, width = crops.shape[2:]
    around = max(height, width)
    padded = np.pad(crops.double().numpy(), ((0, 0), (0, 0), (around, around), (around, around)), mode="edge")
    turned = ndimage.rotate(padded, angle, axes=(3, 2), reshape=False, order=order, mode="nearest")
    return torch.from_numpy(turned[:, :, around : around + height, around : around + width]).clamp(0, 1).float()


def blobs(height: int, width: int) -> Tensor:
    """Smooth crops: three channels of sums of wide Gaussians."""
    rng = torch.Generator().manual_seed(4)
    y, x = torch.arange(height).view(-1, 1), torch.arange(width)
    crops = torch.zeros(4, 3, height, width)
    for _ in range(5):
        cy, cx = (torch.rand(4, 3, 1, 1, generator=rng) * side for side in (height, width))
        crops += 0.2 * torch.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * 5.0**2))
    return crops


@pytest.mark.parametrize("step", [15, 50])
@pytest.mark.parametrize("size", [(24, 24), (23, 23), (30, 19), (16, 33)])
def test_smooth_crops_turn_as_with_a_spline(step: int, size: tuple[int, int]) -> None:
    crops = blobs(*size)
    for label, altered in manipulated("orientation", crops, step=step).items():
        torch.testing.assert_close(altered, by_spline(crops, float(label)), atol=5e-3, rtol=0)


def test_photographs_differ_from_those_turned_with_a_spline_by_a_quarter_of_a_grey_level() -> None:
    crops = photographs(48, 48)
    for label, altered in manipulated("orientation", crops, step=35).items():
        spline = by_spline(crops, float(label))
        assert 255 * (altered - spline).abs().mean() < 0.3
        assert (altered - spline).abs().mean() < (by_spline(crops, float(label), order=1) - spline).abs().mean() / 2


def test_quarter_turns_of_square_crops_move_whole_pixels() -> None:
    crops = random_images(7, 7)
    for label, altered in manipulated("orientation", crops, step=90).items():
        expected = np.rot90(crops.numpy(), int(label) // 90, axes=(2, 3))
        assert np.array_equal(altered.numpy(), expected)


def test_half_turns_of_any_crops_move_whole_pixels(crops: Tensor) -> None:
    assert torch.equal(manipulated("orientation", crops)["180"], crops.flip((2, 3)))


def test_a_quarter_turn_of_a_wide_crop_replicates_its_border() -> None:
    crops = random_images(4, 8)
    expected = torch.nn.functional.pad(crops, (0, 0, 2, 2), mode="replicate").rot90(1, (2, 3))[:, :, 2:6]
    torch.testing.assert_close(manipulated("orientation", crops)["90"], expected, atol=1e-5, rtol=0)


def test_turning_on_and_back_is_nearly_nothing() -> None:
    crops = blobs(32, 32) * torch.exp(
        -((torch.arange(32).view(-1, 1) - 15.5) ** 2 + (torch.arange(32) - 15.5) ** 2) / (2 * 4.0**2)
    )
    back = manipulated("orientation", manipulated("orientation", crops)["60"])["300"]
    torch.testing.assert_close(back, crops, atol=0.01, rtol=0)


@pytest.mark.parametrize(("step", "n"), [(15, 23), (90, 3), (360 / 7, 6), (7.2, 49), (100, 3), (180, 1), (359, 1)])
def test_the_family_fills_a_turn(step: float, n: int) -> None:
    labels = list(manipulated("orientation", torch.zeros(1, 3, 2, 2), step=step))
    assert len(labels) == n
    assert max(map(float, labels)) < 360 - 1e-3


def test_mirrors() -> None:
    crops = random_images(5, 5)
    found = manipulated("symmetry", crops)
    pixels = crops.numpy()
    assert np.array_equal(found["0"], pixels[:, :, ::-1])
    assert np.array_equal(found["90"], pixels[:, :, :, ::-1])
    assert np.array_equal(found["135"], pixels.transpose(0, 1, 3, 2))
    assert np.array_equal(found["45"], np.rot90(pixels, 2, axes=(2, 3)).transpose(0, 1, 3, 2))


@pytest.mark.parametrize(("axis", "direction"), [("0", (1, 0)), ("90", (0, 1)), ("45", (1, 1)), ("135", (1, -1))])
def test_what_lies_along_an_axis_is_symmetric_about_it(axis: str, direction: tuple[int, int]) -> None:
    """Directions are (to the right, up); a line along its axis stays, one across too, others do not."""
    lines = {}
    for name, (dx, dy) in {"0": (1, 0), "90": (0, 1), "45": (1, 1), "135": (1, -1)}.items():
        lines[name] = torch.zeros(1, 3, 7, 7)
        for k in range(-3, 4):
            lines[name][:, :, 3 - k * dy, 3 + k * dx] = 1
    assert direction == {"0": (1, 0), "90": (0, 1), "45": (1, 1), "135": (1, -1)}[axis]
    across = str((int(axis) + 90) % 180)
    kept = {name for name, line in lines.items() if torch.equal(manipulated("symmetry", line)[axis], line)}
    assert kept == {axis, across}


def test_a_dot_beside_an_axis_changes_sides() -> None:
    dot = torch.zeros(1, 3, 5, 5)
    dot[:, :, 0, 1] = 1  # up, a little to the left
    places = {"0": (4, 1), "90": (0, 3), "135": (1, 0), "45": (3, 4)}
    for axis, altered in manipulated("symmetry", dot).items():
        assert altered.nonzero()[:, 2:].unique(dim=0).tolist() == [list(places[axis])]


def test_a_mirror_twice_is_nothing() -> None:
    crops = random_images(6, 6)
    for axis, altered in manipulated("symmetry", crops).items():
        assert torch.equal(manipulated("symmetry", altered)[axis], crops)


def test_crops_that_are_not_square_have_no_diagonal() -> None:
    crops = random_images(3, 4)
    found = manipulated("symmetry", crops, axes=(45, 0, 135))
    assert list(found) == ["45", "0", "135"]
    assert all(bool(found[axis].isnan().all()) for axis in ("45", "135"))
    assert torch.equal(found["0"], crops.flip(2))
    assert math.isnan(float(found["45"][0, 0, 0, 0]))
