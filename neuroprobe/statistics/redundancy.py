"""What a network loses as channels of a layer are removed one after the other: which go where, and sums over images.

After the ablation study of Rafegas et al.'s toolbox: channels are removed in the order of their redundancy
(`neuroprobe.statistics.unit_relations.removal_order`), by zeroing a map, or by adding it to that of its partner, the
most similar channel that is left. Orders at random, and by small norms, tell what the order itself does. (NumPy, no
labels.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from neuroprobe.statistics.accuracy import LEVEL, wilson_interval

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
GONE: Final = -1


def closest_partners(similarity: Array, order: Integers) -> Integers:
    """For each channel of an order of removal the most similar one that is still there.

    Parameters
    ----------
    similarity : float array (channels, channels)
        Of two channels the larger of both similarities counts; NaN is none.
    order : int array (channels,)

    Returns
    -------
    int array (channels,)
        In the order; of equally similar ones the channel with the smaller number; -1 of the last one, and of channels
        without a similarity.

    Examples
    --------
    >>> closest_partners(np.array([[1.0, 0.9, 0.1], [0.8, 1.0, 0.5], [0.0, 0.3, 1.0]]), np.array([1, 0, 2]))
    array([ 0,  2, -1])
    """
    both = np.where(np.isnan(similarity), -np.inf, similarity)
    both = np.maximum(both, both.T)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    left = np.where(rank > rank[:, None], both, -np.inf)[order]
    return np.where(left.max(1, initial=-np.inf) > -np.inf, left.argmax(1), GONE)


def destinations(order: Integers, partner: Integers, n_removed: ArrayLike) -> Integers:
    """Where the map of each channel is added once some are removed.

    Parameters
    ----------
    order : int array (channels,)
        In which channels are removed.
    partner : int array (channels,)
        For each of the order, the channel that its map is added to, which is removed later; -1 where it is zeroed.
    n_removed : int array_like (steps,)

    Returns
    -------
    int array (steps, channels)
        For each channel, in the order of their numbers, the one that holds its map: itself where it is left; of a
        partner that is removed later, the partner of that; -1 where there is none.

    Examples
    --------
    >>> destinations(np.array([1, 0, 2]), np.array([0, 2, -1]), [0, 1, 2, 3])
    array([[ 0,  1,  2],
           [ 0,  0,  2],
           [ 2,  2,  2],
           [-1, -1, -1]])
    """
    n = len(order)
    counts = np.atleast_1d(n_removed)
    target = np.tile(np.arange(n + 1), (len(counts), 1))  # the last stands for nowhere
    removed = np.arange(n) < counts[:, None]
    target[:, order] = np.where(removed, np.where(partner == GONE, n, partner), order)
    while True:  # each turn doubles the steps that are followed
        further = np.take_along_axis(target, target, 1)
        if np.array_equal(further, target):
            return np.where(target == n, GONE, target)[:, :n]
        target = further


def removal_counts(n_channels: int, shares: ArrayLike) -> Integers:
    """Channels that are removed, of shares from 0 to 1.

    Raises
    ------
    ValueError
        If a share is not in [0, 1].

    Examples
    --------
    >>> removal_counts(16, [0, 0.1, 0.5, 1])
    array([ 0,  2,  8, 16])
    """
    given = np.asarray(shares, dtype=np.float64)
    if not ((given >= 0) & (given <= 1)).all():
        raise ValueError(f"shares of removed channels are in [0, 1], received {given.tolist()}")
    return np.round(given * n_channels).astype(np.int64)


@dataclass(frozen=True)
class Outcomes:
    """Accuracy and loss of variants of a network over images, each with the ends of a 95 % interval.

    Attributes
    ----------
    n : int
        Images.
    accuracy, accuracy_lower, accuracy_upper : float arrays (variants,)
        Wilson's interval.
    loss, loss_se, loss_lower, loss_upper : float arrays (variants,)
        Student's interval.
    accuracy_change, loss_change : float arrays (variants,)
        From the network as it is, paired over images, with ``_se`` and the ends of Student's interval. Of 0 with an
        error of 0 where nothing changed for any image.
    """

    n: int
    accuracy: Array
    accuracy_lower: Array
    accuracy_upper: Array
    loss: Array
    loss_se: Array
    loss_lower: Array
    loss_upper: Array
    accuracy_change: Array
    accuracy_change_se: Array
    accuracy_change_lower: Array
    accuracy_change_upper: Array
    loss_change: Array
    loss_change_se: Array
    loss_change_lower: Array
    loss_change_upper: Array


class OutcomeSums:
    """Sums over images, batch by batch, of whether variants of a network are right and what their loss is.

    Parameters
    ----------
    n_variants : int

    Examples
    --------
    >>> sums = OutcomeSums(1)
    >>> sums.update(np.array([1.0, 1.0, 0.0, 1.0]), np.zeros(4), np.array([[1.0, 0.0, 0.0, 1.0]]), np.ones((1, 4)))
    >>> found = sums.finalize()
    >>> found.accuracy, found.accuracy_change, found.loss_change, found.loss_change_se
    (array([0.5]), array([-0.25]), array([1.]), array([0.]))
    """

    def __init__(self, n_variants: int) -> None:
        self.n = 0
        # means and sums of squared deviations (4, variants) of accuracy, loss, and their changes
        self._mean = np.zeros((4, n_variants))
        self._squares = np.zeros((4, n_variants))

    def update(self, right: Array, loss: Array, variant_right: Array, variant_loss: Array) -> None:
        """Add images.

        Parameters
        ----------
        right, loss : float arrays (images,)
            Of the network as it is: 1 where it names the class, and the loss.
        variant_right, variant_loss : float arrays (variants, images)
        """
        values = np.stack([variant_right, variant_loss, variant_right - right, variant_loss - loss])
        n = values.shape[2]
        mean = values.mean(2)
        squares = ((values - mean[..., None]) ** 2).sum(2)
        total = self.n + n
        delta = mean - self._mean
        self._squares += squares + delta**2 * (self.n * n / total)
        self._mean += delta * (n / total)
        self.n = total

    def finalize(self) -> Outcomes:
        """Return means and intervals; NaN errors of a single image."""
        if self.n < 1:
            raise ValueError("no image was shown, expected one at least")
        free = self.n - 1
        se = np.sqrt(self._squares / (free * self.n)) if free else np.full(self._squares.shape, np.nan)
        reach = special.stdtrit(free, 0.5 + LEVEL / 2) * se if free else se
        lower, upper = self._mean - reach, self._mean + reach
        n = np.full(self._mean.shape[1], float(self.n))
        with np.errstate(divide="ignore", invalid="ignore"):
            accuracy_ends = wilson_interval(self._mean[0], se[0], n, 1)
        loss, accuracy_change, loss_change = ((self._mean[row], se[row], lower[row], upper[row]) for row in (1, 2, 3))
        return Outcomes(self.n, self._mean[0].copy(), *accuracy_ends, *loss, *accuracy_change, *loss_change)
