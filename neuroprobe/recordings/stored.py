"""Recordings on disk: written whole or not at all, as a zarr store or a netCDF4 file, and opened lazily."""

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
from neuroprobe.errors import StoreError
from neuroprobe.netcdf import write_netcdf
from neuroprobe.recordings.contract import check_recording
from neuroprobe.store import quiet_zarr, readable

KIND: Final = "neuroprobe_kind"  # attribute of the root that tells a recording from a run's result
RECORDING: Final = "recording"
NETCDF: Final = ".nc"
CHUNK_BYTES: Final = 8 << 20
PACKAGES: Final = ("neuroprobe", "numpy", "xarray", "zarr")


def write_recording(tree: xr.DataTree, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write a recording, which `neuroprobe.open_recording` opens.

    Parameters
    ----------
    tree : xarray.DataTree
        As `neuroprobe.read_recording` gives it. Responses that are counted when they are used are counted now, some
        units at a time.
    path : path
        Of a zarr store; of a netCDF4 file where it ends with ``.nc``. It appears when it is whole.
    overwrite : bool
        Whether a recording that is there is replaced; nothing else ever is.

    Returns
    -------
    Path

    Raises
    ------
    ReaderError
        If the tree is no recording.
    StoreError
        If there is something already, or the disk is full.
    """
    check_recording(tree)
    path = Path(path)
    require_free(path, overwrite)
    nodes = stored_nodes(tree)
    if path.suffix == NETCDF:
        write_netcdf(nodes, path)
        return path
    make_folder(path.absolute().parent, path)
    staging = path.with_name(f"{path.name}.tmp")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        with no_room_explained(path), quiet_zarr():
            _write_zarr(nodes, staging)
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
    return path


def require_free(path: Path, overwrite: bool) -> None:
    """Refuse a path where something is that may not be replaced."""
    if not path.exists():
        return
    if not is_recording(path):
        raise StoreError(f"{str(path)!r} is there and is no recording of neuroprobe: choose another path")
    if not overwrite:
        raise StoreError(f"{str(path)!r} is there already: say `overwrite`, or choose another path")


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


def _write_zarr(nodes: Mapping[str, xr.Dataset], path: Path) -> None:
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
    """Whether a path is a recording that `write_recording` wrote."""
    if path.suffix == NETCDF and path.is_file():
        try:
            with xr.open_dataset(path, engine="netcdf4") as root:
                return root.attrs.get(KIND) == RECORDING
        except OSError:
            return False
    try:
        metadata = json.loads((path / "zarr.json").read_text(encoding="utf-8"))
        return bool(metadata["attributes"][KIND] == RECORDING)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def open_written(path: Path) -> xr.DataTree:
    """Open what `write_recording` wrote: responses as dask arrays, tables in memory and attached to every node.

    Raises
    ------
    StoreError
        If its data are damaged.
    """
    engine = "netcdf4" if path.is_file() else "zarr"
    with readable(path), quiet_zarr():
        tree = xr.open_datatree(path, engine=engine, chunks=None)
        table = _as_written(tree.to_dataset().load())
        table = table.set_coords(list(table.data_vars))
        nodes = {"/": table}
        for name, node in tree[names.RESPONSES].children.items():
            dataset = node.to_dataset(inherit=False)
            coords = _as_written(dataset.drop_vars(list(dataset.data_vars)).load()).coords
            lazy = {str(key): v.chunk(v.encoding.get("preferred_chunks", {})) for key, v in dataset.data_vars.items()}
            bare = {key: xr.Variable(v.dims, v.data, v.attrs) for key, v in lazy.items()}
            nodes[f"/{names.RESPONSES}/{name}"] = xr.Dataset(bare, {**table.coords, **coords}, dataset.attrs)
    return xr.DataTree.from_dict(nodes)


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
