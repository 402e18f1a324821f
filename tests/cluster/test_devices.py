"""Workers that have a CUDA device each; there need be none here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from distributed import Client, LocalCluster, Worker

import neuroprobe as npr
from cluster_runs import protocol
from neuroprobe.cluster.crew import Crew
from neuroprobe.cluster.devices import RESOURCE, VISIBLE, device_names, identity, placed, require_own
from neuroprobe.cluster.station import Job, Station
from neuroprobe.cluster.workers import local_workers
from neuroprobe.errors import PlanError
from neuroprobe.journal import journal_entries, read_header

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*(standard errors|upper bound):UserWarning", "ignore:.*:ResourceWarning"
)
CUDA, SECOND = torch.device("cuda"), torch.device("cuda:1")


@pytest.fixture
def two_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch sees two devices."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv(VISIBLE, raising=False)


@pytest.mark.parametrize(
    ("given", "n", "expected"),
    [
        ({}, 3, ["0", "1", "2"]),
        ({}, 0, []),
        ({VISIBLE: ""}, 0, []),
        ({VISIBLE: "2,0"}, 2, ["2", "0"]),
        ({VISIBLE: "GPU-8932f937, MIG-41b3359c"}, 2, ["GPU-8932f937", "MIG-41b3359c"]),
        # torch stops at a name that is none
        ({VISIBLE: "1,-1,0"}, 1, ["1"]),
    ],
)
def test_names_of_devices(given: dict[str, str], n: int, expected: list[str]) -> None:
    assert device_names(n, given) == expected


def test_each_worker_has_its_own(two_devices: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert placed(2, CUDA) == ["0", "1"]
    assert placed(1, CUDA) == ["0"]
    assert placed(1, SECOND) == ["1"]
    assert placed(8, torch.device("cpu")) == []
    monkeypatch.setenv(VISIBLE, "GPU-a,GPU-b")
    assert placed(2, CUDA) == ["GPU-a", "GPU-b"]
    assert placed(1, SECOND) == ["GPU-b"]
    with pytest.raises(PlanError, match="workers: received 3, expected 1 to 2, the CUDA devices that torch sees"):
        placed(3, CUDA)
    with pytest.raises(PlanError, match="workers: received 2, and the protocol names one CUDA device \\(cuda:1\\)"):
        placed(2, SECOND)


def test_more_workers_than_devices(two_devices: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run says so before it starts any."""
    monkeypatch.setattr("neuroprobe.machine.n_cores", lambda: 8)
    monkeypatch.setattr("neuroprobe.runner._devices", lambda workers, _: placed(workers, CUDA))
    with pytest.raises(PlanError, match="workers: received 3, expected 1 to 2, the CUDA devices"):
        npr.run(protocol(), tmp_path / "out.zarr", workers=3)
    assert not (tmp_path / "out.zarr").exists()


def test_environments_of_workers() -> None:
    """Each process has its own device, its resource, and its share of the memory."""

    def told(dask_worker: Worker) -> tuple[str, dict[str, float]]:
        return os.environ[VISIBLE], dask_worker.state.total_resources

    with local_workers(2, ["GPU-a", "GPU-b"]) as client:
        assert sorted(device for device, _ in client.run(told).values()) == ["GPU-a", "GPU-b"]
        workers = client.scheduler_info()["workers"].values()
        assert all(resources == {RESOURCE: 1} for _, resources in client.run(told).values())
        first, second = (one["memory_limit"] for one in workers)
        assert first == second > 0


def test_which_device_it_is(two_devices: None, monkeypatch: pytest.MonkeyPatch) -> None:
    class Properties:
        def __init__(self, number: int) -> None:
            self.uuid = f"uuid-{number}"

    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", Properties)
    assert identity(torch.device("cpu")) == ""
    assert [identity(one) for one in (CUDA, SECOND)] == ["GPU-uuid-0", "GPU-uuid-1"]
    monkeypatch.setenv(VISIBLE, "MIG-a,MIG-b")
    assert [identity(one) for one in (CUDA, SECOND)] == ["MIG-a", "MIG-b"]


def test_workers_that_share_a_device_are_refused() -> None:
    require_own({"tcp://a": "GPU-a", "tcp://b": "GPU-b"})
    require_own({"tcp://a": "", "tcp://b": ""})
    with pytest.raises(PlanError, match=r"workers tcp://a and tcp://c share the CUDA device GPU-a: start one worker"):
        require_own({"tcp://a": "GPU-a", "tcp://b": "GPU-b", "tcp://c": "GPU-a"})
    with pytest.raises(PlanError, match=r"worker tcp://b has no CUDA device, and others have"):
        require_own({"tcp://a": "GPU-a", "tcp://b": ""})


@pytest.fixture
def client() -> Iterator[Client]:
    """Two workers in this process, one of which says that it has a device."""
    options: dict[str, Any] = {"threads_per_worker": 1, "processes": False, "dashboard_address": ":0"}
    with (
        LocalCluster(n_workers=1, silence_logs=60, **options) as cluster,
        Client(cluster) as found,
    ):
        spec = cluster.new_worker_spec()
        ((name, one),) = spec.items()
        cluster.worker_spec[name] = {**one, "options": {**one["options"], "resources": {RESOURCE: 1}}}
        cluster.sync(cluster._correct_state)
        found.wait_for_workers(2)
        yield found


def test_workers_without_the_resource_take_no_part(client: Client, tmp_path: Path) -> None:
    def has_station(dask_worker: Worker) -> tuple[bool, bool]:
        stations = [one for one in dask_worker.plugins.values() if isinstance(one, Station)]
        return RESOURCE in dask_worker.state.total_resources, any(hasattr(one, "rigs") for one in stations)

    given = npr.load_protocol(protocol(analyses=["sobol"], record={"batch": 64, "device": "cpu"}))
    one = npr.run(given, tmp_path / "one.zarr")
    found = npr.run(given, tmp_path / "out.zarr", client=client)
    assert found["sobol/linear"].to_dataset().identical(one["sobol/linear"].to_dataset())
    assert journal_entries(tmp_path / "out.zarr")
    header = read_header(tmp_path / "out.zarr")
    assert header is not None
    crew = Crew(client, Job(given, {}, str(tmp_path / "out.zarr"), header.guard))
    assert sorted(client.run(has_station).values()) == [(False, False), (True, True)]
    assert crew.n_workers == 1
    crew.close()


def test_a_crew_refuses_workers_that_share(client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workers of one device, as started by hand on a machine with one."""
    monkeypatch.setattr("neuroprobe.cluster.station.identity", lambda _: "GPU-a")
    monkeypatch.setattr("neuroprobe.cluster.crew.RESOURCE", "another")
    with pytest.raises(PlanError, match=r"workers \S+ and \S+ share the CUDA device GPU-a"):
        npr.run(protocol(analyses=["sobol"]), tmp_path / "out.zarr", client=client)
