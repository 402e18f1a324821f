"""Concentration of labels: the study's example and chance levels, brute force, permutations that mean nothing."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from neuroprobe.statistics.label_selectivity import (
    chance_corrected,
    chance_gamma,
    expected_labels,
    expected_labels_of,
    label_indexes,
    label_permutation,
    label_shares,
)

WEIGHTS = np.array([[1, 0.9, 0.8, 0.5, 0.3]])
LABELS = np.array([[0, 0, 1, 2, 2]])


def made(seed: int, n_units: int, n: int, n_labels: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights with equal ones, zeros and negative ones, and a unit that does not respond."""
    rng = np.random.default_rng(seed)
    weights = -np.sort(-rng.integers(-1, 6, (n_units, n)) / 5, axis=1)
    weights[0] = np.nan
    return weights, rng.integers(0, n_labels, (n_units, n))


def brute_force(weights: np.ndarray, labels: np.ndarray, threshold: float, least: float) -> dict[str, float]:
    """Indexes of one unit, counted in hundredths of a weight so that no rounding decides."""
    counts: Counter[int] = Counter()
    for weight, label in zip(weights, labels, strict=True):
        if weight > 0:
            counts[int(label)] += round(weight * 100)
    total = sum(counts.values())
    n, ordered = len(weights), sorted(counts.values(), reverse=True)
    if not total:
        return dict.fromkeys(("gamma", "n_labels", "class_mass", "population_code", "entropy"), np.nan)
    m = next(m for m in range(1, n + 1) if sum(ordered[:m]) * 1000 >= round(threshold * 1000) * total)
    kept = [count for count in ordered if count * 1000 >= round(least * 1000) * total]
    return {
        "gamma": (n - m) / (n - 1) if n > 1 else np.nan,
        "n_labels": m,
        "class_mass": sum(kept) / total,
        "population_code": len(kept),
        "entropy": stats.entropy(ordered, base=2),
    }


@pytest.mark.parametrize(("threshold", "m", "gamma"), [(0.5, 1, 1), (0.75, 2, 0.75), (0.9, 3, 0.5), (1.0, 3, 0.5)])
def test_the_studys_example(threshold: float, m: int, gamma: float) -> None:
    shares = label_shares(WEIGHTS, LABELS)
    assert shares.frequencies(3)[0].round(6).tolist() == [0.542857, 0.228571, 0.228571]
    assert shares.labels.tolist() == [[0, 1, 2, -1, -1]]
    found = label_indexes(shares, threshold)
    assert (found["n_labels"].item(), found["gamma"].item()) == (m, gamma)
    assert found["entropy"].round(6).item() == 1.451837


@given(
    st.integers(0, 10**6),
    st.integers(1, 12),
    st.integers(1, 8),
    st.sampled_from([0.1, 0.25, 0.5, 0.75, 0.9, 1.0]),
    st.sampled_from([0.1, 0.2, 0.25, 0.5]),
)
def test_indexes_are_those_of_brute_force(seed: int, n: int, n_labels: int, threshold: float, least: float) -> None:
    weights, labels = made(seed, 6, n, n_labels)
    shares = label_shares(weights, labels)
    found = label_indexes(shares, threshold, least)
    frequencies = shares.frequencies(n_labels)
    for unit in range(6):
        expected = brute_force(weights[unit], labels[unit], threshold, least)
        for name, value in expected.items():
            np.testing.assert_allclose(found[name][unit], value, atol=1e-12, err_msg=name)
        assert found["defined"][unit] == np.isfinite(expected["entropy"])
        positive = np.maximum(weights[unit], 0)
        if found["defined"][unit]:
            summed = [positive[labels[unit] == label].sum() / positive.sum() for label in range(n_labels)]
            np.testing.assert_allclose(frequencies[unit], summed, atol=1e-12)
        else:
            assert np.isnan(frequencies[unit]).all()
            assert (shares.labels[unit] == -1).all()
    # neither a scale nor the names of labels nor the order of the list matters
    order = np.random.default_rng(seed).permutation(n)
    again = label_indexes(label_shares(7 * weights[:, order], 3 + 2 * labels[:, order]), threshold, least)
    for name, values in found.items():
        np.testing.assert_allclose(again[name], values, atol=1e-12, err_msg=name)


def test_ends_of_gamma() -> None:
    one, none = np.zeros((1, 7), np.int64), np.arange(7)[None]
    assert label_indexes(label_shares(np.ones((1, 7)), one))["gamma"] == 1
    assert label_indexes(label_shares(np.ones((1, 7)), none))["gamma"] == 0
    assert label_indexes(label_shares(np.ones((1, 7)), none), least=0.2)["class_mass"] == 0
    assert label_indexes(label_shares(np.ones((1, 7)), none), least=0.2)["population_code"] == 0


def test_ten_labels_of_a_tenth_belong_to_the_code() -> None:
    """Sums of 0.1 that rounding leaves under 0.1."""
    found = label_indexes(label_shares(np.full((1, 30), 0.1), np.arange(30)[None] % 10))
    assert found["population_code"] == 10
    assert found["class_mass"] == pytest.approx(1)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="labels are 0 or more, received -1"):
        label_shares(WEIGHTS, LABELS - 1)
    with pytest.raises(ValueError, match="label 2 is not one of 2"):
        label_shares(WEIGHTS, LABELS).frequencies(2)
    for threshold in (0.0, 1.5):
        with pytest.raises(ValueError, match=r"a share in \(0, 1\]"):
            label_indexes(label_shares(WEIGHTS, LABELS), threshold)
    with pytest.raises(ValueError, match=r"add up to 0\.9"):
        expected_labels(3, np.array([0.4, 0.5]))
    with pytest.raises(ValueError, match="5 stimuli cannot be drawn from 4"):
        expected_labels_of(5, np.array([2, 2]))


# chance


@pytest.mark.parametrize(("n_labels", "gamma"), [(1000, 0.048), (200, 0.214), (100, 0.370), (10, 0.909)])
def test_the_studys_chance_levels(n_labels: int, gamma: float) -> None:
    assert round(chance_gamma(100, expected_labels(100, n_labels)), 3) == gamma
    assert round(expected_labels(100, 1000), 1) == 95.2
    assert expected_labels(100, n_labels) == pytest.approx(n_labels * (1 - (1 - 1 / n_labels) ** 100), rel=1e-12)


def test_expected_numbers_of_labels_are_those_of_all_draws() -> None:
    proportions = np.array([0.5, 0.3, 0.2, 0.0])
    draws = list(itertools.product(range(4), repeat=3))
    expected = sum(np.prod(proportions[list(draw)]) * len(set(draw)) for draw in draws)
    assert expected_labels(3, proportions) == pytest.approx(expected, rel=1e-12)
    assert expected_labels(3, np.array([1.0, 0.0])) == 1
    counts = np.array([3, 1, 0, 4])
    label = np.repeat(np.arange(4), counts)
    for n in range(1, 9):
        without = [len({*label[list(chosen)].tolist()}) for chosen in itertools.combinations(range(8), n)]
        assert expected_labels_of(n, counts) == pytest.approx(np.mean(without), rel=1e-10)
    # of very many stimuli it does not matter
    assert expected_labels_of(100, np.full(1000, 10**6)) == pytest.approx(expected_labels(100, 1000), rel=1e-4)


def test_chance_is_0_and_the_largest_value_1() -> None:
    np.testing.assert_allclose(chance_corrected(np.array([0.2, 1, 0.6, np.nan]), 0.2), [0, 1, 0.5, np.nan])
    np.testing.assert_array_equal(chance_corrected(np.array([1.0, 0.5]), np.array([1.0, 0.0])), [np.nan, 0.5])


def test_permutations_against_all_that_there_are() -> None:
    """Of 6 images with labels 0 0 0 1 1 2, and a unit that is driven by the first three."""
    label_of_image = np.array([0, 0, 0, 1, 1, 2])
    weights, images = np.array([[3.0, 2.0, 1.0], [1.0, 1.0, 1.0]]), np.array([[0, 1, 2], [0, 3, 4]])
    found = label_permutation(weights, images, label_of_image, n_permutations=4000, seed=3)
    orders = np.array(list(itertools.permutations(label_of_image)))
    everything = [label_indexes(label_shares(weights, order[images])) for order in orders]
    observed = label_indexes(label_shares(weights, label_of_image[images]))
    for name, sign in (("gamma", 1), ("class_mass", 1), ("entropy", -1)):
        values = np.array([one[name] for one in everything])
        p = (sign * (values - observed[name]) > -1e-9).mean(0)
        error = np.sqrt(p * (1 - p) / 4000)
        assert (np.abs(found[name].p_value - p) <= 4 * error + 1 / 4000).all(), name
        assert (np.abs(found[name].mean - values.mean(0)) <= 4 * values.std(0) / np.sqrt(4000) + 1e-12).all(), name
        np.testing.assert_allclose(found[name].deviation, values.std(0), rtol=0.08, atol=1e-12)
    # γ with the threshold 1 has the mean that is known in closed form
    expected = chance_gamma(3, expected_labels_of(3, np.array([3, 2, 1])))
    assert found["gamma"].mean == pytest.approx(expected, abs=0.02)


def test_no_permutation_is_as_concentrated_as_a_label_of_its_own() -> None:
    """And then p is that of the labels as they are, among all: never 0."""
    label_of_image = np.repeat(np.arange(10), 10)
    found = label_permutation(
        np.ones((1, 10)), np.arange(10)[None], label_of_image, least=0.9, n_permutations=24, seed=0
    )
    for permuted in found.values():
        assert permuted.p_value.tolist() == [1 / 25]


def test_labels_that_mean_nothing_have_uniform_p_values(rng: np.random.Generator) -> None:
    label_of_image = rng.integers(0, 30, 600)
    images = rng.permuted(np.tile(np.arange(600), (300, 1)), axis=1)[:, :20]
    weights = -np.sort(-rng.gamma(1, size=(300, 20)), axis=1)
    found = label_permutation(weights, images, label_of_image, 0.8, n_permutations=99, seed=1)
    for level in (0.05, 0.25, 0.5):
        share = (found["entropy"].p_value <= level).mean()
        assert share == pytest.approx(level, abs=4 * np.sqrt(level * (1 - level) * (1 / 300 + 1 / 99)))
        assert (found["gamma"].p_value <= level).mean() <= share + 0.1  # whose ties make it conservative


def test_permutations_depend_on_their_seed_and_no_other_unit(rng: np.random.Generator) -> None:
    label_of_image = rng.integers(0, 5, 60)
    images = rng.permuted(np.tile(np.arange(60), (4, 1)), axis=1)[:, :10]
    weights = -np.sort(-rng.random((4, 10)), axis=1)
    weights[2] = 0
    all_, alone, other = (
        label_permutation(weights[units], images[units], label_of_image, 0.5, n_permutations=49, seed=seed)["gamma"]
        for units, seed in ((slice(None), 0), (slice(1, 2), 0), (slice(None), 1))
    )
    assert all_.p_value[1] == alone.p_value[0]
    assert all_.mean[1] == alone.mean[0]
    assert (all_.mean[[0, 1, 3]] != other.mean[[0, 1, 3]]).any()
    for values in (all_.p_value, all_.mean, all_.deviation):
        assert np.isnan(values).tolist() == [False, False, True, False]
