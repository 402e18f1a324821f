"""Plans as values: what is fixed by the first run into a store, what a session does, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from neuroprobe import names
from neuroprobe.design.pick_freeze import ImageGroups
from neuroprobe.machine import human_bytes
from neuroprobe.packing import MAX_SAMPLES_PER_BATCH
from neuroprobe.stopping import Stopping

if TYPE_CHECKING:
    from neuroprobe.machine import Budget
    from neuroprobe.probe.sites import Site

# what the base samples of a session are, where they are not images
SAMPLED: Final = {names.PICK_FREEZE: "base samples", names.REPEATED: "presentations"}
Pieces = tuple[tuple[str, int, int], ...]  # layers of a part of a session: name, first unit, and behind the last
PIECE: Final = 1024  # base samples; a block may have many more


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
    n_groups : int
        Groups that the images are shared out to, one per block of the first run; 0 where blocks share images.
    """

    block: int
    scramble: int | None
    batch: int
    compiled: bool = False
    n_groups: int = 0

    @property
    def groups(self) -> ImageGroups | None:
        """The groups of images, where blocks have images of their own."""
        return ImageGroups(self.block, self.n_groups) if self.n_groups else None

    @property
    def piece(self) -> int:
        """Base samples whose presentations are in memory at a time, and packed together."""
        return min(self.block, PIECE)


@dataclass(frozen=True)
class Plan:
    """What a session of a run will do and what it will cost.

    Attributes
    ----------
    title : str
    session : str
        Design of the session.
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
    memory, device_memory, disk : dict
        Bytes by purpose, when they are at their fullest: of the process, of the CUDA device (empty without one), and
        of the store.
    moment : str
        When the process takes most.
    rows_run : tuple of int
        Rows that are run of each of the first base samples.
    layer_bytes : dict
        Bytes of the sums of each layer.
    seconds : float or None
        Expected time, from timed batches; None if none were timed.
    warnings : tuple of str
    lesion : dict
        Units of each layer that the subject's lesion masks.
    masks : dict
        Of a study of lesions, the masks at each place; every row is shown to the network under each.
    lists : int
        Images of the list of each channel, where such are kept, else 0.
    stopping : Stopping or None
        When it stops before it has all base samples.
    part : (int, int) or None
        Which part of the session it is, counted from 1, and of how many; None of a session that is whole.
    parts : tuple of Plan
        The parts, where the session is recorded part by part: each records some layers, or units of layers, of all
        stimuli. Memory is that of the fullest part.
    """

    title: str
    session: str
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
    device_memory: Mapping[str, int] = field(default_factory=dict)
    moment: str = ""
    rows_run: tuple[int, ...] = ()
    layer_bytes: Mapping[str, int] = field(default_factory=dict)
    seconds: float | None = None
    warnings: tuple[str, ...] = field(default=())
    lesion: Mapping[str, int] = field(default_factory=dict)
    masks: Mapping[str, int] = field(default_factory=dict)
    lists: int = 0
    stopping: Stopping | None = None
    part: tuple[int, int] | None = None
    parts: tuple[Plan, ...] = ()

    @property
    def recorded(self) -> tuple[Plan, ...]:
        """What is recorded in turn: the parts, or the session as a whole."""
        return self.parts or (self,)

    @property
    def key(self) -> str:
        """Name of what is recorded, in the journal and in the names of states."""
        return self.session if self.part is None else key_of_part(self.session, self.part[0])

    @property
    def n_blocks(self) -> int:
        """Blocks of the run, of which the last may be shorter."""
        return -(-self.samples // self.layout.block)

    @property
    def n_units(self) -> int:
        """Recorded scalars."""
        return sum(site.n_units for site in self.sites)

    def keeps(self, budget: Budget) -> bool:
        """Whether the plan keeps a budget of memory."""
        return budget.holds(sum(self.memory.values()), sum(self.device_memory.values()))

    @property
    def n_together(self) -> int:
        """Base samples that a forward pass may hold."""
        ends = np.cumsum([0, *self.rows_run])
        fitting = np.searchsorted(ends, ends + self.layout.batch, side="right") - 1 - np.arange(len(ends))
        return max(1, min(int(fitting.max()), MAX_SAMPLES_PER_BATCH))

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as plain values, for machines."""
        return {
            "samples": self.samples,
            "rows": self.samples * self.n_rows,
            "presented": self.n_presented,
            "passes": self.n_passes,
            "factors": list(self.factors),
            "layout": asdict(self.layout),
            "shard": self.shard,
            "lesion": dict(self.lesion),
            "masks": dict(self.masks),
            "lists": self.lists,
            "until": None if self.stopping is None else asdict(self.stopping),
            "parts": pieces_of(self),
            "layers": {site.name: dict(zip(site.dims, site.shape, strict=True)) for site in self.sites},
            "units": self.n_units,
            "layer_bytes": dict(self.layer_bytes),
            "memory": dict(self.memory),
            "device_memory": dict(self.device_memory),
            "disk": dict(self.disk),
            "seconds": self.seconds,
            "warnings": list(self.warnings),
        }

    def __str__(self) -> str:
        layout = self.layout
        each = "one sequence" if layout.scramble is None else f"scrambles of {layout.scramble}"
        sampled = SAMPLED.get(self.session, "images")
        each = f" ({each})" if self.session == names.PICK_FREEZE else ""
        lines = [f"{self.title or 'untitled protocol'}: {self.session}"]
        if self.lists:
            n_channels = sum(len(site.channels) for site in self.sites)
            lines += [
                f"  images      {self.samples:,}, in {self.n_passes:,} forward passes of {layout.batch}",
                f"  lists       of {self.lists} images for each of {n_channels:,} channels, shown again as crops",
            ]
        else:
            lines += [
                f"  factors     {', '.join(self.factors) or 'none'}",
                f"  rows        {self.samples * self.n_rows:,} = {self.samples:,} {sampled} × {self.n_rows}; "
                f"about {self.n_presented:,} to present, in {self.n_passes:,} forward passes of {layout.batch}",
            ]
        lines.append(f"  blocks      {self.n_blocks} of {layout.block} {sampled}{each}; shards of {self.shard}")
        if self.stopping is not None:
            lines.append(f"  until       {self.stopping}")
        if self.sites:
            lines.append(f"  units       {self.n_units:,}")
        if self.lesion:
            lines.append(f"  lesion      {', '.join(f'{n:,} units of {layer}' for layer, n in self.lesion.items())}")
        for place, n in self.masks.items():
            lines.append(f"  masks       {n:,} at {place}: {n * self.n_presented:,} rows to present")
        for site in self.sites:
            shape = " × ".join(f"{dim} {n}" for dim, n in zip(site.dims, site.shape, strict=True))
            lines.append(
                f"    {site.name:<20} {shape} = {site.n_units:,} ({human_bytes(self.layer_bytes[site.name])} of sums)"
            )
        for number, part in enumerate(self.parts, 1):
            lines.append(f"  part {number:<6} {', '.join(map(str, part.sites))}")
        if self.parts:
            n = len(self.parts)
            lines.append(f"  parts       recorded in {n} parts, one after the other: stimuli are shown {n} times")
        of_part = f", of the fullest of {len(self.parts)} parts" if self.parts else ""
        lines.append(f"  memory      {_parts(self.memory)} while {self.moment}{of_part}")
        if self.device_memory:
            lines.append(f"  device      {_parts(self.device_memory)}")
        lines.append(f"  disk        {_parts(self.disk)}")
        if self.seconds is not None:
            at_most = "" if self.stopping is None else ", at most"
            lines.append(f"  time        about {human_time(self.seconds)}{at_most}")
        lines += [f"  warning     {warning}" for warning in self.warnings]
        return "\n".join(lines)

    __repr__ = __str__


class Plans(Mapping[str, Plan]):
    """What a run will do: the plan of each of its sessions, which are recorded in turn.

    Examples
    --------
    ``plans["pick-freeze"].samples``; printing it shows rows, units, memory, disk and time.
    """

    def __init__(self, *plans: Plan) -> None:
        self._plans = {plan.session: plan for plan in plans}

    def __getitem__(self, session: str) -> Plan:
        return self._plans[session]

    def __iter__(self) -> Iterator[str]:
        return iter(self._plans)

    def __len__(self) -> int:
        return len(self._plans)

    @property
    def seconds(self) -> float | None:
        """Expected time; None if no batches were timed."""
        seconds = [plan.seconds for plan in self.values() if plan.seconds is not None]
        return sum(seconds) if len(seconds) == len(self) else None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is to be minded, once each."""
        return tuple(dict.fromkeys(warning for plan in self.values() for warning in plan.warnings))

    def as_dict(self) -> dict[str, Any]:
        """Return the plans as plain values, for machines."""
        return {
            "title": next(iter(self.values())).title,
            "seconds": self.seconds,
            "warnings": list(self.warnings),
            "sessions": {name: plan.as_dict() for name, plan in self.items()},
        }

    def __str__(self) -> str:
        texts = [str(plan) for plan in self.values()]
        if len(self) > 1 and self.seconds is not None:
            texts.append(f"all sessions: about {human_time(self.seconds)}")
        return "\n".join(texts)

    __repr__ = __str__


def key_of_part(session: str, number: int) -> str:
    """Name of a part of a session, counted from 1."""
    return f"{session}.{number}"


def pieces_of(plan: Plan) -> tuple[Pieces, ...]:
    """Layers of each part of a session, with the first unit and the one behind the last; empty where it is whole."""
    return tuple(tuple((site.name, *site.span) for site in part.sites) for part in plan.parts)


def _parts(parts: Mapping[str, int]) -> str:
    """Sum of some parts, and the parts."""
    each = ", ".join(f"{name} {human_bytes(number)}" for name, number in parts.items() if number)
    return f"{human_bytes(sum(parts.values()))} ({each})"


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
