"""Indices of the explainable variance: free of noise and of its bias, and those of other modules without noise."""

import itertools

import numpy as np
import pytest

from neuroprobe.statistics.cross_repeat import ExplainableIndices, explainable_indices, explainable_shapley

FIRST = np.array([0.313905191148, 0.442411144790, 0])
TOTAL = np.array([0.557588855210, 0.442411144790, 0.243683664062])
SHAPLEY = np.array([0.435747023179, 0.442411144790, 0.121841832031])
VARIANCE = 13.8445879407


def ishigami(x: np.ndarray) -> np.ndarray:
    return np.sin(x[..., 0]) + 7 * np.sin(x[..., 1]) ** 2 + 0.1 * x[..., 2] ** 4 * np.sin(x[..., 0])


def rows(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Responses a, b (samples,), e, c (factors, samples) of a pick-freeze design."""
    a, b = rng.uniform(-np.pi, np.pi, (2, n, 3))
    of_b = np.eye(3, dtype=bool)[:, None]
    return ishigami(a), ishigami(b), ishigami(np.where(of_b, b, a)), ishigami(np.where(of_b, a, b))


def walks(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Responses (factors + 1, samples) and permutations."""
    a, b = rng.uniform(-np.pi, np.pi, (2, n, 3))
    permutation = rng.permuted(np.tile(np.arange(3), (n, 1)), axis=1)
    step_of = np.argsort(permutation, axis=1)
    return np.stack([ishigami(np.where(step_of < k, b, a)) for k in range(4)]), permutation


def shown(signal: np.ndarray, n_repeats: int, n_units: int, noise: float, rng: np.random.Generator) -> np.ndarray:
    """Repetitions of a response with noise: (..., repetitions, samples, units)."""
    signal = signal[..., None, :, None]
    return signal + noise * rng.normal(size=(*signal.shape[:-3], n_repeats, signal.shape[-2], n_units))


def estimated(
    design: tuple, n_repeats: int, n_units: int, noise: float, rng: np.random.Generator
) -> ExplainableIndices:
    return explainable_indices(*(shown(row, n_repeats, n_units, noise, rng) for row in design))


def test_without_noise_they_are_the_plain_estimators(rng: np.random.Generator) -> None:
    a, b, e, c = design = rows(200, rng)
    found = estimated(design, 2, 1, 0, rng)
    p, q = e - a, c - b
    variance = ((a - b) ** 2 + ((e - c) ** 2).sum(0)).mean() / 8
    assert found.variance == pytest.approx(variance)
    assert found.first_order.value[:, 0] == pytest.approx(-0.5 * (p * q).mean(1) / variance)
    assert found.total_order.value[:, 0] == pytest.approx(0.25 * (p**2 + q**2).mean(1) / variance)
    for i, j in itertools.permutations(range(3), 2):
        assert found.second_order.value[i, j] == pytest.approx(0.5 * (p[i] * q[j] + p[j] * q[i]).mean() / variance)
        assert found.total_interaction.value[i, j] == pytest.approx(0.5 * (p[i] * p[j] + q[i] * q[j]).mean() / variance)
    assert found.noise == pytest.approx(0)
    assert found.explainable == pytest.approx(1)
    steps, permutation = walks(200, rng)
    by_walk = explainable_shapley(shown(steps, 2, 1, 0, rng), permutation)
    expected = np.zeros(3)
    for k in range(3):
        term = 0.5 * (steps[0] - steps[3]) * (steps[k] - steps[k + 1])
        np.add.at(expected, permutation[:, k], term / 200)
    assert by_walk.shapley_effect.value[:, 0] == pytest.approx(expected / expected.sum())


@pytest.mark.parametrize("n_repeats", [2, 3])
def test_noise_adds_no_bias(n_repeats: int, rng: np.random.Generator) -> None:
    """Over many units with noise of their own, sums come to those of the same rows without noise."""
    design, noise = rows(100, rng), 6.0
    clean = estimated(design, 2, 1, 0, rng)
    found = estimated(design, n_repeats, 4000, noise, rng)
    assert found.variance.mean() == pytest.approx(clean.variance.item(), rel=0.01)
    for name in ("first_order", "total_order", "second_order", "total_interaction"):
        sums = (getattr(found, name).value * found.variance).mean(-1) / found.variance.mean()
        assert sums == pytest.approx(getattr(clean, name).value[..., 0], abs=0.02, nan_ok=True)
    assert found.noise.mean() == pytest.approx(noise**2, rel=0.01)
    assert found.explainable.mean() == pytest.approx(clean.variance.item() / (clean.variance.item() + 36), abs=0.01)
    steps, permutation = walks(100, rng)
    exact = explainable_shapley(shown(steps, 2, 1, 0, rng), permutation)
    by_walk = explainable_shapley(shown(steps, n_repeats, 4000, noise, rng), permutation)
    known = by_walk.variance > 0
    assert by_walk.shapley_effect.value[:, known].sum(0) == pytest.approx(1)
    sums = np.nanmean(by_walk.shapley_effect.value * by_walk.variance, axis=1) / by_walk.variance[known].mean()
    assert sums == pytest.approx(exact.shapley_effect.value[:, 0], abs=0.02)


def test_exact_indices_are_covered(rng: np.random.Generator) -> None:
    """At a noise of the signal's own variance; and plain squares would be far off."""
    noise = np.sqrt(VARIANCE)
    n, inside, inside_walk = 400, [], []
    for _ in range(40):
        design = rows(n, rng)
        found = estimated(design, 2, 5, noise, rng)
        steps, permutation = walks(n, rng)
        by_walk = explainable_shapley(shown(steps, 2, 5, noise, rng), permutation)
        for estimate, exact in ((found.first_order, FIRST), (found.total_order, TOTAL)):
            inside.append(np.abs(estimate.value - exact[:, None]) < 1.96 * estimate.se)
        inside_walk.append(np.abs(by_walk.shapley_effect.value - SHAPLEY[:, None]) < 1.96 * by_walk.shapley_effect.se)
    assert np.mean(inside) == pytest.approx(0.95, abs=0.03)
    assert np.mean(inside_walk) == pytest.approx(0.95, abs=0.04)
    assert found.explainable == pytest.approx(0.5, abs=0.08)
    a, b, e, c = (shown(row, 1, 5, noise, rng)[..., 0, :, :] for row in rows(4000, rng))
    plain = 0.25 * ((e - a) ** 2 + (c - b) ** 2).mean(1) / (0.5 * ((a - b) ** 2).mean(0))
    assert (plain - TOTAL[:, None]).max() > 0.2


def test_of_one_factor_the_first_order_is_all_of_the_variance_and_no_noise(rng: np.random.Generator) -> None:
    a, b = rng.normal(size=(2, 4000))
    noisy = [shown(row, 2, 30, 1.0, rng) for row in (a, b)]
    found = explainable_indices(noisy[0], noisy[1], noisy[1][None], noisy[0][None])
    for estimate in (found.first_order, found.total_order):
        np.testing.assert_allclose(estimate.value.mean(), 1, atol=0.02)


def test_blocks_widen_errors_where_samples_go_together(rng: np.random.Generator) -> None:
    design = tuple(np.repeat(row, 4, axis=-1) for row in rows(50, rng))
    given = [shown(row, 2, 1, 1, rng) for row in design]
    alone, together = explainable_indices(*given), explainable_indices(*given, block=np.arange(200) // 4)
    assert np.array_equal(alone.first_order.value, together.first_order.value)
    assert (together.total_order.se > 1.5 * alone.total_order.se).all()


def test_noise_alone_is_undefined_and_one_repetition_refused(rng: np.random.Generator) -> None:
    silent = tuple(np.zeros_like(row) for row in rows(50, rng))
    found = estimated(silent, 2, 40, 1, rng)
    assert 0 < (found.variance <= 0).sum() < 40
    assert np.isnan(found.first_order.value[:, found.variance <= 0]).all()
    assert np.isnan(found.total_order.se[:, found.variance <= 0]).all()
    with pytest.raises(ValueError, match="at least twice, received 1"):
        estimated(silent, 1, 1, 1, rng)
    with pytest.raises(ValueError, match="free of noise"):
        explainable_shapley(np.zeros((4, 1, 5, 2)), np.zeros((5, 3), int))
