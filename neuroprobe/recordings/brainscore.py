"""Brain-Score assemblies in netCDF: neurons or a model's units, over presentations and bins of time."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.errors import ReaderError, reason
from neuroprobe.recordings.build import by_column, choose_units, factors_attr, node_of, rows_of, safe, tree_of
from neuroprobe.recordings.columns import Table, listed, plain
from neuroprobe.recordings.contract import READERS, Choices, Reader

NEUROID: Final = "neuroid"
STIMULI: Final = (names.PRESENTATION, names.STIMULUS_ID, names.IMAGE_ID, "stimulus_path", "stimulus")
VARIABLES: Final = ("data", "__xarray_dataarray_variable__")
# theirs → ours; the row of a map is their `channel_x`
RENAMED: Final = {"neuroid_id": names.UNIT_ID, "channel_x": names.Y, "channel_y": names.X, "animal": names.SUBJECT_ID}
MILLISECONDS: Final = 1000.0
LAZY_BYTES: Final = 1 << 28  # a larger assembly is read when it is used
BLOCK_BYTES: Final = 1 << 27  # of that, at a time


def read_brainscore(path: Path, choices: Choices) -> xr.DataTree:
    """Read a Brain-Score assembly.

    Parameters
    ----------
    path : Path
    choices : Choices
        ``units``, ``region``, ``factors``; ``split``, a coordinate of units each value of which gets a node of its
        own: by default ``layer`` where a model's layers are told.

    Raises
    ------
    ReaderError
        If it is not an assembly: it lists what it holds.

    Notes
    -----
    Times are turned from ms into s. One bin of time alone becomes the window of the response. ``image_id``, which
    older assemblies have, stands as ``stimulus_id`` too.
    """
    data = _assembly(path)
    over_units, over_stimuli, over_time = _dims(path, data)
    dims = [dim for dim in (over_stimuli, over_units, over_time) if dim is not None]
    data = data.transpose(*dims)
    table = _columns(data, over_stimuli)
    units = _columns(data, over_units)
    units.columns = {RENAMED.get(name, name): column for name, column in units.columns.items()}
    units.units = {RENAMED.get(name, name): told for name, told in units.units.items()}
    if names.IMAGE_ID in table.columns and names.STIMULUS_ID not in table.columns:
        table.columns[names.STIMULUS_ID] = table.columns[names.IMAGE_ID]
    _identify(units, data.sizes[over_units])
    kept = choose_units(units, choices)
    # the coordinates are read by now; a dask array, where it is large, stays one
    response: Any = data.data[:, kept] if len(kept) < len(units) else data.data
    bins, attrs = _times(path, data, over_time)
    if bins is not None and len(bins):
        attrs |= {"window_start": float(bins[:, 0].min()), "window_end": float(bins[:, 1].max())}
    if bins is not None and len(bins) == 1:
        response, bins = response[..., 0], None
    if response.dtype.kind == "b":
        response = response.astype(np.int64)
    node = node_of(response, table, rows_of(units, kept), attrs=attrs, bins=bins)
    split = choices.option("split", "layer" if "layer" in units.columns else None)
    nodes = {safe(path.stem): node} if split is None else by_column(node, split)
    return tree_of(nodes, attrs=factors_attr(table, choices))


def _assembly(path: Path) -> xr.DataArray:
    try:
        # no file stays open, which HDF5 does not bear beside another library that brings its own
        with xr.open_dataset(path, decode_timedelta=False) as dataset:
            small = sum(variable.nbytes for variable in dataset.data_vars.values()) <= LAZY_BYTES
            dataset = dataset.load() if small else _lazy(path, dataset)
    except Exception as error:  # of netCDF and of xarray's decoding, each kind of damage has its own
        raise ReaderError(f"{str(path)!r}: not netCDF that can be read: {reason(error)}") from error
    named = [name for name in VARIABLES if name in dataset.data_vars]
    variables: list[Hashable] = [*named] or list(dataset.data_vars)
    if len(variables) != 1:
        raise ReaderError(
            f"{str(path)!r}: an assembly has one variable, called {' or '.join(VARIABLES)}; this has "
            f"{listed(dataset.data_vars)}"
        )
    return dataset[variables[0]]


def _lazy(path: Path, dataset: xr.Dataset) -> xr.Dataset:
    """Coordinates in memory, variables as dask arrays, some units at a time; each part opens the file by itself."""
    held = dataset.drop_vars(list(dataset.data_vars)).load()
    return held.assign({name: (v.dims, _parts(path, str(name), v), v.attrs) for name, v in dataset.data_vars.items()})


def _parts(path: Path, name: str, variable: xr.DataArray) -> Any:
    import dask
    import dask.array as da

    axis = variable.dims.index(NEUROID) if NEUROID in variable.dims else 0
    n = variable.shape[axis]
    step = max(1, BLOCK_BYTES * n // max(variable.nbytes, 1))
    parts = []
    for start in range(0, n, step):
        part = slice(start, min(start + step, n))
        shape = tuple(part.stop - start if place == axis else size for place, size in enumerate(variable.shape))
        read = dask.delayed(_part)(path, name, str(variable.dims[axis]), part)
        parts.append(da.from_delayed(read, shape=shape, dtype=variable.dtype))
    return da.concatenate(parts, axis=axis)


def _part(path: Path, name: str, dim: str, part: slice) -> NDArray[Any]:
    with xr.open_dataset(path, decode_timedelta=False) as dataset:
        return np.asarray(dataset[name].isel({dim: part}).values)


def _dims(path: Path, data: xr.DataArray) -> tuple[str, str, str | None]:
    """Dimensions of units, of stimuli, and of time where there is one."""
    dims = [str(dim) for dim in data.dims]
    over_time = names.TIME_BIN if names.TIME_BIN in dims else None
    others = [dim for dim in dims if dim not in (NEUROID, over_time)]
    if NEUROID not in dims or len(others) != 1:
        expected = f"{NEUROID}, one of stimuli ({', '.join(STIMULI)}), and perhaps {names.TIME_BIN}"
        raise ReaderError(f"{str(path)!r}: dimensions {dict(data.sizes)}, expected {expected}")
    return NEUROID, others[0], over_time


def _columns(data: xr.DataArray, dim: str) -> Table:
    """Coordinates along a dimension as columns; levels of an index among them."""
    found = {str(name): coord for name, coord in data.coords.items() if coord.dims == (dim,)}
    table = Table({name: plain(coord.values) for name, coord in found.items()})
    table.units = {name: str(coord.attrs["units"]) for name, coord in found.items() if "units" in coord.attrs}
    return table


def _identify(units: Table, n: int) -> None:
    """Give each unit an identifier of its own: theirs, with the layer where they count anew in each layer."""
    ids = units.columns.get(names.UNIT_ID)
    text = [str(one) for one in (range(n) if ids is None else ids)]
    if len(set(text)) < n and "layer" in units.columns:
        text = [f"{layer}.{one}" for layer, one in zip(units.columns["layer"], text, strict=True)]
    units.columns[names.UNIT_ID] = plain(text)


def _times(path: Path, data: xr.DataArray, over_time: str | None) -> tuple[NDArray[np.float64] | None, dict[str, Any]]:
    """Starts and ends of bins (bins, 2) in s, and the attributes of the response."""
    attrs = {"units": str(data.attrs["units"])} if "units" in data.attrs else {}
    if over_time is None:
        return None, attrs
    if names.TIME_BIN_START not in data.coords or names.TIME_BIN_END not in data.coords:
        raise ReaderError(
            f"{str(path)!r}: bins of time without {names.TIME_BIN_START} and {names.TIME_BIN_END}; coordinates: "
            f"{listed(data.coords)}"
        )
    ends = [data[name].values.astype(np.float64) for name in (names.TIME_BIN_START, names.TIME_BIN_END)]
    return np.stack(ends, axis=1) / MILLISECONDS, attrs


def _is_netcdf(path: Any) -> bool:
    return isinstance(path, Path) and path.is_file() and path.suffix.lower() in (".nc", ".nc4", ".netcdf")


READERS.add(
    "brainscore",
    Reader(
        "Brain-Score assemblies in netCDF",
        _is_netcdf,
        read_brainscore,
        frozenset({"units", "region", "factors", "split"}),
    ),
)
