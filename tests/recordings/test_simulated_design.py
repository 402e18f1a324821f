"""Planted and enumerated indices, and that estimators find the truth of simulated animals within their errors."""

import itertools

import numpy as np
import pytest

from neuroprobe.recordings.simulated import Noise, Timing, simulate_animal
from neuroprobe.recordings.simulated_design import exact_effects, pick_freeze_experiment, planted_units
from neuroprobe.recordings.simulated_units import factorial_table, tuned_units
from neuroprobe.statistics.conditions import curves_of, repetitions
from neuroprobe.statistics.cross_repeat import explainable_indices, explainable_shapley
from neuroprobe.statistics.factorial import factorial_anova
from neuroprobe.statistics.given_data import binned_first_order
from neuroprobe.statistics.given_shapley import neighbours_of, shapley_effects
from neuroprobe.statistics.reliability import fano_factor, signal_power
from neuroprobe.statistics.tuning_bootstrap import bootstrap_means, interval, refit
from neuroprobe.statistics.tuning_fits import fit_tuning

FACTORS = ["hue", "blur", "noise"]


def test_exact_effects_against_permutations(rng: np.random.Generator) -> None:
    """Shapley effects as the mean over all orders in which factors are told."""
    values = rng.normal(size=(2, 3, 4, 2))
    found = exact_effects(values)

    def told(subset: tuple[int, ...]) -> np.ndarray:
        others = tuple(set(range(3)) - set(subset))
        return values.mean(axis=others, keepdims=True).reshape(-1, 2).var(axis=0)

    expected = np.zeros((3, 2))
    for order in itertools.permutations(range(3)):
        for at, factor in enumerate(order):
            expected[factor] += (told(order[: at + 1]) - told(order[:at])) / 6
    np.testing.assert_allclose(found.shapley_effect, expected / values.reshape(-1, 2).var(0))
    np.testing.assert_allclose(found.shapley_effect.sum(0), 1)
    assert (found.first_order <= found.total_order + 1e-12).all()
    assert np.isnan(exact_effects(np.ones((2, 2, 1))).first_order).all()


def test_planted_effects_are_there() -> None:
    """Against enumeration on a grid of midpoints, of which the variance lacks 1 in n²."""
    units, n = planted_units(6, FACTORS, seed=3), 24
    grid = (np.arange(n) + 0.5) / n
    rates = units.rate(factorial_table(dict.fromkeys(FACTORS, grid)))
    assert rates.min() > 0
    assert rates.mean(0) == pytest.approx(units.truth.mean_rate.values)
    found = exact_effects(rates.reshape(n, n, n, 6))
    for name in ("first_order", "total_order", "shapley_effect"):
        np.testing.assert_allclose(getattr(found, name), units.truth[name], atol=2e-3)
    second = units.truth.second_order.values
    np.testing.assert_allclose(units.truth.first_order.sum("factor") + np.nansum(second, (0, 1)) / 2, 1)
    (alone,) = planted_units(1, ["hue"]).truth.first_order.values
    assert alone == pytest.approx(1)


def test_rows_of_the_experiment_are_where_they_belong() -> None:
    """Noise-free rows give the plain estimators' terms: A with one factor from B differs in that factor alone."""
    made = pick_freeze_experiment(FACTORS, 16, seed=1)
    table = np.stack([made.table[name] for name in FACTORS], -1).reshape(1, 16, -1, 3)
    a, b, e, c = made.of_sobol(table)
    for factor in range(3):
        others = np.arange(3) != factor
        np.testing.assert_array_equal(e[factor][..., factor], b[..., factor])
        np.testing.assert_array_equal(e[factor][..., others], a[..., others])
        np.testing.assert_array_equal(c[factor][..., factor], a[..., factor])
        np.testing.assert_array_equal(c[factor][..., others], b[..., others])
    walks, permutation = made.of_walks(table)
    for step in range(3):
        swapped = permutation[:, step]
        changed = walks[step + 1, 0] != walks[step, 0]
        assert (changed.argmax(-1) == swapped).all()
        assert (changed.sum(-1) == 1).all()
    assert made.block.tolist() == [0] * 16


def test_indices_of_the_explainable_variance_are_found() -> None:
    made = pick_freeze_experiment(FACTORS, 256, seed=2)
    units = planted_units(60, FACTORS, seed=2)
    animal = simulate_animal(units, made.table, n_repeats=2, noise=Noise(gain_variance=0.05), seed=2)
    assert animal.trials.columns["role"].tolist().count("A_hue") == 512
    rows = made.rows(animal)
    # one presentation after the other, by the table itself
    trial = np.flatnonzero(animal.condition == 9)
    np.testing.assert_array_equal(rows[:, 1, 1], animal.counts[trial])
    sobol = explainable_indices(*made.of_sobol(rows))
    shapley = explainable_shapley(*made.of_walks(rows))
    truth = units.truth
    for estimate, exact in (
        (sobol.first_order, truth.first_order),
        (sobol.total_order, truth.total_order),
        (sobol.second_order, truth.second_order),
        (shapley.shapley_effect, truth.shapley_effect),
    ):
        z = (estimate.value - exact.values) / estimate.se
        z = z[np.isfinite(z)]
        # of each sample on its own, errors are an upper bound: scrambled sequences do better
        assert 0.6 < np.sqrt((z**2).mean()) < 1.2
        assert np.abs(z).max() < 5
    assert np.median(np.abs(sobol.explainable / animal.truth.explainable.values - 1)) < 0.1


def test_powers_are_found() -> None:
    units = tuned_units(100, {"orientation": "von_mises"}, seed=4)
    shown = {"orientation": np.arange(0, 180, 15.0)}
    z = []
    for seed in range(10):
        animal = simulate_animal(units, shown, n_repeats=8, noise=Noise(gain_variance=0.1), seed=seed)
        found = signal_power(repetitions(animal.counts, animal.condition, 12))
        z.append([found.signal, found.noise, found.explainable, found.ceiling])
    mean, spread = np.mean(z, axis=0), np.std(z, axis=0, ddof=1) / np.sqrt(10)
    for row, name in enumerate(("signal_power", "noise_power", "explainable", "ceiling")):
        away = (mean[row] - animal.truth[name].values) / np.where(spread[row] > 0, spread[row], np.nan)
        # a mean over 100 units of t-distributed values, whose standard deviation is 1.13
        assert abs(np.nanmean(away)) < 0.6, name
    fano = fano_factor(curves_of(animal.counts, animal.condition, 12))[0].value
    assert fano.mean() == pytest.approx(animal.truth.fano_factor.mean().item(), rel=0.05)


def test_tuning_is_found() -> None:
    units = tuned_units(100, {"orientation": "von_mises"}, seed=5, amplitude=(30, 60))
    angles = np.arange(0, 180, 15.0)
    animal = simulate_animal(units, {"orientation": angles}, n_repeats=12, n_blanks=5, timing=Timing(transient=1))
    curves = curves_of(animal.counts, animal.condition, 12)
    fit = fit_tuning("von_mises", angles, curves.mean, curves.n, curves.variance)
    assert fit.defined.all()
    random = np.random.default_rng(0)
    draws = refit(fit, angles, bootstrap_means(animal.counts, animal.condition, 12, 60, random), curves.n)
    for name, truth, period in (
        ("preferred", "orientation_preferred", 180.0),
        ("hwhm", "orientation_hwhm", 0.0),
    ):
        value = (fit.parameters | fit.derived)[name]
        away = value - units.truth[truth].values
        away = np.mod(away + 90, 180) - 90 if period else away
        z = away / interval(value, draws[name], period=period).se
        assert np.abs(np.nanmedian(z)) < 0.4, name
        assert np.nanmean(np.abs(z) < 1.96) > 0.85, name


def test_given_data_finds_factorial_effects() -> None:
    levels = {"orientation": np.arange(0, 180, 30.0), "contrast": np.array([0.1, 0.3, 1.0])}
    table = factorial_table(levels)
    units = tuned_units(50, {"orientation": "von_mises", "contrast": "naka_rushton"}, seed=6, amplitude=(30, 90))
    animal = simulate_animal(units, table, n_repeats=20, noise=Noise(gain_variance=0.05))
    exact = exact_effects(animal.truth.expected.values.reshape(6, 3, 50))
    # of levels that are all of interest, the variance is that of n and not of n − 1
    share = exact.variance / (exact.variance + animal.truth.noise_power.values)
    factors = np.stack([animal.trials.columns[name] for name in levels], axis=1)
    by_bin = binned_first_order(factors, animal.counts)
    codes = np.stack([np.unique(column, return_inverse=True)[1] for column in factors.T], axis=1)
    by_anova = factorial_anova(animal.counts, codes).omega_squared[:2]
    for found in (by_bin, by_anova):
        away = found - exact.first_order * share
        assert np.abs(away.mean(1)).max() < 0.02
        assert np.abs(away).max() < 0.15
    by_neighbour = shapley_effects(neighbours_of(factors, 4, np.random.default_rng(0)), animal.counts)
    away = by_neighbour.effect - exact.shapley_effect * share
    assert np.abs(away.mean(1)).max() < 0.03
