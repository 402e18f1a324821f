"""The page of a result, written to a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import xarray as xr

from neuroprobe import names
from neuroprobe.disk import require_file_name, write_text
from neuroprobe.report import about, comparisons, contrast, findings, masking, recordings, selectivity, specialisation
from neuroprobe.report.page import Part, Section, Text, render
from neuroprobe.report.view import View
from neuroprobe.store import open_result, readable

Parts = Callable[[View], Iterable[Part]]  # of a section


def write_report(store: str | os.PathLike[str], output: str | os.PathLike[str], *, interim: bool = False) -> None:
    """Write the page of a result.

    Parameters
    ----------
    store : path
        Of the result.
    output : path
        Of the page; it appears when it is whole.
    interim : bool
        Whether the result of what is done so far will do, of a run that goes on, or was stopped.

    Raises
    ------
    StoreError
        If there is no result, or it is unfinished, or the page cannot be written there.
    """
    output = Path(output)
    result = open_result(store, interim=interim)
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
    return render(
        title=result.attrs["title"] or "neuroprobe",
        summary=list(recordings.summary(one) if one.is_recording else about.summary(one)),
        warnings=one.details.get("warnings", []),
        sections=[Section(title, list(parts(one))) for title, parts, is_there in SECTIONS if is_there(one)],
    )


def _of_indices(title: str, parts: Parts, needs: str | None = None) -> tuple[str, Parts, Callable[[View], bool]]:
    """Section of a result with indices, and with a group where it `needs` one; where no unit has one, it says so."""

    def found(one: View) -> Iterable[Part]:
        return parts(one) if one.numbers(one.layers)[1] else [Text("No unit has an index.")]

    return title, found, lambda one: bool(one.values) and (needs is None or one.has(needs))


SECTIONS: Final[tuple[tuple[str, Parts, Callable[[View], bool]], ...]] = (
    ("Protocol", about.protocol, lambda one: True),
    ("Provenance", about.provenance, lambda one: not one.is_recording),
    ("Provenance", recordings.provenance, lambda one: one.is_recording),
    ("Sample stimuli", about.stimuli, lambda one: not one.is_recording),
    ("Signal and noise", recordings.signal, recordings.is_shown),
    _of_indices("Depth profile", findings.depth),
    _of_indices("Shares of the variance", findings.shares),
    _of_indices("Distributions", findings.distributions),
    _of_indices("Strongest units", findings.strongest),
    _of_indices("Interactions", findings.interactions),
    ("Dead and rarely active units", findings.activity, lambda one: one.is_pick_freeze),
    _of_indices("Convergence", findings.convergence, names.CONVERGENCE),
    _of_indices("Preferred factors", findings.preferences),
    _of_indices("Specialisation", specialisation.maps),
    ("Moments", findings.moments, lambda one: one.has("moments")),
    ("Contrasts", contrast.contrasts, lambda one: one.has("contrast")),
    ("Selectivity", selectivity.selectivity, lambda one: one.has(names.SELECTIVITY)),
    ("Lesions", masking.lesions, lambda one: one.has(names.MASKING)),
    ("Single classes", masking.single_classes, lambda one: one.has(names.SINGLE_CLASS)),
    ("Units of the recording", recordings.units, recordings.is_recorded),
    ("Tuning curves", recordings.tuning, lambda one: one.has(recordings.TUNING)),
    ("Responses over time", recordings.time_course, lambda one: one.has(recordings.PSTH)),
    ("Reliability", recordings.reliability, lambda one: one.has("reliability")),
    ("Latency and information", recordings.timing, lambda one: one.has("latency") or one.has("information")),
    ("Comparisons", comparisons.comparisons, comparisons.is_compared),
    ("How to read the numbers", about.reading, lambda one: not one.is_recording),
)
