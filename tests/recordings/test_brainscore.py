"""Brain-Score assemblies: their names for things, their milliseconds, their rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from neuroprobe.errors import ReaderError
from neuroprobe.recordings import brainscore, read_recording


def assembly(dims: tuple[str, ...] = ("presentation", "neuroid", "time_bin"), **changes: Any) -> xr.DataArray:
    """Two presentations of three neurons in two bins, with the index levels as Brain-Score flattens them."""
    values = np.arange(12.0).reshape(2, 3, 2)
    sizes = dict(zip(("presentation", "neuroid", "time_bin"), values.shape, strict=True))
    coords: dict[str, Any] = {
        "image_id": ("presentation", ["im1", "im2"]),
        "repetition": ("presentation", [0, 0]),
        "neuroid_id": ("neuroid", ["n1", "n2", "n3"]),
        "region": ("neuroid", ["V4", "IT", "IT"]),
        "animal": ("neuroid", ["Chabo", "Tito", "Tito"]),
        "channel_x": ("neuroid", [10, 11, 12]),
        "channel_y": ("neuroid", [20, 21, 22]),
        "time_bin_start": ("time_bin", [70, 80]),
        "time_bin_end": ("time_bin", [90, 100]),
        **changes,
    }
    kept = {name: value for name, value in coords.items() if value is not None and value[0] in sizes}
    return xr.DataArray(values, dims=tuple(sizes), coords=kept).transpose(*dims)


def written(path: Path, data: xr.DataArray, name: str = "data") -> Path:
    data.to_dataset(name=name).to_netcdf(path)
    return path


@pytest.mark.parametrize("name", ["data", "__xarray_dataarray_variable__", "other"])
def test_neurons_over_time(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / "it.nc", assembly(("neuroid", "time_bin", "presentation")), name)
    tree = read_recording(path)
    found = tree["responses/it"].to_dataset()
    np.testing.assert_array_equal(found.response, np.arange(12.0).reshape(2, 3, 2))
    assert found.response.dims == ("presentation", "unit", "time_bin")
    # bins overlap, in s
    np.testing.assert_allclose(found.time_bin_start, [0.07, 0.08])
    np.testing.assert_allclose(found.time_bin_end, [0.09, 0.1])
    np.testing.assert_allclose(found.time_bin, [0.08, 0.09])
    assert tree.stimulus_id.values.tolist() == tree.image_id.values.tolist() == ["im1", "im2"]
    assert found.unit_id.values.tolist() == ["n1", "n2", "n3"]
    assert found.subject_id.values.tolist() == ["Chabo", "Tito", "Tito"]
    # the row of a map is their channel_x
    assert found.y.values.tolist() == [10, 11, 12]
    assert found.x.values.tolist() == [20, 21, 22]


def test_one_bin_is_the_window(tmp_path: Path) -> None:
    path = written(tmp_path / "it.nc", assembly().isel(time_bin=[0]))
    found = read_recording(path, region="IT", factors=["image_id"])["responses/it"].to_dataset()
    np.testing.assert_array_equal(found.response, np.arange(12.0).reshape(2, 3, 2)[:, 1:, 0])
    assert (found.response.attrs["window_start"], found.response.attrs["window_end"]) == (0.07, 0.09)
    nodes = read_recording(path, split="region")["responses"].children
    assert {name: node.sizes["unit"] for name, node in nodes.items()} == {"V4": 1, "IT": 2}


def test_layers_of_a_model_have_nodes(tmp_path: Path) -> None:
    data = assembly(neuroid_id=("neuroid", [0, 1, 0]), layer=("neuroid", ["c/1", "c/1", "fc"])).isel(time_bin=0)
    data = data.drop_vars(["time_bin_start", "time_bin_end"])
    nodes = read_recording(written(tmp_path / "m.nc", data))["responses"].children
    assert {name: node["unit_id"].values.tolist() for name, node in nodes.items()} == {
        "c_1": ["c/1.0", "c/1.1"],
        "fc": ["fc.0"],
    }


def test_large_assemblies_are_read_when_they_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "it.nc", assembly())
    now = read_recording(path, region="IT")["responses/it"].to_dataset()
    monkeypatch.setattr(brainscore, "LAZY_BYTES", 0)
    monkeypatch.setattr(brainscore, "BLOCK_BYTES", 2 * 2 * 8)
    later = read_recording(path, region="IT")["responses/it"].to_dataset()
    assert later.response.chunks == ((2,), (1, 1), (2,))
    xr.testing.assert_identical(later.compute(), now)
    # another library that brings its own HDF5 does not bear open files
    handles = Path("/proc/self/fd")
    if handles.is_dir():
        assert str(path.resolve()) not in {str(one.resolve()) for one in handles.iterdir()}


def test_what_is_no_assembly(tmp_path: Path) -> None:
    two = xr.Dataset({"a": ("neuroid", [1.0]), "b": ("neuroid", [1.0])})
    two.to_netcdf(tmp_path / "two.nc")
    with pytest.raises(ReaderError, match=r"an assembly has one variable, called data or .*; this has a, b"):
        read_recording(tmp_path / "two.nc")
    xr.Dataset({"data": (("time", "cell"), np.ones((2, 2)))}).to_netcdf(tmp_path / "dims.nc")
    with pytest.raises(ReaderError, match=r"dimensions {'time': 2, 'cell': 2}, expected neuroid, one of stimuli"):
        read_recording(tmp_path / "dims.nc")
    written(tmp_path / "bins.nc", assembly(time_bin_end=None))
    with pytest.raises(ReaderError, match="bins of time without time_bin_start and time_bin_end"):
        read_recording(tmp_path / "bins.nc")
    (tmp_path / "short.nc").write_bytes((tmp_path / "bins.nc").read_bytes()[:900])
    with pytest.raises(ReaderError, match=r"short\.nc': not netCDF that can be read"):
        read_recording(tmp_path / "short.nc")


def test_real_assemblies(data: Path) -> None:
    found = read_recording(data / "brainscore" / "assembly_testme.nc")["responses/assembly_testme"].to_dataset()
    np.testing.assert_array_equal(found.response, np.arange(1, 19).reshape(6, 3))
    assert found.stimulus_id.values.tolist() == ["n0", "n1", "n1", "n0", "n4", "n9"]
    assert found.unit_id.values.tolist() == ["alpha", "beta", "gamma"]
    nodes = read_recording(data / "brainscore" / "alexnet_activations.nc")["responses"].children
    assert {name: node["response"].shape for name, node in nodes.items()} == {
        "features.12": (1, 1000),
        "classifier.5": (1, 1000),
    }
