"""Tuning curves as problems of least squares: stimuli of each unit, bounds, residuals (NumPy, no labels)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from neuroprobe.statistics.tuning_models import Samples, TuningModel

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]
DIFFERENCE: Final = 1e-6  # of ranges of parameters, for derivatives
FLAT: Final = 1e-10  # range of a curve that is rounding beside its largest response


@dataclass(frozen=True)
class CurveProblem:
    """Curves to fit: arrays (problems, conditions), weights 0 where a response is missing.

    Attributes
    ----------
    x, y, weight : float arrays (problems, conditions)
    samples : Samples
    lower, upper : float arrays (problems, parameters)
    n_stimuli : int array (problems,)
        Different ones.
    """

    model: TuningModel
    x: Array
    y: Array
    weight: Array
    samples: Samples
    lower: Array
    upper: Array
    n_stimuli: NDArray[np.int64]

    def residuals(self, rows: NDArray[np.int64], parameters: Array) -> tuple[Array, Array]:
        """Weighted residuals and their Jacobian."""
        n = len(self.model.coefficients)
        coefficients, shape, x = parameters[:, :n], parameters[:, n:], self.x[rows]
        basis = self.model.basis(x, shape)
        root = np.sqrt(self.weight[rows])
        jacobian = np.empty((*x.shape, parameters.shape[1]))
        jacobian[:, :, :n] = basis
        reach = self.upper[rows, n:] - self.lower[rows, n:]
        h = DIFFERENCE * np.where(np.isfinite(reach), reach, 100)
        for at in range(shape.shape[1]):
            moved = np.zeros(shape.shape)
            moved[:, at] = h[:, at]
            change = self.model.curve(x, coefficients, shape + moved) - self.model.curve(x, coefficients, shape - moved)
            jacobian[:, :, n + at] = change / (2 * h[:, at, None])
        error = np.einsum("bkl,bl->bk", basis, coefficients) - self.y[rows]
        return root * error, root[:, :, None] * jacobian


def problem_of(
    model: TuningModel, x: Array, mean: Array, n: Array | None, weights: Array | None
) -> tuple[CurveProblem, Flags]:
    """Curves as problems, and which of them can be fitted."""
    weight = n if weights is None else weights
    weight = np.ones(mean.shape) if weight is None else weight
    shown = ~np.isnan(x) & ~np.isnan(mean) & (weight > 0)
    lowest = np.min(x, where=~np.isnan(x), initial=np.inf)
    if (model.positive and lowest <= 0) or (model.from_zero and lowest < 0):
        least = "above 0" if model.positive else "0 or more"
        raise ValueError(f"{model.name} is of stimuli that are {least}, received {lowest:g}; leave these out")
    x, y, weight, shown = x.T, mean.T, np.where(shown, weight, 0).T, shown.T
    place = np.mod(x, model.period) if model.period else x
    samples, n_stimuli = _samples(model, np.where(shown, place, np.nan))
    usable = np.where(shown.any(1), np.nanmin(np.where(shown, x, np.inf), axis=1, initial=np.inf), 1)
    x, y = np.where(shown, x, usable[:, None]), np.where(shown, y, 0)
    high = np.max(y, axis=1, where=shown, initial=-np.inf)
    reach = high - np.min(y, axis=1, where=shown, initial=np.inf)
    enough = n_stimuli > model.n_parameters
    fittable = enough & (reach > FLAT * np.abs(y).max(1))
    lower, upper = (np.stack(bound, axis=1) for bound in model.bounds(samples))
    largest = np.where(np.array(model.coefficients) == "baseline", np.inf, model.limit)
    largest = largest * np.where(fittable, reach, 1)[:, None]
    lowest_part = np.where(np.array(model.signed), -largest, 0)
    lower, upper = np.concatenate([lowest_part, lower], axis=1), np.concatenate([largest, upper], axis=1)
    return CurveProblem(model, x, y, weight, samples, lower, upper, n_stimuli), fittable


def _samples(model: TuningModel, x: Array) -> tuple[Samples, NDArray[np.int64]]:
    """Where the stimuli (problems, conditions) are, and how many different ones there are."""
    ordered = np.sort(np.log2(x) if model.positive else x, axis=1)
    step = np.diff(ordered, axis=1)
    differs = step > 1e-9 * np.nanmax(np.abs(ordered), axis=1, initial=1)[:, None]
    n_stimuli = differs.sum(1) + (~np.isnan(x)).any(1)
    size = np.sort(np.where(differs, step, np.nan), axis=1)
    middle = np.maximum(n_stimuli - 2, 0) // 2  # the lower median, so that a large gap is no step
    usual = size[np.arange(len(x)), np.minimum(middle, size.shape[1] - 1)] if size.shape[1] else np.ones(len(x))
    known = n_stimuli > 1
    least = np.min(x, axis=1, where=~np.isnan(x), initial=np.inf)
    largest = np.max(x, axis=1, where=~np.isnan(x), initial=-np.inf)
    positive = np.min(x, axis=1, where=x > 0, initial=np.inf)
    # units that cannot be fitted have stimuli that harm nobody
    return Samples(
        np.where(known, least, 1),
        np.where(known, largest, 2),
        np.where(known, usual, 1),
        np.where(known & np.isfinite(positive), positive, 1),
    ), n_stimuli
