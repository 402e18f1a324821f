"""Small recordings of animals, and the same numbers as a network's."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroprobe.recordings.build import node_of, tree_of
from neuroprobe.recordings.columns import Table

UNITS = 12


def trials(n_conditions: int = 8, n_repeats: int = 10, n_units: int = UNITS, seed: int = 3) -> Any:
    """Counts (trials, units) of units that are tuned for orientation, conditions (trials,), and their means."""
    rng = np.random.default_rng(seed)
    angle = np.arange(n_conditions) * 180 / n_conditions
    preferred = rng.uniform(0, 180, n_units)
    mean = 2 + 12 * np.exp(2 * (np.cos(2 * np.deg2rad(angle[:, None] - preferred)) - 1))
    order = rng.permutation(np.repeat(np.arange(n_conditions), n_repeats))
    return rng.poisson(mean[order]), order, mean, preferred


def animal(values: NDArray[Any], columns: dict[str, Any], *, baseline: NDArray[Any] | None = None) -> xr.DataTree:
    """A recording of units that were recorded together."""
    table = Table({name: np.asarray(column) for name, column in columns.items()})
    units = Table({"unit_id": np.array([f"u{number}" for number in range(values.shape[1])], dtype=object)})
    before = None if baseline is None else (baseline, {"units": "spikes"})
    return tree_of({"v1": node_of(values, table, units, attrs={"units": "spikes"}, baseline=before)})


def apart(values: NDArray[Any], columns: dict[str, Any], sessions: list[NDArray[np.int64]]) -> xr.DataTree:
    """The same units, one session each, with the trials of each session."""
    nodes = {}
    for unit, rows in enumerate(sessions):
        table = Table({name: np.asarray(column)[rows] for name, column in columns.items()})
        units = Table({"unit_id": np.array([f"u{unit}"], dtype=object)})
        nodes[f"s{unit}"] = node_of(values[rows, unit : unit + 1], table, units, attrs={"units": "spikes"})
    return tree_of(nodes)


def network(values: NDArray[Any], columns: dict[str, Any], shape: tuple[int, int, int], **more: Any) -> xr.DataTree:
    """The same numbers as stored responses of a layer of maps."""
    dims = ("presentation", "channel", "y", "x")
    data = {"response": (dims, values.reshape(len(values), *shape), {"units": "spikes"}), **more}
    data |= {name: (dims, array.reshape(len(array), *shape)) for name, array in more.items()}
    table = {name: ("presentation", np.asarray(column)) for name, column in columns.items()}
    return xr.DataTree.from_dict({"/": xr.Dataset(coords=table), "/responses/v1": xr.Dataset(data)})
