"""Centred kernel alignment of two sets of responses to the same stimuli (NumPy, no labels).

Kornblith et al. 2019; without bias by Song et al. 2012. Linear kernels are products of responses, so that they add up
over blocks of units.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
LEAST_STIMULI = 4  # for the estimator without bias


class Kernel:
    """Linear kernel of responses (stimuli, stimuli), summed over blocks of units that are centred over stimuli.

    Examples
    --------
    >>> kernel = Kernel(3)
    >>> kernel.add(np.array([[1.0, 2], [3, 4], [5, 9]]))
    >>> kernel.matrix.round(6).tolist()
    [[13.0, 3.0, -16.0], [3.0, 1.0, -4.0], [-16.0, -4.0, 20.0]]
    """

    def __init__(self, n_stimuli: int) -> None:
        self.n_units = 0
        self.matrix = np.zeros((n_stimuli, n_stimuli))

    def add(self, responses: NDArray[np.floating]) -> None:
        """Take in the responses (stimuli, units) of some units."""
        block = np.asarray(responses, dtype=np.float64)
        block = block - block.mean(0)
        self.n_units += block.shape[1]
        self.matrix += block @ block.T

    def merge(self, other: Kernel) -> None:
        """Add the kernel of other units."""
        self.n_units += other.n_units
        self.matrix += other.matrix


def cka(k: Array, l: Array, *, biased: bool = False) -> float:  # noqa: E741 - as in the literature
    """Centred kernel alignment of two kernels of the same stimuli.

    Parameters
    ----------
    k, l : float arrays (stimuli, stimuli)
        Symmetric; those that are not centred are.
    biased : bool
        Whether the first definition is taken, tr(KHLH) / √(tr(KHKH) tr(LHLH)), which is near 1 of any two kernels of
        more units than stimuli. Else Hilbert-Schmidt independence is estimated without bias, and can be below 0.

    Returns
    -------
    float
        NaN where a kernel has no variance, or its estimate is not above 0.

    Raises
    ------
    ValueError
        If there are fewer than 4 stimuli for the estimator without bias.

    Examples
    --------
    >>> k = np.diag([1.0, 2, 3, 4])
    >>> round(cka(k, 5 * k), 12), round(cka(k, 5 * k, biased=True), 12)
    (nan, 1.0)
    """
    n = len(k)
    if not biased and n < LEAST_STIMULI:
        raise ValueError(f"CKA without bias takes {LEAST_STIMULI} or more stimuli, received {n}")
    both = [_centred(one) if biased else _hollow(one) for one in (k, l)]
    parts = [
        _independence(one, other, biased) for one, other in ((both[0], both[1]), (both[0], both[0]), (both[1], both[1]))
    ]
    sizes = [float((one**2).sum()) for one in (k, l)]
    if any(part <= 1e-13 * size for part, size in zip(parts[1:], sizes, strict=True)):
        return float("nan")
    return float(parts[0] / np.sqrt(parts[1] * parts[2]))


def _centred(k: Array) -> Array:
    means = k.mean(0)
    return np.asarray(k - means - means[:, None] + means.mean())


def _hollow(k: Array) -> Array:
    # a shift of the kernel by a constant, or by rows and columns, leaves the estimate as it is
    return np.asarray(k - np.diag(np.diag(k)))


def _independence(k: Array, l: Array, biased: bool) -> float:  # noqa: E741
    product = float((k * l).sum())
    if biased:
        return product
    n = len(k)
    sums = float(k.sum() * l.sum()) / ((n - 1) * (n - 2))
    crossed = 2 * float(k.sum(0) @ l.sum(0)) / (n - 2)
    return (product + sums - crossed) / (n * (n - 3))
