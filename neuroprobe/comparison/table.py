"""A comparison as rows for people and machines, from the command line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import xarray as xr

from neuroprobe import names
from neuroprobe.comparison.metrics import compare
from neuroprobe.comparison.responses import AREA
from neuroprobe.errors import ReaderError
from neuroprobe.netcdf import write_netcdf

SHOWN: Final = (
    "score",
    "score_se",
    "score_lower",
    "score_upper",
    "p_adjusted",
    "ceiled_score",
    "energy",
    "relative",
    "share_chosen",
)
DIGITS: Final = 4


def rows_of(found: xr.Dataset) -> list[dict[str, Any]]:
    """One row per layer, or per layer and area; undefined numbers are None."""
    dims = [dim for dim in (AREA, names.LAYER) if dim in found.dims]
    shown = [name for name in SHOWN if name in found and set(found[name].dims) == set(dims)]
    table = found[shown].to_dataframe(dim_order=dims).reset_index()
    return [
        {str(key): _plain(value) for key, value in row.items() if key in (*dims, *shown)}
        for row in table.to_dict("records")
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value
    number = float(value)
    return None if math.isnan(number) else number


def notes_of(found: xr.Dataset) -> list[str]:
    """Sentences for what is of all layers together."""
    attrs = found.attrs
    lines = [f"{attrs['metric']}, {attrs['version']}", attrs["definition"]]
    if "ceiling_lower" in found:
        bounds = [f"{float(found[name]):.{DIGITS}f}" for name in ("ceiling_lower", "ceiling_upper")]
        lines.append(f"noise ceiling {bounds[0]} to {bounds[1]}, {attrs['n_subjects']} subjects")
        held_out = float(found["held_out_score"])
        lines.append(f"layer chosen on half of the stimuli, scored on the other half: {held_out:.{DIGITS}f}")
    elif "ceiling" in found:
        pairs = zip(found[AREA].values, found["ceiling"].values, strict=True)
        lines.append("ceiling " + ", ".join(f"{area} {value:.{DIGITS}f}" for area, value in pairs))
    return lines


def compare_files(
    model: Path,
    brain: Path,
    metric: str,
    output: Path | None,
    *,
    labels: Path | None,
    options: Sequence[str],
    **choices: Any,
) -> xr.Dataset:
    """Compare what lies at two paths, as the command line does, and write what comes out where a path is given.

    Raises
    ------
    ReaderError, StoreError
        As of `neuroprobe.compare`; or if the output cannot be written.
    """
    from neuroprobe.ingestion import option
    from neuroprobe.recordings.rdms import SUFFIXES, read_rdms

    other: Any = brain
    if brain.suffix.lower() in SUFFIXES and metric == "rsa":
        names_ = None if labels is None else labels.read_text(encoding="utf-8").split("\n")
        other = read_rdms(brain, labels=None if names_ is None else [one for one in names_ if one])
    elif labels is not None:
        raise ReaderError("--labels are of the stimuli of dissimilarities; recordings have theirs")
    given = {key: value for key, value in choices.items() if value is not None}
    found = compare(model, other, metric, **given, **dict(map(option, options)))
    if output is not None:
        write_netcdf({"/": found}, output)
    return found
