"""Workers of a run, or of a comparison: those of a client, or some on this machine that are started for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import dask

from neuroprobe.errors import PlanError
from neuroprobe.machine import require_cores

if TYPE_CHECKING:
    from distributed import Client

    from neuroprobe.cluster.crew import Crew
    from neuroprobe.cluster.station import Job


def require_one(workers: int | None, client: Client | None) -> None:
    """Refuse workers of this machine beside those of a client, and more of them than cores.

    Raises
    ------
    PlanError
    """
    if workers is not None:
        if client is not None:
            raise PlanError("workers and client: give one of them; a client has workers of its own")
        require_cores(workers)


@contextmanager
def hired(job: Job, client: Client | None, workers: int | None, devices: Sequence[str] = ()) -> Iterator[Crew]:
    """Tell workers of a run, and leave them when it ends.

    Parameters
    ----------
    job : Job
    client : distributed.Client, optional
    workers : int, optional
        How many are started on this machine, where there is no client.
    devices : sequence of str
        As of `neuroprobe.cluster.workers.local_workers`.
    """
    from neuroprobe.cluster.crew import Crew
    from neuroprobe.cluster.workers import local_workers

    with (
        local_workers(workers or 1, devices) if client is None else nullcontext(client) as theirs,
        # what else is read here is read here, and not by workers, which wait for what is asked for
        dask.config.set({"scheduler": "threads", "distributed.admin.large-graph-warning-threshold": "1GiB"}),
    ):
        crew = Crew(theirs, job)
        try:
            yield crew
        finally:
            crew.close()
