"""Selectivity on ResNet-20: one pass over images for lists, moments and means of classes, beside bare forward passes.

Both show the same batches of the same images; blocks are shown in turn by one and the other. Then the bytes of the
states of VGG-16's convolutional channels. With --results, tables of indexes by layer instead.

Needs the weights and images of `NEUROPROBE_DATA` (default: ../shared/data); the training images are unpacked from
cifar10/train.zip into a temporary folder.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torchvision import models

import neuroprobe as npr
from neuroprobe.analysis.selectivity_overview import layer_quantiles
from neuroprobe.packing import packs
from neuroprobe.planner import make_plan
from neuroprobe.probe.capture import list_layers
from neuroprobe.protocol import load_protocol
from neuroprobe.protocol.digest import as_given
from neuroprobe.recorder import States, full_float32
from neuroprobe.rig import open_rig
from neuroprobe.selectivity.recorder import SelectivityRecorder
from neuroprobe.statistics.response_sums import N_HALVES, ResponseAccumulator, Responses
from neuroprobe.statistics.tree import MergeTree, Span

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.setdefault("NEUROPROBE_DATA", str(ROOT / "../shared/data"))).resolve()
INDEXES: Final = ("colour", "colour_corrected", "gamma", "gamma_corrected", "entropy", "class_mass")
QUANTILES: Final = (0.25, 0.5, 0.75)


def overhead(n_images: int) -> None:
    """Print the time of a pass over that of bare forward passes."""
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(DATA / "cifar10/train.zip") as archive:
            archive.extractall(folder)
        given = as_given(load_protocol(ROOT / "protocols/cifar_resnet20_selectivity.yaml"))
        given["stimuli"] = {"images": {"folder": f"{folder}/train", "limit": n_images}}
        rig = open_rig(load_protocol(given))
        plan = make_plan(rig)
        recorder = SelectivityRecorder(rig, plan)
        seconds = {"bare": 0.0, "images": 0.0, "recorded": 0.0}
        tree: MergeTree[States] = MergeTree()
        for block in range(plan.n_blocks):
            first, second = _bare(recorder, block)
            seconds["bare"] += first
            seconds["images"] += second
            with recorder.attached():
                started = time.perf_counter()
                tree.add(Span(block, block + 1), recorder.record_span(Span(block, block + 1)))
                seconds["recorded"] += time.perf_counter() - started
    print(
        f"{plan.samples:,} images, ResNet-20, {torch.get_num_threads()} threads, forward passes of {plan.layout.batch}"
    )
    print(f"bare forward passes      {seconds['bare']:8.1f} s, and {seconds['images']:.1f} s to read images")
    print(f"lists, moments, classes  {seconds['recorded']:8.1f} s, images read too")
    whole = seconds["bare"] + seconds["images"]
    extra = seconds["recorded"] - whole
    print(f"over bare passes with images {seconds['recorded'] / whole:.3f}")
    print(f"over bare passes             {1 + extra / seconds['bare']:.3f}")


def _bare(recorder: SelectivityRecorder, block: int) -> tuple[float, float]:
    """Seconds of the forward passes of a block, and of making what they are shown."""
    layout, forward, images = recorder.plan.layout, 0.0, 0.0
    with torch.no_grad(), full_float32():
        stop = min((block + 1) * layout.block, recorder.plan.samples)
        for start in range(block * layout.block, stop, layout.piece):
            presentations = recorder.design.presentations(start, min(start + layout.piece, stop))
            recorder.rig.images.load(presentations.image.ravel())  # decoded once, so that neither way has to
            for pack in packs(presentations, layout.batch):
                started = time.perf_counter()
                stimuli = recorder._stimuli(presentations, pack.sample, pack.row)
                shown = time.perf_counter()
                recorder.rig.subject.network(stimuli)
                images += shown - started
                forward += time.perf_counter() - shown
    return forward, images


def states_of_vgg16() -> None:
    """Print the bytes of the states of VGG-16's convolutional channels."""
    with torch.device("meta"):
        layers = list_layers(models.vgg16(weights=None).eval(), torch.empty(1, 3, 224, 224))
    channels = [layer.shape[0] for layer in layers if layer.kind == "Conv2d" and layer.shape is not None]
    rng = np.random.default_rng(0)
    for n_classes in (1, 1000):
        total = 0
        for n in channels:
            accumulator = ResponseAccumulator(n, 100, n_classes)
            values = rng.random((512, n), dtype=np.float32)
            places = np.zeros(values.shape, dtype=np.int32)
            numbers = np.arange(512)
            accumulator.update(
                Responses(values, places, places, values), numbers, numbers % N_HALVES, numbers % n_classes
            )
            arrays = [array for state in accumulator.end_block() for array in state.state().values()]
            total += sum(array.nbytes for array in arrays)
        print(f"VGG-16, {sum(channels):,} channels, N = 100, {n_classes:,} classes: {total / 1e6:.1f} MB of state")


def table(path: str) -> None:
    """Print quartiles of the indexes of each layer of a result."""
    result = npr.open_result(path)
    found: dict[str, Any] = {index: layer_quantiles(result, index, QUANTILES) for index in INDEXES}
    print(path)
    for layer in found["gamma"]["layer"].values:
        cells = []
        for index in INDEXES:
            low, middle, high = found[index][index].sel(layer=layer).values
            cells.append(f"{index} {middle:.2f} [{low:.2f}, {high:.2f}]")
        print(f"{layer:10} " + "  ".join(cells))


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--results", nargs="*", default=[], help="Results whose tables are printed instead.")
    given = parser.parse_args()
    if given.results:
        for path in given.results:
            table(path)
        return
    states_of_vgg16()
    overhead(given.images)


if __name__ == "__main__":
    main()
