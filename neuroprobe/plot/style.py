"""What all pictures share: the colours and markers of factors, titles, texts, and the axis of layers."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Final

import colorcet
import holoviews as hv
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from holoviews.plotting import mpl  # noqa: F401 - loads the backend that the pictures are styled for
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from PIL import Image

from neuroprobe import names

TITLES: Final = {
    names.FIRST_ORDER: "S1 (alone)",
    names.TOTAL_ORDER: "ST (with interactions)",
    names.SECOND_ORDER: "S2 (pairs)",
    names.TOTAL_INTERACTION: "total interaction",
    names.SHAPLEY_EFFECT: "Shapley effect (shares)",
}
# Okabe & Ito's colours, which readers with a colour vision deficiency can tell apart, but for yellow, pale on white
COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "d")
PALE: Final = "#dddddd"
RANDOM: Final = "#888888"  # what chance does, and where most of that is
BAND: Final = "#d4d4d4"
MAX_TICKS: Final = 40
FONT: Final = 8
LETTER: Final = 0.075  # width of a letter of a tick, in inches


def factor_styles(factors: Sequence[object]) -> list[dict[str, Any]]:
    """Colour and marker of each factor of a result, the same in all of its pictures."""
    # Glasbey's colours are as far from each other as they can be, however many there are
    colours = COLOURS if len(factors) <= len(COLOURS) else colorcet.b_glasbey_category10
    return [{"color": colours[i], "marker": MARKERS[i % len(MARKERS)]} for i in range(len(factors))]


def chosen_layers(table: xr.Dataset, layers: Sequence[str] | None) -> xr.Dataset:
    """Some layers of a table, or all."""
    return table if layers is None else table.sel({names.LAYER: list(layers)})


def texts(items: Sequence[tuple[float, float, str]], **options: Any) -> hv.Labels:
    """Texts at places (x, y), centred on x and above y where nothing else is said."""
    defaults = {"size": FONT, "color": "black", "horizontalalignment": "center", "verticalalignment": "bottom"}
    return hv.Labels(list(items), ["x", "y"], "text").opts(**{**defaults, **options}, backend="matplotlib")


def strokes(x: np.ndarray, y: np.ndarray, half: float, label: str = "", **style: Any) -> hv.Segments:
    """Upright strokes at places, of a length on either side of y; none where x is undefined."""
    x, y = x[np.isfinite(x)], y[np.isfinite(x)]
    ends = hv.Segments((x, y - half, x, y + half), ["x", "y", "x_2", "y_2"], label=label)
    return ends.opts(**style, backend="matplotlib")


def colour_scale(left: float, bottom: float, height: float, ends: tuple[float, float], **style: Any) -> hv.Image:
    """Upright strip of the colours from the lower to the upper of two values."""
    colours = np.linspace(ends[1], ends[0], 64)[:, None]
    strip = hv.Image(colours, ["x", "y"], "value", bounds=(left, bottom, left + 0.1 * height, bottom + height))
    return strip.opts(clim=ends, **style, backend="matplotlib")


def ticks(labels: Sequence[object], places: Sequence[float] | None = None) -> list[tuple[float, str]]:
    """Ticks of an axis; of many, every second, third, … is labelled."""
    step = -(-len(labels) // MAX_TICKS)
    where = range(len(labels)) if places is None else places
    return [(place, str(label)) for place, label in list(zip(where, labels, strict=True))[::step]]


def inner_ticks(low: float, high: float, n: int = 4) -> list[float]:
    """Round values from the lower to the upper of two: about `n` intervals."""
    return [float(v) for v in MaxNLocator(n).tick_values(low, high) if low <= v <= high]


def layer_axis(layers: Sequence[str]) -> dict[str, Any]:
    """Options of a picture with the layers from left to right, in places 0, 1, …; its width grows with them."""
    width = min(11.0, max(4.0, 0.7 + 0.6 * len(layers)))
    return {
        "xticks": ticks(layers),
        "xrotation": slant(layers, width),
        "xlim": (-0.5, len(layers) - 0.5),
        "xlabel": "layer",
        "hooks": [grid],
        "legend_position": "right",
        # holoviews leaves a legend out where there are more elements
        "legend_limit": 10_000,
        **frame(width, 2.5),
    }


def rows(n: int) -> np.ndarray:
    """Places of rows, the first on top."""
    return np.arange(n - 1.0, -1.0, -1.0)


def row_axis(labels: Sequence[str], height: float = 0.24) -> dict[str, Any]:
    """Options of a picture with a row for each label."""
    return {
        "yticks": ticks(labels, rows(len(labels)).tolist()),
        "ylim": (-0.6, len(labels) - 0.4),
        "ylabel": "",
        "legend_position": "right",
        "legend_limit": 10_000,
        **frame(4.6, 0.25 + height * len(labels)),
    }


def slant(labels: Sequence[str], width: float) -> int:
    """Angle of the labels of a horizontal axis (degrees): level where they have room on a width in inches."""
    return 40 if max(map(len, labels)) * LETTER > 0.9 * width / min(len(labels), MAX_TICKS) else 0


def frame(width: float, height: float) -> dict[str, Any]:
    """Options of a picture whose axes have a size, in inches."""
    return {
        # matplotlib leaves margins of these shares, which are cut off where nothing is in them
        "fig_inches": (width / 0.775, height / 0.77),
        "aspect": "auto",
        "fontsize": {"title": 10, "labels": 9, "ticks": 8, "legend": 8},
        "backend": "matplotlib",
    }


def grid(plot: Any, _: hv.Dimensioned) -> None:
    """Hook that draws lines behind the data at the ticks of the vertical axis."""
    axis = plot.handles["axis"]
    axis.grid(True, axis="y", color="#e6e6e6")
    # holoviews draws its first element at 0, which is under what matplotlib calls below
    axis.yaxis.set_zorder(-1)
    for label in axis.get_xticklabels():
        if label.get_rotation():
            # the end of a slanted label, not its middle, is at its tick
            label.set(ha="right", rotation_mode="anchor")


def logarithmic(plot: Any, element: hv.Dimensioned) -> None:
    """Hook that makes the vertical axis logarithmic, with plain numbers."""
    axis = plot.handles["axis"]
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_locator(NullLocator())
    grid(plot, element)


def plain_axes(plot: Any, _: hv.Dimensioned) -> None:
    """Hook that leaves nothing of the axes but the labels of the rows."""
    axis = plot.handles["axis"]
    axis.set_frame_on(False)
    axis.get_xaxis().set_visible(False)
    axis.tick_params(length=0)
    axis.set_ylabel("")


def png(element: hv.Dimensioned, dpi: int) -> tuple[bytes, int]:
    """Render a picture as a PNG, and say how many pixels wide it is; no figure is left open."""
    figure = hv.renderer("matplotlib").get_plot(element).state
    buffer = io.BytesIO()
    try:
        # neither the software's address nor the time: the same result gives the same bytes
        figure.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight", metadata={"Software": None})
    finally:
        plt.close(figure)
    with Image.open(buffer) as image:
        return buffer.getvalue(), image.width
