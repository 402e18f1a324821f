"""Comparisons as blocks of protocols, and lesions of the units that are nearest to a brain's."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import neuroprobe as npr
from made_animals import animal
from neuroprobe import lesioned_runs, runner
from neuroprobe.comparison.lesions import halves
from neuroprobe.comparison.stimuli import mean_responses, side_of
from neuroprobe.errors import NeuroprobeError
from neuroprobe.journal import RUN_FOLDER
from neuroprobe.recordings import write_recording
from neuroprobe.report import write_report
from neuroprobe.summary import status

PLANTED = [1, 4, 6, 9]  # channels of conv3, of which the brain below has the responses
CHANNELS = [*PLANTED, 0, 2, 3, 5]
PROTOCOL: dict[str, Any] = {
    "neuroprobe": 1,
    "title": "Gratings, and a brain",
    "seed": 2,
    "subject": {
        "network": "embedded",
        "layers": [{"name": "conv3", "reduce": "mean", "channels": CHANNELS}, "conv5", "linear"],
    },
    "stimuli": {
        "images": {
            "generated": {
                "grating": {
                    "orientation": {"from": 0, "to": 165, "step": 15},
                    "spatial_frequency": [0.5, 1],
                }
            },
            "screen": {"degrees": 8},
        },
    },
    "analyses": [],
    "record": {"store": "responses", "device": "cpu"},
}
OPTIONS = {"metric": "rsa", "options": {"n_draws": 20}}


def protocol(**block: Any) -> dict[str, Any]:
    return {**copy.deepcopy(PROTOCOL), "analyses": [{"compare": block}]}


@pytest.fixture(scope="module")
def responses(tmp_path_factory: pytest.TempPathFactory) -> xr.DataTree:
    """What the network responds, unlesioned."""
    path = tmp_path_factory.mktemp("intact") / "out.zarr"
    npr.run(PROTOCOL, path)
    return npr.open_recording(path)


@pytest.fixture(scope="module")
def brain(responses: xr.DataTree, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A brain of two regions, whose neurons respond as channels of conv3 do, and as others of conv5."""
    table = {"stimulus_id": responses["stimulus_id"].values.astype(object)}
    first = responses["responses/conv3/response"].values[:, : len(PLANTED)]
    second = responses["responses/conv5/response"].values.reshape(len(first), -1)[:, ::40]
    tree = animal(np.concatenate([first, second], axis=1), table)
    node = tree["responses/v1"].to_dataset(inherit=False)
    regions = np.array(["early"] * len(PLANTED) + ["late"] * second.shape[1], dtype=object)
    tree["responses/v1"] = xr.DataTree(node.assign_coords(region=("unit", regions)))
    path = tmp_path_factory.mktemp("brain") / "brain.zarr"
    write_recording(tree, path)
    return path


def test_a_block_is_the_function(responses: xr.DataTree, brain: Path, tmp_path: Path) -> None:
    given = protocol(**{"with": {"animal": str(brain)}, **OPTIONS})
    found = npr.run(given, tmp_path / "out.zarr")["compare/animal"].to_dataset(inherit=False)
    by_hand = npr.compare(responses, brain, "rsa", n_draws=20, seed=2)
    for name in by_hand.data_vars:
        np.testing.assert_array_equal(found[name].values, by_hand[name].values, err_msg=str(name))
    assert found["layer"].values.tolist() == ["conv3", "conv5", "linear"]
    text = str(status(tmp_path / "out.zarr"))
    assert "rsa with animal" in text
    (row,) = [row for row in status(tmp_path / "out.zarr").as_dict()["comparisons"] if row["layer"] == "conv5"]
    assert row["score"] == float(by_hand["score"].sel(layer="conv5"))
    assert row["drop"] is None
    write_report(tmp_path / "out.zarr", tmp_path / "out.html")
    assert ">Comparisons<" in (tmp_path / "out.html").read_text()


@pytest.mark.parametrize("metric", ["rsa", "cka"])
def test_areas_are_compared_apart(metric: str, responses: xr.DataTree, brain: Path) -> None:
    options: dict[str, Any] = {"n_draws": 20} if metric == "rsa" else {"n_permutations": 19}
    found = npr.compare(responses, brain, metric, areas="region", **options)
    assert found["area"].values.tolist() == ["early", "late"]
    alone = npr.compare(responses, brain, metric, units_brain="region == 'late'", **options)
    np.testing.assert_allclose(
        found["score"].sel(area="late").values, alone["score"].values.reshape(-1), rtol=0, atol=1e-12
    )
    with pytest.raises(NeuroprobeError, match=r"unknown coordinate of units 'regio' \(did you mean 'region'\?\)"):
        npr.compare(responses, brain, metric, areas="regio")


def test_areas_of_several_and_of_one_node_are_told(responses: xr.DataTree, brain: Path, tmp_path: Path) -> None:
    tree = npr.open_recording(brain).load()
    node = tree["responses/v1"].to_dataset(inherit=False)
    tree["responses/v2"] = xr.DataTree(node.isel(unit=np.flatnonzero(node["region"].values == "late")))
    write_recording(tree, tmp_path / "two.zarr")
    given = protocol(**{"with": {"animal": str(tmp_path / "two.zarr")}, "areas": "region", **OPTIONS})
    found = npr.run(given, tmp_path / "out.zarr")["compare/animal"].to_dataset(inherit=False)
    assert "bootstrap over stimuli" in found.attrs["definition"]
    assert "bootstrap over both" in found.attrs["definition"]
    assert "rsa with animal, late" in str(status(tmp_path / "out.zarr"))
    write_report(tmp_path / "out.zarr", tmp_path / "out.html")
    assert "animal, early" in (tmp_path / "out.html").read_text()


def test_an_animal_is_compared_with_a_network(brain: Path, responses: xr.DataTree, tmp_path: Path) -> None:
    npr.run(PROTOCOL, tmp_path / "net.zarr")
    given = {
        "neuroprobe": 1,
        "subject": {"recording": str(brain)},
        "analyses": [{"compare": {"with": str(tmp_path / "net.zarr"), "metric": "cka", "areas": None}}],
    }
    found = npr.run(given, tmp_path / "out.zarr")["compare/net"].to_dataset()
    assert set(found["area"].values) == {"conv3", "conv5", "linear"}
    lesioned = {**given, "analyses": [{"compare": {"with": str(tmp_path / "net.zarr"), "lesion": {}}}]}
    with pytest.raises(NeuroprobeError, match="lesion: is of networks, which can be recorded again"):
        npr.run(lesioned, tmp_path / "other.zarr")


LESION = {"layers": ["conv3"], "share": 0.5, "random": 9}


def test_the_units_that_are_nearest_are_lesioned(responses: xr.DataTree, brain: Path, tmp_path: Path) -> None:
    """What was planted is found, and the drop is that of a network that is lesioned by hand."""
    block = {"with": {"animal": str(brain)}, "units_brain": "region == 'early'", "lesion": LESION, **OPTIONS}
    block["options"] = {"n_draws": 20, "distance": "euclidean"}
    found = npr.run(protocol(**block), tmp_path / "out.zarr")["compare/animal/lesion"].to_dataset()
    assert found["n_lesioned"].values.tolist() == [4, 0, 0]
    assert found["drop_random"].shape == (3, 9)
    # by hand
    by_hand = copy.deepcopy(PROTOCOL)
    by_hand["subject"]["lesion"] = {
        "units": " or ".join(f"channel == {number}" for number in PLANTED),
        "layers": ["conv3"],
    }
    npr.run(by_hand, tmp_path / "hand.zarr")
    scoring = halves(sorted(set(responses["stimulus_id"].values.tolist())), 2)[1]
    side = side_of("brain", npr.open_recording(brain), None, "region == 'early'")
    (values,) = mean_responses(side.populations[0], side.on, scoring)
    half = animal(values, {"stimulus_id": np.array(scoring, dtype=object)})
    scores = [
        npr.compare(tree, half, "rsa", join="inner", n_draws=2, distance="euclidean")["score"].values
        for tree in (responses, npr.open_recording(tmp_path / "hand.zarr"))
    ]
    np.testing.assert_allclose(found["score"].values, scores[0], rtol=0, atol=1e-10)
    np.testing.assert_allclose(found["score_lesioned"].values, scores[1], rtol=0, atol=1e-6)
    drop, at_random = found["drop"].values[0], found["drop_random"].values[0]
    assert drop > 2 * at_random.mean()
    assert found["p_value"].values[0] == (1 + (at_random >= drop).sum()) / 10
    assert found["n_undefined"].values.tolist() == [0, 0, 0]
    assert not (tmp_path / "out.zarr" / RUN_FOLDER / "lesioned").exists()
    assert "at random" in str(status(tmp_path / "out.zarr"))
    write_report(tmp_path / "out.zarr", tmp_path / "out.html")
    assert "50% of the units of a layer were lesioned" in (tmp_path / "out.html").read_text()


def test_lesions_that_leave_no_score_are_told(brain: Path, tmp_path: Path) -> None:
    """Without the units that respond to some stimulus, there is no correlation with it."""
    block = {"with": {"animal": str(brain)}, "units_brain": "region == 'early'", "lesion": LESION, **OPTIONS}
    found = npr.run(protocol(**block), tmp_path / "out.zarr")["compare/animal/lesion"].to_dataset()
    assert found["n_undefined"].values[0] > 0
    assert np.isnan(found["p_value"].values[0])
    assert np.isfinite(found["p_value"].values[1:]).all()


def test_what_was_scored_before_a_stop_is_kept(brain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = protocol(**{"with": {"animal": str(brain)}, "lesion": {**LESION, "random": 3}, **OPTIONS})
    whole = npr.run(given, tmp_path / "whole.zarr")["compare/animal/lesion"].to_dataset()
    calls: list[str] = []
    run = runner.run

    def stops(protocol: Any, out: Any, **options: Any) -> Any:
        calls.append(str(out))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return run(protocol, out, **options)

    monkeypatch.setattr(runner, "run", stops)
    with pytest.raises(KeyboardInterrupt):
        run(given, tmp_path / "out.zarr")
    found = run(given, tmp_path / "out.zarr")["compare/animal/lesion"].to_dataset()
    assert len(calls) == 5
    xr.testing.assert_identical(found, whole)


def test_layers_without_space_are_lesioned_by_channel(responses: xr.DataTree, brain: Path, tmp_path: Path) -> None:
    opened = runner.open_rig(npr.load_protocol(PROTOCOL))
    runs = lesioned_runs.LesionedRuns(tmp_path, opened, None)
    masks = runs._masks(
        {
            "conv3": {"channel": np.array([2])},
            "conv5": {"channel": np.array([1]), "y": np.array([0]), "x": np.array([1])},
        },
        0.5,
    )
    assert (masks["conv3"][2] == 0.5).all()
    assert (masks["conv3"] == 0.5).sum() == masks["conv3"][2].size
    assert (masks["conv5"] == 0.5).sum() == 1
    assert masks["conv5"][1, 0, 1] == 0.5


def test_another_brain_is_another_result(brain: Path, tmp_path: Path) -> None:
    side = side_of("brain", npr.open_recording(brain), None, None)
    (values,) = mean_responses(side.populations[0], side.on, side.stimuli)
    path = tmp_path / "brain.zarr"
    write_recording(animal(values, {"stimulus_id": np.array(side.stimuli, dtype=object)}), path)
    given = protocol(**{"with": str(path), **OPTIONS})
    npr.run(given, tmp_path / "out.zarr")
    write_recording(animal(values + 1, {"stimulus_id": np.array(side.stimuli, dtype=object)}), path, overwrite=True)
    with pytest.raises(NeuroprobeError, match="was written by another protocol"):
        npr.run(given, tmp_path / "out.zarr")


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"metric": "profiles"}, "metric: profiles compares results"),
        ({"metric": "rsaa"}, r"unknown metric 'rsaa' \(did you mean 'rsa'\?\)"),
        ({"options": {"n_draw": 3}}, r"unknown option of rsa 'n_draw' \(did you mean 'n_draws'\?\)"),
        ({"areas": "regio"}, "unknown coordinate of units 'regio'"),
        ({"lesion": {"layers": ["conv2"]}}, "unknown layer 'conv2'"),
        ({"lesion": {"share": 1.5}}, "lesion.share"),
        ({"with": {"a/b": "x.zarr"}}, "expected one without '/'"),
        ({"with": {}}, "expected the path of a recording"),
        ({"with": "missing.zarr"}, r"missing\.zarr'?: no such file"),
        ({"labels": "labels.txt"}, "labels are of the stimuli of dissimilarities"),
    ],
)
def test_what_is_refused(block: dict[str, Any], message: str, brain: Path, tmp_path: Path) -> None:
    with pytest.raises(NeuroprobeError, match=message):
        npr.run(protocol(**{"with": str(brain), **block}), tmp_path / "out.zarr")
    assert not (tmp_path / "out.zarr").exists()


def test_stimuli_that_do_not_match_are_told_before_work(brain: Path, tmp_path: Path) -> None:
    given = protocol(**{"with": str(brain)})
    given["stimuli"]["images"]["generated"]["grating"]["spatial_frequency"] = [0.25]
    with pytest.raises(NeuroprobeError, match="stimuli do not match"):
        npr.plan(given)
    with pytest.raises(NeuroprobeError, match="stimuli do not match"):
        npr.run(given, tmp_path / "out.zarr")
    assert not (tmp_path / "out.zarr").exists()


def test_it_goes_with_no_treatment(brain: Path) -> None:
    given = protocol(**{"with": str(brain)})
    given["treatment"] = {"alterations": [{"name": "hue", "switch": 0.5}]}
    given["analyses"].append("sobol")
    with pytest.raises(NeuroprobeError, match="compare is of responses to images as they are"):
        npr.load_protocol(given)
