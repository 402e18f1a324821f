"""Neuron Features: weighted means of what a unit's top stimuli show inside its receptive field (NumPy, no labels).

After Rafegas et al. 2019 (arXiv 1702.00382): NF = Σ w_j I_j / Σ w_j over the crops I_j of the top stimuli, with their
relative responses w_j. Receptive fields stick out of images; four policies say what is there. Features are in the units
of the images; only pictures of them are stretched in contrast (`stretched`).

Sums are of 32 bits: of crops in [0, 1] and 100 of them to a unit, a feature is right to 1e-5, and the 512 units of the
last convolution of VGG-16, with fields of 196 px, take 315 MB.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Array = NDArray[np.float32]
Integers = NDArray[np.int64]
Policy = Literal["masked", "fill_gray", "pad_black", "resize"]
GREY: Final = 127 / 255
LEAST: Final = 0.1  # share of the weight that has to cover a pixel
N_AT_ONCE: Final = 1 << 18  # numbers of crops


@dataclass(frozen=True)
class NeuronFeature:
    """Neuron Features of units.

    Attributes
    ----------
    feature : float32 array (units, height, width, 3)
        RGB in [0, 1]; NaN for units that do not respond.
    coverage : float32 array (units, height, width)
        Share of the weight whose crops cover a pixel, in [0, 1]; NaN for units that do not respond.
    """

    feature: Array
    coverage: Array


class FeatureAccumulator:
    """Sums of weighted crops, each unit on a canvas of the size of the receptive field.

    Parameters
    ----------
    n_units : int
    height, width : int
        Of the receptive field, in pixels.
    policy : {"masked", "fill_gray", "pad_black", "resize"}
        What is where a receptive field sticks out of an image. ``masked``: nothing; the mean of a pixel is over the
        crops that cover it, and is grey where these have no more than a share `least` of the weight. ``fill_gray``:
        grey. ``pad_black``: black. ``resize``: nothing sticks out, as each crop is stretched over the whole canvas.
    least : float
        Of ``masked``.

    Examples
    --------
    >>> sums = FeatureAccumulator(n_units=1, height=1, width=2)
    >>> sums.update(np.full((1, 1, 2, 3), 0.8), np.array([0]), np.array([1.0]))
    >>> sums.update(np.full((1, 1, 1, 3), 0.2), np.array([0]), np.array([0.5]), offset=(0, 1))
    >>> found = sums.finalize()
    >>> found.feature[0, 0, :, 0].round(3), found.coverage[0, 0].round(3)
    (array([0.8, 0.6], dtype=float32), array([0.667, 1.   ], dtype=float32))
    """

    def __init__(self, n_units: int, height: int, width: int, policy: Policy = "masked", least: float = LEAST) -> None:
        if policy not in get_args(Policy):
            raise ValueError(f"the policy is {policy!r}, expected one of {', '.join(get_args(Policy))}")
        self.policy, self.least = policy, least
        self._sum = np.zeros((n_units, height, width, 3), dtype=np.float32)
        self._covered = np.zeros((n_units, height, width), dtype=np.float32)
        self._total = np.zeros(n_units)

    def update(
        self,
        crops: NDArray[np.floating],
        units: NDArray[np.integer],
        weights: NDArray[np.floating],
        offset: tuple[int, int] = (0, 0),
        numbers: NDArray[np.integer] | None = None,
    ) -> None:
        """Add crops of one size, at one place of the canvas.

        Parameters
        ----------
        crops : float array (n, h, w, 3)
            RGB in [0, 1], clipped at the image.
        units : int array (n,)
            Unit that each crop is of; one may have several.
        weights : float array (n,)
            As `relative_weights` finds them. A crop with a negative weight, or with NaN, does not count.
        offset : tuple of int
            Row and column of the canvas where the first pixel of the crops is; without a meaning for ``resize``.
        numbers : int array, optional
            Where crops are of several units each: which crop each entry of `units` and `weights` is about.

        Raises
        ------
        ValueError
            If crops do not lie on the canvas, or a unit does not exist.
        """
        n_units, height, width = self._covered.shape
        if self.policy == "resize":
            crops, offset = _resized(crops, height, width), (0, 0)
        (top, left), (h, w) = offset, crops.shape[1:3]
        if top < 0 or left < 0 or top + h > height or left + w > width:
            raise ValueError(
                f"crops of {h}×{w} px at row {top} and column {left} do not lie on the canvas of {height}×{width}; "
                "clip receptive fields at the image, and give the place of what is left"
            )
        if len(units) and not 0 <= units.min() <= units.max() < n_units:
            raise ValueError(f"units are from 0 to {n_units - 1}, received {units.min()} to {units.max()}")
        weight = np.where(weights > 0, weights, 0)
        self._total += np.bincount(units, weight, n_units)
        # a product with a sparse matrix adds the crops of each unit, without weighted copies of them
        own, row = np.unique(units, return_inverse=True)
        n = len(crops)
        entries = (weight.astype(np.float32), (row, np.arange(n) if numbers is None else numbers))
        by_unit = sparse.csr_array(entries, shape=(len(own), n))
        columns = slice(3 * left, 3 * (left + w))
        sums = self._sum.reshape(n_units, height, 3 * width)
        step = max(1, N_AT_ONCE // (3 * w * max(1, n)))
        for first in range(0, h, step):  # a few rows at a time stay in the processor's cache
            rows = np.ascontiguousarray(crops[:, first : first + step], dtype=np.float32)
            n_rows = rows.shape[1]
            added = by_unit @ rows.reshape(n, n_rows * 3 * w)
            sums[own, top + first : top + first + n_rows, columns] += added.reshape(len(own), n_rows, 3 * w)
        self._covered[own, top : top + h, left : left + w] += by_unit.sum(1)[:, None, None]

    def merge(self, right: FeatureAccumulator) -> None:
        """Add the sums of other crops of the same units, in place."""
        if (self._sum.shape, self.policy) != (right._sum.shape, right.policy):
            raise ValueError(
                f"sums on canvases {right._covered.shape} by {right.policy!r} do not merge with "
                f"{self._covered.shape} by {self.policy!r}"
            )
        self._sum += right._sum
        self._covered += right._covered
        self._total += right._total

    def finalize(self) -> NeuronFeature:
        """Divide the sums by the weights."""
        total = np.where(self._total > 0, self._total, np.nan).astype(np.float32)[:, None, None]
        coverage = np.minimum(self._covered / total, 1)
        if self.policy != "masked":
            feature = self._sum / total[..., None]
            if self.policy == "fill_gray":
                feature += (GREY * (1 - coverage))[..., None]
            return NeuronFeature(feature, coverage)
        shown = coverage > self.least
        feature = np.full_like(self._sum, GREY)
        np.divide(self._sum, self._covered[..., None], out=feature, where=shown[..., None])
        feature[np.isnan(total[:, 0, 0])] = np.nan
        return NeuronFeature(feature, coverage)


def _resized(crops: NDArray[np.floating], height: int, width: int) -> NDArray[np.floating]:
    """Stretch crops (n, h, w, 3) to a size, bilinearly between the centres of pixels."""
    for axis, size in ((1, height), (2, width)):
        old = crops.shape[axis]
        if old == size:
            continue
        at = np.clip((np.arange(size) + 0.5) * old / size - 0.5, 0, old - 1)
        lower = np.floor(at).astype(np.int64)
        upper = np.minimum(lower + 1, old - 1)
        share = (at - lower).astype(np.float32).reshape(-1, 1, 1) if axis == 1 else (at - lower).reshape(-1, 1)
        crops = np.take(crops, lower, axis) * (1 - share) + np.take(crops, upper, axis) * share
    return crops


def stretched(feature: NDArray[np.floating]) -> NDArray[np.floating]:
    """Stretch the contrast of each unit's feature to [0, 1], for display.

    Parameters
    ----------
    feature : float array (units, height, width, 3)

    Returns
    -------
    float array (units, height, width, 3)
        Linear, and the same for all pixels and channels, so that grey stays grey. A feature of one value is left as it
        is; NaN stays NaN.

    Examples
    --------
    >>> stretched(np.array([[[[0.4, 0.5, 0.6]]], [[[0.5, 0.5, 0.5]]]])).round(3).tolist()
    [[[[0.0, 0.5, 1.0]]], [[[0.5, 0.5, 0.5]]]]
    """
    low, high = (bound(axis=(1, 2, 3), keepdims=True) for bound in (feature.min, feature.max))
    return np.divide(feature - low, high - low, out=feature.copy(), where=high > low)
