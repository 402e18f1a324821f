"""How much of responses is signal: split halves, signal power, noise ceilings, variability (NumPy, no labels).

Trials are (trials, units) with a condition each, as in `neuroprobe.statistics.conditions`; complete experiments are
(repetitions, stimuli, units).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuroprobe.statistics.conditions import (
    Array,
    Curves,
    Estimate,
    Integers,
    checked_conditions,
    curves_of,
    indicator,
    means_of,
)

ROUNDING = 1e-12  # of mean squares: less is what rounding leaves of 0
LEAST_STIMULI = 3  # of which a correlation says something


@dataclass(frozen=True)
class SplitHalf:
    """Reliability from halves of the trials: arrays (units,), NaN with fewer than 3 conditions of 2 trials.

    Attributes
    ----------
    correlation : float array
        Between the means of both halves, over conditions; mean over splits.
    spread : float array
        Standard deviation over splits. It is no standard error: splits share their trials.
    reliability : float array
        Of the mean over all trials (Spearman & Brown).
    ceiling : float array
        √reliability: the largest correlation that any model of the conditions has with that mean, as far as it is
        known. NaN where the reliability is not above 0.
    """

    correlation: Array
    spread: Array
    reliability: Array
    ceiling: Array


def split_half(
    values: NDArray[np.floating],
    condition: NDArray[np.integer],
    n_conditions: int,
    n_splits: int,
    random: np.random.Generator,
) -> SplitHalf:
    """Correlation of means over random halves of the trials of each condition.

    Of an odd number of trials one, another one in each split, is left out. A split of which a half does not vary over
    conditions, as of units with few spikes, is left out; a unit with more of these than others is NaN.
    """
    condition = checked_conditions(condition, len(values), n_conditions)
    found = np.array([correlation_of(*pair) for pair in _halves(values, condition, n_conditions, n_splits, random)])
    known = ~np.isnan(found)
    n = np.where(2 * known.sum(0) >= n_splits, known.sum(0), np.nan)
    mean = np.where(known, found, 0).sum(0) / n
    spread = np.sqrt(np.where(known, (found - mean) ** 2, 0).sum(0) / n)
    reliability = spearman_brown(mean)
    ceiling = np.sqrt(np.where(reliability > 0, reliability, np.nan))
    return SplitHalf(mean, spread, reliability, ceiling)


def halves(condition: Integers, n_conditions: int, random: np.random.Generator) -> tuple[Array, Array]:
    """Indicators (conditions, trials) of two random halves of the trials of each condition, as large as each other."""
    order = np.lexsort((random.random(len(condition)), condition))
    n = np.bincount(condition + 1, minlength=n_conditions + 1)
    place = np.empty(len(condition), dtype=np.int64)
    place[order] = np.arange(len(condition)) - np.repeat(np.cumsum(n) - n, n)
    half = n[condition + 1] // 2
    first = np.where(place < half, condition, -1)
    second = np.where((place >= half) & (place < 2 * half), condition, -1)
    return indicator(first, n_conditions), indicator(second, n_conditions)


def _halves(
    values: NDArray[np.floating], condition: Integers, n_conditions: int, n_splits: int, random: np.random.Generator
) -> list[tuple[Array, Array]]:
    pairs = (halves(condition, n_conditions, random) for _ in range(n_splits))
    return [(means_of(values, one), means_of(values, other)) for one, other in pairs]


def correlation_of(a: Array, b: Array) -> Array:
    """Pearson's correlation of columns over rows: (units,) of (stimuli, units), pairs with NaN left out.

    NaN with fewer than 3 stimuli, and where one does not vary.
    """
    known = ~(np.isnan(a) | np.isnan(b))
    n = known.sum(0)
    n = np.where(n >= LEAST_STIMULI, n, np.nan)
    a, b = np.where(known, a, 0), np.where(known, b, 0)
    x, y = np.where(known, a - a.sum(0) / n, 0), np.where(known, b - b.sum(0) / n, 0)
    xx, yy = (x**2).sum(0), (y**2).sum(0)
    varies = (xx > ROUNDING**2 * (a**2).sum(0)) & (yy > ROUNDING**2 * (b**2).sum(0))
    return np.asarray(np.where(varies, (x * y).sum(0), np.nan) / np.sqrt(np.where(varies, xx * yy, 1)))


def spearman_brown(r: Array, k: float = 2.0) -> Array:
    """Reliability of k times as many trials: k r / (1 + (k - 1) r).

    Examples
    --------
    >>> spearman_brown(np.array([0.6])).round(12)
    array([0.75])
    """
    return np.asarray(k * r / np.where(1 + (k - 1) * r > 0, 1 + (k - 1) * r, np.nan))


@dataclass(frozen=True)
class SignalPower:
    """Variance over stimuli, parted: arrays (units,).

    Attributes
    ----------
    signal, signal_se : float arrays
        Signal power, the variance over stimuli of what repeats; without bias, and so below 0 at times.
    noise, noise_se : float arrays
        Variance of a trial around it.
    explainable, explainable_se : float arrays
        Share of the variance of single trials that is signal.
    ceiling : float array
        Largest correlation with the mean over trials that a model can have, √(signal / variance of the mean). NaN where
        the signal is not above 0.
    """

    signal: Array
    signal_se: Array
    noise: Array
    noise_se: Array
    explainable: Array
    explainable_se: Array
    ceiling: Array


def signal_power(responses: NDArray[np.floating]) -> SignalPower:
    """Signal and noise power of complete experiments (Sahani & Linden 2003).

    Parameters
    ----------
    responses : float array (repetitions, stimuli, units)
        Stimuli, or bins of time. All NaN for a unit that lacks any.

    Notes
    -----
    SP = (T Var(mean) - mean Var(trial)) / (T - 1). What moves all stimuli of a repetition alike is in neither power.
    Errors are those over stimuli (jackknife): of other stimuli, not of other trials.

    Examples
    --------
    >>> found = signal_power(np.array([[[1.0], [3], [8]], [[2.0], [2], [9]]]))
    >>> found.signal, found.noise.round(4)
    (array([14.]), array([0.6667]))
    """
    responses = np.asarray(responses, dtype=np.float64)
    n_repeats, n_stimuli, n_units = responses.shape
    if n_repeats < 2 or n_stimuli < 2:
        return SignalPower(*np.full((7, n_units), np.nan))
    centred = responses - responses.mean((0, 1))
    whole, without = _powers(centred.mean(0), n_repeats), _powers(centred, n_repeats)
    of_mean, of_trial = whole[0], without[0].mean(0)
    of_mean_jack, of_trial_jack = whole[1], without[1].mean(0)

    def parts(mean: Array, trial: Array) -> tuple[Array, Array, Array]:
        signal = (n_repeats * mean - trial) / (n_repeats - 1)
        return signal, trial - signal, signal / np.where(trial > 0, trial, np.nan)

    values, jack = parts(of_mean, of_trial), parts(of_mean_jack, of_trial_jack)
    errors = [_jackknife(one, n_stimuli) for one in jack]
    ceiling = np.sqrt(np.where(values[0] > 0, values[0], np.nan) / np.where(of_mean > 0, of_mean, np.nan))
    return SignalPower(values[0], errors[0], values[1], errors[1], values[2], errors[2], ceiling)


def _powers(centred: Array, n_repeats: int) -> tuple[Array, Array]:
    """Variances over stimuli (the last axis but one), and those without each stimulus."""
    n = centred.shape[-2]
    total, square = centred.sum(-2, keepdims=True), (centred**2).sum(-2, keepdims=True)
    variance = centred.var(axis=-2, ddof=1)
    left = np.maximum(square - centred**2 - (total - centred) ** 2 / (n - 1), 0)
    return variance, left / (n - 2) if n > 2 else np.full(centred.shape, np.nan)


def _jackknife(without: Array, n: int) -> Array:
    return np.asarray(np.sqrt((n - 1) / n * ((without - without.mean(0)) ** 2).sum(0)))


def signal_power_of(curves: Curves) -> SignalPower:
    """Signal and noise power of trials in unequal numbers, from the analysis of variance.

    (MS_between - MS_within) / n₀ with n₀ = (N - Σ n² / N) / (K - 1): what moves all stimuli of a repetition alike is in
    the noise. Errors are those of a jackknife over conditions; the ceiling is that of the mean over n₀ trials.
    """
    whole = _anova_powers(curves.n, curves.mean, curves.variance)
    k = len(curves.n)
    jack = np.full((3, k, *whole[0].shape), np.nan)
    for left_out in range(k):
        kept = np.arange(k) != left_out
        jack[:, left_out] = _anova_powers(curves.n[kept], curves.mean[kept], curves.variance[kept])[:3]
    shown = curves.n > 0
    count = shown.sum(0)
    errors = []
    for one in jack:
        one = np.where(shown, one, 0)
        mean = one.sum(0) / np.where(count > 2, count, np.nan)
        errors.append(np.sqrt((count - 1) / np.maximum(count, 1) * np.where(shown, (one - mean) ** 2, 0).sum(0)))
    signal, noise, explainable, size = whole
    above = np.where(signal > 0, signal, np.nan)
    ceiling = np.sqrt(above / (above + noise / size))
    return SignalPower(signal, errors[0], noise, errors[1], explainable, errors[2], ceiling)


def _anova_powers(n: Integers, mean: Array, variance: Array) -> tuple[Array, Array, Array, Array]:
    shown = n > 0
    count, total = shown.sum(0), n.sum(0)
    testable = (count > 1) & (total > count)
    grand = np.where(shown, n * np.where(shown, mean, 0), 0).sum(0) / np.maximum(total, 1)
    between = np.where(shown, n * (np.where(shown, mean, 0) - grand) ** 2, 0).sum(0) / np.maximum(count - 1, 1)
    within = np.where(n > 1, (n - 1) * np.where(n > 1, variance, 0), 0).sum(0) / np.maximum(total - count, 1)
    size = (total - (n**2).sum(0) / np.maximum(total, 1)) / np.maximum(count - 1, 1)
    size = np.where(testable, size, np.nan)
    signal, noise = (between - within) / size, np.where(testable, within, np.nan)
    whole = signal + noise
    return signal, noise, signal / np.where(whole > 0, whole, np.nan), size


def cc_norm(prediction: Array, responses: NDArray[np.floating]) -> tuple[Array, Array]:
    """Correlation of a model with the mean over trials, and the same in parts of the largest there can be.

    Parameters
    ----------
    prediction : float array (stimuli, units)
    responses : float array (repetitions, stimuli, units)

    Returns
    -------
    cc, cc_norm : float arrays (units,)
        CC_norm = Cov(prediction, mean) / √(Var(prediction) SP) (Schoppe et al. 2016, doi:10.3389/fncom.2016.00010): 1
        of a perfect model, at times above 1 since SP is an estimate. NaN where SP is not above 0 or a model does not
        vary.
    """
    mean = np.asarray(responses, dtype=np.float64).mean(0)
    power = signal_power(responses).signal
    cc = correlation_of(np.broadcast_to(prediction, mean.shape), mean)
    return cc, cc * np.sqrt(mean.var(axis=0, ddof=1) / np.where(power > 0, power, np.nan))


def fano_factor(curves: Curves) -> tuple[Estimate, Array]:
    """Variance over mean of spike counts, 1 of a Poisson process.

    Returns
    -------
    value : Estimate of arrays (units,)
        Mean over conditions, and its standard error over them.
    by_condition : float array (conditions, units)
        NaN where the mean is not above 0 or there are fewer than 2 trials.
    """
    ratio = curves.variance / np.where(curves.mean > 0, curves.mean, np.nan)
    known = ~np.isnan(ratio)
    n = known.sum(0)
    mean = np.where(known, ratio, 0).sum(0) / np.where(n > 0, n, np.nan)
    apart = np.where(known, ratio - mean, 0)
    se = np.sqrt((apart**2).sum(0) / np.where(n > 1, n * (n - 1.0), np.nan))
    return Estimate(mean, se), ratio


@dataclass(frozen=True)
class SignalCorrelation:
    """Similarity of tuning of pairs of units: float arrays (units, units).

    Attributes
    ----------
    correlation : float array
        Of the mean responses of one unit in one half of the trials with those of the other unit in the other half, so
        that noise which units share adds nothing. Noise lowers it; the diagonal is the reliability of halves.
    corrected : float array
        Cov / √(Cov of each unit with itself): without that loss. NaN where a unit's own is not above 0.
    """

    correlation: Array
    corrected: Array


def signal_correlation(
    values: NDArray[np.floating],
    condition: NDArray[np.integer],
    n_conditions: int,
    n_splits: int,
    random: np.random.Generator,
) -> SignalCorrelation:
    """Correlation of tuning curves of pairs of units, between disjoint random halves of the trials.

    Conditions with one trial are left out; a unit that lacks a condition has NaN. A split of which a half does not vary
    over conditions is left out, as in `split_half`.
    """
    condition = checked_conditions(condition, len(values), n_conditions)
    n = np.bincount(condition[condition >= 0], minlength=n_conditions)
    n_units = values.shape[1]
    correlation, covariance, n_known = np.zeros((3, n_units, n_units))
    for one, other in _halves(values, condition, n_conditions, n_splits, random):
        a, b = (part[n > 1] - part[n > 1].mean(0) for part in (one, other))
        if len(a) < LEAST_STIMULI:
            return SignalCorrelation(*np.full((2, n_units, n_units), np.nan))
        product = a.T @ b
        size = [np.sqrt((part**2).sum(0)) for part in (a, b)]
        size = [np.where(one_size > 0, one_size, np.nan) for one_size in size]
        scaled = product / (size[0][:, None] * size[1])
        scaled = (scaled + scaled.T) / 2
        n_known += ~np.isnan(scaled)
        correlation += np.nan_to_num(scaled)
        covariance += (product + product.T) / (2 * n_splits)
    own = np.sqrt(np.where(np.diag(covariance) > 0, np.diag(covariance), np.nan))
    correlation /= np.where(2 * n_known >= n_splits, n_known, np.nan)
    return SignalCorrelation(correlation, covariance / (own[:, None] * own))


def noise_correlation(values: NDArray[np.floating], condition: NDArray[np.integer], n_conditions: int) -> Estimate:
    """Correlation over trials of pairs of units that were recorded together (Cohen & Kohn 2011, doi:10.1038/nn.2842).

    Returns
    -------
    Estimate of arrays (units, units)
        Of responses that are z-scored within each condition; conditions in which a unit does not vary are left out. The
        error is (1 - r²) / √(trials - conditions), that of normal responses.
    """
    curves = curves_of(values, condition, n_conditions)
    condition = np.asarray(condition, dtype=np.int64)
    spread = np.sqrt(np.where(curves.variance > ROUNDING * curves.mean**2, curves.variance, np.nan))
    z = np.where(condition[:, None] >= 0, (values - curves.mean[condition]) / spread[condition], np.nan)
    known = ~np.isnan(z)
    filled, there = np.where(known, z, 0), known.astype(np.float64)
    product, square = filled.T @ filled, (filled**2).T @ there
    n = there.T @ there
    groups = sum((np.outer(*[known[condition == k].any(0).astype(float)] * 2) for k in range(n_conditions)), 0.0)
    size = np.sqrt(square * square.T)
    r = product / np.where(size > 0, size, np.nan)
    freedom = np.where(n - groups > 0, n - groups, np.nan)
    return Estimate(r, np.maximum(1 - r**2, 0) / np.sqrt(freedom))
