"""One hue or two in the Neuron Feature of each unit (NumPy, no labels).

Opponent axes of Rafegas et al. 2019 (arXiv 1702.00382), of RGB in [0, 1]: O1 = (R + G + B - 1.5) / 1.5, O2 = R - G and
O3 = (R + G - 2B) / 2. The hue of a pixel is atan2(O3, O2), its chroma hypot(O2, O3). The study calls neurons of colour
single or double and does not say by which rule; that of here is our own: mixtures of one and of two von Mises
distributions are fitted to the hues, each pixel counting as much as its chroma and its coverage; a unit has two hues
where the mixture of two has the lower BIC, its smaller part a weight of `least`, and the two are `apart`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Array = NDArray[np.float64]
Codes = NDArray[np.int8]
LEAST_CHROMA: Final = 0.1
MOST_LIGHT: Final = 0.95  # of |O1|; what is nearer to black or white has no hue
LEAST: Final = 0.25
APART: Final = 45.0
OPPONENT: Final = 45.0  # degrees that opponents may be from 180
N_BINS: Final = 90
MOST_CONCENTRATION: Final = 200.0  # a standard deviation of 4 degrees: a flat patch is not infinitely likely
N_STEPS: Final = 100
STEADY: Final = 1e-6  # of the mean log likelihood
N_PIXELS: Final = 1 << 21  # that are worked on at once
PARAMETERS: Final = (2, 5)  # of one mode and of two
# corners of the RGB cube, and what lies between them where it has a name of its own
HUES: Final = {
    "red": (1.0, 0.0, 0.0),
    "orange": (1.0, 0.5, 0.0),
    "yellow": (1.0, 1.0, 0.0),
    "green": (0.0, 1.0, 0.0),
    "cyan": (0.0, 1.0, 1.0),
    "blue": (0.0, 0.0, 1.0),
    "purple": (0.5, 0.0, 1.0),
    "magenta": (1.0, 0.0, 1.0),
}
AXES: Final = ("red-cyan", "blue-yellow", "magenta-green")


@dataclass(frozen=True)
class HueModes:
    """Hues of units. What a unit has no mode for is NaN.

    Attributes
    ----------
    modes : int8 array (units,)
        0, 1 or 2; 0 where no pixel has a hue, and for units that do not respond.
    hues : float array (units, 2)
        In degrees from 0 up to 360, the one with the larger weight first.
    weights : float array (units, 2)
        Shares of the modes. They add up to 1 where there are two; that of a single mode may be less than 1: what is
        left is of a second one too small to count.
    concentrations : float array (units, 2)
        κ, at most 200.
    opponent : int8 array (units,)
        1 where two hues are 180 ± 45 degrees apart.
    chroma : float array (units,)
        Mean over all pixels, by coverage; NaN only for units that do not respond.
    """

    modes: Codes
    hues: Array
    weights: Array
    concentrations: Array
    opponent: Codes
    chroma: Array


def opponent_axes(rgb: NDArray[np.floating]) -> tuple[NDArray[np.floating], ...]:
    """O1, O2 and O3 of RGB (…, 3) in [0, 1]: light, red against green, yellow against blue.

    Examples
    --------
    >>> [float(axis) for axis in opponent_axes(np.array([1.0, 0.0, 0.0]))]
    [-0.333..., 1.0, 0.5]
    """
    red, green, blue = (rgb[..., channel] for channel in range(3))
    return (red + green + blue - 1.5) / 1.5, red - green, (red + green - 2 * blue) / 2


def hue_modes(
    feature: NDArray[np.floating],
    coverage: NDArray[np.floating],
    *,
    least_chroma: float = LEAST_CHROMA,
    most_light: float = MOST_LIGHT,
    least: float = LEAST,
    apart: float = APART,
) -> HueModes:
    """Find the hues of Neuron Features.

    Parameters
    ----------
    feature : float array (units, height, width, 3)
        RGB in [0, 1], not stretched; NaN for units that do not respond.
    coverage : float array (units, height, width)
    least_chroma, most_light : float
        Pixels with less chroma, or with more of |O1|, have no hue.
    least : float
        Weight of the smaller of two modes.
    apart : float
        Degrees between them: nearer ones are a broad hump that is no von Mises distribution, and the hue is that of
        the fit of one mode.

    Notes
    -----
    Hues are put into 90 bins, with the mean direction in each. The number of observations in the BIC is the effective
    number of pixels with a hue, (Σw)² / Σw² of their weights. Neighbours are alike, so that it is too large, and the
    BIC favours two modes: the weight and the distance decide more often. EM starts from three pairs of hues that the
    data give, without chance: those along the main axis of the hues, those 45 degrees beside their mean, and the two
    highest peaks. Of three hues and more, two modes hold several: see their concentration.

    Examples
    --------
    >>> red, cyan = [0.9, 0.1, 0.1], [0.1, 0.9, 0.9]
    >>> found = hue_modes(np.array([[[red, red, cyan]]]), np.ones((1, 1, 3)))
    >>> found.modes, found.hues.round(1), found.opponent
    (array([2], dtype=int8), array([[ 26.6, 206.6]]), array([1], dtype=int8))
    """
    n_pixels = feature.shape[1] * feature.shape[2]
    step = max(1, N_PIXELS // n_pixels)
    feature, coverage = feature.reshape(-1, n_pixels, 3), coverage.reshape(-1, n_pixels)
    parts = [
        _modes_of(feature[start : start + step], coverage[start : start + step], (least_chroma, most_light))
        for start in range(0, max(len(feature), 1), step)
    ]
    one, two, n, chroma = (np.concatenate(arrays, -1) for arrays in zip(*parts, strict=True))
    hues, weights, kappa = np.moveaxis(two[:6].reshape(3, 2, -1), 2, 1)
    distance = angle_between(*hues.T)
    has_hue = n > 0
    bic = [p * np.log(np.maximum(n, 1)) - 2 * n * fit[-1] for p, fit in zip(PARAMETERS, (one, two), strict=True)]
    separate = has_hue & (bic[1] < bic[0]) & (distance >= apart)
    double = separate & (weights[:, 1] >= least)
    modes = np.where(double, 2, has_hue).astype(np.int8)
    single = np.stack([one[0], np.ones_like(n), one[1]])
    hues[~separate, 0], weights[~separate, 0], kappa[~separate, 0] = single[:, ~separate]
    for array in (hues, weights, kappa):
        array[~double, 1] = np.nan
        array[~has_hue] = np.nan
    opponent = (double & (distance >= 180 - OPPONENT)).astype(np.int8)
    return HueModes(modes, _turned(hues), weights, kappa, opponent, chroma)


def _modes_of(
    feature: NDArray[np.floating], coverage: NDArray[np.floating], limits: tuple[float, float]
) -> tuple[Array, Array, Array, Array]:
    """Fits of one mode (3, units) and of two (7, units), effective numbers of pixels, and mean chroma.

    Of features (units, pixels, 3) and their coverage (units, pixels).
    """
    light, second, third = opponent_axes(feature.astype(np.float64))
    chroma, hue = np.hypot(second, third), np.arctan2(third, second)
    covered = coverage.astype(np.float64)
    total = covered.sum(1)
    mean = np.divide((chroma * covered).sum(1), total, out=np.full(len(feature), np.nan), where=total > 0)
    has_hue = (chroma >= limits[0]) & (np.abs(light) <= limits[1])
    weight = np.where(has_hue, chroma * covered, 0)
    squares = (weight**2).sum(1)
    n = np.divide(weight.sum(1) ** 2, squares, out=np.zeros(len(feature)), where=squares > 0)
    share, angle = _binned(np.where(has_hue, hue, 0), weight)
    one, two = np.zeros((3, len(n))), np.zeros((7, len(n)))
    some = n > 0
    one[:, some], two[:, some] = _fit_one(share[some], angle[some]), _fit_two(share[some], angle[some])
    return one, two, n, mean


def _binned(hue: Array, weight: Array) -> tuple[Array, Array]:
    """Shares of the weight, and mean angles, by bin: (units, bins) each; of empty bins 0 and the centre."""
    bins = np.floor(hue * (N_BINS / (2 * np.pi))).astype(np.int64) % N_BINS
    flat = (bins + N_BINS * np.arange(len(hue))[:, None]).ravel()
    share, cosine, sine = (
        np.bincount(flat, (weight * factor).ravel(), len(hue) * N_BINS).reshape(-1, N_BINS)
        for factor in (np.ones(()), np.cos(hue), np.sin(hue))
    )
    centre = (np.arange(N_BINS) + 0.5) * (2 * np.pi / N_BINS)
    angle = np.where(share > 0, np.arctan2(sine, cosine), centre)
    total = share.sum(1, keepdims=True)
    return np.divide(share, total, out=np.zeros(share.shape), where=total > 0), angle


def _estimate(weight: Array, angle: Array) -> tuple[Array, Array]:
    """Mean angle and concentration of weighted angles (last axis)."""
    total = weight.sum(-1)
    moments = (weight * np.cos(angle)).sum(-1), (weight * np.sin(angle)).sum(-1)
    length = np.divide(np.hypot(*moments), total, out=np.zeros_like(total), where=total > 0).clip(0, 1 - 1e-9)
    return np.arctan2(moments[1], moments[0]), concentration_of(length)


def concentration_of(length: ArrayLike) -> Array:
    """κ of a von Mises distribution whose mean resultant has a length, at most 200.

    Newton's method on I1(κ) / I0(κ) = length, from the approximation of Banerjee et al. (2005).

    Examples
    --------
    >>> kappa = concentration_of([0.0, 0.5, 0.9])
    >>> kappa.round(4), (special.i1(kappa) / special.i0(kappa)).round(4)
    (array([0.    , 1.1593, 5.3047]), array([0. , 0.5, 0.9]))
    """
    length = np.asarray(length, dtype=np.float64)
    kappa = np.minimum(length * (2 - length**2) / (1 - length**2), MOST_CONCENTRATION)
    for _ in range(3):
        ratio = special.i1e(kappa) / special.i0e(kappa)
        slope = 1 - ratio**2 - np.divide(ratio, kappa, out=np.full_like(kappa, 0.5), where=kappa > 0)
        kappa = np.clip(kappa - (ratio - length) / slope, 0, MOST_CONCENTRATION)
    return kappa


def _log_density(angle: Array, mean: Array, kappa: Array) -> Array:
    """Log of the von Mises density at angles (…, bins)."""
    return kappa[..., None] * (np.cos(angle - mean[..., None]) - 1) - np.log(2 * np.pi * special.i0e(kappa))[..., None]


def _fit_one(share: Array, angle: Array) -> Array:
    """Hue, concentration and mean log likelihood of one mode: (3, units)."""
    mean, kappa = _estimate(share, angle)
    return np.stack([np.degrees(mean), kappa, (share * _log_density(angle, mean, kappa)).sum(-1)])


def _fit_two(share: Array, angle: Array) -> Array:
    """Hues, weights, concentrations, two each, and mean log likelihood of two modes: (7, units).

    The best of all starts; the larger mode first.
    """
    starts = _starts(share, angle)
    n_starts, _, n_units = starts.shape
    mean = starts.transpose(1, 0, 2).reshape(2, -1)  # a row for each start of each unit
    weight, kappa = np.full(mean.shape, 0.5), np.full(mean.shape, 4.0)
    likelihood = np.full(mean.shape[1], -np.inf)
    going = np.arange(mean.shape[1])
    for _ in range(N_STEPS):
        own, at = share[going % n_units], angle[going % n_units]
        with np.errstate(divide="ignore"):  # a mode may have no weight left
            log = np.log(weight[:, going])[..., None] + _log_density(at, mean[:, going], kappa[:, going])
        both = np.logaddexp(*log)
        before, likelihood[going] = likelihood[going], (own * both).sum(-1)
        part = own * np.exp(log - both)
        weight[:, going] = part.sum(-1)
        mean[:, going], kappa[:, going] = _estimate(part, at)
        going = going[likelihood[going] - before >= STEADY]
        if not going.size:
            break
    best = n_units * likelihood.reshape(n_starts, -1).round(4).argmax(0) + np.arange(n_units)
    found = np.stack([np.degrees(mean), weight, kappa])[..., best]  # (3, 2, units)
    # of equal weights the smaller angle comes first
    order = np.lexsort((found[0] % 360, -found[1].round(6)), axis=0)
    found = np.take_along_axis(found, order[None], 1)
    return np.concatenate([found.reshape(6, n_units), likelihood[best][None]])


def _starts(share: Array, angle: Array) -> Array:
    """Pairs of angles from which EM starts: (starts, 2, units)."""
    moment = [(share * np.exp(1j * k * angle)).sum(-1) for k in (1, 2)]
    axis, mean = np.angle(moment[1]) / 2, np.angle(moment[0])
    centre = (np.arange(N_BINS) + 0.5) * (2 * np.pi / N_BINS)
    apart = np.cos(centre[:, None] - centre)
    smooth = share @ np.exp(20 * (apart - 1))
    highest = smooth.argmax(1)
    next_one = np.where(apart[highest] < np.cos(np.radians(APART)), smooth, -1).argmax(1)
    pairs = (axis, axis + np.pi), (mean - np.pi / 4, mean + np.pi / 4), (centre[highest], centre[next_one])
    return np.array(pairs)


def angle_between(first: ArrayLike, second: ArrayLike) -> Array:
    """Degrees between two hues in degrees, from 0 to 180.

    Examples
    --------
    >>> angle_between([350, 90], [10, 270])
    array([ 20., 180.])
    """
    return np.abs((np.asarray(first, dtype=np.float64) - np.asarray(second) + 180) % 360 - 180)


def hue_of(rgb: ArrayLike) -> Array:
    """Hue of RGB (…, 3), in degrees from 0 up to 360."""
    _, second, third = opponent_axes(np.asarray(rgb, dtype=np.float64))
    return _turned(np.degrees(np.arctan2(third, second)))


def _turned(degrees: Array) -> Array:
    """Degrees from 0 up to 360; the first remainder of what is just below 0 is 360."""
    return degrees % 360 % 360


def hue_name(hue: float) -> str:
    """Word for a hue: that of the nearest of eight, red, orange, yellow, green, cyan, blue, purple and magenta.

    They are the hues of the corners of the RGB cube, of the middle between red and yellow, and of that between blue
    and magenta. Of NaN the word is empty.

    Examples
    --------
    >>> [hue_name(hue) for hue in (27, 60, 90, 150, 200, 270, 300, 340, float("nan"))]
    ['red', 'orange', 'yellow', 'green', 'cyan', 'blue', 'purple', 'magenta', '']
    """
    if np.isnan(hue):
        return ""
    return list(HUES)[int(angle_between(hue, hue_of(list(HUES.values()))).argmin())]


def axis_name(first: float, second: float) -> str:
    """Axis of the study that is nearest to two opponent hues: red-cyan, blue-yellow or magenta-green; else empty.

    Examples
    --------
    >>> axis_name(200, 30), axis_name(95, 262), axis_name(20, 100)
    ('red-cyan', 'blue-yellow', '')
    """
    if not angle_between(first, second) >= 180 - OPPONENT:
        return ""
    ends = hue_of([[HUES[end] for end in axis.split("-")] for axis in AXES])
    pairs = np.array([[first, second], [second, first]])
    far = angle_between(pairs[:, None], ends).sum(-1).min(0)  # either way round
    return AXES[int(far.argmin())]
