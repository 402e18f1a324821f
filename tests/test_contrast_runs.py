"""Contrasts as a session of a run: live as from stored responses, however it was cut, and beside other designs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from scipy import stats

import neuroprobe as npr
from neuroprobe.errors import NeuroprobeError, PlanError, ProtocolError, StoreError
from neuroprobe.names import TREATMENT_CONTROL
from neuroprobe.protocol import load_protocol
from neuroprobe.rig import open_rig

ALTERATIONS = ["hue", "hflip", {"name": "gaussian_noise", "as": "noise", "sd": 0.1}]
N, DRAWS = 24, 3
pytestmark = pytest.mark.filterwarnings("ignore:contrast. accuracies are left out:UserWarning")


def protocol(image_folder: Path, options: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    return {
        "neuroprobe": 1,
        "seed": 5,
        "subject": {"network": "embedded", "layers": ["conv6", "linear"]},
        "stimuli": {"images": {"folder": str(image_folder)}},
        "treatment": {"reference_side": "image", "alterations": ALTERATIONS},
        "analyses": [{"contrast": {"draws": DRAWS, "ranks": ["linear"], **(options or {})}}],
        "record": {"device": "cpu", "batch": 32},
        **changes,
    }


@pytest.fixture
def stored(image_folder: Path, tmp_path: Path) -> Path:
    path = tmp_path / "stored.zarr"
    npr.run(protocol(image_folder, record={"device": "cpu", "batch": 32, "store": "responses"}), path)
    return path


def assert_same(one: xr.DataTree, other: xr.DataTree) -> None:
    assert list(one.children) == list(other.children)
    for layer, node in one.children.items():
        xr.testing.assert_identical(node.to_dataset().load(), other[layer].to_dataset().load())


def test_live_as_from_stored_responses(stored: Path) -> None:
    live, recording = npr.open_result(stored)["contrast"], npr.open_recording(stored)
    again = npr.contrast(recording, ranks=["linear"])
    for layer in ("conv6", "linear"):
        xr.testing.assert_equal(live[layer].to_dataset().load(), again[layer].to_dataset())
        assert live[layer].attrs == again[layer].attrs
    assert live["linear"]["test"].values.tolist() == ["t", "sign", "wilcoxon"]
    y = recording["responses/linear/response"].values.astype(float).reshape(N, 1 + 3 * DRAWS, 10)
    for a, factor in enumerate(("hue", "hflip", "noise")):
        d = y[:, 1 + a * DRAWS : 1 + (a + 1) * DRAWS].mean(1) - y[:, 0]
        expected = stats.ttest_1samp(d, 0).pvalue
        np.testing.assert_allclose(live["linear"]["p_value"].sel(test="t", factor=factor), expected, rtol=1e-6)
    assert list(recording["role"].values[:5]) == ["control", "hue_0", "hue_1", "hue_2", "hflip_0"]
    assert list(recording["arm"].values[:2]) == ["control", "treatment"]
    assert set(recording["design"].values) == {TREATMENT_CONTROL}


def test_stimuli_are_those_of_one_alteration_alone(image_folder: Path) -> None:
    rig = open_rig(load_protocol(protocol(image_folder)))
    shown = rig.design(None).presentations(3, 5)

    def stimulus(row: int) -> torch.Tensor:
        return rig.treatment.stimuli(rig.images, shown, np.arange(2), np.full(2, row))

    images = rig.images.load(shown.image[:, 0])
    torch.testing.assert_close(stimulus(0), images, rtol=0, atol=0)
    for row in (4, 5, 6):
        torch.testing.assert_close(stimulus(row), images.flip(-1), rtol=0, atol=0)
    # the same law draws other noise each time
    noise = torch.stack([stimulus(row) for row in (7, 8, 9)]) - images
    assert noise.std() == pytest.approx(0.1, rel=0.2)
    assert len({float(one.sum()) for one in noise}) == 3
    assert rig.design(None).presentations(0, 3).is_run.sum(1).tolist() == [1 + 3 + 1 + 3] * 3


def stopping(n_events: int) -> Any:
    """Listener that interrupts a run at an event."""
    events: Iterator[int] = iter(range(n_events))

    def listen(event: object) -> None:
        if next(events, None) is None:
            raise KeyboardInterrupt

    return listen


@pytest.mark.parametrize("n_events", [2, 5, 11])
def test_a_run_that_was_interrupted_goes_on_to_the_same_bits(image_folder: Path, tmp_path: Path, n_events: int) -> None:
    whole = npr.run(protocol(image_folder), tmp_path / "whole.zarr")
    with pytest.raises(KeyboardInterrupt):
        npr.run(protocol(image_folder), tmp_path / "cut.zarr", listener=stopping(n_events))
    cut = npr.run(protocol(image_folder), tmp_path / "cut.zarr")
    assert_same(cut["contrast"], whole["contrast"])
    again = npr.run(protocol(image_folder), tmp_path / "cut.zarr")
    assert_same(again["contrast"], whole["contrast"])


def test_more_images_later(image_folder: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="10 images do not fill blocks of 4; 12 are shown"):
        few = npr.run(protocol(image_folder), tmp_path / "few.zarr", limit=10)
    # whole blocks, so that the run can go on
    assert few["contrast/linear"].attrs["n_images"] == 12
    all_images = npr.run(protocol(image_folder), tmp_path / "few.zarr")
    whole = npr.run(protocol(image_folder), tmp_path / "whole.zarr")
    assert all_images["contrast/linear"].attrs["n_images"] == N
    assert_same(all_images["contrast"], whole["contrast"])
    with pytest.raises(StoreError, match="holds 24 images, more than the 12 asked for"):
        npr.run(protocol(image_folder), tmp_path / "few.zarr", limit=10)


def test_batches_change_nothing_beyond_rounding(image_folder: Path, tmp_path: Path) -> None:
    results = [
        npr.run(protocol(image_folder, record={"device": "cpu", "batch": batch}), tmp_path / f"{batch}.zarr")
        for batch in (3, 50)
    ]
    for name in ("mean_difference", "effect_size", "rank_biserial"):
        one, other = (result[f"contrast/linear/{name}"] for result in results)
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.filterwarnings("ignore:standard errors rest on:UserWarning")
@pytest.mark.filterwarnings("ignore:.*base samples show.*:UserWarning")
def test_beside_another_design(image_folder: Path, tmp_path: Path) -> None:
    alterations = [{"name": "hue", "switch": 0.5}, {"name": "hflip", "switch": 0.5}]
    treatment = {"alterations": alterations}
    both = protocol(image_folder, treatment=treatment, design={"samples": 64})
    both["analyses"] = ["sobol", *both["analyses"]]
    plans = npr.plan(both, measure=False)
    assert plans[TREATMENT_CONTROL].samples == N
    assert plans[TREATMENT_CONTROL].n_rows == 1 + 2 * DRAWS
    assert plans["pick-freeze"].samples == 64
    result = npr.run(both, tmp_path / "both.zarr")
    assert {"sobol", "contrast", "convergence"} <= set(result.children)
    alone = npr.run(protocol(image_folder, treatment=treatment), tmp_path / "alone.zarr")
    assert_same(result["contrast"], alone["contrast"])


def test_accuracies_are_those_of_forward_passes(image_folder: Path, tmp_path: Path) -> None:
    classes = ["ship", "bird", "cat", "deer", "dog", "frog", "horse", "automobile", "airplane", "truck"]
    given = protocol(image_folder, {"classes": classes})
    table = npr.run(given, tmp_path / "out.zarr")["accuracy"].to_dataset()
    rig = open_rig(load_protocol(given))
    shown = rig.design(None).presentations(0, N)
    assert rig.images.labels is not None
    target = torch.tensor([classes.index(str(rig.images.labels[i])) for i in shown.image[:, 0]])
    arms = {"original": [0], "hue": [1, 2, 3], "hflip": [4], "noise": [7, 8, 9]}
    for arm, rows in arms.items():
        correct, probability = [], []
        for row in rows:
            stimuli = rig.treatment.stimuli(rig.images, shown, np.arange(N), np.full(N, row))
            with torch.no_grad():
                output = rig.subject.network(rig.subject.prepare(stimuli))
            correct.append((output.argmax(1) == target).double().mean())
            probability.append(output.softmax(1)[torch.arange(N), target].double().mean())
        one = table["estimate"].sel(factor=arm)
        assert float(one.sel(measure="top_1")) == pytest.approx(float(torch.stack(correct).mean()))
        assert float(one.sel(measure="probability")) == pytest.approx(float(torch.stack(probability).mean()), abs=1e-5)
    assert table["n_images"].values.tolist() == [N] * 3


def test_accuracy_of_real_images(data: Path, tmp_path: Path) -> None:
    images = {"folder": str(data / "cifar10" / "test"), "limit": 200}
    given = protocol(data, {"draws": 1, "ranks": None}, stimuli={"images": images})
    table = npr.run(given, tmp_path / "out.zarr")["accuracy"].to_dataset().sel(measure="top_1")
    original, flipped = (table.sel(factor=factor) for factor in ("original", "hflip"))
    assert float(original["estimate"]) > 0.8
    assert float(original["lower"]) < float(original["estimate"]) < float(original["upper"])
    # the network was trained on mirrored images too; hues and noise it has not seen
    assert float(flipped["difference_lower"]) < 0 < float(flipped["difference_upper"])
    assert (table["p_value"].sel(factor=["hue", "noise"]) < 1e-3).all()
    assert (table["difference_upper"].sel(factor=["hue", "noise"]) < 0).all()


def test_auto_leaves_accuracies_out_where_there_is_no_telling(image_folder: Path, tmp_path: Path) -> None:
    labels = {"cat": "cat", "dog": "dog", "ship": "boat"}
    for name, other in labels.items():
        (image_folder / name).rename(image_folder / other)
    with pytest.warns(UserWarning, match="accuracies are left out, as the classes of the images cannot be told"):
        result = npr.run(protocol(image_folder), tmp_path / "out.zarr")
    assert "accuracy" not in result.children
    with pytest.raises(PlanError, match=r"3 classes of images \('boat', 'cat', 'dog'\) cannot be told from 10 outputs"):
        npr.run(protocol(image_folder, {"accuracy": True}), tmp_path / "other.zarr")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"ranks": ["lin"]}, ProtocolError, r"ranks: unknown layer 'lin' \(did you mean 'linear'\?\)"),
        ({"draws": 0}, ProtocolError, "draws"),
        ({"correction": "fdr"}, ProtocolError, "correction"),
        ({"family": "layer"}, ProtocolError, "family"),
        ({"classes": ["cat", "dog"]}, PlanError, "2 different ones given, expected one for each of 10 outputs"),
    ],
)
def test_options_that_are_refused(image_folder: Path, change: dict, error: type[NeuroprobeError], message: str) -> None:
    with pytest.raises(error, match=message):
        npr.plan(protocol(image_folder, change), measure=False)


def test_responses_to_two_designs_are_refused(image_folder: Path) -> None:
    both = protocol(image_folder, record={"store": "responses"}, treatment={"alterations": ["hue"]})
    both["analyses"] = ["sobol", "contrast"]
    with pytest.raises(ProtocolError, match="give contrast a protocol of its own, or store none"):
        load_protocol(both)


def test_constant_alterations_are_refused_beside_sobol_only(image_folder: Path) -> None:
    assert load_protocol(protocol(image_folder)).treatment.alterations[1].constant
    both = protocol(image_folder)
    both["analyses"] = ["contrast", "sobol"]
    with pytest.raises(ProtocolError, match="'hflip' is constant under `switch: always`"):
        load_protocol(both)


def test_differences_that_do_not_fit_the_disk_are_refused(
    image_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = protocol(image_folder, {"ranks": ["conv6", "linear"]})
    plan = npr.plan(given, measure=False)[TREATMENT_CONTROL]
    assert plan.disk["differences"] == 4 * N * 3 * (112 * 4 * 4 + 10)
    assert "differences" not in npr.plan(protocol(image_folder, {"ranks": None}), measure=False)[TREATMENT_CONTROL].disk
    monkeypatch.setattr("neuroprobe.budget.free_bytes", lambda path: 1000)
    with pytest.raises(
        PlanError, match=r"are missing; most goes to .*; choose a path on another disk, rank fewer layers, or"
    ):
        npr.run(given, tmp_path / "out.zarr")


def test_images_without_finite_responses_are_dropped(image_folder: Path, tmp_path: Path) -> None:
    given = protocol(image_folder, record={"device": "cpu", "nan": "drop"})
    result = npr.run(given, tmp_path / "out.zarr")
    assert (result["contrast/linear/n_dropped"] == 0).all()


def test_a_plan_that_does_not_fit_memory_leaves_ranks_out(image_folder: Path) -> None:
    given = protocol(image_folder, {"ranks": ["conv6"]})
    needed = sum(npr.plan(given, measure=False)[TREATMENT_CONTROL].memory.values())
    with pytest.raises(PlanError, match=r"This would fit: .*`ranks` left out"):
        npr.plan(given, measure=False, memory=needed - (60 << 20))


def test_a_control_may_be_altered(image_folder: Path, tmp_path: Path) -> None:
    """Against mirrored images mirroring changes nothing, and other alterations are what they are."""
    treatment = {"reference_side": "image", "alterations": ["hflip", "hue"]}
    changes = {"treatment": treatment, "options": {"ranks": None}}
    mirrored = npr.run(
        protocol(image_folder, control={"alterations": ["hflip"]}, **changes), tmp_path / "mirrored.zarr"
    )
    original = npr.run(protocol(image_folder, **changes), tmp_path / "original.zarr")
    one, other = (result["contrast/linear"].to_dataset() for result in (mirrored, original))
    assert not one["defined"].sel(factor="hflip").any()
    assert (one["mean_difference"].sel(factor="hflip") == 0).all()
    np.testing.assert_allclose(one["treatment_mean"], other["treatment_mean"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(one["control_mean"], other["treatment_mean"].sel(factor="hflip"), rtol=1e-4, atol=1e-5)
    stimuli = mirrored["stimuli/examples"].to_dataset()["stimulus"]
    np.testing.assert_array_equal(stimuli.sel(treatment="control"), stimuli.sel(treatment="hflip"))
    assert stimuli["treatment"].values.tolist() == ["control", "hflip", "hue", "all"]
