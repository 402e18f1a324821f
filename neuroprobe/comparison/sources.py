"""What lies at a path that a recording is compared with."""

from __future__ import annotations

from pathlib import Path

import xarray as xr

from neuroprobe.errors import ReaderError, reason


def open_source(path: Path, metric: str, labels: Path | None = None) -> xr.DataTree | xr.Dataset | Path:
    """Open the dissimilarities, or the recording, at a path; results of the metric ``profiles`` stay a path.

    Parameters
    ----------
    path : Path
    metric : str
    labels : Path, optional
        Text file of what the stimuli of dissimilarities are called, one in a line.

    Raises
    ------
    ReaderError, StoreError
        If there is neither.
    """
    from neuroprobe.recordings.rdms import SUFFIXES, read_rdms

    if path.suffix.lower() in SUFFIXES and metric == "rsa":
        return read_rdms(path, labels=None if labels is None else _labels(labels))
    if labels is not None:
        raise ReaderError("labels are of the stimuli of dissimilarities; recordings have theirs: leave them out")
    if metric == "profiles":
        return path
    from neuroprobe.store import open_recording

    if not path.exists():
        raise ReaderError(f"{str(path)!r}: no such file or folder")
    return open_recording(path)


def _labels(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ReaderError(
            f"labels {str(path)!r} cannot be read ({reason(error)}): expected text, one in a line"
        ) from error
    return [line for line in lines if line]
