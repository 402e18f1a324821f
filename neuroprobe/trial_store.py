"""What analyses of a recording found, kept in the folder of a run: each is there whole, or not at all.

``.neuroprobe/analyses/`` holds a netCDF4 file for each; the journal has one line for each, written after its file.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import xarray as xr

from neuroprobe.disk import append_line
from neuroprobe.errors import about
from neuroprobe.journal import RUN_FOLDER, journal_entries
from neuroprobe.netcdf import write_netcdf
from neuroprobe.progress import Finished, Listener, StageAdvanced, StageStarted
from neuroprobe.trial_analyses import COMPARE, analysed, units_of

if TYPE_CHECKING:
    from neuroprobe.cluster.crew import Crew
    from neuroprobe.lesioned_runs import LesionedRuns
    from neuroprobe.protocol.model import AnalysisSpec

ANALYSES: Final = "analyses"  # session of a run of a recording, and the folder
NODES: Final = "nodes"  # of a line of the journal: the places of the nodes of the file, in its order
N_DIGITS: Final = 16  # of the hash in a file's name


class KeptAnalyses:
    """Analyses of one recording, run one after the other, or side by side on workers, and kept in a store.

    Parameters
    ----------
    path : Path
        Of the zarr store.
    specs : list of (int, AnalysisSpec)
        What is asked for, with the numbers in the protocol.
    seed : int
        Of the protocol.
    content : str
        What says which responses they are of; others are run again.
    lesioned : LesionedRuns, optional
        What records the network again, where it is one.
    crew : Crew, optional
        Workers that analyse.
    attrs : mapping, optional
        That the result will have, by which they open what a network responded.
    """

    def __init__(
        self,
        path: Path,
        specs: Sequence[tuple[int, AnalysisSpec]],
        seed: int,
        content: str,
        lesioned: LesionedRuns | None = None,
        crew: Crew | None = None,
        attrs: Mapping[str, Any] | None = None,
    ) -> None:
        self._path, self._specs, self._seed, self._content = path, list(specs), seed, content
        self._lesioned, self._crew, self._attrs = lesioned, crew, attrs
        self._folder = path / RUN_FOLDER / ANALYSES

    def run(self, recording: xr.DataTree, listener: Listener) -> None:
        """Run what is not in the store."""
        known = self._entries()
        n_units = units_of(recording)
        self._folder.mkdir(exist_ok=True)
        left = [
            place
            for place, (_, spec) in enumerate(self._specs)
            if not (self._file(spec).name in known and self._file(spec).exists())
        ]
        if self._crew is not None:
            # of comparisons workers take parts: there may be one alone, and large
            whole = [place for place in left if self._specs[place][1].name != COMPARE]
            left = [place for place in left if place not in whole]
            self._run_on(self._crew, whole, listener)
        spread = None if self._crew is None else self._crew.ordered
        for place in left:
            number, spec = self._specs[place]
            listener(StageStarted(spec.name, n_units, "unit"))
            with about(ANALYSES, number, spec.name):
                found = analysed(recording, spec, self._seed, self._lesioned, spread)
            write_nodes(found, self._file(spec))
            self._note(place, list(found))
            listener(StageAdvanced(n_units))
            listener(Finished())

    def _run_on(self, crew: Crew, places: Sequence[int], listener: Listener) -> None:
        """Have workers run analyses side by side."""
        from neuroprobe.cluster.station import analyse

        if not places:
            return
        attrs = None if self._attrs is None else dict(self._attrs)
        files = [self._file(self._specs[place][1]) for place in places]
        given = [
            (self._specs[place][0], attrs, str(file.absolute())) for place, file in zip(places, files, strict=True)
        ]
        listener(StageStarted("analysing", len(places), "analysis"))
        for which, (nodes, written, told) in crew.calls(analyse, given, "an analysis"):
            for message in told:
                warnings.warn(message, stacklevel=2)
            os.replace(written, files[which])
            self._note(places[which], nodes)
            listener(StageAdvanced(1))
        listener(Finished())

    def groups(self) -> dict[str, Iterator[tuple[str, xr.Dataset]]]:
        """What was found: group → its nodes, read one after the other."""
        known = self._entries()
        return {
            spec.name: self._nodes(self._file(spec), known[self._file(spec).name][NODES]) for _, spec in self._specs
        }

    def _file(self, spec: AnalysisSpec) -> Path:
        about_it = json.dumps([self._content, self._seed, spec.model_dump(mode="json")], sort_keys=True)
        return self._folder / f"{spec.name}-{hashlib.sha256(about_it.encode()).hexdigest()[:N_DIGITS]}.nc"

    def _entries(self) -> dict[str, dict[str, Any]]:
        return {entry["file"]: entry for entry in journal_entries(self._path) if entry["session"] == ANALYSES}

    def _note(self, place: int, nodes: list[str]) -> None:
        """Note an analysis whose file is there."""
        file = self._file(self._specs[place][1])
        line = {"session": ANALYSES, "span": [place, place + 1], "file": file.name, "convergence": {}}
        append_line(self._path / RUN_FOLDER / "journal.jsonl", json.dumps({**line, NODES: nodes}))
        # of other samples
        for other in self._folder.glob(f"{file.name.rpartition('-')[0]}-*.nc"):
            if other != file:
                other.unlink()

    def _nodes(self, file: Path, nodes: Sequence[str]) -> Iterator[tuple[str, xr.Dataset]]:
        for number, node in enumerate(nodes):
            with xr.open_dataset(file, engine="netcdf4", group=str(number)) as dataset:
                loaded = dataset.load()
            yield node, loaded.drop_encoding()


def write_nodes(found: Mapping[str, xr.Dataset], file: Path) -> None:
    """Write what an analysis found, by the numbers of its nodes: names of factors may be none of groups."""
    write_netcdf({f"/{number}": dataset for number, dataset in enumerate(found.values())}, file)
