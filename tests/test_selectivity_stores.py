"""Selectivity runs that are interrupted, extended, given something wrong, or done beside other analyses."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import yaml
from click.testing import CliRunner, Result
from PIL import Image

import neuroprobe as npr
import planted
from neuroprobe import names
from neuroprobe.cli import main
from neuroprobe.errors import NeuroprobeError, PlanError, ResponseError, StoreError
from neuroprobe.export import export_netcdf
from neuroprobe.progress import BatchDone, StageAdvanced, StageStarted
from neuroprobe.rig import open_rig
from neuroprobe.statistics.label_selectivity import chance_gamma, expected_labels_of
from neuroprobe.summary import status
from planted import CHECKS, DEAD, LINE, RED

N_OF_CLASS = 45  # 135 images: three blocks


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted.write_images(tmp_path_factory.mktemp("planted") / "images", N_OF_CLASS)


def protocol(folder: Path, options: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    shared: dict[str, Any] = {"top": 6, "stability": [3], "sham": 1, "permutations": 9}
    subject = {"network": "planted:build", "layers": ["units", "head"], "preprocess": planted.PREPROCESS}
    return {
        "neuroprobe": 1,
        "subject": {**subject, **changes.pop("subject", {})},
        "stimuli": {"images": {"folder": str(folder)}},
        "analyses": [{"selectivity": {**shared, **(options or {})}}],
        "record": {"device": "cpu", "batch": 32, **changes.pop("record", {})},
        **changes,
    }


@pytest.fixture(scope="module")
def store(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "out.zarr"
    npr.run(protocol(folder), path)
    return path


class Stop(Exception):  # noqa: N818
    """An interruption that no code catches."""


def stop_at(wanted: Callable[[object], bool], number: int = 1) -> Callable[[object], None]:
    seen: list[object] = []

    def listen(event: object) -> None:
        seen.extend([event] if wanted(event) else [])
        if len(seen) == number:
            raise Stop

    return listen


def assert_same(one: xr.DataTree, other: xr.DataTree) -> None:
    for group in (names.SELECTIVITY, names.STIMULI):
        assert list(one[group].children) == list(other[group].children)
        for name, node in one[group].children.items():
            xr.testing.assert_identical(node.to_dataset().load(), other[f"{group}/{name}"].to_dataset().load())


INTERRUPTIONS = {
    "in the pass": stop_at(lambda event: isinstance(event, BatchDone), 3),
    "among whole images": stop_at(lambda event: isinstance(event, StageAdvanced)),
    "behind whole images": stop_at(lambda event: isinstance(event, StageStarted), 2),
    "between layers": stop_at(lambda event: isinstance(event, StageStarted) and event.name.endswith("head")),
}


@pytest.mark.parametrize("when", INTERRUPTIONS)
def test_interrupted_runs_go_on(folder: Path, store: Path, when: str, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    with pytest.raises(Stop):
        npr.run(protocol(folder), out, listener=INTERRUPTIONS[when])
    with pytest.raises(StoreError, match="is unfinished"):
        npr.open_result(out)
    stages: list[str] = []

    def listen(event: object) -> None:
        stages.extend([event.name] if isinstance(event, StageStarted) else [])

    found = npr.run(protocol(folder), out, listener=listen)
    assert_same(found, npr.open_result(store))
    # what was done is not done again
    n_done = {"behind whole images": 1, "between layers": 2}.get(when, 0)
    assert len(stages) == 3 - n_done


def test_extended_runs_are_those_from_scratch(folder: Path, store: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    few = npr.run(protocol(folder), out, limit=64)
    assert few["selectivity/units"].attrs["n_images"] == 64
    kept = few["selectivity/units/top_value"].load()
    longer = npr.run(protocol(folder), out)
    assert longer["selectivity/units"].attrs["n_images"] == 3 * N_OF_CLASS
    assert_same(longer, npr.open_result(store))
    assert (longer["selectivity/units/top_value"] >= kept).all()
    with pytest.raises(StoreError, match=r"holds 135 images, more than the 64 asked for: raise the limit"):
        npr.run(protocol(folder), out, limit=64)


def test_chance_is_of_the_images_that_were_shown(folder: Path, tmp_path: Path) -> None:
    given = protocol(folder, {"indexes": ["class"], "permutations": 0, "similarity": False})
    result = npr.run(given, tmp_path / "out.zarr", limit=64)
    node = result["selectivity/units"].to_dataset()
    rig = open_rig(npr.load_protocol(given))
    shown = rig.design(None).presentations(0, 64).image[:, 0]
    counts = np.unique(np.array(rig.images.labels)[shown], return_counts=True)[1]
    assert len(set(counts.tolist())) > 1
    expected = chance_gamma(6, expected_labels_of(6, counts))
    np.testing.assert_allclose(node["gamma_chance"], [expected] * DEAD + [np.nan])


@pytest.mark.parametrize("options", [{"top": 7}, {"sham": 2}, {"border": "fill_gray"}, {"indexes": ["colour"]}])
def test_other_options_are_another_protocol(folder: Path, store: Path, options: dict[str, Any], tmp_path: Path) -> None:
    out = Path(shutil.copytree(store, tmp_path / "out.zarr"))
    with pytest.raises(StoreError, match="was written by another protocol"):
        npr.run(protocol(folder, options), out)
    assert_same(npr.open_result(out), npr.open_result(store))


def test_a_finished_run_is_not_done_again(folder: Path, store: Path) -> None:
    assert_same(npr.run(protocol(folder), store, listener=stop_at(lambda event: True)), npr.open_result(store))


# what is wrong


@pytest.fixture(scope="module")
def bench(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of images and tables with which something is wrong."""
    root = tmp_path_factory.mktemp("bench")
    some = sorted(folder.glob("*/00?.png"))
    for name in ("plain", "one/discs", "grey/a", "grey/b", "maps/discs", "maps/lines", "maps/checks", "two/a", "two/b"):
        (root / name).mkdir(parents=True)
    for number, path in enumerate(some):
        shutil.copy(path, root / "plain" / f"{number}.png")
        shutil.copy(path, root / "two" / "ab"[number % 2])
        with Image.open(path) as image:
            image.convert("L").save(root / "grey" / "ab"[number % 2] / path.name)
        parts = (np.arange(planted.SIDE**2).reshape(planted.SIDE, -1) % planted.SIDE >= 12) + 1
        np.save(root / "maps" / path.relative_to(folder).with_suffix(".npy"), parts)
    for path in sorted((folder / "discs").glob("00?.png")):
        shutil.copy(path, root / "one" / "discs")
    shutil.copytree(root / "maps", root / "lacking")
    (root / "lacking" / "discs" / "003.npy").unlink()
    (root / "small").mkdir()
    for path in some:
        (root / "small" / path.parent.name).mkdir(exist_ok=True)
        shutil.copy(path, root / "small" / path.parent.name)
    (root / "names.csv").write_text("number,name\n1,left\n2,right\n")
    (root / "cycle.csv").write_text("child,parent\ndiscs,round\nround,discs\nlines,straight\nchecks,straight\n")
    (root / "few.csv").write_text("child,parent\ndiscs,round\nlines,straight\n")
    (root / "good.csv").write_text("child,parent\ndiscs,smooth\nlines,sharp\nchecks,sharp\nsharp,thing\nsmooth,thing\n")
    return root


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


LESS = {"indexes": ["class"]}
TREATMENT = {"reference_side": "image", "alterations": [{"name": "hue", "switch": 0.5}]}
CONTROL = {"alterations": [{"name": "grayscale"}]}
PLANE = {
    "segment": {"from": "conv2", "to": "conv5", "plane": "value"},
    "network": "embedded",
    "layers": ["conv5"],
    "preprocess": {},
}
MAPS = {"part": {"folder": "{bench}/lacking", "names": "{bench}/names.csv"}}

# options of selectivity, other changes, and words of the message
WRONG: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "fewer images than a list": ({"top": 31}, {}, r"top: lists of 31 images asked for, and there are 30: show more"),
    "a list of one": ({"top": 1}, {}, r"greater than or equal to 2|at least 2|2 or more"),
    "one class": (LESS, {"images": "one"}, r"two classes or more, and all 10 are of 'discs': show others too"),
    "no classes": (LESS, {"images": "plain"}, r"takes images of classes, and these have none: give a folder"),
    "grey images": ({"indexes": ["class", "colour"]}, {"images": "grey"}, r"these have none .*: show images in colour"),
    "grey images by default": ({}, {"images": "grey"}, r"these have none .*: show images in colour"),
    "a cycle": ({"hierarchy": "{bench}/cycle.csv"}, {}, r"cycle\.csv.*(discs.*round|round.*discs)"),
    "a class that a hierarchy lacks": ({"hierarchy": "{bench}/few.csv"}, {}, r"few\.csv|'checks'"),
    "no hierarchy": ({"hierarchy": "{bench}/none.csv"}, {}, r"none\.csv"),
    "a hierarchy without classes": (
        {"hierarchy": "cifar10"},
        {"images": "plain"},
        r"hierarchy takes images of classes",
    ),
    "an unknown index": ({"indexes": ["coluor"]}, {}, r"unknown selectivity index 'coluor'.*colour"),
    "an unknown option": (
        {"indexes": [{"colour": {"grey": "luma"}}]},
        {},
        r"index 'colour': grey: .*options are: gray",
    ),
    "a wrong option": ({"indexes": [{"orientation": {"step": 0}}]}, {}, r"index 'orientation': step: "),
    "options of class": ({"indexes": [{"class": {"top": 3}}]}, {}, r"index 'class' has no options: leave them out"),
    "an index twice": ({"indexes": ["class", "colour", "class"]}, {}, r"class is listed twice; list it once"),
    "no index": ({"indexes": []}, {}, r"indexes"),
    "a shorter list that is longer": ({"stability": [3, 6]}, {}, r"stability: given 6, expected lists of 2 to 5"),
    "a threshold": ({"thresholds": [0]}, {}, r"thresholds"),
    "a border": ({"border": "mirror"}, {}, r"border"),
    "a map of means": ({}, {"subject": {"layers": [{"name": "units", "reduce": "mean"}]}}, r"leave out `reduce: mean`"),
    "tokens": (
        {},
        {"subject": {"network": "planted:tokens", "layers": ["tokens"]}},
        r"gives tokens, whose receptive fields are not known: record a layer of maps",
    ),
    "a control": ({}, {"control": CONTROL, "treatment": TREATMENT}, r"take `control: original`"),
    "a segment": ({}, {"subject": PLANE}, r"segment: .*leave it out"),
    "minmax": ({}, {"subject": {"preprocess": {**planted.PREPROCESS, "minmax": True}}}, r"minmax: .*leave it out"),
    "stored responses": ({}, {"record": {"store": "responses"}}, r"store: selectivity keeps .*store none"),
    "a missing map": ({"label_maps": MAPS}, {}, r"1 of 30 images have no label map: 'discs/003.png'; expected"),
    "a name that is taken": (
        {"label_maps": {"colour": MAPS["part"]}},
        {},
        r"given 'colour', expected a word that no other index",
    ),
    "no number": ({}, {"subject": {"network": "planted:failing"}, "images": "black"}, r"NaN.*drop"),
}


def filled(value: Any, root: Path) -> Any:
    if isinstance(value, dict):
        return {key: filled(one, root) for key, one in value.items()}
    return value.replace("{bench}", str(root)) if isinstance(value, str) else value


@pytest.fixture(scope="module", autouse=True)
def black(bench: Path) -> None:
    """Images of which some are black in a corner."""
    shutil.copytree(bench / "small", bench / "black")
    for path in (bench / "black" / "discs").glob("00[24].png"):
        with Image.open(path) as image:
            pixels = np.array(image)
        pixels[:2, :2] = 0
        Image.fromarray(pixels).save(path)


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_at_its_place(bench: Path, case: str, tmp_path: Path) -> None:
    options, changes, said = WRONG[case]
    changes = dict(changes)
    images = bench / changes.pop("images", "small")
    given = protocol(images, filled(options, bench), **changes)
    file, out = tmp_path / "p.yaml", tmp_path / "out.zarr"
    file.write_text(yaml.safe_dump(given, sort_keys=False))
    result = call("run", file, "-o", out)
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code > 0
    assert not out.exists() or case == "no number"
    text = " ".join(result.stderr.split())
    assert re.search(said, text), text
    if case != "no number":  # which is found while it runs
        assert text.startswith(f"{file}:"), text
        with pytest.raises(NeuroprobeError):
            npr.plan(given, measure=False)


def test_a_limit_below_the_list(folder: Path, tmp_path: Path) -> None:
    given = protocol(folder, {"top": 70, "stability": [5]})
    with pytest.raises(PlanError, match="limit: 64 images asked for, and lists of 70 are kept: raise the limit"):
        npr.run(given, tmp_path / "out.zarr", limit=64)
    assert not (tmp_path / "out.zarr").exists()


# what is not


def test_images_without_classes_leave_class_out(bench: Path, tmp_path: Path) -> None:
    node = npr.run(protocol(bench / "plain"), tmp_path / "out.zarr")["selectivity/units"].to_dataset()
    assert "colour" in node
    assert "colour_name_gamma" in node
    for name in ("gamma", "class_frequency", "preferred_class", "class_mean"):
        assert name not in node
    shown = npr.open_result(tmp_path / "out.zarr")["stimuli/shown"].to_dataset()
    assert "class_label" not in shown


def test_images_that_fail_are_left_out(bench: Path, tmp_path: Path) -> None:
    given = protocol(bench / "black", subject={"network": "planted:failing"}, record={"nan": "drop"})
    node = npr.run(given, tmp_path / "out.zarr").load()["selectivity/units"].to_dataset()
    assert (node.attrs["n_images"], node.attrs["n_dropped"]) == (28, 2)
    shutil.copytree(bench / "black", tmp_path / "black")
    for number in (2, 4):
        (tmp_path / "black" / "discs" / f"{number:03}.png").unlink()
    given = protocol(tmp_path / "black", subject={"network": "planted:failing"})
    without = npr.run(given, tmp_path / "without.zarr")["selectivity/units"].load()
    np.testing.assert_allclose(node["top_value"], without["top_value"], atol=1e-6)
    np.testing.assert_allclose(node["colour"], without["colour"], atol=1e-6)
    np.testing.assert_allclose(node["class_mean"], without["class_mean"], atol=1e-6)
    with pytest.raises(ResponseError, match=r"images gave NaN or infinity, 'discs/00[24].png' for instance"):
        npr.run(protocol(bench / "black", subject={"network": "planted:failing"}), tmp_path / "none.zarr")


def test_a_lesion_is_in_the_pass_and_in_the_crops(bench: Path, tmp_path: Path) -> None:
    """A silenced channel is dead, and its copy behind it too; one at half strength has the same selectivity."""
    lesions = [
        {"units": f"layer == 'units' and channel == {RED}"},
        {"units": f"layer == 'units' and channel == {LINE}", "multiply": 0.5},
    ]
    indexes = {"indexes": ["colour", "orientation"], "sham": 0}
    one, other = (
        npr.run(protocol(bench / "small", indexes, subject=subject), tmp_path / f"{number}.zarr").load()
        for number, subject in enumerate(({}, {"lesion": lesions}))
    )
    for layer in ("units", "head"):
        intact, lesioned = (tree[f"selectivity/{layer}"].to_dataset() for tree in (one, other))
        assert intact["defined"].values.tolist() == [1, 1, 1, 1, 0]
        assert lesioned["defined"].values.tolist() == [0, 1, 1, 1, 0]
        np.testing.assert_allclose(lesioned["top_value"][LINE], intact["top_value"][LINE] / 2, atol=1e-6)
        for name in ("colour", "orientation", "orientation_by_member"):
            np.testing.assert_allclose(lesioned[name][..., 1:], intact[name][..., 1:], atol=1e-5)


def test_label_maps_and_hierarchies(bench: Path, tmp_path: Path) -> None:
    maps = {"part": {"folder": str(bench / "maps"), "names": str(bench / "names.csv")}}
    options = {"indexes": ["class", "part"], "label_maps": maps, "hierarchy": str(bench / "good.csv")}
    result = npr.run(protocol(bench / "small", options), tmp_path / "out.zarr").load()
    node = result["selectivity/units"].to_dataset()
    assert node["part_label"].values.tolist() == ["left", "right"]
    shares = node["part_frequency"].values
    np.testing.assert_allclose(shares[:, :DEAD].sum(0), 1)
    assert np.isnan(shares[:, DEAD]).all()
    np.testing.assert_allclose(node["part_frequency_base"], 0.5)
    assert (node["hypernym"].values[CHECKS], float(node["hypernym_depth"][CHECKS])) == ("checks", 2)
    assert npr.select_units(result, "under(classes, 'sharp') > 0.99")["channel"].values.tolist().count(CHECKS) == 2
    left = npr.select_units(result, "'left' in parts and layer == 'units'")["channel"].values
    assert left.tolist() == np.flatnonzero(shares[0] >= 0.1).tolist()
    # the digest of maps and hierarchy is part of what a store is of
    shutil.copytree(bench / "maps", tmp_path / "maps")
    np.save(tmp_path / "maps" / "discs" / "001.npy", np.ones((planted.SIDE, planted.SIDE), np.int64))
    maps["part"]["folder"] = str(tmp_path / "maps")
    with pytest.raises(StoreError, match="was written by another protocol"):
        npr.run(protocol(bench / "small", options), tmp_path / "out.zarr")


def test_a_layer_that_never_responds(bench: Path, tmp_path: Path) -> None:
    layers = [{"name": "units", "channels": [DEAD]}]
    node = npr.run(protocol(bench / "small", subject={"layers": layers}), tmp_path / "out.zarr").load()
    node = node["selectivity/units"].to_dataset()
    assert node["channel"].values.tolist() == [DEAD]
    assert node["defined"].values.tolist() == [0]
    for name in ("colour", "gamma", "neuron_feature", "coverage", "top_crop", "class_frequency", "colour_share"):
        assert node[name].isnull().all(), name


@pytest.mark.filterwarnings("ignore:.*(standard errors|upper bound|accuracies|no unit varies):UserWarning")
def test_beside_other_analyses(bench: Path, tmp_path: Path) -> None:
    selectivity = protocol(bench / "small", LESS)["analyses"]
    analyses = ["sobol", {"contrast": {"draws": 1}}, *selectivity]
    given = {**protocol(bench / "small"), "analyses": analyses, "treatment": TREATMENT, "design": {"samples": 128}}
    given["treatment"] = {**TREATMENT, "alterations": [*TREATMENT["alterations"], {"name": "hflip", "switch": 0.5}]}
    out = tmp_path / "out.zarr"
    plans = npr.plan(given, measure=False)
    assert list(plans) == [names.PICK_FREEZE, names.TREATMENT_CONTROL, names.SELECTIVITY]
    result = npr.run(given, out)
    alone = npr.run(protocol(bench / "small", LESS), tmp_path / "alone.zarr")
    for layer in ("units", "head"):
        one, other = (tree[f"selectivity/{layer}"].to_dataset().load() for tree in (result, alone))
        xr.testing.assert_identical(one, other)
        assert "first_order" in result[f"sobol/{layer}"]
        assert "difference" in result[f"contrast/{layer}"] or "control_mean" in result[f"contrast/{layer}"]
    found = status(out)
    assert found.finished
    assert found.sessions[names.SELECTIVITY]["samples"] == 30
    assert found.sessions[names.SELECTIVITY]["blocks"] == found.sessions[names.SELECTIVITY]["blocks_done"]
    shown = call("status", out)
    assert shown.exit_code == 0
    assert "selectivity: 1 of 1 blocks, 30 images" in shown.stdout
    written = json.loads(result.attrs[names.PROVENANCE])["protocol"]["analyses"][2]["selectivity"]
    assert (written["top"], written["sham"], written["border"]) == (6, 1, "masked")
    assert [index["name"] for index in written["indexes"]] == ["class"]


def test_exported_results_are_asked_as_stores_are(store: Path, tmp_path: Path) -> None:
    export_netcdf(store, tmp_path / "out.nc")
    whole = npr.open_result(store).load()
    with xr.open_datatree(tmp_path / "out.nc", engine="netcdf4") as exported:
        for layer in ("units", "head"):
            one, other = (tree[f"selectivity/{layer}"].to_dataset() for tree in (whole, exported))
            xr.testing.assert_equal(one.astype(object), other.astype(object).load())
    for query in ("'red' in colours", "gamma == 1 and colour > 0.9", "near('units/0', 0.5)", "class_selectivity > 0.5"):
        found = [npr.select_units(path, query).to_dataframe() for path in (store, tmp_path / "out.nc")]
        assert found[0].astype(str).equals(found[1].astype(str)), query
        assert len(found[0])
    table = call("select", tmp_path / "out.nc", "'red' in colours")
    assert table.exit_code == 0
    assert "units" in table.stdout


def test_the_plan_says_lists_memory_and_time(folder: Path) -> None:
    plan = npr.plan(protocol(folder))[names.SELECTIVITY]
    text = str(plan)
    assert "factors" not in text
    assert "images      135, in 6 forward passes of 32" in text
    assert "lists       of 6 images for each of 10 channels" in text
    assert plan.as_dict()["lists"] == 6
    quick = npr.plan(protocol(folder), measure=False)[names.SELECTIVITY]
    assert quick.seconds is None
    assert plan.seconds is not None
    assert plan.seconds > 0
    longer = npr.plan(protocol(folder, {"top": 60}), measure=False)[names.SELECTIVITY]
    more = npr.plan(protocol(folder, {"crops": 50}), measure=False)[names.SELECTIVITY]
    assert sum(quick.disk.values()) < sum(longer.disk.values())
    assert sum(quick.disk.values()) < sum(more.disk.values())


def test_disk_is_said_in_the_right_order(folder: Path, store: Path) -> None:
    said = npr.plan(protocol(folder), measure=False)[names.SELECTIVITY].disk
    taken = sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
    assert taken / 2 < sum(said.values()) < 40 * taken
