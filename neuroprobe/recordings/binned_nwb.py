"""Counts in an NWB file that has no spikes: ``BinnedAlignedSpikes`` of the extension ndx-binned-spikes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr

from neuroprobe import names
from neuroprobe.errors import ReaderError
from neuroprobe.recordings.build import by_column, choose_units, factors_attr, node_of, rows_of, tree_of
from neuroprobe.recordings.columns import Table, listed, plain
from neuroprobe.recordings.contract import Choices

BINNED: Final = "BinnedAlignedSpikes"
BINNED_NAMESPACE: Final = "ndx-binned-spikes"
GROUP: Final = "processing/ecephys"
WIDTH: Final = "bin_width_in_ms"
OFFSET: Final = "event_to_bin_offset_in_ms"
OLD_OFFSET: Final = "milliseconds_from_event_to_first_bin"  # its name before version 0.3
TIMESTAMPS: Final = "event_timestamps"
EDGES: Final = "bin_edges_in_s"  # of files of ours, which ms would round
MILLISECONDS: Final = 1000.0
ROUNDING: Final = 1e-6  # of a bin
OF_SPIKES: Final = ("window", "baseline", "bins", "measure", "align")


def binned_groups(file: Any) -> dict[str, Any]:
    """Groups of counts that are aligned to events, by path."""
    import h5py

    found: dict[str, Any] = {}

    def visit(name: str, thing: Any) -> None:
        if isinstance(thing, h5py.Group) and WIDTH in thing.attrs and TIMESTAMPS in thing and "data" in thing:
            found[name] = thing

    file.visititems(visit)
    return found


def read_binned(group: Any, table: Table, units: Table, choices: Choices, name: str) -> xr.DataTree:
    """Make a recording of counts that are binned already.

    Parameters
    ----------
    group : h5py.Group
    table : Table
        Presentations; where it is not that of the counts' events, these are presentations with nothing but a time
        and a condition.
    units : Table
        All of the file's.
    choices : Choices
        ``units``, ``region``, ``factors``, ``split``.
    name : str
        Of the node.

    Raises
    ------
    ReaderError
        If choices are made that only spikes leave open, or counts do not fit their units.
    """
    for choice in OF_SPIKES:
        if choice in choices.given():
            raise ReaderError(f"{choice}: the file holds counts in bins that are made already, and no spikes")
    data = group["data"]
    if data.ndim != 3 or data.dtype.kind not in "iuf":
        raise ReaderError(f"{group.name}: data {data.shape} of {data.dtype}, expected numbers (units, events, bins)")
    onsets = np.asarray(group[TIMESTAMPS][:], dtype=np.float64)
    units = _its_units(group, units, len(data))
    table = _its_table(group, table, onsets)
    edges = _edges(group, data.shape[2])
    kept = choose_units(units, choices)
    response: Any = np.moveaxis(data[:][kept], 0, 1)
    attrs: dict[str, Any] = {"units": str(plain(data.attrs.get("unit", "spikes")).item())}
    attrs |= {"window_start": float(edges[0]), "window_end": float(edges[-1])}
    has_bins = data.shape[2] > 1
    if not has_bins:
        response = response[..., 0]
    if response.dtype.kind == "u":
        response = response.astype(np.int64)
    bins = np.stack([edges[:-1], edges[1:]], axis=1) if has_bins else None
    node = node_of(response, table, rows_of(units, kept), attrs=attrs, bins=bins)
    split = choices.option("split")
    nodes = {name: node} if split is None else by_column(node, str(split))
    return tree_of(nodes, attrs=factors_attr(table, choices))


def chosen_counts(groups: dict[str, Any], path: Path) -> Any:
    """Return the only group of counts.

    Raises
    ------
    ReaderError
        If there are several.
    """
    if len(groups) != 1:
        raise ReaderError(f"{str(path)!r} holds several tables of counts, and this reads one: {listed(groups)}")
    return next(iter(groups.values()))


def _its_units(group: Any, units: Table, n: int) -> Table:
    if "units_region" in group:
        return rows_of(units, np.asarray(group["units_region"][:], dtype=np.int64).tolist())
    if len(units) == n:
        return units
    return Table({names.UNIT_ID: plain([str(number) for number in range(n)])})


def _its_table(group: Any, table: Table, onsets: Any) -> Table:
    start = table.columns.get(names.START_TIME)
    if start is not None and len(start) == len(onsets) and np.allclose(start, onsets, equal_nan=True):
        return table
    columns: dict[str, Any] = {names.START_TIME: onsets}
    if "condition_indices" in group:
        columns["condition"] = plain(group["condition_indices"][:])
        if "condition_labels" in group:
            columns["condition"] = plain(group["condition_labels"][:])[columns["condition"]]
    return Table(columns, {names.START_TIME: "s"})


def _edges(group: Any, n_bins: int) -> Any:
    if EDGES in group.attrs:
        return np.asarray(group.attrs[EDGES], dtype=np.float64)
    offset = float(group.attrs.get(OFFSET, group.attrs.get(OLD_OFFSET, 0.0)))
    return (offset + float(group.attrs[WIDTH]) * np.arange(n_bins + 1)) / MILLISECONDS
