"""Open a recording of any format: find its reader, check what the caller chose, check what comes out."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from neuroprobe import names
from neuroprobe.errors import ReaderError, RegistryError, closest
from neuroprobe.recordings.contract import MEASURES, READERS, Choices, Window, check_recording
from neuroprobe.recordings.rdms import HDF5
from neuroprobe.recordings.stimulus_sets import StimulusSet, join_stimuli, read_stimuli

if TYPE_CHECKING:
    import xarray as xr

OWN: Final = "neuroprobe"  # the reader of our own formats
HASHED_BYTES: Final = 1 << 30  # a longer file's hash would take longer than reading what is wanted of it


def read_recording(
    path: str | os.PathLike[str] | Any,
    *,
    format: str | None = None,  # noqa: A002
    trials: Any = None,
    window: Window | str | None = None,
    baseline: Window | None = None,
    factors: Sequence[str] | str | None = None,
    units: Sequence[str] | str | None = None,
    region: Sequence[str] | str | None = None,
    bins: float | Sequence[float] | None = None,
    measure: str | None = None,
    stimuli: str | os.PathLike[str] | None = None,
    **options: Any,
) -> xr.DataTree:
    """Read a biological recording into what a network's recording is.

    Parameters
    ----------
    path : path or object
        A file or folder; or spikes that another library has read (pynapple, spikeinterface, neo).
    format : str, optional
        Name of the reader; by default the first that knows the file by its name or its first bytes.
    trials : str, mapping or path, optional
        The table of presentations: its name in the file, a table of its own (CSV, TSV, Parquet), or its columns.
    window : (float, float) or ``"interval"``, optional
        s after the start of each presentation, [start, stop), in which spikes are counted; or each presentation's own
        interval.
    baseline : (float, float), optional
        s, likewise; gives ``baseline(presentation, unit)`` beside the response.
    factors : sequence of str, optional
        Columns that the experimenter varied; they are named in the attribute ``factors``.
    units : sequence of str, optional
        Identifiers of the units that are wanted, ``*`` for any characters.
    region : sequence of str, optional
        Regions that are wanted.
    bins : float or sequence of float, optional
        Width of bins of time in s within the window, or their edges after the start: adds ``time_bin``.
    measure : {"count", "rate"}, optional
        Spikes, or spikes per second; counts by default.
    stimuli : path, optional
        Folder that ``neuroprobe stimuli`` wrote, of the stimuli that were shown: its columns join the table of
        presentations, by ``stimulus_id`` where the recording has one, and else by the order of presentation.
    **options
        What the reader of the format documents.

    Returns
    -------
    xarray.DataTree
        The presentation table at the root and ``/responses/<node>`` with ``response(presentation, unit[, time_bin])``;
        units of separate sessions have one node, and one table, per session. See `check_recording`.

    Raises
    ------
    ReaderError
        If the file cannot be read, or a choice is missing or wrong: it lists what the file holds. If the stimuli are
        not those that were shown, or not as they were written, by their hashes.
    """
    given, shown = _several(factors), None if stimuli is None else read_stimuli(Path(stimuli))
    choices = Choices(
        trials=trials,
        window=window if window is None or isinstance(window, str) else _window("window", window),
        baseline=None if baseline is None else _window("baseline", baseline),
        factors=given if shown is None else _of_recording(given, shown),
        units=_several(units),
        region=_several(region),
        bins=bins,
        measure=measure,
        options={name: value for name, value in options.items() if value is not None},
    )
    if measure is not None and measure not in MEASURES:
        raise ReaderError(f"measure is {' or '.join(MEASURES)}, received {measure!r}{closest(measure, MEASURES)}")
    if isinstance(path, str | os.PathLike):
        path = Path(path)
        if not path.exists():
            raise ReaderError(f"{str(path)!r}: no such file or folder")
    name = _format(path) if format is None else format
    reader = READERS[name]
    reader.require_known(name, choices)
    tree = reader.read(path, choices)
    # a recording in our own formats knows where it comes from
    tree.attrs = {**_attrs(path, name, choices, shown), **tree.attrs}
    if shown is not None:
        tree = join_stimuli(tree, shown, given)
    check_recording(tree)
    return tree


def _of_recording(factors: tuple[str, ...] | None, stimuli: StimulusSet) -> tuple[str, ...] | None:
    """Factors that are columns of the recording itself."""
    own = [name for name in factors or () if name == names.STIMULUS_ID or name not in stimuli.table.columns]
    return tuple(own) or None


def _window(what: str, given: Any) -> Window:
    try:
        start, stop = (float(end) for end in given)
    except (TypeError, ValueError):
        raise ReaderError(f"{what} is two numbers in s, (start, stop), received {given!r}") from None
    if not start < stop:
        raise ReaderError(f"{what} starts before it stops, received ({start:g}, {stop:g})")
    return start, stop


def _several(given: Sequence[str] | str | None) -> tuple[str, ...] | None:
    return None if given is None else (given,) if isinstance(given, str) else tuple(str(one) for one in given)


def _format(path: Any) -> str:
    # our own netCDF files are no assemblies of others
    for name in sorted(READERS, key=lambda one: one != OWN):
        try:
            if READERS[name].claims(path):
                return name
        except RegistryError:
            continue  # a package that does not import is reported where its format is named
    if isinstance(path, Path) and path.suffix.lower() in (".npz", ".npy", *HDF5):
        raise ReaderError(
            f"{str(path)!r}: no reader knows this; dissimilarities alone are read by "
            "`neuroprobe.recordings.read_rdms`, and a matrix of responses beside a table by `responses=`"
        )
    what = repr(str(path)) if isinstance(path, Path) else f"an object of type {type(path).__name__}"
    known = "\n".join(f"  {name}: {READERS[name].summary}" for name in READERS)
    raise ReaderError(f"{what}: no reader knows this; say which by `format`:\n{known}")


def _attrs(path: Any, name: str, choices: Choices, stimuli: StimulusSet | None) -> dict[str, Any]:
    source = str(path) if isinstance(path, Path) else f"{type(path).__module__}.{type(path).__qualname__}"
    details = {
        "source": source,
        "sha256": _sha256(path),
        "format": name,
        "stimuli": None if stimuli is None else {"source": str(stimuli.path), "sha256": stimuli.sha256},
        "choices": {choice: _told(value) for choice, value in choices.given().items()},
        "versions": {package: version(package) for package in ("neuroprobe", "numpy", "xarray")},
    }
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {
        "Conventions": names.CONVENTIONS,
        "history": f"{now} neuroprobe {version('neuroprobe')}: read from {source}",
        names.PROVENANCE: json.dumps(details),
    }


def _told(value: Any) -> Any:
    """Return a choice as JSON can hold it."""
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return str(value) if isinstance(value, Path) else f"<{type(value).__qualname__}>"
    return value


def _sha256(path: Any) -> str:
    if not isinstance(path, Path) or not path.is_file() or path.stat().st_size > HASHED_BYTES:
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
