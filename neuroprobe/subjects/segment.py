"""Segments: a stage of a network, detached from what lies before and behind it, that is shown one plane of an image.

Kharyuk et al. 2025, series 3 (arXiv 2503.03283): hue, saturation or value of the altered image, copied to as many
channels as the stage takes. The network is traced by torch.fx only as deep as the cut lies: all other modules stay
whole, under their own names.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from neuroprobe.errors import SubjectError, UnknownNameError, closest, reason, shown
from neuroprobe.probe.graph import module_calls, trace, where
from neuroprobe.protocol.subject import INPUT, LayerSpec, SegmentSpec
from neuroprobe.stimuli.alterations.colour import hsv

PLANES = ("hue", "saturation", "value")
AT_ONCE = 8  # images that are converted at a time: that takes many times the memory of a plane


@dataclass(frozen=True)
class Segment:
    """A stage of a network, and how images are made its input.

    Attributes
    ----------
    network : torch.nn.Module
        From the output of the first layer to that of the last.
    before : torch.nn.Module
        What comes before it, which decides on channels and size.
    plane : str
        One of `PLANES`.
    native : bool
        Whether planes have the size that the stage sees in the whole network, rather than that of the image.
    """

    network: nn.Module
    before: nn.Module
    plane: str
    native: bool
    _shapes: dict[tuple[int, ...], tuple[int, ...]] = field(default_factory=dict, repr=False, compare=False)

    def prepare(self, images: Tensor) -> Tensor:
        """Return one plane of images (n, 3, height, width) in [0, 1], in every channel: (n, channels, y, x)."""
        channels, *size = self._shape(images)
        planes = [self._plane(part, size) for part in images.split(AT_ONCE)]
        # a copy: the first module may work in place
        return torch.cat(planes).unsqueeze(1).repeat(1, channels, 1, 1)

    def _plane(self, images: Tensor, size: list[int]) -> Tensor:
        if self.native and list(images.shape[2:]) != size:
            # colours are averaged and not their hues, of which there is no mean on a circle
            images = functional.interpolate(images, size, mode="bilinear", antialias=True).clamp_(0, 1)
        return hsv(images)[PLANES.index(self.plane)]

    def _shape(self, images: Tensor) -> tuple[int, ...]:
        """Channels, height and width that the stage sees of images of this size in the whole network."""
        size = tuple(images.shape[1:])
        if size not in self._shapes:
            with torch.no_grad():
                try:
                    seen = self.before(torch.zeros_like(images[:1]))
                except Exception as error:  # of a network that takes other images
                    raise SubjectError(
                        f"segment: what comes before it cannot be shown an image of {' × '.join(map(str, size))}: "
                        f"{reason(error)}; give the size that it takes by `stimuli: {{images: {{size: …}}}}`"
                    ) from error
            if not isinstance(seen, Tensor) or seen.ndim != 4:
                given = tuple(seen.shape[1:]) if isinstance(seen, Tensor) else type(seen).__name__
                raise SubjectError(
                    f"segment: the layer before it gives {given} per image, expected (channels, height, width), for "
                    "which a plane of an image can stand: begin behind a layer that gives maps"
                ).about("segment", "from")
            self._shapes[size] = tuple(seen.shape[1:])
        return self._shapes[size]


def detach(network: nn.Module, spec: SegmentSpec, layers: Sequence[LayerSpec]) -> Segment:
    """Detach a segment of a network; both share their weights.

    Parameters
    ----------
    layers : sequence of LayerSpec
        What is recorded, which has to lie within the segment.

    Raises
    ------
    UnknownNameError
        If the network has no such layer, or a layer that is recorded lies outside of the segment.
    SubjectError
        If the network cannot be cut there.
    """
    graph = _traced(network, [name for name in (spec.start, spec.stop) if name != INPUT])
    calls = module_calls(graph)
    (image, *_) = (node for node in graph.nodes if node.op == "placeholder")
    stop = _find(network, calls, "to", spec.stop)
    start = image if spec.start == INPUT else _find(network, calls, "from", spec.start)
    inside = _between(network, graph, start, stop, spec)
    _require_inside(network, graph, inside, layers)
    stage, before = (
        fx.GraphModule(network, _subgraph(nodes, first, last), type(network).__name__)
        for nodes, first, last in ((inside, start, stop), (_needed(graph, image, start), image, start))
    )
    return Segment(stage, before, spec.plane, spec.size == "native")


def _traced(network: nn.Module, ends: Sequence[str]) -> fx.Graph:
    try:
        return trace(network, ends)
    except SubjectError as error:
        raise SubjectError(
            f"segment: {error}; take branches and loops over values of the response out of it, or record without "
            "segment"
        ) from error.__cause__


def _find(network: nn.Module, calls: dict[str, fx.Node], key: str, name: str) -> fx.Node:
    if name in calls:
        return calls[name]
    modules = [module for module, _ in network.named_modules() if module]
    several = [address for address in calls if address.startswith(f"{name}#")]
    if several:
        wrong = f"layer {name!r} is called {len(several)} times per image: say which, as {' or '.join(several)}"
    elif any(address.startswith(f"{name}.") for address in calls):
        wrong = f"layer {name!r} holds the other end of the segment: take the first or the last layer within it"
    elif name in modules:
        wrong = f"layer {name!r} exists and is not called when an image is shown: take another"
    else:
        wrong = f"unknown layer {shown(name)}{closest(name, modules)}; `neuroprobe list layers --network …` prints all"
    raise UnknownNameError(f"segment.{key}: {wrong}").about("segment", key)


def _between(network: nn.Module, graph: fx.Graph, start: fx.Node, stop: fx.Node, spec: SegmentSpec) -> list[fx.Node]:
    """Nodes behind `start` that `stop` is made of, in the order of the forward pass."""
    inside = _needed(graph, start, stop)
    behind = {start}
    for node in inside:
        if behind.intersection(node.all_input_nodes):
            behind.add(node)
    if stop is start or stop not in behind:
        raise SubjectError(
            f"segment: layer {spec.stop!r} is not made of the output of {spec.start!r}; let `from` lie before `to`"
        ).about("segment", "to")
    if any(node.op == "placeholder" for node in inside):
        crossing = next(node for node in inside if node in behind and not behind.issuperset(_computed(node)))
        raise SubjectError(
            f"segment: {where(crossing, network)} takes the output of {spec.start!r} together with what was computed "
            "before or beside it: a skip connection crosses the cut; begin behind the module that holds all of it"
        ).about("segment", "from")
    return inside


def _needed(graph: fx.Graph, start: fx.Node, stop: fx.Node) -> list[fx.Node]:
    """Nodes that `stop` is made of, itself included, as far back as `start`."""
    needed: set[fx.Node] = set()
    waiting = [stop]
    while waiting:
        node = waiting.pop()
        if node is not start and node not in needed:
            needed.add(node)
            waiting += node.all_input_nodes
    return [node for node in graph.nodes if node in needed]


def _computed(node: fx.Node) -> list[fx.Node]:
    """What a node takes, but for weights."""
    return [taken for taken in node.all_input_nodes if taken.op != "get_attr"]


def _require_inside(
    network: nn.Module, graph: fx.Graph, inside: Sequence[fx.Node], layers: Sequence[LayerSpec]
) -> None:
    """Refuse to record layers that lie outside, or whose calls would have other numbers than in the network."""
    called = {str(node.target) for node in inside if node.op == "call_module"}
    elsewhere = {str(node.target) for node in graph.nodes if node.op == "call_module" and node not in set(inside)}
    modules = dict(network.named_modules())
    for number, layer in enumerate(layers):
        name = layer.name.split("#")[0]
        above = {name[:place] for place, character in enumerate(f"{name}.") if character == "."}
        if name in modules and not above & called:
            raise UnknownNameError(
                f"layer {layer.name!r} lies outside of the segment, or holds one of its ends: record layers behind "
                "`from`, up to `to`"
            ).about("layers", number)
        if above & called & elsewhere:
            raise SubjectError(
                f"layer {layer.name!r} is called both in the segment and outside of it, so that its calls have other "
                "numbers here: record another"
            ).about("layers", number)


def _subgraph(nodes: Iterable[fx.Node], start: fx.Node, stop: fx.Node) -> fx.Graph:
    """Return a graph of some nodes, from the value of `start` to that of `stop`."""
    graph = fx.Graph()
    copies = {start: graph.placeholder("x")}
    for node in nodes:
        copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(copies[stop])
    return graph
