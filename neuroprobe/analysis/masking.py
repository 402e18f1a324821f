"""Accuracies under lesions with labels: what masks by each map do, beside random ones and those of other factors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.analysis.contrast import MEASURES, ORIGINAL
from neuroprobe.analysis.sensitivity import SCOPES
from neuroprobe.statistics.accuracy import LEVEL
from neuroprobe.statistics.masking import (
    Estimates,
    Headline,
    MaskingAccumulator,
    correlation_interval,
    cross_table,
    estimates,
    headline,
    of_cells,
    random_summary,
    state_bytes,
)
from neuroprobe.statistics.plain_sums import PlainSums

METHOD: Final = (
    "multiplicative masks by maps of sensitivity, while images are shown; accuracies are means over images of their "
    "draws, differences from the unlesioned network are paired over images; a map's mask is compared with random masks "
    "of equal size, which are the replicates: p = (1 + #) / (1 + B)"
)
SAID: Final = {
    names.UNLESIONED: "accuracy of the unlesioned network",
    names.ESTIMATE: "accuracy of the lesioned network",
    names.DIFFERENCE: "accuracy of the lesioned network less that of the unlesioned one, paired over images",
    names.RANDOM_DIFFERENCE: "the same difference by random masks of equal size",
    names.RANDOM_MEAN: "mean over random masks of the difference",
    names.N_RANDOM: "random masks",
    names.EXCESS: "difference by the factor's own map less the mean difference by random masks, on the factor's input",
    names.AGAINST_OTHERS: "difference by the factor's own map less the mean difference by other maps, on its input",
    names.P_VALUE: "share of masks, random ones and the own one, that change accuracy as much (in magnitude)",
    names.P_ADJUSTED: "the same, corrected over factors",
    names.P_LESS: "share of masks, random ones and the own one, that change accuracy as little (in magnitude)",
    names.P_LESS_ADJUSTED: "the same, corrected over factors",
    names.P_OTHERS: "share of all maps' masks that change accuracy on this input as much (in magnitude)",
    names.DIAGONAL: "magnitude of the change by own maps less that by any map, mean over factors",
    names.P_DIAGONAL: "permutations of the maps' labels with as large a change by own maps",
    names.CROSS: "Spearman's correlation over rules of accuracies on the altered and on the original images",
    names.N_UNITS: "units of the layer",
    names.N_CANDIDATES: "units that can be masked: those that every map has a sensitivity of",
    names.N_UNDEFINED: "units without a sensitivity in some map, which are never masked",
    names.N_CLIPPED: "units with a sensitivity outside of [0, 1], which were clipped for soft masks",
    names.N_MASKED: "units that are masked",
}
MIN_RULES: Final = 3  # of fewer every correlation is 1 or -1
IMAGES: Final = "bootstrap over images, percentiles"
ENDS: Final = {  # what intervals of a variable are about; those of all others are over images, by Student's t
    names.UNLESIONED: "over images: Wilson's for shares, Student's t for probabilities",
    names.ESTIMATE: "over images: Wilson's for shares, Student's t for probabilities",
    names.RANDOM_MEAN: "the middle of the random masks",
    names.EXCESS: IMAGES,
    names.AGAINST_OTHERS: IMAGES,
    names.CROSS: "bootstrap over images, hull of the percentile and the basic interval",
}


@dataclass(frozen=True)
class Rule:
    """A rule as results show it.

    Attributes
    ----------
    label : str
    quantile, multiply : float
        NaN for a rule that weighs all units.
    n_random : int
        Random masks.
    """

    label: str
    quantile: float
    multiply: float
    n_random: int = 0


@dataclass(frozen=True)
class MaskedLayer:
    """Units of a layer, and how many of them are masked.

    Attributes
    ----------
    name : str
    n_units, n_candidates : int
    n_clipped : tuple of int
        By factor.
    n_masked : tuple of int
        By rule.
    """

    name: str
    n_units: int
    n_candidates: int
    n_clipped: tuple[int, ...]
    n_masked: tuple[int, ...]


@dataclass(frozen=True)
class MaskedPlace:
    """Layers that are lesioned together, as results show them.

    Attributes
    ----------
    name : str
    depth : int
        Place in the protocol.
    layers : tuple of MaskedLayer
    rules : tuple of Rule
    shares : bool
        Whether what lies before the lesion was computed once for all masks.
    """

    name: str
    depth: int
    layers: tuple[MaskedLayer, ...]
    rules: tuple[Rule, ...]
    shares: bool

    @property
    def labels(self) -> list[str]:
        """Names of the rules."""
        return [rule.label for rule in self.rules]

    def rule_coords(self) -> dict[str, Any]:
        """Rules, their quantile and multiplier, and the share of the units that they mask."""
        candidates = sum(layer.n_candidates for layer in self.layers)
        share = [sum(layer.n_masked[i] for layer in self.layers) / candidates for i in range(len(self.rules))]
        soft = np.isnan([rule.quantile for rule in self.rules])
        return {
            names.RULE: _labels(self.labels),
            names.QUANTILE: (names.RULE, np.array([rule.quantile for rule in self.rules])),
            names.MULTIPLY: (names.RULE, np.array([rule.multiply for rule in self.rules])),
            names.MASKED_SHARE: (names.RULE, np.where(soft, np.nan, share), {"units": "1"}),
        }


@dataclass(frozen=True, kw_only=True)
class LesionStudy:
    """What analyses of lesions have in common.

    Parameters
    ----------
    place : MaskedPlace
    factors : tuple of str
        Whose maps make the masks.
    alterations : tuple of str
        What is done to the images, beside nothing.
    draws : int
    headline : str
        Name of the rule.
    correction : str
    """

    place: MaskedPlace
    factors: tuple[str, ...]
    alterations: tuple[str, ...]
    draws: int
    headline: str
    correction: str

    @property
    def inputs(self) -> list[str]:
        """What images are shown as."""
        return [ORIGINAL, *self.alterations]

    def attrs(self, method: str, n: NDArray[np.float64]) -> dict[str, Any]:
        """Attributes of a result."""
        return {
            "method": method,
            "replicate": "image; of lesions, the mask",
            "n_images": int(n.sum()),
            "n_dropped": int(n[1]),
            "draws": self.draws,
            "level": LEVEL,
            "correction": self.correction,
            "headline": self.headline,
            "depth": self.place.depth,
            "layers": json.dumps([layer.name for layer in self.place.layers]),
            "shares": int(self.place.shares),
            "se_scope": SCOPES["replicated"],
        }


@dataclass(frozen=True, kw_only=True)
class MaskingAnalysis(LesionStudy):
    """Accuracies under all lesions at a place.

    Parameters
    ----------
    measures : tuple of str
    by_map : int array (factors, rules)
        Number of the condition that masks by each map and rule.
    at_random : dict
        Number of each rule → numbers of the conditions that mask at random (masks,).
    n_conditions : int
    n_resamples : int
    seed : int
    """

    measures: tuple[str, ...]
    by_map: NDArray[np.int64] = field(compare=False)
    at_random: dict[int, NDArray[np.int64]] = field(compare=False)
    n_conditions: int
    n_resamples: int
    seed: int

    name: ClassVar[str] = names.MASKING

    @property
    def _sizes(self) -> tuple[int, int, int, int]:
        return len(self.inputs), self.n_conditions, len(self.measures), self.n_resamples

    def accumulator(self) -> MaskingAccumulator:
        """Return the streaming statistic."""
        return MaskingAccumulator(*self._sizes)

    @property
    def state_bytes(self) -> int:
        """Bytes of a state."""
        return state_bytes(*self._sizes)

    def label(self, sums: PlainSums) -> xr.Dataset:
        """Label what became of the sums over images."""
        is_proportion = np.array([measure != names.PROBABILITY for measure in self.measures])
        draws = np.array([1] + [self.draws] * len(self.alterations))
        found = estimates(sums, is_proportion, draws)
        cells, by_input = (names.INPUT, names.FACTOR, names.RULE, names.MEASURE), (names.INPUT, names.MEASURE)
        variables: dict[str, tuple[Sequence[str], NDArray[Any]]] = {}
        intact = of_cells(found, np.zeros(1, np.int64))
        for end in ("", "_se", "_lower", "_upper"):
            variables[names.UNLESIONED + end] = by_input, intact[names.ESTIMATE + end][:, 0]
        variables |= {name: (cells, values) for name, values in of_cells(found, self.by_map).items()}
        variables |= self._random(found)
        variables |= self._headline(found)
        variables |= self._cross(found)
        variables |= layer_counts(self.place)
        coords = {
            names.INPUT: _labels(self.inputs),
            names.FACTOR: _labels(self.factors),
            **self.place.rule_coords(),
            names.MEASURE: _labels(self.measures),
            "meaning": (names.MEASURE, _labels([MEASURES[measure] for measure in self.measures])),
            names.LAYER: _labels([layer.name for layer in self.place.layers]),
        }
        attrs = self.attrs(METHOD, sums["n"]) | {
            "n_bootstrap": self.n_resamples,
            "family": "the factors, at the headline's rule; one family per measure",
        }
        labelled = {name: (*both, variable_attrs(name, SAID, ENDS)) for name, both in variables.items()}
        return xr.Dataset(labelled, coords, attrs)

    def _random(self, found: Estimates) -> dict[str, tuple[Sequence[str], NDArray[Any]]]:
        n_masks = max((rule.n_random for rule in self.place.rules), default=0)
        shape = (len(self.inputs), len(self.place.rules), n_masks, len(self.measures))
        random = np.full(shape, np.nan)
        for rule, conditions in self.at_random.items():
            random[:, rule, : len(conditions)] = found.difference[:, conditions]
        over_masks = (names.INPUT, names.RULE, names.MASK, names.MEASURE)
        n_random = np.array([rule.n_random for rule in self.place.rules])
        summary = random_summary(random)
        return {
            names.RANDOM_DIFFERENCE: (over_masks, random),
            names.N_RANDOM: ((names.RULE,), n_random),
            **{name: ((names.INPUT, names.RULE, names.MEASURE), values) for name, values in summary.items()},
        }

    def _headline(self, found: Estimates) -> dict[str, tuple[Sequence[str], NDArray[Any]]]:
        rule = self.place.labels.index(self.headline)
        own = [self.inputs.index(factor) if factor in self.alterations else -1 for factor in self.factors]
        random = self.at_random.get(rule, np.empty(0, np.int64))
        which = Headline(np.array(own), self.by_map[:, rule], random)
        arrays = headline(found, which, self.correction, self.seed)
        dims = {2: (names.FACTOR, names.MEASURE), 1: (names.MEASURE,)}
        return {name: (dims[values.ndim], values) for name, values in arrays.items()}

    def _cross(self, found: Estimates) -> dict[str, tuple[Sequence[str], NDArray[Any]]]:
        dims = (names.INPUT, names.FACTOR, names.MEASURE)
        value = cross_table(found.mean[:, self.by_map])
        if len(self.place.rules) < MIN_RULES:
            value = np.full_like(value, np.nan)
        low, high = correlation_interval(value, cross_table(found.resampled[:, :, self.by_map]))
        cross = names.CROSS
        return {cross: (dims, value), names.lower(cross): (dims, low), names.upper(cross): (dims, high)}


def layer_counts(place: MaskedPlace) -> dict[str, tuple[Sequence[str], NDArray[Any]]]:
    """Numbers of units of the layers of a place."""
    layers = place.layers
    return {
        names.N_UNITS: ((names.LAYER,), np.array([layer.n_units for layer in layers])),
        names.N_CANDIDATES: ((names.LAYER,), np.array([layer.n_candidates for layer in layers])),
        names.N_UNDEFINED: ((names.LAYER,), np.array([layer.n_units - layer.n_candidates for layer in layers])),
        names.N_CLIPPED: ((names.LAYER, names.FACTOR), np.array([layer.n_clipped for layer in layers])),
        names.N_MASKED: ((names.LAYER, names.RULE), np.array([layer.n_masked for layer in layers])),
    }


def variable_attrs(name: str, said: dict[str, str], ends: dict[str, str]) -> dict[str, Any]:
    """Attributes of a variable, or of its error or an end of its interval."""
    for suffix, words in (("_se", "standard error of: "), ("_lower", "lower end of: "), ("_upper", "upper end of: ")):
        value = name.removesuffix(suffix)
        if value != name and value in said:
            about = {} if suffix == "_se" else {"interval": f"{100 * LEVEL:g} %, {ends.get(value, 'over images, t')}"}
            return {"long_name": words + said[value], "units": "1", **about}
    return {"long_name": said[name], "units": "1"}


def _labels(values: Sequence[str]) -> NDArray[np.object_]:
    return np.array(list(values), dtype=object)
