"""Counts, rates and histograms of spikes against loops over spikes, closed forms and processes of known rate."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from neuroprobe.statistics.spikes import (
    bin_cost,
    binned_counts,
    choose_bins,
    count_spikes,
    psth,
    ragged,
    ragged_by_unit,
    relative_times,
    smooth,
    smoothed_psth,
    spike_rates,
)

# of quarters, so that spikes fall on the ends of windows and sums are exact
quarters = st.integers(-8, 40).map(lambda quarter: quarter / 4)
trains = st.lists(st.lists(quarters, max_size=12), min_size=1, max_size=4)


@given(trains, st.lists(st.tuples(quarters, st.integers(0, 8)), max_size=8))
def test_counts_are_those_of_a_mask_per_trial(spikes: list[list[float]], windows: list[tuple[float, int]]) -> None:
    starts = np.array([start for start, _ in windows])
    stops = starts + np.array([length / 4 for _, length in windows])
    counts = count_spikes(*ragged(spikes), starts, stops)
    assert counts.shape == (len(windows), len(spikes))
    for row, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        assert counts[row].tolist() == [sum(start <= spike < stop for spike in train) for train in spikes]


@given(
    trains,
    st.lists(quarters, min_size=1, max_size=6),
    hnp.arrays(np.int64, st.integers(1, 6), elements=st.integers(1, 6)),
)
def test_bins_are_windows_and_add_up(spikes: list[list[float]], onsets: list[float], widths: np.ndarray) -> None:
    edges = -0.5 + np.concatenate([[0], np.cumsum(widths)]) / 4
    times, offsets = ragged(spikes)
    binned = binned_counts(times, offsets, onsets, edges)
    assert binned.shape == (len(onsets), len(spikes), len(widths))
    for b in range(len(widths)):
        expected = count_spikes(times, offsets, np.array(onsets) + edges[b], np.array(onsets) + edges[b + 1])
        np.testing.assert_array_equal(binned[..., b], expected)
    whole = count_spikes(times, offsets, np.array(onsets) + edges[0], np.array(onsets) + edges[-1])
    np.testing.assert_array_equal(binned.sum(axis=-1), whole)


@given(trains, st.randoms(use_true_random=False))
def test_a_list_that_units_share_is_sorted_into_units(spikes: list[list[float]], random: Any) -> None:
    flat = [(time, unit) for unit, train in enumerate(spikes) for time in train]
    random.shuffle(flat)
    times, offsets = ragged_by_unit([t for t, _ in flat], np.array([u for _, u in flat], dtype=int), len(spikes))
    expected = ragged(spikes)
    np.testing.assert_array_equal(times, expected[0])
    np.testing.assert_array_equal(offsets, expected[1])


@given(trains, st.lists(quarters, min_size=1, max_size=6))
def test_a_raster_holds_the_spikes_of_its_windows(spikes: list[list[float]], onsets: list[float]) -> None:
    times, offsets = ragged(spikes)
    relative, row, bounds = relative_times(times, offsets, onsets, -0.5, 1.25)
    assert ((relative >= -0.5) & (relative < 1.25)).all()
    counts = count_spikes(times, offsets, np.array(onsets) - 0.5, np.array(onsets) + 1.25)
    for unit in range(len(spikes)):
        of_unit = slice(bounds[unit], bounds[unit + 1])
        np.testing.assert_array_equal(np.bincount(row[of_unit], minlength=len(onsets)), counts[:, unit])
        back = np.sort(relative[of_unit] + np.array(onsets)[row[of_unit]])
        assert set(back) <= set(spikes[unit])


def test_counts_need_no_more_than_a_unit_and_the_result() -> None:
    rng = np.random.default_rng(0)
    times, offsets = ragged([np.cumsum(rng.exponential(0.01, 50_000)) for _ in range(20)])
    starts = np.sort(rng.uniform(0, 400, 5_000))
    tracemalloc.start()
    counts = count_spikes(times, offsets, starts, starts + 1.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < counts.nbytes + 2 * 50_000 * 8
    assert counts.sum(axis=0) == pytest.approx(np.full(20, 100 * 5_000), rel=0.1)


class Shelf:
    """Gives out slices only, as a dataset in a file does, in the type of the file."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values.astype(np.float32)

    def __getitem__(self, key: slice) -> np.ndarray:
        assert isinstance(key, slice)
        return self.values[key]


def test_spikes_may_be_in_a_file() -> None:
    times, offsets = ragged([[0.5, 1.5], [1.0]])
    assert count_spikes(Shelf(times), offsets, [0.0], [1.25]).tolist() == [[1, 1]]


@pytest.mark.parametrize(
    ("times", "starts", "stops", "message"),
    [
        ([0.2, 0.1], [0.0], [1.0], "unit 0 are not ascending"),
        ([0.1, np.nan], [0.0], [1.0], "unit 0 are not ascending"),
        ([0.1, 0.2], [0.0, np.nan], [1.0, 1.0], "of presentation 1 one is not"),
        ([0.1, 0.2], [0.0, 2.0], [1.0, 1.0], "presentation 1 ends before it starts"),
    ],
)
def test_counts_of_what_cannot_be_counted(times: Any, starts: Any, stops: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        count_spikes(np.array(times), [0, 2], starts, stops)


def test_arguments_that_make_no_sense() -> None:
    counts = np.ones((2, 1, 3), dtype=np.int64)
    with pytest.raises(ValueError, match="ascending numbers"):
        binned_counts(np.zeros(1), [0, 1], [0.0], [0.0, 0.0])
    with pytest.raises(ValueError, match="units are 0 to 1, received 0 to 2"):
        ragged_by_unit([0.0, 1.0], [0, 2], 2)
    with pytest.raises(ValueError, match="longer than 0 s"):
        spike_rates(counts, 0.0)
    with pytest.raises(ValueError, match="wider than 0 s"):
        smooth(counts, [0, 1, 2, 3], [0.5], 0.0)
    with pytest.raises(ValueError, match="between the edges"):
        smooth(counts, [0, 1, 2, 3], [3.5], 1.0)


def test_rates_of_windows_of_several_lengths() -> None:
    counts = np.arange(12).reshape(2, 3, 2)
    np.testing.assert_allclose(spike_rates(counts, [0.5, 2.0]), counts / np.array([0.5, 2.0])[:, None, None])
    np.testing.assert_allclose(spike_rates(counts, 0.25), counts * 4)


def test_a_histogram_is_the_mean_over_presentations() -> None:
    counts = np.array([[[1, 2, 0]], [[3, 2, 0]], [[2, 5, 0]]])
    found = psth(counts, [0.0, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(found.rate, [[4.0, 12.0, 0.0]])
    np.testing.assert_allclose(found.se, [[1 / np.sqrt(3) / 0.5, np.sqrt(3) / np.sqrt(3) / 0.25, 0.0]])
    assert np.isnan(psth(counts[:1], [0.0, 0.5, 0.75, 1.0]).se).all()


@given(st.floats(0.01, 2.0), hnp.arrays(np.float64, st.integers(2, 12), elements=st.floats(0.01, 1.0)))
def test_smoothing_leaves_a_steady_rate_at_the_edges_too(sigma: float, widths: np.ndarray) -> None:
    edges = np.concatenate([[0], np.cumsum(widths)])
    rates = smooth(widths * 7.0, edges, np.linspace(0, edges[-1], 9), sigma)  # type: ignore[arg-type]
    np.testing.assert_allclose(rates, 7.0)


def test_smoothing_far_from_edges_is_a_sum_of_kernels() -> None:
    rng = np.random.default_rng(1)
    spikes = rng.uniform(4, 6, 40)
    edges = np.linspace(0, 10, 10_001)
    counts = binned_counts(*ragged([spikes]), [0.0], edges)
    at = np.linspace(3, 7, 21)
    expected = stats.norm.pdf(at[:, None], spikes, 0.2).sum(axis=1)
    np.testing.assert_allclose(smoothed_psth(counts, edges, at, 0.2).rate[0], expected, rtol=0.01, atol=1e-3)


def test_smoothing_follows_a_known_rate_within_its_error() -> None:
    """A rate that rises along a line: a kernel keeps lines, away from the edges."""
    rng = np.random.default_rng(2)
    edges = np.linspace(0, 2, 201)
    rate = 20 + 10 * (edges[1:] + edges[:-1]) / 2
    counts = rng.poisson(rate * 0.01, (400, 30, 200))
    at = np.linspace(0.6, 1.4, 5)
    found = smoothed_psth(counts, edges, at, 0.15)
    z = (found.rate - (20 + 10 * at)) / found.se
    assert abs(z.mean()) < 0.3
    assert 0.8 < z.std() < 1.2


def test_cost_of_bins_by_hand() -> None:
    # mean 2, variance 8/3; (4 − 8/3)/(3 × 0.1)²
    assert bin_cost(np.array([0, 2, 4]), 0.1, 3) == pytest.approx((4 - 8 / 3) / 0.09)


def test_bins_suit_the_rate() -> None:
    """A rate that swings needs bins that follow it, a steady one as few as there may be."""
    rng = np.random.default_rng(3)
    onsets = np.arange(200) * 2.0
    grid = np.arange(0, 400, 0.001)
    swinging = grid[rng.uniform(size=len(grid)) < 0.001 * 30 * (1 + np.cos(2 * np.pi * 4 * grid))]
    steady = grid[rng.uniform(size=len(grid)) < 0.001 * 30]
    candidates = range(1, 120)
    found = choose_bins(*ragged([swinging, steady, []]), onsets, 0.0, 2.0, candidates)
    # of 8 cycles in 2 s: a bin is much shorter than a cycle, much longer than a spike's
    assert 40 <= found.n_bins[0] < 119
    assert found.n_bins[1] <= 10
    assert found.defined.tolist() == [True, True, False]
    assert found.n_bins[2] == 0
    assert np.isnan(found.width[2])
    assert np.isnan(found.cost[:, 2]).all()
    np.testing.assert_allclose(found.width[:2], 2.0 / found.n_bins[:2])


def test_cost_of_bins_estimates_the_error_of_the_rate() -> None:
    """Up to the integral of the squared rate, which no width changes: of a sawtooth that bins of 1/8 s step through."""
    rng = np.random.default_rng(4)
    rate = np.tile([10.0, 30.0, 20.0, 40.0], 2)
    n = 40
    costs, errors = [], []
    for _ in range(400):
        counts = rng.poisson(n * rate / 8)
        costs.append([bin_cost(counts, 1 / 8, n), bin_cost(counts.reshape(4, 2).sum(1), 1 / 4, n)])
        fine = counts * 8 / n
        coarse = np.repeat(counts.reshape(4, 2).mean(1) * 8 / n, 2)
        errors.append([((fine - rate) ** 2).mean(), ((coarse - rate) ** 2).mean()])
    difference = np.diff(costs, axis=1).mean()
    assert difference == pytest.approx(np.diff(errors, axis=1).mean(), rel=0.05)
