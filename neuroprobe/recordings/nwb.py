"""Recordings in Neurodata Without Borders 2.x, through plain h5py: spikes of `units`, and any table of intervals.

Of a file without spikes, ``BinnedAlignedSpikes`` are read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.errors import ReaderError, reason, unknown_name
from neuroprobe.recordings.binned_nwb import binned_groups, chosen_counts, read_binned
from neuroprobe.recordings.build import safe
from neuroprobe.recordings.columns import Table, listed, plain
from neuroprobe.recordings.contract import READERS, Choices, Reader
from neuroprobe.recordings.spiking import (
    SPIKE_CHOICES,
    Spikes,
    described_tables,
    described_units,
    is_table_given,
    responses_of,
    trial_table,
)

SUFFIX: Final = ".nwb"
SPIKE_TIMES: Final = "spike_times"
SUBJECT: Final = "general/subject/subject_id"
ELECTRODES: Final = "general/extracellular_ephys/electrodes"
REGION_COLUMNS: Final = ("location", "brain_region", "brain_area", names.REGION)  # of units, the first that is told
NOT_TRIALS: Final = {"epochs", "invalid_times"}  # spans of a session, not presentations


@dataclass(frozen=True)
class FileTimes:
    """Spike times in a file, which is opened for each slice: so it can be sent to another process.

    Slices come out sorted; files in which spikes of a unit are not are common.
    """

    path: str
    dataset: str

    def __getitem__(self, key: slice, /) -> NDArray[np.float64]:
        with _opened(Path(self.path)) as file:
            times = np.asarray(file[self.dataset][key], dtype=np.float64)
        return times if (times[1:] >= times[:-1]).all() else np.sort(times)


def read_nwb(path: Path, choices: Choices) -> xr.DataTree:
    """Read a recording from an NWB file.

    Parameters
    ----------
    path : Path
    choices : Choices
        ``trials``: the name of a table of intervals (by default the only one that holds presentations), or a table of
        the caller's own; ``window`` and the other choices of spikes, see `responses_of`.

    Raises
    ------
    ReaderError
        If the file is damaged, has no spikes or no trials, or a choice is missing: it lists tables, units, regions.
    """
    with _opened(path) as file:
        tables = _interval_tables(file)
        counts = {} if _has_spikes(file) else binned_groups(file)
        if counts:
            return _counted(file, path, choices, tables, chosen_counts(counts, path))
        units, bounds = _units(file, path)
        held = _held(path, tables, units)
        if is_table_given(choices.trials):
            table = trial_table(choices.trials)
        else:
            name = _chosen_table(tables, choices, path, held)
            table = _table(tables[name])
            _require_factors(choices, name, table, tables, held)
        subject = _scalar_text(file, SUBJECT)
    if subject:
        units.columns[names.SUBJECT_ID] = plain([subject] * len(units))
    spikes = Spikes(FileTimes(str(path), f"units/{SPIKE_TIMES}"), bounds, units)
    return responses_of(spikes, table, choices, safe(path.stem), held)


def spike_trains(path: str | os.PathLike[str], units: Sequence[str] | None = None) -> dict[str, NDArray[np.float64]]:
    """Read the spike times of units as they are, as for rasters.

    Parameters
    ----------
    path : path
    units : sequence of str, optional
        Their ``unit_id``; by default all.

    Returns
    -------
    dict
        ``unit_id`` → times in s, ascending.

    Raises
    ------
    ReaderError
        If the file is damaged, has no spikes, or a unit is not there.
    """
    path = Path(path)
    if not path.is_file():
        raise ReaderError(f"{str(path)!r}: no such file")
    with _opened(path) as file:
        table, bounds = _units(file, path)
    ids = [str(one) for one in table.columns[names.UNIT_ID].tolist()]
    place = {one: number for number, one in enumerate(ids)}
    for unit in units or ():
        if str(unit) not in place:
            raise ReaderError(unknown_name("unit", str(unit), ids))
    times = FileTimes(str(path), f"units/{SPIKE_TIMES}")
    chosen = ids if units is None else [str(unit) for unit in units]
    return {unit: times[slice(*map(int, bounds[place[unit]]))] for unit in chosen}


def _counted(file: Any, path: Path, choices: Choices, tables: dict[str, Any], counts: Any) -> xr.DataTree:
    """Read counts that are binned already, of a file without spikes."""
    units = _described_units(file) if "units" in file else Table()
    subject = _scalar_text(file, SUBJECT)
    if subject and len(units):
        units.columns[names.SUBJECT_ID] = plain([subject] * len(units))
    if is_table_given(choices.trials):
        table = trial_table(choices.trials)
    elif tables:
        held = f"{str(path)!r} holds counts; tables of intervals:\n{_told_tables(tables)}"
        table = _table(tables[_chosen_table(tables, choices, path, held)])
    else:
        table = Table()
    return read_binned(counts, table, units, choices, safe(path.stem))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        import h5py
    except ImportError:
        raise ReaderError(f"{str(path)!r}: NWB needs another package: pip install 'neuroprobe[nwb]'") from None
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        size = path.stat().st_size
        raise ReaderError(
            f"{str(path)!r}: not an HDF5 file that can be read, or only the beginning of one ({size} bytes): "
            f"{reason(error)}; take a new copy"
        ) from error
    with file:
        try:
            yield file
        except (OSError, RuntimeError) as error:  # of HDF5, on reading damaged data
            raise ReaderError(f"{str(path)!r}: its data are damaged: {reason(error)}; take a new copy") from error


def _interval_tables(file: Any) -> dict[str, Any]:
    """All tables of intervals, by name; of two with one name the other by its path."""
    import h5py

    found: dict[str, Any] = {}

    def visit(name: str, thing: Any) -> None:
        if isinstance(thing, h5py.Group) and names.START_TIME in thing and names.STOP_TIME in thing:
            short = name.rpartition("/")[2]
            found[name if short in found else short] = thing

    file.visititems(visit)
    return found


def _held(path: Path, tables: dict[str, Any], units: Table) -> str:
    intervals = _told_tables(tables)
    return f"{str(path)!r} holds {described_units(units)}; tables of intervals:\n{intervals or '  none'}"


def _told_tables(tables: dict[str, Any]) -> str:
    told = {name: (len(group[names.START_TIME]), _table(group).columns) for name, group in tables.items()}
    return described_tables({name: (n, list(columns)) for name, (n, columns) in told.items()})


def _chosen_table(tables: dict[str, Any], choices: Choices, path: Path, held: str) -> str:
    of_trials = [name for name in tables if name not in NOT_TRIALS]
    if choices.trials is not None:
        if choices.trials not in tables:
            raise ReaderError(f"{unknown_name('table of intervals', choices.trials, list(tables))}\n{held}")
        return str(choices.trials)
    if not of_trials:
        raise ReaderError(
            f"{str(path)!r} has no trials: give them as `trials`, a table with {names.START_TIME!r} in s or its path, "
            f"or the name of a table of intervals\n{held}"
        )
    if len(of_trials) > 1:
        raise ReaderError(f"which table holds the presentations? Say `trials`: {listed(of_trials)}\n{held}")
    return of_trials[0]


def _require_factors(choices: Choices, name: str, table: Table, tables: dict[str, Any], held: str) -> None:
    """Refuse a factor that is a column of other tables of the file alone, and say of which."""
    for factor in choices.factors or ():
        others = [other for other, group in tables.items() if other != name and factor in _table(group).columns]
        if factor not in table.columns and others:
            raise ReaderError(
                f"factor {factor!r} is no column of the table {name}, but of {listed(others)}: say `trials`: "
                f"{others[0]}, or a factor of {name}: {table.listed()}\n{held}"
            )


def _units(file: Any, path: Path) -> tuple[Table, NDArray[np.int64]]:
    """Table of units, and first and last place of the spikes of each."""
    if not _has_spikes(file):
        inside = listed(file["processing"]) if "processing" in file else "none"
        raise ReaderError(
            f"{str(path)!r} has no spike times of units and no BinnedAlignedSpikes, and this reads nothing else of NWB "
            f"(processed data: {inside})"
        )
    group = file["units"]
    ends = np.asarray(group[f"{SPIKE_TIMES}_index"][:], dtype=np.int64)
    bounds = np.stack([np.concatenate([[0], ends[:-1]]), ends], axis=1)
    n_spikes = len(group[SPIKE_TIMES])
    if len(ends) and (ends[-1] != n_spikes or (bounds[:, 0] > bounds[:, 1]).any()):
        raise ReaderError(f"{str(path)!r}: units end at spike {ends[-1]}, there are {n_spikes}: the file is damaged")
    return _described_units(file), bounds


def _has_spikes(file: Any) -> bool:
    return "units" in file and f"{SPIKE_TIMES}_index" in file["units"]


def _described_units(file: Any) -> Table:
    """Table of units."""
    group = file["units"]
    table = _table(group)
    n = len(group[f"{SPIKE_TIMES}_index"]) if _has_spikes(file) else len(table)
    ids = table.columns.pop(names.ID, np.arange(n))
    region = _regions(file, group, table)
    columns = {names.UNIT_ID: plain([str(one) for one in ids])}
    if region is not None:
        columns[names.REGION] = region
    return Table({**columns, **table.columns}, table.units)


def _regions(file: Any, units: Any, table: Table) -> NDArray[Any] | None:
    """Regions of units: what their own table says, or that of the electrode each was recorded at."""
    for name in REGION_COLUMNS:
        if name in table.columns and table.columns[name].dtype.kind == "O" and any(table.columns[name]):
            return table.columns[name]
    if ELECTRODES not in file or "location" not in file[ELECTRODES]:
        return None
    location = plain(file[f"{ELECTRODES}/location"][:])
    row = _electrode_rows(units, file[f"{ELECTRODES}/id"][:])
    if row is None or not any(location):
        return None
    inside = (row >= 0) & (row < len(location))
    table.columns[names.ELECTRODE] = row
    return plain([location[place] if there else "" for place, there in zip(row, inside, strict=True)])


def _electrode_rows(units: Any, ids: NDArray[Any]) -> NDArray[np.int64] | None:
    """Row of each unit's electrode (its peak channel, or the first of several) in the electrodes' table; −1 if none."""
    if "peak_channel_id" in units:
        row = {int(one): place for place, one in enumerate(ids)}
        return np.array([row.get(int(one), -1) for one in units["peak_channel_id"][:]], dtype=np.int64)
    if "electrodes" not in units:
        return None
    rows = np.asarray(units["electrodes"][:], dtype=np.int64)
    if "electrodes_index" not in units:
        return rows
    ends = np.asarray(units["electrodes_index"][:], dtype=np.int64)
    starts = np.concatenate([[0], ends[:-1]])
    first = np.full(len(ends), -1, dtype=np.int64)
    first[ends > starts] = rows[starts[ends > starts]]
    return first


def _table(group: Any) -> Table:
    """Columns of a dynamic table that have one plain value per row; lists of text are joined by ``;``."""
    import h5py

    table = Table()
    n = len(group["id"]) if "id" in group else len(group[names.START_TIME])
    order = [plain(name).item() for name in group.attrs.get("colnames", [])]
    for name in dict.fromkeys([*order, *group]):
        dataset = group.get(name)
        if not isinstance(dataset, h5py.Dataset) or name.endswith("_index") or name in (SPIKE_TIMES, "electrodes"):
            continue
        if h5py.check_ref_dtype(dataset.dtype) is not None or dataset.dtype.names:
            continue
        if f"{name}_index" in group:
            ends = np.asarray(group[f"{name}_index"][:], dtype=np.int64)
            if len(ends) == n and dataset.ndim == 1 and dataset.dtype.kind in "OS":
                parts = np.split(plain(dataset[:]), ends)[:-1]
                table.columns[name] = plain([";".join(part) for part in parts])
        elif dataset.shape == (n,):
            table.columns[name] = plain(dataset[:])
        unit = dataset.attrs.get("unit")
        if name in table.columns and unit is not None:
            table.units[name] = str(plain(unit).item())
    for name in (names.START_TIME, names.STOP_TIME):
        if name in table.columns:
            table.units[name] = "s"
    return table


def _scalar_text(file: Any, name: str) -> str:
    return str(plain(file[name][()]).item()) if name in file and file[name].shape == () else ""


def _is_nwb(path: Any) -> bool:
    return isinstance(path, Path) and path.is_file() and path.suffix.lower() == SUFFIX


READERS.add(
    "nwb",
    Reader("NWB 2.x: spikes of units around the rows of a table of intervals", _is_nwb, read_nwb, SPIKE_CHOICES),
)
