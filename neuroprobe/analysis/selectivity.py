"""Selectivity of channels, with labels: top stimuli, Neuron Features, and every index with its null beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.analysis.class_responses import QUANTILES, class_response_variables, response_variables
from neuroprobe.analysis.label_distributions import (
    LabelOptions,
    class_variables,
    gamma_of,
    label_dim,
    pixel_variables,
)
from neuroprobe.analysis.manipulations import Manipulated, manipulation_variables
from neuroprobe.analysis.relevance import relevance_variables, words
from neuroprobe.statistics.hue_modes import hue_modes
from neuroprobe.statistics.manipulation_selectivity import Clamp
from neuroprobe.statistics.plain_sums import PlainSums
from neuroprobe.statistics.top_stimuli import TopStimuli, relative_weights
from neuroprobe.statistics.unit_relations import similarity_of

Arrays = Mapping[str, NDArray[Any]]
Variable = tuple[tuple[str, ...], Any, dict[str, Any]]
HALVES: Final = ("first", "second")
COLOURS: Final = ("red", "green", "blue")
PACKED: Final = {"dtype": "uint8", "scale_factor": 1 / 254, "_FillValue": 255}  # of numbers in [0, 1], or missing


@dataclass(frozen=True)
class ListedLayer:
    """What was kept of a layer.

    Attributes
    ----------
    name : str
    channels : list of int
        Their numbers in the network.
    depth : int
        Number of the layer in the order of recording.
    all, first, second : TopStimuli
        Lists of all images, and of either half.
    sums : PlainSums
    scores : dict of arrays
        What crops and whole maps told.
    earlier : tuple of str and list of int, optional
        Name and channels of the layer recorded before.
    """

    name: str
    channels: list[int]
    depth: int
    all: TopStimuli
    first: TopStimuli
    second: TopStimuli
    sums: PlainSums
    scores: Arrays
    earlier: tuple[str, list[int]] | None = None


@dataclass(frozen=True)
class SelectivityAnalysis:
    """Turns what was kept of layers into datasets.

    Attributes
    ----------
    manipulated : tuple of Manipulated
    pixel_labels : dict
        Index → its labels.
    classes : tuple of str
    target : int array (images,)
        Class of each image that was shown; `len(classes)` for one without, or one that was not.
    with_class : bool
        Whether the index of classes is computed.
    labels : LabelOptions
    clamp : {"none", "ratio", "final"}
    hierarchy : dict, optional
    image_size : tuple of int
        Height and width, px.
    half : int array (images,), optional
        Half that each image is in.
    """

    manipulated: tuple[Manipulated, ...]
    pixel_labels: Mapping[str, tuple[str, ...]]
    classes: tuple[str, ...]
    target: NDArray[np.int64]
    with_class: bool
    labels: LabelOptions
    clamp: Clamp = "none"
    hierarchy: Mapping[str, str | None] | None = None
    image_size: tuple[int, int] = (0, 0)
    half: NDArray[np.int64] | None = None

    def label(self, layer: ListedLayer) -> xr.Dataset:
        """Compute and label all variables of a layer.

        Returns
        -------
        Dataset
            Over ``channel``, ``rank`` and the labels of indexes; see the README for the variables.
        """
        variables = self._lists(layer) | _pictures(layer) | response_variables(layer.sums)
        variables |= self._manipulations(layer) | self._label_indexes(layer)
        if self.classes:
            labels = self.target[layer.all.images]
            variables |= class_response_variables(
                layer.sums, layer.all.values, labels, self.classes, self.labels.correction
            )
        if "total" in layer.scores:
            said = "response to the top stimuli of channel_2 as a share of that to the channel's own"
            values = similarity_of(layer.scores["total"])
            variables[names.SIMILARITY] = ((names.CHANNEL, names.CHANNEL_2), values, {"long_name": said})
        variables |= relevance_variables(layer.scores, layer.earlier[0] if layer.earlier else "", self.classes)
        found = xr.Dataset(variables, self._coordinates(layer, variables), self._attrs(layer))
        for name in (names.NEURON_FEATURE, names.COVERAGE, names.TOP_CROP):
            if name in found:
                found[name].encoding = dict(PACKED)
        return found

    def _lists(self, layer: ListedLayer) -> dict[str, Variable]:
        by_rank, top = (names.CHANNEL, names.RANK), layer.all
        alive = top.values[:, 0] > 0
        return {
            names.TOP_VALUE: (by_rank, top.values, {"long_name": "largest response of the map to a top stimulus"}),
            names.TOP_IMAGE: (
                by_rank,
                top.images.astype(np.int32),
                {"long_name": f"number of the image, in /{names.STIMULI}/{names.SHOWN}"},
            ),
            names.TOP_Y: (by_rank, top.rows.astype(np.int32), {"long_name": "row of the map where it is"}),
            names.TOP_X: (by_rank, top.columns.astype(np.int32), {"long_name": "column of the map where it is"}),
            names.PEAK: ((names.CHANNEL,), top.values[:, 0], {"long_name": "largest response to any image"}),
            names.DEFINED: (
                (names.CHANNEL,),
                alive.astype(np.int8),
                {"long_name": "whether any image drives the channel above 0"},
            ),
        }

    def _manipulations(self, layer: ListedLayer) -> dict[str, Variable]:
        original = layer.scores["original"].astype(np.float64)
        # where a list holds responses that are not above 0, they are part of it all the same
        found: dict[str, Variable] = {}
        for one in self.manipulated:
            altered, sham = (layer.scores[f"{one.name} {what}"].astype(np.float64) for what in ("altered", "sham"))
            variables = manipulation_variables(
                one,
                original,
                altered,
                sham,
                clamp=self.clamp,
                correction=self.labels.correction,
                shorter=self.labels.shorter,
                half=None if self.half is None else self.half[layer.all.images],
            )
            by_manipulation, by_sham = layer.scores[f"{one.name} energy"]
            variables[one.name][2].update(energy=float(by_manipulation), energy_of_sham=float(by_sham))
            found |= variables
        if any(one.name == "colour" for one in self.manipulated):
            found |= _hues(layer.scores)
        return found

    def _label_indexes(self, layer: ListedLayer) -> dict[str, Variable]:
        found: dict[str, Variable] = {}
        if self.with_class:
            weights = relative_weights(layer.all.values)
            found |= class_variables(weights, layer.all.images, self.target, self.classes, self.labels, self.hierarchy)
            halves = [
                gamma_of(relative_weights(top.values), top.images, self.target, len(self.classes), self.labels)
                for top in (layer.first, layer.second)
            ]
            said = "γ of the lists of either half of the images"
            found[f"{names.GAMMA}_by_half"] = ((names.HALF, names.CHANNEL), np.stack(halves), {"long_name": said})
        for index, labels in self.pixel_labels.items():
            plural = "colours" if index == names.COLOUR_NAME else f"{index}s"
            sums, base = layer.scores[f"labels {index}"], layer.scores[f"base {index}"]
            found |= pixel_variables(index, sums, labels, base, self.labels, plural=plural)
        return found

    def _coordinates(self, layer: ListedLayer, variables: Mapping[str, Variable]) -> dict[str, Any]:
        used = {dim for dims, _, _ in variables.values() for dim in dims}
        words = {
            names.CLASS: self.classes,
            names.HALF: HALVES,
            names.RGB: COLOURS,
            names.THRESHOLD: tuple(f"{one:g}" for one in self.labels.thresholds),
            names.N_KEPT: tuple(str(n) for n in (*self.labels.shorter, layer.all.n_kept)),
            **{one.dim: one.members for one in self.manipulated},
            **{label_dim(index): labels for index, labels in self.pixel_labels.items()},
        }
        coordinates: dict[str, Any] = {
            dim: np.array(labels, dtype=object) for dim, labels in words.items() if dim in used
        }
        coordinates[names.CHANNEL] = np.array(layer.channels)
        coordinates[names.RANK] = np.arange(1, layer.all.values.shape[1] + 1)
        coordinates[names.QUANTILE] = np.array(QUANTILES)
        if names.CHANNEL_2 in used:
            coordinates[names.CHANNEL_2] = np.array(layer.channels)
        if names.EARLIER_CHANNEL in used and layer.earlier is not None:
            coordinates[names.EARLIER_CHANNEL] = np.array(layer.earlier[1])
        return coordinates

    def _attrs(self, layer: ListedLayer) -> dict[str, Any]:
        height, width, stride_y, stride_x, start_y, start_x = (int(one) for one in layer.scores["field"])
        whole_height, whole_width = (int(one) for one in layer.scores["theoretical field"])
        return {
            "depth": layer.depth,
            "whole_image": int(layer.scores["whole image"][0]),
            "why": words(layer.scores, "why"),
            "n_images": int(layer.sums["n"].sum()),
            names.N_DROPPED: int(layer.sums["dropped"][0]),
            "n_kept": layer.all.values.shape[1],
            # without what is outside of the image for every unit of the map
            "field_height": height,
            "field_width": width,
            "receptive_field_height": whole_height,
            "receptive_field_width": whole_width,
            "field_stride_y": stride_y,
            "field_stride_x": stride_x,
            "field_start_y": start_y,
            "field_start_x": start_x,
            "image_height": self.image_size[0],
            "image_width": self.image_size[1],
            **({"no_relevance": why_not} if (why_not := words(layer.scores, "why not")) else {}),
        }


def _pictures(layer: ListedLayer) -> dict[str, Variable]:
    place = names.FIELD_Y, names.FIELD_X
    found: dict[str, Variable] = {
        names.NEURON_FEATURE: (
            (names.CHANNEL, *place, names.RGB),
            layer.scores["feature"],
            {"long_name": "weighted mean of the receptive field's part of the top stimuli"},
        ),
        names.COVERAGE: (
            (names.CHANNEL, *place),
            layer.scores["coverage"],
            {"long_name": "share of the weight whose stimuli cover a pixel"},
        ),
    }
    crops = layer.scores["crops"] / np.float32(255)
    if crops.shape[1]:
        crops[~(layer.all.values[:, 0] > 0)] = np.nan
        crops[:, layer.all.values.shape[1] :] = np.nan  # more than the list has
        found[names.TOP_CROP] = (
            (names.CHANNEL, names.CROP, names.CROP_Y, names.CROP_X, names.RGB),
            crops,
            {"long_name": "receptive field's part of the first top stimuli, made smaller"},
        )
    return found


def _hues(scores: Arrays) -> dict[str, Variable]:
    """Hues of the Neuron Features."""
    found = hue_modes(scores["feature"], scores["coverage"])
    said: dict[str, tuple[Any, str]] = {
        names.HUE_MODES: (found.modes, "hues of the Neuron Feature: none, one, or two"),
        names.OPPONENT: (found.opponent, "whether its two hues are opponent"),
        names.CHROMA: (found.chroma, "mean chroma of the Neuron Feature"),
    }
    for at, number in enumerate(("1", "2")):
        said[f"hue_{number}"] = (found.hues[:, at], "hue of the Neuron Feature, by weight")
        said[f"hue_weight_{number}"] = (found.weights[:, at], "share of that hue")
    return {
        name: ((names.CHANNEL,), values, {"long_name": text, **({"units": "degree"} if name in ANGLES else {})})
        for name, (values, text) in said.items()
    }


ANGLES: Final = ("hue_1", "hue_2")
