"""What units of a layer have in common, which can be spared, and which units they rest on (NumPy, no labels).

After Rafegas et al. 2019 (arXiv 1702.00382) and the toolbox of its authors: similarity by the responses to each other's
top stimuli, an order in which redundant units are removed, and the relevance of channels of an earlier layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from neuroprobe.statistics.manipulation_selectivity import ratio_of_sums

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
ROUNDING: Final = 1e-5  # that a similarity may exceed 1 by, of responses that were computed twice


def similarity_of(total: Array) -> Array:
    """Similarity of units: how much of its own largest response a unit gives to the top stimuli of another.

    Parameters
    ----------
    total : float array (responders, sources)
        Sum of the responses of a unit over the top stimuli of another, where these drive the other most. The lists of
        all units are of one length.

    Returns
    -------
    float array (responders, sources)
        S(n, m) = total(n, m) / total(n, n), which is not symmetric. At most 1, as no N stimuli drive a unit more than
        its N best, and 0 or more where no response is negative. NaN in rows and columns of units without a response.

    Raises
    ------
    ValueError
        If a similarity is above 1: then the stimuli are not the top ones.

    Examples
    --------
    >>> similarity_of(np.array([[4.0, 1.0, 0.0], [2.0, 2.0, 0.0], [0.0, 0.0, 0.0]]))
    array([[1.  , 0.25,  nan],
           [1.  , 1.  ,  nan],
           [ nan,  nan,  nan]])
    """
    own = np.diagonal(total)
    own = np.where(own > 0, own, np.nan)
    found = total / own[:, None]
    found[:, np.isnan(own)] = np.nan
    highest = np.nanmax(found, initial=0)
    if highest > 1 + ROUNDING:
        n, m = np.unravel_index(np.nanargmax(found), found.shape)
        raise ValueError(
            f"unit {n} responds to the top stimuli of unit {m} {highest:.6g} times as much as to its own; expected at "
            "most once: its own are not its top stimuli, or lists differ in length or hold an image twice"
        )
    return np.minimum(found, 1)


def symmetric(similarity: Array) -> Array:
    """Mean of a similarity and its transpose, as clustering takes it.

    Examples
    --------
    >>> symmetric(np.array([[1.0, 0.2], [0.4, 1.0]])).round(3)
    array([[1. , 0.3],
           [0.3, 1. ]])
    """
    return (similarity + similarity.T) / 2


def removal_order(similarity: Array) -> tuple[Integers, Integers]:
    """Order in which units can be removed, the most redundant first.

    Parameters
    ----------
    similarity : float array (units, units)

    Returns
    -------
    order : int array (units,)
        All units. Those without a similarity come last, in their order.
    partner : int array (units,)
        For each unit of the order the one that it was most similar to, which is still there; -1 of the last ones.

    Notes
    -----
    Of the most similar pair that is left, the unit with the larger sum of similarities to those that are left goes; of
    equal pairs the first, row by row, and of equal sums the unit with the larger number. Takes a time of the order of
    the square of the number of units, and in the worst case its cube.

    Examples
    --------
    >>> removal_order(np.array([[1.0, 0.9, 0.1], [0.8, 1.0, 0.5], [0.0, 0.3, 1.0]]))
    (array([1, 0, 2]), array([ 0,  2, -1]))
    """
    n = len(similarity)
    there = ~np.isnan(np.diagonal(similarity))
    last = np.flatnonzero(~there)
    pairs = np.where(there[:, None] & there, similarity, -np.inf)
    np.fill_diagonal(pairs, -np.inf)
    kept = np.where(np.isfinite(pairs), pairs, 0)
    best = pairs.argmax(1)
    closest = pairs[np.arange(n), best]
    order, partner = [], []
    for _ in range(int(there.sum()) - 1):
        one = int(closest.argmax())
        other = int(best[one])
        sums = [kept[unit, there].sum() for unit in (one, other)]
        first = sums[0] > sums[1] or (sums[0] == sums[1] and one > other)
        gone, stays = (one, other) if first else (other, one)
        order.append(gone)
        partner.append(stays)
        there[gone] = False
        pairs[gone] = pairs[:, gone] = closest[gone] = -np.inf
        stale = np.flatnonzero(there & (best == gone))
        best[stale] = pairs[stale].argmax(1)
        closest[stale] = pairs[stale, best[stale]]
    rest = [*np.flatnonzero(there), *last]
    return np.array([*order, *rest], np.int64), np.array([*partner, *[-1] * len(rest)], np.int64)


def random_orders(n_units: int, n_orders: int, seed: int) -> Integers:
    """Draw orders of units, each a function of the seed and its number: (orders, units).

    Examples
    --------
    >>> np.sort(random_orders(4, 2, seed=0))
    array([[0, 1, 2, 3],
           [0, 1, 2, 3]])
    """
    orders = [np.random.default_rng([seed, number]).permutation(n_units) for number in range(n_orders)]
    return np.array(orders, np.int64).reshape(n_orders, n_units)


def low_norm_order(norm: Array) -> Integers:
    """Order units by the norm of their weights or responses, the smallest first; NaN last.

    Examples
    --------
    >>> low_norm_order(np.array([0.3, np.nan, 0.1, 0.3]))
    array([2, 0, 3, 1])
    """
    return np.argsort(norm, kind="stable").astype(np.int64)


@dataclass(frozen=True)
class Relevance:
    """How much of a unit's response to its top stimuli rests on channels of an earlier layer.

    Attributes
    ----------
    absolute, absolute_se : float arrays (channels, units)
        Σ|a - a⁻| / Σa, with a⁻ the response where the channel is 0.
    signed, signed_se : float arrays (channels, units)
        Σ(a - a⁻) / Σa: negative where the channel inhibits the unit. Errors are over stimuli, by the jackknife.
    """

    absolute: Array
    absolute_se: Array
    signed: Array
    signed_se: Array


def relevance_of(original: Array, ablated: Array) -> Relevance:
    """Relevance of channels, of responses with each of them set to 0.

    Parameters
    ----------
    original : float array (units, N)
    ablated : float array (channels, units, N)

    Examples
    --------
    >>> found = relevance_of(np.array([[2.0, 2.0]]), np.array([[[1.0, 3.0]], [[0.0, 1.0]]]))
    >>> found.absolute.ravel(), found.signed.ravel()
    (array([0.5 , 0.75]), array([0.  , 0.75]))
    """
    change = original - ablated
    return Relevance(*ratio_of_sums(np.abs(change), original), *ratio_of_sums(change, original))


def convolution_parts(weights: Array, patches: Array) -> Array:
    """Part of each channel in what a convolution gives at one place.

    Parameters
    ----------
    weights : float array (units, channels, rows, columns)
        Of a layer that follows the channels directly; times the scale of a normalisation that follows it.
    patches : float array (units, N, channels, rows, columns)
        What the layer sees where each stimulus drives the unit most, zeros where that is padding.

    Returns
    -------
    float array (channels, units, N)
        c_i = Σ W[unit, i] h_i.

    Examples
    --------
    >>> convolution_parts(np.array([[[[2.0]], [[-1.0]]]]), np.array([[[[[3.0]], [[4.0]]]]])).ravel()
    array([ 6., -4.])
    """
    found: Array = np.einsum("uirc,ujirc->iuj", weights, patches, optimize=True)
    return found


def without_channels(total: Array, parts: Array) -> Array:
    """Responses of rectified units with each channel of the layer before them set to 0, in closed form.

    Parameters
    ----------
    total : float array (units, N)
        What enters the rectification, with bias.
    parts : float array (channels, units, N)
        As `convolution_parts` returns it.

    Returns
    -------
    float array (channels, units, N)

    Notes
    -----
    a⁻ = max(z - c_i, 0): one forward pass for all channels, in place of one for each.

    Examples
    --------
    >>> without_channels(np.array([[2.0]]), np.array([[[6.0]], [[-4.0]]])).ravel()
    array([0., 6.])
    """
    return np.maximum(total - parts, 0)
