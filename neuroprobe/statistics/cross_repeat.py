"""Indices of the explainable variance, from complete designs that were shown more than once (NumPy, no labels).

Trial noise adds its variance to every square of a difference. A product of two differences of which each is from
another repetition has the same expectation without it, so that nothing has to be subtracted: with repetitions r ≠ s

    V_i   = −½ E[p_i q_i]                           VT_i   = ¼ E[p_i⁽ʳ⁾ p_i⁽ˢ⁾ + q_i⁽ʳ⁾ q_i⁽ˢ⁾]
    V_ij  = ½ E[p_i q_j + p_j q_i]                  TII_ij = ½ E[p_i⁽ʳ⁾ p_j⁽ˢ⁾ + q_i⁽ʳ⁾ q_j⁽ˢ⁾]

where p_i = e_i − a and q_i = c_i − b are the differences of the rows of pick-freeze designs; likewise the variance and
the products along Shapley walks. Means are over all pairs of repetitions, and base samples.

The same with products within a trial (r = s) gives the indices of the whole variance of single trials, for which one
repetition will do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuroprobe.statistics.conditions import Estimate

Array = NDArray[np.float64]
SHARING = 2  # factors of which A with the one from B is B with the other from A, and may be one presentation
Product = Callable[[Array, Array], Array]  # of arrays (repetitions, samples, units), over repetitions


@dataclass(frozen=True)
class ExplainableIndices:
    """Sobol indices of the explainable variance, or of the whole, with standard errors.

    Attributes
    ----------
    first_order, total_order : Estimates of arrays (factors, units)
    second_order, total_interaction : Estimates of arrays (factors, factors, units)
        Pure second order, and total interaction; NaN on the diagonal.
    variance : float array (units,)
        Explainable variance, or the whole. Where it is not above 0, indices are NaN.
    noise : float array (units,)
        Variance over repetitions; NaN of one.
    explainable : float array (units,)
        Share of the variance of single trials that is explainable.
    """

    first_order: Estimate
    total_order: Estimate
    second_order: Estimate
    total_interaction: Estimate
    variance: Array
    noise: Array
    explainable: Array


@dataclass(frozen=True)
class ExplainableShapley:
    """Shapley effects, which add up to 1; otherwise as `ExplainableIndices`."""

    shapley_effect: Estimate
    variance: Array
    noise: Array
    explainable: Array


def explainable_indices(
    a: Array, b: Array, e: Array, c: Array, block: NDArray[np.integer] | None = None
) -> ExplainableIndices:
    """Sobol indices from responses to the rows of a pick-freeze design.

    Parameters
    ----------
    a, b : float arrays (repetitions, samples, units)
    e, c : float arrays (factors, repetitions, samples, units)
        Rows A with factor i from B, and B with factor i from A.
    block : int array (samples,), optional
        Base samples that belong together, as those of one scramble do; by default each is on its own, which makes the
        errors of scrambled sequences an upper bound.

    Raises
    ------
    ValueError
        If there are fewer than 2 repetitions.
    """
    _checked_repeats(len(a))
    return _indices(a, b, e, c, block, _cross)


def whole_indices(
    a: Array, b: Array, e: Array, c: Array, block: NDArray[np.integer] | None = None
) -> ExplainableIndices:
    """Sobol indices of the whole variance of single trials, of one repetition or more; as `explainable_indices`.

    Noise is in the variance, and so in the total indices of all factors, and in the total interactions of all pairs;
    in the first order of one factor, and in the second order of two, where rows are the same presentations.
    """
    return _indices(a, b, e, c, block, _within)


def _indices(
    a: Array, b: Array, e: Array, c: Array, block: NDArray[np.integer] | None, product: Product
) -> ExplainableIndices:
    d, n_units = len(e), a.shape[-1]
    p, q = e - a, c - b
    mean_p, mean_q = p.mean(1), q.mean(1)
    variance = product(a - b, a - b) + sum(product(e[i] - c[i], e[i] - c[i]) for i in range(d))
    ratio = _Ratio(variance / (2 * (d + 1)), block)
    # of one factor the rows of either product are the same presentations, whose noise is in products of means
    first = [ratio.of(-0.5 * (product(p[i], q[i]) if d == 1 else mean_p[i] * mean_q[i])) for i in range(d)]
    total = [ratio.of(0.25 * (product(p[i], p[i]) + product(q[i], q[i]))) for i in range(d)]
    second, interaction = np.full((2, 2, d, d, n_units), np.nan)
    for i in range(d):
        for j in range(i):
            if d == SHARING:
                pure = product(p[i], q[j]) + product(p[j], q[i])
            else:
                pure = mean_p[i] * mean_q[j] + mean_p[j] * mean_q[i]
            second[:, i, j] = second[:, j, i] = ratio.of(0.5 * pure)
            interaction[:, i, j] = interaction[:, j, i] = ratio.of(0.5 * (product(p[i], p[j]) + product(q[i], q[j])))
    noise = np.mean([_noise(row) for row in (a, b, *e, *c)], axis=0)
    return ExplainableIndices(
        _stacked(first),
        _stacked(total),
        Estimate(*second),
        Estimate(*interaction),
        ratio.mean,
        noise,
        _share(ratio.mean - (0 if product is _cross else noise), noise),
    )


def explainable_shapley(
    walks: Array, permutation: NDArray[np.integer], block: NDArray[np.integer] | None = None
) -> ExplainableShapley:
    """Shapley effects of independent factors from responses along walks.

    Parameters
    ----------
    walks : float array (factors + 1, repetitions, samples, units)
        F_0, …, F_d: from A to B, one more factor swapped at each step.
    permutation : int array (samples, factors)
        Factor that each step swaps.
    block : int array (samples,), optional

    Raises
    ------
    ValueError
        If there are fewer than 2 repetitions.
    """
    _checked_repeats(walks.shape[1])
    return _effects(walks, permutation, block, _cross)


def whole_shapley(
    walks: Array, permutation: NDArray[np.integer], block: NDArray[np.integer] | None = None
) -> ExplainableShapley:
    """Shapley effects of the whole variance of single trials, of which the noise is shared by all factors alike."""
    return _effects(walks, permutation, block, _within)


def _effects(
    walks: Array, permutation: NDArray[np.integer], block: NDArray[np.integer] | None, product: Product
) -> ExplainableShapley:
    d = len(walks) - 1
    whole = walks[0] - walks[-1]
    steps = np.stack([0.5 * product(whole, walks[k] - walks[k + 1]) for k in range(d)])
    step_of = np.argsort(permutation, axis=1)
    samples = np.arange(walks.shape[2])
    ratio = _Ratio(0.5 * product(whole, whole), block)
    effects = _stacked([ratio.of(steps[step_of[:, factor], samples]) for factor in range(d)])
    noise = np.mean([_noise(row) for row in walks], axis=0)
    explained = ratio.mean - (0 if product is _cross else noise)
    return ExplainableShapley(effects, ratio.mean, noise, _share(explained, noise))


def _checked_repeats(n: int) -> None:
    if n < 2:
        raise ValueError(
            f"products over repetitions need every row at least twice, received {n}; with one repetition only indices "
            "of the whole variance can be told, of which those of first and second order are free of noise"
        )


def _cross(x: Array, y: Array) -> Array:
    """Mean product of different repetitions (samples, units) of arrays (repetitions, samples, units)."""
    n = len(x)
    return np.asarray((x.sum(0) * y.sum(0) - (x * y).sum(0)) / (n * (n - 1)))


def _within(x: Array, y: Array) -> Array:
    """Mean product within repetitions (samples, units) of arrays (repetitions, samples, units)."""
    return np.asarray((x * y).mean(0))


def _noise(row: Array) -> Array:
    return np.asarray(row.var(axis=0, ddof=1).mean(0)) if len(row) > 1 else np.full(row.shape[-1], np.nan)


def _share(variance: Array, noise: Array) -> Array:
    whole = variance + noise
    return variance / np.where(whole > 0, whole, np.nan)


def _stacked(estimates: list[tuple[Array, Array]]) -> Estimate:
    return Estimate(*(np.stack(part) for part in zip(*estimates, strict=True)))


class _Ratio:
    """Ratios of means over base samples to that of the variance, with errors over blocks by the delta method."""

    def __init__(self, variance: Array, block: NDArray[np.integer] | None) -> None:
        self._variance = variance
        numbers = np.arange(len(variance)) if block is None else np.unique(block, return_inverse=True)[1]
        self._block = numbers.astype(np.int64)
        self._n_blocks = int(numbers.max(initial=-1)) + 1
        self.mean = variance.mean(0)
        self._defined = np.where(self.mean > 0, self.mean, np.nan)

    def of(self, terms: Array) -> tuple[Array, Array]:
        """Ratio and its standard error (units,) of terms (samples, units)."""
        ratio = terms.mean(0) / self._defined
        deviation = np.zeros((self._n_blocks, terms.shape[1]))
        np.add.at(deviation, self._block, terms - ratio * self._variance)
        spread = self._n_blocks / (self._n_blocks - 1) if self._n_blocks > 1 else np.nan
        return ratio, np.sqrt(spread * (deviation**2).sum(0)) / (len(terms) * self._defined)
