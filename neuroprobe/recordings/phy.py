"""Folders of spike sorters in phy's form, as Kilosort writes them: spikes in samples, clusters, and their groups."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.errors import ReaderError, reason
from neuroprobe.recordings.build import safe
from neuroprobe.recordings.columns import Table, listed, plain
from neuroprobe.recordings.contract import READERS, Choices, Reader
from neuroprobe.recordings.delimited import read_table
from neuroprobe.recordings.spiking import (
    SPIKE_CHOICES,
    Spikes,
    described_units,
    is_table_given,
    responses_of,
    trial_table,
)
from neuroprobe.statistics.spikes import ragged_by_unit

TIMES: Final = "spike_times.npy"
CLUSTERS: Final = ("spike_clusters.npy", "spike_templates.npy")
# what was sorted by hand comes before what the sorter guessed
LABELS: Final = ("cluster_group.tsv", "cluster_KSLabel.tsv", "cluster_info.tsv")
GROUP: Final = "group"


def read_phy(path: Path, choices: Choices) -> xr.DataTree:
    """Read spikes from a folder of phy or Kilosort.

    Parameters
    ----------
    path : Path
    choices : Choices
        ``trials``: a table of presentations with ``start_time`` in s, or its path, as the folder has none.
        ``groups``: the groups of clusters that are wanted, ``good`` by default where clusters have groups.
        ``sample_rate`` in Hz, where ``params.py`` does not say it. The choices of spikes, see `responses_of`.

    Raises
    ------
    ReaderError
        If files are missing or do not fit each other, or there are no trials.
    """
    samples, cluster = _array(path / TIMES).ravel(), _clusters(path)
    if len(samples) != len(cluster):
        raise ReaderError(f"{str(path)!r}: {len(samples)} spike times, {len(cluster)} clusters of spikes")
    rate = _sample_rate(path, choices)
    known, place = np.unique(cluster, return_inverse=True)
    times, offsets = ragged_by_unit(samples / rate, place, len(known))
    units = _cluster_table(path, known)
    wanted = _wanted(path, units, choices)
    bounds = np.stack([offsets[:-1], offsets[1:]], axis=1)[wanted]
    units = Table({name: column[wanted] for name, column in units.columns.items()})
    held = f"{str(path)!r} holds {described_units(units)}; no table of presentations"
    if not is_table_given(choices.trials):
        raise ReaderError(
            f"when was something shown? Say `trials`: a table with {names.START_TIME!r} in s, or its path\n{held}"
        )
    return responses_of(Spikes(times, bounds, units), trial_table(choices.trials), choices, safe(path.name), held)


def _array(file: Path) -> NDArray[Any]:
    try:
        values: NDArray[Any] = np.load(file, allow_pickle=False)
    except FileNotFoundError:
        raise ReaderError(f"{str(file)!r}: no such file") from None
    except (ValueError, OSError, EOFError) as error:
        raise ReaderError(f"{str(file)!r}: not an array of numbers that can be read: {reason(error)}") from error
    return values


def _clusters(path: Path) -> NDArray[Any]:
    for name in CLUSTERS:
        if (path / name).is_file():
            return _array(path / name).ravel()
    raise ReaderError(f"{str(path)!r}: neither {' nor '.join(CLUSTERS)} is there")


def _sample_rate(path: Path, choices: Choices) -> float:
    """Samples per second: given, or what ``params.py`` assigns, which is not run."""
    rate = choices.option("sample_rate")
    file = path / "params.py"
    if rate is None and file.is_file():
        try:
            lines = ast.parse(file.read_text(encoding="utf-8")).body
        except (SyntaxError, UnicodeDecodeError) as error:
            raise ReaderError(f"{str(file)!r}: not Python that can be read: {reason(error)}") from error
        for line in lines:
            if isinstance(line, ast.Assign) and any(
                isinstance(target, ast.Name) and target.id == "sample_rate" for target in line.targets
            ):
                rate = line.value.value if isinstance(line.value, ast.Constant) else None
    if not isinstance(rate, int | float) or not rate > 0:
        raise ReaderError(f"{str(path)!r}: how many samples are a second? `params.py` does not say: give `sample_rate`")
    return float(rate)


def _cluster_table(path: Path, known: NDArray[Any]) -> Table:
    """What is known of the clusters that have spikes."""
    units = Table({names.UNIT_ID: plain([str(one) for one in known])})
    for name in reversed(LABELS):
        if not (path / name).is_file():
            continue
        told = read_table(path / name, missing=[""])
        key = next((one for one in ("cluster_id", "id") if one in told.columns), None)
        if key is None:
            raise ReaderError(f"{str(path / name)!r}: no column 'cluster_id'; columns: {told.listed()}")
        row = {int(one): number for number, one in enumerate(told.columns.pop(key))}
        for column, values in told.columns.items():
            label = GROUP if column == "KSLabel" else column
            # a cluster that is not in the table is not sorted yet
            empty = "" if values.dtype.kind == "O" else np.nan
            units.columns[label] = plain([values[row[one]] if one in row else empty for one in known.tolist()])
    return units


def _wanted(path: Path, units: Table, choices: Choices) -> list[int]:
    groups = choices.option("groups")
    if GROUP not in units.columns:
        if groups is not None:
            raise ReaderError(f"{str(path)!r}: clusters have no groups: {' and '.join(LABELS)} are not there")
        return list(range(len(units)))
    held = units.columns[GROUP].astype(str)
    asked = ["good"] if groups is None else [groups] if isinstance(groups, str) else list(groups)
    wanted = np.flatnonzero(np.isin(held, asked)).tolist()
    if not wanted:
        found, n = np.unique(held, return_counts=True)
        told = listed(f"{group or 'not sorted'} ({count})" for group, count in zip(found, n, strict=True))
        raise ReaderError(f"{str(path)!r}: no cluster is {' or '.join(asked)}: say `groups`; there are {told}")
    return wanted


READERS.add(
    "phy",
    Reader(
        "folder of phy or Kilosort: sorted spikes, around trials that are given",
        lambda path: isinstance(path, Path) and (path / TIMES).is_file(),
        read_phy,
        SPIKE_CHOICES | {"groups", "sample_rate"},
    ),
)
