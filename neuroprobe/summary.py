"""What a store holds, in a few lines."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import xarray as xr

from neuroprobe import names
from neuroprobe.analysis.contrast import ORIGINAL
from neuroprobe.analysis.effects import accuracy_table, contrast_table
from neuroprobe.analysis.lesion_effects import OWN, headline, jaccards, masking_places, own_factors, place_of
from neuroprobe.analysis.moments import moments_table
from neuroprobe.analysis.selectivity_overview import (
    can_be_significant,
    layer_facts,
    layer_quantiles,
    main_indexes,
    p_adjusted,
    selectivity_of,
)
from neuroprobe.analysis.sensitivity import depth_profile, recorded_order
from neuroprobe.comparison.findings import comparison_rows
from neuroprobe.journal import live_spans, n_scored, require_store
from neuroprobe.plans import SAMPLED
from neuroprobe.recordings.stored import is_recording
from neuroprobe.recordings.summary import described, summarise
from neuroprobe.status_text import LEVEL, MOMENTS, table_lines
from neuroprobe.stopping import told
from neuroprobe.store import finished_samples, open_recording, open_result, readable
from neuroprobe.trial_findings import trial_rows
from neuroprobe.trial_store import ANALYSES

SUMMARISED = ("sobol", "shapley")  # groups with shares of the variance for each factor


@dataclass(frozen=True)
class Status:
    """State of a store.

    Attributes
    ----------
    title : str
    sessions : dict of dict
        For each design its base samples, blocks, blocks that are done, and the parts of the layers that it is recorded
        in, each with all its blocks; usually 1. Of selectivity also the layers whose top stimuli were shown again,
        which follows once all blocks are done.
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
    selectivity : list of dict
        Of each layer and index its median over the units that respond, and that of its standard error; the same by
        chance (sham alterations, permuted labels), and beyond that; and the share of units with an adjusted p-value
        under 0.05, undefined where there are too few draws for such a p-value. ``silent`` counts units that respond to
        no image.
    trials : list of dict
        What statistics of trials found, as `neuroprobe.trial_findings.trial_rows` gives it.
    comparisons : list of dict
        What comparisons with brains found, as `neuroprobe.comparison.findings.comparison_rows` gives it.
    lesion : dict
        Units of each layer that are masked in the network that was recorded.
    until : dict or None
        Under ``design: {until: …}``, where and why the run stopped, and how far each layer was: see
        `neuroprobe.stopping.Decision`.
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
    selectivity: list[dict[str, Any]]
    trials: list[dict[str, Any]]
    comparisons: list[dict[str, Any]]
    lesion: dict[str, int]
    until: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values; None in the place of what is undefined."""
        return asdict(self, dict_factory=lambda items: _plain(dict(items)))

    def __str__(self) -> str:
        state = "finished" if self.finished else "unfinished: run the same protocol into it again to go on"
        lines = [f"{self.title or 'untitled'}: {state}"]
        lines += [
            f"{name}: {one['blocks_done']} of {one['blocks']} done"
            if name == ANALYSES
            else f"{name}: {one['blocks_done']} of {one['blocks']} blocks"
            + (f" ({one['blocks'] // one['parts']} in each of {one['parts']} parts)" if one["parts"] > 1 else "")
            + f", {one['samples']:,} "
            f"{SAMPLED.get(name, 'images')}"
            + ("" if self.finished or "layers_scored" not in one else f"; crops shown of {one['layers_scored']} layers")
            for name, one in self.sessions.items()
        ]
        if self.until is not None:
            lines.append(told(self.until))
        if self.lesion:
            masked = ", ".join(f"{n:,} units of {layer}" for layer, n in self.lesion.items())
            lines.append(f"the network was recorded with a lesion: {masked} masked")
        if self.stored:
            lines += ["", "stored responses", self.stored]
        tables = {name: getattr(self, name) for name in TABLES}
        return "\n".join([*lines, *table_lines(tables)])


def _plain(value: Any) -> Any:
    """Replace NaN, which JSON does not know, by None."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value


@dataclass(frozen=True)
class RecordingStatus:
    """What a recording in our own formats holds.

    Attributes
    ----------
    recording : dict
        As `neuroprobe.recordings.summary.summarise` gives it.
    text : str
    """

    recording: dict[str, Any]
    text: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return self.recording

    def __str__(self) -> str:
        return self.text


def status(store: str | os.PathLike[str]) -> Status | RecordingStatus:
    """Say what a store holds: a run's, or a recording's.

    Raises
    ------
    StoreError
        If it is not a store of neuroprobe's.
    """
    path = Path(store)
    if is_recording(path):
        tree = open_recording(path)
        return RecordingStatus(summarise(tree), f"a recording; analyse it by a protocol\n{described(tree)}")
    header = require_store(path)
    finished = finished_samples(path) == header.samples
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
    lesion: dict[str, int] = {}
    until = None
    if finished:
        result = open_result(path)
        until = json.loads(result.attrs.get(names.UNTIL, "null"))
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
                "blocks": begun.n_blocks * len(begun.keys(name)),
                "blocks_done": sum(stop - start for key in begun.keys(name) for start, stop in live_spans(path, key)),
                "parts": len(begun.keys(name)),
            }
            | ({"layers_scored": n_scored(path, begun.samples)} if name == names.SELECTIVITY else {})
            for name, begun in header.sessions.items()
        },
        finished=finished,
        stored=stored,
        lesion=lesion,
        until=until,
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


def _selectivity_rows(result: xr.DataTree) -> list[dict[str, Any]]:
    """One row per layer and index that the layer has."""
    if names.SELECTIVITY not in result.children:
        return []
    facts = layer_facts(result)
    found = {index: layer_quantiles(result, index, (0.5,)).isel({names.QUANTILE: 0}) for index in main_indexes(result)}
    rows = []
    for number, layer in enumerate(map(str, facts[names.LAYER].values)):
        units, about = selectivity_of(result, layer), facts.isel({names.LAYER: number})
        for index in (name for name in found if name in units):
            at = found[index].isel({names.LAYER: number})
            chance = next((at[name] for name in (f"{index}_sham", f"{index}_chance") if name in at), math.nan)
            of_units = {key: int(about[name]) for key, name in (("units", names.N_UNITS), ("silent", names.N_SILENT))}
            corrected = f"{index}_corrected"
            rows.append(
                {"layer": layer, **of_units, names.WHOLE_IMAGE: bool(about[names.WHOLE_IMAGE]), "index": index}
                | {"median": float(at[index]), "median_se": _median_of(units, names.se(index))}
                | {"chance": float(chance), "corrected": float(at.get(corrected, math.nan))}
                | {"corrected_se": _median_of(units, names.se(corrected))}
                | {names.SHARE: _share(result, index, at)}
                | {"correction": units[p_adjusted(index)].attrs["correction"] if p_adjusted(index) in units else "none"}
            )
    return rows


def _median_of(units: xr.Dataset, name: str) -> float:
    """Median over the units of a layer; NaN where there is no such variable."""
    return float(units[name].median()) if name in units else math.nan


def _share(result: xr.DataTree, index: str, at: xr.Dataset) -> float:
    """Share of units that are significant; NaN where none can be."""
    if names.SIGNIFICANT not in at or not can_be_significant(result, index):
        return math.nan
    return float(at[names.SIGNIFICANT])


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
    "selectivity": _selectivity_rows,
    "trials": trial_rows,
    "comparisons": comparison_rows,
}
