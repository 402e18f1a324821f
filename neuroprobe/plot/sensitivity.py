"""Pictures of Sobol indices: profiles over the depth of a network, and maps of single channels."""

from __future__ import annotations

from typing import Final

import holoviews as hv
import numpy as np
import xarray as xr
from holoviews.plotting import mpl  # noqa: F401 - loads the backend that the options below are for
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.analysis.sensitivity import depth_profiles, strongest_channels

TITLES: Final = {names.FIRST_ORDER: "S1 (alone)", names.TOTAL_ORDER: "ST (with interactions)"}
# Okabe & Ito's colours, which readers with a colour vision deficiency can tell apart, and grey
COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000", "#999999")
GAP: Final = 1  # px between maps


def depth_profile(result: xr.DataTree, index: str = names.TOTAL_ORDER) -> hv.Overlay:
    """Medians and quartiles over units of an index, per factor, layer after layer.

    Parameters
    ----------
    result : xarray.DataTree
        As `neuroprobe.open_result` opens it.
    index : str
        ``first_order`` or ``total_order``.

    Returns
    -------
    holoviews.Overlay
        A line through the medians and an error bar from quartile to quartile for each factor.
    """
    profile = depth_profiles(result.children["sobol"])[index]
    layers = profile[names.LAYER].values.tolist()
    factors = profile[names.FACTOR].values.tolist()
    place = np.arange(len(layers))
    elements = []
    for number, factor in enumerate(factors):
        low, median, high = profile.sel({names.FACTOR: factor}).transpose(names.QUANTILE, names.LAYER).values
        colour = COLOURS[number % len(COLOURS)]
        # side by side, so that error bars of one layer do not hide each other
        x = place + 0.08 * (number - (len(factors) - 1) / 2)
        curve = hv.Curve((x, median), "layer", "share of variance", label=str(factor))
        bars = hv.ErrorBars((x, median, median - low, high - median), "layer", ["share of variance", "below", "above"])
        elements += [
            curve.opts(color=colour, marker="o", backend="matplotlib"),
            bars.opts(edgecolor=colour, backend="matplotlib"),
        ]
    return hv.Overlay(elements).opts(
        title=f"{TITLES[index]}: median and quartiles over units",
        xticks=list(zip(place.tolist(), layers, strict=True)),
        xlim=(-0.5, len(layers) - 0.5),
        ylim=(min(0.0, float(profile.min())), None),
        legend_position="right",
        fig_inches=(6.5, 3.4),
        aspect=1.7,
        show_grid=True,
        backend="matplotlib",
    )


def index_maps(result: xr.DataTree, layer: str, index: str = names.FIRST_ORDER, n_channels: int = 8) -> hv.Image:
    """Maps of an index over space: a row per factor, in it the channels that depend on it most.

    Parameters
    ----------
    result : xarray.DataTree
    layer : str
        A layer with the dimensions channel, y, x.
    index : str
        ``first_order`` or ``total_order``.
    n_channels : int
        Channels per factor, the strongest first.

    Returns
    -------
    holoviews.Image
        Undefined units are left white; negative estimates are shown as 0.
    """
    indices = result[f"sobol/{layer}"].to_dataset()
    chosen = strongest_channels(indices, index, n_channels)
    height, width = indices.sizes[names.Y], indices.sizes[names.X]
    picture = _mosaic(chosen.transpose(names.FACTOR, "rank", names.Y, names.X).values)
    n_factors, n_ranks = chosen.sizes[names.FACTOR], chosen.sizes["rank"]
    bounds = (0, 0, n_ranks * (width + GAP), n_factors * (height + GAP))
    rows = [(n_factors - i - 0.5) * (height + GAP) for i in range(n_factors)]
    columns = [(i + 0.5) * (width + GAP) for i in range(n_ranks)]
    image = hv.Image(picture, bounds=bounds, vdims=TITLES[index])
    return image.opts(
        title=f"{layer}: {TITLES[index]}, the {n_ranks} strongest channels of each factor",
        yticks=list(zip(rows, map(str, chosen[names.FACTOR].values), strict=True)),
        xticks=list(zip(columns, (str(i + 1) for i in range(n_ranks)), strict=True)),
        xlabel="rank of the channel",
        ylabel="",
        cmap="viridis",
        clim=(0.0, max(0.05, float(np.nanmax(picture, initial=0.0)))),
        colorbar=True,
        fig_inches=(8, 8 * n_factors / n_ranks),
        aspect="equal",
        backend="matplotlib",
    )


def _mosaic(maps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lay maps (rows, columns, y, x) out on one plane, with gaps of NaN between them."""
    n_rows, n_columns, height, width = maps.shape
    padded = np.full((n_rows, n_columns, height + GAP, width + GAP), np.nan)
    padded[:, :, :height, :width] = maps
    return padded.transpose(0, 2, 1, 3).reshape(n_rows * (height + GAP), n_columns * (width + GAP))
