from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import qmc

from neuroprobe import names
from neuroprobe.design.dependence import GaussianCopula
from neuroprobe.design.factors import Factor, Input
from neuroprobe.design.laws import Law
from neuroprobe.design.pick_freeze import ImageGroups, PickFreeze, block_length, is_power_of_two
from neuroprobe.design.randomness import generator

UNIFORM = Law("uniform", (0, 1))
SWITCH = Law("bernoulli", (0.5,))

HUE = Factor("hue", (Input("hue_on", SWITCH), Input("hue_shift", Law("uniform", (-0.5, 0.5)))), switched=True)
GRAY = Factor("gray", (Input("gray_on", SWITCH),), switched=True)
BLUR = Factor("blur", (Input("blur_sigma", Law("loguniform", (0.1, 2))),))
NOISE = Factor(
    "noise",
    (
        Input("noise_kind", Law("choice", (0, 1, 2))),
        Input("noise_level", Law("constant", (0.3,))),
        Input("noise_steps", Law("integers", (1, 2))),
    ),
)
FACTORS = (HUE, GRAY, BLUR, NOISE)


def image_factor(n_images):
    return Factor(names.IMAGE, (Input(names.IMAGE, Law("integers", (0, n_images - 1))),))


def uniform_factors(d):
    return tuple(Factor(f"f{i}", (Input(f"f{i}_x", UNIFORM),)) for i in range(d))


def design_of(factors=FACTORS, **options):
    return PickFreeze(**{"factors": factors, "seed": 5, "n_images": 7, **options})


DESIGNS = {
    "one sequence": design_of(),
    "scrambles of 16": design_of(scramble=16),
    "d + 2 rows": design_of(scramble=16, second_order=False),
    "image factor": design_of((*FACTORS, image_factor(7)), scramble=32),
    "redrawn images": design_of(scramble=16, redrawn=True),
    "groups of images": design_of(scramble=16, n_images=70, groups=ImageGroups(16, 64)),
    "one factor": design_of((HUE,), scramble=16),
    "all subsets": design_of(scramble=16, subsets=True),
}
LINKED = GaussianCopula.of_pairs({("hue_shift", "blur_sigma"): 0.6, ("noise_kind", "gray_on"): -0.5})
WALKS = {
    "walks": design_of(scramble=16, walks=True),
    "dependent factors": design_of(scramble=16, single=False, walks=True, copula=LINKED),
}
each_design = pytest.mark.parametrize("design", (DESIGNS | WALKS).values(), ids=DESIGNS | WALKS)


def assert_same(first, second):
    assert first.roles == second.roles
    for field in fields(first):
        if field.name == "values":
            assert list(first.values) == list(second.values)
            for name, value in first.values.items():
                np.testing.assert_array_equal(value, second.values[name], err_msg=name)
        elif field.name != "roles":
            np.testing.assert_array_equal(getattr(first, field.name), getattr(second, field.name), err_msg=field.name)


def cut(whole, part):
    values = {name: value[part] for name, value in whole.values.items()}
    others = {field.name: getattr(whole, field.name) for field in fields(whole)}
    kept = {name: array[part] for name, array in others.items() if isinstance(array, np.ndarray)}
    return replace(whole, values=values, **kept)


def effective(design, shown, sample, row):
    """What a row shows, in full: the slow oracle of `source`."""
    seen = [int(shown.image[sample, row])]
    for factor in design.factors:
        values = [float(shown.values[item.name][sample, row]) for item in factor.inputs]
        seen.append("off" if factor.switched and values[0] == 0 else tuple(values))
    return tuple(seen)


# ranges


@each_design
@settings(deadline=None, max_examples=25)
@given(st.integers(0, 127), st.integers(1, 128))
@example(0, 3)
def test_any_range_is_the_same_slice_of_the_whole(design, start, length):
    stop = min(start + length, 128)
    whole = design.presentations(0, 128)
    assert_same(design.presentations(start, stop), cut(whole, slice(start, stop)))


@each_design
def test_a_longer_run_begins_with_the_shorter_one(design):
    assert_same(design.presentations(0, 512), cut(design.presentations(0, 1024), slice(512)))


@each_design
def test_a_design_has_no_state(design):
    first = design.presentations(64, 128)
    design.presentations(0, 32)
    assert_same(design.presentations(64, 128), first)


# the points


@pytest.mark.parametrize("second_order", [True, False])
def test_a_and_b_are_one_sequence_of_2p_dimensions(second_order):
    design = PickFreeze(uniform_factors(3), seed=2, n_images=1, second_order=second_order)
    shown = design.presentations(0, 64)
    points = qmc.Sobol(6, scramble=True, rng=generator(2, "scramble", 0)).random(64) + 2.0**-31
    for row, half in ((0, points[:, :3]), (1, points[:, 3:])):
        np.testing.assert_array_equal(np.stack([shown.values[f"f{i}_x"][:, row] for i in range(3)], 1), half)


def test_each_scramble_is_a_sequence_of_its_own():
    design = PickFreeze(uniform_factors(2), seed=2, n_images=1, scramble=16)
    shown = design.presentations(0, 64)
    runs = [qmc.Sobol(4, scramble=True, rng=generator(2, "scramble", run)).random(16) for run in range(4)]
    points = np.concatenate(runs) + 2.0**-31
    np.testing.assert_array_equal(shown.values["f1_x"][:, 0], points[:, 1])
    np.testing.assert_array_equal(shown.values["f1_x"][:, 1], points[:, 3])
    # every run of 16 is balanced by itself: one point in each sixteenth of each axis
    for run in np.split(np.sort((shown.values["f0_x"][:, 1] * 16).astype(int).reshape(4, 16)), 4):
        np.testing.assert_array_equal(run[0], np.arange(16))


def test_constant_inputs_take_no_dimension():
    with_constant = Factor("a", (Input("a_c", Law("constant", (4,))), Input("a_x", UNIFORM)))
    design = PickFreeze((with_constant, *uniform_factors(1)), seed=0, n_images=1, scramble=16)
    plain = PickFreeze((Factor("a", (Input("a_x", UNIFORM),)), *uniform_factors(1)), seed=0, n_images=1, scramble=16)
    shown, expected = design.presentations(0, 16).values, plain.presentations(0, 16).values
    np.testing.assert_array_equal(shown["a_c"], 4)
    for name, value in expected.items():
        np.testing.assert_array_equal(shown[name], value)


@pytest.mark.parametrize(
    "law", [Law("normal", (2, 0)), Law("truncated_normal", (0, 1, 2, 2)), Law("beta", (1, 2, 2, 2))]
)
def test_an_input_whose_law_has_one_value_shows_that_value(law):
    factor = Factor("a", (Input("a_x", UNIFORM), Input("a_c", law)))
    shown = PickFreeze((factor,), seed=0, n_images=1, scramble=16).presentations(0, 16)
    np.testing.assert_array_equal(shown.values["a_c"], 2)


@pytest.mark.parametrize("scramble", [None, 64])
def test_points_lie_strictly_within_0_and_1(scramble):
    for seed in range(8):
        shown = PickFreeze(uniform_factors(4), seed=seed, n_images=1, scramble=scramble).presentations(0, 1024)
        steps = np.stack(list(shown.values.values())) * 2.0**31
        # odd multiples of half a step: neither 0 nor 1 can come up, whatever the seed
        np.testing.assert_array_equal(steps % 2, 1)
        assert steps.min() > 0
        assert steps.max() < 2.0**31


def test_normal_inputs_are_finite():
    factors = (Factor("a", (Input("a_x", Law("normal", (0, 1))),)), *uniform_factors(1))
    values = PickFreeze(factors, seed=0, n_images=1, scramble=4096).presentations(0, 4096).values["a_x"]
    assert np.isfinite(values).all()
    assert values[:, :2].std() == pytest.approx(1, rel=0.02)


@each_design
def test_seed_0_is_a_seed(design):
    zero, again, one = (replace(design, seed=seed).presentations(0, 32) for seed in (0, 0, 1))
    assert_same(zero, again)
    assert not np.intersect1d(zero.key, one.key).size
    assert (zero.image != one.image).any()
    # of a switch, a run of points has few patterns: other seeds may well give the same
    for name in {"hue_shift", "blur_sigma"} & set(zero.values):
        assert (zero.values[name] != one.values[name]).all(), name


# the rows


@pytest.mark.parametrize("d", [1, 2, 5])
@pytest.mark.parametrize("second_order", [True, False])
def test_rows_and_roles(d, second_order):
    design = PickFreeze(uniform_factors(d), seed=0, n_images=1, second_order=second_order, scramble=16)
    assert design.n_rows == (2 * d + 2 if second_order else d + 2)
    labels = [f"f{i}" for i in range(d)]
    expected = ["A", "B", *(f"A_{label}" for label in labels)]
    expected += [f"B_{label}" for label in labels] if second_order else []
    shown = design.presentations(16, 32)
    assert list(design.roles) == list(shown.roles) == expected
    assert list(shown.sample) == list(range(16, 32))
    for array in (shown.image, shown.source, *shown.values.values()):
        assert array.shape == (16, design.n_rows)
    assert tuple(factor.name for factor in design.factors) == tuple(labels)


@pytest.mark.parametrize("design", DESIGNS.values(), ids=DESIGNS)
def test_swapped_rows_take_exactly_one_factor_from_the_other_point(design):
    shown = design.presentations(0, 32)
    d = len(design.factors)
    for owner, factor in enumerate(design.factors):
        for item in factor.inputs:
            value = shown.values[item.name]
            a, b = value[:, 0], value[:, 1]
            for swapped in range(d):
                np.testing.assert_array_equal(value[:, 2 + swapped], b if swapped == owner else a)
                if design.second_order:
                    np.testing.assert_array_equal(value[:, 2 + d + swapped], a if swapped == owner else b)


# rows that are not run again


@each_design
def test_source_is_the_first_row_that_shows_the_same(design):
    shown = design.presentations(0, 128)
    n_reused = 0
    for sample in range(128):
        seen = [effective(design, shown, sample, row) for row in range(design.n_rows)]
        # a redrawn row has a response of its own, even where the same image comes up twice
        expected = list(range(design.n_rows)) if design.redrawn else [seen.index(each) for each in seen]
        assert shown.source[sample].tolist() == expected
        n_reused += sum(source != row for row, source in enumerate(expected))
    np.testing.assert_array_equal(shown.is_run.sum(), 128 * design.n_rows - n_reused)
    assert shown.is_run[:, 0].all()
    assert (n_reused > 0) != design.redrawn


@pytest.mark.parametrize("p", [0.5, 0.2])
def test_share_of_reused_rows(p):
    # a bare switch is the same at both points with p² + (1 − p)²; one with parameters only where it is off at both
    on = Law("bernoulli", (p,))
    bare = Factor("bare", (Input("bare_on", on),), switched=True)
    full = Factor("full", (Input("full_on", on), Input("full_x", UNIFORM)), switched=True)
    design = PickFreeze((bare, full, *uniform_factors(1)), seed=0, n_images=1, scramble=1024)
    shown = design.presentations(0, 1024)
    row = {role: index for index, role in enumerate(design.roles)}
    for end, origin in (("A", 0), ("B", 1)):
        bare_reused = shown.source[:, row[f"{end}_bare"]] == origin
        full_reused = shown.source[:, row[f"{end}_full"]] == origin
        assert bare_reused.mean() == pytest.approx(p**2 + (1 - p) ** 2, abs=0.02)
        assert full_reused.mean() == pytest.approx((1 - p) ** 2, abs=0.02)
        assert (shown.source[:, row[f"{end}_f0"]] != origin).all()


def test_one_factor_makes_its_swapped_rows_the_other_point():
    shown = PickFreeze(uniform_factors(1), seed=0, n_images=1, scramble=16).presentations(0, 16)
    np.testing.assert_array_equal(shown.source, [[0, 1, 1, 0]] * 16)


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ((0, 0.1), (0, 0.2), True),
        ((1, 0.1), (1, 0.1), True),
        ((1, 0.1), (1, 0.2), False),
        ((0, 0.1), (1, 0.1), False),
        ((1, 0.1), (0, 0.1), False),
    ],
)
def test_effective_value_of_a_switched_factor(a, b, same):
    first, second = (dict(zip(("hue_on", "hue_shift"), np.array(point)[:, None], strict=True)) for point in (a, b))
    assert HUE.same(first, second).tolist() == [same]


def test_the_parameter_of_an_unswitched_factor_counts_where_it_is_zero():
    first, second = ({"blur_sigma": np.array([value, 0.0])} for value in (0.0, 1.0))
    assert BLUR.same(first, second).tolist() == [False, True]


# images and keys


@pytest.mark.parametrize("n_images", [1, 3, 7, 300])
def test_frozen_images_are_balanced_over_samples(n_images):
    shown = design_of(n_images=n_images, scramble=64).presentations(0, 256)
    assert (shown.image == shown.image[:, :1]).all()
    counts = np.bincount(shown.image[:, 0], minlength=n_images)
    assert len(counts) == n_images
    assert counts.max() - counts.min() <= 1


def test_frozen_images_come_in_an_order_of_the_seed():
    orders = [tuple(design_of(seed=seed, n_images=64, scramble=64).presentations(0, 64).image[:, 0]) for seed in (0, 1)]
    assert orders[0] != orders[1]
    assert tuple(range(64)) not in orders


@pytest.mark.parametrize(("n_images", "block", "n_groups"), [(64, 64, 16), (100, 64, 8), (7, 32, 7), (300, 16, 4)])
def test_each_block_shows_images_of_its_own(n_images, block, n_groups):
    design = design_of(n_images=n_images, scramble=block, groups=ImageGroups(block, n_groups))
    shown = design.presentations(0, block * n_groups).image
    assert (shown == shown[:, :1]).all()
    blocks = shown[:, 0].reshape(n_groups, block)
    groups = [set(row.tolist()) for row in blocks]
    assert sum(map(len, groups)) == len(set.union(*groups)) == min(n_images, sum(map(len, groups)))
    for row, group in zip(blocks, groups, strict=True):
        counts = np.unique(row, return_counts=True)[1]
        assert counts.max() - counts.min() <= 1
        assert abs(len(group) - min(block, n_images / n_groups)) < 1
    np.testing.assert_array_equal(design.presentations(block + 3, 2 * block).image, shown[block + 3 : 2 * block])


def test_image_factor_is_swapped_like_the_others():
    design = design_of((HUE, image_factor(4)), n_images=4, scramble=64)
    shown = design.presentations(0, 64)
    assert design.roles == ("A", "B", "A_hue", "A_image", "B_hue", "B_image")
    image = shown.image
    np.testing.assert_array_equal(image, shown.values[names.IMAGE])
    np.testing.assert_array_equal(image[:, [2, 5]], image[:, [0, 0]])
    np.testing.assert_array_equal(image[:, [3, 4]], image[:, [1, 1]])
    # a power of two of images over a run of 64 points: exactly balanced
    for row in (0, 1):
        np.testing.assert_array_equal(np.bincount(image[:, row]), [16] * 4)


def test_redrawn_images_are_drawn_for_every_row():
    shown = design_of(n_images=1000, scramble=16, redrawn=True).presentations(0, 64)
    assert shown.is_run.all()
    assert shown.image.min() >= 0
    assert shown.image.max() < 1000
    # 640 independent draws out of 1000 give 473 ± 10 different ones
    assert shown.image.size == 640
    assert len(np.unique(shown.image)) == pytest.approx(473, abs=40)


def test_keys_belong_to_base_samples():
    shown = design_of(scramble=16).presentations(0, 256)
    assert shown.key.shape == shown.image.shape
    assert (shown.key == shown.key[:, :1]).all()
    assert len(np.unique(shown.key)) == 256
    # the same stimuli are altered by the same noise, however the rows are scrambled and swapped
    other = design_of(scramble=64, second_order=False).presentations(0, 256)
    np.testing.assert_array_equal(shown.key[:, 0], other.key[:, 0])


# sizes


@pytest.mark.parametrize(
    ("samples", "scramble", "expected"),
    [
        (1024, "auto", (64, 64)),
        (2048, "auto", (128, 128)),
        (16384, "auto", (1024, 1024)),
        (3000, "auto", (128, 128)),
        (128, "auto", (64, 64)),
        (100, "auto", (32, 32)),
        (4, "auto", (2, 2)),
        (1024, "whole", (64, None)),
        (16384, "whole", (64, None)),
        (64, "whole", (32, None)),
        (1024, 256, (256, 256)),
    ],
)
def test_block_length(samples, scramble, expected):
    assert block_length(samples, scramble) == expected


@given(st.integers(4, 10**6), st.sampled_from(["auto", "whole"]))
def test_there_are_always_two_blocks_of_a_power_of_two(samples, scramble):
    block, run = block_length(samples, scramble)
    assert is_power_of_two(block)
    assert 2 * block <= samples
    assert run in {None, block}
    assert (run is None) == (scramble == "whole")


@given(st.integers(-10, 5000))
def test_is_power_of_two(number):
    assert is_power_of_two(number) == (number in {2**k for k in range(13)})


@pytest.mark.parametrize("n_images", [64, 60])
def test_an_image_is_not_tied_to_a_stretch_of_the_sequence(n_images):
    """Over many cycles every image is shown with values of the first input from all of its range."""
    design = PickFreeze((Factor("x", (Input("x", Law("uniform", (0, 1))),)),), 0, n_images)
    rows = design.presentations(0, 64 * 64)
    image, x = rows.image[:, 0], rows.values["x"][:, 0]
    spread = np.array([x[image == one].std() for one in range(n_images)])
    assert spread.min() > 0.8 * np.sqrt(1 / 12)
    assert set(np.bincount(image)) <= {64 * 64 // n_images, 64 * 64 // n_images + 1}
