"""Peak memory of runs with more and more base samples, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile

SCRIPT = """
import json, resource, sys, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, "benchmarks")
import neuroprobe as npr
import neuroprobe.runner
from bench_resnet20 import protocol
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
npr.run(protocol(samples=int(sys.argv[1])), sys.argv[2])
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
planned = npr.plan(protocol(samples=int(sys.argv[1])), measure=False).memory
print(json.dumps([before * 1024, after * 1024, sum(planned.values())]))
"""


def main() -> None:
    peaks = {}
    for samples in (512, 1024, 4096):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-c", SCRIPT, str(samples), f"{folder}/out.zarr"]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        before, after, planned = json.loads(output.splitlines()[-1])
        peaks[samples] = after
        print(
            f"N = {samples:<5} peak {after / 1e6:7.0f} MB, {after / peaks[512]:.3f} × N = 512; "
            f"above the imports {(after - before) / 1e6:6.0f} MB, planned {planned / 1e6:6.0f} MB"
        )


if __name__ == "__main__":
    main()
