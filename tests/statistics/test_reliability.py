"""Reliability against known signals and noise, plain loops, and the analysis of variance."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from neuroprobe.statistics import reliability
from neuroprobe.statistics.conditions import curves_of
from neuroprobe.statistics.trials import one_way_of


def simulated(
    rng: np.random.Generator, n_repeats: int, n_stimuli: int, n_units: int, noise: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Responses (repetitions, stimuli, units), their signal, and the same as trials with conditions."""
    signal = rng.normal(0, 1, (n_stimuli, n_units))
    responses = 10 + signal + rng.normal(0, noise, (n_repeats, n_stimuli, n_units))
    return responses, signal, responses.reshape(-1, n_units), np.tile(np.arange(n_stimuli), n_repeats)


def test_check_value_of_spearman_and_brown() -> None:
    assert reliability.spearman_brown(np.array([0.6])).round(12) == 0.75
    assert reliability.spearman_brown(np.array([0.5]), 3) == pytest.approx(0.75)
    assert np.isnan(reliability.spearman_brown(np.array([-1.0])))


@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 5))
def test_halves_share_no_trial_and_are_equal(seed: int, n: int, n_conditions: int) -> None:
    rng = np.random.default_rng(seed)
    condition = rng.integers(-1, n_conditions, n * n_conditions)
    one, other = reliability.halves(condition, n_conditions, rng)
    of_each = np.bincount(condition[condition >= 0], minlength=n_conditions)
    assert (one.sum(1) == of_each // 2).all()
    assert (other.sum(1) == of_each // 2).all()
    assert (one * other == 0).all()
    for half in (one, other):
        assert (half.sum(0) <= 1).all()
        assert (condition[half.any(0)] == half[:, half.any(0)].argmax(0)).all()


@given(st.integers(0, 10**6), st.integers(0, 12))
def test_correlations_are_those_of_numpy(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(1e3, 1, (2, n, 4))
    a[rng.random((n, 4)) < 0.2] = np.nan
    b[:, 3] = 0.1
    found = reliability.correlation_of(a, b)
    assert np.isnan(found[3])
    for unit in range(3):
        kept = ~np.isnan(a[:, unit])
        if kept.sum() < 3:
            assert np.isnan(found[unit])
        else:
            assert found[unit] == pytest.approx(np.corrcoef(a[kept, unit], b[kept, unit])[0, 1])


def test_split_halves_find_the_reliability(rng: np.random.Generator) -> None:
    """Signal 1 and noise 4 over 8 trials: of halves 1 / (1 + 4 / 4), of all 1 / (1 + 4 / 8)."""
    _, signal, trials, condition = simulated(rng, 8, 200, 60, 2)
    found = reliability.split_half(trials, condition, 200, 20, rng)
    assert found.correlation.mean() == pytest.approx(1 / 2, abs=0.02)
    assert found.reliability.mean() == pytest.approx(2 / 3, abs=0.02)
    assert found.ceiling == pytest.approx(np.sqrt(found.reliability))
    best = reliability.correlation_of(signal, curves_of(trials, condition, 200).mean)
    assert found.ceiling.mean() == pytest.approx(best.mean(), abs=0.02)
    assert (found.spread > 0).all()


def test_split_halves_of_few_or_constant_trials_are_undefined(rng: np.random.Generator) -> None:
    _, _, trials, condition = simulated(rng, 2, 5, 2, 1)
    trials[:, 1] = 4.2
    found = reliability.split_half(trials, condition, 5, 3, rng)
    assert np.isfinite(found.correlation[0])
    assert np.isnan([found.correlation[1], found.reliability[1], found.ceiling[1]]).all()
    single = reliability.split_half(trials[:5], condition[:5], 5, 3, rng)
    assert np.isnan(single.correlation).all()
    noise = reliability.split_half(rng.normal(size=(40, 50)), np.tile(np.arange(10), 4), 10, 20, rng)
    assert np.isnan(noise.ceiling[noise.reliability <= 0]).all()
    assert 0 < (noise.reliability <= 0).sum() < 50


def test_powers_are_the_formula_and_free_of_bias(rng: np.random.Generator) -> None:
    responses, signal, trials, condition = simulated(rng, 4, 50, 400, 1.5)
    found = reliability.signal_power(responses)
    expected = (4 * responses.mean(0).var(0, ddof=1) - responses.var(1, ddof=1).mean(0)) / 3
    assert np.allclose(found.signal, expected)
    assert np.allclose(found.noise, responses.var(1, ddof=1).mean(0) - expected)
    assert found.signal.mean() == pytest.approx(1, abs=0.04)
    assert found.noise.mean() == pytest.approx(2.25, abs=0.05)
    assert found.explainable.mean() == pytest.approx(1 / 3.25, abs=0.01)
    best = reliability.correlation_of(signal, responses.mean(0))
    assert found.ceiling.mean() == pytest.approx(best.mean(), abs=0.01)
    for value, se in (
        (found.signal, found.signal_se),
        (found.noise, found.noise_se),
        (found.explainable, found.explainable_se),
    ):
        assert np.median(se) == pytest.approx(value.std(), rel=0.15)
    other = reliability.signal_power_of(curves_of(trials, condition, 50))
    assert np.corrcoef(other.signal, found.signal)[0, 1] > 0.995  # they differ by what repetitions share
    assert other.signal.mean() == pytest.approx(found.signal.mean(), abs=0.005)
    assert np.median(other.signal_se) == pytest.approx(np.median(found.signal_se), rel=0.05)


def test_powers_of_unequal_trials_are_those_of_the_analysis_of_variance(rng: np.random.Generator) -> None:
    condition = rng.permutation(np.repeat(np.arange(20), rng.integers(1, 8, 20)))
    signal = rng.normal(0, 1, (20, 600))
    values = signal[condition] + rng.normal(0, 1.5, (len(condition), 600))
    curves = curves_of(values, condition, 20)
    found = reliability.signal_power_of(curves)
    assert found.signal.mean() == pytest.approx(1, abs=0.05)
    assert found.noise.mean() == pytest.approx(2.25, abs=0.05)
    anova = one_way_of(curves)
    n = np.bincount(condition)
    size = (n.sum() - (n**2).sum() / n.sum()) / 19
    assert np.allclose(found.signal, found.noise * (anova.statistic - 1) / size)
    assert np.median(found.signal_se) == pytest.approx(found.signal.std(), rel=0.15)


def test_powers_that_are_undefined(rng: np.random.Generator) -> None:
    responses, _, trials, condition = simulated(rng, 3, 6, 2, 1)
    responses[0, 2, 1] = np.nan
    found = reliability.signal_power(responses)
    assert np.isnan([found.signal[1], found.noise[1], found.ceiling[1]]).all()
    assert np.isfinite(found.signal[0])
    assert np.isnan(reliability.signal_power(responses[:1]).signal).all()
    assert np.isnan(reliability.signal_power_of(curves_of(trials[:6], condition[:6], 6)).signal).all()
    flat = reliability.signal_power(np.full((3, 6, 1), 5.0))
    assert flat.signal == 0
    assert np.isnan([flat.explainable, flat.ceiling]).all()


def test_perfect_models_reach_the_ceiling(rng: np.random.Generator) -> None:
    responses, signal, _, _ = simulated(rng, 5, 300, 200, 2)
    cc, norm = reliability.cc_norm(signal, responses)
    assert norm.mean() == pytest.approx(1, abs=0.02)
    assert cc.mean() < 0.8
    power, mean = reliability.signal_power(responses).signal, responses.mean(0)
    covariance = [np.cov(signal[:, i], mean[:, i])[0, 1] for i in range(200)]
    assert norm == pytest.approx(covariance / np.sqrt(signal.var(0, ddof=1) * power))
    half_right = signal + rng.normal(0, 1, signal.shape)
    assert reliability.cc_norm(half_right, responses)[1].mean() == pytest.approx(np.sqrt(0.5), abs=0.02)
    without = reliability.cc_norm(signal, rng.normal(size=responses.shape))[1]
    assert np.isnan(without).any()
    assert np.isnan(reliability.cc_norm(np.ones((300, 1)), responses)[1]).all()


def test_fano_factors(rng: np.random.Generator) -> None:
    condition = np.repeat(np.arange(10), 200)
    rate = np.linspace(0, 20, 10)[condition][:, None]
    counts = np.concatenate([rng.poisson(rate), 2 * rng.poisson(rate)], axis=1)
    value, by_condition = reliability.fano_factor(curves_of(counts, condition, 10))
    assert value.value == pytest.approx([1, 2], abs=0.1)
    assert np.isnan(by_condition[0]).all()
    assert value.se == pytest.approx(np.nanstd(by_condition, 0, ddof=1) / 3)
    silent, _ = reliability.fano_factor(curves_of(np.zeros((2000, 1)), condition, 10))
    assert np.isnan([silent.value, silent.se]).all()


def test_signal_and_noise_correlations_are_told_apart(rng: np.random.Generator) -> None:
    """Tuning that is alike by .8, noise that is shared by .5; and the other way round."""
    n_stimuli, n_repeats = 400, 6
    common, noise = rng.normal(size=(n_stimuli, 1)), rng.normal(size=(n_repeats, n_stimuli, 1))
    signal = np.sqrt([0.8, 0.8, 0]) * common + np.sqrt([0.2, 0.2, 1]) * rng.normal(size=(n_stimuli, 3))
    shared = np.sqrt([0.5, 0, 0.5]) * noise + np.sqrt([0.5, 1, 0.5]) * rng.normal(size=(n_repeats, n_stimuli, 3))
    trials = (signal + shared).reshape(-1, 3)
    condition = np.tile(np.arange(n_stimuli), n_repeats)
    found = reliability.signal_correlation(trials, condition, n_stimuli, 10, rng)
    assert np.diag(found.corrected) == pytest.approx(1)
    assert found.corrected[0, 1:] == pytest.approx([0.8, 0], abs=0.12)
    attenuation = 1 / (1 + 1 / 3)
    assert found.correlation[0, :2] == pytest.approx([attenuation, 0.8 * attenuation], abs=0.08)
    assert np.allclose(found.correlation, found.correlation.T)
    together = reliability.noise_correlation(trials, condition, n_stimuli)
    assert np.diag(together.value) == pytest.approx(1)
    assert together.value[0, 1:] == pytest.approx([0, 0.5], abs=0.06)
    plain = np.corrcoef(curves_of(trials, condition, n_stimuli).mean.T)
    assert plain[0, 2] > 0.05 + abs(found.correlation[0, 2])  # what noise adds where trials are not disjoint


def test_noise_correlations_of_what_is_missing_and_their_errors(rng: np.random.Generator) -> None:
    condition = np.repeat(np.arange(8), 15)
    mean = 5 * np.arange(8)[condition][:, None]
    values = mean + rng.normal(size=(120, 300)) + 0.8 * rng.normal(size=(120, 1))
    values[:3, 0] = np.nan
    values[:, 1] = mean[:, 0]
    found = reliability.noise_correlation(values, np.where(condition == 7, -1, condition), 8)
    assert np.isnan(found.value[1]).all()
    kept = np.arange(3, 105)
    z = stats.zscore(np.where(np.isnan(values), 1e9, values)[3:15, [0, 5]], ddof=1)
    z = np.concatenate([z, *(stats.zscore(values[15 * k : 15 * k + 15][:, [0, 5]], ddof=1) for k in range(1, 7))])
    assert len(z) == len(kept)
    # the other unit is scored by all of its own trials
    assert found.value[0, 5] == pytest.approx(np.corrcoef(z.T)[0, 1], abs=0.01)
    pairs = found.value[2:, 2:][np.triu_indices(298, 1)]
    assert pairs.mean() == pytest.approx(0.64 / 1.64, abs=0.06)
    assert np.median(found.se[2:, 2:][np.triu_indices(298, 1)]) == pytest.approx((1 - 0.39**2) / np.sqrt(98), rel=0.1)


def test_splits_of_which_a_half_does_not_vary_are_left_out() -> None:
    """A unit with a few spikes: some halves have none."""
    rng = np.random.default_rng(3)
    condition = np.repeat(np.arange(4), 10)
    values = np.zeros((40, 3))
    values[[0, 1, 2, 12], 0] = 1
    values[0, 1] = 1
    values[:, 2] = condition + rng.normal(0, 0.1, 40)
    found = reliability.split_half(values, condition, 4, 60, rng)
    assert np.isfinite(found.correlation[0])
    assert np.isnan(found.correlation[1])
    assert found.correlation[2] > 0.99
    together = reliability.signal_correlation(values, condition, 4, 60, rng).correlation
    assert np.isfinite(together[0, 2])
    assert np.isnan(together[1]).all()
