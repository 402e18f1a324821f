"""Receptive fields: which pixels of an image a unit of a layer can see.

A field is followed from the image through every operation of the forward pass, as torch.fx traces it. Along each axis
a map has units whose boxes are of one size and evenly spaced: a window of `k` positions that moves by `s` and begins
`p` before the map makes ``size + (k − 1) · stride``, ``stride · s`` and ``start − p · stride`` of them. Boxes may reach
beyond the image, and are clipped there only: where strides leave pixels over, the clipped box of a unit at the border
may hold some that it does not see, and never lacks one that it does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, fx, nn

from neuroprobe.errors import ResponseError, SubjectError, UnknownNameError
from neuroprobe.probe.capture import Layer, list_layers, no_such_layer
from neuroprobe.probe.graph import trace_operations, where
from neuroprobe.probe.windows import SAME, UNKNOWN, Window, Windows, changes_its_input, read_windows, tensors

N_IMAGES: Final = 8  # random images on which gradients are measured
N_POSITIONS: Final = 16  # units of a map, from corner to corner, from whose extents a field is read
TOLERANCE: Final = 0.25  # pixels, by which measured extents may be unevenly spaced


class Box(NamedTuple):
    """Pixels from `top` up to but without `bottom`, and from `left` up to but without `right`."""

    top: Any
    left: Any
    bottom: Any
    right: Any


@dataclass(frozen=True)
class Axis:
    """Fields of the units of a map along an axis, in pixels.

    Attributes
    ----------
    size : int
        Pixels of a field.
    stride : int
        From one unit's field to the next's; 0 where all see the whole image.
    start : int
        First pixel of the first unit's field, negative where it lies before the image.
    n_units : int
    n_pixels : int
        Of the image.
    """

    size: int
    stride: int
    start: int
    n_units: int
    n_pixels: int

    @property
    def centre(self) -> float:
        """Centre of the first unit's field; between two pixels where its size is even."""
        return self.start + (self.size - 1) / 2

    @property
    def n_inside(self) -> int:
        """Units whose whole field lies in the image."""
        starts = self.start + self.stride * np.arange(self.n_units)
        return int(((starts >= 0) & (starts + self.size <= self.n_pixels)).sum())

    def through(self, window: Window, n_units: int) -> Axis:
        """Fields behind an operation that reads a window of positions."""
        size, start = self.size + (window.size - 1) * self.stride, self.start - window.pad * self.stride
        return Axis(size, self.stride * window.stride, start, n_units, self.n_pixels)


@dataclass(frozen=True)
class ReceptiveField:
    """Receptive fields of the units of a layer.

    Attributes
    ----------
    rows, columns : Axis
    whole_image : bool
        Whether every unit is taken to see the whole image.
    why : str
        What makes it so; of a field that was measured on gradients, that it was.
    measured : bool
        Whether it was measured on gradients, as the network cannot be traced.

    Examples
    --------
    >>> network = nn.Sequential(nn.Conv2d(3, 4, 7, stride=2), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1)).eval()
    >>> field = receptive_fields(network, ["2"], torch.zeros(1, 3, 32, 32))["2"]
    >>> field.rows.size, field.rows.stride, field.rows.centre, field.rows.n_inside
    (11, 4, 3.0, 5)
    >>> [int(edge) for edge in field.box(0, 1)], [int(edge) for edge in field.clipped_box(0, 1)]
    ([-2, 2, 9, 13], [0, 2, 9, 13])
    >>> field.box([0, 1, 2], 0).top
    array([-2,  2,  6])
    """

    rows: Axis
    columns: Axis
    whole_image: bool = False
    why: str = ""
    measured: bool = False

    def box(self, row: ArrayLike, column: ArrayLike) -> Box:
        """Fields of units at some positions of the map, which may reach beyond the image."""
        rows, columns = np.broadcast_arrays(np.asarray(row), np.asarray(column))
        top = self.rows.start + self.rows.stride * rows
        left = self.columns.start + self.columns.stride * columns
        return Box(top, left, top + self.rows.size, left + self.columns.size)

    def clipped_box(self, row: ArrayLike, column: ArrayLike) -> Box:
        """Fields of units, as far as they lie in the image; empty of a unit that sees nothing but padding."""
        height, width = self.rows.n_pixels, self.columns.n_pixels
        limits = (height, width, height, width)
        return Box(*(np.clip(edge, 0, limit) for edge, limit in zip(self.box(row, column), limits, strict=True)))

    def is_inside(self, row: ArrayLike, column: ArrayLike) -> NDArray[np.bool_]:
        """Whether the whole fields of units lie in the image."""
        top, left, bottom, right = self.box(row, column)
        inside = (top >= 0) & (left >= 0) & (bottom <= self.rows.n_pixels) & (right <= self.columns.n_pixels)
        return np.asarray(inside)


def receptive_fields(network: nn.Module, layers: Sequence[str], image: Tensor) -> dict[str, ReceptiveField]:
    """Receptive fields of layers.

    A layer whose units read the map as a whole (behind a flattening, a linear layer, a global pool, attention), or
    whose fields are not of one size and evenly spaced, has the whole image, and tells why. Where the network cannot
    be traced, fields are measured on gradients (`empirical_field`), and may lack pixels that count for little.

    Parameters
    ----------
    layers : sequence of str
        Addresses, as `neuroprobe.probe.capture` knows them.
    image : tensor (1, 3, height, width)
        On the network's device; its values do not matter. The meta device costs nothing.

    Raises
    ------
    UnknownNameError
        If there is no such layer, or several of the name.
    SubjectError
        If a layer does not return one tensor, or a batch normalisation is not in eval mode.

    Examples
    --------
    >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 5)).eval()
    >>> receptive_fields(network, ["2"], torch.zeros(1, 3, 8, 8))["2"].why
    "layer '1' (Flatten) reads all positions together"
    """
    known = _known_layers(network, layers, image)
    try:
        graph, outputs = trace_operations(network)
    except SubjectError as error:
        return {layer: _measured(network, known[layer], image, str(error)) for layer in layers}
    following = _Following(network, graph, image)
    return {layer: following.field_of(known[layer], outputs) for layer in layers}


def empirical_field(
    network: nn.Module,
    layer: str,
    image: Tensor,
    position: tuple[int, int],
    *,
    n_images: int = N_IMAGES,
    seed: int = 0,
) -> Box:
    """Extent of the pixels that have a gradient on the units at a position of a map, over all channels of both.

    Gradients are those on random images, so that no pixel is left out because a rectifier or a maximum happens to
    hide it in one of them; a pixel that is hidden in all is.

    Parameters
    ----------
    image : tensor (1, 3, height, width)
        On the network's device; its values do not matter.
    position : tuple of int
        Row and column.

    Returns
    -------
    Box

    Raises
    ------
    ResponseError
        If there is no gradient at all.

    Examples
    --------
    >>> network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()).eval()
    >>> [int(edge) for edge in empirical_field(network, "1", torch.zeros(1, 3, 8, 8), (0, 5))]
    [0, 4, 2, 7]
    """
    known = _known_layers(network, [layer], image)[layer]
    rows, columns = _map_size(known)
    if not (len(known.shape or ()) == 3 and 0 <= position[0] < rows and 0 <= position[1] < columns):
        raise SubjectError(f"layer {layer!r} gives {known.shape} per image, and has no unit at {position} of a map")
    (extent,) = _extents(network, layer, image, [position], n_images, seed)
    if extent[0] >= extent[2]:
        raise ResponseError(
            f"layer {layer!r}: no pixel has a gradient on the units at {position} in {n_images} random images: they "
            "see nothing but padding, or are silent; take more images, or a layer before the rectifier"
        )
    return Box(*map(int, extent))


def _known_layers(network: nn.Module, wanted: Sequence[str], image: Tensor) -> dict[str, Layer]:
    """Layers by address, all of them, once it is sure that those which are wanted have a field."""
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
            raise SubjectError(
                f"layer {name!r} ({type(module).__name__}) is in training mode, in which a unit sees all images of the "
                "batch: put the network in eval mode (`network.eval()`)"
            )
    known = {layer.address: layer for layer in list_layers(network, image)}
    for name in wanted:
        if name not in known:
            raise UnknownNameError(no_such_layer(name, known, network))
        if known[name].shape is None:
            raise SubjectError(f"layer {name!r} ({known[name].kind}) does not return one tensor: take one inside it")
    return known


def _map_size(layer: Layer) -> tuple[int, int]:
    """Rows and columns of a layer's map; one of each where it has none."""
    shape = layer.shape or ()
    return (shape[-2], shape[-1]) if len(shape) == 3 else (1, 1)


def _whole(image: Tensor, size: tuple[int, int], why: str) -> ReceptiveField:
    rows, columns = (Axis(n, 0, 0, units, n) for n, units in zip(image.shape[-2:], size, strict=True))
    return ReceptiveField(rows, columns, whole_image=True, why=why)


class _Following(fx.Interpreter):
    """Follows fields through a graph, while the image goes through it."""

    def __init__(self, network: nn.Module, graph: fx.Graph, image: Tensor) -> None:
        super().__init__(fx.GraphModule(network, graph))
        self._image = image
        self._fields: dict[fx.Node, ReceptiveField | None] = {}  # None of what is not made of the image
        with torch.no_grad():
            self.run(image)

    def field_of(self, layer: Layer, outputs: Mapping[str, fx.Node]) -> ReceptiveField:
        """Field of a layer, whose node is among `outputs` unless it is called by a module of torch's."""
        if layer.address not in outputs:
            why = f"layer {layer.address!r} is part of a module that is followed as a whole"
            return _whole(self._image, _map_size(layer), why)
        field = self._fields[outputs[layer.address]]
        if field is None:
            raise SubjectError(f"layer {layer.address!r} is not made of the image: take another")
        return _whole(self._image, _map_size(layer), field.why) if field.whole_image else field

    def run_node(self, n: fx.Node) -> Any:
        """Run an operation and follow the fields through it."""
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        result = super().run_node(n)
        self._fields[n] = self._follow(n, args, kwargs, result)
        if changes_its_input(n) and isinstance(n.args[0], fx.Node):
            self._fields[n.args[0]] = self._fields[n]
        return result

    def _follow(self, n: fx.Node, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> ReceptiveField | None:
        if not self._fields:  # the first node is the image
            rows, columns = (Axis(1, 1, 0, n_pixels, n_pixels) for n_pixels in self._image.shape[-2:])
            return ReceptiveField(rows, columns)
        fields = [field for field in map(self._fields.get, n.all_input_nodes) if field]
        if not fields or not tensors(result):
            return None
        whole = next((field for field in fields if field.whole_image), None)
        if whole or n.op == "output":
            return whole
        module = self.fetch_attr(str(n.target)) if n.op == "call_module" else None
        windows = read_windows(n, module, args, kwargs, result)
        joined = windows if isinstance(windows, str) else _through(fields, windows, tensors(result)[0].shape[-2:])
        if isinstance(joined, str):
            return _whole(self._image, (1, 1), f"{where(n, self.module)} {joined}")
        return joined


def _through(fields: Sequence[ReceptiveField], windows: Windows, size: Sequence[int]) -> ReceptiveField | str:
    """Return the union of fields behind an operation, or in words why there is none."""
    if windows is not SAME and len(fields) > 1:
        return UNKNOWN
    joined = []
    each = ([one.rows for one in fields], [one.columns for one in fields])
    for axes, window, n_units in zip(each, windows, size, strict=True):
        if windows is SAME and any(one.n_units != n_units for one in axes):
            return "spreads a map over another's positions"
        strides = sorted({one.stride for one in axes})
        if len(strides) > 1 and axes[0].n_units > 1:
            return f"joins maps whose strides differ ({' and '.join(map(str, strides))} px)"
        start, stop = min(one.start for one in axes), max(one.start + one.size for one in axes)
        union = replace(axes[0], size=stop - start, start=start, stride=strides[-1])
        joined.append(union.through(window, n_units))
    rows, columns = joined
    return ReceptiveField(rows, columns)


def _measured(network: nn.Module, layer: Layer, image: Tensor, why: str) -> ReceptiveField:
    """Field that the gradients of units from corner to corner of a map tell."""
    size = _map_size(layer)
    if len(layer.shape or ()) != 3 or image.is_meta:
        return _whole(image, size, f"{why}; and gradients on maps only can be measured, of a network with weights")
    n = min(N_POSITIONS, max(size))
    places = np.linspace((0, 0), (size[0] - 1, size[1] - 1), n).round().astype(int)
    extents = _extents(network, layer.address, image, [(int(row), int(column)) for row, column in places], N_IMAGES, 0)
    seen = extents[:, 0] < extents[:, 2]
    rows, columns = (
        _fit(places[seen, axis], extents[seen][:, [axis, axis + 2]], size[axis], image.shape[axis - 2])
        for axis in (0, 1)
    )
    if rows is None or columns is None:
        return _whole(image, size, f"{why}; and the gradients of its units do not tell size and spacing of its fields")
    return ReceptiveField(rows, columns, why=f"{why}: measured on gradients in {N_IMAGES} random images", measured=True)


def _fit(places: NDArray[np.int64], extents: NDArray[np.int64], n_units: int, n_pixels: int) -> Axis | None:
    """Fit evenly spaced fields of one size to extents (n, 2), as wide as the widest; None if they do not tell."""
    ends, slopes = [], []
    for edges, free in zip(extents.T, (extents[:, 0] > 0, extents[:, 1] < n_pixels), strict=True):
        at, edge = places[free], edges[free]
        ends.append((at, edge))
        if len(np.unique(at)) > 1:
            slopes.append(np.polyfit(at, edge, 1)[0])
    stride = round(float(np.mean(slopes))) if slopes else 0
    if stride < 1 or any(abs(slope - stride) > TOLERANCE for slope in slopes) or not all(len(at) for at, _ in ends):
        return None
    (first, starts), (last, stops) = ends
    start = int((starts - stride * first).min())
    return Axis(int((stops - stride * last).max()) - start, stride, start, n_units, n_pixels)


class _Reached(Exception):  # noqa: N818 - it ends a forward pass, as StopIteration ends a loop
    """Raised in the hook of a layer, to leave the forward pass."""


def _extents(
    network: nn.Module, address: str, image: Tensor, places: Sequence[tuple[int, int]], n_images: int, seed: int
) -> NDArray[np.int64]:
    """Boxes (n, 4) of the pixels with a gradient on the units at some places; empty where there is none."""
    name, _, call = address.partition("#")
    generator = torch.Generator().manual_seed(seed)
    touched = np.zeros((len(places), *image.shape[-2:]), bool)
    for _ in range(n_images):
        shown = torch.randn(image.shape, generator=generator).to(image).requires_grad_()
        response = _response(network, name, int(call or 0), shown)
        weights = torch.rand(response.shape[1], generator=generator).to(response) + 0.5  # no two channels cancel
        for touches, (row, column) in zip(touched, places, strict=True):
            (gradient,) = torch.autograd.grad(
                response[0, :, row, column] @ weights, shown, retain_graph=True, allow_unused=True
            )
            if gradient is not None:
                touches |= (gradient[0] != 0).any(0).cpu().numpy()
    return np.array([_extent(touches) for touches in touched])


def _extent(touched: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(touched.any(1)), np.flatnonzero(touched.any(0))
    if not len(rows):
        return (0, 0, 0, 0)
    return (int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


def _response(network: nn.Module, name: str, call: int, image: Tensor) -> Tensor:
    """Response of one call of a module, with its gradients."""
    found: list[Tensor] = []

    def on_call(module: nn.Module, args: object, output: Tensor) -> None:
        found.append(output.clone())  # the network may overwrite it
        if len(found) > call:
            raise _Reached

    handle = network.get_submodule(name).register_forward_hook(on_call)
    try:
        with torch.enable_grad():
            network(image)
    except _Reached:
        pass
    finally:
        handle.remove()
    if not found[call].requires_grad:
        raise SubjectError(f"layer {name!r} has no gradients: take `no_grad` and `detach` out of the forward pass")
    return found[call]
