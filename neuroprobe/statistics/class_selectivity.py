"""How differently a unit responds to classes of images, from sums over images (NumPy, no labels).

Class selectivity (Morcos et al. 2018, arXiv 1803.06959), d′ of each class against the others, sparseness. Precision
and the first say little of how well a unit tells a class (Gale et al. 2020, doi:10.1016/j.visres.2020.06.007): beside
them goes what `neuroprobe.statistics.detection` computes. Selectivity of units is neither necessary nor sufficient for
a network's accuracy (Leavitt & Morcos 2020, arXiv 2003.01262).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from neuroprobe.statistics.label_selectivity import label_shares
from neuroprobe.statistics.plain_sums import PlainSums

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
N_POWERS: Final = 4
ROUNDING: Final = 1e-12  # of a mean square: variances under it are what rounding leaves of 0


class ClassAccumulator:
    """Takes in responses to images and gives out the sums of each block.

    Parameters
    ----------
    n_classes, n_units : int

    Examples
    --------
    >>> accumulator = ClassAccumulator(n_classes=2, n_units=1)
    >>> accumulator.update(np.array([[1.0], [3.0], [7.0]]), np.array([0, 0, 1]))
    >>> found = moments(accumulator.end_block())
    >>> found.mean.ravel(), found.variance.ravel()
    (array([2., 7.]), array([ 2., nan]))
    """

    def __init__(self, n_classes: int, n_units: int) -> None:
        self._shapes = {
            "n": (n_classes,),
            "total": (n_classes, n_units),
            "square": (n_classes, n_units),
            "power": (N_POWERS, n_units),
        }
        self._sums = self._empty()

    def _empty(self) -> PlainSums:
        return PlainSums({name: np.zeros(shape) for name, shape in self._shapes.items()})

    def update(self, values: NDArray[np.floating], target: Integers) -> None:
        """Add responses (images, units) to images of the classes `target` (images,)."""
        values = values.astype(np.float64)
        self._sums.add("n", np.bincount(target, minlength=self._shapes["n"][0]).astype(np.float64))
        # image by image, so that the sums do not depend on how images are packed
        for name, given in (("total", values), ("square", values**2)):
            np.add.at(self._sums[name], target, given)
        rectified = np.maximum(values, 0)
        for power in range(N_POWERS):
            np.add.at(self._sums["power"], np.full(len(values), power), rectified ** (power + 1))

    def end_block(self) -> PlainSums:
        """Return the state of the block that ends here, and start the next one."""
        found, self._sums = self._sums, self._empty()
        return found


@dataclass(frozen=True)
class ClassMoments:
    """Responses to each class.

    Attributes
    ----------
    n : float array (classes,)
        Images.
    mean, variance : float arrays (classes, units)
        NaN of a class without an image; the variance, of n - 1, also of one image.
    """

    n: Array
    mean: Array
    variance: Array


def moments(sums: PlainSums) -> ClassMoments:
    """Means and variances of classes from their sums."""
    n = sums["n"][:, None]
    shown = np.where(n > 0, n, np.nan)
    mean, square = sums["total"] / shown, sums["square"] / shown
    variance = square - mean**2
    variance = np.where(variance > ROUNDING * square, variance, np.where(np.isnan(mean), np.nan, 0))
    return ClassMoments(sums["n"], mean, variance * shown / np.where(n > 1, n - 1, np.nan))


@dataclass(frozen=True)
class ClassSelectivity:
    """Class selectivity, its standard error, and the class that drives a unit most (-1 where it is undefined)."""

    index: Array
    se: Array
    preferred: Integers


def class_selectivity(found: ClassMoments, *, pooled: bool = False, epsilon: float = 0.0) -> ClassSelectivity:
    """Contrast of the largest mean of a class with that of the other classes, (μ - μ') / (μ + μ').

    Parameters
    ----------
    found : ClassMoments
        Classes without an image are left out.
    pooled : bool
        Whether μ' is the mean over the images of all other classes; by default the mean of their means. They differ
        where classes differ in size.
    epsilon : float
        Added to the denominator, as in the regulariser of Leavitt & Morcos.

    Returns
    -------
    ClassSelectivity
        Arrays (units,). NaN where a mean is negative, since the index is one of rectified responses; where all are 0;
        and where there are fewer than 2 classes.

    Notes
    -----
    The error follows from those of the means (delta method), with the preferred class taken as known; that this was
    chosen by the same responses raises the index of units without any selectivity above 0.

    Examples
    --------
    >>> mean = np.array([5.0, 1, 2, 0, 1])[:, None]
    >>> class_selectivity(ClassMoments(np.full(5, 10.0), mean, np.full((5, 1), 0.5))).index.round(4)
    array([0.6667])
    """
    shown = found.n > 0
    n, mean, variance = found.n[shown], found.mean[shown], found.variance[shown]
    n_units = mean.shape[1]
    if len(mean) < 2:
        nothing = np.full(n_units, np.nan)
        return ClassSelectivity(nothing, nothing, np.full(n_units, -1))
    top = np.where(np.isnan(mean), -np.inf, mean).argmax(0)
    is_top = np.arange(len(n))[:, None] == top
    share = np.where(is_top, 0, n[:, None] if pooled else 1.0)
    share = share / share.sum(0)
    high, low = np.where(is_top, mean, 0).sum(0), (share * mean).sum(0)
    # comparisons with NaN are false
    defined = (mean >= 0).all(0) & (high > 0)
    total = np.where(defined, high + low + epsilon, np.nan)
    of_mean = variance / n[:, None]
    of_high, of_low = np.where(is_top, of_mean, 0).sum(0), (share**2 * np.where(is_top, 0, of_mean)).sum(0)
    se = np.sqrt((2 * low + epsilon) ** 2 * of_high + (2 * high + epsilon) ** 2 * of_low) / total**2
    preferred = np.where(defined, np.flatnonzero(shown)[top], -1)
    return ClassSelectivity((high - low) / total, se, preferred)


def d_prime(found: ClassMoments) -> tuple[Array, Array]:
    """Distance of each class from all others, in standard deviations: (m₁ - m₂) / √((v₁ + v₂) / 2).

    Returns
    -------
    value, se : float arrays (classes, units)
        NaN where both variances are 0, and with fewer than 2 images of the class or of the others. The error is that of
        normal responses (delta method).

    Examples
    --------
    >>> accumulator = ClassAccumulator(2, 1)
    >>> accumulator.update(np.array([[3.0, 5, 6, 9, 1, 2, 3, 4, 5]]).T, np.repeat([0, 1], [4, 5]))
    >>> d_prime(moments(accumulator.end_block()))[0].round(6)
    array([[ 1.314751],
           [-1.314751]])
    """
    n = found.n[:, None]
    n_all = n.sum()
    centre = np.where(n > 0, n * found.mean, 0).sum(0) / (n_all or np.nan)
    mean = np.where(n > 0, found.mean - centre, 0)  # so that little cancels below
    squares = np.where(n > 1, found.variance * (n - 1), 0) + n * mean**2
    n_others, sum_others = n_all - n, (n * mean).sum(0) - n * mean
    known = (n > 1) & (n_others > 1)
    n, n_others = np.where(known, n, np.nan), np.where(known, n_others, np.nan)
    others = sum_others / n_others
    left = squares.sum(0) - squares
    spread = (left - n_others * others**2) / (n_others - 1)
    spread = np.where(spread > ROUNDING * left / n_others, spread, np.where(known, 0, np.nan))
    pooled = (found.variance + spread) / 2
    pooled = np.where(pooled > 0, pooled, np.nan)
    value = (mean - others) / np.sqrt(pooled)
    of_difference = (found.variance / n + spread / n_others) / pooled
    of_pooled = (found.variance**2 / (n - 1) + spread**2 / (n_others - 1)) / 2
    return value, np.sqrt(of_difference + value**2 * of_pooled / (4 * pooled**2))


@dataclass(frozen=True)
class Sparseness:
    """Sparseness over images, of units: arrays (units,), NaN where no response is above 0.

    Attributes
    ----------
    treves_rolls, treves_rolls_se : float arrays
        a = (mean r)² / mean r²: 1 of constant responses, 1 / K where one of K images drives the unit.
    vinje_gallant, vinje_gallant_se : float arrays
        (1 - a) / (1 - 1 / K): 0 of constant responses, 1 where one image drives the unit. NaN of one image.
    """

    treves_rolls: Array
    treves_rolls_se: Array
    vinje_gallant: Array
    vinje_gallant_se: Array


def lifetime_sparseness(sums: PlainSums) -> Sparseness:
    """Sparseness over images, of responses without their negative part (Vinje & Gallant 2000, after Treves & Rolls).

    Notes
    -----
    Over the images of one unit, which is not that over the units of one image (Willmore & Tolhurst 2001). Errors are
    over images, by the delta method: 0 too where one image alone drives a unit, since nothing is known of others.

    Examples
    --------
    >>> accumulator = ClassAccumulator(1, 1)
    >>> accumulator.update(np.array([[0.0, 1, 2, 3, 10]]).T, np.zeros(5, np.int64))
    >>> found = lifetime_sparseness(accumulator.end_block())
    >>> found.treves_rolls.round(6), found.vinje_gallant.round(6)
    (array([0.449123]), array([0.688596]))
    """
    n = sums["n"].sum()
    first, second, third, fourth = sums["power"] / (n or np.nan)
    second = np.where(second > 0, second, np.nan)
    a = first**2 / second
    of_mean, of_square = 2 * first / second, -a / second
    variance = of_mean**2 * (second - first**2) + of_square**2 * (fourth - second**2)
    variance += 2 * of_mean * of_square * (third - first * second)
    se = np.sqrt(np.maximum(variance, 0) / (n - 1)) if n > 1 else np.full(a.shape, np.nan)
    room = 1 - 1 / n if n > 1 else np.nan
    return Sparseness(a, se, (1 - a) / room, se / room)


def depth_of_selectivity(responses: Array) -> Array:
    """How few of K stimuli or classes drive a unit: (K - Σ r / r_max) / (K - 1) (Moody et al. 1998).

    Parameters
    ----------
    responses : float array (K, units)
        Negative ones count as 0.

    Returns
    -------
    float array (units,)
        0 where all drive it alike, 1 where one does; NaN where none does, and for K = 1.

    Examples
    --------
    >>> depth_of_selectivity(np.array([[4.0, 1.0, 0.0], [0.0, 1.0, 0.0], [2.0, 1.0, 0.0]]))
    array([0.75, 0.  ,  nan])
    """
    k = len(responses)
    rectified = np.maximum(responses, 0)
    peak = rectified.max(0)
    relative = np.divide(rectified.sum(0), peak, out=np.full(peak.shape, np.nan), where=peak > 0)
    return (k - relative) / (k - 1) if k > 1 else np.full(peak.shape, np.nan)


def precision(values: Array, labels: Integers) -> tuple[Array, Integers]:
    """Share of the label that most top stimuli have, and that label (Zhou et al. 2015, arXiv 1412.6856; of 60).

    Parameters
    ----------
    values : float array (units, N)
        Responses, the largest first.
    labels : int array (units, N)

    Returns
    -------
    share : float array (units,)
        NaN for units whose largest response is not above 0.
    label : int array (units,)
        Of equally frequent ones the smallest; -1 where the share is NaN.

    Examples
    --------
    >>> precision(np.array([[3.0, 2, 1], [0, 0, 0]]), np.array([[5, 7, 5], [1, 1, 1]]))
    (array([0.66666667,        nan]), array([ 5, -1]))
    """
    responds = values[:, 0] > 0
    found = label_shares(np.where(responds[:, None], np.ones(values.shape), 0), labels)
    return found.shares[:, 0], found.labels[:, 0]
