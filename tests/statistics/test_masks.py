import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from neuroprobe.statistics.masks import (
    clip_map,
    count_share,
    descending_ranks,
    random_ranks,
    shuffled_mask,
    soft_mask,
    top_mask,
)

# many ties: zeros, ones, a few values between, some undefined
MAPS = hnp.arrays(
    np.float64,
    hnp.array_shapes(min_dims=1, max_dims=3, max_side=6),
    elements=st.sampled_from([0.0, 0.0, 0.25, 0.5, 1.0, np.nan]),
)


@given(MAPS, st.sampled_from([0.01, 0.1, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99]), st.sampled_from([0, 0.5, 1.5]))
def test_the_top_share_is_masked_exactly(values, quantile, multiply):
    mask = top_mask(values, quantile, multiply)
    chosen, defined = mask == multiply, ~np.isnan(values)
    assert chosen.sum() == count_share(1 - quantile, int(defined.sum()))
    assert not chosen[~defined].any()
    assert (mask[~chosen] == 1).all()
    rest = values[defined & ~chosen]
    if chosen.any() and rest.size:
        threshold = values[chosen].min()
        assert threshold >= rest.max()
        tied = np.flatnonzero(values == threshold)
        # of equal ones, those that come first
        assert (np.diff(chosen.flat[tied].astype(int)) <= 0).all()


@pytest.mark.parametrize("quantile", [0.5, 0.6, 0.7, 0.8, 0.9])
@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_map_of_one_value_is_masked_in_part(quantile, value):
    mask = top_mask(np.full((4, 5, 5), value), quantile, 0)
    n = round((1 - quantile) * 100)
    assert (mask.ravel() == 0).tolist() == [True] * n + [False] * (100 - n)


@pytest.mark.parametrize(
    ("quantile", "values", "expected"),
    [
        (0.5, [3, 1, 2], [0, 1, 0]),  # halves up
        (0.9, [3, 1, 2], [1, 1, 1]),
        (0.9, [np.nan] * 3, [1, 1, 1]),
        (0.01, [3, 1, 2], [0, 0, 0]),
        (0.5, [np.nan, -1, np.nan, -2], [1, 0, 1, 1]),
        (0.5, [], []),
    ],
)
def test_edges_of_quantiles(quantile, values, expected):
    assert top_mask(np.array(values, dtype=float), quantile, 0).tolist() == expected


@pytest.mark.parametrize(
    ("share", "n", "expected"), [(0.1, 15, 2), (1 - 0.9, 25, 3), (1, 7, 7), (0.3, 1, 0), (0.1, 0, 0)]
)
def test_shares_are_rounded_half_up(share, n, expected):
    assert count_share(share, n) == expected


@given(MAPS)
def test_soft_masks_add_up_to_one(values):
    kept, left = (soft_mask(values, remaining=remaining) for remaining in (False, True))
    defined = ~np.isnan(values)
    assert np.array_equal(kept[defined], values[defined].astype(np.float32))
    assert np.allclose(kept[defined] + left[defined], 1)
    assert (kept[~defined] == 1).all()
    assert (left[~defined] == 1).all()


def test_maps_are_clipped_and_what_was_outside_is_counted():
    clipped, n = clip_map([[-0.2, 0.0, 1.0], [1.1, np.nan, np.inf]])
    np.testing.assert_array_equal(clipped, [[0, 0, 1], [1, np.nan, np.nan]])
    assert n == 2


def test_shuffled_masks_keep_what_is_no_candidate():
    rng = np.random.default_rng(1)
    mask, candidates = rng.random((5, 6)).astype(np.float32), rng.random((5, 6)) < 0.6
    shuffled = shuffled_mask(mask, candidates, np.random.default_rng(2))
    assert np.array_equal(shuffled[~candidates], mask[~candidates])
    assert np.array_equal(np.sort(shuffled[candidates]), np.sort(mask[candidates]))
    assert not np.array_equal(shuffled, mask)


@given(MAPS)
def test_ranks_are_those_of_a_stable_sort(values):
    """Ties by index, undefined units last."""
    flat = values.ravel()
    order = sorted(range(flat.size), key=lambda i: (np.isnan(flat[i]), -flat[i] if flat[i] == flat[i] else 0, i))
    ranks = descending_ranks(values)
    assert (ranks.dtype, ranks.shape) == (np.int32, values.shape)
    assert ranks.ravel()[order].tolist() == list(range(flat.size))


@given(MAPS, st.sampled_from([0.1, 0.5, 0.9]))
def test_top_masks_are_what_a_sort_gives(values, quantile):
    """As they were before they were made of ranks."""
    expected = np.ones(values.shape, dtype=np.float32)
    n = count_share(1 - quantile, int(np.isfinite(values).sum()))
    expected.flat[np.argsort(-values, axis=None, kind="stable")[:n]] = 0.5
    mask = top_mask(values, quantile, 0.5)
    assert mask.dtype == np.float32
    np.testing.assert_array_equal(mask, expected)


def test_random_masks_lie_within_larger_ones_and_hold_candidates_only():
    candidates = np.random.default_rng(3).random((4, 5, 6)) < 0.7
    ranks, n = random_ranks(candidates, np.random.default_rng(4)), candidates.sum()
    assert sorted(ranks[candidates]) == list(range(n))
    assert (ranks[~candidates] == n).all()
    masks = [ranks < count_share(share, n) for share in (0.1, 0.2, 0.5, 1)]
    for (smaller, larger), share in zip(itertools.pairwise(masks), (0.1, 0.2, 0.5), strict=True):
        assert (larger[smaller]).all()
        assert smaller.sum() == count_share(share, n)
    assert np.array_equal(masks[-1], candidates)
    again, other = (random_ranks(candidates, np.random.default_rng(seed)) for seed in (4, 5))
    assert np.array_equal(again, ranks)
    assert not np.array_equal(other, ranks)


def test_every_candidate_is_as_likely_at_every_rank():
    rng, candidates = np.random.default_rng(6), np.array([True, True, False, True, True])
    ranks = np.stack([random_ranks(candidates, rng) for _ in range(4000)])
    counts = np.stack([np.bincount(column, minlength=5) for column in ranks.T])
    assert counts[2].tolist() == [0, 0, 0, 0, 4000]
    np.testing.assert_allclose(counts[candidates][:, :4], 1000, atol=5 * np.sqrt(750))


def test_there_are_ranks_of_nothing():
    assert random_ranks(np.zeros(3, dtype=bool), np.random.default_rng(0)).tolist() == [0, 0, 0]
    assert descending_ranks([]).tolist() == []
    assert descending_ranks([np.nan, np.nan]).tolist() == [0, 1]
