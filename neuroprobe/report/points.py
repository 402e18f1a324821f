"""One index of units against another, in a page: the Neuron Feature of the unit under the pointer, without a script."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import xarray as xr

from neuroprobe import names
from neuroprobe.analysis import selectivity_overview as overview
from neuroprobe.plot.gallery import title_of
from neuroprobe.plot.selectivity import index_points
from neuroprobe.plot.style import factor_styles, inner_ticks
from neuroprobe.report.page import Point, Points

MAX_POINTS: Final = 2000  # of a page, with 2 kB each
ROOM: Final = 0.04  # beyond the smallest and the largest value, of the range


def pointed(tree: xr.DataTree, x: str, y: str, layers: Sequence[str]) -> Iterator[Points]:
    """Make the picture of some layers; nothing where there are no units, or more than a page should hold."""
    found = {layer: index_points(tree, layer, x, y, images=False) for layer in layers}
    total = sum(points.sizes[names.CHANNEL] for points in found.values())
    if not 0 < total <= MAX_POINTS:
        return
    found = {layer: index_points(tree, layer, x, y, images=True) for layer in layers}
    known = overview.selectivity_layers(tree)
    styles = dict(zip(known, factor_styles(known), strict=True))
    ends = [_ends(np.concatenate([points[axis].values for points in found.values()])) for axis in ("x", "y")]
    titles = title_of(x), title_of(y)
    placed = [
        Point(
            _place(at["x"].item(), ends[0]),
            round(Points.side - _place(at["y"].item(), ends[1]), 1),
            str(styles[layer]["color"]),
            bool(at["full"]),
            (
                f"{layer}, channel {at[names.CHANNEL].item()}",
                f"{titles[0]}: {at['x'].item():z.2f}",
                f"{titles[1]}: {at['y'].item():z.2f}",
            ),
            at["image"].item(),
        )
        for layer, points in found.items()
        for at in (points.isel({names.CHANNEL: number}) for number in range(points.sizes[names.CHANNEL]))
    ]
    ticks = [[(_place(value, one), f"{value:g}") for value in inner_ticks(*one)] for one in ends]
    upright = [(round(Points.side - place, 1), text) for place, text in ticks[1]]
    yield Points(
        f"{titles[1]} against {titles[0]}, unit by unit",
        "The same units: point at one, and its Neuron Feature and its numbers appear beside the picture. Colours are "
        "those of the layers in the picture above; full points are significant in each index that is tested.",
        titles,
        (ticks[0], upright),
        placed,
    )


def _ends(values: np.ndarray) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    room = ROOM * (high - low) or 0.5
    return low - room, high + room


def _place(value: float, ends: tuple[float, float]) -> float:
    """Distance from the lower end, px."""
    return round(Points.side * (value - ends[0]) / (ends[1] - ends[0]), 1)
