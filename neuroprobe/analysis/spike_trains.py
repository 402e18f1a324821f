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
from neuroprobe.statistics.spikes import Psth, choose_bins, count_spikes, ragged, relative_times, smoothed_psth
from neuroprobe.statistics.spikes import psth as binned_psth

Array = NDArray[np.float64]
SPIKE: Final = "spike"
TIME: Final = "time"
ROW: Final = "row"
RATE: Final = "rate"
FEWEST, MOST_BINS, LEAST_WIDTH = 2, 100, 0.001  # bins that are tried by default, s
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
    window = _window(window)
    table = _table_of(trials, align, by)
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


def bin_width(
    spikes: Mapping[Any, ArrayLike],
    trials: xr.DataTree | Mapping[str, Any],
    window: tuple[float, float],
    *,
    candidates: Sequence[int] | None = None,
    align: str = names.START_TIME,
) -> xr.Dataset:
    """Width of bins that suits the peristimulus time histogram of each unit.

    Parameters
    ----------
    spikes, trials, window, align
        As for `raster`.
    candidates : sequence of int, optional
        Numbers of bins in the window; by default 2 to 100, but no bins under 1 ms.

    Returns
    -------
    Dataset
        Over ``unit``: ``bin_width`` (s), ``n_bins``, ``n_spikes``, ``at_end`` (1 where it is the first or the last
        candidate, and a better one may lie beyond), ``defined``; over (``candidate``, ``unit``) ``cost``, which is the
        mean integrated squared error of the rate but for a constant.

    Raises
    ------
    ReaderError
        If there is no candidate, or the window or a column is wrong.

    Notes
    -----
    Shimazaki & Shinomoto 2007 (doi:10.1162/neco.2007.19.6.1503), of all presentations together: for spikes that are a
    Poisson process given the rate.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> onsets = np.arange(100.0)
    >>> steady, brief = random.uniform(0, 100, 3000), onsets.repeat(30) + random.normal(0.5, 0.01, 3000)
    >>> found = bin_width({"steady": steady, "brief": brief}, {"start_time": onsets}, (0.0, 1.0))
    >>> bool(found.bin_width[0] > 0.2), bool(found.bin_width[1] < 0.02)
    (True, True)
    """
    start, stop = _window(window)
    table = _table_of(trials, align)
    most = max(FEWEST, min(MOST_BINS, int((stop - start) / LEAST_WIDTH)))
    numbers = list(range(FEWEST, most + 1)) if candidates is None else [int(n) for n in candidates]
    if not numbers or min(numbers) < 1:
        raise ReaderError(f"candidates are numbers of bins, 1 or more; received {numbers}")
    onsets = np.asarray(table[align], dtype=np.float64)
    times, offsets = ragged(list(spikes.values()))
    found = choose_bins(times, offsets, onsets[np.isfinite(onsets)], start, stop, numbers)
    at_end = np.isin(found.n_bins, [min(numbers), max(numbers)])
    n_spikes = count_spikes(times, offsets, onsets[np.isfinite(onsets)] + start, onsets[np.isfinite(onsets)] + stop)
    told = "least estimated error of the rate (Shimazaki & Shinomoto 2007)"
    return xr.Dataset(
        {
            "bin_width": (names.UNIT, found.width, {"units": "s", "long_name": "width of bins", "method": told}),
            "n_bins": (names.UNIT, found.n_bins, {"long_name": "number of bins in the window"}),
            "n_spikes": (names.UNIT, n_spikes.sum(0), {"long_name": "spikes in the window, of all presentations"}),
            "at_end": (names.UNIT, at_end.astype(np.int8), {"long_name": "1 where the best candidate is the last one"}),
            names.DEFINED: (names.UNIT, found.defined.astype(np.int8), {"long_name": "1 where there are spikes"}),
            "cost": (("candidate", names.UNIT), found.cost, {"long_name": "error of the rate, but for a constant"}),
        },
        coords={
            names.UNIT_ID: (names.UNIT, np.array([str(unit) for unit in spikes], dtype=object)),
            "candidate": np.array(numbers, dtype=np.int64),
        },
        attrs={"long_name": "bins of peristimulus time histograms", "window_start": start, "window_end": stop},
    )


def _window(window: tuple[float, float]) -> tuple[float, float]:
    if not window[0] < window[1]:
        raise ReaderError(f"window starts before it stops, received ({window[0]:g}, {window[1]:g})")
    return float(window[0]), float(window[1])


def _table_of(trials: xr.DataTree | Mapping[str, Any], *columns: str) -> Mapping[Any, Any]:
    """Presentation table, which has these columns."""
    table = trials.to_dataset().coords if isinstance(trials, xr.DataTree) else trials
    for column in columns:
        if column not in table:
            raise ReaderError(unknown_name("column", column, [str(one) for one in table]))
    return table


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
    edges = require_edges(populations)
    results = UnitResults(populations)
    for one in populations:
        _add(results, one, edges, sigma)
    middle = (edges[:-1] + edges[1:]) / 2
    return results.dataset(
        DESCRIBED,
        common_attrs("peristimulus time histogram", populations, sigma=sigma),
        defined=RATE,
        coords={TIME: (TIME, middle, {"units": "s"})},
    )


def require_edges(populations: Sequence[Population]) -> Array:
    """Return the edges of the bins of time of single trials, the same in all populations, in s.

    Raises
    ------
    ReaderError
    """
    require_trials(populations, "PSTH")
    edges = _edges(populations[0])
    for one in populations:
        own = _edges(one)
        if len(own) != len(edges) or not np.allclose(own, edges):
            raise ReaderError(f"bins of time of {one.name!r} differ from those of {populations[0].name!r}")
    return edges


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
