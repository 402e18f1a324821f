"""Receptive fields of units by reverse correlation of their responses with noise stimuli."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.analysis.populations import Piece, populations_of, require_trials
from neuroprobe.analysis.unit_results import UnitResults, common_attrs, require_correction
from neuroprobe.errors import ReaderError
from neuroprobe.statistics.reverse_correlation import ReverseCorrelation, fit_gabors, whitened

Array = NDArray[np.float64]
MAP: Final = "receptive_map"
ROWS, COLUMNS = "pixel_y", "pixel_x"
PRESENTATIONS_AT_A_TIME: Final = 1024
SLOPE: Final = "covariance of response and pixel over the variance of the pixel (Chichilnisky 2001)"
GABOR: Final = "least squares (Jones & Palmer 1987); errors by the curvature of the sum of squares"
DESCRIBED: Final = {
    MAP: ("change of the response per change of a pixel", SLOPE),
    "p_value": ("p-value of the furthest pixel from 0", "Student's t, Šidák's correction for pixels"),
    "field_x": ("centre of the field, pixels right of the centre of the image", GABOR),
    "field_y": ("centre of the field, pixels above the centre of the image", GABOR),
    "field_sd_along": ("standard deviation of the envelope across the bars, pixels", GABOR),
    "field_sd_across": ("standard deviation of the envelope along the bars, pixels", GABOR),
    "field_orientation": ("orientation of the bars, degrees from horizontal, counter-clockwise", GABOR),
    "field_frequency": ("spatial frequency, cycles per pixel", GABOR),
    "field_phase": ("phase at the centre of the field, degrees", GABOR),
    "field_amplitude": ("amplitude of the Gabor function", GABOR),
    "field_r_squared": ("share of the variance of the map that the Gabor function explains", GABOR),
    "field_converged": ("1 where the fit reached a minimum", GABOR),
}


def receptive_maps(
    recording: xr.DataTree,
    stimuli: NDArray[Any] | xr.DataArray,
    *,
    units: str | None = None,
    ridge: float | None = None,
    correction: str = "fdr_bh",
    fit: bool = True,
) -> xr.Dataset:
    """Map the receptive field of each unit by reverse correlation, and fit Gabor functions to the maps.

    Parameters
    ----------
    recording : xarray.DataTree
        Responses to noise, as `neuroprobe.read_recording` or `neuroprobe.open_recording` gives it.
    stimuli : array (presentations, height, width) or (presentations, height, width, colours)
        What was shown in each presentation, in its order; colours are averaged. Rows from the top down.
    units, correction
        As for `neuroprobe.responsiveness`.
    ridge : float, optional
        Where pixels are correlated: divides the correlations out, with this much regularisation relative to the mean
        variance of pixels (0.1, for instance). Maps have no errors then.
    fit : bool
        Whether Gabor functions are fitted.

    Returns
    -------
    Dataset
        Over (``unit``, ``pixel_y``, ``pixel_x``): ``receptive_map``, its standard error. Over ``unit``: ``p_value`` of
        a field anywhere, ``p_adjusted``; ``field_x``, ``field_y``, ``field_sd_along``, ``field_sd_across``,
        ``field_orientation``, ``field_frequency``, ``field_phase``, ``field_amplitude`` with standard errors,
        ``field_r_squared``, ``field_converged``; ``defined``. A unit without variance is NaN. What was fitted means
        something where ``p_adjusted`` is small.

    Raises
    ------
    ReaderError
        If stimuli do not fit the presentations, or responses are means over trials.

    Examples
    --------
    >>> noise = np.random.default_rng(0).choice([-1.0, 1.0], (3000, 8, 8))
    >>> node = xr.Dataset(
    ...     {"response": (("presentation", "unit"), noise[:, 2:4, 5:7].sum((1, 2))[:, None])},
    ...     coords={"unit_id": ("unit", ["a"])},
    ... )
    >>> found = receptive_maps(xr.DataTree.from_dict({"/responses/v1": node}), noise)
    >>> [round(found[name].item(), 1) for name in ("field_x", "field_y")], found["p_adjusted"].item() < 1e-6
    ([2.0, 1.0], True)
    """
    require_correction(correction)
    populations = populations_of(recording, (), units)
    require_trials(populations, "reverse correlation")
    pixels = _pixels(stimuli)
    results = UnitResults(populations)
    for one in populations:
        n = one.dataset.sizes[names.PRESENTATION]
        if len(pixels) != n:
            raise ReaderError(
                f"{one.name}: {n:,} presentations and {len(pixels):,} stimuli; give the stimulus of each presentation, "
                "in their order"
            )
        for piece in one.pieces():
            _add(results, piece, pixels, ridge, fit)
    height, width = pixels.shape[1:]
    return results.dataset(
        DESCRIBED,
        common_attrs("receptive fields", populations, ridge=ridge),
        defined=MAP,
        correction=correction,
        coords={
            ROWS: (ROWS, np.arange((height - 1) / 2, -height / 2, -1), {"units": "pixels above the centre"}),
            COLUMNS: (COLUMNS, np.arange(-(width - 1) / 2, width / 2), {"units": "pixels right of the centre"}),
        },
    ).transpose(names.UNIT, ...)


def _pixels(stimuli: NDArray[Any] | xr.DataArray) -> Array:
    pixels = np.asarray(stimuli, dtype=np.float64)
    if pixels.ndim == 4:
        pixels = pixels.mean(-1)
    if pixels.ndim != 3:
        raise ReaderError(
            f"stimuli are an array (presentations, height, width) or (…, colours), received shape {pixels.shape}"
        )
    if not np.isfinite(pixels).all():
        raise ReaderError("stimuli hold values that are not finite: what was shown is known for each presentation")
    return pixels


def _add(results: UnitResults, piece: Piece, pixels: Array, ridge: float | None, fit: bool) -> None:
    """Add the maps of some units; a trial that a unit misses is left out for it."""
    flat = pixels.reshape(len(pixels), -1)
    n_units = piece.values.shape[1]
    maps, errors = np.full((2, n_units, flat.shape[1]), np.nan)
    p = np.full(n_units, np.nan)
    patterns, group = np.unique(~np.isnan(piece.values), axis=1, return_inverse=True)
    for number, known in enumerate(patterns.T):
        chosen, rows = np.flatnonzero(group.ravel() == number), np.flatnonzero(known)
        sums = ReverseCorrelation(flat.shape[1], len(chosen))
        for start in range(0, len(rows), PRESENTATIONS_AT_A_TIME):
            some = rows[start : start + PRESENTATIONS_AT_A_TIME]
            sums.consume(flat[some], piece.values[np.ix_(some, chosen)])
        varies = (sums.response_square > 0)[:, None]
        maps[chosen], p[chosen] = np.where(varies, sums.slope, np.nan), sums.p_value
        if ridge is None:
            errors[chosen] = np.where(varies, sums.slope_se, np.nan)
        else:
            maps[chosen] = whitened(maps[chosen], flat[rows], ridge)
    shape = (n_units, *pixels.shape[1:])
    laid = {MAP: maps.reshape(shape)} | ({names.se(MAP): errors.reshape(shape)} if ridge is None else {})
    one = piece.population
    results.add(one, (ROWS, COLUMNS), **{name: np.moveaxis(array, 0, -1) for name, array in laid.items()})
    results.add(one, p_value=p)
    if fit:
        _add_fits(results, piece, maps.reshape(shape))


def _add_fits(results: UnitResults, piece: Piece, maps: Array) -> None:
    # a pixel that never changed is not of the field
    known = ~np.isnan(maps).all((1, 2), keepdims=True)
    found = fit_gabors(np.where(known & np.isnan(maps), 0, maps))
    named = {f"field_{name}": array for name, array in found.parameters.items()}
    named |= {names.se(f"field_{name}"): array for name, array in found.se.items()}
    named |= {"field_r_squared": found.r_squared, "field_converged": found.converged.astype(np.int8)}
    results.add(piece.population, **named)
