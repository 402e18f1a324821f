"""Shapley effects: errors beside SALib's at equal rows, joint runs beside separate ones, and coverage of intervals.

Prints
1. for the 6-dimensional g-function: the error variance of SALib's Shapley effects over ours, in total and by factor;
2. rows of a joint run over those of two runs, and the largest difference of their results in standard errors;
3. the share of 95 % intervals of S1, ST, S2 and Shapley effects that cover the truth, on random ReLU units, and the
   mean ratio of standard error and root mean square error.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from SALib.analyze import shapley as salib
from SALib.sample import shapley as salib_sample
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from neuroprobe.design.factors import Factor, Input
from neuroprobe.design.laws import Law
from neuroprobe.design.pick_freeze import PickFreeze, block_length
from neuroprobe.statistics.estimators import DifferenceTerms
from neuroprobe.statistics.indices import finalize
from neuroprobe.statistics.shapley import WalkTerms
from oracles import ORACLES, stream_design

G = next(oracle for oracle in ORACLES if oracle.name == "g-function")
TRUTH = np.array([0.638073944055, 0.308126765848, 0.0461902931841, 0.00745954175711] + 2 * [7.47275779064e-5])
SCRAMBLES: tuple[str | int, ...] = ("auto", 128, "whole")
SEEDS = 40
N_UNITS, REPEATS, SAMPLES = 200, 200, 2048
Function = Callable[[np.ndarray], np.ndarray]


def analyse(
    function: Function, factors: tuple[Factor, ...], samples: int, seed: int, scramble: str | int, *, single: bool
) -> dict[str, np.ndarray]:
    """Shapley effects, with `single` those of a joint run with Sobol indices."""
    block, length = block_length(samples, scramble)
    design = PickFreeze(factors, seed, 1, scramble=length, single=single, walks=True)
    d = len(factors)
    found: dict[str, np.ndarray] = {}
    for terms in ([DifferenceTerms(d)] if single else []) + [WalkTerms(d)]:

        def respond(shown, terms=terms):
            y = function(np.stack([shown.values[factor.name] for factor in factors], -1)).reshape(
                *shown.image.shape, -1
            )
            rows = (
                shown.steps if isinstance(terms, WalkTerms) else np.broadcast_to(shown.single, (len(y), terms.n_rows))
            )
            return np.take_along_axis(y, rows[:, :, None], axis=1)

        found |= finalize(stream_design(design, respond, samples, block, terms), terms)
    return found


def beside_salib() -> None:
    problem = {"num_vars": G.d, "names": [f"x{i}" for i in range(G.d)], "bounds": [[0, 1]] * G.d}
    print("error variance of SALib's Shapley effects over ours, g-function, equal rows")
    print(f"{'N':>6} {'scramble':>8} {'total':>6}  by factor")
    for samples in (4096, 16384):
        theirs = []
        for seed in range(SEEDS):
            x = salib_sample.sample(problem, samples, seed=seed + 1)
            theirs.append(salib.analyze(problem, x, G.function(x))["shapley_normalized"])
        of_theirs = ((np.array(theirs) - TRUTH) ** 2).mean(0)
        for scramble in SCRAMBLES:
            runs = [analyse(G.function, G.factors, samples, seed, scramble, single=False) for seed in range(SEEDS)]
            ours = ((np.array([run["shapley_effect"][:, 0] for run in runs]) - TRUTH) ** 2).mean(0)
            each = " ".join(f"{ratio:6.2f}" for ratio in of_theirs / ours)
            print(f"{samples:>6} {scramble!s:>8} {of_theirs.sum() / ours.sum():6.2f}  {each}")


def joint_and_separate() -> None:
    print("\njoint runs beside separate ones, N = 16384")
    for scramble in SCRAMBLES:
        joint = analyse(G.function, G.factors, 1 << 14, 0, scramble, single=True)
        alone = analyse(G.function, G.factors, 1 << 14, 0, scramble, single=False)
        same = np.array_equal(joint["shapley_effect"], alone["shapley_effect"])
        print(f"  scramble {scramble!s:>5}: Shapley effects {'the same bits' if same else 'differ'}")
    rows = [
        PickFreeze(G.factors, 0, 1, single=single, walks=walks).n_rows for single, walks in ((1, 1), (1, 0), (0, 1))
    ]
    d = G.d
    print(f"  rows {rows[0]} / ({rows[1]} + {rows[2]}) = {rows[0] / (rows[1] + rows[2]):.3f}")
    print(f"  (3d − 1) / (3d + 3) = {(3 * d - 1) / (3 * d + 3):.3f}")


def relu_units() -> Function:
    rng = np.random.default_rng(0)
    weights, bias = rng.normal(size=(6, N_UNITS)), rng.normal(size=N_UNITS)
    return lambda x: np.maximum((2 * x - 1) @ weights * np.sqrt(3) + bias, 0)


def coverage() -> None:
    function = relu_units()
    factors = tuple(Factor(f"x{i}", (Input(f"x{i}", Law("uniform", (0, 1))),)) for i in range(6))
    long = [analyse(function, factors, 1 << 16, 1000 + seed, "whole", single=True) for seed in range(2)]
    quantities = ("first_order", "total_order", "second_order", "shapley_effect")
    truth = {name: np.mean([run[name] for run in long], axis=0) for name in quantities}
    print(f"\n95 % intervals by t: {N_UNITS} ReLU units of 6 inputs, N = {SAMPLES}, {REPEATS} repetitions")
    print(f"{'scramble':>8} " + " ".join(f"{name:>22}" for name in quantities) + "   (coverage, se / rmse)")
    for scramble in (128, "whole"):
        quantile = stats.t.ppf(0.975, SAMPLES // block_length(SAMPLES, scramble)[0] - 1)
        covered = {name: [] for name in quantities}
        squares = {name: [] for name in quantities}
        errors = {name: [] for name in quantities}
        for seed in range(REPEATS):
            run = analyse(function, factors, SAMPLES, seed, scramble, single=True)
            for name in quantities:
                error, se = run[name] - truth[name], run[f"{name}_se"]
                known = np.isfinite(error)
                covered[name].append((np.abs(error) <= quantile * se)[known].mean())
                squares[name].append(error**2)
                errors[name].append(se**2)
        cells = []
        for name in quantities:
            ratio = np.sqrt(np.mean(errors[name], 0) / np.mean(squares[name], 0))
            cells.append(f"{np.mean(covered[name]):.3f}, {np.nanmean(ratio):.2f}")
        print(f"{scramble!s:>8} " + " ".join(f"{cell:>22}" for cell in cells), flush=True)


def main() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    beside_salib()
    joint_and_separate()
    coverage()


if __name__ == "__main__":
    main()
