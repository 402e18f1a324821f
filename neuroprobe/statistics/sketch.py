"""A sketch of the distribution of responses: counts in bins that are the same for every unit, layer and run.

Bins are read off a float32's bits, four to an octave: each octave between 2⁻¹² and 2¹² is cut into four parts of equal
width. Sketches of several runs are added; a quantile is known to a quarter of an octave at most.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
OCTAVES: Final = 12  # above and below 1
SHIFT: Final = 21  # of a float32's 23 bits of mantissa two are left
BIAS: Final = 127
N_LEVELS: Final = 2 * OCTAVES * 4 + 1  # of absolute responses above the smallest, the last one open
N_BINS: Final = 2 * N_LEVELS + 1


def bin_of(values: NDArray[np.floating]) -> Integers:
    """Bin of each response, of the same shape: those of negative ones come first, the middle one is about 0.

    Examples
    --------
    >>> bin_of(np.array([0.0, 1.0, 1.2, 1.25, -1.0])) - N_BINS // 2
    array([  0,  49,  49,  50, -49])
    """
    single = np.ascontiguousarray(values, dtype=np.float32)
    bits = single.view(np.int32)
    level = ((bits & 0x7FFFFFFF) >> SHIFT) - ((BIAS - OCTAVES) << 2) + 1
    level = np.clip(level, 0, N_LEVELS)
    return np.where(bits < 0, N_LEVELS - level, N_LEVELS + level).astype(np.int64)


def bin_edges() -> Array:
    """Responses at which bins begin and end (bins + 1,), from -inf to inf.

    Examples
    --------
    >>> edges = bin_edges()
    >>> at = bin_of(np.array([3.0])).item()
    >>> edges[at], edges[at + 1]
    (np.float64(3.0), np.float64(3.5))
    """
    octave, part = np.divmod(np.arange(N_LEVELS), 4)
    upward = 2.0 ** (octave - OCTAVES) * (1 + part / 4)
    return np.concatenate([[-np.inf], -upward[::-1], upward, [np.inf]])


def count_bins(values: NDArray[np.floating], target: Integers, n_classes: int) -> Array:
    """Count responses by class and bin: (classes, units, bins).

    Parameters
    ----------
    values : float array (images, units)
    target : int array (images,)
    n_classes : int
    """
    n_units = values.shape[1]
    flat = (target[:, None] * n_units + np.arange(n_units)) * N_BINS + bin_of(values)
    counts = np.bincount(flat.ravel(), minlength=n_classes * n_units * N_BINS)
    return counts.reshape(n_classes, n_units, N_BINS).astype(np.float64)


def quantiles_of(counts: Array, shares: Array) -> Array:
    """Quantiles of responses from their counts, between the edges of a bin in proportion.

    Parameters
    ----------
    counts : float array (units, bins)
    shares : float array (quantiles,)
        In [0, 1].

    Returns
    -------
    float array (quantiles, units)
        0 in the bin about 0, where most responses of rectified units are; in the open bins at either end their edge.
        NaN of units without a response.

    Examples
    --------
    >>> values = np.array([[0.0], [0.0], [1.0], [2.0], [4.0]])
    >>> counts = count_bins(values, np.zeros(5, np.int64), 1)[0]
    >>> quantiles_of(counts, np.array([0.25, 0.5, 1.0])).ravel().round(2)
    array([0.  , 1.12, 5.  ])
    """
    edges = bin_edges()
    edges[0], edges[-1] = edges[1], edges[-2]
    total = counts.sum(-1)
    below = np.concatenate([np.zeros((len(counts), 1)), counts.cumsum(-1)], axis=1)
    found = np.full((len(shares), len(counts)), np.nan)
    units = np.arange(len(counts))
    for number, share in enumerate(shares):
        wanted = share * total
        at = np.minimum((below[:, 1:] < wanted[:, None]).sum(1), N_BINS - 1)
        # of nothing, the first bin that holds something
        at = np.where(counts[units, at] > 0, at, (counts > 0).argmax(1))
        held = np.where(counts[units, at] > 0, counts[units, at], np.nan)
        within = np.clip((wanted - below[units, at]) / held, 0, 1)
        value = edges[at] + within * (edges[at + 1] - edges[at])
        found[number] = np.where(at == N_LEVELS, np.where(np.isnan(held), np.nan, 0.0), value)
    return found
