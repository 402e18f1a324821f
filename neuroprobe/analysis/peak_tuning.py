"""Tuning of units through their peaks: curves for one factor where everything else is as the unit prefers it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.analysis.modulation import other_factors
from neuroprobe.analysis.populations import Piece, Population, populations_of
from neuroprobe.analysis.tuning import CURVE, DESCRIBED, PREFERRED, VECTOR, require_period
from neuroprobe.analysis.unit_results import CONDITION, UnitResults, common_attrs
from neuroprobe.errors import ReaderError
from neuroprobe.statistics.tuning import suppression_index, vector_selectivity

Array = NDArray[np.float64]
BEST: Final = "where the largest response of all is"
SUPPRESSION: Final = "suppression_index"
LENGTH: Final = "vector_length"
PEAK_DESCRIBED: Final = {
    CURVE: ("mean response, the other factors as the unit prefers them", "mean over trials"),
    names.N_TRIALS: DESCRIBED[names.N_TRIALS],
    PREFERRED: ("value of the largest mean response", BEST),
    "peak": ("largest mean response", BEST),
    "blank": ("mean response to blanks", "mean over blanks"),
    SUPPRESSION: (
        "suppression by the largest value, 0 to 1 of responses that are not below 0",
        "(R_opt - R_largest) / R_opt; made larger by noise",
    ),
    LENGTH: ("1 - circular variance", VECTOR),
    "preferred_angle": ("preferred angle, degrees", "angle of the vector sum"),
}


def peak_tuning(
    recording: xr.DataTree,
    factor: str,
    factors: Sequence[str] | str | None = None,
    *,
    period: float | None = None,
    above_blanks: bool = False,
    units: str | None = None,
) -> xr.Dataset:
    """Tuning curves for a factor, each unit's at those values of the other factors where it responds most.

    `neuroprobe.tuning` takes means over whatever else was varied; an experimenter who finds the best orientation first,
    and then varies the size, measures this curve. The stimulus was chosen by the responses that it is described with,
    so that noise makes peaks, and what follows from them, larger.

    Parameters
    ----------
    recording : xarray.DataTree
        As `neuroprobe.read_recording` or `neuroprobe.open_recording` gives it.
    factor : str
        Column of the presentation table with numbers.
    factors : str or sequence of str, optional
        What else was varied: by default the other factors of the recording.
    period : float, optional
        As for `neuroprobe.tuning`; 360 of hues.
    above_blanks : bool
        Whether the mean response to blanks is subtracted.
    units
        As for `neuroprobe.responsiveness`.

    Returns
    -------
    Dataset
        Over (``condition``, ``unit``): ``tuning_curve``, its standard error, ``n_trials``. Over ``unit``: ``preferred``
        value, ``preferred_<factor>`` of the others, ``peak``, ``defined``; of numbers ``suppression_index``, (R_opt -
        R_largest) / R_opt, which of sizes is surround suppression; of angles ``vector_length`` (1 - circular variance)
        and ``preferred_angle``; with standard errors over trials. NaN where a curve does not vary, or its largest value
        is not above 0. With `above_blanks` also ``blank``.

    Raises
    ------
    ReaderError
        If a column does not exist, is text, or no blank was shown where these are asked for.

    Examples
    --------
    >>> size, orientation = (one.ravel() for one in np.meshgrid([1.0, 2, 4, 8], [0.0, 90]))
    >>> response = np.where(orientation == 90, 10.0, 1) * np.tile([0.2, 1, 0.8, 0.4], 2)
    >>> node = xr.Dataset(
    ...     {"response": (("presentation", "unit"), response[:, None])},
    ...     coords={"unit_id": ("unit", ["a"]), "size": ("presentation", size)}
    ...     | {"orientation": ("presentation", orientation)},
    ... )
    >>> found = peak_tuning(xr.DataTree.from_dict({"/responses/v1": node}), "size", "orientation")
    >>> [found[name].item() for name in ("preferred", "preferred_orientation", "suppression_index")]
    [2.0, 90.0, 0.6]
    """
    others = other_factors(recording, factor, factors)
    populations = populations_of(recording, (*others, factor), units)
    if any(isinstance(label[-1], str) for one in populations for label in one.conditions.labels):
        raise ReaderError(f"{factor} is text, and curves through peaks are of numbers: take `neuroprobe.tuning`")
    alone = [one.of_factor(factor) for one in populations]
    around = require_period(alone, period)
    results = UnitResults(alone)
    preferred: list[list[NDArray[Any]]] = [[] for _ in others]
    for one, of_factor in zip(populations, alone, strict=True):
        for piece in one.pieces():
            blank = _blanks(piece) if above_blanks else None
            best = _add(results, piece, of_factor, around, blank)
            for place, values in enumerate(preferred):
                values.append(np.array([one.conditions.labels[at][place] if at >= 0 else np.nan for at in best]))
    attrs = common_attrs(
        "tuning at the preferred stimulus", alone, period=around or None, above_blanks=int(above_blanks)
    )
    found = results.dataset(PEAK_DESCRIBED, attrs, defined=PREFERRED)
    columns = {
        f"preferred_{name}": (
            names.UNIT,
            np.concatenate(values),
            {"long_name": f"{name} of the preferred stimulus", "method": BEST},
        )
        for name, values in zip(others, preferred, strict=True)
    }
    return found.assign(columns)


def _blanks(piece: Piece) -> Array:
    """Mean responses to blanks (units,)."""
    kinds = piece.population.table.get(names.CONTROL_KIND, np.empty(0, dtype=object)).tolist()
    shown = np.array([str(kind) == names.BLANK for kind in kinds], dtype=np.bool_)
    if not shown.any():
        raise ReaderError(
            f"{piece.population.name}: no blank was shown ({names.CONTROL_KIND} = {names.BLANK!r}): show some by "
            "`blanks: 4`, or leave `above_blanks` out"
        )
    return np.asarray(piece.values[shown].mean(0))


def _add(
    results: UnitResults, piece: Piece, of_factor: Population, period: float, blank: Array | None
) -> NDArray[np.int64]:
    """Add the curves of units through their peaks; return the number of each peak's condition, -1 of none."""
    labels, curves = piece.population.conditions.labels, piece.shown_curves
    mean = curves.mean if blank is None else curves.mean - blank
    n_units = mean.shape[1]
    lowest, highest = (
        extreme(mean, axis=0, where=~np.isnan(mean), initial=start)
        for extreme, start in ((np.min, np.inf), (np.max, -np.inf))
    )
    best = np.where(highest > lowest, np.where(np.isnan(mean), -np.inf, mean).argmax(0), -1)
    value = np.array([label[0] for label in of_factor.conditions.labels], dtype=np.float64)
    place = {one: at for at, one in enumerate(value.tolist())}
    curve, se = np.full((2, len(value), n_units), np.nan)
    n = np.zeros(curve.shape, dtype=np.int64)
    groups: dict[tuple[Any, ...], list[int]] = {}
    for number, label in enumerate(labels):
        groups.setdefault(label[:-1], []).append(number)
    for numbers in groups.values():
        units = np.flatnonzero(np.isin(best, numbers))
        rows = np.array([place[float(labels[number][-1])] for number in numbers])
        for whole, part in ((curve, mean), (se, curves.se), (n, np.broadcast_to(curves.n, mean.shape))):
            whole[np.ix_(rows, units)] = part[np.ix_(np.array(numbers), units)]
    results.add(of_factor, (CONDITION,), **{CURVE: curve, names.se(CURVE): se, names.N_TRIALS: n})
    shown = ~np.isnan(curve).all(1)
    arrays = {PREFERRED: np.array([float(labels[at][-1]) if at >= 0 else np.nan for at in best])}
    arrays["peak"] = np.where(best >= 0, highest, np.nan)
    if blank is not None:
        arrays["blank"] = blank
    results.add(of_factor, **arrays, **_measures(curve[shown], value[shown], se[shown], period))
    return np.asarray(best)


def _measures(curve: Array, value: Array, se: Array, period: float) -> dict[str, Array]:
    """What curves (values, units) say of units."""
    names_ = (LENGTH, "preferred_angle") if period else (SUPPRESSION,)
    if not len(curve):
        nothing = np.full(curve.shape[1], np.nan)
        return {name: nothing for one in names_ for name in (one, names.se(one))}
    if not period:
        found = suppression_index(curve, value, se)
        return {SUPPRESSION: found.value, names.se(SUPPRESSION): found.se}
    try:
        vector = vector_selectivity(curve, value, round(360 / period), se)
    except ValueError as error:
        raise ReaderError(f"{error}; or say `period=0`, if it is no angle") from None
    return {
        LENGTH: vector.length,
        names.se(LENGTH): vector.length_se,
        "preferred_angle": vector.angle,
        names.se("preferred_angle"): vector.angle_se,
    }
