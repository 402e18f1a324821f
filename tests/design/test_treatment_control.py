"""Treatment-control designs: one alteration at a time, by draws that are functions of image, alteration and number."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from neuroprobe.design.factors import Factor, Input
from neuroprobe.design.laws import Law
from neuroprobe.design.pick_freeze import Presentations
from neuroprobe.design.randomness import uniforms
from neuroprobe.design.treatment_control import TreatmentControl

HUE = Factor("hue", (Input("hue_shift", Law("uniform", (-0.5, 0.5))),))
FLIP = Factor("hflip", ())
SHARPNESS = Factor("sharpness", (Input("sharpness_factor", Law("constant", (1.5,))),))
NOISE = Factor("noise", (Input("noise_sd", Law("constant", (0.1,))),))
TURN = Factor("turn", (Input("turn_angle", Law("choice", (0, 90))), Input("turn_zoom", Law("constant", (1,)))))
DESIGN = TreatmentControl((HUE, FLIP, SHARPNESS, NOISE, TURN), seed=3, n_images=50, draws=4, random=("noise",))


def everything(shown: Presentations) -> dict[str, np.ndarray]:
    return {**shown.values, "image": shown.image, "key": shown.key, "source": shown.source, "sample": shown.sample}


def test_rows() -> None:
    assert DESIGN.n_rows == 21
    assert DESIGN.roles[:6] == ("control", "hue_0", "hue_1", "hue_2", "hue_3", "hflip_0")
    assert len(set(DESIGN.roles)) == 21
    shown = DESIGN.presentations(0, 50)
    # every image once, in an order of chance
    np.testing.assert_array_equal(np.sort(shown.image, axis=0), np.arange(50)[:, None].repeat(21, 1))
    assert (shown.image[:, 0] != np.arange(50)).any()
    assert {value.shape for name, value in everything(shown).items() if name != "sample"} == {(50, 21)}


def test_one_alteration_is_on_in_a_row_and_none_in_the_control() -> None:
    shown = DESIGN.presentations(5, 9)
    for row, role in enumerate(shown.roles):
        on = [factor.name for factor in DESIGN.factors if shown.values[f"{factor.name}_on"][:, row].all()]
        off = [factor.name for factor in DESIGN.factors if not shown.values[f"{factor.name}_on"][:, row].any()]
        assert on == [name for name in [role.rpartition("_")[0]] if name]
        assert len(on) + len(off) == 5


def test_parameters_follow_their_laws_independently() -> None:
    shown = replace(DESIGN, n_images=4000).presentations(0, 4000)
    drawn = shown.values["hue_shift"][:, 1:5]
    assert stats.kstest(drawn.ravel(), stats.uniform(-0.5, 1).cdf).pvalue > 1e-4
    # 4000 pairs: a correlation has a standard error of .016
    assert np.abs(np.corrcoef(drawn.T) - np.eye(4)).max() < 0.08
    assert set(shown.values["turn_angle"][:, 17:].ravel()) == {0, 90}
    assert (shown.values["hue_shift"][:, 5:] == shown.values["hue_shift"][:, :1]).all()


@pytest.mark.parametrize(
    ("factor", "expected"),
    [("hue", [0, 1, 2, 3]), ("hflip", [0, 0, 0, 0]), ("sharpness", [0, 0, 0, 0]), ("noise", [0, 1, 2, 3])],
)
def test_draws_that_show_the_same_are_run_once(factor: str, expected: list[int]) -> None:
    shown = DESIGN.presentations(0, 3)
    first = shown.roles.index(f"{factor}_0")
    np.testing.assert_array_equal(shown.source[:, first : first + 4], first + np.tile(expected, (3, 1)))


def test_a_choice_is_run_once_for_each_value_that_is_drawn() -> None:
    shown = DESIGN.presentations(0, 50)
    angle, source = shown.values["turn_angle"][:, 17:], shown.source[:, 17:] - 17
    for image in range(50):
        assert source[image].tolist() == [angle[image].tolist().index(one) for one in angle[image]]
    assert not shown.is_run[:, 17:].all()


@given(st.integers(0, 60), st.integers(0, 60))
def test_any_range_by_itself(one: int, other: int) -> None:
    start, stop = sorted((one, other))
    part, whole = DESIGN.presentations(start, stop), DESIGN.presentations(0, 50)
    for name, values in everything(part).items():
        np.testing.assert_array_equal(values, everything(whole)[name][start:stop])


def test_more_draws_images_or_alterations_leave_the_others_as_they_are() -> None:
    small = TreatmentControl((HUE, NOISE), seed=3, n_images=10, draws=2).presentations(0, 10)
    large = DESIGN.presentations(0, 50)
    rows = [large.roles.index(role) for role in small.roles]
    # the same images, wherever they come
    place = np.ix_(np.argsort(large.image[:, 0])[small.image[:, 0]], rows)
    np.testing.assert_array_equal(small.image, large.image[place])
    np.testing.assert_array_equal(small.key, large.key[place])
    for name, value in small.values.items():
        np.testing.assert_array_equal(value, large.values[name][place])


def test_every_row_has_a_key_of_its_own_and_every_seed_other_draws() -> None:
    shown, other = DESIGN.presentations(0, 50), replace(DESIGN, seed=0).presentations(0, 50)
    assert len(np.unique(shown.key)) == shown.key.size
    assert not np.intersect1d(shown.key, other.key).size
    assert not np.intersect1d(shown.values["hue_shift"][:, 1:5], other.values["hue_shift"][:, 1:5]).size


def test_uniform_numbers_lie_inside() -> None:
    u = uniforms(0, "test", np.arange(100_000))
    assert 0 < u.min() < 1e-4 < 1 - 1e-4 < u.max() < 1
    assert stats.kstest(u, "uniform").pvalue > 1e-4
