"""Spikes that other libraries have read, by stand-ins that do what theirs do."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from neuroprobe.errors import ReaderError
from neuroprobe.recordings import read_recording

TRAINS = {3: [1.1, 0.2, 2.4], 8: [2.1, 2.2]}
TRIALS = {"start_time": [1.0, 2.0]}
COUNTS = [[1, 0], [1, 2]]


class Group(dict):  # type: ignore[type-arg]
    """As a pynapple TsGroup: trains by number, with metadata."""

    time_support = rates = None
    metadata_columns = ("rate", "area")

    def get_info(self, name: str) -> Any:
        return {"rate": [1.0, 2.0], "area": np.array(["V1", "V4"])}[name]


class Quantity:
    """As a quantity of neo, in ms."""

    def __init__(self, seconds: Any, **attributes: Any) -> None:
        self.ms = np.asarray(seconds) * 1000
        self.__dict__.update(attributes)

    def __len__(self) -> int:
        return len(self.ms)

    def rescale(self, unit: str) -> Any:
        assert unit == "s"
        return SimpleNamespace(magnitude=self.ms / 1000)


class Sorting:
    """As a spikeinterface Sorting of two segments."""

    unit_ids = np.array([3, 8])

    def get_num_segments(self) -> int:
        return 2

    def get_unit_spike_train(self, *, unit_id: int, segment_index: int, return_times: bool) -> Any:
        assert return_times
        return np.array(TRAINS[unit_id]) + 10 * segment_index

    def get_property_keys(self) -> list[str]:
        return ["snr", "location"]

    def get_property(self, name: str) -> Any:
        return {"snr": np.array([4.0, 5.0]), "location": np.zeros((2, 3))}[name]


def segment(**changes: Any) -> Any:
    trains = [Quantity(train, name=f"u{one}", annotations={"quality": "good"}) for one, train in TRAINS.items()]
    epoch = SimpleNamespace(
        name="trials",
        times=Quantity([1.0, 2.0]),
        durations=Quantity([0.5, 0.5]),
        labels=np.array(["a", "b"]),
        array_annotations={"contrast": np.array([0.1, 0.2])},
    )
    return SimpleNamespace(**{"spiketrains": trains, "epochs": [epoch], **changes})


def test_pynapple() -> None:
    group = Group({one: SimpleNamespace(t=np.sort(train)) for one, train in TRAINS.items()})
    intervals = SimpleNamespace(
        start=np.array([1.0, 2.0]),
        end=np.array([1.5, 2.5]),
        metadata_columns=["kind"],
        get_info=lambda name: ["x", "y"],
    )
    tree = read_recording(group, trials=intervals, window=(0.0, 0.5), factors=["kind"])
    found = tree["responses/pynapple"].to_dataset()
    assert found.response.values.tolist() == COUNTS
    assert found.unit_id.values.tolist() == ["3", "8"]
    assert found.area.values.tolist() == ["V1", "V4"]
    assert "rate" not in found
    assert tree.kind.values.tolist() == ["x", "y"]
    with pytest.raises(ReaderError, match=r"when was something shown\? Say `trials`; there are 2 units"):
        read_recording(group, window=(0.0, 0.5))


def test_spikeinterface() -> None:
    found = read_recording(Sorting(), trials=TRIALS, window=(0.0, 0.5), segment=0)["responses/spikeinterface"]
    assert found["response"].values.tolist() == COUNTS
    assert found["snr"].values.tolist() == [4, 5]
    later = read_recording(Sorting(), trials={"start_time": [11.0, 12.0]}, window=(0.0, 0.5), segment=1)
    assert later["responses/spikeinterface"]["response"].values.tolist() == COUNTS
    with pytest.raises(ReaderError, match="has 2 segments, each with a clock of its own"):
        read_recording(Sorting(), trials=TRIALS, window=(0.0, 0.5))
    with pytest.raises(ReaderError, match="segments 0 to 1, received 2"):
        read_recording(Sorting(), trials=TRIALS, window=(0.0, 0.5), segment=2)


def test_neo() -> None:
    tree = read_recording(segment(), window=(0.0, 0.5), factors=["contrast"])
    found = tree["responses/neo"].to_dataset()
    assert found.response.values.tolist() == COUNTS
    assert found.unit_id.values.tolist() == ["u3", "u8"]
    assert found.quality.values.tolist() == ["good", "good"]
    assert tree.label.values.tolist() == ["a", "b"]
    np.testing.assert_allclose(tree.stop_time, [1.5, 2.5])
    rates = read_recording(segment(), window="interval", measure="rate")["responses/neo"]
    np.testing.assert_allclose(rates["response"], np.array(COUNTS) / 0.5)
    given = read_recording(segment(), trials=TRIALS, window=(0.0, 0.5))["responses/neo"]
    assert given["response"].values.tolist() == COUNTS


def test_neo_that_cannot_be_read() -> None:
    two = segment().epochs * 2
    two[1] = SimpleNamespace(**{**vars(two[1]), "name": "rest"})
    with pytest.raises(ReaderError, match=r"Say `trials`: trials \(2 rows\), rest \(2 rows\)"):
        read_recording(segment(epochs=two), window=(0.0, 0.5))
    with pytest.raises(ReaderError, match=r"unknown epoch 'trails' \(did you mean 'trials'"):
        read_recording(segment(), trials="trails", window=(0.0, 0.5))
    with pytest.raises(ReaderError, match="the spikes of neo have no units"):
        read_recording(segment(spiketrains=[]), window=(0.0, 0.5))


class Neo(ModuleType):
    """As neo, which reads files of vendors as blocks of segments."""

    def __init__(self, *blocks: Any) -> None:
        super().__init__("neo")
        self.blocks = list(blocks)

    def get_io(self, path: str) -> Any:
        def read() -> Any:
            if "broken" in path:
                raise ValueError("no such header")
            return self.blocks

        return SimpleNamespace(read=read)


def test_files_of_vendors_are_read_through_neo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "session.plx"
    file.write_bytes(b"PLEX")
    monkeypatch.setitem(sys.modules, "neo.io", None)
    with pytest.raises(ReaderError, match=r"files of vendors need another package: pip install 'neuroprobe\[neo\]'"):
        read_recording(file, window=(0.0, 0.5))
    one = SimpleNamespace(segments=[segment()])
    monkeypatch.setitem(sys.modules, "neo.io", Neo(one))
    tree = read_recording(file, window=(0.0, 0.5), factors="contrast")
    assert tree["responses/session"].response.values.tolist() == COUNTS
    assert tree.contrast.values.tolist() == [0.1, 0.2]
    # a name that is not known
    other = tmp_path / "session.xyz"
    other.write_bytes(b"")
    assert read_recording(other, format="neo", window=(0.0, 0.5))["responses/session"].unit_id.values.tolist()
    monkeypatch.setitem(sys.modules, "neo.io", Neo(one, SimpleNamespace(segments=[segment(), segment(spiketrains=[])])))
    with pytest.raises(ReaderError, match="has 2 blocks: say `block`, from 0"):
        read_recording(file, window=(0.0, 0.5))
    with pytest.raises(ReaderError, match="has 2 segments: say `segment`"):
        read_recording(file, window=(0.0, 0.5), block=1)
    assert read_recording(file, window=(0.0, 0.5), block=1, segment=0)
    with pytest.raises(ReaderError, match="has segments 0 to 1, received 2"):
        read_recording(file, window=(0.0, 0.5), block=1, segment=2)
    kept = tmp_path / "session.pkl"
    kept.write_bytes(b"")
    with pytest.raises(ReaderError, match="is a pickle, which can run code: say `allow_pickle=True`"):
        read_recording(kept, format="neo", window=(0.0, 0.5), block=0)
    assert read_recording(kept, format="neo", window=(0.0, 0.5), block=0, allow_pickle=True)
    with pytest.raises(ReaderError, match="neo cannot read it: ValueError: no such header"):
        read_recording(file.rename(tmp_path / "broken.plx"), window=(0.0, 0.5))
