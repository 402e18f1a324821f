"""What a store holds, in a few lines."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import xarray as xr

from neuroprobe import names
from neuroprobe.analysis.contrast import ORIGINAL
from neuroprobe.analysis.effects import accuracy_table, contrast_table, p_text
from neuroprobe.analysis.lesion_effects import OWN, headline, jaccards, masking_places, own_factors, place_of
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
    lesions : list of dict
        Of each place, measure and factor of a map that is an alteration too, on images that it alters: the accuracy
        without a lesion, and how the factor's own map, random masks and other factors' maps change it, at the rule of
        the headline; ``diagonal`` and ``p_diagonal`` are about all factors. The first row of a place and measure is
        about the original images, without a lesion.
    single_classes : list of dict
        Of each place and factor the mean Jaccard index of the classes most sensitive to it with those that have the
        largest outputs, without a lesion and with that of its own map, on images that the factor alters.
    lesion : dict
        Units of each layer that are masked in the network that was recorded.
    """

    title: str
    sessions: dict[str, dict[str, int]]
    finished: bool
    stored: str
    layers: list[dict[str, Any]]
    moments: list[dict[str, Any]]
    contrasts: list[dict[str, Any]]
    accuracies: list[dict[str, Any]]
    lesions: list[dict[str, Any]]
    single_classes: list[dict[str, Any]]
    lesion: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """Plain values; None in the place of what is undefined."""
        return asdict(self, dict_factory=lambda items: _plain(dict(items)))

    def __str__(self) -> str:
        state = "finished" if self.finished else "unfinished: run the same protocol into it again to go on"
        lines = [f"{self.title or 'untitled'}: {state}"]
        lines += [
            f"{name}: {one['blocks_done']} of {one['blocks']} blocks, {one['samples']:,} "
            f"{'base samples' if name == names.PICK_FREEZE else 'images'}"
            for name, one in self.sessions.items()
        ]
        if self.lesion:
            masked = ", ".join(f"{n:,} units of {layer}" for layer, n in self.lesion.items())
            lines.append(f"the network was recorded with a lesion: {masked} masked")
        if self.stored:
            lines += ["", "stored responses", self.stored]
        parts = (
            _indices(self.layers),
            _moments(self.moments),
            _contrasts(self.contrasts),
            _accuracies(self.accuracies),
            _lesions(self.lesions),
            _single_classes(self.single_classes),
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


def _lesions(rows: list[dict[str, Any]]) -> Iterator[str]:
    if rows:
        first = rows[0]
        yield ""
        level = f"{100 * first['level']:g} % intervals"
        corrected = "not corrected" if first["correction"] == "none" else f"corrected, {first['correction']}"
        yield f"lesions, {first['rule']}: each factor's map on images that the factor alters ({level})"
        yield f"random: mean over random masks; p: random masks change it as much, in magnitude ({corrected})"
        yield "against others: change by the factor's map less that by the maps of other factors"
    for (place, measure), some in groupby(rows, lambda row: (row["place"], row["measure"])):
        of_one = list(some)
        yield from ("", f"{place}, {measure}, {of_one[0]['n_images']:,} images")
        yield (f"{'factor':<20} {'unlesioned':>20} {'own map':>24} {'random':>8} {'p':>8} {'against others':>24}")
        for row in of_one:
            random = "–" if math.isnan(row[names.RANDOM_MEAN]) else f"{row[names.RANDOM_MEAN]:z.{N_DECIMALS}f}"
            shown = (names.UNLESIONED, names.DIFFERENCE, names.AGAINST_OTHERS)
            whole, change, beyond = (_interval(row, name, f"{name}_") for name in shown)
            yield (
                f"{row['factor']:<20} {whole:>20} {change:>24} {random:>8} {p_text(row[names.P_ADJUSTED]):>8} "
                f"{beyond:>24}"
            )
        diagonal, p = (of_one[0][name] for name in (names.DIAGONAL, names.P_DIAGONAL))
        if not math.isnan(diagonal):
            yield (
                f"all factors: own maps change it by {diagonal:z.{N_DECIMALS}f} more, in magnitude, "
                f"than maps on average (p {p_text(p)}, labels of maps permuted)"
            )


def _single_classes(rows: list[dict[str, Any]]) -> Iterator[str]:
    if rows:
        yield from ("", "classes most sensitive to a factor among those with the largest outputs (mean Jaccard index),")
        first = rows[0]
        yield (
            f"{first['rule']}, with {100 * first['level']:g} % intervals; p: more than of random sets of classes "
            f"(correction {first['correction']})"
        )
        yield (
            f"{'place':<20} {'images':>6}  {'factor':<16} {'input':<16} {'unlesioned':>20} {'p':>8} {'lesioned':>20} "
            f"{'p':>8}"
        )
    for row in rows:
        yield (
            f"{row['place']:<20} {row['n_images']:>6,}  {row['factor']:<16} {row['input']:<16} "
            f"{_interval(row, names.UNLESIONED, 'unlesioned_'):>20} {p_text(row[names.P_UNLESIONED_ADJUSTED]):>8} "
            f"{_interval(row, names.JACCARD, 'jaccard_'):>20} {p_text(row[names.P_ADJUSTED]):>8}"
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
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
    lesion: dict[str, int] = {}
    if finished:
        result = open_result(path)
        lesion = (json.loads(result.attrs[names.PROVENANCE]).get("lesion") or {}).get("n_masked", {})
        with readable(path):
            tables = {name: rows(result) for name, rows in TABLES.items()}
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
        lesion=lesion,
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


def _lesion_rows(result: xr.DataTree) -> list[dict[str, Any]]:
    """One row per place, measure and factor whose map has an input of its own, that of the original images first."""
    rows: list[dict[str, Any]] = []
    for place in masking_places(result) if names.MASKING in result.children else []:
        table = place_of(result, place)
        for measure in map(str, table[names.MEASURE].values):
            found = headline(result, place, measure)
            of_all = table.sel({names.MEASURE: measure})
            about = {"place": place, "measure": measure, **_shown(table)}
            about |= {name: float(of_all[name]) for name in (names.DIAGONAL, names.P_DIAGONAL)}
            shown = [*names.ends(names.UNLESIONED), *names.ends(names.DIFFERENCE), *names.ends(names.RANDOM_MEAN)]
            shown += [*names.ends(names.EXCESS), *names.ends(names.AGAINST_OTHERS), names.P_VALUE, names.P_ADJUSTED]
            original = of_all.sel({names.INPUT: ORIGINAL})
            whole = {name: float(original[name]) for name in names.ends(names.UNLESIONED)}
            rows.append({**about, "factor": ORIGINAL, **dict.fromkeys(shown, math.nan), **whole})
            for factor in found[names.FACTOR].values:
                at = found.sel({names.FACTOR: factor})
                rows.append({**about, "factor": str(factor), **{name: float(at[name]) for name in shown}})
    return rows


def _class_rows(result: xr.DataTree) -> list[dict[str, Any]]:
    """One row per place and factor, on its own input, or on the original images where no factor has one."""
    rows = []
    for place in masking_places(result, names.SINGLE_CLASS) if names.SINGLE_CLASS in result.children else []:
        table = place_of(result, place, names.SINGLE_CLASS)
        found = jaccards(result, OWN if own_factors(table) else ORIGINAL, place)
        shown = [*names.ends(names.UNLESIONED), *names.ends(names.JACCARD), *names.ends(names.DIFFERENCE), names.FENCE]
        shown += [names.P_UNLESIONED_ADJUSTED, names.P_ADJUSTED, names.P_SHIFT_ADJUSTED]
        for number, factor in enumerate(found[names.FACTOR].values):
            at = found.isel({names.FACTOR: number}).sel({names.RULE: found.attrs["rule"]})
            row = {"place": place, "factor": str(factor), "input": str(at[names.INPUT].item()), **_shown(table)}
            rows.append(row | {name: float(at[name]) for name in shown})
    return rows


def _shown(table: xr.Dataset) -> dict[str, Any]:
    """What was shown at a place of lesions, and how it was tested."""
    attrs = table.attrs
    about = {key: attrs[key] for key in ("level", "correction", "family")}
    return {"n_images": int(attrs["n_images"] - attrs["n_dropped"]), "rule": attrs["headline"], **about}


# field of the status → what finds its rows
TABLES: Final[dict[str, Callable[[xr.DataTree], list[dict[str, Any]]]]] = {
    "layers": _index_rows,
    "moments": _moment_rows,
    "contrasts": _contrast_rows,
    "accuracies": _accuracy_rows,
    "lesions": _lesion_rows,
    "single_classes": _class_rows,
}
