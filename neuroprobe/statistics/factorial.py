"""Analysis of variance of factorial experiments, balanced or not, of many units at once (NumPy, no labels)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]
Term = tuple[int, ...]
RANK: Final = 1e-9  # singular values that are 0 beside the largest
GRAM: Final = 1e-12  # eigenvalues that are 0 beside the largest
ROUNDING: Final = 1e-12


@dataclass(frozen=True)
class FactorialAnova:
    """Terms of an analysis of variance; arrays (terms, units), NaN where there is nothing to test.

    Attributes
    ----------
    terms : tuple of tuples of int
        Factors of each term: main effects first.
    df : float array (terms,)
    df_error : float array (units,)
    sum_of_squares, statistic, p_value : float arrays
        The statistic is F.
    omega_squared, partial_omega_squared : float arrays
        Share of the variance, without bias and so below 0 at times: of all of it, and of that which other terms leave.
        Shares of all of it add up to the explained share only where the experiment is balanced.
    error : float array (units,)
        Mean square of trials around their cells, or around what the terms leave.
    """

    terms: tuple[Term, ...]
    df: Array
    df_error: Array
    sum_of_squares: Array
    statistic: Array
    p_value: Array
    omega_squared: Array
    partial_omega_squared: Array
    error: Array


def factorial_anova(
    values: NDArray[np.floating],
    levels: NDArray[np.integer],
    order: int | None = None,
    kind: int = 2,
) -> FactorialAnova:
    """Analysis of variance over the levels of several factors.

    Parameters
    ----------
    values : float array (trials, units)
        NaN where a unit lacks a trial.
    levels : int array (trials, factors)
        Level of each factor, as any integers.
    order : int, optional
        Largest number of factors in a term; by default all of them, with every interaction.
    kind : int
        Of the sums of squares: 1, each term after those before it; 2, each after all that do not contain it; 3, each
        after all others, with contrasts that sum to 0. Equal where all cells have as many trials.

    Raises
    ------
    ValueError
        If there are not levels of every trial, or `kind` or `order` do not exist.

    Notes
    -----
    ω² = (SS - df · MSE) / (SS_total + MSE), partial ω² = (SS - df · MSE) / (SS + (n - df) · MSE). Cells without trials
    take degrees of freedom from the interactions; the main effects of kind 3 then depend on which cells these are.

    Units are grouped by which trials they lack; each group is solved at once.

    Examples
    --------
    >>> levels = np.array([[0, 0], [0, 1], [1, 0], [1, 1]] * 2)
    >>> values = np.array([1.0, 2, 5, 6, 1.5, 2.5, 5, 6.5])[:, None]
    >>> found = factorial_anova(values, levels)
    >>> found.terms, found.omega_squared.ravel().round(3)
    (((0,), (1,), (0, 1)), array([ 0.905,  0.074, -0.002]))
    """
    levels = np.asarray(levels)
    if levels.ndim != 2 or len(levels) != len(values):
        raise ValueError(f"levels are (trials, factors) of {len(values)} trials, received an array {levels.shape}")
    if kind not in (1, 2, 3):
        raise ValueError(f"sums of squares are of kind 1, 2 or 3, received {kind}")
    n_factors = levels.shape[1]
    most = n_factors if order is None else order
    if not 1 <= most <= n_factors:
        raise ValueError(f"terms have 1 to {n_factors} factors, received {order}")
    terms = tuple(term for size in range(1, most + 1) for term in itertools.combinations(range(n_factors), size))
    values = np.asarray(values, dtype=np.float64)
    n_units = values.shape[1]
    df, df_error = np.full((len(terms), n_units), np.nan), np.full(n_units, np.nan)
    squares = np.full((len(terms), n_units), np.nan)
    left, total = np.full(n_units, np.nan), np.full(n_units, np.nan)
    known = ~np.isnan(values)
    patterns, group = np.unique(known, axis=1, return_inverse=True)
    for number, pattern in enumerate(patterns.T):
        units = np.flatnonzero(group.ravel() == number)
        if not pattern.any():
            continue
        found = _sums(values[np.ix_(pattern, units)], levels[pattern], terms, kind)
        df[:, units], squares[:, units] = found[0][:, None], found[1]
        df_error[units], left[units], total[units] = found[2:]
    return _finished(terms, df, df_error, squares, left, total, known.sum(0))


def _finished(
    terms: tuple[Term, ...], df: Array, df_error: Array, squares: Array, left: Array, total: Array, n: NDArray[np.int64]
) -> FactorialAnova:
    squares = np.where((df > 0) & (total > 0), squares, np.nan)
    error = left / np.where(df_error > 0, df_error, np.nan)
    above = squares - df * error
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = squares / df / error
        p = np.where(np.isnan(statistic), np.nan, special.fdtrc(df, df_error, statistic))
        partial = above / (squares + (n - df) * error)
    size = np.where(np.isnan(df).all(1), np.nan, np.nanmax(np.where(np.isnan(df), 0, df), axis=1, initial=0))
    return FactorialAnova(terms, size, df_error, squares, statistic, p, above / (total + error), partial, error)


def _sums(
    values: Array, levels: NDArray[np.integer], terms: Sequence[Term], kind: int
) -> tuple[Array, Array, int, Array, Array]:
    """Degrees of freedom and sums of squares of terms; those of the error; the total sum of squares."""
    columns = {term: _contrasts(levels, term) for term in terms}
    centred = values - values.mean(0) if len(values) else values
    rank, explained = _explained(centred, [columns[term] for term in terms])
    df, squares = np.empty(len(terms)), np.empty((len(terms), values.shape[1]))
    for at, term in enumerate(terms):
        if kind == 1:
            others, with_term = list(terms[:at]), list(terms[: at + 1])
        elif kind == 2:
            others = [other for other in terms if not set(term) <= set(other)]
            with_term = [*others, term]
        else:
            others, with_term = [other for other in terms if other != term], list(terms)
        fewer = _explained(centred, [columns[other] for other in others])
        more = _explained(centred, [columns[other] for other in with_term])
        df[at], squares[at] = more[0] - fewer[0], more[1] - fewer[1]
    total = (centred**2).sum(0)
    size = (values**2).sum(0)
    left = total - explained
    total = np.where(total > ROUNDING**2 * size, total, 0)
    least = ROUNDING * total
    squares = np.where(squares > least, squares, 0)
    return df, squares, max(len(values) - 1 - rank, 0), np.where(left > least, left, 0), total


def _contrasts(levels: NDArray[np.integer], term: Term) -> Array:
    """Columns of a term: products of contrasts that sum to 0 over the levels of each factor; no more than rows."""
    factors = [_contrasts_of(levels[:, factor]) for factor in term]
    if math.prod(of.shape[1] for of in factors) <= len(levels):
        columns = np.ones((len(levels), 1))
        for of in factors:
            columns = (columns[:, :, None] * of[:, None, :]).reshape(len(levels), -1)
        return columns
    # products of all columns have the product of the factors' Gram matrices, and so the same space and singular values
    gram = np.ones((len(levels), len(levels)))
    for of in factors:
        gram *= of @ of.T
    size, vectors = np.linalg.eigh(gram)
    kept = size > GRAM * size.max(initial=0)
    return np.asarray(vectors[:, kept] * np.sqrt(size[kept]))


def _contrasts_of(levels: NDArray[np.integer]) -> Array:
    there, at = np.unique(levels, return_inverse=True)
    of_level = np.vstack([np.eye(len(there) - 1), -np.ones((1, len(there) - 1))])
    return np.asarray(of_level[at])


def _explained(centred: Array, columns: Sequence[Array]) -> tuple[int, Array]:
    """Rank of columns beside a constant, and the sum of squares that they explain (units,)."""
    matrix = np.concatenate([np.ones((len(centred), 1)), *columns], axis=1)
    u, singular, _ = np.linalg.svd(matrix, full_matrices=False)
    basis = u[:, singular > RANK * singular.max(initial=0)]
    return max(basis.shape[1] - 1, 0), np.asarray(((basis.T @ centred) ** 2).sum(0))
