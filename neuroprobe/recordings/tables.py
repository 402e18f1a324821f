"""Recordings in tables: one row per presentation with a column per unit (wide), or per presentation and unit (long)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.errors import ReaderError, shown, unknown_name
from neuroprobe.recordings.build import choose_units, factors_attr, node_of, rows_of, tree_of
from neuroprobe.recordings.columns import Table, chosen, listed, plain, split_controls
from neuroprobe.recordings.contract import READERS, Choices, Reader
from neuroprobe.recordings.delimited import is_table, read_table

LONG_KEYS: Final = ("presentation", "unit", "response", "session")
OPTIONS: Final = ("responses", "long", "missing", "controls", "n_trials", "unit_table", "delimiter", "ignore")


def read_tables(path: Path, choices: Choices) -> xr.DataTree:
    """Read a recording from tables.

    Parameters
    ----------
    path : Path
        CSV, TSV or Parquet; the first line names the columns, units in brackets: ``speed (deg/s)``.
    choices : Choices
        Wide: ``factors`` (the other columns are units), or ``units`` (the other columns are of presentations), or
        ``responses``, a second file: a table with a column per unit, or ``.npy`` (presentations, units).
        Long: ``long: {presentation: …, unit: …, response: …}`` names the columns; with ``session: …`` each session has
        a node of its own. A column that does not vary within presentations, or else within units, is of these.
        ``missing`` and ``controls`` say what special values mean, ``n_trials`` is the column with the number of trials
        of a mean, ``unit_table`` a table with ``unit_id`` and what else is known of units, ``ignore`` columns to skip.

    Raises
    ------
    ReaderError
        With the line of the first thing that is wrong.
    """
    controls: Mapping[str, Mapping[Any, str]] = choices.option("controls", {})
    table = _table(path, choices, tuple(controls))
    for name in choices.option("ignore", ()):
        if name not in table.columns:
            raise ReaderError(unknown_name("column", name, list(table.columns)))
        del table.columns[name]
    n_trials = choices.option("n_trials")
    if n_trials is not None:
        if n_trials not in table.columns:
            raise ReaderError(unknown_name("column of numbers of trials", n_trials, list(table.columns)))
        table.columns[names.N_TRIALS] = table.columns.pop(n_trials)
    if controls:
        split_controls(table, controls)
    is_long = choices.option("long") is not None
    nodes = _long(table, choices) if is_long else {path.stem: _wide(path, table, choices)}
    first = next(iter(nodes.values()))
    on_presentations = Table({str(n): c.values for n, c in first.coords.items() if c.dims == (names.PRESENTATION,)})
    return tree_of(nodes, attrs=factors_attr(on_presentations, choices))


def _table(path: Path, choices: Choices, controls: tuple[str, ...] = ()) -> Table:
    return read_table(path, missing=choices.option("missing"), controls=controls, delimiter=choices.option("delimiter"))


def _wide(path: Path, table: Table, choices: Choices) -> xr.Dataset:
    responses = choices.option("responses")
    if responses is not None:
        values, ids = _matrix(Path(responses), choices)
        of_presentations = table
    else:
        ids = _unit_columns(path, table, choices)
        values = np.stack([_numbers(table, name) for name in ids], axis=1)
        of_presentations = Table(
            {name: column for name, column in table.columns.items() if name not in ids}, table.units, table.place
        )
    units = _unit_table(ids, choices)
    if responses is None:
        known = {table.units.get(name, "") for name in ids} - {""}
        places = choose_units(units, Choices(region=choices.region))
    else:
        known = set()
        places = choose_units(units, choices)
    attrs = {"units": known.pop()} if len(known) == 1 else {}
    return node_of(values[:, places], of_presentations, rows_of(units, places), attrs=attrs)


def _unit_columns(path: Path, table: Table, choices: Choices) -> list[str]:
    columns = list(table.columns)
    if choices.units is not None:
        return [columns[place] for place in chosen("column of units", choices.units, columns)]
    if choices.factors is None:
        raise ReaderError(
            f"{str(path)!r}: which columns are units? Say `factors`, and all others are, or `units`; or `long` for a "
            f"table with one row per presentation and unit. Columns: {table.listed()}"
        )
    for name in choices.factors:
        if name not in columns:
            raise ReaderError(unknown_name("factor", name, columns))
    of_table = {names.CONTROL_KIND, names.ARM, names.N_TRIALS, *choices.factors}
    units = [name for name in columns if name not in of_table]
    if not units:
        raise ReaderError(f"{str(path)!r}: all columns are factors, none is a unit: {table.listed()}")
    return units


def _numbers(table: Table, name: str) -> NDArray[Any]:
    values = table.columns[name]
    if values.dtype.kind == "O":
        first = next(row for row, cell in enumerate(values) if not _is_number(cell))
        raise ReaderError(f"{table.place(first)}: {name} is {shown(values[first])}, expected the number of a response")
    return values


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _matrix(path: Path, choices: Choices) -> tuple[NDArray[Any], list[str]]:
    if not path.is_file():
        raise ReaderError(f"responses: {str(path)!r}: no such file")
    if path.suffix == ".npy":
        try:
            values = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError, EOFError) as error:
            raise ReaderError(f"{str(path)!r}: not an array of numbers that can be read: {error}") from error
        if values.ndim != 2 or values.dtype.kind not in "iufb":
            raise ReaderError(
                f"{str(path)!r}: {values.dtype} of shape {values.shape}, expected numbers (presentations, units)"
            )
        return plain(values), [f"unit_{number}" for number in range(values.shape[1])]
    table = _table(path, choices)
    ids = list(table.columns)
    return np.stack([_numbers(table, name) for name in ids], axis=1), ids


def _unit_table(ids: list[str], choices: Choices) -> Table:
    """Table of units with what a second file says of them."""
    units = Table({names.UNIT_ID: plain(ids)})
    path = choices.option("unit_table")
    if path is None:
        return units
    told = read_table(Path(path), missing=choices.option("missing", [""]))
    if names.UNIT_ID not in told.columns:
        raise ReaderError(f"{str(path)!r}: no column {names.UNIT_ID!r}; columns: {told.listed()}")
    place = {str(one): row for row, one in enumerate(told.columns[names.UNIT_ID])}
    lost = [one for one in ids if one not in place]
    if lost:
        raise ReaderError(f"{str(path)!r}: nothing about units {listed(lost)}")
    matched = rows_of(told, [place[one] for one in ids])
    matched.columns[names.UNIT_ID] = units.columns[names.UNIT_ID]
    return matched


def _long(table: Table, choices: Choices) -> dict[str, xr.Dataset]:
    columns = dict(choices.option("long"))
    for key in columns:
        if key not in LONG_KEYS:
            raise ReaderError(unknown_name("key of long", key, LONG_KEYS))
    for key in LONG_KEYS[:3]:
        if columns.get(key) not in table.columns:
            raise ReaderError(f"long: {key}: {unknown_name('column', columns.get(key), list(table.columns))}")
    session = columns.get("session")
    if session is None:
        return {"units": _long_node(table, columns, choices)}
    if session not in table.columns:
        raise ReaderError(f"long: session: {unknown_name('column', session, list(table.columns))}")
    values = table.columns[session].astype(str)
    return {
        name: _long_node(rows_of(table, np.flatnonzero(values == name).tolist()), columns, choices)
        for name in dict.fromkeys(values.tolist())
    }


def _long_node(table: Table, columns: Mapping[str, str], choices: Choices) -> xr.Dataset:
    response = _numbers(table, columns["response"])
    shown_as, row = _numbered(table.columns[columns["presentation"]])
    ids, unit = _numbered(table.columns[columns["unit"]])
    cell = row * len(ids) + unit
    _, first_of_cell, n_of_cell = np.unique(cell, return_index=True, return_counts=True)
    if (n_of_cell > 1).any():
        twice = cell[first_of_cell[n_of_cell > 1][0]]
        second = int(np.flatnonzero(cell == twice)[1])
        raise ReaderError(
            f"{table.place(second)}: presentation {shown_as[row[second]]} and unit {ids[unit[second]]} came before"
        )
    whole = len(cell) == len(shown_as) * len(ids) and response.dtype.kind == "i"
    values = np.full((len(shown_as), len(ids)), 0 if whole else np.nan, dtype=response.dtype if whole else np.float64)
    values[row, unit] = response
    of_presentations, of_units = Table(units=table.units), _unit_table([str(one) for one in ids], choices)
    for name, column in table.columns.items():
        if name in (columns["response"], columns["unit"]):
            continue
        if _varies(column, row) is None:
            of_presentations.columns[name] = column[_firsts(row)]
        elif _varies(column, unit) is None:
            of_units.columns[name] = column[_firsts(unit)]
        else:
            where = _varies(column, row)
            raise ReaderError(
                f"{table.place(where or 0)}: {name} varies within presentation {shown_as[row[where or 0]]} and within "
                f"units: say `ignore=[{name!r}]`, or name another column as the presentation"
            )
    if names.REGION in table.columns and names.REGION in of_presentations.columns:
        # the same for all units
        of_units.columns[names.REGION] = np.full(len(ids), of_presentations.columns.pop(names.REGION)[0], dtype=object)
    places = choose_units(of_units, choices)
    attrs = {"units": table.units[columns["response"]]} if table.units.get(columns["response"]) else {}
    return node_of(values[:, places], of_presentations, rows_of(of_units, places), attrs=attrs)


def _numbered(values: NDArray[Any]) -> tuple[list[Any], NDArray[np.int64]]:
    """Number values in the order in which they come."""
    number: dict[Any, int] = {}
    places = np.array([number.setdefault(value, len(number)) for value in values.tolist()], dtype=np.int64)
    return list(number), places


def _firsts(group: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.unique(group, return_index=True)[1]


def _varies(column: NDArray[Any], group: NDArray[np.int64]) -> int | None:
    """Row of the first value that is not the one of its group, or None."""
    expected = column[_firsts(group)][group]
    same = expected == column
    if column.dtype.kind == "f":
        same |= np.isnan(column) & np.isnan(expected)
    return None if same.all() else int(np.flatnonzero(~same)[0])


READERS.add(
    "table",
    Reader(
        "CSV, TSV or Parquet: a trial table with responses, wide or long, in one file or two",
        is_table,
        read_tables,
        frozenset({"factors", "units", "region", *OPTIONS}),
    ),
)
