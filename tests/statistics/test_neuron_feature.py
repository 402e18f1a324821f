"""Neuron Features against sums that are written out, one crop after the other."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.transform import resize

from neuroprobe.statistics import neuron_feature
from neuroprobe.statistics.neuron_feature import GREY, FeatureAccumulator, stretched

HEIGHT, WIDTH, N_UNITS = 7, 6, 4
POLICIES = ("masked", "fill_gray", "pad_black", "resize")
Group = tuple[np.ndarray, np.ndarray, np.ndarray, tuple[int, int]]


def made(seed: int, n_groups: int = 5) -> list[Group]:
    """Groups of crops at random places; the last unit has none."""
    rng = np.random.default_rng(seed)
    groups = []
    for _ in range(n_groups):
        h, w = int(rng.integers(1, HEIGHT + 1)), int(rng.integers(1, WIDTH + 1))
        n = int(rng.integers(0, 6))
        place = int(rng.integers(0, HEIGHT - h + 1)), int(rng.integers(0, WIDTH - w + 1))
        groups.append((rng.random((n, h, w, 3)), rng.integers(0, N_UNITS - 1, n), rng.random(n), place))
    return groups


def brute_force(groups: list[Group], policy: str, least: float) -> tuple[np.ndarray, np.ndarray]:
    feature = np.full((N_UNITS, HEIGHT, WIDTH, 3), np.nan)
    coverage = np.full((N_UNITS, HEIGHT, WIDTH), np.nan)
    for unit in range(N_UNITS):
        own = [
            (crop, weight, place)
            for crops, units, weights, place in groups
            for crop, of, weight in zip(crops, units, weights, strict=True)
            if of == unit
        ]
        total = sum(weight for _, weight, _ in own)
        if not own:
            continue
        for y, x in itertools.product(range(HEIGHT), range(WIDTH)):
            inside, weight_inside = np.zeros(3), 0.0
            for crop, weight, (top, left) in own:
                if policy == "resize":
                    whole = resize(crop, (HEIGHT, WIDTH, 3), order=1, mode="edge", anti_aliasing=False)
                    inside, weight_inside = inside + weight * whole[y, x], weight_inside + weight
                elif 0 <= y - top < crop.shape[0] and 0 <= x - left < crop.shape[1]:
                    inside, weight_inside = inside + weight * crop[y - top, x - left], weight_inside + weight
            coverage[unit, y, x] = weight_inside / total
            if policy == "masked":
                shown = weight_inside / total > least
                feature[unit, y, x] = inside / weight_inside if shown else 127 / 255
            else:
                outside = 127 / 255 if policy == "fill_gray" else 0
                feature[unit, y, x] = (inside + outside * (total - weight_inside)) / total
    return feature, coverage


@pytest.mark.parametrize("n_at_once", [1, 1 << 19])
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("seed", range(3))
def test_brute_force(policy: str, seed: int, n_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neuron_feature, "N_AT_ONCE", n_at_once)
    groups = made(seed)
    sums = FeatureAccumulator(N_UNITS, HEIGHT, WIDTH, policy, least=0.3)
    for group in groups:
        sums.update(*group)
    found = sums.finalize()
    feature, coverage = brute_force(groups, policy, least=0.3)
    np.testing.assert_allclose(found.feature, feature, atol=1e-5)
    np.testing.assert_allclose(found.coverage, coverage, atol=1e-5)
    assert np.isnan(found.feature[-1]).all()
    assert found.feature.dtype == found.coverage.dtype == np.float32


@given(st.integers(0, 10**6), st.sampled_from(POLICIES), st.lists(st.integers(0, 40), max_size=6))
def test_any_order_chunks_and_merges_give_the_same(seed: int, policy: str, cuts: list[int]) -> None:
    groups = made(seed)
    whole = FeatureAccumulator(N_UNITS, HEIGHT, WIDTH, policy)
    for group in groups:
        whole.update(*group)
    rng = np.random.default_rng(seed)
    states = [FeatureAccumulator(N_UNITS, HEIGHT, WIDTH, policy) for _ in range(3)]
    for crops, units, weights, place in groups:
        order = rng.permutation(len(units))
        edges = [0, *sorted({cut % (len(units) + 1) for cut in cuts}), len(units)]
        for a, b in itertools.pairwise(edges):
            part = order[a:b]
            states[int(rng.integers(3))].update(crops[part], units[part], weights[part], place)
    states[0].merge(states[1])
    states[0].merge(states[2])
    for name in ("feature", "coverage"):
        # a share that is `least` to the last bit may fall on either side; random weights do not
        np.testing.assert_allclose(getattr(states[0].finalize(), name), getattr(whole.finalize(), name), atol=1e-5)


@pytest.mark.parametrize("policy", POLICIES)
def test_equal_weights_give_the_plain_mean_and_one_crop_itself(policy: str) -> None:
    rng = np.random.default_rng(0)
    crops = rng.random((100, HEIGHT, WIDTH, 3))
    sums = FeatureAccumulator(2, HEIGHT, WIDTH, policy)
    sums.update(crops, np.zeros(100, dtype=np.int64), np.ones(100))
    sums.update(crops[:1], np.array([1]), np.array([0.25]))
    found = sums.finalize()
    np.testing.assert_allclose(found.feature[0], crops.mean(0), atol=1e-6)
    np.testing.assert_allclose(found.feature[1], crops[0], atol=1e-6)
    np.testing.assert_allclose(found.coverage, 1)


@given(st.integers(0, 10**6))
def test_features_lie_between_their_crops(seed: int) -> None:
    groups = made(seed)
    sums = FeatureAccumulator(N_UNITS, HEIGHT, WIDTH)
    for group in groups:
        sums.update(*group)
    found = sums.finalize().feature
    for unit in np.flatnonzero(~np.isnan(found[:, 0, 0, 0])):
        own = [crop for crops, units, _, _ in groups for crop, of in zip(crops, units, strict=True) if of == unit]
        low, high = min(crop.min() for crop in own), max(crop.max() for crop in own)
        assert found[unit].min() >= min(low, GREY) - 1e-5
        assert found[unit].max() <= max(high, GREY) + 1e-5


def test_a_crop_at_the_right_border_is_put_at_its_own_side() -> None:
    sums = FeatureAccumulator(1, 1, 3, "pad_black")
    sums.update(np.ones((1, 1, 1, 3)), np.array([0]), np.array([1.0]), offset=(0, 0))  # image ends behind the pixel
    np.testing.assert_allclose(sums.finalize().feature[0, 0, :, 0], [1, 0, 0])


def test_pixels_with_a_tenth_of_the_weight_are_grey() -> None:
    """1 of 10 equal crops covers them; with 2 of 10 they show."""
    sums = FeatureAccumulator(1, 1, 3)
    unit = np.zeros(8, dtype=np.int64)
    sums.update(np.ones((8, 1, 1, 3)), unit, np.ones(8), (0, 0))
    sums.update(np.ones((1, 1, 2, 3)), unit[:1], np.ones(1), (0, 0))
    sums.update(np.ones((1, 1, 3, 3)), unit[:1], np.ones(1), (0, 0))
    found = sums.finalize()
    np.testing.assert_allclose(found.coverage[0, 0], [1, 0.2, 0.1])
    np.testing.assert_allclose(found.feature[0, 0, :, 0], [1, 1, 127 / 255])


def test_crops_without_a_weight_do_not_count() -> None:
    rng = np.random.default_rng(1)
    crops = rng.random((4, 2, 2, 3))
    sums = FeatureAccumulator(2, 2, 2)
    sums.update(crops, np.array([0, 0, 0, 1]), np.array([1.0, -1.0, np.nan, np.nan]))
    found = sums.finalize()
    np.testing.assert_allclose(found.feature[0], crops[0], atol=1e-6)
    assert np.isnan(found.feature[1]).all()
    assert np.isnan(found.coverage[1]).all()


def test_uint_units_and_no_crops() -> None:
    sums = FeatureAccumulator(2, 2, 2)
    sums.update(np.ones((0, 2, 2, 3)), np.zeros(0, dtype=np.int64), np.ones(0))
    assert np.isnan(sums.finalize().feature).all()
    sums.update(np.ones((1, 2, 2, 3)), np.array([1], dtype=np.uint8), np.ones(1))
    np.testing.assert_allclose(sums.finalize().feature[1], 1)


def test_what_does_not_fit_is_refused() -> None:
    sums = FeatureAccumulator(1, 4, 4)
    with pytest.raises(ValueError, match="crops of 4×4 px at row 0 and column 1 do not lie on the canvas of 4×4"):
        sums.update(np.ones((1, 4, 4, 3)), np.array([0]), np.ones(1), (0, 1))
    with pytest.raises(ValueError, match="units are from 0 to 0, received 1 to 1"):
        sums.update(np.ones((1, 4, 4, 3)), np.array([1]), np.ones(1))
    with pytest.raises(ValueError, match="'mask', expected one of masked, fill_gray"):
        FeatureAccumulator(1, 4, 4, "mask")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="do not merge"):
        sums.merge(FeatureAccumulator(1, 4, 4, "resize"))


def test_stretched() -> None:
    rng = np.random.default_rng(2)
    feature = 0.4 + 0.1 * rng.random((3, 4, 5, 3)).astype(np.float32)
    feature[1], feature[2] = 0.3, np.nan
    before = feature.copy()
    found = stretched(feature)
    np.testing.assert_array_equal(feature, before)
    assert (found[0].min(), found[0].max()) == (0, 1)
    a, b = np.polyfit(feature[0].ravel(), found[0].ravel(), 1)
    np.testing.assert_allclose(a * feature[0] + b, found[0], atol=1e-4)
    np.testing.assert_allclose(found[1], 0.3)
    assert np.isnan(found[2]).all()
