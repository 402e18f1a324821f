"""Comparison of dissimilarity matrices: which layer arranges stimuli as a brain does."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.analysis.populations import Population
from neuroprobe.comparison.spread import UNITS_AT_A_TIME, Block, Spread, sums_of
from neuroprobe.comparison.stimuli import Side, blocks_of, side_of, trials_of
from neuroprobe.design.randomness import generator
from neuroprobe.errors import ReaderError, unknown_name
from neuroprobe.statistics.paired import adjust
from neuroprobe.statistics.rdm_comparison import CEILINGS, METHODS, compare_rdms
from neuroprobe.statistics.rdm_inference import OVER, Ceiling, Inference, ceiling_of, infer, pairs_of
from neuroprobe.statistics.rdms import DISTANCES, WHITENED, Products, whitened_distances

Array = NDArray[np.float64]
LAYER_2: Final = "layer_2"
KNOWN: Final = (*DISTANCES, *WHITENED)
MOST_WHITENED: Final = 4096  # units whose covariance of noise is taken
N_SPLITS: Final = 50  # halves of the stimuli, on one of which a layer is chosen


def rdm_of(population: Population, on: str, stimuli: tuple[str, ...], distance: str) -> Array:
    """Dissimilarities of the stimuli (pairs,), from some units at a time."""
    return next(_rdms((population,), on, stimuli, distance, None))


def _rdms(
    populations: Sequence[Population], on: str, stimuli: tuple[str, ...], distance: str, spread: Spread | None
) -> Iterator[Array]:
    """Dissimilarities of each population in turn."""
    if distance in WHITENED:
        yield from (_whitened_rdm(one, on, stimuli, distance) for one in populations)
        return

    def blocks(one: Population) -> Iterator[Block]:
        return blocks_of(one, on, stimuli, UNITS_AT_A_TIME)

    for population, products in sums_of(spread, _products, populations, blocks, distance):
        found = products.distances()
        if np.isnan(found).any():
            raise ReaderError(
                f"{population.name}: some stimulus has the same response of all units, so that its {distance} "
                "distances are not defined; take distance='euclidean', or another layer"
            )
        yield found


def _products(block: Block, distance: str) -> Products:
    """Take in the units of a block."""
    means = block.means()
    products = Products(len(means), distance)
    try:
        products.add(means)
    except ValueError as error:
        raise ReaderError(f"{block.population}: {error}") from None
    return products


def _whitened_rdm(population: Population, on: str, stimuli: tuple[str, ...], distance: str) -> Array:
    """Dissimilarities in units of the noise of repetitions (pairs,)."""
    if population.n_units > MOST_WHITENED:
        raise ReaderError(
            f"{population.name}: {distance} takes the covariance of the noise of {population.n_units:,} units; "
            f"choose {MOST_WHITENED:,} at most, by `units_brain` or `units_model`"
        )
    trials = trials_of(population, on, stimuli)
    if trials is None:
        raise ReaderError(
            f"{population.name}: {distance} takes repetitions of each stimulus, and there are none; take `distance` of "
            "means, or `distance_brain` where the brain alone has repetitions"
        )
    try:
        return whitened_distances(trials, distance)
    except ValueError as error:
        raise ReaderError(f"{population.name}: {error}") from None


def rdms_of(side: Side, stimuli: tuple[str, ...], distance: str) -> tuple[list[str], Array]:
    """Names and dissimilarities (matrices, pairs) of the populations, or of the subjects, of a side."""
    if side.rdms is None:
        found = list(_rdms(side.populations, side.on, stimuli, distance, side.spread))
        return [one.name for one in side.populations], np.array(found)
    first, second = (side.rdms[name].values for name in (names.STIMULUS_1, "stimulus_2"))
    number = {name: place for place, name in enumerate(side.stimuli)}
    order = np.array([number[name] for name in stimuli])
    pairs, _ = pairs_of(order, len(side.stimuli))
    # pairs of a file stand row by row
    given = [(number[str(one)], number[str(other)]) for one, other in zip(first, second, strict=True)]
    if not np.array_equal(np.array(given).T, np.triu_indices(len(side.stimuli), 1)):
        raise ReaderError(f"{side.what}: pairs of stimuli are not in the order of `read_rdms`")
    return [str(name) for name in side.rdms[names.SUBJECT].values], side.rdms[names.RDM].values[:, pairs]


def dissimilarities(
    recording: xr.DataTree, distance: str = "correlation", *, on: str | None = None, units: str | None = None
) -> xr.Dataset:
    """Dissimilarities of the stimuli of a recording, a matrix for each layer or population.

    Parameters
    ----------
    recording : xarray.DataTree
        As `neuroprobe.open_recording` gives it.
    distance : {"correlation", "euclidean", "cosine", "poisson", "mahalanobis", "crossnobis"}
        The last two take repetitions.
    on, units
        As ``on`` and ``units_model`` of `neuroprobe.compare`.

    Returns
    -------
    Dataset
        As `neuroprobe.recordings.read_rdms` gives it: ``rdm(subject, pair)``, stimuli sorted by name, numbers in names
        as numbers.

    Raises
    ------
    ReaderError
        If nothing tells stimuli apart, or a distance is not defined.
    """
    if distance not in KNOWN:
        raise ReaderError(unknown_name("distance", distance, KNOWN))
    side = side_of("recording", recording, on, units)
    stimuli = tuple(sorted(side.stimuli, key=_natural))
    layers, pairs = rdms_of(side, stimuli, distance)
    first, second = np.triu_indices(len(stimuli), 1)
    text = np.array(stimuli, dtype=object)
    return xr.Dataset(
        {names.RDM: ((names.SUBJECT, names.PAIR), pairs, {"long_name": "dissimilarity", "method": distance})},
        coords={
            names.SUBJECT: (names.SUBJECT, np.array(layers, dtype=object)),
            names.STIMULUS_1: (names.PAIR, text[first]),
            "stimulus_2": (names.PAIR, text[second]),
        },
        attrs={"n_conditions": len(stimuli)},
    )


def _natural(name: str) -> list[tuple[int, str]]:
    """Key that sorts ``image 2`` before ``image 10``."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def score_representations(
    model: Side,
    brain: Side,
    stimuli: tuple[str, ...],
    *,
    distance: str = "correlation",
    distance_brain: str | None = None,
    comparison: str = "spearman",
) -> Array:
    """Scores of the layers of a model (layers,), as of `compare_representations`, without their errors and ceilings."""
    _, models = rdms_of(model, stimuli, distance)
    _, theirs = rdms_of(brain, stimuli, distance_brain or distance)
    return np.asarray(compare_rdms(models, theirs, comparison).mean(1))


def compare_representations(
    model: Side,
    brain: Side,
    stimuli: tuple[str, ...],
    *,
    distance: str = "correlation",
    distance_brain: str | None = None,
    comparison: str = "spearman",
    ceiling: str = "rsatoolbox",
    over: str = "auto",
    n_draws: int = 1000,
    level: float = 0.95,
    correction: str = "fdr_bh",
    seed: int = 0,
) -> xr.Dataset:
    """Compare dissimilarities; see `neuroprobe.compare`."""
    for what, given, known in (
        ("distance", distance, KNOWN),
        ("distance_brain", distance_brain or distance, KNOWN),
        ("comparison", comparison, METHODS),
        ("ceiling", ceiling, CEILINGS),
        ("over", over, ("auto", *OVER)),
    ):
        if given not in known:
            raise ReaderError(unknown_name(what, given, known))
    layers, models = rdms_of(model, stimuli, distance)
    subjects, theirs = rdms_of(brain, stimuli, distance_brain or distance)
    told_distance = distance if distance_brain in (None, distance) else f"{distance} and {distance_brain}"
    drawn = ("both" if len(subjects) > 1 else "stimuli") if over == "auto" else over
    if drawn != "stimuli" and len(subjects) < 2:
        raise ReaderError(f"over={drawn!r} draws subjects, and there is one: take over='stimuli'")
    random = generator(seed, "compare representations")
    found = infer(models, theirs, comparison, n_draws, random, drawn, level)
    bounds = ceiling_of(theirs, comparison, ceiling, min(n_draws, 200), random, level)
    choice = choose_layer(models, theirs, comparison, random)
    data = {
        **_per_layer(found, bounds.lower, choice[0], comparison, drawn, correction),
        **_differences(found, drawn, correction),
        **_of_all(bounds, choice, ceiling),
        "subject_score": (
            (names.LAYER, names.SUBJECT),
            compare_rdms(models, theirs, comparison),
            {"long_name": "likeness of dissimilarities of a subject", "method": comparison},
        ),
    }
    text = np.array(layers, dtype=object)
    return xr.Dataset(
        data,
        coords={names.LAYER: text, LAYER_2: text, names.SUBJECT: np.array(subjects, dtype=object)},
        attrs={
            "metric": "rsa",
            "version": f"{told_distance} distances, {comparison}, ceiling {ceiling} (neuroprobe-1)",
            "definition": (
                f"dissimilarities of {len(stimuli)} stimuli ({told_distance}), compared by {comparison} with those of "
                f"each subject, mean over subjects; errors: bootstrap over {drawn}, {found.n_draws} draws"
            ),
            "over": drawn,
            "n_draws": found.n_draws,
            "n_subjects": len(subjects),
            "level": level,
            "seed": seed,
        },
    )


def _per_layer(
    found: Inference, lower: float, chosen: Array, comparison: str, drawn: str, correction: str
) -> dict[str, Any]:
    """Scores of the layers, and how they stand to 0 and to the lower bound of the ceiling."""
    below = _below(found.score, found.se, lower, found.degrees)
    of_ceiling = "p-value of a score below the lower bound of the ceiling, one-sided; the bound taken as known"
    share = "share of halves of the stimuli on which the layer is the best"
    corrected = adjust(found.p_value, correction)
    described: dict[str, Any] = {
        "score": (found.score, "mean over subjects of the likeness of dissimilarities", comparison),
        "score_se": (found.se, "standard error of the score", f"bootstrap over {drawn}"),
        "score_lower": (found.lower, "lower end of the score's interval", "Student's t"),
        "score_upper": (found.upper, "upper end of the score's interval", "Student's t"),
        "p_value": (found.p_value, "p-value of a score above 0, one-sided", "Student's t"),
        "p_adjusted": (corrected, "p-value, corrected for the number of layers", correction),
        "p_below_ceiling": (below, of_ceiling, "Student's t"),
        "share_chosen": (chosen, share, f"{N_SPLITS} splits"),
    }
    return {
        name: (names.LAYER, np.asarray(v), {"long_name": told, "method": method})
        for name, (v, told, method) in described.items()
    }


def _differences(found: Inference, drawn: str, correction: str) -> dict[str, Any]:
    """Differences between layers, with p-values corrected for the number of pairs."""
    p = found.difference_p
    above = np.triu_indices(len(p), 1)
    adjusted = np.full(p.shape, np.nan)
    adjusted[above] = adjust(p[above], correction) if len(p) > 1 else []
    adjusted = np.where(np.isnan(adjusted), adjusted.T, adjusted)
    return {
        name: ((names.LAYER, LAYER_2), values, {"long_name": told, "method": f"bootstrap over {drawn}"})
        for name, values, told in (
            ("difference", found.difference, "score less that of the second layer"),
            ("difference_se", found.difference_se, "standard error of the difference"),
            ("difference_p_adjusted", adjusted, "p-value of the difference, corrected for the number of pairs"),
        )
    }


def _of_all(bounds: Ceiling, choice: tuple[Array, float, float], ceiling: str) -> dict[str, Any]:
    """The ceiling, and the score of a layer that other stimuli chose."""
    _, held_out, spread = choice
    return {
        name: ((), value, {"long_name": told, "method": ceiling if "ceiling" in name else f"{N_SPLITS} splits"})
        for name, value, told in (
            ("ceiling_lower", bounds.lower, "lower bound of the noise ceiling"),
            ("ceiling_lower_lower", bounds.lower_interval[0], "lower end of its interval"),
            ("ceiling_lower_upper", bounds.lower_interval[1], "upper end of its interval"),
            ("ceiling_upper", bounds.upper, "upper bound of the noise ceiling"),
            ("ceiling_upper_lower", bounds.upper_interval[0], "lower end of its interval"),
            ("ceiling_upper_upper", bounds.upper_interval[1], "upper end of its interval"),
            (
                "held_out_score",
                held_out,
                "score of the layer that is best on one half of the stimuli, on the other half",
            ),
            ("held_out_spread", spread, "its standard deviation over halves, which is no standard error"),
        )
    }


def _below(score: Array, se: Array, bound: float, degrees: int) -> Array:
    from scipy import special

    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(special.stdtr(degrees, (score - bound) / se))


def choose_layer(
    models: Array, subjects: Array, comparison: str, random: np.random.Generator
) -> tuple[Array, float, float]:
    """Choose a layer on one half of the stimuli and score it on the other: shares of layers, score, its spread."""
    from neuroprobe.statistics.rdms import n_of_pairs

    n = n_of_pairs(models.shape[1])
    chosen, scores = np.zeros(len(models)), []
    if n < 2 * 3:
        return np.full(len(models), np.nan), np.nan, np.nan
    for _ in range(N_SPLITS):
        order = random.permutation(n)
        halves = [pairs_of(np.sort(half), n)[0] for half in (order[: n // 2], order[n // 2 :])]
        of_half = [compare_rdms(models[:, pairs], subjects[:, pairs], comparison).mean(1) for pairs in halves]
        for here, there in (of_half, of_half[::-1]):
            best = int(np.nanargmax(here))
            chosen[best] += 1
            scores.append(there[best])
    return chosen / (2 * N_SPLITS), float(np.mean(scores)), float(np.std(scores))
