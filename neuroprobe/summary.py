"""What a store holds, in a few lines."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from neuroprobe import names
from neuroprobe.analysis.effects import accuracy_table, contrast_table
from neuroprobe.analysis.moments import moments_table
from neuroprobe.analysis.sensitivity import depth_profile, recorded_order
from neuroprobe.journal import live_spans, require_store
from neuroprobe.store import finished_samples, open_recording, open_result, readable

N_DECIMALS = 3
LEVEL = 0.05  # of adjusted p-values that count as significant
SUMMARISED = ("sobol", "shapley")  # groups with shares of the variance for each factor
SYMBOLS = {names.FIRST_ORDER: "S1", names.TOTAL_ORDER: "ST", names.SHAPLEY_EFFECT: "Shapley"}
MOMENTS = {names.MEAN: "mean", names.VARIANCE: "variance", names.COEFFICIENT_OF_VARIATION: "variation"}


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
    moments : list of dict
        Median moments and standard errors of each layer.
    contrasts : list of dict
        Of each layer and alteration the median magnitude of the effect size, its median standard error, and the share
        of units with an adjusted p-value (t-test) under 0.05.
    accuracies : list of dict
        Of the original images and each alteration, measure by measure, with intervals.
    """

    title: str
    sessions: dict[str, dict[str, int]]
    finished: bool
    stored: str
    layers: list[dict[str, Any]]
    moments: list[dict[str, Any]]
    contrasts: list[dict[str, Any]]
    accuracies: list[dict[str, Any]]

    def as_dict(self) -> dict[str, Any]:
        """Plain values; None in the place of what is undefined."""
        return asdict(self, dict_factory=lambda items: _plain(dict(items)))

    def __str__(self) -> str:
        state = "finished" if self.finished else "unfinished: run the same protocol into it again to go on"
        lines = [f"{self.title or 'untitled'}: {state}"]
        lines += [
            f"{name}: {one['blocks_done']} of {one['blocks']} blocks, {one['samples']:,} base samples"
            for name, one in self.sessions.items()
        ]
        if self.stored:
            lines += ["", "stored responses", self.stored]
        parts = (
            _indices(self.layers),
            _moments(self.moments),
            _contrasts(self.contrasts),
            _accuracies(self.accuracies),
        )
        return "\n".join([*lines, *(line for part in parts for line in part)])


def _indices(rows: list[dict[str, Any]]) -> Iterator[str]:
    if rows:
        yield from ("", "medians over the defined units of a layer (in brackets: median standard error)")
        shown = {name: symbol for name, symbol in SYMBOLS.items() if name in rows[0]}
        yield (
            f"{'layer':<16} {'units':>8} {'undefined':>9}  {'factor':<16}"
            + "".join(f" {symbol:>15}" for symbol in shown.values())
        )
    for row in rows:
        yield (
            f"{row['layer']:<16} {row['units']:>8,} {row['undefined']:>9,}  {row['factor']:<16}"
            + "".join(f" {_with_error(row, name):>15}" for name in shown)
        )


def _moments(rows: list[dict[str, Any]]) -> Iterator[str]:
    if rows:
        yield from ("", "medians over the units of a layer that vary (in brackets: median standard error)")
        yield f"{'layer':<16} {'units':>8} {'undefined':>9}" + "".join(f" {one:>17}" for one in MOMENTS.values())
    for row in rows:
        yield (
            f"{row['layer']:<16} {row['units']:>8,} {row['undefined']:>9,}"
            + "".join(f" {_with_error(row, name):>17}" for name in MOMENTS)
        )


def _contrasts(rows: list[dict[str, Any]]) -> Iterator[str]:
    if rows:
        yield from ("", "contrasts: median |d_z| over the units that change (in brackets: median standard error), and")
        yield f"share of all units with p < {LEVEL:g} (t-test over images, correction {rows[0]['correction']})"
        yield f"{'layer':<16} {'units':>8} {'unchanged':>9}  {'alteration':<16} {'|d_z|':>15} {'share':>7}"
    for row in rows:
        yield (
            f"{row['layer']:<16} {row['units']:>8,} {row['undefined']:>9,}  {row['factor']:<16} "
            f"{_with_error(row, names.EFFECT_SIZE):>15} {row['share']:>7.1%}"
        )


def _accuracies(rows: list[dict[str, Any]]) -> Iterator[str]:
    if rows:
        yield from ("", f"accuracies with {100 * rows[0]['level']:g} % intervals, and differences from the original")
        yield f"{'measure':<12} {'images':>8}  {'alteration':<16} {'estimate':>22} {'difference':>25}"
    for row in rows:
        yield (
            f"{row['measure']:<12} {row['n_images']:>8,}  {row['factor']:<16} {_interval(row, 'estimate', ''):>22} "
            f"{_interval(row, 'difference', 'difference_'):>25}"
        )


def _with_error(row: dict[str, Any], name: str) -> str:
    if math.isnan(row[name]):
        return "–"
    return f"{row[name]:z.{N_DECIMALS}f} ({row[names.se(name)]:.{N_DECIMALS}f})"


def _interval(row: dict[str, Any], name: str, ends: str) -> str:
    if math.isnan(row[name]):
        return "–"
    value, low, high = (f"{row[key]:z.{N_DECIMALS}f}" for key in (name, f"{ends}lower", f"{ends}upper"))
    return f"{value} [{low}, {high}]"


def _plain(value: Any) -> Any:
    """Replace NaN, which JSON does not know, by None."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value


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
    tables: dict[str, list[dict[str, Any]]] = {"layers": [], "moments": [], "contrasts": [], "accuracies": []}
    if finished:
        result = open_result(path)
        with readable(path):
            tables = {
                "layers": _index_rows(result),
                "moments": _moment_rows(result),
                "contrasts": _contrast_rows(result),
                "accuracies": _accuracy_rows(result),
            }
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
        **tables,
    )


def _index_rows(result: xr.DataTree) -> list[dict[str, Any]]:
    """One row per layer and factor."""
    groups = [result.children[name] for name in SUMMARISED if name in result.children]
    layers = recorded_order(groups[0]) if groups else []
    return [row for layer in layers for row in _layer_rows(layer, [group[layer].to_dataset() for group in groups])]


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


def _moment_rows(result: xr.DataTree) -> list[dict[str, Any]]:
    """One row per layer."""
    if "moments" not in result.children:
        return []
    table = moments_table(result)
    rows = []
    for layer in table[names.LAYER].values:
        at = table.sel({names.LAYER: layer})
        n_units, n_defined = int(at[names.N_UNITS]), int(at[names.N_DEFINED])
        row = {"layer": str(layer), "units": n_units, "undefined": n_units - n_defined}
        rows.append(row | {key: float(at[key]) for name in MOMENTS for key in (name, names.se(name))})
    return rows


def _contrast_rows(result: xr.DataTree) -> list[dict[str, Any]]:
    """One row per layer and alteration."""
    if "contrast" not in result.children:
        return []
    table, group = contrast_table(result, level=LEVEL), result.children["contrast"]
    rows = []
    for layer in table[names.LAYER].values:
        attrs = group.children[layer].attrs
        for factor in table[names.FACTOR].values:
            at = table.sel({names.LAYER: layer, names.FACTOR: factor})
            row = {
                "layer": str(layer),
                "units": int(at[names.N_UNITS]),
                "undefined": int(at[names.N_UNDEFINED]),
                "factor": str(factor),
            }
            row |= {key: float(at[key]) for key in (names.EFFECT_SIZE, names.se(names.EFFECT_SIZE), names.SHARE)}
            rows.append(row | {"correction": attrs["correction"], "family": attrs["family"]})
    return rows


def _accuracy_rows(result: xr.DataTree) -> list[dict[str, Any]]:
    """One row per measure and alteration, that of the original images first."""
    if names.ACCURACY not in result.children:
        return []
    table = accuracy_table(result)
    rows = []
    for measure in table[names.MEASURE].values:
        for factor in table[names.FACTOR].values:
            at = table.sel({names.MEASURE: measure, names.FACTOR: factor})
            row = {"measure": str(measure), "n_images": int(at["n_images"]), "factor": str(factor)}
            rows.append(row | {str(name): float(at[name]) for name in table} | {"level": table.attrs["level"]})
    return rows
