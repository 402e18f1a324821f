"""Pictures of tuning: curves of single units with fitted functions, distributions of measures over units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import holoviews as hv
import numpy as np
import xarray as xr

from neuroprobe import names
from neuroprobe.analysis.spike_trains import condition_coord, condition_names, factors_of
from neuroprobe.analysis.unit_distributions import (
    GROUP,
    N_SIGNIFICANT,
    best_units,
    unit_distribution,
)
from neuroprobe.errors import ReaderError
from neuroprobe.plot.spike_trains import place_of, unit_names
from neuroprobe.plot.style import COLOURS, PALE, RANDOM, factor_styles, grid, ticks

CURVE: Final = "tuning_curve"
ENDING: Final = "_curve"
MOST_UNITS: Final = 24
N_FEW: Final = 4  # conditions of a panel that each have a tick
N_FINE: Final = 8  # ticks of a panel, of many conditions
PANEL: Final = 2.3  # width of a panel, in inches
INDICES: Final = (
    "orientation_length", "direction_length", "osi", "dsi", "preferred_orientation", "preferred_direction",
    "omega_squared", "preferred",
)  # fmt: skip
RELIABILITY: Final = ("split_half_correlation", "explainable_variance", "noise_ceiling", "fano_factor")
SAID: Final = {
    "osi": "OSI",
    "dsi": "DSI",
    "orientation_length": "1 − circular variance (orientation)",
    "direction_length": "1 − circular variance (direction)",
    "omega_squared": "ω²",
    "fano_factor": "Fano factor",
    "f1_over_f0": "F1 / F0",
    "vector_length": "1 − circular variance",
    "hue_length": "1 − circular variance (hue)",
}


def tuning_curves(
    found: xr.Dataset, units: Sequence[Any] | None = None, n_units: int = 8, n_columns: int = 4
) -> hv.Layout:
    """Tuning curves of units, a panel each: means with errors over trials, and the fitted functions.

    Parameters
    ----------
    found : Dataset
        Of `neuroprobe.tuning`, of one factor.
    units : sequence, optional
        Those that are drawn, by ``unit_id``, or as ``conv2/17`` (layer, channel, place) of a network; by default the
        `n_units` whose tuning is least in doubt, which are not typical.
    n_units, n_columns : int

    Returns
    -------
    holoviews.Layout
        Points with bars of one standard error, a line for each function where its fit is defined; grey ones from point
        to point where none was fitted. The title says R² and the preferred stimulus. Angles go round: the first
        condition stands at the end again.

    Raises
    ------
    ReaderError
        If there is no such unit, or too many are wanted.
    """
    places = best_units(found, n_units) if units is None else [place_of(found, unit) for unit in units]
    if not 0 < len(places) <= MOST_UNITS:
        raise ReaderError(f"1 to {MOST_UNITS} units are drawn, received {len(places)}")
    models = [str(name).removesuffix(ENDING) for name in found.data_vars if _is_fit(found, str(name))]
    panels = [_panel(found.isel({names.UNIT: int(place)}), models) for place in places]
    chosen = "" if units is not None else f", the {len(places)} units whose tuning is least in doubt"
    errors = " (± 1 se)" if np.isfinite(found[names.se(CURVE)].values[:, places]).any() else ""
    return _layout(panels, n_columns, f"Tuning for {factors_of(found)[0]}{chosen}{errors}")


def _is_fit(found: xr.Dataset, name: str) -> bool:
    return name.endswith(ENDING) and name != CURVE and f"{name.removesuffix(ENDING)}_r_squared" in found


def _layout(panels: Sequence[hv.Overlay], n_columns: int, title: str) -> hv.Layout:
    n_columns = min(n_columns, len(panels))
    n_rows = -(-len(panels) // n_columns)
    return (
        hv.Layout(list(panels))
        .cols(n_columns)
        .opts(
            title=title,
            fig_inches=(PANEL * n_columns + 0.4, 1.9 * n_rows + 0.5),
            aspect_weight=0,
            sublabel_format="",
            hspace=0.45,
            shared_axes=False,
            vspace=0.62,
            fontsize={"title": 10},
            backend="matplotlib",
        )
    )


def _panel(one: xr.Dataset, models: Sequence[str]) -> hv.Overlay:
    (factor,) = factors_of(one)
    conditions = one[condition_coord(one, factor)].values
    is_text = conditions.dtype.kind in "OUT"
    x = np.arange(float(len(conditions))) if is_text else conditions.astype(np.float64)
    mean, error = one[CURVE].values, one[names.se(CURVE)].values
    shown, period = np.isfinite(mean), float(one.attrs.get("period", 0))
    curve = {"color": "black", "s": 14, "backend": "matplotlib"}
    places, values, errors = (_around(array, shown, period, at == 0) for at, array in enumerate((x, mean, error)))
    elements: list[hv.Element] = [
        hv.ErrorBars((places, values, np.nan_to_num(errors)), "stimulus", ["response", "se"]).opts(
            edgecolor="black", backend="matplotlib"
        ),
        hv.Scatter((places, values), "stimulus", "response").opts(**curve),
    ]
    if not models and not is_text:
        line = hv.Curve((places, values), "stimulus", "response")
        elements.append(line.opts(color=RANDOM, linewidth=0.8, backend="matplotlib"))
    for model, style in zip(models, factor_styles(models), strict=True):
        fit = one[f"{model}{ENDING}"].values
        there = np.isfinite(fit)
        if there.any():
            line = (_around(x, there, period, True), _around(fit, there, period, False))
            drawn = hv.Curve(line, "stimulus", "response", label=model.replace("_", " "))
            elements.append(drawn.opts(color=style["color"], linewidth=1.2, backend="matplotlib"))
    options: dict[str, Any] = {"ylim": _room(values, errors)}
    if is_text:
        options |= {"xticks": ticks(condition_names(one)), "xrotation": 40}
    elif len(conditions) <= N_FEW:
        options["xticks"] = ticks(condition_names(one), x.tolist())
    elif len(conditions) > N_FINE:
        options["xticks"] = 4
    return hv.Overlay(elements).opts(
        title=_title(one, models),
        xlabel=factor,
        ylabel=str(one.attrs.get("response_units") or "response"),
        hooks=[grid],
        show_legend=False,
        aspect="auto",
        fontsize={"title": 8, "labels": 8, "ticks": 7},
        backend="matplotlib",
        **options,
    )


def _around(array: np.ndarray, shown: np.ndarray, period: float, is_place: bool) -> np.ndarray:
    """Values where a condition was shown; of angles the first one again at the end."""
    some = array[shown]
    return np.append(some, some[:1] + (period if is_place else 0.0)) if period and len(some) else some


def _room(values: np.ndarray, errors: np.ndarray) -> tuple[float, float]:
    errors = np.nan_to_num(errors)
    low, high = float(np.min(values - errors, initial=0.0)), float(np.max(values + errors, initial=0.0))
    return (1.08 * low, 1.08 * high) if high > low else (0.0, 1.0)


def _title(one: xr.Dataset, models: Sequence[str]) -> str:
    said = [f"R² {_number(one[f'{model}_r_squared'])}" for model in models]
    for name in (*(f"{model}_preferred" for model in models), "preferred"):
        if name in one:
            said.append(f"preferred {_number(one[name])}")
            break
    where = f" ({one[names.REGION].item()})" if names.REGION in one.coords and one[names.REGION].item() else ""
    return f"{unit_names(one)[0]}{where}\n" + ", ".join(said)


def _number(value: xr.DataArray) -> str:
    if value.dtype.kind in "OUT":
        return str(value.item()) or "–"
    return "–" if np.isnan(value.item()) else f"{value.item():.3g}"


def reliability(found: xr.Dataset, by: str | None = names.REGION, bins: int = 20) -> hv.Layout:
    """Distributions over units of how much of their responses is signal: `unit_distributions` of `reliability`.

    Parameters
    ----------
    found : Dataset
        Of `neuroprobe.reliability`.
    by, bins
        As for `unit_distributions`.
    """
    known = [name for name in RELIABILITY if name in found]
    return unit_distributions(found, known, by=by, bins=bins).opts(title="Reliability of units")


def unit_distributions(
    found: xr.Dataset,
    variables: Sequence[str] | None = None,
    by: str | None = names.REGION,
    bins: int = 20,
    between: tuple[float, float] | None = None,
) -> hv.Layout:
    """Distributions over units of their measures: a row of panels per group of units, a column per measure.

    Parameters
    ----------
    found : Dataset
        Of `neuroprobe.tuning`, or another one over ``unit``.
    variables : sequence of str, optional
        By default what there is of OSI, DSI, 1 − circular variance, preferred stimulus, ω², and R² of fits.
    by : str, optional
        Coordinate of units that groups them.
    bins : int
    between : (float, float), optional
        Ends of what is shown, of all measures; by default those of each.

    Returns
    -------
    holoviews.Layout
        Numbers of units; dark those that are significant after correction (p < .05), where there is a test. The line is
        the median, which angles do not have. Undefined units are left out, and the title says how many are shown.

    Raises
    ------
    ReaderError
        If there is no such measure.
    """
    chosen = measures_of(found) if variables is None else list(variables)
    if not chosen:
        raise ReaderError(f"no measure to draw; there are {', '.join(map(str, found.data_vars))}: name some")
    tables = [unit_distribution(found, name, by=by, bins=bins, between=between) for name in chosen]
    panels = [
        _histogram(table.isel({GROUP: number}), name)
        for number in range(tables[0].sizes[GROUP])
        for name, table in zip(chosen, tables, strict=True)
    ]
    tested = any(table.attrs["p_value"] for table in tables)
    note = "; dark: p < .05, corrected for the number of units" if tested else ""
    return _layout(panels, len(chosen), f"Distributions over units{note}")


def measures_of(found: xr.Dataset) -> list[str]:
    """Measures of tuning that are drawn where nothing else is said."""
    fits = [str(name) for name in found.data_vars if str(name).endswith("_r_squared")]
    numbers = [name for name in INDICES if name in found and found[name].dtype.kind in "iuf"]
    of_angles = {"omega_squared", "preferred"} if "osi" in found else set()
    return [name for name in numbers if name not in of_angles and not found[name].isnull().all()] + fits


def _histogram(one: xr.Dataset, name: str) -> hv.Overlay:
    edges = np.append(one[names.BIN_START].values, one[names.BIN_END].values[-1])
    counts, passed, middle = one[names.N_UNITS].values, one[N_SIGNIFICANT].values, float(one["median"])
    tested = bool(one.attrs["p_value"])
    style = {"edgecolor": "none", "linewidth": 0, "backend": "matplotlib"}
    drawn = [(counts, PALE if tested else COLOURS[0], "all")]
    drawn += [(passed, COLOURS[0], "significant")] if tested else []
    elements: list[hv.Element] = [
        hv.Histogram((edges, some), kdims=name, label=label).opts(facecolor=colour, **style)
        for some, colour, label in drawn
    ]
    if np.isfinite(middle):
        line = hv.Segments([(middle, 0.0, middle, max(1.0, counts.max()))], ["x", "y", "x_2", "y_2"], label="median")
        elements.append(line.opts(color="black", linewidth=1, backend="matplotlib"))
    n, n_lost = int(one[names.N_DEFINED]), int(one[names.N_UNDEFINED])
    lost = f", {n_lost:,} undefined" if n_lost else ""
    said = f"\nmedian {middle:.2f}" if np.isfinite(middle) else ""
    return hv.Overlay(elements).opts(
        title=f"{one[GROUP].item()}: n {n:,}{lost}{said}" if n else f"{one[GROUP].item()}: none defined",
        xlabel=SAID.get(name, name.replace("_r_squared", ": R²").replace("_", " ")),
        ylabel="units",
        xlim=(float(edges[0]), float(edges[-1])),
        hooks=[grid],
        show_legend=False,
        aspect="auto",
        fontsize={"title": 8, "labels": 8, "ticks": 7},
        backend="matplotlib",
    )
