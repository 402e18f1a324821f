"""From what is typed on the command line to a recording on disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from neuroprobe.errors import ReaderError
from neuroprobe.recordings.read import read_recording
from neuroprobe.recordings.summary import described, summarise
from neuroprobe.recordings.writing import WRITERS, format_of, losses, require_free, write_recording

OWN = ("trials", "window", "baseline", "factors", "units", "region", "bins", "measure", "format", "stimuli")


def ingest(
    recording: Path,
    output: Path,
    *,
    window: tuple[float, float] | None,
    interval: bool,
    bins: str | None,
    factors: Sequence[str],
    units: Sequence[str],
    region: Sequence[str],
    format_: str | None,
    options: Sequence[str],
    overwrite: bool,
    as_json: bool,
    **choices: Any,
) -> str:
    """Read a recording, write it, and return what was read, as text or JSON.

    Raises
    ------
    ReaderError
        If it cannot be read, or a choice is missing or wrong.
    StoreError
        If it cannot be written.
    """
    if interval and window is not None:
        raise ReaderError("--window and --interval: say one of them")
    # before a long file is read
    require_free(output, WRITERS[format_of(output)], overwrite)
    tree = read_recording(
        recording,
        format=format_,
        window="interval" if interval else window,
        bins=_bins(bins),
        factors=_several(factors),
        units=_several(units),
        region=_several(region),
        **choices,
        **dict(map(option, options)),
    )
    lost = losses(tree, format_of(output))
    write_recording(tree, output, overwrite=overwrite)
    if as_json:
        return json.dumps({"output": str(output), **summarise(tree), "losses": lost})
    return "\n".join([str(output), described(tree), *(f"not held by this format: {one}" for one in lost)])


def _several(given: Sequence[str]) -> list[str] | None:
    return [one.strip() for text in given for one in text.split(",")] or None


def _bins(text: str | None) -> float | list[float] | None:
    if text is None:
        return None
    try:
        edges = [float(part) for part in text.split(",")]
    except ValueError:
        raise ReaderError(f"--bins is a width in s, or edges separated by commas, received {text!r}") from None
    return edges[0] if len(edges) == 1 else edges


def option(text: str) -> tuple[str, Any]:
    """Key and value: a number, list or mapping where it is written as JSON, else text.

    Examples
    --------
    >>> option("layout=manning2024_mt"), option("sampling_rate=30000"), option('missing=[-99, 99]')
    (('layout', 'manning2024_mt'), ('sampling_rate', 30000), ('missing', [-99, 99]))
    """
    key, given, value = text.partition("=")
    key = key.strip().replace("-", "_")
    if not given or not key:
        raise ReaderError(f"--option is KEY=VALUE, received {text!r}")
    if key in OWN:
        raise ReaderError(f"--option {key}: say --{key}")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value
