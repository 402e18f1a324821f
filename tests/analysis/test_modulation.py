"""Simple and complex cells are told apart, at the grating that each prefers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from made_animals import animal, network
from neuroprobe.analysis.modulation import modulation
from neuroprobe.errors import ReaderError

PHASES = np.arange(0, 360, 45.0)
GRID = np.array(list(itertools.product([0.0, 45, 90, 135], PHASES)) * 6)


def responses(rng: np.random.Generator) -> np.ndarray:
    """A simple cell that prefers 90, a complex one that prefers 45, a silent one."""
    orientation, phase = GRID.T
    tuned = [np.exp(2 * (np.cos(2 * np.deg2rad(orientation - preferred)) - 1)) for preferred in (90, 45)]
    simple = 20 * tuned[0] * np.maximum(np.cos(np.deg2rad(phase - 60)), 0)
    complex_ = 20 * tuned[1] * (1 + 0.1 * np.cos(np.deg2rad(phase)))
    return np.stack([rng.poisson(simple), rng.poisson(complex_), np.zeros(len(GRID))], axis=1)


def columns() -> dict[str, np.ndarray]:
    return {"orientation": GRID[:, 0], "phase": GRID[:, 1]}


def test_simple_and_complex_cells(rng: np.random.Generator) -> None:
    values = responses(rng)
    found = modulation(animal(values, columns()), factors="orientation")
    assert found["f1_over_f0"][0].item() == pytest.approx(1.6, abs=0.2)
    assert found["f1_over_f0"][1].item() == pytest.approx(0.1, abs=0.15)
    np.testing.assert_array_equal(found["preferred_orientation"].values, [90, 45, np.nan])
    assert (found["f1_over_f0_se"][:2] < 0.2).all()
    assert found["defined"].values.tolist() == [1, 1, 0]
    rows = (GRID[:, 0] == 90) & (values[:, 0] >= 0)
    assert found["f0"][0].item() == pytest.approx(values[rows, 0].mean())
    same = modulation(network(values, columns(), (3, 1, 1)), factors=["orientation"])
    np.testing.assert_array_equal(same["f1_over_f0"].values, found["f1_over_f0"].values)


def test_what_is_no_phase(rng: np.random.Generator) -> None:
    tree = animal(responses(rng), columns())
    with pytest.raises(ReaderError, match="unknown factor 'phas'"):
        modulation(tree, "phas", "orientation")
    with pytest.raises(ReaderError, match="no grating was shown in 3 or more values of 'orientation'"):
        modulation(animal(responses(rng)[:2], {"orientation": [0, 1]}), "orientation", ())
    with pytest.raises(ReaderError, match="equally spaced"):
        modulation(tree, "orientation", "phase")
