"""Sobol indices with labels: of a run, and of stored responses."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.errors import ReaderError

if TYPE_CHECKING:
    from neuroprobe.statistics.pick_freeze import PickFreezeAccumulator, PickFreezeSums, PickFreezeTerms

REFERENCE: Final = "products of differences over pick-freeze rows; Saltelli et al. 2010, Jansen 1999, Liu & Owen 2006"
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
    "redrawn": "images drawn from this set",
}
PIECE_BYTES: Final = 128 << 20  # of stored responses that are in memory at a time
TOLERANCE: Final = 0.01  # standard error under which an index counts as converged


@dataclass(frozen=True)
class SobolAnalysis:
    """Sobol indices of every recorded unit.

    Parameters
    ----------
    factors : tuple of str
    second_order, total_interaction, drop : bool
        See `neuroprobe.statistics.pick_freeze.PickFreezeTerms`.
    image : str
        What the image is in the design: frozen, factor or redrawn.
    """

    factors: tuple[str, ...]
    second_order: bool = True
    total_interaction: bool = False
    drop: bool = False
    image: str = "frozen"
    name: str = "sobol"

    @cached_property
    def terms(self) -> PickFreezeTerms:
        """The sums that are kept."""
        from neuroprobe.statistics.pick_freeze import PickFreezeTerms

        return PickFreezeTerms(len(self.factors), self.second_order, self.total_interaction, self.drop)

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
        arrays = self.finalize(sums)
        error_attrs = {
            "se_scope": SCOPES[self.image],
            "se_kind": "upper bound" if scramble is None else "delta method over independent scrambles",
            "df": sums.n_blocks - 1,
        }
        variables = {}
        for name, array in arrays.items():
            leading = ((), (names.FACTOR,), (names.FACTOR, names.FACTOR_2))[array.ndim - 1]
            attrs = self._attrs(name) | (error_attrs if name.endswith("_se") else {})
            variables[name] = ((*leading, *dims), array.reshape(array.shape[:-1] + tuple(shape)), attrs)
        labels = np.array(self.factors, dtype=object)
        present = {dim for dims_, _, _ in variables.values() for dim in dims_}
        axes = {dim: (dim, labels) for dim in (names.FACTOR, names.FACTOR_2) if dim in present}
        return xr.Dataset(
            variables,
            {**axes, **coords},
            {
                "method": REFERENCE,
                "estimator": "differences",
                "samples": sums.n_samples,
                "blocks": sums.n_blocks,
                "depth": depth,
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


def sobol(recording: xr.DataTree, *, total_interaction: bool = False) -> xr.DataTree:
    """Sobol indices of stored responses.

    Parameters
    ----------
    recording : xarray.DataTree
        As `neuroprobe.open_recording` opens it: ``/responses/<layer>`` with ``response(presentation, …)``, the
        presentations in the order in which they were recorded, whole base samples.
    total_interaction : bool
        Whether total interactions are wanted too.

    Returns
    -------
    xarray.DataTree
        One node per layer, as under ``/sobol`` of a result: ``first_order(factor, …)``, ``total_order``,
        ``second_order(factor, factor_2, …)`` with standard errors, ``variance``, ``mean``, ``activity_rate``,
        ``defined``. Memory is bounded by a chunk of the responses and the sums of one layer.

    Raises
    ------
    ReaderError
        If the recording has no pick-freeze design, or its rows are not in order.

    Notes
    -----
    The estimators and their errors are those of the run: see `neuroprobe.statistics.pick_freeze`.
    """
    design = _recorded_design(recording)
    attrs = recording.attrs
    analysis = SobolAnalysis(
        design.factors,
        design.second_order,
        total_interaction,
        drop=attrs.get("nan") == "drop",
        image=str(attrs.get("image", "frozen")),
    )
    nodes = {}
    layers = recording.children[names.RESPONSES].children
    for depth, layer in enumerate(sorted(layers, key=_recorded_place(attrs))):
        node = layers[layer]
        response = node[names.RESPONSE].transpose(names.PRESENTATION, ...)
        coords = {dim: response.coords[dim].values for dim in response.dims[1:] if dim in response.coords}
        sums = _stream(response, analysis, design)
        dims = [str(dim) for dim in response.dims[1:]]
        nodes[layer] = analysis.label(sums, dims, response.shape[1:], coords, design.scramble, depth)
    return xr.DataTree.from_dict(nodes, name=analysis.name)


def _recorded_place(attrs: Mapping[Any, Any]) -> Callable[[str], int]:
    """Place of a layer in the protocol that a recording was made by; all alike where there is none."""
    if names.PROVENANCE not in attrs:
        return lambda layer: 0
    order = [layer["name"] for layer in json.loads(attrs[names.PROVENANCE])["protocol"]["subject"]["layers"]]
    return order.index


@dataclass(frozen=True)
class _RecordedDesign:
    """The pick-freeze design of a recording, read off its presentation table."""

    factors: tuple[str, ...]
    second_order: bool
    n_samples: int
    n_rows: int
    block: int
    scramble: int | None


def _recorded_design(recording: xr.DataTree) -> _RecordedDesign:
    if names.RESPONSES not in recording.children:
        raise ReaderError(
            f"no group {names.RESPONSES!r} in this tree (it has: {', '.join(recording.children) or 'none'}); "
            "open stored responses by `open_recording`"
        )
    table = recording.to_dataset()
    if names.ROLE not in table.variables or names.SAMPLE not in table.variables:
        raise ReaderError(
            f"the presentation table has no {names.ROLE!r} and {names.SAMPLE!r}: "
            "Sobol indices need a pick-freeze design"
        )
    role, sample = table[names.ROLE].values.astype(object), table[names.SAMPLE].values
    n_rows = int((sample == sample[0]).sum())
    roles = role[:n_rows].tolist()
    prefix = names.altered_by_b("A", "")
    factors = tuple(one.removeprefix(prefix) for one in roles if one.startswith(prefix))
    second_order = n_rows == 2 * len(factors) + 2
    ends = ("A", "B") if second_order else ("A",)
    expected = ["A", "B", *(names.altered_by_b(end, factor) for end in ends for factor in factors)]
    n_samples = len(role) // n_rows
    in_order = len(role) % n_rows == 0 and bool((sample.reshape(n_samples, n_rows) == sample[::n_rows, None]).all())
    if (
        roles != expected
        or not in_order
        or not bool((role.reshape(n_samples, n_rows) == np.array(expected, dtype=object)).all())
    ):
        raise ReaderError(
            f"presentations are not whole base samples in order (roles begin {roles[:4]}, expected {expected[:4]}): "
            "leave the presentations as they were recorded; choose units, not presentations"
        )
    block = int(recording.attrs.get("block", max(1, n_samples // 16)))
    if n_samples % block:
        raise ReaderError(f"{n_samples} base samples are not a multiple of the block of {block} samples")
    scramble = int(recording.attrs.get("scramble", 0)) or None
    return _RecordedDesign(factors, second_order, n_samples, n_rows, block, scramble)


def _stream(response: xr.DataArray, analysis: SobolAnalysis, design: _RecordedDesign) -> PickFreezeSums:
    """Run the responses of one layer through the streaming statistic, some base samples at a time."""
    import torch

    from neuroprobe.statistics.pick_freeze import FOLD
    from neuroprobe.statistics.tree import MergeTree, Span

    n_units = int(np.prod(response.shape[1:]))
    dtype = torch.float64 if response.dtype == np.float64 else torch.float32
    accumulator = analysis.accumulator(n_units, design.block, dtype=dtype)
    tree: MergeTree[PickFreezeSums] = MergeTree()
    fitting = max(1, PIECE_BYTES // (response.dtype.itemsize * design.n_rows * n_units))
    step = min(FOLD, design.block, 1 << (fitting.bit_length() - 1))
    for start in range(0, design.n_samples, design.block):
        for first in range(start, start + design.block, step):
            n = min(step, start + design.block - first)
            rows = response[first * design.n_rows : (first + n) * design.n_rows].values
            index = torch.arange(n * design.n_rows).view(n, design.n_rows)
            if not accumulator.update(torch.from_numpy(rows.reshape(len(rows), -1)).to(dtype), index):
                raise ReaderError(f"responses of base samples {first} to {first + n - 1} hold NaN or infinity")
        block = start // design.block
        tree.add(Span(block, block + 1), accumulator.end_block())
    (_, sums), *others = tree.nodes()
    for _, right in others:
        sums.merge(right)
    return sums


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
