"""Uncertainty of fitted tuning curves: the bootstrap over trials (NumPy, no labels)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuroprobe.statistics.conditions import indicator, means_of, resampled
from neuroprobe.statistics.least_squares import least_squares
from neuroprobe.statistics.tuning_fits import Fit
from neuroprobe.statistics.tuning_models import MODELS
from neuroprobe.statistics.tuning_problems import problem_of

Array = NDArray[np.float64]


def bootstrap_means(
    values: Array, condition: NDArray[np.integer], n_conditions: int, n_draws: int, random: np.random.Generator
) -> Array:
    """Means of trials that are drawn with replacement within conditions: float array (draws, conditions, units)."""
    drawn = resampled(condition, n_conditions, n_draws, random)
    which = indicator(np.asarray(condition, dtype=np.int64), n_conditions)
    return np.stack([means_of(values[trials], which) for trials in drawn])


def refit(
    fit: Fit, x: Array, draws: Array, n: NDArray[np.integer] | None = None, weights: Array | None = None
) -> dict[str, Array]:
    """Fit draws of the curves, each from the minimum of the curve itself.

    Parameters
    ----------
    fit : Fit
    x, n, weights
        As for `fit_tuning`.
    draws : float array (draws, conditions, units)
        As `bootstrap_means` draws them; or, of animals without trials, means plus normal errors.

    Returns
    -------
    dict of float arrays (draws, units)
        Parameters and what is derived from them; NaN where a draw has no fit.
    """
    model = MODELS[fit.model]
    x = np.broadcast_to(np.reshape(x, (draws.shape[1], -1)), draws.shape[1:])
    weight = n if weights is None else weights
    given = None if weight is None else np.asarray(weight, dtype=np.float64)
    found = []
    for mean in draws:
        problem, fittable = problem_of(model, x, mean, None, given)
        rows = np.flatnonzero(fittable & fit.defined)
        scale = (problem.weight * problem.y**2).sum(1)
        result = least_squares(
            lambda left, parameters, problem=problem, rows=rows: problem.residuals(rows[left], parameters),  # type: ignore[misc]
            fit.solution.T[rows],
            problem.lower[rows],
            problem.upper[rows],
            scale[rows],
        )
        solution = np.full(fit.solution.T.shape, np.nan)
        solution[rows[result.converged]] = result.parameters[result.converged]
        coefficients, shape = np.split(solution, [len(model.coefficients)], axis=1)
        derived = model.derived(model, problem.samples, coefficients, shape)
        known = ~np.isnan(solution[:, 0])
        derived = {name: np.where(known, value, np.nan) for name, value in derived.items()}
        found.append(model.report(coefficients, shape) | derived)
    return {name: np.stack([one[name] for one in found]) for name in found[0]}


@dataclass(frozen=True)
class Interval:
    """Bootstrap interval of a parameter: arrays (units,).

    Attributes
    ----------
    low, high : float arrays
        Of an angle around its estimate, so that `low` may be below 0 and `high` above the period.
    se : float array
        Standard deviation over draws.
    share_failed : float array
        Draws without a fit: the interval is of the others.
    """

    low: Array
    high: Array
    se: Array
    share_failed: Array


def interval(estimate: Array, draws: Array, level: float = 0.95, period: float = 0.0) -> Interval:
    """Percentile interval of an estimate (units,) from draws (draws, units); of an angle with its period.

    Examples
    --------
    >>> draws = np.array([[178.0], [2.0], [4.0], [np.nan]])
    >>> found = interval(np.array([1.0]), draws, level=0.5, period=180)
    >>> found.low, found.high, found.share_failed
    (array([0.]), array([3.]), array([0.25]))
    """
    away = draws - estimate
    if period:
        away = np.mod(away + period / 2, period) - period / 2
    failed = np.isnan(away)
    known = ~failed.all(0)
    away = np.where(known, away, 0)
    low, high = np.nanquantile(away, [(1 - level) / 2, (1 + level) / 2], axis=0)
    n = (~failed).sum(0)
    centred = away - np.nanmean(away, axis=0)
    se = np.sqrt(np.nansum(centred**2, axis=0) / np.where(n > 1, n - 1, np.nan))
    nothing = np.where(known, 0, np.nan)
    return Interval(estimate + low + nothing, estimate + high + nothing, se + nothing, failed.mean(0))
