"""Top lists against sorting everything, in any order of images, chunks and merges."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuroprobe.errors import ResponseError
from neuroprobe.statistics.top_stimuli import TopStimuli, first_argmax, relative_weights
from neuroprobe.statistics.tree import MergeTree, Span, State


def brute_force(values: np.ndarray, images: np.ndarray, rows: np.ndarray, columns: np.ndarray, n: int) -> list:
    """Top list of each unit: the best showing of each image, sorted."""
    lists = []
    for unit in range(values.shape[1]):
        best: dict[int, tuple] = {}
        for at, image in enumerate(images.tolist()):
            given_ = (-values[at, unit], image, rows[at, unit], columns[at, unit])
            best[image] = min(best.get(image, given_), given_)
        lists.append([(-v, i, r, c) for v, i, r, c in sorted(best.values())[:n]])
    return lists


def listed(top: TopStimuli) -> list:
    arrays = np.stack([top.values, top.images, top.rows, top.columns], -1)
    return [[tuple(entry) for entry in unit] for unit in arrays.tolist()]


def made(seed: int, n_images: int, n_units: int, repeats: bool) -> tuple[np.ndarray, ...]:
    """Responses of which many are equal, and some 0 and -0."""
    rng = np.random.default_rng(seed)
    values = np.maximum(rng.integers(-3, 6, (n_images, n_units)), 0).astype(np.float32) / 3
    values[rng.random(values.shape) < 0.1] = -0.0
    images = rng.integers(0, max(1, n_images // 2), n_images) if repeats else rng.permutation(3 * n_images)[:n_images]
    return values, images, *rng.integers(0, 3, (2, n_images, n_units))


def parts(arrays: tuple[np.ndarray, ...], cuts: list[int]) -> list[tuple[np.ndarray, ...]]:
    edges = [0, *sorted({cut % (len(arrays[0]) + 1) for cut in cuts}), len(arrays[0])]
    return [tuple(array[a:b] for array in arrays) for a, b in itertools.pairwise(edges)]


@given(
    st.integers(0, 10**6),
    st.integers(1, 40),
    st.integers(1, 4),
    st.integers(1, 12),
    st.lists(st.integers(0, 40), max_size=5),
    st.booleans(),
)
def test_any_order_and_any_merges_give_what_sorting_gives(
    seed: int, n_images: int, n_units: int, n: int, cuts: list[int], repeats: bool
) -> None:
    arrays = made(seed, n_images, n_units, repeats)
    expected = brute_force(*arrays, n)
    rng = np.random.default_rng(seed + 1)
    order = rng.permutation(n_images)
    shuffled = tuple(array[order] for array in arrays)
    # one state that takes in parts
    one = TopStimuli(n_units, n)
    for part in parts(shuffled, cuts):
        one.update(*part)
    assert listed(one) == expected
    # a state of each part, merged in a random order
    states = []
    for part in parts(shuffled, cuts):
        states.append(TopStimuli(n_units, n))
        states[-1].update(*part)
    while len(states) > 1:
        right = states.pop(int(rng.integers(len(states))))
        states[int(rng.integers(len(states)))].merge(right)
    assert listed(states[0]) == expected
    # what was merged already changes nothing
    one.merge(states[0])
    assert listed(one) == expected
    assert one.images.dtype == one.rows.dtype == np.int64
    assert not np.signbit(one.values).any()


@given(
    st.integers(0, 10**6),
    st.integers(1, 40),
    st.integers(1, 4),
    st.integers(1, 12),
    st.lists(st.integers(0, 40), max_size=5),
)
def test_floors_of_the_blocks_before_leave_out_nothing_of_the_whole(
    seed: int, n_images: int, n_units: int, n: int, cuts: list[int]
) -> None:
    """A block's list has the floor that any of the blocks before it, and what they are merged to, have reached."""
    arrays = made(seed, n_images, n_units, repeats=False)
    rng = np.random.default_rng(seed + 1)
    so_far, states = TopStimuli(n_units, n), []
    for part in parts(arrays, cuts):
        floor = so_far.reached * (rng.random(n_units) < 0.8) if np.isfinite(so_far.reached).all() else so_far.reached
        states.append(TopStimuli(n_units, n, floor))
        states[-1].update(*part)
        missing = states[-1].images == -1
        assert (states[-1].values[missing] == -np.inf).all()
        assert (states[-1].values[~missing] >= np.broadcast_to(floor[:, None], missing.shape)[~missing]).all()
        plain = TopStimuli(n_units, n)
        plain.update(*part)
        so_far.merge(plain)
    order = rng.permutation(len(states))
    merged = [TopStimuli.from_state(states[at].state()) for at in order]
    while len(merged) > 1:
        right = merged.pop(int(rng.integers(len(merged))))
        merged[int(rng.integers(len(merged)))].merge(right)
    assert listed(merged[0]) == brute_force(*arrays, n)
    assert listed(so_far) == listed(merged[0])


def test_a_floor_leaves_out_what_cannot_be_in_the_list() -> None:
    top = TopStimuli(2, 3, floor=np.array([2.0, -np.inf]))
    top.update(np.array([[1.0, 1.0], [2.0, 0.5], [3.0, 0.0]]), np.array([4, 5, 6]))
    assert top.images.tolist() == [[6, 5, -1], [4, 5, 6]]
    assert top.values[0, :2].tolist() == [3, 2]
    # fewer images than a list takes have reached nothing yet
    assert (top.reached == [-np.inf, 0]).all()


def test_a_large_list_is_that_of_sorting(rng: np.random.Generator) -> None:
    values = rng.gamma(1, size=(500, 30)).astype(np.float32)
    top = TopStimuli(30, 100)
    for start in range(0, 500, 64):
        top.update(values[start : start + 64], np.arange(start, min(start + 64, 500)))
    np.testing.assert_array_equal(top.values, np.sort(values, 0)[::-1][:100].T)
    np.testing.assert_array_equal(top.images, np.argsort(-values, 0, kind="stable")[:100].T)
    assert not top.rows.any()
    assert not top.columns.any()


def test_fewer_images_than_the_list_takes_are_all_kept() -> None:
    top = TopStimuli(2, 5)
    assert top.values.shape == (2, 0)
    top.update(np.zeros((0, 2)), np.zeros(0, np.int64))
    assert top.values.shape == (2, 0)
    top.update(np.array([[1.0, 4.0], [2.0, 3.0]]), np.array([4, 1]))
    assert top.values.tolist() == [[2, 1], [4, 3]]
    assert top.images.tolist() == [[1, 4], [4, 1]]


def test_negative_responses_are_ranked_too() -> None:
    top = TopStimuli(1, 2)
    top.update(np.array([[-3.0], [-1.0], [-2.0]]), np.arange(3))
    assert top.images.tolist() == [[1, 2]]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_responses_without_a_rank_are_refused_and_change_nothing(value: float) -> None:
    top = TopStimuli(2, 2)
    top.update(np.ones((1, 2)), np.array([3]))
    with pytest.raises(ResponseError, match=r"image 12, unit 1: the response is -?(nan|inf), one of 1"):
        top.update(np.array([[5.0, 5.0], [5.0, value]]), np.array([11, 12]))
    assert top.images.tolist() == [[3], [3]]


def test_the_state_is_saved_and_goes_through_the_merge_tree() -> None:
    arrays = made(5, 40, 3, repeats=False)
    tree: MergeTree[State] = MergeTree()
    for block in range(4):
        state = TopStimuli(3, 6)
        state.update(*(array[10 * block : 10 * block + 10] for array in arrays))
        tree.add(Span(block, block + 1), TopStimuli.from_state(state.state()))
    ((_, found),) = tree.nodes()
    assert isinstance(found, TopStimuli)
    assert listed(found) == brute_force(*arrays, 6)
    assert listed(TopStimuli.from_state(found.state())) == listed(found)
    found.update(np.full((1, 3), 9.0), np.array([10**6]))
    assert (found.images[:, 0] == 10**6).all()


def test_lists_of_other_lengths_do_not_merge() -> None:
    with pytest.raises(ValueError, match="lists of 3 stimuli of 2 units do not merge with lists of 2 of 2"):
        TopStimuli(2, 2).merge(TopStimuli(2, 3))
    with pytest.raises(ValueError, match="1 or more, received 0"):
        TopStimuli(2, 0)


def test_the_place_is_the_first_of_the_largest(rng: np.random.Generator) -> None:
    maps = rng.integers(0, 3, (5, 4, 3, 6)).astype(np.float32)
    values, rows, columns = first_argmax(maps)
    for image, unit in np.ndindex(5, 4):
        places = [at for at in np.ndindex(3, 6) if maps[image, unit][at] == maps[image, unit].max()]
        assert (rows[image, unit], columns[image, unit]) == places[0]
        assert values[image, unit] == maps[image, unit].max()


def test_weights_of_a_dead_unit_are_missing() -> None:
    found = relative_weights([[4.0, 2.0, -1.0], [0.0, 0.0, 0.0], [-1.0, -2.0, -3.0]])
    np.testing.assert_array_equal(found, [[1, 0.5, -0.25], [np.nan] * 3, [np.nan] * 3])
