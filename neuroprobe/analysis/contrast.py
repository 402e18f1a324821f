"""Contrasts of treatment and control with labels: effect sizes, tests, and accuracies under each alteration."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.analysis.sensitivity import SCOPES

if TYPE_CHECKING:
    from neuroprobe.design.pick_freeze import Presentations
    from neuroprobe.statistics.contrast import ContrastTerms
    from neuroprobe.statistics.pick_freeze import PickFreezeAccumulator, PickFreezeSums

METHOD: Final = (
    "paired over images; the difference of an image is the mean over draws of (treated - control). t: Student's paired "
    "t; sign: exact sign test; wilcoxon: signed-rank test, zeros split, normal approximation"
)
LONG_NAMES: Final = {
    names.MEAN_DIFFERENCE: "mean over images of the difference between treated and control",
    names.EFFECT_SIZE: "Cohen's d_z: mean difference in standard deviations of the differences",
    names.RANK_BISERIAL: "matched-pairs rank-biserial correlation: from -1 (all less) to 1 (all more than control)",
    names.P_VALUE: "two-sided p-value",
    names.P_ADJUSTED: "two-sided p-value, corrected for the number of tests of its family",
    names.CONTROL_MEAN: "mean response to images that are not altered",
    names.TREATMENT_MEAN: "mean response under the alteration",
    names.N_POSITIVE: "images with a larger response under the alteration",
    names.N_NEGATIVE: "images with a smaller response under the alteration",
    names.DEFINED: "whether the differences are above the noise floor",
    names.N_DROPPED: "images left out for a non-finite response",
}
ERRORS: Final = {
    names.EFFECT_SIZE: "delta method, from the first four moments of the differences",
    names.RANK_BISERIAL: "variance of a U-statistic",
}
IN_RESPONSE_UNITS: Final = {names.MEAN_DIFFERENCE, names.CONTROL_MEAN, names.TREATMENT_MEAN}
FAMILIES: Final = {
    "alteration": "one per test and alteration, over all layers",
    "all": "one per test, over all layers and alterations",
}
TESTS: Final = ("t", "sign", "wilcoxon")
ORIGINAL: Final = "original"  # stands for no alteration in tables of accuracies
MEASURES: Final = {
    names.TOP_1: "share of presentations whose class has the largest output",
    names.TOP_5: "share of presentations whose class is among the five largest outputs",
    names.PROBABILITY: "probability that the network gives to the class of the image",
}
Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class LayerLayout:
    """The native shape of a layer's units, and its place.

    Attributes
    ----------
    dims, shape : tuple
        Names and lengths of its axes.
    coords : dict
        Coordinates, where channels or units have some.
    depth : int
        Place in the protocol.
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    coords: Mapping[Any, Any]
    depth: int


@dataclass(frozen=True)
class ContrastAnalysis:
    """Contrasts of every recorded unit under each alteration.

    Parameters
    ----------
    factors : tuple of str
        The alterations.
    draws : int
        Draws of each for each image.
    ranks : tuple of str
        Layers whose differences are kept, for the signed ranks.
    correction : str
        One of `neuroprobe.statistics.paired.CORRECTIONS`.
    family : str
        One of `FAMILIES`.
    drop : bool
        Whether images with a non-finite response are left out, per unit.
    """

    factors: tuple[str, ...]
    draws: int = 1
    ranks: tuple[str, ...] = ()
    correction: str = "fdr_by"
    family: str = "alteration"
    drop: bool = False

    name: ClassVar[str] = "contrast"
    summarised: ClassVar[tuple[str, ...]] = ()  # p-values tell of a whole family only

    @cached_property
    def terms(self) -> ContrastTerms:
        """The sums that are kept."""
        from neuroprobe.statistics.contrast import ContrastTerms

        return ContrastTerms(len(self.factors), drop=self.drop, draws=self.draws)

    def accumulator(self, n_units: int, block: int, **options: Any) -> PickFreezeAccumulator:
        """Return the streaming statistic of one layer."""
        from neuroprobe.statistics.pick_freeze import PickFreezeAccumulator

        return PickFreezeAccumulator(self.terms, n_units, block, **options)

    def rows(self, presentations: Presentations) -> NDArray[np.int64]:
        """All rows of the design."""
        n_rows = self.terms.n_rows
        return np.broadcast_to(np.arange(n_rows), (len(presentations.sample), n_rows))

    def differences(self, rows: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return the differences (images, alterations, units) of responses (images, rows, units), to be ranked.

        They are those that are summed, rounded; NaN where a response to the image is not finite.
        """
        from neuroprobe.statistics.contrast import difference

        finite = np.isfinite(rows).all(1)
        control = np.where(finite, rows[:, 0], np.nan).astype(np.float64)
        found = np.empty((len(rows), len(self.factors), rows.shape[2]), dtype=np.float32)
        for number in range(len(self.factors)):
            drawn = range(1 + number * self.draws, 1 + (number + 1) * self.draws)
            # one alteration at a time: in float64 all rows would be large
            found[:, number] = difference(control, [rows[:, row].astype(np.float64) for row in drawn])
        return found

    def finalize(self, sums: PickFreezeSums, ranked: Arrays | None = None) -> dict[str, NDArray[Any]]:
        """Return the contrasts of one layer, without labels.

        Parameters
        ----------
        sums : PickFreezeSums
        ranked : dict of arrays (alterations, units), optional
            What `neuroprobe.statistics.paired.signed_ranks` says of each alteration.
        """
        from neuroprobe.statistics.contrast import finalize

        arrays: dict[str, NDArray[Any]] = finalize(sums, self.terms)
        if ranked is not None:
            tested = {name: np.where(arrays[names.DEFINED] == 1, values, np.nan) for name, values in ranked.items()}
            p = np.concatenate([arrays[names.P_VALUE], tested.pop(names.P_VALUE)[None]])
            arrays |= {**tested, names.P_VALUE: p}
        return arrays

    def result_bytes(self, n_units: int, *, ranked: bool = False) -> dict[str, int]:
        """Bytes of each variable of a layer's result."""
        d, of_control = len(self.factors), {names.CONTROL_MEAN, names.se(names.CONTROL_MEAN), names.N_DROPPED}
        with_errors = [names.MEAN_DIFFERENCE, names.EFFECT_SIZE, names.CONTROL_MEAN, names.TREATMENT_MEAN]
        with_errors += [names.RANK_BISERIAL] if ranked else []
        plain = [names.N_POSITIVE, names.N_NEGATIVE, *([names.N_DROPPED] if self.drop else [])]
        numbers = [*with_errors, *map(names.se, with_errors), *plain]
        sizes = {name: 8 * n_units * (1 if name in of_control else d) for name in numbers}
        n_tests = len(TESTS) if ranked else len(TESTS) - 1
        p_values = dict.fromkeys((names.P_VALUE, names.P_ADJUSTED), 8 * n_tests * d * n_units)
        return sizes | p_values | {names.DEFINED: d * n_units}

    def finalize_bytes(self) -> int:
        """Bytes that `finalize` takes for a while beside its result."""
        from neuroprobe.statistics.indices import UNITS_AT_A_TIME

        # the sums, and about as many arrays of moments as of results
        of_result = sum(self.result_bytes(UNITS_AT_A_TIME, ranked=True).values())
        return UNITS_AT_A_TIME * 8 * self.terms.n_kept + 2 * of_result

    def summary_bytes(self, n_units: int) -> int:
        """Bytes that `convergence` takes for a while."""
        return 0

    def convergence(self, sums: PickFreezeSums) -> dict[str, list[float]]:
        """Nothing is summarised while a run goes on."""
        return {}

    def adjust(self, p: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
        """Correct the p-values (tests, alterations, units) of all layers for their number, family by family."""
        from neuroprobe.statistics.paired import adjust

        adjusted = {layer: np.full_like(values, np.nan) for layer, values in p.items()}
        members = [slice(None)] if self.family == "all" else [slice(a, a + 1) for a in range(len(self.factors))]
        for test in range(len(TESTS)):
            layers = [layer for layer, values in p.items() if len(values) > test]
            for part in members if layers else ():
                family = adjust(np.concatenate([p[layer][test, part].ravel() for layer in layers]), self.correction)
                ends = np.cumsum([p[layer][test, part].size for layer in layers])
                for layer, values in zip(layers, np.split(family, ends[:-1]), strict=True):
                    adjusted[layer][test, part] = values.reshape(p[layer][test, part].shape)
        return adjusted

    def label_layers(
        self, layers: Mapping[str, LayerLayout], arrays: Callable[[str], Arrays], n_images: int
    ) -> Iterator[tuple[str, xr.Dataset]]:
        """Label all layers one after the other, in the order of recording.

        Parameters
        ----------
        layers : dict of LayerLayout
        arrays : callable
            From a layer to what `finalize` says of it; called twice for each, so that only p-values are in memory of
            all layers together.
        n_images : int
        """
        adjusted = self.adjust({layer: arrays(layer)[names.P_VALUE] for layer in layers})
        for layer, layout in layers.items():
            found = {**arrays(layer), names.P_ADJUSTED: adjusted.pop(layer)}
            yield layer, self.label(found, layout, {"n_images": n_images, "depth": layout.depth})

    def label(self, arrays: Arrays, layout: LayerLayout, attrs: Mapping[str, Any]) -> xr.Dataset:
        """Label the contrasts (…, units) of one layer over its native shape."""
        variables = {}
        for name, array in arrays.items():
            leading = ((), (names.FACTOR,), (names.TEST, names.FACTOR))[array.ndim - 1]
            shape = array.shape[:-1] + layout.shape
            variables[name] = ((*leading, *layout.dims), array.reshape(shape), self._attrs(name, attrs["n_images"]))
        tests = TESTS[: len(arrays[names.P_VALUE])]
        coords = {
            names.FACTOR: np.array(self.factors, dtype=object),
            names.TEST: np.array(tests, dtype=object),
            **layout.coords,
        }
        about = {
            "method": METHOD,
            "replicate": "image",
            "draws": self.draws,
            "correction": self.correction,
            "family": self.family,
            **attrs,
            "n_undefined": int((arrays[names.DEFINED] == 0).sum()),
        }
        return xr.Dataset(variables, coords, about)

    def _attrs(self, name: str, n_images: int) -> dict[str, Any]:
        value = name.removesuffix("_se")
        units = "response units" if value in IN_RESPONSE_UNITS else "1"
        attrs: dict[str, Any] = {"long_name": LONG_NAMES[value], "units": units}
        if name != value:
            attrs["long_name"] = f"standard error of: {LONG_NAMES[value]}"
            attrs |= {"se_kind": ERRORS.get(value, "over images"), "se_scope": SCOPES["replicated"]}
            attrs["df"] = n_images - 1
        elif name == names.P_ADJUSTED:
            attrs |= {"correction": self.correction, "family": FAMILIES[self.family]}
        return attrs

    def label_accuracy(self, sums: PickFreezeSums, measures: Sequence[str]) -> xr.Dataset:
        """Label accuracies, from the sums of `measures` of the output in place of units."""
        from neuroprobe.statistics.accuracy import LEVEL, accuracies

        found = self.finalize(sums)
        n = sums.n_samples - found.get(names.N_DROPPED, np.zeros(len(measures)))
        is_proportion = np.array([measure != names.PROBABILITY for measure in measures])
        level = f"{100 * LEVEL:g} %"
        described = {
            "estimate": "mean over images",
            "lower": f"lower end of the {level} interval",
            "upper": f"upper end of the {level} interval",
            "difference": "difference from the original images, paired over images",
            "difference_lower": f"lower end of the {level} interval of the difference",
            "difference_upper": f"upper end of the {level} interval of the difference",
            names.P_VALUE: "two-sided p-value of the difference, Student's paired t, not corrected",
        }
        arrays = accuracies(found, n, self.draws, is_proportion)
        dims = (names.FACTOR, names.MEASURE)
        variables = {name: (dims, arrays[name], {"long_name": said, "units": "1"}) for name, said in described.items()}
        coords = {
            names.FACTOR: np.array([ORIGINAL, *self.factors], dtype=object),
            names.MEASURE: np.array(measures, dtype=object),
            "meaning": (names.MEASURE, np.array([MEASURES[measure] for measure in measures], dtype=object)),
            "n_images": (names.MEASURE, n.astype(np.int64)),
        }
        attrs = {
            "method": "Wilson's score interval, of the effective number of presentations (Korn & Graubard 1998), for "
            "shares; Student's t over images for probabilities and differences",
            "replicate": "image",
            "se_scope": SCOPES["replicated"],
            "level": LEVEL,
            "draws": self.draws,
        }
        return xr.Dataset(variables, coords, attrs)
