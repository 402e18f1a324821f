"""Pictures of spikes around presentations: rasters, and mean rates over time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import holoviews as hv
import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from neuroprobe import names
from neuroprobe.analysis import spike_trains
from neuroprobe.analysis.unit_results import CONDITION
from neuroprobe.errors import ReaderError, unknown_name
from neuroprobe.plot.style import BAND, factor_styles, frame, grid, ticks

TICK: Final = 0.42  # half of the height of a spike, in rows
MAX_HEIGHT: Final = 6.0  # of a raster, in inches


def raster(
    spikes: Mapping[Any, ArrayLike],
    trials: xr.DataTree | Mapping[str, Any],
    unit: Any,
    by: str,
    window: tuple[float, float] = (-0.5, 1.0),
    stimulus: tuple[float, float] | None = None,
    align: str = names.START_TIME,
) -> hv.Overlay:
    """Spikes of a unit, a row per presentation, sorted by condition.

    Parameters
    ----------
    spikes, trials, unit, by, window, align
        As for `neuroprobe.analysis.spike_trains.raster`.
    stimulus : (float, float), optional
        s; when the stimulus was there, or the window in which responses are counted: a grey band.

    Returns
    -------
    holoviews.Overlay
        A stroke per spike; conditions in their order from the top, each in its colour, presentations in theirs.

    Raises
    ------
    ReaderError
        If the unit or a column is not there, or the window ends before it starts.
    """
    found = spike_trains.raster(spikes, trials, unit, by, window, align)
    condition, row = found[by].values, found[spike_trains.ROW].values
    n_rows = len(condition)
    kinds = list(dict.fromkeys(condition.tolist()))
    elements: list[hv.Element] = []
    if stimulus is not None:
        elements.append(_span(stimulus, (-0.5, n_rows - 0.5)))
    elements.append(hv.Segments([(0.0, -0.5, 0.0, n_rows - 0.5)], ["x", "y", "x_2", "y_2"]).opts(**_LINE))
    places = []
    for kind, style in zip(kinds, factor_styles(kinds), strict=True):
        own = condition[row] == kind
        # the first presentation on top
        x, y = found[spike_trains.TIME].values[own], n_rows - 1.0 - row[own]
        strokes = hv.Segments((x, y - TICK, x, y + TICK), ["x", "y", "x_2", "y_2"], label=str(kind))
        elements.append(strokes.opts(color=style["color"], linewidth=0.7, backend="matplotlib"))
        places.append(n_rows - 1.0 - float(np.flatnonzero(condition == kind).mean()))
    return hv.Overlay(elements).opts(
        title=f"unit {unit}: {n_rows:,} presentations by {by}, {len(row):,} spikes",
        xlabel=f"time after {align} (s)",
        ylabel="",
        xlim=window,
        ylim=(-0.7, n_rows - 0.3),
        yticks=ticks([str(kind) for kind in kinds], places),
        show_legend=False,
        **frame(4.6, min(MAX_HEIGHT, max(1.2, 0.03 * n_rows))),
    )


_LINE: Final[dict[str, Any]] = {"color": "black", "linewidth": 0.6, "backend": "matplotlib"}


def _span(x: tuple[float, float], y: tuple[float, float]) -> hv.Rectangles:
    band = hv.Rectangles([(x[0], y[0], x[1], y[1])], label="stimulus")
    return band.opts(facecolor=BAND, edgecolor="none", alpha=0.5, backend="matplotlib")


def psth(found: xr.Dataset, unit: Any, stimulus: tuple[float, float] | None = None) -> hv.Overlay:
    """Mean rate of a unit over time, a line per condition with a band of one standard error over trials.

    Parameters
    ----------
    found : Dataset
        Of `neuroprobe.analysis.spike_trains.psth`: in bins, or smoothed by a kernel.
    unit : object
        Its ``unit_id``.
    stimulus : (float, float), optional
        s; a grey band.

    Returns
    -------
    holoviews.Overlay
        Bands are left out where a condition has one trial; conditions without trials have no line.

    Raises
    ------
    ReaderError
        If there is no such unit.
    """
    one = found.isel({names.UNIT: place_of(found, unit)})
    rate, error = (one[name].transpose(CONDITION, spike_trains.TIME).values for name in _RATES)
    time, n = one[spike_trains.TIME].values, one[names.N_TRIALS].values
    conditions = spike_trains.condition_names(found)
    high = 1.05 * float(np.nanmax(rate + np.nan_to_num(error), initial=0.0)) or 1.0
    elements: list[hv.Element] = [] if stimulus is None else [_span(stimulus, (0.0, high))]
    elements.append(hv.Segments([(0.0, 0.0, 0.0, high)], ["x", "y", "x_2", "y_2"]).opts(**_LINE))
    for number, style in enumerate(factor_styles(conditions)):
        y, se = rate[number], error[number]
        if not np.isfinite(y).any():
            continue
        if np.isfinite(se).any():
            band = hv.Area((time, y - se, y + se), "time", ["rate", "upper"])
            elements.append(band.opts(facecolor=style["color"], edgecolor="none", alpha=0.2, backend="matplotlib"))
        curve = hv.Curve((time, y), "time", "rate", label=f"{conditions[number]} (n {int(n[number]):,})")
        elements.append(curve.opts(color=style["color"], linewidth=1.3, backend="matplotlib"))
    sigma = found.attrs.get("sigma")
    how = f"in bins of {1000 * np.diff(time).mean():g} ms" if sigma is None and len(time) > 1 else "mean rate"
    how = how if sigma is None else f"Gaussian kernel, σ {1000 * sigma:g} ms"
    return hv.Overlay(elements).opts(
        title=f"unit {unit}: PSTH by {', '.join(spike_trains.factors_of(found))}, {how} (± 1 se)",
        xlabel="time (s)",
        ylabel="rate (spikes/s)",
        ylim=(0.0, high),
        hooks=[grid],
        legend_position="right",
        legend_limit=10_000,
        **frame(4.6, 2.3),
    )


_RATES: Final = (spike_trains.RATE, names.se(spike_trains.RATE))


def unit_names(found: xr.Dataset) -> list[str]:
    """Names of units: their ``unit_id``; of a network's layer, channel and place, such as ``conv2/17/3/4``."""
    if names.UNIT_ID in found.coords:
        return [str(one) for one in np.atleast_1d(found[names.UNIT_ID].values).tolist()]
    parts = [name for name in (names.LAYER, names.TOKEN, names.CHANNEL, names.Y, names.X) if name in found.coords]
    columns = [np.atleast_1d(found[name].values).tolist() for name in parts]
    return ["/".join(map(str, one)) for one in zip(*columns, strict=True)]


def place_of(found: xr.Dataset, unit: Any) -> int:
    """Place of a unit of this name.

    Raises
    ------
    ReaderError
        If there is none, or there are several.
    """
    ids = unit_names(found)
    if str(unit) not in ids:
        raise ReaderError(unknown_name("unit", str(unit), ids))
    if ids.count(str(unit)) > 1:
        raise ReaderError(f"{ids.count(str(unit))} units are called {unit!r}: choose those of one session by `isel`")
    return ids.index(str(unit))
