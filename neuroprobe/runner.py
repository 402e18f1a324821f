"""Run a protocol: plan it, record shard by shard, resume and extend, write the result."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import xarray as xr

from neuroprobe import names
from neuroprobe.budget import explained_shortage, require_disk, require_memory
from neuroprobe.costs import samples_per_chunk, stored_sites
from neuroprobe.differences import difference_files
from neuroprobe.errors import PlanError, StoreError
from neuroprobe.journal import Begun, Header, live_spans, read_header, require_no_other
from neuroprobe.machine import Budget, find_budget, give_back, parse_bytes
from neuroprobe.masking_recorder import MaskingRecorder
from neuroprobe.planner import make_plan, timed
from neuroprobe.plans import Plan, Plans
from neuroprobe.progress import Finished, Listener, RunStarted, ShardDone, default_listener
from neuroprobe.protocol.digest import guard_hash
from neuroprobe.protocol.reader import load_protocol
from neuroprobe.protocol.schema import Protocol
from neuroprobe.provenance import root_attrs
from neuroprobe.recorder import BlockRecorder, Recorder, States, state_key
from neuroprobe.responses import ResponseWriter
from neuroprobe.results import result_groups, site_coords
from neuroprobe.rig import Rig, open_rig
from neuroprobe.selectivity.recorder import SelectivityRecorder
from neuroprobe.selectivity.scores import score, time_scores
from neuroprobe.statistics.pick_freeze import compiles
from neuroprobe.statistics.tree import Span, aligned_spans
from neuroprobe.store import RunStore, SessionStore, bytes_of_result, finished_samples, open_result, write_result

Source = str | os.PathLike[str] | Mapping[str, Any] | Protocol
OPENING = "while the network and the images were opened"


def plan(
    protocol: Source,
    *,
    set: str | None = None,  # noqa: A002 - as the key of protocols
    limit: int | None = None,
    measure: bool = True,
    memory: str | int | None = None,
) -> Plans:
    """Say what a protocol will cost: rows, units, memory, disk and time.

    Parameters
    ----------
    protocol : path, mapping or Protocol
    set : str, optional
        Which of its sets of alterations, where it has several.
    limit : int, optional
        Base samples of each design, where fewer than the protocol's are wanted.
    measure : bool
        Whether a few batches are presented, to estimate the time.
    memory : str or int, optional
        What the process may take, all in all: ``"4GB"``, ``"512MB"``, ``"4GiB"``, or bytes. By default what the
        machine, or the container or job that it runs in, has free.

    Returns
    -------
    Plans
        One `neuroprobe.plans.Plan` for each design, such as ``plans["pick-freeze"]``.

    Raises
    ------
    NeuroprobeError
        For everything that would stop the run.
    """
    given = None if memory is None else parse_bytes(memory)
    with explained_shortage(lambda: OPENING):
        opened = open_rig(load_protocol(protocol, set))
    budget = find_budget(given, opened.device)
    plans = []
    for rig in opened.sessions:
        made = make_plan(rig, limit=limit, compiles=compiles, budget=budget)
        require_memory(made, rig, budget, limit=limit)
        if measure:
            recorder = make_recorder(rig, made)
            with explained_shortage(lambda: recorder.place):  # noqa: B023 - it is called before the next one
                made = timed(made, rig, recorder.time_block(), budget)
                if rig.session == names.SELECTIVITY:
                    made = replace(made, seconds=(made.seconds or 0) + time_scores(rig, made))
        plans.append(made)
    return Plans(*plans)


def run(
    protocol: Source,
    out: str | os.PathLike[str],
    *,
    set: str | None = None,  # noqa: A002 - as the key of protocols
    overwrite: bool = False,
    limit: int | None = None,
    listener: Listener | None = None,
    memory: str | int | None = None,
) -> xr.DataTree:
    """Run a recording protocol, go on with a run that was interrupted, or extend one to more samples.

    Parameters
    ----------
    protocol : path, mapping or Protocol
    out : path
        Zarr store of the result. One that the same protocol wrote is gone on with.
    set : str, optional
        Which of the protocol's sets of alterations is run, where it has several.
    overwrite : bool
        Whether a result at `out` is deleted first.
    limit : int, optional
        Base samples of each design, where fewer than the protocol's are wanted.
    listener : callable, optional
        Gets the events of `neuroprobe.progress`; by default a progress bar where stderr is a terminal.
    memory : str or int, optional
        What the process may take, all in all: ``"4GB"``, ``"512MB"``, ``"4GiB"``, or bytes; forward passes are made
        small enough. By default what the machine, or the container or job that it runs in, has free.

    Returns
    -------
    xarray.DataTree
        As `neuroprobe.open_result` opens it.

    Raises
    ------
    NeuroprobeError
        Before any work, if anything is wrong with the protocol, its files, or the output.
    ResponseError
        As soon as a response is not finite, unless the protocol says ``nan: drop``.

    Notes
    -----
    Interrupting loses at most one shard. Numbers do not depend on where a run was interrupted or extended.
    """
    checked, given = load_protocol(protocol, set), None if memory is None else parse_bytes(memory)
    path = Path(out)
    require_no_other(path)
    found = None if overwrite else read_header(path)
    if found is not None and not live_spans(path) and not finished_samples(path):
        # a run that stopped before its first block left nothing to go on with
        found, overwrite = None, True
    with explained_shortage(lambda: OPENING):
        opened = open_rig(checked)
    content = {"lesion": opened.subject.lesion.digest} if checked.subject.lesion else {}
    content |= {"maps": opened.study.digest} if opened.study is not None else {}
    content |= {"labels": opened.selectivity.digest} if opened.selectivity is not None else {}
    guard = guard_hash(checked, weights=opened.subject.digest, images=opened.images.digest, **content)
    if found is not None:
        _require_same(path, found, guard)
    budget = find_budget(given, opened.device)
    rigs = {rig.session: rig for rig in opened.sessions}
    made = []
    for rig in rigs.values():
        begun = None if found is None else found.sessions[rig.session]
        recorded = None if begun is None else begun.layout
        made.append(make_plan(rig, recorded=recorded, limit=limit, compiles=compiles, budget=budget))
        if begun is not None:
            _require_extendable(path, begun, made[-1], checked.design.scramble)
        require_memory(made[-1], rig, budget, limit=limit, begun=begun is not None)
    plans = Plans(*made)
    require_disk(plans, rigs, path, replaced=0 if found is None else bytes_of_result(path))
    sessions = {name: Begun(one.layout, one.samples) for name, one in plans.items()}
    store = RunStore(path, Header(guard, sessions, checked.title))
    with store.locked(overwrite=overwrite):
        undone = [name for name in plans if not _is_done(plans[name], store.sessions[name])]
        if undone:
            for warning in plans.warnings:
                warnings.warn(warning, stacklevel=2)
        elif finished_samples(path) == store.header.samples:
            return open_result(path)
        for name in undone:
            recorder = make_recorder(rigs[name], plans[name], path)
            _record(recorder, store.sessions[name], budget, listener or default_listener())
            del recorder  # its sums are of no use any more, and large
            give_back()
        if names.SELECTIVITY in rigs:
            with explained_shortage(lambda: "while crops were shown"):
                one = names.SELECTIVITY
                score(rigs[one], plans[one], store.sessions[one], store.folder, listener or default_listener())
        with explained_shortage(lambda: "while the result was written"):
            write_result(path, result_groups(rigs, plans, store), root_attrs(opened, plans))
    result = open_result(path)
    for analysis in next(iter(rigs.values())).analyses[:1]:
        for layer, node in result.children[analysis.name].children.items():
            if node.attrs.get("n_undefined") == node[names.DEFINED].size:
                warnings.warn(f"layer {layer!r}: no unit varies, so that no index is defined", stacklevel=2)
    return result


def _is_done(plan: Plan, session: SessionStore) -> bool:
    return all(session.is_done(span) for span in aligned_spans(0, plan.n_blocks, 1))


def _require_same(path: Path, found: Header, guard: str) -> None:
    if found.guard != guard:
        raise StoreError(
            f"{str(path)!r} was written by another protocol ({found.title or 'untitled'}), other weights, images, "
            "maps or lesions, or stores other responses: choose another path, or delete it by --overwrite"
        )


def _require_extendable(path: Path, found: Begun, made: Plan, scramble: int | str) -> None:
    """Refuse to go on with a store that holds more than is asked for, or was begun with other scrambles."""
    spans = live_spans(path, made.session)
    held = min(
        found.samples, max([finished_samples(path).get(made.session, 0), *(b * found.layout.block for _, b in spans)])
    )
    what, more = "base samples", "raise `samples`"
    if made.session != names.PICK_FREEZE:
        what, more = "images", "raise the limit"
    if held > made.samples:
        raise StoreError(
            f"{str(path)!r} holds {held:,} {what}, more than the {made.samples:,} asked for: "
            f"{more}, choose another path, or delete it by --overwrite"
        )
    if made.session != names.PICK_FREEZE:
        return  # its errors are over images, whatever the blocks are
    if found.layout.n_groups and made.n_blocks > found.layout.n_groups:
        raise StoreError(
            f"{str(path)!r} shows each image in one of {found.layout.n_groups} blocks (replicate: image), and more "
            f"base samples have no images left: choose another path for {made.samples:,} samples"
        )
    recorded = found.layout.scramble
    wanted = {"whole": None, "auto": recorded}.get(scramble, scramble) if isinstance(scramble, str) else scramble
    if recorded != wanted or (found.layout.block < 64 and made.samples >= 128):
        raise StoreError(
            f"{str(path)!r} was begun with blocks of {found.layout.block} base samples, by a run of few samples: its "
            "standard errors would stay those of a trial; choose another path, or delete it by --overwrite"
        )
    if found.layout.compiled and not compiles():
        raise PlanError(
            f"{str(path)!r} was begun with compiled statistics, and torch.compile finds no compiler here: go on where "
            "it was begun, or choose another path"
        )


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


def _record(recorder: BlockRecorder, store: SessionStore, budget: Budget, listener: Listener) -> None:
    """Record what is not in the store, shard by shard; the first block tells how long a shard should be."""
    plan = recorder.plan
    blocks = [span for span in aligned_spans(0, plan.n_blocks, 1) if not store.is_done(span)]
    listener(RunStarted(plan, plan.n_blocks - len(blocks)))
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
            for span in _undone(shard, store):
                record(span)
    listener(Finished())


def _undone(span: Span, store: SessionStore) -> Iterator[Span]:
    """Parts of a shard that are not in the store; an earlier run may have had smaller shards."""
    if store.is_done(span):
        return
    if not any(span.holds(done) for done in store.spans):
        yield span
        return
    half = len(span) // 2
    for child in (Span(span.start, span.start + half), Span(span.start + half, span.stop)):
        yield from _undone(child, store)


def _keep(span: Span, states: States, recorder: BlockRecorder, store: SessionStore) -> None:
    """Merge a span with the siblings that are in the store, and store it in their place."""
    recorder.place = "while sums were merged"
    recorder.sync()
    give_back()
    convergence = _convergence(span, states, recorder)
    while span.sibling in store.spans:
        for key in states:
            sibling = store.load(span.sibling, key, type(states[key]), recorder.rig.device)
            left, right = (states[key], sibling) if span.is_left else (sibling, states[key])
            left.merge(right)
            states[key] = left
        span = span.parent
        convergence |= _convergence(span, states, recorder)
    store.add(span, states, convergence)


def _convergence(span: Span, states: States, recorder: BlockRecorder) -> dict[int, Any]:
    """Summarise the result of the first samples, where a span is such a start."""
    plan = recorder.plan
    if span.start or len(span) < 2:
        return {}
    table = {
        analysis.name: {
            site.name: analysis.convergence(states[state_key(analysis.name, site.name)]) for site in plan.sites
        }
        for analysis in recorder.rig.analyses
        if analysis.summarised
    }
    return {len(span) * plan.layout.block: table}
