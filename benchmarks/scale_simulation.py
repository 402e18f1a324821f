"""What 1 000 workers would wait for: the merge tree, the journal and the messages of a run, simulated.

Unit costs are measured here: a line of the journal with its fsync, a worker's look at the store, messages and their
bytes, the scheduler and the client's loop (a LocalCluster of many tiny tasks), reading, merging and writing of states.
A run of a large network is then played through event by event, as `neuroprobe.cluster` would do it: workers record
shards, write states to a shared disk and tell the client, which keeps the journal and hands out merges of siblings.

Assumed, and printed: what the shared disk gives to one worker and to all, and how long a block takes to record.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import pickle
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
import torch
from distributed import Client, LocalCluster, wait
from PIL import Image

from neuroprobe.cluster.crew import SHARDS_PER_WORKER
from neuroprobe.disk import append_line
from neuroprobe.journal import RUN_FOLDER
from neuroprobe.shards import undone
from neuroprobe.statistics.estimators import DifferenceTerms
from neuroprobe.statistics.pick_freeze import PickFreezeSums
from neuroprobe.statistics.tree import Span, aligned_spans
from neuroprobe.stimuli.folders import open_folder
from neuroprobe.stimuli.images import Framing, ImageSet
from neuroprobe.store import SessionStore

FACTORS = 12
N_IMAGES = 50_000
HASH_BYTES = 32
# layers of ResNet-50 for images of 224 px, with their channels and positions: stem, bottlenecks, classifier
STAGES = ((3, 256, 56), (4, 512, 28), (6, 1024, 14), (3, 2048, 7))
LAYERS = {
    "relu": (64, 112**2),
    **{f"layer{k}.{i}": (n, side**2) for k, (many, n, side) in enumerate(STAGES, 1) for i in range(many)},
    "fc": (1000, 1),
}
CHANNELS, UNITS = sum(n for n, _ in LAYERS.values()), sum(n * places for n, places in LAYERS.values())
WORKERS = (1, 10, 100, 1000)
MEASURED_UNITS = 60_000  # of the states that are read, merged and written here


@dataclass(frozen=True)
class Costs:
    """Measured seconds, and bytes.

    Attributes
    ----------
    line, line_bytes : float
        Of a line of the journal, written so that it lasts.
    look_line, look_state : float
        Of a worker's look at the store, for each line of the journal and each state that is there.
    task, result : int
        Bytes of a task and of what it returns.
    scheduler : float
        Of one task, from the client to a worker and back.
    wake, outstanding : float
        Of the client's loop when something ends: by itself, and for each task that is given out.
    read, merge, write : float
        Of one byte of a state.
    opened : float
        Seconds of a worker for each image when it opens the set.
    """

    line: float
    line_bytes: int
    look_line: float
    look_state: float
    task: int
    result: int
    scheduler: float
    wake: float
    outstanding: float
    read: float
    merge: float
    write: float
    opened: float


def median_seconds(action: Callable[[], Any], n: int) -> float:
    """Median time of some calls."""
    seconds = []
    for _ in range(n):
        started = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds))


def state(n_units: int, terms: DifferenceTerms) -> PickFreezeSums:
    """Return a merged state of random sums."""
    kept, ratios = (torch.rand(n, n_units, dtype=torch.float64) for n in (terms.n_kept, terms.n_ratios))
    return PickFreezeSums(kept, torch.rand(n_units), 128, 2, ratios, ratios.clone(), n_ratios=terms.n_ratios)


def state_bytes(n_units: int, terms: DifferenceTerms, n_blocks: int) -> int:
    """Bytes of a state on disk; that of a single block has no second moments."""
    return n_units * (8 * terms.n_kept + 4 + (16 * terms.n_ratios if n_blocks > 1 else 0))


def summary(n: int) -> dict[str, Any]:
    """Return what a line of the journal says of convergence, where its span starts the run."""
    errors = {
        f"{name}_se_{key}": [0.0123456789012345] * FACTORS for name in ("first_order", "total_order") for key in "abc"
    }
    return {str(n): {"sobol": dict.fromkeys(LAYERS, errors)}}


def measure(folder: Path) -> Costs:
    """Measure every unit cost but the scheduler's."""
    terms = DifferenceTerms(FACTORS)
    (folder / RUN_FOLDER).mkdir()
    store = SessionStore(folder, "pick-freeze", [])
    sums = state(MEASURED_UNITS, terms)
    size = state_bytes(MEASURED_UNITS, terms, 2)
    entry: dict[str, Any] = {}

    def write() -> None:
        entry.update(store.write(Span(0, 2), {"sobol/fc": sums}, {}, "-01234567"))

    written = median_seconds(write, 3)
    store.spans = {Span(0, 2): entry}
    read = median_seconds(
        lambda: [x.sum() for x in store.load(Span(0, 2), "sobol/fc", PickFreezeSums).state().values()], 3
    )
    other = state(MEASURED_UNITS, terms)
    merged = median_seconds(lambda: sums.merge(other), 5)
    journal = folder / RUN_FOLDER / "journal.jsonl"
    line = json.dumps(entry)
    appended = median_seconds(lambda: append_line(journal, line), 50)
    # a look reads the whole journal, and opens every state that is there
    entries = [dict(entry, span=[2 * i, 2 * i + 2]) for i in range(1000)]
    few = [dict(entry, span=[0, 2]) for _ in range(1000)]
    parsed = median_seconds(lambda: [json.loads(line) for _ in range(1000)], 3) / 1000
    folded = median_seconds(lambda: SessionStore(folder, "pick-freeze", few), 3) / 1000
    looked = median_seconds(lambda: SessionStore(folder, "pick-freeze", entries[:400]), 3) / 400
    task = len(pickle.dumps(("pick-freeze", 4095, 4096)))
    result = len(pickle.dumps((entry, 12.3456)))
    scheduler, wake, outstanding = measure_dask()
    opened = measure_opening(folder)
    return Costs(
        appended, len(line) + 1, parsed + folded, looked, task, result, scheduler, wake, outstanding,
        read / size, merged / size, written / size, opened,
    )  # fmt: skip


def measure_opening(folder: Path, n: int = 1000) -> float:
    """Seconds for each image of a folder, of the size of ImageNet's, when a worker opens what the client has tried."""
    path = folder / "images"
    path.mkdir()
    Image.fromarray(skimage.data.coffee()).resize((500, 375)).save(path / "0.jpg", quality=96)
    for number in range(1, n):
        shutil.copy(path / "0.jpg", path / f"{number}.jpg")
    framing = Framing((224, 224))
    tried = ImageSet(open_folder(path), framing=framing).tried
    return median_seconds(lambda: ImageSet(open_folder(path), framing=framing, tried=tried), 3) / n


def nothing(number: int) -> dict[str, Any]:
    """Return about what a worker returns."""
    return {"session": "pick-freeze", "span": [number, number + 1], "file": "pick-freeze-0-1-01234567.safetensors"}


def measure_dask(n: int = 2000) -> tuple[float, float, float]:
    """Seconds of the scheduler for a task, and of the client's loop: by itself, and for each task given out."""
    options: dict[str, Any] = {"n_workers": 2, "threads_per_worker": 1, "processes": False, "dashboard_address": ":0"}
    with LocalCluster(**options, silence_logs=60) as cluster, Client(cluster) as client:
        wait([client.submit(nothing, i, pure=False) for i in range(100)])
        started = time.perf_counter()
        futures = [client.submit(nothing, i, pure=False) for i in range(n)]
        wait(futures)
        scheduler = (time.perf_counter() - started) / n

        def wake(waited: list[Any]) -> Callable[[], None]:
            def call() -> None:  # as `Crew._finished` does
                wait(waited, timeout=5, return_when="FIRST_COMPLETED")
                [future for future in waited if future.status != "pending"]
                client.processing()

            return call

        one, many = (median_seconds(wake(futures[:k]), 5) for k in (1, n))
    return scheduler, one, max(0.0, many - one) / n


class Server:
    """Something that does a few things at a time, in order of arrival."""

    def __init__(self, events: Events, n: int = 1) -> None:
        self.events, self.free, self.waiting = events, n, deque[tuple[float, Callable[[], None]]]()
        self.n, self.busy = n, 0.0

    def ask(self, seconds: float, then: Callable[[], None]) -> None:
        """Have something done."""
        self.waiting.append((seconds, then))
        self._next()

    def _next(self) -> None:
        while self.free and self.waiting:
            seconds, then = self.waiting.popleft()
            self.free -= 1
            self.busy += seconds / self.n
            self.events.after(seconds, lambda then=then: self._end(then))  # type: ignore[misc]

    def _end(self, then: Callable[[], None]) -> None:
        self.free += 1
        then()
        self._next()


class Events:
    """What happens when."""

    def __init__(self) -> None:
        self.now = 0.0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()

    def after(self, seconds: float, then: Callable[[], None]) -> None:
        """Do something later."""
        heapq.heappush(self._queue, (self.now + seconds, next(self._number), then))

    def run(self) -> None:
        """Go on until nothing is left to do."""
        while self._queue:
            self.now, _, then = heapq.heappop(self._queue)
            then()


@dataclass
class Run:
    """A run of a network by many workers, played through.

    Parameters
    ----------
    costs : Costs
    n_workers, n_blocks : int
    block_seconds : float
        That a worker takes to record a block.
    n_units : int
    second_order : bool
    each, together : float
        Bytes per second of the shared disk: for one worker, and for all.
    """

    costs: Costs
    n_workers: int
    n_blocks: int
    block_seconds: float
    n_units: int
    second_order: bool
    each: float
    together: float
    events: Events = field(default_factory=Events)

    def __post_init__(self) -> None:
        self.terms = DifferenceTerms(FACTORS, self.second_order)
        self.disk = Server(self.events, max(1, round(self.together / self.each)))
        self.scheduler, self.client = Server(self.events), Server(self.events)
        self.idle, self.records, self.merges = 0, deque[Span](), deque[Span]()
        self.spans: set[Span] = set()
        self.lines = self.outstanding = 0
        self.merging = self.bytes = self.most_bytes = self.written = 0.0
        self.recorded = 0.0
        self.unread: list[tuple[Span, bool]] = []
        self.is_awake = False

    def size(self, span: Span) -> int:
        """Bytes of the state of a span."""
        return state_bytes(self.n_units, self.terms, len(span))

    def play(self) -> dict[str, float]:
        """Play the run through; return seconds, and the share of them that each part was busy."""
        shard = 1
        while self.n_blocks >= 2 * shard * SHARDS_PER_WORKER * self.n_workers and self.n_blocks // (2 * shard) > 8:
            shard *= 2
        given = list(aligned_spans(0, self.n_blocks, 1))[: self.n_workers]
        rest = [span for whole in aligned_spans(0, self.n_blocks, shard) for span in undone(whole, given)]
        self.records.extend([*given, *rest])
        self.outstanding = len(self.records)
        for _ in range(self.n_workers):
            # with the hashes of all images
            sent = N_IMAGES * HASH_BYTES / self.each
            self.scheduler.ask(sent, lambda: self.events.after(N_IMAGES * self.costs.opened, self.open))
        self.scheduler.ask(self.outstanding * self.costs.scheduler, self.hand_out)
        self.events.run()
        total, ideal = self.events.now, self.n_blocks * self.block_seconds / self.n_workers
        busy = {name: getattr(self, name).busy / total for name in ("client", "scheduler", "disk")}
        merging = self.merging / total / self.n_workers
        shared = {"seconds": total, "efficiency": ideal / total, **busy, "merging": merging}
        return shared | {"disk_bytes": self.most_bytes, "written": self.written, "recorded": self.recorded}

    def open(self) -> None:
        """Have one more worker that has opened the images."""
        self.idle += 1
        self.hand_out()

    def hand_out(self) -> None:
        """Give tasks to the workers that are free, merges first."""
        while self.idle and (self.merges or self.records):
            self.idle -= 1
            if self.merges:
                self.merge(self.merges.popleft())
            else:
                span = self.records.popleft()
                self.record(span)

    def record(self, span: Span) -> None:
        """Present what a span is of."""
        self.events.after(len(span) * self.block_seconds, lambda: self.look(span, True))

    def merge(self, span: Span) -> None:
        """Read both halves, and add them."""
        half = len(span) // 2
        halves = 2 * self.size(Span(span.start, span.start + half))
        seconds = self.size(span) * (self.costs.merge + self.costs.read)
        self.merging += seconds + halves / self.each
        self.disk.ask(halves / self.each, lambda: self.events.after(seconds, lambda: self.look(span, False)))

    def look(self, span: Span, is_new: bool) -> None:
        """Look at the store, and write a state."""
        seconds = self.lines * self.costs.look_line + len(self.spans) * self.costs.look_state
        size = self.size(span)
        self.written += size

        def write() -> None:
            self.bytes += size
            self.most_bytes = max(self.most_bytes, self.bytes)
            self.disk.ask(size / self.each, lambda: self.told(span, is_new))

        self.events.after(seconds, write)

    def told(self, span: Span, is_new: bool) -> None:
        """Tell the client by way of the scheduler; the worker is free."""
        if is_new:
            self.recorded = self.events.now
        self.idle += 1
        self.scheduler.ask(self.costs.scheduler, lambda: self.reached(span, is_new))
        self.hand_out()

    def reached(self, span: Span, is_new: bool) -> None:
        """Wake the client, unless it is awake."""
        self.unread.append((span, is_new))
        if not self.is_awake:
            self.wake()

    def wake(self) -> None:
        """Have the client note all that ended."""
        ended, self.unread = self.unread, []
        self.is_awake = bool(ended)
        if ended:
            seconds = self.costs.wake + self.outstanding * self.costs.outstanding + len(ended) * self.costs.line
            self.client.ask(seconds, lambda: self.note(ended))

    def note(self, ended: list[tuple[Span, bool]]) -> None:
        """Note spans in the journal, and give out merges."""
        for span, is_new in ended:
            self.lines += 1
            self.outstanding -= 1
            if not is_new:
                half = len(span) // 2
                children = (Span(span.start, span.start + half), Span(span.start + half, span.stop))
                self.spans.difference_update(children)
                self.bytes -= sum(map(self.size, children))
            self.spans.add(span)
            if span.sibling in self.spans:
                self.merges.append(span.parent)
                self.outstanding += 1
        self.hand_out()
        self.wake()


CASES = (
    # title, units, second order
    ("channel means, with S2", CHANNELS, True),
    ("all units, S1 and ST", UNITS, False),
    ("all units, with S2", UNITS, True),
)


def tell(costs: Costs) -> None:
    """Print what was measured."""
    convergence = len(json.dumps(summary(1024)))
    line, wake = f"{1e3 * costs.line:.2f} ms, {costs.line_bytes} bytes", f"{1e3 * costs.wake:.1f} ms"
    look, state = f"{1e6 * costs.look_line:.0f} µs for a line", f"{1e6 * costs.look_state:.0f} µs for a state"
    print(f"measured: a line of the journal {line}, {convergence:,} more where it tells of convergence;")
    print(f"    a worker's look at the store {look} and {state};")
    print(f"    messages hold {costs.task} bytes and {costs.result} on the way back;")
    print(f"    scheduler {1 / costs.scheduler:,.0f} tasks/s;")
    print(f"    client {wake} when it wakes, and {1e6 * costs.outstanding:.1f} µs for each task given out;")
    rates = (1e-9 / one for one in (costs.read, costs.merge, costs.write))
    print(f"    opening images {1e6 * costs.opened:.0f} µs each, by every worker;")
    print("    states: read (cached) {:.1f}, merged {:.1f}, written here {:.2f} GB/s;".format(*rates))
    client = costs.line + (costs.wake + 1000 * costs.outstanding) / 10
    print(f"    so 1,000 workers keep the scheduler busy with tasks of {1000 * costs.scheduler:.1f} s or shorter,")
    print(f"    and the client with tasks of {1000 * client:.1f} s (ten end for each time that it wakes)")


def waits_for(found: dict[str, float]) -> str:
    """Say what most workers wait for."""
    busiest = max(("client", "scheduler", "disk"), key=lambda name: found[name])
    if found[busiest] > 0.5:
        return busiest
    if found["efficiency"] > 0.8:
        return "nothing"
    last = found["seconds"] - found["recorded"] > 0.1 * found["seconds"]
    return "the last merges" if last else "blocks: too few for all"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=1 << 16, help="base samples")
    parser.add_argument("--block", type=int, default=64, help="base samples of a block")
    parser.add_argument("--rate", type=float, default=6.0, help="images per second of one worker")
    parser.add_argument("--shown", type=float, default=0.7, help="share of the rows that are presented")
    parser.add_argument("--each", type=float, default=1e9, help="bytes per second of the shared disk, one worker")
    parser.add_argument("--together", type=float, default=2e10, help="bytes per second of the shared disk, all")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        costs = measure(Path(folder))
    tell(costs)
    n_blocks, n_rows = given.samples // given.block, 2 * FACTORS + 2
    print(f"assumed: {given.each / 1e9:g} GB/s of the shared disk for a worker and {given.together / 1e9:g} for all;")
    print(f"    {given.rate:g} images/s of a worker; {given.shown:.0%} of the rows are presented")
    print(f"{given.samples:,} base samples × {n_rows} rows (without S2: {FACTORS + 2}) in {n_blocks:,} blocks")
    for title, n_units, second_order in CASES:
        terms = DifferenceTerms(FACTORS, second_order)
        seconds = given.block * terms.n_rows * given.shown / given.rate
        merged = state_bytes(n_units, terms, 2)
        print(f"\n{title}: {n_units:,} units, a merged state of {merged / 1e9:.3g} GB, {seconds:.0f} s for a block")
        print("workers       time  ideal  client  sched.    disk merging    on disk    written  they wait for")
        for n_workers in WORKERS:
            found = Run(
                costs, n_workers, n_blocks, seconds, n_units, second_order, given.each, given.together
            ).play()  # fmt: skip
            shares = (f"{found[name]:>7.1%}" for name in ("client", "scheduler", "disk", "merging"))
            disk = (f"{found[name] / 1e9:>7,.0f} GB" for name in ("disk_bytes", "written"))
            hours = f"{found['seconds'] / 3600:>8.2f} h {found['efficiency']:>6.0%}"
            print(f"{n_workers:>7,} {hours} {' '.join(shares)} {' '.join(disk)}  {waits_for(found)}")


if __name__ == "__main__":
    main()
