"""Responses of two recordings to the same stimuli, joined by what the stimuli are called."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.analysis.populations import STIMULI, Population, populations_of
from neuroprobe.comparison.spread import Block, Spread
from neuroprobe.errors import ReaderError, shown, unknown_name

Array = NDArray[np.float64]
N_LISTED: Final = 5  # stimuli that a message names
JOINS: Final = ("exact", "inner")


@dataclass(frozen=True)
class Side:
    """One recording, or the dissimilarities of one.

    Attributes
    ----------
    what : str
        For messages.
    populations : tuple of Population
        Empty where there are dissimilarities alone.
    rdms : xarray.Dataset, optional
        As `neuroprobe.recordings.read_rdms` gives them.
    on : str
        Column that tells stimuli apart.
    stimuli : tuple of str
        In the order in which they are first shown.
    spread : callable, optional
        Has workers do what takes all units.
    """

    what: str
    populations: tuple[Population, ...]
    rdms: xr.Dataset | None
    on: str
    stimuli: tuple[str, ...]
    spread: Spread | None = None

    def require_responses(self, metric: str) -> None:
        """Refuse dissimilarities alone.

        Raises
        ------
        ReaderError
        """
        if self.rdms is not None:
            raise ReaderError(
                f"{self.what}: {metric} needs responses, and these are dissimilarities: take metric='rsa'"
            )


def side_of(
    what: str, given: xr.DataTree | xr.Dataset, on: str | None, units: str | None, spread: Spread | None = None
) -> Side:
    """Look at one side of a comparison.

    Raises
    ------
    ReaderError
        If it is no recording, or nothing tells its stimuli apart.
    """
    if isinstance(given, xr.Dataset):
        if names.RDM not in given or names.STIMULUS_1 not in given.coords:
            raise ReaderError(f"{what}: a recording, or dissimilarities as `read_rdms` gives them; received a Dataset")
        labels = dict.fromkeys([*given[names.STIMULUS_1].values.tolist(), *given["stimulus_2"].values.tolist()])
        return Side(what, (), given, on or names.STIMULUS_ID, tuple(map(str, labels)))
    try:
        populations = populations_of(given, (), units)
    except ReaderError as error:
        raise ReaderError(f"{what}: {error}") from None
    table = populations[0].table
    column = on or next((name for name in STIMULI if name in table), None)
    if column is None or column not in table:
        raise ReaderError(
            f"{what}: which column of the presentation table tells stimuli apart? Say `on`; "
            + (unknown_name("column", column, list(table)) if column else f"there are {', '.join(table) or 'none'}")
        )
    shown_ = [str(value) for one in populations for value in one.table[column].tolist()]
    return Side(what, tuple(populations), None, column, tuple(dict.fromkeys(one for one in shown_ if one)), spread)


def by_area(side: Side, areas: str) -> dict[str, Side]:
    """Return a side for each area, whose populations are those of the nodes that it is in.

    Raises
    ------
    ReaderError
        If units have no such coordinate; or if there are no units.
    """
    if side.rdms is not None:
        raise ReaderError(f"{side.what}: areas are told by units, and these are dissimilarities: leave `areas` out")
    found: dict[str, list[Population]] = {}
    for one in side.populations:
        for area, part in one.split(areas).items():
            found.setdefault(area, []).append(part)
    return {area: replace(side, populations=tuple(parts)) for area, parts in sorted(found.items())}


def with_areas(side: Side, areas: str) -> Side:
    """Return a side whose populations are its areas, called by them, and by their node where an area is in several."""
    return replace(
        side,
        populations=tuple(
            replace(one, name=area if len(part.populations) == 1 else f"{area}, {one.name}")
            for area, part in by_area(side, areas).items()
            for one in part.populations
        ),
    )


def common_stimuli(model: Side, brain: Side, join: str) -> tuple[str, ...]:
    """Stimuli that both sides were shown, sorted.

    Raises
    ------
    ReaderError
        If either has others, under ``exact``; or there are fewer than 4.
    """
    if join not in JOINS:
        raise ReaderError(unknown_name("join", join, JOINS))
    both = sorted(set(model.stimuli) & set(brain.stimuli))
    alone = [
        f"{len(rest)} of the {len(one.stimuli)} stimuli of the {one.what} are not among the {other.what}'s "
        f"({', '.join(shown(name) for name in rest[:N_LISTED])}{', …' if len(rest) > N_LISTED else ''})"
        for one, other in ((model, brain), (brain, model))
        if (rest := [name for name in one.stimuli if name not in set(other.stimuli)])
    ]
    if alone and (join == "exact" or len(both) < 4):
        told = "; ".join(alone)
        if model.on != brain.on:
            told += f" (by {model.on!r} of the {model.what} and {brain.on!r} of the {brain.what})"
        raise ReaderError(
            f"stimuli do not match: {told}. Say `on` where another column names them, give labels to `read_rdms`, or "
            "take those that both have by join='inner'"
        )
    if len(both) < 4:
        raise ReaderError(f"{len(both)} stimuli are too few to compare: 4 or more")
    return tuple(both)


def index_of(population: Population, on: str, stimuli: Sequence[str]) -> NDArray[np.int64]:
    """Number of the stimulus of each presentation among those that are compared; -1 of others.

    Raises
    ------
    ReaderError
        If the population was not shown one of them.
    """
    number = {name: place for place, name in enumerate(stimuli)}
    index = np.array([number.get(str(value), -1) for value in population.table[on].tolist()], dtype=np.int64)
    missing = sorted(set(range(len(stimuli))) - set(index.tolist()))
    if missing:
        raise ReaderError(
            f"{population.name}: {len(missing)} of the {len(stimuli)} stimuli were not shown to these units "
            f"({', '.join(shown(stimuli[place]) for place in missing[:N_LISTED])}); choose units by `units_brain`"
        )
    return index


def blocks_of(population: Population, on: str, stimuli: Sequence[str], most: int | None = None) -> Iterator[Block]:
    """Responses to the stimuli that are compared, of some units at a time, before they are read."""
    index = index_of(population, on, stimuli)
    for units, part in population.parts(most=most):
        yield Block(population.name, units.start, part, index)


def mean_responses(population: Population, on: str, stimuli: Sequence[str], most: int | None = None) -> Iterator[Array]:
    """Mean responses (stimuli, units) over repetitions, of some units at a time.

    Raises
    ------
    ReaderError
        If a response is missing.
    """
    return (block.means() for block in blocks_of(population, on, stimuli, most))


def trials_of(population: Population, on: str, stimuli: Sequence[str]) -> Array | None:
    """Responses (repetitions, stimuli, units), as many as each stimulus has; None without repetitions."""
    index = index_of(population, on, stimuli)
    counts = np.bincount(index[index >= 0], minlength=len(stimuli))
    n = int(counts.min())
    if population.is_means or n < 2:
        return None
    values = population.whole().values
    rows = np.array([np.flatnonzero(index == place)[:n] for place in range(len(stimuli))])
    return np.asarray(values[rows.T])


def strata_of(population: Population, on: str, stimuli: Sequence[str], column: str | None) -> NDArray[Any] | None:
    """What each stimulus shows, where the presentation table says so."""
    if column is None:
        column = next((name for name in ("object_name", names.CLASS_LABEL) if name in population.table), None)
        if column is None:
            return None
    if column not in population.table:
        raise ReaderError(unknown_name("column", column, list(population.table)))
    index, values = index_of(population, on, stimuli), population.table[column]
    first = [int(np.flatnonzero(index == place)[0]) for place in range(len(stimuli))]
    strata = np.array([str(values[row]) for row in first], dtype=object)
    # a stratum of one stimulus cannot be split
    return strata if np.unique(strata, return_counts=True)[1].min() > 1 else None
