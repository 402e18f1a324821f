from __future__ import annotations

import gzip
import hashlib
import pickle
import shutil
import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torchvision import datasets as vision

from neuroprobe.errors import ImageError, ReaderError
from neuroprobe.stimuli.datasets import complaints, dataset_names, open_dataset
from neuroprobe.stimuli.images import ImageSet

RNG = np.random.default_rng(8)
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
FAKE = {"size": 12, "image_size": [3, 16, 20], "num_classes": 3}


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write the format of MNIST: a magic number, the lengths of the axes, bytes."""
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


@pytest.fixture
def mnist(tmp_path: Path) -> tuple[Path, np.ndarray, np.ndarray]:
    images, labels = RNG.integers(0, 256, (20, 28, 28), dtype=np.uint8), np.arange(20) % 10
    for part, n in (("train", 20), ("t10k", 5)):
        for name, column in (("images-idx3", images[:n]), ("labels-idx1", labels[:n])):
            write_idx(tmp_path / "MNIST" / "raw" / f"{part}-{name}-ubyte", column)
    return tmp_path, images, labels


@pytest.fixture
def cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, np.ndarray, list[int]]:
    """Return the root of a CIFAR-10 of three images a batch, their pixels and their classes."""
    folder = tmp_path / "root" / "cifar-10-batches-py"
    folder.mkdir(parents=True)

    def write(name: str, content: Any) -> list[str]:
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    pixels, classes = RNG.integers(0, 256, (3, 3, 32, 32), dtype=np.uint8), [6, 0, 9]
    batch = {"data": pixels.reshape(3, -1), "labels": classes}
    other = {"data": 255 - pixels.reshape(3, -1), "labels": [1, 1, 2]}
    monkeypatch.setattr(vision.CIFAR10, "test_list", [write("test_batch", batch)])
    monkeypatch.setattr(vision.CIFAR10, "train_list", [write(f"data_batch_{i}", other) for i in range(1, 3)])
    name, md5 = write("batches.meta", {"label_names": CLASSES})
    monkeypatch.setattr(vision.CIFAR10, "meta", {"filename": name, "key": "label_names", "md5": md5})
    return tmp_path / "root", pixels, classes


def test_cifar10(cifar10: tuple[Path, np.ndarray, list[int]]) -> None:
    root, pixels, classes = cifar10
    found = ImageSet(open_dataset("CIFAR10", str(root), "test"))
    torch.testing.assert_close(found.load(range(3)), torch.from_numpy(pixels) / 255)
    assert found.labels == [CLASSES[number] for number in classes] == ["frog", "airplane", "truck"]
    assert found.ids == ["0", "1", "2"]
    assert found.bytes_kept == pixels.nbytes * 5


@pytest.mark.parametrize(("split", "n"), [("test", 3), ("train", 6), (None, 6)])
def test_splits_of_cifar10(cifar10: tuple[Path, np.ndarray, list[int]], split: str | None, n: int) -> None:
    assert len(open_dataset("CIFAR10", str(cifar10[0]), split).ids) == n


def test_one_pixel_counts_in_the_digest(
    cifar10: tuple[Path, np.ndarray, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, pixels, classes = cifar10
    before = ImageSet(open_dataset("CIFAR10", str(root), "test")).digest
    assert ImageSet(open_dataset("CIFAR10", str(root), "test")).digest == before
    pixels[2, 1, 31, 31] ^= 1
    path = root / "cifar-10-batches-py" / "test_batch"
    path.write_bytes(pickle.dumps({"data": pixels.reshape(3, -1), "labels": classes}))
    monkeypatch.setattr(vision.CIFAR10, "test_list", [["test_batch", hashlib.md5(path.read_bytes()).hexdigest()]])
    assert ImageSet(open_dataset("CIFAR10", str(root), "test")).digest != before


def test_a_file_of_another_checksum_is_refused(cifar10: tuple[Path, np.ndarray, list[int]]) -> None:
    root, *_ = cifar10
    with (root / "cifar-10-batches-py" / "test_batch").open("ab") as file:
        file.write(b"!")
    with pytest.raises(ReaderError, match=r"CIFAR10 is not in '.*root' \(Dataset not found or corrupted"):
        open_dataset("CIFAR10", str(root), "test")


@pytest.mark.parametrize(("split", "n"), [("train", 20), ("test", 5)])
@pytest.mark.parametrize("is_compressed", [False, True])
def test_mnist(mnist: tuple[Path, np.ndarray, np.ndarray], split: str, n: int, is_compressed: bool) -> None:
    root, images, labels = mnist
    if is_compressed:
        for path in (root / "MNIST" / "raw").iterdir():
            path.with_suffix(".gz").write_bytes(gzip.compress(path.read_bytes()))
    found = ImageSet(open_dataset("MNIST", str(root), split))
    assert len(found) == n
    expected = torch.from_numpy(images[:n, None].repeat(3, 1)) / 255
    torch.testing.assert_close(found.load(range(n)), expected)
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    assert found.labels == [f"{label} - {names[label]}" for label in labels[:n]]


def test_qmnist_lists_more_than_classes(mnist: tuple[Path, np.ndarray, np.ndarray], tmp_path: Path) -> None:
    _, images, labels = mnist
    raw = tmp_path / "QMNIST" / "raw"
    write_idx(raw / "qmnist-test-images-idx3-ubyte", images)
    table = np.repeat(labels[:, None], 8, 1).astype(">i4")
    (raw / "qmnist-test-labels-idx2-int").write_bytes(struct.pack(">HBB2I", 0, 12, 2, 20, 8) + table.tobytes())
    found = open_dataset("QMNIST", str(tmp_path), options={"what": "test"})
    assert found.labels is not None
    assert [label[0] for label in found.labels if label] == [str(label) for label in labels]


def test_image_folder(image_folder: Path) -> None:
    found = ImageSet(replace(open_dataset("ImageFolder", str(image_folder)), limit=9))
    assert found.labels == ["cat"] * 3 + ["dog"] * 3 + ["ship"] * 3
    assert found.ids == ["0", "1", "2", "8", "9", "10", "16", "17", "18"]
    expected = np.array(Image.open(image_folder / "dog" / "02.png"))
    torch.testing.assert_close(found.load([5])[0], torch.from_numpy(expected).permute(2, 0, 1) / 255)


def test_a_broken_image_of_a_data_set(image_folder: Path) -> None:
    (image_folder / "cat" / "00.png").write_bytes(b"nothing")
    found = open_dataset("ImageFolder", str(image_folder))
    with pytest.raises(ImageError, match="image '0' cannot be decoded: cannot identify image file"):
        ImageSet(found)
    skipping = ImageSet(replace(found, skip_broken=True))
    assert skipping.skipped == ["0"]
    assert Counter(skipping.labels) == {"cat": 7, "dog": 8, "ship": 8}


def test_fake_data_are_the_same_in_many_threads() -> None:
    state = torch.get_rng_state()
    found = ImageSet(open_dataset("FakeData", options={**FAKE, "size": 200}))
    again = vision.FakeData(200, (3, 16, 20), 3)
    expected = np.stack([np.asarray(image) for image, _ in again]).transpose(0, 3, 1, 2)
    torch.testing.assert_close(found.load(range(200)), torch.from_numpy(expected) / 255)
    assert found.labels == [str(target) for _, target in again]
    assert torch.equal(torch.get_rng_state(), state)


def test_svhn_takes_its_split_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy.io import savemat

    images = RNG.integers(0, 256, (32, 32, 3, 4), dtype=np.uint8)
    savemat(tmp_path / "test_32x32.mat", {"X": images, "y": np.array([[10], [1], [2], [1]])})
    md5 = hashlib.md5((tmp_path / "test_32x32.mat").read_bytes()).hexdigest()
    monkeypatch.setitem(vision.SVHN.split_list, "test", ["", "test_32x32.mat", md5])
    found = ImageSet(open_dataset("SVHN", str(tmp_path), "test"))
    torch.testing.assert_close(found.load(range(4)), torch.from_numpy(images).permute(3, 2, 0, 1) / 255)
    assert found.labels == ["0", "1", "2", "1"]
    with pytest.raises(ReaderError, match=r"data set SVHN: Unknown value 'tst' for argument split. Valid values are"):
        open_dataset("SVHN", str(tmp_path), "tst")


# torchvision leaves the files of masks open
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_masks_are_no_labels(tmp_path: Path) -> None:
    folder = tmp_path / "VOCdevkit" / "VOC2012"
    for name in ("JPEGImages/a.jpg", "SegmentationClass/a.png"):
        (folder / name).parent.mkdir(parents=True)
        Image.fromarray(RNG.integers(0, 20, (8, 8), dtype=np.uint8)).save(folder / name)
    (folder / "ImageSets" / "Segmentation").mkdir(parents=True)
    (folder / "ImageSets" / "Segmentation" / "val.txt").write_text("a\n")
    found = ImageSet(open_dataset("VOCSegmentation", str(tmp_path), "val"))
    assert found.labels is None
    assert len(found) == 1


class Listed(vision.VisionDataset):
    """A data set of given items."""

    items: Sequence[Any] = ()
    classes: Sequence[Any] | None = None

    def __init__(self) -> None:
        super().__init__(root="")

    def __getitem__(self, index: int) -> Any:
        return self.items[index]

    def __len__(self) -> int:
        return len(self.items)


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> type[Listed]:
    monkeypatch.setattr(vision, "Listed", Listed, raising=False)
    monkeypatch.setattr(vision, "__all__", [*vision.__all__, "Listed"])
    monkeypatch.setattr(Listed, "items", ())
    monkeypatch.setattr(Listed, "classes", None)
    return Listed


IMAGE = Image.fromarray(RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("targets", "classes", "labels"),
    [
        ([1, 0, 2], ["a", "b", "c"], ["b", "a", "c"]),
        ([1, 0, 2], None, ["1", "0", "2"]),
        ([1, 0, 7], ["a", "b"], ["b", "a", "7"]),
        ([torch.tensor(1), torch.tensor(0)], ["a", "b"], ["b", "a"]),
        ([np.int64(1), np.uint8(0)], ["a", "b"], ["b", "a"]),
        # as ImageNet has them: synonyms, and two classes of one name
        (
            [0, 1, 2],
            [("tench", "Tinca tinca"), ("crane",), ("crane",)],
            ["tench, Tinca tinca", "crane (1)", "crane (2)"],
        ),
        # as STL10 has them: no class for a part of the images
        ([-1, 0, -1], ["a"], [None, "a", None]),
        ([None, 1], ["a", "b"], [None, "b"]),
        ([-1, -1], ["a"], None),
        ([None, None], None, None),
        (["a caption", "another"], None, None),
        ([{"boxes": []}, {}], None, None),
        ([IMAGE, IMAGE], ["a"], None),
        ([torch.zeros(40), torch.ones(40)], None, None),
        ([torch.tensor(0.5), torch.tensor(1.0)], None, None),
        ([True, False], None, None),
    ],
)
def test_which_targets_are_labels(
    listed: type[Listed], targets: list[Any], classes: Any, labels: list[str | None] | None
) -> None:
    listed.items, listed.classes = [(IMAGE, target) for target in targets], classes
    assert ImageSet(open_dataset("Listed", options={})).labels == labels


@pytest.mark.parametrize("name", ["targets", "labels", "_labels", "y", "_samples"])
def test_classes_that_are_listed_are_not_read(listed: type[Listed], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    read = []
    monkeypatch.setattr(listed, "__getitem__", lambda _, index: (read.append(index), (IMAGE, index % 2))[1])
    monkeypatch.setattr(listed, "__len__", lambda _: 100)
    column = [("path", i % 2) for i in range(100)] if name == "_samples" else [i % 2 for i in range(100)]
    monkeypatch.setattr(listed, name, column, raising=False)
    assert open_dataset("Listed").labels == ["0", "1"] * 50
    assert read == [0]


def test_a_list_of_other_things_is_not_believed(listed: type[Listed], monkeypatch: pytest.MonkeyPatch) -> None:
    listed.items = [(IMAGE, 5), (IMAGE, 6)]
    for wrong in ([1, 2], [5], ["5", "6"], [[5, 5], [6, 6]]):
        monkeypatch.setattr(listed, "targets", wrong, raising=False)
        assert open_dataset("Listed").labels == ["5", "6"]


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (torch.arange(16, dtype=torch.uint8).view(4, 4) * 17, np.arange(16).reshape(4, 4) / 15),
        (torch.full((3, 4, 4), 0.25), np.full((4, 4), 0.25)),
        (torch.full((1, 4, 4), 0.25, dtype=torch.float64), np.full((4, 4), 0.25)),
    ],
)
def test_tensors_are_images_too(listed: type[Listed], image: torch.Tensor, expected: np.ndarray) -> None:
    listed.items = [(image, 0)]
    shown = ImageSet(open_dataset("Listed")).load([0])[0]
    torch.testing.assert_close(shown, torch.from_numpy(expected).float().expand(3, -1, -1))


@pytest.mark.parametrize(
    ("item", "given"),
    [
        ((IMAGE, IMAGE, None), "Image, Image, NoneType"),
        (torch.zeros(20, 1, 8, 8), "Tensor"),
        ((torch.zeros(20, 1, 8, 8), 3), "Tensor, int"),
        ((torch.zeros(8), 3), "Tensor, int"),
        (IMAGE, "Image"),
        (("path", 3), "str, int"),
    ],
)
def test_items_that_are_no_image_and_target_are_refused(listed: type[Listed], item: Any, given: str) -> None:
    listed.items = [item]
    message = rf"data set Listed gives \({given}\), expected an image and its target: .* cannot be shown"
    with pytest.raises(ReaderError, match=message):
        open_dataset("Listed")


def test_an_empty_data_set(listed: type[Listed]) -> None:
    with pytest.raises(ReaderError, match="data set Listed is empty"):
        open_dataset("Listed")


# where a data set is not

DOWNLOADED = ["CIFAR10", "MNIST", "STL10", "SVHN", "Food101", "SEMEION", "DTD", "VOCDetection", "FGVCAircraft"]


@pytest.mark.parametrize("name", [*DOWNLOADED, "ImageNet", "Cityscapes", "FER2013", "ImageFolder"])
@pytest.mark.parametrize("has_root", [False, True])
def test_what_is_not_there_is_not_downloaded(tmp_path: Path, name: str, has_root: bool) -> None:
    root = tmp_path / "root"
    if has_root:
        root.mkdir()
    with pytest.raises(ReaderError, match=rf"data set {name} is not in '{root}' \(.+\); give the folder") as caught:
        open_dataset(name, str(root))
    assert ("`download: true`" in str(caught.value)) == (name in DOWNLOADED)
    assert root.exists() == has_root


def test_a_download_that_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # tests have no network
    with pytest.raises(ReaderError, match=rf"data set CIFAR10 cannot be downloaded to '{tmp_path}': "):
        open_dataset("CIFAR10", str(tmp_path), download=True)
    assert capsys.readouterr().out == ""


def test_a_download(
    cifar10: tuple[Path, np.ndarray, list[int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fetch(url: str, root: str, **_: Any) -> None:
        print("Downloading")
        shutil.copytree(cifar10[0], root)

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", fetch)
    with pytest.raises(ReaderError, match="is not in"):
        open_dataset("CIFAR10", str(tmp_path / "new"), "test")
    found = open_dataset("CIFAR10", str(tmp_path / "new"), "test", download=True)
    assert found.labels == ["frog", "airplane", "truck"]
    assert open_dataset("CIFAR10", str(tmp_path / "new"), "test").labels == found.labels
    # stdout is for results
    assert (captured := capsys.readouterr()).out == ""
    assert "Downloading" in captured.err


@pytest.mark.parametrize(
    ("name", "arguments", "place", "message"),
    [
        (
            "CIFAR1O",
            {},
            ("dataset",),
            "unknown data set 'CIFAR1O' (did you mean 'CIFAR10'?); known: CIFAR10, CIFAR100,",
        ),
        ("VisionDataset", {}, ("dataset",), "unknown data set 'VisionDataset'"),
        ("DatasetFolder", {}, ("dataset",), "unknown data set 'DatasetFolder'"),
        ("CIFAR10", {}, ("dataset",), "CIFAR10 needs the key root: the folder in which it lies"),
        ("FakeData", {"root": "/r"}, ("root",), "FakeData lies nowhere: leave out root"),
        ("SEMEION", {"root": "/r", "split": "test"}, ("split",), "SEMEION has no splits: leave out split"),
        (
            "CIFAR10",
            {"root": "/r", "split": "tset"},
            ("split",),
            "given 'tset' (did you mean 'test'?), expected train or",
        ),
        ("EMNIST", {"root": "/r"}, ("dataset",), "EMNIST needs the key split"),
        ("ImageNet", {"root": "/r", "download": True}, ("download",), "torchvision does not download ImageNet"),
        (
            "FakeData",
            {"options": {"sise": 3}},
            ("options", "sise"),
            "'sise' (did you mean 'size'?); FakeData takes: size",
        ),
        ("CIFAR10", {"root": "/r", "options": {"train": True}}, ("options", "train"), "CIFAR10 takes: none"),
        ("CIFAR10", {"root": "/r", "options": {"transform": "x"}}, ("options", "transform"), "'transform'"),
        ("CocoDetection", {"root": "/r"}, ("dataset",), "CocoDetection needs the options: annFile"),
    ],
)
def test_arguments_that_are_refused(name: str, arguments: dict[str, Any], place: tuple[str, ...], message: str) -> None:
    given = {"root": None, "split": None, "download": False, "options": {}, **arguments}
    [(where, sentence)] = complaints(name, *given.values())
    assert where == place
    assert message in sentence
    with pytest.raises(ReaderError) as caught:
        open_dataset(name, given["root"], given["split"], download=given["download"], options=given["options"])
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("EMNIST", {"split": "letters", "options": {"train": False}}),
        ("QMNIST", {"split": "test", "download": True, "options": {"compat": True}}),
        ("Omniglot", {"options": {"background": False}}),
        ("VOCSegmentation", {"split": "val", "options": {"year": "2007"}}),
        ("ImageNet", {"split": "val"}),
    ],
)
def test_arguments_that_are_taken(name: str, arguments: dict[str, Any]) -> None:
    given = {"root": "/r", "split": None, "download": False, "options": {}, **arguments}
    assert not list(complaints(name, *given.values()))


def test_names() -> None:
    assert {"CIFAR10", "ImageNet", "FakeData"} <= set(dataset_names()) <= set(torchvision.datasets.__all__)


def test_an_option_of_a_wrong_kind() -> None:
    with pytest.raises(ReaderError, match="data set FakeData: "):
        open_dataset("FakeData", options={"size": "many"})
