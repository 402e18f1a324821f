"""Folders of suite2p: means over frames, cells, and no pickle that is not allowed."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuroprobe.errors import ReaderError
from neuroprobe.recordings import read_recording

TRIALS = {"start_time": [1.0, 2.0, 3.8], "side": ["l", "r", "l"]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """40 frames at 10 Hz of three regions of interest, the second of which is no cell."""
    signal = np.arange(120, dtype=np.float32).reshape(3, 40)
    np.save(tmp_path / "F.npy", signal)
    np.save(tmp_path / "Fneu.npy", np.ones_like(signal))
    np.save(tmp_path / "spks.npy", signal * 2)
    np.save(tmp_path / "iscell.npy", np.array([[1, 0.9], [0, 0.1], [1, 0.7]]))
    return tmp_path


def read(folder: Path, **choices: Any) -> Any:
    given = {"trials": TRIALS, "window": (0.0, 0.5), "frame_rate": 10, **choices}
    return read_recording(folder, **given)[f"responses/{folder.name}"].to_dataset()


def test_means_over_the_frames_of_a_window(folder: Path) -> None:
    found = read(folder, signal="F", baseline=(-0.2, 0.0))
    assert found.unit_id.values.tolist() == ["0", "2"]
    assert found.probability_of_cell.values.tolist() == [0.9, 0.7]
    # frames 10 to 14, 20 to 24; the recording ends within the third
    np.testing.assert_allclose(found.response, [[12, 92], [22, 102], [np.nan, np.nan]])
    np.testing.assert_allclose(found.baseline, [[8.5, 88.5], [18.5, 98.5], [36.5, 116.5]])
    np.testing.assert_allclose(read(folder).response[:2], [[24, 184], [44, 204]])
    np.testing.assert_allclose(read(folder, signal="corrected").response[0], [12 - 0.7, 92 - 0.7], rtol=1e-6)
    assert read(folder, all_rois=True).sizes["unit"] == 3
    assert read(folder, units=["2"]).response.values[0].tolist() == [184]


def test_bins_narrower_than_a_frame_have_gaps(folder: Path) -> None:
    found = read(folder, signal="F", window=(0.0, 0.2), bins=0.05)
    np.testing.assert_allclose(found.response[0, 0], [10, np.nan, 11, np.nan])


def test_pickles_are_read_only_where_that_is_allowed(folder: Path) -> None:
    np.save(folder / "ops.npy", np.array({"fs": 10.0}, dtype=object), allow_pickle=True)
    with pytest.raises(ReaderError, match="Give `frame_rate`; or `allow_pickle=True`"):
        read(folder, frame_rate=None)
    with pytest.raises(ReaderError, match="Give `frame_rate`"):
        read(folder, frame_rate=None, allow_pickle=False)
    assert read(folder, frame_rate=None, allow_pickle=True).response[0, 0] == 24
    (folder / "ops.npy").write_bytes(pickle.dumps({"fs": 10.0})[:5])
    with pytest.raises(ReaderError, match="does not tell the frame rate"):
        read(folder, frame_rate=None, allow_pickle=True)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"signal": "dff"}, "unknown signal 'dff'; known: spks, F, corrected"),
        ({"trials": None}, r"(?s)when was something shown\?.*40 frames at 10 Hz of 2 units"),
        ({"window": None}, "in which window"),
        ({"window": "interval"}, "averaged in a window in s"),
        ({"frame_rate": 0}, "frame_rate is above 0 Hz"),
    ],
)
def test_choices_that_are_missing_or_wrong(folder: Path, choices: Any, message: str) -> None:
    with pytest.raises(ReaderError, match=message):
        read(folder, **choices)


def test_files_that_are_missing_or_wrong(folder: Path) -> None:
    np.save(folder / "Fneu.npy", np.zeros((3, 2)))
    with pytest.raises(ReaderError, match=r"F.npy has shape \(3, 40\), Fneu.npy \(3, 2\)"):
        read(folder, signal="corrected")
    np.save(folder / "iscell.npy", np.zeros((3, 2)))
    with pytest.raises(ReaderError, match="none of 3 regions of interest is a cell"):
        read(folder)
    np.save(folder / "iscell.npy", np.zeros((2, 2)))
    with pytest.raises(ReaderError, match="there are 3 regions of interest"):
        read(folder)
    (folder / "iscell.npy").unlink()
    assert read(folder).sizes["unit"] == 3
    (folder / "spks.npy").unlink()
    with pytest.raises(ReaderError, match=r"spks.npy': no such file"):
        read(folder)
