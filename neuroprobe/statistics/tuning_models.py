"""Functions that are fitted to tuning curves, each linear in some of its parameters (NumPy, no labels).

A model is r(x) = Σ_l c_l φ_l(x; s) with coefficients c and a shape s. For any shape the best coefficients follow from
linear least squares, so that starts are found on a grid of shapes alone. Shapes that are scales are fitted as
logarithms. Arrays are (problems, conditions); shapes and coefficients (problems, number).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]
Named = dict[str, Array]

HALF: Final = np.log(2)
TO_HALF: Final = np.sqrt(2 * HALF)  # half width at half height of a Gaussian, in its standard deviations
LIMIT: Final = 5.0  # largest amplitude, in ranges of the curve
FINE: Final = 401  # points on which the largest response of a fitted curve is sought


@dataclass(frozen=True)
class Samples:
    """Where curves were measured: arrays (problems,) of the least and largest stimulus, and the usual step."""

    least: Array
    largest: Array
    step: Array
    least_positive: Array


@dataclass(frozen=True)
class TuningModel:
    """One function.

    Attributes
    ----------
    name : str
    coefficients, shape : tuples of str
        Names of the parameters as they are reported, coefficients in the order of `basis`; what several of them make up
        together has its name at each.
    basis : callable
        (x, shape) → φ, float array (problems, conditions, coefficients).
    bounds : callable
        Samples → least and largest shape, each (problems, number). Infinite ones are those of angles.
    grid : tuple of int
        Starts along each parameter of the shape.
    signed : tuple of bool
        Which coefficients may be negative; none but a baseline is more than `limit` times the range of the curve.
    report : callable
        (coefficients, shape) → reported parameters by name.
    derived : callable
        (model, samples, coefficients, shape) → what follows from them, by name.
    spread : int
        The parameter of the shape in which starts differ: that of which curves have several minima.
    periods : dict of str to float
        Of the reported parameters that are angles, in degrees.
    period : float
        Of the stimulus, in degrees; 0 where it has none.
    positive : bool
        Whether stimuli are above 0; otherwise they may be 0 if `from_zero`, or anything.
    """

    name: str
    coefficients: tuple[str, ...]
    shape: tuple[str, ...]
    basis: Callable[[Array, Array], Array]
    bounds: Callable[[Samples], tuple[list[Array], list[Array]]]
    grid: tuple[int, ...]
    signed: tuple[bool, ...]
    report: Callable[[Array, Array], Named]
    derived: Callable[[TuningModel, Samples, Array, Array], Named]
    spread: int = 0
    periods: dict[str, float] = field(default_factory=dict)
    period: float = 0.0
    positive: bool = False
    from_zero: bool = False
    limit: float = LIMIT

    @property
    def n_parameters(self) -> int:
        """Number of fitted parameters."""
        return len(self.coefficients) + len(self.shape)

    def curve(self, x: Array, coefficients: Array, shape: Array) -> Array:
        """Responses to stimuli (problems, conditions)."""
        return np.asarray(np.einsum("bkl,bl->bk", self.basis(x, shape), coefficients))


def _stack(*columns: Array) -> Array:
    return np.stack(np.broadcast_arrays(*columns), axis=-1)


def _plain(names: tuple[str, ...], logarithms: tuple[str, ...] = ()) -> Callable[[Array, Array], Named]:
    def report(coefficients: Array, shape: Array) -> Named:
        found = dict(zip(names, np.concatenate([coefficients, shape], axis=1).T, strict=True))
        return {name: np.exp(value) if name in logarithms else value for name, value in found.items()}

    return report


def _nothing(_: TuningModel, samples: Samples, coefficients: Array, shape: Array) -> Named:
    return {}


def _hwhm(_: TuningModel, samples: Samples, coefficients: Array, shape: Array) -> Named:
    return {"hwhm": TO_HALF * np.exp(shape[:, 0])}


def _angles(samples: Samples) -> tuple[Array, Array]:
    nothing = np.full(samples.step.shape, np.inf)
    return -nothing, nothing


def _von_mises(x: Array, shape: Array) -> Array:
    kappa, preferred = np.exp(shape[:, :1]), shape[:, 1:]
    return _stack(np.ones(x.shape), np.exp(kappa * (np.cos(2 * np.deg2rad(x - preferred)) - 1)))


def _von_mises_bounds(samples: Samples) -> tuple[list[Array], list[Array]]:
    # no narrower than a Gaussian whose standard deviation is half a step
    narrowest = np.minimum(TO_HALF * samples.step / 2, 80)
    largest = HALF / (1 - np.cos(2 * np.deg2rad(narrowest)))
    low, high = _angles(samples)
    return [np.full(low.shape, np.log(0.1)), low], [np.log(largest), high]


def _von_mises_report(coefficients: Array, shape: Array) -> Named:
    found = _plain(("baseline", "amplitude", "kappa", "preferred"), ("kappa",))(coefficients, shape)
    return found | {"preferred": np.mod(found["preferred"], 180)}


def _von_mises_derived(_: TuningModel, samples: Samples, coefficients: Array, shape: Array) -> Named:
    kappa = np.exp(shape[:, 0])
    # 0.5 acos(1 - ln 2 / κ), where the curve falls to half its height at all
    return {"hwhm": np.rad2deg(0.5 * np.arccos(1 - HALF / np.where(kappa > HALF / 2, kappa, np.nan)))}


def _gaussian(x: Array, centre: Array, width: Array) -> Array:
    distance = np.mod(x - centre + 180, 360) - 180
    return np.asarray(np.exp(-(distance**2) / (2 * width**2)))


def _double_gaussian(x: Array, shape: Array) -> Array:
    width, preferred = np.exp(shape[:, :1]), shape[:, 1:]
    return _stack(np.ones(x.shape), _gaussian(x, preferred, width), _gaussian(x, preferred + 180, width))


def _double_gaussian_bounds(samples: Samples) -> tuple[list[Array], list[Array]]:
    low, high = _angles(samples)
    return [np.log(samples.step / 2), low], [np.full(low.shape, np.log(80)), high]


def _double_gaussian_report(coefficients: Array, shape: Array) -> Named:
    baseline, one, other = coefficients.T
    swapped = other > one
    return {
        "baseline": baseline,
        "preferred_amplitude": np.where(swapped, other, one),
        "null_amplitude": np.where(swapped, one, other),
        "width": np.exp(shape[:, 0]),
        "preferred": np.mod(shape[:, 1] + np.where(swapped, 180, 0), 360),
    }


def _log_gaussian(x: Array, shape: Array) -> Array:
    width, preferred = np.exp(shape[:, :1]), shape[:, 1:]
    return _stack(np.ones(x.shape), np.exp(-((np.log2(x) - preferred) ** 2) / (2 * width**2)))


def _log_gaussian_bounds(samples: Samples) -> tuple[list[Array], list[Array]]:
    low, high = np.log2(samples.least), np.log2(samples.largest)
    half = samples.step / 2
    return [np.log(half), low - half], [np.log(high - low), high + half]


def _log_gaussian_report(coefficients: Array, shape: Array) -> Named:
    found = _plain(("baseline", "amplitude", "width", "preferred"), ("width",))(coefficients, shape)
    return found | {"preferred": np.exp2(found["preferred"])}


def _log_gaussian_derived(_: TuningModel, samples: Samples, coefficients: Array, shape: Array) -> Named:
    width, preferred = np.exp(shape[:, 0]), shape[:, 1]
    reach = TO_HALF * width
    return {
        "bandwidth": 2 * reach,
        "low_pass": (preferred - reach < np.log2(samples.least)).astype(np.float64),
        "high_pass": (preferred + reach > np.log2(samples.largest)).astype(np.float64),
    }


def _naka_rushton(x: Array, shape: Array) -> Array:
    c50, exponent = shape[:, :1], np.exp(shape[:, 1:])
    with np.errstate(divide="ignore"):
        return _stack(np.ones(x.shape), special.expit(exponent * (np.log(x) - c50)))


def _contrast_bounds(samples: Samples) -> tuple[Array, Array]:
    return np.log(samples.least_positive / 2), np.log(samples.largest)


def _naka_rushton_bounds(samples: Samples) -> tuple[list[Array], list[Array]]:
    low, high = _contrast_bounds(samples)
    return [low, np.full(low.shape, np.log(0.5))], [high, np.full(low.shape, np.log(10))]


def _super_saturating(x: Array, shape: Array) -> Array:
    c50, exponent, power = shape[:, :1], np.exp(shape[:, 1:2]), np.exp(shape[:, 2:])
    # (c / c50)^n / (1 + (c / c50)^sn), which is no more than 1; c = 0 gives 0
    with np.errstate(divide="ignore"):
        log = exponent * (np.log(x) - c50)
    away = np.where(x > 0, log, 0)
    return _stack(np.ones(x.shape), np.where(x > 0, np.exp(away - np.logaddexp(0, power * away)), 0))


def _super_saturating_report(coefficients: Array, shape: Array) -> Named:
    c50, exponent, power = np.exp(shape).T
    r_max = coefficients[:, 1] * c50 ** (exponent * (power - 1))
    return {"baseline": coefficients[:, 0], "r_max": r_max, "c50": c50, "exponent": exponent, "power": power}


def _super_saturating_bounds(samples: Samples) -> tuple[list[Array], list[Array]]:
    low, high = _naka_rushton_bounds(samples)
    return [*low, np.zeros(low[0].shape)], [*high, np.full(low[0].shape, np.log(3))]


def _size_bounds(samples: Samples) -> tuple[Array, Array]:
    return np.log(samples.least_positive / 2), np.log(samples.largest)


def _difference_of_gaussians(x: Array, shape: Array) -> Array:
    centre = np.exp(shape[:, :1])
    surround = centre * np.exp(shape[:, 1:])
    return _stack(np.ones(x.shape), special.erf(x / centre), -special.erf(x / surround))


def _surround_bounds(samples: Samples) -> tuple[Array, Array]:
    return np.full(samples.step.shape, np.log(1.1)), np.full(samples.step.shape, np.log(10.0))


def _difference_bounds(samples: Samples) -> tuple[list[Array], list[Array]]:
    (low, high), (nearest, farthest) = _size_bounds(samples), _surround_bounds(samples)
    return [low, nearest], [high, farthest]


def _difference_report(coefficients: Array, shape: Array) -> Named:
    baseline, excitation, inhibition = coefficients.T
    centre = np.exp(shape[:, 0])
    surround = np.where(inhibition > 0, centre * np.exp(shape[:, 1]), np.nan)
    per_width = 2 / np.sqrt(np.pi)
    return {
        "baseline": baseline,
        "excitation": per_width * excitation / centre,
        "inhibition": np.where(inhibition > 0, per_width * inhibition / surround, 0),
        "centre_width": centre,
        "surround_width": surround,
    }


def _ratio_of_gaussians(x: Array, shape: Array) -> Array:
    centre, inhibition = np.exp(shape[:, :1]), np.exp(shape[:, 1:2])
    surround = centre * np.exp(shape[:, 2:])
    return _stack(special.erf(x / centre) ** 2 / (1 + inhibition * special.erf(x / surround) ** 2))


def _ratio_bounds(samples: Samples) -> tuple[list[Array], list[Array]]:
    (low, high), (nearest, farthest) = _size_bounds(samples), _surround_bounds(samples)
    return [low, np.full(low.shape, np.log(1e-3)), nearest], [high, np.full(low.shape, np.log(1e2)), farthest]


def _ratio_report(coefficients: Array, shape: Array) -> Named:
    centre, inhibition = np.exp(shape[:, 0]), np.exp(shape[:, 1])
    surround = centre * np.exp(shape[:, 2])
    # L = (w erf(d / w))²
    return {
        "centre_gain": coefficients[:, 0] / centre**2,
        "centre_width": centre,
        "surround_gain": inhibition / surround**2,
        "surround_width": surround,
    }


def _size_derived(model: TuningModel, samples: Samples, coefficients: Array, shape: Array) -> Named:
    x = np.linspace(0, 1, FINE) * samples.largest[:, None]
    curve = model.curve(x, coefficients, shape)
    at, rows = curve.argmax(1), np.arange(len(curve))
    best = np.where(curve[rows, at] > 0, curve[rows, at], np.nan)
    return {"preferred_size": x[rows, at], "suppression": 1 - curve[:, -1] / best}


def _gabor(x: Array, shape: Array) -> Array:
    frequency, centre, width = shape[:, :1], shape[:, 1:2], np.exp(shape[:, 2:])
    away = x - centre
    envelope = np.exp(-(away**2) / (2 * width**2))
    phase = 2 * np.pi * frequency * away
    return _stack(np.ones(x.shape), envelope * np.cos(phase), -envelope * np.sin(phase))


def _gabor_bounds(samples: Samples) -> tuple[list[Array], list[Array]]:
    reach = samples.largest - samples.least
    # up to one cycle in two steps, which is all that samples can tell
    return (
        [0.25 / reach, samples.least, np.log(samples.step / 2)],
        [0.5 / samples.step, samples.largest, np.log(reach)],
    )


def _gabor_report(coefficients: Array, shape: Array) -> Named:
    baseline, even, odd = coefficients.T
    frequency, centre, width = shape.T
    return {
        "baseline": baseline,
        "amplitude": np.hypot(even, odd),
        "phase": np.rad2deg(np.arctan2(odd, even)),
        "frequency": frequency,
        "centre": centre,
        "width": np.exp(width),
    }


def _peak(model: TuningModel, samples: Samples, coefficients: Array, shape: Array) -> Named:
    x = samples.least[:, None] + np.linspace(0, 1, FINE) * (samples.largest - samples.least)[:, None]
    at = model.curve(x, coefficients, shape).argmax(1)
    return {"preferred": x[np.arange(len(x)), at]}


def _models() -> tuple[TuningModel, ...]:
    contrast = ("baseline", "r_max", "c50", "exponent")
    return (
        TuningModel(
            "von_mises", ("baseline", "amplitude"), ("kappa", "preferred"), _von_mises, _von_mises_bounds, (5, 18),
            (True, False), _von_mises_report, _von_mises_derived, 1, {"preferred": 180.0}, 180.0,
        ),
        TuningModel(
            "double_gaussian", ("baseline", "preferred_amplitude", "null_amplitude"), ("width", "preferred"),
            _double_gaussian, _double_gaussian_bounds, (4, 24), (True, False, False), _double_gaussian_report,
            _hwhm, 1, {"preferred": 360.0}, 360.0,
        ),
        TuningModel(
            "log_gaussian", ("baseline", "amplitude"), ("width", "preferred"), _log_gaussian, _log_gaussian_bounds,
            (5, 15), (True, False), _log_gaussian_report, _log_gaussian_derived, 1, positive=True,
        ),
        TuningModel(
            "naka_rushton", contrast[:2], contrast[2:], _naka_rushton, _naka_rushton_bounds, (8, 6), (True, False),
            _plain(contrast, ("c50", "exponent")), _nothing, from_zero=True,
        ),
        TuningModel(
            "super_saturating", contrast[:2], (*contrast[2:], "power"), _super_saturating, _super_saturating_bounds,
            (8, 6, 4), (True, False), _super_saturating_report, _nothing,
            from_zero=True,
        ),
        TuningModel(
            "difference_of_gaussians", ("baseline", "excitation", "inhibition"), ("centre_width", "surround_width"),
            _difference_of_gaussians, _difference_bounds, (10, 6), (True, False, False), _difference_report,
            _size_derived, from_zero=True, limit=20.0,
        ),
        TuningModel(
            "ratio_of_gaussians", ("centre_gain",), ("centre_width", "surround_gain", "surround_width"),
            _ratio_of_gaussians, _ratio_bounds, (8, 6, 5), (False,), _ratio_report, _size_derived, from_zero=True,
            limit=200.0,
        ),
        TuningModel(
            "gabor", ("baseline", "amplitude", "amplitude"), ("frequency", "centre", "width"), _gabor, _gabor_bounds,
            (8, 9, 4), (True, True, True), _gabor_report, _peak, 0, {"phase": 360.0},
        ),
    )  # fmt: skip


MODELS: Final = {model.name: model for model in _models()}
