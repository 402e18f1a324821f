"""Runs on recordings that are made: read one, say what can be asked of it, ask it, write the result."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import xarray as xr

from neuroprobe import names
from neuroprobe.analysis.populations import PIECE_BYTES
from neuroprobe.comparison.blocks import digest_of_compared
from neuroprobe.errors import NeuroprobeError, PlanError, ReaderError, StoreError, about, unknown_name
from neuroprobe.journal import Begun, Header, digest_of, is_store, live_spans, read_header, require_no_other
from neuroprobe.machine import human_bytes, parse_bytes
from neuroprobe.plans import Layout
from neuroprobe.progress import Listener, default_listener
from neuroprobe.protocol.animal import OTHER_FILES, AnimalProtocol
from neuroprobe.protocol.digest import as_given, canonical, guard_of_recording, protocol_hash
from neuroprobe.recordings.read import read_recording
from neuroprobe.recordings.stored import is_recording
from neuroprobe.recordings.summary import described, summarise
from neuroprobe.store import RunStore, finished_samples, open_recording, open_result, write_result
from neuroprobe.trial_analyses import require_runnable
from neuroprobe.trial_store import ANALYSES, KeptAnalyses

if TYPE_CHECKING:
    from distributed import Client

    from neuroprobe.cluster.crew import Crew

COPIES: Final = 4  # of a piece of responses that an analysis takes, by and large
PACKAGES: Final = ("neuroprobe", "numpy", "scipy", "xarray", "zarr")
PLACE: Final = ("subject", "recording")
CHOICES_OF_STORED: Final = ("factors", "units", "region", "stimuli")  # the first of what a run recorded too


@dataclass(frozen=True)
class OpenedRecording:
    """A recording, opened as a protocol says.

    Attributes
    ----------
    protocol : AnimalProtocol
    tree : xarray.DataTree
    digest : str
        Hash of its file, or files.
    """

    protocol: AnimalProtocol
    tree: xr.DataTree
    digest: str

    def problems(self) -> dict[str, NeuroprobeError]:
        """Why analyses cannot run, by their names."""
        found: dict[str, NeuroprobeError] = {}
        for number, spec in enumerate(self.protocol.analyses):
            try:
                with self.protocol.places.told(), about(ANALYSES, number, spec.name):
                    require_runnable(self.tree, spec)
            except NeuroprobeError as error:
                found[spec.name] = error
        return found


@dataclass(frozen=True)
class RecordingPlan:
    """What a run on a recording will do and what it will cost.

    Attributes
    ----------
    title, source : str
    recording : dict
        As `neuroprobe.recordings.summary.summarise` gives it: units, presentations, conditions of each factor, ….
    lines : tuple of str
        The same in words.
    analyses : tuple of str
        Those that can run.
    problems : dict of str
        Those that cannot → why.
    memory : dict
        Bytes by purpose.
    """

    title: str
    source: str
    recording: Mapping[str, Any]
    lines: tuple[str, ...]
    analyses: tuple[str, ...]
    problems: Mapping[str, str]
    memory: Mapping[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as plain values, for machines."""
        told = {"title": self.title, "source": self.source, "recording": dict(self.recording)}
        return told | {
            "analyses": list(self.analyses),
            "problems": dict(self.problems),
            "memory": dict(self.memory),
            "seconds": None,
            "warnings": [],
        }

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {human_bytes(n)}" for name, n in self.memory.items())
        lines = [f"{self.title or 'untitled protocol'}: analyses of a recording", f"  recording   {self.source}"]
        lines += [f"              {line}" for line in self.lines]
        lines.append(f"  analyses    {', '.join(self.analyses) or 'none can run'}")
        lines += [f"  cannot run  {name}: {why}" for name, why in self.problems.items()]
        lines.append(f"  memory      {human_bytes(sum(self.memory.values()))} ({parts})")
        return "\n".join(lines)

    __repr__ = __str__


def open_animal(protocol: AnimalProtocol) -> OpenedRecording:
    """Read the recording of a protocol, or open it where it is in one of our own stores.

    Raises
    ------
    ReaderError, StoreError
        With the place in the protocol.
    """
    spec = protocol.subject.recording
    path = Path(spec.path)
    with protocol.places.told(), about(*PLACE):
        if not path.exists():
            raise ReaderError(f"{str(path)!r}: no such file or folder")
        if is_recording(path) or is_store(path):
            tree = _stored(path, spec.choices)
        else:
            tree = read_recording(path, **spec.choices)
        return OpenedRecording(protocol, tree, _digest(path, spec.choices))


def _digest(path: Path, choices: Mapping[str, Any]) -> str:
    """Hash of the recording, and of other files that are read with it."""
    others = [Path(choices[key]) for key in OTHER_FILES if isinstance(choices.get(key), str)]
    digests = [digest_of(path), *(digest_of(other) for other in others if other.exists())]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _stored(path: Path, choices: Mapping[str, Any]) -> xr.DataTree:
    """Open what was read or recorded before, of which units, factors and stimuli can still be chosen."""
    factors, is_read = choices.get("factors"), is_recording(path)
    for key in choices:
        if key not in (CHOICES_OF_STORED if is_read else CHOICES_OF_STORED[:1]):
            raise ReaderError(
                f"{key}: {str(path)!r} holds responses that were read before: choose it in `neuroprobe ingest`, or "
                "units by the `units` of an analysis"
            ).about(key)
    if is_read and set(choices) - {"factors"}:
        return read_recording(path, **choices)
    tree = open_recording(path)
    if factors is None:
        return tree
    chosen = [factors] if isinstance(factors, str) else list(factors)
    first = next(iter(tree[names.RESPONSES].children.values())).to_dataset()
    table = [str(name) for name, column in first.coords.items() if column.dims == (names.PRESENTATION,)]
    for factor in chosen:
        if factor not in table:
            raise ReaderError(unknown_name("factor", factor, table)).about("factors")
    tree.attrs[names.FACTORS] = json.dumps(chosen)
    return tree


def plan_animal(protocol: AnimalProtocol, *, memory: str | int | None = None) -> RecordingPlan:
    """Say what a recording holds, which analyses can run on it, and what they cost."""
    given = None if memory is None else parse_bytes(memory)
    return _plan(open_animal(protocol), given)


def _plan(opened: OpenedRecording, memory: int | None) -> RecordingPlan:
    problems = opened.problems()
    nodes = [node.to_dataset()[names.RESPONSE] for node in opened.tree[names.RESPONSES].children.values()]
    held = sum(array.nbytes for array in nodes if array.chunks is None)
    piece = max(min(PIECE_BYTES, 8 * array.size) for array in nodes)
    costs = {"responses": held, "a piece under analysis": COPIES * piece}
    if memory is not None and sum(costs.values()) > memory:
        most = max(costs, key=lambda name: costs[name])
        raise PlanError(
            f"the analyses take about {human_bytes(sum(costs.values()))}, most of it for {most} "
            f"({human_bytes(costs[most])}), and {human_bytes(memory)} are allowed: raise --memory, or read fewer units"
        )
    return RecordingPlan(
        title=opened.protocol.title,
        source=opened.protocol.subject.recording.path,
        recording=summarise(opened.tree),
        lines=tuple(described(opened.tree).splitlines()),
        analyses=tuple(spec.name for spec in opened.protocol.analyses if spec.name not in problems),
        problems={name: str(error) for name, error in problems.items()},
        memory=costs,
    )


def run_animal(
    protocol: AnimalProtocol,
    path: Path,
    *,
    overwrite: bool = False,
    listener: Listener | None = None,
    memory: str | int | None = None,
    workers: int | None = None,
    client: Client | None = None,
) -> xr.DataTree:
    """Run the analyses of a protocol on its recording, or go on with a run that was interrupted.

    Parameters
    ----------
    protocol : AnimalProtocol
    path : Path
        Of the store of the result.
    overwrite, listener, memory, workers, client
        As of `neuroprobe.run`.

    Raises
    ------
    NeuroprobeError
        Before any work, if the recording cannot be read, or an analysis cannot run on it.
    """
    given = None if memory is None else parse_bytes(memory)
    if path.resolve() == Path(protocol.subject.recording.path).resolve():
        raise StoreError(f"output {str(path)!r} is the recording itself; choose another path")
    require_no_other(path)
    found = None if overwrite else read_header(path)
    if found is not None and not live_spans(path) and not finished_samples(path):
        found, overwrite = None, True
    opened = open_animal(protocol)
    for error in opened.problems().values():
        raise error
    _plan(opened, given if given is None or workers is None else given // workers)
    compared = digest_of_compared(protocol)
    guard = guard_of_opened(opened, compared)
    if found is not None and found.guard != guard:
        raise StoreError(
            f"{str(path)!r} was written by another protocol ({found.title or 'untitled'}) or of another recording: "
            "choose another path, or delete it by --overwrite"
        )
    specs = list(enumerate(protocol.analyses))
    store = RunStore(path, Header(guard, {ANALYSES: Begun(Layout(1, None, 1), len(specs))}, protocol.title))
    with store.locked(overwrite=overwrite):
        if finished_samples(path) == store.header.samples:
            return open_result(path)
        with protocol.places.told(), _crew(opened, path, guard, compared, workers, client) as crew:
            kept = KeptAnalyses(path, specs, protocol.seed, opened.digest, crew=crew)
            kept.run(opened.tree, listener or default_listener())
        write_result(path, kept.groups(), _root_attrs(opened))
    return open_result(path)


@contextmanager
def _crew(
    opened: OpenedRecording, path: Path, guard: str, compared: str, workers: int | None, client: Client | None
) -> Iterator[Crew | None]:
    """Workers that analyse; None where this process does."""
    if workers is None and client is None:
        yield None
        return
    from neuroprobe.cluster.hired import hired
    from neuroprobe.cluster.station import Job

    with hired(Job(opened.protocol, {}, str(path.absolute()), guard, compared), client, workers) as crew:
        yield crew


def guard_of_opened(opened: OpenedRecording, compared: str) -> str:
    """Hash of what decides the numbers of a run: the protocol, its recording, and what that is compared with."""
    return guard_of_recording(opened.protocol, opened.digest + compared)


def _root_attrs(opened: OpenedRecording) -> dict[str, Any]:
    protocol, tree = opened.protocol, opened.tree
    source = json.loads(tree.attrs.get(names.PROVENANCE, "{}"))
    summary = summarise(tree)
    details = {
        "protocol": canonical(protocol),
        "protocol_as_given": as_given(protocol),
        "protocol_hash": protocol_hash(protocol),
        "recording_hash": opened.digest,
        "recording": source,
        "summary": summary,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {package: version(package) for package in PACKAGES},
    }
    if isinstance(source.get("weights_hash"), str):
        details["weights_hash"] = source["weights_hash"]
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {
        "Conventions": names.CONVENTIONS,
        "title": protocol.title,
        "history": f"{now} neuroprobe {version('neuroprobe')}: analysed",
        "seed": protocol.seed,
        "kind": "recording",
        "sessions": json.dumps({ANALYSES: len(protocol.analyses)}),
        "samples": summary["presentations"],
        names.FACTORS: tree.attrs.get(names.FACTORS, "[]"),
        names.PROVENANCE: json.dumps(details),
    }
