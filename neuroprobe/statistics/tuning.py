"""Indices of tuning, from means of conditions: orientation, direction, size, modulation (NumPy, no labels).

Angles are degrees, responses (conditions, units). Indices of rectified responses take a negative mean as 0 and say for
which units they did. Standard errors follow from those of the means by the delta method, with the preferred condition
taken as known.

Ratios at the preferred angle (OSI, DSI) are biased upward where responses are noisy: the largest of noisy means is not
that of the preferred angle. Vector sums are biased less, and tests on trials say whether there is any tuning (Mazurek,
Kager & Van Hooser 2014, doi:10.3389/fncir.2014.00092).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from neuroprobe.statistics.conditions import Estimate, checked_conditions, indicator, means_of

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]
SAME_ANGLE = 1e-6  # degrees


@dataclass(frozen=True)
class VectorSelectivity:
    r"""Vector sums of tuning curves: arrays (units,).

    Attributes
    ----------
    length, length_se : float arrays
        L = \|Σ r e^{imθ}\| / Σ r, which is 1 - the circular variance: 0 of a flat curve, 1 where one angle drives the
        unit. NaN where no response is above 0, or a condition has no trial.
    angle, angle_se : float arrays
        Preferred angle in degrees, from 0 up to, but without, 360 / m.
    rectified : bool array
        Whether a negative mean was taken as 0.
    """

    length: Array
    length_se: Array
    angle: Array
    angle_se: Array
    rectified: NDArray[np.bool_]


@dataclass(frozen=True)
class AxisSelectivity:
    """Responses to the preferred angle against those to another one: arrays (units,).

    Attributes
    ----------
    index, index_se : float arrays
        (R - R′) / (R + R′): OSI or DSI.
    relative, relative_se : float arrays
        1 - R′ / R: the other definition in use, OI or DI.
    preferred : float array
        Angle of R in degrees.
    rectified : bool array
        Whether a negative mean was taken as 0.
    """

    index: Array
    index_se: Array
    relative: Array
    relative_se: Array
    preferred: Array
    rectified: NDArray[np.bool_]


def checked_angles(angle: Array, period: float) -> Array:
    """Return angles within one period, after a check that they are equally spaced.

    Raises
    ------
    ValueError
        If they are fewer than 2, not equally spaced around the period, or some are there more often than others.
    """
    angle = np.mod(np.asarray(angle, dtype=np.float64), period)
    angle = np.where(period - angle < SAME_ANGLE, 0, angle)
    ordered = np.sort(angle)
    new = np.concatenate([[True], np.diff(ordered) > SAME_ANGLE])
    repeats = np.diff(np.concatenate([np.flatnonzero(new), [len(angle)]]))
    steps = np.diff(np.concatenate([ordered[new], [ordered[0] + period]]))
    if len(steps) < 2 or np.ptp(steps) > 2 * SAME_ANGLE or np.ptp(repeats):
        listed = ", ".join(f"{one:g}" for one in ordered[:12])
        raise ValueError(
            f"indices of angles need 2 or more, equally spaced around {period:g} degrees and each as often as the "
            f"others, received {listed}; leave other conditions out"
        )
    return angle


def vector_selectivity(mean: Array, angle: Array, harmonic: int = 2, se: Array | None = None) -> VectorSelectivity:
    """Length and angle of the vector sum of responses (Ringach, Shapley & Hawken 2002).

    Parameters
    ----------
    mean : float array (conditions, units)
    angle : float array (conditions,)
        Degrees, equally spaced around 360 / `harmonic`.
    harmonic : int
        2 for orientation, 1 for direction.
    se : float array (conditions, units), optional
        Standard errors of the means.

    Examples
    --------
    >>> mean = np.array([[10.0, 4, 2, 3, 6, 3, 2, 4]]).T
    >>> angle = np.arange(0, 360, 45.0)
    >>> vector_selectivity(mean, angle, 2).length.round(6), vector_selectivity(mean, angle, 1).length.round(6)
    (array([0.352941]), array([0.159242]))
    """
    at = np.deg2rad(checked_angles(angle, 360 / harmonic))[:, None] * harmonic
    r, rectified = _rectified(mean)
    total = r.sum(0)
    total = np.where(total > 0, total, np.nan)
    vector = (r * np.exp(1j * at)).sum(0)
    length = np.abs(vector) / total
    phase = np.angle(vector)
    variance = np.full(r.shape, np.nan) if se is None else se**2
    along = (np.cos(at - phase) - length) / total
    with np.errstate(divide="ignore", invalid="ignore"):
        across = np.sin(at - phase) / (total * length)
        of_angle = np.sqrt((across**2 * variance).sum(0))
    preferred = np.mod(np.rad2deg(phase), 360) / harmonic
    return VectorSelectivity(
        length,
        np.sqrt((along**2 * variance).sum(0)),
        np.where(np.isnan(length), np.nan, np.where(preferred < 360 / harmonic, preferred, 0)),
        np.where(np.isfinite(of_angle), np.rad2deg(of_angle) / harmonic, np.nan),
        rectified,
    )


def orientation_selectivity(
    mean: Array, angle: Array, period: float = 360.0, se: Array | None = None
) -> AxisSelectivity:
    """Preferred against orthogonal orientation: OSI and OI.

    Parameters
    ----------
    mean : float array (conditions, units)
    angle : float array (conditions,)
        Equally spaced around `period`, with an orthogonal one for each.
    period : float
        360 where angles are directions, whose two of each orientation are averaged; 180 where they are orientations.
    se : float array (conditions, units), optional

    Notes
    -----
    The preferred orientation is that of the largest mean over both directions; of equal ones the first.

    Examples
    --------
    >>> mean = np.array([[10.0, 4, 2, 3, 6, 3, 2, 4]]).T
    >>> found = orientation_selectivity(mean, np.arange(0, 360, 45.0))
    >>> found.index, found.relative, found.preferred
    (array([0.6]), array([0.75]), array([0.]))
    """
    angle = checked_angles(angle, period)
    folded = np.mod(angle, 180)
    folded = np.where(180 - folded < SAME_ANGLE, 0, folded)
    orientation = folded[np.argsort(folded, kind="stable")][:: 2 if period == 360 else 1]
    same = np.abs(orientation[:, None] - folded) < SAME_ANGLE
    share = same / same.sum(1, keepdims=True)
    r, rectified = _rectified(mean)
    variance = None if se is None else share**2 @ se**2
    return _against(share @ r, variance, orientation, 90, 180, rectified)


def direction_selectivity(mean: Array, angle: Array, se: Array | None = None) -> AxisSelectivity:
    """Preferred against opposite direction: DSI and DI; parameters as `orientation_selectivity`, angles around 360.

    Examples
    --------
    >>> mean = np.array([[10.0, 4, 2, 3, 6, 3, 2, 4]]).T
    >>> found = direction_selectivity(mean, np.arange(0, 360, 45.0))
    >>> found.index, found.relative
    (array([0.25]), array([0.4]))
    """
    angle = checked_angles(angle, 360)
    r, rectified = _rectified(mean)
    return _against(r, None if se is None else se**2, angle, 180, 360, rectified)


def _rectified(mean: Array) -> tuple[Array, NDArray[np.bool_]]:
    return np.where(mean < 0, 0, mean), np.asarray((mean < 0).any(0))


def _against(
    r: Array, variance: Array | None, angle: Array, away: float, period: float, rectified: NDArray[np.bool_]
) -> AxisSelectivity:
    """Response at the best angle against that `away` degrees from it."""
    apart = np.abs(np.mod(angle[:, None] - angle - away + period / 2, period) - period / 2)
    partner = apart.argmin(1)
    if apart.min(1).max() > SAME_ANGLE:
        raise ValueError(f"{len(angle)} angles around {period:g} degrees have none that is {away:g} from another one")
    top = np.where(np.isnan(r), -np.inf, r).argmax(0)
    units = np.arange(r.shape[1])
    high, low = r[top, units], r[partner[top], units]
    known = ~np.isnan(r).any(0) & (high > 0)
    high = np.where(known, high, np.nan)
    nothing = np.full(high.shape, np.nan)
    of_high, of_low = (nothing, nothing) if variance is None else (variance[top, units], variance[partner[top], units])
    index, relative = modulation_index(high, low, np.sqrt(of_high), np.sqrt(of_low)), 1 - low / high
    relative_se = np.sqrt(of_low + (low / high) ** 2 * of_high) / high
    preferred = np.where(known, angle[top], np.nan)
    return AxisSelectivity(index.value, index.se, relative, relative_se, preferred, rectified)


def modulation_index(a: Array, b: Array, a_se: Array | float = np.nan, b_se: Array | float = np.nan) -> Estimate:
    """Contrast of two responses, (A - B) / (A + B), with its standard error; of ON and OFF responses the ON/OFF index.

    NaN where A + B is not above 0. Between -1 and 1 only where neither is negative.

    Examples
    --------
    >>> modulation_index(np.array([3.0, 1.0, 0.0]), np.array([1.0, 3.0, 0.0])).value
    array([ 0.5, -0.5,  nan])
    """
    total = np.where(a + b > 0, a + b, np.nan)
    return Estimate((a - b) / total, 2 * np.sqrt(b**2 * np.square(a_se) + a**2 * np.square(b_se)) / total**2)


def suppression_index(mean: Array, size: Array, se: Array | None = None) -> Estimate:
    """Surround suppression, (R_opt - R_large) / R_opt: optimal size against the largest one.

    Parameters
    ----------
    mean : float array (conditions, units)
    size : float array (conditions,)
    se : float array (conditions, units), optional

    Returns
    -------
    Estimate of arrays (units,)
        0 without suppression; above 1 where the response to the largest falls below 0. NaN where R_opt is not above 0.

    Examples
    --------
    >>> suppression_index(np.array([[1.0], [8.0], [6.0]]), np.array([1.0, 2.0, 4.0])).value
    array([0.25])
    """
    top, units = np.where(np.isnan(mean), -np.inf, mean).argmax(0), np.arange(mean.shape[1])
    last = int(np.argmax(size))
    high = np.where(mean[top, units] > 0, mean[top, units], np.nan)
    large = mean[last]
    variance = np.full(mean.shape, np.nan) if se is None else se**2
    error = np.sqrt(variance[last] + (large / high) ** 2 * variance[top, units]) / high
    return Estimate(1 - large / high, np.where(top == last, 0 * error, error))


def f1_over_f0(rate: Array, bin_width: float, frequency: float, baseline: Array | float = 0.0) -> Array:
    """Modulation ratio F1 / F0 of responses to drifting gratings: simple cells are above 1 (Skottun et al. 1991).

    Parameters
    ----------
    rate : float array (time bins, units)
        PSTHs over whole cycles of the stimulus.
    bin_width : float
        Seconds.
    frequency : float
        Of the stimulus, in Hz.
    baseline : float array (units,) or float
        Taken from F0.

    Returns
    -------
    float array (units,)
        Amplitude of the first harmonic over the mean; NaN where the mean is not above the baseline. Bins average over
        their width, which takes sinc(frequency · bin_width) from F1: at 10 bins per cycle 1.6 %.

    Raises
    ------
    ValueError
        If bins do not cover whole cycles, or are 2 or fewer per cycle.

    Examples
    --------
    >>> t = (np.arange(1000) + 0.5) / 1000
    >>> f1_over_f0(np.maximum(np.sin(4 * np.pi * t), 0)[:, None], 0.001, 2.0).round(4)
    array([1.5708])
    """
    n = len(rate)
    cycles = n * bin_width * frequency
    if abs(cycles - round(cycles)) > 1e-6 * n or not 0 < round(cycles) < n / 2:
        raise ValueError(
            f"F1 is of whole cycles with more than 2 bins each: {n} bins of {bin_width:g} s hold {cycles:g} cycles of "
            f"{frequency:g} Hz; cut the response to whole cycles"
        )
    phase = np.exp(-2j * np.pi * frequency * bin_width * np.arange(n))
    f1 = 2 * np.abs(np.tensordot(phase, rate, axes=(0, 0))) / n
    f0 = rate.mean(0) - baseline
    return np.asarray(f1 / np.where(f0 > 0, f0, np.nan))


def phase_modulation(mean: Array, phase: Array, se: Array | None = None) -> Estimate:
    """Modulation ratio F1 / F0 over the phases of static gratings: simple cells are above 1 (Skottun et al. 1991).

    Parameters
    ----------
    mean : float array (phases, units)
    phase : float array (phases,)
        Degrees, 3 or more, equally spaced around 360.
    se : float array (phases, units), optional
        Of the means; without them the ratio has no error.

    Returns
    -------
    Estimate
        Amplitude of the first harmonic over the mean; NaN where the mean is not above 0. Noise makes it larger.

    Raises
    ------
    ValueError
        If phases are too few, or not equally spaced.

    Examples
    --------
    >>> phase = np.arange(0, 360, 45.0)
    >>> phase_modulation(2 + np.cos(np.deg2rad(phase - 30))[:, None], phase).value.round(6)
    array([0.5])
    """
    at = np.deg2rad(checked_angles(phase, 360.0))
    if len(np.unique(at)) < 3:
        raise ValueError(f"the first harmonic needs 3 or more phases, received {len(np.unique(at))}")
    harmonic = 2 * np.tensordot(np.exp(1j * at), mean, axes=(0, 0)) / len(at)
    f0 = mean.mean(0)
    f0 = np.where(f0 > 0, f0, np.nan)
    ratio = np.abs(harmonic) / f0
    slope = (2 * np.cos(at[:, None] - np.angle(harmonic)) - ratio) / len(at) / f0
    error = np.full(ratio.shape, np.nan) if se is None else np.sqrt(((slope * se) ** 2).sum(0))
    return Estimate(ratio, error)


def vector_sums(responses: Array, angle: Array, harmonic: int = 2) -> Complex:
    """Vector sum of each repetition of all conditions.

    Parameters
    ----------
    responses : float array (repetitions, conditions, units)
        As `neuroprobe.statistics.conditions.repetitions` sorts them; a repetition that lacks a condition gives NaN.
    angle : float array (conditions,)
    harmonic : int

    Returns
    -------
    complex array (repetitions, units)
        Mean over conditions of r e^{imθ}.
    """
    at = np.deg2rad(checked_angles(angle, 360 / harmonic)) * harmonic
    return np.asarray(np.tensordot(np.exp(1j * at), responses, axes=(0, 1)) / len(at))


def hotelling(vectors: Complex) -> tuple[Array, Array]:
    """Hotelling's T² test that vector sums of repetitions have the mean 0, as they do without tuning.

    Parameters
    ----------
    vectors : complex array (repetitions, units)
        NaN where a repetition is left out.

    Returns
    -------
    statistic, p_value : float arrays (units,)
        T² = n v̄ᵀ S⁻¹ v̄, of which (n - 2) / (2 (n - 1)) T² has an F distribution with 2 and n - 2 degrees of freedom.
        NaN with fewer than 3 repetitions, and where vectors are all on one line.

    Examples
    --------
    >>> statistic, p = hotelling(np.array([[1 + 1j], [2 + 1j], [1 + 2j], [2 + 2.5j]]))
    >>> statistic.round(4), p.round(4)
    (array([38.5385]), array([0.0722]))
    """
    known = ~np.isnan(vectors)
    n = known.sum(0)
    enough = np.where(n > 2, n, np.nan)
    total = np.where(known, vectors, 0).sum(0)
    mean = total.real / enough + 1j * (total.imag / enough)
    apart = np.where(known, vectors - mean, 0)
    xx, yy = (apart.real**2).sum(0) / (enough - 1), (apart.imag**2).sum(0) / (enough - 1)
    xy = (apart.real * apart.imag).sum(0) / (enough - 1)
    determinant = xx * yy - xy**2
    determinant = np.where(determinant > 1e-12 * xx * yy, determinant, np.nan)
    x, y = mean.real, mean.imag
    statistic = enough * (yy * x**2 - 2 * xy * x * y + xx * y**2) / determinant
    return statistic, np.asarray(special.fdtrc(2, enough - 2, (enough - 2) / (2 * (enough - 1)) * statistic))


def angle_permutation_test(
    values: Array,
    condition: NDArray[np.integer],
    angle: Array,
    harmonic: int,
    n_permutations: int,
    random: np.random.Generator,
) -> Array:
    """Test of the length of the vector sum against those of trials whose angles are permuted.

    Parameters
    ----------
    values : float array (trials, units)
    condition : int array (trials,)
    angle : float array (conditions,)
    harmonic : int
        2 for orientation, 1 for direction: the latter tests whether directions drive a unit alike, tuned for
        orientation or not.
    n_permutations : int
    random : numpy.random.Generator

    Returns
    -------
    float array (units,)
        p-values (1 + #{L* ≥ L}) / (1 + permutations) (Phipson & Smyth 2010); NaN where the length is.
    """
    condition = checked_conditions(condition, len(values), len(angle))
    values, condition = values[condition >= 0], condition[condition >= 0]
    observed = vector_selectivity(means_of(values, indicator(condition, len(angle))), angle, harmonic).length
    reached = np.zeros(observed.shape)
    for _ in range(n_permutations):
        which = indicator(random.permutation(condition), len(angle))
        drawn = vector_selectivity(means_of(values, which), angle, harmonic).length
        # a draw whose length cannot be told counts against the unit; so do those that differ by rounding
        reached += ~(drawn < observed * (1 - 1e-12))
    return np.where(np.isnan(observed), np.nan, (1 + reached) / (1 + n_permutations))
