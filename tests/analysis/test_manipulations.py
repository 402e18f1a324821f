"""Indexes by manipulations with labels: members that apply to some stimuli, shams, shorter lists."""

from __future__ import annotations

import numpy as np
import pytest

from neuroprobe.analysis.manipulations import Manipulated, manipulation_variables

SYMMETRY = Manipulated("symmetry", "Mirror the crop.", ("0", "45", "90", "135"), invariance=True)
TURNS = Manipulated("orientation", "Rotate the crop.", ("90", "180"), invariance=False)


@pytest.fixture
def responses(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of three channels to ten stimuli, as they are, by four members, and by five shams; the last channel is dead."""
    original = -np.sort(-rng.uniform(0.5, 2, (3, 10)), axis=1)
    original[2] = np.nan
    altered, sham = original * rng.uniform(0, 1, (4, 3, 10)), original * rng.uniform(0, 1, (5, 3, 10))
    return original, altered, sham


def values(index: Manipulated, *arrays: np.ndarray, **options: object) -> dict[str, np.ndarray]:
    found = manipulation_variables(index, *arrays, **options)  # type: ignore[arg-type]
    return {name: array for name, (_, array, _) in found.items()}


@pytest.mark.parametrize("clamp", ["none", "ratio", "final"])
@pytest.mark.parametrize("n_lacking", [0, 4, 10])
def test_shams_are_compared_at_the_members_that_apply(responses, clamp: str, n_lacking: int) -> None:
    """A sham is a change by one of the members that apply: where nothing changes, nothing is lost."""
    original, altered, _ = responses
    altered[1::2, :, :n_lacking] = np.nan  # diagonal mirrors of crops that are not square
    same = np.repeat(original[None], 5, axis=0)
    found = values(SYMMETRY, original, altered, same, clamp=clamp)
    np.testing.assert_allclose(found["symmetry_sham"], [1, 1, np.nan], atol=1e-12)
    np.testing.assert_allclose(found["symmetry_sham_deviation"], [0, 0, np.nan], atol=1e-12)
    np.testing.assert_allclose(found["symmetry_corrected"], found["symmetry"] - 1, atol=1e-12)
    assert found["symmetry_p_value"].tolist()[:2] == [1, 1]


def test_undefined_members_are_left_out(responses) -> None:
    original, altered, sham = responses
    altered[1::2, :, :4] = np.nan
    found = values(SYMMETRY, original, altered, sham, shorter=(5,))
    own = np.where(np.isnan(altered), 0, original)
    kept = np.nan_to_num(altered)
    own, kept = own[:, :2], kept[:, :2]
    np.testing.assert_allclose(found["symmetry"][:2], kept.sum((0, 2)) / own.sum((0, 2)))
    np.testing.assert_allclose(found["symmetry_by_member"][:, :2], kept.sum(2) / own.sum(2))
    assert found["symmetry_n"][:, 0].tolist() == [10, 6, 10, 6]
    short = kept[..., :5].sum((0, 2)) / own[..., :5].sum((0, 2))
    np.testing.assert_allclose(found["symmetry_by_n"][:, :2], [short, found["symmetry"][:2]])
    # a member that applies to nothing is undefined, and never the best
    altered[0] = np.nan
    found = values(SYMMETRY, original, altered, sham)
    assert np.isnan(found["symmetry_by_member"][0]).all()
    assert "0" not in found["symmetry_best"]


def test_the_best_member_costs_least(responses) -> None:
    original, altered, sham = responses
    found = values(TURNS, original, altered[:2], sham)
    lost = 1 - altered[:2].sum(2) / original.sum(1)
    np.testing.assert_allclose(found["orientation_by_member"], lost)
    best = ["90" if a < b else "180" for a, b in lost.T[:2]]
    assert found["orientation_best"].tolist() == [*best, ""]
    np.testing.assert_allclose(found["orientation"], lost.mean(0))


def test_shares_of_shams_that_reach_an_index(responses) -> None:
    original, altered, sham = responses
    found = values(TURNS, original, altered[:2], sham)
    draws = 1 - sham.sum(2) / original.sum(1)
    np.testing.assert_allclose(found["orientation_sham"], draws.mean(0))
    reached = (draws >= found["orientation"]).sum(0)
    np.testing.assert_allclose(found["orientation_p_value"], [*((1 + reached) / 6)[:2], np.nan])
    left = values(SYMMETRY, original, altered, sham)
    reached = (1 - draws >= left["symmetry"]).sum(0)
    np.testing.assert_allclose(left["symmetry_p_value"], [*((1 + reached) / 6)[:2], np.nan])
    assert np.isnan(left["symmetry_p_adjusted"][2])
