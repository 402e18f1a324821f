"""Single-class sensitivity with labels: the classes that lesions push predictions to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.analysis.masking import LesionStudy, variable_attrs
from neuroprobe.statistics.paired import adjust
from neuroprobe.statistics.plain_sums import PlainSums
from neuroprobe.statistics.single_class import (
    SingleClassAccumulator,
    finalize,
    hypergeometric_fence,
    random_jaccard,
    state_shapes,
)

METHOD: Final = (
    "Jaccard's index of the k outputs most sensitive to a factor and the k largest outputs, mean over images of their "
    "draws; p-values by sets of k classes drawn at random, on the same predictions: p = (1 + #) / (1 + sets)"
)
JACCARD: Final = "Jaccard's index of the classes sensitive to the factor and the k largest outputs"
SAID: Final = {
    names.SENSITIVE_CLASS: "classes whose output is most sensitive to the factor, the most sensitive first",
    names.SENSITIVITY: "how sensitive these outputs are",
    names.UNLESIONED: f"{JACCARD}, unlesioned",
    names.JACCARD: f"{JACCARD}, lesioned by the factor's own map",
    names.DIFFERENCE: "index of the lesioned network less that of the unlesioned one, paired over images",
    names.P_UNLESIONED: "share of sets of classes whose index, unlesioned, is as large as the unlesioned one",
    names.P_VALUE: "share of sets of classes whose index, unlesioned, is as large as the lesioned one",
    names.P_SHIFT: "share of sets of classes whose own index the lesion raises as much",
    names.FENCE: "upper fence of Tukey's of the index of random sets of classes, unlesioned",
    names.CLASS_SHARE: "share of presentations for which the class is predicted, unlesioned",
    names.CLASS_SHARE_SHIFT: "what the lesion by the factor's map adds to that share, at the headline's rule",
    names.RECALL: "share of the presentations of the class for which it is predicted, unlesioned",
    names.RECALL_SHIFT: "what the lesion by the factor's map adds to that share, at the headline's rule",
}
ADJUSTED: Final = {
    names.P_UNLESIONED: names.P_UNLESIONED_ADJUSTED,
    names.P_VALUE: names.P_ADJUSTED,
    names.P_SHIFT: names.P_SHIFT_ADJUSTED,
}
SAID_OF_ALL: Final = SAID | {ADJUSTED[name]: f"{SAID[name]}, corrected" for name in ADJUSTED}


@dataclass(frozen=True, kw_only=True)
class SingleClassAnalysis(LesionStudy):
    """Bias towards sensitive classes under the lesions of a place.

    Parameters
    ----------
    classes : tuple of str
        Of the outputs.
    layer : str
        Whose maps say how sensitive they are.
    sets : int array (factors, k)
        The sensitive ones of each factor.
    sensitivity : float array (factors, k)
    random : int array (sets, k)
    by_map : int array (factors, rules)
        Number of the condition that masks by each map and rule.
    """

    classes: tuple[str, ...]
    layer: str
    sets: NDArray[np.int64] = field(compare=False)
    sensitivity: NDArray[np.float64] = field(compare=False)
    random: NDArray[np.int64] = field(compare=False)
    by_map: NDArray[np.int64] = field(compare=False)

    name: ClassVar[str] = names.SINGLE_CLASS

    @property
    def k(self) -> int:
        """Classes of a set."""
        return self.sets.shape[1]

    @property
    def shifting(self) -> int:
        """Number of the rule for which shifts of classes are told."""
        return self.place.labels.index(self.headline)

    @property
    def _sizes(self) -> tuple[int, int, int, int, int]:
        return len(self.inputs), *self.by_map.shape, len(self.random), len(self.classes)

    def accumulator(self) -> SingleClassAccumulator:
        """Return the streaming statistic."""
        return SingleClassAccumulator(*self._sizes)

    @property
    def state_bytes(self) -> int:
        """Bytes of a state."""
        return sum(8 * int(np.prod(shape)) for shape in state_shapes(*self._sizes).values())

    def label(self, sums: PlainSums) -> xr.Dataset:
        """Label what became of the sums over images."""
        arrays = finalize(sums)
        n = arrays.pop("n")
        for p, adjusted in ADJUSTED.items():
            arrays[adjusted] = adjust(arrays[p], self.correction)
        by_factor, cells = (names.INPUT, names.FACTOR), (names.INPUT, names.FACTOR, names.RULE)
        of_classes = (names.INPUT, names.FACTOR, names.CLASS)
        dims: dict[str, tuple[str, ...]] = {
            names.FENCE: (names.INPUT,),
            names.CLASS_SHARE: (names.INPUT, names.CLASS),
            names.RECALL: (names.INPUT, names.CLASS),
        }
        dims |= {f"{names.UNLESIONED}{end}": by_factor for end in ("", "_se", "_lower", "_upper")}
        dims |= dict.fromkeys((names.P_UNLESIONED, ADJUSTED[names.P_UNLESIONED]), by_factor)
        for shift in (names.CLASS_SHARE_SHIFT, names.RECALL_SHIFT):
            dims |= {shift: of_classes, names.se(shift): of_classes}
        named = np.array(self.classes, dtype=object)
        variables: dict[str, tuple[tuple[str, ...], NDArray[Any]]] = {
            names.SENSITIVE_CLASS: ((names.FACTOR, names.RANK), named[self.sets]),
            names.SENSITIVITY: ((names.FACTOR, names.RANK), self.sensitivity),
            **{name: (dims.get(name, cells), values) for name, values in arrays.items()},
        }
        coords = {
            names.INPUT: np.array(self.inputs, dtype=object),
            names.FACTOR: np.array(self.factors, dtype=object),
            **self.place.rule_coords(),
            names.CLASS: named,
            names.RANK: np.arange(self.k),
        }
        attrs = self.attrs(METHOD, n) | {
            "family": "one per kind of p-value, over all its cells",
            "k": self.k,
            "n_permutations": len(self.random),
            "class_layer": self.layer,
        }
        labelled = {name: (*both, variable_attrs(name, SAID_OF_ALL, {})) for name, both in variables.items()}
        found = xr.Dataset(labelled, coords, attrs)
        found[names.FENCE].attrs |= {
            "hypergeometric_fence": hypergeometric_fence(len(self.classes), self.k, max(1, int(n[0]))),
            "expected_jaccard": random_jaccard(len(self.classes), self.k)[0],
        }
        return found
