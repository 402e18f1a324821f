"""How responses follow the phase of a grating: simple and complex cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.analysis.populations import Piece, Population, populations_of
from neuroprobe.analysis.unit_results import UnitResults, common_attrs, plain
from neuroprobe.errors import ReaderError
from neuroprobe.statistics.tuning import Estimate, phase_modulation

Array = NDArray[np.float64]
RATIO: Final = "first harmonic over phases, over the mean (Skottun et al. 1991); made larger by noise"
BEST: Final = "where the largest response over phases is"
DESCRIBED: Final = {
    "f1_over_f0": ("modulation ratio, above 1 of simple cells", RATIO),
    "f0": ("mean response over phases", BEST),
}


def modulation(
    recording: xr.DataTree,
    phase: str = "phase",
    factors: Sequence[str] | str | None = None,
    *,
    units: str | None = None,
) -> xr.Dataset:
    """Modulation ratio F1 / F0 of each unit over the phases of static gratings, at the grating that it prefers.

    Parameters
    ----------
    recording : xarray.DataTree
        As `neuroprobe.read_recording` or `neuroprobe.open_recording` gives it.
    phase : str
        Column of the presentation table, in degrees.
    factors : str or sequence of str, optional
        What else was varied, such as orientation: by default the other factors of the recording.
    units
        As for `neuroprobe.responsiveness`.

    Returns
    -------
    Dataset
        Over ``unit``: ``f1_over_f0`` with its standard error over trials (NaN without repetitions), ``f0``, the
        preferred value of each other factor, ``preferred_<factor>``; ``defined``. NaN where the mean over phases is not
        above 0.

    Raises
    ------
    ReaderError
        If a column does not exist, or no grating was shown in 3 or more equally spaced phases.

    Examples
    --------
    >>> phase = np.arange(0, 360, 45.0)
    >>> node = xr.Dataset(
    ...     {"response": (("presentation", "unit"), np.maximum(np.cos(np.deg2rad(phase)), 0)[:, None])},
    ...     coords={"unit_id": ("unit", ["simple"]), "phase": ("presentation", phase)},
    ... )
    >>> modulation(xr.DataTree.from_dict({"/responses/v1": node}))["f1_over_f0"].round(3).item()
    1.657
    """
    others = other_factors(recording, phase, factors)
    populations = populations_of(recording, (*others, phase), units)
    results = UnitResults(populations)
    preferred: list[list[Any]] = [[] for _ in others]
    for one in populations:
        places = _phases(one, phase)
        for piece in one.pieces():
            for place, values in enumerate(_add(results, piece, places)):
                preferred[place].append(values)
    found = results.dataset(DESCRIBED, common_attrs("modulation by phase", populations), defined="f1_over_f0")
    columns = {
        f"preferred_{name}": (
            names.UNIT,
            np.concatenate(values),
            {"long_name": f"{name} of the preferred grating", "method": BEST},
        )
        for name, values in zip(others, preferred, strict=True)
    }
    return found.assign(columns)


def other_factors(recording: xr.DataTree, factor: str, factors: Sequence[str] | str | None) -> tuple[str, ...]:
    """Name what else was varied: as it is given, or else the other factors of a recording."""
    if isinstance(factors, str):
        return (factors,)
    if factors is not None:
        return tuple(factors)
    try:
        named = populations_of(recording)[0].factors
    except ReaderError:  # no factor is named
        return ()
    return tuple(name for name in named if name not in (factor, names.STIMULUS_ID, names.IMAGE_ID))


def _phases(one: Population, phase: str) -> dict[tuple[Any, ...], list[int]]:
    """Numbers of the conditions of each grating, which differ in phase."""
    found: dict[tuple[Any, ...], list[int]] = {}
    for number, label in enumerate(one.conditions.labels):
        found.setdefault(label[:-1], []).append(number)
    return {grating: numbers for grating, numbers in found.items() if len(numbers) > 2} or _refuse(one, phase)


def _refuse(one: Population, phase: str) -> Any:
    raise ReaderError(
        f"{one.name}: no grating was shown in 3 or more values of {phase!r}; say by `factors` what else was varied, "
        "and leave out what follows from the phase"
    )


def _add(results: UnitResults, piece: Piece, gratings: dict[tuple[Any, ...], list[int]]) -> list[NDArray[Any]]:
    """Add the ratio of each unit at the grating it prefers, and return the values of the other factors there."""
    one, curves = piece.population, piece.shown_curves
    n_units = curves.mean.shape[1]
    peaks = np.array([curves.mean[numbers].max(0) for numbers in gratings.values()])
    best = np.where(np.isnan(peaks), -np.inf, peaks).argmax(0)
    found = {name: np.full(n_units, np.nan) for name in ("f1_over_f0", names.se("f1_over_f0"), "f0")}
    for place, listed in enumerate(gratings.values()):
        units, numbers = np.flatnonzero(best == place), np.array(listed)
        mean, se = curves.mean[np.ix_(numbers, units)], curves.se[np.ix_(numbers, units)]
        ratio = _ratio(one, mean, np.array([one.conditions.labels[n][-1] for n in numbers], dtype=np.float64), se)
        found["f1_over_f0"][units], found[names.se("f1_over_f0")][units] = ratio.value, ratio.se
        found["f0"][units] = mean.mean(0)
    results.add(one, **found)
    labels, known = list(gratings), ~np.isnan(found["f1_over_f0"])
    return [
        plain(
            [labels[at][factor] if there else _nothing(labels, factor) for at, there in zip(best, known, strict=True)]
        )
        for factor in range(len(one.factors) - 1)
    ]


def _nothing(labels: list[tuple[Any, ...]], factor: int) -> Any:
    """What a unit prefers that does not respond."""
    return "" if isinstance(labels[0][factor], str) else np.nan


def _ratio(one: Population, mean: Array, phase: Array, se: Array) -> Estimate:
    try:
        return phase_modulation(mean, phase, se)
    except ValueError as error:
        raise ReaderError(f"{one.name}, {one.factors[-1]}: {error}") from None
