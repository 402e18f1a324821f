"""The memory of the machine: what is free, also where a container or a job may take less than all of it."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from neuroprobe.errors import PlanError

ROOT: Final = Path("/")
ASKED: Final = "by `memory`"  # source of a budget
LEAST: Final = 1_000_000  # bytes; less is a number whose unit was forgotten
UNLIMITED: Final = 1 << 60  # bytes; kernels write "no limit" as a number of about this size
# hierarchy of control groups → folder, file of the limit, file of the use, and what of it can be given back
CGROUPS: Final = {
    2: ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    1: ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


@dataclass(frozen=True)
class Budget:
    """What a run may take.

    Attributes
    ----------
    memory : int
        Bytes of memory of the process, all in all.
    device : int or None
        Bytes of memory of the CUDA device; None where there is none.
    source : str
        Where the first number comes from.
    """

    memory: int
    device: int | None
    source: str

    def holds(self, memory: int, device: int) -> bool:
        """Whether so many bytes of the process, and of the device, are within the budget."""
        return memory <= self.memory and device <= (self.device or 0)


def find_budget(given: int | None, device: Any) -> Budget:
    """Return what a run may take on this machine.

    Parameters
    ----------
    given : int, optional
        Bytes that the process may take; by default what it takes and what is free.
    device : torch.device
    """
    on_device = _free_on_device(device) if device.type == "cuda" else None
    if given is not None:
        return Budget(given, on_device, ASKED)
    machine, group = _available(), cgroup_free()
    free, where = (machine, "this machine") if group is None or machine <= group else (group, "this container or job")
    return Budget(resident_bytes() + free, on_device, f"what {where} has free")


def n_cores() -> int:
    """Cores that this process may use."""
    from dask.system import CPU_COUNT

    return int(CPU_COUNT)


def require_cores(n_workers: int) -> None:
    """Refuse more workers than cores.

    Raises
    ------
    PlanError
    """
    if not 1 <= n_workers <= n_cores():
        raise PlanError(f"workers: received {n_workers}, expected 1 to {n_cores()}, the cores of this machine")


def parse_bytes(given: str | int) -> int:
    """Read an amount of memory.

    Raises
    ------
    PlanError
        If it is none.

    Examples
    --------
    >>> parse_bytes("4GB"), parse_bytes("512 MiB"), parse_bytes(4_000_000)
    (4000000000, 536870912, 4000000)
    """
    from dask.utils import parse_bytes as parse

    try:
        number = int(parse(given)) if str(given).strip()[:1].isdigit() else 0
    except ValueError:
        number = 0
    if number < LEAST:
        raise PlanError(f"memory: given {given!r}, expected an amount such as 4GB, 512MB, 4GiB or 4000000000 (bytes)")
    return number


def human_bytes(number: float) -> str:
    """Write an amount of memory in three digits.

    Examples
    --------
    >>> human_bytes(999), human_bytes(2_345_678)
    ('999 B', '2.35 MB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if number < 999.5:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"


def resident_bytes() -> int:
    """Bytes of memory that this process takes now."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def give_back() -> None:
    """Give freed memory back to the system: glibc keeps what small arrays took, which others may not fit into."""
    # another library may manage memory here
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _available() -> int:
    import psutil

    return int(psutil.virtual_memory().available)


def _free_on_device(device: Any) -> int:
    """Bytes of a CUDA device that are free, or are this process's already."""
    import torch

    return int(torch.cuda.mem_get_info(device)[0]) + int(torch.cuda.memory_reserved(device))


def cgroup_free(root: Path = ROOT) -> int | None:
    """Bytes that the control groups of this process leave it; None without a limit.

    Parameters
    ----------
    root : Path
        Of the file system.
    """
    return min(_limits(root), default=None)


def _limits(root: Path) -> Iterator[int]:
    for line in _lines(root / "proc/self/cgroup"):
        number, controllers, group = line.split(":", 2)
        if number != "0" and "memory" not in controllers.split(","):
            continue
        top, limit, use, reclaimable = CGROUPS[2 if number == "0" else 1]
        # a container sees its own group at the top; a limit above holds for all below
        inside = Path(group.lstrip("/"))
        for folder in (inside, *inside.parents):
            here = root / top / folder
            most, used = _number(here / limit), _number(here / use)
            if most is None or used is None or most >= UNLIMITED:
                continue
            # cached files are given back when memory is needed
            stat = dict(line.split(maxsplit=1) for line in _lines(here / "memory.stat"))
            yield max(0, most - used + int(stat.get(reclaimable, 0)))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _number(path: Path) -> int | None:
    """Return the number in a file; None where there is none, as in "max"."""
    lines = _lines(path)
    return int(lines[0]) if lines and lines[0].isdecimal() else None
