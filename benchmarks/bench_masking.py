"""Masks on ResNet-20: forward passes that share what lies before the lesion, beside whole ones for every mask.

The naive way makes the altered images and runs the whole network for each mask. Then, with --images, unlesioned
accuracies of a masking study beside an evaluation in a plain loop over those images.

Needs the weights and images of `NEUROPROBE_DATA` (default: ../shared/data).
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import neuroprobe as npr
from neuroprobe.masking_recorder import MaskingRecorder
from neuroprobe.packing import packs
from neuroprobe.planner import make_plan
from neuroprobe.probe.lesion import Lesion
from neuroprobe.probe.precision import full_float32
from neuroprobe.protocol import load_protocol
from neuroprobe.protocol.digest import as_given
from neuroprobe.rig import Rig, open_rig

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.setdefault("NEUROPROBE_DATA", str(ROOT / "../shared/data"))).resolve()
PLACES = [["layer1.2", "layer2.2", "layer3.2"], ["layer1.2"], ["layer2.2"], ["layer3.2"]]
RULE = {"quantile": 0.9, "multiply": 0}


def make_maps(folder: Path) -> None:
    for number in (1, 2):
        given = as_given(load_protocol(ROOT / f"protocols/cifar_resnet20_set{number}.yaml"))
        given |= {"analyses": ["shapley"]}
        npr.run(given, folder / f"cifar_resnet20_set{number}.zarr", limit=128)


def study(places: list[list[str]], n_images: int, **options: Any) -> dict[str, Any]:
    given = as_given(load_protocol(ROOT / "protocols/cifar_resnet20_masking.yaml"))
    masking = {**given["analyses"][0]["masking"], "at": places, "rules": [RULE], **options}
    given["stimuli"]["images"]["limit"] = n_images
    return {**given, "analyses": [{"masking": masking}]}


def naive(rig: Rig, recorder: MaskingRecorder, n_masks: int) -> float:
    """Seconds of a pack under one mask, if nothing is shared."""
    assert rig.study is not None
    assert rig.outcome is not None
    (place,) = rig.study.places
    presentations = recorder.design.presentations(0, 16)
    pack = next(packs(presentations, recorder.plan.layout.batch))
    started = time.perf_counter()
    for condition in place.conditions[1 : n_masks + 1]:
        masks = {one.layer: one.mask(condition).numpy() for one in place.maps}
        images = recorder._stimuli(presentations, pack.sample, pack.row)
        with torch.no_grad(), npr.lesioned(rig.subject.network, Lesion(masks)) as network:
            rig.outcome.measure(network(images)[: len(pack.row)], presentations.image[pack.sample, pack.row])
    return (time.perf_counter() - started) / n_masks


def shared(recorder: MaskingRecorder) -> float:
    """Seconds of a pack under one mask, as a study runs it."""
    presentations = recorder.design.presentations(0, 16)
    pack = next(packs(presentations, recorder.plan.layout.batch))
    with recorder.attached(), full_float32():
        recorder._start()
        started = time.perf_counter()
        recorder._present(presentations, pack)
    return (time.perf_counter() - started) / len(recorder.study.places[0].conditions)


def ratios(repeats: int) -> None:
    print(f"{'lesioned':<28} {'masks':>6} {'at once':>8} {'naive':>10} {'shared':>10} {'ratio':>6}")
    for place in PLACES:
        rig = open_rig(load_protocol(study([place], 64, random=199)))
        recorder = MaskingRecorder(rig, make_plan(rig))
        assert rig.study is not None
        (opened,) = rig.study.places
        one, other = [], []
        for _ in range(repeats):  # in turn, so that both meet the same neighbours
            one.append(naive(rig, recorder, 12))
            other.append(shared(recorder))
        print(
            f"{'+'.join(place):<28} {len(opened.conditions):>6} {opened.at_once:>8} {1e3 * min(one):>7.1f} ms "
            f"{1e3 * min(other):>7.1f} ms {min(other) / min(one):>6.3f}"
        )


def plain_accuracies(rig: Rig, n_images: int) -> dict[str, float]:
    """Top-1 of images and of each alteration, read from their files one after the other."""
    design = rig.design(None)
    classes = sorted(folder.name for folder in (DATA / "cifar10/test").iterdir())
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    right = np.zeros(design.n_rows)
    for sample in range(n_images):
        shown = design.presentations(sample, sample + 1)
        name = rig.images.ids[shown.image[0, 0]]
        pixels = np.asarray(Image.open(DATA / "cifar10/test" / name).convert("RGB"), dtype=np.float32) / 255
        image = torch.from_numpy(pixels).permute(2, 0, 1)[None].repeat(design.n_rows, 1, 1, 1)
        values = {key: torch.from_numpy(value[0]) for key, value in shown.values.items()}
        altered = rig.treatment.apply(image, values, torch.from_numpy(shown.key[0]))
        with torch.no_grad():
            outputs = rig.subject.network((altered - mean) / std)
        right += (outputs.argmax(1) == classes.index(name.split("/")[0])).numpy()
    return dict(zip(["original", *(factor.name for factor in rig.factors)], right / n_images, strict=True))


def accuracies(n_images: int, folder: Path) -> None:
    given = study([["layer3.2"]], n_images, random=0, bootstrap=40)
    started = time.perf_counter()
    result = npr.run(given, folder / "study.zarr")
    seconds = time.perf_counter() - started
    table = result["masking/layer3.2/unlesioned"].sel(measure="top_1")
    expected = plain_accuracies(open_rig(load_protocol(given)), n_images)
    print(f"\ntop-1 of {n_images:,} images ({seconds:.0f} s for 13 masks): the study's, and that of a plain loop")
    for name, value in expected.items():
        found = float(table.sel(input=name))
        print(f"{name:<20} {found:.4f} {value:.4f}  {'equal' if abs(found - value) < 1e-12 else 'DIFFERENT'}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NEUROPROBE_RESULTS"] = folder
        make_maps(Path(folder))
        ratios(arguments.repeats)
        if arguments.images:
            accuracies(arguments.images, Path(folder))


if __name__ == "__main__":
    main()
