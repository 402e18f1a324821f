"""Bits of ResNet-20 by one process, on 2 and 4 workers, gone on with after a stop, and with shards noted at random.

Sobol indices, Shapley effects, contrasts, selectivity, and masking by the maps of the first of these runs. Each
process has one thread, and there may be more of them than cores.

Needs the weights and images of `NEUROPROBE_DATA` (default: ../shared/data).
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_faults import digest
from distributed import Client, LocalCluster

import neuroprobe as npr
from neuroprobe.cluster.crew import Crew
from neuroprobe.progress import ShardDone

DATA = Path(os.environ.get("NEUROPROBE_DATA", "../shared/data")).resolve()
LAYERS = ["layer1", "layer2", "layer3", "linear"]
PLACES = [["layer2", "layer3"], ["layer3"]]
RULE = {"quantile": 0.9, "multiply": 0}


def protocol(samples: int, images: int, analyses: list[Any]) -> dict[str, Any]:
    return {
        "neuroprobe": 1,
        "subject": {
            "network": "cifar_resnet20",
            "weights": str(DATA / "cifar10/resnet20.th"),
            "layers": LAYERS,
            "preprocess": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
        },
        "stimuli": {"images": {"folder": str(DATA / "cifar10/test"), "limit": images}},
        "treatment": {
            "alterations": [
                {"name": "erasing", "switch": 0.5},
                {"name": "grayscale", "switch": 0.5},
                {"name": "gaussian_blur", "switch": 0.5, "sigma": {"uniform": [0.1, 2.0]}},
                {"name": "hue", "switch": 0.5, "shift": {"uniform": [-0.5, 0.5]}},
                {"name": "rotation", "switch": 0.5, "angle": {"uniform": [-10, 10]}},
            ]
        },
        "design": {"samples": samples, "scramble": 64},
        "analyses": analyses,
        "record": {"batch": 128, "device": "cpu"},
    }


def asked(samples: int, images: int, maps: Path) -> dict[str, dict[str, Any]]:
    """Protocols by name; the last takes its maps from the result of the first."""
    selectivity = {"top": 10, "stability": [], "sham": 0, "permutations": 99, "indexes": ["colour", "symmetry"]}
    masking = {
        "maps": [{"from": str(maps), "analysis": "shapley"}],
        "at": PLACES,
        "rules": [RULE],
        "headline": RULE,
        "random": 19,
        "bootstrap": 100,
    }
    return {
        "sobol, shapley": protocol(samples, images, ["sobol", "shapley"]),
        "contrast": protocol(samples, images, [{"contrast": {"draws": 2, "ranks": ["layer3", "linear"]}}]),
        "selectivity": protocol(samples, images, [{"selectivity": selectivity}]),
        "masking": protocol(samples, images, [{"masking": masking}]),
    }


class Stopped(Exception):  # noqa: N818 - it ends a run, which went well
    """Raised by a listener to end a run."""


def stop(event: object) -> None:
    if isinstance(event, ShardDone):
        raise Stopped


@contextmanager
def workers(n: int) -> Iterator[Client]:
    """Start processes of one thread each, however few cores there are."""
    environment = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    options: dict[str, Any] = {"n_workers": n, "threads_per_worker": 1, "env": environment, "memory_limit": None}
    with LocalCluster(**options, dashboard_address=":0", silence_logs=60) as cluster, Client(cluster) as client:
        yield client


@contextmanager
def shuffled(seed: int) -> Iterator[None]:
    """Note what workers have done by threes, in random order."""
    order, whole = np.random.default_rng(seed), Crew._finished

    def finished(self: Crew, *given: Any) -> Iterator[Any]:
        waiting = []
        for one in whole(self, *given):
            waiting.append(one)
            if len(waiting) == 3 or not self._tasks:
                yield from (waiting[n] for n in order.permutation(len(waiting)))
                waiting = []

    Crew._finished = finished  # type: ignore[method-assign]
    try:
        yield
    finally:
        Crew._finished = whole  # type: ignore[method-assign]


def resumed(given: dict[str, Any], path: Path) -> None:
    for _ in range(2):
        try:
            npr.run(given, path, listener=stop)
        except Stopped:
            continue
    npr.run(given, path)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--images", type=int, default=200)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        protocols = asked(arguments.samples, arguments.images, Path(folder, "serial sobol, shapley.zarr"))
        expected: dict[str, str] = {}

        def compare(way: str, run: Callable[[dict[str, Any], Path], Any]) -> None:
            for name, given in protocols.items():
                path, started = Path(folder, f"{way} {name}.zarr"), time.perf_counter()
                run(given, path)
                seconds, found = time.perf_counter() - started, digest(path)
                said = "equal" if expected.setdefault(name, found) == found else "DIFFERENT"
                print(f"{way:<28} {name:<16} {said if way != 'serial' else '':<10} {seconds:6.1f} s", flush=True)

        compare("serial", npr.run)
        compare("resumed", resumed)
        for n in (2, 4):
            with workers(n) as client:
                compare(f"{n} workers", lambda given, path, client=client: npr.run(given, path, client=client))
                if n == 2:
                    with shuffled(0):
                        compare(
                            "2 workers, random order",
                            lambda given, path, client=client: npr.run(given, path, client=client),
                        )


if __name__ == "__main__":
    main()
