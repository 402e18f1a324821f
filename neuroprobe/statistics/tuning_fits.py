"""Fits of functions to tuning curves of many units at once, and what they are worth (NumPy, no labels).

Weighted least squares within bounds from several starts, which are the same every time. Units whose fit did not reach a
minimum, whose curve is flat or which were shown too few stimuli have NaN and a flag.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from neuroprobe.statistics.least_squares import ROUNDING, least_squares
from neuroprobe.statistics.tuning_models import MODELS, TuningModel
from neuroprobe.statistics.tuning_problems import FLAT, CurveProblem, Flags, problem_of

Array = NDArray[np.float64]
N_STARTS: Final = 6
UNITS_AT_A_TIME: Final = 2048
SAME: Final = 1e-6  # relative difference of sums of squares that is none


@dataclass(frozen=True)
class Fit:
    """One function fitted to each unit: arrays (units,), NaN where `defined` is False.

    Attributes
    ----------
    model : str
    parameters, derived : dicts of float arrays
        By name; `derived` is what follows from the parameters: widths, the preferred stimulus where no parameter is it.
    curve : float array (conditions, units)
        Fitted responses.
    r_squared : float array
        1 - Σ w (r - fit)² / Σ w (r - r̄)² over conditions.
    aic_difference : float array
        How much better than a constant: Akaike's criterion of the flat model less that of this one, with the correction
        for small samples (Hurvich & Tsai 1989); NaN where there are too few trials for it.
    converged : bool array
        Whether a minimum was reached.
    defined : bool array
        Whether that means anything: the curve is not flat, neither is the fit, and there are more stimuli than
        parameters.
    at_bound : dict of bool arrays
        Parameters that ended at a bound, which says no more than that they are there or beyond.
    solution : float array (parameters, units)
        Parameters as they were fitted, for `refit` and `predict`.
    """

    model: str
    parameters: dict[str, Array]
    derived: dict[str, Array]
    curve: Array
    r_squared: Array
    aic_difference: Array
    converged: Flags
    defined: Flags
    at_bound: dict[str, Flags]
    solution: Array


def fit_tuning(
    model: str,
    x: Array,
    mean: Array,
    n: NDArray[np.integer] | None = None,
    variance: Array | None = None,
    weights: Array | None = None,
    n_starts: int = N_STARTS,
) -> Fit:
    """Fit one function to the curve of each unit.

    Parameters
    ----------
    model : str
        One of `neuroprobe.statistics.tuning_models.MODELS`.
    x : float array (conditions,) or (conditions, units)
        Stimuli; angles in degrees. NaN where a unit was not shown a condition.
    mean : float array (conditions, units)
        NaN where a response is missing.
    n : int array (conditions, units), optional
        Trials; without them one each.
    variance : float array (conditions, units), optional
        Over trials, for Akaike's criterion; without it that is of condition means, as if they were single trials.
    weights : float array (conditions, units), optional
        Of the squares; by default the number of trials.
    n_starts : int

    Raises
    ------
    ValueError
        If the model does not exist, or stimuli are negative or 0 for one that is of what is above.

    Examples
    --------
    >>> x = np.arange(0, 180, 15.0)
    >>> mean = 3 + 8 * np.exp(2 * (np.cos(2 * np.deg2rad(x - 40)) - 1))
    >>> found = fit_tuning("von_mises", x, mean[:, None])
    >>> found.parameters["preferred"].round(6), found.derived["hwhm"].round(3), found.r_squared.round(6)
    (array([40.]), array([24.6]), array([1.]))
    """
    if model not in MODELS:
        raise ValueError(f"unknown function {model!r}; known: {', '.join(MODELS)}")
    n_units = mean.shape[1]
    x = np.broadcast_to(np.reshape(x, (len(mean), -1)), mean.shape)
    parts = []
    for start in range(0, max(n_units, 1), UNITS_AT_A_TIME):
        units = slice(start, start + UNITS_AT_A_TIME)
        given = (None if part is None else part[:, units].astype(np.float64) for part in (n, variance, weights))
        parts.append(_fit(MODELS[model], n_starts, x[:, units], mean[:, units], *given))
    return _joined(parts)


def _joined(parts: list[Fit]) -> Fit:
    def along(get: Callable[[Fit], Array]) -> Array:
        return np.concatenate([get(part) for part in parts], axis=-1)

    def named(get: Callable[[Fit], dict[str, NDArray]]) -> dict[str, NDArray]:  # type: ignore[type-arg]
        return {name: np.concatenate([get(part)[name] for part in parts]) for name in get(parts[0])}

    return Fit(
        parts[0].model,
        named(lambda part: part.parameters),
        named(lambda part: part.derived),
        along(lambda part: part.curve),
        along(lambda part: part.r_squared),
        along(lambda part: part.aic_difference),
        np.concatenate([part.converged for part in parts]),
        np.concatenate([part.defined for part in parts]),
        named(lambda part: part.at_bound),
        along(lambda part: part.solution),
    )


def _fit(
    model: TuningModel,
    n_starts: int,
    x: Array,
    mean: Array,
    n: Array | None = None,
    variance: Array | None = None,
    weights: Array | None = None,
) -> Fit:
    problem, fittable = problem_of(model, x, mean, n, weights)
    n_units, p = mean.shape[1], model.n_parameters
    solution, converged = np.full((n_units, p), np.nan), np.zeros(n_units, dtype=np.bool_)
    if fittable.any():
        rows = np.flatnonzero(fittable)
        solution[rows], converged[rows] = _best(problem, rows, n_starts)
    at_bound, fitted = _at_bound(problem, solution), _curve(problem, solution)
    tall = np.ptp(np.where(problem.weight > 0, fitted, fitted[:, :1]), axis=1)
    defined = converged & (tall > FLAT * np.abs(problem.y).max(1))
    solution = np.where(defined[:, None], solution, np.nan)
    fitted = np.where(defined[:, None] & ~np.isnan(x.T), fitted, np.nan)
    r_squared, aic = _worth(problem, fitted, n, variance)
    coefficients, shape = np.split(solution, [len(model.coefficients)], axis=1)
    derived = model.derived(model, problem.samples, coefficients, shape)
    parameters = model.report(coefficients, shape)
    bounded = {name: np.zeros(defined.shape, dtype=np.bool_) for name in parameters}
    for at, name in enumerate((*model.coefficients, *model.shape)):
        bounded[name] |= at_bound[:, at] & defined
    return Fit(
        model.name,
        parameters,
        {name: np.where(defined, value, np.nan) for name, value in derived.items()},
        fitted.T,
        r_squared,
        aic,
        converged,
        defined,
        bounded,
        solution.T,
    )


def _best(problem: CurveProblem, rows: NDArray[np.int64], n_starts: int) -> tuple[Array, Flags]:
    """Best minimum of several starts."""
    starts = _starts(problem, rows, n_starts)
    which = np.repeat(rows, starts.shape[1])
    scale = (problem.weight * problem.y**2).sum(1)
    found = least_squares(
        lambda left, parameters: problem.residuals(which[left], parameters),
        starts.reshape(len(which), -1),
        problem.lower[which],
        problem.upper[which],
        scale[which],
    )
    squares, converged = found.squares.reshape(len(rows), -1), found.converged.reshape(len(rows), -1)
    squares = np.where(np.isfinite(squares), squares, np.inf)
    # a minimum, unless a start that reached none came further down
    least = squares.min(1, keepdims=True) + ROUNDING * scale[rows, None]
    best = np.where(converged & (squares <= least * (1 + SAME)), -1.0, squares).argmin(1)
    each = np.arange(len(rows))
    return found.parameters.reshape(*squares.shape, -1)[each, best], converged[each, best]


def _starts(problem: CurveProblem, rows: NDArray[np.int64], n_starts: int) -> Array:
    """Best shapes of a grid, one for each value of the parameter in which starts differ (rows, starts, parameters)."""
    model, n = problem.model, len(problem.model.coefficients)
    low, high = problem.lower[rows, n:], problem.upper[rows, n:]
    low, high = np.where(np.isfinite(low), low, 0), np.where(np.isfinite(high), high, model.period)
    x, y, weight = problem.x[rows], problem.y[rows], problem.weight[rows]
    places = np.indices(model.grid).reshape(len(model.grid), -1).T
    best = np.full((model.grid[model.spread], len(rows)), np.inf)
    kept = np.zeros((*best.shape, model.n_parameters))
    for place in places:
        share = (place + 0.5) / np.array(model.grid)
        shape = low + (high - low) * share
        basis = model.basis(x, shape)
        normal = np.einsum("bkl,bk,bkm->blm", basis, weight, basis)
        size = np.einsum("bll->b", normal)
        normal += (1e-9 * np.where(size > 0, size, 1))[:, None, None] * np.eye(n)
        right = np.einsum("bkl,bk->bl", basis, weight * y)
        coefficients = np.linalg.solve(normal, right[:, :, None])[:, :, 0]
        coefficients = np.clip(coefficients, problem.lower[rows, :n], problem.upper[rows, :n])
        squares = (weight * (np.einsum("bkl,bl->bk", basis, coefficients) - y) ** 2).sum(1)
        at = place[model.spread]
        better = squares < best[at]
        best[at, better] = squares[better]
        kept[at, better] = np.concatenate([coefficients, shape], axis=1)[better]
    order = np.argsort(best, axis=0, kind="stable")[:n_starts]
    return np.take_along_axis(kept, order[:, :, None], axis=0).transpose(1, 0, 2)


def _at_bound(problem: CurveProblem, solution: Array) -> Flags:
    reach = problem.upper - problem.lower
    near = 1e-6 * np.where(np.isfinite(reach), reach, 1)
    return np.asarray((solution <= problem.lower + near) | (solution >= problem.upper - near))


def _curve(problem: CurveProblem, solution: Array) -> Array:
    coefficients, shape = np.split(solution, [len(problem.model.coefficients)], axis=1)
    return problem.model.curve(problem.x, coefficients, shape)


def _worth(problem: CurveProblem, fitted: Array, n: Array | None, variance: Array | None) -> tuple[Array, Array]:
    """R² and the difference of Akaike's criteria."""
    y, weight = problem.y, problem.weight
    fitted = np.where(weight > 0, fitted, 0)
    total = weight.sum(1)
    total = np.where(total > 0, total, np.nan)
    flat = (weight * (y - ((weight * y).sum(1) / total)[:, None]) ** 2).sum(1)
    left = (weight * (y - fitted) ** 2).sum(1)
    trials = np.where(weight > 0, 1.0 if n is None else n.T, 0)
    if variance is None:
        within, n_values = np.zeros(len(y)), (weight > 0).sum(1).astype(np.float64)
    else:
        per_trial = weight / np.where(trials > 0, trials, 1)
        within = (per_trial * np.where(trials > 1, (trials - 1) * np.nan_to_num(variance.T), 0)).sum(1)
        n_values = trials.sum(1)
    least = np.finfo(np.float64).eps ** 2 * (weight * y**2).sum(1)
    least = np.where(least > 0, least, 1)
    criteria = []
    for squares, k in ((flat, 2), (left, problem.model.n_parameters + 1)):
        room = np.where(n_values > k + 1, n_values - k - 1, np.nan)
        criteria.append(n_values * np.log(np.maximum(squares + within, least)) + 2 * k + 2 * k * (k + 1) / room)
    return 1 - left / np.where(flat > 0, flat, np.nan), criteria[0] - criteria[1]


def predict(fit: Fit, x: Array) -> Array:
    """Fitted responses to other stimuli `x` (points,): float array (points, units)."""
    model = MODELS[fit.model]
    coefficients, shape = np.split(fit.solution.T, [len(model.coefficients)], axis=1)
    return model.curve(np.broadcast_to(x, (len(shape), len(x))), coefficients, shape).T
