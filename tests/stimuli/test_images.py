from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from neuroprobe import names
from neuroprobe.errors import ImageError, ReaderError
from neuroprobe.stimuli import images as images_module
from neuroprobe.stimuli.decoding import AS_IS, Framing
from neuroprobe.stimuli.folders import open_folder
from neuroprobe.stimuli.images import ImageSet, Source


def opened(folder: Path, framing: Framing = AS_IS, *, seed: int = 0, **choice: Any) -> ImageSet:
    return ImageSet(replace(open_folder(folder), **choice), framing=framing, seed=seed)


def source(
    classes: Sequence[str | None] | None = None, broken: Sequence[int] = (), n: int = 4, **choice: Any
) -> Source:
    """Return a source of 2×2 images that show their number; those that are broken cannot be read."""
    n = n if classes is None else len(classes)

    def read(index: int) -> np.ndarray:
        if index in broken:
            raise OSError("torn")
        return np.full((2, 2), index, dtype=np.uint8)

    return Source("the source", [str(i) for i in range(n)], classes, read, **choice)


def numbers(images: ImageSet) -> list[int]:
    return (images.load(range(len(images)))[:, 0, 0, 0] * 255).round().int().tolist()


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture
def pixels(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)


def test_pixels(tmp_path: Path, pixels: np.ndarray) -> None:
    save(tmp_path / "a.png", pixels)
    loaded = opened(tmp_path).load([0, 0])
    assert loaded.dtype == torch.float32
    assert loaded.shape == (2, 3, 20, 24)
    expected = torch.from_numpy(pixels).permute(2, 0, 1) / 255
    torch.testing.assert_close(loaded, expected.expand(2, -1, -1, -1), rtol=0, atol=1e-7)


def test_what_is_loaded_can_be_changed_without_harm(image_folder: Path) -> None:
    found = opened(image_folder)
    first = found.load([3])
    kept = first.clone()
    first.zero_()
    assert torch.equal(found.load([3]), kept)


def test_a_full_cache_drops_images_and_reads_them_again(image_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = opened(image_folder).load(range(24))
    n_bytes = 4 * 3 * 32 * 32
    monkeypatch.setattr(images_module, "CACHE_BYTES", 5 * n_bytes)
    found = opened(image_folder)
    assert found.bytes_kept == 5 * n_bytes
    assert torch.equal(found.load(range(24)), whole)
    assert len(found._cache) == 5
    assert torch.equal(found.load([23, 0, 0]), whole[[23, 0, 0]])


def test_what_a_source_keeps_in_memory_counts() -> None:
    assert ImageSet(source(n_bytes=1000)).bytes_kept == ImageSet(source()).bytes_kept + 1000


@pytest.mark.parametrize("shuffle", [False, True])
def test_what_another_process_has_tried_is_decoded_when_it_is_shown(image_folder: Path, shuffle: bool) -> None:
    for name in ("cat/01.jpg", "dog/02.png"):
        (image_folder / name).write_bytes(b"torn")
    choice: dict[str, Any] = {"skip_broken": True, "limit": 12, "shuffle": shuffle}
    folder, read = replace(open_folder(image_folder), **choice), list[int]()

    def counted(index: int) -> Any:
        read.append(index)
        return folder.read(index)

    whole = ImageSet(folder, seed=3)
    trusting = ImageSet(replace(folder, read=counted), seed=3, tried=whole.tried)
    assert len(read) == 1
    assert (trusting.ids, trusting.skipped, trusting.shape) == (whole.ids, whole.skipped, whole.shape)
    assert trusting.digest == whole.digest
    assert torch.equal(trusting.load(range(12)), whole.load(range(12)))
    (image_folder / whole.ids[5]).write_bytes((image_folder / whole.ids[6]).read_bytes())
    changed = ImageSet(folder, seed=3, tried=whole.tried)
    assert torch.equal(changed.load([4]), whole.load([4]))
    with pytest.raises(ReaderError, match=f"image '{whole.ids[5]}' is another one than the client's"):
        changed.load([5])


def test_decoded_images_of_another_process_are_compared_too() -> None:
    def changed(index: int) -> np.ndarray:
        return np.full((2, 2), 7 if index == 4 else index, dtype=np.uint8)

    given = source(n=6, broken=[2], skip_broken=True)
    whole = ImageSet(given)
    assert numbers(ImageSet(given, tried=whole.tried)) == numbers(whole) == [0, 1, 3, 4, 5]
    with pytest.raises(ReaderError, match="image '4' is another one"):
        numbers(ImageSet(replace(given, read=changed), tried=whole.tried))


def test_other_images_than_those_that_were_tried_are_refused(image_folder: Path) -> None:
    whole = opened(image_folder)
    sorted(image_folder.rglob("*.png"))[0].unlink()
    with pytest.raises(ReaderError, match="other images, or labels, are here than the client has"):
        ImageSet(open_folder(image_folder), tried=whole.tried)


class TestLimit:
    def test_spread_over_the_classes(self, image_folder: Path) -> None:
        found = opened(image_folder, limit=7)
        assert found.labels is not None
        assert Counter(found.labels) == {"cat": 3, "dog": 2, "ship": 2}
        assert found.ids[:3] == ["cat/00.png", "cat/01.jpg", "cat/02.png"]

    def test_a_class_that_is_short_leaves_its_share_to_the_others(self, image_folder: Path) -> None:
        for path in sorted((image_folder / "dog").iterdir())[1:]:
            path.unlink()
        found = opened(image_folder, limit=9)
        assert found.labels is not None
        assert Counter(found.labels) == {"cat": 4, "dog": 1, "ship": 4}

    def test_all(self, image_folder: Path) -> None:
        assert opened(image_folder, limit=24).ids == opened(image_folder).ids

    def test_above(self, image_folder: Path) -> None:
        message = r"limit: 25 images asked for, 24 are in image folder '.*images'; lower the limit"
        with pytest.raises(ReaderError, match=message):
            opened(image_folder, limit=25)

    def test_shuffled_by_the_seed(self, image_folder: Path) -> None:
        def ids(seed: int) -> list[str]:
            found = opened(image_folder, limit=9, shuffle=True, seed=seed)
            assert found.labels is not None
            assert Counter(found.labels) == {"cat": 3, "dog": 3, "ship": 3}
            assert [name.split("/")[0] for name in found.ids] == found.labels
            return found.ids

        assert ids(1) == ids(1)
        assert set(ids(1)) != set(ids(2))
        assert set(ids(1)) != set(opened(image_folder, limit=9).ids)

    def test_a_longer_limit_adds_to_a_shorter_one(self, image_folder: Path) -> None:
        short = opened(image_folder, limit=6, shuffle=True, seed=4)
        longer = opened(image_folder, limit=12, shuffle=True, seed=4)
        assert longer.ids[:6] == short.ids


class TestSize:
    def test_images_of_different_sizes(self, image_folder: Path, pixels: np.ndarray) -> None:
        save(image_folder / "ship" / "large.png", pixels)
        with pytest.raises(ReaderError, match=r"'ship/large.png' has 20×24 px, image 'cat/00.png' has 32×32") as caught:
            opened(image_folder)
        assert "`size: 32`" in str(caught.value)
        assert opened(image_folder, Framing((32, 32))).load(range(25)).shape == (25, 3, 32, 32)

    def test_another_size_is_not_broken(self, image_folder: Path, pixels: np.ndarray) -> None:
        save(image_folder / "ship" / "large.png", pixels)
        with pytest.raises(ReaderError, match="images of a set have one size"):
            opened(image_folder, skip_broken=True)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def garble(path: Path) -> None:
    path.write_bytes(b"not an image at all")


def empty(path: Path) -> None:
    path.write_bytes(b"")


class TestBroken:
    @pytest.mark.parametrize("is_large", [False, True])
    @pytest.mark.parametrize("spoil", [cut, garble, empty])
    @pytest.mark.parametrize("name", ["cat/00.png", "dog/01.jpg", "ship/07.jpg"])
    def test_is_found_before_any_work(
        self, image_folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, spoil: Any, is_large: bool
    ) -> None:
        if is_large:
            monkeypatch.setattr(images_module, "CACHE_BYTES", 1)
        spoil(image_folder / name)
        message = f"image '{name}' cannot be decoded: .*; remove it or replace it, or leave .* by `skip_broken: true`"
        with pytest.raises(ImageError, match=message):
            opened(image_folder)
        found = opened(image_folder, skip_broken=True)
        assert (len(found), found.n_skipped, found.skipped) == (23, 1, [name])
        assert name not in found.ids
        assert found.load(range(23)).shape == (23, 3, 32, 32)

    def test_the_first_of_several_is_named(self) -> None:
        with pytest.raises(ImageError, match="image '11' cannot be decoded: torn"):
            ImageSet(source(n=60, broken=[40, 11, 59]))

    @pytest.mark.parametrize(
        ("classes", "broken", "limit", "expected", "skipped"),
        [
            (None, [], None, [0, 1, 2, 3], []),
            (None, [0, 2], None, [1, 3], [0, 2]),
            # the next one takes its place; one behind the limit is not looked at
            (None, [1, 3], 2, [0, 2], [1]),
            (list("aaabbb"), [], 4, [0, 1, 3, 4], []),
            (list("aaabbb"), [3], 4, [0, 1, 4, 5], [3]),
            (list("aaabbb"), [0, 1], 4, [2, 3, 4, 5], [0, 1]),
            (list("aaabbb"), [0, 1, 2], 3, [3, 4, 5], [0, 1, 2]),
            (list("aaabbb"), [0, 5], 4, [1, 2, 3, 4], [0]),
        ],
    )
    def test_a_limit_counts_what_can_be_shown(
        self,
        classes: list[str] | None,
        broken: list[int],
        limit: int | None,
        expected: list[int],
        skipped: list[int],
    ) -> None:
        found = ImageSet(source(classes, broken, limit=limit, skip_broken=True))
        assert numbers(found) == expected
        assert found.ids == [str(i) for i in expected]
        assert found.skipped == [str(i) for i in skipped]
        if classes is not None:
            assert found.labels == [classes[i] for i in expected]

    @given(st.data())
    def test_skipping_is_as_if_the_broken_had_never_been_there(self, data: st.DataObject) -> None:
        classes = data.draw(st.lists(st.sampled_from("abc"), min_size=1, max_size=12))
        broken = data.draw(st.sets(st.integers(0, len(classes) - 1), max_size=len(classes) - 1))
        good = [i for i in range(len(classes)) if i not in broken]
        limit = data.draw(st.none() | st.integers(1, len(good)))
        found = ImageSet(source(classes, sorted(broken), limit=limit, skip_broken=True))
        cleaned = ImageSet(source([classes[i] for i in good], limit=limit))
        assert numbers(found) == [good[i] for i in numbers(cleaned)]

    def test_shuffled(self) -> None:
        found, whole = (ImageSet(source(n=30, broken=b, shuffle=True, skip_broken=True)) for b in ([3, 9], []))
        assert found.ids == [name for name in whole.ids if name not in {"3", "9"}]

    def test_fewer_than_the_limit_are_left(self) -> None:
        with pytest.raises(ReaderError, match="limit: 4 images asked for, 3 of 4 can be decoded in the source"):
            ImageSet(source(broken=[1], limit=4, skip_broken=True))

    def test_all(self) -> None:
        with pytest.raises(ReaderError, match=r"all 4 images of the source are broken, .* for instance: torn"):
            ImageSet(source(broken=range(4), skip_broken=True))

    def test_a_file_that_breaks_later(self, image_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(images_module, "CACHE_BYTES", 1)
        found = opened(image_folder)
        cut(image_folder / "dog" / "00.png")
        with pytest.raises(ImageError, match=r"image 'dog/00.png' cannot be decoded"):
            found.load([0, found.ids.index("dog/00.png")])
        assert found.load([0]).shape == (1, 3, 32, 32)


class TestDigest:
    def test_the_place_does_not_matter(self, image_folder: Path, tmp_path: Path) -> None:
        shutil.copytree(image_folder, tmp_path / "elsewhere")
        assert opened(tmp_path / "elsewhere").digest == opened(image_folder).digest

    def test_the_content_matters(self, image_folder: Path, rng: np.random.Generator) -> None:
        before = opened(image_folder).digest
        save(image_folder / "ship" / "06.png", rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
        assert opened(image_folder).digest != before

    def test_one_byte_matters(self, image_folder: Path) -> None:
        before = opened(image_folder).digest
        path = image_folder / "ship" / "06.png"
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        assert opened(image_folder).digest != before

    def test_one_pixel_of_a_source_without_files_matters(self) -> None:
        one = source()
        other = replace(one, read=lambda index: one.read(index) + np.uint8(index == 2))
        assert ImageSet(one).digest == ImageSet(source()).digest
        assert ImageSet(one).digest != ImageSet(other).digest

    def test_names_and_number_matter(self, image_folder: Path) -> None:
        before = opened(image_folder).digest
        assert opened(image_folder, limit=23).digest != before
        (image_folder / "cat").rename(image_folder / "tiger")
        assert opened(image_folder).digest != before

    def test_an_image_that_is_skipped_does_not_matter(self) -> None:
        without = replace(source(n=3), ids=["0", "1", "3"], read=lambda i: source().read([0, 1, 3][i]))
        assert ImageSet(source(broken=[2], skip_broken=True)).digest == ImageSet(without).digest


class TestSeveralSources:
    def test_columns(self) -> None:
        found = ImageSet(source(["x", "y"], name="a"), source(n=3, limit=2, name="b"))
        assert found.ids == ["a/0", "a/1", "b/0", "b/1"]
        assert found.sources == ["a", "a", "b", "b"]
        assert found.labels == ["x", "y", None, None]
        assert numbers(found) == [0, 1, 0, 1]
        assert found.columns == {
            names.IMAGE_ID: found.ids,
            names.CLASS_LABEL: ["x", "y", "", ""],
            names.SOURCE: ["a", "a", "b", "b"],
        }

    def test_of_one_source_nothing_is_said(self) -> None:
        found = ImageSet(source(name="a"))
        assert found.sources is None
        assert found.ids == ["0", "1", "2", "3"]
        assert found.columns == {names.IMAGE_ID: found.ids}

    def test_the_same_source_twice(self, image_folder: Path) -> None:
        one = open_folder(image_folder)
        found = ImageSet(replace(one, name="a"), replace(one, name="b"))
        assert len(set(found.ids)) == len(found) == 48
        assert torch.equal(found.load(range(24)), found.load(range(24, 48)))

    def test_each_has_its_own_choice(self) -> None:
        found = ImageSet(source(broken=[1], skip_broken=True, name="a"), source(n=9, limit=3, shuffle=True, name="b"))
        assert found.skipped == ["a/1"]
        assert Counter(found.sources) == {"a": 3, "b": 3}
        with pytest.raises(ImageError, match="image 'b/1' cannot be decoded"):
            ImageSet(source(broken=[1], skip_broken=True, name="a"), source(broken=[1], name="b"))

    def test_each_is_shuffled_for_itself(self) -> None:
        found = ImageSet(source(n=20, shuffle=True, name="a"), source(n=20, shuffle=True, name="b"))
        first, second = numbers(found)[:20], numbers(found)[20:]
        assert sorted(first) == sorted(second)
        assert first != second
        assert first == numbers(ImageSet(source(n=20, shuffle=True)))

    def test_sizes(self) -> None:
        large = replace(source(n=2, name="b"), read=lambda index: np.zeros((3, 4), dtype=np.uint8))
        with pytest.raises(ReaderError, match=r"image 'b/0' has 3×4 px, image 'a/0' has 2×2: .* `size: 2`"):
            ImageSet(source(name="a"), large)
        assert ImageSet(source(name="a"), large, framing=Framing((2, 2))).shape == (3, 2, 2)

    def test_the_digest_is_of_all(self) -> None:
        def digest(*sources: Source) -> str:
            return ImageSet(*sources).digest

        a, b = source(name="a"), source(n=3, name="b")
        digests = [
            digest(a, b),
            digest(b, a),
            digest(a),
            digest(a, replace(b, limit=2)),
            digest(a, replace(b, name="c")),
        ]
        assert len(set(digests)) == 5
        assert digest(a, b) == digests[0]
