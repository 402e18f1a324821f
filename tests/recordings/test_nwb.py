"""NWB files, made here with plain h5py and real ones: tables of intervals, ragged spikes, bytes, what is missing."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from neuroprobe.errors import ReaderError
from neuroprobe.recordings import read_recording, spiking
from neuroprobe.recordings.nwb import spike_trains

h5py = pytest.importorskip("h5py", reason="NWB needs h5py: pip install 'neuroprobe[nwb]'")

# unsorted, as files come
TRAINS = [[1.25, 0.5, 1.1, 2.3], [], [0.9, 1.0, 1.2, 2.0, 2.1, 2.2]]


def write(path: Path, **changes: Any) -> Path:
    """Write a small NWB file; `changes` replaces, adds or (None) leaves out datasets by path."""
    datasets: dict[str, Any] = {
        "general/subject/subject_id": b"monkey",
        "general/extracellular_ephys/electrodes/id": [100, 101],
        "general/extracellular_ephys/electrodes/location": [b"V1", b"V4"],
        "units/id": [7, 8, 9],
        "units/spike_times": np.concatenate(TRAINS),
        "units/spike_times_index": np.cumsum([len(train) for train in TRAINS]).astype(np.uint8),
        "units/electrodes": [1, 0, 1],
        "units/quality": [b"good", b"bad", b"good"],
        "intervals/trials/id": [0, 1],
        "intervals/trials/start_time": np.array([1.0, 2.0], dtype=np.float32),
        "intervals/trials/stop_time": np.array([1.5, 3.0], dtype=np.float32),
        "intervals/trials/contrast": [0.5, 1.0],
        "intervals/trials/image": [b"a.png", b"b.png"],
        "intervals/trials/tags": [b"x", b"y", b"z"],
        "intervals/trials/tags_index": [2, 3],
        "intervals/epochs/start_time": [0.0],
        "intervals/epochs/stop_time": [9.0],
        **changes,
    }
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            if values is not None:
                file[name] = values
    return path


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return write(tmp_path / "s.nwb")


def node(tree: xr.DataTree) -> xr.Dataset:
    (only,) = tree["responses"].children.values()
    return only.to_dataset()


def test_spikes_are_counted_around_the_only_table_of_trials(made: Path) -> None:
    tree = read_recording(made, window=(0.0, 0.25), baseline=(-0.25, 0.0), factors=["contrast"])
    found = node(tree)
    # 1.25 is not in [1, 1.25), 1.0 is
    assert found.response.values.tolist() == [[1, 0, 2], [0, 0, 3]]
    assert found.baseline.values.tolist() == [[0, 0, 1], [0, 0, 0]]
    assert found.unit_id.values.tolist() == ["7", "8", "9"]
    assert found.region.values.tolist() == ["V4", "V1", "V4"]
    assert found.quality.values.tolist() == ["good", "bad", "good"]
    assert set(found.subject_id.values) == {"monkey"}
    assert tree.image.values.tolist() == ["a.png", "b.png"]
    assert tree.tags.values.tolist() == ["x;y", "z"]
    assert tree.start_time.dtype == np.float64
    assert tree.start_time.attrs["units"] == "s"
    assert found.response.attrs["units"] == "spikes"
    assert found.response.attrs["window_end"] == 0.25
    assert json.loads(tree.attrs["factors"]) == ["contrast"]


def test_rates_of_whole_intervals(made: Path) -> None:
    found = node(read_recording(made, window="interval", measure="rate"))
    np.testing.assert_allclose(found.response, [[2 / 0.5, 0, 2 / 0.5], [1.0, 0, 3.0]])
    with pytest.raises(ReaderError, match="intervals differ in length"):
        read_recording(made, window="interval")
    with pytest.raises(ReaderError, match=r"window is .* or 'interval', received 'trial'"):
        read_recording(made, window="trial")


def test_bins_of_time(made: Path) -> None:
    found = node(read_recording(made, window=(-0.5, 0.5), bins=0.25, measure="rate"))
    np.testing.assert_allclose(found.time_bin, [-0.375, -0.125, 0.125, 0.375])
    np.testing.assert_allclose(found.time_bin_end, [-0.25, 0, 0.25, 0.5])
    np.testing.assert_array_equal(found.response[0, 0], np.array([1, 0, 1, 1]) / 0.25)
    edges = node(read_recording(made, bins=[-0.5, 0.0, 0.5]))
    assert edges.response[0, 2].values.tolist() == [1, 2]
    with pytest.raises(ReaderError, match=r"bins of 0.3 s do not fill the window from 0 to 1 s"):
        read_recording(made, window=(0, 1), bins=0.3)
    with pytest.raises(ReaderError, match="leave it out"):
        read_recording(made, window=(0, 1), bins=[0, 0.5])
    with pytest.raises(ReaderError, match="two or more ascending times"):
        read_recording(made, bins=[0.5, 0.5])


def test_counts_of_windows_that_differ_are_not_compared(made: Path) -> None:
    with pytest.raises(ReaderError, match=r"counts in 0.5 s and in a baseline of 0.2 s .* `measure='rate'`"):
        read_recording(made, window=(0, 0.5), baseline=(-0.2, 0))
    found = node(read_recording(made, window=(0, 0.5), baseline=(-0.2, 0), measure="rate"))
    assert found.baseline[0, 2].item() == pytest.approx(5.0)


def test_a_row_without_a_time_has_no_response(tmp_path: Path) -> None:
    path = write(tmp_path / "s.nwb", **{"intervals/trials/answer": [np.nan, 2.05]})
    found = node(read_recording(path, window=(0.0, 0.25), align="answer"))
    np.testing.assert_array_equal(found.response, [[np.nan] * 3, [0, 0, 2]])
    for align, message in [("aswer", "did you mean 'answer'"), ("image", "image holds text")]:
        with pytest.raises(ReaderError, match=message):
            read_recording(path, window=(0.0, 0.25), align=align)


def test_units_and_regions_are_chosen_before_counting(made: Path) -> None:
    assert node(read_recording(made, window=(0, 1), region="V4")).unit_id.values.tolist() == ["7", "9"]
    assert node(read_recording(made, window=(0, 1), units=["9", "7"])).response.shape == (2, 2)
    tree = read_recording(made, window=(0, 1), split="region")
    assert {name: one.sizes["unit"] for name, one in tree["responses"].children.items()} == {"V4": 2, "V1": 1}


def test_large_responses_wait_and_are_the_same(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    choices: dict[str, Any] = {"window": (-0.5, 0.5), "bins": 0.25, "baseline": (-0.25, 0.0)}
    now = node(read_recording(made, **choices))
    monkeypatch.setattr(spiking, "LAZY_BYTES", 0)
    monkeypatch.setattr(spiking, "BLOCK_BYTES", 1)
    later = node(read_recording(made, **choices))
    assert later.response.chunks is not None
    assert len(later.response.chunks[1]) == 3
    xr.testing.assert_identical(later.compute(), now)


def test_trials_of_the_callers_own(tmp_path: Path, made: Path) -> None:
    table = {"start_time": [0.75], "kind": ["probe"]}
    found = node(read_recording(made, trials=table, window=(0.0, 0.5)))
    assert found.response.values.tolist() == [[1, 0, 3]]
    (tmp_path / "t.csv").write_text("start_time (s),kind\n0.75,probe\n")
    xr.testing.assert_equal(node(read_recording(made, trials=str(tmp_path / "t.csv"), window=(0.0, 0.5))), found)
    with pytest.raises(ReaderError, match="trials: no column 'start_time'"):
        read_recording(made, trials={"time": [1.0]}, window=(0, 1))
    with pytest.raises(ReaderError, match="columns differ in length"):
        read_recording(made, trials={"start_time": [1.0], "a": [1, 2]}, window=(0, 1))


def test_what_is_not_chosen_is_told(tmp_path: Path) -> None:
    more = {
        "intervals/other/start_time": [0.0],
        "intervals/other/stop_time": [1.0],
        "processing/p/i/start_time": [0.0, 1.0],
        "processing/p/i/stop_time": [1.0, 2.0],
        "processing/p/i/odour": [b"a", b"b"],
    }
    path = write(tmp_path / "s.nwb", **more)
    with pytest.raises(ReaderError) as caught:
        read_recording(path)
    text = str(caught.value)
    assert "which table holds the presentations? Say `trials`: other, trials, i" in text
    assert "3 units; regions: V1 (1), V4 (2); identifiers: 7, 8, 9" in text
    assert "  trials: 2 rows; columns contrast, id, image, start_time, stop_time, tags" in text
    assert "  i: 2 rows; columns odour, start_time, stop_time" in text
    with pytest.raises(ReaderError, match=r"(?s)in which window are spikes counted\?.*holds 3 units"):
        read_recording(path, trials="i")
    with pytest.raises(ReaderError, match=r"(?s)unknown table of intervals 'trails' \(did you mean 'trials'\?\)"):
        read_recording(path, trials="trails")


def test_electrodes_of_several_kinds(tmp_path: Path) -> None:
    several = {"units/electrodes": [1, 0, 0], "units/electrodes_index": [2, 2, 3]}
    found = node(read_recording(write(tmp_path / "a.nwb", **several), window=(0, 1)))
    assert found.region.values.tolist() == ["V4", "", "V1"]
    peak = {"units/electrodes": None, "units/peak_channel_id": [101, 100, 999]}
    found = node(read_recording(write(tmp_path / "b.nwb", **peak), window=(0, 1)))
    assert found.region.values.tolist() == ["V4", "V1", ""]
    own = {"units/location": [b"LGN", b"V1", b"V1"]}
    found = node(read_recording(write(tmp_path / "c.nwb", **own), window=(0, 1)))
    assert found.region.values.tolist() == ["LGN", "V1", "V1"]
    none = {"units/electrodes": None}
    with pytest.raises(ReaderError, match="does not say in which regions"):
        read_recording(write(tmp_path / "d.nwb", **none), window=(0, 1), region="V1")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"units/spike_times_index": None}, "has no spike times of units"),
        ({"units/spike_times_index": [4, 4, 99]}, "units end at spike 99, there are 10: the file is damaged"),
        ({"intervals/trials/start_time": None}, r"(?s)has no trials: give them as `trials`.*epochs: 1 rows"),
    ],
)
def test_files_that_lack_something(tmp_path: Path, changes: Any, message: str) -> None:
    with pytest.raises(ReaderError, match=message):
        read_recording(write(tmp_path / "s.nwb", **changes), window=(0, 1))


def test_files_that_are_damaged(tmp_path: Path, made: Path) -> None:
    whole = made.read_bytes()
    for name, part in (("short.nwb", whole[: len(whole) // 2]), ("text.nwb", b"hello"), ("empty.nwb", b"")):
        (tmp_path / name).write_bytes(part)
        with pytest.raises(ReaderError, match=f"{name}': not an HDF5 file that can be read, or only the beginning"):
            read_recording(tmp_path / name, window=(0, 1))


@pytest.fixture(scope="module")
def mtl(data: Path) -> Path:
    return data / "recordings" / "nwb" / "zheng2022_sub-4_mtl.nwb"


@pytest.mark.parametrize(
    ("table", "n"), [("encoding_table", 90), ("recognition_table", 180), ("timediscrimination_table", 180)]
)
def test_human_recording(mtl: Path, table: str, n: int) -> None:
    choices: dict[str, Any] = {"trials": table, "window": (0.2, 1.0), "baseline": (-1.0, -0.2)}
    found = node(read_recording(mtl, **choices))
    assert found.sizes == {"presentation": n, "unit": 35}
    with h5py.File(mtl) as file:
        times, ends = file["units/spike_times"][:], file["units/spike_times_index"][:]
        starts = file[f"intervals/{table}/start_time"][:]
    assert len(times) == 214_278
    for unit in (0, 17, 34):
        train = times[ends[unit - 1] if unit else 0 : ends[unit]]
        for row in (0, 41, n - 1):
            after = (train >= starts[row] + 0.2) & (train < starts[row] + 1.0)
            before = (train >= starts[row] - 1.0) & (train < starts[row] - 0.2)
            assert (found.response[row, unit], found.baseline[row, unit]) == (after.sum(), before.sum())


def test_all_spikes_of_the_human_recording(mtl: Path) -> None:
    found = node(read_recording(mtl, trials={"start_time": [0.0]}, window=(-1.0, 1e6)))
    assert found.response.sum() == 214_278
    assert np.unique(found.region.values, return_counts=True)[1].tolist() == [10, 25]


def test_factors_of_the_human_recording(mtl: Path) -> None:
    tree = read_recording(mtl, trials="encoding_table", window=(0.2, 1.0), factors=["stimCategory"])
    assert np.unique(tree.stimCategory).tolist() == [0, 1, 2]
    assert tree.Clip_name.values[0] == "NB_24.mp4"
    with pytest.raises(ReaderError, match=r"unknown factor 'stimcategory' \(did you mean 'stimCategory'"):
        read_recording(mtl, trials="encoding_table", window=(0.2, 1.0), factors=["stimcategory"])


def test_recording_without_trials(data: Path) -> None:
    path = data / "recordings" / "nwb" / "a8604_no_trials.nwb"
    with pytest.raises(ReaderError, match=r"(?s)has no trials.*3 units; identifiers: 6, 191, 206.*epochs: 1 rows"):
        read_recording(path, window=(0, 1))
    found = node(read_recording(path, trials="epochs", window=(0, 2000)))
    assert found.response.sum() == 21_354


def test_half_of_the_human_recording(mtl: Path, tmp_path: Path) -> None:
    (tmp_path / "half.nwb").write_bytes(mtl.read_bytes()[:1_000_000])
    with pytest.raises(
        ReaderError, match=r"half.nwb': not an HDF5 file .* only the beginning of one \(1000000 bytes\)"
    ):
        read_recording(tmp_path / "half.nwb", trials="encoding_table", window=(0, 1))


def test_spike_trains_as_they_are(data: Path) -> None:
    file = data / "recordings" / "nwb" / "zheng2022_sub-4_mtl.nwb"
    if not file.is_file():
        pytest.skip("no recording of the human medial temporal lobe")
    found = spike_trains(file)
    assert (len(found), sum(map(len, found.values()))) == (35, 214_278)
    assert all((np.diff(times) >= 0).all() for times in found.values())
    (one,) = spike_trains(file, ["28"]).items()
    assert one[0] == "28"
    np.testing.assert_array_equal(one[1], found["28"])
    with pytest.raises(ReaderError, match="unit"):
        spike_trains(file, ["99"])
    with pytest.raises(ReaderError, match="no such file"):
        spike_trains(data / "none.nwb")


def test_a_factor_of_another_table_is_told(tmp_path: Path) -> None:
    made = write(
        tmp_path / "two.nwb",
        **{
            "intervals/recall/start_time": [1.0],
            "intervals/recall/stop_time": [2.0],
            "intervals/recall/kind": [b"old"],
        },
    )
    told = r"factor 'kind' is no column of the table trials, but of recall: say `trials`: recall, or a factor of trials"
    with pytest.raises(ReaderError, match=told) as error:
        read_recording(made, trials="trials", window=(0.0, 0.1), factors=["kind"])
    assert "tables of intervals:" in str(error.value)
    with pytest.raises(ReaderError, match="unknown factor 'nothing'"):
        read_recording(made, trials="trials", window=(0.0, 0.1), factors=["nothing"])
