"""Noise by inversion: each number follows from one uniform number, so that no draw changes those behind it."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, pdtr, pdtrik

Array = NDArray[np.float64]
LARGE: Final = 30.0  # mean, up to which probabilities are added up one by one
MOST: Final = 200  # terms of a mean of 30: what is left of the probability is under 1e-16


def poisson_counts(mean: Array, uniform: Array) -> Array:
    """Poisson counts as quantiles: the least k with P(X <= k) >= uniform.

    Parameters
    ----------
    mean : float array
        0 or more.
    uniform : float array
        In (0, 1), of the same shape.

    Examples
    --------
    >>> poisson_counts(np.array([0.0, 1.0, 1.0, 100.0]), np.array([0.9, 0.3, 0.99, 0.5]))
    array([  0.,   0.,   4., 100.])
    """
    counts = np.empty(mean.shape)
    is_small = mean <= LARGE
    counts[is_small] = _added_up(mean[is_small], uniform[is_small])
    large, quantile = mean[~is_small], uniform[~is_small]
    found = np.ceil(pdtrik(quantile, large))
    # it is inexact where the quantile is a whole number
    below = np.maximum(found - 1, 0)
    counts[~is_small] = np.where(pdtr(below, large) >= quantile, below, found)
    return counts


def _added_up(mean: Array, uniform: Array) -> Array:
    """Counts (n,), by adding probabilities of 0, 1, … up to those that the uniform numbers lie in."""
    counts = np.zeros(len(mean))
    term = np.exp(-mean)
    left: NDArray[np.int64] = np.flatnonzero(uniform > term)
    term, reached, goal, mean = term[left], term[left].copy(), uniform[left], mean[left]
    for k in range(1, MOST):
        if not len(left):
            break
        counts[left] = k
        term = term * (mean / k)
        reached = reached + term
        go_on = goal > reached
        left, term, reached = left[go_on], term[go_on], reached[go_on]
        goal, mean = goal[go_on], mean[go_on]
    return counts


def normal_deviates(uniform: Array) -> Array:
    """Standard normal numbers as quantiles.

    Examples
    --------
    >>> normal_deviates(np.array([0.5, 0.975])).round(3)
    array([0.  , 1.96])
    """
    return np.asarray(ndtri(uniform), dtype=np.float64)
