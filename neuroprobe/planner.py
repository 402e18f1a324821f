"""The plan: what a protocol costs, and how its rows are packed, before anything is presented."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from neuroprobe.design.pick_freeze import PickFreeze, Presentations, block_length, is_power_of_two
from neuroprobe.errors import PlanError

if TYPE_CHECKING:
    from neuroprobe.probe.sites import Site
    from neuroprobe.rig import Rig

MAX_SHARDS: Final = 64
MIN_SHARDS: Final = 8  # where there are blocks enough: a stop loses one shard
SHARD_SECONDS: Final = 60.0
MAX_SAMPLES_PER_BATCH: Final = 64  # the statistics sum at most so many in float32
COMPILE_ABOVE: Final = 3e10  # responses: about a minute of the eager update, where compiling takes half a minute
PIECE: Final = 1024  # base samples; a block may have many more
CHUNK_BYTES: Final = 32 << 20  # of a chunk of stored responses
N_NAMED: Final = 3  # broken images that a warning names


@dataclass(frozen=True)
class Layout:
    """What decides a run's floating-point results beside the protocol; fixed by the first run into a store.

    Attributes
    ----------
    block : int
        Base samples of a block.
    scramble : int or None
        Base samples of a scramble; None for one sequence.
    batch : int
        Rows of every forward pass.
    compiled : bool
        Whether the statistics are compiled.
    image_groups : int
        Groups that the images are shared out to, one per block of the first run; 0 where blocks share images.
    """

    block: int
    scramble: int | None
    batch: int
    compiled: bool = False
    image_groups: int = 0

    @property
    def piece(self) -> int:
        """Base samples whose presentations are in memory at a time, and packed together."""
        return min(self.block, PIECE)


@dataclass(frozen=True)
class Pack:
    """Whole base samples that are presented in one forward pass, or one base sample in several.

    Attributes
    ----------
    start, stop : int
        Base samples, as positions in the piece.
    sample, row : int arrays
        The rows that are run, in order.
    index : int array (samples, rows of a base sample)
        Which of the rows that are run gives the response to each row.
    """

    start: int
    stop: int
    sample: NDArray[np.int64]
    row: NDArray[np.int64]
    index: NDArray[np.int64]


@dataclass(frozen=True)
class Plan:
    """What a run will do and what it will cost.

    Attributes
    ----------
    title : str
    samples, n_rows : int
        Base samples, and rows of each.
    n_passes : int
        Forward passes; an estimate from the first base samples.
    n_presented : int
        Rows that are run (the others repeat a stimulus of their base sample); an estimate from the first ones.
    layout : Layout
    shard : int
        Blocks of a shard, a power of two.
    sites : tuple of Site
    factors : tuple of str
    memory, disk : dict
        Bytes by purpose.
    layer_bytes : dict
        Bytes of the sums of each layer.
    seconds : float or None
        Expected time, from timed batches; None if none were timed.
    warnings : tuple of str
    """

    title: str
    samples: int
    n_rows: int
    n_presented: int
    n_passes: int
    layout: Layout
    shard: int
    sites: tuple[Site, ...]
    factors: tuple[str, ...]
    memory: Mapping[str, int]
    disk: Mapping[str, int]
    layer_bytes: Mapping[str, int] = field(default_factory=dict)
    seconds: float | None = None
    warnings: tuple[str, ...] = field(default=())

    @property
    def n_blocks(self) -> int:
        """Blocks of the run."""
        return self.samples // self.layout.block

    @property
    def n_units(self) -> int:
        """Recorded scalars."""
        return sum(site.n_units for site in self.sites)

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as plain values, for machines."""
        return {
            "title": self.title,
            "samples": self.samples,
            "rows": self.samples * self.n_rows,
            "presented": self.n_presented,
            "passes": self.n_passes,
            "factors": list(self.factors),
            "layout": asdict(self.layout),
            "shard": self.shard,
            "layers": {site.name: dict(zip(site.dims, site.shape, strict=True)) for site in self.sites},
            "units": self.n_units,
            "layer_bytes": dict(self.layer_bytes),
            "memory": dict(self.memory),
            "disk": dict(self.disk),
            "seconds": self.seconds,
            "warnings": list(self.warnings),
        }

    def __str__(self) -> str:
        layout = self.layout
        each = "one sequence" if layout.scramble is None else f"scrambles of {layout.scramble}"
        lines = [
            f"{self.title or 'untitled protocol'}",
            f"  factors     {', '.join(self.factors)}",
            f"  rows        {self.samples * self.n_rows:,} = {self.samples:,} base samples × {self.n_rows}; "
            f"about {self.n_presented:,} to present, in {self.n_passes:,} forward passes of {layout.batch}",
            f"  blocks      {self.n_blocks} of {layout.block} base samples ({each}); shards of {self.shard}",
            f"  units       {self.n_units:,}",
        ]
        for site in self.sites:
            shape = " × ".join(f"{dim} {n}" for dim, n in zip(site.dims, site.shape, strict=True))
            lines.append(
                f"    {site.name:<20} {shape} = {site.n_units:,} ({_bytes(self.layer_bytes[site.name])} of sums)"
            )
        lines.append(f"  memory      {_bytes(sum(self.memory.values()))} ({_parts(self.memory)})")
        lines.append(f"  disk        {_bytes(sum(self.disk.values()))} ({_parts(self.disk)})")
        if self.seconds is not None:
            lines.append(f"  time        about {human_time(self.seconds)}")
        lines += [f"  warning     {warning}" for warning in self.warnings]
        return "\n".join(lines)

    __repr__ = __str__


def _bytes(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"


def _parts(parts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {_bytes(number)}" for name, number in parts.items())


def human_time(seconds: float) -> str:
    """Write a duration in two units.

    Examples
    --------
    >>> human_time(42), human_time(3700)
    ('42 s', '1 h 2 min')
    """
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    if seconds < 3599.5:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest} s"
    hours, rest = divmod(round(seconds / 60), 60)
    return f"{hours} h {rest} min"


def make_plan(
    rig: Rig,
    *,
    recorded: Layout | None = None,
    limit: int | None = None,
    compiles: Callable[[], bool] = lambda: False,
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
    """
    with rig.protocol.places.told():
        _require_inside(rig)
    spec = rig.protocol.design
    wanted = spec.samples if limit is None else min(limit, spec.samples)
    if wanted < 4:
        raise PlanError(f"{wanted} base samples asked for, expected at least 4: standard errors need two blocks of two")
    if recorded is None:
        with rig.protocol.places.told():
            layout = _first_layout(rig, wanted, is_limited=limit is not None, compiles=compiles)
    else:
        layout = recorded
    design = rig.design(layout)
    samples = -(-wanted // layout.block) * layout.block
    n_blocks = samples // layout.block
    n_run = design.presentations(0, layout.piece).is_run.sum(1)
    plan = Plan(
        title=rig.protocol.title,
        samples=samples,
        n_rows=design.n_rows,
        n_passes=_n_packs(n_run, layout.batch) * (samples // layout.piece),
        n_presented=round(float(n_run.mean()) * samples),
        layout=layout,
        shard=_shard(n_blocks, None),
        sites=rig.sites,
        factors=tuple(factor.name for factor in rig.factors),
        memory={},
        disk={},
        warnings=tuple(_warnings(rig, wanted, samples, layout)),
    )
    return with_costs(plan, rig)


def timed(plan: Plan, rig: Rig, seconds_per_block: float) -> Plan:
    """Add the expected time, and the shards that it makes sensible, from the measured time of a block."""
    shard = _shard(plan.n_blocks, seconds_per_block)
    return with_costs(replace(plan, seconds=seconds_per_block * plan.n_blocks, shard=shard), rig)


def with_costs(plan: Plan, rig: Rig) -> Plan:
    """Add bytes of memory and of disk."""
    from neuroprobe.statistics.pick_freeze import state_bytes

    depth = max(1, int(math.log2(plan.shard)))
    terms = rig.analyses[0].terms
    largest = max(site.n_units for site in plan.sites)
    n_units = plan.n_units
    image_bytes = 4 * math.prod(rig.images.shape)
    weights = sum(p.numel() * p.element_size() for p in rig.subject.network.parameters())
    stored = stored_sites(rig)
    per_row = 4 * sum(site.n_units for site in stored)
    # one more state: a sibling is read from disk to be merged
    layer_bytes = {site.name: state_bytes(terms, site.n_units, depth + 1) for site in plan.sites}
    memory = {
        "sums": sum(layer_bytes.values()),
        "network": weights,
        "images": rig.images.bytes_kept + 3 * plan.layout.batch * image_bytes,
        "forward pass": 3 * plan.layout.batch * max(4 * largest, 8 * image_bytes),
        "result": 8 * 6 * terms.n_sums * largest,
    }
    disk = {
        "result": 8 * 2 * (terms.n_sums + len(terms.pairs)) * n_units,
        "state": 2 * 24 * terms.n_sums * n_units,
    }
    if stored:
        memory["stored responses"] = 2 * per_row * plan.n_rows * samples_per_chunk(plan, per_row)
        disk["stored responses"] = plan.samples * plan.n_rows * per_row
    return replace(plan, memory=memory, disk=disk, layer_bytes=layer_bytes)


def _first_layout(rig: Rig, wanted: int, *, is_limited: bool, compiles: Callable[[], bool]) -> Layout:
    """Lay out the first run into a store."""
    spec = rig.protocol.design
    block, scramble = block_length(wanted, spec.scramble)
    if scramble is not None and is_limited:
        block = scramble = min(block, block_length(wanted, "auto")[0])
    groups = 0
    if spec.replicate == "image":
        groups = -(-wanted // block)
        if groups > len(rig.images):
            raise PlanError(
                f"replicate: image: {groups} blocks of {block} base samples need as many groups of images, and there "
                f"are {len(rig.images)} images; show more of them, or make blocks longer by `scramble`"
            ).about("design", "replicate")
    draft = Layout(block, scramble, batch=1, image_groups=groups)
    design = rig.design(draft)
    n_responses = wanted * design.n_rows * sum(site.n_units for site in rig.sites)
    can_pay = n_responses > COMPILE_ABOVE and all(analysis.terms.compilable for analysis in rig.analyses)
    return replace(
        draft,
        batch=choose_batch(design, draft.piece, rig.protocol.record.batch),
        compiled=can_pay and compiles(),
    )


def fits(plan: Plan) -> bool:
    """Whether a plan needs no more memory than the machine has free."""
    return sum(plan.memory.values()) <= _free_memory()


def _free_memory() -> int:
    import psutil

    return int(psutil.virtual_memory().available)


def require_memory(plan: Plan) -> None:
    """Refuse a plan that needs more memory than the machine has free, naming the largest part.

    Raises
    ------
    PlanError
    """
    needed, free = sum(plan.memory.values()), _free_memory()
    if not fits(plan):
        worst, size = max(plan.memory.items(), key=lambda part: part[1])
        raise PlanError(
            f"the run needs {_bytes(needed)} of memory and {_bytes(free)} are free; most goes to {worst} "
            f"({_bytes(size)}): record fewer layers, some channels, or `reduce: mean`, or leave out second order"
        )


def stored_sites(rig: Rig) -> tuple[Site, ...]:
    """The sites whose responses are written."""
    store = rig.protocol.record.store
    if store == "none":
        return ()
    return tuple(site for site in rig.sites if store.responses is None or site.name in store.responses)


def samples_per_chunk(plan: Plan, bytes_per_row: int) -> int:
    """Base samples of a chunk of stored responses: a power of two that divides a piece."""
    fitting = max(1, CHUNK_BYTES // max(1, bytes_per_row * plan.n_rows))
    return min(plan.layout.piece, 1 << int(math.log2(fitting)))


def _shard(n_blocks: int, seconds_per_block: float | None) -> int:
    """Blocks of a shard: about a minute of work, at most 64 shards, and at least 8 where there are blocks enough."""
    shard = 1
    while n_blocks / shard > MAX_SHARDS:
        shard *= 2
    if seconds_per_block is not None:
        while shard * seconds_per_block < SHARD_SECONDS and n_blocks // (2 * shard) >= MIN_SHARDS:
            shard *= 2
    return shard


def packs(presentations: Presentations, batch: int) -> Iterator[Pack]:
    """Pack the base samples of a piece into forward passes, as many as fit into `batch` rows."""
    is_run, source = presentations.is_run, presentations.source
    n_run = is_run.sum(1)
    start = 0
    while start < len(n_run):
        stop, filled = start + 1, int(n_run[start])
        while stop < len(n_run) and filled + n_run[stop] <= batch and stop - start < MAX_SAMPLES_PER_BATCH:
            filled += int(n_run[stop])
            stop += 1
        run = is_run[start:stop]
        sample, row = np.nonzero(run)
        position = np.cumsum(run.ravel()).reshape(run.shape) - 1
        index = np.take_along_axis(position, source[start:stop], axis=1)
        yield Pack(start, stop, sample + start, row, index)
        start = stop


def choose_batch(design: PickFreeze, piece: int, largest: int) -> int:
    """Rows of a forward pass: the number from `largest` / 2 to `largest` that pads least, by the first two pieces."""
    runs = [design.presentations(start, start + piece).is_run.sum(1) for start in (0, piece)]
    most = min(largest, max(int(run.sum()) for run in runs))
    candidates = range(max(1, -(-most // 2)), most + 1)
    costs = [sum(_n_packs(run, batch) for run in runs) * batch for batch in candidates]
    # the largest of the cheapest: fewer, fuller forward passes
    return max(batch for batch, cost in zip(candidates, costs, strict=True) if cost <= 1.01 * min(costs))


def _n_packs(n_run: NDArray[np.int64], batch: int) -> int:
    """Forward passes of a piece; a base sample over `batch` rows takes several."""
    passes = filled = n_samples = 0
    for n in n_run.tolist():
        if filled + n > batch or n_samples == MAX_SAMPLES_PER_BATCH or not passes:
            passes += -(-n // batch)
            filled = n_samples = 0
        filled += n
        n_samples += 1
    return passes


def _warnings(rig: Rig, wanted: int, samples: int, layout: Layout) -> Iterator[str]:
    protocol, n_blocks = rig.protocol, samples // layout.block
    if skipped := rig.images.skipped:
        listed = ", ".join(skipped[:N_NAMED]) + (", …" if len(skipped) > N_NAMED else "")
        yield f"images left out as broken: {len(skipped):,} ({listed})"
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
        case "frozen" if samples > len(rig.images) and not layout.image_groups:
            yield (
                f"{samples:,} base samples show {len(rig.images):,} images: standard errors hold for these images, "
                "not for the population that they come from"
            )
        case "redrawn":
            yield "image: redrawn hides the variance between images in every total-order index"
    if protocol.control != "original":
        yield "control: sobol compares rows of the treatment with each other, so the control is not presented"
    yield from _short_lengths(rig)


def _require_inside(rig: Rig) -> None:
    """Refuse lengths that always lie outside the image: the alteration would have no effect."""
    side = min(rig.images.shape[-2:])
    scale = 1.0 if rig.treatment.reference is None else side / rig.treatment.reference
    for item, one in zip(rig.protocol.treatment.in_order, rig.treatment.applied, strict=True):
        for name, parameter in one.alteration.parameters.items():
            low, high = item.laws[name].support
            if parameter.is_length and (low * scale >= side or high * scale <= -side):
                raise PlanError(
                    f"{item.label}: {name} lies between {low * scale:g} and {high * scale:g} px, outside of images of "
                    f"{side} px; give it a law for this size, or leave out `treatment.reference_side: image`"
                ).about("treatment", "alterations", rig.protocol.treatment.alterations.index(item), name)


def _short_lengths(rig: Rig) -> Iterator[str]:
    """Name lengths that are under half a pixel once they are scaled to the image."""
    if rig.treatment.reference is None:
        return
    scale = min(rig.images.shape[-2:]) / rig.treatment.reference
    for item, one in zip(rig.protocol.treatment.in_order, rig.treatment.applied, strict=True):
        for name, parameter in one.alteration.parameters.items():
            longest = max(map(abs, item.laws[name].support)) * scale
            if parameter.is_length and longest < 0.5:
                yield (
                    f"{item.label}: {name} is at most {longest:.2g} px here, as lengths are for images of "
                    f"{rig.treatment.reference:g} px; `treatment.reference_side: image` takes all lengths as they are"
                )
