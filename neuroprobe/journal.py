"""What a run notes beside its data: what its store was begun with, and a journal of what is done.

``.neuroprobe/header.json`` holds the one, ``.neuroprobe/journal.jsonl`` the other: one line per span of blocks. What
selectivity asks once its blocks are done lies in ``.neuroprobe/scores/``, a file for each layer.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from neuroprobe import names
from neuroprobe.disk import used_bytes
from neuroprobe.errors import StoreError, reason, shown
from neuroprobe.plans import Layout, Pieces, key_of_part
from neuroprobe.statistics.tree import Span

RUN_FOLDER: Final = ".neuroprobe"
HEAD: Final = 1 << 20  # bytes of the beginning and the end of each file of a folder, or of a long one, that are hashed
LONG: Final = 1 << 30
SCORES: Final = "scores"  # folder of what top stimuli tell that are shown again
MAPS: Final = "maps"  # file there of what whole images told; others are called by the numbers of layers
FORMAT: Final = 3


@dataclass(frozen=True)
class Begun:
    """What a session of a store was begun with.

    Attributes
    ----------
    layout : Layout
    samples : int
        Base samples of the last run.
    parts : tuple of tuples
        Of each part the layers and their units, where it is recorded part by part: see `neuroprobe.plans.pieces_of`.
    """

    layout: Layout
    samples: int
    parts: tuple[Pieces, ...] = ()

    @property
    def n_blocks(self) -> int:
        """Blocks of the last run, of which the last may be shorter."""
        return -(-self.samples // self.layout.block)

    def keys(self, session: str) -> list[str]:
        """Names of what is recorded of it, in the journal: of its parts, or its own."""
        return [key_of_part(session, n) for n in range(1, len(self.parts) + 1)] or [session]


@dataclass(frozen=True)
class Header:
    """What a store was begun with.

    Attributes
    ----------
    guard : str
        Hash of what decides its numbers; another protocol has another.
    sessions : dict of Begun
        By the name of their designs.
    title : str
    """

    guard: str
    sessions: dict[str, Begun]
    title: str
    format: int = FORMAT

    @property
    def samples(self) -> dict[str, int]:
        """Base samples of each session."""
        return {name: begun.samples for name, begun in self.sessions.items()}

    @property
    def keys(self) -> list[str]:
        """Names of what is recorded, in the journal."""
        return [key for name, begun in self.sessions.items() for key in begun.keys(name)]

    @property
    def n_blocks(self) -> int:
        """Blocks of all that is recorded, part by part."""
        return sum(begun.n_blocks * len(begun.keys(name)) for name, begun in self.sessions.items())


def is_store(path: Path) -> bool:
    """Whether there is a store at a path.

    Raises
    ------
    StoreError
        If the path cannot be looked at.
    """
    try:
        return (path / RUN_FOLDER / "header.json").exists()
    except OSError as error:
        raise StoreError(f"{str(path)!r} cannot be opened ({error.strerror}); give another path") from None


def require_no_other(path: Path) -> None:
    """Refuse a path for a run that holds something other than a store, or where nothing can be written.

    Raises
    ------
    StoreError
    """
    if is_store(path):
        return
    place = next(folder for folder in path.absolute().parents if folder.exists())
    if not (place.is_dir() and os.access(place, os.W_OK)):
        why = "no writing is permitted" if place.is_dir() else "it is a file"
        raise StoreError(f"output {str(path)!r} cannot be made in {str(place)!r} ({why}); choose another path")
    if path.exists() and (not path.is_dir() or any(entry.name != RUN_FOLDER for entry in path.iterdir())):
        raise StoreError(f"output {str(path)!r} exists and is not a result ({_kind(path)}); choose another path")


def _kind(path: Path) -> str:
    if path.is_dir():
        return "folder that holds other things" if any(path.iterdir()) else "empty folder"
    return "file"


def require_store(path: Path) -> Header:
    """Read what a store was begun with, which is there to be read.

    Raises
    ------
    StoreError
        If there is no store.
    """
    header = read_header(path)
    if header is None:
        what = f"is not a result of neuroprobe ({_kind(path)})" if path.exists() else "is missing: no such result"
        raise StoreError(f"{str(path)!r} {what}; give a path that `run -o` wrote")
    return header


def read_header(path: Path) -> Header | None:
    """Read what a store was begun with; None where there is no store.

    Raises
    ------
    StoreError
        If the header is damaged, or of another version.
    """
    if not is_store(path):
        return None
    try:
        value = json.loads((path / RUN_FOLDER / "header.json").read_text())
        if value["format"] != FORMAT:
            raise StoreError(f"{str(path)!r}: store format {value['format']}, expected {FORMAT}; run with --overwrite")
        sessions = {
            name: Begun(Layout(**begun["layout"]), begun["samples"], _read_parts(begun.get("parts", ())))
            for name, begun in value["sessions"].items()
        }
        for begun in sessions.values():
            if begun.samples < 1 or begun.layout.block < 1:
                raise ValueError(f"{begun.samples} base samples in blocks of {begun.layout.block}")
        return Header(**{**value, "sessions": sessions})
    except (ValueError, KeyError, TypeError, ArithmeticError) as error:
        raise StoreError(f"{str(path)!r}: its header cannot be read ({reason(error)}); run with --overwrite") from error


def _read_parts(parts: Sequence[Sequence[Sequence[Any]]]) -> tuple[Pieces, ...]:
    return tuple(tuple((str(layer), int(start), int(stop)) for layer, start, stop in part) for part in parts)


def cut_torn_line(path: Path) -> None:
    """Cut a line that a crash left unfinished off the journal; only for the holder of the lock."""
    file = path / RUN_FOLDER / "journal.jsonl"
    data = file.read_bytes() if file.exists() else b""
    if data and not data.endswith(b"\n"):
        with file.open("r+b") as journal:
            journal.truncate(data.rfind(b"\n") + 1)


def journal_entries(path: Path) -> list[dict[str, Any]]:
    """Read the journal, but for a line that is being written."""
    file = path / RUN_FOLDER / "journal.jsonl"
    data = file.read_bytes() if file.exists() else b""
    complete = data[: data.rfind(b"\n") + 1]
    entries = []
    for number, line in enumerate(complete.splitlines(), 1):
        try:
            entry = json.loads(line)
            start, stop = entry["span"]
            texts = isinstance(entry["session"], str) and isinstance(entry["file"], str)
            if not (0 <= start < stop and texts and isinstance(entry["convergence"], dict)):
                raise ValueError(f"received {shown(entry)}")
        except (ValueError, TypeError, KeyError) as error:
            raise StoreError(
                f"{str(file)!r}:{number}: not a line of a journal ({reason(error)}); run with --overwrite"
            ) from error
        entries.append(entry)
    return entries


def live_spans(path: Path, session: str | None = None) -> list[tuple[int, int]]:
    """Spans of blocks that a store holds of a session, or of all its sessions, as its journal tells."""
    spans: list[tuple[str, Span]] = []
    for entry in journal_entries(path):
        name, span = entry["session"], Span(*entry["span"])
        spans = [(other, held) for other, held in spans if other != name or not span.holds(held)] + [(name, span)]
    return sorted((span.start, span.stop) for name, span in spans if session in (None, name))


def n_scored(path: Path, samples: int) -> int:
    """Layers of a session of selectivity whose top stimuli were shown again, of a run of so many images."""
    return sum(file.stem != MAPS for file in (path / RUN_FOLDER / SCORES / str(samples)).glob("*.safetensors"))


def bytes_of_result(path: Path) -> int:
    """Bytes of the result in a store: of all but the run's folder and stored responses."""
    return used_bytes(path) - used_bytes(path / RUN_FOLDER) - used_bytes(path / names.RESPONSES)


def digest_of(path: Path) -> str:
    """Hash of a file; of a folder, or a long file, of names, sizes, and the beginning and the end of each file."""
    whole = hashlib.sha256()
    if path.is_file() and path.stat().st_size <= LONG:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
    for file in files:
        name = file.relative_to(path).as_posix()
        if RUN_FOLDER in file.relative_to(path).parts:
            continue
        size = file.stat().st_size
        with file.open("rb") as stream:
            head = stream.read(HEAD)
            stream.seek(max(0, size - HEAD))
            whole.update(json.dumps([name, size]).encode() + head + stream.read(HEAD))
    return whole.hexdigest()
