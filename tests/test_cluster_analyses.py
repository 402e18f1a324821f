"""Analyses and comparisons on many workers: the bits of one process, whatever is killed, stopped or asked wrongly."""

from __future__ import annotations

import copy
import json
import os
import signal
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner
from distributed import Client, LocalCluster
from distributed.client import _get_global_client

import neuroprobe as npr
from made_animals import animal, trials
from neuroprobe import trial_store
from neuroprobe.cli import main
from neuroprobe.cluster import crew, station, workers
from neuroprobe.comparison import spread
from neuroprobe.comparison.stimuli import mean_responses, side_of
from neuroprobe.errors import PlanError, ReaderError, WorkerError
from neuroprobe.journal import RUN_FOLDER, journal_entries
from neuroprobe.recordings import write_recording

pytestmark = pytest.mark.filterwarnings("ignore:.*:ResourceWarning")
ANALYSES: list[Any] = [
    "anova",
    {"reliability": {"n_splits": 5}},
    {"tuning": {"factors": ["orientation", "eye"], "period": 0}},
    {"information": {"n_shuffles": 3}},
    "responsiveness",
]
NETWORK: dict[str, Any] = {
    "neuroprobe": 1,
    "seed": 2,
    "subject": {"network": "embedded", "layers": [{"name": "conv3", "reduce": "mean"}, "conv5"]},
    "stimuli": {
        "images": {
            "generated": {
                "grating": {"orientation": {"from": 0, "to": 150, "step": 30}, "spatial_frequency": [0.5, 1]}
            },
            "screen": {"degrees": 8},
        }
    },
    "analyses": [],
    "record": {"store": "responses", "device": "cpu"},
}


def assert_same(one: xr.DataTree, other: xr.DataTree) -> None:
    """Every number of two results is the same, bit for bit."""
    assert one.groups == other.groups
    for path in one.groups:
        same(one[path].to_dataset(inherit=False), other[path].to_dataset(inherit=False))


def same(mine: xr.Dataset, theirs: xr.Dataset) -> None:
    """Every number of two datasets is the same, bit for bit."""
    assert set(mine.variables) == set(theirs.variables)
    for name, variable in mine.variables.items():
        here, there = variable.values, theirs[name].values
        assert here.tobytes() == there.tobytes() if here.dtype.kind == "f" else (here == there).all(), name


@pytest.fixture
def client() -> Iterator[Client]:
    """Two workers in this process, whose client is dask's default, as many users have it."""
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": False, "dashboard_address": ":0"}
    with LocalCluster(**options, silence_logs=60) as cluster, Client(cluster) as found:
        yield found


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    values, condition, _, _ = trials()
    eye = np.array(["left", "right"], dtype=object)[np.arange(80) % 2]
    tree = animal(
        values,
        {"orientation": condition * 22.5, "eye": eye},
        baseline=np.random.default_rng(1).poisson(3, values.shape),
    )
    tree.attrs["factors"] = json.dumps(["orientation"])
    path = tmp_path_factory.mktemp("animal") / "animal.zarr"
    write_recording(tree, path)
    return path


def of_animal(path: Path, analyses: list[Any] = ANALYSES) -> dict[str, Any]:
    return {"neuroprobe": 1, "seed": 4, "subject": {"recording": str(path)}, "analyses": analyses}


@pytest.fixture(scope="module")
def serial(recording: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("serial") / "out.zarr"
    npr.run(of_animal(recording), path)
    return path


@pytest.fixture(scope="module")
def brain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A brain that responds as conv5 does, in noise."""
    folder = tmp_path_factory.mktemp("brain")
    npr.run(NETWORK, folder / "net.zarr")
    tree = npr.open_recording(folder / "net.zarr")
    values = tree["responses/conv5/response"].values.reshape(12, -1)[:, ::40]
    noise = np.random.default_rng(0).normal(size=values.shape)
    write_recording(
        animal(values + noise * values.std(), {"stimulus_id": tree["stimulus_id"].values.astype(object)}),
        folder / "brain.zarr",
    )
    return folder / "brain.zarr"


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of few units, as of many blocks of large recordings."""
    for part in ("representations", "responses", "lesions"):
        monkeypatch.setattr(f"neuroprobe.comparison.{part}.UNITS_AT_A_TIME", 300)


def test_a_recording_of_an_animal(client: Client, recording: Path, serial: Path, tmp_path: Path) -> None:
    found = npr.run(of_animal(recording), tmp_path / "out.zarr", client=client)
    assert_same(found, npr.open_result(serial))
    entries = journal_entries(tmp_path / "out.zarr")
    assert sorted(one["span"] for one in entries) == [[n, n + 1] for n in range(len(ANALYSES))]
    # every file has the name that it has in one process
    folders = [path / RUN_FOLDER / "analyses" for path in (tmp_path / "out.zarr", serial)]
    assert len({tuple(sorted(file.name for file in folder.iterdir())) for folder in folders}) == 1


def test_a_network_with_trials_that_is_compared(
    client: Client, brain: Path, narrow: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = copy.deepcopy(NETWORK)
    lesion = {"layers": ["conv3"], "share": 0.5, "random": 1}
    given["analyses"] = [
        {"anova": {"factors": ["orientation"]}},
        {"compare": {"with": str(brain), "metric": "rsa", "options": {"n_draws": 20}, "lesion": lesion}},
    ]
    blocks: list[int] = []
    ordered = crew.Crew.ordered
    monkeypatch.setattr(
        crew.Crew, "ordered", lambda self, f, g: (blocks.append(1) or one for one in ordered(self, f, g))
    )
    started: list[int] = []
    monkeypatch.setattr(workers, "local_workers", lambda *_: started.append(1))
    found = npr.run(given, tmp_path / "out.zarr", client=client)
    assert len(blocks) > 10
    assert not started
    assert_same(found, npr.run(given, tmp_path / "one.zarr"))
    assert "lesion" in found["compare/brain"].children


@pytest.mark.parametrize(
    ("metric", "options"),
    [
        ("rsa", {"n_draws": 20}),
        ("rsa", {"n_draws": 20, "distance": "euclidean"}),
        ("cka", {"n_permutations": 19}),
        ("ridge", {}),
    ],
)
def test_comparisons(metric: str, options: dict[str, Any], client: Client, brain: Path, narrow: None) -> None:
    model = brain.with_name("net.zarr")
    same(npr.compare(model, brain, metric, client=client, **options), npr.compare(model, brain, metric, **options))


def test_a_comparison_on_processes_with_a_worker_that_is_killed(
    brain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has its own dask, and reads for itself; one dies, and another takes its blocks."""
    rng = np.random.default_rng(0)
    path, stimuli = tmp_path / "large.zarr", side_of("brain", npr.open_recording(brain), None, None).stimuli
    table = {"stimulus_id": np.array(stimuli, dtype=object)}
    write_recording(animal(rng.normal(size=(12, 5 * spread.UNITS_AT_A_TIME)), table), path)
    options: dict[str, Any] = {"n_draws": 20, "distance": "cosine"}
    expected = npr.compare(path, brain, "rsa", **options)
    with workers.local_workers(2) as client:
        victims = list(client.run(os.getpid).values())[:1]
        submit = crew.Crew._submit

        def kills(self: Any, task: Any, session: str) -> None:
            submit(self, task, session)
            if victims:
                os.kill(victims.pop(), signal.SIGKILL)

        monkeypatch.setattr(crew.Crew, "_submit", kills)
        found = npr.compare(path, brain, "rsa", client=client, **options)
        assert not victims
        same(found, expected)
        assert _get_global_client() is None
        assert dask.config.get("scheduler", None) is None


def test_analyses_on_processes_that_start_for_them(recording: Path, serial: Path, tmp_path: Path) -> None:
    assert_same(npr.run(of_animal(recording), tmp_path / "out.zarr", workers=2), npr.open_result(serial))


def test_what_fails_is_tried_again_and_what_was_done_is_kept(
    client: Client, recording: Path, serial: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    analysed, seen, mended = trial_store.analysed, [], []

    def fails(tree: xr.DataTree, spec: Any, *rest: Any) -> Any:
        seen.append(spec.name)
        if spec.name == "reliability" and not mended:
            raise OSError("a disk that is away")
        return analysed(tree, spec, *rest)

    monkeypatch.setattr("neuroprobe.trial_analyses.analysed", fails)
    with pytest.raises(WorkerError, match="an analysis failed 3 times: OSError: a disk that is away"):
        npr.run(of_animal(recording), tmp_path / "out.zarr", client=client)
    assert seen.count("reliability") == crew.TRIES
    done = {one["file"].partition("-")[0] for one in journal_entries(tmp_path / "out.zarr")}
    assert done
    time.sleep(1)  # for what was going on
    mended.append(1)
    seen.clear()
    assert_same(npr.run(of_animal(recording), tmp_path / "out.zarr", client=client), npr.open_result(serial))
    assert "reliability" in seen
    assert not done & set(seen)


def test_errors_and_warnings_arrive_as_in_one_process(
    client: Client, recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(f"neuroprobe: 1\nsubject: {{recording: {recording}}}\nanalyses:\n  - anova\n  - reliability\n")
    analysed = trial_store.analysed

    def tells(tree: xr.DataTree, spec: Any, *rest: Any) -> Any:
        warnings.warn(f"{spec.name} is told", stacklevel=2)
        if spec.name == "reliability":
            raise ReaderError("what is wrong")
        return analysed(tree, spec, *rest)

    monkeypatch.setattr("neuroprobe.trial_analyses.analysed", tells)
    monkeypatch.setattr(trial_store, "analysed", tells)
    with pytest.warns(UserWarning, match="anova is told"):
        npr.run(of_animal(recording, ["anova"]), tmp_path / "told.zarr", client=client)
    messages = []
    for theirs in (client, None):
        with (
            warnings.catch_warnings(action="ignore"),
            pytest.raises(ReaderError, match=r"p\.yaml:5:5: what is wrong") as caught,
        ):
            npr.run(file, tmp_path / f"{len(messages)}.zarr", client=theirs)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_workers_of_another_kind(client: Client, recording: Path, brain: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(station.Station, "_require_versions", lambda _: (_ for _ in ()).throw(PlanError("numpy 1.0")))
        with pytest.raises(PlanError, match=r"worker \S+: numpy 1\.0"):
            npr.run(of_animal(recording), tmp_path / "out.zarr", client=client)
        with pytest.raises(PlanError, match=r"worker \S+: numpy 1\.0"):
            npr.compare(brain, brain, client=client)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("neuroprobe.comparison.metrics.digest_of", lambda path: "another")
        with pytest.raises(PlanError, match=r"brain\.zarr' is missing, or another one than the client's"):
            npr.compare(brain, brain, client=client)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(station, "read_header", lambda path: None)
        with pytest.raises(PlanError, match="is not the client's output"):
            npr.run(of_animal(recording), tmp_path / "out.zarr", client=client)


def test_comparisons_that_workers_cannot_read(client: Client, brain: Path) -> None:
    tree = npr.open_recording(brain)
    with pytest.raises(PlanError, match="give paths"):
        npr.compare(tree, tree, "cka", client=client)
    with pytest.raises(PlanError, match="profiles are of results"):
        npr.compare(brain, brain, "profiles", client=client)
    with pytest.raises(PlanError, match="give one of them"):
        npr.compare(brain, brain, "cka", client=client, workers=2)
    with pytest.raises(ReaderError, match=r"missing\.zarr': no such file"):
        npr.compare(brain.with_name("missing.zarr"), brain, "cka", client=client)
    # one side is here, and is compared as it would be
    found = npr.compare(brain, tree, "cka", client=client, n_permutations=9)
    same(found, npr.compare(brain, tree, "cka", n_permutations=9))


def test_blocks_are_small_to_send(brain: Path) -> None:
    """They say where responses are, and hold none."""
    from distributed.protocol.pickle import dumps

    side = side_of("model", npr.open_recording(brain.with_name("net.zarr")), None, None)
    one = next(one for one in side.populations if one.name == "conv5")
    from neuroprobe.comparison.stimuli import blocks_of

    (block,) = blocks_of(one, side.on, side.stimuli, one.n_units)
    (means,) = mean_responses(one, side.on, side.stimuli, one.n_units)
    np.testing.assert_array_equal(block.packed().means(), means)
    assert len(dumps(block.packed())) < means.nbytes / 4


def test_the_command_line(brain: Path, tmp_path: Path) -> None:
    arguments = ["compare", str(brain.with_name("net.zarr")), str(brain), "--metric", "cka"]
    found = CliRunner().invoke(main, [*arguments, "--scheduler", "tcp://127.0.0.1:9x"])
    assert found.exit_code == 1
    assert "cannot be reached" in found.output
    found = CliRunner().invoke(main, [*arguments, "--workers", "99"])
    assert found.exit_code == 1
    assert "workers: received 99, expected 1 to" in found.output
