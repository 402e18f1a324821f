"""The status of a store, as text and as JSON."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner

import neuroprobe as npr
from neuroprobe.cli import main

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
