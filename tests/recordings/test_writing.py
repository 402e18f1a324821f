"""What is written comes back as it was, unless the format's losses say otherwise; and nothing is half-written."""

import json
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neuroprobe.errors import ReaderError, StoreError
from neuroprobe.recordings import WRITERS, check_recording, losses, read_recording, write_recording
from neuroprobe.recordings.brainscore_writer import to_brainscore
from neuroprobe.recordings.build import node_of, tree_of
from neuroprobe.recordings.columns import Table, plain
from neuroprobe.recordings.rsatoolbox import to_rsatoolbox
from neuroprobe.recordings.simulated import Simulated, Timing, simulate_animal
from neuroprobe.recordings.simulated_units import factorial_table, tuned_units
from neuroprobe.recordings.spiking import Spikes

h5py = pytest.importorskip("h5py", reason="NWB needs h5py: pip install 'neuroprobe[nwb]'")
SUFFIX = {"nwb": ".nwb", "brainscore": ".nc", "rsatoolbox": ".h5"}
FORMATS = pytest.mark.parametrize("style", SUFFIX)


@pytest.fixture(scope="module")
def animal() -> Simulated:
    table = factorial_table({"orientation": [0.0, 45, 90, 135], "contrast": [0.1, 1.0]})
    units = tuned_units(6, {"orientation": "von_mises", "contrast": "naka_rushton"})
    return simulate_animal(units, table, n_repeats=3, n_blanks=5, region=["V1"] * 4 + ["MT"] * 2)


def made(n: int = 4, bins: Any = None, attrs: dict[str, Any] | None = None, **columns: Any) -> xr.DataTree:
    """Write-me recordings of two units."""
    shape = (n, 2) if bins is None else (n, 2, len(bins))
    response = np.arange(np.prod(shape), dtype=float).reshape(shape)
    response.flat[1] = np.nan
    table = Table({name: plain(column) for name, column in columns.items()})
    units = Table({"unit_id": plain(["a", "ü"]), "depth": plain([0.5, np.nan])}, {"depth": "mm"})
    attrs = {"units": "spikes/s", "window_start": 0.05, "window_end": 0.25} if attrs is None else attrs
    return tree_of({"it": node_of(response, table, units, attrs=attrs, bins=bins)})


def only(tree: xr.DataTree) -> xr.Dataset:
    (node,) = tree["responses"].children.values()
    return node.to_dataset(inherit=False)


def there_and_back(tree: Any, path: Path, **choices: Any) -> xr.DataTree:
    write_recording(tree, path, format="brainscore" if path.suffix == ".nc" else None)
    assert not path.with_name(f"{path.name}.tmp").exists()
    return read_recording(path, **choices)


def but_factors(told: list[str]) -> list[str]:
    return [one for one in told if not one.startswith("which columns are factors")]


@pytest.mark.parametrize("choices", [{}, {"bins": 0.05}, {"measure": "rate"}, {"bins": [0, 0.1, 0.3]}])
@FORMATS
def test_counts_and_rates_come_back(animal: Simulated, tmp_path: Path, style: str, choices: dict[str, Any]) -> None:
    window = {} if isinstance(choices.get("bins"), list) else {"window": (0.0, 0.5)}
    tree = read_recording(animal, **window, **choices)
    path = tmp_path / f"session{SUFFIX[style]}"
    if style == "nwb" and isinstance(choices.get("bins"), list):
        with pytest.raises(StoreError, match=r"bins of one width .* 0\.1 to 0\.2 s wide"):
            write_recording(tree, path, format=style)
        return
    told = losses(tree, style)
    assert but_factors(told) == []
    assert (told == []) == (style == "rsatoolbox")
    back = there_and_back(tree, path, factors=["orientation", "contrast"] if told else None)
    xr.testing.assert_identical(only(back), only(tree))
    assert back.attrs["factors"] == tree.attrs["factors"]
    check_recording(back)


def test_spikes_come_back(animal: Simulated, tmp_path: Path) -> None:
    """With every window: an animal's file is as good as the animal."""
    assert losses(animal, "nwb") == []
    write_recording(animal, tmp_path / "a.nwb", identifier="session 1", session_start=datetime(2024, 5, 1, tzinfo=UTC))
    for choices in (
        {"window": Timing().window},
        {"window": (0.1, 0.3), "baseline": (-0.2, 0.0), "region": "MT"},
        {"window": "interval", "measure": "rate"},
    ):
        back = read_recording(tmp_path / "a.nwb", factors=["orientation"], **choices)
        mine = read_recording(animal, factors=["orientation"], **choices)
        xr.testing.assert_identical(only(back), only(mine))
    with h5py.File(tmp_path / "a.nwb") as file:
        assert file["session_start_time"][()] == b"2024-05-01T00:00:00+00:00"
        assert file["identifier"][()] == b"session 1"
        assert file[file["units/spike_times_index"].attrs["target"]].name == "/units/spike_times"


def test_spikes_in_any_order_of_units(tmp_path: Path) -> None:
    units = Table({"unit_id": plain(["b", "a", "c"]), "subject_id": plain(["m", "n", "m"])})
    times = np.array([1.1, 1.2, 2.1, 0.9, 1.15])
    spikes = Spikes(times, np.array([[3, 5], [0, 3], [3, 3]]), units)
    trials = Table({"start_time": np.array([1.0, 2.0]), "stop_time": np.array([1.5, 2.5]), "id": np.array([7, 9])})
    recording = SimpleNamespace(spikes=spikes, trials=trials)
    back = only(there_and_back(recording, tmp_path / "s.nwb", window=(0, 0.5)))
    assert back.response.values.tolist() == [[1, 2, 0], [0, 1, 0]]
    assert back.unit_id.values.tolist() == ["b", "a", "c"]
    assert back.subject_id.values.tolist() == ["m", "n", "m"]
    assert back.id.values.tolist() == [7, 9]
    assert losses(recording, "nwb") == [f"{end}_time gets its units, which in NWB are s" for end in ("start", "stop")]
    with pytest.raises(StoreError, match=r"holds responses and no spikes: read the recording with a window"):
        write_recording(recording, tmp_path / "s.nc", format="brainscore")


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5)
VALUES = {
    "int": st.integers(-(2**62), 2**62),
    "float": st.floats(allow_infinity=True, allow_nan=True),
    "text": TEXT,
}
COLUMNS = ["start_time", "stop_time", "stimulus_id", "image_id", "id", "angle", "n_trials", "x_index", "y"]
OF_UNITS = [
    "region",
    "layer",
    "animal",
    "subject_id",
    "channel_x",
    "x",
    "location",
    "brain_area",
    "waveforms",
    "unit_y",
]


@st.composite
def recordings(draw: st.DrawFn) -> xr.DataTree:
    n, n_units = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    n_bins = draw(st.sampled_from([0, 0, 1, 3]))

    def column(name: str, length: int) -> Any:
        kind = draw(st.sampled_from(["int", "float", "text"]))
        kind = {"start_time": "float", "stop_time": "float", "id": "int"}.get(name, kind)
        values = st.integers(1, 9) if name == "n_trials" else VALUES[kind]
        return plain(draw(st.lists(values, min_size=length, max_size=length)))

    table = Table({name: column(name, n) for name in draw(st.lists(st.sampled_from(COLUMNS), unique=True))})
    ids = draw(st.lists(st.one_of(TEXT, st.integers(0, 99).map(str)), min_size=n_units, max_size=n_units, unique=True))
    told = draw(st.lists(st.sampled_from(OF_UNITS), unique=True))
    units = Table(
        {"unit_id": plain(ids), **{name: column(name, n_units) for name in told if name not in table.columns}}
    )
    for one in (table, units):
        one.units = {name: "s" if name.endswith("_time") else "mm" for name in one.columns if draw(st.booleans())}
        one.units = {name: "s" for name in one.columns if name.endswith("_time")} | one.units
    shape = (n, n_units, n_bins)[: 3 if n_bins else 2]
    kind = draw(st.sampled_from(["int", "float"]))
    response = np.array(draw(st.lists(VALUES[kind], min_size=(size := int(np.prod(shape))), max_size=size)))
    edges = np.linspace(0, draw(st.floats(0.01, 2)), n_bins + 1)
    attrs = draw(st.sampled_from([{}, {"units": "spikes"}, {"units": "Hz", "window_start": -0.1, "window_end": 0.3}]))
    if n_bins and "window_start" in attrs:
        attrs = attrs | {"window_start": float(edges[0]), "window_end": float(edges[-1])}
    node = node_of(
        response.reshape(shape),
        table,
        units,
        attrs=attrs,
        bins=np.stack([edges[:-1], edges[1:]], 1) if n_bins else None,
    )
    return tree_of({"r": node})


@FORMATS
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=recordings())
def test_what_no_loss_names_is_kept(tree: xr.DataTree, tmp_path: Path, style: str) -> None:
    check_recording(tree)
    try:
        told = losses(tree, style)
    except StoreError:
        with pytest.raises(StoreError):
            write_recording(tree, tmp_path / f"r{SUFFIX[style]}", format=style, overwrite=True)
        return
    try:
        write_recording(tree, tmp_path / f"r{SUFFIX[style]}", format=style, overwrite=True)
    except StoreError:
        assert told
        return
    back = read_recording(tmp_path / f"r{SUFFIX[style]}")
    told = [one for one in told if "ASCII" not in one]
    if told:
        assert not (set(back["responses"].children) == {"r"} and only(back).identical(only(tree))), told
    else:
        xr.testing.assert_identical(only(back), only(tree))


def test_means_go_where_no_times_are_needed(tmp_path: Path) -> None:
    tree = made(stimulus_id=["a", "b", "c", "é"], n_trials=[3, 4, 5, 6])
    assert losses(tree, "brainscore") == []
    back = only(there_and_back(tree, tmp_path / "m.nc"))
    xr.testing.assert_identical(back, only(tree))
    assert back.response.attrs["responses"] == "means"
    assert losses(tree, "rsatoolbox") == [
        f"{name}: rsatoolbox itself reads text in ASCII alone, and refuses this file"
        for name in ("stimulus_id", "unit_id")
    ]
    xr.testing.assert_identical(only(there_and_back(tree, tmp_path / "m.h5")), only(tree))
    with pytest.raises(StoreError, match=r"presentations of it have no start_time: stimulus_id, n_trials; write them"):
        losses(tree, "nwb")


def test_maps_of_a_network_become_units(tmp_path: Path) -> None:
    response = np.arange(48.0).reshape(2, 2, 3, 4)
    node = xr.Dataset(
        {"response": (("presentation", "channel", "y", "x"), response)},
        coords={"channel": [5, 9], "image_id": ("presentation", np.array(["i", "j"], dtype=object))},
    )
    tree = xr.DataTree.from_dict({"/": node[["image_id"]], "/responses/conv.1": node})
    told = losses(tree, "brainscore")
    assert told[0] == "the shape of maps: their places are coordinates of units"
    found = to_brainscore(tree)
    assert found.dims == ("presentation", "neuroid")
    np.testing.assert_array_equal(found, response.reshape(2, -1))
    # the row of a map is their channel_x
    one = found.isel(neuroid=1 * 12 + 2 * 4 + 3)
    assert [one[name].item() for name in ("channel", "channel_x", "channel_y", "layer", "neuroid_id")] == [
        9,
        2,
        3,
        "conv.1",
        "conv.1.9.2.3",
    ]
    assert found.stimulus_id.values.tolist() == ["i", "j"]
    back = there_and_back(tree, tmp_path / "net.nc")["responses/conv.1"]
    np.testing.assert_array_equal(back.response, response.reshape(2, -1))
    assert back.y.values.tolist() == found.channel_x.values.tolist()


def test_one_population_of_several(tmp_path: Path) -> None:
    one, other = only(made()), only(made(n=3))
    tree = tree_of({"a": one, "b": other})
    with pytest.raises(StoreError, match=r"which population is written\? Say `node`: a, b"):
        write_recording(tree, tmp_path / "s.nc", format="brainscore")
    with pytest.raises(StoreError, match=r"unknown population 'c'; known: a, b"):
        losses(tree, "brainscore", node="c")
    assert "population a: a file holds one" in losses(tree, "brainscore", node="b")
    write_recording(tree, tmp_path / "s.nc", format="brainscore", node="b")
    assert only(read_recording(tmp_path / "s.nc")).sizes["presentation"] == 3


def test_what_is_lost_is_said(animal: Simulated) -> None:
    tree = read_recording(animal, window=(0, 0.2), baseline=(-0.2, 0), bins=[0, 0.2])
    node = only(tree)
    node.response.attrs["filter"] = "none"
    changed = tree_of({"it": node})
    assert losses(changed, "brainscore") == [
        "baseline: only responses are held",
        "attribute filter of the responses",
        "the only bin of time: it comes back as the window",
    ]
    assert losses(changed, "rsatoolbox") == ["baseline: only responses are held"]
    plain_one = made(attrs={})
    assert losses(plain_one, "brainscore") == ["stimulus_id is added, which Brain-Score asks for"]
    with pytest.raises(StoreError, match="the window of the responses of it is not told"):
        losses(made(attrs={}, start_time=[1.0, 2, 3, 4]), "nwb")


def test_dictionary_of_rsatoolbox(animal: Simulated) -> None:
    found = to_rsatoolbox(read_recording(animal, window=(0, 0.5), bins=0.1))
    assert found["type"] == "TemporalDataset"
    assert found["measurements"].shape == (29, 6, 5)
    np.testing.assert_allclose(found["time_descriptors"]["time"], [0.05, 0.15, 0.25, 0.35, 0.45])
    assert found["obs_descriptors"]["stimulus_id"].dtype.kind == "U"
    assert json.loads(found["descriptors"]["factors"]) == ["orientation", "contrast"]
    assert to_rsatoolbox(animal)["type"] == "Dataset"


def test_datasets_of_rsatoolbox_as_it_saves_them(tmp_path: Path) -> None:
    """Scalars and text as its own writer lays them out."""
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file.attrs["type"] = "TemporalDataset"
        file["measurements"] = np.arange(12.0).reshape(2, 3, 2)
        file["descriptors/session"] = 4
        file["descriptors"].attrs["task"] = "fixation"
        file["obs_descriptors/conds"] = np.array([b"a", b"b"])
        file["channel_descriptors/roi"] = np.array([b"IT", b"IT", b"V4"])
        file["channel_descriptors/name"] = np.array([b"x", b"y", b"z"])
        file["time_descriptors/time"] = [0.1, 0.2]
    found = only(read_recording(tmp_path / "d.h5", units=["x", "z"], factors="conds"))
    assert found.response.values.tolist() == [[[0, 1], [4, 5]], [[6, 7], [10, 11]]]
    assert found.unit_id.values.tolist() == ["x", "z"]
    assert found.roi.values.tolist() == ["IT", "V4"]
    np.testing.assert_allclose(found.time_bin_start, [0.05, 0.15])
    assert found.response.attrs["session"] == 4
    assert found.response.attrs["task"] == "fixation"
    with h5py.File(tmp_path / "d.h5", "a") as file:
        file["obs_descriptors/short"] = [1]
    with pytest.raises(ReaderError, match=r"obs_descriptors 'short' does not have 2 values"):
        read_recording(tmp_path / "d.h5")
    with h5py.File(tmp_path / "d.h5", "a") as file:
        del file["obs_descriptors/short"], file["time_descriptors"]
    with pytest.raises(ReaderError, match="times of 2 bins are not told"):
        read_recording(tmp_path / "d.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(ReaderError, match=r"no 'measurements', as rsatoolbox writes; it holds x"):
        read_recording(tmp_path / "other.h5", format="rsatoolbox")
    with pytest.raises(ReaderError, match="no reader knows this"):
        read_recording(tmp_path / "other.h5")


def test_counts_in_files_of_others(tmp_path: Path) -> None:
    """Without a table of units or trials, with conditions, and the offset by its older name."""
    with h5py.File(tmp_path / "c.nwb", "w") as file:
        group = file.create_group("processing/ophys/BinnedAlignedSpikes")
        group.attrs["bin_width_in_ms"] = 100.0
        group.attrs["milliseconds_from_event_to_first_bin"] = -100.0
        group["data"] = np.arange(12, dtype=np.uint64).reshape(2, 2, 3)
        group["event_timestamps"] = [1.0, 2.0]
        group["condition_indices"] = np.array([1, 0], dtype=np.uint64)
        group["condition_labels"] = np.array([b"left", b"right"])
    tree = read_recording(tmp_path / "c.nwb", factors="condition", units="1")
    found = only(tree)
    assert found.response.values.tolist() == [[[6, 7, 8]], [[9, 10, 11]]]
    assert found.condition.values.tolist() == ["right", "left"]
    np.testing.assert_allclose(found.time_bin_end, [0, 0.1, 0.2])
    assert found.start_time.attrs["units"] == "s"
    with pytest.raises(ReaderError, match="window: the file holds counts in bins that are made already"):
        read_recording(tmp_path / "c.nwb", window=(0, 1))
    with h5py.File(tmp_path / "c.nwb", "a") as file:
        file.copy("processing/ophys/BinnedAlignedSpikes", "processing/again")
    with pytest.raises(ReaderError, match="several tables of counts"):
        read_recording(tmp_path / "c.nwb")


@FORMATS
def test_nothing_is_half_written(
    animal: Simulated, tmp_path: Path, style: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"s{SUFFIX[style]}"
    path.write_bytes(b"what was there")
    writer = WRITERS[style]

    def fails(recording: Any, temporary: Path, node: Any, options: Any) -> None:
        writer.write(recording, temporary, node, options)
        raise RuntimeError("power")

    broken = SimpleNamespace(**{**vars(writer), "write": fails})
    monkeypatch.setitem(WRITERS._known, style, broken)
    with pytest.raises(RuntimeError, match="power"):
        write_recording(animal, path, format=style, overwrite=True)
    assert path.read_bytes() == b"what was there"
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    monkeypatch.undo()
    with pytest.raises(StoreError, match="is there already: say `overwrite`"):
        write_recording(animal, path, format=style)
    write_recording(animal, path, format=style, overwrite=True)
    assert only(read_recording(path, window=(0, 1)) if style == "nwb" else read_recording(path)).sizes["unit"] == 6


def test_which_format(animal: Simulated, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"s\.txt': which format\? .* or say `format`: .*nwb \(\.nwb\)"):
        write_recording(animal, tmp_path / "s.txt")
    with pytest.raises(StoreError, match=r"unknown option of this format 'identifer' \(did you mean 'identifier'\?\)"):
        write_recording(animal, tmp_path / "s.nwb", identifer="x")
    with pytest.raises(StoreError, match="session_start is a datetime, received '2024'"):
        write_recording(animal, tmp_path / "s.nwb", session_start="2024")
    write_recording(animal, tmp_path / "s.data", format="brainscore")
    assert only(read_recording(tmp_path / "s.data", format="brainscore")).sizes["unit"] == 6


def test_pynwb_opens_what_is_written(animal: Simulated, tmp_path: Path) -> None:
    pynwb = pytest.importorskip("pynwb", reason="pip install 'neuroprobe[nwb]'")
    write_recording(animal, tmp_path / "s.nwb")
    write_recording(animal.tree, tmp_path / "c.nwb")
    for path in (tmp_path / "s.nwb", tmp_path / "c.nwb"):
        # the core is not among the definitions that the file brings
        assert not pynwb.validate(path=str(path), use_cached_namespaces=False)
        with pynwb.NWBHDF5IO(str(path), "r") as io:
            session = io.read()
            assert len(session.trials) == 29
            assert session.trials["orientation"][:].shape == (29,)
            assert len(session.units) == 6
            assert session.subject.subject_id == "simulated"
            if path.stem == "s":
                np.testing.assert_array_equal(
                    session.units["spike_times"][1], animal.spikes.times[slice(*animal.spikes.bounds[1])]
                )
            else:
                counts = session.processing["ecephys"]["BinnedAlignedSpikes"]
                np.testing.assert_array_equal(counts.data[..., 0].T, animal.counts)
