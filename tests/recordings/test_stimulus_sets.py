"""Sets of stimuli: written whole, read only as written, and joined with recordings of animals that saw them."""

from __future__ import annotations

import copy
import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import neuroprobe as npr
from neuroprobe.cli import main
from neuroprobe.errors import PlanError, ReaderError, StoreError
from neuroprobe.recordings.columns import Table
from neuroprobe.recordings.simulated import Simulated, simulate_animal
from neuroprobe.recordings.simulated_units import tuned_units
from neuroprobe.recordings.stimulus_sets import StimulusSet, file_hash, images_hash, read_stimuli, set_hash
from neuroprobe.recordings.writing import write_recording
from neuroprobe.rig import open_rig
from neuroprobe.stimulus_export import write_stimuli

PROTOCOL: dict[str, Any] = {
    "neuroprobe": 1,
    "title": "Gratings",
    "seed": 3,
    "subject": {"network": "embedded", "layers": ["linear"]},
    "stimuli": {
        "images": {
            "generated": {
                "grating": {
                    "orientation": {"from": 0, "to": 135, "step": 45},
                    "contrast": [0.2, 1],
                    "colour": "red_green",
                }
            },
            "screen": {"degrees": 8},
        },
        "repeats": 5,
        "blanks": 2,
    },
    "analyses": [],
    "record": {"store": "responses", "device": "cpu"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stimuli") / "set"
    write_stimuli(npr.load_protocol(PROTOCOL), path)
    return path


@pytest.fixture
def own(folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(folder, tmp_path / "copy"))


@pytest.fixture(scope="module")
def animal(folder: Path) -> Simulated:
    """An animal that was shown the stimuli of the set, in an order of its own."""
    shown = read_stimuli(folder)
    rows = [row for name, row in shown.rows.items() if name != "blank"]
    table = {name: shown.table.columns[name][rows] for name in ("stimulus_id", "orientation", "contrast")}
    units = tuned_units(4, {"orientation": "von_mises", "contrast": "naka_rushton"}, seed=1)
    return simulate_animal(units, table, n_repeats=6, n_blanks=5, seed=2)


def test_a_set_holds_the_images_that_networks_are_shown(folder: Path) -> None:
    images = open_rig(npr.load_protocol(PROTOCOL)).images
    details = json.loads((folder / "presentations.json").read_text())
    assert sorted(details["images"]) == sorted([*images.ids, "blank"])
    for number, name in enumerate(images.ids):
        told = details["images"][name]
        with Image.open(folder / told["file"]) as picture:
            assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (32, 32))
            values = np.asarray(picture).transpose(2, 0, 1) / 255
        assert np.abs(values - images.load([number])[0].numpy()).max() <= 1 / 510 + 1e-7
        assert told["sha256"] == file_hash(folder / told["file"])
    assert (np.asarray(Image.open(folder / "images" / "blank.png")) == 128).all()
    assert details["screen"] == {
        "height_px": 32, "width_px": 32, "background": 0.5, "degrees_of_shorter_side": 8.0
    }  # fmt: skip
    assert details["seed"] == 3
    assert {"neuroprobe", "torch", "pillow"} <= set(details["versions"])
    assert not list(folder.parent.glob("*.tmp"))


def test_presentations_are_those_of_a_run(folder: Path, tmp_path: Path) -> None:
    npr.run(PROTOCOL, tmp_path / "out.zarr")
    recording = npr.open_recording(tmp_path / "out.zarr")
    with (folder / "presentations.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == recording.sizes["presentation"] == 5 * (8 + 2)
    assert [row["presentation"] for row in rows] == [str(number) for number in range(50)]
    for name in ("stimulus_id", "control_kind", "colour"):
        assert [row[name] for row in rows] == [str(one) for one in recording[name].values]
    for name in ("orientation", "contrast", "repetition"):
        found = [float(row[name] or "nan") for row in rows]
        np.testing.assert_array_equal(found, recording[name].values)
    assert all((folder / row["file"]).is_file() for row in rows)
    assert "size" not in rows[0]  # of whole-field gratings there is none


def test_sets_are_the_same_every_time(folder: Path, tmp_path: Path) -> None:
    again = write_stimuli(npr.load_protocol(PROTOCOL), tmp_path / "set")
    assert again["sha256"] == read_stimuli(folder).sha256
    other = copy.deepcopy(PROTOCOL) | {"seed": 4}
    reordered = write_stimuli(npr.load_protocol(other), tmp_path / "other")
    assert reordered["images_sha256"] == again["images_sha256"]
    assert reordered["sha256"] != again["sha256"]


def test_a_template_for_nwb_is_beside(folder: Path) -> None:
    h5py = pytest.importorskip("h5py")
    shown = read_stimuli(folder)
    with h5py.File(folder / "presentations.nwb") as file:
        trials = file["intervals/trials"]
        assert trials.attrs["neurodata_type"] == "TimeIntervals"
        assert trials["stimulus_id"].asstr()[:].tolist() == shown.table.columns["stimulus_id"].tolist()
        np.testing.assert_array_equal(trials["orientation"][:], shown.table.columns["orientation"])
        assert np.isnan(trials["start_time"][:]).all()
        assert file["identifier"].asstr()[()] == shown.sha256


def test_responses_of_an_animal_come_back_by_stimulus(folder: Path, animal: Simulated, tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    path, whole = tmp_path / "session.nwb", animal.tree
    # the experimenter notes no more of a presentation than its stimulus
    noted = {name: one for name, one in animal.trials.columns.items() if name not in ("orientation", "contrast")}
    write_recording(replace(animal, trials=Table(noted, animal.trials.units)), path)
    kept = npr.read_recording(path, trials="trials", window=(0.08, 0.54), stimuli=folder)
    assert json.loads(kept.attrs["factors"]) == ["orientation", "contrast"]
    assert kept.attrs["stimulus_set"] == read_stimuli(folder).short
    details = json.loads(kept.attrs["neuroprobe_provenance"])
    assert details["stimuli"]["sha256"] == read_stimuli(folder).sha256
    (node,) = kept["responses"].children.values()
    np.testing.assert_array_equal(node.response.values, animal.counts)
    np.testing.assert_array_equal(node.orientation.values, whole["responses/simulated"].orientation.values)
    assert node.colour.values[node.control_kind.values == ""].tolist() == ["red_green"] * 48
    found = npr.tuning(kept, "orientation")
    expected = npr.tuning(whole, "orientation")
    np.testing.assert_array_equal(found.tuning_curve.values, expected.tuning_curve.values)


def of_table(animal: Simulated, path: Path, columns: dict[str, Any]) -> None:
    """Write a table with a column per unit."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*columns, "a", "b", "c", "d"])
        writer.writerows(zip(*columns.values(), *animal.counts.T.tolist(), strict=True))


def test_settings_join_a_table_of_stimuli(folder: Path, animal: Simulated, tmp_path: Path) -> None:
    told = animal.trials.columns
    ids = [str(one) or "blank" for one in told["stimulus_id"]]
    of_table(animal, tmp_path / "session.csv", {"stimulus_id": ids})
    read = npr.read_recording(tmp_path / "session.csv", factors=["stimulus_id"], stimuli=folder)
    np.testing.assert_array_equal(read["responses/session"].orientation.values, told["orientation"])
    np.testing.assert_array_equal(read.contrast.values, told["contrast"])
    assert read.contrast.attrs["units"] == "1"
    assert json.loads(read.attrs["factors"]) == ["orientation", "contrast"]
    one = npr.read_recording(tmp_path / "session.csv", factors=["stimulus_id", "contrast"], stimuli=folder)
    assert json.loads(one.attrs["factors"]) == ["contrast"]


def test_settings_join_presentations_by_their_order(folder: Path, tmp_path: Path) -> None:
    shown = read_stimuli(folder)
    n = len(shown.table)
    counts = np.arange(2 * n).reshape(n, 2)
    with (tmp_path / "session.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["block", "a", "b"])
        writer.writerows([["first", *row] for row in counts.tolist()])
    read = npr.read_recording(tmp_path / "session.csv", factors=["block"], stimuli=folder)
    np.testing.assert_array_equal(read.orientation.values, shown.table.columns["orientation"])
    assert read.stimulus_id.values.tolist() == shown.table.columns["stimulus_id"].tolist()
    assert read.repetition.values.tolist() == shown.table.columns["repetition"].tolist()
    assert (read.control_kind.values == "blank").sum() == 10
    np.testing.assert_array_equal(read["responses/session"].response.values, counts)
    short = (tmp_path / "session.csv").read_text().splitlines()[:-1]
    (tmp_path / "session.csv").write_text("\n".join(short))
    with pytest.raises(ReaderError, match=r"49 presentations without a stimulus_id, and .* has 50: which is which"):
        npr.read_recording(tmp_path / "session.csv", factors=["block"], stimuli=folder)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"stimulus_id": ["grating_0099"] * 53}, "53 of 53 presentations .* not in .*grating_0099"),
        ({"stimulus_id": ["grating_0000"] * 53, "orientation": [45.0] * 53},
         r"orientation of presentation 0 is 45.0, and that of its stimulus in the set 0.0"),
        ({"stimulus_id": ["grating_0000"] * 53, "stimulus_set": ["0123456789abcdef"] * 53},
         "is of the stimuli 0123456789abcdef .* these are others"),
    ],
)  # fmt: skip
def test_recordings_of_other_stimuli_are_refused(
    columns: dict[str, Any], message: str, folder: Path, animal: Simulated, tmp_path: Path
) -> None:
    of_table(animal, tmp_path / "session.csv", columns)
    with pytest.raises(ReaderError, match=message):
        npr.read_recording(tmp_path / "session.csv", units=["a", "b", "c", "d"], stimuli=folder)


def test_the_hash_of_a_set_that_was_joined_is_kept(folder: Path, animal: Simulated, tmp_path: Path) -> None:
    ids = [str(one) or "blank" for one in animal.trials.columns["stimulus_id"]]
    of_table(animal, tmp_path / "session.csv", {"stimulus_id": ids, "stimulus_set": [read_stimuli(folder).short] * 53})
    read = npr.read_recording(tmp_path / "session.csv", units=["a", "b", "c", "d"], stimuli=folder)
    assert read.attrs["stimulus_set"] == read_stimuli(folder).short


def test_changed_sets_are_refused(own: Path) -> None:
    assert isinstance(read_stimuli(own), StimulusSet)
    picture = own / "images" / "grating_0003.png"
    kept = picture.read_bytes()
    Image.new("RGB", (32, 32)).save(picture)
    with pytest.raises(ReaderError, match=r"images/grating_0003.png differs from what was written, by its SHA-256"):
        read_stimuli(own)
    picture.unlink()
    with pytest.raises(ReaderError, match=r"1 files of the set are missing \(images/grating_0003.png\)"):
        read_stimuli(own)
    picture.write_bytes(kept)
    table = own / "presentations.csv"
    table.write_text(table.read_text().replace("45.0", "50.0"))
    with pytest.raises(ReaderError, match=r"presentations.csv differs"):
        read_stimuli(own)


def test_a_table_cannot_be_changed_with_its_hash_alone(own: Path) -> None:
    table, details = own / "presentations.csv", json.loads((own / "presentations.json").read_text())
    table.write_text(table.read_text().replace("45.0", "50.0"))
    details["table_sha256"] = file_hash(table)
    (own / "presentations.json").write_text(json.dumps(details))
    with pytest.raises(ReaderError, match=r"presentations.json differs"):
        read_stimuli(own)
    details["sha256"] = set_hash(details["images_sha256"], details["table_sha256"])
    (own / "presentations.json").write_text(json.dumps(details))
    assert read_stimuli(own).sha256 == details["sha256"]  # it is another set now


def test_hashes_are_of_all_images() -> None:
    assert images_hash({"a": "1", "b": "2"}) == images_hash({"b": "2", "a": "1"})
    assert len({images_hash(one) for one in ({"a": "1", "b": "2"}, {"a": "2", "b": "1"}, {"a": "1"}, {})}) == 4


@pytest.mark.parametrize("text", ["", "{}", '{"neuroprobe_stimulus_set": 99}', None])
def test_what_is_no_set_is_refused(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "presentations.json").write_text(text)
    with pytest.raises(ReaderError, match=r"cannot be read|is no set of stimuli|sets of version 1 are read"):
        read_stimuli(tmp_path)


def test_nothing_is_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    protocol = npr.load_protocol(PROTOCOL)

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("neuroprobe.stimulus_export._as_csv", fail)
        with pytest.raises(StoreError, match="the disk is full"):
            write_stimuli(protocol, tmp_path / "set")
    assert not list(tmp_path.iterdir())
    write_stimuli(protocol, tmp_path / "set")
    with pytest.raises(StoreError, match="is there already; replace it by --overwrite"):
        write_stimuli(protocol, tmp_path / "set")
    write_stimuli(protocol, tmp_path / "set", overwrite=True)
    assert [one.name for one in tmp_path.iterdir()] == ["set"]
    (tmp_path / "mine").mkdir()
    with pytest.raises(StoreError, match="it is no set of stimuli: choose another path"):
        write_stimuli(protocol, tmp_path / "mine", overwrite=True)


def test_alterations_that_are_shown_alone_are_not_written(small_protocol: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="analyses: contrast shows images in a design of its own"):
        write_stimuli(npr.load_protocol({**small_protocol, "analyses": ["contrast"]}), tmp_path / "set")
    with pytest.raises(PlanError, match="repeats: images as they are are presented as often as the protocol says"):
        write_stimuli(npr.load_protocol(PROTOCOL), tmp_path / "set", repeats=3)
    redrawn = {**small_protocol, "stimuli": {**small_protocol["stimuli"], "image": "redrawn"}}
    with pytest.raises(PlanError, match="image: redrawn shows every row another image"):
        write_stimuli(npr.load_protocol(redrawn), tmp_path / "set")


def test_a_design_is_shown_to_an_animal_and_comes_back(small_protocol: dict[str, Any], tmp_path: Path) -> None:
    """Written, shown in the order of the table, recorded, read back by the names of stimuli: planted indices."""
    small_protocol |= {"analyses": ["sobol", "shapley"], "design": {"samples": 32}}
    small_protocol["treatment"] = {"alterations": [{"name": "hue", "switch": 0.5}, "rotation", "contrast"]}
    protocol = npr.load_protocol(small_protocol)
    details = write_stimuli(protocol, tmp_path / "set", repeats=2)
    rig = open_rig(protocol)
    labels = [factor.name for factor in rig.factors]
    assert details["design"]["factors"] == labels
    shown = read_stimuli(tmp_path / "set")
    table = shown.table.columns
    n_rows = len(set(table["role"]))
    n_samples = protocol.design.samples
    assert len(shown.table) == 2 * n_rows * n_samples
    assert len(set(table["stimulus_id"])) == n_rows * n_samples
    # pictures are what the network is shown
    design = rig.design(details["design"]["scramble"] or None).presentations(0, n_samples)
    for row in (0, 5, 17):
        sample, role = int(table["sample"][row]), design.roles.index(table["role"][row])
        expected = rig.treatment.stimuli(rig.images, design, np.array([sample]), np.array([role]))
        with Image.open(tmp_path / "set" / table["file"][row]) as image:
            found = np.asarray(image)
        np.testing.assert_array_equal(found, (expected[0] * 255).round().byte().permute(1, 2, 0).numpy())
    # a unit that hears the first factor alone, with noise
    rng = np.random.default_rng(0)
    own = [name for name in table if name.startswith(f"{labels[0]}_") and len(set(table[name])) > 1]
    drive = sum((np.unique(table[name], return_inverse=True)[1] * (1.7 + place)) for place, name in enumerate(own))
    session = tmp_path / "session.csv"
    values = drive / drive.std() + rng.normal(0, 0.3, (3, len(drive)))
    lines = [f"{name},{a},{b},{c}" for name, a, b, c in zip(table["stimulus_id"], *values, strict=True)]
    session.write_text("\n".join(["stimulus_id,u0,u1,u2", *lines]) + "\n")
    given = {"path": str(session), "factors": ["stimulus_id"], "stimuli": str(tmp_path / "set")}
    recording = npr.read_recording(session, factors=["stimulus_id"], stimuli=tmp_path / "set")
    assert json.loads(recording.attrs["factors"]) == labels
    found = npr.sobol(recording)["session"].to_dataset()
    assert found.factor.values.tolist() == labels
    np.testing.assert_allclose(found.total_order.isel(factor=0), 1, atol=0.1)
    np.testing.assert_allclose(found.total_order.isel(factor=slice(1, None)), 0, atol=0.1)
    assert (found.whole_total_order.isel(factor=1) > 0.02).all()
    asked = {"neuroprobe": 1, "subject": {"recording": given}, "analyses": ["sobol", "shapley"]}
    result = npr.run(asked, tmp_path / "out.zarr")
    np.testing.assert_array_equal(result["sobol/session"].first_order, found.first_order)
    np.testing.assert_allclose(result["shapley/session"].shapley_effect.sum("factor"), 1)


def test_images_of_folders_have_files_of_their_own(image_folder: Path, tmp_path: Path) -> None:
    (image_folder / "cat" / "A.png").write_bytes((image_folder / "cat" / "00.png").read_bytes())
    (image_folder / "cat_A.png").write_bytes((image_folder / "cat" / "02.png").read_bytes())
    given = copy.deepcopy(PROTOCOL)
    given["stimuli"] = {"images": {"folder": str(image_folder)}}
    details = write_stimuli(npr.load_protocol(given), tmp_path / "set")
    assert len({one["file"].lower() for one in details["images"].values()}) == len(details["images"]) == 26
    shown = read_stimuli(tmp_path / "set")
    assert "cat/A.png" in shown.rows


def test_commands_write_sets_and_join_them(folder: Path, animal: Simulated, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(json.dumps(PROTOCOL))
    found = CliRunner().invoke(main, ["stimuli", str(tmp_path / "p.yaml"), "-o", str(tmp_path / "set")])
    assert found.exit_code == 0, found.output
    assert "9 images, 50 presentations" in found.stdout
    again = CliRunner().invoke(main, ["stimuli", str(tmp_path / "p.yaml"), "-o", str(tmp_path / "set")])
    assert again.exit_code == 1
    assert "is there already" in again.stderr
    ids = [str(one) or "blank" for one in animal.trials.columns["stimulus_id"]]
    of_table(animal, tmp_path / "session.csv", {"stimulus_id": ids})
    command = ["ingest", str(tmp_path / "session.csv"), "-o", str(tmp_path / "out.zarr"), "--factors", "stimulus_id"]
    found = CliRunner().invoke(main, [*command, "--stimuli", str(tmp_path / "set")])
    assert found.exit_code == 0, found.output
    kept = npr.open_recording(tmp_path / "out.zarr")
    assert npr.tuning(kept, "orientation").sizes["condition"] == 4
    listed = CliRunner().invoke(main, ["list", "generators"])
    assert "sparse_noise" in listed.stdout
