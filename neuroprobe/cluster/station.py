"""What runs on a worker: it sets up the rig of a run once, and then records, merges and scores what it is told to.

States go through the folder of the store, which all workers see; messages carry integers, names of files and the
protocol, never models, images or responses. Only the client writes the journal, after the data.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import dask
from distributed import Status, Worker, WorkerPlugin, get_worker

from neuroprobe.cluster.devices import identity
from neuroprobe.errors import NeuroprobeError, PlanError, StoreError, about
from neuroprobe.journal import RUN_FOLDER, digest_of, journal_entries, read_header
from neuroprobe.protocol.animal import AnimalProtocol, AnyProtocol
from neuroprobe.statistics.tree import Span

if TYPE_CHECKING:
    import xarray as xr

    from neuroprobe.plans import Plan
    from neuroprobe.recorder import BlockRecorder
    from neuroprobe.rig import Rig
    from neuroprobe.stimuli.images import Tried
    from neuroprobe.store import SessionStore

HERE: ContextVar[Station] = ContextVar("station")  # of the task that runs
ALONE: Final = threading.Lock()  # Python's warnings and HDF5 are of a process, in which several workers may be
PACKAGES: Final = ("neuroprobe", "torch", "torchvision", "numpy")  # that must be of one version everywhere


@dataclass(frozen=True)
class Job:
    """What workers are told of a run.

    Attributes
    ----------
    protocol : Protocol, AnimalProtocol or None
        None where two recordings are compared.
    plans : dict of Plan
        By their keys: of sessions, or of their parts.
    path : str
        Of the store, as workers see it; empty where there is none.
    guard : str
        Hash of what decides its numbers, content of files included.
    compared : str
        Hash of what recordings are compared with.
    seen : dict of str
        Hashes of other files that are read, by their paths.
    tried : Tried, optional
        What the client found of the images, which workers decode when they show them; else each opens them all.
    versions : dict of str
        Of packages, on the client.
    resource : str, optional
        What workers have to have to take part, as dask calls it.
    """

    protocol: AnyProtocol | None
    plans: dict[str, Plan]
    path: str
    guard: str
    compared: str = ""
    seen: dict[str, str] = field(default_factory=dict)
    tried: Tried | None = None
    versions: dict[str, str] = field(default_factory=lambda: {name: version(name) for name in PACKAGES})
    resource: str | None = None


class Station(WorkerPlugin):
    """The rig of a worker, which is opened when the worker joins a run.

    Parameters
    ----------
    job : Job
    name : str
        Of this run: a lesioned run has its own, beside that of the run that it is of.
    """

    def __init__(self, job: Job, name: str) -> None:
        self.job, self.name = job, name

    def setup(self, worker: Worker) -> None:
        """Open what the protocol names, and compare it with what the client has.

        Raises
        ------
        NeuroprobeError
            With the worker's address.
        """
        if self.job.resource is not None and self.job.resource not in worker.state.total_resources:
            return
        # a shared network answers one call at a time; and each thread that calls torch has a pool of threads behind it,
        # of which several slow each other down
        self.threads = worker.state.nthreads
        self.hand = ThreadPoolExecutor(1, initializer=_of_threads, initargs=(self.threads,))
        self.recorders: dict[str, BlockRecorder] = {}
        self.refused: PlanError | None = None
        try:
            self._require_versions()
            self._require_store()
            self._require_files()
            self.recording, self.rigs = self.hand.submit(self._open).result()
        except (NeuroprobeError, OSError) as error:
            # dask keeps a worker that joins later, whatever is raised here
            self.refused = PlanError(f"worker {worker.address}: {error}")
            raise self.refused from None
        # sums stay in memory, as planned: a worker that dask pauses for that would never go on
        self.pause_at = worker.memory_manager.memory_pause_fraction
        worker.memory_manager.memory_pause_fraction = False
        if worker.status == Status.paused:
            worker.status = Status.running

    def teardown(self, worker: Worker) -> None:
        """Leave the worker to others as it was."""
        if hasattr(self, "hand"):
            self.hand.shutdown(wait=False, cancel_futures=True)
        if hasattr(self, "pause_at"):
            worker.memory_manager.memory_pause_fraction = self.pause_at

    def _require_versions(self) -> None:
        for name, theirs in self.job.versions.items():
            mine = version(name)
            if mine != theirs:
                raise PlanError(
                    f"{name} {mine}, and the client has {theirs}: numbers could differ; install one version everywhere"
                )

    def _require_store(self) -> None:
        if not self.job.path:
            return
        header = read_header(Path(self.job.path))
        if header is None or header.guard != self.job.guard:
            raise StoreError(
                f"{self.job.path!r} is not the client's output: give a path that all workers see, such as one on a "
                "shared disk"
            )

    def _require_files(self) -> None:
        for path, digest in self.job.seen.items():
            if not Path(path).exists() or digest_of(Path(path)) != digest:
                raise PlanError(
                    f"{path!r} is missing, or another one than the client's: give a path that all workers see, such as "
                    "one on a shared disk"
                )

    def _open(self) -> tuple[xr.DataTree | None, dict[str, Rig]]:
        """Open the recording that is analysed, or the network and the images, by session."""
        from neuroprobe.comparison.blocks import digest_of_compared

        protocol, others = self.job.protocol, "recordings that are compared"
        if protocol is None:
            return None, {}
        if digest_of_compared(protocol) == self.job.compared:
            others = "weights, images, maps, lesions or recordings"
            if isinstance(protocol, AnimalProtocol):
                from neuroprobe.animal_runs import guard_of_opened, open_animal

                animal = open_animal(protocol)
                if guard_of_opened(animal, self.job.compared) == self.job.guard:
                    return animal.tree, {}
            else:
                from neuroprobe.rig import open_rig
                from neuroprobe.runner import guard_of

                opened = open_rig(protocol, self.job.tried)
                if guard_of(protocol, opened, self.job.compared) == self.job.guard:
                    return None, {rig.session: rig for rig in opened.sessions}
        raise PlanError(f"{others} are other ones than the client's, under the same paths: copy them anew")

    def recorder(self, session: str) -> BlockRecorder:
        """Return the recorder of a session, or of a part of one."""
        from neuroprobe.parts import rig_of
        from neuroprobe.shards import make_recorder

        if session not in self.recorders:
            # the sums of an earlier session are of no use any more, and large
            self.recorders.clear()
            plan = self.job.plans[session]
            self.recorders[session] = make_recorder(rig_of(self.rigs[plan.session], plan), plan, Path(self.job.path))
        return self.recorders[session]

    def store(self, session: str) -> SessionStore:
        """Return what the store holds of a session now, as the client's journal tells."""
        from neuroprobe.store import SessionStore

        path = Path(self.job.path)
        return SessionStore(path, session, [one for one in journal_entries(path) if one["session"] == session])

    def do(self, function: Callable[..., Any], *given: Any) -> Any:
        """Call a function that may ask for the station, in the one thread that all is done in here.

        Raises
        ------
        PlanError
            If this worker has other versions or files than the client.
        """
        if self.refused is not None:
            raise self.refused

        def done() -> Any:
            token = HERE.set(self)
            try:
                # dask would have the scheduler do what is read here, and this worker wait for it
                with dask.config.set(scheduler="synchronous" if self.threads == 1 else "threads"):
                    return function(*given)
            finally:
                HERE.reset(token)

        return self.hand.submit(done).result()


def _of_threads(number: int) -> None:
    import torch

    torch.set_num_threads(number)


def at(name: str, function: Callable[..., Any], *given: Any) -> Any:
    """Call a function at the station of a run, of the worker that runs this."""
    found = get_worker().plugins[name]
    assert isinstance(found, Station)
    return found.do(function, *given)


def station() -> Station:
    """Return the station whose task this is."""
    return HERE.get()


def identity_here(name: str, dask_worker: Worker) -> str:
    """Say which CUDA device the worker has that runs this."""
    found = dask_worker.plugins[name]
    assert isinstance(found, Station)
    return identity(next(iter(found.rigs.values())).device) if found.rigs else ""


def forget(name: str, dask_worker: Worker) -> None:
    """Let go of the sums of what was recorded."""
    found = dask_worker.plugins.get(name)
    if isinstance(found, Station):
        found.recorders.clear()


def record(session: str, start: int, stop: int) -> tuple[dict[str, Any], float]:
    """Record the blocks of a span; return the line that the journal shall have of it, and the seconds it took."""
    from neuroprobe.budget import explained_shortage
    from neuroprobe.machine import give_back
    from neuroprobe.shards import convergence

    here, started = station(), time.perf_counter()
    recorder, span = here.recorder(session), Span(start, stop)
    with explained_shortage(lambda: recorder.place), recorder.attached():
        states = recorder.record_span(span)
        recorder.sync()
        found = convergence(span, states, recorder)
        entry = here.store(session).write(span, states, found, _token())
    del states
    give_back()
    return entry, time.perf_counter() - started


def merge(session: str, start: int, stop: int) -> dict[str, Any]:
    """Merge the halves of a span that are in the store; return the line that the journal shall have of it."""
    from neuroprobe.shards import merged

    here, span = station(), Span(start, stop)
    store, left = here.store(session), Span(start, start + len(span) // 2)
    states, found = merged(left, here.recorder(session), store)
    return store.write(span, states, found, _token())


def score(number: int | None) -> None:
    """Show the top stimuli of a layer again, by its number; None for what whole images tell."""
    from neuroprobe import names
    from neuroprobe.progress import ignore
    from neuroprobe.selectivity.scores import score_layer, score_maps

    here, one = station(), names.SELECTIVITY
    arguments = here.rigs[one], here.job.plans[one], here.store(one), Path(here.job.path) / RUN_FOLDER
    if number is None:
        score_maps(*arguments, ignore)
    else:
        score_layer(*arguments, number, ignore)


def analyse(number: int, attrs: dict[str, Any] | None, file: str) -> tuple[list[str], str, list[str]]:
    """Run an analysis of the protocol on its recording, or on what the network responded, and write what it finds.

    Parameters
    ----------
    number : int
        In the protocol.
    attrs : dict, optional
        That the result of a network will have.
    file : str

    Returns
    -------
    tuple of (list of str, str, list of str)
        Places of the nodes in the file, in order; the file, as long as the client has not given it its name; and what
        there is to warn of.
    """
    from neuroprobe.store import recorded_tree
    from neuroprobe.trial_analyses import analysed
    from neuroprobe.trial_store import write_nodes

    here = station()
    protocol = here.job.protocol
    assert protocol is not None
    spec = protocol.analyses[number]
    recording = here.recording if attrs is None else recorded_tree(Path(here.job.path), attrs)
    assert recording is not None
    # a worker that is lost may go on writing
    written = Path(file).with_name(f"{Path(file).stem}{_token()}.nc")
    with ALONE, _telling() as told, about("analyses", number, spec.name):
        found = analysed(recording, spec, protocol.seed)
        write_nodes(found, written)
    return list(found), str(written), told


@contextmanager
def _telling() -> Iterator[list[str]]:
    """Note warnings, which the client tells."""
    told: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield told
        told += [str(one.message) for one in caught if issubclass(one.category, UserWarning)]


def _token() -> str:
    return f"-{uuid4().hex[:8]}"
