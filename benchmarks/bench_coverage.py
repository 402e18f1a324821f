"""Coverage of 95 % intervals, for the images that were shown and for new ones, on units whose indices are known."""

from __future__ import annotations

import sys

import numpy as np
import torch
from scipy import stats

sys.path.insert(0, "tests")

from neuroprobe.design.pick_freeze import ImageGroups, PickFreeze, block_length
from neuroprobe.statistics.estimators import DifferenceTerms
from neuroprobe.statistics.indices import finalize
from oracles import SeparableImages, stream_design

N_UNITS, N_SEEDS = 400, 12
CASES = (
    (64, 1024, "auto"),
    (64, 4096, "auto"),
    (64, 4096, 128),
    (256, 4096, "auto"),
    (500, 4096, 128),
    (500, 1024, "auto"),
    (64, 4096, "whole"),
)


def hits(n_images: int, samples: int, scramble: int | str, replicate: bool, seed: int) -> list[float]:
    """Shares of S1 and ST within their intervals: of these images, and of the law that they come from."""
    units, terms = SeparableImages(n_images, N_UNITS, seed), DifferenceTerms(2)
    block, length = block_length(samples, scramble)
    groups = ImageGroups(block, samples // block) if replicate else None
    design = PickFreeze(units.factors, seed, n_images, True, length, groups=groups)
    found = finalize(stream_design(design, units.respond, samples, block, terms), terms)
    quantile = stats.t.ppf(0.975, samples // block - 1)
    return [
        float((np.abs(found[name] - units.within(new_images=new)[name]) <= quantile * found[f"{name}_se"]).mean())
        for new in (False, True)
        for name in ("first_order", "total_order")
    ]


def main() -> None:
    torch.set_num_threads(1)
    print("95 % intervals cover:            these images        new images")
    print("images      N  scramble replicate     S1     ST       S1     ST")
    for n_images, samples, scramble in CASES:
        for replicate in (False, True):
            if replicate and samples // block_length(samples, scramble)[0] > n_images:
                continue
            found = np.mean([hits(n_images, samples, scramble, replicate, seed) for seed in range(N_SEEDS)], axis=0)
            name = "image" if replicate else "sample"
            cells = f"{found[0]:.3f}  {found[1]:.3f}    {found[2]:.3f}  {found[3]:.3f}"
            print(f"{n_images:>6} {samples:>6}  {scramble!s:>8} {name:>9}  {cells}")


if __name__ == "__main__":
    main()
