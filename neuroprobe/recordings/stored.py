"""Recordings in our own formats, a zarr store or a netCDF4 file: all that a tree holds."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr

from neuroprobe import names
from neuroprobe.disk import make_folder, no_room_explained
from neuroprobe.errors import ReaderError, unknown_name
from neuroprobe.netcdf import write_netcdf
from neuroprobe.recordings.build import choose_units
from neuroprobe.recordings.columns import Table, plain
from neuroprobe.recordings.contract import READERS, Choices, Reader, check_recording
from neuroprobe.recordings.writing import WRITERS, Recording, Writer, chosen_node, tree_only
from neuroprobe.store import quiet_zarr, readable

KIND: Final = "neuroprobe_kind"  # attribute of the root that tells a recording from a run's result
RECORDING: Final = "recording"
CHUNK_BYTES: Final = 8 << 20
UNITS_OF_A_CHUNK: Final = 4096  # of what is in memory
PACKAGES: Final = ("neuroprobe", "numpy", "xarray", "zarr")


def _write_zarr(recording: Recording, path: Path, node: str | None, options: dict[str, Any]) -> None:
    make_folder(path.absolute().parent, path)
    staging = path.with_name(f"{path.name}.tmp")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        with no_room_explained(path), quiet_zarr():
            _write_groups(stored_nodes(_told(recording, node)), staging)
        if path.exists():
            old = path.with_name(f"{path.name}.old")
            shutil.rmtree(old, ignore_errors=True)
            os.replace(path, old)
            os.replace(staging, path)
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(staging, path)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _write_netcdf(recording: Recording, path: Path, node: str | None, options: dict[str, Any]) -> None:
    write_netcdf(stored_nodes(_told(recording, node)), path)


def _told(recording: Recording, node: str | None) -> xr.DataTree:
    """Return the tree of a recording, of one population where it is named, once it is known to be one."""
    tree = tree_only(recording, "this format")
    check_recording(tree)
    if node is None:
        return tree
    name, dataset = chosen_node(tree, node)
    return xr.DataTree.from_dict({"/": tree.to_dataset(), f"/{names.RESPONSES}/{name}": dataset})


def _losses(recording: Recording, node: str | None) -> list[str]:
    told = [] if isinstance(recording, xr.DataTree) else ["spikes: responses are held"]
    tree = tree_only(recording, "this format")
    if node is None:
        return told
    nodes = tree[names.RESPONSES].children
    return told + [f"population {other}: {node} alone is written" for other in nodes if other != node]


def stored_nodes(tree: xr.DataTree) -> dict[str, xr.Dataset]:
    """Nodes as they are stored: a table that is common to all stands at the root alone."""
    root = tree.to_dataset()
    attrs = dict(tree.attrs)
    details = json.loads(attrs.get(names.PROVENANCE, "{}"))
    details["versions"] = {**details.get("versions", {}), **{package: version(package) for package in PACKAGES}}
    attrs |= {names.PROVENANCE: json.dumps(details), KIND: RECORDING}
    nodes = {"/": xr.Dataset({str(name): coord.variable for name, coord in root.coords.items()}, attrs=attrs)}
    common = set(root.coords)
    for name, node in tree[names.RESPONSES].children.items():
        dataset = node.to_dataset(inherit=False)
        own = dataset.drop_vars([coord for coord in dataset.coords if coord in common])
        nodes[f"/{names.RESPONSES}/{name}"] = own
    return nodes


def _write_groups(nodes: Mapping[str, xr.Dataset], path: Path) -> None:
    import zarr
    from zarr.codecs import BloscCodec

    for place, dataset in nodes.items():
        encoding: dict[str, dict[str, Any]] = {}
        dataset = dataset.drop_encoding()
        for name in map(str, dataset.data_vars):
            variable = dataset[name]
            if variable.dtype.kind not in "iuf" or not variable.ndim:
                continue
            chunks = _chunks(variable)
            if variable.chunks is not None:
                dataset[name] = variable.chunk(dict(zip(variable.dims, chunks, strict=True)))
            encoding[name] = {"chunks": chunks, "compressors": [BloscCodec(cname="lz4", shuffle="bitshuffle")]}
        dataset.to_zarr(path, group=place, mode="a", consolidated=False, zarr_format=3, encoding=encoding)
    zarr.consolidate_metadata(str(path))


def _chunks(variable: xr.DataArray) -> tuple[int, ...]:
    """Chunks of some megabytes that hold all presentations of some units, which is what statistics read."""
    if not variable.size:
        return tuple(max(n, 1) for n in variable.shape)
    if names.UNIT not in variable.dims:
        return tuple(int(n) for n in variable.shape)
    at = variable.dims.index(names.UNIT)
    per_unit = variable.dtype.itemsize * math.prod(variable.shape) // variable.shape[at]
    n_units = max(1, min(variable.shape[at], CHUNK_BYTES // per_unit))
    return tuple(n_units if place == at else int(n) for place, n in enumerate(variable.shape))


def is_recording(path: Path) -> bool:
    """Whether a path is a recording in one of our own formats."""
    if path.is_file():
        import netCDF4

        try:
            with netCDF4.Dataset(path) as root:
                return bool(getattr(root, KIND, "") == RECORDING)
        except OSError:
            return False
    try:
        metadata = json.loads((path / "zarr.json").read_text(encoding="utf-8"))
        return bool(metadata["attributes"][KIND] == RECORDING)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def open_written(path: Path) -> xr.DataTree:
    """Open a recording in our own formats: responses as dask arrays, tables in memory and attached to every node.

    A zarr store is read when it is used; of a netCDF4 file everything is read at once, and no file stays open, which
    HDF5 does not bear beside another library that brings its own.

    Raises
    ------
    StoreError
        If its data are damaged.
    """
    engine = "netcdf4" if path.is_file() else "zarr"
    with readable(path), quiet_zarr():
        tree = xr.open_datatree(path.absolute(), engine=engine, chunks=None)
        if engine == "netcdf4":
            tree = tree.load()
            tree.close()
        table = _as_written(tree.to_dataset().load())
        table = table.set_coords(list(table.data_vars))
        nodes = {"/": table}
        for name, node in tree[names.RESPONSES].children.items():
            dataset = node.to_dataset(inherit=False)
            coords = _as_written(dataset.drop_vars(list(dataset.data_vars)).load()).coords
            lazy = {str(key): v.chunk(_chunks_of(v.variable, engine)) for key, v in dataset.data_vars.items()}
            bare = {key: xr.Variable(v.dims, v.data, v.attrs) for key, v in lazy.items()}
            nodes[f"/{names.RESPONSES}/{name}"] = xr.Dataset(bare, {**table.coords, **coords}, dataset.attrs)
    return xr.DataTree.from_dict(nodes)


def _chunks_of(variable: xr.Variable, engine: str) -> dict[Any, int]:
    """Chunks of a file; of what is in memory, parts of the units, which can be sent without the rest."""
    if engine == "zarr" or variable.ndim < 2:
        return dict(variable.encoding.get("preferred_chunks", {}))
    return {variable.dims[1]: max(1, UNITS_OF_A_CHUNK // max(1, math.prod(variable.shape[2:])))}


def _as_written(dataset: xr.Dataset) -> xr.Dataset:
    """Text as Python's own, as readers give it, whatever the format's type is."""
    texts = {
        name: (v.dims, np.array(v.values.tolist(), dtype=object).reshape(v.shape), v.attrs)
        for name, v in dataset.variables.items()
        if v.dtype.kind in "TUO"
    }
    return dataset.assign({n: t for n, t in texts.items() if n not in dataset.coords}).assign_coords(
        {n: t for n, t in texts.items() if n in dataset.coords}
    )


def _claims(path: Any) -> bool:
    return isinstance(path, Path) and is_recording(path)


def _read(path: Path, choices: Choices) -> xr.DataTree:
    """Open a recording in our own formats: some of its units, or other factors, where they are chosen."""
    tree = with_units(open_written(path), choices)
    if choices.factors is not None:
        columns = [str(name) for node in tree[names.RESPONSES].children.values() for name in node.coords]
        for factor in choices.factors:
            if factor not in columns:
                raise ReaderError(unknown_name("factor", factor, list(dict.fromkeys(columns))))
        tree.attrs[names.FACTORS] = json.dumps(list(choices.factors))
    return tree


def with_units(tree: xr.DataTree, choices: Choices) -> xr.DataTree:
    """Return a recording of the units that are asked for, by ``units`` and ``region``.

    Raises
    ------
    ReaderError
        If there are none of them.
    """
    if choices.units is None and choices.region is None:
        return tree
    nodes = {name: node.to_dataset() for name, node in tree[names.RESPONSES].children.items()}
    columns = (names.UNIT_ID, names.REGION)
    for name, node in nodes.items():
        if names.UNIT not in node.dims or names.UNIT_ID not in node.coords:
            raise ReaderError(
                f"{name}: units of a network have no {names.UNIT_ID}: choose them by a query, in analyses"
            )
    regions = all(names.REGION in node.coords for node in nodes.values())
    known = columns if regions else columns[:1]
    together = Table(
        {column: plain([str(one) for node in nodes.values() for one in node[column].values]) for column in known}
    )
    kept = np.array(choose_units(together, choices))
    start, found = 0, {"/": tree.to_dataset()}
    for name, node in nodes.items():
        stop = start + node.sizes[names.UNIT]
        places = kept[(kept >= start) & (kept < stop)] - start
        if len(places):
            found[f"/{names.RESPONSES}/{name}"] = node.isel({names.UNIT: places})
        start = stop
    return xr.DataTree.from_dict(found)


READERS.add(
    "neuroprobe",
    Reader("recordings in our own formats", _claims, _read, frozenset({"factors", "units", "region"})),
)
WRITERS.add(
    "zarr",
    Writer("our own store, opened lazily", (".zarr",), _write_zarr, _losses, whole=True, is_own=is_recording),
)
WRITERS.add(
    "netcdf",
    Writer("our own file, read at once", (".nc",), _write_netcdf, _losses, whole=True, is_own=is_recording),
)
