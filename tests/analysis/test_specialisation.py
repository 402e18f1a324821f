"""Specialisation of maps: planted maps, labels, counts and errors, and what is refused."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy import stats

import neuroprobe as npr
from made_results import make_result
from neuroprobe.errors import ReaderError

FACTORS = ["hue", "blur", "rotation"]
FAST: dict[str, Any] = {"n_permutations": 0}


def planted(layers: dict[str, np.ndarray], factors: Sequence[str] = FACTORS, **values: dict[str, np.ndarray]):
    """A result with these first-order indices (factor, channel, …), and others by name; NaN is undefined."""
    nodes = {}
    for depth, layer in enumerate(layers):
        dims = ("channel", "y", "x")[: layers[layer].ndim - 1]
        held = {"first_order": layers[layer], **{name: arrays[layer] for name, arrays in values.items()}}
        node = xr.Dataset(
            {
                name: (("factor", *dims), array) if array.ndim == len(dims) + 1 else (dims, array)
                for name, array in held.items()
            },
            {"factor": np.array(factors, dtype=object)},
            {"depth": depth},
        )
        nodes[f"sobol/{layer}"] = node.assign(defined=(dims, (~np.isnan(layers[layer]).any(0)).astype(float)))
    return xr.DataTree.from_dict(nodes)


@pytest.fixture(scope="module")
def found() -> xr.DataTree:
    result = make_result({"early": (12, 6, 4), "late": (9,)}, FACTORS, dead=0.2, shapley=True)
    return npr.specialisation(result, n_permutations=9, max_features=6, n_clusters=3)


def test_labels(found: xr.DataTree) -> None:
    assert found["layer"].values.tolist() == ["early", "late"]
    assert found["value"].values.tolist() == ["first_order", "total_order", "shapley_effect"]
    assert found["correlation"].dims == ("layer", "value", "factor", "factor_2")
    assert found["confusion"].dims == ("layer", "value", "normalisation", "factor", "factor_2")
    assert found["channels/early"]["cluster_of"].dims == ("value", "channel")
    for name, array in found.data_vars.items():
        assert array.attrs["long_name"], name
        if name in {"correlation", "mean_correlation", "agreement", "accuracy", "confusion", "cluster_profile"}:
            assert f"{name}_se" in found
            assert "channels" in found[f"{name}_se"].attrs["se_kind"]


def test_every_number_has_its_error(found: xr.DataTree) -> None:
    for name in found.data_vars:
        if f"{name}_se" in found and name != "cluster_profile":
            np.testing.assert_array_equal(np.isnan(found[name]), np.isnan(found[f"{name}_se"]), str(name))


def test_result_can_be_written(found: xr.DataTree, tmp_path) -> None:
    found.to_zarr(tmp_path / "out.zarr", consolidated=False, zarr_format=3)
    with xr.open_datatree(tmp_path / "out.zarr", engine="zarr", consolidated=False) as again:
        np.testing.assert_array_equal(again["correlation"], found["correlation"])


def test_correlations_are_scipys() -> None:
    made = make_result({"early": (24, 3, 2), "late": (20,)}, FACTORS, shapley=True)
    found = npr.specialisation(made, **FAST)
    for layer in ("early", "late"):
        nodes = {"total_order": made["sobol"][layer], "shapley_effect": made["shapley"][layer]}
        total, shapley = (nodes[name][name].values.reshape(3, nodes[name].sizes["channel"], -1) for name in nodes)
        variance, mean = (nodes["total_order"][name].values.reshape(total.shape[1:]) for name in ("variance", "mean"))
        pixels = range(total.shape[2])

        def average(a: np.ndarray, b: np.ndarray, pixels: range = pixels) -> float:
            return float(np.mean([stats.spearmanr(a[:, p], b[:, p], nan_policy="omit").statistic for p in pixels]))

        at = {"layer": layer, "factor": "hue"}
        one = found["correlation"].sel(at | {"factor_2": "rotation", "value": "total_order"})
        assert float(one) == pytest.approx(average(total[0], total[2]))
        between = found["agreement"].sel(at | {"value": "total_order", "value_2": "shapley_effect"})
        assert float(between) == pytest.approx(average(total[0], shapley[0]))
        varied = found["variation_correlation"].sel(at | {"value": "shapley_effect"})
        largest = np.divide(np.sqrt(variance), np.abs(mean), out=np.full(mean.shape, 1e9), where=mean != 0)
        assert float(varied) == pytest.approx(average(shapley[0], np.where(np.isnan(shapley[0]), np.nan, largest)))
        pairs = found["correlation"].sel(layer=layer, value="total_order").values[np.triu_indices(3, 1)]
        assert float(found["mean_correlation"].sel(layer=layer, value="total_order")) == pytest.approx(pairs.mean())
    assert np.isnan(found["agreement"].sel(value="total_order", value_2="total_order")).all()


def test_constant_maps_and_undefined_units_are_counted() -> None:
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(3, 6, 2, 3))
    maps[1, :, 0, 0] = 0.5
    maps[:, :4, 1, 1] = np.nan
    maps[:, 0, 0, 1] = np.nan
    found = npr.specialisation(planted({"conv": maps}), **FAST).isel(layer=0, value=0)
    assert int(found["n_pixels"]) == 6
    np.testing.assert_array_equal(found["correlation_n_constant"], [[0, 1, 0], [1, 1, 1], [0, 1, 0]])
    np.testing.assert_array_equal(found["correlation_n_used"], [[5, 4, 5], [4, 4, 4], [5, 4, 5]])
    expected = [
        stats.spearmanr(*maps[[0, 1], :, y, x], nan_policy="omit").statistic
        for y, x in [(0, 1), (0, 2), (1, 0), (1, 2)]
    ]
    assert float(found["correlation"][0, 1]) == pytest.approx(np.mean(expected))
    assert int(found["n_imputed"]) == 3 * (4 + 1)
    # means and variances are not there
    assert np.isnan(found["variation_correlation"]).all()


def test_a_factor_without_any_effect_leaves_the_others() -> None:
    maps = np.random.default_rng(1).normal(size=(3, 8))
    maps[2] = 0
    found = npr.specialisation(planted({"fc": maps}), **FAST).isel(layer=0, value=0)
    assert np.isnan(found["correlation"][0, 2])
    assert float(found["mean_correlation"]) == pytest.approx(float(found["correlation"][0, 1]))
    assert np.isnan(found["linkage"]).all()


def test_levels_and_shapes_tell_factors_apart() -> None:
    rng = np.random.default_rng(2)
    level = np.array([0.1, 0.5, 0.9])[:, None, None, None] + 0.01 * rng.normal(size=(3, 15, 3, 3))
    shape = rng.uniform(0.1, 1, (1, 15, 1, 1)) * np.eye(9)[:3].reshape(3, 1, 3, 3) + 0.001 * rng.random((3, 15, 3, 3))
    noise = rng.random((3, 15, 3, 3))
    found = npr.specialisation(planted({"level": level, "shape": shape, "noise": noise}), n_permutations=39)
    accuracy = found["accuracy"].isel(value=0)
    assert accuracy.attrs["chance"] == pytest.approx(1 / 3)
    assert (accuracy.sel(layer=["level", "shape"], normalisation="none") > 0.9).all()
    assert float(accuracy.sel(layer="shape", normalisation="unit")) == 1
    assert (accuracy.sel(layer=["level", "noise"], normalisation="unit") < 0.6).all()
    p = found["p_value"].isel(value=0)
    assert float(p.sel(layer="shape", normalisation="unit")) == 1 / 40
    assert (p.sel(layer="noise") > 0.05).all()
    # Benjamini & Yekutieli: 3 layers, of which one or two are found
    assert float(found["p_adjusted"].isel(value=0).sel(layer="shape", normalisation="none")) == pytest.approx(
        1 / 40 * 3 / 2 * (1 + 1 / 2 + 1 / 3)
    )
    confusion = found["confusion"].isel(value=0)
    np.testing.assert_allclose(confusion.sum("factor_2"), 1)
    diagonal = confusion.sel(normalisation="none", layer="noise").values.diagonal()
    assert float(accuracy.sel(layer="noise", normalisation="none")) == pytest.approx(diagonal.mean())


def test_order_of_factors_and_chunks_of_the_store_do_not_matter() -> None:
    maps = np.random.default_rng(3).normal(size=(3, 8, 2, 2))
    one = npr.specialisation(planted({"conv": maps}), n_permutations=3)
    other = npr.specialisation(planted({"conv": maps[::-1]}, FACTORS[::-1]), n_permutations=3)
    np.testing.assert_allclose(one["correlation"], other["correlation"].sel(factor=FACTORS, factor_2=FACTORS))
    xr.testing.assert_identical(
        one.to_dataset(), npr.specialisation(planted({"conv": maps}).chunk(channel=3), n_permutations=3).to_dataset()
    )


def test_few_channels_and_maps_of_one_pixel() -> None:
    rng = np.random.default_rng(4)
    layers = {
        "two": rng.normal(size=(3, 2, 2, 2)),
        "four": rng.normal(size=(3, 4, 1, 1)),
        "fc": rng.normal(size=(3, 9)),
    }
    found = npr.specialisation(planted(layers), n_permutations=2).isel(value=0)
    assert found["n_folds"].values.tolist() == [0, 4, 5]
    assert np.isnan(found["accuracy"].sel(layer="two")).all()
    assert np.isfinite(found["accuracy"].sel(layer=["four", "fc"], normalisation="none")).all()
    assert np.isnan(found["accuracy"].sel(normalisation="unit")).all()
    assert found["n_features"].values.tolist() == [4, 1, 1]
    assert np.isnan(found["correlation"].sel(layer="two")).all()


def test_clusters_are_those_of_planted_profiles() -> None:
    rng = np.random.default_rng(5)
    kind = np.array([0, 1, 1, 2, 1, 2])
    maps = np.eye(3)[:, kind][:, :, None, None] + 0.01 * rng.normal(size=(3, 6, 2, 2))
    maps[:, 5] = np.nan
    found = npr.specialisation(planted({"conv": maps}), n_clusters=3, **FAST)
    of = found["channels/conv"]["cluster_of"].values[0].tolist()
    assert of in ([1, 0, 0, 2, 0, -1], [2, 0, 0, 1, 0, -1])
    assert found["cluster_size"].values.ravel().tolist() == [3, 1, 1]
    largest = np.median(maps[:, [1, 2, 4]].reshape(3, 3, 4), 2).mean(1)
    np.testing.assert_allclose(found["cluster_profile"].values[0, 0, 0], largest)
    none = npr.specialisation(planted({"conv": maps}), n_clusters=0, **FAST)
    assert "cluster_size" not in none
    assert not none.children


def test_tokens_and_chosen_units() -> None:
    made = make_result({"block": (5, 7)}, FACTORS)
    found = npr.specialisation(made, **FAST)
    assert int(found["n_pixels"][0]) == 5
    node = made["sobol/block"].to_dataset()
    units = node.stack(unit=("token", "channel"), create_index=False)
    flat = xr.DataTree.from_dict({"block": units}, name="sobol")
    found = npr.specialisation(flat, **FAST)
    assert int(found["n_pixels"][0]) == 1
    assert found["channels/block"]["cluster_of"].dims == ("value", "unit")


def test_values_and_layers_are_chosen(found: xr.DataTree) -> None:
    made = make_result({"early": (12, 6, 4), "late": (9,)}, FACTORS, dead=0.2, shapley=True)
    one = npr.specialisation(made, layers=["late"], values=["shapley_effect"], n_permutations=0, n_clusters=0)
    assert one["layer"].values.tolist() == ["late"]
    at = {"layer": ["late"], "value": ["shapley_effect"]}
    np.testing.assert_allclose(one["correlation"], found["correlation"].sel(at))
    assert "p_value" not in one


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": ["erly"]}, r"unknown layer 'erly' \(did you mean 'early'\?\)"),
        ({"layers": []}, "layers: received none, expected some of early, late"),
        ({"values": ["second_order"]}, "unknown value 'second_order'.*known: first_order, total_order, shapley_effect"),
        ({"values": ["shapley_effect"]}, "has no index 'shapley_effect'; it has: first_order"),
        ({"layers": "lat"}, r"unknown layer 'lat' \(did you mean 'late'\?\)"),
        ({"values": "first"}, "unknown value 'first'"),
        ({"n_folds": 1}, "n_folds: received 1, expected 2 or more"),
        ({"n_folds": 4}, "layer 'early' has 3 channels.*too few for n_folds=4.*give n_folds=3"),
        ({"n_folds": 2}, "layer 'early' has 3 channels.*too few for n_folds=2.*give n_folds=3"),
        ({"n_folds": 10, "layers": ["late"]}, "layer 'late' has 3 channels with a defined unit.*; give n_folds=3"),
        ({"n_permutations": -1}, "n_permutations: received -1, expected 0 or more"),
        ({"max_features": 0}, "max_features: received 0, expected 1 or more"),
        ({"n_clusters": -1}, "n_clusters: received -1"),
    ],
)
def test_what_is_wrong_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ReaderError, match=message):
        npr.specialisation(make_result(), **options)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (make_result(factors=["hue"]), r"of one factor \(hue\)"),
        (make_result()["stimuli"], r"no indices in this tree.*`analyses: \[sobol\]`"),
        (planted({"wide": np.zeros((3, 10_001))}), "'wide' has 10,001 channels.*n_clusters=0"),
        (
            xr.DataTree.from_dict(
                {
                    "sobol": make_result(sobol=True)["sobol"],
                    "shapley": make_result(factors=FACTORS, shapley=True)["shapley"],
                }
            ),
            "layer 'early' has maps of the factors hue, blur, rotation, others of hue, rotation",
        ),
    ],
)
def test_results_that_cannot_be_asked(result: xr.DataTree, message: str) -> None:
    with pytest.raises(ReaderError, match=message):
        npr.specialisation(result)


def test_nothing_is_defined() -> None:
    found = npr.specialisation(make_result(factors=FACTORS, dead=1.0), n_permutations=2)
    assert np.isnan(found["correlation"]).all()
    assert np.isnan(found["p_adjusted"]).all()
    assert not found["cluster_size"].any()
