"""Representational dissimilarity matrices, where a recording's responses are not there any more."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.errors import ReaderError, reason, unknown_name
from neuroprobe.recordings.columns import listed, plain

Array = NDArray[np.float64]
KINDS: Final = ("dissimilarity", "similarity")
ROUNDING: Final = 1e-6  # of the largest entry: how far a matrix may be from symmetric, its diagonal from one value
HDF5: Final = {".h5", ".hdf5", ".hdf"}
SUFFIXES: Final = {".npz", ".npy", ".mat", *HDF5}


def read_rdms(
    path: str | os.PathLike[str],
    *,
    variable: str | None = None,
    kind: str | None = None,
    labels: Sequence[str] | None = None,
) -> xr.Dataset:
    """Read representational dissimilarity matrices.

    Parameters
    ----------
    path : path
        ``.npz`` or ``.npy``, MATLAB ``.mat`` (arrays, or structs with a field ``RDM``), or HDF5 of rsatoolbox.
    variable : str, optional
        Which one of several in the file.
    kind : {"dissimilarity", "similarity"}, optional
        What the numbers are; a similarity s is turned into 1 − s. By default what a constant diagonal tells: 0 or 1;
        pairs alone are taken for dissimilarities.
    labels : sequence of str, optional
        Of the conditions, in the order of rows; by default what the file says, or their numbers.

    Returns
    -------
    xarray.Dataset
        ``rdm(subject, pair)``: one row per matrix, the pairs above the diagonal row by row, with coordinates
        ``stimulus_1`` and ``stimulus_2`` on ``pair`` and the name of each matrix on ``subject``.

    Raises
    ------
    ReaderError
        If there is no such matrix, it is not square and symmetric, or it is unclear what its numbers are.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "rdms.npy"
    >>> np.save(file, np.array([[0.0, 0.2, 0.9], [0.2, 0.0, 0.7], [0.9, 0.7, 0.0]]))
    >>> read_rdms(file).rdm.values
    array([[0.2, 0.9, 0.7]])
    """
    path = Path(path)
    if not path.is_file():
        raise ReaderError(f"{str(path)!r}: no such file")
    if kind is not None and kind not in KINDS:
        raise ReaderError(unknown_name("kind of matrix", kind, KINDS))
    values, subjects, told = _read(path, variable)
    pairs, n, similar = _pairs(path, values, kind)
    conditions = list(labels) if labels is not None else told or [str(number) for number in range(n)]
    if len(conditions) != n:
        raise ReaderError(f"{str(path)!r}: {len(conditions)} labels of conditions, the matrices have {n}")
    first, second = np.triu_indices(n, 1)
    text = plain(conditions)
    name = "1 − similarity" if similar else "dissimilarity"
    return xr.Dataset(
        {names.RDM: ((names.SUBJECT, names.PAIR), pairs, {"long_name": name, "source": path.name})},
        coords={
            names.SUBJECT: (names.SUBJECT, plain(subjects)),
            names.STIMULUS_1: (names.PAIR, text[first]),
            names.STIMULUS_2: (names.PAIR, text[second]),
        },
        attrs={"Conventions": names.CONVENTIONS, "n_conditions": n},
    )


def _read(path: Path, variable: str | None) -> tuple[Any, list[str], list[str]]:
    """Matrices or pairs of each subject, names of subjects, labels of conditions where they are told."""
    suffix = path.suffix.lower()
    if suffix in HDF5:
        return _rsatoolbox(path)
    if suffix == ".mat":
        return _matlab(path, variable)
    if suffix not in (".npz", ".npy"):
        raise ReaderError(f"{str(path)!r}: matrices are read from .npz, .npy, .mat, {', '.join(sorted(HDF5))}")
    try:
        with np.load(path, allow_pickle=False) if suffix == ".npz" else _Alone(path) as arrays:
            held = {name: arrays[name] for name in arrays}
    except (ValueError, OSError, EOFError) as error:
        raise ReaderError(f"{str(path)!r}: not arrays that can be read: {reason(error)}") from error
    values = held[_one_of(path, held, variable)]
    return _stacked(path, values)


class _Alone(dict[str, Any]):
    """The one array of a file, as a file of several gives them."""

    def __init__(self, path: Path) -> None:
        super().__init__({path.stem: np.load(path, allow_pickle=False)})

    def __enter__(self) -> _Alone:
        return self

    def __exit__(self, *_: object) -> None:
        return None


def _one_of(path: Path, held: Mapping[str, Any], variable: str | None) -> str:
    """Name of the variable that is asked for, or of the only one that holds numbers."""
    fit = [name for name, value in held.items() if value.dtype.names or (value.dtype.kind in "iuf" and value.ndim >= 1)]
    if variable is not None:
        if variable not in held:
            raise ReaderError(f"{str(path)!r}: {unknown_name('variable', variable, list(held))}")
        return variable
    named = [name for name in fit if "rdm" in name.lower()] if len(fit) > 1 else fit
    if len(named) != 1:
        shapes = listed(f"{name} {held[name].shape}" for name in fit)
        raise ReaderError(f"{str(path)!r}: which variable? Say `variable`; it holds {shapes}")
    return named[0]


def _stacked(path: Path, values: Any) -> tuple[Any, list[str], list[str]]:
    if values.dtype.kind not in "iuf":
        raise ReaderError(f"{str(path)!r}: matrices of {values.dtype}, expected numbers")
    is_matrix = values.ndim >= 2 and values.shape[-1] == values.shape[-2] > 1
    shape = values.shape[-2:] if is_matrix else values.shape[-1:]
    values = values.reshape(-1, *shape)
    return values, [str(number) for number in range(1, len(values) + 1)], []


def _matlab(path: Path, variable: str | None) -> tuple[Any, list[str], list[str]]:
    from scipy.io import loadmat

    try:
        held = {name: value for name, value in loadmat(path).items() if not name.startswith("__")}
    except NotImplementedError:
        raise ReaderError(f"{str(path)!r} is of MATLAB 7.3: save it with `-v7`, which this reads") from None
    except Exception as error:  # scipy meets a damaged file with errors of many kinds
        raise ReaderError(f"{str(path)!r}: not a MATLAB file that can be read: {reason(error)}") from error
    with_field = {name: value for name, value in held.items() if value.dtype.names and "RDM" in value.dtype.names}
    name = variable if variable is not None else next(iter(with_field)) if len(with_field) == 1 else None
    name = _one_of(path, held, name)
    found = held[name]
    if not found.dtype.names:
        # MATLAB has the subjects last
        if found.ndim == 3 and found.shape[0] == found.shape[1]:
            found = np.moveaxis(found, -1, 0)
        return _stacked(path, found)
    if "RDM" not in found.dtype.names:
        raise ReaderError(f"{str(path)!r}: {name} has no field 'RDM', only {listed(found.dtype.names)}")
    matrices = [np.squeeze(one["RDM"]) for one in found.ravel()]
    if len({matrix.shape for matrix in matrices}) > 1:
        raise ReaderError(f"{str(path)!r}: {name} has matrices of several sizes: {[one.shape for one in matrices]}")
    has_name = "name" in found.dtype.names
    subjects = [
        str(np.squeeze(one["name"])) if has_name and np.size(one["name"]) else str(number)
        for number, one in enumerate(found.ravel(), start=1)
    ]
    return np.stack(matrices), subjects, []


def _rsatoolbox(path: Path) -> tuple[Any, list[str], list[str]]:
    try:
        import h5py
    except ImportError:
        raise ReaderError(f"{str(path)!r}: HDF5 needs another package: pip install 'neuroprobe[nwb]'") from None
    try:
        with h5py.File(path, "r") as file:
            if "dissimilarities" not in file:
                raise ReaderError(f"{str(path)!r}: no 'dissimilarities', as rsatoolbox writes; it holds {listed(file)}")
            values = np.asarray(file["dissimilarities"][()], dtype=np.float64)
            subjects = _descriptor(file, "rdm_descriptors", len(values), ("name", "subject", "session", "index"))
            n = _n_conditions(path, values.shape[-1])
            conditions = _descriptor(file, "pattern_descriptors", n, ("stimulus_id", "conds", "stim", "name", "index"))
    except OSError as error:
        raise ReaderError(f"{str(path)!r}: not an HDF5 file that can be read: {reason(error)}") from error
    return values, subjects or [str(number) for number in range(1, len(values) + 1)], conditions


def _descriptor(file: Any, group: str, n: int, preferred: Sequence[str]) -> list[str]:
    """Text of the descriptor with one value per row: a preferred one, or the first; empty where there is none."""
    held = file.get(group, {})
    fit = [name for name in held if getattr(held[name], "shape", None) == (n,)]
    ordered = [name for name in preferred if name in fit] + [name for name in fit if name not in preferred]
    return [str(one) for one in plain(held[ordered[0]][()])] if ordered else []


def _n_conditions(path: Path, n_pairs: int) -> int:
    n = round((1 + np.sqrt(1 + 8 * n_pairs)) / 2)
    if n * (n - 1) // 2 != n_pairs:
        raise ReaderError(f"{str(path)!r}: {n_pairs} numbers are not the pairs of any number of conditions")
    return int(n)


def _pairs(path: Path, values: Any, kind: str | None) -> tuple[Array, int, bool]:
    """Dissimilarities (subjects, pairs), the number of conditions, whether they were similarities."""
    values = np.asarray(values, dtype=np.float64)
    if values.ndim == 2:
        n = _n_conditions(path, values.shape[1])
        similar = kind == "similarity"
        return (1 - values if similar else values), n, similar
    n = values.shape[1]
    scale = np.nanmax(np.abs(values), initial=0)
    transposed = np.swapaxes(values, 1, 2)
    lopsided = ~np.isclose(values, transposed, rtol=0, atol=ROUNDING * scale, equal_nan=True).all(axis=(1, 2))
    if lopsided.any():
        raise ReaderError(f"{str(path)!r}: matrix {np.flatnonzero(lopsided)[0] + 1} is not symmetric")
    diagonal = np.diagonal(values, axis1=1, axis2=2)
    if kind is None:
        kind = _kind(path, diagonal[np.isfinite(diagonal)], scale)
    first, second = np.triu_indices(n, 1)
    pairs = values[:, first, second]
    return (1 - pairs if kind == "similarity" else pairs), n, kind == "similarity"


def _kind(path: Path, diagonal: Array, scale: float) -> str:
    for value, kind in ((0.0, "dissimilarity"), (1.0, "similarity")):
        if np.allclose(diagonal, value, rtol=0, atol=ROUNDING * max(scale, 1.0)):
            return kind
    raise ReaderError(
        f"{str(path)!r}: the diagonal is from {diagonal.min():g} to {diagonal.max():g}: neither 0, as of "
        "dissimilarities, nor 1, as of similarities; say which by `kind`"
    )
