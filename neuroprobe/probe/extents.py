"""Extents: which positions of every map on the way from an image to a layer a unit of the layer needs.

They are followed backwards from the layer, along one axis and for all units of a map together. What an operation reads
beyond a map is padding, which it has to put there by itself when it is given only a part of the map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuroprobe.probe.windows import Window

Positions = NDArray[np.int64]


class Cut(NamedTuple):
    """What an operation reads of the part of a map that is there: from `start` up to `stop`, and padding around it.

    Padding is negative where an operation reads padding alone: a position of the map is cut off again.
    """

    start: int
    stop: int
    before: int
    after: int


@dataclass(frozen=True, eq=False)
class Extents:
    """Parts of maps that the units of a layer need, along an axis.

    Attributes
    ----------
    start, stop : arrays (step, unit)
        Of the part of what each step makes.
    cuts : mapping of arrays (unit, 4)
        Number of a step, and of a step that it reads → `Cut` of that step's part.
    way : array (unit,)
        Units of the same number go the same way: parts of the same sizes, cut and padded alike.

    Examples
    --------
    A convolution of 3 positions behind another, over 8 pixels:

    >>> found = follow([(), (0,), (1,)], [Window(), Window(3, 1, 1), Window(3, 1, 1)], [8, 8, 8])
    >>> found.start[0], found.stop[0]
    (array([0, 0, 0, 1, 2, 3, 4, 5]), array([3, 4, 5, 6, 7, 8, 8, 8]))
    >>> found.cut(1, 0, 0), found.cut(2, 1, 0)
    (Cut(start=0, stop=3, before=1, after=0), Cut(start=0, stop=2, before=1, after=0))
    >>> found.way
    array([0, 1, 2, 2, 2, 2, 3, 4])
    """

    start: Positions
    stop: Positions
    cuts: dict[tuple[int, int], Positions]
    way: Positions = field(init=False)

    def __post_init__(self) -> None:
        sizes = (self.stop[0] - self.start[0])[:, None]
        _, first, way = np.unique(
            np.hstack([sizes, *self.cuts.values()]), axis=0, return_index=True, return_inverse=True
        )
        in_order = np.empty_like(first)
        in_order[np.argsort(first)] = np.arange(len(first))
        object.__setattr__(self, "way", in_order[way.reshape(-1)])

    def cut(self, reader: int, source: int, unit: int) -> Cut:
        """What a step reads of another's part on the way to a unit."""
        return Cut(*map(int, self.cuts[reader, source][unit]))


def follow(
    sources: Sequence[Sequence[int]],
    windows: Sequence[Window],
    sizes: Sequence[int],
    shown: tuple[Positions, Positions] | None = None,
) -> Extents:
    """Follow the units of a map back to the image.

    Parameters
    ----------
    sources : sequence of sequences of int
        Which steps each step reads, all before it; the first step is the image, the last one makes the map.
    windows : sequence of Window
        Through which it reads them.
    sizes : sequence of int
        Positions of the whole map that it makes.
    shown : pair of arrays (unit,), optional
        Start and stop of a part of the image that is to be there, needed or not.
    """
    start, stop = np.empty((2, len(sizes), sizes[-1]), dtype=np.int64)
    start[:], stop[:] = np.array(sizes)[:, None], 0
    start[-1], stop[-1] = np.arange(sizes[-1]), np.arange(sizes[-1]) + 1
    wanted = {}
    for step in reversed(range(len(sizes))):
        size, stride, pad = windows[step]
        for source in sources[step]:
            first, last = start[step] * stride - pad, (stop[step] - 1) * stride - pad + size
            # one position at least, of what reads padding alone
            low, high = np.clip(first, 0, sizes[source] - 1), np.clip(last, 1, sizes[source])
            start[source], stop[source] = np.minimum(start[source], low), np.maximum(stop[source], high)
            wanted[step, source] = first, low, high, last
    if shown is not None:
        start[0], stop[0] = np.minimum(start[0], shown[0]), np.maximum(stop[0], shown[1])
    cuts = {
        (step, source): np.stack([low - start[source], high - start[source], low - first, last - high], axis=1)
        for (step, source), (first, low, high, last) in wanted.items()
    }
    return Extents(start, stop, cuts)
