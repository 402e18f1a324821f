"""Hues that were planted, around the circle, and the rule of one hue or two."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, special, stats

from neuroprobe.statistics import hue_modes as module
from neuroprobe.statistics.hue_modes import angle_between, axis_name, concentration_of, hue_modes, hue_name, hue_of

SIDE = 24


def rgb_of(hue: np.ndarray, chroma: float = 0.3, mean: float = 0.5) -> np.ndarray:
    """RGB with a hue in degrees and a chroma, at O1 of a grey."""
    second, third = chroma * np.cos(np.radians(hue)), chroma * np.sin(np.radians(hue))
    blue = mean - 2 * third / 3
    red_green = 3 * mean - blue
    return np.stack([(red_green + second) / 2, (red_green - second) / 2, blue], -1)


def patch(hues: np.ndarray, **options: float) -> np.ndarray:
    return rgb_of(np.resize(hues, SIDE * SIDE), **options).reshape(1, SIDE, SIDE, 3)


def noisy(rng: np.random.Generator, hues: list[float], shares: list[float], kappa: float = 30) -> np.ndarray:
    n = SIDE * SIDE
    of = np.repeat(np.arange(len(hues)), np.round(np.array(shares) * n).astype(int))[:n]
    return patch(np.asarray(hues)[of] + np.degrees(rng.vonmises(0, kappa, len(of))))


def covered(feature: np.ndarray) -> np.ndarray:
    return np.ones(feature.shape[:-1])


def test_corners_of_the_cube() -> None:
    corners = [[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 1]]
    np.testing.assert_allclose(hue_of(corners), [26.565, 90, 153.435, 206.565, 270, 333.435], atol=1e-3)
    named = [hue_name(hue) for hue in hue_of(corners)]
    assert named == ["red", "yellow", "green", "cyan", "blue", "magenta"]


@given(st.floats(0, 360), st.floats(1, 100), st.integers(0, 10**6))
def test_one_hue(hue: float, kappa: float, seed: int) -> None:
    feature = noisy(np.random.default_rng(seed), [hue], [1.0], kappa)
    found = hue_modes(feature, covered(feature))
    assert found.modes[0] == 1
    # the error of a mean direction, 5 times
    assert angle_between(found.hues[0, 0], hue) < np.degrees(5 / np.sqrt(SIDE * SIDE * min(kappa, 10) / 2))
    assert np.isnan([found.hues[0, 1], found.weights[0, 1], found.concentrations[0, 1]]).all()
    assert found.opponent[0] == 0


@given(st.floats(0, 360), st.floats(70, 180), st.floats(0.3, 0.49), st.integers(0, 10**6))
def test_two_hues(hue: float, distance: float, share: float, seed: int) -> None:
    feature = noisy(np.random.default_rng(seed), [hue, hue + distance], [1 - share, share])
    found = hue_modes(feature, covered(feature))
    assert found.modes[0] == 2
    assert angle_between(found.hues[0], [hue, hue + distance]).max() < 5
    np.testing.assert_allclose(found.weights[0], [1 - share, share], atol=0.04)
    np.testing.assert_allclose(found.concentrations[0], 30, rtol=0.5)
    assert found.weights.sum() == pytest.approx(1)
    if abs(distance - 135) > 6:
        assert found.opponent[0] == (distance > 135)


def test_hues_on_both_sides_of_0() -> None:
    feature = np.concatenate([patch(np.array([355.0, 5.0])), patch(np.array([358.0, 2.0, 178.0, 182.0]))])
    found = hue_modes(feature, covered(feature))
    assert found.modes.tolist() == [1, 2]
    assert angle_between(found.hues[0, 0], 0) < 0.1
    assert angle_between(np.sort(found.hues[1]), [0, 180]).max() < 0.1 or angle_between(found.hues[1].max(), 0) < 0.1
    assert 0 <= found.hues[0, 0] < 360


def test_a_small_second_hue_leaves_the_first_as_it_is() -> None:
    feature = noisy(np.random.default_rng(0), [30.0, 150.0], [0.85, 0.15])
    found = hue_modes(feature, covered(feature))
    assert found.modes[0] == 1
    assert angle_between(found.hues[0, 0], 30) < 2  # the mean of all is at 38
    assert found.weights[0, 0] == pytest.approx(0.85, abs=0.03)
    assert hue_modes(feature, covered(feature), least=0.1).modes[0] == 2


def test_a_broad_hump_is_one_hue() -> None:
    """Hues spread evenly over 80 degrees are two modes to the BIC, 40 degrees from each other."""
    feature = patch(np.linspace(60, 140, SIDE * SIDE))
    found = hue_modes(feature, covered(feature))
    assert found.modes[0] == 1
    assert found.hues[0, 0] == pytest.approx(100, abs=0.5)
    assert found.weights[0, 0] == 1
    assert hue_modes(feature, covered(feature), apart=0).modes[0] == 2


def test_pixels_count_by_chroma_and_coverage() -> None:
    feature = np.stack([rgb_of(np.array([30.0, 210.0])), rgb_of(np.array([30.0, 210.0]))])[:, None]
    feature[1, 0, 1] = rgb_of(np.array(210.0), chroma=0.15)
    coverage = np.array([[[1.0, 0.5]], [[1.0, 1.0]]])
    found = hue_modes(feature, coverage)
    np.testing.assert_allclose(found.weights, [[2 / 3, 1 / 3]] * 2, atol=1e-3)
    np.testing.assert_allclose(found.chroma, [0.3, 0.225])


def test_what_has_no_hue() -> None:
    grey = np.full((1, SIDE, SIDE, 3), 0.4)
    weak = patch(np.array([40.0]), chroma=0.09)
    dark = patch(np.array([40.0]), chroma=0.02, mean=0.02)
    dead = np.full((1, SIDE, SIDE, 3), np.nan)
    feature = np.concatenate([grey, weak, dark, dead])
    coverage = covered(feature)
    coverage[3] = np.nan
    found = hue_modes(feature, coverage)
    assert found.modes.tolist() == [0, 0, 0, 0]
    assert np.isnan(found.hues).all()
    np.testing.assert_allclose(found.chroma, [0, 0.09, 0.02, np.nan], atol=1e-9)
    assert hue_modes(feature, coverage, least_chroma=0.05).modes.tolist() == [0, 1, 0, 0]
    assert hue_modes(feature, coverage, least_chroma=0.01).modes.tolist() == [0, 1, 0, 0]  # |O1| of the dark one is .96
    assert hue_modes(feature, coverage, least_chroma=0.01, most_light=1).modes.tolist() == [0, 1, 1, 0]


def test_units_do_not_affect_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    feature = rng.random((7, 5, 4, 3))
    feature[2] = np.nan
    coverage = rng.random((7, 5, 4))
    together = hue_modes(feature, coverage)
    monkeypatch.setattr(module, "N_PIXELS", 60)
    parts = hue_modes(feature, coverage)
    for name, array in vars(together).items():
        np.testing.assert_allclose(getattr(parts, name), array, atol=1e-3)
    assert hue_modes(feature[:0], coverage[:0]).modes.shape == (0,)


def test_no_better_fit_of_two_modes_is_found_by_another_way() -> None:
    """An optimiser from many random starts finds no more likely mixture."""
    rng = np.random.default_rng(5)
    feature = noisy(rng, [20.0, 120.0], [0.6, 0.4], kappa=6)
    found = hue_modes(feature, covered(feature))
    _, second, third = module.opponent_axes(feature.reshape(-1, 3))
    angle = np.arctan2(third, second)

    def loss(p: np.ndarray) -> float:
        share, kappa = special.expit(p[0]), np.exp(p[3:])
        density = [stats.vonmises.pdf(angle, k, loc=m) for k, m in zip(kappa, p[1:3], strict=True)]
        return -float(np.log(share * density[0] + (1 - share) * density[1]).mean())

    own = [special.logit(found.weights[0, 0]), *np.radians(found.hues[0]), *np.log(found.concentrations[0])]
    others = [
        optimize.minimize(loss, [0, *rng.uniform(-np.pi, np.pi, 2), 1, 1], method="Nelder-Mead").fun for _ in range(5)
    ]
    assert loss(np.array(own)) <= min(others) + 1e-3


def test_concentration() -> None:
    kappa = np.array([0.0, 0.01, 0.5, 2.0, 20.0, 150.0])
    np.testing.assert_allclose(concentration_of(special.i1e(kappa) / special.i0e(kappa)), kappa, rtol=1e-4, atol=1e-9)
    assert concentration_of(1 - 1e-9) == module.MOST_CONCENTRATION


@pytest.mark.parametrize("axis", module.AXES)
def test_axes(axis: str) -> None:
    first, second = (float(hue_of(module.HUES[end])) for end in axis.split("-"))
    assert axis_name(first, second) == axis_name(second + 15, first - 10) == axis
    assert axis_name(first, first + 100) == axis_name(first, float("nan")) == ""
