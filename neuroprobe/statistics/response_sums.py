"""What is kept of the responses of channels to a stream of images: top stimuli, sums by class, and a sketch.

Images are in two halves, drawn by chance: what is chosen by one half can be scored by the other. All is added up, or
merged, over the halves for what concerns all images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from neuroprobe.statistics.class_selectivity import N_POWERS
from neuroprobe.statistics.plain_sums import PlainSums
from neuroprobe.statistics.sketch import N_BINS, count_bins
from neuroprobe.statistics.top_stimuli import NOTHING, TopStimuli

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
N_HALVES: Final = 2
MAX_SKETCHED: Final = 100  # classes that have a sketch each: of more only one of all images is kept


@dataclass(frozen=True)
class Responses:
    """Responses of channels to some images.

    Attributes
    ----------
    peak : float array (images, channels)
        Largest of each map.
    rows, columns : int arrays (images, channels)
        Where that is; of responses that are under `ResponseAccumulator.least` it does not matter.
    mean : float array (images, channels)
        Of each map.
    """

    peak: NDArray[np.floating]
    rows: NDArray[np.integer]
    columns: NDArray[np.integer]
    mean: NDArray[np.floating]


def n_sketches(n_classes: int) -> int:
    """Sketches of responses: one of each class, or of all images where there are many classes."""
    return n_classes if n_classes <= MAX_SKETCHED else 1


class ResponseAccumulator:
    """Takes in responses to images and gives out the states of each block.

    Parameters
    ----------
    n_units, n_kept, n_classes : int
        Channels, length N of their lists, classes of the images.

    Examples
    --------
    >>> accumulator = ResponseAccumulator(n_units=1, n_kept=2, n_classes=1)
    >>> values, places = np.array([[1.0], [3.0], [2.0]]), np.zeros((3, 1), np.int64)
    >>> numbers, zeros = np.arange(3), np.zeros(3, np.int64)
    >>> accumulator.update(Responses(values, places, places, values), numbers, zeros, zeros)
    >>> first, second, sums = accumulator.end_block()
    >>> first.images, sums["total"].ravel()
    (array([[1, 2]]), array([6., 0.]))
    """

    def __init__(self, n_units: int, n_kept: int, n_classes: int) -> None:
        self.n_units, self.n_kept, self.n_classes = n_units, n_kept, n_classes
        self._n_sketched = n_sketches(n_classes)
        self._waiting: list[tuple[Responses, Integers, Integers, Integers]] = []
        self.n_dropped = 0
        self._best = np.full((N_HALVES, n_units, n_kept), NOTHING)  # of all blocks so far

    @property
    def least(self) -> Array:
        """Responses that N images of each half are known to reach: (halves, units)."""
        return self._best[:, :, -1]

    def update(self, responses: Responses, images: Integers, half: Integers, target: Integers) -> None:
        """Take in responses to images of the classes `target`, each in the first (0) or second (1) half: (images,)."""
        self._waiting.append((responses, images, half, target))

    def end_block(self) -> tuple[TopStimuli, TopStimuli, PlainSums]:
        """Return the states of the block that ends here, and start the next one.

        Returns
        -------
        first, second : TopStimuli
            Of the halves.
        sums : PlainSums
            Of means of maps ``n`` (halves, classes), ``total`` (halves, classes, units), ``square`` (classes, units),
            rectified ``power`` (4, units); ``active`` images of each unit, ``counts`` (classes, units, bins) of the
            sketch, ``dropped`` images.

        Raises
        ------
        ResponseError
            If a response is not finite.
        """
        peak, rows, columns, mean = (
            np.concatenate([getattr(one, name) for one, *_ in self._waiting] or [np.empty((0, self.n_units))])
            for name in ("peak", "rows", "columns", "mean")
        )
        images, half, target = (
            np.concatenate([one[at] for one in self._waiting] or [np.empty(0, np.int64)]) for at in (1, 2, 3)
        )
        lists = []
        for number in range(N_HALVES):
            mine = half == number
            top = TopStimuli(self.n_units, self.n_kept, self.least[number].copy())
            top.update(peak[mine], images[mine], rows[mine], columns[mine])
            both = np.concatenate([self._best[number], top.values], axis=1)
            self._best[number] = -np.sort(-both, axis=1)[:, : self.n_kept]
            lists.append(top)
        sums = self._sums(mean.astype(np.float64), peak, half, target)
        self._waiting, self.n_dropped = [], 0
        return lists[0], lists[1], sums

    def _sums(self, mean: Array, peak: NDArray[np.floating], half: Integers, target: Integers) -> PlainSums:
        cell = half * self.n_classes + target
        in_cell = np.zeros((N_HALVES * self.n_classes, len(cell)))
        in_cell[cell, np.arange(len(cell))] = 1
        shape = N_HALVES, self.n_classes, self.n_units
        power = np.empty((N_POWERS, self.n_units))
        rectified = np.maximum(mean, 0)
        raised = np.ones_like(rectified)
        for number in range(N_POWERS):
            raised *= rectified
            power[number] = raised.sum(0)
        kept = target if self._n_sketched > 1 else np.zeros_like(target)
        return PlainSums(
            {
                "n": in_cell.sum(1).reshape(shape[:2]),
                "total": (in_cell @ mean).reshape(shape),
                "square": in_cell.reshape(N_HALVES, self.n_classes, -1).sum(0) @ mean**2,
                "power": power,
                "active": (peak > 0).sum(0).astype(np.float64),
                "counts": count_bins(mean, kept, self._n_sketched),
                "dropped": np.array([float(self.n_dropped)]),
            }
        )


def of_classes(sums: PlainSums, half: int | None = None) -> PlainSums:
    """Sums by class, as of `statistics.class_selectivity`: of one half, without squares, or of all images."""
    chosen = slice(None) if half is None else slice(half, half + 1)
    square = sums["square"] if half is None else np.full(sums["square"].shape, np.nan)
    found = {name: sums[name][chosen].sum(0) for name in ("n", "total")}
    return PlainSums(found | {"square": square, "power": sums["power"]})


def state_bytes(n_units: int, n_kept: int, n_classes: int) -> int:
    """Bytes of the states of a block."""
    lists = N_HALVES * n_kept * n_units * 4 * 8
    sums = (N_HALVES + 1) * n_classes * n_units + (N_POWERS + 1) * n_units + n_sketches(n_classes) * n_units * N_BINS
    return lists + 8 * sums
