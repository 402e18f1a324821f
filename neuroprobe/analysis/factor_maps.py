"""The maps of the factors of a result as arrays: layer by layer, for each kind of index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.analysis.overview import FACTOR_INDICES, index_group, single_indices
from neuroprobe.analysis.sensitivity import recorded_order
from neuroprobe.analysis.units import unit_dims
from neuroprobe.errors import ReaderError, unknown_name

Sources = Mapping[str, xr.DataTree]  # the group of each kind of maps


@dataclass(frozen=True)
class Maps:
    """Maps of one layer: of each value (factor, channel, pixel), and coefficients of variation (channel, pixel)."""

    shape: tuple[int, int]
    indices: Mapping[str, NDArray[np.float64]]
    variation: Mapping[str, NDArray[np.float64]]


def map_sources(result: xr.DataTree, values: Sequence[str] | None) -> dict[str, xr.DataTree]:
    """Group of each kind of maps."""
    for value in values or ():
        if value not in FACTOR_INDICES:
            raise ReaderError(unknown_name("value", value, FACTOR_INDICES))
    return {value: index_group(result, value) for value in values or single_indices(result)}


def map_layers(sources: Sources, layers: Sequence[str] | None) -> list[str]:
    """Layers that are analysed, in the order of recording."""
    known = list(dict.fromkeys(layer for group in sources.values() for layer in recorded_order(group)))
    for layer in layers or ():
        if layer not in known:
            raise ReaderError(unknown_name("layer", layer, known))
    if layers is not None and not layers:
        raise ReaderError(f"layers: received none, expected some of {', '.join(known)}")
    return known if layers is None else [layer for layer in known if layer in layers]


def map_nodes(sources: Sources, layer: str) -> dict[str, xr.Dataset]:
    """Indices of a layer for each kind of maps that it has."""
    nodes = {value: group.children[layer].to_dataset() for value, group in sources.items() if layer in group.children}
    return {value: node for value, node in nodes.items() if value in node}


def map_factors(sources: Sources, layers: Sequence[str]) -> list[str]:
    """Factors of all maps, which are the same ones."""
    found = {
        layer: [[str(factor) for factor in node[names.FACTOR].values] for node in map_nodes(sources, layer).values()]
        for layer in layers
    }
    factors = found[layers[0]][0]
    for layer, several in found.items():
        for others in several:
            if sorted(others) != sorted(factors):
                raise ReaderError(
                    f"layer {layer!r} has maps of the factors {', '.join(others)}, others of {', '.join(factors)}; "
                    "compare maps of one design, or choose by `values`"
                )
    if len(factors) < 2:
        raise ReaderError(f"these maps are of one factor ({factors[0]}); to compare maps takes two factors or more")
    return factors


def replicate_dim(node: xr.Dataset) -> str:
    """Dimension of what is replicated in a layer."""
    dims = unit_dims(node)
    return names.CHANNEL if names.CHANNEL in dims else names.UNIT


def space_dims(node: xr.Dataset) -> list[str]:
    """Dimensions of the pixels of a map; none where a layer has no space."""
    return [dim for dim in (names.TOKEN, names.Y, names.X) if dim in unit_dims(node)]


def read_maps(sources: Sources, layer: str, factors: Sequence[str]) -> Maps:
    """Maps of a layer, and coefficients of variation where the means and variances are there."""
    indices, variation, shape = {}, {}, (1, 1)
    for value, node in map_nodes(sources, layer).items():
        dims = [replicate_dim(node), *space_dims(node)]
        sides = [node.sizes[dim] for dim in dims[1:]]
        shape = (sides[0] if sides else 1, sides[1] if len(sides) > 1 else 1)
        flat = (node.sizes[dims[0]], -1)
        maps = node[value].sel({names.FACTOR: list(factors)}).transpose(names.FACTOR, *dims)
        indices[value] = maps.values.astype(np.float64).reshape(len(factors), *flat)
        if names.VARIANCE in node and names.MEAN in node:
            variance, mean = (node[one].transpose(*dims).values.reshape(flat) for one in (names.VARIANCE, names.MEAN))
            # a response that varies about 0 has the largest coefficient, whatever it is: ranks are all that counts
            largest = np.full(mean.shape, np.finfo(np.float64).max)
            variation[value] = np.divide(np.sqrt(variance), np.abs(mean), out=largest, where=mean != 0)
    return Maps(shape, indices, variation)
