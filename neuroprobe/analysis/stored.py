"""Sobol indices of stored responses: the same statistics over the chunks of a recording."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr

from neuroprobe import names
from neuroprobe.analysis.expression import kind_of
from neuroprobe.analysis.query import parse_query
from neuroprobe.analysis.sensitivity import METHODS, SobolAnalysis
from neuroprobe.analysis.units import to_units
from neuroprobe.errors import ReaderError, unknown_name

if TYPE_CHECKING:
    from neuroprobe.statistics.pick_freeze import PickFreezeSums

PIECE_BYTES: Final = 128 << 20  # of stored responses that are in memory at a time
N_RESAMPLES: Final = 100  # of SALib's bootstrap; its default


def sobol(
    recording: xr.DataTree,
    *,
    units: str | None = None,
    estimator: str = "differences",
    total_interaction: bool = False,
) -> xr.DataTree:
    """Sobol indices of stored responses.

    Parameters
    ----------
    recording : xarray.DataTree
        As `neuroprobe.open_recording` opens it: ``/responses/<layer>`` with ``response(presentation, …)``, the
        presentations in the order in which they were recorded, whole base samples.
    units : str, optional
        Which units, in the language of `neuroprobe.select_units` over their places (``layer``, ``channel``, ``y``,
        ``x``, ``token``): ``"layer == 'layer3' and channel in [3, 17]"``. All by default.
    estimator : str
        ``differences``, the estimators of a run; or ``salib``, which calls SALib for one unit after the other, some
        milliseconds each.
    total_interaction : bool
        Whether total interactions are wanted too; not by SALib.

    Returns
    -------
    xarray.DataTree
        One node per layer, as under ``/sobol`` of a result: ``first_order(factor, …)``, ``total_order``,
        ``second_order(factor, factor_2, …)`` with standard errors, and ``defined``; but by SALib ``variance``, ``mean``
        and ``activity_rate`` too. Of chosen units, over ``unit`` in place of the layer's dimensions. Memory is bounded
        by a chunk of the responses and the sums of one layer; by the responses of the chosen units for SALib.

    Raises
    ------
    ReaderError
        If the recording has no pick-freeze design, its rows are not in order, no unit is chosen, or SALib's formulas
        do not go with its frozen images.
    QueryError
        If `units` cannot be read.

    Notes
    -----
    For estimators and errors see `neuroprobe.statistics.estimators`. The standard errors of ``salib`` are those of its
    bootstrap.
    """
    if estimator not in METHODS:
        raise ReaderError(unknown_name("estimator", estimator, METHODS))
    design = _recorded_design(recording)
    attrs = recording.attrs
    analysis = SobolAnalysis(
        design.factors,
        design.second_order,
        total_interaction,
        drop=attrs.get("nan") == "drop",
        image=str(attrs.get("image", "frozen")),
        replicate=str(attrs.get("replicate", "sample")),
        estimator=estimator,
    )
    if estimator == "salib":
        _require_salib(analysis)
    nodes = {}
    for depth, layer, response in _responses(recording, units):
        coords = {str(name): array.variable for name, array in response.coords.items()}
        dims, shape = [str(dim) for dim in response.dims[1:]], response.shape[1:]
        if estimator == "salib":
            nodes[layer] = _by_salib(response, analysis, design, dims, shape, coords, depth)
        else:
            sums = _stream(response, analysis, design)
            nodes[layer] = analysis.label(sums, dims, shape, coords, design.scramble, depth)
    return xr.DataTree.from_dict(nodes, name=analysis.name)


def _require_salib(analysis: SobolAnalysis) -> None:
    if analysis.image.startswith("frozen"):
        raise ReaderError(
            "estimator: SALib's formulas do not go with frozen images: their denominator holds the variance between "
            "images; take estimator='differences', or record with `image: factor`"
        )
    if analysis.total_interaction:
        raise ReaderError("total_interaction: SALib does not compute it; take estimator='differences'")


def _responses(recording: xr.DataTree, query: str | None) -> Iterator[tuple[int, str, xr.DataArray]]:
    """Depth, name and response (presentation, …) of each layer, or of its chosen units where it has some."""
    layers = recording.children[names.RESPONSES].children
    in_order = sorted(layers, key=_recorded_place(recording.attrs))
    responses = {layer: _without_table(layers[layer].to_dataset()[names.RESPONSE]) for layer in in_order}
    if query is None:
        for depth, layer in enumerate(in_order):
            yield depth, layer, responses[layer].transpose(names.PRESENTATION, ...)
        return
    condition = parse_query(query)
    flat = {layer: to_units(response.to_dataset(), layer) for layer, response in responses.items()}
    places = {layer: {str(name): array.values for name, array in units.coords.items()} for layer, units in flat.items()}
    condition.check(
        {name: kind for columns in places.values() for name, array in columns.items() if (kind := kind_of(array.dtype))}
    )
    n_chosen = 0
    for depth, layer in enumerate(in_order):
        shape = flat[layer].sizes[names.UNIT]
        chosen = np.flatnonzero(np.broadcast_to(condition.evaluate(places[layer]).true, shape))
        n_chosen += len(chosen)
        if len(chosen):
            units = flat[layer][names.RESPONSE].isel({names.UNIT: chosen})
            yield depth, layer, units.transpose(names.PRESENTATION, names.UNIT)
    if not n_chosen:
        n_units = sum(units.sizes[names.UNIT] for units in flat.values())
        raise ReaderError(f"units: none of the {n_units:,} recorded units is chosen by {query!r}; loosen the condition")


def _without_table(response: xr.DataArray) -> xr.DataArray:
    """Response without the columns of the presentation table."""
    return response.drop_vars([name for name, array in response.coords.items() if names.PRESENTATION in array.dims])


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


def _by_salib(
    response: xr.DataArray,
    analysis: SobolAnalysis,
    design: _RecordedDesign,
    dims: list[str],
    shape: tuple[int, ...],
    coords: Mapping[Any, Any],
    depth: int,
) -> xr.Dataset:
    """Label what SALib says of the units of one layer."""
    from neuroprobe.statistics.salib import salib_indices

    rows = response.values.reshape(design.n_samples, design.n_rows, -1)
    n_bad = int((~np.isfinite(rows).all((0, 1))).sum())
    if n_bad:
        raise ReaderError(f"layer {response.name!r}: {n_bad} units hold NaN or infinity, which SALib cannot take")
    arrays = salib_indices(rows, len(design.factors), second_order=design.second_order, n_resamples=N_RESAMPLES)
    error_attrs = {"se_kind": f"SALib's bootstrap over base samples, {N_RESAMPLES} resamples"}
    return analysis.label_arrays(
        arrays, dims, shape, coords, error_attrs, {"samples": design.n_samples, "depth": depth}
    )


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
