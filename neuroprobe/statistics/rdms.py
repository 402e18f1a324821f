"""Dissimilarities of stimuli from responses, of which a block of units is in memory at a time (NumPy, no labels).

Pairs stand in the order of ``np.triu_indices(n, 1)``, as those of scipy's ``squareform`` do.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
PRIOR_RATE, PRIOR_WEIGHT = 1.0, 0.1  # of responses under ``poisson``
CHECKED: Final = 1e-12  # of a norm: less is what rounding leaves of 0


class Products:
    """Products of the responses to all pairs of stimuli, summed over blocks of units.

    Parameters
    ----------
    n_stimuli : int
    distance : {"correlation", "euclidean", "cosine", "poisson"}
        Which distance is wanted of them.

    Notes
    -----
    ``correlation`` is 1 - r over units. ``euclidean`` is the squared distance per unit, Σ (a - b)² / P, and ``poisson``
    a symmetrised Kullback-Leibler divergence per unit, Σ (λᵢ - λⱼ) (ln λᵢ - ln λⱼ) / P with λ = (m + 0.1) / 1.1, as
    in rsatoolbox. Memory is that of stimuli².

    Examples
    --------
    >>> responses = np.array([[0.0, 1, 2], [2, 1, 0], [0, 2, 4.0]])
    >>> products = Products(3, "correlation")
    >>> for block in (responses[:, :2], responses[:, 2:]):
    ...     products.add(block)
    >>> products.distances().round(12).tolist()
    [2.0, 0.0, 2.0]
    """

    def __init__(self, n_stimuli: int, distance: str = "correlation") -> None:
        if distance not in DISTANCES:
            raise ValueError(f"unknown distance {distance!r}; known: {', '.join(DISTANCES)}")
        self.n_stimuli, self.distance, self.n_units = n_stimuli, distance, 0
        self._gram = np.zeros((n_stimuli, n_stimuli))
        self._sum = np.zeros(n_stimuli)
        self._own = np.zeros(n_stimuli)
        self._shift: float | None = None

    def add(self, responses: NDArray[np.floating]) -> None:
        """Take in the responses (stimuli, units) of some units."""
        block = np.asarray(responses, dtype=np.float64)
        is_first, self.n_units = not self.n_units, self.n_units + block.shape[1]
        if self.distance == "poisson":
            rate = (block + PRIOR_RATE * PRIOR_WEIGHT) / (1 + PRIOR_WEIGHT)
            if (rate <= 0).any():
                raise ValueError("poisson distances are of responses above -0.1, such as rates and counts")
            logarithm = np.log(rate)
            self._gram += rate @ logarithm.T
            self._own += (rate * logarithm).sum(1)
            return
        if self.distance != "cosine":
            if self._shift is None:
                # distances are the same of responses less one number, and products of smaller numbers are more exact
                self._shift = float(block.mean()) if block.size else 0.0
            block = block - self._shift
        product = block @ block.T
        # to add the first to 0 would take another matrix
        self._gram = product if is_first else np.add(self._gram, product, out=self._gram)
        self._sum += block.sum(1)

    def merge(self, other: Products) -> None:
        """Add the products of other units."""
        by = 0.0 if self._shift is None or other._shift is None else other._shift - self._shift
        self._shift = other._shift if self._shift is None else self._shift
        self.n_units += other.n_units
        self._own += other._own
        self._gram += other._gram
        if by:
            # those of responses less the number that is taken off here, a row at a time, so that no matrix is copied
            both = other._sum * by + other.n_units * by**2
            for row, own in enumerate(other._sum * by):
                self._gram[row] += both + own
        self._sum += other._sum + other.n_units * by

    def distances(self) -> Array:
        """Distances of all pairs (pairs,); NaN where a stimulus has no variance, or no length."""
        first, second = np.triu_indices(self.n_stimuli, 1)
        if self.distance == "poisson":
            crossed = self._gram + self._gram.T
            return np.asarray((self._own[first] + self._own[second] - crossed[first, second]) / self.n_units)
        gram = self._gram
        if self.distance == "correlation":
            gram = gram - np.outer(self._sum, self._sum) / self.n_units
        size = np.diag(gram)
        if self.distance == "euclidean":
            squared = size[first] + size[second] - 2 * gram[first, second]
            return np.asarray(np.maximum(squared, 0) / self.n_units)
        whole = np.diag(self._gram)
        length = np.sqrt(np.where(size > CHECKED * np.maximum(whole, np.finfo(float).tiny), size, np.nan))
        return np.asarray(1 - np.clip(gram[first, second] / (length[first] * length[second]), -1, 1))


DISTANCES: Final = ("correlation", "euclidean", "cosine", "poisson")
WHITENED: Final = ("mahalanobis", "crossnobis")  # those that take the noise of repetitions


def noise_covariance(residuals: NDArray[np.floating], degrees: int) -> Array:
    """Covariance of noise, whose correlations are shrunk towards 0 (Schäfer & Strimmer 2005).

    Parameters
    ----------
    residuals : float array (trials, units)
        Responses less the means of their stimuli.
    degrees : int
        Degrees of freedom: trials less stimuli.

    Returns
    -------
    float array (units, units)
        As rsatoolbox's ``shrinkage_diag``.

    Raises
    ------
    ValueError
        If a unit has no noise, so that there is no inverse.
    """
    n, products = len(residuals), residuals.T @ residuals
    variance = np.diag(products) / degrees
    if not (variance > 0).all():
        raise ValueError(f"unit {int(np.argmin(variance))} has no noise: its trials do not differ; leave it out")
    scale = np.sqrt(np.outer(variance, variance))
    correlation = products / scale / (n - 1)
    squares = (residuals**2).T @ residuals**2 / scale**2 / (n - 1)
    apart = ~np.eye(len(variance), dtype=np.bool_)
    doubt = (n / degrees**2 * (squares - correlation**2))[apart].sum()
    sure = (correlation[apart] ** 2).sum()
    shrinkage = float(np.clip(doubt / sure, 0, 1)) if sure > 0 else 1.0
    return np.asarray(products / degrees * np.where(apart, 1 - shrinkage, 1.0))


def whitened_distances(trials: NDArray[np.floating], distance: str) -> Array:
    """Distances in units of noise, from trials.

    Parameters
    ----------
    trials : float array (repetitions, stimuli, units)
    distance : {"mahalanobis", "crossnobis"}
        ``crossnobis`` multiplies differences of one repetition with those of all others (`CrossProducts`), so that it
        is 0 on average where two stimuli do not differ.

    Returns
    -------
    float array (pairs,)
        Squared, per unit.

    Raises
    ------
    ValueError
        As of `noise_covariance`, or if there are fewer than two repetitions.
    """
    values = np.asarray(trials, dtype=np.float64)
    n_repetitions, n_stimuli, n_units = values.shape
    if n_repetitions < 2:
        raise ValueError(f"{distance} takes two repetitions or more of each stimulus, received {n_repetitions}")
    mean = values.mean(0)
    residuals = (values - mean).reshape(-1, n_units)
    covariance = noise_covariance(residuals, (n_repetitions - 1) * n_stimuli)
    precision = np.asarray(np.linalg.inv(covariance), dtype=np.float64)
    if distance == "mahalanobis":
        return mahalanobis(mean, precision)
    products = CrossProducts(n_repetitions, n_stimuli)
    products.add(values @ np.linalg.cholesky(precision))
    return products.distances()


def mahalanobis(responses: NDArray[np.floating], precision: Array) -> Array:
    """Squared Mahalanobis distances per unit of all pairs (pairs,).

    Parameters
    ----------
    responses : float array (stimuli, units)
    precision : float array (units, units)
        Inverse of the covariance of the noise, or an estimate that shrinks it.
    """
    first, second = np.triu_indices(len(responses), 1)
    gram = responses @ precision @ responses.T
    size = np.diag(gram)
    return np.asarray((size[first] + size[second] - gram[first, second] - gram[second, first]) / responses.shape[1])


class CrossProducts:
    """Products across folds of repetitions, summed over blocks of units, for cross-validated distances.

    Notes
    -----
    ``crossnobis`` (Walther et al. 2016): differences of one fold times those of the mean of all others, averaged over
    folds and per unit. It is 0 on average where two stimuli do not differ, so that single ones are below 0. Whiten the
    noise before, or get the cross-validated Euclidean distance.

    Examples
    --------
    >>> folds = np.array([[[0.0, 1], [1, 1]], [[0, 1], [3, 1]]])
    >>> products = CrossProducts(2, 2)
    >>> products.add(folds)
    >>> products.distances().tolist()
    [1.5]
    """

    def __init__(self, n_folds: int, n_stimuli: int) -> None:
        if n_folds < 2:
            raise ValueError(f"crossnobis takes 2 or more folds of repetitions, received {n_folds}")
        self.n_units, self._folds = 0, n_folds
        self._gram = np.zeros((n_stimuli, n_stimuli))

    def add(self, folds: NDArray[np.floating]) -> None:
        """Take in the mean responses (folds, stimuli, units) of some units."""
        folds = np.asarray(folds, dtype=np.float64)
        self.n_units += folds.shape[2]
        total = folds.sum(0)
        for fold in folds:
            product = fold @ (total - fold).T / (self._folds - 1)
            self._gram += (product + product.T) / 2

    def distances(self) -> Array:
        """Distances of all pairs (pairs,)."""
        first, second = np.triu_indices(len(self._gram), 1)
        size = np.diag(self._gram)
        squared = size[first] + size[second] - 2 * self._gram[first, second]
        return np.asarray(squared / (self._folds * self.n_units))


def n_of_pairs(n_pairs: int) -> int:
    """Number of stimuli that have so many pairs.

    Raises
    ------
    ValueError
        If none has.

    Examples
    --------
    >>> n_of_pairs(4186)
    92
    """
    n = round((1 + np.sqrt(1 + 8 * n_pairs)) / 2)
    if n * (n - 1) // 2 != n_pairs:
        raise ValueError(f"{n_pairs} are not the pairs of any number of stimuli")
    return int(n)
