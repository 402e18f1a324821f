"""Blocks of a session of selectivity: images are shown once, and what drives each channel most is kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuroprobe import names
from neuroprobe.design.pick_freeze import Presentations
from neuroprobe.design.randomness import keys
from neuroprobe.errors import ResponseError
from neuroprobe.packing import Pack, packs
from neuroprobe.plans import Plan
from neuroprobe.probe.sites import Site
from neuroprobe.recorder import N_TIMED, BlockRecorder, States, state_key, where
from neuroprobe.rig import Rig
from neuroprobe.statistics.plain_sums import PlainSums
from neuroprobe.statistics.response_sums import ResponseAccumulator, Responses
from neuroprobe.statistics.top_stimuli import TopStimuli
from neuroprobe.statistics.tree import State

FIRST: Final = f"{names.SELECTIVITY} first"  # keys of the states of lists: of either half of the images
SECOND: Final = f"{names.SELECTIVITY} second"


class SelectivityRecorder(BlockRecorder):
    """Presents each image once under a probe.

    Parameters
    ----------
    rig : Rig
    plan : Plan
    """

    def __init__(self, rig: Rig, plan: Plan) -> None:
        super().__init__(rig, plan)
        assert rig.selectivity is not None
        self.accumulators: dict[str, ResponseAccumulator] = {}
        self._probe = rig.probe()
        self._targets, self._halves = rig.selectivity.targets, halves(rig.protocol.seed, len(rig.images))

    def attached(self) -> AbstractContextManager[object]:
        """Context in which the probe is at its sites."""
        return self._probe

    def _start(self) -> None:
        selectivity = self.rig.selectivity
        assert selectivity is not None
        self.accumulators = self.accumulators or {
            site.name: ResponseAccumulator(len(site.channels), selectivity.options.top, selectivity.n_classes)
            for site in self.rig.sites
        }

    def time_block(self) -> float:
        """Show a few batches and return the seconds that a block will take; their responses are not kept."""
        self._start()
        presentations = self.design.presentations(0, min(self.plan.layout.piece, self.plan.samples))
        seconds = []
        with self.attached():
            for _, pack in zip(range(N_TIMED), packs(presentations, self.plan.layout.batch), strict=False):
                started = time.perf_counter()
                self._present(presentations, pack)
                seconds.append(time.perf_counter() - started)
        self.accumulators = {}
        return min(seconds) * self.plan.n_passes / self.plan.n_blocks

    def _begin_piece(self, start: int, presentations: Presentations) -> None:
        """Nothing is kept of a piece."""

    def kind(self, key: str) -> type[State]:
        """Type of the state that has a key."""
        return TopStimuli if key.startswith((FIRST, SECOND)) else PlainSums

    def _end_block(self) -> States:
        states = States()
        for layer, accumulator in self.accumulators.items():
            first, second, sums = accumulator.end_block()
            states |= {state_key(FIRST, layer): first, state_key(SECOND, layer): second}
            states[state_key(names.SELECTIVITY, layer)] = sums
        return states

    def _present(self, presentations: Presentations, pack: Pack) -> None:
        """Show the images of a pack in one forward pass."""
        size = self.plan.layout.batch
        images = presentations.image[pack.sample, pack.row]
        self.place = f"in a forward pass of {size} rows, before its first recorded layer"
        self._probe.record(self._stimuli(presentations, pack.sample, pack.row), self._consumer(images))

    def _consumer(self, images: NDArray[np.int64]) -> Callable[[Site, Tensor], None]:
        def consume(site: Site, response: Tensor) -> None:
            self.place = f"in a forward pass of {self.plan.layout.batch} rows, at {where(site)} or behind it"
            accumulator, shown = self.accumulators[site.name], images
            found = strongest(response[: len(images)])
            is_whole = np.isfinite(found.peak).all(1) & np.isfinite(found.mean).all(1)
            if not is_whole.all():
                self._require_dropping(site, images[~is_whole])
                accumulator.n_dropped += int((~is_whole).sum())
                kept = (array[is_whole] for array in (found.peak, found.rows, found.columns, found.mean))
                found, shown = Responses(*kept), images[is_whole]
            accumulator.update(found, shown, self._halves[shown], self._targets[shown])

        return consume

    def _require_dropping(self, site: Site, images: NDArray[np.int64]) -> None:
        """Refuse responses that are not finite, unless the protocol leaves such images out."""
        if self.rig.protocol.record.nan != "drop":
            raise ResponseError(
                f"{where(site)}: {len(images)} images gave NaN or infinity, {self.rig.images.ids[images[0]]!r} for "
                "instance; mend the network, or leave such images out by `record: {nan: drop}`"
            )


def halves(seed: int, n_images: int) -> NDArray[np.int64]:
    """Half of each image, 0 or 1: of a function of its number (images,)."""
    return keys(seed, "halves of the images", np.arange(n_images)) & 1


def strongest(response: Tensor) -> Responses:
    """Largest response of each map (n, channels, y, x), its place, and the mean; of channels without map themselves.

    Of equal responses the first place, row by row.
    """
    if response.ndim == 2:
        values = response.cpu().numpy()
        nowhere = np.zeros(values.shape, dtype=np.int32)
        return Responses(values, nowhere, nowhere, values)
    flat = response.flatten(2)
    # on a CPU, NumPy finds places several times faster than torch; both take the first one
    at = torch.from_numpy(flat.numpy().argmax(2)) if flat.device.type == "cpu" else flat.argmax(2)
    peak = flat.gather(2, at[..., None])[..., 0].cpu().numpy()
    rows, columns = np.divmod(at.cpu().numpy().astype(np.int32), np.int32(response.shape[3]))
    return Responses(peak, rows, columns, flat.mean(2).cpu().numpy())
