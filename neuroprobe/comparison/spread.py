"""Blocks of the units of a side, of which what is wanted of all units is summed: here, or on workers side by side.

A block is a part of a recording on a disk, which is read where it is taken in; sums are added in the order of blocks,
so that they have the same bits wherever blocks were taken in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol, Self, TypeVar

import dask
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroprobe.analysis.populations import Population, read
from neuroprobe.errors import ReaderError

Array = NDArray[np.float64]
UNITS_AT_A_TIME: Final = 4096
# (function, its arguments of each call) → what calls return, in their order
Spread = Callable[[Callable[..., Any], Iterable[tuple[Any, ...]]], Iterator[Any]]


S = TypeVar("S", bound="Sum")


class Sum(Protocol):
    """Something that is summed over units."""

    def merge(self, other: Any) -> None:
        """Add that of other units."""


def here(function: Callable[..., Any], given: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
    """Call a function in this process."""
    return (function(*one) for one in given)


@dataclass(frozen=True)
class Block:
    """Responses of some units of a population, which are read when they are asked for.

    Attributes
    ----------
    population : str
        Name of it.
    start : int
        Number of the first unit.
    responses : xarray.Variable
        ``(presentation, unit)``.
    index : int array (presentations,)
        Number of the stimulus of each, -1 of those that are not compared.
    """

    population: str
    start: int
    responses: xr.Variable
    index: NDArray[np.int64]

    def means(self) -> Array:
        """Mean responses (stimuli, units) over repetitions.

        Raises
        ------
        ReaderError
            If a response is missing.
        """
        means = means_of(read(self.responses), self.index)
        if np.isnan(means).any():
            unit = int(np.flatnonzero(np.isnan(means).any(0))[0]) + self.start
            raise ReaderError(
                f"{self.population}: unit {unit} has no response to some stimulus; leave it out by `units`"
            )
        return means

    def packed(self) -> Self:
        """Return the same, with no more than what it is read by, to be sent."""
        (responses,) = dask.optimize(self.responses)
        return replace(self, responses=responses)


def means_of(values: Array, index: NDArray[np.int64]) -> Array:
    """Means (stimuli, units) over the presentations of each stimulus, each shown once or more; NaN counts for none.

    Sums of sorted rows: a product with a table of who was shown when would take stimuli × presentations.
    """
    shown = np.flatnonzero(index >= 0)
    order = shown[np.argsort(index[shown], kind="stable")]
    sorted_, starts = values[order], np.unique(index[order], return_index=True)[1]
    if len(starts) == len(order):
        return sorted_
    missing = np.isnan(sorted_)
    if not missing.any():
        return np.asarray(np.add.reduceat(sorted_, starts) / np.diff(starts, append=len(order))[:, None])
    n = np.add.reduceat((~missing).astype(np.int64), starts)
    total = np.add.reduceat(np.where(missing, 0, sorted_), starts)
    return np.asarray(total / np.where(n > 0, n, np.nan))


def calls_of(spread: Spread | None, function: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> Iterator[Any]:
    """Call a function of blocks, and of what else there is, on workers where all blocks are on a disk."""
    is_stored = all(is_lazy(one) for call in calls for given in call for one in _blocks(given))
    if spread is None or len(calls) < 2 or not is_stored:
        return here(function, calls)
    return spread(function, (tuple(map(_packed, call)) for call in calls))


def is_lazy(block: Block) -> bool:
    """Whether a block is read when it is asked for."""
    return block.responses.chunks is not None


def _blocks(given: Any) -> tuple[Block, ...]:
    if isinstance(given, Block):
        return (given,)
    return tuple(one for one in given if isinstance(one, Block)) if isinstance(given, tuple) else ()


def _packed(given: Any) -> Any:
    if isinstance(given, Block):
        return given.packed()
    return tuple(map(_packed, given)) if isinstance(given, tuple) else given


def sums_of(
    spread: Spread | None,
    function: Callable[..., S],
    populations: Sequence[Population],
    blocks: Callable[[Population], Iterable[Block]],
    *given: Any,
) -> Iterator[tuple[Population, S]]:
    """Sum what a function makes of each block, for one population after the other.

    Parameters
    ----------
    spread : callable, optional
        Of workers.
    function : callable
        (block, …) → what is summed.
    populations : sequence of Population
    blocks : callable
        Population → its blocks.
    *given
        What else the function takes.
    """
    of_each = [list(blocks(one)) for one in populations]
    found = calls_of(spread, function, [(block, *given) for some in of_each for block in some])
    for population, some in zip(populations, of_each, strict=True):
        total = next(found)
        for _ in some[1:]:
            total.merge(next(found))
        yield population, total
        del total
