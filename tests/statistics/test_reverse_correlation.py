"""Fields of planted units come out; sums do not depend on how presentations are cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from neuroprobe.statistics.reverse_correlation import ReverseCorrelation, fit_gabors, whitened

Array = NDArray[np.float64]
SIDE = 20


def planted(n: int, rng: np.random.Generator) -> tuple[dict[str, Array], Array]:
    """Gabor functions and their parameters."""
    true = {
        "x": rng.uniform(-3, 3, n),
        "y": rng.uniform(-3, 3, n),
        "sd_along": rng.uniform(1.5, 3, n),
        "sd_across": rng.uniform(1.5, 3, n),
        "orientation": rng.uniform(0, 180, n),
        "frequency": rng.uniform(0.08, 0.22, n),
        "phase": rng.uniform(-180, 180, n),
    }
    half = (SIDE - 1) / 2
    y, x = np.meshgrid(np.linspace(half, -half, SIDE), np.linspace(-half, half, SIDE), indexing="ij")
    across = np.deg2rad(true["orientation"] - 90)[:, None, None]
    dx, dy = x - true["x"][:, None, None], y - true["y"][:, None, None]
    u, v = dx * np.cos(across) + dy * np.sin(across), dy * np.cos(across) - dx * np.sin(across)
    sd_u, sd_v = true["sd_along"][:, None, None], true["sd_across"][:, None, None]
    phase, frequency = np.deg2rad(true["phase"])[:, None, None], true["frequency"][:, None, None]
    return true, np.exp(-(u**2) / 2 / sd_u**2 - v**2 / 2 / sd_v**2) * np.cos(2 * np.pi * frequency * u + phase)


def off_by(name: str, found: Array, true: Array) -> Array:
    """Differences; of angles the smaller way round, of phases also those of a carrier that runs the other way."""
    period = {"orientation": 180.0, "phase": 360.0}.get(name)
    difference = found - true
    return difference if period is None else (difference + period / 2) % period - period / 2


@given(st.integers(0, 10**6), st.lists(st.integers(0, 60), max_size=4))
def test_sums_do_not_depend_on_the_cut(seed: int, cuts: list[int]) -> None:
    rng = np.random.default_rng(seed)
    stimuli, responses = rng.normal(3, 1, (60, 5)), rng.normal(-2, 1, (60, 3))
    whole, merged = ReverseCorrelation(5, 3), ReverseCorrelation(5, 3)
    whole.consume(stimuli, responses)
    for rows in np.split(np.arange(60), sorted(cuts)):
        part = ReverseCorrelation(5, 3)
        part.consume(stimuli[rows], responses[rows])
        merged.merge(part)
    for name in ("slope", "slope_se", "correlation", "p_value"):
        np.testing.assert_allclose(getattr(merged, name), getattr(whole, name), rtol=1e-9)
    for unit in range(3):
        for pixel in range(5):
            theirs = stats.linregress(stimuli[:, pixel], responses[:, unit])
            assert whole.slope[unit, pixel] == pytest.approx(theirs.slope)
            assert whole.slope_se[unit, pixel] == pytest.approx(theirs.stderr)
            assert whole.correlation[unit, pixel] == pytest.approx(theirs.rvalue)


def test_units_without_field_are_found_at_the_level(rng: np.random.Generator) -> None:
    sums = ReverseCorrelation(30, 4000)
    sums.consume(rng.choice([-1.0, 1.0], (400, 30)), rng.normal(size=(400, 4000)))
    share = (sums.p_value < 0.05).mean()
    assert stats.binomtest(round(share * 4000), 4000, 0.05).pvalue > 1e-3


def test_what_does_not_vary_has_no_field() -> None:
    sums = ReverseCorrelation(3, 2)
    sums.consume(np.array([[0.0, 1, 2], [0, 2, 1], [0, 3, 5]]), np.array([[1.0, 4], [1, 5], [1, 1]]))
    assert np.isnan(sums.slope[:, 0]).all()
    assert np.isnan(sums.p_value[0])
    assert np.isfinite(sums.p_value[1])


def test_correlated_pixels_are_whitened(rng: np.random.Generator) -> None:
    stimuli = rng.normal(size=(40_000, 6)) @ (np.eye(6) + 0.8 * np.eye(6, k=1))
    weights = rng.normal(size=(6, 2))
    sums = ReverseCorrelation(6, 2)
    sums.consume(stimuli, stimuli @ weights)
    assert np.abs(sums.slope - weights.T).max() > 0.1
    np.testing.assert_allclose(whitened(sums.slope, stimuli, 0.0), weights.T, atol=1e-8)


def test_gabors_come_out_as_planted(rng: np.random.Generator) -> None:
    true, maps = planted(60, rng)
    found = fit_gabors(3 * maps)
    assert found.converged.all()
    np.testing.assert_allclose(found.r_squared, 1, atol=1e-8)
    np.testing.assert_allclose(found.curve, 3 * maps, atol=1e-5)
    np.testing.assert_allclose(found.parameters["amplitude"], 3, atol=1e-5)
    for name in ("x", "y", "sd_along", "sd_across", "frequency", "orientation"):
        np.testing.assert_allclose(off_by(name, found.parameters[name], true[name]), 0, atol=1e-4)
    # the same function with the carrier running the other way has the other sign of phase
    phase = np.minimum(*(np.abs(off_by("phase", found.parameters["phase"], sign * true["phase"])) for sign in (1, -1)))
    np.testing.assert_allclose(phase, 0, atol=1e-2)


def test_errors_of_fits_are_those_of_noise(rng: np.random.Generator) -> None:
    true, maps = planted(250, rng)
    found = fit_gabors(maps + rng.normal(0, 0.05, maps.shape))
    assert found.converged.mean() > 0.98
    for name in ("x", "y", "sd_along", "sd_across", "orientation"):
        inside = np.abs(off_by(name, found.parameters[name], true[name])) < 1.96 * found.se[name]
        assert 0.88 < inside[found.converged].mean() <= 1, name


def test_maps_of_nothing_are_not_fitted() -> None:
    maps = np.zeros((3, 9, 9))
    maps[1, 2, 3] = np.nan
    y, x = np.mgrid[4:-5:-1, -4:5]
    maps[2] = np.exp(-(x**2 + (y - 1) ** 2) / 2)
    found = fit_gabors(maps)
    assert found.converged.tolist() == [False, False, True]
    assert np.isnan(found.parameters["x"][:2]).all()
    assert found.parameters["x"][2] == pytest.approx(0, abs=1e-3)
    assert found.parameters["y"][2] == pytest.approx(1, abs=1e-3)
