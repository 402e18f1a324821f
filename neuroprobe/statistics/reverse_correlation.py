"""Receptive fields by reverse correlation with noise, and Gabor functions fitted to them (NumPy, no labels)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from neuroprobe.statistics.least_squares import least_squares

Array = NDArray[np.float64]
PARAMETERS: Final = ("x", "y", "sd_along", "sd_across", "orientation", "frequency", "even", "odd")
UNITS_AT_A_TIME: Final = 256  # that are fitted together
WIDTHS: Final = (0.7, 1.0, 1.5)  # of the envelope at the starts, relative to what the energy of the map says
LEAST_WIDTH: Final = 0.3  # pixels, of the envelope
EDGE: Final = 0.1  # energy, relative to its peak, that counts as part of a field


class ReverseCorrelation:
    """Sums over presentations from which the linear field of every unit follows; those of parts can be merged.

    Parameters
    ----------
    n_pixels, n_units : int

    Notes
    -----
    A map is the slope of a unit's response on each pixel: cov(s, r) / var(s), which is the spike-triggered average less
    the mean stimulus, over the stimulus's variance (Chichilnisky 2001). It is the unit's linear filter where pixels are
    independent of each other; with correlated ones use `whitened`.

    Examples
    --------
    >>> noise = np.random.default_rng(0).choice([-1.0, 1.0], (90_000, 4))
    >>> sums = ReverseCorrelation(4, 1)
    >>> for part in np.split(noise, 9):
    ...     sums.consume(part, part @ [[0.0], [2.0], [0.0], [-1.0]])
    >>> np.abs(sums.slope[0] - [0, 2, 0, -1]).max() < 0.05
    np.True_
    """

    def __init__(self, n_pixels: int, n_units: int) -> None:
        self.n = 0
        self.stimulus_mean, self.response_mean = np.zeros(n_pixels), np.zeros(n_units)
        self.stimulus_square, self.response_square = np.zeros(n_pixels), np.zeros(n_units)
        self.product = np.zeros((n_units, n_pixels))

    def consume(self, stimuli: Array, responses: Array) -> None:
        """Take presentations: stimuli (presentations, pixels) and responses (presentations, units)."""
        other = ReverseCorrelation(stimuli.shape[1], responses.shape[1])
        other.n = len(stimuli)
        if not other.n:
            return
        other.stimulus_mean, other.response_mean = stimuli.mean(0), responses.mean(0)
        pixels, units = stimuli - other.stimulus_mean, responses - other.response_mean
        other.stimulus_square, other.response_square = (pixels**2).sum(0), (units**2).sum(0)
        other.product = units.T @ pixels
        self.merge(other)

    def merge(self, other: ReverseCorrelation) -> None:
        """Add the sums of other presentations."""
        n = self.n + other.n
        if not other.n:
            return
        share = self.n * other.n / n
        stimulus, response = other.stimulus_mean - self.stimulus_mean, other.response_mean - self.response_mean
        self.product += other.product + share * response[:, None] * stimulus
        self.stimulus_square += other.stimulus_square + share * stimulus**2
        self.response_square += other.response_square + share * response**2
        self.stimulus_mean += stimulus * other.n / n
        self.response_mean += response * other.n / n
        self.n = n

    @property
    def slope(self) -> Array:
        """Change of the response per unit of each pixel (units, pixels); NaN where a pixel never changed."""
        return np.asarray(self.product / np.where(self.stimulus_square > 0, self.stimulus_square, np.nan))

    @property
    def correlation(self) -> Array:
        """Correlation of response and pixel (units, pixels); NaN where either is constant."""
        square = self.response_square[:, None] * self.stimulus_square
        return np.asarray(self.product / np.sqrt(np.where(square > 0, square, np.nan)))

    @property
    def slope_se(self) -> Array:
        """Standard error of `slope`, of each pixel by itself (units, pixels)."""
        left = (1 - self.correlation**2) * self.response_square[:, None]
        return np.asarray(np.sqrt(np.maximum(left, 0) / (self.stimulus_square * max(self.n - 2, 1))))

    @property
    def p_value(self) -> Array:
        """Probability of a pixel as far from 0 anywhere in the map of a unit without field (units,).

        By Student's t of the furthest pixel, with Šidák's correction for the pixels.
        """
        r = np.abs(self.correlation)
        known = ~np.isnan(r)
        furthest = np.where(known, r, 0).max(1, initial=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            t = furthest * np.sqrt(max(self.n - 2, 0) / np.maximum(1 - furthest**2, 0))
            single = 2 * special.stdtr(max(self.n - 2, 1), -t)
            p = -np.expm1(known.sum(1) * np.log1p(-np.minimum(single, 1)))
        return np.asarray(np.where(known.any(1) & (self.n > 2), p, np.nan))


def whitened(slope: Array, stimuli: Array, ridge: float) -> Array:
    """Correct maps for correlations between pixels (Theunissen et al. 2001).

    Parameters
    ----------
    slope : float array (units, pixels)
        As of `ReverseCorrelation`.
    stimuli : float array (presentations, pixels)
        Of which the correlations are taken.
    ridge : float
        Relative to the mean variance of pixels: how far directions in which stimuli hardly vary are shrunk.

    Returns
    -------
    float array (units, pixels)
    """
    centred = stimuli - stimuli.mean(0)
    covariance = centred.T @ centred / len(stimuli)
    variance = np.diag(covariance)
    shrunk = covariance + ridge * variance.mean() * np.eye(len(covariance))
    return np.asarray(np.linalg.solve(shrunk, (slope * variance).T).T)


@dataclass(frozen=True)
class FieldFit:
    """Gabor functions fitted to maps: arrays (units,), NaN where `converged` is False.

    Attributes
    ----------
    parameters : dict of float arrays
        ``x``, ``y``: the centre, pixels from that of the image, y upward. ``sd_along``, ``sd_across``: standard
        deviations of the envelope along the carrier's direction of change, and across it. ``orientation``: of the bars,
        degrees from horizontal, counter-clockwise, in [0, 180). ``frequency``: cycles per pixel. ``phase``: degrees, 0
        where the centre is a maximum. ``amplitude``.
    se : dict of float arrays
        By the curvature of the sum of squares.
    r_squared : float array
    converged : bool array
    curve : float array (units, height, width)
    """

    parameters: dict[str, Array]
    se: dict[str, Array]
    r_squared: Array
    converged: NDArray[np.bool_]
    curve: Array


class _Grid(NamedTuple):
    x: Array
    y: Array


def fit_gabors(maps: Array) -> FieldFit:
    """Fit a Gabor function to each map.

    Parameters
    ----------
    maps : float array (units, height, width)
        Rows from the top of the image down.

    Notes
    -----
    Jones & Palmer (1987). Least squares from several widths of the envelope, with the carrier at the peak of the
    map's spectrum, and without carrier. Maps that are 0 or not finite have NaN.

    Examples
    --------
    >>> y, x = np.mgrid[9.5:-10:-1, -9.5:10]
    >>> gabor = np.exp(-((x - 2) ** 2 + (y + 1) ** 2) / 18) * np.cos(2 * np.pi * 0.15 * (x - 2))
    >>> found = fit_gabors(gabor[None])
    >>> [round(found.parameters[name].item(), 6) + 0 for name in ("x", "y", "orientation", "frequency")]
    [2.0, -1.0, 90.0, 0.15]
    """
    n_units, height, width = maps.shape
    y, x = np.mgrid[(height - 1) / 2 : -height / 2 : -1, -(width - 1) / 2 : width / 2 : 1]
    grid = _Grid(x.ravel(), y.ravel())
    flat = np.asarray(maps, dtype=np.float64).reshape(n_units, -1)
    usable = np.isfinite(flat).all(1) & (flat != 0).any(1)
    solution, errors = np.full((n_units, 8), np.nan), np.full((n_units, 8), np.nan)
    r_squared, converged = np.full(n_units, np.nan), np.zeros(n_units, dtype=np.bool_)
    for start in range(0, n_units, UNITS_AT_A_TIME):
        units = np.flatnonzero(usable[start : start + UNITS_AT_A_TIME]) + start
        if len(units):
            scale = np.abs(flat[units]).max(1, keepdims=True)
            found = _fit(flat[units] / scale, grid, (height, width))
            solution[units], errors[units], r_squared[units], converged[units] = found
            solution[units, 6:] *= scale
            errors[units, 6:] *= scale
    solution[~converged], errors[~converged], r_squared[~converged] = np.nan, np.nan, np.nan
    curve = np.full((n_units, len(grid.x)), np.nan)
    curve[converged] = _gabor(solution[converged], grid)[0]
    return FieldFit(*_named(solution, errors), r_squared, converged, curve.reshape(maps.shape))


def _named(solution: Array, errors: Array) -> tuple[dict[str, Array], dict[str, Array]]:
    parameters = dict(zip(PARAMETERS, solution.T.copy(), strict=True))
    se = dict(zip(PARAMETERS, errors.T.copy(), strict=True))
    even, odd = parameters.pop("even"), parameters.pop("odd")
    even_se, odd_se = se.pop("even"), se.pop("odd")
    amplitude = np.hypot(even, odd)
    square = np.where(amplitude > 0, amplitude, np.nan) ** 2
    # a carrier and its reverse are one: the frequency is positive
    backwards = parameters["frequency"] < 0
    parameters["frequency"] = np.abs(parameters["frequency"])
    phase = np.rad2deg(np.arctan2(np.where(backwards, odd, -odd), even))
    # bars lie across the direction in which the carrier changes
    parameters["orientation"] = (np.rad2deg(parameters["orientation"]) + 90) % 180
    se["orientation"] = np.rad2deg(se["orientation"])
    parameters |= {"phase": phase, "amplitude": amplitude}
    se["phase"] = np.rad2deg(np.hypot(odd * even_se, even * odd_se) / square)
    se["amplitude"] = np.hypot(even * even_se, odd * odd_se) / np.sqrt(square)
    return parameters, se


def _gabor(parameters: Array, grid: _Grid) -> tuple[Array, Array]:
    """Values (units, pixels) and their derivatives (units, pixels, parameters)."""
    x0, y0, along, across, angle, frequency, even, odd = (column[:, None] for column in parameters.T)
    dx, dy = grid.x - x0, grid.y - y0
    cos, sin = np.cos(angle), np.sin(angle)
    u, v = dx * cos + dy * sin, dy * cos - dx * sin
    envelope = np.exp(-(u**2) / (2 * along**2) - v**2 / (2 * across**2))
    wave = 2 * np.pi * frequency * u
    cosine, sine = np.cos(wave), np.sin(wave)
    carrier = even * cosine + odd * sine
    value = envelope * carrier
    turned = envelope * (odd * cosine - even * sine)  # derivative of the carrier by the wave's argument
    by_u = -value * u / along**2 + turned * 2 * np.pi * frequency
    by_v = -value * v / across**2
    derivatives = np.stack(
        [
            -by_u * cos + by_v * sin,
            -by_u * sin - by_v * cos,
            value * u**2 / along**3,
            value * v**2 / across**3,
            by_u * v - by_v * u,
            turned * 2 * np.pi * u,
            envelope * cosine,
            envelope * sine,
        ],
        axis=-1,
    )
    return value, derivatives


def _fit(maps: Array, grid: _Grid, shape: tuple[int, int]) -> tuple[Array, Array, Array, NDArray[np.bool_]]:
    n_units, n_pixels = maps.shape
    size = float(max(shape))
    lower = np.array([grid.x.min(), grid.y.min(), LEAST_WIDTH, LEAST_WIDTH, -np.inf, -0.5, -np.inf, -np.inf])
    upper = np.array([grid.x.max(), grid.y.max(), 2 * size, 2 * size, np.inf, 0.5, np.inf, np.inf])
    scale = (maps**2).sum(1)
    best = np.full(n_units, np.inf)
    solution, converged = np.zeros((n_units, 8)), np.zeros(n_units, dtype=np.bool_)

    def residuals(problems: NDArray[np.int64], parameters: Array) -> tuple[Array, Array]:
        value, derivatives = _gabor(parameters, grid)
        return value - maps[problems], derivatives

    for start in _starts(maps, grid, shape):
        low, high = np.broadcast_to(lower, start.shape), np.broadcast_to(upper, start.shape)
        found = least_squares(residuals, start, low, high, scale)
        better = (found.converged > converged) | ((found.converged == converged) & (found.squares < best))
        best[better], solution[better] = found.squares[better], found.parameters[better]
        converged |= found.converged
    jacobian = _gabor(solution, grid)[1]
    normal = np.einsum("bkp,bkq->bpq", jacobian, jacobian)
    variance = best / max(n_pixels - 8, 1)
    errors = np.sqrt(np.maximum(np.einsum("bpp->bp", np.linalg.pinv(normal, hermitian=True)), 0) * variance[:, None])
    centred = ((maps - maps.mean(1, keepdims=True)) ** 2).sum(1)
    r_squared = 1 - best / np.where(centred > 0, centred, np.nan)
    return solution, errors, r_squared, converged


def _starts(maps: Array, grid: _Grid, shape: tuple[int, int]) -> list[Array]:
    """Where to begin: centre and width by the energy of a map, the carrier by its spectrum."""
    energy = maps**2
    peak = energy.max(1, keepdims=True)
    weight = np.where(energy > EDGE * peak, energy, 0)
    weight /= weight.sum(1, keepdims=True)
    x0, y0 = weight @ grid.x, weight @ grid.y
    spread = (weight * ((grid.x - x0[:, None]) ** 2 + (grid.y - y0[:, None]) ** 2)).sum(1)
    # energy falls off with sd / √2, in two directions
    sd = np.clip(np.sqrt(np.maximum(spread, 0)), 0.6, max(shape))
    height, width = (4 * n for n in shape)
    spectrum = np.abs(np.fft.rfft2(maps.reshape(-1, *shape), (height, width)))
    row, column = np.unravel_index(spectrum.reshape(len(maps), -1).argmax(1), spectrum.shape[1:])
    # rows run downward, y upward
    fx, fy = column / width, -np.fft.fftfreq(height)[row]
    frequency, angle = np.hypot(fx, fy), np.arctan2(fy, fx)
    starts = []
    for wide in WIDTHS:
        for carrier in (1.0, 0.0):
            start = np.stack(
                [x0, y0, wide * sd, wide * sd, angle, carrier * frequency + 1e-3, np.ones_like(sd), np.ones_like(sd)],
                axis=1,
            )
            start[:, 6:] = _linear(maps, start, grid)
            starts.append(start)
    return starts


def _linear(maps: Array, start: Array, grid: _Grid) -> Array:
    """Best even and odd parts, given all else (units, 2)."""
    parts = _gabor(start, grid)[1][..., 6:]
    normal = np.einsum("bkp,bkq->bpq", parts, parts)
    normal += 1e-9 * np.einsum("bpp->b", normal)[:, None, None] * np.eye(2)
    return np.asarray(np.linalg.solve(normal, np.einsum("bkp,bk->bp", parts, maps)[..., None])[..., 0])
