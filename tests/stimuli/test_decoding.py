from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms.v2 import functional as vision

from neuroprobe.stimuli.decoding import AS_IS, Framing, as_rgb
from neuroprobe.stimuli.folders import read_image

ORIENTATION = 0x0112
SHAPE = (20, 24)
RNG = np.random.default_rng(3)
COLOUR = RNG.integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
ALPHA = RNG.integers(0, 256, (*SHAPE, 1), dtype=np.uint8)
GREY = COLOUR[..., 0]
DEEP = RNG.integers(0, 65536, (*SHAPE, 3), dtype=np.uint16)
FLOATS = RNG.random(SHAPE, dtype=np.float32)


def three(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=2)


def over(background: tuple[float, float, float]) -> np.ndarray:
    return COLOUR / 255 * (ALPHA / 255) + np.array(background) * (1 - ALPHA / 255)


def palette() -> Image.Image:
    return Image.fromarray(COLOUR).quantize(16)


def pillow(image: Image.Image, **options: object) -> Callable[[Path], None]:
    return lambda path: image.save(path, **options)


def tiff(array: np.ndarray, **options: object) -> Callable[[Path], None]:
    return lambda path: tifffile.imwrite(path, array, **options)


# suffixes, how the file is written, the values that it has to show (height, width, 3), and how exactly
FILES = {
    "colour": ("png tif webp", pillow(Image.fromarray(COLOUR), lossless=True), COLOUR / 255, 0),
    "grey": ("png tif", pillow(Image.fromarray(GREY)), three(GREY) / 255, 0),
    "one bit": ("png tif", pillow(Image.fromarray(GREY > 127)), three(GREY > 127) * 1.0, 0),
    "palette": ("png tif", pillow(palette()), np.asarray(palette().convert("RGB")) / 255, 0),
    "alpha": (
        "png tif",
        pillow(Image.fromarray(np.concatenate([COLOUR, ALPHA], 2))),
        over((0.5, 0.5, 0.5)),
        1.01 / 255,
    ),
    "webp with alpha": (
        "webp",
        pillow(Image.fromarray(np.concatenate([COLOUR, ALPHA], 2)), lossless=True, exact=True),
        over((0.5, 0.5, 0.5)),
        1.01 / 255,
    ),
    "grey with alpha": (
        "png",
        pillow(Image.fromarray(np.stack([GREY, np.full(SHAPE, 255, np.uint8)], 2))),
        three(GREY) / 255,
        0,
    ),
    "grey of 16 bits": ("png tif", pillow(Image.fromarray(DEEP[..., 0])), three(DEEP[..., 0]) / 65535, 1e-7),
    "colour of 16 bits": ("tif", tiff(DEEP, photometric="rgb"), DEEP / 65535, 1 / 255),
    "planes": (
        "tif",
        tiff(np.moveaxis(COLOUR, 2, 0).copy(), photometric="rgb", planarconfig="separate"),
        COLOUR / 255,
        0,
    ),
    "grey from white to black": ("tif", tiff(255 - GREY, photometric="miniswhite"), three(GREY) / 255, 0),
    "floats": ("tif", tiff(FLOATS), three(FLOATS), 0),
    "big-endian floats": ("tif", tiff(FLOATS, byteorder=">"), three(FLOATS), 0),
    "integers of 32 bits": ("tif", tiff(DEEP[..., 0].astype(np.int32)), three(DEEP[..., 0]) / 65535, 1e-7),
    "compressed": ("tif", pillow(Image.fromarray(COLOUR), compression="tiff_lzw"), COLOUR / 255, 0),
    "CMYK": ("tif", pillow(Image.fromarray(COLOUR).convert("CMYK")), COLOUR / 255, 1.01 / 255),
}


@pytest.mark.parametrize(
    ("name", "suffix"), [(name, suffix) for name, (suffixes, *_) in FILES.items() for suffix in suffixes.split()]
)
def test_files_show_the_arrays_that_made_them(tmp_path: Path, name: str, suffix: str) -> None:
    _, write, expected, tolerance = FILES[name]
    write(tmp_path / f"a.{suffix}")
    shown = as_rgb(read_image(tmp_path / f"a.{suffix}"), AS_IS)
    assert shown.dtype == np.float32
    np.testing.assert_allclose(shown.transpose(1, 2, 0), expected, rtol=0, atol=tolerance + 1e-7)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg(tmp_path: Path, mode: str) -> None:
    # smooth, as compression is lossy
    ramp = np.add.outer(np.arange(40), 2 * np.arange(60)).astype(np.uint8)
    image = Image.fromarray(np.stack([ramp, ramp[::-1], ramp[:, ::-1]], 2)).convert(mode)
    image.save(tmp_path / "a.jpg", quality=98, subsampling=0)
    shown = as_rgb(read_image(tmp_path / "a.jpg"), AS_IS)
    np.testing.assert_allclose(shown.transpose(1, 2, 0), np.asarray(image.convert("RGB")) / 255, rtol=0, atol=6 / 255)


@pytest.mark.parametrize("background", [(0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (0.2, 0.5, 0.9)])
@pytest.mark.parametrize("kind", ["uint8", "float32", "float64"])
def test_the_background_is_behind_transparent_pixels(background: tuple[float, float, float], kind: str) -> None:
    picture = np.concatenate([COLOUR, ALPHA], 2)
    picture = picture if kind == "uint8" else (picture / 255).astype(kind)
    shown = as_rgb(picture, AS_IS, background).transpose(1, 2, 0)
    np.testing.assert_allclose(shown, over(background), rtol=0, atol=1.01 / 255 if kind == "uint8" else 1e-6)


def test_a_transparent_colour_of_a_palette(tmp_path: Path) -> None:
    palette().save(tmp_path / "a.png", transparency=bytes([0, 255, 255]))
    shown = as_rgb(read_image(tmp_path / "a.png"), AS_IS, (1.0, 0.0, 1.0)).transpose(1, 2, 0)
    is_clear = np.asarray(palette()) == 0
    assert is_clear.any()
    assert (shown[is_clear] == [1, 0, 1]).all()
    np.testing.assert_allclose(shown[~is_clear], np.asarray(palette().convert("RGB"))[~is_clear] / 255, atol=1e-7)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (1, lambda a: a),
        (2, np.fliplr),
        (3, lambda a: np.rot90(a, 2)),
        (4, np.flipud),
        (5, lambda a: a.transpose(1, 0, 2)),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: np.rot90(a, 2).transpose(1, 0, 2)),
        (8, np.rot90),
    ],
)
def test_orientation(tmp_path: Path, suffix: str, orientation: int, turn: Callable[[np.ndarray], np.ndarray]) -> None:
    halves = np.zeros((16, 32, 3), dtype=np.uint8)
    halves[:8, :16] = 255
    halves[8:, :16] = 128
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(halves).save(tmp_path / f"a.{suffix}", exif=exif)
    shown = as_rgb(read_image(tmp_path / f"a.{suffix}"), AS_IS).transpose(1, 2, 0)
    np.testing.assert_allclose(shown, turn(halves) / 255, rtol=0, atol=3 / 255)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (tiff(FLOATS * 255), "it holds values from .* to 25.*, expected 0 to 1"),
        (tiff(np.where(FLOATS > 0.5, np.nan, FLOATS)), "it holds NaN or infinity"),
        (tiff(DEEP[..., 0].astype(np.int32) * 2), "it holds integers from .* to 13.*, expected 8 or 16 bits"),
        (tiff(-DEEP[..., 0].astype(np.int32)), "it holds integers from -.*, expected 8 or 16 bits"),
        (tiff(RNG.random((*SHAPE, 3), dtype=np.float32), photometric="rgb"), "save others as .npy"),
        (tiff(RNG.random(SHAPE)), "grey of 8 or 16 bits or floats of 32"),
        # Pillow reads these as other values
        (tiff(np.moveaxis(DEEP, 2, 0).copy(), photometric="rgb", planarconfig="separate"), "interleaved colour of 8"),
        (tiff(DEEP[..., 0], photometric="miniswhite"), "save others as .npy"),
        (tiff(GREY.astype(np.int8)), "save others as .npy"),
        (tiff(np.stack([GREY] * 5), photometric="minisblack"), "it holds 5 pictures, expected one"),
    ],
)
def test_tiff_that_is_refused(tmp_path: Path, write: Callable[[Path], None], message: str) -> None:
    write(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=message):
        as_rgb(read_image(tmp_path / "a.tif"), AS_IS)


@pytest.mark.parametrize("suffix", ["webp", "png"])
def test_animations_are_refused(tmp_path: Path, suffix: str) -> None:
    frames = [Image.fromarray(np.roll(COLOUR, shift, 0)) for shift in range(3)]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match="it holds 3 pictures, expected one"):
        read_image(tmp_path / f"a.{suffix}")


def test_of_a_camera_s_several_pictures_the_first_is_shown(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((16, 16, 3), level, dtype=np.uint8)) for level in (200, 10)]
    frames[0].save(tmp_path / "a.mpo", save_all=True, append_images=frames[1:])
    (tmp_path / "a.mpo").rename(tmp_path / "a.jpg")
    np.testing.assert_allclose(as_rgb(read_image(tmp_path / "a.jpg"), AS_IS), 200 / 255, atol=2 / 255)


@pytest.mark.parametrize("kind", ["uint8", "float16", "float32", "float64"])
@pytest.mark.parametrize("n_channels", [0, 1, 3])
def test_arrays_show_themselves(kind: str, n_channels: int) -> None:
    values = COLOUR[..., :n_channels] if n_channels else GREY
    expected = np.broadcast_to(values / 255 if values.ndim == 3 else values[..., None] / 255, (*SHAPE, 3))
    shown = as_rgb(values if kind == "uint8" else (values / 255).astype(kind), AS_IS).transpose(1, 2, 0)
    np.testing.assert_allclose(shown, expected, rtol=0, atol=1e-3 if kind == "float16" else 1e-7)


def test_floats_are_shown_exactly() -> None:
    assert np.array_equal(as_rgb(FLOATS, AS_IS)[1], FLOATS)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 32), st.integers(1, 32))
def test_floats_are_framed_as_bytes_are(height: int, width: int, to_height: int, to_width: int) -> None:
    values = np.random.default_rng(height * 41 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    framing = Framing((to_height, to_width))
    floats, integers = as_rgb(values / 255, framing), as_rgb(values, framing)
    assert floats.shape == integers.shape == (3, to_height, to_width)
    np.testing.assert_allclose(floats, integers, rtol=0, atol=1.5 / 255)


class TestFraming:
    @pytest.mark.parametrize(
        ("shape", "size"),
        [((40, 60), (20, 20)), ((60, 40), (20, 30)), ((10, 12), (32, 32)), ((33, 77), (32, 32)), ((5, 90), (8, 8))],
    )
    def test_size(self, shape: tuple[int, int], size: tuple[int, int]) -> None:
        assert as_rgb(np.zeros((*shape, 3), dtype=np.uint8), Framing(size)).shape == (3, *size)

    def test_the_size_of_the_image_changes_nothing(self) -> None:
        assert np.array_equal(as_rgb(COLOUR, AS_IS), as_rgb(COLOUR, Framing(SHAPE)))

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


def test_an_image_in_memory_is_a_picture_too() -> None:
    buffer = io.BytesIO()
    Image.fromarray(COLOUR).save(buffer, "png")
    assert np.array_equal(as_rgb(Image.open(buffer), AS_IS), as_rgb(COLOUR, AS_IS))
