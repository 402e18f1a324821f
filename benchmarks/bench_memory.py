"""Peak memory and disk of runs beside what their plans promise, each in a process of its own.

Memory is resident memory above an import baseline: that of a process which has imported all that a run imports, late
imports too, and has done one trivial operation in torch, but has opened no network, no image and no store. What a run
pages in of the libraries' code later is above it. A plan promises an upper bound: measured / planned is 1 at most.
The second table shows that the peak does not grow with the number of base samples.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import bench_resnet20

from neuroprobe.disk import used_bytes

LAYERS = {
    "alexnet": "features.2 features.5 features.7 features.9 avgpool classifier.2 classifier.5 classifier.6",
    "vgg11": "features.2 features.5 features.10 features.15 avgpool classifier.1 classifier.4 classifier.6",
    "resnet18": "maxpool layer1 layer2 layer3 avgpool fc",
    "resnet20": "layer1 layer2 layer3 linear",
}

SCRIPT = """
import json, resource, sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
sys.path.insert(0, "benchmarks")
import dask.array, psutil, safetensors.torch, scipy.stats.qmc, torch, torchvision.models, zarr.codecs
import xarray.backends.zarr
import neuroprobe as npr
import neuroprobe.runner, neuroprobe.statistics.indices, neuroprobe.statistics.summary
from neuroprobe.progress import RunStarted
from bench_memory import protocol
torch.zeros(2).add_(1)
baseline = psutil.Process().memory_info().rss
imported = set(sys.modules)
network, samples, batch, out = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
plans = []
npr.run(protocol(network, samples, batch), out, listener=lambda e: isinstance(e, RunStarted) and plans.append(e.plan))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
late = sorted({name.split(".")[0] for name in sys.modules} - {name.split(".")[0] for name in imported})
(plan,) = plans
print(json.dumps({
    "measured": peak - baseline, "planned": sum(plan.memory.values()) - baseline, "moment": plan.moment,
    "parts": dict(plan.memory), "batch": plan.layout.batch,
    "planned disk": sum(plan.disk.values()), "late": late,
}))
"""


def protocol(network: str, samples: int, batch: int = 128) -> dict[str, Any]:
    """Five alterations, second order; the layers of Kharyuk et al. 2025 at 224 px, or ResNet-20 at 32 px."""
    if network == "resnet20":
        made = bench_resnet20.protocol(samples=samples)
    else:
        made = {
            "neuroprobe": 1,
            "subject": {"network": network, "weights": "none", "layers": LAYERS[network].split()},
            "stimuli": {"images": {"photographs": {"crop": 224, "per_image": 10}}},
            "treatment": {
                "alterations": [
                    {"name": name, "switch": 0.5}
                    for name in ("erasing", "grayscale", "gaussian_blur", "hue", "rotation")
                ]
            },
            "design": {"samples": samples},
        }
    return {**made, "record": {"batch": batch}}


def measure(network: str, samples: int, batch: int) -> dict[str, Any]:
    """Run in a process of its own and say what it took."""
    with tempfile.TemporaryDirectory() as folder:
        out, disk = Path(folder) / "out.zarr", 0
        command = [sys.executable, "-c", SCRIPT, network, str(samples), str(batch), str(out)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            while process.poll() is None:
                with contextlib.suppress(FileNotFoundError):  # of a file that was renamed meanwhile
                    disk = max(disk, used_bytes(out))
                time.sleep(0.01)
            assert process.stdout is not None
            lines = process.stdout.read().splitlines()
    found: dict[str, Any] = json.loads(lines[-1]) | {"disk": disk}
    if found["late"]:
        print(f"not in the baseline: {', '.join(found['late'])}")
    return found


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--networks", nargs="+", default=list(LAYERS))
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--batches", type=int, nargs="+", default=[128])
    parser.add_argument("--growing", type=int, nargs="*", default=[512, 1024, 4096])
    arguments = parser.parse_args()
    columns = ("memory", "planned", "ratio", "disk", "planned", "ratio")
    print(f"{'network':<10} {'batch':>5}", *(f"{column:>9}" for column in columns))
    for network in arguments.networks:
        for batch in arguments.batches:
            found = measure(network, arguments.samples, batch)
            memory, disk = found["measured"] / found["planned"], found["disk"] / found["planned disk"]
            parts = ", ".join(f"{name} {size / 1e6:.0f}" for name, size in found["parts"].items())
            cells = [
                *(f"{found[name] / 1e6:.0f} MB" for name in ("measured", "planned")),
                f"{memory:.2f}",
                *(f"{found[name] / 1e6:.0f} MB" for name in ("disk", "planned disk")),
                f"{disk:.2f}",
            ]
            print(f"{network:<10} {found['batch']:>5}", *(f"{cell:>9}" for cell in cells), flush=True)
            print(f"           while {found['moment']}, MB: {parts}", flush=True)
    peaks: list[float] = []
    for samples in arguments.growing:
        found = measure("resnet20", samples, 128)
        peaks.append(found["measured"])
        ratio, promised = peaks[-1] / peaks[0], found["measured"] / found["planned"]
        print(
            f"resnet20, N = {samples:<5} {peaks[-1] / 1e6:5.0f} MB, {ratio:.3f} × N = {arguments.growing[0]}; "
            f"{promised:.2f} of the plan",
            flush=True,
        )


if __name__ == "__main__":
    main()
