"""Small results, as a run with the analysis of selectivity would give them, of made-up images and responses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

from made_results import make_attrs, make_examples
from neuroprobe.analysis.sensitivity import SobolAnalysis
from neuroprobe.statistics import class_selectivity, label_selectivity, manipulation_selectivity, unit_relations

SIDE, N_IMAGES, N_DRAWS, N_CROPS = 24, 80, 99, 4
CLASSES = ("cat", "deer", "dog", "frog")
COLOURS = ("red", "green", "blue", "grey")
RGB = ["red", "green", "blue"]
HIERARCHY = {"cat": "mammal", "dog": "mammal", "deer": "mammal", "mammal": "animal", "frog": "animal"}
FAMILIES = {
    "orientation": [str(angle) for angle in range(15, 360, 15)],
    "symmetry": ["0", "45", "90", "135"],
    "spatial_frequency": ["1", "2", "4"],
    "contrast": ["0.25", "0.5"],
}
INDEXES = ("colour", "orientation", "symmetry", "shape", "spatial_frequency", "contrast")
DEAD = 1  # channel of every layer


def made_selectivity(
    seed: int = 0,
    n_layers: int = 3,
    n_channels: int = 12,
    n_kept: int = 10,
    *,
    indexes: Sequence[str] = INDEXES,
    classes: Sequence[str] | None = CLASSES,
    dead: Sequence[int] = (DEAD,),
    nulls: bool = True,
    similarity: bool = True,
    relevance: bool = False,
    examples: bool = False,
) -> xr.DataTree:
    """Make a result whose units prefer a colour, an orientation and a class each, more so with depth.

    Parameters
    ----------
    n_layers : int
        The last one, ``linear``, sees whole images; the others are ``stage1``, ``stage2``, …
    indexes : sequence of str
        Of stimulus manipulations.
    classes : sequence of str, optional
        Labels of the images; without them there is no index of labels.
    dead : sequence of int
        Channels of every layer that never respond.
    nulls : bool
        Whether there are sham alterations and permuted labels.
    """
    rng = np.random.default_rng(seed)
    names = [*(f"stage{i + 1}" for i in range(n_layers - 1)), "linear"]
    label = None if classes is None else np.arange(N_IMAGES) % len(classes)
    nodes: dict[str, xr.Dataset] = {"stimuli/shown": _shown(label, classes)}
    for depth, name in enumerate(names):
        is_dead = np.isin(np.arange(n_channels), list(dead))
        layer = _Layer(rng, (depth + 1) / n_layers, n_channels, n_kept, is_dead, name == "linear", depth)
        variables, coords = layer.top(label, len(classes or ()))
        for some in (
            layer.pictures(),
            *(layer.manipulation(index, nulls) for index in indexes),
            *([layer.labels(classes, label, nulls), layer.by_class(classes)] if classes is not None else []),
            layer.hues(),
            layer.similarity() if similarity else ({}, {}),
            layer.relevance(names[depth - 1]) if relevance and depth else ({}, {}),
        ):
            variables |= some[0]
            coords |= some[1]
        nodes[f"selectivity/{name}"] = xr.Dataset(variables, coords, layer.attrs(n_layers))
    if examples:
        nodes["stimuli/examples"] = make_examples((), rng)
    tree = xr.DataTree.from_dict(nodes)
    attrs = make_attrs(dict.fromkeys(names, (n_channels,)), (), SobolAnalysis(factors=()), None, 1, "made up")
    tree.attrs = attrs | {"samples": N_IMAGES}
    return tree


def _shown(label: np.ndarray | None, classes: Sequence[str] | None) -> xr.Dataset:
    said = np.full(N_IMAGES, "", dtype=object) if label is None else np.array(classes, dtype=object)[label]
    ids = np.array([f"image{i:03}.png" for i in range(N_IMAGES)], dtype=object)
    return xr.Dataset({"image_id": ("image", ids), "class_label": ("image", said)}, {"image": np.arange(N_IMAGES)})


class _Layer:
    """What a layer is made of."""

    def __init__(self, rng, share: float, n: int, n_kept: int, dead: np.ndarray, whole: bool, depth: int) -> None:
        self.rng, self.share, self.n, self.kept, self.dead = rng, share, n, n_kept, dead
        self.whole, self.depth = whole, depth
        self.field = SIDE if whole else min(SIDE, 7 + 6 * depth)
        self.hue, self.angle = rng.uniform(0, 360, n), rng.uniform(0, 180, n)
        self.coloured = rng.beta(1 + 3 * share, 2, n)

    def attrs(self, n_layers: int) -> dict[str, Any]:
        return {
            "depth": self.depth,
            "whole_image": int(self.whole),
            "why": "a linear layer sees the whole image" if self.whole else "",
            "n_images": N_IMAGES,
            "n_kept": self.kept,
            **{f"field_{side}": self.field for side in ("height", "width")},
            **{f"field_{of}_{axis}": 0 if of == "start" else 2 for of in ("stride", "start") for axis in "yx"},
            **{f"image_{side}": SIDE for side in ("height", "width")},
            "clamp": "none",
        }

    def top(self, label: np.ndarray | None, n_classes: int):
        """Top lists, of images that are of the preferred class with a probability that grows with the depth."""
        responses = self.rng.gamma(1.5, 1.0, (self.n, N_IMAGES))
        if label is not None:
            prefers = self.rng.integers(0, n_classes, self.n)
            gain = self.rng.uniform(0, 6 * self.share**2, self.n)
            responses *= 1 + gain[:, None] * (label == prefers[:, None])
        responses[self.dead] = 0
        self.responses, self.label = responses, label
        order = np.argsort(-responses, axis=1, kind="stable")[:, : self.kept]
        self.value, self.image = np.take_along_axis(responses, order, 1), order
        places = 1 if self.whole else max(2, 9 - 2 * self.depth)
        y, x = self.rng.integers(0, places, (2, self.n, self.kept))
        listed = ("channel", "rank")
        alive = ~self.dead
        return {
            "top_value": (listed, self.value),
            "top_image": (listed, order),
            "top_y": (listed, y),
            "top_x": (listed, x),
            "peak": ("channel", self.value[:, 0]),
            "mean": ("channel", responses.mean(1)),
            "variance": ("channel", responses.var(1)),
            "activity_rate": ("channel", (responses > 0).mean(1)),
            "response_quantile": (("quantile", "channel"), np.quantile(responses, [0.5, 0.9], axis=1)),
            "defined": ("channel", alive.astype(np.int8)),
        }, {"channel": np.arange(self.n), "rank": np.arange(1, self.kept + 1), "quantile": [0.5, 0.9]}

    def pictures(self):
        """Crops, stripes of a colour at an angle with noise; Neuron Features are their weighted means."""
        y, x = np.mgrid[: self.field, : self.field] / self.field - 0.5
        phase = np.cos(np.radians(self.angle))[:, None, None] * x + np.sin(np.radians(self.angle))[:, None, None] * y
        stripe = np.cos(2 * np.pi * 1.5 * phase)[..., None] * np.exp(-4 * (x**2 + y**2))[..., None]
        hue = np.radians(self.hue)[:, None] + np.array([0, 2, 4]) * np.pi / 3
        colour = 1 + self.coloured[:, None] * (np.cos(hue) - 1)
        clean = 0.5 + 0.35 * stripe * colour[:, None, None, :]
        noise = self.rng.normal(0, 0.15, (self.n, self.kept, *clean.shape[1:]))
        crops = np.clip(clean[:, None] + noise, 0, 1)
        covers = np.ones(crops.shape[:-1])
        if not self.whole and self.depth:
            covers[..., :2] = 0  # no list reaches the left edge
            covers[:, ::3, :, -3:] = 0
        weights = np.divide(self.value, self.value[:, :1], out=np.zeros(self.value.shape), where=self.value > 0)
        mass = np.einsum("nj,njyx->nyx", weights, covers)
        total = np.einsum("nj,njyx,njyxc->nyxc", weights, covers, crops)
        feature = np.divide(total, mass[..., None], out=np.full(total.shape, 0.5), where=mass[..., None] > 0)
        coverage = mass / np.maximum(weights.sum(1), 1e-9)[:, None, None]
        feature[self.dead], coverage[self.dead], crops[self.dead] = np.nan, np.nan, np.nan
        n_crops = min(N_CROPS, self.kept)
        return {
            "neuron_feature": (("channel", "field_y", "field_x", "rgb"), feature.astype(np.float32)),
            "coverage": (("channel", "field_y", "field_x"), coverage.astype(np.float32)),
            "top_crop": (("channel", "crop", "crop_y", "crop_x", "rgb"), crops[:, :n_crops].astype(np.float32)),
        }, {"rgb": RGB}

    def manipulation(self, index: str, nulls: bool):
        """An index of a stimulus manipulation, computed of made-up responses to altered stimuli."""
        members = FAMILIES.get(index, [""])
        loss = {"colour": self.coloured, "shape": np.full(self.n, 0.7 * self.share)}.get(index)
        if loss is None:
            loss = self.rng.uniform(0.1, 0.8, self.n)
        turn = np.array([abs(np.sin(np.radians(float(m)))) if index == "orientation" else 1.0 for m in members])
        shape = (len(members), self.n, self.kept)
        altered = self.value * (1 - loss[:, None] * turn[:, None, None] + self.rng.normal(0, 0.15, shape))
        sham = self.value * (1 + self.rng.normal(-0.1, 0.2, (N_DRAWS, *self.value.shape)))
        found = manipulation_selectivity.family_of(self.value, altered)
        together = altered.mean(0)
        null = manipulation_selectivity.against_sham(self.value, together, sham)
        kind = "invariance" if index == "symmetry" else "loss"
        mean, by_member, sign = found.mean, found.index, 1
        if kind == "invariance":
            mean, by_member, sign = 1 - mean, 1 - by_member, -1
        per_unit = {
            index: mean,
            f"{index}_se": found.mean_se,
            f"{index}_raised": manipulation_selectivity.share_raised(self.value, together)[0],
        }
        if nulls:
            per_unit |= {
                f"{index}_sham": null.sham if sign > 0 else 1 - null.sham,
                f"{index}_sham_deviation": null.sham_deviation,
                f"{index}_corrected": sign * null.corrected,
                f"{index}_corrected_se": null.se,
                f"{index}_p_value": null.p_value,
                f"{index}_p_adjusted": adjusted(null.p_value),
            }
        variables: dict[str, Any] = {name: ("channel", values) for name, values in per_unit.items()}
        variables[index] = ("channel", mean, {"selectivity": kind, "clamp": "none"})
        if index not in FAMILIES:
            return variables, {}
        dim = f"{index}_member"
        best = [members[one] if one >= 0 else "" for one in found.weakest]
        variables[f"{index}_by_member"] = ((dim, "channel"), by_member)
        variables[f"{index}_by_member_se"] = ((dim, "channel"), found.se)
        variables[f"{index}_best"] = ("channel", np.array(best, dtype=object))
        return variables, {dim: np.array(members, dtype=object)}

    def labels(self, classes: Sequence[str], label: np.ndarray, nulls: bool):
        """Indexes of the classes of the top images, and of their colour names."""
        found = label_selectivity.label_shares(self.value, label[self.image])
        indexes = label_selectivity.label_indexes(found)
        chance = label_selectivity.chance_gamma(
            self.kept, label_selectivity.expected_labels_of(self.kept, np.bincount(label))
        )
        kept = ("gamma", "n_labels", "class_mass", "population_code", "entropy")
        variables: dict[str, Any] = {name: ("channel", indexes[name]) for name in kept}
        if nulls:
            p = label_selectivity.label_permutation(self.value, self.image, label, n_permutations=N_DRAWS, seed=0)
            p_value = p["gamma"].p_value
            variables |= {
                "gamma_chance": ("channel", np.where(self.dead, np.nan, chance)),
                "gamma_corrected": ("channel", label_selectivity.chance_corrected(indexes["gamma"], chance)),
                "gamma_p_value": ("channel", p_value),
                "gamma_p_adjusted": ("channel", adjusted(p_value)),
            }
        frequency = found.frequencies(len(classes))
        half = [label_selectivity.label_indexes(found, t)["gamma"] for t in (0.5, 1.0)]
        variables["gamma_by_threshold"] = (("threshold", "channel"), np.stack(half))
        variables["gamma_by_half"] = (("half", "channel"), np.stack([indexes["gamma"]] * 2))
        variables["gamma_by_n"] = (("n_kept", "channel"), indexes["gamma"][None])
        attrs = {"labels": "classes", "least": 0.1, "hierarchy": json.dumps(HIERARCHY)}
        variables["class_frequency"] = (("class", "channel"), frequency.T, attrs)
        share = self.rng.dirichlet(np.ones(len(COLOURS)), self.n)
        share[self.dead] = np.nan
        variables["colour_share"] = (("colour_name", "channel"), share.T, {"labels": "colours", "least": 0.1})
        text = np.where(self.dead, "", "animal").astype(object)
        variables |= {
            "hypernym": ("channel", text),
            "hypernym_depth": ("channel", np.where(self.dead, np.nan, 1.0)),
            "hypernym_weight": ("channel", np.where(self.dead, np.nan, 1.0)),
        }
        return variables, {
            "class": np.array(classes, dtype=object),
            "colour_name": np.array(COLOURS, dtype=object),
            "threshold": np.array(["0.5", "1"], dtype=object),
            "half": np.array(["first", "second"], dtype=object),
            "n_kept": np.array([str(self.kept)], dtype=object),
        }

    def by_class(self, classes: Sequence[str]):
        """Selectivity for classes by the responses to all images."""
        means = np.stack([self.responses[:, self.label == c].mean(1) for c in range(len(classes))])
        others = (means.sum(0) - means.max(0)) / (len(classes) - 1)
        with np.errstate(invalid="ignore"):
            index = (means.max(0) - others) / (means.max(0) + others)
        preferred = np.where(self.dead, "", np.array(classes, dtype=object)[means.argmax(0)]).astype(object)
        return {
            "class_selectivity": ("channel", index),
            "class_selectivity_se": ("channel", np.where(self.dead, np.nan, 0.02)),
            "preferred_class": ("channel", preferred),
            "class_mean": (("class", "channel"), means),
            "depth_of_selectivity": ("channel", class_selectivity.depth_of_selectivity(means)),
        }, {}

    def hues(self):
        def alive(values: np.ndarray | float) -> np.ndarray:
            return np.where(self.dead, np.nan, values)

        return {
            "hue_modes": ("channel", alive(1.0 * (self.coloured > 0.3))),
            "hue_1": ("channel", alive(np.where(self.coloured > 0.3, self.hue, np.nan))),
            "hue_2": ("channel", np.full(self.n, np.nan)),
            "hue_weight_1": ("channel", alive(1.0)),
            "hue_weight_2": ("channel", alive(np.nan)),
            "opponent": ("channel", alive(0.0)),
            "chroma": ("channel", alive(self.coloured)),
        }, {}

    def similarity(self):
        """Responses to the top images of each other, by the responses to whole images."""
        total = np.stack([self.responses[:, self.image[m]].sum(1) for m in range(self.n)], 1)
        found = unit_relations.similarity_of(total)
        return {"similarity": (("channel", "channel_2"), found)}, {"channel_2": np.arange(self.n)}

    def relevance(self, earlier: str):
        """Shares of responses that change with channels of the layer before, which has as many."""
        share = self.rng.gamma(0.5, 0.2, (self.n, self.n))
        share[self.dead], share[:, self.dead] = 0, np.nan
        signed = share * np.where(self.rng.random(share.shape) < 0.3, -1, 1)
        dims = ("earlier_channel", "channel")
        attrs = {"earlier": earlier, "closed_form": 1, "why": ""}
        return {
            "relevance": (dims, share, attrs),
            "relevance_se": (dims, 0.1 * share),
            "signed_relevance": (dims, signed, attrs),
            "signed_relevance_se": (dims, 0.1 * share),
        }, {"earlier_channel": np.arange(self.n)}


def adjusted(p_value: np.ndarray) -> np.ndarray:
    """Benjamini and Yekutieli's p-values of the defined ones."""
    found, there = np.full(p_value.shape, np.nan), np.isfinite(p_value)
    if there.any():
        found[there] = stats.false_discovery_control(p_value[there], method="by")
    return found


def with_values(result: xr.DataTree, layer: str, **values: object) -> xr.DataTree:
    """A result with other numbers of the units of a layer."""
    made = result.copy()
    node = made[f"selectivity/{layer}"].to_dataset().copy(deep=True)
    for name, of in values.items():
        node[name] = ("channel", np.asarray(of))
    made[f"selectivity/{layer}"] = xr.DataTree(node)
    return made


def without(result: xr.DataTree, layer: str, *variables: str) -> xr.DataTree:
    """A result without some variables of a layer."""
    made = result.copy()
    made[f"selectivity/{layer}"] = xr.DataTree(made[f"selectivity/{layer}"].to_dataset().drop_vars(variables))
    return made
