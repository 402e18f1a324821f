"""Images to alter, and a short way of altering them."""

from __future__ import annotations

import torch
from torch import Tensor

from neuroprobe.stimuli.alterations import ALTERATIONS
from neuroprobe.stimuli.decoding import Framing
from neuroprobe.stimuli.images import ImageSet
from neuroprobe.stimuli.photographs import open_photographs

N_IMAGES = 6


def random_images(height: int, width: int, n: int = N_IMAGES, seed: int = 0) -> Tensor:
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(seed))


def photographs(height: int, width: int) -> Tensor:
    crops = ImageSet(open_photographs(crop=96, per_image=1, seed=3), framing=Framing((height, width)))
    assert len(crops) == N_IMAGES
    return crops.load(range(N_IMAGES))


def altered(name: str, images: Tensor, **parameters: list[float]) -> Tensor:
    """Apply an alteration with lengths in px of these images; parameters that are not given have one value by law."""
    own = {key: p.law.arguments * len(images) for key, p in ALTERATIONS[name].parameters.items() if p.law.constant}
    values = {key: torch.tensor(value, dtype=images.dtype) for key, value in {**own, **parameters}.items()}
    return ALTERATIONS[name](images, values, torch.arange(len(images)), min(images.shape[-2:]))
