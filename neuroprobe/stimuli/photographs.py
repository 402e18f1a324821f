"""Crops of the photographs that ship with scikit-image: images that need no download."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from neuroprobe.design.randomness import generator
from neuroprobe.errors import ReaderError
from neuroprobe.stimuli.images import Source

PHOTOGRAPHS: Final = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "hubble_deep_field.jpg",
    "retina.jpg",
    "rocket.jpg",
)


def open_photographs(*, crop: int = 64, per_image: int = 20, seed: int = 0) -> Source:
    """Cut square crops at random places out of the photographs that ship with scikit-image.

    Parameters
    ----------
    crop : int
        Side of the crops, in px.
    per_image : int
        Crops of each of the photographs (`PHOTOGRAPHS`); the class of a crop is the photograph.

    Raises
    ------
    ReaderError
        If there are no photographs, or one is smaller than a crop.
    """
    folder = _photograph_folder()
    present = [folder / name for name in PHOTOGRAPHS if (folder / name).is_file()]
    if not present:
        raise ReaderError(
            f"scikit-image brings none of the photographs {', '.join(PHOTOGRAPHS)}; give a folder of images"
        )
    sheets = [_read(path) for path in present]
    corners = []
    for path, sheet in zip(present, sheets, strict=True):
        if crop > min(sheet.size):
            raise ReaderError(
                f"crop: {crop} px asked for, {path.name} has {sheet.width}×{sheet.height}; lower the crop"
            )
        drawn = generator(seed, f"crops of {path.name}").random((per_image, 2))
        corners.append(np.floor(drawn * (sheet.width - crop + 1, sheet.height - crop + 1)).astype(int).tolist())
    # photographs in turn: more crops are added behind those that are there
    boxes = [(i, k, *corners[i][k]) for k in range(per_image) for i in range(len(present))]

    def read(index: int) -> Image.Image:
        i, _, left, top = boxes[index]
        return sheets[i].crop((left, top, left + crop, top + crop))

    return Source(
        where=f"the photographs (per_image: {per_image})",
        ids=[f"{present[i].stem}/{k}_{left}_{top}_{crop}" for i, k, left, top in boxes],
        labels=[present[i].stem for i, *_ in boxes],
        read=read,
        n_bytes=sum(3 * sheet.width * sheet.height for sheet in sheets),
    )


def _read(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def _photograph_folder() -> Path:
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        raise ReaderError("photographs come with scikit-image, which is not installed: pip install scikit-image")
    return Path(spec.origin).parent / "data"
