"""Rows per second of AlexNet at 224 px (random weights): one process, and workers with as many threads together.

    python benchmarks/bench_workers.py [--samples N] [--repeats N]

Blocks are timed from the first that is done to the last, so that no start counts: of processes, networks, files. All
ways take turns, so that they meet the same neighbours, and run the same shards.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

import neuroprobe as npr
from neuroprobe.cluster.workers import local_workers
from neuroprobe.machine import n_cores
from neuroprobe.progress import ShardDone

LAYERS = ["features.2", "features.5", "features.7", "features.9", "avgpool", "classifier.2", "classifier.5"]


def protocol(samples: int, size: int, batch: int) -> dict[str, Any]:
    return {
        "neuroprobe": 1,
        "subject": {"network": "alexnet", "weights": "none", "layers": LAYERS},
        "stimuli": {"images": {"photographs": {"crop": size, "per_image": 10}}},
        "treatment": {
            "alterations": [
                {"name": name, "switch": 0.5} for name in ("erasing", "grayscale", "gaussian_blur", "hue", "rotation")
            ]
        },
        "design": {"samples": samples, "scramble": 64},
        "record": {"batch": batch, "device": "cpu"},
    }


class Clock:
    """Rows per second, from the ends of shards."""

    def __init__(self, first: int) -> None:
        self.first, self.ends = first, list[tuple[float, int]]()
        self.began = time.perf_counter()

    def __call__(self, event: object) -> None:
        """Listen to a run."""
        if isinstance(event, ShardDone):
            self.ends.append((time.perf_counter(), len(event.span)))

    @property
    def start(self) -> float:
        """Seconds until the first blocks are done, one on each worker."""
        return self.ends[self.first - 1][0] - self.began

    def rate(self, rows_per_block: float) -> float:
        """Rows per second since then."""
        (begin, _), (end, _) = self.ends[self.first - 1], self.ends[-1]
        return rows_per_block * sum(blocks for _, blocks in self.ends[self.first :]) / (end - begin)


def measure(given: dict[str, Any], rows_per_block: float, workers: int) -> tuple[float, float, float]:
    """Rows per second, seconds until the first blocks were done, and seconds in all; of 0 workers, of this process.

    Workers share the cores: each has as many threads as fall to it.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1 if workers else n_cores())
    clock, started = Clock(max(1, workers)), time.perf_counter()
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            local_workers(workers) if workers else nullcontext() as client,
        ):
            clock.began = time.perf_counter()
            npr.run(given, Path(folder, "out.zarr"), listener=clock, client=client)
    finally:
        torch.set_num_threads(before)
    return clock.rate(rows_per_block), clock.start, time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=128)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    cores, given = n_cores(), protocol(arguments.samples, arguments.size, arguments.batch)
    plan = npr.plan(given, measure=False)["pick-freeze"]  # type: ignore[index]
    if plan.n_blocks < 4 * cores:
        parser.error(f"{plan.n_blocks} blocks say little about {cores} workers: give more samples")
    rows_per_block = plan.n_presented / plan.n_blocks
    ways = {
        f"1 process, {cores} threads": 0,
        f"{cores} workers, 1 thread": cores,
        f"1 worker, {cores} threads": 1,
    }
    found: dict[str, list[tuple[float, float, float]]] = {way: [] for way in ways}
    for number in range(arguments.repeats):
        order = list(ways.items())
        for way, workers in order[number % len(order) :] + order[: number % len(order)]:
            found[way].append(measure(given, rows_per_block, workers))
            rate, start, whole = found[way][-1]
            print(f"  {way:<22} {rate:8.1f} rows/s, first blocks after {start:.1f} s, {whole:.1f} s in all", flush=True)
    serial, spread, one = ways
    print(f"\n{plan.n_blocks} blocks of {rows_per_block:.0f} rows\n{'':<24}{'rows/s: median (all)'}")
    for way, measured in found.items():
        rates = [rate for rate, _, _ in measured]
        print(f"{way:<24}{statistics.median(rates):.1f} ({', '.join(f'{rate:.1f}' for rate in rates)})")
    ratios = {
        way: [mine[0] / its[0] for mine, its in zip(found[way], found[serial], strict=True)] for way in (spread, one)
    }
    for way, asked, told in (
        (spread, "0.95 or more", "of the serial run's rows/s"),
        (one, "1/1.05 = 0.952 or more: an overhead of 5 % at most", "of the serial run's rows/s"),
    ):
        print(
            f"{way}: {statistics.median(ratios[way]):.3f} {told}, by turns "
            f"{', '.join(f'{ratio:.3f}' for ratio in ratios[way])} (asked: {asked})"
        )


if __name__ == "__main__":
    main()
