"""The layers that one tree, or several that are asked together, hold of the units of a network."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from itertools import combinations, count
from pathlib import PurePosixPath
from typing import Final

import numpy as np
import xarray as xr

from neuroprobe import names
from neuroprobe.analysis.units import UnitColumn, label_units, unit_columns, unit_dims
from neuroprobe.errors import ReaderError

ANALYSIS: Final = "analysis"  # attribute of what statistics of trials found of units: which of them
N_SHOWN: Final = 8  # characters of a hash, and layers, that a message shows


@dataclass(frozen=True)
class Node:
    """What one group of a tree holds of a layer.

    Attributes
    ----------
    layer : str
    group : str
        What stands before the layer in its path.
    tree : int
        Number of the tree, from 0.
    dataset : Dataset
    """

    layer: str
    group: str
    tree: int
    dataset: xr.Dataset

    @cached_property
    def columns(self) -> list[UnitColumn]:
        """Columns of a table of units."""
        return unit_columns(self.dataset)


def unit_nodes(trees: Sequence[xr.DataTree]) -> list[Node]:
    """Nodes that have units, by layer in the order of recording.

    Parameters
    ----------
    trees : sequence of DataTree
        Of several, layers of one name are one layer, with the channels that all trees that have the layer hold. A group
        that an earlier tree has too takes the number of its own: the second ``sobol`` is called ``sobol_2``. Units in
        one dimension that say which channel of which layer they are, as of `tuning`, are of the layers of others.

    Raises
    ------
    ReaderError
        If no node has units; of several trees, if these are of networks with other weights, or have no layer or no
        channel in common.
    """
    nodes = [node for number, tree in enumerate(trees) for node in _nodes_of(tree, number, len(trees) > 1)]
    if not nodes:
        raise ReaderError(
            f"no units in this tree: expected layers with the dimension {names.CHANNEL!r} or {names.UNIT!r}; "
            "open a result by `open_result`"
        )
    if len(trees) > 1:
        nodes = list(_by_their_layers(nodes))
        _require_one_network(trees, nodes)
        nodes = list(_with_common_channels(_apart(nodes)))
    depths = {node.layer: node.dataset.attrs["depth"] for node in nodes if "depth" in node.dataset.attrs}
    return sorted(nodes, key=lambda node: depths.get(node.layer, 0))


def _nodes_of(tree: xr.DataTree, number: int, needs_group: bool) -> Iterator[Node]:
    for node in tree.subtree:
        dataset = node.to_dataset()
        if unit_dims(dataset):
            group = "_".join(PurePosixPath(node.relative_to(tree)).parts[:-1])
            if needs_group and not group:
                above = node.parent.name if node.parent is not None else None
                group = above or "result"
            layer = node.name or ""
            if ANALYSIS in dataset.attrs and names.UNIT in dataset.dims:
                # analyses of trials are about the same units, which say themselves what layer they are of
                group = "_".join(part for part in (group, layer) if part)
                layer = ""
            yield Node(layer, group, number, label_units(dataset))


def _by_their_layers(nodes: Sequence[Node]) -> Iterator[Node]:
    """Nodes, with those whose units say that they are channels of layers of other trees cut into these layers."""
    for node in nodes:
        others = {other.layer for other in nodes if other.tree != node.tree}
        if _says_layers(node.dataset) and others.intersection(map(str, node.dataset[names.LAYER].values)):
            yield from (replace(node, layer=layer, dataset=part) for layer, part in _by_layer(node.dataset))
        else:
            yield node


def _says_layers(dataset: xr.Dataset) -> bool:
    """Whether units say themselves which channel of which layer they are, and are all of a channel, as of `tuning`."""
    if names.UNIT not in dataset.dims or {names.Y, names.X, names.TOKEN} & set(dataset.coords):
        return False
    said = [dataset.coords[name] for name in (names.LAYER, names.CHANNEL) if name in dataset.coords]
    if len(said) < 2 or any(one.dims != (names.UNIT,) for one in said) or said[1].dtype.kind not in "iu":
        return False
    places = list(zip(said[0].values.tolist(), said[1].values.tolist(), strict=True))
    return len(set(places)) == len(places)


def _by_layer(dataset: xr.Dataset) -> Iterator[tuple[str, xr.Dataset]]:
    """Layers that units say they are of, and what is known of each, over its channels."""
    layers = dataset[names.LAYER].values.astype(object)
    for layer in dict.fromkeys(layers.tolist()):
        part = dataset.isel({names.UNIT: np.flatnonzero(layers == layer)}).drop_vars(names.LAYER)
        yield str(layer), part.swap_dims({names.UNIT: names.CHANNEL})


def weights_hash(tree: xr.DataTree) -> str | None:
    """Hash of the weights of the network that a result is of; None where it does not tell."""
    try:
        details = json.loads(tree.root.attrs[names.PROVENANCE])
        found = details.get("weights_hash")
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return found if isinstance(found, str) and found else None


def _require_one_network(trees: Sequence[xr.DataTree], nodes: Sequence[Node]) -> None:
    """Refuse results of networks with other weights, or without a layer in common."""
    hashes = {number: found for number, tree in enumerate(trees, 1) if (found := weights_hash(tree)) is not None}
    for (one, its), (other, others) in combinations(hashes.items(), 2):
        if its != others:
            raise ReaderError(
                f"results {one} and {other} are of networks with other weights (their hashes begin with "
                f"{its[:N_SHOWN]} and {others[:N_SHOWN]}), whose units have nothing in common but their numbers: "
                "select from each by itself"
            )
    layers: dict[int, list[str]] = {number: [] for number in range(len(trees))}
    for node in nodes:
        layers[node.tree].append(node.layer)
    for number, own in reversed(layers.items()):
        others_have = [layer for other, theirs in layers.items() if other != number for layer in theirs]
        if not set(own) & set(others_have):
            listed = [", ".join(map(repr, dict.fromkeys(some[:N_SHOWN]))) or "none" for some in (own, others_have)]
            raise ReaderError(
                f"result {number + 1} has no layer in common with the others: it has {listed[0]}, they have "
                f"{listed[1]}; give results of the same layers of one network"
            )


def _apart(nodes: Sequence[Node]) -> list[Node]:
    """Nodes whose groups have names of their own, tree by tree."""
    called: dict[tuple[int, str], str] = {}
    for node in nodes:
        if (node.tree, node.group) not in called:
            tried = (f"{node.group}_{number}" for number in count(node.tree + 1))
            taken = set(called.values())
            called[node.tree, node.group] = (
                node.group if node.group not in taken else next(name for name in tried if name not in taken)
            )
    return [replace(node, group=called[node.tree, node.group]) for node in nodes]


def _with_common_channels(nodes: Sequence[Node]) -> Iterator[Node]:
    """Nodes with the channels that all trees hold of a layer, in the order of the first."""
    of_layer: dict[str, list[Node]] = {}
    for node in nodes:
        of_layer.setdefault(node.layer, []).append(node)
    for node in nodes:
        numbers = [one.dataset[names.CHANNEL].values for one in of_layer[node.layer] if _has_channels(one)]
        several = len({one.tree for one in of_layer[node.layer] if _has_channels(one)}) > 1
        if not several or not _has_channels(node) or all(np.array_equal(one, numbers[0]) for one in numbers):
            yield node
            continue
        common = reduce(lambda left, right: left[np.isin(left, right)], numbers)
        if not len(common):
            raise ReaderError(f"the results have no channel of layer {node.layer!r} in common")
        own = node.dataset[names.CHANNEL].values
        places = [int(np.flatnonzero(own == channel)[0]) for channel in common]
        yield replace(node, dataset=node.dataset.isel({names.CHANNEL: places}))


def _has_channels(node: Node) -> bool:
    return names.UNIT not in node.dataset.dims
