"""Sets of images: where they come from, and one decoded batch at a time as float RGB in [0, 1]."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from neuroprobe.design.randomness import generator
from neuroprobe.errors import ReaderError

SUFFIXES = (".png", ".jpg", ".jpeg")
PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "hubble_deep_field.jpg", "retina.jpg", "rocket.jpg")
CACHE_BYTES = 256 << 20
HASHED_BYTES = 1 << 16


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

    def __call__(self, image: Image.Image) -> Image.Image:
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
            image = image.resize(resized, Image.Resampling.BILINEAR)
        left, top = round((image.width - width) / 2), round((image.height - height) / 2)
        return image.crop((left, top, left + width, top + height))


class ImageSet:
    """Images of one size, decoded when they are asked for.

    Parameters
    ----------
    ids : sequence of str
        Identity of each image, unique.
    labels : sequence of str, optional
        Class of each image; None where images have no classes.
    read : callable
        From an index to a PIL image.
    framing : Framing
    digest : str
        Hash of the images' identity and content.
    """

    def __init__(
        self,
        ids: Sequence[str],
        labels: Sequence[str] | None,
        read: Callable[[int], Image.Image],
        framing: Framing,
        digest: str,
    ) -> None:
        self.ids, self.labels, self.framing, self.digest = list(ids), labels, framing, digest
        self._read = read
        self._cache: OrderedDict[int, NDArray[np.float32]] = OrderedDict()
        self.shape = self._decode(0).shape
        if len(self) * 4 * int(np.prod(self.shape)) <= CACHE_BYTES:
            # what is broken is found before any work
            for index in range(len(self)):
                self._image(index)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def bytes_kept(self) -> int:
        """Bytes of decoded images that are kept in memory."""
        return min(CACHE_BYTES, len(self) * 4 * int(np.prod(self.shape)))

    def load(self, index: Sequence[int] | NDArray[np.int64]) -> Tensor:
        """Decode images: float32 (n, 3, height, width) in [0, 1]."""
        return torch.from_numpy(np.stack([self._image(int(i)) for i in index]))

    def _image(self, index: int) -> NDArray[np.float32]:
        if index in self._cache:
            self._cache.move_to_end(index)
            return self._cache[index]
        array = self._decode(index)
        if array.shape != self.shape:
            raise ReaderError(
                f"image {self.ids[index]!r} has {array.shape[1]}×{array.shape[2]} px, image {self.ids[0]!r} has "
                f"{self.shape[1]}×{self.shape[2]}: images of a set have one size; give one by "
                f"`size: {min(self.shape[1:])}` (resized and cropped at the centre)"
            )
        self._cache[index] = array
        while len(self._cache) * array.nbytes > CACHE_BYTES:
            self._cache.popitem(last=False)
        return array

    def _decode(self, index: int) -> NDArray[np.float32]:
        try:
            with self._read(index) as image:
                array = np.asarray(self.framing(_as_colour(image)), dtype=np.float32)
        except (OSError, SyntaxError, ValueError) as error:
            raise ReaderError(
                f"image {self.ids[index]!r} cannot be decoded: {error}; remove it or replace it"
            ) from error
        if array.ndim == 2:
            array = np.repeat(array[:, :, None], 3, axis=2)
        return np.ascontiguousarray(array.transpose(2, 0, 1) / np.float32(255)).clip(0, 1)


def _as_colour(image: Image.Image) -> Image.Image:
    """Return an image in RGB, or in grey as floats from 0 to 255 where it has more than 8 bits."""
    if image.mode.startswith("I"):
        return Image.fromarray(np.asarray(image).astype(np.float32) * np.float32(255 / 65535))
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def folder_images(
    folder: Path, framing: Framing, *, limit: int | None = None, shuffle: bool = False, seed: int = 0
) -> ImageSet:
    """Open a folder of PNG and JPEG images, or of one folder per class.

    Parameters
    ----------
    folder : Path
        Images directly in it have no label; images in its sub-folders are labelled by the sub-folder.
    limit : int, optional
        Number of images; of class folders, the same number per class as far as it goes.
    shuffle : bool
        Whether a limit takes images at random rather than the first ones.

    Raises
    ------
    ReaderError
        If the folder is missing, holds no image, or fewer than `limit`.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise ReaderError(f"image folder {str(folder)!r} {what}; expected a folder of images or of class folders")
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not paths:
        n_files = sum(1 for p in folder.rglob("*") if p.is_file())
        raise ReaderError(
            f"image folder {str(folder)!r} holds no image: {n_files} other files; expected {', '.join(SUFFIXES)}"
        )
    names = [p.relative_to(folder).as_posix() for p in paths]
    classes = [name.split("/")[0] if "/" in name else "" for name in names]
    chosen = _choose(classes, limit, generator(seed, "images of the set") if shuffle else None, str(folder))
    paths, names = [paths[i] for i in chosen], [names[i] for i in chosen]
    labels = [classes[i] for i in chosen] if all(classes) else None

    def read(index: int) -> Image.Image:
        return Image.open(paths[index])

    return ImageSet(names, labels, read, framing, _digest(names, paths))


def _choose(
    classes: Sequence[str], limit: int | None, rng: np.random.Generator | None, where: str
) -> NDArray[np.int64]:
    """Indices of the images that are shown: the classes in turn, so that a limit is spread over them."""
    if limit is not None and limit > len(classes):
        raise ReaderError(f"limit: {limit} images asked for, {where!r} holds {len(classes)}; lower the limit")
    order = np.arange(len(classes)) if rng is None else rng.permutation(len(classes))
    seen: dict[str, int] = {}
    rank = np.empty(len(classes), dtype=np.int64)
    for index in order:
        rank[index] = seen[classes[index]] = seen.get(classes[index], -1) + 1
    chosen = order[np.argsort(rank[order], kind="stable")][:limit]
    return chosen if rng is not None else np.sort(chosen)


def _digest(names: Sequence[str], paths: Sequence[Path]) -> str:
    """Hash of names, sizes, and the first 64 KiB of every file."""
    digest = hashlib.sha256()
    for name, path in zip(names, paths, strict=True):
        with path.open("rb") as file:
            digest.update(f"{name}\0{path.stat().st_size}\0".encode() + file.read(HASHED_BYTES))
    return digest.hexdigest()


def photograph_images(
    framing: Framing, *, crop: int = 64, per_image: int = 20, limit: int | None = None, seed: int = 0
) -> ImageSet:
    """Cut square crops at random places out of the photographs that ship with scikit-image.

    Parameters
    ----------
    crop : int
        Side of the crops, in px.
    per_image : int
        Crops of each of the photographs (`PHOTOGRAPHS`); the class of a crop is the photograph.
    """
    folder = _photograph_folder()
    present = [folder / name for name in PHOTOGRAPHS if (folder / name).is_file()]
    if not present:
        raise ReaderError(
            f"scikit-image brings none of the photographs {', '.join(PHOTOGRAPHS)}; give a folder of images"
        )
    sheets: dict[int, Image.Image] = {}

    def sheet(index: int) -> Image.Image:
        if index not in sheets:
            sheets[index] = Image.open(present[index]).convert("RGB")
        return sheets[index]

    boxes = []
    for index, path in enumerate(present):
        width, height = sheet(index).size
        if crop > min(width, height):
            raise ReaderError(f"crop: {crop} px asked for, {path.name} has {width}×{height}; lower the crop")
        corners = generator(seed, f"crops of {path.name}").random((per_image, 2))
        for left, top in np.floor(corners * (width - crop + 1, height - crop + 1)).astype(int).tolist():
            boxes.append((index, left, top))
    # photographs in turn, so that a limit is spread over them
    order = [(k, i) for k in range(per_image) for i in range(len(present))]
    if limit is not None and limit > len(order):
        raise ReaderError(f"limit: {limit} images asked for, {len(order)} crops are cut; lower it or raise `per_image`")
    boxes = [boxes[i * per_image + k] for k, i in order[:limit]]
    names = [f"{present[i].stem}/{k}_{left}_{top}_{crop}" for (k, _), (i, left, top) in zip(order, boxes, strict=False)]

    def read(index: int) -> Image.Image:
        i, left, top = boxes[index]
        return sheet(i).crop((left, top, left + crop, top + crop))

    return ImageSet(names, [present[i].stem for i, _, _ in boxes], read, framing, _digest_all(names, present))


def _digest_all(names: Sequence[str], paths: Sequence[Path]) -> str:
    return hashlib.sha256("\0".join([*names, _digest([p.name for p in paths], paths)]).encode()).hexdigest()


def _photograph_folder() -> Path:
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        raise ReaderError("photographs come with scikit-image, which is not installed: pip install scikit-image")
    return Path(spec.origin).parent / "data"
