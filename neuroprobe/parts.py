"""Parts: a session whose sums do not fit into memory together is recorded part by part, into one result.

A part records some layers, or some units of a layer, of all stimuli of the session. Stimuli depend on the seed and the
number of a base sample only, and what is summed of a unit does not depend on what is recorded beside it. So numbers are
those of a run that records everything at once in passes of as many rows, to the last bit: layers are cut where torch
sums the units on both sides as it does in the whole layer (`neuroprobe.statistics.pick_freeze.ALIGNED`).

Which parts there are is decided when a store is begun, and kept in its header: whoever goes on with it, with whatever
memory or workers, records the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from neuroprobe import names
from neuroprobe.costs import PROGRAM, memory_moments, most_memory, stored_sites
from neuroprobe.machine import human_bytes
from neuroprobe.packing import most_rows
from neuroprobe.planner import make_plan, with_batch, with_costs, with_passes
from neuroprobe.plans import Pieces, Plan
from neuroprobe.recorder import state_key
from neuroprobe.statistics.pick_freeze import ALIGNED, PickFreezeSums

if TYPE_CHECKING:
    from neuroprobe.journal import Begun
    from neuroprobe.machine import Budget
    from neuroprobe.probe.sites import Site
    from neuroprobe.rig import Rig
    from neuroprobe.store import SessionStore

Sites = tuple["Site", ...]
SMALLEST: Final = 1  # rows of a forward pass


def plan_session(
    rig: Rig,
    *,
    begun: Begun | None = None,
    limit: int | None = None,
    compiles: Callable[[], bool] = lambda: False,
    budget: Budget | None = None,
) -> Plan:
    """Plan a session: in one part, or in as many as it takes to keep a budget of memory, where parts help.

    Parameters
    ----------
    rig : Rig
    begun : Begun, optional
        What the store that is gone on with was begun with, which stays as it is.
    limit, compiles, budget
        As for `neuroprobe.planner.make_plan`.
    """
    if begun is not None:
        made = make_plan(rig, recorded=begun.layout, limit=limit, compiles=compiles, budget=budget)
        if not begun.parts:
            return made
        shown = f"the run is recorded in the {len(begun.parts)} parts that its store was begun with"
        return _divided(_warned(made, shown), rig, [_sites(rig, pieces) for pieces in begun.parts])
    made = make_plan(rig, limit=limit, compiles=compiles, budget=budget)
    if budget is None or made.keeps(budget):
        return made
    # all of it, in the largest passes, whatever they take
    whole = make_plan(rig, limit=limit, compiles=lambda: made.layout.compiled)
    parts, _ = find_parts(whole, rig, budget)
    if not parts:
        return made
    if sum(made.memory.values()) > budget.memory:
        taken, allowed = made.memory, f"{human_bytes(budget.memory)} are allowed ({budget.source})"
    else:
        taken, allowed = made.device_memory, f"{human_bytes(budget.device or 0)} of the device are free"
    shown = (
        f"sums of all layers together take {human_bytes(sum(taken.values()))} of memory with all else, and {allowed}: "
        f"the run is recorded in {len(parts)} parts"
    )
    rigs = [rig.varied(layers=sites) for sites in parts]

    def fits(batch: int) -> bool:
        return all(_fits(whole, one, batch, budget) for one in rigs)

    design = rig.design(whole.layout.scramble, whole.layout.groups)
    fitting = with_passes(with_batch(_with_rows(whole, rig.protocol.record.batch), design, fits), design)
    return _divided(_warned(fitting, shown), rig, parts)


def _warned(plan: Plan, recorded: str) -> Plan:
    text = (
        f"{recorded}, and takes as many times the forward passes; more `--memory`, fewer workers or `reduce: mean` "
        "avoid that in a store that is begun anew"
    )
    return replace(plan, warnings=(*plan.warnings, text))


def find_parts(plan: Plan, rig: Rig, budget: Budget) -> tuple[list[Sites], Site | None]:
    """Share out the layers of a session to as few parts as keep a budget.

    Parameters
    ----------
    plan : Plan
        Of all layers together, in the largest forward passes.

    Returns
    -------
    parts : list of tuples of Site
        Those that leave room for the largest forward passes; none where no number of parts would fit, or results of
        all layers are needed together.
    misfit : Site or None
        What does not fit by itself, in the smallest passes.
    """
    if rig.session != names.PICK_FREEZE:
        return [], None
    fewest, misfit = _shared_out(plan, rig, budget, SMALLEST)
    if misfit is not None or len(fewest) < 2:
        return [], misfit
    batch = most_rows(rig.design(plan.layout.scramble, plan.layout.groups), plan.layout.piece, plan.layout.batch)
    while batch > SMALLEST:
        parts, misfit = _shared_out(plan, rig, budget, batch)
        if misfit is None and len(parts) == len(fewest):
            return parts, None
        batch //= 2
    return fewest, None


def _shared_out(plan: Plan, rig: Rig, budget: Budget, batch: int) -> tuple[list[Sites], Site | None]:
    """Put every layer, the largest first, into the first part that has room for it in passes of some rows."""

    def fits(*sites: Site) -> bool:
        return _fits(plan, rig.varied(layers=sites), batch, budget)

    stored = {site.name for site in stored_sites(rig)}
    parts: list[Sites] = []
    for site in sorted(rig.sites, key=lambda site: -site.n_units):
        # responses of a layer are stored together
        for piece in [site] if site.name in stored else _cut(site, fits):
            if not fits(piece):
                return [], piece
            for number, held in enumerate(parts):
                if all(one.name != piece.name for one in held) and fits(*held, piece):
                    parts[number] = (*held, piece)
                    break
            else:
                parts.append((piece,))
    order = {site.name: number for number, site in enumerate(rig.sites)}
    return [tuple(sorted(sites, key=lambda site: order[site.name])) for sites in parts], None


def _fits(plan: Plan, rig: Rig, batch: int, budget: Budget) -> bool:
    part = replace(_with_rows(plan, batch), sites=rig.sites)
    return budget.holds(*most_memory(memory_moments(part, rig, plan.memory[PROGRAM])))


def _with_rows(plan: Plan, batch: int) -> Plan:
    return replace(plan, layout=replace(plan.layout, batch=batch))


def _cut(site: Site, fits: Callable[[Site], bool]) -> list[Site]:
    """Halve the ranges of a layer's units until each fits, or has as few as may be."""
    n_aligned, n_ranges = site.n_units // ALIGNED, 1
    while True:
        length = -(-max(1, n_aligned) // n_ranges)
        starts = [ALIGNED * start for start in range(0, max(1, n_aligned), length)]
        pieces = [_piece(site, start, stop) for start, stop in zip(starts, [*starts[1:], site.n_units], strict=True)]
        # the last one has the units that are left over
        if length == 1 or all(map(fits, (pieces[0], pieces[-1]))):
            return pieces
        n_ranges *= 2


def _piece(site: Site, start: int, stop: int) -> Site:
    return site if (start, stop) == (0, site.n_whole) else replace(site, units=(start, stop))


def _sites(rig: Rig, pieces: Pieces) -> Sites:
    """The sites of a part that a store was begun with."""
    layers = {site.name: site for site in rig.sites}
    return tuple(_piece(layers[name], start, stop) for name, start, stop in pieces)


def _divided(plan: Plan, rig: Rig, parts: Sequence[Sites]) -> Plan:
    """Plan the parts of a session, each with what it costs."""
    made = []
    for number, sites in enumerate(parts, 1):
        part = replace(plan, sites=sites, part=(number, len(parts)), warnings=())
        made.append(with_costs(part, rig.varied(layers=sites), plan.memory[PROGRAM]))
    return gathered(plan, made)


def gathered(plan: Plan, recorded: Sequence[Plan]) -> Plan:
    """Plan a session of which all that is recorded is planned: seconds add up, memory is that of the fullest part."""
    if recorded[0].part is None:
        return recorded[0]
    fullest = max(recorded, key=lambda part: sum(part.memory.values()))
    seconds = [part.seconds for part in recorded if part.seconds is not None]
    return replace(
        plan,
        parts=tuple(recorded),
        memory=fullest.memory,
        moment=fullest.moment,
        device_memory=max((part.device_memory for part in recorded), key=lambda parts: sum(parts.values())),
        shard=max(part.shard for part in recorded),
        seconds=sum(seconds) if len(seconds) == len(recorded) else None,
    )


def rig_of(rig: Rig, plan: Plan) -> Rig:
    """Return the rig of what is recorded by a plan: that of the session, or of a part of it."""
    return rig if plan.part is None else rig.varied(layers=plan.sites)


def sums_of_layer(
    plan: Plan, sessions: Mapping[str, SessionStore], analysis: str, layer: str
) -> Iterator[PickFreezeSums]:
    """Read what is stored of a layer, in the order of its units: all at once, or part by part."""
    held = sorted((site.span, part.key) for part in plan.recorded for site in part.sites if site.name == layer)
    for _, key in held:
        yield sessions[key].merged(state_key(analysis, layer), PickFreezeSums)
