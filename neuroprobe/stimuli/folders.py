"""Folders of images, or of one folder per class."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from neuroprobe.errors import ReaderError
from neuroprobe.stimuli.images import Source

TIFF_SUFFIXES: Final = (".tif", ".tiff")
SUFFIXES: Final = (".png", ".jpg", ".jpeg", *TIFF_SUFFIXES, ".webp")
TIFF_FORMATS: Final = (
    "of TIFF, grey of 8 or 16 bits or floats of 32, and interleaved colour of 8 or 16 bits are read; "
    "save others as .npy"
)


def open_folder(folder: Path) -> Source:
    """Open a folder of PNG, JPEG, TIFF and WebP images, or of one folder per class.

    Parameters
    ----------
    folder : Path
        Images directly in it have no label; images in its sub-folders are labelled by the sub-folder.

    Raises
    ------
    ReaderError
        If the folder is missing or holds no image.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise ReaderError(f"image folder {str(folder)!r} {what}; expected a folder of images or of class folders")
    files = _files(folder)
    paths = sorted(path for path in files if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise ReaderError(
            f"image folder {str(folder)!r} holds no image: {len(files)} other files; expected {', '.join(SUFFIXES)}"
        )
    # a name that is no UTF-8 could not be written anywhere
    names = [os.fsencode(path.relative_to(folder).as_posix()).decode(errors="backslashreplace") for path in paths]
    classes = [name.split("/")[0] if "/" in name else "" for name in names]
    return Source(
        where=f"image folder {str(folder)!r}",
        ids=names,
        labels=classes if all(classes) else None,
        read=lambda index: read_image(paths[index]),
        content=lambda index: paths[index].read_bytes(),
    )


def _files(folder: Path) -> list[Path]:
    """Files in a folder and its sub-folders, those behind links too."""
    found = []
    for place, below, files in os.walk(folder, followlinks=True):
        # a link to a folder above would lead round and round
        here = Path(place).resolve()
        below[:] = [name for name in below if not here.is_relative_to(Path(place, name).resolve())]
        found += [path for name in files if (path := Path(place, name)).is_file()]
    return found


def read_image(path: Path) -> Image.Image:
    """Read an image file.

    Raises
    ------
    ValueError
        If it holds several pictures, or is a TIFF that Pillow does not read, or reads wrongly.
    """
    try:
        opened = Image.open(path)
    except UnidentifiedImageError:
        if path.suffix.lower() in TIFF_SUFFIXES:
            raise ValueError(TIFF_FORMATS) from None
        raise
    with opened as image:
        n_pictures = getattr(image, "n_frames", 1)
        # a camera's MPO keeps previews behind the picture
        if n_pictures > 1 and image.format != "MPO":
            raise ValueError(f"it holds {n_pictures} pictures, expected one: save each as a file of its own")
        if isinstance(image, TiffImagePlugin.TiffImageFile) and _is_misread(image):
            raise ValueError(TIFF_FORMATS)
        image.load()
        return image


def _is_misread(image: TiffImagePlugin.TiffImageFile) -> bool:
    """Whether Pillow gives other values than are in the file."""
    tags = image.tag_v2
    n_bits = max(tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,)))
    in_planes = tags.get(TiffImagePlugin.PLANAR_CONFIGURATION, 1) == 2 and len(image.getbands()) > 1
    is_white_0 = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
    is_signed = 2 in tags.get(TiffImagePlugin.SAMPLEFORMAT, ())
    return (n_bits > 8 and (in_planes or is_white_0)) or (n_bits == 8 and is_signed)
