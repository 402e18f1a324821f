"""Pictures of the indices of pairs."""

from __future__ import annotations

from collections.abc import Sequence

import holoviews as hv
import numpy as np
import xarray as xr

from neuroprobe import names
from neuroprobe.analysis.overview import interaction_profile
from neuroprobe.plot.matrices import beyond_errors, matrices
from neuroprobe.plot.style import TITLES, chosen_layers


def interactions(
    result: xr.DataTree, index: str = names.SECOND_ORDER, layers: Sequence[str] | None = None
) -> hv.Overlay:
    """Indices of the pairs of factors: a matrix per layer.

    Parameters
    ----------
    index : str
        ``second_order`` or ``total_interaction``.
    layers : sequence of str, optional
        Layers that are drawn, all by default.

    Returns
    -------
    holoviews.Overlay
        Above the diagonal the median over the defined units, below it the 95th percentile, on one colour scale for all
        layers. Numbers, where there is room for them, are grey where they do not exceed 2 median standard errors.

    Raises
    ------
    ReaderError
        If the result has no such index.
    """
    found = chosen_layers(interaction_profile(result, index), layers)
    factors = [str(one) for one in found[names.FACTOR].values]
    upper = np.triu(np.ones((len(factors), len(factors)), dtype=bool), 1)
    median, tail = found[index].transpose(names.QUANTILE, names.LAYER, ...).values
    values = np.where(upper, median, tail)
    limit = max(float(np.nanmax(np.abs(values), initial=0.0)), 0.01)
    return matrices(
        values,
        beyond_errors(values, found[names.se(index)].values),
        [str(layer) for layer in found[names.LAYER].values],
        factors,
        f"{TITLES[index]}: median over units above the diagonal, 95th percentile below it (numbers: %)",
        (-limit, limit),
    )
