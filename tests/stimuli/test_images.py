from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as vision

from neuroprobe.errors import ReaderError
from neuroprobe.stimuli import images as images_module
from neuroprobe.stimuli.images import PHOTOGRAPHS, Framing, folder_images, photograph_images

AS_IS = Framing()


def save(path: Path, array: np.ndarray, mode: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    (image if mode is None else image.convert(mode)).save(path)


@pytest.fixture
def pixels(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)


class TestFolder:
    def test_class_folders(self, image_folder: Path) -> None:
        found = folder_images(image_folder, AS_IS)
        assert len(found) == 24
        assert found.shape == (3, 32, 32)
        assert found.ids[:3] == ["cat/00.png", "cat/01.jpg", "cat/02.png"]
        assert found.labels == ["cat"] * 8 + ["dog"] * 8 + ["ship"] * 8

    def test_flat_folder_has_no_labels(self, image_folder: Path) -> None:
        found = folder_images(image_folder / "cat", AS_IS)
        assert found.labels is None
        assert found.ids[0] == "00.png"
        assert len(found) == 8

    def test_nested_folders_are_labelled_by_the_outermost(self, tmp_path: Path, pixels: np.ndarray) -> None:
        for name in ("a/1.png", "a/deep/2.png", "b/deep/er/3.PNG"):
            save(tmp_path / name, pixels)
        found = folder_images(tmp_path, AS_IS)
        assert found.ids == ["a/1.png", "a/deep/2.png", "b/deep/er/3.PNG"]
        assert found.labels == ["a", "a", "b"]

    def test_a_stray_image_beside_class_folders_leaves_all_without_labels(
        self, image_folder: Path, pixels: np.ndarray
    ) -> None:
        save(image_folder / "stray.png", np.resize(pixels, (32, 32, 3)))
        found = folder_images(image_folder, AS_IS)
        assert len(found) == 25
        assert found.labels is None

    def test_other_files_are_passed_over(self, image_folder: Path) -> None:
        (image_folder / "cat" / "notes.txt").write_text("a note")
        (image_folder / "LICENSE").write_text("text")
        assert len(folder_images(image_folder, AS_IS)) == 24

    def test_pixels(self, tmp_path: Path, pixels: np.ndarray) -> None:
        save(tmp_path / "a.png", pixels)
        loaded = folder_images(tmp_path, AS_IS).load([0, 0])
        assert loaded.dtype == torch.float32
        assert loaded.shape == (2, 3, 20, 24)
        expected = torch.from_numpy(pixels).permute(2, 0, 1) / 255
        torch.testing.assert_close(loaded, expected.expand(2, -1, -1, -1), rtol=0, atol=1e-7)

    def test_what_is_loaded_can_be_changed_without_harm(self, image_folder: Path) -> None:
        found = folder_images(image_folder, AS_IS)
        first = found.load([3])
        kept = first.clone()
        first.zero_()
        assert torch.equal(found.load([3]), kept)

    def test_a_full_cache_drops_images_and_reads_them_again(
        self, image_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = folder_images(image_folder, AS_IS).load(range(24))
        n_bytes = 4 * 3 * 32 * 32
        monkeypatch.setattr(images_module, "CACHE_BYTES", 5 * n_bytes)
        found = folder_images(image_folder, AS_IS)
        assert found.bytes_kept == 5 * n_bytes
        assert torch.equal(found.load(range(24)), whole)
        assert len(found._cache) == 5
        assert torch.equal(found.load([23, 0, 0]), whole[[23, 0, 0]])


class TestColourModes:
    def load(self, path: Path) -> torch.Tensor:
        return folder_images(path.parent, AS_IS).load([0])[0]

    def test_grey(self, tmp_path: Path, pixels: np.ndarray) -> None:
        save(tmp_path / "a.png", pixels[..., 0])
        loaded = self.load(tmp_path / "a.png")
        torch.testing.assert_close(loaded, (torch.from_numpy(pixels[..., 0]) / 255).expand(3, -1, -1))

    def test_grey_jpeg(self, tmp_path: Path, pixels: np.ndarray) -> None:
        save(tmp_path / "a.jpeg", pixels[..., 0])
        loaded = self.load(tmp_path / "a.jpeg")
        assert torch.equal(loaded[0], loaded[2])

    def test_alpha(self, tmp_path: Path, pixels: np.ndarray, rng: np.random.Generator) -> None:
        alpha = rng.integers(0, 256, (20, 24, 1), dtype=np.uint8)
        save(tmp_path / "a.png", np.concatenate([pixels, alpha], -1))
        torch.testing.assert_close(self.load(tmp_path / "a.png"), torch.from_numpy(pixels).permute(2, 0, 1) / 255)

    def test_black_and_white(self, tmp_path: Path, pixels: np.ndarray) -> None:
        save(tmp_path / "a.png", pixels[..., 0] > 127)
        assert set(self.load(tmp_path / "a.png").unique().tolist()) == {0.0, 1.0}

    def test_palette(self, tmp_path: Path, pixels: np.ndarray) -> None:
        quantised = Image.fromarray(pixels).quantize(16)
        quantised.save(tmp_path / "a.png")
        expected = torch.from_numpy(np.array(quantised.convert("RGB"))).permute(2, 0, 1) / 255
        torch.testing.assert_close(self.load(tmp_path / "a.png"), expected)

    def test_palette_with_transparency(self, tmp_path: Path, pixels: np.ndarray) -> None:
        quantised = Image.fromarray(pixels).quantize(16)
        quantised.save(tmp_path / "a.png", transparency=bytes([0, 128, 255]))
        expected = torch.from_numpy(np.array(quantised.convert("RGB"))).permute(2, 0, 1) / 255
        torch.testing.assert_close(self.load(tmp_path / "a.png"), expected)

    def test_sixteen_bits(self, tmp_path: Path, pixels: np.ndarray) -> None:
        grey = pixels[..., 0]
        # 257 maps 255 to 65535
        Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "a.png")
        loaded = self.load(tmp_path / "a.png")
        torch.testing.assert_close(loaded, (torch.from_numpy(grey) / 255).expand(3, -1, -1), rtol=0, atol=1 / 255)


class TestLimit:
    def test_spread_over_the_classes(self, image_folder: Path) -> None:
        found = folder_images(image_folder, AS_IS, limit=7)
        assert found.labels is not None
        assert Counter(found.labels) == {"cat": 3, "dog": 2, "ship": 2}
        assert found.ids[:3] == ["cat/00.png", "cat/01.jpg", "cat/02.png"]

    def test_a_class_that_is_short_leaves_its_share_to_the_others(self, image_folder: Path) -> None:
        for path in sorted((image_folder / "dog").iterdir())[1:]:
            path.unlink()
        found = folder_images(image_folder, AS_IS, limit=9)
        assert found.labels is not None
        assert Counter(found.labels) == {"cat": 4, "dog": 1, "ship": 4}

    def test_all(self, image_folder: Path) -> None:
        assert folder_images(image_folder, AS_IS, limit=24).ids == folder_images(image_folder, AS_IS).ids

    def test_above(self, image_folder: Path) -> None:
        with pytest.raises(ReaderError, match=r"limit: 25 images asked for, .*images' holds 24; lower the limit"):
            folder_images(image_folder, AS_IS, limit=25)

    def test_shuffled_by_the_seed(self, image_folder: Path) -> None:
        def ids(seed: int) -> list[str]:
            found = folder_images(image_folder, AS_IS, limit=9, shuffle=True, seed=seed)
            assert found.labels is not None
            assert Counter(found.labels) == {"cat": 3, "dog": 3, "ship": 3}
            assert [name.split("/")[0] for name in found.ids] == found.labels
            return found.ids

        assert ids(1) == ids(1)
        assert set(ids(1)) != set(ids(2))
        assert set(ids(1)) != set(folder_images(image_folder, AS_IS, limit=9).ids)

    def test_a_longer_limit_adds_to_a_shorter_one(self, image_folder: Path) -> None:
        short = folder_images(image_folder, AS_IS, limit=6, shuffle=True, seed=4)
        longer = folder_images(image_folder, AS_IS, limit=12, shuffle=True, seed=4)
        assert longer.ids[:6] == short.ids


class TestFraming:
    @pytest.mark.parametrize(
        ("shape", "size"),
        [((40, 60), (20, 20)), ((60, 40), (20, 30)), ((10, 12), (32, 32)), ((33, 77), (32, 32)), ((5, 90), (8, 8))],
    )
    def test_size(
        self, tmp_path: Path, rng: np.random.Generator, shape: tuple[int, int], size: tuple[int, int]
    ) -> None:
        save(tmp_path / "a.png", rng.integers(0, 256, (*shape, 3), dtype=np.uint8))
        assert folder_images(tmp_path, Framing(size)).shape == (3, *size)

    def test_the_size_of_the_image_changes_nothing(self, tmp_path: Path, pixels: np.ndarray) -> None:
        save(tmp_path / "a.png", pixels)
        as_is, framed = (folder_images(tmp_path, f).load([0]) for f in (AS_IS, Framing((20, 24))))
        assert torch.equal(as_is, framed)

    def test_the_crop_is_the_centre(self) -> None:
        array = np.zeros((30, 50, 3), dtype=np.uint8)
        array[:, 20:30] = 255
        shown = np.asarray(Framing((30, 10))(Image.fromarray(array)))
        assert shown.shape == (30, 10, 3)
        assert shown.min() == 255

    @pytest.mark.parametrize("shape", [(96, 128), (128, 96), (64, 64), (48, 48)])
    def test_as_torchvision_resizes_and_crops(self, rng: np.random.Generator, shape: tuple[int, int]) -> None:
        image = Image.fromarray(rng.integers(0, 256, (*shape, 3), dtype=np.uint8))
        expected = vision.center_crop(vision.resize(image, [64]), [48, 48])
        assert np.array_equal(np.asarray(Framing((48, 48), resize=64)(image)), np.asarray(expected))

    def test_images_of_different_sizes(self, image_folder: Path, pixels: np.ndarray) -> None:
        save(image_folder / "ship" / "large.png", pixels)
        with pytest.raises(ReaderError, match=r"'ship/large.png' has 20×24 px, image 'cat/00.png' has 32×32") as caught:
            folder_images(image_folder, AS_IS)
        assert "`size: 32`" in str(caught.value)
        assert folder_images(image_folder, Framing((32, 32))).load(range(25)).shape == (25, 3, 32, 32)


class TestWhatCannotBeRead:
    def test_a_missing_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ReaderError, match=r"'.*absent' does not exist; expected a folder of images"):
            folder_images(tmp_path / "absent", AS_IS)

    def test_a_folder_that_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("text")
        with pytest.raises(ReaderError, match=r"'.*file' is a file; expected a folder of images"):
            folder_images(tmp_path / "file", AS_IS)

    def test_an_empty_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ReaderError, match=r"holds no image: 0 other files; expected .png, .jpg, .jpeg"):
            folder_images(tmp_path, AS_IS)

    def test_a_folder_of_texts(self, tmp_path: Path) -> None:
        (tmp_path / "deep").mkdir()
        for name in ("a.txt", "deep/b.csv"):
            (tmp_path / name).write_text("text")
        with pytest.raises(ReaderError, match="holds no image: 2 other files"):
            folder_images(tmp_path, AS_IS)

    @pytest.mark.parametrize("suffix", ["jpg", "png"])
    def test_a_truncated_image(self, image_folder: Path, suffix: str) -> None:
        path = next(path for path in sorted((image_folder / "dog").iterdir()) if path.suffix == f".{suffix}")
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        message = f"image 'dog/{path.name}' cannot be decoded: .*[Tt]runcated.*; remove it or replace it"
        with pytest.raises(ReaderError, match=message):
            folder_images(image_folder, AS_IS)

    def test_of_a_large_set_a_broken_image_is_found_when_it_is_shown(
        self, image_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # larger than the cache, a set is not decoded when it is opened
        monkeypatch.setattr("neuroprobe.stimuli.images.CACHE_BYTES", 1)
        path = image_folder / "dog" / "00.png"
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        found = folder_images(image_folder, AS_IS)
        with pytest.raises(ReaderError, match=r"image 'dog/00.png' cannot be decoded"):
            found.load([0, found.ids.index("dog/00.png")])
        assert found.load([0]).shape == (1, 3, 32, 32)

    @pytest.mark.parametrize("content", [b"", b"not an image at all"])
    def test_a_first_image_that_is_none(self, image_folder: Path, content: bytes) -> None:
        (image_folder / "cat" / "00.png").write_bytes(content)
        with pytest.raises(ReaderError, match=r"image 'cat/00.png' cannot be decoded"):
            folder_images(image_folder, AS_IS)


class TestDigest:
    def test_the_place_does_not_matter(self, image_folder: Path, tmp_path: Path) -> None:
        shutil.copytree(image_folder, tmp_path / "elsewhere")
        assert folder_images(tmp_path / "elsewhere", AS_IS).digest == folder_images(image_folder, AS_IS).digest

    def test_the_content_matters(self, image_folder: Path, rng: np.random.Generator) -> None:
        before = folder_images(image_folder, AS_IS).digest
        save(image_folder / "ship" / "06.png", rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
        assert folder_images(image_folder, AS_IS).digest != before

    def test_one_byte_matters(self, image_folder: Path) -> None:
        before = folder_images(image_folder, AS_IS).digest
        path = image_folder / "ship" / "06.png"
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        assert folder_images(image_folder, AS_IS).digest != before

    def test_names_and_number_matter(self, image_folder: Path) -> None:
        before = folder_images(image_folder, AS_IS).digest
        assert folder_images(image_folder, AS_IS, limit=23).digest != before
        (image_folder / "cat").rename(image_folder / "tiger")
        assert folder_images(image_folder, AS_IS).digest != before


class TestPhotographs:
    def test_labels_and_size(self) -> None:
        crops = photograph_images(AS_IS, crop=40, per_image=3)
        stems = [name.split(".")[0] for name in PHOTOGRAPHS]
        assert crops.shape == (3, 40, 40)
        assert crops.labels == stems * 3
        assert [name.split("/")[0] for name in crops.ids] == crops.labels
        assert len(crops) == len(set(crops.ids)) == 18

    def test_a_crop_is_that_part_of_the_photograph(self) -> None:
        from skimage import data

        crops = photograph_images(AS_IS, crop=40, per_image=1)
        _, left, top, side = map(int, crops.ids[0].removeprefix("astronaut/").split("_"))
        expected = data.astronaut()[top : top + side, left : left + side]
        torch.testing.assert_close(crops.load([0])[0], torch.from_numpy(expected).permute(2, 0, 1) / 255)

    def test_the_seed_decides(self) -> None:
        first, again, other = (photograph_images(AS_IS, crop=32, per_image=2, seed=seed) for seed in (1, 1, 2))
        assert first.ids == again.ids
        assert first.digest == again.digest
        assert torch.equal(first.load(range(12)), again.load(range(12)))
        assert first.ids != other.ids
        assert first.digest != other.digest

    def test_more_crops_keep_the_first(self) -> None:
        few, many = (photograph_images(AS_IS, crop=32, per_image=n) for n in (2, 5))
        assert many.ids[: len(few)] == few.ids

    def test_a_limit_is_spread(self) -> None:
        crops = photograph_images(AS_IS, crop=32, per_image=5, limit=6)
        assert crops.labels is not None
        assert set(Counter(crops.labels).values()) == {1}

    def test_a_limit_above_what_there_is(self) -> None:
        # as of a folder: fewer images than were asked for would go unnoticed
        with pytest.raises(ReaderError, match="limit: 13 images asked for"):
            photograph_images(AS_IS, crop=32, per_image=2, limit=13)

    def test_framed(self) -> None:
        assert photograph_images(Framing((32, 32)), crop=64, per_image=1).shape == (3, 32, 32)

    def test_a_crop_that_is_too_large(self) -> None:
        with pytest.raises(ReaderError, match=r"crop: 301 px asked for, chelsea.png has 451×300; lower the crop"):
            photograph_images(AS_IS, crop=301)

    def test_crops_are_told_apart_even_where_there_are_few_places(self) -> None:
        # chelsea is 300 px high: its crops lie in one row, and the same place is drawn more than once
        crops = photograph_images(AS_IS, crop=300, per_image=20)
        assert len(set(crops.ids)) == len(crops) == 120
