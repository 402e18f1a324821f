"""A page of the pictures of some units: the Neuron Feature of each, the crops that drive it most, and its numbers."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from PIL import Image

from neuroprobe import names
from neuroprobe.analysis.feature_pictures import as_bytes, displayed
from neuroprobe.analysis.select import Source, opened_together
from neuroprobe.disk import require_file_name, write_text
from neuroprobe.errors import ReaderError
from neuroprobe.report.page import Picture, fill

Pixels = NDArray[np.uint8]
Place = tuple[str, int]  # layer and channel
MAX_UNITS: Final = 500
MAX_VALUES: Final = 12  # of a unit
MAX_CROPS: Final = 8  # of a unit
SIDE: Final = 120  # px to which small pictures are enlarged, by whole numbers
CROP_SIDE: Final = 48
LARGE: Final = 1e6  # whole numbers under it, such as places, are shown with all digits
BATCH: Final = 32  # channels whose pictures are read together


@dataclass(frozen=True)
class Card:
    """A unit on the page.

    Attributes
    ----------
    title : str
        Layer and channel.
    pictures : tuple of Picture
    note : str
        What is to be said of the pictures.
    values : tuple of (str, str)
        Names and values.
    """

    title: str
    pictures: tuple[Picture, ...] = field(repr=False)
    note: str
    values: tuple[tuple[str, str], ...]


def write_gallery(result: Source | Sequence[Source], units: xr.Dataset, output: str | os.PathLike[str]) -> None:
    """Write a page of the pictures of some units.

    Parameters
    ----------
    result : DataTree, Dataset or path, or a list of these
        That the units were selected from; one of them holds Neuron Features.
    units : Dataset
        As `neuroprobe.select_units` gives it, with the columns ``layer`` and ``channel``. They are shown in its order,
        500 at most, each with 12 columns at most; those of one channel have the same pictures.
    output : path
        Of the page; it appears when it is whole.

    Raises
    ------
    ReaderError
        If no result holds Neuron Features, or the layers of the units have none, or it is not known of which channels
        the units are.
    StoreError
        If the page cannot be written there.
    """
    output = Path(output)
    for name in (names.LAYER, names.CHANNEL):
        if name not in units.variables:
            raise ReaderError(f"the units have no column {name!r}, which tells whose pictures to show: select it too")
    require_file_name(output)
    with opened_together(result) as trees:
        page = gallery_page(trees, units)
    write_text(output, page)


def gallery_page(trees: Sequence[xr.DataTree], units: xr.Dataset) -> str:
    """Return the page as HTML."""
    shown = units.isel({names.UNIT: slice(MAX_UNITS)})
    nodes = _nodes_with_features(trees)
    places = _places(shown)
    layers = dict.fromkeys(layer for layer, _ in places)
    if layers and not nodes.keys() & layers.keys():
        raise ReaderError(
            f"there are no Neuron Features of layers {', '.join(map(repr, layers))}, there are some of "
            f"{', '.join(map(repr, nodes))}: select units of these, or run with `analyses: [selectivity]` on those"
        )
    pictures = dict(_pictures(nodes, places))
    columns = [name for name in map(str, units.variables) if name not in (names.LAYER, names.CHANNEL)]
    texts = {name: _texts(shown[name].values) for name in columns[:MAX_VALUES]}
    cards = []
    for number, (layer, channel) in enumerate(places):
        values = tuple((name, text[number]) for name, text in texts.items() if name not in units.coords or text[number])
        found = pictures.get((layer, channel), ((), "There is no Neuron Feature of this unit."))
        cards.append(Card(f"{layer} / {channel}", *found, values))
    title = next((str(tree.root.attrs["title"]) for tree in trees if tree.root.attrs.get("title")), "neuroprobe")
    return fill(
        "gallery.html",
        {
            "title": title,
            "query": units.attrs.get("query", ""),
            "summary": list(_summary(units, len(places), columns)),
            "cards": cards,
        },
    )


def _summary(units: xr.Dataset, n_shown: int, columns: Sequence[str]) -> Iterator[str]:
    """Say what the page shows, and what it leaves out."""
    if "n_selected" in units.attrs:
        yield f"True of {units.attrs['n_selected']:,} of {units.attrs['n_units']:,} units."
    if n_shown < units.sizes[names.UNIT]:
        yield f"Shown are the first {n_shown:,} of {units.sizes[names.UNIT]:,}: a page holds {MAX_UNITS} at most."
    if len(columns) > MAX_VALUES:
        yield f"{len(columns) - MAX_VALUES:,} columns are left out: name those that matter."
    if n_shown:
        yield (
            "Of each unit: its Neuron Feature, the weighted mean of the crops that drive it most, stretched to the "
            "full range of brightness and fading to grey where few of them reach; below it the first of these crops, "
            "as they were shown, the strongest first."
        )


def _nodes_with_features(trees: Sequence[xr.DataTree]) -> dict[str, xr.Dataset]:
    """Layer → what holds its Neuron Features, the first of several."""
    nodes: dict[str, xr.Dataset] = {}
    for node in (node for tree in trees for node in tree.subtree):
        if names.NEURON_FEATURE in node.dataset and names.CHANNEL in node.dataset[names.NEURON_FEATURE].dims:
            nodes.setdefault(node.name or "", node.to_dataset())
    if not nodes:
        raise ReaderError(
            "this result holds no Neuron Features, which a gallery shows: run a protocol with "
            "`analyses: [selectivity]`, or select from such a result together with this one"
        )
    return nodes


def _places(units: xr.Dataset) -> list[Place]:
    layers, channels = (units[name].values for name in (names.LAYER, names.CHANNEL))
    undefined = pd.isna(channels)
    if undefined.any():
        layer = str(layers[undefined][0])
        raise ReaderError(f"units of layer {layer!r} have no channel: a gallery shows channels; select other layers")
    return [(str(layer), int(channel)) for layer, channel in zip(layers, channels, strict=True)]


def _pictures(
    nodes: dict[str, xr.Dataset], places: Sequence[Place]
) -> Iterator[tuple[Place, tuple[tuple[Picture, ...], str]]]:
    """Pictures of channels, and what is to be said of them; some channels of a layer are read at a time."""
    for layer, node in nodes.items():
        own = node[names.CHANNEL].values.tolist() if names.CHANNEL in node.coords else range(node.sizes[names.CHANNEL])
        place_of = {int(channel): place for place, channel in enumerate(own)}
        wanted = [channel for at, channel in dict.fromkeys(places) if at == layer and channel in place_of]
        kept = [name for name in (names.NEURON_FEATURE, names.COVERAGE, names.TOP_CROP) if name in node.variables]
        for start in range(0, len(wanted), BATCH):
            batch = wanted[start : start + BATCH]
            chosen = {names.CHANNEL: [place_of[one] for one in batch]}
            arrays = {name: node[name].reset_coords(drop=True).isel(chosen).load() for name in kept}
            for number, channel in enumerate(batch):
                one = {name: array[{names.CHANNEL: number}] for name, array in arrays.items()}
                yield (layer, channel), _of_unit(one, f"{layer} / {channel}")


def _of_unit(arrays: dict[str, xr.DataArray], unit: str) -> tuple[tuple[Picture, ...], str]:
    """Pictures of a unit."""
    feature = arrays[names.NEURON_FEATURE].transpose("field_y", "field_x", "rgb").values
    if not np.isfinite(feature).any():
        return (), "No image drives this unit."
    coverage = arrays[names.COVERAGE].transpose("field_y", "field_x").values if names.COVERAGE in arrays else None
    pictures = [_picture(displayed(feature, coverage), SIDE, f"Neuron Feature of {unit}")]
    if names.TOP_CROP in arrays:
        crops = arrays[names.TOP_CROP].transpose(names.CROP, "crop_y", "crop_x", "rgb").values[:MAX_CROPS]
        for number, crop in enumerate(crops, 1):
            if np.isfinite(crop).all():
                pictures.append(_picture(as_bytes(crop), CROP_SIDE, f"crop {number} of those that drive {unit} most"))
    return tuple(pictures), ""


def _picture(pixels: Pixels, side: int, title: str) -> Picture:
    """Picture that is shown about as large as a side, and never smaller than it is."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return Picture(buffer.getvalue(), pixels.shape[1] * max(1, round(side / max(pixels.shape[:2]))), title, "")


def _texts(values: NDArray[Any]) -> list[str]:
    """Values as people read them; of those that are missing, empty texts."""
    return ["" if pd.isna(value) else _text(value) for value in values.tolist()]


def _text(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if value.is_integer() and abs(value) < LARGE else f"{value:.3g}"
