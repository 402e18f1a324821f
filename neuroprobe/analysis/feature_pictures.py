"""Neuron Features as pictures: stretched to the full range of brightness, grey where nothing covers them."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
GREY: Final = 0.5  # of places that nothing covers


def displayed(feature: NDArray[Any], coverage: NDArray[Any] | None = None, *, fading: bool = True) -> Pixels:
    """Neuron Features as they are shown.

    Parameters
    ----------
    feature : float array (…, height, width, rgb)
        In [0, 1]. The darkest number of each becomes 0 and the brightest 1, the three colours alike, so that hues stay.
    coverage : float array (…, height, width), optional
        In [0, 1]. Where nothing covers a feature, it does not count for the stretch, and is grey.
    fading : bool
        Whether a feature fades to grey where little covers it.

    Returns
    -------
    uint8 array (…, height, width, rgb)
        All grey for a feature that is missing, or the same everywhere.

    Examples
    --------
    >>> feature = np.array([[[0.4, 0.5, 0.6], [0.5, 0.5, 0.5]]])
    >>> displayed(feature, np.array([[1.0, 0.0]])).tolist()
    [[[0, 128, 255], [128, 128, 128]]]
    >>> [displayed(feature, np.array([[0.5, 0.0]]), fading=fading)[0, 0].tolist() for fading in (True, False)]
    [[64, 128, 191], [0, 128, 255]]
    """
    weight = np.ones(feature.shape[:-1]) if coverage is None else np.clip(np.nan_to_num(coverage), 0, 1)
    covered = (weight > 0) & np.isfinite(feature).all(-1)
    weight = np.where(covered, weight if fading else 1.0, 0.0)[..., None]
    inside, each = covered[..., None], (-3, -2, -1)
    low = np.where(inside, feature, np.inf).min(each, keepdims=True, initial=np.inf)
    high = np.where(inside, feature, -np.inf).max(each, keepdims=True, initial=-np.inf)
    varies = high > low
    stretched = (np.where(inside, feature, 0.0) - np.where(varies, low, 0)) / np.where(varies, high - low, 1)
    return as_bytes(np.where(inside & varies, stretched, GREY) * weight + GREY * (1 - weight))


def as_bytes(values: NDArray[Any]) -> Pixels:
    """Numbers in [0, 1] as whole ones up to 255; missing ones as grey."""
    return np.rint(255 * np.clip(np.nan_to_num(values, nan=GREY), 0, 1)).astype(np.uint8)
