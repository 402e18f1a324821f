"""Sets of stimuli that ``neuroprobe stimuli`` wrote: read, checked by their hashes, and joined with recordings."""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.errors import ReaderError, reason, shown
from neuroprobe.recordings.columns import Table, listed

FORMAT: Final = 1
TABLE: Final = "presentations.csv"
DETAILS: Final = "presentations.json"
TEMPLATE: Final = "presentations.nwb"
IMAGES: Final = "images"
N_DIGITS: Final = 16  # of that
# columns that say which presentation a row is; what they hold is the recording's own
OF_ROWS: Final = (names.PRESENTATION, names.STIMULUS_ID, names.REPETITION, names.FILE, names.CONTROL_KIND, names.ARM)
NEAR: Final = 1e-9  # relative: numbers that are the same, but for how they were written


@dataclass(frozen=True)
class StimulusSet:
    """A set of stimuli, in the order in which they are to be presented.

    Attributes
    ----------
    path : Path
    table : Table
        One row per presentation: ``stimulus_id``, ``file``, ``repetition``, settings.
    details : dict
        What ``presentations.json`` says.
    """

    path: Path
    table: Table
    details: Mapping[str, Any]

    @property
    def sha256(self) -> str:
        """Hash of the whole set."""
        return str(self.details["sha256"])

    @property
    def short(self) -> str:
        """Beginning of the hash of the images, by which a table tells its set."""
        return short(self.details["images_sha256"])

    @property
    def factors(self) -> list[str]:
        """Columns that were varied by design."""
        return list(self.details["factors"])

    @cached_property
    def rows(self) -> dict[str, int]:
        """Stimulus → a row that presents it."""
        ids = [str(one) for one in self.table.columns[names.STIMULUS_ID]]
        return {name: row for row, name in reversed(list(enumerate(ids)))}


def short(digest: str) -> str:
    """Return as much of a hash as a table holds."""
    return digest[:N_DIGITS]


def images_hash(hashes: Mapping[str, str]) -> str:
    """Hash of the images of a set, by the hashes of the files of all stimuli."""
    return _hash(f"{name}\0{one}" for name, one in sorted(hashes.items()))


def set_hash(images_sha256: str, table_sha256: str) -> str:
    """Hash of a whole set."""
    return _hash([images_sha256, table_sha256])


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def read_stimuli(path: Path) -> StimulusSet:
    """Read a set of stimuli.

    Parameters
    ----------
    path : Path
        Folder that ``neuroprobe stimuli`` wrote.

    Raises
    ------
    ReaderError
        If it is none, or a file of it is not as it was written.
    """
    try:
        details = json.loads((path / DETAILS).read_text(encoding="utf-8"))
        version = details["neuroprobe_stimulus_set"]
    except FileNotFoundError:
        raise ReaderError(
            f"{str(path)!r} is no set of stimuli: it has no {DETAILS}; give a folder that `neuroprobe stimuli` wrote"
        ) from None
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ReaderError(f"{str(path / DETAILS)!r} cannot be read ({reason(error)}): write the set anew") from None
    if version != FORMAT:
        raise ReaderError(f"{str(path)!r}: sets of version {FORMAT} are read, this is of {version!r}: write it anew")
    _require_unchanged(path, details)
    with (path / TABLE).open(encoding="utf-8", newline="") as file:
        header, *rows = list(csv.reader(file))
    columns: dict[str, NDArray[Any]] = {}
    for at, name in enumerate(header):
        cells = [row[at] for row in rows]
        if name in details["text"]:
            columns[name] = np.array(cells, dtype=object)
        else:
            columns[name] = np.array([float(cell) if cell else math.nan for cell in cells])
    for name in (names.PRESENTATION, names.REPETITION):
        columns[name] = columns[name].astype(np.int64)
    return StimulusSet(path, Table(columns, dict(details["units"])), details)


def _require_unchanged(path: Path, details: Mapping[str, Any]) -> None:
    """Refuse a set of which a file is lost or another one, or whose hashes do not go together."""
    expected = {TABLE: details["table_sha256"]}
    expected |= {one[names.FILE]: one["sha256"] for one in details["images"].values()}
    lost = [name for name in expected if not (path / name).is_file()]
    if lost:
        raise ReaderError(f"{str(path)!r}: {len(lost)} files of the set are missing ({listed(lost)}): write it anew")
    other = [name for name, digest in expected.items() if file_hash(path / name) != digest]
    of_images = images_hash({name: one["sha256"] for name, one in details["images"].items()})
    whole = details["images_sha256"] == of_images and details["sha256"] == set_hash(of_images, details["table_sha256"])
    if other or not whole:
        raise ReaderError(
            f"{str(path)!r}: {listed(other) if other else DETAILS} differs from what was written, by its SHA-256: "
            "these are not the stimuli that the set names; take the folder that was shown, or write it anew"
        )


def join_stimuli(tree: xr.DataTree, stimuli: StimulusSet, factors: tuple[str, ...] | None = None) -> xr.DataTree:
    """Give a recording the columns of the stimuli that were presented.

    Presentations are told by their ``stimulus_id`` where the recording has one, and else by their order, of which there
    have to be as many as in the set.

    Parameters
    ----------
    tree : DataTree
    stimuli : StimulusSet
    factors : tuple of str, optional
        Columns that are told as the factors; by default those that were varied in the set.

    Raises
    ------
    ReaderError
        If a stimulus is not in the set, numbers of presentations differ, a column of the recording says something else,
        or the recording tells of another set.
    """
    told = str(tree.attrs.get(names.STIMULUS_SET, stimuli.short))
    _require_same(told, stimuli, "the recording")
    root = tree.to_dataset()
    nodes = {"/": _joined(root, stimuli, "the recording") if names.PRESENTATION in root.dims else root}
    for name, node in tree[names.RESPONSES].children.items():
        nodes[f"/{names.RESPONSES}/{name}"] = _joined(node.to_dataset(inherit=False), stimuli, name)
    joined = xr.DataTree.from_dict(nodes)
    design = stimuli.details.get("design", {})
    of_set = stimuli.factors or ([] if design else list(factors or ()))
    chosen = [name for name in factors or () if name != names.STIMULUS_ID] or of_set
    joined.attrs = {**tree.attrs, names.STIMULUS_SET: stimuli.short}
    if design:
        joined.attrs |= {names.FACTORS: json.dumps(design[names.FACTORS]), "scramble": int(design["scramble"])}
    if chosen:
        table = joined[names.RESPONSES].children
        first = next(iter(table.values()))
        lacking = [name for name in chosen if name not in first.coords]
        if lacking:
            raise ReaderError(f"factors: {listed(lacking)} not among the columns: {listed(first.coords)}")
        joined.attrs[names.FACTORS] = json.dumps(chosen)
    return joined


def _joined(node: xr.Dataset, stimuli: StimulusSet, where: str) -> xr.Dataset:
    """Add the columns of the set to one table of presentations."""
    own = {str(name): coord.values for name, coord in node.coords.items() if coord.dims == (names.PRESENTATION,)}
    if names.STIMULUS_SET in own:
        for told in dict.fromkeys(str(one) for one in own[names.STIMULUS_SET]):
            _require_same(told, stimuli, where)
    n = node.sizes[names.PRESENTATION]
    by_id = names.STIMULUS_ID in own
    rows = _by_id(own, stimuli, where) if by_id else _by_order(n, stimuli, where)
    added = {}
    for name, column in stimuli.table.columns.items():
        if name in (names.PRESENTATION, names.FILE) or (by_id and name in OF_ROWS):
            continue
        values = _taken(column, rows)
        if name in own:
            _require_equal(name, own[name], values, where)
            continue
        units = stimuli.table.units.get(name)
        added[name] = (names.PRESENTATION, values, {"units": units} if units else {})
    return node.assign_coords(added)


def _taken(column: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
    """Rows of a column; of row −1, a blank that the set has none of, nothing."""
    values = column[rows]
    if not (rows < 0).any():
        return values
    values = values.astype(object if column.dtype == object else np.float64)
    nothing: Any = "" if column.dtype == object else np.nan
    values[rows < 0] = nothing
    return values


def _by_id(own: Mapping[str, NDArray[Any]], stimuli: StimulusSet, where: str) -> NDArray[np.int64]:
    ids = [str(one) for one in own[names.STIMULUS_ID]]
    kinds = [str(one) for one in own.get(names.CONTROL_KIND, [""] * len(ids))]
    blank = stimuli.rows.get(names.BLANK, -1)
    is_blank = [kind == names.BLANK and one in ("", names.BLANK) for one, kind in zip(ids, kinds, strict=True)]
    unknown = [one for one, silent in zip(ids, is_blank, strict=True) if not silent and one not in stimuli.rows]
    if unknown:
        raise ReaderError(
            f"{where}: {len(unknown)} of {len(ids)} presentations are of stimuli that are not in {str(stimuli.path)!r} "
            f"({listed(dict.fromkeys(unknown))}); it has {listed(stimuli.rows)}"
        )
    return np.array(
        [blank if silent else stimuli.rows[one] for one, silent in zip(ids, is_blank, strict=True)], dtype=np.int64
    )


def _by_order(n: int, stimuli: StimulusSet, where: str) -> NDArray[np.int64]:
    if n != len(stimuli.table):
        raise ReaderError(
            f"{where}: {n} presentations without a {names.STIMULUS_ID}, and {str(stimuli.path)!r} has "
            f"{len(stimuli.table)}: which is which? Give the recording's table a column {names.STIMULUS_ID}"
        )
    return np.arange(n)


def _require_same(told: str, stimuli: StimulusSet, where: str) -> None:
    if told and told != stimuli.short:
        raise ReaderError(
            f"{where} is of the stimuli {told} ({names.STIMULUS_SET}), and {str(stimuli.path)!r} holds "
            f"{stimuli.short}: these are others; give the set that was shown"
        )


def _require_equal(name: str, own: NDArray[Any], values: NDArray[Any], where: str) -> None:
    """Refuse a column of the recording that says something else than the set."""
    if own.dtype.kind in "iuf" and values.dtype.kind in "iuf":
        same = np.isclose(own.astype(np.float64), values.astype(np.float64), rtol=NEAR, atol=NEAR, equal_nan=True)
    else:
        same = np.array([str(a) == str(b) for a, b in zip(own.tolist(), values.tolist(), strict=True)], dtype=np.bool_)
    if not same.all():
        first = int(np.flatnonzero(~same)[0])
        raise ReaderError(
            f"{where}: {name} of presentation {first} is {shown(own.tolist()[first])}, and that of its stimulus in the "
            f"set {shown(values.tolist()[first])}: rename the column, or give the set that was shown"
        )
