"""Runs of presentations for their own sake: the table, blanks, repeats, tuning, resuming, plans and pages."""

from __future__ import annotations

import copy
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import neuroprobe as npr
from neuroprobe.errors import NeuroprobeError, ReaderError, ResponseError
from neuroprobe.probe.capture import Probe
from neuroprobe.progress import ShardDone
from neuroprobe.recordings.contract import check_recording
from neuroprobe.report import write_report
from neuroprobe.rig import open_rig
from neuroprobe.summary import status

PROTOCOL: dict[str, Any] = {
    "neuroprobe": 1,
    "title": "Gratings",
    "seed": 2,
    "subject": {"network": "embedded", "layers": ["conv1", "linear"]},
    "stimuli": {
        "images": {
            "generated": {
                "grating": {
                    "orientation": {"from": 0, "to": 150, "step": 30},
                    "spatial_frequency": [0.5, 1],
                    "phase": [0, 180],
                }
            },
            "screen": {"degrees": 8},
        },
        "blanks": 3,
        "repeats": 2,
    },
    "analyses": [],
    "record": {"store": "responses", "device": "cpu"},
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("presented") / "out.zarr"
    npr.run(PROTOCOL, path)
    return path


def test_the_table_tells_each_stimulus(store: Path) -> None:
    recording = npr.open_recording(store)
    check_recording(recording)
    table = recording.to_dataset()
    assert table.sizes["presentation"] == 2 * (24 + 3)
    assert recording.attrs["factors"] == '["orientation", "spatial_frequency", "phase"]'
    blank = table.control_kind.values == "blank"
    for repetition in range(2):
        assert (blank & (table.repetition.values == repetition)).sum() == 3
    assert set(table.stimulus_id.values[blank]) == {"blank"}
    assert set(table.arm.values[blank]) == {"control"}
    for name in ("orientation", "spatial_frequency", "phase", "contrast"):
        assert np.isnan(table[name].values[blank]).all()
        assert np.isfinite(table[name].values[~blank]).all()
    assert set(table.colour.values[blank]) == {""}
    assert table.orientation.attrs["units"] == "degrees"
    ids, n = np.unique(table.stimulus_id.values[~blank].astype(object), return_counts=True)
    assert len(ids) == 24
    assert (n == 2).all()
    assert (table.stimulus_id.values == table.image_id.values).all()
    # the order is of chance, another one in each repetition
    first, second = (table.stimulus_id.values[table.repetition.values == number].tolist() for number in range(2))
    assert sorted(first) == sorted(second) != first != second


def test_responses_are_those_of_the_network_to_the_images(store: Path) -> None:
    recording = npr.open_recording(store)
    rig = open_rig(npr.load_protocol(PROTOCOL))
    place = {name: number for number, name in enumerate(rig.images.ids)} | {"blank": -1}
    index = [place[str(name)] for name in recording.stimulus_id.values]
    found: dict[str, torch.Tensor] = {}
    with Probe(rig.subject.network, rig.sites) as probe:
        probe.record(rig.subject.prepare(rig.images.load(index)), lambda s, r: found.update({s.name: r.clone()}))
    for layer, expected in found.items():
        stored = recording[f"responses/{layer}"].response.values
        np.testing.assert_allclose(stored, expected.numpy(), atol=1e-5 * float(expected.abs().max()))


def test_tuning_is_that_of_the_means_over_stimuli(store: Path) -> None:
    recording = npr.open_recording(store)
    found = npr.tuning(recording, "orientation", units="layer == 'linear'")
    response = recording["responses/linear"].response.values
    expected = [response[recording.orientation.values == angle].mean(0) for angle in range(0, 180, 30)]
    np.testing.assert_allclose(found.tuning_curve.values, expected, rtol=1e-5)
    assert found.attrs["period"] == 180


def test_a_run_that_stops_goes_on_with_the_same_numbers(store: Path, tmp_path: Path) -> None:
    def stop(event: object) -> None:
        if isinstance(event, ShardDone) and event.span.stop == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        npr.run(PROTOCOL, tmp_path / "out.zarr", listener=stop)
    npr.run(PROTOCOL, tmp_path / "out.zarr")
    for layer in ("conv1", "linear"):
        np.testing.assert_array_equal(
            *(npr.open_recording(path)[f"responses/{layer}"].response.values for path in (store, tmp_path / "out.zarr"))
        )


def test_a_limit_shows_the_first_presentations(store: Path, tmp_path: Path) -> None:
    npr.run(PROTOCOL, tmp_path / "out.zarr", limit=5)
    some, whole = npr.open_recording(tmp_path / "out.zarr"), npr.open_recording(store)
    n = some.sizes["presentation"]
    assert 5 <= n < 10
    assert some.stimulus_id.values.tolist() == whole.stimulus_id.values[:n].tolist()


def test_plans_and_pages_say_what_is_presented(store: Path, tmp_path: Path) -> None:
    plans = npr.plan(PROTOCOL)
    assert list(plans) == ["repeated"]
    assert "54 presentations × 1" in str(plans)
    assert "orientation, spatial_frequency, phase" in str(plans)
    assert "repeated: 14 of 14 blocks, 54 presentations" in str(status(store))
    write_report(store, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "54 presentations of 24 images, as they are; responses of 2 layers are stored" in page
    assert "24 of 24 generated stimuli, spread evenly over the set, as they are shown" in page


def test_images_of_a_folder_are_presented_repeatedly_too(image_folder: Path, tmp_path: Path) -> None:
    given = copy.deepcopy(PROTOCOL)
    given["stimuli"] = {"images": {"folder": str(image_folder)}, "repeats": 3, "order": "given"}
    given["subject"] |= {"layers": ["linear"], "noise": {"gaussian": {"sd": 0.3}}}
    npr.run(given, tmp_path / "out.zarr")
    recording = npr.open_recording(tmp_path / "out.zarr")
    assert recording.stimulus_id.values.tolist() == 3 * sorted(set(recording.stimulus_id.values.tolist()))
    assert set(recording.class_label.values) == {"cat", "dog", "ship"}
    found = npr.reliability(recording)
    # of the layer's variance, 0.3² is noise
    assert np.median(found.explainable_variance) == pytest.approx(1 / 1.09, abs=0.06)


@pytest.mark.filterwarnings("ignore:(128 base samples show 24 images|standard errors rest on 2 blocks):UserWarning")
def test_generated_stimuli_are_altered_as_images_are(tmp_path: Path) -> None:
    given = copy.deepcopy(PROTOCOL)
    given["stimuli"] = {"images": PROTOCOL["stimuli"]["images"]}
    del given["analyses"]
    given |= {"treatment": {"alterations": ["rotation", "contrast"]}, "design": {"samples": 128}}
    given["subject"] = {"network": "embedded", "layers": ["linear"]}
    npr.run(given, tmp_path / "out.zarr")
    recording = npr.open_recording(tmp_path / "out.zarr")
    assert recording.attrs["factors"] == '["rotation", "contrast"]'
    assert set(np.unique(recording.orientation)) == set(range(0, 180, 30))


class Fragile(nn.Module):
    """A mean that is infinite for bright images."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        mean = images.mean((2, 3))
        return self.out(torch.where(mean > 0.9, torch.inf, mean))


@pytest.mark.parametrize("nan", ["error", "drop"])
def test_responses_that_are_not_finite_are_refused_or_stored_as_such(
    nan: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("fragile_network_of_a_test")
    module.build = lambda: Fragile().eval()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    given = copy.deepcopy(PROTOCOL)
    given["subject"] = {"network": f"{module.__name__}:build", "layers": ["out"]}
    given["stimuli"] = {"images": {"generated": {"hue": {"value": [0, 0.5, 1], "saturation": 0}}, "size": 8}}
    given["record"]["nan"] = nan
    if nan == "error":
        with pytest.raises(ResponseError, match="layer 'out': 3 of 3 units gave NaN or infinity"):
            npr.run(given, tmp_path / "out.zarr")
        return
    npr.run(given, tmp_path / "out.zarr")
    recording = npr.open_recording(tmp_path / "out.zarr")
    bright = recording.value.values == 1
    assert np.isinf(recording["responses/out"].response.values[bright]).all()
    assert np.isfinite(recording["responses/out"].response.values[~bright]).all()


def test_statistics_of_trials_alone_present_images_as_they_are(tmp_path: Path) -> None:
    """A protocol of gratings, blanks and repetitions, on a network with noise, in one run."""
    given = {
        "neuroprobe": 1,
        "subject": {
            "network": "embedded",
            "layers": [{"name": "conv2", "reduce": "centre", "channels": [0, 1, 2, 3]}],
            "noise": {"poisson": {"scale": 10, "negative": "clip"}},
        },
        "stimuli": {
            "images": {
                "generated": {"grating": {"orientation": {"from": 0, "to": 135, "step": 45}, "spatial_frequency": 1.0}},
                "screen": {"degrees": 8},
                "size": 32,
            },
            "blanks": 2,
            "repeats": 4,
        },
        "analyses": [{"responsiveness": {"blank": "blank"}}, "reliability", {"tuning": {"n_draws": 0}}],
        "record": {"batch": 32, "device": "cpu", "store": "responses"},
    }
    result = npr.run(given, tmp_path / "out.zarr")
    recording = npr.open_recording(tmp_path / "out.zarr")
    expected = npr.tuning(recording, "orientation")
    found = result["tuning/orientation"].to_dataset()
    np.testing.assert_array_equal(found["tuning_curve"].values, expected["tuning_curve"].values)
    assert found["n_trials"].values.tolist() == [[4] * 4] * 4
    np.testing.assert_array_equal(
        result["responsiveness/p_value"].values, npr.responsiveness(recording, blank="blank")["p_value"].values
    )
    assert "reliability" in result.children


REFUSED: list[tuple[dict[str, Any], Any, str]] = [
    ({}, "reliability", r"reliability compares conditions with the noise of trials, .* 24 conditions of orientation, "),
    ({}, {"anova": {"factors": ["stimulus_id"]}}, "show one stimulus"),
    ({"repeats": 1}, "reliability", "reliability needs conditions that were shown more than once"),
    ({}, {"anova": {"factors": ["orientaton"]}}, r"unknown factor 'orientaton' \(did you mean 'orientation'\?\)"),
    ({}, "latency", "latency needs bins of time"),
    ({}, "psth", "a PSTH needs bins of time"),
    ({}, {"responsiveness": {"blank": "grey"}}, "no trial is a blank 'grey'"),
]


@pytest.mark.parametrize(("stimuli", "analysis", "message"), REFUSED, ids=[str(n) for n in range(len(REFUSED))])
def test_what_cannot_be_found_is_refused_before_anything_is_shown(
    stimuli: dict[str, Any], analysis: Any, message: str, tmp_path: Path
) -> None:
    given = copy.deepcopy(PROTOCOL)
    given["stimuli"] |= stimuli
    given["analyses"] = [analysis]
    with pytest.raises(NeuroprobeError, match=message):
        npr.plan(given)
    with pytest.raises(NeuroprobeError, match=message):
        npr.run(given, tmp_path / "out.zarr")
    assert not (tmp_path / "out.zarr").exists()


def test_what_can_be_found_is_not_refused() -> None:
    """Conditions of several stimuli differ without noise; with noise all do."""
    given = copy.deepcopy(PROTOCOL)
    given["analyses"] = [{"anova": {"factors": ["orientation"]}}, {"tuning": {"factors": ["orientation"]}}]
    with pytest.raises(ReaderError, match=r"would take the 2 repetitions of a stimulus for trials.*repeats: 1"):
        npr.plan(given, measure=False)
    given["stimuli"]["repeats"] = 1
    npr.plan(given, measure=False)
    given["stimuli"]["repeats"] = 2
    given["analyses"] = ["anova", "reliability"]
    given["subject"]["noise"] = "poisson"
    npr.plan(given, measure=False)
