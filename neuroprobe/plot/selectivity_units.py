"""Pictures of single units and families: activation curves, profiles, similarities, shares of labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import holoviews as hv
import numpy as np
import xarray as xr

from neuroprobe import names
from neuroprobe.analysis import selectivity_overview, selectivity_units
from neuroprobe.errors import ReaderError
from neuroprobe.plot.gallery import title_of
from neuroprobe.plot.style import (
    COLOURS,
    PALE,
    colour_scale,
    factor_styles,
    frame,
    grid,
    plain_axes,
    row_axis,
    rows,
    slant,
    texts,
)

MAP: Final = 3.6  # side of a map of similarities, in inches
MAX_TICKS: Final = 32  # channels that have room beside it
FAMILIES: Final = {"orientation": "rotation (degrees)", "symmetry": "axis of mirroring (degrees)"}
MAX_MEMBERS: Final = 12  # alterations of a family that have room below an axis


def activation_curve(
    result: xr.DataTree, layer: str, channel: int | Sequence[int], index: str | None = "colour"
) -> hv.Overlay:
    """Responses of a unit, or of several, to their top stimuli, by rank.

    Parameters
    ----------
    layer : str
    channel : int or sequence of int
    index : str, optional
        A selectivity index, whose value stands in the legend; no index with None.

    Returns
    -------
    holoviews.Overlay
        A line per unit: the responses over the largest. The dashed line is their mean; where the index is the share
        of the summed response that an alteration takes, the dotted line is the mean of what it leaves. Units that do
        not respond have no line, and the legend says so.

    Raises
    ------
    ReaderError
        If there is no such layer, channel or index.
    """
    found = selectivity_units.activation_curves(result, layer, channel)
    channels = found[names.CHANNEL].values.tolist()
    units = selectivity_overview.selectivity_of(result, layer)
    rank = found[names.RANK].values.astype(float)
    elements: list[hv.Element] = []
    for number, style in enumerate(factor_styles(channels)):
        at = found.isel({names.CHANNEL: number})
        share, mean = at[names.SHARE].values, float(at[names.MEAN])
        said = f"channel {channels[number]}"
        if not np.isfinite(share).any():
            # a line without a place has its legend nevertheless
            nothing = hv.Curve((rank, share), "rank", "share", label=f"{said}: no response")
            elements.append(nothing.opts(**style, ms=3, linewidth=1.2, backend="matplotlib"))
            continue
        left = np.nan
        if index is not None:
            value, error, left = _value(result, layer, channels[number], index)
            said += f": {index.replace('_', ' ')} {value:z.2f}" + ("" if np.isnan(error) else f" ± {error:.2f}")
        curve = hv.Curve((rank, share), "rank", "share", label=said)
        elements.append(curve.opts(**style, ms=3, linewidth=1.2, backend="matplotlib"))
        ends = np.array([rank[0], rank[-1]])
        for level, line in ((mean, "--"), (mean * left, ":")):
            if np.isfinite(level):
                level_line = hv.Curve((ends, [level, level]), "rank", "share")
                elements.append(
                    level_line.opts(color=style["color"], linestyle=line, linewidth=1, backend="matplotlib")
                )
    lines = "dashed: mean" + ("" if index is None or not _is_ratio(units, index) else "; dotted: what is left, altered")
    return hv.Overlay(elements).opts(
        title=f"{layer}: responses to the {len(rank)} top stimuli\n{lines}",
        xlim=(0.5, len(rank) + 0.5),
        xlabel="rank",
        ylabel="response / largest response",
        ylim=(min(0.0, float(np.nanmin(found[names.SHARE].values, initial=0.0))) - 0.02, 1.05),
        hooks=[grid],
        legend_position="right",
        legend_limit=10_000,
        **frame(4.2, 2.5),
    )


def _is_ratio(units: xr.Dataset, index: str) -> bool:
    """Whether an index is 1 - Σa' / Σa, or Σa' / Σa."""
    attrs = units[index].attrs if index in units else {}
    return names.SELECTIVITY in attrs and attrs.get("clamp", "none") == "none"


def _value(result: xr.DataTree, layer: str, channel: int, index: str) -> tuple[float, float, float]:
    """Index of a unit, its standard error, and the share of the summed response that its alteration leaves."""
    units = selectivity_overview.selectivity_of(result, layer)
    place = units[names.CHANNEL].values.tolist().index(channel)
    value = float(selectivity_overview.unit_values(result, layer, index)[place])
    error = float(units[names.se(index)].values[place]) if names.se(index) in units else np.nan
    if not _is_ratio(units, index):
        return value, error, np.nan
    return value, error, value if units[index].attrs[names.SELECTIVITY] == "invariance" else 1 - value


def similarity_map(result: xr.DataTree, layer: str) -> hv.Overlay:
    """How much the units of a layer respond to each other's top stimuli, like units beside each other.

    Parameters
    ----------
    layer : str

    Returns
    -------
    holoviews.Overlay
        Row n, column m: the response of unit n to the top stimuli of unit m, over that to its own. Units are in the
        order of a tree of the mean of this and its transpose (average linkage); those without a response are left out.

    Raises
    ------
    ReaderError
        If the layer has no similarity.
    """
    found = selectivity_units.clustered_similarity(result, layer)
    values, channels = found[names.SIMILARITY].values, found[names.CHANNEL].values.tolist()
    n, n_undefined = len(channels), found.attrs[names.N_UNDEFINED]
    style = {"cmap": "viridis", "interpolation": "nearest"}
    elements: list[hv.Element] = []
    if n:
        image = hv.Image(values, ["x", "y"], "similarity", bounds=(0, 0, n, n))
        scale = colour_scale(1.04 * n, 0, float(n), (0.0, 1.0), **style)
        ends = [(1.15 * n, share * n, f"{share:g}") for share in (0.0, 0.5, 1.0)]
        elements += [image.opts(clim=(0.0, 1.0), **style, backend="matplotlib"), scale]
        elements.append(texts(ends, horizontalalignment="left", verticalalignment="center"))
        step = -(-n // MAX_TICKS)
        below = [(i + 0.5, -0.015 * n, str(channels[i])) for i in range(0, n, step)]
        elements.append(texts(below, rotation=90, verticalalignment="top", size=7))
        heads = [(n - 0.5 - i, str(channels[i])) for i in range(0, n, step)]
    else:
        elements.append(texts([(0.5, 0.5, "no unit responds")]))
        n, heads = 1, [(0.5, "")]
    lost = f" ({n_undefined:,} undefined left out)" if n_undefined else ""
    return hv.Overlay(elements).opts(
        title=f"{layer}: similarity{lost}\nrows: responses of a unit to the top stimuli of others",
        yticks=heads,
        xlim=(0, 1.25 * n),
        ylim=(-0.1 * n, 1.01 * n),
        hooks=[plain_axes],
        **{**frame(MAP * 1.25, MAP * 1.11), "fontsize": {"title": 10, "ticks": 7}},
    )


def selectivity_profile(
    result: xr.DataTree,
    index: str = "orientation",
    layer: str | Sequence[str] | None = None,
    channel: int | None = None,
) -> hv.Overlay:
    """An index for each alteration of its family: of each angle, scale, strength.

    Parameters
    ----------
    index : str
        Such as ``orientation``, whose family are angles.
    layer : str or sequence of str, optional
        All layers that have the family by default; of one unit, a layer has to be named.
    channel : int, optional
        One unit; by default all.

    Returns
    -------
    holoviews.Overlay
        Per layer the median over the defined units, and a band from quartile to quartile; or of one unit its value,
        with bars of one standard error. 0 is where an alteration changes nothing (1 for indexes of invariance).

    Raises
    ------
    ReaderError
        If the index has no family, or there is no such layer or channel.
    """
    known = selectivity_overview.selectivity_layers(result)
    layers = [layer] if isinstance(layer, str) else list(layer) if layer is not None else []
    if channel is not None and len(layers) != 1:
        raise ReaderError(f"channel {channel}: name the one layer that it is of; there are: {', '.join(known)}")
    if not layers:
        have = [
            one
            for one in known
            if index in selectivity_units.families(selectivity_overview.selectivity_of(result, one))
        ]
        layers = have or known[:1]
    styles = dict(zip(known, factor_styles(known), strict=True))
    profiles = {one: selectivity_units.member_profile(result, index, one, channel, (0.25, 0.5, 0.75)) for one in layers}
    members = [str(one) for one in next(iter(profiles.values()))[names.MEMBER].values]
    elements: list[hv.Element] = []
    for name, found in profiles.items():
        x = _places([str(one) for one in found[names.MEMBER].values])
        elements += _one_profile(x, found, index, name, styles.get(name, {}))
    kind = next(iter(profiles.values()))[index].attrs[names.SELECTIVITY]
    meaning = "what is left" if kind == "invariance" else "what is lost"
    who = f"{layers[0]}, channel {channel} (± 1 se)" if channel is not None else "median and quartiles over units"
    n_undefined = sum(int(found[names.N_UNDEFINED]) for found in profiles.values()) if channel is None else 0
    lost = f"; {n_undefined:,} undefined left out" if n_undefined else ""
    return hv.Overlay(elements).opts(
        title=f"{title_of(index)}: {who}{lost}",
        xlabel=FAMILIES.get(index, f"{index.replace('_', ' ')}: alteration"),
        xlim=_ends(members),
        ylabel=meaning,
        xticks=_member_ticks(members),
        xrotation=slant(members[:: _step(members)], 4.2),
        hooks=[grid],
        legend_position="right",
        legend_limit=10_000,
        show_legend=channel is None,
        **frame(4.6, 2.5),
    )


def _one_profile(x: np.ndarray, found: xr.Dataset, index: str, label: str, style: dict[str, Any]) -> list[hv.Element]:
    """Draw the profile of the units of a layer, or of one unit."""
    if names.QUANTILE not in found.dims:
        values, errors = found[index].values, found[names.se(index)].values
        there = np.isfinite(values)
        bars = hv.ErrorBars((x[there], values[there], np.nan_to_num(errors[there])), "alteration", ["index", "se"])
        curve = hv.Curve((x[there], values[there]), "alteration", "index", label=label)
        return [
            bars.opts(edgecolor=style["color"], backend="matplotlib"),
            curve.opts(**style, ms=4, linewidth=1, backend="matplotlib"),
        ]
    low, middle, high = found[index].transpose(names.QUANTILE, names.MEMBER).values
    if not np.isfinite(middle).any():
        nothing = hv.Curve((x, middle), "alteration", "index", label=f"{label}: none defined")
        return [nothing.opts(**style, ms=4, linewidth=1.2, backend="matplotlib")]
    band = hv.Area((x, low, high), "alteration", ["index", "upper"])
    curve = hv.Curve((x, middle), "alteration", "index", label=f"{label} (n {int(found[names.N_DEFINED]):,})")
    return [
        band.opts(facecolor=style["color"], edgecolor="none", alpha=0.18, backend="matplotlib"),
        curve.opts(**style, ms=4, linewidth=1.2, backend="matplotlib"),
    ]


def _places(members: Sequence[str]) -> np.ndarray:
    """Where alterations stand on an axis: at their number where each is one, else one beside the other."""
    try:
        return np.array([float(one) for one in members])
    except ValueError:
        return np.arange(float(len(members)))


def _ends(members: Sequence[str]) -> tuple[float, float]:
    """Ends of the axis, with room beyond the first and the last alteration."""
    places = _places(members)
    room = 0.03 * float(np.ptp(places)) or 0.5
    return float(places.min()) - room, float(places.max()) + room


def _step(members: Sequence[str]) -> int:
    return -(-len(members) // MAX_MEMBERS)


def _member_ticks(members: Sequence[str]) -> list[tuple[float, str]]:
    step, places = _step(members), _places(members)
    first = step - 1 if len(members) > MAX_MEMBERS else 0
    return [(float(places[i]), members[i]) for i in range(first, len(members), step)]


def label_shares(result: xr.DataTree, layer: str, channel: int, labels: str = "classes", limit: int = 20) -> hv.Overlay:
    """Shares of labels in the responses of a unit to its top stimuli.

    Parameters
    ----------
    layer : str
    channel : int
    labels : str
        Such as ``classes`` or ``colours``.
    limit : int
        Labels that are drawn, the most frequent first.

    Returns
    -------
    holoviews.Overlay
        A bar per label; the dashed line is the share from which a label belongs to the population code, and bars that
        reach it are dark.

    Raises
    ------
    ReaderError
        If the layer has no such labels, or there is no such layer or channel.
    """
    found = selectivity_units.label_shares(result, layer, channel, labels)
    defined = found.isel({"label": np.isfinite(found[names.SHARE].values)})
    drawn, n_others = defined.isel({"label": slice(limit)}), max(0, defined.sizes["label"] - limit)
    share, least = drawn[names.SHARE].values, found.attrs["least"]
    said = [str(one) for one in drawn["label"].values] or ["no response"]
    y = rows(len(said))[: len(share)]
    elements: list[hv.Element] = []
    for some, colour in ((share >= least, COLOURS[0]), (share < least, PALE)):
        boxes = hv.Rectangles((np.zeros(some.sum()), y[some] - 0.36, share[some], y[some] + 0.36))
        elements.append(boxes.opts(facecolor=colour, edgecolor="none", backend="matplotlib"))
    if np.isfinite(least):
        elements.append(hv.VLine(least).opts(color="black", linestyle="--", linewidth=0.8, backend="matplotlib"))
    rest = f", {n_others:,} more not drawn" if n_others else ""
    return hv.Overlay(elements).opts(
        title=f"{layer}, channel {channel}: {labels} of its top stimuli{rest}",
        xlabel="share of the response",
        xlim=(0, max(0.3, 1.05 * float(share.max(initial=0.0)))),
        **row_axis(said, 0.2),
    )
