"""Which factors the responses of units vary with, of experiments that had no design for it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.analysis.anova import TERM, factorial_of
from neuroprobe.analysis.populations import Piece, Population, populations_of, require_trials
from neuroprobe.analysis.unit_results import UnitResults, common_attrs, require_correction
from neuroprobe.errors import ReaderError, unknown_name
from neuroprobe.statistics.given_data import (
    LEAST,
    Dependence,
    against_shuffled,
    binned_first_order,
    dependence,
    half_sample_se,
    orders,
    rank_first_order,
)
from neuroprobe.statistics.given_shapley import MOST_FACTORS, neighbours_of, shapley_effects

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
ESTIMATORS: Final = ("binned", "ranks")
POPULATION: Final = "population"
LEAST_PERMUTATIONS: Final = 199  # for the dependence of factors
DEPENDENT: Final = 0.01  # p-value from which factors are said to depend on each other
INTERACTIONS: Final = 4  # factors, up to which terms of ω² have all orders; of more, two
HALVES: Final = "error by random halves of the trials, p by permuting them"
SHAPLEY: Final = f"Shapley effect by nearest neighbours (Broto et al. 2020); {HALVES}"
OMEGA: Final = "factorial analysis of variance, sums of squares of kind 2, ω²"
DESCRIBED: Final = {
    "shapley_effect": ("fair share of the variance, valid also where factors depend on each other", SHAPLEY),
    "shapley_p_value": ("p-value of the Shapley effect, of no factor having any", SHAPLEY),
    "explained": ("share of the variance that follows from all factors together", SHAPLEY),
    "omega_squared": ("share of the variance, without bias", OMEGA),
    "omega_p_value": ("p-value of the term", OMEGA),
}
FIRST: Final = {
    "binned": f"variance of the means of bins or levels, less its bias; {HALVES}",
    "ranks": f"neighbours in the order of the factor (Gamboa et al. 2022); {HALVES}",
}


def variance_decomposition(
    recording: xr.DataTree,
    factors: Sequence[str] | str | None = None,
    *,
    estimator: str = "binned",
    n_neighbours: int = 3,
    noise: bool | None = None,
    n_permutations: int = 200,
    n_draws: int = 100,
    units: str | None = None,
    correction: str = "fdr_bh",
    seed: int = 0,
) -> xr.Dataset:
    """Shares of the variance of single trials that follow from factors as they happened to vary.

    Parameters
    ----------
    recording, factors, units, correction, seed
        As for `neuroprobe.responsiveness`. Factors are columns of the presentation table, numbers or text.
    estimator : {"binned", "ranks"}
        Of first-order indices: levels, or bins of factors with many values; or neighbours in their order, which have no
        bins to choose and a larger error. Text has no order: take bins.
    n_neighbours : int
        Of each presentation, for Shapley effects; 2 or more.
    noise : bool, optional
        Whether responses to one stimulus differ. By default they do, unless conditions were repeated and do not.
        Without noise all factors together explain all of the variance.
    n_permutations, n_draws : int
        Of trials for p-values, and of halves for errors.

    Returns
    -------
    Dataset
        Over (``factor``, ``unit``): ``first_order`` and ``shapley_effect`` with standard errors, p-values and adjusted
        ones; ``explained`` over ``unit``; where conditions were repeated ``omega_squared`` over (``term``, ``unit``)
        with ``omega_p_value``; of several factors ``spearman``, ``xi``, ``dependence_p_value`` over (``population``,
        ``factor``, ``factor_2``).

        Where stimuli with continuous factors were repeated, Shapley effects and ranks are of one trial of each.

    Raises
    ------
    ReaderError
        If responses are means over trials, or factors are too many or do not vary.

    Warns
    -----
    UserWarning
        If factors depend on each other: first-order indices then overlap, and a factor that does nothing has the share
        of one that it goes with. Shapley effects part what they share.
    """
    require_correction(correction)
    if estimator not in ESTIMATORS:
        raise ReaderError(unknown_name("estimator", estimator, ESTIMATORS))
    populations = populations_of(recording, factors, units)
    require_trials(populations, "variance decomposition")
    names_of = require_factors(populations)
    results, settings = UnitResults(populations), (estimator, n_neighbours, n_permutations, n_draws, seed)
    has_terms = all(one.repeats for one in populations)
    found: list[Dependence] = []
    terms: tuple[str, ...] = ()
    for one in populations:
        design, rows = _design(one), np.flatnonzero(one.conditions.index >= 0)
        single = _one_of_each(one, design, seed)
        found.append(_dependence(one, design, n_permutations, seed))
        for piece in one.pieces():
            is_noisy = not one.repeats or piece.is_noisy if noise is None else noise
            _add_given(results, piece, design, (rows, single), is_noisy, settings)
            if has_terms:
                terms = _add_terms(results, piece)
    _warn(populations, found)
    told = {"estimator": estimator, "n_neighbours": n_neighbours, "n_permutations": n_permutations, "seed": seed}
    described = {
        **DESCRIBED,
        "first_order": ("share of the variance that follows from the factor alone", FIRST[estimator]),
        "first_order_p_value": ("p-value of the first-order index, of no factor having any", FIRST[estimator]),
    }
    coords = {names.FACTOR: np.array(names_of, dtype=object), TERM: np.array(terms, dtype=object)}
    dataset = results.dataset(
        described,
        common_attrs("variance decomposition", populations, **told),
        defined="first_order",
        correction=correction,
        coords=coords if has_terms else {names.FACTOR: coords[names.FACTOR]},
    )
    return dataset if len(names_of) == 1 else dataset.assign(_labelled(found)).assign_coords(_of(populations))


def require_factors(populations: Sequence[Population]) -> tuple[str, ...]:
    """Return the factors, which are neither none nor too many.

    Raises
    ------
    ReaderError
    """
    found = populations[0].factors
    if not 1 <= len(found) <= MOST_FACTORS:
        raise ReaderError(f"variance decomposition is of 1 to {MOST_FACTORS} factors, received {len(found)}")
    return found


def _design(population: Population) -> Array:
    """Factors as numbers (presentations with all of them, factors): of text the places of levels."""
    known = population.conditions.index >= 0
    columns = []
    for name in population.factors:
        column = population.table[name][known]
        if column.dtype.kind in "OUT":
            column = np.unique([str(value) for value in column.tolist()], return_inverse=True)[1]
        columns.append(np.asarray(column, dtype=np.float64))
    return np.stack(columns, axis=1)


def _one_of_each(population: Population, design: Array, seed: int) -> Integers:
    """Rows of the design among which neighbours are looked for: all, or one of each condition.

    Where one factor has another value for nearly every stimulus, the neighbours of a trial in it are the repetitions of
    the same stimulus, which are alike in all other factors too.
    """
    n, n_conditions = len(design), len(population.conditions.labels)
    most = max(len(np.unique(column)) for column in design.T)
    if not population.repeats or design.shape[1] == 1 or 2 * most <= n_conditions:
        return np.arange(n)
    order = population.random(seed, "one trial of each stimulus").permutation(n)
    index = population.conditions.index[population.conditions.index >= 0]
    return np.sort(order[np.unique(index[order], return_index=True)[1]])


def _dependence(one: Population, design: Array, n_permutations: int, seed: int) -> Dependence:
    n = one.conditions.n
    distinct = np.unique(design, axis=0)
    if len(distinct) >= LEAST and np.ptp(n) == 0:
        design = distinct  # repetitions say nothing about factors
    try:
        return dependence(design, max(n_permutations, LEAST_PERMUTATIONS), one.random(seed, "dependence of factors"))
    except ValueError as error:
        raise ReaderError(f"{one.name}: {error}") from None


def _add_given(
    results: UnitResults,
    piece: Piece,
    design: Array,
    chosen: tuple[Integers, Integers],
    is_noisy: bool,
    settings: tuple[str, int, int, int, int],
) -> None:
    """Add indices of all trials, and of `chosen` ones where neighbours are looked for."""
    estimator, n_neighbours, n_permutations, n_draws, seed = settings
    one = piece.population
    rows, single = chosen
    values = piece.values[rows]
    # a unit that lacks a trial has no index
    values = np.where(np.isnan(values).any(0), np.nan, values)
    apart, values_apart = design[single], values[single]

    def random(purpose: str) -> np.random.Generator:
        return one.random(seed, f"variance decomposition: {purpose}")

    def near(factors: Array) -> Integers:
        return neighbours_of(factors, n_neighbours, random("neighbours"))

    def shapley(neighbours: NDArray[np.generic], of: Array) -> Array:
        return shapley_effects(np.asarray(neighbours, dtype=np.int64), of, is_noisy).effect

    def by_rank(order: NDArray[np.generic], of: Array) -> Array:
        return rank_first_order(np.asarray(order, dtype=np.int64), of)

    try:
        neighbours = near(apart)
    except ValueError as error:
        raise ReaderError(f"{one.name}: {error}") from None
    if estimator == "ranks":
        first = against_shuffled(by_rank, orders(apart, random("order")), values_apart, n_permutations, random("first"))
        first_se = half_sample_se(
            lambda f, v: by_rank(orders(f, random("order")), v), apart, values_apart, n_draws, random("halves")
        )
    else:
        first = against_shuffled(binned_first_order, design, values, n_permutations, random("first"))
        first_se = half_sample_se(binned_first_order, design, values, n_draws, random("halves"))
    effect = against_shuffled(shapley, neighbours, values_apart, n_permutations, random("shapley"))
    effect_se = half_sample_se(lambda f, v: shapley(near(f), v), apart, values_apart, n_draws, random("halves"))
    arrays = {
        "first_order": first.statistic,
        "first_order_se": first_se,
        "first_order_p_value": first.p_value,
        "shapley_effect": effect.statistic,
        "shapley_effect_se": effect_se,
        "shapley_p_value": effect.p_value,
    }
    known = ~np.isnan(first.statistic)
    results.add(one, (names.FACTOR,), **{name: np.where(known, array, np.nan) for name, array in arrays.items()})
    results.add(one, explained=shapley_effects(neighbours, values_apart, is_noisy).explained)


def _add_terms(results: UnitResults, piece: Piece) -> tuple[str, ...]:
    n_factors = len(piece.population.factors)
    found, terms = factorial_of(piece, None if n_factors <= INTERACTIONS else 2)
    nothing = np.full(found.omega_squared.shape, np.nan)
    noisy = piece.is_noisy
    results.add(
        piece.population,
        (TERM,),
        omega_squared=found.omega_squared if noisy else nothing,
        omega_p_value=found.p_value if noisy else nothing,
    )
    return terms


def _warn(populations: Sequence[Population], found: Sequence[Dependence]) -> None:
    p = np.array([one.p_any for one in found])
    # NaN of one factor
    if np.isnan(p).all() or np.nanmin(p) * np.isfinite(p).sum() >= DEPENDENT:
        return
    worst = int(np.nanargmin(p))
    strength = np.nan_to_num(np.fmax(np.abs(found[worst].spearman), found[worst].xi), nan=-1)
    one, other = np.unravel_index(int(strength.argmax()), strength.shape)
    factors = populations[worst].factors
    warnings.warn(
        f"factors depend on each other, most of all {factors[one]} and {factors[other]} (Spearman's ρ = "
        f"{found[worst].spearman[one, other]:.2f}, p = {p[worst]:.2g}, in {populations[worst].name!r}): first-order "
        "indices overlap, and a factor that does nothing has the share of one that it goes with; read Shapley effects",
        UserWarning,
        stacklevel=3,
    )


def _labelled(found: Sequence[Dependence]) -> dict[str, Any]:
    dims = (POPULATION, names.FACTOR, names.FACTOR_2)
    permuted = "every factor permuted"
    return {
        "spearman": (dims, np.stack([one.spearman for one in found]), _told("rank correlation of factors", "Spearman")),
        "xi": (
            dims,
            np.stack([one.xi for one in found]),
            _told("ξ of the first factor as a function of the second", "Chatterjee 2021"),
        ),
        "dependence_p_value": (
            dims,
            np.stack([one.p_value for one in found]),
            _told("p-value of the dependence of factors", permuted),
        ),
    }


def _told(long_name: str, method: str) -> dict[str, str]:
    return {"long_name": long_name, "method": method}


def _of(populations: Sequence[Population]) -> dict[str, Any]:
    return {
        POPULATION: np.array([one.name for one in populations], dtype=object),
        names.FACTOR_2: np.array(populations[0].factors, dtype=object),
    }
