"""Forward passes of one network under many masks, which share what lies before the first layer that is masked.

The forward pass is cut by torch.fx behind all that no mask can change: that is computed once for a batch of images,
and what comes behind it for several masks at a time. A network that cannot be cut runs as a whole for every mask.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, fx, nn

from neuroprobe.errors import SubjectError
from neuroprobe.probe.graph import module_calls, trace
from neuroprobe.probe.lesion import INTACT, Lesion, lesioned

Values = tuple[Tensor, ...]  # what is computed before the first masked layer, of n images each
TOLERANCE: Final = 1e-4  # of the largest output, up to which both ways are taken to agree


@dataclass(frozen=True)
class Cut:
    """A forward pass in two parts.

    Attributes
    ----------
    before : torch.nn.Module
        From images to a tuple of values.
    behind : torch.nn.Module
        From these values, spread over masks, and the masks of the layers within, to outputs.
    masked : tuple of int
        For each value the number of the layer that it is the response of, which is to be masked; -1 for others.
    within : tuple of int
        Numbers of the layers that are masked within the second part.
    """

    before: nn.Module
    behind: nn.Module
    masked: tuple[int, ...]
    within: tuple[int, ...]


class MaskedPasses:
    """Forward passes under masks of some layers.

    Parameters
    ----------
    network : torch.nn.Module
    layers : mapping
        Address of each layer that is masked → shape of its response to one image.
    images : tensor (n, 3, height, width)
        At least two, as the network expects them: the cut network is compared with the whole one on them.
    lesion : Lesion, optional
        What is in the network beside the masks.

    Attributes
    ----------
    cut : Cut or None
        None where the network runs as a whole.
    why : str
        Why it does.

    Raises
    ------
    SubjectError
        If a mask of these layers does not change the output.

    Examples
    --------
    >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sigmoid(), nn.Flatten(), nn.Linear(144, 5)).eval()
    >>> images = torch.ones(2, 3, 8, 8)
    >>> with torch.no_grad():
    ...     passes = MaskedPasses(network, {"1": (4, 6, 6)}, images)
    ...     outputs = passes.outputs(passes.before(images), [torch.stack([torch.ones(4, 6, 6), torch.zeros(4, 6, 6)])])
    ...     intact = network(images)
    >>> outputs.shape, torch.equal(outputs[0], intact), torch.equal(outputs[1, 0], network[3].bias)
    (torch.Size([2, 2, 5]), True, True)
    """

    def __init__(
        self, network: nn.Module, layers: Mapping[str, Sequence[int]], images: Tensor, lesion: Lesion = INTACT
    ) -> None:
        self._network, self._layers, self._lesion = network, tuple(layers), lesion
        self.cut: Cut | None = None
        self.why = ""
        with torch.no_grad():
            masks = self._trial(list(layers.values()), images.device)
            expected = self.outputs((images,), masks)
            if torch.equal(expected[0], expected[1]):
                raise SubjectError(
                    f"silencing {', '.join(map(repr, layers))} does not change the outputs of the network: take layers "
                    "that these are made of"
                )
            try:
                self.cut = cut_network(network, self._layers, lesion)
                found = self.outputs(self.before(images), masks)
                if float((found - expected).abs().max()) > TOLERANCE * (float(expected.abs().max()) + 1e-12):
                    raise SubjectError(f"{type(network).__name__} gives other outputs when its forward pass is cut")
            except (SubjectError, RuntimeError) as error:
                self.cut, self.why = None, str(error)

    @staticmethod
    def _trial(shapes: Sequence[Sequence[int]], device: torch.device) -> list[Tensor]:
        """Masks of 1, of 0, and of both in turn, for each layer."""
        masks = []
        for shape in shapes:
            ones = torch.ones(tuple(shape), device=device)
            in_turn = (torch.arange(ones.numel(), device=device) % 2).view(ones.shape).to(ones.dtype)
            masks.append(torch.stack([ones, torch.zeros_like(ones), in_turn]))
        return masks

    @property
    def shares(self) -> bool:
        """Whether what lies before the masked layers is computed once for all masks."""
        return self.cut is not None

    def before(self, images: Tensor) -> Values:
        """Compute what no mask changes: the images themselves, where the network runs as a whole."""
        if self.cut is None:
            return (images,)
        found: Values = self.cut.before(images)
        return found

    def outputs(self, values: Values, masks: Sequence[Tensor]) -> Tensor:
        """Compute outputs under some masks.

        Parameters
        ----------
        values : tuple of tensors (n, …)
            As `before` gives them.
        masks : sequence of tensors (k, …)
            Of each layer in turn, each in the shape of its response.

        Returns
        -------
        Tensor (k, n, outputs)
        """
        k, n = len(masks[0]), len(values[0])
        if self.cut is None:
            return torch.stack([self._whole(values[0], [mask[number] for mask in masks]) for number in range(k)])
        spread = (
            # a copy in any case: what comes behind may work in place
            _masked(value, masks[layer]) if layer >= 0 else value.repeat(k, *[1] * (value.ndim - 1))
            for value, layer in zip(values, self.cut.masked, strict=True)
        )
        return self.cut.behind(*spread, *(masks[layer] for layer in self.cut.within)).view(k, n, -1)

    def _whole(self, images: Tensor, masks: Sequence[Tensor]) -> Tensor:
        lesion = self._lesion * Lesion(
            {layer: mask.cpu().numpy() for layer, mask in zip(self._layers, masks, strict=True)}
        )
        with lesioned(self._network, lesion) as network:
            found: Tensor = network(images)
        return found


def _masked(response: Tensor, masks: Tensor) -> Tensor:
    """Responses (n, …) under masks (k, …), mask by mask: (k·n, …)."""
    return (response.unsqueeze(0) * masks.unsqueeze(1)).flatten(0, 1)


def _masked_again(response: Tensor, masks: Tensor) -> Tensor:
    """Multiply responses (k·n, …), mask by mask, by masks (k, …)."""
    return (response.unflatten(0, (len(masks), -1)) * masks.unsqueeze(1)).flatten(0, 1)


def cut_network(network: nn.Module, layers: Sequence[str], lesion: Lesion = INTACT) -> Cut:
    """Cut the forward pass of a network behind all that masks of some layers cannot change.

    Raises
    ------
    SubjectError
        If it cannot be traced, or a layer is no single call of the part that is traced.
    """
    graph = trace(network, [*layers, *lesion.masks])
    calls = module_calls(graph)
    for layer in (*layers, *lesion.masks):
        if layer not in calls:
            raise SubjectError(f"layer {layer!r} holds another masked layer, or is no single call")
    root = nn.Module()
    for name, module in network.named_children():
        root.add_module(name, module)
    for name, tensor in (*network.named_parameters(recurse=False), *network.named_buffers(recurse=False)):
        root.register_buffer(name, tensor)
    device = next(network.parameters(), torch.empty(0)).device
    for number, (layer, mask) in enumerate(lesion.masks.items()):
        name = f"neuroprobe_lesion_{number}"
        root.register_buffer(name, torch.tensor(mask, device=device))
        calls[layer] = _insert(graph, calls[layer], name)
    masked = [calls[layer] for layer in layers]
    changed = set(masked)
    order = list(graph.nodes)
    for node in order:
        if node not in changed and changed.intersection(node.all_input_nodes):
            changed.add(node)
    # responses that no other mask changes are the last that are computed once
    first = [node for node in masked if not any(one in changed for one in node.all_input_nodes)]
    behind = {node for node in changed if node not in first}
    used = [node for node in order if node not in behind and any(user in behind for user in node.users)]
    crossing = [node for node in used if node.op != "get_attr"]
    if not any(node.op == "output" for node in behind):
        raise SubjectError("its outputs are not made of the masked layers")
    before = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in order:
        if node not in behind and node.op != "output":
            copies[node] = before.node_copy(node, copies.__getitem__)
    before.output(tuple(copies[node] for node in crossing))
    after, copied = fx.Graph(), {}
    for number, node in enumerate(crossing):
        copied[node] = after.placeholder(f"value_{number}")
    within = [number for number, node in enumerate(masked) if node in behind]
    masks = {number: after.placeholder(f"mask_{number}") for number in within}
    for node in order:
        if node.op == "get_attr" and node in used:
            copied[node] = after.node_copy(node)
        if node not in behind:
            continue
        copied[node] = after.node_copy(node, copied.__getitem__)
        if node in masked:
            copied[node] = after.call_function(_masked_again, (copied[node], masks[masked.index(node)]))
    numbers = tuple(masked.index(node) if node in first else -1 for node in crossing)
    name = type(network).__name__
    return Cut(fx.GraphModule(root, before, name), fx.GraphModule(root, after, name), numbers, tuple(within))


def _insert(graph: fx.Graph, node: fx.Node, name: str) -> fx.Node:
    """Put the product with a constant mask behind a node, for all that use it."""
    users = list(node.users)
    with graph.inserting_after(node):
        mask = graph.get_attr(name)
    with graph.inserting_after(mask):
        product = graph.call_function(operator.mul, (node, mask))
    for user in users:
        user.replace_input_with(node, product)
    return product
