"""Errors of comparisons of dissimilarity matrices: bootstrap over stimuli, subjects, or both (NumPy, no labels)."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from neuroprobe.statistics.rdm_comparison import WHITENED, compare_rdms, noise_ceiling
from neuroprobe.statistics.rdms import n_of_pairs

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
LEAST_STIMULI: Final = 3  # different ones in a draw
OVER: Final = ("stimuli", "subjects", "both")


class Draws(NamedTuple):
    """Scores of draws.

    Attributes
    ----------
    both, subjects, stimuli : float arrays (draws, models)
        Of draws of both, of subjects alone, of stimuli alone.
    """

    both: Array
    subjects: Array
    stimuli: Array


class Inference(NamedTuple):
    """Scores of models against subjects.

    Attributes
    ----------
    score, se, lower, upper : float arrays (models,)
        Mean over subjects, its standard error, and an interval by Student's t.
    p_value : float array (models,)
        One-sided, of a score that is not above 0.
    difference, difference_se, difference_p : float arrays (models, models)
        Of the row's score less the column's; two-sided.
    degrees : int
    n_draws : int
        That were used: a draw with fewer than 3 different stimuli is left out.
    """

    score: Array
    se: Array
    lower: Array
    upper: Array
    p_value: Array
    difference: Array
    difference_se: Array
    difference_p: Array
    degrees: int
    n_draws: int


def draw(n: int, n_draws: int, random: np.random.Generator) -> Integers:
    """Draws with replacement (draws, n)."""
    return random.integers(0, n, (n_draws, n))


def pairs_of(stimuli: Integers, n: int) -> tuple[Integers, NDArray[np.bool_]]:
    """Numbers of the pairs of drawn stimuli in the matrix of all, and which are of two different stimuli."""
    number = np.zeros((n, n), dtype=np.int64)
    first, second = np.triu_indices(n, 1)
    number[first, second] = number[second, first] = np.arange(len(first))
    one, other = stimuli[np.triu_indices(len(stimuli), 1)[0]], stimuli[np.triu_indices(len(stimuli), 1)[1]]
    return number[one, other], one != other


def bootstrap(
    models: Array, subjects: Array, method: str, n_draws: int, random: np.random.Generator, over: str = "both"
) -> Draws:
    """Score models against subjects in draws of stimuli and subjects; the same draws serve alone and together.

    Parameters
    ----------
    models : float array (models, pairs)
    subjects : float array (subjects, pairs)
    method : str
        As for `neuroprobe.statistics.rdm_comparison.compare_rdms`.
    n_draws : int
    over : {"both", "stimuli", "subjects"}
        What is drawn; the others are NaN.

    Notes
    -----
    A pair of a stimulus with itself is left out. Whitened methods need all pairs: there a draw is of the stimuli that
    it holds, once each, which are fewer, so that its variance is an upper bound.
    """
    if over not in OVER:
        raise ValueError(f"unknown {over!r}; known: {', '.join(OVER)}")
    n, n_subjects = n_of_pairs(models.shape[1]), len(subjects)
    of_stimuli, of_subjects = draw(n, n_draws, random), draw(n_subjects, n_draws, random)
    of_stimuli = of_stimuli[[len(np.unique(one)) >= LEAST_STIMULI for one in of_stimuli]]
    of_subjects = of_subjects[: len(of_stimuli)]
    found = np.full((3, len(of_stimuli), len(models)), np.nan)
    whole = compare_rdms(models, subjects, method)
    for number, (some, who) in enumerate(zip(of_stimuli, of_subjects, strict=True)):
        if over != "subjects":
            chosen = np.unique(some) if method in WHITENED else some
            pairs, kept = pairs_of(chosen, n)
            drawn = compare_rdms(models[:, pairs[kept]], subjects[:, pairs[kept]], method)
            found[2, number] = drawn.mean(1)
            if over == "both":
                found[0, number] = drawn[:, who].mean(1)
        if over != "stimuli":
            found[1, number] = whole[:, who].mean(1)
    return Draws(*found)


def infer(
    models: Array,
    subjects: Array,
    method: str,
    n_draws: int,
    random: np.random.Generator,
    over: str = "both",
    level: float = 0.95,
) -> Inference:
    """Scores of models, with errors that hold for other stimuli, other subjects, or both.

    Parameters
    ----------
    models, subjects, method, n_draws, over
        As for `bootstrap`.
    level : float
        Of the intervals.

    Notes
    -----
    Variances are corrected for the number of subjects and stimuli. Where both are drawn, the variance of draws of both
    holds that of single dissimilarities twice: it is made up of the three bootstraps as in rsatoolbox's dual bootstrap
    (Schütt et al. 2023), and is no more than that of draws of both. Student's t has as many degrees of freedom as the
    smaller of both numbers less one.
    """
    n, n_subjects = n_of_pairs(models.shape[1]), len(subjects)
    draws = bootstrap(models, subjects, method, n_draws, random, over)
    score = compare_rdms(models, subjects, method).mean(1)
    variance = _variances([_covariance(one) for one in draws], over, n_subjects, n)
    numbers = {"both": min(n, n_subjects), "stimuli": n, "subjects": n_subjects}
    degrees = numbers[over] - 1
    se = np.sqrt(np.diag(variance))
    difference = score[:, None] - score
    parts = [_differences(_covariance(one)) for one in draws]
    difference_se = np.sqrt(_variances(parts, over, n_subjects, n))
    reach = special.stdtrit(degrees, (1 + level) / 2) if degrees > 0 else np.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        p = special.stdtr(degrees, -score / se)
        difference_p = 2 * special.stdtr(degrees, -np.abs(difference) / difference_se)
    np.fill_diagonal(difference_p, np.nan)
    return Inference(
        score, se, score - reach * se, score + reach * se, p, difference, difference_se, difference_p, degrees,
        len(draws.both),
    )  # fmt: skip


def _covariance(scores: Array) -> Array:
    centred = scores - scores.mean(0)
    return np.asarray(centred.T @ centred / max(len(scores) - 1, 1))


def _differences(covariance: Array) -> Array:
    size = np.diag(covariance)
    return np.asarray(np.maximum(size[:, None] + size - 2 * covariance, 0))


def _variances(parts: list[Array], over: str, n_subjects: int, n_stimuli: int) -> Array:
    both, subjects, stimuli = parts
    by_subjects = subjects * (n_subjects / (n_subjects - 1) if n_subjects > 1 else np.nan)
    by_stimuli = stimuli * n_stimuli / (n_stimuli - 1)
    if over == "subjects":
        return by_subjects
    if over == "stimuli":
        return by_stimuli
    if n_subjects < 2:
        return np.full(both.shape, np.nan)
    twice = n_subjects / (n_subjects - 1) * n_stimuli / (n_stimuli - 1)
    found = by_subjects + by_stimuli - twice * (both - subjects - stimuli)
    return np.minimum(np.maximum(np.maximum(found, by_subjects), by_stimuli), both)


class Ceiling(NamedTuple):
    """Bounds of the noise ceiling, and intervals of both by draws of subjects (lower end, upper end)."""

    lower: float
    upper: float
    lower_interval: tuple[float, float]
    upper_interval: tuple[float, float]


def ceiling_of(
    subjects: Array, method: str, definition: str, n_draws: int, random: np.random.Generator, level: float = 0.95
) -> Ceiling:
    """Noise ceiling with intervals by draws of subjects; a draw of the same subject alone is left out.

    Parameters
    ----------
    subjects : float array (subjects, pairs)
    method, definition
        As for `neuroprobe.statistics.rdm_comparison.noise_ceiling`.
    """
    lower, upper = noise_ceiling(subjects, method, definition)
    found = []
    for who in draw(len(subjects), n_draws, random):
        # a subject that is drawn twice is no other subject: it would be its own ceiling
        different = np.unique(who)
        if len(different) > 1:
            found.append(noise_ceiling(subjects[different], method, definition))
    if not found:
        return Ceiling(lower, upper, (np.nan, np.nan), (np.nan, np.nan))
    tails = np.quantile(np.array(found), [(1 - level) / 2, (1 + level) / 2], axis=0)
    return Ceiling(lower, upper, (float(tails[0, 0]), float(tails[1, 0])), (float(tails[0, 1]), float(tails[1, 1])))
