"""Alterations that mix each pixel with its neighbours: blurring and sharpening."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from neuroprobe.design.laws import Law
from neuroprobe.stimuli.alterations.contract import Parameter, alteration, choose, per_image


@alteration("sharpness", factor=Parameter(Law("constant", (1.5,)), low=0, identity=1.0))
def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Multiply the distance from the smoothed image by `factor`, clipped to [0, 1]; pixels of the border stay.

    The smoothing kernel is 3×3, of weight 5 in the middle and 1 around it, as in PIL and torchvision. An image of
    under three pixels a side has a border only.
    """
    sharpened = images.clone()
    if min(images.shape[-2:]) < 3:
        return sharpened
    box = (images[..., :-2, :] + images[..., 1:-1, :]).add_(images[..., 2:, :])
    box = (box[..., :-2] + box[..., 1:-1]).add_(box[..., 2:])
    smooth = per_image(1 - factor) / 13
    sharpened[..., 1:-1, 1:-1].mul_(1 - 9 * smooth).addcmul_(box, smooth)
    return sharpened.clamp_(0, 1)


@alteration(
    "gaussian_blur",
    sigma=Parameter(Law("uniform", (0.1, 2.0)), low=0, identity=0.0, units="px", is_length=True),
)
def gaussian_blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Blur by a Gaussian of standard deviation `sigma` (px), cut off at 3/2 σ, border reflected.

    The kernel is 7×7 for σ up to 2 px, as in the study; it grows with σ.
    """
    return _blurred(images, sigma, range(images.shape[-2]), range(images.shape[-1]))


@alteration(
    "elliptic_local_blur",
    a=Parameter(Law("uniform", (10, 32)), low=0, units="px", is_length=True),
    b=Parameter(Law("uniform", (10, 32)), low=0, units="px", is_length=True),
    dy=Parameter(Law("uniform", (-32, 32)), units="px", is_length=True),
    dx=Parameter(Law("uniform", (-32, 32)), units="px", is_length=True),
    angle=Parameter(Law("uniform", (-15, 15)), units="degrees"),
    sigma=Parameter(Law("constant", (3,)), low=0, identity=0.0, units="px", is_length=True),
)
def elliptic_local_blur(
    images: Tensor, a: Tensor, b: Tensor, dy: Tensor, dx: Tensor, angle: Tensor, sigma: Tensor
) -> Tensor:
    """Blur as `gaussian_blur` does, inside an ellipse only, with a hard edge.

    Its semi-axes are `a` along x and `b` along y (px) before it is turned by `angle` (degrees, counter-clockwise) about
    its centre, which lies `dy` below and `dx` to the right of the image's (px).
    """
    height, width = images.shape[-2:]
    radians = torch.deg2rad(angle)
    cos, sin = radians.cos(), radians.sin()
    centre_y, centre_x = (height - 1) / 2 + dy, (width - 1) / 2 + dx
    # one box that holds the ellipses of all images: smaller than the image, and cheaper than a box for each
    rows = _covering(centre_y, torch.hypot(a * sin, b * cos), height)
    columns = _covering(centre_x, torch.hypot(a * cos, b * sin), width)
    a, b, cos, sin, centre_y, centre_x = (value.view(-1, 1, 1) for value in (a, b, cos, sin, centre_y, centre_x))
    y = torch.arange(rows.start, rows.stop, device=images.device)[:, None] - centre_y
    x = torch.arange(columns.start, columns.stop, device=images.device) - centre_x
    # y points down; within an axis of 0 nothing lies, since 0 / 0 ≤ 1 is false
    along, across = (cos * x - sin * y).div_(a), (sin * x + cos * y).div_(b)
    inside = (along.square_().add_(across.square_()) <= 1).to(images)
    altered = images.clone()
    part = altered[:, :, rows.start : rows.stop, columns.start : columns.stop]
    part.copy_(choose(inside[:, None], _blurred(images, sigma, rows, columns), part))
    return altered


def _covering(centre: Tensor, reach: Tensor, length: int) -> range:
    """Positions along a side, at least one, that hold all of those within `reach` (n,) of `centre` (n,)."""
    ends = torch.stack([(centre - reach).min().floor(), (centre + reach).max().ceil() + 1])
    first, stop = ends.clamp(0, length).int().tolist()
    start = min(first, length - 1)
    return range(start, max(stop, start + 1))


def _blurred(images: Tensor, sigma: Tensor, rows: range, columns: range) -> Tensor:
    """Blur by a Gaussian, and return the part of the images that lies in `rows` and `columns`."""
    kernel = _gaussian_kernel(sigma, min(images.shape[-2:]) - 1)
    radius = kernel.shape[1] // 2
    pads = []
    for dim, part in ((-1, columns), (-2, rows)):
        start, stop = max(part.start - radius, 0), min(part.stop + radius, images.shape[dim])
        images = images.narrow(dim, start, stop - start)
        pads += [radius - (part.start - start), radius - (stop - part.stop)]
    images = functional.pad(images, pads, mode="reflect")
    for dim, part in ((-1, columns), (-2, rows)):
        # a sum of shifted images: several times as fast as a convolution with one kernel per image
        blurred = images.narrow(dim, 0, len(part)) * per_image(kernel[:, 0])
        for tap in range(1, 2 * radius + 1):
            blurred.addcmul_(images.narrow(dim, tap, len(part)), per_image(kernel[:, tap]))
        images = blurred
    return images.clamp_(0, 1)


def _gaussian_kernel(sigma: Tensor, limit: int) -> Tensor:
    """One-dimensional kernels (n, 2·radius + 1) of sum 1, reaching 3/2 σ, at least 3 and at most `limit` px."""
    reach = (1.5 * sigma).ceil().clamp(min=3).clamp(max=limit)
    radius = int(reach.max())
    offsets = torch.arange(-radius, radius + 1, device=sigma.device, dtype=sigma.dtype)
    # σ = 0 gives the kernel 0 … 0 1 0 … 0 exactly
    kernel = torch.exp(-0.5 * (offsets / sigma.clamp(min=1e-4)[:, None]) ** 2)
    kernel = kernel * (offsets.abs() <= reach[:, None])
    return kernel / kernel.sum(1, keepdim=True)
