"""From spike trains and a table of presentations to responses: the same for every format that holds spikes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.errors import ReaderError, unknown_name
from neuroprobe.recordings.build import by_column, choose_units, factors_attr, node_of, rows_of, tree_of
from neuroprobe.recordings.columns import Table, listed, plain
from neuroprobe.recordings.contract import Choices
from neuroprobe.recordings.delimited import SUFFIXES, read_table
from neuroprobe.statistics.spikes import Times, counts_between

LAZY_BYTES: Final = 1 << 30  # a larger response is counted when it is used, some units at a time
BLOCK_BYTES: Final = 1 << 27
INTERVAL: Final = "interval"
SPIKE_CHOICES: Final = frozenset(
    {"trials", "window", "baseline", "factors", "units", "region", "bins", "measure", "align", "split"}
)
ROUNDING: Final = 1e-6  # of a bin: how far a window may be from a whole number of them


@dataclass(frozen=True)
class Spikes:
    """Spike trains of units that were recorded together.

    Attributes
    ----------
    times : Times
        s, ascending in each unit; a slice gives an array. Where it reads a file, it opens it by itself.
    bounds : int array of shape (units, 2)
        First and last place of each unit's spikes in `times`.
    units : Table
        ``unit_id`` and whatever else is known.
    """

    times: Times
    bounds: NDArray[np.int64]
    units: Table


def trial_table(trials: Any) -> Table:
    """Return a table of presentations that the caller gives: a path, columns, a data frame, or pynapple's intervals.

    Raises
    ------
    ReaderError
        If it has no ``start_time``, or columns differ in length.
    """
    if isinstance(trials, str | Path):
        path = Path(trials)
        if not path.is_file():
            raise ReaderError(f"trials: {str(path)!r}: no such file")
        table = read_table(path, missing=[""])
    elif hasattr(trials, "start") and hasattr(trials, "end"):
        known = {str(name): trials.get_info(name) for name in getattr(trials, "metadata_columns", ())}
        columns = {names.START_TIME: trials.start, names.STOP_TIME: trials.end, **known}
        table = Table({name: plain(column) for name, column in columns.items()})
    else:
        table = Table({str(name): plain(column) for name, column in dict(trials).items()})
    lengths = {name: len(column) for name, column in table.columns.items()}
    if len(set(lengths.values())) > 1:
        raise ReaderError(f"trials: columns differ in length: {lengths}")
    if names.START_TIME not in table.columns:
        raise ReaderError(f"trials: no column {names.START_TIME!r} (s); columns: {table.listed()}")
    return table


def is_table_given(trials: Any) -> bool:
    """Whether trials are a table, or its path, rather than the name of one in the recording."""
    return trials is not None and (not isinstance(trials, str) or Path(trials).suffix.lower() in SUFFIXES)


def responses_of(spikes: Spikes, table: Table, choices: Choices, name: str, held: str) -> xr.DataTree:
    """Count spikes around presentations, and put labels on the counts.

    Parameters
    ----------
    spikes : Spikes
    table : Table
        ``start_time`` in s, or the column that ``align`` names; for ``window="interval"`` ``stop_time`` too.
    choices : Choices
        ``window``, ``baseline``, ``bins``, ``measure``, ``units``, ``region``, ``factors``; ``align``, the column of
        times that 0 s is; ``split``, a coordinate of units each value of which gets a node of its own.
    name : str
        Of the node.
    held : str
        What the recording holds, for messages.

    Raises
    ------
    ReaderError
        If choices are missing or do not go together.
    """
    kept = choose_units(spikes.units, choices)
    bounds = spikes.bounds[kept]
    measure = choices.measure or "count"
    onsets, shown = _onsets(table, choices, held)
    edges = window_edges(choices, held)
    attrs: dict[str, Any] = {"units": "spikes" if measure == "count" else "spikes/s"}
    if edges is None:
        stops = np.asarray(table.columns[names.STOP_TIME], dtype=np.float64)
        shown &= np.isfinite(stops) & (stops > onsets)
        windows = np.stack([onsets, stops], axis=1)
    else:
        windows = onsets[:, None] + edges
        attrs |= {"window_start": float(edges[0]), "window_end": float(edges[-1])}
    response = _measured(spikes.times, bounds, windows, shown, measure)
    has_bins = choices.bins is not None
    baseline = None
    if choices.baseline is not None:
        _require_comparable(choices, edges, measure)
        before = np.asarray(choices.baseline)
        counts = _measured(spikes.times, bounds, onsets[:, None] + before, shown, measure)
        told = {"units": attrs["units"], "window_start": float(before[0]), "window_end": float(before[1])}
        baseline = (counts[..., 0], told)
    node = node_of(
        response if has_bins else response[..., 0],
        table,
        rows_of(spikes.units, kept),
        attrs=attrs,
        bins=np.stack([edges[:-1], edges[1:]], axis=1) if has_bins and edges is not None else None,
        baseline=baseline,
    )
    split = choices.option("split")
    nodes = {name: node} if split is None else by_column(node, str(split))
    try:
        factors = factors_attr(table, choices)
    except ReaderError as error:  # another table may have it
        raise ReaderError(f"{error}\n{held}") from None
    return tree_of(nodes, attrs=factors)


def _onsets(table: Table, choices: Choices, held: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Times of 0 s (presentations,), and where there is one."""
    align = choices.option("align", names.START_TIME)
    if align not in table.columns:
        raise ReaderError(f"align: {unknown_name('column', align, list(table.columns))}")
    column = table.columns[align]
    if column.dtype.kind == "O":
        raise ReaderError(f"align: {align} holds text, expected times in s\n{held}")
    onsets = column.astype(np.float64)
    shown = np.isfinite(onsets)
    if not shown.any():
        raise ReaderError(f"align: {align} has no time in any of {len(onsets)} rows\n{held}")
    return onsets, shown


def window_edges(choices: Choices, held: str) -> NDArray[np.float64] | None:
    """Ends of windows after 0 s (bins + 1,); None for the presentations' own intervals."""
    bins, window = choices.bins, choices.window
    if bins is not None and not isinstance(bins, int | float):
        edges = np.asarray(bins, dtype=np.float64)
        if edges.ndim != 1 or len(edges) < 2 or not (np.diff(edges) > 0).all():
            raise ReaderError(f"bins: edges are two or more ascending times in s, received {edges.tolist()}")
        if window is not None and (isinstance(window, str) or not np.allclose(window, edges[[0, -1]])):
            raise ReaderError(f"bins from {edges[0]:g} to {edges[-1]:g} s are not the window {window}: leave it out")
        return edges
    if window is None:
        raise ReaderError(
            "in which window are spikes counted? Say `window=(start, stop)`, in s after the start of a presentation, "
            f"or `window='interval'`\n{held}"
        )
    if isinstance(window, str):
        if window != INTERVAL:
            raise ReaderError(f"window is (start, stop) in s or {INTERVAL!r}, received {window!r}")
        if bins is not None or choices.measure != "rate":
            raise ReaderError("intervals differ in length: they go with `measure='rate'`, and have no bins")
        return None
    start, stop = window
    if bins is None:
        return np.array([start, stop])
    n = (stop - start) / bins if bins > 0 else 0.0
    if round(n) < 1 or abs(n - round(n)) > ROUNDING * max(1.0, n):
        raise ReaderError(f"bins of {bins:g} s do not fill the window from {start:g} to {stop:g} s")
    return np.linspace(start, stop, round(n) + 1)


def _require_comparable(choices: Choices, edges: NDArray[np.float64] | None, measure: str) -> None:
    assert choices.baseline is not None
    if edges is None or measure == "rate":
        return
    length, before = edges[1] - edges[0], choices.baseline[1] - choices.baseline[0]
    if not np.allclose(np.diff(edges), before):
        raise ReaderError(
            f"counts in {length:g} s and in a baseline of {before:g} s cannot be compared: say `measure='rate'`"
        )


def _measured(
    times: Times, bounds: NDArray[np.int64], windows: NDArray[np.float64], shown: NDArray[np.bool_], measure: str
) -> Any:
    """Counts or rates (presentations, units, bins); NaN where nothing was shown; a dask array where that is large."""
    n_bytes = 8 * len(windows) * len(bounds) * (windows.shape[1] - 1)
    if n_bytes <= LAZY_BYTES:
        return _measure(times, bounds, windows, shown, measure)
    import dask
    import dask.array as da

    per_unit = n_bytes // len(bounds)
    step = max(1, BLOCK_BYTES // per_unit)
    dtype = np.int64 if measure == "count" and shown.all() else np.float64
    blocks = []
    for start in range(0, len(bounds), step):
        some = bounds[start : start + step]
        shape = (len(windows), len(some), windows.shape[1] - 1)
        counted = dask.delayed(_measure)(times, some, windows, shown, measure)
        blocks.append(da.from_delayed(counted, shape=shape, dtype=dtype))
    return da.concatenate(blocks, axis=1)


def _measure(
    times: Times, bounds: NDArray[np.int64], windows: NDArray[np.float64], shown: NDArray[np.bool_], measure: str
) -> Any:
    n, n_bins = len(windows), windows.shape[1] - 1
    lengths = np.diff(windows, axis=1)
    whole = measure == "count" and bool(shown.all())
    found = np.full((n, len(bounds), n_bins), 0 if whole else np.nan, dtype=np.int64 if whole else np.float64)
    for unit, (first, last) in enumerate(bounds):
        counts = counts_between(times, [first, last], windows[shown])[:, 0]
        found[shown, unit] = counts if measure == "count" else counts / lengths[shown]
    return found


def described_units(units: Table) -> str:
    """Return how many units there are and where, as messages show it."""
    text = f"{len(units)} units"
    if names.REGION in units.columns:
        regions, n = np.unique(units.columns[names.REGION].astype(str), return_counts=True)
        told = ", ".join(f"{region or 'unknown'} ({count})" for region, count in zip(regions, n, strict=True))
        text += f"; regions: {told}"
    return f"{text}; identifiers: {listed(units.columns[names.UNIT_ID])}"


def described_tables(tables: Mapping[str, Sequence[Any]]) -> str:
    """Return tables of presentations, each (rows, columns), as messages show them."""
    return "\n".join(f"  {name}: {n} rows; columns {', '.join(columns)}" for name, (n, columns) in tables.items())
