"""What runs on a worker: it sets up the rig of a run once, and then records, merges and scores what it is told to.

States go through the folder of the store, which all workers see; messages carry integers, names of files and the
protocol, never models, images or responses. Only the client writes the journal, after the data.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from distributed import Status, Worker, WorkerPlugin, get_worker

from neuroprobe.cluster.devices import identity
from neuroprobe.errors import NeuroprobeError, PlanError, StoreError
from neuroprobe.journal import RUN_FOLDER, journal_entries, read_header
from neuroprobe.protocol.schema import Protocol
from neuroprobe.statistics.tree import Span

if TYPE_CHECKING:
    from neuroprobe.plans import Plan
    from neuroprobe.recorder import BlockRecorder
    from neuroprobe.rig import Rig
    from neuroprobe.store import SessionStore

NAME: Final = "neuroprobe"
PACKAGES: Final = ("neuroprobe", "torch", "torchvision", "numpy")  # that must be of one version everywhere


@dataclass(frozen=True)
class Job:
    """What workers are told of a run.

    Attributes
    ----------
    protocol : Protocol
    plans : dict of Plan
        By their keys: of sessions, or of their parts.
    path : str
        Of the store, as workers see it.
    guard : str
        Hash of what decides its numbers, content of files included.
    compared : str
        Hash of files that the client alone reads.
    versions : dict of str
        Of packages, on the client.
    resource : str, optional
        What workers have to have to take part, as dask calls it.
    """

    protocol: Protocol
    plans: dict[str, Plan]
    path: str
    guard: str
    compared: str = ""
    versions: dict[str, str] = field(default_factory=lambda: {name: version(name) for name in PACKAGES})
    resource: str | None = None


class Station(WorkerPlugin):
    """The rig of a worker, which is opened when the worker joins a run.

    Parameters
    ----------
    job : Job
    """

    name = NAME

    def __init__(self, job: Job) -> None:
        self.job = job

    def setup(self, worker: Worker) -> None:
        """Open what the protocol names, and compare it with what the client has.

        Raises
        ------
        NeuroprobeError
            With the worker's address.
        """
        if self.job.resource is not None and self.job.resource not in worker.state.total_resources:
            return
        # a shared network answers one call at a time
        self.lock = threading.Lock()
        self.threads = worker.state.nthreads
        self.recorders: dict[str, BlockRecorder] = {}
        try:
            self._require_versions()
            self._require_store()
            self.rigs = self._open()
        except NeuroprobeError as error:
            raise PlanError(f"worker {worker.address}: {error}") from None
        # sums stay in memory, as planned: a worker that dask pauses for that would never go on
        self.pause_at = worker.memory_manager.memory_pause_fraction
        worker.memory_manager.memory_pause_fraction = False
        if worker.status == Status.paused:
            worker.status = Status.running

    def teardown(self, worker: Worker) -> None:
        """Leave the worker to others as it was."""
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
        path = Path(self.job.path)
        header = read_header(path)
        if header is None or header.guard != self.job.guard:
            raise StoreError(
                f"{self.job.path!r} is not the client's output: give a path that all workers see, such as one on a "
                "shared disk"
            )

    def _open(self) -> dict[str, Rig]:
        from neuroprobe.rig import open_rig
        from neuroprobe.runner import guard_of

        opened = open_rig(self.job.protocol)
        if guard_of(self.job.protocol, opened, self.job.compared) != self.job.guard:
            raise PlanError(
                "weights, images, maps or lesions are other ones than the client's, under the same paths: copy them "
                "anew"
            )
        return {rig.session: rig for rig in opened.sessions}

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

    def __enter__(self) -> Station:
        import torch

        self.lock.acquire()
        torch.set_num_threads(self.threads)
        return self

    def __exit__(self, *error: object) -> None:
        self.lock.release()


def station() -> Station:
    """Return the station of the worker that runs this."""
    found = get_worker().plugins[NAME]
    assert isinstance(found, Station)
    return found


def identity_here(dask_worker: Worker) -> str:
    """Say which CUDA device the worker has that runs this."""
    found = dask_worker.plugins[NAME]
    assert isinstance(found, Station)
    return identity(next(iter(found.rigs.values())).device)


def record(session: str, start: int, stop: int) -> tuple[dict[str, Any], float]:
    """Record the blocks of a span; return the line that the journal shall have of it, and the seconds it took."""
    from neuroprobe.budget import explained_shortage
    from neuroprobe.machine import give_back
    from neuroprobe.shards import convergence

    with station() as here:
        started = time.perf_counter()
        recorder, span = here.recorder(session), Span(start, stop)
        with explained_shortage(lambda: recorder.place), recorder.attached():
            states = recorder.record_span(span)
            recorder.sync()
            found = convergence(span, states, recorder)
            entry = here.store(session).write(span, states, found, _token())
        give_back()
        return entry, time.perf_counter() - started


def merge(session: str, start: int, stop: int) -> dict[str, Any]:
    """Merge the halves of a span that are in the store; return the line that the journal shall have of it."""
    from neuroprobe.shards import merged

    with station() as here:
        store, span = here.store(session), Span(start, stop)
        left = Span(start, start + len(span) // 2)
        states, found = merged(left, here.recorder(session), store)
        return store.write(span, states, found, _token())


def score(number: int | None) -> None:
    """Show the top stimuli of a layer again, by its number; None for what whole images tell."""
    from neuroprobe import names
    from neuroprobe.progress import ignore
    from neuroprobe.selectivity.scores import score_layer, score_maps

    with station() as here:
        one = names.SELECTIVITY
        arguments = here.rigs[one], here.job.plans[one], here.store(one), Path(here.job.path) / RUN_FOLDER
        if number is None:
            score_maps(*arguments, ignore)
        else:
            score_layer(*arguments, number, ignore)


def _token() -> str:
    return f"-{uuid4().hex[:8]}"
