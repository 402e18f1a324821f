"""Matrices of factors by factors side by side, as coloured cells with numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import holoviews as hv
import numpy as np

from neuroprobe.analysis.overview import N_ERRORS
from neuroprobe.plot.panels import Panels
from neuroprobe.plot.style import LETTER, colour_scale, plain_axes, texts

CELL: Final = 0.32  # side of a cell, in inches
WIDTH: Final = 7.7  # of all panels, in inches
DARK: Final = 0.65  # share of the colour scale from which colours are dark
GREY: Final = "#707070"
MAX_NUMBERS: Final = 6  # factors up to which the cells of a matrix have room for numbers


def matrices(
    values: np.ndarray,
    errors: np.ndarray,
    heads: Sequence[str],
    factors: Sequence[str],
    title: str,
    limits: tuple[float, float],
    *,
    cmap: str = "RdBu_r",
    reference: float = 0.0,
    empty: str = "no unit varies",
) -> hv.Overlay:
    """Draw a matrix per layer, all on one colour scale.

    Parameters
    ----------
    values, errors : array (matrices, factors, factors)
        Numbers, in %, are written where there is room for them; grey ones are within 2 errors of the reference.
    heads : sequence of str
        What stands above each matrix.
    limits : (float, float)
        Values of the two ends of the colour scale.
    empty : str
        What stands in the place of a matrix without any value.
    """
    d = len(factors)
    below = 0.17 * max(map(len, factors)) + 0.3
    # as wide as a matrix or as what stands above it
    beyond = max(0.0, 1.1 * LETTER * max(map(len, heads)) / CELL - d)
    right = beyond + 0.6
    n_columns = max(1, round(WIDTH / CELL / (d + right)))
    panels = Panels(len(heads), d, d, right=right, above=1.2, below=below, n_columns=n_columns)
    corners = [panels.corner(number) for number in range(len(heads))]
    end, top = panels.lefts[-1] + d + beyond / 2 + 0.6, panels.bottoms[0]
    style = {"cmap": cmap, "interpolation": "nearest"}
    scale = [
        (end + 0.1 * d + 0.15, top + d * share, f"{limits[0] + share * (limits[1] - limits[0]):.2g}")
        for share in (0.0, 0.5, 1.0)
    ]
    columns = [(left + j + 0.5, bottom - 0.1, name) for left, bottom in corners for j, name in enumerate(factors)]
    above = [(left + d / 2, bottom + d + 0.1, head) for (left, bottom), head in zip(corners, heads, strict=True)]
    there = np.isfinite(values).any((1, 2))
    nothing = [(left + d / 2, bottom + d / 2, empty) for left, bottom in np.array(corners)[~there].tolist()]
    elements = [
        hv.Image(matrix, ["x", "y"], "value", bounds=(left, bottom, left + d, bottom + d)).opts(
            clim=limits, **style, backend="matplotlib"
        )
        for matrix, (left, bottom), shown in zip(values, corners, there, strict=True)
        if shown
    ]
    elements += [
        colour_scale(end, top, d, limits, **style),
        texts(scale, horizontalalignment="left", verticalalignment="center"),
        texts(above, size=9),
        texts(nothing),
        texts(columns, rotation=90, verticalalignment="top"),
    ]
    if d <= MAX_NUMBERS:
        is_clear = np.abs(values - reference) > N_ERRORS * errors
        elements += _numbers(values, is_clear, max(map(abs, limits)), corners)
    return hv.Overlay(elements).opts(
        title=title,
        yticks=[(y + d - 0.5 - i, name) for y in panels.bottoms for i, name in enumerate(factors)],
        hooks=[plain_axes],
        **panels.options(CELL, CELL, beside=0.1 * d + 1.5),
    )


def _numbers(
    values: np.ndarray, is_clear: np.ndarray, limit: float, corners: Sequence[tuple[float, float]]
) -> list[hv.Labels]:
    """Values in %, those that are not clear in grey, those on dark colours in white."""
    colours = np.where(is_clear, "black", GREY)
    colours[np.abs(values) > DARK * limit] = "white"
    cells: dict[str, list[tuple[float, float, str]]] = {"black": [], GREY: [], "white": []}
    for n, i, j in np.argwhere(np.isfinite(values)).tolist():
        left, bottom = corners[n]
        place = (left + j + 0.5, bottom + values.shape[1] - 0.5 - i)
        cells[colours[n, i, j]].append((*place, f"{round(100 * values[n, i, j])}"))
    return [texts(some, color=colour, verticalalignment="center", size=7) for colour, some in cells.items()]
