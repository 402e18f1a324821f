"""How much of the responses of units is signal: split halves, explainable variance, noise ceilings, Fano factors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import xarray as xr

from neuroprobe.analysis.populations import Noise, Piece, populations_of, require_repeats
from neuroprobe.analysis.unit_results import UnitResults, common_attrs
from neuroprobe.errors import ReaderError
from neuroprobe.statistics.reliability import fano_factor, signal_power_of, split_half

HALVES: Final = "correlation over conditions of the means of random halves of the trials, mean over splits"
POWER: Final = "analysis of variance, (MS_between - MS_within) / n₀ (after Sahani & Linden 2003)"
DESCRIBED: Final = {
    "split_half_correlation": ("reliability of half of the trials", HALVES),
    "split_half_spread": ("standard deviation of the reliability over splits, which is no standard error", HALVES),
    "reliability": ("reliability of the mean over all trials", f"{HALVES}, Spearman & Brown"),
    "split_half_ceiling": ("largest correlation of a model with the mean over all trials", "√reliability"),
    "signal_power": ("variance over conditions of what repeats", POWER),
    "noise_power": ("variance of a trial around its condition", POWER),
    "explainable_variance": ("share of the variance of single trials that is signal", POWER),
    "noise_ceiling": (
        "largest correlation of a model with the mean over trials",
        f"{POWER}, √(signal / variance of mean)",
    ),
    "fano_factor": ("variance over mean of spike counts", "mean over conditions"),
}


def reliability(
    recording: xr.DataTree,
    factors: Sequence[str] | str | None = None,
    *,
    n_splits: int = 100,
    units: str | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """How much of the responses of each unit is signal, which repeats, and how much noise.

    Parameters
    ----------
    recording : xarray.DataTree
        As `neuroprobe.read_recording` or `neuroprobe.open_recording` gives it.
    factors : str or sequence of str, optional
        Columns of the presentation table that say what a repetition is of.
    n_splits : int
        Random halves of the trials.
    units, seed
        As for `neuroprobe.responsiveness`.

    Returns
    -------
    Dataset
        Over ``unit``: ``split_half_correlation``, ``split_half_spread`` (over splits), ``reliability`` (Spearman &
        Brown), ``split_half_ceiling``; ``signal_power``, ``noise_power``, ``explainable_variance`` with standard errors
        over conditions, ``noise_ceiling``; of spike counts ``fano_factor`` and its error; ``defined``.

    Raises
    ------
    ReaderError
        If no condition was shown more than once, repetitions do not differ, or responses are means over trials.
    """
    if n_splits < 1:
        raise ReaderError(f"n_splits is 1 or more, received {n_splits}")
    populations = populations_of(recording, factors, units)
    require_repeats(populations, "reliability")
    results, noise = UnitResults(populations), Noise("reliability")
    are_counts = all(one.are_counts for one in populations)
    for one in populations:
        for piece in one.pieces():
            noise.look(piece)
            _add(results, piece, n_splits, seed, are_counts)
    noise.require()
    return results.dataset(
        DESCRIBED,
        common_attrs("reliability", populations, n_splits=n_splits, seed=seed),
        defined="explainable_variance",
    )


def _add(results: UnitResults, piece: Piece, n_splits: int, seed: int, are_counts: bool) -> None:
    one = piece.population
    if one.conditions.labels:
        halves = split_half(*piece.arguments, n_splits, one.random(seed, "reliability"))
        split = [halves.correlation, halves.spread, halves.reliability, halves.ceiling]
    else:
        split = [*np.full((4, piece.values.shape[1]), np.nan)]
    named = ("split_half_correlation", "split_half_spread", "reliability", "split_half_ceiling")
    results.add(one, **dict(zip(named, split, strict=True)))
    power = signal_power_of(piece.curves)
    results.add(
        one,
        signal_power=power.signal,
        signal_power_se=power.signal_se,
        noise_power=power.noise,
        noise_power_se=power.noise_se,
        explainable_variance=power.explainable,
        explainable_variance_se=power.explainable_se,
        noise_ceiling=power.ceiling,
    )
    if are_counts:
        fano, _ = fano_factor(piece.curves)
        results.add(one, fano_factor=fano.value, fano_factor_se=fano.se)
