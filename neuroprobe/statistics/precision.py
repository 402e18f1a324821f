"""How far the standard errors of shares of the variance have come: unit by unit, and for the units of a layer."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.statistics.indices import PAIRED, UNITS_AT_A_TIME, finalize

if TYPE_CHECKING:
    from neuroprobe.statistics.estimators import Terms
    from neuroprobe.statistics.pick_freeze import PickFreezeSums

ROUNDING: Final = 1e-9  # of a share of units


@dataclass(frozen=True)
class Precision:
    """How many units of a layer have reached a standard error.

    Attributes
    ----------
    n_defined, n_reached : int
        Units whose variance is above the noise floor, and those of them that have reached it in all their shares.
    error : float
        What the wanted share of the defined units keeps; infinite where the errors of too many are unknown, NaN where
        no unit is defined.
    """

    n_defined: int
    n_reached: int
    error: float

    @property
    def share(self) -> float:
        """Share of the defined units that have reached it; NaN where no unit is defined."""
        return self.n_reached / self.n_defined if self.n_defined else np.nan


def worst_errors(sums: PickFreezeSums, terms: Terms, quantities: Collection[str]) -> NDArray[np.float64]:
    """Return the largest standard error of each unit among some shares of its variance.

    Parameters
    ----------
    quantities : collection of str
        Such as ``first_order``: all its factors, or pairs of factors, count.

    Returns
    -------
    array (units,)
        Infinite where a share has an unknown error, as of units that vary in one block alone; NaN of undefined units.
    """
    n_units = sums.total.shape[1]
    worst = np.zeros(n_units)
    for start in range(0, n_units, UNITS_AT_A_TIME):
        units = slice(start, start + UNITS_AT_A_TIME)
        found = finalize(sums.of_units(units), terms, quantities)
        for name in quantities:
            errors = found[names.se(name)]
            if name in PAIRED:
                errors = errors[np.triu_indices(len(errors), 1)]
            known = np.where(np.isnan(errors), np.inf, errors)
            worst[units] = np.maximum(worst[units], known.max(0, initial=0))
        worst[units][found[names.DEFINED] == 0] = np.nan
    return worst


def precision(worst: NDArray[np.float64], se: float, share: float) -> Precision:
    """Count the units of a layer that have reached a standard error.

    Parameters
    ----------
    worst : array (units,)
        As `worst_errors` returns it.
    se : float
    share : float
        Of the defined units, whose error is told.

    Examples
    --------
    >>> precision(np.array([0.01, 0.02, 0.04, np.nan]), se=0.02, share=0.6)
    Precision(n_defined=3, n_reached=2, error=0.02)
    """
    defined = np.sort(worst[~np.isnan(worst)])
    if not defined.size:
        return Precision(0, 0, np.nan)
    error = float(defined[needed(defined.size, share) - 1])
    return Precision(defined.size, int((defined <= se).sum()), error)


def needed(n_units: int, share: float) -> int:
    """Return how many of some units a share of them is, at least one.

    Examples
    --------
    >>> needed(100, 0.95), needed(10, 0.95), needed(3, 0.01)
    (95, 10, 1)
    """
    return max(1, int(np.ceil(n_units * share - ROUNDING)))
