"""Blocks of a masking study: stimuli are built once, and shown to the network under every mask."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuroprobe.analysis.masking import MaskingAnalysis
from neuroprobe.analysis.single_class import SingleClassAnalysis
from neuroprobe.design.pick_freeze import Presentations
from neuroprobe.design.randomness import uniforms
from neuroprobe.errors import ResponseError
from neuroprobe.packing import Pack, packs
from neuroprobe.plans import Plan
from neuroprobe.probe.masking import Condition, Place
from neuroprobe.probe.outcome import Outcome
from neuroprobe.probe.precision import full_float32
from neuroprobe.protocol.masking import MAX_RESAMPLES, rule_label
from neuroprobe.recorder import BlockRecorder, States, state_key
from neuroprobe.rig import Rig
from neuroprobe.statistics.masking import poisson_counts
from neuroprobe.statistics.plain_sums import PlainSums
from neuroprobe.statistics.single_class import jaccard_of, memberships
from neuroprobe.statistics.tree import State

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Shown:
    """Which of the rows that were run show what.

    Attributes
    ----------
    images : int array (images,)
        Number of each image that is kept.
    index : int array (images, inputs, draws)
        Row that shows each image under each input.
    rows : int array (rows,)
        Number of the image of each row.
    n_dropped : int
        Images that are left out.
    """

    images: NDArray[np.int64]
    index: NDArray[np.int64]
    rows: NDArray[np.int64]
    n_dropped: int

    def per_image(self, values: Array) -> Array:
        """Means over draws of values of rows (conditions, rows, …): (images, inputs, conditions, …)."""
        return np.moveaxis(values[:, self.index].mean(3), 0, 2)

    @cached_property
    def weights(self) -> Array:
        """What each row adds to the sums over images (inputs, rows)."""
        n_inputs, n_draws = self.index.shape[1:]
        found = np.zeros((n_inputs, len(self.rows)))
        for number in range(n_inputs):
            np.add.at(found[number], self.index[:, number].ravel(), 1 / n_draws)
        return found


class Reader(ABC):
    """Reads outputs under the conditions of a place, a few at a time, for one analysis."""

    place: str

    @abstractmethod
    def begin(self, shown: Shown) -> None:
        """Begin with the rows of a pack."""

    @abstractmethod
    def read(self, start: int, outputs: Tensor) -> None:
        """Take in outputs (conditions, rows, classes), of the conditions from number `start` on."""

    @abstractmethod
    def end(self) -> None:
        """Add the images of the pack to the sums."""


class OutcomeReader(Reader):
    """Reads whether outputs are right, under all conditions."""

    def __init__(self, analysis: MaskingAnalysis, outcome: Outcome, seed: int) -> None:
        self.place, self.analysis, self.accumulator = analysis.place.name, analysis, analysis.accumulator()
        self._outcome, self._seed = outcome, seed
        self._shown: Shown
        self._y: Array

    def begin(self, shown: Shown) -> None:
        """Make room for the outcomes of a pack."""
        self._shown = shown
        self._y = np.empty((*shown.index.shape[:2], self.analysis.n_conditions, len(self.analysis.measures)))

    def read(self, start: int, outputs: Tensor) -> None:
        """Measure outputs."""
        k, n = outputs.shape[:2]
        measured = self._outcome.measure(outputs.flatten(0, 1), np.tile(self._shown.rows, k))
        values = measured.double().cpu().numpy().reshape(k, n, -1)
        self._y[:, :, start : start + k] = self._shown.per_image(values)

    def end(self) -> None:
        """Add the images, with the resamples that hold them."""
        resample = np.arange(self.analysis.n_resamples)
        drawn = uniforms(self._seed, "resamples of images", self._shown.images[:, None] * MAX_RESAMPLES + resample)
        self.accumulator.update(self._y, poisson_counts(drawn), self._shown.n_dropped)


class ClassReader(Reader):
    """Reads which classes have the largest outputs, under the conditions that mask by maps."""

    def __init__(self, analysis: SingleClassAnalysis, outcome: Outcome, device: torch.device) -> None:
        self.place, self.analysis, self.accumulator = analysis.place.name, analysis, analysis.accumulator()
        self._target = outcome.target
        n_classes = len(analysis.classes)
        # one column per set: the sensitive ones, then those drawn at random
        sets = np.concatenate([memberships(analysis.sets, n_classes), memberships(analysis.random, n_classes)])
        self._sets = torch.from_numpy(sets.T).to(device, torch.float32)
        index = [jaccard_of(shared, analysis.k) for shared in range(analysis.k + 1)]
        self._index = torch.tensor(index, dtype=torch.float64, device=device)
        self._factor_and_rule = {int(number): at for at, number in np.ndenumerate(analysis.by_map)}
        self._shown: Shown

    def begin(self, shown: Shown) -> None:
        """Make room for the predictions of a pack."""
        self._shown = shown
        images_and_inputs, (n_factors, n_rules) = shown.index.shape[:2], self.analysis.by_map.shape
        n_inputs, n_classes, n_random = images_and_inputs[1], len(self.analysis.classes), len(self.analysis.random)
        self._intact = np.empty((*images_and_inputs, n_factors))
        self._lesioned = np.empty((*images_and_inputs, n_factors, n_rules))
        self._random0, self._random = np.empty((n_inputs, n_random)), np.empty((n_inputs, n_factors, n_rules, n_random))
        self._share0 = np.empty((*images_and_inputs, n_classes))
        self._share = np.empty((*images_and_inputs, n_factors, n_classes))

    def read(self, start: int, outputs: Tensor) -> None:
        """Compare the largest outputs with the sets of classes."""
        numbers = [
            number for number in range(len(outputs)) if start + number in self._factor_and_rule or not start + number
        ]
        if not numbers:
            return
        n_factors, weights = len(self.analysis.factors), self._shown.weights
        # of equal outputs the first is the larger
        largest = outputs[numbers].argsort(dim=-1, descending=True, stable=True)[..., : self.analysis.k]
        predicted = torch.zeros(outputs[numbers].shape, dtype=torch.float32, device=outputs.device)
        predicted.scatter_(-1, largest, 1.0)
        jaccard = self._index[(predicted @ self._sets).round_().long()].cpu().numpy()
        first = largest[..., 0].cpu().numpy()
        for number, of_sets, classes in zip(numbers, jaccard, first, strict=True):
            own, random = of_sets[None, :, :n_factors], weights @ of_sets[:, n_factors:]
            if not start + number:
                self._intact = self._shown.per_image(own)[:, :, 0]
                self._random0, self._share0 = random, self._shares(classes)
                continue
            factor, rule = self._factor_and_rule[start + number]
            self._lesioned[:, :, factor, rule] = self._shown.per_image(own[..., factor])[:, :, 0]
            self._random[:, factor, rule] = random
            if rule == self.analysis.shifting:
                self._share[:, :, factor] = self._shares(classes)

    def _shares(self, predicted: NDArray[np.int64]) -> Array:
        """Share of an image's draws for which each class is predicted (images, inputs, classes)."""
        one_hot = np.eye(len(self.analysis.classes))[predicted]
        return self._shown.per_image(one_hot[None])[:, :, 0]

    def end(self) -> None:
        """Add the images."""
        target = self._target[self._shown.images]
        own = target[:, None, None]
        hit0 = np.take_along_axis(self._share0, own, -1)[..., 0]
        hit = np.take_along_axis(self._share, own[..., None], -1)[..., 0]
        self.accumulator.update(
            self._intact,
            self._lesioned,
            (self._random0, self._random),
            (self._share0, self._share),
            (hit0, hit),
            target,
            self._shown.n_dropped,
        )


class MaskingRecorder(BlockRecorder):
    """Presents blocks under every mask of a study.

    Parameters
    ----------
    rig : Rig
    plan : Plan
    """

    def __init__(self, rig: Rig, plan: Plan) -> None:
        super().__init__(rig, plan)
        assert rig.study is not None
        assert rig.outcome is not None
        self.study, self.outcome = rig.study, rig.outcome
        self._readers: list[OutcomeReader | ClassReader] = []

    def attached(self) -> AbstractContextManager[object]:
        """Context in which gradients are not tracked."""
        return torch.no_grad()

    def _start(self) -> None:
        seed, device = self.rig.protocol.seed, self.rig.device
        self._readers = self._readers or [
            OutcomeReader(analysis, self.outcome, seed)
            if isinstance(analysis, MaskingAnalysis)
            else ClassReader(analysis, self.outcome, device)
            for analysis in self.rig.lesion_analyses
        ]

    def time_block(self) -> float:
        """Show the first pack under a few masks of every place, and return the seconds that a block will take."""
        presentations = self.design.presentations(0, min(self.plan.layout.piece, self.plan.samples))
        pack = next(packs(presentations, self.plan.layout.batch))
        with self.attached(), full_float32():
            started = time.perf_counter()
            parts = self._images(presentations, pack)
            seconds = time.perf_counter() - started
            for place in self.study.places:
                started = time.perf_counter()
                values = [place.passes.before(images) for images, _ in parts]
                seconds += time.perf_counter() - started
                several = place.parts()
                took = []
                for part in several[:2]:
                    started = time.perf_counter()
                    self._outputs(place, place.conditions[part], values, parts)
                    took.append(time.perf_counter() - started)
                seconds += min(took) * len(several)
        n_packs = self.plan.n_passes / self.plan.n_blocks / len(parts)
        return seconds * n_packs

    def _begin_piece(self, start: int, presentations: Presentations) -> None:
        """Nothing is kept of a piece."""

    def kind(self, key: str) -> type[State]:
        """Type of the state that has a key."""
        return PlainSums

    def _end_block(self) -> States:
        return States({state_key(one.analysis.name, one.place): one.accumulator.end_block() for one in self._readers})

    def _images(self, presentations: Presentations, pack: Pack) -> list[tuple[Tensor, int]]:
        """Images of each forward pass, filled up to one size, and how many of them count."""
        size, found = self.plan.layout.batch, []
        for start in range(0, len(pack.row), size):
            part = slice(start, start + size)
            images = self._stimuli(presentations, pack.sample[part], pack.row[part])
            found.append((images, len(pack.row[part])))
        return found

    def _outputs(
        self,
        place: Place,
        conditions: tuple[Condition, ...],
        values: list[tuple[Tensor, ...]],
        parts: list[tuple[Tensor, int]],
    ) -> Tensor:
        """Outputs under some conditions (conditions, rows, classes)."""
        masks = place.masks(conditions)
        return torch.cat(
            [place.passes.outputs(one, masks)[:, :n] for one, (_, n) in zip(values, parts, strict=True)], dim=1
        )

    def _present(self, presentations: Presentations, pack: Pack) -> None:
        """Show the rows of a pack to the network under every mask."""
        self.place = f"while stimuli for a forward pass of {self.plan.layout.batch} rows were made"
        parts = self._images(presentations, pack)
        shown: Shown | None = None
        for place in self.study.places:
            self.place = f"in forward passes of {self.plan.layout.batch} rows under masks of {place.name}"
            values = [place.passes.before(images) for images, _ in parts]
            readers = [one for one in self._readers if one.place == place.name]
            for part in place.parts():
                conditions = place.conditions[part]
                outputs = self._outputs(place, conditions, values, parts)
                if shown is None:  # the first condition masks nothing
                    shown = self._kept(presentations, pack, torch.isfinite(outputs[0]).all(1))
                if not part.start:
                    for reader in readers:
                        reader.begin(shown)
                self._require_finite(outputs, shown, conditions, place)
                for reader in readers:
                    reader.read(part.start, outputs)
            for reader in readers:
                reader.end()

    def _kept(self, presentations: Presentations, pack: Pack, finite: Tensor) -> Shown:
        """Find out what the rows show, and leave out images of which an output is not finite."""
        draws = self.rig.draws
        control, altered = pack.index[:, :1], pack.index[:, 1:].reshape(len(pack.index), -1, draws)
        index = np.concatenate([control[:, :, None].repeat(draws, axis=2), altered], axis=1)
        images = presentations.image[pack.start : pack.stop, 0]
        is_whole = finite.cpu().numpy()[index].all((1, 2))
        if not is_whole.all() and self.rig.protocol.record.nan != "drop":
            raise ResponseError(
                f"the network's output is NaN or infinite for image {self.rig.images.ids[images[~is_whole][0]]!r}, or "
                "one of its alterations; mend the network, or leave such images out by `record: {nan: drop}`"
            )
        rows = presentations.image[pack.sample, pack.row]
        return Shown(images[is_whole], index[is_whole], rows, int((~is_whole).sum()))

    def _require_finite(self, outputs: Tensor, shown: Shown, conditions: tuple[Condition, ...], place: Place) -> None:
        """Refuse masks under which outputs are not finite though they are without."""
        bad = ~torch.isfinite(outputs).all(2)
        bad[:, ~torch.isin(torch.arange(outputs.shape[1]), torch.from_numpy(shown.index.ravel()))] = False
        if not bool(bad.any()):
            return
        number, row = (int(at[0]) for at in torch.nonzero(bad, as_tuple=True))
        condition = conditions[number]
        rule = rule_label(condition.rule) if condition.rule is not None else "no mask"
        raise ResponseError(
            f"the network's output is NaN or infinite under the mask {rule} of "
            f"{condition.factor or f'random units ({condition.number})'} at {place.name}, for image "
            f"{self.rig.images.ids[shown.rows[row]]!r}; leave this rule out, or multiply by less"
        )
