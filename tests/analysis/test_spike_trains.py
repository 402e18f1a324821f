"""Rasters and PSTHs with labels: against brute force, and what they refuse."""

from typing import Any

import numpy as np
import pytest
import xarray as xr

from made_animals import animal
from neuroprobe.analysis.spike_trains import bin_width, condition_names, psth, raster
from neuroprobe.errors import ReaderError
from neuroprobe.recordings.build import node_of, tree_of
from neuroprobe.recordings.columns import Table

EDGES = np.linspace(-0.2, 0.4, 7)


def binned(measure: str = "count", n_units: int = 3, seed: int = 4) -> tuple[xr.DataTree, np.ndarray, np.ndarray]:
    """A recording with bins of time, its counts (trials, units, bins), and conditions; the last trial was not shown."""
    rng = np.random.default_rng(seed)
    kind = np.array([*"abab" * 5, "c", ""], dtype=object)
    counts = rng.poisson(3, (len(kind), n_units, 6)).astype(float)
    counts[0] = np.nan
    values = counts if measure == "count" else counts / np.diff(EDGES)
    units = Table({"unit_id": np.array([f"u{number}" for number in range(n_units)], dtype=object)})
    node = node_of(
        values,
        Table({"kind": kind}),
        units,
        attrs={"units": "spikes" if measure == "count" else "spikes/s"},
        bins=np.stack([EDGES[:-1], EDGES[1:]], axis=1),
    )
    return tree_of({"v1": node}), counts, kind


@pytest.mark.parametrize("measure", ["count", "rate"])
def test_psth_is_the_mean_over_trials_of_a_condition(measure: str) -> None:
    recording, counts, kind = binned(measure)
    found = psth(recording, "kind")
    assert condition_names(found) == ["a", "b", "c"]
    np.testing.assert_allclose(found["time"], (EDGES[1:] + EDGES[:-1]) / 2)
    for number, name in enumerate("ab"):
        trials = counts[kind == name] / np.diff(EDGES)
        trials = trials[~np.isnan(trials).any((1, 2))]
        at = found.isel(condition=number).transpose("unit", "time")
        np.testing.assert_allclose(at["rate"], trials.mean(0))
        np.testing.assert_allclose(at["rate_se"], trials.std(0, ddof=1) / np.sqrt(len(trials)))
        assert (at["n_trials"] == len(trials)).all()
    # one trial has no error
    assert found["rate_se"].isel(condition=2).isnull().all()
    assert found["rate"].isel(condition=2).notnull().all()
    assert found["n_trials"].isel(condition=2).values.tolist() == [1, 1, 1]


def test_a_kernel_smooths_and_keeps_what_does_not_change() -> None:
    recording, _, _ = binned()
    recording["responses/v1"]["response"][:] = 2
    found = psth(recording, "kind", sigma=0.1)
    np.testing.assert_allclose(found["rate"], 2 / 0.1)
    assert found.attrs["sigma"] == 0.1
    rough = psth(binned()[0], "kind")["rate"].isel(condition=0)
    smooth = psth(binned()[0], "kind", sigma=0.1)["rate"].isel(condition=0)
    assert float(smooth.std("time").mean()) < float(rough.std("time").mean())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda one: psth(one, "kind", sigma=0), "sigma is above 0 s"),
        (lambda one: psth(one, "kin"), "did you mean 'kind'"),
        (lambda one: psth(animal(np.ones((4, 2)), {"kind": [0, 0, 1, 1]}), "kind"), "read the recording with `bins`"),
    ],
)
def test_what_a_psth_refuses(change: Any, message: str) -> None:
    with pytest.raises(ReaderError, match=message):
        change(binned()[0])


def test_bins_of_sessions_must_agree() -> None:
    one, other = binned()[0]["responses/v1"].to_dataset(), binned()[0]["responses/v1"].to_dataset()
    other = other.assign_coords(time_bin_start=other.time_bin_start + 1, time_bin_end=other.time_bin_end + 1)
    with pytest.raises(ReaderError, match="bins of time of 'b' differ from those of 'a'"):
        psth(xr.DataTree.from_dict({"/responses/a": one, "/responses/b": other}), "kind")
    other = one.assign_coords(time_bin_end=one.time_bin_end - 0.01)
    with pytest.raises(ReaderError, match="gaps between bins"):
        psth(xr.DataTree.from_dict({"/responses/a": other}), "kind")


def test_raster_against_a_loop() -> None:
    rng = np.random.default_rng(2)
    spikes, onset = np.sort(rng.uniform(0, 30, 200)), np.sort(rng.uniform(0, 28, 12))
    onset[3] = np.nan
    level = np.array([2.0, 1, np.nan, 1, 2, 2, 1, 3, 3, 1, 2, 3])
    found = raster({"u": spikes}, {"shown": onset, "level": level}, "u", "level", (-0.5, 1.5), "shown")
    order = [row for value in (1, 2, 3) for row in np.flatnonzero(level == value) if np.isfinite(onset[row])]
    assert found["presentation"].values.tolist() == order
    assert found["level"].values.tolist() == level[order].tolist()
    expected = [
        (place, time - onset[row])
        for place, row in enumerate(order)
        for time in spikes
        if -0.5 <= time - onset[row] < 1.5
    ]
    assert found["row"].values.tolist() == [place for place, _ in expected]
    np.testing.assert_allclose(found["time"], [time for _, time in expected])


def test_raster_takes_the_table_of_a_recording() -> None:
    recording = animal(np.ones((3, 1)), {"start_time": [0.0, 1.0, 2.0], "kind": [1, 0, 1]})
    found = raster({7: [0.5, 1.5]}, recording, 7, "kind", (0.0, 1.0))
    assert found["row"].values.tolist() == [0, 1]
    for wrong, message in ((("kin", 7), "did you mean 'kind'"), (("kind", 8), "unit")):
        with pytest.raises(ReaderError, match=message):
            raster({7: [0.5]}, recording, wrong[1], wrong[0], (0.0, 1.0))
    with pytest.raises(ReaderError, match="window starts before it stops"):
        raster({7: [0.5]}, recording, 7, "kind", (1.0, 1.0))


def test_the_width_of_bins_is_that_of_least_error() -> None:
    rng = np.random.default_rng(2)
    onsets = np.arange(1.0, 61)
    brief = np.concatenate([onsets.repeat(20) + rng.normal(0.4, 0.02, 1200), rng.uniform(0, 62, 200)])
    spikes = {"brief": brief, "steady": rng.uniform(0, 62, 3000), "silent": np.array([])}
    found = bin_width(spikes, {"start_time": [*onsets, np.nan]}, (0.0, 0.8))
    assert found.unit_id.values.tolist() == list(spikes)
    assert found.defined.values.tolist() == [1, 1, 0]
    assert found.bin_width.values[0] < 0.03 < found.bin_width.values[1]
    np.testing.assert_allclose(found.bin_width * found.n_bins, [0.8, 0.8, np.nan])
    # the cost by hand, of 8 bins
    within = np.concatenate([brief[(brief >= on) & (brief < on + 0.8)] - on for on in onsets])
    counts = np.histogram(within, 8, (0, 0.8))[0]
    assert found.n_spikes.values[0] == counts.sum()
    cost = (2 * counts.mean() - counts.var()) / (60 * 0.1) ** 2
    assert float(found.cost.sel(candidate=8)[0]) == pytest.approx(cost)
    assert bin_width(spikes, {"start_time": onsets}, (0.0, 0.8), candidates=[2, 4]).at_end.values[0] == 1
    for more, message in (
        ({"candidates": []}, "candidates are numbers of bins"),
        ({"align": "on"}, "unknown column 'on'"),
    ):
        with pytest.raises(ReaderError, match=message):
            bin_width(spikes, {"start_time": onsets}, (0.0, 0.8), **more)
