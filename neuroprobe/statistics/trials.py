"""Tests on single trials, of many units at once: responsiveness, effects of conditions, permutations (NumPy).

Responses are (trials, units), conditions integers from 0 (-1 for trials of none), and NaN a trial that a unit lacks.
Corrections for the number of units are those of `neuroprobe.statistics.paired.adjust`, which leaves out NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from neuroprobe import names
from neuroprobe.statistics.class_selectivity import ClassMoments, d_prime
from neuroprobe.statistics.conditions import Curves, checked_conditions, curves_of
from neuroprobe.statistics.detection import detection_of
from neuroprobe.statistics.paired import signed_ranks

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
Statistic = Callable[[Array, Integers], Array]
ROUNDING = 1e-12  # of sums of squares: less is what rounding leaves of 0


def responsiveness(response: Array, baseline: Array) -> dict[str, Array]:
    """Wilcoxon's signed-rank test of responses against the baselines of the same trials.

    Parameters
    ----------
    response, baseline : float arrays (trials, units)
        In the same unit: rates, or counts of windows of equal length.

    Returns
    -------
    dict of arrays (units,)
        As `neuroprobe.statistics.paired.signed_ranks` gives them: the rank-biserial correlation, above 0 where a unit
        is driven and below where it is suppressed, its error, and the p-value. NaN where no trial differs from its
        baseline.

    Examples
    --------
    >>> found = responsiveness(np.array([[5.0], [7], [6], [9]]), np.array([[1.0], [2], [6.5], [3]]))
    >>> found["rank_biserial"], found["p_value"].round(4)
    (array([0.8]), array([0.1441]))
    """
    difference = np.asarray(response, dtype=np.float64) - baseline
    tested = ((difference != 0) & ~np.isnan(difference)).any(0)
    found = {name: np.full(difference.shape[1], np.nan) for name in _PAIRED}
    if tested.any():
        for name, value in signed_ranks(difference[:, tested]).items():
            found[name][tested] = value
    return found


_PAIRED = (names.RANK_BISERIAL, names.se(names.RANK_BISERIAL), names.P_VALUE)


@dataclass(frozen=True)
class OneWay:
    """One-way analysis of variance: arrays (units,), NaN where there is nothing to test.

    Attributes
    ----------
    statistic : float array
        F.
    df_between, df_within : float arrays
    p_value : float array
    eta_squared : float array
        Share of the sum of squares; above 0 by chance.
    omega_squared : float array
        Share of the variance without that bias, which may be below 0.
    """

    statistic: Array
    df_between: Array
    df_within: Array
    p_value: Array
    eta_squared: Array
    omega_squared: Array


def one_way(values: NDArray[np.floating], condition: NDArray[np.integer], n_conditions: int) -> OneWay:
    """One-way analysis of variance over conditions, each with as many trials as it has.

    Examples
    --------
    >>> found = one_way(np.array([[1.0], [2], [3], [6], [7]]), np.array([0, 0, 0, 1, 1]), 2)
    >>> found.statistic, found.p_value.round(4)
    (array([29.16]), array([0.0124]))
    """
    return one_way_of(curves_of(values, condition, n_conditions))


def one_way_of(curves: Curves) -> OneWay:
    """One-way analysis of variance from means, variances and numbers of trials."""
    n, shown = curves.n.astype(np.float64), curves.n > 0
    mean, variance = np.where(shown, curves.mean, 0), np.where(curves.n > 1, curves.variance, 0)
    n_all, n_groups = n.sum(0), shown.sum(0)
    grand = (n * mean).sum(0) / np.where(n_all > 0, n_all, np.nan)
    between = (n * np.where(shown, mean - grand, 0) ** 2).sum(0)
    within = ((n - 1) * variance).sum(0, where=shown)
    testable = (n_groups > 1) & (n_all > n_groups)
    df_between = np.where(testable, n_groups - 1.0, np.nan)
    df_within = np.where(testable, n_all - n_groups, np.nan)
    size = (n * mean**2).sum(0) + within
    between = np.where(between > ROUNDING**2 * size, between, 0)
    within = np.where(within > ROUNDING**2 * size, within, 0)
    total = np.where(between + within > 0, between + within, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = within / df_within
        statistic = np.where(np.isnan(total), np.nan, (between / df_between) / error)
    p = np.where(np.isnan(statistic), np.nan, special.fdtrc(df_between, df_within, statistic))
    eta = np.where(testable, between / total, np.nan)
    return OneWay(statistic, df_between, df_within, p, eta, (between - df_between * error) / (total + error))


@dataclass(frozen=True)
class RankTest:
    """Kruskal and Wallis' test: arrays (units,), NaN where there is nothing to test.

    Attributes
    ----------
    statistic : float array
        H, corrected for ties.
    p_value : float array
        Of χ² with one degree of freedom less than there are conditions, which is of large samples.
    epsilon_squared : float array
        H / (n - 1), the share of the variance of ranks.
    """

    statistic: Array
    p_value: Array
    epsilon_squared: Array


def kruskal_wallis(values: NDArray[np.floating], condition: NDArray[np.integer], n_conditions: int) -> RankTest:
    """Kruskal and Wallis' test whether conditions differ in rank.

    Examples
    --------
    >>> found = kruskal_wallis(np.array([[1.0], [2], [3], [6], [7]]), np.array([0, 0, 0, 1, 1]), 2)
    >>> found.statistic, found.p_value.round(4)
    (array([3.]), array([0.0833]))
    """
    condition = checked_conditions(condition, len(values), n_conditions)
    kept = condition >= 0
    ranks = np.full((int(kept.sum()), values.shape[1]), np.nan)
    if ranks.size:
        ranks = np.asarray(stats.rankdata(values[kept], axis=0, nan_policy="omit"))
    curves = curves_of(ranks, condition[kept], n_conditions)
    n_groups, n = (curves.n > 0).sum(0), curves.n.sum(0)
    n_all = np.where(n > 1, n, np.nan)
    middle = (n_all + 1) / 2
    spread = np.nansum((ranks - middle) ** 2, axis=0) / (n_all - 1)
    between = np.nansum(curves.n * (curves.mean - middle) ** 2, axis=0)
    statistic = between / np.where((spread > 0) & (n_groups > 1), spread, np.nan)
    p = special.chdtrc(np.where(n_groups > 1, n_groups - 1, 1), statistic)
    return RankTest(statistic, np.where(np.isnan(statistic), np.nan, p), statistic / (n_all - 1))


@dataclass(frozen=True)
class PermutationTest:
    """Test by permutation: arrays (units,), or of whatever shape the statistic has.

    Attributes
    ----------
    statistic : float array
    p_value : float array
        (1 + #{T* ≥ T}) / (1 + permutations) (Phipson & Smyth 2010, doi:10.2202/1544-6115.1585); NaN where T is.
    p_maximum : float array
        The same with the largest T* of all units (Nichols & Holmes 2002, doi:10.1002/hbm.1058), which is right for all
        units at once, however they depend on each other.
    null_mean, null_sd : float arrays
        Of T*.
    """

    statistic: Array
    p_value: Array
    p_maximum: Array
    null_mean: Array
    null_sd: Array


def permutation_test(
    values: NDArray[np.floating],
    condition: NDArray[np.integer],
    n_conditions: int,
    n_permutations: int,
    random: np.random.Generator,
    statistic: Statistic | None = None,
) -> PermutationTest:
    """Test of conditions against those of permuted trials.

    Parameters
    ----------
    values : float array (trials, units)
        One value per trial: what can be exchanged are trials, not bins of time.
    condition : int array (trials,)
    n_conditions, n_permutations : int
    random : numpy.random.Generator
    statistic : callable, optional
        (values, condition) → (units,), large where conditions differ; by default F of `one_way`. For `p_maximum` it is
        to have one scale for all units.
    """
    condition = checked_conditions(condition, len(values), n_conditions)
    kept: Array = values[condition >= 0].astype(np.float64)
    condition = condition[condition >= 0]
    of = statistic or (lambda given, conditions: one_way(given, conditions, n_conditions).statistic)
    return against_null(of(kept, condition), lambda: of(kept, random.permutation(condition)), n_permutations)


def sign_flip_test(difference: Array, n_permutations: int, random: np.random.Generator) -> PermutationTest:
    """Two-sided test that paired differences (trials, units) are symmetric around 0, by random signs of trials.

    A trial has one sign in all units; the statistic is |t|.
    """
    difference = np.asarray(difference, dtype=np.float64)
    known = ~np.isnan(difference)
    n, filled = known.sum(0), np.where(known, difference, 0)
    square = (filled**2).sum(0)
    enough = (n > 1) & (square > 0)

    def statistic(sign: Array) -> Array:
        mean = sign @ filled / np.where(enough, n, np.nan)
        left = np.maximum(square - n * mean**2, ROUNDING * square)
        return np.asarray(np.abs(mean) / np.sqrt(left / (n * (n - 1.0) + ~enough)))

    observed = statistic(np.ones(len(difference)))
    return against_null(observed, lambda: statistic(random.choice([-1.0, 1.0], len(difference))), n_permutations)


def against_null(observed: Array, draw: Callable[[], Array], n_permutations: int) -> PermutationTest:
    """Count how often draws of a statistic reach what was observed; of any shape, the largest over all of it."""
    reached, reached_by_any = np.zeros(observed.shape), np.zeros(observed.shape)
    total, square = np.zeros(observed.shape), np.zeros(observed.shape)
    known = ~np.isnan(observed)
    least = observed - 1e-9 * np.abs(observed)  # so that rounding makes no draw less that is equal
    origin = np.where(np.isfinite(observed), observed, 0)
    for _ in range(n_permutations):
        drawn = draw()
        drawn = np.where(np.isnan(drawn) & known, np.inf, drawn)  # what cannot be told counts against the unit
        reached += drawn >= least
        reached_by_any += np.max(drawn, where=known, initial=-np.inf) >= least
        with np.errstate(invalid="ignore"):
            total += drawn - origin
            square += (drawn - origin) ** 2
    with np.errstate(invalid="ignore"):
        mean = total / n_permutations
        spread = np.sqrt(np.maximum(square / n_permutations - mean**2, 0))
    p, p_any = (np.where(known, (1 + count) / (1 + n_permutations), np.nan) for count in (reached, reached_by_any))
    return PermutationTest(observed, p, p_any, np.where(known, mean + origin, np.nan), np.where(known, spread, np.nan))


@dataclass(frozen=True)
class AgainstBlank:
    """How well trials of each condition are told from blank ones: float arrays (conditions, units)."""

    d_prime: Array
    d_prime_se: Array
    auc: Array
    auc_se: Array


def against_blank(
    values: Array, condition: NDArray[np.integer], n_conditions: int, blank: NDArray[np.bool_]
) -> AgainstBlank:
    """d′ and area under the ROC curve of each condition against blank trials.

    Parameters
    ----------
    values : float array (trials, units)
        Without NaN.
    condition : int array (trials,)
    n_conditions : int
    blank : bool array (trials,)
        Trials of no condition, which are those to tell from.

    Raises
    ------
    ValueError
        If a blank trial has a condition, or there is none.
    """
    condition = checked_conditions(condition, len(values), n_conditions)
    if not blank.any() or (condition[blank] >= 0).any():
        raise ValueError(
            "d′ and ROC against blank need blank trials, whose condition is -1; give them, or leave it out"
        )
    rows = []
    for k in range(n_conditions):
        both = values[(condition == k) | blank]
        of_blank = blank[(condition == k) | blank].astype(np.int64)
        curves = curves_of(both, of_blank, 2)
        moments = ClassMoments(np.bincount(of_blank, minlength=2).astype(float), curves.mean, curves.variance)
        told = detection_of(both, of_blank, [0])
        rows.append([*(part[0] for part in d_prime(moments)), told.auc[0], told.auc_se[0]])
    return (
        AgainstBlank(*np.array(rows).transpose(1, 0, 2)) if rows else AgainstBlank(*np.empty((4, 0, values.shape[1])))
    )
