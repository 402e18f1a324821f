"""Matrices of factors by factors, or by inputs, side by side, as coloured cells with numbers."""

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
MIDDLE: Final = 0.3  # share of the colour scale from which grey is hard to read
# of numbers on pale colours, on middling and on dark ones: those that are clear, and others
CLEAR: Final = ("black", "black", "white")
UNCLEAR: Final = (GREY, "#4a4a4a", "#c8c8c8")
MAX_NUMBERS: Final = 6  # factors up to which the cells of a matrix have room for numbers


def matrices(
    values: np.ndarray,
    is_clear: np.ndarray,
    heads: Sequence[str],
    rows: Sequence[str],
    title: str,
    limits: tuple[float, float],
    *,
    columns: Sequence[str] | None = None,
    outlined: Sequence[tuple[int, int]] = (),
    cmap: str = "RdBu_r",
    empty: str = "no unit varies",
    max_numbers: int = MAX_NUMBERS,
) -> hv.Overlay:
    """Draw matrices side by side, all on one colour scale.

    Parameters
    ----------
    values : array (matrices, rows, columns)
        Numbers, in %, are written where there is room for them.
    is_clear : bool array (matrices, rows, columns)
        Whether a value is clear of what is to be expected by chance; numbers of these are bold, others grey.
    heads : sequence of str
        What stands above each matrix.
    rows, columns : sequence of str
        Names of rows, and of columns where they are others.
    limits : (float, float)
        Values of the two ends of the colour scale, which is labelled in %.
    outlined : sequence of (int, int)
        Rows and columns of cells with a frame.
    empty : str
        What stands in the place of a matrix without any value.
    max_numbers : int
        Columns up to which there is room for numbers.
    """
    columns = rows if columns is None else columns
    height, width = len(rows), len(columns)
    below = 0.17 * max(map(len, columns)) + 0.3
    # as wide as a matrix or as what stands above it
    beyond = max(0.0, 1.1 * LETTER * max(map(len, heads)) / CELL - width)
    right = beyond + 0.6
    n_columns = max(1, round(WIDTH / CELL / (width + right)))
    panels = Panels(len(heads), width, height, right=right, above=1.2, below=below, n_columns=n_columns)
    corners = [panels.corner(number) for number in range(len(heads))]
    end, top = panels.lefts[-1] + width + beyond / 2 + 0.6, panels.bottoms[0]
    style = {"cmap": cmap, "interpolation": "nearest"}
    scale = [
        (
            end + 0.1 * height + 0.15,
            top + height * share,
            f"{100 * (limits[0] + share * (limits[1] - limits[0])):.3g} %",
        )
        for share in (0.0, 0.5, 1.0)
    ]
    below_columns = [(left + j + 0.5, y - 0.1, name) for left, y in corners for j, name in enumerate(columns)]
    above = [(left + width / 2, y + height + 0.1, head) for (left, y), head in zip(corners, heads, strict=True)]
    there = np.isfinite(values).any((1, 2))
    nothing = [(left + width / 2, y + height / 2, empty) for left, y in np.array(corners)[~there].tolist()]
    elements = [
        hv.Image(matrix, ["x", "y"], "value", bounds=(left, bottom, left + width, bottom + height)).opts(
            clim=limits, **style, backend="matplotlib"
        )
        for matrix, (left, bottom), shown in zip(values, corners, there, strict=True)
        if shown
    ]
    elements += [
        colour_scale(end, top, height, limits, **style),
        texts(scale, horizontalalignment="left", verticalalignment="center"),
        texts(above, size=9),
        texts(nothing),
        texts(below_columns, rotation=90, verticalalignment="top"),
    ]
    if outlined:
        frames = [_square(left + j, y + height - 1 - i) for left, y in corners for i, j in outlined]
        elements.append(hv.Path(frames, ["x", "y"]).opts(color="black", linewidth=1, backend="matplotlib"))
    if width <= max_numbers:
        elements += _numbers(values, is_clear, max(map(abs, limits)), corners)
    return hv.Overlay(elements).opts(
        title=title,
        yticks=[(y + height - 0.5 - i, name) for y in panels.bottoms for i, name in enumerate(rows)],
        hooks=[plain_axes],
        **panels.options(CELL, CELL, beside=0.1 * height + 1.5),
    )


def beyond_errors(values: np.ndarray, errors: np.ndarray, reference: float = 0.0) -> np.ndarray:
    """Whether values are further from a reference than 2 standard errors."""
    return np.abs(values - reference) > N_ERRORS * errors


def _square(left: float, bottom: float) -> dict[str, np.ndarray]:
    """Outline of a cell."""
    return {"x": left + np.array([0, 1, 1, 0, 0]), "y": bottom + np.array([0, 0, 1, 1, 0])}


def _numbers(
    values: np.ndarray, is_clear: np.ndarray, limit: float, corners: Sequence[tuple[float, float]]
) -> list[hv.Labels]:
    """Values in %, those that are not clear in greys that can be read on their colours."""
    shade = np.searchsorted((MIDDLE * limit, DARK * limit), np.abs(values))
    cells: dict[tuple[bool, int], list[tuple[float, float, str]]] = {}
    for n, i, j in np.argwhere(np.isfinite(values)).tolist():
        left, bottom = corners[n]
        place = (left + j + 0.5, bottom + values.shape[1] - 0.5 - i)
        kind = (bool(is_clear[n, i, j]), int(shade[n, i, j]))
        cells.setdefault(kind, []).append((*place, f"{round(100 * values[n, i, j])}"))
    return [
        texts(
            some,
            color=(CLEAR if clear else UNCLEAR)[kind],
            weight="bold" if clear else "normal",
            verticalalignment="center",
            size=7,
        )
        for (clear, kind), some in cells.items()
    ]
