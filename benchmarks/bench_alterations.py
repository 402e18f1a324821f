"""Every alteration as a treatment applies it, over a loop of torchvision: 64 images of 224 px, one parameter per image.

Both alter a batch in memory in place, by turns, on two threads. The alterations beyond the study have no loop.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

from neuroprobe.design.pick_freeze import Presentations
from neuroprobe.stimuli.alterations import ALTERATIONS
from neuroprobe.stimuli.treatment import Applied, Treatment

N, SIDE = 64, 224
Values = dict[str, float]


class Batch:
    """A set of images that is one batch, altered in place."""

    def __init__(self, images: Tensor) -> None:
        self.original, self.images = images, images.clone()

    def reset(self) -> None:
        """Undo all alterations."""
        self.images.copy_(self.original)

    def load(self, index: Sequence[int]) -> Tensor:
        """Return the batch, whatever the index."""
        return self.images


def ellipse(image: Tensor, p: Values) -> Tensor:
    blurred = vision.gaussian_blur(image, [11, 11], [p["sigma"]] * 2)
    y, x = torch.meshgrid(
        torch.arange(SIDE) - (SIDE - 1) / 2 - p["dy"], torch.arange(SIDE) - (SIDE - 1) / 2 - p["dx"], indexing="ij"
    )
    cos, sin = np.cos(np.deg2rad(p["angle"])), np.sin(np.deg2rad(p["angle"]))
    inside = ((cos * x - sin * y) / p["a"]) ** 2 + ((sin * x + cos * y) / p["b"]) ** 2 <= 1
    return torch.where(inside, blurred, image)


def erasure(image: Tensor, p: Values) -> Tensor:
    pixels = p["area"] * SIDE**2
    height, width = round((pixels * p["aspect"]) ** 0.5), round((pixels / p["aspect"]) ** 0.5)
    top, left = round(p["row"] - height / 2), round(p["column"] - width / 2)
    bottom, right = top + height, left + width
    top, left = max(top, 0), max(left, 0)
    return vision.erase(image, top, left, bottom - top, right - left, torch.tensor(0.0))


BILINEAR = vision.InterpolationMode.BILINEAR
LOOPS: dict[str, Callable[[Tensor, Values], Tensor]] = {
    "erasing": erasure,
    "sharpness": lambda image, p: vision.adjust_sharpness(image, p["factor"]),
    "rolling": lambda image, p: torch.roll(image, (int(p["dy"]), int(p["dx"])), (-2, -1)),
    "grayscale": lambda image, p: vision.rgb_to_grayscale(image, 3),
    "gaussian_blur": lambda image, p: vision.gaussian_blur(image, [7, 7], [p["sigma"]] * 2),
    "brightness": lambda image, p: vision.adjust_brightness(image, p["factor"]),
    "contrast": lambda image, p: vision.adjust_contrast(image, p["factor"]),
    "saturation": lambda image, p: vision.adjust_saturation(image, p["factor"]),
    "hue": lambda image, p: vision.adjust_hue(image, p["shift"]),
    "hflip": lambda image, p: vision.hflip(image),
    "rotation": lambda image, p: vision.rotate(image, p["angle"], interpolation=BILINEAR),
    "elliptic_local_blur": ellipse,
}


def presentations(name: str) -> Presentations:
    """Rows that show every image once, altered by draws from the alteration's own laws."""
    rng = np.random.default_rng(0)
    values = {
        f"{name}_{key}": parameter.law.ppf(rng.random((N, 1)))
        for key, parameter in ALTERATIONS[name].parameters.items()
    }
    index = np.arange(N)
    return Presentations(("A",), index, index[:, None], index, values, np.zeros((N, 1), dtype=np.int64))


def seconds(name: str, rounds: int) -> tuple[float, float | None]:
    """Shortest time of the treatment and of the loop."""
    batch = Batch(torch.rand(N, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)))
    treatment, rows = Treatment((Applied(name, name),), SIDE), presentations(name)
    sample, row = np.arange(N), np.zeros(N, dtype=np.int64)
    keys = list(ALTERATIONS[name].parameters)
    drawn = [{key: float(rows.values[f"{name}_{key}"][i, 0]) for key in keys} for i in range(N)]

    def treat() -> None:
        treatment.stimuli(batch, rows, sample, row)

    def loop() -> None:
        for image, parameters in zip(batch.images, drawn, strict=True):
            image.copy_(LOOPS[name](image, parameters))

    best = {}
    for _ in range(rounds):
        for function in (treat, loop) if name in LOOPS else (treat,):
            batch.reset()
            started = time.perf_counter()
            function()
            best[function] = min(best.get(function, float("inf")), time.perf_counter() - started)
    return best[treat], best.get(loop)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("names", nargs="*", help="alterations; all of them by default")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"{'alteration':<20} {'ours':>9} {'loop':>9} {'ours / loop':>12}")
    total_ours = total_loop = 0.0
    for name in arguments.names or [*LOOPS, *(name for name in ALTERATIONS if name not in LOOPS)]:
        ours, loop = seconds(name, arguments.rounds)
        if loop is None:
            print(f"{name:<20} {1e3 * ours:6.1f} ms {'':>9} {'':>12}")
            continue
        print(f"{name:<20} {1e3 * ours:6.1f} ms {1e3 * loop:6.1f} ms {ours / loop:12.2f}")
        total_ours, total_loop = total_ours + ours, total_loop + loop
    print(f"the study's: the loop takes {total_loop / total_ours:.2f} × as long")


if __name__ == "__main__":
    main()
