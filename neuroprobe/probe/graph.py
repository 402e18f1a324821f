"""The graph of a network's forward pass, by torch.fx, traced only as deep as it has to be cut."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterable

from torch import fx, nn

from neuroprobe.errors import SubjectError, reason


class _Tracer(fx.Tracer):
    """Traces through the modules that hold the layers at which a network is cut; all others are single calls."""

    def __init__(self, layers: Iterable[str]) -> None:
        super().__init__()
        self._opened = {one[:place] for one in layers for place, character in enumerate(one) if character == "."}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module is a single call."""
        return module_qualified_name not in self._opened


def trace(network: nn.Module, layers: Iterable[str]) -> fx.Graph:
    """Trace the forward pass of a network that is cut at some layers.

    Raises
    ------
    SubjectError
        If it cannot be traced.
    """
    _, *others = inspect.signature(network.forward).parameters.values()
    optional = {one.name: one.default for one in others if one.default is not one.empty}
    try:
        return _Tracer(layers).trace(network, optional or None)
    except Exception as error:  # of any code that computes with what a proxy does not have
        raise SubjectError(
            f"{type(network).__name__} cannot be cut, as its forward pass cannot be traced by torch.fx: {reason(error)}"
        ) from error


def module_calls(graph: fx.Graph) -> dict[str, fx.Node]:
    """Address of each call of a module → its node."""
    nodes = [node for node in graph.nodes if node.op == "call_module"]
    times, so_far, found = Counter(str(node.target) for node in nodes), Counter[str](), {}
    for node in nodes:
        name = str(node.target)
        found[f"{name}#{so_far[name]}" if times[name] > 1 else name] = node
        so_far[name] += 1
    return found
