"""Brain-Score assemblies from recordings: their names for things, their milliseconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.recordings.brainscore import MILLISECONDS, NEUROID, RENAMED, VARIABLES
from neuroprobe.recordings.columns import plain
from neuroprobe.recordings.writing import (
    WINDOW,
    WRITERS,
    Flat,
    Recording,
    Writer,
    factors_lost,
    flat,
    other_attrs,
    tree_only,
)

THEIRS: Final = {ours: theirs for theirs, ours in RENAMED.items()}
DECIMALS: Final = 9  # of ms: 70.00000000000001 is 70


def to_brainscore(recording: Recording, node: str | None = None) -> xr.DataArray:
    """Return a population as a Brain-Score assembly.

    Parameters
    ----------
    recording : DataTree
        As `read_recording` returns it, or a network's.
    node : str, optional
        By default the only one.

    Returns
    -------
    xarray.DataArray
        ``data(presentation, neuroid[, time_bin])``, coordinates flat as in files: pass it to Brain-Score's
        ``NeuronRecordingAssembly``. The window of responses is a bin of time; times are in ms; rows of maps are
        ``channel_x``. Presentations without ``stimulus_id`` get their ``image_id`` for it, or their number.

    Examples
    --------
    >>> from neuroprobe.recordings.build import node_of, tree_of
    >>> from neuroprobe.recordings.columns import Table
    >>> stimuli = Table({"stimulus_id": plain(["a", "b"])})
    >>> made = node_of(np.eye(2), stimuli, Table({"unit_id": plain(["n1", "n2"])}))
    >>> to_brainscore(tree_of({"it": made})).neuroid_id.values.tolist()
    ['n1', 'n2']
    """
    held = flat(tree_only(recording, "a Brain-Score assembly"), node)
    edges, response = _bins(held), held.response
    if edges is not None and response.ndim == 2:
        response = response[..., None]
    dims = (names.PRESENTATION, NEUROID, names.TIME_BIN)[: response.ndim]
    table = dict(held.table.columns)
    if names.STIMULUS_ID not in table:
        numbers = plain([str(row) for row in range(response.shape[0])])
        table[names.STIMULUS_ID] = table.get(names.IMAGE_ID, numbers)
    coords: dict[str, Any] = {}
    for dim, columns, units in (
        (names.PRESENTATION, table, held.table.units),
        (NEUROID, {THEIRS.get(name, name): one for name, one in held.units.columns.items()}, _their_units(held)),
    ):
        for name, column in columns.items():
            coords[name] = (dim, column, {"units": units[name]} if name in units else {})
    if edges is not None:
        starts, ends = _milliseconds(edges).T
        coords[names.TIME_BIN_START] = (names.TIME_BIN, starts)
        coords[names.TIME_BIN_END] = (names.TIME_BIN, ends)
    attrs = {"units": held.attrs["units"]} if "units" in held.attrs else {}
    return xr.DataArray(response, dims=dims, coords=coords, name=VARIABLES[0], attrs=attrs)


def _milliseconds(seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Times in ms, without the digits that rounding made, that come back as they are where a number does."""
    plainly = seconds * MILLISECONDS
    chosen = np.round(plainly, DECIMALS)
    for other in (plainly, np.nextafter(plainly, -np.inf), np.nextafter(plainly, np.inf)):
        chosen = np.where(chosen / MILLISECONDS == seconds, chosen, other)
    return np.where(chosen / MILLISECONDS == seconds, chosen, np.round(plainly, DECIMALS))


def _their_units(held: Flat) -> dict[str, str]:
    return {THEIRS.get(name, name): units for name, units in held.units.units.items()}


def _bins(held: Flat) -> NDArray[np.float64] | None:
    """Bins of time (bins, 2) in s; of responses in one window, the window."""
    if held.edges is None and all(end in held.attrs for end in WINDOW):
        return np.array([[held.attrs[end] for end in WINDOW]], dtype=np.float64)
    return held.edges


def brainscore_losses(recording: Recording, node: str | None) -> list[str]:
    """Sentences on what an assembly does not hold."""
    held = flat(tree_only(recording, "a Brain-Score assembly"), node)
    told = [*held.left, *factors_lost(held)]
    edges = _bins(held)
    told += other_attrs(held, ("units", *(WINDOW if edges is not None else ())))
    if edges is not None:
        told += [f"{end} is added to the responses" for end in WINDOW if end not in held.attrs]
        if not np.array_equal(_milliseconds(edges) / MILLISECONDS, edges):
            told.append("times beyond a picosecond: they are in ms, rounded")
        if held.response.ndim == 3 and held.response.shape[2] == 1:
            told.append("the only bin of time: it comes back as the window")
    if names.STIMULUS_ID not in held.table.columns:
        told.append("stimulus_id is added, which Brain-Score asks for")
    told += [f"{name} of units comes back as {RENAMED[name]}" for name in held.units.columns if name in RENAMED]
    if names.LAYER in held.units.columns:
        told.append("the one population: units come back by layer")
    return told


def write_brainscore(recording: Recording, path: Path, node: str | None, options: dict[str, Any]) -> None:
    """Write a Brain-Score assembly as netCDF."""
    assert not options
    data = to_brainscore(recording, node)
    data.to_dataset(name=VARIABLES[0]).to_netcdf(path, engine="netcdf4")


WRITERS.add(
    "brainscore",
    Writer("Brain-Score assemblies in netCDF", (), write_brainscore, brainscore_losses),
)
