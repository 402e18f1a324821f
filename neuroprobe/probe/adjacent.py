"""A layer that is one convolution of an earlier layer's channels: what each of these adds, from one forward pass.

It is told by the traced forward pass: behind the earlier layer come only operations by which a channel of zeros stays
one and touches no other channel (pools, a rectifier), then one convolution or linear layer, and behind that, where they
are there, a batch normalisation in eval mode and a rectifier.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.nn import functional

from neuroprobe.errors import SubjectError
from neuroprobe.probe.graph import trace_operations, where
from neuroprobe.probe.replaced import has_hooks, subgraph
from neuroprobe.statistics.unit_relations import convolution_parts, without_channels

Array = NDArray[np.float64]
MAX_PATCHES: Final = 512  # pairs of a unit and an image whose patches are multiplied at a time
POOLS: Final = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
ZERO_PRESERVING: Final = (*POOLS, nn.ZeroPad2d, nn.ReLU, nn.Identity, nn.modules.dropout._DropoutNd)
RECTIFIERS: Final = frozenset({"relu", "relu_"})
ZERO_PRESERVING_FUNCTIONS: Final = RECTIFIERS | {"max_pool2d", "avg_pool2d", "adaptive_avg_pool2d"}


@dataclass(frozen=True)
class Pairs:
    """Units and images of a batch.

    Attributes
    ----------
    number : int array (pairs,)
        Of the pair, among all of all batches.
    image : int array (pairs,)
        Place in the batch.
    unit : int array (pairs,)
        Channel of the layer.
    row, column : int arrays (pairs,)
    """

    number: NDArray[np.int64]
    image: NDArray[np.int64]
    unit: NDArray[np.int64]
    row: NDArray[np.int64]
    column: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.number)

    def __getitem__(self, at: slice) -> Pairs:
        return Pairs(self.number[at], self.image[at], self.unit[at], self.row[at], self.column[at])

    def responses(self, maps: Tensor) -> Array:
        """Responses of the units in maps (k, n, channels) or (k, n, channels, rows, columns): (k, pairs)."""
        axes = (self.image, self.unit, *((self.row, self.column) if maps.ndim > 3 else ()))
        index: list[Any] = [torch.from_numpy(one).to(maps.device) for one in axes]
        found: Array = maps[(slice(None), *index)].double().cpu().numpy()
        return found


@dataclass(frozen=True)
class Convolution:
    """A layer as a convolution of the channels of an earlier one.

    Attributes
    ----------
    part : torch.nn.Module
        From images to what enters the convolution, and to the response of the layer.
    weights : float array (units, channels, rows, columns)
        Times the scale of a normalisation.
    shift : float array (units,)
    stride, dilation : tuple of int
    pads : tuple of int
        Left, right, top, bottom.
    is_rectified : bool
    """

    part: nn.Module
    weights: Array
    shift: Array
    stride: tuple[int, int]
    dilation: tuple[int, int]
    pads: tuple[int, int, int, int]
    is_rectified: bool

    def silenced(self, images: Tensor, pairs: Pairs) -> tuple[Array, Array, Array]:
        """Responses where each channel of the earlier layer is 0.

        Parameters
        ----------
        images : tensor (n, 3, height, width)
        pairs : Pairs

        Returns
        -------
        original : float array (pairs,)
        ablated : float array (channels, pairs)
        response : float array (pairs,)
            That the network gives, to be compared with `original`.
        """
        with torch.no_grad():
            entered, response = self.part(images)
            if entered.ndim == 2:  # of a linear layer, which sees channel after channel
                entered = entered.view(len(entered), self.weights.shape[1], -1, 1)
            entered = functional.pad(entered, self.pads)
        original, ablated = np.empty(len(pairs)), np.empty((self.weights.shape[1], len(pairs)))
        for start in range(0, len(pairs), MAX_PATCHES):
            at = slice(start, start + MAX_PATCHES)
            some = pairs[at]
            # as many units as pairs, with a stimulus each
            parts = convolution_parts(self.weights[some.unit], self._patches(entered, some)[:, None])
            total = parts.sum(0) + self.shift[some.unit, None]
            original[at] = (np.maximum(total, 0) if self.is_rectified else total)[:, 0]
            ablated[:, at] = (without_channels(total, parts) if self.is_rectified else total - parts)[..., 0]
        return original, ablated, pairs.responses(response[None])[0]

    def _patches(self, entered: Tensor, pairs: Pairs) -> Array:
        """Read what the units of some pairs see: (pairs, channels, rows, columns)."""
        rows, columns = (
            torch.from_numpy(place[:, None] * stride + dilation * np.arange(size)).to(entered.device)
            for place, stride, dilation, size in zip(
                (pairs.row, pairs.column), self.stride, self.dilation, self.weights.shape[2:], strict=True
            )
        )
        image = torch.from_numpy(pairs.image).to(entered.device)[:, None, None]
        found = entered[image, :, rows[:, :, None], columns[:, None, :]]  # (pairs, rows, columns, channels)
        patches: Array = found.movedim(-1, 1).double().cpu().numpy()
        return patches


def find_convolution(network: nn.Module, layer: str, earlier: str, shape: Sequence[int]) -> Convolution | str:
    """Tell how a layer is a convolution of an earlier one, or in words why it is not.

    Parameters
    ----------
    network : torch.nn.Module
    layer, earlier : str
        Addresses.
    shape : sequence of int
        Of the response of the earlier one to an image.

    Examples
    --------
    >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 3), nn.ReLU()).eval()
    >>> find_convolution(network, "4", "1", (4, 6, 6)).weights.shape
    (5, 4, 3, 3)
    >>> find_convolution(network, "4", "0", (4, 6, 6)).is_rectified
    True
    >>> network.insert(3, nn.LocalResponseNorm(5))
    Sequential(...)
    >>> find_convolution(network, "5", "1", (4, 6, 6))
    "layer '3' (LocalResponseNorm) lies between"
    """
    if has_hooks(network):
        return f"{type(network).__name__} has hooks, which know of whole forward passes only"
    try:
        graph, outputs = trace_operations(network)
    except SubjectError as error:
        return str(error)
    if layer not in outputs or earlier not in outputs:
        missing = layer if layer not in outputs else earlier
        return f"layer {missing!r} is no single value of the traced forward pass"
    chain = [outputs[layer]]
    while chain[-1] is not outputs[earlier]:
        taken = chain[-1].all_input_nodes
        if len(taken) != 1:
            return f"{where(chain[-1], network)} takes {len(taken)} values"
        chain += taken
    return _read(network, graph, [*reversed(chain[:-1])], shape)


def _read(network: nn.Module, graph: fx.Graph, chain: list[fx.Node], shape: Sequence[int]) -> Convolution | str:
    """Read a chain of operations, in their order."""
    modules = [network.get_submodule(str(node.target)) if node.op == "call_module" else None for node in chain]
    mixing = [number for number, module in enumerate(modules) if isinstance(module, nn.Conv2d | nn.Linear)]
    if len(mixing) != 1:
        return f"{len(mixing)} convolutions or linear layers lie between, expected one"
    (at,) = mixing
    module = modules[at]
    assert isinstance(module, nn.Conv2d | nn.Linear)
    for node, one in zip(chain[:at], modules[:at], strict=True):
        if not (_preserves_zeros(node, one) or (isinstance(module, nn.Linear) and _is_flatten(node, one))):
            return f"{where(node, network)} lies between"
    behind = list(zip(chain[at + 1 :], modules[at + 1 :], strict=True))
    norm = behind.pop(0)[1] if behind and _is_fixed_norm(behind[0][1]) else None
    is_rectified = bool(behind)
    if is_rectified and not (len(behind) == 1 and _is_rectifier(*behind[0])):
        return f"{where(behind[0][0], network)} lies behind the convolution, expected a rectifier alone"
    is_flat = any(map(_is_flatten, chain[:at], modules[:at])) or any(map(_is_mean_of_places, chain[:at]))
    if isinstance(module, nn.Linear) and len(shape) > 1 and not is_flat:
        return f"{where(chain[at], network)} takes a map that is not flattened"
    found = _weights(module, shape[0])
    if isinstance(found, str):
        return f"{where(chain[at], network)} {found}"
    weights, (stride, dilation, pads) = found, _geometry(module)
    shift = np.zeros(len(weights)) if module.bias is None else module.bias.detach().double().cpu().numpy()
    if norm is not None:
        scale, offset = _scale_and_offset(norm)
        weights, shift = weights * scale[:, None, None, None], shift * scale + offset
    image = next(node for node in graph.nodes if node.op == "placeholder")
    part = subgraph(network, graph, [image], (chain[at].all_input_nodes[0], chain[-1]))
    return Convolution(part, weights, shift, stride, dilation, pads, is_rectified)


def _weights(module: nn.Conv2d | nn.Linear, n_channels: int) -> Array | str:
    """Weights (units, channels, rows, columns), with zeros for channels of other groups; or why they are not known."""
    weights: Array = module.weight.detach().double().cpu().numpy()
    if isinstance(module, nn.Linear):
        if weights.shape[1] % n_channels:
            return f"takes {weights.shape[1]} values, which are not those of {n_channels} channels"
        return weights.reshape(len(weights), n_channels, -1, 1)
    if module.padding_mode != "zeros":
        return f"pads with {module.padding_mode!r}, expected zeros"
    if module.in_channels != n_channels:
        return f"takes {module.in_channels} channels, expected {n_channels}"
    n_units, n_own, *size = weights.shape
    groups = np.arange(module.groups)
    dense = np.zeros((module.groups, n_units // module.groups, module.groups, n_own, *size))
    dense[groups, :, groups] = weights.reshape(module.groups, -1, n_own, *size)
    return dense.reshape(n_units, n_channels, *size)


def _geometry(
    module: nn.Conv2d | nn.Linear,
) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int, int, int]]:
    """Stride, dilation and padding."""
    if isinstance(module, nn.Linear):
        return (1, 1), (1, 1), (0, 0, 0, 0)
    strides, dilations = (module.stride[0], module.stride[1]), (module.dilation[0], module.dilation[1])
    ends = []
    for axis in (1, 0):
        reach = module.dilation[axis] * (module.kernel_size[axis] - 1)
        if isinstance(module.padding, str):  # torch puts the odd one behind
            first, both = (reach // 2, reach) if module.padding == "same" else (0, 0)
        else:
            first, both = int(module.padding[axis]), 2 * int(module.padding[axis])
        ends += [first, both - first]
    return strides, dilations, (ends[0], ends[1], ends[2], ends[3])


def _scale_and_offset(norm: Any) -> tuple[Array, Array]:
    """What a batch normalisation in eval mode multiplies by, and adds."""
    mean, variance = (one.double().cpu().numpy() for one in (norm.running_mean, norm.running_var))
    scale = 1 / np.sqrt(variance + norm.eps)
    if norm.affine:
        scale = scale * norm.weight.detach().double().cpu().numpy()
    offset = norm.bias.detach().double().cpu().numpy() if norm.affine else 0.0
    return scale, offset - mean * scale


def _name(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")


def _preserves_zeros(node: fx.Node, module: nn.Module | None) -> bool:
    if module is not None:
        is_random = isinstance(module, nn.modules.dropout._DropoutNd) and module.training
        return isinstance(module, ZERO_PRESERVING) and not is_random
    return _name(node) in ZERO_PRESERVING_FUNCTIONS or _is_mean_of_places(node)


def _is_mean_of_places(node: fx.Node) -> bool:
    """Whether a map is averaged over its rows and columns, as `x.mean((2, 3))` does."""
    given = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
    axes = tuple(given) if isinstance(given, list | tuple) else ()
    kept = node.kwargs.get("keepdim", node.args[2] if len(node.args) > 2 else False)
    return _name(node) == "mean" and axes in {(2, 3), (-2, -1)} and not kept


def _is_flatten(node: fx.Node, module: nn.Module | None) -> bool:
    if module is not None:
        return isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1)
    return _name(node) == "flatten" and node.args[1:] == (1,) and not node.kwargs


def _is_rectifier(node: fx.Node, module: nn.Module | None) -> bool:
    return isinstance(module, nn.ReLU) if module is not None else _name(node) in RECTIFIERS


def _is_fixed_norm(module: nn.Module | None) -> bool:
    if not isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        return False
    return not module.training and module.running_mean is not None
