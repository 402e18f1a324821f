import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuroprobe.design.randomness import generator, keys

MASK = 2**64 - 1


def splitmix(start, index):
    """SplitMix64 with Python's integers."""
    z = (start + (index + 1) * 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return (z ^ (z >> 31)) >> 1


def test_generator_is_a_function_of_its_arguments():
    first, second = (generator(3, "scramble", 5).random(8) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_generator_differs_by_seed_purpose_and_index():
    arguments = [(0, "a", 0), (1, "a", 0), (2**70, "a", 0), (0, "b", 0), (0, "a", 1), (0, "a", 1, 1)]
    draws = {tuple(generator(*each).integers(2**62, size=4)) for each in arguments}
    assert len(draws) == len(arguments)


def test_draws_leave_the_global_state_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    generator(0, "a").random(3)
    keys(0, "a", np.arange(3))
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_the_draws_of_existing_stores_stay():
    # a store is resumed and extended by the draws that it was begun with: these values must never change
    assert keys(0, "presentation", [0, 1, 2]).tolist() == [
        7978761458512803641,
        8843358581259930040,
        2496470502629450277,
    ]
    assert generator(0, "scramble", 0).integers(2**32, size=3).tolist() == [843346677, 2122891307, 2942984013]


@settings(deadline=None)
@given(st.integers(0, 2**40), st.lists(st.integers(0, 2**50), min_size=1, max_size=20))
def test_keys_are_splitmix_and_do_not_depend_on_each_other(seed, index):
    start = int(np.random.SeedSequence((seed, zlib.crc32(b"presentation"))).generate_state(1, np.uint64)[0])
    assert keys(seed, "presentation", np.array(index)).tolist() == [splitmix(start, each) for each in index]


def test_keys_have_the_shape_of_their_indices():
    grid = np.arange(12).reshape(3, 4)
    drawn = keys(7, "a", grid)
    assert drawn.shape == (3, 4)
    assert drawn.dtype == np.int64
    np.testing.assert_array_equal(drawn.ravel(), keys(7, "a", np.arange(12)))
    assert keys(7, "a", 5).shape == ()


def test_keys_are_distinct_and_not_negative():
    drawn = keys(0, "a", np.arange(100_000))
    assert drawn.min() >= 0
    assert len(np.unique(drawn)) == len(drawn)


def test_every_bit_of_the_keys_is_on_half_of_the_time():
    drawn = keys(0, "a", np.arange(20_000))
    share = ((drawn[:, None] >> np.arange(63)) & 1).mean(0)
    # four standard errors and a bit, over 63 bits
    np.testing.assert_allclose(share, 0.5, atol=4.5 * 0.5 / np.sqrt(len(drawn)))


@pytest.mark.parametrize("other", [(1, "a"), (0, "b")])
def test_keys_of_other_seeds_and_purposes_are_unrelated(other):
    index = np.arange(20_000)
    first, second = keys(0, "a", index), keys(*other, index)
    assert len(np.intersect1d(first, second)) == 0
    # remainders, which choose the image, are independent
    table = np.histogram2d(first % 4, second % 4, bins=4)[0]
    np.testing.assert_allclose(table, len(index) / 16, rtol=0.15)
