"""Datasets of rsatoolbox in HDF5: measurements of observations by channels, and descriptors of either."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr

from neuroprobe import names
from neuroprobe.errors import ReaderError, StoreError, reason
from neuroprobe.recordings.build import choose_units, factors_attr, node_of, rows_of, safe, tree_of
from neuroprobe.recordings.columns import Table, listed, plain
from neuroprobe.recordings.contract import READERS, Choices, Reader
from neuroprobe.recordings.writing import WRITERS, Recording, Writer, flat, tree_only

SUFFIXES: Final = (".h5", ".hdf5")
MEASUREMENTS: Final = "measurements"
TABLES: Final = {"obs_descriptors": 0, "channel_descriptors": 1, "time_descriptors": 2}
VERSION: Final = "0.3.2"  # of rsatoolbox, whose layout this is
NAME: Final = "name"


def to_rsatoolbox(recording: Recording, node: str | None = None) -> dict[str, Any]:
    """Return a population as the dictionary that ``rsatoolbox.data.dataset_from_dict`` takes.

    Parameters
    ----------
    recording : DataTree
        As `read_recording` returns it.
    node : str, optional
        By default the only one.

    Returns
    -------
    dict
        A ``Dataset``; with bins of time a ``TemporalDataset``. ``stimulus_id`` and the other columns of the
        presentation table are ``obs_descriptors``, coordinates of units ``channel_descriptors``, attributes of the
        responses ``descriptors``.
    """
    held = flat(tree_only(recording, "a Dataset of rsatoolbox"), node)
    described = {NAME: held.name, **{name: value for name, value in held.attrs.items() if name != "responses"}}
    if held.factors:
        described[names.FACTORS] = held.factors
    made: dict[str, Any] = {
        MEASUREMENTS: np.asarray(held.response),
        "descriptors": described,
        "obs_descriptors": {name: _text(column) for name, column in held.table.columns.items()},
        "channel_descriptors": {name: _text(column) for name, column in held.units.columns.items()},
        "type": "Dataset",
    }
    if held.edges is not None:
        starts, ends = held.edges.T
        made["time_descriptors"] = {
            "time": held.edges.mean(1),
            names.TIME_BIN_START: starts,
            names.TIME_BIN_END: ends,
        }
        made["type"] = "TemporalDataset"
    return made


def _text(column: Any) -> Any:
    return column.astype(str) if column.dtype == object else column


def write_rsatoolbox(recording: Recording, path: Path, node: str | None, options: dict[str, Any]) -> None:
    """Write a Dataset of rsatoolbox as HDF5, as ``Dataset.save`` does."""
    assert not options
    try:
        import h5py
    except ImportError:
        raise StoreError(f"{str(path)!r}: HDF5 needs another package: pip install 'neuroprobe[nwb]'") from None
    made = to_rsatoolbox(recording, node)
    held = flat(tree_only(recording, ""), node)
    units = {"obs_descriptors": held.table.units, "channel_descriptors": held.units.units}
    with h5py.File(path, "w") as file:
        file.attrs["rsatoolbox_version"] = VERSION
        file.attrs["type"] = made["type"]
        file[MEASUREMENTS] = made[MEASUREMENTS]
        group = file.create_group("descriptors")
        for name, value in made["descriptors"].items():
            # as attributes, numbers too: rsatoolbox takes those in datasets for arrays
            group.attrs[name] = value
        for table in TABLES:
            if table in made:
                _write_table(file.create_group(table), made[table], units.get(table, {}))


def _write_table(group: Any, columns: Mapping[str, Any], units: Mapping[str, str]) -> None:
    for name, column in columns.items():
        group[name] = np.char.encode(column, "utf-8") if column.dtype.kind == "U" else column
        if name in units:
            group[name].attrs["units"] = units[name]


def rsatoolbox_losses(recording: Recording, node: str | None) -> list[str]:
    """Sentences on what a Dataset of rsatoolbox does not hold."""
    held = flat(tree_only(recording, "a Dataset of rsatoolbox"), node)
    told = [*held.left]
    for table in (held.table, held.units):
        for name, column in table.columns.items():
            if column.dtype == object and not all(str(one).isascii() for one in column):
                told.append(f"{name}: rsatoolbox itself reads text in ASCII alone, and refuses this file")
            if column.dtype == object and any(str(one).endswith("\0") for one in column):
                told.append(f"{name}: text that ends in zeros")
    return told


def read_rsatoolbox(path: Path, choices: Choices) -> xr.DataTree:
    """Read a Dataset or TemporalDataset that rsatoolbox saved as HDF5.

    Parameters
    ----------
    path : Path
    choices : Choices
        ``units``, ``region``, ``factors``.

    Raises
    ------
    ReaderError
        If it is none: it lists what it holds.

    Notes
    -----
    Channels without ``unit_id`` are called by their first descriptor that has a value of its own for each, or by their
    numbers. Times are taken for s; without ``time_bin_start`` and ``time_bin_end`` bins reach half-way to the next.
    """
    with _opened(path) as file:
        if MEASUREMENTS not in file:
            raise ReaderError(f"{str(path)!r}: no {MEASUREMENTS!r}, as rsatoolbox writes; it holds {listed(file)}")
        response = file[MEASUREMENTS][()]
        tables = {name: _table(path, file, name, response.shape) for name in TABLES}
        group = file.get("descriptors", {})
        told = {str(name): plain(value[()]).item() for name, value in group.items() if value.shape == ()}
        told |= {str(name): plain(value).item() for name, value in getattr(group, "attrs", {}).items()}
    if response.ndim not in (2, 3) or response.dtype.kind not in "iuf":
        raise ReaderError(
            f"{str(path)!r}: measurements {response.shape} of {response.dtype}, expected numbers "
            "(observations, channels[, times])"
        )
    units = _identified(tables["channel_descriptors"], response.shape[1])
    kept = choose_units(units, choices)
    factors = told.pop(names.FACTORS, None)
    told.pop(NAME, None)
    node = node_of(
        response[:, kept],
        tables["obs_descriptors"],
        rows_of(units, kept),
        attrs=told,
        bins=_bins(path, tables["time_descriptors"], response.shape[2]) if response.ndim == 3 else None,
    )
    attrs = factors_attr(tables["obs_descriptors"], choices)
    if not attrs and factors is not None:
        attrs = {names.FACTORS: factors}
    return tree_of({safe(path.stem): node}, attrs=attrs)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        import h5py
    except ImportError:
        raise ReaderError(f"{str(path)!r}: HDF5 needs another package: pip install 'neuroprobe[nwb]'") from None
    try:
        with h5py.File(path, "r") as file:
            yield file
    except OSError as error:
        raise ReaderError(f"{str(path)!r}: not an HDF5 file that can be read: {reason(error)}") from error


def _table(path: Path, file: Any, name: str, shape: tuple[int, ...]) -> Table:
    """Columns of descriptors, one value for each observation, channel or time."""
    table, group = Table(), file.get(name, {})
    axis = TABLES[name]
    if axis >= len(shape):
        return table
    for key in group:
        values = group[key]
        if getattr(values, "shape", None) != (shape[axis],):
            raise ReaderError(f"{str(path)!r}: {name} {key!r} does not have {shape[axis]} values, one for each")
        table.columns[key] = plain(values[()])
        if "units" in values.attrs:
            table.units[key] = str(plain(values.attrs["units"]).item())
    return table


def _identified(units: Table, n: int) -> Table:
    ids = [names.UNIT_ID, NAME, *units.columns]
    distinct = [name for name in ids if name in units.columns and len(set(map(str, units.columns[name]))) == n]
    text = [str(one) for one in (units.columns[distinct[0]] if distinct else range(n))]
    return Table({**units.columns, names.UNIT_ID: plain(text)}, units.units)


def _bins(path: Path, times: Table, n: int) -> Any:
    if names.TIME_BIN_START in times.columns and names.TIME_BIN_END in times.columns:
        return np.stack([times.columns[names.TIME_BIN_START], times.columns[names.TIME_BIN_END]], axis=1)
    centre = times.columns.get("time")
    if centre is None or centre.dtype == object or n < 2:
        raise ReaderError(f"{str(path)!r}: times of {n} bins are not told; time descriptors: {times.listed()}")
    between = (centre[1:] + centre[:-1]) / 2
    edges = np.concatenate([[2 * centre[0] - between[0]], between, [2 * centre[-1] - between[-1]]])
    return np.stack([edges[:-1], edges[1:]], axis=1)


def _is_dataset(path: Any) -> bool:
    if not (isinstance(path, Path) and path.is_file() and path.suffix.lower() in SUFFIXES):
        return False
    try:
        with _opened(path) as file:
            return MEASUREMENTS in file
    except ReaderError:
        return False


READERS.add(
    "rsatoolbox",
    Reader("Datasets of rsatoolbox in HDF5", _is_dataset, read_rsatoolbox, frozenset({"units", "region", "factors"})),
)
WRITERS.add(
    "rsatoolbox",
    Writer("Datasets of rsatoolbox in HDF5", SUFFIXES, write_rsatoolbox, rsatoolbox_losses),
)
