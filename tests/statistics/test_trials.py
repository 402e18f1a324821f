"""Tests on trials against SciPy, over random numbers of trials, with trials that units lack; levels and power."""

from pathlib import Path

import numpy as np
import pytest
import scipy.io
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from neuroprobe.statistics.paired import adjust
from neuroprobe.statistics.trials import (
    against_blank,
    kruskal_wallis,
    one_way,
    permutation_test,
    responsiveness,
    sign_flip_test,
)


def made(seed: int, n: int, n_conditions: int) -> tuple[np.ndarray, np.ndarray]:
    """Responses with ties, one unit without any change, and missing trials."""
    rng = np.random.default_rng(seed)
    condition = rng.integers(-1, n_conditions, n)
    values = rng.normal(5, 2, (n, 4)) + condition[:, None]
    values[:, 1] = values[:, 1].round()
    values[:, 2] = 3.3
    values[rng.random((n, 4)) < 0.15] = np.nan
    return values, condition


def groups_of(values: np.ndarray, condition: np.ndarray, n_conditions: int) -> list[np.ndarray]:
    """Trials of each condition that has any, of one unit."""
    groups = [values[(condition == k) & ~np.isnan(values)] for k in range(n_conditions)]
    return [group for group in groups if len(group)]


@given(st.integers(0, 10**6), st.integers(0, 40), st.integers(1, 6))
def test_one_way_is_that_of_scipy(seed: int, n: int, n_conditions: int) -> None:
    values, condition = made(seed, n, n_conditions)
    found = one_way(values, condition, n_conditions)
    for unit in range(4):
        groups = groups_of(values[:, unit], condition, n_conditions)
        n_all = sum(map(len, groups))
        if len(groups) < 2 or n_all <= len(groups) or unit == 2:
            assert np.isnan(found.statistic[unit])
            assert np.isnan(found.p_value[unit])
            continue
        if all(np.ptp(group) == 0 for group in groups):
            assert found.p_value[unit] == 0 or np.isnan(found.p_value[unit])
            continue
        f, p = stats.f_oneway(*groups)
        assert found.statistic[unit] == pytest.approx(f)
        assert found.p_value[unit] == pytest.approx(p, abs=1e-12)
        all_of_them, k = np.concatenate(groups), len(groups)
        within = sum(((group - group.mean()) ** 2).sum() for group in groups)
        total = ((all_of_them - all_of_them.mean()) ** 2).sum()
        error = within / (n_all - k)
        assert found.eta_squared[unit] == pytest.approx(1 - within / total)
        assert found.omega_squared[unit] == pytest.approx((total - within - (k - 1) * error) / (total + error))


@given(st.integers(0, 10**6), st.integers(0, 40), st.integers(1, 6))
def test_kruskal_wallis_is_that_of_scipy(seed: int, n: int, n_conditions: int) -> None:
    values, condition = made(seed, n, n_conditions)
    found = kruskal_wallis(values, condition, n_conditions)
    for unit in range(4):
        groups = groups_of(values[:, unit], condition, n_conditions)
        if len(groups) < 2 or np.ptp(np.concatenate(groups)) == 0:
            assert np.isnan(found.statistic[unit])
            assert np.isnan(found.p_value[unit])
            continue
        h, p = stats.kruskal(*groups)
        assert found.statistic[unit] == pytest.approx(h)
        assert found.p_value[unit] == pytest.approx(p, abs=1e-12)
        assert found.epsilon_squared[unit] == pytest.approx(h / (sum(map(len, groups)) - 1))


def test_mt_neurons_tuned_to_disparity(data: Path) -> None:
    """Of 501 neurons recorded one at a time, 76 % have p < .01 over disparity."""
    tuned, trials, left_out = [], 0, 0
    for file in sorted((data / "recordings" / "manning2024" / "MT").glob("*.mat")):
        table = scipy.io.loadmat(file, squeeze_me=True, struct_as_record=False)["ddat"]
        disparity = np.asarray(table.disparity, float)
        no_stimulus = np.isin(disparity, (-9999, -99, 99, 98)) | (np.asarray(table.speed) == -9999)
        shown, condition = np.unique(disparity, return_inverse=True)
        found = one_way(np.asarray(table.firing_rate, float)[:, None], np.where(no_stimulus, -1, condition), len(shown))
        tuned.append(found.p_value.item() < 0.01)
        trials, left_out = trials + len(disparity), left_out + no_stimulus.sum()
    assert (len(tuned), trials, left_out) == (501, 29295, 8881)
    assert round(100 * np.mean(tuned)) == 76


def test_responsiveness_is_that_of_scipy(rng: np.random.Generator) -> None:
    baseline = rng.poisson(5, (60, 4)).astype(float)
    response = rng.poisson([5, 7, 4, 0], (60, 4)).astype(float)
    response[:, 3] = baseline[:, 3]
    response[:10, 1] = np.nan
    found = responsiveness(response, baseline)
    for unit in range(3):
        d = response[:, unit] - baseline[:, unit]
        theirs = stats.wilcoxon(d[~np.isnan(d)], zero_method="zsplit", method="asymptotic", correction=False)
        assert found["p_value"][unit] == pytest.approx(theirs.pvalue, rel=0.02)
    assert found["rank_biserial"][1] > 0 > found["rank_biserial"][2]
    assert np.isnan([value[3] for value in found.values()]).all()
    assert np.isnan(responsiveness(baseline, baseline)["p_value"]).all()


def test_permutation_test_holds_its_level_one_unit_and_all_units(rng: np.random.Generator) -> None:
    condition = np.repeat(np.arange(3), [4, 7, 9])
    of_units, of_all = [], []
    for _ in range(150):
        values = rng.exponential(1, (20, 1)) + rng.exponential(1, (20, 8))  # units that depend on each other
        found = permutation_test(values, condition, 3, 99, rng)
        of_units.append(found.p_value[0])
        of_all.append(found.p_maximum.min())
        assert (found.p_maximum >= found.p_value).all()
    for p in (of_units, of_all):
        assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.05)
    assert np.mean(of_units) == pytest.approx(0.5, abs=0.1)


def test_permutation_test_is_exact_beside_all_permutations(rng: np.random.Generator) -> None:
    values = np.array([1.0, 4.0, 2.5, 6.0, 7.0, 3.0])[:, None]
    condition = np.array([0, 0, 0, 1, 1, 1])
    found = permutation_test(values, condition, 2, 4000, rng)
    exact = stats.permutation_test(
        (values[:3, 0], values[3:, 0]),
        lambda x, y: stats.f_oneway(x, y).statistic,
        n_resamples=np.inf,
        alternative="greater",
    )
    assert found.statistic == pytest.approx(exact.statistic)
    assert found.p_value == pytest.approx(exact.pvalue, abs=0.03)
    assert found.null_mean == pytest.approx(exact.null_distribution.mean(), rel=0.1)
    assert found.null_sd == pytest.approx(exact.null_distribution.std(), rel=0.1)


def test_permutation_takes_any_statistic_and_leaves_out_what_has_none(rng: np.random.Generator) -> None:
    values, condition = rng.normal(size=(30, 3)), np.r_[np.repeat([0, 1], 12), np.full(6, -1)]
    values[condition == 1, 0] += 3
    values[:, 2] = 1
    values[-6:] = 1e6
    found = permutation_test(values, condition, 2, 199, rng, lambda v, c: np.abs(v[c == 1].mean(0) - v[c == 0].mean(0)))
    assert found.p_value[0] == found.p_maximum[0] == 1 / 200
    assert found.p_value[2] == 1
    by_f = permutation_test(values, condition, 2, 99, rng)
    assert np.isnan([by_f.p_value[2], by_f.p_maximum[2], by_f.null_sd[2]]).all()
    assert by_f.p_value[0] == 0.01


def test_sign_flips_are_exact_beside_all_signs(rng: np.random.Generator) -> None:
    d = np.array([1.0, 2.5, -0.3, 1.7, 0.9, 2.2, -1.0])
    found = sign_flip_test(np.stack([d, np.zeros(7), np.r_[d[:-1], np.nan]], axis=1), 4000, rng)
    exact = stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert found.statistic[0] == pytest.approx(np.abs(stats.ttest_1samp(d, 0).statistic))
    assert found.statistic[2] == pytest.approx(stats.ttest_1samp(d[:-1], 0).statistic)
    assert found.p_value[0] == pytest.approx(exact.pvalue, abs=0.02)
    assert np.isnan([found.p_value[1], found.p_maximum[1]]).all()


def test_against_blank_is_d_prime_and_area_of_each_condition() -> None:
    values = np.array([[3.0, 5, 6, 9, 1, 2, 3, 4, 5, 8, 8.5]]).T
    condition = np.array([1, 1, 1, 1, -1, -1, -1, -1, -1, 0, 0])
    found = against_blank(values, condition, 3, condition == -1)
    assert found.auc.round(6).ravel().tolist()[:2] == [1.0, 0.85]
    assert found.d_prime[1].round(6) == 1.314751
    pooled = (np.var([8, 8.5], ddof=1) + 2.5) / 2
    assert found.d_prime[0] == pytest.approx((8.25 - 3) / np.sqrt(pooled))
    assert np.isnan([found.d_prime[2], found.auc[2], found.auc_se[2]]).all()
    for blank in (condition == 1, np.zeros(11, bool)):
        with pytest.raises(ValueError, match="blank"):
            against_blank(values, condition, 3, blank)


def test_false_discoveries_with_and_without_untested_units() -> None:
    p = np.array([0.001, 0.008, 0.039, 0.041, 0.042, 0.06, 0.074, 0.205, 0.212, 0.216])
    expected = [0.01, 0.04, 0.084, 0.084, 0.084, 0.1, 0.105714, 0.216, 0.216, 0.216]
    assert adjust(p, "fdr_bh").round(6).tolist() == expected
    with_gaps = np.insert(p, [0, 3, 10], np.nan)
    found = adjust(with_gaps, "fdr_bh")
    assert found[~np.isnan(with_gaps)].round(6).tolist() == expected
    assert np.isnan(found[np.isnan(with_gaps)]).all()
    assert (found < 0.05).sum() == 2
