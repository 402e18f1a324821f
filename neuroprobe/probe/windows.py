"""Which positions of a map an operation of a forward pass reads: a window along each axis, or all positions together.

Space is the last two axes of a tensor. What is not known here is taken to read all positions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves


class Window(NamedTuple):
    """What an operation reads along an axis: `size` positions, moved by `stride`, from `pad` before the map."""

    size: int = 1
    stride: int = 1
    pad: int = 0


Windows = tuple[Window, Window]
SAME: Final = (Window(), Window())  # each position by itself; known by identity, as a pad behind a map looks alike


TOGETHER: Final = "reads all positions together"
MOVED: Final = "moves rows and columns to other axes, where they are not followed"
UNKNOWN: Final = "is no operation whose field is known"

# by the name of a function, of a method, or of a module in small letters
_POINTWISE: Final = """
    abs absolute add addcdiv addcmul alpha_dropout celu channel_shuffle clamp clamp_max clamp_min clip clone
    contiguous cos crossmaplrn2d detach div dropout dropout1d dropout2d dropout3d elu eq erf exp expand expand_as
    expm1 feature_alpha_dropout feature_dropout float floordiv ge gelu gt hardshrink hardsigmoid hardswish hardtanh
    identity le leaky_relu lerp local_response_norm localresponsenorm log log1p logsigmoid lt maximum minimum mish
    mul multiply nan_to_num ne neg pow prelu reciprocal relu relu6 repeat rrelu rsqrt rsub selu sigmoid sign silu
    sin softmax2d softplus softshrink softsign sqrt square stochastic_depth sub subtract tanh tanhshrink threshold
    to true_divide truediv type type_as where
"""
POINTWISE: Final = frozenset(_POINTWISE.split())
IN_PLACE: Final = {f"i{name}": name for name in ("add", "sub", "mul", "truediv", "pow")}
POINTWISE_MODULES: Final = {f"torch.nn.modules.{name}" for name in ("activation", "dropout")}
# operations along some axes: the place of these among the arguments, and the default
ALONG: Final[dict[str, tuple[int, int | None]]] = {
    **dict.fromkeys(("cat", "concat", "concatenate", "stack", "unbind"), (1, 0)),
    **dict.fromkeys(("chunk", "split", "tensor_split"), (2, 0)),
    **dict.fromkeys(("softmax", "log_softmax", "logsoftmax", "softmin", "unsqueeze", "squeeze"), (1, None)),
    **dict.fromkeys(("mean", "sum", "amax", "amin", "max", "min", "std", "var", "prod", "argmax"), (1, None)),
    "norm": (2, None),
    "normalize": (2, 1),
    "glu": (1, -1),
}
WINDOWED: Final = {
    "conv2d": ("input", "weight", "bias", "stride", "padding", "dilation"),
    "max_pool2d": ("input", "kernel_size", "stride", "padding", "dilation"),
    "avg_pool2d": ("input", "kernel_size", "stride", "padding"),
    "lp_pool2d": ("input", "norm_type", "kernel_size", "stride"),
    "adaptive_avg_pool2d": ("input", "output_size"),
    "adaptive_max_pool2d": ("input", "output_size"),
    "pad": ("input", "pad", "mode"),
}
WINDOWED_MODULES: Final = {
    nn.Conv2d: "conv2d",
    nn.MaxPool2d: "max_pool2d",
    nn.AvgPool2d: "avg_pool2d",
    nn.LPPool2d: "lp_pool2d",
    nn.AdaptiveAvgPool2d: "adaptive_avg_pool2d",
    nn.AdaptiveMaxPool2d: "adaptive_max_pool2d",
    nn.ConstantPad2d: "pad",
    nn.ZeroPad2d: "pad",
}
ORDERS: Final = frozenset({"permute", "transpose", "swapaxes", "swapdims"})
SHAPES: Final = frozenset({"view", "reshape", "flatten", "unflatten"})
_MIXING: Final = """
    linear bilinear matmul bmm einsum scaled_dot_product_attention multiheadattention layer_norm layernorm
    group_norm groupnorm instance_norm instancenorm2d
"""
MIXING: Final = frozenset(_MIXING.split())


def read_windows(
    node: fx.Node, module: nn.Module | None, args: Sequence[Any], kwargs: Mapping[str, Any], result: object
) -> Windows | str:
    """Return what an operation reads along rows and along columns, or in words why it cannot be said so.

    Parameters
    ----------
    node : torch.fx.Node
    module : torch.nn.Module, optional
        That it calls.
    args, kwargs, result
        Values that it takes and gives.
    """
    name = operation_name(node, module)
    (taken, *_), (made, *_) = tensors((args, kwargs)), tensors(result)
    if isinstance(module, nn.modules.batchnorm._BatchNorm) or name == "batch_norm":
        own = module.running_mean is None if module else kwargs.get("training", args[5] if len(args) > 5 else False)
        return TOGETHER if own else SAME
    if name in WINDOWED:
        names = WINDOWED[name]
        given = dict(zip(names, args, strict=False)) | dict(kwargs)
        if module:
            given = {
                name: getattr(module, name) for name in (*names, "padding", "padding_mode") if hasattr(module, name)
            }
        return _RULES[name](given, taken)
    if name in ALONG and not (len(args) > 1 and isinstance(args[1], Tensor)):  # torch.max(x, y) is by positions
        n_axes = made.ndim if name in {"stack", "unsqueeze"} else taken.ndim
        return SAME if _spares_space(axes_of(name, module, args, kwargs), n_axes) else TOGETHER
    if name in ORDERS:
        return SAME if order_of(name, args, kwargs, taken.ndim)[-2:] == [taken.ndim - 2, taken.ndim - 1] else MOVED
    if name in SHAPES:
        return SAME if made.ndim > 2 and made.shape[-2:] == taken.shape[-2:] else TOGETHER
    if name == "getitem":
        return _sliced(args[1], taken) if isinstance(args[0], Tensor) else SAME
    if name in MIXING:
        return TOGETHER
    known = name in POINTWISE or name in ALONG or type(module).__module__ in POINTWISE_MODULES
    return SAME if known else UNKNOWN


def changes_its_input(node: fx.Node) -> bool:
    """Whether an operation of a graph overwrites its first argument."""
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return node.op in {"call_function", "call_method"} and (name.endswith("_") or name in IN_PLACE)


def tensors(tree: object) -> list[Tensor]:
    """List the tensors in a value of any structure."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def operation_name(node: fx.Node, module: nn.Module | None) -> str:
    """Name of an operation: of the function or method, or of the module in small letters."""
    if module is not None:
        kind = next((name for kind, name in WINDOWED_MODULES.items() if isinstance(module, kind)), "")
        return kind or type(module).__name__.lower()
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return IN_PLACE.get(name) or name.rstrip("_")


def _pair(value: Any) -> tuple[Any, Any]:
    """Return rows' and columns' part of an option that may be given once for both."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return value, value
    return value[0], value[-1]


def _convolution(given: Mapping[str, Any], taken: Tensor) -> Windows | str:
    sizes, strides, dilations = (
        given["weight"].shape[-2:],
        _pair(given.get("stride", 1)),
        _pair(given.get("dilation", 1)),
    )
    reaches = [dilation * (size - 1) for dilation, size in zip(dilations, sizes, strict=True)]
    padding = given.get("padding", 0)
    if isinstance(padding, str):  # torch puts the odd one behind
        pads = [reach // 2 if padding == "same" else 0 for reach in reaches]
        behind = [reach - pad if padding == "same" else 0 for reach, pad in zip(reaches, pads, strict=True)]
    else:
        pads = behind = list(_pair(padding))
    mode = given.get("padding_mode", "zeros")
    mirrored_outside = any(2 * max(ends) > reach for *ends, reach in zip(pads, behind, reaches, strict=True))
    if any(behind) and (mode == "circular" or (mode == "reflect" and mirrored_outside)):
        return f"pads a map with what is elsewhere in it ({mode})"
    rows, columns = (Window(1 + reach, *one) for reach, *one in zip(reaches, strides, pads, strict=True))
    return rows, columns


def _pool(given: Mapping[str, Any], taken: Tensor) -> Windows | str:
    stride = given.get("stride")
    strides = given["kernel_size"] if stride is None or stride == [] else stride
    options = (given["kernel_size"], strides, given.get("padding", 0), given.get("dilation", 1))
    rows, columns = (
        Window(1 + dilation * (size - 1), step, pad)
        for size, step, pad, dilation in zip(*map(_pair, options), strict=True)
    )
    return rows, columns


def _adaptive_pool(given: Mapping[str, Any], taken: Tensor) -> Windows | str:
    windows = []
    for n_taken, wanted in zip(taken.shape[-2:], _pair(given["output_size"]), strict=True):
        n_made = n_taken if wanted is None else wanted
        if n_made == 1 < n_taken:
            return TOGETHER
        if n_taken % n_made:
            return f"pools {n_taken} positions in {n_made} windows that are not of one size"
        windows.append(Window(n_taken // n_made, n_taken // n_made))
    return windows[0], windows[1]


def _padding(given: Mapping[str, Any], taken: Tensor) -> Windows | str:
    pads = [*given.get("pad", given.get("padding", ())), 0, 0, 0, 0]  # left, right, top, bottom; then other axes
    if given.get("mode", "constant") != "constant" and any(pads[:4]):
        return f"pads a map with what is elsewhere in it ({given['mode']})"
    return Window(pad=pads[2]), Window(pad=pads[0])


_RULES: Final[dict[str, Callable[[Mapping[str, Any], Tensor], Windows | str]]] = {
    "conv2d": _convolution,
    **dict.fromkeys(("max_pool2d", "avg_pool2d", "lp_pool2d"), _pool),
    **dict.fromkeys(("adaptive_avg_pool2d", "adaptive_max_pool2d"), _adaptive_pool),
    "pad": _padding,
}


def axes_of(name: str, module: nn.Module | None, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return the axes that an operation of `ALONG` works along; None for all."""
    if module is not None:
        return getattr(module, "dim", None)
    place, default = ALONG[name]
    return kwargs.get("dim", kwargs.get("axis", args[place] if len(args) > place else default))


def _spares_space(axes: Any, n_axes: int) -> bool:
    given = axes if isinstance(axes, Sequence) else [axes]
    return all(isinstance(axis, int) and axis % n_axes < n_axes - 2 for axis in given)


def order_of(name: str, args: Sequence[Any], kwargs: Mapping[str, Any], n_axes: int) -> list[int]:
    """Return where the axes of what an operation of `ORDERS` makes come from."""
    given = [leaf % n_axes for leaf in tree_leaves((args[1:], dict(kwargs))) if isinstance(leaf, int)]
    if name == "permute":
        return given
    first, second = given
    order = list(range(n_axes))
    order[first], order[second] = second, first
    return order


def full_index(index: Any, taken: Tensor) -> list[Any] | None:
    """Return an index with a part for every axis of a tensor, or None if it holds more than slices and numbers."""
    parts = list(index) if isinstance(index, tuple) else [index]
    if not all(part is None or part is Ellipsis or isinstance(part, slice | int) for part in parts):
        return None
    missing = [slice(None)] * (taken.ndim - sum(isinstance(part, slice | int) for part in parts))
    place = next((at for at, part in enumerate(parts) if part is Ellipsis), len(parts))
    return [*parts[:place], *missing, *parts[place + 1 :]]


def _sliced(index: Any, taken: Tensor) -> Windows | str:
    parts = full_index(index, taken)
    if parts is None:
        return UNKNOWN
    rows, columns = parts[-2:]
    if not (isinstance(rows, slice) and isinstance(columns, slice)):
        return TOGETHER
    steps = [one.indices(n) for one, n in zip((rows, columns), taken.shape[-2:], strict=True)]
    return Window(1, steps[0][2], -steps[0][0]), Window(1, steps[1][2], -steps[1][0])
