"""Estimators of Sobol indices and moments: which terms of each base sample are summed, and what becomes of the sums.

**Differences** (the default). With p_i = A_i − A and q_i = B_i − B (rows of `neuroprobe.design.pick_freeze`), and d
factors:

    first-order variance   −½ E[p_i q_i]            total variance      ¼ E[p_i² + q_i²]
    second-order variance   ½ E[p_i q_j + p_j q_i]  total interaction   ½ E[p_i p_j + q_i q_j]
    variance                E[(A − B)² + Σ_i (A_i − B_i)²] / (2 (d + 1))

Without the rows B_i: E[(B − ½(A + A_i))(A_i − A)], ½ E[p_i²], E[p_i p_j] and ½ E[(A − B)²]. All are unbiased, and
differences, so that a shift of the response changes nothing and a factor without effect gives exactly 0.

**SALib's** (Saltelli et al. 2010 for S1, Jansen 1999 for ST, Saltelli 2002 for S2), with m the mean of all rows and V
the variance of A and B together:

    first-order variance   E[(B − m)(A_i − A)]      total variance      ½ E[p_i²]
    second-order variance   E[(B_i − m)(A_j − m) − (A − m)(B − m)] less both first-order ones, i < j

Shapley effects have terms of their own: see `neuroprobe.statistics.shapley`.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuroprobe import names

Array = NDArray[np.float64]


def _slices(counts: dict[str, int]) -> dict[str, slice]:
    """Lay quantities out one after the other."""
    stops = itertools.accumulate(counts.values())
    return {name: slice(stop - counts[name], stop) for name, stop in zip(counts, stops, strict=True)}


@dataclass(frozen=True)
class Terms(ABC):
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

    in_double: ClassVar[bool] = False  # whether responses in float32 are summed in float64 from the start
    compilable: ClassVar[bool] = False
    derived: ClassVar[tuple[str, ...]] = ()  # quantities that are functions of means

    @cached_property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Pairs of factors, in the order of their sums."""
        return tuple(itertools.combinations(range(self.n_factors), 2))

    @property
    def n_rows(self) -> int:
        """Rows of a base sample."""
        return 2 + self.n_factors * (2 if self.second_order else 1)

    @cached_property
    def slices(self) -> dict[str, slice]:
        """Where each quantity lies among the sums of a block that end in ratios to the variance, their first."""
        counts = {names.VARIANCE: 1, **self.shares, names.MEAN: 1, names.ACTIVITY_RATE: 1}
        if self.drop:
            counts[names.N_DROPPED] = 1
        return _slices(counts)

    @property
    def shares(self) -> dict[str, int]:
        """Shares of the variance that are estimated, with their numbers."""
        d, n_pairs = self.n_factors, len(self.pairs)
        counts = {names.FIRST_ORDER: d, names.TOTAL_ORDER: d}
        if self.second_order:
            counts[names.SECOND_ORDER] = n_pairs
        if self.total_interaction:
            counts[names.TOTAL_INTERACTION] = n_pairs
        return counts

    @property
    def n_ratios(self) -> int:
        """Sums of `slices`; their second moments over blocks are kept too."""
        return max(part.stop for part in self.slices.values())

    @property
    def n_kept(self) -> int:
        """Sums of a block that its state keeps."""
        return self.n_ratios

    @property
    def n_sums(self) -> int:
        """K, the number of terms per base sample."""
        return self.n_ratios

    @property
    def n_differences(self) -> int:
        """Leading terms that are 0 where all rows are alike."""
        return self.slices[names.MEAN].start

    @property
    @abstractmethod
    def n_checked(self) -> int:
        """Leading terms that hold every row: all rows are finite if these are."""

    @property
    @abstractmethod
    def scales(self) -> dict[str, float]:
        """Factors that turn the sums of `slices` into sums of estimates."""

    @abstractmethod
    def sample_terms(self, rows: Sequence[Tensor]) -> list[Tensor]:
        """Compute the K terms of each base sample.

        Parameters
        ----------
        rows : sequence of tensors (samples, units)
            Responses to A, B, A_1 … A_d and, with second order, B_1 … B_d.

        Returns
        -------
        list of K tensors (samples, units)
        """

    def block_sums(self, sums: Tensor, n_samples: int) -> Tensor:
        """Turn the sums of a block's terms (K, units) into those that its state keeps (n_kept, units)."""
        return sums

    def overall(self, total: Array, n_samples: int) -> dict[str, Array]:
        """Quantities that are no plain ratios of sums over blocks; `total` (n_kept, units) as the state holds it."""
        return {}


@dataclass(frozen=True)
class DifferenceTerms(Terms):
    """Means of products of differences between rows."""

    compilable: ClassVar[bool] = True

    @property
    def n_checked(self) -> int:
        """Leading terms that hold every row."""
        # with the rows B_i the variance holds every row; without, the total variances hold those that it lacks
        return 1 if self.second_order else self.slices[names.TOTAL_ORDER].stop

    @property
    def scales(self) -> dict[str, float]:
        """Factors that turn sums of terms into sums of unbiased estimates."""
        if self.second_order:
            shares = {
                names.FIRST_ORDER: -0.5,
                names.TOTAL_ORDER: 0.25,
                names.SECOND_ORDER: 0.5,
                names.TOTAL_INTERACTION: 0.5,
            }
            variance = 1 / (2 * (self.n_factors + 1))
        else:
            shares = {names.FIRST_ORDER: 1.0, names.TOTAL_ORDER: 0.5, names.TOTAL_INTERACTION: 1.0}
            variance = 0.5
        return {names.VARIANCE: variance, **shares, names.MEAN: 0.5, names.ACTIVITY_RATE: 0.5, names.N_DROPPED: 1.0}

    def sample_terms(self, rows: Sequence[Tensor]) -> list[Tensor]:
        """Compute the terms in the order of `slices`, up to the factors of `scales`."""
        d = self.n_factors
        rows, dropped = kept_rows(rows, self.drop)
        a, b, a_i, b_i = rows[0], rows[1], rows[2 : 2 + d], rows[2 + d :]
        p = [row - a for row in a_i]
        q = [row - b for row in b_i]
        variance = (a - b) ** 2
        if self.second_order:
            for one, other in zip(a_i, b_i, strict=True):
                variance = variance + (one - other) ** 2
            result = [variance]
            result += [x * y for x, y in zip(p, q, strict=True)]
            result += [x * x + y * y for x, y in zip(p, q, strict=True)]
            result += [p[i] * q[j] + p[j] * q[i] for i, j in self.pairs]
            if self.total_interaction:
                result += [p[i] * p[j] + q[i] * q[j] for i, j in self.pairs]
        else:
            result = [variance]
            result += [(b - 0.5 * (a + row)) * x for row, x in zip(a_i, p, strict=True)]
            result += [x * x for x in p]
            if self.total_interaction:
                result += [p[i] * p[j] for i, j in self.pairs]
        # A and B are the independent points: the other rows would add work and hardly any information
        return [*result, a + b, n_active(a, b), *dropped]


@dataclass(frozen=True)
class SaltelliTerms(Terms):
    """The sums that SALib's formulas need, for results to compare with SALib's.

    Its formulas are centred by the mean of all rows, which is known at the end only. So the state keeps the sums of
    products as they are, for the indices, and, for their errors, sums that were centred by each block's own mean: the
    errors differ by terms of the order of 1 / block.
    """

    in_double: ClassVar[bool] = True  # products that are not differences lose digits to the mean

    def __post_init__(self) -> None:
        if self.total_interaction or self.drop:
            raise ValueError("SALib has no formula for total interactions, or for base samples that are left out")

    @cached_property
    def _raw(self) -> dict[str, slice]:
        """Where the terms lie: rows, squares of A and B, A + B, activity, then by factor and by pair."""
        d, n_pairs = self.n_factors, len(self.pairs) if self.second_order else 0
        return _slices(
            {"rows": 1, "squares": 1, "ends": 1, "active": 1, "jansen": d}
            | {"first": d, "first_shift": d, "second": n_pairs, "second_shift": n_pairs}
        )

    @property
    def n_sums(self) -> int:
        """K, the number of terms per base sample."""
        return max(part.stop for part in self._raw.values())

    @property
    def n_kept(self) -> int:
        """Sums of a block that its state keeps: the centred ones, then those of the terms."""
        return self.n_ratios + self.n_sums

    @property
    def n_checked(self) -> int:
        """Leading terms that hold every row."""
        return 1

    @property
    def scales(self) -> dict[str, float]:
        """Factors of the centred sums."""
        return dict.fromkeys(self.slices, 1.0) | {names.MEAN: 0.5, names.ACTIVITY_RATE: 0.5}

    def sample_terms(self, rows: Sequence[Tensor]) -> list[Tensor]:
        """Compute the terms in the order of `_raw`."""
        d = self.n_factors
        a, b, a_i, b_i = rows[0], rows[1], rows[2 : 2 + d], rows[2 + d :]
        everything = torch.stack(list(rows)).sum(0)
        differences = [row - a for row in a_i]
        result = [everything, a * a + b * b, a + b, n_active(a, b), *(p * p for p in differences)]
        result += [b * p for p in differences]
        result += differences
        if self.second_order:
            result += [b_i[i] * a_i[j] - a * b - b * (differences[i] + differences[j]) for i, j in self.pairs]
            result += [b_i[i] - a_i[i] + a - b for i, _ in self.pairs]
        return result

    def block_sums(self, sums: Tensor, n_samples: int) -> Tensor:
        """Put the sums that the block's own mean centres before the sums of the terms."""
        raw = {name: sums[part] for name, part in self._raw.items()}
        mean = raw["rows"] / (n_samples * self.n_rows)
        centred = [
            raw["squares"] / 2 - raw["ends"] ** 2 / (4 * n_samples),
            raw["first"] - mean * raw["first_shift"],
            raw["jansen"] / 2,
            raw["second"] - mean * raw["second_shift"],
            raw["ends"],
            raw["active"],
        ]
        return torch.cat([*centred, sums])

    def overall(self, total: Array, n_samples: int) -> dict[str, Array]:
        """Evaluate SALib's formulas on the sums of the whole run."""
        raw = {name: total[self.n_ratios :][part] for name, part in self._raw.items()}
        mean = raw["rows"] / (n_samples * self.n_rows)
        variance = raw["squares"] / 2 - raw["ends"] ** 2 / (4 * n_samples)
        found = {
            names.VARIANCE: variance,
            names.FIRST_ORDER: raw["first"] - mean * raw["first_shift"],
            names.TOTAL_ORDER: raw["jansen"] / 2,
        }
        if self.second_order:
            found[names.SECOND_ORDER] = raw["second"] - mean * raw["second_shift"]
        return found


@dataclass(frozen=True)
class MomentsTerms(Terms):
    """Mean, variance and activity rate; rows are A and B."""

    compilable: ClassVar[bool] = True
    derived: ClassVar[tuple[str, ...]] = (names.COEFFICIENT_OF_VARIATION,)

    @property
    def n_rows(self) -> int:
        """Rows that the terms are made of."""
        return 2

    @property
    def shares(self) -> dict[str, int]:
        """None: no share of the variance is estimated."""
        return {}

    @property
    def n_checked(self) -> int:
        """Leading terms that hold every row."""
        return 1

    @property
    def scales(self) -> dict[str, float]:
        """Factors that turn sums of terms into sums of unbiased estimates."""
        return dict.fromkeys(self.slices, 0.5) | {names.N_DROPPED: 1.0}

    def sample_terms(self, rows: Sequence[Tensor]) -> list[Tensor]:
        """Compute the terms in the order of `slices`, up to the factors of `scales`."""
        (a, b), dropped = kept_rows(rows, self.drop)
        return [(a - b) ** 2, a + b, n_active(a, b), *dropped]


def kept_rows(rows: Sequence[Tensor], drop: bool) -> tuple[list[Tensor], list[Tensor]]:
    """Rows with zeros in place of base samples that are left out, and whether they are, where `drop` says so."""
    if not drop:
        return list(rows), []
    finite = torch.stack([torch.isfinite(row) for row in rows]).all(0)
    return [torch.where(finite, row, 0.0) for row in rows], [(~finite).to(rows[0].dtype)]


def n_active(a: Tensor, b: Tensor) -> Tensor:
    """How many of two responses are above 0."""
    return (a > 0).to(a.dtype) + (b > 0).to(a.dtype)


ESTIMATORS: Final[dict[str, type[Terms]]] = {"differences": DifferenceTerms, "salib": SaltelliTerms}
