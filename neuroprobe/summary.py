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
SUMMARISED = ("sobol", "shapley")  # groups with shares of the variance for each factor
SYMBOLS = {names.FIRST_ORDER: "S1", names.TOTAL_ORDER: "ST", names.SHAPLEY_EFFECT: "Shapley"}


@dataclass(frozen=True)
class Status:
    """State of a store.

    Attributes
    ----------
    title : str
    sessions : dict of dict
        For each design its base samples, blocks, and blocks that are done.
    finished : bool
        Whether the result is written.
    stored : str
        The stored responses, as xarray shows them.
    layers : list of dict
        Median indices and standard errors of each layer and factor.
    """

    title: str
    sessions: dict[str, dict[str, int]]
    finished: bool
    stored: str
    layers: list[dict[str, Any]]

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def __str__(self) -> str:
        state = "finished" if self.finished else "unfinished: run the same protocol into it again to go on"
        lines = [f"{self.title or 'untitled'}: {state}"]
        lines += [
            f"{name}: {one['blocks_done']} of {one['blocks']} blocks, {one['samples']:,} base samples"
            for name, one in self.sessions.items()
        ]
        if self.stored:
            lines += ["", "stored responses", self.stored]
        if self.layers:
            lines += ["", "medians over the defined units of a layer (in brackets: median standard error)"]
            shown = {name: symbol for name, symbol in SYMBOLS.items() if name in self.layers[0]}
            lines.append(
                f"{'layer':<16} {'units':>8} {'undefined':>9}  {'factor':<16}"
                + "".join(f" {symbol:>15}" for symbol in shown.values())
            )
        for row in self.layers:
            lines.append(
                f"{row['layer']:<16} {row['units']:>8,} {row['undefined']:>9,}  {row['factor']:<16}"
                + "".join(f" {_with_error(row, name):>15}" for name in shown)
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
        groups = [result.children[name] for name in SUMMARISED if name in result.children]
        with readable(path):
            for layer in recorded_order(groups[0]) if groups else []:
                rows += _layer_rows(layer, [group.children[layer].to_dataset() for group in groups])
    stored = ""
    if finished and (path / names.RESPONSES).is_dir():
        stored = "\n".join(str(node.to_dataset()) for node in open_recording(path)[names.RESPONSES].children.values())
    return Status(
        title=header.title,
        sessions={
            name: {
                "samples": begun.samples,
                "blocks": begun.n_blocks,
                "blocks_done": sum(stop - start for start, stop in live_spans(path, name)),
            }
            for name, begun in header.sessions.items()
        },
        finished=finished,
        stored=stored,
        layers=rows,
    )


def _layer_rows(layer: str, groups: list[xr.Dataset]) -> list[dict[str, Any]]:
    """One row per factor, with what the groups of a result say of a layer."""
    profile = xr.merge([depth_profile(indices) for indices in groups], compat="override", combine_attrs="drop")
    n_units = int(groups[0][names.DEFINED].size)
    undefined = n_units - int(groups[0][names.DEFINED].sum())
    return [
        {"layer": layer, "units": n_units, "undefined": undefined, "factor": str(factor)}
        | {str(name): float(profile[name].sel({names.FACTOR: factor, names.QUANTILE: 0.5})) for name in profile}
        for factor in profile[names.FACTOR].values
    ]
