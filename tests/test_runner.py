"""The rig from end to end: runs, interruptions, extensions, stored responses, refusals."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

import neuroprobe as npr
from neuroprobe import names, planner, plans, summary
from neuroprobe.design.laws import Law
from neuroprobe.errors import PlanError, ProtocolError, ReaderError, ResponseError, StoreError, SubjectError
from neuroprobe.journal import RUN_FOLDER, journal_entries
from neuroprobe.plans import Plan
from neuroprobe.progress import BatchDone, Finished, RunStarted, ShardDone
from neuroprobe.protocol.reader import load_protocol
from neuroprobe.rig import open_rig
from neuroprobe.stimuli.alterations import ALTERATIONS, Parameter, alteration
from oracles import ORACLES

pytestmark = pytest.mark.filterwarnings("ignore:.*(standard errors|not a power of two|upper bound):UserWarning")


def protocol(**changes: object) -> dict:
    """Return a protocol that runs in a second; blocks are replaced by keyword."""
    return {
        "neuroprobe": 1,
        "subject": {"network": "embedded", "layers": [{"name": "conv5", "channels": [0, 5, 9]}, "linear"]},
        "stimuli": {"images": {"photographs": {"per_image": 4}, "size": 16}},
        "treatment": {
            "reference_side": "image",
            "alterations": [
                {"name": "erasing", "switch": 0.5, "row": {"uniform": [2, 14]}, "column": {"uniform": [2, 14]}},
                {"name": "grayscale", "switch": 0.5},
                {"name": "hue", "switch": 0.5},
            ],
        },
        "design": {"samples": 512, "scramble": 64},
        "record": {"batch": 64},
        **changes,
    }


def assert_equal(one: xr.DataTree, other: xr.DataTree) -> None:
    """Every number of two results is the same, bit for bit."""
    assert one.groups == other.groups
    for path in one.groups:
        mine, theirs = one[path].to_dataset(), other[path].to_dataset()
        assert set(mine.variables) == set(theirs.variables), path
        for name, variable in mine.variables.items():
            if variable.dtype.kind == "f":
                assert variable.values.tobytes() == theirs[name].values.tobytes(), f"{path}/{name}"
            else:
                assert (variable.values == theirs[name].values).all(), f"{path}/{name}"


class Stop(Exception):  # noqa: N818
    """An interruption that no code catches."""


def stop_after(n: int, kind: type = BatchDone):
    """Return a listener that interrupts at the n-th event of a kind."""
    seen = []

    def listen(event: object) -> None:
        if isinstance(event, kind):
            seen.append(event)
            if len(seen) == n:
                raise Stop

    return listen


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> xr.DataTree:
    """An undisturbed run."""
    with pytest.warns(UserWarning, match="for these images"):
        return npr.run(protocol(), tmp_path_factory.mktemp("whole") / "out.zarr").load()


def test_result_has_the_shape_of_the_data_model(whole: xr.DataTree) -> None:
    node = whole["sobol/conv5"].to_dataset()
    assert node[names.FIRST_ORDER].dims == ("factor", "channel", "y", "x")
    assert node[names.SECOND_ORDER].dims == ("factor", "factor_2", "channel", "y", "x")
    assert node["factor"].values.tolist() == ["erasing", "grayscale", "hue"]
    assert node["channel"].values.tolist() == [0, 5, 9]
    for name in (names.FIRST_ORDER, names.TOTAL_ORDER, names.SECOND_ORDER, names.VARIANCE, names.MEAN):
        assert f"{name}_se" in node
        assert node[name].attrs["long_name"]
    errors = node["first_order_se"].attrs
    assert (errors["se_scope"], errors["df"]) == ("these images", 7)
    assert whole["sobol/linear"][names.MEAN].dims == ("channel",)
    details = json.loads(whole.attrs[names.PROVENANCE])
    assert whole.attrs["Conventions"] == names.CONVENTIONS
    assert {"protocol", "protocol_hash", "weights_hash", "stimulus_hash", "versions", "device", "layouts"} <= set(
        details
    )


def test_indices_obey_their_inequalities(whole: xr.DataTree) -> None:
    for node in whole["sobol"].children.values():
        data = node.to_dataset().where(node["defined"] == 1)
        slack = 6 * np.hypot(data.first_order_se, data.total_order_se) + 1e-6
        assert bool(((data.first_order <= data.total_order + slack) | data.first_order.isnull()).all())
        assert bool(((data.variance > 0) | data.variance.isnull()).all())


def test_plain_xarray_opens_a_result_without_a_warning(tmp_path: Path) -> None:
    npr.run(protocol(design={"samples": 128}), tmp_path / "out.zarr")
    tree = xr.open_datatree(tmp_path / "out.zarr")
    assert set(tree.children) == {"sobol", "convergence", "stimuli"}


def test_convergence_is_kept(whole: xr.DataTree) -> None:
    table = whole["convergence/sobol"].to_dataset()
    assert table["samples"].values.tolist() == [128, 256, 512]
    assert table["layer"].values.tolist() == ["conv5", "linear"]
    median = table["first_order_se_median"].sel(samples=512, layer="linear", factor="hue")
    np.testing.assert_allclose(median, whole["sobol/linear"].first_order_se.sel(factor="hue").median())


@pytest.mark.parametrize("stops", [[(1, BatchDone)], [(3, ShardDone), (2, BatchDone)], [(9, BatchDone)] * 3])
def test_interrupted_and_resumed_equals_undisturbed(whole: xr.DataTree, tmp_path: Path, stops: list) -> None:
    out = tmp_path / "out.zarr"
    for n, kind in stops:
        with pytest.raises(Stop):
            npr.run(protocol(), out, listener=stop_after(n, kind))
        with pytest.raises(StoreError, match=r"unfinished: .* of 8 blocks"):
            npr.open_result(out)
    assert_equal(npr.run(protocol(), out), whole)


def test_killed_and_resumed_equals_undisturbed(whole: xr.DataTree, tmp_path: Path) -> None:
    """kill -9 at two moments of the run, in a process of its own."""
    out, script = tmp_path / "out.zarr", tmp_path / "p.json"
    script.write_text(json.dumps(protocol()))
    command = f"import json, neuroprobe as npr; npr.run(json.load(open({str(script)!r})), {str(out)!r})"
    for n_done in (1, 3):
        process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", command])
        while process.poll() is None and len(journal_entries(out)) < n_done:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert 0 < len(journal_entries(out)) < 12
    assert_equal(npr.run(protocol(), out), whole)


def test_extended_equals_the_longer_run_from_scratch(whole: xr.DataTree, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    short = npr.run(protocol(design={"samples": 256, "scramble": 64}), out)
    assert short.attrs["samples"] == 256
    assert_equal(npr.run(protocol(), out), whole)
    with pytest.raises(StoreError, match="holds 512 base samples, more than the 256 asked for"):
        npr.run(protocol(design={"samples": 256, "scramble": 64}), out)


def test_a_crash_while_the_result_is_written_loses_nothing(
    whole: xr.DataTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All blocks of an extension are done, and the run dies before, or in the middle of, writing its result."""
    out = tmp_path / "out.zarr"
    npr.run(protocol(design={"samples": 256, "scramble": 64}), out)
    with monkeypatch.context() as patch:
        patch.setattr("neuroprobe.runner.write_result", lambda *_: (_ for _ in ()).throw(Stop()))
        with pytest.raises(Stop):
            npr.run(protocol(), out)
    assert npr.open_result(out).attrs["samples"] == 256
    replace = os.replace

    def replace_and_die(source: Path, target: Path) -> None:
        replace(source, target)
        if Path(target).name == "sobol":
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace_and_die)
        with pytest.raises(Stop):
            npr.run(protocol(), out)
    with pytest.raises(StoreError, match="unfinished: 8 of 8 blocks"):
        npr.open_result(out)
    assert_equal(npr.run(protocol(), out), whole)


def test_overwriting_leaves_a_store_alone_to_which_a_run_is_writing(tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"

    def overwrite(event: object) -> None:
        if isinstance(event, ShardDone):
            npr.run(protocol(), out, overwrite=True)

    with pytest.raises(StoreError, match="another run is writing"):
        npr.run(protocol(), out, listener=overwrite)
    assert journal_entries(out)


def test_a_limited_run_is_not_extended_to_the_real_one(tmp_path: Path) -> None:
    """A trial's blocks of a few base samples would be those of the real run's standard errors."""
    out = tmp_path / "out.zarr"
    npr.run(protocol(), out, limit=16)
    with pytest.raises(StoreError, match="begun with blocks of 8 base samples, by a run of few samples"):
        npr.run(protocol(), out)
    assert npr.run(protocol(), out, overwrite=True).attrs["scramble"] == 64


def test_more_samples_than_meant_can_be_taken_back(whole: xr.DataTree, tmp_path: Path) -> None:
    """A run of far too many samples that was stopped goes on as one of fewer."""
    out = tmp_path / "out.zarr"
    with pytest.raises(Stop):
        npr.run(protocol(design={"samples": 1 << 16, "scramble": 64}), out, listener=stop_after(2, ShardDone))
    assert_equal(npr.run(protocol(), out), whole)


def test_a_state_that_is_gone_is_recorded_again(whole: xr.DataTree, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    with pytest.raises(Stop):
        npr.run(protocol(), out, listener=stop_after(3, ShardDone))
    (out / RUN_FOLDER / "pick-freeze-0-2.safetensors").unlink()
    assert_equal(npr.run(protocol(), out), whole)


def test_overwriting_deletes_nothing_before_the_plan_is_checked(tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    npr.run(protocol(design={"samples": 128}), out)
    with pytest.raises(PlanError, match="at least 4"):
        npr.run(protocol(), out, overwrite=True, limit=2)
    assert npr.open_result(out).attrs["samples"] == 128


def test_readers_leave_a_journal_alone_that_is_being_written(tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    npr.run(protocol(design={"samples": 128}), out)
    journal = out / RUN_FOLDER / "journal.jsonl"
    with journal.open("a") as file:
        file.write('{"span": [2, 3], "fi')
    before = journal.read_bytes()
    assert summary.status(out).sessions["pick-freeze"]["blocks_done"] == 2
    assert journal.read_bytes() == before


def test_extending_keeps_the_scramble_of_the_first_run(tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    npr.run(protocol(design={"samples": 128}), out)
    extended = npr.run(protocol(design={"samples": 256}), out)
    assert (extended.attrs["scramble"], extended["sobol/linear"].attrs["blocks"]) == (64, 4)


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    out, events = tmp_path / "out.zarr", []
    first = npr.run(protocol(design={"samples": 128}), out, listener=events.append).load()
    assert [type(event) for event in events if not isinstance(event, BatchDone | ShardDone)] == [RunStarted, Finished]
    assert sum(event.n_samples for event in events if isinstance(event, BatchDone)) == 128
    events.clear()
    assert_equal(npr.run(protocol(design={"samples": 128}), out, listener=events.append), first)
    assert not events


def test_torn_journal_line_and_half_written_state_are_forgotten(whole: xr.DataTree, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    with pytest.raises(Stop):
        npr.run(protocol(), out, listener=stop_after(4, ShardDone))
    with (out / RUN_FOLDER / "journal.jsonl").open("a") as journal:
        journal.write('{"span": [4, 5], "fi')
    (out / RUN_FOLDER / "pick-freeze-4-5.safetensors").write_bytes(b"half a file")
    assert_equal(npr.run(protocol(), out), whole)
    assert [path.name for path in (out / RUN_FOLDER).glob("*.safetensors")] == ["pick-freeze-0-8.safetensors"]


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"record": {"batch": 32}},
        {"stimuli": {"images": {"photographs": {"per_image": 5}, "size": 16}}},
        {"subject": {"network": "embedded", "weights": "none", "layers": ["linear"]}},
    ],
)
def test_another_protocol_on_the_same_store_is_refused(whole: xr.DataTree, tmp_path: Path, changes: dict) -> None:
    out = tmp_path / "out.zarr"
    npr.run(protocol(design={"samples": 128}), out)
    before = sorted(path.name for path in out.rglob("*"))
    with pytest.raises(StoreError, match="another protocol"):
        npr.run(protocol(**{"design": {"samples": 128}, **changes}), out)
    assert sorted(path.name for path in out.rglob("*")) == before
    replaced = npr.run(protocol(title="anew", **{"design": {"samples": 128}, **changes}), out, overwrite=True)
    assert replaced.attrs["title"] == "anew"


def test_another_title_or_device_resumes(tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    npr.run(protocol(design={"samples": 128}), out)
    again = npr.run(protocol(design={"samples": 128}, title="again", record={"batch": 64, "device": "cpu"}), out)
    assert again.attrs["samples"] == 128


def test_output_that_is_not_a_result_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("precious")
    for path in (file, tmp_path):
        for overwrite in (False, True):
            with pytest.raises(StoreError, match="exists and is not a result"):
                npr.run(protocol(), path, overwrite=overwrite)
    assert file.read_text() == "precious"


def test_two_runs_cannot_write_to_one_store(tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"

    def run_again(event: object) -> None:
        npr.run(protocol(), out)

    with pytest.raises(StoreError, match="another run is writing"):
        npr.run(protocol(), out, listener=run_again)


@pytest.mark.parametrize("whole_scramble", [False, True])
def test_stored_responses_give_the_same_numbers(tmp_path: Path, whole_scramble: bool) -> None:
    out = tmp_path / "out.zarr"
    design = {"samples": 128, "scramble": "whole"} if whole_scramble else {"samples": 256}
    result = npr.run(protocol(design=design, record={"batch": 64, "store": "responses"}), out)
    recording = npr.open_recording(out)
    response = recording["responses/conv5"]["response"]
    assert response.chunks is not None
    assert response.dims == ("presentation", "channel", "y", "x")
    assert response.sizes["presentation"] == design["samples"] * 8
    assert {"role", "sample", "image_id", "stimulus_id", "class_label", "hue_on", "hue_shift"} <= set(response.coords)
    assert not response.isnull().any().compute()
    again = npr.sobol(recording)
    for layer, node in again.children.items():
        for name, values in node.data_vars.items():
            np.testing.assert_allclose(values, result[f"sobol/{layer}"][name], rtol=2e-5, atol=2e-6, err_msg=name)
        assert node[names.se(names.MEAN)].attrs == result[f"sobol/{layer}"][names.se(names.MEAN)].attrs


def test_stored_responses_are_the_network_s(tmp_path: Path) -> None:
    """The table says what was shown: rebuild a few stimuli from it by hand and show them again."""
    out = tmp_path / "out.zarr"
    npr.run(protocol(design={"samples": 128}, record={"store": {"responses": ["linear"]}}), out)
    node = npr.open_recording(out)["responses/linear"].to_dataset()
    from neuroprobe.protocol import load_protocol
    from neuroprobe.rig import open_rig

    rig = open_rig(load_protocol(protocol()))
    for row in range(0, 64, 7):
        shown = node.isel(presentation=row)
        image = rig.images.load([rig.images.ids.index(str(shown.image_id.values))])

        def value(name: str, shown: xr.Dataset = shown) -> torch.Tensor:
            return torch.tensor([float(shown[name])])

        if shown.erasing_on:
            parameters = [value(f"erasing_{name}") for name in ("row", "column", "area", "aspect", "outside")]
            image = ALTERATIONS["erasing"].function(image, *parameters)
        if shown.grayscale_on:
            image = ALTERATIONS["grayscale"].function(image)
        if shown.hue_on:
            image = ALTERATIONS["hue"].function(image, value("hue_shift"))
        with torch.inference_mode():
            expected = rig.subject.network(rig.subject.prepare(image))[0]
        np.testing.assert_allclose(shown.response.values, expected, rtol=1e-3, atol=1e-3)


def test_stored_responses_survive_interruption_and_extension(tmp_path: Path) -> None:
    stored = {"batch": 64, "store": {"responses": ["linear"]}}
    straight = tmp_path / "straight.zarr"
    npr.run(protocol(design={"samples": 256, "scramble": 64}, record=stored), straight)
    out = tmp_path / "out.zarr"
    with pytest.raises(Stop):
        npr.run(protocol(design={"samples": 128, "scramble": 64}, record=stored), out, listener=stop_after(4))
    npr.run(protocol(design={"samples": 128, "scramble": 64}, record=stored), out)
    assert npr.open_recording(out).sizes["presentation"] == 1024
    npr.run(protocol(design={"samples": 256, "scramble": 64}, record=stored), out)
    one, other = (npr.open_recording(path)["responses/linear"].to_dataset() for path in (straight, out))
    xr.testing.assert_identical(one.load(), other.load())


def test_one_base_sample_in_several_passes(tmp_path: Path, whole: xr.DataTree) -> None:
    """A batch smaller than a base sample's rows gives the same indices, to the rounding of float32."""
    few = npr.run(protocol(record={"batch": 3}), tmp_path / "out.zarr")
    one, other = few["sobol/linear"].first_order, whole["sobol/linear"].first_order
    np.testing.assert_allclose(one, other, atol=1e-4)


def test_blocks_longer_than_a_piece(tmp_path: Path, whole: xr.DataTree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Presentations are made some base samples at a time: memory does not grow with the length of a block."""
    monkeypatch.setattr(plans, "PIECE", 16)
    out = tmp_path / "out.zarr"
    pieces = npr.run(protocol(record={"batch": 64, "store": {"responses": ["linear"]}}), out)
    np.testing.assert_allclose(pieces["sobol/linear"].first_order, whole["sobol/linear"].first_order, atol=1e-4)
    again = npr.sobol(npr.open_recording(out))["linear"]
    np.testing.assert_allclose(again.total_order, pieces["sobol/linear"].total_order, atol=1e-5)
    # float32 sums go into float64 at other places, and that is all
    np.testing.assert_allclose(again.first_order_se, whole["sobol/linear"].first_order_se, atol=1e-4)


def test_random_twin_has_the_same_layers_and_other_numbers(tmp_path: Path, whole: xr.DataTree) -> None:
    subject = {**protocol()["subject"], "random_twin": True}
    twin = npr.run(protocol(subject=subject, design={"samples": 128}), tmp_path / "out.zarr")
    assert twin["sobol"].children.keys() == whole["sobol"].children.keys()
    assert not np.allclose(twin["sobol/linear"].total_order, whole["sobol/linear"].total_order, atol=1e-3)


def test_limit_runs_fewer_base_samples(tmp_path: Path) -> None:
    result = npr.run(protocol(), tmp_path / "out.zarr", limit=16)
    assert (result.attrs["samples"], result["sobol/linear"].attrs["blocks"]) == (16, 2)


def test_samples_that_are_no_power_of_two_are_warned_about(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="not a power of two"):
        result = npr.run(protocol(design={"samples": 320, "scramble": 64}), tmp_path / "out.zarr")
    assert result["sobol/linear"].attrs["blocks"] == 5


@pytest.mark.parametrize("image", ["factor", "redrawn"])
def test_image_as_factor_and_redrawn(tmp_path: Path, image: str) -> None:
    stimuli = {**protocol()["stimuli"], "image": image}
    with (
        pytest.warns(UserWarning, match="redrawn hides")
        if image == "redrawn"
        else pytest.warns(UserWarning, match="rest on")
    ):
        result = npr.run(protocol(stimuli=stimuli, design={"samples": 128}), tmp_path / "out.zarr")
    node = result["sobol/linear"]
    factors = node["factor"].values.tolist()
    assert factors == ["erasing", "grayscale", "hue", *(["image"] if image == "factor" else [])]
    if image == "factor":
        # which photograph it is explains far more than its hue
        assert float(node.total_order.sel(factor="image").mean()) > float(node.total_order.sel(factor="hue").mean())
        assert node["first_order_se"].attrs["se_scope"] == "images drawn from this set"
    else:
        # the reference's choice: every factor seems to explain what the images do
        assert float(node.total_order.min()) > 0.5


def test_order_as_factor(tmp_path: Path) -> None:
    treatment = {**protocol()["treatment"], "order": "factor"}
    stored = {"batch": 64, "store": {"responses": ["linear"]}}
    npr.run(protocol(treatment=treatment, design={"samples": 128}, record=stored), tmp_path / "out.zarr")
    recording = npr.open_recording(tmp_path / "out.zarr")
    assert set(recording["order"].values.tolist()) == set(range(6))
    assert npr.sobol(recording)["linear"]["factor"].values.tolist() == ["erasing", "grayscale", "hue", "order"]


def test_order_as_factor_against_every_state(tmp_path: Path) -> None:
    """Three alterations, on or off, in six orders, of one image: 48 states, of which the exact indices follow."""
    alterations = [
        {"name": "erasing", "switch": 0.5, "row": 20, "column": 8, "area": 0.15, "aspect": 1},
        {"name": "gaussian_blur", "switch": 0.5, "sigma": 1.5},
        {"name": "rotation", "switch": 0.5, "angle": 30, "crop": 0},
    ]
    asked = protocol(
        treatment={"alterations": alterations, "order": "factor", "reference_side": "image"},
        stimuli={"images": {"photographs": {"per_image": 1}, "limit": 1, "size": 32}},
        design={"samples": 1024, "scramble": 64},
    )
    node = npr.run(asked, tmp_path / "out.zarr")["sobol/linear"]
    rig = open_rig(load_protocol(asked))
    labels = [item["name"] for item in alterations]
    states = np.array(list(itertools.product(*[[0, 1]] * 3, range(6))))
    values = {f"{label}_on": torch.from_numpy(states[:, i]) for i, label in enumerate(labels)}
    values["order"] = torch.from_numpy(states[:, 3])
    values["erasing_outside"] = torch.zeros(48)
    for item in alterations:
        for key in set(item) - {"name", "switch"}:
            values[f"{item['name']}_{key}"] = torch.full((48,), float(item[key]))
    shown = rig.treatment.apply(rig.images.load([0] * 48), values, torch.zeros(48, dtype=torch.int64))
    with torch.no_grad():
        y = rig.subject.network(rig.subject.prepare(shown)).double().numpy().reshape(2, 2, 2, 6, 10)
    variance = y.var((0, 1, 2, 3))
    for index, name in enumerate([*labels, "order"]):
        others = tuple(axis for axis in range(4) if axis != index)
        first, total = y.mean(others).var(0) / variance, y.var(index).mean((0, 1, 2)) / variance
        for exact, kind in ((first, "first_order"), (total, "total_order")):
            found, error = (node[key].sel(factor=name).values for key in (kind, f"{kind}_se"))
            # t with 15 degrees of freedom
            assert (np.abs(found - exact) <= 6 * error + 1e-6).all(), (name, kind)
    assert float(node["total_order"].sel(factor="order").mean()) > 0.005


def test_replicated_images(tmp_path: Path) -> None:
    """Each block shows images of its own: the errors are for new images, and larger where images differ."""
    plain = npr.run(protocol(), tmp_path / "plain.zarr")["sobol/linear"]
    asked = protocol(design={"samples": 512, "replicate": "image"}, record={"batch": 64, "store": "responses"})
    node = npr.run(asked, tmp_path / "out.zarr")["sobol/linear"]
    assert node["first_order_se"].attrs["se_scope"] == "new images of the same kind"
    assert plain["first_order_se"].attrs["se_scope"] == "these images"
    recording = npr.open_recording(tmp_path / "out.zarr")
    shown = recording["image_id"].values.reshape(node.attrs["blocks"], -1)
    groups = [set(block.tolist()) for block in shown]
    assert sum(map(len, groups)) == len(set.union(*groups))
    again = npr.sobol(recording)["linear"]
    xr.testing.assert_allclose(again.to_dataset(), node.to_dataset(), rtol=1e-5, atol=1e-7)
    assert again["first_order_se"].attrs == node["first_order_se"].attrs
    with pytest.raises(StoreError, match="have no images left"):
        npr.run({**asked, "design": {"samples": 1024, "replicate": "image"}}, tmp_path / "out.zarr")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"design": {"samples": 4096, "replicate": "image", "scramble": 64}},
            PlanError,
            r"replicate: image: 64 blocks of 64 base samples need as many groups of images, and there are \d+ images",
        ),
        ({"design": {"replicate": "image"}, "image": "factor"}, ProtocolError, "replicate: image takes frozen images"),
        ({"analyses": [{"sobol": {"estimator": "salib"}}]}, ProtocolError, "holds the variance between images"),
        (
            {"analyses": [{"sobol": {"estimator": "salib", "total_interaction": True}}], "image": "factor"},
            ProtocolError,
            "total_interaction, which SALib does not compute",
        ),
        (
            {"analyses": [{"sobol": {"estimator": "salib"}}], "image": "factor", "record": {"nan": "drop"}},
            ProtocolError,
            "nan: drop",
        ),
        ({"analyses": [{"sobol": {"estimator": "salob"}}]}, ProtocolError, "salob"),
    ],
)
def test_scopes_and_estimators_that_do_not_go_together(changes: dict, error: type, message: str, tmp_path) -> None:
    image = changes.pop("image", "frozen")
    with pytest.raises(error, match=message):
        npr.run(protocol(**changes, stimuli={**protocol()["stimuli"], "image": image}), tmp_path / "out.zarr")
    assert not (tmp_path / "out.zarr").exists()


NETWORK = """
import torch

class Reader(torch.nn.Module):
    '''Reads numbers out of the columns of an image and computes a function of them.'''
    def __init__(self):
        super().__init__()
        self.out = torch.nn.Identity()

    def forward(self, images):
        u = images[:, 0, 0, :3].double()
        x = (2 * u - 1) * torch.pi
        y = x[:, 0].sin() + 7 * x[:, 1].sin() ** 2 + 0.1 * x[:, 2] ** 4 * x[:, 0].sin()
        return self.out(torch.stack([y, y.relu(), u[:, 0]], 1).float())

def reader():
    return Reader().eval()

def training():
    return torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1), torch.nn.BatchNorm2d(2))

class Noisy(Reader):
    def forward(self, images):
        return self.out(images.mean((2, 3)) + torch.randn(len(images), 3))

class NotFinite(Reader):
    def forward(self, images):
        y = images[:, :, 0, 0].clone()
        y[images[:, 0, 0, 0] > 0.9] = float('nan')
        return self.out(y)

def noisy():
    return Noisy().eval()

def not_finite():
    return NotFinite().eval()
"""


@pytest.fixture
def networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module with networks of a user's."""
    (tmp_path / "my_networks.py").write_text(NETWORK)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_networks", raising=False)


@pytest.fixture
def marking():
    """An alteration that writes its parameter into a column of the image, exactly."""

    @alteration(
        "marking",
        value=Parameter(Law("uniform", (0, 1)), low=0, high=1),
        column=Parameter(Law("constant", (0,)), low=0),
    )
    def mark(images: torch.Tensor, value: torch.Tensor, column: torch.Tensor) -> torch.Tensor:
        """Write a value into a column of the image."""
        marked = images.clone()
        marked[torch.arange(len(images)), :, :, column.long()] = value.view(-1, 1, 1)
        return marked

    yield
    ALTERATIONS._known.pop("marking")


def reading(network: str = "reader", **changes: object) -> dict:
    """Return a protocol in which a network computes a function of what three alterations write into the image."""
    marks = [{"name": "marking", "as": f"x{i + 1}", "column": i} for i in range(3)]
    return protocol(
        **{
            "subject": {"network": f"my_networks:{network}", "layers": ["out"]},
            "treatment": {"alterations": marks},
            "design": {"samples": 4096},
            **changes,
        }
    )


@pytest.mark.usefixtures("networks", "marking")
@pytest.mark.parametrize("scramble", ["auto", "whole"])
def test_closed_form_through_protocol_network_and_store(tmp_path: Path, scramble: str) -> None:
    """Ishigami's function, computed by a network from what the alterations do to the image."""
    result = npr.run(reading(design={"samples": 4096, "scramble": scramble}), tmp_path / "out.zarr")
    node, oracle = result["sobol/out"].to_dataset(), ORACLES[0]
    for name, exact in (("first_order", oracle.first), ("total_order", oracle.total)):
        error = np.abs(node[name].isel(channel=0) - exact)
        assert bool((error <= 7.5 * node[f"{name}_se"].isel(channel=0) + 1e-6).all())
    # the third unit is x1 alone
    np.testing.assert_allclose(node["first_order"].isel(channel=2), [1, 0, 0], atol=1e-5)
    assert node["first_order_se"].attrs["se_kind"].startswith("upper" if scramble == "whole" else "delta")


@pytest.mark.usefixtures("networks", "marking")
def test_not_finite_responses(tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    with pytest.raises(ResponseError, match=r"layer 'out': 3 of 3 units gave NaN or infinity at base sample \d+"):
        npr.run(reading("not_finite"), out)
    kept = npr.run(reading("not_finite", record={"nan": "drop"}, design={"samples": 512}), tmp_path / "dropped.zarr")
    node = kept["sobol/out"].to_dataset()
    # a sample is dropped where x1 is above 0.9 in A or in B: 19 %
    np.testing.assert_allclose(node["n_dropped"] / 512, 0.19, atol=0.02)
    np.testing.assert_allclose(node["first_order"].isel(channel=0), [1, 0, 0], atol=1e-5)


@pytest.mark.usefixtures("networks", "marking")
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"subject": {"network": "my_networks:training", "layers": ["0"]}}, SubjectError, "train mode: call `.eval"),
        ({"subject": {"network": "my_networks:noisy", "layers": ["out"]}}, SubjectError, "responds otherwise when"),
        ({"subject": {"network": "alexnett", "layers": ["x"]}}, SubjectError, "did you mean 'alexnet'"),
        ({"subject": {"network": "embedded", "layers": ["conv9"]}}, SubjectError, "nearest: conv"),
        ({"subject": {"network": "cifar_resnet20", "layers": ["linear"]}}, SubjectError, "no default weights"),
        (
            {"subject": {"network": "embedded", "weights": "gone.pt", "layers": ["linear"]}},
            ReaderError,
            "gone.pt': no such file",
        ),
        ({"stimuli": {"images": {"folder": "nowhere"}}}, ReaderError, "does not exist"),
        ({"stimuli": {"images": {"photographs": {"crop": 5000}}}}, ReaderError, "lower the crop"),
        ({"record": {"device": "cuda:7"}}, PlanError, "sees no CUDA"),
        ({"design": {"samples": "many"}}, ProtocolError, "valid integer"),
        ({"sed": 1}, ProtocolError, "did you mean 'seed'"),
    ],
)
def test_bad_input_is_refused_before_any_work(tmp_path: Path, changes: dict, error: type, message: str) -> None:
    if "cuda" in str(changes) and torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    out = tmp_path / "out.zarr"
    with pytest.raises(error, match=message):
        npr.run(protocol(**changes), out)
    assert not out.exists()


def test_plan_says_what_a_run_costs() -> None:
    made = npr.plan(protocol(), measure=False)["pick-freeze"]
    assert (made.samples, made.n_rows, made.n_blocks) == (512, 8, 8)
    assert made.n_units == 3 * 2 * 2 + 10
    assert made.seconds is None
    assert made.n_presented < made.samples * made.n_rows
    text = str(made)
    for word in ("512 base samples × 8", "conv5", "memory", "disk", "warning"):
        assert word in text
    assert npr.plan(protocol(design={"samples": 128})).seconds > 0


def test_open_result_explains_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such result"):
        npr.open_result(tmp_path / "nothing.zarr")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match="not a result of neuroprobe"):
        npr.open_result(tmp_path / "folder")
    npr.run(protocol(design={"samples": 128}), tmp_path / "out.zarr")
    with pytest.raises(StoreError, match="holds no responses"):
        npr.open_recording(tmp_path / "out.zarr")


def test_global_random_state_is_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    np.random.seed(5)  # noqa: NPY002 - the state that is to be left alone
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    npr.run(
        protocol(design={"samples": 128}, subject={"network": "embedded", "weights": "none", "layers": ["linear"]}),
        tmp_path / "o.zarr",
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002


def test_environment_of_the_run_does_not_matter(
    whole: xr.DataTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same protocol from another folder gives the same bits."""
    monkeypatch.chdir(tmp_path)
    assert os.getcwd() == str(tmp_path)
    assert_equal(npr.run(protocol(), "relative.zarr"), whole)


def test_lengths_outside_of_the_image_are_refused() -> None:
    """The study's laws for 224 px, taken as they are, put every rectangle outside of a small image."""
    treatment = {"reference_side": "image", "alterations": [{"name": "erasing", "switch": 0.5}]}
    with pytest.raises(PlanError, match=r"erasing: row lies between 44 and 180 px, outside of images of 16 px"):
        npr.plan(protocol(treatment=treatment), measure=False)


@pytest.mark.usefixtures("networks", "marking")
def test_a_run_that_stopped_before_its_first_block_does_not_stand_in_the_way(tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    with pytest.raises(ResponseError):
        npr.run(reading("not_finite"), out)
    assert npr.run(protocol(design={"samples": 128}), out).attrs["samples"] == 128


def test_a_layer_that_never_varies_is_warned_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "still.py").write_text(
        "import torch\n"
        "class Still(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.out = torch.nn.Identity()\n"
        "    def forward(self, images):\n"
        "        return self.out(torch.ones(len(images), 2))\n"
        "def still():\n"
        "    return Still().eval()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    subject = {"network": "still:still", "layers": ["out"]}
    with pytest.warns(UserWarning, match="layer 'out': no unit varies"):
        result = npr.run(protocol(subject=subject, design={"samples": 128}), tmp_path / "out.zarr")
    assert not result["sobol/out"].defined.any()


def test_outputs_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"cannot be made in .* \(it is a file\)"):
        npr.run(protocol(), tmp_path / "file" / "out.zarr")


def test_a_crash_while_overwriting_leaves_no_journal_to_another_protocol(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The states of the old protocol are never taken for those of the new one."""
    out = tmp_path / "out.zarr"
    npr.run(protocol(design={"samples": 128}), out)
    unlink = Path.unlink

    def unlink_and_die(path: Path, missing_ok: bool = False) -> None:
        unlink(path, missing_ok=missing_ok)
        if path.name == "header.json":
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", unlink_and_die)
        with pytest.raises(Stop):
            npr.run(protocol(seed=1, design={"samples": 128}), out, overwrite=True)
    anew = npr.run(protocol(seed=1, design={"samples": 128}), out)
    assert_equal(anew, npr.run(protocol(seed=1, design={"samples": 128}), tmp_path / "straight.zarr"))


@pytest.mark.parametrize("short", [False, True])
def test_shards_stay_short_where_memory_is_short(
    tmp_path: Path, whole: xr.DataTree, monkeypatch: pytest.MonkeyPatch, short: bool
) -> None:
    monkeypatch.setattr(planner, "MIN_SHARDS", 1)
    monkeypatch.setattr(planner, "SHARD_SECONDS", 1e9)
    if short:
        monkeypatch.setattr(Plan, "keeps", lambda plan, budget: plan.shard == 1)
    shards: list[int] = []

    def listen(event: object) -> None:
        if isinstance(event, ShardDone):
            shards.append(len(event.span))

    assert_equal(npr.run(protocol(), tmp_path / "out.zarr", listener=listen), whole)
    assert shards == ([1] * 8 if short else [1, 1, 2, 4])


@pytest.mark.parametrize("n_alterations", [3, 6])
def test_sobol_and_shapley_share_one_recording(n_alterations: int, tmp_path: Path) -> None:
    """Sobol indices are those of a run of their own, but for rounding, which depends on the size of forward passes."""
    kinds = ("erasing", "grayscale", "hue", "brightness", "hflip", "contrast")[:n_alterations]
    given = {
        "treatment": {"alterations": [{"name": kind, "switch": 0.5} for kind in kinds]},
        "design": {"samples": 512, "scramble": 64},
    }
    joint = npr.run(protocol(**given, analyses=["sobol", "shapley"]), tmp_path / "joint.zarr")
    alone = npr.run(protocol(**given), tmp_path / "sobol.zarr")
    for layer, node in alone["sobol"].children.items():
        xr.testing.assert_allclose(joint[f"sobol/{layer}"].to_dataset(), node.to_dataset(), rtol=1e-3, atol=1e-4)
        effects = joint[f"shapley/{layer}"].to_dataset()
        known = effects["defined"] == 1
        total = effects.shapley_effect.sum("factor").where(known)
        np.testing.assert_allclose(total.values[known.values], 1, atol=1e-6)
        slack = 8 * np.sqrt(effects.shapley_effect_se**2 + node["first_order_se"] ** 2 + node["total_order_se"] ** 2)
        assert bool((node["first_order"] <= effects.shapley_effect + slack).where(known, True).all())
        assert bool((effects.shapley_effect <= node["total_order"] + slack).where(known, True).all())
    assert set(joint["convergence"].children) == {"sobol", "shapley"}
    assert set(joint["convergence/shapley"].data_vars) >= {"shapley_effect_se_median"}
    assert joint.attrs["rows"] == (3 * n_alterations - 1 if n_alterations > 4 else joint.attrs["rows"])


def test_parameters_as_players(tmp_path: Path) -> None:
    """Each parameter and switch is swapped by itself; the effects are labelled by alterations, and sum to 1."""
    changes = {
        "analyses": ["shapley"],
        "treatment": {**protocol()["treatment"], "order": "factor"},
        "record": {"batch": 64, "store": "responses"},
    }
    rig = open_rig(load_protocol(protocol(**changes, design={"samples": 512, "players": "parameters"})))
    assert [player.name for player in rig.players] == [
        *("erasing_on", "erasing_row", "erasing_column", "erasing_area", "erasing_aspect"),
        *("grayscale_on", "hue_on", "hue_shift", "order"),
    ]
    assert rig.design(None).n_rows == 10
    split, whole = (
        npr.run(protocol(**changes, design={"samples": 512, "players": players}), tmp_path / f"{players}.zarr")
        for players in ("parameters", "factors")
    )
    stored = npr.shapley(npr.open_recording(tmp_path / "parameters.zarr"))
    assert split.attrs["rows"] == 10
    assert whole.attrs["rows"] == 16  # all subsets of four factors
    for layer in whole["shapley"].children:
        one, other = (result[f"shapley/{layer}"].to_dataset() for result in (split, whole))
        assert list(one["factor"].values) == ["erasing", "grayscale", "hue", "order"]
        known = (one["defined"] == 1).values
        np.testing.assert_allclose(one["shapley_effect"].sum("factor").values[known], 1, atol=1e-5)
        # most interactions of the rectangle hold more of its own players than of others
        erasing = one["shapley_effect"].sel(factor="erasing") - other["shapley_effect"].sel(factor="erasing")
        assert float(erasing.where(known).median()) > 0
        assert "summed per factor" in one.attrs["method"]
        xr.testing.assert_allclose(stored[layer].to_dataset()["shapley_effect"], one["shapley_effect"], atol=1e-5)


def test_moments_by_themselves(tmp_path: Path) -> None:
    """Rows A and B are enough, and give the moments of a run with more rows."""
    moments = npr.run(protocol(analyses=["moments"]), tmp_path / "moments.zarr")
    assert moments.attrs["rows"] == 2
    assert set(moments.children) == {"moments", "stimuli"}
    both = npr.run(protocol(analyses=["sobol", "moments"]), tmp_path / "both.zarr")
    for layer, node in moments["moments"].children.items():
        data = node.to_dataset()
        xr.testing.assert_allclose(both[f"moments/{layer}"].to_dataset(), data, rtol=1e-3, atol=1e-4)
        spread = np.sqrt(data["variance"]) / abs(data["mean"])
        xr.testing.assert_allclose(data["coefficient_of_variation"], spread.where(data["defined"] == 1))
        np.testing.assert_allclose(both[f"sobol/{layer}"]["mean"], data["mean"], rtol=1e-3, atol=1e-5)
        assert bool((data["coefficient_of_variation_se"] > 0).where(data["defined"] == 1, True).all())


def test_components_of_few_factors_sum_to_one(tmp_path: Path) -> None:
    result = npr.run(protocol(analyses=["shapley"]), tmp_path / "out.zarr")
    node = result["shapley/conv5"].to_dataset()
    assert node["subset"].values.tolist() == [
        "erasing",
        "grayscale",
        "hue",
        "erasing_grayscale",
        "erasing_hue",
        "grayscale_hue",
        "erasing_grayscale_hue",
    ]
    known = node["defined"] == 1
    np.testing.assert_allclose(node["component"].sum("subset").values[known.values], 1, atol=1e-6)
    of_hue = [name for name in node["subset"].values if "hue" in name]
    shares = [node["component"].sel(subset=name) / len(name.split("_")) for name in of_hue]
    xr.testing.assert_allclose(
        sum(shares).drop_vars(["subset", "factor"], errors="ignore").where(known),
        node["shapley_effect"].sel(factor="hue", drop=True).where(known),
    )


@pytest.mark.parametrize(
    ("players", "way"), [("parameters", "conditional walks"), ("factors", "subsets")], ids=lambda word: str(word)
)
def test_parameters_of_one_alteration_that_depend_on_each_other(players: str, way: str) -> None:
    correlation = [{"between": ["erasing_row", "erasing_column"], "r": 0.5}]
    treatment = {**protocol()["treatment"], "dependence": {"correlation": correlation}}
    changes = {"analyses": ["shapley"], "treatment": treatment, "design": {"samples": 512, "players": players}}
    rig = open_rig(load_protocol(protocol(**changes)))
    assert rig.shapley == way
    [analysis] = rig.analyses
    shown = rig.design(64).presentations(0, 64)
    assert analysis.rows(shown).shape == (64, analysis.terms.n_rows)
