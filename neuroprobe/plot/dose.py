"""The picture of what masks of more and more units do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import holoviews as hv
import numpy as np
import xarray as xr

from neuroprobe import names
from neuroprobe.analysis import lesion_effects
from neuroprobe.analysis.lesion_effects import OWN
from neuroprobe.plot.contrast import MEASURED
from neuroprobe.plot.masking import titled
from neuroprobe.plot.panels import Panels
from neuroprobe.plot.style import BAND, COLOURS, LETTER, PALE, RANDOM, inner_ticks, plain_axes, texts

WIDTH: Final = 7.5  # of all panels, in inches
HEIGHT: Final = 1.15  # of a panel, in inches
MARGIN: Final = 0.05  # of a panel's height above and below what is drawn
LABELS: Final = ("map of the factor", "maps of other factors", "random masks")  # of the legend


def dose_response(
    result: xr.DataTree,
    which: str = OWN,
    place: str | None = None,
    measure: str = names.TOP_1,
    multiply: float = 0.0,
) -> hv.Overlay:
    """Accuracy by the share of the units that is masked: a panel per factor whose map makes the masks.

    Parameters
    ----------
    result : xarray.DataTree
        As `neuroprobe.open_result` opens it.
    which : str
        Input: ``original``, an alteration, or ``own`` for that of each factor; factors without one are left out.
    place : str, optional
        Where the lesions were made, by default the first place.
    measure : str
        ``top_1``, ``top_5`` or ``probability``.
    multiply : float
        What the masked units are multiplied by.

    Returns
    -------
    holoviews.Overlay
        A line with the band of its intervals for the map of a factor; in grey the mean over random masks of equal size,
        and the band that holds 95 % of them; thin lines for other factors' maps on the same images. The dotted line is
        at the network without a lesion.

    Raises
    ------
    ReaderError
        If there is no such input, place or measure, or no rule multiplies by that.
    """
    found = lesion_effects.dose_response(result, place, measure, multiply)
    factors = lesion_effects.factors_on(found, which)
    inputs = [lesion_effects.input_of(found, factor, which) for factor in factors]
    share = found[names.MASKED_SHARE].values
    drawn = [
        found[name].sel({names.INPUT: inputs}).values.ravel()
        for name in (*names.ends(names.ESTIMATE), *names.ends(names.RANDOM))
    ]
    low, high = (float(of(np.concatenate(drawn), initial=at)) for of, at in ((np.nanmin, 1.0), (np.nanmax, 0.0)))
    span = max(high - low, 0.01)
    width = max(1.2, LETTER * max(map(len, factors)))
    panels = Panels(
        len(factors),
        width=share[-1],
        height=span * (1 + 2 * MARGIN),
        right=0.14 * share[-1],
        above=0.22 * span,
        below=0.36 * span,
        n_columns=max(1, int(WIDTH / width / 1.14)),
    )
    corners = [panels.corner(number) for number in range(len(factors))]
    elements: list[hv.Element] = []
    heads: list[tuple[float, float, str]] = []
    for factor, shown, (left, bottom) in zip(factors, inputs, corners, strict=True):
        # values of the panel in the units of the axes
        base = bottom + MARGIN * span - low
        # the legend names what is in the first panel
        labels = LABELS if not heads else ("",) * len(LABELS)
        elements += _panel(found.sel({names.INPUT: shown}), factor, share, (left, base), labels)
        heads.append((left + share[-1] / 2, bottom + panels.height + 0.02 * span, factor))
    where = "images that the factor alters" if which == OWN else f"{which} images"
    doses = inner_ticks(0, share[-1], 3)
    percents = [(left + v, bottom - 0.04 * span, f"{100 * v:g}") for left, bottom in corners for v in doses]
    borders = [(left, bottom, left + share[-1], bottom) for left, bottom in corners]
    elements += [
        hv.Segments(borders, ["x", "y", "x_2", "y_2"]).opts(color=PALE, linewidth=0.8, backend="matplotlib"),
        texts(heads),
        texts(percents, verticalalignment="top", size=7),
        texts([((panels.lefts[-1] + panels.width) / 2, -0.18 * span, "masked share (%)")], verticalalignment="top"),
    ]
    values = inner_ticks(low, high)

    def y_label(plot: Any, _: hv.Dimensioned) -> None:
        plot.handles["axis"].set_ylabel(MEASURED[measure])

    return hv.Overlay(elements).opts(
        title=titled(f"{MEASURED[measure]} on {where}, by the share of units × {multiply:g}", result, place),
        yticks=[(bottom + MARGIN * span - low + v, f"{v:g}") for bottom in panels.bottoms for v in values],
        hooks=[plain_axes, y_label],
        legend_position="right",
        legend_limit=10_000,
        **panels.options(width / share[-1], HEIGHT / span),
    )


def _panel(
    at: xr.Dataset, factor: str, share: np.ndarray, corner: tuple[float, float], labels: Sequence[str]
) -> Iterator[hv.Element]:
    """Draw what masks by the map of a factor, by random ones, and by the maps of others did to one input."""
    left, base = corner
    x, (own, of_others, random) = left + share, labels
    middle, low, high = (base + at[name].sel({names.FACTOR: factor}).values for name in names.ends(names.ESTIMATE))
    control = base + np.array([at[name].values for name in names.ends(names.RANDOM)])
    there = np.isfinite(control[0])
    # without a lesion there is nothing random
    if there[1:].any():
        yield _band(x, control[1], control[2], facecolor=BAND, alpha=0.8)
        yield _line(x[there], control[0, there], random, color=RANDOM, linewidth=1.2)
    yield _line(x[[0, -1]], middle[[0, 0]], color=RANDOM, linestyle=":", linewidth=1)
    others = base + at[names.ESTIMATE].drop_sel({names.FACTOR: factor}).values
    for number, y in enumerate(others):
        yield _line(x, y, "" if number else of_others, color=COLOURS[1], linewidth=0.5, alpha=0.7)
    yield _band(x, low, high, facecolor=COLOURS[0], alpha=0.25)
    yield _line(x, middle, own, color=COLOURS[0], linewidth=1.2, marker="o", ms=3)


def _band(x: np.ndarray, low: np.ndarray, high: np.ndarray, **style: Any) -> hv.Polygons:
    there = np.isfinite(low) & np.isfinite(high)
    x, low, high = x[there], low[there], high[there]
    outline = {"x": np.concatenate([x, x[::-1]]), "y": np.concatenate([low, high[::-1]])}
    # one point has no area
    return hv.Polygons([outline] if len(x) > 1 else [], ["x", "y"]).opts(
        edgecolor="none", **style, backend="matplotlib"
    )


def _line(x: np.ndarray, y: np.ndarray, label: str = "", **style: Any) -> hv.Curve:
    return hv.Curve((x, y), "x", "y", label=label).opts(**style, backend="matplotlib")
