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

BILINEAR = vision.InterpolationMode.BILINEAR
ANGLES = [-10.0, -3.3, 0.5, 4.0, 10.0, 37.0]


def resampled(image: Tensor, matrix: np.ndarray, offset: tuple[float, float] = (0.0, 0.0)) -> Tensor:
    """Show at (y, x) from the centre what lies at matrix @ (y, x) + offset, by scipy."""
    centre = (np.array(image.shape[-2:])[:, None, None] - 1) / 2
    y_x = np.indices(image.shape[-2:]) - centre
    at = np.einsum("ij,jyx->iyx", matrix, y_x) + np.array(offset)[:, None, None] + centre
    planes = [ndimage.map_coordinates(plane.double().numpy(), at, order=1, mode="reflect") for plane in image]
    return torch.from_numpy(np.stack(planes)).to(image.dtype)


def turn(angle: float) -> np.ndarray:
    """Where to look, in (y, x) with y down, for an image that is turned counter-clockwise."""
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return np.array([[cos, sin], [-sin, cos]])


def ramp(height: int, width: int) -> Tensor:
    """An image (1, 3, height, width) that rises linearly along x, along y, and along both."""
    y, x = torch.meshgrid(torch.arange(height) / height, torch.arange(width) / width, indexing="ij")
    return torch.stack([x, y, (x + y) / 2])[None]


def test_hflip(images: Tensor) -> None:
    result = altered("hflip", images)
    assert torch.equal(result, vision.hflip(images))
    assert torch.equal(altered("hflip", result), images)


class TestRolling:
    @pytest.mark.parametrize(
        ("dy", "dx"),
        [
            ([0, 3, -3, 47, -60, 1000], [0, -7, 7, 1, 60, -1001]),
            ([0, 0, 0, 0, 0, 0], [5, -5, 0, 1, -1, 28]),
            ([5, -5, 0, 1, -1, 28], [0, 0, 0, 0, 0, 0]),
        ],
    )
    def test_whole_px(self, images: Tensor, dy: list[float], dx: list[float]) -> None:
        expected = [torch.roll(image, shifts, (-2, -1)) for image, *shifts in zip(images, dy, dx, strict=True)]
        assert torch.equal(altered("rolling", images, dy=dy, dx=dx), torch.stack(expected))

    def test_fractions_are_rounded(self, images: Tensor) -> None:
        dy, dx = [0.4, -0.4, 1.6, -2.7, 3.2, 9.9], [2.3, 0.7, -0.6, -8.9, 0.1, -0.2]
        expected = altered("rolling", images, dy=list(map(round, dy)), dx=list(map(round, dx)))
        assert torch.equal(altered("rolling", images, dy=dy, dx=dx), expected)

    @given(
        height=st.integers(1, 9),
        width=st.integers(1, 9),
        dy=st.integers(-30, 30),
        dx=st.integers(-30, 30),
    )
    def test_any_size_and_back(self, height: int, width: int, dy: int, dx: int) -> None:
        image = random_images(height, width, n=1)
        result = altered("rolling", image, dy=[dy], dx=[dx])
        assert torch.equal(result, torch.roll(image, (dy, dx), (-2, -1)))
        assert torch.equal(altered("rolling", result, dy=[-dy], dx=[-dx]), image)


class TestRotation:
    def test_torchvision(self, images: Tensor) -> None:
        height, width = images.shape[-2:]
        margin = 40
        expected = []
        for image, angle in zip(images, ANGLES, strict=True):
            padded = vision.pad(image, [margin, margin], padding_mode="symmetric")
            rotated = vision.rotate(padded, angle, interpolation=BILINEAR)
            expected.append(rotated[:, margin : margin + height, margin : margin + width])
        # coordinates of some tens of px carry rounding errors of 1e-5 px
        result = altered("rotation", images, angle=ANGLES)
        torch.testing.assert_close(result, torch.stack(expected), rtol=0, atol=5e-5)

    def test_half_a_turn_is_a_flip_on_both_sides(self, images: Tensor) -> None:
        angles = [180.0] * N_IMAGES
        torch.testing.assert_close(altered("rotation", images, angle=angles), images.flip(2, 3), rtol=0, atol=5e-5)

    @pytest.mark.parametrize("crop", [0.0, 1.0])
    def test_scipy(self, images: Tensor, crop: float) -> None:
        expected = []
        for image, angle in zip(images, ANGLES, strict=True):
            t = math.tan(math.radians(abs(angle)))
            kept = 1 - 2 * t / (1 + t)  # of each side
            expected.append(resampled(image, turn(angle) * (kept if crop else 1.0)))
        result = altered("rotation", images, angle=ANGLES, crop=[crop] * N_IMAGES)
        torch.testing.assert_close(result, torch.stack(expected), rtol=0, atol=5e-5)

    @pytest.mark.parametrize("angle", [-10.0, 4.0, 9.0])
    def test_crop_is_that_of_the_study(self, angle: float) -> None:
        """Rotate, cut off the margins, resize: two resamplings and whole px, so only nearly the same."""
        side = 224
        t = math.tan(math.radians(abs(angle)))
        margin = round(side * t / (1 + t))
        y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
        image = torch.stack([(x / 23).sin(), (y / 31).cos(), ((x + y) / 40).sin()])[None] / 2 + 0.5
        rotated = vision.rotate(image, angle, interpolation=BILINEAR)
        cut = rotated[..., margin : side - margin, margin : side - margin]
        expected = vision.resize(cut, [side, side], interpolation=BILINEAR, antialias=True)
        result = altered("rotation", image, angle=[angle], crop=[1.0])
        torch.testing.assert_close(result, expected, rtol=0, atol=0.03)
        assert (altered("rotation", image, angle=[angle], crop=[0.0]) - expected).abs().max() > 0.3

    @pytest.mark.parametrize("angle", [-44.0, -10.0, 0.01, 3.0, 30.0])
    @pytest.mark.parametrize(("height", "width"), [(40, 40), (30, 50)])
    def test_crop_shows_no_reflection(self, angle: float, height: int, width: int) -> None:
        # what lies on a plane stays on it, unless it is reflected
        image = ramp(height, width)
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        y, x = y - (height - 1) / 2, x - (width - 1) / 2
        t = math.tan(math.radians(abs(angle)))
        kept = (1 - t) / (1 + t)
        matrix = torch.from_numpy(turn(angle) * kept).float()
        at_y = matrix[0, 0] * y + matrix[0, 1] * x + (height - 1) / 2
        at_x = matrix[1, 0] * y + matrix[1, 1] * x + (width - 1) / 2
        # between the centres of the outermost pixels bilinear interpolation is linear
        linear = (at_x >= 0) & (at_x <= width - 1) & (at_y >= 0) & (at_y <= height - 1)
        expected = torch.stack([at_x / width, at_y / height, (at_x / width + at_y / height) / 2])
        result = altered("rotation", image, angle=[angle], crop=[1.0])[0]
        assert linear.float().mean() > 0.9
        torch.testing.assert_close(result[:, linear], expected[:, linear], rtol=0, atol=1e-5)
        assert bool((at_x >= -0.5).all() & (at_x <= width - 0.5).all())

    @pytest.mark.parametrize("angle", [45.0, 60.0, 90.0, 135.0, -179.0, 270.0])
    def test_crop_by_a_large_angle(self, angle: float) -> None:
        images = random_images(24, 24, n=1)
        result = altered("rotation", images, angle=[angle], crop=[1.0])
        assert result.isfinite().all()
        if angle % 90 == 0:
            turned = images.rot90(round(angle / 90), (2, 3))
            torch.testing.assert_close(result, turned, rtol=0, atol=5e-5)

    def test_crop_at_no_angle_is_the_image(self, images: Tensor) -> None:
        assert torch.equal(altered("rotation", images, angle=[0.0] * N_IMAGES, crop=[1.0] * N_IMAGES), images)


class TestShift:
    DY, DX = [0.0, 1.5, -0.25, 7.0, -60.3, 0.0], [0.5, -2.0, 0.75, -7.0, 33.3, 0.0]

    def test_scipy(self, images: Tensor) -> None:
        shifts = zip(images, self.DY, self.DX, strict=True)
        expected = torch.stack([resampled(image, np.eye(2), (-dy, -dx)) for image, dy, dx in shifts])
        torch.testing.assert_close(altered("shift", images, dy=self.DY, dx=self.DX), expected, rtol=0, atol=5e-5)

    def test_inside_it_is_rolling(self, images: Tensor) -> None:
        dy, dx = [0.0, 3.0, -3.0, 5.0, -5.0, 1.0], [2.0, 0.0, 4.0, -5.0, -1.0, 1.0]
        inner = (slice(None), slice(None), slice(5, -5), slice(5, -5))
        shifted, rolled = (altered(name, images, dy=dy, dx=dx)[inner] for name in ("shift", "rolling"))
        torch.testing.assert_close(shifted, rolled, rtol=0, atol=5e-5)

    def test_one_direction_alone(self, images: Tensor) -> None:
        zero, one = [0.0] * N_IMAGES, [1.0] * N_IMAGES
        down, right = altered("shift", images, dy=one, dx=zero), altered("shift", images, dy=zero, dx=one)
        # the border shows itself
        torch.testing.assert_close(down, torch.cat([images[:, :, :1], images[:, :, :-1]], 2), rtol=0, atol=5e-5)
        torch.testing.assert_close(right, torch.cat([images[..., :1], images[..., :-1]], 3), rtol=0, atol=5e-5)


class TestZoom:
    FACTORS = (0.5, 0.8, 0.97, 1.1, 1.25, 3.0)

    def test_scipy(self, images: Tensor) -> None:
        pairs = zip(images, self.FACTORS, strict=True)
        expected = torch.stack([resampled(image, np.eye(2) / factor) for image, factor in pairs])
        torch.testing.assert_close(altered("zoom", images, factor=list(self.FACTORS)), expected, rtol=0, atol=5e-5)

    @pytest.mark.parametrize("factor", [1.1, 1.25, 2.0])
    def test_closed_form(self, factor: float) -> None:
        height, width = 30, 40
        at_x = (torch.arange(width) - (width - 1) / 2) / factor + (width - 1) / 2
        result = altered("zoom", ramp(height, width), factor=[factor])[0, 0]
        inside = (at_x >= 0) & (at_x <= width - 1)
        expected = (at_x / width).expand(height, width)
        torch.testing.assert_close(result[:, inside], expected[:, inside], rtol=0, atol=1e-5)

    def test_twice_as_large_is_a_resize_of_the_middle(self) -> None:
        images = random_images(32, 32)
        expected = vision.resize(images[..., 7:25, 7:25], [36, 36], interpolation=BILINEAR)[..., 2:-2, 2:-2]
        result = altered("zoom", images, factor=[2.0] * N_IMAGES)
        torch.testing.assert_close(result, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["hflip", "rolling", "rotation", "shift", "zoom"])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 6), (5, 1), (2, 2)])
def test_small_images(name: str, height: int, width: int) -> None:
    """Whatever is done to one colour, it stays."""
    image = torch.full((1, 3, height, width), 0.3)
    values = {
        "rolling": {"dy": [1.0], "dx": [2.0]},
        "rotation": {"angle": [7.0]},
        "shift": {"dy": [0.3], "dx": [5.2]},
        "zoom": {"factor": [0.7]},
    }
    torch.testing.assert_close(altered(name, image, **values.get(name, {})), image)
