"""Accumulation of Sobol sums against SALib's loop over outputs: N = 1024, d = 6, second order, 10⁴ outputs.

SALib is timed on a few outputs and its time multiplied; it analyses one output at a time.
"""

from __future__ import annotations

import time
import warnings

import numpy as np
import torch
from SALib.analyze import sobol as salib

from neuroprobe.statistics.estimators import DifferenceTerms
from neuroprobe.statistics.indices import finalize
from neuroprobe.statistics.pick_freeze import PickFreezeAccumulator

N, D, OUTPUTS = 1024, 6, 10_000
SALIB_OUTPUTS = 4
SAMPLES_PER_UPDATE = 16
BLOCK = 64


def accumulate(y: torch.Tensor, terms: DifferenceTerms, compiled: bool) -> float:
    accumulator = PickFreezeAccumulator(terms, OUTPUTS, BLOCK, compiled=compiled)
    index = torch.arange(SAMPLES_PER_UPDATE * terms.n_rows).view(SAMPLES_PER_UPDATE, terms.n_rows)
    started = time.perf_counter()
    merged = None
    for block in y.split(BLOCK):
        for part in block.split(SAMPLES_PER_UPDATE):
            accumulator.update(part.flatten(0, 1), index)
        state = accumulator.end_block()
        if merged is None:
            merged = state
        else:
            merged.merge(state)
    assert merged is not None
    finalize(merged, terms)
    return time.perf_counter() - started


def salib_seconds(y: np.ndarray, n_resamples: int) -> float:
    problem = {"num_vars": D, "names": [f"x{i}" for i in range(D)], "bounds": [[0, 1]] * D}
    order = [0, *range(2, 2 * D + 2), 1]
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for output in range(SALIB_OUTPUTS):
            salib.analyze(problem, y[:, order, output].ravel(), num_resamples=n_resamples, seed=1)
    return (time.perf_counter() - started) * OUTPUTS / SALIB_OUTPUTS


def main() -> None:
    terms = DifferenceTerms(D)
    y = torch.randn(N, terms.n_rows, OUTPUTS)
    accumulate(y[:64], terms, True)  # compiles
    ours = {kind: min(accumulate(y, terms, kind == "compiled") for _ in range(5)) for kind in ("eager", "compiled")}
    theirs = {resamples: salib_seconds(y.numpy(), resamples) for resamples in (2, 100)}
    for kind, seconds in ours.items():
        ratios = ", ".join(
            f"{time_ / seconds:,.0f} × SALib at {n} resamples ({time_:.0f} s)" for n, time_ in theirs.items()
        )
        print(f"{kind:<9} {seconds:.4f} s  {ratios}")


if __name__ == "__main__":
    main()
