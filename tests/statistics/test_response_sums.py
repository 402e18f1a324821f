"""What is kept of responses, against NumPy on all of them: in any blocks, merged in any order."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuroprobe.errors import ResponseError
from neuroprobe.statistics.plain_sums import PlainSums
from neuroprobe.statistics.response_sums import ResponseAccumulator, Responses, of_classes, state_bytes
from neuroprobe.statistics.sketch import count_bins
from neuroprobe.statistics.top_stimuli import TopStimuli

N_UNITS, N_KEPT, N_CLASSES = 3, 4, 3


class Shown(NamedTuple):
    responses: Responses
    images: np.ndarray
    half: np.ndarray
    target: np.ndarray

    def part(self, at: slice) -> Shown:
        one = self.responses
        responses = Responses(one.peak[at], one.rows[at], one.columns[at], one.mean[at])
        return Shown(responses, self.images[at], self.half[at], self.target[at])


def made(seed: int, n: int) -> Shown:
    """Responses with many zeros and ties, in an order that is not that of the images."""
    rng = np.random.default_rng(seed)
    peak = np.maximum(rng.integers(-3, 8, (n, N_UNITS)), 0).astype(np.float32) / 4
    mean = (peak * rng.random(peak.shape) - 0.1 * rng.random(peak.shape)).astype(np.float32)
    places = rng.integers(0, 5, (2, n, N_UNITS))
    return Shown(Responses(peak, *places, mean), rng.permutation(n), rng.integers(0, 2, n), rng.integers(0, 2, n))


def in_blocks(shown: Shown, cuts: list[int], batch: int) -> list[tuple[TopStimuli, TopStimuli, PlainSums]]:
    accumulator = ResponseAccumulator(N_UNITS, N_KEPT, N_CLASSES)
    n = len(shown.images)
    edges = [0, *sorted(cut % (n + 1) for cut in cuts), n]
    states = []
    for start, stop in pairwise(edges):
        for first in range(start, stop, batch):
            accumulator.update(*shown.part(slice(first, min(first + batch, stop))))
        states.append(accumulator.end_block())
    return states


@given(st.integers(0, 10**6), st.integers(1, 60), st.lists(st.integers(0, 60), max_size=5), st.integers(1, 20))
def test_blocks_merge_to_what_all_responses_give(seed: int, n: int, cuts: list[int], batch: int) -> None:
    shown = made(seed, n)
    states = in_blocks(shown, cuts, batch)
    order = np.random.default_rng(seed).permutation(len(states))
    first, second, sums = states[order[0]]
    for at in order[1:]:
        for mine, other in zip((first, second, sums), states[at], strict=True):
            mine.merge(other)
    one = shown.responses
    for number, top in enumerate((first, second)):
        expected, mine = TopStimuli(N_UNITS, N_KEPT), shown.half == number
        expected.update(one.peak[mine], shown.images[mine], one.rows[mine], one.columns[mine])
        for name in ("values", "images", "rows", "columns"):
            np.testing.assert_array_equal(getattr(top, name), getattr(expected, name))
    both, whole = TopStimuli.from_state(first.state()), TopStimuli(N_UNITS, N_KEPT)
    both.merge(second)
    whole.update(one.peak, shown.images, one.rows, one.columns)
    np.testing.assert_array_equal(both.values, whole.values)
    np.testing.assert_array_equal(both.images, whole.images)
    check_sums(sums, shown)


def check_sums(sums: PlainSums, shown: Shown) -> None:
    mean = shown.responses.mean.astype(np.float64)
    of_all, of_halves = of_classes(sums), [of_classes(sums, half) for half in (0, 1)]
    for label in range(N_CLASSES):
        mine = mean[shown.target == label]
        assert of_all["n"][label] == len(mine)
        np.testing.assert_allclose(of_all["total"][label], mine.sum(0), atol=1e-9)
        np.testing.assert_allclose(of_all["square"][label], (mine**2).sum(0), atol=1e-9)
        for half in (0, 1):
            in_half = mean[(shown.target == label) & (shown.half == half)]
            assert of_halves[half]["n"][label] == len(in_half)
            np.testing.assert_allclose(of_halves[half]["total"][label], in_half.sum(0), atol=1e-9)
    rectified = np.maximum(mean, 0)
    for number, power in enumerate(of_all["power"], 1):
        np.testing.assert_allclose(power, (rectified**number).sum(0), atol=1e-9)
    np.testing.assert_array_equal(sums["active"], (shown.responses.peak > 0).sum(0))
    np.testing.assert_array_equal(sums["counts"], count_bins(mean, shown.target, N_CLASSES))
    assert sums["dropped"].tolist() == [0]


def test_later_blocks_keep_only_what_may_be_in_the_list() -> None:
    responses = np.array([[9.0], [8.0], [7.0], [6.0], [1.0], [9.5]], dtype=np.float32)
    places, zeros = np.zeros((6, 1), np.int64), np.zeros(6, np.int64)
    shown = Shown(Responses(responses, places, places, responses), np.arange(6), zeros, zeros)
    accumulator = ResponseAccumulator(1, N_KEPT, 1)
    accumulator.update(*shown.part(slice(0, 4)))
    accumulator.end_block()
    accumulator.update(*shown.part(slice(4, 6)))
    later, _, sums = accumulator.end_block()
    assert later.images.tolist() == [[5]]
    assert sums["n"].tolist() == [[2], [0]]


def test_dropped_images_are_counted_in_their_block() -> None:
    accumulator = ResponseAccumulator(N_UNITS, N_KEPT, N_CLASSES)
    accumulator.n_dropped += 2
    first, second, sums = accumulator.end_block()
    assert sums["dropped"].tolist() == [2]
    assert first.values.shape == second.values.shape == (N_UNITS, 0)
    assert accumulator.end_block()[2]["dropped"].tolist() == [0]


def test_responses_without_a_rank_are_refused() -> None:
    shown = made(1, 5)
    shown.responses.peak[3, 1] = np.nan
    accumulator = ResponseAccumulator(N_UNITS, N_KEPT, N_CLASSES)
    accumulator.update(*shown)
    with pytest.raises(ResponseError, match=r"unit 1: the response is nan"):
        accumulator.end_block()


def test_bytes_of_states_are_those_of_their_arrays() -> None:
    shown = made(2, 40)
    ((first, second, sums),) = in_blocks(shown, [], 16)
    taken = sum(tensor.nbytes for state in (first, second, sums) for tensor in state.state().values())
    assert taken <= state_bytes(N_UNITS, N_KEPT, N_CLASSES) + 8 * (2 + 2 * N_CLASSES + 1)
    assert taken > 0.9 * state_bytes(N_UNITS, N_KEPT, N_CLASSES)
