"""Summaries of results over units."""

from __future__ import annotations

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
