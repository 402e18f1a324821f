"""Pictures of units: the strongest of each factor, the factors that units prefer, dead and rarely active units."""

from __future__ import annotations

from collections.abc import Sequence

import holoviews as hv
import numpy as np
import xarray as xr

from neuroprobe import names
from neuroprobe.analysis import overview, strongest
from neuroprobe.analysis.shares import INTERACTIONS, mean_shares
from neuroprobe.plot.style import PALE, TITLES, chosen_layers, factor_styles, frame, row_axis, rows, slant, texts

RARE = 0.05  # share of presentations under which a unit counts as rarely active


def strongest_units(result: xr.DataTree, layer: str, index: str = names.FIRST_ORDER, n_units: int = 8) -> hv.Overlay:
    """The units of a layer that depend most on each factor, as points with their standard errors; for any layer.

    Parameters
    ----------
    result : xarray.DataTree
        As `neuroprobe.open_result` opens it.
    layer : str
    index : str
        ``first_order``, ``total_order`` or ``shapley_effect``.
    n_units : int
        Units per factor, the largest index first; above a point stand the unit's channel and, where the layer has
        them, its token or place.

    Returns
    -------
    holoviews.Overlay
        Points with bars of one standard error. The units were chosen by their estimates, which therefore are too large
        on average.

    Raises
    ------
    ReaderError
        If the layer is not there.
    """
    overview.require_index(index)
    indices = overview.layer_indices(result, layer, index)
    chosen = strongest.strongest_units(indices, index, n_units)
    factors, n_ranks = chosen[names.FACTOR].values.tolist(), chosen.sizes[names.RANK]
    elements: list[hv.Element] = []
    labels: list[tuple[float, float, str]] = []
    for number, style in enumerate(factor_styles(factors)):
        one = chosen.isel({names.FACTOR: number})
        is_there = np.isfinite(one[index].values)
        one = one.isel({names.RANK: is_there})
        place = (number * (n_ranks + 1) + np.arange(n_ranks))[is_there]
        values, errors = one[index].values, one[names.se(index)].values
        upper = (values + errors).tolist()
        labels += [(x, y, f"  {text}") for x, y, text in zip(place.tolist(), upper, unit_names(one), strict=True)]
        elements += [
            hv.ErrorBars((place, values, errors), "unit", [TITLES[index], "standard error"]).opts(
                edgecolor=style["color"], backend="matplotlib"
            ),
            hv.Scatter((place, values), "unit", TITLES[index]).opts(**style, s=25, backend="matplotlib"),
        ]
    elements.append(texts(labels, rotation=90))
    width = len(factors) * (n_ranks + 1)
    inches = min(11.0, max(4.0, 0.11 * width + 0.8))
    # room above the highest bar for its name, which stands upright
    room = 1 - min(0.5, 0.03 * max((len(text) for _, _, text in labels), default=0))
    highest = float(np.nanmax((chosen[index] + chosen[names.se(index)]).values, initial=0.0)) or 1.0
    return hv.Overlay(elements).opts(
        title=f"{layer}: {TITLES[index]}, the {n_ranks} units of each factor where it is largest (± 1 se)",
        xticks=[(number * (n_ranks + 1) + (n_ranks - 1) / 2, str(factor)) for number, factor in enumerate(factors)],
        xlim=(-1, width - 1),
        ylim=(min(0.0, float(np.nanmin(chosen[index].values, initial=0.0))), highest / room),
        xlabel="",
        xrotation=slant([str(factor) for factor in factors], inches),
        **frame(inches, 2.3),
    )


def unit_names(units: xr.Dataset) -> list[str]:
    """Names of units: the channel, and in brackets the token or the place; of animals their identifiers."""
    if names.CHANNEL not in units.coords:
        return [
            str(one) for one in units[names.UNIT_ID if names.UNIT_ID in units.coords else names.UNIT].values.tolist()
        ]
    dims = [dim for dim in (names.TOKEN, names.Y, names.X) if dim in units.coords]
    place = [", ".join(str(units[dim].values[rank]) for dim in dims) for rank in range(units.sizes[names.RANK])]
    return [f"{c} ({p})" if p else str(c) for c, p in zip(units[names.CHANNEL].values, place, strict=True)]


def preferences(result: xr.DataTree, index: str = names.TOTAL_ORDER, layers: Sequence[str] | None = None) -> hv.Overlay:
    """Shares of the defined units of each layer whose largest index is that of each factor.

    Parameters
    ----------
    index : str
        ``first_order``, ``total_order`` or ``shapley_effect``.
    layers : sequence of str, optional
        Layers that are drawn, all by default.

    Returns
    -------
    holoviews.Overlay
        A bar per layer. Units whose largest index does not exceed 2 standard errors are the pale part at the end.
    """
    found = chosen_layers(overview.preferences(result, index), layers)
    factors = [str(factor) for factor in found[names.FACTOR].values]
    shares = np.column_stack([found[names.SHARE].values, found[names.UNCLEAR].values])
    colours = [style["color"] for style in factor_styles(factors)]
    bars = stacked_bars(
        [str(layer) for layer in found[names.LAYER].values], shares, [*factors, "none clear"], [*colours, PALE]
    )
    return bars.opts(
        title=f"largest {TITLES[index]} of each unit", xlabel="share of defined units", backend="matplotlib"
    )


def stacked_shares(
    result: xr.DataTree,
    index: str | None = None,
    layers: Sequence[str] | None = None,
    by_variance: bool = False,
) -> hv.Overlay:
    """Mean parts of the variance of the units of each layer, by factor.

    Parameters
    ----------
    index : str, optional
        ``shapley_effect``, the factors' shares of all variance, or ``first_order``, their shares alone, beside that of
        interactions; by default the former where there is one.
    layers : sequence of str, optional
        Layers that are drawn, all by default.
    by_variance : bool
        Whether units count by their variance rather than all alike; rarely active ones, whose first-order indices are
        uncertain, then say little.

    Returns
    -------
    holoviews.Overlay
        A bar per layer, of length 1. Interactions are the pale part at the end. Lines reach one mean standard error of
        single units to either side of the end of a part; the error of a mean is at most as large.
    """
    found = chosen_layers(mean_shares(result, index, by_variance), layers)
    parts = [str(part) for part in found[names.PART].values]
    share, error = found[names.SHARE].values, found[names.se(names.SHARE)].values
    colours = [style["color"] for style in factor_styles([part for part in parts if part != INTERACTIONS])]
    ends, rows = share.cumsum(1), len(share) - 1 - np.arange(len(share))
    # the bar of every other part stands higher, so that neighbours do not meet
    y = rows[:, None] + np.where(np.arange(len(parts)) % 2, 0.15, -0.15)
    is_drawn = np.isfinite(ends) & (np.arange(len(parts)) < len(parts) - 1)
    errors = hv.Segments(
        ((ends - error)[is_drawn], y[is_drawn], (ends + error)[is_drawn], y[is_drawn]), ["x", "y", "x_2", "y_2"]
    )
    bars = stacked_bars(
        [str(layer) for layer in found[names.LAYER].values],
        share,
        parts,
        [*colours, PALE][: len(parts)],
        errors.opts(color="black", linewidth=0.8, backend="matplotlib"),
    )
    return bars.opts(
        title=f"mean {TITLES[found.attrs['index']]} over units{', by their variance' if by_variance else ''}",
        xlabel="share of variance",
        backend="matplotlib",
    )


def activity(result: xr.DataTree, layers: Sequence[str] | None = None) -> hv.Overlay:
    """Shares of the units of each layer that have no index, and of those that are rarely active.

    Parameters
    ----------
    layers : sequence of str, optional
        Layers that are drawn, all by default.

    Returns
    -------
    holoviews.Overlay
        A bar per layer: units without variance that were never active, that were constant, or that had no finite
        response; units that were active in less than 5 % of the presentations; all others. Numbers of units beside it.
    """
    counts = chosen_layers(overview.unit_counts(result, [RARE]), layers).isel({names.THRESHOLD: 0})
    parts = np.column_stack(
        [counts[name].values for name in (names.N_SILENT, names.N_CONSTANT, names.N_LOST, names.N_RARE)]
    )
    total = counts[names.N_UNITS].values
    shown = [str(layer) for layer in counts[names.LAYER].values]
    kinds = ["never active", "constant", "no finite response", f"active in < {RARE:.0%}", "others"]
    colours = ["#222222", "#777777", "#CC79A7", "#E69F00", PALE]
    undefined, rare = parts[:, :3].sum(1), parts[:, 3]
    said = [f"{u:,} + {r:,} of {n:,}" for u, r, n in zip(undefined, rare, total, strict=True)]
    numbers = [(1.02, len(shown) - 1 - i, text) for i, text in enumerate(said)]
    bars = stacked_bars(
        shown,
        np.column_stack([parts, total - parts.sum(1)]) / total[:, None],
        kinds,
        colours,
        texts(numbers, horizontalalignment="left", verticalalignment="center"),
    )
    return bars.opts(
        title="undefined + rarely active units, of all",
        xlim=(0, 1.6),
        xticks=[0, 0.25, 0.5, 0.75, 1],
        xlabel="share of units",
        backend="matplotlib",
    )


def stacked_bars(
    layers: Sequence[str], shares: np.ndarray, kinds: Sequence[str], colours: Sequence[str], *beside: hv.Element
) -> hv.Overlay:
    """Horizontal bars, one per layer, the first on top; shares are (layers, kinds)."""
    ends = np.nan_to_num(shares).cumsum(1)
    starts = np.column_stack([np.zeros(len(layers)), ends[:, :-1]])
    y = rows(len(layers))
    elements: list[hv.Element] = []
    for kind, (label, colour) in enumerate(zip(kinds, colours, strict=True)):
        boxes = hv.Rectangles((starts[:, kind], y - 0.4, ends[:, kind], y + 0.4), label=label)
        elements.append(boxes.opts(facecolor=colour, edgecolor="white", linewidth=0.4, backend="matplotlib"))
    return hv.Overlay([*elements, *beside]).opts(
        xlim=(0, 1),
        **row_axis(layers),
    )
