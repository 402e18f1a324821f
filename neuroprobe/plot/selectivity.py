"""Pictures of selectivity indexes: over layers, one against another, over families, and of single units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import holoviews as hv
import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.colors import to_hex

from neuroprobe import names
from neuroprobe.analysis import selectivity_overview
from neuroprobe.analysis.effects import p_text
from neuroprobe.analysis.selectivity_overview import LEVEL
from neuroprobe.plot.gallery import thumbnails, title_of
from neuroprobe.plot.style import COLOURS, RANDOM, factor_styles, frame, grid, row_axis, rows, texts
from neuroprobe.plot.units import stacked_bars

BOKEH_MARKERS: Final = {
    "o": "circle",
    "s": "square",
    "^": "triangle",
    "D": "diamond",
    "v": "inverted_triangle",
    "P": "plus",
    "X": "x",
    "h": "hex",
}
IMAGE: Final = '<img src="@{image}" width="96" alt="" style="image-rendering: pixelated"><br>'
TOOLTIP: Final = "<b>@{{layer}}, channel @{{channel}}</b><br>{x}: @{{x}}{{0.00}}<br>{y}: @{{y}}{{0.00}}"


def selectivity_by_layer(
    result: xr.DataTree, index: str = "colour", bins: int = 10, between: tuple[float, float] = (0.0, 1.0)
) -> hv.Overlay:
    """Shares of the units of each layer whose index lies in each of several bins of one width.

    Parameters
    ----------
    result : xarray.DataTree
        As `neuroprobe.open_result` opens it.
    index : str
        A number of each unit, such as ``colour`` or ``gamma``.
    bins : int
    between : (float, float)
        Lower end of the first bin, and upper one of the last.

    Returns
    -------
    holoviews.Overlay
        A bar per layer, of length 1; from dark to bright the smallest to the largest index. Values below and above all
        bins have colours of their own. Beside it stand the units that are undefined, of all.

    Raises
    ------
    ReaderError
        If no layer holds the index.
    """
    found = selectivity_overview.layer_shares(result, index, bins, between)
    below, above = found[names.OUTSIDE].values.T
    ends = zip(found[names.BIN_START].values, found[names.BIN_END].values, strict=True)
    kinds = [f"{low:g}–{high:g}" for low, high in ends]
    shades = [to_hex(colour) for colour in colormaps["viridis"](np.linspace(0, 1, bins))]
    parts = [(f"< {between[0]:g}", below, RANDOM), *zip(kinds, found[names.SHARE].values.T, shades, strict=True)]
    parts.append((f"> {between[1]:g}", above, COLOURS[6]))
    drawn = [part for part in parts if part[0] in kinds or np.nansum(part[1]) > 0]
    layers = [str(layer) for layer in found[names.LAYER].values]
    counts = zip(found[names.N_UNDEFINED].values, found[names.N_UNITS].values, rows(len(layers)).tolist(), strict=True)
    said = [(1.02, row, f"{undefined:,} of {total:,}") for undefined, total, row in counts]
    bars = stacked_bars(
        layers,
        np.column_stack([part[1] for part in drawn]),
        [part[0] for part in drawn],
        [part[2] for part in drawn],
        texts([*said, (1.02, len(layers) - 0.45, "undefined")], horizontalalignment="left", verticalalignment="center"),
    )
    options = {**row_axis(layers), "ylim": (-0.6, len(layers) - 0.1)}
    height = max(1.9, 0.4 + 0.24 * len(layers))  # room for the legend
    return bars.opts(
        **{**options, **frame(4.6, height)},
        title=f"{title_of(index)}: shares of the units of each layer",
        xlim=(0, 1.3),
        xticks=[0, 0.25, 0.5, 0.75, 1],
        xlabel="share of defined units",
    )


def index_scatter(
    result: xr.DataTree,
    x: str = "colour",
    y: str = "gamma",
    layer: str | Sequence[str] | None = None,
    images: bool = True,
) -> hv.Overlay:
    """One index against another, a point per unit; in a page, its Neuron Feature appears under the pointer.

    Parameters
    ----------
    x, y : str
        Numbers of each unit, such as ``colour`` and ``gamma``.
    layer : str or sequence of str, optional
        All layers by default, each in a colour and a marker of its own.
    images : bool
        Whether the Neuron Features are there for the pointer, which takes about 2 kB per unit.

    Returns
    -------
    holoviews.Overlay
        Full points are units with corrected p-values under 0.05 in each of the two indexes that is tested, hollow ones
        are others; where none is tested all are full. The legend says Spearman's correlation within each layer, over
        the units that have both indexes; others are left out. Styled for matplotlib, and for bokeh (``hv.save(picture,
        "page.html", backend="bokeh", resources="inline")``).

    Raises
    ------
    ReaderError
        If no layer holds one of the indexes, or there is no such layer.
    """
    from holoviews.plotting import bokeh  # noqa: F401 - loads the backend

    known = selectivity_overview.selectivity_layers(result)
    layers = [layer] if isinstance(layer, str) else known if layer is None else list(layer)
    correlations = selectivity_overview.index_correlations(result, x, y)
    found = {name: index_points(result, name, x, y, images) for name in layers}
    styles = dict(zip(known, factor_styles(known), strict=True))
    elements = []
    for name, points in found.items():
        legend = _legend(name, correlations.sel({names.LAYER: name}))
        for full in (True, False):
            some = points.isel({names.CHANNEL: np.flatnonzero(points["full"].values == full)})
            if some.sizes[names.CHANNEL]:
                elements.append(_scatter(some, legend, styles[name], full, (x, y), images))
                legend = ""
    if not elements:
        elements = [texts([(0.5, 0.5, "no unit has both")])]
    n_left_out = sum(points.attrs[names.N_UNDEFINED] for points in found.values())
    notes = [
        f"full points: corrected p < {LEVEL:g}" if any(points.attrs["is_tested"] for points in found.values()) else "",
        f"{n_left_out:,} undefined left out" if n_left_out else "",
    ]
    title = "\n".join([f"{title_of(y)} against {title_of(x)}", "; ".join(note for note in notes if note)]).strip()
    shared = {"title": title, "xlabel": title_of(x), "ylabel": title_of(y), "legend_position": "right"}
    picture = hv.Overlay(elements).opts(**shared, hooks=[grid], legend_limit=10_000, **frame(3.6, 3.2))
    return picture.opts(**shared, hooks=[_point_at_all], legend_limit=10_000, width=720, height=480, backend="bokeh")


def _point_at_all(plot: Any, _: hv.Dimensioned) -> None:
    """Hook: holoviews gives a tooltip in HTML to the first of several elements only."""
    from bokeh.models import HoverTool

    for tool in plot.state.select({"type": HoverTool}):
        tool.renderers = "auto"


def _legend(layer: str, at: xr.Dataset) -> str:
    """Name of a layer, with the correlation of two indexes within it."""
    rho, n = float(at[names.CORRELATION]), f"n {int(at[names.N_DEFINED]):,}"
    return f"{layer}: {n}" if np.isnan(rho) else f"{layer}: ρ {rho:z.2f}, p {p_text(float(at[names.P_VALUE]))}, {n}"


def index_points(result: xr.DataTree, layer: str, x: str, y: str, images: bool) -> xr.Dataset:
    """Units of a layer that have two indexes, over ``channel``: ``x``, ``y``, ``full``, ``image``."""
    units = selectivity_overview.selectivity_of(result, layer)
    pair = [selectivity_overview.unit_values(result, layer, index) for index in (x, y)]
    clear = selectivity_overview.significant(result, layer, x, y)
    there = np.flatnonzero(np.isfinite(pair).all(0))
    some = units.isel({names.CHANNEL: there})
    found = {
        "x": pair[0][there],
        "y": pair[1][there],
        "full": np.ones(there.size, bool) if clear is None else clear[there],
        "layer": np.full(there.size, layer, dtype=object),
        "image": np.array(thumbnails(some) if images and there.size else [""] * there.size, dtype=object),
    }
    return xr.Dataset(
        {name: (names.CHANNEL, values) for name, values in found.items()},
        {names.CHANNEL: some[names.CHANNEL].values},
        {names.N_UNDEFINED: len(pair[0]) - there.size, "is_tested": clear is not None},
    )


def _scatter(
    points: xr.Dataset, label: str, style: dict[str, Any], full: bool, indexes: tuple[str, str], images: bool
) -> hv.Points:
    """Draw the units of one layer that are significant, or those that are not."""
    columns = ("x", "y", "layer", "channel", "image")
    drawn = hv.Points(tuple(points[name].values for name in columns), ["x", "y"], list(columns[2:]), label=label)
    face = style["color"] if full else "none"
    drawn = drawn.opts(
        facecolors=face, edgecolors=style["color"], marker=style["marker"], s=22, linewidth=0.8, backend="matplotlib"
    )
    x, y = map(title_of, indexes)
    tooltip = (IMAGE if images else "") + TOOLTIP.format(x=x, y=y)
    return drawn.opts(
        color=style["color"],
        fill_alpha=0.8 if full else 0.0,
        size=7,
        marker=BOKEH_MARKERS.get(style["marker"], "circle"),
        tools=["hover"],
        hover_tooltips=tooltip,
        backend="bokeh",
    )
