"""The plan: what a protocol will do and what it costs, before anything is presented."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from neuroprobe import names
from neuroprobe.costs import (
    PROGRAM,
    by_purpose,
    disk_moments,
    fullest,
    memory_moments,
    most_memory,
    program_bytes,
    sums_of_layers,
)
from neuroprobe.design.pick_freeze import block_length, is_power_of_two
from neuroprobe.design.repeated import presentations_per_block
from neuroprobe.design.treatment_control import images_per_block
from neuroprobe.errors import PlanError
from neuroprobe.packing import Design, choose_batch, first_runs, most_rows, n_passes
from neuroprobe.plans import Layout, Plan
from neuroprobe.selectivity.costs import images_per_list
from neuroprobe.stopping import Stopping

if TYPE_CHECKING:
    from neuroprobe.machine import Budget
    from neuroprobe.protocol.alteration import AlterationSpec
    from neuroprobe.rig import Rig

MIN_SAMPLES: Final = 4
MAX_SHARDS: Final = 64
MIN_SHARDS: Final = 8  # where there are blocks enough: a stop loses one shard
SHARD_SECONDS: Final = 60.0
N_BLOCKS: Final = 16  # of a run by `scramble: auto`
N_BLOCKS_UNTIL: Final = 128  # of one that is looked at before it ends
FIRST_CHECK: Final = 8  # blocks: fewer say little about errors
COMPILE_ABOVE: Final = 3e10  # responses: about a minute of the eager update, where compiling takes half a minute
MAX_PER_BLOCK: Final = 1 << 17  # rows of a block, mask by mask
N_NAMED: Final = 3  # broken images that a warning names


def make_plan(
    rig: Rig,
    *,
    recorded: Layout | None = None,
    limit: int | None = None,
    compiles: Callable[[], bool] = lambda: False,
    budget: Budget | None = None,
) -> Plan:
    """Plan the run of an opened protocol.

    Parameters
    ----------
    rig : Rig
    recorded : Layout, optional
        Of the store that is resumed or extended.
    limit : int, optional
        Base samples, where fewer than the protocol's are wanted.
    compiles : callable
        Tells whether the statistics can be compiled; asked where that would pay.
    budget : Budget, optional
        The forward passes are made small enough to keep it, as far as that helps.
    """
    with rig.protocol.places.told():
        _require_inside(rig)
    wanted = rig.n_samples if limit is None else min(limit, rig.n_samples)
    with rig.protocol.places.told():
        _require_two_blocks(rig, wanted)
    if recorded is None:
        with rig.protocol.places.told():
            layout = _first_layout(rig, wanted, is_limited=limit is not None, compiles=compiles)
    else:
        layout = recorded
    # measured once: what fits does so by the same numbers
    program = program_bytes(rig)
    plan = _unpacked(rig, wanted, layout)
    design = rig.design(layout.scramble, layout.groups)
    if recorded is None:
        plan = _with_batch(plan, rig, design, budget, program)
    return with_costs(with_passes(plan, design), rig, program)


def with_passes(plan: Plan, design: Design) -> Plan:
    """Count the forward passes, from those of the first piece."""
    n_run = design.presentations(0, plan.layout.piece).is_run.sum(1)
    of_a_piece = n_passes(n_run, plan.layout.batch)
    return replace(plan, n_passes=of_a_piece * -(-plan.samples // plan.layout.piece))


def _require_two_blocks(rig: Rig, wanted: int) -> None:
    if rig.session == names.REPEATED and not rig.analyses:
        return  # responses are stored, and nothing is made of them
    if rig.session == names.SELECTIVITY and rig.selectivity is not None:
        if wanted < rig.selectivity.options.top:
            raise PlanError(
                f"limit: {wanted} images asked for, and lists of {rig.selectivity.options.top} are kept: raise the "
                "limit, or lower `top`"
            )
        return
    if wanted >= MIN_SAMPLES:
        return
    why = f"expected at least {MIN_SAMPLES}: standard errors need two blocks of two"
    if rig.n_samples < MIN_SAMPLES:  # a protocol has as many base samples, but not always as many images
        images = "image" if wanted == 1 else "images"
        raise PlanError(f"{_asked(rig)} of {wanted} {images}, {why}; show more of them").about("stimuli", "images")
    what = "images" if rig.shows_each_alone else "base samples"
    raise PlanError(f"limit: {wanted} {what} asked for, {why}")


def _asked(rig: Rig) -> str:
    """Name the analyses that images are shown for."""
    return " and ".join(analysis.name for analysis in rig.analyses or rig.protocol.lesion_studies)


def _first_layout(rig: Rig, wanted: int, *, is_limited: bool, compiles: Callable[[], bool]) -> Layout:
    """Lay out the first run into a store, but for the batch, which is the largest that the protocol allows."""
    spec = rig.protocol.design
    if rig.shows_each_alone:
        return Layout(_images_per_block(rig, wanted), None, rig.protocol.record.batch)
    n_blocks = N_BLOCKS if spec.until is None else N_BLOCKS_UNTIL
    block, scramble = block_length(wanted, spec.scramble, n_blocks)
    if scramble is not None and is_limited:
        block = scramble = min(block, block_length(wanted, "auto", n_blocks)[0])
    n_groups = -(-wanted // block) if spec.replicate == "image" else 0
    if n_groups > len(rig.images):
        raise PlanError(
            f"replicate: image: {n_groups} blocks of {block} base samples need as many groups of images, and there "
            f"are {len(rig.images)} images; show more of them, or make blocks longer by `scramble`"
        ).about("design", "replicate")
    n_responses = wanted * rig.design(scramble).n_rows * sum(site.n_units for site in rig.sites)
    can_pay = n_responses > COMPILE_ABOVE and all(analysis.terms.compilable for analysis in rig.analyses)
    return Layout(block, scramble, rig.protocol.record.batch, can_pay and compiles(), n_groups)


def _images_per_block(rig: Rig, wanted: int) -> int:
    """Images of a block: so few that it takes about a minute to show them under every mask."""
    if rig.session == names.REPEATED:
        return presentations_per_block(wanted)
    if rig.session == names.SELECTIVITY:
        return images_per_list(wanted, sum(len(site.channels) for site in rig.sites))
    block = images_per_block(wanted)
    n_masks = sum(rig.study.n_masks.values()) if rig.study is not None and rig.session == names.MASKING else 1
    while block > 4 and block * rig.design(None).n_rows * n_masks > MAX_PER_BLOCK:
        block //= 2
    return block


def _with_batch(plan: Plan, rig: Rig, design: Design, budget: Budget | None, program: int) -> Plan:
    """Choose the rows of a forward pass: as many as the protocol allows and as fit into memory."""
    layout = plan.layout

    def fits(batch: int) -> bool:
        smaller = replace(plan, layout=replace(layout, batch=batch))
        return budget is None or budget.holds(*most_memory(memory_moments(smaller, rig, program)))

    return with_batch(plan, design, fits)


def with_batch(plan: Plan, design: Design, fits: Callable[[int], bool]) -> Plan:
    """Choose the rows of a forward pass: as many as the layout of a plan allows and as fit."""
    layout = plan.layout
    most = most_rows(design, layout.piece, layout.batch)
    fitting = _largest_fitting(most, max(plan.rows_run), fits)
    batch = choose_batch(design, layout.piece, fitting, fits)
    best = batch if fitting == most else choose_batch(design, layout.piece, most)
    text = f"record.batch: forward passes have {batch} rows, as passes of {best} do not fit into memory"
    warnings = plan.warnings if batch == best else (*plan.warnings, text)
    return replace(plan, layout=replace(layout, batch=batch), warnings=warnings)


def _largest_fitting(most: int, n_run: int, fits: Callable[[int], bool]) -> int:
    """Return the largest batch that fits, or 1.

    Memory grows with the batch, but for a step: under `n_run` rows, responses to a base sample have to wait.
    """
    whole = min(n_run, most)
    sizes = range(whole, most + 1) if fits(whole) else range(1, max(2, whole))
    return sizes[max(0, bisect_left(sizes, True, key=lambda size: not fits(size)) - 1)]


def _unpacked(rig: Rig, wanted: int, layout: Layout) -> Plan:
    """Plan all but the forward passes and what they cost."""
    design = rig.design(layout.scramble, layout.groups)
    samples = -(-wanted // layout.block) * layout.block
    if rig.shows_each_alone:
        samples = min(samples, rig.n_samples)  # the last block of all images may be shorter
    n_run = np.concatenate(first_runs(design, layout.piece))
    return Plan(
        title=rig.protocol.title,
        session=rig.session,
        samples=samples,
        n_rows=design.n_rows,
        n_passes=0,
        n_presented=round(float(n_run.mean()) * samples),
        layout=layout,
        shard=_shard(samples // layout.block, None),
        sites=rig.sites,
        factors=rig.told_factors,
        memory={},
        disk={},
        rows_run=tuple(n_run.tolist()),
        warnings=tuple(_warnings(rig, wanted, samples, layout)),
        lesion=rig.subject.lesion.n_masked,
        masks={} if not rig.lesion_analyses or rig.study is None else rig.study.n_masks,
        lists=rig.selectivity.options.top if rig.session == names.SELECTIVITY and rig.selectivity is not None else 0,
        stopping=_stopping(rig, samples, layout.block),
    )


def _stopping(rig: Rig, samples: int, block: int) -> Stopping | None:
    """Say when a session of shares of the variance is looked at: after 8, 16, 32, … blocks, and after all."""
    until = rig.protocol.design.until
    if until is None or rig.session != names.PICK_FREEZE:
        return None
    checks, n_blocks = [], FIRST_CHECK
    while n_blocks * block < samples:
        checks.append(n_blocks * block)
        n_blocks *= 2
    quantities = dict.fromkeys(name for analysis in rig.variance_analyses for name in analysis.judged)
    return Stopping(until.se, until.share, tuple(quantities), (*checks, samples))


def timed(plan: Plan, rig: Rig, seconds_per_block: float, budget: Budget) -> Plan:
    """Add the expected time, and the shards that it makes sensible, from the measured time of a block.

    Longer shards keep more states in memory: they are as long as the budget allows.
    """
    shard, seconds = _shard(plan.n_blocks, seconds_per_block), seconds_per_block * plan.n_blocks
    while True:
        longer = with_costs(replace(plan, seconds=seconds, shard=shard), rig, plan.memory[PROGRAM])
        if shard <= plan.shard or longer.keeps(budget):
            return longer
        shard //= 2


def with_costs(plan: Plan, rig: Rig, program: int) -> Plan:
    """Add bytes of memory and of disk; the process takes `program` bytes without the run."""
    moments = memory_moments(plan, rig, program)
    moment, parts = fullest(moments)
    _, on_device = fullest(moments, on_device=True)
    _, disk = fullest(disk_moments(plan, rig))
    return replace(
        plan,
        moment=moment,
        memory=by_purpose(parts),
        device_memory=by_purpose(on_device),
        disk=by_purpose(disk),
        layer_bytes=sums_of_layers(plan, rig),
    )


def _shard(n_blocks: int, seconds_per_block: float | None) -> int:
    """Blocks of a shard: about a minute of work, at most 64 shards, and at least 8 where there are blocks enough."""
    shard = 1
    while n_blocks / shard > MAX_SHARDS:
        shard *= 2
    if seconds_per_block is not None:
        while shard * seconds_per_block < SHARD_SECONDS and n_blocks // (2 * shard) >= MIN_SHARDS:
            shard *= 2
    return shard


def _warnings(rig: Rig, wanted: int, samples: int, layout: Layout) -> Iterator[str]:
    if skipped := rig.images.skipped:
        listed = ", ".join(skipped[:N_NAMED]) + (", …" if len(skipped) > N_NAMED else "")
        yield f"images left out as broken: {len(skipped):,} ({listed})"
    if rig.shows_each_alone:
        yield from _contrast_warnings(rig, wanted, samples, layout)
        if rig.session == names.MASKING:
            yield from _lesion_warnings(rig)
    else:
        yield from _design_warnings(rig, wanted, samples, layout)
    yield from _short_lengths(rig)


def _lesion_warnings(rig: Rig) -> Iterator[str]:
    """Say what of a study of lesions takes longer than it might, and what its maps leave out."""
    if rig.study is None:
        return
    without = [factor.name for factor in rig.factors if factor.name not in rig.study.factors]
    if without:
        yield f"no map is of {', '.join(without)}: images are shown so altered, and there is no headline of it"
    if rig.study.left_out:
        yield f"maps of {', '.join(rig.study.left_out)} are left out: no alterations here; ask for them by `factors`"
    for place in rig.study.places:
        if not place.passes.shares:
            yield (
                f"masks of {place.name}: the network runs as a whole for every mask, as it cannot be cut there: "
                f"{place.passes.why}"
            )
    for one in {one.layer: one for place in rig.study.places for one in place.maps}.values():
        n_undefined = one.candidates.size - one.n_candidates
        if n_undefined:
            yield (
                f"layer {one.layer!r}: {n_undefined:,} of {one.candidates.size:,} units are undefined in some map, and "
                "never masked"
            )


def _contrast_warnings(rig: Rig, wanted: int, samples: int, layout: Layout) -> Iterator[str]:
    if samples != wanted:
        yield f"{wanted:,} images do not fill blocks of {layout.block}; {samples:,} are shown"
    if rig.session in names.AS_THEY_ARE:
        return
    options = rig.protocol.options("contrast")
    if rig.outcome is None and rig.images.labels is not None and getattr(options, "accuracy", False) == "auto":
        yield (
            "contrast: accuracies are left out, as the classes of the images cannot be told from the outputs of the "
            "network; list the class of each output by `contrast: {classes: [name, …]}`"
        )
    if rig.protocol.treatment.dependence is not None:
        yield f"dependence: {_asked(rig)} shows each alteration alone, with parameters drawn by their own laws"


def _design_warnings(rig: Rig, wanted: int, samples: int, layout: Layout) -> Iterator[str]:
    protocol, n_blocks = rig.protocol, samples // layout.block
    if samples != wanted:
        yield f"samples: {wanted:,} is not a multiple of the block of {layout.block}; {samples:,} are run"
    if not is_power_of_two(samples):
        yield f"samples: {samples:,} is not a power of two, where scrambled Sobol points are balanced"
    if n_blocks < 8:
        yield (
            f"standard errors rest on {n_blocks} blocks ({n_blocks - 1} degrees of freedom): "
            "raise samples or lower scramble"
        )
    if layout.scramble is None:
        yield "scramble: whole gives standard errors that are upper bounds"
    match protocol.stimuli.image:
        case "frozen" if samples > len(rig.images) and not layout.n_groups:
            yield (
                f"{samples:,} base samples show {len(rig.images):,} images: standard errors hold for these images, "
                "not for the population that they come from"
            )
        case "redrawn":
            yield "image: redrawn hides the variance between images in every total-order index"
    if protocol.control != "original":
        yield "control: sobol compares rows of the treatment with each other, so the control is not presented"


def _require_inside(rig: Rig) -> None:
    """Refuse lengths that always lie outside the image: the alteration would have no effect."""
    side = min(rig.images.shape[-2:])
    scale = 1.0 if rig.treatment.reference is None else side / rig.treatment.reference
    for item, one in zip(rig.alterations, rig.treatment.applied, strict=True):
        for name, parameter in one.alteration.parameters.items():
            low, high = item.laws[name].support
            if parameter.is_length and (low * scale >= side or high * scale <= -side):
                raise PlanError(
                    f"{item.label}: {name} lies between {low * scale:g} and {high * scale:g} px, outside of images of "
                    f"{side} px; give it a law for this size, or leave out `treatment.reference_side: image`"
                ).about(*_place(rig, item), name)


def _place(rig: Rig, item: AlterationSpec) -> tuple[str | int, ...]:
    """Where in the protocol an alteration stands."""
    listed = rig.protocol.treatment.alterations
    if item in listed:
        return "treatment", "alterations", listed.index(item)
    return "control", "alterations", rig.alterations.index(item) - len(listed)


def _short_lengths(rig: Rig) -> Iterator[str]:
    """Name lengths that are under half a pixel once they are scaled to the image."""
    if rig.treatment.reference is None:
        return
    scale = min(rig.images.shape[-2:]) / rig.treatment.reference
    for item, one in zip(rig.alterations, rig.treatment.applied, strict=True):
        for name, parameter in one.alteration.parameters.items():
            longest = max(map(abs, item.laws[name].support)) * scale
            if parameter.is_length and 0 < longest < 0.5:
                yield (
                    f"{item.label}: {name} is at most {longest:.2g} px here, as lengths are for images of "
                    f"{rig.treatment.reference:g} px; `treatment.reference_side: image` takes all lengths as they are"
                )
