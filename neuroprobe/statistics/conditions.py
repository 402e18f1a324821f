"""Trials sorted by condition: means, variances and numbers of trials, as unequal as they may be (NumPy, no labels).

Responses are (trials, units). The condition of each trial is an integer from 0; trials of condition -1 belong to none
(blanks, controls). A response that is NaN is a trial that this unit lacks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


class Estimate(NamedTuple):
    """An estimate and its standard error, arrays of the same shape."""

    value: Array
    se: Array


@dataclass(frozen=True)
class Curves:
    """Responses to each condition.

    Attributes
    ----------
    n : int array (conditions, units)
        Trials.
    mean, variance : float arrays (conditions, units)
        NaN without a trial; the variance, of n - 1, also of one trial.
    """

    n: Integers
    mean: Array
    variance: Array

    @property
    def se(self) -> Array:
        """Standard errors of the means (conditions, units)."""
        return np.asarray(np.sqrt(self.variance / np.where(self.n > 1, self.n, np.nan)))


def checked_conditions(condition: NDArray[np.integer], n_trials: int, n_conditions: int) -> Integers:
    """Return the conditions of trials as int64, after a look at their number and range.

    Raises
    ------
    ValueError
        If there is not one condition per trial, or one that does not exist.
    """
    condition = np.asarray(condition)
    if condition.shape != (n_trials,):
        raise ValueError(f"each of {n_trials} trials has one condition, received an array {condition.shape}")
    if not np.issubdtype(condition.dtype, np.integer):
        raise ValueError(f"conditions are integers from 0, or -1 for none, received {condition.dtype}")
    if n_trials and not (condition.min() >= -1 and condition.max() < n_conditions):
        received = f"{condition.min()} to {condition.max()}"
        raise ValueError(f"conditions go from 0 to {n_conditions - 1}, or are -1 for none, received {received}")
    return condition.astype(np.int64)


def indicator(condition: Integers, n_conditions: int) -> Array:
    """1 where a trial is of a condition, else 0: float array (conditions, trials)."""
    return (np.arange(n_conditions)[:, None] == condition).astype(np.float64)


def curves_of(values: NDArray[np.floating], condition: NDArray[np.integer], n_conditions: int) -> Curves:
    """Means, variances and numbers of trials of each condition.

    Parameters
    ----------
    values : float array (trials, units)
    condition : int array (trials,)
        From 0; -1 for trials of no condition.
    n_conditions : int

    Examples
    --------
    >>> found = curves_of(np.array([[1.0], [3.0], [7.0]]), np.array([0, 0, 1]), 3)
    >>> found.n.ravel(), found.mean.ravel(), found.se.ravel()
    (array([2, 1, 0]), array([ 2.,  7., nan]), array([ 1., nan, nan]))
    """
    condition = checked_conditions(condition, len(values), n_conditions)
    which = indicator(condition, n_conditions)
    n, mean = _means(values.astype(np.float64), which)
    deviation = values - np.where(condition[:, None] >= 0, mean[condition], np.nan)
    square = which @ np.where(np.isnan(deviation), 0, deviation**2)
    return Curves(n, mean, square / np.where(n > 1, n - 1, np.nan))


def means_of(values: NDArray[np.floating], which: Array) -> Array:
    """Means of conditions (conditions, units) from an `indicator` (conditions, trials): NaN without a trial."""
    return _means(values.astype(np.float64, copy=False), which)[1]


def _means(values: Array, which: Array) -> tuple[Integers, Array]:
    missing = np.isnan(values)
    if missing.any():
        n = which @ ~missing
        total = which @ np.where(missing, 0, values)
    else:
        n = np.broadcast_to(which.sum(1)[:, None], (len(which), values.shape[1]))
        total = which @ values
    return n.astype(np.int64), total / np.where(n > 0, n, np.nan)


def repetitions(values: NDArray[np.floating], condition: NDArray[np.integer], n_conditions: int) -> Array:
    """Sort trials into repetitions of all conditions.

    Parameters
    ----------
    values : float array (trials, units)
    condition : int array (trials,)
    n_conditions : int

    Returns
    -------
    float array (repetitions, conditions, units)
        The first trial of each condition, then the second, …; NaN where a condition has fewer.

    Examples
    --------
    >>> repetitions(np.array([[1.0], [3.0], [7.0]]), np.array([0, 1, 0]), 2)[..., 0]
    array([[ 1.,  3.],
           [ 7., nan]])
    """
    condition = checked_conditions(condition, len(values), n_conditions)
    kept = np.flatnonzero(condition >= 0)
    order = kept[np.argsort(condition[kept], kind="stable")]
    n = np.bincount(condition[kept], minlength=n_conditions)
    place = np.arange(len(order)) - np.repeat(np.cumsum(n) - n, n)
    found = np.full((int(n.max(initial=0)), n_conditions, values.shape[1]), np.nan)
    found[place, condition[order]] = values[order]
    return found


def resampled(condition: NDArray[np.integer], n_conditions: int, n_draws: int, random: np.random.Generator) -> Integers:
    """Draw trials with replacement within each condition, for the bootstrap.

    Parameters
    ----------
    condition : int array (trials,)
    n_conditions, n_draws : int
    random : numpy.random.Generator

    Returns
    -------
    int array (draws, trials)
        Numbers of trials: a draw holds as many of each condition as there are.
    """
    condition = checked_conditions(condition, len(condition), n_conditions)
    order = np.argsort(condition, kind="stable")
    n = np.bincount(condition + 1, minlength=n_conditions + 1)
    size = np.repeat(n, n)
    start = np.repeat(np.cumsum(n) - n, n)
    chosen = start + np.floor(random.random((n_draws, len(condition))) * size).astype(np.int64)
    drawn = np.empty((n_draws, len(condition)), dtype=np.int64)
    drawn[:, order] = order[chosen]
    return drawn
