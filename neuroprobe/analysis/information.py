"""Information that the responses of units carry about conditions, in bits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroprobe.analysis.populations import Noise, Piece, Population, populations_of, require_repeats
from neuroprobe.analysis.unit_results import UnitResults, common_attrs, require_correction
from neuroprobe.errors import ReaderError
from neuroprobe.statistics.information import binned, skaggs_information
from neuroprobe.statistics.information import information as mutual_information

MOST_BINS: Final = 8
TRIALS_PER_BIN: Final = 4  # of a condition, below which no correction of the bias helps (Panzeri et al. 2007)
PLUG_IN: Final = "from shares of trials"
DESCRIBED: Final = {
    "information": ("information about the condition, bits", f"{PLUG_IN}, less its mean over permuted trials"),
    "plug_in": ("information about the condition with its bias, bits", PLUG_IN),
    "miller_madow": ("information about the condition, bits", f"{PLUG_IN}, bias by responses that were seen"),
    "panzeri_treves": ("information about the condition, bits", f"{PLUG_IN}, bias by Panzeri & Treves 1996"),
    "quadratic": ("information about the condition, bits", "extrapolated from half and quarter of the trials"),
    "shuffled": ("information of permuted trials, which is bias, bits", PLUG_IN),
    "shuffled_sd": ("standard deviation of the information of permuted trials, bits", PLUG_IN),
    "p_value": ("p-value of the information", "permuted trials"),
    "bits_per_spike": ("information of mean responses per spike, bits", "Skaggs et al. 1993, biased upward"),
}


def information(
    recording: xr.DataTree,
    factors: Sequence[str] | str | None = None,
    *,
    n_bins: int | None = None,
    n_shuffles: int = 100,
    units: str | None = None,
    correction: str = "fdr_bh",
    seed: int = 0,
) -> xr.Dataset:
    """Mutual information of responses and conditions, less the bias of few trials.

    Parameters
    ----------
    recording, factors, units, correction, seed
        As for `neuroprobe.responsiveness`.
    n_bins : int, optional
        Bins of responses, with as many trials each, where a unit has more different ones. By default a quarter of the
        trials of the rarest repeated condition, between 2 and 8.
    n_shuffles : int
        Permutations of trials: 1 or more.

    Returns
    -------
    Dataset
        Over ``unit``: ``information`` (less its mean over permuted trials) with ``information_se`` (the standard
        deviation over these: of no information), ``plug_in``, ``miller_madow``, ``panzeri_treves``, ``quadratic``,
        ``shuffled``, ``p_value``, ``p_adjusted``, ``bits_per_spike``, ``defined``.

    Raises
    ------
    ReaderError
        If no condition was shown more than once, repetitions do not differ, or responses are means over trials.
    """
    require_correction(correction)
    if n_shuffles < 1 or (n_bins is not None and n_bins < 2):
        raise ReaderError(f"n_shuffles is 1 or more and n_bins 2 or more, received {n_shuffles} and {n_bins}")
    populations = populations_of(recording, factors, units)
    require_repeats(populations, "information")
    results, noise = UnitResults(populations), Noise("information")
    bins = set()
    for one in populations:
        most = _n_bins(one) if n_bins is None else n_bins
        bins.add(most)
        for piece in one.pieces():
            noise.look(piece)
            found = mutual_information(
                _discrete(piece, most),
                one.conditions.index,
                len(one.conditions.labels),
                n_shuffles,
                one.random(seed, "information"),
            )
            share = np.maximum(one.conditions.n, 1e-300)
            per_spike, _ = skaggs_information(piece.curves.mean, share)
            arrays = {
                "information": found.shuffle_subtracted,
                "information_se": found.shuffled_sd,
                "plug_in": found.plug_in,
                "miller_madow": found.miller_madow,
                "panzeri_treves": found.panzeri_treves,
                "quadratic": found.quadratic,
                "shuffled": found.shuffled,
                "p_value": found.p_value,
                "bits_per_spike": per_spike,
            }
            constant = piece.is_constant
            results.add(one, **{name: np.where(constant, np.nan, array) for name, array in arrays.items()})
    noise.require()
    told = {"n_bins": max(bins), "n_shuffles": n_shuffles, "seed": seed}
    return results.dataset(
        {
            **DESCRIBED,
            "information_se": ("standard deviation of the information where there is none, bits", "permuted trials"),
        },
        common_attrs("information", populations, **told),
        defined="information",
        correction=correction,
    )


def _n_bins(population: Population) -> int:
    n = population.conditions.n
    least = int(n[n > 1].min(initial=TRIALS_PER_BIN * MOST_BINS))
    return min(max(least // TRIALS_PER_BIN, 2), MOST_BINS)


def _discrete(piece: Piece, n_bins: int) -> NDArray[np.int64]:
    """Responses as small integers: those of units with few different ones as they are, others in bins."""
    values = np.where(piece.population.conditions.index[:, None] >= 0, piece.values, np.nan)
    found = binned(values, n_bins)
    for unit, column in enumerate(values.T):
        there, at = np.unique(column[~np.isnan(column)], return_inverse=True)
        if len(there) <= n_bins:
            found[~np.isnan(column), unit] = at
    return found
