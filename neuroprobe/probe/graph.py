"""The graph of a network's forward pass, by torch.fx, traced only as deep as it has to be cut."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from torch import Tensor, fx, nn

from neuroprobe.errors import SubjectError, reason


class _Tracer(fx.Tracer):
    """Traces through the modules that hold the layers at which a network is cut; all others are single calls."""

    def __init__(self, layers: Iterable[str]) -> None:
        super().__init__()
        self._opened = {one[:place] for one in layers for place, character in enumerate(one) if character == "."}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module is a single call."""
        return module_qualified_name not in self._opened


class _DeepTracer(fx.Tracer):
    """Traces down to torch.nn's own modules, and notes what each module gives, those that hold others too."""

    def __init__(self, network: nn.Module, masked: Collection[str]) -> None:
        super().__init__()
        self._names = {module: name for name, module in network.named_modules()}  # as hooks know them
        self._masked, self._calls = masked, Counter[str]()
        self.given: list[tuple[str, object]] = []

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Trace the call of a module."""
        output, name = super().call_module(m, forward, args, kwargs), self._names[m]
        layer = name if name in self._masked else f"{name}#{self._calls[name]}"
        self._calls[name] += 1
        if layer in self._masked:
            output = self.create_proxy("call_function", masked_response, (output, layer), {})
        self.given.append((name, output))
        return output


def masked_response(response: Tensor, layer: str) -> Tensor:
    """Stand in a graph for the product of a layer's response and its mask, which whoever runs the graph has."""
    return response.clone()


def trace(network: nn.Module, layers: Iterable[str]) -> fx.Graph:
    """Trace the forward pass of a network that is cut at some layers.

    Raises
    ------
    SubjectError
        If it cannot be traced.
    """
    return _run(_Tracer(layers), network, "cannot be cut, as its forward pass cannot be traced by torch.fx")


def trace_operations(network: nn.Module, masked: Collection[str] = ()) -> tuple[fx.Graph, dict[str, fx.Node]]:
    """Trace a forward pass down to single operations and to torch.nn's own modules.

    Parameters
    ----------
    network : torch.nn.Module
    masked : collection of str
        Layers behind which a node `masked_response` is put.

    Returns
    -------
    fx.Graph
    dict
        Address of each call of a module → the node of what it returns, where that is one value.

    Raises
    ------
    SubjectError
        If it cannot be traced.
    """
    tracer = _DeepTracer(network, masked)
    graph = _run(tracer, network, "cannot be traced by torch.fx")
    outputs = zip(_addresses([name for name, _ in tracer.given]), tracer.given, strict=True)
    return graph, {address: output.node for address, (_, output) in outputs if isinstance(output, fx.Proxy)}


def _run(tracer: fx.Tracer, network: nn.Module, wrong: str) -> fx.Graph:
    _, *others = inspect.signature(network.forward).parameters.values()
    optional = {one.name: one.default for one in others if one.default is not one.empty}
    try:
        return tracer.trace(network, optional or None)
    except Exception as error:  # of any code that computes with what a proxy does not have
        raise SubjectError(f"{type(network).__name__} {wrong}: {reason(error)}") from error


def module_calls(graph: fx.Graph) -> dict[str, fx.Node]:
    """Address of each call of a module → its node."""
    nodes = [node for node in graph.nodes if node.op == "call_module"]
    return dict(zip(_addresses([str(node.target) for node in nodes]), nodes, strict=True))


def _addresses(names: Sequence[str]) -> list[str]:
    """Names of calls in their order, with an index where there are several of a name."""
    times, so_far, found = Counter(names), Counter[str](), []
    for name in names:
        found.append(f"{name}#{so_far[name]}" if times[name] > 1 else name)
        so_far[name] += 1
    return found


def where(node: fx.Node, root: nn.Module) -> str:
    """Say what a node does, and in which module."""
    if node.op == "call_module":
        return f"layer {str(node.target)!r} ({type(root.get_submodule(str(node.target))).__name__})"
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
    modules = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values() if path]
    return f"{name!r} in " + (f"layer {modules[-1]!r}" if modules else "the network's own forward pass")
