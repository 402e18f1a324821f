"""Relevance in a run, and what a result is asked once more: planted units rest on what was planted."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import neuroprobe as npr
import planted
from neuroprobe.errors import PlanError, ReaderError
from neuroprobe.planner import make_plan
from neuroprobe.rig import Rig, open_rig
from neuroprobe.selectivity.costs import selectivity_result, selectivity_scoring
from neuroprobe.selectivity.explained import explain_image, explain_unit, layer_redundancy
from neuroprobe.selectivity.relevance import time_relevance
from planted import CHECKS, DEAD, RED

ALIVE = slice(0, DEAD)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted.write_images(tmp_path_factory.mktemp("planted") / "images", 8)


def protocol(folder: Path, network: str = "build", layers: Any = ("units", "head"), **options: Any) -> dict[str, Any]:
    shared = {"top": 6, "stability": [], "sham": 0, "permutations": 0, "indexes": ["class"], "relevance": True}
    lesion = options.pop("lesion", [])
    return {
        "neuroprobe": 1,
        "subject": {
            "network": f"planted:{network}",
            "layers": list(layers),
            "preprocess": planted.PREPROCESS,
            "lesion": lesion,
        },
        "stimuli": {"images": {"folder": str(folder)}},
        "analyses": [{"selectivity": {**shared, **options}}],
        "record": {"device": "cpu", "batch": 16},
    }


@pytest.fixture(scope="module")
def result(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> xr.DataTree:
    return npr.run(protocol(folder), tmp_path_factory.mktemp("whole") / "out.zarr").load()


@pytest.fixture(scope="module")
def rig(folder: Path) -> Rig:
    return open_rig(npr.load_protocol(protocol(folder)))


def test_copies_rest_on_what_they_copy(result: xr.DataTree) -> None:
    """Units of the head are the maxima of the maps, each of its own one."""
    node = result["selectivity/head"].to_dataset()
    expected = np.eye(5)
    expected[:, DEAD] = np.nan
    np.testing.assert_allclose(node["relevance"], expected, atol=1e-6)
    np.testing.assert_allclose(node["signed_relevance"], expected, atol=1e-6)
    np.testing.assert_allclose(node["relevance_se"][:, ALIVE], 0, atol=1e-6)
    assert node["relevance"].attrs["earlier"] == "units"
    assert node["relevance"].attrs["closed_form"] == 1
    # the unit of one class loses all of it with its channel, and others lose none with others
    assert node["class_drop"][CHECKS, CHECKS].item() == pytest.approx(1)
    assert node["dropped_class"][CHECKS, CHECKS].item() == "checks"
    assert node["dropped_class"][RED, CHECKS].item() == ""
    first = result["selectivity/units"].to_dataset()
    assert "relevance" not in first
    assert "no_relevance" not in first.attrs
    assert npr.plot.relevance_tree(result, "head", RED)


@pytest.mark.parametrize("lesion", [[], [{"units": "layer == '1' and channel == 2"}]])
def test_relevance_is_that_of_silencing_channels(folder: Path, tmp_path: Path, lesion: list[Any]) -> None:
    """Also of some channels of layers, and under a lesion, where each is silenced in turn."""
    layers = [{"name": "1", "channels": [1, 2, 6]}, "3"]
    given = protocol(folder, "deep", layers, lesion=lesion, indexes=["class"])
    node, rig = (
        npr.run(given, tmp_path / "out.zarr")["selectivity/3"].to_dataset().load(),
        open_rig(npr.load_protocol(given)),
    )
    assert node["earlier_channel"].values.tolist() == [1, 2, 6]
    assert node["relevance"].attrs["closed_form"] == (0 if lesion else 1)
    network = rig.subject.network

    def responses(silent: int | None, channel: int) -> np.ndarray:
        found = []
        for image, row, column in zip(
            *(node[name][channel].values for name in ("top_image", "top_y", "top_x")), strict=True
        ):
            with torch.no_grad():
                maps = network[:2](rig.images.load([int(image)]))
                for one in ([2] if lesion else []) + ([] if silent is None else [silent]):
                    maps[:, one] = 0
                found.append(network[2:4](maps)[0, channel, row, column].item())
        return np.array(found)

    for channel in np.flatnonzero(node["defined"]):
        own = responses(None, channel)
        for place, silent in enumerate([1, 2, 6]):
            changed = own - responses(silent, channel)
            found = node.isel(earlier_channel=place, channel=channel)
            assert found["relevance"].item() == pytest.approx(np.abs(changed).sum() / own.sum(), abs=1e-5)
            assert found["signed_relevance"].item() == pytest.approx(changed.sum() / own.sum(), abs=1e-5)


def test_why_there_is_none(folder: Path, tmp_path: Path) -> None:
    turned = npr.run(protocol(folder, layers=["head", "units"]), tmp_path / "turned.zarr")
    assert "does not" in turned["selectivity/units"].attrs["no_relevance"]
    with pytest.raises(ReaderError, match="'units' has no relevance of the channels before it: layer 'head' does not"):
        npr.plot.relevance_tree(turned, "units", 0)
    layers = ["units", {"name": "head", "transform": "softmax"}]
    softened = npr.run(protocol(folder, layers=layers), tmp_path / "softened.zarr")
    assert softened["selectivity/head"].attrs["no_relevance"] == "its responses are transformed (softmax)"


def test_the_plan_counts_it(folder: Path, rig: Rig) -> None:
    without = open_rig(npr.load_protocol(protocol(folder, relevance=False)))
    plan = make_plan(rig)
    for costs in (partial(selectivity_scoring, plan), selectivity_result):
        more, less = (sum(part.n_bytes for part in costs(one)) for one in (rig, without))
        assert more > less
    assert time_relevance(rig, plan, 0) == time_relevance(without, plan, 1) == 0
    assert time_relevance(rig, plan, 1) > 0


def test_an_image_is_explained_where_it_was_shown(result: xr.DataTree, rig: Rig) -> None:
    image = int(result["selectivity/units/top_image"][RED, 0])
    found = explain_image(rig, result, "units", image, overlap=0.3)
    assert found.attrs["image_id"] == rig.images.ids[image]
    np.testing.assert_array_equal(found["picture"], rig.images.load([image])[0].permute(1, 2, 0))
    tile = found.isel(tile=found["tile_channel"].values.tolist().index(RED))
    assert tile["tile_value"].item() == pytest.approx(1, abs=1e-5)
    unit = result["selectivity/units"].to_dataset().isel(channel=RED, rank=0)
    assert (tile["tile_y"].item(), tile["tile_x"].item()) == (unit["top_y"].item(), unit["top_x"].item())
    assert npr.plot.decomposition(found)
    with pytest.raises(ReaderError, match="image: received 24, expected 0 to 23"):
        explain_image(rig, result, "units", 24)


def test_a_unit_is_explained_though_its_field_is_wider_than_images(folder: Path, tmp_path: Path) -> None:
    given = protocol(folder, "deep", ["1", "9"], relevance=False)
    result, rig = npr.run(given, tmp_path / "out.zarr").load(), open_rig(npr.load_protocol(given))
    later = result["selectivity/9"].to_dataset()
    channel = int(np.flatnonzero(later["defined"])[0])
    found = explain_unit(rig, result, "9", channel, "1")
    assert later.attrs["receptive_field_height"] > later.attrs["field_height"]
    np.testing.assert_array_equal(found["picture"], later["neuron_feature"].sel(channel=channel))
    assert found["collage"].shape == found["picture"].shape
    assert found["share"].sizes["channel"] == 8
    assert (found["n_crops"] <= 6).all()
    assert found["n_crops"].max() > 0
    assert npr.plot.decomposition(found)


def test_a_layer_is_asked_what_can_be_spared(result: xr.DataTree, rig: Rig, folder: Path) -> None:
    classes = ["discs", "a", "lines", "checks", "b"]
    found = layer_redundancy(rig, result, "units", classes=classes, n_random=2, shares=[0, 0.6, 1], n_images=12)
    assert found.attrs["n_images"] == 12
    assert found["order"].values.tolist() == ["similarity", "low_norm", "random_0", "random_1"]
    norm = result["selectivity/units/mean"].values
    assert found["removed"].sel(order="low_norm").values.tolist() == np.argsort(norm, kind="stable").tolist()
    whole = found.isel(removed_share=0, order=0, removal=0)
    numbers = np.linspace(0, 23, 12).round().astype(int)
    with torch.no_grad():
        outputs = rig.subject.network(rig.images.load(numbers))
    expected = np.mean(
        [classes[one] == rig.images.labels[number] for one, number in zip(outputs.argmax(1), numbers, strict=True)]
    )
    assert whole["accuracy"].item() == pytest.approx(expected)
    assert npr.plot.removal_curve(found)
    with pytest.raises(PlanError, match=r"3 classes of images .* cannot be told from 5 outputs"):
        layer_redundancy(rig, result, "units")
    lacking = xr.DataTree.from_dict(
        {"selectivity/units": result["selectivity/units"].to_dataset().drop_vars("similarity")}
    )
    with pytest.raises(ReaderError, match="has no similarity of its units"):
        layer_redundancy(rig, lacking, "units", classes=classes)
