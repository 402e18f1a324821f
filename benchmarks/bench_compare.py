"""Dissimilarities and kernel alignment of many stimuli and units: time, and memory beside what is kept.

Responses are made block by block and never held: 10 000 stimuli × 100 000 units would be 8 GB. What must be in memory
is one matrix (stimuli, stimuli), its pairs (half of it), and a block. Run with ``--stimuli 10000`` for the full size.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from neuroprobe.statistics.cka import Kernel, cka
from neuroprobe.statistics.rdms import Products

WIDTH = 1_000  # units of a block
MIB = 2**20


def blocks(n: int, n_units: int, seed: int) -> Iterator[Any]:
    """Responses (stimuli, units) that share three dimensions."""
    shared = np.random.default_rng(0).normal(size=(n, 3))
    for start in range(0, n_units, WIDTH):
        rng = np.random.default_rng((seed, start))
        yield shared @ rng.normal(size=(3, WIDTH)) + rng.standard_normal((n, WIDTH))


def peak() -> float:
    """Largest resident memory so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stimuli", type=int, default=4_000)
    parser.add_argument("--units", type=int, default=100_000)
    parser.add_argument("--units-of-brain", type=int, default=10_000)
    given = parser.parse_args()
    n, square = given.stimuli, given.stimuli**2 * 8 / MIB
    baseline, block = peak(), n * WIDTH * 8 / MIB
    print(f"{n} stimuli × {given.units} units: responses would be {n * given.units * 8 / MIB:,.0f} MiB")
    print(f"a matrix of stimuli is {square:,.0f} MiB, a block {block:,.0f} MiB; after imports {baseline:,.0f} MiB")
    started = time.perf_counter()
    products = Products(n)
    for responses in blocks(n, given.units, 1):
        products.add(responses)
    found = products.distances()
    # the sums, a product that is added, numbers of pairs and distances; making a block takes three
    bound = 5 * square + 4 * block
    print(
        f"dissimilarities: {time.perf_counter() - started:.0f} s; {peak() - baseline:,.0f} MiB above it, "
        f"bound {bound:,.0f} (5 matrices, 4 blocks); mean {found.mean():.4f}"
    )
    del found, products
    started = time.perf_counter()
    kernels = [Kernel(n), Kernel(n)]
    for kernel, seed, units in zip(kernels, (1, 2), (given.units, given.units_of_brain), strict=True):
        for responses in blocks(n, units, seed):
            kernel.add(responses)
    value = cka(kernels[0].matrix, kernels[1].matrix)
    bound = 5 * square + 4 * block
    print(
        f"alignment with {given.units_of_brain} units: {time.perf_counter() - started:.0f} s; "
        f"{peak() - baseline:,.0f} MiB above it, bound {bound:,.0f} (5 matrices, 4 blocks); value {value:.4f}"
    )


if __name__ == "__main__":
    main()
