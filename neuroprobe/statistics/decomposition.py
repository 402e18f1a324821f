"""Images, and units, as collages of Neuron Features: which units respond where, which cover what (NumPy, no labels).

After Rafegas et al. 2019 (arXiv 1702.00382). Responses are shares of the largest that a unit gave to any image. Boxes
are the receptive fields of places of a map: top, left, bottom and right edge, the last two not included.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
GROUND: Final = 0.5  # grey where nothing is painted


def relative_responses(maps: ArrayLike, peak: ArrayLike) -> Array:
    """Responses (…, channels, rows, columns) as shares of the largest of each channel; NaN where that is not above 0.

    Examples
    --------
    >>> relative_responses([[[2.0]], [[1.0]]], [4.0, 0.0]).ravel()
    array([0.5, nan])
    """
    peak = np.asarray(peak, dtype=np.float64)
    scale = np.array(np.where(peak > 0, peak, np.nan))
    return np.asarray(maps, dtype=np.float64) / scale[:, None, None]


def pixel_view(share: Array, k: int) -> tuple[Integers, Array]:
    """Channels with the largest shares at each place of a map.

    Parameters
    ----------
    share : float array (channels, rows, columns)
        NaN is none.
    k : int
        Channels that are listed.

    Returns
    -------
    channel : int array (k, rows, columns)
        The largest first, and of equal ones the smaller number; -1 where there are no more.
    value : float array (k, rows, columns)

    Examples
    --------
    >>> channel, value = pixel_view(np.array([0.2, 0.7, np.nan, 0.7])[:, None, None], 4)
    >>> channel.ravel(), value.ravel()
    (array([ 1,  3,  0, -1]), array([0.7, 0.7, 0.2, nan]))
    """
    key = np.where(np.isnan(share), -np.inf, share)
    channel = np.argsort(-key, axis=0, kind="stable")[:k]
    value = np.take_along_axis(share, channel, 0)
    return np.where(np.isnan(value), -1, channel), value


def nearest_place(pixel: ArrayLike, centre: float, stride: int, n_places: int) -> Integers:
    """Place of a map whose receptive field has its centre nearest to a pixel, along one axis.

    Parameters
    ----------
    pixel : array_like
    centre : float
        Of the first field.
    stride : int
        From one field to the next; 0 where all see the whole image.
    n_places : int

    Returns
    -------
    int array
        Of two that are equally near the first.

    Examples
    --------
    >>> nearest_place([0, 5, 7, 8, 200], centre=3.0, stride=4, n_places=5)
    array([0, 0, 1, 1, 4])
    """
    if not stride:
        return np.zeros(np.shape(pixel), np.int64)
    place = np.ceil((np.asarray(pixel, dtype=np.float64) - centre) / stride - 0.5)
    return np.clip(place, 0, n_places - 1).astype(np.int64)


class Fields(NamedTuple):
    """Receptive fields along an axis, in pixels: first pixel of the first one, from one to the next, and their size."""

    start: int
    stride: int
    size: int

    def edges(self, n_places: int, first: int = 0) -> Integers:
        """First pixel of each, and the one behind the last: (places, 2)."""
        starts = self.start + self.stride * np.arange(first, first + n_places)
        return np.stack([starts, starts + self.size], 1)


def boxes_of(rows: Integers, columns: Integers) -> Integers:
    """Boxes (rows, columns, 4) of edges (rows, 2) and (columns, 2).

    Examples
    --------
    >>> boxes_of(Fields(-1, 2, 3).edges(1), Fields(0, 4, 4).edges(2)).tolist()
    [[[-1, 0, 2, 4], [-1, 4, 2, 8]]]
    """
    (top, bottom), (left, right) = rows.T, columns.T
    edges = np.broadcast_arrays(top[:, None], left, bottom[:, None], right)
    return np.stack(edges, -1)


def places_within(later: Fields, earlier: Fields) -> tuple[int, int, int]:
    """Places of an earlier map whose fields lie in the field of a place of a later one, along an axis.

    Returns
    -------
    ratio, first, n : int
        Those in the field of place p are ``p * ratio + first`` and those that follow, `n` of them.

    Raises
    ------
    ValueError
        If the fields of the later map do not lie the same way on all places of the earlier one.

    Examples
    --------
    >>> places_within(Fields(-3, 8, 27), Fields(0, 2, 7))
    (4, -1, 10)
    """
    if not earlier.stride or later.stride % earlier.stride:
        raise ValueError(
            f"fields that are {earlier.stride} px from each other do not fit into fields that are {later.stride} px "
            "apart: expected a divisor"
        )
    first = -((earlier.start - later.start) // earlier.stride)
    last = (later.start + later.size - earlier.size - earlier.start) // earlier.stride
    return later.stride // earlier.stride, first, max(0, last + 1 - first)


@dataclass(frozen=True)
class Cover:
    """Boxes that cover an image, in the order in which they were taken.

    Attributes
    ----------
    channels, rows, columns : int arrays (tiles,)
        Units: channel, and place in the map.
    values : float array (tiles,)
        Their shares, the largest first.
    boxes : int array (tiles, 4)
    """

    channels: Integers
    rows: Integers
    columns: Integers
    values: Array
    boxes: Integers


def cover(share: Array, boxes: Integers, size: tuple[int, int], overlap: float = 0.0) -> Cover:
    """Cover an image with the receptive fields of the units that respond most, one after the other.

    Parameters
    ----------
    share : float array (channels, rows, columns)
        At each place the channel with the largest counts, of equal ones the first; NaN and what is not above 0 do not.
    boxes : int array (rows, columns, 4)
        Those that stick out of the image are passed over.
    size : tuple of int
        Height and width.
    overlap : float
        Share of a box that may be covered before it is taken.

    Examples
    --------
    >>> share = np.array([[[0.2, 0.9, 0.0]], [[0.5, 0.1, 0.0]]])
    >>> boxes = np.array([[[0, 0, 2, 2], [0, 1, 2, 3], [0, 3, 2, 5]]])
    >>> found = cover(share, boxes, (2, 5))
    >>> found.channels, found.columns, found.values
    (array([0]), array([1]), array([0.9]))
    >>> cover(share, boxes, (2, 5), overlap=0.5).values
    array([0.9, 0.5])
    """
    (channel,), (value,) = pixel_view(share, 1)
    top, left, bottom, right = np.moveaxis(boxes, -1, 0)
    is_inside = (top >= 0) & (left >= 0) & (bottom <= size[0]) & (right <= size[1])
    taken = np.flatnonzero((is_inside & (value > 0)).ravel())
    order = taken[np.argsort(-value.ravel()[taken], kind="stable")]
    painted = np.zeros(size, np.bool_)
    kept = []
    for at, (first, start, last, stop) in zip(order, boxes.reshape(-1, 4)[order].tolist(), strict=True):
        field = painted[first:last, start:stop]
        if field.mean() <= overlap:
            field[:] = True
            kept.append(at)
    rows, columns = np.unravel_index(np.array(kept, np.int64), value.shape)
    return Cover(channel[rows, columns], rows, columns, value[rows, columns], boxes[rows, columns])


def collage(
    features: ArrayLike, boxes: Integers, size: tuple[int, int], ground: float = GROUND
) -> tuple[Array, NDArray[np.bool_]]:
    """Picture of Neuron Features in their boxes.

    Parameters
    ----------
    features : float array (tiles, height, width, colours)
        Of the size of the boxes; NaN leaves the ground.
    boxes : int array (tiles, 4)
        In the image. Where they overlap, the first is on top.
    size : tuple of int
    ground : float

    Returns
    -------
    picture : float array (height, width, colours)
    covered : bool array (height, width)

    Examples
    --------
    >>> boxes = np.array([[0, 0, 1, 2], [0, 1, 1, 3]])
    >>> picture, covered = collage(np.array([1.0, 0.0])[:, None, None, None] * np.ones((2, 1, 2, 1)), boxes, (1, 4))
    >>> picture.ravel(), covered.ravel()
    (array([1. , 1. , 0. , 0.5]), array([ True,  True,  True, False]))
    """
    features = np.asarray(features, dtype=np.float64)
    picture = np.full((*size, features.shape[-1]), ground)
    covered = np.zeros(size, np.bool_)
    for feature, (top, left, bottom, right) in zip(features[::-1], boxes[::-1].tolist(), strict=True):
        picture[top:bottom, left:right] = np.where(np.isnan(feature), ground, feature)
        covered[top:bottom, left:right] = True
    return picture, covered


@dataclass(frozen=True)
class Decomposition:
    """What units of an earlier layer do in the receptive field of a unit, over its top stimuli.

    Attributes
    ----------
    share, se : float arrays (channels, rows, columns)
        Mean over the stimuli in whose crop a place has its whole field, and its standard error over these.
    n : int array (rows, columns)
        Of these stimuli.
    """

    share: Array
    se: Array
    n: Integers


def decomposition_of(responses: Array, peak: Array, weights: Array) -> Decomposition:
    """Decomposition of a unit into units of an earlier layer.

    Parameters
    ----------
    responses : float array (N, channels, rows, columns)
        Of the earlier layer to the unit's top stimuli, at places that are counted from each crop's corner; NaN where
        the field of a place leaves the crop.
    peak : float array (channels,)
        Largest response of each channel to any image.
    weights : float array (N,)
        Of the stimuli: the unit's responses as shares of the largest.

    Notes
    -----
    D_k = mean over stimuli j of w_j min(a_k / a_max,k, 1).

    Examples
    --------
    >>> responses = np.array([[[[1.0, 6.0]]], [[[2.0, np.nan]]]])
    >>> found = decomposition_of(responses, np.array([4.0]), np.array([1.0, 0.5]))
    >>> found.share.ravel(), found.n.ravel()
    (array([0.25, 1.  ]), array([2, 1]))
    """
    values = weights[:, None, None, None] * np.minimum(relative_responses(responses, peak), 1)
    is_there = np.array(~np.isnan(responses).any(1))
    n = is_there.sum(0)
    there = is_there[:, None]
    total = np.where(there, values, 0).sum(0)
    mean = np.divide(total, n, out=np.full(total.shape, np.nan), where=n > 0)
    squares = np.where(there, (values - mean) ** 2, 0).sum(0)
    return Decomposition(mean, np.sqrt(_ratio(squares, n * (n - 1.0))), n)


def _ratio(above: Array, below: Array) -> Array:
    return np.divide(above, below, out=np.full(above.shape, np.nan), where=np.broadcast_to(below > 0, above.shape))
