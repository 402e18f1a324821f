"""Sums over images and nothing else: the state of statistics that are means of what is known of each image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor


class PlainSums:
    """Arrays of float64 that are added when states are merged.

    Parameters
    ----------
    arrays : dict of float arrays
        Of any shapes.

    Examples
    --------
    >>> left, right = PlainSums({"n": np.ones(1)}), PlainSums({"n": np.ones(1)})
    >>> left.merge(right)
    >>> left["n"]
    array([2.])
    """

    def __init__(self, arrays: dict[str, NDArray[np.float64]]) -> None:
        self._arrays = arrays

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        return self._arrays[name]

    def add(self, name: str, values: NDArray[np.floating]) -> None:
        """Add to one of the arrays."""
        self._arrays[name] += values

    def merge(self, right: PlainSums) -> None:
        """Add the state of the images to the right, in place."""
        for name, array in self._arrays.items():
            array += right._arrays[name]

    def state(self) -> dict[str, Tensor]:
        """Return the arrays, to be saved."""
        import torch

        return {name: torch.from_numpy(array) for name, array in self._arrays.items()}

    @classmethod
    def from_state(cls, arrays: dict[str, Tensor]) -> PlainSums:
        """Make a state of what `state` returned."""
        return cls({name: array.cpu().numpy() for name, array in arrays.items()})
