"""Class and partition as factors, from the protocol to the result, the table and the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neuroprobe as npr
from neuroprobe import names
from neuroprobe.errors import PlanError, ProtocolError, ReaderError
from neuroprobe.report import write_report
from neuroprobe.rig import open_rig

pytestmark = pytest.mark.filterwarnings("ignore:.*(standard errors|not a power of two|upper bound):UserWarning")

SAMPLES = 64
ALL = ["partition", "class", "image"]


def array(path: Path, labels: list[Any] | None, rng: np.random.Generator, n: int = 8) -> str:
    pixels = rng.random((n if labels is None else len(labels), 32, 32, 3)).astype(np.float32)
    np.savez(path, images=pixels, **({} if labels is None else {"labels": np.array(labels)}))
    return str(path)


@pytest.fixture
def sources(tmp_path: Path, image_folder: Path, rng: np.random.Generator) -> dict[str, dict[str, Any]]:
    of = {
        "drawn": ["cat", "dog", "dog", "ship", "ship", "ship"],
        "no_dog": ["cat", "cat", "ship"],
        "one": ["cat", "cat"],
        "single": ["cat", "dog"],
        "none": None,
    }
    arrays = {name: {"array": array(tmp_path / f"{name}.npz", labels, rng)} for name, labels in of.items()}
    return {"folder": {"folder": str(image_folder)}, **arrays}


def with_images(protocol: dict[str, Any], images: Any, image: Any) -> dict[str, Any]:
    alterations = [{"name": name, "switch": 0.5} for name in ("grayscale", "hue")]
    return {
        **protocol,
        "subject": {"network": "embedded", "layers": ["linear"]},
        "stimuli": {"images": images, "image": image},
        "treatment": {"alterations": alterations},
        "design": {"samples": SAMPLES},
        "record": {"device": "cpu", "store": "responses"},
    }


@pytest.mark.parametrize("factors", [ALL, ["class", "partition"], ["class"]])
def test_levels_are_factors_of_the_result(
    small_protocol: dict[str, Any], sources: dict[str, Any], factors: list[str], tmp_path: Path
) -> None:
    images = [sources["folder"], {**sources["drawn"], "name": "drawn"}]
    path = tmp_path / "out.zarr"
    result = npr.run(with_images(small_protocol, images, {"factors": factors}), path)
    node = result["sobol/linear"]
    levels = [level for level in ALL if level in factors]
    assert node["factor"].values.tolist() == ["grayscale", "hue", *levels]
    assert node["first_order_se"].attrs["se_scope"] == "images drawn from this set"
    assert result.attrs["image"] == ("factors" if "image" in factors else "frozen rank")
    assert json.loads(result.attrs[names.PROVENANCE])["images_of_classes"] == [[8, 8, 8], [1, 2, 3]]

    recording = npr.open_recording(path)
    table = recording["responses/linear"].to_dataset()
    by_role = table.set_coords(names.ROLE).groupby(names.ROLE)
    shown = {
        role: [rows[name].values.tolist() for name in (names.SOURCE, names.CLASS_LABEL, names.IMAGE_ID)]
        for role, rows in by_role
    }
    # what belongs to a level comes from B where the level does
    if "partition" in factors:
        assert shown["A_partition"][0] == shown["B"][0]
        assert shown["A_class"][0] == shown["A"][0]
        assert shown["A_class"][1] == shown["B"][1]
    assert shown["A_hue"] == shown["A"]
    drawn = {names.pick(level) for level in ALL if level in factors or level == "partition"}
    assert drawn <= set(table.coords)
    np.testing.assert_allclose(
        npr.sobol(recording)["linear"]["first_order"].values, node["first_order"].values, atol=1e-6
    )
    write_report(path, tmp_path / "out.html")
    if "image" not in factors:
        with pytest.raises(ReaderError, match="frozen images"):
            npr.sobol(recording, estimator="salib")


def test_a_probability_is_that_of_the_source(small_protocol: dict[str, Any], sources: dict[str, Any]) -> None:
    images = [{**sources["folder"], "probability": 0.25}, {**sources["drawn"], "probability": 0.75}]
    rig = open_rig(npr.load_protocol(with_images(small_protocol, images, {"factors": ALL})))
    assert rig.images.sources is not None
    shown = np.array(rig.images.sources)[rig.design(64).presentations(0, 1024).image[:, 0]]
    assert (shown == "drawn").mean() == pytest.approx(0.75, abs=1 / 64)


@pytest.mark.parametrize(
    ("image", "shares"),
    [
        ({"factors": ["class"]}, [1 / 3] * 3),
        ({"factors": ["class"], "class_probabilities": "size"}, [1 / 6, 2 / 6, 3 / 6]),
    ],
)
def test_classes_are_equally_likely_or_as_they_are_large(
    small_protocol: dict[str, Any], sources: dict[str, Any], image: dict, shares: list[float]
) -> None:
    rig = open_rig(npr.load_protocol(with_images(small_protocol, sources["drawn"], image)))
    assert rig.images.labels is not None
    shown = np.array(rig.images.labels)[rig.design(64).presentations(0, 1024).image[:, 0]]
    found = [(shown == label).mean() for label in ("cat", "dog", "ship")]
    np.testing.assert_allclose(found, shares, atol=1 / 64)


def test_the_image_alone_is_the_factor_that_it_always_was(small_protocol: dict[str, Any], image_folder: Path) -> None:
    images = {"folder": str(image_folder)}
    first, second = (
        open_rig(npr.load_protocol(with_images(small_protocol, images, image))).design(64).presentations(0, 128)
        for image in ("factor", {"factors": ["image"]})
    )
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.source, second.source)


@pytest.mark.parametrize(
    ("names_", "factors", "message"),
    [
        (["none"], ["class"], r"8 of 8 without \('none/0' for instance\)|8 of 8 without \('0' for instance\)"),
        (["folder", "none"], ALL, "8 of 32 without"),
        (["folder", "no_dog"], ALL, r"'no_dog' lacks 1 of 3 \(dog\): leave these out"),
        (["one"], ["class"], "class takes two classes, received 'cat' alone"),
        (["single"], ["class", "image"], "image takes two images of some class"),
    ],
)
def test_levels_that_the_images_do_not_have(
    small_protocol: dict[str, Any], sources: dict[str, Any], names_: list[str], factors: list[str], message: str
) -> None:
    images = [sources[name] for name in names_]
    made = with_images(small_protocol, images if len(images) > 1 else images[0], {"factors": factors})
    with pytest.raises(PlanError, match=message) as caught:
        npr.plan(made, measure=False)
    assert caught.value.loc[:2] == ("stimuli", "image")


TWO = [{"photographs": {}}, {"photographs": {"crop": 32}}]


@pytest.mark.parametrize(
    ("images", "image", "message"),
    [
        (TWO, {"factors": []}, "a list of at least 1 item"),
        (TWO, {"factors": ["class", "class"]}, "factors: listed twice: class"),
        (TWO, {"factors": ["clas"]}, "did you mean 'class'"),
        (TWO, {"factors": ["image"], "class_probabilities": "size"}, "goes with the factor class"),
        (TWO, {"factor": ["image"]}, "unknown key 'factor' .did you mean 'factors'"),
        (TWO, ["class"], "image: given .*expected frozen, factor, redrawn, or {factors: "),
        (TWO[0], {"factors": ALL}, "partition tells sources of images apart, received one"),
        (TWO, "factors", "did you mean 'factor'"),
        ([{**TWO[0], "probability": 0.5}, TWO[1]], {"factors": ALL}, r"given \[0.5\], expected one per source, 2"),
        ([{**one, "probability": 0.6} for one in TWO], {"factors": ALL}, "2 that add up to 1"),
        ([{**one, "probability": 0.5} for one in TWO], "frozen", "probability: goes with several sources"),
        ([{**one, "probability": 1.5} for one in TWO], {"factors": ALL}, "less than 1"),
    ],
)
def test_factors_of_the_image_that_are_refused(
    small_protocol: dict[str, Any], images: Any, image: Any, message: str
) -> None:
    with pytest.raises(ProtocolError, match=message):
        npr.load_protocol(with_images(small_protocol, images, image))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"design": {"replicate": "image"}}, "received image: frozen rank"),
        ({"analyses": [{"sobol": {"estimator": "salib"}}]}, "frozen images"),
        ({"treatment": {"alterations": [{"name": "hue", "as": "class"}]}}, "cannot be called class"),
    ],
)
def test_what_does_not_go_with_classes(
    small_protocol: dict[str, Any], sources: dict[str, Any], changes: dict, message: str
) -> None:
    with pytest.raises(ProtocolError, match=message):
        npr.load_protocol(with_images(small_protocol, sources["folder"], {"factors": ["class"]}) | changes)


def test_levels_share_the_variance_among_shapley_effects(
    small_protocol: dict[str, Any], sources: dict[str, Any], tmp_path: Path
) -> None:
    images = [sources["folder"], {**sources["drawn"], "name": "drawn"}]
    given = with_images(small_protocol, images, {"factors": ALL}) | {"analyses": ["shapley"]}
    node = npr.run(given, tmp_path / "out.zarr")["shapley/linear"]
    assert node["factor"].values.tolist() == ["grayscale", "hue", *ALL]
    np.testing.assert_allclose(node["shapley_effect"].sum("factor"), 1, atol=1e-9)
    assert node["shapley_effect_se"].attrs["se_scope"] == "images drawn from this set"


def test_a_class_tells_more_of_its_own_logit_than_of_an_early_layer(data: Path, tmp_path: Path) -> None:
    protocol = {
        "neuroprobe": 1,
        "subject": {"network": "embedded", "layers": [{"name": "conv1", "reduce": "mean"}, "linear"]},
        "stimuli": {
            "images": {"folder": str(data / "cifar10" / "test"), "limit": 200},
            "image": {"factors": ["class", "image"]},
        },
        "treatment": {"alterations": [{"name": "hflip", "switch": 0.5}]},
        "design": {"samples": 512},
        "record": {"device": "cpu"},
    }
    result = npr.run(protocol, tmp_path / "out.zarr")
    early, late = (
        float(result[f"sobol/{layer}"]["first_order"].sel(factor="class").median()) for layer in ("conv1", "linear")
    )
    assert late > 0.4 > early
