"""Pictures of the specialisation of maps: what `neuroprobe.specialisation` returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import holoviews as hv
import numpy as np
import xarray as xr

from neuroprobe import names
from neuroprobe.analysis.specialisation import NORMALISATIONS
from neuroprobe.errors import ReaderError, unknown_name
from neuroprobe.plot.matrices import beyond_errors, matrices
from neuroprobe.plot.panels import Panels
from neuroprobe.plot.style import (
    LETTER,
    TITLES,
    chosen_layers,
    factor_styles,
    layer_axis,
    plain_axes,
    texts,
)

PROFILES: Final = {
    names.MEAN_CORRELATION: "mean correlation of the maps of two factors",
    names.ACCURACY: "accuracy: which factor is a map of?",
}
WITH_NORMS: Final = {"none": "", "unit": ", shapes"}  # what the legend calls normalisations
LEAF_WIDTH: Final = 0.22  # of a leaf of a tree, in inches
TREE_HEIGHT: Final = 1.1  # of a tree, in inches
WIDTH: Final = 7.7  # of all trees, in inches


def correlations(found: xr.DataTree, value: str | None = None, layers: Sequence[str] | None = None) -> hv.Overlay:
    """Correlations between the maps of factors: a matrix per layer.

    Parameters
    ----------
    found : xarray.DataTree
        As `neuroprobe.specialisation` returns it.
    value : str, optional
        Kind of maps: ``first_order``, ``total_order`` or ``shapley_effect``; by default the first that there is.
    layers : sequence of str, optional
        Layers that are drawn, all by default.

    Returns
    -------
    holoviews.Overlay
        Spearman's correlations over channels, means over pixels. Numbers, where there is room for them, are in %, and
        grey where they do not exceed 2 standard errors.

    Raises
    ------
    ReaderError
        If there are no such maps.
    """
    value, table = _of_value(found, value, layers)
    correlation = table[names.CORRELATION].values.copy()
    # of a map with itself there is nothing to see
    diagonal = np.arange(correlation.shape[1])
    correlation[:, diagonal, diagonal] = np.nan
    return matrices(
        correlation,
        beyond_errors(correlation, table[names.se(names.CORRELATION)].values),
        _layers(table),
        _factors(table),
        f"{TITLES[value]}: correlation of the maps of two factors over channels (numbers: %)",
        (-1.0, 1.0),
        empty="no map varies",
    )


def confusions(
    found: xr.DataTree, value: str | None = None, normalisation: str = "none", layers: Sequence[str] | None = None
) -> hv.Overlay:
    """Which factors' maps are taken for which: a matrix per layer.

    Parameters
    ----------
    found : xarray.DataTree
        As `neuroprobe.specialisation` returns it.
    value : str, optional
        Kind of maps: ``first_order``, ``total_order`` or ``shapley_effect``; by default the first that there is.
    normalisation : str
        ``none`` or ``unit``.
    layers : sequence of str, optional
        Layers that are drawn, all by default.

    Returns
    -------
    holoviews.Overlay
        A row per factor that maps are of, a column per factor that they are taken for; rows sum to 100 %. Above a
        matrix stands the accuracy. Grey numbers are within 2 standard errors of chance.

    Raises
    ------
    ReaderError
        If there are no such maps, or no such normalisation.
    """
    if normalisation not in NORMALISATIONS:
        raise ReaderError(unknown_name("normalisation", normalisation, NORMALISATIONS))
    value, table = _of_value(found, value, layers)
    table = table.sel({names.NORMALISATION: normalisation})
    accuracy, error = table[names.ACCURACY].values, table[names.se(names.ACCURACY)].values
    heads = [
        layer if np.isnan(a) else f"{layer}: {a:.0%} ± {e:.0%}"
        for layer, a, e in zip(_layers(table), accuracy, error, strict=True)
    ]
    shares, errors = (table[name].values for name in (names.CONFUSION, names.se(names.CONFUSION)))
    return matrices(
        shares,
        beyond_errors(shares, errors, table[names.ACCURACY].attrs["chance"]),
        heads,
        _factors(table),
        f"{TITLES[value]}{WITH_NORMS[normalisation]}: factors of maps (rows), and what they are taken for (numbers: %)",
        (0.0, 1.0),
        cmap="Blues",
        empty="not classified",
    )


def factor_trees(found: xr.DataTree, value: str | None = None, layers: Sequence[str] | None = None) -> hv.Overlay:
    """Trees of the factors whose maps are alike: one per layer.

    Parameters
    ----------
    found : xarray.DataTree
        As `neuroprobe.specialisation` returns it.
    value : str, optional
        Kind of maps: ``first_order``, ``total_order`` or ``shapley_effect``; by default the first that there is.
    layers : sequence of str, optional
        Layers that are drawn, all by default.

    Returns
    -------
    holoviews.Overlay
        Average linkage; factors merge at the height of their distance, 1 − correlation. The dotted line is at 1, where
        maps have nothing to do with each other.

    Raises
    ------
    ReaderError
        If there are no such maps.
    """
    from scipy.cluster.hierarchy import dendrogram

    value, table = _of_value(found, value, layers)
    factors, shown = _factors(table), _layers(table)
    linkage = table[names.LINKAGE].values
    n, highest = len(factors), max(1.0, float(np.nanmax(linkage[:, :, 2], initial=1.0)))
    right = max(1.5, LETTER * max(map(len, shown)) / LEAF_WIDTH - n + 1)
    # the height of a tree is 1, and of a letter below it, standing upright, 0.07 inches
    below = (0.07 * max(map(len, factors)) + 0.2) / TREE_HEIGHT
    n_columns = max(1, round(WIDTH / LEAF_WIDTH / (n + right)))
    panels = Panels(len(shown), n, 1.0, right=right, above=0.35, below=below, n_columns=n_columns)
    branches, names_below, heads, nothing, lines = [], [], [], [], []
    for number, (layer, merges) in enumerate(zip(shown, linkage, strict=True)):
        left, bottom = panels.corner(number)
        heads.append((left + n / 2, bottom + 1.05, layer))
        if np.isnan(merges).any():
            nothing.append((left + n / 2, bottom + 0.5, "no tree"))
            continue
        tree = dendrogram(merges, no_plot=True)
        # scipy puts leaves at 5, 15, 25, …
        branches += [
            {"x": left + np.array(x) / 10, "y": bottom + np.array(y) / highest}
            for x, y in zip(tree["icoord"], tree["dcoord"], strict=True)
        ]
        names_below += [(left + i + 0.5, bottom - 0.05, factors[leaf]) for i, leaf in enumerate(tree["leaves"])]
        lines.append((left, bottom + 1 / highest, left + n, bottom + 1 / highest))
    elements = [
        hv.Segments(lines, ["x", "y", "x_2", "y_2"]).opts(color="#888888", linestyle=":", backend="matplotlib"),
        hv.Path(branches, ["x", "y"]).opts(color="black", linewidth=1, backend="matplotlib"),
        texts(names_below, rotation=90, verticalalignment="top"),
        texts(heads, size=9),
        texts(nothing),
    ]
    return hv.Overlay(elements).opts(
        title=f"{TITLES[value]}: factors by 1 − correlation of their maps",
        yticks=[(bottom + at / highest, f"{at:g}") for bottom in panels.bottoms for at in (0, 0.5, 1)],
        hooks=[plain_axes],
        **panels.options(LEAF_WIDTH, TREE_HEIGHT),
    )


def specialisation_profile(
    found: xr.DataTree, quantity: str = names.ACCURACY, layers: Sequence[str] | None = None
) -> hv.Overlay:
    """How far the maps of factors differ, layer after layer.

    Parameters
    ----------
    found : xarray.DataTree
        As `neuroprobe.specialisation` returns it.
    quantity : str
        ``accuracy`` of the classification of maps, or ``mean_correlation`` between the maps of two factors.
    layers : sequence of str, optional
        Layers that are drawn, all by default.

    Returns
    -------
    holoviews.Overlay
        A line per kind of maps, and with it a band of one standard error on either side. Accuracies of maps as they are
        have full lines, those of their shapes alone dashed ones; the dotted line is chance. A correlation of 0 means
        that a channel's dependence on one factor says nothing of its dependence on another.

    Raises
    ------
    ReaderError
        If there is no such quantity.
    """
    if quantity not in PROFILES:
        raise ReaderError(unknown_name("quantity", quantity, PROFILES))
    table = chosen_layers(found.to_dataset(), layers)
    kinds = NORMALISATIONS if names.NORMALISATION in table[quantity].dims else ("none",)
    values = [str(value) for value in table[names.VALUE].values]
    reference = table[quantity].attrs.get("chance", 0.0)
    elements: list[hv.Element] = [hv.HLine(reference).opts(color="#888888", linestyle=":", backend="matplotlib")]
    place = np.arange(table.sizes[names.LAYER])
    for value, style in zip(values, factor_styles(values), strict=True):
        for kind in kinds:
            at = {names.VALUE: value} | ({names.NORMALISATION: kind} if len(kinds) > 1 else {})
            middle, error = (table[name].sel(at).values for name in (quantity, names.se(quantity)))
            label = f"{TITLES[value].split(' (')[0]}{WITH_NORMS[kind]}"
            curve = hv.Curve((place, middle), "layer", quantity, label=label)
            there = np.isfinite(error)
            band = hv.Spread((place[there], middle[there], error[there]), "layer", [quantity, "standard error"])
            bars = hv.ErrorBars((place[there], middle[there], error[there]), "layer", [quantity, "standard error"])
            elements += [
                band.opts(facecolor=style["color"], edgecolor="none", alpha=0.15, backend="matplotlib"),
                bars.opts(edgecolor=style["color"], linewidth=0.8, backend="matplotlib"),
                curve.opts(**style, ms=4, linewidth=1, linestyle="--" if kind == "unit" else "-", backend="matplotlib"),
            ]
    return hv.Overlay(elements).opts(
        title=f"{PROFILES[quantity]} (± 1 se)",
        ylabel=quantity.replace("_", " "),
        **layer_axis(_layers(table)),
    )


def _of_value(found: xr.DataTree, value: str | None, layers: Sequence[str] | None) -> tuple[str, xr.Dataset]:
    """Kind of maps, and what was found of them in some layers."""
    table = chosen_layers(found.to_dataset(), layers)
    values = [str(one) for one in table[names.VALUE].values]
    value = values[0] if value is None else value
    if value not in values:
        raise ReaderError(unknown_name("value", value, values))
    return value, table.sel({names.VALUE: value})


def _factors(table: xr.Dataset) -> list[str]:
    return [str(factor) for factor in table[names.FACTOR].values]


def _layers(table: xr.Dataset) -> list[str]:
    return [str(layer) for layer in table[names.LAYER].values]
