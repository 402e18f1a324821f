"""Pick-freeze designs: for each base sample two points A and B, and points between them, with factors from either.

Rows of one base sample, in this order: A, B, and for Sobol's indices ``A_<factor>`` (A with that factor from B,
Saltelli's AB_i) for each factor and, with `second_order`, ``B_<factor>`` (BA_i); see Saltelli et al. 2010,
doi:10.1016/j.cpc.2009.09.018. For Shapley effects then ``walk_<k>``, A with the first k factors of a permutation from
B: the inner points of one walk from A to B, without those that are rows already; see Goda 2021,
doi:10.1016/j.ress.2020.107382. Each base sample has a permutation of its own. With `subsets` instead every mixture of
few factors: the rows of Sobol's indices, none of them twice, then ``A_<factor>+<factor>``.

Inputs may depend on each other: see `neuroprobe.design.dependence`. Where these belong to several factors, only walks
have rows of which Shapley effects can be made, and a row that takes factors from B draws them anew given the others.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from neuroprobe import names
from neuroprobe.design.dependence import GaussianCopula
from neuroprobe.design.factors import Array, Factor, Input
from neuroprobe.design.nested_images import LEVELS, NestedImages
from neuroprobe.design.randomness import generator, keys

MAX_ENUMERATED = 4  # factors of which all subsets are shown
HALF_STEP = 2.0**-31  # scipy's points are multiples of 2⁻³⁰ from 0: centred, no law is asked for its value at 0 or 1


@dataclass(frozen=True)
class Presentations:
    """The rows of consecutive base samples: what is presented, and which rows need not be run.

    Attributes
    ----------
    roles : tuple of str
        Names of the rows of a base sample.
    sample : int array (n,)
        Index of each base sample.
    image : int array (n, rows)
        Index of the image of each row.
    key : int array (n, rows)
        Random key of each row, for alterations that draw at random.
    values : dict of float array (n, rows)
        Value of every input, by name.
    source : int array (n, rows)
        The first row of the same base sample that shows the same stimulus; its response is reused.
    walk : int array (n, d + 1), optional
        The row of each point of the walk from A to B.
    order : int array (n, d), optional
        The factors in the order in which the walk swaps them.
    design : str
        Name of the design.
    single : int array (n, 2 + d or 2 + 2d), optional
        The rows that Sobol's indices are made of: A, B, each A_<factor> and, with second order, each B_<factor>.
    mixtures : int array (n, 2^d), optional
        The rows that components are made of: A, B, then those that take from B the factors i of which bit i of the
        number is 1, in the order of these numbers.
    """

    roles: tuple[str, ...]
    sample: NDArray[np.int64]
    image: NDArray[np.int64]
    key: NDArray[np.int64]
    values: dict[str, Array]
    source: NDArray[np.int64]
    walk: NDArray[np.int64] | None = None
    order: NDArray[np.int64] | None = None
    design: str = names.PICK_FREEZE
    single: NDArray[np.int64] | None = None
    mixtures: NDArray[np.int64] | None = None

    @property
    def of_sobol(self) -> NDArray[np.int64]:
        """Rows that Sobol's indices are made of: `single`."""
        if self.single is None:
            raise ValueError("these base samples have no rows with single factors swapped")
        return self.single

    @property
    def of_subsets(self) -> NDArray[np.int64]:
        """Rows that components are made of: `mixtures`."""
        if self.mixtures is None:
            raise ValueError("these base samples have no rows with all subsets of the factors swapped")
        return self.mixtures

    @property
    def steps(self) -> NDArray[np.int64]:
        """Rows that Shapley effects are made of (n, 2 + 2d): A, B, before and after the walk swaps each factor."""
        if self.walk is None or self.order is None:
            raise ValueError("these base samples have no walks")
        place = self.order.argsort(1)
        before, after = (np.take_along_axis(self.walk, place + step, axis=1) for step in (0, 1))
        ends = np.broadcast_to([0, 1], (len(self.walk), 2))
        return np.concatenate([ends, before, after], axis=1)

    @property
    def is_run(self) -> NDArray[np.bool_]:
        """Rows that have to be presented (n, rows)."""
        return self.source == np.arange(len(self.roles))


@dataclass(frozen=True)
class ImageGroups:
    """Groups of images without common members: each block of base samples shows one of them, so it replicates images.

    Attributes
    ----------
    block : int
        Base samples of a block.
    n_groups : int
        Number of blocks that have a group; at most the number of images.
    """

    block: int
    n_groups: int


@dataclass(frozen=True)
class PickFreeze:
    """A pick-freeze design of which any range of base samples can be generated by itself.

    Parameters
    ----------
    factors : tuple of Factor
        At least one; each with at least one varying input.
    seed : int
        Every draw is a function of it.
    n_images : int
        Number of images that are shown.
    second_order : bool
        Whether each factor is also swapped in point B: 2d + 2 rows instead of d + 2.
    scramble : int or None
        Length of the runs of base samples that have a scramble of their own; None for one scrambled sequence.
    redrawn : bool
        Whether every row shows an image of its own.
    groups : ImageGroups, optional
        Where each block of base samples shows images that no other block shows.
    nested : NestedImages, optional
        Where levels of the set of images are factors. An image whose rank is none has one rank per base sample.
    single : bool
        Whether there are rows with single factors swapped, as Sobol indices need.
    walks : bool
        Whether there are the rows of a walk from A to B, as Shapley effects need: d - 3 more with second order, d - 2
        without; d - 1 where there are no rows with single factors swapped.
    subsets : bool
        Whether there are rows with all subsets of the factors swapped, those with single factors among them.
    copula : GaussianCopula, optional
        How some of the varying inputs depend on each other.

    Raises
    ------
    ValueError
        If all subsets of too many factors, or rows that take independent factors, are asked for.
    """

    factors: tuple[Factor, ...]
    seed: int
    n_images: int
    second_order: bool = True
    scramble: int | None = None
    redrawn: bool = False
    groups: ImageGroups | None = None
    nested: NestedImages | None = None
    single: bool = True
    walks: bool = False
    subsets: bool = False
    copula: GaussianCopula | None = None

    def __post_init__(self) -> None:
        if self.subsets and (self.walks or len(self.factors) > MAX_ENUMERATED):
            raise ValueError(
                f"all subsets take up to {MAX_ENUMERATED} factors and hold every walk: received {len(self.factors)} "
                f"factors with walks={self.walks}; take walks alone for more"
            )
        unknown = set(self.copula.inputs if self.copula else ()) - {item.name for item in self._varying}
        if unknown:
            raise ValueError(f"no inputs that vary: {', '.join(sorted(unknown))}")
        if self.dependent and (self.single or self.subsets):
            listed = "; ".join(" and ".join(group) for group in self.dependent)
            raise ValueError(f"rows with single factors swapped take independent factors; dependent: {listed}")

    @cached_property
    def dependent(self) -> tuple[tuple[str, ...], ...]:
        """Groups of factors that depend on each other."""
        owner = {item.name: factor.name for factor in self.factors for item in factor.inputs}
        return () if self.copula is None else self.copula.groups(owner)

    @cached_property
    def roles(self) -> tuple[str, ...]:
        """Names of the rows of a base sample."""
        return (*self._fixed, *(names.walk(k) for k in self._inner))

    @cached_property
    def _inner(self) -> range:
        """Lengths of the stretches of a walk that end in rows of their own."""
        if not self.walks:
            return range(0)
        d = len(self.factors)
        # the first step ends in A with one factor swapped, the last begins at B with one
        return range(2 if self.single else 1, d - 1 if self.single and self.second_order else d)

    @property
    def n_rows(self) -> int:
        """Rows of a base sample."""
        return len(self.roles)

    @cached_property
    def _of_sobol(self) -> dict[str, tuple[bool, ...]]:
        """Rows that Sobol's indices are made of, with the factors that they take from point B."""
        labels = [factor.name for factor in self.factors]
        rows = {"A": (False,) * len(labels), "B": (True,) * len(labels)}
        rows |= {names.altered_by_b("A", one): tuple(one == label for label in labels) for one in labels}
        if self.second_order:
            rows |= {names.altered_by_b("B", one): tuple(one != label for label in labels) for one in labels}
        return rows

    @cached_property
    def _fixed(self) -> dict[str, tuple[bool, ...]]:
        """All rows but those of walks, with the factors that they take from point B."""
        if not self.subsets:
            return self._of_sobol if self.single else {role: self._of_sobol[role] for role in ("A", "B")}
        labels = [factor.name for factor in self.factors]
        several = itertools.chain(*(itertools.combinations(labels, k) for k in range(2, len(labels))))
        rows = self._of_sobol | {
            names.altered_by_b("A", *chosen): tuple(label in chosen for label in labels) for chosen in several
        }
        first = {chosen: role for role, chosen in reversed(rows.items())}
        return {role: chosen for role, chosen in rows.items() if first[chosen] == role}

    @cached_property
    def _rows_of_sobol(self) -> NDArray[np.int64] | None:
        """Rows that Sobol's indices are made of; among all subsets of one or two factors some of them are the same."""
        if not (self.single or self.subsets):
            return None
        roles, swapped = list(self._fixed), list(self._fixed.values())
        found = self._of_sobol.items()
        return np.array([roles.index(role) if role in self._fixed else swapped.index(chosen) for role, chosen in found])

    @cached_property
    def _rows_of_subsets(self) -> NDArray[np.int64] | None:
        """Rows that components are made of."""
        if not self.subsets:
            return None
        number = np.array(list(self._fixed.values())) @ (1 << np.arange(len(self.factors)))
        return np.array([0, 1, *number.argsort()[1:-1]])

    def from_b(self, sample: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which row takes which factor from point B (n, rows, factors)."""
        rows = np.array(list(self._fixed.values()))
        fixed = np.broadcast_to(rows, (len(sample), *rows.shape))
        if not self.walks:
            return fixed
        place = self.order(sample).argsort(1)
        walked = place[:, None, :] < np.array(self._inner, dtype=np.int64)[:, None]
        return np.concatenate([fixed, walked], axis=1)

    def order(self, sample: NDArray[np.int64]) -> NDArray[np.int64]:
        """Permutations of the factors, one per base sample (n, d), all equally likely."""
        d = len(self.factors)
        # not from the sequence: permutations taken from it would be confounded with its points
        return keys(self.seed, "permutation", sample[:, None] * d + np.arange(d)).argsort(1)

    def _walk(self, order: NDArray[np.int64]) -> NDArray[np.int64]:
        """Row of each point of the walks (n, d + 1)."""
        n, d = order.shape
        walk = np.empty((n, d + 1), dtype=np.int64)
        walk[:, self._inner.start : self._inner.stop] = np.arange(len(self._fixed), self.n_rows)
        if self.single and self.second_order:
            walk[:, d - 1] = 2 + d + order[:, -1]
        if self.single:
            walk[:, 1] = 2 + order[:, 0]
        walk[:, 0], walk[:, d] = 0, 1
        return walk

    @cached_property
    def _varying(self) -> tuple[Input, ...]:
        return tuple(item for factor in self.factors for item in factor.varying)

    def presentations(self, start: int, stop: int) -> Presentations:
        """Generate the rows of the base samples `start` to `stop` (excluded).

        The same sample is the same in every range that holds it.
        """
        sample = np.arange(start, stop)
        values = self._values(self._points(start, stop), self.from_b(sample))
        image = self._images(sample, values)
        return Presentations(
            roles=self.roles,
            sample=sample,
            image=image,
            # rows of a base sample share their noise
            key=keys(self.seed, "presentation", sample)[:, None].repeat(self.n_rows, axis=1),
            values=values,
            source=self._source(values, image),
            walk=self._walk(self.order(sample)) if self.walks else None,
            order=self.order(sample) if self.walks else None,
            single=self._every(self._rows_of_sobol, len(sample)),
            mixtures=self._every(self._rows_of_subsets, len(sample)),
        )

    @staticmethod
    def _every(rows: NDArray[np.int64] | None, n_samples: int) -> NDArray[np.int64] | None:
        """The same rows of every base sample."""
        return None if rows is None else np.broadcast_to(rows, (n_samples, len(rows)))

    def _points(self, start: int, stop: int) -> Array:
        """Points A and B side by side (n, 2p), from one sequence of 2p dimensions."""
        if self.scramble is None:
            engine = self._engine(0)
            if start:
                engine.fast_forward(start)
                return np.asarray(engine.random(stop - start) + HALF_STEP)
            # scipy warns of a first draw that is no power of two; any range of the sequence may be asked for here
            balanced = 1 << max(0, stop - 1).bit_length()
            return np.asarray(engine.random(balanced)[:stop] + HALF_STEP)
        pieces = [np.empty((0, 2 * len(self._varying)))]
        for run in range(start // self.scramble, -(-stop // self.scramble)):
            first = run * self.scramble
            piece = self._engine(run).random(self.scramble)
            pieces.append(piece[max(start - first, 0) : stop - first])
        return np.concatenate(pieces) + HALF_STEP

    def _engine(self, run: int) -> qmc.Sobol:
        return qmc.Sobol(2 * len(self._varying), scramble=True, rng=generator(self.seed, "scramble", run))

    def _values(self, points: Array, from_b: NDArray[np.bool_]) -> dict[str, Array]:
        """Value of every input in each row (n, rows)."""
        a, b = (
            {item.name: u for item, u in zip(self._varying, half.T, strict=True)} for half in np.split(points, 2, 1)
        )
        linked = self._linked(a, b, from_b)
        values = {}
        for index, factor in enumerate(self.factors):
            swapped = from_b[:, :, index]
            for item in factor.inputs:
                if item.name in linked:
                    values[item.name] = item.law.ppf(linked[item.name])
                else:
                    nothing = np.zeros(len(points))
                    one, other = (item.law.ppf(end.get(item.name, nothing))[:, None] for end in (a, b))
                    values[item.name] = np.where(swapped, other, one)
        return values

    def _linked(self, a: dict[str, Array], b: dict[str, Array], from_b: NDArray[np.bool_]) -> dict[str, Array]:
        """Quantiles of the inputs that depend on others (n, rows)."""
        if self.copula is None:
            return {}
        owner = {item.name: (index, item.law) for index, factor in enumerate(self.factors) for item in factor.inputs}
        factor = [owner[name][0] for name in self.copula.inputs]
        u_a, u_b = (np.stack([end[name] for name in self.copula.inputs], axis=1) for end in (a, b))
        quantiles = np.moveaxis(self.copula.quantiles(u_a, u_b, from_b[:, :, factor]), 2, 0)
        # a positive correlation with a switch means: on where the other is high
        return {
            name: 1 - u if owner[name][1].falls else u for name, u in zip(self.copula.inputs, quantiles, strict=True)
        }

    def _images(self, sample: NDArray[np.int64], values: dict[str, Array]) -> NDArray[np.int64]:
        shape = (len(sample), self.n_rows)
        if self.nested is not None:
            return self.nested.images({names.pick(names.IMAGE): self._ranks(sample)[:, None], **values})
        if names.IMAGE in values:
            return values[names.IMAGE].astype(np.int64)
        if self.redrawn:
            row = sample[:, None] * self.n_rows + np.arange(self.n_rows)
            return keys(self.seed, "image of a row", row) % self.n_images
        if self.groups is None:
            image = self._in_cycles(sample, np.arange(self.n_images))
        else:
            image = np.empty(len(sample), dtype=np.int64)
            block = sample // self.groups.block
            for one in np.unique(block).tolist():
                members = self._members(one, self.groups.n_groups)
                image[block == one] = self._in_cycles(sample[block == one] - one * self.groups.block, members, one)
        return np.broadcast_to(image[:, None], shape).copy()

    def _ranks(self, sample: NDArray[np.int64]) -> Array:
        """Numbers in [0, 1) that pick an image within its class, one per base sample, balanced over them."""
        assert self.nested is not None
        n = self.nested.n_ranks
        # uniform within its stretch: classes of other sizes have other stretches
        return (self._in_cycles(sample, np.arange(n)) + keys(self.seed, "rank of the image", sample) / 2.0**63) / n

    def _members(self, group: int, n_groups: int) -> NDArray[np.int64]:
        """Images of a group; groups are equally large, to one image."""
        order = generator(self.seed, "groups of images").permutation(self.n_images)
        return order[group * self.n_images // n_groups : (group + 1) * self.n_images // n_groups]

    def _in_cycles(self, place: NDArray[np.int64], members: NDArray[np.int64], *group: int) -> NDArray[np.int64]:
        """Deal some images out to the places of base samples, each once in every cycle."""
        image = np.empty(len(place), dtype=np.int64)
        cycle, place = np.divmod(place, len(members))
        for one in np.unique(cycle).tolist():
            # in another order each time: n mod M would show an image the same stretch of the sequence again and again
            order = generator(self.seed, "order of images", *group, one).permutation(len(members))
            image[cycle == one] = members[order[place[cycle == one]]]
        return image

    def _source(self, values: dict[str, Array], image: NDArray[np.int64]) -> NDArray[np.int64]:
        """First row of each base sample that shows the same stimulus as each row (n, rows)."""
        if self.redrawn:
            return np.broadcast_to(np.arange(self.n_rows), image.shape).copy()
        one, other = ({name: np.expand_dims(value, axis) for name, value in values.items()} for axis in (2, 1))
        # other numbers may pick the same image
        picking = {names.pick(level) for level in LEVELS}
        altering = [factor for factor in self.factors if picking.isdisjoint(item.name for item in factor.inputs)]
        same_image = image[:, :, None] == image[:, None, :]
        equal = np.logical_and.reduce([same_image, *(factor.same(one, other) for factor in altering)])
        return np.asarray(equal.argmax(-1), dtype=np.int64)


def is_power_of_two(number: int) -> bool:
    """Whether `number` is 1, 2, 4, 8, ..."""
    return number > 0 and number & (number - 1) == 0


def block_length(samples: int, scramble: int | str, n_blocks: int = 16) -> tuple[int, int | None]:
    """Length of the blocks that carry the standard errors, and of the scrambles, for a first run.

    Parameters
    ----------
    samples : int
        Number of base samples of the first run.
    scramble : int, "whole" or "auto"
        As in a protocol's ``design.scramble``.
    n_blocks : int
        Blocks that ``auto`` makes, where there are samples enough.

    Returns
    -------
    block, scramble : int, int or None
        With ``whole`` the scramble is None, and blocks of 64 serve for an upper bound of the errors.
        ``auto`` takes max(64, samples / n_blocks). Under 128 samples, blocks are half of the samples.
    """
    half = max(1, 1 << max(0, samples.bit_length() - 2))
    if scramble == "whole":
        return min(64, half), None
    if scramble == "auto":
        length = min(half, max(64, 1 << max(0, (samples // n_blocks).bit_length() - 1)))
        return length, length
    return int(scramble), int(scramble)
