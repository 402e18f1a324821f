"""Packing: which rows of a design are presented together, in forward passes of one fixed size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from neuroprobe.design.pick_freeze import PickFreeze, Presentations
from neuroprobe.design.repeated import Repeated
from neuroprobe.design.treatment_control import TreatmentControl

Design = PickFreeze | TreatmentControl | Repeated
MAX_SAMPLES_PER_BATCH: Final = 64  # the statistics sum at most so many in float32


@dataclass(frozen=True)
class Pack:
    """Whole base samples that are presented in one forward pass, or one base sample in several.

    Attributes
    ----------
    start, stop : int
        Base samples, as positions in the piece.
    sample, row : int arrays
        The rows that are run, in order.
    index : int array (samples, rows of a base sample)
        Which of the rows that are run gives the response to each row.
    """

    start: int
    stop: int
    sample: NDArray[np.int64]
    row: NDArray[np.int64]
    index: NDArray[np.int64]


def packs(presentations: Presentations, batch: int) -> Iterator[Pack]:
    """Pack the base samples of a piece into forward passes, as many as fit into `batch` rows."""
    is_run, source = presentations.is_run, presentations.source
    n_run = is_run.sum(1)
    start = 0
    while start < len(n_run):
        stop, filled = start + 1, int(n_run[start])
        while stop < len(n_run) and filled + n_run[stop] <= batch and stop - start < MAX_SAMPLES_PER_BATCH:
            filled += int(n_run[stop])
            stop += 1
        run = is_run[start:stop]
        sample, row = np.nonzero(run)
        position = np.cumsum(run.ravel()).reshape(run.shape) - 1
        index = np.take_along_axis(position, source[start:stop], axis=1)
        yield Pack(start, stop, sample + start, row, index)
        start = stop


def most_rows(design: Design, piece: int, largest: int) -> int:
    """Rows of the largest forward pass that can be filled."""
    return min(largest, max(int(run.sum()) for run in first_runs(design, piece)))


def choose_batch(design: Design, piece: int, largest: int, fits: Callable[[int], bool] = lambda batch: True) -> int:
    """Rows of a forward pass: of the numbers from `largest` / 2 to `largest` that fit, the one that pads least."""
    runs = first_runs(design, piece)
    most = most_rows(design, piece, largest)
    candidates = [batch for batch in range(max(1, -(-most // 2)), most + 1) if fits(batch)] or [most]
    costs = [sum(n_passes(run, batch) for run in runs) * batch for batch in candidates]
    # the largest of the cheapest: fewer, fuller forward passes
    return max(batch for batch, cost in zip(candidates, costs, strict=True) if cost <= 1.01 * min(costs))


def first_runs(design: Design, piece: int) -> list[NDArray[np.int64]]:
    """Rows that are run of each base sample of the first two pieces."""
    return [design.presentations(start, start + piece).is_run.sum(1) for start in (0, piece)]


def n_passes(n_run: NDArray[np.int64], batch: int) -> int:
    """Forward passes of a piece; a base sample over `batch` rows takes several."""
    passes = filled = n_samples = 0
    for n in n_run.tolist():
        if filled + n > batch or n_samples == MAX_SAMPLES_PER_BATCH or not passes:
            passes += -(-n // batch)
            filled = n_samples = 0
        filled += n
        n_samples += 1
    return passes
