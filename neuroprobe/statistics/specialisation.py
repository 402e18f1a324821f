"""How far maps of different factors differ: rank correlations, classification, and clusters.

Maps are arrays (series, channels, pixels), undefined units NaN. Channels are what is replicated: pixels of a map depend
on each other, so that no error here counts them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

MIN_CHANNELS: Final = 3  # of which a rank correlation says anything
N_GROUPS: Final = 20  # of channels that the jackknife leaves out in turn
PIECE: Final = 1 << 21  # values that are ranked at a time

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class RankCorrelations:
    """Spearman's correlations over channels between series of maps, averaged over pixels.

    Attributes
    ----------
    mean : array (series, series)
        NaN where no pixel entered.
    replicates : array (groups, series, series)
        The same without the channels of each group.
    n_used, n_constant : int array (series, series)
        Pixels that entered, and those left out because one of the two maps does not vary over channels there.
    """

    mean: Floats
    replicates: Floats
    n_used: Integers
    n_constant: Integers


def rank_correlations(maps: Floats, seed: int = 0) -> RankCorrelations:
    """Correlate series of maps pixel by pixel over channels, and average over pixels.

    Parameters
    ----------
    maps : array (series, channels, pixels)
        A unit counts where all series are defined; a pixel needs 3 such channels.
    seed : int
        Of the groups of channels that the jackknife leaves out.

    Examples
    --------
    >>> maps = np.array([[1.0, 2, 3, 4], [1, 3, 2, 4], [4, 3, 2, 1]])[:, :, None]
    >>> rank_correlations(maps).mean.round(1)
    array([[ 1. ,  0.8, -1. ],
           [ 0.8,  1. , -0.8],
           [-1. , -0.8,  1. ]])
    """
    n_series, n_channels, n_pixels = maps.shape
    group = jackknife_groups(n_channels, seed)
    n_groups = int(group.max(initial=-1)) + 1
    total = np.zeros((n_groups + 1, n_series, n_series))
    used, constant = np.zeros(total.shape, dtype=np.int64), np.zeros((n_series, n_series), dtype=np.int64)
    step = max(1, PIECE // (n_series * max(n_channels, n_series)))
    for start in range(0, n_pixels, step):
        piece = np.ascontiguousarray(maps[:, :, start : start + step].transpose(2, 0, 1))
        # the last one leaves nothing out
        for left_out in range(n_groups + 1):
            found, same = _spearman(piece[:, :, group != left_out])
            total[left_out] += np.nansum(found, 0)
            used[left_out] += np.isfinite(found).sum(0)
        constant += same.sum(0)
    mean = np.divide(total, used, out=np.full(total.shape, np.nan), where=used > 0)
    return RankCorrelations(mean[-1], mean[:-1], used[-1], constant)


def _spearman(maps: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Correlations (pixels, series, series) of maps (pixels, series, channels), and where one does not vary."""
    from scipy.stats import rankdata

    defined = ~np.isnan(maps).any(1, keepdims=True)
    n = defined.sum(-1, keepdims=True)
    # undefined units rank last, which leaves the ranks of the others as they are
    ranks = rankdata(np.where(defined, maps, np.inf), axis=-1)
    centred = np.where(defined, ranks - (n + 1) / 2, 0.0)
    norm = np.sqrt(np.einsum("psc,psc->ps", centred, centred))
    scale = norm[:, :, None] * norm[:, None, :]
    enough = n >= MIN_CHANNELS
    products = centred @ centred.transpose(0, 2, 1)
    found = np.divide(products, scale, out=np.full(scale.shape, np.nan), where=(scale > 0) & enough)
    return found, (scale == 0) & enough


def jackknife_groups(n_channels: int, seed: int) -> Integers:
    """Group of each channel: at most 20 groups of nearly equal size, drawn at random."""
    groups = np.arange(n_channels) % min(n_channels, N_GROUPS) if n_channels else np.empty(0, dtype=np.int64)
    return np.random.default_rng((seed, n_channels)).permutation(groups)


def jackknife_error(replicates: Floats) -> Floats:
    """Standard error by the delete-a-group jackknife: (groups, …) → (…); NaN where a replicate is undefined.

    Shao & Tu 1995, The Jackknife and Bootstrap, 2.3.
    """
    n = len(replicates)
    if n < 2:
        return np.full(replicates.shape[1:], np.nan)
    return np.sqrt((n - 1) * replicates.var(0))


def defined_mean(values: Floats) -> Floats:
    """Mean over the defined values of the last axis; NaN where there is none."""
    count = (~np.isnan(values)).sum(-1)
    return np.divide(np.nansum(values, -1), count, out=np.full(count.shape, np.nan), where=count > 0)


def defined_median(values: Floats) -> Floats:
    """Median over the defined values of the last axis; NaN where there is none."""
    count = (~np.isnan(values)).sum(-1, keepdims=True)
    # sorting puts NaN last
    in_order = np.sort(values, -1)
    places = (np.maximum(count - 1, 0) // 2, count // 2)
    low, high = (np.take_along_axis(in_order, place, -1) for place in places)
    return ((low + high) / 2)[..., 0]


def pooled(maps: Floats, shape: Sequence[int], max_features: int) -> Floats:
    """Average maps over cells of their space, so that they have at most `max_features` values.

    Parameters
    ----------
    maps : array (factors, channels, pixels)
    shape : (int, int)
        Height and width that the pixels have.

    Returns
    -------
    array (factors, channels, cells)
        Means over the defined units of a cell; NaN where there is none.
    """
    height, width = shape
    share = min(1.0, max_features / (height * width)) ** 0.5
    n_rows = min(max_features, max(1, int(height * share + 1e-9)))
    # what rounding down left free
    n_columns = min(width, max_features // n_rows)
    n_rows = min(height, max_features // n_columns)
    images = maps.reshape(*maps.shape[:2], height, width)
    defined = ~np.isnan(images)
    rows, columns = (np.arange(n) * side // n for n, side in ((n_rows, height), (n_columns, width)))

    def summed(array: Floats) -> Floats:
        return np.add.reduceat(np.add.reduceat(array, rows, axis=2), columns, axis=3)

    count = summed(defined.astype(float))
    means = np.divide(summed(np.nan_to_num(images)), count, out=np.full(count.shape, np.nan), where=count > 0)
    return means.reshape(*maps.shape[:2], -1)


def unit_norm(features: Floats) -> Floats:
    """Divide every map (last axis) by its Euclidean norm, so that its shape alone counts; maps of 0 stay."""
    norm = np.linalg.norm(features, axis=-1, keepdims=True)
    return np.divide(features, norm, out=np.zeros(features.shape), where=norm > 0)


def predicted_factors(features: Floats, n_folds: int, labels: Integers | None = None) -> Integers:
    """Tell by cross-validated linear discriminants which factor each map is of.

    The covariance is that within factors, shrunk by Ledoit & Wolf's rule. All maps of a channel are in one fold.

    Parameters
    ----------
    features : array (factors, channels, features)
    labels : int array (channels, factors), optional
        Factor of each map; by default the one that it is of.

    Returns
    -------
    int array (channels, factors)
        The factor that each map is taken for.
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.model_selection import GroupKFold

    n_factors, n_channels, n_features = features.shape
    x = features.transpose(1, 0, 2).reshape(-1, n_features)
    y = (np.tile(np.arange(n_factors), n_channels) if labels is None else labels).ravel()
    channel = np.repeat(np.arange(n_channels), n_factors)
    predicted = np.empty_like(y)
    for train, test in GroupKFold(n_folds).split(x, y, channel):
        discriminant = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(x[train], y[train])
        predicted[test] = discriminant.predict(x[test])
    return predicted.reshape(n_channels, n_factors)


def permuted_accuracies(features: Floats, n_folds: int, n_permutations: int, seed: int) -> Floats:
    """Accuracies with the factors of each channel's maps permuted: as many as there are permutations."""
    n_factors, n_channels, _ = features.shape
    in_order = np.tile(np.arange(n_factors), (n_channels, 1))
    drawn = (np.random.default_rng((seed, number)).permuted(in_order, axis=1) for number in range(n_permutations))
    return np.array([(predicted_factors(features, n_folds, labels) == labels).mean() for labels in drawn])


def permutation_p(value: float, permuted: Floats) -> float:
    """Share of permutations, the given order among them, that reach a value (Phipson & Smyth 2010)."""
    return float((1 + (permuted >= value - 1e-12).sum()) / (1 + len(permuted)))


def channel_mean(values: Floats) -> tuple[Floats, Floats]:
    """Mean over channels (first axis) and its standard error; the error is NaN for one channel."""
    n = len(values)
    mean = values.mean(0)
    error = values.std(0, ddof=1) / np.sqrt(n) if n > 1 else np.full(mean.shape, np.nan)
    return mean, error


def confusion(predicted: Integers) -> tuple[Floats, Floats]:
    """Shares of the maps of each factor that are taken for each, and their standard errors over channels.

    Returns
    -------
    share, error : array (factors, factors)
        The first axis is the factor that a map is of.
    """
    taken_for = predicted[:, :, None] == np.arange(predicted.shape[1])
    return channel_mean(taken_for.astype(float))


def rank_distances(vectors: Floats) -> Floats:
    """Distances √(1 − |ρ|) of vectors (vectors, entries), ρ being Spearman's correlation.

    Returns
    -------
    array (vectors, vectors)
        NaN where a vector does not vary; entries count where all vectors are defined, and there have to be 3.

    Examples
    --------
    >>> rank_distances(np.array([[1.0, 2, 3, 4], [4, 3, 2, 1], [1, 3, 2, 4]])).round(2)
    array([[0.  , 0.  , 0.45],
           [0.  , 0.  , 0.45],
           [0.45, 0.45, 0.  ]])
    """
    correlation, _ = _spearman(vectors[None])
    # rounding may make a perfect correlation larger than 1
    return np.sqrt(np.maximum(1 - np.abs(correlation[0]), 0))


def linkage_tree(distances: Floats) -> tuple[Floats, Integers]:
    """Cluster series by average linkage of their distances.

    Returns
    -------
    merges : array (series - 1, 4)
        As scipy gives them: the two clusters that are merged, their distance, and the number of series in the new one;
        NaN where a distance is.
    order : int array (series,)
        Series from left to right, so that no merges cross; as they are where a distance is NaN.
    """
    from scipy.cluster import hierarchy
    from scipy.spatial.distance import squareform

    n = len(distances)
    pairs = squareform(distances, checks=False) if n > 1 else np.empty(0)
    if not pairs.size or np.isnan(pairs).any():
        return np.full((max(n - 1, 0), 4), np.nan), np.arange(n)
    # distances of series that are alike may be a little less than 0 by rounding
    merges = hierarchy.linkage(np.maximum(pairs, 0), "average")
    return merges, hierarchy.leaves_list(merges).astype(np.int64)


def channel_clusters(profiles: Floats, n_clusters: int) -> Integers:
    """Cluster channels by Ward's method: (channels, factors) → cluster of each, from 0, the largest cluster first.

    Channels with an undefined profile are in no cluster (−1). There may be fewer clusters, but not more.
    """
    from scipy.cluster import hierarchy

    result, there = np.full(len(profiles), -1), ~np.isnan(profiles).any(1)
    if there.sum() < 2:
        result[there] = 0
        return result
    found = hierarchy.fcluster(hierarchy.linkage(profiles[there], "ward"), n_clusters, "maxclust") - 1
    by_size = np.argsort(-np.bincount(found), kind="stable")
    result[there] = np.argsort(by_size)[found]
    return result
