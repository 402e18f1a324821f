"""Receptive fields of animals and networks, as labelled data."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from made_animals import animal, apart, network
from neuroprobe.analysis.receptive_maps import receptive_maps
from neuroprobe.errors import ReaderError

N, SIDE = 1500, 8


def shown(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Noise, and the responses of a unit with a field, of one without, of one that is silent."""
    stimuli = rng.choice([-1.0, 1.0], (N, SIDE, SIDE))
    driven = stimuli[:, 1:3, 2:4].sum((1, 2)) + rng.normal(size=N)
    return stimuli, np.stack([driven, rng.normal(size=N), np.zeros(N)], axis=1)


def test_fields_are_found_where_they_are(rng: np.random.Generator) -> None:
    stimuli, responses = shown(rng)
    found = receptive_maps(animal(responses, {"stimulus_id": np.arange(N)}), stimuli)
    assert found["receptive_map"].dims == ("unit", "pixel_y", "pixel_x")
    assert found["receptive_map"][0].sel(pixel_y=2.5, pixel_x=-1.5).item() == pytest.approx(1, abs=0.15)
    assert (found["p_adjusted"] < 0.01).values.tolist() == [True, False, False]
    assert found["field_x"][0].item() == pytest.approx(-1, abs=0.2)
    assert found["field_y"][0].item() == pytest.approx(2, abs=0.2)
    assert found["defined"].values.tolist() == [1, 1, 0]
    assert np.isnan(found["p_value"][2])
    brightest = found["receptive_map"][0].where(np.abs(found["receptive_map"][0]) > 0.5, drop=True)
    assert brightest["pixel_y"].values.tolist() == [2.5, 1.5]


def test_animals_networks_and_sessions_alike(rng: np.random.Generator) -> None:
    stimuli, responses = shown(rng)
    columns = {"stimulus_id": np.arange(N)}
    one = receptive_maps(animal(responses, columns), stimuli)
    two = receptive_maps(network(responses, columns, (3, 1, 1)), stimuli)
    three = receptive_maps(apart(responses, columns, [np.arange(N)] * 3), np.repeat(stimuli[..., None], 3, -1))
    for other in (two, three):
        for name in one.data_vars:
            # the sums of several units together, and of one, are rounded otherwise
            np.testing.assert_allclose(one[name].values, other[name].values, rtol=1e-4, atol=1e-7)


def test_trials_that_a_unit_misses_are_left_out(rng: np.random.Generator) -> None:
    stimuli, responses = shown(rng)
    missing = responses.copy()
    missing[::3, 0] = np.nan
    kept = np.arange(N) % 3 != 0
    found = receptive_maps(animal(missing, {"stimulus_id": np.arange(N)}), stimuli, fit=False)
    fewer = receptive_maps(animal(responses[kept], {"stimulus_id": np.arange(N)[kept]}), stimuli[kept], fit=False)
    xr.testing.assert_allclose(found["receptive_map"][0], fewer["receptive_map"][0])
    assert found["p_value"][1] == receptive_maps(animal(responses, {}), stimuli, fit=False)["p_value"][1]


def test_stimuli_that_do_not_fit(rng: np.random.Generator) -> None:
    stimuli, responses = shown(rng)
    tree = animal(responses, {"stimulus_id": np.arange(N)})
    with pytest.raises(ReaderError, match=r"v1: 1,500 presentations and 1,499 stimuli"):
        receptive_maps(tree, stimuli[1:])
    with pytest.raises(ReaderError, match=r"received shape \(1500, 64\)"):
        receptive_maps(tree, stimuli.reshape(N, -1))
    with pytest.raises(ReaderError, match="not finite"):
        receptive_maps(tree, np.where(stimuli > 0, np.nan, stimuli))
    means = animal(responses, {"stimulus_id": np.arange(N), "n_trials": np.full(N, 3)})
    with pytest.raises(ReaderError, match="needs single trials"):
        receptive_maps(means, stimuli)
