"""State dicts: read from files without running code, and fitted to a network with every mismatch listed."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from neuroprobe.errors import ReaderError

WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
PREFIX = "module."
MAX_LISTED = 8


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict from a .pt, .pth, .th or .safetensors file.

    A checkpoint that holds the state dict under one of `WRAPPERS` is opened; a ``module.`` prefix
    (`torch.nn.DataParallel`) is taken off.

    Raises
    ------
    ReaderError
        If the file is missing, broken, or holds anything but tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise ReaderError(f"weights {str(path)!r}: no such file; expected a state dict (.pt, .pth, .th, .safetensors)")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            loaded: object = load_file(path)
        else:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "GLOBAL" in str(error):  # how torch names what a pickle wants to call
            raise ReaderError(
                f"weights {str(path)!r} hold more than tensors, and reading them would run their code; "
                "save `network.state_dict()` instead"
            ) from error
        raise ReaderError(f"weights {str(path)!r} cannot be read as a state dict: torch did not write them") from error
    except Exception as error:  # whatever else is wrong with a file
        reason = str(error) or type(error).__name__
        raise ReaderError(f"weights {str(path)!r} cannot be read as a state dict: {reason}") from error
    for wrapper in WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(wrapper), Mapping):
            loaded = loaded[wrapper]
    if not isinstance(loaded, Mapping) or not loaded or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise ReaderError(
            f"weights {str(path)!r} hold {type(loaded).__name__}, expected a state dict (names to tensors)"
        )
    names = [str(name) for name in loaded]
    cut = len(PREFIX) if all(name.startswith(PREFIX) for name in names) else 0
    return {name[cut:]: tensor for name, tensor in zip(names, loaded.values(), strict=True)}


def fit_state_dict(network: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Load a state dict strictly.

    Raises
    ------
    ReaderError
        Listing the missing, unexpected and mis-shaped keys.
    """
    own = network.state_dict()
    # a counter of batches that old checkpoints lack and that no response depends on
    missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in state if name not in own]
    shaped = [
        f"{name}: file {tuple(state[name].shape)}, network {tuple(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    parts = {"missing": missing, "unexpected": unexpected, "of another shape": shaped}
    if any(parts.values()):
        lines = "; ".join(f"{len(found)} {kind} ({_listed(found)})" for kind, found in parts.items() if found)
        raise ReaderError(
            f"{what} do not fit {type(network).__name__}: {lines}; give the weights of this network, or its network"
        )
    network.load_state_dict(dict(state), strict=False)


def _listed(found: list[str]) -> str:
    more = f", … {len(found) - MAX_LISTED} more" if len(found) > MAX_LISTED else ""
    return ", ".join(found[:MAX_LISTED]) + more


def weights_hash(network: nn.Module) -> str:
    """SHA-256 of names, shapes, types and bytes of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name}\0{tuple(tensor.shape)}\0{tensor.dtype}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
