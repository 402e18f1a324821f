"""Lesions as a protocol describes them: from a map of a result, a query of units, a file of arrays, or at random."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from operator import mul
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.analysis.select import select_units
from neuroprobe.analysis.units import unit_dims
from neuroprobe.design.randomness import generator
from neuroprobe.errors import ReaderError, SubjectError, about, reason, shown
from neuroprobe.probe.lesion import INTACT, Lesion
from neuroprobe.probe.map_sources import (
    Target,
    chosen_layers,
    factor_map,
    fitting_index,
    holds_units,
    map_layers,
    maps_group,
    open_maps,
)
from neuroprobe.probe.sites import DIMS
from neuroprobe.protocol.lesion import BY_REST, ArrayLesion, LesionSpec, MapLesion, RandomLesion, RuleSpec, UnitsLesion
from neuroprobe.statistics.masks import count_share, shuffled_mask, soft_mask, top_mask


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
        if isinstance(spec, UnitsLesion):
            raise SubjectError(f"the query {spec.units!r} is true of no unit: look at its layers and numbers")
        where = ", ".join(masks)
        raise SubjectError(f"the lesion masks no unit of {where}: take a larger share or other layers")
    layers = {
        layer: {"n_units": mask.size, "n_masked": lesion.n_masked[layer], **(counts or {}).get(layer, {})}
        for layer, mask in lesion.masks.items()
    }
    source = {} if result_hash is None else {"result_hash": result_hash}
    words = spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    return replace(lesion, origin=({**words, **source, "layers": layers},))


def _by_map(spec: MapLesion, target: Target) -> Lesion:
    with open_maps(spec, target) as (tree, result_hash):
        group = maps_group(tree, spec)
        masks, candidates, counts = {}, {}, {}
        for layer in map_layers(group, spec, spec.layers):
            found = factor_map(group[layer].to_dataset(), spec, layer, spec.factor, target)
            masks[layer], candidates[layer] = _rule(spec.rule, found.sensitivity), np.isfinite(found.sensitivity)
            counts[layer] = {"n_undefined": found.n_undefined, "n_clipped": found.n_clipped}
    return _finished(spec, masks, candidates, counts, result_hash)


def _rule(rule: RuleSpec, sensitivity: NDArray[np.float64]) -> NDArray[np.float32]:
    if isinstance(rule.multiply, str):
        return soft_mask(sensitivity, remaining=rule.multiply == BY_REST)
    assert rule.quantile is not None
    return top_mask(sensitivity, rule.quantile, rule.multiply)


def _by_units(spec: UnitsLesion, target: Target) -> Lesion:
    if spec.result is None:
        return _by_places(spec, target)
    with open_maps(spec, target) as (tree, result_hash):
        nodes: dict[str, dict[str, xr.Dataset]] = {}
        for node in tree.subtree:
            if unit_dims(node.to_dataset()):
                nodes.setdefault(node.name or "", {})[node.path] = node.to_dataset()
        of_layers = _subtree(nodes, chosen_layers(spec.result, spec.layers, list(nodes)))
        with about("units"):
            found = select_units(of_layers, spec.units)
        for layer in pd.unique(_layers(found)):
            for dataset in nodes[layer].values():
                fitting_index(dataset, layer, target.shape(layer), spec.result)
        chosen = _per_layer(found, target)
        if not chosen:
            return _finished(spec, {})
        # true of all units for which the query has an answer, which may rest on layers that it is true of no unit of
        of_chosen = f"layer in [{', '.join(map(_quoted, chosen))}]"
        answered = select_units(of_layers, f"{of_chosen} and (({spec.units}) or not ({spec.units}))")
        every = select_units(of_layers, of_chosen, columns=[str(name) for name in answered.variables])
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


def _quoted(text: str) -> str:
    """Text as queries write it."""
    quote = '"' if "'" in text else "'"
    return f"{quote}{text}{quote}"


def _by_places(spec: UnitsLesion, target: Target) -> Lesion:
    """Lesion by a query of the layers and places that the network has."""
    layers = [layer for layer, one in target.layers.items() if holds_units(one.shape) and "/" not in layer]
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
        _require_apart(chosen)
    return _finished(spec, _masks_at(chosen, spec.multiply))


def _require_apart(layers: Iterable[str]) -> None:
    """Refuse layers of which one holds another: what leaves both would be multiplied twice."""
    known = list(layers)
    for layer in known:
        inner = next((other for other in known if other.startswith(f"{layer.split('#')[0]}.")), None)
        if inner is not None:
            raise SubjectError(
                f"the query is true of units of {layer!r} and of {inner!r} within it, {len(known)} layers in all: name "
                "the layers, by `layers: [layer, …]` or by `layer == 'layer'` in the query"
            )


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
