"""Runs on recordings: what they find is what the labelled functions find, on animals and networks alike."""

from __future__ import annotations

import inspect
import json
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import neuroprobe as npr
from made_animals import animal, network, trials
from neuroprobe import animal_runs, trial_store
from neuroprobe.analysis.anova import anova
from neuroprobe.analysis.variance_decomposition import variance_decomposition
from neuroprobe.errors import NeuroprobeError, ProtocolError, ReaderError, StoreError
from neuroprobe.export import export_netcdf
from neuroprobe.journal import RUN_FOLDER
from neuroprobe.protocol.trials import TRIALS
from neuroprobe.recordings.writing import write_recording
from neuroprobe.summary import status
from neuroprobe.trial_analyses import FUNCTIONS, analysed

ANALYSES: list[Any] = [
    "anova",
    {"reliability": {"n_splits": 5}},
    {"tuning": {"factors": ["orientation", "eye"], "period": 0}},
    {"variance_decomposition": {"factors": ["orientation", "eye"], "n_permutations": 3, "n_draws": 2}},
    {"information": {"n_shuffles": 3}},
    {"correlations": {"n_splits": 3}},
    "responsiveness",
]
FIRST = ANALYSES[:2]


def columns(condition: np.ndarray[Any, Any]) -> dict[str, Any]:
    return {"orientation": condition * 22.5, "eye": np.array(["left", "right"], dtype=object)[np.arange(80) % 2]}


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    values, condition, _, _ = trials()
    tree = animal(values, columns(condition), baseline=np.random.default_rng(1).poisson(3, values.shape))
    tree.attrs["factors"] = json.dumps(["orientation"])
    write_recording(tree, tmp_path / "animal.zarr")
    return tmp_path / "animal.zarr"


def protocol(path: Path, analyses: list[Any] = ANALYSES, **more: Any) -> dict[str, Any]:
    return {"neuroprobe": 1, "seed": 4, "subject": {"recording": {"path": str(path), **more}}, "analyses": analyses}


def run(given: dict[str, Any], out: Path, **more: Any) -> xr.DataTree:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of factors that depend on each other by chance
        return npr.run(given, out, **more)


def same(one: xr.Dataset, other: xr.Dataset) -> None:
    assert set(one.variables) == set(other.variables)
    for name in one.variables:
        left, right = (np.asarray(of[name].values.tolist()) for of in (one, other))
        np.testing.assert_array_equal(left, right, err_msg=str(name))


def test_blocks_take_the_options_of_their_functions() -> None:
    for name in FUNCTIONS:
        options = TRIALS[name]
        function = getattr(import_module(f"neuroprobe.analysis.{FUNCTIONS[name].home}"), name)
        parameters = inspect.signature(function).parameters
        theirs = {("factors" if key == "factor" else key) for key in parameters} - {"recording", "seed"}
        assert set(options.model_fields) == theirs
        for key, field in options.model_fields.items():
            if key in parameters:
                assert field.default == parameters[key].default, (name, key)


def test_a_run_finds_what_the_functions_find(recording: Path, tmp_path: Path) -> None:
    result = run(protocol(recording), tmp_path / "out.zarr")
    tree = npr.open_recording(recording)
    same(result["anova"].to_dataset(), anova(tree, seed=4))
    same(result["reliability"].to_dataset(), npr.reliability(tree, n_splits=5, seed=4))
    same(result["responsiveness"].to_dataset(), npr.responsiveness(tree, seed=4))
    for factor in ("orientation", "eye"):
        same(result[f"tuning/{factor}"].to_dataset(), npr.tuning(tree, factor, period=0, seed=4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        expected = variance_decomposition(tree, ["orientation", "eye"], n_permutations=3, n_draws=2, seed=4)
    same(result["variance_decomposition"].to_dataset(), expected)
    told = json.loads(result.attrs["neuroprobe_provenance"])
    assert len(told["recording_hash"]) == 64
    assert told["recording"]["versions"]["neuroprobe"]


def test_results_are_selected_exported_and_told(recording: Path, tmp_path: Path) -> None:
    result = run(protocol(recording, ANALYSES[:3]), tmp_path / "out.zarr")
    found = npr.select_units(tmp_path / "out.zarr", "anova_p_adjusted < .01 and reliability > 0")
    significant = result["anova"]["p_adjusted"].values < 0.01
    assert 0 < found.sizes["unit"] == (significant & (result["reliability"]["reliability"].values > 0)).sum()
    assert found.attrs["n_units"] == 12
    export_netcdf(tmp_path / "out.zarr", tmp_path / "out.nc")
    with xr.open_datatree(tmp_path / "out.nc") as exported:
        same(exported["tuning/orientation"].to_dataset(), result["tuning/orientation"].to_dataset())
    text = str(status(tmp_path / "out.zarr"))
    assert "analyses: 3 of 3 done" in text
    assert f"anova for orientation: {significant.sum()} of 12 units, p < 0.01 BH; median ω²" in text
    rows = {(row["analysis"], row["of"]): row for row in status(tmp_path / "out.zarr").trials}
    assert list(rows) == [
        ("anova", "orientation"),
        ("reliability", "orientation"),
        ("tuning", "eye"),
        ("tuning", "orientation"),
    ]
    expected = float(np.median(result["reliability"]["noise_ceiling"]))
    assert rows["reliability", "orientation"]["medians"]["ceiling"] == pytest.approx(expected)


def test_the_same_numbers_as_of_an_animal_and_of_a_network() -> None:
    values, condition, _, _ = trials()
    before = np.random.default_rng(1).poisson(3, values.shape)
    trees = [
        animal(values, columns(condition), baseline=before),
        network(values, columns(condition), (3, 2, 2), baseline=before),
    ]
    for tree in trees:
        tree.attrs["factors"] = json.dumps(["orientation"])
    for spec in npr.load_protocol(protocol(Path("a.nwb"))).analyses:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            one, other = (analysed(tree, spec, 4) for tree in trees)
        assert list(one) == list(other)
        for node, found in one.items():
            assert found.sizes["unit"] == 12
            for name in found.data_vars:
                np.testing.assert_array_equal(found[name].values, other[node][name].values, err_msg=str(name))


def test_a_network_is_analysed_from_its_stored_responses(small_protocol: dict[str, Any], tmp_path: Path) -> None:
    small_protocol["record"]["store"] = {"responses": ["linear"]}
    small_protocol["analyses"] = ["moments", {"anova": {"factors": ["class_label"]}}]
    result = run(small_protocol, tmp_path / "out.zarr")
    expected = anova(npr.open_recording(tmp_path / "out.zarr"), "class_label", seed=small_protocol.get("seed", 0))
    same(result["anova"].to_dataset(), expected)
    assert "anova for class_label" in str(status(tmp_path / "out.zarr"))
    # and what it stored is a subject too
    again = protocol(tmp_path / "out.zarr", ["anova"], factors=["class_label"])
    same(run(again, tmp_path / "again.zarr")["anova"].to_dataset(), expected)
    small_protocol["record"]["store"] = "none"
    with pytest.raises(ProtocolError, match=r"anova is of stored responses: give `record: \{store: responses\}`"):
        npr.load_protocol(small_protocol)


def test_a_run_that_stops_goes_on(recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, given = run(protocol(recording, ANALYSES[:3]), tmp_path / "whole.zarr"), protocol(recording, ANALYSES[:3])
    done: list[str] = []
    really = trial_store.analysed

    def stopping(tree: xr.DataTree, spec: Any, *rest: Any) -> dict[str, xr.Dataset]:
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(spec.name)
        return really(tree, spec, *rest)

    monkeypatch.setattr(trial_store, "analysed", stopping)
    with pytest.raises(KeyboardInterrupt):
        run(given, tmp_path / "out.zarr")
    assert not status(tmp_path / "out.zarr").finished
    assert status(tmp_path / "out.zarr").sessions["analyses"]["blocks_done"] == 1
    with pytest.raises(StoreError, match="unfinished: 1 of 3"):
        npr.open_result(tmp_path / "out.zarr")
    # a torn line is of nothing
    with (tmp_path / "out.zarr" / RUN_FOLDER / "journal.jsonl").open("a") as journal:
        journal.write('{"session": "analy')
    seen: list[str] = []
    monkeypatch.setattr(trial_store, "analysed", lambda *a: (seen.append(a[1].name), really(*a))[1])
    again = run(given, tmp_path / "out.zarr")
    assert seen == ["reliability", "tuning"]
    for path in ("anova", "reliability", "tuning/orientation", "tuning/eye"):
        xr.testing.assert_identical(again[path].to_dataset(), whole[path].to_dataset())
    run(given, tmp_path / "out.zarr")  # all is there
    assert seen == ["reliability", "tuning"]
    with pytest.raises(StoreError, match="was written by another protocol"):
        run(protocol(recording, ["anova"]), tmp_path / "out.zarr")


REFUSED: list[tuple[dict[str, Any], list[Any], str]] = [
    ({"factors": ["orientaton"]}, FIRST, r"unknown factor 'orientaton' \(did you mean 'orientation'\?\)"),
    ({"window": [0.0, 1.0]}, FIRST, "window: .* holds responses that were read before"),
    ({}, ["latency"], "latency needs bins of time, and 'v1' has none"),
    ({}, ["sobol"], "sobol cannot run on this recording: .*take variance_decomposition"),
    ({}, ["shapley"], "shapley cannot run on this recording"),
    ({}, ["contrast"], "contrast cannot run on this recording"),
    ({}, ["moments"], "moments cannot run on a recording: .*take variance_decomposition"),
    ({}, ["selectivity"], "selectivity cannot run on a recording"),
    ({}, [{"tuning": {"factors": ["eye"], "model": "gabor"}}], "eye is text, and functions are fitted to numbers"),
    ({}, [{"anova": {"factors": ["eyes"]}}], r"unknown factor 'eyes' \(did you mean 'eye'\?\)"),
    ({}, [{"anova": {"factors": ["orientation", "eye"], "n_permutations": 9}}], "n_permutations: trials are permuted"),
    ({}, [{"discrimination": {"against": "up"}}], "against: 'up' is no condition of orientation"),
    ({}, ["psth"], "a PSTH needs bins of time, and 'v1' has none"),
    ({}, [{"anova": {"units": "unit_id == 'none'"}}], "none of the 12 recorded units is chosen"),
    ({}, [{"responsiveness": {"blank": "null"}}], "no trial is a blank 'null'"),
]


@pytest.mark.parametrize(("more", "analyses", "message"), REFUSED, ids=[str(n) for n in range(len(REFUSED))])
def test_what_cannot_run_is_refused_before_any_work(
    more: dict[str, Any], analyses: list[Any], message: str, recording: Path, tmp_path: Path
) -> None:
    with pytest.raises(NeuroprobeError, match=message):
        run(protocol(recording, analyses, **more), tmp_path / "out.zarr")
    assert not (tmp_path / "out.zarr").exists()


def test_errors_name_their_place(recording: Path, tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    text = (
        f"neuroprobe: 1\nsubject:\n  recording: {{path: {recording}, bins: 0.1}}\nanalyses:\n  - anova\n  - latency\n"
    )
    file.write_text(text)
    with pytest.raises(ReaderError, match=r"p\.yaml:3:\d+: bins: "):
        npr.run(file, tmp_path / "out.zarr")
    file.write_text(text.replace(", bins: 0.1", ""))
    with pytest.raises(ReaderError, match=r"p\.yaml:6:5: latency needs bins"):
        npr.run(file, tmp_path / "out.zarr")
    file.write_text(text.replace(str(recording), "missing.nwb"))
    with pytest.raises(ReaderError, match=r"p\.yaml:3:3: .*missing\.nwb': no such file"):
        npr.run(file, tmp_path / "out.zarr")
    with pytest.raises(StoreError, match="is the recording itself"):
        run(protocol(recording, FIRST), recording, overwrite=True)
    assert npr.open_recording(recording)


def test_a_table_is_read_with_the_options_of_its_reader(tmp_path: Path) -> None:
    from neuroprobe.recordings.contract import READERS

    (tmp_path / "bad.csv").write_text("unit,orientation,response\n")
    with pytest.raises(NeuroprobeError):
        run(protocol(tmp_path / "bad.csv", FIRST), tmp_path / "out.zarr")
    with pytest.raises(ReaderError, match=r"unknown choice for .* recordings 'layuot'"):
        run(protocol(tmp_path / "bad.csv", FIRST, layuot="x"), tmp_path / "out.zarr")
    assert "table" in list(READERS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stimuli": {"images": {"folder": "a"}}}, "stimuli means nothing with a recording as subject.*leave it out"),
        ({"treatment": {"alterations": ["hflip"]}}, "treatment means nothing with a recording"),
        ({"control": "original"}, "control means nothing with a recording"),
        ({"design": {"samples": 8}}, "design means nothing with a recording"),
        ({"record": {"batch": 8}}, "record means nothing with a recording"),
        ({"subject": {"recording": "a.nwb", "layers": ["x"]}}, "layers is of networks, and the subject is a recording"),
        ({"analyses": ["anova", "anova"]}, "anova is listed twice"),
        ({"analyses": [{"anova": {"ordr": 1}}]}, r"unknown key 'ordr' \(did you mean 'order'\?\)"),
        ({"subject": {"recording": 3}}, "recording: given 3, expected a path"),
    ],
)
def test_keys_that_mean_nothing(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        npr.load_protocol({**protocol(Path("a.nwb"), ["anova"]), **changes})


def test_the_plan_says_what_there_is_and_what_can_run(recording: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = npr.plan(protocol(recording, ["anova", "latency"]))
    told = made.as_dict()
    assert (told["recording"]["units"], told["recording"]["presentations"]) == (12, 80)
    assert told["recording"]["factors"]["orientation"] == {str(22.5 * n): 10 for n in range(8)}
    assert told["analyses"] == ["anova"]
    assert list(told["problems"]) == ["latency"]
    assert "cannot run  latency: latency needs bins" in str(made)
    assert "12 units" in str(made)
    monkeypatch.setattr(animal_runs, "COPIES", 1 << 20)
    with pytest.raises(NeuroprobeError, match=r"a piece under analysis .* are allowed"):
        npr.plan(protocol(recording, ["anova"]), memory="1GB")


@pytest.mark.parametrize("name", ["mt_disparity", "mtl_recognition", "mtl_encoding", "mtl_time_course"])
def test_protocols_that_ship(name: str, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUROPROBE_DATA", str(data))
    loaded = npr.load_protocol(Path(__file__).parents[1] / "protocols" / f"{name}.yaml")
    path = Path(loaded.subject.recording.path)
    assert path.is_relative_to(data)
    if name == "mt_disparity" or not path.exists():
        return  # 501 files
    pytest.importorskip("h5py")
    told = npr.plan(loaded).as_dict()
    assert told["recording"]["units"] == 35
    assert told["recording"]["presentations"] == (90 if name == "mtl_encoding" else 180)
    assert not told["problems"]


def test_units_of_what_was_read_before_are_chosen(recording: Path, tmp_path: Path) -> None:
    whole = run(protocol(recording, ["anova"]), tmp_path / "whole.zarr")
    some = run(protocol(recording, ["anova"], units=["u1", "u1*"]), tmp_path / "some.zarr")
    assert some["anova"].unit_id.values.tolist() == ["u1", "u10", "u11"]
    np.testing.assert_array_equal(some["anova"].p_value, whole["anova"].p_value[[1, 10, 11]])
    with pytest.raises(ReaderError, match="unknown unit 'u99'"):
        run(protocol(recording, ["anova"], units="u99"), tmp_path / "none.zarr")
    with pytest.raises(ReaderError, match="does not say in which regions"):
        run(protocol(recording, ["anova"], region="MT"), tmp_path / "none.zarr")


def test_courses_over_time_are_blocks_too(tmp_path: Path) -> None:
    from neuroprobe.analysis.spike_trains import psth
    from neuroprobe.recordings.simulated import simulate_animal
    from neuroprobe.recordings.simulated_units import tuned_units
    from neuroprobe.report import write_report

    pytest.importorskip("h5py")
    made = simulate_animal(
        tuned_units(3, {"orientation": "von_mises"}), {"orientation": [0.0, 45, 90, 135]}, n_repeats=4
    )
    write_recording(made, tmp_path / "a.nwb")
    more = {"window": [-0.1, 0.6], "bins": 0.05, "factors": ["orientation"]}
    given = protocol(
        tmp_path / "a.nwb", [{"psth": {"sigma": 0.1}}, {"discrimination": {"against": 45}}, "anova"], **more
    )
    result = run(given, tmp_path / "out.zarr")
    same(result["psth"].to_dataset(), psth(npr.read_recording(tmp_path / "a.nwb", **more), sigma=0.1))
    text = str(status(tmp_path / "out.zarr"))
    assert "psth for orientation: defined for 3 of 3 units" in text
    assert "discrimination for orientation 90 against 45" in text
    write_report(tmp_path / "out.zarr", tmp_path / "out.html")
    page = (tmp_path / "out.html").read_text()
    assert "Responses over time" in page
    assert "tells 90 from 45" in page
