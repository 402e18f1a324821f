"""When a response begins (NumPy, no labels)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def onset_latency(rate: Array, start: Array, n_sd: float = 3.0, n_consecutive: int = 3) -> Array:
    """Latency of responses from the course of the rate.

    Parameters
    ----------
    rate : float array (..., time bins, units)
        PSTHs: rates, or mean counts, in bins of one width.
    start : float array (time bins,)
        Begin of each bin in seconds from the begin of the stimulus; those below 0 are the baseline.
    n_sd : float
    n_consecutive : int

    Returns
    -------
    float array (..., units)
        Begin of the first of `n_consecutive` bins in a row, from 0 on, whose rates are more than `n_sd` standard
        deviations (over bins) above the mean of the baseline. NaN where there are none, or the baseline has no spike
        and so no spread. No finer than a bin.

    Raises
    ------
    ValueError
        If fewer than 3 bins are before the stimulus, or none after.

    Examples
    --------
    >>> rate = np.array([3.0, 5, 4, 4, 4, 12, 4, 15, 18, 16, 12])[:, None]
    >>> onset_latency(rate, np.arange(-4, 7) * 0.01)
    array([0.03])
    """
    start = np.asarray(start, dtype=np.float64)
    before = start < -1e-9
    if before.sum() < 3 or before.all():
        raise ValueError(
            f"latencies need at least 3 bins before the stimulus and some after, received {before.sum()} and "
            f"{(~before).sum()}; begin the window earlier"
        )
    baseline = rate[..., before, :]
    spread = baseline.std(axis=-2, ddof=1)
    threshold = baseline.mean(axis=-2) + n_sd * np.where(spread > 0, spread, np.nan)
    above = rate[..., ~before, :] > threshold[..., None, :]
    n = above.shape[-2] - n_consecutive + 1
    if n < 1:
        return np.full(spread.shape, np.nan)
    run = np.ones((*above.shape[:-2], n, above.shape[-1]), dtype=np.bool_)
    for later in range(n_consecutive):
        run &= above[..., later : later + n, :]
    return np.where(run.any(-2), start[~before][run.argmax(-2)], np.nan)


@dataclass(frozen=True)
class Latency:
    """Latency with its uncertainty: arrays (units,), NaN where none was found.

    Attributes
    ----------
    latency : float array
        Seconds.
    se, low, high : float arrays
        Standard deviation and percentile interval over draws of trials, of those that have one.
    share_found : float array
        Draws with a latency: the others say that the response may be none.
    """

    latency: Array
    se: Array
    low: Array
    high: Array
    share_found: Array


def latency(
    counts: NDArray[np.floating],
    start: Array,
    n_draws: int,
    random: np.random.Generator,
    n_sd: float = 3.0,
    n_consecutive: int = 3,
    level: float = 0.95,
) -> Latency:
    """Latency of the mean over trials, and of means over trials drawn with replacement.

    Parameters
    ----------
    counts : float array (trials, time bins, units)
    start : float array (time bins,)
    n_draws : int
    random : numpy.random.Generator
    n_sd, n_consecutive
        As `onset_latency`.
    level : float
        Of the interval.
    """
    n_trials, n_bins, n_units = counts.shape
    flat = np.asarray(counts, dtype=np.float64).reshape(n_trials, -1)
    found = onset_latency(flat.mean(0).reshape(n_bins, n_units), start, n_sd, n_consecutive)
    draws = np.empty((n_draws, n_units))
    for at in range(n_draws):
        weight = np.bincount(random.integers(0, n_trials, n_trials), minlength=n_trials) / n_trials
        draws[at] = onset_latency((weight @ flat).reshape(n_bins, n_units), start, n_sd, n_consecutive)
    there = ~np.isnan(draws)
    n = there.sum(0)
    usable = ~np.isnan(found) & (n > 0)
    safe = np.where(usable, draws, 0)
    limits = (
        np.nanquantile(safe, [(1 - level) / 2, (1 + level) / 2], axis=0) if n_draws else np.full((2, n_units), np.nan)
    )
    mean = np.nansum(draws, axis=0) / np.maximum(n, 1)
    spread = np.sqrt(np.where(there, (draws - mean) ** 2, 0).sum(0) / np.where(n > 1, n - 1, np.nan))
    low, high, se = (np.where(usable, part, np.nan) for part in (*limits, spread))
    return Latency(found, se, low, high, n / max(n_draws, 1))
