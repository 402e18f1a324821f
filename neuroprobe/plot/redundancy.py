"""What a network loses as the channels of a layer are removed: the most redundant first, beside other orders."""

from __future__ import annotations

from typing import Any, Final

import holoviews as hv
import numpy as np
import xarray as xr

from neuroprobe import names
from neuroprobe.errors import ReaderError, unknown_name
from neuroprobe.plot.style import BAND, COLOURS, RANDOM, frame, grid

MEASURES: Final = {
    names.LOSS_CHANGE: "loss less that of the whole network",
    names.ACCURACY_CHANGE: "accuracy less that of the whole network",
    names.LOSS: "loss",
    names.ACCURACY: "accuracy",
}
ORDERS: Final = {"similarity": "most redundant first", "low_norm": "smallest norm first"}
REMOVALS: Final = {"zero": "zeroed", "add": "added to the most similar left"}
LINES: Final = {"zero": "-", "add": "--"}
DEVIATIONS: Final = 2  # of random orders, half the width of their band


def removal_curve(found: xr.Dataset, measure: str = names.LOSS_CHANGE) -> hv.Overlay:
    """Loss or accuracy by the share of the channels of a layer that is removed.

    Parameters
    ----------
    found : xarray.Dataset
        As `neuroprobe.analysis.redundancy.redundancy` returns it.
    measure : str
        ``loss_change``, ``accuracy_change``, ``loss`` or ``accuracy``.

    Returns
    -------
    holoviews.Overlay
        In colours the order by similarity, and where it was asked for the one by small norms, each with the interval
        over images; in grey the mean over orders at random, and a band of two standard deviations over these on either
        side. Full lines where maps are zeroed, dashed ones where they are added to those of their partners.

    Raises
    ------
    ReaderError
        If there is no such measure, or the dataset is no such curve.
    """
    if measure not in MEASURES:
        raise ReaderError(unknown_name("measure", measure, list(MEASURES)))
    missing = [name for name in (measure, *names.ends(measure)[1:]) if name not in found]
    if missing or not {names.ORDER, names.REMOVAL, names.REMOVED_SHARE} <= set(found.dims):
        raise ReaderError(
            f"no removal curve: {', '.join(missing) or 'its dimensions'} missing; expected what "
            "neuroprobe.analysis.redundancy.redundancy returns"
        )
    x = 100 * found[names.REMOVED_SHARE].values
    elements: list[hv.Element] = []
    for removal in map(str, found[names.REMOVAL].values):
        elements += _at_random(x, found.sel({names.REMOVAL: removal}), measure, removal)
    for number, order in enumerate(name for name in ORDERS if name in found[names.ORDER].values):
        for removal in map(str, found[names.REMOVAL].values):
            at = found.sel({names.ORDER: order, names.REMOVAL: removal})
            elements += _of_order(x, at, measure, f"{ORDERS[order]}, {REMOVALS[removal]}", number, LINES[removal])
    n_images, n_random = (int(found.attrs[name]) for name in ("n_images", names.N_RANDOM))
    random = f"; grey: {n_random} orders at random ± {DEVIATIONS} sd" if n_random > 1 else ""
    return hv.Overlay(elements).opts(
        title=f"{found.attrs[names.LAYER]}: channels removed, {n_images:,} images{random}",
        xlim=(0, max(1.0, float(x.max()))),
        xlabel="removed channels (%)",
        ylabel=MEASURES[measure],
        hooks=[grid],
        legend_position="right",
        legend_limit=10_000,
        **frame(4.2, 2.6),
    )


def _at_random(x: np.ndarray, at: xr.Dataset, measure: str, removal: str) -> list[hv.Element]:
    """Draw the mean over orders at random, and where most of them are."""
    name = f"{names.RANDOM_MEAN}_{measure}"
    if name not in at:
        return []
    mean, deviation = at[name].values, DEVIATIONS * at[f"{names.RANDOM_DEVIATION}_{measure}"].values
    drawn: list[hv.Element] = []
    if np.isfinite(deviation).all():
        drawn.append(_band(x, mean - deviation, mean + deviation, facecolor=BAND, alpha=0.6))
    curve = hv.Curve((x, mean), "removed", "value", label=f"at random, {REMOVALS[removal]}")
    return [*drawn, curve.opts(color=RANDOM, linestyle=LINES[removal], linewidth=1.2, backend="matplotlib")]


def _of_order(x: np.ndarray, at: xr.Dataset, measure: str, label: str, number: int, line: str) -> list[hv.Element]:
    """Draw one order, with its interval."""
    middle, low, high = (at[name].values for name in names.ends(measure))
    curve = hv.Curve((x, middle), "removed", "value", label=label)
    colour = COLOURS[number]
    return [
        _band(x, low, high, facecolor=colour, alpha=0.15),
        curve.opts(color=colour, linestyle=line, linewidth=1.4, marker="o", ms=3, backend="matplotlib"),
    ]


def _band(x: np.ndarray, low: np.ndarray, high: np.ndarray, **style: Any) -> hv.Area:
    there = np.isfinite(low) & np.isfinite(high)
    area = hv.Area((x[there], low[there], high[there]), "removed", ["value", "upper"])
    return area.opts(edgecolor="none", **style, backend="matplotlib")
