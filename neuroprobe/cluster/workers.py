"""Workers: those on this machine that are started for a run, those of a scheduler that runs, and what they may take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import Any

import dask
from distributed import Client, LocalCluster

from neuroprobe.cluster.devices import RESOURCE, VISIBLE
from neuroprobe.errors import WorkerError
from neuroprobe.machine import ASKED, Budget, n_cores


class PlacedCluster(LocalCluster):
    """Workers on this machine, some of whose environment differs.

    Parameters
    ----------
    devices : sequence of str
        Names of CUDA devices, one for each worker; empty where workers have none.
    **options
        Of `LocalCluster`, that all workers share.
    """

    def __init__(self, devices: Sequence[str], **options: Any) -> None:
        self._devices = list(devices)
        super().__init__(n_workers=0, **options)  # type: ignore[no-untyped-call]

    def new_worker_spec(self) -> dict[int | str, dict[str, Any]]:
        """Say how the next worker is started."""
        ((name, spec),) = super().new_worker_spec().items()  # type: ignore[no-untyped-call]
        if not self._devices:
            return {name: spec}
        taken = {other["options"]["env"][VISIBLE] for other in self.worker_spec.values()}
        device = next(one for one in self._devices if one not in taken)
        # a process reads it when it first asks for CUDA, which is later
        own = {"env": {**spec["options"]["env"], VISIBLE: device}, "resources": {RESOURCE: 1}}
        return {name: {**spec, "options": {**spec["options"], **own}}}


@contextmanager
def local_workers(n: int, devices: Sequence[str] = ()) -> Iterator[Client]:
    """Start workers on this machine, one process each, which share its cores.

    Parameters
    ----------
    n : int
    devices : sequence of str
        Name of the CUDA device of each, as `neuroprobe.cluster.devices.placed` gives them; empty without.
    """
    threads = max(1, n_cores() // n)
    environment = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    with (
        TemporaryDirectory(prefix="neuroprobe-") as folder,
        dask.config.set(
            {
                # dask's own has glibc give every array back to the system, and take it again page by page
                "distributed.nanny.pre-spawn-environ": environment,
                # a worker that died comes back, however long that takes where others have the processor
                "distributed.deploy.lost-worker-timeout": "1 day",
            }
        ),
        PlacedCluster(
            devices,
            threads_per_worker=threads,
            memory_limit=1 / n,  # of the memory of this machine
            env=environment,
            local_directory=folder,
            dashboard_address=":0",
            silence_logs=60,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        cluster.scale(n)
        client.wait_for_workers(n)
        yield client


@contextmanager
def connected(address: str, timeout: float = 30.0) -> Iterator[Client]:
    """Connect to a scheduler that runs, with its workers.

    Parameters
    ----------
    address : str
        Such as ``tcp://node1:8786``; or the path of the file that ``dask scheduler --scheduler-file`` writes.
    timeout : float
        Seconds.

    Raises
    ------
    WorkerError
        If it cannot be reached, or has no workers.
    """
    try:
        named = {"scheduler_file": address} if address.endswith(".json") else {"address": address}
        # what else dask computes here stays here, all the more so where there is no such scheduler
        client = Client(**named, timeout=timeout, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise WorkerError(
            f"scheduler {address!r} cannot be reached ({error or type(error).__name__}): start it by `dask scheduler`, "
            "and give the address that it prints"
        ) from None
    with client:
        yield client


def worker_memory(client: Client, here: Budget) -> Budget:
    """What each worker of a client may take: the least of their limits, and no more than was asked for."""
    limits = [one["memory_limit"] for one in client.scheduler_info(n_workers=-1)["workers"].values()]
    least = min([limit for limit in limits if limit], default=0)
    if not least or (here.source == ASKED and here.memory <= least):
        return here
    return replace(here, memory=least, source="by the workers' limit")
