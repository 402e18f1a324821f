"""NWB files from recordings, through plain h5py: spikes of units and a table of trials, or counts in bins."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.errors import StoreError
from neuroprobe.recordings.binned_nwb import BINNED, BINNED_NAMESPACE, EDGES, GROUP, OFFSET, ROUNDING, TIMESTAMPS, WIDTH
from neuroprobe.recordings.brainscore_writer import DECIMALS
from neuroprobe.recordings.columns import Table
from neuroprobe.recordings.nwb import REGION_COLUMNS
from neuroprobe.recordings.nwb_extension import write_definition
from neuroprobe.recordings.spiking import Spikes
from neuroprobe.recordings.writing import (
    WINDOW,
    WRITERS,
    Flat,
    Recording,
    Writer,
    factors_lost,
    flat,
    other_attrs,
)

VERSION: Final = "2.7.0"  # of the schema
COMMON: Final = "hdmf-common"
OPTIONS: Final = frozenset({"identifier", "description", "session_start"})
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECONDS: Final = 1000.0
SPIKES_AT_A_TIME: Final = 1 << 22
# columns that NWB describes itself
DESCRIPTIONS: Final = {
    names.START_TIME: "start of the presentation in s",
    names.STOP_TIME: "end of the presentation in s",
    names.UNIT_ID: "identifier of the unit",
    names.REGION: "region of the unit",
}
TAKEN: Final = {"spike_times", "electrodes", "obs_intervals", "waveforms", "waveform_mean", "waveform_sd"}


def write_nwb(recording: Recording, path: Path, node: str | None, options: dict[str, Any]) -> None:
    """Write an NWB file.

    Parameters
    ----------
    recording : DataTree, or a recording with spikes
        Spikes are written as ``units`` with ragged ``spike_times``; a tree's responses, which are of bins of time or
        of one window, as ``BinnedAlignedSpikes`` of ndx-binned-spikes. The presentation table is ``trials``.
    path : Path
    node : str, optional
    options : dict
        ``identifier`` and ``description`` of the session; ``session_start``, a datetime that time 0 is, by default
        the beginning of 1970 as where no date is known.

    Raises
    ------
    StoreError
        If presentations have no times, or responses no window.
    """
    try:
        import h5py
    except ImportError:
        raise StoreError(f"{str(path)!r}: NWB needs another package: pip install 'neuroprobe[nwb]'") from None
    held = _held(recording, node)
    subjects = _subjects(_units_of(recording, held))
    with h5py.File(path, "w") as file:
        _write_session(file, options, subjects)
        if isinstance(held, Flat):
            trials, last = _trials_of_counts(held)
            _write_units(file, held.units, len(subjects) == 1)
            _write_trials(file, trials)
            _write_counts(file, held, last)
            write_definition(file)
        else:
            assert not isinstance(recording, xr.DataTree)
            _write_units(file, recording.spikes.units, len(subjects) == 1, recording.spikes)
            _write_trials(file, held)


def write_template(path: Path, table: Table, identifier: str, description: str) -> None:
    """Write presentations without times: a table of trials (TimeIntervals) for an experimenter to fill in.

    Parameters
    ----------
    path : Path
    table : Table
        ``start_time`` and ``stop_time``, in s, are added as NaN.
    identifier, description : str
        Of the session.
    """
    import h5py

    empty = np.full(len(table), np.nan)
    columns = {names.START_TIME: empty, names.STOP_TIME: empty, **table.columns}
    with h5py.File(path, "w") as file:
        _write_session(file, {"identifier": identifier, "description": description}, [])
        _write_trials(file, Table(columns, {**table.units, names.START_TIME: "s", names.STOP_TIME: "s"}))


def nwb_losses(recording: Recording, node: str | None) -> list[str]:
    """Sentences on what an NWB file does not hold."""
    held = _held(recording, node)
    table, told = (held, []) if isinstance(held, Table) else (held.table, [*held.left, *factors_lost(held)])
    if names.ID not in table.columns:
        told.append("id is added to the presentation table: the number of each row")
    units = _units_of(recording, held)
    if names.STOP_TIME not in table.columns:
        told.append("stop_time is added to the presentation table: the end of the window")
    told += _regions_lost(units)
    for name in (names.START_TIME, names.STOP_TIME):
        if name in table.columns and table.units.get(name) != "s":
            told.append(f"{name} gets its units, which in NWB are s")
    told += [f"{name} of units: NWB means another thing by it" for name in units.columns if name in TAKEN]
    for one in (table, units):
        told += [f"{name}: names that end in _index are NWB's own" for name in one.columns if name.endswith("_index")]
    if isinstance(held, Flat):
        told += other_attrs(held, ("units", *WINDOW))
        told += [f"{end} is added to the responses" for end in WINDOW if end not in held.attrs]
        if "units" not in held.attrs:
            told.append("units of the responses: they are taken for spikes")
        if held.edges is not None and held.edges.shape[0] == 1:
            told.append("the only bin of time: it comes back as the window")
    return told


def _regions_lost(units: Table) -> list[str]:
    """Say where the region of units would come back as another of their columns."""
    for name in REGION_COLUMNS:
        column = units.columns.get(name)
        if name != names.REGION and column is not None and column.dtype == object and any(column):
            region = units.columns.get(names.REGION)
            if region is None or region.tolist() != column.tolist():
                return [f"region of units comes back as their {name}"]
    return []


def _held(recording: Recording, node: str | None) -> Flat | Table:
    """Counts, or the table of presentations of a recording with spikes; refuses what NWB cannot hold."""
    if not isinstance(recording, xr.DataTree):
        if not {names.START_TIME, names.STOP_TIME} <= set(recording.trials.columns):
            raise StoreError(f"trials need {names.START_TIME} and {names.STOP_TIME}: {recording.trials.listed()}")
        return recording.trials
    held = flat(recording, node)
    if names.START_TIME not in held.table.columns:
        raise StoreError(
            f"NWB holds events in time, and presentations of {held.name} have no {names.START_TIME}: "
            f"{held.table.listed()}; write them as brainscore or rsatoolbox"
        )
    edges = _edges(held)
    width = np.diff(edges)
    if not np.allclose(width, width[0], rtol=ROUNDING, atol=0):
        raise StoreError(
            f"BinnedAlignedSpikes has bins of one width that follow each other; those of {held.name} are "
            f"{width.min():g} to {width.max():g} s wide: write the spikes themselves, or brainscore"
        )
    return held


def _edges(held: Flat) -> NDArray[np.float64]:
    """Ends of bins (bins + 1,), in s after the start."""
    if held.edges is None:
        if not all(end in held.attrs for end in WINDOW):
            raise StoreError(
                f"the window of the responses of {held.name} is not told (window_start and window_end, in s): "
                "write them as brainscore or rsatoolbox"
            )
        return np.array([held.attrs[end] for end in WINDOW], dtype=np.float64)
    starts, ends = held.edges.T
    if not np.allclose(starts[1:], ends[:-1], rtol=0, atol=ROUNDING * (ends[0] - starts[0])):
        raise StoreError(f"BinnedAlignedSpikes has bins that follow each other; those of {held.name} do not")
    return np.append(starts, ends[-1])


def _units_of(recording: Recording, held: Flat | Table) -> Table:
    if isinstance(held, Flat):
        return held.units
    assert not isinstance(recording, xr.DataTree)
    return recording.spikes.units


def _subjects(units: Table) -> list[str]:
    return sorted({str(one) for one in units.columns.get(names.SUBJECT_ID, [])})


def _typed(thing: Any, kind: str, namespace: str = "core", **attrs: Any) -> Any:
    """Say what a group or dataset is; identifiers follow from its place, so that a file is the same every time."""
    thing.attrs["namespace"], thing.attrs["neurodata_type"] = namespace, kind
    identifier = thing.file["identifier"][()] if "identifier" in thing.file else b""
    place = f"{identifier.decode()}{thing.name}"
    thing.attrs["object_id"] = str(uuid.uuid5(uuid.NAMESPACE_URL, place))
    for name, value in attrs.items():
        thing.attrs[name] = value
    return thing


def _write_session(file: Any, options: Mapping[str, Any], subjects: list[str]) -> None:
    start = options.get("session_start", EPOCH)
    if not isinstance(start, datetime):
        raise StoreError(f"session_start is a datetime, received {start!r}")
    start = start if start.tzinfo is not None else start.replace(tzinfo=UTC)
    file["identifier"] = str(options.get("identifier", "neuroprobe"))
    _typed(file, "NWBFile", nwb_version=VERSION)
    file["session_description"] = str(options.get("description", "written by neuroprobe"))
    file["session_start_time"] = file["timestamps_reference_time"] = start.isoformat()
    file["file_create_date"] = _text_array([datetime.now(UTC).isoformat()])
    for name in ("acquisition", "analysis", "general", "processing", "stimulus/presentation", "stimulus/templates"):
        file.create_group(name)
    if len(subjects) == 1:
        subject = _typed(file.create_group("general/subject"), "Subject")
        subject[names.SUBJECT_ID] = subjects[0]


def _text_array(values: Any) -> Any:
    import h5py

    return np.array([str(one) for one in values], dtype=h5py.string_dtype())


def _dynamic_table(file: Any, path: str, kind: str, columns: Mapping[str, Any], units: Mapping[str, str]) -> Any:
    """Write a table with `columns`; ``id`` among them is that of the rows."""
    n = len(next(iter(columns.values()), []))
    group = file.create_group(path)
    listed = [name for name in columns if name != names.ID]
    _typed(group, kind, "core", description=f"{path.rpartition('/')[2]} of the session")
    group.attrs["colnames"] = _text_array(listed)
    group[names.ID] = np.asarray(columns.get(names.ID, np.arange(n)), dtype=np.int64)
    _typed(group[names.ID], "ElementIdentifiers", COMMON)
    for name in listed:
        column = np.asarray(columns[name])
        group[name] = _text_array(column) if column.dtype == object else column
        _typed(group[name], "VectorData", COMMON, description=DESCRIPTIONS.get(name, name))
    for name in columns:
        if name in units:
            group[name].attrs["unit"] = units[name]
    return group


def _write_trials(file: Any, trials: Table) -> None:
    file.create_group("intervals")
    columns = {name: column for name, column in trials.columns.items() if not name.endswith("_index")}
    id_fits = names.ID in columns and columns[names.ID].dtype.kind == "i"
    if names.ID in columns and not id_fits:
        raise StoreError(f"id of presentations is {columns[names.ID].dtype}, in NWB it is whole numbers: rename it")
    _dynamic_table(file, "intervals/trials", "TimeIntervals", columns, trials.units)


def _write_units(file: Any, units: Table, has_subject: bool, spikes: Spikes | None = None) -> None:
    columns = {
        name: column
        for name, column in units.columns.items()
        if name not in TAKEN and not name.endswith("_index") and not (name == names.SUBJECT_ID and has_subject)
    }
    numbers = _numbers(columns.pop(names.UNIT_ID))
    if numbers is None or names.UNIT_ID in units.units:
        columns = {names.UNIT_ID: units.columns[names.UNIT_ID], **columns}
        numbers = np.arange(len(units))
    group = _dynamic_table(file, "units", "Units", {names.ID: numbers, **columns}, units.units)
    if spikes is None:
        return
    n_spikes = spikes.bounds[:, 1] - spikes.bounds[:, 0]
    times = group.create_dataset("spike_times", shape=(int(n_spikes.sum()),), dtype=np.float64)
    at = 0
    # units next to each other are copied together
    for first, last in _stretches(spikes.bounds):
        for start in range(first, last, SPIKES_AT_A_TIME):
            part = spikes.times[start : min(start + SPIKES_AT_A_TIME, last)]
            times[at : at + len(part)] = part
            at += len(part)
    _typed(times, "VectorData", COMMON, description="spike times of the units in s")
    group["spike_times_index"] = np.cumsum(n_spikes).astype(np.uint64)
    index = _typed(group["spike_times_index"], "VectorIndex", COMMON, description="index of spike_times")
    index.attrs["target"] = times.ref
    group.attrs["colnames"] = _text_array([*(name for name in columns), "spike_times"])


def _stretches(bounds: NDArray[np.int64]) -> list[tuple[int, int]]:
    """First and last places of spikes that lie one after the other, in the order of units."""
    found: list[tuple[int, int]] = []
    for first, last in bounds.tolist():
        if found and found[-1][1] == first:
            found[-1] = (found[-1][0], last)
        else:
            found.append((first, last))
    return found


def _numbers(ids: NDArray[Any]) -> NDArray[np.int64] | None:
    """Identifiers as whole numbers, where they are such as NWB's ``id`` gives back."""
    text = [str(one) for one in ids]
    fits = all(one.isdecimal() and str(int(one)) == one and int(one) < 1 << 62 for one in text)
    return np.array([int(one) for one in text], dtype=np.int64) if fits else None


def _trials_of_counts(held: Flat) -> tuple[Table, NDArray[np.float64]]:
    """Presentations with ends, and ends of bins."""
    edges = _edges(held)
    columns = dict(held.table.columns)
    start = np.asarray(columns[names.START_TIME], dtype=np.float64)
    columns.setdefault(names.STOP_TIME, start + edges[-1])
    return Table(columns, held.table.units), edges


def _write_counts(file: Any, held: Flat, edges: NDArray[np.float64]) -> None:
    module = _typed(file.create_group(GROUP), "ProcessingModule", description="responses in bins of time")
    group = _typed(module.create_group(BINNED), BINNED, BINNED_NAMESPACE, description="responses to presentations")
    group.attrs[WIDTH] = float(np.round((edges[-1] - edges[0]) / (len(edges) - 1) * MILLISECONDS, DECIMALS))
    group.attrs[OFFSET] = float(np.round(edges[0] * MILLISECONDS, DECIMALS))
    group.attrs[EDGES] = edges
    response = np.asarray(held.response)
    response = response[..., None] if response.ndim == 2 else response
    group["data"] = np.ascontiguousarray(response.transpose(1, 0, 2))
    if "units" in held.attrs:
        group["data"].attrs["unit"] = str(held.attrs["units"])
    group[TIMESTAMPS] = np.asarray(held.table.columns[names.START_TIME], dtype=np.float64)
    group["units_region"] = np.arange(response.shape[1])
    region = _typed(group["units_region"], "DynamicTableRegion", COMMON, description="units, in the order of data")
    region.attrs["table"] = file["units"].ref


WRITERS.add(
    "nwb",
    Writer(
        "NWB: spikes of units and trials, or BinnedAlignedSpikes", (".nwb",), write_nwb, nwb_losses, options=OPTIONS
    ),
)
