"""Interim results: of what is done of a run, to the bits of a run of that length, while the run goes on."""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner
from distributed import Client, LocalCluster

import neuroprobe as npr
from neuroprobe import interim, names
from neuroprobe.cli import main
from neuroprobe.errors import StoreError
from neuroprobe.journal import RUN_FOLDER, journal_entries
from neuroprobe.progress import RunStarted, ShardDone
from test_runner import Stop, assert_equal, protocol, stop_after

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*(standard errors hold|rest on|degrees of freedom|power of two|accuracies are left out):UserWarning"
)
VARIANCES = ["sobol", "shapley", "moments"]
LAYERS = [{"name": "conv1", "channels": [0, 5, 9], "reduce": "mean"}, {"name": "conv2", "channels": [4]}]


def running(**changes: Any) -> dict[str, Any]:
    """Eight blocks of pick-freeze, and six of contrasts."""
    treatment = {
        "reference_side": "image",
        "alterations": [{"name": "grayscale", "switch": 0.5}, {"name": "hue", "switch": 0.5}],
    }
    given = {"subject": {"network": "embedded", "layers": LAYERS}, "treatment": treatment, "record": {"batch": 128}}
    return protocol(**{**given, "analyses": VARIANCES, **changes})


def stopped(path: Path, n: int, **changes: Any) -> Path:
    """Run into a store, and stop after some shards."""
    with pytest.raises(Stop):
        npr.run(running(**changes), path, listener=stop_after(n, ShardDone))
    return path


@pytest.fixture(scope="module")
def half_done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stopped(tmp_path_factory.mktemp("half") / "out.zarr", 6)


def test_it_is_the_result_of_a_run_of_that_length(half_done: Path, tmp_path: Path) -> None:
    before = sorted(path for path in half_done.rglob("*"))
    found = npr.open_result(half_done, interim=True)
    assert sorted(path for path in half_done.rglob("*")) == before
    shorter = npr.run(running(design={"samples": 384, "scramble": 64}), tmp_path / "shorter.zarr")
    for group in VARIANCES:
        assert_equal(found[group], shorter[group])
        for layer, node in found[group].children.items():
            assert node.attrs == shorter[f"{group}/{layer}"].attrs
    assert found.attrs["samples"] == 384
    assert json.loads(found.attrs["interim"]) == {"pick-freeze": [6, 8]}
    # errors at a quarter and half of all samples
    assert found["convergence/sobol"]["samples"].values.tolist() == [128, 256]
    assert npr.select_units(found, "total_order_hue > 0").sizes["unit"] > 0


def test_without_the_word_it_is_refused_with_a_way_out(half_done: Path) -> None:
    with pytest.raises(StoreError, match=r"6 of 8 blocks are done.*interim"):
        npr.open_result(half_done)


def test_it_can_be_opened_after_every_shard_and_the_run_does_not_notice(tmp_path: Path) -> None:
    seen: list[int] = []

    def look(event: object) -> None:
        if isinstance(event, ShardDone):
            found = npr.open_result(tmp_path / "out.zarr", interim=True)
            assert set(VARIANCES) <= set(found.children)
            seen.append(found.attrs["samples"])

    watched = npr.run(running(), tmp_path / "out.zarr", listener=look)
    assert seen == [64 * n for n in range(1, 9)]
    assert_equal(watched, npr.run(running(), tmp_path / "alone.zarr"))
    # in the end, it is the result
    assert_equal(npr.open_result(tmp_path / "out.zarr", interim=True), watched)
    # of a run that is extended, the old result and the new blocks
    longer = {"design": {"samples": 1024, "scramble": 64}}
    stopped(tmp_path / "out.zarr", 2, **longer)
    assert npr.open_result(tmp_path / "out.zarr").attrs["samples"] == 512
    assert npr.open_result(tmp_path / "out.zarr", interim=True).attrs["samples"] == 640


def test_contrasts_and_accuracies_of_some_images(tmp_path: Path) -> None:
    treatment = {"reference_side": "image", "alterations": [{"name": "grayscale"}]}
    images = {"images": {"photographs": {"per_image": 4}, "size": 16}}
    changes = {"analyses": [{"contrast": {"ranks": ["conv1"]}}], "treatment": treatment, "stimuli": images}
    path = stopped(tmp_path / "out.zarr", 3, **changes)
    found = npr.open_result(path, interim=True)
    n_images = found.attrs["samples"]
    assert 4 <= n_images < 24
    fewer = npr.run(running(**changes), tmp_path / "fewer.zarr", limit=n_images)
    for layer in ("conv1", "conv2"):
        mine, theirs = found[f"contrast/{layer}"].to_dataset(), fewer[f"contrast/{layer}"].to_dataset()
        for name in ("mean_difference", "mean_difference_se", "effect_size", "defined"):
            np.testing.assert_allclose(mine[name], theirs[name], rtol=1e-5, atol=1e-7, err_msg=name)
        # signed ranks wait for the end
        tests = mine["test"].values.tolist()
        assert "wilcoxon" not in " ".join(tests)
        np.testing.assert_allclose(mine["p_value"], theirs["p_value"].sel(test=tests), rtol=1e-4)


def test_states_that_are_merged_while_they_are_read(half_done: Path, tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "out.zarr"
    shutil.copytree(half_done, path)
    expected = npr.open_result(path, interim=True)
    with ExitStack() as stack:
        held = interim._hold(path, names.PICK_FREEZE, stack)
        first = held.merged("sobol", "conv1")
        for file in (path / RUN_FOLDER).glob("*.safetensors"):
            file.unlink()
        again = held.merged("sobol", "conv1")
        assert (first.total == again.total).all()
    # a journal that was read just before its states were merged: it is read again
    shutil.rmtree(path)
    shutil.copytree(half_done, path)
    calls: list[int] = []
    lines = journal_entries(path)

    def stale(where: Path) -> list[dict[str, Any]]:
        calls.append(1)
        return lines[:3] if len(calls) < 3 else lines

    monkeypatch.setattr(interim, "journal_entries", stale)
    assert_equal(npr.open_result(path, interim=True), expected)
    assert len(calls) == 3


def test_a_damaged_state_is_left_out(half_done: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.zarr"
    shutil.copytree(half_done, path)
    (path / RUN_FOLDER / "pick-freeze-0-4.safetensors").write_bytes(b"torn")
    found = npr.open_result(path, interim=True)
    assert json.loads(found.attrs["interim"]) == {"pick-freeze": [2, 8]}
    assert np.isfinite(found["sobol/conv1"]["first_order"]).any()


def test_what_has_none_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such result"):
        npr.open_result(tmp_path / "nothing.zarr", interim=True)
    with pytest.raises(Stop):
        npr.run(running(), tmp_path / "begun.zarr", listener=stop_after(1, RunStarted))
    with pytest.raises(StoreError, match="none of 8 blocks is done yet"):
        npr.open_result(tmp_path / "begun.zarr", interim=True)
    file = tmp_path / "begun.zarr" / RUN_FOLDER / interim.FILE
    file.write_text("{")
    with pytest.raises(StoreError, match=r"interim\.json cannot be read"):
        npr.open_result(tmp_path / "begun.zarr", interim=True)
    file.unlink()
    with pytest.raises(StoreError, match="has no interim results"):
        npr.open_result(tmp_path / "begun.zarr", interim=True)
    presented = running(analyses=[], record={"store": "responses"})
    del presented["treatment"]
    del presented["design"]
    with pytest.raises(Stop):
        npr.run(presented, tmp_path / "presented.zarr", listener=stop_after(1, ShardDone))
    with pytest.raises(StoreError, match="repeated has no interim results"):
        npr.open_result(tmp_path / "presented.zarr", interim=True)


@pytest.mark.filterwarnings("ignore:.*:ResourceWarning")
def test_blocks_of_many_workers_need_not_be_the_first_ones(tmp_path: Path) -> None:
    options: dict[str, Any] = {"n_workers": 2, "threads_per_worker": 1, "processes": False, "dashboard_address": ":0"}
    path = tmp_path / "out.zarr"
    with LocalCluster(**options, silence_logs=60) as cluster, Client(cluster) as client, pytest.raises(Stop):
        npr.run(running(), path, client=client, listener=stop_after(3, ShardDone))
    found = npr.open_result(path, interim=True)
    assert found.attrs["samples"] == 64 * 3
    assert found["sobol/conv1"].attrs["blocks"] == 3
    assert np.isfinite(found["sobol/conv1"]["first_order_se"]).any()
    assert_equal(npr.run(running(), path), npr.run(running(), tmp_path / "serial.zarr"))


@pytest.mark.usefixtures("undrawn")
def test_commands_write_it(half_done: Path, tmp_path: Path) -> None:
    for command, file in (("export", "out.nc"), ("report", "out.html")):
        arguments = [command, str(half_done), "-o", str(tmp_path / file)]
        assert CliRunner().invoke(main, arguments).exit_code == 1
        done = CliRunner().invoke(main, [*arguments, "--interim"], catch_exceptions=False)
        assert done.exit_code == 0
    assert "6 of 8 blocks of pick-freeze" in (tmp_path / "out.html").read_text()
    with xr.open_datatree(tmp_path / "out.nc") as tree:
        assert tree.attrs["samples"] == 384


def test_accuracies_of_some_images(image_folder: Path, tmp_path: Path) -> None:
    treatment = {"reference_side": "image", "alterations": [{"name": "grayscale"}]}
    analyses = [{"contrast": {"classes": ["ship", "a", "cat", "b", "dog", "c", "d", "e", "f", "g"]}}]
    changes = {"analyses": analyses, "treatment": treatment, "stimuli": {"images": {"folder": str(image_folder)}}}
    found = npr.open_result(stopped(tmp_path / "out.zarr", 3, **changes), interim=True)
    n_images = found.attrs["samples"]
    assert found["accuracy"]["n_images"].values.tolist() == [n_images] * 3
    fewer = npr.run(running(**changes), tmp_path / "fewer.zarr", limit=n_images)
    xr.testing.assert_allclose(found["accuracy"].to_dataset(), fewer["accuracy"].to_dataset(), rtol=1e-5)
