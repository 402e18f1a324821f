"""Single trials of every population of a recording, of an animal or a network, as statistics on trials take them.

A population is a node of a recording: units that were recorded together, or a layer. Its presentations are trials of
conditions, which are what one factor, or several together, were set to.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.analysis.expression import kind_of
from neuroprobe.analysis.query import parse_query
from neuroprobe.analysis.units import to_units
from neuroprobe.design.randomness import generator
from neuroprobe.errors import ReaderError, unknown_name
from neuroprobe.statistics.conditions import Curves, curves_of

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

PIECE_BYTES: Final = 128 << 20  # of responses that are in memory at a time
MEANS: Final = "means"  # value of the attribute `responses` of condition means
COUNTS: Final = "spikes"  # units of responses that add up over bins of time
ROUNDING: Final = 1e-5  # relative: of float32, what one and the same stimulus may differ by in other batches
N_COLUMNS: Final = 20  # that a message lists
STIMULI: Final = (names.STIMULUS_ID, names.IMAGE_ID)  # what conditions are where nothing is said


@dataclass(frozen=True)
class Conditions:
    """Conditions of the presentations of one population.

    Attributes
    ----------
    index : int array (presentations,)
        From 0; -1 where a factor has no value, as of blanks and controls.
    labels : tuple of tuples
        Of each condition the values of the factors; in their order.
    """

    index: Integers
    labels: tuple[tuple[Any, ...], ...]

    @cached_property
    def n(self) -> Integers:
        """Presentations of each condition."""
        return np.bincount(self.index[self.index >= 0], minlength=len(self.labels)).astype(np.int64)


@dataclass(frozen=True)
class Piece:
    """Trials of some units of a population: ``values`` are (trials, units), or (trials, bins of time, units)."""

    population: Population
    units: slice
    values: Array

    @cached_property
    def curves(self) -> Curves:
        """Means, variances and numbers of trials of the conditions."""
        conditions = self.population.conditions
        return curves_of(self.values, conditions.index, len(conditions.labels))

    @cached_property
    def shown_curves(self) -> Curves:
        """The same; of responses that are means over trials already with the numbers of these, and without errors."""
        counts = self.population.table.get(names.N_TRIALS)
        if counts is None:
            return self.curves
        conditions = self.population.conditions
        n = np.zeros(len(conditions.labels), dtype=np.int64)
        inside = conditions.index >= 0
        np.add.at(n, conditions.index[inside], counts[inside].astype(np.int64))
        mean = self.curves.mean
        return Curves(np.where(self.curves.n > 0, n[:, None], 0), mean, np.full(mean.shape, np.nan))

    @property
    def is_noisy(self) -> bool:
        """Whether responses to one condition differ, by more than a network's do from batch to batch."""
        known = ~np.isnan(self.values)
        square = np.where(known, self.values, 0) ** 2
        square = square.sum(0) / np.maximum(known.sum(0), 1)
        return bool((self.curves.variance > ROUNDING**2 * square).any())

    @property
    def is_constant(self) -> NDArray[np.bool_]:
        """Whether all responses of a unit are the same, or none is known (units,)."""
        values = self.values[self.population.conditions.index >= 0]
        known = ~np.isnan(values)
        least = np.min(values, axis=0, where=known, initial=np.inf)
        return np.asarray(~(np.max(values, axis=0, where=known, initial=-np.inf) > least))

    @property
    def varies(self) -> bool:
        """Whether any response differs from another one of its unit."""
        return not bool(self.is_constant.all())

    @property
    def arguments(self) -> tuple[Array, Integers, int]:
        """What tests on trials take: values, conditions, number of conditions."""
        conditions = self.population.conditions
        return self.values, conditions.index, len(conditions.labels)


@dataclass(frozen=True)
class Population:
    """Units that were recorded together.

    Attributes
    ----------
    name : str
        Of the node.
    place : int
        In the recording.
    dataset : Dataset
        ``response(presentation, unit[, time_bin])``, ``baseline`` where there is one, coordinates of units.
    table : dict of arrays
        The presentation table.
    factors : tuple of str
    conditions : Conditions
    """

    name: str
    place: int
    dataset: xr.Dataset
    table: dict[str, NDArray[Any]]
    factors: tuple[str, ...]
    conditions: Conditions

    @property
    def n_units(self) -> int:
        """Number of units."""
        return int(self.dataset.sizes[names.UNIT])

    @property
    def is_means(self) -> bool:
        """Whether responses are means over trials already."""
        attrs = self.dataset[names.RESPONSE].attrs
        return attrs.get("responses") == MEANS or names.N_TRIALS in self.table

    @property
    def are_counts(self) -> bool:
        """Whether responses are numbers of spikes."""
        return self.dataset[names.RESPONSE].attrs.get("units") == COUNTS

    @property
    def repeats(self) -> bool:
        """Whether any condition was shown more than once."""
        return bool((self.conditions.n > 1).any())

    def of_factor(self, factor: str) -> Population:
        """Return the same units, with conditions that one factor alone makes up."""
        n = self.dataset.sizes[names.PRESENTATION]
        return replace(self, factors=(factor,), conditions=_conditions(self.name, n, self.table, (factor,)))

    def split(self, column: str) -> dict[str, Population]:
        """Return the units with each value of a coordinate of theirs, such as ``region``.

        Raises
        ------
        ReaderError
            If units have no such coordinate.
        """
        known = [str(name) for name, coord in self.dataset.coords.items() if coord.dims == (names.UNIT,)]
        if column not in known:
            raise ReaderError(f"{self.name}: {unknown_name('coordinate of units', column, known)}")
        values = [str(value) for value in self.dataset[column].values.tolist()]
        labels, index = np.unique(values, return_inverse=True)
        return {
            str(label): replace(self, dataset=self.dataset.isel({names.UNIT: np.flatnonzero(index == place)}))
            for place, label in enumerate(labels)
        }

    def random(self, seed: int, purpose: str) -> np.random.Generator:
        """Return a generator that is the same for all units of the population, however they are read."""
        return generator(seed, purpose, self.place)

    def pieces(self, variable: str = names.RESPONSE, most: int | None = None) -> Iterator[Piece]:
        """Read trials of some units at a time, of `most` at most, in bins of time summed (rates: averaged)."""
        for units, part in self.parts(variable, most):
            yield Piece(self, units, read(part))

    def parts(self, variable: str = names.RESPONSE, most: int | None = None) -> Iterator[tuple[slice, xr.Variable]]:
        """Give the same trials (trials, units), with the numbers of their units, before they are read."""
        array = self.dataset[variable]
        if names.TIME_BIN in array.dims:
            array = array.sum(names.TIME_BIN, skipna=False) if self.are_counts else array.mean(names.TIME_BIN)
        yield from self._parts(array.variable.transpose(names.PRESENTATION, names.UNIT), most)

    def courses(self) -> Iterator[Piece]:
        """Read trials in bins of time (trials, bins, units)."""
        array = self.dataset[names.RESPONSE].variable
        for units, part in self._parts(array.transpose(names.PRESENTATION, names.TIME_BIN, names.UNIT), None):
            yield Piece(self, units, read(part))

    def whole(self) -> Piece:
        """Read the trials of all units together."""
        (piece,) = self.pieces(most=max(self.n_units, 1))
        return piece

    def _parts(self, array: xr.Variable, most: int | None) -> Iterator[tuple[slice, xr.Variable]]:
        per_unit = 8 * max(1, array.size // max(self.n_units, 1))
        width = max(1, PIECE_BYTES // per_unit) if most is None else most
        for start in range(0, self.n_units, width):
            units = slice(start, min(start + width, self.n_units))
            yield units, array.isel({names.UNIT: units})


def read(part: xr.Variable) -> Array:
    """Read responses; what is not finite is missing."""
    values = np.asarray(part.values, dtype=np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def populations_of(
    recording: xr.DataTree, factors: Sequence[str] | str | None = None, units: str | None = None
) -> list[Population]:
    """Populations of a recording, with the conditions that factors make up.

    Parameters
    ----------
    recording : xarray.DataTree
        As `neuroprobe.read_recording` or `neuroprobe.open_recording` gives it.
    factors : str or sequence of str, optional
        Columns of the presentation table. By default those that the attribute ``factors`` names, or else
        ``stimulus_id`` or ``image_id``.
    units : str, optional
        Which units, in the language of `neuroprobe.select_units` over their coordinates: ``"region == 'MT'"``.

    Raises
    ------
    ReaderError
        If this is no recording, a factor is no column, or no unit is chosen.
    """
    if names.RESPONSES not in recording.children or not recording[names.RESPONSES].children:
        raise ReaderError(
            f"no group {names.RESPONSES!r} in this tree (it has: {', '.join(recording.children) or 'none'}); take what "
            "`read_recording` or `open_recording` gives"
        )
    root = {str(name): coord.values for name, coord in recording.to_dataset().coords.items()}
    flat = {}
    for name, node in recording[names.RESPONSES].children.items():
        dataset = node.to_dataset(inherit=False)
        own = {str(n): c.values for n, c in dataset.coords.items() if c.dims == (names.PRESENTATION,)}
        bare = dataset.drop_vars([n for n, c in dataset.coords.items() if names.PRESENTATION in c.dims])
        flat[name] = ({**root, **own}, to_units(bare, name))
    chosen = _factors(recording, next(iter(flat.values()))[0], factors)
    found = [
        Population(
            name, place, dataset, table, chosen, _conditions(name, dataset.sizes[names.PRESENTATION], table, chosen)
        )
        for place, (name, (table, dataset)) in enumerate(flat.items())
    ]
    return found if units is None else _chosen_units(found, units)


def _factors(
    recording: xr.DataTree, table: dict[str, NDArray[Any]], given: Sequence[str] | str | None
) -> tuple[str, ...]:
    if isinstance(given, str):
        return (given,)
    if given is not None:
        return tuple(given)
    recorded = json.loads(recording.attrs.get(names.FACTORS, "[]"))
    # those of a network's protocol are alterations, whose parameters are columns
    if recorded and set(recorded) <= set(table):
        return tuple(recorded)
    for name in STIMULI:
        if name in table:
            return (name,)
    raise ReaderError(f"which columns of the presentation table are the factors? Say `factors`: {_listed(table)}")


def _listed(table: dict[str, NDArray[Any]]) -> str:
    more = f", … ({len(table)} in all)" if len(table) > N_COLUMNS else ""
    return ", ".join(list(table)[:N_COLUMNS]) + more if table else "there are none"


def _conditions(where: str, n: int, table: dict[str, NDArray[Any]], factors: tuple[str, ...]) -> Conditions:
    """Sort `n` presentations by the values of all factors together; without factors they are of one condition."""
    known, columns, index = np.ones(n, dtype=np.bool_), [], np.zeros(n, dtype=np.int64)
    for factor in factors:
        if factor not in table:
            raise ReaderError(f"{where}: {unknown_name('factor', factor, list(table))}")
        column = table[factor]
        if column.dtype.kind in "OUT":
            column = np.array([str(value) for value in column.tolist()], dtype=object)
            known &= column != ""
        else:
            known &= np.isfinite(column.astype(np.float64))
        columns.append(column)
        there, at = np.unique(column, return_inverse=True)
        # in the order of the first factor, then of the next
        index = np.unique(index * len(there) + at, return_inverse=True)[1]
    rows = np.flatnonzero(known)
    _, first, at = np.unique(index[rows], return_index=True, return_inverse=True)
    found = np.full(n, -1, dtype=np.int64)
    found[rows] = at
    return Conditions(
        found,
        tuple(
            tuple(column[row].item() if hasattr(column[row], "item") else column[row] for column in columns)
            for row in rows[first]
        ),
    )


def _chosen_units(populations: list[Population], query: str) -> list[Population]:
    condition = parse_query(query)
    places = [
        {str(n): c.values for n, c in one.dataset.coords.items() if c.dims == (names.UNIT,)} for one in populations
    ]
    condition.check({n: kind for of in places for n, c in of.items() if (kind := kind_of(c.dtype))})
    found = []
    for one, of in zip(populations, places, strict=True):
        true = np.flatnonzero(np.broadcast_to(condition.evaluate(of).true, one.n_units))
        if len(true):
            found.append(replace(one, dataset=one.dataset.isel({names.UNIT: true})))
    if not found:
        n_units = sum(one.n_units for one in populations)
        raise ReaderError(f"units: none of the {n_units:,} recorded units is chosen by {query!r}; loosen the condition")
    return found


def require_trials(populations: Sequence[Population], what: str) -> None:
    """Refuse means over trials, of which nothing about trials can be told.

    Raises
    ------
    ReaderError
    """
    means = [one.name for one in populations if one.is_means]
    if means:
        raise ReaderError(
            f"{what} needs single trials, and {means[0]!r} holds the means of conditions ({names.N_TRIALS} trials "
            "each): read the single trials where the file has them (`trials`); tuning curves need none"
        )


def require_repeats(populations: Sequence[Population], what: str) -> None:
    """Refuse recordings without a condition that was shown more than once; and means over trials.

    Raises
    ------
    ReaderError
    """
    require_trials(populations, what)
    if not any(one.repeats for one in populations):
        first = populations[0]
        raise ReaderError(
            f"{what} needs conditions that were shown more than once, and none of the {len(first.conditions.labels)} "
            f"of {', '.join(first.factors)} was: show stimuli repeatedly (a network without noise gives the same "
            "response each time: give it some by `subject: {noise: …}`), or take other factors"
        )


class Noise:
    """Looks, piece by piece, whether responses to one condition differ at all."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._seen = self._varies = False

    def look(self, piece: Piece) -> None:
        """Take note of a piece."""
        self._seen = self._seen or piece.is_noisy
        self._varies = self._varies or piece.varies

    def require(self) -> None:
        """Refuse responses that are the same in each repetition, as those of deterministic networks are.

        Raises
        ------
        ReaderError
        """
        if self._varies and not self._seen:
            raise ReaderError(
                f"{self._what} compares conditions with the noise of trials, and here every repetition of a condition "
                "has the same response, as of a network without noise: give it some by `subject: {noise: …}`, or take "
                "factors whose conditions are of several stimuli, such as class_label"
            )
