"""The command line: output to stdout, progress to stderr, sentences in place of tracebacks, exit codes."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import yaml
from click.testing import CliRunner, Result

import neuroprobe as npr
from neuroprobe.cli import main
from neuroprobe.export import write_units
from neuroprobe.protocol.selectivity import IndexSpec, SelectivityOptions

PROTOCOL = """\
neuroprobe: 1
title: small
subject: {network: embedded, layers: [conv6, linear]}
stimuli: {images: {photographs: {per_image: 2}, size: 16}}
treatment:
  reference_side: image
  alterations:
    - {name: grayscale, switch: 0.5}
    - {name: hue, switch: 0.5}
design: {samples: 128}
record: {batch: 64, store: {responses: [linear]}}
"""


@pytest.fixture
def protocol(tmp_path: Path) -> Path:
    path = tmp_path / "p.yaml"
    path.write_text(PROTOCOL)
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    (folder / "p.yaml").write_text(PROTOCOL)
    assert call("run", folder / "p.yaml", "-o", folder / "out.zarr").exit_code == 0
    return folder / "out.zarr"


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_run_prints_the_store_on_stdout_and_warnings_on_stderr(protocol: Path, tmp_path: Path) -> None:
    result = call("run", protocol, "-o", tmp_path / "out.zarr")
    assert result.exit_code == 0
    assert result.stdout == f"{tmp_path / 'out.zarr'}\n"
    assert "warning: standard errors rest on 2 blocks" in result.stderr
    # no bar where stderr is no terminal
    assert "%|" not in result.stderr


def test_check_says_all_errors_at_once(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(PROTOCOL.replace("title:", "titel:").replace("hue,", "huge,"))
    result = call("check", path)
    assert result.exit_code == 2
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert lines[0].startswith(f"{path}:2:1: unknown key 'titel' (did you mean 'title'?)")
    assert lines[1].startswith(f"{path}:9:8: unknown alteration 'huge' (did you mean 'hue'?)")
    assert call("run", path, "-o", tmp_path / "out.zarr").exit_code == 2
    assert not (tmp_path / "out.zarr").exists()


def test_check_says_what_a_reference_sets(protocol: Path) -> None:
    protocol.write_text(protocol.read_text() + "reference: kharyuk2025\n")
    lines = call("check", protocol).output.splitlines()
    assert lines[1:3] == ["  subject.preprocess.minmax: true", '  stimuli.image: "redrawn"']


def test_check_of_a_valid_protocol(protocol: Path) -> None:
    result = call("check", protocol)
    assert result.exit_code == 0
    assert "valid, hash" in result.stdout


def test_dry_run_prints_the_plan_and_writes_nothing(protocol: Path, tmp_path: Path) -> None:
    result = call("run", protocol, "--dry-run")
    assert result.exit_code == 0
    for word in ("128 base samples × 6", "conv6", "memory", "disk", "time"):
        assert word in result.stdout
    plan = json.loads(call("run", protocol, "--dry-run", "--json", "--limit", 16).stdout)["sessions"]["pick-freeze"]
    assert (plan["samples"], plan["rows"], plan["factors"]) == (16, 96, ["grayscale", "hue"])
    assert [path.name for path in tmp_path.iterdir()] == ["p.yaml"]


def test_run_without_output_is_a_usage_error(protocol: Path) -> None:
    result = call("run", protocol)
    assert result.exit_code == 2
    assert "-o OUT.zarr" in result.stderr


def test_device_on_the_command_line_is_checked(protocol: Path, tmp_path: Path) -> None:
    result = call("run", protocol, "-o", tmp_path / "out.zarr", "--device", "gpu")
    assert result.exit_code == 2
    assert "Invalid value for '--device': given 'gpu', expected auto, cpu" in result.stderr
    assert call("run", protocol, "-o", tmp_path / "out.zarr", "--device", "cpu").exit_code == 0
    details = json.loads(xr.open_datatree(tmp_path / "out.zarr").attrs["neuroprobe_provenance"])
    assert details["protocol_as_given"]["record"] == {
        "batch": 64,
        "device": "cpu",
        "store": {"responses": ["linear"]},
    }
    assert details["protocol_as_given"]["design"] == {"samples": 128}


def test_errors_are_sentences(protocol: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    result = call("run", protocol, "-o", tmp_path / "full")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: output ")
    assert "Traceback" not in result.stderr


def test_interruption_says_how_to_go_on(protocol: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from neuroprobe import recorder

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(recorder.Recorder, "record_span", interrupt)
    result = call("run", protocol, "-o", tmp_path / "out.zarr")
    assert result.exit_code == 130
    assert "run the same command again" in result.stderr
    status = json.loads(call("status", tmp_path / "out.zarr", "--json").stdout)
    assert (status["finished"], status["sessions"]["pick-freeze"]) == (
        False,
        {"samples": 128, "blocks": 2, "blocks_done": 0, "parts": 1},
    )


def test_status_shows_the_stored_data_before_any_index(store: Path) -> None:
    text = call("status", store).stdout
    assert text.index("xarray.Dataset") < text.index("S1")
    assert "pick-freeze: 2 of 2 blocks, 128 base samples" in text
    status = json.loads(call("status", store, "--json").stdout)
    assert {(row["layer"], row["factor"]) for row in status["layers"]} == {
        (layer, factor) for layer in ("conv6", "linear") for factor in ("grayscale", "hue")
    }
    assert call("status", store.parent).exit_code == 1


def test_export_writes_the_same_numbers(store: Path, tmp_path: Path) -> None:
    assert call("export", store, "-o", tmp_path / "out.nc").exit_code == 0
    exported, result = xr.open_datatree(tmp_path / "out.nc"), xr.open_datatree(store)
    assert exported.attrs["neuroprobe_provenance"] == result.attrs["neuroprobe_provenance"]
    for layer in ("conv6", "linear"):
        for name, values in exported[f"sobol/{layer}"].data_vars.items():
            assert values.values.tobytes() == result[f"sobol/{layer}"][name].values.tobytes()
        assert exported[f"sobol/{layer}"]["factor"].values.tolist() == ["grayscale", "hue"]
    for name in ("stimulus", "parameters", "image_id", "treatment"):
        examples = exported["stimuli/examples"][name], result["stimuli/examples"][name]
        assert examples[0].values.tolist() == examples[1].values.tolist()
    assert set(exported["stimuli/examples"].data_vars) == {"stimulus", "parameters"}
    assert not list(tmp_path.glob("*.tmp"))


def test_report_says_where_the_page_is(store: Path, tmp_path: Path) -> None:
    result = call("report", store, "-o", tmp_path / "new" / "out.html")
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'new' / 'out.html'}\n")
    page = (tmp_path / "new" / "out.html").read_text()
    for word in ("small", "grayscale", "conv6", "hash of the weights", "standard errors rest on"):
        assert word in page
    missing = call("report", tmp_path / "none.zarr", "-o", tmp_path / "out.html")
    assert (missing.exit_code, missing.stderr.startswith("error: ")) == (1, True)


QUERY = "layer == 'linear' and total_order_hue > 0.1"


def test_select_prints_a_unit_a_line(store: Path) -> None:
    result = call("select", store, QUERY)
    units = npr.select_units(store, QUERY)
    assert result.exit_code == 0
    header, *lines = result.stdout.splitlines()
    assert header.split("\t") == ["layer", "channel", "y", "x", "total_order_hue", "total_order_se_hue"]
    assert len(lines) == units.sizes["unit"] > 0
    value = float(units["total_order_hue"][0])
    # a layer without space has no places
    assert lines[0].split("\t")[:5] == ["linear", str(int(units["channel"][0])), "NaN", "NaN", f"{value:.6g}"]
    assert result.stderr == f"{len(lines)} of 458 units\n"


def test_select_columns_order_and_limit(store: Path) -> None:
    result = call("select", store, "--columns", "channel, y,mean", "--sort", "mean", "--limit", 3, "--ascending")
    header, *lines = result.stdout.splitlines()
    assert header == "channel\ty\tmean"
    nodes = npr.open_result(store)["sobol"].children.values()
    means = np.concatenate([node["mean"].values.ravel() for node in nodes])
    assert [line.split("\t")[2] for line in lines] == [f"{mean:.6g}" for mean in np.sort(means)[:3]]
    assert result.stderr == "458 of 458 units\n"


def test_select_for_machines(store: Path) -> None:
    units = npr.select_units(store, "total_order_hue > 0.1")
    records = json.loads(call("select", store, "total_order_hue > 0.1", "--json").stdout)
    assert len(records) == units.sizes["unit"] > 0
    for number, record in enumerate(records):
        for name, value in record.items():
            expected = units[name].values[number]
            assert value == (None if expected != expected else expected)
    table = pd.read_csv(io.StringIO(call("select", store, "total_order_hue > 0.1", "--csv").stdout))
    pd.testing.assert_frame_equal(table, units.to_dataframe().reset_index(drop=True), check_exact=True)
    assert json.loads(call("select", store, "mean > 1e9", "--json").stdout) == []
    assert call("select", store, "mean > 1e9", "--csv").stdout == "layer,channel,y,x,mean,mean_se\n"


def test_select_lists_its_columns(store: Path) -> None:
    rows = json.loads(call("select", store, "--list-columns", "--json").stdout)
    assert [row["name"] for row in rows] == list(npr.select_units(store, limit=1).variables)
    lines = call("select", store, "--list-columns").stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [[row["name"], row["kind"]] for row in rows]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (["mean = 1"], 2, "error: query:1:6: '=' is not part of a query: write ==\n  mean = 1\n       ^\n"),
        (["men > 0"], 2, "error: query:1:1: unknown column 'men' (did you mean 'mean'?); known: layer, channel, y, x"),
        (["--sort", "men"], 2, "error: order_by: unknown column 'men' (did you mean 'mean'?)"),
        (["--columns", "mean,men"], 2, "error: columns: unknown column 'men'"),
        (["true", "--limit", "-1"], 2, "Usage"),
    ],
)
def test_select_says_what_is_wrong(store: Path, arguments: list[str], exit_code: int, message: str) -> None:
    result = call("select", store, *arguments)
    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert result.stderr.startswith(message)
    assert call("select", store.parent / "none.zarr", "true").exit_code == 1


def test_select_into_a_closed_pipe_is_quiet(store: Path) -> None:
    command = [sys.executable, "-m", "neuroprobe", "select", str(store)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() in {b"", b"458 of 458 units\n"}


def test_numbers_in_json_keep_all_digits() -> None:
    values = [1.2345678901234567e-15, 0.1 + 0.2, np.inf, np.nan, -1e300, 5e-324]
    places = {"layer": ("unit", np.array(['a/"b'] * 6, object)), "y": ("unit", [1.0, np.nan] * 3)}
    units = xr.Dataset({"p": ("unit", values)}, places)
    stream = io.StringIO()
    write_units(units, stream, "json")
    records = json.loads(stream.getvalue())
    assert [record["p"] for record in records] == [values[0], values[1], None, None, values[4], values[5]]
    assert records[0] == {"layer": 'a/"b', "y": 1, "p": values[0]}
    assert isinstance(records[0]["y"], int)
    assert records[1]["y"] is None


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("alterations", {"erasing", "grayscale", "gaussian_blur", "hue", "rotation"}),
        ("networks", {"embedded", "cifar_resnet20", "cifar_resnet56", "alexnet", "resnet18"}),
        ("analyses", {"sobol"}),
        ("indexes", {"colour", "orientation", "symmetry", "shape", "class", "colour_name"}),
        ("images", {"folder", "photographs"}),
        ("readers", {"nwb", "matlab", "table", "brainscore", "phy", "suite2p", "neo", "neuroprobe"}),
        ("writers", {"zarr", "netcdf", "nwb", "brainscore", "rsatoolbox"}),
    ],
)
def test_lists(what: str, expected: set[str]) -> None:
    rows = json.loads(call("list", what, "--json").stdout)
    assert expected <= {row["name"] for row in rows}
    assert all(row["summary"] for row in rows)
    assert all(name in call("list", what).stdout for name in expected)


def test_lists_write_options_as_protocols_do() -> None:
    options = {
        what: {row["name"]: row["options"] for row in json.loads(call("list", what, "--json").stdout)}
        for what in ("analyses", "indexes")
    }
    for index, text in options["indexes"].items():
        given = yaml.safe_load(f"{{{text}}}")
        # what is printed is what holds where nothing is given
        assert IndexSpec(name=index, options=given) == IndexSpec(name=index)
    selectivity = yaml.safe_load(f"{{{options['analyses']['selectivity']}}}")
    assert SelectivityOptions(**selectivity) == SelectivityOptions()
    assert yaml.safe_load(f"{{{options['analyses']['sobol']}}}") == {
        "total_interaction": False,
        "estimator": "differences",
    }


def test_kinds_of_indexes() -> None:
    kinds = {row["name"]: row["kind"] for row in json.loads(call("list", "indexes", "--json").stdout)}
    assert (kinds["colour"], kinds["symmetry"], kinds["class"]) == ("loss", "invariance", "labels")


def test_list_layers() -> None:
    rows = json.loads(call("list", "layers", "--network", "resnet18", "--json").stdout)
    shapes = {row["layer"]: row["shape"] for row in rows}
    # Kharyuk et al. 2025 record these
    assert shapes["maxpool"] == "64 × 56 × 56"
    assert shapes["layer3"] == "256 × 14 × 14"
    assert shapes["layer1.0.relu#1"] == "64 × 56 × 56"
    fields = {row["layer"]: row["receptive_field"] for row in rows}
    assert fields["maxpool"] == "11 × 11 px, every 4 px"
    assert fields["fc"] == "whole image"
    assert call("list", "layers").exit_code == 2
    small = json.loads(call("list", "layers", "--network", "embedded", "--size", 64, "--json").stdout)
    assert {row["layer"]: row["shape"] for row in small}["conv6"] == "112 × 8 × 8"


def test_schema_accepts_the_protocols_that_ship() -> None:
    import jsonschema

    schema = jsonschema.Draft202012Validator(json.loads(call("schema").stdout))
    for path in (Path(__file__).parents[1] / "protocols").rglob("*.yaml"):
        schema.validate(yaml.safe_load(path.read_text()))
    with pytest.raises(jsonschema.ValidationError):
        schema.validate({**yaml.safe_load(PROTOCOL), "sed": 1})
    wrong = yaml.safe_load(PROTOCOL)
    wrong["treatment"]["alterations"][0]["name"] = "huge"
    with pytest.raises(jsonschema.ValidationError):
        schema.validate(wrong)


def test_help_and_import_load_nothing_heavy() -> None:
    """Checked by what is imported, not by the clock; benchmarks/bench_start.py measures the time."""
    script = (
        "import sys, neuroprobe\n"
        "from click.testing import CliRunner\n"
        "from neuroprobe.cli import main\n"
        "assert CliRunner().invoke(main, ['--help']).exit_code == 0\n"
        "heavy = {'torch', 'xarray', 'numpy', 'scipy', 'holoviews', 'pydantic', 'dask', 'zarr'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
