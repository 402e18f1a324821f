"""Small results, as a run with masking and single-class analyses would give them, of made-up accuracies."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import xarray as xr

from made_results import make_attrs, make_examples
from neuroprobe.analysis.sensitivity import SobolAnalysis

MEASURES = {"top_1": "share of presentations whose class has the largest output", "probability": "probability"}
QUANTILES, MULTIPLIERS = (0.5, 0.6, 0.7, 0.8, 0.9), (0.0, 0.5, 1.5)


def make_rules(quantiles: Sequence[float] = QUANTILES, multipliers: Sequence[float] = MULTIPLIERS, soft: bool = True):
    """Labels of rules, with the coordinates that describe them."""
    hard = [(q, m) for m in multipliers for q in quantiles]
    labels = [f"q{q:g} x{m:g}" for q, m in hard] + (["x s", "x 1-s"] if soft else [])
    none = [np.nan] * (2 if soft else 0)
    return {
        "rule": np.array(labels, dtype=object),
        "quantile": ("rule", np.array([q for q, _ in hard] + none)),
        "multiply": ("rule", np.array([m for _, m in hard] + none)),
        "masked_share": ("rule", np.array([round(1 - q, 9) for q, _ in hard] + none)),
    }


def make_masking(
    factors: Sequence[str] = ("hue", "blur"),
    *,
    maps: Sequence[str] | None = None,
    places: Sequence[Sequence[str]] = (("early", "late"), ("late",)),
    quantiles: Sequence[float] = QUANTILES,
    multipliers: Sequence[float] = MULTIPLIERS,
    soft: bool = True,
    n_random: int = 8,
    masking: bool = True,
    single_class: bool = True,
    p_values: bool = True,
    n_classes: int = 12,
    examples: bool = True,
) -> xr.DataTree:
    """Make a result in which a factor's own map does most harm to images that the factor alters.

    Parameters
    ----------
    factors, maps : sequence of str
        The alterations, and the factors whose maps make the masks: by default the same.
    places : sequence of sequences of str
        Layers that are lesioned together, place by place.
    quantiles, multipliers, soft
        Of the rules.
    n_random : int
        Random masks of the rules that multiply by 0; other rules have none.
    masking, single_class : bool
        Whether these groups are there.
    p_values : bool
        Whether the headline could be tested; else all of its p-values are NaN.
    """
    rng = np.random.default_rng(7)
    maps = list(factors) if maps is None else list(maps)
    rules, nodes = make_rules(quantiles, multipliers, soft), {}
    headline = str(rules["rule"][max(0, len(quantiles) - 1)])
    for depth, layers in enumerate(places):
        shared = {
            "method": "made up",
            "replicate": "image",
            "n_images": 50,
            "n_dropped": depth,
            "draws": 3,
            "level": 0.95,
            "correction": "fdr_by",
            "family": "factors of one place and measure",
            "headline": headline,
            "depth": depth,
            "layers": json.dumps(list(layers)),
            "se_scope": "images of this kind",
        }
        place = "+".join(layers)
        # later places have names that sort first
        if masking:
            nodes[f"masking/{place}"] = _masked(rng, factors, maps, rules, headline, layers, n_random, p_values, shared)
        if single_class:
            nodes[f"single_class/{place}"] = _classes(rng, factors, maps, rules, headline, n_classes, p_values, shared)
    if examples:
        nodes["stimuli/examples"] = make_examples(factors, rng)
    tree = xr.DataTree.from_dict(nodes)
    layers = {layer: (3,) for together in places for layer in together}
    attrs = make_attrs(layers, factors, SobolAnalysis(factors=tuple(factors)), None, 1 + 3 * len(factors), "made up")
    tree.attrs = attrs | {"samples": 50}
    return tree


def _inputs(factors: Sequence[str]) -> np.ndarray:
    return np.array(["original", *factors], dtype=object)


def _with_ends(name: str, dims: Sequence[str], values: np.ndarray, half: np.ndarray | float, *, se: bool = True):
    """A variable with its interval, and its standard error where it has one."""
    half = np.broadcast_to(half, values.shape)
    found = {name: (dims, values), f"{name}_lower": (dims, values - half), f"{name}_upper": (dims, values + half)}
    return found | ({f"{name}_se": (dims, half / 2)} if se else {})


def _masked(rng, factors, maps, rules, headline, layers, n_random, p_values, shared) -> xr.Dataset:
    inputs, measures = _inputs(factors), list(MEASURES)
    n_in, n_map, n_rule, n_measure = len(inputs), len(maps), len(rules["rule"]), len(measures)
    multiply, share = rules["multiply"][1], rules["masked_share"][1]
    own = np.array([[1.0 if i == m else 0.0 for m in maps] for i in inputs])
    # soft rules do as much as half of the units
    strength = np.nan_to_num(share, nan=0.5) * np.abs(np.nan_to_num(multiply, nan=0.5) - 1)
    unlesioned = 0.6 - 0.03 * np.arange(n_in)[:, None] - 0.05 * np.arange(n_measure)
    difference = -(0.2 + 0.5 * own)[:, :, None, None] * strength[:, None] * np.ones(n_measure)
    difference = difference * rng.uniform(0.6, 1.4, difference.shape)
    difference[0, 0] += 0.1  # some lesions help
    is_random = multiply == 0
    random = rng.normal(-0.3, 0.06, (n_in, n_rule, n_random, n_measure)) * strength[:, None, None]
    random[:, ~is_random] = np.nan
    n_of = np.where(is_random, n_random, 0)
    if is_random.sum() > 1 and n_random > 2:
        # a rule with fewer masks than others
        first = np.flatnonzero(is_random)[0]
        random[:, first, -2:], n_of[first] = np.nan, n_random - 2
    mean, low, high = (np.full((n_in, n_rule, n_measure), np.nan) for _ in range(3))
    if n_random and is_random.any():
        mean[:, is_random] = np.nanmean(random[:, is_random], 2)
        low[:, is_random], high[:, is_random] = np.nanquantile(random[:, is_random], [0.025, 0.975], axis=2)
    at = list(rules["rule"]).index(headline)
    excess, others = (np.full((n_map, n_measure), np.nan) for _ in range(2))
    for j, name in enumerate(maps):
        if name in factors:
            i = list(inputs).index(name)
            excess[j] = difference[i, j, at] - mean[i, at]
            if n_map > 1:
                others[j] = difference[i, j, at] - np.delete(difference[i, :, at], j, 0).mean(0)
    tests = {}
    for number, name in enumerate(
        ("p_value", "p_adjusted", "p_less", "p_less_adjusted", "p_others"),
    ):
        p = np.where(np.isnan(excess) | (not p_values), np.nan, (1 + number + np.arange(n_map)[:, None]) / (9 + n_map))
        tests[name] = (("factor", "measure"), np.minimum(1, p * np.ones(n_measure)))
    cross = rng.uniform(-0.2, 1, (n_in, n_map, n_measure))
    cross[0] = np.nan
    of_all, of_map = ("input", "factor", "rule", "measure"), ("factor", "measure")
    per_layer = ("layer", "rule")
    variables = {
        **_with_ends("unlesioned", ("input", "measure"), unlesioned * np.ones((n_in, n_measure)), 0.03),
        **_with_ends("estimate", of_all, unlesioned[:, None, None] + difference, 0.03),
        **_with_ends("difference", of_all, difference, 0.02),
        "random_difference": (("input", "rule", "mask", "measure"), random),
        "random_mean": (("input", "rule", "measure"), mean),
        "random_mean_lower": (("input", "rule", "measure"), low),
        "random_mean_upper": (("input", "rule", "measure"), high),
        "n_random": ("rule", n_of),
        **_with_ends("excess", of_map, excess, 0.04, se=False),
        **_with_ends("against_others", of_map, others, 0.05, se=False),
        **tests,
        "diagonal": ("measure", np.zeros(n_measure) if np.isnan(others).all() else np.nanmean(others, 0)),
        "p_diagonal": ("measure", np.full(n_measure, 0.04 if p_values else np.nan)),
        **_with_ends("cross", ("input", "factor", "measure"), cross, 0.3, se=False),
        "n_units": ("layer", np.full(len(layers), 100)),
        "n_candidates": ("layer", np.full(len(layers), 90)),
        "n_undefined": ("layer", np.full(len(layers), 10)),
        "n_clipped": (("layer", "factor"), np.full((len(layers), n_map), 2)),
        "n_masked": (per_layer, np.tile(np.nan_to_num(90 * share, nan=90).round().astype(int), (len(layers), 1))),
    }
    coords = {
        "input": inputs,
        "factor": np.array(maps, dtype=object),
        **rules,
        "measure": np.array(measures, dtype=object),
        "meaning": ("measure", np.array(list(MEASURES.values()), dtype=object)),
        "mask": np.arange(n_random),
        "layer": np.array(list(layers), dtype=object),
    }
    return xr.Dataset(variables, coords, shared | {"shares": 1, "n_bootstrap": 200})


def _classes(rng, factors, maps, rules, headline, n_classes, p_values, shared, k: int = 5) -> xr.Dataset:
    inputs = _inputs(factors)
    n_in, n_map, n_rule = len(inputs), len(maps), len(rules["rule"])
    classes = np.array([f"class {i}" for i in range(n_classes)], dtype=object)
    sensitive = np.stack([rng.permutation(classes)[:k] for _ in maps])
    unlesioned = rng.uniform(0.1, 0.3, (n_in, n_map))
    difference = rng.normal(0, 0.05, (n_in, n_map, n_rule))
    of_all = ("input", "factor", "rule")

    def p(*shape: int) -> np.ndarray:
        return rng.uniform(0.001, 1, shape) if p_values else np.full(shape, np.nan)

    tests = {
        "p_unlesioned": (of_all[:2], p(n_in, n_map)),
        "p_unlesioned_adjusted": (of_all[:2], p(n_in, n_map)),
        **{name: (of_all, p(n_in, n_map, n_rule)) for name in ("p_value", "p_adjusted", "p_shift", "p_shift_adjusted")},
    }
    share = rng.dirichlet(np.ones(n_classes), n_in)
    shift = rng.normal(0, 0.02, (n_in, n_map, n_classes))
    recall_shift = rng.normal(0, 0.1, (n_in, n_map, n_classes))
    by_class = ("input", "factor", "class")
    variables = {
        "sensitive_class": (("factor", "rank"), sensitive),
        "sensitivity": (("factor", "rank"), np.sort(rng.uniform(0, 1, (n_map, k)))[:, ::-1]),
        **_with_ends("unlesioned", of_all[:2], unlesioned, 0.02),
        **_with_ends("jaccard", of_all, unlesioned[:, :, None] + difference, 0.02),
        **_with_ends("difference", of_all, difference, 0.015),
        **tests,
        "fence": ("input", 0.28 - 0.01 * np.arange(n_in), {"hypergeometric_fence": 0.26, "expected_jaccard": 0.21}),
        "class_share": (("input", "class"), share),
        "class_share_shift": (by_class, shift),
        "class_share_shift_se": (by_class, np.full(shift.shape, 0.01)),
        "recall": (("input", "class"), rng.uniform(0, 1, (n_in, n_classes))),
        "recall_shift": (by_class, recall_shift),
        "recall_shift_se": (by_class, np.full(shift.shape, 0.05)),
    }
    coords = {
        "input": inputs,
        "factor": np.array(maps, dtype=object),
        **rules,
        "class": classes,
        "rank": np.arange(k),
    }
    return xr.Dataset(variables, coords, shared | {"k": k, "n_permutations": 99})
