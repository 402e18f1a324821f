"""What becomes of the lists of a session of selectivity: top stimuli are shown again, whole, and as altered crops.

Whole images are shown once more to all layers, for what needs whole maps: the responses of all channels where others
are driven most, and labels of pixels under a map. Then, layer by layer, the crops that hold the receptive fields are
shown as they are and altered. What that gives is kept in the run's folder, one file for each, so that a run that stops
goes on behind the last one.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuroprobe.disk import make_folder, replacing
from neuroprobe.errors import ResponseError
from neuroprobe.journal import MAPS, SCORES
from neuroprobe.probe.crops import CropPasses
from neuroprobe.probe.sites import Site
from neuroprobe.progress import Finished, Listener, StageAdvanced, StageStarted
from neuroprobe.recorder import full_float32, state_key
from neuroprobe.selectivity.costs import CROPS_AT_ONCE
from neuroprobe.selectivity.crops import score_crops, time_crops
from neuroprobe.selectivity.recorder import FIRST, SECOND
from neuroprobe.selectivity.relevance import relevance_arrays, time_relevance
from neuroprobe.statistics.top_stimuli import TopStimuli, relative_weights

if TYPE_CHECKING:
    from neuroprobe.plans import Plan
    from neuroprobe.rig import Rig
    from neuroprobe.store import SessionStore

Arrays = dict[str, NDArray[Any]]
BYTES_OF_PIXEL: Final = 64  # of a map under an image and its labels


@dataclass(frozen=True)
class Lists:
    """Top stimuli of the channels of a layer: of all images, and of each half of them."""

    all: TopStimuli
    halves: tuple[TopStimuli, TopStimuli]


def read_lists(session: SessionStore, site: Site) -> Lists:
    """Read the lists of a layer from the states of a session."""
    first = session.merged(state_key(FIRST, site.name), TopStimuli)
    second = session.merged(state_key(SECOND, site.name), TopStimuli)
    both = TopStimuli.from_state(first.state())
    both.merge(second)
    return Lists(both, (first, second))


def score(rig: Rig, plan: Plan, session: SessionStore, folder: Path, listener: Listener) -> None:
    """Show the top stimuli of a session again, as far as that has not been done.

    Parameters
    ----------
    folder : Path
        Of the run.
    """
    begin_scores(plan, folder)
    score_maps(rig, plan, session, folder, listener)
    for number in range(len(rig.sites)):
        score_layer(rig, plan, session, folder, number, listener)


def begin_scores(plan: Plan, folder: Path) -> None:
    """Make the folder of what top stimuli tell, and delete those of fewer images."""
    kept = folder / SCORES
    for other in kept.glob("*") if kept.is_dir() else ():
        if other.name != str(plan.samples):
            shutil.rmtree(other)
    make_folder(kept / str(plan.samples), folder)


def score_maps(rig: Rig, plan: Plan, session: SessionStore, folder: Path, listener: Listener) -> None:
    """Show the top stimuli of all layers as whole images, where that has not been done."""
    file = _file(folder, plan, MAPS)
    if file.exists():
        return
    lists = {site.name: read_lists(session, site).all for site in rig.sites}
    _require_full(lists)
    with full_float32():
        _write(file, _show_whole(rig, plan, lists, listener))


def score_layer(rig: Rig, plan: Plan, session: SessionStore, folder: Path, number: int, listener: Listener) -> None:
    """Show the crops of a layer, by its number, where that has not been done."""
    file, site = _file(folder, plan, str(number)), rig.sites[number]
    if file.exists():
        return
    top = read_lists(session, site).all
    _require_full({site.name: top})
    with full_float32():
        _write(file, score_crops(rig, plan, site, top, listener) | relevance_arrays(rig, plan, number, top))


def _require_full(lists: Mapping[str, TopStimuli]) -> None:
    """Refuse lists that images which were left out have made too short."""
    for layer, top in lists.items():
        if top.values.shape[1] < top.n_kept:
            raise ResponseError(
                f"layer {layer!r}: {top.values.shape[1]} images gave finite responses, and lists of {top.n_kept} are "
                "kept: lower `top`, show more images, or mend the network"
            )


def time_scores(rig: Rig, plan: Plan) -> float:
    """Show a few crops and return the seconds that showing top stimuli again will take, where a plan has its time."""
    assert rig.selectivity is not None
    n_listed = sum(len(site.channels) for site in rig.sites) * rig.selectivity.options.top
    whole = (plan.seconds or 0) * min(1, n_listed / plan.samples)
    with full_float32():
        crops = sum(time_crops(rig, plan, site) for site in rig.sites)
        return whole + crops + sum(time_relevance(rig, plan, number) for number in range(len(rig.sites)))


def read_scores(folder: Path, plan: Plan, number: int, site: Site) -> Arrays:
    """What showing the top stimuli of a layer again gave: its number among the layers, and itself."""
    from safetensors.numpy import load_file

    of_maps = load_file(_file(folder, plan, MAPS))
    parts = {name: name.split("|") for name in of_maps}
    own = {name: of_maps[key] for key, (layer, name) in parts.items() if layer in {"", site.name}}
    return own | load_file(_file(folder, plan, str(number)))


def _file(folder: Path, plan: Plan, name: str) -> Path:
    return folder / SCORES / str(plan.samples) / f"{name}.safetensors"


def _write(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    from safetensors.numpy import save_file

    with replacing(path) as temporary:
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, temporary)


@dataclass(frozen=True)
class _Pairs:
    """Channels and the images that drive them, sorted by image: arrays (pairs,)."""

    image: NDArray[np.int64]
    unit: NDArray[np.int64]
    rank: NDArray[np.int64]
    row: NDArray[np.int64]
    column: NDArray[np.int64]

    @classmethod
    def of(cls, top: TopStimuli) -> _Pairs:
        unit, rank = np.indices(top.images.shape)
        order = np.argsort(top.images, axis=None, kind="stable")
        columns = (top.images, unit, rank, top.rows, top.columns)
        return cls(*(array.ravel()[order] for array in columns))

    def among(self, images: NDArray[np.int64]) -> tuple[_Pairs, NDArray[np.int64]]:
        """Pairs of some images, which are sorted, and the place of each among these."""
        start, stop = np.searchsorted(self.image, [images[0], images[-1] + 1])
        found = self.part(slice(start, stop))
        return found, np.searchsorted(images, found.image)

    def part(self, at: slice) -> _Pairs:
        """Some of them."""
        return _Pairs(self.image[at], self.unit[at], self.rank[at], self.row[at], self.column[at])


def _show_whole(rig: Rig, plan: Plan, lists: Mapping[str, TopStimuli], listener: Listener) -> Arrays:
    """Show every image of the lists once, and read whole maps."""
    study = rig.selectivity
    assert study is not None
    base = {one.name: np.zeros(len(one.labels)) for one in study.pixel_labels}
    readers = {site.name: _MapReader(rig, site, lists[site.name]) for site in rig.sites}
    images = np.unique(np.concatenate([top.images.ravel() for top in lists.values()]))
    listener(StageStarted("showing top stimuli", len(images), "image"))
    with rig.probe() as probe:
        for numbers in _cut(images, plan.layout.batch):
            shown = rig.images.load(numbers).to(rig.device)
            labels = {
                one.name: torch.from_numpy(one.read(numbers, shown).astype(np.int64)) for one in study.pixel_labels
            }
            for name, of_pixels in labels.items():
                base[name] += np.bincount(of_pixels[of_pixels >= 0].numpy(), minlength=len(base[name]))
            filled = shown
            if len(numbers) < plan.layout.batch:
                # responses depend on the size of the batch in their last bits
                filled = torch.cat([shown, shown[-1:].expand(plan.layout.batch - len(shown), -1, -1, -1)])

            def consume(site: Site, response: Tensor) -> None:
                readers[site.name].read(response[: len(numbers)], numbers, labels)  # noqa: B023 - it is called at once

            probe.record(rig.subject.prepare(filled), consume)
            listener(StageAdvanced(len(numbers)))
    listener(Finished())
    found = {f"{layer}|{name}": array for layer, one in readers.items() for name, array in one.arrays().items()}
    return found | {f"|base {name}": counts / max(counts.sum(), 1) for name, counts in base.items()}


def _cut(images: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(images), size):
        yield images[start : start + size]


class _MapReader:
    """Reads whole maps of a layer at the places of its channels' top stimuli."""

    def __init__(self, rig: Rig, site: Site, top: TopStimuli) -> None:
        study = rig.selectivity
        assert study is not None
        self._pairs = _Pairs.of(top)
        self._weights = np.nan_to_num(relative_weights(top.values))
        n, device = len(site.channels), rig.device
        example = rig.subject.prepare(rig.images.load([0]).to(device))
        self._passes = CropPasses(rig.subject.network, site.name, example, rig.subject.lesion)
        self._size = rig.images.shape[1:]
        self._total = torch.zeros(n, n, dtype=torch.float64, device=device) if study.options.similarity else None
        self._labels = {one.name: len(one.labels) for one in study.pixel_labels}
        self._by_label = {name: np.zeros((n, m)) for name, m in self._labels.items()}

    def read(self, response: Tensor, numbers: NDArray[np.int64], labels: Mapping[str, Tensor]) -> None:
        """Read the responses (images, channels, …) to some images, whose pixels have labels (images, height, width)."""
        pairs, at = self._pairs.among(numbers)
        if not len(at):
            return
        maps = response if response.ndim == 4 else response[:, :, None, None]
        labels = {name: of_pixels.to(maps.device) for name, of_pixels in labels.items()}
        n_bytes = 8 * maps.shape[1] + (BYTES_OF_PIXEL * self._size[0] * self._size[1] if labels else 0)
        step = max(1, CROPS_AT_ONCE // n_bytes)
        for start in range(0, len(at), step):
            part = slice(start, start + step)
            self._read_pairs(maps, pairs.part(part), at[part], labels)

    def _read_pairs(self, maps: Tensor, pairs: _Pairs, at: NDArray[np.int64], labels: Mapping[str, Tensor]) -> None:
        index, unit, row, column = (
            torch.from_numpy(array).to(maps.device) for array in (at, pairs.unit, pairs.row, pairs.column)
        )
        if self._total is not None:
            self._total.index_add_(0, unit, maps[index, :, row, column].double())
        if labels:
            boxes = self._passes.boxes(pairs.row, pairs.column)
            weights = self._weights[pairs.unit, pairs.rank]
            active = under_maps(maps[index, unit], self._size)
            for name, of_pixels in labels.items():
                found = mean_by_label(active, of_pixels[index], boxes, self._labels[name])
                np.add.at(self._by_label[name], pairs.unit, weights[:, None] * found.cpu().numpy())

    def arrays(self) -> Arrays:
        """What was read: ``total`` (responders, sources), ``labels <index>`` (channels, labels)."""
        found: Arrays = {f"labels {name}": sums for name, sums in self._by_label.items()}
        if self._total is not None:
            found["total"] = self._total.T.cpu().numpy()
        return found


def under_maps(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """Activity of maps (n, y, x) over the pixels of an image (n, height, width): bilinear, without negative values."""
    resized = torch.nn.functional.interpolate(maps[:, None].clamp(min=0), size=size, mode="bilinear")
    return resized[:, 0]


def mean_by_label(active: Tensor, labels: Tensor, boxes: NDArray[np.int64], n_labels: int) -> Tensor:
    """Mean activity over the pixels of each label within boxes: (n, labels), 0 where a box has none of it.

    Parameters
    ----------
    active : tensor (n, height, width)
    labels : int tensor (n, height, width)
        -1 for none.
    boxes : int array (n, 4)
        Top, left, bottom, right.
    n_labels : int
    """
    n, height, width = active.shape
    top, left, bottom, right = (torch.from_numpy(edge).to(active.device)[:, None] for edge in boxes.T)
    rows, columns = torch.arange(height, device=active.device), torch.arange(width, device=active.device)
    inside = ((rows >= top) & (rows < bottom))[:, :, None] & ((columns >= left) & (columns < right))[:, None, :]
    kept = inside & (labels >= 0)
    cell = torch.arange(n, device=active.device)[:, None, None] * n_labels + labels.clamp(min=0)
    sums = torch.zeros(2, n * n_labels, dtype=torch.float64, device=active.device)
    sums[0].index_add_(0, cell[kept], active[kept].double())
    sums[1].index_add_(0, cell[kept], torch.ones_like(active[kept], dtype=torch.float64))
    return (sums[0] / sums[1].clamp(min=1)).view(n, n_labels)
