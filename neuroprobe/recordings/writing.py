"""Writing recordings: one contract, a registry, and what each format loses."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.disk import replacing, require_file_name, require_room
from neuroprobe.errors import StoreError, unknown_name
from neuroprobe.recordings.columns import Table, listed, plain
from neuroprobe.recordings.spiking import Spikes
from neuroprobe.registry import Registry

Array = NDArray[np.float64]
FILE_BYTES: Final = 1 << 20  # of names, attributes and tables, beside responses and spikes
WINDOW: Final = ("window_start", "window_end")
MADE_BY_READERS: Final = {"long_name": "response of the unit", "responses": None}  # attributes; None for any value


@runtime_checkable
class WithSpikes(Protocol):
    """A recording of which the spikes are there, such as a simulated animal."""

    @property
    def spikes(self) -> Spikes:
        """Spike trains."""

    @property
    def trials(self) -> Table:
        """Presentations, with ``start_time`` and ``stop_time`` in s."""


Recording = xr.DataTree | WithSpikes


@dataclass(frozen=True)
class Writer:
    """Writes recordings in one format.

    Attributes
    ----------
    summary : str
        One line for lists.
    suffixes : tuple of str
        Of what is taken for this format where none is named.
    write : callable
        (recording, path, node, options) → None; the path is a temporary one, unless `whole`.
    losses : callable
        (recording, node) → sentences.
    options : frozenset of str
        That mean something to it.
    whole : bool
        Whether `write` itself sees to it that what it writes appears when it is whole.
    is_own : callable, optional
        Whether a path is of this format, and may be replaced; without it any file may be, on demand.
    """

    summary: str
    suffixes: tuple[str, ...]
    write: Callable[[Recording, Path, str | None, dict[str, Any]], None]
    losses: Callable[[Recording, str | None], list[str]]
    options: frozenset[str] = frozenset()
    whole: bool = False
    is_own: Callable[[Path], bool] | None = None


WRITERS: Final[Registry[Writer]] = Registry("recording writer")


@dataclass(frozen=True)
class Flat:
    """One population, as tables and an array: what formats of others hold.

    Attributes
    ----------
    name : str
    response : array (presentations, units[, bins])
    attrs : dict
        Of the response.
    table, units : Table
    edges : float array (bins, 2), optional
        s after the start of a presentation.
    factors : str
        Names of the factors in JSON; empty where none are told.
    left : tuple of str
        What the recording holds beside these, in sentences.
    """

    name: str
    response: Any
    attrs: dict[str, Any]
    table: Table
    units: Table
    edges: Array | None
    factors: str
    left: tuple[str, ...]


def write_recording(
    recording: Recording,
    path: str | os.PathLike[str],
    *,
    format: str | None = None,  # noqa: A002
    node: str | None = None,
    overwrite: bool = False,
    **options: Any,
) -> Path:
    """Write a recording; the file, or store, gets its name when it is whole.

    Parameters
    ----------
    recording : DataTree, or a recording with spikes
        As `read_recording` returns it, or a `neuroprobe.recordings.simulated.Simulated`. Responses that are counted
        when they are used are counted now.
    path : path
    format : str, optional
        ``zarr``, ``netcdf`` (our own, which hold all and which `neuroprobe.open_recording` opens), ``nwb``,
        ``brainscore`` or ``rsatoolbox``; by default by the end of the name: ``.zarr``, ``.nc``, ``.nwb``, ``.h5``.
    node : str, optional
        Population that is written. By default all in our own formats, and the only one in those of others.
    overwrite : bool
        Whether what is there is replaced; in place of our own formats nothing but a recording ever is.
    **options
        What the writer of the format documents.

    Returns
    -------
    Path

    Raises
    ------
    ReaderError
        If the tree is no recording.
    StoreError
        If the format cannot hold the recording, there is something already, or the disk is full.

    See Also
    --------
    losses : What the format does not hold.
    """
    path = Path(path)
    writer = WRITERS[format_of(path) if format is None else format]
    for name in options:
        if name not in writer.options:
            raise StoreError(unknown_name("option of this format", name, sorted(writer.options)))
    require_free(path, writer, overwrite)
    if writer.whole:
        writer.write(recording, path, node, options)
        return path
    require_file_name(path)
    require_room(path, _n_bytes(recording, node) + FILE_BYTES)
    with replacing(path) as temporary:
        writer.write(recording, temporary, node, options)
    return path


def require_free(path: Path, writer: Writer, overwrite: bool) -> None:
    """Refuse a path where something is that may not be replaced.

    Raises
    ------
    StoreError
    """
    if not path.exists():
        return
    if writer.is_own is not None and not writer.is_own(path):
        raise StoreError(f"{str(path)!r} is there and is no recording of neuroprobe: choose another path")
    if not overwrite:
        raise StoreError(f"{str(path)!r} is there already: say `overwrite`, or choose another path")


def losses(recording: Recording, format: str, *, node: str | None = None) -> list[str]:  # noqa: A002
    """Say what would not come back, or come back otherwise, if a recording were written and read again.

    Parameters
    ----------
    recording, format, node
        As for `write_recording`.

    Returns
    -------
    list of str
        One sentence each; empty where responses, labels and their attributes come back as they are. The history and
        provenance of a tree, and the name of its node, are always those of the file.

    Raises
    ------
    StoreError
        If the format cannot hold the recording at all.
    """
    return WRITERS[format].losses(recording, node)


def format_of(path: Path) -> str:
    """Return the name of the format that the end of a name tells.

    Raises
    ------
    StoreError
    """
    if not path.suffix:
        return "zarr"
    for name in WRITERS.names():
        if path.suffix.lower() in WRITERS[name].suffixes:
            return name
    known = listed(f"{name} ({', '.join(WRITERS[name].suffixes) or 'named only'})" for name in WRITERS.names())
    raise StoreError(f"{str(path)!r}: which format? End its name by one of these, or say `format`: {known}")


def _n_bytes(recording: Recording, node: str | None) -> int:
    if isinstance(recording, xr.DataTree):
        return int(chosen_node(recording, node)[1].nbytes)
    return int(8 * (recording.spikes.bounds[:, 1] - recording.spikes.bounds[:, 0]).sum())


def tree_only(recording: Recording, what: str) -> xr.DataTree:
    """Return the tree of a recording, for formats that hold responses."""
    if isinstance(recording, xr.DataTree):
        return recording
    tree = getattr(recording, "tree", None)
    if not isinstance(tree, xr.DataTree):
        raise StoreError(f"{what} holds responses and no spikes: read the recording with a window, and write that")
    return tree


def chosen_node(tree: xr.DataTree, node: str | None) -> tuple[str, xr.Dataset]:
    """Return the name and the data of a population of a recording.

    Raises
    ------
    StoreError
        If there is none of that name, or several and none is named.
    """
    nodes = tree[names.RESPONSES].children if names.RESPONSES in tree.children else {}
    if node is None:
        if len(nodes) != 1:
            raise StoreError(f"which population is written? Say `node`: {listed(nodes)}")
        node = next(iter(nodes))
    if node not in nodes:
        raise StoreError(unknown_name("population", node, list(nodes)))
    return node, nodes[node].to_dataset(inherit=False)


def flat(tree: xr.DataTree, node: str | None) -> Flat:
    """Return one population as tables and an array, and say what is left over.

    Maps of a network's layer become units with ``layer``, ``channel``, ``y``, ``x`` (or ``token``).
    """
    name, dataset = chosen_node(tree, node)
    left = [f"population {other}: a file holds one" for other in tree[names.RESPONSES].children if other != name]
    if names.UNIT not in dataset[names.RESPONSE].dims:
        dataset = _as_units(name, dataset)
        left.append("the shape of maps: their places are coordinates of units")
    response = dataset[names.RESPONSE]
    left += [f"{other}: only responses are held" for other in dataset.data_vars if other != names.RESPONSE]
    known = {names.PRESENTATION, names.UNIT, names.TIME_BIN}
    if set(response.dims) - known:
        raise StoreError(f"responses of {name} have dims {response.dims}; those of {listed(sorted(known))} can be held")
    response = response.transpose(names.PRESENTATION, names.UNIT, ...)
    edges = None
    if names.TIME_BIN in response.dims:
        ends = [dataset[end].values for end in (names.TIME_BIN_START, names.TIME_BIN_END)]
        edges = np.stack(ends, axis=1).astype(np.float64)
    return Flat(
        name,
        response.data,
        dict(response.attrs),
        _table(dataset, names.PRESENTATION),
        _table(dataset, names.UNIT),
        edges,
        str(tree.attrs.get(names.FACTORS, "")),
        tuple(left),
    )


def _as_units(layer: str, dataset: xr.Dataset) -> xr.Dataset:
    """Lay the units of a layer in a row."""
    response = dataset[names.RESPONSE]
    inner = [str(dim) for dim in response.dims if dim not in (names.PRESENTATION, names.TIME_BIN)]
    places = np.indices([response.sizes[dim] for dim in inner]).reshape(len(inner), -1)
    columns: dict[str, Any] = {}
    for dim, place in zip(inner, places, strict=True):
        columns[dim] = np.asarray(dataset[dim].values)[place] if dim in dataset.coords else place
    ids = [".".join([layer, *map(str, one)]) for one in zip(*columns.values(), strict=True)]
    stacked = response.stack({names.UNIT: inner}, create_index=False)
    table = {name: one for name, one in dataset.coords.items() if one.dims == (names.PRESENTATION,)}
    coords = {
        names.UNIT_ID: (names.UNIT, plain(ids)),
        names.LAYER: (names.UNIT, plain([layer] * len(ids))),
        **{dim: (names.UNIT, plain(column)) for dim, column in columns.items()},
    }
    variable = stacked.variable.transpose(names.PRESENTATION, names.UNIT, ...)
    times = {name: one for name, one in dataset.coords.items() if one.dims == (names.TIME_BIN,)}
    return xr.Dataset({names.RESPONSE: variable}, coords={**table, **times, **coords})


def _table(dataset: xr.Dataset, dim: str) -> Table:
    found = {str(name): coord for name, coord in dataset.coords.items() if coord.dims == (dim,)}
    table = Table({name: plain(_objects(coord.values)) for name, coord in found.items()})
    table.units = {name: str(coord.attrs["units"]) for name, coord in found.items() if "units" in coord.attrs}
    return table


def _objects(values: Any) -> Any:
    # text of zarr is in a type of its own
    return values.astype(object) if values.dtype.kind == "T" else values


def other_attrs(held: Flat, kept: tuple[str, ...]) -> list[str]:
    """Sentences for the attributes of responses that a format does not hold."""
    told = []
    for name, value in held.attrs.items():
        if name not in kept and MADE_BY_READERS.get(name, "") not in (None, value):
            told.append(f"attribute {name} of the responses")
    return told


def factors_lost(held: Flat) -> list[str]:
    """Say that the names of the factors are lost, where they are told and the format does not hold them."""
    return [f"which columns are factors: read with `factors={json.loads(held.factors)}`"] if held.factors else []
