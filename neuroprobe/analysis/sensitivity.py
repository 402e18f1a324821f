"""Analyses of pick-freeze rows (Sobol indices, Shapley effects, moments) with labels, and what is read off them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroprobe import names

if TYPE_CHECKING:
    from neuroprobe.design.pick_freeze import Presentations
    from neuroprobe.statistics.estimators import Terms
    from neuroprobe.statistics.pick_freeze import PickFreezeAccumulator, PickFreezeSums

SOBOL_METHODS: Final = {
    "differences": "products of differences over pick-freeze rows; Saltelli et al. 2010, Jansen 1999, Liu & Owen 2006",
    "salib": "SALib's formulas: S1 Saltelli et al. 2010, ST Jansen 1999, S2 Saltelli 2002",
}
LONG_NAMES: Final = {
    names.FIRST_ORDER: "first-order Sobol index: share of the variance that the factor explains alone",
    names.TOTAL_ORDER: "total-order Sobol index: share of the variance with all interactions of the factor",
    names.SECOND_ORDER: "second-order Sobol index: share of the variance of the interaction of a pair alone",
    names.TOTAL_INTERACTION: "total interaction: share of the variance of all interactions that hold a pair",
    names.SHAPLEY_EFFECT: "Shapley effect: share of the variance; those of all factors sum to 1",
    names.COMPONENT: "component of the analysis of variance: share of the variance of an interaction alone",
    names.VARIANCE: "variance of the response under the treatment",
    names.COEFFICIENT_OF_VARIATION: "coefficient of variation: standard deviation over absolute mean",
    names.MEAN: "mean response under the treatment",
    names.ACTIVITY_RATE: "share of presentations with a response above 0",
    names.DEFINED: "whether the variance is above the noise floor",
    names.N_DROPPED: "base samples left out for a non-finite response",
}
SHAPLEY_METHODS: Final = {
    "subsets": "all components of the variance from all subsets of the factors; Owen 2014",
    "walks": "walks from A to B that swap one factor at a time, symmetrised; after Goda 2021",
    "conditional walks": "walks from A to B, swapped factors drawn jointly given the others; Goda 2021",
}
LEADING: Final = {
    names.FIRST_ORDER: (names.FACTOR,),
    names.TOTAL_ORDER: (names.FACTOR,),
    names.SHAPLEY_EFFECT: (names.FACTOR,),
    names.SECOND_ORDER: (names.FACTOR, names.FACTOR_2),
    names.TOTAL_INTERACTION: (names.FACTOR, names.FACTOR_2),
}
SCOPES: Final = {
    "frozen": "these images",
    "factor": "images drawn from this set",
    "factors": "images drawn from this set",
    "frozen rank": "images drawn from this set",
    "redrawn": "images drawn from this set",
    "replicated": "new images of the same kind",
}
PROFILED: Final = (names.FIRST_ORDER, names.TOTAL_ORDER, names.SHAPLEY_EFFECT)  # one value per factor
TOLERANCE: Final = 0.01  # standard error under which an index counts as converged


@dataclass(frozen=True, kw_only=True)
class VarianceAnalysis(ABC):
    """Shares of the variance of every recorded unit, or its moments, from pick-freeze rows.

    Parameters
    ----------
    factors : tuple of str
    drop : bool
        Whether base samples with a non-finite response are left out.
    image : str
        What the image is in the design: a key of `SCOPES`, but ``replicated``.
    replicate : str
        What blocks replicate: base samples of the same images (``sample``), or images (``image``).
    estimator : str
        For Sobol indices one of `neuroprobe.statistics.estimators.ESTIMATORS`, for Shapley effects one of
        `neuroprobe.statistics.shapley.ESTIMATORS`.
    """

    factors: tuple[str, ...]
    drop: bool = False
    image: str = "frozen"
    replicate: str = "sample"
    estimator: str = "differences"

    name: ClassVar[str]  # of its group in a result
    summarised: ClassVar[tuple[str, ...]]  # whose errors per factor tell how far a run has converged

    @property
    @abstractmethod
    def terms(self) -> Terms:
        """The sums that are kept."""

    @property
    @abstractmethod
    def method(self) -> str:
        """How it is estimated, with the source."""

    @property
    def judged(self) -> tuple[str, ...]:
        """Shares of the variance whose errors decide when a run has enough base samples."""
        return tuple(name for name in LEADING if name in self.terms.shares)

    @abstractmethod
    def rows(self, presentations: Presentations) -> NDArray[np.int64]:
        """Rows of the design that the terms are made of (samples, rows of the terms)."""

    def accumulator(self, n_units: int, block: int, **options: Any) -> PickFreezeAccumulator:
        """Return the streaming statistic of one layer."""
        from neuroprobe.statistics.pick_freeze import PickFreezeAccumulator

        return PickFreezeAccumulator(self.terms, n_units, block, **options)

    def finalize(self, sums: PickFreezeSums, only: Collection[str] | None = None) -> dict[str, NDArray[np.float64]]:
        """Return the quantities of one layer, or some of them, without labels."""
        from neuroprobe.statistics.indices import finalize

        return finalize(sums, self.terms, only)

    def result_bytes(self, n_units: int) -> dict[str, int]:
        """Bytes of each variable of a layer's result."""
        from neuroprobe.statistics.indices import result_bytes

        return result_bytes(self.terms, n_units)

    def finalize_bytes(self) -> int:
        """Bytes that `finalize` takes for a while beside its result."""
        from neuroprobe.statistics.indices import finalize_bytes

        return finalize_bytes(self.terms)

    def summary_bytes(self, n_units: int) -> int:
        """Bytes that `convergence` takes for a while: quantiles are taken of copies of one after the other."""
        variables = self.result_bytes(n_units)
        return self.finalize_bytes() + int(1.7 * sum(variables[n] + variables[names.se(n)] for n in self.summarised))

    def label(
        self,
        sums: PickFreezeSums | Iterable[PickFreezeSums],
        dims: Sequence[str],
        shape: Sequence[int],
        coords: Mapping[Any, Any],
        scramble: int | None,
        depth: int,
    ) -> xr.Dataset:
        """Label the sums of one layer, the `depth`-th that was recorded, over the layer's native shape.

        Parameters
        ----------
        sums : PickFreezeSums, or several
            Of the layer; or of ranges of its units, in order, of which one after the other is read.
        """
        arrays, n_samples, n_blocks = self._joined(sums)
        error_attrs = {
            "se_kind": "upper bound" if scramble is None else "delta method over independent scrambles",
            "df": n_blocks - 1,
        }
        attrs = {"samples": n_samples, "blocks": n_blocks, "depth": depth}
        return self.label_arrays(arrays, dims, shape, coords, error_attrs, attrs)

    def _joined(
        self, sums: PickFreezeSums | Iterable[PickFreezeSums], only: Collection[str] | None = None
    ) -> tuple[dict[str, NDArray[np.float64]], int, int]:
        """Quantities of one layer, put together of ranges of its units; with its base samples and blocks."""
        found, n_samples, n_blocks = [], 0, 0
        for one in sums if isinstance(sums, Iterable) else [sums]:
            n_samples, n_blocks = one.n_samples, one.n_blocks
            found.append(self.finalize(one, only))
            del one  # before the next is read
        if len(found) == 1:
            return found[0], n_samples, n_blocks
        arrays = {name: np.concatenate([one.pop(name) for one in found], -1) for name in list(found[0])}
        return arrays, n_samples, n_blocks

    def label_arrays(
        self,
        arrays: Mapping[str, NDArray[Any]],
        dims: Sequence[str],
        shape: Sequence[int],
        coords: Mapping[Any, Any],
        error_attrs: Mapping[str, Any],
        attrs: Mapping[str, Any],
    ) -> xr.Dataset:
        """Label quantities (…, units) of one layer over the layer's shape."""
        error_attrs = {
            "se_scope": SCOPES[self.image if self.replicate == "sample" else "replicated"],
            **error_attrs,
        }
        variables: dict[str, Any] = {}
        axes: dict[str, Any] = {}
        for name, array in arrays.items():
            leading = self._leading(name)
            described = self._attrs(name) | (error_attrs if name.endswith("_se") else {})
            variables[name] = ((*leading, *dims), array.reshape(array.shape[:-1] + tuple(shape)), described)
            axes |= {dim: (dim, np.array(labels, dtype=object)) for dim, labels in leading.items()}
        return xr.Dataset(
            variables,
            {**axes, **coords},
            {
                "method": self.method,
                "estimator": self.estimator,
                **attrs,
                "n_undefined": int((arrays[names.DEFINED] == 0).sum()),
            },
        )

    def _leading(self, name: str) -> dict[str, tuple[str, ...]]:
        """Dimensions before those of the units, with their labels."""
        dims = LEADING.get(name.removesuffix("_se"), ())
        return dict.fromkeys(dims, self.factors)

    def _attrs(self, name: str) -> dict[str, Any]:
        value = name.removesuffix("_se")
        is_share = value not in {names.VARIANCE, names.MEAN}
        attrs = {"long_name": LONG_NAMES[value], "units": "1" if is_share else "response units"}
        if value == names.VARIANCE:
            attrs["units"] = "response units²"
        if name != value:
            attrs["long_name"] = f"standard error of: {LONG_NAMES[value]}"
        elif value in {names.SECOND_ORDER, names.TOTAL_INTERACTION}:
            attrs["comment"] = "symmetric; the diagonal is empty (NaN)"
        return attrs

    def convergence(self, sums: PickFreezeSums | Iterable[PickFreezeSums]) -> dict[str, list[float]]:
        """Summarise the errors of one layer: per factor their median, 95th percentile, and share under 0.01."""
        from neuroprobe.statistics.summary import error_summary

        arrays, _, _ = self._joined(sums, self.summarised)
        summary = {}
        for name in self.summarised:
            for key, values in error_summary(arrays[names.se(name)], TOLERANCE).items():
                summary[f"{names.se(name)}_{key}"] = values.tolist()
        return summary


@dataclass(frozen=True, kw_only=True)
class SobolAnalysis(VarianceAnalysis):
    """Sobol indices of every recorded unit.

    Parameters
    ----------
    second_order, total_interaction : bool
        See `neuroprobe.statistics.estimators.Terms`.
    """

    second_order: bool = True
    total_interaction: bool = False
    name: ClassVar[str] = "sobol"
    summarised: ClassVar[tuple[str, ...]] = (names.FIRST_ORDER, names.TOTAL_ORDER)

    @cached_property
    def terms(self) -> Terms:
        """The sums that are kept."""
        from neuroprobe.statistics.estimators import ESTIMATORS

        return ESTIMATORS[self.estimator](len(self.factors), self.second_order, self.total_interaction, self.drop)

    @property
    def method(self) -> str:
        """How they are estimated, with the source."""
        return SOBOL_METHODS[self.estimator]

    def rows(self, presentations: Presentations) -> NDArray[np.int64]:
        """A, B, and those with single factors swapped."""
        return presentations.of_sobol


@dataclass(frozen=True, kw_only=True)
class ShapleyAnalysis(VarianceAnalysis):
    """Shapley effects of every recorded unit.

    Parameters
    ----------
    estimator : str
        ``subsets`` of few independent factors, which give all components of the variance too; ``walks`` of independent
        factors; or ``conditional walks`` of factors that depend on each other.
    groups : tuple of int
        Where walks swap parameters of the factors one by one: which factor each belongs to.
    """

    groups: tuple[int, ...] = ()
    name: ClassVar[str] = "shapley"
    summarised: ClassVar[tuple[str, ...]] = (names.SHAPLEY_EFFECT,)

    @cached_property
    def terms(self) -> Terms:
        """The sums that are kept."""
        from neuroprobe.statistics.shapley import ESTIMATORS

        options: dict[str, Any] = {"groups": self.groups} if self.groups else {}
        return ESTIMATORS[self.estimator](len(self.groups) or len(self.factors), drop=self.drop, **options)

    @property
    def method(self) -> str:
        """How they are estimated, with the source."""
        summed = "; effects of parameters, which are swapped one at a time, summed per factor" if self.groups else ""
        return SHAPLEY_METHODS[self.estimator] + summed

    def rows(self, presentations: Presentations) -> NDArray[np.int64]:
        """All subsets, or those before and after each step of the walk."""
        return presentations.of_subsets if self.estimator == "subsets" else presentations.steps

    def _leading(self, name: str) -> dict[str, tuple[str, ...]]:
        """Dimensions before those of the units, with their labels."""
        from neuroprobe.statistics.shapley import SubsetTerms

        if name.removesuffix("_se") != names.COMPONENT or not isinstance(self.terms, SubsetTerms):
            return super()._leading(name)
        return {names.SUBSET: tuple("_".join(self.factors[i] for i in subset) for subset in self.terms.subsets)}


@dataclass(frozen=True, kw_only=True)
class MomentsAnalysis(VarianceAnalysis):
    """Mean, variance and coefficient of variation of every recorded unit under the treatment."""

    name: ClassVar[str] = "moments"
    summarised: ClassVar[tuple[str, ...]] = ()

    @cached_property
    def terms(self) -> Terms:
        """The sums that are kept."""
        from neuroprobe.statistics.estimators import MomentsTerms

        return MomentsTerms(len(self.factors), drop=self.drop)

    @property
    def method(self) -> str:
        """How they are estimated, with the source."""
        return "two independent points A and B for each base sample: variance ½ E[(A − B)²], mean of both"

    def rows(self, presentations: Presentations) -> NDArray[np.int64]:
        """A and B."""
        return np.broadcast_to(np.arange(2), (len(presentations.sample), 2))


def label_convergence(
    table: Mapping[int, Mapping[str, Mapping[str, list[float]]]], factors: Sequence[str]
) -> xr.Dataset:
    """Label the convergence summaries: samples → layer → quantity → one value per factor; NaN where there is none."""
    samples = sorted(table)
    summaries = {layer: table[n][layer] for n in samples for layer in table[n]}
    layers = list(dict.fromkeys(layer for n in reversed(samples) for layer in table[n]))
    unknown = dict.fromkeys(summaries[layers[0]], [np.nan] * len(factors))
    dims = (names.SAMPLES, names.LAYER, names.FACTOR)
    variables = {
        quantity: (dims, np.array([[table[n].get(layer, unknown)[quantity] for layer in layers] for n in samples]))
        for quantity in unknown
    }
    coords = {
        names.SAMPLES: samples,
        names.LAYER: np.array(layers, dtype=object),
        names.FACTOR: np.array(factors, dtype=object),
    }
    return xr.Dataset(variables, coords, {"tolerance": TOLERANCE})


def depth_profile(indices: xr.Dataset, quantiles: Sequence[float] = (0.25, 0.5, 0.75)) -> xr.Dataset:
    """Quantiles over the defined units of one layer's shares of variance and standard errors.

    Parameters
    ----------
    indices : Dataset
        A node of ``/sobol`` or ``/shapley``.

    Returns
    -------
    Dataset
        ``first_order`` and ``total_order``, or ``shapley_effect``, with errors, over (quantile, factor).
    """
    chosen = [key for name in PROFILED if name in indices for key in (name, names.se(name))]
    return xr.Dataset({name: quantiles_over_units(indices[name], quantiles) for name in chosen})


def quantiles_over_units(index: xr.DataArray, quantiles: Sequence[float]) -> xr.DataArray:
    """Quantiles of one layer's index over its defined units: (quantile, factor, …), NaN where no unit is defined."""
    from neuroprobe.statistics import summary

    factors = [dim for dim in index.dims if dim in (names.FACTOR, names.FACTOR_2)]
    # one factor at a time is read and sorted: pairs of factors over all units can be large
    slices = [index[i].values.reshape(*index[i].shape[: len(factors) - 1], -1) for i in range(len(index))]
    values = np.stack([summary.quantiles(one, quantiles) for one in slices])
    coords = {dim: index[dim].values for dim in factors} | {names.QUANTILE: list(quantiles)}
    labelled = xr.DataArray(values, coords, [*factors, names.QUANTILE], index.name, index.attrs)
    return labelled.transpose(names.QUANTILE, ...)


def depth_profiles(group: xr.DataTree, quantiles: Sequence[float] = (0.25, 0.5, 0.75)) -> xr.Dataset:
    """Depth profiles of the layers of a group, over (layer, quantile, factor), in the order of recording."""
    layers = recorded_order(group)
    profiles = [depth_profile(group[layer].to_dataset(), quantiles) for layer in layers]
    return xr.concat(profiles, xr.Variable(names.LAYER, np.array(layers, dtype=object)))


def recorded_order(group: xr.DataTree) -> list[str]:
    """Layers of a group in the order of the protocol, where the tree says it; zarr sorts groups by name."""
    order = {layer: node.attrs.get("depth", 0) for layer, node in group.children.items()}
    return sorted(order, key=lambda layer: order[layer])
