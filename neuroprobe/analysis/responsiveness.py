"""Which units respond to stimuli at all: against the time before them, or against blank trials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.analysis.populations import Piece, Population, populations_of, require_trials
from neuroprobe.analysis.unit_results import CONDITION, UnitResults, common_attrs, require_correction
from neuroprobe.errors import ReaderError, shown
from neuroprobe.statistics.trials import (
    against_blank,
    kruskal_wallis,
    sign_flip_test,
)
from neuroprobe.statistics.trials import (
    responsiveness as signed_rank_test,
)

Array = NDArray[np.float64]
STIMULUS, BLANK = "stimulus_mean", "blank_mean"
WILCOXON: Final = "Wilcoxon's signed-rank test of trials against their baselines, two-sided, zeros split"
MANN_WHITNEY: Final = "rank test of stimulus trials against blank trials (Mann & Whitney, as Kruskal & Wallis)"
DESCRIBED: Final = {
    "stimulus_mean": ("mean response to stimuli", "mean over trials"),
    "baseline_mean": ("mean response before stimuli", "mean over trials"),
    "blank_mean": ("mean response to blank trials", "mean over trials"),
    "rank_biserial": ("rank-biserial correlation, above 0 where a unit is driven", WILCOXON),
    "epsilon_squared": ("share of the variance of ranks", MANN_WHITNEY),
    "permutation_p_value": ("p-value of responsiveness by permutation", "random signs of trials, |t|"),
    "p_maximum": (
        "p-value of responsiveness, right for all units of a population at once",
        "random signs of trials, largest |t| of the population (Nichols & Holmes 2002)",
    ),
    "d_prime": ("d′ of a condition against blank trials", "(m₁ - m₂) / √((v₁ + v₂) / 2)"),
    "auc": ("area under the ROC curve of a condition against blank trials", "Mann & Whitney's U / (n₁ n₂)"),
}


def responsiveness(
    recording: xr.DataTree,
    factors: Sequence[str] | str | None = None,
    *,
    blank: str | None = None,
    units: str | None = None,
    correction: str = "fdr_bh",
    n_permutations: int = 0,
    seed: int = 0,
) -> xr.Dataset:
    """Which units respond to stimuli.

    Parameters
    ----------
    recording : xarray.DataTree
        As `neuroprobe.read_recording` gives it, with ``baseline``; or with blank trials.
    factors : str or sequence of str, optional
        Columns of the presentation table: trials that lack one are left out. By default, of responses against
        baselines, all trials count; against blanks, those that the recording names.
    blank : str, optional
        Trials to compare with, in place of baselines: a value of ``control_kind``, such as ``"null"``.
    units : str, optional
        Which units, in the language of `neuroprobe.select_units`.
    correction : str
        Of p-values, for the number of units of all populations: one of `neuroprobe.statistics.paired.CORRECTIONS`.
    n_permutations : int
        Of a test by permutation beside that of ranks; 0 for none.
    seed : int

    Returns
    -------
    Dataset
        Over ``unit``: ``p_value``, ``p_adjusted``, ``stimulus_mean``, ``defined``; against baselines
        ``rank_biserial`` and its error, and ``baseline_mean``; against blanks ``epsilon_squared``, ``blank_mean``, and
        over (``condition``, ``unit``) ``d_prime``, ``auc``, with errors.

    Raises
    ------
    ReaderError
        If the recording has neither, or holds means over trials.
    """
    require_correction(correction)
    if blank is None:
        return _against_baseline(recording, factors, units, correction, n_permutations, seed)
    populations = populations_of(recording, factors, units)
    require_trials(populations, "responsiveness")
    require_reference(populations, blank)
    results = UnitResults(populations)
    for one in populations:
        is_blank = _blanks(one, blank)
        for piece in one.pieces():
            _add_against_blank(results, piece, is_blank)
    return results.dataset(
        {**DESCRIBED, "p_value": ("p-value of responsiveness", MANN_WHITNEY)},
        common_attrs("responsiveness", populations, blank=blank),
        defined="p_value",
        correction=correction,
    )


def require_reference(populations: Sequence[Population], blank: str | None) -> None:
    """Refuse recordings without baselines or, where blanks are named, without such blanks.

    Raises
    ------
    ReaderError
    """
    if blank is not None:
        for one in populations:
            _blanks(one, blank)
        return
    lacking = [one.name for one in populations if names.BASELINE not in one.dataset]
    if lacking:
        raise ReaderError(
            f"responsiveness needs baselines, and {lacking[0]!r} has none: read it with `baseline`, in s before "
            "presentations; or name blanks by `blank`; of networks, compare with a control by npr.contrast"
        )


def _against_baseline(
    recording: xr.DataTree,
    factors: Sequence[str] | str | None,
    units: str | None,
    correction: str,
    n_permutations: int,
    seed: int,
) -> xr.Dataset:
    populations = populations_of(recording, () if factors is None else factors, units)
    require_trials(populations, "responsiveness")
    require_reference(populations, None)
    results = UnitResults(populations)
    for one in populations:
        is_stimulus = one.conditions.index >= 0
        for response, before in zip(one.pieces(), one.pieces(names.BASELINE), strict=True):
            values, baseline = response.values[is_stimulus], before.values[is_stimulus]
            means = {STIMULUS: _mean(values), "baseline_mean": _mean(baseline)}
            results.add(one, **means, **signed_rank_test(values, baseline))
        if n_permutations:
            whole, of_all = one.whole().values, next(one.pieces(names.BASELINE, max(one.n_units, 1))).values
            random = one.random(seed, "responsiveness")
            test = sign_flip_test((whole - of_all)[is_stimulus], n_permutations, random)
            results.add(one, permutation_p_value=test.p_value, p_maximum=test.p_maximum)
    used = {"n_permutations": n_permutations, "seed": seed} if n_permutations else {}
    return results.dataset(
        {**DESCRIBED, "p_value": ("p-value of responsiveness", WILCOXON)},
        common_attrs("responsiveness", populations, **used),
        defined="p_value",
        correction=correction,
    )


def _mean(values: Array) -> Array:
    known = ~np.isnan(values)
    n = known.sum(0)
    return np.asarray(np.where(known, values, 0).sum(0) / np.where(n > 0, n, np.nan))


def _blanks(population: Population, blank: str) -> NDArray[np.bool_]:
    kinds = population.table.get(names.CONTROL_KIND)
    found = [] if kinds is None else [str(kind) for kind in kinds.tolist()]
    is_blank = np.array([kind == blank for kind in found], dtype=np.bool_)
    if not is_blank.any():
        known = sorted(set(found) - {""})
        raise ReaderError(
            f"{population.name}: no trial is a blank {shown(blank)}; {names.CONTROL_KIND} has "
            f"{', '.join(known) or 'no other kind'}"
            + ("" if kinds is not None else " (there is no such column: read with `controls`)")
        )
    return is_blank


def _add_against_blank(results: UnitResults, piece: Piece, is_blank: NDArray[np.bool_]) -> None:
    values, condition, n = piece.arguments
    condition = np.where(is_blank, -1, condition)
    either = np.where(is_blank, 1, np.where(condition >= 0, 0, -1))
    test = kruskal_wallis(values, either, 2)
    means = {STIMULUS: _mean(values[either == 0]), BLANK: _mean(values[either == 1])}
    results.add(piece.population, **means, epsilon_squared=test.epsilon_squared, p_value=test.p_value)
    complete = ~np.isnan(values[either >= 0]).any(0)
    parts = np.full((4, n, values.shape[1]), np.nan)
    if complete.any():
        told = against_blank(values[:, complete], condition, n, is_blank)
        parts[:, :, complete] = [told.d_prime, told.d_prime_se, told.auc, told.auc_se]
    named = dict(zip(("d_prime", "d_prime_se", "auc", "auc_se"), parts, strict=True))
    results.add(piece.population, (CONDITION,), **named)
