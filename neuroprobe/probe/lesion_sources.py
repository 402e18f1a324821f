"""Lesions as a protocol describes them: from a map of a result, a query of units, a file of arrays, or at random."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from operator import mul
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor, nn

from neuroprobe import names
from neuroprobe.analysis.select import opened, select_units
from neuroprobe.analysis.sensitivity import recorded_order
from neuroprobe.analysis.units import unit_dims
from neuroprobe.design.randomness import generator
from neuroprobe.errors import ReaderError, SubjectError, UnknownNameError, about, reason, shown, unknown_name
from neuroprobe.probe.capture import Layer, list_layers, no_such_layer
from neuroprobe.probe.lesion import INTACT, Lesion
from neuroprobe.probe.sites import DIMS
from neuroprobe.protocol.lesion import BY_REST, ArrayLesion, LesionSpec, MapLesion, RandomLesion, RuleSpec, UnitsLesion
from neuroprobe.statistics.masks import clip_map, count_share, shuffled_mask, soft_mask, top_mask

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Target:
    """A network that lesions are made for.

    Attributes
    ----------
    network : torch.nn.Module
    image : tensor (1, 3, height, width)
        As the network expects it, on its device; it decides on the shapes of layers.
    name : str
        As protocols name it; empty where any name will do.
    digest : str
        Hash of its weights.
    """

    network: nn.Module
    image: Tensor
    name: str
    digest: str

    @cached_property
    def layers(self) -> dict[str, Layer]:
        """Layers by address, in the order of the forward pass."""
        return {layer.address: layer for layer in list_layers(self.network, self.image)}

    def shape(self, layer: str) -> Shape:
        """Shape of the response of a layer to one image.

        Raises
        ------
        UnknownNameError, SubjectError
            If there is no such layer, or its response is not one of units.
        """
        if layer not in self.layers:
            raise UnknownNameError(no_such_layer(layer, self.layers, self.network))
        shape = self.layers[layer].shape
        if not _holds_units(shape):
            given = "no tensor" if shape is None else f"{shape} per image"
            raise SubjectError(
                f"layer {layer!r} gives {given}, expected (channels,), (tokens, channels) or (channels, height, "
                "width); take a layer inside or beside it"
            )
        assert shape is not None
        return shape


def _holds_units(shape: Shape | None) -> bool:
    return shape is not None and len(shape) + 1 in DIMS


def make_lesion(specs: Sequence[LesionSpec], target: Target) -> Lesion:
    """Make the lesions of a protocol, multiplied together.

    Raises
    ------
    UnknownNameError
        If the network or a result lacks a layer, or a result a factor.
    SubjectError
        If a result is of another network or of layers of other shapes, or nothing would be masked.
    QueryError, ReaderError, StoreError
        If a query does not fit, or a file or a result cannot be read.
    """
    lesions = []
    for number, spec in enumerate(specs):
        with about(number):
            lesions.append(_make_one(spec, target))
    return reduce(mul, lesions, INTACT)


def _make_one(spec: LesionSpec, target: Target) -> Lesion:
    match spec:
        case MapLesion():
            return _by_map(spec, target)
        case UnitsLesion():
            return _by_units(spec, target)
        case ArrayLesion():
            return _by_array(spec, target)
        case RandomLesion():
            return _at_random(spec, target)


def _finished(
    spec: LesionSpec,
    masks: Mapping[str, NDArray[np.float32]],
    candidates: Mapping[str, NDArray[np.bool_]] | None = None,
    counts: Mapping[str, Mapping[str, int]] | None = None,
    result_hash: str | None = None,
) -> Lesion:
    """Lesion with its provenance: the words of the protocol, and how many units are masked, undefined, clipped."""
    lesion = Lesion(masks, candidates or {})
    if not isinstance(spec, ArrayLesion) and not sum(lesion.n_masked.values()):
        where = ", ".join(masks) or "any layer"
        raise SubjectError(f"the lesion masks no unit of {where}: take a larger share, other units or other layers")
    layers = {
        layer: {"n_units": mask.size, "n_masked": lesion.n_masked[layer], **(counts or {}).get(layer, {})}
        for layer, mask in lesion.masks.items()
    }
    source = {} if result_hash is None else {"result_hash": result_hash}
    words = spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    return replace(lesion, origin=({**words, **source, "layers": layers},))


def _by_map(spec: MapLesion, target: Target) -> Lesion:
    with _source(spec, target) as (tree, result_hash):
        if spec.analysis not in tree.children:
            message = f"{spec.result!r}: " + unknown_name("analysis", spec.analysis, tree.children)
            raise ReaderError(message).about("analysis")
        group = tree.children[spec.analysis]
        masks, candidates, counts = {}, {}, {}
        for layer in _chosen_layers(spec, recorded_order(group)):
            dataset, shape = group[layer].to_dataset(), target.shape(layer)
            index = _fitting_index(dataset, layer, shape, spec.result)
            clipped, n_clipped = clip_map(_factor_map(dataset, spec, layer, shape))
            native = np.full(shape, np.nan)  # channels that were not recorded are no candidates
            native[index] = clipped
            masks[layer], candidates[layer] = _rule(spec.rule, native), np.isfinite(native)
            counts[layer] = {"n_undefined": int(np.isnan(clipped).sum()), "n_clipped": n_clipped}
    return _finished(spec, masks, candidates, counts, result_hash)


def _rule(rule: RuleSpec, sensitivity: NDArray[np.float64]) -> NDArray[np.float32]:
    if isinstance(rule.multiply, str):
        return soft_mask(sensitivity, remaining=rule.multiply == BY_REST)
    assert rule.quantile is not None
    return top_mask(sensitivity, rule.quantile, rule.multiply)


@contextmanager
def _source(spec: MapLesion | UnitsLesion, target: Target) -> Iterator[tuple[xr.DataTree, str]]:
    """Open the result of a lesion, with the hash of where it comes from; it has to be of the network."""
    assert spec.result is not None
    with ExitStack() as stack:
        with about("from"):
            tree = stack.enter_context(opened(spec.result))
            found = _same_network(tree, spec, target)
        yield tree, found


def _same_network(tree: xr.DataTree, spec: MapLesion | UnitsLesion, target: Target) -> str:
    """Refuse a result of another network or of other weights; return the hash of where it comes from."""
    text = str(tree.attrs.get(names.PROVENANCE, "{}"))
    details = json.loads(text)
    network = details.get("protocol", {}).get("subject", {}).get("network", "")
    digest = details.get("weights_hash", "")
    same = digest == target.digest and target.name in {"", network}
    if not same and not spec.any_network:
        raise SubjectError(
            f"{spec.result!r} is a result of network {network!r} with the weights {digest[:8]}…, expected "
            f"{target.name or type(target.network).__name__!r} with the weights {target.digest[:8]}…: take a result of "
            "this network, or write `any_network: true`"
        )
    return hashlib.sha256(text.encode()).hexdigest()


def _chosen_layers(spec: MapLesion | UnitsLesion, known: Sequence[str]) -> list[str]:
    for number, layer in enumerate(spec.layers or ()):
        if layer not in known:
            message = f"{spec.result!r}: " + unknown_name("layer", layer, known)
            raise UnknownNameError(message).about("layers", number)
    return list(known if spec.layers is None else spec.layers)


def _factor_map(dataset: xr.Dataset, spec: MapLesion, layer: str, shape: Shape) -> NDArray[np.float64]:
    """Map of the factor of a lesion, over all dimensions of a layer."""
    dims = DIMS[len(shape) + 1]
    if unit_dims(dataset) != dims:
        raise SubjectError(
            f"{spec.result!r} holds layer {layer!r} over {', '.join(unit_dims(dataset))}, expected "
            f"{', '.join(dims)}: record it without `reduce`"
        ).about("from")
    factors = [str(factor) for factor in dataset[names.FACTOR].values]
    if spec.factor not in factors:
        raise UnknownNameError(f"{spec.result!r}: " + unknown_name("factor", spec.factor, factors)).about("factor")
    value = dataset[spec.value or names.SHAPLEY_EFFECT].isel({names.FACTOR: factors.index(spec.factor)})
    return np.asarray(value.transpose(*dims).values, dtype=np.float64)


def _fitting_index(dataset: xr.Dataset, layer: str, shape: Shape, source: str) -> tuple[Any, ...]:
    """Index of the units of a result within a layer of the network; its shape has to be that of the layer."""
    sizes = dict(zip(DIMS[len(shape) + 1], shape, strict=True))
    own = unit_dims(dataset)
    listed = dataset[names.CHANNEL].values if names.CHANNEL in dataset.coords else None
    fits = set(own) <= set(sizes) and all(dataset.sizes[dim] == sizes[dim] for dim in own if dim != names.CHANNEL)
    if fits:
        n_channels = sizes[names.CHANNEL]
        fits = dataset.sizes[names.CHANNEL] == n_channels if listed is None else int(listed.max()) < n_channels
    if not fits:
        found = ", ".join(f"{dim}: {dataset.sizes[dim]}" for dim in own)
        raise SubjectError(
            f"{source!r} holds layer {layer!r} with the units ({found}), and the network's has {shape}: take a result "
            "of the same layers, for images of the same size"
        ).about("from")
    return tuple(listed if dim == names.CHANNEL and listed is not None else slice(None) for dim in sizes)


def _by_units(spec: UnitsLesion, target: Target) -> Lesion:
    if spec.result is None:
        return _by_places(spec, target)
    with _source(spec, target) as (tree, result_hash):
        nodes: dict[str, dict[str, xr.Dataset]] = {}
        for node in tree.subtree:
            if unit_dims(node.to_dataset()):
                nodes.setdefault(node.name or "", {})[node.path] = node.to_dataset()
        of_layers = _subtree(nodes, _chosen_layers(spec, list(nodes)))
        with about("units"):
            found = select_units(of_layers, spec.units)
        for layer in pd.unique(_layers(found)):
            for dataset in nodes[layer].values():
                _fitting_index(dataset, layer, target.shape(layer), spec.result)
        chosen = _per_layer(found, target)
        if not chosen:
            return _finished(spec, {})
        # true of all units for which the query has an answer
        answered = select_units(_subtree(nodes, chosen), f"({spec.units}) or not ({spec.units})")
        every = select_units(_subtree(nodes, chosen), columns=[str(name) for name in answered.variables])
        n_undefined = pd.Series(_layers(every)).value_counts() - pd.Series(_layers(answered)).value_counts()
        counts = {layer: {"n_undefined": int(n_undefined[layer])} for layer in chosen}
        candidates = _per_layer(answered, target)
    return _finished(spec, _masks_at(chosen, spec.multiply), candidates, counts, result_hash)


def _subtree(nodes: Mapping[str, Mapping[str, xr.Dataset]], layers: Iterable[str]) -> xr.DataTree:
    """Tree of what the groups of a result hold of some layers."""
    return xr.DataTree.from_dict({path: node for layer in layers for path, node in nodes[layer].items()})


def _layers(units: xr.Dataset) -> NDArray[Any]:
    """Layer of each unit."""
    return np.asarray(units[names.LAYER].values, dtype=object)


def _by_places(spec: UnitsLesion, target: Target) -> Lesion:
    """Lesion by a query of the layers and places that the network has."""
    layers = [layer for layer, one in target.layers.items() if _holds_units(one.shape) and "/" not in layer]
    for number, layer in enumerate(spec.layers or ()):
        with about("layers", number):
            target.shape(layer)
    places = {}
    for layer in spec.layers or layers:
        shape = target.shape(layer)
        dims = DIMS[len(shape) + 1]
        places[f"/{layer}"] = xr.Dataset(coords={dim: np.arange(n) for dim, n in zip(dims, shape, strict=True)})
    with about("units"):
        chosen = _per_layer(select_units(xr.DataTree.from_dict(places), spec.units), target)
    return _finished(spec, _masks_at(chosen, spec.multiply))


def _per_layer(units: xr.Dataset, target: Target) -> dict[str, NDArray[np.bool_]]:
    """Where in their layers units are; all places of a channel where it has none."""
    found = {}
    of_layer = _layers(units)
    for layer in pd.unique(of_layer):
        shape, rows = target.shape(layer), of_layer == layer
        dims = DIMS[len(shape) + 1]
        numbers = [units[dim].values[rows].astype(float) if dim in units.coords else np.full(1, np.nan) for dim in dims]
        found[layer] = np.zeros(shape, dtype=bool)
        index = tuple(slice(None) if np.isnan(number).all() else number.astype(int) for number in numbers)
        found[layer][index] = True
    return found


def _masks_at(chosen: Mapping[str, NDArray[np.bool_]], multiply: float) -> dict[str, NDArray[np.float32]]:
    return {layer: np.where(where, multiply, 1).astype(np.float32) for layer, where in chosen.items()}


def _by_array(spec: ArrayLesion, target: Target) -> Lesion:
    with about("array"):
        try:
            with np.load(spec.array, allow_pickle=False) as file:
                masks = {layer: file[layer] for layer in file.files}
        except FileNotFoundError:
            raise ReaderError(f"masks {spec.array!r}: no such file; expected .npz with one array per layer") from None
        except Exception as error:  # whatever else is wrong with a file
            raise ReaderError(
                f"masks {spec.array!r} cannot be read ({reason(error)}): expected .npz with one array of numbers per "
                "layer, as numpy.savez writes it"
            ) from error
        if not masks:
            raise ReaderError(f"masks {spec.array!r} hold no array, expected one per layer")
        for layer, mask in masks.items():
            if mask.shape != target.shape(layer):
                raise SubjectError(
                    f"masks {spec.array!r}: the array of layer {layer!r} is {mask.shape}, expected "
                    f"{target.shape(layer)}, the shape of its response to one image"
                )
        return _finished(spec, masks)


def _at_random(spec: RandomLesion, target: Target) -> Lesion:
    masks = {}
    for number, layer in enumerate(spec.layers):
        with about("layers", number):
            shape = target.shape(layer)
        mask = np.ones(shape, dtype=np.float32)
        mask.flat[: count_share(spec.random.share, mask.size)] = spec.multiply
        random = generator(spec.random.seed, f"random lesion of {layer}")
        masks[layer] = shuffled_mask(mask, np.ones(shape, dtype=bool), random)
    return _finished(spec, masks)


def require_effect(lesion: Lesion, target: Target, recorded: Sequence[str]) -> None:
    """Refuse a lesion of a layer that is called after all that is recorded.

    Raises
    ------
    SubjectError
    """
    order = list(target.layers)
    last = max(recorded, key=order.index)
    for layer in lesion.masks:
        if order.index(layer) > order.index(last):
            raise SubjectError(
                f"a lesion of layer {shown(layer)} has no effect on what is recorded: {last!r} is the last layer, and "
                "comes before it; record a layer behind the lesion, or leave the layer out of it"
            )
