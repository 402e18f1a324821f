"""Streamed contrasts against scipy on the values at hand, in any blocks; and what they are under no effect."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from neuroprobe.statistics.contrast import ContrastTerms, difference, finalize
from neuroprobe.statistics.pick_freeze import PickFreezeAccumulator, state_bytes
from oracles import sums_of_rows

DRAWS, ALTERATIONS = 3, 2
TERMS = ContrastTerms(ALTERATIONS, draws=DRAWS)


def made(rng: np.random.Generator, n: int = 150, n_units: int = 40, effect: float = 0.2) -> np.ndarray:
    """Rectified responses (images, rows, units) with a share of zeros in both arms."""
    y = rng.normal(0, 1, (n, 1, n_units)) + rng.normal(0, 0.5, (n, TERMS.n_rows, n_units))
    y[:, 1:] += effect
    return np.maximum(y, 0)


def test_values_are_those_of_scipy(rng: np.random.Generator) -> None:
    y = made(rng)
    found = finalize(sums_of_rows(y, TERMS), TERMS)
    control = y[:, 0]
    for a in range(ALTERATIONS):
        treated = y[:, 1 + a * DRAWS : 1 + (a + 1) * DRAWS].mean(1)
        d = treated - control
        expected = {
            "mean_difference": d.mean(0),
            "mean_difference_se": stats.sem(d),
            "effect_size": d.mean(0) / d.std(0, ddof=1),
            "n_positive": (d > 0).sum(0),
            "n_negative": (d < 0).sum(0),
            "treatment_mean": treated.mean(0),
            "treatment_mean_se": stats.sem(treated),
        }
        for name, values in expected.items():
            np.testing.assert_allclose(found[name][a], values, rtol=1e-9, err_msg=name)
        np.testing.assert_allclose(found["p_value"][0, a], stats.ttest_rel(treated, control).pvalue, rtol=1e-8)
        signs = [
            stats.binomtest(int(p), int(p + n)).pvalue for p, n in zip((d > 0).sum(0), (d < 0).sum(0), strict=True)
        ]
        np.testing.assert_allclose(found["p_value"][1, a], signs, rtol=1e-9)
    np.testing.assert_allclose(found["control_mean"], control.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found["control_mean_se"], stats.sem(control), rtol=1e-9)
    assert (found["defined"] == 1).all()


@pytest.mark.parametrize("law", [stats.norm(0.4, 1), stats.expon(-0.7, 1), stats.beta(0.5, 3), stats.gamma(4)])
def test_error_of_the_effect_size_is_its_spread_over_repetitions(law, rng: np.random.Generator) -> None:
    """Of skewed differences too: that of normal ones would be wrong by up to a half."""
    d = law.rvs((400, 4000), random_state=rng)
    terms = ContrastTerms(1)
    found = finalize(sums_of_rows(np.stack([np.zeros_like(d), d], 1), terms), terms)
    assert np.median(found["effect_size_se"]) == pytest.approx(found["effect_size"].std(), rel=0.08)


@settings(max_examples=20)
@given(st.integers(2, 70), st.integers(1, 64))
def test_blocks_change_nothing_beyond_rounding(n: int, block: int) -> None:
    y = made(np.random.default_rng(n), n, 5)
    whole, blocks = finalize(sums_of_rows(y, TERMS), TERMS), finalize(sums_of_rows(y, TERMS, block=block), TERMS)
    for name, values in whole.items():
        np.testing.assert_allclose(blocks[name], values, rtol=1e-6, atol=1e-9, err_msg=name)


def test_draws_do_not_count_as_images(rng: np.random.Generator) -> None:
    """Ten draws of one alteration that are all alike say no more than one."""
    control, treated = rng.normal(0, 1, (2, 30, 1, 20)).astype(np.float32)
    one = finalize(sums_of_rows(np.concatenate([control, treated], 1), ContrastTerms(1)), ContrastTerms(1))
    rows, ten_terms = np.concatenate([control, treated.repeat(10, 1)], 1), ContrastTerms(1, draws=10)
    ten = finalize(sums_of_rows(rows, ten_terms), ten_terms)
    for name, values in one.items():
        np.testing.assert_allclose(ten[name], values, rtol=1e-9, err_msg=name)


def test_no_effect_gives_uniform_p_values(rng: np.random.Generator) -> None:
    y = made(rng, 200, 4000, effect=0.0) + rng.normal(0, 1, (200, TERMS.n_rows, 4000))
    p = finalize(sums_of_rows(y, TERMS), TERMS)["p_value"]
    assert stats.kstest(p[0, 0], "uniform").pvalue > 1e-4
    # the sign test is discrete: it rejects at most as often as it says
    assert (p[1, 0] < 0.05).mean() < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 4000)
    assert (p[1, 0] < 0.05).mean() > 0.02


def test_units_that_do_not_differ_are_not_defined(rng: np.random.Generator) -> None:
    """By unit and alteration: dead ones, those of one alteration only, and those that differ by rounding alone."""
    y = made(rng, n_units=4).astype(np.float32)
    y[..., 0] = 0
    y[:, 1 : 1 + DRAWS, 1] = y[:, :1, 1]
    y[:, 1:, 2] = np.nextafter(y[:, :1, 2], 9)
    found = finalize(sums_of_rows(y, TERMS, dtype=torch.float32), TERMS)
    np.testing.assert_array_equal(found["defined"], [[0, 0, 0, 1], [0, 1, 0, 1]])
    undefined = found["defined"] == 0
    for name in ("effect_size", "effect_size_se"):
        np.testing.assert_array_equal(np.isnan(found[name]), undefined)
    np.testing.assert_array_equal(np.isnan(found["p_value"]), np.stack([undefined, undefined]))
    for name in ("mean_difference", "mean_difference_se", "treatment_mean_se", "control_mean_se", "n_positive"):
        assert np.isfinite(found[name]).all()
    assert (found["mean_difference"][0, :2] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shift", [1.0, -1.0])
def test_an_effect_that_is_the_same_in_all_images_is_no_nan(shift: float, dtype: torch.dtype) -> None:
    terms = ContrastTerms(1)
    y = torch.rand(40, 1, 3, dtype=dtype, generator=torch.Generator().manual_seed(1)) * torch.tensor([0, 1, 1])
    rows = torch.cat([y, y + shift], 1)
    found = finalize(sums_of_rows(rows, terms, dtype=dtype), terms)
    assert (np.sign(found["effect_size"]) == np.sign(shift)).all()
    assert (np.abs(found["effect_size"]) > 1e4).all()
    assert (found["p_value"] < 1e-8).all()
    for name, values in found.items():
        assert np.isfinite(values).all(), name
    # of a constant, Cohen's d_z is a lower bound with the error that a normal one has
    np.testing.assert_allclose(found["effect_size_se"], np.abs(found["effect_size"]) / np.sqrt(80), rtol=1e-6)


def test_images_that_are_dropped_do_not_count(rng: np.random.Generator) -> None:
    terms = ContrastTerms(ALTERATIONS, draws=DRAWS, drop=True)
    y = made(rng, 90, 3)
    y[3:8, 2, 0] = np.nan
    y[5:7, 0, 1] = np.inf
    y[:, 0, 2] = np.nan
    found = finalize(sums_of_rows(y, terms, block=16), terms)
    assert found["n_dropped"].tolist() == [5, 2, 90]
    for unit, left_out in ((0, range(3, 8)), (1, range(5, 7))):
        expected = finalize(sums_of_rows(np.delete(y[..., unit : unit + 1], left_out, 0), TERMS), TERMS)
        for name, values in expected.items():
            np.testing.assert_allclose(found[name][..., unit], values[..., 0], rtol=1e-6, err_msg=name)
    assert np.isnan(found["p_value"][..., 2]).all()
    assert (found["defined"][:, 2] == 0).all()


def test_responses_that_are_not_finite_are_told(rng: np.random.Generator) -> None:
    for row, bad in itertools.product(range(TERMS.n_rows), (np.nan, np.inf)):
        y = torch.rand(1, TERMS.n_rows, 2)
        y[0, row, 1] = bad
        accumulator = PickFreezeAccumulator(TERMS, 2, 4)
        assert not accumulator.update(y.flatten(0, 1), torch.arange(TERMS.n_rows)[None])


def test_one_image_says_nothing_of_others() -> None:
    found = finalize(sums_of_rows(np.random.default_rng(0).random((1, TERMS.n_rows, 2)), TERMS), TERMS)
    assert (found["defined"] == 0).all()
    assert np.isnan(found["p_value"]).all()


def test_the_state_is_sums_only() -> None:
    sums = sums_of_rows(made(np.random.default_rng(1), 130, 7), TERMS)
    assert sums.square.shape == sums.cross.shape == (0, 7)
    assert sum(array.nbytes for array in sums.state().values() if array.ndim == 2) == 8 * TERMS.n_sums * 7
    # seven sums per alteration and two of the control: however many images and draws
    assert TERMS.n_sums == 7 * ALTERATIONS + 2
    assert state_bytes(TERMS, 7, 3) == 7 * (8 * 16 + 4 + 8 * 16 + 3 * (8 * 16 + 4))


def test_differences_that_are_none_are_0_however_many_draws() -> None:
    control = np.float64(0.1)
    assert difference(control, [control] * 7) == 0
