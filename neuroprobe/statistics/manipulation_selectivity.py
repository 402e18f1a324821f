"""How much of the response to its top stimuli a unit loses where one property of them is taken away (NumPy, no labels).

The template of the selectivity indexes of Rafegas et al. 2019 (arXiv 1702.00382): with the responses a_j of a unit to
its N top stimuli, and the responses a'_j of the same unit, at the same places, to altered ones, s = 1 - Σa' / Σa. That
is 0 where the alteration changes nothing, 1 where it silences the unit, and negative where it drives it more. Colour
selectivity is that of taking the colour away; orientation selectivity a family of it, over angles.

The last axis is always that of stimuli, by which responses are paired, never by their rank. Errors are over stimuli, by
the jackknife: of other stimuli as good as these. They know nothing of the choice of the list, which was made by the
largest of the same responses and favours high a_j: choose with one half of the images and score with the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
Clamp = Literal["none", "ratio", "final"]
ROUNDING: Final = 1e-6  # of the largest response: what is nearer to each other is the same


def ratio_of_sums(numerator: Array, denominator: Array) -> tuple[Array, Array]:
    """Ratio of two sums over stimuli (last axis), and its standard error.

    Parameters
    ----------
    numerator, denominator : float arrays (…, N)
        Broadcast against each other.

    Returns
    -------
    ratio, se : float arrays (…)
        NaN where the denominator is not above 0; the error also where that of all stimuli but one is not.

    Notes
    -----
    The jackknife: with the ratio R_j without stimulus j, se² = (N - 1) / N Σ (R_j - mean of R_j)² (Quenouille, Tukey).

    Examples
    --------
    >>> ratio, se = ratio_of_sums(np.array([1.0, 1.0, 0.0]), np.array([2.0, 1.0, 1.0]))
    >>> print(ratio.round(4), se.round(4))
    0.5 0.1925
    """
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    n = denominator.shape[-1]
    above, below = numerator.sum(-1), denominator.sum(-1)
    ratio = np.divide(above, below, out=np.full(below.shape, np.nan), where=below > 0)
    others = below[..., None] - denominator
    # what is left of a sum of one number is its rounding
    left = np.where(others > ROUNDING * np.abs(below[..., None]), others, np.nan)
    without = (above[..., None] - numerator) / left
    deviation = without - without.mean(-1, keepdims=True)
    return ratio, np.sqrt((n - 1) / n * (deviation**2).sum(-1)) if n > 1 else np.full(ratio.shape, np.nan)


def clipped_losses(original: Array, altered: Array) -> Array:
    """Share of each response that is lost, 1 - a' / a, clipped to [0, 1]; NaN where there is no response a > 0.

    Examples
    --------
    >>> clipped_losses(np.array([1.0, 0.5, 0.0]), np.array([0.25, 0.75, 1.0]))
    array([0.75, 0.  ,  nan])
    """
    original, altered = np.broadcast_arrays(original, altered)
    left = np.divide(altered, original, out=np.full(altered.shape, np.nan), where=original > 0)
    return 1 - np.clip(left, 0, 1)


def index_of(original: Array, altered: Array, clamp: Clamp = "none") -> tuple[Array, Array]:
    """Selectivity index s, and its standard error.

    Parameters
    ----------
    original : float array (units, N)
        Responses to the top stimuli.
    altered : float array (…, units, N)
        Responses to the same stimuli, altered.
    clamp : {"none", "ratio", "final"}
        ``none``: 1 - Σa' / Σa, at most 1 where no a' is negative. ``final``: the same, clipped to [0, 1], with the
        error of what is not clipped. ``ratio``: mean of 1 - a' / a, each clipped to [0, 1], over stimuli with a > 0;
        there a weak response counts as much as a strong one.

    Returns
    -------
    index, se : float arrays (…, units)
        NaN for units that do not respond to their own top stimuli.

    Examples
    --------
    >>> original, altered = np.array([[1, 0.9, 0.8, 0.5, 0.3]]), np.array([[0.5, 0.45, 0.9, -0.1, 0]])
    >>> [index_of(original, altered, clamp)[0].round(6).item() for clamp in ("none", "ratio", "final")]
    [0.5, 0.6, 0.5]
    """
    if clamp == "ratio":
        return _mean_and_error(clipped_losses(original, altered))
    left, se = ratio_of_sums(altered, original)
    return np.clip(1 - left, 0, 1) if clamp == "final" else 1 - left, se


def _mean_and_error(values: Array) -> tuple[Array, Array]:
    """Mean over stimuli (last axis) that are not NaN, and its standard error, which is that of the jackknife too."""
    known = ~np.isnan(values)
    n = known.sum(-1)
    mean = np.divide(np.where(known, values, 0).sum(-1), n, out=np.full(n.shape, np.nan), where=n > 0)
    squares = np.where(known, (values - mean[..., None]) ** 2, 0).sum(-1)
    return mean, np.sqrt(np.divide(squares, n * (n - 1.0), out=np.full(n.shape, np.nan), where=n > 1))


def share_raised(original: Array, altered: Array) -> tuple[Array, Array]:
    """Share of stimuli that drive a unit more where they are altered, and its standard error.

    Parameters
    ----------
    original, altered : float arrays (units, N), (…, units, N)

    Returns
    -------
    share, se : float arrays (…, units)
        NaN for units that do not respond. A difference under a millionth of the largest response is rounding.

    Examples
    --------
    >>> share, se = share_raised(np.array([[4.0, 3.0, 2.0, 1.0]]), np.array([[4.0, 3.5, 0.0, 1.0 + 1e-7]]))
    >>> share, se
    (array([0.25]), array([0.25]))
    """
    peak = original.max(-1, keepdims=True)
    raised = np.where(np.isnan(altered), np.nan, altered > original + ROUNDING * peak)
    return _mean_and_error(np.where(peak > 0, raised, np.nan))


@dataclass(frozen=True)
class Family:
    """Selectivity for each alteration of a family: of each angle, scale, strength.

    Attributes
    ----------
    index, se : float arrays (alterations, units)
    mean, mean_se : float arrays (units,)
        Over alterations; the error is over stimuli, the same ones for all alterations.
    weakest : int array (units,)
        The alteration with the smallest index, which the unit tolerates best: of equal ones the first, -1 where it is
        undefined.
    """

    index: Array
    se: Array
    mean: Array
    mean_se: Array
    weakest: Integers


def family_of(original: Array, altered: Array, clamp: Clamp = "none") -> Family:
    """Selectivity for a family of alterations.

    Parameters
    ----------
    original : float array (units, N)
    altered : float array (alterations, units, N)
    clamp : {"none", "ratio", "final"}

    Examples
    --------
    >>> found = family_of(np.array([[2.0, 2.0]]), np.array([[[1.0, 1.0]], [[0.0, 0.0]], [[1.0, 1.0]]]))
    >>> found.index.ravel(), found.mean, found.weakest
    (array([0.5, 1. , 0.5]), array([0.66666667]), array([0]))
    """
    index, se = index_of(original, altered, clamp)
    if clamp == "ratio":
        _, mean_se = _mean_and_error(clipped_losses(original, altered).mean(0))
    else:
        _, mean_se = ratio_of_sums(altered.mean(0), original)
    known = ~np.isnan(index).any(0)
    weakest = np.where(known, np.where(np.isnan(index), np.inf, index).argmin(0), -1)
    return Family(index, se, index.mean(0), mean_se, weakest)


def mirror_symmetry(original: Array, altered: Array, clamp: Clamp = "none") -> tuple[Array, Array]:
    """Share of the response that is left where stimuli are mirrored, Σa' / Σa, and its standard error: 1 - s.

    High is invariant, against the indexes of selectivity.

    Examples
    --------
    >>> mirror_symmetry(np.array([[2.0, 2.0]]), np.array([[2.0, 1.0]]))[0]
    array([0.75])
    """
    index, se = index_of(original, altered, clamp)
    return 1 - index, se


@dataclass(frozen=True)
class AgainstSham:
    """An index beside that of sham alterations, which change as much and leave the property.

    Attributes
    ----------
    sham, sham_deviation : float arrays (…, units)
        Mean and standard deviation of the index over sham draws.
    corrected, se : float arrays (…, units)
        The index less the mean of the sham ones; the error is over stimuli, each with all its draws.
    p_value : float array (…, units)
        One-sided: share of sham draws, the alteration itself among them, that silence the unit as much.
    """

    sham: Array
    sham_deviation: Array
    corrected: Array
    se: Array
    p_value: Array


def against_sham(original: Array, altered: Array, sham: Array, clamp: Clamp = "none") -> AgainstSham:
    """Compare an alteration with sham alterations of the same stimuli.

    Parameters
    ----------
    original : float array (units, N)
    altered : float array (…, units, N)
    sham : float array (draws, …, units, N)
    clamp : {"none", "ratio", "final"}

    Notes
    -----
    p = (1 + draws that reach the index) / (1 + draws) (Phipson & Smyth 2010): of 19 draws at least 0.05. It says
    whether this alteration, of these stimuli, is one of the sham ones. With ``final`` the error is of what is not
    clipped.

    Examples
    --------
    >>> sham = np.array([[[2.0, 1.0]], [[1.0, 1.0]], [[2.0, 2.0]]])
    >>> found = against_sham(np.array([[2.0, 2.0]]), np.array([[1.0, 0.0]]), sham)
    >>> found.sham, found.corrected, found.p_value
    (array([0.25]), array([0.5]), array([0.25]))
    """
    index, _ = index_of(original, altered, clamp)
    draws, _ = index_of(original, sham, clamp)
    if clamp == "ratio":
        _, se = _mean_and_error(clipped_losses(original, altered) - clipped_losses(original, sham).mean(0))
    else:
        _, se = ratio_of_sums(sham.mean(0) - altered, original)
    mean, n = draws.mean(0), len(draws)
    deviation = draws.std(0, ddof=1) if n > 1 else np.full(mean.shape, np.nan)
    p_value = (1 + (draws >= index - ROUNDING).sum(0)) / (1 + n)
    p_value = np.where(np.isnan(index) | np.isnan(mean), np.nan, p_value)
    return AgainstSham(mean, deviation, index - mean, se, p_value)
