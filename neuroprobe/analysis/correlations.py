"""Correlations of pairs of units: of their tuning (signal), and of their trials around it (noise)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import special

from neuroprobe import names
from neuroprobe.analysis.populations import Noise, Piece, Population, populations_of, require_repeats
from neuroprobe.analysis.unit_results import UnitResults, common_attrs, require_correction
from neuroprobe.errors import ReaderError
from neuroprobe.statistics.paired import adjust
from neuroprobe.statistics.reliability import noise_correlation, signal_correlation

UNIT_2: Final = "unit_2"
MOST_UNITS: Final = 4096  # whose pairs are a table of 128 MiB
HALVES: Final = "correlation over conditions between disjoint random halves of the trials, mean over splits"
RESIDUALS: Final = "correlation of trials that are z-scored within conditions (Cohen & Kohn 2011)"
DESCRIBED: Final = {
    "signal_correlation": ("correlation of tuning", f"{HALVES}; error of normal responses, over conditions"),
    "signal_correlation_corrected": ("correlation of tuning without the loss by noise", HALVES),
    "noise_correlation": ("correlation of trials around the mean of their condition", f"{RESIDUALS}; normal error"),
    "noise_p_value": ("p-value of the noise correlation", "Student's t"),
}
Array = NDArray[np.float64]


def correlations(
    recording: xr.DataTree,
    factors: Sequence[str] | str | None = None,
    *,
    n_splits: int = 100,
    units: str | None = None,
    correction: str = "fdr_bh",
    seed: int = 0,
) -> xr.Dataset:
    """Signal and noise correlations of pairs of units that were recorded together.

    Parameters
    ----------
    recording, factors, units, correction, seed
        As for `neuroprobe.reliability`; p-values are corrected for the number of pairs.
    n_splits : int
        Random halves of the trials.

    Returns
    -------
    Dataset
        Over (``unit``, ``unit_2``): ``signal_correlation`` and its error, ``signal_correlation_corrected``,
        ``noise_correlation`` and its error, ``noise_p_value``, ``noise_p_adjusted``. NaN for units of different
        populations, and on the diagonal; ``defined`` over ``unit`` is 1 where there is any noise correlation.

    Raises
    ------
    ReaderError
        If no condition was shown more than once, repetitions do not differ, responses are means over trials, or units
        are too many for a table of pairs.
    """
    require_correction(correction)
    populations = populations_of(recording, factors, units)
    require_repeats(populations, "noise correlation")
    n_units = require_few(populations)
    results, noise = UnitResults(populations), Noise("noise correlation")
    found = {name: np.full((n_units, n_units), np.nan) for name in (*DESCRIBED, *map(names.se, _WITH_ERRORS))}
    start = 0
    for one in populations:
        piece = one.whole()
        noise.look(piece)
        stop = start + one.n_units
        for name, block in _of(piece, n_splits, seed).items():
            np.fill_diagonal(block, np.nan)
            found[name][start:stop, start:stop] = block
        start = stop
    noise.require()
    results.add_spread((UNIT_2,), **found)
    dataset = results.dataset(
        DESCRIBED, common_attrs("correlations", populations, n_splits=n_splits, seed=seed), defined="noise_correlation"
    ).transpose(names.UNIT, UNIT_2)
    told = {"long_name": "p-value of the noise correlation, corrected", "method": correction, "family": "pairs"}
    adjusted = _of_pairs(dataset["noise_p_value"].values, correction)
    second = {
        f"{name}_2": (UNIT_2, coord.values) for name, coord in dataset.coords.items() if coord.dims == (names.UNIT,)
    }
    return dataset.assign(noise_p_adjusted=((names.UNIT, UNIT_2), adjusted, told)).assign_coords(second)


def require_few(populations: Sequence[Population]) -> int:
    """Return the number of units, which are few enough for a table of pairs.

    Raises
    ------
    ReaderError
    """
    n_units = sum(one.n_units for one in populations)
    if n_units > MOST_UNITS:
        raise ReaderError(
            f"{n_units:,} units have too many pairs for a table of them; choose {MOST_UNITS:,} by `units`"
        )
    return n_units


_WITH_ERRORS: Final = ("signal_correlation", "noise_correlation")


def _of(piece: Piece, n_splits: int, seed: int) -> dict[str, Array]:
    one = piece.population
    if not one.conditions.labels:
        return {}
    signal = signal_correlation(*piece.arguments, n_splits, one.random(seed, "correlations"))
    noise = noise_correlation(*piece.arguments)
    n_conditions = int((one.conditions.n > 1).sum())
    room = np.sqrt(n_conditions - 2) if n_conditions > 2 else np.nan
    r = np.clip(noise.value, -1, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        # the error is (1 - r²) / √freedom
        freedom = ((1 - r**2) / noise.se) ** 2 - 1
        t = np.abs(r) * np.sqrt(np.where(freedom > 0, freedom, np.nan) / (1 - r**2))
        p = np.where(np.isnan(t), np.nan, 2 * special.stdtr(freedom, -t))
    return {
        "signal_correlation": signal.correlation,
        "signal_correlation_se": (1 - np.clip(signal.correlation, -1, 1) ** 2) / room,
        "signal_correlation_corrected": signal.corrected,
        "noise_correlation": noise.value,
        "noise_correlation_se": noise.se,
        "noise_p_value": p,
    }


def _of_pairs(p: NDArray[Any], correction: str) -> Array:
    """Correct the p-values of pairs, each of which stands in the table twice."""
    upper = np.triu_indices(len(p), 1)
    found = np.full(p.shape, np.nan)
    found[upper] = adjust(p[upper], correction)
    found.T[upper] = found[upper]
    return found
