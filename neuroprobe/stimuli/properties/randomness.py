"""Random integers of a crop, a function of its key and of what they are for."""

from __future__ import annotations

import zlib

from torch import Tensor

from neuroprobe.stimuli.alterations.corruptions import random_bits


def bits_for(purpose: str, keys: Tensor, n: int) -> Tensor:
    """Return `n` 64-bit integers per key (int64, (keys, n)), a function of key, purpose and place.

    Two purposes draw independently from the same keys, and of more integers the first ones are the same.

    Examples
    --------
    >>> import torch
    >>> keys = torch.tensor([3, 5])
    >>> bool((bits_for("shape", keys, 4)[:, :2] == bits_for("shape", keys, 2)).all())
    True
    >>> bool((bits_for("shape", keys, 2) == bits_for("sham", keys, 2)).any())
    False
    """
    # mixed once, so that keys that differ by little do not run through the same integers
    return random_bits(random_bits(keys ^ zlib.crc32(purpose.encode()), 1)[:, 0], n)
