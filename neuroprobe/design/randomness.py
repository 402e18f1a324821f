"""Randomness as a function of (seed, purpose, index), never a state."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import ArrayLike, NDArray


def generator(seed: int, purpose: str, *index: int) -> np.random.Generator:
    """Return the generator that belongs to a seed, a purpose and an index, the same on every machine."""
    entropy = (seed, zlib.crc32(purpose.encode()), *index)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))


def uniforms(seed: int, purpose: str, index: ArrayLike) -> NDArray[np.float64]:
    """Return one uniform number in (0, 1) per index, a function of it as `keys` are."""
    # 52 bits: of more, the largest would be rounded to 1
    return np.asarray(((keys(seed, purpose, index) >> 11) + 0.5) * 2.0**-52)


def keys(seed: int, purpose: str, index: ArrayLike) -> NDArray[np.int64]:
    """Return one random non-negative 63-bit integer per index (SplitMix64; Steele et al. 2014).

    Parameters
    ----------
    seed, purpose
        What the draw belongs to.
    index : array_like of int
        Indices of any shape; the key of an index does not depend on the others.
    """
    start = np.random.SeedSequence((seed, zlib.crc32(purpose.encode()))).generate_state(1, np.uint64)[0]
    with np.errstate(over="ignore"):
        z = start + (np.asarray(index, dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(1)).astype(np.int64)
