from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.color import rgb2lab
from torch import Tensor

from altering import random_images
from manipulating import manipulated
from neuroprobe.stimuli.properties.colour import GRAYS

Array = NDArray[np.float64]
LUMA = np.array([0.299, 0.587, 0.114])
PCA = ("pca_opponent", "pca_matched_contrast")


def gray(name: str, crops: Tensor) -> Tensor:
    (altered,) = manipulated("colour", crops, gray=name).values()
    assert torch.equal(altered, altered[:, :1].expand_as(altered))
    return altered[:, 0]


def one_by_one(name: str, crop: Array) -> Array:
    """Grey (height, width) of one crop (3, height, width), after the description of the study."""
    red, green, blue = crop.reshape(3, -1)
    luma = LUMA @ crop.reshape(3, -1)
    opponent = np.stack([(red + green + blue - 1.5) / 1.5, red - green, (red + green - 2 * blue) / 2])
    variances, axes = np.linalg.eigh(np.cov(opponent, bias=True))
    component = axes[:, variances.argmax()] @ opponent
    component = component * (1 if np.corrcoef(component, luma)[0, 1] >= 0 else -1)
    if name == "pca_opponent":
        found = (component - component.min()) / (component.max() - component.min())
    else:
        found = ((component - component.mean()) / component.std() * luma.std() + luma.mean()).clip(0, 1)
    return found.reshape(crop.shape[1:])


@pytest.mark.parametrize("name", PCA)
def test_principal_components_against_one_crop_at_a_time(name: str, crops: Tensor) -> None:
    expected = np.stack([one_by_one(name, crop) for crop in crops.double().numpy()])
    np.testing.assert_allclose(gray(name, crops), expected, atol=1e-5)


@given(st.integers(0, 2**31), st.integers(1, 9), st.integers(2, 9))
def test_the_sign_and_the_order_of_the_axes_are_right_for_any_crops(seed: int, height: int, width: int) -> None:
    crops = random_images(height, width, n=20, seed=seed).double()
    for name in PCA:
        found = gray(name, crops).flatten(1)
        luma = GRAYS["luma"](crops).flatten(1)
        centred = [values - values.mean(1, keepdim=True) for values in (found, luma)]
        # what matches the contrast of the luma may be clipped, which bends a relation that is nearly none
        assert (torch.linalg.vecdot(*centred) >= (-1e-9 if name == "pca_opponent" else -1e-2)).all()
        expected = np.stack([one_by_one(name, crop) for crop in crops.numpy()])
        np.testing.assert_allclose(found.numpy(), expected.reshape(20, -1), atol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 0.01])
@pytest.mark.parametrize(
    ("towards", "brighter"),
    [
        ((0.587, -0.299, 0.0), True),  # equal luma: red is brighter
        ((-0.587, 0.299, 0.0), False),
        ((0.0, 0.114, -0.587), True),  # no red either: green is
        ((0.0, -0.114, 0.587), False),
        ((0.1, 0.1, 0.1), True),
        ((0.0, 0.0, 0.3), True),  # blue, which has luma too
        ((-0.3, 0.0, 0.3), False),
    ],
)
def test_the_sign_where_luma_does_not_tell(towards: tuple[float, ...], brighter: bool, scale: float) -> None:
    first = torch.full((3,), 0.5)
    step = scale * 0.5 * torch.tensor(towards)
    crops = torch.stack([first, first + step], 1).view(1, 3, 1, 2)
    assert gray("pca_opponent", crops)[0, 0].tolist() == ([0, 1] if brighter else [1, 0])


def test_the_largest_variance_wins() -> None:
    """Most of a crop's variance is between red and green; a little, across, in lightness."""
    rng = torch.Generator().manual_seed(1)
    chroma, light = torch.randn(2, 1, 8, 8, generator=rng)
    crops = torch.stack([0.5 + 0.1 * chroma + 0.02 * light, 0.5 - 0.1 * chroma + 0.02 * light, 0.5 + 0.02 * light], 1)
    found = gray("pca_opponent", crops)
    assert abs(np.corrcoef(found.ravel(), chroma.ravel())[0, 1]) > 0.99


def test_the_stretch_reaches_black_and_white(crops: Tensor) -> None:
    found = gray("pca_opponent", crops)
    torch.testing.assert_close(found.amin((1, 2)), torch.zeros(len(crops)))
    torch.testing.assert_close(found.amax((1, 2)), torch.ones(len(crops)))


def test_matched_contrast_keeps_mean_and_deviation_of_the_luma() -> None:
    crops = 0.4 + 0.2 * random_images(9, 14)  # far from black and white, so that nothing is clipped
    found, luma = gray("pca_matched_contrast", crops), GRAYS["luma"](crops)[:, 0]
    torch.testing.assert_close(found.mean((1, 2)), luma.mean((1, 2)))
    torch.testing.assert_close(found.std((1, 2)), luma.std((1, 2)), rtol=1e-4, atol=0)


def test_luma_is_that_of_bt_601(crops: Tensor) -> None:
    expected = np.einsum("c,nchw->nhw", LUMA, crops.double().numpy())
    np.testing.assert_allclose(gray("luma", crops), expected, atol=1e-6)


def test_lightness_keeps_that_of_cie(crops: Tensor) -> None:
    found = gray("lightness", crops)[:, None].expand_as(crops)
    light, expected = (rgb2lab(images.double().numpy(), channel_axis=1)[:, 0] for images in (found, crops))
    np.testing.assert_allclose(light, expected, atol=0.02)  # of 100; scikit-image has more digits


@pytest.mark.parametrize("name", GRAYS)
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (7, 4)])
def test_uniform_crops_become_their_luma(name: str, size: tuple[int, int]) -> None:
    colours = random_images(1, 1, n=30)
    crops = colours.expand(-1, -1, *size).clone()
    expected = GRAYS["lightness" if name == "lightness" else "luma"](colours)[:, 0].expand(-1, *size)
    torch.testing.assert_close(gray(name, crops), expected)
    # rounding is not stretched
    rounded = (crops + 1e-7 * torch.randn(crops.shape, generator=torch.Generator().manual_seed(3))).clamp(0, 1)
    torch.testing.assert_close(gray(name, rounded), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["luma", "lightness", "pca_matched_contrast"])
def test_grey_crops_stay(name: str, crops: Tensor) -> None:
    grey = crops[:, :1].expand_as(crops).clone()
    torch.testing.assert_close(gray(name, grey), grey[:, 0], atol=2e-6, rtol=0)
    if name == "luma":
        assert torch.equal(gray(name, grey), grey[:, 0])


def test_the_study_stretches_grey_crops_too(crops: Tensor) -> None:
    grey = 0.3 + 0.4 * crops[:, :1].expand_as(crops)
    low, high = grey[:, 0].amin((1, 2), keepdim=True), grey[:, 0].amax((1, 2), keepdim=True)
    torch.testing.assert_close(gray("pca_opponent", grey), (grey[:, 0] - low) / (high - low), atol=1e-5, rtol=0)


def test_many_small_crops_at_once() -> None:
    crops = random_images(3, 3, n=4096)
    found = gray("pca_opponent", crops)
    expected = np.stack([one_by_one("pca_opponent", crop) for crop in crops[::64].double().numpy()])
    np.testing.assert_allclose(found[::64], expected, atol=1e-4)


def test_contrast_scales_the_distance_from_the_mean_colour(crops: Tensor) -> None:
    mean = crops.mean((2, 3), keepdim=True)
    for label, altered in manipulated("contrast", crops, factors=(0, 0.25, 1, 2)).items():
        torch.testing.assert_close(altered, (mean + float(label) * (crops - mean)).clamp(0, 1))


def test_no_contrast_is_the_mean_colour_and_all_of_it_the_crop(crops: Tensor) -> None:
    found = manipulated("contrast", crops, factors=(0, 1))
    assert torch.equal(found["0"], crops.mean((2, 3), keepdim=True).expand_as(crops))
    assert torch.equal(found["1"], crops)
