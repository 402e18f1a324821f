"""Summaries of results over units."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def error_summary(errors: NDArray[np.float64], tolerance: float) -> dict[str, NDArray[np.float64]]:
    """Summarise standard errors over units (last axis); undefined units are left out.

    Returns
    -------
    dict
        ``median``, ``p95`` and ``share_converged``, the share of defined units with an error under `tolerance`;
        NaN where no unit is defined.
    """
    defined = errors[..., np.isfinite(errors).all(tuple(range(errors.ndim - 1)))]
    if not defined.size:
        nothing = np.full(errors.shape[:-1], np.nan)
        return {"median": nothing, "p95": nothing, "share_converged": nothing}
    median, p95 = np.quantile(defined, [0.5, 0.95], axis=-1)
    return {"median": median, "p95": p95, "share_converged": (defined < tolerance).mean(-1)}


def quantiles(values: NDArray[np.float64], q: Sequence[float]) -> NDArray[np.float64]:
    """Quantiles over the defined units (last axis): (…, units) → (…, quantiles), NaN where no unit is defined."""
    rows = values.reshape(-1, values.shape[-1])
    result = np.full((len(rows), len(q)), np.nan)
    for row, found in zip(rows, result, strict=True):
        defined = row[~np.isnan(row)]
        if defined.size:
            found[:] = np.quantile(defined, q)
    return result.reshape(*values.shape[:-1], len(q))


def preferred(
    values: NDArray[np.float64], errors: NDArray[np.float64], n_errors: float
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Which of several values (factors, units) is the largest, and whether it exceeds `n_errors` standard errors.

    Returns
    -------
    largest : int array (units,)
        The first of equal ones; without meaning where `clear` is false.
    clear : bool array (units,)
        False also for units without a value.
    """
    largest = np.where(np.isnan(values), -np.inf, values).argmax(0)
    value, error = (np.take_along_axis(array, largest[None], 0)[0] for array in (values, errors))
    return largest, value > n_errors * error
