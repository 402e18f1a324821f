"""Maps of an index over the space of single channels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import holoviews as hv
import numpy as np
import xarray as xr
from matplotlib.colors import LinearSegmentedColormap

from neuroprobe import names
from neuroprobe.analysis.overview import N_ERRORS, layer_indices, require_index
from neuroprobe.analysis.strongest import strongest_channels
from neuroprobe.errors import ReaderError
from neuroprobe.plot.style import TITLES, colour_scale, frame, plain_axes, texts

GAP: Final = 0.12  # between two maps, in widths of a map
FINE: Final = 16  # px that a map has at least
LABEL: Final = 0.35  # height of a channel's number with its gaps
INCHES: Final = 0.8  # width of a map
NEGLIGIBLE: Final = 0.01  # share of the variance under which a row is not worth colours
GREYS: Final = LinearSegmentedColormap.from_list("greys", ["#666666", "#e8e8e8"])


def index_maps(result: xr.DataTree, layer: str, index: str = names.FIRST_ORDER, n_channels: int = 8) -> hv.Overlay:
    """Maps of an index over space: a row per factor, in it the channels that depend on it most.

    Parameters
    ----------
    result : xarray.DataTree
        As `neuroprobe.open_result` opens it.
    layer : str
        A layer with the dimensions channel, y, x.
    index : str
        ``first_order``, ``total_order`` or ``shapley_effect``.
    n_channels : int
        Channels per factor, the one with the largest mean over its map first; its number stands above the map.

    Returns
    -------
    holoviews.Overlay
        Each row has a colour scale of its own, which stands beside it: from 0 to the value under which 99 % of the row
        lie. Rows are grey where no channel's mean exceeds 2 standard errors, or nothing exceeds 1 % of the variance.
        Undefined units are white; negative estimates have the colour of 0.

    Raises
    ------
    ReaderError
        If the layer is not there, or has no space.
    """
    require_index(index)
    indices = layer_indices(result, layer, index)
    if names.Y not in indices.dims:
        dims = ", ".join(map(str, indices[names.DEFINED].dims))
        raise ReaderError(f"layer {layer!r} has no space (its dimensions are: {dims}); draw its `strongest_units`")
    chosen = strongest_channels(indices, index, n_channels)
    factors = chosen[names.FACTOR].values
    rows = [_Row(chosen.isel({names.FACTOR: row}), index) for row in range(len(factors))]
    height, step = rows[0].height, rows[0].height + LABEL
    bottoms = [(len(factors) - 1 - row) * step for row in range(len(factors))]
    numbers = [text for row, bottom in zip(rows, bottoms, strict=True) for text in row.numbers(bottom)]
    ends = [text for row, bottom in zip(rows, bottoms, strict=True) for text in row.ends(bottom)]
    images = [image for row, bottom in zip(rows, bottoms, strict=True) for image in row.images(bottom)]
    width = rows[0].width + 0.7
    return hv.Overlay([*images, texts(numbers), texts(ends, horizontalalignment="left")]).opts(
        title=f"{layer}: {TITLES[index]}, the {len(rows[0].maps)} channels of each factor where it is largest",
        yticks=[(bottom + height / 2, str(factor)) for bottom, factor in zip(bottoms, factors, strict=True)],
        xlim=(-0.05, width),
        ylim=(-0.05, len(factors) * step),
        hooks=[plain_axes],
        **{**frame(INCHES * width, INCHES * len(factors) * step), "aspect": "equal"},
    )


@dataclass(frozen=True)
class _Row:
    """Maps of one factor side by side, in widths of a map."""

    chosen: xr.Dataset
    index: str

    @property
    def maps(self) -> np.ndarray:
        """Values of the index (rank, y, x)."""
        return self.chosen[self.index].values

    @property
    def height(self) -> float:
        """Height of a map."""
        return self.maps.shape[1] / self.maps.shape[2]

    @cached_property
    def mosaic(self) -> np.ndarray:
        """The maps with gaps of NaN between them."""
        # few pixels are repeated, so that a gap of one pixel is narrow
        fine = np.kron(self.maps, np.ones((1, self.repeats, self.repeats)))
        padded = np.pad(fine, ((0, 0), (0, 0), (0, self.gap)), constant_values=np.nan)
        return padded.transpose(1, 0, 2).reshape(padded.shape[1], -1)[:, : -self.gap]

    @property
    def repeats(self) -> int:
        """Pixels of the picture for each pixel of a map."""
        return -(-FINE // self.maps.shape[2])

    @property
    def gap(self) -> int:
        """Pixels between two maps."""
        return max(1, round(GAP * self.maps.shape[2] * self.repeats))

    @property
    def lefts(self) -> list[float]:
        """Left sides of the maps."""
        column = 1 + self.gap / (self.maps.shape[2] * self.repeats)
        return [rank * column for rank in range(len(self.maps))]

    @property
    def width(self) -> float:
        """Right side of the last map."""
        return self.lefts[-1] + 1

    @property
    def highest(self) -> float:
        """Largest value."""
        return float(np.nanmax(self.maps, initial=0.0))

    @property
    def high(self) -> float:
        """Top of the colour scale."""
        return max(float(np.nan_to_num(self.chosen[names.HIGH])), NEGLIGIBLE)

    @property
    def doubt(self) -> str:
        """Why the row has no colours; empty where it has."""
        strength, error = (self.chosen[name].values for name in (names.STRENGTH, names.se(names.STRENGTH)))
        if not (strength > N_ERRORS * error).any():
            return f"≤ {N_ERRORS:g} se"
        return f"all < {NEGLIGIBLE:g}" if self.highest < NEGLIGIBLE else ""

    def images(self, bottom: float) -> list[hv.Image]:
        """Draw the maps, and the colour scale at their end; nothing where no unit is defined."""
        if np.isnan(self.maps).all():
            return []
        style = {"cmap": GREYS if self.doubt else "viridis", "interpolation": "nearest"}
        maps = hv.Image(
            self.mosaic, ["x", "y"], TITLES[self.index], bounds=(0, bottom, self.width, bottom + self.height)
        )
        scale = colour_scale(self.width + 0.08, bottom, self.height, (0.0, self.high), **style)
        return [maps.opts(clim=(0.0, self.high), **style, backend="matplotlib"), scale]

    def numbers(self, bottom: float) -> list[tuple[float, float, str]]:
        """Numbers of the channels, above their maps, where a unit of them is defined."""
        channels, is_there = self.chosen[names.CHANNEL].values, np.isfinite(self.chosen[names.STRENGTH].values)
        top = bottom + self.height + 0.03
        return [(self.lefts[rank] + 0.5, top, str(channels[rank])) for rank in np.flatnonzero(is_there)]

    def ends(self, bottom: float) -> list[tuple[float, float, str]]:
        """Ends of the colour scale, and what is in doubt."""
        left = self.width + 0.13 + 0.1 * self.height
        if np.isnan(self.maps).all():
            return [(0.5, bottom + self.height / 2, "no unit varies")]
        top = f"{'≥ ' if self.highest > self.high else ''}{self.high:.2g}"
        return [
            (left, bottom, "0"),
            (left, bottom + self.height / 2 - 0.07, self.doubt),
            (left, bottom + self.height - 0.15, top),
        ]
