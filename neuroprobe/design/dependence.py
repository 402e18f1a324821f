"""Dependent inputs: a Gaussian copula ("normal to anything"; Cario & Nelson 1997), and the rows of walks under it.

Each linked input has a latent standard normal variable; its value is its law's quantile at the latent variable's
probability, so that every input keeps its own law, whatever that is, and the correlations are the latent variables'.
What is given or drawn anew are latent variables: of an input with few values it is more than its value that is given.

Point A comes from independent normal variables n_A, point B from n_B. In a row that takes the set S from point B, all
of S is drawn anew, jointly, given A's values outside S: Z_S = K Z_A + L n_B with K the regression of S on the rest and
L the Cholesky factor of what it leaves. (Drawn one by one, given the row before, S would not have its law.) All rows of
a base sample share n_B, which lowers the variance of their differences and changes no expectation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse.csgraph import connected_components
from scipy.special import ndtr, ndtri

Array = NDArray[np.float64]
Pair = tuple[str, str]
LEAST_EIGENVALUE: Final = 1e-8  # under it, rounding decides what one input leaves of another
FLOORS: Final = (1e-3, 1e-2, 1e-1)  # least eigenvalues of matrices that are proposed, rounded to three digits
MAX_PROJECTIONS: Final = 1000
TOLERANCE: Final = 1e-6  # of the diagonal
EDGE: Final = 2.0**-53  # no law is asked for its value at 0 or 1


@dataclass(frozen=True)
class GaussianCopula:
    """Correlations of the latent normal variables of some inputs; all others are independent.

    Parameters
    ----------
    inputs : tuple of str
    matrix : tuple of tuples of float
        Correlation matrix.

    Raises
    ------
    ValueError
        If `matrix` is no correlation matrix, or is not positive definite.

    Examples
    --------
    >>> GaussianCopula.of_pairs({("a", "b"): 0.5, ("b", "c"): -0.25}).matrix
    ((1.0, 0.5, 0.0), (0.5, 1.0, -0.25), (0.0, -0.25, 1.0))
    >>> GaussianCopula.of_pairs({("a", "b"): 0.9, ("b", "c"): 0.9, ("a", "c"): 0.1})
    Traceback (most recent call last):
        ...
    ValueError: no inputs can have these correlations: the matrix is not positive definite; the nearest that is:
    a, b: 0.766; a, c: 0.178; b, c: 0.766
    """

    inputs: tuple[str, ...]
    matrix: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        matrix, n = self.correlation, len(self.inputs)
        if matrix.shape != (n, n) or len(set(self.inputs)) < n:
            raise ValueError(f"{n} inputs take {n} names and a matrix of {n} × {n}, received {matrix.shape}")
        if not (np.array_equal(matrix, matrix.T) and (np.diag(matrix) == 1).all()):
            raise ValueError("a correlation matrix is symmetric, with 1 on its diagonal")
        if n and not np.linalg.eigvalsh(matrix)[0] > LEAST_EIGENVALUE:
            raise ValueError(
                "no inputs can have these correlations: the matrix is not positive definite; the nearest that is: "
                + "; ".join(f"{one}, {other}: {r:g}" for (one, other), r in self._nearest().items())
            )

    @classmethod
    def of_pairs(cls, pairs: Mapping[Pair, float]) -> GaussianCopula:
        """Make a copula of the correlations of pairs of inputs; those of all other pairs are 0."""
        inputs = tuple(dict.fromkeys(name for pair in pairs for name in pair))
        matrix = np.eye(len(inputs))
        for pair, r in pairs.items():
            i, j = map(inputs.index, pair)
            matrix[i, j] = matrix[j, i] = r
        return cls(inputs, tuple(map(tuple, matrix.tolist())))

    @cached_property
    def correlation(self) -> Array:
        """Correlation matrix (inputs, inputs)."""
        return np.array(self.matrix, dtype=np.float64)

    @cached_property
    def linked(self) -> tuple[tuple[int, ...], ...]:
        """Groups of inputs that depend on each other, directly or through others."""
        n_groups, group = connected_components(self.correlation != 0, directed=False)
        return tuple(tuple(np.flatnonzero(group == number).tolist()) for number in range(n_groups))

    def groups(self, owner: Mapping[str, str]) -> tuple[tuple[str, ...], ...]:
        """Groups of owners of the inputs that depend on each other."""
        groups = (tuple(dict.fromkeys(owner[self.inputs[i]] for i in group)) for group in self.linked)
        return tuple(group for group in groups if len(group) > 1)

    def quantiles(self, a: Array, b: Array, from_b: NDArray[np.bool_]) -> Array:
        """Probabilities at which the laws of the inputs have their values in each row.

        Parameters
        ----------
        a, b : array (n, inputs)
            Independent uniform numbers for points A and B.
        from_b : bool array (n, rows, inputs)
            Which row takes which input from point B, or anew given the others.

        Returns
        -------
        array (n, rows, inputs)
        """
        noise_a, noise_b = ndtri(a), ndtri(b)
        latent = np.empty(from_b.shape)
        for group in self.linked:
            members = list(group)
            nothing, everything = (False,) * len(group), (True,) * len(group)
            z = _product(self._row(group, everything)[1], noise_a[:, members])
            drawn = from_b[:, :, members]
            code = drawn @ (1 << np.arange(len(group)))
            for number in np.unique(code).tolist():
                sample, row = np.nonzero(code == number)
                chosen = tuple(bool(number >> bit & 1) for bit in range(len(group)))
                of_a, of_noise = self._row(group, chosen)
                values = _product(of_a, z[sample])
                if chosen != nothing:
                    values += _product(of_noise, noise_b[sample][:, members])
                latent[sample[:, None], row[:, None], members] = values
        return np.clip(ndtr(latent), EDGE, 1 - EDGE)

    def _row(self, group: tuple[int, ...], drawn: tuple[bool, ...]) -> tuple[Array, Array]:
        """Matrices that turn A's latent values, and noise, into those of the row that draws some inputs anew."""
        return _conditional(tuple(tuple(self.matrix[i][j] for j in group) for i in group), drawn)

    def _nearest(self) -> dict[Pair, float]:
        """Correlations of the nearest positive definite matrix that are others than these."""
        upper = np.triu_indices(len(self.inputs), 1)
        for floor in FLOORS:
            nearest = np.round(nearest_correlation(self.correlation, floor), 3)
            if np.linalg.eigvalsh(nearest)[0] > LEAST_EIGENVALUE:
                break
        return {
            (self.inputs[i], self.inputs[j]): float(nearest[i, j])
            for i, j in zip(*upper, strict=True)
            if nearest[i, j] != self.correlation[i, j]
        }


@cache
def _conditional(matrix: tuple[tuple[float, ...], ...], drawn: tuple[bool, ...]) -> tuple[Array, Array]:
    """Regression on A's values, the identity where they stay, and Cholesky factor of the rest, 0 where they stay."""
    correlation, inside = np.array(matrix), np.flatnonzero(drawn)
    outside = np.flatnonzero(~np.array(drawn))
    of_a, of_noise = np.eye(len(matrix)), np.zeros_like(correlation)
    left = correlation[np.ix_(inside, inside)]
    of_a[inside] = 0
    if len(outside) and len(inside):
        shared = correlation[np.ix_(outside, inside)]
        regression = cho_solve(cho_factor(correlation[np.ix_(outside, outside)]), shared).T
        of_a[np.ix_(inside, outside)] = regression
        left = left - regression @ shared
    if len(inside):
        of_noise[np.ix_(inside, inside)] = np.linalg.cholesky(left)
    return of_a, of_noise


def nearest_correlation(matrix: Array, floor: float) -> Array:
    """Nearest matrix with 1 on its diagonal and eigenvalues from `floor`, by alternating projections (Higham 2002)."""
    correction = np.zeros_like(matrix)
    for _ in range(MAX_PROJECTIONS):
        corrected = matrix - correction
        eigenvalues, vectors = np.linalg.eigh(corrected)
        projected = (vectors * np.maximum(eigenvalues, floor)) @ vectors.T
        correction = projected - corrected
        matrix = projected.copy()
        np.fill_diagonal(matrix, 1)
        if np.abs(matrix - projected).max() < TOLERANCE:
            break
    return matrix


def _product(matrix: Array, points: Array) -> Array:
    """Product of a matrix with each point (n, inputs), in an order that does not depend on the number of points."""
    total = np.zeros_like(points)
    for column, value in zip(matrix.T, points.T, strict=True):
        total += value[:, None] * column
    return total
