"""Budgets of memory and disk: what a plan promises, forward passes that are made to fit, refusals that help."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from click.testing import CliRunner
from safetensors import safe_open

import neuroprobe as npr
from neuroprobe import budget, costs
from neuroprobe.budget import (
    Alternative,
    alternatives,
    explained_shortage,
    is_shortage,
    require_disk,
    waiting_states,
)
from neuroprobe.cli import main
from neuroprobe.costs import by_purpose, disk_moments, fullest, memory_moments, total
from neuroprobe.disk import used_bytes
from neuroprobe.errors import PlanError
from neuroprobe.journal import RUN_FOLDER
from neuroprobe.machine import Budget
from neuroprobe.packing import packs
from neuroprobe.planner import _largest_fitting, make_plan
from neuroprobe.plans import Plan
from neuroprobe.probe.footprint import LiveTensors
from neuroprobe.progress import ShardDone
from neuroprobe.protocol import load_protocol
from neuroprobe.recorder import Recorder
from neuroprobe.rig import Rig, open_rig
from neuroprobe.statistics.pick_freeze import PickFreezeAccumulator
from neuroprobe.store import read_header
from test_runner import Stop, assert_equal, protocol, stop_after

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*(standard errors|not a power of two|upper bound|do not fit):UserWarning"
)

GB = 10**9
LAYERS = ["conv1", "conv2", "conv3", "linear"]


@pytest.fixture(autouse=True)
def steady_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process takes 1 GB before it runs, whatever the tests before have left in it."""
    monkeypatch.setattr(costs, "resident_bytes", lambda: GB)


def spatial(**changes: Any) -> dict[str, Any]:
    """A protocol whose forward passes take most."""
    subject = {"network": "embedded", "layers": LAYERS}
    stimuli = {"images": {"photographs": {"per_image": 4}, "size": 32}}
    design = {"samples": 256, "scramble": 64}
    return protocol(**{"subject": subject, "stimuli": stimuli, "design": design, "record": {"batch": 128}, **changes})


def planned(given: dict[str, Any], memory: int | None = None) -> Plan:
    return npr.plan(given, measure=False, memory=memory)["pick-freeze"]


def needed(plan: Plan) -> int:
    return sum(plan.memory.values())


@pytest.fixture(scope="module")
def rig() -> Rig:
    return open_rig(load_protocol(spatial()))


# what is promised


def test_a_plan_shows_the_fullest_moment(rig: Rig) -> None:
    plan = make_plan(rig)
    moments = memory_moments(plan, rig, plan.memory["program"])
    assert plan.moment == "recording"
    assert plan.memory == by_purpose(moments["recording"])
    assert needed(plan) == max(map(total, moments.values()))
    assert plan.device_memory == {}
    assert {"program", "network", "images", "sums", "forward pass", "allocator"} <= set(plan.memory)
    assert f"while {plan.moment}" in str(plan)
    assert plan.as_dict()["memory"] == dict(plan.memory)


@pytest.mark.parametrize("changes", [{}, {"record": {"batch": 3}}, {"record": {"batch": 20, "nan": "drop"}}])
def test_what_really_lives_in_a_pass_is_within_what_is_planned(changes: dict[str, Any]) -> None:
    """All tensors of all passes of a block, but for the network and the sums, counted one by one."""
    rig = open_rig(load_protocol(spatial(**changes)))
    plan = make_plan(rig)
    recorder = Recorder(rig, plan)
    recorder._start()
    shown = recorder.design.presentations(0, plan.layout.piece)
    recorder._begin_piece(0, shown)
    with LiveTensors() as live, recorder.attached():
        for pack in packs(shown, plan.layout.batch):
            recorder._present(shown, pack)
    promised = by_purpose(memory_moments(plan, rig, GB)["recording"])
    passes = promised["forward pass"] + promised["stimuli"]
    assert live.peak <= passes
    # oneDNN's copies of a small layer's images are counted, and are no tensors
    assert live.peak > 0.5 * passes


@pytest.mark.parametrize("samples", [128, 512, 4096])
def test_memory_does_not_grow_with_the_samples(samples: int) -> None:
    base = planned(spatial(design={"samples": 256, "scramble": 64}))
    other = planned(spatial(design={"samples": samples, "scramble": 64}))
    assert abs(needed(other) - needed(base)) < 0.05 * (needed(base) - base.memory["program"])


@pytest.mark.parametrize(
    ("changes", "purpose"),
    [
        ({"record": {"batch": 128, "store": "responses"}}, "stored responses"),
        ({"record": {"batch": 128, "store": {"responses": ["linear"]}}}, "stored responses"),
    ],
)
def test_stored_responses_take_memory_and_disk(changes: dict[str, Any], purpose: str) -> None:
    plan, without = planned(spatial(**changes)), planned(spatial())
    assert plan.memory[purpose] > 0
    assert purpose not in without.memory
    assert needed(plan) > needed(without)
    assert plan.disk[purpose] >= 4 * plan.samples * plan.n_rows * 10
    assert plan.disk["presentation table"] > 0


def test_longer_shards_take_more_memory_and_less_disk(rig: Rig) -> None:
    from dataclasses import replace

    plan = make_plan(rig)
    longer = replace(plan, shard=2)
    for moments, sign in ((lambda p: memory_moments(p, rig, GB), 1), (lambda p: disk_moments(p, rig), -1)):
        short, long = (total(fullest(moments(one))[1]) for one in (plan, longer))
        assert sign * (long - short) >= 0


@pytest.mark.parametrize("store", ["none", "responses"])
@pytest.mark.parametrize("samples", [256, 448])
def test_disk_stays_within_the_plan(tmp_path: Path, samples: int, store: str) -> None:
    given = protocol(design={"samples": samples, "scramble": 64}, record={"batch": 64, "store": store})
    seen: list[int] = []
    unlink = Path.unlink

    def look(path: Path, missing_ok: bool = False) -> None:
        # a parent stands beside its children
        seen.append(used_bytes(tmp_path))
        unlink(path, missing_ok=missing_ok)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "unlink", look)
        npr.run(given, tmp_path / "out.zarr")
    seen.append(used_bytes(tmp_path))
    assert len(seen) > 3
    assert max(seen) <= sum(planned(given).disk.values())


# forward passes that are made to fit


def test_passes_are_made_as_small_as_memory_asks() -> None:
    most = planned(spatial())
    sizes = []
    for batch in (64, 48, 24):
        allowed = needed(planned(spatial(record={"batch": batch})))
        plan = planned(spatial(), memory=allowed)
        assert needed(plan) <= allowed
        assert plan.layout.batch < most.layout.batch
        assert f"forward passes have {plan.layout.batch} rows, as passes of 74 do not fit" in str(plan)
        sizes.append(plan.layout.batch)
    assert sizes == sorted(sizes, reverse=True)
    assert "do not fit" not in str(most)


@pytest.mark.parametrize(
    ("limits", "largest"),
    [
        ((0, 100), 100),  # all fit
        ((0, 30), 30),
        ((0, 12), 12),
        ((0, 11), 11),  # only passes that split base samples
        ((0, 1), 1),
        ((0, 0), 1),  # none
    ],
)
def test_the_largest_pass_that_fits(limits: tuple[int, int], largest: int) -> None:
    assert _largest_fitting(100, 12, lambda batch: limits[0] <= batch <= limits[1]) == largest


def test_passes_that_split_base_samples_take_a_step_more() -> None:
    """Twelve rows fit, eleven do not, as their responses have to wait; four would again."""
    assert _largest_fitting(100, 12, lambda batch: batch in {*range(1, 5), *range(12, 21)}) == 20
    assert _largest_fitting(5, 12, lambda batch: batch < 4) == 3
    assert _largest_fitting(1, 1, lambda batch: False) == 1


def test_a_resumed_run_keeps_its_passes(tmp_path: Path) -> None:
    out, given = tmp_path / "out.zarr", spatial()
    allowed = needed(planned(spatial(record={"batch": 64})))
    with pytest.raises(Stop):
        npr.run(given, out, memory=allowed, listener=stop_after(1, ShardDone))
    batch = read_header(out).sessions["pick-freeze"].layout.batch
    assert batch == planned(given, memory=allowed).layout.batch < planned(given).layout.batch
    result = npr.run(given, out)
    assert json.loads(result.attrs["neuroprobe_provenance"])["layouts"]["pick-freeze"]["batch"] == batch
    assert_equal(result, npr.run(given, tmp_path / "straight.zarr", memory=allowed))


def test_a_resumed_run_that_does_not_fit_any_more_is_refused(tmp_path: Path) -> None:
    out, given = tmp_path / "out.zarr", spatial()
    with pytest.raises(Stop):
        npr.run(given, out, listener=stop_after(1, ShardDone))
    before, batch = used_bytes(out), planned(given).layout.batch
    allowed = needed(planned(spatial(record={"batch": 64})))
    anew = planned(given, memory=allowed).layout.batch
    with pytest.raises(PlanError) as refused:
        npr.run(given, out, memory=allowed)
    text = str(refused.value)
    assert f"in the forward passes of {batch} rows that the store was begun with" in text
    assert f"This would fit: forward passes of {anew} rows, in a store that is begun anew (--overwrite)" in text
    assert used_bytes(out) == before
    assert npr.run(given, out, memory=allowed, overwrite=True).attrs["samples"] == 256


# refusals


def apply(one: Alternative, given: dict[str, Any]) -> dict[str, Any]:
    """Change a protocol by hand as an alternative says it in words."""
    made = {**given, "subject": {**given["subject"]}, "design": {**given["design"]}}
    text = re.sub(r" in \d+ parts$", "", one.text)  # which follow from the budget
    for change in text.split(" and "):
        layers = [
            name.strip() for name in change.rpartition("mean` on " if "reduce" in change else "without ")[2].split(",")
        ]
        if change == "`second_order: false`":
            made["design"]["second_order"] = False
        elif change == "`store: none`":
            made["record"] = {**made["record"], "store": "none"}
        elif change.startswith("`reduce: mean` on"):
            made["subject"]["layers"] = [
                {"name": name, "reduce": "mean"} if name in layers else name for name in made["subject"]["layers"]
            ]
        else:
            made["subject"]["layers"] = [name for name in made["subject"]["layers"] if name not in layers]
    return made


STORED = {"record": {"batch": 128, "store": "responses"}}


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.95])
@pytest.mark.parametrize("changes", [{}, STORED], ids=["plain", "stored"])
def test_alternatives_fit_when_they_are_planned(changes: dict[str, Any], share: float) -> None:
    given = spatial(**changes)
    least = needed(planned(spatial(**{**changes, "record": {**spatial(**changes)["record"], "batch": 1}})))
    # between what the smallest pass takes and what the process takes already
    program = planned(given).memory["program"]
    allowed = Budget(int(program + share * (least - program)), None, "by `memory`")
    rig = open_rig(load_protocol(given))
    plan = make_plan(rig, budget=allowed)
    assert plan.layout.batch == 1
    found = alternatives(plan, rig, allowed)
    texts = [one.text for one in found]
    assert len(texts) == len(set(texts)) >= 3
    for one in found:
        if one.plan.keeps(allowed):
            by_hand = planned(apply(one, given), memory=allowed.memory)
            assert needed(by_hand) <= allowed.memory
            assert by_hand.layout.batch == one.plan.layout.batch
            assert needed(one.plan) == pytest.approx(needed(by_hand), abs=0.02 * GB)
    # those that fit come first
    kept = [one.plan.keeps(allowed) for one in found]
    assert kept == sorted(kept, reverse=True)


def test_a_refusal_names_what_takes_most_and_what_would_fit(tmp_path: Path) -> None:
    given = spatial(record={"batch": 128, "store": {"responses": ["conv2"]}})
    alone = {**given, "subject": {"network": "embedded", "layers": ["conv2"]}, "record": given["record"] | {"batch": 1}}
    least = needed(planned(alone))
    size = r"[\d.]+ [MG]B"
    # what the process holds already differs from run to run
    message = (
        f"the run needs {size} of memory while recording, even in forward passes of 1 row, and {size} are allowed "
        rf"\(by `memory`\): {size} are Python and what it holds, most of the rest goes to the stored responses "
        rf"\({size}, {size} of it at layer 'conv2'\); recorded part by part, conv2, whose responses are stored "
        rf"together, does not fit even by itself while recording\. This would fit: `store: none`( in \d parts)? "
        rf"\({size}\)"
    )
    with pytest.raises(PlanError, match=message):
        npr.run(given, tmp_path / "out.zarr", memory=least - 4_000_000)
    assert not (tmp_path / "out.zarr").exists()


def test_a_refusal_where_nothing_fits_says_what_comes_closest() -> None:
    with pytest.raises(
        PlanError, match=r"100 MB are allowed .* Nothing tried fits; closest comes: without conv2, conv1"
    ):
        planned(spatial(), memory=10**8)
    subject = {"network": "embedded", "layers": ["linear"]}
    with pytest.raises(PlanError, match=r"Nothing tried fits; closest comes: nothing$"):
        planned(spatial(subject=subject, design={"samples": 256, "scramble": 64, "second_order": False}), memory=10**8)


def test_many_layers_are_not_all_named(rig: Rig) -> None:
    sites = rig.sites * 3
    assert budget._listed(sites) == "conv1, conv2, conv3 and 9 more of the largest"


def test_a_short_device_is_told_from_a_short_machine(rig: Rig) -> None:
    from dataclasses import replace

    plan = make_plan(rig)
    on_device = replace(plan, device_memory={"forward pass": 500})
    assert on_device.keeps(Budget(needed(plan), 500, ""))
    assert not on_device.keeps(Budget(needed(plan), 499, ""))
    assert not on_device.keeps(Budget(needed(plan) - 1, 500, ""))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_parts_on_a_device_are_compared_with_the_device() -> None:
    plan = planned(spatial(record={"batch": 128, "device": "cuda"}))
    assert {"network", "sums", "forward pass"} <= set(plan.device_memory)
    assert not {"network", "sums", "forward pass"} & set(plan.memory)


def test_the_default_is_what_is_free(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("neuroprobe.machine.resident_bytes", lambda: GB)
    monkeypatch.setattr("neuroprobe.machine._available", lambda: 1000)
    with pytest.raises(PlanError, match=r"1 GB are allowed \(what this machine has free\)"):
        npr.run(protocol(), tmp_path / "out.zarr")
    monkeypatch.setattr("neuroprobe.machine._available", lambda: 10**12)
    monkeypatch.setattr("neuroprobe.machine.cgroup_free", lambda: 2000)
    with pytest.raises(PlanError, match=r"\(what this container or job has free\)"):
        npr.run(protocol(), tmp_path / "out.zarr")
    assert not (tmp_path / "out.zarr").exists()


@pytest.mark.parametrize("dry", [["--dry-run"], ["-o", "OUT"]])
def test_memory_on_the_command_line(tmp_path: Path, dry: list[str]) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps(spatial()))
    where = [str(tmp_path / "out.zarr") if word == "OUT" else word for word in dry]

    def call(memory: str) -> Any:
        return CliRunner().invoke(main, ["run", str(path), *where, "--limit", "16", "--memory", memory])

    bad = call("4 gigs")
    assert bad.exit_code == 1
    assert "memory: given '4 gigs', expected an amount such as 4GB" in bad.stderr
    small = call("512MB")
    assert small.exit_code == 1
    assert "512 MB are allowed (by `memory`)" in small.stderr
    assert not (tmp_path / "out.zarr").exists()
    assert call("1TiB").exit_code == 0


# disk


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, given = tmp_path / "new" / "out.zarr", spatial(**STORED)
    up_to = sum(planned(given).disk.values())
    monkeypatch.setattr(budget, "free_bytes", lambda path: up_to - 1)
    with pytest.raises(PlanError) as refused:
        npr.run(given, out)
    text = str(refused.value)
    assert "0 B are there" in text
    assert "1 B are missing" in text
    assert "most goes to the stored responses (" in text
    assert "at layer 'conv2'" in text
    assert not out.parent.exists()


def test_what_is_there_already_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, given = tmp_path / "out.zarr", spatial()
    with pytest.raises(Stop):
        npr.run(given, out, listener=stop_after(3, ShardDone))
    there, up_to = used_bytes(out), sum(planned(given).disk.values())
    rig = open_rig(load_protocol(given))
    plan = make_plan(rig)
    monkeypatch.setattr(budget, "free_bytes", lambda path: up_to - there)
    require_disk({"one": plan}, {"one": rig}, out)
    monkeypatch.setattr(budget, "free_bytes", lambda path: up_to - there - 1)
    with pytest.raises(PlanError, match=r"1 B are missing; most goes to the (states|result)"):
        require_disk({"one": plan}, {"one": rig}, out)
    with pytest.raises(PlanError, match=r"1 B are missing"):
        npr.run(given, out)


def test_states_of_many_workers_wait_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, given = tmp_path / "out.zarr", protocol(design={"samples": 128, "scramble": 64})
    npr.run(given, out)
    (state,) = (out / RUN_FOLDER).glob("*.safetensors")
    rig = open_rig(load_protocol(given))
    plans, rigs = {"pick-freeze": make_plan(rig)}, {"pick-freeze": rig}
    assert waiting_states(plans, rigs, 1) == 0
    with safe_open(state, "pt") as file:
        arrays = [file.get_tensor(key) for key in list(file.keys()) if not key.endswith("counts")]
    assert waiting_states(plans, rigs, 5) == 5 * sum(array.nbytes for array in arrays)
    monkeypatch.setattr(budget, "free_bytes", lambda path: sum(planned(given).disk.values()))
    with pytest.raises(PlanError, match="are missing"):
        npr.run(given, tmp_path / "other.zarr", workers=2)
    npr.run(given, tmp_path / "other.zarr")


def test_an_extension_keeps_the_old_result_until_the_new_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.zarr"
    npr.run(protocol(design={"samples": 128, "scramble": 64}), out)
    asked: list[int] = []
    monkeypatch.setattr("neuroprobe.runner.require_disk", lambda *_, replaced: asked.append(replaced))
    npr.run(protocol(design={"samples": 256, "scramble": 64}), out)
    npr.run(protocol(design={"samples": 128, "scramble": 64}), out, overwrite=True)
    groups = sum(used_bytes(out / group) for group in ("sobol", "convergence"))
    assert asked[0] >= 0.9 * groups
    assert asked[1] == 0


# shortages while a run goes on


def real_errors() -> list[BaseException]:
    found: list[BaseException] = []
    for allocate in (lambda: torch.empty(1 << 55), lambda: np.empty(1 << 55)):
        try:
            allocate()
        except Exception as error:
            found.append(error)
    return found


@pytest.mark.parametrize(
    ("error", "short"),
    [
        *((error, True) for error in real_errors()),
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("memory"), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_that_say_that_memory_ran_out(error: BaseException, short: bool) -> None:
    assert is_shortage(error) is short
    with pytest.raises(PlanError if short else type(error)), explained_shortage(lambda: "here"):
        raise error


def test_both_libraries_were_asked_for_too_much() -> None:
    assert len(real_errors()) == 2


@pytest.mark.parametrize(
    ("where", "place"),
    [
        (PickFreezeAccumulator, r"in a forward pass of \d+ rows, at layer 'conv5' or behind it"),
        (torch.nn.Linear, r"in a forward pass of \d+ rows, at layer 'conv5' or behind it"),
        (torch.nn.Conv2d, r"in a forward pass of \d+ rows, before its first recorded layer"),
    ],
)
def test_a_shortage_says_where_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: type, place: str
) -> None:
    """The run goes on where it stopped, once there is memory."""
    out, given = tmp_path / "out.zarr", protocol(design={"samples": 128})
    name = "update" if where is PickFreezeAccumulator else "forward"
    first, n = getattr(where, name), []

    def fail(self: Any, *arguments: Any) -> Any:
        # not while the rig is opened
        n.append(len(arguments[0]) > 3)
        if sum(n) > 12:
            torch.empty(1 << 55)
        return first(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(where, name, fail)
        with pytest.raises(PlanError, match=rf"memory ran out {place}: .* run the same command again to go on"):
            npr.run(given, out)
    assert_equal(npr.run(given, out), npr.run(given, tmp_path / "straight.zarr"))


@pytest.mark.parametrize(
    ("function", "place"),
    [
        ("neuroprobe.runner.write_result", "while the result was written"),
        ("neuroprobe.shards.convergence", "while sums were merged"),
        ("neuroprobe.runner.open_rig", "while the network and the images were opened"),
    ],
)
def test_a_shortage_outside_of_forward_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, place: str
) -> None:
    def fail(*_: Any) -> None:
        np.empty(1 << 55)

    monkeypatch.setattr(function, fail)
    with pytest.raises(PlanError, match=f"memory ran out {place}"):
        npr.run(protocol(design={"samples": 128}), tmp_path / "out.zarr")


def test_results_do_not_depend_on_the_budget(tmp_path: Path) -> None:
    """Smaller passes change the last bits of responses, and no more."""
    given = spatial(design={"samples": 128})
    allowed = needed(planned(spatial(design={"samples": 128}, record={"batch": 40})))
    one, other = npr.run(given, tmp_path / "a.zarr"), npr.run(given, tmp_path / "b.zarr", memory=allowed)
    for layer in LAYERS:
        for name in ("mean", "first_order"):
            found, expected = (result[f"sobol/{layer}"][name] for result in (one, other))
            xr.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
