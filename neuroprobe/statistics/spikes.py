"""From spikes to responses: counts in windows and bins, rates, peristimulus time histograms (NumPy, no labels).

Spikes of all units are one ragged array: ``times`` holds those of unit u, ascending, in
``times[offsets[u]:offsets[u + 1]]``. A window is [start, stop): a spike at its start is in it, one at its stop is not,
so that windows which touch share no spike. Windows may overlap and come in any order; times are in seconds throughout.

Counts are differences of two binary searches. Nothing larger than the spikes of one unit and the result is made, and
``times`` may be anything that gives an array for a slice, a dataset in a file included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]
SEARCHED: Final = 1 << 20  # window ends that are searched for at a time


class Times(Protocol):
    """Spike times of all units, which a slice gives out: an array, or a dataset in a file."""

    def __getitem__(self, key: slice, /) -> NDArray[np.floating]: ...


def ragged(trains: Sequence[ArrayLike]) -> tuple[Array, Integers]:
    """Join the spike times of units, each in any order, into ``times`` and ``offsets``.

    Examples
    --------
    >>> times, offsets = ragged([[0.2, 0.1], [], [0.3]])
    >>> times, offsets
    (array([0.1, 0.2, 0.3]), array([0, 2, 2, 3]))
    """
    sorted_trains = [np.sort(np.asarray(train, dtype=np.float64)) for train in trains]
    offsets = np.concatenate([[0], np.cumsum([len(train) for train in sorted_trains], dtype=np.int64)])
    return np.concatenate([*sorted_trains, np.empty(0)]), offsets.astype(np.int64)


def ragged_by_unit(times: ArrayLike, unit: ArrayLike, n_units: int) -> tuple[Array, Integers]:
    """Sort spikes that units share one list of, such as a spike sorter's, into ``times`` and ``offsets``.

    Parameters
    ----------
    times, unit : array_like of shape (spikes,)
        When each spike was, and whose it is, counted from 0.
    n_units : int

    Examples
    --------
    >>> ragged_by_unit([0.1, 0.2, 0.3], [1, 0, 1], n_units=3)
    (array([0.2, 0.1, 0.3]), array([0, 1, 3, 3]))
    """
    times, unit = np.asarray(times, dtype=np.float64), np.asarray(unit)
    if len(unit) and not (unit.min() >= 0 and unit.max() < n_units):
        raise ValueError(f"units are 0 to {n_units - 1}, received {unit.min()} to {unit.max()}")
    offsets = np.concatenate([[0], np.cumsum(np.bincount(unit, minlength=n_units))]).astype(np.int64)
    return times[np.lexsort((times, unit))], offsets


def count_spikes(times: Times, offsets: ArrayLike, starts: ArrayLike, stops: ArrayLike) -> Integers:
    """Count the spikes of each unit in each window.

    Parameters
    ----------
    times : array of shape (spikes,)
        s, ascending within each unit.
    offsets : array_like of shape (units + 1,)
    starts, stops : array_like of shape (presentations,)
        s; windows [start, stop).

    Returns
    -------
    array of shape (presentations, units)

    Raises
    ------
    ValueError
        If spikes are out of order, or a window is not finite or ends before it starts.

    Examples
    --------
    >>> times, offsets = ragged([[0.1, 0.2, 0.3], [0.2]])
    >>> count_spikes(times, offsets, [0.1, 0.0, 0.15], [0.3, 0.1, 0.5])
    array([[2, 1],
           [0, 0],
           [2, 1]])
    """
    ends = np.stack(np.broadcast_arrays(starts, stops), axis=1).astype(np.float64)
    return counts_between(times, offsets, ends)[..., 0]


def binned_counts(times: Times, offsets: ArrayLike, onsets: ArrayLike, edges: ArrayLike) -> Integers:
    """Count the spikes of each unit in bins after (or before) each presentation.

    Parameters
    ----------
    onsets : array_like of shape (presentations,)
        s.
    edges : array_like of shape (bins + 1,)
        s after the onset, ascending; a bin is [edge, next edge).

    Returns
    -------
    array of shape (presentations, units, bins)
        Bins add up to what `count_spikes` gives from the first edge to the last.

    Examples
    --------
    >>> times, offsets = ragged([[1.05, 1.15, 1.25, 2.05]])
    >>> binned_counts(times, offsets, [1.0, 2.0], [-0.1, 0.0, 0.1, 0.2])
    array([[[0, 1, 1]],
           [[0, 1, 0]]])
    """
    ends = np.asarray(onsets, dtype=np.float64)[:, None] + _ascending(edges)
    return counts_between(times, offsets, ends)


def counts_between(times: Times, offsets: ArrayLike, ends: Array) -> Integers:
    """Count the spikes of each unit in bins whose ends each presentation has of its own.

    Parameters
    ----------
    ends : array of shape (presentations, bins + 1)
        s, ascending.

    Returns
    -------
    array of shape (presentations, units, bins)
    """
    if not np.isfinite(ends).all():
        raise ValueError(
            f"windows have finite ends; of presentation {np.argwhere(~np.isfinite(ends))[0, 0]} one is not"
        )
    if (ends[:, 1:] < ends[:, :-1]).any():
        wrong = int(np.argwhere(ends[:, 1:] < ends[:, :-1])[0, 0])
        raise ValueError(f"the window of presentation {wrong} ends before it starts: {ends[wrong].tolist()}")
    bounds = np.asarray(offsets, dtype=np.int64)
    n, n_bins = len(ends), ends.shape[1] - 1
    counts = np.empty((n, len(bounds) - 1, n_bins), dtype=np.int64)
    piece = max(1, SEARCHED // (n_bins + 1))
    for unit, (first, last) in enumerate(pairwise(bounds)):
        train = _train(times, int(first), int(last), unit)
        for start in range(0, n, piece):
            rows = slice(start, start + piece)
            counts[rows, unit] = np.diff(np.searchsorted(train, ends[rows]), axis=1)
    return counts


def _train(times: Times, first: int, last: int, unit: int) -> Array:
    train = np.asarray(times[first:last], dtype=np.float64)
    # NaN fails the comparison too
    if not (train[1:] >= train[:-1]).all() or not np.isfinite(train[-1:]).all():
        raise ValueError(f"spike times of unit {unit} are not ascending numbers: sort them")
    return train


def _ascending(edges: ArrayLike) -> Array:
    edges = np.asarray(edges, dtype=np.float64)
    if edges.ndim != 1 or len(edges) < 2 or not (np.diff(edges) > 0).all():
        raise ValueError(f"edges of bins are two or more ascending numbers, received {edges.tolist()}")
    return edges


def spike_rates(counts: NDArray[np.integer], durations: ArrayLike) -> Array:
    """Spikes per second: counts (presentations, …) over the lengths of their windows, one or (presentations,).

    Examples
    --------
    >>> spike_rates(np.array([[2, 4], [1, 0]]), [0.5, 1.0])
    array([[4., 8.],
           [1., 0.]])
    """
    durations = np.asarray(durations, dtype=np.float64)
    if not (durations > 0).all():
        raise ValueError(f"windows of rates are longer than 0 s, received {durations.min()} s")
    # one length for all, or one per presentation
    return counts / durations.reshape(durations.shape + (1,) * (counts.ndim - 1) * durations.ndim)


@dataclass(frozen=True)
class Psth:
    """Peristimulus time histogram: mean rate (units, times) over presentations, and its standard error.

    The error is that of presentations as independent draws, NaN where there is one.
    """

    rate: Array
    se: Array


def psth(counts: NDArray[np.integer], edges: ArrayLike) -> Psth:
    """Mean rate in each bin, with `counts` (presentations, units, bins) of `binned_counts`.

    Examples
    --------
    >>> found = psth(np.array([[[0, 2]], [[1, 4]]]), [0.0, 0.5, 1.0])
    >>> found.rate, found.se
    (array([[1., 6.]]), array([[1., 2.]]))
    """
    return _over_presentations(counts / np.diff(_ascending(edges)))


def smoothed_psth(counts: NDArray[np.integer], edges: ArrayLike, at: ArrayLike, sigma: float) -> Psth:
    """Mean rate under a Gaussian kernel, from counts in bins that are narrow beside it.

    Parameters
    ----------
    counts : array of shape (presentations, units, bins)
    edges : array_like of shape (bins + 1,)
        s.
    at : array_like of shape (times,)
        s; where the rate is wanted, between the first edge and the last.
    sigma : float
        s; standard deviation of the kernel.

    Notes
    -----
    Each bin has the weight of the kernel's mass in it, over the kernel's mass between the first edge and the last: a
    rate that does not change comes out as it is, at the ends too. Spikes outside the edges are not known here; where
    the recording goes on, wider edges than the times that are wanted leave the ends without a bias.
    """
    return _over_presentations(smooth(counts, edges, at, sigma))


def smooth(counts: NDArray[np.integer], edges: ArrayLike, at: ArrayLike, sigma: float) -> Array:
    """Rates (…, times) of each presentation under a Gaussian kernel; see `smoothed_psth`.

    Examples
    --------
    >>> edges = np.linspace(0, 1, 11)
    >>> smooth(np.full(10, 2), edges, [0.0, 0.5, 1.0], sigma=0.2)
    array([20., 20., 20.])
    """
    edges, at = _ascending(edges), np.asarray(at, dtype=np.float64)
    if not sigma > 0:
        raise ValueError(f"a kernel is wider than 0 s, received {sigma}")
    if len(at) and not (edges[0] <= at.min() and at.max() <= edges[-1]):
        raise ValueError(f"times are between the edges {edges[0]} and {edges[-1]}, received {at.min()} to {at.max()}")
    mass = np.diff(special.ndtr((edges[:, None] - at) / sigma), axis=0)
    weight = mass / mass.sum(axis=0) / np.diff(edges)[:, None]
    return counts @ weight


def _over_presentations(rates: Array) -> Psth:
    n = len(rates)
    se = rates.std(axis=0, ddof=1) / np.sqrt(n) if n > 1 else np.full(rates.shape[1:], np.nan)
    return Psth(rates.mean(axis=0) if n else np.full(rates.shape[1:], np.nan), se)


def relative_times(
    times: Times, offsets: ArrayLike, onsets: ArrayLike, start: float, stop: float
) -> tuple[Array, Integers, Integers]:
    """Spike times relative to each presentation, which is what a raster shows.

    Parameters
    ----------
    onsets : array_like of shape (presentations,)
        s.
    start, stop : float
        s after the onset; the window [start, stop).

    Returns
    -------
    relative : array of shape (spikes,)
        s after the onset, by unit and then by presentation.
    presentation : int array of shape (spikes,)
    offsets : int array of shape (units + 1,)
        Of the spikes of units in these.

    Examples
    --------
    >>> times, offsets = ragged([[1.25, 2.5], [2.0]])
    >>> relative_times(times, offsets, [1.0, 2.0], 0.0, 1.0)
    (array([0.25, 0.5 , 0.  ]), array([0, 1, 1]), array([0, 2, 3]))
    """
    onsets, bounds = np.asarray(onsets, dtype=np.float64), np.asarray(offsets, dtype=np.int64)
    ends = onsets[:, None] + _ascending([start, stop])
    relative, rows = [np.empty(0)], [np.empty(0, dtype=np.int64)]
    for unit, (first, last) in enumerate(pairwise(bounds)):
        train = _train(times, int(first), int(last), unit)
        begin, end = np.searchsorted(train, ends).T
        n = end - begin
        row = np.repeat(np.arange(len(onsets)), n)
        # place in the train: the first of the window, and on from there
        place = np.arange(n.sum()) + np.repeat(begin - (np.cumsum(n) - n), n)
        relative.append(train[place] - onsets[row])
        rows.append(row)
    sizes = np.array([len(of_unit) for of_unit in relative], dtype=np.int64)
    return np.concatenate(relative), np.concatenate(rows), np.cumsum(sizes)


@dataclass(frozen=True)
class BinChoice:
    """How many bins suit each unit's peristimulus time histogram.

    Attributes
    ----------
    n_bins : int array of shape (units,)
        The candidate of least cost; 0 where it is not defined.
    width : array of shape (units,)
        s; NaN where it is not defined.
    cost : array of shape (candidates, units)
        Of `bin_cost`.
    defined : bool array of shape (units,)
        False where no spike is in the window.
    """

    n_bins: Integers
    width: Array
    cost: Array
    defined: Booleans


def choose_bins(
    times: Times, offsets: ArrayLike, onsets: ArrayLike, start: float, stop: float, candidates: Sequence[int]
) -> BinChoice:
    """Choose the number of bins between `start` and `stop` by the least estimated error of the rate.

    Parameters
    ----------
    onsets : array_like of shape (presentations,)
        s.
    start, stop : float
        s after the onset.
    candidates : sequence of int
        Numbers of bins; one that is at their edge says to widen them.

    Notes
    -----
    Shimazaki & Shinomoto 2007 (Neural Computation 19:1503), for spikes that are a Poisson process given the rate: the
    cost estimates the mean integrated squared error up to a constant, and can be negative.
    """
    onsets = np.asarray(onsets, dtype=np.float64)
    relative, _, bounds = relative_times(times, offsets, onsets, start, stop)
    cost = np.full((len(candidates), len(bounds) - 1), np.nan)
    for unit, (first, last) in enumerate(pairwise(bounds)):
        if first == last:
            continue
        # differences may round to just outside the window that holds them
        inside = np.clip(relative[first:last], start, stop)
        for row, n_bins in enumerate(candidates):
            counts, _ = np.histogram(inside, bins=n_bins, range=(start, stop))
            cost[row, unit] = bin_cost(counts, (stop - start) / n_bins, len(onsets))
    defined = np.diff(bounds) > 0
    best = np.asarray(candidates, dtype=np.int64)[np.where(defined, cost, 0).argmin(axis=0)]
    n_bins_of = np.where(defined, best, 0)
    return BinChoice(n_bins_of, (stop - start) / np.where(defined, best, np.nan), cost, defined)


def bin_cost(counts: NDArray[np.integer], width: float, n_presentations: int = 1) -> float:
    """Cost (2 mean − variance)/(n width)² of bins of one width, with counts (bins,) pooled over n presentations.

    The variance is the mean square about the mean. The factor 1/n² changes no choice.

    Examples
    --------
    >>> bin_cost(np.array([1, 3]), width=0.5)
    12.0
    """
    return float((2 * counts.mean() - counts.var()) / (n_presentations * width) ** 2)
