"""Streaming sums over the rows of pick-freeze designs: the state of a span of blocks, and what fills it.

Which terms are summed is an estimator's: see `neuroprobe.statistics.estimators`. Standard errors are those of ratios
of block sums by the delta method.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache

import torch
from torch import Tensor

from neuroprobe.statistics.estimators import Terms

FOLD = 64  # base samples that are summed in float32 before the sum goes into float64
TILE = 1 << 18  # sums that are updated at a time on a CPU, so that their terms stay in the cache
# units: where a layer is cut at multiples of it, and no part is smaller, torch on a CPU sums every unit as in the whole
# layer, to the last bit; units behind the last full vectors of a row are summed in another order than those before
ALIGNED = 64
UNROLLED = 4  # base samples of one compiled update
# one loop for the whole update: by default the compiler writes differences that are used often to memory
FUSE = {"realize_reads_threshold": 10_000, "realize_opcount_threshold": 100_000, "max_fusion_size": 10_000}


def _accumulate(rows: Sequence[Tensor], sums: Sequence[Tensor], peak: Tensor, terms: Terms) -> None:
    """Add the terms of some base samples to K sums (units,), in place; `rows` as in `Terms.sample_terms`."""
    for total, term in zip(sums, terms.sample_terms(rows), strict=True):
        total.add_(term.sum(0))
    peak.copy_(torch.maximum(peak, _largest(rows, terms).amax(0)))


def _largest(rows: Sequence[Tensor], terms: Terms) -> Tensor:
    largest = torch.maximum(rows[0].abs(), rows[1].abs())
    return torch.where(torch.isfinite(largest), largest, 0.0) if terms.drop else largest


_Update = Callable[[Tensor, Tensor, Tensor, list[Tensor], Tensor], None]


@cache
def _compiled_update(terms: Terms) -> _Update:
    """Compile the update by `UNROLLED` base samples, written out so that all terms stay in registers.

    The K sums are K tensors: the compiler would copy all of one for every sum that changes.
    """
    n_rows, first_weighted = terms.n_rows, terms.n_differences

    def update(y: Tensor, index: Tensor, weight: Tensor, sums: list[Tensor], peak: Tensor) -> None:
        totals: list[Tensor] = []
        largest = peak
        for sample in range(UNROLLED):
            rows = [y.index_select(0, index[sample, row : row + 1])[0] for row in range(n_rows)]
            found = terms.sample_terms(rows)
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
    total : float64 tensor (n_kept, units)
        Sums of the blocks' sums.
    square, cross : float64 tensors (n_ratios, units)
        Squares of the first of the blocks' sums, and their products with those of the variance, summed over blocks.
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
        n_ratios: int | None = None,
        drop: bool = False,
    ) -> None:
        self.total, self.peak, self.drop = total, peak, drop
        self.n_ratios = len(total) if n_ratios is None else n_ratios
        self.n_samples, self.n_blocks = n_samples, n_blocks
        self._square, self._cross = square, cross

    @property
    def _ratios(self) -> Tensor:
        return self.total[: self.n_ratios]

    @property
    def square(self) -> Tensor:
        """Sum over blocks of the squared block sums (n_ratios, units)."""
        return self._ratios * self._ratios if self._square is None else self._square

    @property
    def cross(self) -> Tensor:
        """Products of those with the sums of the variance, or for means with the dropped samples (n_ratios, units)."""
        return self._ratios * self._partner() if self._cross is None else self._cross

    def _partner(self) -> Tensor:
        """Return the block sums that the cross products are with (n_ratios, units)."""
        if not self.drop or not self.n_ratios:
            return self.total[0]
        mean_and_activity = slice(self.n_ratios - 3, self.n_ratios - 1)
        partner = self.total[0].repeat(self.n_ratios, 1)
        partner[mean_and_activity] = self._ratios[-1]
        return partner

    def merge(self, right: PickFreezeSums) -> None:
        """Add the state of the blocks to the right, in place."""
        square, cross = self.square, self.cross
        if right._square is None or right._cross is None:
            square.addcmul_(right._ratios, right._ratios)
            cross.addcmul_(right._ratios, right._partner())
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
        return PickFreezeSums(
            total, peak, self.n_samples, self.n_blocks, square, cross, n_ratios=self.n_ratios, drop=self.drop
        )

    def state(self) -> dict[str, Tensor]:
        """Return the arrays that describe this state, to be saved."""
        arrays = {
            "total": self.total,
            "peak": self.peak,
            "counts": torch.tensor([self.n_samples, self.n_blocks, self.n_ratios, int(self.drop)]),
        }
        if self._square is not None and self._cross is not None:
            arrays |= {"square": self._square, "cross": self._cross}
        return arrays

    @classmethod
    def from_state(cls, arrays: dict[str, Tensor]) -> PickFreezeSums:
        """Make a state of what `state` returned."""
        n_samples, n_blocks, n_ratios, drop = arrays["counts"].tolist()
        moments = arrays.get("square"), arrays.get("cross")
        return cls(arrays["total"], arrays["peak"], n_samples, n_blocks, *moments, n_ratios=n_ratios, drop=bool(drop))


class PickFreezeAccumulator:
    """Takes in responses batch by batch and gives out the sums of each block.

    Parameters
    ----------
    terms : Terms
    n_units : int
    block : int
        Base samples of a block.
    dtype : torch.dtype
        Of the responses, and of the partial sums unless the estimator sums in float64 always.
    compiled : bool
        Whether the update is compiled by `torch.compile`.
    """

    def __init__(
        self,
        terms: Terms,
        n_units: int,
        block: int,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        compiled: bool = False,
    ) -> None:
        self.terms, self.block, self.compiled = terms, block, compiled
        exact = torch.float64 if terms.in_double else dtype
        self._sums: list[Tensor] = [torch.zeros(n_units, dtype=exact, device=device) for _ in range(terms.n_sums)]
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
        checked = [torch.isfinite(total).all() for total in self._sums[: self.terms.n_checked]]
        # asking a GPU waits for it: once for all of them
        return bool(torch.stack(checked).all()) if checked else True

    def _update_eagerly(self, y: Tensor, index: Tensor) -> None:
        for tile in _tiles(self.terms, y.shape[1], tiled=y.device.type == "cpu"):
            gathered = y[:, tile].index_select(0, index.flatten()).view(*index.shape, -1)
            gathered = gathered.to(self._sums[0].dtype)
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
        """Return the state of the block that ends here, and start the next one; the last block may be shorter."""
        self._fold()
        if not 0 < self._n_samples <= self.block or self._block_sums is None:
            raise ValueError(f"a block has {self.block} base samples, or less if it is the last: {self._n_samples}")
        kept = self.terms.block_sums(self._block_sums, self._n_samples)
        state = PickFreezeSums(
            kept, self._peak.clone(), self._n_samples, n_ratios=self.terms.n_ratios, drop=self.terms.drop
        )
        self._block_sums, self._n_samples = None, 0
        self._peak.zero_()
        return state


def state_bytes(terms: Terms, n_units: int, depth: int) -> int:
    """Bytes of the sums of one layer: partial and block sums, and `depth` unmerged states of 1, 2, 4, … blocks."""
    partial = (8 if terms.in_double else 4) * terms.n_sums + 4
    block_sums = 8 * terms.n_sums
    of_one_block = 8 * terms.n_kept + 4
    merged = of_one_block + 16 * terms.n_ratios
    states = of_one_block + (depth - 1) * merged if depth else 0
    return n_units * (partial + block_sums + states)


def update_bytes(terms: Terms, n_units: int, n_samples: int, *, tiled: bool) -> int:
    """Bytes that an update of one layer by some base samples takes for a while, if it is not compiled.

    Parameters
    ----------
    tiled : bool
        Whether it goes through the units tile by tile, as on a CPU.
    """
    width = max(tile.stop - tile.start for tile in _tiles(terms, n_units, tiled=tiled))
    # responses, their differences, terms, and what the last term is made of
    n_arrays = terms.n_rows * (3 if terms.drop else 2) + terms.n_sums + 3
    return (8 if terms.in_double else 4) * n_samples * width * n_arrays


def _tiles(terms: Terms, n_units: int, *, tiled: bool) -> Iterator[slice]:
    """Units that are updated at a time: tiles of about one size that begin at multiples of `ALIGNED`, or all."""
    n_aligned = max(1, n_units // ALIGNED)
    n_tiles = -(-n_units * terms.n_sums // TILE) if tiled else 1
    width = ALIGNED * -(-n_aligned // n_tiles)
    starts = range(0, ALIGNED * n_aligned, width)
    for start in starts:
        yield slice(start, n_units if start == starts[-1] else start + width)
