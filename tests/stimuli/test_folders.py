from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neuroprobe.errors import ReaderError
from neuroprobe.stimuli.folders import SUFFIXES, open_folder
from neuroprobe.stimuli.images import ImageSet


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture
def pixels(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)


def test_class_folders(image_folder: Path) -> None:
    found = open_folder(image_folder)
    assert found.ids[:3] == ["cat/00.png", "cat/01.jpg", "cat/02.png"]
    assert found.labels == ["cat"] * 8 + ["dog"] * 8 + ["ship"] * 8


def test_flat_folder_has_no_labels(image_folder: Path) -> None:
    found = open_folder(image_folder / "cat")
    assert found.labels is None
    assert found.ids[0] == "00.png"
    assert len(found.ids) == 8


def test_nested_folders_are_labelled_by_the_outermost(tmp_path: Path, pixels: np.ndarray) -> None:
    for name in ("a/1.png", "a/deep/2.png", "b/deep/er/3.PNG"):
        save(tmp_path / name, pixels)
    found = open_folder(tmp_path)
    assert found.ids == ["a/1.png", "a/deep/2.png", "b/deep/er/3.PNG"]
    assert found.labels == ["a", "a", "b"]


def test_a_stray_image_beside_class_folders_leaves_all_without_labels(image_folder: Path, pixels: np.ndarray) -> None:
    save(image_folder / "stray.png", pixels)
    found = open_folder(image_folder)
    assert len(found.ids) == 25
    assert found.labels is None


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".TIF", ".JPEG"])
def test_suffixes(tmp_path: Path, pixels: np.ndarray, suffix: str) -> None:
    save(tmp_path / f"a{suffix}", pixels)
    assert ImageSet(open_folder(tmp_path)).shape == (3, 20, 24)


def test_other_files_are_passed_over(image_folder: Path) -> None:
    (image_folder / "cat" / "notes.txt").write_text("a note")
    (image_folder / "LICENSE").write_text("text")
    assert len(open_folder(image_folder).ids) == 24


def test_the_content_is_the_whole_file(image_folder: Path) -> None:
    assert open_folder(image_folder).content(2) == (image_folder / "cat" / "02.png").read_bytes()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.txt": "text"}, r"'.*/absent' does not exist; expected a folder of images or of class folders"),
        ({"absent": "text"}, r"'.*/absent' is a file; expected a folder of images"),
        ({"absent/a.txt": "text", "absent/deep/b.csv": "1"}, "holds no image: 2 other files; expected .png, .jpg"),
        ({"absent/deep.png/b.csv": "1"}, "holds no image: 1 other files"),
    ],
)
def test_folders_that_are_refused(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    with pytest.raises(ReaderError, match=message):
        open_folder(tmp_path / "absent")


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(ReaderError, match="holds no image: 0 other files"):
        open_folder(tmp_path)


def test_class_folders_may_be_links(tmp_path: Path, image_folder: Path) -> None:
    links = tmp_path / "links"
    links.mkdir()
    for name in ("cat", "dog"):
        (links / name).symlink_to(image_folder / name, target_is_directory=True)
    (links / "round").symlink_to(links, target_is_directory=True)
    assert open_folder(links).labels == ["cat"] * 8 + ["dog"] * 8
