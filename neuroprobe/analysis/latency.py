"""When the responses of units begin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import xarray as xr

from neuroprobe import names
from neuroprobe.analysis.populations import Population, populations_of, require_trials
from neuroprobe.analysis.unit_results import UnitResults, common_attrs
from neuroprobe.errors import ReaderError
from neuroprobe.statistics.latency import latency as latency_of

FIRST: Final = "first of several bins in a row above the baseline's mean by standard deviations of its bins"
DESCRIBED: Final = {
    "latency": ("latency of the response, s", f"{FIRST}; bootstrap over trials"),
    "share_found": ("share of draws of trials that have a latency", "bootstrap over trials"),
}


def latency(
    recording: xr.DataTree,
    factors: Sequence[str] | str | None = None,
    *,
    n_sd: float = 3.0,
    n_consecutive: int = 3,
    n_draws: int = 200,
    level: float = 0.95,
    units: str | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """Latency of the mean response of each unit.

    Parameters
    ----------
    recording : xarray.DataTree
        With responses in bins of time, some of them before 0 s: read with ``bins`` and a window that begins early.
    factors : str or sequence of str, optional
        Trials that lack one are left out; by default all trials count.
    n_sd, n_consecutive
        Bins in a row that are above the mean of the baseline by as many standard deviations.
    n_draws : int
        Of trials, with replacement.
    level : float
        Of the interval.
    units, seed
        As for `neuroprobe.responsiveness`.

    Returns
    -------
    Dataset
        Over ``unit``: ``latency`` (s) with ``_se``, ``_lower``, ``_upper``, of draws that have one; ``share_found``;
        ``defined``. NaN where a response has no beginning.

    Raises
    ------
    ReaderError
        If there are no bins of time, or too few before 0 s; or responses are means over trials.
    """
    populations = populations_of(recording, () if factors is None else factors, units)
    require_trials(populations, "latency")
    require_bins(populations)
    results = UnitResults(populations)
    for one in populations:
        start = one.dataset[names.TIME_BIN_START].values
        for piece in one.courses():
            trials = piece.values[one.conditions.index >= 0]
            # trials that the whole population lacks
            trials = trials[~np.isnan(trials).all((1, 2))]
            try:
                found = latency_of(trials, start, n_draws, one.random(seed, "latency"), n_sd, n_consecutive, level)
            except ValueError as error:
                raise ReaderError(f"{one.name}: {error}") from None
            results.add(
                one,
                latency=found.latency,
                latency_se=found.se,
                latency_lower=found.low,
                latency_upper=found.high,
                share_found=found.share_found,
            )
    told = {"n_sd": n_sd, "n_consecutive": n_consecutive, "n_draws": n_draws, "level": level, "seed": seed}
    return results.dataset(DESCRIBED, common_attrs("latency", populations, **told), defined="latency")


def require_bins(populations: Sequence[Population]) -> None:
    """Refuse recordings without bins of time.

    Raises
    ------
    ReaderError
    """
    for one in populations:
        if names.TIME_BIN_START not in one.dataset.coords:
            raise ReaderError(
                f"latency needs bins of time, and {one.name!r} has none: read the recording with `bins`, in a window "
                "that begins before the stimulus"
            )
