"""Indexes of classes from sums, in any blocks, against what the responses themselves give."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuroprobe.statistics.class_selectivity import (
    ClassAccumulator,
    ClassMoments,
    class_selectivity,
    d_prime,
    depth_of_selectivity,
    lifetime_sparseness,
    moments,
    precision,
)
from neuroprobe.statistics.plain_sums import PlainSums

CLASSES = 5


def made(seed: int, n: int, n_units: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Rectified responses to images of classes of which the last has none; the first unit is dead."""
    rng = np.random.default_rng(seed)
    target = rng.integers(0, CLASSES - 1, n)
    values = np.maximum(rng.normal(0.5, 1, (n, n_units)) + 0.5 * target[:, None], 0).astype(np.float32)
    values[:, 0] = 0
    return values, target


def summed(values: np.ndarray, target: np.ndarray, n_classes: int = CLASSES) -> PlainSums:
    accumulator = ClassAccumulator(n_classes, values.shape[1])
    accumulator.update(values, target)
    return accumulator.end_block()


def of_means(*means: float, n: float = 10, variance: float = 0.0) -> ClassMoments:
    mean = np.array(means)[:, None]
    return ClassMoments(np.full(len(means), n), mean, np.full(mean.shape, variance))


@given(st.integers(0, 10**6), st.integers(1, 40), st.lists(st.integers(0, 40), max_size=4), st.integers(1, 7))
def test_sums_in_any_blocks_give_the_moments(seed: int, n: int, cuts: list[int], pack: int) -> None:
    values, target = made(seed, n)
    accumulator = ClassAccumulator(CLASSES, values.shape[1])
    total = accumulator.end_block()
    for start, stop in itertools.pairwise([0, *sorted({cut % (n + 1) for cut in cuts}), n]):
        for at in range(start, stop, pack):
            accumulator.update(values[at : min(at + pack, stop)], target[at : min(at + pack, stop)])
        block = accumulator.end_block()
        whole = summed(values[start:stop], target[start:stop])
        for name in ("n", "total", "square", "power"):  # to the last bit, however images are packed
            np.testing.assert_array_equal(block[name], whole[name])
        total.merge(block)
    found = moments(PlainSums.from_state(total.state()))
    for number in range(CLASSES):
        own = values[target == number].astype(np.float64)
        assert found.n[number] == len(own)
        if not len(own):
            assert np.isnan([found.mean[number], found.variance[number]]).all()
            continue
        np.testing.assert_allclose(found.mean[number], own.mean(0), atol=1e-12)
        expected = own.var(0, ddof=1) if len(own) > 1 else np.full(own.shape[1], np.nan)
        np.testing.assert_allclose(found.variance[number], expected, atol=1e-12)


# class selectivity


def test_the_example_of_class_selectivity() -> None:
    found = class_selectivity(of_means(5, 1, 2, 0, 1))
    assert found.index.item() == pytest.approx(2 / 3)
    assert found.preferred.item() == 0
    assert class_selectivity(of_means(0, 0, 3)).index.item() == 1
    assert class_selectivity(of_means(2, 2, 2)).index.item() == 0
    assert class_selectivity(of_means(5, 1, 2, 0, 1), epsilon=2.0).index.item() == pytest.approx(0.5)


@pytest.mark.parametrize("means", [(0, 0, 0), (1, -0.1, 3), (2,), (np.nan, 1, 2)])
def test_what_has_no_class_selectivity(means: tuple[float, ...]) -> None:
    found = class_selectivity(of_means(*means))
    assert np.isnan([found.index, found.se]).all()
    assert found.preferred.item() == -1


@given(st.integers(0, 10**6), st.integers(2, 60), st.booleans())
def test_class_selectivity_is_that_of_the_responses(seed: int, n: int, pooled: bool) -> None:
    values, target = made(seed, n)
    found = class_selectivity(moments(summed(values, target)), pooled=pooled)
    shown = np.unique(target)
    for unit in range(values.shape[1]):
        of_class = [values[target == number, unit].astype(np.float64) for number in shown]
        if len(shown) < 2 or unit == 0 or not values[:, unit].any():
            assert np.isnan(found.index[unit])
            assert found.preferred[unit] == -1
            continue
        means = [own.mean() for own in of_class]
        top = int(np.argmax(means))
        others = of_class[:top] + of_class[top + 1 :]
        low = np.concatenate(others).mean() if pooled else np.mean([own.mean() for own in others])
        assert found.index[unit] == pytest.approx((means[top] - low) / (means[top] + low))
        assert found.preferred[unit] == shown[top]


@pytest.mark.parametrize(("pooled", "epsilon"), [(False, 0.0), (True, 0.0), (False, 0.5)])
def test_the_error_is_that_of_drawing_again(pooled: bool, epsilon: float, rng: np.random.Generator) -> None:
    """Of units that are independent draws of the same response, with classes of different sizes."""
    target = np.repeat([0, 1, 2], [60, 40, 100])
    values = rng.gamma(4, np.array([0.5, 1.0, 0.25])[target][:, None], (200, 3000))
    found = class_selectivity(moments(summed(values, target, 3)), pooled=pooled, epsilon=epsilon)
    assert (found.preferred == 1).all()
    assert np.sqrt((found.se**2).mean()) == pytest.approx(found.index.std(), rel=0.05)


# d'


def test_the_example_of_d_prime() -> None:
    values = np.array([[3.0, 5, 6, 9, 1, 2, 3, 4, 5]]).T
    value, _ = d_prime(moments(summed(values, np.repeat([0, 1], [4, 5]), 2)))
    assert value.round(6).tolist() == [[1.314751], [-1.314751]]


@given(st.integers(0, 10**6), st.integers(1, 30), st.sampled_from([0.0, 1000.0]))
def test_d_prime_is_that_of_each_class_against_all_others(seed: int, n: int, offset: float) -> None:
    values, target = made(seed, n)
    values = values.astype(np.float64) + offset
    value, se = d_prime(moments(summed(values, target)))
    for number, unit in np.ndindex(CLASSES, values.shape[1]):
        own, others = values[target == number, unit], values[target != number, unit]
        scale = np.sqrt((own.var(ddof=1) + others.var(ddof=1)) / 2) if min(len(own), len(others)) > 1 else 0
        if scale:
            assert value[number, unit] == pytest.approx((own.mean() - others.mean()) / scale, rel=1e-6)
            assert se[number, unit] > 0
        else:
            assert np.isnan([value[number, unit], se[number, unit]]).all()


def test_units_that_do_not_vary_have_no_variance_by_rounding(rng: np.random.Generator) -> None:
    constants = rng.gamma(2, size=200)
    found = moments(summed(np.tile(constants, (21, 1)), np.repeat([0, 1], [10, 11]), 2))
    assert (found.variance == 0).all()
    assert np.isnan(d_prime(found)).all()


def test_the_error_of_d_prime_is_that_of_drawing_again(rng: np.random.Generator) -> None:
    target = np.repeat([0, 1], [50, 120])
    values = rng.normal(np.array([2.0, 0.5])[target][:, None], np.array([1.5, 0.8])[target][:, None], (170, 4000))
    value, se = d_prime(moments(summed(values, target, 2)))
    assert value[0].mean() == pytest.approx(1.5 / np.sqrt((1.5**2 + 0.8**2) / 2), rel=0.02)
    assert np.sqrt((se[0] ** 2).mean()) == pytest.approx(value[0].std(), rel=0.05)


# sparseness


def test_the_example_of_sparseness() -> None:
    found = lifetime_sparseness(summed(np.array([[0.0, 1, 2, 3, 10]]).T, np.zeros(5, np.int64)))
    assert (found.treves_rolls.round(6).item(), found.vinje_gallant.round(6).item()) == (0.449123, 0.688596)


def test_ends_of_sparseness() -> None:
    values = np.array([[2.0, 0, 0, -1], [2, 0, 0, -3], [2, 5, 0, 4], [2, 0, 0, -2]])
    found = lifetime_sparseness(summed(values, np.array([0, 1, 1, 2])))
    np.testing.assert_allclose(found.treves_rolls, [1, 0.25, np.nan, 0.25])
    np.testing.assert_allclose(found.vinje_gallant, [0, 1, np.nan, 1])
    one = lifetime_sparseness(summed(values[:1], np.array([0])))
    assert one.treves_rolls[0] == 1
    assert np.isnan([one.vinje_gallant[0], one.treves_rolls_se[0]]).all()


def test_errors_of_sparseness_are_those_of_drawing_again(rng: np.random.Generator) -> None:
    values = np.maximum(rng.normal(0.5, 1, (400, 3000)), 0)
    found = lifetime_sparseness(summed(values, np.zeros(400, np.int64)))
    np.testing.assert_allclose(found.treves_rolls, values.mean(0) ** 2 / (values**2).mean(0))
    for value, se in (
        (found.treves_rolls, found.treves_rolls_se),
        (found.vinje_gallant, found.vinje_gallant_se),
    ):
        assert np.sqrt((se**2).mean()) == pytest.approx(value.std(), rel=0.05)


def test_depth_of_selectivity() -> None:
    responses = np.array([[4.0, 1.0, 0.0, 3.0, -1.0], [0.0, 1.0, 0.0, 0.0, 2.0], [2.0, 1.0, 0.0, 0.0, 0.0]])
    np.testing.assert_array_equal(depth_of_selectivity(responses), [0.75, 0, np.nan, 1, 1])
    assert np.isnan(depth_of_selectivity(responses[:1])).all()


@given(st.integers(0, 10**6), st.integers(1, 12))
def test_precision_is_the_share_of_the_modal_label(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    values, labels = -np.sort(-rng.normal(0.3, 1, (5, n))), rng.integers(0, 4, (5, n))
    share, label = precision(values, labels)
    for unit in range(5):
        counts = np.bincount(labels[unit], minlength=4)
        if values[unit, 0] > 0:
            assert share[unit] == pytest.approx(counts.max() / n)
            assert label[unit] == counts.argmax()
        else:
            assert (np.isnan(share[unit]), label[unit]) == (True, -1)
