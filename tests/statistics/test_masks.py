import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from neuroprobe.statistics.masks import clip_map, count_share, shuffled_mask, soft_mask, top_mask

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
