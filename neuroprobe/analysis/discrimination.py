"""How well single trials tell a condition from others: d′ and areas under ROC curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroprobe.analysis.populations import Piece, Population, populations_of, require_trials
from neuroprobe.analysis.unit_results import CONDITION, UnitResults, common_attrs, require_correction
from neuroprobe.errors import ReaderError
from neuroprobe.statistics.trials import against_blank, kruskal_wallis

Array = NDArray[np.float64]
RANKS: Final = "rank test of the trials of both (Mann & Whitney, as Kruskal & Wallis)"
DESCRIBED: Final = {
    "d_prime": ("d′ of the condition against the others", "(m₁ - m₂) / √((v₁ + v₂) / 2)"),
    "auc": ("area under the ROC curve of the condition against the others", "Mann & Whitney's U / (n₁ n₂)"),
    "p_value": ("p-value of a difference from the others", RANKS),
}
FOUND: Final = ("d_prime", "d_prime_se", "auc", "auc_se", "p_value")


def discrimination(
    recording: xr.DataTree,
    factors: Sequence[str] | str | None = None,
    *,
    against: Any = None,
    units: str | None = None,
    correction: str = "fdr_bh",
) -> xr.Dataset:
    """How well an observer of single trials of one unit would tell a condition from others.

    Parameters
    ----------
    recording, factors, units
        As for `neuroprobe.responsiveness`.
    against : str or float, optional
        Condition, of one factor, that all others are compared with. By default each is compared with the trials of all
        others together (Kreiman et al. 2006). For blanks see `neuroprobe.responsiveness`.
    correction : str
        Of p-values, for the number of units, condition by condition.

    Returns
    -------
    Dataset
        Over (``condition``, ``unit``): ``d_prime`` and ``auc`` (ties count half) with standard errors, ``p_value``,
        ``p_adjusted``; ``defined`` over ``unit``. NaN where a unit lacks a trial, does not vary, or a condition is
        compared with itself.

    Raises
    ------
    ReaderError
        If there are fewer than two conditions, `against` is none of them, or responses are means over trials.

    Examples
    --------
    >>> from neuroprobe.recordings.build import node_of, tree_of
    >>> from neuroprobe.recordings.columns import Table
    >>> table = Table({"kind": np.array(["face"] * 4 + ["house"] * 5, dtype=object)})
    >>> counts = np.array([3.0, 5, 6, 9, 1, 2, 3, 4, 5])[:, None]
    >>> node = node_of(counts, table, Table({"unit_id": np.array(["u1"], dtype=object)}))
    >>> found = discrimination(tree_of({"it": node}), "kind")
    >>> found.auc.values.ravel(), found.d_prime.values.ravel().round(6)
    (array([0.85, 0.15]), array([ 1.314751, -1.314751]))
    """
    require_correction(correction)
    populations = populations_of(recording, factors, units)
    require_conditions(populations, against)
    results = UnitResults(populations)
    for one in populations:
        for piece in one.pieces():
            results.add(one, (CONDITION,), **_of(piece, against))
    return results.dataset(
        DESCRIBED,
        common_attrs("discrimination", populations, against="all others" if against is None else str(against)),
        defined="auc",
        correction=correction,
    )


def require_conditions(populations: Sequence[Population], against: Any) -> None:
    """Refuse fewer than two conditions, or one to compare with that there is not.

    Raises
    ------
    ReaderError
    """
    require_trials(populations, "discrimination")
    labels = list(dict.fromkeys(label for one in populations for label in one.conditions.labels))
    factors = populations[0].factors
    if len(labels) < 2:
        raise ReaderError(f"discrimination is of two conditions or more; {', '.join(factors)} has {len(labels)}")
    if against is None:
        return
    if len(factors) > 1 or not any(_is(label, against) for label in labels):
        told = ", ".join(str(label[0]) for label in labels[:12])
        raise ReaderError(f"against: {against!r} is no condition of {', '.join(factors)}: {told}")


def _is(label: tuple[Any, ...], given: Any) -> bool:
    return bool(label[0] == given or str(label[0]) == str(given))


def _of(piece: Piece, against: Any) -> dict[str, Array]:
    values, condition, n = piece.arguments
    labels = piece.population.conditions.labels
    reference = None if against is None else [number for number, one in enumerate(labels) if _is(one, against)]
    found = {name: np.full((n, values.shape[1]), np.nan) for name in FOUND}
    complete = ~np.isnan(values[condition >= 0]).any(0) & ~piece.is_constant
    known = values[:, complete]
    for number in range(n):
        own = condition == number
        others = (condition >= 0) & ~own if reference is None else np.isin(condition, reference) & ~own
        if not (own.any() and others.any() and complete.any()):
            continue
        told = against_blank(known, np.where(own, 0, -1), 1, others)
        test = kruskal_wallis(known, np.where(own, 0, np.where(others, 1, -1)), 2)
        rows = (told.d_prime[0], told.d_prime_se[0], told.auc[0], told.auc_se[0], test.p_value)
        for name, row in zip(FOUND, rows, strict=True):
            found[name][number, complete] = row
    return found
