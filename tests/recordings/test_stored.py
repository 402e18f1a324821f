"""Recordings on disk: what is written is what is opened, whole or not at all; and the command that ingests them."""

import json
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner, Result

import neuroprobe as npr
from neuroprobe.cli import main
from neuroprobe.errors import ReaderError, StoreError
from neuroprobe.export import export_netcdf
from neuroprobe.recordings import check_recording, stored, write_recording
from neuroprobe.recordings.build import node_of, tree_of
from neuroprobe.recordings.columns import Table
from neuroprobe.summary import status

N, UNITS = 12, 5


def session(n: int = N, n_units: int = UNITS, name: str = "u", **more: Any) -> xr.Dataset:
    rng = np.random.default_rng(n)
    labels = np.array(["face", "", "Straße"] * n, dtype=object)[:n]
    table = Table({"contrast": rng.random(n), "label": labels, "row": np.arange(n)}, {"contrast": "1"})
    ids = np.array([f"{name}{number}" for number in range(n_units)], dtype=object)
    units = Table({"unit_id": ids, "region": np.array(["V1"] * n_units, dtype=object)})
    return node_of(rng.poisson(3, (n, n_units)), table, units, attrs={"units": "spikes"}, **more)


def together() -> xr.DataTree:
    rng = np.random.default_rng(0)
    counts = rng.poisson(1, (N, UNITS, 3)).astype(float)
    counts[2, 1] = np.nan
    node = session(baseline=(rng.random((N, UNITS)), {"units": "spikes"}))
    bins = {"time_bin": [0.05, 0.15, 0.25]}
    ends = {"time_bin_start": ("time_bin", [0, 0.1, 0.2]), "time_bin_end": ("time_bin", [0.1, 0.2, 0.3])}
    response = (("presentation", "unit", "time_bin"), counts, node["response"].attrs)
    node = node.drop_vars("response").assign(response=response).assign_coords(bins).assign_coords(ends)
    return tree_of({"it": node, "v4": session(name="w")}, attrs={"factors": '["contrast"]'})


def apart() -> xr.DataTree:
    return tree_of({"one": session(12), "two.b": session(7, 2, "w")})


@pytest.mark.parametrize("make", [together, apart])
@pytest.mark.parametrize("name", ["r.zarr", "r.nc"])
def test_what_is_written_is_what_is_opened(make: Any, name: str, tmp_path: Path) -> None:
    tree = make()
    write_recording(tree, tmp_path / name)
    back = npr.open_recording(tmp_path / name)
    check_recording(back)
    assert [node.path for node in back.subtree] == [node.path for node in tree.subtree]
    for node in tree.subtree:
        found, expected = back[node.path].to_dataset(), node.to_dataset()
        assert set(found.coords) == set(expected.coords)
        xr.testing.assert_identical(found.compute().drop_attrs(deep=False), expected.drop_attrs(deep=False))
        for variable in expected.variables:
            assert found[variable].dtype == expected[variable].dtype
    for node in back["responses"].children.values():
        assert isinstance(node["response"].data, da.Array)
    assert list(tmp_path.iterdir()) == [tmp_path / name]
    assert json.loads(back.attrs["neuroprobe_provenance"])["versions"].keys() >= {"neuroprobe", "zarr"}


def test_the_common_table_is_stored_once(tmp_path: Path) -> None:
    write_recording(together(), tmp_path / "r.zarr")
    assert (tmp_path / "r.zarr" / "contrast").is_dir()
    assert not (tmp_path / "r.zarr" / "responses" / "it" / "contrast").exists()
    write_recording(apart(), tmp_path / "s.zarr")
    assert (tmp_path / "s.zarr" / "responses" / "one" / "contrast").is_dir()


def test_responses_are_counted_some_units_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = apart()
    expected = tree["responses/one"].to_dataset()
    lazy = expected.assign(response=expected["response"].chunk({"unit": 2}))
    monkeypatch.setattr(stored, "CHUNK_BYTES", 3 * 8 * N)
    write_recording(tree_of({"one": lazy}), tmp_path / "r.zarr")
    response = npr.open_recording(tmp_path / "r.zarr")["responses/one"].to_dataset()["response"]
    assert response.chunks == ((N,), (3, 2))
    np.testing.assert_array_equal(response.values, expected["response"].values)


@pytest.mark.parametrize("name", ["r.zarr", "r.nc"])
def test_a_recording_is_replaced_only_on_demand_and_nothing_else_ever(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    write_recording(together(), path)
    with pytest.raises(StoreError, match="is there already: say `overwrite`"):
        write_recording(apart(), path)
    write_recording(apart(), path, overwrite=True)
    assert list(npr.open_recording(path)["responses"].children) == ["one", "two.b"]
    assert list(tmp_path.iterdir()) == [path]
    other = tmp_path / f"mine.{name.rpartition('.')[2]}"
    other.write_text("precious")
    (tmp_path / "folder").mkdir()
    for taken in (other, tmp_path / "folder"):
        with pytest.raises(StoreError, match="is no recording of neuroprobe"):
            write_recording(apart(), taken, overwrite=True)
    assert other.read_text() == "precious"


def test_nothing_is_half_written(tmp_path: Path) -> None:
    def fail(block: Any) -> Any:
        raise OSError(28, "No space left on device")

    node = session()
    broken = node["response"].chunk().data.map_blocks(fail, dtype=np.int64, meta=np.empty((0, 0), np.int64))
    tree = tree_of({"one": node.assign(response=(("presentation", "unit"), broken, node["response"].attrs))})
    for name in ("r.zarr", "r.nc"):
        with pytest.raises(StoreError, match="the disk is full"):
            write_recording(tree, tmp_path / name)
    write_recording(apart(), tmp_path / "s.zarr")
    with pytest.raises(StoreError):
        write_recording(tree, tmp_path / "s.zarr", overwrite=True)
    assert list(tmp_path.iterdir()) == [tmp_path / "s.zarr"]
    assert list(npr.open_recording(tmp_path / "s.zarr")["responses"].children) == ["one", "two.b"]


def test_a_tree_that_is_no_recording_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ReaderError, match="no variable 'response'"):
        write_recording(xr.DataTree.from_dict({"/responses/it": xr.Dataset({"rate": 1})}), tmp_path / "r.zarr")
    assert not list(tmp_path.iterdir())


def test_a_recording_is_exported_with_its_responses(tmp_path: Path) -> None:
    write_recording(together(), tmp_path / "r.zarr")
    export_netcdf(tmp_path / "r.zarr", tmp_path / "r.nc")
    back = npr.open_recording(tmp_path / "r.nc")
    assert back["responses/it"].to_dataset().equals(together()["responses/it"].to_dataset())


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["ingest", *map(str, arguments)])


@pytest.fixture
def session_csv(tmp_path: Path) -> Path:
    path = tmp_path / "session.csv"
    rows = ["orientation,unit_a,unit_b", *(f"{45 * (n % 4)},{n},{n % 3}" for n in range(12))]
    path.write_text("\n".join(rows))
    return path


def test_ingest_says_what_it_read(session_csv: Path, tmp_path: Path) -> None:
    output = tmp_path / "rec.zarr"
    result = call(session_csv, "-o", output, "--factors", "orientation")
    assert result.exit_code == 0, result.output
    first, *lines = result.stdout.splitlines()
    assert first == str(output)
    assert lines[0] == "2 units"
    assert lines[-1] == "factor orientation: 0 (3), 45 (3), 90 (3), 135 (3)"
    details = json.loads(npr.open_recording(output).attrs["neuroprobe_provenance"])
    assert details["source"] == str(session_csv)
    assert len(details["sha256"]) == 64
    assert details["choices"] == {"factors": ["orientation"]}
    again = call(session_csv, "-o", output, "--factors", "orientation", "--json")
    assert again.exit_code == 1
    assert "is there already" in again.stderr
    again = call(session_csv, "-o", output, "--factors", "orientation", "--json", "--overwrite")
    found = json.loads(again.stdout)
    assert found["units"] == 2
    assert found["presentations"] == 12
    assert found["factors"] == {"orientation": {"0": 3, "45": 3, "90": 3, "135": 3}}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--factors", "orientatoin"], "unknown factor 'orientatoin' (did you mean 'orientation'?)"),
        (["--option", "layout"], "--option is KEY=VALUE, received 'layout'"),
        (["--option", "window=[0, 1]"], "--option window: say --window"),
        (["--bins", "ten"], "--bins is a width in s, or edges separated by commas, received 'ten'"),
        (["--window", "0", "1", "--interval"], "--window and --interval: say one of them"),
        (["--format", "nwbb"], "did you mean 'nwb'?"),
    ],
)
def test_ingest_says_what_is_wrong(arguments: list[str], message: str, session_csv: Path, tmp_path: Path) -> None:
    result = call(session_csv, "-o", tmp_path / "rec.zarr", *arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stdout == ""
    assert not (tmp_path / "rec.zarr").exists()


def test_a_real_session_is_ingested(data: Path, tmp_path: Path) -> None:
    file = data / "recordings" / "nwb" / "zheng2022_sub-4_mtl.nwb"
    pytest.importorskip("h5py")
    if not file.is_file():
        pytest.skip("no recording of the human medial temporal lobe")
    output, choices = tmp_path / "rec.zarr", ["--window", 0.2, 1.0, "--factors", "stimCategory"]
    without = call(file, "-o", output)
    for held in ("35 units", "encoding_table: 90 rows", "recognition_table: 180 rows", "timediscrimination_table: 180"):
        assert held in without.stderr
    # the factor is in another table
    wrong = call(file, "-o", output, "--trials", "recognition_table", *choices)
    assert wrong.exit_code == 1
    assert "factor 'stimCategory' is no column of the table recognition_table, but of encoding_table" in wrong.stderr
    assert "boundary3_time, stimCategory" in wrong.stderr
    assert not output.exists()
    right = call(file, "-o", output, "--trials", "encoding_table", *choices, "--baseline", -0.8, 0)
    assert "35 units: hippocampus_right (25), amygdala_right (10)" in right.stdout
    assert "factor stimCategory: 0 (30), 1 (30), 2 (30)" in right.stdout
    assert npr.open_recording(output)["responses/zheng2022_sub-4_mtl/response"].shape == (90, 35)


@pytest.mark.parametrize("name", ["r.zarr", "r.nc"])
def test_our_own_recordings_are_read_and_converted(name: str, tmp_path: Path) -> None:
    pytest.importorskip("h5py", reason="NWB needs h5py")
    tree = tree_of({"it": session()})
    write_recording(tree, tmp_path / name)
    back = npr.read_recording(tmp_path / name)
    xr.testing.assert_equal(back["responses/it"].to_dataset().compute(), tree["responses/it"].to_dataset())
    assert json.loads(back.attrs["neuroprobe_provenance"]) != {}
    told = status(tmp_path / name)
    assert str(told).startswith("a recording; analyse it by a protocol\n")
    assert told.as_dict()["units"] == back["responses/it"].sizes["unit"]
    with pytest.raises(ReaderError, match="unknown factor 'x'"):
        npr.read_recording(tmp_path / name, factors=["x"])
    with pytest.raises(ReaderError, match="unknown choice for neuroprobe recordings 'window'"):
        npr.read_recording(tmp_path / name, window=(0, 1))
    printed = CliRunner().invoke(main, ["ingest", str(tmp_path / name), "-o", str(tmp_path / "r.h5")])
    assert printed.exit_code == 0, printed.output
    assert "not held by this format: " in printed.output
