"""Crops of top stimuli that hold the receptive fields of a layer: shown as they are and altered, and averaged."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from neuroprobe.design.randomness import keys
from neuroprobe.probe.crops import CropPasses
from neuroprobe.probe.receptive_field import Axis
from neuroprobe.probe.sites import Site, keep
from neuroprobe.progress import Finished, Listener, StageAdvanced, StageStarted
from neuroprobe.selectivity.costs import CROPS_AT_ONCE, PICTURE_SIDE
from neuroprobe.statistics.neuron_feature import FeatureAccumulator
from neuroprobe.statistics.top_stimuli import TopStimuli, relative_weights
from neuroprobe.stimuli.properties import energy, sham

if TYPE_CHECKING:
    from neuroprobe.plans import Plan
    from neuroprobe.rig import Rig

Arrays = dict[str, NDArray[Any]]
MAX_ROWS: Final = 8192  # crops of a forward pass
GREY: Final = 127 / 255


@dataclass(frozen=True)
class Batch:
    """Crops of one size and one way through the network, and the lists that they are in.

    Attributes
    ----------
    image, row, column : int arrays (crops,)
    boxes : int array (crops, 4)
    crop, unit, rank : int arrays (owners,)
        Which crop is at which place of which channel's list.
    """

    image: NDArray[np.int64]
    row: NDArray[np.int64]
    column: NDArray[np.int64]
    boxes: NDArray[np.int64]
    crop: NDArray[np.int64]
    unit: NDArray[np.int64]
    rank: NDArray[np.int64]

    def first(self, n: int) -> Batch:
        """The first crops of it."""
        mine = self.crop < n
        owners = self.crop[mine], self.unit[mine], self.rank[mine]
        return Batch(self.image[:n], self.row[:n], self.column[:n], self.boxes[:n], *owners)


def score_crops(rig: Rig, plan: Plan, site: Site, top: TopStimuli, listener: Listener) -> Arrays:
    """Show the crops of a layer, each once for all channels that it drives.

    Returns
    -------
    dict of arrays
        ``feature`` (channels, height, width, 3) and ``coverage``; ``crops`` (channels, crops, side, side, 3) in uint8;
        ``original`` (channels, N), and of each index ``<index> altered`` (members, channels, N), ``<index> sham``
        (draws, channels, N) and ``<index> energy`` (2,): mean squared changes by the manipulation and by its sham.
    """
    scorer = _Scorer(rig, site, top)
    listener(StageStarted(f"showing crops to {site.name}", scorer.n_crops, "crop"))
    for batch in scorer.batches():
        scorer.show(batch)
        listener(StageAdvanced(len(batch.image)))
    listener(Finished())
    return scorer.arrays()


def time_crops(rig: Rig, plan: Plan, site: Site) -> float:
    """Show a few crops of a layer, at random places, and return the seconds that all will take at most."""
    assert rig.selectivity is not None
    n = len(site.channels)
    height, width = site.shape[1:] if len(site.shape) == 3 else (1, 1)
    place = np.random.default_rng(0).integers(0, height * width, (1, n))
    top = TopStimuli(n, 1)
    top.update(np.ones((1, n)), np.array([0]), place // width, place % width)
    scorer = _Scorer(rig, site, top)
    batch = next(scorer.batches())
    pixels = int(np.prod(batch.boxes[0, 2:] - batch.boxes[0, :2]))
    few = max(1, plan.layout.batch * rig.images.shape[1] * rig.images.shape[2] // (pixels * scorer.study.n_shown))
    batch = batch.first(few)
    seconds = min(_seconds(scorer, batch) for _ in range(2))  # the first time is slower
    places = 1 if scorer.passes.whole_image else height * width
    return seconds / len(batch.image) * min(n * scorer.study.options.top, plan.samples * places)


def within_images(axis: Axis) -> Axis:
    """Fields without what lies outside of the image for every unit: those of deep layers are wider than it by far.

    Examples
    --------
    >>> within_images(Axis(size=81, stride=4, start=-37, n_units=8, n_pixels=32))
    Axis(size=60, stride=4, start=-28, n_units=8, n_pixels=32)
    """
    last = axis.start + axis.stride * (axis.n_units - 1)
    first, stop = max(0, -last), min(axis.size, axis.n_pixels - axis.start)
    if stop <= first:
        return axis
    return replace(axis, size=stop - first, start=axis.start + first)


def _seconds(scorer: _Scorer, batch: Batch) -> float:
    started = time.perf_counter()
    scorer.show(batch)
    return time.perf_counter() - started


class _Scorer:
    def __init__(self, rig: Rig, site: Site, top: TopStimuli) -> None:
        assert rig.selectivity is not None
        self.rig, self.site, self.top, self.study = rig, site, top, rig.selectivity
        example = rig.subject.prepare(rig.images.load([0]).to(rig.device))
        self.passes = CropPasses(rig.subject.network, site.name, example, rig.subject.lesion)
        self.weights = np.nan_to_num(relative_weights(top.values))
        triples = np.stack([top.images.ravel(), top.rows.ravel(), top.columns.ravel()], axis=1)
        live = np.repeat(top.values[:, 0] > 0, top.values.shape[1])
        unique, place = np.unique(triples[live], axis=0, return_inverse=True)
        self._image, self._row, self._column = unique.T
        self._owner, self._place = np.flatnonzero(live), place.ravel()
        n, n_kept = top.values.shape
        self._responses = {"original": np.full((n, n_kept), np.nan, dtype=np.float32)}
        self._energy: dict[str, NDArray[np.float64]] = {}
        for one in self.study.altered:
            for what, m in (("altered", len(one.members)), ("sham", self.study.options.sham)):
                self._responses[f"{one.name} {what}"] = np.full((m, n, n_kept), np.nan, dtype=np.float32)
            self._energy[one.name] = np.zeros((2, 2))
        height, width = self._field_size()
        self._feature = FeatureAccumulator(n, height, width, self.study.options.border)
        side = min(PICTURE_SIDE, max(height, width))
        scale = side / max(height, width)
        self._picture = max(1, round(height * scale)), max(1, round(width * scale))
        self._crops = np.full((n, self.study.options.crops, *self._picture, 3), round(255 * GREY), dtype=np.uint8)

    @property
    def n_crops(self) -> int:
        """Crops, each once."""
        return len(self._image)

    @property
    def _axes(self) -> tuple[Axis, Axis]:
        field = self.passes.field
        return within_images(field.rows), within_images(field.columns)

    def _field_size(self) -> tuple[int, int]:
        if self.passes.whole_image:
            return self.rig.images.shape[1], self.rig.images.shape[2]
        rows, columns = self._axes
        return rows.size, columns.size

    def batches(self) -> Iterator[Batch]:
        """Cut the crops into batches: those of one way through the network, as many as the memory takes."""
        if not self.n_crops:
            return
        boxes = self.passes.boxes(self._row, self._column)
        owners = np.argsort(self._place, kind="stable")
        first = np.searchsorted(self._place[owners], np.arange(self.n_crops + 1))
        for group in self.passes.groups(self._row, self._column):
            top, left, bottom, right = boxes[group[0]]
            n_bytes = 4 * 3 * (bottom - top) * (right - left) * (2 + self.study.n_shown)
            step = int(np.clip(CROPS_AT_ONCE // max(1, n_bytes), 1, MAX_ROWS))
            for start in range(0, len(group), step):
                part = group[start : start + step]
                counts = first[part + 1] - first[part]
                crop = np.repeat(np.arange(len(part)), counts)
                mine = np.concatenate([owners[first[one] : first[one + 1]] for one in part])
                unit, rank = np.divmod(self._owner[mine], self.top.values.shape[1])
                yield Batch(self._image[part], self._row[part], self._column[part], boxes[part], crop, unit, rank)

    def show(self, batch: Batch) -> None:
        """Show the crops of a batch, and average them."""
        crops = self._cut(batch)
        self._average(batch, crops)
        self._keep("original", batch, self._read(crops[None], batch))
        for one in self.study.altered:
            seeds = torch.from_numpy(self._keys(one.name, batch)).to(crops.device)
            altered = one.manipulation.alter(crops, one.options, seeds)
            self._keep(f"{one.name} altered", batch, self._read(altered, batch))
            if self.study.options.sham:
                like = sham(crops, altered, seeds, self.study.options.sham)
                self._keep(f"{one.name} sham", batch, self._read(like, batch))
                self._energy[one.name] += _energies(crops, altered, like)

    def _keys(self, purpose: str, batch: Batch) -> NDArray[np.int64]:
        """Random key of each crop: a function of the image and the place."""
        height, width = self.passes.map_shape or (1, 1)
        number = (batch.image * height + batch.row) * width + batch.column
        return keys(self.rig.protocol.seed, f"{purpose} of {self.site.name}", number)

    def _cut(self, batch: Batch) -> Tensor:
        """Cut crops (n, 3, height, width) out of their images."""
        numbers, at = np.unique(batch.image, return_inverse=True)
        images = self.rig.images.load(numbers).to(self.rig.device)
        top, left, bottom, right = batch.boxes.T
        rows = torch.from_numpy(top[:, None] + np.arange(bottom[0] - top[0])).to(images.device)
        columns = torch.from_numpy(left[:, None] + np.arange(right[0] - left[0])).to(images.device)
        index = torch.from_numpy(at.ravel()).to(images.device)
        channel = torch.arange(3, device=images.device)
        return images[
            index[:, None, None, None], channel[:, None, None], rows[:, None, :, None], columns[:, None, None, :]
        ]

    def _read(self, stimuli: Tensor, batch: Batch) -> NDArray[np.float32]:
        """Responses (members, owners) to altered crops (members, n, 3, height, width); NaN to those that are NaN."""
        n_members, n = stimuli.shape[:2]
        flat = stimuli.flatten(0, 1)
        unknown = torch.isnan(flat).flatten(1).any(1)
        prepared = self.rig.subject.prepare(torch.nan_to_num(flat))
        rows, columns = np.tile(batch.row, n_members), np.tile(batch.column, n_members)
        step = self._rows_at_once(stimuli)
        parts = [
            keep(
                self.passes.responses(prepared[at : at + step], rows[at : at + step], columns[at : at + step]),
                self._spec,
            )
            for at in range(0, len(flat), step)
        ]
        found = torch.cat(parts).float()
        found[unknown] = torch.nan
        index, unit = torch.from_numpy(batch.crop).to(found.device), torch.from_numpy(batch.unit).to(found.device)
        picked: NDArray[np.float32] = found.view(n_members, n, -1)[:, index, unit].cpu().numpy()
        return picked

    @property
    def _spec(self) -> Any:
        return self.site.spec

    def _rows_at_once(self, stimuli: Tensor) -> int:
        """Crops of a forward pass: as many pixels as a batch of images has."""
        pixels = self.rig.protocol.record.batch * self.rig.images.shape[1] * self.rig.images.shape[2]
        return int(np.clip(pixels // (stimuli.shape[-2] * stimuli.shape[-1]), 1, MAX_ROWS))

    def _keep(self, name: str, batch: Batch, values: NDArray[np.float32]) -> None:
        target = self._responses[name]
        if target.ndim == 2:
            target[batch.unit, batch.rank] = values[0]
        else:
            target[:, batch.unit, batch.rank] = values

    def _average(self, batch: Batch, crops: Tensor) -> None:
        """Add crops to the Neuron Features, and keep pictures of the first ones."""
        if self.study.options.border == "resize":
            crops = functional.interpolate(crops, size=self._field_size(), mode="bilinear")
        offset = self._offset(batch)
        if min(offset) < 0:  # what a unit in the padding is shown, which it does not see
            crops, offset = crops[:, :, :0, :1], (0, 0)
        pixels = crops.permute(0, 2, 3, 1).cpu().numpy()
        self._feature.update(pixels, batch.unit, self.weights[batch.unit, batch.rank], offset, batch.crop)
        wanted = batch.rank < self.study.options.crops
        if wanted.any():
            # one that is among the first of several channels is made smaller once
            crop, place = np.unique(batch.crop[wanted], return_inverse=True)
            canvas = torch.full((len(crop), 3, *self._field_size()), GREY, device=crops.device)
            height, width = crops.shape[-2:]
            top, left = offset
            canvas[:, :, top : top + height, left : left + width] = crops[torch.from_numpy(crop).to(crops.device)]
            small = functional.interpolate(canvas, size=self._picture, mode="area")
            small = (small.permute(0, 2, 3, 1) * 255).round().byte()
            self._crops[batch.unit[wanted], batch.rank[wanted]] = small.cpu().numpy()[place]

    def _offset(self, batch: Batch) -> tuple[int, int]:
        """Where on the receptive field's canvas the crops of a batch begin; negative where they do not lie on it."""
        if self.passes.whole_image or self.study.options.border == "resize":
            return 0, 0
        found = []
        for axis, at, edge, length in zip(
            self._axes, (batch.row[0], batch.column[0]), batch.boxes[0, :2], batch.boxes[0, 2:], strict=True
        ):
            first = int(edge - axis.start - axis.stride * at)
            found.append(first if first + int(length - edge) <= axis.size else -1)
        return found[0], found[1]

    def arrays(self) -> Arrays:
        """What was found."""
        found: Arrays = dict(self._responses)
        feature = self._feature.finalize()
        found |= {"feature": feature.feature.astype(np.float32), "coverage": feature.coverage.astype(np.float32)}
        found["crops"] = self._crops
        found |= {f"{name} energy": sums / np.where(n > 0, n, np.nan) for name, (sums, n) in self._energy.items()}
        found |= self._about()
        return found

    def _about(self) -> Mapping[str, NDArray[Any]]:
        """Receptive field: sizes, strides, starts, and whether whole images were shown, with the reason."""
        rows, columns = self._axes
        why = np.frombuffer(self.passes.why.encode(), dtype=np.uint8)
        field = np.array([rows.size, columns.size, rows.stride, columns.stride, rows.start, columns.start])
        theoretical = np.array([self.passes.field.rows.size, self.passes.field.columns.size])
        return {
            "field": field,
            "theoretical field": theoretical,
            "whole image": np.array([self.passes.whole_image]),
            "why": why.copy(),
        }


def _energies(crops: Tensor, *changed: Tensor) -> NDArray[np.float64]:
    """Sums of the mean squared changes by each way of altering crops, and how many there are: (2, ways)."""
    each = [energy(crops, one) for one in changed]
    sums, counts = [float(one.nansum()) for one in each], [float((~one.isnan()).sum()) for one in each]
    return np.array([sums, counts])
