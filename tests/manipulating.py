"""A short way of manipulating crops."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from neuroprobe.stimuli.properties import MANIPULATIONS


def manipulated(name: str, crops: Tensor, **options: Any) -> dict[str, Tensor]:
    """Members of a manipulation by their labels, for keys 0, 1, …"""
    thing = MANIPULATIONS[name]
    chosen = thing.options(**options)
    altered = thing.alter(crops, chosen, torch.arange(len(crops)))
    return dict(zip(thing.members(chosen), altered, strict=True))
