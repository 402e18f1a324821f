"""Sobol indices and Shapley effects of animals that were shown a complete design: of what repeats, and of all.

Noise of trials adds to the variance of responses, and so to total indices and Shapley effects. Where each row was
shown twice or more, products over different repetitions are free of it (`neuroprobe.statistics.cross_repeat`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.analysis.populations import Population, populations_of, require_trials
from neuroprobe.analysis.sensitivity import ShapleyAnalysis, SobolAnalysis, VarianceAnalysis
from neuroprobe.analysis.shown_designs import ShownDesign, shown_design
from neuroprobe.errors import ReaderError
from neuroprobe.statistics.conditions import Estimate
from neuroprobe.statistics.cross_repeat import (
    ExplainableIndices,
    ExplainableShapley,
    explainable_indices,
    whole_indices,
    whole_shapley,
)
from neuroprobe.statistics.cross_repeat import explainable_shapley as explainable_shapley_of

Array = NDArray[np.float64]
Arrays = dict[str, Array]
WHOLE: Final = "whole_"
NOISE_VARIANCE: Final = "noise_variance"
EXPLAINABLE_VARIANCE: Final = "explainable_variance"
OF_EXPLAINABLE: Final = "explainable variance: products of different repetitions, which are free of the noise of trials"
OF_WHOLE: Final = (
    "whole variance of single trials, as rows were shown once: noise is in it, and in total indices and Shapley "
    "effects; first and second order alone are free of it"
)
SCOPE: Final = "base samples and trials like these"
DESCRIBED: Final = {
    f"{WHOLE}{names.FIRST_ORDER}": "share of the variance of single trials that the factor explains alone",
    f"{WHOLE}{names.TOTAL_ORDER}": "share of the variance of single trials with all interactions, and noise",
    f"{WHOLE}{names.SHAPLEY_EFFECT}": "Shapley effect on the variance of single trials, noise shared alike",
    NOISE_VARIANCE: "variance of responses to one row over its repetitions",
    EXPLAINABLE_VARIANCE: "share of the variance of single trials that is no noise",
}


def explainable_sobol(
    recording: xr.DataTree, *, units: str | None = None, total_interaction: bool = False
) -> xr.DataTree:
    """Sobol indices of a recording in which the rows of a pick-freeze design were presented, in any order.

    Parameters
    ----------
    recording : xarray.DataTree
        Presentations with ``role`` (``A``, ``B``, ``A_<factor>``, ``B_<factor>``) and ``sample``, each row once or,
        better, repeatedly. Trials without a role are left out.
    units : str, optional
        Which units, in the language of `neuroprobe.select_units`.
    total_interaction : bool
        Whether total interactions are wanted too.

    Returns
    -------
    xarray.DataTree
        One node per population, over ``unit``: ``first_order(factor, unit)``, ``total_order``,
        ``second_order(factor, factor_2, unit)`` with standard errors, ``variance``, ``mean``, ``activity_rate``,
        ``defined``. Of rows that were shown repeatedly they are shares of the *explainable* variance, as the attribute
        ``variance_of`` says; beside them are ``whole_first_order`` and ``whole_total_order``, shares of the variance of
        single trials, ``noise_variance`` and ``explainable_variance``. Of rows that were shown once they are shares of
        the whole variance.

    Raises
    ------
    ReaderError
        If the table tells no such rows, too few base samples are whole, or responses are means over trials.
    """
    factors = _told_factors(recording)
    nodes = {}
    for depth, one in enumerate(_populations(recording, units)):
        design = _require(one, factors, "sobol")
        shared = _shared(recording, design)
        analysis = SobolAnalysis(factors=design.factors, total_interaction=total_interaction, **shared)
        block = _blocks(recording, design)

        def arrays(values: Array, d: ShownDesign = design, b: Any = block) -> Arrays:
            return _sobol_arrays(d, values, b, total_interaction)

        nodes[one.name] = _labelled(one, design, analysis, arrays, depth, block)
    return xr.DataTree.from_dict(nodes, name=SobolAnalysis.name)


def explainable_shapley(recording: xr.DataTree, *, units: str | None = None) -> xr.DataTree:
    """Shapley effects of a recording in which the rows of a pick-freeze design were presented, in any order.

    Parameters
    ----------
    recording : xarray.DataTree
        As for `explainable_sobol`, with all mixtures of the factors (up to four of them), or the rows of walks.
    units : str, optional

    Returns
    -------
    xarray.DataTree
        As of `explainable_sobol`, with ``shapley_effect(factor, unit)`` and ``whole_shapley_effect``.

    Raises
    ------
    ReaderError
        As `explainable_sobol`, or if columns do not tell the order of walks.
    """
    factors = _told_factors(recording)
    nodes = {}
    for depth, one in enumerate(_populations(recording, units)):
        design = _require(one, factors, "shapley")
        estimator = "subsets" if design.has_subsets else "walks"
        analysis = ShapleyAnalysis(factors=design.factors, estimator=estimator, **_shared(recording, design))
        block = _blocks(recording, design)

        def arrays(values: Array, d: ShownDesign = design, b: Any = block) -> Arrays:
            return _shapley_arrays(d, values, b)

        nodes[one.name] = _labelled(one, design, analysis, arrays, depth, block)
    return xr.DataTree.from_dict(nodes, name=ShapleyAnalysis.name)


def require_shown(recording: xr.DataTree, analysis: str) -> None:
    """Refuse recordings without the rows that Sobol indices (``sobol``) or Shapley effects (``shapley``) need.

    Raises
    ------
    ReaderError
    """
    for one in _populations(recording, None):
        _require(one, _told_factors(recording), analysis)


def _populations(recording: xr.DataTree, units: str | None) -> list[Population]:
    found = populations_of(recording, (), units)
    require_trials(found, "indices of a design")
    return found


def _told_factors(recording: xr.DataTree) -> list[str]:
    return [str(name) for name in json.loads(recording.attrs.get(names.FACTORS, "[]"))]


def _require(one: Population, factors: list[str], analysis: str) -> ShownDesign:
    design = shown_design(one, factors)
    if analysis == "sobol" and not design.has_single:
        raise ReaderError(
            f"{one.name}: Sobol indices need rows with each factor alone from B, and with each alone from A"
        )
    if analysis == "shapley" and not design.has_subsets and design.walk is None:
        raise ReaderError(f"{one.name}: Shapley effects need all mixtures of up to four factors, or the rows of walks")
    return design


def _shared(recording: xr.DataTree, design: ShownDesign) -> dict[str, Any]:
    return {"image": str(recording.attrs.get("image", "frozen"))}


def _blocks(recording: xr.DataTree, design: ShownDesign) -> NDArray[np.int64] | None:
    """Base samples that share a scramble, where that is told; else each is on its own, for an upper bound."""
    scramble = int(recording.attrs.get("scramble", 0))
    found = design.sample // scramble if scramble else None
    return found if found is not None and len(np.unique(found)) > 1 else None


def _nothing(like: Estimate) -> Estimate:
    return Estimate(np.full_like(like.value, np.nan), np.full_like(like.se, np.nan))


def _sobol_arrays(
    design: ShownDesign, values: Array, block: NDArray[np.int64] | None, total_interaction: bool
) -> Arrays:
    rows = design.of_sobol(values)
    whole = whole_indices(*rows, block)
    found = explainable_indices(*rows, block) if design.n_repetitions > 1 else whole
    first, of_whole, second = found.first_order, whole.first_order, found.second_order
    # products that hold the noise of the presentation that both rows are
    if len(design.factors) == 1:
        of_whole = _nothing(of_whole)
        first = of_whole if found is whole else first
    if found is whole and design.shares_rows:
        second = _nothing(second)
    arrays = {
        **_told(names.FIRST_ORDER, first),
        **_told(names.TOTAL_ORDER, found.total_order),
        **_told(names.SECOND_ORDER, second),
        **(_told(names.TOTAL_INTERACTION, found.total_interaction) if total_interaction else {}),
    }
    if found is not whole:
        arrays |= _told(f"{WHOLE}{names.FIRST_ORDER}", of_whole)
        arrays |= _told(f"{WHOLE}{names.TOTAL_ORDER}", whole.total_order)
    return arrays | _variances(found)


def _shapley_arrays(design: ShownDesign, values: Array, block: NDArray[np.int64] | None) -> Arrays:
    walks, order, sample = design.of_walks(values)
    own = sample if block is None else block[sample]
    whole = whole_shapley(walks, order, own)
    found = explainable_shapley_of(walks, order, own) if design.n_repetitions > 1 else whole
    arrays = _told(names.SHAPLEY_EFFECT, found.shapley_effect)
    if found is not whole:
        arrays |= _told(f"{WHOLE}{names.SHAPLEY_EFFECT}", whole.shapley_effect)
    return arrays | _variances(found)


def _told(name: str, estimate: Estimate) -> Arrays:
    return {name: estimate.value, names.se(name): estimate.se}


def _variances(found: ExplainableIndices | ExplainableShapley) -> Arrays:
    return {names.VARIANCE: found.variance, NOISE_VARIANCE: found.noise, EXPLAINABLE_VARIANCE: found.explainable}


def _labelled(
    one: Population,
    design: ShownDesign,
    analysis: VarianceAnalysis,
    arrays_of: Callable[[Array], Arrays],
    depth: int,
    block: NDArray[np.int64] | None,
) -> xr.Dataset:
    """Put labels on the indices of a population, some units at a time."""
    parts: list[Arrays] = []
    shown = np.unique(design.trial)
    for piece in one.pieces():
        values = piece.values
        # of a unit that lacks one of the trials nothing is known
        values = np.where(np.isnan(values[shown]).any(0), np.nan, values)
        found = arrays_of(values)
        defined = (found[names.VARIANCE] > 0) & ~piece.is_constant
        found |= {names.MEAN: values[shown].mean(0), names.ACTIVITY_RATE: _rate(values[shown])}
        parts.append({**_blanked(found, defined), names.DEFINED: defined.astype(np.int8)})
    arrays = {name: np.concatenate([part[name] for part in parts], axis=-1) for name in parts[0]}
    repeated = design.n_repetitions > 1
    own = {name: arrays.pop(name) for name in list(arrays) if name.removesuffix("_se") in DESCRIBED}
    coords = {str(name): coord.variable for name, coord in one.dataset.coords.items() if coord.dims == (names.UNIT,)}
    coords.pop(names.UNIT, None)
    n_blocks = len(design.sample) if block is None else len(np.unique(block))
    errors = {
        "se_scope": SCOPE,
        "se_kind": "upper bound" if block is None else "delta method over independent scrambles",
        "df": n_blocks - 1,
    }
    attrs = {
        "samples": len(design.sample),
        "blocks": n_blocks,
        "depth": depth,
        "repetitions": design.n_repetitions,
        "samples_left_out": design.n_left_out,
        "variance_of": OF_EXPLAINABLE if repeated else OF_WHOLE,
    }
    dataset = analysis.label_arrays(arrays, [names.UNIT], (one.n_units,), coords, errors, attrs)
    return dataset.assign(_described(own, errors, repeated))


def _rate(values: Array) -> Array:
    return np.where(np.isnan(values).any(0), np.nan, (values > 0).mean(0))


def _blanked(arrays: Mapping[str, Array], defined: NDArray[np.bool_]) -> Arrays:
    """Shares of a variance that there is not are NaN."""
    kept = (names.MEAN, names.ACTIVITY_RATE, names.VARIANCE, NOISE_VARIANCE, EXPLAINABLE_VARIANCE)
    return {name: array if name in kept else np.where(defined, array, np.nan) for name, array in arrays.items()}


def _described(own: Mapping[str, Array], errors: Mapping[str, Any], repeated: bool) -> dict[str, Any]:
    found = {}
    for name, array in own.items():
        if not repeated:
            continue
        base = name.removesuffix("_se")
        is_error = base != name
        told = {"long_name": f"standard error of: {DESCRIBED[base]}" if is_error else DESCRIBED[base]}
        told |= {"units": "response units²" if name == NOISE_VARIANCE else "1"}
        dims = (names.FACTOR, names.UNIT) if array.ndim > 1 else (names.UNIT,)
        found[name] = (dims, array, told | (dict(errors) if is_error else {}))
    return found
