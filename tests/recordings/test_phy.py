"""Folders of spike sorters: samples, clusters, groups."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuroprobe.errors import ReaderError
from neuroprobe.recordings import read_recording

TRIALS = {"start_time": [1.0, 2.0], "side": ["l", "r"]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Spikes of clusters 2, 5 and 9 at 1000 samples per second."""
    np.save(tmp_path / "spike_times.npy", np.array([[100], [1100], [1200], [1900], [2000], [2300]], dtype=np.uint64))
    np.save(tmp_path / "spike_clusters.npy", np.array([2, 5, 2, 2, 9, 5], dtype=np.int32))
    (tmp_path / "params.py").write_text("dat_path = 'x.dat'\nsample_rate = 1000.\nhp_filtered = False\n")
    (tmp_path / "cluster_group.tsv").write_text("cluster_id\tgroup\n2\tgood\n5\tgood\n9\tmua\n7\tgood\n")
    return tmp_path


def test_good_clusters_around_trials(folder: Path) -> None:
    tree = read_recording(folder, trials=TRIALS, window=(0.0, 0.5), factors=["side"])
    found = tree[f"responses/{folder.name}"].to_dataset()
    assert found.unit_id.values.tolist() == ["2", "5"]
    assert found.response.values.tolist() == [[1, 1], [0, 1]]
    assert tree.side.values.tolist() == ["l", "r"]


def test_other_groups_and_what_the_sorter_guessed(folder: Path) -> None:
    found = read_recording(folder, trials=TRIALS, window=(0.0, 0.5), groups=["good", "mua"])
    assert found[f"responses/{folder.name}"]["response"].values.tolist() == [[1, 1, 0], [0, 1, 1]]
    with pytest.raises(ReaderError, match=r"no cluster is noise: say `groups`; there are good \(2\), mua \(1\)"):
        read_recording(folder, trials=TRIALS, window=(0.0, 0.5), groups="noise")
    (folder / "cluster_KSLabel.tsv").write_text("cluster_id\tKSLabel\n2\tmua\n5\tmua\n9\tgood\n")
    by_hand = read_recording(folder, trials=TRIALS, window=(0.0, 0.5))
    assert by_hand[f"responses/{folder.name}"]["unit_id"].values.tolist() == ["2", "5"]
    (folder / "cluster_group.tsv").unlink()
    guessed = read_recording(folder, trials=TRIALS, window=(0.0, 0.5))
    assert guessed[f"responses/{folder.name}"]["unit_id"].values.tolist() == ["9"]
    (folder / "cluster_KSLabel.tsv").unlink()
    everything = read_recording(folder, trials=TRIALS, window=(0.0, 0.5))
    assert everything[f"responses/{folder.name}"].sizes["unit"] == 3
    with pytest.raises(ReaderError, match="clusters have no groups"):
        read_recording(folder, trials=TRIALS, window=(0.0, 0.5), groups="good")


@pytest.mark.parametrize(
    ("file", "content", "choices", "message"),
    [
        ("params.py", "sample_rate = f()", {}, "how many samples are a second"),
        ("params.py", "sample_rate = = 3", {}, "not Python that can be read"),
        ("params.py", None, {}, "how many samples are a second"),
        ("spike_clusters.npy", None, {}, "neither spike_clusters.npy nor spike_templates.npy is there"),
        ("spike_clusters.npy", "", {}, "not an array of numbers"),
        ("cluster_group.tsv", "cluster_id\tgroup\n2\n", {}, r"cluster_group.tsv': line 2: 1 cells"),
        ("cluster_group.tsv", "unit\tgroup\n2\tgood\n", {}, "no column 'cluster_id'; columns: unit, group"),
        ("x", "", {"trials": None}, r"(?s)when was something shown\? Say `trials`.*holds 2 units"),
        ("x", "", {"trials": "trials.csv"}, "trials: 'trials.csv': no such file"),
    ],
)
def test_what_is_missing_or_wrong(folder: Path, file: str, content: Any, choices: Any, message: str) -> None:
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(content)
    with pytest.raises(ReaderError, match=message):
        read_recording(folder, **{"trials": TRIALS, "window": (0.0, 0.5), **choices})


def test_code_in_the_parameters_does_not_run(folder: Path) -> None:
    (folder / "params.py").write_text("open('ran', 'w')\nsample_rate = 500\n")
    found = read_recording(folder, trials=TRIALS, window=(0.0, 0.5))
    # twice as long in s
    assert found[f"responses/{folder.name}"]["response"].values.tolist() == [[0, 0], [1, 1]]
    assert not Path("ran").exists()


def test_lengths_that_do_not_fit(folder: Path) -> None:
    np.save(folder / "spike_clusters.npy", np.array([1, 2]))
    with pytest.raises(ReaderError, match="6 spike times, 2 clusters of spikes"):
        read_recording(folder, trials=TRIALS, window=(0.0, 0.5))
    (folder / "params.py").unlink()
    np.save(folder / "spike_clusters.npy", np.full(6, 2))
    found = read_recording(folder, trials=TRIALS, window=(0.0, 0.5), sample_rate=1000)
    assert found[f"responses/{folder.name}"]["response"].values.tolist() == [[2], [2]]
