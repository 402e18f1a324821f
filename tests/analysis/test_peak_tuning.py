"""Curves through the peaks of units: what was planted is found, at the stimulus that each unit prefers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import neuroprobe as npr
from made_animals import animal, network
from neuroprobe.analysis.peak_tuning import peak_tuning
from neuroprobe.errors import ReaderError

SIZES = [0.5, 1.0, 2.0, 4.0, 8.0]
GRID = np.array(list(itertools.product([0.0, 45, 90, 135], SIZES)))
REPEATS = 4


def responses() -> np.ndarray:
    """A suppressed unit that prefers 90, one without suppression that prefers 45, a silent one."""
    orientation, size = GRID.T
    suppressed = {0.5: 1.0, 1.0: 6.0, 2.0: 10.0, 4.0: 5.0, 8.0: 2.5}
    first = np.array([suppressed[one] for one in size]) * np.where(orientation == 90, 1, 0.5)
    second = size * np.where(orientation == 45, 2, 1)
    return np.stack([first, second, np.zeros(len(GRID))], axis=1)


def columns(n_blanks: int = 0) -> dict[str, np.ndarray]:
    blank = np.full(n_blanks, np.nan)
    orientation, size = (np.concatenate([np.tile(column, REPEATS), blank]) for column in GRID.T)
    kind = np.array([""] * len(GRID) * REPEATS + ["blank"] * n_blanks, dtype=object)
    return {"orientation": orientation, "size": size, "control_kind": kind}


def trials(rng: np.random.Generator, n_blanks: int = 0) -> np.ndarray:
    noise = rng.normal(0, 0.1, (REPEATS, *responses().shape))
    noise[..., 2] = 0
    # the mean over repetitions is what was planted
    shown = (responses() + noise - noise.mean(0)).reshape(-1, 3)
    return np.concatenate([shown, np.tile([1.0, 0.5, 0.0], (n_blanks, 1))])


def test_suppression_at_the_preferred_orientation(rng: np.random.Generator) -> None:
    values = trials(rng)
    found = peak_tuning(animal(values, columns()), "size", "orientation")
    np.testing.assert_allclose(found["suppression_index"], [0.75, 0, np.nan], atol=1e-12)
    np.testing.assert_array_equal(found["preferred"], [2, 8, np.nan])
    np.testing.assert_array_equal(found["preferred_orientation"], [90, 45, np.nan])
    np.testing.assert_allclose(found["peak"], [10, 16, np.nan])
    assert found["defined"].values.tolist() == [1, 1, 0]
    assert found["size"].values.tolist() == SIZES
    for unit, angle in enumerate((90, 45)):
        own = GRID[:, 0] == angle
        np.testing.assert_allclose(found["tuning_curve"][:, unit], responses()[own, unit])
        rows = [np.flatnonzero((columns()["orientation"] == angle) & (columns()["size"] == size)) for size in SIZES]
        expected = [values[row, unit].std(ddof=1) / np.sqrt(REPEATS) for row in rows]
        np.testing.assert_allclose(found["tuning_curve_se"][:, unit], expected)
        assert (found["n_trials"][:, unit] == REPEATS).all()
    # the mean over orientations, which is what tuning takes, has the same optimum and other responses
    pooled = npr.tuning(animal(values, columns()), "size")
    assert pooled["tuning_curve"][2, 0].item() == pytest.approx(6.25)
    same = peak_tuning(network(values, columns(), (3, 1, 1)), "size", ["orientation"])
    np.testing.assert_array_equal(same["suppression_index"], found["suppression_index"])


def test_responses_above_blanks(rng: np.random.Generator) -> None:
    tree = animal(trials(rng, 3), columns(3))
    found = peak_tuning(tree, "size", "orientation", above_blanks=True)
    np.testing.assert_allclose(found["blank"], [1, 0.5, 0])
    np.testing.assert_allclose(found["suppression_index"], [1 - 1.5 / 9, 0, np.nan], atol=1e-12)
    with pytest.raises(ReaderError, match="no blank was shown"):
        peak_tuning(animal(trials(rng), columns()), "size", "orientation", above_blanks=True)


def test_angles_have_vectors(rng: np.random.Generator) -> None:
    found = peak_tuning(animal(trials(rng), columns()), "orientation", "size")
    # at the best size, one orientation of four is twice the others: (2 - 1) / (2 + 3)
    np.testing.assert_allclose(found["vector_length"], [0.2, 0.2, np.nan], atol=1e-12)
    np.testing.assert_allclose(found["preferred_angle"], [90, 45, np.nan], atol=1e-9)
    assert (found["vector_length_se"][:2] > 0).all()
    assert "suppression_index" not in found
    hues = {"hue": np.arange(0, 360, 45.0)}
    one = peak_tuning(animal(np.eye(8)[:, :2], hues), "hue", (), period=360)
    np.testing.assert_allclose(one["vector_length"], 1)
    np.testing.assert_allclose(one["preferred_angle"], [0, 45], atol=1e-9)


def test_values_that_only_some_gratings_have(rng: np.random.Generator) -> None:
    """The curve has no point where the preferred grating was not shown."""
    kept = ~((GRID[:, 0] == 90) & (GRID[:, 1] == 8))
    table = {"orientation": GRID[kept, 0], "size": GRID[kept, 1]}
    found = peak_tuning(animal(responses()[kept], table), "size", "orientation")
    assert np.isnan(found["tuning_curve"][-1, 0])
    assert np.isnan(found["suppression_index"][0])
    assert found["suppression_index"][1] == 0


def test_what_is_refused(rng: np.random.Generator) -> None:
    tree = animal(trials(rng), columns())
    with pytest.raises(ReaderError, match="unknown factor 'sise'"):
        peak_tuning(tree, "sise", "orientation")
    with pytest.raises(ReaderError, match="kind is text"):
        peak_tuning(animal(np.eye(2), {"kind": np.array(["a", "b"], dtype=object)}), "kind", ())
    with pytest.raises(ReaderError, match="equally spaced"):
        peak_tuning(tree, "size", "orientation", period=360)
