"""Numbers of selectivity that pictures and tables show, against what is counted by hand."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from made_selectivity_pictures import DEAD, made_selectivity, with_values, without
from neuroprobe.analysis import selectivity_overview as overview
from neuroprobe.errors import ReaderError

LAYERS = ["stage1", "stage2", "linear"]


@pytest.fixture(scope="module")
def result() -> xr.DataTree:
    return made_selectivity()


def test_layers_come_in_the_order_of_recording(result: xr.DataTree) -> None:
    assert list(result["selectivity"].children) != sorted(LAYERS)
    stored = xr.DataTree.from_dict(
        {f"selectivity/{n}": result[f"selectivity/{n}"].to_dataset() for n in sorted(LAYERS)}
    )
    assert overview.selectivity_layers(stored) == LAYERS


def test_quantiles_are_of_the_defined_units(result: xr.DataTree) -> None:
    found = overview.layer_quantiles(result, "colour")
    for layer in LAYERS:
        node = result[f"selectivity/{layer}"].to_dataset()
        for name in ("colour", "colour_sham", "colour_corrected"):
            alive = np.delete(node[name].values, DEAD)
            np.testing.assert_allclose(found[name].sel(layer=layer), np.quantile(alive, overview.QUANTILES))
        p = np.delete(node["colour_p_adjusted"].values, DEAD)
        assert float(found["significant"].sel(layer=layer)) == (p < 0.05).mean()
    assert set(found.data_vars) == {
        *("colour", "colour_sham", "colour_corrected", "n_units", "n_defined", "n_undefined"),
        *("significant", "n_tested"),
    }
    for name, n in (("n_units", 12), ("n_defined", 11), ("n_undefined", 1), ("n_tested", 11)):
        assert set(found[name].values.tolist()) == {n}
    gamma = overview.layer_quantiles(result, "gamma", q=(0.5,))
    np.testing.assert_allclose(gamma["gamma_chance"].values[:, 0], result["selectivity/linear"]["gamma_chance"][0])
    assert "significant" not in overview.layer_quantiles(result, "entropy")


def test_nothing_is_made_up_where_no_unit_is_defined() -> None:
    made = made_selectivity(dead=range(12))
    for index in ("colour", "gamma"):
        found = overview.layer_quantiles(made, index)
        assert found[index].isnull().all()
        assert found["significant"].isnull().all()
        assert found["n_defined"].values.tolist() == [0, 0, 0]
        shares = overview.layer_shares(made, index)
        assert shares["share"].isnull().all()
        assert shares["outside"].isnull().all()
    assert overview.index_correlations(made, "colour", "gamma")["correlation"].isnull().all()
    assert overview.layer_facts(made)["n_silent"].values.tolist() == [12, 12, 12]


def test_an_index_may_be_missing_in_a_layer(result: xr.DataTree) -> None:
    made = without(result, "linear", "shape", "shape_corrected", "shape_p_adjusted")
    found = overview.layer_quantiles(made, "shape")
    assert found["n_undefined"].values.tolist() == [1, 1, 12]
    assert found["shape"].sel(layer="linear").isnull().all()
    assert found["n_tested"].values.tolist() == [11, 11, 0]
    assert np.isnan(found["significant"].values[-1])
    assert overview.layer_shares(made, "shape")["share"].sel(layer="linear").isnull().all()
    with pytest.raises(ReaderError, match=r"unknown index 'colur' .did you mean 'colour'"):
        overview.layer_quantiles(made, "colur")


def test_bins_hold_their_lower_end_and_the_last_one_both(result: xr.DataTree) -> None:
    values = [0.0, 0.1, 1 - 0.7, 0.1 + 0.2, 0.35, 0.999, 1.0, -0.02, 1.3, np.nan, np.nan, 0.5]
    made = with_values(result, "stage2", colour=values)
    found = overview.layer_shares(made, "colour").sel(layer="stage2")
    np.testing.assert_allclose(10 * found["share"], [1, 1, 0, 3, 0, 1, 0, 0, 0, 2])
    np.testing.assert_allclose(10 * found["outside"], [1, 1])
    assert found["side"].values.tolist() == ["below", "above"]
    assert (int(found["n_undefined"]), int(found["n_defined"])) == (2, 10)
    np.testing.assert_allclose(found["bin_start"], np.arange(10) / 10)
    np.testing.assert_allclose(found["bin_end"], np.arange(1, 11) / 10)


@pytest.mark.parametrize(("bins", "between"), [(10, (0.0, 1.0)), (4, (-1.0, 1.0)), (1, (0.2, 0.3))])
def test_shares_and_what_lies_outside_are_all(result: xr.DataTree, bins: int, between: tuple[float, float]) -> None:
    for index in ("colour", "gamma", "entropy"):
        found = overview.layer_shares(result, index, bins, between)
        assert found.sizes["bin"] == bins
        np.testing.assert_allclose(found["share"].sum("bin") + found["outside"].sum("side"), 1)


@pytest.mark.parametrize(("bins", "between"), [(0, (0.0, 1.0)), (10, (1.0, 1.0))])
def test_no_bins_are_refused(result: xr.DataTree, bins: int, between: tuple[float, float]) -> None:
    with pytest.raises(ReaderError, match="expected 1 or more over a range"):
        overview.layer_shares(result, "colour", bins, between)


def test_correlations_are_over_units_with_both(result: xr.DataTree) -> None:
    found = overview.index_correlations(result, "colour", "gamma")
    for layer in LAYERS:
        node = result[f"selectivity/{layer}"].to_dataset()
        colour, gamma = (stats.rankdata(np.delete(node[name].values, DEAD)) for name in ("colour", "gamma"))
        assert float(found["correlation"].sel(layer=layer)) == pytest.approx(np.corrcoef(colour, gamma)[0, 1])
    assert found["n_defined"].values.tolist() == [11, 11, 11]
    mine = overview.index_correlations(result, "colour", "colour")
    np.testing.assert_allclose(mine["correlation"], 1)
    assert (mine["p_value"] < 1e-6).all()


@pytest.mark.parametrize("values", [[0.2, 0.4, *[np.nan] * 10], [0.5] * 12])
def test_correlations_of_nothing_are_undefined(result: xr.DataTree, values: list[float]) -> None:
    made = with_values(result, "stage1", colour=values)
    found = overview.index_correlations(made, "colour", "gamma").sel(layer="stage1")
    assert np.isnan(found["correlation"])
    assert np.isnan(found["p_value"])


def with_shorter(result: xr.DataTree) -> xr.DataTree:
    """A result whose colour index is known of lists of 3 and of 5 of the 10 stimuli, in two of three layers."""
    made, rng = result.copy(), np.random.default_rng(5)
    for layer in ("stage1", "stage2"):
        node = made[f"selectivity/{layer}"].to_dataset()
        whole = node["colour"].values
        shorter = np.stack([whole + rng.normal(0.1, 0.3, whole.shape), np.exp(whole), whole])
        node = node.drop_dims("n_kept").assign(colour_by_n=(("n_kept", "channel"), shorter))
        made[f"selectivity/{layer}"] = xr.DataTree(node.assign_coords(n_kept=np.array(["3", "5", "10"], dtype=object)))
    return made


def test_shorter_lists_are_compared_with_whole_ones(result: xr.DataTree) -> None:
    made = with_shorter(result)
    found = overview.index_stability(made, "colour")
    assert found["layer"].values.tolist() == ["stage1", "stage2"]
    assert found["n_kept"].values.tolist() == ["3", "5"]
    np.testing.assert_allclose(found["correlation"].sel(n_kept="5"), 1)  # of the same order
    alive = np.delete(np.arange(12), DEAD)
    for layer in ("stage1", "stage2"):
        few, _, whole = made[f"selectivity/{layer}/colour_by_n"].values[:, alive]
        at = found.sel(layer=layer, n_kept="3")
        assert at["correlation"].item() == pytest.approx(stats.spearmanr(few, whole)[0])
        assert at["difference"].item() == pytest.approx(np.median(few - whole))
        assert at["n_defined"].item() == len(alive)
    with pytest.raises(ReaderError, match="no index 'shape' of shorter lists in this result"):
        overview.index_stability(made, "shape")


def test_significant_units(result: xr.DataTree) -> None:
    node = result["selectivity/stage1"].to_dataset()
    clear = {name: node[f"{name}_p_adjusted"].values < 0.05 for name in ("colour", "gamma")}
    np.testing.assert_array_equal(overview.significant(result, "stage1", "colour"), clear["colour"])
    both = overview.significant(result, "stage1", "colour", "gamma", "entropy")
    np.testing.assert_array_equal(both, clear["colour"] & clear["gamma"])
    assert overview.significant(result, "stage1", "entropy") is None


def test_main_indexes_are_those_of_alterations_and_of_labels(result: xr.DataTree) -> None:
    altered = {"colour", "orientation", "symmetry", "shape", "spatial_frequency", "contrast"}
    found = overview.main_indexes(result)
    assert set(found) == {*altered, *(name for name in found if name.endswith("gamma"))}
    assert "gamma" in found
    assert not {"gamma_chance", "gamma_corrected", "gamma_p_adjusted", "colour_sham"} & set(found)


@pytest.mark.parametrize(("draws", "p", "can_be"), [(19, 0.05, False), (20, 1 / 21, True), (None, np.nan, True)])
def test_draws_bound_p_values(result: xr.DataTree, draws: int | None, p: float, can_be: bool) -> None:
    made = result.copy(deep=True)
    if draws is not None:
        made["selectivity/stage1/colour_p_value"].attrs["draws"] = draws
    np.testing.assert_allclose(overview.least_p(made, "colour"), p)
    assert overview.can_be_significant(made, "colour") == can_be


def test_facts(result: xr.DataTree) -> None:
    found = overview.layer_facts(result)
    assert found["whole_image"].values.tolist() == [False, False, True]
    assert found["field"].values.tolist() == ["7 × 7", "13 × 13", "24 × 24"]
    assert found["n_silent"].values.tolist() == [1, 1, 1]
    assert found["why"].values[-1] == "a linear layer sees the whole image"


def test_what_is_not_there_is_named(result: xr.DataTree) -> None:
    with pytest.raises(ReaderError, match=r"no group 'selectivity'.*analyses: .selectivity"):
        overview.selectivity_layers(xr.DataTree.from_dict({"sobol": None}))
    with pytest.raises(ReaderError, match=r"unknown layer 'stage3' .did you mean 'stage"):
        overview.selectivity_of(result, "stage3")
