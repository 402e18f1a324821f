"""Noise by inversion, against scipy's quantiles and the moments of the distributions."""

from __future__ import annotations

import numpy as np
import scipy.stats

from neuroprobe.statistics.noise import LARGE, normal_deviates, poisson_counts


def test_counts_are_scipys_quantiles(rng: np.random.Generator) -> None:
    mean = np.concatenate([[0, 1e-12, LARGE, LARGE + 1e-9], rng.uniform(0, 5, 4000), rng.uniform(0, 400, 4000), [1e5]])
    uniform = rng.random(mean.shape)
    np.testing.assert_array_equal(poisson_counts(mean, uniform), scipy.stats.poisson.ppf(uniform, mean))


def test_counts_have_the_moments_of_poisson(rng: np.random.Generator) -> None:
    for mean in (0.3, 7.0, 29.0, 80.0):
        counts = poisson_counts(np.full((200, 200), mean), rng.random((200, 200)))
        n = counts.size
        assert abs(counts.mean() - mean) < 4 * (mean / n) ** 0.5
        assert abs(counts.var() - mean) < 4 * ((mean + 2 * mean**2) / n) ** 0.5


def test_extreme_uniform_numbers_end() -> None:
    ends = np.array([2.0**-53, 1 - 2.0**-53])
    for mean in (1e-3, 1.0, LARGE, 1000.0):
        low, high = poisson_counts(np.full(2, mean), ends)
        assert 0 <= low <= mean < high < mean + 40 * max(1, mean**0.5)


def test_deviates_are_normal() -> None:
    uniform = (np.arange(10_000) + 0.5) / 10_000
    np.testing.assert_allclose(normal_deviates(uniform), scipy.stats.norm.ppf(uniform), atol=1e-12)
