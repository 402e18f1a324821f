"""Pictures of contrasts: effect sizes over the layers of a network, and accuracies under each alteration."""

from __future__ import annotations

import holoviews as hv
import numpy as np
import xarray as xr

from neuroprobe import names
from neuroprobe.analysis import effects
from neuroprobe.analysis.effects import accuracy_table
from neuroprobe.errors import ReaderError, unknown_name
from neuroprobe.plot.sensitivity import beside, quartile_lines
from neuroprobe.plot.style import factor_styles, frame, grid, layer_axis, slant, ticks

MEASURED = {
    names.TOP_1: "top-1 accuracy",
    names.TOP_5: "top-5 accuracy",
    names.PROBABILITY: "probability of the class",
}


def effect_sizes(result: xr.DataTree) -> hv.Overlay:
    """Medians and quartiles over units of the magnitude of Cohen's d_z, per alteration, layer after layer.

    Parameters
    ----------
    result : xarray.DataTree
        As `neuroprobe.open_result` opens it.

    Returns
    -------
    holoviews.Overlay
        A line through the medians and an error bar from quartile to quartile for each alteration; of the units that it
        changes.

    Raises
    ------
    ReaderError
        If the result has no contrasts.
    """
    profile = effects.effect_sizes(result)
    return hv.Overlay(list(quartile_lines(profile, "|d_z|"))).opts(
        title="Effect sizes: median and quartiles of |d_z| over units",
        ylim=(0.0, None),
        **layer_axis([str(layer) for layer in profile[names.LAYER].values]),
    )


def significant_units(result: xr.DataTree, test: str = "t", level: float = 0.05) -> hv.Overlay:
    """Share of units that each alteration changes significantly, layer after layer.

    Parameters
    ----------
    test : str
        ``t``, ``sign``, or ``wilcoxon`` where the ranks of all layers were kept.
    level : float
        Under which an adjusted p-value is significant.

    Returns
    -------
    holoviews.Overlay
        A line for each alteration.
    """
    share = effects.significant_shares(result, test, level).transpose(names.FACTOR, names.LAYER)
    factors, layers = share[names.FACTOR].values.tolist(), [str(layer) for layer in share[names.LAYER].values]
    curves = []
    for number, style in enumerate(factor_styles(factors)):
        x = np.arange(len(layers)) + beside(number, len(factors))
        curve = hv.Curve((x, share.values[number]), "layer", "share of units", label=str(factors[number]))
        curves.append(curve.opts(**style, ms=4, linewidth=1, backend="matplotlib"))
    return hv.Overlay(curves).opts(
        title=f"Units that change: adjusted p < {level:g} ({test})", ylim=(-0.02, 1.02), **layer_axis(layers)
    )


def accuracies(result: xr.DataTree, measure: str = names.TOP_1) -> hv.Overlay:
    """Accuracy on the original images and under each alteration, with its interval.

    Parameters
    ----------
    measure : str
        ``top_1``, ``top_5`` or ``probability``.

    Returns
    -------
    holoviews.Overlay
        A point with an error bar for each alteration; the dashed line is at the original images.

    Raises
    ------
    ReaderError
        If the result has no accuracies, or no such measure.
    """
    table = accuracy_table(result)
    known = [str(name) for name in table[names.MEASURE].values]
    if measure not in known:
        raise ReaderError(unknown_name("measure", measure, known))
    one = table.sel({names.MEASURE: measure})
    labels = [str(factor) for factor in one[names.FACTOR].values]
    place, (value, low, high) = np.arange(len(labels)), (one[name].values for name in ("estimate", "lower", "upper"))
    styles = [{"color": "black", "marker": "o"}, *factor_styles(labels[1:])]
    width = min(11.0, max(3.0, 0.7 + 0.45 * len(labels)))
    elements: list[hv.Element] = [
        hv.HLine(value[0]).opts(color="#888888", linestyle="--", linewidth=1, backend="matplotlib"),
        hv.ErrorBars((place, value, value - low, high - value), "alteration", [measure, "below", "above"]).opts(
            edgecolor="black", backend="matplotlib"
        ),
    ]
    elements += [
        hv.Scatter(([x], [y]), "alteration", measure).opts(**style, s=30, backend="matplotlib")
        for x, y, style in zip(place, value, styles, strict=True)
    ]
    return hv.Overlay(elements).opts(
        title=f"{MEASURED[measure]}, with {100 * table.attrs['level']:g} % intervals",
        xticks=ticks(labels),
        xrotation=slant(labels, width),
        xlim=(-0.5, len(labels) - 0.5),
        xlabel="",
        ylabel=MEASURED[measure],
        show_legend=False,
        hooks=[grid],
        **frame(width, 2.5),
    )
