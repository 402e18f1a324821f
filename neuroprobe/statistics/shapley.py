"""Shapley effects: which terms of each base sample are summed, and what becomes of the sums.

The Shapley effect of a factor is its part of the variance where what a set of factors explains together is shared
fairly among them: φ_j = (1/d) Σ_{u∌j} C(d−1, |u|)⁻¹ [c(u∪j) − c(u)] with c(u) = E Var(Y | factors outside u); see Owen
2014, doi:10.1137/130936233. Three ways, each with shares that sum to 1:

**Walks** of independent factors. With F_0 = A, …, F_d = B the responses along a walk that swaps factor π_k at step k:

    Shapley effect of π_k   ½ E[(F_0 − F_d)(F_{k−1} − F_k)]     variance      ½ E[(F_0 − F_d)²]

the symmetric form of the term of Goda 2021 (doi:10.1016/j.ress.2020.107382).

**Walks** of dependent factors, by Goda's own term, which does not need that F_d looks upon the walk as F_0 does:

    Shapley effect of π_k   E[(F_0 − ½(F_{k−1} + F_k))(F_{k−1} − F_k)]

Over a walk these terms telescope to ½(F_0 − F_d)² as well, so that they share out the variance ½ E[(F_0 − F_d)²] of the
walks' own ends, which are independent of each other.

**All subsets** of few independent factors. With f_u the response to A with the factors u from B:

    w_s = 2⁻ᵈ Σ_u (−1)^{|u∩s|} f_u      component V_v = 2^{|v|} Σ_{s⊇v} (−1)^{|s|−|v|} E[w_s²]

are all components of the analysis of variance; they sum to the variance, and φ_j = Σ_{v∋j} V_v / |v|.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import torch
from torch import Tensor

from neuroprobe import names
from neuroprobe.statistics.estimators import Terms, kept_rows, n_active


@dataclass(frozen=True)
class WalkTerms(Terms):
    """Shapley effects of independent factors; rows are A, B, and those before and after the walk swaps each factor.

    Parameters
    ----------
    groups : tuple of int
        Group of each factor, from 0: what is estimated is the sum of the effects of each group's factors. Without
        groups, the effect of each factor.
    """

    groups: tuple[int, ...] = ()

    compilable: ClassVar[bool] = True

    @property
    def n_rows(self) -> int:
        """Rows that the terms are made of."""
        return 2 + 2 * self.n_factors

    @property
    def shares(self) -> dict[str, int]:
        """One share of the variance per factor, or group of factors."""
        return {names.SHAPLEY_EFFECT: len(set(self.groups)) or self.n_factors}

    @property
    def n_checked(self) -> int:
        """Leading terms that hold every row."""
        return self.slices[names.SHAPLEY_EFFECT].stop

    @property
    def scales(self) -> dict[str, float]:
        """Factors that turn sums of terms into sums of unbiased estimates."""
        return dict.fromkeys(self.slices, 0.5) | {names.N_DROPPED: 1.0}

    def sample_terms(self, rows: Sequence[Tensor]) -> list[Tensor]:
        """Compute the terms in the order of `slices`, up to the factors of `scales`."""
        d = self.n_factors
        rows, dropped = kept_rows(rows, self.drop)
        a, b, before, after = rows[0], rows[1], rows[2 : 2 + d], rows[2 + d :]
        whole = a - b
        effects = self._summed(self._effects(a, whole, before, after))
        return [whole * whole, *effects, a + b, n_active(a, b), *dropped]

    def _summed(self, effects: list[Tensor]) -> list[Tensor]:
        """Sum the terms of each group."""
        if not self.groups:
            return effects
        members = ([k for k, group in enumerate(self.groups) if group == one] for one in range(max(self.groups) + 1))
        return [torch.stack([effects[k] for k in group]).sum(0) for group in members]

    def _effects(self, a: Tensor, whole: Tensor, before: Sequence[Tensor], after: Sequence[Tensor]) -> list[Tensor]:
        return [whole * (one - other) for one, other in zip(before, after, strict=True)]


@dataclass(frozen=True)
class GodaTerms(WalkTerms):
    """Shapley effects of factors that may depend on each other; rows as for `WalkTerms`."""

    def _effects(self, a: Tensor, whole: Tensor, before: Sequence[Tensor], after: Sequence[Tensor]) -> list[Tensor]:
        # twice Goda's term; of differences, so that a shift of the response changes nothing
        return [((a - one) + (a - other)) * (one - other) for one, other in zip(before, after, strict=True)]


@dataclass(frozen=True)
class SubsetTerms(Terms):
    """All components of the variance of independent factors; rows are A, B, and the 2^d − 2 mixtures between.

    Mixture m, from 1, takes those factors i from B for which bit i of m is 1.
    """

    compilable: ClassVar[bool] = True

    @property
    def n_rows(self) -> int:
        """Rows that the terms are made of."""
        return 1 << self.n_factors

    @property
    def shares(self) -> dict[str, int]:
        """One share of the variance per factor, and one per component."""
        return {names.SHAPLEY_EFFECT: self.n_factors, names.COMPONENT: self.n_rows - 1}

    @property
    def subsets(self) -> tuple[tuple[int, ...], ...]:
        """The factors of each component: smaller subsets first."""
        factors = range(self.n_factors)
        return tuple(itertools.chain(*(itertools.combinations(factors, k + 1) for k in factors)))

    @property
    def n_sums(self) -> int:
        """Squares of every w_s but that of no factor, mean and activity, and what is dropped."""
        return self.n_differences + 2 + int(self.drop)

    @property
    def n_differences(self) -> int:
        """Leading terms that are 0 where all rows are alike."""
        return self.n_rows - 1

    @property
    def n_checked(self) -> int:
        """Leading terms that hold every row."""
        return 1

    @property
    def scales(self) -> dict[str, float]:
        """Factors that turn the sums of `slices` into sums of unbiased estimates."""
        return dict.fromkeys(self.slices, 1.0) | {names.MEAN: 0.5, names.ACTIVITY_RATE: 0.5}

    def sample_terms(self, rows: Sequence[Tensor]) -> list[Tensor]:
        """Compute w_s², s from 1 and numbered as mixtures are, then the terms of mean, activity and what is dropped."""
        rows, dropped = kept_rows(rows, self.drop)
        a, b, *mixtures = rows
        # from A, as a response that is large everywhere would take digits from the sums
        values = [torch.zeros_like(a), *(row - a for row in (*mixtures, b))]
        contrasts = _by_factor(values, lambda of_a, of_b: (0.5 * (of_a + of_b), 0.5 * (of_a - of_b)))
        return [*(w * w for w in contrasts[1:]), a + b, n_active(a, b), *dropped]

    def block_sums(self, sums: Tensor, n_samples: int) -> Tensor:
        """Turn the sums of squares into those of the variance, the Shapley effects and the components."""
        squares, others = sums[: self.n_differences], sums[self.n_differences :]
        numbered = [torch.zeros_like(squares[0]), *squares]
        numbered = _by_factor(numbered, lambda without, within: (without - within, 2 * within))
        components = torch.stack([numbered[sum(1 << i for i in subset)] for subset in self.subsets])
        effects = torch.zeros_like(components[: self.n_factors])
        for component, subset in zip(components, self.subsets, strict=True):
            for factor in subset:
                effects[factor] += component / len(subset)
        return torch.cat([components.sum(0, keepdim=True), effects, components, others])


def _by_factor(values: list[Tensor], step: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> list[Tensor]:
    """Replace, factor by factor, each pair of values of subsets without and with that factor by those of `step`."""
    values = list(values)
    for bit in range(len(values).bit_length() - 1):
        for without in range(len(values)):
            within = without | 1 << bit
            if without != within:
                values[without], values[within] = step(values[without], values[within])
    return values


ESTIMATORS: Final[dict[str, type[Terms]]] = {"walks": WalkTerms, "conditional walks": GodaTerms, "subsets": SubsetTerms}
