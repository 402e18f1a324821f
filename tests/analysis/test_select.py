"""Selections of units against brute force in pandas, of real and of made results; what is read, what is refused."""

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import neuroprobe as npr
from neuroprobe.analysis.select import list_columns
from neuroprobe.errors import QueryError, ReaderError, StoreError
from neuroprobe.export import export_netcdf
from neuroprobe.store import quiet_zarr

FACTORS = np.array(["grayscale", "hue", "rotation"], dtype=object)
SHAPES = {"conv6": {"channel": 112, "y": 2, "x": 2}, "linear": {"channel": 10}}
UNIT_DIMS = ("token", "channel", "y", "x")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("select") / "out.zarr"
    protocol: dict[str, Any] = {
        "neuroprobe": 1,
        "subject": {"network": "embedded", "layers": ["linear", "conv6"]},
        "stimuli": {"images": {"photographs": {"per_image": 2}, "size": 16}},
        "treatment": {
            "reference_side": "image",
            "alterations": [{"name": str(name), "switch": 0.5} for name in FACTORS],
        },
        "design": {"samples": 128},
        "record": {"batch": 64, "store": {"responses": ["linear"]}},
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # so few images and samples
        npr.run(protocol, path)
    return path


@pytest.fixture(scope="module")
def brute(store: Path) -> pd.DataFrame:
    """Every unit in a row, one number at a time."""
    return rows_of(npr.open_result(store)["sobol"], ["linear", "conv6"])


def rows_of(group: xr.DataTree, layers: list[str]) -> pd.DataFrame:
    records = []
    for layer in layers:
        node = group[layer].to_dataset().load()
        sizes = {dim: node.sizes[dim] for dim in UNIT_DIMS if dim in node.dims}
        for place in np.ndindex(*sizes.values()):
            at = dict(zip(sizes, place, strict=True))
            record = {"layer": layer, **{dim: at.get(dim, np.nan) for dim in ("channel", "y", "x")}}
            for name, array in node.data_vars.items():
                unit = array.variable.isel(at)
                for label in np.ndindex(*unit.shape):
                    factors = [str(node["factor"].values[position]) for position in label]
                    record["_".join([str(name).replace("shapley_effect", "shapley"), *factors])] = unit[label].item()
            records.append(record)
    return pd.DataFrame(records)


QUERIES: dict[str, Callable[[pd.DataFrame], Any]] = {
    "layer == 'conv6' and total_order_hue > 0.3": lambda t: (t.layer == "conv6") & (t.total_order_hue > 0.3),
    "first_order_hue > 2 * first_order_se_hue": lambda t: t.first_order_hue > 2 * t.first_order_se_hue,
    "not first_order_hue > 2 * first_order_se_hue": lambda t: t.first_order_hue <= 2 * t.first_order_se_hue,
    "defined == 0": lambda t: t.defined == 0,
    "not (total_order_hue > 0.3) or layer == 'linear'": lambda t: (t.total_order_hue <= 0.3) | (t.layer == "linear"),
    "0.1 < total_order_rotation <= 0.5": lambda t: t.total_order_rotation.between(0.1, 0.5, inclusive="right"),
    "channel in [0, 3, 111] and layer != 'linear'": lambda t: t.channel.isin([0, 3, 111]) & (t.layer != "linear"),
    "channel not in [0, 3, 111]": lambda t: ~t.channel.isin([0, 3, 111]),
    "y == 1 and x < 1": lambda t: (t.y == 1) & (t.x < 1),
    "not y == 1": lambda t: (t.y != 1) & t.y.notna(),
    "second_order_hue_rotation > 0.01": lambda t: t.second_order_hue_rotation > 0.01,
    "second_order_rotation_hue > 0.01": lambda t: t.second_order_rotation_hue > 0.01,
    "abs(mean) / variance > 1 and activity_rate >= 0.5": lambda t: (
        (t["mean"].abs() / t.variance.replace(0, np.nan) > 1) & (t.activity_rate >= 0.5)
    ),
    "mean > 1e9": lambda t: t["mean"] > 1e9,
    "true": lambda t: t.layer.notna(),
}


@pytest.mark.parametrize("query", QUERIES)
def test_queries_of_a_real_result(store: Path, brute: pd.DataFrame, query: str) -> None:
    units = npr.select_units(npr.open_result(store), query)
    expected = brute[QUERIES[query](brute)].reset_index(drop=True)
    assert units.attrs["n_units"] == len(brute) == 458
    assert units.attrs["n_selected"] == units.sizes["unit"] == len(expected)
    found = units.to_dataframe().reset_index(drop=True)
    pd.testing.assert_frame_equal(found, expected[found.columns], check_dtype=False)
    # the queries tell units apart
    assert 0 < len(expected) < len(brute) or query in {"mean > 1e9", "true"}


def test_what_is_shown(store: Path, brute: pd.DataFrame) -> None:
    result = npr.open_result(store)
    places = ["layer", "channel", "y", "x"]
    units = npr.select_units(result, "total_order_hue > 0.3 and y == 1", order_by="second_order_rotation_hue")
    columns = ["total_order_hue", "total_order_se_hue", "second_order_rotation_hue", "second_order_se_rotation_hue"]
    assert list(units.coords) == places
    assert list(units.data_vars) == columns
    assert list(units.to_dataframe()) == [*places, *columns]
    attrs = units["second_order_se_rotation_hue"].attrs
    assert attrs["long_name"].startswith("standard error of: second-order Sobol index")
    assert (attrs["factor"], attrs["factor_2"], attrs["se_scope"]) == ("rotation", "hue", "these images")
    assert units.attrs["neuroprobe_provenance"] == result.attrs["neuroprobe_provenance"]
    # all columns where no variable is named, pairs in one order
    everything = npr.select_units(result, "layer == 'linear'")
    against_order = [(one, other) for i, one in enumerate(FACTORS) for other in FACTORS[: i + 1]]
    left_out = {f"second_order{se}_{one}_{other}" for se in ("", "_se") for one, other in against_order}
    assert set(everything.variables) == set(brute) - left_out
    assert list(everything.variables) == [row["name"] for row in list_columns(store)]
    # what is asked for, and in that order
    units = npr.select_units(result, "mean > 0", columns=["x", "variance", "layer", "x"], order_by="channel")
    assert list(units.to_dataframe()) == ["x", "variance", "layer"]
    assert list(npr.select_units(result, "mean > 0", columns="variance").variables) == ["variance"]


@pytest.mark.parametrize("ascending", [False, True])
@pytest.mark.parametrize("column", ["total_order_hue", "channel", "y", "layer"])
@pytest.mark.parametrize("limit", [None, 0, 7, 10_000])
def test_order_and_limit(store: Path, brute: pd.DataFrame, column: str, ascending: bool, limit: int | None) -> None:
    units = npr.select_units(store, columns=[column, "mean"], order_by=column, ascending=ascending, limit=limit)
    expected = brute.sort_values(column, ascending=ascending, kind="stable", na_position="last")[:limit]
    np.testing.assert_array_equal(units["mean"].values, expected["mean"].values)
    assert units.attrs["n_selected"] == len(brute)


def test_layers_stay_in_the_order_of_recording(store: Path) -> None:
    """Not in that of their names, in which zarr has them."""
    assert pd.unique(npr.select_units(store, "mean > 0")["layer"].values).tolist() == ["linear", "conv6"]


def test_nothing_selected_is_an_empty_table(store: Path) -> None:
    for query in ("mean > 1e9", "layer == 'conv7'", "false"):
        units = npr.select_units(store, query, columns=["layer", "channel", "mean"], order_by="mean", limit=3)
        assert units.sizes == {"unit": 0}
        assert list(units.to_dataframe()) == ["layer", "channel", "mean"]
        assert (units.attrs["n_selected"], units.attrs["n_units"]) == (0, 458)


def test_sources_give_the_same(store: Path, tmp_path: Path) -> None:
    query = "total_order_hue > 0.3 and layer != 'linear'"
    expected = npr.select_units(store, query)
    export_netcdf(store, tmp_path / "out.nc")
    exported = xr.open_datatree(tmp_path / "out.nc")
    result = npr.open_result(store)
    for source in (str(store), result, result.load(), result["sobol"], tmp_path / "out.nc", exported):
        assert npr.select_units(source, query).drop_attrs(deep=False).identical(expected.drop_attrs(deep=False))
    layer = npr.select_units(result["sobol/conv6"], query)
    assert layer["total_order_hue"].identical(expected["total_order_hue"])
    alone = npr.select_units(result["sobol/conv6"].to_dataset(), "total_order_hue > 0.3")
    np.testing.assert_array_equal(alone["total_order_hue"], expected["total_order_hue"])
    exported.close()


def test_recordings_have_units_too(store: Path) -> None:
    recording = npr.open_recording(store)
    units = npr.select_units(recording, "channel > 7")
    assert list(units.variables) == ["layer", "channel"]
    assert units["channel"].values.tolist() == [8, 9]
    analysed = npr.select_units(npr.sobol(recording), "channel > 7 and total_order_hue > -1")
    stored = npr.select_units(store, "channel > 7 and layer == 'linear' and total_order_hue > -1")
    np.testing.assert_allclose(analysed["total_order_hue"], stored["total_order_hue"])


def spoil(path: Path, kept: set[str]) -> None:
    """Make the chunks of all arrays unreadable, but for some, and for labels."""
    for array in path.glob("sobol/*/*"):
        if array.name not in {"factor", "factor_2"} and f"{array.parent.name}/{array.name}" not in kept:
            for file in array.glob("c/**/*"):
                if file.is_file():
                    file.write_bytes(b"not to be read")


def test_only_what_is_needed_is_read(store: Path, tmp_path: Path) -> None:
    query = "total_order_hue > 0.3 and layer == 'conv6' and not y == 1"
    expected = npr.select_units(store, query)
    copied = shutil.copytree(store, tmp_path / "out.zarr")
    spoil(copied, {"conv6/total_order", "conv6/total_order_se"})
    assert npr.select_units(copied, query).identical(expected)
    assert npr.select_units(copied, "layer == 'linear'", columns=["channel"]).sizes == {"unit": 10}
    # nothing is shown of layers without a unit
    assert not npr.select_units(copied, "layer == 'conv6' and total_order_hue > 1e9", columns="mean").sizes["unit"]
    for other in ("total_order_hue > 0.3", "layer == 'conv6' and mean > 0"):
        with pytest.raises(StoreError, match="its data are damaged"):
            npr.select_units(copied, other)


def layer(seed: int, dims: dict[str, int], depth: int, *variables: str, **coords: Any) -> xr.Dataset:
    rng, shape = np.random.default_rng(seed), tuple(dims.values())
    data: dict[str, Any] = {}
    for name in variables:
        leading = {"second_order": 2, "first_order": 1, "shapley_effect": 1, "shapley_effect_se": 1}.get(name, 0)
        data[name] = (["factor", "factor_2"][:leading] + list(dims), rng.random((3,) * leading + shape))
    return xr.Dataset(data, {"factor": FACTORS, "factor_2": FACTORS, **coords}, {"depth": depth})


@pytest.fixture
def several() -> xr.DataTree:
    """Two analyses of the same units and one of channels; a layer of tokens."""
    conv, tokens, fc = {"channel": 4, "y": 3, "x": 2}, {"token": 3, "channel": 4}, {"channel": 5}
    return xr.DataTree.from_dict(
        {
            "/sobol/conv": layer(0, conv, 0, "mean", "first_order", channel=[3, 1, 0, 2]),
            "/sobol/block": layer(1, tokens, 1, "mean", "first_order"),
            "/sobol/fc": layer(2, fc, 2, "mean", "first_order"),
            "/shapley/conv": layer(3, conv, 0, "mean", "shapley_effect", "shapley_effect_se", channel=[3, 1, 0, 2]),
            "/shapley/fc": layer(4, fc, 2, "mean", "shapley_effect", "shapley_effect_se"),
            "/selectivity/conv": layer(5, {"channel": 4}, 0, "colour", channel=[3, 1, 0, 2]),
            "/convergence/sobol": xr.Dataset({"median": (("samples", "layer"), [[1.0]])}),
        }
    )


def test_columns_of_several_analyses_stand_side_by_side(several: xr.DataTree) -> None:
    units = npr.select_units(several, "first_order_hue > 0.5 and shapley_hue < 0.5").to_dataframe()
    both = rows_of(several["sobol"], ["conv", "fc"]).merge(
        rows_of(several["shapley"], ["conv", "fc"]), on=["layer", "channel", "y", "x"]
    )
    expected = both[(both.first_order_hue > 0.5) & (both.shapley_hue < 0.5)]
    assert list(units) == ["layer", "channel", "y", "x", "token", "first_order_hue", "shapley_hue", "shapley_se_hue"]
    np.testing.assert_array_equal(units["shapley_hue"], expected["shapley_hue"])
    # channels are called by their own numbers
    assert units["channel"][:1].tolist() == [[3, 1, 0, 2][int(expected["channel"].iloc[0])]]
    assert units["token"].isna().all()
    # units of a layer that only one analysis has
    tokens = npr.select_units(several, "token == 2 and first_order_hue > 0 or shapley_hue > 2")
    assert tokens["layer"].values.tolist() == ["block"] * 4
    assert tokens["shapley_hue"].isnull().all()
    assert tokens["shapley_hue"].attrs == {"factor": "hue"}


def test_names_that_clash_take_that_of_their_group(several: xr.DataTree) -> None:
    with pytest.raises(QueryError, match="'mean' is in several groups: write sobol_mean or shapley_mean") as raised:
        npr.select_units(several, "channel > 0 and mean > 0.5")
    assert raised.value.column == 17
    for argument in ("columns", "order_by"):
        with pytest.raises(QueryError, match=f"{argument}: column 'mean' is in several groups"):
            npr.select_units(several, **{argument: "mean"})
    units = npr.select_units(several, "sobol_mean > shapley_mean")
    sobol, shapley = (several[f"{group}/fc"]["mean"].values for group in ("sobol", "shapley"))
    np.testing.assert_array_equal(units["sobol_mean"].values[-(sobol > shapley).sum() :], sobol[sobol > shapley])
    # in one group there is no clash
    assert npr.select_units(several["sobol"], "mean > 0.5").sizes["unit"] > 0


def test_units_are_points_of_the_dimensions_that_are_named(several: xr.DataTree) -> None:
    colour = several["selectivity/conv"]["colour"]
    channels = npr.select_units(several["selectivity"], "colour > 0")
    assert channels["channel"].values.tolist() == [3, 1, 0, 2]
    channels = npr.select_units(several, "colour > 0.5")
    np.testing.assert_array_equal(channels["colour"], colour[colour > 0.5])
    assert channels["token"].isnull().all()  # a place of units that other layers have
    assert "y" not in channels.variables
    places = npr.select_units(several, "colour > 0.5 and first_order_hue > -1")
    np.testing.assert_array_equal(places["colour"], np.repeat(colour[colour > 0.5], 6))
    row = npr.select_units(several, "colour > 0 and y == 1")
    np.testing.assert_array_equal(row["colour"], np.repeat(colour, 2))
    assert row["x"].values.tolist() == [0, 1] * 4


def test_groups_of_other_units_are_not_mixed(several: xr.DataTree) -> None:
    renumbered = several["shapley/conv"].to_dataset().assign_coords(channel=[0, 1, 2, 3])
    for other in (renumbered, layer(0, {"channel": 9}, 0, "shapley_effect")):
        tree = xr.DataTree.from_dict({"/sobol/conv": several["sobol/conv"].to_dataset(), "/shapley/conv": other})
        with pytest.raises(ReaderError, match="'sobol' and 'shapley' hold different units of layer 'conv'"):
            npr.select_units(tree, "first_order_hue > shapley_hue")
        assert npr.select_units(tree, "first_order_hue >= 0").sizes["unit"] == 24


def test_a_tree_of_another_origin() -> None:
    """Sessions of an experiment, with areas as text, missing ones and a coordinate called layer."""
    region = np.array(["V1", "LM", None, "V1"], dtype=object)
    tree = xr.DataTree.from_dict(
        {
            "/tuning/monday": xr.Dataset(
                {"dsi": ("unit", [0.1, 0.9, 0.8, np.nan]), "significant": ("unit", [True, False, True, True])},
                {"unit": [950910352, 3, 2, 1], "region": ("unit", region)},
            ),
            "/tuning/tuesday": xr.Dataset({"dsi": ("unit", [0.7])}, {"region": ("unit", ["V1"])}),
        }
    )
    units = npr.select_units(tree, "region != 'LM' and dsi > 0")
    assert units["layer"].values.tolist() == ["monday", "tuesday"]
    assert units["unit_id"].values.tolist()[:1] == [950910352]
    assert npr.select_units(tree, "not region == 'V1'")["region"].values.tolist() == ["LM"]
    assert npr.select_units(tree, "not significant")["unit_id"].values.tolist() == [3]
    assert npr.select_units(tree, "significant and dsi > 0.5")["unit_id"].values.tolist() == [2]
    by_region = npr.select_units(tree, order_by="region", ascending=True, columns=["region"])
    assert by_region["region"].values.tolist() == ["LM", "V1", "V1", "V1", ""]
    cortex = tree["tuning/monday"].to_dataset().assign_coords(layer=("unit", np.array(["4", "5", "4", "6"], object)))
    assert npr.select_units(cortex, "layer == '4'")["unit_id"].values.tolist() == [950910352, 2]


@pytest.mark.parametrize("source", ["memory", "zarr", "netcdf"])
def test_texts_and_conditions_of_any_origin(source: str, tmp_path: Path) -> None:
    node = xr.Dataset(
        {
            "preferred": ("channel", np.array(["cat", "", "dog"], dtype=object)),
            "significant": ("channel", [True, False, True]),
            "rate": (("channel", "y"), np.arange(6.0).reshape(3, 2)),
        },
        {"region": ("channel", np.array(["V1", "V1", "LM"], dtype=object))},
    )
    tree = xr.DataTree.from_dict({"/tuning/V": node})
    with quiet_zarr():
        if source == "zarr":
            tree.to_zarr(tmp_path / "a.zarr", consolidated=False)
            tree = xr.open_datatree(tmp_path / "a.zarr", engine="zarr", consolidated=False)
        elif source == "netcdf":
            tree.to_netcdf(tmp_path / "a.nc")
            tree = xr.open_datatree(tmp_path / "a.nc")
    units = npr.select_units(tree, "preferred != 'cat' and rate > 0 or not significant")
    assert units["preferred"].values.tolist() == ["", "", "dog", "dog"]
    assert units["region"].values.tolist() == ["V1", "V1", "LM", "LM"]
    assert units["significant"].dtype == bool
    assert npr.select_units(tree, "preferred in ['dog', 'sea']", columns="region")["region"].values.tolist() == ["LM"]
    tree.close()


def test_names_of_any_characters_and_of_several_pairs() -> None:
    node = xr.Dataset(
        {"response to": (("class", "channel"), np.eye(2))}, {"class": np.array(["sea lion", "dog"], object)}
    )
    assert npr.select_units(node, "`response to_sea lion` == 1")["channel"].values.tolist() == [0]
    pairs = np.array(["a", "b_c", "a_b", "c"], dtype=object)
    dims = ("factor", "factor_2", "channel")
    node = xr.Dataset({"s": (dims, np.zeros((4, 4, 1)))}, {"factor": pairs, "factor_2": pairs})
    with pytest.raises(QueryError, match="column 's_a_b_c' is of several pairs of labels"):
        npr.select_units(node, "s_a_b_c == 0")
    assert npr.select_units(node, "s_c_a == 0").sizes["unit"] == 1


def test_a_column_of_two_kinds_is_refused() -> None:
    tree = xr.DataTree.from_dict(
        {
            "/a": xr.Dataset({"preferred": ("channel", np.array(["cat"], object))}),
            "/b": xr.Dataset({"preferred": ("channel", [1.0])}),
        }
    )
    with pytest.raises(QueryError, match="column 'preferred' is text in one layer, a number in another"):
        npr.select_units(tree, "preferred == 1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"query": "total_order_hu > 1"}, r"query:1:1: unknown column 'total_order_hu' \(did you mean"),
        ({"query": "first_order > 1"}, "unknown column 'first_order'"),
        ({"query": "second_order_hue_hue > 1"}, "unknown column 'second_order_hue_hue'"),
        ({"query": "layer > 3"}, "layer is text"),
        ({"query": ""}, "the query is empty"),
        ({"columns": ["mean", "men"]}, r"columns: unknown column 'men' \(did you mean 'mean'"),
        ({"columns": []}, "columns: received none"),
        ({"order_by": "men"}, "order_by: unknown column 'men'"),
        ({"limit": -1}, "limit: received -1, expected 0 or more"),
    ],
)
def test_wrong_arguments_are_refused(store: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(QueryError, match=message):
        npr.select_units(store, **arguments)


def test_sources_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such result"):
        npr.select_units(tmp_path / "none.zarr", "true")
    (tmp_path / "text").write_text("text")
    with pytest.raises(StoreError, match="neither a store of neuroprobe nor a netCDF export"):
        npr.select_units(tmp_path / "text", "true")
    with pytest.raises(ReaderError, match="no units in this tree"):
        npr.select_units(xr.DataTree(), "true")
