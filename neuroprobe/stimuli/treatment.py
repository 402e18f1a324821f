"""The treatment: which alterations are applied to which row of a design, and in which order."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuroprobe import names
from neuroprobe.design.pick_freeze import Presentations
from neuroprobe.stimuli.alterations import ALTERATIONS, REFERENCE_SIDE, Alteration
from neuroprobe.stimuli.images import ImageSet

SLICE = 8  # images of 224 px that are altered at a time on a CPU, so that they stay in the cache; more if smaller
OFF = -1  # stands for no alteration
LEVELS = 255  # largest value of 8 bits


@dataclass(frozen=True)
class Applied:
    """One alteration of a treatment, or of its control, under the name that it has there."""

    name: str
    kind: str
    of_control: bool = False

    @property
    def alteration(self) -> Alteration:
        """The registered alteration."""
        return ALTERATIONS[self.kind]


@dataclass(frozen=True)
class Treatment:
    """Alterations that are applied together.

    Parameters
    ----------
    applied : tuple of Applied
        In the order in which they are applied, unless the order is a factor.
    reference : float or None
        Side (px) of the image for which lengths are given; None for the image itself.
    eight_bit : bool
        Whether what each alteration gives is rounded to 8 bits, as where it is kept as a picture in between.
    """

    applied: tuple[Applied, ...]
    reference: float | None
    eight_bit: bool = False

    def stimuli(
        self,
        images: ImageSet,
        presentations: Presentations,
        sample: NDArray[np.int64],
        row: NDArray[np.int64],
        device: torch.device | str = "cpu",
    ) -> Tensor:
        """Build stimuli on a device.

        Parameters
        ----------
        sample, row : int arrays (n,)
            Which rows of `presentations`: positions among its base samples, and rows of these.

        Returns
        -------
        float32 tensor (n, 3, height, width) in [0, 1].
        """
        shown = images.load(presentations.image[sample, row]).to(device)
        self.alter(shown, presentations, sample, row)
        return shown

    def alter(
        self, images: Tensor, presentations: Presentations, sample: NDArray[np.int64], row: NDArray[np.int64]
    ) -> None:
        """Alter images (n, 3, height, width) in place, as some rows of `presentations` say; see `stimuli`."""
        # which alterations are applied is found out on the CPU: asking a GPU for it would wait for all it has to do
        values = {name: torch.from_numpy(value[sample, row]) for name, value in presentations.values.items()}
        self._alter(images, values, torch.from_numpy(presentations.key[sample, row]).to(images.device))

    def apply(self, images: Tensor, values: dict[str, Tensor], key: Tensor) -> Tensor:
        """Apply the alterations to images (n, 3, height, width), with one value per image of every input."""
        altered = images.clone()
        self._alter(altered, values, key)
        return altered

    def _alter(self, images: Tensor, values: dict[str, Tensor], key: Tensor) -> None:
        """Apply the alterations in place, to a few images at a time."""
        n, _, height, width = images.shape
        turns = self._turns(values, n)
        drawn = [
            {name: values[names.parameter(one.name, name)].to(images) for name in one.alteration.parameters}
            for one in self.applied
        ]
        step = max(1, SLICE * REFERENCE_SIDE**2 // (height * width)) if images.device.type == "cpu" else n
        for start in range(0, n, step):
            part = range(start, min(start + step, n))
            for turn in turns[:, start : part.stop].tolist():
                for number in sorted(set(turn) - {OFF}):
                    chosen = [i for i, other in zip(part, turn, strict=True) if other == number]
                    index = slice(start, part.stop) if len(chosen) == len(part) else torch.tensor(chosen)
                    self._alter_by(self.applied[number].alteration, images, drawn[number], key, index)

    def order(self, values: dict[str, Tensor], n: int) -> Tensor:
        """Return which alteration is applied first, second, … to each of `n` images: integers (n, k) on the CPU."""
        k = len(self.applied)
        ranks = values.get(names.ORDER)
        return torch.arange(k).expand(n, k) if ranks is None else nth_order(ranks.cpu().long(), k)

    def _turns(self, values: dict[str, Tensor], n: int) -> Tensor:
        """Return which alteration (or OFF) each of `n` images gets at each turn: integers (turn, image) on the CPU."""
        if not self.applied:
            return torch.empty(0, n, dtype=torch.int64)
        order = self.order(values, n)
        always = torch.ones(n)
        on = torch.stack([values.get(names.switch(one.name), always).cpu() > 0 for one in self.applied], 1)
        return torch.where(on.gather(1, order), order, OFF).t()

    def _alter_by(
        self, thing: Alteration, images: Tensor, drawn: dict[str, Tensor], key: Tensor, index: slice | Tensor
    ) -> None:
        """Apply one alteration in place to some of the images."""
        chosen = images[index]
        reference = min(images.shape[-2:]) if self.reference is None else self.reference
        altered = thing(chosen, {name: value[index] for name, value in drawn.items()}, key[index], reference)
        if altered.untyped_storage().data_ptr() == images.untyped_storage().data_ptr():
            altered = altered.clone()  # a view of the images would change while they are written
        images[index] = altered.mul(LEVELS).round_().div_(LEVELS) if self.eight_bit else altered


def n_orders(n_alterations: int) -> int:
    """Number of orders in which alterations can be applied."""
    return math.factorial(n_alterations)


def nth_order(index: Tensor, n_alterations: int) -> Tensor:
    """Return the permutations of given ranks in lexicographic order (Lehmer code); rank 0 keeps the order.

    Examples
    --------
    >>> nth_order(torch.tensor([0, 1, 5]), 3).tolist()
    [[0, 1, 2], [0, 2, 1], [2, 1, 0]]
    """
    left = torch.arange(n_alterations, device=index.device).expand(len(index), -1)
    order = []
    for remaining in range(n_alterations, 0, -1):
        place = index // math.factorial(remaining - 1)
        index = index % math.factorial(remaining - 1)
        chosen = torch.arange(remaining, device=index.device) == place[:, None]
        order.append(left[chosen])
        left = left[~chosen].view(len(index), remaining - 1)
    return torch.stack(order, 1)
