"""Distributions over units of a measure of theirs, region by region, with the significant units told apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.errors import ReaderError, unknown_name

GROUP: Final = "group"
ALL: Final = "all units"
UNKNOWN: Final = "unknown"
LEVEL: Final = 0.05
ANGLES: Final = {"preferred_orientation": 180.0, "preferred_direction": 360.0}  # degrees, of which there is no median
N_SIGNIFICANT: Final = "n_significant"
SHARES: Final = ("orientation_length", "direction_length", "osi", "oi", "dsi", "di", "depth_of_selectivity")
SHARES_TOO: Final = (
    "explainable_variance", "split_half_correlation", "reliability", "noise_ceiling", "suppression_index",
)  # fmt: skip
PREFIXES: Final = {"orientation": ("osi", "oi", "orientation_length", "preferred_orientation")} | {
    "direction": ("dsi", "di", "direction_length", "preferred_direction")
}


def unit_distribution(
    found: xr.Dataset,
    variable: str,
    *,
    by: str | None = names.REGION,
    bins: int = 20,
    between: tuple[float, float] | None = None,
    p_value: str | None = None,
    level: float = LEVEL,
) -> xr.Dataset:
    """Count the units of each group whose measure lies in each of several bins.

    Parameters
    ----------
    found : Dataset
        Over ``unit``, as of `neuroprobe.tuning` or `neuroprobe.reliability`.
    variable : str
        A number of each unit.
    by : str, optional
        Coordinate of units that groups them; where there is none, all are one group.
    bins : int
    between : (float, float), optional
        Lower end of the first bin and upper one of the last; values beyond are counted in these. By default those of
        shares, 0 and 1, widened to the values where these lie outside; else those of the values.
    p_value : str, optional
        By which units are significant: by default the corrected one that belongs to the variable.
    level : float
        Below which they are.

    Returns
    -------
    Dataset
        Over (``group``, ``bin``): ``n_units`` and ``n_significant``; over ``group``: ``median`` (not of angles),
        ``n_defined``, ``n_undefined``; ``bin_start`` and ``bin_end``.

    Raises
    ------
    ReaderError
        If there is no such variable, or it is no number of each unit.

    Examples
    --------
    >>> made = xr.Dataset(
    ...     {"osi": ("unit", [0.1, 0.9, np.nan]), "orientation_p_adjusted": ("unit", [0.5, 0.01, np.nan])},
    ... )
    >>> found = unit_distribution(made, "osi", bins=2)
    >>> found["n_units"].values.tolist(), found["n_significant"].values.tolist(), found["n_undefined"].values.tolist()
    ([[1, 1]], [[0, 1]], [1])
    """
    if variable not in found:
        raise ReaderError(unknown_name("measure", variable, number_names(found)))
    if variable not in number_names(found):
        raise ReaderError(f"{variable} is over {', '.join(map(str, found[variable].dims))} or text, not a number")
    values = found[variable].values.astype(np.float64)
    tested = significance_of(found, variable) if p_value is None else p_value
    if tested is not None and tested not in found:
        raise ReaderError(unknown_name("p-value", tested, number_names(found)))
    passed = np.zeros(len(values), dtype=np.bool_) if tested is None else found[tested].values < level
    groups, index = groups_of(found, by)
    edges = np.linspace(*(_ends(variable, values) if between is None else between), bins + 1)
    inside = np.clip(values, edges[0], edges[-1])
    n, n_passed = np.zeros((2, len(groups), bins), dtype=np.int64)
    medians = np.full(len(groups), np.nan)
    known = np.isfinite(values)
    for number in range(len(groups)):
        own = known & (index == number)
        n[number] = np.histogram(inside[own], edges)[0]
        n_passed[number] = np.histogram(inside[own & passed], edges)[0]
        if own.any() and variable not in ANGLES:
            medians[number] = np.median(values[own])
    n_defined = n.sum(1)
    data: dict[str, Any] = {
        names.N_UNITS: ((GROUP, names.BIN), n),
        N_SIGNIFICANT: ((GROUP, names.BIN), n_passed),
        "median": (GROUP, medians),
        names.N_DEFINED: (GROUP, n_defined),
        names.N_UNDEFINED: (GROUP, np.bincount(index, minlength=len(groups)) - n_defined),
    }
    coords = {
        GROUP: np.array(groups, dtype=object),
        names.BIN_START: (names.BIN, edges[:-1]),
        names.BIN_END: (names.BIN, edges[1:]),
    }
    told = {"long_name": str(found[variable].attrs.get("long_name", variable)), "level": level}
    return xr.Dataset(data, coords=coords, attrs={**told, "p_value": tested or ""})


def number_names(found: xr.Dataset) -> list[str]:
    """Variables that are one number of each unit."""
    return [str(name) for name, one in found.data_vars.items() if one.dims == (names.UNIT,) and one.dtype.kind in "iuf"]


def significance_of(found: xr.Dataset, variable: str) -> str | None:
    """Name of the corrected p-value that says whether units are selective as the variable measures it; or none."""
    axis = next((axis for axis, of in PREFIXES.items() if variable in of), None)
    name = names.P_ADJUSTED if axis is None else f"{axis}_{names.P_ADJUSTED}"
    return name if name in found and not bool(found[name].isnull().all()) else None


def groups_of(found: xr.Dataset, by: str | None) -> tuple[list[str], NDArray[np.int64]]:
    """Groups of units, and each unit's; one where there is no such coordinate."""
    n_units = found.sizes[names.UNIT]
    if by is None or by not in found.coords:
        return [ALL], np.zeros(n_units, dtype=np.int64)
    labels = [str(value) or UNKNOWN for value in found[by].values.tolist()]
    groups = sorted(set(labels))
    place = {group: number for number, group in enumerate(groups)}
    return groups, np.array([place[label] for label in labels], dtype=np.int64)


def _ends(variable: str, values: NDArray[np.float64]) -> tuple[float, float]:
    """Lower and upper end of what is shown; of values that have none, or are all the same, an interval around them."""
    if variable in ANGLES:
        return 0.0, ANGLES[variable]
    known = values[np.isfinite(values)]
    is_share = variable in SHARES or variable in SHARES_TOO or variable.endswith(("_r_squared", "_length"))
    low, high = (0.0, 1.0) if is_share else (np.inf, -np.inf)
    low, high = float(np.min(known, initial=low)), float(np.max(known, initial=high))
    if not np.isfinite(low):
        return 0.0, 1.0
    # a fit may be far worse than the mean: values below -1 are in the first bin
    low = max(low, -1.0) if is_share else low
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def best_units(found: xr.Dataset, n: int, by: Sequence[str] = ("p_value",)) -> NDArray[np.int64]:
    """Places of the units whose tuning is least in doubt: smallest p-value, or else the largest share of variance.

    Units whose curve does not vary come last; of equal ones the first.
    """
    keys: list[NDArray[np.float64]] = []
    for name in by:
        if name in found and not bool(found[name].isnull().all()):
            values = found[name].values.astype(np.float64)
            keys.append(np.where(np.isnan(values), np.inf, values))
    share = next((name for name in found.data_vars if str(name).endswith("r_squared")), "omega_squared")
    if share in found:
        keys.append(-np.nan_to_num(found[share].values.astype(np.float64), nan=-np.inf))
    keys.insert(0, (found[names.DEFINED].values == 0).astype(np.float64))
    return np.lexsort(keys[::-1])[:n].astype(np.int64)
