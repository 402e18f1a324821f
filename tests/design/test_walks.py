"""Walks from A to B, by themselves and beside the rows of Sobol indices."""

import itertools

import numpy as np
import pytest

from neuroprobe.design.factors import Factor, Input
from neuroprobe.design.laws import Law
from neuroprobe.design.pick_freeze import PickFreeze

UNIFORM = Law("uniform", (0, 1))


def design_of(d: int, *, single: bool = True, second_order: bool = True, **options) -> PickFreeze:
    factors = tuple(Factor(f"f{i}", (Input(f"f{i}", UNIFORM),)) for i in range(d))
    return PickFreeze(factors, 3, 5, second_order, 64, single=single, walks=True, **options)


@pytest.mark.parametrize(
    ("d", "single", "second_order", "expected"),
    [
        (6, False, True, 7),
        (6, True, True, 17),  # 3d − 1
        (6, True, False, 12),  # 2d
        (5, True, True, 14),
        (4, True, True, 11),
        (3, True, True, 8),
        (2, True, True, 6),
        (1, True, True, 4),
        (1, False, True, 2),
        (2, False, True, 3),
    ],
)
def test_rows(d: int, single: bool, second_order: bool, expected: int) -> None:
    design = design_of(d, single=single, second_order=second_order)
    shown = design.presentations(0, 64)
    assert design.n_rows == len(design.roles) == len(set(design.roles)) == expected
    assert all(value.shape == (64, expected) for value in shown.values.values())


@pytest.mark.parametrize("single", [True, False])
@pytest.mark.parametrize("second_order", [True, False])
@pytest.mark.parametrize("d", [1, 2, 3, 4, 7])
def test_each_step_swaps_the_next_factor(d: int, second_order: bool, single: bool) -> None:
    shown = design_of(d, single=single, second_order=second_order).presentations(64, 128)
    points = np.stack(list(shown.values.values()), -1)  # (samples, rows, factors)
    a, b = points[:, 0], points[:, 1]
    assert shown.walk is not None
    assert shown.order is not None
    for n in range(64):
        assert sorted(shown.order[n]) == list(range(d))
        expected = a[n].copy()
        for k in range(d + 1):
            if k:
                factor = shown.order[n, k - 1]
                np.testing.assert_array_equal(shown.steps[n, 2 + factor], shown.walk[n, k - 1])
                np.testing.assert_array_equal(shown.steps[n, 2 + d + factor], shown.walk[n, k])
                expected[factor] = b[n, factor]
            np.testing.assert_array_equal(points[n, shown.walk[n, k]], expected)


def test_rows_of_sobol_are_the_same_with_and_without_walks() -> None:
    joint = design_of(5)
    alone = PickFreeze(joint.factors, 3, 5, scramble=64)
    one, other = joint.presentations(32, 96), alone.presentations(32, 96)
    assert joint.roles[: len(alone.roles)] == alone.roles
    for name, value in other.values.items():
        np.testing.assert_array_equal(one.values[name][:, : alone.n_rows], value)
    np.testing.assert_array_equal(one.source[:, : alone.n_rows], other.source)


def test_permutations_are_equally_likely_and_functions_of_the_sample() -> None:
    design = design_of(3)
    order = design.order(np.arange(12_000))
    counts = [int((order == permutation).all(1).sum()) for permutation in itertools.permutations(range(3))]
    # binomial: 2000 ± 41
    assert max(abs(count - 2000) for count in counts) < 200
    np.testing.assert_array_equal(design.order(np.arange(500, 600)), order[500:600])


def test_base_samples_without_walks_have_no_steps() -> None:
    plain = PickFreeze(design_of(2).factors, 3, 5, scramble=64)
    with pytest.raises(ValueError, match="no walks"):
        plain.presentations(0, 4).steps  # noqa: B018
