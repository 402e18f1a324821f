"""The status of a store, as text and as JSON."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner

import neuroprobe as npr
from made_masking import make_masking
from neuroprobe.analysis.effects import p_text
from neuroprobe.cli import main
from neuroprobe.progress import Event, StageStarted
from neuroprobe.status_text import table_lines
from neuroprobe.store import write_result

NOISE = {"name": "gaussian_noise", "as": "noise", "switch": 0.5}
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
pytestmark = pytest.mark.filterwarnings("ignore:standard errors rest on|.*base samples show:UserWarning")


@pytest.fixture
def store(image_folder: Path, tmp_path: Path) -> Path:
    given = {
        "neuroprobe": 1,
        "title": "all of them",
        "subject": {"network": "embedded", "layers": ["conv6", "linear"]},
        "stimuli": {"images": {"folder": str(image_folder)}},
        "treatment": {"reference_side": "image", "alterations": [{"name": "hue", "switch": 0.5}, NOISE]},
        "design": {"samples": 128},
        "analyses": ["moments", {"contrast": {"draws": 2, "classes": CLASSES}}],
        "record": {"device": "cpu", "batch": 64},
    }
    npr.run(given, tmp_path / "out.zarr")
    return tmp_path / "out.zarr"


def call(*arguments: object) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0
    return result.stdout


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def row(text: str, *start: str) -> list[str]:
    """Words of the line of a table that begins so."""
    return next(words for words in map(str.split, text.splitlines()) if words[: len(start)] == list(start))


def test_contrasts_accuracies_and_moments(store: Path) -> None:
    text, result = call("status", store), npr.open_result(store)
    status: dict[str, Any] = json.loads(call("status", store, "--json"), parse_constant=refuse)
    assert status["layers"] == []

    node = result["contrast/linear"].to_dataset().sel(factor="noise")
    median, error = (float(abs(node[name]).median()) for name in ("effect_size", "effect_size_se"))
    share = float((node["p_adjusted"].sel(test="t") < 0.05).mean())
    shown = [f"{median:.3f}", f"({error:.3f})", f"{share:.1%}"]
    assert row(text, "linear", "10", "0", "noise")[4:] == shown
    contrasts = {(one["layer"], one["factor"]): one for one in status["contrasts"]}
    assert list(contrasts) == [(layer, factor) for layer in ("conv6", "linear") for factor in ("hue", "noise")]
    one = contrasts["linear", "noise"]
    np.testing.assert_allclose([one[k] for k in ("effect_size", "effect_size_se", "share")], [median, error, share])
    assert (one["correction"], one["family"]) == ("fdr_by", "alteration")

    table = result["accuracy"].to_dataset().sel(measure="top_1", factor="hue")
    value, low, high = (f"{float(table[name]):z.3f}" for name in ("estimate", "lower", "upper"))
    change = " ".join(f"{float(table[f'difference{end}']):z.3f}" for end in ("", "_lower", "_upper"))
    words = " ".join(row(text, "top_1", "24", "hue")[3:]).replace("[", "").replace("]", "").replace(",", "")
    assert words == f"{value} {low} {high} {change}"
    originals = [one for one in status["accuracies"] if one["factor"] == "original"]
    assert [one["measure"] for one in originals] == ["top_1", "top_5", "probability"]
    # nothing to compare the originals with
    assert {one["difference"] for one in originals} == {None}
    assert row(text, "top_1", "24", "original")[-1] == "–"

    moments = {one["layer"]: one for one in status["moments"]}
    linear = result["moments/linear"].to_dataset()
    for name, number in (("mean", 3), ("variance", 5), ("coefficient_of_variation", 7)):
        assert moments["linear"][name] == pytest.approx(float(linear[name].median()))
        assert row(text, "linear", "10", "0")[number] == f"{float(linear[name].median()):.3f}"


def test_what_is_undefined_is_a_dash(store: Path) -> None:
    # as of a layer of which no unit changes
    for name in ("effect_size", "effect_size_se"):
        xr.open_zarr(store, group="contrast/linear", chunks=None)[[name]].map(lambda a: a * np.nan).to_zarr(
            store, group="contrast/linear", mode="a", consolidated=False
        )
    assert row(call("status", store), "linear", "10", "0", "noise")[4] == "–"
    status = json.loads(call("status", store, "--json"), parse_constant=refuse)
    assert status["contrasts"][-1]["effect_size"] is None


@pytest.mark.parametrize("options", [{}, {"n_random": 0, "p_values": False, "maps": ["hue", "other"]}])
def test_lesions_and_single_classes(store: Path, options: dict[str, Any]) -> None:
    made = make_masking(["hue", "noise"], examples=False, **options)
    groups = {name: [(place, one.to_dataset()) for place, one in made[name].children.items()] for name in made.children}
    write_result(store, groups, npr.open_result(store).attrs)
    text, status = call("status", store), json.loads(call("status", store, "--json"), parse_constant=refuse)
    own = ["hue"] if options else ["hue", "noise"]

    rows = {(one["place"], one["measure"], one["factor"]): one for one in status["lesions"]}
    places = ("early+late", "late")
    measures = ("top_1", "probability")
    assert list(rows) == [(place, m, factor) for place in places for m in measures for factor in ("original", *own)]
    table = made["masking/late"].to_dataset().sel(measure="top_1")
    at = table.sel(input="hue", factor="hue", rule="q0.9 x0")
    one = rows["late", "top_1", "hue"]
    for name in ("unlesioned", "unlesioned_upper", "difference", "difference_lower"):
        assert one[name] == pytest.approx(float(at[name]))
    assert (one["n_images"], one["rule"], one["correction"]) == (49, "q0.9 x0", "fdr_by")
    random, p = ("–", "–") if options else (f"{float(at['random_mean']):z.3f}", f"{float(at['p_adjusted']):.3f}")
    assert (one["random_mean"] is None) == (one["p_adjusted"] is None) == bool(options)
    of_place = text[text.index("late, top_1, 49 images") :]
    words = [word.strip("[,]") for word in row(of_place, "hue")]
    ends = ("", "_lower", "_upper")
    assert words[4:7] == [f"{float(at[f'difference{end}']):z.3f}" for end in ends]
    assert words[7:9] == [random, p]
    assert words[9:] == [f"{float(at[f'against_others{end}']):z.3f}" for end in ends]
    original = row(of_place, "original")
    assert original[1] == f"{float(table['unlesioned'].sel(input='original')):.3f}"
    assert original[4:] == ["–", "–", "–", "–"]
    diagonal, p = float(table["diagonal"]), p_text(float(table["p_diagonal"]))
    assert one["diagonal"] == pytest.approx(diagonal)
    assert f"by {diagonal:z.3f} more, in magnitude, than maps on average (p {p}, labels" in of_place
    assert "random sets of classes" in text
    about_lesions = text[text.index("lesions, q0.9 x0") : text.index("classes most sensitive")]
    assert max(map(len, about_lesions.splitlines())) <= 120
    assert "in magnitude (corrected, fdr_by)" in about_lesions

    classes = {(one["place"], one["factor"]): one for one in status["single_classes"]}
    assert list(classes) == [(place, factor) for place in places for factor in own]
    at = made["single_class/late"].to_dataset().sel(input="hue", factor="hue", rule="q0.9 x0")
    one = classes["late", "hue"]
    assert one["input"] == "hue"
    for name in ("unlesioned", "jaccard", "jaccard_lower", "difference", "fence"):
        assert one[name] == pytest.approx(float(at[name]))
    assert one["p_shift_adjusted"] == (None if options else pytest.approx(float(at["p_shift_adjusted"])))
    words = row(text, "late", "49", "hue", "hue")
    assert words[4] == f"{float(at['unlesioned']):.3f}"
    assert words[8] == f"{float(at['jaccard']):.3f}"
    assert (words[7], words[-1]) == tuple(
        "–" if options else f"{float(at[name]):.3f}" for name in ("p_unlesioned_adjusted", "p_adjusted")
    )


def test_without_own_inputs_the_unlesioned_accuracy_is_told(store: Path) -> None:
    made = make_masking(["hue", "noise"], maps=["other"], examples=False)
    groups = {name: [(place, one.to_dataset()) for place, one in made[name].children.items()] for name in made.children}
    write_result(store, groups, npr.open_result(store).attrs)
    status = json.loads(call("status", store, "--json"), parse_constant=refuse)
    assert {one["factor"] for one in status["lesions"]} == {"original"}
    assert {(one["factor"], one["input"]) for one in status["single_classes"]} == {("other", "original")}


def selectivity_protocol(image_folder: Path, sham: int = 3) -> dict[str, Any]:
    options = {"top": 8, "stability": [], "sham": sham, "permutations": 39, "indexes": ["colour", "class", "symmetry"]}
    layers = [{"name": name, "channels": [0, 1, 2, 3]} for name in ("conv6", "linear")]
    return {
        "neuroprobe": 1,
        "title": "what units are selective for",
        "subject": {"network": "embedded", "layers": layers},
        "stimuli": {"images": {"folder": str(image_folder)}},
        "analyses": [{"selectivity": options}],
        "record": {"device": "cpu", "batch": 8},
    }


@pytest.mark.parametrize("sham", [3, 20])
def test_selectivity(sham: int, image_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    result = npr.run(selectivity_protocol(image_folder, sham), out)
    # a channel that no image drives has no index
    node = result["selectivity/conv6"].to_dataset().load()
    dead = node.channel == 2
    lost = {name: node[name].where(~dead) for name in ("colour", "colour_corrected", "colour_p_adjusted", "gamma")}
    xr.Dataset({**lost, "defined": node.defined.where(~dead, 0)}).to_zarr(
        out, group="selectivity/conv6", mode="a", consolidated=False
    )
    text, status = call("status", out), json.loads(call("status", out, "--json"), parse_constant=refuse)

    rows = {(one["layer"], one["index"]): one for one in status["selectivity"]}
    indexes = ["colour", "gamma", "symmetry"]
    assert sorted(rows) == [(layer, index) for layer in ("conv6", "linear") for index in indexes]
    one, alive = rows["conv6", "colour"], node.sel(channel=[0, 1, 3])
    assert (one["units"], one["silent"], one["whole_image"]) == (4, 1, False)
    assert rows["linear", "colour"]["whole_image"]
    for key, name in (("median", "colour"), ("chance", "colour_sham"), ("corrected", "colour_corrected")):
        expected = float((node if name == "colour_sham" else alive)[name].median())
        assert one[key] == pytest.approx(expected)
    assert one["median_se"] == pytest.approx(float(node["colour_se"].median()))
    # 3 draws give no p under 1 / 4, so that it says nothing that no unit is under 0.05
    share = None if sham == 3 else float((alive["colour_p_adjusted"] < 0.05).mean())
    assert one["share"] == (None if share is None else pytest.approx(share))
    gamma = rows["conv6", "gamma"]
    assert gamma["median_se"] is None
    assert gamma["chance"] == pytest.approx(float(node["gamma_chance"].median()))
    assert gamma["share"] == pytest.approx(float((alive["gamma_p_adjusted"] < 0.05).mean()))

    words = row(text, "conv6", "4", "1", "colour")
    assert words[4:6] == [f"{one['median']:z.3f}", f"({one['median_se']:.3f})"]
    assert words[-1] == ("–" if share is None else f"{share:.1%}")
    assert row(text, "conv6", "4", "1", "gamma")[4:6] == [f"{gamma[key]:z.3f}" for key in ("median", "chance")]
    assert "correction fdr_bh" in text
    assert "crops shown" not in text
    assert max(map(len, text.splitlines())) <= 120


def test_selectivity_that_stopped_between_layers(image_folder: Path, tmp_path: Path) -> None:
    protocol, out, started = selectivity_protocol(image_folder), tmp_path / "out.zarr", []

    def stop(event: Event) -> None:
        if isinstance(event, StageStarted):
            started.append(event.name)
            if len(started) == 3:  # whole images, and the layers one after the other
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        npr.run(protocol, out, listener=stop)
    text, status = call("status", out), json.loads(call("status", out, "--json"))
    session = status["sessions"]["selectivity"]
    assert session["blocks"] == session["blocks_done"]
    assert (status["finished"], session["layers_scored"], status["selectivity"]) == (False, 1, [])
    assert "24 images; crops shown of 1 layers" in text
    npr.run(protocol, out)
    assert json.loads(call("status", out, "--json"))["sessions"]["selectivity"]["layers_scored"] == 2


def test_long_names_leave_columns_aligned() -> None:
    layers = ["conv1", "features.denseblock4.denselayer16.conv2"]
    numbers = {"units": 12, "undefined": 0, "factor": "hue", "first_order": 0.25, "first_order_se": 0.125}
    tables: dict[str, list[dict[str, Any]]] = {
        name: []
        for name in (
            "moments",
            "contrasts",
            "accuracies",
            "lesions",
            "single_classes",
            "selectivity",
            "trials",
            "comparisons",
        )
    }
    lines = list(table_lines({**tables, "layers": [{"layer": layer, **numbers} for layer in layers]}))[2:]
    assert len({line.index(word) for line, word in zip(lines, ("factor", "hue", "hue"), strict=True)}) == 1
    assert len({len(line) for line in lines}) == 1
