"""The page of some units: in their order, with their pictures and numbers, escaped, whole or not there."""

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

import neuroprobe as npr
from made_selectivity import CLASSES, DEAD, made_selectivity
from neuroprobe.analysis.feature_pictures import displayed
from neuroprobe.cli import main
from neuroprobe.errors import ReaderError, StoreError
from neuroprobe.report import write_gallery
from neuroprobe.report.gallery import MAX_UNITS
from neuroprobe.store import quiet_zarr
from pages import Page


def page_of(result: Any, units: xr.Dataset, folder: Path) -> Page:
    write_gallery(result, units, folder / "out.html")
    assert [path.name for path in folder.iterdir()] == ["out.html"]
    return Page((folder / "out.html").read_text())


def pixels(source: str | None) -> np.ndarray:
    assert source is not None
    head, content = source.split(",")
    assert head == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as image:
        return np.asarray(image)


def test_units_stand_in_their_order_with_their_numbers(tmp_path: Path) -> None:
    result = made_selectivity()
    units = npr.select_units(result, "gamma >= 0 and 'cat' not in classes", order_by="gamma")
    page = page_of(result, units, tmp_path)
    table = units.to_dataframe()
    assert len(table) > 3
    assert page.words["h2"] == [
        f"{layer} / {channel}" for layer, channel in zip(table.layer, table.channel, strict=True)
    ]
    values = zip(page.words["dt"], page.words["dd"], strict=True)
    expected = [
        pair for row in table.itertuples() for pair in (("gamma", f"{row.gamma:.3g}"), ("classes", row.classes))
    ]
    assert list(values) == expected
    assert page.words["title"] == ["made up"]
    assert page.words["pre"] == ["gamma >= 0 and 'cat' not in classes"]
    assert page.words["p"][0] == f"True of {len(table)} of 12 units."


def test_pictures_are_those_of_the_channel(tmp_path: Path) -> None:
    result = made_selectivity()
    units = npr.select_units(result, "layer == 'late' and defined == 1", order_by="colour")
    images = page_of(result, units, tmp_path).attrs("img")
    node = result["selectivity/late"]
    at = 0
    for channel in units["channel"].values:
        feature = node["neuron_feature"].sel(channel=channel).values
        shown = pixels(images[at]["src"])
        assert images[at]["alt"] == f"Neuron Feature of late / {channel}"
        assert images[at]["width"] == str(9 * round(120 / 9))
        np.testing.assert_array_equal(shown, displayed(feature, node["coverage"].sel(channel=channel).values))
        assert (shown[0] == 128).all()  # which nothing covers
        assert (shown[1:].min(), shown[1:].max()) == (0, 255)
        n_crops = 1 if channel == 5 else 3
        for number in range(n_crops):
            crop = node["top_crop"].isel(channel=channel, crop=number).values
            np.testing.assert_array_equal(pixels(images[at + 1 + number]["src"]), np.rint(255 * crop))
            assert images[at + 1 + number]["alt"] == f"crop {number + 1} of those that drive late / {channel} most"
        at += 1 + n_crops
    assert at == len(images)


@given(
    hnp.arrays(np.float32, (3, 4, 3), elements=st.floats(0, 1, width=32)),
    hnp.arrays(np.float32, (3, 4), elements=st.floats(0, 1, width=32)),
)
def test_display_of_neuron_features(feature: np.ndarray, coverage: np.ndarray) -> None:
    shown = displayed(feature, coverage)
    covered = feature[coverage > 0]
    low, high = (covered.min(), covered.max()) if covered.size else (0, 0)
    for place in np.ndindex(coverage.shape):
        weight = float(coverage[place])
        stretched = (feature[place].astype(float) - low) / (high - low) if high > low else np.full(3, 0.5)
        expected = 127.5 + weight * (255 * stretched - 127.5) if weight else np.full(3, 127.5)
        assert (np.abs(shown[place] - expected) <= 1).all()


def test_units_that_nothing_drives_and_layers_without_pictures(tmp_path: Path) -> None:
    result = made_selectivity()
    units = npr.select_units(result, f"channel == {DEAD}", columns=["layer", "channel", "gamma", "classes"])
    page = page_of(result, units, tmp_path)
    assert not page.attrs("img")
    assert [text for text in page.words["p"] if "drives" in text and "Neuron" not in text] == [
        "No image drives this unit."
    ] * 2
    assert page.words["dd"] == ["undefined"] * 4
    # of one layer there are none
    bare = {f"/selectivity/{layer}": result[f"selectivity/{layer}"].to_dataset() for layer in ("early", "late")}
    bare["/selectivity/early"] = bare["/selectivity/early"].drop_vars("neuron_feature")
    tree = xr.DataTree.from_dict(bare)
    page = page_of(tree, npr.select_units(tree, "channel == 0 and gamma >= 0"), tmp_path)
    assert "There is no Neuron Feature of this unit." in page.words["p"]
    assert len(page.attrs("img")) == 4
    with pytest.raises(ReaderError, match="no Neuron Features of layers 'early', there are some of 'late'"):
        write_gallery(tree, npr.select_units(tree, "layer == 'early' and gamma >= 0"), tmp_path / "out.html")


def test_places_show_their_channel(tmp_path: Path) -> None:
    """Beside a result over places, and with the pictures from another one."""
    numbers = np.arange(24.0).reshape(6, 2, 2)
    maps = xr.DataTree.from_dict({"/sobol/late": xr.Dataset({"mean": (("channel", "y", "x"), numbers)})})
    result = made_selectivity()
    units = npr.select_units([maps, result], "mean > 14 and gamma >= 0 and layer == 'late'")
    page = page_of([maps, result], units, tmp_path)
    assert page.words["h2"] == ["late / 3"] + ["late / 4"] * 4 + ["late / 5"] * 4
    assert page.words["dt"][:4] == ["y", "x", "mean", "gamma"]
    assert page.words["dd"][:3] == ["1", "1", "15"]
    sources = [attrs["src"] for attrs in page.attrs("img") if str(attrs["alt"]).startswith("Neuron")]
    assert len(set(sources)) == 3
    assert len(sources) == 9
    with pytest.raises(ReaderError, match=r"holds no Neuron Features.*analyses: \[selectivity\]"):
        write_gallery(maps, units, tmp_path / "out.html")


def test_a_page_holds_so_many_units_and_columns(tmp_path: Path) -> None:
    numbers = np.zeros((6, 10, 11))
    maps = xr.DataTree.from_dict({"/sobol/late": xr.Dataset({"mean": (("channel", "y", "x"), numbers)})})
    results = [made_selectivity(), maps]
    page = page_of(results, npr.select_units(results, "mean == 0 and layer == 'late'"), tmp_path)
    assert len(page.words["h2"]) == MAX_UNITS == 500
    assert page.words["p"][1] == "Shown are the first 500 of 660: a page holds 500 at most."
    every = npr.select_units(results[0], "layer == 'late'")
    page = page_of(results[0], every, tmp_path)
    n = len(every.variables) - 2 - 12
    assert f"{n} columns are left out: name those that matter." in page.words["p"]
    nothing = page_of(results[0], npr.select_units(results[0], "gamma > 2"), tmp_path)
    assert "h2" not in nothing.words
    assert nothing.words["p"] == ["True of 0 of 12 units."]


NASTY = "<script>alert('1')</script>"


def test_everything_is_escaped(tmp_path: Path) -> None:
    classes = (NASTY, '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}", "&lt;b&gt;", *CLASSES)
    made = made_selectivity(classes=classes)
    node = made["selectivity/late"].to_dataset()
    node["class_frequency"][:] = np.eye(len(classes), 6) / 2 + (np.arange(len(classes)) == 0)[:, None] / 2
    node["hypernym"] = ("channel", np.array([NASTY] * 6, object))
    node["<b>"] = ("channel", np.arange(6.0))
    tree = xr.DataTree.from_dict({"/selectivity/<i onload='x'>": node})
    tree.attrs["title"] = f"{NASTY} & more"
    query = f'`<b>` > -1 and (hypernym == "{NASTY}" or "{NASTY}" in classes)'
    page = page_of(tree, npr.select_units(tree, query), tmp_path)
    text = (tmp_path / "out.html").read_text()
    assert "<script" not in text
    assert "49" not in page.words["dd"]
    assert not {"script", "i", "b", "link", "iframe"} & {tag for tag, _ in page.elements}
    for tag, attrs in page.elements:
        assert not [name for name in attrs if name.startswith("on")], tag
        assert str(attrs.get("src", "data:image/png;base64,")).startswith("data:image/png;base64,")
    assert page.words["h1"] == [f"{NASTY} & more"]
    assert page.words["pre"] == [query]
    assert page.words["h2"][0] == "<i onload='x'> / 0"
    assert NASTY in page.words["dd"]
    assert "<b>" in page.words["dt"]
    assert any(NASTY in value and value != NASTY for value in page.words["dd"])  # among the labels
    assert "http" not in re.sub(r'src="data:[^"]*"', "", text)


def test_what_cannot_be_written_leaves_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = made_selectivity()
    units = npr.select_units(result, "gamma >= 0")
    output = tmp_path / "out.html"
    output.write_text("before")
    with pytest.raises(StoreError, match="is a folder"):
        write_gallery(result, units, tmp_path)
    for name in ("layer", "channel"):
        with pytest.raises(ReaderError, match=f"the units have no column '{name}'"):
            write_gallery(result, units.drop_vars(name), output)
    with pytest.raises(ReaderError, match="holds no Neuron Features"):
        write_gallery(made_selectivity(pictures=False), units, output)
    with pytest.raises(ReaderError, match="units of layer 'early' have no channel"):
        write_gallery(result, units.assign_coords(channel=("unit", np.full(units.sizes["unit"], np.nan))), output)

    def fails(self: Path, *_: Any, **__: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", fails)
    with pytest.raises(StoreError, match="the disk is full"):
        write_gallery(result, units, output)
    assert output.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["out.html"]


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("gallery")
    maps = xr.Dataset({"shapley_effect": (("factor", "channel"), np.linspace(0, 1, 6)[None])}, {"factor": ["hue"]})
    with quiet_zarr():
        made_selectivity().to_netcdf(folder / "index.nc")
        xr.DataTree.from_dict({"/shapley/late": maps}).to_netcdf(folder / "maps.nc")
    return folder / "index.nc", folder / "maps.nc"


def call(*arguments: object) -> Any:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_command_writes_a_gallery(exports: tuple[Path, Path], tmp_path: Path) -> None:
    index, _ = exports
    output = tmp_path / "new" / "out.html"
    result = call("select", index, "'dog' in classes", "--gallery", output, "--order-by", "gamma", "--columns", "gamma")
    assert (result.exit_code, result.stdout) == (0, f"{output}\n")
    units = npr.select_units(index, "'dog' in classes", order_by="gamma")
    assert result.stderr == f"{units.sizes['unit']} of 12 units\n"
    page = Page(output.read_text())
    assert page.words["h2"] == [f"{a} / {b}" for a, b in zip(units.layer.values, units.channel.values, strict=True)]
    assert set(page.words["dt"]) == {"gamma"}
    assert call("select", index, "--gallery", output, "--json").exit_code == 2
    wrong = call("select", index, "'dgo' in classes", "--gallery", tmp_path / "none.html")
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("error: query:1:1: unknown label of classes, 'dgo'")
    assert not (tmp_path / "none.html").exists()


def test_command_selects_from_several_results(exports: tuple[Path, Path], tmp_path: Path) -> None:
    index, maps = exports
    query = "shapley_hue > .3 and gamma > .1"
    result = call("select", maps, query, "--with", index, "--sort", "gamma", "--json")
    units = npr.select_units([maps, index], query, order_by="gamma")
    assert [record["channel"] for record in json.loads(result.stdout)] == units["channel"].values.tolist() != []
    listed = json.loads(call("select", maps, "--with", index, "--list-columns", "--json").stdout)
    kinds = {row["name"]: row["kind"] for row in listed}
    assert (kinds["shapley_hue"], kinds["classes"]) == ("number", "labels")
    assert call("select", maps, query, "--with", index, "--gallery", tmp_path / "out.html").exit_code == 0
    alone = call("select", maps, "shapley_hue > .3", "--gallery", tmp_path / "alone.html")
    assert (alone.exit_code, alone.stdout) == (1, "")
    assert "analyses: [selectivity]" in alone.stderr
