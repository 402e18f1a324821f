"""Sobol indices and Shapley effects of stored responses: the same statistics over the chunks of a recording."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import xarray as xr

from neuroprobe import names
from neuroprobe.analysis.explainable import explainable_shapley, explainable_sobol, require_shown
from neuroprobe.analysis.expression import kind_of
from neuroprobe.analysis.query import parse_query
from neuroprobe.analysis.sensitivity import SOBOL_METHODS, ShapleyAnalysis, SobolAnalysis, VarianceAnalysis
from neuroprobe.analysis.shown_designs import is_shown
from neuroprobe.analysis.units import to_units
from neuroprobe.design.factors import Factor, Input
from neuroprobe.design.laws import Law
from neuroprobe.design.pick_freeze import MAX_ENUMERATED, PickFreeze
from neuroprobe.design.treatment_control import TreatmentControl
from neuroprobe.errors import ReaderError, unknown_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from neuroprobe.analysis.contrast import ContrastAnalysis
    from neuroprobe.statistics.pick_freeze import PickFreezeSums

PIECE_BYTES: Final = 128 << 20  # of stored responses that are in memory at a time
N_ROLES: Final = 6  # of a base sample that a message names
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
        presentations in the order in which they were recorded, whole base samples. Or of an animal that was shown the
        rows of a design in any order, once or repeatedly: see `neuroprobe.analysis.explainable.explainable_sobol`.
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
    if estimator not in SOBOL_METHODS:
        raise ReaderError(unknown_name("estimator", estimator, SOBOL_METHODS))
    if is_shown(recording):
        return _shown_sobol(recording, units, estimator, total_interaction)
    recorded = require_rows(recording, "sobol")
    analysis = SobolAnalysis(
        **recorded.shared,
        second_order=recorded.design.second_order,
        total_interaction=total_interaction,
        estimator=estimator,
    )
    if estimator != "salib":
        return _analysed(recording, analysis, recorded, units)
    _require_salib(analysis)
    nodes = {
        layer: _by_salib(response, analysis, recorded, depth)
        for depth, layer, response in stored_responses(recording, units)
    }
    return xr.DataTree.from_dict(nodes, name=analysis.name)


def shapley(recording: xr.DataTree, *, units: str | None = None) -> xr.DataTree:
    """Shapley effects of stored responses.

    Parameters
    ----------
    recording : xarray.DataTree
        As for `sobol`, recorded with ``analyses: [shapley]``; or of an animal.
    units : str, optional
        As for `sobol`.

    Returns
    -------
    xarray.DataTree
        One node per layer, as under ``/shapley`` of a result: ``shapley_effect(factor, …)``, for few independent
        factors ``component(subset, …)``, with standard errors, ``variance``, ``mean``, ``activity_rate``, ``defined``.

    Raises
    ------
    ReaderError
        If the recording has neither walks nor all subsets of its factors, its rows are not in order, or no unit is
        chosen.
    QueryError
        If `units` cannot be read.

    Notes
    -----
    For estimators and errors see `neuroprobe.statistics.shapley`.
    """
    if is_shown(recording):
        return explainable_shapley(recording, units=units)
    recorded = require_rows(recording, "shapley")
    analysis = ShapleyAnalysis(**recorded.shared, estimator=recorded.estimator, groups=recorded.groups)
    return _analysed(recording, analysis, recorded, units)


def _shown_sobol(recording: xr.DataTree, units: str | None, estimator: str, total_interaction: bool) -> xr.DataTree:
    if estimator == "salib":
        raise ReaderError(
            "estimator: SALib's formulas take each row once, in the order of a design, and know no noise of trials; "
            "take estimator='differences'"
        )
    return explainable_sobol(recording, units=units, total_interaction=total_interaction)


def require_design(recording: xr.DataTree, analysis: str) -> None:
    """Refuse recordings without the rows that an analysis needs, in whatever order they were presented.

    Raises
    ------
    ReaderError
    """
    if is_shown(recording):
        require_shown(recording, analysis)
    else:
        require_rows(recording, analysis)


def require_rows(recording: xr.DataTree, analysis: str) -> _RecordedDesign:
    """Return the design of a recording, which has the rows that Sobol indices or Shapley effects need.

    Raises
    ------
    ReaderError
    """
    recorded = _recorded_design(recording)
    if analysis == "sobol" and not (recorded.design.single or recorded.design.subsets):
        raise ReaderError(
            f"Sobol indices need rows with single factors swapped, and this recording has the rows {recorded.begins}: "
            "record with `analyses: [sobol]`" + (", or take npr.shapley" if recorded.estimator else "")
        )
    if analysis == "shapley" and not recorded.estimator:
        raise ReaderError(
            f"Shapley effects need walks or all subsets of the factors, and this recording has the rows "
            f"{recorded.begins}: record with `analyses: [shapley]`"
            + (", or take npr.sobol" if recorded.design.single else "")
        )
    return recorded


def _analysed(
    recording: xr.DataTree, analysis: VarianceAnalysis, recorded: _RecordedDesign, units: str | None
) -> xr.DataTree:
    """Run the responses of each layer through the streaming statistic of an analysis."""
    nodes = {}
    for depth, layer, response in stored_responses(recording, units):
        sums = stream(response, analysis, recorded)
        nodes[layer] = analysis.label(sums, *_axes(response), recorded.design.scramble, depth)
    return xr.DataTree.from_dict(nodes, name=analysis.name)


def _axes(response: xr.DataArray) -> tuple[list[str], tuple[int, ...], dict[str, Any]]:
    """Dimensions, shape and coordinates of a response to one presentation."""
    coords = {str(name): array.variable for name, array in response.coords.items()}
    return [str(dim) for dim in response.dims[1:]], response.shape[1:], coords


def _require_salib(analysis: SobolAnalysis) -> None:
    if analysis.image.startswith("frozen"):
        raise ReaderError(
            "estimator: SALib's formulas do not go with frozen images: their denominator holds the variance between "
            "images; take estimator='differences', or record with `image: factor`"
        )
    if analysis.total_interaction:
        raise ReaderError("total_interaction: SALib does not compute it; take estimator='differences'")


def stored_responses(recording: xr.DataTree, query: str | None) -> Iterator[tuple[int, str, xr.DataArray]]:
    """Depth, name and response (presentation, …) of each layer, or of its chosen units where it has some."""
    layers = recording.children[names.RESPONSES].children
    depth = _recorded_place(recording.attrs, list(layers))
    in_order = sorted(layers, key=depth)
    responses = {layer: _without_table(layers[layer].to_dataset()[names.RESPONSE]) for layer in in_order}
    if query is None:
        for layer in in_order:
            yield depth(layer), layer, responses[layer].transpose(names.PRESENTATION, ...)
        return
    condition = parse_query(query)
    flat = {layer: to_units(response.to_dataset(), layer) for layer, response in responses.items()}
    places = {layer: {str(name): array.values for name, array in units.coords.items()} for layer, units in flat.items()}
    condition.check(
        {name: kind for columns in places.values() for name, array in columns.items() if (kind := kind_of(array.dtype))}
    )
    n_chosen = 0
    for layer in in_order:
        shape = flat[layer].sizes[names.UNIT]
        chosen = np.flatnonzero(np.broadcast_to(condition.evaluate(places[layer]).true, shape))
        n_chosen += len(chosen)
        if len(chosen):
            units = flat[layer][names.RESPONSE].isel({names.UNIT: chosen})
            yield depth(layer), layer, units.transpose(names.PRESENTATION, names.UNIT)
    if not n_chosen:
        n_units = sum(units.sizes[names.UNIT] for units in flat.values())
        raise ReaderError(f"units: none of the {n_units:,} recorded units is chosen by {query!r}; loosen the condition")


def _without_table(response: xr.DataArray) -> xr.DataArray:
    """Response without the columns of the presentation table."""
    return response.drop_vars([name for name, array in response.coords.items() if names.PRESENTATION in array.dims])


def _recorded_place(attrs: Mapping[Any, Any], layers: list[str]) -> Callable[[str], int]:
    """Place of a layer in the protocol that a recording was made by; in the recording where there is none."""
    protocol = json.loads(attrs.get(names.PROVENANCE, "{}")).get("protocol")
    if protocol is None:  # of an animal
        return layers.index
    order = [layer["name"] for layer in protocol["subject"]["layers"]]
    return order.index


class Recorded(Protocol):
    """What is recorded, read off a presentation table."""

    @property
    def design(self) -> PickFreeze | TreatmentControl:
        """Design with the same rows; the laws of its inputs stand for those that were recorded."""

    @property
    def n_samples(self) -> int:
        """Base samples."""

    @property
    def block(self) -> int:
        """Base samples of a block; the last one may be shorter."""


@dataclass(frozen=True)
class _RecordedDesign:
    """The design of a recording, read off its presentation table.

    Attributes
    ----------
    design : PickFreeze
        One with the same rows; the laws of its inputs stand for those that were recorded.
    estimator : str
        Of Shapley effects; empty where the rows do not allow them.
    """

    design: PickFreeze
    estimator: str
    n_samples: int
    block: int
    attrs: Mapping[Any, Any]

    @property
    def begins(self) -> str:
        """The first rows of a base sample, in words."""
        roles = self.design.roles
        return ", ".join(roles[:N_ROLES]) + ("…" if len(roles) > N_ROLES else "")

    @property
    def groups(self) -> tuple[int, ...]:
        """Number of the factor that each player belongs to; empty where the players are the factors."""
        return tuple(json.loads(self.attrs.get(names.GROUPS, "[]")))

    @property
    def shared(self) -> dict[str, Any]:
        """What all analyses of the recording share."""
        factors = [factor.name for factor in self.design.factors]
        return {
            "factors": tuple(json.loads(self.attrs[names.FACTORS]) if self.groups else factors),
            "drop": self.attrs.get("nan") == "drop",
            "image": str(self.attrs.get("image", "frozen")),
            "replicate": str(self.attrs.get("replicate", "sample")),
        }


def _recorded_design(recording: xr.DataTree) -> _RecordedDesign:
    if names.RESPONSES not in recording.children:
        raise ReaderError(
            f"no group {names.RESPONSES!r} in this tree (it has: {', '.join(recording.children) or 'none'}); "
            "open stored responses by `open_recording`"
        )
    table, attrs = recording.to_dataset(), recording.attrs
    if names.ROLE not in table.variables or names.SAMPLE not in table.variables:
        raise ReaderError(
            f"the presentation table has no {names.ROLE!r} and {names.SAMPLE!r}: "
            "shares of the variance need a pick-freeze design"
        )
    if names.DESIGN in table.variables and (table[names.DESIGN].values == names.TREATMENT_CONTROL).any():
        raise ReaderError(
            f"the presentations have the design {names.TREATMENT_CONTROL!r}, where alterations are shown alone: take "
            "npr.contrast, or record shares of the variance in a protocol of their own"
        )
    role, sample = table[names.ROLE].values.astype(object), table[names.SAMPLE].values
    n_rows = int((sample == sample[0]).sum())
    n_samples, roles = len(role) // n_rows, tuple(role[:n_rows])
    in_order = len(role) % n_rows == 0 and bool((sample.reshape(n_samples, n_rows) == sample[::n_rows, None]).all())
    candidates = list(_candidates(roles, attrs))
    design = next((one for one in candidates if one.roles == roles), None)
    if design is None or not in_order or not (role.reshape(n_samples, n_rows) == np.array(roles, dtype=object)).all():
        expected = candidates[0].roles if candidates else ("A", "B")
        raise ReaderError(
            f"presentations are not whole base samples in order (roles begin {list(roles[:4])}, expected "
            f"{list(expected[:4])}): leave the presentations as they were recorded; choose units, not presentations"
        )
    block = int(attrs.get("block", max(1, n_samples // 16)))
    if n_samples % block:
        raise ReaderError(f"{n_samples} base samples are not a multiple of the block of {block} samples")
    estimator = str(attrs.get("shapley", "") or ("subsets" if design.subsets else ""))
    return _RecordedDesign(design, estimator, n_samples, block, attrs)


def _candidates(roles: Sequence[str], attrs: Mapping[Any, Any]) -> Iterator[PickFreeze]:
    """Designs that a recording with these rows may have, the more telling ones first."""
    prefix = names.altered_by_b("A", "")
    swapped = [role.removeprefix(prefix) for role in roles if role.startswith(prefix)]
    factors = json.loads(attrs[names.FACTORS]) if names.FACTORS in attrs else swapped
    groups = json.loads(attrs.get(names.GROUPS, "[]"))
    factors = [f"{factors[group]}_{number}" for number, group in enumerate(groups)] or factors
    law = Law("uniform", (0.0, 1.0))
    inputs = tuple(Factor(factor, (Input(factor, law),)) for factor in factors)
    kinds: list[dict[str, Any]] = [{"subsets": True}, {"walks": True}, {"walks": True, "single": False}, {}]
    kinds.append({"single": False})  # A and B alone
    for kind in kinds[len(factors) > MAX_ENUMERATED :] if factors else []:
        for second_order in (True, False):
            yield PickFreeze(
                factors=inputs,
                seed=int(attrs.get("seed", 0)),
                n_images=1,
                second_order=second_order,
                scramble=int(attrs.get("scramble", 0)) or None,
                **kind,
            )


def _by_salib(response: xr.DataArray, analysis: SobolAnalysis, recorded: _RecordedDesign, depth: int) -> xr.Dataset:
    """Label what SALib says of the units of one layer."""
    from neuroprobe.statistics.salib import salib_indices

    design = recorded.design
    rows = response.values.reshape(recorded.n_samples, design.n_rows, -1)[:, design.presentations(0, 1).of_sobol[0]]
    n_bad = int((~np.isfinite(rows).all((0, 1))).sum())
    if n_bad:
        raise ReaderError(f"layer {response.name!r}: {n_bad} units hold NaN or infinity, which SALib cannot take")
    arrays = salib_indices(rows, len(design.factors), second_order=design.second_order, n_resamples=N_RESAMPLES)
    error_attrs = {"se_kind": f"SALib's bootstrap over base samples, {N_RESAMPLES} resamples"}
    attrs = {"samples": recorded.n_samples, "depth": depth}
    return analysis.label_arrays(arrays, *_axes(response), error_attrs, attrs)


def stream(
    response: xr.DataArray,
    analysis: VarianceAnalysis | ContrastAnalysis,
    recorded: Recorded,
    keep: Callable[[int, NDArray[np.floating]], None] | None = None,
) -> PickFreezeSums:
    """Run the responses of one layer through the streaming statistic, some base samples at a time.

    Parameters
    ----------
    response : DataArray
        Presentations first, those of whole base samples one after the other.
    analysis : VarianceAnalysis or ContrastAnalysis
    recorded : Recorded
    keep : callable, optional
        Gets each piece too: its first base sample, and its responses (samples, rows, units).
    """
    import torch

    from neuroprobe.statistics.pick_freeze import FOLD
    from neuroprobe.statistics.tree import MergeTree, Span

    n_rows, block = recorded.design.n_rows, recorded.block
    n_units = int(np.prod(response.shape[1:]))
    dtype = torch.float64 if response.dtype == np.float64 else torch.float32
    accumulator = analysis.accumulator(n_units, block, dtype=dtype)
    tree: MergeTree[PickFreezeSums] = MergeTree()
    fitting = max(1, PIECE_BYTES // (response.dtype.itemsize * n_rows * n_units))
    step = min(FOLD, block, 1 << (fitting.bit_length() - 1))
    for start in range(0, recorded.n_samples, block):
        stop = min(start + block, recorded.n_samples)
        for first in range(start, stop, step):
            n = min(step, stop - first)
            y = response[first * n_rows : (first + n) * n_rows].values.reshape(n, n_rows, -1)
            rows = analysis.rows(recorded.design.presentations(first, first + n))
            index = torch.from_numpy(np.arange(n)[:, None] * n_rows + rows)
            if not accumulator.update(torch.from_numpy(y).flatten(0, 1).to(dtype), index):
                raise ReaderError(f"responses of base samples {first} to {first + n - 1} hold NaN or infinity")
            if keep is not None:
                keep(first, y)
        tree.add(Span(start // block, start // block + 1), accumulator.end_block())
    (_, sums), *others = tree.nodes()
    for _, right in others:
        sums.merge(right)
    return sums
