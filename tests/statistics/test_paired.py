"""Paired tests against scipy's, rank-biserial correlations against their definition, and corrections."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from neuroprobe.statistics import paired
from neuroprobe.statistics.paired import CORRECTIONS, adjust, sign_test, signed_ranks, t_test

small = st.lists(st.integers(-4, 4), min_size=3, max_size=30).filter(any)


def walsh(d: np.ndarray) -> float:
    """Mean sign of d_i + d_j over i ≤ j."""
    i, j = np.triu_indices(len(d))
    return float(np.sign(d[i] + d[j]).mean())


@given(small)
def test_signed_ranks_with_ties_and_zeros(values: list[int]) -> None:
    d = np.array(values, dtype=float)
    found = signed_ranks(d[:, None])
    expected = stats.wilcoxon(d, zero_method="zsplit", method="asymptotic", correction=False)
    assert found["p_value"][0] == pytest.approx(expected.pvalue, rel=1e-12)
    assert found["rank_biserial"][0] == pytest.approx(walsh(d), abs=1e-12)


def test_many_units_in_pieces_are_each_as_scipy_has_them(rng: np.random.Generator, monkeypatch) -> None:
    d = rng.standard_t(3, (60, 50)).astype(np.float32)
    d[rng.random(d.shape) < 0.2] = 0
    expected = stats.wilcoxon(d.astype(float), zero_method="zsplit", method="asymptotic", correction=False, axis=0)
    whole = signed_ranks(d)
    np.testing.assert_allclose(whole["p_value"], expected.pvalue, rtol=1e-10)
    monkeypatch.setattr(paired, "VALUES_AT_A_TIME", 60 * 7)
    for name, values in signed_ranks(d).items():
        np.testing.assert_array_equal(values, whole[name])


def test_pairs_that_are_left_out_do_not_count(rng: np.random.Generator) -> None:
    d = rng.normal(0.3, 1, (40, 3))
    d[:5, 0] = d[10:13, 1] = np.nan
    found = signed_ranks(d)
    for unit in range(3):
        alone = signed_ranks(d[~np.isnan(d[:, unit]), unit][:, None])
        for name, values in found.items():
            assert values[unit] == pytest.approx(alone[name][0], rel=1e-12)


@pytest.mark.parametrize(
    ("d", "r"), [([1, 2, 3, 4], 1), ([-1, -2, -3, -4], -1), ([1, -1, 2, -2], 0), ([-3, 1, 0], -1 / 6)]
)
def test_rank_biserial_has_the_sign_of_the_effect(d: list[float], r: float) -> None:
    found = signed_ranks(np.array(d, dtype=float)[:, None])
    assert found["rank_biserial"][0] == pytest.approx(r, abs=1e-15)
    if abs(r) == 1:
        assert found["rank_biserial_se"][0] == 0


@pytest.mark.parametrize("law", [stats.norm(0.3, 1), stats.expon(-0.5, 1), stats.t(2, 0.2)])
def test_error_of_the_rank_biserial_is_its_spread_over_repetitions(law, rng: np.random.Generator) -> None:
    d = law.rvs((200, 3000), random_state=rng)
    found = signed_ranks(d)
    # standard deviation over 3000 repetitions: 1.3 % of itself
    assert found["rank_biserial_se"].mean() == pytest.approx(found["rank_biserial"].std(), rel=0.06)


def test_error_of_the_rank_biserial_is_near_the_jackknife(rng: np.random.Generator) -> None:
    d = np.round(rng.normal(0.5, 1, 80), 1)
    without = np.array([walsh(np.delete(d, i)) for i in range(80)])
    jackknife = np.sqrt(79 / 80 * ((without - without.mean()) ** 2).sum())
    assert signed_ranks(d[:, None])["rank_biserial_se"][0] == pytest.approx(jackknife, rel=0.02)


def test_t_test(rng: np.random.Generator) -> None:
    d = rng.normal(0.2, 1, (25, 40))
    p = t_test(d.mean(0), d.std(0, ddof=1) / 5, np.full(40, 25.0))
    np.testing.assert_allclose(p, stats.ttest_rel(d, np.zeros_like(d)).pvalue, rtol=1e-12)


@given(st.integers(0, 400), st.integers(0, 400))
def test_sign_test(n_positive: int, n_negative: int) -> None:
    if not n_positive + n_negative:
        return
    expected = stats.binomtest(n_positive, n_positive + n_negative).pvalue
    found = sign_test(np.array([float(n_positive)]), np.array([float(n_negative)]))
    assert found[0] == pytest.approx(expected, rel=1e-9)


def test_sign_test_of_many_pairs() -> None:
    assert sign_test(np.array(25_400.0), np.array(24_600.0)) == pytest.approx(stats.binomtest(25_400, 50_000).pvalue)


@pytest.mark.parametrize("method", CORRECTIONS)
def test_corrections_leave_out_what_was_not_tested(method: str, rng: np.random.Generator) -> None:
    p = rng.random((3, 40)) ** 3
    p[rng.random(p.shape) < 0.2] = np.nan
    found = adjust(p, method)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(p))
    tested = p[~np.isnan(p)]
    expected = tested if method == "none" else multipletests(tested, method=method)[1]
    np.testing.assert_array_equal(found[~np.isnan(p)], expected)
    assert (found >= p)[~np.isnan(p)].all()


def test_corrections_of_nothing() -> None:
    assert np.isnan(adjust(np.full((2, 2), np.nan), "fdr_by")).all()
    assert adjust(np.empty(0), "fdr_by").shape == (0,)


def test_fdr_by_by_hand() -> None:
    # p (n / rank) Σ 1/k, from the largest down
    np.testing.assert_allclose(adjust(np.array([0.01, 0.04, 0.02]), "fdr_by"), np.array([0.03, 0.04, 0.03]) * 11 / 6)


def test_adjusted_p_values_leave_nan_out() -> None:
    p = np.array([0.01, np.nan, 0.04])
    np.testing.assert_allclose(adjust(p, "fdr_by"), [0.03, np.nan, 0.06])
    assert np.isnan(adjust(np.full(2, np.nan), "fdr_by")).all()
