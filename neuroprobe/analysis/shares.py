"""How the variance of the units of each layer is shared out among the factors."""

from __future__ import annotations

from typing import Final

import xarray as xr

from neuroprobe import names
from neuroprobe.analysis.overview import over_layers, require_index, single_indices

INTERACTIONS: Final = "interactions"  # what first-order indices leave of the variance
SPLITS: Final = (names.SHAPLEY_EFFECT, names.FIRST_ORDER)  # indices that are parts of the variance


def mean_shares(result: xr.DataTree, index: str | None = None, by_variance: bool = False) -> xr.Dataset:
    """Mean parts of the variance of the defined units of each layer, which sum to 1.

    Parameters
    ----------
    index : str, optional
        ``shapley_effect``, the factors' shares, or ``first_order``, their shares alone and that of interactions; by
        default the former where there is one.
    by_variance : bool
        Whether units count by their variance, which gives parts of the variance of the whole layer (Gamboa et al.
        2014), rather than all alike.

    Returns
    -------
    Dataset
        ``share(layer, part)``, the parts being the factors, and ``interactions`` beside those of first order.
        ``share_se`` is the mean of the standard errors of the units that have one, or for interactions the sum of those
        of the factors: errors of the means are hardly larger.
    """
    index = known_shares(result)[0] if index is None else index
    require_index(index, SPLITS)

    def shares(indices: xr.Dataset) -> xr.Dataset:
        weights = (
            indices[names.VARIANCE].fillna(0) if by_variance else xr.ones_like(indices[names.DEFINED], dtype=float)
        )
        found = indices[[index, names.se(index)]].weighted(weights).mean(indices[names.DEFINED].dims)
        found = found.rename({names.FACTOR: names.PART, index: names.SHARE, names.se(index): names.se(names.SHARE)})
        if index == names.FIRST_ORDER:
            total = found.sum(names.PART, skipna=False)
            rest = total.assign({names.SHARE: 1 - total[names.SHARE]})
            found = xr.concat([found, rest.assign_coords({names.PART: INTERACTIONS})], names.PART)
        return found.assign_coords({names.PART: found[names.PART].values.astype(object)})

    return over_layers(result, shares, index).assign_attrs(index=index)


def known_shares(result: xr.DataTree) -> list[str]:
    """Return the indices of a result that split the variance into parts."""
    return [one for one in SPLITS if one in single_indices(result)]
