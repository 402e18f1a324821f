"""The engine's inner loop: build the stimuli of a block, show them, hand the responses to the statistics, drop them."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuroprobe.analysis.contrast import ContrastAnalysis
from neuroprobe.design.pick_freeze import Presentations
from neuroprobe.differences import DifferenceFile
from neuroprobe.errors import ResponseError
from neuroprobe.feeding import Fed, Piece, fed, feed
from neuroprobe.packing import Pack, packs
from neuroprobe.plans import Plan
from neuroprobe.probe.outcome import OUTPUT
from neuroprobe.probe.precision import full_float32
from neuroprobe.probe.sites import Site
from neuroprobe.progress import BatchDone, Listener, ignore
from neuroprobe.responses import ResponseWriter
from neuroprobe.rig import Rig
from neuroprobe.statistics.pick_freeze import PickFreezeAccumulator, PickFreezeSums
from neuroprobe.statistics.tree import MergeTree, Span, State

N_TIMED = 3  # forward passes, the first of which warms up
FEEDS_AHEAD = ("cuda",)  # types of devices beside which a core is free to decode


class States(dict[str, Any]):
    """States of a span, by analysis and layer (``sobol/layer1``); merged together."""

    def merge(self, right: Mapping[str, Any]) -> None:
        """Add the states of the blocks to the right, in place."""
        for key, sums in self.items():
            sums.merge(right[key])


class BlockRecorder(ABC):
    """Presents blocks and gives out their states.

    Parameters
    ----------
    rig : Rig
    plan : Plan

    Attributes
    ----------
    feeds_ahead : bool
        Whether images are decoded, and brought to the device, a batch ahead; numbers do not depend on it.
    """

    def __init__(self, rig: Rig, plan: Plan) -> None:
        self.rig, self.plan = rig, plan
        self.design = rig.design(plan.layout.scramble, plan.layout.groups)
        self.place = "before the first forward pass"  # for whoever explains an error
        # a CPU decodes with the cores that it computes with
        self.feeds_ahead = rig.device.type in FEEDS_AHEAD
        self._fed: Iterator[Fed] | None = None  # while a span is recorded
        self._first: Fed | None = None  # of a piece that begins

    @abstractmethod
    def attached(self) -> AbstractContextManager[object]:
        """Context in which blocks can be recorded."""

    @abstractmethod
    def time_block(self) -> float:
        """Present a few batches and return the seconds that a block will take; their responses are not kept."""

    def create_files(self) -> None:  # noqa: B027 - most have nothing beside their states
        """Make the files that recording fills, before several processes do."""

    def sync(self) -> None:  # noqa: B027 - most have nothing beside their states
        """Bring to the disk what is not in the states; called before these are stored."""

    @abstractmethod
    def kind(self, key: str) -> type[State]:
        """Type of the state that has a key."""

    @abstractmethod
    def _start(self) -> None:
        """Make the accumulators when they are first needed: planning alone takes no memory for them."""

    @abstractmethod
    def _begin_piece(self, start: int, presentations: Presentations) -> None:
        """Prepare for the base samples of a piece, the first of which is number `start`."""

    @abstractmethod
    def _present(self, presentations: Presentations, pack: Pack) -> None:
        """Show the rows of a pack, in as many forward passes of one fixed size as it takes."""

    @abstractmethod
    def _end_block(self) -> States:
        """Return the states of the block that ends here."""

    def record_span(self, span: Span, listener: Listener = ignore) -> States:
        """Present the blocks of an aligned span and return its states; only within `attached`."""
        with full_float32(), fed(lambda: self._feed(span), ahead=self.feeds_ahead) as self._fed:
            self._start()
            tree: MergeTree[States] = MergeTree()
            try:
                for block in range(span.start, span.stop):
                    tree.add(Span(block, block + 1), self._record_block(block, listener))
            finally:
                self._fed = self._first = None
            ((_, states),) = tree.nodes()
            return states

    def _pieces(self, block: int) -> Iterator[tuple[int, int]]:
        """Base samples of each piece of a block, from the first to behind the last."""
        layout = self.plan.layout
        stop = min((block + 1) * layout.block, self.plan.samples)
        for start in range(block * layout.block, stop, layout.piece):
            yield start, min(start + layout.piece, stop)

    def _feed(self, span: Span) -> Iterator[Fed]:
        """Give out pieces, and the images of their forward passes."""

        def pieces() -> Iterator[Piece]:
            for block in range(span.start, span.stop):
                for start, stop in self._pieces(block):
                    presentations = self.design.presentations(start, stop)
                    yield Piece(start, presentations, tuple(packs(presentations, self.plan.layout.batch)))

        return feed(pieces(), self.rig.images, self.plan.layout.batch, self.rig.device)

    def _record_block(self, block: int, listener: Listener) -> States:
        self._begin_block(block)
        for _ in self._pieces(block):
            assert self._fed is not None
            self._first = next(self._fed)
            piece = self._first.piece
            assert piece is not None
            self._begin_piece(piece.start, piece.presentations)
            for pack in piece.packs:
                self._present(piece.presentations, pack)
                listener(BatchDone(pack.stop - pack.start))
        return self._end_block()

    def _begin_block(self, block: int) -> None:  # noqa: B027 - most have nothing to prepare
        """Prepare for a block."""

    def _stimuli(self, presentations: Presentations, sample: NDArray[np.int64], row: NDArray[np.int64]) -> Tensor:
        """Build the stimuli of a forward pass, as the network expects them."""
        if self._fed is None:
            stimuli = self.rig.treatment.stimuli(self.rig.images, presentations, sample, row, self.rig.device)
        else:
            given, self._first = self._first or next(self._fed), None
            assert np.array_equal(given.number, presentations.image[sample, row])
            stimuli = given.take()
            self.rig.treatment.alter(stimuli, presentations, sample, row)
        n_missing = self.plan.layout.batch - len(stimuli)
        if n_missing:
            # responses depend on the size of the batch in their last bits: the last one is filled up
            stimuli = torch.cat([stimuli, stimuli[-1:].expand(n_missing, -1, -1, -1)])
        return self.rig.subject.prepare(stimuli)


class Recorder(BlockRecorder):
    """Presents blocks under a probe, whose responses go to the statistics.

    Parameters
    ----------
    rig : Rig
    plan : Plan
    writer : ResponseWriter, optional
        Where responses are stored.
    differences : dict of DifferenceFile, optional
        Where differences of some layers are kept, to be ranked.
    """

    def __init__(
        self,
        rig: Rig,
        plan: Plan,
        writer: ResponseWriter | None = None,
        differences: Mapping[str, DifferenceFile] | None = None,
    ) -> None:
        super().__init__(rig, plan)
        self.writer = writer
        self.differences = differences or {}
        self.accumulators: dict[str, PickFreezeAccumulator] = {}
        self._probe, self._noise = rig.probe(), rig.noise
        self._rows: dict[str, NDArray[np.int64]] = {}  # of the design that each analysis is made of
        self._waiting: dict[str, list[Tensor]] = {}
        self._images = np.empty(0, dtype=np.int64)  # of the rows of a pack

    def attached(self) -> AbstractContextManager[object]:
        """Context in which the probe is at its sites."""
        return self._probe if self._noise is None else self._noisy()

    @contextmanager
    def _noisy(self) -> Iterator[None]:
        # noise within the network comes before the probe
        assert self._noise is not None
        with self._noise.within(self.rig.subject.network), self._probe:
            yield

    def kind(self, key: str) -> type[State]:
        """Type of the state that has a key."""
        return PickFreezeSums

    def create_files(self) -> None:
        """Make the arrays of stored responses."""
        if self.writer is not None:
            presentations = self.design.presentations(0, min(self.plan.layout.piece, self.plan.samples))
            self.writer.create(presentations, self.rig.images.columns)

    def sync(self) -> None:
        """Bring differences to the disk."""
        for file in self.differences.values():
            file.sync()

    def _start(self) -> None:
        """Make the accumulators when they are first needed: planning alone takes no memory for them."""
        layout = self.plan.layout
        self.accumulators = self.accumulators or {
            state_key(analysis.name, site.name): analysis.accumulator(
                self._n_units(site), layout.block, device=self.rig.device, compiled=layout.compiled
            )
            for analysis in self.rig.analyses
            for site in self.rig.probed
        }

    def _n_units(self, site: Site) -> int:
        """Numbers that are summed of a site: of the network's output, those that are measured."""
        outcome = self.rig.outcome
        return len(outcome.measures) if outcome is not None and site.name == OUTPUT else site.n_units

    def time_block(self) -> float:
        """Present a few batches and return the seconds that a block will take; their responses are not kept."""
        self._start()
        presentations = self.design.presentations(0, min(self.plan.layout.piece, self.plan.samples))
        self._take_rows(presentations)
        seconds = []
        with self.attached():
            for _, pack in zip(range(N_TIMED), packs(presentations, self.plan.layout.batch), strict=False):
                started = time.perf_counter()
                self._present(presentations, pack)
                seconds.append(time.perf_counter() - started)
        return min(seconds) * self.plan.n_passes / self.plan.n_blocks

    def _begin_block(self, block: int) -> None:
        if self.writer is not None:
            self.writer.begin_block(block * self.plan.layout.block * self.plan.n_rows)

    def _begin_piece(self, start: int, presentations: Presentations) -> None:
        self._take_rows(presentations)
        if self.writer is not None:
            self.writer.write_table(start * self.plan.n_rows, presentations, self.rig.images.columns)

    def _end_block(self) -> States:
        if self.writer is not None:
            self.writer.end_block()
        return States({key: accumulator.end_block() for key, accumulator in self.accumulators.items()})

    def _take_rows(self, presentations: Presentations) -> None:
        self._rows = {analysis.name: analysis.rows(presentations) for analysis in self.rig.analyses}

    def _present(self, presentations: Presentations, pack: Pack) -> None:
        """Show the rows of a pack, in as many forward passes of one fixed size as it takes."""
        size = self.plan.layout.batch
        n_run = len(pack.row)
        index = {
            name: torch.from_numpy(np.take_along_axis(pack.index, taken[pack.start : pack.stop], 1)).to(self.rig.device)
            for name, taken in self._rows.items()
        }
        order = pack.index.ravel() if self.writer is not None else None
        first = int(presentations.sample[pack.start])
        self._waiting = {site.name: [] for site in self.rig.probed}
        self._images = presentations.image[pack.sample, pack.row]
        for start in range(0, n_run, size):
            part = slice(start, start + size)
            is_last = start + size >= n_run
            self.place = f"in a forward pass of {size} rows, before its first recorded layer"
            if self._noise is not None:
                self._noise.present(presentations.sample[pack.sample[part]], size)
            self._probe.record(
                self._stimuli(presentations, pack.sample[part], pack.row[part]),
                self._consumer(min(size, n_run - start), n_run > size, is_last, index, order, first),
            )

    def _consumer(
        self,
        n: int,
        several: bool,
        is_last: bool,
        index: Mapping[str, Tensor],
        order: NDArray[np.int64] | None,
        first: int,
    ) -> Callable[[Site, Tensor], None]:
        size = self.plan.layout.batch

        def consume(site: Site, response: Tensor) -> None:
            self.place = f"in a forward pass of {size} rows, at {where(site)} or behind it"
            y = response.flatten(1).float()
            if site.units is not None:
                y = y[:, slice(*site.units)].contiguous()
            if several:
                # the network may overwrite its response as soon as the hook returns
                self._waiting[site.name].append(y[:n].clone())
                if not is_last:
                    return
                y = torch.cat(self._waiting.pop(site.name))
            if self._noise is not None:
                y = self._noise.apply(site, y[:n])
            if self.rig.outcome is not None and site.name == OUTPUT:
                y = self.rig.outcome.measure(y[: len(self._images)], self._images)
            for analysis in self.rig.analyses:
                rows = index[analysis.name]
                if not self.accumulators[state_key(analysis.name, site.name)].update(y, rows):
                    raise non_finite(site, y, rows, first)
                if isinstance(analysis, ContrastAnalysis) and site.name in self.differences:
                    for image, own in enumerate(rows, first):  # of all together they would be large
                        self.differences[site.name].write(image, analysis.differences(y[own][None].cpu().numpy()))
            if not self.rig.analyses and self.rig.protocol.record.nan == "error" and not torch.isfinite(y).all():
                raise non_finite(site, y, torch.arange(len(y), device=y.device)[:, None], first)
            if self.writer is not None and site.name in self.writer.layers:
                self.writer.add(site.name, y[torch.from_numpy(order).to(y.device)].cpu().numpy())

        return consume


def state_key(analysis: str, layer: str) -> str:
    """Key of a state: the path of its node in the result."""
    return f"{analysis}/{layer}"


def where(site: Site) -> str:
    """Say which layer a site is."""
    return f"layer {site.name!r}" if site.name != OUTPUT else "the network's output"


def non_finite(site: Site, y: Tensor, index: Tensor, first: int) -> ResponseError:
    """Say which layer gave responses that are not finite, in how many units, and at which base sample."""
    bad = ~torch.isfinite(y)
    n_units = int(bad.any(0).sum())
    if not n_units:
        return ResponseError(
            f"{where(site)}: responses up to {float(y.abs().max()):.3g} are too large for sums of their squares; "
            "record a layer behind a normalisation, or scale the network's output"
        )
    of_sample = bad.any(1)[index].any(1).cpu().numpy()
    return ResponseError(
        f"{where(site)}: {n_units} of {y.shape[1]} units gave NaN or infinity at base sample "
        f"{first + int(np.argmax(of_sample))}; mend the network, or leave such base samples out by "
        "`record: {nan: drop}`"
    )
