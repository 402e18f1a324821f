"""Tuning curves of units, with errors over trials; how selective they are; and functions that are fitted to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.analysis.populations import Piece, Population, populations_of
from neuroprobe.analysis.tuning_functions import MODELS_OF, Batch, fitted
from neuroprobe.analysis.unit_results import CONDITION, UnitResults, common_attrs, plain, require_correction
from neuroprobe.errors import ReaderError, unknown_name
from neuroprobe.statistics.class_selectivity import depth_of_selectivity
from neuroprobe.statistics.conditions import repetitions
from neuroprobe.statistics.trials import one_way_of
from neuroprobe.statistics.tuning import (
    angle_permutation_test,
    direction_selectivity,
    hotelling,
    orientation_selectivity,
    vector_selectivity,
    vector_sums,
)

Array = NDArray[np.float64]
CURVE: Final = "tuning_curve"
PREFERRED: Final = "preferred"
CIRCLE, HALF_CIRCLE = 360.0, 180.0
UNITS_AT_A_TIME: Final = 2048  # that are fitted together
VECTOR: Final = "|Σ r e^{imθ}| / Σ r (Ringach, Shapley & Hawken 2002); means below 0 count as 0"
RATIO: Final = "(R - R′) / (R + R′); means below 0 count as 0"
HOTELLING: Final = "Hotelling's T² of the vector sums of repetitions"
PERMUTED: Final = "length of the vector sum against that of permuted trials"
DESCRIBED: Final = {
    CURVE: ("mean response", "mean over trials"),
    names.N_TRIALS: ("number of trials", "count"),
    PREFERRED: ("condition of the largest mean response", "largest mean; of equal ones the first"),
    "p_value": ("p-value of a difference between conditions", "one-way analysis of variance"),
    "omega_squared": ("share of the variance, without bias", "one-way analysis of variance, ω²"),
    "depth_of_selectivity": ("how few conditions drive the unit", "(K - Σ r / r_max) / (K - 1) (Moody et al. 1998)"),
    "rectified": ("1 where a mean below 0 counts as 0", "any mean below 0"),
    "osi": ("orientation selectivity index", f"{RATIO}; R′ at the orthogonal orientation; biased upward by noise"),
    "oi": ("orientation index", "1 - R′ / R at the orthogonal orientation; biased upward by noise"),
    "dsi": ("direction selectivity index", f"{RATIO}; R′ at the opposite direction; biased upward by noise"),
    "di": ("direction index", "1 - R′ / R at the opposite direction; biased upward by noise"),
    "orientation_length": ("1 - circular variance of orientation", VECTOR),
    "direction_length": ("1 - circular variance of direction", VECTOR),
    "preferred_orientation": ("preferred orientation, degrees", "angle of the vector sum"),
    "preferred_direction": ("preferred direction, degrees", "angle of the vector sum"),
    "orientation_p_value": ("p-value of orientation tuning", HOTELLING),
    "direction_p_value": ("p-value of direction tuning", HOTELLING),
    "orientation_permutation_p_value": ("p-value of orientation tuning by permutation", PERMUTED),
    "direction_permutation_p_value": ("p-value of direction tuning by permutation", PERMUTED),
}


def tuning(
    recording: xr.DataTree,
    factor: str | None = None,
    *,
    period: float | None = None,
    model: str | Sequence[str] | None = None,
    units: str | None = None,
    correction: str = "fdr_bh",
    n_draws: int = 200,
    level: float = 0.95,
    n_permutations: int = 0,
    seed: int = 0,
) -> xr.Dataset:
    """Tuning curves for a factor, and what follows from them.

    Parameters
    ----------
    recording : xarray.DataTree
        As `neuroprobe.read_recording` or `neuroprobe.open_recording` gives it. Means over trials, and networks without
        noise, have curves too, but neither errors nor tests.
    factor : str, optional
        Column of the presentation table: by default the one that the recording names.
    period : float, optional
        360 where it is a direction, 180 where it is an orientation (degrees), 0 where it is no angle. By default told
        by the factor's name: ``direction``, or ``orientation`` (of which 180 and more are directions).
    model : str or sequence of str, optional
        Functions that are fitted: ``von_mises``, ``double_gaussian``, ``log_gaussian``, ``naka_rushton``,
        ``super_saturating``, ``difference_of_gaussians``, ``ratio_of_gaussians``, ``gabor``.
    units, correction, seed
        As for `neuroprobe.responsiveness`.
    n_draws : int
        Of the bootstrap over trials, for the intervals of fitted parameters; 0 for none.
    level : float
        Of the intervals.
    n_permutations : int
        Of a test of angles by permutation, beside Hotelling's; 0 for none.

    Returns
    -------
    Dataset
        Over (``condition``, ``unit``): ``tuning_curve``, its standard error, ``n_trials``. Over ``unit``:
        ``preferred``, ``p_value``, ``p_adjusted``, ``omega_squared``, ``depth_of_selectivity``, ``defined``. Of angles
        also ``osi``, ``oi``, ``orientation_length`` (1 - circular variance), ``preferred_orientation`` with errors,
        ``orientation_p_value``; of directions likewise ``dsi``, ``di``, ``direction_length``, …. Of each function
        ``<model>_<parameter>`` with ``_se``, ``_lower``, ``_upper`` and ``_at_bound``, ``<model>_curve``,
        ``<model>_r_squared``, ``<model>_aic_difference``, ``<model>_converged``, ``<model>_defined``,
        ``<model>_share_failed``. All is NaN where it is not defined: a failed fit is no number.

    Raises
    ------
    ReaderError
        If the factor is no column, its angles are not equally spaced, or a function does not go with its values.

    Examples
    --------
    >>> import neuroprobe as npr
    >>> angle = np.tile(np.arange(0, 360, 45.0), 2)
    >>> response = np.tile([10.0, 4, 2, 3, 6, 3, 2, 4], 2)[:, None] + np.repeat([[-1.0], [1]], 8, axis=0)
    >>> node = xr.Dataset(
    ...     {"response": (("presentation", "unit"), response)},
    ...     coords={"unit_id": ("unit", ["a"]), "direction": ("presentation", angle)},
    ... )
    >>> found = npr.tuning(xr.DataTree.from_dict({"/responses/v1": node}), "direction")
    >>> [round(found[name].item(), 6) for name in ("orientation_length", "direction_length", "osi", "dsi")]
    [0.352941, 0.159242, 0.6, 0.25]
    """
    require_correction(correction)
    populations = populations_of(recording, factor, units)
    if len(populations[0].factors) != 1:
        raise ReaderError(
            f"tuning curves are of one factor, and the recording names {', '.join(populations[0].factors)}: say which "
            "by `factor`, or take `neuroprobe.analysis.anova` for several"
        )
    models = models_of(populations, model)
    results = UnitResults(populations)
    around = require_period(populations, period)
    batch = Batch(results, models, n_draws, level, seed)
    described: dict[str, tuple[str, str]] = dict(DESCRIBED)
    preferred: list[NDArray[Any]] = []
    for one in populations:
        for piece in one.pieces(most=UNITS_AT_A_TIME if models else None):
            preferred.append(_add_curves(results, piece))
            if around:
                _add_angles(results, piece, around, n_permutations, seed)
            batch.add(piece)
    described |= fitted(batch)
    used = {"n_draws": n_draws, "level": level, "seed": seed} if models else {}
    found = results.dataset(
        described,
        common_attrs("tuning", populations, period=around or None, n_permutations=n_permutations or None, **used),
        defined=CURVE,
        correction=correction,
    )
    long_name, method = DESCRIBED[PREFERRED]
    told = {"long_name": "1 where the tuning curve varies", "method": "largest mean above the smallest"}
    return found.assign(
        {
            PREFERRED: (names.UNIT, plain([*np.concatenate(preferred)]), {"long_name": long_name, "method": method}),
            names.DEFINED: (names.UNIT, (~_is_flat(found[CURVE].values)).astype(np.int8), told),
        }
    )


def models_of(populations: Sequence[Population], model: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the functions that are asked for, which go with the values of the one factor.

    Raises
    ------
    ReaderError
    """
    models = (model,) if isinstance(model, str) else tuple(model or ())
    for name in models:
        if name not in MODELS_OF:
            raise ReaderError(unknown_name("function", name, MODELS_OF))
    if models and any(isinstance(label[0], str) for one in populations for label in one.conditions.labels):
        raise ReaderError(
            f"{populations[0].factors[0]} is text, and functions are fitted to numbers: leave `model` out"
        )
    return models


def require_period(populations: Sequence[Population], given: float | None) -> float:
    """Return the degrees after which the one factor is the same again; 0 where it is no angle.

    Raises
    ------
    ReaderError
    """
    if given is not None:
        if given not in (0, HALF_CIRCLE, CIRCLE):
            raise ReaderError(f"period is 360 (directions), 180 (orientations) or 0 (no angle), received {given:g}")
        return float(given)
    (factor,) = populations[0].factors
    values = [label[0] for one in populations for label in one.conditions.labels]
    if factor not in ("direction", "orientation") or any(isinstance(value, str) for value in values):
        return 0.0
    return CIRCLE if factor == "direction" or max(values, default=0) >= HALF_CIRCLE else HALF_CIRCLE


def _add_curves(results: UnitResults, piece: Piece) -> NDArray[Any]:
    """Add curves, and return the condition that each unit prefers."""
    one = piece.population
    curves = piece.shown_curves
    results.add(one, (CONDITION,), **{CURVE: curves.mean, names.se(CURVE): curves.se, names.N_TRIALS: curves.n})
    test = one_way_of(piece.curves)
    tested = piece.is_noisy and not one.is_means
    nothing = np.full(curves.mean.shape[1], np.nan)
    shown = ~np.isnan(curves.mean).all(1) if curves.mean.size else np.zeros(len(curves.mean), dtype=np.bool_)
    depth = depth_of_selectivity(curves.mean[shown]) if shown.any() else nothing
    results.add(
        one,
        p_value=test.p_value if tested else nothing,
        omega_squared=test.omega_squared if tested else nothing,
        depth_of_selectivity=depth,
        rectified=np.asarray((curves.mean < 0).any(0), dtype=np.int8),
    )
    return _preferred(piece)


def _preferred(piece: Piece) -> NDArray[Any]:
    """Condition of the largest mean of each unit; NaN, or empty text, of units whose curve is flat."""
    labels = [label[0] for label in piece.population.conditions.labels]
    nowhere: Any = "" if labels and isinstance(labels[0], str) else np.nan
    mean = piece.shown_curves.mean
    if not labels:
        return np.full(mean.shape[1], nowhere, dtype=object)
    tops, is_flat = np.where(np.isnan(mean), -np.inf, mean).argmax(0), _is_flat(mean)
    return np.array([nowhere if flat else labels[at] for at, flat in zip(tops, is_flat, strict=True)], dtype=object)


def _is_flat(mean: Array) -> NDArray[np.bool_]:
    """Whether a curve (conditions, units) does not vary, or is not known."""
    least = np.min(mean, axis=0, where=~np.isnan(mean), initial=np.inf)
    return np.asarray(~(np.max(mean, axis=0, where=~np.isnan(mean), initial=-np.inf) > least))


def _add_angles(results: UnitResults, piece: Piece, period: float, n_permutations: int, seed: int) -> None:
    one = piece.population
    angle = np.array([label[0] for label in one.conditions.labels], dtype=np.float64)
    curves = piece.shown_curves
    harmonics = {"orientation": 2, "direction": 1} if period == CIRCLE else {"orientation": 2}
    try:
        axes = {"orientation": ("osi", "oi", orientation_selectivity(curves.mean, angle, period, curves.se))}
        if period == CIRCLE:
            axes["direction"] = ("dsi", "di", direction_selectivity(curves.mean, angle, curves.se))
        vectors = {name: vector_selectivity(curves.mean, angle, m, curves.se) for name, m in harmonics.items()}
    except ValueError as error:
        raise ReaderError(f"{one.name}, {one.factors[0]}: {error}; or say `period=0`, if it is no angle") from None
    arrays: dict[str, Array] = {}
    for name, harmonic in harmonics.items():
        index, relative, axis = axes[name]
        vector = vectors[name]
        arrays |= {index: axis.index, names.se(index): axis.index_se}
        arrays |= {relative: axis.relative, names.se(relative): axis.relative_se}
        length, preferred = f"{name}_length", f"preferred_{name}"
        arrays |= {length: vector.length, names.se(length): vector.length_se}
        arrays |= {preferred: vector.angle, names.se(preferred): vector.angle_se}
        p = permuted = np.full(vector.length.shape, np.nan)
        if one.repeats and piece.is_noisy:
            p = hotelling(vector_sums(repetitions(*piece.arguments), angle, harmonic))[1]
            if n_permutations:
                random = one.random(seed, f"tuning for {name}")
                values, condition, _ = piece.arguments
                permuted = angle_permutation_test(values, condition, angle, harmonic, n_permutations, random)
        arrays[f"{name}_p_value"] = np.where(np.isnan(vector.length), np.nan, p)
        if n_permutations:
            arrays[f"{name}_permutation_p_value"] = permuted
    results.add(one, **arrays)
