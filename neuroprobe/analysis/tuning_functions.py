"""Functions fitted to the tuning curves of units of all populations together, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.analysis.populations import Piece, Population
from neuroprobe.analysis.unit_results import CONDITION, UnitResults
from neuroprobe.errors import ReaderError
from neuroprobe.statistics.conditions import Curves
from neuroprobe.statistics.tuning_bootstrap import bootstrap_means, interval, refit
from neuroprobe.statistics.tuning_fits import Fit, fit_tuning
from neuroprobe.statistics.tuning_models import MODELS

Array = NDArray[np.float64]
MODELS_OF: Final = tuple(MODELS)
DRAWN_BYTES: Final = 512 << 20  # of draws of curves that are in memory together
METHOD: Final = "weighted least squares from several starts"


class Batch:
    """Curves of pieces until they are enough to be fitted together, whichever populations they are of.

    Parameters
    ----------
    results : UnitResults
        Gets what is fitted, in the order in which pieces come.
    models : sequence of str
    n_draws : int
    level : float
    seed : int
    """

    def __init__(self, results: UnitResults, models: Sequence[str], n_draws: int, level: float, seed: int) -> None:
        self.results, self.models, self.n_draws, self.level, self.seed = results, models, n_draws, level, seed
        self.described: dict[str, tuple[str, str]] = {}
        self._pieces: list[Piece] = []

    def add(self, piece: Piece) -> None:
        """Add a piece, and fit what there is if that is enough."""
        if not self.models:
            return
        self._pieces.append(piece)
        n_units = sum(one.values.shape[1] for one in self._pieces)
        most = max(len(one.population.conditions.labels) for one in self._pieces)
        if 8 * n_units * most * max(self.n_draws, 1) >= DRAWN_BYTES:
            self.fit()

    def fit(self) -> None:
        """Fit all functions to the curves that are waiting."""
        if not self._pieces:
            return
        curves = [(piece.population, piece.shown_curves) for piece in self._pieces]
        most = max(len(found.n) for _, found in curves)
        mean, n, variance, x = (
            np.concatenate([_padded(part, most) for part in parts], axis=1)
            for parts in zip(*(self._parts(one, found) for one, found in curves), strict=True)
        )
        draws = self._draws(mean.shape) if self.n_draws else None
        places = np.where(np.isnan(mean), np.nan, x)
        n = np.nan_to_num(n).astype(np.int64)
        for model in self.models:
            has_trials = (~np.isnan(variance)).any()
            try:
                fit = fit_tuning(model, places, mean, n, variance if has_trials else None)
            except ValueError as error:
                factor = self._pieces[0].population.factors[0]
                raise ReaderError(f"{factor}: {error}; leave such conditions out, or take another function") from None
            self._add(model, fit, places, draws, n)
        self._pieces = []

    @staticmethod
    def _parts(population: Population, curves: Curves) -> tuple[Array, Array, Array, Array]:
        """Means, numbers of trials, variances and stimuli of a population's own conditions."""
        x = np.array([label[0] for label in population.conditions.labels], dtype=np.float64)
        return curves.mean, curves.n.astype(np.float64), curves.variance, np.broadcast_to(x[:, None], curves.mean.shape)

    def _draws(self, shape: tuple[int, int]) -> Array:
        """Curves of trials drawn with replacement (draws, conditions, units); NaN where there are no repetitions."""
        found = np.full((self.n_draws, *shape), np.nan)
        start = 0
        for piece in self._pieces:
            one, stop = piece.population, start + piece.values.shape[1]
            if one.repeats and piece.is_noisy and not one.is_means:
                drawn = bootstrap_means(*piece.arguments, self.n_draws, one.random(self.seed, "tuning"))
                found[:, : drawn.shape[1], start:stop] = drawn
            start = stop
        return found

    def _add(self, model: str, fit: Fit, x: Array, draws: Array | None, n: NDArray[np.int64]) -> None:
        population = self._pieces[0].population
        reported = {**fit.parameters, **fit.derived}
        arrays: dict[str, NDArray[Any]] = {}
        refitted = None if draws is None else refit(fit, x, draws, n)
        drawn = np.zeros(fit.defined.shape, dtype=np.bool_) if draws is None else ~np.isnan(draws).all((0, 1))
        bootstrapped = f"{METHOD}; errors and interval by the bootstrap over trials ({self.n_draws} draws)"
        for name, value in reported.items():
            full = f"{model}_{name}"
            value = np.where(fit.defined, value, np.nan)
            arrays[full] = value
            self.described[full] = (f"{name.replace('_', ' ')} of the fitted {model.replace('_', ' ')}", bootstrapped)
            if refitted is not None:
                found = interval(value, refitted[name], self.level, MODELS[model].periods.get(name, 0.0))
                arrays |= {names.se(full): found.se, names.lower(full): found.low, names.upper(full): found.high}
                failed = np.where(fit.defined & drawn, found.share_failed, np.nan)
                arrays.setdefault(f"{model}_share_failed", failed)
        for name, bounded in fit.at_bound.items():
            arrays[f"{model}_{name}_at_bound"] = bounded.astype(np.int8)
            self.described[f"{model}_{name}_at_bound"] = (f"1 where {name} ended at a bound: there or beyond", METHOD)
        arrays |= {
            f"{model}_r_squared": fit.r_squared,
            f"{model}_aic_difference": fit.aic_difference,
            f"{model}_converged": fit.converged.astype(np.int8),
            f"{model}_defined": fit.defined.astype(np.int8),
        }
        self.described |= {
            f"{model}_curve": ("fitted response", METHOD),
            f"{model}_r_squared": (
                "share of the variance of mean responses that is fitted",
                "1 - Σ w (r - fit)² / Σ w (r - r̄)²",
            ),
            f"{model}_aic_difference": ("how much better than a constant the fit is", "difference of AICc"),
            f"{model}_converged": ("1 where a minimum was reached", METHOD),
            f"{model}_defined": (
                "1 where the fit means anything",
                "neither curve nor fit is flat, more stimuli than parameters",
            ),
            f"{model}_share_failed": (
                "share of draws without a fit, which the interval leaves out",
                "bootstrap over trials",
            ),
        }
        self.results.add(population, **arrays)
        start = 0
        for piece in self._pieces:
            one, stop = piece.population, start + piece.values.shape[1]
            self.results.add(
                one, (CONDITION,), **{f"{model}_curve": fit.curve[: len(one.conditions.labels), start:stop]}
            )
            start = stop


def _padded(array: Array, n_conditions: int) -> Array:
    """Add conditions that no unit was shown, so that units with other numbers of conditions are fitted together."""
    return np.pad(array, ((0, n_conditions - len(array)), (0, 0)), constant_values=np.nan)


def fitted(batch: Batch) -> dict[str, tuple[str, str]]:
    """Fit what is left, and say what the variables are."""
    batch.fit()
    return batch.described
