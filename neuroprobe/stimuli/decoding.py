"""Pictures of all kinds (grey, palette, alpha, CMYK, 8 and 16 bits, floats) as float RGB in [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

Picture = Image.Image | NDArray[Any]
MID_GREY: Final = (0.5, 0.5, 0.5)
SIDEWAYS: Final = (5, 6, 7, 8)  # EXIF orientations
ROUNDING: Final = 1e-6  # by which a float may leave [0, 1]


@dataclass(frozen=True)
class Framing:
    """How an image is brought to the size that is shown.

    Attributes
    ----------
    size : tuple of int, optional
        Height and width of the centred crop; None shows images as they are.
    resize : int, optional
        Length of the shorter side before the crop; None fits the image to the crop.
    """

    size: tuple[int, int] | None = None
    resize: int | None = None

    def __call__(self, image: Image.Image, resample: Image.Resampling = Image.Resampling.BILINEAR) -> Image.Image:
        """Scale and crop an image."""
        if self.size is None:
            return image
        height, width = self.size
        if self.resize is not None:
            scale = self.resize / min(image.height, image.width)
        else:
            scale = max(height / image.height, width / image.width)
        # rounded as torchvision rounds, so that a declared framing is the one that the weights were tested with
        resized = (max(width, int(image.width * scale + 1e-9)), max(height, int(image.height * scale + 1e-9)))
        if resized != image.size:
            image = image.resize(resized, resample)
        left, top = round((image.width - width) / 2), round((image.height - height) / 2)
        return image.crop((left, top, left + width, top + height))


AS_IS: Final = Framing()


def as_rgb(
    picture: Picture, framing: Framing, background: tuple[float, float, float] = MID_GREY
) -> NDArray[np.float32]:
    """Bring a picture to the size that is shown, as float RGB.

    Parameters
    ----------
    picture : PIL image, or array (h, w) or (h, w, 1 | 3 | 4) of uint8 or of floats in [0, 1]
        An image is turned as its EXIF orientation says.
    framing : Framing
    background : tuple of float
        RGB behind transparent pixels.

    Returns
    -------
    float32 (3, height, width) in [0, 1].

    Raises
    ------
    ValueError
        If the picture holds NaN, or values outside of its range.

    Notes
    -----
    Pillow reads colour of 16 bits as its upper 8 bits; grey of 16 bits and floats keep their precision.

    Examples
    --------
    >>> as_rgb(np.full((2, 2, 1), 0.25, dtype=np.float32), Framing((1, 1))).ravel()
    array([0.25, 0.25, 0.25], dtype=float32)
    """
    if isinstance(picture, np.ndarray) and picture.dtype == np.uint8:
        picture = Image.fromarray(picture[..., 0] if picture.shape[2:] == (1,) else picture)
    if isinstance(picture, Image.Image):
        ImageOps.exif_transpose(picture, in_place=True)
        if not _is_deep(picture):
            eight_bits = np.asarray(framing(_without_alpha(picture, background)), dtype=np.float32)
            return np.ascontiguousarray(eight_bits.transpose(2, 0, 1) / np.float32(255))
        picture = _deep_values(picture)
    planes = [np.asarray(framing(Image.fromarray(plane))) for plane in _planes(picture, background)]
    return np.broadcast_to(np.stack(planes), (3, *planes[0].shape)).clip(0, 1)


def size_of(picture: Picture) -> tuple[int, int]:
    """Height and width of a picture, turned as its EXIF orientation says.

    Examples
    --------
    >>> size_of(np.zeros((2, 3, 3), dtype=np.uint8))
    (2, 3)
    """
    if isinstance(picture, np.ndarray):
        return picture.shape[0], picture.shape[1]
    turned = picture.getexif().get(ExifTags.Base.Orientation, 1) in SIDEWAYS
    return (picture.width, picture.height) if turned else (picture.height, picture.width)


def _is_deep(image: Image.Image) -> bool:
    """Whether an image has more than 8 bits; such images are grey in Pillow."""
    return image.mode == "F" or image.mode.startswith("I")


def _deep_values(image: Image.Image) -> NDArray[np.float32]:
    values = np.asarray(image)
    if image.mode == "F":
        return values
    low, high = values.min(), values.max()
    if low < 0 or high > 65535:
        raise ValueError(f"it holds integers from {low} to {high}, expected 8 or 16 bits")
    return values.astype(np.float32) / np.float32(65535)


def _without_alpha(image: Image.Image, background: tuple[float, float, float]) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    red, green, blue = (round(255 * level) for level in background)
    opaque = Image.new("RGBA", image.size, (red, green, blue, 255))
    return Image.alpha_composite(opaque, image.convert("RGBA")).convert("RGB")


def _planes(values: NDArray[Any], background: tuple[float, float, float]) -> list[NDArray[np.float32]]:
    """Grey, or red, green and blue, of floats (h, w) or (h, w, 1 | 3 | 4)."""
    if not np.isfinite(values).all():
        raise ValueError("it holds NaN or infinity")
    low, high = values.min(), values.max()
    if low < -ROUNDING or high > 1 + ROUNDING:
        raise ValueError(f"it holds values from {low:g} to {high:g}, expected 0 to 1")
    if values.ndim == 2:
        values = values[..., None]
    if values.shape[2] == 4:
        alpha = values[..., 3:]
        values = values[..., :3] * alpha + (1 - alpha) * np.asarray(background, dtype=np.float32)
    return [np.ascontiguousarray(values[..., channel], dtype=np.float32) for channel in range(values.shape[2])]
