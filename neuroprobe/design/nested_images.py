"""Images nested in classes nested in partitions, each level picked by a uniform number of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.design.factors import Array, Factor, Input
from neuroprobe.design.laws import Law

LEVELS = (names.PARTITION, names.CLASS, names.IMAGE)


@dataclass(frozen=True, eq=False)
class NestedImages:
    """Which image is shown, as a function of one number in [0, 1) per level.

    A number picks a member of its level by rank: of K members that are equally likely, the floor(u·K)-th. So an image
    of another class has the same rank there, as far as the classes are equally large.

    In another class or partition the image of the same rank is another image. So what differs between classes, or
    partitions, is in their first-order indices, and what differs between images of one class is in the total index of
    the image; the total index of a class holds its images too.

    Parameters
    ----------
    members : tuple of tuple of int array
        Partition → class → indices of its images, in the order of their ranks.
    weights : tuple of float
        Of the partitions, above 0; probabilities are in proportion to them.
    by_size : bool
        Whether classes are as probable as they are large within their partition, rather than equally likely.

    Examples
    --------
    >>> cats, dogs = np.array([0, 1]), np.array([2, 3, 4, 5])
    >>> nested = NestedImages(((cats, dogs),), (1.0,))
    >>> nested.images({"class_u": np.array([0.2, 0.8]), "image_u": np.array([0.5])})
    array([1, 4])
    """

    members: tuple[tuple[NDArray[np.int64], ...], ...]
    weights: tuple[float, ...]
    by_size: bool = False

    @property
    def sizes(self) -> list[list[int]]:
        """Number of images of each class of each partition."""
        return [list(map(len, classes)) for classes in self.members]

    @property
    def n_ranks(self) -> int:
        """Images of the largest class."""
        return max(map(max, self.sizes))

    def varies(self, level: str) -> bool:
        """Whether a level has two members somewhere."""
        match level:
            case names.PARTITION:
                return len(self.members) > 1
            case names.CLASS:
                return max(map(len, self.members)) > 1
            case _:
                return self.n_ranks > 1

    def factors(self, listed: Sequence[str]) -> tuple[Factor, ...]:
        """Return one factor per listed level; a level above it that is not listed is swapped with it."""
        factors, inputs = [], []
        for level in LEVELS:
            if self.varies(level):
                inputs.append(Input(names.pick(level), Law("uniform", (0, 1))))
            if level in listed:
                factors.append(Factor(level, tuple(inputs)))
                inputs = []
        return tuple(factors)

    def images(self, draws: Mapping[str, Array]) -> NDArray[np.int64]:
        """Pick images.

        Parameters
        ----------
        draws : dict of float array
            ``partition_u``, ``class_u`` and ``image_u``, broadcast against each other; one that is left out is 0.
            Others are ignored.

        Returns
        -------
        int array
        """
        given = (draws.get(names.pick(level), np.zeros(1)) for level in LEVELS)
        of_partition, of_class, of_image = np.broadcast_arrays(*given)
        partition = _pick(of_partition, np.asarray(self.weights))
        image = np.empty(partition.shape, dtype=np.int64)
        for number, classes in enumerate(self.members):
            here = partition == number
            sizes = np.array([len(images) for images in classes])
            one = _pick(of_class[here], sizes if self.by_size else np.ones(len(sizes)))
            # a number that was rounded up to 1 is the last rank
            rank = np.minimum((of_image[here] * sizes[one]).astype(np.int64), sizes[one] - 1)
            image[here] = np.concatenate(classes)[np.cumsum(sizes)[one] - sizes[one] + rank]
        return image


def _pick(u: Array, weights: Array) -> NDArray[np.int64]:
    """Members with probabilities in proportion to their weights, at the quantiles `u`."""
    return np.searchsorted(np.cumsum(weights)[:-1] / weights.sum(), u, side="right")
