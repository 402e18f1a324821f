"""First-order indices from data as they are: no design, factors as they happened to vary (NumPy, no labels).

Factors are (presentations, factors), responses (presentations, units); a unit that lacks a response has NaN throughout.
An index is the share of the whole variance, noise with it, that follows from one factor alone. That holds whether or
not factors depend on each other, but then shares of several factors overlap, and a factor that does nothing has the
share of one that it goes with: `dependence` says whether they do, and Shapley effects part what they share.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from neuroprobe.statistics.trials import PermutationTest, against_null, one_way

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
Estimator = Callable[[Any, Array], Array]  # of factors, orders or neighbours, and responses
LEAST = 4  # presentations
REPEATS: Final = 2  # of a value, on average, from which it is a level and no number among many


def checked_factors(factors: NDArray[np.generic], values: NDArray[np.floating]) -> tuple[Array, Array]:
    """Return factors and responses as float64, after a look at their shapes.

    Raises
    ------
    ValueError
        If their numbers of presentations differ or are too few, or a factor is not known of one.
    """
    if factors.ndim != 2 or values.ndim != 2 or len(factors) != len(values) or len(values) < LEAST:
        raise ValueError(
            f"factors are (presentations, factors), responses (presentations, units), both of {LEAST} presentations or "
            f"more; received {factors.shape} and {values.shape}"
        )
    numbers = factors.astype(np.float64)
    if not np.isfinite(numbers).all():
        unknown = (~np.isfinite(numbers).all(1)).sum()
        raise ValueError(
            f"{unknown} presentations have a factor that is NaN or infinite; leave these presentations out"
        )
    return numbers, values.astype(np.float64)


def binned_first_order(factors: Array, values: Array, n_bins: int | None = None) -> Array:
    """First-order indices from the means of bins, without the bias of their number.

    Parameters
    ----------
    factors : float array (presentations, factors)
        Discrete ones as numbers.
    values : float array (presentations, units)
    n_bins : int, optional
        By default the cube root of the number of presentations. A factor with no more values than that, or, by default,
        whose values were shown twice each or more on average, has one bin for each value.

    Returns
    -------
    float array (factors, units)
        1 - (1 - η²) (n - 1) / (n - bins), around 0 of factors without effect, and so below it at times. What a
        response changes within bins of a continuous factor is lost to the index.
    """
    factors, values = checked_factors(factors, values)
    n = len(values)
    most = max(2, round(n ** (1 / 3))) if n_bins is None else n_bins
    levels = max(most, n // REPEATS) if n_bins is None else n_bins
    found = np.full((factors.shape[1], values.shape[1]), np.nan)
    complete = ~np.isnan(values).any(0)
    for row, column in zip(found, factors.T, strict=True):
        of_bin, n_there = _bins(column, most, levels)
        anova = one_way(values[:, complete], of_bin, n_there)
        row[complete] = 1 - (1 - anova.eta_squared) * (n - 1) / anova.df_within
    return found


def _bins(column: Array, n_bins: int, n_levels: int) -> tuple[Integers, int]:
    """Bins of a factor: its values, if there are no more than `n_levels`, else about `n_bins` of equal size."""
    there, at = np.unique(column, return_inverse=True)
    if len(there) > n_levels:
        rank = stats.rankdata(column, method="min") - 1
        there, at = np.unique(np.floor(rank * n_bins / len(column)), return_inverse=True)
    return np.asarray(at, dtype=np.int64), len(there)


def orders(factors: Array, random: np.random.Generator) -> Integers:
    """Presentations in the order of each factor, equal ones in random order: int array (presentations, factors)."""
    return np.stack([np.lexsort((random.random(len(factors)), column)) for column in factors.T], axis=1)


def rank_first_order(order: Integers, values: Array) -> Array:
    """First-order indices from neighbours in the order of each factor (Gamboa et al. 2022, doi:10.3150/21-BEJ1421).

    Parameters
    ----------
    order : int array (presentations, factors)
        As `orders` returns it.
    values : float array (presentations, units)

    Returns
    -------
    float array (factors, units)
        1 - ½ mean (y_j - y_{j+1})² / Var y over neighbours: around 0 of factors without effect. No bins to choose, and
        a larger error than with bins where few would do.

    Examples
    --------
    >>> x = np.linspace(0, 1, 1001)[:, None]
    >>> order = orders(x, np.random.default_rng(0))
    >>> rank_first_order(order, np.sin(7 * x)).round(3)
    array([[1.]])
    """
    variance = values.var(axis=0, ddof=1)
    variance = np.where(variance > 0, variance, np.nan)
    steps = [((np.diff(values[at], axis=0)) ** 2).mean(0) for at in order.T]
    return np.stack([1 - step / (2 * variance) for step in steps])


def chatterjee(order: Integers, values: Array) -> Array:
    """Chatterjee's ξ of each factor and unit: 0 where they are independent, 1 where the response is a function of it.

    Of ranks of the response, so that it is no share of the variance but the same under any monotonic change of it
    (Chatterjee 2021, doi:10.1080/01621459.2020.1758115). Parameters and shape as `rank_first_order`.

    Examples
    --------
    >>> x = np.linspace(-1, 1, 201)[:, None]
    >>> order = orders(x, np.random.default_rng(0))
    >>> chatterjee(order, np.concatenate([x, x**2], axis=1)).round(3)
    array([[0.985, 0.97 ]])
    """
    n = len(values)
    known = ~np.isnan(values).any(0)
    safe = np.where(known, values, 0)
    below = stats.rankdata(safe, method="max", axis=0)
    above = n + 1 - stats.rankdata(safe, method="min", axis=0)
    whole = 2 * (above * (n - above)).sum(0)
    whole = np.where(known & (whole > 0), whole, np.nan)
    steps = [np.abs(np.diff(below[at], axis=0)).sum(0) for at in order.T]
    return np.stack([1 - n * step / whole for step in steps])


def against_shuffled(
    estimator: Estimator, design: NDArray[np.generic], values: Array, n_permutations: int, random: np.random.Generator
) -> PermutationTest:
    """Test of indices against those of responses that are permuted over presentations.

    Parameters
    ----------
    estimator : callable
        (design, values) → indices (factors, units), such as `binned_first_order` of factors, or `rank_first_order` of
        orders.
    design : array
        Factors, orders or neighbours: what the estimator takes.
    values : float array (presentations, units)
        All units are permuted alike.
    n_permutations : int
    random : numpy.random.Generator

    Returns
    -------
    PermutationTest of arrays (factors, units)
        Of no factor having any effect. Where factors depend on each other, a small p-value says that a factor tells
        something about the response, not that it acts on it.
    """
    n = len(values)
    draws = (values[random.permutation(n)] for _ in range(n_permutations))
    return against_null(estimator(design, values), lambda: estimator(design, next(draws)), n_permutations)


def half_sample_se(
    estimator: Estimator, factors: Array, values: Array, n_draws: int, random: np.random.Generator
) -> Array:
    """Standard errors of indices from their spread over random halves of the presentations.

    The variance over halves, drawn without replacement, is that of the whole (a jackknife that leaves out half of the
    data; Shao & Wu 1989): a bootstrap would repeat presentations, which are then neighbours of themselves.

    Parameters
    ----------
    estimator : callable
        (factors, values) → indices of any shape.
    factors : float array (presentations, factors)
    values : float array (presentations, units)
    n_draws : int
    random : numpy.random.Generator
    """
    n = len(values)
    drawn = []
    for _ in range(n_draws):
        half = np.sort(random.permutation(n)[: n // 2])
        drawn.append(estimator(factors[half], values[half]))
    return np.asarray(np.std(drawn, axis=0, ddof=1))


@dataclass(frozen=True)
class Dependence:
    """How far factors depend on each other: float arrays (factors, factors), NaN on the diagonal.

    Attributes
    ----------
    spearman : float array
        Rank correlation.
    xi : float array
        Chatterjee's ξ, of the row's factor as a function of the column's.
    p_value : float array
        By permuting every factor, of the larger of |Spearman's ρ| and both ξ.
    p_any : float
        Of the largest over all pairs: small where first-order indices are to be read with care. NaN of one factor.
    """

    spearman: Array
    xi: Array
    p_value: Array
    p_any: float


def dependence(factors: Array, n_permutations: int, random: np.random.Generator) -> Dependence:
    """Measures and tests of the dependence of factors (presentations, factors) on each other."""
    factors, _ = checked_factors(factors, np.zeros((len(factors), 1)))
    d = factors.shape[1]
    pairs = np.triu_indices(d, 1)

    def measures(given: Array) -> tuple[Array, Array]:
        ranks = stats.rankdata(given, axis=0)
        centred = ranks - ranks.mean(0)
        size = np.sqrt((centred**2).sum(0))
        size = np.where(size > 0, size, np.nan)
        rho = centred.T @ centred / (size[:, None] * size)
        return rho, chatterjee(orders(given, random), given).T

    def largest(given: Array) -> Array:
        rho, xi = measures(given)
        return np.asarray(np.fmax(np.abs(rho), np.fmax(xi, xi.T))[pairs])

    rho, xi = measures(factors)
    test = against_null(
        np.fmax(np.abs(rho), np.fmax(xi, xi.T))[pairs],
        lambda: largest(random.permuted(factors, axis=0)),
        n_permutations,
    )
    p = np.full((d, d), np.nan)
    p[pairs] = test.p_value
    p.T[pairs] = test.p_value
    np.fill_diagonal(rho, np.nan)
    np.fill_diagonal(xi, np.nan)
    known = test.p_maximum[~np.isnan(test.p_maximum)]
    return Dependence(rho, xi, p, float(known.min()) if len(known) else float("nan"))
