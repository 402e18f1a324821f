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

import neuroprobe as npr
from neuroprobe.cluster.crew import local_workers

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


def kill_a_worker(path: Path, moment: float, rng: np.random.Generator) -> None:
    """Run on two workers, one of which is killed after some seconds."""
    with local_workers(2) as client:
        victims = list(client.run(os.getpid).values())
        timer = threading.Timer(moment, os.kill, (victims[rng.integers(2)], signal.SIGKILL))
        timer.start()
        npr.run(PROTOCOL, path, client=client)
        timer.cancel()
        timer.join()


def kill_the_client(path: Path, moment: float) -> None:
    """Start a client, kill it after some seconds, and start it again."""
    command = [sys.executable, "-W", "ignore", __file__, "--client", str(path)]
    first = subprocess.Popen(command)
    try:
        first.wait(moment)
    except subprocess.TimeoutExpired:
        first.kill()
        first.wait()
    subprocess.run(command, check=True)


def main(n_runs: int) -> None:
    """Print how many disturbed runs of each kind gave the undisturbed result."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        npr.run(PROTOCOL, Path(folder, "whole.zarr"))
        whole = digest(Path(folder, "whole.zarr"))
        started = time.perf_counter()
        with local_workers(2) as client:
            npr.run(PROTOCOL, Path(folder, "timed.zarr"), client=client)
        recording = time.perf_counter() - started
        for what in ("worker", "client"):
            same = 0
            for number in range(n_runs):
                path = Path(folder, f"{what}-{number}.zarr")
                if what == "worker":
                    kill_a_worker(path, rng.uniform(0, recording), rng)
                else:
                    kill_the_client(path, rng.uniform(0.3, 1.3) * recording)
                same += digest(path) == whole
                if (number + 1) % TOLD == 0 or number + 1 == n_runs:
                    print(
                        f"{what} killed: {same} of {number + 1} results have the bits of the undisturbed run",
                        flush=True,
                    )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    if sys.argv[1:2] == ["--client"]:
        npr.run(PROTOCOL, sys.argv[2], workers=2)
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 50)
