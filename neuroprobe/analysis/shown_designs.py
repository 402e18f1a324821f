"""Pick-freeze designs as they were shown to an animal: in any order, rows once or repeatedly, some trials lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.analysis.populations import Population
from neuroprobe.errors import ReaderError

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
BLOCK: Final = "block"  # attribute of what a run recorded of a network
N_LISTED: Final = 12  # roles or factors that a message lists
LEAST_SAMPLES: Final = 2
MOST_ENUMERATED: Final = 4  # factors of which all orders are taken, where all their subsets were shown


@dataclass(frozen=True)
class ShownDesign:
    """Where the rows of the base samples are among the presentations of a population.

    Attributes
    ----------
    factors : tuple of str
    place : dict
        Factors that are taken from point B, by number → row.
    trial : int array (repetitions, samples, rows)
        Presentation of each row of each whole base sample.
    walk, order : int arrays (samples, d + 1) and (samples, d), optional
        The row of each point of the walk from A to B, and the factors in the order in which it swaps them.
    sample : int array (samples,)
        Numbers of the base samples.
    n_left_out : int
        Base samples of which a row is missing, or was shown less often than those of others.
    """

    factors: tuple[str, ...]
    place: Mapping[frozenset[int], int]
    trial: Integers
    walk: Integers | None
    order: Integers | None
    sample: Integers
    n_left_out: int

    @property
    def n_repetitions(self) -> int:
        """Repetitions of each row."""
        return len(self.trial)

    @property
    def _all(self) -> frozenset[int]:
        return frozenset(range(len(self.factors)))

    @property
    def has_single(self) -> bool:
        """Whether there are the rows of Sobol's indices: each factor alone from B, and each alone from A."""
        each = [frozenset({one}) for one in self._all]
        return all(one in self.place and self._all - one in self.place for one in each)

    @property
    def has_subsets(self) -> bool:
        """Whether all mixtures of few factors were shown."""
        d = len(self.factors)
        mixtures = [frozenset(chosen) for k in range(d + 1) for chosen in combinations(range(d), k)]
        return d <= MOST_ENUMERATED and all(one in self.place for one in mixtures)

    @property
    def shares_rows(self) -> bool:
        """Whether A with one factor from B is B with the other one from A: of two factors."""
        return len(self.factors) == 2

    def of_sobol(self, values: Array) -> tuple[Array, Array, Array, Array]:
        """Return a, b, e, c of `neuroprobe.statistics.cross_repeat` from responses (trials, units)."""
        each = [frozenset({one}) for one in sorted(self._all)]

        def row(chosen: frozenset[int]) -> Array:
            return values[self.trial[:, :, self.place[chosen]]]

        e, c = (np.stack([row(one) for one in rows]) for rows in (each, [self._all - one for one in each]))
        return row(frozenset()), row(self._all), e, c

    def of_walks(self, values: Array) -> tuple[Array, Integers, Integers]:
        """Return walks, permutations, and the base sample of each walk; of all subsets, one walk for each order."""
        n = len(self.sample)
        if self.has_subsets:
            orders = np.array(list(permutations(range(len(self.factors)))), dtype=np.int64)
            points = [[self.place[frozenset(one[:k])] for k in range(len(one) + 1)] for one in orders.tolist()]
            trial = np.concatenate([self.trial[:, :, rows] for rows in points], axis=1)
            return np.moveaxis(values[trial], 2, 0), np.repeat(orders, n, axis=0), np.tile(np.arange(n), len(orders))
        assert self.walk is not None
        assert self.order is not None
        trial = np.take_along_axis(self.trial, self.walk[None], axis=2)
        return np.moveaxis(values[trial], 2, 0), self.order, np.arange(n)


def _listed(words: Sequence[str]) -> str:
    more = f", … ({len(words)} in all)" if len(words) > N_LISTED else ""
    return ", ".join(words[:N_LISTED]) + more


def is_shown(recording: xr.DataTree) -> bool:
    """Whether rows of a pick-freeze design were presented repeatedly, or in another order than a network's are."""
    if names.RESPONSES not in recording.children or BLOCK in recording.attrs:
        return False
    nodes = [node.to_dataset() for node in recording[names.RESPONSES].children.values()]
    tables = nodes if not recording.to_dataset().coords else nodes[:1]
    return any(_is_mixed(table) for table in tables)


def _is_mixed(table: xr.Dataset) -> bool:
    if names.ROLE not in table.coords or names.SAMPLE not in table.coords:
        return False
    role, sample = table[names.ROLE].values.astype(object), table[names.SAMPLE].values
    if not len(sample):
        return False
    if (role == names.CONTROL).any():
        return False
    if sample.dtype.kind == "f" or (role == "").any() or (np.diff(sample) < 0).any():
        return True
    n_rows = int((sample == sample[0]).sum())
    if len(role) % n_rows or len(set(role[:n_rows].tolist())) < n_rows:
        return True
    return bool((role.reshape(-1, n_rows) != role[:n_rows]).any())


def shown_design(one: Population, factors: Sequence[str] = ()) -> ShownDesign:
    """Find the rows of a design among the presentations of a population.

    Parameters
    ----------
    one : Population
    factors : sequence of str
        Their order, where it is told.

    Raises
    ------
    ReaderError
        If the table tells no rows of a design, or too few base samples are whole.
    """
    role, sample = _columns(one)
    known = np.isfinite(sample) & (role != "")
    roles = list(dict.fromkeys(sorted(role[known].tolist())))
    swapped = _swapped(one, roles, factors)
    there, at = np.unique(sample[known].astype(np.int64), return_inverse=True)
    number = {name: place for place, name in enumerate(roles)}
    cell = at * len(roles) + np.array([number[name] for name in role[known]], dtype=np.int64)
    n = np.bincount(cell, minlength=len(there) * len(roles)).reshape(len(there), len(roles)).min(1)
    # repetitions count where they leave most base samples, and else all that were shown once do
    once, twice = int((n >= 1).sum()), int((n >= 2).sum())
    kept = n >= (2 if twice >= max(LEAST_SAMPLES, once / 2) else 1)
    if kept.sum() < LEAST_SAMPLES:
        raise ReaderError(
            f"{one.name}: of {len(there)} base samples {int(kept.sum())} were shown with all rows ({_listed(roles)}); "
            f"indices need {LEAST_SAMPLES} or more"
        )
    first = np.flatnonzero(known)[np.argsort(cell, kind="stable")]
    start = np.searchsorted(np.sort(cell), np.arange(len(there) * len(roles))).reshape(len(there), len(roles))
    trial = np.stack([first[start[kept] + repetition] for repetition in range(int(n[kept].min()))])
    place = {taken: number[name] for name in roles if (taken := _from_b(one, name, swapped)) is not None}
    walk, order = _walks(one, swapped, place, number, trial[0])
    return ShownDesign(swapped, place, trial, walk, order, there[kept], int((~kept).sum()))


def _columns(one: Population) -> tuple[NDArray[Any], Array]:
    lacking = [name for name in (names.ROLE, names.SAMPLE) if name not in one.table]
    if lacking:
        raise ReaderError(f"{one.name}: the presentation table has no {' and no '.join(map(repr, lacking))}")
    role = np.array([str(value) for value in one.table[names.ROLE].tolist()], dtype=object)
    return role, one.table[names.SAMPLE].astype(np.float64)


def _swapped(one: Population, roles: Sequence[str], factors: Sequence[str]) -> tuple[str, ...]:
    """Factors of the design, by the rows that swap one each."""
    prefix = names.altered_by_b("A", "")
    alone = {role.removeprefix(prefix) for role in roles if role.startswith(prefix) and "+" not in role}
    if set(factors) >= alone and ("A" in roles and "B" in roles) and factors:
        # walks alone name no factor
        found = [name for name in factors if name in alone] if alone else list(factors)
    else:
        found = sorted(alone)
    if not found or not {"A", "B"} <= set(roles):
        raise ReaderError(
            f"{one.name}: rows {_listed(roles)} are none of a pick-freeze design: A, B, and A with each factor from B"
        )
    return tuple(found)


def _from_b(one: Population, role: str, factors: Sequence[str]) -> frozenset[int] | None:
    """Factors that a row takes from point B; None of those along walks."""
    every = frozenset(range(len(factors)))
    if role in ("A", "B"):
        return every if role == "B" else frozenset()
    point, _, swapped = role.partition("_")
    chosen = [swapped] if swapped in factors else swapped.split("+")
    if point in ("A", "B") and set(chosen) <= set(factors):
        taken = frozenset(list(factors).index(name) for name in chosen)
        return taken if point == "A" else every - taken
    if point == names.walk(0).partition("_")[0] and swapped.isdecimal():
        return None
    raise ReaderError(f"{one.name}: the row {role!r} swaps none of the factors {_listed(factors)}")


def _walks(
    one: Population,
    factors: tuple[str, ...],
    place: Mapping[frozenset[int], int],
    number: Mapping[str, int],
    trial: Integers,
) -> tuple[Integers | None, Integers | None]:
    """Rows along the walk of each base sample, and the factors that it swaps, as the columns of factors tell."""
    d, n = len(factors), len(trial)
    inner = {k: number[names.walk(k)] for k in range(1, d) if names.walk(k) in number}
    has_ends = all(frozenset({f}) in place and frozenset(range(d)) - {f} in place for f in range(d))
    if not inner or not all(k in inner or (has_ends and k in (1, d - 1)) for k in range(1, d)):
        return None, None
    ends = place[frozenset()], place[frozenset(range(d))]
    group, is_alike = _groups(one, factors, trial, ends, inner)
    order = _orders(one, group, is_alike, np.diff([0, *sorted(inner), d]))
    walk = np.empty((n, d + 1), dtype=np.int64)
    walk[:, 0], walk[:, d] = ends
    for k in range(1, d):
        chosen = [
            frozenset({f}) if k == 1 else frozenset(range(d)) - {f} for f in order[:, 0 if k == 1 else -1].tolist()
        ]
        walk[:, k] = inner[k] if k in inner else [place[one_of] for one_of in chosen]
    return walk, order


def _groups(
    one: Population, factors: Sequence[str], trial: Integers, ends: tuple[int, int], inner: Mapping[int, int]
) -> tuple[Integers, NDArray[np.bool_]]:
    """Between which rows of a walk each factor is swapped (samples, factors), and whether it is the same in A and B."""
    group = np.full((len(trial), len(factors)), len(inner), dtype=np.int64)
    is_alike = np.ones(group.shape, dtype=np.bool_)
    for factor, columns in enumerate(_columns_of(one, factors)):
        of_a, of_b = ([column[trial[:, row]] for column in columns] for row in ends)
        is_alike[:, factor] = _same(of_a, of_b)
        for place, k in reversed(list(enumerate(sorted(inner)))):
            is_b = _same([column[trial[:, inner[k]]] for column in columns], of_b)
            group[:, factor] = np.where(is_b, place, group[:, factor])
    return group, is_alike


def _orders(one: Population, group: Integers, is_alike: NDArray[np.bool_], sizes: NDArray[Any]) -> Integers:
    """Order in which walks swap factors.

    Where two are swapped between one row and the next, both orders have their rows, and one is drawn; likewise for
    factors that are the same in A and B, which change nothing wherever they come.
    """
    random = one.random(0, "orders of walks")
    orders = []
    for groups, alike in zip(group, is_alike, strict=True):
        parts = [np.flatnonzero((groups == number) & ~alike).tolist() for number in range(len(sizes))]
        left = random.permutation(np.flatnonzero(alike)).tolist()
        for part, size in zip(parts, sizes.tolist(), strict=True):
            part += [left.pop() for _ in range(min(len(left), size - len(part)))]
            if len(part) != size:
                raise ReaderError(
                    f"{one.name}: the columns of factors do not go with the rows along walks: {len(part)} factors are "
                    f"swapped where {size} should be; give the columns as they were shown"
                )
        orders.append([int(factor) for part in parts for factor in random.permutation(part)])
    return np.array(orders, dtype=np.int64)


def _columns_of(one: Population, factors: Sequence[str]) -> list[list[NDArray[Any]]]:
    """Columns of each factor: of its name, or of its parameters (``hue_shift``, ``hue_on``)."""
    found: dict[str, list[NDArray[Any]]] = {name: [] for name in factors}
    for name, column in one.table.items():
        owners = [factor for factor in factors if name == factor or name.startswith(f"{factor}_")]
        if owners:
            found[max(owners, key=len)].append(column)
    lacking = [name for name, columns in found.items() if not columns]
    if lacking:
        raise ReaderError(
            f"{one.name}: rows along walks swap one factor after the other, and no column tells the values of "
            f"{_listed(lacking)}: give the table the columns of the set that was shown (`stimuli`)"
        )
    return [found[name] for name in factors]


def _same(some: Sequence[NDArray[Any]], others: Sequence[NDArray[Any]]) -> NDArray[np.bool_]:
    """Where all columns are equal; NaN equals NaN."""
    equal = [(a == b) | ((a != a) & (b != b)) for a, b in zip(some, others, strict=True)]
    return np.asarray(np.all(equal, axis=0), dtype=np.bool_)
