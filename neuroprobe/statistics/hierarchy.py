"""Shares of labels in a hierarchy of labels: weights of all ancestors, and what the labels of a unit have in common.

Any table of parents will do, of one tree or of several; WordNet is that of Rafegas et al. 2019 (arXiv 1702.00382).
Nodes are numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuroprobe.statistics.label_selectivity import ALIKE, LEAST

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
NO_NODE: Final = -1


@dataclass(frozen=True)
class Forest:
    """Trees of nodes.

    Attributes
    ----------
    parents : int array (nodes,)
        -1 of roots.
    depth : int array (nodes,)
        0 of roots.
    """

    parents: Integers
    depth: Integers

    @classmethod
    def of(cls, parents: ArrayLike) -> Forest:
        """Make it of a table of parents.

        Raises
        ------
        ValueError
            If a parent is no node, or nodes are their own ancestors: one such cycle is named.

        Examples
        --------
        >>> Forest.of([-1, 0, 0, 1]).depth
        array([0, 1, 1, 2])
        >>> Forest.of([-1, 2, 3, 1])
        Traceback (most recent call last):
        ValueError: nodes are their own ancestors: 1 → 2 → 3 → 1; ...
        """
        given = np.asarray(parents, dtype=np.int64)
        wrong = np.flatnonzero((given < NO_NODE) | (given >= len(given)))
        if wrong.size:
            raise ValueError(
                f"the parent of node {wrong[0]} is {given[wrong[0]]}; expected one of the {len(given)} nodes, "
                f"or {NO_NODE} for a root"
            )
        cycle = find_cycle(given)
        if cycle:
            listed = " → ".join(str(node) for node in [*cycle, cycle[0]])
            raise ValueError(f"nodes are their own ancestors: {listed}; one of them needs another parent, or none")
        depth, above = np.zeros(len(given), dtype=np.int64), given
        while (above != NO_NODE).any():
            depth += above != NO_NODE
            above = np.where(above == NO_NODE, NO_NODE, given[above])
        return cls(given, depth)

    def add_up(self, values: Array) -> Array:
        """Add what each node has to all its ancestors: (units, nodes)."""
        total = np.array(values.T)
        for depth in range(int(self.depth.max(initial=0)), 0, -1):
            nodes = np.flatnonzero(self.depth == depth)
            np.add.at(total, self.parents[nodes], total[nodes])
        return total.T

    def under(self, node: int) -> NDArray[np.bool_]:
        """Which nodes are below one, or that one itself: (nodes,)."""
        found = np.arange(len(self.parents)) == node
        for depth in range(int(self.depth[node]) + 1, int(self.depth.max()) + 1):
            nodes = np.flatnonzero(self.depth == depth)
            found[nodes] = found[self.parents[nodes]]
        return found


def find_cycle(parents: Integers) -> list[int]:
    """Return nodes of which each is the child of the next and the last is that of the first; of none an empty list.

    Examples
    --------
    >>> find_cycle(np.array([-1, 0, 4, 2, 3])), find_cycle(np.array([-1, 0]))
    ([2, 4, 3], [])
    """
    step = np.append(parents, NO_NODE)  # from the last entry, where roots go, nothing leads out
    # after as many steps as there are nodes, a power of two by doubling, those that are on their way go round
    for _ in range(len(parents).bit_length()):
        step = step[step]
    on_the_way = step[step != NO_NODE]
    if not on_the_way.size:
        return []
    cycle = [int(on_the_way.min())]
    while (parent := int(parents[cycle[-1]])) != cycle[0]:
        cycle.append(parent)
    return cycle


@dataclass(frozen=True)
class Ancestors:
    """What the labels of units' population codes weigh in a hierarchy.

    Attributes
    ----------
    weights, counts : float arrays (units, nodes)
        Sum of the shares, and number, of the labels of the code at a node or below it; NaN for units that do not
        respond.
    """

    weights: Array
    counts: Array


def ancestors(frequencies: Array, nodes: Integers, forest: Forest, least: float = LEAST) -> Ancestors:
    """Add up the shares of labels in a hierarchy.

    Parameters
    ----------
    frequencies : float array (units, labels)
        As `LabelShares.frequencies` returns them; NaN for units that do not respond.
    nodes : int array (labels,)
        Node of each label, which may have labels below it.
    forest : Forest
    least : float
        Share of a label that counts, as in the population code; 0 counts all labels with a share.

    Examples
    --------
    >>> forest = Forest.of([-1, 0, 0, 1, 1])  # animal; bird, dog; and two birds
    >>> found = ancestors(np.array([[0.5, 0.3, 0.2]]), np.array([3, 4, 2]), forest, least=0.3)
    >>> found.weights, found.counts
    (array([[0.8, 0.8, 0. , 0.5, 0.3]]), array([[2., 2., 0., 1., 1.]]))
    """
    kept = (frequencies > 0) & (frequencies >= least - ALIKE)
    placed = np.zeros((2, len(frequencies), len(forest.parents)))
    for at, values in enumerate((np.where(kept, frequencies, 0), kept)):
        np.add.at(placed[at].T, nodes, values.T)
    found = [forest.add_up(values) for values in placed]
    for values in found:
        values[np.isnan(frequencies).any(1)] = np.nan
    return Ancestors(*found)


@dataclass(frozen=True)
class Common:
    """Deepest node that units' labels have in common.

    Attributes
    ----------
    node : int array (units,)
        -1 where there is none: labels of several trees, no label, a unit that does not respond.
    depth, weight : float arrays (units,)
        Of that node; NaN where there is none.
    """

    node: Integers
    depth: Array
    weight: Array


def deepest_common(found: Ancestors, forest: Forest, below: int | None = None) -> Common:
    """Find the deepest node at or below which all labels of a unit's population code are.

    Parameters
    ----------
    found : Ancestors
    forest : Forest
    below : int, optional
        A node: only the labels at it or below it count. Those below each child of the root give the labels of the
        study's word trees.

    Notes
    -----
    Of a single label that is the label itself; of a label and one below it, the upper one.

    Examples
    --------
    >>> forest = Forest.of([-1, 0, 0, 1, 1])
    >>> deepest_common(ancestors(np.array([[0.5, 0.3, 0.2]]), np.array([3, 4, 2]), forest, 0.3), forest)
    Common(node=array([1]), depth=array([1.]), weight=array([0.8]))
    """
    candidates = np.ones(len(forest.parents), dtype=np.bool_) if below is None else forest.under(below)
    roots = forest.parents == NO_NODE
    total = found.counts[:, roots].sum(1) if below is None else found.counts[:, below]
    holds_all = candidates & (found.counts == total[:, None]) & (total[:, None] > 0)
    # nodes that hold all are ancestors of each other, so that there is one at each depth
    depth = np.where(holds_all, forest.depth, NO_NODE)
    deepest = depth.argmax(1)
    units = np.arange(len(depth))
    exists = depth[units, deepest] > NO_NODE
    return Common(
        np.where(exists, deepest, NO_NODE),
        np.where(exists, forest.depth[deepest], np.nan),
        np.where(exists, found.weights[units, deepest], np.nan),
    )
