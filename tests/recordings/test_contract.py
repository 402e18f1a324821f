"""What is a recording and what is not; how a format is found and choices are refused."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from neuroprobe.errors import ReaderError, RegistryError
from neuroprobe.recordings import READERS, Reader, check_recording, read_recording
from neuroprobe.recordings.build import by_column, node_of, tree_of
from neuroprobe.recordings.columns import Table, chosen, name_and_units, plain, split_controls
from neuroprobe.store import quiet_zarr


def text(*values: str) -> np.ndarray:
    return np.array(values, dtype=object)


def a_node(n: int = 4, n_units: int = 3, **columns: Any) -> xr.Dataset:
    table = Table({"contrast": np.linspace(0, 1, n), **columns})
    return node_of(np.arange(n * n_units).reshape(n, n_units), table, Table({"unit_id": text(*"abcdefgh"[:n_units])}))


def test_a_tree_of_one_population_has_its_table_at_the_root() -> None:
    tree = tree_of({"it": a_node()})
    check_recording(tree)
    assert list(tree.to_dataset().coords) == ["contrast"]
    np.testing.assert_array_equal(tree["responses/it"]["contrast"], tree["contrast"])
    assert tree["responses/it"]["response"].dims == ("presentation", "unit")


def test_sessions_have_tables_of_their_own() -> None:
    tree = tree_of({"one": a_node(4), "other/b": a_node(6)})
    check_recording(tree)
    assert not tree.to_dataset().variables
    assert [node.sizes["presentation"] for node in tree["responses"].children.values()] == [4, 6]
    assert list(tree["responses"].children) == ["one", "other_b"]


@pytest.mark.parametrize("several", [False, True])
def test_a_recording_is_stored_and_comes_back(tmp_path: Path, several: bool) -> None:
    node = a_node(side=text("left", "right", "left", ""))
    tree = tree_of({"it": node, "v4": a_node(6)} if several else {"it": node}, attrs={"title": "x"})
    tree.to_netcdf(tmp_path / "recording.nc")
    with quiet_zarr():
        tree.to_zarr(tmp_path / "recording.zarr", consolidated=False)
    for name, options in (("recording.nc", {}), ("recording.zarr", {"engine": "zarr", "consolidated": False})):
        with quiet_zarr(), xr.open_datatree(tmp_path / name, **options) as back:
            check_recording(back)
            xr.testing.assert_equal(back.load(), tree)
            assert back.attrs == tree.attrs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda node: node.rename(response="rate"), "no variable 'response'"),
        (lambda node: node.transpose("unit", "presentation"), r"expected \(presentation, unit"),
        (lambda node: node.assign(response=node.response.astype(str)), "expected numbers"),
        (lambda node: node.drop_vars("contrast"), "column contrast of the root's presentation table is missing"),
        (lambda node: node.drop_vars("unit_id"), "no coordinate unit_id on unit"),
        (lambda node: node.assign_coords(unit_id=("unit", text("a", "b", "a"))), "unit_id 'a' is given to 2 units"),
        (lambda node: node.expand_dims(time_bin=2, axis=2), "no coordinate time_bin_start"),
        (lambda node: node.assign(baseline=("unit", np.zeros(3))), "baseline has dims"),
        (lambda node: node.assign_coords(n_trials=("presentation", [1, 0, 2, 3])), "n_trials is below 1"),
        (lambda node: node.assign_coords(odd=("presentation", np.array([None] * 4))), "odd holds None"),
        (lambda node: node.assign_coords(on=("presentation", np.ones(4, dtype=bool))), "on has type bool"),
        (lambda node: node.assign_attrs(window=[0, 1]), r"attribute window is \[0, 1\]"),
        (lambda node: node.assign_attrs(good=True), "attribute good is True"),
    ],
)
def test_what_is_no_recording(change: Any, message: str) -> None:
    good = a_node()
    root = xr.Dataset(coords={"contrast": good.contrast})
    check_recording(xr.DataTree.from_dict({"/": root, "/responses/it": good}))
    bad = xr.DataTree.from_dict({"/": root, "/responses/it": change(good)})
    with pytest.raises(ReaderError, match=message):
        check_recording(bad)


def test_every_problem_is_told() -> None:
    nodes = {f"n{number}": a_node().rename(response="rate") for number in range(30)}
    with pytest.raises(ReaderError) as caught:
        check_recording(xr.DataTree.from_dict({f"/responses/{name}": node for name, node in nodes.items()}))
    assert str(caught.value).count("no variable 'response'") == 20
    assert "… and 10 more" in str(caught.value)
    with pytest.raises(ReaderError, match="/responses: no node"):
        check_recording(xr.DataTree())


def test_a_recording_of_a_network_is_one() -> None:
    maps = xr.Dataset({"response": (("presentation", "channel", "y", "x"), np.zeros((2, 3, 4, 4), dtype=np.float32))})
    check_recording(xr.DataTree.from_dict({"/responses/layer1": maps}))


def test_names_that_are_taken_are_changed() -> None:
    table = Table({"unit": text("x", "y"), "region": text("p", "q"), "x": np.arange(2.0)})
    units = Table({"unit_id": text("a"), "x": np.array([5.0])}, {"x": "um"})
    node = node_of(np.zeros((2, 1)), table, units)
    assert node["trial_unit"].values.tolist() == ["x", "y"]
    assert node["trial_region"].dims == ("presentation",)
    assert node["x"].dims == ("presentation",)
    assert node["unit_x"].values.tolist() == [5.0]
    assert node["unit_x"].attrs["units"] == "um"


def test_lengths_that_do_not_fit() -> None:
    with pytest.raises(ReaderError, match="presentation table has 2 rows, the responses have 3"):
        node_of(np.zeros((3, 1)), Table({"a": np.zeros(2)}), Table({"unit_id": text("a")}))
    with pytest.raises(ReaderError, match="table of units has 1 rows, the responses have 2"):
        node_of(np.zeros((3, 2)), Table(), Table({"unit_id": text("a")}))


def test_units_go_apart_by_a_coordinate() -> None:
    node = a_node().assign_coords(region=("unit", text("V4", "IT", "V4")))
    nodes = by_column(node, "region")
    assert {name: one["unit_id"].values.tolist() for name, one in nodes.items()} == {"V4": ["a", "c"], "IT": ["b"]}
    with pytest.raises(ReaderError, match=r"unknown coordinate of units to split by 'layer'; known: unit_id, region"):
        by_column(node, "layer")


def test_control_conditions_are_told_apart() -> None:
    table = Table({"disparity": np.array([0.4, -99, 98, -9999, 0.4]), "speed": np.array([1, 1, 1, -9999, 1])})
    split_controls(table, {"disparity": {-99: "left", 98: "uncorrelated", -9999: "null"}, "speed": {-9999: "blank"}})
    assert table.columns["control_kind"].tolist() == ["", "left", "uncorrelated", "null", ""]
    assert table.columns["arm"].tolist() == ["treatment", "control", "control", "control", "treatment"]
    np.testing.assert_array_equal(table.columns["disparity"], [0.4, np.nan, np.nan, np.nan, 0.4])
    np.testing.assert_array_equal(table.columns["speed"], [1, 1, 1, np.nan, 1])
    with pytest.raises(ReaderError, match="unknown column of controls 'sped'"):
        split_controls(table, {"sped": {}})


def test_values_become_numbers_or_text() -> None:
    assert plain(np.array([True, False])).dtype == np.int64
    assert plain(np.uint8([3])).dtype == np.int64
    assert plain([b"a", "b", None, np.nan]).tolist() == ["a", "b", "", ""]
    assert plain(np.array(["2024-01-02"], dtype="datetime64[D]")).tolist() == ["2024-01-02"]
    assert not np.signbit(plain([-0.0])[0])
    assert name_and_units("a b") == ("a_b", "")
    assert name_and_units("size [deg]") == ("size", "deg")
    assert chosen("unit", ["u*", "x"], ["u1", "x", "y", "u2"]) == [0, 1, 3]


def test_choices_that_make_no_sense(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("o,n1\n0,1\n")
    for choices, message in [
        ({"window": (0.0, 1.0)}, "unknown choice for table recordings 'window'"),
        ({"factor": ["o"]}, r"'factor' \(did you mean 'factors'\?\)"),
        ({"window": (1.0, 0.0)}, r"window starts before it stops, received \(1, 0\)"),
        ({"window": 3}, "window is two numbers in s"),
        ({"measure": "counts"}, r"measure is count or rate, received 'counts' \(did you mean 'count'"),
        ({"factors": ["p"]}, "unknown factor 'p'|which columns"),
    ]:
        with pytest.raises(ReaderError, match=message):
            read_recording(file, **choices)  # type: ignore[arg-type]
    with pytest.raises(RegistryError, match="unknown recording reader 'csv'"):
        read_recording(file, format="csv")
    with pytest.raises(ReaderError, match="no such file or folder"):
        read_recording(tmp_path / "b.csv")
    (tmp_path / "a.xyz").write_text("")
    with pytest.raises(ReaderError, match=r"(?s)no reader knows this; say which by `format`:.*table: CSV"):
        read_recording(tmp_path / "a.xyz")
    with pytest.raises(ReaderError, match="object of type int"):
        read_recording(3)


def test_readers_of_others_are_held_to_the_contract() -> None:
    made = xr.DataTree.from_dict({"/responses/x": xr.Dataset({"rate": ("unit", [1.0])})})
    READERS.add("mine", Reader("", lambda thing: thing == ("mine",), lambda thing, choices: made, frozenset()))
    try:
        with pytest.raises(ReaderError, match="not a recording: /responses/x: no variable 'response'"):
            read_recording(("mine",))
    finally:
        del READERS._known["mine"]


@pytest.mark.parametrize(("missing", "name"), [("h5py", "s.nwb"), ("pyarrow", "t.parquet")])
def test_a_package_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str, name: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    (tmp_path / name).write_bytes(b"")
    if missing == "pyarrow":
        monkeypatch.setitem(sys.modules, "fastparquet", None)
    with pytest.raises(ReaderError, match=rf"pip install 'neuroprobe\[{'nwb' if missing == 'h5py' else 'parquet'}\]'"):
        read_recording(tmp_path / name)
