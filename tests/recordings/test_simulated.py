"""The simulated animal keeps its word: rates, variances, times and covariances are those that its truth tells."""

import json

import numpy as np
import pytest
import xarray as xr

from neuroprobe.errors import ReaderError
from neuroprobe.recordings import check_recording, read_recording
from neuroprobe.recordings.simulated import Noise, Simulated, Timing, expected_counts, simulate_animal
from neuroprobe.recordings.simulated_units import (
    Population,
    factorial_table,
    gabor_filters,
    gabor_units,
    tuned_units,
)
from neuroprobe.statistics.conditions import curves_of
from neuroprobe.statistics.reliability import noise_correlation
from neuroprobe.statistics.spikes import binned_counts

ANGLES = np.arange(0, 180, 22.5)


def constant(rates: list[float], spontaneous: float = 0.0) -> Population:
    """Units that answer every stimulus with the same rate."""
    return Population(
        lambda shown: np.tile(rates, (len(shown["stimulus"]), 1)), np.full(len(rates), spontaneous), xr.Dataset()
    )


@pytest.fixture(scope="module")
def animal() -> Simulated:
    noise = Noise(gain_variance=0.1, shared_gain_variance=0.05, drift=0.2)
    units = tuned_units(20, {"orientation": "von_mises"}, seed=1)
    timing = Timing(transient=1.5)
    return simulate_animal(units, {"orientation": ANGLES}, n_repeats=200, n_blanks=400, noise=noise, timing=timing)


def of_window(animal: Simulated, window: tuple[float, float]) -> np.ndarray:
    """Counts of the stimuli's trials."""
    found = read_recording(animal, window=window)["responses/simulated"]["response"].values
    return np.asarray(found, dtype=float)


@pytest.mark.parametrize("window", [None, (0.0, 0.1), (0.05, 0.55), (0.3, 0.7)])
def test_means_and_variances_are_those_expected(animal: Simulated, window: tuple[float, float] | None) -> None:
    truth, noise, timing = animal.truth, Noise(0.1, 0.05, 0.2), Timing(transient=1.5)
    counts = animal.counts if window is None else of_window(animal, window)
    units = tuned_units(20, {"orientation": "von_mises"}, seed=1)
    mean, variance = expected_counts(
        units.rate({"orientation": ANGLES}),
        truth.spontaneous.values,
        truth.latency.values,
        timing.window if window is None else window,
        timing,
        noise,
    )
    if window is None:
        np.testing.assert_allclose(truth.expected, mean)
        np.testing.assert_allclose(truth.variance, variance)
    found = curves_of(counts, animal.condition, len(ANGLES))
    z = (found.mean - mean) / np.sqrt(variance / 200)
    assert np.abs(z).max() < 5
    # the gain that units share makes their errors alike
    assert np.sqrt((z**2).mean()) == pytest.approx(1, abs=0.25)
    assert (found.variance / variance).mean() == pytest.approx(1, abs=0.04)


def test_powers_of_the_truth_are_of_its_own_means(animal: Simulated) -> None:
    truth = animal.truth
    signal = np.var(truth.expected.values, axis=0, ddof=1)
    noise = truth.variance.values.mean(0)
    np.testing.assert_allclose(truth.signal_power, signal)
    np.testing.assert_allclose(truth.explainable, signal / (signal + noise))
    np.testing.assert_allclose(truth.ceiling, np.sqrt(signal / (signal + noise / 200)))
    assert (truth.fano_factor > 1).all()


def test_blanks_show_nothing(animal: Simulated) -> None:
    blank = animal.condition < 0
    assert blank.sum() == 400
    table = animal.trials.columns
    assert np.isnan(table["orientation"][blank]).all()
    assert not np.isnan(table["orientation"][~blank]).any()
    assert set(table["control_kind"][blank]) == {"blank"}
    assert set(table["arm"][~blank]) == {"treatment"}
    length = 0.54 - 0.08
    expected = animal.truth.spontaneous.values * length
    # drift and gains move blanks too
    found = animal.counts[blank].mean(0)
    assert np.abs(found - expected).max() < 5 * np.sqrt((expected * (1 + 0.2 * expected)) / 400).max()


def test_what_a_reader_gives(animal: Simulated) -> None:
    check_recording(animal.tree)
    again = read_recording(animal, window=Timing().window)
    xr.testing.assert_identical(
        again["responses/simulated"].to_dataset(), animal.tree["responses/simulated"].to_dataset()
    )
    assert json.loads(animal.tree.attrs["factors"]) == ["orientation"]
    assert json.loads(animal.tree.attrs["neuroprobe_provenance"])["noise"]["drift"] == 0.2
    with pytest.raises(ReaderError, match=r"in which window are spikes counted\?"):
        read_recording(animal)
    # repetitions of each stimulus are counted in the order of time
    for stimulus in ("0", "5"):
        of_it = animal.trials.columns["stimulus_id"] == stimulus
        assert animal.trials.columns["repetition"][of_it].tolist() == list(range(200))


def test_a_seed_says_everything() -> None:
    units = tuned_units(5, {"orientation": "double_gaussian"}, seed=2)
    one, same, other = (simulate_animal(units, {"orientation": ANGLES}, n_repeats=3, seed=seed) for seed in (4, 4, 5))
    assert np.array_equal(one.spikes.times[:], same.spikes.times[:])
    assert one.trials.columns["orientation"].tolist() == same.trials.columns["orientation"].tolist()
    assert one.trials.columns["orientation"].tolist() != other.trials.columns["orientation"].tolist()
    xr.testing.assert_identical(one.truth, same.truth)
    xr.testing.assert_identical(tuned_units(5, {"orientation": "double_gaussian"}, seed=2).truth, units.truth)


def test_time_course() -> None:
    """Nothing before the latency, a transient that falls as told, nothing after the end."""
    timing = Timing(duration=0.3, gap=0.2, latency=(0.06, 0.06), transient=2.0, time_constant=0.04)
    made = simulate_animal(constant([400.0]), {"stimulus": [0]}, n_repeats=3000, timing=timing)
    edges = np.array([0, 0.06, 0.08, 0.12, 0.2, 0.36, 0.5])
    onsets = made.trials.columns["start_time"]
    offsets = np.array([0, len(made.spikes.times[:])])
    counts = binned_counts(made.spikes.times, offsets, onsets, edges)[:, 0].mean(0)
    assert counts[0] == counts[-1] == 0
    expected = [
        400 * np.diff(b + 2 * 0.04 * (1 - np.exp(-b / 0.04)))[0] for b in np.stack([edges[1:5], edges[2:6]], 1) - 0.06
    ]
    assert np.abs(counts[1:5] - expected).max() < 4 * np.sqrt(max(expected) / 3000)


def test_noise_that_units_share_is_their_correlation() -> None:
    noise = Noise(gain_variance=0.05, shared_gain_variance=0.2)
    made = simulate_animal(constant([30.0, 60.0]), {"stimulus": [0]}, n_repeats=4000, noise=noise)
    found = noise_correlation(made.counts, made.condition, 1).value[0, 1]
    mean, variance = made.truth.expected.values[0], made.truth.variance.values[0]
    assert found == pytest.approx(0.2 * mean.prod() / np.sqrt(variance.prod()), abs=0.05)
    alone = simulate_animal(constant([30.0, 60.0]), {"stimulus": [0]}, n_repeats=4000, noise=Noise(0.25))
    assert noise_correlation(alone.counts, alone.condition, 1).value[0, 1] == pytest.approx(0, abs=0.06)


def test_drift_is_slow() -> None:
    made = simulate_animal(constant([100.0] * 3), {"stimulus": [0]}, n_repeats=2000, noise=Noise(drift=0.3))
    counts = made.counts - made.counts.mean(0)
    after_one = (counts[1:] * counts[:-1]).mean(0)
    assert after_one == pytest.approx((0.3 * made.truth.expected.values[0]) ** 2, rel=0.15)


@pytest.mark.parametrize(
    ("curve", "factor", "x"),
    [
        ("von_mises", "orientation", np.linspace(0, 180, 721)),
        ("double_gaussian", "orientation", np.linspace(0, 360, 1441)),
        ("log_gaussian", "frequency", np.exp2(np.linspace(-4, 5, 1801))),
    ],
)
def test_curves_peak_and_fall_to_half_where_told(curve: str, factor: str, x: np.ndarray) -> None:
    units = tuned_units(30, {factor: curve}, seed=3, given={f"{factor}_null_ratio": 0} if "double" in curve else None)
    rates, truth = units.rate({factor: x}), units.truth
    preferred = truth[f"{factor}_preferred"].values
    height = rates - truth.spontaneous.values
    np.testing.assert_allclose(height.max(0), truth.amplitude, rtol=2e-3)
    away = x[height.argmax(0)] - preferred
    assert np.abs(np.mod(away + 90, 180) - 90 if factor == "orientation" else away / preferred).max() < 0.3
    if factor == "frequency":
        half = preferred * np.exp2(truth[f"{factor}_bandwidth"].values / 2)
    else:
        half = preferred + truth[f"{factor}_hwhm"].values
    at_half = np.diagonal(units.rate({factor: half})) - truth.spontaneous.values
    np.testing.assert_allclose(at_half, truth.amplitude / 2, rtol=1e-3)


def test_factors_multiply() -> None:
    table = factorial_table({"orientation": ANGLES, "contrast": [0.0, 0.2, 1.0]})
    units = tuned_units(4, {"orientation": "von_mises", "contrast": "naka_rushton"}, given={"contrast_c50": 0.2})
    height = (units.rate(table) - units.truth.spontaneous.values).reshape(8, 3, 4)
    np.testing.assert_allclose(height[:, 0], 0)
    np.testing.assert_allclose(height[:, 1] / height[:, 2], np.broadcast_to((height[:, 1] / height[:, 2])[:1], (8, 4)))
    np.testing.assert_allclose(height[:, 1].max(0) / units.truth.amplitude, 0.5, rtol=0.3)


def gratings(orientation: float, frequency: float, phase: float, size: int = 33) -> np.ndarray:
    y, x = np.mgrid[:size, :size] - size // 2
    angle = np.deg2rad(orientation)
    return np.cos(2 * np.pi * frequency * (x * np.sin(angle) + y * np.cos(angle)) + np.deg2rad(phase))


def test_receptive_fields_prefer_their_own_bars() -> None:
    angles, phases = np.arange(0, 180, 7.5), np.arange(0, 360, 45)
    fields = gabor_units(np.zeros((1, 33, 33)), 12, seed=5).truth
    images = [
        gratings(angle, frequency, phase)
        for frequency in fields.frequency.values
        for angle in angles
        for phase in phases
    ]
    units = gabor_units(images, 12, seed=5)
    xr.testing.assert_equal(units.truth.drop_vars("spontaneous"), fields.drop_vars("spontaneous"))
    rates = units.rate({"image_id": np.arange(len(images)).astype(str)}) - units.spontaneous
    of_own = np.stack([rates.reshape(12, len(angles), len(phases), 12)[unit, ..., unit] for unit in range(12)])
    best = of_own.mean(-1).argmax(1)
    away = np.abs(np.mod(angles[best] - fields.orientation.values + 90, 180) - 90)
    assert away.max() <= 7.5
    by_phase = of_own[np.arange(12), best]
    modulation = by_phase.min(-1) / by_phase.max(-1)
    is_complex = fields.complex.values > 0
    assert 0 < is_complex.sum() < 12
    assert modulation[is_complex].min() > 0.8
    assert modulation[~is_complex].max() < 0.2


def test_spike_triggered_average_is_the_filter(rng: np.random.Generator) -> None:
    images = rng.normal(size=(4000, 16, 16))
    units = gabor_units(images, 5, share_complex=0, seed=6)
    shown = {"image_id": np.arange(4000).astype(str)}
    animal = simulate_animal(units, shown, n_repeats=1, timing=Timing(duration=0.2, gap=0.1))
    assert json.loads(animal.tree.attrs["factors"]) == []
    weights = animal.counts - animal.counts.mean(0)
    average = weights.T @ images[animal.condition].reshape(4000, -1)
    field = {name: units.truth[name].values for name in units.truth if name != "spontaneous"}
    filters = gabor_filters(field, (16, 16)).reshape(5, -1)
    assert np.linalg.norm(filters, axis=1) == pytest.approx(1)
    for one, other in zip(average, filters, strict=True):
        assert np.corrcoef(one, other)[0, 1] > 0.8


def test_what_cannot_be() -> None:
    units = tuned_units(2, {"orientation": "von_mises"})
    with pytest.raises(ValueError, match=r"unknown curve 'von_mise' \(did you mean 'von_mises'\?\)"):
        tuned_units(2, {"orientation": "von_mise"})
    with pytest.raises(ValueError, match="unknown parameter 'orientation_hwhm'"):
        tuned_units(2, {"orientation": "von_mises"}, given={"orientation_hwhm": 20})
    with pytest.raises(ValueError, match=r"columns of a table of stimuli have one length, received .*'b': 1"):
        simulate_animal(units, {"orientation": [0, 1], "b": [1]})
    with pytest.raises(ValueError, match="there is no trial"):
        simulate_animal(units, {"orientation": ANGLES}, n_repeats=0)
    with pytest.raises(ValueError, match=r"unknown factor 'angle'"):
        simulate_animal(units, {"orientation": ANGLES}, factors=["angle"])
    with pytest.raises(ValueError, match=r"rates are 0 or more .* smallest value of -3"):
        simulate_animal(constant([-3.0]), {"stimulus": [0]})
    with pytest.raises(ValueError, match="2 units and 1 regions"):
        simulate_animal(units, {"orientation": ANGLES}, region=["V1"])
    with pytest.raises(ValueError, match=r"a drift at most 0\.7"):
        Noise(drift=0.8)
    with pytest.raises(ValueError, match="latencies are from 0 to below gap"):
        Timing(latency=(0.1, 0.6))
    with pytest.raises(ValueError, match=r"images are .* received an array \(4, 4\)"):
        gabor_units(np.zeros((4, 4)), 2)
    with pytest.raises(ValueError, match="each of 2 images has a name of its own, received 1"):
        gabor_units(np.zeros((2, 4, 4)), 2, image_ids=["a", "a"])
