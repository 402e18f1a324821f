"""Alterations that degrade the image as sensors and files do: noise and compression."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

from neuroprobe.design.laws import Law
from neuroprobe.stimuli.alterations.contract import Parameter, alteration, per_image

# constants of SplitMix64, as signed numbers
GOLDEN: Final = 0x9E3779B97F4A7C15 - 2**64
MIX: Final = ((30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64))


@alteration("gaussian_noise", sd=Parameter(Law("uniform", (0.08, 0.38)), low=0, identity=0.0))
def gaussian_noise(images: Tensor, sd: Tensor, key: Tensor) -> Tensor:
    """Add independent normal noise of standard deviation `sd` to every pixel and channel, clipped to [0, 1].

    The law spans the five severities of ImageNet-C (Hendrycks & Dietterich 2019, arXiv 1903.12261).
    """
    drawn = normal(key, images[0].numel()).view_as(images).to(images.dtype)
    return drawn.mul_(per_image(sd)).add_(images).clamp_(0, 1)


@alteration("jpeg", quality=Parameter(Law("integers", (7, 25)), low=1, high=100))
def jpeg(images: Tensor, quality: Tensor) -> Tensor:
    """Compress as a JPEG file of a `quality` from 1 to 100 (rounded), and decompress; intensities become 8-bit.

    The law spans the five severities of ImageNet-C (Hendrycks & Dietterich 2019, arXiv 1903.12261).
    """
    from torchvision.io import ImageReadMode, decode_jpeg, encode_jpeg  # takes a second

    # encoded on the CPU always, by one library, so that every device sees the same
    pixels = (images * 255).round().to(torch.uint8).cpu()
    decoded = [
        decode_jpeg(encode_jpeg(image, int(q)), ImageReadMode.RGB)
        for image, q in zip(pixels, quality.round().clamp(1, 100).tolist(), strict=True)
    ]
    return torch.stack(decoded).to(images) / 255


def random_bits(key: Tensor, n: int) -> Tensor:
    """Return `n` 64-bit integers per key (int64), each a function of the key and its place (int64, (keys, n)).

    They are the stream of SplitMix64 (Steele et al. 2014, doi:10.1145/2714064.2660195) that starts at the key: a
    counter is multiplied and mixed, in integers, which every device computes alike.
    """
    bits = key[:, None] + (torch.arange(n, device=key.device) + 1) * GOLDEN
    for shift, factor in MIX:
        bits ^= _shifted(bits, shift)
        bits *= factor
    return bits ^ _shifted(bits, 31)


def _shifted(bits: Tensor, shift: int) -> Tensor:
    """Shift to the right, zeros coming in."""
    return (bits >> shift) & (2 ** (64 - shift) - 1)


def normal(key: Tensor, n: int) -> Tensor:
    """Return `n` standard normal numbers per key (float64, (keys, n)), each a function of the key and its place.

    By Box & Muller 1958 (doi:10.1214/aoms/1177706645). Logarithms and cosines differ between devices in last digits
    only, which are lost where the numbers are rounded to float32.
    """
    bits = random_bits(key, (n + 1) // 2)
    # the upper half of the bits, in (0, 1), gives the radius, the lower one the angle
    radius = _shifted(bits, 32).double().add_(0.5).mul_(2.0**-32).log_().mul_(-2).sqrt_()
    turn = (bits & 0xFFFFFFFF).double().mul_(math.tau * 2.0**-32)
    return torch.cat([turn.cos().mul_(radius), turn.sin().mul_(radius)], 1)[:, :n]
