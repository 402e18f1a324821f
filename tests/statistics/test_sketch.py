"""The sketch of responses: bins against searching their edges, quantiles against sorting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuroprobe.statistics.sketch import N_BINS, bin_edges, bin_of, count_bins, quantiles_of

EDGES = bin_edges()
SINGLES = st.floats(width=32, allow_nan=False, allow_infinity=False)


def searched(values: np.ndarray) -> np.ndarray:
    """Bins by their edges: those above 0 hold their lower edge, those below 0 the one nearer to 0 … -1 down."""
    upward = EDGES[N_BINS // 2 + 1 : -1]
    level = np.searchsorted(upward, np.abs(values), side="right")
    return N_BINS // 2 + np.where(values < 0, -level, level)


def test_edges_are_quarters_of_octaves() -> None:
    assert len(EDGES) == N_BINS + 1
    assert (EDGES[0], EDGES[-1]) == (-np.inf, np.inf)
    assert (np.diff(EDGES) > 0).all()
    np.testing.assert_array_equal(EDGES, -EDGES[::-1])
    inner = EDGES[N_BINS // 2 + 1 : -1]
    assert (inner[0], inner[-1]) == (2.0**-12, 2.0**12)
    assert (inner[1:] / inner[:-1]).max() == 1.25


@given(st.lists(SINGLES, min_size=1, max_size=50))
def test_bins_are_those_between_edges(values: list[float]) -> None:
    array = np.array(values, dtype=np.float32)
    np.testing.assert_array_equal(bin_of(array), searched(array.astype(np.float64)))
    np.testing.assert_array_equal(bin_of(array.astype(np.float64)), bin_of(array))


def test_bins_at_the_edges_themselves() -> None:
    inner = EDGES[1:-1].astype(np.float32)
    below, above = np.nextafter(inner, np.float32(-np.inf)), np.nextafter(inner, np.float32(np.inf))
    for values in (inner, below, above, -inner, np.array([0.0, -0.0, 1e-40, -1e-40, 3e38, -3e38], np.float32)):
        np.testing.assert_array_equal(bin_of(values), searched(values.astype(np.float64)))
    assert bin_of(np.array([np.inf, -np.inf])).tolist() == [N_BINS - 1, 0]


def test_counts_by_class(rng: np.random.Generator) -> None:
    values, target = rng.normal(0, 3, (60, 4)).astype(np.float32), rng.integers(0, 3, 60)
    counts = count_bins(values, target, 4)
    expected = np.zeros((4, 4, N_BINS))
    for image, unit in np.ndindex(values.shape):
        expected[target[image], unit, searched(values[image, unit].astype(np.float64))] += 1
    np.testing.assert_array_equal(counts, expected)
    assert counts.sum() == values.size
    # of parts they add up
    np.testing.assert_array_equal(
        counts, count_bins(values[:20], target[:20], 4) + count_bins(values[20:], target[20:], 4)
    )


@given(st.integers(0, 10**6), st.integers(1, 200), st.sampled_from(["relu", "normal", "wide"]))
def test_quantiles_are_within_their_bin(seed: int, n: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 2, (n, 3)) if kind != "wide" else np.exp(rng.normal(0, 12, (n, 3)))
    values = np.maximum(values, 0) if kind == "relu" else values
    values = values.astype(np.float32)
    shares = np.array([0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0])
    found = quantiles_of(count_bins(values, np.zeros(n, np.int64), 1)[0], shares)
    assert (np.diff(found, axis=0) >= 0).all()
    # share * n in floating point may lie a little above a whole number
    low, high = (
        np.quantile(values, np.clip(shares + off, 0, 1), axis=0, method="inverted_cdf") for off in (-1e-9, 1e-9)
    )
    edges = EDGES.copy()
    edges[[0, -1]] = edges[[1, -2]]
    lower, upper = edges[searched(low.astype(np.float64))], edges[searched(high.astype(np.float64)) + 1]
    assert ((found >= lower) & (found <= upper)).all()


def test_quantiles_of_nothing_and_of_zeros() -> None:
    counts = np.zeros((2, N_BINS))
    counts[1, N_BINS // 2] = 5
    found = quantiles_of(counts, np.array([0.0, 0.5, 1.0]))
    assert np.isnan(found[:, 0]).all()
    assert found[:, 1].tolist() == [0, 0, 0]


@pytest.mark.parametrize(("value", "expected"), [(1e6, 2.0**12), (-1e6, -(2.0**12))])
def test_open_bins_give_their_edge(value: float, expected: float) -> None:
    counts = count_bins(np.array([[value]]), np.zeros(1, np.int64), 1)[0]
    assert quantiles_of(counts, np.array([0.5])).item() == expected
