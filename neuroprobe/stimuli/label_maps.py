"""Labels of pixels: a folder of maps beside the images, of objects, parts or materials for instance."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from neuroprobe.errors import ReaderError, reason
from neuroprobe.stimuli.decoding import Framing
from neuroprobe.stimuli.folders import SUFFIXES as IMAGE_SUFFIXES
from neuroprobe.stimuli.images import N_THREADS, ImageSet

SUFFIXES: Final = (".png", ".npy")
NO_LABEL: Final = -1
N_NAMED: Final = 3  # of many things that are wrong, messages name these
Numbers = NDArray[np.int32]
Maps = NDArray[np.int16]


@dataclass(frozen=True)
class LabelMaps:
    """Labels of the pixels of a set of images.

    Attributes
    ----------
    labels : tuple of str
        Names, in the order of their first numbers.
    files : tuple of Path
        Map of each image.
    codes : dict
        From the number in a map to the index in `labels`, -1 where it says that there is no label.
    framing : Framing
        Of the images.
    digest : str
        Hash of all maps and names.
    """

    labels: tuple[str, ...]
    files: tuple[Path, ...]
    codes: Mapping[int, int]
    framing: Framing
    digest: str

    def load(self, index: Sequence[int] | NDArray[np.int64]) -> Maps:
        """Read maps, framed as the images are, each pixel with the label of the nearest one.

        Parameters
        ----------
        index : sequence of int
            Numbers of the images in their set.

        Returns
        -------
        int16 array (n, height, width)
            Indices of `labels`; -1 where there is none.
        """
        return np.stack([self._coded(self.files[int(i)]) for i in index])

    def _coded(self, file: Path) -> Maps:
        framed = self.framing(Image.fromarray(_read(file)), Image.Resampling.NEAREST)
        numbers, at = np.unique(np.asarray(framed), return_inverse=True)
        codes = np.array([self.codes[int(number)] for number in numbers], dtype=np.int16)
        return codes[at].reshape(framed.height, framed.width)


def open_label_maps(
    folder: Path, names: Path | Mapping[int, str], images: ImageSet, *, unlabelled: int | None = 0
) -> LabelMaps:
    """Open the maps of all images of a set, and check every one.

    Parameters
    ----------
    folder : Path
        A map for each image at its id, with another suffix: of ``cat/1.jpg`` it is ``cat/1.png``, a picture of one
        channel (grey of 8 or 16 bits, or a palette, of which the indices count), or ``cat/1.npy``, integers of two
        dimensions. Of the size of the image, before this is resized and cropped.
    names : Path or dict
        A CSV or TSV file with a number and its name in each row, or a JSON file with an object, ``{"1": "sky"}``.
        Numbers with one name are one label.
    images : ImageSet
    unlabelled : int, optional
        Number that says that a pixel has no label; None if all have.

    Raises
    ------
    ReaderError
        If a map is missing, cannot be read, is not of the size of its image, or holds numbers that have no name.
    """
    table = names if isinstance(names, Mapping) else read_names(Path(names))
    given = {number: name for number, name in sorted(table.items()) if number != unlabelled}
    labels = tuple(dict.fromkeys(given.values()))
    if not labels:
        raise ReaderError(f"label maps in {str(folder)!r}: no label has a name; give a name for each number")
    if len(labels) > np.iinfo(np.int16).max:
        raise ReaderError(f"label maps in {str(folder)!r}: {len(labels)} labels, expected 32767 or fewer")
    codes = {number: labels.index(name) for number, name in given.items()}
    if unlabelled is not None:
        codes[unlabelled] = NO_LABEL
    files = _files(Path(folder), images.ids)
    digest = hashlib.sha256(json.dumps([list(given.items()), unlabelled]).encode())
    with ThreadPoolExecutor(N_THREADS) as pool:
        for start in range(0, len(files), 2 * N_THREADS):  # few at a time: they are all in memory
            part = range(start, min(start + 2 * N_THREADS, len(files)))
            for content in pool.map(lambda index: _checked(files[index], images, index, codes), part):
                digest.update(content)
    return LabelMaps(labels, tuple(files), codes, images.framing, digest.hexdigest())


def read_names(file: Path) -> dict[int, str]:
    """Read a table of numbers and names: CSV or TSV, where the first row may be a header, or JSON.

    Raises
    ------
    ReaderError
        If the file is missing, a row has no number or no name, or a number comes twice.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ReaderError(f"names of labels {str(file)!r} cannot be read: {reason(error)}") from error
    if file.suffix.lower() == ".json":
        try:
            given = json.loads(text, object_pairs_hook=list)
        except json.JSONDecodeError as error:
            raise ReaderError(f"{file}:{error.lineno}: no JSON: {error.msg}") from error
        if not isinstance(given, list) or not all(isinstance(pair, tuple) for pair in given):
            raise ReaderError(f'{file}: expected an object of numbers and names, {{"1": "sky"}}')
        rows = [(0, [str(part) for part in pair]) for pair in given]
    else:
        delimiter = "\t" if file.suffix.lower() == ".tsv" else ","
        reader = csv.reader(text.splitlines(), delimiter=delimiter)
        rows = [(reader.line_num, [part.strip() for part in row]) for row in reader]
        if rows and not _is_integer(rows[0][1][:1]):
            rows = rows[1:]
    found: dict[int, str] = {}
    for line, row in rows:
        if not any(row):
            continue
        place = f"{file}:{line}" if line else str(file)
        if len(row) < 2 or not _is_integer(row) or not row[1]:
            raise ReaderError(f"{place}: received {row}, expected a number and a name")
        if int(row[0]) in found:
            raise ReaderError(f"{place}: number {row[0]} has a name already, {found[int(row[0])]!r}; keep one")
        found[int(row[0])] = row[1]
    return found


def _is_integer(row: list[str]) -> bool:
    return bool(row) and row[0].strip().removeprefix("-").isdecimal()


def _files(folder: Path, ids: Sequence[str]) -> list[Path]:
    """Map of each image."""
    if not folder.is_dir():
        raise ReaderError(f"folder of label maps {str(folder)!r} does not exist; expected a map for each image")
    found, missing = [], []
    for name in ids:
        stem = name[: -len(Path(name).suffix)] if name.lower().endswith((*IMAGE_SUFFIXES, *SUFFIXES)) else name
        paths = [path for suffix in SUFFIXES if (path := folder / f"{stem}{suffix}").is_file()]
        if len(paths) > 1:
            raise ReaderError(
                f"image {name!r} has two label maps, {paths[0].name} and {paths[1].name} in {str(paths[0].parent)!r}; "
                "keep one"
            )
        found += paths
        if not paths:
            missing.append((name, stem))
    if missing:
        listed = ", ".join(repr(name) for name, _ in missing[:N_NAMED])
        more = f" and {len(missing) - N_NAMED} more" if len(missing) > N_NAMED else ""
        raise ReaderError(
            f"{len(missing)} of {len(ids)} images have no label map: {listed}{more}; "
            f"expected {missing[0][1]}{SUFFIXES[0]} or {SUFFIXES[1]} in {str(folder)!r}"
        )
    return found


def _checked(file: Path, images: ImageSet, index: int, codes: Mapping[int, int]) -> bytes:
    """Hash of a map that fits its image."""
    name = images.ids[index]
    numbers = _read(file)
    size = images.size_before_framing(index)
    if numbers.shape != size:
        raise ReaderError(
            f"label map {str(file)!r} has {numbers.shape[0]}×{numbers.shape[1]} px, image {name!r} has "
            f"{size[0]}×{size[1]}; a map is of the size of its image, before this is resized and cropped"
        )
    unknown = [int(number) for number in np.unique(numbers) if int(number) not in codes]
    if unknown:
        listed = ", ".join(str(number) for number in unknown[:N_NAMED])
        more = f" and {len(unknown) - N_NAMED} more" if len(unknown) > N_NAMED else ""
        raise ReaderError(
            f"label map {str(file)!r}, of image {name!r}, holds numbers without a name: {listed}{more}; "
            "give them names, or say which number means no label by `unlabelled`"
        )
    return hashlib.sha256(numbers.tobytes() + name.encode()).digest()


def _read(file: Path) -> Numbers:
    """Numbers of a map: (height, width)."""
    try:
        if file.suffix == ".npy":
            values = np.load(file, allow_pickle=False)
        else:
            with Image.open(file) as image:
                values = np.asarray(image)
    except Exception as error:  # Pillow raises errors of nearly any kind for files that are damaged
        raise ReaderError(f"label map {str(file)!r} cannot be read: {reason(error)}") from error
    if values.ndim != 2 or values.dtype.kind not in "iub":
        raise ReaderError(
            f"label map {str(file)!r} holds {values.dtype} of shape {values.shape}, expected one integer for each pixel"
        )
    if values.size and not -(2**31) <= int(values.min()) <= int(values.max()) < 2**31:
        raise ReaderError(f"label map {str(file)!r} holds numbers beyond 32 bits")
    return np.ascontiguousarray(values, dtype=np.int32)
