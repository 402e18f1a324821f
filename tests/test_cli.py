"""The command line: output to stdout, progress to stderr, sentences in place of tracebacks, exit codes."""

import json
import sys
from pathlib import Path

import pytest
import xarray as xr
import yaml
from click.testing import CliRunner, Result

from neuroprobe.cli import main

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


def test_check_of_a_valid_protocol(protocol: Path) -> None:
    result = call("check", protocol)
    assert result.exit_code == 0
    assert "valid, hash" in result.stdout


def test_dry_run_prints_the_plan_and_writes_nothing(protocol: Path, tmp_path: Path) -> None:
    result = call("run", protocol, "--dry-run")
    assert result.exit_code == 0
    for word in ("128 base samples × 6", "conv6", "memory", "disk", "time"):
        assert word in result.stdout
    plan = json.loads(call("run", protocol, "--dry-run", "--json", "--limit", 16).stdout)
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
    assert (status["finished"], status["blocks_done"], status["blocks"]) == (False, 0, 2)


def test_status_shows_the_stored_data_before_any_index(store: Path) -> None:
    text = call("status", store).stdout
    assert text.index("xarray.Dataset") < text.index("S1")
    assert "2 of 2 blocks, 128 base samples, finished" in text
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
    assert not list(tmp_path.glob("*.tmp"))


def test_report_is_one_page_that_opens_offline(store: Path, tmp_path: Path) -> None:
    assert call("report", store, "-o", tmp_path / "new" / "out.html").exit_code == 0
    page = (tmp_path / "new" / "out.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    for word in ("small", "grayscale", "conv6", "weights_hash", "standard errors rest on"):
        assert word in page


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("alterations", {"erasing", "grayscale", "gaussian_blur", "hue", "rotation"}),
        ("networks", {"embedded", "cifar_resnet20", "cifar_resnet56", "alexnet", "resnet18"}),
        ("analyses", {"sobol"}),
        ("images", {"folder", "photographs"}),
    ],
)
def test_lists(what: str, expected: set[str]) -> None:
    rows = json.loads(call("list", what, "--json").stdout)
    assert expected <= {row["name"] for row in rows}
    assert all(row["summary"] for row in rows)
    assert all(name in call("list", what).stdout for name in expected)


def test_list_layers() -> None:
    rows = json.loads(call("list", "layers", "--network", "resnet18", "--json").stdout)
    shapes = {row["layer"]: row["shape"] for row in rows}
    # Kharyuk et al. 2025 record these
    assert shapes["maxpool"] == "64 × 56 × 56"
    assert shapes["layer3"] == "256 × 14 × 14"
    assert shapes["layer1.0.relu#1"] == "64 × 56 × 56"
    assert call("list", "layers").exit_code == 2
    small = json.loads(call("list", "layers", "--network", "embedded", "--size", 64, "--json").stdout)
    assert {row["layer"]: row["shape"] for row in small}["conv6"] == "112 × 8 × 8"


def test_schema_accepts_the_protocols_that_ship() -> None:
    import jsonschema

    schema = json.loads(call("schema").stdout)
    for path in (Path(__file__).parents[1] / "protocols").rglob("*.yaml"):
        jsonschema.validate(yaml.safe_load(path.read_text()), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**yaml.safe_load(PROTOCOL), "sed": 1}, schema)
    wrong = yaml.safe_load(PROTOCOL)
    wrong["treatment"]["alterations"][0]["name"] = "huge"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, schema)


def test_help_and_import_load_nothing_heavy() -> None:
    """Checked by what is imported, not by the clock; benchmarks/bench_start.py measures the time."""
    import subprocess

    script = (
        "import sys, neuroprobe\n"
        "from click.testing import CliRunner\n"
        "from neuroprobe.cli import main\n"
        "assert CliRunner().invoke(main, ['--help']).exit_code == 0\n"
        "heavy = {'torch', 'xarray', 'numpy', 'scipy', 'holoviews', 'pydantic', 'dask', 'zarr'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
