"""What the units of each layer have in common in their moments."""

from __future__ import annotations

from typing import Final

import numpy as np
import xarray as xr

from neuroprobe import names
from neuroprobe.analysis.sensitivity import recorded_order
from neuroprobe.errors import ReaderError
from neuroprobe.statistics.summary import quantiles

MOMENTS: Final = (names.MEAN, names.VARIANCE, names.COEFFICIENT_OF_VARIATION, names.ACTIVITY_RATE)


def moments_table(result: xr.DataTree) -> xr.Dataset:
    """Medians of the moments over the units of each layer that vary, and of their standard errors.

    Parameters
    ----------
    result : xarray.DataTree
        As `neuroprobe.open_result` opens it.

    Returns
    -------
    Dataset (layer)
        ``mean``, ``variance``, ``coefficient_of_variation`` and ``activity_rate``, each with ``_se``; NaN where no unit
        varies. ``n_units``; ``n_defined``, those that vary.

    Raises
    ------
    ReaderError
        If the result has no moments.
    """
    if "moments" not in result.children:
        raise ReaderError(
            f"no group 'moments' in this tree (it has: {', '.join(result.children) or 'none'}); "
            "run a protocol with `analyses: [moments]`"
        )
    group = result.children["moments"]
    layers = recorded_order(group)
    summaries = [_medians(group.children[layer].to_dataset()) for layer in layers]
    return xr.concat(summaries, xr.Variable(names.LAYER, np.array(layers, dtype=object)))


def _medians(node: xr.Dataset) -> xr.Dataset:
    """Medians of one layer."""
    defined = node[names.DEFINED].values == 1
    medians = {
        name: float(quantiles(node[name].values[defined], [0.5])[0])
        for moment in MOMENTS
        for name in (moment, names.se(moment))
    }
    return xr.Dataset({**medians, names.N_UNITS: defined.size, names.N_DEFINED: int(defined.sum())})
