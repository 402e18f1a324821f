"""Operations of a forward pass on a part of a map: each gives there what it gives when it has the whole map.

An operation is known by what it takes and gives with whole images (two of them, so that the axis of the images shows).
What it puts around a map by itself is put around the part where the part ends with the map, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.utils._pytree import tree_leaves

from neuroprobe.probe.windows import (
    ALONG,
    ORDERS,
    SAME,
    SHAPES,
    WINDOWED,
    Windows,
    axes_of,
    full_index,
    operation_name,
    order_of,
    read_windows,
    tensors,
)

Pads = tuple[int, int, int, int]  # positions left, right, above and below a part; negative ones are cut off
Windowed = Callable[[Tensor, Pads], Tensor]
Run = Callable[[Mapping[fx.Node, Any], Pads], Any]

NOT_ON_PARTS: Final = "is not known to do the same on a part of a map"
OPTIONS: Final = {
    **WINDOWED,
    "conv2d": (*WINDOWED["conv2d"], "groups"),
    "max_pool2d": (*WINDOWED["max_pool2d"], "ceil_mode", "return_indices"),
    "avg_pool2d": (*WINDOWED["avg_pool2d"], "ceil_mode", "count_include_pad", "divisor_override"),
    "lp_pool2d": (*WINDOWED["lp_pool2d"], "ceil_mode"),
    "pad": (*WINDOWED["pad"], "value"),
}
NEW: Final = ("conv2d", "max_pool2d", "avg_pool2d", "batch_norm", "batchnorm2d")  # share no memory with what they take
BY_CHANNEL: Final = ("batch_norm", "prelu")  # take vectors of constants, which are not spread over space


@dataclass(frozen=True, eq=False)
class Call:
    """An operation of a graph, with what it takes and gives when whole images go through the graph.

    Attributes
    ----------
    node : torch.fx.Node
    module : torch.nn.Module, optional
        That it calls.
    args, kwargs, result
        Values.
    maps : mapping
        Values of those of its arguments that are maps made of the image.
    constants : mapping
        Values of the others.
    """

    node: fx.Node
    module: nn.Module | None
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    result: Any
    maps: Mapping[fx.Node, Any]
    constants: Mapping[fx.Node, Any]

    @property
    def name(self) -> str:
        """Name of the operation."""
        return operation_name(self.node, self.module)


def on_part(call: Call) -> tuple[Windows, Run] | str:
    """Return through which windows an operation reads maps, and how it is run on parts of them, or why it cannot be.

    The function that runs it takes the parts by node, with nothing around them, and how much is to be put around.
    """
    windows = read_windows(call.node, call.module, call.args, call.kwargs, call.result)
    if isinstance(windows, str):
        return windows
    wrong = _wrong_axes(call, same=windows is SAME)
    if wrong:
        return wrong
    if call.name == "getitem" and isinstance(call.args[0], Tensor):
        run: Windowed | str = _slice(call, windows)
    elif call.name in WINDOWED:
        if not isinstance(call.result, Tensor):
            return NOT_ON_PARTS
        run = _RULES[call.name](_options(call), windows)
    elif call.name in SHAPES:
        run = partial(_reshaped, shape=tuple(call.result.shape[1:-2]))
    else:
        return _spread_constants(call) or (windows, partial(_again, call.node, call.module, call.constants))
    if isinstance(run, str):
        return run
    read = call.args[0] if call.args else call.kwargs.get("input")
    (node, value), *others = call.maps.items()
    if others or value is not read:  # as of a convolution whose weights are made of the image
        return NOT_ON_PARTS
    found = run
    return windows, lambda parts, pads: found(parts[node], pads)


def _again(
    node: fx.Node, module: nn.Module | None, constants: Mapping[fx.Node, Any], parts: Mapping[fx.Node, Any], _: Pads
) -> Any:
    """Do what a node does with parts in the place of maps."""
    args, kwargs = fx.node.map_arg(
        (node.args, dict(node.kwargs)), lambda one: parts[one] if one in parts else constants[one]
    )
    if module is not None:
        return module.forward(*args, **kwargs)  # not its hooks
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    assert callable(node.target)
    return node.target(*args, **kwargs)


def _wrong_axes(call: Call, *, same: bool) -> str:
    """Say what is wrong with the axes of maps: the first has to be the image, and the last two space."""
    (first, *_), made = tensors(list(call.maps.values())), tensors(call.result)
    if any(one.ndim < 3 or len(one) != len(first) for one in made):
        return "gives no maps whose first axis is the image"
    if same and any(one.shape[-2:] != first.shape[-2:] for one in made):
        return NOT_ON_PARTS
    if call.name in ORDERS and order_of(call.name, call.args, call.kwargs, first.ndim)[0] != 0:
        return "moves the axis of the images"
    if call.name in ALONG and not (len(call.args) > 1 and isinstance(call.args[1], Tensor)):
        axes = axes_of(call.name, call.module, call.args, call.kwargs)
        n_axes = made[0].ndim if call.name in {"stack", "unsqueeze"} else first.ndim
        if any(axis % n_axes == 0 for axis in (axes if isinstance(axes, Sequence) else [axes])):
            return "works along the axis of the images"
    return NOT_ON_PARTS if call.name == "expand" else ""  # it is told the size of the whole map


def _spread_constants(call: Call) -> str:
    """Say that a constant differs between positions of a map, if one does."""
    constants = [value for node, value in call.constants.items() if node in call.node.all_input_nodes]
    spread = any(size != 1 for one in tensors(constants) for size in one.shape[-2:])
    return "takes constants that differ between positions of a map" if spread and call.name not in BY_CHANNEL else ""


def _options(call: Call) -> dict[str, Any]:
    """Options of an operation that reads a map through windows, whether of a function or of a module."""
    names = OPTIONS[call.name]
    if call.module is None:
        return dict(zip(names, call.args, strict=False)) | dict(call.kwargs)
    # `padding` is what modules call `pad`
    return {
        name: getattr(call.module, name) for name in (*names, "padding", "padding_mode") if hasattr(call.module, name)
    }


def padded(part: Tensor, pads: Sequence[int], value: float = 0.0) -> Tensor:
    """Put positions of one value around a part, and cut off where there are to be fewer than none."""
    if any(pad > 0 for pad in pads):
        part = functional.pad(part, [max(pad, 0) for pad in pads], value=value)
    if any(pad < 0 for pad in pads):  # after that, as a part may be shorter than what is cut off
        part = functional.pad(part, [min(pad, 0) for pad in pads])
    return part


def _convolution(given: Mapping[str, Any], windows: Windows) -> Windowed | str:
    mode, padding = given.get("padding_mode", "zeros"), given.get("padding", 0)
    if mode != "zeros" and any(leaf != 0 for leaf in tree_leaves(padding)):
        return f"pads a map with what is in it ({mode})"
    weight, bias, stride = given["weight"], given.get("bias"), given.get("stride", 1)
    dilation, groups = given.get("dilation", 1), given.get("groups", 1)

    def run(part: Tensor, pads: Pads) -> Tensor:
        left, right, above, below = pads
        if left == right >= 0 and above == below >= 0:  # what it can do without a copy
            return functional.conv2d(part, weight, bias, stride, (above, left), dilation, groups)
        return functional.conv2d(padded(part, pads), weight, bias, stride, 0, dilation, groups)

    return run


def _kernel(given: Mapping[str, Any]) -> tuple[Any, Any]:
    """Size and stride of a pool; a stride that is not given, or given as an empty list, is its size."""
    stride = given.get("stride")
    return given["kernel_size"], given["kernel_size"] if stride is None or stride == [] else stride


def _max_pool(given: Mapping[str, Any], windows: Windows) -> Windowed | str:
    size, stride = _kernel(given)
    dilation = given.get("dilation", 1)
    return lambda part, pads: functional.max_pool2d(padded(part, pads, -torch.inf), size, stride, 0, dilation)


def _avg_pool(given: Mapping[str, Any], windows: Windows) -> Windowed | str:
    size, stride = _kernel(given)
    area, divisor = windows[0].size * windows[1].size, given.get("divisor_override")
    with_pads = given.get("count_include_pad", True)

    def run(part: Tensor, pads: Pads) -> Tensor:
        made = functional.avg_pool2d(padded(part, pads), size, stride)
        if divisor:
            return made * (area / divisor)
        if not any(pads):
            return made
        counts = [
            _counted(n, pads[at : at + 2], window.size, window.stride, window.pad if with_pads else 0)
            for n, at, window in zip(part.shape[-2:], (2, 0), windows, strict=True)
        ]
        return made * torch.as_tensor(area / np.outer(*counts), dtype=made.dtype, device=made.device)

    return run


def _counted(n: int, pads: Sequence[int], size: int, stride: int, counted: int) -> NDArray[np.int64]:
    """Positions that each window of a mean counts along an axis: those of the map, and some of the padding."""
    before, after = pads
    starts = np.arange(0, before + n + after - size + 1, stride)
    first, last = before - min(before, counted), before + n + min(after, counted)
    return np.minimum(starts + size, last) - np.maximum(starts, first)


def _lp_pool(given: Mapping[str, Any], windows: Windows) -> Windowed | str:
    if given.get("ceil_mode"):
        return "pools with `ceil_mode`, and that is not known on a part of a map"
    norm, (size, stride) = given["norm_type"], _kernel(given)
    return lambda part, _: functional.lp_pool2d(part, norm, size, stride)


def _adaptive_pool(pool: Callable[..., Tensor], given: Mapping[str, Any], windows: Windows) -> Windowed | str:
    size = tuple(window.size for window in windows)
    return lambda part, _: pool(part, size)


def _pad(given: Mapping[str, Any], windows: Windows) -> Windowed | str:
    ends = given.get("pad", given.get("padding", ()))
    if given.get("mode", "constant") != "constant" and any(ends[:4]):
        return f"pads a map with what is in it ({given['mode']})"
    others, value = tuple(ends[4:]), given.get("value") or 0.0
    return lambda part, pads: padded(part, (*pads, *others), value)


_RULES: Final[dict[str, Callable[[Mapping[str, Any], Windows], Windowed | str]]] = {
    "conv2d": _convolution,
    "max_pool2d": _max_pool,
    "avg_pool2d": _avg_pool,
    "lp_pool2d": _lp_pool,
    "adaptive_avg_pool2d": partial(_adaptive_pool, functional.avg_pool2d),
    "adaptive_max_pool2d": partial(_adaptive_pool, functional.max_pool2d),
    "pad": _pad,
}


def _slice(call: Call, windows: Windows) -> Windowed | str:
    parts = full_index(call.args[1], call.args[0])
    if (
        parts is None
        or not isinstance(parts[0], slice)
        or parts[0].indices(len(call.args[0])) != (0, len(call.args[0]), 1)
    ):
        return "takes some of the images"
    index = (*parts[:-2], *(slice(None, None, window.stride) for window in windows))
    return lambda part, _: part[index]


def _reshaped(part: Tensor, pads: Pads, shape: tuple[int, ...]) -> Tensor:
    return part.reshape(len(part), *shape, *part.shape[-2:])
