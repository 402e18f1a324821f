"""Pictures of lesions that sensitivity maps make: tables, the headline, and clusters of accuracies."""

from __future__ import annotations

import json
from typing import Final

import holoviews as hv
import numpy as np
import xarray as xr

from neuroprobe import names
from neuroprobe.analysis import lesion_effects
from neuroprobe.analysis.contrast import ORIGINAL
from neuroprobe.analysis.effects import p_text
from neuroprobe.analysis.lesion_effects import OWN
from neuroprobe.plot.contrast import MEASURED
from neuroprobe.plot.matrices import matrices
from neuroprobe.plot.style import (
    BAND,
    COLOURS,
    FONT,
    LETTER,
    PALE,
    RANDOM,
    factor_styles,
    frame,
    inner_ticks,
    plain_axes,
    row_axis,
    rows,
    strokes,
    texts,
)

MAX_NUMBERS: Final = 16  # factors up to which the cells of a single table have room for numbers
LEAF: Final = 0.105  # height of a leaf of a tree, in inches
MAX_PLACE: Final = 28  # letters of a place that a title holds
TREE: Final = 3.2  # width of a tree, in inches
SMALL: Final = 6  # size of letters beside a tree
SQUARES: Final = "squares: input, map"  # above those of a tree


def titled(title: str, result: xr.DataTree, place: str | None = None, group: str = names.MASKING) -> str:
    """Add to a title the place that is drawn, short, where a result has several."""
    groups = [one for one in (names.MASKING, names.SINGLE_CLASS) if one in result.children]
    if len({one for some in groups for one in lesion_effects.masking_places(result, some)}) < 2:
        return title
    place = lesion_effects.masking_places(result, group)[0] if place is None else place
    layers = json.loads(lesion_effects.place_of(result, place, group).attrs["layers"])
    if len(place) > MAX_PLACE and len(layers) > 1:
        place = f"{layers[0]} … {layers[-1]} ({len(layers)} layers)"
    return f"{title}\nlesions in {place}"


def accuracy_differences(
    result: xr.DataTree, place: str | None = None, measure: str = names.TOP_1, rule: str | None = None
) -> hv.Overlay:
    """Differences of accuracy between the lesioned and the unlesioned network: inputs by maps, at one rule.

    Parameters
    ----------
    result : xarray.DataTree
        As `neuroprobe.open_result` opens it.
    place : str, optional
        Where the lesions were made, by default the first place.
    measure : str
        ``top_1``, ``top_5`` or ``probability``.
    rule : str, optional
        Such as ``q0.9 x0``, by default that of the headline.

    Returns
    -------
    holoviews.Overlay
        A row per input, a column per factor whose map made the mask. Numbers are in %, bold where the interval excludes
        0, grey where it includes it. Cells of a map on images that its factor alters are framed.

    Raises
    ------
    ReaderError
        If there is no such place, measure or rule.
    """
    found = lesion_effects.accuracy_differences(result, place, measure, rule)
    limit = max(float(np.nanmax(np.abs(found[names.DIFFERENCE].values), initial=0.0)), 0.01)
    title = f"{MEASURED[measure]}: lesioned − unlesioned (%)"
    head = f"maps, rule {found.attrs['rule']}"
    return _inputs_by_maps(found, names.DIFFERENCE, titled(title, result, place), head, (-limit, limit))


def cross_table(result: xr.DataTree, place: str | None = None, measure: str = names.TOP_1) -> hv.Overlay:
    """Correlations over rules between accuracies on altered and on original images: inputs by maps.

    Parameters
    ----------
    place : str, optional
        Where the lesions were made, by default the first place.
    measure : str
        ``top_1``, ``top_5`` or ``probability``.

    Returns
    -------
    holoviews.Overlay
        Spearman's correlations, in %; bold numbers have intervals that exclude 0, grey ones such that include it. Cells
        of a map on images that its factor alters are framed.

    Raises
    ------
    ReaderError
        If there is no such place or measure.
    """
    found = lesion_effects.cross_table(result, place, measure)
    title = f"{MEASURED[measure]}: correlation over rules with that on original images (%)"
    return _inputs_by_maps(found, names.CROSS, titled(title, result, place), "maps", (-1.0, 1.0))


def _inputs_by_maps(found: xr.Dataset, name: str, title: str, head: str, limits: tuple[float, float]) -> hv.Overlay:
    """Draw a table of inputs by the factors of maps, with the own cells framed."""
    inputs, factors = ([str(one) for one in found[dim].values] for dim in (names.INPUT, names.FACTOR))
    values, low, high = (found[one].values for one in names.ends(name))
    own = lesion_effects.own_factors(found)
    notes = ["bold: the interval excludes 0; grey: it includes 0"] if len(factors) <= MAX_NUMBERS else []
    notes += ["framed: a map on images that its factor alters"] if own else []
    return matrices(
        values[None],
        ((low > 0) | (high < 0))[None],
        [head],
        inputs,
        "\n".join([title, *notes]),
        limits,
        columns=factors,
        outlined=[(inputs.index(one), factors.index(one)) for one in own],
        empty="not defined",
        max_numbers=MAX_NUMBERS,
    )


def headline(result: xr.DataTree, place: str | None = None, measure: str = names.TOP_1) -> hv.Overlay:
    """What the map of each factor does to images that the factor alters, beside random masks and other factors' maps.

    Parameters
    ----------
    place : str, optional
        Where the lesions were made, by default the first place.
    measure : str
        ``top_1``, ``top_5`` or ``probability``.

    Returns
    -------
    holoviews.Overlay
        A row per factor: differences of accuracy from the unlesioned network. A point with its interval for the own
        map; dots for random masks, their mean, and the band that holds 95 % of them; strokes for the maps of other
        factors. Beside it the corrected p-value, of the question whether the own map does more than random masks.

    Raises
    ------
    ReaderError
        If there is no such place or measure, or no factor of a map is an alteration.
    """
    lesion_effects.factors_on(lesion_effects.place_of(result, place), OWN)
    found = lesion_effects.headline(result, place, measure)
    factors = [str(factor) for factor in found[names.FACTOR].values]
    y = rows(len(factors))
    own, low, high = (found[name].values for name in names.ends(names.DIFFERENCE))
    others = found[names.OTHERS].transpose(names.FACTOR, names.FACTOR_2).values
    random = [found[names.RANDOM_DIFFERENCE].transpose(names.FACTOR, names.MASK).values]
    random += [found[name].values for name in names.ends(names.RANDOM_MEAN)]
    drawn = np.concatenate([one.ravel() for one in (low, high, others, *random, np.zeros(1))])
    left, right = float(np.nanmin(drawn)), float(np.nanmax(drawn))
    span = max(right - left, 0.01)
    beside = right + 0.08 * span
    said = [(beside, len(factors) - 0.2, "p, corrected")]
    said += [(beside, at, p_text(p)) for at, p in zip(y.tolist(), found[names.P_ADJUSTED].values, strict=True)]
    interval = hv.Segments((low, y, high, y), ["difference", "row", "difference_2", "row_2"])
    elements = [
        hv.VLine(0.0).opts(color=RANDOM, linestyle=":", linewidth=1, backend="matplotlib"),
        *_random_masks(y, *random),
        strokes(
            others.ravel(), np.repeat(y, others.shape[1]), 0.2, "other factors' maps", color=COLOURS[1], linewidth=0.9
        ),
        interval.opts(color=COLOURS[0], linewidth=1.4, backend="matplotlib"),
        hv.Scatter((own, y), "difference", "row", label="own map").opts(color=COLOURS[0], s=28, backend="matplotlib"),
        texts(said, horizontalalignment="left", verticalalignment="center"),
    ]
    title = f"{MEASURED[measure]} on images that the factor alters: lesioned − unlesioned, {found.attrs['headline']}"
    return hv.Overlay(elements).opts(
        title=titled(title, result, place),
        xlim=(left - 0.05 * span, right + 0.3 * span),
        xticks=inner_ticks(left, right),
        xlabel="difference",
        **{**row_axis(factors, 0.3), "ylim": (-0.6, len(factors) + 0.1)},
    )


def _random_masks(
    y: np.ndarray, random: np.ndarray, mean: np.ndarray, low: np.ndarray, high: np.ndarray
) -> list[hv.Element]:
    """Bands, dots and means of differences (factors, masks) by random masks; nothing where there are none."""
    # dots of masks lie beside each other across the row, so that none hides another
    apart = np.linspace(-0.25, 0.25, random.shape[1]) if random.shape[1] > 1 else np.zeros(random.shape[1])
    there, dots = np.isfinite(random), y[:, None] + apart
    some = np.isfinite(mean)
    bands = hv.Rectangles((low[some], y[some] - 0.34, high[some], y[some] + 0.34), label="95 % of random masks")
    points = hv.Scatter((random[there], dots[there]), "difference", "row", label="random masks")
    return [
        bands.opts(facecolor=BAND, edgecolor="none", backend="matplotlib"),
        points.opts(color=RANDOM, s=4, backend="matplotlib"),
        strokes(mean, y, 0.34, "mean of random masks", color="#444444", linewidth=1),
    ]


def accuracy_dendrogram(result: xr.DataTree, place: str | None = None, measure: str = names.TOP_1) -> hv.Overlay:
    """Tree of all pairs of an input and a map, by how their accuracies rise and fall from rule to rule.

    Parameters
    ----------
    place : str, optional
        Where the lesions were made, by default the first place.
    measure : str
        ``top_1``, ``top_5`` or ``probability``.

    Returns
    -------
    holoviews.Overlay
        Average linkage; pairs merge at their distance √(1 − |ρ|), with Spearman's ρ over rules. Of the two coloured
        cells of a leaf the first is its input, the second the factor of its map; one colour is one factor, grey the
        original images. Pairs whose accuracy no rule changes are left out.

    Raises
    ------
    ReaderError
        If there is no such place or measure.
    """
    from scipy.cluster.hierarchy import dendrogram

    found = lesion_effects.accuracy_clusters(result, place, measure)
    pairs = list(zip(found[names.INPUT].values.tolist(), found[names.FACTOR].values.tolist(), strict=True))
    merges, n = found[names.LINKAGE].values, len(pairs)
    options = {"title": titled(f"{MEASURED[measure]} over rules: input · map", result, place), "hooks": [plain_axes]}
    if n < 2 or np.isnan(merges).any():
        few = "no tree: it takes 3 rules, and 2 pairs of an input and a map whose accuracy they change"
        return hv.Overlay([texts([(0.5, 0.5, few)])]).opts(**options, yticks=[(0, "")], **frame(TREE, 0.5))
    tree = dendrogram(merges, no_plot=True)
    highest = float(merges[:, 2].max()) or 1.0
    # scipy puts leaves at 5, 15, 25, …; the first leaf is on top, and the root on the left
    branches = [
        {"x": 1 - np.array(x) / highest, "y": n - np.array(y) / 10}
        for y, x in zip(tree["icoord"], tree["dcoord"], strict=True)
    ]
    side = LEAF / TREE  # of a cell, in widths of the tree
    leaves = [(n - 1 - i, *pairs[leaf]) for i, leaf in enumerate(tree["leaves"])]
    colours = _colours(lesion_effects.place_of(result, place))
    cells: dict[str, list[tuple[float, float, float, float]]] = {}
    for row, *labels in leaves:
        for number, label in enumerate(labels):
            left = 1 + side * (1 + 1.3 * number)
            cells.setdefault(colours[label], []).append((left, row + 0.05, left + side, row + 0.95))
    beside = [(1 + 4 * side, row + 0.5, f"{shown} · {of_map}") for row, shown, of_map in leaves]
    ticks = [(1 - v / highest, -0.3, f"{v:g}") for v in inner_ticks(0, highest)]
    letters = 0.8 * SMALL / FONT * LETTER * max(len(SQUARES), *(len(text) for _, _, text in beside))
    right = 1 + 4 * side + letters / TREE
    elements: list[hv.Element] = [
        hv.Path(branches, ["x", "y"]).opts(color="black", linewidth=0.8, backend="matplotlib"),
        texts(beside, size=SMALL, horizontalalignment="left", verticalalignment="center"),
        texts(ticks, size=SMALL, verticalalignment="top"),
        texts([(0.5, -1.5, "distance √(1 − |ρ|)")], verticalalignment="top"),
        texts([(1 + side, n + 0.3, SQUARES)], size=SMALL, horizontalalignment="left"),
    ]
    elements += [
        hv.Rectangles(some).opts(facecolor=colour, edgecolor="none", backend="matplotlib")
        for colour, some in cells.items()
    ]
    top, bottom = n + 1.3, -3.2
    return hv.Overlay(elements).opts(
        **options,
        yticks=[(0, "")],
        xlim=(-0.02, right),
        ylim=(bottom, top),
        **frame(TREE * (right + 0.02), LEAF * (top - bottom)),
    )


def _colours(table: xr.Dataset) -> dict[str, str]:
    """Colours of inputs and of factors of maps: one for each factor, whichever it is of."""
    factors = list(dict.fromkeys([*table[names.FACTOR].values.tolist(), *table[names.INPUT].values.tolist()]))
    factors.remove(ORIGINAL)
    found = {factor: style["color"] for factor, style in zip(factors, factor_styles(factors), strict=True)}
    return {**found, ORIGINAL: PALE}
