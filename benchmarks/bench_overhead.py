"""Whole run of AlexNet (8 layers, 5 alterations, 224 px, random weights) over alterations and forward passes alone."""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from pathlib import Path

import torch

import neuroprobe as npr
from neuroprobe import planner
from neuroprobe.packing import packs
from neuroprobe.planner import make_plan
from neuroprobe.probe.capture import Probe
from neuroprobe.protocol import load_protocol
from neuroprobe.rig import open_rig

LAYERS = ["features.2", "features.5", "features.7", "features.9", "avgpool", "classifier.2", "classifier.5"]


def protocol(samples: int) -> dict:
    return {
        "neuroprobe": 1,
        "subject": {
            "network": "alexnet",
            "weights": "none",
            "layers": [*LAYERS, {"name": "classifier.6", "transform": "softmax"}],
        },
        "stimuli": {"images": {"photographs": {"crop": 224, "per_image": 10}}},
        "treatment": {
            "alterations": [
                {"name": name, "switch": 0.5} for name in ("erasing", "grayscale", "gaussian_blur", "hue", "rotation")
            ]
        },
        "design": {"samples": samples, "scramble": 64},
        "record": {"batch": 128},
    }


def bare(samples: int) -> float:
    """Present the same rows to the same network, and drop what it responds."""
    started = time.perf_counter()
    rig = open_rig(load_protocol(protocol(samples)))
    plan = make_plan(rig)
    design = rig.design(plan.layout.scramble)
    with Probe(rig.subject.network, rig.sites) as probe:
        for block in range(plan.n_blocks):
            rows = design.presentations(block * plan.layout.block, (block + 1) * plan.layout.block)
            for pack in packs(rows, plan.layout.batch):
                stimuli = rig.treatment.stimuli(rig.images, rows, pack.sample, pack.row)
                filled = torch.cat([stimuli, stimuli[-1:].expand(plan.layout.batch - len(stimuli), -1, -1, -1)])
                probe.record(rig.subject.prepare(filled), lambda site, response: None)
    return time.perf_counter() - started


def whole(samples: int, compiled: bool) -> float:
    planner.COMPILE_ABOVE = 0 if compiled else float("inf")
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        npr.run(protocol(samples), Path(folder) / "out.zarr")
        return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    bare(128)
    whole(128, True)  # compiles
    seconds: dict[str, list[float]] = {"bare": [], "eager": [], "compiled": []}
    for _ in range(arguments.repeats):
        seconds["bare"].append(bare(arguments.samples))
        seconds["eager"].append(whole(arguments.samples, False))
        seconds["compiled"].append(whole(arguments.samples, True))
    base = min(seconds["bare"])
    for kind, times in seconds.items():
        every = ", ".join(f"{time_:.1f}" for time_ in times)
        print(f"{kind:<9} {min(times):7.1f} s  {min(times) / base:.3f} × bare   (all: {every})")


if __name__ == "__main__":
    main()
