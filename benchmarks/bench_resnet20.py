"""ResNet-20 on CIFAR-10, trained beside its random twin: time, and medians of indices per layer and factor.

Under five alterations, and under both sets of alterations of Kharyuk et al. 2025, all at once and in any order.

Needs the weights and images of `NEUROPROBE_DATA` (default: ../shared/data).
"""

from __future__ import annotations

import os
import tempfile
import time
import warnings
from pathlib import Path

import neuroprobe as npr
from neuroprobe.summary import status

DATA = Path(os.environ.get("NEUROPROBE_DATA", "../shared/data"))


def protocol(samples: int = 1024, random_twin: bool = False, scramble: str | int = "auto") -> dict:
    return {
        "neuroprobe": 1,
        "title": "ResNet-20 under five alterations",
        "subject": {
            "network": "cifar_resnet20",
            "weights": str(DATA / "cifar10/resnet20.th"),
            "layers": ["layer1", "layer2", "layer3", "linear"],
            "preprocess": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
            "random_twin": random_twin,
        },
        "stimuli": {"images": {"folder": str(DATA / "cifar10/test"), "limit": 500}, "image": "frozen"},
        "treatment": {
            "alterations": [
                {"name": "erasing", "switch": 0.5},
                {"name": "grayscale", "switch": 0.5},
                {"name": "gaussian_blur", "switch": 0.5, "sigma": {"uniform": [0.1, 2.0]}},
                {"name": "hue", "switch": 0.5, "shift": {"uniform": [-0.5, 0.5]}},
                {"name": "rotation", "switch": 0.5, "angle": {"uniform": [-10, 10]}},
            ]
        },
        "design": {"samples": samples, "scramble": scramble},
        "record": {"batch": 128},
    }


def study(number: int, random_twin: bool) -> dict:
    """Return the shipped protocol of one of the study's sets of alterations, of the trained network or its twin."""
    os.environ.setdefault("NEUROPROBE_DATA", str(DATA.resolve()))
    asked = npr.load_protocol(f"protocols/cifar_resnet20_set{number}.yaml").model_dump(
        by_alias=True, exclude_unset=True
    )
    asked["subject"]["random_twin"] = random_twin
    return asked


def compare(name: str, trained: dict, twin: dict, folder: str) -> None:
    """Run a protocol and that of its twin, and print medians of their indices."""
    tables = []
    for kind, asked in (("trained", trained), ("random twin", twin)):
        started = time.perf_counter()
        npr.run(asked, f"{folder}/{name} {kind}.zarr")
        print(f"{name}, {kind}: {time.perf_counter() - started:.1f} s")
        tables.append(status(f"{folder}/{name} {kind}.zarr").layers)
    print(f"{'layer':<9} {'factor':<20} {'trained S1':>15} {'ST':>15} {'random twin S1':>15} {'ST':>15}")
    for one, other in zip(*tables, strict=True):
        cells = [
            f"{row[index]:.3f} ({row[f'{index}_se']:.3f})"
            for row in (one, other)
            for index in ("first_order", "total_order")
        ]
        print(f"{one['layer']:<9} {one['factor']:<20} " + " ".join(f"{cell:>15}" for cell in cells))


def main() -> None:
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        compare("five alterations", protocol(), protocol(random_twin=True), folder)
        for number in (1, 2):
            compare(f"set {number}", study(number, False), study(number, True), folder)


if __name__ == "__main__":
    main()
