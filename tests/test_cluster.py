"""Runs on many workers: the bits of one process, whatever is killed, lost, or asked for wrongly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
import yaml
from click.testing import CliRunner
from distributed import Client, LocalCluster, Status
from distributed.client import _get_global_client
from distributed.comm import CommClosedError

import neuroprobe as npr
from cluster_runs import SELECTIVITY, maps, masking, protocol
from neuroprobe import machine, shards
from neuroprobe.cli import main
from neuroprobe.cluster import crew, station, workers
from neuroprobe.cluster.crew import Crew
from neuroprobe.cluster.station import Job
from neuroprobe.errors import PlanError, ResponseError, WorkerError
from neuroprobe.journal import RUN_FOLDER, digest_of, journal_entries, read_header
from neuroprobe.progress import ShardDone
from neuroprobe.statistics.tree import Span

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*(standard errors|upper bound|accuracies are left out):UserWarning", "ignore:.*:ResourceWarning"
)
BOTH = ["sobol", "shapley"]
OTHERS = {"contrast": {"contrast": {"draws": 2, "ranks": ["linear"]}}, "selectivity": SELECTIVITY}
NO_STORE = {"batch": 64, "device": "cpu"}


def assert_same(one: xr.DataTree, other: xr.DataTree) -> None:
    """Every number of two results is the same, bit for bit."""
    assert one.groups == other.groups
    for path in one.groups:
        mine, theirs = one[path].to_dataset(inherit=False), other[path].to_dataset(inherit=False)
        assert set(mine.variables) == set(theirs.variables), path
        for name, variable in mine.variables.items():
            here, there = variable.values, theirs[name].values
            same = here.tobytes() == there.tobytes() if here.dtype.kind == "f" else (here == there).all()
            assert same, f"{path}/{name}"


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("serial") / "out.zarr"
    npr.run(protocol(), path)
    return path


@pytest.fixture
def client() -> Iterator[Client]:
    """Two workers in this process, which can be tampered with; new ones each time, as some tests break theirs."""
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": False, "dashboard_address": ":0"}
    with LocalCluster(**options, silence_logs=60) as cluster, Client(cluster) as found:
        yield found


def test_many_workers_give_the_bits_of_one_process(serial: Path, client: Client, tmp_path: Path) -> None:
    found = npr.run(protocol(), tmp_path / "out.zarr", client=client)
    assert_same(found, npr.open_result(serial))
    assert_same(npr.open_recording(tmp_path / "out.zarr"), npr.open_recording(serial))
    spans = {tuple(one["span"]) for one in journal_entries(tmp_path / "out.zarr") if one["session"] == "pick-freeze"}
    assert len([span for span in spans if span[1] - span[0] == 1]) > 2
    # all are merged, and what was merged is gone
    (file,) = (tmp_path / "out.zarr" / RUN_FOLDER).glob("*.safetensors")
    assert file.name.startswith("pick-freeze-0-8-")


@pytest.mark.parametrize("name", OTHERS)
def test_other_sessions(name: str, client: Client, tmp_path: Path) -> None:
    given = protocol(analyses=[OTHERS[name]], record=NO_STORE)
    found, one = npr.run(given, tmp_path / "many.zarr", client=client), npr.run(given, tmp_path / "one.zarr")
    assert_same(found, one)
    assert len(journal_entries(tmp_path / "many.zarr")) > 2


@pytest.mark.filterwarnings("ignore:.*(undefined in some map|as a whole):UserWarning")
def test_masking(client: Client, image_folder: Path, tmp_path: Path) -> None:
    npr.run(maps(image_folder), tmp_path / "maps.zarr")
    given = masking(image_folder, tmp_path / "maps.zarr")
    with pytest.MonkeyPatch.context() as patch:
        # blocks of four images, as where there are many masks
        patch.setattr("neuroprobe.planner.MAX_PER_BLOCK", 1)
        found, one = npr.run(given, tmp_path / "many.zarr", client=client), npr.run(given, tmp_path / "one.zarr")
    assert_same(found, one)
    assert len(journal_entries(tmp_path / "many.zarr")) > 2


def test_the_order_of_shards_does_not_matter(
    serial: Path, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = np.random.default_rng(0)
    whole = Crew._finished

    def shuffled(self: Crew, *given: Any) -> Iterator[Any]:
        waiting = []
        for one in whole(self, *given):
            waiting.append(one)
            if len(waiting) == 3 or not self._tasks:
                yield from (waiting[n] for n in order.permutation(len(waiting)))
                waiting = []

    monkeypatch.setattr(Crew, "_finished", shuffled)
    found = npr.run(protocol(), tmp_path / "out.zarr", client=client)
    for name in ("sobol", "shapley"):
        assert_same(found[name], npr.open_result(serial)[name])


@pytest.mark.parametrize("first", ["workers", "serial"])
def test_a_run_goes_on_with_others(first: str, serial: Path, client: Client, tmp_path: Path) -> None:
    class Stop(Exception):  # noqa: N818
        pass

    def stop(event: object) -> None:
        if isinstance(event, ShardDone):
            raise Stop

    given, path = protocol(), tmp_path / "out.zarr"
    with pytest.raises(Stop):
        npr.run(given, path, listener=stop, client=client if first == "workers" else None)
    assert journal_entries(path)
    found = npr.run(given, path, client=client if first == "serial" else None)
    for name in ("sobol", "shapley"):
        assert_same(found[name], npr.open_result(serial)[name])


def test_halves_that_were_left_unmerged_are_merged(serial: Path, client: Client, tmp_path: Path) -> None:
    """As by a client that is killed before it could."""
    given = protocol()
    never = pytest.MonkeyPatch()
    for number, other in enumerate((None, client)):
        path = tmp_path / f"{number}.zarr"
        never.setattr(Crew, "_merge", lambda *_: None)
        never.setattr("neuroprobe.runner.write_result", lambda *_: None)
        never.setattr("neuroprobe.runner.open_result", lambda path: npr.open_result(serial))
        npr.run(given, path, client=client)
        never.undo()
        assert len(list((path / RUN_FOLDER).glob("pick-freeze*.safetensors"))) > 4
        found = npr.run(given, path, client=other)
        assert_same(found["sobol"], npr.open_result(serial)["sobol"])
        assert len(list((path / RUN_FOLDER).glob("pick-freeze*.safetensors"))) == 1


def test_what_fails_is_tried_again(serial: Path, client: Client, tmp_path: Path) -> None:
    record = station.record

    def fails_at_first(session: str, start: int, stop: int) -> Any:
        failed = len(list(tmp_path.glob("failed *")))
        if start == 1 and failed < crew.TRIES - 1:
            (tmp_path / f"failed {failed}").touch()
            raise OSError("a disk that is away for a moment")
        return record(session, start, stop)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crew, "record", fails_at_first)
        found = npr.run(protocol(), tmp_path / "out.zarr", client=client)
    assert len(list(tmp_path.glob("failed *"))) == crew.TRIES - 1
    assert_same(found["sobol"], npr.open_result(serial)["sobol"])
    assert [one["span"] for one in journal_entries(tmp_path / "out.zarr")].count([1, 2]) == 1


def test_what_fails_again_and_again_stops_the_run(client: Client, tmp_path: Path) -> None:
    def fails(session: str, start: int, stop: int) -> Any:
        raise ValueError("broken")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crew, "record", fails)
        with pytest.raises(
            WorkerError, match=r"pick-freeze, base samples \d+ to \d+: record failed 3 times: ValueError: broken"
        ):
            npr.run(protocol(analyses=["sobol"]), tmp_path / "out.zarr", client=client)


@pytest.mark.parametrize("is_gone", [False, True])
def test_hung_workers_are_restarted(
    serial: Path, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_gone: bool
) -> None:
    record, mark = station.record, tmp_path / "restarted"

    def hangs_once(session: str, start: int, stop: int) -> Any:
        while start == 1 and not mark.exists():
            time.sleep(0.05)
        return record(session, start, stop)

    monkeypatch.setattr(crew, "record", hangs_once)
    monkeypatch.setattr(crew, "LEAST_HUNG", 3.0)
    monkeypatch.setattr(crew, "HUNG", 0.0)
    monkeypatch.setattr(crew, "POLL", 0.5)

    def restarted(self: Client, workers: list[str], **_: Any) -> None:
        mark.write_text(workers[0])  # these workers are threads of this process
        if is_gone:
            raise KeyError(workers[0])

    monkeypatch.setattr(Client, "restart_workers", restarted)
    found = npr.run(protocol(), tmp_path / "out.zarr", client=client)
    assert mark.read_text() in client.scheduler_info()["workers"]
    assert_same(found["sobol"], npr.open_result(serial)["sobol"])


def test_workers_that_join_later_with_other_files_do_nothing(
    serial: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = read_header(serial)
    assert guard is not None
    file = tmp_path / "file"
    file.write_text("as it was")
    options: dict[str, Any] = {"threads_per_worker": 1, "processes": False, "dashboard_address": ":0"}
    with LocalCluster(n_workers=1, **options) as cluster, Client(cluster, set_as_default=False) as own:
        made = Crew(own, Job(None, {}, str(serial), guard.guard, seen={str(file): digest_of(file)}))
        file.write_text("another")
        cluster.scale(2)
        own.wait_for_workers(2)
        with pytest.raises(PlanError, match=r"worker \S+: .*file' is missing, or another one than the client's"):
            list(made.ordered(abs, [(number,) for number in range(8)]))
        made.close()


def test_what_cannot_be_set_up_is_left(client: Client, serial: Path) -> None:
    guard = read_header(serial)
    assert guard is not None
    with pytest.raises(PlanError, match=r"torch \S+, and the client has 1\.0"):
        Crew(client, Job(None, {}, str(serial), guard.guard, versions={"torch": "1.0"}))
    plugins = client.run(lambda dask_worker: [name for name in dask_worker.plugins if "neuroprobe" in name])
    assert not any(plugins.values())


def test_calls_may_take_longer_than_what_is_recorded(
    client: Client, serial: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = read_header(serial)
    assert guard is not None
    monkeypatch.setattr(crew, "LEAST_HUNG", 0.1)
    monkeypatch.setattr(crew, "POLL", 0.05)
    monkeypatch.setattr(Client, "restart_workers", lambda self, workers, **_: pytest.fail("restarted"))
    made = Crew(client, Job(None, {}, str(serial), guard.guard))
    assert list(made.ordered(time.sleep, [(0.5,)] * 3)) == [None] * 3
    made.close()


def test_a_run_that_all_workers_have_left_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "LEAST_HUNG", 4.0)
    monkeypatch.setattr(crew, "POLL", 0.1)
    options: dict[str, Any] = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "dashboard_address": ":0"}
    with LocalCluster(**options) as cluster, Client(cluster, set_as_default=False) as own:

        async def remove(dask_scheduler: Any) -> None:
            for address in list(dask_scheduler.workers):
                await dask_scheduler.remove_worker(address, stimulus_id="test", close=True)

        def retire(event: object) -> None:
            if isinstance(event, ShardDone):
                own.run_on_scheduler(remove)

        with pytest.raises(WorkerError, match="no worker is left, and none has come back"):
            npr.run(protocol(analyses=["sobol"]), tmp_path / "out.zarr", client=own, listener=retire)


def test_while_the_client_is_stopped_no_worker_counts_as_hung(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, times = station.record, iter(range(0, 10**9, 10**5))

    def slow(session: str, start: int, stop: int) -> Any:
        time.sleep(0.5)
        return record(session, start, stop)

    monkeypatch.setattr(crew, "record", slow)
    monkeypatch.setattr(crew, "POLL", 0.1)
    monkeypatch.setattr(crew, "monotonic", lambda: next(times))  # as if it stood still for a day between looks
    monkeypatch.setattr(Client, "restart_workers", lambda self, workers, **_: pytest.fail("restarted"))
    npr.run(protocol(analyses=["sobol"], design={"samples": 256, "scramble": 64}), tmp_path / "out.zarr", client=client)
    assert next(times) > 10**5 * 10


def test_a_network_that_gives_nan_is_told_at_once(client: Client, tmp_path: Path) -> None:
    def fails(session: str, start: int, stop: int) -> Any:
        (tmp_path / f"{time.perf_counter_ns()}").touch()
        raise ResponseError("layer 'linear': 1 of 10 units gave NaN")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crew, "record", fails)
        with pytest.raises(ResponseError, match="gave NaN"):
            npr.run(protocol(analyses=["sobol"]), tmp_path / "out.zarr", client=client)
    assert len([file for file in tmp_path.iterdir() if file.name.isdigit()]) <= 2


def test_workers_of_another_kind(client: Client, serial: Path, tmp_path: Path) -> None:
    given, guard = npr.load_protocol(protocol()), read_header(serial)
    assert guard is not None

    def job(path: Path = serial, **changes: Any) -> Job:
        return Job(given, {}, str(path), guard.guard, **changes)

    Crew(client, job()).close()
    with pytest.raises(PlanError, match=r"worker \S+: torch \S+, and the client has 1\.0: numbers could differ"):
        Crew(client, job(versions={"torch": "1.0"}))
    with pytest.raises(PlanError, match=r"worker \S+: .* is not the client's output: give a path that all workers see"):
        Crew(client, job(tmp_path))
    other = npr.load_protocol(protocol(seed=1))
    with pytest.raises(PlanError, match="are other ones than the client's, under the same paths"):
        Crew(client, replace(job(), protocol=other))
    weights = {**protocol()["subject"], "network": "resnet18", "weights": str(tmp_path / "w.pth")}
    missing = npr.load_protocol(protocol(subject=weights))
    with pytest.raises(PlanError, match=r"worker \S+: .*w\.pth"):
        Crew(client, replace(job(), protocol=missing))


def test_a_worker_that_dies_while_it_opens_the_network(
    client: Client, serial: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(npr.load_protocol(protocol()), {}, str(serial), read_header(serial).guard)  # type: ignore[union-attr]
    calls: list[int] = []
    register = Client.register_plugin

    def dies(self: Client, plugin: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) < crew.TRIES:
            raise CommClosedError("in <TCP (closed)>: Stream is closed")
        return register(self, plugin, **options)

    monkeypatch.setattr(Client, "register_plugin", dies)
    Crew(client, job).close()
    assert len(calls) == crew.TRIES
    monkeypatch.setattr(crew, "TRIES", 2)
    monkeypatch.setattr(Client, "register_plugin", lambda *_, **__: (_ for _ in ()).throw(CommClosedError("closed")))
    with pytest.raises(WorkerError, match="workers died 2 times while they opened the network: closed"):
        Crew(client, job)


def test_workers_that_dask_would_pause_go_on(serial: Path, tmp_path: Path) -> None:
    """Their memory is planned, and what dask would wait for, that they free it, does not come."""
    options = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "dashboard_address": ":0"}
    with (
        dask.config.set({"distributed.worker.memory.pause": 0.001}),
        LocalCluster(**options, silence_logs=60) as cluster,
        Client(cluster) as client,
    ):
        (worker,) = cluster.workers.values()
        deadline = time.monotonic() + 60
        while worker.status != Status.paused:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        found = npr.run(protocol(), tmp_path / "out.zarr", client=client)
        assert worker.memory_manager.memory_pause_fraction == 0.001
    assert_same(found["sobol"], npr.open_result(serial)["sobol"])


def test_more_workers_than_cores(tmp_path: Path) -> None:
    n = machine.n_cores()
    for wrong in (0, n + 1):
        with pytest.raises(PlanError, match=rf"workers: received {wrong}, expected 1 to {n}, the cores"):
            npr.run(protocol(), tmp_path / "out.zarr", workers=wrong)
    assert not (tmp_path / "out.zarr").exists()


def test_a_scheduler_that_is_not_there(tmp_path: Path) -> None:
    with (
        pytest.raises(WorkerError, match=r"scheduler 'tcp://127\.0\.0\.1:9' cannot be reached"),
        workers.connected("tcp://127.0.0.1:9", timeout=2),
    ):
        pass
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address=":0", silence_logs=60) as cluster,
        workers.connected(cluster.scheduler_address) as alone,
        pytest.raises(WorkerError, match="has no workers"),
    ):
        npr.run(protocol(), tmp_path / "out.zarr", client=alone)


def test_shards_are_so_few_that_all_workers_have_some() -> None:
    assert list(shards.undone(Span(0, 8), [Span(2, 3), Span(4, 8)])) == [Span(0, 2), Span(3, 4)]
    assert list(shards.undone(Span(0, 4), [Span(0, 8)])) == []


def test_a_worker_that_is_killed(serial: Path, tmp_path: Path) -> None:
    """Two processes, one of which dies: its nanny starts another, and the result has the same bits."""
    with workers.local_workers(2) as client:
        pids = client.run(os.getpid)
        victim = next(iter(pids.values()))

        def kill(event: object) -> None:
            nonlocal victim
            if isinstance(event, ShardDone) and victim:
                os.kill(victim, signal.SIGKILL)
                victim = 0

        found = npr.run(protocol(), tmp_path / "out.zarr", client=client, listener=kill)
    assert victim == 0
    for name in ("sobol", "shapley"):
        assert_same(found[name], npr.open_result(serial)[name])


def test_a_client_that_is_killed(serial: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.zarr"
    text = (
        f"import neuroprobe as npr; from cluster_runs import protocol\nnpr.run(protocol(), {str(path)!r}, workers=2)\n"
    )
    if __name__ != "__main__":
        text = (
            f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\nif __name__ == '__main__':\n"
            + "".join(f"    {line}\n" for line in text.splitlines())
        )
    script = tmp_path / "run.py"
    script.write_text(text)
    process = subprocess.Popen([sys.executable, "-W", "ignore", str(script)])
    try:
        deadline = time.monotonic() + 120
        while not (path / RUN_FOLDER / "journal.jsonl").exists() or not journal_entries(path):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.kill()
    finally:
        process.wait()
    found = npr.run(protocol(), path)
    for name in ("sobol", "shapley"):
        assert_same(found[name], npr.open_result(serial)[name])


def test_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(protocol(analyses=["sobol"])))
    arguments = ["run", str(tmp_path / "p.yaml"), "-o", str(tmp_path / "out.zarr")]
    found = CliRunner().invoke(main, [*arguments, "--scheduler", "tcp://127.0.0.1:9x"])
    assert found.exit_code == 1
    assert "cannot be reached" in found.output
    # a client that is left connecting would have whatever dask computes wait for ever
    assert _get_global_client() is None
    assert dask.config.get("scheduler", None) is None
    found = CliRunner().invoke(main, [*arguments, "--workers", "99"])
    assert found.exit_code == 1
    assert "workers: received 99, expected 1 to" in found.output


def test_the_recipe_of_several_machines(serial: Path, tmp_path: Path) -> None:
    """As in docs/cluster.md: a scheduler and workers from the command line, found by the scheduler's file."""
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(protocol()))
    file = str(tmp_path / "scheduler.json")
    dask = [sys.executable, "-W", "ignore", "-m", "dask"]
    # tests have no network but this machine
    common = ["--scheduler-file", file, "--host", "127.0.0.1"]
    commands = [
        [*dask, "scheduler", *common, "--port", "0", "--dashboard-address", ":0"],
        [*dask, "worker", *common, "--nthreads", "1", "--nworkers", "2", "--dashboard-address", ":0"],
    ]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": tmp_path}
    running = [subprocess.Popen(command, **quiet) for command in commands]
    try:
        deadline = time.monotonic() + 60
        while not Path(file).exists():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        with workers.connected(file) as client:
            client.wait_for_workers(2, timeout=60)
        arguments = ["run", str(tmp_path / "p.yaml"), "-o", str(tmp_path / "out.zarr"), "--scheduler", file]
        done = subprocess.run([sys.executable, "-m", "neuroprobe", *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    finally:
        for process in reversed(running):
            process.terminate()
            process.wait()
    assert_same(npr.open_result(tmp_path / "out.zarr"), npr.open_result(serial))


def test_more_workers_than_blocks_are_told(tmp_path: Path) -> None:
    options: dict[str, Any] = {"n_workers": 3, "threads_per_worker": 1, "processes": False, "dashboard_address": ":0"}
    given = protocol(design={"samples": 128, "scramble": 64}, record=NO_STORE, analyses=["moments"])
    del given["subject"]["layers"][0]
    with LocalCluster(**options, silence_logs=60) as cluster, Client(cluster) as client:
        client.wait_for_workers(3)
        with pytest.warns(UserWarning, match=r"3 workers share 2 blocks.*scramble: 64"):
            npr.run(given, tmp_path / "out.zarr", client=client)
