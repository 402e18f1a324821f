"""Shapley effects from data as they are, by nearest neighbours (NumPy, no labels).

The variance that follows from a set u of factors, c(u) = Var E[Y | X_u], is Var Y less the mean variance of responses
among presentations that are neighbours in X_u (Broto, Bachoc & Depecker 2020, doi:10.1137/18M1234631). The Shapley
effect of a factor is its fair part of c of all factors, also where factors depend on each other.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial import cKDTree

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
MOST_FACTORS: Final = 12  # of which there are 4095 sets
JITTER: Final = 1e-9  # in shares of all presentations: decides between equal distances
VALUES_AT_A_TIME: Final = 1 << 22


@dataclass(frozen=True)
class GivenShapley:
    """Shapley effects, as shares of the variance.

    Attributes
    ----------
    effect : float array (factors, units)
        Adds up to `explained`. NaN where responses do not vary or one is missing.
    explained : float array (units,)
        Share that follows from all factors; the rest is noise, or too fine for the presentations that there are.
    """

    effect: Array
    explained: Array


def subsets_of(n_factors: int) -> list[tuple[int, ...]]:
    """All sets of factors but the empty one, smaller ones first."""
    factors = range(n_factors)
    return [subset for size in factors for subset in itertools.combinations(factors, size + 1)]


def neighbours_of(factors: Array, n_neighbours: int, random: np.random.Generator) -> Integers:
    """Nearest presentations in every set of factors.

    Parameters
    ----------
    factors : float array (presentations, factors)
        Discrete ones as numbers. Distances are Euclidean between ranks.
    n_neighbours : int
        With the presentation itself: at least 2; more give a smaller error and a larger bias.
    random : numpy.random.Generator
        Decides between presentations that are equally near, as those of one level are.

    Returns
    -------
    int array (presentations, sets, n_neighbours)
        Sets in the order of `subsets_of`.

    Raises
    ------
    ValueError
        If there are more factors than 12, or neighbours than presentations.
    """
    n, d = factors.shape
    if d > MOST_FACTORS:
        raise ValueError(
            f"{d} factors have {2**d - 1} sets; Shapley effects of given data are of at most {MOST_FACTORS}"
        )
    if not 2 <= n_neighbours <= n:
        raise ValueError(f"neighbours are 2 or more and no more than the {n} presentations, received {n_neighbours}")
    place = stats.rankdata(factors, axis=0) / n + JITTER * random.random(factors.shape)
    found = np.empty((n, 2**d - 1, n_neighbours), dtype=np.int64)
    for at, subset in enumerate(subsets_of(d)):
        columns = np.ascontiguousarray(place[:, list(subset)])
        found[:, at] = cKDTree(columns).query(columns, k=n_neighbours)[1]
    return found


def shapley_effects(neighbours: Integers, values: Array, noise: bool = True) -> GivenShapley:
    """Shapley effects of factors on responses.

    Parameters
    ----------
    neighbours : int array (presentations, sets, n)
        As `neighbours_of` returns them.
    values : float array (presentations, units)
    noise : bool
        Whether responses to one stimulus differ. Without noise all of the variance follows from all factors together,
        and effects add up to 1.

    Notes
    -----
    Neighbours in many factors are far from each other: what a response changes between them counts as noise, the more
    so the more factors and the fewer presentations there are. Factors that do nothing then share some of what the
    others lose.
    """
    d = int(neighbours.shape[1] + 1).bit_length() - 1
    variance = values.var(axis=0, ddof=1)
    variance = np.where(variance > 0, variance, np.nan)
    effect, explained = np.zeros((d, values.shape[1])), np.empty(values.shape[1])
    for at, subset in enumerate(subsets_of(d)):
        whole = len(subset) == d
        share = (
            np.ones(variance.shape)
            if whole and not noise
            else 1 - _local_variance(neighbours[:, at], values) / variance
        )
        explained = np.where(np.isnan(variance), np.nan, share)
        effect += _weights(subset, d)[:, None] * explained
    return GivenShapley(effect, explained)


def _weights(subset: tuple[int, ...], d: int) -> Array:
    """What c of a set adds to the effect of each factor."""
    size = len(subset)
    within = math.factorial(size - 1) * math.factorial(d - size) / math.factorial(d)
    without = math.factorial(size) * math.factorial(d - size - 1) / math.factorial(d) if size < d else 0.0
    return np.array([within if factor in subset else -without for factor in range(d)])


def _local_variance(near: Integers, values: Array) -> Array:
    """Mean over presentations of the variance among each one's neighbours (units,)."""
    width = max(1, VALUES_AT_A_TIME // near.size)
    parts = [
        values[:, start : start + width][near].var(axis=1, ddof=1).mean(0)
        for start in range(0, max(values.shape[1], 1), width)
    ]
    return np.concatenate(parts)
