"""Responses of a layer's units to crops of images that hold just what a unit sees.

A unit's response is had from the crop alone: the network is run as far as the layer, on the part of every map that the
unit needs, and every operation pads a part only on the sides where it ends with the map. That is exact at the border of
the image too, and takes a fraction of the time of whole images where fields are small.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from neuroprobe import names
from neuroprobe.design.randomness import keys
from neuroprobe.errors import SubjectError, reason
from neuroprobe.probe.capture import Probe, find_sites
from neuroprobe.probe.lesion import INTACT, Lesion
from neuroprobe.probe.passage import Impassable, Passage
from neuroprobe.probe.receptive_field import ReceptiveField, receptive_fields
from neuroprobe.probe.sites import Site
from neuroprobe.protocol.subject import LayerSpec

TOLERANCE: Final = 1e-2  # of a layer's largest response, by which responses to crops may differ when they are tried


class CropPasses:
    """Forward passes of crops up to a layer.

    What a crop holds is what a unit sees, so an altered crop has the response of the altered crop in its image. Where
    that cannot be had (a unit sees the whole image, or an operation is not known to do the same on a part of a map),
    crops are whole images, and `why` says so. Crops are tried against whole images at the border and inside, so that a
    network that does something else than its graph says is shown whole images too.

    Parameters
    ----------
    network : torch.nn.Module
        In eval mode, without hooks of its own: one with hooks is shown whole images.
    layer : str
        Address, as `neuroprobe.probe.capture` knows it.
    image : tensor (1, channels, height, width)
        As the network expects it, on its device; its values do not matter.
    lesion : Lesion, optional
        Masks at and before the layer multiply the parts of maps that they lie on.

    Attributes
    ----------
    field : ReceptiveField
        Known, possibly, where crops are whole images all the same.
    whole_image : bool
        Whether crops are whole images.
    why : str
        What makes it so.
    n_channels : int
    map_shape : tuple of int, optional
        Rows and columns of the layer's map. None of a layer that gives vectors, which has one place, (0, 0); a token
        of one that gives tokens is at (token, 0).

    Raises
    ------
    UnknownNameError
        If there is no such layer, or several of the name.
    SubjectError
        If the layer gives no tensor of units, is not made of the image, or a lesion does not fit.

    Examples
    --------
    >>> network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)).eval()
    >>> image = torch.rand(1, 3, 16, 16)
    >>> passes = CropPasses(network, "2", image)
    >>> rows, columns = [0, 3, 4], [2, 1, 5]
    >>> passes.boxes(rows, columns)
    array([[ 0,  3,  4,  8],
           [ 5,  1, 10,  6],
           [ 7,  9, 12, 14]])
    >>> passes.groups(rows, columns)
    [array([1, 2]), array([0])]
    >>> crops = torch.cat([image[:, :, 5:10, 1:6], image[:, :, 7:12, 9:14]])
    >>> torch.allclose(passes.responses(crops, [3, 4], [1, 5])[1], network(image)[0, :, 4, 5])
    True
    >>> CropPasses(nn.Sequential(network, nn.Flatten()), "1", image).why
    "layer '1' (Flatten) reads all positions together"
    """

    def __init__(self, network: nn.Module, layer: str, image: Tensor, lesion: Lesion = INTACT) -> None:
        self._network, self._lesion = network, lesion
        self._size = (int(image.shape[-2]), int(image.shape[-1]))
        (self._site,) = find_sites(network, [LayerSpec(name=layer)], image)
        dims = self._site.dims
        self.n_channels = self._site.shape[dims.index(names.CHANNEL)]
        self.map_shape: tuple[int, int] | None = None
        if dims[1:] == (names.Y, names.X):
            self.map_shape = self._site.shape[1], self._site.shape[2]
        self.field: ReceptiveField = receptive_fields(network, [layer], image)[layer]
        self._passage, self.why = self._find_passage(image)
        self.whole_image = self._passage is None

    def _find_passage(self, image: Tensor) -> tuple[Passage | None, str]:
        """Return the way of crops, or why there is none."""
        noise = _noise(image)
        whole = _whole_response(self._network, self._site, noise, self._lesion)  # tells what is wrong with a lesion
        if self.field.whole_image or self.field.measured:
            return None, self.field.why
        if self.map_shape is None:
            return None, f"layer {self._site.name!r} gives no maps"
        try:
            passage = Passage(self._network, self._site.name, image, self.field, self._lesion)
            self._try(passage, noise, whole)
        except Impassable as error:
            return None, str(error)
        return passage, ""

    def _try(self, passage: Passage, noise: Tensor, whole: Tensor) -> None:
        """Compare responses to crops with those to whole images, at corners, edges and inside."""
        rows, columns = (sorted({0, n // 2, n - 1}) for n in whole.shape[-2:])
        scale = float(torch.nan_to_num(whole).abs().max())
        for row, column in ((row, column) for row in rows for column in columns):
            at = np.full(len(noise), row), np.full(len(noise), column)
            top, left, bottom, right = (int(edge[0]) for edge in _boxes(passage, *at).T)
            try:
                with torch.no_grad():
                    found = passage.respond(noise[..., top:bottom, left:right], *at)
            except Exception as error:  # of operations of a user's, which expect whole maps
                raise Impassable(f"the forward pass fails on crops: {reason(error)}") from error
            expected = whole[:, :, row, column]
            if not torch.allclose(found, expected, rtol=0, atol=TOLERANCE * scale, equal_nan=True):
                raise Impassable(
                    f"units at row {row}, column {column} respond otherwise to a crop than to the whole image: the "
                    "network does something else on parts of maps"
                )

    def boxes(self, rows: ArrayLike, columns: ArrayLike) -> NDArray[np.int64]:
        """Parts of the image that crops have to hold: what units see of it, at least a pixel.

        Parameters
        ----------
        rows, columns : arrays (n,)
            Places in the layer's map.

        Returns
        -------
        array (n, 4)
            Top, left, bottom, right; bottom and right are not in it.
        """
        at = self._places(rows, columns)
        if self._passage is None:
            return np.tile(np.array([0, 0, *self._size]), (len(at[0]), 1))
        return _boxes(self._passage, *at)

    def groups(self, rows: ArrayLike, columns: ArrayLike) -> list[NDArray[np.int64]]:
        """Sort places into groups whose crops have one size and one way through the network: each can be a batch.

        Parameters
        ----------
        rows, columns : arrays (n,)

        Returns
        -------
        list of arrays
            Numbers of places, the largest group first.
        """
        at_rows, at_columns = self._places(rows, columns)
        if not len(at_rows):
            return []
        if self._passage is None:
            return [np.arange(len(at_rows))]
        ways = np.stack([self._passage.rows.way[at_rows], self._passage.columns.way[at_columns]])
        _, way, counts = np.unique(ways, axis=1, return_inverse=True, return_counts=True)
        in_order = np.argsort(way.reshape(-1), kind="stable")
        found = np.split(in_order, np.cumsum(counts)[:-1])
        return sorted(found, key=len, reverse=True)

    def responses(self, crops: Tensor, rows: ArrayLike, columns: ArrayLike) -> Tensor:
        """Responses of all channels at a place, to a crop each.

        Parameters
        ----------
        crops : tensor (n, channels, height, width)
            As the network expects images, on its device; whole images where `whole_image` is true.
        rows, columns : arrays (n,)
            Places, of one of the `groups`.

        Returns
        -------
        tensor (n, n_channels)

        Raises
        ------
        SubjectError
            If the places are of several groups, or crops do not hold what `boxes` tells.
        """
        at_rows, at_columns = self._places(rows, columns)
        size = self._checked(at_rows, at_columns)
        if len(crops) != len(at_rows) or (size and tuple(crops.shape[-2:]) != size):
            raise SubjectError(
                f"layer {self._site.name!r}: received crops of {tuple(crops.shape)} for {len(at_rows)} places, "
                f"expected {len(at_rows)} of {' × '.join(map(str, size))} px: cut them out at `boxes`"
            )
        if not size:
            return crops.new_empty((0, self.n_channels))
        if self._passage is not None:
            with torch.no_grad():
                return self._passage.respond(crops, at_rows, at_columns)
        return _whole_response(self._network, self._site, crops, self._lesion, (at_rows, at_columns))

    def _checked(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> tuple[int, ...]:
        """Height and width of the crops of places of one group; nothing where there are no places."""
        if self._passage is not None:
            ways = {len(np.unique(one)) for one in (self._passage.rows.way[rows], self._passage.columns.way[columns])}
            if max(ways) > 1:
                raise SubjectError(
                    f"layer {self._site.name!r}: received places of several groups, expected one: the way through the "
                    "network differs between them; take one of `groups` at a time"
                )
        if not len(rows):
            return ()
        top, left, bottom, right = self.boxes(rows[:1], columns[:1])[0]
        return int(bottom - top), int(right - left)

    def _places(self, rows: ArrayLike, columns: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        shape = self.map_shape or ((self._site.shape[0], 1) if len(self._site.dims) == 2 else (1, 1))
        found = np.asarray(rows, dtype=np.int64), np.asarray(columns, dtype=np.int64)
        if any(one.ndim != 1 or len(one) != len(found[0]) for one in found):
            raise SubjectError(
                f"layer {self._site.name!r}: received rows and columns of shapes {found[0].shape} and "
                f"{found[1].shape}, expected two arrays (n,)"
            )
        for one, n, what in zip(found, shape, ("row", "column"), strict=True):
            if np.any((one < 0) | (one >= n)):
                wrong = int(one[(one < 0) | (one >= n)][0])
                raise SubjectError(f"layer {self._site.name!r} has {what}s 0 to {n - 1}, received {wrong}")
        return found


def _boxes(passage: Passage, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.int64]:
    down, across = passage.rows, passage.columns
    edges = (down.start[0][rows], across.start[0][columns], down.stop[0][rows], across.stop[0][columns])
    return np.stack(edges, axis=1)


def _noise(image: Tensor) -> Tensor:
    """Two images of noise, which no unit takes for another's."""
    generator = torch.Generator().manual_seed(int(keys(0, "noise that crops are tried on", 0)) % 2**63)
    return torch.randn(2, *image.shape[1:], generator=generator).to(image)


def _whole_response(
    network: nn.Module,
    site: Site,
    images: Tensor,
    lesion: Lesion,
    at: Sequence[NDArray[np.int64]] | None = None,
) -> Tensor:
    """Response of a layer to whole images: all of it, or (n, channels) at a place for each image."""
    found: list[Tensor] = []

    def take(_: Site, response: Tensor) -> None:
        if at is None or response.ndim == 2:
            found.append(response.clone())  # the network may overwrite it
            return
        numbers, rows, columns = (torch.as_tensor(one, device=response.device) for one in (np.arange(len(images)), *at))
        found.append(response[numbers, rows] if response.ndim == 3 else response[numbers, :, rows, columns])

    with Probe(network, [site], lesion) as probe:
        probe.record(images, take)
    return found[0]
