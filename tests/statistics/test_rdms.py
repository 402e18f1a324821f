"""Dissimilarities against scipy and rsatoolbox, whatever the blocks of units."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import pdist

from neuroprobe.statistics.rdms import (
    DISTANCES,
    CrossProducts,
    Products,
    mahalanobis,
    n_of_pairs,
    noise_covariance,
    whitened_distances,
)


def cut(responses: np.ndarray, places: list[int], distance: str) -> np.ndarray:
    products = Products(len(responses), distance)
    for block in np.split(responses, sorted(places), axis=1):
        products.add(block)
    return products.distances()


@given(st.integers(0, 10**6), st.lists(st.integers(0, 40), max_size=4), st.sampled_from(DISTANCES))
def test_distances_are_those_of_scipy_in_any_blocks(seed: int, places: list[int], distance: str) -> None:
    rng = np.random.default_rng(seed)
    responses = rng.gamma(2, 3, (9, 40)) + rng.uniform(0, 5, (9, 1))
    expected = {
        "correlation": lambda: pdist(responses, "correlation"),
        "cosine": lambda: pdist(responses, "cosine"),
        "euclidean": lambda: pdist(responses, "sqeuclidean") / 40,
        "poisson": lambda: pdist((responses + 0.1) / 1.1, lambda a, b: ((a - b) * np.log(a / b)).sum()) / 40,
    }[distance]()
    np.testing.assert_allclose(cut(responses, places, distance), expected, atol=1e-10)


@given(st.integers(0, 10**6), st.sampled_from(DISTANCES))
def test_merging_and_permuting_units_and_stimuli(seed: int, distance: str) -> None:
    rng = np.random.default_rng(seed)
    responses = rng.gamma(2, 3, (7, 20))
    whole = cut(responses, [], distance)
    merged = Products(7, distance)
    for block in np.split(responses, [3, 11], axis=1):
        part = Products(7, distance)
        part.add(block)
        merged.merge(part)
    np.testing.assert_allclose(merged.distances(), whole, atol=1e-10)
    np.testing.assert_allclose(cut(responses[:, rng.permutation(20)], [], distance), whole, atol=1e-10)
    order = rng.permutation(7)
    square = np.zeros((7, 7))
    square[np.triu_indices(7, 1)] = whole
    square += square.T
    np.testing.assert_allclose(
        cut(responses[order], [], distance), square[np.ix_(order, order)][np.triu_indices(7, 1)], atol=1e-10
    )


def test_a_large_mean_does_not_spoil_correlations() -> None:
    rng = np.random.default_rng(0)
    responses = rng.normal(size=(6, 300))
    np.testing.assert_allclose(cut(responses + 1e6, [], "correlation"), pdist(responses, "correlation"), atol=1e-8)


def test_stimuli_without_variance_have_no_correlation() -> None:
    responses = np.array([[1.0, 2, 3], [5, 5, 5], [3, 2, 1]])
    assert np.isnan(cut(responses, [], "correlation")).tolist() == [True, False, True]
    with pytest.raises(ValueError, match=r"above -0\.1"):
        Products(2, "poisson").add(np.array([[-1.0], [1]]))
    with pytest.raises(ValueError, match="unknown distance 'corr'; known: correlation"):
        Products(2, "corr")


def test_crossnobis_is_zero_on_average_where_nothing_differs() -> None:
    rng = np.random.default_rng(1)
    found = []
    for _ in range(300):
        products = CrossProducts(4, 3)
        folds = rng.normal(size=(4, 3, 10)) + np.array([0.0, 0, 1])[:, None]
        for block in np.split(folds, [4], axis=2):
            products.add(block)
        found.append(products.distances())
    mean, se = np.mean(found, 0), np.std(found, 0) / np.sqrt(300)
    assert (np.abs(mean - [0, 1, 1]) < 4 * se).all()
    brute = np.mean(
        [
            (
                (folds[k, 0] - folds[k, 2]) * (np.delete(folds, k, 0).mean(0)[0] - np.delete(folds, k, 0).mean(0)[2])
            ).mean()
            for k in range(4)
        ]
    )
    assert products.distances()[1] == pytest.approx(brute)


def test_mahalanobis() -> None:
    rng = np.random.default_rng(2)
    responses, root = rng.normal(size=(5, 4)), rng.normal(size=(4, 4))
    precision = root @ root.T
    expected = pdist(responses, "mahalanobis", VI=precision) ** 2 / 4
    np.testing.assert_allclose(mahalanobis(responses, precision), expected)


def test_rsatoolbox_gives_the_same() -> None:
    rsa = pytest.importorskip("rsatoolbox", reason="pip install 'neuroprobe[compare]'")
    rng = np.random.default_rng(3)
    responses = rng.gamma(2, 3, (8, 30))
    data = rsa.data.Dataset(responses)
    for ours, theirs in (("correlation", "correlation"), ("euclidean", "euclidean"), ("poisson", "poisson")):
        expected = rsa.rdm.calc_rdm(data, method=theirs).dissimilarities[0]
        np.testing.assert_allclose(cut(responses, [7], ours), expected, atol=1e-10)
    folds = rng.normal(size=(3, 8, 30))
    descriptors = {"obs_descriptors": {"s": np.tile(np.arange(8), 3), "f": np.repeat(np.arange(3), 8)}}
    data = rsa.data.Dataset(folds.reshape(24, 30), **descriptors)
    products = CrossProducts(3, 8)
    products.add(folds)
    expected = rsa.rdm.calc_rdm(data, method="crossnobis", descriptor="s", cv_descriptor="f").dissimilarities[0]
    np.testing.assert_allclose(products.distances(), expected, atol=1e-10)


def test_numbers_of_pairs() -> None:
    assert [n_of_pairs(n * (n - 1) // 2) for n in range(2, 40)] == list(range(2, 40))
    with pytest.raises(ValueError, match="5 are not the pairs"):
        n_of_pairs(5)


def test_noise_is_shrunk_as_by_loops(rng: np.random.Generator) -> None:
    """As Schäfer & Strimmer's formula is written, unit by unit; the same as rsatoolbox's ``shrinkage_diag``."""
    residuals, degrees = rng.normal(size=(20, 4)) @ rng.normal(size=(4, 4)), 15
    covariance = residuals.T @ residuals / degrees
    sd = np.sqrt(np.diag(covariance))
    doubt = sure = 0.0
    for i in range(4):
        for j in range(4):
            if i != j:
                w = residuals[:, i] * residuals[:, j] / (sd[i] * sd[j])
                r = w.sum() / 19
                doubt += 20 / degrees**2 * ((w**2).sum() / 19 - r**2)
                sure += r**2
    shrunk = covariance * np.where(np.eye(4) == 1, 1, 1 - min(doubt / sure, 1))
    np.testing.assert_allclose(noise_covariance(residuals, degrees), shrunk, rtol=1e-12)
    with pytest.raises(ValueError, match="unit 1 has no noise"):
        noise_covariance(residuals * np.array([1, 0, 1, 1]), degrees)


def test_whitened_distances_by_hand(rng: np.random.Generator) -> None:
    trials = rng.normal(size=(3, 5, 4)) @ rng.normal(size=(4, 4))
    mean = trials.mean(0)
    precision = np.linalg.inv(noise_covariance((trials - mean).reshape(-1, 4), 10))
    mahalanobis_, crossnobis = [], []
    for i in range(5):
        for j in range(i + 1, 5):
            d = mean[i] - mean[j]
            mahalanobis_.append(d @ precision @ d / 4)
            folds = []
            for fold in range(3):
                rest = np.delete(trials, fold, 0).mean(0)
                folds.append((trials[fold, i] - trials[fold, j]) @ precision @ (rest[i] - rest[j]) / 4)
            crossnobis.append(np.mean(folds))
    np.testing.assert_allclose(whitened_distances(trials, "mahalanobis"), mahalanobis_, atol=1e-12)
    np.testing.assert_allclose(whitened_distances(trials, "crossnobis"), crossnobis, atol=1e-12)
    with pytest.raises(ValueError, match="takes two repetitions or more"):
        whitened_distances(trials[:1], "crossnobis")
