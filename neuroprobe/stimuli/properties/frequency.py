"""Manipulation that takes spatial frequencies away."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from neuroprobe.protocol.model import Model
from neuroprobe.stimuli.properties.contract import distinct, labels, manipulation

Cutoff = Annotated[float, Field(gt=0, le=0.5)]


class FrequencyOptions(Model):
    """Options of `spatial_frequency`.

    Attributes
    ----------
    cutoffs : tuple of float
        Frequencies at which half of the amplitude is left (cycles/px; of the network's input, at most 1/2).
    keep : {"low", "high"}
        What is coarser than a cut-off, or what is finer, about the mean colour of the crop.
    """

    cutoffs: Annotated[tuple[Cutoff, ...], Field(min_length=1, strict=False), AfterValidator(distinct)] = (
        0.25,
        0.125,
        0.0625,
    )
    keep: Literal["low", "high"] = "low"


def _cutoffs(options: FrequencyOptions) -> tuple[str, ...]:
    return labels(options.cutoffs)


@manipulation("spatial_frequency", options=FrequencyOptions, members=_cutoffs)
def spatial_frequency(crops: Tensor, options: FrequencyOptions, keys: Tensor) -> Tensor:
    """Take away what is finer (or coarser) than a cut-off, over a family of cut-offs.

    The filter is Gaussian: at frequency f it leaves 2^-(f / cutoff)² of the amplitude, which is a blur of standard
    deviation 0.187 / cutoff px. The border is mirrored, so that the mean colour stays; clipped to [0, 1].
    """
    height, width = crops.shape[2:]
    filtered = crops.new_empty(len(options.cutoffs), *crops.shape)
    for place, cutoff in zip(filtered, options.cutoffs, strict=True):
        rows, columns = (_low_pass(side, cutoff).to(crops) for side in (height, width))
        torch.matmul(rows @ crops, columns, out=place)
    if options.keep == "high":
        filtered = crops.mean((2, 3), keepdim=True) + crops - filtered
    return filtered.clamp_(0, 1)


def _low_pass(side: int, cutoff: float) -> Tensor:
    """Matrix (side, side), symmetric, float64, that filters a row of pixels with its mirror images on both sides.

    Such a row consists of cosines of k half periods, k from 0 to side - 1 (its DCT-II), and each is scaled.
    """
    k = torch.arange(side, dtype=torch.float64)
    cosines = torch.cos(math.pi * k[:, None] * (k + 0.5) / side)
    cosines /= cosines.norm(dim=1, keepdim=True)
    gain = torch.exp2(-((k / (2 * side * cutoff)) ** 2))
    return cosines.T @ (gain[:, None] * cosines)
