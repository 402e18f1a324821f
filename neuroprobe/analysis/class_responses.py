"""How channels respond to the classes of images, with labels: selectivity, detection, sparseness, quantiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.statistics.class_selectivity import (
    ClassMoments,
    class_selectivity,
    d_prime,
    depth_of_selectivity,
    lifetime_sparseness,
    moments,
    precision,
)
from neuroprobe.statistics.detection import detection_from_counts
from neuroprobe.statistics.paired import adjust
from neuroprobe.statistics.plain_sums import PlainSums
from neuroprobe.statistics.response_sums import of_classes
from neuroprobe.statistics.sketch import quantiles_of

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
Variable = tuple[tuple[str, ...], Any, dict[str, Any]]
CHANNELS: Final = (names.CHANNEL,)
QUANTILES: Final = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
N_OF_PRECISION: Final = 60  # of Zhou et al. 2015
RESPONSE: Final = "mean of the map"


def response_variables(sums: PlainSums) -> dict[str, Variable]:
    """Distribution of the responses to all images."""
    both = of_classes(sums)
    n = both["n"].sum()
    mean = both["total"].sum(0) / (n or np.nan)
    variance = np.maximum(both["square"].sum(0) / (n or np.nan) - mean**2, 0) * n / max(n - 1, 1)
    variance = np.where(variance > 1e-12 * mean**2, variance, 0)
    sparse = lifetime_sparseness(both)
    quantiles = quantiles_of(sums["counts"].sum(0), np.array(QUANTILES))
    said = {
        names.MEAN: (mean, f"mean over images of the response, the {RESPONSE}"),
        names.se(names.MEAN): (np.sqrt(variance / (n or np.nan)), "standard error over images"),
        names.VARIANCE: (variance, "variance of the response over images"),
        names.ACTIVITY_RATE: (sums["active"] / (n or np.nan), "share of the images with a response above 0 anywhere"),
        names.SPARSENESS: (sparse.vinje_gallant, "lifetime sparseness over images (Vinje & Gallant 2000)"),
        names.se(names.SPARSENESS): (sparse.vinje_gallant_se, "standard error over images"),
        names.TREVES_ROLLS: (sparse.treves_rolls, "(mean r)² / mean r² over images (Treves & Rolls 1991)"),
        names.se(names.TREVES_ROLLS): (sparse.treves_rolls_se, "standard error over images"),
    }
    found: dict[str, Variable] = {
        name: (CHANNELS, values, {"long_name": text}) for name, (values, text) in said.items()
    }
    text = "quantile of the response over images, from a sketch: within a quarter of an octave"
    found[names.RESPONSE_QUANTILE] = ((names.QUANTILE, names.CHANNEL), quantiles, {"long_name": text})
    return found


def class_response_variables(
    sums: PlainSums, values: Array, labels: Integers, classes: Sequence[str], correction: str
) -> dict[str, Variable]:
    """Responses by class, and how well they tell classes.

    Parameters
    ----------
    sums : PlainSums
        As `neuroprobe.statistics.response_sums` makes them.
    values : float array (channels, N)
        Responses to the top stimuli, the largest first.
    labels : int array (channels, N)
        Their classes; `len(classes)` for images that have none.
    classes : sequence of str
    correction : str
        Of the p-values of a class over channels.
    """
    n = len(classes)
    all_images = _moments(of_classes(sums), n)
    selectivity = class_selectivity(all_images)
    distance, distance_se = d_prime(all_images)
    by_class = (names.CLASS, names.CHANNEL)
    share, modal = precision(values[:, :N_OF_PRECISION], labels[:, :N_OF_PRECISION])
    word = np.array([*classes, "", ""], dtype=object)  # for -1, and for images without a class
    said: dict[str, tuple[tuple[str, ...], Any, str]] = {
        names.CLASS_SELECTIVITY: (
            CHANNELS,
            selectivity.index,
            f"(μ - μ') / (μ + μ') of the class with the largest mean over images of the {RESPONSE}, and the other "
            "classes (Morcos et al. 2018)",
        ),
        names.se(names.CLASS_SELECTIVITY): (CHANNELS, selectivity.se, "standard error over images, that class given"),
        f"{names.CLASS_SELECTIVITY}_halves": (
            CHANNELS,
            _across_halves(sums, n),
            "the same with the class chosen by one half of the images and scored by the other, mean of both ways",
        ),
        names.PREFERRED_CLASS: (
            CHANNELS,
            word[selectivity.preferred],
            f"class with the largest mean over images of the {RESPONSE}",
        ),
        names.CLASS_MEAN: (by_class, all_images.mean, f"mean over the images of a class of the {RESPONSE}"),
        names.se(names.CLASS_MEAN): (
            by_class,
            np.sqrt(all_images.variance / np.where(all_images.n > 0, all_images.n, np.nan)[:, None]),
            "standard error over the images of the class",
        ),
        names.D_PRIME: (by_class, distance, "distance of a class from all others in standard deviations"),
        names.se(names.D_PRIME): (by_class, distance_se, "standard error, of normal responses"),
        names.PRECISION: (
            CHANNELS,
            share,
            f"share of the most frequent class among the first {N_OF_PRECISION} stimuli",
        ),
        names.PRECISION_CLASS: (CHANNELS, word[modal], "that class"),
        names.DEPTH_OF_SELECTIVITY: (
            CHANNELS,
            depth_of_selectivity(np.nan_to_num(all_images.mean)),
            "(K - Σ r / r_max) / (K - 1) over means of classes (Moody et al. 1998)",
        ),
    }
    if len(sums["counts"]) >= n:
        found = detection_from_counts(
            sums["counts"][:n] if len(sums["counts"]) == n else _with_others(sums["counts"], n)
        )
        p_adjusted = np.stack([adjust(p, correction) for p in found.p_value[:n]])
        said |= {
            names.AUC: (by_class, found.auc[:n], "area under the ROC curve of a class against all others"),
            names.se(names.AUC): (by_class, found.auc_se[:n], "standard error over images (DeLong et al. 1988)"),
            names.AUC_REACH: (by_class, found.auc_reach[:n], "how far the area may be off, of a sketch of responses"),
            names.INFORMEDNESS: (
                by_class,
                found.informedness[:n],
                "largest hit rate less false-alarm rate, over thresholds between the bins of a sketch",
            ),
            names.INFORMEDNESS_P_ADJUSTED: (
                by_class,
                p_adjusted,
                "p-value of Kolmogorov and Smirnov's one-sided test, corrected over channels",
            ),
        }
    return {name: (dims, values_, {"long_name": text}) for name, (dims, values_, text) in said.items()}


def _with_others(counts: Array, n: int) -> Array:
    """Counts of classes, with images that have no class behind them."""
    return counts[: n + 1]


def _moments(sums: PlainSums, n: int) -> ClassMoments:
    """Means and variances of the classes that have a name."""
    found = moments(sums)
    return ClassMoments(found.n[:n], found.mean[:n], found.variance[:n])


def _across_halves(sums: PlainSums, n: int) -> Array:
    """Class selectivity of one half's images for the class that the other half chose, mean of both ways."""
    means = [_moments(of_classes(sums, half), n).mean for half in (0, 1)]
    both = [
        _for_class(mean, np.where(np.isnan(other), -np.inf, other).argmax(0)) for mean, other in (means, means[::-1])
    ]
    return np.asarray((both[0] + both[1]) / 2)


def _for_class(mean: Array, chosen: Integers) -> Array:
    """(μ - μ') / (μ + μ') of a given class (channels,) and the mean of the other classes' means."""
    units = np.arange(mean.shape[1])
    high = mean[chosen, units]
    shown = ~np.isnan(mean)
    n_others = shown.sum(0) - 1
    low = (np.nansum(mean, 0) - high) / np.where(n_others > 0, n_others, np.nan)
    total = high + low
    defined = (np.where(shown, mean, 0) >= 0).all(0) & (total > 0)
    return np.divide(high - low, total, out=np.full(len(units), np.nan), where=defined)
