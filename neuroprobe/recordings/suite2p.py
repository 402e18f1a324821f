"""Folders of suite2p: fluorescence of cells in frames, averaged in windows around trials that are given."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.errors import ReaderError, reason, unknown_name
from neuroprobe.recordings.build import choose_units, factors_attr, node_of, rows_of, safe, tree_of
from neuroprobe.recordings.columns import Table, plain
from neuroprobe.recordings.contract import READERS, Choices, Reader
from neuroprobe.recordings.spiking import described_units, is_table_given, trial_table, window_edges

SIGNALS: Final = {
    "spks": "deconvolved fluorescence",
    "F": "fluorescence",
    "corrected": "fluorescence less 0.7 of the neuropil's",
}
NEUROPIL: Final = 0.7  # share of its fluorescence that is in a cell's, suite2p's default


def read_suite2p(path: Path, choices: Choices) -> xr.DataTree:
    """Read a plane of suite2p.

    Parameters
    ----------
    path : Path
        Folder with ``F.npy``.
    choices : Choices
        ``trials``: a table of presentations with ``start_time`` in s, or its path; ``window``, ``baseline``, ``bins``:
        the mean over the frames in each, NaN where there is none. ``signal``: ``spks`` (by default), ``F`` or
        ``corrected``. ``frame_rate`` in Hz, or ``allow_pickle=True`` to take it from ``ops.npy``, which runs code that
        the file may bring: only for files of your own. ``all_rois=True`` keeps what suite2p took for no cell.

    Raises
    ------
    ReaderError
        If files are missing or do not fit each other, or a choice is missing.
    """
    signal = choices.option("signal", "spks")
    values = _signal(path, signal)
    rate = _frame_rate(path, choices)
    units = _cells(path, len(values), choices)
    held = f"{str(path)!r} holds {values.shape[1]} frames at {rate:g} Hz of {described_units(units)}"
    if not is_table_given(choices.trials):
        raise ReaderError(
            f"when was something shown? Say `trials`: a table with {names.START_TIME!r} in s, or its path\n{held}"
        )
    table = trial_table(choices.trials)
    edges = None if isinstance(choices.window, str) else window_edges(choices, held)
    if edges is None:
        raise ReaderError(f"frames are averaged in a window in s, (start, stop), received {choices.window!r}")
    kept = choose_units(units, choices)
    roi = units.columns["roi"][kept].astype(np.int64)
    onsets = table.columns[names.START_TIME].astype(np.float64)
    response = _means(values, roi, onsets, edges, rate)
    attrs: dict[str, Any] = {
        "units": "a.u.", "signal": SIGNALS[signal], "window_start": float(edges[0]), "window_end": float(edges[-1])
    }  # fmt: skip
    baseline = None
    if choices.baseline is not None:
        before = np.asarray(choices.baseline)
        told = {"units": "a.u.", "window_start": float(before[0]), "window_end": float(before[1])}
        baseline = (_means(values, roi, onsets, before, rate)[..., 0], told)
    has_bins = choices.bins is not None
    node = node_of(
        response if has_bins else response[..., 0],
        table,
        rows_of(units, kept),
        attrs=attrs,
        bins=np.stack([edges[:-1], edges[1:]], axis=1) if has_bins else None,
        baseline=baseline,
    )
    return tree_of({safe(path.name): node}, attrs=factors_attr(table, choices))


def _array(file: Path) -> NDArray[Any]:
    try:
        values: NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise ReaderError(f"{str(file)!r}: no such file") from None
    except (ValueError, OSError, EOFError) as error:
        raise ReaderError(f"{str(file)!r}: not an array of numbers that can be read: {reason(error)}") from error
    return values


def _signal(path: Path, signal: str) -> Any:
    if signal not in SIGNALS:
        raise ReaderError(unknown_name("signal", signal, SIGNALS))
    values = _array(path / ("spks.npy" if signal == "spks" else "F.npy"))
    if values.ndim != 2:
        raise ReaderError(f"{str(path)!r}: {signal} has shape {values.shape}, expected (cells, frames)")
    if signal != "corrected":
        return values
    around = _array(path / "Fneu.npy")
    if around.shape != values.shape:
        raise ReaderError(f"{str(path)!r}: F.npy has shape {values.shape}, Fneu.npy {around.shape}")
    return values - NEUROPIL * around


def _frame_rate(path: Path, choices: Choices) -> float:
    rate = choices.option("frame_rate")
    if rate is None and choices.option("allow_pickle") is True:
        try:
            rate = np.load(path / "ops.npy", allow_pickle=True).item()["fs"]
        except Exception as error:  # a pickle may raise anything
            raise ReaderError(f"{str(path / 'ops.npy')!r} does not tell the frame rate: {reason(error)}") from error
    if rate is None:
        raise ReaderError(
            f"{str(path)!r}: how many frames are a second? Give `frame_rate`; or `allow_pickle=True` to read it from "
            "ops.npy, if you trust who made it: such a file can run code"
        )
    if not float(rate) > 0:
        raise ReaderError(f"frame_rate is above 0 Hz, received {rate!r}")
    return float(rate)


def _cells(path: Path, n: int, choices: Choices) -> Table:
    units = Table({names.UNIT_ID: plain([str(number) for number in range(n)]), "roi": np.arange(n)})
    if not (path / "iscell.npy").is_file():
        return units
    told = _array(path / "iscell.npy")
    if told.ndim != 2 or len(told) != n:
        raise ReaderError(f"{str(path)!r}: iscell.npy has shape {told.shape}, there are {n} regions of interest")
    units.columns["probability_of_cell"] = np.asarray(told[:, -1], dtype=np.float64)
    is_cell = np.flatnonzero(told[:, 0] > 0).tolist()
    if choices.option("all_rois") is True:
        return units
    if not is_cell:
        raise ReaderError(f"{str(path)!r}: none of {n} regions of interest is a cell: `all_rois=True` keeps them")
    return rows_of(units, is_cell)


def _means(
    values: Any, roi: NDArray[np.int64], onsets: NDArray[np.float64], edges: NDArray[np.float64], rate: float
) -> NDArray[np.float64]:
    """Mean over the frames that begin in each bin (presentations, units, bins); NaN without frames, or off the end."""
    n_frames = values.shape[1]
    when = np.arange(n_frames) / rate
    ends = onsets[:, None] + edges
    place = np.searchsorted(when, ends)
    n = np.diff(place, axis=1)
    # a recording that starts or ends within the window has no whole mean
    off = ~np.isfinite(ends[:, :-1]) | (ends[:, :-1] < 0) | (ends[:, 1:] > n_frames / rate)
    found = np.full((len(onsets), len(roi), len(edges) - 1), np.nan)
    for unit, row in enumerate(roi):
        total = np.concatenate([[0.0], np.cumsum(np.asarray(values[row], dtype=np.float64))])
        with np.errstate(invalid="ignore", divide="ignore"):
            found[:, unit] = np.where(off, np.nan, np.diff(total[place], axis=1) / n)
    return found


READERS.add(
    "suite2p",
    Reader(
        "folder of suite2p: fluorescence of cells, around trials that are given",
        lambda path: isinstance(path, Path) and (path / "F.npy").is_file(),
        read_suite2p,
        frozenset(
            {"trials", "window", "baseline", "bins", "factors", "units"}
            | {"signal", "frame_rate", "allow_pickle", "all_rois"}
        ),
    ),
)
