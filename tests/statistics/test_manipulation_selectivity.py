"""Selectivity for what is taken away from stimuli: the study's example, brute force, identities."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from neuroprobe.statistics.manipulation_selectivity import (
    Clamp,
    against_sham,
    clipped_losses,
    family_of,
    index_of,
    mirror_symmetry,
    ratio_of_sums,
    share_raised,
)

ORIGINAL = np.array([[1, 0.9, 0.8, 0.5, 0.3]])
ALTERED = np.array([[0.5, 0.45, 0.9, -0.1, 0]])
CLAMPS = ("none", "ratio", "final")


def made(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Rectified responses, largest first."""
    return -np.sort(-np.maximum(rng.normal(1, 1, shape), 0), axis=-1)


def brute_force(original: np.ndarray, altered: np.ndarray, clamp: str) -> float:
    """Index of one unit."""
    if not original.sum() > 0:
        return np.nan
    if clamp == "ratio":
        pairs = zip(original, altered, strict=True)
        return float(np.mean([1 - min(max(after / before, 0), 1) for before, after in pairs if before > 0]))
    index = 1 - altered.sum() / original.sum()
    return min(max(index, 0), 1) if clamp == "final" else index


def jackknife(original: np.ndarray, altered: np.ndarray, clamp: str) -> float:
    """Error of one unit, one stimulus left out at a time; clipped means leave out stimuli without a response."""
    if clamp == "ratio":
        original, altered = original[original > 0], altered[original > 0]
    n, unclipped = len(original), "none" if clamp == "final" else clamp
    left_out = [np.delete(np.stack([original, altered]), j, axis=1) for j in range(n)]
    values = np.array([brute_force(*pair, unclipped) for pair in left_out])
    return float(np.sqrt((n - 1) / n * ((values - values.mean()) ** 2).sum())) if n > 1 else np.nan


def test_the_studys_example() -> None:
    for clamp, value in (("none", 0.5), ("ratio", 0.6), ("final", 0.5)):
        assert index_of(ORIGINAL, ALTERED, clamp)[0].round(6).item() == value
    assert index_of(ORIGINAL, np.maximum(ALTERED, 0))[0].round(6).item() == 0.471429
    assert share_raised(ORIGINAL, ALTERED)[0].item() == 0.2
    # the largest response by which both are divided cancels
    assert index_of(3 * ORIGINAL, 3 * ALTERED)[0] == pytest.approx(0.5)


def test_pairs_are_images_and_not_ranks() -> None:
    original, altered = np.array([[4.0, 2.0]]), np.array([[1.0, 2.0]])
    assert index_of(original, altered, "ratio")[0] == (0.75 + 0) / 2
    assert index_of(original, altered[:, ::-1], "ratio")[0] == (0.5 + 0.5) / 2


@pytest.mark.parametrize("clamp", CLAMPS)
def test_identities(clamp: Clamp, rng: np.random.Generator) -> None:
    original = made(rng, 5, 20)
    for share, value in ((1.0, 0.0), (0.0, 1.0), (0.75, 0.25)):
        index, se = index_of(original, share * original, clamp)
        np.testing.assert_allclose(index, value, atol=1e-12)
        np.testing.assert_allclose(se, 0, atol=1e-7)
    assert (index_of(original, np.abs(rng.normal(size=(3, 5, 20))), clamp)[0] <= 1).all()
    raised = index_of(original, 2 * original, clamp)[0]
    np.testing.assert_allclose(raised, -1 if clamp == "none" else 0, atol=1e-12)
    assert (share_raised(original, 2 * original + 0.1)[0] == 1).all()
    assert (share_raised(original, original * (1 + 1e-7))[0] == 0).all()


@given(st.integers(0, 10**6), st.integers(1, 9), st.sampled_from(CLAMPS))
def test_index_and_error_are_those_of_brute_force(seed: int, n: int, clamp: Clamp) -> None:
    rng = np.random.default_rng(seed)
    original, altered = made(rng, 4, n), rng.normal(0.5, 1, (3, 4, n))
    original[0] = 0
    index, se = index_of(original, altered, clamp)
    share, share_se = share_raised(original, altered)
    for at in np.ndindex(3, 4):
        before, after = original[at[1]], altered[at]
        np.testing.assert_allclose(index[at], brute_force(before, after, clamp), atol=1e-12)
        active = (before > 0).sum()
        if active > 1:
            np.testing.assert_allclose(se[at], jackknife(before, after, clamp), rtol=1e-6, atol=1e-12)
        else:
            assert np.isnan(se[at])
        if active:
            raised = after > before + 1e-6 * before.max()
            assert share[at] == pytest.approx(raised.mean())
            np.testing.assert_allclose(share_se[at], stats.sem(raised) if n > 1 else np.nan, atol=1e-12)
        else:
            assert np.isnan([share[at], share_se[at]]).all()


def test_the_error_is_that_of_the_delta_method_and_of_drawing_again(rng: np.random.Generator) -> None:
    runs, n = 3000, 80
    original = rng.gamma(4, size=(runs, n))
    altered = original * rng.beta(2, 3, (runs, n))
    index, se = index_of(original, altered)
    residual = altered - (1 - index)[:, None] * original
    delta = np.sqrt(n / (n - 1) * (residual**2).sum(1)) / original.sum(1)
    np.testing.assert_allclose(se, delta, rtol=0.05)
    assert np.sqrt((se**2).mean()) == pytest.approx(index.std(), rel=0.06)


@pytest.mark.parametrize("clamp", CLAMPS)
def test_a_family_is_its_members(clamp: Clamp, rng: np.random.Generator) -> None:
    original, altered = made(rng, 6, 12), rng.normal(0.5, 1, (4, 6, 12))
    original[2] = 0
    altered[3] = altered[1]
    found = family_of(original, altered, clamp)
    for number in range(4):
        index, se = index_of(original, altered[number], clamp)
        np.testing.assert_array_equal(found.index[number], index)
        np.testing.assert_array_equal(found.se[number], se)
    np.testing.assert_allclose(found.mean, found.index.mean(0))
    for unit in range(6):
        if unit == 2:
            assert found.weakest[unit] == -1
            assert np.isnan([found.mean[unit], found.mean_se[unit]]).all()
            continue
        assert found.weakest[unit] == found.index[:, unit].tolist().index(found.index[:, unit].min())
        before = original[unit]
        if clamp == "ratio":
            lost = clipped_losses(before[before > 0], altered[:, unit][:, before > 0]).mean(0)
            assert found.mean_se[unit] == pytest.approx(stats.sem(lost))
        else:
            assert found.mean_se[unit] == pytest.approx(jackknife(before, altered[:, unit].mean(0), "none"))


def test_mirror_symmetry_is_what_is_left(rng: np.random.Generator) -> None:
    original, altered = made(rng, 4, 10), np.abs(rng.normal(1, 1, (4, 4, 10)))
    value, se = mirror_symmetry(original, altered)
    np.testing.assert_allclose(value, altered.sum(-1) / original.sum(-1))
    np.testing.assert_array_equal(se, index_of(original, altered)[1])
    assert mirror_symmetry(original, 3 * original, "final")[0].tolist() == [1] * 4
    np.testing.assert_allclose(mirror_symmetry(original, original)[0], 1)


@given(st.integers(0, 10**6), st.integers(1, 6), st.sampled_from(CLAMPS))
def test_sham_alterations_are_compared_by_counting(seed: int, n_draws: int, clamp: Clamp) -> None:
    rng = np.random.default_rng(seed)
    original, altered = made(rng, 3, 8), rng.normal(0.4, 0.6, (2, 3, 8))
    sham = rng.normal(0.5, 0.6, (n_draws, 2, 3, 8))
    sham[0] = altered  # one that ties
    original[1] = 0
    found = against_sham(original, altered, sham, clamp)
    for at in np.ndindex(2, 3):
        unit = at[1]
        if unit == 1 or not original[unit].any():
            assert np.isnan([found.sham[at], found.corrected[at], found.p_value[at], found.se[at]]).all()
            continue
        draws = [brute_force(original[unit], sham[(number, *at)], clamp) for number in range(n_draws)]
        index = brute_force(original[unit], altered[at], clamp)
        assert found.sham[at] == pytest.approx(np.mean(draws))
        assert found.corrected[at] == pytest.approx(index - np.mean(draws))
        assert found.p_value[at] == (1 + sum(draw > index - 1e-9 for draw in draws)) / (1 + n_draws)
        assert found.p_value[at] >= 2 / (1 + n_draws)
        np.testing.assert_allclose(found.sham_deviation[at], np.std(draws, ddof=1) if n_draws > 1 else np.nan)


def test_errors_of_what_a_sham_corrects(rng: np.random.Generator) -> None:
    """Of a sham that is the identity those of the index; of one that is the alteration itself, none."""
    original, altered = made(rng, 5, 15) + 0.1, np.abs(rng.normal(0.5, 0.3, (5, 15)))
    for clamp in CLAMPS:
        index, se = index_of(original, altered, clamp)
        found = against_sham(original, altered, np.stack([original] * 3), clamp)
        np.testing.assert_allclose(found.sham, 0, atol=1e-12)
        np.testing.assert_allclose(found.corrected, index)
        np.testing.assert_allclose(found.se, se)
        assert (found.p_value == 0.25).all()
        same = against_sham(original, altered, altered[None], clamp)
        np.testing.assert_allclose(same.se, 0, atol=1e-12)
        assert (same.p_value == 1).all()


def test_p_values_of_one_sham_among_others_are_uniform(rng: np.random.Generator) -> None:
    original = made(rng, 800, 10) + 0.1
    draws = original * rng.random((20, 800, 10))
    p = against_sham(original, draws[0], draws[1:]).p_value
    for level in (0.05, 0.25, 0.5):
        assert (p <= level).mean() == pytest.approx(level, abs=4 * np.sqrt(level * (1 - level) / 800))


def test_units_without_a_response_and_unread_ones_are_missing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for clamp in CLAMPS:
            index, se = index_of(np.zeros((2, 3)), np.ones((2, 3)), clamp)
            assert np.isnan([index, se]).all()
        ratio, se = ratio_of_sums(np.array([1.0, np.nan]), np.array([1.0, 1.0]))
        assert np.isnan([ratio, se]).all()
        # all of the response is that of one stimulus
        ratio, se = ratio_of_sums(np.array([0.5, 0.0]), np.array([1.0, 0.0]))
        assert (ratio, np.isnan(se)) == (0.5, True)
