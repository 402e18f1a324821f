"""Coverage of 95 % intervals of runs that stop when their standard errors are small enough, beside fixed lengths.

Units are g-functions of three factors with random weights, whose indices are known, and rectified sums of three factors
that are active in 35 % to 3 % of presentations, whose indices are estimated from 2²⁰ base samples. A run is looked at
after 8, 16, …, 128 scrambles of 64 base samples. ``alone``: every index of every unit stops for itself, the worst case;
``all``: all stop together, when 95 % of the units have the error in all indices, as under ``design: {until: …}``.
``fixed``: the same lengths, each as often as runs stopped there, whatever the errors are.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

sys.path.insert(0, "tests")

from neuroprobe import names
from neuroprobe.design.factors import Factor, Input
from neuroprobe.design.laws import Law
from neuroprobe.design.pick_freeze import PickFreeze, Presentations
from neuroprobe.statistics.estimators import DifferenceTerms
from neuroprobe.statistics.indices import finalize
from oracles import stream_design

N_FACTORS, N_UNITS, N_REPETITIONS, BLOCK = 3, 30, 120, 64
STAGES = (8, 16, 32, 64, 128)  # blocks
QUANTITIES = (names.FIRST_ORDER, names.TOTAL_ORDER, names.SECOND_ORDER)
TARGETS = {"g-functions": (0.03, 0.02, 0.015, 0.01), "rectified": (0.06, 0.04, 0.03, 0.02)}
SHARE = 0.95
FACTORS = tuple(Factor(f"x{i}", (Input(f"x{i}", Law("uniform", (0, 1))),)) for i in range(N_FACTORS))
PAIRS = np.triu_indices(N_FACTORS, 1)
WEIGHTS = np.random.default_rng(0).uniform(0, 3, (N_UNITS, N_FACTORS))
THRESHOLDS = np.linspace(1.7, 2.45, N_UNITS)
Found = dict[str, NDArray[np.float64]]


def respond(rows: Presentations, kind: str) -> NDArray[np.float64]:
    """Responses (samples, rows, units)."""
    x = np.stack([rows.values[f"x{i}"] for i in range(N_FACTORS)], -1)
    if kind == "rectified":
        return np.maximum(x.sum(-1)[..., None] - THRESHOLDS, 0)
    return np.prod((np.abs(4 * x[..., None, :] - 2) + WEIGHTS) / (1 + WEIGHTS), -1)


def estimate(kind: str, seed: int, n_blocks: int, block: int = BLOCK) -> Found:
    """Indices with errors from some blocks."""
    design, terms = PickFreeze(FACTORS, seed, 1, True, block), DifferenceTerms(N_FACTORS)
    sums = stream_design(design, lambda rows: respond(rows, kind), n_blocks * block, block, terms)
    found = finalize(sums, terms)
    for name in (names.SECOND_ORDER, names.se(names.SECOND_ORDER)):
        found[name] = found[name][PAIRS]
    return found


def truth(kind: str) -> Found:
    """S1, ST and S2 (…, units)."""
    if kind == "rectified":
        return estimate(kind, 10**6, 64, 1 << 14)
    one = (1 / (3 * (1 + WEIGHTS) ** 2)).T
    variance = np.prod(1 + one, 0) - 1
    total = np.stack([one[i] * np.prod(1 + np.delete(one, i, 0), 0) for i in range(N_FACTORS)])
    pairs = one[PAIRS[0]] * one[PAIRS[1]]
    return dict(zip(QUANTITIES, (one / variance, total / variance, pairs / variance), strict=True))


def repetition(kind: str, exact: Found, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return errors, and whether the interval holds the truth, at each stage, both (stages, indices, units)."""
    every, covered = [], []
    for n_blocks in STAGES:
        found, quantile = estimate(kind, seed, n_blocks), stats.t.ppf(0.975, n_blocks - 1)
        errors = np.concatenate([found[names.se(name)] for name in QUANTITIES])
        off = np.concatenate([np.abs(found[name] - exact[name]) for name in QUANTITIES])
        every.append(np.where(np.isnan(errors), np.inf, errors))
        covered.append(off <= quantile * errors)
    return np.array(every), np.array(covered)


def first(reached: NDArray[np.bool_]) -> NDArray[np.int64]:
    """First stage (first axis) at which something is reached; the last where it never is."""
    reached = reached.copy()
    reached[-1] = True
    return reached.argmax(0)


def main() -> None:
    torch.set_num_threads(1)
    for kind, targets in TARGETS.items():
        exact = truth(kind)
        runs = [repetition(kind, exact, seed) for seed in range(N_REPETITIONS)]
        errors, covered = (np.array(arrays) for arrays in zip(*runs, strict=True))
        print(f"{kind}: {N_REPETITIONS} repetitions of {N_UNITS} units; 95 % intervals (t) of S1, ST and S2 cover")
        print("fixed lengths: ", ", ".join(f"{n * BLOCK} {covered[:, i].mean():.3f}" for i, n in enumerate(STAGES)))
        print("    se   decides   stops at " + " ".join(f"{n * BLOCK:>5}" for n in STAGES) + "   coverage   fixed")
        for target in targets:
            reached = errors <= target
            alone = first(reached.swapaxes(0, 1))
            together = first((reached.all(2).mean(2) >= SHARE).T)
            together = np.broadcast_to(together[:, None, None], alone.shape)
            for name, stage in (("alone", alone), ("all", together)):
                at_stop = np.take_along_axis(covered, stage[:, None], 1).mean()
                shares = np.bincount(stage.ravel(), minlength=len(STAGES)) / stage.size
                # of each index, at the lengths at which it stopped
                fixed = np.take_along_axis(covered.mean(0), stage, 0).mean()
                cells = " ".join(f"{share:>5.0%}" for share in shares)
                print(f"{target:>6}   {name:>7}            {cells}   {at_stop:>8.3f}   {fixed:.3f}")


if __name__ == "__main__":
    main()
