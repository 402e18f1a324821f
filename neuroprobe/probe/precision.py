"""The precision of forward passes: float32 in full, unless a protocol asks for fewer digits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch

from neuroprobe.errors import PlanError

FLOAT32: Final = "float32"
TF32: Final = "tf32"
BFLOAT16: Final = "bfloat16"
AMPERE: Final = (8, 0)  # compute capability; earlier devices have neither TF32 nor bfloat16


@contextmanager
def full_float32() -> Iterator[None]:
    """Keep CUDA from rounding float32 products to TF32, which would look like noise in every total index."""
    with _tf32(False):
        yield


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32
    cudnn.allow_tf32 = matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32 = before


@contextmanager
def forward_precision(precision: str, device: torch.device) -> Iterator[None]:
    """Run what is within in a precision, as a protocol calls it.

    Examples
    --------
    >>> layer, image = torch.nn.Linear(2, 2), torch.zeros(1, 2)
    >>> with forward_precision("bfloat16", image.device):
    ...     layer(image).dtype
    torch.bfloat16
    """
    with _tf32(precision == TF32), torch.autocast(device.type, torch.bfloat16, enabled=precision == BFLOAT16):
        yield


def require_precision(precision: str, device: torch.device) -> None:
    """Refuse a precision that a device does not have.

    Raises
    ------
    PlanError
    """
    if precision == FLOAT32 or (device.type == "cpu" and precision == BFLOAT16):
        return
    if device.type != "cuda":
        raise PlanError(f"precision: {precision} is one of CUDA devices, and this run is on {device}: leave it out")
    if torch.cuda.get_device_capability(device) < AMPERE:
        raise PlanError(
            f"precision: {precision} takes a CUDA device of compute capability 8.0 or later, received "
            f"{torch.cuda.get_device_name(device)}: leave it out"
        )
