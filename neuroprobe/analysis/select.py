"""Units of a result for which a query is true."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.analysis.expression import Kind, kind_of, present_text, unknown_column
from neuroprobe.analysis.query import Query, parse_query
from neuroprobe.analysis.table import Layer, UnitTable
from neuroprobe.errors import QueryError, StoreError

Source = xr.DataTree | xr.Dataset | str | os.PathLike[str]
# of columns without units, and of missing values
DTYPES: Final[dict[Kind, type]] = {"number": float, "text": object, "condition": float}


def select_units(
    result: Source,
    query: str | None = None,
    *,
    columns: str | Sequence[str] | None = None,
    sort_by: str | None = None,
    ascending: bool = False,
    limit: int | None = None,
) -> xr.Dataset:
    """Units of a result for which a query is true.

    Parameters
    ----------
    result : DataTree, Dataset or path
        A result, or a group or a layer of one; or the path of a store or of a netCDF export. Any tree will do whose
        nodes are layers with a dimension ``channel`` or ``unit``.
    query : str, optional
        A condition on columns, such as ``layer == 'conv2' and first_order_hue > 2 * first_order_se_hue``, in the
        language of `neuroprobe.analysis.query`; all units by default.
    columns : str or sequence of str, optional
        Columns of the answer. By default the coordinates of the units, the columns that `query` and `sort_by` name, and
        their standard errors; all columns where no variable is named.
    sort_by : str, optional
        Column that the units are sorted by, undefined ones last; by default they stay in the order of the layers.
    ascending : bool
        Whether the smallest come first.
    limit : int, optional
        Units of the answer, at most.

    Returns
    -------
    Dataset
        The columns over ``unit``: ``layer``, ``channel``, ``y``, ``x`` and other coordinates as such, the rest as
        variables with the attributes that they have in the result. Where a layer lacks a column, its numbers are NaN
        and its texts empty. The attributes hold the query, how many units there were (``n_units``), and for how many of
        them it is true (``n_selected``).

    Raises
    ------
    QueryError
        If the query cannot be read, or a column does not exist or is ambiguous.
    ReaderError
        If there are no units, or columns of several groups are asked for that hold different units.
    StoreError
        If there is no result at a path.

    Notes
    -----
    Columns are named as in `neuroprobe.analysis.units`. Where several groups have a column of one name, it is called
    after its group too: ``sobol_mean``, ``shapley_mean``.

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
    >>> select_units(result, sort_by="total_order_blur", columns=["channel", "layer"], limit=2).to_dataframe()
          channel  layer
    unit
    0           1  conv2
    1           1  conv1
    """
    if limit is not None and limit < 0:
        raise QueryError(f"limit: received {limit}, expected 0 or more")
    condition = parse_query("true" if query is None else query)
    sorters = [] if sort_by is None else [sort_by]
    columns = [columns] if isinstance(columns, str) else columns
    if columns is not None and not columns:
        raise QueryError("columns: received none, expected names of columns")
    with opened(result) as tree:
        table = UnitTable(tree)
        _check(table, condition, {"columns": columns or (), "sort_by": sorters})
        named = [*condition.columns, *sorters]
        shown = _default_columns(table, named) if columns is None else list(dict.fromkeys(columns))
        needed = list(dict.fromkeys([*shown, *named]))
        chosen = [
            rows for layer in table.layers if (rows := _chosen_rows(layer, condition, needed, table.kinds)) is not None
        ]
        found = {name: _joined([rows[name] for rows in chosen], table.kinds[name]) for name in needed}
        attrs = {"query": query or "", "n_units": sum(layer.n_units(needed) for layer in table.layers)}
        attrs |= {name: tree.attrs[name] for name in (names.PROVENANCE,) if name in tree.attrs}
        units = xr.Dataset({name: (names.UNIT, found[name], table.attrs(name)) for name in needed})
        units = units.set_coords([name for name in table.coordinates(needed) if name in found])
    attrs["n_selected"] = units.sizes.get(names.UNIT, 0)
    if sort_by is not None:
        units = units.isel({names.UNIT: _order(found[sort_by], ascending)})
    return (
        units.isel({names.UNIT: slice(limit)})
        .drop_vars([name for name in needed if name not in shown])
        .assign_attrs(attrs)
    )


def list_columns(result: Source) -> list[dict[str, str]]:
    """List the columns of a result: coordinates, then variables with their errors, pairs in one order.

    Returns
    -------
    list of dict
        With the keys ``name``, ``kind`` (``"number"``, ``"text"`` or ``"condition"``) and ``summary``.
    """
    with opened(result) as tree:
        table = UnitTable(tree)
        return [
            {"name": name, "kind": table.kinds[name], "summary": str(table.attrs(name).get("long_name", ""))}
            for name in _default_columns(table, [])
        ]


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


def _check(table: UnitTable, condition: Query, arguments: Mapping[str, Sequence[str]]) -> None:
    """Refuse names that are unknown or ambiguous, and a query that does not fit the columns that it names."""
    for name, column in condition.columns.items():
        if name in table.ambiguous:
            raise column.error(table.ambiguous[name]).within(condition.text)
    condition.check(table.kinds)
    for argument, given in arguments.items():
        for name in given:
            if name not in table.kinds:
                message = table.ambiguous.get(name) or unknown_column(name, list(table.kinds))
                raise QueryError(f"{argument}: {message}")


def _default_columns(table: UnitTable, named: list[str]) -> list[str]:
    """Coordinates of units, variables that are named, each with its error; all variables where none is named."""
    coordinates = table.coordinates(named)
    variables = [name for name in named if name not in coordinates] or table.variables
    with_errors = [one for name in variables for one in (name, table.error(name)) if one is not None]
    return list(dict.fromkeys([*coordinates, *with_errors]))


def _chosen_rows(
    layer: Layer, condition: Query, needed: Sequence[str], kinds: Mapping[str, Kind]
) -> dict[str, NDArray[Any]] | None:
    """Columns of the units of a layer for which a condition is true; None where there is no such unit."""
    known = {} if layer.names_units else {names.LAYER: layer.name}
    # whatever the other columns hold
    if np.all(condition.evaluate(known).false):
        return None
    units = layer.units(needed)
    loaded = {name: _values(units[name]) for name in condition.columns if name in units.variables and name not in known}
    mask = np.broadcast_to(condition.evaluate(loaded | known).true, units.sizes[names.UNIT])
    if not mask.any():
        return None
    rows = {}
    for name in needed:
        if name in units.variables:
            rows[name] = (loaded[name] if name in loaded else _values(units[name]))[mask]
        else:
            rows[name] = np.full(mask.sum(), "" if kinds[name] == "text" else np.nan, DTYPES[kinds[name]])
    return rows


def _values(column: xr.DataArray) -> NDArray[Any]:
    values = column.to_numpy()
    return present_text(values) if kind_of(values.dtype) == "text" else values


def _joined(arrays: Sequence[NDArray[Any]], kind: Kind) -> NDArray[Any]:
    return np.concatenate(arrays) if arrays else np.empty(0, DTYPES[kind])


def _order(values: NDArray[Any], ascending: bool) -> NDArray[np.intp]:
    """Places of values in their order, those of equal ones as they were, missing ones last."""
    series = pd.Series(values)
    if kind_of(values.dtype) == "text":
        series = series.mask(series == "")
    return series.sort_values(ascending=ascending, kind="stable", na_position="last").index.to_numpy()
