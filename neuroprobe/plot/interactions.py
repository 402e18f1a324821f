"""Pictures of the indices of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import holoviews as hv
import numpy as np
import xarray as xr

from neuroprobe import names
from neuroprobe.analysis.overview import N_ERRORS, interaction_profile
from neuroprobe.plot.panels import Panels
from neuroprobe.plot.style import LETTER, TITLES, chosen_layers, colour_scale, plain_axes, texts

CELL: Final = 0.32  # side of a cell, in inches
WIDTH: Final = 7.7  # of all panels, in inches
DARK: Final = 0.65  # share of the colour scale from which colours are dark
MAX_NUMBERS: Final = 6  # factors up to which the cells of a matrix have room for numbers


def interactions(
    result: xr.DataTree, index: str = names.SECOND_ORDER, layers: Sequence[str] | None = None
) -> hv.Overlay:
    """Indices of the pairs of factors: a matrix per layer.

    Parameters
    ----------
    index : str
        ``second_order`` or ``total_interaction``.
    layers : sequence of str, optional
        Layers that are drawn, all by default.

    Returns
    -------
    holoviews.Overlay
        Above the diagonal the median over the defined units, below it the 95th percentile, on one colour scale for all
        layers. Numbers, where there is room for them, are grey where they do not exceed 2 median standard errors.

    Raises
    ------
    ReaderError
        If the result has no such index.
    """
    found = chosen_layers(interaction_profile(result, index), layers)
    factors, shown = [str(one) for one in found[names.FACTOR].values], found[names.LAYER].values
    d = len(factors)
    median, tail = found[index].transpose(names.QUANTILE, names.LAYER, ...).values
    errors = found[names.se(index)].values
    matrices = np.where(np.triu(np.ones((d, d), dtype=bool), 1), median, tail)
    limit = max(float(np.nanmax(np.abs(matrices), initial=0.0)), 0.01)
    below = 0.17 * max(map(len, factors)) + 0.3
    # as wide as a matrix or as the name of a layer
    right = max(0.6, LETTER * max(len(str(layer)) for layer in shown) / CELL - d + 0.6)
    n_columns = max(1, round(WIDTH / CELL / (d + right)))
    panels = Panels(len(shown), d, d, right=right, above=1.2, below=below, n_columns=n_columns)
    corners = [panels.corner(number) for number in range(len(shown))]
    end, top = panels.lefts[-1] + d + 0.6, panels.bottoms[0]
    style = {"cmap": "RdBu_r", "interpolation": "nearest"}
    scale = [(end + 0.1 * d + 0.15, top + d * (1 + v) / 2, f"{v * limit:.2g}") for v in (-1, 0, 1)]
    columns = [(left + j + 0.5, bottom - 0.1, name) for left, bottom in corners for j, name in enumerate(factors)]
    heads = [(left + d / 2, bottom + d + 0.1, str(layer)) for (left, bottom), layer in zip(corners, shown, strict=True)]
    nothing = [
        (left + d / 2, bottom + d / 2, "no unit varies")
        for (left, bottom), matrix in zip(corners, matrices, strict=True)
        if not np.isfinite(matrix).any()
    ]
    elements = [
        hv.Image(matrix, ["x", "y"], TITLES[index], bounds=(left, bottom, left + d, bottom + d)).opts(
            clim=(-limit, limit), **style, backend="matplotlib"
        )
        for matrix, (left, bottom) in zip(matrices, corners, strict=True)
        if np.isfinite(matrix).any()
    ]
    elements += [
        colour_scale(end, top, d, (-limit, limit), **style),
        texts(scale, horizontalalignment="left", verticalalignment="center"),
        texts(heads, size=9),
        texts(nothing),
        texts(columns, rotation=90, verticalalignment="top"),
    ]
    if d <= MAX_NUMBERS:
        elements += _numbers(matrices, errors, limit, corners)
    return hv.Overlay(elements).opts(
        title=f"{TITLES[index]}: median over units above the diagonal, 95th percentile below it (numbers: %)",
        yticks=[(y + d - 0.5 - i, name) for y in panels.bottoms for i, name in enumerate(factors)],
        hooks=[plain_axes],
        **panels.options(CELL, CELL, beside=0.1 * d + 1.5),
    )


def _numbers(
    matrices: np.ndarray, errors: np.ndarray, limit: float, corners: Sequence[tuple[float, float]]
) -> list[hv.Labels]:
    """Values of matrices in %, those within 2 standard errors of 0 in grey, those on dark colours in white."""
    colours = np.where(np.abs(matrices) > N_ERRORS * errors, "black", "#888888")
    colours[np.abs(matrices) > DARK * limit] = "white"
    cells: dict[str, list[tuple[float, float, str]]] = {"black": [], "#888888": [], "white": []}
    for n, i, j in np.argwhere(np.isfinite(matrices)).tolist():
        left, bottom = corners[n]
        place = (left + j + 0.5, bottom + matrices.shape[1] - 0.5 - i)
        cells[colours[n, i, j]].append((*place, f"{round(100 * matrices[n, i, j])}"))
    return [texts(some, color=colour, verticalalignment="center", size=7) for colour, some in cells.items()]
