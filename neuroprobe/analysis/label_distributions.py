"""Selectivity for labels: how much a channel's top stimuli, or the pixels under its maps, are of one kind."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.statistics.hierarchy import Forest, ancestors, deepest_common
from neuroprobe.statistics.label_selectivity import (
    LabelShares,
    chance_corrected,
    chance_gamma,
    expected_labels_of,
    label_indexes,
    label_permutation,
    label_shares,
)
from neuroprobe.statistics.paired import adjust

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
Variable = tuple[tuple[str, ...], Any, dict[str, Any]]
CHANNELS: Final = (names.CHANNEL,)
SAID: Final = {
    names.GAMMA: "concentration of labels: (N - M) / (N - 1), M labels holding the threshold's share of the weights",
    names.N_LABELS: "labels that hold the threshold's share of the weights",
    names.CLASS_MASS: "sum of the shares of labels that have the least share",
    names.POPULATION_CODE: "labels that have the least share",
    names.ENTROPY: "entropy of the shares of labels",
}
UNITS: Final = {names.ENTROPY: "bit"}
P: Final = "share of permutations of the images' labels, the labels as they are among them, that are as concentrated"


@dataclass(frozen=True)
class LabelOptions:
    """How labels are summed up.

    Attributes
    ----------
    thresholds : tuple of float
        Of γ; the first is that of ``gamma``.
    least : float
    permutations, seed : int
    correction : str
    shorter : tuple of int
        Lengths of shorter lists.
    """

    thresholds: tuple[float, ...] = (1.0,)
    least: float = 0.1
    permutations: int = 199
    seed: int = 0
    correction: str = "fdr_bh"
    shorter: tuple[int, ...] = ()


def class_variables(
    weights: Array,
    images: Integers,
    target: Integers,
    classes: Sequence[str],
    options: LabelOptions,
    hierarchy: Mapping[str, str | None] | None = None,
) -> dict[str, Variable]:
    """Variables of the index of classes.

    Parameters
    ----------
    weights : float array (channels, N)
        Responses to the top stimuli as shares of the largest; NaN for channels that do not respond.
    images : int array (channels, N)
        Their numbers.
    target : int array (images,)
        Class of every image that was shown; `len(classes)` for one that has none, or that was not.
    classes : sequence of str
    options : LabelOptions
    hierarchy : dict, optional
        Class → the one above it.

    Returns
    -------
    dict of (dims, values, attributes)

    Examples
    --------
    >>> weights, images = np.array([[1, 0.9, 0.8, 0.5, 0.3]]), np.arange(5)[None]
    >>> found = class_variables(weights, images, np.array([0, 0, 1, 2, 2]), ["a", "b", "c"], LabelOptions((0.75,)))
    >>> found["gamma"][1], found["class_frequency"][1].round(3).ravel()
    (array([0.75]), array([0.543, 0.229, 0.229]))
    """
    known = target[images] < len(classes)
    kept, labels = np.where(known, np.nan_to_num(weights), 0), np.where(known, target[images], 0)
    kept[np.isnan(weights).any(1)] = 0
    shares = label_shares(kept, labels)
    found = _indexes(shares, options)
    if options.permutations:
        found |= _permuted(kept, images, target, len(classes), options, found)
    else:
        found |= _by_chance(found, kept.shape[1], target, len(classes), options)
    frequencies = shares.frequencies(len(classes))
    attrs: dict[str, Any] = {
        "long_name": "share of each class in the weights of the top stimuli",
        names.LABELS: "classes",
        names.LEAST: options.least,
    }
    if hierarchy is not None:
        attrs[names.HIERARCHY] = json.dumps(hierarchy)
        found |= _hypernyms(frequencies, classes, hierarchy, options.least)
    found[names.CLASS_FREQUENCY] = ((names.CLASS, names.CHANNEL), frequencies.T, attrs)
    if options.shorter:
        values = [_gamma(kept[:, :n], labels[:, :n], options) for n in options.shorter]
        values.append(found[names.GAMMA][1])
        found[f"{names.GAMMA}_by_n"] = (
            (names.N_KEPT, names.CHANNEL),
            np.stack(values),
            {"long_name": "γ of shorter lists of stimuli"},
        )
    return found


def gamma_of(weights: Array, images: Integers, target: Integers, n_classes: int, options: LabelOptions) -> Array:
    """γ of the classes of other lists (channels, n)."""
    if not images.shape[1]:  # of a half that no image is in
        return np.full(len(images), np.nan)
    known = target[images] < n_classes
    kept = np.where(known, np.nan_to_num(weights), 0)
    return _gamma(kept, np.where(known, target[images], 0), options)


def _gamma(weights: Array, labels: Integers, options: LabelOptions) -> Array:
    return label_indexes(label_shares(weights, labels), options.thresholds[0], options.least)[names.GAMMA]


def _indexes(shares: LabelShares, options: LabelOptions, prefix: str = "") -> dict[str, Variable]:
    found = label_indexes(shares, options.thresholds[0], options.least)
    said: dict[str, Variable] = {}
    for name, text in SAID.items():
        attrs = {"long_name": text, "threshold": options.thresholds[0], names.LEAST: options.least}
        said[prefix + name] = (CHANNELS, found[name], attrs | {"units": UNITS.get(name, "1")})
    if len(options.thresholds) > 1:
        values = [label_indexes(shares, one, options.least)[names.GAMMA] for one in options.thresholds]
        said[f"{prefix}{names.GAMMA}_by_threshold"] = (
            (names.THRESHOLD, names.CHANNEL),
            np.stack(values),
            {"long_name": "γ by the share of the weights that its labels hold"},
        )
    return said


def _permuted(
    weights: Array,
    images: Integers,
    target: Integers,
    n_classes: int,
    options: LabelOptions,
    found: Mapping[str, Variable],
) -> dict[str, Variable]:
    """Chance, and p-values, by permuting the labels of all images that were shown and have one."""
    # those without a class keep what they have: none
    known = target < n_classes
    if not known.any():
        return {}
    numbers = np.where(known, known.cumsum() - 1, 0)
    nulls = label_permutation(
        weights,
        numbers[images],
        target[known],
        options.thresholds[0],
        options.least,
        n_permutations=options.permutations,
        seed=options.seed,
    )
    variables: dict[str, Variable] = {}
    for name, null in nulls.items():
        adjusted = adjust(null.p_value, options.correction)
        variables |= {
            f"{name}_chance": (CHANNELS, null.mean, {"long_name": f"mean of {name} over permutations of the labels"}),
            f"{name}_p_value": (CHANNELS, null.p_value, {"long_name": P, names.DRAWS: options.permutations}),
            f"{name}_p_adjusted": (
                CHANNELS,
                adjusted,
                {
                    "long_name": f"{P}, corrected over channels",
                    names.DRAWS: options.permutations,
                    "correction": options.correction,
                },
            ),
        }
    return variables | _corrected(found[names.GAMMA][1], nulls[names.GAMMA].mean)


def _by_chance(
    found: Mapping[str, Variable], n: int, target: Integers, n_classes: int, options: LabelOptions
) -> dict[str, Variable]:
    """Chance in closed form, which holds for the threshold 1."""
    counts = np.bincount(target[target < n_classes], minlength=n_classes)
    if options.thresholds[0] < 1 or n > counts.sum():
        return {}
    gamma = found[names.GAMMA][1]
    chance = np.where(np.isnan(gamma), np.nan, chance_gamma(n, expected_labels_of(n, counts)))
    said = "γ of as many images drawn by chance, in closed form"
    return {f"{names.GAMMA}_chance": (CHANNELS, chance, {"long_name": said})} | _corrected(gamma, chance)


def _corrected(gamma: Array, chance: Array) -> dict[str, Variable]:
    said = "γ rescaled so that chance is 0 and the largest value 1"
    return {f"{names.GAMMA}_corrected": (CHANNELS, chance_corrected(gamma, chance), {"long_name": said})}


def _hypernyms(
    frequencies: Array, classes: Sequence[str], hierarchy: Mapping[str, str | None], least: float
) -> dict[str, Variable]:
    """Deepest node that the classes of a channel's code have in common."""
    nodes = list(dict.fromkeys([*hierarchy, *(above for above in hierarchy.values() if above), *classes]))
    numbers = {node: at for at, node in enumerate(nodes)}
    forest = Forest.of([numbers[above] if (above := hierarchy.get(node)) else -1 for node in nodes])
    of_classes = np.array([numbers[name] for name in classes])
    common = deepest_common(ancestors(frequencies, of_classes, forest, least), forest)
    labels = np.array([*nodes, ""], dtype=object)[common.node]
    said = "deepest node of the hierarchy that all classes of the channel's code are below"
    return {
        names.HYPERNYM: (CHANNELS, labels, {"long_name": said}),
        names.HYPERNYM_DEPTH: (CHANNELS, common.depth, {"long_name": "its depth, 0 of a root"}),
        names.HYPERNYM_WEIGHT: (CHANNELS, common.weight, {"long_name": "share of the weights below it"}),
    }


def pixel_variables(
    index: str, sums: Array, labels: Sequence[str], base: Array, options: LabelOptions, *, plural: str
) -> dict[str, Variable]:
    """Variables of an index of labels of pixels.

    Parameters
    ----------
    index : str
        Its name, which its variables and the dimension of its labels are called by.
    sums : float array (channels, labels)
        Mean activity over the pixels of each label in the receptive field, weighted over the top stimuli.
    labels : sequence of str
    base : float array (labels,)
        Share of each label in the pixels of all top stimuli.
    options : LabelOptions
    plural : str
        What queries call the labels of a channel.
    """
    total = sums.sum(1, keepdims=True)
    shares = np.divide(sums, total, out=np.full(sums.shape, np.nan), where=total > 0)
    numbers = np.broadcast_to(np.arange(len(labels)), sums.shape)
    found = _indexes(label_shares(np.nan_to_num(shares), numbers), options, f"{index}_")
    said = "share of each label in the activity of the map over the receptive field, one mean for each label"
    dims = (label_dim(index), names.CHANNEL)
    attrs = {"long_name": said, names.LABELS: plural, names.LEAST: options.least}
    base_said = "share of each label in the pixels of all top stimuli of the layers"
    name = names.COLOUR_SHARE if index == names.COLOUR_NAME else f"{index}_frequency"
    return found | {
        name: (dims, shares.T, attrs),
        f"{name}_base": (dims[:1], base, {"long_name": base_said}),
    }


def label_dim(index: str) -> str:
    """Dimension of the labels of an index of pixels."""
    return index if index == names.COLOUR_NAME else f"{index}_label"
