"""First-order indices and Shapley effects of given data against closed forms; their nulls and errors."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from neuroprobe.statistics import given_data
from neuroprobe.statistics.given_shapley import neighbours_of, shapley_effects, subsets_of

ISHIGAMI_FIRST = np.array([0.313905191148, 0.442411144790, 0])
ISHIGAMI_SHAPLEY = np.array([0.435747023179, 0.442411144790, 0.121841832031])


def ishigami(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    x = rng.uniform(-np.pi, np.pi, (n, 3))
    return x, (np.sin(x[:, 0]) + 7 * np.sin(x[:, 1]) ** 2 + 0.1 * x[:, 2] ** 4 * np.sin(x[:, 0]))[:, None]


def gaussian(n: int, rho: float, rng: np.random.Generator) -> np.ndarray:
    """Three factors of which the last two depend on each other; the last has twice the standard deviation."""
    covariance = np.array([[1, 0, 0], [0, 1, 2 * rho], [0, 2 * rho, 4.0]])
    return rng.multivariate_normal(np.zeros(3), covariance, n)


def ranked(factors: np.ndarray, values: np.ndarray) -> np.ndarray:
    return given_data.rank_first_order(given_data.orders(factors, np.random.default_rng(1)), values)


@pytest.mark.parametrize(
    ("estimator", "tolerance"), [(lambda x, y: given_data.binned_first_order(x, y, 25), 0.03), (ranked, 0.03)]
)
def test_first_order_of_ishigami(estimator, tolerance: float, rng: np.random.Generator) -> None:
    x, y = ishigami(8000, rng)
    assert estimator(x, y)[:, 0] == pytest.approx(ISHIGAMI_FIRST, abs=tolerance)
    noisy = y + rng.normal(0, y.std(), (8000, 1))
    assert estimator(x, noisy)[:, 0] == pytest.approx(ISHIGAMI_FIRST / 2, abs=0.04)


def test_indices_of_nothing_are_around_0(rng: np.random.Generator) -> None:
    x, y = rng.random((200, 2)), rng.normal(size=(200, 2000))
    for found in (given_data.binned_first_order(x, y), ranked(x, y), given_data.binned_first_order(x.round(), y)):
        assert found.mean() == pytest.approx(0, abs=0.005)
        assert found.min() < 0
    discrete = rng.integers(0, 4, (200, 1)).astype(float)
    effect = np.array([0.0, 1, 0.5, -1])[discrete[:, 0].astype(int)][:, None]
    share = effect.var() / (effect.var() + 1)
    assert given_data.binned_first_order(discrete, y + effect).mean() == pytest.approx(share, abs=0.01)
    assert ranked(discrete, y + effect).mean() == pytest.approx(share, abs=0.02)


def test_bins_of_first_order_are_the_correlation_ratio(rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(64, 1)), rng.normal(size=(64, 1))
    found = given_data.binned_first_order(x, y + x, 4)
    groups = np.array_split((y + x)[np.argsort(x[:, 0]), 0], 4)
    within = sum(((group - group.mean()) ** 2).sum() for group in groups) / 60
    assert found.item() == pytest.approx(1 - within / (y + x).var(ddof=1))


@given(st.integers(0, 10**6), st.integers(5, 40), st.booleans())
def test_xi_is_that_of_scipy(seed: int, n: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.permutation(n)[:, None], rng.normal(size=(n, 2))
    if ties:
        y[:, 0] = y[:, 0].round()
    found = given_data.chatterjee(given_data.orders(x, rng), y)
    for unit in range(2):
        if np.ptp(y[:, unit]) == 0:
            assert np.isnan(found[0, unit])
        else:
            expected = stats.chatterjeexi(x[:, 0], y[:, unit], y_continuous=False).statistic
            assert found[0, unit] == pytest.approx(expected)


def test_equal_levels_are_in_random_order(rng: np.random.Generator) -> None:
    drawn = np.array([given_data.orders(np.array([[1.0], [0], [1], [1]]), rng)[:, 0] for _ in range(600)])
    assert (drawn[:, 0] == 1).all()
    assert np.bincount(drawn[:, 1], minlength=4)[[0, 2, 3]] / 600 == pytest.approx(1 / 3, abs=0.07)


def test_units_that_are_missing_or_constant_are_nan(rng: np.random.Generator) -> None:
    x, y = rng.random((50, 2)), rng.random((50, 4))
    y[3, 1] = np.nan
    y[:, 2] = 5
    order, near = given_data.orders(x, rng), neighbours_of(x, 3, rng)
    shares = shapley_effects(near, y)
    for found in (
        given_data.binned_first_order(x, y),
        given_data.rank_first_order(order, y),
        given_data.chatterjee(order, y),
        shares.effect,
        shares.explained[None],
    ):
        assert np.isnan(found[:, [1, 2]]).all()
        assert np.isfinite(found[:, [0, 3]]).all()


def test_wrong_tables_are_refused() -> None:
    with pytest.raises(ValueError, match=r"received \(5, 2\) and \(4, 1\)"):
        given_data.binned_first_order(np.zeros((5, 2)), np.zeros((4, 1)))
    with pytest.raises(ValueError, match="2 presentations have a factor"):
        given_data.binned_first_order(np.array([[1.0], [np.nan], [np.inf], [2]]), np.zeros((4, 1)))
    with pytest.raises(ValueError, match="at most 12"):
        neighbours_of(np.zeros((20, 13)), 3, np.random.default_rng(0))
    with pytest.raises(ValueError, match="received 21"):
        neighbours_of(np.zeros((20, 2)), 21, np.random.default_rng(0))


def test_permutation_nulls_hold_their_level_and_find_effects(rng: np.random.Generator) -> None:
    x = rng.random((120, 2))
    y = rng.normal(size=(120, 300))
    y[:, 200:] += 2 * x[:, :1]
    cases = (
        (given_data.binned_first_order, x),
        (given_data.rank_first_order, given_data.orders(x, rng)),
        (given_data.chatterjee, given_data.orders(x, rng)),
        (lambda near, values: shapley_effects(near, values).effect, neighbours_of(x, 3, rng)),
    )
    for estimator, design in cases:
        found = given_data.against_shuffled(estimator, design, y, 99, rng)
        assert found.p_value.shape == found.p_maximum.shape == (2, 300)
        assert (found.p_value[:, :200] <= 0.05).mean() == pytest.approx(0.05, abs=0.035)
        assert (found.p_value[0, 200:] <= 0.05).mean() > 0.5
        assert found.null_mean.mean() == pytest.approx(0, abs=0.01)
        assert (found.p_maximum >= found.p_value).all()


def test_errors_from_halves_are_the_spread(rng: np.random.Generator) -> None:
    def shapley(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return shapley_effects(neighbours_of(x, 3, rng), y).effect

    for estimator in (lambda x, y: given_data.binned_first_order(x, y, 8), ranked, shapley):
        values, errors = [], []
        for _ in range(60):
            x = rng.random((200, 2))
            y = (2 * x[:, 0] + x[:, 1])[:, None] + rng.normal(0, 0.5, (200, 1))
            values.append(estimator(x, y)[:, 0])
            errors.append(given_data.half_sample_se(estimator, x, y, 30, rng)[:, 0])
        assert np.mean(errors, axis=0) == pytest.approx(np.std(values, axis=0), rel=0.4)


def test_dependence_is_told(rng: np.random.Generator) -> None:
    x = rng.normal(size=(150, 4))
    x[:, 1] = x[:, 0] ** 2 + 0.1 * x[:, 1]  # without any correlation of ranks
    x[:, 3] = x[:, 2] + x[:, 3]
    found = given_data.dependence(x, 199, rng)
    assert found.p_any == found.p_value[0, 1] == found.p_value[3, 2] == 1 / 200
    assert found.p_value[0, 2] > 0.02
    assert np.array_equal(found.p_value, found.p_value.T, equal_nan=True)
    assert found.spearman[2, 3] == pytest.approx(stats.spearmanr(x[:, 2], x[:, 3]).statistic)
    assert found.xi[1, 0] > 0.6 > found.xi[0, 1]
    apart = [given_data.dependence(rng.normal(size=(40, 3)), 39, rng).p_any for _ in range(60)]
    assert np.mean(np.array(apart) <= 0.05) < 0.2
    assert np.isnan(given_data.dependence(x[:, :1], 9, rng).p_any)


def test_shapley_effects_of_ishigami(rng: np.random.Generator) -> None:
    x, y = ishigami(6000, rng)
    near = neighbours_of(x, 3, rng)
    exact = shapley_effects(near, y, noise=False)
    assert exact.effect.sum() == pytest.approx(1)
    assert exact.effect[:, 0] == pytest.approx(ISHIGAMI_SHAPLEY, abs=0.04)
    noisy = shapley_effects(near, y + rng.normal(0, y.std(), (6000, 1)))
    assert noisy.explained.item() == pytest.approx(0.5, abs=0.05)
    assert noisy.effect.sum() == pytest.approx(noisy.explained.item())
    assert noisy.effect[:, 0] == pytest.approx(ISHIGAMI_SHAPLEY / 2, abs=0.05)


@pytest.mark.parametrize(
    ("rho", "expected"),
    [(0.9, (0.104166666667, 0.418229166667, 0.477604166667)), (-0.5, (0.25, 0.09375, 0.65625))],
)
def test_shapley_effects_of_dependent_factors(rho: float, expected: tuple, rng: np.random.Generator) -> None:
    """Linear Gaussian responses, whose effects are known; first-order indices overlap there."""
    x = gaussian(5000, rho, rng)
    y = x.sum(1, keepdims=True)
    found = shapley_effects(neighbours_of(x, 3, rng), y, noise=False)
    assert found.effect[:, 0] == pytest.approx(expected, abs=0.04)
    if rho > 0:
        assert given_data.binned_first_order(x, y, 20).sum() > 1.5


def test_shapley_effects_of_levels_are_those_of_the_table(rng: np.random.Generator) -> None:
    """Discrete factors in unequal numbers: exact effects from the cells."""
    levels = np.array(list(itertools.product([0, 1], [0, 1, 2])))
    share = np.array([0.3, 0.1, 0.1, 0.05, 0.15, 0.3])
    mean = np.array([0.0, 1, 3, 2, 2, 7])
    at = rng.choice(6, 6000, p=share)
    variance = (share * mean**2).sum() - (share * mean).sum() ** 2

    def cost(subset: tuple[int, ...]) -> float:
        groups = np.unique(levels[:, list(subset)], axis=0, return_inverse=True)[1] if subset else np.zeros(6, int)
        of_group = np.bincount(groups, share * mean) / np.bincount(groups, share)
        return float((share * of_group[groups] ** 2).sum() - (share * mean).sum() ** 2)

    exact = [
        sum(
            math.factorial(len(u)) * math.factorial(1 - len(u)) / 2 * (cost((*u, j)) - cost(u))
            for size in range(2)
            for u in itertools.combinations([k for k in range(2) if k != j], size)
        )
        / variance
        for j in range(2)
    ]
    found = shapley_effects(neighbours_of(levels[at].astype(float), 4, rng), mean[at][:, None])
    assert found.effect[:, 0] == pytest.approx(exact, abs=0.03)
    assert found.explained.item() == pytest.approx(1, abs=1e-9)


@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(2, 4))
def test_neighbours_are_the_nearest(seed: int, d: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(15, d))
    near = neighbours_of(x, k, rng)
    place = stats.rankdata(x, axis=0)
    for at, subset in enumerate(subsets_of(d)):
        distance = np.sqrt(((place[:, None, list(subset)] - place[:, list(subset)]) ** 2).sum(-1))
        chosen = np.take_along_axis(distance, near[:, at], axis=1)
        assert chosen == pytest.approx(np.sort(distance, axis=1)[:, :k])
        assert (near[:, at, 0] == np.arange(15)).all()


def test_levels_that_were_repeated_are_not_pooled() -> None:
    """Nine conditions, five trials each, as of an experiment on tuning: bins would mix those that differ."""
    rng = np.random.default_rng(0)
    level = np.repeat(np.arange(9.0), 5)
    response = np.where(level == 4, 10.0, 0)[:, None] + rng.normal(0, 1, (45, 400))
    found = given_data.binned_first_order(level[:, None], response)[0]
    # between levels 10² · 8/81, within 1
    expected = 100 * 8 / 81 / (100 * 8 / 81 + 1)
    assert found.mean() == pytest.approx(expected, abs=0.01)
    assert given_data.binned_first_order(level[:, None], response, n_bins=4)[0].mean() < 0.7
