"""A comparison as rows for people and machines, from the command line."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import xarray as xr

from neuroprobe import names
from neuroprobe.comparison.metrics import compare
from neuroprobe.comparison.responses import AREA
from neuroprobe.comparison.sources import open_source
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
        parts = (
            [("", found)] if AREA not in found.dims else [(f"{a}: ", found.sel({AREA: a})) for a in found[AREA].values]
        )
        for area, part in parts:
            lower, upper, held_out = (
                f"{float(part[name]):.{DIGITS}f}" for name in ("ceiling_lower", "ceiling_upper", "held_out_score")
            )
            subjects = int(part["subject_score"].notnull().any(names.LAYER).sum())
            lines.append(f"{area}noise ceiling {lower} to {upper}, {subjects} subjects")
            lines.append(f"{area}layer chosen on half of the stimuli, scored on the other half: {held_out}")
    elif "ceiling" in found:
        pairs = zip(found[AREA].values, found["ceiling"].values, strict=True)
        lines.append("ceiling " + ", ".join(f"{area} {value:.{DIGITS}f}" for area, value in pairs))
    return lines


def _of_areas(found: xr.Dataset) -> Iterator[tuple[str, xr.Dataset]]:
    """Each area with what its lines begin with; what has none as it is."""
    if AREA not in found.dims:
        yield "", found
        return
    for area in found[AREA].values:
        yield f"{area}: ", found.sel({AREA: area})


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

    other = open_source(brain, metric, labels)
    if isinstance(other, xr.DataTree):
        other = brain  # which workers can open
    given = {key: value for key, value in choices.items() if value is not None}
    found = compare(model, other, metric, **given, **dict(map(option, options)))
    if output is not None:
        write_netcdf({"/": found}, output)
    return found
