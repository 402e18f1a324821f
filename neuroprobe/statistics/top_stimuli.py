"""The stimuli that drive each unit most, found in one pass over images (NumPy, no labels).

After Rafegas et al. 2019 (arXiv 1702.00382): of each image and unit one candidate, the largest response of its map and
where that is; of all candidates the N largest (N = 100 in the study). Which of equal responses come first, the study
does not say: here those of the image with the smaller number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuroprobe.errors import ResponseError

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
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

    Attributes
    ----------
    values, images, rows, columns : arrays (units, min(N, images shown))
        Largest response first, and of equal ones that of the image with the smallest number. Never NaN.

    Examples
    --------
    >>> top = TopStimuli(n_units=1, n_kept=2)
    >>> top.update(np.array([[1.0], [3.0], [3.0]]), np.array([7, 9, 8]))
    >>> top.values, top.images
    (array([[3., 3.]]), array([[8, 9]]))
    """

    def __init__(self, n_units: int, n_kept: int) -> None:
        if n_kept < 1:
            raise ValueError(f"a list of the top stimuli keeps 1 or more, received {n_kept}")
        self.n_kept = n_kept
        nothing = np.empty((n_units, 0), dtype=np.int64)
        self.values, self.images, self.rows, self.columns = np.empty((n_units, 0)), nothing, nothing, nothing

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
        _check_finite(shown, images)
        units, wanted = np.arange(shown.shape[1]), np.arange(len(shown))
        if self.values.shape[1] == self.n_kept:  # most responses come after the last one of the list
            reached = shown >= self.values[:, -1]
            units, wanted = np.flatnonzero(reached.any(0)), np.flatnonzero(reached.any(1))
        if not units.size or not wanted.size:
            return
        part = np.ix_(wanted, units)
        number = np.asarray(images, dtype=np.int64)[wanted]
        shape = len(units), len(number)
        row, column = (
            np.zeros(shape, np.int64) if place is None else place[part].T.astype(np.int64) for place in (rows, columns)
        )
        new = shown[part].T, np.broadcast_to(number, shape), row, column
        old = self.values[units], self.images[units], self.rows[units], self.columns[units]
        again = len(np.unique(number)) < len(number) or bool(np.isin(number, old[1]).any())
        found = _best(old, new, self.n_kept, again)
        if len(units) == len(self.values):
            self.values, self.images, self.rows, self.columns = found
        else:
            self.values[units], self.images[units], self.rows[units], self.columns[units] = found

    def merge(self, right: TopStimuli) -> None:
        """Add the state of other images, or of the same ones, in place."""
        if (self.n_kept, len(self.values)) != (right.n_kept, len(right.values)):
            raise ValueError(
                f"lists of {right.n_kept} stimuli of {len(right.values)} units do not merge with "
                f"lists of {self.n_kept} of {len(self.values)}"
            )
        again = bool(np.isin(right.images, self.images).any())
        own, other = ((state.values, state.images, state.rows, state.columns) for state in (self, right))
        self.values, self.images, self.rows, self.columns = _best(own, other, self.n_kept, again)

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
        values[repeated] = -np.inf  # behind all others
        # lists that are not full hold all images, so that this is the same number for all units
        n = min(n, values.shape[1] - int(repeated.sum(1).max(initial=0)))
    order = np.lexsort((images, -values), axis=-1)[:, :n]
    best = (np.take_along_axis(array, order, 1) for array in (values, images, rows, columns))
    found: Candidates = next(best), next(best), next(best), next(best)
    return found
