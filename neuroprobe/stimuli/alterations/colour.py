"""Alterations of the colours of single pixels."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from neuroprobe.design.laws import Law
from neuroprobe.stimuli.alterations.contract import Parameter, alteration, choose, per_image

LUMA: Final = (0.2989, 0.587, 0.114)  # ITU-R 601, as torchvision rounds it


def luma(images: Tensor) -> Tensor:
    """Luminance (n, 1, height, width)."""
    red, green, blue = images.split(1, dim=1)
    return red.mul(LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])


def _blend(images: Tensor, other: Tensor, share: Tensor) -> Tensor:
    """Mix images with others, of which they are a `share` (n,); above 1 they are carried away from the others."""
    share = per_image(share)
    return (images * share).add_(other * (1 - share)).clamp_(0, 1)


@alteration("grayscale")
def grayscale(images: Tensor) -> Tensor:
    """Replace the colours by their luminance, in three equal channels."""
    return luma(images).expand_as(images)


@alteration("brightness", factor=Parameter(Law("uniform", (0.1, 2.5)), low=0, identity=1.0))
def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Multiply by `factor`, clipped to 1."""
    return (images * per_image(factor)).clamp_(0, 1)


@alteration("contrast", factor=Parameter(Law("uniform", (0.01, 3.5)), low=0, identity=1.0))
def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Multiply the distance from the image's mean luminance by `factor`, clipped to [0, 1]."""
    # the mean of the luminance is the luminance of the mean
    return _blend(images, luma(images.mean((2, 3), keepdim=True)), factor)


@alteration("saturation", factor=Parameter(Law("uniform", (0.01, 3.5)), low=0, identity=1.0))
def saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Multiply the distance from each pixel's luminance by `factor`, clipped to [0, 1]."""
    return _blend(images, luma(images), factor)


def _hue(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Hue in turns from −1/2 to 1/2 or so, chroma, and value of each pixel: (n, height, width) each."""
    red, green, blue = images.unbind(1)
    value = torch.maximum(torch.maximum(red, green), blue)
    least = torch.minimum(torch.minimum(red, green), blue)
    chroma = value - least
    # red lies at 0 and cyan at 3 sixths of a turn; from red, towards green or towards blue, a colour lies at
    # 1 + (g + b − r − least) / chroma. Of a grey pixel the hue is free.
    tiny = torch.finfo(images.dtype).tiny
    distance = ((green - red).add_(blue - least)).div_(chroma.clamp(min=tiny)).add_(1)
    return distance.copysign_(green - blue).div_(6), chroma, value


def hsv(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Hue in turns in [0, 1), saturation and value in [0, 1] of images in [0, 1]: (n, height, width) each.

    As in Smith 1978, doi:10.1145/965139.807361; grey pixels have hue 0, and black ones saturation 0.
    """
    turn, chroma, value = _hue(images)
    turn = torch.where((chroma > 0) & (turn.remainder(1) < 1), turn.remainder(1), 0)
    return turn, chroma / value.clamp(min=torch.finfo(images.dtype).tiny), value


@alteration("hue", shift=Parameter(Law("uniform", (-0.5, 0.5)), low=-1, high=1, identity=0.0, units="turns"))
def hue(images: Tensor, shift: Tensor) -> Tensor:
    """Rotate the hue by `shift` full turns in HSV; value and saturation stay."""
    turn, chroma, value = _hue(images)
    turn.add_(shift.view(-1, 1, 1))
    # a channel is at `value` within a sixth of a turn from its own hue, falls over the next sixth, and stays `least`
    channels = torch.empty_like(images)
    for channel, own in zip(channels.unbind(1), (0, 1 / 3, 2 / 3), strict=True):
        away = turn - own
        fall = away.sub_(away.round()).abs_().mul_(6).sub_(1).clamp_(0, 1)
        torch.addcmul(value, fall, chroma, value=-1, out=channel)
    return choose(per_image((shift != 0).to(images)), channels, images)
