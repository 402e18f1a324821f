"""Latencies of courses that are known, and of simulated trials."""

import numpy as np
import pytest

from neuroprobe.statistics.latency import latency, onset_latency

START = np.arange(-20, 40) * 0.005


def simulated(rng: np.random.Generator, n_trials: int, onset: float, low: float, high: float, n: int) -> np.ndarray:
    rate = np.where(onset - 1e-9 < START, high, low)
    return rng.poisson(rate[:, None], (n_trials, len(START), n))


def test_first_run_above_the_baseline() -> None:
    rate = np.array([3.0, 5, 4, 4, 4, 12, 4, 15, 18, 16, 12])[:, None]
    start = np.arange(-4, 7) * 0.01
    assert onset_latency(rate, start) == pytest.approx(0.03)
    assert onset_latency(rate, start, n_consecutive=1) == pytest.approx(0.01)
    assert np.isnan(onset_latency(rate, start, n_consecutive=5))
    assert np.isnan(onset_latency(rate, start, n_consecutive=9))
    assert np.isnan(onset_latency(rate, start, n_sd=30))
    both = np.stack([rate, np.where(start[:, None] < 0, 0, rate)])
    assert onset_latency(both, start).shape == (2, 1)
    assert np.isnan(onset_latency(both, start)[1])  # no spike before the stimulus: no spread to exceed


@pytest.mark.parametrize("start", [np.arange(-2, 9), np.arange(-11, 0), np.arange(11)])
def test_windows_without_baseline_or_response_are_refused(start: np.ndarray) -> None:
    with pytest.raises(ValueError, match="3 bins before"):
        onset_latency(np.ones((11, 1)), start * 0.01)


def test_latencies_are_recovered_with_their_uncertainty(rng: np.random.Generator) -> None:
    found = latency(simulated(rng, 40, 0.05, 0.5, 2.0, 100), START, 50, rng)
    assert np.median(found.latency) == pytest.approx(0.05)
    assert np.mean(np.abs(found.latency - 0.05) < 0.011) > 0.9
    assert found.share_found.mean() > 0.95
    assert ((found.low <= 0.05 + 1e-9) & (found.high >= 0.05 - 1e-9)).mean() > 0.9
    assert (found.low <= found.latency + 1e-12).mean() > 0.9
    clear = latency(simulated(rng, 200, 0.05, 0.5, 2.0, 100), START, 50, rng)
    assert np.nanmean(clear.se) < np.nanmean(found.se)


def test_no_response_has_no_latency(rng: np.random.Generator) -> None:
    found = latency(simulated(rng, 40, 0.05, 0.5, 0.5, 200), START, 30, rng)
    assert np.isnan(found.latency).mean() > 0.95
    assert np.isnan(found.se[np.isnan(found.latency)]).all()
    assert found.share_found.mean() < 0.2
