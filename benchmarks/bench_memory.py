"""Peak memory and disk of runs beside what their plans promise, each in a process of its own.

Memory is resident memory above an import baseline: that of a process which has imported all that a run imports, late
imports too, and has done one trivial operation in torch, but has opened no network, no image and no store. What a run
pages in of the libraries' code later is above it. A plan promises an upper bound: measured / planned is 1 at most.
A run is measured over the second half of its four blocks, after which states of several blocks have been merged with
each other; a process before it has recorded the first half. The second table shows that the peak does not grow with the
number of base samples; the third, what a budget keeps, or refuses and what becomes of the remedy; the last, the run of
most units, of all layers of VGG11.

    python benchmarks/bench_memory.py --alterations 5 8 12 --growing
    python benchmarks/bench_memory.py --networks vgg11 --alterations 5 --growing --budgets 4GB 2GB 1200MB
    python benchmarks/bench_memory.py --networks --growing --largest 12GB
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bench_resnet20

import neuroprobe as npr
from neuroprobe.disk import used_bytes
from neuroprobe.journal import bytes_of_result

LAYERS = {
    "alexnet": "features.2 features.5 features.7 features.9 avgpool classifier.2 classifier.5 classifier.6",
    "vgg11": "features.2 features.5 features.10 features.15 avgpool classifier.1 classifier.4 classifier.6",
    "resnet18": "maxpool layer1 layer2 layer3 avgpool fc",
    "resnet20": "layer1 layer2 layer3 linear",
}
# every ReLU and pooling of VGG11, and its output
ALL_LAYERS = (
    "features.1 features.2 features.4 features.5 features.7 features.9 features.10 features.12 features.14 features.15 "
    "features.17 features.19 features.20 avgpool classifier.1 classifier.4 classifier.6"
)
ALTERATIONS = "erasing grayscale gaussian_blur hue rotation brightness contrast saturation hflip sharpness shift zoom"
COLUMNS = ("memory", "planned", "ratio", "disk", "planned", "ratio")

SCRIPT = """
import json, resource, sys, warnings
warnings.simplefilter("ignore")
import dask.array, psutil, safetensors.torch, scipy.stats.qmc, torch, torchvision.models, zarr.codecs
import xarray.backends.zarr
import neuroprobe as npr
import neuroprobe.runner, neuroprobe.statistics.indices, neuroprobe.statistics.summary
from neuroprobe.progress import RunStarted
torch.zeros(2).add_(1)
baseline = psutil.Process().memory_info().rss
imported = set(sys.modules)
asked, out = json.loads(sys.argv[1]), sys.argv[2]
plans = []
told = lambda event: isinstance(event, RunStarted) and plans.append(event.plan)
try:
    npr.run(asked["protocol"], out, limit=asked["limit"], memory=asked["memory"], listener=told)
except npr.NeuroprobeError as error:
    print(json.dumps({"refused": str(error)}))
    sys.exit()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
late = sorted({name.split(".")[0] for name in sys.modules} - {name.split(".")[0] for name in imported})
# of a run in several parts that which takes most
plan = max(plans, key=lambda one: sum(one.memory.values()))
print(json.dumps({
    "measured": peak - baseline, "planned": sum(plan.memory.values()) - baseline, "moment": plan.moment, "peak": peak,
    "n_parts": len(plans), "parts": dict(plan.memory), "batch": plan.layout.batch, "blocks": plan.n_blocks,
    "units": sum(one.n_units for one in plans), "planned disk": sum(sum(one.disk.values()) for one in plans),
    "late": late, "samples": plan.samples,
}))
"""


def protocol(network: str, samples: int, batch: int = 128, *, layers: str = "", alterations: int = 0) -> dict[str, Any]:
    """Sobol indices of second order; the layers of Kharyuk et al. 2025 at 224 px, or ResNet-20 at 32 px.

    Parameters
    ----------
    alterations : int
        With Shapley effects; 0 for five, without.
    """
    made: dict[str, Any]
    if network == "resnet20":
        made = bench_resnet20.protocol(samples=samples)
    else:
        made = {
            "neuroprobe": 1,
            "subject": {"network": network, "weights": "none", "layers": (layers or LAYERS[network]).split()},
            "stimuli": {"images": {"photographs": {"crop": 224, "per_image": 10}}},
            "design": {"samples": samples},
        }
    shown = [{"name": name, "switch": 0.5} for name in ALTERATIONS.split()[: alterations or 5]]
    analyses = ["sobol", "shapley"] if alterations else ["sobol"]
    return {**made, "treatment": {"alterations": shown}, "analyses": analyses, "record": {"batch": batch}}


def run(asked: dict[str, Any], out: Path, *, limit: int | None = None, memory: str | None = None) -> dict[str, Any]:
    """Run in a process of its own and say what it took."""
    given, disk = json.dumps({"protocol": asked, "limit": limit, "memory": memory}), 0
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, given, str(out)], stdout=subprocess.PIPE, text=True
    ) as process:
        while process.poll() is None:
            with contextlib.suppress(FileNotFoundError):  # of a file that was renamed meanwhile
                disk = max(disk, used_bytes(out))
            time.sleep(0.05)
        assert process.stdout is not None
        lines = process.stdout.read().splitlines()
    found: dict[str, Any] = json.loads(lines[-1]) | {"disk": disk}
    if found.get("late"):
        print(f"not in the baseline: {', '.join(found['late'])}")
    return found


def measure(asked: dict[str, Any], block: int | None = None, memory: str | None = None) -> dict[str, Any]:
    """Measure a run, or the second half of one of four blocks of so many base samples."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.zarr"
        if block is None:
            return run(asked, out, memory=memory)
        first = run(asked, out, limit=2 * block, memory=memory)
        if "refused" in first:
            return first
        replaced = bytes_of_result(out)  # which stays until the new one is whole
        second = run(asked, out, limit=4 * block, memory=memory)
        return second | {"planned disk": second["planned disk"] + replaced}


def block_of(asked: dict[str, Any], batch: int) -> int:
    """Base samples of a block that fills a forward pass: a power of two."""
    (plan,) = npr.plan(asked, measure=False, memory="1TB").values()
    block = 2
    while block * plan.n_presented / plan.samples < batch:
        block *= 2
    return block


def show(name: str, found: dict[str, Any]) -> None:
    """Print a row of the first table."""
    if "refused" in found:
        print(f"{name:<16} refused: {found['refused']}", flush=True)
        return
    memory, disk = found["measured"] / found["planned"], found["disk"] / found["planned disk"]
    cells = [
        *(f"{found[name] / 1e6:.0f} MB" for name in ("measured", "planned")),
        f"{memory:.2f}",
        *(f"{found[name] / 1e6:.0f} MB" for name in ("disk", "planned disk")),
        f"{disk:.2f}",
    ]
    parts = ", ".join(f"{name} {size / 1e6:.0f}" for name, size in found["parts"].items())
    print(f"{name:<16} {found['batch']:>5}", *(f"{cell:>9}" for cell in cells), flush=True)
    if found["n_parts"] > 1:
        print(f"                 in {found['n_parts']} parts", flush=True)
    print(f"                 while {found['moment']}, MB: {parts}; peak {found['peak'] / 1e6:.0f} MB", flush=True)


def compare(networks: Sequence[str], numbers: Sequence[int], batches: Sequence[int]) -> None:
    """Print what runs take beside what was planned."""
    if networks:
        print(f"{'network':<16} {'batch':>5}", *(f"{column:>9}" for column in COLUMNS))
    for network in networks:
        for d in numbers:
            for batch in batches:
                asked = protocol(network, 64, batch, alterations=d)
                show(f"{network}, d = {d}", measure(asked, block_of(asked, batch)))


def grow(sizes: Sequence[int]) -> None:
    """Print how the peak grows with the number of base samples."""
    peaks: list[float] = []
    for samples in sizes:
        found = measure(protocol("resnet20", samples))
        peaks.append(found["measured"])
        ratio, promised = peaks[-1] / peaks[0], found["measured"] / found["planned"]
        print(
            f"resnet20, N = {samples:<5} {peaks[-1] / 1e6:5.0f} MB, {ratio:.3f} × N = {sizes[0]}; "
            f"{promised:.2f} of the plan",
            flush=True,
        )


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--networks", nargs="*", default=list(LAYERS))
    parser.add_argument("--alterations", type=int, nargs="+", default=[5, 8, 12])
    parser.add_argument("--batches", type=int, nargs="+", default=[128])
    parser.add_argument("--growing", type=int, nargs="*", default=[512, 1024, 4096])
    parser.add_argument("--budgets", nargs="*", default=[], help="of the networks, with all layers of VGG11")
    parser.add_argument("--largest", help="the budget of the largest run")
    parser.add_argument("--samples", type=int, default=256, help="of the largest run")
    arguments = parser.parse_args()
    if arguments.budgets:
        for network in arguments.networks:
            layers = ALL_LAYERS if network == "vgg11" else ""
            for memory in arguments.budgets:
                asked = protocol(network, 64, layers=layers)
                show(f"{network}, {memory}", measure(asked, 4, memory))
    else:
        compare(arguments.networks, arguments.alterations, arguments.batches)
    grow(arguments.growing)
    if arguments.largest:
        asked = protocol("vgg11", arguments.samples, layers=ALL_LAYERS)
        found = measure(asked, memory=arguments.largest)
        show("vgg11, all", found)
        if "units" in found:
            print(f"{found['units']:,} units, N = {found['samples']}, peak {found['peak'] / 1e9:.2f} GB", flush=True)


if __name__ == "__main__":
    main()
