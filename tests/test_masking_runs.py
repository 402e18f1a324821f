"""Masking studies in protocols: against direct evaluations, interrupted, extended, and what is refused."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
import yaml
from torch import nn

import neuroprobe as npr
from neuroprobe import names
from neuroprobe.errors import NeuroprobeError, PlanError, ResponseError, StoreError, SubjectError
from neuroprobe.probe.lesion import Lesion
from neuroprobe.probe.masking import Condition
from neuroprobe.progress import BatchDone
from neuroprobe.protocol.lesion import RuleSpec
from neuroprobe.rig import Rig, open_rig
from neuroprobe.stimuli.folders import open_folder
from neuroprobe.summary import status

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*(standard errors|upper bound|undefined in some map|as a whole):UserWarning"
)

CLASSES = ["cat", "dog", "ship", *"abcdefg"]  # of the ten outputs of the embedded network
ALTERATIONS = ["grayscale", "hue", "rotation"]
TOGETHER = "conv3+conv5"
RULES = [{"quantile": [0.6, 0.8], "multiply": [0, 1.5]}, {"multiply": "1 - s"}]
HEADLINE = {"quantile": 0.8, "multiply": 0}


def maps_protocol(folder: Path) -> dict[str, Any]:
    return {
        "neuroprobe": 1,
        "subject": {"network": "embedded", "layers": ["conv3", "conv5", "linear"]},
        "stimuli": {"images": {"folder": str(folder), "size": 16}},
        "treatment": {"alterations": [{"name": name, "switch": 0.5} for name in ALTERATIONS]},
        "design": {"samples": 128},
        "analyses": ["sobol", "shapley"],
        "record": {"batch": 64, "device": "cpu"},
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of eight photographs' crops each."""
    from PIL import Image
    from skimage import data

    made = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(4)
    for label, picture in zip(CLASSES, (data.chelsea(), data.astronaut(), data.coffee()), strict=False):
        (made / label).mkdir()
        for number in range(8):
            top, left = (int(rng.integers(0, side - 96)) for side in picture.shape[:2])
            Image.fromarray(picture[top : top + 96, left : left + 96]).save(made / label / f"{number}.png")
    return made


@pytest.fixture(scope="module")
def maps(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("maps") / "maps.zarr"
    npr.run(maps_protocol(folder), path)
    return path


def protocol(folder: Path, maps: Path, **changes: Any) -> dict[str, Any]:
    shared = {
        "maps": [{"from": str(maps), "analysis": "shapley"}],
        "at": [["conv3", "conv5"], {"layers": ["conv5"], "rules": [HEADLINE], "random": 4}],
        "rules": RULES,
        "headline": HEADLINE,
        "draws": 2,
        "classes": CLASSES,
    }
    masking = {**shared, "random": 9, "controls": 2, "bootstrap": 50, **changes.pop("masking", {})}
    single_class = {**shared, "k": 3, "permutations": 99, **changes.pop("single_class", {})}
    return {
        **maps_protocol(folder),
        "analyses": [{"masking": masking}, {"single_class": single_class}],
        "record": {"batch": 20, "device": "cpu"},
        **changes,
    }


@pytest.fixture(scope="module")
def given(folder: Path, maps: Path) -> dict[str, Any]:
    return protocol(folder, maps)


@pytest.fixture(scope="module")
def store(given: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("study") / "study.zarr"
    npr.run(given, path)
    return path


@pytest.fixture(scope="module")
def result(store: Path) -> xr.DataTree:
    return npr.open_result(store).load()


@pytest.fixture(scope="module")
def rig(given: dict[str, Any]) -> Rig:
    return open_rig(npr.load_protocol(given))


def direct_outputs(rig: Rig, masks: dict[str, np.ndarray]) -> np.ndarray:
    """Outputs (images, inputs, draws, classes) of whole passes, each image and row by itself."""
    shown = rig.design(None).presentations(0, len(rig.images))
    outputs = np.empty((len(rig.images), 1 + len(ALTERATIONS), 2, 10))
    with torch.no_grad(), npr.lesioned(rig.subject.network, Lesion(masks)) as network:
        for sample in range(len(rig.images)):
            rows = np.arange(rig.design(None).n_rows)
            images = rig.treatment.stimuli(rig.images, shown, np.full(len(rows), sample), rows)
            found = network(rig.subject.prepare(images)).numpy()
            outputs[shown.image[sample, 0], 0] = found[0]
            outputs[shown.image[sample, 0], 1:] = found[1:].reshape(len(ALTERATIONS), 2, 10)
    return outputs


def labels(rig: Rig) -> np.ndarray:
    return np.array([CLASSES.index(str(label)) for label in rig.images.labels or ()])


def accuracies(rig: Rig, outputs: np.ndarray) -> dict[str, np.ndarray]:
    """Of each image and input, means over draws."""
    target = labels(rig)[:, None, None]
    order = np.argsort(-outputs, axis=-1, kind="stable")
    probability = np.exp(outputs) / np.exp(outputs).sum(-1, keepdims=True)
    own = np.take_along_axis(probability, np.broadcast_to(target[..., None], (*outputs.shape[:3], 1)), -1)[..., 0]
    found = {"top_1": order[..., 0] == target, "top_5": (order[..., :5] == target[..., None]).any(-1)}
    return {name: values.mean(2) for name, values in {**found, "probability": own}.items()}


def spec(maps: Path, factor: str, **rule: Any) -> dict[str, Any]:
    return {"from": str(maps), "analysis": "shapley", "factor": factor, "rule": rule}


def test_unlesioned_accuracies_are_those_of_a_direct_evaluation(result: xr.DataTree, rig: Rig) -> None:
    expected = accuracies(rig, direct_outputs(rig, {}))
    node = result[f"masking/{TOGETHER}"]
    for measure, values in expected.items():
        found = node["unlesioned"].sel(measure=measure)
        tolerance = 1e-6 if measure == "probability" else 1e-12
        np.testing.assert_allclose(found.values, values.mean(0), atol=tolerance)
        np.testing.assert_allclose(
            node["unlesioned_se"].sel(measure=measure), values.std(0, ddof=1) / np.sqrt(len(values)), atol=tolerance
        )
    # and the same of the contrast of the same images
    assert node.attrs["n_images"] == 24


@pytest.mark.parametrize("factor", ["hue", "rotation"])
@pytest.mark.parametrize(
    ("label", "rule"),
    [
        ("q0.6 x1.5", {"quantile": 0.6, "multiply": 1.5}),
        ("q0.8 x0", {"quantile": 0.8, "multiply": 0}),
        ("x 1-s", {"multiply": "1 - s"}),
    ],
)
def test_lesions_are_those_that_protocols_make(
    factor: str, label: str, rule: dict[str, Any], result: xr.DataTree, rig: Rig, maps: Path
) -> None:
    """Maps of one result have the same undefined units, so that the study's masks are those of a lesion by each."""
    image = rig.subject.prepare(rig.images.load([0]))
    layers = {"layers": ["conv3", "conv5"]}
    lesion = npr.Lesion.from_spec({**spec(maps, factor, **rule), **layers}, rig.subject.network, image)
    expected = accuracies(rig, direct_outputs(rig, dict(lesion.masks)))
    intact = accuracies(rig, direct_outputs(rig, {}))
    node = result[f"masking/{TOGETHER}"].to_dataset().sel(factor=factor, rule=label)
    for measure, values in expected.items():
        tolerance = 1e-6 if measure == "probability" else 1e-12
        at = node.sel(measure=measure)
        np.testing.assert_allclose(at["estimate"], values.mean(0), atol=tolerance)
        change = values - intact[measure]
        np.testing.assert_allclose(at["difference"], change.mean(0), atol=2 * tolerance)
        np.testing.assert_allclose(at["difference_se"], change.std(0, ddof=1) / np.sqrt(24), atol=2 * tolerance)
    if "quantile" in rule:
        assert dict(zip(node["layer"].values, node["n_masked"].values, strict=True)) == lesion.n_masked


def test_random_masks_are_of_equal_size_and_among_defined_units(rig: Rig) -> None:
    assert rig.study is not None
    place = next(one for one in rig.study.places if one.name == TOGETHER)
    small, large = RuleSpec(quantile=0.8, multiply=0.0), RuleSpec(quantile=0.6, multiply=0.0)
    drawn = [one for one in place.conditions if one.rule == small and not one.factor]
    assert [one.number for one in drawn] == list(range(9))
    for layer in place.maps:
        own = layer.mask(Condition(small, "hue")).numpy()
        assert (own == 0).sum() == layer.n_masked(small) == int(np.floor(0.2 * layer.n_candidates + 0.5))
        masks = np.stack([layer.mask(one).numpy() for one in drawn])
        assert set((masks == 0).sum(tuple(range(1, masks.ndim))).tolist()) == {layer.n_masked(small)}
        assert not (masks == 0)[:, ~layer.candidates].any()
        assert len(np.unique(masks.reshape(len(masks), -1), axis=0)) == len(masks)
        # a larger one of the same number holds it
        assert ((layer.mask(Condition(large, number=3)).numpy() == 0) >= (masks[3] == 0)).all()


def test_random_differences_and_p_values(result: xr.DataTree, rig: Rig) -> None:
    assert rig.study is not None
    place = next(one for one in rig.study.places if one.name == TOGETHER)
    node = result[f"masking/{TOGETHER}"].to_dataset()
    rule = RuleSpec(quantile=0.8, multiply=0.0)
    intact = accuracies(rig, direct_outputs(rig, {}))["probability"].mean(0)
    masks = {layer.layer: layer.mask(Condition(rule, number=5)).numpy() for layer in place.maps}
    lesioned = accuracies(rig, direct_outputs(rig, masks))["probability"].mean(0)
    at = node["random_difference"].sel(rule="q0.8 x0", measure="probability")
    np.testing.assert_allclose(at.isel(mask=5), lesioned - intact, atol=1e-6)
    assert node["n_random"].values.tolist() == [2, 0, 9, 0, 0]
    for factor in ALTERATIONS:
        for measure in node["measure"].values:
            one = node.sel(measure=measure, rule="q0.8 x0", input=factor)
            own = abs(float(one["difference"].sel(factor=factor)))
            reached = int((abs(one["random_difference"]) >= own - 1e-12).sum())
            assert float(node["p_value"].sel(factor=factor, measure=measure)) == (1 + reached) / 10
    assert (node["p_adjusted"] >= node["p_value"]).all()
    single = result["masking/conv5"].to_dataset()
    assert single["n_random"].values.tolist() == [4]
    assert json.loads(single.attrs["layers"]) == ["conv5"]


def test_single_classes_against_brute_force(result: xr.DataTree, rig: Rig, maps: Path) -> None:
    node = result[f"single_class/{TOGETHER}"].to_dataset()
    sensitivity = npr.open_result(maps)["shapley/linear/shapley_effect"].sel(factor=ALTERATIONS).values
    sets = np.argsort(-sensitivity, axis=1, kind="stable")[:, :3]
    assert node["sensitive_class"].values.tolist() == [[CLASSES[i] for i in row] for row in sets.tolist()]

    def index_of(outputs: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        largest = np.argsort(-outputs, axis=-1, kind="stable")[..., :3]
        shared = (largest[..., None] == chosen).sum((-1, -2))
        return (shared / (6 - shared)).mean(2)

    intact = direct_outputs(rig, {})
    assert rig.study is not None
    place = next(one for one in rig.study.places if one.name == TOGETHER)
    masks = {one.layer: one.mask(Condition(RuleSpec(quantile=0.8, multiply=0.0), "hue")).numpy() for one in place.maps}
    lesioned = direct_outputs(rig, masks)
    for number, factor in enumerate(ALTERATIONS):
        expected = index_of(intact, sets[number])
        np.testing.assert_allclose(node["unlesioned"].sel(factor=factor), expected.mean(0), atol=1e-9)
    change = index_of(lesioned, sets[1]) - index_of(intact, sets[1])
    at = node.sel(factor="hue", rule="q0.8 x0")
    np.testing.assert_allclose(at["difference"], change.mean(0), atol=1e-9)
    np.testing.assert_allclose(at["difference_se"], change.std(0, ddof=1) / np.sqrt(24), atol=1e-9)
    before, after = (outputs.argmax(-1) for outputs in (intact, lesioned))
    own = labels(rig)
    for number, label in enumerate(CLASSES):
        shift = (after == number).mean(2) - (before == number).mean(2)
        found = node.sel({"factor": "hue", "class": label})
        np.testing.assert_allclose(found["class_share"], (before == number).mean((0, 2)), atol=1e-9)
        np.testing.assert_allclose(found["class_share_shift"], shift.mean(0), atol=1e-9)
        np.testing.assert_allclose(found["recall_shift"], shift[own == number].mean(0) if number < 3 else np.nan)
    assert ((node["p_shift"] >= 1 / 100) & (node["p_shift"] <= 1)).all()


class Stop(Exception):  # noqa: N818
    """An interruption that no code catches."""


def same(one: xr.DataTree, other: xr.DataTree) -> bool:
    groups = (names.MASKING, names.SINGLE_CLASS)
    return all(
        node.to_dataset().load().identical(other[f"{group}/{place}"].to_dataset().load())
        for group in groups
        for place, node in one[group].children.items()
    )


def test_resumed_and_extended_equal_uninterrupted(given: dict[str, Any], store: Path, tmp_path: Path) -> None:
    seen: list[object] = []

    def stop(event: object) -> None:
        seen.append(event)
        if sum(isinstance(one, BatchDone) for one in seen) == 5:
            raise Stop

    whole = npr.open_result(store)
    with pytest.raises(Stop):
        npr.run(given, tmp_path / "out.zarr", listener=stop)
    assert same(npr.run(given, tmp_path / "out.zarr"), whole)
    begun = npr.run(given, tmp_path / "few.zarr", limit=8)
    assert begun[f"masking/{TOGETHER}"].attrs["n_images"] == 8
    longer = npr.run(given, tmp_path / "few.zarr")
    one, other = (tree[f"masking/{TOGETHER}/difference"] for tree in (longer, whole))
    # blocks are of the size that the first run chose, so that sums are the same but for rounding
    np.testing.assert_allclose(one, other, atol=1e-9)


def test_killed_and_resumed_equals_uninterrupted(given: dict[str, Any], store: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "p.yaml", tmp_path / "out.zarr"
    file.write_text(yaml.safe_dump(given))
    command = [sys.executable, "-m", "neuroprobe", "run", str(file), "-o", str(out)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as run:
        journal = out / ".neuroprobe" / "journal.jsonl"
        while run.poll() is None and not (journal.exists() and journal.read_text().count("\n")):
            time.sleep(0.01)
        run.send_signal(signal.SIGKILL)
    assert run.returncode == -signal.SIGKILL
    with pytest.raises(StoreError, match="is unfinished"):
        npr.open_result(out)
    assert same(npr.run(given, out), npr.open_result(store))


def test_other_maps_or_rules_are_another_study(
    given: dict[str, Any], folder: Path, maps: Path, store: Path, tmp_path: Path
) -> None:
    kept = npr.open_result(store).load()
    moved = maps.rename(tmp_path / "moved.zarr")
    try:
        assert same(npr.run(protocol(folder, moved), store), kept)
    finally:
        moved.rename(maps)
    other = {"maps": [{"from": str(maps), "analysis": "sobol", "value": "total_order"}]}
    for changes in (
        {"masking": other, "single_class": other},
        {"masking": {"random": 19}},
        {"single_class": {"k": 2}},
        {"seed": 5},
    ):
        with pytest.raises(StoreError, match=r"written by another protocol .*maps or lesions"):
            npr.run(protocol(folder, maps, **changes), store)


def test_provenance_names_the_maps(result: xr.DataTree, maps: Path, rig: Rig) -> None:
    found = json.loads(result.attrs[names.PROVENANCE])["masking"]
    assert rig.study is not None
    assert found["hash"] == rig.study.digest
    (source,) = found["maps"]
    assert (source["from"], source["factors"]) == (str(maps), ALTERATIONS)
    assert len(source["result_hash"]) == 64


def test_a_study_beside_contrasts_and_on_a_lesioned_network(folder: Path, maps: Path, tmp_path: Path) -> None:
    analyses = protocol(folder, maps)["analyses"][:1]
    contrast = {"contrast": {"draws": 2, "classes": CLASSES}}
    lesion = {"units": "layer == 'conv4' and channel < 40"}
    given = protocol(folder, maps, analyses=["moments", contrast, *analyses])
    given["subject"] = {**given["subject"], "lesion": lesion}
    result = npr.run(given, tmp_path / "out.zarr", limit=16)
    table = result["accuracy"].to_dataset()
    unlesioned = result[f"masking/{TOGETHER}/unlesioned"]
    # the same images and draws; both of the network with the lesion of the subject
    np.testing.assert_allclose(table["estimate"].transpose("factor", "measure"), unlesioned, atol=1e-6)
    network = open_rig(npr.load_protocol(given)).subject
    assert network.lesion.n_masked["conv4"] > 0
    intact = npr.run({**given, "subject": maps_protocol(folder)["subject"]}, tmp_path / "intact.zarr", limit=16)
    assert not np.allclose(intact[f"masking/{TOGETHER}/unlesioned"], unlesioned, atol=1e-4)


def test_a_network_that_cannot_be_cut_gives_the_same(
    given: dict[str, Any], result: xr.DataTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(network: nn.Module, *_: object) -> None:
        raise SubjectError(f"{type(network).__name__} cannot be cut")

    monkeypatch.setattr("neuroprobe.probe.masked.cut_network", cannot)
    with pytest.warns(UserWarning, match=r"masks of conv(3\+conv)?5: the network runs as a whole for every mask"):
        whole = npr.run(given, tmp_path / "out.zarr")
    node = whole[f"masking/{TOGETHER}"]
    assert node.attrs["shares"] == 0
    expected = result[f"masking/{TOGETHER}"]
    np.testing.assert_allclose(node["difference"], expected["difference"], atol=1e-5)


def test_outputs_that_are_not_finite(folder: Path, maps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images that the network cannot take are left out of all cells, where the protocol says so."""
    (tmp_path / "network_of_a_test.py").write_text(
        "import torch\n"
        "from neuroprobe.subjects.embedded import EmbeddedNetwork\n"
        "class Choosy(EmbeddedNetwork):\n"
        "    def forward(self, x):\n"
        "        bright = x.mean((1, 2, 3)) > LIMIT\n"
        "        return torch.where(bright[:, None], torch.nan, super().forward(x))\n"
        "LIMIT = 1e9\n"
        "def build(): return Choosy().eval()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    name = {"network": "network_of_a_test:build"}
    given = maps_protocol(folder)
    npr.run({**given, "subject": {**given["subject"], **name}}, tmp_path / "maps.zarr")
    study = protocol(folder, tmp_path / "maps.zarr")
    study["subject"] = {**study["subject"], **name}
    rig = open_rig(npr.load_protocol(study))
    brightness = rig.subject.prepare(rig.images.load(range(24))).mean((1, 2, 3))
    sys.modules["network_of_a_test"].LIMIT = float(brightness.sort().values[19])  # type: ignore[attr-defined]
    with pytest.raises(ResponseError, match=r"output is NaN or infinite for image .* or leave such images out by"):
        npr.run(study, tmp_path / "out.zarr")
    dropped = npr.run({**study, "record": {**study["record"], "nan": "drop"}}, tmp_path / "dropped.zarr")
    for group in (names.MASKING, names.SINGLE_CLASS):
        attrs = dropped[f"{group}/{TOGETHER}"].attrs
        assert attrs["n_images"] == 24
        assert attrs["n_dropped"] >= 4
    assert np.isfinite(dropped[f"masking/{TOGETHER}/estimate"]).all()


def changed(folder: Path, result: Path, **options: Any) -> dict[str, Any]:
    given = protocol(folder, result, masking=options)
    return {**given, "analyses": given["analyses"][:1]}


WRONG: dict[str, tuple[dict[str, Any], str, tuple[Any, ...]]] = {
    "an unknown layer": ({"at": [["conv3", "conv9"]]}, "unknown layer 'conv9'", ("analyses", 0, "at", 0, "layers", 1)),
    "a layer without maps": ({"at": [["conv4"]]}, "unknown layer 'conv4'.*known: conv3, conv5", ("at", 0, "layers", 0)),
    "an unknown factor": ({"factors": ["hew"]}, r"unknown factor 'hew' \(did you mean 'hue'\?\)", ("maps", "factors")),
    "no result": ({"from": "nowhere.zarr"}, "no such result", ("maps", 0, "from")),
    "too few classes": ({"classes": CLASSES[:4]}, "4 different ones given", ("masking", "classes")),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_told_before_any_work(case: str, folder: Path, maps: Path, tmp_path: Path) -> None:
    options, message, place = WRONG[case]
    source = {key: options.pop(key) for key in ("factors", "from") if key in options}
    given = changed(folder, maps, **options)
    given["analyses"][0]["masking"]["maps"] = [{"from": str(maps), "analysis": "shapley", **source}]
    options.update(source)
    with pytest.raises(NeuroprobeError, match=message) as caught:
        npr.run(given, tmp_path / "out.zarr")
    assert set(place) <= set(caught.value.loc)
    assert not (tmp_path / "out.zarr").exists()


def test_maps_of_another_network_and_of_other_factors(folder: Path, maps: Path, tmp_path: Path) -> None:
    given = changed(folder, maps)
    given["subject"] = {**given["subject"], "random_twin": True}
    with pytest.raises(NeuroprobeError, match="is a result of network 'embedded' with the weights"):
        npr.plan(given, measure=False)
    given = changed(folder, maps)
    given["treatment"] = {"alterations": ["hflip"]}
    with pytest.raises(PlanError, match=r"none of its factors \(grayscale, hue, rotation\) is an alteration"):
        npr.plan(given, measure=False)
    twice = changed(folder, maps, maps=[{"from": str(maps), "analysis": "shapley"}] * 2)
    with pytest.raises(PlanError, match="a map of 'grayscale' stands in another result too; choose by `factors`"):
        npr.plan(twice, measure=False)


def test_images_without_classes(maps: Path, folder: Path) -> None:
    given = changed(folder, maps)
    flat = next(folder.iterdir())  # a folder of images, not of classes
    given["stimuli"] = {"images": {"folder": str(flat), "size": 16}}
    with pytest.raises(PlanError, match=r"accuracy: images have no class; give images in one folder per class$"):
        npr.plan(given, measure=False)


def test_a_plan_says_what_it_takes(given: dict[str, Any]) -> None:
    plans = npr.plan(given)
    plan = plans["masking"]
    assert plan.masks == {TOGETHER: 1 + 3 * 5 + 9 + 2, "conv5": 1 + 3 + 4}
    text = str(plans)
    assert "27 at conv3+conv5" in text
    assert plan.seconds is not None
    assert sum(plan.memory.values()) > sum(plan.disk.values()) > 0


def test_real_accuracies_of_resnet20(data: Path, tmp_path: Path) -> None:
    """Unlesioned, of some CIFAR-10 test images, against an evaluation that knows nothing of neuroprobe's engine."""
    subject = {
        "network": "cifar_resnet20",
        "weights": str(data / "cifar10" / "resnet20.th"),
        "layers": ["layer1.2", "layer3.2", "linear"],
        "preprocess": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
    }
    stimuli = {"images": {"folder": str(data / "cifar10" / "test"), "limit": 60}}
    treatment = {"alterations": [{"name": "grayscale", "switch": 0.5}, {"name": "hflip", "switch": 0.5}]}
    maps = {"neuroprobe": 1, "subject": subject, "stimuli": stimuli, "treatment": treatment,
            "design": {"samples": 128}, "analyses": ["shapley"], "record": {"device": "cpu"}}  # fmt: skip
    npr.run(maps, tmp_path / "maps.zarr")
    masking = {"maps": [{"from": str(tmp_path / "maps.zarr"), "analysis": "shapley"}], "rules": [HEADLINE],
               "headline": HEADLINE, "random": 2}  # fmt: skip
    result = npr.run({**maps, "analyses": [{"masking": masking}]}, tmp_path / "out.zarr")
    node = result["masking/layer1.2+layer3.2"].to_dataset()
    rig = open_rig(npr.load_protocol(maps))
    images = rig.images.load(range(60))
    target = torch.tensor([sorted(set(rig.images.labels or ())).index(label) for label in rig.images.labels or ()])
    luma = images.mul(torch.tensor([0.2989, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True).expand(-1, 3, -1, -1)
    assert len(open_folder(data / "cifar10" / "test").ids) == 5000
    for name, shown in (("original", images), ("grayscale", luma), ("hflip", images.flip(3))):
        with torch.no_grad():
            right = (rig.subject.network(rig.subject.prepare(shown)).argmax(1) == target).double()
        assert float(node["unlesioned"].sel(input=name, measure="top_1")) == pytest.approx(
            float(right.mean()), abs=1e-9
        )


def test_maps_and_alterations_that_do_not_meet_are_told(folder: Path, maps: Path) -> None:
    given = changed(folder, maps)
    given["treatment"] = {"alterations": ["grayscale", "hflip"]}
    warnings = npr.plan(given, measure=False).warnings
    assert any(text.startswith("no map is of hflip: images are shown so altered") for text in warnings)
    assert any(text.startswith("maps of hue, rotation are left out") for text in warnings)
    given["analyses"][0]["masking"]["maps"][0] |= {"factors": ["grayscale", "hue"]}
    warnings = npr.plan(given, measure=False).warnings
    assert not any("are left out" in text for text in warnings)


def test_plan_and_status_tell_of_a_lesion(folder: Path, tmp_path: Path) -> None:
    given = maps_protocol(folder)
    given["subject"]["lesion"] = {"units": "layer == 'conv4' and channel < 2"}
    plans = npr.plan(given, measure=False)
    n = plans["pick-freeze"].lesion["conv4"]
    assert n > 0
    assert f"lesion      {n:,} units of conv4" in str(plans)
    npr.run(given, tmp_path / "out.zarr")
    found = status(tmp_path / "out.zarr")
    assert found.lesion == {"conv4": n}
    assert f"the network was recorded with a lesion: {n:,} units of conv4 masked" in str(found)
    study = protocol(folder, tmp_path / "out.zarr")
    with pytest.raises(SubjectError, match="a result of this network with a lesion") as caught:
        npr.plan(study, measure=False)
    assert caught.value.loc[:3] == ("analyses", 0, "masking")
    # the same lesion in the network that is studied
    study["subject"] = {**study["subject"], "lesion": given["subject"]["lesion"]}
    assert npr.plan(study, measure=False)["masking"].lesion == {"conv4": n}


def test_accuracies_that_contrasts_do_not_want_are_not_there(folder: Path, maps: Path, tmp_path: Path) -> None:
    """Though masks are about them."""
    given = changed(folder, maps, rules=[HEADLINE], at=[["conv5"]])
    given["analyses"].insert(0, {"contrast": {"draws": 1, "accuracy": False}})
    result = npr.run(given, tmp_path / "out.zarr", limit=8)
    assert names.ACCURACY not in result.children
    assert {"contrast", names.MASKING} <= set(result.children)


def test_a_plan_over_the_memory_says_what_would_fit(folder: Path, maps: Path) -> None:
    given = protocol(folder, maps, masking={"bootstrap": 8000})
    needed = sum(npr.plan(given, measure=False)["masking"].memory.values())
    with pytest.raises(PlanError, match=r"most of the rest goes to .* This would fit: `bootstrap: 100`") as caught:
        npr.plan(given, measure=False, memory=needed - (needed // 20))
    assert "Nothing tried" not in str(caught.value)
