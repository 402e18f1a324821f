from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from manipulating import manipulated

CUTOFFS = (0.25, 0.125, 0.0625)


def inner(crops: Tensor) -> Tensor:
    """Values of mid contrast, so that nothing is clipped."""
    return 0.35 + 0.3 * crops


def by_fourier(crops: Tensor, cutoff: float) -> Tensor:
    """Low-pass of crops with their mirror images on all sides, by their Fourier transform."""
    height, width = crops.shape[2:]
    mirrored = np.pad(crops.double().numpy(), ((0, 0), (0, 0), (0, height), (0, width)), mode="symmetric")
    fy, fx = np.fft.fftfreq(2 * height)[:, None], np.fft.fftfreq(2 * width)
    gain = 2.0 ** -((fy**2 + fx**2) / cutoff**2)
    return torch.from_numpy(np.fft.ifft2(gain * np.fft.fft2(mirrored)).real[..., :height, :width]).float()


@pytest.mark.parametrize("cutoff", CUTOFFS)
def test_the_filter_is_gaussian_in_frequency(cutoff: float, crops: Tensor) -> None:
    found = manipulated("spatial_frequency", crops, cutoffs=[cutoff])[f"{cutoff:g}"]
    torch.testing.assert_close(found, by_fourier(crops, cutoff).clamp(0, 1), atol=2e-6, rtol=0)


@pytest.mark.parametrize("cutoff", [0.125, 0.0625])
def test_it_is_the_blur_that_is_named(cutoff: float) -> None:
    crops = inner(torch.rand(3, 3, 20, 31, generator=torch.Generator().manual_seed(2)))
    found = manipulated("spatial_frequency", crops)[f"{cutoff:g}"]
    sigma = np.sqrt(np.log(2) / 2) / (np.pi * cutoff)
    assert sigma * cutoff == pytest.approx(0.187, abs=5e-4)
    blurred = ndimage.gaussian_filter(crops.double().numpy(), (0, 0, sigma, sigma), mode="reflect", truncate=8)
    np.testing.assert_allclose(found, blurred, atol=2e-3)


@pytest.mark.parametrize("cutoff", CUTOFFS)
def test_half_of_a_grating_at_the_cutoff_is_left(cutoff: float) -> None:
    x = torch.arange(64) + 0.5
    grating = 0.5 + 0.4 * torch.cos(2 * torch.pi * cutoff * x).expand(1, 3, 64, 64)
    found = manipulated("spatial_frequency", grating)[f"{cutoff:g}"]
    torch.testing.assert_close(found, 0.5 + (grating - 0.5) / 2, atol=1e-5, rtol=0)


def test_the_mean_colour_stays(crops: Tensor) -> None:
    for keep in ("low", "high"):
        for altered in manipulated("spatial_frequency", inner(crops), keep=keep).values():
            torch.testing.assert_close(altered.mean((2, 3)), inner(crops).mean((2, 3)), atol=1e-5, rtol=0)


def test_low_and_high_make_up_the_crop(crops: Tensor) -> None:
    crops = inner(crops)
    mean = crops.mean((2, 3), keepdim=True)
    low, high = (manipulated("spatial_frequency", crops, keep=keep) for keep in ("low", "high"))
    for label in low:
        torch.testing.assert_close(low[label] + high[label] - mean, crops, atol=1e-5, rtol=0)


def test_a_lower_cutoff_takes_more_away(crops: Tensor) -> None:
    left = [float(x.var((2, 3)).sum()) for x in manipulated("spatial_frequency", crops).values()]
    assert crops.var((2, 3)).sum() > left[0] > left[1] > left[2]
