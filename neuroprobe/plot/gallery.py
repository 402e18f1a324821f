"""Pictures of what drives units: Neuron Features in the order of an index, and the top crops of one unit."""

from __future__ import annotations

import base64
import io
import textwrap
from collections.abc import Sequence
from typing import Final

import holoviews as hv
import numpy as np
import xarray as xr
from numpy.typing import NDArray
from PIL import Image

from neuroprobe import names
from neuroprobe.analysis import feature_pictures, selectivity_overview, selectivity_units
from neuroprobe.analysis.feature_pictures import as_bytes
from neuroprobe.errors import ReaderError
from neuroprobe.plot.panels import Panels
from neuroprobe.plot.style import FONT, frame, plain_axes, texts

Pixels = NDArray[np.uint8]
TITLES: Final = {
    "colour": "colour selectivity α",
    "gamma": "class selectivity γ",
    "gamma_corrected": "class selectivity γ, chance-corrected",
    "colour_name_gamma": "selectivity γ for colour names",
    "entropy": "entropy of classes (bit)",
    "class_mass": "class mass",
    "n_labels": "number of classes M",
}
FINE: Final = 48  # px that a picture has at least
INCHES: Final = 0.62  # side of a Neuron Feature
GAP: Final = 0.12  # between two of them, in sides of one
LABEL: Final = 0.34  # height of what stands under one
THUMBNAIL: Final = 32  # px of a picture that appears under the pointer
CROP_INCHES: Final = 1.05
LETTERS: Final = 17  # of a line under a crop
MAX_LINES: Final = 4
STAR: Final = "*"  # behind values of significant units


def title_of(index: str) -> str:
    """What a picture calls a number of each unit."""
    return TITLES.get(index, index.replace("_", " "))


def displayed(units: xr.Dataset) -> Pixels:
    """Neuron Features of units as they are shown: (units, height, width, rgb).

    Grey where no crop reaches; they do not fade where few do, for pictures of this size show little as it is.
    """
    feature = units[names.NEURON_FEATURE].transpose(names.CHANNEL, "field_y", "field_x", "rgb").values
    coverage = units[names.COVERAGE].transpose(names.CHANNEL, "field_y", "field_x").values
    return feature_pictures.displayed(feature, coverage, fading=False)


def thumbnails(units: xr.Dataset) -> list[str]:
    """Neuron Features as URLs that hold a small PNG each, for the tooltips of a page."""
    return [_url(feature) for feature in displayed(units)]


def _url(pixels: Pixels) -> str:
    image, buffer = Image.fromarray(pixels), io.BytesIO()
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    image.save(buffer, "png", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def neuron_features(
    result: xr.DataTree,
    layer: str | Sequence[str] | None = None,
    order_by: str = "colour",
    ascending: bool = False,
    limit: int = 12,
    columns: int = 12,
) -> hv.Overlay:
    """Neuron Features of the units of a layer, or of several, in the order of an index.

    Parameters
    ----------
    result : xarray.DataTree
        As `neuroprobe.open_result` opens it.
    layer : str or sequence of str, optional
        All layers by default, one under the other.
    order_by : str
        A number of each unit, such as ``colour`` or ``gamma``.
    ascending : bool
        Whether the smallest comes first.
    limit : int
        Units of each layer that are drawn.
    columns : int
        Neuron Features that stand side by side.

    Returns
    -------
    holoviews.Overlay
        Weighted means of the top crops of units, stretched to the full range of brightness, of one size whatever the
        receptive field is; grey where no crop reaches. Below each stand the channel and the value, with a star where
        the corrected p-value is under 0.05. Units without the index are left out, and the title counts them.

    Raises
    ------
    ReaderError
        If no layer holds the index, or there is no such layer.
    """
    layers = [layer] if isinstance(layer, str) else layer
    layers = selectivity_overview.selectivity_layers(result) if layers is None else list(layers)
    found = {one: selectivity_units.ordered_units(result, one, order_by, ascending, limit) for one in layers}
    columns = max(1, min(columns, max(units.sizes[names.CHANNEL] for units in found.values())))
    elements: list[hv.Element] = []
    labels: list[tuple[float, float, str]] = []
    heads: list[tuple[float, str]] = []
    bottom = 0.0
    is_tested = False
    for name, units in reversed(found.items()):
        n, pixels = units.sizes[names.CHANNEL], _enlarged(displayed(units))
        panels = Panels(max(1, n), 1.0, 1.0, right=GAP, above=0.05, below=LABEL, n_columns=columns)
        base = bottom + LABEL
        top = base + panels.bottoms[0] + 1
        heads.append((top - 0.5, f"{name}\n{units.attrs['field_height']} px"))
        if n:
            elements.append(_sheet(pixels, columns, top))
        else:
            labels.append((0.5, base + 0.5, "no unit responds"))
        tested = selectivity_overview.significant(result, name, order_by)
        is_tested |= tested is not None
        clear = set() if tested is None else set(_channels(result, name)[tested].tolist())
        values = units[order_by].values.tolist() if n else []
        for number, (channel, value) in enumerate(zip(units[names.CHANNEL].values.tolist(), values, strict=True)):
            left, low = panels.corner(number)
            star = STAR if channel in clear else ""
            labels.append((left + 0.5, base + low - 0.03, f"{channel}: {value:z.2f}{star}"))
        bottom = top + 0.05 + (0.12 if len(layers) > 1 else 0.0)
    width = columns * (1 + GAP)
    return hv.Overlay([*elements, texts(labels, size=6.5, verticalalignment="top")]).opts(
        title=_gallery_title(found, order_by, ascending, limit, is_tested),
        yticks=heads,
        xlim=(-0.05, width),
        ylim=(0, bottom),
        hooks=[plain_axes],
        **frame(INCHES * width, INCHES * bottom),
    )


def _channels(result: xr.DataTree, layer: str) -> NDArray[np.int64]:
    return selectivity_overview.selectivity_of(result, layer)[names.CHANNEL].values


def _gallery_title(found: dict[str, xr.Dataset], order_by: str, ascending: bool, limit: int, is_tested: bool) -> str:
    """Say what is drawn and what is left out."""
    n_undefined = sum(units.attrs[names.N_UNDEFINED] for units in found.values())
    more = any(units.attrs[names.N_DEFINED] > limit for units in found.values())
    first = "smallest" if ascending else "largest"
    which = f"the {limit} {first} of a layer" if more else f"the {first} first"
    notes = [
        f"{STAR} corrected p < {selectivity_overview.LEVEL:g}" if is_tested else "",
        f"{n_undefined:,} undefined left out" if n_undefined else "",
    ]
    said = "; ".join(one for one in notes if one)
    return f"Neuron Features by {title_of(order_by)}, {which}" + (f"\n{said}" if said else "")


def _enlarged(pictures: Pixels) -> Pixels:
    """Pictures (n, height, width, rgb) in white squares of 48 px or more, in which single pixels are seen."""
    height, width = pictures.shape[1:3]
    side = max(height, width)
    above, left = (side - height) // 2, (side - width) // 2
    around = ((0, 0), (above, side - height - above), (left, side - width - left), (0, 0))
    square = np.pad(pictures, around, constant_values=255)
    repeats = -(-FINE // side)
    return square.repeat(repeats, 1).repeat(repeats, 2)


def _sheet(pictures: Pixels, columns: int, top: float) -> hv.RGB:
    """Draw squares (n, side, side, rgb) row under row as one picture, from a height downwards."""
    n, side = pictures.shape[:2]
    n_rows = -(-n // columns)
    right, below = (round(gap * side) for gap in (GAP, LABEL + 0.05))
    rest = np.full((n_rows * columns - n, side, side, 3), 255, np.uint8)
    cells = np.pad(np.concatenate([pictures, rest]), ((0, 0), (0, below), (0, right), (0, 0)), constant_values=255)
    sheet = cells.reshape(n_rows, columns, *cells.shape[1:]).swapaxes(1, 2)
    sheet = sheet.reshape(n_rows * cells.shape[1], columns * cells.shape[2], 3)
    bounds = (0.0, top - n_rows * (1.05 + LABEL), columns * (1 + GAP), top)
    return hv.RGB(sheet, bounds=bounds).opts(interpolation=_interpolation(side), backend="matplotlib")


def square_picture(pixels: Pixels, left: float, bottom: float) -> hv.RGB:
    """Draw a picture in a square of side 1."""
    square = _enlarged(pixels[None])[0]
    picture = hv.RGB(square, bounds=(left, bottom, left + 1, bottom + 1))
    return picture.opts(interpolation=_interpolation(len(square)), backend="matplotlib")


def _interpolation(side: int) -> str:
    """Squares that were enlarged keep their pixels; large ones are made smaller."""
    return "nearest" if side < 2 * FINE else "antialiased"


def top_crops(result: xr.DataTree, layer: str, channel: int, columns: int = 7) -> hv.Overlay:
    """Neuron Feature of a unit, and the crops that drive it most.

    Parameters
    ----------
    layer : str
    channel : int
    columns : int
        Pictures that stand side by side.

    Returns
    -------
    holoviews.Overlay
        First the Neuron Feature, stretched, then the stored crops as they were shown, the strongest first: below each
        the response over the largest, the class and the image.

    Raises
    ------
    ReaderError
        If there is no such layer or channel, or the unit does not respond.
    """
    found = selectivity_units.top_stimuli(result, layer, channel)
    share = found[names.SHARE].values
    if not np.isfinite(share).any():
        raise ReaderError(f"channel {channel} of {layer!r} does not respond to any image, so that nothing drives it")
    feature = displayed(found.expand_dims(names.CHANNEL))[0]
    crops = as_bytes(found[names.TOP_CROP].values) if names.TOP_CROP in found else np.zeros((0, 1, 1, 3), np.uint8)
    there = np.isfinite(share[: len(crops)])
    said = [["Neuron Feature"], *(_said(found, rank) for rank in np.flatnonzero(there).tolist())]
    n_lines = max(map(len, said))
    panels = Panels(len(said), 1.0, 1.0, right=GAP, above=0.05, below=0.05 + 0.125 * n_lines, n_columns=columns)
    pictures = [
        square_picture(pixels, *panels.corner(number)) for number, pixels in enumerate([feature, *crops[there]])
    ]
    labels = []
    for number, lines in enumerate(said):
        left, bottom = panels.corner(number)
        labels.append((left, bottom - 0.04, "\n".join(lines)))
    return hv.Overlay(
        [*pictures, texts(labels, size=FONT - 1.5, horizontalalignment="left", verticalalignment="top")]
    ).opts(
        title=f"{layer}, channel {channel}: what drives it most\nresponse / largest response, class, image",
        yaxis=None,
        hooks=[plain_axes],
        **panels.options(CROP_INCHES, CROP_INCHES),
    )


def _said(found: xr.Dataset, rank: int) -> list[str]:
    """Lines under a crop."""
    lines = [f"{float(found[names.SHARE][rank]):.2f}"]
    for name in (names.CLASS_LABEL, names.IMAGE_ID):
        text = str(found[name].values[rank]) if name in found.coords else ""
        lines += textwrap.wrap(text, LETTERS, max_lines=2, placeholder=" …")
    return lines[:MAX_LINES]
