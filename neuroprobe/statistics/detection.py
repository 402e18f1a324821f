"""How well the response of a unit tells images of a class from all others (NumPy, no labels).

Signal detection, which Gale et al. 2020 (doi:10.1016/j.visres.2020.06.007) recommend beside selectivity: the area under
the ROC curve, and the largest informedness, hit rate less false-alarm rate. Exact, from all responses; or from
histograms, which are added over images and bound what they leave open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Detection:
    """How well units tell classes.

    Attributes
    ----------
    auc, auc_se : float arrays (classes, units)
        Probability that an image of the class drives the unit more than another one, ties counted half; its error is
        that of DeLong et al. 1988, over images.
    informedness : float array (classes, units)
        Largest difference, over thresholds, of hit rate and false-alarm rate; at least 0.
    threshold, hit_rate, false_alarm_rate : float arrays (classes, units)
        Where that is: the unit reports the class for responses at or above the threshold, of equally good ones the
        lowest.
    p_value : float array (classes, units)
        Of this informedness or more if the unit did not tell the class: that of Kolmogorov and Smirnov's one-sided
        test, of large samples and conservative where responses tie. The largest informedness of few images is far
        above 0 by chance.

    All NaN for classes without an image, or without another one, and for units whose responses are all the same.
    """

    auc: Array
    auc_se: Array
    informedness: Array
    threshold: Array
    hit_rate: Array
    false_alarm_rate: Array
    p_value: Array


def detection_of(values: NDArray[np.floating], target: Integers, classes: Sequence[int]) -> Detection:
    """Detection of classes, from all responses.

    Parameters
    ----------
    values : float array (images, units)
    target : int array (images,)
    classes : sequence of int

    Notes
    -----
    The area is U / (n₁ n₂) of Mann and Whitney. Responses are sorted once; then each class takes a time of the order
    of their number.

    Examples
    --------
    >>> values = np.array([[3.0, 5, 6, 9, 1, 2, 3, 4, 5]]).T
    >>> found = detection_of(values, np.repeat([0, 1], [4, 5]), [0])
    >>> found.auc.item(), found.informedness.item(), found.threshold.item()
    (0.85, 0.55, 5.0)
    """
    n = len(values)
    order = np.argsort(values, axis=0, kind="stable")
    ordered: Array = np.take_along_axis(values, order, 0).astype(np.float64)
    start, end = _ties(ordered)
    constant = (ordered[0] == ordered[-1]) if n else np.ones(values.shape[1], dtype=np.bool_)
    found = []
    for number in classes:
        is_class = (np.asarray(target) == number)[order]
        n_in = int((np.asarray(target) == number).sum())
        if not 0 < n_in < n:
            found.append(np.full((7, values.shape[1]), np.nan))
            continue
        seen = np.concatenate([np.zeros((1, values.shape[1]), np.int64), is_class.cumsum(0)])
        below, through = np.take_along_axis(seen, start, 0), np.take_along_axis(seen, end, 0)
        # of the class, and of the others, below each response: those that equal it by half
        mid_in = (below + through) / 2
        mid_out = (start + end) / 2 - mid_in
        area = _area(np.where(is_class, mid_out, np.nan), np.where(is_class, np.nan, mid_in), n_in, n - n_in)
        hits, alarms = (n_in - below) / n_in, (n - n_in - (start - below)) / (n - n_in)
        best = (hits - alarms).argmax(0)[None]
        at = [np.take_along_axis(array, best, 0)[0] for array in (ordered, hits, alarms)]
        distance = at[1] - at[2]
        rows = np.stack([*area, distance, *at, _p_value(distance, n_in, n - n_in)])
        found.append(np.where(constant, np.nan, rows))
    return Detection(*np.stack(found, axis=1)) if found else Detection(*np.empty((7, 0, values.shape[1])))


def _ties(ordered: Array) -> tuple[Integers, Integers]:
    """For each of sorted responses (images, units) the places of the first that equals it, and behind the last one."""
    n = len(ordered)
    at = np.arange(n)[:, None]
    new = np.ones((n + 1, ordered.shape[1]), dtype=np.bool_)
    new[1:-1] = ordered[1:] != ordered[:-1]
    start = np.maximum.accumulate(np.where(new[:-1], at, 0), axis=0)
    end = np.minimum.accumulate(np.where(new[1:], at + 1, n)[::-1], axis=0)[::-1]
    return start, end


def _area(mid_out: Array, mid_in: Array, n_in: int, n_out: int) -> tuple[Array, Array]:
    """Area and DeLong's error of midranks among the others, of images of the class; and the reverse; NaN elsewhere."""
    auc = np.nansum(mid_out, 0) / (n_in * n_out)
    of_in = np.nansum((mid_out / n_out - auc) ** 2, 0)
    of_out = np.nansum((1 - mid_in / n_in - auc) ** 2, 0)
    return auc, _delong(of_in, of_out, n_in, n_out)


def _delong(of_in: Array, of_out: Array, n_in: Array | int, n_out: Array | int) -> Array:
    """Error from the sums of squared deviations of placements; NaN of a single image on either side."""
    n_in, n_out = (np.where(np.asarray(n) > 1, n, np.nan) for n in (n_in, n_out))
    return np.sqrt(of_in / (n_in * (n_in - 1)) + of_out / (n_out * (n_out - 1)))


def _p_value(distance: Array, n_in: Array | int, n_out: Array | int) -> Array:
    return np.asarray(np.exp(-2 * distance**2 * n_in * n_out / (n_in + n_out)))


# histograms


def octave_edges(low: float, high: float, per_octave: int) -> Array:
    """Edges of bins that are equally wide on a logarithmic scale, between the responses `low` and `high`, both above 0.

    Examples
    --------
    >>> octave_edges(0.5, 4, per_octave=1)
    array([0.5, 1. , 2. , 4. ])
    """
    if not 0 < low < high:
        raise ValueError(f"octaves start above 0 and end above their start, received {low} and {high}")
    n = round(np.log2(high / low) * per_octave)
    return low * 2 ** (np.arange(n + 1) / per_octave)


def class_counts(values: NDArray[np.floating], target: Integers, edges: Array, n_classes: int) -> Array:
    """Count responses by class and bin; counts of other images are added.

    Parameters
    ----------
    values : float array (images, units)
    target : int array (images,)
    edges : float array (bins - 1,)
        Ascending. A response that equals an edge is in the bin above it; all are in some bin.
    n_classes : int

    Returns
    -------
    float array (classes, units, bins)

    Examples
    --------
    >>> class_counts(np.array([[0.0], [1.0], [5.0]]), np.array([0, 0, 1]), np.array([1.0, 2.0]), 2)[:, 0]
    array([[1., 1., 0.],
           [0., 0., 1.]])
    """
    n_units, n_bins = values.shape[1], len(edges) + 1
    at = np.searchsorted(edges, values, side="right")
    flat = (np.asarray(target)[:, None] * n_units + np.arange(n_units)) * n_bins + at
    counts = np.bincount(flat.ravel(), minlength=n_classes * n_units * n_bins)
    return counts.reshape(n_classes, n_units, n_bins).astype(np.float64)


@dataclass(frozen=True)
class DetectionBounds:
    """What histograms tell of detection.

    Attributes
    ----------
    auc, auc_se : float arrays (classes, units)
        As if all responses of a bin were equal.
    auc_reach : float array (classes, units)
        The area of the responses themselves is at most this far from `auc`.
    informedness, informedness_upper : float arrays (classes, units)
        The largest over thresholds that are edges, and what that over all thresholds is at most.
    p_value : float array (classes, units)
        Of the first of these.

    All NaN for classes without an image, or without another one, and for units with all responses in one bin.
    """

    auc: Array
    auc_se: Array
    auc_reach: Array
    informedness: Array
    informedness_upper: Array
    p_value: Array


def detection_from_counts(counts: Array) -> DetectionBounds:
    """Detection of each class against all others, from `class_counts`.

    Examples
    --------
    >>> values, target = np.array([[3.0, 5, 6, 9, 1, 2, 3, 4, 5]]).T, np.repeat([0, 1], [4, 5])
    >>> found = detection_from_counts(class_counts(values, target, np.array([2.5, 4.5]), 2))
    >>> found.auc[0].round(3), found.auc_reach[0].round(3)
    (array([0.825]), array([0.125]))
    """
    others = counts.sum(0) - counts
    n_in, n_out = counts.sum(-1), others.sum(-1)
    in_one = (counts.sum(0) > 0).sum(-1) < 2
    known = (n_in > 0) & (n_out > 0) & ~in_one
    n_in, n_out = np.where(known, n_in, np.nan), np.where(known, n_out, np.nan)
    mid_in, mid_out = (array.cumsum(-1) - array / 2 for array in (counts, others))
    auc = (counts * mid_out).sum(-1) / (n_in * n_out)
    of_in = (counts * (mid_out / n_out[..., None] - auc[..., None]) ** 2).sum(-1)
    of_out = (others * (1 - mid_in / n_in[..., None] - auc[..., None]) ** 2).sum(-1)
    reach = (counts * others).sum(-1) / (2 * n_in * n_out)
    # at the upper edge of each bin, 0 at that of the last one; and with those of its images that are of the class
    above = (n_in[..., None] - counts.cumsum(-1)) / n_in[..., None]
    above = above - (n_out[..., None] - others.cumsum(-1)) / n_out[..., None]
    informedness = above.max(-1)
    upper = (above + counts / n_in[..., None]).max(-1)
    se = _delong(of_in, of_out, n_in, n_out)
    return DetectionBounds(auc, se, reach, informedness, upper, _p_value(informedness, n_in, n_out))
