"""The passage from an image to a layer, cut down to what some of the layer's units need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_map_only

from neuroprobe.errors import SubjectError
from neuroprobe.probe.extents import Cut, Extents, follow
from neuroprobe.probe.graph import masked_response, trace_operations, where
from neuroprobe.probe.lesion import Lesion
from neuroprobe.probe.parts import NEW, Call, Run, on_part
from neuroprobe.probe.receptive_field import ReceptiveField
from neuroprobe.probe.windows import SAME, Windows, operation_name, tensors

N_REFERENCE: Final = 2  # images that show which axis is theirs
SIZES: Final = frozenset({"size", "dim", "getattr", "len", "numel"})  # tell nothing of the values of a map
OVERWRITTEN: Final = "reads a map of which an operation has overwritten a part"


class Impassable(Exception):  # noqa: N818 - it says that there is another way to go
    """Raised with the reason why a layer's units cannot be had from parts of the image."""


class Step(NamedTuple):
    """An operation on the way.

    Attributes
    ----------
    sources : mapping
        Node of an argument → number of the step whose map it is.
    windows : pair of Window
    size : tuple of int
        Rows and columns of the whole map.
    run : callable
    copied : bool
        Whether it overwrites a map that may be read otherwise, and has to be given copies.
    mask : array, optional
        That multiplies what it takes, at their places in the whole map.
    """

    sources: dict[fx.Node, int]
    windows: Windows
    size: tuple[int, int]
    run: Run
    copied: bool = False
    mask: NDArray[np.float32] | None = None


class Passage:
    """The operations between an image and a layer, run on the parts of maps that a unit of the layer needs.

    Parameters
    ----------
    network : torch.nn.Module
    layer : str
        Address of a layer that gives maps.
    image : tensor (1, channels, height, width)
    field : ReceptiveField
        Of the layer.
    lesion : Lesion

    Raises
    ------
    Impassable
        If the operations cannot be run on parts of maps.

    Attributes
    ----------
    rows, columns : Extents
    """

    def __init__(self, network: nn.Module, layer: str, image: Tensor, field: ReceptiveField, lesion: Lesion) -> None:
        self._steps = _read(network, layer, image, lesion)
        steps = self._steps
        self._last_use = _last_uses([set(step.sources.values()) for step in steps])
        self._masks: dict[tuple[int, torch.device, torch.dtype], Tensor] = {}
        self.rows, self.columns = (
            self._follow(axis, field, steps[-1].size[axis], image.shape[axis - 2]) for axis in (0, 1)
        )

    def _follow(self, axis: int, field: ReceptiveField, n_units: int, n_pixels: int) -> Extents:
        at = np.arange(n_units)
        box = field.box(at, 0) if axis == 0 else field.box(0, at)
        # a unit that sees nothing but padding is shown the nearest pixel
        first, last = np.clip(box[axis], 0, n_pixels - 1), np.clip(box[axis + 2], 1, n_pixels)
        return follow(
            [tuple(set(step.sources.values())) for step in self._steps],
            [step.windows[axis] for step in self._steps],
            [step.size[axis] for step in self._steps],
            (first, last),
        )

    def respond(self, crops: Tensor, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Tensor:
        """Respond to crops (n, channels, height, width) at places that all go one way.

        Returns
        -------
        tensor (n, channels)
        """
        row, column = int(rows[0]), int(columns[0])
        values: dict[int, Any] = {0: crops}
        for number, step in enumerate(self._steps[1:], 1):
            parts, pads = {}, (0, 0, 0, 0)
            for node, source in step.sources.items():
                down, across = self.rows.cut(number, source, row), self.columns.cut(number, source, column)
                parts[node] = _cut(values[source], down, across, copied=step.copied)
                pads = (across.before, across.after, down.before, down.after)
            values[number] = step.run(parts, pads)
            if step.mask is not None:
                first = self.rows.start[number][rows], self.columns.start[number][columns]
                values[number] = values[number] * self._mask(number, step.mask, values[number], *first)
            del parts
            for done in self._last_use[number]:
                del values[done]
        (response,) = values.values()
        return response[:, :, 0, 0]

    def _mask(
        self,
        number: int,
        mask: NDArray[np.float32],
        response: Tensor,
        tops: NDArray[np.int64],
        lefts: NDArray[np.int64],
    ) -> Tensor:
        """Parts (n, …) of a mask that lie where the parts of a map do; one for all where it is the same everywhere."""
        key = number, response.device, response.dtype
        if key not in self._masks:
            alike = (mask == mask[..., :1, :1]).all()
            kept = np.ascontiguousarray(mask[..., :1, :1] if alike else mask)
            self._masks[key] = torch.tensor(kept, device=response.device, dtype=response.dtype)
        kept_mask = self._masks[key]
        if kept_mask.shape[-2:] == (1, 1):
            return kept_mask
        height, width = response.shape[-2:]
        down = torch.as_tensor(tops[:, None, None] + np.arange(height)[:, None], device=response.device)
        across = torch.as_tensor(lefts[:, None, None] + np.arange(width), device=response.device)
        return kept_mask[..., down, across].movedim(-3, 0)


def _cut(value: Any, down: Cut, across: Cut, *, copied: bool) -> Any:
    """Cut a part out of a part of a map, or out of each map of several."""

    def one(part: Tensor) -> Tensor:
        found = part[..., down.start : down.stop, across.start : across.stop]
        return found.clone() if copied else found

    return tree_map_only(Tensor, one, value)


def _last_uses(sources: Sequence[set[int]]) -> list[list[int]]:
    """Steps whose maps nobody reads after each step; those that nobody reads at all are not there."""
    last = {source: number for number, read in enumerate(sources) for source in read}
    return [[source for source, at in last.items() if at == number] for number in range(len(sources))]


def _read(network: nn.Module, layer: str, image: Tensor, lesion: Lesion) -> list[Step]:
    """Read the steps from the image, which is the first, to a layer, which is the last."""
    for name, module in network.named_modules():
        if module._forward_hooks or module._forward_pre_hooks:
            what = f"layer {name!r}" if name else "the network"
            raise Impassable(f"{what} ({type(module).__name__}) has forward hooks, which may do anything to a map")
    try:
        # the layer has a node of its own, at the place where a hook would see its response
        graph, outputs = trace_operations(network, {layer, *lesion.masks})
    except SubjectError as error:
        raise Impassable(str(error)) from error
    if layer not in outputs:
        raise Impassable(f"layer {layer!r} is part of a module that is followed as a whole")
    traced = {str(node.args[1]) for node in graph.nodes if node.target is masked_response}
    hidden = sorted(set(lesion.masks) - traced)
    if hidden:
        raise Impassable(f"layer {hidden[0]!r}, which has a lesion, is part of a module that is followed as a whole")
    last = outputs[layer]
    for node in reversed(list(graph.nodes)):
        if node is last:
            break
        graph.erase_node(node)
    graph.output(last)
    reference = _Reference(network, graph, lesion)
    with torch.no_grad():
        reference.run(image.expand(N_REFERENCE, *image.shape[1:]).clone())
    return reference.steps(last)


class _Reference(fx.Interpreter):
    """Runs a graph on whole images, and reads how each operation is run on parts of maps."""

    def __init__(self, network: nn.Module, graph: fx.Graph, lesion: Lesion) -> None:
        super().__init__(fx.GraphModule(network, graph))
        self._lesion = lesion
        self._order = {node: number for number, node in enumerate(graph.nodes)}
        self._results: dict[fx.Node, Any] = {}  # all are kept, so that no two share memory by chance
        self._writers: dict[int, fx.Node] = {}  # memory → the last operation that has overwritten it
        self._steps: dict[fx.Node, Step | str] = {}  # of maps that are made of the image

    def run_node(self, n: fx.Node) -> Any:
        """Run an operation and read it."""
        if n.op == "output":
            return super().run_node(n)
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        versions = [(one, one._version) for one in tensors((args, kwargs))]
        result = self._results[n] = super().run_node(n)
        overwritten = [one for one, version in versions if one._version != version]
        if not self._steps:  # the first node is the image
            self._steps[n] = Step({}, SAME, _size(result), lambda parts, _: parts)
        else:
            step = self._step(n, args, kwargs, result, overwritten)
            if step is not None:
                self._steps[n] = step
        self._writers.update({_memory(one): n for one in overwritten})
        return result

    def _step(
        self, n: fx.Node, args: Sequence[Any], kwargs: dict[str, Any], result: Any, overwritten: Sequence[Tensor]
    ) -> Step | str | None:
        """Read an operation: a step, why it is none, or None of what is not made of the image."""
        arguments = [one for one in n.all_input_nodes if one in self._steps]
        if not arguments:
            return None
        sources = {one: self._writer(one) for one in arguments}
        read = [self._steps[source] for source in sources.values() if source is not None]
        wrong = next((step for step in read if isinstance(step, str)), "")
        wrong = wrong or (f"{where(n, self.module)} {OVERWRITTEN}" if None in sources.values() else "")
        module = self.fetch_attr(str(n.target)) if n.op == "call_module" else None
        if wrong or not tensors(result):
            told = operation_name(n, module) in SIZES
            return wrong or (None if told else f"{where(n, self.module)} makes numbers of a map")
        maps = {one: self._results[one] for one in arguments}
        constants = {one: self._results[one] for one in n.all_input_nodes if one not in maps}
        masked = n.target is masked_response
        call = Call(n, module, args, kwargs, result, maps, constants)
        found = (SAME, lambda parts, _: parts[arguments[0]]) if masked else on_part(call)
        if isinstance(found, str):
            return f"{where(n, self.module)} {found}"
        numbers = {one: self._order[source] for one, source in sources.items() if source is not None}
        copied = bool(overwritten) and not self._is_free(arguments[0], n, overwritten)
        mask = self._lesion.masks.get(str(n.args[1])) if masked else None
        return Step(numbers, found[0], _size(result), found[1], copied, mask)

    def _writer(self, read: fx.Node) -> fx.Node | None:
        """Operation whose result is what a node's has become; None if another part of its memory was overwritten."""
        found = read
        for one in tensors(self._results[read]):
            writer = self._writers.get(_memory(one))
            if writer is not None and self._order[writer] > self._order[read]:
                (made, *_) = tensors(self._results[writer])
                if not (isinstance(self._results[read], Tensor) and _is_same(one, made)):
                    return None
                found = writer
        return found

    def _is_free(self, read: fx.Node, reader: fx.Node, overwritten: Sequence[Tensor]) -> bool:
        """Whether a reader can overwrite a map, and does only that: no other reads it or shares its memory."""
        module = self.fetch_attr(str(read.target)) if read.op == "call_module" else None
        alone = operation_name(read, module) in NEW and list(read.users) == [reader]
        return alone and all(_memory(one) == _memory(self._results[read]) for one in overwritten)

    def steps(self, last: fx.Node) -> list[Step]:
        """Steps that a layer needs, in the order of the forward pass; the sources of each by their place among them.

        Raises
        ------
        Impassable
            If the layer has none.
        """
        end = self._steps.get(last)
        if not isinstance(end, Step):
            raise Impassable(end or "the layer is not made of the image")
        nodes = list(self._order)
        image = next(iter(self._steps))
        needed, open_ = {self._order[image]}, [self._order[last]]
        while open_:
            number = open_.pop()
            if number not in needed:
                needed.add(number)
                step = self._steps[nodes[number]]
                assert isinstance(step, Step)
                open_ += step.sources.values()
        places = {number: place for place, number in enumerate(sorted(needed))}
        found = []
        for number in places:
            step = self._steps[nodes[number]]
            assert isinstance(step, Step)
            found.append(step._replace(sources={one: places[source] for one, source in step.sources.items()}))
        return found


def _memory(value: Tensor) -> int:
    return value.untyped_storage()._cdata


def _is_same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are the same view of the same memory."""
    return (one.shape, one.stride(), one.storage_offset()) == (other.shape, other.stride(), other.storage_offset())


def _size(result: Any) -> tuple[int, int]:
    """Rows and columns of a map, or of the first of several."""
    (first, *_) = tensors(result)
    return first.shape[-2], first.shape[-1]
