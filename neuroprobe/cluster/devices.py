"""Which CUDA device each worker has: one of its own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

from neuroprobe.errors import PlanError

VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
RESOURCE: Final = "CUDA"  # dask's name for what a worker with a device has one of, and each task takes
MIG: Final = "MIG-"  # slices of a device are called so, and share its number


def device_names(n: int, environment: Mapping[str, str] | None = None) -> list[str]:
    """Name the CUDA devices that torch sees, as `CUDA_VISIBLE_DEVICES` takes them.

    Parameters
    ----------
    n : int
        How many torch sees.
    environment : mapping, optional
        By default that of this process.

    Examples
    --------
    >>> device_names(2, {})
    ['0', '1']
    >>> device_names(2, {"CUDA_VISIBLE_DEVICES": "GPU-8932f937, 3"})
    ['GPU-8932f937', '3']
    """
    given = (os.environ if environment is None else environment).get(VISIBLE)
    if given is None:
        return [str(number) for number in range(n)]
    # behind a name that is none, torch sees no more
    return [name.strip() for name in given.split(",")][:n]


def placed(n_workers: int, device: Any) -> list[str]:
    """Give each worker of this machine a CUDA device of its own, by its name; none on a CPU.

    Parameters
    ----------
    device : torch.device
        What the protocol runs on.

    Raises
    ------
    PlanError
        If there are fewer devices than workers, or the protocol names one of several.
    """
    if device.type != "cuda":
        return []
    import torch

    names = device_names(torch.cuda.device_count())
    if device.index is not None:
        if n_workers > 1:
            raise PlanError(
                f"workers: received {n_workers}, and the protocol names one CUDA device ({device}): give "
                "`device: cuda`, so that each worker has one of its own"
            )
        return [names[device.index]]
    if n_workers > len(names):
        raise PlanError(
            f"workers: received {n_workers}, expected 1 to {len(names)}, the CUDA devices that torch sees, as each "
            "worker takes one: give fewer workers, or `device: cpu`"
        )
    return names[:n_workers]


def identity(device: Any) -> str:
    """Say which of all devices one is, whatever its number is here; empty for a CPU.

    Parameters
    ----------
    device : torch.device
    """
    if device.type != "cuda":
        return ""
    import torch

    number = torch.cuda.current_device() if device.index is None else device.index
    name = device_names(torch.cuda.device_count())[number]
    return name if name.startswith(MIG) else f"GPU-{torch.cuda.get_device_properties(number).uuid}"


def require_own(identities: Mapping[str, str]) -> None:
    """Refuse workers that share a CUDA device, or of which some have none.

    Parameters
    ----------
    identities : dict of str
        Of the devices of workers, by their addresses.

    Raises
    ------
    PlanError
    """
    remedy = (
        f"start one worker for each device, with its own {VISIBLE}, and `--resources {RESOURCE}=1` where other workers "
        "have none"
    )
    users: dict[str, str] = {}
    for address, name in identities.items():
        if name and name in users:
            raise PlanError(f"workers {users[name]} and {address} share the CUDA device {name}: {remedy}")
        users[name] = address
    if "" in users and len(users) > 1:
        raise PlanError(
            f"worker {users['']} has no CUDA device, and others have: numbers would depend on who computed them; "
            f"{remedy}"
        )
