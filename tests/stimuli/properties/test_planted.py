"""Units whose selectivity is known, since they are made by hand: what their indexes say."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from altering import photographs, random_images
from manipulating import manipulated
from neuroprobe.statistics.manipulation_selectivity import against_sham, family_of, index_of, mirror_symmetry
from neuroprobe.stimuli.properties import sham
from neuroprobe.stimuli.properties.colour import GRAYS

Array = NDArray[np.float64]
Unit = Callable[[Tensor], Tensor]
SIDE = 11


def kernel(weights: Tensor, by_channel: tuple[float, float, float]) -> Unit:
    """Rectified response (n,) to crops, linear in them: one filter, of this weight in each channel."""
    filters = (weights * torch.tensor(by_channel).view(3, 1, 1))[None].float()
    return lambda crops: functional.conv2d(crops, filters).view(len(crops), -1).amax(1).relu()


def gabor(angle: float) -> Tensor:
    """Even Gabor patch of mean 0 whose bars lie at an angle (degrees, counter-clockwise from the horizontal)."""
    y, x = torch.meshgrid(*(torch.arange(SIDE).double() - SIDE // 2,) * 2, indexing="ij")
    radians = np.deg2rad(angle)
    across = x * np.sin(radians) + y * np.cos(radians)
    envelope = torch.exp(-(x**2 + y**2) / (2 * 2.0**2))
    patch = envelope * torch.cos(2 * np.pi * across / 5)
    return patch - envelope * patch.sum() / envelope.sum()


def blob() -> Tensor:
    y, x = torch.meshgrid(*(torch.arange(SIDE).double() - SIDE // 2,) * 2, indexing="ij")
    narrow, wide = (torch.exp(-(x**2 + y**2) / (2 * sigma**2)) for sigma in (1.0, 2.0))
    return narrow / narrow.sum() - wide / wide.sum()


GREY = (0.299, 0.587, 0.114)
RED = kernel(torch.full((3, 3), 1 / 9), (1.0, -0.5, -0.5))
LIGHT = kernel(torch.full((3, 3), 1 / 9), GREY)
EDGE = kernel(gabor(45), GREY)
BLOB = kernel(blob(), GREY)


def responses(unit: Unit, crops: Tensor) -> Array:
    return unit(crops)[None].double().numpy()


def top(unit: Unit, crops: Tensor, n: int = 60) -> Tensor:
    """Crops that drive the unit most."""
    return crops[unit(crops).topk(n).indices]


def family(unit: Unit, crops: Tensor, name: str, **options: object) -> tuple[Array, Array]:
    altered = manipulated(name, crops, **options)
    return responses(unit, crops), np.stack([responses(unit, member) for member in altered.values()])


def pink(n: int) -> Tensor:
    """Crops of patches that are smooth enough to hold shapes, of any colour."""
    noise = torch.randn(n, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(5))
    smooth = functional.avg_pool2d(functional.pad(noise, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return (0.5 + 0.4 * smooth).clamp(0, 1)


@pytest.mark.parametrize("gray", GRAYS)
def test_a_red_detector_is_colour_selective(gray: str) -> None:
    original, altered = family(RED, top(RED, random_images(3, 3, n=2000)), "colour", gray=gray)
    index, _ = index_of(original, altered[0])
    assert index == pytest.approx(1, abs=1e-6)


def test_a_luminance_detector_is_not() -> None:
    for unit in (LIGHT, EDGE):
        crops = top(unit, random_images(3, 3, n=2000) if unit is LIGHT else pink(2000))
        index = {gray: index_of(*family(unit, crops, "colour", gray=gray))[0].item() for gray in GRAYS}
        assert index["luma"] == pytest.approx(0, abs=1e-5)
    # of colours at random the component is not the luminance, but in grey images it is, and the stretch shows
    grey = GRAYS["luma"](top(EDGE, 0.3 + 0.4 * pink(2000))).expand(-1, 3, -1, -1).clone()
    index = {gray: index_of(*family(EDGE, grey, "colour", gray=gray))[0].item() for gray in GRAYS}
    for gray in ("luma", "lightness", "pca_matched_contrast"):
        assert index[gray] == pytest.approx(0, abs=1e-4)
    assert index["pca_opponent"] < -0.1


def test_in_photographs_matched_contrast_is_near_luma_and_the_stretch_is_not() -> None:
    crops = top(
        EDGE, photographs(96, 96).unfold(2, SIDE, 5).unfold(3, SIDE, 5).flatten(2, 3)[:5].transpose(1, 2).flatten(0, 1)
    )
    index = {gray: index_of(*family(EDGE, crops, "colour", gray=gray))[0].item() for gray in GRAYS}
    assert abs(index["pca_matched_contrast"]) < 0.1
    assert index["pca_opponent"] < -0.1


def test_an_edge_detector_has_its_orientation() -> None:
    found = family_of(*family(EDGE, top(EDGE, pink(4000)), "orientation"))
    profile = dict(zip(range(15, 360, 15), found.index[:, 0], strict=True))
    assert profile[180] == pytest.approx(0, abs=1e-5)
    assert list(range(15, 360, 15))[found.weakest[0]] == 180
    assert max(profile, key=lambda angle: profile[angle]) in {60, 75, 90, 105, 120, 240, 255, 270, 285, 300}
    assert min(profile[90], profile[270]) > 0.8
    # a turn by so much, this way or that: the filter is symmetric, the stimuli nearly
    assert profile[15] < profile[30] < profile[45]


@pytest.mark.parametrize("angle", [0, 45, 90, 135])
def test_gratings_turn_to_the_orientation_of_the_detector(angle: int) -> None:
    """Bars at some angle, turned by what is missing, drive a detector of 45° as its own do."""
    crops = (0.5 + 0.4 * gabor(angle) / gabor(angle).abs().max()).float().expand(1, 3, -1, -1)
    best = 0.5 + 0.4 * gabor(45) / gabor(45).abs().max()
    at_best = float(EDGE(best.float().expand(1, 3, -1, -1)))
    for label, altered in manipulated("orientation", crops).items():
        away = (angle + int(label) - 45) % 180
        if away == 0:
            assert float(EDGE(altered)) == pytest.approx(at_best, rel=0.01)
        if away == 90:
            assert float(EDGE(altered)) < 0.2 * at_best


def test_an_edge_detector_is_symmetric_about_its_axis_and_across() -> None:
    original, altered = family(EDGE, top(EDGE, pink(4000)), "symmetry")
    left, _ = mirror_symmetry(original, altered)
    by_axis = dict(zip(("0", "45", "90", "135"), left[:, 0], strict=True))
    assert by_axis["45"] == pytest.approx(1, abs=1e-5)
    assert by_axis["135"] == pytest.approx(1, abs=1e-5)
    assert max(by_axis["0"], by_axis["90"]) < 0.2


def test_a_blob_detector_has_no_orientation() -> None:
    found = family_of(*family(BLOB, top(BLOB, pink(4000)), "orientation"))
    assert np.abs(found.index[[5, 11, 17]]).max() < 1e-5  # quarter turns
    assert np.abs(found.index).max() < 0.1


def test_shape_is_what_an_edge_detector_needs_and_a_luminance_detector_does_not() -> None:
    crops = top(EDGE, pink(2000))
    assert family_of(*family(EDGE, crops, "shape")).mean > 0.7
    whole = kernel(torch.full((SIDE, SIDE), 1 / SIDE**2), GREY)
    assert family_of(*family(whole, crops, "shape")).mean == pytest.approx(0, abs=1e-6)


def test_contrast_is_lost_as_it_is_taken_away() -> None:
    crops = top(EDGE, pink(2000))
    found = family_of(*family(EDGE, crops, "contrast"))
    np.testing.assert_allclose(found.index[:, 0], [0.25, 0.5, 0.75, 1], atol=1e-5)
    whole = kernel(torch.full((SIDE, SIDE), 1 / SIDE**2), GREY)
    np.testing.assert_allclose(family_of(*family(whole, crops, "contrast")).index, 0, atol=1e-6)


def test_a_detector_of_fine_bars_loses_them_first() -> None:
    crops = top(EDGE, 0.3 + 0.4 * pink(2000))
    low = family_of(*family(EDGE, crops, "spatial_frequency")).index[:, 0]
    assert low[0] < low[1] < low[2]
    assert low[2] > 0.9  # bars of 5 px, where 2^-10 of their amplitude is left
    high = family_of(*family(EDGE, crops, "spatial_frequency", keep="high")).index[:, 0]
    np.testing.assert_allclose(low + high, 1, atol=5e-3)  # it is linear but for the rectification


def test_sham_changes_do_not_silence_a_red_detector() -> None:
    crops = top(RED, random_images(3, 3, n=2000))
    keys = torch.arange(len(crops))
    altered = torch.stack(list(manipulated("colour", crops, gray="luma").values()))
    shams = np.stack([responses(RED, draw) for draw in sham(crops, altered, keys, 49)])
    found = against_sham(responses(RED, crops), responses(RED, altered[0]), shams)
    assert found.p_value == pytest.approx(1 / 50)
    assert found.sham < 0.5 < found.corrected
