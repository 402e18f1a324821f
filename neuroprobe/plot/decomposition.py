"""An image, or the Neuron Feature of a unit, beside the Neuron Features that explain it."""

from __future__ import annotations

from typing import Final

import holoviews as hv
import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from neuroprobe import names
from neuroprobe.analysis.feature_pictures import as_bytes
from neuroprobe.errors import ReaderError
from neuroprobe.plot.panels import Panels
from neuroprobe.plot.style import plain_axes, texts

INCHES: Final = 2.4  # side of a picture
MAX_NAMED: Final = 12  # tiles whose channel has room
FRAME: Final = "#ffffff"


def decomposition(found: xr.Dataset, picture: ArrayLike | None = None, limit: int = MAX_NAMED) -> hv.Overlay:
    """Collage of the Neuron Features of the units that respond most, where they respond.

    Parameters
    ----------
    found : xarray.Dataset
        As `neuroprobe.selectivity.explained.explain_image` or `explain_unit` returns it, or `decompose_image` or
        `decompose_unit` of `neuroprobe.analysis.decomposition`.
    picture : array_like (height, width, rgb), optional
        What is explained, in [0, 1]: the image as it was shown, or the Neuron Feature of the unit; drawn on the left.
        By default that of the dataset, where it has one.
    limit : int
        Tiles with a frame and a number in both pictures, the largest shares first.

    Returns
    -------
    holoviews.Overlay
        Frames are the receptive fields of the units, and numbers their channels; the line below lists the first of
        these with their responses as shares of each channel's largest. Grey is where no field was accepted.

    Raises
    ------
    ReaderError
        If there is no collage, or the picture is of another size.
    """
    if "collage" not in found:
        raise ReaderError(
            "no collage here: expected what decompose_image or decompose_unit returns, of a layer with Neuron Features"
        )
    collage = found["collage"].transpose(..., "rgb").values
    height, width = collage.shape[:2]
    given = found["picture"].transpose(..., "rgb").values if picture is None and "picture" in found else picture
    shown = [] if given is None else [np.asarray(given, dtype=np.float64)]
    if shown and shown[0].shape != collage.shape:
        raise ReaderError(f"picture: received {shown[0].shape}, expected {collage.shape}, the size of the collage")
    shown.append(collage)
    scale = 1 / max(height, width)
    panels = Panels(len(shown), width * scale, height * scale, right=0.06, above=0.02, below=0.12)
    tiles = found.isel(tile=slice(limit))
    top, left, bottom, right = (tiles[f"tile_{edge}"].values * scale for edge in ("top", "left", "bottom", "right"))
    channels, values = tiles["tile_channel"].values, tiles["tile_value"].values
    elements: list[hv.Element] = []
    labels: list[tuple[float, float, str]] = []
    for number, pixels in enumerate(shown):
        x, y = panels.corner(number)
        ends = (x, y, x + panels.width, y + panels.height)
        elements.append(hv.RGB(as_bytes(pixels), bounds=ends).opts(interpolation="nearest", backend="matplotlib"))
        boxes = hv.Rectangles((x + left, ends[3] - bottom, x + right, ends[3] - top))
        elements.append(boxes.opts(facecolor="none", edgecolor=FRAME, linewidth=0.6, backend="matplotlib"))
        middles = zip(x + (left + right) / 2, ends[3] - (top + bottom) / 2, channels, strict=True)
        labels += [(float(a), float(b), str(one)) for a, b, one in middles]
    first = zip(channels.tolist(), values.tolist(), strict=True)
    listed = ", ".join(f"{channel} ({value:.2f})" for channel, value in list(first)[:6])
    n_tiles = found.sizes["tile"]
    where = panels.corner(0)
    return hv.Overlay(
        [
            *elements,
            texts(labels, size=6, color=FRAME, verticalalignment="center"),
            texts(
                [(where[0], where[1] - 0.03, f"channels (share of their largest response): {listed or 'none'}")],
                size=7,
                horizontalalignment="left",
                verticalalignment="top",
            ),
        ]
    ).opts(
        title=f"{_what(found)}Neuron Features of the {n_tiles:,} units that cover it",
        yaxis=None,
        hooks=[plain_axes],
        **panels.options(INCHES, INCHES),
    )


def _what(found: xr.Dataset) -> str:
    """Say what is explained by units of which layer, where that is known."""
    attrs = found.attrs
    if names.LAYER not in attrs:
        return ""
    if names.EARLIER in attrs:
        return f"{attrs[names.LAYER]}, channel {attrs[names.CHANNEL]}, by {attrs[names.EARLIER]}\n"
    return f"{attrs.get(names.IMAGE_ID, 'image')}, by {attrs[names.LAYER]}\n"
