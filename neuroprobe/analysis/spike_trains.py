"""Spikes around presentations: rasters, and peristimulus time histograms of the conditions of a recording."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from neuroprobe import names
from neuroprobe.analysis.populations import Population, populations_of, require_trials
from neuroprobe.analysis.unit_results import CONDITION, UnitResults, common_attrs
from neuroprobe.errors import ReaderError, unknown_name
from neuroprobe.statistics.spikes import Psth, ragged, relative_times, smoothed_psth
from neuroprobe.statistics.spikes import psth as binned_psth

Array = NDArray[np.float64]
SPIKE: Final = "spike"
TIME: Final = "time"
ROW: Final = "row"
RATE: Final = "rate"
DESCRIBED: Final = {
    RATE: ("mean rate, spikes/s", "mean over trials; error of trials as independent draws"),
    names.N_TRIALS: ("number of trials", "count"),
}


def raster(
    spikes: Mapping[Any, ArrayLike],
    trials: xr.DataTree | Mapping[str, Any],
    unit: Any,
    by: str,
    window: tuple[float, float],
    align: str = names.START_TIME,
) -> xr.Dataset:
    """Spike times of a unit around each presentation, sorted by condition.

    Parameters
    ----------
    spikes : mapping
        Unit → its spike times, s.
    trials : xarray.DataTree or mapping
        A recording, of which the presentation table is taken; or the columns of one.
    unit : object
        Key of the unit.
    by : str
        Column that names conditions. Presentations without one are left out.
    window : (float, float)
        s after a presentation, [start, stop).
    align : str
        Column of the times (s) that 0 s is.

    Returns
    -------
    Dataset
        Over ``spike``: ``time`` (s) and ``row``, the place in the picture. Over ``presentation_row``: the
        condition, and the number of the presentation; conditions in ascending order, in one presentations in theirs.

    Raises
    ------
    ReaderError
        If the unit or a column is not there, or the window ends before it starts.

    Examples
    --------
    >>> trials = {"start_time": [0.0, 1.0, 2.0], "kind": ["b", "a", "b"]}
    >>> found = raster({"u1": [0.25, 1.5, 2.0]}, trials, "u1", "kind", (0.0, 1.0))
    >>> found["time"].values, found["row"].values, found["kind"].values.tolist()
    (array([0.5 , 0.25, 0.  ]), array([0, 1, 2]), ['a', 'b', 'b'])
    """
    if unit not in spikes:
        raise ReaderError(unknown_name("unit", str(unit), [str(one) for one in spikes]))
    if not window[0] < window[1]:
        raise ReaderError(f"window starts before it stops, received ({window[0]:g}, {window[1]:g})")
    table = trials.to_dataset().coords if isinstance(trials, xr.DataTree) else trials
    for column in (align, by):
        if column not in table:
            raise ReaderError(unknown_name("column", column, [str(one) for one in table]))
    onsets, condition = np.asarray(table[align], dtype=np.float64), np.asarray(table[by])
    if condition.dtype.kind in "OUT":
        condition = np.array([str(value) for value in condition.tolist()], dtype=object)
        known = condition != ""
    else:
        known = np.isfinite(condition.astype(np.float64))
    chosen = np.flatnonzero(known & np.isfinite(onsets))
    # a stable sort keeps the order of presentations within a condition
    order = chosen[np.argsort(condition[chosen], kind="stable")]
    times, offsets = ragged([spikes[unit]])
    time, row, _ = relative_times(times, offsets, onsets[order], *window)
    told = {"long_name": "raster", "unit": str(unit), "by": by, "window_start": window[0], "window_end": window[1]}
    return xr.Dataset(
        {TIME: (SPIKE, time, {"units": "s", "long_name": f"time after {align}"}), ROW: (SPIKE, row)},
        coords={by: ("presentation_row", condition[order]), names.PRESENTATION: ("presentation_row", order)},
        attrs=told,
    )


def psth(
    recording: xr.DataTree,
    factors: Sequence[str] | str | None = None,
    *,
    sigma: float | None = None,
    units: str | None = None,
) -> xr.Dataset:
    """Mean rate of each unit over time, condition by condition.

    Parameters
    ----------
    recording : xarray.DataTree
        With responses in bins of time: read with ``bins``.
    factors, units
        As for `neuroprobe.responsiveness`.
    sigma : float, optional
        Standard deviation (s) of a Gaussian kernel, beside which bins should be narrow; none by default.

    Returns
    -------
    Dataset
        Over (``condition``, ``time``, ``unit``): ``rate`` (spikes/s) and its standard error over trials; over
        (``condition``, ``unit``) ``n_trials``; ``time`` is the middle of a bin, s. NaN where a unit has no trial of a
        condition; errors are NaN where it has one.

    Raises
    ------
    ReaderError
        If there are no bins of time, they have gaps or differ between sessions, responses are means over trials, or
        the kernel is not wider than 0 s.
    """
    if sigma is not None and not sigma > 0:
        raise ReaderError(f"sigma is above 0 s, received {sigma:g}")
    populations = populations_of(recording, factors, units)
    require_trials(populations, "PSTH")
    edges = _edges(populations[0])
    results = UnitResults(populations)
    for one in populations:
        own = _edges(one)
        if len(own) != len(edges) or not np.allclose(own, edges):
            raise ReaderError(f"bins of time of {one.name!r} differ from those of {populations[0].name!r}")
        _add(results, one, edges, sigma)
    middle = (edges[:-1] + edges[1:]) / 2
    return results.dataset(
        DESCRIBED,
        common_attrs("peristimulus time histogram", populations, sigma=sigma),
        defined=RATE,
        coords={TIME: (TIME, middle, {"units": "s"})},
    )


def _edges(one: Population) -> Array:
    """Edges of the bins of time, which touch each other."""
    if names.TIME_BIN_START not in one.dataset.coords:
        raise ReaderError(f"a PSTH needs bins of time, and {one.name!r} has none: read the recording with `bins`")
    start, stop = one.dataset[names.TIME_BIN_START].values, one.dataset[names.TIME_BIN_END].values
    if not np.allclose(start[1:], stop[:-1]):
        raise ReaderError(f"{one.name}: there are gaps between bins of time")
    return np.append(start, stop[-1]).astype(np.float64)


def _add(results: UnitResults, one: Population, edges: Array, sigma: float | None) -> None:
    width = np.ones(len(edges) - 1) if one.are_counts else np.diff(edges)
    n_conditions, middle = len(one.conditions.labels), (edges[:-1] + edges[1:]) / 2
    for piece in one.courses():
        counts = piece.values.transpose(0, 2, 1) * width
        n_units = counts.shape[1]
        rate = np.full((2, n_conditions, len(middle), n_units), np.nan)
        n = np.zeros((n_conditions, n_units), dtype=np.int64)
        for number in range(n_conditions):
            trials = counts[one.conditions.index == number]
            # trials that the whole population lacks
            trials = trials[~np.isnan(trials).all((1, 2))]
            n[number] = (~np.isnan(trials).any(2)).sum(0)
            if len(trials):
                found = _psth(trials, edges, middle, sigma)
                rate[:, number] = found.rate.T, found.se.T
        results.add(one, (CONDITION, TIME), **{RATE: rate[0], names.se(RATE): rate[1]})
        results.add(one, (CONDITION,), **{names.N_TRIALS: n})


def _psth(counts: Array, edges: Array, at: Array, sigma: float | None) -> Psth:
    # counts of rates are no integers
    given: Any = counts
    return binned_psth(given, edges) if sigma is None else smoothed_psth(given, edges, at, sigma)


def factors_of(found: xr.Dataset) -> list[str]:
    """Factors of a labelled result on a recording."""
    return [str(name) for name in json.loads(found.attrs[names.FACTORS])]


def condition_coord(found: xr.Dataset, factor: str) -> str:
    """Name of the coordinate of conditions that holds a factor, which differs where a coordinate of units has its."""
    prefixed = f"{CONDITION}_{factor}"
    return prefixed if prefixed in found.coords else factor


def condition_names(found: xr.Dataset) -> list[str]:
    """Conditions as texts: the values of the factors, numbers in short."""
    columns = [found[condition_coord(found, factor)].values for factor in factors_of(found)]
    return [", ".join(_said(value) for value in row) for row in zip(*columns, strict=True)]


def _said(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:g}"
