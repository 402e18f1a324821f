"""Manipulations of the values of pixels: their colour, their contrast."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final, Literal, NamedTuple

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from neuroprobe.protocol.model import Model
from neuroprobe.stimuli.properties.contract import distinct, labels, manipulation

Gray = Literal["pca_opponent", "luma", "lightness", "pca_matched_contrast"]
LUMA: Final = (0.299, 0.587, 0.114)  # ITU-R BT.601; not rounded as in torchvision, so that the sum is 1
LUMINANCE: Final = (0.2126, 0.7152, 0.0722)  # of linear sRGB
# (R + G + B) / 1.5, R - G, (R + G - 2B) / 2; constants drop out where pixels are centred
OPPONENT: Final = ((2 / 3, 2 / 3, 2 / 3), (1.0, -1.0, 0.0), (0.5, 0.5, -1.0))
UNIFORM: Final = 1e-6  # standard deviation below which a crop is uniform but for rounding
UNRELATED: Final = 1e-4  # share of the largest that a covariance has to be above, not to be rounding


class ColourOptions(Model):
    """Options of `colour`.

    Attributes
    ----------
    gray : {"pca_opponent", "luma", "lightness", "pca_matched_contrast"}
        What a pixel becomes. ``pca_opponent``, of the study: the first principal component of the crop's opponent
        colours, stretched from 0 to 1. ``luma``: that of BT.601. ``lightness``: the grey with the same CIE L*.
        ``pca_matched_contrast``: the component, with the mean and standard deviation of the crop's luma.
    """

    gray: Gray = "pca_opponent"


@manipulation("colour", options=ColourOptions)
def colour(crops: Tensor, options: ColourOptions, keys: Tensor) -> Tensor:
    """Take the colour away: three equal channels.

    The stretch of ``pca_opponent`` raises the contrast, of grey crops too, so that units that do not care for colour
    may respond more (an index below 0). The other three leave a grey crop as it is. A uniform crop becomes its luma.
    """
    return GRAYS[options.gray](crops).repeat(1, 3, 1, 1)[None]


def _weighted(crops: Tensor, weights: tuple[float, float, float]) -> Tensor:
    """Weighted mean of channels (n, 1, height, width), that of three equal ones exactly."""
    red, green, blue = crops.split(1, 1)
    return ((red - green) * weights[0]).add_(blue - green, alpha=weights[2]).add_(green)


def luma(crops: Tensor) -> Tensor:
    """Luma (n, 1, height, width)."""
    return _weighted(crops, LUMA).clamp_(0, 1)


def lightness(crops: Tensor) -> Tensor:
    """Greys (n, 1, height, width) with the CIE L* of the pixels, which is a function of luminance; sRGB."""
    linear = torch.where(crops <= 0.04045, crops / 12.92, ((crops + 0.055) / 1.055) ** 2.4)
    luminance = _weighted(linear, LUMINANCE).clamp_(0, 1)
    encoded = 1.055 * luminance ** (1 / 2.4) - 0.055
    return torch.where(luminance <= 0.0031308, 12.92 * luminance, encoded).clamp_(0, 1)


class _Component(NamedTuple):
    """First principal component of the opponent colours of each crop, and what it is matched to.

    Attributes
    ----------
    values : Tensor (n, 1, height, width)
        Of mean 0.
    deviation, luma_deviation : Tensor (n, 1, 1, 1)
        Standard deviations of the component, and of the luma.
    uniform : Tensor (n, 1, 1, 1) of bool
    """

    values: Tensor
    deviation: Tensor
    luma_deviation: Tensor
    uniform: Tensor


def _component(crops: Tensor) -> _Component:
    """First principal component of opponent colours, crop by crop.

    Its sign is arbitrary, and is set so that it grows with the luma; where it is not related to that, with red, and
    then green, and then blue.
    """
    mean = crops.double().mean((2, 3), keepdim=True)
    pixels = (crops - mean).flatten(2)
    covariance = pixels @ pixels.mT / pixels.shape[2]
    opponent, weights = covariance.new_tensor(OPPONENT), covariance.new_tensor(LUMA)
    # symmetric, so that the eigenvalues come in order, the largest last
    variances, axes = torch.linalg.eigh(opponent @ covariance @ opponent.T)
    axis = opponent.T @ axes[:, :, -1:]
    with_channels = (covariance @ axis).squeeze(2)
    related = torch.cat([with_channels @ weights[:, None], with_channels], 1)
    felt = related.abs() > UNRELATED * with_channels.abs().amax(1, keepdim=True)
    first = (felt * torch.arange(4, 0, -1, device=crops.device)).argmax(1, keepdim=True)
    sign = torch.where(related.gather(1, first) < 0, -1.0, 1.0)
    values = (axis * sign[..., None]).mT @ pixels

    def per_crop(numbers: Tensor) -> Tensor:
        return numbers.clamp(min=0).sqrt().view(-1, 1, 1, 1)

    deviation = per_crop(variances[:, -1])
    luma_deviation = per_crop(weights @ covariance @ weights)
    return _Component(values.view(-1, 1, *crops.shape[2:]), deviation, luma_deviation, uniform=deviation <= UNIFORM)


def pca_opponent(crops: Tensor) -> Tensor:
    """First principal component (n, 1, height, width), stretched from 0 to 1."""
    component = _component(crops)
    low, high = component.values.amin((2, 3), keepdim=True), component.values.amax((2, 3), keepdim=True)
    stretched = (component.values - low) / torch.where(component.uniform, 1.0, high - low)
    return torch.where(component.uniform, luma(crops), stretched.to(crops)).clamp_(0, 1)


def pca_matched_contrast(crops: Tensor) -> Tensor:
    """First principal component (n, 1, height, width) with the mean and standard deviation of the luma.

    Clipped to [0, 1], which may change both a little; a crop of equal luma becomes uniform.
    """
    component, light = _component(crops), luma(crops)
    scale = component.luma_deviation / torch.where(component.uniform, 1.0, component.deviation)
    matched = component.values * scale + light.double().mean((2, 3), keepdim=True)
    return torch.where(component.uniform, light, matched.to(crops)).clamp_(0, 1)


GRAYS: Final[dict[Gray, Callable[[Tensor], Tensor]]] = {
    "pca_opponent": pca_opponent,
    "luma": luma,
    "lightness": lightness,
    "pca_matched_contrast": pca_matched_contrast,
}


class ContrastOptions(Model):
    """Options of `contrast`.

    Attributes
    ----------
    factors : tuple of float
        By which contrast is multiplied, 0 for none.
    """

    factors: Annotated[
        tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=1, strict=False), AfterValidator(distinct)
    ] = (0.75, 0.5, 0.25, 0.0)


def _factors(options: ContrastOptions) -> tuple[str, ...]:
    return labels(options.factors)


@manipulation("contrast", options=ContrastOptions, members=_factors)
def contrast(crops: Tensor, options: ContrastOptions, keys: Tensor) -> Tensor:
    """Multiply the distance from the mean colour of the crop by a factor, over a family of factors; clipped to [0, 1].

    At 0 the crop is uniform, of its mean colour.
    """
    mean = crops.mean((2, 3), keepdim=True).expand_as(crops)
    return torch.stack([torch.lerp(mean, crops, factor) for factor in options.factors]).clamp_(0, 1)
