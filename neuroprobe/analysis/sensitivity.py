"""Sobol indices with labels, and what is read off them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroprobe import names

if TYPE_CHECKING:
    from neuroprobe.statistics.estimators import Terms
    from neuroprobe.statistics.pick_freeze import PickFreezeAccumulator, PickFreezeSums

METHODS: Final = {
    "differences": "products of differences over pick-freeze rows; Saltelli et al. 2010, Jansen 1999, Liu & Owen 2006",
    "salib": "SALib's formulas: S1 Saltelli et al. 2010, ST Jansen 1999, S2 Saltelli 2002",
}
LONG_NAMES: Final = {
    names.FIRST_ORDER: "first-order Sobol index: share of the variance that the factor explains alone",
    names.TOTAL_ORDER: "total-order Sobol index: share of the variance with all interactions of the factor",
    names.SECOND_ORDER: "second-order Sobol index: share of the variance of the interaction of a pair alone",
    names.TOTAL_INTERACTION: "total interaction: share of the variance of all interactions that hold a pair",
    names.VARIANCE: "variance of the response under the treatment",
    names.MEAN: "mean response under the treatment",
    names.ACTIVITY_RATE: "share of presentations with a response above 0",
    names.DEFINED: "whether the variance is above the noise floor",
    names.N_DROPPED: "base samples left out for a non-finite response",
}
SCOPES: Final = {
    "frozen": "these images",
    "factor": "images drawn from this set",
    "factors": "images drawn from this set",
    "frozen rank": "images drawn from this set",
    "redrawn": "images drawn from this set",
    "replicated": "new images of the same kind",
}
TOLERANCE: Final = 0.01  # standard error under which an index counts as converged


@dataclass(frozen=True)
class SobolAnalysis:
    """Sobol indices of every recorded unit.

    Parameters
    ----------
    factors : tuple of str
    second_order, total_interaction, drop : bool
        See `neuroprobe.statistics.estimators.Terms`.
    image : str
        What the image is in the design: a key of `SCOPES`, but ``replicated``.
    replicate : str
        What blocks replicate: base samples of the same images (``sample``), or images (``image``).
    estimator : str
        One of `neuroprobe.statistics.estimators.ESTIMATORS`.
    """

    factors: tuple[str, ...]
    second_order: bool = True
    total_interaction: bool = False
    drop: bool = False
    image: str = "frozen"
    replicate: str = "sample"
    estimator: str = "differences"
    name: str = "sobol"

    @cached_property
    def terms(self) -> Terms:
        """The sums that are kept."""
        from neuroprobe.statistics.estimators import ESTIMATORS

        return ESTIMATORS[self.estimator](len(self.factors), self.second_order, self.total_interaction, self.drop)

    def accumulator(self, n_units: int, block: int, **options: Any) -> PickFreezeAccumulator:
        """Return the streaming statistic of one layer."""
        from neuroprobe.statistics.pick_freeze import PickFreezeAccumulator

        return PickFreezeAccumulator(self.terms, n_units, block, **options)

    def finalize(self, sums: PickFreezeSums, only: Collection[str] | None = None) -> dict[str, NDArray[np.float64]]:
        """Return the indices of one layer, or some of them, without labels."""
        from neuroprobe.statistics.indices import finalize

        return finalize(sums, self.terms, only)

    def label(
        self,
        sums: PickFreezeSums,
        dims: Sequence[str],
        shape: Sequence[int],
        coords: Mapping[Any, Any],
        scramble: int | None,
        depth: int,
    ) -> xr.Dataset:
        """Label the sums of one layer, the `depth`-th that was recorded, over the layer's native shape."""
        error_attrs = {
            "se_kind": "upper bound" if scramble is None else "delta method over independent scrambles",
            "df": sums.n_blocks - 1,
        }
        attrs = {"samples": sums.n_samples, "blocks": sums.n_blocks, "depth": depth}
        return self.label_arrays(self.finalize(sums), dims, shape, coords, error_attrs, attrs)

    def label_arrays(
        self,
        arrays: Mapping[str, NDArray[Any]],
        dims: Sequence[str],
        shape: Sequence[int],
        coords: Mapping[Any, Any],
        error_attrs: Mapping[str, Any],
        attrs: Mapping[str, Any],
    ) -> xr.Dataset:
        """Label indices (…, units) of one layer over the layer's shape."""
        error_attrs = {
            "se_scope": SCOPES[self.image if self.replicate == "sample" else "replicated"],
            **error_attrs,
        }
        variables = {}
        for name, array in arrays.items():
            leading = ((), (names.FACTOR,), (names.FACTOR, names.FACTOR_2))[array.ndim - 1]
            described = self._attrs(name) | (error_attrs if name.endswith("_se") else {})
            variables[name] = ((*leading, *dims), array.reshape(array.shape[:-1] + tuple(shape)), described)
        labels = np.array(self.factors, dtype=object)
        present = {dim for dims_, _, _ in variables.values() for dim in dims_}
        axes = {dim: (dim, labels) for dim in (names.FACTOR, names.FACTOR_2) if dim in present}
        return xr.Dataset(
            variables,
            {**axes, **coords},
            {
                "method": METHODS[self.estimator],
                "estimator": self.estimator,
                **attrs,
                "n_undefined": int((arrays[names.DEFINED] == 0).sum()),
            },
        )

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

    def convergence(self, sums: PickFreezeSums) -> dict[str, list[float]]:
        """Summarise the errors of one layer: per factor their median, 95th percentile, and share under 0.01."""
        from neuroprobe.statistics.summary import error_summary

        summarised = (names.FIRST_ORDER, names.TOTAL_ORDER)
        arrays = self.finalize(sums, summarised)
        summary = {}
        for name in summarised:
            for key, values in error_summary(arrays[names.se(name)], TOLERANCE).items():
                summary[f"{names.se(name)}_{key}"] = values.tolist()
        return summary


def label_convergence(
    table: Mapping[int, Mapping[str, Mapping[str, list[float]]]], factors: Sequence[str]
) -> xr.Dataset:
    """Label the convergence summaries: samples → layer → quantity → one value per factor."""
    layers = list(next(iter(table.values())))
    quantities = list(next(iter(table.values()))[layers[0]])
    samples = sorted(table)
    dims = (names.SAMPLES, names.LAYER, names.FACTOR)
    variables = {
        quantity: (dims, np.array([[table[n][layer][quantity] for layer in layers] for n in samples], dtype=float))
        for quantity in quantities
    }
    coords = {
        names.SAMPLES: samples,
        names.LAYER: np.array(layers, dtype=object),
        names.FACTOR: np.array(factors, dtype=object),
    }
    return xr.Dataset(variables, coords, {"tolerance": TOLERANCE})


def depth_profile(indices: xr.Dataset, quantiles: Sequence[float] = (0.25, 0.5, 0.75)) -> xr.Dataset:
    """Quantiles over the defined units of one layer's indices and standard errors.

    Parameters
    ----------
    indices : Dataset
        A node of ``/sobol``.

    Returns
    -------
    Dataset
        ``first_order``, ``total_order`` and their errors over (quantile, factor).
    """
    chosen = [names.FIRST_ORDER, names.se(names.FIRST_ORDER), names.TOTAL_ORDER, names.se(names.TOTAL_ORDER)]
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


def depth_profiles(sobol: xr.DataTree, quantiles: Sequence[float] = (0.25, 0.5, 0.75)) -> xr.Dataset:
    """Depth profiles of all layers of a Sobol result, over (layer, quantile, factor), in the order of recording."""
    layers = list(recorded_order(sobol))
    profiles = [depth_profile(sobol[layer].to_dataset(), quantiles) for layer in layers]
    return xr.concat(profiles, xr.Variable(names.LAYER, np.array(layers, dtype=object)))


def recorded_order(sobol: xr.DataTree) -> list[str]:
    """Layers of a Sobol result in the order of the protocol, where the tree says it; zarr sorts groups by name."""
    order = {layer: node.attrs.get("depth", 0) for layer, node in sobol.children.items()}
    return sorted(order, key=lambda layer: order[layer])
