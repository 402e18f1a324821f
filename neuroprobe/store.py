"""Results on disk: a zarr store with a journal beside the data, so that nothing is lost, mixed or half-written.

``out.zarr/`` is a zarr v3 group (root attributes: provenance; one group per analysis; ``responses/`` where stored).
``out.zarr/.neuroprobe/`` holds what a run needs to go on: ``header.json`` (what the store was begun with),
``journal.jsonl`` (one line per span of blocks that is done, fsynced after its data), and the states of
the unmerged spans.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from traceback import walk_tb
from typing import TYPE_CHECKING, Any, Final, TypeVar

from neuroprobe import names
from neuroprobe.costs import CHUNK_OF_RESULT
from neuroprobe.disk import append_line, hold, make_folder, no_room_explained, replacing, write_text
from neuroprobe.errors import StoreError, reason
from neuroprobe.journal import (
    RUN_FOLDER,
    Header,
    cut_torn_line,
    journal_entries,
    live_spans,
    read_header,
    require_store,
)
from neuroprobe.machine import give_back
from neuroprobe.plans import Layout, Pieces
from neuroprobe.provenance import in_network_order
from neuroprobe.statistics.tree import Span

if TYPE_CHECKING:
    import xarray as xr

    from neuroprobe.statistics.tree import State

S = TypeVar("S", bound="State")
PACKING: Final = ("dtype", "scale_factor", "_FillValue")  # of variables that are stored in fewer bits
SEPARATOR: Final = "|"  # between the key of a state and the name of its array


class RunStore:
    """The part of a store that a run reads and writes.

    Parameters
    ----------
    path : Path
        Of the zarr store.
    header : Header
        Of this run.

    Attributes
    ----------
    sessions : dict of SessionStore
        By the names that the journal has; filled while the store is locked.
    """

    def __init__(self, path: Path, header: Header) -> None:
        self.path, self.header = path, header
        self.folder = path / RUN_FOLDER
        self.sessions: dict[str, SessionStore] = {}

    @contextmanager
    def locked(self, *, overwrite: bool = False) -> Iterator[RunStore]:
        """Hold the store for this process, and read what is done, or delete it.

        Raises
        ------
        StoreError
            If another run writes to it, or another protocol has since.
        """
        make_folder(self.folder, self.path)
        with no_room_explained(self.path), (self.folder / "lock").open("w") as lock:
            hold(lock.fileno(), self.path)
            if overwrite:
                self._clear()
            found = read_header(self.path)
            if found is not None and _decisive(found) != _decisive(self.header):
                raise StoreError(f"{str(self.path)!r} was written by another run meanwhile; run again to see by which")
            write_text(self.folder / "header.json", json.dumps(asdict(self.header), indent=1))
            cut_torn_line(self.path)
            entries = journal_entries(self.path)
            for name in self.header.keys:
                mine = [entry for entry in entries if entry["session"] == name]
                self.sessions[name] = SessionStore(self.path, name, mine)
            self._delete_orphans()
            yield self

    def note_samples(self, samples: Mapping[str, int]) -> None:
        """Note how many base samples of each session there are in the end, where a run stopped before it had all."""
        sessions = {name: replace(begun, samples=samples[name]) for name, begun in self.header.sessions.items()}
        if sessions != self.header.sessions:
            self.header = replace(self.header, sessions=sessions)
            write_text(self.folder / "header.json", json.dumps(asdict(self.header), indent=1))

    def _clear(self) -> None:
        """Delete all but the lock, which another process may be waiting for."""
        # first, so that no crash leaves a journal to a store without a header
        (self.folder / "journal.jsonl").unlink(missing_ok=True)
        for entry in [*self.path.iterdir(), *self.folder.iterdir()]:
            if entry.is_dir() and entry != self.folder:
                shutil.rmtree(entry)
            elif entry.is_file() and entry.name != "lock":
                entry.unlink()

    def _delete_orphans(self) -> None:
        kept = {entry["file"] for session in self.sessions.values() for entry in session.spans.values()}
        for file in self.folder.glob("*.safetensors*"):
            if file.name not in kept:
                file.unlink()


def _decisive(header: Header) -> tuple[str, dict[str, tuple[Layout, tuple[Pieces, ...]]]]:
    return header.guard, {name: (begun.layout, begun.parts) for name, begun in header.sessions.items()}


class SessionStore:
    """What a store holds of one session: the states of its unmerged spans.

    Parameters
    ----------
    path : Path
        Of the zarr store.
    name : str
    entries : iterable of dict
        Lines of the journal about this session.
    """

    def __init__(self, path: Path, name: str, entries: Iterable[dict[str, Any]]) -> None:
        self.path, self.name = path, name
        self.folder = path / RUN_FOLDER
        self.spans: dict[Span, dict[str, Any]] = {}
        self.convergence: dict[int, dict[str, dict[str, dict[str, list[float]]]]] = {}
        for entry in entries:
            span = Span(*entry["span"])
            self.spans = {other: e for other, e in self.spans.items() if not span.holds(other)}
            self.spans[span] = entry
            for samples, table in entry["convergence"].items():
                self.convergence[int(samples)] = table
        # a state that is gone or damaged is recorded again
        self.spans = {span: e for span, e in self.spans.items() if _is_whole(self.folder / e["file"])}

    def is_done(self, span: Span) -> bool:
        """Whether the blocks of a span are in the store."""
        return any(done.holds(span) for done in self.spans)

    @property
    def siblings(self) -> list[Span]:
        """Left halves of spans of which both halves are there, unmerged, as a run that was stopped may leave them."""
        return [span for span in self.spans if span.is_left and span.sibling in self.spans]

    def add(self, span: Span, states: Mapping[str, State], convergence: Mapping[int, Any]) -> None:
        """Store the states of a span and take the spans that it holds out.

        The states are written first, then one line of the journal; then the files that they replace are deleted.
        """
        entry = self.write(span, states, convergence)
        try:
            self.note(entry)
        except BaseException:
            # a state without a line is lost
            (self.folder / entry["file"]).unlink(missing_ok=True)
            raise

    def write(
        self, span: Span, states: Mapping[str, State], convergence: Mapping[int, Any], token: str = ""
    ) -> dict[str, Any]:
        """Write the states of a span, and return the line of the journal that makes them count.

        Parameters
        ----------
        token : str
            Part of the file's name, that another attempt at the same span does not have.
        """
        from safetensors.torch import save_file

        file = f"{self.name}-{span.start}-{span.stop}{token}.safetensors"
        arrays = {
            f"{key}{SEPARATOR}{name}": array.contiguous().cpu()
            for key, sums in states.items()
            for name, array in sums.state().items()
        }
        with replacing(self.folder / file) as temporary:
            save_file(arrays, temporary)
        return {
            "session": self.name,
            "span": [span.start, span.stop],
            "file": file,
            "convergence": dict(convergence),
        }

    def note(self, entry: dict[str, Any]) -> None:
        """Write a line of the journal, and delete the states that those of its span replace."""
        span = Span(*entry["span"])
        append_line(self.folder / "journal.jsonl", json.dumps(entry))
        for other in [other for other in self.spans if span.holds(other)]:
            (self.folder / self.spans.pop(other)["file"]).unlink(missing_ok=True)
        self.spans[span] = entry
        self.convergence |= {int(samples): table for samples, table in entry["convergence"].items()}

    def load(self, span: Span, key: str, kind: type[S], device: Any = "cpu") -> S:
        """Read the state of a span that has a key; one at a time, as all together may not fit into memory."""
        from safetensors import safe_open

        prefix = f"{key}{SEPARATOR}"
        with safe_open(self.folder / self.spans[span]["file"], framework="pt", device=str(device)) as file:
            mine = [name for name in list(file.keys()) if name.startswith(prefix)]
            arrays = {name.removeprefix(prefix): file.get_tensor(name) for name in mine}
        return kind.from_state(arrays)

    def keys(self, span: Span) -> list[str]:
        """Keys of the states of a span."""
        from safetensors import safe_open

        with safe_open(self.folder / self.spans[span]["file"], framework="pt") as file:
            return list(dict.fromkeys(name.rpartition(SEPARATOR)[0] for name in list(file.keys())))

    def merged(self, key: str, kind: type[S]) -> S:
        """Read the states of all spans that have a key, merged from left to right."""
        first, *others = sorted(self.spans)
        sums = self.load(first, key, kind)
        for span in others:
            sums.merge(self.load(span, key, kind))
        return sums


def _is_whole(file: Path) -> bool:
    """Whether there is a file of states, as long as its header says."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt"):
            return True
    except (SafetensorError, OSError):
        return False


def write_result(path: Path, groups: Mapping[str, Iterable[tuple[str, xr.Dataset]]], attrs: Mapping[str, Any]) -> None:
    """Write a result: each group under a temporary name and then renamed, the root's attributes last.

    Parameters
    ----------
    groups : dict of iterables of (str, Dataset)
        Group → its nodes, one after the other.
    attrs : dict
        Of the root.
    """
    import zarr

    staging = path / RUN_FOLDER / "staging.zarr"
    shutil.rmtree(staging, ignore_errors=True)
    with quiet_zarr():
        try:
            for group, nodes in groups.items():
                for node, dataset in nodes:
                    where, encoding = f"{group}/{node}", _encoding(dataset)
                    dataset.to_zarr(
                        staging, group=where, mode="a", consolidated=False, zarr_format=3, encoding=encoding
                    )
                    # gone before the next is made, with what compressing it left behind
                    del dataset
                    give_back()
            root = zarr.open_group(path, mode="a", zarr_format=3)
            # from here to the end there is no whole result: new groups stand beside old ones
            root.attrs.pop(names.PROVENANCE, None)
            for group in groups:
                shutil.rmtree(path / group, ignore_errors=True)
                os.replace(staging / group, path / group)
        finally:
            shutil.rmtree(staging, ignore_errors=True)  # where writing failed, it may be what the disk lacks
        # consolidated metadata keep readers from taking the run's folder for a part of the data
        zarr.consolidate_metadata(str(path))
    # the attributes come last, in one file with the metadata: a result that has them is whole
    metadata = json.loads((path / "zarr.json").read_text())
    metadata["attributes"] |= attrs
    write_text(path / "zarr.json", json.dumps(metadata))


def _encoding(dataset: xr.Dataset) -> dict[Hashable, dict[str, Any]]:
    """One chunk per variable, or per factor where a variable is large; fast compression."""
    from zarr.codecs import BloscCodec

    encoding: dict[Hashable, dict[str, Any]] = {}
    for name, variable in dataset.data_vars.items():
        by_factor = variable.nbytes > CHUNK_OF_RESULT
        chunks = [1 if by_factor and str(dim).startswith(names.FACTOR) else n for dim, n in variable.sizes.items()]
        # how the dataset's own maker packs its numbers
        packed = {key: variable.encoding[key] for key in PACKING if key in variable.encoding}
        encoding[name] = packed | {
            "chunks": tuple(chunks),
            "compressors": [BloscCodec(cname="lz4", shuffle="bitshuffle")],
        }
    return encoding


@contextmanager
def quiet_zarr() -> Iterator[None]:
    """Silence what zarr says of parts of its format that may still change: strings, consolidated metadata."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="zarr")
        warnings.filterwarnings("ignore", message=".*(Zarr format 3|Zarr V3|Zarr hierarchy|zarr v3).*")
        yield


def open_result(path: str | os.PathLike[str], *, interim: bool = False) -> xr.DataTree:
    """Open a result.

    Parameters
    ----------
    path : path
        Of the store that a run wrote.
    interim : bool
        Whether the result of what is done so far will do, of a run that goes on, or was stopped.

    Returns
    -------
    xarray.DataTree
        One group per analysis, and in it one node per layer; read when it is used. An interim one is in memory: see
        `neuroprobe.interim`.

    Raises
    ------
    StoreError
        If there is no result, or it is unfinished.
    """
    path = Path(path)
    if interim and require_store(path).samples != finished_samples(path):
        from neuroprobe.interim import open_interim

        return open_interim(path)
    _require_finished(path)
    return _open_tree(path)


def open_recording(path: str | os.PathLike[str]) -> xr.DataTree:
    """Open stored responses, of a network or of an animal.

    Parameters
    ----------
    path : path
        Of the store that a run wrote under ``record: {store: responses}``, or of what
        `neuroprobe.recordings.write_recording` or ``neuroprobe ingest`` wrote.

    Returns
    -------
    xarray.DataTree
        The presentation table at the root; ``/responses/<layer>`` with ``response(presentation, …)`` as a dask array
        and the table as its coordinates; units of separate sessions have one node, and one table, per session.

    Raises
    ------
    StoreError
        If there is no recording, or it is unfinished.
    """
    from neuroprobe.recordings.stored import is_recording, open_written

    path = Path(path)
    if is_recording(path):
        return open_written(path)
    _require_finished(path)
    if not (path / names.RESPONSES).is_dir():
        raise StoreError(
            f"{str(path)!r} holds no responses: record them by `record: {{store: responses}}`, or open its result"
        )
    return recorded_tree(path)


def recorded_tree(path: Path, attrs: Mapping[str, Any] | None = None) -> xr.DataTree:
    """Open the responses that a run stored; with the attributes that its result will have, before that is written."""
    import xarray as xr

    # what was consolidated is that of an earlier result
    tree = _open_tree(path, chunks={}, **({} if attrs is None else {"consolidated": False}))
    if attrs is not None:
        tree.attrs = dict(attrs)
    n_finished = tree.attrs["samples"] * tree.attrs["rows"]
    with readable(path):
        table = tree.to_dataset().isel({names.PRESENTATION: slice(n_finished)}).load()
    nodes = {"/": table.set_coords(list(table.data_vars))}
    for layer, node in in_network_order(tree.attrs, tree[names.RESPONSES].children):
        responses = node.to_dataset(inherit=False).isel({names.PRESENTATION: slice(n_finished)})
        nodes[f"/{names.RESPONSES}/{layer}"] = responses.assign_coords(nodes["/"].coords)
    return xr.DataTree.from_dict(nodes)


def _open_tree(path: Path, **options: Any) -> xr.DataTree:
    import xarray as xr

    with readable(path), quiet_zarr():
        return xr.open_datatree(path.absolute(), engine="zarr", **options)


def _require_finished(path: Path) -> None:
    header = require_store(path)
    if not finished_samples(path):
        done = sum(len(Span(*span)) for name in header.keys for span in live_spans(path, name))
        raise StoreError(
            f"{str(path)!r} is unfinished: {done} of {header.n_blocks} blocks are done; "
            "run the same protocol into it again to go on, or open what is done (interim=True, --interim)"
        )


def finished_samples(path: Path) -> dict[str, int]:
    """Base samples of each session of the whole result in a store, empty if there is none."""
    import zarr

    if not (path / "zarr.json").exists():
        return {}
    with readable(path):
        attrs: dict[str, Any] = zarr.open_group(path, mode="r").attrs.asdict()
    # the attributes of the root are written last
    text = attrs.get("sessions", "{}") if names.PROVENANCE in attrs else "{}"
    try:
        return {str(name): int(samples) for name, samples in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise _damaged(path, f"sessions {text!r}") from error


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Say of data that zarr cannot read where they are.

    Raises
    ------
    StoreError
    """
    try:
        yield
    except OSError:
        raise  # of the disk, with the file's name
    except Exception as error:  # of zarr's codecs, each has errors of its own
        modules = {frame.f_globals.get("__name__", "") for frame, _ in walk_tb(error.__traceback__)}
        if not any(module.startswith("zarr.") for module in modules):
            raise
        raise _damaged(path, reason(error)) from error


def _damaged(path: Path, why: str) -> StoreError:
    return StoreError(
        f"{str(path)!r}: its data are damaged ({why}); run the protocol into it again with --overwrite, or take a copy"
    )
