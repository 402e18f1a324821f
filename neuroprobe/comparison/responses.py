"""Comparison of responses themselves: kernel alignment, and regressions of a brain's units on a model's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import special

from neuroprobe import names
from neuroprobe.analysis.populations import Population
from neuroprobe.comparison.spread import UNITS_AT_A_TIME, Block, calls_of, sums_of
from neuroprobe.comparison.stimuli import Side, blocks_of, mean_responses, strata_of, trials_of
from neuroprobe.design.randomness import generator
from neuroprobe.errors import ReaderError
from neuroprobe.statistics.cka import Alignment, Kernel
from neuroprobe.statistics.encoding import (
    N_SPLITS,
    TRAIN_SHARE,
    Scores,
    ceiled,
    encode,
    internal_consistency,
)
from neuroprobe.statistics.paired import adjust

Array = NDArray[np.float64]
AREA: Final = "area"
MOST_BYTES: Final = 2 << 30  # of the responses of a layer that a regression has in memory
N_GROUPS: Final = 20  # of stimuli that are left out in turn, for errors
SPLITS: Final = f"{N_SPLITS} splits of stimuli, {TRAIN_SHARE:.0%} to fit"
RESAMPLED: Final = "resampled t-test, splits share stimuli (Nadeau & Bengio 2003)"
VERSIONS: Final = ("brainscore-2026", "brainscore-2025")


def compare_kernels(
    model: Side,
    brain: Side,
    stimuli: tuple[str, ...],
    *,
    biased: bool = False,
    n_permutations: int = 999,
    level: float = 0.95,
    correction: str = "fdr_bh",
    seed: int = 0,
) -> xr.Dataset:
    """Compare linear kernels; see `neuroprobe.compare`."""
    for side in (model, brain):
        side.require_responses("cka")
    random = generator(seed, "compare kernels")
    orders = [random.permutation(len(stimuli)) for _ in range(n_permutations)]
    groups = np.array_split(random.permutation(len(stimuli)), min(N_GROUPS, len(stimuli) // 2))
    shape = (len(model.populations), len(brain.populations))
    score, se, p = (np.full(shape, np.nan) for _ in range(3))
    for at, k, other in _pairs(model, brain, stimuli):
        found = Alignment(k, other, biased=biased)
        score[at], se[at] = found.value, _jackknife(np.array([found.without(group) for group in groups]))
        p[at] = (1 + (found.permuted(orders) >= score[at] - 1e-12).sum()) / (1 + n_permutations)
    reach = special.ndtri((1 + level) / 2)
    kind = "biased" if biased else "without bias"
    described = {
        "score": (score, "centred kernel alignment", f"linear kernels, {kind}"),
        "score_se": (se, "standard error of the score", f"jackknife over {len(groups)} groups of stimuli"),
        "score_lower": (score - reach * se, "lower end of the score's interval", "normal"),
        "score_upper": (score + reach * se, "upper end of the score's interval", "normal"),
        "p_value": (p, "p-value of alignment of the same stimuli beyond that of permuted ones", "permutation"),
        "p_adjusted": (_by_area(p, correction), "p-value, corrected for the number of layers of an area", correction),
    }
    return _dataset(
        described,
        [one.name for one in model.populations],
        [one.name for one in brain.populations],
        metric="cka",
        version=f"linear, {kind} (neuroprobe-1)",
        definition=f"kernel alignment of {len(stimuli)} stimuli, {kind} (Kornblith et al. 2019; Song et al. 2012)",
        level=level,
        seed=seed,
    )


def _pairs(model: Side, brain: Side, stimuli: tuple[str, ...]) -> Iterator[tuple[tuple[int, int], Array, Array]]:
    """Kernels of each layer and area, with their numbers: those of the side with fewer are held, others one by one."""
    is_longer = len(model.populations) >= len(brain.populations)
    many, few = (model, brain) if is_longer else (brain, model)
    held = list(_kernels(few, stimuli))
    for number, kernel in enumerate(_kernels(many, stimuli)):
        for other, of_few in enumerate(held):
            yield ((number, other), kernel, of_few) if is_longer else ((other, number), of_few, kernel)
        del kernel


def _kernels(side: Side, stimuli: tuple[str, ...]) -> Iterator[Array]:
    """Kernels of the populations of a side, in turn."""

    def blocks(one: Population) -> Iterator[Block]:
        return blocks_of(one, side.on, stimuli, UNITS_AT_A_TIME)

    return (kernel.matrix for _, kernel in sums_of(side.spread, _kernel, side.populations, blocks))


def _kernel(block: Block) -> Kernel:
    """Take in the units of a block."""
    means = block.means()
    kernel = Kernel(len(means))
    kernel.add(means)
    return kernel


def _jackknife(without: Array) -> float:
    """Standard error from what is found without each group of stimuli in turn."""
    n = len(without)
    return float(np.sqrt((n - 1) / n * ((without - np.mean(without)) ** 2).sum()))


def compare_regressions(
    model: Side,
    brain: Side,
    stimuli: tuple[str, ...],
    regression: str,
    *,
    strata: str | None = None,
    n_components: int | None = None,
    version: str = VERSIONS[0],
    level: float = 0.95,
    correction: str = "fdr_bh",
) -> xr.Dataset:
    """Predict a brain's responses from a model's; see `neuroprobe.compare`."""
    for side in (model, brain):
        side.require_responses(regression)
    if version not in VERSIONS:
        raise ReaderError(f"version is {' or '.join(VERSIONS)}, received {version!r}")
    areas, layers = ([one.name for one in side.populations] for side in (brain, model))
    found, units, ceilings = _predicted(model, brain, stimuli, regression, strata, n_components)
    bound = np.array([one.score if one is not None else np.nan for one in ceilings])
    error = np.array([one.error if one is not None else np.nan for one in ceilings])
    dataset = _dataset(
        _described(found, ceiled(found["score"], bound, version), version, level, correction),
        layers,
        areas,
        metric=regression,
        version=version,
        definition=(
            f"{regression} on {SPLITS}, in the order of stimuli; Pearson's r per unit, median over units, mean over "
            f"splits; ceiled: {'r² / ceiling' if version == VERSIONS[0] else '(r / ceiling)²'}"
            + (f"; on {n_components} principal components of the stimuli to fit" if n_components else "")
        ),
        level=level,
    )
    told = {"long_name": "agreement of halves of the repetitions", "method": "Spearman & Brown, median over units"}
    per_unit: dict[str, Any] = {
        "unit_score": (
            (names.LAYER, names.UNIT),
            np.concatenate(units, axis=1),
            {"long_name": "Pearson's r on held-out stimuli, mean over splits", "method": SPLITS},
        )
    }
    of_area = np.repeat(np.array(areas, dtype=object), [one.shape[1] for one in units])
    return dataset.assign(ceiling=(AREA, bound, told), ceiling_error=(AREA, error, told), **per_unit).assign_coords(
        {"unit_area": (names.UNIT, of_area)}
    )


def _predicted(
    model: Side,
    brain: Side,
    stimuli: tuple[str, ...],
    regression: str,
    strata: str | None,
    n_components: int | None,
) -> tuple[dict[str, Array], list[Array], list[Any]]:
    """Scores (layers, areas) by name, those of each area's units (layers, units), and the areas' ceilings or None."""
    shape = (len(model.populations), len(brain.populations))
    found = {name: np.full(shape, np.nan) for name in ("score", "score_se", "score_error", "p_value")}
    ceilings, calls, sizes = [], [], []
    layers = [_blocks_in_memory(layer, model.on, stimuli) for layer in model.populations]
    for one in brain.populations:
        y = np.concatenate(list(mean_responses(one, brain.on, stimuli)), axis=1)
        groups = strata_of(one, brain.on, stimuli, strata)
        trials = trials_of(one, brain.on, stimuli)
        ceilings.append(internal_consistency(trials) if trials is not None else None)
        sizes.append(y.shape[1])
        calls += [(blocks, y, regression, groups, n_components) for blocks in layers]
    encoded = calls_of(model.spread, _encoded, calls)
    units = [np.full((shape[0], size), np.nan) for size in sizes]
    for column, of_units in enumerate(units):
        for row in range(shape[0]):
            scores = next(encoded)
            found["score"][row, column], found["score_error"][row, column] = scores.score, scores.error
            found["score_se"][row, column], found["p_value"][row, column] = _resampled(scores, len(stimuli))
            of_units[row] = scores.units
    return found, units, ceilings


def _described(found: dict[str, Array], share: Array, version: str, level: float, correction: str) -> dict[str, Any]:
    """Scores of regressions with what they are."""
    reach = special.stdtrit(N_SPLITS - 1, (1 + level) / 2) * found["score_se"]
    p = found["p_value"]
    error = "standard deviation over splits / √splits, as Brain-Score tells it"
    score = "median over units of Pearson's r on held-out stimuli, mean over splits"
    return {
        "score": (found["score"], score, SPLITS),
        "score_se": (found["score_se"], "standard error of the score", RESAMPLED),
        "score_error": (found["score_error"], error, SPLITS),
        "score_lower": (found["score"] - reach, "lower end of the score's interval", RESAMPLED),
        "score_upper": (found["score"] + reach, "upper end of the score's interval", RESAMPLED),
        "p_value": (p, "p-value of a score above 0, one-sided", RESAMPLED),
        "p_adjusted": (_by_area(p, correction), "p-value, corrected for the number of layers", correction),
        "ceiled_score": (share, "score as a share of what can be explained", version),
    }


def _blocks_in_memory(layer: Population, on: str, stimuli: tuple[str, ...]) -> tuple[Block, ...]:
    """Blocks of a layer that are in memory together.

    Raises
    ------
    ReaderError
        If they are too large for that.
    """
    n_bytes = 8 * len(stimuli) * layer.n_units
    if n_bytes > MOST_BYTES:
        raise ReaderError(
            f"{layer.name}: responses of {layer.n_units:,} units to {len(stimuli):,} stimuli take {n_bytes:.3g} bytes; "
            "choose fewer by `units_model`, or record fewer (`reduce`, `channels`); rsa and cka need only blocks"
        )
    return tuple(blocks_of(layer, on, stimuli))


def _encoded(
    layer: tuple[Block, ...], y: Array, regression: str, strata: NDArray[Any] | None, n_components: int | None
) -> Scores:
    x = np.concatenate([block.means() for block in layer], axis=1)
    try:
        return encode(x, y, regression, strata, n_components=n_components)
    except ValueError as error:
        raise ReaderError(f"{layer[0].population}: {error}") from None


def _resampled(scores: Scores, n: int) -> tuple[float, float]:
    """Standard error of a mean over splits that share stimuli, and the p-value of one above 0."""
    splits = scores.splits[~np.isnan(scores.splits)]
    if len(splits) < 2:
        return np.nan, np.nan
    n_test = n - round(TRAIN_SHARE * n)
    se = float(np.sqrt(splits.var(ddof=1) * (1 / len(splits) + n_test / (n - n_test))))
    if se == 0:
        return 0.0, 0.0 if splits.mean() > 0 else 1.0
    return se, float(special.stdtr(len(splits) - 1, -splits.mean() / se))


def _by_area(p: Array, correction: str) -> Array:
    return np.array([adjust(column, correction) for column in p.T]).T


def _dataset(described: dict[str, Any], layers: list[str], areas: list[str], **attrs: Any) -> xr.Dataset:
    dims = (names.LAYER, AREA)
    data = {name: (dims, v, {"long_name": told, "method": method}) for name, (v, told, method) in described.items()}
    coords = {names.LAYER: np.array(layers, dtype=object), AREA: np.array(areas, dtype=object)}
    return xr.Dataset(data, coords=coords, attrs=attrs)
