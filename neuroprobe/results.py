"""The result of a run: what becomes of the states in its store, group by group, with labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, Final

import xarray as xr

from neuroprobe import names
from neuroprobe.analysis.contrast import ContrastAnalysis, LayerLayout
from neuroprobe.analysis.sensitivity import VarianceAnalysis, label_convergence
from neuroprobe.differences import DifferenceFile, difference_files
from neuroprobe.parts import sums_of_layer
from neuroprobe.plans import Plan
from neuroprobe.probe.sites import Site
from neuroprobe.recorder import state_key
from neuroprobe.rig import Rig
from neuroprobe.selectivity.results import selectivity_nodes, shown_images
from neuroprobe.statistics.pick_freeze import PickFreezeSums
from neuroprobe.statistics.plain_sums import PlainSums
from neuroprobe.stimuli.examples import example_stimuli
from neuroprobe.store import RunStore, SessionStore

CONVERGENCE_STEPS: Final = 8  # results at samples / 8, / 4, / 2 are summarised


def site_coords(site: Site) -> dict[str, Any]:
    """Coordinates of a layer: the channels' own numbers, where only some were recorded."""
    return {} if site.spec.channels is None else {names.CHANNEL: site.channels}


def result_groups(
    rigs: Mapping[str, Rig], plans: Mapping[str, Plan], store: RunStore
) -> dict[str, Iterable[tuple[str, xr.Dataset]]]:
    """Datasets of the result: group → (node, dataset) one after the other."""
    groups: dict[str, Iterable[tuple[str, xr.Dataset]]] = {}
    convergence: list[tuple[str, xr.Dataset]] = []
    stimuli: list[tuple[str, xr.Dataset]] = []
    for name, rig in rigs.items():
        for analysis in rig.analyses:
            if isinstance(analysis, ContrastAnalysis):
                kept = difference_files(store.path, rig)
                groups[analysis.name] = _contrasts(analysis, plans[name], store.sessions[name], kept)
                groups |= _accuracy(analysis, rig, store.sessions[name])
            else:
                groups[analysis.name] = _nodes(analysis, plans[name], store.sessions)
        for lesions in rig.lesion_analyses:
            key = state_key(lesions.name, lesions.place.name)
            node = lesions.place.name, lesions.label(store.sessions[name].merged(key, PlainSums))
            groups[lesions.name] = chain(groups.get(lesions.name, ()), [node])
        if name == names.SELECTIVITY:
            groups[name] = selectivity_nodes(rig, plans[name], store.sessions[name], store.folder)
            stimuli = [(names.SHOWN, shown_images(rig, store.sessions[name]))]
        convergence += _convergence_nodes(rig, plans[name], store.sessions)
    groups[names.CONVERGENCE] = iter(convergence)
    rig, plan = next((rig, plans[name]) for name, rig in rigs.items())
    examples = example_stimuli(rig.treatment, rig.images, rig.design(plan.layout.scramble), rig.device)
    groups[names.STIMULI] = iter([(names.EXAMPLES, examples), *stimuli])
    return {group: nodes for group, nodes in groups.items() if group != names.CONVERGENCE or convergence}


def _nodes(
    analysis: VarianceAnalysis, plan: Plan, sessions: Mapping[str, SessionStore]
) -> Iterator[tuple[str, xr.Dataset]]:
    """Results of the layers of one analysis."""
    for depth, site in enumerate(plan.sites):
        sums = sums_of_layer(plan, sessions, analysis.name, site.name)
        coords = site_coords(site)
        yield site.name, analysis.label(sums, site.dims, site.shape, coords, plan.layout.scramble, depth)


def _contrasts(
    analysis: ContrastAnalysis, plan: Plan, session: SessionStore, kept: Mapping[str, DifferenceFile]
) -> Iterator[tuple[str, xr.Dataset]]:
    """Contrasts of the layers, of those whose differences are kept with signed ranks."""
    layouts = {
        site.name: LayerLayout(site.dims, site.shape, site_coords(site), depth) for depth, site in enumerate(plan.sites)
    }
    ranked = {layer: file.ranked(plan.samples) for layer, file in kept.items()}

    def arrays(layer: str) -> dict[str, Any]:
        return analysis.finalize(session.merged(state_key(analysis.name, layer), PickFreezeSums), ranked.get(layer))

    yield from analysis.label_layers(layouts, arrays, plan.samples)


def _accuracy(
    analysis: ContrastAnalysis, rig: Rig, session: SessionStore
) -> dict[str, Iterator[tuple[str, xr.Dataset]]]:
    """The table of accuracies, a group without nodes, where they are measured."""
    if rig.outcome is None or rig.outcome.site not in rig.probed:
        return {}
    sums = session.merged(state_key(analysis.name, rig.outcome.site.name), PickFreezeSums)
    return {names.ACCURACY: iter([("", analysis.label_accuracy(sums, rig.outcome.measures))])}


def _convergence_nodes(rig: Rig, plan: Plan, sessions: Mapping[str, SessionStore]) -> Iterator[tuple[str, xr.Dataset]]:
    """Summaries of the errors of each analysis at an eighth, a quarter, half and all of the samples.

    Of a layer whose units are in several parts, at all of the samples: no more is kept of smaller ones.
    """
    factors = [factor.name for factor in rig.factors]
    for analysis in rig.variance_analyses:
        if not analysis.summarised:
            continue
        table: dict[int, dict[str, dict[str, list[float]]]] = {plan.samples: {}}
        for part in plan.recorded:
            for n, entry in sessions[part.key].convergence.items():
                if n * CONVERGENCE_STEPS >= plan.samples:
                    table.setdefault(n, {}).update(entry[analysis.name])
        # the last span is no subtree where the number of blocks is no power of two
        last = table[plan.samples]
        table[plan.samples] = {
            site.name: last[site.name]
            if site.name in last
            else analysis.convergence(sums_of_layer(plan, sessions, analysis.name, site.name))
            for site in plan.sites
        }
        yield analysis.name, label_convergence(table, factors)
