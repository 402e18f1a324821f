from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torch import Tensor

from altering import N_IMAGES, altered, photographs, random_images
from neuroprobe.stimuli.alterations import ALTERATIONS
from neuroprobe.stimuli.alterations.corruptions import normal, random_bits

KEYS = torch.tensor([0, 1, 2, 1234567, 2**62, 2**63 - 1])


def split_mix(seed: int, n: int) -> list[int]:
    """SplitMix64 in Python's own integers."""
    drawn = []
    for _ in range(n):
        seed = (seed + 0x9E3779B97F4A7C15) % 2**64
        z = seed
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        drawn.append(z ^ (z >> 31))
    return drawn


class TestNoise:
    def test_bits_are_those_of_split_mix(self) -> None:
        bits = random_bits(KEYS, 50).numpy().view(np.uint64)
        assert bits.tolist() == [split_mix(key, 50) for key in KEYS.tolist()]
        # https://rosettacode.org/wiki/Pseudo-random_numbers/Splitmix64
        assert bits[3, :3].tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]

    @pytest.mark.parametrize("n", [1, 2, 7, 100])
    def test_box_muller(self, n: int) -> None:
        half = (n + 1) // 2
        for key, drawn in zip(KEYS.tolist(), normal(KEYS, n), strict=True):
            bits = split_mix(key, half)
            radius = [np.sqrt(-2 * np.log(((b >> 32) + 0.5) / 2**32)) for b in bits]
            turn = [2 * np.pi * (b % 2**32) / 2**32 for b in bits]
            expected = np.concatenate([radius * np.cos(turn), radius * np.sin(turn)])[:n]
            np.testing.assert_allclose(drawn, expected, rtol=1e-12, atol=1e-12)

    def test_moments(self) -> None:
        drawn = normal(KEYS, 10**5).numpy()
        n = drawn.shape[1]
        for row in drawn:
            # five standard errors
            assert abs(row.mean()) < 5 / n**0.5
            assert abs(row.var() - 1) < 5 * (2 / n) ** 0.5
            assert abs(stats.skew(row)) < 5 * (6 / n) ** 0.5
            assert abs(stats.kurtosis(row)) < 5 * (24 / n) ** 0.5
            assert stats.kstest(row, "norm").pvalue > 1e-4

    @pytest.mark.parametrize("lag", [1, 2, 32, 32 * 32, 3 * 32 * 32 // 2])
    def test_pixels_are_independent(self, lag: int) -> None:
        field = normal(torch.arange(400), 3 * 32 * 32).numpy()
        one, other = field[:, lag:].ravel(), field[:, :-lag].ravel()
        for transform in (np.asarray, np.abs, np.square):
            r = np.corrcoef(transform(one), transform(other))[0, 1]
            assert abs(r) < 5 / len(one) ** 0.5

    @pytest.mark.parametrize("step", [1, 2, 2**32, 2**40])
    def test_keys_are_independent(self, step: int) -> None:
        field = normal(torch.arange(20) * step, 3 * 32 * 32).numpy()
        r = np.corrcoef(field)[~np.eye(20, dtype=bool)]
        assert np.abs(r).max() < 5.5 / field.shape[1] ** 0.5
        assert abs(r.mean()) < 5 / (field.shape[1] * r.size / 2) ** 0.5

    def test_it_is_added_in_proportion(self) -> None:
        grey = torch.full((N_IMAGES, 3, 24, 30), 0.5)
        sd = [0.0, 0.01, 0.02, 0.03, 0.04, 0.05]
        noise = normal(torch.arange(N_IMAGES), 3 * 24 * 30).view_as(grey)
        expected = grey + torch.tensor(sd).view(-1, 1, 1, 1) * noise.float()
        torch.testing.assert_close(altered("gaussian_noise", grey, sd=sd), expected, rtol=0, atol=1e-6)

    def test_images_are_clipped(self, images: Tensor) -> None:
        result = altered("gaussian_noise", images, sd=[3.0] * N_IMAGES)
        assert ((result == 0) | (result == 1)).float().mean() > 0.5

    def test_any_batch_gives_the_same_bits(self) -> None:
        images, key = random_images(17, 23), torch.arange(N_IMAGES) + 10**17
        sd = torch.linspace(0.05, 0.5, N_IMAGES)
        together = ALTERATIONS["gaussian_noise"](images, {"sd": sd}, key, 224)
        for i in range(N_IMAGES):
            alone = ALTERATIONS["gaussian_noise"](images[i : i + 1], {"sd": sd[i : i + 1]}, key[i : i + 1], 224)
            assert torch.equal(alone[0], together[i])


class TestJpeg:
    @pytest.mark.parametrize(("height", "width"), [(48, 48), (37, 51)])
    def test_pillow(self, height: int, width: int) -> None:
        images = photographs(height, width)
        qualities = [1, 7, 25, 60, 95, 100]
        result = (altered("jpeg", images, quality=qualities) * 255).round().to(torch.uint8)
        for image, quality, decoded in zip(images, qualities, result, strict=True):
            file = BytesIO()
            pixels = (image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
            Image.fromarray(pixels).save(file, "JPEG", quality=quality)
            expected = np.asarray(Image.open(file)).astype(int)
            # two builds of one library may round differently
            assert np.abs(decoded.permute(1, 2, 0).numpy() - expected).max() <= 2

    def test_a_lower_quality_is_further_from_the_image(self) -> None:
        images = photographs(64, 64)
        errors = [
            (altered("jpeg", images, quality=[quality] * N_IMAGES) - images).abs().mean() for quality in (5, 20, 50, 95)
        ]
        assert errors == sorted(errors, reverse=True)
        assert errors[-1] < 0.02

    @pytest.mark.parametrize(("given", "used"), [(24.6, 25), (0.2, 1), (100.4, 100)])
    def test_quality_is_rounded(self, given: float, used: int) -> None:
        images = photographs(16, 16)
        results = [altered("jpeg", images, quality=[quality] * N_IMAGES) for quality in (given, used)]
        assert torch.equal(*results)

    def test_one_pixel(self) -> None:
        grey = torch.full((1, 3, 1, 1), 102 / 255)
        torch.testing.assert_close(altered("jpeg", grey, quality=[100]), grey, rtol=0, atol=1.01 / 255)
