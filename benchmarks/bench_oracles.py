"""Errors of the Sobol indices on closed-form oracles, in units of their standard errors and beside SALib's.

Prints for each oracle and kind of scramble: the largest |error| / standard error over all indices, the bound
t_df(1 − 10⁻⁶), and the root mean square error over seeds beside that of SALib at the same number of base samples.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from SALib.analyze import sobol as salib
from SALib.sample import sobol as salib_sample
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from oracles import ORACLES, Oracle, stream

SAMPLES = 1 << 14
SEEDS = 10


def ours(oracle: Oracle, seed: int, scramble: str | int) -> dict[str, np.ndarray]:
    return stream(oracle.function, oracle.factors, SAMPLES, seed=seed, scramble=scramble)


def salib_estimates(oracle: Oracle, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    low, high = oracle.law.arguments
    problem = {"num_vars": oracle.d, "names": [f"x{i}" for i in range(oracle.d)], "bounds": [[low, high]] * oracle.d}
    x = salib_sample.sample(problem, SAMPLES, calc_second_order=True, seed=seed + 1)
    found = salib.analyze(problem, oracle.function(x), num_resamples=2, seed=seed + 1)
    return found["S1"], found["ST"], found["S2"]


def main() -> None:
    for oracle in ORACLES:
        truth = (np.array(oracle.first), np.array(oracle.total), oracle.second_matrix())
        upper = np.triu_indices(oracle.d, 1)
        theirs = [salib_estimates(oracle, seed) for seed in range(SEEDS)]
        rms_theirs = [
            float(
                np.sqrt(
                    np.mean(
                        [
                            (found[k][upper] - truth[k][upper]) ** 2 if k == 2 else (found[k] - truth[k]) ** 2
                            for found in theirs
                        ]
                    )
                )
            )
            for k in range(3)
        ]
        for scramble in ("auto", 128, "whole"):
            runs = [ours(oracle, seed, scramble) for seed in range(SEEDS)]
            n_blocks = SAMPLES // {"auto": SAMPLES // 16, 128: 128, "whole": 64}[scramble]
            bound = stats.t.ppf(1 - 1e-6, n_blocks - 1)
            worst, rms = [], []
            for k, name in enumerate(("first_order", "total_order", "second_order")):
                error = np.stack([run[name][..., 0] - truth[k] for run in runs])
                se = np.stack([run[f"{name}_se"][..., 0] for run in runs])
                if k == 2:
                    error, se = error[:, upper[0], upper[1]], se[:, upper[0], upper[1]]
                worst.append(float(np.max(np.abs(error) / np.maximum(se, 1e-12))))
                rms.append(float(np.sqrt(np.mean(error**2))))
            print(
                f"{oracle.name:<11} scramble {scramble!s:<6} |error|/se  S1 {worst[0]:5.2f}  ST {worst[1]:5.2f}  "
                f"S2 {worst[2]:5.2f}  (bound {bound:4.1f})   rms  S1 {rms[0]:.1e}  ST {rms[1]:.1e}  S2 {rms[2]:.1e}   "
                f"SALib  S1 {rms_theirs[0]:.1e}  ST {rms_theirs[1]:.1e}  S2 {rms_theirs[2]:.1e}"
            )


if __name__ == "__main__":
    main()
