"""What lesions of the units that are nearest to a brain's do to the likeness of a network and that brain.

Units are chosen, and the layer that they are chosen of, on one half of the stimuli; scores are of the other half.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.analysis.populations import Population
from neuroprobe.comparison.metrics import METRICS
from neuroprobe.comparison.representations import rdms_of, score_representations
from neuroprobe.comparison.responses import AREA, UNITS_AT_A_TIME
from neuroprobe.comparison.stimuli import Side, by_area, common_stimuli, mean_responses, side_of
from neuroprobe.design.randomness import generator
from neuroprobe.errors import ReaderError, about, unknown_name
from neuroprobe.protocol.comparison import CompareOptions, NearestOptions
from neuroprobe.statistics.masks import count_share, descending_ranks
from neuroprobe.statistics.nearness import nearness_by_dissimilarities, nearness_by_responses
from neuroprobe.statistics.paired import adjust

Array = NDArray[np.float64]
Units = Mapping[str, Mapping[str, NDArray[np.int64]]]  # layer → dimension → places of units
# (what it is for, units, what they are multiplied by, how a recording is scored) → scores of the lesioned network
ScoreLesioned = Callable[[str, Units, float, Callable[[xr.DataTree], Array]], Array]
RANDOM: Final = "random_set"
SET: Final = "nearest"
LESION: Final = "lesion"  # node beside a comparison
OF_DISSIMILARITIES: Final = ("distance", "distance_brain", "comparison")  # options that scores depend on


def compared_lesioned(
    model: Side, brain: Side, options: CompareOptions, name: str, seed: int, score_lesioned: ScoreLesioned
) -> xr.Dataset:
    """Lesion the units that are nearest to a brain's, and as many at random, and score the network again.

    Parameters
    ----------
    model : Side
        The network without these lesions.
    brain : Side
    options : CompareOptions
        With ``lesion``.
    name : str
        Of the brain.
    seed : int
        Of the protocol.
    score_lesioned : callable
        Records the network under a lesion, and returns what scores of that recording are.

    Returns
    -------
    Dataset
        Over ``layer``, and ``area`` where there are several: ``score`` without lesions, ``score_lesioned`` and
        ``drop``, their difference, for the nearest units; ``drop_random`` (…, ``random_set``) for units drawn at
        random, with ``drop_random_mean`` and ``drop_random_sd``; ``p_value``, the share of random sets that do as
        much (add-one), ``p_adjusted`` over layers; ``n_undefined``, sets whose lesion leaves no score, as where no unit
        responds to some stimulus; ``n_lesioned``, units of each layer that are lesioned.
    """
    if options.areas is None:
        return _of_brain(model, brain, options, name, seed, score_lesioned)
    found = {
        area: _of_brain(model, part, options, f"{name}/{area}", seed, score_lesioned)
        for area, part in by_area(brain, options.areas).items()
    }
    label = xr.Variable(AREA, np.array(list(found), dtype=object))
    return xr.concat(list(found.values()), label, data_vars="all", combine_attrs="drop_conflicts")


def _of_brain(
    model: Side, brain: Side, options: CompareOptions, purpose: str, seed: int, score_lesioned: ScoreLesioned
) -> xr.Dataset:
    assert options.lesion is not None
    spec = options.lesion
    stimuli = common_stimuli(model, brain, options.join)
    choosing, scoring = halves(stimuli, seed)
    layers = [one.name for one in model.populations]
    if spec.layers is None:
        best = int(np.nanargmax(_scores(model, brain, choosing, options, seed)))
        lesioned = [layers[best]]
    else:
        lesioned = spec.layers
    chosen = {name: _nearness(_layer(model, name), model.on, brain, choosing) for name in lesioned}
    random = generator(seed, "lesions of comparisons")
    sets = {SET: {name: _nearest(near, spec.share) for name, near in chosen.items()}}
    for number in range(spec.random):
        sets[f"random {number}"] = {name: _at_random(near, spec.share, random) for name, near in chosen.items()}

    def scored(tree: xr.DataTree) -> Array:
        side = side_of("model", tree, options.on, options.units_model, model.spread)
        assert [one.name for one in side.populations] == layers
        parts = [replace(side, populations=(one,)) for one in side.populations]
        return np.array([_score_if_any(part, brain, scoring, options, seed) for part in parts])

    found = {
        name: score_lesioned(
            f"{purpose}/{name}",
            {layer: _places(_layer(model, layer), kept) for layer, kept in units.items()},
            spec.multiply,
            scored,
        )
        for name, units in sets.items()
    }
    intact = _scores(model, brain, scoring, options, seed)
    n_lesioned = np.array([int(sets[SET][name].sum()) if name in lesioned else 0 for name in layers])
    return _labelled(intact, found, layers, n_lesioned, spec, (len(choosing), len(scoring)))


def arguments_of(options: CompareOptions, seed: int) -> dict[str, Any]:
    """Options of the metric, with the seed of the protocol where it takes one."""
    takes_seed = "seed" in inspect.signature(METRICS[options.metric]).parameters
    return ({"seed": seed} if takes_seed else {}) | options.options


def halves(stimuli: Sequence[str], seed: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Stimuli by which units are chosen, and those by which they are scored.

    Raises
    ------
    ReaderError
        If there are fewer than 8.
    """
    if len(stimuli) < 8:
        raise ReaderError(
            f"lesion: units are chosen by one half of the stimuli and scored by the other, and {len(stimuli)} are too "
            "few: 8 or more"
        ).about("lesion")
    order = generator(seed, "halves of stimuli").permutation(len(stimuli))
    half = len(stimuli) // 2
    first, second = (sorted(order[:half]), sorted(order[half:]))
    return tuple(stimuli[place] for place in first), tuple(stimuli[place] for place in second)


def require_lesions(layers: Sequence[str], spec: NearestOptions) -> None:
    """Refuse lesions of layers that are not recorded.

    Raises
    ------
    UnknownNameError
    """
    for number, layer in enumerate(spec.layers or ()):
        if layer not in layers:
            with about("lesion", "layers", number):
                raise ReaderError(unknown_name("layer", layer, layers))


def _layer(side: Side, name: str) -> Population:
    return next(one for one in side.populations if one.name == name)


def _scores(model: Side, brain: Side, stimuli: tuple[str, ...], options: CompareOptions, seed: int) -> Array:
    """Scores of the layers (layers,), mean over the populations of a brain."""
    given = arguments_of(options, seed)
    if options.metric == "rsa":
        return score_representations(model, brain, stimuli, **_some(given))
    # there is no use for a p-value of each
    few = {"n_permutations": 1} if options.metric == "cka" else {}
    score = METRICS[options.metric](model, brain, stimuli, **given | few)["score"]
    mean = score.mean([dim for dim in score.dims if dim != names.LAYER])
    return np.asarray(mean.values, dtype=np.float64)


def _some(given: dict[str, Any]) -> dict[str, Any]:
    return {key: given[key] for key in OF_DISSIMILARITIES if key in given}


def _score_if_any(model: Side, brain: Side, stimuli: tuple[str, ...], options: CompareOptions, seed: int) -> float:
    """Score of a layer; NaN of one that a lesion left nothing to score of, such as a response to some stimulus."""
    try:
        return float(_scores(model, brain, stimuli, options, seed)[0])
    except ReaderError:
        return np.nan


def _nearness(population: Population, on: str, brain: Side, stimuli: tuple[str, ...]) -> Array:
    """How near each unit is to a brain, by its neurons or, where there are none, by its dissimilarities (units,)."""
    blocks = mean_responses(population, on, stimuli, UNITS_AT_A_TIME)
    if brain.rdms is None:
        neurons = np.concatenate(
            [means for one in brain.populations for means in mean_responses(one, brain.on, stimuli)], axis=1
        )
        return np.concatenate([nearness_by_responses(block, neurons) for block in blocks])
    _, pairs = rdms_of(brain, stimuli, "correlation")
    # matrices of subjects count alike, whatever their scale
    centred = pairs - pairs.mean(1, keepdims=True)
    mean = (centred / centred.std(1, keepdims=True)).mean(0)
    return np.concatenate([nearness_by_dissimilarities(block, mean) for block in blocks])


def _nearest(nearness: Array, share: float) -> NDArray[np.bool_]:
    """Units that are nearest: a share of those whose nearness is defined."""
    return descending_ranks(nearness) < count_share(share, int(np.isfinite(nearness).sum()))


def _at_random(nearness: Array, share: float, random: np.random.Generator) -> NDArray[np.bool_]:
    """As many units, at random, of those whose nearness is defined."""
    known = np.flatnonzero(np.isfinite(nearness))
    found = np.zeros(len(nearness), dtype=np.bool_)
    found[random.permutation(known)[: count_share(share, len(known))]] = True
    return found


def _places(population: Population, units: NDArray[np.bool_]) -> dict[str, NDArray[np.int64]]:
    """Where units are in the response of their layer, by dimension."""
    dims = (names.TOKEN, names.CHANNEL, names.Y, names.X)
    return {
        dim: population.dataset[dim].values[units].astype(np.int64) for dim in dims if dim in population.dataset.coords
    }


def _labelled(
    intact: Array,
    found: Mapping[str, Array],
    layers: list[str],
    n_lesioned: NDArray[np.int64],
    spec: NearestOptions,
    sizes: tuple[int, int],
) -> xr.Dataset:
    drop = intact - found[SET]
    at_random = np.array([intact - scores for name, scores in found.items() if name != SET]).T
    # layers before the lesion, where all is as it was, are no tests
    every = np.column_stack([drop, at_random])
    tested = (np.abs(every).max(1) > 0) & ~np.isnan(every).any(1)
    at_least = (at_random >= drop[:, None] - 1e-12).sum(1)
    p = np.where(tested, (1 + at_least) / (1 + spec.random), np.nan)
    half = f"{sizes[1]} stimuli, of which none chose units"
    sets = f"{spec.random} sets of as many units at random"
    described: dict[str, Any] = {
        "score": (intact, "score without lesions", half),
        "score_lesioned": (found[SET], "score without the units that are nearest", half),
        "drop": (drop, "score that is lost with the units that are nearest", half),
        "drop_random_mean": (at_random.mean(1), "score that is lost with units at random, mean over sets", sets),
        "drop_random_sd": (_sd(at_random), "its standard deviation over sets", sets),
        "p_value": (p, "p-value of a drop beyond that of units at random, one-sided", sets),
        "p_adjusted": (adjust(p, "fdr_bh"), "p-value, corrected for the number of layers", "fdr_bh"),
        "n_undefined": (np.isnan(every).sum(1), "sets whose lesion leaves no score, so that there is no p-value", half),
        "n_lesioned": (n_lesioned, "units that are lesioned", f"{spec.share:g} of the units that vary"),
    }
    data: dict[str, Any] = {
        name: (names.LAYER, np.asarray(v), {"long_name": told, "method": method})
        for name, (v, told, method) in described.items()
    }
    data["drop_random"] = (
        (names.LAYER, RANDOM),
        at_random,
        {"long_name": "score that is lost with units at random", "method": sets},
    )
    return xr.Dataset(data, coords={names.LAYER: np.array(layers, dtype=object)}).assign_attrs(
        share=spec.share, multiply=spec.multiply, n_random=spec.random, n_choosing=sizes[0], n_scoring=sizes[1]
    )


def _sd(values: Array) -> Array:
    return values.std(1, ddof=1) if values.shape[1] > 1 else np.full(len(values), np.nan)
