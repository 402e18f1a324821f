"""Whether conditions differ: analysis of variance over one factor, or over several with their interactions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroprobe.analysis.populations import Noise, Piece, Population, populations_of, require_repeats
from neuroprobe.analysis.unit_results import UnitResults, common_attrs, require_correction
from neuroprobe.errors import ReaderError
from neuroprobe.statistics.factorial import FactorialAnova, factorial_anova
from neuroprobe.statistics.trials import kruskal_wallis, one_way, permutation_test

TERM: Final = "term"
ONE_WAY: Final = "one-way analysis of variance"
RANKS: Final = "Kruskal & Wallis' test, corrected for ties, χ²"
PERMUTED: Final = "F against that of permuted trials (Phipson & Smyth 2010)"
DESCRIBED: Final = {
    "f_statistic": ("F", ONE_WAY),
    "df_between": ("degrees of freedom between conditions", ONE_WAY),
    "df_within": ("degrees of freedom within conditions", ONE_WAY),
    "p_value": ("p-value of a difference between conditions", ONE_WAY),
    "eta_squared": ("share of the sum of squares, above 0 by chance", ONE_WAY),
    "omega_squared": ("share of the variance, without bias", ONE_WAY),
    "rank_statistic": ("H", RANKS),
    "rank_p_value": ("p-value of a difference between conditions, of ranks", RANKS),
    "epsilon_squared": ("share of the variance of ranks", RANKS),
    "permutation_p_value": ("p-value of a difference between conditions, by permutation", PERMUTED),
    "p_maximum": (
        "p-value of a difference, right for all units of a population at once",
        "largest F of the population under permutation (Nichols & Holmes 2002)",
    ),
}


def anova(
    recording: xr.DataTree,
    factors: Sequence[str] | str | None = None,
    *,
    order: int | None = None,
    kind: int = 2,
    units: str | None = None,
    correction: str = "fdr_bh",
    n_permutations: int = 0,
    seed: int = 0,
) -> xr.Dataset:
    """Analysis of variance of single trials.

    Parameters
    ----------
    recording : xarray.DataTree
        As `neuroprobe.read_recording` or `neuroprobe.open_recording` gives it.
    factors : str or sequence of str, optional
        Columns of the presentation table: of one, a one-way analysis; of several, a factorial one.
    order : int, optional
        Largest number of factors in a term; by default all.
    kind : int
        Of the sums of squares of a factorial analysis: 1, 2 or 3.
    units, correction, seed
        As for `neuroprobe.responsiveness`.
    n_permutations : int
        Of a test by permutation, of one factor; 0 for none.

    Returns
    -------
    Dataset
        Of one factor, over ``unit``: ``f_statistic``, ``df_between``, ``df_within``, ``p_value``, ``p_adjusted``,
        ``eta_squared``, ``omega_squared``, and of ranks ``rank_statistic``, ``rank_p_value``, ``rank_p_adjusted``,
        ``epsilon_squared``. Of several, over (``term``, ``unit``) with terms such as ``"contrast:size"``:
        ``f_statistic``, ``df``, ``p_value``, ``p_adjusted``, ``omega_squared``, ``partial_omega_squared``; and
        ``df_error``, ``error`` over ``unit``.

    Raises
    ------
    ReaderError
        If no condition was shown more than once, repetitions do not differ, or responses are means over trials; or
        trials of several factors are to be permuted.
    """
    require_correction(correction)
    populations = populations_of(recording, factors, units)
    several = len(populations[0].factors) > 1
    require_one_factor(populations, n_permutations)
    require_repeats(populations, "analysis of variance")
    results, noise = UnitResults(populations), Noise("analysis of variance")
    terms: tuple[str, ...] = ()
    for one in populations:
        for piece in one.pieces():
            noise.look(piece)
            if several:
                terms = _add_factorial(results, piece, order, kind)
            else:
                _add_one_way(results, piece)
        if n_permutations:
            whole = one.whole()
            test = permutation_test(*whole.arguments, n_permutations, one.random(seed, "anova"))
            results.add(one, permutation_p_value=test.p_value, p_maximum=test.p_maximum)
    noise.require()
    described, coords = (
        (_factorial_described(kind), {TERM: np.array(terms, dtype=object)}) if several else (DESCRIBED, {})
    )
    used = {"n_permutations": n_permutations, "seed": seed} if n_permutations else {}
    return results.dataset(
        described,
        common_attrs("analysis of variance", populations, **used),
        defined="p_value",
        correction=correction,
        coords=coords,
    )


def require_one_factor(populations: Sequence[Population], n_permutations: int) -> None:
    """Refuse permutations of several factors, whose trials are not exchangeable under the null of one of them.

    Raises
    ------
    ReaderError
    """
    factors = populations[0].factors
    if n_permutations and len(factors) > 1:
        raise ReaderError(
            f"n_permutations: trials are permuted over the conditions of one factor, received {', '.join(factors)}: "
            "name one of them, or leave n_permutations out"
        )


def _add_one_way(results: UnitResults, piece: Piece) -> None:
    found, ranks = one_way(*piece.arguments), kruskal_wallis(*piece.arguments)
    results.add(
        piece.population,
        f_statistic=found.statistic,
        df_between=found.df_between,
        df_within=found.df_within,
        p_value=found.p_value,
        eta_squared=found.eta_squared,
        omega_squared=found.omega_squared,
        rank_statistic=ranks.statistic,
        rank_p_value=ranks.p_value,
        epsilon_squared=ranks.epsilon_squared,
    )


def factorial_of(piece: Piece, order: int | None = None, kind: int = 2) -> tuple[FactorialAnova, tuple[str, ...]]:
    """Factorial analysis of the trials of a piece, and the names of its terms."""
    population = piece.population
    known = population.conditions.index >= 0
    found = factorial_anova(piece.values[known], levels_of(population)[known], order, kind)
    return found, tuple(":".join(population.factors[factor] for factor in term) for term in found.terms)


def levels_of(population: Population) -> NDArray[np.int64]:
    """Level of each factor in each presentation (presentations, factors), as numbers in the order of levels; −1."""
    conditions = population.conditions
    columns: list[Any] = []
    for place in range(len(population.factors)):
        there = sorted({label[place] for label in conditions.labels})
        number = {level: at for at, level in enumerate(there)}
        of_condition = np.array([number[label[place]] for label in conditions.labels] + [-1], dtype=np.int64)
        columns.append(of_condition[conditions.index])
    return np.stack(columns, axis=1)


def _add_factorial(results: UnitResults, piece: Piece, order: int | None, kind: int) -> tuple[str, ...]:
    found, terms = factorial_of(piece, order, kind)
    results.add(
        piece.population,
        (TERM,),
        f_statistic=found.statistic,
        df=np.repeat(found.df[:, None], piece.values.shape[1], axis=1),
        p_value=found.p_value,
        omega_squared=found.omega_squared,
        partial_omega_squared=found.partial_omega_squared,
    )
    results.add(piece.population, df_error=found.df_error, error=found.error)
    return terms


def _factorial_described(kind: int) -> dict[str, tuple[str, str]]:
    method = f"factorial analysis of variance, sums of squares of kind {kind}"
    return {
        "f_statistic": ("F of the term", method),
        "df": ("degrees of freedom of the term", method),
        "p_value": ("p-value of the term", method),
        "omega_squared": ("share of the variance, without bias", f"{method}, ω²"),
        "partial_omega_squared": ("share of the variance that other terms leave, without bias", f"{method}, ω²"),
        "df_error": ("degrees of freedom of the error", method),
        "error": ("mean square of the error", method),
    }
