"""The stimuli that drive each unit most, found in one pass over images (NumPy, no labels).

After Rafegas et al. 2019 (arXiv 1702.00382): of each image and unit one candidate, the largest response of its map and
where that is; of all candidates the N largest (N = 100 in the study). Which of equal responses come first, the study
does not say: here those of the image with the smaller number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuroprobe.errors import ResponseError

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
NOTHING: Final = -np.inf  # of places in a list that no image takes
NO_IMAGE: Final = -1
CROWDED: Final = 2  # lists that candidates fill, on average, above which the largest are found before they are sorted
Candidates = tuple[Array, Integers, Integers, Integers]  # responses, images, rows, columns: (units, candidates) each


def first_argmax(maps: NDArray[np.floating]) -> tuple[NDArray[np.floating], Integers, Integers]:
    """Largest response of each map, and its row and column: of equal ones the first, row by row.

    Parameters
    ----------
    maps : float array (images, units, rows, columns)

    Returns
    -------
    values, rows, columns : arrays (images, units)

    Notes
    -----
    `torch.max` and `torch.argmax` promise no order of equal responses, of which ReLU makes many zeros: on a device take
    the smallest index among those that equal the maximum.

    Examples
    --------
    >>> values, rows, columns = first_argmax(np.array([[[[0.0, 2.0], [2.0, 1.0]]]]))
    >>> values.item(), rows.item(), columns.item()
    (2.0, 0, 1)
    """
    flat = maps.reshape(*maps.shape[:2], -1)
    at = flat.argmax(-1)
    rows, columns = np.divmod(at, maps.shape[3])
    return np.take_along_axis(flat, at[..., None], -1)[..., 0], rows, columns


def relative_weights(values: ArrayLike) -> Array:
    """Responses of top lists (units, N) as shares of the largest, a_j / a_max; NaN where that is not above 0.

    Examples
    --------
    >>> relative_weights([[4.0, 2.0], [0.0, 0.0]])
    array([[1. , 0.5],
           [nan, nan]])
    """
    values = np.asarray(values, dtype=np.float64)
    peak = values[:, :1]
    return np.divide(values, peak, out=np.full(values.shape, np.nan), where=peak > 0)


class TopStimuli:
    """The N largest responses of each unit, each of another image, with the images and the places in their maps.

    The result is the same in whatever order, and in whatever parts, images are shown and states merged. An image that
    is shown again counts once, with its largest response, and of equal ones with the first place, row by row.

    Parameters
    ----------
    n_units : int
    n_kept : int
        N.
    floor : float array (units,), optional
        Responses that N images are known to reach, all of which are shown to some state that is merged with this one:
        smaller ones are left out at once.

    Attributes
    ----------
    values, images, rows, columns : arrays (units, min(N, images shown))
        Largest response first, and of equal ones that of the image with the smallest number. Never NaN. Where a floor
        leaves a unit with fewer images than others, its last values are -inf and their images -1.

    Examples
    --------
    >>> top = TopStimuli(n_units=1, n_kept=2)
    >>> top.update(np.array([[1.0], [3.0], [3.0]]), np.array([7, 9, 8]))
    >>> top.values, top.images
    (array([[3., 3.]]), array([[8, 9]]))
    """

    def __init__(self, n_units: int, n_kept: int, floor: Array | None = None) -> None:
        if n_kept < 1:
            raise ValueError(f"a list of the top stimuli keeps 1 or more, received {n_kept}")
        self.n_kept = n_kept
        self._floor = np.full(n_units, NOTHING) if floor is None else floor
        nothing = np.empty((n_units, 0), dtype=np.int64)
        self.values, self.images, self.rows, self.columns = np.empty((n_units, 0)), nothing, nothing, nothing

    @property
    def reached(self) -> Array:
        """Response that N of the images reach (units,); -inf where fewer were kept."""
        return self.values[:, -1] if self.values.shape[1] == self.n_kept else np.full(len(self.values), NOTHING)

    def update(
        self,
        values: NDArray[np.floating],
        images: Integers,
        rows: NDArray[np.integer] | None = None,
        columns: NDArray[np.integer] | None = None,
    ) -> None:
        """Show images.

        Parameters
        ----------
        values : float array (images, units)
            Largest response of each map, as `first_argmax` finds it.
        images : int array (images,)
            Their numbers.
        rows, columns : int arrays (images, units), optional
            Where that response is; 0 by default, as for units that have no map.

        Raises
        ------
        ResponseError
            If a response is NaN or infinite, before anything is changed.
        """
        shown = np.asarray(values, dtype=np.float64) + 0.0  # which makes 0 of -0
        numbers = np.asarray(images, dtype=np.int64)
        _check_finite(shown, numbers)
        twice = len(np.unique(numbers)) < len(numbers)
        least = np.maximum(self._floor, self.reached)
        reaches = shown >= least
        if not twice and np.count_nonzero(reaches) > CROWDED * self.n_kept * shown.shape[1]:
            reaches &= shown >= np.partition(shown, -self.n_kept, axis=0)[-self.n_kept]
        image, unit = np.nonzero(reaches)
        if not unit.size:
            return
        order = np.lexsort((numbers[image], -shown[image, unit], unit))
        image, unit = image[order], unit[order]
        first = np.searchsorted(unit, np.arange(shown.shape[1]))
        rank = np.arange(len(unit)) - first[unit]
        kept = rank < self.n_kept if not twice else np.ones(len(rank), dtype=np.bool_)
        image, unit, rank = image[kept], unit[kept], rank[kept]
        shape = shown.shape[1], int(rank.max()) + 1
        value, number, row, column = np.full(shape, NOTHING), *(np.full(shape, NO_IMAGE) for _ in range(3))
        value[unit, rank], number[unit, rank] = shown[image, unit], numbers[image]
        for at, place in zip((row, column), (rows, columns), strict=True):
            at[unit, rank] = 0 if place is None else place[image, unit]
        self._take((value, number, row, column), twice)

    def merge(self, right: TopStimuli) -> None:
        """Add the state of other images, or of the same ones, in place."""
        if (self.n_kept, len(self.values)) != (right.n_kept, len(right.values)):
            raise ValueError(
                f"lists of {right.n_kept} stimuli of {len(right.values)} units do not merge with "
                f"lists of {self.n_kept} of {len(self.values)}"
            )
        self._take((right.values, right.images, right.rows, right.columns))

    def _take(self, new: Candidates, twice: bool = False) -> None:
        """Add candidates; `twice` where an image may be among them more than once."""
        own = self.values, self.images, self.rows, self.columns
        again = twice or bool(np.isin(new[1][new[1] != NO_IMAGE], own[1]).any())
        self.values, self.images, self.rows, self.columns = _best(own, new, self.n_kept, again)

    def state(self) -> dict[str, Tensor]:
        """Return the arrays, to be saved."""
        import torch

        arrays = {"values": self.values, "images": self.images, "rows": self.rows, "columns": self.columns}
        arrays["n_kept"] = np.array([self.n_kept])
        return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}

    @classmethod
    def from_state(cls, arrays: dict[str, Tensor]) -> TopStimuli:
        """Make a state of what `state` returned."""
        own = {name: array.cpu().numpy() for name, array in arrays.items()}
        made = cls(len(own["values"]), int(own.pop("n_kept")[0]))
        made.values, made.images, made.rows, made.columns = (
            own[name].copy() for name in ("values", "images", "rows", "columns")
        )
        return made


def _check_finite(values: Array, images: Integers) -> None:
    wrong = ~np.isfinite(values)
    if wrong.any():
        at, unit = np.argwhere(wrong)[0]
        raise ResponseError(
            f"image {images[at]}, unit {unit}: the response is {values[at, unit]}, one of {int(wrong.sum())} that are "
            "no finite numbers and have no rank; leave such images out, or mend the network"
        )


def _best(left: Candidates, right: Candidates, n: int, again: bool) -> Candidates:
    """Return the `n` best of two sets of candidates; `again` where an image may be in both, or twice in one."""
    values, images, rows, columns = (np.concatenate(both, axis=1) for both in zip(left, right, strict=True))
    if again:
        order = np.lexsort((columns, rows, -values, images), axis=-1)
        values, images, rows, columns = (
            np.take_along_axis(array, order, 1) for array in (values, images, rows, columns)
        )
        repeated = np.zeros(values.shape, dtype=np.bool_)
        repeated[:, 1:] = images[:, 1:] == images[:, :-1]
        values[repeated], images[repeated] = NOTHING, NO_IMAGE  # behind all others
    order = np.lexsort((images, -values), axis=-1)[:, :n]
    n_kept = int((np.take_along_axis(images, order, 1) != NO_IMAGE).sum(1).max(initial=0))
    best = (np.take_along_axis(array, order[:, :n_kept], 1) for array in (values, images, rows, columns))
    found: Candidates = next(best), next(best), next(best), next(best)
    return found
