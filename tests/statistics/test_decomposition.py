"""Views, covers and collages against loops over places."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuroprobe.statistics.decomposition import (
    Fields,
    boxes_of,
    collage,
    cover,
    decomposition_of,
    nearest_place,
    pixel_view,
    places_within,
    relative_responses,
)


def test_shares_of_dead_units_are_missing(rng: np.random.Generator) -> None:
    maps = rng.random((3, 2, 2))
    found = relative_responses(maps, [2.0, 0.0, 0.5])
    np.testing.assert_allclose(found[[0, 2]], maps[[0, 2]] / np.array([2, 0.5])[:, None, None])
    assert np.isnan(found[1]).all()
    several = relative_responses(np.stack([maps, 2 * maps]), [2.0, 0.0, 0.5])
    np.testing.assert_allclose(several[1], 2 * found)


@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 7))
def test_views_are_those_of_sorting(seed: int, n_channels: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    share = rng.integers(0, 4, (n_channels, 3, 2)) / 4
    share[rng.random(share.shape) < 0.2] = np.nan
    channel, value = pixel_view(share, k)
    for row, column in np.ndindex(3, 2):
        known = [(-share[c, row, column], c) for c in range(n_channels) if not np.isnan(share[c, row, column])]
        expected = [c for _, c in sorted(known)][:k]
        found = channel[:, row, column].tolist()
        assert found == expected + [-1] * (min(k, n_channels) - len(expected))
        np.testing.assert_array_equal(value[: len(expected), row, column], share[expected, row, column])
        assert np.isnan(value[len(expected) :, row, column]).all()


@given(st.integers(0, 40), st.integers(0, 9), st.integers(1, 8), st.integers(1, 9))
def test_the_nearest_place_is_that_of_all(pixel: int, twice: int, stride: int, n_places: int) -> None:
    centres = twice / 2 - 2 + stride * np.arange(n_places)
    assert nearest_place(pixel, twice / 2 - 2, stride, n_places) == np.abs(centres - pixel).argmin()
    assert nearest_place(pixel, 3.5, 0, 1) == 0


def slow_cover(share: np.ndarray, boxes: np.ndarray, size: tuple[int, int], overlap: float) -> list[tuple]:
    """Take the largest share that is left, again and again."""
    best = np.where(np.isnan(share), -1, share).max(0)
    painted, taken = np.zeros(size, int), []
    while (best > 0).any():
        row, column = np.unravel_index(best.argmax(), best.shape)
        value, best[row, column] = best[row, column], -1
        top, left, bottom, right = boxes[row, column]
        if top < 0 or left < 0 or bottom > size[0] or right > size[1]:
            continue
        n = sum(painted[y, x] > 0 for y in range(top, bottom) for x in range(left, right))
        if n <= overlap * (bottom - top) * (right - left) + 1e-12:
            painted[top:bottom, left:right] += 1
            channel = next(c for c in range(len(share)) if share[c, row, column] == value)
            taken.append((channel, row, column, value, [top, left, bottom, right]))
    return taken


@given(st.integers(0, 10**6), st.sampled_from([0, 0.25, 0.5, 1]), st.integers(-3, 1), st.integers(1, 3))
def test_the_cover_is_that_of_loops(seed: int, overlap: float, start: int, stride: int) -> None:
    rng = np.random.default_rng(seed)
    share = rng.integers(0, 6, (3, 5, 4)) / 5
    share[rng.random(share.shape) < 0.2] = np.nan
    share[:, 0, 0] = np.nan
    boxes = boxes_of(Fields(start, stride, 4).edges(5), Fields(-1, 2, 2).edges(4))
    found = cover(share, boxes, (9, 7), overlap)
    expected = slow_cover(share, boxes, (9, 7), overlap)
    columns = [found.channels, found.rows, found.columns, found.values, found.boxes]
    assert list(zip(*(column.tolist() for column in columns), strict=True)) == expected
    assert (np.diff(found.values) <= 0).all()
    if overlap == 0:
        painted = np.zeros((9, 7))
        for top, left, bottom, right in found.boxes:
            painted[top:bottom, left:right] += 1
        assert painted.max(initial=0) <= 1


def test_nothing_covers_what_no_unit_sees() -> None:
    found = cover(np.zeros((2, 3, 3)), boxes_of(Fields(0, 1, 2).edges(3), Fields(0, 1, 2).edges(3)), (4, 4))
    assert found.boxes.shape == (0, 4)
    picture, covered = collage(np.empty((0, 2, 2, 3)), found.boxes, (4, 4))
    assert (picture == 0.5).all()
    assert picture.shape == (4, 4, 3)
    assert not covered.any()


def test_the_collage_paints_the_largest_on_top(rng: np.random.Generator) -> None:
    boxes = np.array([[1, 1, 3, 4], [0, 2, 2, 5], [3, 0, 5, 3]])
    features = rng.random((3, 2, 3, 3))
    features[2, 0] = np.nan
    picture, covered = collage(features, boxes, (5, 6), ground=0.25)
    expected, painted = np.full((5, 6, 3), 0.25), np.zeros((5, 6), bool)
    for feature, (top, left, bottom, right) in zip(features, boxes, strict=True):
        for y in range(top, bottom):
            for x in range(left, right):
                if not painted[y, x]:
                    expected[y, x] = np.nan_to_num(feature[y - top, x - left], nan=0.25)
                    painted[y, x] = True
    np.testing.assert_array_equal(picture, expected)
    np.testing.assert_array_equal(covered, painted)


@given(
    st.integers(-5, 2), st.integers(1, 3), st.integers(1, 6), st.integers(-20, 2), st.integers(1, 3), st.integers(1, 30)
)
def test_places_within_a_field(start: int, stride: int, size: int, later: int, ratio: int, later_size: int) -> None:
    earlier, of_later = Fields(start, stride, size), Fields(later, stride * ratio, later_size)
    found_ratio, first, n = places_within(of_later, earlier)
    assert found_ratio == ratio
    for place in range(3):
        low = later + place * stride * ratio
        inside = [
            r for r in range(-60, 100) if start + r * stride >= low and start + r * stride + size <= low + later_size
        ]
        assert inside == list(range(place * ratio + first, place * ratio + first + n))


def test_places_of_the_whole_image_and_of_other_strides() -> None:
    assert places_within(Fields(0, 0, 20), Fields(-1, 2, 3)) == (0, 1, 9)
    with pytest.raises(ValueError, match="fields that are 3 px from each other do not fit into fields that are 8 px"):
        places_within(Fields(0, 8, 20), Fields(0, 3, 5))
    with pytest.raises(ValueError, match="fields that are 0 px"):
        places_within(Fields(0, 8, 20), Fields(0, 0, 20))


def test_decomposition_is_that_of_loops(rng: np.random.Generator) -> None:
    responses = rng.random((5, 3, 2, 4)) * 3
    responses[1, :, 0], responses[1:, :, 1, 3], responses[:, :, 1, 0] = np.nan, np.nan, np.nan
    peak, weights = np.array([2.0, 0.0, 1.5]), np.array([1, 0.9, 0.5, 0.5, 0.1])
    found = decomposition_of(responses, peak, weights)
    for row, column in np.ndindex(2, 4):
        there = [j for j in range(5) if not np.isnan(responses[j, 0, row, column])]
        assert found.n[row, column] == len(there)
        for channel in range(3):
            share, se = found.share[channel, row, column], found.se[channel, row, column]
            if not there or channel == 1:
                assert np.isnan([share, se]).all()
                continue
            values = [weights[j] * min(responses[j, channel, row, column] / peak[channel], 1) for j in there]
            assert share == pytest.approx(np.mean(values))
            if len(there) > 1:
                assert se == pytest.approx(np.std(values, ddof=1) / np.sqrt(len(there)))
            else:
                assert np.isnan(se)
    assert found.share[[0, 2]][~np.isnan(found.share[[0, 2]])].max() <= 1
