"""Stimuli for an experimenter's rig: the images of a protocol, the order in which they are shown, and their hashes."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from neuroprobe import names
from neuroprobe.design.repeated import BLANK, Repeated
from neuroprobe.design_export import DesignStimuli, design_stimuli
from neuroprobe.disk import make_folder, no_room_explained
from neuroprobe.errors import PlanError, StoreError
from neuroprobe.protocol.animal import AnimalProtocol, AnyProtocol
from neuroprobe.protocol.digest import as_given, protocol_hash
from neuroprobe.protocol.images import Generated
from neuroprobe.protocol.schema import Protocol
from neuroprobe.recordings.columns import Table
from neuroprobe.recordings.stimulus_sets import (
    DETAILS,
    FORMAT,
    IMAGES,
    TABLE,
    TEMPLATE,
    file_hash,
    images_hash,
    set_hash,
    short,
)
from neuroprobe.responses import table_columns
from neuroprobe.stimuli.images import ImageSet
from neuroprobe.stimuli.opening import open_images
from neuroprobe.subjects.networks import find_network

if TYPE_CHECKING:
    from torch import Tensor

LEVELS: Final = 255
ROUNDING: Final = "each channel is written as the nearest of 256 levels, halves to the even one: 0.5 as 128"
LONGEST: Final = 80  # characters of a name that a file has
N_TOGETHER: Final = 16  # images that are in memory
PACKAGES: Final = ("neuroprobe", "numpy", "torch", "pillow")
LEFT_OUT: Final = (names.DESIGN, names.ROLE, names.SAMPLE, names.IMAGE_ID, names.ARM)  # of the table of a run


def write_stimuli(
    protocol: AnyProtocol, out: str | os.PathLike[str], *, repeats: int | None = None, overwrite: bool = False
) -> dict[str, Any]:
    """Write the images of a protocol and their presentations, so that exactly these can be shown to an animal.

    Parameters
    ----------
    protocol : Protocol
        One that presents images as they are (``analyses: []``); or of Sobol indices and Shapley effects, of which every
        row of the design becomes a stimulus.
    out : path
        Folder that is made: ``images/*.png`` (lossless, 8 bits), ``presentations.csv`` in the order of presentation,
        ``presentations.json`` (screen, rounding, seed, versions, SHA-256 of each image and of all), and, where h5py is
        there, ``presentations.nwb``, a table of trials whose times are to be filled in.
    repeats : int, optional
        Presentations of each row of a design, 2 by default; of images as they are the protocol tells (``repeats``).
    overwrite : bool
        Whether a set at `out` is replaced.

    Returns
    -------
    dict
        What ``presentations.json`` says.

    Raises
    ------
    PlanError
        If the protocol shows alterations alone, or under masks.
    StoreError
        If the folder is there, or cannot be made.

    Notes
    -----
    The folder appears when it is whole. `neuroprobe.read_recording` takes it as ``stimuli``.
    """
    path = Path(out)
    _require_free(path, overwrite)
    if isinstance(protocol, AnimalProtocol):
        raise PlanError("subject: a recording that is made was shown its stimuli already; give a protocol of a network")
    if protocol.presents and repeats is not None:
        raise PlanError("repeats: images as they are are presented as often as the protocol says (`stimuli: repeats`)")
    with protocol.places.told():
        shown = _as_they_are(protocol) if protocol.presents else design_stimuli(protocol, repeats)
    make_folder(path.absolute().parent, path)
    staging = path.with_name(f"{path.name}.tmp")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        with no_room_explained(path):
            details = _write(staging, protocol, shown)
            _rename(staging, path)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return details


def _require_free(path: Path, overwrite: bool) -> None:
    if not path.exists():
        return
    is_set = (path / DETAILS).is_file()
    if not (overwrite and is_set):
        hint = "replace it by --overwrite" if is_set else "it is no set of stimuli: choose another path"
        raise StoreError(f"{str(path)!r} is there already; {hint}")


def _rename(staging: Path, path: Path) -> None:
    """Give a whole set its name."""
    old = path.with_name(f"{path.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if path.exists():
        os.replace(path, old)
    os.replace(staging, path)
    shutil.rmtree(old, ignore_errors=True)


@dataclass(frozen=True)
class Shown:
    """Images that are presented as they are, and blanks."""

    images: ImageSet
    order: Repeated

    @property
    def ids(self) -> tuple[str, ...]:
        """Names of the stimuli."""
        return (*self.images.ids, *([names.BLANK] if self.order.blanks else []))

    @property
    def pictures(self) -> dict[str, str]:
        """Stimulus → the one that shows the same picture."""
        return {name: name for name in self.ids}

    @property
    def factors(self) -> list[str]:
        """Columns that were varied."""
        return list(self.images.factors)

    @property
    def design(self) -> dict[str, Any]:
        """Nothing: stimuli are shown for their own sake."""
        return {}

    def load(self, ids: Sequence[str]) -> Tensor:
        """Images (n, 3, height, width) in [0, 1]."""
        place = {name: number for number, name in enumerate(self.images.ids)} | {names.BLANK: BLANK}
        return self.images.load([place[name] for name in ids])

    def table(self) -> Table:
        """One row per presentation, in order."""
        columns = table_columns(self.order.presentations(0, self.order.n_presentations), self.images.columns)
        return Table(
            {name: column for name, column in columns.items() if name not in LEFT_OUT}, dict(self.images.units)
        )


def _as_they_are(protocol: Protocol) -> Shown:
    declared = find_network(protocol.subject.network).preprocessing.framing
    images, spec = open_images(protocol.stimuli, protocol.seed, declared), protocol.stimuli
    return Shown(images, Repeated(protocol.seed, len(images), spec.repeats, spec.blanks, spec.order == "random"))


def _write(folder: Path, protocol: Protocol, shown: Shown | DesignStimuli) -> dict[str, Any]:
    (folder / IMAGES).mkdir(parents=True)
    own = _file_names(list(dict.fromkeys(shown.pictures.values())))
    files = {name: own[picture] for name, picture in shown.pictures.items()}
    of_files, size = _write_images(folder, shown, own)
    hashes = {name: of_files[picture] for name, picture in shown.pictures.items()}
    of_images = images_hash(hashes)
    table = _table(shown, files, of_images)
    text = [name for name, column in table.columns.items() if column.dtype == object]
    (folder / TABLE).write_text(_as_csv(table), encoding="utf-8", newline="")
    of_table = file_hash(folder / TABLE)
    details: dict[str, Any] = {
        "neuroprobe_stimulus_set": FORMAT,
        "title": protocol.title,
        "seed": protocol.seed,
        "screen": _screen(protocol, size),
        "rounding": ROUNDING,
        "factors": shown.factors,
        **({"design": shown.design} if shown.design else {}),
        "units": {name: units for name, units in table.units.items() if name in table.columns},
        "text": text,
        "n_presentations": len(table),
        "images": {name: {names.FILE: files[name], "sha256": digest} for name, digest in hashes.items()},
        "images_sha256": of_images,
        "table_sha256": of_table,
        "sha256": set_hash(of_images, of_table),
        "protocol": as_given(protocol),
        "protocol_hash": protocol_hash(protocol),
        "versions": {package: version(package) for package in PACKAGES},
    }
    (folder / DETAILS).write_text(json.dumps(details, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if find_spec("h5py") is not None:
        from neuroprobe.recordings.nwb_writer import write_template

        write_template(folder / TEMPLATE, table, details["sha256"], protocol.title or "stimuli written by neuroprobe")
    return details


def _file_names(ids: Sequence[str]) -> dict[str, str]:
    """Stimulus → its file, named as it is, without what names of files cannot hold."""
    plain = [re.sub(r"[^A-Za-z0-9._-]", "_", name.removesuffix(".png"))[:LONGEST].lstrip(".") for name in ids]
    # file systems that do not tell A from a
    taken = [name.lower() for name in plain]
    if len(set(taken)) < len(taken) or not all(plain):
        width = len(str(len(ids) - 1))
        plain = [f"{number:0{width}}_{name}" for number, name in enumerate(plain)]
    return {name: f"{IMAGES}/{file}.png" for name, file in zip(ids, plain, strict=True)}


def _write_images(
    folder: Path, shown: Shown | DesignStimuli, files: Mapping[str, str]
) -> tuple[dict[str, str], tuple[int, int]]:
    """Write each picture, and return the hashes of their files, and their height and width."""
    ids = list(files)
    hashes, size = {}, (0, 0)
    for start in range(0, len(ids), N_TOGETHER):
        part = ids[start : start + N_TOGETHER]
        pixels = (shown.load(part) * LEVELS).round().byte().permute(0, 2, 3, 1).numpy()
        size = pixels.shape[1], pixels.shape[2]
        for name, picture in zip(part, pixels, strict=True):
            path = folder / files[name]
            Image.fromarray(picture).save(path, format="PNG", optimize=False)
            hashes[name] = file_hash(path)
    return hashes, size


def _table(shown: Shown | DesignStimuli, files: Mapping[str, str], of_images: str) -> Table:
    """One row per presentation, in order; columns without any value are left out."""
    made = shown.table()
    ids = made.columns[names.STIMULUS_ID]
    kept: dict[str, NDArray[Any]] = {
        names.PRESENTATION: np.arange(len(ids)),
        names.STIMULUS_ID: ids,
        names.FILE: np.array([files[name] for name in ids], dtype=object),
        names.REPETITION: made.columns[names.REPETITION],
    }
    for name in (names.CONTROL_KIND, *made.columns):
        column = made.columns.get(name, np.full(0, np.nan))
        says_nothing = column.dtype.kind == "f" and np.isnan(column).all()
        if name not in kept and not says_nothing:
            kept[name] = column
    kept[names.STIMULUS_SET] = np.full(len(ids), short(of_images), dtype=object)
    return Table(kept, {name: units for name, units in made.units.items() if name in kept})


def _as_csv(table: Table) -> str:
    """Write a table with all digits; NaN as an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows(
        zip(*([_cell(value) for value in column.tolist()] for column in table.columns.values()), strict=True)
    )
    return text.getvalue()


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if value != value else repr(value)
    return str(value)


def _screen(protocol: Protocol, size: tuple[int, int]) -> dict[str, Any]:
    """Size of images in px, and in degrees where it is known."""
    height, width = size
    screen: dict[str, Any] = {"height_px": height, "width_px": width, "background": 0.5}
    degrees = {one.degrees for one in protocol.stimuli.sources if isinstance(one, Generated)}
    if len(degrees) == 1 and None not in degrees:
        (shorter,) = degrees
        screen["degrees_of_shorter_side"] = shorter
    return screen
