"""Spikes that another library has read: known by what they can do, so that none of these libraries is needed here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr

from neuroprobe import names
from neuroprobe.errors import ReaderError, reason, unknown_name
from neuroprobe.recordings.build import safe
from neuroprobe.recordings.columns import Table, listed, plain
from neuroprobe.recordings.contract import READERS, Choices, Reader
from neuroprobe.recordings.spiking import SPIKE_CHOICES, Spikes, described_units, responses_of, trial_table
from neuroprobe.statistics.spikes import ragged

PICKLES: Final = {".pkl", ".pickle"}
# that hold sorted spikes: of Plexon, Blackrock, NeuroExplorer, Spike2, Neuralynx; others by format="neo"
VENDORS: Final = {".plx", ".pl2", ".nev", ".nex", ".nex5", ".smr", ".smrx", ".nse", ".ntt"}


def _is_vendors(path: Any) -> bool:
    return isinstance(path, Path) and path.is_file() and path.suffix.lower() in VENDORS


def _has(*attributes: str) -> Callable[[Any], bool]:
    return lambda thing: all(hasattr(thing, attribute) for attribute in attributes)


def read_pynapple(group: Any, choices: Choices) -> xr.DataTree:
    """Read a pynapple ``TsGroup``; ``trials`` is an ``IntervalSet`` (or any table), its metadata are columns."""
    ids = list(group.keys())
    told = {str(name): group.get_info(name) for name in getattr(group, "metadata_columns", ()) if name != "rate"}
    return _read([group[one].t for one in ids], ids, told, choices, "pynapple")


def read_spikeinterface(sorting: Any, choices: Choices) -> xr.DataTree:
    """Read a spikeinterface ``Sorting``; ``segment`` says which segment, where there are several."""
    ids = list(sorting.unit_ids)
    n, segment = int(sorting.get_num_segments()), choices.option("segment")
    if segment is None and n > 1:
        raise ReaderError(f"the sorting has {n} segments, each with a clock of its own: say `segment`, from 0")
    segment = 0 if segment is None else segment
    if segment not in range(n):
        raise ReaderError(f"the sorting has segments 0 to {n - 1}, received {segment!r}")
    trains = [sorting.get_unit_spike_train(unit_id=one, segment_index=segment, return_times=True) for one in ids]
    told = {str(name): sorting.get_property(name) for name in sorting.get_property_keys()}
    return _read(trains, ids, told, choices, "spikeinterface")


def read_neo(segment: Any, choices: Choices) -> xr.DataTree:
    """Read a neo ``Segment``, or a file of a vendor through neo.

    ``trials`` is the name of one of its epochs (by default the only one), or a table. Of a file, ``block`` and
    ``segment`` say which, from 0, where there are several; ``allow_pickle=True`` opens pickles of neo.
    """
    held = segment.stem if isinstance(segment, Path) else ""
    if isinstance(segment, Path):
        segment = _segment_of(segment, choices)
    trains = [_seconds(train) for train in segment.spiketrains]
    labels = [str(train.name or number) for number, train in enumerate(segment.spiketrains)]
    ids = labels if len(set(labels)) == len(labels) else [str(number) for number in range(len(labels))]
    notes = [dict(train.annotations) for train in segment.spiketrains]
    told = {name: [note[name] for note in notes] for name in (notes[0] if notes else ()) if _in_all(name, notes)}
    choices_of_table = choices.trials
    if choices_of_table is None or isinstance(choices_of_table, str):
        choices_of_table = _epoch(segment, choices_of_table)
    return _read(trains, ids, told, choices, held or "neo", choices_of_table)


def _segment_of(path: Path, choices: Choices) -> Any:
    """Segment of a vendor's file, with its spikes in memory."""
    if path.suffix.lower() in PICKLES and choices.option("allow_pickle") is not True:
        raise ReaderError(
            f"{str(path)!r} is a pickle, which can run code: say `allow_pickle=True`, if you trust who made it"
        )
    try:
        from neo.io import get_io
    except ImportError:
        raise ReaderError(
            f"{str(path)!r}: files of vendors need another package: pip install 'neuroprobe[neo]'"
        ) from None
    try:
        blocks = get_io(str(path)).read()
    except Exception as error:  # of neo's many readers, each has errors of its own
        raise ReaderError(f"{str(path)!r}: neo cannot read it: {reason(error)}") from error
    block = _one_of(path, "block", blocks, choices.option("block"))
    return _one_of(path, "segment", block.segments, choices.option("segment"))


def _one_of(path: Path, what: str, held: Sequence[Any], number: Any) -> Any:
    if number is None and len(held) != 1:
        raise ReaderError(f"{str(path)!r} has {len(held)} {what}s: say `{what}`, from 0")
    number = 0 if number is None else number
    if number not in range(len(held)):
        raise ReaderError(f"{str(path)!r} has {what}s 0 to {len(held) - 1}, received {number!r}")
    return held[number]


def _in_all(name: str, notes: Sequence[Mapping[str, Any]]) -> bool:
    return all(isinstance(note.get(name), str | int | float) for note in notes)


def _seconds(quantity: Any) -> Any:
    return np.asarray(quantity.rescale("s").magnitude, dtype=np.float64)


def _epoch(segment: Any, name: str | None) -> Mapping[str, Any]:
    """Columns of an epoch: its times, durations, labels and annotations."""
    epochs = {str(epoch.name or number): epoch for number, epoch in enumerate(segment.epochs)}
    if name is None and len(epochs) != 1:
        told = listed(f"{known} ({len(epoch.times)} rows)" for known, epoch in epochs.items())
        raise ReaderError(f"which epoch holds the presentations? Say `trials`: {told}")
    name = next(iter(epochs)) if name is None else name
    if name not in epochs:
        raise ReaderError(unknown_name("epoch", name, list(epochs)))
    epoch = epochs[name]
    start = _seconds(epoch.times)
    columns = {names.START_TIME: start, names.STOP_TIME: start + _seconds(epoch.durations)}
    if len(epoch.labels) == len(start):
        columns["label"] = epoch.labels
    return {**columns, **{str(key): values for key, values in epoch.array_annotations.items()}}


def _read(
    trains: Sequence[Any], ids: Sequence[Any], told: Mapping[str, Any], choices: Choices, name: str, trials: Any = None
) -> xr.DataTree:
    if not trains:
        raise ReaderError(f"the spikes of {name} have no units")
    columns = {known: _text_or_numbers(values) for known, values in told.items()}
    units = Table({names.UNIT_ID: plain([str(one) for one in ids]), **columns})
    given = choices.trials if trials is None else trials
    if given is None:
        raise ReaderError(f"when was something shown? Say `trials`; there are {described_units(units)}")
    times, offsets = ragged(trains)
    bounds = np.stack([offsets[:-1], offsets[1:]], axis=1)
    held = f"there are {described_units(units)}"
    return responses_of(Spikes(times, bounds, units), trial_table(given), choices, safe(name), held)


def _text_or_numbers(values: Any) -> Any:
    array = np.asarray(values)
    return plain(array if array.ndim == 1 else [str(value) for value in array])


READERS.add(
    "pynapple",
    Reader("a pynapple TsGroup", _has("keys", "time_support", "rates"), read_pynapple, SPIKE_CHOICES),
)
READERS.add(
    "spikeinterface",
    Reader(
        "a spikeinterface Sorting",
        _has("unit_ids", "get_unit_spike_train", "get_num_segments"),
        read_spikeinterface,
        SPIKE_CHOICES | {"segment"},
    ),
)
READERS.add(
    "neo",
    Reader(
        "a neo Segment, or a vendor's file that neo reads (.plx, .nev, .nex, .smr, …): sorted spikes around its epochs",
        lambda thing: _is_vendors(thing) or _has("spiketrains", "epochs")(thing),
        read_neo,
        SPIKE_CHOICES | {"block", "segment", "allow_pickle"},
    ),
)
