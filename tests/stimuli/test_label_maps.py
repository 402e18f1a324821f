"""Maps of labels are framed as their images are, and what does not fit is found before any work."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neuroprobe.errors import ReaderError
from neuroprobe.stimuli.decoding import Framing, size_of
from neuroprobe.stimuli.folders import open_folder
from neuroprobe.stimuli.images import ImageSet, Source
from neuroprobe.stimuli.label_maps import open_label_maps, read_names

NAMES = {0: "nothing", 3: "sky", 7: "sea", 300: "land", 9: "sea"}
IDS = ("cat/1.png", "cat/2.jpg", "dog/1.png")
SIZE = 20, 24


@pytest.fixture
def folders(tmp_path: Path, rng: np.random.Generator) -> tuple[Path, Path]:
    """Images, and maps in three formats."""
    images, maps = tmp_path / "images", tmp_path / "maps"
    for name in IDS:
        for folder in (images, maps):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)).save(images / name)
    numbers = planted(rng)
    palette = Image.fromarray(np.where(numbers[0] == 300, 3, numbers[0]).astype(np.uint8)).convert("P")
    palette.putdata(np.where(numbers[0] == 300, 3, numbers[0]).ravel().tolist())
    palette.save(maps / "cat/1.png")
    Image.fromarray(numbers[1].astype(np.uint16)).save(maps / "cat/2.png")
    np.save(maps / "dog/1.npy", numbers[2])
    return images, maps


def planted(rng: np.random.Generator) -> np.ndarray:
    return np.array([0, 3, 7, 300, 9])[rng.integers(0, 5, (3, *SIZE))]


def read_numbers(maps: Path) -> list[np.ndarray]:
    return [
        np.asarray(Image.open(maps / "cat/1.png")).astype(int),
        np.asarray(Image.open(maps / "cat/2.png")).astype(int),
        np.load(maps / "dog/1.npy"),
    ]


def coded(numbers: np.ndarray) -> np.ndarray:
    """Labels are sky, sea and land, in the order of 3, 7 and 300."""
    codes = {0: -1, 3: 0, 7: 1, 9: 1, 300: 2}
    return np.vectorize(codes.__getitem__)(numbers)


def test_formats(folders: tuple[Path, Path]) -> None:
    images = ImageSet(open_folder(folders[0]))
    found = open_label_maps(folders[1], NAMES, images)
    assert found.labels == ("sky", "sea", "land")
    loaded = found.load([2, 0, 1, 0])
    assert loaded.dtype == np.int16
    numbers = read_numbers(folders[1])
    np.testing.assert_array_equal(loaded, [coded(numbers[at]) for at in (2, 0, 1, 0)])
    assert {-1, 0, 1, 2} == set(np.unique(loaded))


@pytest.mark.parametrize("framing", [Framing((30, 30)), Framing((24, 32), resize=45), Framing((50, 60), resize=60)])
def test_maps_are_framed_as_images_are(tmp_path: Path, framing: Framing) -> None:
    """An image that is its own map, in blocks: inside them both show the same."""
    levels = np.array([10, 31, 53, 76, 100, 125, 151, 178, 206, 235, 241, 252])
    blocks = np.kron(levels.reshape(3, 4), np.ones((20, 20))).astype(np.uint8)
    for folder in ("images", "maps"):
        (tmp_path / folder).mkdir()
        Image.fromarray(blocks).save(tmp_path / folder / "a.png")
    images = ImageSet(open_folder(tmp_path / "images"), framing=framing)
    maps = open_label_maps(tmp_path / "maps", {int(level): str(level) for level in levels}, images)
    shown = (images.load([0]).numpy()[0, 0] * 255).round()
    labels = levels[maps.load([0])[0]]
    assert labels.shape == framing.size
    inside = np.isin(shown, levels)
    assert inside.mean() > 0.5
    np.testing.assert_array_equal(labels[inside], shown[inside])


def test_another_number_may_mean_no_label(folders: tuple[Path, Path]) -> None:
    images = ImageSet(open_folder(folders[0]))
    found = open_label_maps(folders[1], NAMES, images, unlabelled=3)
    assert found.labels == ("nothing", "sea", "land")
    numbers = read_numbers(folders[1])[2]
    np.testing.assert_array_equal(found.load([2])[0] == -1, numbers == 3)
    every = open_label_maps(folders[1], NAMES, images, unlabelled=None)
    assert every.labels == ("nothing", "sky", "sea", "land")
    assert every.load([0, 1, 2]).min() == 0
    assert found.digest != every.digest


def test_sets_of_several_sources_and_ids_without_a_suffix(tmp_path: Path) -> None:
    picture = np.zeros((2, 3, 3), dtype=np.uint8)
    sources = [Source(where=name, ids=["v1.5"], labels=None, read=lambda _: picture, name=name) for name in "ab"]
    images = ImageSet(*sources)
    for name in "ab":
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "v1.5.npy", np.full((2, 3), ord(name)))
    found = open_label_maps(tmp_path, {97: "first", 98: "second"}, images)
    np.testing.assert_array_equal(found.load([0, 1])[:, 0, 0], [0, 1])


def test_the_digest_is_of_the_maps(folders: tuple[Path, Path]) -> None:
    images = ImageSet(open_folder(folders[0]))
    first = open_label_maps(folders[1], NAMES, images).digest
    assert open_label_maps(folders[1], NAMES, images).digest == first
    numbers = np.load(folders[1] / "dog/1.npy")
    numbers[0, 0] = 10 - numbers[0, 0] if numbers[0, 0] in (3, 7) else 3
    np.save(folders[1] / "dog/1.npy", numbers)
    assert open_label_maps(folders[1], NAMES, images).digest != first


def test_images_that_have_no_map(folders: tuple[Path, Path]) -> None:
    images = ImageSet(open_folder(folders[0]))
    (folders[1] / "cat/2.png").unlink()
    with pytest.raises(ReaderError, match=r"1 of 3 images have no label map: 'cat/2.jpg'; expected cat/2.png or .npy"):
        open_label_maps(folders[1], NAMES, images)
    with pytest.raises(ReaderError, match="does not exist"):
        open_label_maps(folders[1] / "no", NAMES, images)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        (np.zeros((24, 20), dtype=int), "has 24×20 px, image 'dog/1.png' has 20×24"),
        (np.full(SIZE, 4), "of image 'dog/1.png', holds numbers without a name: 4;"),
        (np.arange(480).reshape(SIZE), "without a name: 1, 2, 4 and 472 more"),
        (np.zeros(SIZE), "holds float64 of shape"),
        (np.zeros((*SIZE, 3), dtype=np.uint8), r"shape \(20, 24, 3\), expected one integer for each pixel"),
        (np.full(SIZE, 2**40), "beyond 32 bits"),
        (np.full(SIZE, None), "cannot be read: ValueError"),
    ],
)
def test_maps_that_do_not_fit(folders: tuple[Path, Path], numbers: np.ndarray, message: str) -> None:
    np.save(folders[1] / "dog/1.npy", numbers)
    with pytest.raises(ReaderError, match=message):
        open_label_maps(folders[1], NAMES, ImageSet(open_folder(folders[0])))


def test_two_maps_a_damaged_one_and_colours(folders: tuple[Path, Path]) -> None:
    images = ImageSet(open_folder(folders[0]))
    (folders[1] / "dog/1.png").write_bytes(b"no picture")
    with pytest.raises(ReaderError, match=r"'dog/1.png' has two label maps, 1.png and 1.npy"):
        open_label_maps(folders[1], NAMES, images)
    (folders[1] / "dog/1.npy").unlink()
    with pytest.raises(ReaderError, match="cannot be read: UnidentifiedImageError"):
        open_label_maps(folders[1], NAMES, images)
    Image.new("RGB", (24, 20)).save(folders[1] / "dog/1.png")
    with pytest.raises(ReaderError, match="expected one integer for each pixel"):
        open_label_maps(folders[1], NAMES, images)
    with pytest.raises(ReaderError, match="no label has a name"):
        open_label_maps(folders[1], {0: "nothing"}, images)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", 'number,name\n1,sky\n\n 2 ,"sea, deep"\n'),
        ("a.csv", '\ufeff1,sky,more\n2,"sea, deep"\n'),
        ("a.tsv", "1\tsky\n2\tsea, deep\n"),
        ("a.json", json.dumps({"1": "sky", "2": "sea, deep"})),
    ],
)
def test_tables_of_names(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_names(tmp_path / name) == {1: "sky", 2: "sea, deep"}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "number,name\n1,sky\nsea,2\n", r"a.csv:3: received \['sea', '2'\], expected a number and a name"),
        ("a.csv", "1\n", "a.csv:1: received"),
        ("a.csv", "1,\n", "a.csv:1: received"),
        ("a.csv", "1,sky\n1,sea\n", "a.csv:2: number 1 has a name already, 'sky'"),
        ("a.json", '{"1": "sky", "1": "sea"}', "number 1 has a name already, 'sky'"),
        ("a.json", '{"1": "sky",\n}', "a.json:2: no JSON"),
        ("a.json", '["sky"]', "expected an object of numbers and names"),
    ],
)
def test_tables_that_are_malformed(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ReaderError, match=message):
        read_names(tmp_path / name)


def test_a_missing_table(tmp_path: Path) -> None:
    with pytest.raises(ReaderError, match="cannot be read: FileNotFoundError"):
        read_names(tmp_path / "no.csv")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_sizes_of_pictures_that_are_turned(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (5, 3)).save(tmp_path / "a.jpg", exif=exif)
    images = ImageSet(open_folder(tmp_path))
    assert images.size_before_framing(0) == images.shape[1:] == ((3, 5) if orientation < 5 else (5, 3))
    assert size_of(np.zeros((4, 6))) == (4, 6)
