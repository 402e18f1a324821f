"""The budget: a plan beside what the machine offers, and what would fit where the plan does not."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from neuroprobe import names
from neuroprobe.costs import (
    PROGRAM,
    Part,
    by_purpose,
    disk_moments,
    fullest,
    memory_moments,
    merged_bytes,
    stored_sites,
)
from neuroprobe.disk import free_bytes, used_bytes
from neuroprobe.errors import PlanError
from neuroprobe.machine import Budget, human_bytes
from neuroprobe.parts import find_parts, plan_session, rig_of
from neuroprobe.plans import Plan
from neuroprobe.protocol.analyses import ContrastSpec

if TYPE_CHECKING:
    from neuroprobe.probe.sites import Site
    from neuroprobe.rig import Rig

N_NAMED: Final = 3  # layers that an alternative names
BATCH: Final = "(rows of a pass)"  # where an alternative says its batch
# parts of the disk that a protocol can do without
PER_WORKER: Final = 1.25  # states that are on disk for each worker but one (benchmarks/scale_simulation.py: 0.9 to 1.2)
DISK_REMEDIES: Final = {"stored responses": "store fewer responses", "differences": "rank fewer layers"}


@dataclass(frozen=True)
class Alternative:
    """A change of a protocol, and the plan with it."""

    text: str
    plan: Plan


def require_memory(plan: Plan, rig: Rig, budget: Budget, *, limit: int | None = None, begun: bool = False) -> None:
    """Refuse a plan that does not keep a budget of memory.

    Parameters
    ----------
    limit : int, optional
        Base samples, as they were asked for.
    begun : bool
        Whether the plan goes on with a store, whose forward passes are fixed.

    Raises
    ------
    PlanError
        Naming what takes most, and what would fit.
    """
    if plan.keeps(budget):
        return
    on_device = sum(plan.memory.values()) <= budget.memory
    part = max(plan.recorded, key=lambda part: _needed(part, on_device))
    moment, parts = fullest(memory_moments(part, rig_of(rig, part), plan.memory[PROGRAM]), on_device=on_device)
    passes = f"even in forward passes of {_rows(plan.layout.batch)}"
    if begun:
        of_parts = f"{len(plan.parts)} parts and the " if plan.parts else ""
        passes = f"in the {of_parts}forward passes of {plan.layout.batch} rows that the store was begun with"
    allowed = (
        f"{human_bytes(budget.device or 0)} of the device are free"
        if on_device
        else f"{human_bytes(budget.memory)} are allowed ({budget.source})"
    )
    found = alternatives(plan, rig, budget, limit=limit, begun=begun)
    fitting = [one for one in found if one.plan.keeps(budget)]
    listed = "; ".join(f"{one.text} ({human_bytes(_needed(one.plan, on_device))})" for one in fitting or found[:1])
    remedy = f"This would fit: {listed}" if fitting else f"Nothing tried fits; closest comes: {listed or 'nothing'}"
    program = "" if on_device else f"{human_bytes(plan.memory[PROGRAM])} are Python and what it holds, "
    whole = "" if begun else _why_whole(plan, rig, budget)
    raise PlanError(
        f"the run needs {human_bytes(_needed(plan, on_device))} of memory while {moment}, {passes}, and {allowed}: "
        f"{program}most {'of the rest ' if program else ''}goes to {_worst(parts)}{whole}. {remedy}"
    )


def _why_whole(plan: Plan, rig: Rig, budget: Budget) -> str:
    """Say why recording part by part is of no help, where sums might be shared out."""
    if rig.session != names.PICK_FREEZE:
        return ""
    _, misfit = find_parts(plan, rig, budget)
    if misfit is None:
        return ""
    alone = replace(plan, sites=(misfit,), layout=replace(plan.layout, batch=1))
    moment, _ = fullest(memory_moments(alone, rig.varied(layers=(misfit,)), plan.memory[PROGRAM]))
    is_stored = any(misfit.name == site.name for site in stored_sites(rig))
    stored = ", whose responses are stored together," if is_stored else ""
    of_all = f", which is that of all units of {misfit.name}" if misfit.units and moment == "writing the result" else ""
    return f"; recorded part by part, {misfit}{stored} does not fit even by itself while {moment}{of_all}"


def _needed(plan: Plan, on_device: bool) -> int:
    return sum((plan.device_memory if on_device else plan.memory).values())


def _rows(number: int) -> str:
    return "1 row" if number == 1 else f"{number} rows"


def _worst(parts: Sequence[Part]) -> str:
    """Say which purpose of the run's takes most, and the layer that takes most of it."""
    purposes = {purpose: n_bytes for purpose, n_bytes in by_purpose(parts).items() if purpose != PROGRAM}
    purpose, n_bytes = max(purposes.items(), key=lambda item: item[1])
    part = max((part for part in parts if part.purpose == purpose), key=lambda part: part.n_bytes)
    layer = f", {human_bytes(part.n_bytes)} of it at layer {part.layer!r}" if part.layer else ""
    return f"the {purpose} ({human_bytes(n_bytes)}{layer})"


def alternatives(
    plan: Plan, rig: Rig, budget: Budget, *, limit: int | None = None, begun: bool = False
) -> list[Alternative]:
    """Return the smallest changes of each kind with which a plan fits; if there are none, what comes closest first.

    Parameters
    ----------
    limit, begun
        As for `require_memory`.
    """

    def planned(other: Rig) -> Plan:
        return plan_session(other, limit=limit, compiles=lambda: plan.layout.compiled, budget=budget)

    def least(steps: Sequence[tuple[str, Rig]]) -> Alternative:
        # each step takes less memory than those before
        first = bisect_left(steps, True, key=lambda step: planned(step[1]).keeps(budget))
        text, other = steps[min(first, len(steps) - 1)]
        made = planned(other)
        of_parts = f" in {len(made.parts)} parts" if made.parts else ""
        return Alternative(f"{text.replace(BATCH, _rows(made.layout.batch))}{of_parts}", made)

    ways = [
        [(f"forward passes of {BATCH}, in a store that is begun anew (--overwrite)", rig)] if begun else [],
        _first_order(rig),
        _unstored(rig),
        _unranked(rig),
        _less_drawn(rig),
        _reduced(rig),
        _without(rig),
    ]
    found = [least(steps) for steps in ways if steps]
    if not any(one.plan.keeps(budget) for one in found):
        for text, other in _first_order(rig):
            both = [[(f"{step} and {text}", less) for step, less in way(other)] for way in (_reduced, _without)]
            found += [least(steps) for steps in both if steps]
    return sorted(found, key=lambda one: _excess(one.plan, budget))


def _excess(plan: Plan, budget: Budget) -> int:
    """Bytes over the budget; 0 for all plans that keep it, which stay in their order."""
    return max(0, _needed(plan, False) - budget.memory) + max(0, _needed(plan, True) - (budget.device or 0))


def _listed(sites: Sequence[Site]) -> str:
    more = f" and {len(sites) - N_NAMED} more of the largest" if len(sites) > N_NAMED else ""
    return ", ".join(site.name for site in sites[:N_NAMED]) + more


def _first_order(rig: Rig) -> list[tuple[str, Rig]]:
    """Leave out second order, if it is there."""
    design = rig.protocol.design
    if not design.second_order or rig.shows_each_alone:
        return []
    less = design.model_copy(update={"second_order": False})
    return [("`second_order: false`", rig.varied(protocol=rig.protocol.model_copy(update={"design": less})))]


def _unstored(rig: Rig) -> list[tuple[str, Rig]]:
    """Store no responses, if some are stored."""
    if not stored_sites(rig):
        return []
    record = rig.protocol.record.model_copy(update={"store": "none"})
    return [("`store: none`", rig.varied(protocol=rig.protocol.model_copy(update={"record": record})))]


def _unranked(rig: Rig) -> list[tuple[str, Rig]]:
    """Rank no differences, if some are ranked."""
    analyses = rig.protocol.analyses
    number = next((i for i, one in enumerate(analyses) if isinstance(one, ContrastSpec) and one.contrast.ranks), None)
    if number is None or rig.session != names.TREATMENT_CONTROL:
        return []
    spec = analyses[number]
    unranked = spec.model_copy(update={"contrast": spec.options.model_copy(update={"ranks": None})})
    protocol = rig.protocol.model_copy(update={"analyses": [*analyses[:number], unranked, *analyses[number + 1 :]]})
    return [("`ranks` left out", rig.varied(protocol=protocol))]


def _less_drawn(rig: Rig) -> list[tuple[str, Rig]]:
    """Take fewer resamples of images and random sets of classes, where lesions are studied."""
    if rig.session != names.MASKING:
        return []
    steps = []
    for resamples, permutations in ((100, 499), (40, 99)):
        fewer = {"bootstrap": resamples, "permutations": permutations}
        texts: list[str] = []
        analyses = []
        for spec in rig.protocol.analyses:
            given = {key: n for key, n in fewer.items() if n < getattr(spec.options, key, 0)}
            texts += [f"`{key}: {n}`" for key, n in given.items()]
            analyses.append(spec.model_copy(update={spec.name: spec.options.model_copy(update=given)}))
        if texts:
            protocol = rig.protocol.model_copy(update={"analyses": analyses})
            steps.append((" and ".join(texts), rig.varied(protocol=protocol)))
    return steps


def _reduced(rig: Rig) -> list[tuple[str, Rig]]:
    """Reduce the largest layers to the means of their channels, more and more of them."""
    maps = [site for site in _by_size(rig) if len(site.dims) > 1]
    steps = []
    for n in range(1, len(maps) + 1):
        sites = tuple(_mean(site) if site in maps[:n] else site for site in rig.sites)
        steps.append((f"`reduce: mean` on {_listed(maps[:n])}", rig.varied(layers=sites)))
    return steps


def _mean(site: Site) -> Site:
    n_channels = site.shape[site.dims.index(names.CHANNEL)]
    return replace(
        site, dims=(names.CHANNEL,), shape=(n_channels,), spec=site.spec.model_copy(update={"reduce": "mean"})
    )


def _without(rig: Rig) -> list[tuple[str, Rig]]:
    """Leave out the largest layers, more and more of them."""
    largest, steps = _by_size(rig), []
    for n in range(1, len(largest)):
        sites = tuple(site for site in rig.sites if site not in largest[:n])
        steps.append((f"without {_listed(largest[:n])}", rig.varied(layers=sites)))
    return steps


def _by_size(rig: Rig) -> list[Site]:
    return sorted(rig.sites, key=lambda site: -site.n_units)


def require_disk(plans: Mapping[str, Plan], rigs: Mapping[str, Rig], path: Path, *, replaced: int = 0) -> None:
    """Refuse plans of sessions for whose store there is not enough room.

    Parameters
    ----------
    path : Path
        Of the store; what it holds already counts.
    replaced : int
        Bytes of an earlier result, which stays until the new one is whole; and what else the plans do not count.

    Raises
    ------
    PlanError
        Naming what is missing, and what takes most.
    """
    sizes = {name: sum(plan.disk.values()) for name, plan in plans.items()}
    needed, there, free = sum(sizes.values()) + replaced, used_bytes(path), free_bytes(path)
    if needed - there <= free:
        return
    largest = max(sizes, key=lambda name: sizes[name])
    moment, parts = fullest(disk_moments(plans[largest], rigs[largest]))
    purposes = {part.purpose for part in parts}
    remedies = [remedy for purpose, remedy in DISK_REMEDIES.items() if purpose in purposes]
    raise PlanError(
        f"{str(path)!r} needs up to {human_bytes(needed)} while {moment}, of which {human_bytes(there)} are there, and "
        f"{human_bytes(free)} of the disk are free: {human_bytes(needed - there - free)} are missing; most goes to "
        f"{_worst(parts)}; choose a path on another disk, {', '.join([*remedies, 'or record fewer layers'])}"
    )


def waiting_states(plans: Mapping[str, Plan], rigs: Mapping[str, Rig], n_workers: int) -> int:
    """Bytes of states on disk that wait to be merged, beyond those of one process.

    Sessions, and parts of them, are recorded in turn.
    """
    waiting = (
        sum(merged_bytes(analysis.terms, site.n_units) for site in part.sites for analysis in rigs[name].analyses)
        for name, plan in plans.items()
        for part in plan.recorded
    )
    return round(PER_WORKER * (n_workers - 1) * max(waiting, default=0))


@contextmanager
def explained_shortage(place: Callable[[], str]) -> Iterator[None]:
    """Turn a shortage of memory while a run goes on into a sentence.

    Parameters
    ----------
    place : callable
        Says where in the run.

    Raises
    ------
    PlanError
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_shortage(error):
            raise
        raise PlanError(
            f"memory ran out {place()}: other programs may have taken what was free when the run was planned; free "
            "some and run the same command again to go on, or begin anew (--overwrite) with less by `--memory`, a "
            "smaller `record: {batch: …}`, or fewer layers"
        ) from error


def is_shortage(error: BaseException) -> bool:
    """Whether an error of Python's, numpy's or torch's says that memory ran out."""
    said = str(error).lower()
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in said
        or "out of memory" in said
    )
