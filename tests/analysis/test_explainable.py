"""Indices of designs that an animal was shown: by hand, in any order, of any rows; and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import neuroprobe as npr
from neuroprobe.analysis.populations import populations_of
from neuroprobe.analysis.shown_designs import is_shown, shown_design
from neuroprobe.errors import ReaderError
from neuroprobe.recordings.build import node_of, tree_of
from neuroprobe.recordings.columns import Table
from neuroprobe.recordings.simulated import Simulated, simulate_animal
from neuroprobe.recordings.simulated_design import PickFreezeExperiment, pick_freeze_experiment, planted_units
from neuroprobe.recordings.writing import write_recording
from neuroprobe.report import write_report
from neuroprobe.statistics.cross_repeat import explainable_indices, explainable_shapley, whole_indices
from neuroprobe.summary import status

FACTORS = ["hue", "blur", "noise"]


def shown(factors: list[str], n_samples: int = 32, n_repeats: int = 2) -> tuple[PickFreezeExperiment, Simulated]:
    made = pick_freeze_experiment(factors, n_samples, seed=2)
    units = planted_units(6, factors, seed=2, rate=(80.0, 120.0))
    return made, simulate_animal(units, made.table, n_repeats=n_repeats, n_blanks=5, seed=2)


@pytest.fixture(scope="module")
def three() -> tuple[PickFreezeExperiment, Simulated]:
    return shown(FACTORS)


def test_they_are_the_estimators_on_the_rows(three: tuple[PickFreezeExperiment, Simulated]) -> None:
    made, animal = three
    assert is_shown(animal.tree)
    (one,) = npr.sobol(animal.tree, total_interaction=True).children.values()
    rows = made.of_sobol(made.rows(animal))
    expected, whole = explainable_indices(*rows), whole_indices(*rows)
    found = one.to_dataset()
    assert found.factor.values.tolist() == FACTORS
    for name in ("first_order", "total_order", "second_order", "total_interaction"):
        np.testing.assert_allclose(found[name], getattr(expected, name).value, err_msg=name)
        np.testing.assert_allclose(found[f"{name}_se"], getattr(expected, name).se, err_msg=name)
    np.testing.assert_allclose(found.whole_first_order, whole.first_order.value)
    np.testing.assert_allclose(found.whole_total_order, whole.total_order.value)
    np.testing.assert_allclose(found.variance, expected.variance)
    np.testing.assert_allclose(found.noise_variance, expected.noise)
    np.testing.assert_allclose(found.explainable_variance, expected.explainable)
    assert found.attrs["repetitions"] == 2
    assert found.attrs["variance_of"].startswith("explainable")
    assert found.defined.values.tolist() == [1] * 6
    assert found.unit_id.values.tolist() == [str(n) for n in range(6)]


@pytest.mark.parametrize("n_factors", [3, 5])
def test_shapley_effects_by_all_orders_and_by_walks(n_factors: int) -> None:
    """Of three factors all mixtures were shown; of five the rows of walks, whose order the columns tell."""
    factors = ["hue", "blur", "noise", "size", "hue_2"][:n_factors]
    made, animal = shown(factors, 24)
    found = npr.shapley(animal.tree)["simulated"]
    np.testing.assert_allclose(found["shapley_effect"].sum("factor"), 1)
    assert found.attrs["estimator"] == ("subsets" if n_factors == 3 else "walks")
    order = {name: number for number, name in enumerate(found.factor.values.tolist())}
    walks, permutation = made.of_walks(made.rows(animal))
    if n_factors == 3:
        by_walk = explainable_shapley(walks, permutation)
        away = (found["shapley_effect"].values - by_walk.shapley_effect.value) / by_walk.shapley_effect.se
        assert np.abs(away).max() < 3
        return
    (one,) = populations_of(animal.tree, ())
    design = shown_design(one, factors)
    assert design.order is not None
    # the ends of walks have rows in both orders
    np.testing.assert_array_equal(np.sort(design.order[:, :2]), np.sort(permutation[:, :2]))
    np.testing.assert_array_equal(design.order[:, 2], permutation[:, 2])
    values = one.whole().values
    ours, swaps, _ = design.of_walks(values)
    np.testing.assert_array_equal(ours[[0, 2, 3, 5]], walks[[0, 2, 3, 5]])
    np.testing.assert_allclose(
        found["shapley_effect"].values[[order[name] for name in factors]],
        explainable_shapley(ours, swaps).shapley_effect.value,
    )


def test_rows_that_were_shown_once_give_the_whole_variance() -> None:
    made, animal = shown(FACTORS, 32, 1)
    found = npr.sobol(animal.tree)["simulated"].to_dataset()
    whole = whole_indices(*made.of_sobol(made.rows(animal)))
    np.testing.assert_allclose(found.total_order, whole.total_order.value)
    assert found.attrs["variance_of"].startswith("whole variance")
    assert "noise_variance" not in found
    assert "whole_first_order" not in found


def test_noise_is_in_the_whole_and_not_in_the_explainable() -> None:
    """Means over many units of the same truth, with as much noise as signal."""
    made = pick_freeze_experiment(["hue", "blur"], 64, seed=1)
    rng = np.random.default_rng(0)
    n, table = len(made.table["hue"]), {name: np.tile(column, 2) for name, column in made.table.items()}
    signal = np.sqrt(12) * (made.table["hue"] - 0.5)
    values = np.tile(signal, 2)[:, None] + rng.normal(size=(2 * n, 3000))
    units = Table({"unit_id": np.array([str(number) for number in range(3000)], dtype=object)})
    order = rng.permutation(2 * n)
    columns = {name: column[order] for name, column in table.items()}
    tree = tree_of({"v1": node_of(values[order], Table(columns), units)})
    found = npr.sobol(tree)["v1"].mean("unit", keep_attrs=True)
    np.testing.assert_allclose(found.total_order.sel(factor=["hue", "blur"]), [1, 0], atol=0.03)
    np.testing.assert_allclose(found.whole_total_order.sel(factor=["hue", "blur"]), [1, 0.5], atol=0.03)
    np.testing.assert_allclose(found.whole_first_order.sel(factor=["hue", "blur"]), [0.5, 0], atol=0.03)
    np.testing.assert_allclose(found.second_order.values[[0, 1], [1, 0]], 0, atol=0.03)
    assert float(found.explainable_variance) == pytest.approx(0.5, abs=0.03)
    effects = npr.shapley(tree)["v1"].to_dataset().mean("unit")
    np.testing.assert_allclose(effects.shapley_effect.sel(factor=["hue", "blur"]), [1, 0], atol=0.03)
    np.testing.assert_allclose(effects.whole_shapley_effect.sel(factor=["hue", "blur"]), [0.75, 0.25], atol=0.03)


def test_lost_trials_leave_base_samples_out(three: tuple[PickFreezeExperiment, Simulated]) -> None:
    _, animal = three
    node = animal.tree["responses/simulated"].to_dataset(inherit=False)
    lost = (node["sample"].values == 3) & (node["role"].values == "A_blur")
    once = (node["sample"].values == 7) & (node["repetition"].values == 1)
    some = node.isel(presentation=np.flatnonzero(~lost & ~once))
    tree = xr.DataTree.from_dict({"/": xr.Dataset(attrs=animal.tree.attrs), "/responses/simulated": some})
    found = npr.sobol(tree)["simulated"]
    assert (found.attrs["samples"], found.attrs["samples_left_out"]) == (30, 2)
    kept = node.isel(presentation=np.flatnonzero(~np.isin(node["sample"].values, [3, 7])))
    other = xr.DataTree.from_dict({"/": xr.Dataset(attrs=animal.tree.attrs), "/responses/simulated": kept})
    np.testing.assert_array_equal(found["first_order"], npr.sobol(other)["simulated"]["first_order"])
    # a unit that lacks a trial has no index
    values = some.response.values.astype(float)
    values[np.flatnonzero(some["role"].values == "A")[0], 1] = np.nan
    gone = some.assign(response=(some.response.dims, values, some.response.attrs))
    tree = xr.DataTree.from_dict({"/": xr.Dataset(attrs=animal.tree.attrs), "/responses/simulated": gone})
    assert npr.sobol(tree)["simulated"]["defined"].values.tolist() == [1, 0, 1, 1, 1, 1]


def test_blocks_of_a_protocol(three: tuple[PickFreezeExperiment, Simulated], tmp_path: Path) -> None:
    """Written as NWB, read with a window, analysed, selected and reported."""
    pytest.importorskip("h5py")
    _, animal = three
    write_recording(animal, tmp_path / "animal.nwb")
    subject = {"recording": {"path": str(tmp_path / "animal.nwb"), "window": [0.08, 0.54]}}
    given = {"neuroprobe": 1, "subject": subject, "analyses": ["sobol", "shapley"]}
    result = npr.run(given, tmp_path / "out.zarr")
    read = npr.read_recording(tmp_path / "animal.nwb", window=(0.08, 0.54))
    for name, ask in (("sobol", npr.sobol), ("shapley", npr.shapley)):
        ours, theirs = result[name].children["animal"].to_dataset(), ask(read)["animal"].to_dataset()
        for variable in theirs.data_vars:
            np.testing.assert_array_equal(ours[variable], theirs[variable])
    units = npr.select_units(tmp_path / "out.zarr", "first_order_hue > .2 and sobol_explainable_variance > 0")
    assert 0 < units.sizes["unit"] < 6
    text = str(status(tmp_path / "out.zarr"))
    assert "hue" in text
    write_report(tmp_path / "out.zarr", tmp_path / "out.html")
    page = (tmp_path / "out.html").read_text()
    assert "are shares of the explainable variance" in page
    assert "sobol/animal" in page


def refused(rows: dict[str, Any], factors: list[str] | None = None) -> xr.DataTree:
    n = len(next(iter(rows.values())))
    units = Table({"unit_id": np.array(["u"], dtype=object)})
    columns = {
        name: np.array(column, dtype=object if isinstance(column[0], str) else None) for name, column in rows.items()
    }
    tree = tree_of({"v1": node_of(np.arange(n)[:, None], Table(columns), units)})
    tree.attrs["factors"] = json.dumps(factors or [])
    return tree


def test_what_is_refused() -> None:
    only = refused({"role": ["A", "B", "A_hue"] * 4, "sample": [0] * 6 + [1] * 6})
    with pytest.raises(ReaderError, match="rows A, C are none of a pick-freeze design"):
        npr.sobol(refused({"role": ["A", "C"] * 4, "sample": [0] * 4 + [1] * 4}))
    with pytest.raises(ReaderError, match="of 2 base samples 1 were shown with all rows"):
        npr.sobol(refused({"role": ["A", "B", "A_x", "A", "A"], "sample": [0, 0, 0, 1, 1]}))
    with pytest.raises(ReaderError, match="SALib's formulas"):
        npr.sobol(only, estimator="salib")
    rows = [*("A", "B"), *(f"A_{f}" for f in "vwxyz")]
    with pytest.raises(ReaderError, match="each factor alone from B, and with each alone from A"):
        npr.sobol(refused({"role": rows * 4, "sample": [0] * 14 + [1] * 14}))
    with pytest.raises(ReaderError, match="all mixtures of up to four factors, or the rows of walks"):
        npr.shapley(refused({"role": rows * 4, "sample": [0] * 14 + [1] * 14}))
    walked = ["A", "B", "walk_1", "walk_2", "walk_3", "walk_4"]
    with pytest.raises(ReaderError, match="no column tells the values of v, w, x, y, z"):
        npr.shapley(refused({"role": walked * 4, "sample": [0] * 12 + [1] * 12}, [*"vwxyz"]))
