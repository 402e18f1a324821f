"""Runs that stop when their errors are small enough: where, why, and to the bits of a run of that length."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner
from distributed import Client, LocalCluster

import neuroprobe as npr
from neuroprobe import names, summary
from neuroprobe.cli import main
from neuroprobe.errors import ProtocolError
from neuroprobe.export import export_netcdf
from neuroprobe.journal import read_header
from neuroprobe.progress import Checked, ProgressBar, ShardDone
from neuroprobe.report.writer import report_page
from neuroprobe.statistics.precision import Precision
from neuroprobe.stopping import Decision, Stopping, told
from test_runner import Stop, assert_equal, protocol, stop_after

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*(standard errors hold|rest on|degrees of freedom|accuracies are left out):UserWarning",
    "ignore:.*:ResourceWarning",
)
LAYERS = {"network": "embedded", "layers": [{"name": "conv1", "reduce": "mean"}]}
ALTERATIONS = [{"name": "grayscale", "switch": 0.5}, {"name": "hue", "switch": 0.5}]
BOTH = ["sobol", "shapley"]
EARLY = {"samples": 1024, "scramble": 64, "until": {"se": 0.2, "share": 0.9}}  # stops at 512
MIDDLE = {"samples": 2048, "scramble": 64, "until": {"se": 0.12, "share": 0.9}}  # at 1024


def stopping(design: dict[str, Any], **changes: Any) -> dict[str, Any]:
    treatment = {"reference_side": "image", "alterations": ALTERATIONS}
    given = {"subject": LAYERS, "treatment": treatment, "analyses": BOTH, "record": {"batch": 128}}
    return protocol(**{**given, "design": design, **changes})


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that stopped in the middle."""
    path = tmp_path_factory.mktemp("stopped") / "out.zarr"
    npr.run(stopping(MIDDLE), path)
    return path


def reached(result: xr.DataTree, se: float) -> float:
    """Share of the defined units whose errors of all shares are small, by brute force."""
    every, defined = [], None
    for group in BOTH:
        node = result[f"{group}/conv1"].to_dataset()
        defined = node[names.DEFINED].values == 1
        for name in ("first_order", "total_order", "second_order", "shapley_effect"):
            if name in node:
                errors = node[names.se(name)].values
                if name == "second_order":
                    errors = errors[np.triu_indices(len(errors), 1)]
                every.append((errors <= se).all(0))
    assert defined is not None
    return float(np.all(every, 0)[defined].mean())


def test_it_stops_at_the_first_look_at_which_enough_units_have_the_error(stopped: Path, tmp_path: Path) -> None:
    result = npr.open_result(stopped)
    found = json.loads(result.attrs[names.UNTIL])
    assert found["reached"]
    assert (found["samples"], found["at_most"], result.attrs["samples"]) == (1024, 2048, 1024)
    assert found["quantities"] == ["first_order", "total_order", "second_order", "shapley_effect"]
    layer = found["layers"]["conv1"]
    assert layer["n_reached"] / layer["n_defined"] == pytest.approx(reached(result, 0.12))
    assert reached(result, 0.12) >= 0.9
    shorter = npr.run(stopping({"samples": 512, "scramble": 64}), tmp_path / "out.zarr")
    assert reached(shorter, 0.12) < 0.9
    # and the numbers are those of a run of that length
    longer = npr.run(stopping({"samples": 1024, "scramble": 64}), tmp_path / "out.zarr")
    assert_equal(result, longer)
    assert names.UNTIL not in longer.attrs


def test_a_stopped_run_is_finished(stopped: Path, tmp_path: Path) -> None:
    header = read_header(stopped)
    assert header is not None
    assert header.samples == {"pick-freeze": 1024}
    status = summary.status(stopped)
    assert status.finished
    assert status.until is not None
    assert "stopped at 1,024 of at most 2,048 base samples" in str(status)
    assert json.loads(json.dumps(status.as_dict()))["until"]["reached"]
    seen: list[object] = []
    before = (stopped / "zarr.json").stat().st_mtime_ns
    again = npr.run(stopping(MIDDLE), stopped, listener=seen.append)
    assert seen == []
    assert (stopped / "zarr.json").stat().st_mtime_ns == before
    header = read_header(stopped)
    assert header is not None
    assert header.samples == {"pick-freeze": 1024}
    export_netcdf(stopped, tmp_path / "out.nc")
    assert again.attrs["samples"] == 1024


@pytest.mark.usefixtures("undrawn")
def test_the_report_says_why_it_stopped(stopped: Path) -> None:
    assert "Stopped at 1,024 of at most 2,048 base samples" in report_page(npr.open_result(stopped))


@pytest.mark.parametrize("stops", [[3, 9], [8]])
def test_interrupted_it_stops_at_the_same_place(stopped: Path, tmp_path: Path, stops: list[int]) -> None:
    for n in stops:
        with pytest.raises(Stop):
            npr.run(stopping(MIDDLE), tmp_path / "out.zarr", listener=stop_after(n, ShardDone))
    assert_equal(npr.run(stopping(MIDDLE), tmp_path / "out.zarr"), npr.open_result(stopped))


def test_interrupted_while_it_is_looked_at(stopped: Path, tmp_path: Path) -> None:
    for n in (1, 2):  # on going on, and on stopping
        with pytest.raises(Stop):
            npr.run(stopping(MIDDLE), tmp_path / "out.zarr", listener=stop_after(n, Checked))
    seen: list[object] = []
    result = npr.run(stopping(MIDDLE), tmp_path / "out.zarr", listener=seen.append)
    assert not [event for event in seen if isinstance(event, ShardDone)]
    assert_equal(result, npr.open_result(stopped))
    assert result.attrs[names.UNTIL] == npr.open_result(stopped).attrs[names.UNTIL]


def test_workers_stop_at_the_same_place(stopped: Path, tmp_path: Path) -> None:
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": False, "dashboard_address": ":0"}
    with LocalCluster(**options, silence_logs=60) as cluster, Client(cluster) as client:
        result = npr.run(stopping(MIDDLE), tmp_path / "out.zarr", client=client)
    assert_equal(result, npr.open_result(stopped))
    assert result.attrs[names.UNTIL] == npr.open_result(stopped).attrs[names.UNTIL]


def test_another_error_goes_on_or_takes_what_is_there(tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    assert npr.run(stopping(EARLY), out).attrs["samples"] == 512
    # what is there is more than enough: nothing is recorded, and the result says so
    seen: list[object] = []
    loose = npr.run(stopping({**EARLY, "until": {"se": 0.5}}), out, listener=seen.append)
    assert loose.attrs["samples"] == 512
    assert json.loads(loose.attrs[names.UNTIL])["se"] == 0.5
    assert not [event for event in seen if isinstance(event, ShardDone)]
    with pytest.warns(UserWarning, match=r"all 1,024 base samples were taken.*about [\d,]+ base samples would do"):
        strict = npr.run(stopping({**EARLY, "until": {"se": 1e-5}}), out)
    assert strict.attrs["samples"] == 1024
    found = json.loads(strict.attrs[names.UNTIL])
    assert not found["reached"]
    assert found["layers"]["conv1"]["error"] > 1e-5
    # without until, all is there
    assert_equal(npr.run(stopping({"samples": 1024, "scramble": 64}), out), strict)


def test_stored_responses_and_other_sessions_of_a_stopped_run(tmp_path: Path) -> None:
    stored = {"batch": 128, "store": {"responses": ["conv1"]}}
    npr.run(stopping(EARLY, record=stored), tmp_path / "stopped.zarr")
    npr.run(stopping({"samples": 512, "scramble": 64}, record=stored), tmp_path / "whole.zarr")
    one, other = (npr.open_recording(tmp_path / f"{name}.zarr") for name in ("stopped", "whole"))
    assert one.sizes["presentation"] == 512 * 4
    assert_equal(one, other)
    # contrasts are of all images, whatever the errors of indices are
    both = npr.run(stopping(EARLY, analyses=["sobol", "moments", "contrast"]), tmp_path / "both.zarr")
    assert json.loads(both.attrs["sessions"]) == {"pick-freeze": 512, "treatment-control": 24}


def test_plan_says_when_it_is_looked_at() -> None:
    plan = npr.plan(stopping({"samples": 4096, "until": {"se": 0.02}}), measure=False)
    rule = plan["pick-freeze"].stopping
    assert rule is not None
    assert rule.share == 0.95
    # 64 blocks, as more than 16 are made
    assert plan["pick-freeze"].layout.block == 64
    assert rule.checks == (512, 1024, 2048, 4096)
    assert "looked at after 512, 1,024, 2,048; stops when 95 % of the defined units" in str(plan)
    assert "at most 4,096 base samples" in str(plan)
    assert plan.as_dict()["sessions"]["pick-freeze"]["until"]["checks"] == rule.checks
    limited = npr.plan(stopping({"samples": 4096, "until": {"se": 0.02}}), measure=False, limit=320)["pick-freeze"]
    assert limited.stopping is not None
    assert limited.stopping.checks == (320,)
    assert npr.plan(stopping({"samples": 4096}), measure=False)["pick-freeze"].stopping is None


def test_dry_run_tells_of_it(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(json.dumps(stopping(EARLY)))
    done = CliRunner().invoke(main, ["run", str(file), "--dry-run"], catch_exceptions=False)
    assert "stops when 90 % of the defined units of every layer" in done.output


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"design": {"until": {"se": 0}}}, r"design\.until\.se.*greater than 0"),
        ({"design": {"until": {"se": -0.01}}}, r"design\.until\.se.*greater than 0"),
        ({"design": {"until": {"se": float("nan")}}}, r"design\.until\.se"),
        ({"design": {"until": {"se": 0.01, "share": 0}}}, r"design\.until\.share.*greater than 0"),
        ({"design": {"until": {"se": 0.01, "share": 1.01}}}, r"design\.until\.share.*less than or equal to 1"),
        ({"design": {"until": {"share": 0.9}}}, "missing key 'se' in design.until"),
        ({"design": {"until": 0.01}}, r"design\.until"),
        ({"design": {"until": {"se": 0.01}}, "analyses": ["contrast"]}, "until: .*asks for contrast.*add sobol"),
        ({"design": {"until": {"se": 0.01}}, "analyses": ["moments"]}, "until: .*asks for moments"),
    ],
)
def test_bad_input_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        npr.load_protocol(protocol(**changes))
    assert re.search(message, str(caught.value), re.DOTALL), str(caught.value)


RULE = Stopping(0.01, 0.95, ("first_order",), (512, 1024))


@pytest.mark.parametrize(
    ("layers", "expected", "text"),
    [
        ({"a": Precision(100, 95, 0.01)}, True, "95.0 % or more have them (a has fewest)"),
        ({"a": Precision(100, 94, 0.02)}, False, "94.0 % have them, 95 % have 0.02; about 4,096 base samples"),
        # a layer of few units counts as much as one of many
        ({"a": Precision(10**6, 10**6, 0.001), "b": Precision(10, 9, 0.04)}, False, "in b 90.0 % have them"),
        # one without any counts neither way
        ({"a": Precision(0, 0, np.nan), "b": Precision(10, 10, 0.001)}, True, "100.0 % or more"),
        ({"a": Precision(0, 0, np.nan)}, False, "no unit varies"),
        ({"a": Precision(10, 9, np.inf)}, False, "the errors of more units are unknown"),
        ({"a": Precision(20, 18, 0.011), "b": Precision(20, 19, 0.0099)}, False, "90.0 % have them, 95 % have 0.011;"),
        ({"a": Precision(20, 10, 0.011), "b": Precision(20, 18, 0.02)}, False, "95 % of b have 0.02; about 4,096"),
    ],
)
def test_every_layer_decides(layers: dict[str, Precision], expected: bool, text: str) -> None:
    decision = Decision(RULE, 1024, layers)
    assert decision.is_reached is expected
    assert text in told(json.loads(json.dumps(decision.as_dict())))
    assert "1,024 base samples" in str(decision)


def test_the_progress_bar_tells_what_was_found(capsys: pytest.CaptureFixture[str]) -> None:
    ProgressBar()(Checked(Decision(RULE, 512, {"a": Precision(100, 60, 0.02)})))
    assert "512 base samples: 60.0 % of the units" in capsys.readouterr().err
