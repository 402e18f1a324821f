"""Recording sites: a layer, and what is kept of its response."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from neuroprobe import names
from neuroprobe.errors import SubjectError, UnknownNameError
from neuroprobe.protocol.subject import LayerSpec

DIMS: Final = {2: (names.CHANNEL,), 3: (names.TOKEN, names.CHANNEL), 4: (names.CHANNEL, names.Y, names.X)}


@dataclass(frozen=True)
class Site:
    """A recording site whose response has a known shape.

    Attributes
    ----------
    name : str
        Address of the layer.
    dims : tuple of str
        Names of the axes of one response.
    shape : tuple of int
        Shape of one response.
    spec : LayerSpec
    units : (int, int), optional
        Of its units, in order, the first that is recorded and the one behind the last; by default all are.
    """

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    spec: LayerSpec
    units: tuple[int, int] | None = None

    def __str__(self) -> str:
        return self.name if self.units is None else f"{self.name} (units {self.units[0]:,}–{self.units[1] - 1:,})"

    @property
    def span(self) -> tuple[int, int]:
        """The first unit that is recorded, and the one behind the last."""
        return self.units or (0, self.n_whole)

    @property
    def n_units(self) -> int:
        """Scalars that are recorded."""
        return self.span[1] - self.span[0]

    @property
    def n_whole(self) -> int:
        """Scalars of the whole layer, as it is kept."""
        return math.prod(self.shape)

    @property
    def channels(self) -> list[int]:
        """Channels of the layer that are recorded."""
        return self.spec.channels or list(range(self.shape[self.dims.index(names.CHANNEL)]))


def make_site(spec: LayerSpec, shape: tuple[int, ...]) -> Site:
    """Make a site of a layer whose response to one image has the given shape.

    Raises
    ------
    UnknownNameError
        If it lacks a channel that is asked for.
    SubjectError
        If the shape has no channels or no unit, or cannot be reduced as asked.
    """
    if len(shape) + 1 not in DIMS:
        raise SubjectError(
            f"layer {spec.name!r} gives {shape} per image, expected (channels,), (tokens, channels) or "
            "(channels, height, width); record a layer beside it"
        )
    if not math.prod(shape):
        raise SubjectError(f"layer {spec.name!r} gives {shape} per image, expected one unit at least; record another")
    dims = DIMS[len(shape) + 1]
    n_channels = shape[dims.index(names.CHANNEL)]
    if spec.channels is not None and max(spec.channels) >= n_channels:
        wrong = next(channel for channel in spec.channels if channel >= n_channels)
        raise UnknownNameError(f"layer {spec.name!r} has channels 0 to {n_channels - 1}, received {wrong}")
    if spec.reduce != "none" and len(dims) == 1:
        raise SubjectError(f"layer {spec.name!r} has no space to reduce: leave out `reduce: {spec.reduce}`")
    if spec.reduce == "centre" and names.Y not in dims:
        raise SubjectError(f"layer {spec.name!r} has no centre (its dimensions are {dims}): use mean or max")
    reduced = keep(torch.empty((1, *shape), device="meta"), spec)
    kept = dims if spec.reduce == "none" else (names.CHANNEL,)
    return Site(spec.name, kept, tuple(reduced.shape[1:]), spec)


def keep(response: Tensor, spec: LayerSpec) -> Tensor:
    """Return what a site keeps of a layer's response (n, …)."""
    axis = 2 if response.ndim == 3 else 1
    if spec.transform == "softmax":
        response = response.softmax(axis)
    if spec.channels is not None:
        response = response.index_select(axis, torch.tensor(spec.channels, device=response.device))
    space = (1,) if response.ndim == 3 else (2, 3)
    match spec.reduce:
        case "mean":
            return response.mean(space)
        case "max":
            return response.amax(space)
        case "centre":
            return response[:, :, response.shape[2] // 2, response.shape[3] // 2]
        case _:
            return response
