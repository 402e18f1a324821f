from __future__ import annotations

import colorsys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

from altering import N_IMAGES, altered, random_images

FACTORS = [0.0, 0.01, 0.4, 1.3, 2.5, 3.5]


def test_grayscale(images: Tensor) -> None:
    assert torch.equal(altered("grayscale", images), vision.rgb_to_grayscale(images, 3))


def test_grayscale_of_black_is_black() -> None:
    assert torch.equal(altered("grayscale", torch.zeros(2, 3, 8, 8)), torch.zeros(2, 3, 8, 8))


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_blends(name: str, images: Tensor) -> None:
    function = getattr(vision, f"adjust_{name}")
    expected = torch.stack([function(image, factor) for image, factor in zip(images, FACTORS, strict=True)])
    torch.testing.assert_close(altered(name, images, factor=FACTORS), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["grayscale", "brightness", "contrast", "saturation", "hue"])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 7), (5, 2)])
def test_small_images(name: str, height: int, width: int) -> None:
    images = random_images(height, width)
    match name:
        case "grayscale":
            result, expected = altered(name, images), vision.rgb_to_grayscale(images, 3)
        case "hue":
            result, expected = altered(name, images, shift=[0.3] * N_IMAGES), vision.adjust_hue(images, 0.3)
        case _:
            result = altered(name, images, factor=[1.7] * N_IMAGES)
            expected = torch.stack([getattr(vision, f"adjust_{name}")(image, 1.7) for image in images])
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-5)


def test_contrast_keeps_the_mean_luminance_where_nothing_is_clipped() -> None:
    images = 0.4 + 0.2 * random_images(20, 30)
    result = altered("contrast", images, factor=[0.0, 0.3, 0.9, 1.1, 1.5, 2.0])
    means = [vision.rgb_to_grayscale(batch).mean((1, 2, 3)) for batch in (images, result)]
    # torchvision's weights of the luminance sum to .9999
    torch.testing.assert_close(*means, rtol=0, atol=1e-4)


def test_saturation_of_zero_is_grayscale(images: Tensor) -> None:
    torch.testing.assert_close(altered("saturation", images, factor=[0.0] * N_IMAGES), altered("grayscale", images))


def test_hue(images: Tensor) -> None:
    shifts = [-0.5, -0.31, 0.02, 1 / 3, 0.45, 0.5]
    expected = [vision.adjust_hue(image, shift) for image, shift in zip(images, shifts, strict=True)]
    torch.testing.assert_close(altered("hue", images, shift=shifts), torch.stack(expected), rtol=0, atol=1e-5)


def test_hue_of_eight_bit_colours() -> None:
    # quantised images are full of ties between channels, where the formula of the hue changes
    images = (random_images(32, 32) * 8).round() / 8
    expected = torch.stack([vision.adjust_hue(image, 0.27) for image in images])
    torch.testing.assert_close(altered("hue", images, shift=[0.27] * N_IMAGES), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shift", [-1.0, -0.4, 0.0, 1 / 6, 0.3, 1.0])
def test_hue_of_every_kind_of_colour(shift: float) -> None:
    levels = (0.0, 0.3, 0.5, 1.0)
    colours = [(r, g, b) for r in levels for g in levels for b in levels]
    expected = []
    for colour in colours:
        hue, saturation, value = colorsys.rgb_to_hsv(*colour)
        expected.append(colorsys.hsv_to_rgb((hue + shift) % 1, saturation, value))
    images, wanted = (torch.tensor(rows).t().view(1, 3, 8, 8) for rows in (colours, expected))
    torch.testing.assert_close(altered("hue", images, shift=[shift]), wanted, rtol=0, atol=1e-6)


def test_a_third_of_a_turn_swaps_the_channels(images: Tensor) -> None:
    result = altered("hue", images, shift=[1 / 3] * N_IMAGES)
    torch.testing.assert_close(result, images[:, [2, 0, 1]], rtol=0, atol=1e-6)


def test_hue_keeps_value_and_saturation(images: Tensor) -> None:
    result = altered("hue", images, shift=[-0.4, -0.1, 0.1, 0.25, 0.3, 0.5])
    torch.testing.assert_close(result.amax(1), images.amax(1))
    torch.testing.assert_close(result.amin(1), images.amin(1))


@given(scale=st.floats(1e-44, 1e-10), shift=st.floats(-0.5, 0.5), seed=st.integers(0, 2**32 - 1))
def test_hue_of_a_tiny_chroma(scale: float, shift: float, seed: int) -> None:
    images = scale * random_images(4, 4, n=1, seed=seed)
    result = altered("hue", images, shift=[shift])
    assert result.isfinite().all()
    assert float((result - images).abs().max()) <= scale
