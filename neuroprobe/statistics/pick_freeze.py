"""Streaming Sobol indices: sums of products of differences over the rows of pick-freeze designs.

With p_i = A_i − A and q_i = B_i − B (rows of `neuroprobe.design.pick_freeze`), and d factors:

    first-order variance   −½ E[p_i q_i]            total variance      ¼ E[p_i² + q_i²]
    second-order variance   ½ E[p_i q_j + p_j q_i]  total interaction   ½ E[p_i p_j + q_i q_j]
    variance                E[(A − B)² + Σ_i (A_i − B_i)²] / (2 (d + 1))

Without the rows B_i: E[(B − ½(A + A_i))(A_i − A)], ½ E[p_i²], E[p_i p_j] and ½ E[(A − B)²]. All are unbiased, and
differences, so that a shift of the response changes nothing and a factor without effect gives exactly 0.

Standard errors are those of ratios of block sums by the delta method.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import torch
from torch import Tensor

from neuroprobe import names

FOLD = 64  # base samples that are summed in float32 before the sum goes into float64
TILE = 1 << 18  # sums that are updated at a time on a CPU, so that their terms stay in the cache
UNROLLED = 4  # base samples of one compiled update
# one loop for the whole update: by default the compiler writes differences that are used often to memory
FUSE = {"realize_reads_threshold": 10_000, "realize_opcount_threshold": 100_000, "max_fusion_size": 10_000}


@dataclass(frozen=True)
class PickFreezeTerms:
    """Which sums are kept.

    Parameters
    ----------
    n_factors : int
        d.
    second_order : bool
        Whether the design has the rows B_i, and so second-order indices.
    total_interaction : bool
        Whether total interactions (superset importance; Liu & Owen 2006) are wanted.
    drop : bool
        Whether base samples with a non-finite response are left out, per unit, and counted.
    """

    n_factors: int
    second_order: bool = True
    total_interaction: bool = False
    drop: bool = False

    @cached_property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Pairs of factors, in the order of their sums."""
        return tuple(itertools.combinations(range(self.n_factors), 2))

    @cached_property
    def slices(self) -> dict[str, slice]:
        """Where each quantity lies among the sums."""
        d, n_pairs = self.n_factors, len(self.pairs)
        counts = {names.VARIANCE: 1, names.FIRST_ORDER: d, names.TOTAL_ORDER: d}
        if self.second_order:
            counts[names.SECOND_ORDER] = n_pairs
        if self.total_interaction:
            counts[names.TOTAL_INTERACTION] = n_pairs
        counts |= {names.MEAN: 1, names.ACTIVITY_RATE: 1}
        if self.drop:
            counts[names.N_DROPPED] = 1
        stops = itertools.accumulate(counts.values())
        return {name: slice(stop - counts[name], stop) for name, stop in zip(counts, stops, strict=True)}

    @property
    def n_sums(self) -> int:
        """K, the number of sums per unit."""
        return max(part.stop for part in self.slices.values())

    @property
    def n_rows(self) -> int:
        """Rows of a base sample."""
        return 2 + self.n_factors * (2 if self.second_order else 1)


def sample_terms(rows: Sequence[Tensor], terms: PickFreezeTerms) -> list[Tensor]:
    """Compute the K terms of each base sample, up to the factors of `scales`.

    Parameters
    ----------
    rows : sequence of tensors (samples, units)
        Responses to A, B, A_1 … A_d and, with second order, B_1 … B_d.

    Returns
    -------
    list of K tensors (samples, units), in the order of ``terms.slices``.
    """
    d, rows, dropped = terms.n_factors, list(rows), []
    if terms.drop:
        finite = torch.stack([torch.isfinite(row) for row in rows]).all(0)
        rows = [torch.where(finite, row, 0.0) for row in rows]
        dropped = [(~finite).to(rows[0].dtype)]
    a, b, a_i, b_i = rows[0], rows[1], rows[2 : 2 + d], rows[2 + d :]
    p = [row - a for row in a_i]
    q = [row - b for row in b_i]
    variance = (a - b) ** 2
    if terms.second_order:
        for one, other in zip(a_i, b_i, strict=True):
            variance = variance + (one - other) ** 2
        result = [variance]
        result += [x * y for x, y in zip(p, q, strict=True)]
        result += [x * x + y * y for x, y in zip(p, q, strict=True)]
        result += [p[i] * q[j] + p[j] * q[i] for i, j in terms.pairs]
        if terms.total_interaction:
            result += [p[i] * p[j] + q[i] * q[j] for i, j in terms.pairs]
    else:
        result = [variance]
        result += [(b - 0.5 * (a + row)) * x for row, x in zip(a_i, p, strict=True)]
        result += [x * x for x in p]
        if terms.total_interaction:
            result += [p[i] * p[j] for i, j in terms.pairs]
    # A and B are the independent points: the other rows would add work and hardly any information
    return [*result, a + b, (a > 0).to(a.dtype) + (b > 0).to(a.dtype), *dropped]


def scales(terms: PickFreezeTerms) -> dict[str, float]:
    """Factors that turn sums of `sample_terms` into sums of unbiased estimates."""
    if terms.second_order:
        shares = {
            names.FIRST_ORDER: -0.5,
            names.TOTAL_ORDER: 0.25,
            names.SECOND_ORDER: 0.5,
            names.TOTAL_INTERACTION: 0.5,
        }
        variance = 1 / (2 * (terms.n_factors + 1))
    else:
        shares = {names.FIRST_ORDER: 1.0, names.TOTAL_ORDER: 0.5, names.TOTAL_INTERACTION: 1.0}
        variance = 0.5
    return {names.VARIANCE: variance, **shares, names.MEAN: 0.5, names.ACTIVITY_RATE: 0.5, names.N_DROPPED: 1.0}


def _accumulate(rows: Sequence[Tensor], sums: Sequence[Tensor], peak: Tensor, terms: PickFreezeTerms) -> None:
    """Add the terms of some base samples to K sums (units,), in place; `rows` as in `sample_terms`."""
    for total, term in zip(sums, sample_terms(rows, terms), strict=True):
        total.add_(term.sum(0))
    peak.copy_(torch.maximum(peak, _largest(rows, terms).amax(0)))


def _largest(rows: Sequence[Tensor], terms: PickFreezeTerms) -> Tensor:
    largest = torch.maximum(rows[0].abs(), rows[1].abs())
    return torch.where(torch.isfinite(largest), largest, 0.0) if terms.drop else largest


_Update = Callable[[Tensor, Tensor, Tensor, list[Tensor], Tensor], None]


@cache
def _compiled_update(terms: PickFreezeTerms) -> _Update:
    """Compile the update by `UNROLLED` base samples, written out so that all terms stay in registers.

    The K sums are K tensors: the compiler would copy all of one for every sum that changes.
    """
    first_weighted = terms.slices[names.MEAN].start

    def update(y: Tensor, index: Tensor, weight: Tensor, sums: list[Tensor], peak: Tensor) -> None:
        totals: list[Tensor] = []
        largest = peak
        for sample in range(UNROLLED):
            rows = [y.index_select(0, index[sample, row : row + 1])[0] for row in range(terms.n_rows)]
            found = sample_terms(rows, terms)
            # a sample that only fills up repeats one row: its differences are 0, and the rest has weight 0
            found[first_weighted:] = [term * weight[sample] for term in found[first_weighted:]]
            totals = [total + term for total, term in zip(totals, found, strict=True)] if totals else found
            largest = torch.maximum(largest, _largest(rows, terms))
        peak.copy_(largest)
        for total, term in zip(sums, totals, strict=True):
            total.add_(term)

    return torch.compile(update, dynamic=True, options=dict(FUSE))


@cache
def compiles() -> bool:
    """Whether torch.compile finds a compiler here."""
    try:
        return bool(torch.compile(torch.sin, dynamic=True, options=dict(FUSE))(torch.zeros(2)).sum() == 0)
    except Exception:  # whatever torch.compile lacks, the eager update does the same
        return False


class PickFreezeSums:
    """State of a span of blocks: sums, sums of squares of block sums, and their products with the variance's.

    Of a single block the last two follow from the first and are not kept.

    Attributes
    ----------
    total, square, cross : float64 tensors (K, units)
        Block sums of `sample_terms`, their squares, and their products with the block sums of the variance, each
        summed over blocks.
    peak : tensor (units,)
        Largest absolute response to A and B.
    n_blocks, n_samples : int
        What went in.
    """

    def __init__(
        self,
        total: Tensor,
        peak: Tensor,
        n_samples: int,
        n_blocks: int = 1,
        square: Tensor | None = None,
        cross: Tensor | None = None,
        *,
        drop: bool = False,
    ) -> None:
        self.total, self.peak, self.drop = total, peak, drop
        self.n_samples, self.n_blocks = n_samples, n_blocks
        self._square, self._cross = square, cross

    @property
    def square(self) -> Tensor:
        """Sum over blocks of the squared block sums (K, units)."""
        return self.total * self.total if self._square is None else self._square

    @property
    def cross(self) -> Tensor:
        """Sum over blocks of block sums times those of the variance, or of dropped samples for means (K, units)."""
        return self.total * self._partner() if self._cross is None else self._cross

    def _partner(self) -> Tensor:
        """Return the block sums that the cross products are with (K, units)."""
        if not self.drop:
            return self.total[0]
        mean_and_activity = slice(len(self.total) - 3, len(self.total) - 1)
        partner = self.total[0].repeat(len(self.total), 1)
        partner[mean_and_activity] = self.total[-1]
        return partner

    def merge(self, right: PickFreezeSums) -> None:
        """Add the state of the blocks to the right, in place."""
        square, cross = self.square, self.cross
        if right._square is None or right._cross is None:
            square.addcmul_(right.total, right.total)
            cross.addcmul_(right.total, right._partner())
        else:
            square += right._square
            cross += right._cross
        self._square, self._cross = square, cross
        self.total += right.total
        torch.maximum(self.peak, right.peak, out=self.peak)
        self.n_samples += right.n_samples
        self.n_blocks += right.n_blocks

    def of_units(self, units: slice) -> PickFreezeSums:
        """Return the state of some units; it shares their memory."""
        square, cross = (None if sums is None else sums[:, units] for sums in (self._square, self._cross))
        total, peak = self.total[:, units], self.peak[units]
        return PickFreezeSums(total, peak, self.n_samples, self.n_blocks, square, cross, drop=self.drop)

    def state(self) -> dict[str, Tensor]:
        """Return the arrays that describe this state, to be saved."""
        arrays = {
            "total": self.total,
            "peak": self.peak,
            "counts": torch.tensor([self.n_samples, self.n_blocks, int(self.drop)]),
        }
        if self._square is not None and self._cross is not None:
            arrays |= {"square": self._square, "cross": self._cross}
        return arrays

    @classmethod
    def from_state(cls, arrays: dict[str, Tensor]) -> PickFreezeSums:
        """Make a state of what `state` returned."""
        n_samples, n_blocks, drop = arrays["counts"].tolist()
        square, cross = arrays.get("square"), arrays.get("cross")
        return cls(arrays["total"], arrays["peak"], n_samples, n_blocks, square, cross, drop=bool(drop))


class PickFreezeAccumulator:
    """Takes in responses batch by batch and gives out the sums of each block.

    Parameters
    ----------
    terms : PickFreezeTerms
    n_units : int
    block : int
        Base samples of a block.
    dtype : torch.dtype
        Of the partial sums: float32, or float64 for responses in float64.
    compiled : bool
        Whether the update is compiled by `torch.compile`.
    """

    def __init__(
        self,
        terms: PickFreezeTerms,
        n_units: int,
        block: int,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        compiled: bool = False,
    ) -> None:
        self.terms, self.block, self.compiled = terms, block, compiled
        self._sums: list[Tensor] = [torch.zeros(n_units, dtype=dtype, device=device) for _ in range(terms.n_sums)]
        self._peak = torch.zeros(n_units, dtype=dtype, device=device)
        self._block_sums: Tensor | None = None
        self._n_part = self._n_samples = 0

    def update(self, y: Tensor, index: Tensor) -> bool:
        """Add whole base samples.

        Parameters
        ----------
        y : tensor (rows of the batch, units)
        index : int64 tensor (samples, rows of a base sample)
            Which row of the batch holds the response to each row of each base sample; at most `FOLD` samples.

        Returns
        -------
        bool
            Whether all sums are finite.
        """
        if self._n_part + len(index) > FOLD:
            self._fold()
        if self.compiled:
            self._update_compiled(y, index)
        else:
            self._update_eagerly(y, index)
        self._n_part += len(index)
        # with the rows B_i the variance holds every row; without, the total variances hold those that it lacks
        checked = self._sums[:1] if self.terms.second_order else self._sums[: self.terms.slices[names.TOTAL_ORDER].stop]
        return all(bool(torch.isfinite(total).all()) for total in checked)

    def _update_eagerly(self, y: Tensor, index: Tensor) -> None:
        n_units = y.shape[1]
        width = _tile_width(self.terms, n_units) if y.device.type == "cpu" else n_units
        for start in range(0, n_units, width):
            tile = slice(start, start + width)
            gathered = y[:, tile].index_select(0, index.flatten()).view(*index.shape, -1)
            _accumulate(gathered.unbind(1), [total[tile] for total in self._sums], self._peak[tile], self.terms)

    def _update_compiled(self, y: Tensor, index: Tensor) -> None:
        n_missing = -len(index) % UNROLLED
        weight = torch.ones(len(index) + n_missing, dtype=self._peak.dtype, device=y.device)
        weight[len(index) :] = 0
        index = torch.cat([index, index.new_zeros(n_missing, index.shape[1])])
        update = _compiled_update(self.terms)
        for start in range(0, len(index), UNROLLED):
            part = slice(start, start + UNROLLED)
            # .data: a view's base would be a part of what is compiled for, and every layer's is another
            update(y.data, index[part].data, weight[part].data, self._sums, self._peak)

    def _fold(self) -> None:
        if self._block_sums is None:
            shape = (self.terms.n_sums, len(self._peak))
            self._block_sums = torch.zeros(shape, dtype=torch.float64, device=self._peak.device)
        for block_sum, total in zip(self._block_sums, self._sums, strict=True):
            block_sum += total
            total.zero_()
        self._n_samples += self._n_part
        self._n_part = 0

    def end_block(self) -> PickFreezeSums:
        """Return the state of the block that ends here, and start the next one."""
        self._fold()
        if self._n_samples != self.block or self._block_sums is None:
            raise ValueError(f"a block has {self.block} base samples, received {self._n_samples}")
        state = PickFreezeSums(self._block_sums, self._peak.clone(), self._n_samples, drop=self.terms.drop)
        self._block_sums, self._n_samples = None, 0
        self._peak.zero_()
        return state


def state_bytes(terms: PickFreezeTerms, n_units: int, depth: int) -> int:
    """Bytes of the sums of one layer: partial and block sums, and `depth` unmerged states of 1, 2, 4, … blocks."""
    partial = 4 * terms.n_sums + 4
    block_sums = 8 * terms.n_sums
    of_one_block, merged = 8 * terms.n_sums + 4, 24 * terms.n_sums + 4
    states = of_one_block + (depth - 1) * merged if depth else 0
    return n_units * (partial + block_sums + states)


def update_bytes(terms: PickFreezeTerms, n_units: int, n_samples: int, *, tiled: bool) -> int:
    """Bytes that an update of one layer by some base samples takes for a while, if it is not compiled.

    Parameters
    ----------
    tiled : bool
        Whether it goes through the units tile by tile, as on a CPU.
    """
    width = _tile_width(terms, n_units) if tiled else n_units
    # responses, differences, terms, and what the last term is made of
    n_arrays = terms.n_rows * (2 if terms.drop else 1) + 2 * terms.n_factors + terms.n_sums + 3
    return 4 * n_samples * width * n_arrays


def _tile_width(terms: PickFreezeTerms, n_units: int) -> int:
    """Units of a tile: all tiles are of about one size."""
    return -(-n_units // -(-n_units * terms.n_sums // TILE))
