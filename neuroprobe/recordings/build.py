"""From tables and arrays to the tree that every analysis takes, the same for all formats."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import xarray as xr

from neuroprobe import names
from neuroprobe.errors import ReaderError, unknown_name
from neuroprobe.recordings.columns import Table, chosen, listed, plain
from neuroprobe.recordings.contract import Choices

TRIALS: Final = "trials"
MEANS: Final = "means"
RESERVED: Final = {
    names.PRESENTATION,
    names.UNIT,
    names.TIME_BIN,
    names.RESPONSE,
    names.BASELINE,
    names.UNIT_ID,
    names.REGION,
    names.TIME_BIN_START,
    names.TIME_BIN_END,
}


def node_of(
    response: Any,
    table: Table,
    units: Table,
    *,
    attrs: Mapping[str, Any] | None = None,
    bins: Any = None,
    baseline: tuple[Any, Mapping[str, Any]] | None = None,
) -> xr.Dataset:
    """Put labels on the responses of units that were recorded together.

    Parameters
    ----------
    response : array of shape (presentations, units) or (presentations, units, time bins)
        Numbers; a dask array stays one.
    table : Table
        Of the presentations.
    units : Table
        Of the units: ``unit_id`` and whatever else is known.
    attrs : mapping, optional
        Of the response: its units, its window.
    bins : array_like of shape (time bins, 2), optional
        s after the start of a presentation; where each bin of time starts and ends.
    baseline : (array of shape (presentations, units), mapping), optional
        Responses before the presentations, and their attributes.

    Raises
    ------
    ReaderError
        If lengths do not fit.
    """
    n, n_units = response.shape[:2]
    for what, given, expected in (("presentation table", len(table), n), ("table of units", len(units), n_units)):
        if given != expected and not (what.startswith("pres") and not table.columns):
            raise ReaderError(f"the {what} has {given} rows, the responses have {expected}")
    dims = (names.PRESENTATION, names.UNIT, names.TIME_BIN)[: response.ndim]
    described = {"long_name": "response of the unit", **(attrs or {})}
    described["responses"] = MEANS if names.N_TRIALS in table.columns else TRIALS
    data = {names.RESPONSE: (dims, response, described)}
    if baseline is not None:
        data[names.BASELINE] = (dims[:2], baseline[0], {"long_name": "response before the presentation", **baseline[1]})
    return xr.Dataset(data, coords={**_table_coords(table), **_unit_coords(units, table), **_bin_coords(bins)})


def _table_coords(table: Table) -> dict[str, Any]:
    renamed = {name: f"trial_{name}" if name in RESERVED else name.replace("/", "_") for name in table.columns}
    return {
        renamed[name]: (names.PRESENTATION, plain(column), _units(table, name))
        for name, column in table.columns.items()
    }


def _unit_coords(units: Table, table: Table) -> dict[str, Any]:
    coords = {}
    for name, column in units.columns.items():
        taken = name in table.columns or name in (RESERVED - {names.UNIT_ID, names.REGION})
        label = f"unit_{name}" if taken else name.replace("/", "_")
        coords[label] = (names.UNIT, plain(column), _units(units, name))
    return coords


def _units(table: Table, name: str) -> dict[str, str]:
    return {"units": table.units[name]} if table.units.get(name) else {}


def _bin_coords(bins: Any) -> dict[str, Any]:
    if bins is None:
        return {}
    starts, ends = np.asarray(bins, dtype=np.float64).T
    seconds = {"units": "s"}
    return {
        names.TIME_BIN: (names.TIME_BIN, (starts + ends) / 2, {**seconds, "long_name": "centre of the bin"}),
        names.TIME_BIN_START: (names.TIME_BIN, starts, seconds),
        names.TIME_BIN_END: (names.TIME_BIN, ends, seconds),
    }


def tree_of(nodes: Mapping[str, xr.Dataset], *, attrs: Mapping[str, Any] | None = None) -> xr.DataTree:
    """Make a recording of nodes: with the table at the root where it is one, and with one per node where not.

    Examples
    --------
    >>> units = Table({"unit_id": np.array(["a", "b"], dtype=object)})
    >>> node = node_of(np.zeros((3, 2)), Table({"contrast": np.array([0.1, 0.2, 0.3])}), units)
    >>> tree_of({"units": node}).to_dataset()["contrast"].dims
    ('presentation',)
    """
    path_of = {name: f"/{names.RESPONSES}/{safe(name)}" for name in nodes}
    if len(set(path_of.values())) < len(path_of):
        raise ReaderError(f"two populations have the same name: {listed(sorted(path_of.values()))}")
    root = xr.Dataset(attrs=dict(attrs or {}))
    first = next(iter(nodes.values()))
    if all(_same_table(first, node) for node in nodes.values()):
        root = root.assign_coords(_table_of(first))
    return xr.DataTree.from_dict({"/": root, **{path_of[name]: node for name, node in nodes.items()}})


def safe(name: str) -> str:
    """Return a name that can be one of a node: without ``/``, and not empty."""
    return name.replace("/", "_").strip() or "units"


def _table_of(node: xr.Dataset) -> dict[str, xr.DataArray]:
    on_presentations = {n: c for n, c in node.coords.items() if c.dims == (names.PRESENTATION,)}
    return {str(name): coord.reset_coords(drop=True) for name, coord in on_presentations.items()}


def _same_table(one: xr.Dataset, other: xr.Dataset) -> bool:
    if one is other:
        return True
    mine, its = _table_of(one), _table_of(other)
    same_length = one.sizes[names.PRESENTATION] == other.sizes[names.PRESENTATION]
    return same_length and set(mine) == set(its) and all(mine[name].identical(its[name]) for name in mine)


def by_column(node: xr.Dataset, column: str) -> dict[str, xr.Dataset]:
    """Split units that were recorded together into one node per value of a coordinate, such as the region.

    Raises
    ------
    ReaderError
        If units have no such coordinate.
    """
    known = [str(name) for name, coord in node.coords.items() if coord.dims == (names.UNIT,)]
    if column not in known:
        raise ReaderError(unknown_name("coordinate of units to split by", column, known))
    values = np.array([str(value) for value in node[column].values.tolist()])
    return {
        value or "unknown": node.isel({names.UNIT: np.flatnonzero(values == value)})
        for value in dict.fromkeys(values.tolist())
    }


def choose_units(units: Table, choices: Choices) -> list[int]:
    """Return the places of the units that the caller asks for, by ``units`` and ``region``.

    Raises
    ------
    ReaderError
        If there are none, or the regions are not known.
    """
    if not len(units):
        raise ReaderError("the recording has no units")
    kept = set(range(len(units)))
    if choices.units is not None:
        kept &= set(chosen("unit", choices.units, [str(one) for one in units.columns[names.UNIT_ID]]))
    if choices.region is not None:
        if names.REGION not in units.columns:
            raise ReaderError("the recording does not say in which regions its units are: leave `region` out")
        kept &= set(chosen("region", choices.region, [str(one) for one in units.columns[names.REGION]]))
    if not kept:
        raise ReaderError(f"no unit of {listed(choices.units or ())} is in a region of {listed(choices.region or ())}")
    return sorted(kept)


def rows_of(table: Table, places: Sequence[int]) -> Table:
    """Return some rows of a table."""
    columns = {name: column[list(places)] for name, column in table.columns.items()}
    return Table(columns, dict(table.units), lambda row: table.place(places[row]))


def factors_attr(table: Table, choices: Choices) -> dict[str, str]:
    """Return the attribute that names the factors, which must be columns of the table.

    Raises
    ------
    ReaderError
    """
    if choices.factors is None:
        return {}
    for name in choices.factors:
        if name not in table.columns:
            raise ReaderError(unknown_name("factor", name, list(table.columns)))
    return {names.FACTORS: json.dumps(list(choices.factors))}
