"""Forward passes in which the response of one layer is replaced by others, which share what lies before it.

The forward pass is cut by torch.fx behind the layer: what comes before is computed once for a batch of images, and what
comes behind it for several responses at a time. A network that cannot be cut runs as a whole for each of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import Final

import torch
from torch import Tensor, fx, nn

from neuroprobe.errors import SubjectError, UnknownNameError
from neuroprobe.probe.capture import list_layers, no_such_layer
from neuroprobe.probe.graph import trace_operations
from neuroprobe.probe.outcome import OUTPUT

Values = tuple[Tensor, ...]  # the response of the layer, and whatever else is needed behind it, of n images each
TOLERANCE: Final = 1e-4  # of the largest response, up to which both ways are taken to agree


class ReplacedPasses:
    """Forward passes from a layer on.

    Parameters
    ----------
    network : torch.nn.Module
        In eval mode. One that has hooks, as of a lesion, runs as a whole, with them.
    layer : str
        Whose response is replaced.
    images : tensor (n, 3, height, width)
        A few, as the network expects them: the cut network is compared with the whole one on them.
    until : str
        Address of the layer whose response is wanted; by default the output of the network.

    Attributes
    ----------
    shape : tuple of int
        Of the response of the layer to an image.
    why : str
        Why the network runs as a whole; empty where it is cut.

    Raises
    ------
    UnknownNameError
        If there is no such layer, or several of the name.
    SubjectError
        If what is wanted does not depend on the layer, or is not one tensor.

    Examples
    --------
    >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sigmoid(), nn.Flatten(), nn.Linear(144, 5)).eval()
    >>> images = torch.ones(2, 3, 8, 8)
    >>> with torch.no_grad():
    ...     passes = ReplacedPasses(network, "1", images)
    ...     response, *others = passes.before(images)
    ...     outputs = passes.behind((response, *others), torch.stack([response, 0 * response, 2 * response]))
    ...     intact = network(images)
    >>> outputs.shape, torch.equal(outputs[0], intact), torch.equal(outputs[1, 0], network[3].bias)
    (torch.Size([3, 2, 5]), True, True)
    """

    def __init__(self, network: nn.Module, layer: str, images: Tensor, until: str = OUTPUT) -> None:
        self._network, self._layer, self._until = network, layer, until
        self.shape = _shape_of(network, layer, images)
        if until != OUTPUT:
            _shape_of(network, until, images)
        self.why = ""
        self._cut: tuple[nn.Module, nn.Module] | None = None
        with torch.no_grad():
            response, intact = self._whole(images)
            trial = torch.stack([response, torch.zeros_like(response)])
            expected = torch.stack([intact, self._whole(images, trial[1])[1]])
            if torch.equal(expected[0], expected[1]):
                wanted = f"layer {until!r}" if until else "the outputs of the network"
                raise SubjectError(
                    f"silencing layer {layer!r} does not change {wanted}: take one that it is made of, and images that "
                    "drive it"
                )
            try:
                self._cut = _cut(network, layer, until)
                found = self.behind(self.before(images), trial)
                if float((found - expected).abs().max()) > TOLERANCE * float(expected.abs().max()):
                    raise SubjectError(f"{type(network).__name__} responds otherwise when its forward pass is cut")
            except (SubjectError, RuntimeError, AttributeError, TypeError) as error:  # of values that are no batch
                self._cut, self.why = None, str(error)

    def before(self, images: Tensor) -> Values:
        """Compute what does not depend on the replacement: first the response of the layer."""
        if self._cut is None:
            return self._whole(images)[0], images
        found: Values = self._cut[0](images)
        return found

    def behind(self, values: Values, replaced: Tensor) -> Tensor:
        """Compute what follows from other responses of the layer.

        Parameters
        ----------
        values : tuple of tensors (n, …)
            As `before` gives them.
        replaced : tensor (k, n, …)
            Responses in place of the layer's own. They may be overwritten.

        Returns
        -------
        Tensor (k, n, …)
        """
        if self._cut is None:
            return torch.stack([self._whole(values[1], one)[1] for one in replaced])
        k, n = replaced.shape[:2]
        others = (value.repeat(k, *[1] * (value.ndim - 1)) for value in values[1:])
        found: Tensor = self._cut[1](replaced.flatten(0, 1), *others)
        return found.unflatten(0, (k, n))

    def _whole(self, images: Tensor, replaced: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Response of the layer, and what is wanted, of the network as a whole."""
        found: dict[str, Tensor] = {}
        calls: Counter[str] = Counter()

        def on_call(name: str, module: nn.Module, args: object, output: Tensor) -> Tensor | None:
            addresses = {name, f"{name}#{calls[name]}"}
            calls[name] += 1
            if self._until in addresses:
                found[self._until] = output.clone()  # the network may overwrite it
                raise _Reached
            if self._layer not in addresses:
                return None
            found[self._layer] = output.clone()
            return replaced

        with ExitStack() as hooks:
            for name in {address.partition("#")[0] for address in (self._layer, self._until) if address}:
                module = self._network.get_submodule(name)
                hooks.callback(module.register_forward_hook(partial(on_call, name)).remove)
            with suppress(_Reached):
                found[OUTPUT] = self._network(images)
        if not isinstance(found.get(self._until), Tensor):
            raise SubjectError(f"the network returns {type(found.get(OUTPUT)).__name__}, expected one tensor")
        if self._layer not in found:
            raise SubjectError(f"layer {self._layer!r} does not come before {self._until!r}: take another")
        return found[self._layer], found[self._until]


class _Reached(Exception):  # noqa: N818 - it ends a forward pass, as StopIteration ends a loop
    """Raised in the hook of a layer, to leave the forward pass."""


def _shape_of(network: nn.Module, layer: str, images: Tensor) -> tuple[int, ...]:
    known = {one.address: one for one in list_layers(network, images[:1])}
    if layer not in known:
        raise UnknownNameError(no_such_layer(layer, known, network))
    shape = known[layer].shape
    if shape is None:
        raise SubjectError(f"layer {layer!r} ({known[layer].kind}) does not return one tensor: take one inside it")
    return shape


def has_hooks(network: nn.Module) -> bool:
    """Whether anything listens to a network, or changes it, as a lesion does."""
    return any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def _cut(network: nn.Module, layer: str, until: str) -> tuple[nn.Module, nn.Module]:
    """Forward pass up to the response of a layer, and from there on.

    Raises
    ------
    SubjectError
        If it cannot be traced, or a response is no single value of the traced graph.
    """
    if has_hooks(network):
        raise SubjectError(f"{type(network).__name__} has hooks, which know of whole forward passes only")
    graph, outputs = trace_operations(network)
    order = list(graph.nodes)
    start, stop = outputs.get(layer), order[-1].args[0] if until == OUTPUT else outputs.get(until)
    if start is None or not isinstance(stop, fx.Node):
        raise SubjectError(f"layer {layer if start is None else until!r} is no single value of the traced forward pass")
    changed = _closure([start], lambda node: node.users)
    behind = _closure([stop], lambda node: node.all_input_nodes) & changed - {start}
    crossing = [
        node
        for node in order
        if node not in changed and node.op != "get_attr" and any(user in behind for user in node.users)
    ]
    image = next(node for node in order if node.op == "placeholder")
    before = subgraph(network, graph, [image], (start, *crossing))
    return before, subgraph(network, graph, [start, *crossing], stop)


def subgraph(
    network: nn.Module, graph: fx.Graph, given: Sequence[fx.Node], wanted: fx.Node | tuple[fx.Node, ...]
) -> nn.Module:
    """Part of a forward pass, from the values of some nodes to that of one, or to a tuple of them."""
    needed = _closure(
        [wanted] if isinstance(wanted, fx.Node) else wanted,
        lambda node: [] if node in given else node.all_input_nodes,
    )
    part = fx.Graph()
    copies = {node: part.placeholder(f"value_{number}") for number, node in enumerate(given)}
    for node in graph.nodes:
        if node in needed and node not in copies:
            copies[node] = part.node_copy(node, copies.__getitem__)
    part.output(copies[wanted] if isinstance(wanted, fx.Node) else tuple(copies[node] for node in wanted))
    return fx.GraphModule(network, part, type(network).__name__)


def _closure(nodes: Iterable[fx.Node], step: Callable[[fx.Node], Iterable[fx.Node]]) -> set[fx.Node]:
    """All nodes that are reached from some by any number of steps, these included."""
    found: set[fx.Node] = set()
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += step(node)
    return found
