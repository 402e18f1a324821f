"""The picture of what a unit rests on: the channels of earlier layers, and those that these rest on, as a tree."""

from __future__ import annotations

from typing import Final

import holoviews as hv
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.analysis import feature_pictures, relevance
from neuroprobe.analysis.selectivity_overview import selectivity_of
from neuroprobe.analysis.selectivity_units import unit_of
from neuroprobe.plot.gallery import square_picture
from neuroprobe.plot.style import COLOURS, frame, plain_axes, texts

INCHES: Final = 0.62  # side of a Neuron Feature
GAP: Final = 0.6  # between two of them, in sides of one
BELOW: Final = 0.3  # height of what stands under one
RISE: Final = 0.75  # height of the lines between two levels
THICK: Final = 6.0  # points, of a line that stands for all of a response
THIN: Final = 0.5


def relevance_tree(
    result: xr.DataTree,
    layer: str,
    channel: int,
    n_parents: int = 2,
    least: float = 0.2,
    n_levels: int = 4,
) -> hv.Overlay:
    """Neuron Features of a unit, of the channels of the layer before that it rests on most, of theirs, and so on.

    Parameters
    ----------
    result : xarray.DataTree
        Of a run with ``selectivity: {relevance: true}``, as `neuroprobe.open_result` opens it.
    layer : str
    channel : int
    n_parents : int
        Channels that are drawn for each unit, at most.
    least : float
        Share of the largest relevance to a unit, above which others are drawn.
    n_levels : int
        Layers before the unit's own, at most.

    Returns
    -------
    holoviews.Overlay
        The unit on top, and a row for each layer before its own. Below each Neuron Feature stand the channel and the
        share of the response of the unit above it that changes where the channel is silenced, with its standard error.
        Lines are as thick as that share; blue where the response falls, orange where it rises in sum.

    Raises
    ------
    ReaderError
        If the layer has no relevance, there is no such layer or channel, or a number is out of its range.
    """
    tree = relevance.relevance_tree(result, layer, channel, n_parents, least, n_levels)
    level, child = tree["level"].values, tree["child"].values
    x = _places(child)
    depth = int(level.max())
    bottom = (depth - level) * (1 + BELOW + RISE) + BELOW
    shares, signed, errors = (
        tree[name].values for name in (names.RELEVANCE, names.SIGNED_RELEVANCE, names.se(names.RELEVANCE))
    )
    lines = [
        hv.Segments((x[[node]], bottom[[node]] + 1, x[child[[node]]], bottom[child[[node]]] - BELOW)).opts(
            color=COLOURS[1] if signed[node] < 0 else COLOURS[0],
            linewidth=max(THIN, min(THICK, THICK * shares[node])),
            backend="matplotlib",
        )
        for node in range(1, len(x))
    ]
    pictures, labels = [], []
    for node, (at, one) in enumerate(zip(tree[names.LAYER].values, tree[names.CHANNEL].values, strict=True)):
        pictures.append(square_picture(_feature(result, str(at), int(one)), float(x[node]) - 0.5, float(bottom[node])))
        said = f"{one}" if not node else f"{one}: {shares[node]:z.2f} ± {errors[node]:.2f}"
        labels.append((float(x[node]), float(bottom[node]) - 0.03, said))
    rows = {str(at): float(where) + 0.5 for at, where in zip(tree[names.LAYER].values, bottom, strict=True)}
    width, height = float(x.max()) + 0.5 + GAP, float(bottom[0]) + 1.05
    left_out = "" if len(x) > 1 else "\nit responds to nothing, or no channel changes its response"
    return hv.Overlay([*lines, *pictures, texts(labels, size=6, verticalalignment="top")]).opts(
        title=f"{layer}, channel {channel}: the channels that it rests on, and those that these rest on{left_out}",
        yticks=[(where, at) for at, where in rows.items()],
        xlim=(-0.5 - GAP, width),
        ylim=(0, height),
        hooks=[plain_axes],
        **frame(INCHES * (width + 0.5 + GAP), INCHES * height),
    )


def _places(child: NDArray[np.int64]) -> NDArray[np.float64]:
    """Where nodes stand from left to right: those that nothing leads to side by side, others over the middle of theirs.

    Examples
    --------
    >>> _places(np.array([-1, 0, 0, 1, 1])) / (1 + GAP)
    array([1.25, 0.5 , 2.  , 0.  , 1.  ])
    """
    parents = [np.flatnonzero(child == node) for node in range(len(child))]
    found = np.zeros(len(child))
    waiting, n_leaves, order = [0], 0, []
    while waiting:  # from left to right, each before those that lead to it
        node = waiting.pop()
        order.append(node)
        waiting += parents[node][::-1].tolist()
        if not parents[node].size:
            found[node] = n_leaves
            n_leaves += 1
    for node in order[::-1]:
        if parents[node].size:
            found[node] = found[parents[node]].mean()
    return found * (1 + GAP)


def _feature(result: xr.DataTree, layer: str, channel: int) -> feature_pictures.Pixels:
    """Neuron Feature of a unit as it is shown."""
    unit = unit_of(selectivity_of(result, layer), channel)
    place = ("field_y", "field_x")
    feature, coverage = (unit[name].transpose(*place, ...).values for name in (names.NEURON_FEATURE, names.COVERAGE))
    return feature_pictures.displayed(feature, coverage, fading=False)
