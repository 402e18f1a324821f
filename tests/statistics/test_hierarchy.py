"""Shares in a hierarchy against walks from node to parent."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuroprobe.statistics.hierarchy import Forest, ancestors, deepest_common, find_cycle

# 0 entity: 1 animal (3 bird: 5, 6; 4 dog: 7), 2 artifact: 8; and 9, a root of its own, with 10
PARENTS = [-1, 0, 0, 1, 1, 3, 3, 4, 2, -1, 9]
LEAVES = np.array([5, 6, 7, 8, 10])


def path(node: int, parents: np.ndarray) -> list[int]:
    """Nodes from one to its root."""
    found = [node]
    while parents[found[-1]] >= 0:
        found.append(int(parents[found[-1]]))
    return found


def random_parents(rng: np.random.Generator, n: int) -> np.ndarray:
    """A forest whose nodes are in no order."""
    parents = np.array([rng.integers(-1, node) for node in range(n)])
    names = rng.permutation(n)
    found = np.empty(n, np.int64)
    found[names] = np.where(parents < 0, -1, names[parents])
    return found


@given(st.integers(0, 10**6), st.integers(1, 15), st.integers(1, 6), st.sampled_from([0.0, 0.1, 0.3]))
def test_weights_and_common_nodes_are_those_of_walks(seed: int, n: int, n_labels: int, least: float) -> None:
    rng = np.random.default_rng(seed)
    parents = random_parents(rng, n)
    nodes = rng.permutation(n)[: min(n, n_labels)]
    frequencies = rng.dirichlet(np.full(len(nodes), 0.7), 5)
    frequencies[1] = np.nan
    frequencies[2] = np.eye(len(nodes))[0]
    forest = Forest.of(parents)
    assert forest.depth.tolist() == [len(path(node, parents)) - 1 for node in range(n)]
    found = ancestors(frequencies, nodes, forest, least)
    below = int(rng.integers(n))
    assert forest.under(below).tolist() == [below in path(node, parents) for node in range(n)]
    everywhere, under = deepest_common(found, forest), deepest_common(found, forest, below)
    for unit, shares in enumerate(frequencies):
        if unit == 1:
            assert np.isnan(found.weights[unit]).all()
            assert np.isnan(found.counts[unit]).all()
            assert (everywhere.node[unit], under.node[unit]) == (-1, -1)
            continue
        kept = {int(node): share for node, share in zip(nodes, shares, strict=True) if share > 0 and share >= least}
        for node in range(n):
            held = [share for other, share in kept.items() if node in path(other, parents)]
            assert found.weights[unit, node] == pytest.approx(sum(held))
            assert found.counts[unit, node] == len(held)
        for common, codes in (
            (everywhere, list(kept)),
            (under, [node for node in kept if below in path(node, parents)]),
        ):
            shared = set.intersection(*({*path(node, parents)} for node in codes)) if codes else set()
            deepest = max(shared, key=lambda node: len(path(node, parents)), default=-1)
            assert common.node[unit] == deepest
            if deepest >= 0:
                assert common.depth[unit] == len(path(deepest, parents)) - 1
                assert common.weight[unit] == pytest.approx(sum(kept[node] for node in codes))
            else:
                assert np.isnan([common.depth[unit], common.weight[unit]]).all()


@pytest.mark.parametrize(
    ("shares", "node", "depth", "weight"),
    [
        ([0.5, 0.3, 0.05, 0.1, 0.05], 0, 0, 0.9),  # birds and an artifact
        ([0.5, 0.3, 0.05, 0.09, 0.06], 3, 2, 0.8),  # two birds
        ([0.5, 0.0, 0.5, 0.0, 0.0], 1, 1, 1),  # bird and dog
        ([0.0, 0.0, 1.0, 0.0, 0.0], 7, 3, 1),  # one label: itself
        ([0.5, 0.0, 0.0, 0.0, 0.5], -1, np.nan, np.nan),  # of two trees
        ([np.nan] * 5, -1, np.nan, np.nan),
        ([0.0] * 5, -1, np.nan, np.nan),
    ],
)
def test_common_nodes_of_a_small_hierarchy(shares: list[float], node: int, depth: float, weight: float) -> None:
    forest = Forest.of(PARENTS)
    found = deepest_common(ancestors(np.array([shares]), LEAVES, forest), forest)
    np.testing.assert_equal((found.node[0], found.depth[0]), (node, depth))
    np.testing.assert_allclose(found.weight, [weight])


def test_each_branch_has_its_own_common_node() -> None:
    forest = Forest.of(PARENTS)
    found = ancestors(np.array([[0.4, 0.3, 0.0, 0.3, 0.0]]), LEAVES, forest)
    assert deepest_common(found, forest).node == 0
    assert [deepest_common(found, forest, child).node.item() for child in (1, 2, 9)] == [3, 8, -1]


def test_several_labels_may_share_a_node() -> None:
    forest = Forest.of([-1, 0])
    found = ancestors(np.array([[0.6, 0.4]]), np.array([1, 1]), forest)
    np.testing.assert_allclose(found.weights, [[1, 1]])
    assert found.counts.tolist() == [[2, 2]]
    assert deepest_common(found, forest).node == 1


@pytest.mark.parametrize(
    ("parents", "cycle"),
    [
        ([0], [0]),
        ([-1, 2, 3, 1, 2, 0], [1, 2, 3]),
        ([3, -1, 1, 4, 3], [3, 4]),
        ([1, 0, 3, 2], [0, 1]),
        ([1, 2, 3, 4, 5, 6, 7, 0], [0, 1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_cycles_are_named(parents: list[int], cycle: list[int]) -> None:
    assert find_cycle(np.array(parents)) == cycle
    with pytest.raises(ValueError, match=" → ".join(map(str, [*cycle, cycle[0]]))):
        Forest.of(parents)


@given(st.integers(0, 10**6), st.integers(1, 40), st.booleans())
def test_a_cycle_is_found_where_there_is_one(seed: int, n: int, closed: bool) -> None:
    rng = np.random.default_rng(seed)
    parents = random_parents(rng, n)
    if not closed:
        assert find_cycle(parents) == []
        return
    leaf = int(rng.integers(n))
    root = path(leaf, parents)[-1]
    parents[root] = leaf
    found = find_cycle(parents)
    assert [int(parents[node]) for node in found] == [*found[1:], found[0]]
    assert {*found} >= {leaf, root}


@pytest.mark.parametrize("parent", [2, -2])
def test_parents_are_nodes(parent: int) -> None:
    with pytest.raises(ValueError, match=f"the parent of node 1 is {parent}; expected one of the 2 nodes"):
        Forest.of([-1, parent])
