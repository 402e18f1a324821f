from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

from altering import N_IMAGES, altered, random_images


def test_sharpness(images: Tensor) -> None:
    factors = [0.0, 0.5, 0.99, 1.2, 1.5, 4.0]
    expected = [vision.adjust_sharpness(image, factor) for image, factor in zip(images, factors, strict=True)]
    result = altered("sharpness", images, factor=factors)
    torch.testing.assert_close(result, torch.stack(expected), rtol=0, atol=2e-6)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (2, 2), (2, 9), (3, 3), (3, 4), (9, 2)])
def test_sharpness_of_small_images(height: int, width: int) -> None:
    images = random_images(height, width)
    expected = torch.stack([vision.adjust_sharpness(image, 1.5) for image in images])
    torch.testing.assert_close(altered("sharpness", images), expected, rtol=0, atol=1e-6)
    assert torch.equal(altered("sharpness", images), images) == (min(height, width) < 3)


def test_gaussian_blur(images: Tensor) -> None:
    sigmas = [0.1, 0.4, 0.8, 1.1, 1.7, 2.0]
    expected = [vision.gaussian_blur(image, [7, 7], [s, s]) for image, s in zip(images, sigmas, strict=True)]
    torch.testing.assert_close(altered("gaussian_blur", images, sigma=sigmas), torch.stack(expected))


def test_gaussian_blur_has_a_wider_kernel_for_a_larger_sigma(images: Tensor) -> None:
    sigmas, sizes = [2.0, 2.5, 4.1, 3.9, 6.0, 0.5], [7, 9, 15, 13, 19, 7]
    expected = [vision.gaussian_blur(image, [k, k], [s, s]) for image, s, k in zip(images, sigmas, sizes, strict=True)]
    torch.testing.assert_close(altered("gaussian_blur", images, sigma=sigmas), torch.stack(expected))


@pytest.mark.parametrize(("height", "width", "kernel"), [(1, 1, 1), (2, 9, 3), (3, 3, 5), (4, 4, 7)])
def test_gaussian_blur_of_small_images(height: int, width: int, kernel: int) -> None:
    images = random_images(height, width)
    expected = vision.gaussian_blur(images, [kernel, kernel], [5.0, 5.0])
    torch.testing.assert_close(altered("gaussian_blur", images, sigma=[5.0] * N_IMAGES), expected)


def blurred_ellipse(
    image: np.ndarray, a: float, b: float, dy: float, dx: float, angle: float, sigma: float
) -> np.ndarray:
    """Blur a whole image (3, height, width) with scipy, and take the pixels of an ellipse, one by one."""
    _, height, width = image.shape
    radius = min(max(3, math.ceil(1.5 * sigma)), min(height, width) - 1)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel = np.outer(kernel, kernel) / kernel.sum() ** 2
    result = image.copy()
    for channel, plane in enumerate(image):
        blurred = ndimage.correlate(plane.astype(float), kernel, mode="mirror")
        for i in range(height):
            for j in range(width):
                # x to the right and y up, from the centre of the ellipse
                z = complex(j - (width - 1) / 2 - dx, (height - 1) / 2 + dy - i)
                z *= complex(math.cos(math.radians(angle)), -math.sin(math.radians(angle)))
                if (z.real / a) ** 2 + (z.imag / b) ** 2 <= 1:
                    result[channel, i, j] = blurred[i, j]
    return result


ELLIPSES = [
    # a, b, dy, dx, angle, sigma
    (7.1, 4.3, 0.0, 0.0, 15.0, 1.5),
    (3.3, 9.2, -8.6, 5.4, -15.0, 3.0),
    (12.2, 3.1, 21.3, -17.8, 40.0, 0.7),  # over the edge
    (1.6, 1.6, 500.0, 3.0, 0.0, 3.0),  # outside
    (300.0, 250.0, 1.0, 1.0, 10.0, 2.0),  # the whole image
    (0.2, 0.2, 0.1, 0.6, 0.0, 2.0),  # hardly a pixel
]


@pytest.mark.parametrize("part", [slice(0, 6), slice(0, 2), slice(3, 4), slice(5, 6)], ids=str)
def test_elliptic_local_blur(images: Tensor, part: slice) -> None:
    ellipses = ELLIPSES[part]
    columns = dict(zip(("a", "b", "dy", "dx", "angle", "sigma"), map(list, zip(*ellipses, strict=True)), strict=True))
    result = altered("elliptic_local_blur", images[part], **columns)
    for image, ellipse, given_image in zip(result, ellipses, images[part].numpy(), strict=True):
        np.testing.assert_allclose(image, blurred_ellipse(given_image, *ellipse), atol=2e-6)


def test_the_ellipse_turns_counter_clockwise() -> None:
    image = random_images(41, 41, n=1)
    flat = altered("elliptic_local_blur", image, a=[18.0], b=[3.0], dy=[0.0], dx=[0.0], angle=[45.0], sigma=[2.0])
    changed = (flat != image).any(1)[0]
    assert changed[10, 30]  # upper right
    assert not changed[10, 10]


def test_inside_a_large_ellipse_it_is_a_gaussian_blur(images: Tensor) -> None:
    sigmas = [0.5, 1.0, 2.0, 3.0, 4.0, 6.0]
    wide, zero = [500.0] * N_IMAGES, [0.0] * N_IMAGES
    result = altered("elliptic_local_blur", images, a=wide, b=wide, dy=zero, dx=zero, angle=zero, sigma=sigmas)
    assert torch.equal(result, altered("gaussian_blur", images, sigma=sigmas))


@pytest.mark.parametrize("axis", ["a", "b"])
def test_an_ellipse_without_extent_holds_nothing(axis: str, images: Tensor) -> None:
    values = {key: [0.0 if key == axis else 5.0] * N_IMAGES for key in ("a", "b", "dy", "dx", "angle")}
    assert torch.equal(altered("elliptic_local_blur", images, **values), images)


@given(
    height=st.integers(1, 14),
    width=st.integers(1, 14),
    ellipse=st.tuples(*[st.floats(0.3, 12)] * 2, *[st.floats(-12, 12)] * 2, st.floats(-90, 90), st.floats(0.3, 6)),
)
def test_elliptic_local_blur_of_any_image(height: int, width: int, ellipse: tuple[float, ...]) -> None:
    image = random_images(height, width, n=1)
    columns = {key: [value] for key, value in zip(("a", "b", "dy", "dx", "angle", "sigma"), ellipse, strict=True)}
    result = altered("elliptic_local_blur", image, **columns)[0].numpy()
    expected = blurred_ellipse(image[0].numpy(), *ellipse)
    # a pixel on the edge itself may fall to either side
    off = np.abs(result - expected).max(0) > 1e-5
    y, x = np.nonzero(off)
    z = (x - (width - 1) / 2 - ellipse[3]) + 1j * ((height - 1) / 2 + ellipse[2] - y)
    z *= np.exp(-1j * np.radians(ellipse[4]))
    np.testing.assert_allclose((z.real / ellipse[0]) ** 2 + (z.imag / ellipse[1]) ** 2, 1, rtol=1e-4)
