"""ResNet-20 on CIFAR-10 under five alterations, trained beside its random twin: time and medians per layer and factor.

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


def main() -> None:
    warnings.simplefilter("ignore")
    tables = {}
    with tempfile.TemporaryDirectory() as folder:
        for twin in (False, True):
            name = "random twin" if twin else "trained"
            started = time.perf_counter()
            npr.run(protocol(random_twin=twin), f"{folder}/{name}.zarr")
            print(f"{name}: {time.perf_counter() - started:.1f} s")
            tables[name] = status(f"{folder}/{name}.zarr").layers
    print(f"{'layer':<8} {'factor':<14} {'trained S1':>15} {'ST':>15} {'random twin S1':>15} {'ST':>15}")
    for trained, twin in zip(tables["trained"], tables["random twin"], strict=True):
        cells = [
            f"{row[name]:.3f} ({row[f'{name}_se']:.3f})"
            for row in (trained, twin)
            for name in ("first_order", "total_order")
        ]
        print(f"{trained['layer']:<8} {trained['factor']:<14} " + " ".join(f"{cell:>15}" for cell in cells))


if __name__ == "__main__":
    main()
