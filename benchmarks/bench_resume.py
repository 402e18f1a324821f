"""ResNet-20: killed twice at random moments and resumed, and extended, against undisturbed runs, bit for bit."""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import xarray as xr
from bench_resnet20 import protocol

import neuroprobe as npr

SCRIPT = """
import sys, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, "benchmarks")
import neuroprobe as npr
from bench_resnet20 import protocol
npr.run(protocol(), sys.argv[1])
"""


def equal(one: xr.DataTree, other: xr.DataTree) -> bool:
    if one.groups != other.groups:
        return False
    return all(
        one[path][name].values.tobytes() == other[path][name].values.tobytes()
        for path in one.groups
        for name in one[path].data_vars
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=3)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    rng = random.Random(time.time_ns())
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        undisturbed = npr.run(protocol(), f"{folder}/whole.zarr")
        seconds = time.perf_counter() - started
        for trial in range(arguments.trials):
            out = Path(folder) / f"killed{trial}.zarr"
            moments = []
            for _ in range(2):
                process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(out)])
                # the imports take a few seconds
                moments.append(rng.uniform(2, 4 + seconds))
                try:
                    process.wait(moments[-1])
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            same = equal(npr.run(protocol(), out), undisturbed)
            print(f"killed after {moments[0]:.1f} s and {moments[1]:.1f} s: equal {same}")
        npr.run(protocol(512, scramble=128), f"{folder}/extended.zarr")
        extended = npr.run(protocol(1024, scramble=128), f"{folder}/extended.zarr")
        scratch = npr.run(protocol(1024, scramble=128), f"{folder}/scratch.zarr")
        print(f"extended from 512 to 1024 against 1024 from scratch: equal {equal(extended, scratch)}")


if __name__ == "__main__":
    main()
