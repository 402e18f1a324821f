"""Images in NumPy files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final
from zipfile import is_zipfile

import numpy as np
from numpy.typing import NDArray

from neuroprobe.errors import ReaderError
from neuroprobe.stimuli.decoding import ROUNDING
from neuroprobe.stimuli.images import Source

N_CHANNELS: Final = (1, 3, 4)
SLAB_BYTES: Final = 64 << 20  # whose range is looked at together


def open_array(path: Path) -> Source:
    """Open images in a NumPy file.

    Parameters
    ----------
    path : Path
        ``.npy``, which is mapped into memory, or ``.npz`` with the images under the key ``images``, or as its only
        array, and where wanted ``labels`` (n) and ``ids`` (n).

    Raises
    ------
    ReaderError
        If there is no such file, it is no file of numbers, or its array holds no images.

    Notes
    -----
    Images are of uint8, or of floats in [0, 1]; their shape is (n, height, width), or with 1, 3 or 4 channels (grey,
    RGB, RGBA) as the last axis, or as the second. A shape that can be read both ways is refused.
    """
    if not path.is_file():
        what = "is a folder" if path.exists() else "does not exist"
        raise ReaderError(f"array file {str(path)!r} {what}; expected a .npy or .npz file of images")
    try:
        columns = _load(path)
    except Exception as error:  # a damaged archive raises errors of zipfile, zlib and NumPy
        why = "no NumPy file, or one of Python objects, which are not unpickled" if "pickle" in str(error) else error
        raise ReaderError(
            f"array file {str(path)!r} cannot be read: {why}; save numbers by np.save or np.savez, and words as "
            "arrays of str, not of object"
        ) from error
    where = f"array file {str(path)!r}"
    images = _as_images(columns.pop("images"), where)
    for key, column in columns.items():
        if column.shape != images.shape[:1]:
            raise ReaderError(f"{where}: {key} has shape {column.shape}, expected one for each of {len(images)} images")
    ids = columns.get("ids", np.arange(len(images)).astype(str)).tolist()
    if len(set(ids)) < len(ids):
        twice = next(name for name in ids if ids.count(name) > 1)
        raise ReaderError(f"{where}: ids tell images apart, and {twice!r} is there {ids.count(twice)} times")
    return Source(
        where=where,
        ids=ids,
        labels=columns["labels"].tolist() if "labels" in columns else None,
        read=lambda index: np.asarray(images[index]),
        n_bytes=0 if path.suffix == ".npy" else images.nbytes,
    )


def _load(path: Path) -> dict[str, NDArray[Any]]:
    """Columns of a file; nothing is unpickled."""
    is_archive = is_zipfile(path)
    if is_archive != (path.suffix == ".npz"):
        raise ValueError("it is an archive, whose name ends in .npz" if is_archive else "it is no archive, or damaged")
    if not is_archive:
        return {"images": np.load(path, mmap_mode="r", allow_pickle=False)}
    with np.load(path, allow_pickle=False) as archive:
        keys = [key for key in archive.files if key not in {"labels", "ids"}]
        if "images" not in keys and len(keys) != 1:
            held = ", ".join(archive.files) or "nothing"
            raise ValueError(f"expected the key 'images', or one array beside labels and ids; it holds {held}")
        columns = {"images": archive["images" if "images" in keys else keys[0]]}
        return columns | {key: archive[key].astype(str) for key in ("labels", "ids") if key in archive.files}


def _as_images(array: NDArray[Any], where: str) -> NDArray[Any]:
    """Images (n, height, width[, channels]), after their type, shape and range."""
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise ReaderError(
            f"{where}: images are of {array.dtype}, expected uint8, or float in [0, 1]; divide integers by the largest "
            "value that they can have"
        )
    images = _channels_last(array, where)
    if not images.size:
        raise ReaderError(f"{where}: shape {array.shape} holds no image")
    if array.dtype != np.uint8:
        low, high = _range(array)
        if low < -ROUNDING or high > 1 + ROUNDING:
            raise ReaderError(
                f"{where}: values from {low:g} to {high:g}, expected 0 to 1; scale them, or save them as uint8"
            )
    return images


def _channels_last(array: NDArray[Any], where: str) -> NDArray[Any]:
    shape = array.shape
    if array.ndim == 3 and shape[2] not in N_CHANNELS:
        return array
    if array.ndim == 4:
        last, second = shape[3] in N_CHANNELS, shape[1] in N_CHANNELS
        if last and second:
            raise ReaderError(
                f"{where}: of shape {shape}, both the last and the second axis can be channels; save images that are "
                "larger than 4 px, or without the axis of channels where they are grey"
            )
        if last or second:
            return array if last else np.moveaxis(array, 1, 3)
    hint = "; one image is saved as image[None]" if array.ndim in {2, 3} else ""
    raise ReaderError(
        f"{where}: shape {shape}, expected (n, height, width), (n, height, width, 1 | 3 | 4) or "
        f"(n, 1 | 3 | 4, height, width){hint}"
    )


def _range(array: NDArray[Any]) -> tuple[float, float]:
    """Smallest and largest value, NaN apart; read slab by slab, as it may be larger than the memory."""
    step = max(1, SLAB_BYTES // array[0].nbytes)
    slabs = [array[start : start + step] for start in range(0, len(array), step)]
    return (
        float(np.fmin.reduce([np.fmin.reduce(slab, axis=None) for slab in slabs])),
        float(np.fmax.reduce([np.fmax.reduce(slab, axis=None) for slab in slabs])),
    )
