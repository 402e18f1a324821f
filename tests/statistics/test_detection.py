"""Detection of classes against Mann and Whitney's U, scikit-learn's ROC curves, pairs, and histograms against both."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score, roc_curve

from neuroprobe.statistics.detection import (
    class_counts,
    detection_from_counts,
    detection_of,
    octave_edges,
)

CLASSES = 4
VALUES, TARGET = np.array([[3.0, 5, 6, 9, 1, 2, 3, 4, 5]]).T, np.repeat([0, 1], [4, 5])


def made(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Responses, in two units with many ties; the first unit is constant, the last class has no image."""
    rng = np.random.default_rng(seed)
    target = rng.integers(0, CLASSES - 1, n)
    values = np.maximum(rng.normal(0, 1, (n, 5)) + 0.5 * (target == 1)[:, None], 0)
    values[:, 1:3] = values[:, 1:3].round()
    values[:, 0] = 2
    return values, target


def delong(own: np.ndarray, others: np.ndarray) -> float:
    """Error from all pairs."""
    wins = (own[:, None] > others) + 0.5 * (own[:, None] == others)
    return float(np.sqrt(wins.mean(1).var(ddof=1) / len(own) + wins.mean(0).var(ddof=1) / len(others)))


def test_the_example() -> None:
    found = detection_of(VALUES, TARGET, [0, 1])
    assert found.auc.round(6).tolist() == [[0.85], [0.15]]
    assert (found.hit_rate[0], found.false_alarm_rate[0], found.threshold[0]) == (0.75, 0.2, 5)
    assert found.informedness[0].round(12) == 0.55


@given(st.integers(0, 10**6), st.integers(0, 25))
def test_detection_is_that_of_other_libraries(seed: int, n: int) -> None:
    values, target = made(seed, n)
    found = detection_of(values, target, range(CLASSES))
    for number, unit in np.ndindex(CLASSES, 5):
        is_class, response = target == number, values[:, unit]
        at = (number, unit)
        if not 0 < is_class.sum() < n or np.ptp(response) == 0:
            for array in vars(found).values():
                assert np.isnan(array[at])
            continue
        own, others = response[is_class], response[~is_class]
        assert found.auc[at] == pytest.approx(roc_auc_score(is_class, response))
        u = stats.mannwhitneyu(own, others).statistic
        assert found.auc[at] == pytest.approx(u / (len(own) * len(others)))
        alarms, hits, thresholds = roc_curve(is_class, response, drop_intermediate=False)
        assert found.informedness[at] == pytest.approx((hits - alarms).max(), abs=1e-12)
        best = np.flatnonzero(hits - alarms > (hits - alarms).max() - 1e-12)
        if found.informedness[at] > 0:
            assert found.threshold[at] in thresholds[best]
        assert found.hit_rate[at] == pytest.approx((own >= found.threshold[at]).mean())
        assert found.false_alarm_rate[at] == pytest.approx((others >= found.threshold[at]).mean())
        assert found.informedness[at] == pytest.approx(
            max(0, stats.ks_2samp(own, others, alternative="less", method="asymp").statistic), abs=1e-12
        )
        if min(len(own), len(others)) > 1:
            assert found.auc_se[at] == pytest.approx(delong(own, others), abs=1e-12)
        else:
            assert np.isnan(found.auc_se[at])


def test_p_values_are_those_of_large_samples_and_conservative(rng: np.random.Generator) -> None:
    target = np.repeat([0, 1], [300, 500])
    values = rng.normal(size=(800, 1000))
    p = detection_of(values, target, [0]).p_value[0]
    exact = [
        stats.ks_2samp(column[target == 0], column[target == 1], alternative="less", method="exact").pvalue
        for column in values.T[:8]
    ]
    np.testing.assert_allclose(p[:8], exact, atol=0.05)
    assert (p[:8] > exact).all()
    for level in (0.05, 0.25, 0.5):
        error = 4 * np.sqrt(level * (1 - level) / 1000)
        assert level - 0.05 - error < (p <= level).mean() < level + error


def test_the_error_of_the_area_is_that_of_drawing_again(rng: np.random.Generator) -> None:
    target = np.repeat([0, 1], [40, 80])
    found = detection_of(rng.normal(size=(120, 3000)) + (target == 0)[:, None], target, [0])
    assert found.auc.mean() == pytest.approx(stats.norm.cdf(1 / np.sqrt(2)), abs=0.005)
    assert np.sqrt((found.auc_se**2).mean()) == pytest.approx(found.auc.std(), rel=0.05)


def test_monotone_responses_are_told_alike_and_mirrored_ones_oppositely(rng: np.random.Generator) -> None:
    values, target = made(3, 40)
    found, bent = detection_of(values, target, [0, 1]), detection_of(np.exp(values), target, [0, 1])
    np.testing.assert_array_equal(found.auc, bent.auc)
    np.testing.assert_array_equal(found.informedness, bent.informedness)
    np.testing.assert_allclose(detection_of(-values, target, [0, 1]).auc, 1 - found.auc)
    assert detection_of(values, target, []).auc.shape == (0, 5)


# histograms


def test_edges_are_equally_wide_in_octaves() -> None:
    edges = octave_edges(0.01, 10.24, 4)
    assert len(edges) == 41
    np.testing.assert_allclose(edges[[0, 4, -1]], [0.01, 0.02, 10.24])
    with pytest.raises(ValueError, match="received 0 and 1"):
        octave_edges(0, 1, 4)


@given(st.integers(0, 10**6), st.integers(2, 40), st.integers(0, 40), st.integers(1, 4))
def test_histograms_hold_what_the_responses_give(seed: int, n: int, cut: int, per_octave: int) -> None:
    values, target = made(seed, n)
    edges = octave_edges(0.125, 4, per_octave)
    cut %= n + 1
    counts = class_counts(values[:cut], target[:cut], edges, CLASSES)
    counts += class_counts(values[cut:], target[cut:], edges, CLASSES)
    np.testing.assert_array_equal(counts, class_counts(values, target, edges, CLASSES))
    assert (counts.sum(-1) == np.bincount(target, minlength=CLASSES)[:, None]).all()
    exact, found = detection_of(values, target, range(CLASSES)), detection_from_counts(counts)
    binned = detection_of(np.searchsorted(edges, values, side="right"), target, range(CLASSES))
    for name in ("auc", "auc_se", "informedness", "p_value"):
        np.testing.assert_allclose(getattr(found, name), getattr(binned, name), atol=1e-12, err_msg=name)
    known = np.isfinite(found.auc)
    assert (np.abs(found.auc - exact.auc)[known] <= found.auc_reach[known] + 1e-12).all()
    assert (found.informedness[known] <= exact.informedness[known] + 1e-12).all()
    assert (found.informedness_upper[known] >= exact.informedness[known] - 1e-12).all()
    assert not known[:, 0].any()
    assert not known[CLASSES - 1].any()


def test_every_response_in_a_bin_of_its_own_leaves_nothing_open() -> None:
    edges = np.unique(VALUES)
    found, exact = detection_from_counts(class_counts(VALUES, TARGET, edges, 2)), detection_of(VALUES, TARGET, [0, 1])
    np.testing.assert_allclose(found.auc, exact.auc)
    np.testing.assert_allclose(found.informedness, exact.informedness)
    # ties between the class and others stay, so that the area has a reach: 2 pairs of 20, by half
    np.testing.assert_allclose(found.auc_reach, 0.05)
