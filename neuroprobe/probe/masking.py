"""A masking study, opened: the maps, the masks that are made of them, and the places where they are put.

All maps of a study mask the same number of the same candidates, the units that every map has a sensitivity of: masks
by different factors and random ones are of equal size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from neuroprobe import names
from neuroprobe.design.randomness import generator
from neuroprobe.errors import PlanError, SubjectError, UnknownNameError, about, unknown_name
from neuroprobe.probe.footprint import LiveTensors
from neuroprobe.probe.lesion import Lesion
from neuroprobe.probe.map_sources import Target, factor_map, map_factors, map_layers, maps_group, open_maps
from neuroprobe.probe.masked import MaskedPasses
from neuroprobe.probe.sites import DIMS
from neuroprobe.protocol.lesion import BY_REST, RuleSpec
from neuroprobe.protocol.masking import LesionStudyOptions, MaskingOptions, PlaceSpec, SingleClassOptions
from neuroprobe.statistics.masks import count_share, descending_ranks, random_ranks, soft_mask

MAX_AT_ONCE: Final = 64  # masks
OTHER_FACTORS: Final = (names.ORDER, names.IMAGE, names.CLASS, names.PARTITION)  # that are no alterations anywhere
CACHE_BYTES: Final = 256 << 20  # of the ranks of random masks; others are drawn again when they are needed


@dataclass(frozen=True)
class Condition:
    """What is masked: nothing, the units that a map points at, or as many at random.

    Attributes
    ----------
    rule : RuleSpec, optional
        None where nothing is masked.
    factor : str
        Whose map; empty for random masks.
    number : int
        Of a random mask.
    """

    rule: RuleSpec | None = None
    factor: str = ""
    number: int = 0


INTACT: Final = Condition()


@dataclass(frozen=True, eq=False)
class LayerMaps:
    """Maps of a layer, of which masks are made.

    Attributes
    ----------
    layer : str
    factors : tuple of str
    sensitivity : float32 array (factors, …)
        In the native shape of the layer; NaN at units that are no candidates.
    ranks : int32 array (factors, …)
        Of the units, from the most sensitive one on.
    n_clipped : int array (factors,)
        Units with a sensitivity outside of [0, 1].
    seed : int
        Of random masks.
    """

    layer: str
    factors: tuple[str, ...]
    sensitivity: NDArray[np.float32]
    ranks: NDArray[np.int32]
    n_clipped: NDArray[np.int64]
    seed: int
    device: torch.device
    _random: dict[int, Tensor] = field(default_factory=dict, repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the layer's response to one image."""
        return self.sensitivity.shape[1:]

    @cached_property
    def candidates(self) -> NDArray[np.bool_]:
        """Units that every map has a sensitivity of."""
        return np.isfinite(self.sensitivity[0])

    @property
    def n_candidates(self) -> int:
        """Units that can be masked."""
        return int(self.candidates.sum())

    def n_masked(self, rule: RuleSpec) -> int:
        """Units that a rule masks: exactly its share, or all where they are weighed."""
        return self.n_candidates if rule.quantile is None else count_share(1 - rule.quantile, self.n_candidates)

    @cached_property
    def _ranks(self) -> Tensor:
        return torch.from_numpy(self.ranks).to(self.device)

    def _random_ranks(self, number: int) -> Tensor:
        if number not in self._random:
            random = generator(self.seed, f"random masks of {self.layer}", number)
            ranks = torch.from_numpy(random_ranks(self.candidates, random)).to(self.device)
            if (len(self._random) + 1) * ranks.nbytes > CACHE_BYTES:
                return ranks
            self._random[number] = ranks
        return self._random[number]

    def mask(self, condition: Condition) -> Tensor:
        """Mask of a condition, in the native shape of the layer."""
        rule = condition.rule
        if rule is None:
            return torch.ones(self.shape, device=self.device)
        number = self.factors.index(condition.factor) if condition.factor else -1
        if isinstance(rule.multiply, str):
            mask = soft_mask(self.sensitivity[number], remaining=rule.multiply == BY_REST)
            return torch.from_numpy(mask).to(self.device)
        # random masks of one number are of growing size, each within the larger ones
        ranks = self._ranks[number] if condition.factor else self._random_ranks(condition.number)
        return torch.where(ranks < self.n_masked(rule), rule.multiply, 1.0)


@dataclass(frozen=True, eq=False)
class Place:
    """Layers that are masked together, and under which conditions.

    Attributes
    ----------
    name : str
    maps : tuple of LayerMaps
    conditions : tuple of Condition
        The first masks nothing.
    passes : MaskedPasses
    at_once : int
        Masks that are run together, which take about as much memory as the whole network does for one.
    bytes_before : int
        Of what is computed once for all masks, of one image.
    """

    name: str
    maps: tuple[LayerMaps, ...]
    conditions: tuple[Condition, ...]
    passes: MaskedPasses
    at_once: int
    bytes_before: int

    def masks(self, conditions: Sequence[Condition]) -> list[Tensor]:
        """Masks of each layer under some conditions: (conditions, …)."""
        return [torch.stack([one.mask(condition) for condition in conditions]) for one in self.maps]

    def parts(self) -> list[slice]:
        """Conditions that are run together."""
        return [slice(start, start + self.at_once) for start in range(0, len(self.conditions), self.at_once)]


@dataclass(frozen=True, eq=False)
class MaskingStudy:
    """Maps of many factors, and the lesions that are made by them.

    Attributes
    ----------
    factors : tuple of str
    places : tuple of Place
    sources : tuple of dict
        Where the maps come from: results, and hashes of where these come from.
    asked : dict
        The places that each analysis asks for.
    left_out : tuple of str
        Factors of the results that are no alterations, and were not asked for.
    class_sensitivity : float array (factors, outputs), optional
        For single classes: how sensitive each output is to each factor.
    class_layer : str
        Whose units these are.
    """

    factors: tuple[str, ...]
    places: tuple[Place, ...]
    sources: tuple[Mapping[str, Any], ...]
    asked: Mapping[str, tuple[PlaceSpec, ...]]
    left_out: tuple[str, ...] = ()
    class_sensitivity: NDArray[np.float64] | None = None
    class_layer: str = ""

    @property
    def n_masks(self) -> dict[str, int]:
        """Masks at each place, that of nothing among them."""
        return {place.name: len(place.conditions) for place in self.places}

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all maps."""
        digest = hashlib.sha256()
        for one in {one.layer: one for place in self.places for one in place.maps}.values():
            digest.update(f"{one.layer}\0{one.factors}\0{one.shape}\0".encode() + one.sensitivity.tobytes())
        if self.class_sensitivity is not None:
            digest.update(self.class_layer.encode() + self.class_sensitivity.tobytes())
        return digest.hexdigest()

    def provenance(self) -> dict[str, Any]:
        """Return where the masks come from, as plain values."""
        return {"maps": list(self.sources), "hash": self.digest, "factors": list(self.factors)}


Studies = Mapping[str, LesionStudyOptions]  # by the name of the analysis


def open_study(
    studies: Studies,
    alterations: Sequence[str],
    layers: Sequence[str],
    target: Target,
    images: Tensor,
    n_outputs: int,
    *,
    seed: int,
    lesion: Lesion,
) -> MaskingStudy:
    """Open the maps of studies, and make the places where masks are put.

    Parameters
    ----------
    studies : dict
        Options by the name of their analysis; all have the same maps.
    alterations : sequence of str
        Factors that are taken where none are asked for.
    layers : sequence of str
        Recorded layers: those with maps are one place, where no places are asked for.
    images : tensor (n, 3, height, width)
        A few, as the network expects them.

    Raises
    ------
    UnknownNameError, SubjectError, ReaderError, StoreError
        If a result cannot be read or is of another network, or lacks a layer or a factor.
    PlanError
        If no factor is left, or too few classes have a sensitivity.
    """
    name, options = next(iter(studies.items()))
    with about(name):
        found = _Maps(options, alterations, target, seed)
    sensitivity, layer = None, ""
    single_class = studies.get(names.SINGLE_CLASS)
    if isinstance(single_class, SingleClassOptions):
        with about(names.SINGLE_CLASS):
            sensitivity, layer = found.of_classes(single_class, n_outputs)
    by_name: dict[str, tuple[PlaceSpec, list[Condition]]] = {}
    places_asked: dict[str, tuple[PlaceSpec, ...]] = {}
    for name, options in studies.items():
        with about(name):
            places_asked[name] = tuple(places_of(options, layers, target))
            for number, place in enumerate(places_asked[name]):
                with about("at", number):
                    found.read(place.layers)
                _, conditions = by_name.setdefault(place.name, (place, [INTACT]))
                known = set(conditions)
                conditions += [one for one in conditions_of(options, place, found.factors) if one not in known]
    places = tuple(
        _open_place(name, [found.of_layer(layer) for layer in spec.layers], conditions, target.network, images, lesion)
        for name, (spec, conditions) in by_name.items()
    )
    return MaskingStudy(found.factors, places, found.sources, places_asked, found.left_out, sensitivity, layer)


def _open_place(
    name: str,
    maps: Sequence[LayerMaps],
    conditions: Sequence[Condition],
    network: nn.Module,
    images: Tensor,
    lesion: Lesion,
) -> Place:
    """Cut the network before a place, and see how many masks can be run together there."""
    passes = MaskedPasses(network, {one.layer: one.shape for one in maps}, images, lesion)
    ones = [torch.ones((1, *one.shape), device=images.device) for one in maps]
    with torch.no_grad():
        values = passes.before(images)
        whole = _bytes_alive(lambda: network(images))
        behind = _bytes_alive(lambda: passes.outputs(values, ones))
    at_once = max(1, min(MAX_AT_ONCE, whole // max(1, behind))) if passes.shares else 1
    bytes_before = sum(value.nbytes for value in values) // len(images)
    return Place(name, tuple(maps), tuple(conditions), passes, at_once, bytes_before)


def _bytes_alive(forward: Callable[[], Tensor]) -> int:
    """Bytes of the tensors that are alive at most while a pass goes on."""
    with LiveTensors() as live:
        forward()
    return live.peak


def places_of(options: LesionStudyOptions, layers: Sequence[str], target: Target) -> list[PlaceSpec]:
    """Places of a study: those that it lists, or all recorded layers with maps together."""
    if options.at is not None:
        return list(options.at)
    spatial = [layer for layer in layers if names.Y in DIMS[len(target.shape(layer)) + 1]]
    if not spatial:
        raise PlanError(
            f"at: none of the recorded layers ({', '.join(layers)}) has maps over space; say where lesions are made by "
            "`at: [[layer, …]]`"
        )
    return [PlaceSpec(layers=spatial)]


def conditions_of(options: LesionStudyOptions, place: PlaceSpec, factors: Sequence[str]) -> list[Condition]:
    """What is masked at a place: by each map and rule, and at random."""
    by_maps = [Condition(rule, factor) for factor in factors for rule in options.rules_at(place)]
    if not isinstance(options, MaskingOptions):
        return by_maps
    drawn = options.n_random(place).items()
    return by_maps + [Condition(rule, number=number) for rule, n in drawn for number in range(n)]


class _Maps:
    """Maps of a study's factors, read layer by layer."""

    def __init__(self, options: LesionStudyOptions, alterations: Sequence[str], target: Target, seed: int) -> None:
        self._options, self._target, self._seed = options, target, seed
        self._layers: dict[str, LayerMaps] = {}
        self._chosen: list[list[str]] = []
        self.sources: tuple[Mapping[str, Any], ...] = ()
        self.left_out: tuple[str, ...] = ()
        for number, spec in enumerate(options.maps):
            with about("maps", number), open_maps(spec, target) as (tree, result_hash):
                group = maps_group(tree, spec)
                known = map_factors(group[map_layers(group, spec, None)[0]].to_dataset())
                for place, factor in enumerate(spec.factors or ()):
                    if factor not in known:
                        message = f"{spec.result!r}: " + unknown_name("factor", factor, known)
                        raise UnknownNameError(message).about("factors", place)
                chosen = spec.factors or [factor for factor in known if factor in alterations]
                twice = [factor for factor in chosen if any(factor in others for others in self._chosen)]
                if twice or not chosen:
                    raise PlanError(
                        f"{spec.result!r}: a map of {twice[0]!r} stands in another result too; choose by `factors`"
                        if twice
                        else f"{spec.result!r}: none of its factors ({', '.join(known)}) is an alteration of this "
                        "protocol; choose by `factors`"
                    )
                self._chosen.append(list(chosen))
                rest = [factor for factor in known if factor not in (*chosen, *OTHER_FACTORS)]
                self.left_out += () if spec.factors else tuple(rest)
                words = spec.model_dump(mode="json", by_alias=True, exclude_none=True)
                self.sources += ({**words, "factors": list(chosen), "result_hash": result_hash},)
        self.factors = tuple(factor for chosen in self._chosen for factor in chosen)

    def read(self, layers: Sequence[str]) -> None:
        """Read the maps of some layers."""
        for number, layer in enumerate(layers):
            with about("layers", number):
                self.of_layer(layer)

    def of_layer(self, layer: str) -> LayerMaps:
        """Maps of a layer, NaN where any of them is undefined."""
        if layer not in self._layers:
            sensitivity, n_clipped = self._read(layer)
            sensitivity[:, np.isnan(sensitivity).any(0)] = np.nan
            if np.isnan(sensitivity).all():
                raise SubjectError(f"layer {layer!r}: no unit has a sensitivity in all maps: leave it out of `at`")
            ranks = np.stack([descending_ranks(one) for one in sensitivity])
            maps, device = sensitivity.astype(np.float32), self._target.image.device
            self._layers[layer] = LayerMaps(layer, self.factors, maps, ranks, n_clipped, self._seed, device)
        return self._layers[layer]

    def _read(self, layer: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        found = []
        self._target.shape(layer)  # refuse one that the network lacks
        for spec, chosen in zip(self._options.maps, self._chosen, strict=True):
            with open_maps(spec, self._target) as (tree, _):
                group = maps_group(tree, spec)
                known = map_layers(group, spec, None)
                if layer not in known:
                    raise UnknownNameError(
                        f"{spec.result!r}: " + unknown_name("layer", layer, known) + "; others are to be recorded in "
                        "the run that makes the maps"
                    )
                dataset = group[layer].to_dataset()
                found += [factor_map(dataset, spec, layer, factor, self._target) for factor in chosen]
        return np.stack([one.sensitivity for one in found]), np.array([one.n_clipped for one in found])

    def of_classes(self, options: SingleClassOptions, n_outputs: int) -> tuple[NDArray[np.float64], str]:
        """Sensitivities (factors, outputs) of the units that stand for the classes, and their layer."""
        layer = options.layer or self._class_layer(n_outputs)
        found, _ = self._read(layer)
        if found.shape[1:] != (n_outputs,):
            raise PlanError(
                f"layer: {layer!r} has units {found.shape[1:]}, expected {n_outputs}, one for each output"
            ).about("layer")
        n_defined = int(np.isfinite(found).sum(1).min())
        if n_defined < options.k or options.k >= n_outputs:
            raise PlanError(
                f"k: {options.k} of {n_outputs} classes asked for, of which {n_defined} have a sensitivity in every "
                f"map: take fewer"
            ).about("k")
        return found, layer

    def _class_layer(self, n_outputs: int) -> str:
        spec = self._options.maps[0]
        with open_maps(spec, self._target) as (tree, _):
            group = maps_group(tree, spec)
            for layer in reversed(map_layers(group, spec, None)):
                node = group[layer].to_dataset()
                if node.sizes.get(names.CHANNEL) == n_outputs and names.Y not in node.dims:
                    return layer
            raise PlanError(
                f"{spec.result!r}: no layer has one unit for each of the {n_outputs} outputs; record the last layer of "
                "the network in the run that makes the maps, or name another by `single_class: {layer: …}`"
            )
