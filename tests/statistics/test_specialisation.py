"""Rank correlations, classification and clusters of maps against closed cases, scipy, and simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.cluster import hierarchy
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.model_selection import GroupKFold, KFold, cross_val_score

from neuroprobe.statistics import specialisation as kernels


def brute_force(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, used and constant pixels, one pair and pixel after the other."""
    n, _, n_pixels = maps.shape
    mean, used, constant = np.full((n, n), np.nan), np.zeros((n, n), int), np.zeros((n, n), int)
    for i in range(n):
        for j in range(n):
            found = []
            for pixel in range(n_pixels):
                there = ~np.isnan(maps[:, :, pixel]).any(0)
                a, b = maps[i, there, pixel], maps[j, there, pixel]
                if there.sum() < 3:
                    continue
                if np.ptp(a) == 0 or np.ptp(b) == 0:
                    constant[i, j] += 1
                else:
                    found.append(stats.spearmanr(a, b).statistic)
            used[i, j] = len(found)
            mean[i, j] = np.mean(found) if found else np.nan
    return mean, used, constant


@given(
    st.integers(0, 2**32),
    st.integers(1, 4),
    st.integers(1, 9),
    st.integers(1, 5),
    st.sampled_from([1, 3, 1000]),
    st.sampled_from([0.0, 0.3]),
)
def test_correlations_are_scipys(seed: int, n: int, channels: int, pixels: int, levels: int, undefined: float) -> None:
    rng = np.random.default_rng(seed)
    maps = rng.integers(0, levels, (n, channels, pixels)).astype(float)
    maps[:, rng.random((channels, pixels)) < undefined] = np.nan
    found = kernels.rank_correlations(maps)
    mean, used, constant = brute_force(maps)
    np.testing.assert_allclose(found.mean, mean, atol=1e-12)
    np.testing.assert_array_equal(found.n_used, used)
    np.testing.assert_array_equal(found.n_constant, constant)


def test_replicates_leave_out_channels_and_rank_anew() -> None:
    maps = np.random.default_rng(0).normal(size=(3, 47, 2))
    found, group = kernels.rank_correlations(maps, seed=5), kernels.jackknife_groups(47, 5)
    assert np.bincount(group).tolist() == [3] * 7 + [2] * 13
    for number, replicate in enumerate(found.replicates):
        np.testing.assert_allclose(replicate, brute_force(maps[:, group != number])[0])


def test_pieces_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = np.random.default_rng(1).normal(size=(3, 10, 13))
    whole = kernels.rank_correlations(maps)
    monkeypatch.setattr(kernels, "PIECE", 100)
    np.testing.assert_allclose(kernels.rank_correlations(maps).replicates, whole.replicates)


@pytest.mark.parametrize(("rho", "n_pixels"), [(0.0, 1), (0.8, 1), (0.5, 6)])
def test_jackknife_errors_are_those_of_new_channels(rho: float, n_pixels: int) -> None:
    rng = np.random.default_rng(7)
    values, errors = [], []
    for _ in range(300):
        # pixels of a channel share most of what they are
        common = rng.normal(size=(2, 60, 1)) + 0.3 * rng.normal(size=(2, 60, n_pixels))
        common[1] = rho * common[0] + np.sqrt(1 - rho**2) * common[1]
        found = kernels.rank_correlations(common)
        values.append(found.mean[0, 1])
        errors.append(kernels.jackknife_error(found.replicates)[0, 1])
    # 300 draws tell a standard deviation to about 4 %
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(values), rel=0.16)


def test_jackknife_of_a_mean_is_the_standard_error() -> None:
    x = np.random.default_rng(2).normal(size=12)
    replicates = np.array([np.delete(x, i).mean() for i in range(12)])
    assert kernels.jackknife_error(replicates) == pytest.approx(stats.sem(x))
    assert np.isnan(kernels.jackknife_error(np.ones((1, 2)))).all()


@pytest.mark.parametrize(
    ("shape", "most", "expected"), [((56, 56), 196, 196), ((13, 13), 196, 169), ((7, 1), 3, 3), ((1, 9), 4, 4)]
)
def test_pooled_maps_keep_their_mean(shape: tuple[int, int], most: int, expected: int) -> None:
    maps = np.random.default_rng(3).random((2, 3, shape[0] * shape[1]))
    features = kernels.pooled(maps, shape, most)
    assert features.shape == (2, 3, expected)
    if shape[0] * shape[1] % expected == 0:
        np.testing.assert_allclose(features.mean(-1), maps.mean(-1))


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 50))
def test_pooled_maps_are_small_enough(height: int, width: int, most: int) -> None:
    n = kernels.pooled(np.ones((1, 1, height * width)), (height, width), most).shape[-1]
    assert most / 4 <= n <= most or n == height * width


def test_cells_are_means_of_defined_units() -> None:
    image = np.arange(16.0).reshape(4, 4)
    image[:2, :2] = np.nan
    image[0, 2] = np.nan
    cells = kernels.pooled(image.reshape(1, 1, 16), (4, 4), 4)[0, 0]
    np.testing.assert_array_equal(cells, [np.nan, (3 + 6 + 7) / 3, (8 + 9 + 12 + 13) / 4, (10 + 11 + 14 + 15) / 4])


def test_unit_norm() -> None:
    features = np.array([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_allclose(kernels.unit_norm(features), [[0.6, 0.8], [0, 0]])


def test_separable_maps_are_told() -> None:
    rng = np.random.default_rng(4)
    shapes = rng.normal(size=(4, 1, 9))
    features = rng.uniform(1, 2, (1, 12, 1)) * shapes + 0.01 * rng.normal(size=(4, 12, 9))
    predicted = kernels.predicted_factors(features, 5)
    np.testing.assert_array_equal(predicted, np.tile(np.arange(4), (12, 1)))
    share, error = kernels.confusion(predicted)
    np.testing.assert_array_equal(share, np.eye(4))
    assert not error.any()
    permuted = kernels.permuted_accuracies(features, 5, 19, seed=1)
    assert kernels.permutation_p(1.0, permuted) == 1 / 20


def test_p_values_of_noise_are_uniform() -> None:
    rng = np.random.default_rng(5)
    p, accuracies = [], []
    for number in range(40):
        features = rng.normal(size=(1, 12, 3)) + rng.normal(size=(3, 12, 3))
        predicted = kernels.predicted_factors(features, 2)
        accuracies.append((predicted == np.arange(3)).mean())
        p.append(kernels.permutation_p(accuracies[-1], kernels.permuted_accuracies(features, 2, 9, seed=number)))
    assert np.mean(accuracies) == pytest.approx(1 / 3, abs=0.05)
    # equal accuracies make p-values larger
    assert stats.kstest(p, "uniform", alternative="greater").pvalue > 0.01
    assert np.mean(p) == pytest.approx(0.57, abs=0.15)


def test_maps_of_a_channel_are_in_one_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    features = np.random.default_rng(6).normal(size=(3, 8, 5))
    shared = []
    original = GroupKFold.split

    def split(self, x, y, groups):
        for train, test in original(self, x, y, groups):
            shared.append(set(groups[train]) & set(groups[test]))
            np.testing.assert_array_equal(x[test], features[y[test], groups[test]])
            yield train, test

    monkeypatch.setattr(GroupKFold, "split", split)
    kernels.predicted_factors(features, 4)
    assert shared == [set()] * 4


def test_ungrouped_folds_would_leak() -> None:
    rng = np.random.default_rng(8)
    y = rng.permuted(np.tile([0, 1, 0, 1], (12, 1)), axis=1)
    # what the maps of a label look like is the channel's own, so that only maps of the same channel tell it
    own = rng.normal(size=(12, 2, 60))
    features = own[np.arange(12)[:, None], y].transpose(1, 0, 2)
    grouped = (kernels.predicted_factors(features, 4, y) == y).mean()
    ungrouped = cross_val_score(
        LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
        features.transpose(1, 0, 2).reshape(48, 60),
        y.ravel(),
        cv=KFold(4, shuffle=True, random_state=0),
    ).mean()
    assert grouped < 0.65 < 0.9 < ungrouped


def test_permutations_keep_the_maps_of_a_channel_together() -> None:
    features = np.random.default_rng(9).normal(size=(3, 6, 2))
    first = kernels.permuted_accuracies(features, 3, 5, seed=2)
    np.testing.assert_array_equal(first, kernels.permuted_accuracies(features, 3, 8, seed=2)[:5])
    assert len(kernels.permuted_accuracies(features, 3, 0, seed=2)) == 0


def test_errors_of_means_over_channels() -> None:
    values = np.random.default_rng(10).normal(size=(7, 2))
    mean, error = kernels.channel_mean(values)
    np.testing.assert_allclose([mean, error], [values.mean(0), stats.sem(values)])
    assert np.isnan(kernels.channel_mean(values[:1])[1]).all()


@given(st.integers(0, 2**32), st.integers(1, 6))
def test_medians_of_defined_values(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.where(rng.random((5, n)) < 0.4, np.nan, rng.normal(size=(5, n)))
    expected = [np.median(row[~np.isnan(row)]) if np.isfinite(row).any() else np.nan for row in values]
    np.testing.assert_allclose(kernels.defined_median(values), expected)


def test_tree_of_factors() -> None:
    correlation = np.array([[1, 0.2, 0.9], [0.2, 1, 0.4], [0.9, 0.4, 1]])
    merges, order = kernels.linkage_tree(1 - correlation)
    np.testing.assert_allclose(merges, [[0, 2, 0.1, 2], [1, 3, 0.7, 3]])
    assert sorted(order[-2:]) == [0, 2]
    correlation[0, 1] = correlation[1, 0] = np.nan
    merges, order = kernels.linkage_tree(1 - correlation)
    assert np.isnan(merges).all()
    assert order.tolist() == [0, 1, 2]


@pytest.mark.parametrize("seed", range(5))
def test_tree_of_vectors_by_their_ranks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    # ties, as of accuracies of few images
    vectors = rng.integers(0, 6, (7, 9)).astype(float)
    vectors[1] = -vectors[0]
    distances = kernels.rank_distances(vectors)
    expected = np.sqrt(1 - np.abs(stats.spearmanr(vectors, axis=1).statistic).clip(max=1))
    np.testing.assert_allclose(distances, expected, atol=1e-7)
    assert distances[0, 1] < 1e-7
    merges, order = kernels.linkage_tree(distances)
    pairs = expected[np.triu_indices(7, 1)]
    np.testing.assert_allclose(merges, hierarchy.average(pairs), atol=1e-7)
    np.testing.assert_allclose(order, hierarchy.leaves_list(merges))


def test_vectors_that_do_not_vary_have_no_distance() -> None:
    vectors = np.array([[1.0, 2, 3], [5, 5, 5], [3, 1, 2]])
    distances = kernels.rank_distances(vectors)
    assert np.isnan(distances[1]).all()
    assert np.isfinite(distances[np.ix_([0, 2], [0, 2])]).all()
    assert np.isnan(kernels.rank_distances(vectors[:, :2])).all()
    for n in (0, 1):
        merges, order = kernels.linkage_tree(np.zeros((n, n)))
        assert merges.shape == (0, 4)
        assert order.tolist() == list(range(n))


def test_clusters_of_channels() -> None:
    rng = np.random.default_rng(11)
    kind = np.array([0, 1, 1, 2, 1, 0, 1])
    profiles = 10 * np.eye(3)[kind] + 0.1 * rng.normal(size=(7, 3))
    profiles[4] = np.nan
    found = kernels.channel_clusters(profiles, 3)
    assert found.tolist() == [1, 0, 0, 2, -1, 1, 0]
    assert kernels.channel_clusters(profiles[3:5], 3).tolist() == [0, -1]
    assert kernels.channel_clusters(profiles, 20).max() <= 5
