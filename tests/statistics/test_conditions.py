"""Trials by condition, against loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuroprobe.statistics.conditions import curves_of, repetitions, resampled


def made(seed: int, n: int, n_conditions: int, missing: bool = True) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    condition = rng.integers(-1, n_conditions, n)
    values = rng.normal(5, 2, (n, 3))
    if missing:
        values[rng.random((n, 3)) < 0.2] = np.nan
    return values, condition


@given(st.integers(0, 10**6), st.integers(0, 30), st.integers(1, 5), st.booleans())
def test_curves_are_those_of_a_loop(seed: int, n: int, n_conditions: int, missing: bool) -> None:
    values, condition = made(seed, n, n_conditions, missing)
    found = curves_of(values, condition, n_conditions)
    for k, unit in np.ndindex(n_conditions, 3):
        own = values[condition == k, unit]
        own = own[~np.isnan(own)]
        assert found.n[k, unit] == len(own)
        assert np.isnan(found.mean[k, unit]) == (len(own) == 0)
        assert np.isnan(found.variance[k, unit]) == np.isnan(found.se[k, unit]) == (len(own) < 2)
        if len(own):
            assert found.mean[k, unit] == pytest.approx(own.mean())
        if len(own) > 1:
            assert found.variance[k, unit] == pytest.approx(own.var(ddof=1))
            assert found.se[k, unit] == pytest.approx(own.std(ddof=1) / np.sqrt(len(own)))


@given(st.integers(0, 10**6), st.integers(0, 30), st.integers(1, 5))
def test_repetitions_hold_every_trial_once_in_order(seed: int, n: int, n_conditions: int) -> None:
    values, condition = made(seed, n, n_conditions, missing=False)
    found = repetitions(values, condition, n_conditions)
    for k in range(n_conditions):
        own = values[condition == k]
        assert np.array_equal(found[: len(own), k], own)
        assert np.isnan(found[len(own) :, k]).all()


@given(st.integers(0, 10**6), st.integers(0, 30), st.integers(1, 5))
def test_draws_keep_the_conditions(seed: int, n: int, n_conditions: int) -> None:
    _, condition = made(seed, n, n_conditions)
    drawn = resampled(condition, n_conditions, 20, np.random.default_rng(seed))
    assert drawn.shape == (20, n)
    assert (condition[drawn] == condition).all()


def test_draws_are_uniform_within_conditions(rng: np.random.Generator) -> None:
    drawn = resampled(np.array([0, 1, 0, 1, 1]), 2, 20000, rng)
    for column, members in ((0, [0, 2]), (1, [1, 3, 4])):
        share = np.bincount(drawn[:, column], minlength=5) / 20000
        assert share[members] == pytest.approx(1 / len(members), abs=0.02)


@pytest.mark.parametrize(
    ("condition", "message"),
    [([0, 1], "one condition"), ([0.0, 1.0, 1.0], "integers"), ([0, 1, 2], "0 to 1"), ([0, 1, -2], "0 to 1")],
)
def test_wrong_conditions_are_refused(condition: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        curves_of(np.zeros((3, 1)), np.array(condition), 2)
