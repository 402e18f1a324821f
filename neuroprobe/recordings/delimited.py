"""Tables in text files (CSV, TSV) and in Parquet, with the line of whatever is wrong in them."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from neuroprobe.errors import ReaderError, reason, shown
from neuroprobe.recordings.columns import Table, listed, name_and_units, plain, refuse_sentinels, without_missing

DELIMITERS: Final = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
PARQUET: Final = {".parquet", ".pq"}
SUFFIXES: Final = {*DELIMITERS, *PARQUET}


def is_table(path: Any) -> bool:
    """Whether a path is named as a table is."""
    return isinstance(path, Path) and path.suffix.lower() in SUFFIXES and path.is_file()


def read_table(
    path: Path,
    *,
    missing: Mapping[str, Sequence[Any]] | Sequence[Any] | None = None,
    controls: Sequence[str] = (),
    delimiter: str | None = None,
) -> Table:
    """Read a table whose first line names the columns.

    Parameters
    ----------
    path : Path
    missing : mapping or sequence, optional
        Values that stand for none, of every column or by column; they become NaN. Without it, cells that are empty
        and numbers that look like sentinels (−9999, ±99, …) are refused.
    controls : sequence of str
        Columns whose special values are told apart later: they are not searched for sentinels.
    delimiter : str, optional
        By the file's name by default.

    Returns
    -------
    Table
        Units in the names of columns, ``speed (deg/s)``, are taken out of them.

    Raises
    ------
    ReaderError
        If lines differ in length, cells are empty, or numbers stand for something else: with the line.
    """
    if path.suffix.lower() in PARQUET:
        columns = _parquet(path)
        table = Table(place=lambda row: f"{str(path)!r}: row {row}")
    else:
        columns, lines = _delimited(path, delimiter or DELIMITERS.get(path.suffix.lower(), ","))
        table = Table(place=lambda row: f"{str(path)!r}: line {lines[row]}")
    for header, cells in columns.items():
        name, units = name_and_units(header)
        if name in table.columns:
            raise ReaderError(f"{str(path)!r}: two columns are named {name!r}")
        gone = missing.get(name, missing.get(header, ())) if isinstance(missing, Mapping) else missing or ()
        empty = [row for row, cell in enumerate(cells) if _is_blank(cell)]
        if empty and missing is None:
            raise ReaderError(
                f"{table.place(empty[0])}: {name} is empty ({len(empty)} of {len(cells)} cells); if "
                "that means that there is no value, say `missing=['']`"
            )
        values = without_missing(name, _numbers_or_text(cells, empty), gone)
        if missing is None and name not in controls:
            refuse_sentinels(name, values, table.place)
        table.columns[name], table.units[name] = values, units
    return table


def _is_blank(cell: Any) -> bool:
    return not cell.strip() if isinstance(cell, str) else cell is None or cell != cell


def _numbers_or_text(cells: Sequence[Any], empty: Sequence[int]) -> Any:
    if not isinstance(cells, list):
        return plain(cells)
    filled = [cell.strip() or "nan" for cell in cells] if empty else cells
    try:
        numbers = np.array(filled, dtype=np.float64)
    except ValueError:
        return plain([cell.strip() for cell in cells])
    is_whole = np.isfinite(numbers).all() and not any("." in cell or "e" in cell.lower() for cell in filled)
    return numbers.astype(np.int64) if is_whole else numbers


def _delimited(path: Path, delimiter: str) -> tuple[dict[str, list[str]], list[int]]:
    rows: list[list[str]] = []
    numbers: list[int] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(file, delimiter=delimiter, strict=True)
            header = next(lines, [])
            for row in lines:
                if not row:
                    continue
                if len(row) != len(header):
                    raise ReaderError(
                        f"{str(path)!r}: line {lines.line_num}: {len(row)} cells, the header has {len(header)}: "
                        f"{shown(delimiter.join(row))}"
                    )
                rows.append(row)
                numbers.append(lines.line_num)
    except (csv.Error, UnicodeDecodeError) as error:
        raise ReaderError(f"{str(path)!r}: {reason(error)}; expected text in UTF-8 between {delimiter!r}") from error
    if not rows:
        raise ReaderError(f"{str(path)!r}: no rows under {listed(header)}")
    unnamed = [place + 1 for place, name in enumerate(header) if not name.strip()]
    if unnamed or len(set(header)) < len(header):
        wrong = f"column {unnamed[0]} has no name" if unnamed else f"columns share a name: {listed(header)}"
        raise ReaderError(f"{str(path)!r}: line 1: {wrong}")
    if len(header) == 1 and any(other in header[0] for other in ";\t,"):
        raise ReaderError(f"{str(path)!r}: line 1: one column, {shown(header[0])}; say which `delimiter` it is")
    return {name: [row[place] for row in rows] for place, name in enumerate(header)}, numbers


def _parquet(path: Path) -> dict[str, Any]:
    import pandas as pd

    try:
        frame = pd.read_parquet(path)
    except ImportError:
        raise ReaderError(f"{str(path)!r}: Parquet needs another package: pip install 'neuroprobe[parquet]'") from None
    except Exception as error:  # of pyarrow, each kind of damage has an error of its own
        raise ReaderError(f"{str(path)!r}: not a Parquet file that can be read: {reason(error)}") from error
    if frame.empty:
        raise ReaderError(f"{str(path)!r}: no rows under {listed(frame.columns)}")
    return {str(name): frame[name].to_numpy() for name in frame.columns}
