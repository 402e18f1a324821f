"""The page of a result with selectivity: alone or with others, true to the numbers, and plain about what is not."""

import re
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

from made_results import make_result
from made_selectivity_pictures import CLASSES, DEAD, made_selectivity, with_values, without
from neuroprobe.report import points
from neuroprobe.report.points import pointed
from neuroprobe.report.selectivity import MAX_LAYERS
from neuroprobe.report.writer import report_page
from pages import SECTIONS, Page, has, joined

ABOUT = SECTIONS[:3]
LAST = "How to read the numbers"
LAYERS = ["stage1", "stage2", "linear"]


@pytest.fixture(scope="module")
def made() -> xr.DataTree:
    return made_selectivity()


@pytest.fixture(scope="module")
def page(made: xr.DataTree) -> Page:
    return Page(report_page(made))


def alive(made: xr.DataTree, layer: str, name: str) -> np.ndarray:
    return np.delete(made[f"selectivity/{layer}"][name].values, DEAD)


def quartiles(values: np.ndarray) -> str:
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return f"{middle:z.2f} [{low:z.2f}, {high:z.2f}]"


def test_selectivity_alone(page: Page) -> None:
    assert page.words["h2"] == [*ABOUT, "Selectivity", LAST]
    assert has(
        page,
        "with weights none, recorded. 80 images, each as it is; 36 units of 3 layers, of which 3 respond to none.",
        "Units are most selective for colour, beyond sham alterations, in",
        "This result holds no examples of its stimuli.",
    )
    assert dict(page.table("what", "value"))["selectivity"] == "80 images, 10 top stimuli of each unit"
    assert not plt.get_fignums()


@pytest.mark.usefixtures("undrawn")
def test_with_other_analyses(made: xr.DataTree) -> None:
    other = make_result()
    selected = made.copy()
    del selected["stimuli"]
    both = Page(report_page(joined(other, selected)))
    assert both.words["h2"] == [*SECTIONS[:-1], "Selectivity", LAST]
    assert has(both, "recorded under 2 factors: hue, rotation.", "the 10 that drive a unit most are its top stimuli")


def test_layers_in_numbers(made: xr.DataTree, page: Page) -> None:
    rows = page.table("layer", "units", "silent")
    assert [row[:3] for row in rows] == [[layer, "12", "1"] for layer in LAYERS]
    assert [row[3] for row in rows] == [
        *("crops of 7 × 7 px", "crops of 13 × 13 px"),
        "whole images: a linear layer sees the whole image",
    ]
    columns = ("colour", "colour_corrected", "gamma", "gamma_corrected", "entropy", "class_mass")
    for row, layer in zip(rows, LAYERS, strict=True):
        assert row[4:10] == [quartiles(alive(made, layer, name)) for name in columns]
        assert row[10:] == [
            f"{(alive(made, layer, f'{name}_p_adjusted') < 0.05).mean():.1%}" for name in ("colour", "gamma")
        ]


def test_alterations_in_numbers(made: xr.DataTree, page: Page) -> None:
    rows = page.table("layer", "index", "high is")
    assert len(rows) == 18
    assert rows[8][:3] == ["stage2", "symmetry", "invariance"]
    assert rows[7][:3] == ["stage2", "orientation", "loss"]
    cells = [quartiles(alive(made, "stage2", f"symmetry{null}")) for null in ("", "_sham", "_corrected")]
    assert rows[8][3:6] == cells
    assert rows[8][6] == f"{(alive(made, 'stage2', 'symmetry_p_adjusted') < 0.05).mean():.1%}"


def test_sentences_say_where_and_how_much(made: xr.DataTree, page: Page) -> None:
    medians = {layer: np.median(alive(made, layer, "gamma_corrected")) for layer in LAYERS}
    low, high = min(medians, key=medians.__getitem__), max(medians, key=medians.__getitem__)
    assert has(
        page,
        f"Beyond chance, its median is smallest in {low} ({medians[low]:.3f}) and largest in {high} "
        f"({medians[high]:.3f}).",
    )


def test_nulls_and_what_is_undefined_are_said(made: xr.DataTree, page: Page) -> None:
    chance = float(made["selectivity/linear"]["gamma_chance"][0])
    sham = [np.median(alive(made, layer, "colour_sham")) for layer in LAYERS]
    assert has(
        page,
        f"With {len(CLASSES)} classes, γ of images whose classes mean nothing to the unit is {chance:.3f} on average: "
        "a raw γ near that means nothing",
        f"it costs units {min(sham):.3f} to {max(sham):.3f} of their response",
        "3 of 36 units respond to no image.",
        "undefined, not 0",
        "Whole images were altered for linear; the table says why. Elsewhere the receptive field alone was",
    )
    assert "Left out, as undefined: 3 of 36 units" in page.text("figcaption")


def test_page_is_one_small_file(made: xr.DataTree, page: Page) -> None:
    assert all(str(image["src"]).startswith("data:image/png;base64,") for image in page.attrs("img"))
    titles = [str(image["alt"]) for image in page.attrs("img")]
    for expected in (
        "colour selectivity α: shares",
        "class selectivity γ: shares",
        "Neuron Features by colour selectivity α",
        "Neuron Features by class selectivity γ",
        "class selectivity γ against colour selectivity α",
        "linear: similarity",
        "stage2: responses to the 10 top stimuli",
        "orientation: median and quartiles",
    ):
        assert sum(title.startswith(expected) for title in titles) == 1, expected
    text = report_page(made)
    assert len(text) < 2_000_000
    assert not re.search(r"<script|https?://", text)


SPECIAL: dict[str, tuple[dict[str, Any], str, str]] = {
    "no labels": ({"classes": None}, "the 10 that drive a unit most", "class selectivity γ"),
    "no nulls": ({"nulls": False}, "The median of colour selectivity α", "p-values"),
    "no colour": ({"indexes": ["shape"]}, "The median of class selectivity γ", "colour selectivity α"),
    "labels alone": ({"indexes": []}, "The median of class selectivity γ", "sham"),
    "nothing alive": ({"dead": range(12)}, "36 of 36 units respond to no image", "Beyond chance"),
    "all alive": ({"dead": ()}, "36 units of 3 layers, of which 0 respond to none", "They have no top stimuli"),
    "no similarity": ({"similarity": False}, "top stimuli", "similarity"),
    "whole images": ({"n_layers": 1}, "Whole images were altered for linear; the table says why.", "Elsewhere"),
    "examples": ({"examples": True}, "top stimuli", "holds no examples"),
    "one unit": ({"n_channels": 1, "dead": ()}, "3 units of 3 layers", "similarity"),
}


@pytest.mark.parametrize("case", SPECIAL)
def test_special_cases(case: str) -> None:
    options, expected, absent = SPECIAL[case]
    page = Page(report_page(made_selectivity(**options)))
    assert page.words["h2"] == [*ABOUT, "Selectivity", LAST]
    assert has(page, expected)
    titles = " ".join(str(image["alt"]) for image in page.attrs("img"))
    assert absent not in page.text("p") + titles
    assert "nan" not in " ".join(page.words["td"])
    assert "nan" not in re.findall(r"\w+", page.text("p") + page.text("figcaption"))
    assert not plt.get_fignums()


@pytest.mark.usefixtures("undrawn")
def test_an_index_that_one_layer_lacks(made: xr.DataTree) -> None:
    lacking = without(made, "linear", "colour", "colour_corrected", "colour_p_adjusted", "colour_sham")
    rows = Page(report_page(lacking)).table("layer", "units", "silent")
    assert rows[2][4:6] == ["–", "–"]
    assert rows[2][10] == "–"
    assert rows[1][4] == quartiles(alive(made, "stage2", "colour"))


@pytest.mark.usefixtures("undrawn")
def test_all_medians_alike(made: xr.DataTree) -> None:
    alike = made
    for layer in LAYERS:
        alike = with_values(alike, layer, colour=np.full(12, 0.5))
    assert has(Page(report_page(alike)), "The median of colour selectivity α is 0.500 in every layer.")


@pytest.mark.usefixtures("undrawn")
def test_of_many_layers_some_are_drawn_and_all_are_in_a_table() -> None:
    n = MAX_LAYERS + 3
    page = Page(report_page(made_selectivity(n_layers=n, n_channels=3, indexes=["colour", "orientation"])))
    assert len(page.table("layer", "units", "silent")) == n
    assert f"{MAX_LAYERS} of {n} layers, spread over the depth, are drawn." in page.text("figcaption")


@pytest.mark.usefixtures("undrawn")
def test_shares_that_could_only_be_none_are_left_out(made: xr.DataTree) -> None:
    few = made.copy(deep=True)
    for layer in LAYERS:
        few[f"selectivity/{layer}"]["colour_p_value"].attrs["draws"] = 19
        few[f"selectivity/{layer}"]["gamma_p_value"].attrs["draws"] = 20
    page = Page(report_page(few))
    assert has(page, "Of colour selectivity α nothing can be significant: with as few draws no p-value is under 0.050.")
    head = next(rows[0] for rows in page.tables if rows[0][:3] == ["layer", "units", "silent"])
    assert [title for title in head if "p <" in title] == ["γ, p < 0.05"]
    shares = {tuple(row[:2]): row[-1] for row in page.table("layer", "index", "high is")}
    assert shares["stage1", "colour"] == "–"
    assert shares["stage1", "shape"].endswith("%")


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("beyond", [0.25, -0.25])
def test_no_layer_is_called_selective_for_what_it_is_not(made: xr.DataTree, beyond: float) -> None:
    known = made
    for layer in LAYERS:
        known = with_values(known, layer, colour_corrected=np.full(12, beyond))
    page = Page(report_page(known))
    is_selective = "Units are most selective for colour, beyond sham alterations, in stage1: median 0.25."
    none_is = "In no layer is the median unit selective for colour, beyond sham alterations (the median is largest in"
    assert has(page, is_selective) == (beyond > 0)
    assert has(page, f"{none_is} stage1, -0.25).") == (beyond < 0)


def test_units_say_what_they_are_under_the_pointer(made: xr.DataTree, page: Page) -> None:
    """A point for each unit that has both indexes, with its Neuron Feature, and no script."""
    assert len(page.attrs("circle")) == len(page.attrs("image")) == 3 * 11
    assert all(str(image["href"]).startswith("data:image/png;base64,") for image in page.attrs("image"))
    unit = made["selectivity/stage2"].to_dataset().isel(channel=4)
    said = page.words["text"]
    at = said.index("stage2, channel 4")
    assert said[at + 1] == f"colour selectivity α: {float(unit['colour']):z.2f}"
    assert said[at + 2] == f"class selectivity γ: {float(unit['gamma']):z.2f}"
    alone = Page(report_page(made_selectivity(classes=None)))
    assert not alone.attrs("circle")


def test_points_stand_where_their_numbers_are(made: xr.DataTree) -> None:
    (picture,) = pointed(made, "colour", "gamma", LAYERS)
    values = np.array([[float(line.rsplit(": ")[1]) for line in point.lines[1:]] for point in picture.points])
    places = np.array([[point.x, point.y] for point in picture.points])
    assert (places > 0).all()
    assert (places < picture.side).all()
    for axis, sign in ((0, 1), (1, -1)):
        slope = np.polyfit(values[:, axis], places[:, axis], 1)
        np.testing.assert_allclose(np.polyval(slope, values[:, axis]), places[:, axis], atol=4)
        assert slope[0] * sign > 0
        ticks = np.array([(place, float(text)) for place, text in picture.ticks[axis]])
        np.testing.assert_allclose(np.polyval(slope, ticks[:, 1]), ticks[:, 0], atol=4)
    full = [point.is_full for point in picture.points]
    expected = [
        bool(unit)
        for layer in LAYERS
        for unit in (alive(made, layer, "colour_p_adjusted") < 0.05) & (alive(made, layer, "gamma_p_adjusted") < 0.05)
    ]
    assert full == expected


def test_a_page_holds_so_many_points(made: xr.DataTree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(points, "MAX_POINTS", 32)
    assert not list(pointed(made, "colour", "gamma", LAYERS))
    assert len(list(pointed(made, "colour", "gamma", LAYERS[:2]))) == 1


def test_what_a_unit_rests_on_is_drawn_where_it_is_known() -> None:
    page = Page(report_page(made_selectivity(relevance=True)))
    titles = [str(image["alt"]) for image in page.attrs("img")]
    assert sum(": the channels that it rests on" in title for title in titles) == 1
    assert "What the unit of linear with the largest colour selectivity α rests on" in page.text("figcaption")


@pytest.mark.usefixtures("undrawn")
def test_shorter_lists_are_compared(made: xr.DataTree) -> None:
    shorter = made.copy()
    node = made["selectivity/stage1"].to_dataset()
    values = np.stack([2 * node["colour"].values, node["colour"].values])
    node = node.drop_dims("n_kept").assign(colour_by_n=(("n_kept", "channel"), values))
    shorter["selectivity/stage1"] = xr.DataTree(node.assign_coords(n_kept=np.array(["5", "10"], dtype=object)))
    rows = Page(report_page(shorter)).table("layer", "index", "5 stimuli")
    assert rows == [["stage1", "colour selectivity α", f"1.00 ({np.median(alive(made, 'stage1', 'colour')):+.2f})"]]
