"""Intervals of accuracies: Wilson's for one draw, wider than of as many images for several, and as sure as they say."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from neuroprobe.statistics.accuracy import accuracies, wilson_interval
from neuroprobe.statistics.contrast import ContrastTerms, finalize
from oracles import sums_of_rows

IS_PROPORTION = np.array([True, True, False])


def measured(y: np.ndarray, draws: int) -> dict[str, np.ndarray]:
    """Accuracies of measures (images, rows, 3)."""
    terms = ContrastTerms((y.shape[1] - 1) // draws, draws=draws)
    return accuracies(finalize(sums_of_rows(y, terms), terms), np.full(3, float(len(y))), draws, IS_PROPORTION)


@pytest.mark.parametrize("n_correct", [0, 1, 17, 40])
def test_one_draw_gives_wilsons_interval(n_correct: int) -> None:
    y = np.zeros((40, 2, 3))
    y[:n_correct] = 1
    found = measured(y, 1)
    lower, upper = proportion_confint(n_correct, 40, method="wilson")
    for arm in range(2):
        np.testing.assert_allclose(found["estimate"][arm], n_correct / 40)
        np.testing.assert_allclose(found["lower"][arm, :2], lower, atol=1e-12)
        np.testing.assert_allclose(found["upper"][arm, :2], upper, atol=1e-12)


def test_draws_that_agree_count_once(rng: np.random.Generator) -> None:
    correct = (rng.random((60, 1, 3)) < 0.7).astype(float)
    y = np.concatenate([np.ones_like(correct), correct.repeat(5, 1)], 1)
    found, width = measured(y, 5), np.diff(proportion_confint(correct[:, 0, 0].sum(), 60, method="wilson"))[0]
    # wider by the quantiles of t with 59 in place of 299 degrees of freedom
    assert 1 < (found["upper"] - found["lower"])[1, 0] / width < 1.03


def test_intervals_hold_the_truth_as_often_as_they_say(rng: np.random.Generator) -> None:
    """Of images that differ in how hard they are, shown four times each."""
    n, draws, n_runs = 50, 4, 4000
    chance = rng.beta(1.2, 0.8, (n_runs, n))
    share = rng.binomial(draws, chance) / draws
    lower, upper = wilson_interval(share.mean(1), stats.sem(share, 1), np.full(n_runs, float(n)), draws)
    inside = np.mean((lower <= 0.6) & (upper >= 0.6))
    assert inside == pytest.approx(0.95, abs=0.015)
    # taken for independent images, they would be wrong too often
    naive = proportion_confint(share.sum(1) * draws, n * draws, method="wilson")
    assert np.mean((naive[0] <= 0.6) & (naive[1] >= 0.6)) < 0.87


def test_differences_are_paired_over_images(rng: np.random.Generator) -> None:
    y = (rng.random((80, 7, 3)) < [0.9, 0.95, 0.5]).astype(float)
    y[..., 2] = rng.random((80, 7))
    found = measured(y, 3)
    for a in range(2):
        d = y[:, 1 + 3 * a : 4 + 3 * a].mean(1) - y[:, 0]
        expected = stats.ttest_1samp(d, 0)
        np.testing.assert_allclose(found["p_value"][1 + a], expected.pvalue, rtol=1e-9)
        interval = expected.confidence_interval()
        np.testing.assert_allclose(found["difference"][1 + a], d.mean(0))
        np.testing.assert_allclose(found["difference_lower"][1 + a], interval.low)
        np.testing.assert_allclose(found["difference_upper"][1 + a], interval.high)
    assert np.isnan(found["difference"][0]).all()
    mean = stats.ttest_1samp(y[:, 0, 2], 0).confidence_interval()
    assert (found["lower"][0, 2], found["upper"][0, 2]) == pytest.approx((mean.low, mean.high))


def test_an_alteration_that_changes_no_image_has_a_p_value_of_1(rng: np.random.Generator) -> None:
    y = np.repeat((rng.random((30, 1, 3)) < 0.5).astype(float), 2, axis=1)
    found = measured(y, 1)
    assert (found["p_value"][1] == 1).all()
    assert (found["difference"][1] == 0).all()
    assert (np.abs(found["difference_upper"][1]) < 1e-9).all()
