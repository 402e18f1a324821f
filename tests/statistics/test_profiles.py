"""Distances of populations of profiles: planted differences, brute force, the level of the test."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from neuroprobe.statistics.profiles import nearest_units, principal_axes, profile_distance


def test_against_brute_force() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.dirichlet([1, 2, 3], 12), rng.dirichlet([2, 2, 1], 9)
    found = profile_distance(x, y, np.arange(12), np.arange(9), 0, rng)
    across = np.mean([np.linalg.norm(a - b) for a in x for b in y])
    within = [
        np.mean([np.linalg.norm(a - b) for i, a in enumerate(side) for j, b in enumerate(side) if i != j])
        for side in (x, y)
    ]
    assert found.energy**2 == pytest.approx(2 * across - sum(within))
    assert found.relative == pytest.approx((2 * across - sum(within)) / (2 * across))
    expected = [stats.ks_2samp(a, b).statistic for a, b in zip(x.T, y.T, strict=True)]
    np.testing.assert_allclose(found.kolmogorov, expected)
    assert found.p_value == 1


def test_ties_are_compared_behind_the_last() -> None:
    x, y = np.array([[0.0], [0], [1], [1]]), np.array([[0.0], [1], [1], [1]])
    found = profile_distance(x, y, np.arange(4), np.arange(4), 0, np.random.default_rng(0))
    assert found.kolmogorov.tolist() == [0.25]


def test_other_populations_are_told_apart() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.dirichlet([4, 1, 1], 50), rng.dirichlet([1, 4, 1], 40)
    found = profile_distance(x, y, np.arange(50), np.arange(40), 199, rng)
    assert found.p_value == pytest.approx(1 / 200)
    assert found.kolmogorov_p[0] == found.kolmogorov_p[1] == pytest.approx(1 / 200)
    assert found.kolmogorov_p[2] > 0.01


def test_the_level_holds_where_units_of_a_replicate_are_alike() -> None:
    """Channels of which each has ten units of nearly the same profile: units would be far too many samples."""
    rng = np.random.default_rng(2)
    by_replicate, by_unit = [], []
    for _ in range(120):
        x, y = (np.repeat(rng.dirichlet([1, 1], 6), 10, 0) + rng.normal(0, 0.01, (60, 2)) for _ in range(2))
        channel = np.repeat(np.arange(6), 10)
        by_replicate.append(profile_distance(x, y, channel, channel, 39, rng).p_value)
        by_unit.append(profile_distance(x, y, np.arange(60), np.arange(60), 39, rng).p_value)
    assert np.mean(np.array(by_replicate) <= 0.05) < 0.12
    assert np.mean(np.array(by_unit) <= 0.05) > 0.4


def test_nearest_units() -> None:
    x = np.array([[0.0, 1], [1, 0], [0.5, 0.5]])
    nearest, far = nearest_units(x, np.array([[0.9, 0.1], [0.0, 1]]))
    assert nearest.tolist() == [1, 0]
    np.testing.assert_allclose(far, [np.sqrt(0.02), 0])
    with pytest.raises(ValueError, match="profiles of 1 and 3 units"):
        profile_distance(x[:1], x, np.arange(1), np.arange(3), 9, np.random.default_rng(0))


def test_principal_axes_against_a_singular_value_decomposition() -> None:
    rng = np.random.default_rng(3)
    x = rng.dirichlet([1, 2, 3, 4], 30)
    found = principal_axes([x], 3)
    _, values, vectors = np.linalg.svd(x - x.mean(0))
    np.testing.assert_allclose(found.explained, (values**2 / (values**2).sum())[:3])
    np.testing.assert_allclose(np.abs(found.loading), np.abs(vectors[:3].T), atol=1e-12)
    assert (found.loading[np.abs(found.loading).argmax(0), range(3)] > 0).all()
    np.testing.assert_allclose(found.places(x).var(0), (values**2 / 30)[:3])


def test_large_populations_count_no_more_than_small_ones() -> None:
    rng = np.random.default_rng(4)
    x, y = rng.dirichlet([1, 2, 3], 30), rng.dirichlet([9, 1, 1], 5)
    found, same = principal_axes([x, y]), principal_axes([np.tile(x, (7, 1)), y, np.empty((0, 3))])
    for name in ("centre", "loading", "explained"):
        np.testing.assert_allclose(getattr(same, name), getattr(found, name), atol=1e-12)
    np.testing.assert_allclose(found.centre, (x.mean(0) + y.mean(0)) / 2)
    assert np.isnan(principal_axes([np.full((4, 3), 0.2)]).explained).all()
    with pytest.raises(ValueError, match="2 axes of 1 factors"):
        principal_axes([x[:, :1]])
