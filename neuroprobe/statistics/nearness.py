"""How near single units are to a population: by their responses, or by its dissimilarities (NumPy, no labels)."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from neuroprobe.statistics.rdms import n_of_pairs

Array = NDArray[np.float64]
CHECKED: Final = 1e-12  # of a sum of squares: less is what rounding leaves of 0


def nearness_by_responses(units: Array, neurons: Array) -> Array:
    """Largest correlation, over stimuli, of each unit with any neuron.

    Parameters
    ----------
    units : float array (stimuli, units)
    neurons : float array (stimuli, neurons)

    Returns
    -------
    float array (units,)
        NaN of units that do not vary, and where no neuron does.

    Examples
    --------
    >>> nearness_by_responses(np.array([[1.0, 0], [2, 0], [3, 0]]), np.array([[2.0, 3], [4, 2], [6, 1]]))
    array([ 1., nan])
    """
    mine, theirs = _unit_length(units), _unit_length(neurons)
    products = mine.T @ theirs
    known = ~np.isnan(products)
    best = np.max(products, axis=1, where=known, initial=-np.inf)
    return np.where(known.any(1), np.clip(best, -1, 1), np.nan)


def nearness_by_dissimilarities(units: Array, pairs: Array) -> Array:
    """Pearson's correlation of the squared differences of each unit's responses with dissimilarities.

    Parameters
    ----------
    units : float array (stimuli, units)
    pairs : float array (pairs,)
        Dissimilarities, in the order of ``np.triu_indices(n, 1)``.

    Returns
    -------
    float array (units,)
        NaN of units all of whose pairs differ alike, such as those that do not vary.

    Notes
    -----
    Squared differences are what a unit adds to squared Euclidean dissimilarities. Pairs are not listed: with centred
    responses x, Σ (xᵢ - xⱼ)² dᵢⱼ is a quadratic form of the Laplacian of d, and Σ (xᵢ - xⱼ)⁴ = n Σ x⁴ + 3 (Σ x²)².

    Examples
    --------
    >>> nearness_by_dissimilarities(np.array([[0.0], [1], [3]]), np.array([1.0, 9, 4]))
    array([1.])
    """
    n = n_of_pairs(len(pairs))
    around = pairs - pairs.mean()
    spread = float((around**2).sum())
    if spread <= CHECKED * float((pairs**2).sum()):
        return np.full(units.shape[1], np.nan)
    square = np.zeros((n, n))
    square[np.triu_indices(n, 1)] = around
    square += square.T
    laplacian = np.diag(square.sum(0)) - square
    centred = units - units.mean(0)
    sizes = (centred**2).sum(0)
    across = (centred * (laplacian @ centred)).sum(0)
    own = n * (centred**4).sum(0) + 3 * sizes**2 - (n * sizes) ** 2 / len(pairs)
    known = (sizes > CHECKED * (units**2).sum(0)) & (own > CHECKED * n * sizes**2)
    return np.clip(across / np.sqrt(np.where(known, own, np.nan) * spread), -1, 1)


def _unit_length(values: Array) -> Array:
    """Columns less their means, of length 1; NaN of those that do not vary."""
    centred = values - values.mean(0)
    sizes = (centred**2).sum(0)
    known = sizes > CHECKED * (values**2).sum(0)
    return np.asarray(centred / np.sqrt(np.where(known, sizes, np.nan)))
