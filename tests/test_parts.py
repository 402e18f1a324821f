"""Runs that are recorded part by part: the bits of a run that had the memory, whatever is cut, stopped or extended."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from click.testing import CliRunner
from distributed import Client, LocalCluster

import neuroprobe as npr
from neuroprobe import costs, names, parts, summary
from neuroprobe.budget import require_memory
from neuroprobe.cli import main
from neuroprobe.costs import memory_moments
from neuroprobe.errors import PlanError, StoreError
from neuroprobe.journal import RUN_FOLDER, journal_entries, read_header
from neuroprobe.machine import Budget
from neuroprobe.parts import find_parts, plan_session
from neuroprobe.planner import make_plan
from neuroprobe.plans import Plan, pieces_of
from neuroprobe.progress import RunStarted, ShardDone
from neuroprobe.protocol import load_protocol
from neuroprobe.rig import Rig, open_rig
from neuroprobe.statistics.estimators import DifferenceTerms, MomentsTerms, SaltelliTerms
from neuroprobe.statistics.pick_freeze import ALIGNED, PickFreezeAccumulator
from neuroprobe.statistics.shapley import GodaTerms, SubsetTerms, WalkTerms
from test_runner import Stop, assert_equal, protocol, stop_after

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*(standard errors|not a power of two|upper bound|do not fit|is recorded in):UserWarning",
    "ignore:.*:ResourceWarning",
)

GB = 10**9
LAYERS: list[Any] = ["conv1", "conv2", {"name": "conv3", "channels": [0, 5, 9]}]
BATCH = 24


@pytest.fixture(autouse=True)
def steady_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process takes 1 GB before it runs, whatever the tests before have left in it."""
    monkeypatch.setattr(costs, "resident_bytes", lambda: GB)


def given(**changes: Any) -> dict[str, Any]:
    """Two large layers and a small one, with all three analyses of pick-freeze rows; two passes for a block."""
    return protocol(
        **{
            "subject": {"network": "embedded", "layers": LAYERS},
            "design": {"samples": 256, "scramble": 64},
            "analyses": ["shapley", "moments", "sobol"],
            "record": {"batch": BATCH, "device": "cpu"},
            **changes,
        }
    )


def needed(plan: Plan) -> int:
    return sum(plan.memory.values())


def of_layers(rig: Rig, *layers: str) -> Plan:
    """The plan of some layers, in the passes of the whole run."""
    return make_plan(rig.varied(layers=tuple(site for site in rig.sites if site.name in layers)))


@pytest.fixture(scope="module")
def rig() -> Rig:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(costs, "resident_bytes", lambda: GB)
        return open_rig(load_protocol(given()))


@pytest.fixture(scope="module")
def by_layers(rig: Rig) -> int:
    """What the largest layer needs alone; the smallest fits beside it no more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(costs, "resident_bytes", lambda: GB)
        return needed(of_layers(rig, "conv2"))


@pytest.fixture(scope="module")
def by_units(rig: Rig) -> int:
    """Less than the largest layer needs alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(costs, "resident_bytes", lambda: GB)
        alone = of_layers(rig, "conv2")
        sums = sum(part.n_bytes for part in memory_moments(alone, rig, GB)["merging sums"] if part.purpose == "sums")
        return needed(alone) - int(0.4 * sums)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> xr.DataTree:
    """The run of a process that has the memory."""
    return npr.run(given(), tmp_path_factory.mktemp("whole") / "out.zarr").load()


# where layers are cut


@pytest.mark.parametrize(
    "terms",
    [
        DifferenceTerms(3, second_order=True, total_interaction=True),
        DifferenceTerms(4, second_order=False, drop=True),
        SaltelliTerms(3, second_order=True),
        MomentsTerms(3),
        WalkTerms(6, groups=(0, 0, 0, 0, 0, 1)),
        GodaTerms(3),
        SubsetTerms(3),
    ],
    ids=lambda terms: type(terms).__name__,
)
@pytest.mark.parametrize("n_units", [2 * ALIGNED, 2 * ALIGNED + 1, 4_003])
def test_units_are_summed_alike_in_a_part(
    terms: Any, n_units: int, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sums of blocks, merged, of ranges of units that begin at multiples of 64, beside those of all units at once."""
    monkeypatch.setattr("neuroprobe.statistics.pick_freeze.TILE", 1 << 14)
    n_samples, n_blocks = 21, 3
    y = torch.from_numpy(rng.standard_normal((n_blocks, n_samples, terms.n_rows, n_units))).float()
    index = torch.arange(n_samples * terms.n_rows).reshape(n_samples, -1)

    def summed(units: slice) -> dict[str, np.ndarray]:
        accumulator = PickFreezeAccumulator(terms, len(range(*units.indices(n_units))), n_samples)
        states = []
        for block in y:
            accumulator.update(block.flatten(0, 1)[:, units].contiguous(), index)
            states.append(accumulator.end_block())
        for other in states[1:]:
            states[0].merge(other)
        return {name: array.numpy() for name, array in states[0].state().items() if name != "counts"}

    last = n_units // ALIGNED - 1
    expected = summed(slice(None))
    for cut in {ALIGNED, ALIGNED * last, ALIGNED * -(-last // 2)}:
        left, right = summed(slice(cut)), summed(slice(cut, None))
        for name, array in expected.items():
            np.testing.assert_array_equal(np.concatenate([left[name], right[name]], -1), array, err_msg=name)


def test_a_layer_is_cut_at_few_places(rig: Rig) -> None:
    site = next(site for site in rig.sites if site.name == "conv2")
    for most, n in ((5120, 1), (5119, 2), (2560, 2), (1300, 4), (64, 80), (1, 80)):
        pieces = parts._cut(site, lambda one, most=most: one.n_units <= most)
        assert len(pieces) == n
        assert [one.span[0] for one in pieces[1:]] == [one.span[1] for one in pieces[:-1]]
        assert (pieces[0].span[0], pieces[-1].span[1]) == (0, site.n_units)
        assert all(one.span[0] % ALIGNED == 0 for one in pieces)
    few = replace(site, shape=(ALIGNED + 63, 1, 1))
    assert parts._cut(few, lambda one: False) == [few]


@pytest.mark.parametrize("budget", ["by_layers", "by_units"])
def test_parts_hold_every_unit_once_and_keep_the_budget(budget: str, rig: Rig, request: pytest.FixtureRequest) -> None:
    allowed = Budget(request.getfixturevalue(budget), None, "by `memory`")
    plan = plan_session(rig, budget=allowed)
    assert plan.keeps(allowed)
    assert not make_plan(rig, budget=allowed).keeps(allowed)
    assert len(plan.parts) == (2 if budget == "by_layers" else 3)
    held: dict[str, list[int]] = {site.name: [] for site in rig.sites}
    for part in plan.parts:
        assert part.keeps(allowed)
        assert part.layout == plan.layout
        for site in part.sites:
            held[site.name] += range(*site.span)
    assert {name: sorted(units) for name, units in held.items()} == {
        site.name: list(range(site.n_units)) for site in rig.sites
    }
    assert needed(plan) == max(map(needed, plan.parts))


def test_what_fits_is_recorded_at_once(rig: Rig) -> None:
    enough = Budget(needed(make_plan(rig)), None, "")
    assert plan_session(rig, budget=enough).parts == ()
    assert plan_session(rig).parts == ()


# one result


def assert_as_whole(found: xr.DataTree, whole: xr.DataTree) -> None:
    """All numbers, labels and attributes are those of a run that had the memory, but for what is told of its parts."""
    whole, found = whole.copy(), found.copy()
    pieces = json.loads(found.attrs[names.PROVENANCE])["parts"]["pick-freeze"]
    listed = [name for part in pieces for name, *_ in part]
    cut = sorted({name for name in listed if listed.count(name) > 1})
    for analysis, node in found["convergence"].children.items():
        expected, mine = whole["convergence"][analysis].to_dataset(), node.to_dataset()
        for name in mine:
            before = mine[name].sel(layer=cut).isel(samples=slice(-1))
            assert bool(before.isnull().all())
        everything = mine.isel(samples=-1), expected.isel(samples=-1)
        xr.testing.assert_identical(*everything)
        others = [layer for layer in mine["layer"].values if layer not in cut]
        xr.testing.assert_identical(mine.sel(layer=others), expected.sel(layer=others))
    del whole["convergence"], found["convergence"]
    assert_equal(found, whole)
    for path in found.groups[1:]:
        xr.testing.assert_identical(found[path].to_dataset(), whole[path].to_dataset())
    same = [name for name in found.attrs if name not in {"history", names.PROVENANCE}]
    assert {name: found.attrs[name] for name in same} == {name: whole.attrs[name] for name in same}


@pytest.fixture
def client() -> Iterator[Client]:
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": False, "dashboard_address": ":0"}
    with LocalCluster(**options, silence_logs=60) as cluster, Client(cluster) as found:
        yield found


def test_parts_make_the_result_of_a_run_that_had_the_memory(by_units: int, whole: xr.DataTree, tmp_path: Path) -> None:
    out, started = tmp_path / "out.zarr", []
    with pytest.warns(UserWarning, match=r"are allowed \(by `memory`\): the run is recorded in 3 parts"):
        found = npr.run(given(), out, memory=by_units, listener=started.append)
    assert_as_whole(found, whole)
    shown = [event.plan.part for event in started if isinstance(event, RunStarted)]
    n_parts = len(shown)
    assert shown == [(number, n_parts) for number in range(1, n_parts + 1)]
    assert sorted({one["session"] for one in journal_entries(out)}) == [f"pick-freeze.{n}" for n, _ in shown]
    assert summary.status(out).sessions["pick-freeze"] == {
        "samples": 256,
        "blocks": 4 * n_parts,
        "blocks_done": 4 * n_parts,
        "parts": n_parts,
    }
    # what is done is not done again
    again: list[Any] = []
    assert_as_whole(npr.run(given(), out, listener=again.append), whole)
    assert again == []


def test_stopped_and_gone_on_with_another_budget(by_units: int, whole: xr.DataTree, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    with pytest.raises(Stop):
        npr.run(given(), out, memory=by_units, listener=stop_after(6, ShardDone))
    begun = read_header(out).sessions["pick-freeze"].parts
    assert len(begun) == 3
    with pytest.raises(StoreError, match="6 of 12 blocks are done"):
        npr.open_result(out)
    with pytest.raises(PlanError, match=r"in the 3 parts and the forward passes of 24 rows that the store was begun"):
        npr.run(given(), out, memory=by_units - 4_000_000)
    with pytest.warns(UserWarning, match="in the 3 parts that its store was begun with"):
        found = npr.run(given(), out)
    assert_as_whole(found, whole)
    assert read_header(out).sessions["pick-freeze"].parts == begun


def test_workers_go_on_where_one_process_stopped(
    by_units: int, whole: xr.DataTree, client: Client, tmp_path: Path
) -> None:
    out = tmp_path / "out.zarr"
    with pytest.raises(Stop):
        npr.run(given(), out, memory=by_units, listener=stop_after(4, ShardDone))
    assert_as_whole(npr.run(given(), out, client=client), whole)


def test_extended_to_twice_the_samples(by_units: int, whole: xr.DataTree, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    half = given(design={"samples": 128, "scramble": 64})
    assert npr.run(half, out, memory=by_units).attrs["samples"] == 128
    assert_as_whole(npr.run(given(), out), whole)
    with pytest.raises(StoreError, match="holds 256 base samples, more than the 128 asked for"):
        npr.run(half, out)


def test_stored_responses_of_whole_layers(by_layers: int, tmp_path: Path) -> None:
    stored = given(record={"batch": BATCH, "device": "cpu", "store": {"responses": ["conv3"]}})
    found = npr.run(stored, tmp_path / "parts.zarr", memory=by_layers)
    expected = npr.run(stored, tmp_path / "whole.zarr")
    assert_as_whole(found, expected)
    assert_equal(npr.open_recording(tmp_path / "parts.zarr"), npr.open_recording(tmp_path / "whole.zarr"))


def test_all_parts_together_decide_where_a_run_stops(by_units: int, client: Client, tmp_path: Path) -> None:
    until = given(design={"samples": 1024, "scramble": 64, "until": {"se": 0.15, "share": 0.9}})
    found = npr.run(until, tmp_path / "parts.zarr", memory=by_units, client=client)
    expected = npr.run(until, tmp_path / "whole.zarr")
    assert json.loads(found.attrs[names.UNTIL]) == json.loads(expected.attrs[names.UNTIL])
    assert found.attrs["samples"] == 512
    assert_as_whole(found, expected)


# what is told


def test_a_dry_run_tells_of_parts(by_units: int, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps(given()))
    command = ["run", str(path), "--dry-run", "--memory", str(by_units)]
    shown = CliRunner().invoke(main, command)
    assert shown.exit_code == 0, shown.output
    assert "parts       recorded in 3 parts, one after the other: stimuli are shown 3 times" in shown.stdout
    assert "part 1      conv2 (units 0–2,559), conv3" in shown.stdout
    assert "of the fullest of 3 parts" in shown.stdout
    plans = json.loads(CliRunner().invoke(main, [*command, "--json"]).stdout)
    of_session = plans["sessions"]["pick-freeze"]
    assert of_session["parts"][1] == [["conv2", 2560, 5120]]
    assert sum(of_session["memory"].values()) <= by_units


def test_seconds_of_parts_add_up(by_units: int) -> None:
    plan = npr.plan(given(), memory=by_units)["pick-freeze"]
    assert plan.seconds == sum(part.seconds for part in plan.parts)
    assert plan.keeps(Budget(by_units, None, ""))


def test_a_run_tells_how_far_it_is(by_units: int, whole: xr.DataTree, tmp_path: Path) -> None:
    out, seen = tmp_path / "out.zarr", []

    def look(event: object) -> None:
        if isinstance(event, ShardDone):
            layers = set(npr.open_result(out, interim=True)["sobol"].children)
            seen.append((summary.status(out).sessions["pick-freeze"]["blocks_done"], layers))
            if len(seen) == 10:
                raise Stop

    with pytest.raises(Stop):
        npr.run(given(), out, memory=by_units, listener=look)
    assert [n for n, _ in seen] == list(range(1, 11))
    assert [layers for _, layers in seen[:4]] == [{"conv3"}] * 4
    # its units in the second part have been recorded over fewer base samples until then
    assert [layers for _, layers in seen[4:8]] == [{"conv3"}] * 3 + [{"conv3", "conv2"}]
    assert seen[8][1] == {"conv1", "conv2", "conv3"}
    assert "pick-freeze: 10 of 12 blocks (4 in each of 3 parts), 256 base samples" in str(summary.status(out))
    interim = npr.open_result(out, interim=True)
    assert (interim.attrs["samples"], interim.attrs["interim"]) == (128, '{"pick-freeze": [10, 12]}')
    xr.testing.assert_identical(interim["sobol/conv2"].to_dataset(), whole["sobol/conv2"].to_dataset())
    assert interim["sobol/conv1"].attrs["samples"] == 128


def test_workers_share_what_is_allowed(monkeypatch: pytest.MonkeyPatch, by_units: int, tmp_path: Path) -> None:
    """A budget of each worker's, which is told where it is too small, or makes parts."""
    monkeypatch.setattr("neuroprobe.machine.n_cores", lambda: 2)
    with pytest.raises(PlanError, match=r"500 MB are allowed \(by `memory`, shared by 2 workers\)"):
        npr.run(given(), tmp_path / "out.zarr", memory=GB, workers=2)
    assert not (tmp_path / "out.zarr").exists()


# refusals


def test_a_layer_whose_responses_are_stored_is_not_cut(by_units: int, tmp_path: Path) -> None:
    record = {"batch": BATCH, "device": "cpu", "store": {"responses": ["conv2"]}}
    message = (
        r"recorded part by part, conv2, whose responses are stored together, does not fit even by itself while "
        r"[a-z ]+\. This would fit: .*`store: none` in \d parts"
    )
    with pytest.raises(PlanError, match=message):
        npr.run(given(record=record), tmp_path / "out.zarr", memory=by_units)


def test_what_does_not_fit_by_itself(rig: Rig) -> None:
    budget = Budget(GB, None, "by `memory`")
    plan = make_plan(rig, budget=budget)
    found, misfit = find_parts(plan, rig, budget)
    assert (found, misfit.n_units) == ([], ALIGNED)
    with pytest.raises(PlanError, match=r"recorded part by part, conv2 \(units 0–63\) does not fit even by itself"):
        require_memory(plan, rig, budget)


def test_other_sessions_are_recorded_at_once(tmp_path: Path) -> None:
    contrast = given(analyses=["contrast"])
    plan = npr.plan(contrast, measure=False)["treatment-control"]
    least = needed(npr.plan({**contrast, "record": {"batch": 1}}, measure=False)["treatment-control"])
    assert plan.parts == ()
    with pytest.raises(PlanError, match="This would fit") as refused:
        npr.run(contrast, tmp_path / "out.zarr", memory=least - 200_000)
    assert "part by part" not in str(refused.value)


def test_a_store_that_was_begun_whole_stays_so(by_units: int, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    with pytest.raises(Stop):
        npr.run(given(), out, listener=stop_after(2, ShardDone))
    message = (
        r"in the forward passes of 24 rows that the store was begun with.* This would fit: forward passes of 24 rows, "
        r"in a store that is begun anew \(--overwrite\) in 3 parts"
    )
    with pytest.raises(PlanError, match=message):
        npr.run(given(), out, memory=by_units)


def test_a_header_without_parts_is_of_a_run_that_records_everything_at_once(tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    with pytest.raises(Stop):
        npr.run(given(), out, listener=stop_after(1, ShardDone))
    file = out / RUN_FOLDER / "header.json"
    header = json.loads(file.read_text())
    assert header["sessions"]["pick-freeze"].pop("parts") == []
    file.write_text(json.dumps(header))
    assert read_header(out).keys == ["pick-freeze"]


def test_pieces_name_all_that_a_part_holds(rig: Rig, by_units: int) -> None:
    plan = plan_session(rig, budget=Budget(by_units, None, ""))
    assert pieces_of(plan) == (
        (("conv2", 0, 2560), ("conv3", 0, 48)),
        (("conv2", 2560, 5120),),
        (("conv1", 0, 2560),),
    )
    assert pieces_of(plan.parts[0]) == ()
