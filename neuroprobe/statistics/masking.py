"""Accuracies under lesions: sums over images, and what becomes of them.

Every image is shown to the network as it is and under each alteration, with nothing masked and under each mask. The
replicate of an accuracy is the image: draws of an alteration are averaged within it, and differences from the network
with nothing masked are paired over images. The replicate of what a lesion does is the mask: that of a map is compared
with random masks of equal size, on the same images.

What is derived from accuracies has intervals by a bootstrap over images: the sums of `R` resamples are kept, in each
of which an image counts k times, k drawn from Poisson's law of mean 1 (Chamandy et al. 2012,
"Estimating uncertainty for massive data streams"). The draws are a function of the image, so that they are the same
for all masks, and the state does not grow with the number of images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from neuroprobe import names
from neuroprobe.statistics.accuracy import LEVEL, wilson_interval
from neuroprobe.statistics.paired import adjust
from neuroprobe.statistics.plain_sums import PlainSums

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
Bools = NDArray[np.bool_]
ENDS: Final = (0.5 - LEVEL / 2, 0.5 + LEVEL / 2)
MOST: Final = 12  # times that an image counts: more has a probability of 1e-10
ALIKE: Final = 1e-12  # differences that are nearer to each other are the same
N_PERMUTATIONS: Final = 9999  # of the labels of maps


def poisson_counts(uniform: Array) -> Array:
    """Turn uniform numbers in (0, 1) into counts by Poisson's law of mean 1.

    Examples
    --------
    >>> poisson_counts(np.array([0.2, 0.5, 0.99]))
    array([0., 1., 4.])
    """
    return np.searchsorted(stats.poisson.cdf(np.arange(MOST), 1), uniform).astype(np.float64)


class MaskingAccumulator:
    """Takes in outcomes of images and gives out the sums of each block.

    Parameters
    ----------
    n_inputs, n_conditions, n_measures : int
        What is done to the images, nothing first; what is masked, nothing first; what is measured.
    n_resamples : int
    """

    def __init__(self, n_inputs: int, n_conditions: int, n_measures: int, n_resamples: int) -> None:
        self._shape, self._n_resamples = (n_inputs, n_conditions, n_measures), n_resamples
        self._sums = self._empty()

    def _empty(self) -> PlainSums:
        cells = {name: np.zeros(self._shape) for name in ("y", "y2", "d", "d2")}
        resampled = np.zeros((self._n_resamples, *self._shape))
        return PlainSums({"n": np.zeros(2), **cells, "resampled": resampled, "weight": np.zeros(self._n_resamples)})

    def update(self, y: Array, counts: Array, n_dropped: int = 0) -> None:
        """Add images.

        Parameters
        ----------
        y : float array (images, inputs, conditions, measures)
            Means over the draws of each input.
        counts : float array (images, resamples)
            How often each resample holds each image.
        n_dropped : int
            Images that were left out of `y`.
        """
        d = y - y[:, :, :1]
        for name, values in (("y", y), ("y2", y**2), ("d", d), ("d2", d**2)):
            self._sums.add(name, values.sum(0))
        self._sums.add("resampled", np.tensordot(counts, y, (0, 0)))
        self._sums.add("weight", counts.sum(0))
        self._sums.add("n", np.array([len(y), n_dropped], dtype=np.float64))

    def end_block(self) -> PlainSums:
        """Return the state of the block that ends here, and start the next one."""
        found, self._sums = self._sums, self._empty()
        return found


def state_bytes(n_inputs: int, n_conditions: int, n_measures: int, n_resamples: int) -> int:
    """Bytes of a state."""
    return 8 * (n_inputs * n_conditions * n_measures * (4 + n_resamples) + n_resamples + 2)


@dataclass(frozen=True)
class Estimates:
    """Accuracies of the cells of a study (inputs, conditions, measures), and their resamples.

    Attributes
    ----------
    mean, se, lower, upper : float arrays
    difference, difference_se, difference_lower, difference_upper : float arrays
        From the condition that masks nothing, on the same input, paired over images.
    resampled : float array (resamples, inputs, conditions, measures)
    n_images, n_dropped : int
    """

    mean: Array
    se: Array
    lower: Array
    upper: Array
    difference: Array
    difference_se: Array
    difference_lower: Array
    difference_upper: Array
    resampled: Array
    n_images: int
    n_dropped: int


def mean_and_error(total: Array, squares: Array, n: Array | float) -> tuple[Array, Array]:
    """Mean over images, and its standard error, from sums; NaN of fewer than two images."""
    n = np.where(np.asarray(n) > 1, n, np.nan)
    mean = total / n
    return mean, np.sqrt(np.maximum(squares / n - mean**2, 0) / (n - 1))


def estimates(sums: PlainSums, is_proportion: Bools, draws: Integers) -> Estimates:
    """Turn sums over images into accuracies with intervals.

    Parameters
    ----------
    is_proportion : bool array (measures,)
        Which measures are 0 or 1 in each presentation: these have Wilson's intervals, the others Student's.
    draws : int array (inputs,)
        Presentations of each image.
    """
    n, n_dropped = sums["n"].tolist()
    mean, se = mean_and_error(sums["y"], sums["y2"], n)
    reach = special.stdtrit(n - 1, ENDS[1])
    low, high = mean - reach * se, mean + reach * se
    share = np.clip(mean, 0, 1)  # a sum of thirds may be a rounding step over 1
    for number, n_draws in enumerate(draws.tolist()):
        wilson = wilson_interval(share[number], se[number], np.full(share[number].shape, n), n_draws)
        low[number], high[number] = (
            np.where(is_proportion, *pair) for pair in zip(wilson, (low[number], high[number]), strict=True)
        )
    difference, error = mean_and_error(sums["d"], sums["d2"], n)
    # where no image changed, a few others may (Clopper & Pearson's bound): without width it would claim too much
    of_none = np.where((error == 0) & is_proportion, 1 - ((1 - LEVEL) / 2) ** (1 / max(n, 1)), 0.0)
    margin = reach * error + of_none
    weight = sums["weight"][:, None, None, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        resampled = np.where(weight > 0, sums["resampled"] / weight, np.nan)
    return Estimates(
        mean, se, low, high, difference, error, difference - margin, difference + margin,
        resampled, int(n), int(n_dropped),
    )  # fmt: skip


def interval(resampled: Array) -> tuple[Array, Array]:
    """Ends of the percentile interval over resamples (first axis); NaN where a resample is."""
    lower, upper = np.quantile(resampled, ENDS, axis=0)
    return lower, upper


def correlation_interval(value: Array, resampled: Array) -> tuple[Array, Array]:
    """Ends of the interval of correlations from those of resamples (first axis); NaN where a correlation is.

    Resampled accuracies are noisier than those of all images, and noise lowers correlations: of large ones the
    percentile interval lies below the truth nearly always, of small ones the basic interval above it. The hull of both
    holds it at least as often as either. Resamples without a correlation are left out.
    """
    there = np.isfinite(value)
    some = np.isfinite(resampled).any(0)
    low, high = np.nanquantile(np.where(some, resampled, 0.0), ENDS, axis=0)
    low, high = np.minimum(low, 2 * value - high), np.maximum(high, 2 * value - low)
    return tuple(np.where(there & some, np.clip(end, -1, 1), np.nan) for end in (low, high))  # type: ignore[return-value]


@dataclass(frozen=True)
class Headline:
    """Which conditions the headline compares.

    Attributes
    ----------
    inputs : int array (factors,)
        Number of each factor's own input; -1 where it has none.
    maps : int array (factors,)
        Condition that masks by each factor's map.
    random : int array (masks,)
        Conditions that mask at random.
    """

    inputs: Integers
    maps: Integers
    random: Integers


def headline(found: Estimates, which: Headline, correction: str, seed: int) -> dict[str, Array]:
    """Compare what each factor's own map does to its own input with random masks and with the maps of the others.

    Parameters
    ----------
    found : Estimates
    which : Headline
    correction : str
        One of `neuroprobe.statistics.paired.CORRECTIONS`, over the factors, for each measure.
    seed : int
        Of permutations.

    Returns
    -------
    dict of arrays
        Over (factors, measures), NaN for a factor without an input of its own: ``excess``, the change of accuracy by
        the own map less the mean change by random masks; ``against_others``, less the mean change by the other maps;
        each with ``_lower`` and ``_upper`` over images. ``p_value`` = (1 + #) / (1 + B) where # of B random masks
        change the accuracy as much, in magnitude; ``p_less``, where # change it as little; both adjusted;
        ``p_others``, the share of all maps that change it as much. Over measures: ``diagonal``, the mean over factors
        of the magnitude of the change by the own map, less that by any map; ``p_diagonal``, of permutations of the
        maps' labels.
    """
    own = which.inputs >= 0
    shape = (len(own), found.mean.shape[-1])
    of_factors = [names.EXCESS, names.AGAINST_OTHERS]
    keys = [key for name in of_factors for key in (name, names.lower(name), names.upper(name))]
    keys += [names.P_VALUE, names.P_LESS, names.P_OTHERS]
    result = {key: np.full(shape, np.nan) for key in keys}
    change = found.difference[which.inputs[own]]  # (own, conditions, measures)
    resampled = found.resampled[:, which.inputs[own]]  # accuracies: with nothing masked they cancel out
    for number, factor in enumerate(np.flatnonzero(own).tolist()):
        mine = which.maps[factor]
        others = np.delete(which.maps, factor)
        size = np.abs(change[number].T)  # (measures, conditions)
        for name, rest in ((names.EXCESS, which.random), (names.AGAINST_OTHERS, others)):
            if len(rest):
                value = change[number, mine] - change[number, rest].mean(0)
                ends = interval(resampled[:, number, mine] - resampled[:, number, rest].mean(1))
                result[name][factor] = value
                for key, end in zip((names.lower(name), names.upper(name)), ends, strict=True):
                    result[key][factor] = np.where(np.isnan(value), np.nan, end)
        if len(which.random):
            random = size[:, which.random]
            result[names.P_VALUE][factor] = share_as_large(random, size[:, mine])
            result[names.P_LESS][factor] = share_as_large(-random, -size[:, mine])
        if len(others):
            result[names.P_OTHERS][factor] = share_as_large(size[:, others], size[:, mine])
    for p, adjusted in ((names.P_VALUE, names.P_ADJUSTED), (names.P_LESS, names.P_LESS_ADJUSTED)):
        result[adjusted] = np.stack([adjust(column, correction) for column in result[p].T], 1)
    table = np.abs(change[:, which.maps[own]])  # (own inputs, their maps, measures)
    result[names.DIAGONAL], result[names.P_DIAGONAL] = diagonal_test(table, seed)
    return result


def share_as_large(random: Array, value: Array) -> Array:
    """Share of random numbers (last axis), the given one among them, that are as large as it; NaN where it is.

    Examples
    --------
    >>> share_as_large(np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]), np.array([3.0, np.nan]))
    array([0.5, nan])
    """
    reached = (random >= value[..., None] - ALIKE).sum(-1)
    return np.where(np.isnan(value), np.nan, (1 + reached) / (1 + random.shape[-1]))


def diagonal_test(table: Array, seed: int, n_permutations: int = N_PERMUTATIONS) -> tuple[Array, Array]:
    """Test whether the diagonal of tables is larger than the rest, by permutations of the columns' labels.

    Parameters
    ----------
    table : float array (n, n, tables)

    Returns
    -------
    excess, p : float arrays (tables,)
        Mean of the diagonal less that of the table; share of permutations, the given one among them, whose diagonal
        has as large a sum. NaN of fewer than two rows, and where the diagonal is.
    """
    n = len(table)
    if n < 2:
        return np.full(table.shape[-1], np.nan), np.full(table.shape[-1], np.nan)
    rows = np.arange(n)
    random = np.random.default_rng(seed)
    own = table[rows, rows].sum(0)
    reached = np.zeros(table.shape[-1])
    for _ in range(n_permutations):
        reached += table[rows, random.permutation(n)].sum(0) >= own - ALIKE
    p = (1 + reached) / (1 + n_permutations)
    return own / n - table.mean((0, 1)), np.where(np.isnan(own), np.nan, p)


def cross_table(accuracy: Array) -> Array:
    """Spearman's correlations over rules between accuracies on each input and on the first.

    Parameters
    ----------
    accuracy : float array (…, inputs, factors, rules, measures)

    Returns
    -------
    float array (…, inputs, factors, measures)
        NaN for the first input, and where accuracies are all alike.
    """
    ranks = np.moveaxis(stats.rankdata(np.round(accuracy, 12), axis=-2), -2, -1)
    ranks = ranks - ranks.mean(-1, keepdims=True)
    reference = ranks[..., :1, :, :, :]
    norms = (ranks**2).sum(-1) * (reference**2).sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.where(norms > 0, (ranks * reference).sum(-1) / np.sqrt(norms), np.nan)
    found[..., 0, :, :] = np.nan
    return np.asarray(found)


def random_summary(random: Array) -> dict[str, Array]:
    """Mean over random masks (axis -2) of what they change, and the ends of the middle 95 % of them; NaN without."""
    there = np.asarray(np.isfinite(random).any(-2))
    # 0 stands where there is no mask, so that there is something to take quantiles of
    filled = np.where(there[..., None, :], random, 0.0) if random.shape[-2] else np.zeros(there.shape)[..., None, :]
    low, high = np.nanquantile(filled, ENDS, axis=-2)
    found = {names.RANDOM_MEAN: np.nanmean(filled, axis=-2), names.lower(names.RANDOM_MEAN): low,
             names.upper(names.RANDOM_MEAN): high}  # fmt: skip
    return {name: np.where(there, values, np.nan) for name, values in found.items()}


def of_cells(found: Estimates, conditions: Integers) -> Mapping[str, Array]:
    """Accuracies and differences of some conditions (…): arrays (inputs, …, measures)."""
    difference = names.DIFFERENCE
    arrays = {
        names.ESTIMATE: found.mean, names.se(names.ESTIMATE): found.se,
        names.lower(names.ESTIMATE): found.lower, names.upper(names.ESTIMATE): found.upper,
        difference: found.difference, names.se(difference): found.difference_se,
        names.lower(difference): found.difference_lower, names.upper(difference): found.difference_upper,
    }  # fmt: skip
    return {name: values[:, conditions] for name, values in arrays.items()}
