"""Differences between treated and control, kept on disk while a run goes on, for tests that rank them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from neuroprobe.analysis.contrast import ContrastAnalysis
from neuroprobe.disk import make_folder, no_room_explained
from neuroprobe.errors import StoreError
from neuroprobe.journal import RUN_FOLDER
from neuroprobe.statistics.paired import signed_ranks

if TYPE_CHECKING:
    from neuroprobe.rig import Rig

PIECE_BYTES: Final = 64 << 20  # differences that are in memory at a time
BYTES_OF_ONE: Final = 4


class DifferenceFile:
    """The differences of one layer, image by image: float32 (images, alterations, units).

    Each image has its place, so that writing it again, by a run that goes on where another was interrupted, changes
    nothing; and a run of more images makes the file longer.

    Parameters
    ----------
    path : Path
        Made when the first image is written.
    n_factors, n_units : int
    """

    def __init__(self, path: Path, n_factors: int, n_units: int) -> None:
        self.path, self.n_factors, self.n_units = path, n_factors, n_units

    def write(self, start: int, differences: NDArray[np.float32]) -> None:
        """Write the differences (images, alterations, units) of consecutive images from `start`."""
        make_folder(self.path.parent, self.path)
        with (
            no_room_explained(self.path),
            os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666), "r+b", 0) as file,
        ):
            file.seek(start * self.bytes_per_image)
            left = np.ascontiguousarray(differences, np.float32).data.cast("B")
            while left:
                left = left[file.write(left) :]

    def sync(self) -> None:
        """Make what is written last through a loss of power."""
        with no_room_explained(self.path), self.path.open("r+b") as file:
            os.fsync(file.fileno())

    @property
    def bytes_per_image(self) -> int:
        """Bytes of the differences of an image."""
        return BYTES_OF_ONE * self.n_factors * self.n_units

    def ranked(self, n_images: int) -> dict[str, NDArray[np.float64]]:
        """Rank the differences of the first images, some units at a time.

        Returns
        -------
        dict of arrays (alterations, units)
            As `neuroprobe.statistics.paired.signed_ranks` gives them for each alteration.

        Raises
        ------
        StoreError
            If the file does not hold these images.
        """
        result: dict[str, NDArray[np.float64]] = {}
        shape = (self.n_factors, self.n_units)
        for factor, units, d in self._pieces(n_images):
            for name, values in signed_ranks(d).items():
                result.setdefault(name, np.empty(shape))[factor, units] = values
        return result

    def _pieces(self, n_images: int) -> Iterator[tuple[int, slice, NDArray[np.float32]]]:
        """Differences (images, some units) of one alteration after the other."""
        held = self.path.stat().st_size if self.path.exists() else 0
        if held < n_images * self.bytes_per_image:
            raise StoreError(
                f"{str(self.path)!r} holds {held:,} bytes, expected the differences of {n_images:,} images in "
                f"{n_images * self.bytes_per_image:,}: it was damaged; delete the store by --overwrite"
            )
        whole = np.memmap(self.path, np.float32, "r", shape=(n_images, self.n_factors, self.n_units))
        width = units_at_a_time(n_images)
        for factor in range(self.n_factors):
            for start in range(0, self.n_units, width):
                units = slice(start, start + width)
                yield factor, units, np.array(whole[:, factor, units])


def difference_files(path: Path, rig: Rig) -> dict[str, DifferenceFile]:
    """Files of the layers of a run into a store that are ranked."""
    return {
        site.name: DifferenceFile(path / RUN_FOLDER / "differences" / str(number), len(analysis.factors), site.n_units)
        for analysis in rig.analyses
        if isinstance(analysis, ContrastAnalysis)
        for number, site in enumerate(rig.sites)
        if site.name in analysis.ranks
    }


def units_at_a_time(n_images: int) -> int:
    """Units whose differences are ranked together."""
    return max(1, PIECE_BYTES // (BYTES_OF_ONE * n_images))
