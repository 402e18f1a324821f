"""Masks of units: the share that is most sensitive, sensitivities themselves, a random share (NumPy, no labels).

Rules of Kharyuk et al. 2025 (arXiv 2503.03283), guided masking.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray


def count_share(share: float, n: int) -> int:
    """Return the number of units that is a share of `n`, halves rounded up.

    Examples
    --------
    >>> count_share(0.1, 15), count_share(1 - 0.9, 15), count_share(0.1, 4)
    (2, 2, 0)
    """
    # 1 - 0.9 is a little less than 0.1
    return math.floor(round(share * n, 9) + 0.5)


def clip_map(sensitivity: ArrayLike) -> tuple[NDArray[np.float64], int]:
    """Clip a map to [0, 1], and count what was outside; NaN and infinities become NaN.

    Examples
    --------
    >>> clip_map([-0.1, 0.5, np.nan, 1.2])
    (array([0. , 0.5, nan, 1. ]), 2)
    """
    values = np.asarray(sensitivity, dtype=np.float64)
    values = np.where(np.isfinite(values), values, np.nan)
    return np.clip(values, 0, 1), int(((values < 0) | (values > 1)).sum())


def top_mask(sensitivity: ArrayLike, quantile: float, multiply: float) -> NDArray[np.float32]:
    """Mask the units of a map at or above one of its quantiles: exactly the share ``1 - quantile`` of the defined ones.

    Parameters
    ----------
    sensitivity : array_like
        NaN where it is undefined: such a unit is never masked.
    quantile : float
        In (0, 1).
    multiply : float
        What the response of these units is multiplied by.

    Returns
    -------
    array
        `multiply` at these units, 1 elsewhere. Of equally sensitive units the first ones are taken.

    Examples
    --------
    >>> top_mask([0.1, 0.8, np.nan, 0.3], 0.5, 0)
    array([1., 0., 1., 0.], dtype=float32)
    >>> top_mask([0, 0, 0, 0], 0.5, 0)
    array([0., 0., 1., 1.], dtype=float32)
    """
    values = np.asarray(sensitivity, dtype=np.float64)
    n = count_share(1 - quantile, int(np.isfinite(values).sum()))
    return np.where(descending_ranks(values) < n, multiply, 1).astype(np.float32)


def descending_ranks(sensitivity: ArrayLike) -> NDArray[np.int32]:
    """Rank units from the most sensitive one, 0, on; of equally sensitive ones the first; undefined ones come last.

    Examples
    --------
    >>> descending_ranks([0.1, 0.8, np.nan, 0.8])
    array([2, 0, 3, 1], dtype=int32)
    """
    values = np.asarray(sensitivity, dtype=np.float64)
    ranks = np.empty(values.shape, dtype=np.int32)
    ranks.flat[np.argsort(-values, axis=None, kind="stable")] = np.arange(values.size)
    return ranks


def random_ranks(candidates: NDArray[np.bool_], random: np.random.Generator) -> NDArray[np.int32]:
    """Rank candidates in a random order; all others have the rank behind the last one.

    Examples
    --------
    >>> random_ranks(np.array([True, False, True]), np.random.default_rng(0))
    array([0, 2, 1], dtype=int32)
    """
    n = int(candidates.sum())
    ranks = np.full(candidates.shape, n, dtype=np.int32)
    ranks[candidates] = random.permutation(n)
    return ranks


def soft_mask(sensitivity: ArrayLike, *, remaining: bool) -> NDArray[np.float32]:
    """Return a map in [0, 1] as a mask, or one minus it (`remaining`); 1 where it is undefined.

    Examples
    --------
    >>> soft_mask([0.25, np.nan, 1.0], remaining=True)
    array([0.75, 1.  , 0.  ], dtype=float32)
    """
    values = np.asarray(sensitivity, dtype=np.float64)
    return np.where(np.isfinite(values), 1 - values if remaining else values, 1).astype(np.float32)


def shuffled_mask(
    mask: NDArray[np.float32], candidates: NDArray[np.bool_], random: np.random.Generator
) -> NDArray[np.float32]:
    """Give what a mask holds at its candidates to the same units in a random order."""
    shuffled = mask.copy()
    shuffled[candidates] = random.permutation(mask[candidates])
    return shuffled
