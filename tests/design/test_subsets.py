"""All subsets of few factors, swapped between A and B."""

import itertools

import numpy as np
import pytest

from neuroprobe.design.factors import Factor, Input
from neuroprobe.design.laws import Law
from neuroprobe.design.pick_freeze import PickFreeze


def design_of(d: int, **options) -> PickFreeze:
    factors = tuple(Factor(f"f{i}", (Input(f"f{i}", Law("uniform", (0, 1))),)) for i in range(d))
    return PickFreeze(factors, 3, 5, scramble=64, **options)


def points_of(shown) -> np.ndarray:
    return np.stack(list(shown.values.values()), -1)  # (samples, rows, factors)


@pytest.mark.parametrize("second_order", [True, False])
@pytest.mark.parametrize("d", [1, 2, 3, 4])
def test_each_subset_is_one_row_and_is_found_by_its_number(d: int, second_order: bool) -> None:
    design = design_of(d, subsets=True, second_order=second_order)
    shown = design.presentations(0, 64)
    assert design.n_rows == len(set(design.roles)) == 2**d
    points = points_of(shown)
    a, b = points[:, 0], points[:, 1]
    numbers = [0, 2**d - 1, *range(1, 2**d - 1)]
    assert sorted(shown.of_subsets[0]) == list(range(2**d))
    for number, row in zip(numbers, shown.of_subsets[0], strict=True):
        swapped = np.array([number >> i & 1 for i in range(d)], dtype=bool)
        np.testing.assert_array_equal(points[:, row], np.where(swapped, b, a))


@pytest.mark.parametrize("second_order", [True, False])
@pytest.mark.parametrize("d", [1, 2, 3, 4])
def test_rows_of_sobol_are_those_of_a_design_of_their_own(d: int, second_order: bool) -> None:
    together, alone = (design_of(d, subsets=subsets, second_order=second_order) for subsets in (True, False))
    one, other = together.presentations(64, 128), alone.presentations(64, 128)
    np.testing.assert_array_equal(other.of_sobol[0], np.arange(alone.n_rows))
    np.testing.assert_array_equal(points_of(one)[:, one.of_sobol[0]], points_of(other))
    if d > 2:
        assert together.roles[: alone.n_rows] == alone.roles


def test_names_of_the_other_rows() -> None:
    assert design_of(2, subsets=True).roles == ("A", "B", "A_f0", "A_f1")
    others = tuple(f"A_f{i}+f{j}" for i, j in itertools.combinations(range(4), 2))
    assert design_of(4, subsets=True).roles[10:] == others


@pytest.mark.parametrize(("d", "options"), [(5, {}), (3, {"walks": True})])
def test_what_goes_with_no_subsets(d: int, options: dict) -> None:
    with pytest.raises(ValueError, match=f"up to 4 factors .* received {d} factors"):
        design_of(d, subsets=True, **options)


def test_a_design_without_these_rows_has_no_place_of_them() -> None:
    shown = design_of(2, single=False, walks=True).presentations(0, 4)
    with pytest.raises(ValueError, match="no rows with single factors"):
        shown.of_sobol  # noqa: B018
    with pytest.raises(ValueError, match="no rows with all subsets"):
        shown.of_subsets  # noqa: B018
