"""Small results of selectivity, with the variables that queries and galleries read."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import xarray as xr

CLASSES = ("cat", "dog", "frog", "sea lion", "truck")
COLOURS = ("red", "green", "blue", "grey")
HIERARCHY = {"cat": "mammal", "dog": "mammal", "sea lion": "mammal", "mammal": "animal", "frog": "animal"}
DEAD = 1  # channel of every layer
WEIGHTS = "ab" * 32
FIELDS = {"early": 5, "late": 9}  # layer → side of its receptive fields, px


def made_selectivity(
    seed: int = 0,
    n_channels: int = 6,
    *,
    classes: Sequence[str] = CLASSES,
    hierarchy: dict[str, str] | None = HIERARCHY,
    weights: str | None = WEIGHTS,
    pictures: bool = True,
    similarity: bool = True,
) -> xr.DataTree:
    """Make a result of two layers, in each of which one channel never responds."""
    rng = np.random.default_rng(seed)
    nodes = {}
    for depth, (layer, field) in enumerate(FIELDS.items()):
        dead = np.arange(n_channels) == DEAD
        of_classes = _shares(rng, len(classes), dead)
        above = {} if hierarchy is None else {"hierarchy": json.dumps(hierarchy)}
        variables = {
            "gamma": ("channel", np.where(dead, np.nan, rng.random(n_channels)), {"long_name": "class selectivity γ"}),
            "colour": ("channel", np.where(dead, np.nan, rng.random(n_channels))),
            "colour_se": ("channel", np.where(dead, np.nan, 0.01)),
            "preferred_class": ("channel", np.where(dead, "", np.array(classes, object)[of_classes.argmax(0)])),
            "defined": ("channel", (~dead).astype(np.int8)),
            "class_frequency": (("class", "channel"), of_classes, {"labels": "classes", "least": 0.1, **above}),
            "colour_share": (
                ("colour_name", "channel"),
                _shares(rng, len(COLOURS), dead),
                {"labels": "colours", "least": 0.25},
            ),
            "top_value": (("channel", "rank"), np.sort(rng.random((n_channels, 4)))[:, ::-1]),
        }
        if similarity:
            near = np.where(np.eye(n_channels) == 1, 1, rng.random((n_channels, n_channels)))
            variables["similarity"] = (("channel", "channel_2"), np.where(dead | dead[:, None], np.nan, near))
        if pictures:
            variables |= _pictures(rng, field, dead)
        coords = {
            "channel": np.arange(n_channels),
            "channel_2": np.arange(n_channels),
            "rank": [1, 2, 3, 4],
            "class": np.array(classes, object),
            "colour_name": np.array(COLOURS, object),
            "rgb": np.array(["red", "green", "blue"], object),
        }
        nodes[f"/selectivity/{layer}"] = xr.Dataset(variables, coords, {"depth": depth})
    tree = xr.DataTree.from_dict(nodes)
    tree.attrs = {"title": "made up"}
    if weights is not None:
        tree.attrs["neuroprobe_provenance"] = json.dumps({"weights_hash": weights})
    return tree


def _shares(rng: np.random.Generator, n_labels: int, dead: np.ndarray) -> np.ndarray:
    shares = rng.dirichlet(np.full(n_labels, 0.4), len(dead)).T
    return np.where(dead, np.nan, shares)


def _pictures(rng: np.random.Generator, field: int, dead: np.ndarray) -> dict[str, tuple]:
    n = len(dead)
    feature = rng.uniform(0.4, 0.6, (n, field, field, 3)).astype(np.float32)
    crops = rng.random((n, 3, field, field, 3)).astype(np.float32)
    coverage = np.ones((n, field, field), np.float32)
    coverage[:, 0] = 0
    feature[:, 0] = 0.5
    feature[dead], crops[dead], coverage[dead] = np.nan, np.nan, 0
    crops[n - 1, 1:] = np.nan  # a unit that one image drives
    return {
        "neuron_feature": (("channel", "field_y", "field_x", "rgb"), feature),
        "coverage": (("channel", "field_y", "field_x"), coverage),
        "top_crop": (("channel", "crop", "crop_y", "crop_x", "rgb"), crops),
    }
