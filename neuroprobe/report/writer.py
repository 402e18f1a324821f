"""The page of a result, written to a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import xarray as xr

from neuroprobe.disk import require_file_name, write_text
from neuroprobe.report import about, contrast, findings, specialisation
from neuroprobe.report.page import Part, Section, Text, render
from neuroprobe.report.view import View
from neuroprobe.store import open_result, readable


def write_report(store: str | os.PathLike[str], output: str | os.PathLike[str]) -> None:
    """Write the page of a result.

    Parameters
    ----------
    store : path
        Of the result.
    output : path
        Of the page; it appears when it is whole.

    Raises
    ------
    StoreError
        If there is no result, or it is unfinished, or the page cannot be written there.
    """
    output = Path(output)
    result = open_result(store)
    require_file_name(output)
    with readable(Path(store)):
        page = report_page(result)
    write_text(output, page)


def report_page(result: xr.DataTree) -> str:
    """Return the page of a result as HTML.

    Parameters
    ----------
    result : xarray.DataTree
        As `neuroprobe.open_result` opens it.
    """
    one = View(result)

    def found(parts: Callable[[View], Iterable[Part]]) -> list[Part]:
        return list(parts(one)) if one.numbers(one.layers)[1] else [Text("No unit has an index.")]

    told = [
        Section("Protocol", list(about.protocol(one))),
        Section("Provenance", list(about.provenance(one))),
        Section("Sample stimuli", list(about.stimuli(one))),
    ]
    title, warnings = result.attrs["title"] or "neuroprobe", one.details["warnings"]
    contrasts = [Section("Contrasts", list(contrast.contrasts(one)))] if contrast.is_there(one) else []
    if contrasts and not {"sobol", "shapley"}.intersection(result.children):
        return render(title, list(contrast.summary(one)), warnings, [*told, *contrasts])
    return render(
        title=title,
        summary=list(about.summary(one)),
        warnings=warnings,
        sections=[
            *told,
            Section("Depth profile", found(findings.depth)),
            Section("Shares of the variance", found(findings.shares)),
            Section("Distributions", found(findings.distributions)),
            Section("Strongest units", found(findings.strongest)),
            Section("Interactions", found(findings.interactions)),
            Section("Dead and rarely active units", list(findings.activity(one))),
            Section("Convergence", found(findings.convergence)),
            Section("Preferred factors", found(findings.preferences)),
            Section("Specialisation", found(specialisation.maps)),
            *contrasts,
            Section("How to read the numbers", list(about.reading(one))),
        ],
    )
