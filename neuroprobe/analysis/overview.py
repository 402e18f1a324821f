"""What the units of each layer of a result have in common: the numbers that tables and pictures show.

Layers come in the order in which they were recorded, and undefined units are left out. A standard error beside a number
is that of single units, their median or mean; the error of a mean over units is at most the mean of theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import xarray as xr

from neuroprobe import names
from neuroprobe.analysis.sensitivity import PROFILED, quantiles_over_units, recorded_order
from neuroprobe.errors import ReaderError, unknown_name
from neuroprobe.statistics import summary

INDICES: Final = (names.FIRST_ORDER, names.TOTAL_ORDER)
FACTOR_INDICES: Final = PROFILED  # of single factors
PAIRS: Final = (names.SECOND_ORDER, names.TOTAL_INTERACTION)
TAIL: Final = 0.005  # share of units on either side that a histogram may leave out
N_ERRORS: Final = 2.0  # standard errors that an index has to exceed to count as clear of 0


def index_group(result: xr.DataTree, index: str | None = None) -> xr.DataTree:
    """Return the group of a result that holds an index, or a tree of layers that holds it itself.

    Parameters
    ----------
    index : str, optional
        Such as ``first_order``, which is in ``sobol``, or ``shapley_effect``; by default any of a single factor, or
        else the coefficient of variation, which is in ``moments``.

    Raises
    ------
    ReaderError
        If no layer of any group holds it.
    """
    index = next(iter(_held(result)), names.COEFFICIENT_OF_VARIATION) if index is None else index
    for group in _groups(result):
        if any(index in layer.data_vars for layer in group.children.values()):
            return group
    raise ReaderError(f"this result has no index {index!r}; it has: {', '.join(held_indices(result))}")


def held_indices(result: xr.DataTree) -> list[str]:
    """Return the indices that a result holds, those of single factors first.

    Raises
    ------
    ReaderError
        If there are none.
    """
    held = _held(result)
    if not held:
        raise ReaderError(
            f"no indices in this tree (it has: {', '.join(result.children) or 'none'}); "
            "open the result of a run with `analyses: [sobol]` or [shapley] by `open_result`"
        )
    return held


def single_indices(result: xr.DataTree) -> list[str]:
    """Return the indices of single factors that a result holds."""
    return [index for index in held_indices(result) if index in FACTOR_INDICES]


def _held(result: xr.DataTree) -> list[str]:
    layers = [layer for group in _groups(result) for layer in group.children.values()]
    return [index for index in (*FACTOR_INDICES, *PAIRS) if any(index in layer.data_vars for layer in layers)]


def _groups(result: xr.DataTree) -> list[xr.DataTree]:
    return [result, *result.children.values()]


def _child(result: xr.DataTree, group: str) -> xr.DataTree:
    if group not in result.children:
        raise ReaderError(
            f"no group {group!r} in this tree (it has: {', '.join(result.children) or 'none'}); "
            "open the result of a run by `open_result`"
        )
    return result.children[group]


def over_layers(
    result: xr.DataTree, summarise: Callable[[xr.Dataset], xr.Dataset], index: str | None = None
) -> xr.Dataset:
    """Summarise the layers of a result one after the other, in the order of recording, along the dimension layer."""
    layers = recorded_order(index_group(result, index))
    summaries = [summarise(layer_indices(result, layer, index)) for layer in layers]
    return xr.concat(summaries, xr.Variable(names.LAYER, np.array(layers, dtype=object)))


def _unit_dims(indices: xr.Dataset) -> list[str]:
    """Dimensions of the units of a layer."""
    return [str(dim) for dim in indices[names.DEFINED].dims]


def _defined(values: np.ndarray) -> np.ndarray:
    return values[~np.isnan(values)]


def layer_indices(result: xr.DataTree, layer: str, index: str | None = None) -> xr.Dataset:
    """Return the indices of one layer.

    Raises
    ------
    ReaderError
        If there is no such layer, or it has no such index.
    """
    group = index_group(result, index)
    if layer not in group.children:
        raise ReaderError(unknown_name("layer", layer, recorded_order(group)))
    indices = group.children[layer].to_dataset()
    if index is not None and index not in indices:
        held = [name for name in (*FACTOR_INDICES, *PAIRS) if name in indices]
        raise ReaderError(f"layer {layer!r} has no index {index!r}; it has: {', '.join(held)}")
    return indices


def require_index(index: str, known: Sequence[str] = FACTOR_INDICES) -> None:
    """Refuse an index of another kind.

    Raises
    ------
    ReaderError
        Naming those that are known.
    """
    if index not in known:
        raise ReaderError(unknown_name("index", index, known))


def index_means(result: xr.DataTree) -> xr.Dataset:
    """Means over the defined units of the indices of single factors, and of their standard errors: (layer, factor)."""

    def of(index: str) -> xr.Dataset:
        return over_layers(
            result,
            lambda indices: xr.Dataset(
                {
                    name: indices[name].mean(_unit_dims(indices), skipna=True, keep_attrs=True)
                    for name in (index, names.se(index))
                }
            ),
            index,
        )

    return xr.merge([of(index) for index in single_indices(result)], join="outer", compat="equals")


def index_distributions(result: xr.DataTree, index: str = names.FIRST_ORDER, n_bins: int = 60) -> xr.Dataset:
    """Histograms of an index over the defined units of each layer.

    Parameters
    ----------
    index : str
        ``first_order``, ``total_order`` or ``shapley_effect``.
    n_bins : int
        Bins between the lowest and the highest value of all layers and factors, but for 1 % of their units.

    Returns
    -------
    Dataset
        ``share(layer, factor, bin)`` of the defined units, ``outside(layer, factor)``, the share that lies beyond all
        bins; ``<index>_median(layer, factor)`` and ``<index>_se_median``; ``n_defined(layer)``. ``bin`` gives the
        middles of the bins, ``bin_start`` and ``bin_end`` their edges.
    """
    require_index(index)
    quantiles, error = (TAIL, 0.5, 1 - TAIL), names.median(names.se(index))
    profile = over_layers(
        result,
        lambda indices: xr.Dataset(
            {
                index: quantiles_over_units(indices[index], quantiles),
                error: quantiles_over_units(indices[names.se(index)], [0.5]).isel({names.QUANTILE: 0}, drop=True),
            }
        ),
        index,
    )
    edges = _edges(profile[index].values, n_bins)
    shares = over_layers(result, lambda indices: _histograms(indices, index, edges), index)
    return shares.assign(
        {names.median(index): profile[index].sel({names.QUANTILE: 0.5}, drop=True), error: profile[error]}
    )


def _histograms(indices: xr.Dataset, index: str, edges: np.ndarray) -> xr.Dataset:
    """Histograms of one layer, one per factor."""
    start, end = edges[:-1], edges[1:]
    counts = np.stack(
        [np.histogram(_defined(indices[index][i].values), edges)[0] for i in range(indices.sizes[names.FACTOR])]
    )
    n_defined = int(indices[names.DEFINED].sum())
    divisor = n_defined or np.nan
    return xr.Dataset(
        {
            names.SHARE: ((names.FACTOR, names.BIN), counts / divisor),
            names.OUTSIDE: (names.FACTOR, (n_defined - counts.sum(1)) / divisor),
            names.N_DEFINED: n_defined,
        },
        {
            names.FACTOR: indices[names.FACTOR].values,
            names.BIN: (start + end) / 2,
            names.BIN_START: (names.BIN, start),
            names.BIN_END: (names.BIN, end),
        },
    )


def _edges(values: np.ndarray, n_bins: int) -> np.ndarray:
    """Edges of bins from 0, or from the lowest value, to the highest."""
    defined = _defined(values)
    low, high = (min(0.0, defined.min()), defined.max()) if defined.size else (0.0, 1.0)
    return np.linspace(low, max(high, low + 1e-6), n_bins + 1)


def interaction_profile(result: xr.DataTree, index: str = names.SECOND_ORDER) -> xr.Dataset:
    """Medians and 95th percentiles over the defined units of the indices of pairs.

    Parameters
    ----------
    index : str
        ``second_order`` or ``total_interaction``.

    Returns
    -------
    Dataset
        The index over (layer, quantile, factor, factor_2), the median of its standard error over (layer, factor,
        factor_2), and ``n_defined(layer)``; the diagonals are empty.

    Raises
    ------
    ReaderError
        If the result has no such index.
    """
    require_index(index, PAIRS)
    return over_layers(
        result,
        lambda indices: xr.Dataset(
            {
                index: quantiles_over_units(indices[index], (0.5, 0.95)),
                names.se(index): quantiles_over_units(indices[names.se(index)], (0.5,)).isel(
                    {names.QUANTILE: 0}, drop=True
                ),
                names.N_DEFINED: int(indices[names.DEFINED].sum()),
            }
        ),
        index,
    )


def convergence_table(result: xr.DataTree, index: str = names.FIRST_ORDER) -> xr.Dataset:
    """Return how the standard errors of an index fell with the base samples, as a run stored it.

    Returns
    -------
    Dataset
        ``<index>_se_median``, ``<index>_se_p95`` and ``<index>_se_share_converged`` over (samples, layer, factor).

    Raises
    ------
    ReaderError
        If the result has no such table, or it has no such index.
    """
    require_index(index)
    for node in _child(result, names.CONVERGENCE).children.values():
        chosen = [name for name in node.data_vars if str(name).startswith(f"{names.se(index)}_")]
        if chosen:
            return node.to_dataset()[chosen]
    raise ReaderError(f"the table of convergence has no index {index!r}; it is that of the analyses of the run")


def stored_examples(result: xr.DataTree) -> xr.Dataset:
    """Return the examples of the stimuli of a run: see `neuroprobe.stimuli.examples`.

    Raises
    ------
    ReaderError
        If the result holds none.
    """
    return _child(result, names.STIMULI).children[names.EXAMPLES].to_dataset()


def unit_counts(result: xr.DataTree, thresholds: Sequence[float] = (0.01, 0.05)) -> xr.Dataset:
    """Count the units of each layer that have no index, and those that are rarely active.

    Returns
    -------
    Dataset
        Over layers: ``n_units``; ``n_defined``; the undefined ones in three parts: ``n_silent`` were never active
        (above 0), ``n_constant`` were active and did not vary, ``n_lost`` had a non-finite response in every base
        sample; ``n_with_dropped``, units for which some base samples were left out. ``n_rare(layer, threshold)``:
        defined units that were active in a smaller share of the presentations than the threshold.
    """

    def count(indices: xr.Dataset) -> xr.Dataset:
        defined, rate = indices[names.DEFINED].values == 1, indices[names.ACTIVITY_RATE].values
        dropped = indices[names.N_DROPPED].values > 0 if names.N_DROPPED in indices else np.zeros(1, dtype=bool)
        return xr.Dataset(
            {
                names.N_UNITS: defined.size,
                names.N_DEFINED: int(defined.sum()),
                names.N_SILENT: int((~defined & (rate == 0)).sum()),
                names.N_CONSTANT: int((~defined & (rate > 0)).sum()),
                names.N_LOST: int((~defined & np.isnan(rate)).sum()),
                names.N_WITH_DROPPED: int(dropped.sum()),
                names.N_RARE: (
                    names.THRESHOLD,
                    [int((defined & (rate < threshold)).sum()) for threshold in thresholds],
                ),
            },
            {names.THRESHOLD: list(thresholds)},
        )

    return over_layers(result, count)


def preferred_factor(indices: xr.Dataset, index: str = names.TOTAL_ORDER, n_errors: float = N_ERRORS) -> xr.DataArray:
    """Factor of which each unit of a layer has the largest index.

    Parameters
    ----------
    indices : Dataset
        A layer of a result.
    index : str
        ``first_order``, ``total_order`` or ``shapley_effect``.
    n_errors : float
        Standard errors that the largest index has to exceed.

    Returns
    -------
    DataArray
        Over the layer's own dimensions: the name of the factor; empty for units whose largest index is not clear of 0,
        and for undefined ones.
    """
    largest, clear = _preferred(indices, index, n_errors)
    labels = np.where(clear, indices[names.FACTOR].values.astype(object)[largest], "")
    dims = _unit_dims(indices)
    coords = {dim: indices.coords[dim] for dim in dims if dim in indices.coords}
    return xr.DataArray(
        labels.reshape([indices.sizes[dim] for dim in dims]), coords, dims, "preferred", {"comment": _rule(n_errors)}
    )


def preferences(result: xr.DataTree, index: str = names.TOTAL_ORDER, n_errors: float = N_ERRORS) -> xr.Dataset:
    """Shares of the defined units of each layer that prefer each factor: see `preferred_factor`.

    Returns
    -------
    Dataset
        ``share(layer, factor)``, ``unclear(layer)``, the share of units without a clear preference, and
        ``n_defined(layer)``. The attribute ``by_chance`` bounds the share of units that first-order indices without any
        effect would give by their errors alone, all factors together (Bonferroni; t with the errors' degrees of
        freedom).
    """

    def shares(indices: xr.Dataset) -> xr.Dataset:
        largest, clear = _preferred(indices, index, n_errors)
        factors = indices[names.FACTOR].values
        n_defined = int(indices[names.DEFINED].sum())
        counts = np.bincount(largest[clear], minlength=len(factors))
        divisor = n_defined or np.nan
        return xr.Dataset(
            {
                names.SHARE: (names.FACTOR, counts / divisor),
                names.UNCLEAR: (n_defined - counts.sum()) / divisor,
                names.N_DEFINED: n_defined,
            },
            {names.FACTOR: factors},
        )

    require_index(index)
    found = over_layers(result, shares, index)
    attrs: dict[str, Any] = {"rule": _rule(n_errors)}
    df = error_attrs(result, index).get("df")
    if df:
        from scipy import stats

        attrs["by_chance"] = min(1.0, found.sizes[names.FACTOR] * float(stats.t.sf(n_errors, df)))
    return found.assign_attrs(attrs)


def _preferred(indices: xr.Dataset, index: str, n_errors: float) -> tuple[np.ndarray, np.ndarray]:
    values, errors = (
        indices[name].transpose(names.FACTOR, ...).values.reshape(indices.sizes[names.FACTOR], -1)
        for name in (index, names.se(index))
    )
    return summary.preferred(values, errors, n_errors)


def _rule(n_errors: float) -> str:
    return f"the factor whose index is largest, where it exceeds {n_errors:g} of its standard errors"


def error_attrs(result: xr.DataTree, index: str | None = None) -> dict[str, Any]:
    """Return what a result says of its standard errors: ``se_scope``, ``se_kind``, ``df``.

    ``interval`` is added: the number of standard errors on either side of an estimate that make a 95 % interval.
    """
    index = single_indices(result)[0] if index is None else index
    group = index_group(result, index)
    attrs = dict(layer_indices(result, recorded_order(group)[0], index)[names.se(index)].attrs)
    if attrs.get("df"):
        from scipy import stats

        attrs["interval"] = float(stats.t.ppf(0.975, attrs["df"]))
    return attrs
