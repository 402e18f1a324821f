"""Every source of images from the protocol to the result, the table and the provenance."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import neuroprobe as npr
from neuroprobe import names
from neuroprobe.errors import ImageError, ReaderError, StoreError

pytestmark = pytest.mark.filterwarnings("ignore:.*(standard errors|not a power of two|upper bound):UserWarning")

SAMPLES = 8


@pytest.fixture
def make(small_protocol: dict[str, Any], image_folder: Path, rng: np.random.Generator, tmp_path: Path) -> Any:
    """Return a function from images to a protocol that stores the responses of one layer."""
    pixels = rng.random((10, 32, 32, 3))
    np.save(tmp_path / "floats.npy", pixels.astype(np.float32))
    np.savez(tmp_path / "bytes.npz", images=(255 * pixels).astype(np.uint8), labels=np.arange(10) % 2)
    small_protocol["subject"]["layers"] = ["linear"]
    small_protocol["record"]["store"] = "responses"
    small_protocol["treatment"]["alterations"] = [{"name": name, "switch": 0.5} for name in ("grayscale", "hue")]

    def protocol(images: Any) -> dict[str, Any]:
        return {**small_protocol, "stimuli": {"images": images}}

    return protocol


def sources(tmp_path: Path) -> dict[str, Any]:
    fake = {"dataset": "FakeData", "options": {"size": 9, "image_size": [3, 32, 32], "num_classes": 4}}
    return {
        "folder": {"folder": str(tmp_path / "images"), "limit": 9},
        "photographs": {"photographs": {"crop": 64, "per_image": 2}, "size": 32},
        "npy": {"array": str(tmp_path / "floats.npy")},
        "npz": {"array": str(tmp_path / "bytes.npz"), "shuffle": True, "limit": 6},
        "dataset": fake,
        "torchvision's folder": {"dataset": "ImageFolder", "root": str(tmp_path / "images"), "limit": 6},
        "several": [
            {"folder": str(tmp_path / "images"), "limit": 4},
            {"array": str(tmp_path / "floats.npy"), "limit": 3, "name": "floats"},
            fake,
        ],
    }


@pytest.mark.parametrize("name", sources(Path()))
def test_every_source_runs(make: Any, tmp_path: Path, name: str) -> None:
    images = sources(tmp_path)[name]
    result = npr.run(make(images), tmp_path / "out.zarr", limit=SAMPLES)
    assert result["sobol/linear"]["defined"].any()
    assert npr.run(make(images), tmp_path / "out.zarr", limit=SAMPLES).attrs == result.attrs
    provenance = json.loads(result.attrs[names.PROVENANCE])
    assert provenance["n_skipped"] == 0
    assert provenance["image_shape"] == [3, 32, 32]
    table = npr.open_recording(tmp_path / "out.zarr")["responses/linear"]
    shown = set(table[names.IMAGE_ID].values.tolist())
    assert len(shown) <= provenance["n_images"]
    assert (names.CLASS_LABEL in table.coords) == (name != "npy")
    assert (names.SOURCE in table.coords) == (name == "several")


def test_the_table_says_from_where_an_image_is(make: Any, tmp_path: Path) -> None:
    npr.run(make(sources(tmp_path)["several"]), tmp_path / "out.zarr", limit=64)
    table = npr.open_recording(tmp_path / "out.zarr")["responses/linear"]
    found = [table[name].values.tolist() for name in (names.IMAGE_ID, names.SOURCE, names.CLASS_LABEL)]
    rows = set(zip(*found, strict=True))
    assert {source for _, source, _ in rows} == {"images", "floats", "FakeData"}
    assert all(image.split("/")[0] == source for image, source, _ in rows)
    # an array has no classes
    assert all((label == "") == (source == "floats") for _, source, label in rows)
    assert len(rows) == 16


def test_what_is_skipped_is_said(make: Any, image_folder: Path, tmp_path: Path) -> None:
    for number, name in enumerate(["cat/00.png", "cat/01.jpg", "dog/03.jpg", "ship/04.png"]):
        content = (image_folder / name).read_bytes()
        (image_folder / name).write_bytes(content[: len(content) // 2] if number % 2 else b"garbage")
    folder = {"folder": str(image_folder)}
    with pytest.raises(ImageError, match=r"image 'cat/00.png' cannot be decoded: .*`skip_broken: true`"):
        npr.run(make(folder), tmp_path / "out.zarr", limit=SAMPLES)
    assert not (tmp_path / "out.zarr").exists()
    skipping = make({**folder, "skip_broken": True})
    warning = "images left out as broken: 4 (cat/00.png, cat/01.jpg, dog/03.jpg, …)"
    assert warning in npr.plan(skipping, limit=SAMPLES, measure=False).warnings
    with pytest.warns(UserWarning, match=re.escape(warning)):
        result = npr.run(skipping, tmp_path / "out.zarr", limit=SAMPLES)
    provenance = json.loads(result.attrs[names.PROVENANCE])
    assert (provenance["n_images"], provenance["n_skipped"]) == (20, 4)
    assert warning in provenance["warnings"]


def test_a_store_takes_no_other_images(make: Any, image_folder: Path, tmp_path: Path) -> None:
    out, array = tmp_path / "out.zarr", tmp_path / "bytes.npz"
    npr.run(make({"array": str(array)}), out, limit=SAMPLES)
    moved = array.rename(tmp_path / "moved.npz")
    npr.run(make({"array": str(moved)}), out, limit=2 * SAMPLES)
    with np.load(moved) as columns:
        images, labels = columns["images"], columns["labels"]
    images[3, 0, 0, 0] ^= 1
    np.savez(moved, images=images, labels=labels)
    with pytest.raises(StoreError, match="other weights, images"):
        npr.run(make({"array": str(moved)}), out, limit=2 * SAMPLES)


def test_transparent_pixels_show_the_background_of_the_protocol(make: Any, tmp_path: Path) -> None:
    from neuroprobe.protocol import load_protocol
    from neuroprobe.rig import open_rig

    clear = np.zeros((32, 32, 4), dtype=np.uint8)
    for number in range(2):
        (tmp_path / "clear").mkdir(exist_ok=True)
        Image.fromarray(clear).save(tmp_path / "clear" / f"{number}.png")
    folder = {"folder": str(tmp_path / "clear")}
    for images, level in ((folder, 128 / 255), ({**folder, "background": [0, 0, 0]}, 0)):
        shown = open_rig(load_protocol(make(images))).images.load([0])
        assert shown.unique().tolist() == pytest.approx([level])


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ({"dataset": "CIFAR10", "root": "nowhere"}, r"CIFAR10 is not in '.*nowhere' .*`download: true`"),
        ({"array": "nowhere.npy"}, r"array file '.*nowhere.npy' does not exist"),
        ([{"photographs": {"per_image": 1}, "limit": 9}], r"limit: 9 images asked for, 6 are in the photographs"),
    ],
)
def test_what_is_missing_is_said_before_any_work(make: Any, tmp_path: Path, images: Any, message: str) -> None:
    with pytest.raises(ReaderError, match=message):
        npr.run(make(images), tmp_path / "out.zarr", limit=SAMPLES)
    assert not (tmp_path / "out.zarr").exists()
