"""Centred kernel alignment of two sets of responses to the same stimuli (NumPy, no labels).

Kornblith et al. 2019; without bias by Song et al. 2012. Linear kernels are products of responses, so that they add up
over blocks of units.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
LEAST_STIMULI = 4  # for the estimator without bias
SMALLEST = 1e-13  # of the sum of squares of a kernel: what is less of it is rounding
PAIRS = ((0, 1), (0, 0), (1, 1))  # whose products alignment is made of
BLOCK_ELEMENTS = 1 << 16  # of rows of a kernel that are copied at a time


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
        product = block @ block.T
        # to add the first to 0 would take another matrix
        self.matrix = np.add(self.matrix, product, out=self.matrix) if self.n_units else product
        self.n_units += block.shape[1]

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
    return Alignment(k, l, biased=biased).value


class Alignment:
    """Centred kernel alignment of two kernels, of parts of their stimuli, and of permuted ones; none copies a kernel.

    Parameters
    ----------
    k, l, biased
        As for `cka`.

    Raises
    ------
    ValueError
        If there are fewer than 4 stimuli for the estimator without bias.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(30, 5))
    >>> found = Alignment(x @ x.T, x[:, :2] @ x[:, :2].T)
    >>> null = found.permuted([rng.permutation(30) for _ in range(99)])
    >>> bool(found.value > null.max())
    True
    """

    def __init__(self, k: Array, l: Array, *, biased: bool = False) -> None:  # noqa: E741
        self._n, self._biased = len(k), biased
        _require(self._n, biased)
        self._both = (k, l)
        self._means = [one.mean(0) for one in self._both]
        self._grand = [float(means.mean()) for means in self._means]
        self._sums = np.empty((2, self._n))  # of rows
        self._products = np.empty((3, self._n))  # of k and l, k and k, l and l, summed over rows
        for rows in _blocks(self._n):
            parts = [self._rows(which, np.arange(rows.start, rows.stop)) for which in (0, 1)]
            self._sums[:, rows] = [part.sum(1) for part in parts]
            self._products[:, rows] = [np.einsum("ij,ij->i", parts[a], parts[b]) for a, b in PAIRS]
        # the diagonal counts here: kernels that are nothing else have no variance without bias
        self._sizes = [float(np.einsum("ij,ij->", one, one)) for one in self._both]

    @property
    def value(self) -> float:
        """Alignment over all stimuli."""
        return self._ratio(self._products.sum(1), self._sums, self._sizes)

    def without(self, group: Integers) -> float:
        """Alignment over the stimuli that are not of a group, between kernels that are centred over these."""
        _require(self._n - len(group), self._biased)
        parts = [self._rows(which, group) for which in (0, 1)]
        kept = np.ones(self._n, dtype=np.bool_)
        kept[group] = False
        # rows and columns of the group, less where they meet
        lost = 2 * self._products[:, group].sum(1)
        lost -= [np.einsum("ij,ij->", parts[a][:, group], parts[b][:, group]) for a, b in PAIRS]
        sums = np.array([of[kept] - part.sum(0)[kept] for of, part in zip(self._sums, parts, strict=True)])
        sizes = [size * kept.mean() for size in self._sizes]
        return self._ratio(self._products.sum(1) - lost, sums, sizes)

    def permuted(self, orders: Sequence[Integers]) -> Array:
        """Alignment where stimulus `i` of the first kernel meets stimulus ``order[i]`` of the second (orders,)."""
        k, l = self._both  # noqa: E741
        own, other = self._sums
        plain = [one.sum(1) if self._biased else of for one, of in zip(self._both, self._sums, strict=True)]
        scale = np.sqrt(self._independence(self._products[1].sum(), own, own))
        scale *= np.sqrt(self._independence(self._products[2].sum(), other, other))
        if np.isnan(self.value):
            return np.full(len(orders), np.nan)
        return np.array(
            [
                self._independence(_permuted_product(k, l, order, self._biased), plain[0], plain[1][order]) / scale
                for order in orders
            ]
        )

    def _rows(self, which: int, rows: Integers) -> Array:
        """Rows of a kernel that is centred, or has a diagonal of 0."""
        part = self._both[which][rows]
        if self._biased:
            part -= self._means[which]
            part -= self._means[which][rows, None] - self._grand[which]
        else:
            # a shift of the kernel by a constant, or by rows and columns, leaves the estimate as it is
            part[np.arange(len(rows)), rows] = 0
        return np.asarray(part)

    def _independence(self, product: float, own: Array, other: Array) -> float:
        """Hilbert-Schmidt independence, from the sum of products and the sums of rows; centres what is not centred."""
        n = len(own)
        sums, crossed = float(own.sum() * other.sum()), float(own @ other)
        if self._biased:
            return product - 2 * crossed / n + sums / n**2
        return (product + sums / ((n - 1) * (n - 2)) - 2 * crossed / (n - 2)) / (n * (n - 3))

    def _ratio(self, products: Array, sums: Array, sizes: Sequence[float]) -> float:
        between, *within = (
            self._independence(float(product), sums[a], sums[b])
            for product, (a, b) in zip(products, PAIRS, strict=True)
        )
        if any(one <= SMALLEST * size for one, size in zip(within, sizes, strict=True)):
            return float("nan")
        return float(between / np.sqrt(within[0] * within[1]))


def _require(n: int, biased: bool) -> None:
    if not biased and n < LEAST_STIMULI:
        raise ValueError(f"CKA without bias takes {LEAST_STIMULI} or more stimuli, received {n}")


def _blocks(n: int) -> list[slice]:
    width = max(1, BLOCK_ELEMENTS // max(n, 1))
    return [slice(start, min(start + width, n)) for start in range(0, n, width)]


def _permuted_product(k: Array, l: Array, order: Integers, with_diagonal: bool) -> float:  # noqa: E741
    """Sum of k[i, j] l[order[i], order[j]], from the upper halves of the kernels."""
    found = 0.0
    for rows in _blocks(len(k)):
        mine = k[rows, rows.start :]
        others = l[order[rows]].take(order[rows.start :], axis=1)
        square = slice(0, len(mine))
        inner = np.einsum("ij,ij->", mine[:, square], others[:, square])
        found += 2 * np.einsum("ij,ij->", mine, others) - inner
    diagonal = 0.0 if with_diagonal else np.diag(k) @ np.diag(l)[order]
    return float(found - diagonal)
