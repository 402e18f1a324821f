"""Lesions in protocols: what is recorded of a lesioned network, and what a store remembers of it."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import neuroprobe as npr
from neuroprobe import names
from neuroprobe.errors import NeuroprobeError, StoreError, SubjectError, UnknownNameError
from neuroprobe.export import export_netcdf
from neuroprobe.progress import BatchDone
from neuroprobe.protocol.digest import as_given, guard_hash
from neuroprobe.report import write_report
from neuroprobe.rig import open_rig

pytestmark = pytest.mark.filterwarnings("ignore:.*(standard errors|upper bound|no unit varies|accuracies):UserWarning")

CHANNELS = {"units": "layer == 'conv3' and channel in [3, 17, 40]", "multiply": 0}
HALF = {"random": {"share": 0.5, "seed": 3}, "layers": ["conv5"], "multiply": 0.5}


def protocol(lesion: Any = None, subject: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"network": "embedded", "layers": ["conv5", "linear"], **(subject or {})}
    return {
        "neuroprobe": 1,
        "subject": given if lesion is None else {**given, "lesion": lesion},
        "stimuli": {"images": {"photographs": {"per_image": 4}, "size": 16}},
        "treatment": {
            "reference_side": "image",
            "alterations": [{"name": "grayscale", "switch": 0.5}, {"name": "hue", "switch": 0.5}],
        },
        "design": {"samples": 128},
        "record": {"batch": 64, "device": "cpu"},
        **changes,
    }


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result of the network as it is."""
    path = tmp_path_factory.mktemp("plain") / "plain.zarr"
    npr.run(protocol(analyses=["sobol", "shapley"]), path)
    return path


def by_map(path: Path, **changes: Any) -> dict[str, Any]:
    rule = {"quantile": 0.8, "multiply": 0}
    return {"from": str(path), "analysis": "shapley", "factor": "hue", "rule": rule, "layers": ["conv5"], **changes}


def details(result: xr.DataTree) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(result.attrs[names.PROVENANCE])
    return found


def same_numbers(one: xr.DataTree, other: xr.DataTree, group: str = "sobol") -> bool:
    return all(
        node.to_dataset().load().identical(other[f"{group}/{layer}"].to_dataset().load())
        for layer, node in one[group].children.items()
    )


@pytest.mark.parametrize("lesion", [CHANNELS, [CHANNELS, HALF]])
def test_responses_are_those_of_the_network_lesioned_by_hand(lesion: Any, tmp_path: Path) -> None:
    given = protocol(lesion, record={"batch": 64, "device": "cpu", "store": "responses"})
    npr.run(given, tmp_path / "out.zarr")
    recording = npr.open_recording(tmp_path / "out.zarr")
    rig = open_rig(npr.load_protocol(protocol()))
    n_rows = recording.attrs["rows"]
    shown = rig.design(None).presentations(0, 16)
    sample, row = np.divmod(np.arange(16 * n_rows), n_rows)
    np.testing.assert_allclose(recording["hue_shift"].values[: 16 * n_rows], shown.values["hue_shift"].ravel())
    images = rig.subject.prepare(rig.treatment.stimuli(rig.images, shown, sample, row))
    network, found = rig.subject.network, {}
    with torch.no_grad(), npr.lesioned(network, npr.Lesion.from_spec(lesion, network, images[:1])):
        handle = network.get_submodule("conv5").register_forward_hook(lambda *call: found.update(conv5=call[2]))
        found["linear"] = network(images)
        handle.remove()
    for layer, expected in found.items():
        stored = recording[f"responses/{layer}/response"].values[: 16 * n_rows]
        np.testing.assert_allclose(stored, expected.numpy(), atol=1e-5)
    assert float((network(images) - found["linear"]).abs().max()) > 0.01


def test_silenced_units_do_not_vary(plain: Path, tmp_path: Path) -> None:
    """The most sensitive fifth of a layer is silent, and the rest of it is as it was: it lies beside, not behind."""
    before = npr.open_result(plain)
    after = npr.run(protocol(by_map(plain), analyses=["sobol", "shapley"]), tmp_path / "out.zarr")
    mask = npr.Lesion.from_spec(by_map(plain), *network_and_image()).masks["conv5"]
    node, intact = (tree["sobol/conv5"].to_dataset() for tree in (after, before))
    assert not node["defined"].values[mask == 0].any()
    assert (node["mean"].values[mask == 0] == 0).all()
    for name in ("mean", "variance", "total_order"):
        kept = np.broadcast_to(mask == 1, node[name].shape)
        np.testing.assert_array_equal(node[name].values[kept], intact[name].values[kept])
    assert not np.allclose(after["sobol/linear/mean"], before["sobol/linear/mean"])


def network_and_image() -> tuple[nn.Module, torch.Tensor]:
    rig = open_rig(npr.load_protocol(protocol()))
    return rig.subject.network, rig.subject.prepare(rig.images.load([0]))


def test_a_store_with_responses_and_its_export_give_the_same_lesion(tmp_path: Path) -> None:
    record = {"batch": 64, "device": "cpu", "store": "responses"}
    npr.run(protocol(record=record), tmp_path / "maps.zarr")
    export_netcdf(tmp_path / "maps.zarr", tmp_path / "maps.nc")
    network, image = network_and_image()
    for spec in ({"units": "total_order_hue > 0.3 and layer != 'linear'"}, by_map(Path())):
        options = {"analysis": "sobol", "value": "first_order"} if "rule" in spec else {}
        paths = [str(tmp_path / name) for name in ("maps.zarr", "maps.nc")]
        one, other = (npr.Lesion.from_spec({**spec, **options, "from": path}, network, image) for path in paths)
        assert one.digest == other.digest
        assert list(one.masks) == ["conv5"]
        assert one.origin[0]["result_hash"] == other.origin[0]["result_hash"]


class Stop(Exception):  # noqa: N818
    """An interruption that no code catches."""


def test_resumed_equals_uninterrupted_and_other_masks_are_refused(plain: Path, tmp_path: Path) -> None:
    given = protocol(by_map(plain), design={"samples": 256, "scramble": 64})
    whole = npr.run(given, tmp_path / "whole.zarr")
    seen: list[object] = []

    def stop(event: object) -> None:
        seen.append(event)
        if sum(isinstance(one, BatchDone) for one in seen) == 9:
            raise Stop

    with pytest.raises(Stop):
        npr.run(given, tmp_path / "out.zarr", listener=stop)
    # the masks decide, not the path that they come from
    moved = shutil.copytree(plain, tmp_path / "moved.zarr")
    for other in (by_map(plain, factor="grayscale"), by_map(plain, rule={"quantile": 0.8, "multiply": 0.5}), HALF, []):
        with pytest.raises(StoreError, match=r"written by another protocol .* or lesions"):
            npr.run({**given, **protocol(other, design=given["design"])}, tmp_path / "out.zarr")
    resumed = npr.run({**given, **protocol(by_map(moved), design=given["design"])}, tmp_path / "out.zarr")
    assert same_numbers(resumed, whole)
    assert details(resumed)["lesion"]["hash"] == details(whole)["lesion"]["hash"]


def test_no_lesion_is_none_and_stores_of_before_are_gone_on_with(plain: Path) -> None:
    intact = npr.load_protocol(protocol())
    for lesion in ([], CHANNELS):
        assert guard_hash(npr.load_protocol(protocol(lesion)), weights="0a") == guard_hash(intact, weights="0a")
    assert guard_hash(intact, lesion="0c") != guard_hash(intact)
    assert details(npr.open_result(plain))["lesion"] is None
    # a store of the network as it is, by a protocol with an empty list
    again = npr.run(protocol([], analyses=["sobol", "shapley"]), plain)
    assert same_numbers(again, npr.open_result(plain))


@pytest.mark.parametrize("lesion", [CHANNELS, [CHANNELS, HALF]])
def test_protocols_are_written_as_they_were_given(lesion: Any) -> None:
    assert as_given(npr.load_protocol(protocol(lesion)))["subject"]["lesion"] == lesion


def test_provenance_and_the_report_name_the_lesion(plain: Path, tmp_path: Path) -> None:
    result = npr.run(protocol([by_map(plain), HALF]), tmp_path / "out.zarr")
    found = details(result)["lesion"]
    network, image = network_and_image()
    made = npr.Lesion.from_spec([by_map(plain), HALF], network, image)
    assert found == json.loads(json.dumps(made.provenance()))
    mapped, random = found["lesions"]
    n_undefined = int((npr.open_result(plain)["shapley/conv5/shapley_effect"].isnull().any("factor")).sum())
    assert mapped["layers"]["conv5"]["n_undefined"] == n_undefined > 0
    assert mapped["layers"]["conv5"]["n_masked"] == int(np.floor(0.2 * (512 - n_undefined) + 0.5))
    assert (mapped["rule"], random["random"]) == ({"quantile": 0.8, "multiply": 0.0}, {"share": 0.5, "seed": 3})
    write_report(tmp_path / "out.zarr", tmp_path / "out.html")
    text = (tmp_path / "out.html").read_text()
    n = mapped["layers"]["conv5"]["n_masked"]
    assert "analysis shapley" in text
    assert "factor hue, rule quantile 0.8, multiply 0" in text
    assert f"conv5: {n} of 512 units, {n_undefined} undefined" in text
    assert "random share 0.5, seed 3" in text
    assert "conv5: 256 of 512 units)" in text
    assert found["hash"] in text


def test_every_session_of_a_protocol_is_lesioned(image_folder: Path, tmp_path: Path) -> None:
    """A contrast beside Sobol indices: a lesion behind the layers that are recorded is in the accuracies alone."""
    analyses = ["sobol", "moments", {"contrast": {"draws": 1, "classes": ["cat", "dog", "ship", *"abcdefg"]}}]
    stimuli = {"images": {"folder": str(image_folder), "size": 16}}
    layers = {"layers": ["conv5"]}
    silent = {"array": str(tmp_path / "masks.npz")}
    np.savez(tmp_path / "masks.npz", linear=np.zeros(10))
    for lesion in (silent, {"units": "layer == 'conv5'"}):
        given = protocol(lesion, layers, analyses=analyses, stimuli=stimuli)
        result = npr.run(given, tmp_path / f"{len(lesion)}{next(iter(lesion))}.zarr")
        means = [result["moments/conv5/mean"], result["contrast/conv5/control_mean"]]
        is_silent = [bool((mean == 0).all()) for mean in means]
        assert is_silent == [lesion is not silent] * 2
        if lesion is silent:
            # ten outputs of 0, of which the first counts as the largest: a third of the images are cats
            found = result["accuracy"].to_dataset()
            np.testing.assert_allclose(found["estimate"].sel(measure="probability"), 0.1)
            np.testing.assert_allclose(found["estimate"].sel(measure="top_1"), 1 / 3)
            with pytest.raises(SubjectError, match=r"'linear' has no effect on what is recorded: 'conv5' is the last"):
                npr.run(protocol(lesion, layers, stimuli=stimuli), tmp_path / "none.zarr")
    assert not (tmp_path / "none.zarr").exists()


SEGMENT = {"layers": ["conv4", "conv5"], "segment": {"from": "conv2", "to": "conv5", "plane": "value"}}


def test_a_segment_is_lesioned_within(tmp_path: Path) -> None:
    one = {"units": "layer == 'conv3' and channel in [3, 17]"}
    result = npr.run(protocol(one, SEGMENT, analyses=["moments"]), tmp_path / "out.zarr")
    intact = npr.run(protocol(None, SEGMENT, analyses=["moments"]), tmp_path / "intact.zarr")
    assert not same_numbers(result, intact, "moments")
    # its maps are of the same weights, so that they fit
    npr.run(protocol(None, SEGMENT), tmp_path / "maps.zarr")
    own = by_map(tmp_path / "maps.zarr", analysis="sobol", value="total_order")
    assert open_rig(npr.load_protocol(protocol(own, SEGMENT))).subject.lesion.n_masked["conv5"] > 0
    with pytest.raises(UnknownNameError, match="unknown layer 'conv6'"):
        open_rig(npr.load_protocol(protocol({**HALF, "layers": ["conv6"]}, SEGMENT)))
    lesion = {**HALF, "layers": ["layer3.1.relu#0"]}
    subject = {"network": "resnet18", "weights": "none", "layers": ["layer3"]}
    subject |= {"segment": {"from": "layer2", "to": "layer3", "plane": "hue"}}
    with pytest.raises(SubjectError, match="calls may have other numbers"):
        open_rig(npr.load_protocol(protocol(lesion, subject)))


def test_a_random_twin_is_another_network(plain: Path) -> None:
    twin = {"random_twin": True}
    with pytest.raises(SubjectError, match="write `any_network: true`") as caught:
        open_rig(npr.load_protocol(protocol(by_map(plain), twin)))
    assert caught.value.loc == ("subject", "lesion", 0, "from")
    rigs = [open_rig(npr.load_protocol(protocol(lesion, twin))) for lesion in (by_map(plain, any_network=True), HALF)]
    assert all(rig.subject.lesion.n_masked["conv5"] for rig in rigs)


def test_a_network_that_outlives_the_run_is_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A callable may return one network again and again."""
    (tmp_path / "one_network_of_a_test.py").write_text(
        "from neuroprobe.subjects.embedded import EmbeddedNetwork\n"
        "network = EmbeddedNetwork().eval()\n"
        "def build(): return network\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    given = protocol(CHANNELS, {"network": "one_network_of_a_test:build"}, analyses=["moments"])

    def fail(event: object) -> None:
        if isinstance(event, BatchDone):
            raise Stop

    with pytest.raises(Stop):
        npr.run(given, tmp_path / "out.zarr", listener=fail)
    network = sys.modules["one_network_of_a_test"].network
    assert not sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules())
    npr.run(given, tmp_path / "out.zarr")
    assert not sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules())


def test_masks_count_as_memory() -> None:
    with_lesion, without = (open_rig(npr.load_protocol(protocol(lesion))).footprint for lesion in (HALF, None))
    assert with_lesion.forward(64, 1)[1].max() >= without.forward(64, 1)[1].max()
    assert with_lesion.starts.size > without.starts.size


PLACED: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "an unknown layer": ({**HALF, "layers": ["conv5", "conv9"]}, ("subject", "lesion", 0, "layers", 1)),
    "a query": ([HALF, {"units": "chanel == 3"}], ("subject", "lesion", 1, "units")),
    "no result": ({"from": "nowhere.zarr", "units": "channel == 3"}, ("subject", "lesion", 0, "from")),
    "no file": ({"array": "nowhere.npz"}, ("subject", "lesion", 0, "array")),
    "nothing": ({"units": "layer == 'conv5' and channel > 999"}, ("subject", "lesion", 0)),
}


@pytest.mark.parametrize("case", PLACED)
def test_errors_stand_at_their_place(case: str) -> None:
    lesion, loc = PLACED[case]
    with pytest.raises(NeuroprobeError) as caught:
        npr.plan(protocol(lesion), measure=False)
    assert caught.value.loc == loc
