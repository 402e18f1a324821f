"""Results that maps of sensitivities are taken from, for a network: they have to be of it, and fit its layers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor, nn

from neuroprobe import names
from neuroprobe.analysis.select import opened
from neuroprobe.analysis.sensitivity import recorded_order
from neuroprobe.analysis.units import unit_dims
from neuroprobe.errors import ReaderError, SubjectError, UnknownNameError, about, unknown_name
from neuroprobe.probe.capture import Layer, list_layers, no_such_layer
from neuroprobe.probe.sites import DIMS
from neuroprobe.protocol.lesion import MapsSpec, UnitsLesion
from neuroprobe.statistics.masks import clip_map

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
    lesion : str
        Hash of the masks that are in it; empty without.
    """

    network: nn.Module
    image: Tensor
    name: str
    digest: str
    lesion: str = ""

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
        if not holds_units(shape):
            given = "no tensor" if shape is None else f"{shape} per image"
            raise SubjectError(
                f"layer {layer!r} gives {given}, expected (channels,), (tokens, channels) or (channels, height, "
                "width); take a layer inside or beside it"
            )
        assert shape is not None
        return shape


def holds_units(shape: Shape | None) -> bool:
    """Whether a response of a shape is one of units."""
    return shape is not None and len(shape) + 1 in DIMS


@contextmanager
def open_maps(spec: MapsSpec | UnitsLesion, target: Target) -> Iterator[tuple[xr.DataTree, str]]:
    """Open the result of a lesion, with the hash of where it comes from; it has to be of the network."""
    assert spec.result is not None
    with ExitStack() as stack:
        with about("from"):
            tree = stack.enter_context(opened(spec.result))
            found = _same_network(tree, spec, target)
        yield tree, found


def _same_network(tree: xr.DataTree, spec: MapsSpec | UnitsLesion, target: Target) -> str:
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
    lesion = (details.get("lesion") or {}).get("hash", "")
    if lesion and lesion != target.lesion and not spec.any_network:
        raise SubjectError(
            f"{spec.result!r} is a result of this network with a lesion (masks {lesion[:8]}…): take one of the intact "
            "network, or write `any_network: true`"
        )
    return hashlib.sha256(text.encode()).hexdigest()


def chosen_layers(source: str, layers: Sequence[str] | None, known: Sequence[str]) -> list[str]:
    """Layers of a result that were asked for, or all that it has."""
    for number, layer in enumerate(layers or ()):
        if layer not in known:
            raise UnknownNameError(f"{source!r}: " + unknown_name("layer", layer, known)).about("layers", number)
    return list(known if layers is None else layers)


@dataclass(frozen=True)
class FactorMap:
    """Sensitivities of the units of a layer to a factor.

    Attributes
    ----------
    sensitivity : float array
        In the native shape of the layer, clipped to [0, 1]; NaN where it is undefined or was not recorded.
    n_undefined, n_clipped : int
        Recorded units without a sensitivity, and those with one outside of [0, 1].
    """

    sensitivity: NDArray[np.float64]
    n_undefined: int
    n_clipped: int


def maps_group(tree: xr.DataTree, spec: MapsSpec) -> xr.DataTree:
    """Group of a result that holds the maps.

    Raises
    ------
    ReaderError
        If the analysis was not run.
    """
    if spec.analysis not in tree.children:
        message = f"{spec.result!r}: " + unknown_name("analysis", spec.analysis, tree.children)
        raise ReaderError(message).about("analysis")
    return tree.children[spec.analysis]


def map_layers(group: xr.DataTree, spec: MapsSpec, layers: Sequence[str] | None) -> list[str]:
    """Layers that maps are taken of, in the order of recording where none are asked for."""
    return chosen_layers(spec.result, layers, recorded_order(group))


def map_factors(dataset: xr.Dataset) -> list[str]:
    """Factors of the maps of a layer."""
    return [str(factor) for factor in dataset[names.FACTOR].values]


def factor_map(dataset: xr.Dataset, spec: MapsSpec, layer: str, factor: str, target: Target) -> FactorMap:
    """Take the map of a factor from what a result holds of a layer of the network.

    Raises
    ------
    UnknownNameError, SubjectError
        If the network has no such layer, or another; the result lacks the factor; or it was reduced.
    """
    shape = target.shape(layer)
    index = fitting_index(dataset, layer, shape, spec.result)
    dims = DIMS[len(shape) + 1]
    if unit_dims(dataset) != dims:
        raise SubjectError(
            f"{spec.result!r} holds layer {layer!r} over {', '.join(unit_dims(dataset))}, expected "
            f"{', '.join(dims)}: record it without `reduce`"
        ).about("from")
    factors = map_factors(dataset)
    if factor not in factors:
        raise UnknownNameError(f"{spec.result!r}: " + unknown_name("factor", factor, factors)).about("factor")
    value = dataset[spec.value or names.SHAPLEY_EFFECT].isel({names.FACTOR: factors.index(factor)})
    clipped, n_clipped = clip_map(value.transpose(*dims).values)
    native = np.full(shape, np.nan)  # channels that were not recorded are no candidates
    native[index] = clipped
    return FactorMap(native, int(np.isnan(clipped).sum()), n_clipped)


def fitting_index(dataset: xr.Dataset, layer: str, shape: Shape, source: str) -> tuple[Any, ...]:
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
