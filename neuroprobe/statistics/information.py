"""Information that responses carry about stimuli, in bits, less the bias of few trials (NumPy, no labels)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from neuroprobe.statistics.conditions import checked_conditions

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
CELLS_AT_A_TIME: Final = 1 << 22  # of tables of stimuli and responses


@dataclass(frozen=True)
class Information:
    """Mutual information of stimulus and response: float arrays (units,), in bits; NaN for units without a trial.

    Attributes
    ----------
    plug_in : float array
        From the shares that were seen: far above what there is where trials are few.
    miller_madow, panzeri_treves : float arrays
        Less the first term of its bias, [Σ_s (R_s - 1) - (R - 1)] / (2 N ln 2) with R_s the number of responses to a
        stimulus that were seen, or that Bayes' rule expects (Panzeri & Treves 1996).
    quadratic : float array
        Extrapolated from all, half and a quarter of the trials (Strong et al. 1998).
    shuffled, shuffled_sd : float arrays
        Plug-in information where stimuli are permuted over trials.
    shuffle_subtracted : float array
        `plug_in` less `shuffled`: what is reported in any case.
    p_value : float array
        (1 + #{I* ≥ I}) / (1 + shuffles).
    """

    plug_in: Array
    miller_madow: Array
    panzeri_treves: Array
    quadratic: Array
    shuffled: Array
    shuffled_sd: Array
    shuffle_subtracted: Array
    p_value: Array


def binned(values: NDArray[np.floating], n_bins: int) -> Integers:
    """Turn responses (trials, units) into numbers of bins that hold about as many trials each; -1 for NaN.

    Equal responses are in one bin, so that bins may be fewer.

    Examples
    --------
    >>> binned(np.array([[0.1], [5.0], [0.1], [9.0], [np.nan]]), 2).ravel()
    array([ 0,  1,  0,  1, -1])
    """
    if not len(values):
        return np.empty(values.shape, dtype=np.int64)
    known = ~np.isnan(values)
    rank = stats.rankdata(values, method="min", axis=0, nan_policy="omit")
    found = np.floor((np.where(known, rank, 1) - 1) * n_bins / np.maximum(known.sum(0), 1)).astype(np.int64)
    return np.where(known, found, -1)


def information(
    responses: NDArray[np.integer],
    condition: NDArray[np.integer],
    n_conditions: int,
    n_shuffles: int,
    random: np.random.Generator,
) -> Information:
    """Mutual information of conditions and discrete responses.

    Parameters
    ----------
    responses : int array (trials, units)
        Spike counts, or what `binned` returns; trials below 0 are left out.
    condition : int array (trials,)
    n_conditions, n_shuffles : int
    random : numpy.random.Generator

    Notes
    -----
    Conditions are as likely as they were shown.
    """
    condition = checked_conditions(condition, len(responses), n_conditions)
    responses, condition = np.asarray(responses, dtype=np.int64)[condition >= 0], condition[condition >= 0]
    n_responses = int(responses.max(initial=0)) + 1
    parts = random.permutation(len(condition))
    quarter = np.empty(len(condition), dtype=np.int64)
    # in turn within each condition, so that every part has all of them
    ordered = parts[np.argsort(condition[parts], kind="stable")]
    quarter[ordered] = np.arange(len(condition)) % 4
    shuffles = [random.permutation(condition) for _ in range(n_shuffles)]
    width = max(1, CELLS_AT_A_TIME // (n_conditions * n_responses))
    found = [
        _information(responses[:, start : start + width], condition, n_conditions, n_responses, quarter, shuffles)
        for start in range(0, max(responses.shape[1], 1), width)
    ]
    return Information(*np.concatenate(found, axis=1))


def _information(
    responses: Integers,
    condition: Integers,
    n_conditions: int,
    n_responses: int,
    quarter: Integers,
    shuffles: list[Integers],
) -> Array:
    def of(kept: NDArray[np.bool_] | slice, conditions: Integers) -> Array:
        return _counts(responses[kept], conditions[kept], n_conditions, n_responses)

    everything = slice(None)
    counts = of(everything, condition)
    n = counts.sum((1, 2))
    n = np.where(n > 0, n, np.nan)
    plug_in = _plug_in(counts)
    half = np.mean([_plug_in(of((quarter // 2) == part, condition)) for part in range(2)], axis=0)
    fourth = np.mean([_plug_in(of(quarter == part, condition)) for part in range(4)], axis=0)
    seen, seen_of = (counts.sum(1) > 0).sum(1), (counts > 0).sum(2)
    unit = 1 / (2 * n * np.log(2))

    def less(responses_of: Array) -> Array:
        shown = counts.sum(2) > 0
        return np.asarray(plug_in - unit * (np.where(shown, responses_of - 1, 0).sum(1) - (seen - 1)))

    drawn = np.array([_plug_in(of(everything, conditions)) for conditions in shuffles]).reshape(-1, len(plug_in))
    if len(drawn):
        mean, spread = drawn.mean(0), drawn.std(0)
        p = (1 + (drawn >= plug_in - 1e-12).sum(0)) / (1 + len(drawn))
    else:
        mean = spread = p = np.full(plug_in.shape, np.nan)
    known = ~np.isnan(plug_in)
    # a quadratic in 1 / trials through all three
    quadratic = (8 * plug_in - 6 * half + fourth) / 3
    rows = [plug_in, less(seen_of.astype(np.float64)), less(expected_responses(counts)), quadratic]
    return np.where(known, np.stack([*rows, mean, spread, plug_in - mean, p]), np.nan)


def _counts(responses: Integers, condition: Integers, n_conditions: int, n_responses: int) -> Array:
    """Number of trials: (units, conditions, responses)."""
    n_units = responses.shape[1]
    cell = (np.arange(n_units) * n_conditions + condition[:, None]) * n_responses + responses
    found = np.bincount(cell[responses >= 0], minlength=n_units * n_conditions * n_responses)
    return found.reshape(n_units, n_conditions, n_responses).astype(np.float64)


def _plug_in(counts: Array) -> Array:
    n = counts.sum((1, 2))
    n = np.where(n > 0, n, np.nan)
    of_stimulus, of_response = counts.sum(2, keepdims=True), counts.sum(1, keepdims=True)
    expected = of_stimulus * of_response
    ratio = np.where(counts > 0, counts * n[:, None, None] / np.where(expected > 0, expected, 1), 1)
    return np.asarray(np.maximum((counts * np.log2(ratio)).sum((1, 2)) / n, 0))


def expected_responses(counts: Array) -> Array:
    """Number of different responses to each stimulus that there are, seen or not.

    Parameters
    ----------
    counts : float array (units, conditions, responses)

    Returns
    -------
    float array (units, conditions)

    Notes
    -----
    The number R for which as many are expected to be seen as were (Panzeri & Treves 1996): with N trials of a stimulus
    and R₀ different responses seen, the others have the probability 1 - (N / (N + R₀))^(1/N) each, and those seen
    (n + 1) / (N + R₀) of what is left. R is at most the number of responses that any stimulus gave.
    """
    n, seen = counts.sum(2), (counts > 0).sum(2).astype(np.float64)
    most = (counts.sum(1) > 0).sum(1)[:, None]
    shown = np.where(n > 0, n, 1)
    rare = 1 - (shown / (shown + seen)) ** (1 / shown)
    best, nearest = seen.copy(), np.full(seen.shape, np.inf)
    open_ = seen < most
    for more in range(int((most - seen).max(initial=0)) + 1):
        left = np.maximum(1 - more * rare, 0)
        q = left[:, :, None] * (counts + 1) / (shown + seen)[:, :, None] if more else counts / shown[:, :, None]
        expected = np.where(counts > 0, 1 - (1 - np.minimum(q, 1)) ** shown[:, :, None], 0).sum(2)
        expected += more * (1 - (1 - rare) ** shown)
        distance = np.abs(seen - expected)
        # up to the first number that is no nearer
        open_ &= (distance < nearest) & (seen + more <= most)
        best, nearest = np.where(open_, seen + more, best), np.where(open_, distance, nearest)
    return best


def skaggs_information(rate: Array, share: Array) -> tuple[Array, Array]:
    """Information of firing rates about where an animal is, or what it sees (Skaggs et al. 1993).

    Parameters
    ----------
    rate : float array (conditions, units)
        Hz.
    share : float array (conditions,)
        Of the time that is spent in each; is divided by its sum.

    Returns
    -------
    per_spike, per_second : float arrays (units,)
        Bits; NaN for units that do not fire, or whose rate is negative somewhere.

    Examples
    --------
    >>> per_spike, per_second = skaggs_information(np.array([[0.0], [0], [2], [6]]), np.full(4, 0.25))
    >>> per_spike.round(6), per_second.round(6)
    (array([1.188722]), array([2.377444]))
    """
    share = (np.asarray(share, dtype=np.float64) / np.sum(share))[:, None]
    mean = (share * rate).sum(0)
    mean = np.where((mean > 0) & (rate >= 0).all(0), mean, np.nan)
    relative = rate / mean
    bits = (share * relative * np.log2(np.where(relative > 0, relative, 1))).sum(0)
    return bits, bits * mean
