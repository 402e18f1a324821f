"""`neuroprobe compare`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner

import neuroprobe as npr
from made_animals import animal
from neuroprobe.cli import main
from neuroprobe.recordings import write_recording

N = 12


@pytest.fixture
def stored(tmp_path: Path, rng: np.random.Generator) -> tuple[Path, Path]:
    values = rng.normal(size=(N, 6))
    paths = (tmp_path / "a.zarr", tmp_path / "b.zarr")
    for path, of in zip(paths, (values, values @ rng.normal(size=(6, 4))), strict=True):
        write_recording(animal(of, {"stimulus_id": np.array([f"s{n:02d}" for n in range(N)], dtype=object)}), path)
    return paths


def test_a_table_json_and_a_file(stored: tuple[Path, Path], tmp_path: Path) -> None:
    arguments = ["compare", *map(str, stored), "--metric", "cka", "--option", "n_permutations=99"]
    printed = CliRunner().invoke(main, arguments)
    assert printed.exit_code == 0, printed.output
    assert printed.stdout.splitlines()[0].split()[:4] == ["area", "layer", "score", "score_se"]
    assert "cka, linear, without bias (neuroprobe-1)" in printed.stderr
    output = tmp_path / "found.nc"
    found = json.loads(CliRunner().invoke(main, [*arguments, "--json", "-o", str(output)]).stdout)
    expected = npr.compare(*stored, "cka", n_permutations=99)
    assert found["rows"][0]["score"] == expected["score"].item()
    assert found["metric"] == "cka"
    with xr.open_dataset(output) as written:
        np.testing.assert_array_equal(written["score"].values, expected["score"].values)


def test_dissimilarities_with_labels(stored: tuple[Path, Path], tmp_path: Path, rng: np.random.Generator) -> None:
    square = np.zeros((3, N, N))
    first, second = np.triu_indices(N, 1)
    square[:, first, second] = square[:, second, first] = rng.gamma(2, 1, (3, len(first)))
    np.savez(tmp_path / "rdms.npz", rdms=square)
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(f"s{n:02d}" for n in range(N)) + "\n")
    arguments = ["compare", str(stored[0]), str(tmp_path / "rdms.npz"), "--option", "n_draws=20"]
    found = CliRunner().invoke(main, [*arguments, "--labels", str(labels)])
    assert found.exit_code == 0, found.output
    assert "noise ceiling" in found.stderr
    found = CliRunner().invoke(main, arguments)
    assert found.exit_code == 1
    assert "stimuli do not match" in found.output
    found = CliRunner().invoke(main, ["compare", *map(str, stored), "--labels", str(labels)])
    assert "labels are of the stimuli of dissimilarities" in found.output
