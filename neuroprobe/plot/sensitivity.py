"""Pictures of indices over the layers of a network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import holoviews as hv
import numpy as np
import xarray as xr

from neuroprobe import names
from neuroprobe.analysis.overview import convergence_table, index_group, index_means, require_index
from neuroprobe.analysis.overview import index_distributions as distributions
from neuroprobe.analysis.sensitivity import depth_profiles
from neuroprobe.plot.panels import Panels
from neuroprobe.plot.style import (
    LETTER,
    PALE,
    TITLES,
    chosen_layers,
    factor_styles,
    inner_ticks,
    layer_axis,
    logarithmic,
    texts,
    ticks,
)

OFFSET: Final = 0.08  # between the factors of a layer, in layers
LOWEST: Final = 1e-3  # standard error that is worth being shown
SLOT: Final = 0.8  # share of a layer's place that its factors, or its curve, may take


def depth_profile(result: xr.DataTree, index: str = names.TOTAL_ORDER) -> hv.Overlay:
    """Medians, quartiles and means over units of an index, per factor, layer after layer.

    Parameters
    ----------
    result : xarray.DataTree
        As `neuroprobe.open_result` opens it.
    index : str
        ``first_order``, ``total_order`` or ``shapley_effect``.

    Returns
    -------
    holoviews.Overlay
        A line through the medians and an error bar from quartile to quartile for each factor, and a dash at the mean.
    """
    require_index(index)
    profile = depth_profiles(index_group(result, index))[index]
    means = index_means(result)[index]
    factors = profile[names.FACTOR].values.tolist()
    apart = beside(1, len(factors)) - beside(0, len(factors))
    elements = list(quartile_lines(profile, "share of variance"))
    for number, style in enumerate(factor_styles(factors)):
        mean = means.isel({names.FACTOR: number}).values
        x = (np.arange(len(mean)) + beside(number, len(factors)))[np.isfinite(mean)]
        mean = mean[np.isfinite(mean)]
        dashes = hv.Segments((x - apart, mean, x + apart, mean), ["layer", "share of variance", "layer_2", "share_2"])
        elements.append(dashes.opts(color=style["color"], linewidth=1.5, backend="matplotlib"))
    return hv.Overlay(elements).opts(
        title=f"{TITLES[index]}: median, quartiles and mean (dash) over units",
        ylim=(min(0.0, float(np.nan_to_num(profile.min()))), None),
        **layer_axis([str(layer) for layer in profile[names.LAYER].values]),
    )


def beside(number: int, n_factors: int) -> float:
    """Place of a factor within a layer's: side by side, so that error bars of one layer do not hide each other."""
    return min(OFFSET, SLOT / n_factors) * (number - (n_factors - 1) / 2)


def quartile_lines(profile: xr.DataArray, quantity: str) -> Iterator[hv.Element]:
    """Lines through the medians of a profile (layer, quantile, factor), with error bars from quartile to quartile."""
    factors, place = profile[names.FACTOR].values.tolist(), np.arange(profile.sizes[names.LAYER])
    for number, (factor, style) in enumerate(zip(factors, factor_styles(factors), strict=True)):
        low, median, high = profile.isel({names.FACTOR: number}).transpose(names.QUANTILE, names.LAYER).values
        x = place + beside(number, len(factors))
        curve = hv.Curve((x, median), "layer", quantity, label=str(factor))
        yield curve.opts(**style, ms=4, linewidth=1, backend="matplotlib")
        # layers without a defined unit are gaps in the line, and have no bar
        x, low, median, high = (array[np.isfinite(median)] for array in (x, low, median, high))
        bars = hv.ErrorBars((x, median, median - low, high - median), "layer", [quantity, "below", "above"])
        yield bars.opts(edgecolor=style["color"], backend="matplotlib")


def index_distributions(
    result: xr.DataTree, index: str = names.FIRST_ORDER, layers: Sequence[str] | None = None
) -> hv.Overlay:
    """Distributions over units of an index: a panel per factor, in it a histogram per layer, the first layer on top.

    Parameters
    ----------
    layers : sequence of str, optional
        Layers that are drawn, all by default.

    Returns
    -------
    holoviews.Overlay
        Histograms of the defined units, each scaled to its place. A vertical line marks the median, and the bar across
        it the median standard error on either side: a distribution that is no wider is mostly noise.
    """
    found = chosen_layers(distributions(result, index), layers)
    factors, shown = (
        [str(one) for one in found[names.FACTOR].values],
        [str(layer) for layer in found[names.LAYER].values],
    )
    edges = np.append(found[names.BIN_START].values, found[names.BIN_END].values[-1])
    width = edges[-1] - edges[0]
    inches = max(1.15, LETTER * max(map(len, factors)))
    panels = Panels(len(factors), width, len(shown), right=0.08 * width, above=0.8, n_columns=int(7.5 / inches))
    left, base = np.transpose([panels.corner(number) for number in range(len(factors))])
    base = base[:, None] + len(shown) - 1 - np.arange(len(shown))
    start = np.broadcast_to(left[:, None], base.shape)
    middle, error = (
        found[name].transpose(names.FACTOR, names.LAYER).values + shift
        for name, shift in ((names.median(index), start - edges[0]), (names.median(names.se(index)), 0.0))
    )
    elements = [
        _histograms(found.isel({names.FACTOR: number}), left[number] - edges[0], edges, base[number], style["color"])
        for number, style in enumerate(factor_styles(factors))
    ]
    elements += [
        _lines(start, base, start + width, base, color=PALE, linewidth=0.8),
        _lines(middle, base, middle, base + SLOT, linewidth=1),
        _lines(middle - error, base + 0.12, middle + error, base + 0.12, linewidth=2),
        texts([(left[i] + width / 2, base[i, 0] + 1, str(factor)) for i, factor in enumerate(factors)]),
        texts(
            [(start[place], base[place], "no unit varies") for place in map(tuple, np.argwhere(np.isnan(middle)))],
            horizontalalignment="left",
        ),
    ]
    values = inner_ticks(edges[0], edges[-1], 3)
    return hv.Overlay(elements).opts(
        title=f"{TITLES[index]}: distribution over units",
        yticks=ticks(
            shown * len(panels.bottoms),
            [y + len(shown) - 0.6 - depth for y in panels.bottoms for depth in range(len(shown))],
        ),
        xticks=[(x - edges[0] + value, f"{value:g}") for x in panels.lefts for value in values],
        xlabel="share of variance",
        ylabel="",
        show_frame=False,
        **panels.options(inches / width, 0.32),
    )


def _histograms(one: xr.Dataset, left: float, edges: np.ndarray, bases: np.ndarray, colour: str) -> hv.Polygons:
    """Histograms of one factor, one per layer, on their base lines."""
    x = left + np.concatenate([edges[:1], np.repeat(edges, 2)[1:-1], edges[-1:]])
    outlines = [
        {"x": x, "y": np.concatenate([[base], np.repeat(base + SLOT * share / share.max(), 2), [base]])}
        for share, base in zip(one[names.SHARE].transpose(names.LAYER, names.BIN).values, bases, strict=True)
        if share.max() > 0
    ]
    return hv.Polygons(outlines, ["x", "y"]).opts(
        facecolor=colour, edgecolor=colour, alpha=0.55, linewidth=0.5, backend="matplotlib"
    )


def _lines(*ends: np.ndarray, **style: Any) -> hv.Segments:
    """Lines from (x, y) to (x, y)."""
    segments = hv.Segments(tuple(end.ravel() for end in np.broadcast_arrays(*ends)), ["x", "y", "x_2", "y_2"])
    return segments.opts(**{"color": "black", **style}, backend="matplotlib")


def convergence(result: xr.DataTree, index: str = names.FIRST_ORDER, layers: Sequence[str] | None = None) -> hv.Overlay:
    """Median standard error of an index after an eighth, a quarter, half and all of the base samples, layer by layer.

    Parameters
    ----------
    layers : sequence of str, optional
        Layers that are drawn, all by default.

    Returns
    -------
    holoviews.Overlay
        A line per layer and factor, within the layer's place from the fewest base samples to all. Dashed lines fall
        with the square root of their number; the dotted line is the tolerance under which an index counts as converged.
        Errors under 0.001 lie below the picture.

    Raises
    ------
    ReaderError
        If the result has no group ``convergence/sobol``, or no such index in it.
    """
    table = chosen_layers(convergence_table(result, index), layers)
    median = table[names.median(names.se(index))].transpose(names.FACTOR, names.LAYER, names.SAMPLES)
    samples = table[names.SAMPLES].values
    shown, factors = [str(one) for one in table[names.LAYER].values], table[names.FACTOR].values.tolist()
    steps = np.linspace(-SLOT / 2, SLOT / 2, len(samples)) if len(samples) > 1 else np.zeros(1)
    # an error of 0, that of a factor without effect, has no place on a logarithmic axis
    errors = np.where(median.values > 0, median.values, np.nan)
    tolerance = table.attrs["tolerance"]
    low, high = np.nanmin(errors, initial=tolerance), np.nanmax(errors, initial=tolerance)
    elements: list[hv.Element] = [hv.HLine(tolerance).opts(color="#888888", linestyle=":", backend="matplotlib")]
    for depth in range(len(shown)):
        start = np.nanmax(errors[:, depth, 0], initial=0.0)
        if start > 0:
            fall = start * np.sqrt(samples[0] / samples)
            elements.append(
                hv.Curve((depth + steps, fall), "layer", "standard error").opts(
                    color="#888888", linestyle="--", linewidth=1, backend="matplotlib"
                )
            )
    for number, (factor, style) in enumerate(zip(factors, factor_styles(factors), strict=True)):
        # one line with gaps between the layers, so that the legend names each factor once
        x = np.concatenate([[*(depth + steps), np.nan] for depth in range(len(shown))])
        y = np.concatenate([[*errors[number, depth], np.nan] for depth in range(len(shown))])
        curve = hv.Curve((x, y), "layer", "standard error", label=str(factor))
        elements.append(curve.opts(**style, ms=3, linewidth=1, backend="matplotlib"))
    return hv.Overlay(elements).opts(
        title=f"{TITLES[index]}: median standard error after {', '.join(f'{n:,}' for n in samples)} base samples",
        ylabel="standard error",
        ylim=(max(LOWEST, low / 1.3), high * 1.3),
        **{**layer_axis(shown), "hooks": [logarithmic]},
    )
