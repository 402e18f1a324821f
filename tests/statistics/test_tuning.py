"""Indices of tuning against closed forms, published values, other libraries and simulated trials."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from neuroprobe.statistics import tuning
from neuroprobe.statistics.class_selectivity import ClassAccumulator, lifetime_sparseness
from neuroprobe.statistics.conditions import Curves, curves_of, repetitions

EIGHT = np.arange(0, 360, 45.0)
CHECK = np.array([[10.0, 4, 2, 3, 6, 3, 2, 4]]).T


def test_check_values() -> None:
    assert tuning.vector_selectivity(CHECK, EIGHT, 2).length.round(6) == 0.352941
    assert tuning.vector_selectivity(CHECK, EIGHT, 1).length.round(6) == 0.159242
    assert tuning.orientation_selectivity(CHECK, EIGHT).index.round(12) == 0.6
    assert tuning.direction_selectivity(CHECK, EIGHT).index.round(12) == 0.25
    assert tuning.direction_selectivity(CHECK, EIGHT).relative.round(12) == 0.4


def test_v1_neurons_of_berens(data: Path) -> None:
    table = np.loadtxt(data / "recordings" / "berens2009" / "circular.csv", delimiter=",", skiprows=1)
    vector = tuning.vector_selectivity(table[:, 1:], table[:, 0])
    assert vector.length.round(6).tolist() == [0.251507, 0.713769, 0.785869]
    assert (1 - vector.length).round(6).tolist() == [0.748493, 0.286231, 0.214131]
    assert vector.angle.round(3).tolist() == [67.504, 154.001, 156.113]
    osi = tuning.orientation_selectivity(table[:, 1:], table[:, 0], period=180)
    assert osi.index.round(6).tolist() == [0.540541, 0.980583, 1.0]
    sums = ClassAccumulator(1, 3)
    sums.update(table[:, 1:], np.zeros(8, np.int64))
    assert lifetime_sparseness(sums.end_block()).vinje_gallant.round(6).tolist() == [0.203676, 0.768117, 0.837564]


@given(st.integers(0, 10**6), st.sampled_from([4, 8, 12, 16]), st.floats(-360, 360))
def test_indices_turn_with_the_angles(seed: int, n: int, turn: float) -> None:
    mean = np.random.default_rng(seed).gamma(1, 1, (n, 4))
    angle = np.arange(n) * 360 / n
    for harmonic in (1, 2):
        one = tuning.vector_selectivity(mean, angle, harmonic)
        other = tuning.vector_selectivity(mean, angle + turn, harmonic)
        assert other.length == pytest.approx(one.length)
        apart = np.mod(other.angle - one.angle - turn + 90, 360 / harmonic) - 90
        assert apart == pytest.approx(0, abs=1e-6)
    order = np.random.default_rng(seed).permutation(n)
    for function in (tuning.orientation_selectivity, tuning.direction_selectivity):
        one, other = function(mean, angle), function(mean[order], (angle + turn)[order])
        assert other.index == pytest.approx(one.index)
        assert other.relative == pytest.approx(one.relative)
        assert (one.index >= 0).all()
        assert (one.index <= 1).all()


def test_undefined_and_rectified_curves() -> None:
    mean = np.array([[0.0, 4, -1], [0, 4, 6], [0, np.nan, 1], [0, 4, 1]])
    vector = tuning.vector_selectivity(mean, np.arange(0, 180, 45.0))
    assert np.isnan(vector.length[:2]).all()
    assert np.isnan(vector.angle[:2]).all()
    assert vector.rectified.tolist() == [False, False, True]
    assert vector.length[2] == pytest.approx(np.hypot(5, 1) / 8)
    osi = tuning.orientation_selectivity(mean, np.arange(0, 180, 45.0), period=180)
    assert np.isnan(osi.index[:2]).all()
    assert np.isnan(osi.preferred[:2]).all()
    assert osi.index[2] == pytest.approx(5 / 7)
    assert osi.preferred[2] == 45
    flat = tuning.vector_selectivity(np.ones((8, 1)), EIGHT)
    assert flat.length == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("angle", [[0, 45, 90, 200], [0, 180], [0, 60, 120, 180, 180], [0, 45, 90]])
def test_unequal_angles_are_refused(angle: list[float]) -> None:
    with pytest.raises(ValueError, match="equally spaced around 180"):
        tuning.vector_selectivity(np.ones((len(angle), 1)), np.array(angle, float))


def test_angles_without_an_orthogonal_one_are_refused() -> None:
    with pytest.raises(ValueError, match="none that is 90"):
        tuning.orientation_selectivity(np.ones((5, 1)), np.arange(0, 180, 36.0), period=180)
    with pytest.raises(ValueError, match="none that is 180"):
        tuning.direction_selectivity(np.ones((5, 1)), np.arange(0, 360, 72.0))


def test_errors_are_the_spread_over_experiments(rng: np.random.Generator) -> None:
    truth = 20 + 30 * np.exp(2 * (np.cos(2 * np.deg2rad(EIGHT - 70)) - 1)) + 12 * np.exp(np.cos(np.deg2rad(EIGHT - 70)))
    condition = np.repeat(np.arange(8), 40)
    curves = curves_of(rng.poisson(truth[condition][:, None], (320, 4000)), condition, 8)
    vector = tuning.vector_selectivity(curves.mean, EIGHT, 2, curves.se)
    assert vector.length_se.mean() == pytest.approx(vector.length.std(), rel=0.05)
    assert vector.angle_se.mean() == pytest.approx(vector.angle.std(), rel=0.05)
    exact = tuning.vector_selectivity(truth[:, None], EIGHT)
    assert vector.angle.mean() == pytest.approx(exact.angle.item(), abs=0.1)
    assert vector.length.mean() == pytest.approx(exact.length.item(), abs=0.003)
    for function in (tuning.orientation_selectivity, tuning.direction_selectivity):
        found = function(curves.mean, EIGHT, se=curves.se)
        usual = found.preferred == stats.mode(found.preferred).mode
        assert usual.mean() > 0.9
        assert found.index_se.mean() == pytest.approx(found.index[usual].std(), rel=0.08)
        assert found.relative_se.mean() == pytest.approx(found.relative[usual].std(), rel=0.08)
    sizes = curves.mean[[0, 2, 6]]
    surround = tuning.suppression_index(sizes, np.array([1.0, 2, 3]), curves.se[[0, 2, 6]])
    assert surround.se.mean() == pytest.approx(surround.value[sizes.argmax(0) == 1].std(), rel=0.08)


def test_noise_raises_the_ratio_more_than_the_vector_sum(rng: np.random.Generator) -> None:
    """The bias that Mazurek et al. describe, of units without any tuning."""
    mean = rng.poisson(4, (5, 8, 2000)).mean(0)
    osi = tuning.orientation_selectivity(mean, EIGHT).index.mean()
    vector = tuning.vector_selectivity(mean, EIGHT).length.mean()
    assert osi > 1.3 * vector > 0.05


def test_modulation_and_suppression() -> None:
    assert tuning.modulation_index(np.array([3.0, 0, -1, 2]), np.array([1.0, 0, 2, -3])).value == pytest.approx(
        [0.5, np.nan, -3, np.nan], nan_ok=True
    )
    value = tuning.modulation_index(np.array([3.0]), np.array([1.0]), np.array([0.2]), np.array([0.1]))
    assert value.se == pytest.approx(2 * np.hypot(1 * 0.2, 3 * 0.1) / 16)
    mean = np.array([[1.0, 0, 3], [8, 0, 4], [6, -1, 5]])
    assert tuning.suppression_index(mean[[2, 0, 1]], np.array([4.0, 1, 2])).value == pytest.approx(
        [0.25, np.nan, 0], nan_ok=True
    )


@given(st.floats(-3, 3), st.floats(0.1, 3), st.floats(0, 1))
def test_f1_of_sines(phase: float, amplitude: float, mean: float) -> None:
    t = (np.arange(400) + 0.5) / 200
    rate = (3 + mean) + amplitude * np.sin(2 * np.pi * 4 * t + phase)
    found = tuning.f1_over_f0(rate[:, None], 0.005, 4.0, np.array([1.0]))
    assert found == pytest.approx(amplitude / (2 + mean))


def test_f1_needs_whole_cycles_and_responses() -> None:
    with pytest.raises(ValueError, match=r"1\.2 cycles of 3 Hz"):
        tuning.f1_over_f0(np.ones((400, 1)), 0.001, 3.0)
    with pytest.raises(ValueError, match="more than 2 bins"):
        tuning.f1_over_f0(np.ones((400, 1)), 0.005, 100.0)
    assert np.isnan(tuning.f1_over_f0(np.zeros((400, 1)), 0.005, 4.0))


@given(st.integers(0, 10**6), st.integers(3, 12))
def test_hotelling_is_the_regression_of_constants(seed: int, n: int) -> None:
    """T² from matrices; and its p-value as that of Pillai's trace in a multivariate regression."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(0.5, 1, (n, 2)) @ rng.normal(size=(2, 2))
    t2, p = tuning.hotelling((vectors[:, 0] + 1j * vectors[:, 1])[:, None])
    mean = vectors.mean(0)
    expected = n * mean @ np.linalg.solve(np.cov(vectors.T), mean)
    assert t2 == pytest.approx(expected, rel=1e-6)
    assert p == pytest.approx(stats.f.sf((n - 2) / (2 * (n - 1)) * expected, 2, n - 2), rel=1e-6)


def test_hotelling_leaves_out_what_is_missing() -> None:
    vectors = np.array([1 + 1j, 2 + 1j, np.nan, 1 + 2j, 2 + 2.5j])
    both = np.stack([vectors, np.arange(5) * (1 + 1j)], axis=1)
    t2, p = tuning.hotelling(both)
    assert t2[0] == tuning.hotelling(np.delete(vectors, 2)[:, None])[0]
    assert np.isnan([t2[1], p[1]]).all()
    assert np.isnan(tuning.hotelling(both[:2])[1]).all()


def test_tests_of_tuning_hold_their_level_and_find_tuning(rng: np.random.Generator) -> None:
    condition = rng.permutation(np.repeat(np.arange(8), 6))
    tuned = 2 + 3 * (np.cos(np.deg2rad(2 * (EIGHT - 30))) > 0)
    rate = np.where(np.arange(1200) < 1000, 4, tuned[condition][:, None])
    values = rng.poisson(rate)
    _, p = tuning.hotelling(tuning.vector_sums(repetitions(values, condition, 8), EIGHT))
    permuted = tuning.angle_permutation_test(values, condition, EIGHT, 2, 199, rng)
    for found in (p, permuted):
        assert (found[:1000] < 0.05).mean() == pytest.approx(0.05, abs=0.025)
        assert (found[1000:] < 0.05).mean() > 0.7
    assert stats.kstest(permuted[:1000], "uniform").pvalue > 1e-3
    direction = tuning.angle_permutation_test(values[:, 1000:], condition, EIGHT, 1, 199, rng)
    assert (direction < 0.05).mean() < 0.15


def test_vector_sums_average_to_the_vector_of_the_means(rng: np.random.Generator) -> None:
    values, condition = rng.gamma(2, 1, (40, 3)), np.tile(np.arange(8), 5)
    sums = tuning.vector_sums(repetitions(values, condition, 8), EIGHT, 1)
    mean = curves_of(values, condition, 8).mean
    expected = (mean * np.exp(1j * np.deg2rad(EIGHT))[:, None]).mean(0)
    assert np.allclose(sums.mean(0), expected)
    assert np.allclose(np.abs(expected) / mean.mean(0), tuning.vector_selectivity(mean, EIGHT, 1).length)


def test_curves_of_animals_without_trials_serve_too() -> None:
    """Condition means with errors from their authors."""
    curves = Curves(np.full((8, 1), 5), CHECK, np.full((8, 1), 2.0))
    found = tuning.orientation_selectivity(curves.mean, EIGHT, se=curves.se)
    high, low, variance = 8, 2, 2 / 5 / 2
    assert found.index_se == pytest.approx(2 * np.sqrt((low**2 + high**2) * variance) / (high + low) ** 2)


def test_modulation_by_phase(rng: np.random.Generator) -> None:
    phase = np.arange(0, 360, 30.0)
    rectified = np.maximum(np.cos(np.deg2rad(phase - 40)), 0)
    found = tuning.phase_modulation(np.stack([rectified, np.ones(12), -rectified], axis=1), phase)
    # π / 2 of a half wave, but for the sampling of phases
    assert found.value[0] == pytest.approx(np.pi / 2, rel=0.01)
    assert found.value[1] == pytest.approx(0, abs=1e-12)
    assert np.isnan(found.value[2])
    assert np.isnan(found.se).all()
    for wrong in ([0, 90, 200], [0, 180]):
        with pytest.raises(ValueError, match=r"equally spaced|3 or more phases"):
            tuning.phase_modulation(np.ones((len(wrong), 1)), np.array(wrong, dtype=float))


def test_errors_of_modulation_are_those_of_noise(rng: np.random.Generator) -> None:
    phase = np.arange(0, 360, 45.0)
    mean = 5 + 3 * np.cos(np.deg2rad(phase - 70))
    noisy = mean[:, None] + rng.normal(0, 0.2, (8, 4000))
    found = tuning.phase_modulation(noisy, phase, np.full(noisy.shape, 0.2))
    inside = (np.abs(found.value - 0.6) < 1.96 * found.se).mean()
    assert 0.94 < inside < 0.96
