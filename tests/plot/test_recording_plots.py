"""Pictures of recordings: they show what was planted, and say so where there is nothing."""

from __future__ import annotations

import holoviews as hv
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

import neuroprobe as npr
from made_animals import animal, network, trials
from neuroprobe.analysis.spike_trains import psth
from neuroprobe.errors import ReaderError
from neuroprobe.plot.style import png
from neuroprobe.recordings.build import node_of, tree_of
from neuroprobe.recordings.columns import Table

ONSETS = np.arange(6) * 10.0
KIND = np.array([*"bababa"], dtype=object)


@pytest.fixture(scope="module")
def recording() -> xr.DataTree:
    values, order, _, _ = trials()
    # the last unit is silent
    values[:, -1] = 0
    made = animal(values, {"orientation": order * 22.5})
    region = np.array(["V1"] * 7 + ["V2"] * 5, dtype=object)
    made["responses/v1"] = xr.DataTree(made["responses/v1"].to_dataset().assign_coords(region=("unit", region)))
    return made


@pytest.fixture(scope="module")
def tuned(recording: xr.DataTree) -> xr.Dataset:
    return npr.tuning(recording, "orientation", model="von_mises", n_draws=0)


def of_kind(picture: hv.Overlay, kind: type) -> list:
    return [element for element in picture if type(element) is kind]  # an Area is a Curve too


def title(element: hv.Dimensioned) -> str:
    return str(hv.Store.lookup_options("matplotlib", element, "plot").kwargs["title"])


def test_raster_shows_each_spike_in_its_row() -> None:
    spikes = {"u": np.concatenate([ONSETS + 0.1 * np.arange(6), [3.0]])}
    picture = npr.plot.raster(spikes, {"start_time": ONSETS, "kind": KIND}, "u", "kind", stimulus=(0.0, 0.4))
    (band,) = of_kind(picture, hv.Rectangles)
    assert [band.dimension_values(i)[0] for i in (0, 2)] == [0.0, 0.4]
    strokes = {one.label: one for one in of_kind(picture, hv.Segments) if one.label}
    assert list(strokes) == ["a", "b"]
    # presentations 1, 3, 5 are of a, and stand above
    for label, first in (("a", 1), ("b", 0)):
        x, low, _, high = (strokes[label].dimension_values(i) for i in range(4))
        np.testing.assert_allclose(x, 0.1 * np.arange(first, 6, 2))
        np.testing.assert_allclose((low + high) / 2, [5, 4, 3] if label == "a" else [2, 1, 0])
    assert title(picture) == "unit u: 6 presentations by kind, 6 spikes"
    png(picture, 50)
    silent = npr.plot.raster({"u": []}, {"start_time": ONSETS, "kind": KIND}, "u", "kind")
    assert title(silent).endswith(", 0 spikes")
    png(silent, 50)


def test_psth_shows_rates_with_errors() -> None:
    edges = np.linspace(0, 0.4, 5)
    counts = np.zeros((6, 2, 4))
    counts[KIND == "a", 0, 2] = [1, 2, 3]
    bins = np.stack([edges[:-1], edges[1:]], axis=1)
    units = Table({"unit_id": np.array(["u", "v"], dtype=object)})
    node = node_of(counts, Table({"kind": KIND}), units, attrs={"units": "spikes"}, bins=bins)
    found = psth(tree_of({"v1": node}), "kind")
    picture = npr.plot.psth(found, "u", stimulus=(0.1, 0.3))
    curves = {one.label: one for one in of_kind(picture, hv.Curve)}
    assert list(curves) == ["a (n 3)", "b (n 3)"]
    np.testing.assert_allclose(curves["a (n 3)"].dimension_values("rate"), [0, 0, 20, 0])
    np.testing.assert_allclose(curves["b (n 3)"].dimension_values("rate"), 0)
    low, high = (of_kind(picture, hv.Area)[0].dimension_values(i) for i in (1, 2))
    np.testing.assert_allclose((high - low)[2] / 2, 10 / np.sqrt(3))
    assert "in bins of 100 ms" in title(picture)
    assert "σ 50 ms" in title(npr.plot.psth(psth(tree_of({"v1": node}), "kind", sigma=0.05), "u"))
    png(npr.plot.psth(found, "v"), 50)
    with pytest.raises(ReaderError, match="unit"):
        npr.plot.psth(found, "w")


def test_tuning_curves_are_means_errors_and_fits(tuned: xr.Dataset) -> None:
    picture = npr.plot.tuning_curves(tuned, units=["u3", "u0"])
    assert len(picture) == 2
    for panel, unit in zip(picture, (3, 0), strict=True):
        one = tuned.isel(unit=unit)
        (points,), (bars,), (fit,) = (of_kind(panel, kind) for kind in (hv.Scatter, hv.ErrorBars, hv.Curve))
        x, y = (points.dimension_values(i) for i in range(2))
        # angles go round
        np.testing.assert_allclose(x, [*np.arange(8) * 22.5, 180])
        np.testing.assert_allclose(y, [*one["tuning_curve"].values, one["tuning_curve"].values[0]])
        np.testing.assert_allclose(bars.dimension_values(2)[:8], one["tuning_curve_se"])
        np.testing.assert_allclose(fit.dimension_values(1)[:8], one["von_mises_curve"])
        assert f"R² {float(one['von_mises_r_squared']):.3g}" in title(panel)
        assert f"preferred {float(one['von_mises_preferred']):.3g}" in title(panel)
        assert title(panel).startswith(f"u{unit} (V1)\n")
    png(picture, 50)


def test_best_units_come_first_and_a_silent_unit_breaks_nothing(tuned: xr.Dataset) -> None:
    picture = npr.plot.tuning_curves(tuned, n_units=12)
    drawn = [title(panel).split()[0] for panel in picture]
    assert sorted(drawn) == sorted(tuned["unit_id"].values)
    assert drawn[-1] == "u11"
    last = picture.values()[-1]
    assert not of_kind(last, hv.Curve)
    assert "R² –, preferred –" in title(last)
    png(picture, 50)
    for wrong, message in (({"units": ["none"]}, "unit"), ({"units": []}, "1 to 24 units"), ({"n_units": 0}, "1 to")):
        with pytest.raises(ReaderError, match=message):
            npr.plot.tuning_curves(tuned, **wrong)


def test_conditions_that_are_text(recording: xr.DataTree) -> None:
    values, order, _, _ = trials()
    made = animal(values, {"kind": np.array([*"abcdefgh"], dtype=object)[order]})
    found = npr.tuning(made, "kind")
    picture = npr.plot.tuning_curves(found, units=["u0"])
    (panel,) = picture
    np.testing.assert_allclose(of_kind(panel, hv.Scatter)[0].dimension_values(1), found["tuning_curve"].isel(unit=0))
    assert f"preferred {found['preferred'].values[0]}" in title(panel)
    png(picture, 50)


def test_distributions_by_region_tell_significant_units_apart(tuned: xr.Dataset) -> None:
    p = np.array([0.01] * 3 + [0.5] * 8 + [np.nan])
    found = tuned.assign(orientation_p_adjusted=("unit", p))
    picture = npr.plot.unit_distributions(found, ["osi"], bins=10)
    assert [title(panel).split("\n")[0] for panel in picture] == ["V1: n 7", "V2: n 4, 1 undefined"]
    for panel, (units, n_passed) in zip(picture, ((slice(0, 7), 3), (slice(7, 11), 0)), strict=True):
        every, passed = of_kind(panel, hv.Histogram)
        expected = np.histogram(found["osi"].values[units], np.linspace(0, 1, 11))[0]
        np.testing.assert_array_equal(every.dimension_values(1), expected)
        assert passed.dimension_values(1).sum() == n_passed
        (line,) = of_kind(panel, hv.Segments)
        np.testing.assert_allclose(line.dimension_values(0), np.median(found["osi"].values[units]))
    png(picture, 50)
    with pytest.raises(ReaderError, match="no measure to draw"):
        npr.plot.unit_distributions(tuned[["tuning_curve"]])


def test_measures_that_are_drawn_by_themselves(tuned: xr.Dataset) -> None:
    picture = npr.plot.unit_distributions(tuned)
    measures = ["orientation_length", "osi", "preferred_orientation", "von_mises_r_squared"]
    assert [str(of_kind(panel, hv.Histogram)[0].kdims[0]) for panel in picture] == 2 * measures


def test_reliability_of_what_was_planted(recording: xr.DataTree) -> None:
    found = npr.reliability(recording, "orientation", n_splits=10)
    picture = npr.plot.reliability(found, by=None, bins=10)
    panels = list(picture)
    assert len(panels) == 4
    at = np.histogram(found["explainable_variance"].values[:-1], np.linspace(0, 1, 11))[0]
    (drawn,) = of_kind(panels[1], hv.Histogram)
    np.testing.assert_array_equal(drawn.dimension_values(1), at)
    assert title(panels[1]).startswith("all units: n 11, 1 undefined")
    assert title(picture) == "Reliability of units"
    png(picture, 50)
    assert not plt.get_fignums()


def test_units_of_networks_are_called_by_layer_channel_and_place() -> None:
    values, condition, *_ = trials()
    tuned = npr.tuning(network(values, {"orientation": condition * 22.5}, (3, 2, 2)), "orientation")
    picture = npr.plot.tuning_curves(tuned, units=["v1/2/0/1"])
    curve = next(iter(next(iter(picture)).traverse(lambda one: one, [hv.Scatter, hv.Points, hv.Curve])))
    np.testing.assert_allclose(curve.dimension_values(1)[:8], tuned["tuning_curve"].values[:, 9])
    png(npr.plot.tuning_curves(tuned, n_units=2), 50)
