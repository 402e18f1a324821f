"""The client's side of a run on many workers: it hands out spans, keeps the journal, and sees to what fails."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import count, islice
from time import monotonic
from typing import Any, Final
from uuid import uuid4

from distributed import Client, KilledWorker

from neuroprobe.cluster.devices import RESOURCE, require_own
from neuroprobe.cluster.station import Job, Station, at, forget, identity_here, merge, record, score
from neuroprobe.errors import NeuroprobeError, WorkerError
from neuroprobe.machine import Budget
from neuroprobe.planner import timed
from neuroprobe.plans import Plan
from neuroprobe.progress import BatchDone, Finished, Listener, RunStarted, ShardDone, StageAdvanced, StageStarted
from neuroprobe.rig import Rig
from neuroprobe.shards import undone
from neuroprobe.statistics.tree import Span, aligned_spans
from neuroprobe.store import SessionStore

TRIES: Final = 3  # of one span, before the run stops
SHARDS_PER_WORKER: Final = 4  # or more, so that all end at about the same time
HUNG: Final = 20  # times what a span was expected to take
LEAST_HUNG: Final = 600.0  # seconds that any span may take
PATIENCE: Final = 24 * 3600.0  # seconds that a call may take, as nothing tells how long it should
GATHER: Final = 600.0  # seconds that what a task returned may take on its way
POLL: Final = 5.0  # seconds between looks at what hangs
AHEAD: Final = 2  # calls for each worker that are under way, so that none waits for the client


@dataclass(eq=False)
class Task:
    """Something that a worker does for a session."""

    what: str  # "record", "merge" or "score"; or, of a call, what messages say
    span: Span | None
    number: int | None = None  # of a layer that is scored, or of a call
    call: tuple[Any, ...] = ()  # function, and what it takes
    seconds: float = field(default=0.0)  # for which it was seen on a worker

    @property
    def failures_of(self) -> tuple[str, Any]:
        """What counts as the same task when it is tried again."""
        return self.what, self.number if self.span is None else self.span


class Crew:
    """The workers of a run.

    Parameters
    ----------
    client : distributed.Client
    job : Job

    Raises
    ------
    WorkerError
        If there are no workers.
    PlanError
        If a worker has other versions or files, does not see the output, or shares a CUDA device with another.
    """

    def __init__(self, client: Client, job: Job) -> None:
        self._client = client
        # where some workers say that they have a device, others take no part
        placed = any(RESOURCE in one["resources"] for one in self._everybody.values())
        self._job = replace(job, resource=RESOURCE if placed else None)
        self._failures: Counter[tuple[str, Any]] = Counter()
        self._tasks: dict[Any, Task] = {}  # by their futures
        self._expected = 0.0  # seconds of a task
        self._numbers = count()  # of calls
        self._ended = threading.Event()  # set when a task ends
        self._looked = 0.0  # when tasks were last looked for
        self._alone = 0.0  # seconds without workers
        self._name = f"neuroprobe-{uuid4().hex[:8]}"
        if not self._workers:
            raise WorkerError("the scheduler has no workers: start some by `dask worker`")
        try:
            self._set_up()
        except BaseException:
            self.close()
            raise

    @property
    def _everybody(self) -> dict[str, Any]:
        """What the scheduler knows of its workers, by their addresses."""
        return dict(self._client.scheduler_info(n_workers=-1)["workers"])

    @property
    def _workers(self) -> dict[str, Any]:
        """What it knows of those that take part."""
        resource = self._job.resource
        return {key: one for key, one in self._everybody.items() if resource is None or resource in one["resources"]}

    def _set_up(self) -> None:
        """Have every worker open the rig; those that join later do so too."""
        for attempt in range(1, TRIES + 1):
            try:
                self._client.register_plugin(Station(self._job, self._name), name=self._name)
                require_own(self._client.run(identity_here, self._name, workers=list(self._workers)))
                return
            except OSError as error:  # of a worker that dies meanwhile
                self._require_connection()
                if attempt == TRIES:
                    raise WorkerError(f"workers died {TRIES} times while they opened the network: {error}") from None

    def close(self) -> None:
        """Leave the workers to others."""
        with suppress(Exception):  # where the connection is lost there is nothing to take back
            self._client.cancel(list(self._tasks), force=True)
            self._client.unregister_worker_plugin(self._name)

    @property
    def client(self) -> Client:
        """Of the scheduler."""
        return self._client

    @property
    def protocol(self) -> Any:
        """That of the run, as workers have it."""
        return self._job.protocol

    @property
    def n_workers(self) -> int:
        """Workers that are there now."""
        return max(1, len(self._workers))

    @property
    def _at_once(self) -> int:
        """Tasks that a worker may hold: one for each of its threads, or for its device."""
        if self._job.resource is not None:
            return 1
        return max([one["nthreads"] for one in self._workers.values()], default=1)

    def record_all(self, rig: Rig, plan: Plan, store: SessionStore, budget: Budget, listener: Listener) -> None:
        """Record what is not in the store; the first block that is done tells how long a shard should be."""
        session, block = plan.key, plan.layout.block
        left = [span for span in aligned_spans(0, plan.n_blocks, 1) if not store.is_done(span)]
        listener(RunStarted(plan, plan.n_blocks - len(left)))
        for span in store.siblings:
            self._merge(session, span.parent)
        given = left[: self.n_workers]
        for span in given:
            self._submit(Task("record", span), session)
        is_timed = False
        for task, result in self._finished(session, plan):
            entry, seconds = result if task.what == "record" else (result, 0.0)
            store.note(entry)
            assert task.span is not None
            if task.what == "record":
                listener(BatchDone(min(task.span.stop * block, plan.samples) - task.span.start * block))
                listener(ShardDone(task.span))
                if not is_timed:
                    is_timed = True
                    plan = timed(plan, rig, seconds, budget)
                    shard = _shard(plan, self.n_workers)
                    self._expected = shard * seconds
                    done = [*store.spans, *given]
                    for whole in aligned_spans(0, plan.n_blocks, shard):
                        for span in undone(whole, done):
                            self._submit(Task("record", span), session)
            if task.span.sibling in store.spans:
                self._merge(session, task.span.parent)
        listener(Finished())

    def score(self, rig: Rig, plan: Plan, listener: Listener) -> None:
        """Show top stimuli again, layer by layer."""
        tasks = [Task("score", None, number) for number in (None, *range(len(rig.sites)))]
        listener(StageStarted("showing top stimuli", len(tasks), "layer"))
        self._expected = 0.0
        for task in tasks:
            self._submit(task, plan.session)
        for _ in self._finished(plan.session, plan):
            listener(StageAdvanced(1))
        listener(Finished())

    def calls(
        self,
        function: Callable[..., Any],
        given: Iterable[tuple[Any, ...]],
        what: str = "part of a comparison",
        held: Sized = (),
    ) -> Iterator[tuple[int, Any]]:
        """Call a function of its own arguments each time; give numbers of calls and what they return, as they end.

        Parameters
        ----------
        function : callable
            Of modules that workers have.
        given : iterable of tuple
            Arguments, which are asked for when a worker is free.
        what : str
            For messages.
        held : sized
            What was returned and waits for earlier calls.
        """
        base = next(self._numbers)
        waiting = (Task(what, None, next(self._numbers), (function, *one)) for one in given)
        self._expected = PATIENCE / HUNG
        places: dict[int | None, int] = {}

        def submit() -> None:
            for task in islice(waiting, max(0, AHEAD * self.n_workers - len(self._tasks) - len(held))):
                places[task.number] = len(places)
                self._submit(task, "")

        try:
            submit()
            for task, result in self._finished("", None):
                yield places[task.number], result
                del result  # which may be large
                submit()
        finally:
            # where it ends before all is done
            left = [future for future, task in self._tasks.items() if task.call and (task.number or 0) > base]
            for future in left:
                del self._tasks[future]
            with suppress(Exception):  # as where the connection is lost
                self._client.cancel(left, force=True)

    def ordered(self, function: Callable[..., Any], given: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        """Call a function likewise; give what it returns in the order of the calls."""
        ended: dict[int, Any] = {}
        following = 0
        for number, result in self.calls(function, given, held=ended):
            ended[number] = result
            del result
            while following in ended:
                yield ended.pop(following)
                following += 1

    def forget(self) -> None:
        """Have workers let go of the sums of what was recorded."""
        self._client.run(forget, self._name, workers=list(self._workers))

    def _merge(self, session: str, parent: Span) -> None:
        self._submit(Task("merge", parent), session)

    def _submit(self, task: Task, session: str) -> None:
        # sums that are merged are kept on the disk no longer
        priority = 10 if task.what == "merge" else 0
        if task.call:
            calls: tuple[Any, ...] = task.call
        elif task.span is None:
            calls = (score, task.number)
        else:
            calls = (merge if task.what == "merge" else record, session, task.span.start, task.span.stop)
        resources = None if self._job.resource is None else {self._job.resource: 1}
        future = self._client.submit(at, self._name, *calls, pure=False, priority=priority, resources=resources)
        self._tasks[future] = task
        future.add_done_callback(lambda _: self._ended.set())

    def _finished(self, session: str, plan: Plan | None) -> Iterator[tuple[Task, Any]]:
        """Give out what tasks return, as they end, those that are submitted meanwhile too; try again what fails."""
        self._looked = monotonic()
        while self._tasks:
            # dask's own way to wait makes its scheduler that of all that this process reads, and of workers in it
            self._ended.wait(POLL)
            self._ended.clear()
            self._require_connection()
            for future in [future for future in self._tasks if future.status != "pending"]:
                if future.status == "finished":
                    try:
                        result = future.result(timeout=GATHER)
                    except TimeoutError:
                        continue  # it was lost with its worker, and is pending again
                    yield self._tasks.pop(future), result
                    del result
                else:
                    self._try_again(self._tasks.pop(future), future, session, plan)
            if monotonic() - self._looked > POLL:
                self._end_hung(session, plan)

    def _try_again(self, task: Task, future: Any, session: str, plan: Plan | None) -> None:
        error = future.exception() if future.status == "error" else None
        if isinstance(error, NeuroprobeError):
            raise error  # it would come again
        # dask itself tries elsewhere what a worker died of, before it gives up
        self._failures[task.failures_of] += TRIES if isinstance(error, KilledWorker) else 1
        cause = _cause(error)
        if self._failures[task.failures_of] >= TRIES:
            raise WorkerError(f"{_described(task, plan)} failed {TRIES} times: {cause}")
        self._submit(replace(task, seconds=0.0), session)

    def _end_hung(self, session: str, plan: Plan | None) -> None:
        """Restart workers that take far longer than others did; end where there are none any more."""
        now = monotonic()
        # where this process was stopped for a while, workers may have been too
        passed, self._looked = min(now - self._looked, 2 * POLL), now
        self._alone = 0.0 if self._workers else self._alone + passed
        if self._alone > LEAST_HUNG:
            raise WorkerError(
                "no worker is left, and none has come back; what is done is in the store: start workers, and run the "
                "same again to go on"
            )
        # tasks of one worker wait for each other, and count as going on meanwhile
        limit = max(LEAST_HUNG, HUNG * self._expected * self._at_once)
        place = {key: address for address, keys in self._client.processing().items() for key in keys}
        for future, task in list(self._tasks.items()):
            if future.key not in place:
                continue
            task.seconds += passed
            if task.seconds < limit:
                continue
            del self._tasks[future]
            future.cancel(force=True)
            try:
                self._client.restart_workers([place[future.key]], raise_for_error=False)
            except KeyError:
                pass  # it has gone meanwhile
            except ValueError as error:
                raise WorkerError(
                    f"{_described(task, plan)} hung, and its worker cannot be restarted ({error}): start workers with "
                    "nannies, as `dask worker` does by itself; what is done is in the store"
                ) from None
            self._failures[task.failures_of] += 1
            if self._failures[task.failures_of] >= TRIES:
                raise WorkerError(f"{_described(task, plan)} hung {TRIES} times, for {limit:.0f} s each")
            self._submit(replace(task, seconds=0.0), session)

    def _require_connection(self) -> None:
        if self._client.status != "running":
            raise WorkerError(
                "the connection to the scheduler is lost; what is done is in the store: run the same again to go on"
            )


def _shard(plan: Plan, n_workers: int) -> int:
    """Blocks of a shard: as of one process, but so few that every worker has several."""
    shard = plan.shard
    while shard > 1 and plan.n_blocks < shard * SHARDS_PER_WORKER * n_workers:
        shard //= 2
    return shard


def _described(task: Task, plan: Plan | None) -> str:
    if task.call or plan is None:
        return task.what
    if task.span is None:
        where = "all layers" if task.number is None else f"layer {plan.sites[task.number].name!r}"
        return f"showing the top stimuli of {where}"
    first, last = task.span.start * plan.layout.block, min(task.span.stop * plan.layout.block, plan.samples) - 1
    return f"{plan.session}, base samples {first:,} to {last:,}: {task.what}"


def _cause(error: BaseException | None) -> str:
    if error is None:
        return "it was lost with its worker"
    if isinstance(error, KilledWorker):
        return "workers that took it died, as they do without memory: give fewer workers, or more `--memory`"
    return f"{type(error).__name__}: {error}"
