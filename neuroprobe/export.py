"""Results in other formats."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final, TextIO

import numpy as np
import pandas as pd
import xarray as xr

from neuroprobe import names
from neuroprobe.disk import require_file_name
from neuroprobe.netcdf import write_netcdf
from neuroprobe.store import open_result, readable

DIGITS: Final = 6  # of numbers for people
ROWS: Final = 1 << 16  # that are turned into JSON at a time


def export_netcdf(store: str | os.PathLike[str], output: str | os.PathLike[str], *, interim: bool = False) -> None:
    """Write a result as netCDF4, with a group per analysis and layer; stored responses stay where they are.

    A recording of an animal is written whole.

    Parameters
    ----------
    store : path
        Of the result, or of what ``neuroprobe ingest`` wrote.
    output : path
        Of the file; it appears when it is whole.
    interim : bool
        Whether the result of what is done so far will do, of a run that goes on, or was stopped.
    """
    from neuroprobe.recordings.stored import is_recording, open_written, stored_nodes

    output = Path(output)
    if is_recording(Path(store)):
        write_netcdf(stored_nodes(open_written(Path(store))), output)
        return
    tree = open_result(store, interim=interim)
    require_file_name(output)
    with readable(Path(store)):
        nodes = {
            node.path: node.to_dataset(inherit=False)
            for node in tree.subtree
            if names.PRESENTATION not in node.dataset.dims
        }
    nodes["/"] = xr.Dataset(attrs=tree.attrs)
    with readable(Path(store)):
        write_netcdf(nodes, output)


def write_units(units: xr.Dataset, stream: TextIO, style: str = "tsv") -> None:
    """Write a table of units: a line per unit below a line of names, or a list of records.

    Parameters
    ----------
    units : Dataset
        As `neuroprobe.select_units` gives it.
    stream : text file
    style : str
        ``"tsv"``: separated by tabs, numbers to six digits, for people; ``"csv"`` or ``"json"``: all digits. Undefined
        numbers are NaN; in JSON they are null, and so are infinite ones. Sets of labels are text, as in
        ``red .62, blue .21``; in JSON they are objects, ``{"red": 0.621, "blue": 0.21}``, or null.
    """
    table = units.to_dataframe().reset_index(drop=True)
    for name in map(str, units.coords):
        # places that some layers lack are whole numbers beside NaN
        if pd.api.types.is_float_dtype(table[name]) and (table[name].dropna() % 1 == 0).all():
            table[name] = table[name].astype("Int64")
    match style:
        case "json":
            for of_labels in (v for v in units.data_vars.values() if v.dtype == object and names.LABELS in v.attrs):
                shares = [getattr(text, "shares", None) for text in of_labels.values]
                table[str(of_labels.name)] = pd.Series(shares, dtype=object)
            _write_json(table, stream)
        case "csv":
            table.to_csv(stream, index=False, na_rep="NaN")
        case _:
            table.to_csv(stream, index=False, na_rep="NaN", sep="\t", float_format=f"%.{DIGITS}g")


def _write_json(table: pd.DataFrame, stream: TextIO) -> None:
    """Write records some rows at a time, by way of the standard library: pandas rounds to 15 decimals."""
    table = table.replace([np.inf, -np.inf], np.nan).astype(object)
    table = table.where(table.notna(), None)
    stream.write("[")
    for start in range(0, len(table), ROWS):
        records = table[start : start + ROWS].to_dict("records")
        stream.write(", " * (start > 0) + json.dumps(records)[1:-1])
    stream.write("]\n")
