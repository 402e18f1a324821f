"""What the units of each layer are selective for: the numbers that tables and pictures of selectivity show.

Layers come in the order in which they were recorded. Units that do not respond have no index: they are in no quantile
and no share, and are counted. An index stands beside what it is by chance where the result holds that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.analysis.sensitivity import recorded_order
from neuroprobe.errors import ReaderError, unknown_name
from neuroprobe.statistics import summary

Array = NDArray[np.float64]
QUANTILES: Final = (0.05, 0.25, 0.5, 0.75, 0.95)
NULLS: Final = ("chance", "sham", "corrected")  # what an index is by chance, and what is left beyond that
SIDES: Final = ("below", "above")
LEVEL: Final = 0.05  # corrected p-values under it count as significant
DECIMALS: Final = 9  # to which values and edges of bins are rounded, so that 0.3 is not under 0.3


def selectivity_layers(result: xr.DataTree) -> list[str]:
    """Layers with selectivity indexes, in the order of recording.

    Raises
    ------
    ReaderError
        If the result has none.
    """
    return recorded_order(_group(result))


def selectivity_of(result: xr.DataTree, layer: str) -> xr.Dataset:
    """What is known of the units of a layer.

    Raises
    ------
    ReaderError
        If the result has no such group, or no such layer.
    """
    layers = selectivity_layers(result)
    if layer not in layers:
        raise ReaderError(unknown_name("layer", layer, layers))
    return _group(result).children[layer].to_dataset()


def _group(result: xr.DataTree) -> xr.DataTree:
    if names.SELECTIVITY not in result.children:
        raise ReaderError(
            f"no group {names.SELECTIVITY!r} in this tree (it has: {', '.join(result.children) or 'none'}); open the "
            f"result of a run with `analyses: [{names.SELECTIVITY}]` by `open_result`"
        )
    return result.children[names.SELECTIVITY]


def known_indexes(units: xr.Dataset) -> list[str]:
    """Names of the numbers that a layer holds of each unit."""
    return [str(name) for name in units.data_vars if holds(units, str(name))]


def holds(units: xr.Dataset, index: str) -> bool:
    """Whether a layer holds this number of each unit."""
    # variables, and not arrays with their coordinates, which take a while to make
    one = units.variables.get(index)
    return one is not None and one.dims == (names.CHANNEL,) and one.dtype.kind in "fiub"


def unit_values(result: xr.DataTree, layer: str, index: str) -> Array:
    """One number of each unit of a layer: (channels,), NaN where it is undefined or where this layer has none.

    Raises
    ------
    ReaderError
        If no layer holds it, or there is no such layer.
    """
    units = selectivity_of(result, layer)
    if holds(units, index):
        return units[index].values.astype(np.float64)
    if not has_index(result, index):
        layers = [selectivity_of(result, one) for one in selectivity_layers(result)]
        known = dict.fromkeys(one for each in layers for one in known_indexes(each))
        raise ReaderError(unknown_name("index", index, known))
    return np.full(units.sizes[names.CHANNEL], np.nan)


def has_index(result: xr.DataTree, index: str) -> bool:
    """Whether any layer holds this number of its units."""
    return any(holds(selectivity_of(result, layer), index) for layer in selectivity_layers(result))


def main_indexes(result: xr.DataTree) -> list[str]:
    """Names of the selectivity indexes of a result: those of altered stimuli, and γ of classes and of other labels."""
    found: dict[str, None] = {}
    for layer in selectivity_layers(result):
        for name, one in selectivity_of(result, layer).variables.items():
            is_index = names.SELECTIVITY in one.attrs or str(name).split("_")[-1] == names.GAMMA
            if is_index and one.dims == (names.CHANNEL,):
                found[str(name)] = None
    return list(found)


def least_p(result: xr.DataTree, index: str) -> float:
    """Smallest p-value that an index can have, of as many draws as it was compared with; NaN where that is unknown."""
    for layer in selectivity_layers(result):
        one = selectivity_of(result, layer).variables.get(f"{index}_{names.P_VALUE}")
        if one is not None and names.DRAWS in one.attrs:
            return 1 / (1 + int(one.attrs[names.DRAWS]))
    return np.nan


def can_be_significant(result: xr.DataTree, index: str) -> bool:
    """Whether an index was compared with as many draws as a p-value under 0.05 takes, as far as is known."""
    return not least_p(result, index) >= LEVEL


def p_adjusted(index: str) -> str:
    """Name of the corrected p-values of an index."""
    return f"{index}_{names.P_ADJUSTED}"


def significant(result: xr.DataTree, layer: str, *indexes: str, level: float = LEVEL) -> NDArray[np.bool_] | None:
    """Whether units are significant in each of several indexes, of those that are tested; None where none is.

    A unit without a p-value is not.
    """
    units = selectivity_of(result, layer)
    tested = [p_adjusted(index) for index in indexes if holds(units, p_adjusted(index))]
    if not tested:
        return None
    return np.all([unit_values(result, layer, name) < level for name in tested], axis=0)


def layer_quantiles(result: xr.DataTree, index: str, q: Sequence[float] = QUANTILES) -> xr.Dataset:
    """Quantiles over the defined units of each layer of an index, and of what it is by chance.

    Parameters
    ----------
    index : str
        A number of each unit, such as ``colour``, ``gamma`` or ``entropy``.
    q : sequence of float

    Returns
    -------
    Dataset
        ``<index>(layer, quantile)``, and of ``<index>_chance``, ``<index>_sham`` and ``<index>_corrected`` those that
        the result holds; NaN where no unit is defined. ``n_units``, ``n_defined`` and ``n_undefined(layer)``. Where
        units were tested: ``significant(layer)``, the share of the defined units with a corrected p-value under 0.05,
        and ``n_tested(layer)``.

    Raises
    ------
    ReaderError
        If no layer holds the index.
    """
    kept = [index, *(name for name in (f"{index}_{null}" for null in NULLS) if has_index(result, name))]
    is_tested = has_index(result, p_adjusted(index))

    def of(layer: str) -> xr.Dataset:
        values = unit_values(result, layer, index)
        found = {
            name: (names.QUANTILE, summary.quantiles(unit_values(result, layer, name)[None], q)[0]) for name in kept
        }
        layered = xr.Dataset(found, {names.QUANTILE: list(q)}).assign(_counts(values))
        if is_tested:
            p = unit_values(result, layer, p_adjusted(index))
            n_tested = int(np.isfinite(p).sum())
            share = (p < LEVEL).sum() / n_tested if n_tested else np.nan
            layered = layered.assign({names.SIGNIFICANT: share, names.N_TESTED: n_tested})
        return layered

    return _over_layers(result, of).assign_attrs(index=index, level=LEVEL)


def _counts(values: Array) -> dict[str, int]:
    n_defined = int(np.isfinite(values).sum())
    return {
        names.N_UNITS: values.size,
        names.N_DEFINED: n_defined,
        names.N_UNDEFINED: values.size - n_defined,
    }


def _over_layers(result: xr.DataTree, summarise: Callable[[str], xr.Dataset]) -> xr.Dataset:
    layers = selectivity_layers(result)
    return xr.concat([summarise(layer) for layer in layers], xr.Variable(names.LAYER, np.array(layers, dtype=object)))


def layer_shares(
    result: xr.DataTree, index: str, bins: int = 10, between: tuple[float, float] = (0.0, 1.0)
) -> xr.Dataset:
    """Shares of the defined units of each layer whose index lies in each of several bins of one width.

    Parameters
    ----------
    index : str
    bins : int
        Each holds its lower end, and the last one both ends.
    between : (float, float)
        Lower end of the first bin, and upper one of the last.

    Returns
    -------
    Dataset
        ``share(layer, bin)``, with the coordinates ``bin``, the middles, ``bin_start`` and ``bin_end``;
        ``outside(layer, side)``, the shares ``below`` and ``above`` all bins; they add up to 1 together, and are NaN
        where no unit is defined. ``n_units``, ``n_defined`` and ``n_undefined(layer)``.

    Raises
    ------
    ReaderError
        If no layer holds the index, there is no bin, or the range is empty.

    Notes
    -----
    Values are compared with the ends of the bins to 9 decimals: 1 - 0.7 is 0.3.
    """
    if bins < 1 or not between[0] < between[1]:
        raise ReaderError(
            f"bins: expected 1 or more over a range from a lower to a higher value, received {bins} over {between}; "
            "the default is 10 from 0 to 1"
        )
    edges = np.linspace(*between, bins + 1).round(DECIMALS)

    def of(layer: str) -> xr.Dataset:
        values = unit_values(result, layer, index)
        counts = _counts(values)
        defined = values[np.isfinite(values)].round(DECIMALS)
        divisor = counts[names.N_DEFINED] or np.nan
        return xr.Dataset(
            {
                names.SHARE: (names.BIN, np.histogram(defined, edges)[0] / divisor),
                names.OUTSIDE: (
                    names.SIDE,
                    np.array([(defined < edges[0]).sum(), (defined > edges[-1]).sum()]) / divisor,
                ),
                **counts,
            },
            {
                names.BIN: (edges[:-1] + edges[1:]) / 2,
                names.BIN_START: (names.BIN, edges[:-1]),
                names.BIN_END: (names.BIN, edges[1:]),
                names.SIDE: np.array(SIDES, dtype=object),
            },
        )

    return _over_layers(result, of).assign_attrs(index=index)


def index_correlations(result: xr.DataTree, x: str, y: str) -> xr.Dataset:
    """Spearman's correlation of two indexes over the units of each layer that have both.

    Returns
    -------
    Dataset
        ``correlation(layer)``; ``p_value(layer)``, two-sided, of no relation between units that are independent, and
        not corrected for the number of layers; ``n_defined(layer)``, the units with both. NaN with fewer than 3 of
        them, or where one index is the same for all.

    Raises
    ------
    ReaderError
        If no layer holds one of the indexes.
    """

    def of(layer: str) -> xr.Dataset:
        pair = np.stack([unit_values(result, layer, index) for index in (x, y)])
        pair = pair[:, np.isfinite(pair).all(0)]
        correlation, p_value = _spearman(*pair)
        return xr.Dataset(
            {
                names.CORRELATION: correlation,
                names.P_VALUE: p_value,
                names.N_DEFINED: pair.shape[1],
            }
        )

    return _over_layers(result, of)


def index_stability(result: xr.DataTree, index: str) -> xr.Dataset:
    """How alike an index orders the units of each layer by shorter lists of stimuli, and by the whole ones.

    Returns
    -------
    Dataset
        Over the lengths ``n_kept`` of shorter lists: ``correlation(layer, n_kept)``, Spearman's with the index of whole
        lists over the units that have both; ``difference(layer, n_kept)``, the median of the index of shorter lists
        less that of whole ones. ``n_defined(layer, n_kept)``. NaN as of `index_correlations`. Shorter lists are the
        beginnings of whole ones: correlations of lists that share nothing are lower.

    Raises
    ------
    ReaderError
        If no layer holds the index of shorter lists.
    """
    name = f"{index}_by_n"
    layers = [layer for layer in selectivity_layers(result) if name in selectivity_of(result, layer)]
    if not layers:
        raise ReaderError(
            f"no index {index!r} of shorter lists in this result: run with `selectivity: {{stability: …}}`"
        )

    def of(layer: str) -> xr.Dataset:
        units = selectivity_of(result, layer)
        values = units[name].transpose(names.N_KEPT, names.CHANNEL).values
        pairs = [np.stack([one, values[-1]]) for one in values[:-1]]
        pairs = [pair[:, np.isfinite(pair).all(0)] for pair in pairs]
        found = {
            names.CORRELATION: [_spearman(*pair)[0] for pair in pairs],
            names.DIFFERENCE: [float(np.median(pair[0] - pair[1])) if pair.size else np.nan for pair in pairs],
            names.N_DEFINED: [pair.shape[1] for pair in pairs],
        }
        shorter = units[names.N_KEPT].values[:-1]
        return xr.Dataset({one: (names.N_KEPT, np.array(of_n)) for one, of_n in found.items()}, {names.N_KEPT: shorter})

    return xr.concat([of(layer) for layer in layers], xr.Variable(names.LAYER, np.array(layers, dtype=object)))


def _spearman(x: Array, y: Array) -> tuple[float, float]:
    """Spearman's correlation and its p-value; NaN with fewer than 3 units, or where one number is the same for all."""
    from scipy import stats

    if x.size < 3 or not (np.ptp(x) > 0 and np.ptp(y) > 0):
        return np.nan, np.nan
    found = stats.spearmanr(x, y)
    return float(found[0]), float(found[1])


def layer_facts(result: xr.DataTree) -> xr.Dataset:
    """What there is of each layer.

    Returns
    -------
    Dataset
        Over layers: ``n_units``; ``n_silent``, those that never responded; ``whole_image``, whether they were shown
        whole images rather than crops, and ``why``; ``field``, the size of the receptive field in px.
    """

    def of(layer: str) -> xr.Dataset:
        units = selectivity_of(result, layer)
        attrs, defined = units.attrs, units[names.DEFINED].values
        size = " × ".join(str(int(attrs[f"field_{side}"])) for side in ("height", "width"))
        return xr.Dataset(
            {
                names.N_UNITS: defined.size,
                names.N_SILENT: int((defined == 0).sum()),
                names.WHOLE_IMAGE: bool(attrs[names.WHOLE_IMAGE]),
                "why": str(attrs.get("why", "")),
                "field": size,
            }
        )

    return _over_layers(result, of)
