"""The 11 basic colour names of pixels (NumPy).

Rafegas et al. (2019) name pixels by the fuzzy sets of Benavente, Vanrell & Baldrich (JOSA A 25:2582, 2008), whose table
of parameters is not in this library. The model of here, ``survey``, is our own: a name belongs to a colour as far as
people gave it to colours nearby. Its exemplars in CIELab are 509 colours of the survey of xkcd, and 20 greys
with the names of ISCC-NBS (Kelly & Judd, 1976), black below L* 25 and white from L* 85; each counts by a Gaussian of
the distance, with a width of 7 (ΔE 1976), at which the names of exemplars that are left out are most likely. Of these
92 % are found again; most others are neighbours, as pink and purple are.

Any other model will do as a `ColourModel`, one of a table as `model_of_table` makes it: of the 32×32×32 colours of van
de Weijer et al. (2009), say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuroprobe.statistics.colour_survey import SURVEY

Array = NDArray[np.float64]
COLOUR_NAMES: Final = (
    "red",
    "orange",
    "brown",
    "yellow",
    "green",
    "blue",
    "purple",
    "pink",
    "black",
    "grey",
    "white",
)
WIDTH: Final = 7.0  # of the Gaussian around an exemplar
N_LEVELS: Final = 64  # per channel, of the table for images
N_AT_ONCE: Final = 1 << 14
TO_XYZ: Final = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


@dataclass(frozen=True)
class ColourModel:
    """A model of colour names.

    Attributes
    ----------
    name : str
    source : str
        Where its numbers come from.
    memberships : callable
        From RGB (n, 3) in [0, 1] to how much each colour belongs to each of `COLOUR_NAMES`: (n, 11), 0 or more, and not
        0 for all of them.
    """

    name: str
    source: str
    memberships: Callable[[Array], Array]


def lab_of(rgb: ArrayLike) -> Array:
    """CIELab of sRGB (…, 3) in [0, 1], by IEC 61966-2-1, with D65; greys have a* = b* = 0.

    Examples
    --------
    >>> lab_of([[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]]).round(1)
    array([[ 53.2,  80.1,  67.2],
           [100. ,   0. ,   0. ]])
    """
    rgb = np.asarray(rgb, dtype=np.float64)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((np.maximum(rgb, 0) + 0.055) / 1.055) ** 2.4)
    xyz = linear @ (TO_XYZ / TO_XYZ.sum(1, keepdims=True)).T
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = (f[..., axis] for axis in range(3))
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def _exemplars() -> tuple[Array, NDArray[np.int64]]:
    """Exemplars in CIELab (n, 3), and the numbers of their names (n,)."""
    digits = {name: bytes.fromhex(SURVEY[name]) for name in COLOUR_NAMES}
    rgb = np.frombuffer(b"".join(digits.values()), dtype=np.uint8).reshape(-1, 3) / 255
    named = np.repeat(np.arange(len(COLOUR_NAMES)), [len(own) // 3 for own in digits.values()])
    light = np.arange(2.5, 100, 5)
    greys = np.stack([light, np.zeros(len(light)), np.zeros(len(light))], 1)
    black, grey, white = (COLOUR_NAMES.index(name) for name in ("black", "grey", "white"))
    named_grey = np.where(light < 25, black, np.where(light < 85, grey, white))
    return np.concatenate([lab_of(rgb), greys]), np.concatenate([named, named_grey])


def _by_exemplars(rgb: Array) -> Array:
    exemplars, named = _exemplars()
    lab = lab_of(rgb)
    squares = (lab**2).sum(1)[:, None] - 2 * lab @ exemplars.T + (exemplars**2).sum(1)
    near = np.exp((squares.min(1, keepdims=True) - squares) / (2 * WIDTH**2))
    return near @ np.eye(len(COLOUR_NAMES))[named]


SURVEY_MODEL: Final = ColourModel("survey", "colours of the xkcd survey (CC0), greys of ISCC-NBS", _by_exemplars)


def model_of_table(name: str, source: str, table: NDArray[np.floating]) -> ColourModel:
    """Make a model of memberships on a grid of RGB.

    Parameters
    ----------
    name, source : str
    table : float array (levels, levels, levels, 11)
        By red, green, blue and name, in the order of `COLOUR_NAMES`; cell i of a channel holds i to i + 1, divided by
        the number of levels.

    Raises
    ------
    ValueError
        If the table is of another shape, or holds no memberships.
    """
    table = np.asarray(table, dtype=np.float64)
    n = len(table)
    if table.shape != (n, n, n, len(COLOUR_NAMES)):
        raise ValueError(f"a table of colour names is (levels, levels, levels, 11), received {table.shape}")
    if not ((table >= 0) & (table < np.inf)).all() or not (table.sum(-1) > 0).all():
        raise ValueError("memberships of colour names are finite, 0 or more, and not 0 for all names of a colour")
    return ColourModel(name, source, lambda rgb: table[tuple(_level(rgb, n).T)])


def _level(rgb: NDArray[np.floating], n: int) -> NDArray[np.int64]:
    return np.clip((rgb * n).astype(np.int64), 0, n - 1)


def memberships(rgb: ArrayLike, model: ColourModel = SURVEY_MODEL) -> Array:
    """How much colours belong to each name.

    Parameters
    ----------
    rgb : float array (…, 3)
        In [0, 1].
    model : ColourModel

    Returns
    -------
    float array (…, 11)
        In the order of `COLOUR_NAMES`; they add up to 1.

    Examples
    --------
    >>> found = memberships([1.0, 0.6, 0.0])
    >>> COLOUR_NAMES[int(found.argmax())], float(found.sum().round(6))
    ('orange', 1.0)
    """
    rgb = np.asarray(rgb, dtype=np.float64)
    flat = rgb.reshape(-1, 3)
    found = np.empty((len(flat), len(COLOUR_NAMES)))
    for start in range(0, len(flat), N_AT_ONCE):
        found[start : start + N_AT_ONCE] = model.memberships(flat[start : start + N_AT_ONCE])
    found /= found.sum(1, keepdims=True)
    return found.reshape(*rgb.shape[:-1], len(COLOUR_NAMES))


def name_pixels(rgb: NDArray[np.floating], model: ColourModel = SURVEY_MODEL) -> NDArray[np.int8]:
    """Name the pixels of images.

    Parameters
    ----------
    rgb : float array (…, 3)
        In [0, 1].
    model : ColourModel

    Returns
    -------
    int8 array (…)
        Index of the name in `COLOUR_NAMES` to which a colour belongs most; of equal ones the first.

    Notes
    -----
    Read from a table of 64×64×64 colours that the first call computes, in two seconds. A colour gets the name of the
    middle of its cell, from which it is 1/128 per channel at most; where that is another name than its own, in 1.5 % of
    random colours, it is near the border of the two. `memberships` is exact.

    Examples
    --------
    >>> [COLOUR_NAMES[index] for index in name_pixels(np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.4, 0.25, 0.1]]))]
    ['red', 'grey', 'brown']
    """
    red, green, blue = (_level(rgb[..., channel], N_LEVELS) for channel in range(3))
    return _name_table(model)[(red * N_LEVELS + green) * N_LEVELS + blue]


@lru_cache(maxsize=4)
def _name_table(model: ColourModel) -> NDArray[np.int8]:
    """Names of a grid of colours (levels³,), by red, green and blue."""
    middle = (np.arange(N_LEVELS) + 0.5) / N_LEVELS
    grid = np.stack(np.meshgrid(middle, middle, middle, indexing="ij"), -1)
    return memberships(grid, model).argmax(-1).astype(np.int8).ravel()
