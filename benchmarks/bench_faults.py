"""Runs that are disturbed: a worker, or the client, is killed at a random moment; the result has the same bits.

    python benchmarks/bench_faults.py [RUNS]

RUNS of each kind (50 by default). Workers that are killed are replaced by their nannies; a client that is killed is
started again.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import Final

import numpy as np
from distributed import Client

import neuroprobe as npr
from neuroprobe.cluster.workers import connected, local_workers

N_WORKERS: Final = 2
TOLD: Final = 10  # runs between lines
PROTOCOL = {
    "neuroprobe": 1,
    "subject": {"network": "embedded", "layers": ["conv3", "conv6", "linear"]},
    "stimuli": {"images": {"photographs": {"per_image": 10}, "size": 32}},
    "treatment": {
        "reference_side": "image",
        "alterations": [
            {"name": "erasing", "switch": 0.5, "row": {"uniform": [6, 26]}, "column": {"uniform": [6, 26]}},
            {"name": "grayscale", "switch": 0.5},
            {"name": "rotation", "switch": 0.5, "angle": {"uniform": [-10, 10]}},
        ],
    },
    "design": {"samples": 1024, "scramble": 64},
    "analyses": ["sobol", "shapley"],
    "record": {"batch": 64, "device": "cpu"},
}


def digest(path: Path) -> str:
    """Hash of every number of a result."""
    sums = hashlib.sha256()
    with npr.open_result(path) as tree:
        for group in tree.groups:
            for name, variable in sorted(tree[group].to_dataset(inherit=False).variables.items()):
                sums.update(f"{group}/{name}".encode())
                values = variable.values
                if values.dtype.kind in "OTU":
                    values = np.array([str(one) for one in values.ravel().tolist()]).astype("U64")
                sums.update(np.ascontiguousarray(values).tobytes())
    return sums.hexdigest()


def kill_a_worker(client: Client, path: Path, moment: float, rng: np.random.Generator) -> None:
    """Run on workers, one of which is killed after some seconds; its nanny starts another one."""
    client.wait_for_workers(N_WORKERS)
    victims = list(client.run(os.getpid).values())
    timer = threading.Timer(moment, os.kill, (victims[rng.integers(len(victims))], signal.SIGKILL))
    timer.start()
    npr.run(PROTOCOL, path, client=client)
    timer.cancel()
    timer.join()


def kill_the_client(path: Path, moment: float, address: str) -> None:
    """Start a client, kill it after some seconds, and start it again; without an address it has its own workers."""
    first = subprocess.Popen(command_of(path, address))
    try:
        first.wait(moment)
    except subprocess.TimeoutExpired:
        first.kill()
        first.wait()
    subprocess.run(command_of(path, address), check=True)


def command_of(path: Path, address: str) -> list[str]:
    """Return what starts a client of a run in a process of its own."""
    return [sys.executable, "-W", "ignore", __file__, "--client", str(path), address]


def tell(what: str, same: int, number: int, n_runs: int) -> None:
    """Print how many runs had the right bits so far, now and then."""
    if number % TOLD == 0 or number == n_runs:
        print(f"{what} killed: {same} of {number} results have the bits of the undisturbed run", flush=True)


def main(n_runs: int) -> None:
    """Print how many disturbed runs of each kind gave the undisturbed result."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder, local_workers(N_WORKERS) as client:
        npr.run(PROTOCOL, Path(folder, "whole.zarr"))
        whole = digest(Path(folder, "whole.zarr"))
        started = time.perf_counter()
        npr.run(PROTOCOL, Path(folder, "timed.zarr"), client=client)
        recording = time.perf_counter() - started
        same = 0
        for number in range(1, n_runs + 1):
            path = Path(folder, f"worker-{number}.zarr")
            kill_a_worker(client, path, rng.uniform(0, recording), rng)
            same += digest(path) == whole
            tell("worker", same, number, n_runs)
        client.wait_for_workers(N_WORKERS)
        address, same = str(client.scheduler_info()["address"]), 0
        started = time.perf_counter()
        subprocess.run(command_of(Path(folder, "called.zarr"), address), check=True)
        calling = time.perf_counter() - started
        for number in range(1, n_runs + 1):
            path = Path(folder, f"client-{number}.zarr")
            # now and then with workers that go with it
            own = number % TOLD == 0
            kill_the_client(
                path, rng.uniform(calling - recording, 1.5 * calling if own else calling), "" if own else address
            )
            same += digest(path) == whole
            tell("client", same, number, n_runs)


def be_client(path: str, address: str) -> None:
    """Run on the workers of a scheduler, or on own ones."""
    if not address:
        npr.run(PROTOCOL, path, workers=N_WORKERS)
        return
    with connected(address) as client:
        npr.run(PROTOCOL, path, client=client)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    if sys.argv[1:2] == ["--client"]:
        be_client(*sys.argv[2:4])
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 50)
