"""Summaries of results over units."""

from __future__ import annotations

import warnings

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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of rows without a defined unit
        median, p95 = np.nanquantile(errors, [0.5, 0.95], axis=-1)
        n_defined = np.isfinite(errors).sum(-1)
        share = np.where(n_defined > 0, (errors < tolerance).sum(-1) / n_defined, np.nan)
    return {"median": median, "p95": p95, "share_converged": share}
