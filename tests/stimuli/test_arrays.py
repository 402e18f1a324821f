from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from neuroprobe.errors import ImageError, ReaderError
from neuroprobe.stimuli import arrays
from neuroprobe.stimuli.arrays import open_array
from neuroprobe.stimuli.images import ImageSet

N, HEIGHT, WIDTH = 6, 9, 7
RNG = np.random.default_rng(5)
GREY = RNG.integers(0, 256, (N, HEIGHT, WIDTH), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (N, HEIGHT, WIDTH, 3), dtype=np.uint8)
CLEAR = np.concatenate([COLOUR, np.full((N, HEIGHT, WIDTH, 1), 255, np.uint8)], -1)

LAYOUTS = {
    "(n, h, w)": (GREY, np.repeat(GREY[:, None], 3, 1)),
    "(n, h, w, 1)": (GREY[..., None], np.repeat(GREY[:, None], 3, 1)),
    "(n, 1, h, w)": (GREY[:, None], np.repeat(GREY[:, None], 3, 1)),
    "(n, h, w, 3)": (COLOUR, COLOUR.transpose(0, 3, 1, 2)),
    "(n, 3, h, w)": (COLOUR.transpose(0, 3, 1, 2), COLOUR.transpose(0, 3, 1, 2)),
    "(n, h, w, 4)": (CLEAR, COLOUR.transpose(0, 3, 1, 2)),
    "(n, 4, h, w)": (CLEAR.transpose(0, 3, 1, 2), COLOUR.transpose(0, 3, 1, 2)),
    "Fortran order": (np.asfortranarray(COLOUR), COLOUR.transpose(0, 3, 1, 2)),
    "one image": (COLOUR[:1], COLOUR[:1].transpose(0, 3, 1, 2)),
}


@pytest.mark.parametrize("suffix", ["npy", "npz"])
@pytest.mark.parametrize("kind", ["uint8", "float16", "float32", "float64", ">f4"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_arrays_show_themselves(tmp_path: Path, layout: str, kind: str, suffix: str) -> None:
    array, expected = LAYOUTS[layout]
    array = array if kind == "uint8" else (array / 255).astype(kind)
    path = tmp_path / f"a.{suffix}"
    np.save(path, array) if suffix == "npy" else np.savez(path, array)
    found = ImageSet(open_array(path))
    assert found.shape == (3, HEIGHT, WIDTH)
    assert found.ids == [str(i) for i in range(len(array))]
    shown = found.load(range(len(found)))
    np.testing.assert_allclose(shown, expected / 255, rtol=0, atol=1e-3 if kind == "float16" else 1e-7)


def test_npy_is_mapped_into_memory(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", COLOUR)
    np.savez(tmp_path / "a.npz", COLOUR)
    assert open_array(tmp_path / "a.npy").n_bytes == 0
    assert open_array(tmp_path / "a.npz").n_bytes == COLOUR.nbytes
    assert ImageSet(open_array(tmp_path / "a.npy")).digest == ImageSet(open_array(tmp_path / "a.npz")).digest


def test_labels_and_ids(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=GREY, labels=list("abcabc"), ids=np.arange(10, 16), more=np.zeros(3))
    found = open_array(tmp_path / "a.npz")
    assert found.labels == list("abcabc")
    assert found.ids == ["10", "11", "12", "13", "14", "15"]
    assert ImageSet(replace(found, limit=3)).labels == ["a", "b", "c"]


@pytest.mark.parametrize("kind", [int, np.uint8, str, bytes])
def test_numbers_and_bytes_are_labels_too(tmp_path: Path, kind: type) -> None:
    np.savez_compressed(tmp_path / "a.npz", GREY, labels=np.array([3, 1, 4, 1, 5, 9]).astype(kind))
    assert open_array(tmp_path / "a.npz").labels == ["3", "1", "4", "1", "5", "9"]


def test_labels_count_in_the_digest(tmp_path: Path) -> None:
    digests = set()
    for labels in ("aaabbb", "aabbbb"):
        np.savez(tmp_path / "a.npz", images=GREY, labels=list(labels))
        digests.add(ImageSet(open_array(tmp_path / "a.npz")).digest)
    assert len(digests) == 2


@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6))
def test_a_shape_is_read_in_one_way_or_refused(second: int, third: int, last: int) -> None:
    array = np.zeros((2, second, third, last), dtype=np.uint8)
    readings = {(third, last)} if second in {1, 3, 4} else set()
    readings |= {(second, third)} if last in {1, 3, 4} else set()
    is_ambiguous = second in {1, 3, 4} and last in {1, 3, 4}
    if len(readings) == 0 or is_ambiguous:
        with pytest.raises(ReaderError, match="can be channels" if is_ambiguous else "expected \\(n, height"):
            arrays._channels_last(array, "x")
    else:
        assert arrays._channels_last(array, "x").shape[1:3] in readings


FLOATS = COLOUR / 255


def spoilt(value: float) -> NDArray[np.float64]:
    changed = FLOATS.copy()
    changed[2, 3, 4, 0] = value
    return changed


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"images": FLOATS * 255}, r"values from 0 to 255, expected 0 to 1; scale them, or save them as uint8"),
        ({"images": FLOATS - 1}, r"values from -1 to 0, expected 0 to 1"),
        ({"images": spoilt(np.inf)}, r"values from 0 to inf, expected 0 to 1"),
        ({"images": COLOUR.astype(int)}, r"images are of int64, expected uint8, or float in \[0, 1\]"),
        ({"images": GREY > 3}, r"images are of bool, expected uint8"),
        ({"images": FLOATS.astype(complex)}, r"images are of complex128"),
        ({"images": np.array(["a", "b"])}, r"images are of <U1"),
        ({"images": COLOUR[:0]}, r"shape \(0, 9, 7, 3\) holds no image"),
        ({"images": COLOUR[:, :0]}, r"shape \(6, 0, 7, 3\) holds no image"),
        (
            {"images": COLOUR[0]},
            r"shape \(9, 7, 3\), expected \(n, height, width\).* one image is saved as image\[None\]",
        ),
        ({"images": GREY[0]}, r"shape \(9, 7\), expected .* one image is saved as image\[None\]"),
        ({"images": np.uint8(3)}, r"shape \(\), expected"),
        ({"images": COLOUR[..., :2]}, r"shape \(6, 9, 7, 2\), expected"),
        ({"images": COLOUR[None]}, r"shape \(1, 6, 9, 7, 3\), expected"),
        ({"images": COLOUR[:, :3]}, r"of shape \(6, 3, 7, 3\), both the last and the second axis can be channels"),
        (
            {"images": np.array([COLOUR, None], dtype=object)},
            r"cannot be read: no NumPy file, or one of Python objects",
        ),
        ({"images": GREY, "labels": np.array([None] * N)}, r"cannot be read: .*words as arrays of str, not of object"),
        ({"images": GREY, "labels": np.arange(5)}, r"labels has shape \(5,\), expected one for each of 6 images"),
        ({"images": GREY, "ids": np.zeros((N, 2))}, r"ids has shape \(6, 2\), expected one for each of 6 images"),
        ({"images": GREY, "ids": [1, 2, 3, 2, 2, 6]}, r"ids tell images apart, and '2' is there 3 times"),
        ({"x": GREY, "y": GREY}, r"expected the key 'images', or one array beside labels and ids; it holds x, y"),
        ({"labels": np.arange(N)}, r"expected the key 'images', or one array .*; it holds labels"),
        ({}, r"expected the key 'images', .*; it holds nothing"),
    ],
)
def test_arrays_that_are_refused(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "a.npz", **columns)
    with pytest.raises(ReaderError, match=rf"array file '.*a.npz'.*{message}"):
        open_array(tmp_path / "a.npz")


def test_a_nan_is_a_broken_image(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", spoilt(np.nan))
    found = open_array(tmp_path / "a.npy")
    with pytest.raises(ImageError, match="image '2' cannot be decoded: it holds NaN or infinity"):
        ImageSet(found)
    assert ImageSet(replace(found, skip_broken=True)).ids == ["0", "1", "3", "4", "5"]


def test_all_nan(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full((3, 8, 8), np.nan))
    with pytest.raises(ReaderError, match=r"all 3 images of array file .* are broken"):
        ImageSet(replace(open_array(tmp_path / "a.npy"), skip_broken=True))


def test_the_range_is_of_the_whole_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "SLAB_BYTES", 1)
    np.save(tmp_path / "a.npy", np.linspace(0, 1, 7)[:, None, None] * np.ones((1, 5, 5)) * [[[3.0]]] - 1)
    with pytest.raises(ReaderError, match="values from -1 to 2, expected 0 to 1"):
        open_array(tmp_path / "a.npy")


def test_rounding_is_forgiven(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", spoilt(1 + 2e-7))
    assert ImageSet(open_array(tmp_path / "a.npy")).load(range(N)).max() == 1


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
@pytest.mark.parametrize("damage", ["absent", "empty", "text", "cut", "pickle", "folder", "other"])
def test_files_that_cannot_be_read(tmp_path: Path, name: str, damage: str) -> None:
    path = tmp_path / name
    np.save(path, GREY) if path.suffix == ".npy" else np.savez(path, GREY)
    content = path.read_bytes()
    path.unlink()
    match damage:
        case "empty":
            path.write_bytes(b"")
        case "text":
            path.write_text("numbers")
        case "cut":
            path.write_bytes(content[: len(content) // 2])
        case "pickle":
            GREY.dump(path)
        case "folder":
            path.mkdir()
        case "other" if path.suffix == ".npy":
            np.savez(tmp_path / "b.npz", GREY)
            (tmp_path / "b.npz").rename(path)
        case "other":
            np.save(tmp_path / "b.npy", GREY)
            (tmp_path / "b.npy").rename(path)
    messages = {"absent": "does not exist; expected a .npy or .npz file", "folder": "is a folder; expected"}
    message = messages.get(damage, "cannot be read: .+; save numbers by np.save or np.savez")
    with pytest.raises(ReaderError, match=f"array file '.*{name}' {message}"):
        open_array(path)
