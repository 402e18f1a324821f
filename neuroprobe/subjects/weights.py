"""State dicts: read from files without running code, and fitted to a network with every mismatch listed."""

from __future__ import annotations

import hashlib
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from neuroprobe.errors import ReaderError, reason

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
        what = "is a folder" if path.exists() else "no such file"
        raise ReaderError(f"weights {str(path)!r}: {what}; expected a state dict (.pt, .pth, .th, .safetensors)")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            loaded: object = load_file(path)
        else:
            # what torch warns of is for those who develop it
            with warnings.catch_warnings(action="ignore"):
                loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "GLOBAL" in str(error):  # how torch names what a pickle wants to call
            raise ReaderError(
                f"weights {str(path)!r} hold more than tensors, and reading them would run their code; "
                "save `network.state_dict()` instead"
            ) from error
        raise _unreadable(path, "torch did not write them") from error
    except Exception as error:  # whatever else is wrong with a file
        raise _unreadable(path, reason(error)) from error
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


def _unreadable(path: Path, why: str) -> ReaderError:
    return ReaderError(
        f"weights {str(path)!r} cannot be read as a state dict ({why.split('. ')[0]}): the file is damaged, or holds "
        "something else; copy it again, or save `network.state_dict()` by torch or safetensors"
    )


def fit_state_dict(network: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Load a state dict strictly.

    Raises
    ------
    ReaderError
        Listing the missing, unexpected, mis-shaped and mis-typed keys.
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
    typed = [
        f"{name}: file {state[name].dtype}, network {own[name].dtype}"
        for name in own
        if name in state and own[name].is_floating_point() and not state[name].is_floating_point()
    ]
    parts = {"missing": missing, "unexpected": unexpected, "of another shape": shaped, "of another type": typed}
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
