"""How much units rest on each channel of an earlier layer: their responses where that channel is 0.

After section 5 of Rafegas et al. 2019 (arXiv 1702.00382), who run the network once for each channel. Where a layer is a
convolution of the earlier one (with a normalisation and a rectifier behind it, and pools or a rectifier before it),
what each channel adds is read from one pass, and taken away from the sum: exact, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from neuroprobe.errors import SubjectError
from neuroprobe.probe.adjacent import Convolution, Pairs, find_convolution
from neuroprobe.probe.replaced import TOLERANCE, ReplacedPasses
from neuroprobe.statistics.relevance_tree import label_drop
from neuroprobe.statistics.unit_relations import Relevance, relevance_of

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
Load = Callable[[Integers], Tensor]
MAX_VALUES: Final = 2**24  # ablated responses that are kept at a time: 128 MiB
N_TRIAL: Final = 4  # images on which a cut network is compared with the whole one


@dataclass(frozen=True)
class Places:
    """Which images drive units, and where in the map of the layer.

    Attributes
    ----------
    units : int array (units,)
        Channels of the layer.
    images : int array (units, N)
        Their numbers.
    rows, columns : int arrays (units, N)
        0 where the layer has no map.
    """

    units: Integers
    images: Integers
    rows: Integers
    columns: Integers

    def part(self, start: int, stop: int) -> Places:
        """Return some of the units."""
        at = slice(start, stop)
        return Places(self.units[at], self.images[at], self.rows[at], self.columns[at])

    def batches(self, n: int) -> Iterator[tuple[Integers, Pairs]]:
        """Go through the distinct images, `n` at a time, with the pairs of a unit and one of these images."""
        distinct, image = np.unique(self.images, return_inverse=True)
        image = image.ravel()
        order = np.argsort(image, kind="stable")
        unit = np.repeat(self.units, self.images.shape[1])
        for start in range(0, len(distinct), n):
            first, last = np.searchsorted(image[order], [start, start + n])
            at = order[first:last]
            yield (
                distinct[start : start + n],
                Pairs(at, image[at] - start, unit[at], self.rows.ravel()[at], self.columns.ravel()[at]),
            )


@dataclass(frozen=True)
class ChannelRelevance:
    """Relevance of channels, and how it was found.

    Attributes
    ----------
    relevance : Relevance
        Arrays (channels of the earlier layer, units).
    closed_form : bool
        Whether all channels were read from one pass.
    why : str
        Why they were not.
    drop, dropped : float and int arrays (channels of the earlier layer, units), optional
        Of labels: the largest loss of a label's share of the response, and that label; -1 where none loses.
    """

    relevance: Relevance
    closed_form: bool
    why: str
    drop: Array | None = None
    dropped: Integers | None = None


def channel_relevance(
    network: nn.Module,
    layer: str,
    earlier: str,
    load: Load,
    places: Places,
    *,
    labels: Integers | None = None,
    batch: int = 32,
) -> ChannelRelevance:
    """Relevance of each channel of an earlier layer to units of a layer.

    Parameters
    ----------
    network : torch.nn.Module
        In eval mode.
    layer, earlier : str
        Addresses, of layers of the shape (channels,) or (channels, rows, columns).
    load : callable
        Numbers (n,) → images (n, 3, height, width), as the network expects them.
    places : Places
        The top stimuli of each unit.
    labels : int array (units, N), optional
        Of the stimuli: tells which label a unit loses most of with each channel.
    batch : int
        Images that are shown at a time.

    Raises
    ------
    UnknownNameError
        If there is no such layer.
    SubjectError
        If the layer does not depend on the earlier one, or either has another shape.

    See Also
    --------
    silenced_responses : The responses themselves.

    Examples
    --------
    >>> network = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.ReLU(), nn.Conv2d(2, 1, 1, bias=False), nn.ReLU())
    >>> for n, weight in ((0, [[1.0, 0, 0], [0, 1, 0]]), (2, [[3.0, -1]])):
    ...     network[n].weight.data = torch.tensor(weight)[..., None, None]
    >>> images = torch.ones(4, 3, 1, 1)
    >>> nowhere = np.zeros((1, 4), int)
    >>> places = Places(np.array([0]), np.arange(4)[None], nowhere, nowhere)
    >>> found = channel_relevance(network.eval(), "3", "1", lambda numbers: images[numbers], places)
    >>> found.relevance.signed.ravel(), found.closed_form
    (array([ 1. , -0.5]), True)
    """
    n_units, n = places.images.shape
    passes = passes_between(network, layer, earlier, load(np.unique(places.images)[:N_TRIAL]))
    convolution = find_convolution(network, layer, earlier, passes.shape)
    # as many units at a time as fit: images that drive units of several blocks are shown again
    step = max(1, MAX_VALUES // (passes.shape[0] * n))
    found, drops, why = [], [], ""
    for start in range(0, n_units, step):
        part = places.part(start, start + step)
        original, ablated, why = silenced_responses(passes, convolution, load, part, batch)
        found.append(relevance_of(original, ablated))
        if labels is not None:
            drops.append(label_drop(original, ablated, labels[start : start + step]))
    arrays = (np.concatenate(blocks, axis=1) for blocks in zip(*(vars(one).values() for one in found), strict=True))
    of_labels = (np.concatenate(blocks, axis=1) for blocks in zip(*drops, strict=True))
    return ChannelRelevance(Relevance(*arrays), not why, why, *of_labels)


def passes_between(network: nn.Module, layer: str, earlier: str, trial: Tensor) -> ReplacedPasses:
    """Forward passes from one layer to another, both of channels.

    Raises
    ------
    UnknownNameError, SubjectError
        As of `channel_relevance`.
    """
    passes = ReplacedPasses(network, earlier, trial, layer)
    with torch.no_grad():
        values = passes.before(trial)
        shape = passes.behind(values, values[0][None].clone()).shape[2:]
    for name, given in ((earlier, passes.shape), (layer, tuple(shape))):
        if len(given) not in {1, 3}:
            raise SubjectError(
                f"layer {name!r} gives {given} per image, expected (channels,) or (channels, rows, columns): take "
                "another"
            )
    return passes


def silenced_responses(
    passes: ReplacedPasses, convolution: Convolution | str, load: Load, places: Places, batch: int = 32
) -> tuple[Array, Array, str]:
    """Responses of units where each channel of an earlier layer is 0.

    Parameters
    ----------
    passes : ReplacedPasses
        From the earlier layer to that of the units.
    convolution : Convolution or str
        What lies between, as `find_convolution` tells it; of a string, the network runs once for each channel.
    load, places, batch
        As of `channel_relevance`.

    Returns
    -------
    original : float array (units, N)
    ablated : float array (channels, units, N)
    why : str
        Why the network ran once for each channel; empty where it did not.
    """
    original, ablated = np.empty(places.images.size), np.empty((passes.shape[0], places.images.size))
    why = convolution if isinstance(convolution, str) else ""
    if isinstance(convolution, Convolution):
        furthest = largest = 0.0
        for numbers, pairs in places.batches(batch):
            own, others, response = convolution.silenced(load(numbers), pairs)
            original[pairs.number], ablated[:, pairs.number] = own, others
            furthest = max(furthest, float(np.abs(own - response).max()))
            largest = max(largest, float(np.abs(response).max()))
        if not furthest <= TOLERANCE * largest:
            why = "the layer responds otherwise than the convolution that was found"
    if why:
        for numbers, pairs in places.batches(batch):
            original[pairs.number], ablated[:, pairs.number] = _one_by_one(passes, load(numbers), pairs, batch)
    shape = places.images.shape
    return original.reshape(shape), ablated.reshape(-1, *shape), why


def _one_by_one(passes: ReplacedPasses, images: Tensor, pairs: Pairs, batch: int) -> tuple[Array, Array]:
    """Responses as they are, and with each channel set to 0, of as many channels at a time as make a batch."""
    with torch.no_grad():
        values = passes.before(images)
        original = pairs.responses(passes.behind(values, values[0][None].clone()))
        n_channels, ablated = passes.shape[0], []
        step = max(1, batch // len(images))
        for start in range(0, n_channels, step):
            silent = torch.arange(start, min(start + step, n_channels), device=images.device)
            replaced = values[0].expand(len(silent), *values[0].shape).clone()
            replaced[torch.arange(len(silent), device=images.device), :, silent] = 0
            ablated.append(pairs.responses(passes.behind(values, replaced)))
    return original[0], np.concatenate(ablated)
