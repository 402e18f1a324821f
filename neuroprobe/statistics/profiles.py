"""How alike two populations are in what drives their units: distances between sets of profiles (NumPy, no labels).

A profile is what one unit owes to each factor: shares of its variance, such as Shapley effects.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
MOST_UNITS: Final = 4096  # of either side whose pairs are in memory


class ProfileDistance(NamedTuple):
    """Distance of two populations of profiles.

    Attributes
    ----------
    energy : float
        √(2 E|X - Y| - E|X - X'| - E|Y - Y'|), without the pairs of a unit with itself (Székely & Rizzo 2013): 0 of
        populations that are alike, on average, where what is under the root may be below 0 (then 0).
    relative : float
        The same, squared, over 2 E|X - Y|: 0 to 1.
    p_value : float
        By permuting replicates.
    kolmogorov : float array (factors,)
        Largest difference of the distribution functions of each factor's share.
    kolmogorov_p : float array (factors,)
    """

    energy: float
    relative: float
    p_value: float
    kolmogorov: Array
    kolmogorov_p: Array


def profile_distance(
    x: Array,
    y: Array,
    replicates_x: Integers,
    replicates_y: Integers,
    n_permutations: int,
    random: np.random.Generator,
) -> ProfileDistance:
    """Compare two populations of profiles.

    Parameters
    ----------
    x, y : float arrays (units, factors)
        Without NaN.
    replicates_x, replicates_y : int arrays (units,)
        What was sampled: the channel of a network's unit, the animal or session of a neuron. Units of one replicate
        stay together when labels are permuted, as they are no independent samples.
    n_permutations : int

    Raises
    ------
    ValueError
        If a population has fewer than 2 units.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x, y = rng.dirichlet([1, 1, 1], 60), rng.dirichlet([5, 1, 1], 60)
    >>> found = profile_distance(x, y, np.arange(60), np.arange(60), 99, rng)
    >>> found.p_value, bool(found.kolmogorov[0] > 0.3)
    (0.01, True)
    """
    if min(len(x), len(y)) < 2:
        raise ValueError(f"profiles of {len(x)} and {len(y)} units: a population has 2 or more")
    both = np.concatenate([x, y])
    distances = cdist(both, both)
    is_x = np.arange(len(both)) < len(x)
    order = [np.argsort(column, kind="stable") for column in both.T]
    energy, relative = _energy(distances, is_x)
    kolmogorov = _kolmogorov(both, order, is_x)
    replicate = np.concatenate(
        [np.unique(replicates_x, return_inverse=True)[1], np.unique(replicates_y, return_inverse=True)[1]]
    )
    n_x = int(replicate[is_x].max()) + 1
    replicate[~is_x] += n_x
    n_all = int(replicate.max()) + 1
    at_least, of_factors, n_used = 1, np.ones(x.shape[1]), 1
    for _ in range(n_permutations):
        chosen = np.zeros(n_all, dtype=np.bool_)
        chosen[random.permutation(n_all)[:n_x]] = True
        drawn = chosen[replicate]
        if min(drawn.sum(), (~drawn).sum()) < 2:
            continue
        n_used += 1
        at_least += _energy(distances, drawn)[0] >= energy - 1e-12
        of_factors += _kolmogorov(both, order, drawn) >= kolmogorov - 1e-12
    return ProfileDistance(
        float(np.sqrt(max(energy, 0))), relative, float(at_least / n_used), kolmogorov, np.asarray(of_factors / n_used)
    )


def _energy(distances: Array, is_x: NDArray[np.bool_]) -> tuple[float, float]:
    """What is under the root, and over twice the mean distance between populations."""
    indicator = is_x.astype(np.float64)
    n, m = indicator.sum(), (1 - indicator).sum()
    to_x = distances @ indicator
    to_y = distances.sum(1) - to_x
    across = float(to_y @ indicator / (n * m))
    within = float(to_x @ indicator / (n * (n - 1))), float(to_y @ (1 - indicator) / (m * (m - 1)))
    energy = 2 * across - sum(within)
    return energy, max(energy, 0.0) / (2 * across) if across > 0 else 0.0


def _kolmogorov(both: Array, order: list[Integers], is_x: NDArray[np.bool_]) -> Array:
    found = []
    for column, sorted_ in zip(both.T, order, strict=True):
        mine = is_x[sorted_]
        steps = np.where(mine, 1 / mine.sum(), -1 / (~mine).sum()).cumsum()
        # within ties, the functions are compared behind the last
        last = np.append(np.diff(column[sorted_]) > 0, True)
        found.append(np.abs(steps[last]).max())
    return np.array(found)


class Axes(NamedTuple):
    """Directions along which profiles differ most.

    Attributes
    ----------
    centre : float array (factors,)
        Mean profile.
    loading : float array (factors, axes)
        Of unit length, at right angles to each other; the largest number of each is above 0.
    explained : float array (axes,)
        Share of the variance; NaN where profiles are all the same.
    """

    centre: Array
    loading: Array
    explained: Array

    def places(self, values: Array) -> Array:
        """Profiles (units, factors) along the axes (units, axes)."""
        return np.asarray((values - self.centre) @ self.loading)


def principal_axes(populations: Sequence[Array], n_axes: int = 2) -> Axes:
    """Principal axes of several populations of profiles (units, factors), each of which counts alike, however large.

    Raises
    ------
    ValueError
        If there are fewer factors than axes.

    Examples
    --------
    >>> found = principal_axes([np.array([[0.8, 0.1, 0.1], [0.4, 0.3, 0.3]]), np.array([[0.6, 0.2, 0.2]])])
    >>> found.centre.round(3), found.loading[:, 0].round(2), found.explained.round(6)
    (array([0.6, 0.2, 0.2]), array([ 0.82, -0.41, -0.41]), array([1., 0.]))
    """
    n_factors = populations[0].shape[1]
    if n_factors < n_axes:
        raise ValueError(f"{n_axes} axes of {n_factors} factors")
    known = [values for values in populations if len(values)]
    centre = np.mean([values.mean(0) for values in known], axis=0)
    covariance = np.mean([(values - centre).T @ (values - centre) / len(values) for values in known], axis=0)
    variance, vectors = np.linalg.eigh(covariance)
    loading = vectors[:, ::-1][:, :n_axes]
    largest = loading[np.abs(loading).argmax(0), np.arange(n_axes)]
    total = variance.sum()
    explained = variance[::-1][:n_axes] / total if total > 0 else np.full(n_axes, np.nan)
    return Axes(centre, loading * np.where(largest < 0, -1, 1), np.asarray(explained))


def nearest_units(x: Array, y: Array) -> tuple[Integers, Array]:
    """Unit of x whose profile is nearest to each unit's of y, and how far it is (units of y,)."""
    far, nearest = KDTree(x).query(y)
    return np.asarray(nearest, dtype=np.int64), np.asarray(far)
