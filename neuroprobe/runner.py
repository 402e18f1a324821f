"""Run a protocol: plan it, record shard by shard, resume and extend, write the result."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import xarray as xr

from neuroprobe import names
from neuroprobe.animal_runs import RecordingPlan, plan_animal, run_animal
from neuroprobe.budget import explained_shortage, require_disk, require_memory, waiting_states
from neuroprobe.cluster.hired import require_one
from neuroprobe.comparison.blocks import digest_of_compared, require_comparisons
from neuroprobe.errors import PlanError, StoreError
from neuroprobe.interim import describe
from neuroprobe.journal import Begun, Header, bytes_of_result, live_spans, read_header, require_no_other
from neuroprobe.lesioned_runs import LesionedRuns
from neuroprobe.machine import Budget, find_budget, give_back, parse_bytes
from neuroprobe.parts import gathered, plan_session, rig_of
from neuroprobe.planner import timed
from neuroprobe.plans import Plan, Plans, pieces_of
from neuroprobe.progress import Listener, default_listener
from neuroprobe.protocol.animal import AnimalProtocol, AnyProtocol
from neuroprobe.protocol.digest import guard_hash
from neuroprobe.protocol.reader import load_protocol
from neuroprobe.protocol.schema import Protocol
from neuroprobe.protocol.trials import TRIALS
from neuroprobe.provenance import root_attrs
from neuroprobe.results import result_groups
from neuroprobe.rig import Rig, open_rig
from neuroprobe.rounding import told_rounding
from neuroprobe.selectivity.scores import begin_scores, score, time_scores
from neuroprobe.shards import make_recorder, record_all
from neuroprobe.stages import Stages, as_attrs
from neuroprobe.statistics.pick_freeze import compiles
from neuroprobe.stopping import told
from neuroprobe.store import RunStore, finished_samples, open_result, recorded_tree, write_result
from neuroprobe.trial_plans import require_trials_of
from neuroprobe.trial_store import KeptAnalyses

if TYPE_CHECKING:
    from distributed import Client

    from neuroprobe.cluster.crew import Crew
    from neuroprobe.cluster.station import Job

Source = str | os.PathLike[str] | Mapping[str, Any] | AnyProtocol
OPENING = "while the network and the images were opened"


def plan(
    protocol: Source,
    *,
    set: str | None = None,  # noqa: A002 - as the key of protocols
    limit: int | None = None,
    measure: bool = True,
    memory: str | int | None = None,
) -> Plans | RecordingPlan:
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
        One `neuroprobe.plans.Plan` for each design, such as ``plans["pick-freeze"]``; where the subject is a recording,
        one `neuroprobe.animal_runs.RecordingPlan`, which says what is in it and which analyses can run.

    Raises
    ------
    NeuroprobeError
        For everything that would stop the run.
    """
    given, loaded = None if memory is None else parse_bytes(memory), load_protocol(protocol, set)
    if isinstance(loaded, AnimalProtocol):
        return plan_animal(loaded, memory=memory)
    with explained_shortage(lambda: OPENING):
        opened = open_rig(loaded)
    require_comparisons(loaded, opened.images.ids)
    budget = find_budget(given, opened.device)
    plans = []
    for rig in opened.sessions:
        made = plan_session(rig, limit=limit, compiles=compiles, budget=budget)
        require_trials_of(rig, made.samples)
        require_memory(made, rig, budget, limit=limit)
        if measure:
            made = told_rounding(rig, made)
            made = gathered(made, [_timed(part, rig_of(rig, part), budget) for part in made.recorded])
        plans.append(made)
    return Plans(*plans)


def _timed(plan: Plan, rig: Rig, budget: Budget) -> Plan:
    """Add the expected time, from a few batches that are presented."""
    recorder = make_recorder(rig, plan)
    with explained_shortage(lambda: recorder.place):
        made = timed(plan, rig, recorder.time_block(), budget)
        if rig.session == names.SELECTIVITY:
            made = replace(made, seconds=(made.seconds or 0) + time_scores(rig, made))
    return made


def run(
    protocol: Source,
    out: str | os.PathLike[str],
    *,
    set: str | None = None,  # noqa: A002 - as the key of protocols
    overwrite: bool = False,
    limit: int | None = None,
    listener: Listener | None = None,
    memory: str | int | None = None,
    workers: int | None = None,
    client: Client | None = None,
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
        small enough, and sums that do not fit together are recorded in parts, one after the other (see
        `neuroprobe.parts`). By default what the machine, or the container or job that it runs in, has free. Workers on
        this machine share it.
    workers : int, optional
        Processes on this machine that share its cores; by default this process does it all.
    client : distributed.Client, optional
        Of a scheduler whose workers do it, in place of those: they must see `out` and the files of the protocol under
        the same paths, and have the same versions of neuroprobe and torch.

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
    WorkerError
        If workers cannot be reached, or the same part of the run fails on them again and again.

    Notes
    -----
    Interrupting loses at most one shard of each worker. Numbers do not depend on where a run was interrupted or
    extended, nor on how many workers did it, to the last bit.
    """
    checked, given = load_protocol(protocol, set), None if memory is None else parse_bytes(memory)
    require_one(workers, client)
    path = Path(out)
    if isinstance(checked, AnimalProtocol):
        theirs: dict[str, Any] = {"workers": workers, "client": client}
        return run_animal(checked, path, overwrite=overwrite, listener=listener, memory=memory, **theirs)
    require_no_other(path)
    found = None if overwrite else read_header(path)
    if found is not None and not live_spans(path) and not finished_samples(path):
        # a run that stopped before its first block left nothing to go on with
        found, overwrite = None, True
    with explained_shortage(lambda: OPENING):
        opened = open_rig(checked)
    devices = _devices(workers, opened)
    require_comparisons(checked, opened.images.ids)
    compared = digest_of_compared(checked)
    guard = guard_of(checked, opened, compared)
    if found is not None:
        _require_same(path, found, guard)
    budget = _budget(given, opened, workers, client)
    rigs = {rig.session: rig for rig in opened.sessions}
    made = []
    for rig in rigs.values():
        begun = None if found is None else found.sessions[rig.session]
        made.append(plan_session(rig, begun=begun, limit=limit, compiles=compiles, budget=budget))
        require_trials_of(rig, made[-1].samples)
        if begun is not None:
            _require_extendable(path, begun, made[-1], checked.design.scramble)
        require_memory(made[-1], rig, budget, limit=limit, begun=begun is not None)
    plans = Plans(*(told_rounding(rigs[one.session], one) for one in made))
    waiting = waiting_states(plans, rigs, _n_workers(workers, client))
    require_disk(plans, rigs, path, replaced=waiting + (0 if found is None else bytes_of_result(path)))
    sessions = {name: Begun(one.layout, one.samples, pieces_of(one)) for name, one in plans.items()}
    store = RunStore(path, Header(guard, sessions, checked.title))
    with store.locked(overwrite=overwrite):
        listen = listener or default_listener()
        stages = {name: Stages(rigs[name], plans[name], store.sessions, listen) for name in plans}
        undone = [name for name, one in stages.items() if not one.is_done]
        if undone:
            for warning in plans.warnings:
                warnings.warn(warning, stacklevel=2)
        elif _is_written(path, stages):
            store.note_samples({name: one.plan.samples for name, one in stages.items()})
            return open_result(path)
        describe(store.folder, rigs, root_attrs(opened, plans))
        with ExitStack() as stack:
            crew = None
            if workers is None and client is None:
                _record_here(rigs, stages, store, undone, budget, listen)
            else:
                from neuroprobe.cluster.station import Job

                recorded = {part.key: part for one in plans.values() for part in one.recorded}
                job = Job(checked, recorded, str(path.absolute()), guard, compared, tried=opened.images.tried)
                crew = stack.enter_context(_crew(job, client, workers, devices))
                _record_on(crew, rigs, stages, store, undone, budget, listen)
            plans = Plans(*(one.plan for one in stages.values()))
            store.note_samples({name: one.samples for name, one in plans.items()})
            attrs = root_attrs(opened, plans) | as_attrs(stages)
            lesioned = LesionedRuns(path, opened, given if workers is None else budget.memory, crew)
            of_trials = _of_trials(path, checked, attrs, lesioned, listen, crew)
        with explained_shortage(lambda: "while the result was written"):
            write_result(path, {**result_groups(rigs, plans, store), **of_trials}, attrs)
        lesioned.clear()
    result = open_result(path)
    for one in stages.values():
        if one.decision is not None and not one.decision.is_reached:
            warnings.warn(told(one.decision.as_dict()), stacklevel=2)
    for analysis in next(iter(rigs.values())).analyses[:1]:
        for layer, node in result.children[analysis.name].children.items():
            if node.attrs.get("n_undefined") == node[names.DEFINED].size:
                warnings.warn(f"layer {layer!r}: no unit varies, so that no index is defined", stacklevel=2)
    return result


def _record_here(
    rigs: Mapping[str, Rig],
    stages: Mapping[str, Stages],
    store: RunStore,
    undone: list[str],
    budget: Budget,
    listener: Listener,
) -> None:
    """Record sessions in this process."""
    for name in undone:
        for plan in stages[name]:
            for whole, part in zip(stages[name].whole.recorded, plan.recorded, strict=True):
                recorder = make_recorder(rig_of(rigs[name], whole), whole, store.path)
                recorder.plan = part
                record_all(recorder, store.sessions[part.key], budget, listener)
                del recorder  # its sums are of no use any more, and large
                give_back()
    if names.SELECTIVITY in rigs:
        with explained_shortage(lambda: "while crops were shown"):
            one = names.SELECTIVITY
            score(rigs[one], stages[one].plan, store.sessions[one], store.folder, listener)


@contextmanager
def _crew(job: Job, client: Client | None, workers: int | None, devices: Sequence[str]) -> Iterator[Crew]:
    """Workers, told of a run: those of a client, or some on this machine."""
    from neuroprobe.cluster.hired import hired

    if devices:
        assert isinstance(job.protocol, Protocol)
        # each worker sees its own only
        record = job.protocol.record.model_copy(update={"device": "cuda"})
        job = replace(job, protocol=job.protocol.model_copy(update={"record": record}))
    with hired(job, client, workers, devices) as crew:
        yield crew


def _record_on(
    crew: Crew,
    rigs: Mapping[str, Rig],
    stages: Mapping[str, Stages],
    store: RunStore,
    undone: list[str],
    budget: Budget,
    listener: Listener,
) -> None:
    """Record sessions on workers."""
    for name in undone:
        whole = stages[name].whole
        if name == names.PICK_FREEZE and crew.n_workers > whole.n_blocks:
            warnings.warn(
                f"{crew.n_workers} workers share {whole.n_blocks} blocks of {whole.layout.block} base samples, and "
                "some have nothing to do: begin anew with shorter blocks (`design: {scramble: 64}`), or take fewer "
                "workers",
                stacklevel=3,
            )
        for part in whole.recorded:
            make_recorder(rig_of(rigs[name], part), part, store.path).create_files()
        for plan in stages[name]:
            for part in plan.recorded:
                crew.record_all(rig_of(rigs[name], part), part, store.sessions[part.key], budget, listener)
    if names.SELECTIVITY in rigs:
        begin_scores(stages[names.SELECTIVITY].plan, store.folder)
        crew.score(rigs[names.SELECTIVITY], stages[names.SELECTIVITY].plan, listener)


def _devices(workers: int | None, opened: Rig) -> list[str]:
    """Names of the CUDA devices of workers on this machine."""
    if workers is None:
        return []
    from neuroprobe.cluster.devices import placed

    return placed(workers, opened.device)


def _budget(given: int | None, opened: Rig, workers: int | None, client: Client | None) -> Budget:
    """What each process of a run may take."""
    if client is not None:
        from neuroprobe.cluster.workers import worker_memory

        return worker_memory(client, find_budget(given, opened.device))
    budget = find_budget(given, opened.device)
    if workers is None:
        return budget
    source = f"{budget.source}, shared by {workers} workers"
    return replace(budget, memory=budget.memory // workers, source=source)


def _n_workers(workers: int | None, client: Client | None) -> int:
    """Processes that record at a time."""
    return workers or 1 if client is None else max(1, len(client.scheduler_info(n_workers=-1)["workers"]))


def guard_of(protocol: Protocol, opened: Rig, compared: str) -> str:
    """Hash of what decides the numbers of a run: the protocol, and the content of what it names.

    Parameters
    ----------
    protocol : Protocol
    opened : Rig
    compared : str
        Hash of what recordings are compared with, which those that only record need not see.
    """
    content = {"lesion": opened.subject.lesion.digest} if protocol.subject.lesion else {}
    content |= {"maps": opened.study.digest} if opened.study is not None else {}
    content |= {"labels": opened.selectivity.digest} if opened.selectivity is not None else {}
    content |= {"compared": compared} if compared else {}
    return guard_hash(protocol, weights=opened.subject.digest, images=opened.images.digest, **content)


def _of_trials(
    path: Path,
    protocol: Protocol,
    attrs: Mapping[str, Any],
    lesioned: LesionedRuns,
    listener: Listener,
    crew: Crew | None,
) -> dict[str, Iterator[tuple[str, xr.Dataset]]]:
    """Run the statistics of trials on the responses that are stored."""
    specs = [(number, spec) for number, spec in enumerate(protocol.analyses) if spec.name in TRIALS]
    if not specs:
        return {}
    # the guard of the store keeps all else as it is
    kept = KeptAnalyses(path, specs, protocol.seed, str(attrs["samples"]), lesioned, crew, attrs)
    if crew is not None:
        crew.forget()
    with protocol.places.told(), explained_shortage(lambda: "while stored responses were analysed"):
        kept.run(recorded_tree(path, attrs), listener)
    return kept.groups()


def _is_written(path: Path, stages: Mapping[str, Stages]) -> bool:
    """Whether the store holds the whole result of a run that ended so."""
    if finished_samples(path) != {name: one.plan.samples for name, one in stages.items()}:
        return False
    return open_result(path).attrs.get(names.UNTIL) == as_attrs(stages).get(names.UNTIL)


def _require_same(path: Path, found: Header, guard: str) -> None:
    if found.guard != guard:
        raise StoreError(
            f"{str(path)!r} was written by another protocol ({found.title or 'untitled'}), other weights, images, "
            "maps or lesions, or stores other responses: choose another path, or delete it by --overwrite"
        )


def _require_extendable(path: Path, found: Begun, made: Plan, scramble: int | str) -> None:
    """Refuse to go on with a store that holds more than is asked for, or was begun with other scrambles."""
    spans = [span for part in made.recorded for span in live_spans(path, part.key)]
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
