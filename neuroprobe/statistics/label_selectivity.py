"""How much the labels of a unit's top stimuli are of one kind (NumPy, labels are numbers).

Class selectivity of Rafegas et al. 2019 (arXiv 1702.00382): the share f of a label in the weights of the N top stimuli
of a unit, and γ = (N - M) / (N - 1), M being the fewest labels that hold a share `threshold` of the weights. That is 1
where all stimuli have one label, and 0 where each has another. Few labels recur by chance: of 10 alike ones γ is 0.909
at least. So every index comes with what labels that mean nothing give: in closed form for γ with the threshold 1
(`chance_gamma`), and by permuting the labels of the images (`label_permutation`) for all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import special

from neuroprobe import names

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
ALIKE: Final = 1e-9  # shares that are nearer to a threshold reach it
THRESHOLD: Final = 1.0  # of the study's released table
LEAST: Final = 0.1  # share of a label that belongs to the population code
NO_LABEL: Final = -1


@dataclass(frozen=True)
class LabelShares:
    """Shares of labels in the weights of top stimuli, without the labels that have none.

    Attributes
    ----------
    labels : int array (units, N)
        Of the largest share first, and of equal ones the smallest; -1 behind the last one.
    shares : float array (units, N)
        They add up to 1; 0 behind the last label, and NaN for units that do not respond.
    """

    labels: Integers
    shares: Array

    @property
    def defined(self) -> NDArray[np.bool_]:
        """Which units respond at all: (units,)."""
        return ~np.isnan(self.shares[:, 0])

    def frequencies(self, n_labels: int) -> Array:
        """Shares of all labels: (units, labels), NaN for units that do not respond."""
        if self.labels.max(initial=NO_LABEL) >= n_labels:
            raise ValueError(f"label {self.labels.max()} is not one of {n_labels}, which are counted from 0")
        found = np.zeros((len(self.shares), n_labels + 1))  # the last one takes what has no label
        np.put_along_axis(found, self.labels % (n_labels + 1), self.shares, axis=1)
        found[~self.defined] = np.nan
        return found[:, :n_labels]


def label_shares(weights: Array, labels: Integers) -> LabelShares:
    """Sum the weights of top stimuli by label.

    Parameters
    ----------
    weights : float array (units, N)
        Responses, or these divided by the largest: it does not matter. Negative ones count as 0.
    labels : int array (units, N)
        Label of each stimulus, 0 or more.

    Examples
    --------
    >>> found = label_shares(np.array([[1, 0.9, 0.8, 0.5, 0.3]]), np.array([[0, 0, 1, 2, 2]]))
    >>> found.frequencies(4).round(4)
    array([[0.5429, 0.2286, 0.2286, 0.    ]])
    """
    if (labels < 0).any():
        raise ValueError(f"labels are 0 or more, received {labels.min()}; leave stimuli without a label out")
    n_units, n = weights.shape
    weights = np.maximum(weights, 0)
    total = weights.sum(1, keepdims=True)
    share = np.divide(weights, total, out=np.zeros(weights.shape), where=total > 0)
    order = np.argsort(labels, axis=1, kind="stable")
    label, share = np.take_along_axis(labels, order, 1), np.take_along_axis(share, order, 1)
    first = np.ones(label.shape, dtype=np.bool_)
    first[:, 1:] = label[:, 1:] != label[:, :-1]
    group = first.cumsum(1) - 1 + n * np.arange(n_units)[:, None]
    summed: Array = np.bincount(group.ravel(), share.ravel(), n_units * n).astype(np.float64).reshape(n_units, n)
    label_of = np.full(n_units * n, NO_LABEL, dtype=np.int64)
    label_of[group[first]] = label[first]
    found: Integers = np.where(summed > 0, label_of.reshape(n_units, n), NO_LABEL)
    # sums of the same weights in another order are the same
    order = np.lexsort((found, -summed.round(12)), axis=-1)
    found, summed = np.take_along_axis(found, order, 1), np.take_along_axis(summed, order, 1)
    summed[~(total[:, 0] > 0)] = np.nan
    return LabelShares(found, summed)


def label_indexes(found: LabelShares, threshold: float = THRESHOLD, least: float = LEAST) -> dict[str, Array]:
    """Concentration of labels.

    Parameters
    ----------
    found : LabelShares
    threshold : float
        Share of the weights, in (0, 1], that the M largest labels hold.
    least : float
        Share of a label that belongs to the population code.

    Returns
    -------
    dict of arrays (units,)
        ``gamma``, NaN too where N is 1; ``n_labels``, the M of it; ``population_code``, the number of labels with a
        share of `least` or more, and ``class_mass``, the sum of their shares; ``entropy`` of the shares in bit. NaN for
        units that do not respond, of which ``defined`` is 0.

    Notes
    -----
    A share that is 1e-9 below a threshold reaches it. Of N equal weights, M = 1 with a threshold under 1 / N, and with
    the threshold 1 it is the number of labels with a response.

    Examples
    --------
    >>> found = label_shares(np.array([[1, 0.9, 0.8, 0.5, 0.3]]), np.array([[0, 0, 1, 2, 2]]))
    >>> {name: values.round(4).item() for name, values in label_indexes(found, threshold=0.75).items()}
    {'gamma': 0.75, 'n_labels': 2.0, 'class_mass': 1.0, 'population_code': 3.0, 'entropy': 1.4518, 'defined': 1}
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"the threshold of γ is a share in (0, 1], received {threshold}")
    n, defined = found.shares.shape[1], found.defined
    shares = np.where(defined[:, None], found.shares, 0)
    n_labels = 1.0 + (shares.cumsum(1) < threshold - ALIKE).sum(1)
    kept = shares >= least - ALIKE
    indexes = {
        names.GAMMA: (n - n_labels) / (n - 1) if n > 1 else np.full(len(shares), np.nan),
        names.N_LABELS: n_labels,
        names.CLASS_MASS: (shares * kept).sum(1),
        names.POPULATION_CODE: kept.sum(1).astype(np.float64),
        names.ENTROPY: special.entr(shares).sum(1) / np.log(2) + 0.0,
    }
    indexes = {name: np.where(defined, values, np.nan) for name, values in indexes.items()}
    return indexes | {names.DEFINED: defined.astype(np.int8)}


def expected_labels(n: int, labels: int | Array) -> float:
    """Mean number of labels among `n` stimuli that are drawn from very many: Σ (1 - (1 - p)ⁿ).

    Parameters
    ----------
    n : int
    labels : int or float array (labels,)
        Number of equally frequent labels, or their proportions.

    Examples
    --------
    >>> round(expected_labels(100, 1000), 1), round(expected_labels(100, np.array([0.5, 0.5])), 1)
    (95.2, 2.0)
    """
    shares = np.full(labels, 1 / labels) if isinstance(labels, int) else np.asarray(labels, dtype=np.float64)
    if (shares < 0).any() or abs(shares.sum() - 1) > ALIKE:
        raise ValueError(f"proportions of labels are 0 or more and add up to 1; these add up to {shares.sum():.6g}")
    with np.errstate(divide="ignore"):
        return float(-np.expm1(n * np.log1p(-shares)).sum())


def expected_labels_of(n: int, counts: Integers) -> float:
    """Mean number of labels among `n` stimuli that are drawn from `counts` of each label, none of them twice.

    Examples
    --------
    >>> round(expected_labels_of(4, np.array([2, 2])), 6), round(expected_labels_of(2, np.array([2, 2])), 6)
    (2.0, 1.666667)
    """
    total = int(np.sum(counts))
    if n > total:
        raise ValueError(f"{n} stimuli cannot be drawn from {total}")
    others = total - np.asarray(counts)
    enough = others >= n
    # ways to draw none of a label, over all ways
    others = np.where(enough, others, n)
    logarithm = special.gammaln(others + 1) - special.gammaln(others - n + 1)
    logarithm -= special.gammaln(total + 1) - special.gammaln(total - n + 1)
    return float((1 - np.where(enough, np.exp(logarithm), 0)).sum())


def chance_gamma(n: int, expected: float) -> float:
    """Mean of γ, with the threshold 1, over stimuli whose labels mean nothing: of `expected` labels among `n`.

    Examples
    --------
    >>> [round(chance_gamma(100, expected_labels(100, c)), 3) for c in (1000, 200, 100, 10)]
    [0.048, 0.214, 0.37, 0.909]
    """
    return (n - expected) / (n - 1)


def chance_corrected(value: Array, chance: Array | float) -> Array:
    """Rescale an index so that chance is 0 and the largest possible value stays 1; NaN where chance is 1.

    Examples
    --------
    >>> chance_corrected(np.array([0.25, 0.625, 1.0]), 0.25)
    array([0. , 0.5, 1. ])
    """
    room = np.asarray(1 - np.asarray(chance, dtype=np.float64))
    shape = np.broadcast_shapes(np.shape(value), room.shape)
    return np.divide(value - np.asarray(chance), room, out=np.full(shape, np.nan), where=room > ALIKE)


@dataclass(frozen=True)
class Permuted:
    """What an index is where labels mean nothing.

    Attributes
    ----------
    mean, deviation : float arrays (units,)
        Over permutations.
    p_value : float array (units,)
        One-sided: share of permutations, the labels as they are among them, that are as concentrated.
    """

    mean: Array
    deviation: Array
    p_value: Array


def label_permutation(
    weights: Array,
    images: Integers,
    label_of_image: Integers,
    threshold: float = THRESHOLD,
    least: float = LEAST,
    *,
    n_permutations: int,
    seed: int,
) -> dict[str, Permuted]:
    """Permute the labels of all images that were shown, and keep which images drive a unit and how much.

    Parameters
    ----------
    weights : float array (units, N)
    images : int array (units, N)
        Places of the top stimuli among the images.
    label_of_image : int array (images,)
        Of all images that were shown, whether or not they drive a unit.
    threshold, least : float
        As for `label_indexes`.
    n_permutations : int
    seed : int
        The same permutations for all units, each a function of the seed and its number.

    Returns
    -------
    dict of Permuted
        Of ``gamma``, ``class_mass`` and ``entropy``, of which a small one is concentrated.

    Notes
    -----
    p = (1 + permutations that reach the value) / (1 + permutations) (Phipson & Smyth 2010). Images are what is
    permuted: where several show the same object their labels are no independent facts, and p is too small.

    Examples
    --------
    >>> labels = np.repeat([0, 1, 2, 3], 5)
    >>> found = label_permutation(np.ones((1, 5)), np.arange(5)[None], labels, n_permutations=99, seed=0)
    >>> found["gamma"].p_value
    array([0.01])
    """
    kept = (names.GAMMA, names.CLASS_MASS, names.ENTROPY)

    def concentration(labels: Integers) -> Array:
        indexes = label_indexes(label_shares(weights, labels[images]), threshold, least)
        return np.stack([indexes[names.GAMMA], indexes[names.CLASS_MASS], -indexes[names.ENTROPY]])

    observed = concentration(label_of_image)
    reached, total, squares = (np.zeros(observed.shape) for _ in range(3))
    for number in range(n_permutations):
        found = concentration(np.random.default_rng([seed, number]).permutation(label_of_image))
        reached += found >= observed - ALIKE
        total += found - observed
        squares += (found - observed) ** 2
    shift = total / n_permutations
    variance = np.maximum(squares / n_permutations - shift**2, 0) * n_permutations / max(n_permutations - 1, 1)
    mean = (observed + shift) * np.array([1, 1, -1])[:, None]
    p_value = np.where(np.isnan(observed), np.nan, (1 + reached) / (1 + n_permutations))
    return {name: Permuted(*of) for name, *of in zip(kept, mean, np.sqrt(variance), p_value, strict=True)}
