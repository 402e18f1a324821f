"""Units whose mean rate is a known function of what is shown: the truth of a simulated animal."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from neuroprobe import names
from neuroprobe.design.randomness import generator
from neuroprobe.errors import unknown_name

Array = NDArray[np.float64]
Columns = Mapping[str, NDArray[Any]]
Parameters = dict[str, Array]
HALF: Final = np.log(2)
PIXEL_UNITS: Final = "px"


@dataclass(frozen=True)
class Population:
    """Units, and what is known of them.

    Parameters
    ----------
    rate : callable
        Columns of a table of stimuli, each (stimuli,) → mean rates in spikes/s (stimuli, units), of at least 0.
    spontaneous : float array (units,)
        spikes/s, of blanks and between presentations.
    truth : Dataset
        Parameters over ``unit``, and whatever else is known.

    Examples
    --------
    >>> pair = Population(lambda shown: shown["contrast"][:, None] * [10.0, 20.0], np.zeros(2), xr.Dataset())
    >>> pair.rate({"contrast": np.array([0.0, 0.5])})
    array([[ 0.,  0.],
           [ 5., 10.]])
    """

    rate: Callable[[Columns], Array]
    spontaneous: Array
    truth: xr.Dataset

    @property
    def n_units(self) -> int:
        """Number of units."""
        return len(self.spontaneous)


@dataclass(frozen=True)
class Shape:
    """A curve whose largest value is about 1.

    Attributes
    ----------
    draw : callable
        (random, units) → parameters.
    derive : callable
        Parameters → what follows from them, such as a width.
    value : callable
        (stimuli, parameters) → float array (stimuli, units).
    units : str
        Of stimuli.
    """

    draw: Callable[[np.random.Generator, int], Parameters]
    derive: Callable[[Parameters], Parameters]
    value: Callable[[Array, Parameters], Array]
    units: str = ""


def _von_mises(x: Array, p: Parameters) -> Array:
    return np.asarray(np.exp(p["kappa"] * (np.cos(2 * np.deg2rad(x[:, None] - p["preferred"])) - 1)))


def _double_gaussian(x: Array, p: Parameters) -> Array:
    away = np.mod(x[:, None] - p["preferred"] + 180, 360) - 180
    opposite = 180 - np.abs(away)
    narrow = -1 / (2 * p["width"] ** 2)
    return np.asarray(np.exp(narrow * away**2) + p["null_ratio"] * np.exp(narrow * opposite**2))


def _log_gaussian(x: Array, p: Parameters) -> Array:
    return np.asarray(np.exp(-(np.log2(x[:, None] / p["preferred"]) ** 2) / (2 * p["width"] ** 2)))


def _naka_rushton(x: Array, p: Parameters) -> Array:
    powered = x[:, None] ** p["exponent"]
    return np.asarray(powered / (powered + p["c50"] ** p["exponent"]))


def _draw_von_mises(random: np.random.Generator, n: int) -> Parameters:
    return {"preferred": random.uniform(0, 180, n), "kappa": np.exp(random.uniform(0, np.log(6), n))}


def _hwhm_of_kappa(p: Parameters) -> Parameters:
    # a curve that is wider never falls to half its height
    kappa = np.where(p["kappa"] > HALF / 2, p["kappa"], np.nan)
    return {"hwhm": np.rad2deg(0.5 * np.arccos(1 - HALF / kappa))}


def _draw_double_gaussian(random: np.random.Generator, n: int) -> Parameters:
    width = random.uniform(18, 35, n)
    return {"preferred": random.uniform(0, 360, n), "width": width, "null_ratio": random.uniform(0, 0.8, n)}


def _draw_log_gaussian(random: np.random.Generator, n: int) -> Parameters:
    return {"preferred": np.exp2(random.uniform(-1, 2, n)), "width": random.uniform(0.6, 1.4, n)}


def _draw_naka_rushton(random: np.random.Generator, n: int) -> Parameters:
    return {"c50": np.exp(random.uniform(np.log(0.1), np.log(0.5), n)), "exponent": random.uniform(1.5, 4, n)}


SHAPES: Final = {
    "von_mises": Shape(_draw_von_mises, _hwhm_of_kappa, _von_mises, "deg"),
    "double_gaussian": Shape(
        _draw_double_gaussian, lambda p: {"hwhm": np.sqrt(2 * HALF) * p["width"]}, _double_gaussian, "deg"
    ),
    "log_gaussian": Shape(
        _draw_log_gaussian, lambda p: {"bandwidth": 2 * np.sqrt(2 * HALF) * p["width"]}, _log_gaussian
    ),
    "naka_rushton": Shape(_draw_naka_rushton, lambda _: {}, _naka_rushton),
}
IN_DEGREES: Final = {"preferred", "hwhm", "width"}


def tuned_units(
    n_units: int,
    tuning: Mapping[str, str],
    *,
    seed: int = 0,
    amplitude: tuple[float, float] = (10.0, 60.0),
    spontaneous: tuple[float, float] = (1.0, 10.0),
    given: Mapping[str, ArrayLike] | None = None,
) -> Population:
    """Units tuned to one or several factors: spontaneous rate + amplitude × product of a curve of each factor.

    Parameters
    ----------
    n_units : int
    tuning : dict of str
        Factor, a column of the table of stimuli → the curve, one of `SHAPES`: ``von_mises`` (orientation in deg),
        ``double_gaussian`` (direction in deg), ``log_gaussian`` (frequency), ``naka_rushton`` (contrast from 0 to 1).
    seed : int
        Parameters are a function of it.
    amplitude, spontaneous : (float, float)
        spikes/s; lowest and highest of rates, which are drawn uniformly.
    given : dict of array_like, optional
        Values for some parameters instead of drawn ones, by the names that they have in `Population.truth`.

    Returns
    -------
    Population
        `truth` holds ``spontaneous``, ``amplitude`` and each curve's parameters: ``orientation_preferred``,
        ``orientation_kappa``, ``orientation_hwhm``, …

    Raises
    ------
    ValueError
        If a curve or a parameter does not exist.

    Examples
    --------
    >>> one = {"spontaneous": 2, "amplitude": 20, "orientation_preferred": 90, "orientation_kappa": 2}
    >>> unit = tuned_units(1, {"orientation": "von_mises"}, given=one)
    >>> unit.rate({"orientation": np.array([0.0, 90.0])}).round(2).ravel()
    array([ 2.37, 22.  ])
    """
    for name in tuning.values():
        if name not in SHAPES:
            raise ValueError(unknown_name("curve", name, SHAPES))
    random = generator(seed, "simulated tuning")
    parameters = {
        "spontaneous": random.uniform(*spontaneous, n_units),
        "amplitude": random.uniform(*amplitude, n_units),
    }
    for factor, name in tuning.items():
        drawn = SHAPES[name].draw(random, n_units)
        parameters |= {f"{factor}_{key}": value for key, value in drawn.items()}
    for key, values in (given or {}).items():
        if key not in parameters:
            raise ValueError(unknown_name("parameter", key, parameters))
        parameters[key] = np.broadcast_to(np.asarray(values, dtype=np.float64), (n_units,)).copy()
    truth = {key: (names.UNIT, parameters[key], {"units": "spikes/s"}) for key in ("spontaneous", "amplitude")}
    of_factor = {}
    for factor, name in tuning.items():
        shape, start = SHAPES[name], f"{factor}_"
        own = {key.removeprefix(start): value for key, value in parameters.items() if key.startswith(start)}
        of_factor[factor] = (shape, own)
        for key, value in (own | shape.derive(own)).items():
            truth[start + key] = (names.UNIT, value, {"units": shape.units if key in IN_DEGREES else ""})

    def rate(shown: Columns) -> Array:
        tuned = parameters["amplitude"]
        for factor, (shape, own) in of_factor.items():
            tuned = tuned * shape.value(np.asarray(shown[factor], dtype=np.float64), own)
        return np.asarray(parameters["spontaneous"] + tuned)

    return Population(rate, parameters["spontaneous"], xr.Dataset(truth, attrs={"tuning": ", ".join(tuning.values())}))


def gabor_units(
    images: ArrayLike,
    n_units: int,
    *,
    image_ids: Sequence[str] | None = None,
    seed: int = 0,
    share_complex: float = 0.5,
    amplitude: tuple[float, float] = (20.0, 80.0),
    spontaneous: tuple[float, float] = (1.0, 10.0),
) -> Population:
    """Simple and complex cells with Gabor receptive fields, which look at images.

    Parameters
    ----------
    images : array_like (images, height, width) or (images, height, width, 3)
        Their luminance, or colours of which it is the mean.
    n_units : int
    image_ids : sequence of str, optional
        What the column ``image_id`` calls them; by default their numbers.
    seed : int
    share_complex : float
        Share of units that respond to the energy in a pair of filters in quadrature; the others to what one filter
        gives above 0.
    amplitude, spontaneous : (float, float)
        spikes/s; of the response to the image that drives a unit most, above the spontaneous rate.

    Returns
    -------
    Population
        `truth` holds the receptive field of each unit: ``field_y``, ``field_x``, ``field_width`` (standard deviation)
        in px, ``frequency`` in cycles/px, ``orientation`` of its bars in deg, ``phase`` in deg, ``complex`` (0 or 1).

    Raises
    ------
    ValueError
        If images have another shape, or there is not one name for each.
    """
    luminance = np.asarray(images, dtype=np.float64)
    if luminance.ndim == 4:
        luminance = luminance.mean(-1)
    if luminance.ndim != 3 or not luminance.size:
        raise ValueError(f"images are (images, height, width[, 3]), received an array {np.shape(images)}")
    ids = [str(one) for one in (range(len(luminance)) if image_ids is None else image_ids)]
    if len(set(ids)) != len(luminance):
        raise ValueError(f"each of {len(luminance)} images has a name of its own, received {len(set(ids))} names")
    random = generator(seed, "simulated receptive fields")
    height, width = luminance.shape[1:]
    field = {
        "field_y": random.uniform(0.25, 0.75, n_units) * height,
        "field_x": random.uniform(0.25, 0.75, n_units) * width,
        "field_width": random.uniform(0.06, 0.15, n_units) * min(height, width),
        "orientation": random.uniform(0, 180, n_units),
        "phase": random.uniform(0, 360, n_units),
        "complex": (random.random(n_units) < share_complex).astype(np.float64),
    }
    # 1.5 to 3 standard deviations to a cycle: bandwidths of 1 to 2 octaves
    field["frequency"] = 1 / (random.uniform(1.5, 3, n_units) * field["field_width"])
    flat = luminance.reshape(len(luminance), -1)
    drive = _drive(flat - flat.mean(1, keepdims=True), field, (height, width))
    peak = drive.max(0)
    height_of = random.uniform(*amplitude, n_units) / np.where(peak > 0, peak, 1)
    rest = random.uniform(*spontaneous, n_units)
    rates = rest + height_of * drive
    place = {name: row for row, name in enumerate(ids)}

    def rate(shown: Columns) -> Array:
        return np.asarray(rates[[place[str(name)] for name in shown[names.IMAGE_ID]]])

    in_units = {"orientation": "deg", "phase": "deg", "frequency": "px-1", "complex": ""}
    told = {key: (names.UNIT, value, {"units": in_units.get(key, PIXEL_UNITS)}) for key, value in field.items()}
    told["spontaneous"] = (names.UNIT, rest, {"units": "spikes/s"})
    return Population(rate, rest, xr.Dataset(told, attrs={"tuning": "gabor"}))


def gabor_filters(field: Mapping[str, Array], size: tuple[int, int], quadrature: bool = False) -> Array:
    """Filters of norm 1 without a mean (units, height, width) of the fields that `gabor_units` tells.

    Parameters
    ----------
    field : dict of float arrays (units,)
    size : (int, int)
        Height and width of images in px.
    quadrature : bool
        Whether the phase is a quarter of a cycle on.
    """
    y, x = np.mgrid[: size[0], : size[1]]
    one = {key: np.asarray(value)[:, None, None] for key, value in field.items()}
    dy, dx = y - one["field_y"], x - one["field_x"]
    angle = np.deg2rad(one["orientation"])
    # y goes down: bars of 0° are horizontal, those of 45° rise to the right
    across = dx * np.sin(angle) + dy * np.cos(angle)
    envelope = np.exp(-(dy**2 + dx**2) / (2 * one["field_width"] ** 2))
    phase = np.deg2rad(one["phase"]) + (np.pi / 2 if quadrature else 0)
    filters = envelope * np.cos(2 * np.pi * one["frequency"] * across + phase)
    filters -= envelope * (filters.sum((1, 2)) / envelope.sum((1, 2)))[:, None, None]
    return np.asarray(filters / np.sqrt((filters**2).sum((1, 2), keepdims=True)))


def _drive(images: Array, field: Mapping[str, Array], size: tuple[int, int]) -> Array:
    """What filters give (images, units): above 0, or of a pair the square root of the energy."""
    even, odd = (
        images @ gabor_filters(field, size, quadrature).reshape(len(field["phase"]), -1).T
        for quadrature in (False, True)
    )
    return np.where(field["complex"] > 0, np.hypot(even, odd), np.maximum(even, 0))


def factorial_table(levels: Mapping[str, Sequence[Any] | NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return columns of a table with every combination of levels, the last factor varying fastest.

    Examples
    --------
    >>> factorial_table({"orientation": [0.0, 90.0], "contrast": [0.1, 1.0]})["contrast"]
    array([0.1, 1. , 0.1, 1. ])
    """
    rows = list(itertools.product(*(list(values) for values in levels.values())))
    return {name: np.array([row[at] for row in rows]) for at, name in enumerate(levels)}
