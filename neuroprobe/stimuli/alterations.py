"""Alterations of images: pure batched torch functions with one parameter per image, and their registry.

An alteration is a function ``f(images, **parameters)`` of float images (n, 3, height, width) in [0, 1] and one
tensor (n,) per parameter, on the images' device, giving images of the same shape in [0, 1]. One that draws at random
takes `key` too, an int64 tensor (n,), and is a function of it. Laws are those of Kharyuk et al. 2025 (arXiv
2503.03283) unless a protocol gives others.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from neuroprobe.design.laws import Law
from neuroprobe.errors import RegistryError
from neuroprobe.registry import Registry

REFERENCE_SIDE: Final = 224
LUMA: Final = (0.2989, 0.587, 0.114)  # ITU-R 601, as torchvision rounds it


@dataclass(frozen=True)
class Parameter:
    """One parameter of an alteration.

    Parameters
    ----------
    law : Law
        Taken where a protocol gives none.
    low, high : float
        Values that make sense.
    identity : float, optional
        Value at which the alteration returns the image bit for bit.
    units : str
        Of the value, for the presentation table.
    is_length : bool
        Whether the value is a length, given in px of an image of `REFERENCE_SIDE` and scaled to the image's side.
    """

    law: Law
    low: float = -float("inf")
    high: float = float("inf")
    identity: float | None = None
    units: str = "1"
    is_length: bool = False


@dataclass(frozen=True)
class Alteration:
    """An alteration: its function and its parameters."""

    name: str
    function: Callable[..., Tensor]
    parameters: Mapping[str, Parameter] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """First line of the function's docstring."""
        return (inspect.getdoc(self.function) or "").split("\n")[0]

    @property
    def takes_key(self) -> bool:
        """Whether the function draws at random, from a key per image."""
        return "key" in inspect.signature(self.function).parameters

    def __call__(self, images: Tensor, parameters: Mapping[str, Tensor], key: Tensor, reference: float) -> Tensor:
        """Alter images; lengths are in px of an image of side `reference`."""
        scale = min(images.shape[-2:]) / reference
        scaled = {
            name: parameters[name] * scale if parameter.is_length else parameters[name]
            for name, parameter in self.parameters.items()
        }
        return self.function(images, **scaled, **({"key": key} if self.takes_key else {}))


ALTERATIONS: Final[Registry[Alteration]] = Registry("alteration")


def alteration(name: str, **parameters: Parameter) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Decorate a function: register it as an alteration with these parameters.

    Examples
    --------
    >>> import torch
    >>> @alteration("fading", level=Parameter(Law("uniform", (0.0, 1.0)), low=0, high=1, identity=1.0))
    ... def fading(images, level):
    ...     '''Multiply by a level.'''
    ...     return images * level.view(-1, 1, 1, 1)
    >>> check_alteration("fading")
    """

    def decorate(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        ALTERATIONS.add(name, Alteration(name, function, parameters))
        return function

    return decorate


def _per_image(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)


def luma(images: Tensor) -> Tensor:
    """Luminance (n, 1, height, width)."""
    weights = torch.tensor(LUMA, dtype=images.dtype, device=images.device).view(1, 3, 1, 1)
    return (images * weights).sum(1, keepdim=True)


@alteration(
    "erasing",
    row=Parameter(Law("uniform", (44, 180)), units="px", is_length=True),
    column=Parameter(Law("uniform", (44, 180)), units="px", is_length=True),
    area=Parameter(Law("uniform", (0.02, 0.33)), low=0, high=1, identity=0.0),
    aspect=Parameter(Law("loguniform", (0.3, 3.3)), low=1e-6),
)
def erasing(images: Tensor, row: Tensor, column: Tensor, area: Tensor, aspect: Tensor) -> Tensor:
    """Fill a rectangle with black, clipped to the image on all sides.

    `row` and `column` place the centre (px), `area` is a share of the image, `aspect` is height over width.
    """
    height, width = images.shape[-2:]
    pixels = area * height * width
    box_height, box_width = (pixels * aspect).sqrt().round(), (pixels / aspect).sqrt().round()
    top, left = (row - box_height / 2).round(), (column - box_width / 2).round()
    y = torch.arange(height, device=images.device)
    x = torch.arange(width, device=images.device)
    in_rows = (y >= top[:, None]) & (y < (top + box_height)[:, None])
    in_columns = (x >= left[:, None]) & (x < (left + box_width)[:, None])
    return images.masked_fill((in_rows[:, :, None] & in_columns[:, None, :])[:, None], 0.0)


@alteration("grayscale")
def grayscale(images: Tensor) -> Tensor:
    """Replace the colours by their luminance, in three equal channels."""
    return luma(images).expand_as(images).clamp(0, 1)


@alteration(
    "gaussian_blur",
    sigma=Parameter(Law("uniform", (0.1, 2.0)), low=0, identity=0.0, units="px", is_length=True),
)
def gaussian_blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Blur by a Gaussian of standard deviation `sigma` (px), cut off at 3/2 σ, border reflected.

    The kernel is 7×7 for σ up to 2 px, as in the study; it grows with σ.
    """
    reach = (1.5 * sigma).ceil().clamp(3, min(images.shape[-2:]) - 1)
    radius = int(reach.max())
    offsets = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    # σ = 0 gives the kernel 0 … 0 1 0 … 0 exactly
    kernel = torch.exp(-0.5 * (offsets / sigma.clamp(min=1e-4)[:, None]) ** 2)
    kernel = kernel * (offsets.abs() <= reach[:, None])
    kernel = kernel / kernel.sum(1, keepdim=True)
    for dim in (-1, -2):
        pad = (radius, radius, 0, 0) if dim == -1 else (0, 0, radius, radius)
        padded = functional.pad(images, pad, mode="reflect")
        length = images.shape[dim]
        blurred = padded.narrow(dim, radius, length) * _per_image(kernel[:, radius])
        for step in range(1, radius + 1):
            both = padded.narrow(dim, radius - step, length) + padded.narrow(dim, radius + step, length)
            blurred.addcmul_(both, _per_image(kernel[:, radius + step]))
        images = blurred
    return images.clamp_(0, 1)


@alteration(
    "hue",
    shift=Parameter(Law("uniform", (-0.5, 0.5)), low=-1, high=1, identity=0.0, units="turns"),
)
def hue(images: Tensor, shift: Tensor) -> Tensor:
    """Rotate the hue by `shift` full turns in HSV; value and saturation stay."""
    red, green, blue = images.unbind(1)
    value = images.amax(1)
    chroma = value - images.amin(1)
    # of a grey pixel the hue is free; under 1e-12 a quotient would overflow
    scale = torch.where(chroma > 1e-12, 1 / chroma.clamp(min=1e-12), 0.0)
    sixth = torch.where(
        value == red,
        (green - blue) * scale,
        torch.where(value == green, 2 + (blue - red) * scale, 4 + (red - green) * scale),
    )
    sixth = sixth + 6 * shift.view(-1, 1, 1)
    # Smith 1978, in closed form: channel n falls from `value` by `chroma` over the sixths that it lies away
    channels = []
    for n in (5, 3, 1):
        k = torch.remainder(n + sixth, 6)
        channels.append(value - chroma * torch.minimum(k, 4 - k).clamp_(0, 1))
    return torch.where(_per_image(shift) == 0, images, torch.stack(channels, 1))


@alteration(
    "rotation",
    angle=Parameter(Law("uniform", (-10, 10)), identity=0.0, units="degrees"),
)
def rotation(images: Tensor, angle: Tensor) -> Tensor:
    """Rotate about the centre by `angle` (degrees, counter-clockwise), bilinear, border reflected, size kept."""
    height, width = images.shape[-2:]
    radians = torch.deg2rad(angle)
    cos, sin = radians.cos(), radians.sin()
    zero = torch.zeros_like(cos)
    # affine_grid works in units of half sides: off-diagonal terms carry the ratio of the sides
    top = torch.stack([cos, -sin * (height / width), zero], -1)
    bottom = torch.stack([sin * (width / height), cos, zero], -1)
    grid = functional.affine_grid(torch.stack([top, bottom], 1), list(images.shape), align_corners=False)
    rotated = functional.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return torch.where(_per_image(angle) == 0, images, rotated.clamp_(0, 1))


def check_alteration(name: str, *, side: int = 32, n_images: int = 6) -> None:
    """Check that a registered alteration keeps the contract; for authors of alterations, and for our tests.

    It has to be batched (images do not affect each other), deterministic, to keep shape, dtype and range, to leave
    its input alone, and to return the image bit for bit at its identity parameters.

    Parameters
    ----------
    name : str
        Name in the registry.
    side, n_images : int
        Size of the test batch.

    Raises
    ------
    RegistryError
        Naming the rule that is broken.
    """
    thing = ALTERATIONS[name]
    rng = torch.Generator().manual_seed(0)
    images = torch.rand(n_images, 3, side, side, generator=rng)
    u = torch.rand(len(thing.parameters), n_images, generator=rng).double().numpy()
    drawn = {
        key: torch.from_numpy(parameter.law.ppf(row)).float()
        for (key, parameter), row in zip(thing.parameters.items(), u, strict=True)
    }
    for complaint in _complaints(thing, images, drawn, torch.arange(n_images) + 10**12):
        raise RegistryError(f"alteration {name!r}: {complaint}")


def _complaints(thing: Alteration, images: Tensor, drawn: dict[str, Tensor], key: Tensor) -> Iterator[str]:
    """Rules that an alteration breaks, one after the other; each relies on those before it."""

    def alter(values: dict[str, Tensor], part: slice = slice(None)) -> Tensor:
        return thing(images[part].clone(), {k: v[part] for k, v in values.items()}, key[part], REFERENCE_SIDE)

    kept = images.clone()
    altered: object = thing(images, drawn, key, REFERENCE_SIDE)
    if not isinstance(altered, Tensor):
        yield f"it gave {type(altered).__name__}, expected a tensor"
        return
    if not torch.equal(images, kept):
        yield "it changed its input: work on a copy"
    if altered.shape != images.shape:
        yield f"it gave shape {tuple(altered.shape)} for {tuple(images.shape)}"
    if altered.dtype != images.dtype:
        yield f"it gave {altered.dtype} for {images.dtype}"
    if not bool(((altered >= 0) & (altered <= 1)).all()):
        yield "it gave values outside [0, 1]: clamp them"
    if not torch.equal(altered, alter(drawn)):
        yield "it is not deterministic: draw from `key`"
    alone = torch.cat([alter(drawn, slice(i, i + 1)) for i in range(len(images))])
    if alone.shape != altered.shape or not torch.allclose(alone, altered, atol=1e-5):
        yield "it mixes the images of a batch: treat each by itself"
    identity = {k: p.identity for k, p in thing.parameters.items() if p.identity is not None}
    if identity:
        values = {k: torch.full_like(v, identity[k]) if k in identity else v for k, v in drawn.items()}
        if not torch.equal(alter(values), images):
            yield f"at its identity {identity} it does not return the image bit for bit"
