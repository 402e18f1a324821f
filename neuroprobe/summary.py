"""What a store holds, in a few lines."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from neuroprobe import names
from neuroprobe.analysis.sensitivity import depth_profile, recorded_order
from neuroprobe.journal import live_spans, require_store
from neuroprobe.store import finished_samples, open_recording, open_result, readable

N_DECIMALS = 3


@dataclass(frozen=True)
class Status:
    """State of a store.

    Attributes
    ----------
    title : str
    samples, blocks, blocks_done : int
        Base samples and blocks of the run, and the blocks that are done.
    finished : bool
        Whether the result is written.
    stored : str
        The stored responses, as xarray shows them.
    layers : list of dict
        Median indices and standard errors of each layer and factor.
    """

    title: str
    samples: int
    blocks: int
    blocks_done: int
    finished: bool
    stored: str
    layers: list[dict[str, Any]]

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def __str__(self) -> str:
        state = "finished" if self.finished else "unfinished: run the same protocol into it again to go on"
        lines = [
            f"{self.title or 'untitled'}: {self.blocks_done} of {self.blocks} blocks, "
            f"{self.samples:,} base samples, {state}"
        ]
        if self.stored:
            lines += ["", "stored responses", self.stored]
        if self.layers:
            lines += ["", "medians over the defined units of a layer (in brackets: median standard error)"]
            lines.append(f"{'layer':<16} {'units':>8} {'undefined':>9}  {'factor':<16} {'S1':>15} {'ST':>15}")
        for row in self.layers:
            lines.append(
                f"{row['layer']:<16} {row['units']:>8,} {row['undefined']:>9,}  {row['factor']:<16} "
                f"{_with_error(row, names.FIRST_ORDER):>15} {_with_error(row, names.TOTAL_ORDER):>15}"
            )
        return "\n".join(lines)


def _with_error(row: dict[str, Any], name: str) -> str:
    return f"{row[name]:.{N_DECIMALS}f} ({row[names.se(name)]:.{N_DECIMALS}f})"


def status(store: str | os.PathLike[str]) -> Status:
    """Say what a store holds.

    Raises
    ------
    StoreError
        If it is not a store of neuroprobe's.
    """
    path = Path(store)
    header = require_store(path)
    finished = finished_samples(path) == header.samples
    rows: list[dict[str, Any]] = []
    if finished:
        result = open_result(path)
        nodes = result.children["sobol"]
        with readable(path):
            for layer in recorded_order(nodes):
                rows += _layer_rows(layer, nodes.children[layer].to_dataset())
    stored = ""
    if finished and (path / names.RESPONSES).is_dir():
        stored = "\n".join(str(node.to_dataset()) for node in open_recording(path)[names.RESPONSES].children.values())
    return Status(
        title=header.title,
        samples=header.samples,
        blocks=header.samples // header.layout.block,
        blocks_done=sum(stop - start for start, stop in live_spans(path)),
        finished=finished,
        stored=stored,
        layers=rows,
    )


def _layer_rows(layer: str, indices: xr.Dataset) -> list[dict[str, Any]]:
    profile = depth_profile(indices)
    n_units = int(indices[names.DEFINED].size)
    undefined = n_units - int(indices[names.DEFINED].sum())
    return [
        {"layer": layer, "units": n_units, "undefined": undefined, "factor": str(factor)}
        | {str(name): float(profile[name].sel({names.FACTOR: factor, names.QUANTILE: 0.5})) for name in profile}
        for factor in indices[names.FACTOR].values
    ]
