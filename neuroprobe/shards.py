"""Shards of a session: recorded, merged with their siblings, and kept, by one process or by many workers."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from neuroprobe import names
from neuroprobe.budget import explained_shortage
from neuroprobe.costs import samples_per_chunk, stored_sites
from neuroprobe.differences import difference_files
from neuroprobe.machine import Budget, give_back
from neuroprobe.masking_recorder import MaskingRecorder
from neuroprobe.planner import timed
from neuroprobe.plans import Plan
from neuroprobe.progress import Finished, Listener, RunStarted, ShardDone
from neuroprobe.recorder import BlockRecorder, Recorder, States, state_key
from neuroprobe.responses import ResponseWriter
from neuroprobe.results import site_coords
from neuroprobe.rig import Rig
from neuroprobe.selectivity.recorder import SelectivityRecorder
from neuroprobe.statistics.tree import Span, State, aligned_spans
from neuroprobe.store import SessionStore


def make_recorder(rig: Rig, plan: Plan, path: Path | None = None) -> BlockRecorder:
    """Make the recorder of a session; it writes responses and differences, where some are kept, into a store."""
    if rig.session == names.MASKING:
        return MaskingRecorder(rig, plan)
    if rig.session == names.SELECTIVITY:
        return SelectivityRecorder(rig, plan)
    if path is None:
        return Recorder(rig, plan)
    return Recorder(rig, plan, _writer(path, rig, plan), difference_files(path, rig))


def _writer(path: Path, rig: Rig, plan: Plan) -> ResponseWriter | None:
    sites = stored_sites(rig)
    if not sites:
        return None
    per_row = 4 * sum(site.n_units for site in sites)
    units = {
        names.parameter(one.name, name): parameter.units
        for one in rig.treatment.applied
        for name, parameter in one.alteration.parameters.items()
    }
    return ResponseWriter(
        path,
        {site.name: (site.dims, site.shape, site_coords(site)) for site in sites},
        n_presentations=plan.samples * plan.n_rows,
        chunk=samples_per_chunk(plan, per_row) * plan.n_rows,
        piece=plan.layout.piece * plan.n_rows,
        units={**units, **rig.images.units},
        attrs={} if rig.noise is None else {site.name: rig.noise.attrs(site.name) for site in sites},
    )


def record_all(recorder: BlockRecorder, store: SessionStore, budget: Budget, listener: Listener) -> None:
    """Record what is not in the store, shard by shard; the first block tells how long a shard should be."""
    plan = recorder.plan
    while store.siblings:
        merge(store.siblings[0], recorder, store)
    blocks = [span for span in aligned_spans(0, plan.n_blocks, 1) if not store.is_done(span)]
    listener(RunStarted(plan, plan.n_blocks - len(blocks)))
    if not blocks:
        listener(Finished())
        return
    with recorder.attached():

        def record(span: Span) -> None:
            with explained_shortage(lambda: recorder.place):
                _keep(span, recorder.record_span(span, listener), recorder, store)
            give_back()
            listener(ShardDone(span))

        started = time.perf_counter()
        record(blocks[0])
        plan = recorder.plan = timed(plan, recorder.rig, time.perf_counter() - started, budget)
        for shard in aligned_spans(0, plan.n_blocks, plan.shard):
            for span in undone(shard, store.spans):
                record(span)
    listener(Finished())


def undone(span: Span, done: Collection[Span]) -> Iterator[Span]:
    """Parts of a shard that are not within others, which may be smaller: of an earlier run, for example."""
    if any(other.holds(span) for other in done):
        return
    if not any(span.holds(other) for other in done):
        yield span
        return
    half = len(span) // 2
    for child in (Span(span.start, span.start + half), Span(span.start + half, span.stop)):
        yield from undone(child, done)


def _keep(span: Span, states: States, recorder: BlockRecorder, store: SessionStore) -> None:
    """Merge a span with the siblings that are in the store, and store it in their place."""
    recorder.place = "while sums were merged"
    recorder.sync()
    give_back()
    found = convergence(span, states, recorder)
    while span.sibling in store.spans:
        for key in states:
            sibling = store.load(span.sibling, key, recorder.kind(key), recorder.rig.device)
            states[key] = _joined(states[key], sibling, is_left=span.is_left)
            del sibling  # one at a time, as was planned
            give_back()
        span = span.parent
        found |= convergence(span, states, recorder)
    store.add(span, states, found)


def _joined(state: State, sibling: State, *, is_left: bool) -> State:
    """Add the right one of two siblings to the left one, and return that; the right one is let go."""
    left, right = (state, sibling) if is_left else (sibling, state)
    left.merge(right)
    return left


def merge(left: Span, recorder: BlockRecorder, store: SessionStore) -> None:
    """Merge two siblings that are in the store, the left half of a span and the right one."""
    states, found = merged(left, recorder, store)
    store.add(left.parent, states, found)


def merged(left: Span, recorder: BlockRecorder, store: SessionStore) -> tuple[States, dict[int, Any]]:
    """Return the merged states of two siblings in the store, and the convergence that they tell."""
    states, device = States(), recorder.rig.device
    for key in store.keys(left):
        kind = recorder.kind(key)
        states[key] = store.load(left, key, kind, device)
        states[key].merge(store.load(left.sibling, key, kind, device))
    return states, convergence(left.parent, states, recorder)


def convergence(span: Span, states: States, recorder: BlockRecorder) -> dict[int, Any]:
    """Summarise the result of the first samples, where a span is such a start."""
    plan = recorder.plan
    if span.start or len(span) < 2:
        return {}
    table = {
        analysis.name: {
            site.name: analysis.convergence(states[state_key(analysis.name, site.name)])
            for site in plan.sites
            if site.units is None  # quantiles over a layer are not those of its parts
        }
        for analysis in recorder.rig.analyses
        if analysis.summarised
    }
    return {len(span) * plan.layout.block: table}
