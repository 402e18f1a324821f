"""Units of a result for which a query is true."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.analysis.expression import HERE, Kind, kind_of
from neuroprobe.analysis.labels import LabelSets, LabelText
from neuroprobe.analysis.query import Query, parse_query
from neuroprobe.analysis.table import Layer, UnitTable, is_similarity
from neuroprobe.errors import QueryError, StoreError

Source = xr.DataTree | xr.Dataset | str | os.PathLike[str]
# what columns without units are of, and missing values
MISSING: Final[dict[Kind, tuple[type, Any]]] = {
    "number": (float, np.nan),
    "text": (object, ""),
    "condition": (float, np.nan),
    "labels": (object, LabelText.of(None)),
}


def select_units(
    result: Source | Sequence[Source],
    query: str | None = None,
    *,
    columns: str | Sequence[str] | None = None,
    order_by: str | None = None,
    ascending: bool = False,
    limit: int | None = None,
) -> xr.Dataset:
    """Units of a result, or of several together, for which a query is true.

    Parameters
    ----------
    result : DataTree, Dataset or path, or a list of these
        A result, or a group or a layer of one; or the path of a store or of a netCDF export. Any tree will do whose
        nodes are layers with a dimension ``channel`` or ``unit``. Several are to be of one network.
    query : str, optional
        A condition on columns, such as ``layer == 'conv2' and first_order_hue > 2 * first_order_se_hue``, in the
        language of `neuroprobe.analysis.query`; all units by default.
    columns : str or sequence of str, optional
        Columns of the answer. By default the coordinates of the units, the columns that `query` and `order_by` name,
        and their standard errors; all columns where no variable is named.
    order_by : str, optional
        Column that the units are ordered by, undefined ones last; by default they stay in the order of the layers.
    ascending : bool
        Whether the smallest come first.
    limit : int, optional
        Units of the answer, at most.

    Returns
    -------
    Dataset
        The columns over ``unit``: ``layer``, ``channel``, ``y``, ``x`` and other coordinates as such, the rest as
        variables with the attributes that they have in the result. Where a layer lacks a column, its numbers are NaN
        and its texts empty. Sets of labels are `LabelText`: ``red .62, blue .21``. The attributes hold the query, how
        many units there were (``n_units``), and for how many of them it is true (``n_selected``).

    Raises
    ------
    QueryError
        If the query cannot be read, or a column does not exist or is ambiguous.
    ReaderError
        If there are no units, or columns of several groups are asked for that hold different units, or several results
        are of networks with other weights.
    StoreError
        If there is no result at a path.

    Notes
    -----
    Columns are named as in `neuroprobe.analysis.units`. Where several groups have a column of one name, it is called
    after its group too: ``sobol_mean``, ``shapley_mean``.

    Of several results, layers are matched by name and channels by number, and a layer has the channels that all those
    that have the layer hold. Where results have groups of one name, that of the second is called ``sobol_2``, and so
    are its columns if their names are in both. Results that tell the hash of their network's weights have to agree.

    A unit is a point of the dimensions that the named variables have. An index over ``channel`` selects channels; where
    a variable over ``channel, y, x``, or ``y``, is named beside it, it is repeated at every place.

    A comparison with an undefined value is neither true nor false, so that neither it nor its contrary selects a unit.

    What neither the query nor the answer needs is not read, nor are layers that ``layer`` excludes.

    Examples
    --------
    >>> values = np.array([[0.5, 0.1, np.nan], [0.2, 0.6, 0.3]])
    >>> layer = xr.Dataset({"total_order": (("factor", "channel"), values)}, {"factor": ["hue", "blur"]})
    >>> result = xr.DataTree.from_dict({"/sobol/conv1": layer, "/sobol/conv2": layer + 0.2})
    >>> select_units(result, "layer == 'conv2' and total_order_hue > 0.2").to_dataframe()
          layer  channel  total_order_hue
    unit
    0     conv2        0              0.7
    1     conv2        1              0.3
    >>> select_units(result, order_by="total_order_blur", columns=["channel", "layer"], limit=2).to_dataframe()
          channel  layer
    unit
    0           1  conv2
    1           1  conv1

    A result over ``channel`` beside one over ``channel, y, x`` is repeated at every place:

    >>> index = xr.Dataset({"gamma": ("channel", [0.9, 0.2, 0.5])})
    >>> index = xr.DataTree.from_dict({"/selectivity/conv1": index})
    >>> select_units([result, index], "total_order_hue > .3 and gamma > .8").to_dataframe()
          layer  channel  total_order_hue  gamma
    unit
    0     conv1        0              0.5    0.9
    """
    if limit is not None and limit < 0:
        raise QueryError(f"limit: received {limit}, expected 0 or more")
    condition = parse_query("true" if query is None else query)
    sorters = [] if order_by is None else [order_by]
    columns = [columns] if isinstance(columns, str) else columns
    if columns is not None and not columns:
        raise QueryError("columns: received none, expected names of columns")
    with opened_together(result) as trees:
        table = UnitTable(trees)
        _check(table, condition, {"columns": columns or (), "order_by": sorters})
        named = [*condition.columns, *sorters]
        shown = _default_columns(table, named) if columns is None else list(dict.fromkeys(columns))
        needed = list(dict.fromkeys([*shown, *named]))
        # places that only other layers have do not tell of what the units of a layer are
        asked = [name for name in needed if columns is not None or name in named or not table.is_coordinate(name)]
        chosen = [
            rows
            for layer in table.layers
            if (rows := _chosen_rows(layer, condition, asked, needed, table.kinds)) is not None
        ]
        found = {name: _joined([rows[name] for rows in chosen], table.kinds[name]) for name in needed}
        attrs = {"query": query or "", "n_units": sum(layer.n_units(asked) for layer in table.layers)}
        attrs |= _provenance(trees)
        units = xr.Dataset({name: (names.UNIT, found[name], table.attrs(name)) for name in needed})
        units = units.set_coords([name for name in table.coordinates(needed) if name in found])
    attrs["n_selected"] = units.sizes.get(names.UNIT, 0)
    if order_by is not None:
        units = units.isel({names.UNIT: _order(found[order_by], ascending)})
    return (
        units.isel({names.UNIT: slice(limit)})
        .drop_vars([name for name in needed if name not in shown])
        .assign_attrs(attrs)
    )


def list_columns(result: Source | Sequence[Source]) -> list[dict[str, str]]:
    """List the columns of results: coordinates, then variables with their errors, pairs in one order.

    Returns
    -------
    list of dict
        With the keys ``name``, ``kind`` (``"number"``, ``"text"``, ``"condition"`` or ``"labels"``) and ``summary``.
    """
    with opened_together(result) as trees:
        table = UnitTable(trees)
        return [
            {"name": name, "kind": table.kinds[name], "summary": str(table.attrs(name).get("long_name", ""))}
            for name in _with_errors(table, [], table.variables)
        ]


@contextmanager
def opened_together(result: Source | Sequence[Source]) -> Iterator[list[xr.DataTree]]:
    """Open a result, or several."""
    sources: Sequence[Source] = result if isinstance(result, list | tuple) else [cast("Source", result)]
    if not sources:
        raise QueryError("received no result, expected one or more")
    with ExitStack() as stack:
        yield [stack.enter_context(opened(source)) for source in sources]


@contextmanager
def opened(result: Source) -> Iterator[xr.DataTree]:
    """Open a result, or take it as it is; a netCDF export is closed at the end."""
    if isinstance(result, xr.DataTree):
        yield result
    elif isinstance(result, xr.Dataset):
        yield xr.DataTree(result)
    elif Path(result).is_file():
        try:
            tree = xr.open_datatree(result)
        except (OSError, ValueError) as error:
            raise StoreError(
                f"{str(result)!r} is neither a store of neuroprobe nor a netCDF export, or damaged "
                f"({type(error).__name__}); give what `run -o` or `export -o` wrote"
            ) from error
        with tree:
            yield tree
    else:
        from neuroprobe.store import open_result, readable

        with readable(Path(result)):
            yield open_result(result)


def _provenance(trees: Sequence[xr.DataTree]) -> dict[str, str]:
    """Where the results come from; of several a list, each once."""
    found = list(dict.fromkeys(tree.attrs[names.PROVENANCE] for tree in trees if names.PROVENANCE in tree.attrs))
    return {names.PROVENANCE: found[0] if len(found) == 1 else f"[{', '.join(found)}]"} if found else {}


def _check(table: UnitTable, condition: Query, arguments: Mapping[str, Sequence[str]]) -> None:
    """Refuse names that are unknown or ambiguous, and a query that does not fit the columns that it names."""
    for name, column in condition.columns.items():
        problem = table.problem(name)
        # of unknown columns, the first that the query is evaluated with is named
        if problem is not None and (name in table.ambiguous or is_similarity(name)):
            raise column.error(problem).within(condition.text)
    condition.check(table.kinds, table.vocabularies(condition.columns))
    for argument, given in arguments.items():
        for name in given:
            problem = table.problem(name)
            if problem is not None:
                raise QueryError(f"{argument}: {problem}")
    for name in arguments["order_by"]:
        if table.kinds[name] == "labels":
            raise QueryError(f"order_by: {name} is a set of labels, which has no order; order by a number")


def _default_columns(table: UnitTable, named: list[str]) -> list[str]:
    """Coordinates of units, variables that are named, each with its error; the main variables where none is named."""
    coordinates = table.coordinates(named)
    return _with_errors(table, named, [name for name in named if name not in coordinates] or table.main_variables)


def _with_errors(table: UnitTable, named: list[str], variables: list[str]) -> list[str]:
    """Coordinates of units, and variables, each with its error."""
    with_errors = [one for name in variables for one in (name, table.error(name)) if one is not None]
    return list(dict.fromkeys([*table.coordinates(named), *with_errors]))


def _chosen_rows(
    layer: Layer, condition: Query, asked: Sequence[str], needed: Sequence[str], kinds: Mapping[str, Kind]
) -> dict[str, NDArray[Any]] | None:
    """Columns of the units, as those asked for have them, for which a condition is true; None where there is none."""
    known = {HERE: layer.name} if layer.names_units else {HERE: layer.name, names.LAYER: layer.name}
    # whatever the other columns hold
    if np.all(condition.evaluate(known).false):
        return None
    units = layer.units(asked)
    loaded = {
        name: layer.values(units, name) for name in condition.columns if name in units.variables and name not in known
    }
    mask = np.broadcast_to(condition.evaluate(loaded | known).true, units.sizes[names.UNIT])
    if not mask.any():
        return None
    rows = {}
    for name in needed:
        dtype, missing = MISSING[kinds[name]]
        if name in units.variables:
            values = loaded[name] if name in loaded else layer.values(units, name)
            rows[name] = values.take(mask).texts() if isinstance(values, LabelSets) else values[mask]
        else:
            rows[name] = np.full(mask.sum(), missing, dtype)
    return rows


def _joined(arrays: Sequence[NDArray[Any]], kind: Kind) -> NDArray[Any]:
    return np.concatenate(arrays) if arrays else np.empty(0, MISSING[kind][0])


def _order(values: NDArray[Any], ascending: bool) -> NDArray[np.intp]:
    """Places of values in their order, those of equal ones as they were, missing ones last."""
    series = pd.Series(values)
    if kind_of(values.dtype) == "text":
        series = series.mask(series == "")
    return series.sort_values(ascending=ascending, kind="stable", na_position="last").index.to_numpy()
