"""Small results, as a run would give them, of made-up units."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import xarray as xr

from neuroprobe.analysis.contrast import ContrastAnalysis, LayerLayout
from neuroprobe.analysis.sensitivity import SobolAnalysis, label_convergence
from neuroprobe.design.factors import Factor, Input
from neuroprobe.design.laws import Law
from neuroprobe.design.pick_freeze import PickFreeze
from oracles import sums_of_rows

DIMS = {1: ("channel",), 2: ("token", "channel"), 3: ("channel", "y", "x")}
SAMPLES, BLOCK = 64, 8
LAYERS = {"early": (3, 4, 5), "late": (6,)}


def make_result(
    layers: Mapping[str, Sequence[int]] = LAYERS,
    factors: Sequence[str] = ("hue", "rotation"),
    *,
    second_order: bool = True,
    image: str = "frozen",
    scramble: int | None = BLOCK,
    dead: float = 0.0,
    nan: float = 0.0,
    title: str = "made up",
    examples: bool = True,
    shapley: bool = False,
    sobol: bool = True,
) -> xr.DataTree:
    """Make a result whose units are rectified random sums of the factors and of their products.

    Parameters
    ----------
    layers : dict
        Layer → shape of its units.
    dead, nan : float
        Share of the units that do not vary, and of those with a NaN in some base samples (1: in all).
    shapley, sobol : bool
        Whether these groups are there.
    """
    rng = np.random.default_rng(3)
    analysis = SobolAnalysis(factors=tuple(factors), second_order=second_order, drop=nan > 0, image=image)
    inputs = tuple(Factor(name, (Input(name, Law("uniform", (0, 1))),)) for name in factors)
    values = PickFreeze(inputs, 1, 1, second_order, BLOCK).presentations(0, SAMPLES).values
    x = np.stack([values[name] for name in factors], -1)
    nodes, table = {}, {}
    for depth, (layer, shape) in enumerate(layers.items()):
        n_units = int(np.prod(shape))
        weights = rng.normal(0, 1, (2, len(factors), n_units)) * (rng.random(n_units) >= dead)
        y = np.maximum(x @ weights[0] + (x**2 @ weights[1]) * (x @ weights[0]) - 0.5, 0)
        y = np.where((rng.random(n_units) < nan) & ((rng.random((SAMPLES, 1, 1)) < 0.1) | (nan == 1)), np.nan, y)
        sums = accumulate(analysis, y)
        node = analysis.label(sums, DIMS[len(shape)], shape, {}, scramble, depth)
        if sobol:
            nodes[f"sobol/{layer}"] = node
        if shapley:
            nodes[f"shapley/{layer}"] = make_shapley(node)
        table[layer] = analysis.convergence(sums)
    summary = label_convergence({SAMPLES // 2: table, SAMPLES: table}, factors)
    if sobol:
        nodes["convergence/sobol"] = summary
    if shapley:
        kept = [name for name in summary if str(name).startswith("first_order")]
        renamed = {name: str(name).replace("first_order", "shapley_effect") for name in kept}
        nodes["convergence/shapley"] = summary[kept].rename(renamed)
    if examples:
        nodes["stimuli/examples"] = make_examples(factors, rng)
    tree = xr.DataTree.from_dict(nodes)
    tree.attrs = make_attrs(layers, factors, analysis, scramble, x.shape[1], title)
    return tree


def make_shapley(sobol: xr.Dataset) -> xr.Dataset:
    """Shares that lie between first and total order, as those of two factors do, and sum to 1."""
    share = (sobol["first_order"] + sobol["total_order"]) / 2
    error = (sobol["first_order_se"] + sobol["total_order_se"]) / 2
    kept = ["variance", "mean", "activity_rate", "defined", *({"n_dropped"} & set(sobol))]
    # every factor has a share, so that the sum is not near 0
    share = share.clip(0.01) / share.clip(0.01).sum("factor")
    return sobol[kept].assign(shapley_effect=share, shapley_effect_se=error.assign_attrs(sobol["first_order_se"].attrs))


def accumulate(analysis: SobolAnalysis, y: np.ndarray):
    """Sums of responses (samples, rows, units)."""
    accumulator = analysis.accumulator(y.shape[-1], BLOCK, dtype=torch.float64)
    blocks = []
    for start in range(0, SAMPLES, BLOCK):
        index = torch.arange(BLOCK * y.shape[1]).view(BLOCK, -1)
        assert accumulator.update(torch.from_numpy(y[start : start + BLOCK]).flatten(0, 1), index)
        blocks.append(accumulator.end_block())
    for block in blocks[1:]:
        blocks[0].merge(block)
    return blocks[0]


def with_contrasts(result: xr.DataTree) -> xr.DataTree:
    """Contrasts and accuracies of the layers and factors of a made-up result; units that do not vary do not change."""
    rng = np.random.default_rng(5)
    factors = tuple(map(str, next(iter(result["sobol"].children.values()))["factor"].values))
    analysis, nodes, n_images = ContrastAnalysis(factors), {}, 30

    arrays, layouts = {}, {}
    for layer, node in result["sobol"].children.items():
        varies = node["defined"].values
        effects = rng.normal(0, 1, (len(factors), varies.size)) * varies.ravel()
        control = rng.normal(0, 1, (n_images, 1, varies.size))
        changes = effects * rng.uniform(0.5, 1.5, (n_images, *effects.shape))
        rows = np.concatenate([control, control + changes], 1)
        arrays[layer] = analysis.finalize(sums_of_rows(rows, analysis.terms))
        layouts[layer] = LayerLayout(tuple(map(str, node["defined"].dims)), varies.shape, {}, node.attrs["depth"])
    for layer, labelled in analysis.label_layers(layouts, arrays.__getitem__, n_images):
        nodes[f"contrast/{layer}"] = labelled
    correct = (rng.random((n_images, 1 + len(factors), 2)) < 0.7).astype(float)
    table = analysis.label_accuracy(sums_of_rows(correct, analysis.terms), ["top_1", "probability"])
    return xr.DataTree.from_dict({**nodes, "accuracy": table})


def with_moments(result: xr.DataTree) -> xr.DataTree:
    """Moments of the layers of a made-up result."""
    nodes = {}
    for layer, node in result["sobol"].children.items():
        found = node.to_dataset()[["mean", "mean_se", "variance", "variance_se", "activity_rate", "activity_rate_se"]]
        variation = (found["variance"] ** 0.5 / abs(found["mean"])).where(node["defined"] == 1)
        error = (variation / 4).assign_attrs(found["variance_se"].attrs)
        nodes[f"moments/{layer}"] = found.assign(
            coefficient_of_variation=variation, coefficient_of_variation_se=error, defined=node["defined"]
        ).assign_attrs(node.attrs)
    return xr.DataTree.from_dict(nodes)


def make_examples(factors: Sequence[str], rng: np.random.Generator) -> xr.Dataset:
    treatments = ["control", *factors, "all"]
    shape = (len(treatments), 2, 6, 8, 3)
    words = np.array([["" if t == "control" else f"{t} at {i}" for i in range(2)] for t in treatments], dtype=object)
    return xr.Dataset(
        {
            "stimulus": (("treatment", "image", "y", "x", "colour"), rng.integers(0, 256, shape, dtype=np.uint8)),
            "parameters": (("treatment", "image"), words),
        },
        {"treatment": treatments, "colour": ["red", "green", "blue"], "image_id": ("image", ["a/1.png", "b/2.png"])},
    )


def make_attrs(layers, factors, analysis: SobolAnalysis, scramble: int | None, n_rows: int, title: str) -> dict:
    alterations = [{"name": name, "as": name, "switch": 0.5, "angle": {"uniform": [-1, 1]}} for name in factors]
    protocol = {
        "neuroprobe": 1,
        "title": title,
        "subject": {
            "network": "made_up",
            "weights": "none",
            "layers": [{"name": layer} for layer in layers],
            "random_twin": False,
        },
        "treatment": {"alterations": alterations, "reference_side": "image"},
    }
    details = {
        "protocol": protocol,
        "protocol_as_given": protocol,
        **dict.fromkeys(("protocol_hash", "weights_hash", "stimulus_hash"), "0a1b"),
        "n_images": 2,
        "image_shape": [3, 6, 8],
        "device": "cpu",
        "dtype": "float32",
        "layouts": {"pick-freeze": {"batch": 8, "compiled": False}},
        "warnings": ["standard errors rest on few blocks"],
        "python": "3",
        "platform": "none",
        "versions": {"neuroprobe": "0"},
    }
    return {
        "title": title,
        "history": "made up",
        "seed": 0,
        "samples": SAMPLES,
        "rows": n_rows,
        "block": BLOCK,
        "scramble": scramble or 0,
        "factors": json.dumps(list(factors)),
        "nan": "drop" if analysis.drop else "error",
        "image": analysis.image,
        "second_order": int(analysis.second_order),
        "neuroprobe_provenance": json.dumps(details),
    }
