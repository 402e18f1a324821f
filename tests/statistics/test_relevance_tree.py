"""Trees and lists of relevant channels, and labels that are lost, against loops."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuroprobe.statistics.relevance_tree import label_drop, most_relevant, relevance_tree


def slow_tree(chain: list[np.ndarray], unit: int, n_parents: int, least: float) -> list[tuple]:
    """Nodes as level, unit, child and relevance, level by level."""
    nodes: list[tuple] = [(0, unit, -1, None)]
    last = [0]
    for number, matrix in enumerate(chain):
        made = []
        for child in last:
            column = [(-value, channel) for channel, value in enumerate(matrix[:, nodes[child][1]]) if value > 0]
            for value, channel in sorted(column)[:n_parents]:
                if -value > least * -min(column)[0]:
                    made.append(len(nodes))
                    nodes.append((number + 1, channel, child, -value))
        last = made
    return nodes


@given(st.integers(0, 10**6), st.lists(st.integers(1, 7), min_size=2, max_size=5), st.integers(1, 3), st.booleans())
def test_the_tree_is_that_of_loops(seed: int, sizes: list[int], n_parents: int, tied: bool) -> None:
    rng = np.random.default_rng(seed)
    chain = []
    for n_units, n_channels in pairwise(sizes):
        matrix = rng.integers(0, 4, (n_channels, n_units)) / 4 if tied else rng.random((n_channels, n_units))
        matrix[:, rng.random(n_units) < 0.1] = np.nan
        chain.append(matrix)
    unit = int(rng.integers(sizes[0]))
    tree = relevance_tree(chain, unit, n_parents, 0.25)
    expected = slow_tree(chain, unit, n_parents, 0.25)
    found = list(
        zip(tree.level.tolist(), tree.unit.tolist(), tree.child.tolist(), tree.relevance.tolist(), strict=True)
    )
    assert [node[:3] for node in found] == [node[:3] for node in expected]
    assert [node[3] for node in found[1:]] == [node[3] for node in expected[1:]]
    assert np.isnan(tree.relevance[0])


def test_a_weak_second_parent_is_left_out() -> None:
    # 0.2 of the best is not above it
    tree = relevance_tree([np.array([[1.0, 1.0], [0.2, 0.21]])], unit=0)
    assert tree.unit.tolist() == [0, 0]
    assert relevance_tree([np.array([[1.0, 1.0], [0.2, 0.21]])], unit=1).unit.tolist() == [1, 0, 1]


def test_matrices_that_do_not_follow_each_other() -> None:
    with pytest.raises(ValueError, match="relevances 1 are of 2 units, expected the 3 channels of relevances 0"):
        relevance_tree([np.ones((3, 2)), np.ones((4, 2))], 0)


def test_lists() -> None:
    assert most_relevant(np.array([0.1, 0.5, 0.25, 0.24])).tolist() == [1, 2]
    assert most_relevant(np.array([0.1, 0.5, 0.25, 0.24]), least=0).tolist() == [1, 2, 3, 0]
    for nothing in (np.zeros(3), np.full(3, np.nan), np.empty(0)):
        assert most_relevant(nothing).tolist() == []


@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 5))
def test_lost_labels_are_those_of_loops(seed: int, n: int, n_labels: int) -> None:
    rng = np.random.default_rng(seed)
    n_channels, n_units = 3, 4
    original = rng.integers(0, 5, (n_units, n)).astype(float)
    original[0] = 0
    ablated = rng.integers(0, 5, (n_channels, n_units, n)).astype(float)
    labels = rng.integers(0, n_labels, (n_units, n))
    drop, label = label_drop(original, ablated, labels)
    for channel, unit in np.ndindex(n_channels, n_units):
        total = original[unit].sum()
        if total == 0:
            assert np.isnan(drop[channel, unit])
            assert label[channel, unit] == -1
            continue
        drops = {}
        for one in sorted(set(labels[unit].tolist())):
            of = labels[unit] == one
            drops[one] = max(0.0, (original[unit, of].sum() - ablated[channel, unit, of].sum()) / total)
        best = max(drops, key=drops.__getitem__)
        assert drop[channel, unit] == pytest.approx(drops[best])
        assert label[channel, unit] == (best if drops[best] > 0 else -1)
