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
from neuroprobe.stimuli.alterations import ALTERATIONS, Alteration
from neuroprobe.stimuli.images import ImageSet

SLICE = 8  # images that are altered at a time on a CPU, so that they stay in the cache


@dataclass(frozen=True)
class Applied:
    """One alteration of a treatment, under the name that it has there."""

    name: str
    kind: str

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
    """

    applied: tuple[Applied, ...]
    reference: float | None

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
        values = {name: torch.from_numpy(value[sample, row]).to(device) for name, value in presentations.values.items()}
        key = torch.from_numpy(presentations.key[sample]).to(device)
        step = SLICE if shown.device.type == "cpu" else len(shown)
        for start in range(0, len(shown), step):
            part = slice(start, start + step)
            shown[part] = self.apply(shown[part], {name: value[part] for name, value in values.items()}, key[part])
        return shown

    def apply(self, images: Tensor, values: dict[str, Tensor], key: Tensor) -> Tensor:
        """Apply the alterations to images (n, 3, height, width), with one value per image of every input."""
        n = len(images)
        images = images.clone()
        for position in self.order(values, key).t():
            for number in position.unique().tolist():
                one = self.applied[number]
                on = values.get(names.switch(one.name), torch.ones(n, device=images.device)) > 0
                chosen = torch.nonzero((position == number) & on).squeeze(1)
                if len(chosen):
                    images[chosen] = self._alter(one, images[chosen], values, key, chosen)
        return images

    def order(self, values: dict[str, Tensor], key: Tensor) -> Tensor:
        """Return which alteration is applied first, second, … to each image: int tensor (n, alterations)."""
        if names.ORDER in values:
            return nth_order(values[names.ORDER].long(), len(self.applied))
        return torch.arange(len(self.applied), device=key.device).expand(len(key), -1)

    def _alter(self, one: Applied, images: Tensor, values: dict[str, Tensor], key: Tensor, chosen: Tensor) -> Tensor:
        thing = one.alteration
        drawn = {name: values[names.parameter(one.name, name)][chosen].to(images) for name in thing.parameters}
        reference = min(images.shape[-2:]) if self.reference is None else self.reference
        return thing(images, drawn, key[chosen], reference)


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
