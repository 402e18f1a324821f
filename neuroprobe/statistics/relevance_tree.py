"""Which units a unit rests on, and these in turn, from relevances of neighbouring layers (NumPy, no labels).

After Rafegas et al. 2019 (arXiv 1702.00382) and the toolbox of its authors, who keep the two most relevant channels of
each unit over four layers, and list those with half the relevance of the best.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
N_PARENTS: Final = 2
LEAST: Final = 0.2  # of the relevance of a unit's best parent, that another one has to exceed
LEAST_LISTED: Final = 0.5  # of the same, that those of a list reach
ROUNDING: Final = 1e-12  # of a unit's response, that sums which cancel may leave


@dataclass(frozen=True)
class RelevanceTree:
    """A unit, its parents, and theirs, level by level.

    Attributes
    ----------
    level : int array (nodes,)
        0 of the unit itself, 1 of channels of the layer before its own, and so on.
    unit : int array (nodes,)
        Channel. It may be there several times: once for each unit that it is a parent of.
    child : int array (nodes,)
        The node that this one is a parent of; -1 of the first.
    relevance : float array (nodes,)
        For that node; NaN of the first.
    """

    level: Integers
    unit: Integers
    child: Integers
    relevance: Array


def relevance_tree(
    chain: Sequence[Array], unit: int, n_parents: int = N_PARENTS, least: float = LEAST
) -> RelevanceTree:
    """Tree of the most relevant channels of the layers before a unit's.

    Parameters
    ----------
    chain : sequence of float arrays (channels of the layer before, units of a layer)
        Relevances, those of the unit's own layer first. Each gives a level of the tree.
    unit : int
    n_parents : int
        That are kept of each unit, at most.
    least : float
        Share of the relevance of a unit's best parent, above which others are kept.

    Returns
    -------
    RelevanceTree
        Children in the order of the level before, and the parents of each by relevance: of equally relevant ones the
        channel with the smaller number first. Channels without relevance, or of units without a response, are none.

    Raises
    ------
    ValueError
        If matrices of neighbouring layers do not fit together.

    Examples
    --------
    >>> tree = relevance_tree([np.array([[0.1], [0.8], [0.3]]), np.array([[0.0, 0.5, 0.2], [0.0, 0.05, 0.2]])], unit=0)
    >>> tree.level, tree.unit, tree.child
    (array([0, 1, 1, 2, 2, 2]), array([0, 1, 2, 0, 0, 1]), array([-1,  0,  0,  1,  2,  2]))
    """
    for number, (matrix, before) in enumerate(pairwise(chain)):
        if before.shape[1] != matrix.shape[0]:
            raise ValueError(
                f"relevances {number + 1} are of {before.shape[1]} units, expected the {matrix.shape[0]} channels of "
                f"relevances {number}: give layers one after the other, the last layer's first"
            )
    levels = [(np.zeros(1, np.int64), np.array([unit], np.int64), np.full(1, -1, np.int64), np.full(1, np.nan))]
    first = 0  # node of the level before
    for number, matrix in enumerate(chain):
        units = levels[-1][1]
        own = matrix.T[units]
        own = np.where(own > 0, own, 0.0)  # of NaN as well
        best = own.max(1, keepdims=True, initial=0.0)
        order = np.argsort(-own, axis=1, kind="stable")[:, :n_parents]
        ranked = np.take_along_axis(own, order, 1)
        kept = ranked > least * best
        child, _ = np.nonzero(kept)
        levels.append((np.full(len(child), number + 1), order[kept], first + child, ranked[kept]))
        first += len(units)
    level, channel, child, relevance = (np.concatenate(parts) for parts in zip(*levels, strict=True))
    return RelevanceTree(level, channel, child, relevance)


def most_relevant(relevance: Array, least: float = LEAST_LISTED) -> Integers:
    """Channels with at least a share of the largest relevance for a unit, the most relevant first.

    Parameters
    ----------
    relevance : float array (channels,)
    least : float

    Examples
    --------
    >>> most_relevant(np.array([0.3, 0.8, 0.4, 0.8, np.nan]))
    array([1, 3, 2])
    """
    known = np.where(relevance > 0, relevance, 0.0)
    order = np.argsort(-known, kind="stable")
    return order[(known[order] > 0) & (known[order] >= least * known.max(initial=0.0))]


def label_drop(original: Array, ablated: Array, labels: Integers) -> tuple[Array, Integers]:
    """Which label of its top stimuli a unit loses most of, where channels of an earlier layer are 0.

    Parameters
    ----------
    original : float array (units, N)
    ablated : float array (channels, units, N)
    labels : int array (units, N)
        Of the stimuli.

    Returns
    -------
    drop : float array (channels, units)
        Largest max(0, f - f⁻) over labels, with the share of a label f = Σ a / Σ a over its stimuli, and f⁻ its share
        without the channel, of the same sum of all. NaN for units without a response.
    label : int array (channels, units)
        With that drop: of equal ones the smallest. -1 where no label loses.

    Examples
    --------
    >>> label_drop(np.array([[3.0, 2.0, 1.0]]), np.array([[[3.0, 1.0, 0.5]]]), np.array([[7, 4, 4]]))
    (array([[0.25]]), array([[4]]))
    """
    order = np.argsort(labels, axis=1, kind="stable")
    labels = np.take_along_axis(labels, order, 1)
    lost = np.take_along_axis(original - ablated, order[None], 2)
    # sums over each run of equal labels, at its last place
    is_last = np.ones(labels.shape, np.bool_)
    is_last[:, :-1] = labels[:, 1:] != labels[:, :-1]
    places = np.where(is_last, np.arange(labels.shape[1]), -1)
    before = np.maximum.accumulate(places, axis=1)
    before = np.concatenate([np.full((len(labels), 1), -1), before[:, :-1]], axis=1)  # end of the run before
    upto = np.concatenate([np.zeros((*lost.shape[:2], 1)), np.cumsum(lost, axis=2)], axis=2)
    sums = upto[..., 1:] - np.take_along_axis(upto, np.broadcast_to(before + 1, lost.shape), 2)
    sums = np.where(is_last, sums, -np.inf)
    at = sums.argmax(2)
    total = original.sum(1)
    largest = np.take_along_axis(sums, at[..., None], 2)[..., 0]
    drop = np.divide(np.maximum(largest, 0), total, out=np.full(largest.shape, np.nan), where=total > 0)
    drop = np.where(drop < ROUNDING, 0, drop)
    return drop, np.where(drop > 0, np.take_along_axis(labels, at.T, 1).T, -1)
