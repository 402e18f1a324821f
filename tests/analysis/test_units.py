"""The flat view of layers: every unit in its row, and nothing read before its time."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from neuroprobe.analysis.units import to_units, unit_columns
from neuroprobe.errors import ReaderError
from neuroprobe.store import quiet_zarr

FACTORS = np.array(["hue", "rotation", "blur"], dtype=object)


def layer(**sizes: int) -> xr.Dataset:
    """A layer with a variable of each sort, whose values tell their places."""
    dims, shape = list(sizes), tuple(sizes.values())
    n = int(np.prod(shape))
    return xr.Dataset(
        {
            "mean": (dims, np.arange(n).reshape(shape) / 2),
            "defined": (dims, (np.arange(n) % 3 > 0).astype(np.int8).reshape(shape)),
            "first_order": (["factor", *dims], np.arange(3.0 * n).reshape(3, *shape)),
            "first_order_se": (["factor", *dims], np.arange(3.0 * n).reshape(3, *shape) / 10),
            "second_order": (["factor", "factor_2", *dims], np.arange(9.0 * n).reshape(3, 3, *shape)),
            "shapley_effect": (["factor", *dims], np.arange(3.0 * n).reshape(3, *shape)),
            "preferred": ("channel", np.array([f"class {i}" for i in range(sizes["channel"])], dtype=object)),
            "response": (["presentation", *dims], np.zeros((2, *shape))),
            "taken": (dims, np.zeros(shape, "datetime64[s]")),
            "convergence": ("factor", np.zeros(3)),
        },
        {"factor": FACTORS, "factor_2": FACTORS},
    )


@pytest.mark.parametrize("sizes", [{"channel": 5}, {"token": 3, "channel": 4}, {"channel": 4, "y": 3, "x": 2}])
def test_every_unit_has_its_row(sizes: dict[str, int]) -> None:
    node = layer(**sizes)
    # in which order a variable has its dimensions does not matter
    node["mean"] = node["mean"].transpose(*reversed(sizes))
    units = to_units(node, "conv1")
    assert units["layer"].values.tolist() == ["conv1"] * units.sizes["unit"]
    assert units["first_order"].dims == ("factor", "unit")
    assert units["convergence"].dims == ("factor",)
    for row, place in enumerate(np.ndindex(*sizes.values())):
        at = dict(zip(sizes, place, strict=True))
        unit = units.isel(unit=row)
        assert {dim: int(unit[dim]) for dim in sizes} == at
        for name in ("mean", "first_order", "second_order", "response"):
            np.testing.assert_array_equal(unit[name].values, node[name].isel(at).values)
        assert unit["preferred"].item() == f"class {at['channel']}"


def test_coordinates_of_channels_and_places_are_kept() -> None:
    node = layer(channel=3, y=2, x=2).assign_coords(channel=[4, 0, 9], rf_x=("x", [1.5, 2.5]))
    units = to_units(xr.DataTree(node, name="conv3"))
    assert units["channel"].values.tolist() == [4] * 4 + [0] * 4 + [9] * 4
    assert units["rf_x"].values.tolist() == [1.5, 2.5] * 6
    assert units["layer"].values[0] == "conv3"


@pytest.mark.parametrize(
    "labels",
    [{"unit": [7, 5]}, {"unit_id": ("unit", [7, 5])}, {"unit": [7, 5], "unit_id": ("unit", [1, 2])}],
)
def test_units_of_animals(labels: dict[str, object]) -> None:
    node = xr.Dataset({"rate": ("unit", [1.0, 2.0])}, {"region": ("unit", np.array(["V1", "LM"], object)), **labels})
    units = to_units(node, "session")
    assert units["unit_id"].values.tolist() == ([1, 2] if len(labels) == 2 else [7, 5])
    assert units["region"].values.tolist() == ["V1", "LM"]
    assert units["layer"].values.tolist() == ["session", "session"]
    cortical = to_units(node.assign_coords(layer=("unit", np.array(["4", "5"], object))), "session")
    assert cortical["layer"].values.tolist() == ["4", "5"]


def test_a_node_without_units_is_refused() -> None:
    with pytest.raises(ReaderError, match="no units here: expected the dimension 'channel' or 'unit', received factor"):
        to_units(xr.Dataset({"a": ("factor", [1.0])}))


def test_columns_are_named_by_variable_and_labels() -> None:
    columns = {column.name: column for column in unit_columns(layer(channel=2, y=2, x=2))}
    single = [f"{name}_{factor}" for name in ("first_order", "first_order_se", "shapley") for factor in FACTORS]
    pairs = [f"second_order_{one}_{other}" for one in FACTORS for other in FACTORS if one != other]
    assert set(columns) == {"mean", "defined", "preferred", *single, *pairs}
    mirrored = {name for name, column in columns.items() if column.is_mirrored}
    assert mirrored == {"second_order_rotation_hue", "second_order_blur_hue", "second_order_blur_rotation"}
    assert columns["preferred"].kind == "text"


def test_columns_of_pairs_are_those_of_the_matrix() -> None:
    node = layer(channel=2)
    for column in unit_columns(node):
        if column.variable == "second_order":
            at = {dim: label for dim, _, label in column.labels}
            np.testing.assert_array_equal(column.values(node).values, node["second_order"].sel(at).values)


def test_only_what_is_computed_is_read(tmp_path: Path) -> None:
    node = layer(channel=3, y=2, x=2).drop_vars(["taken", "preferred"])
    chunks = {
        name: {"chunks": tuple(1 if dim == "factor" else n for dim, n in array.sizes.items())}
        for name, array in node.data_vars.items()
    }
    with quiet_zarr():
        node.to_zarr(tmp_path / "a.zarr", encoding=chunks, consolidated=False, zarr_format=3)
        stored = xr.open_zarr(tmp_path / "a.zarr", chunks=None, consolidated=False)
    kept = tmp_path / "a.zarr" / "first_order" / "c" / "1"
    for file in (tmp_path / "a.zarr").glob("*/c/**/*"):
        if file.is_file() and file.parents[2] != kept and file.parent.parent.name not in {"factor", "factor_2"}:
            file.write_bytes(b"not to be read")
    units = to_units(stored, "conv1")
    np.testing.assert_array_equal(units["first_order"][1].values, node["first_order"][1].values.ravel())
    for other in (units["first_order"][0], units["mean"]):
        with pytest.raises(RuntimeError):
            other.compute()


def test_what_is_in_memory_is_not_copied() -> None:
    node = layer(channel=3, y=2, x=2)
    assert np.shares_memory(to_units(node)["first_order"].values, node["first_order"].values)


def test_stored_responses_stay_in_their_chunks() -> None:
    node = xr.Dataset({"response": (("presentation", "channel"), np.zeros((6, 4)))}).chunk(presentation=2)
    assert to_units(node)["response"].chunks == ((2, 2, 2), (4,))
