"""Images, and units, explained by Neuron Features: those of the units that respond most, where they respond."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from neuroprobe import names
from neuroprobe.errors import ReaderError
from neuroprobe.statistics.decomposition import (
    Fields,
    boxes_of,
    collage,
    cover,
    decomposition_of,
    pixel_view,
    places_within,
    relative_responses,
)

TILE: Final = "tile"
EDGES: Final = ("top", "left", "bottom", "right")
K: Final = 5  # channels that are listed at each place
LONG_NAMES: Final = {
    "view_channel": "channels with the largest shares at a place; -1 where there are no more",
    "view_value": "response as a share of the channel's largest to any image",
    "tile_channel": "channel of a unit whose field covers the picture, the largest share first",
    "tile_value": "response of that unit as a share of the channel's largest to any image",
    "tile_y": "row of that unit in the map",
    "tile_x": "column of that unit in the map",
    "collage": "Neuron Features of the tiles, each in the unit's field",
    "covered": "1 where a tile is",
    names.SHARE: "mean over top stimuli of weight times response, this as a share of the channel's largest, at most 1",
    names.se(names.SHARE): "standard error over top stimuli of the share",
    "n_crops": "top stimuli in whose crop the whole field of a place lies",
    **{f"tile_{edge}": f"{edge} edge of the unit's field, px" for edge in EDGES},
}


def decompose_image(
    layer: xr.DataTree | xr.Dataset, maps: ArrayLike, *, k: int = K, overlap: float = 0.0
) -> xr.Dataset:
    """Explain an image by the units of a layer that respond to it most, and where.

    Parameters
    ----------
    layer : DataTree or Dataset
        Of a result of `selectivity`: with ``peak``, ``neuron_feature`` for a collage, and the fields of the units.
    maps : array_like (channels, rows, columns)
        Responses of the layer to the image, as `neuroprobe.probe.decomposition.layer_maps` reads them.
    k : int
        Channels that are listed at each place.
    overlap : float
        Share of a unit's field that may be covered by those before it, in the cover of the image.

    Returns
    -------
    xarray.Dataset
        ``view_channel`` and ``view_value`` over ``rank, y, x``; over ``tile``, the largest share first,
        ``tile_channel``, ``tile_value``, ``tile_y``, ``tile_x`` and the edges of the unit's field;
        ``collage(image_y, image_x, rgb)`` and ``covered(image_y, image_x)``. Fields that leave the image are passed
        over.

    Raises
    ------
    ReaderError
        If the layer is none of such a result, or the maps are not its own.

    Examples
    --------
    >>> about = {"image_height": 2, "image_width": 4, "field_height": 2, "field_width": 2, "field_stride_y": 1}
    >>> about |= {"field_stride_x": 2, "field_start_y": 0, "field_start_x": 0}
    >>> layer = xr.Dataset({"peak": ("channel", [2.0, 4.0])}, {"channel": [0, 1]}, about)
    >>> found = decompose_image(layer, [[[1.0, 2.0]], [[3.0, 0.0]]], k=1)
    >>> found.tile_channel.values, found.tile_value.values, found.tile_left.values
    (array([0, 1]), array([1.  , 0.75]), array([2, 0]))
    """
    dataset = _layer(layer)
    given = np.asarray(maps, dtype=np.float64)
    n_channels = dataset.sizes[names.CHANNEL]
    if given.ndim != 3 or len(given) != n_channels:
        raise ReaderError(f"maps: received {given.shape}, expected ({n_channels}, rows, columns)")
    _require(k >= 1, "k", k, "1 or more")
    _require(0 <= overlap <= 1, "overlap", overlap, "a number in [0, 1]")
    share = relative_responses(given, dataset["peak"].values)
    rows, columns = _fields(dataset)
    boxes = boxes_of(rows.edges(given.shape[1]), columns.edges(given.shape[2]))
    size = int(dataset.attrs["image_height"]), int(dataset.attrs["image_width"])
    return _explained(dataset, share, boxes, size, ("image_y", "image_x"), k, overlap)


def decompose_unit(
    layer: xr.DataTree | xr.Dataset,
    earlier: xr.DataTree | xr.Dataset,
    channel: int,
    responses: ArrayLike,
    *,
    k: int = K,
    overlap: float = 0.0,
) -> xr.Dataset:
    """Explain the Neuron Feature of a unit by the units of an earlier layer that respond to its top stimuli.

    Parameters
    ----------
    layer, earlier : DataTree or Dataset
        Of a result of `selectivity`.
    channel : int
        Of the later layer.
    responses : array_like (N, channels, places, places)
        Of the earlier layer to the unit's top stimuli, in the order of their rank, as
        `neuroprobe.probe.decomposition.maps_under` reads them.
    k, overlap
        As of `decompose_image`.

    Returns
    -------
    xarray.Dataset
        As `decompose_image` returns it, on the picture of the unit's field (``field_y``, ``field_x``); and
        ``share(channel, y, x)`` with ``share_se`` over stimuli and ``n_crops(y, x)``.

    Raises
    ------
    ReaderError
        If the layers are none of such a result, there is no such channel, or the responses are not theirs.
    """
    later, before = _layer(layer), _layer(earlier)
    if channel not in later[names.CHANNEL].values:
        raise ReaderError(f"channel: received {channel}, expected one of the {later.sizes[names.CHANNEL]} of the layer")
    _require(k >= 1, "k", k, "1 or more")
    _require(0 <= overlap <= 1, "overlap", overlap, "a number in [0, 1]")
    unit = later.sel({names.CHANNEL: channel})
    if "top_value" not in unit:
        raise ReaderError("the layer has no lists of top stimuli (top_value): take a layer of a result of selectivity")
    edges = []
    for own, other in zip(_fields(later), _fields(before), strict=True):
        try:
            _, first, n_places = places_within(own, other)
        except ValueError as error:
            raise ReaderError(f"earlier: {error}") from error
        edges.append(other.edges(n_places, first) - own.start)
    values = unit["top_value"].values
    given = np.asarray(responses, dtype=np.float64)
    expected = (len(values), before.sizes[names.CHANNEL], len(edges[0]), len(edges[1]))
    if given.shape != expected:
        raise ReaderError(f"responses: received {given.shape}, expected {expected}")
    weights = values / unit["peak"].values if unit["peak"] > 0 else np.full(len(values), np.nan)
    found = decomposition_of(given, before["peak"].values, weights)
    size = int(later.attrs["field_height"]), int(later.attrs["field_width"])
    made = _explained(before, found.share, boxes_of(*edges), size, ("field_y", "field_x"), k, overlap)
    dims = (names.CHANNEL, names.Y, names.X)
    made[names.SHARE], made[names.se(names.SHARE)] = (dims, found.share), (dims, found.se)
    made["n_crops"] = dims[1:], found.n
    return _described(made.assign_coords({names.CHANNEL: before[names.CHANNEL].values}))


def _require(is_met: bool, argument: str, given: object, expected: str) -> None:
    if not is_met:
        raise ReaderError(f"{argument}: received {given}, expected {expected}")


def _layer(layer: xr.DataTree | xr.Dataset) -> xr.Dataset:
    """Dataset of a layer that has what is read here."""
    dataset = layer.to_dataset() if isinstance(layer, xr.DataTree) else layer
    wanted = [f"field_{what}_{axis}" for what in ("stride", "start") for axis in "yx"]
    missing = [name for name in ("image_height", "image_width", "field_height", "field_width", *wanted)
               if name not in dataset.attrs]  # fmt: skip
    if "peak" not in dataset:
        missing.append("peak")
    if missing:
        raise ReaderError(f"no layer of a result of selectivity: it lacks {', '.join(missing)}")
    return dataset


def _fields(dataset: xr.Dataset) -> tuple[Fields, Fields]:
    """Fields of the units along rows, and along columns."""
    rows, columns = (
        Fields(*(int(dataset.attrs[name]) for name in (f"field_start_{axis}", f"field_stride_{axis}", f"field_{side}")))
        for axis, side in (("y", "height"), ("x", "width"))
    )
    return rows, columns


def _explained(
    dataset: xr.Dataset,
    share: Any,
    boxes: Any,
    size: tuple[int, int],
    picture_dims: tuple[str, str],
    k: int,
    overlap: float,
) -> xr.Dataset:
    """View and cover of shares (channels, y, x) whose fields are boxes (y, x, 4) of a picture."""
    channels = dataset[names.CHANNEL].values
    view, value = pixel_view(share, min(k, len(share)))
    found = cover(share, boxes, size, overlap)
    places = (names.RANK, names.Y, names.X)
    made = xr.Dataset(
        {
            "view_channel": (places, np.where(view < 0, -1, channels[view])),
            "view_value": (places, value),
            "tile_channel": (TILE, channels[found.channels]),
            "tile_value": (TILE, found.values),
            "tile_y": (TILE, found.rows),
            "tile_x": (TILE, found.columns),
            **{f"tile_{edge}": (TILE, found.boxes[:, number]) for number, edge in enumerate(EDGES)},
        },
        {
            names.RANK: np.arange(1, len(view) + 1),
            names.Y: np.arange(share.shape[1]),
            names.X: np.arange(share.shape[2]),
        },
        {"overlap": overlap},
    )
    if "neuron_feature" in dataset:
        features = dataset["neuron_feature"].isel({names.CHANNEL: found.channels}).values
        picture, covered = collage(features, found.boxes, size)
        made["collage"] = (*picture_dims, "rgb"), picture
        made["covered"] = picture_dims, covered.astype(np.int8)
        if "rgb" in dataset.coords:
            made = made.assign_coords(rgb=dataset["rgb"].values)
    return _described(made)


def _described(made: xr.Dataset) -> xr.Dataset:
    for name, text in LONG_NAMES.items():
        if name in made:
            made[name].attrs["long_name"] = text
    return made
