"""Bounded non-linear least squares of many small problems at once: Levenberg and Marquardt's algorithm in batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
# problems (some of them) and their parameters → weighted residuals (problems, values), Jacobian (…, parameters)
Residuals = Callable[[NDArray[np.int64], Array], tuple[Array, Array]]

FLAT: Final = 1e-7  # cosine of residuals and Jacobian under which there is no way down
NEARLY_FLAT: Final = 1e-3
LITTLE: Final = 1e-10  # relative decrease that is none
ROUNDING: Final = 1e-26  # share of the sum of squares that is 0
START, LEAST, MOST = 1e-2, 1e-10, 1e12  # of the damping


class Solution(NamedTuple):
    """Parameters (problems, parameters), the sums of squares that are left, and whether a minimum was reached."""

    parameters: Array
    squares: Array
    converged: NDArray[np.bool_]


def least_squares(
    residuals: Residuals, start: Array, lower: Array, upper: Array, scale: Array, max_iterations: int = 1000
) -> Solution:
    """Minimise the sums of squared residuals within bounds.

    Parameters
    ----------
    residuals : callable
        Takes numbers of problems (m,) and their parameters (m, parameters), and returns residuals (m, values) and
        Jacobian (m, values, parameters).
    start, lower, upper : float arrays (problems, parameters)
        Starts are moved within the bounds, which may be infinite.
    scale : float array (problems,)
        Sum of squares of the data: residuals that are rounding beside it are 0.
    max_iterations : int

    Notes
    -----
    Parameters at a bound that the gradient pushes against are held. A problem is done where the residuals are
    orthogonal to what is free of the Jacobian, or 0; it has not converged where it neither is after the last iteration,
    nor comes close when no step leads further down.
    """
    parameters = np.clip(start, lower, upper)
    left = np.arange(len(start))
    squares = np.full(len(start), np.nan)
    converged = np.zeros(len(start), dtype=np.bool_)
    damping = np.full(len(start), START)
    error, jacobian = residuals(left, parameters)
    current = (error**2).sum(1)
    squares[:] = current
    last_decrease = np.full(len(start), np.inf)
    for _ in range(max_iterations):
        gradient = np.einsum("bkp,bk->bp", jacobian, error)
        normal = np.einsum("bkp,bkq->bpq", jacobian, jacobian)
        here = parameters[left]
        held = ((here <= lower[left]) & (gradient > 0)) | ((here >= upper[left]) & (gradient < 0))
        done = _done(gradient, normal, held, current, scale[left], last_decrease[left], damping[left])
        converged[left[done]] = True
        stuck = ~done & ((damping[left] >= MOST) | ~np.isfinite(current))
        keep = ~(done | stuck)
        if not keep.any():
            break
        left, error, jacobian, current = left[keep], error[keep], jacobian[keep], current[keep]
        step = _step(gradient[keep], normal[keep], held[keep], damping[left])
        trial = np.clip(parameters[left] + step, lower[left], upper[left])
        trial_error, trial_jacobian = residuals(left, trial)
        trial_squares = (trial_error**2).sum(1)
        better = trial_squares < current
        last_decrease[left[better]] = 1 - trial_squares[better] / current[better]
        parameters[left[better]], squares[left[better]] = trial[better], trial_squares[better]
        error[better], jacobian[better] = trial_error[better], trial_jacobian[better]
        current = np.where(better, trial_squares, current)
        damping[left] = np.clip(damping[left] * np.where(better, 0.2, 5.0), LEAST, MOST)
    return Solution(parameters, squares, converged)


def _done(
    gradient: Array,
    normal: Array,
    held: NDArray[np.bool_],
    current: Array,
    scale: Array,
    decrease: Array,
    damping: Array,
) -> NDArray[np.bool_]:
    length = np.sqrt(np.einsum("bpp->bp", normal) * current[:, None])
    cosine = np.where(held | (length == 0), 0, np.abs(gradient) / np.where(length > 0, length, 1)).max(1)
    slow = (decrease < LITTLE) | (damping >= MOST)
    return (current <= ROUNDING * scale) | (cosine < FLAT) | (slow & (cosine < NEARLY_FLAT))


def _step(gradient: Array, normal: Array, held: NDArray[np.bool_], damping: Array) -> Array:
    free = (~held).astype(np.float64)
    size = np.einsum("bpp->bp", normal)
    size = np.where(size > 0, size, 1)
    root = np.sqrt(size)
    # of parameters in units of their own column, so that none is too small to be solved for
    matrix = normal / (root[:, :, None] * root[:, None, :]) * (free[:, :, None] * free[:, None, :])
    at = np.arange(gradient.shape[1])
    matrix[:, at, at] = np.where(held, 1, matrix[:, at, at] + damping[:, None])
    solved = np.linalg.solve(matrix, (-gradient * free / root)[:, :, None])[:, :, 0]
    return np.asarray(solved * free / root)
