"""Stored responses: written in whole chunks of whole base samples, with the presentation table beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.design.pick_freeze import Presentations
from neuroprobe.design.repeated import BLANK
from neuroprobe.errors import StoreError
from neuroprobe.store import quiet_zarr, readable

ImageColumns = Mapping[str, Sequence[str] | NDArray[np.float64]]


class ResponseWriter:
    """Writes the responses of a run block by block.

    Parameters
    ----------
    path : Path
        Of the store.
    layers : dict
        Layer → (dims, shape, coords) of one response.
    n_presentations : int
        Rows of the whole run.
    chunk : int
        Rows of a chunk; whole base samples.
    piece : int
        Rows that are written at a time to the presentation table, a multiple of `chunk`.
    units : dict of str
        Units of the columns of the presentation table.
    attrs : dict of dicts, optional
        Layer → what else its responses' attributes say.
    """

    def __init__(
        self,
        path: Path,
        layers: Mapping[str, tuple[Sequence[str], Sequence[int], Mapping[str, Any]]],
        n_presentations: int,
        chunk: int,
        piece: int,
        units: Mapping[str, str],
        attrs: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.path, self.layers, self.units, self.attrs = path, layers, units, attrs or {}
        self.n, self.chunk, self.piece = n_presentations, chunk, piece
        if piece % chunk:
            raise StoreError(f"chunks of {chunk} rows do not fill a piece of {piece}: they could not be written whole")
        self._waiting: dict[str, list[NDArray[np.float32]]] = {}
        self._written: dict[str, int] = {}
        self._arrays: dict[str, Any] = {}

    def create(self, presentations: Presentations, images: ImageColumns) -> None:
        """Make all arrays, or lengthen them, before several writers fill them; `presentations` are any of the run."""
        for name, column in table_columns(presentations, images).items():
            self._column(name, column)
        for layer in self.layers:
            self._write_coords(layer)
            self._responses(layer)

    def write_table(self, start: int, presentations: Presentations, images: ImageColumns) -> None:
        """Write the presentation table of a piece that starts at row `start`."""
        for name, column in table_columns(presentations, images).items():
            array = self._column(name, column)
            array[start : start + len(column)] = column

    def begin_block(self, start: int) -> None:
        """Start a block at row `start`."""
        self._waiting = {layer: [] for layer in self.layers}
        self._written = dict.fromkeys(self.layers, start)

    def add(self, layer: str, responses: NDArray[np.float32]) -> None:
        """Add the responses of whole base samples (rows, …), in order; chunks are written as they fill."""
        waiting = self._waiting[layer]
        waiting.append(responses)
        if sum(map(len, waiting)) < self.chunk:
            return
        rows = np.concatenate(waiting)
        self._write(layer, rows, len(rows) // self.chunk * self.chunk)

    def _write(self, layer: str, rows: NDArray[np.float32], n_whole: int) -> None:
        _, shape, _ = self.layers[layer]
        self._write_coords(layer)
        start = self._written[layer]
        self._responses(layer)[start : start + n_whole] = rows[:n_whole].reshape(n_whole, *shape)
        self._written[layer] = start + n_whole
        self._waiting[layer] = [rows[n_whole:]]

    def end_block(self) -> None:
        """Check that every chunk of the block is on disk; the last one of all may be shorter."""
        for layer, waiting in self._waiting.items():
            if waiting and self._written[layer] + sum(map(len, waiting)) == self.n:
                rows = np.concatenate(waiting)
                self._write(layer, rows, len(rows))
        left = {layer: sum(map(len, rows)) for layer, rows in self._waiting.items() if sum(map(len, rows))}
        if left:
            raise StoreError(f"rows that do not fill a chunk are left over: {left}")

    def _column(self, name: str, column: NDArray[Any]) -> Any:
        dtype = str if column.dtype == object else column.dtype.type
        return self._array(name, (self.n,), (self.piece,), (names.PRESENTATION,), dtype)

    def _responses(self, layer: str) -> Any:
        dims, shape, _ = self.layers[layer]
        name = f"{names.RESPONSES}/{layer}/{names.RESPONSE}"
        return self._array(name, (self.n, *shape), (self.chunk, *shape), (names.PRESENTATION, *dims), np.float32)

    def _array(
        self, name: str, shape: tuple[int, ...], chunks: tuple[int, ...], dims: tuple[str, ...], dtype: Any
    ) -> Any:
        """Open, lengthen or create an array."""
        if name in self._arrays:
            return self._arrays[name]
        import zarr
        from zarr.codecs import BloscCodec

        with readable(self.path), quiet_zarr():
            root = zarr.open_group(self.path, mode="a", zarr_format=3)
            if name in root:
                array: Any = root[name]
                if array.shape[0] < shape[0]:
                    array.resize(shape)
            else:
                options: dict[str, Any] = {}
                if dtype is np.float32:
                    options["compressors"] = BloscCodec(cname="lz4", shuffle="bitshuffle")
                if dtype in {np.float32, np.float64}:
                    options["fill_value"] = np.nan
                array = root.create_array(
                    name,
                    shape=shape,
                    chunks=chunks,
                    dtype=dtype,
                    dimension_names=dims,
                    attributes=self._attrs(name),
                    **options,
                )
        self._arrays[name] = array
        return array

    def _attrs(self, name: str) -> dict[str, Any]:
        group, _, column = name.rpartition("/")
        if column == names.RESPONSE:
            own = self.attrs.get(group.removeprefix(f"{names.RESPONSES}/"), {})
            return {"long_name": "response of the unit", "units": "response units", **own}
        return {"units": self.units[column]} if column in self.units else {}

    def _write_coords(self, layer: str) -> None:
        for dim, values in self.layers[layer][2].items():
            array = self._array(f"{names.RESPONSES}/{layer}/{dim}", (len(values),), (len(values),), (dim,), np.int64)
            array[:] = np.asarray(values)


def table_columns(presentations: Presentations, images: ImageColumns) -> dict[str, NDArray[Any]]:
    """Columns of the presentation table, one value per row of the design, in order.

    Parameters
    ----------
    images : dict
        Column → what it says of each image: text, or numbers.
    """
    n, n_rows = presentations.image.shape
    image = presentations.image.ravel()
    sample = np.repeat(presentations.sample, n_rows)
    role = np.array(presentations.roles, dtype=object)
    shown_as = role[presentations.source.ravel()]
    columns: dict[str, NDArray[Any]] = {
        names.SAMPLE: sample.astype(np.int64),
        names.ROLE: np.tile(role, n),
        names.DESIGN: np.full(n * n_rows, presentations.design, dtype=object),
        names.STIMULUS_ID: np.array([f"{s}_{r}" for s, r in zip(sample, shown_as, strict=True)], dtype=object),
    }
    if presentations.design == names.TREATMENT_CONTROL:
        arm = np.where(role == names.CONTROL, names.CONTROL, names.TREATMENT).astype(object)
        columns[names.ARM] = np.tile(arm, n)
    for name, of_images in images.items():
        columns[name] = _of_rows(of_images, image, names.BLANK if name == names.IMAGE_ID else "")
    if presentations.design == names.REPEATED:
        # the images are the stimuli
        columns[names.STIMULUS_ID] = columns[names.IMAGE_ID]
        columns[names.CONTROL_KIND] = np.where(image == BLANK, names.BLANK, "").astype(object)
        columns[names.ARM] = np.where(image == BLANK, names.CONTROL, names.TREATMENT).astype(object)
    for name, value in presentations.values.items():
        if name != names.IMAGE:
            is_whole = name in (names.ORDER, names.REPETITION) or name.endswith(names.switch(""))
            columns[name] = value.ravel().astype(np.int64 if is_whole else np.float64)
    return columns


def _of_rows(of_images: Sequence[str] | NDArray[np.float64], image: NDArray[np.int64], blank: str) -> NDArray[Any]:
    """What is said of the image of each row; of blanks NaN, or `blank`."""
    is_number = isinstance(of_images, np.ndarray)
    column = np.asarray(of_images, dtype=np.float64 if is_number else object)[image]
    nothing: Any = np.nan if is_number else blank
    column[image == BLANK] = nothing
    return column
