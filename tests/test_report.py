"""The page of a result: whole, offline, escaped, and true to the numbers."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import yaml
from scipy import stats

import neuroprobe as npr
from made_results import make_result, with_contrasts, with_moments
from neuroprobe.analysis import overview
from neuroprobe.analysis.effects import contrast_table, significant_shares
from neuroprobe.analysis.moments import moments_table
from neuroprobe.analysis.shares import mean_shares
from neuroprobe.errors import StoreError
from neuroprobe.report import write_report
from neuroprobe.report.page import Section, Table, Text, render
from neuroprobe.report.view import MAX_LAYERS
from neuroprobe.report.writer import report_page
from neuroprobe.store import open_result
from pages import SECTIONS, Page, has, joined


@pytest.fixture(scope="module")
def text() -> str:
    return report_page(make_result(dead=0.3))


@pytest.fixture(scope="module")
def plain(text: str) -> Page:
    return Page(text)


def test_sections_are_linked_from_the_contents(plain: Page) -> None:
    assert plain.words["h2"] == SECTIONS
    targets = [str(attrs["href"]) for attrs in plain.attrs("a")]
    assert targets == [f"#{attrs['id']}" for attrs in plain.attrs("section")]
    assert len(set(targets)) == len(SECTIONS)


def test_page_refers_to_nothing_outside(text: str, plain: Page) -> None:
    assert "http" not in re.sub(r'src="data:[^"]*"', "", text)
    assert "url(" not in text
    for tag, attrs in plain.elements:
        assert tag not in {"script", "link", "iframe", "object"}
        for name in ("src", "href"):
            assert str(attrs.get(name, "#")).startswith(("#", "data:image/png;base64,"))


def test_pictures_have_alternatives_and_captions(plain: Page) -> None:
    assert len(plain.attrs("figure")) == len(plain.attrs("figcaption")) == len(plain.attrs("img")) == 14
    for image in plain.attrs("img"):
        assert len(str(image["alt"])) > 10
        assert int(str(image["width"])) > 50
    units = re.compile(r"\d+ of 66 units|all 66 units|No unit is left out|images? of 2|Chosen from \d+ units")
    for caption in plain.words["figcaption"]:
        assert units.search(caption), caption
    assert len(plain.attrs("table")) == len(plain.attrs("caption"))
    assert all(attrs["scope"] in {"row", "col"} for attrs in plain.attrs("th"))


def test_page_is_light_and_prints(plain: Page) -> None:
    assert {"name": "color-scheme", "content": "only light"} in plain.attrs("meta")
    assert "@media print" in plain.text("style")


def test_tables_hold_the_numbers_of_the_labelled_functions(plain: Page) -> None:
    result = make_result(dead=0.3)
    rows = plain.table("layer", "factor", "S1 median")
    assert [row[:2] for row in rows] == [[layer, f] for layer in ("early", "late") for f in ("hue", "rotation")]
    values = result["sobol/late"]["total_order"].values.reshape(2, -1)
    errors = result["sobol/late"]["total_order_se"].values.reshape(2, -1)
    assert rows[3][4] == f"{np.nanmedian(values[1]):.3f} ({np.nanmedian(errors[1]):.3f})"
    assert rows[3][5] == f"{np.nanmean(values[1]):.3f} ({np.nanmean(errors[1]):.3f})"
    counts = overview.unit_counts(result).sel(layer="early")
    activity = plain.table("layer", "units", "with an index")[0]
    assert activity[1:4] == [str(int(counts[name])) for name in ("n_units", "n_defined", "n_silent")]
    shares = overview.preferences(result, "first_order").sel(layer="early")["share"].values
    assert plain.table("layer", "units", "hue")[0][2:4] == [f"{share:.1%}" for share in shares]
    units = plain.table("factor", "1.", "2.")
    best = np.nanargmax(np.nanmean(result["sobol/early"]["first_order"].values[0], (1, 2)))
    assert units[0][1].startswith(f"{best}: ")
    pairs = plain.table("layer", "pair")
    second = result["sobol/early"]["second_order"].values[0, 1]
    assert pairs[0][1] == "hue × rotation"
    assert pairs[0][2].startswith(f"{np.nanmedian(second):.3f} (")
    assert pairs[0][3] == f"{np.nanquantile(second, 0.95):.3f}"


@pytest.mark.usefixtures("undrawn")
def test_specialisation_is_summarised() -> None:
    made = make_result({"early": (8, 3, 4), "late": (15,)}, ["hue", "blur", "rotation"], dead=0.2)
    page, found = Page(report_page(made)), npr.specialisation(made, n_permutations=0, max_features=49)
    row = page.table("layer", "maps of")[1]
    assert row[:2] == ["early", "ST"]
    at = found.to_dataset().sel(layer="early", value="total_order")
    assert row[2] == f"{float(at['mean_correlation']):.3f} ({float(at['mean_correlation_se']):.3f})"
    accuracy = at.sel(normalisation="unit")
    assert row[4] == f"{float(accuracy['accuracy']):.3f} ({float(accuracy['accuracy_se']):.3f})"
    assert row[6] == str(int(at["n_channels"]))
    assert page.table("layer", "maps of")[2][4] == "–"
    agreement = at["agreement"].sel(value_2="first_order", factor="hue")
    assert page.table("layer", "factor", "S1, ST")[0][2].startswith(f"{float(agreement):.3f} (")
    shares = mean_shares(made, "first_order", by_variance=True)
    last = page.table("layer", "hue", "blur", "rotation", "interactions")[1][4]
    assert last.startswith(f"{float(shares['share'].sel(layer='late', part='interactions')):.3f} (")


@pytest.mark.usefixtures("undrawn")
def test_maps_of_too_many_units_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neuroprobe.report.specialisation.MAX_VALUES", 10)
    page = Page(report_page(make_result(factors=["hue", "blur", "rotation"])))
    assert has(page, "396 indices are too many to be compared here")


SPECIAL: dict[str, tuple[dict[str, Any], Callable[[Page], bool]]] = {
    "image as a factor": (
        {"image": "factor", "factors": ["hue", "image"]},
        lambda page: has(page, "The image is a factor", "about images drawn from this set"),
    ),
    "images redrawn": ({"image": "redrawn"}, lambda page: has(page, "every total-order index")),
    "one sequence": ({"scramble": None}, lambda page: has(page, "They are upper bounds", "± 2.36 standard errors")),
    "no pairs": ({"second_order": False}, lambda page: has(page, "no indices of pairs")),
    "one factor": ({"factors": ["hue"]}, lambda page: has(page, "there are no pairs")),
    "all dead": ({"dead": 1.0}, lambda page: has(page, "No unit has an index.", "No unit varied")),
    "one layer dead": (
        {"layers": {"early": (2, 3, 3), "dead": (0 + 1, 1, 2)}, "dead": 0.9},
        lambda page: has(page, "No unit of this layer has an index."),
    ),
    "nothing but NaN": ({"nan": 1.0}, lambda page: page.table("layer", "units")[0][5] == "60"),
    "NaN dropped": (
        {"nan": 0.4},
        lambda page: has(page, "unit by unit (nan: drop)") and "with dropped samples" in page.text("th"),
    ),
    "fully connected": (
        {"layers": {"fc1": (12,), "fc2": (4,)}},
        lambda page: "units of each factor where it is largest" in str(page.attrs("img")),
    ),
    "tokens": ({"layers": {"block": (5, 7)}}, lambda page: "(" in page.table("factor", "1.")[0][1].split(":")[0]),
    "one pixel": ({"layers": {"pooled": (6, 1, 1)}}, lambda page: "channels of each" not in str(page.attrs("img"))),
    "13 factors": (
        {"factors": [f"alteration_{i}" for i in range(13)]},
        lambda page: len(page.table("factor", "alteration")) == 13,
    ),
    "Sobol and Shapley": (
        {"factors": ["hue", "blur", "rotation"], "shapley": True, "dead": 0.2},
        lambda page: {"Sh median", "S1, Sh", "Sh, variation"} <= set(page.words["th"]),
    ),
    "Shapley alone": (
        {"factors": ["hue", "blur", "rotation"], "shapley": True, "sobol": False},
        lambda page: has(page, "the Shapley effect of a factor") and "S1" not in page.text("caption"),
    ),
    "no examples": ({"examples": False}, lambda page: has(page, "holds no examples")),
}


@pytest.mark.parametrize("case", SPECIAL)
def test_special_cases(case: str) -> None:
    options, expected = SPECIAL[case]
    page = Page(report_page(make_result(**options)))
    assert page.words["h2"] == SECTIONS
    assert expected(page)
    assert "nan" not in " ".join(page.words["td"])
    assert not plt.get_fignums()


@pytest.mark.parametrize("alone", [False, True])
def test_contrasts_are_reported(alone: bool) -> None:
    made = make_result(dead=0.3)
    result = joined(made, with_contrasts(made), alone=alone)
    page, table = Page(report_page(result)), contrast_table(result)
    before = SECTIONS[:3] if alone else SECTIONS[:-1]
    assert page.words["h2"] == [*before, "Contrasts", "How to read the numbers"]
    rows = page.table("layer", "alteration", "|d_z|")
    assert [row[:2] for row in rows] == [[layer, f] for layer in ("early", "late") for f in ("hue", "rotation")]
    at = table.sel(layer="late", factor="rotation")
    assert rows[3][2] == f"{float(at['effect_size']):.3f} ({float(at['effect_size_se']):.3f})"
    for column, test in ((3, "t"), (4, "sign")):
        share = significant_shares(result, test).sel(layer="late", factor="rotation")
        assert rows[3][column] == f"{float(share):.1%}"
    assert rows[1][5] == str(int(table["n_undefined"].sel(layer="early", factor="rotation")))
    counts = page.table("layer", "units", "never active", "unchanged by any")
    assert counts[0] == ["early", *(str(int(table[k][0])) for k in ("n_units", "n_silent", "n_unchanged"))]
    one = result["accuracy"].to_dataset().sel(measure="top_1", factor="hue")
    accuracies = page.table("measure", "alteration", "estimate")
    assert [row[1] for row in accuracies] == 2 * ["original", "hue", "rotation"]
    value, low, high = (float(one[name]) for name in ("estimate", "lower", "upper"))
    assert accuracies[1][2] == f"{value:.3f} [{low:.3f}, {high:.3f}]"
    assert accuracies[0][3:] == ["–", "–"]
    assert has(page, "The replicate is the image", "30 images, one draw", "largest median effect size")
    captions = page.text("figcaption")
    assert "corrected by fdr_by. The family of tests is one per test and alteration" in captions
    assert f"the median would be {stats.t.ppf(0.75, 29) / 30**0.5:.3f}" in captions
    assert "nan" not in " ".join(page.words["td"])


def test_contrasts_without_accuracies_or_effects() -> None:
    made = make_result(dead=1.0)
    contrasts = with_contrasts(made)
    del contrasts["accuracy"]
    page = Page(report_page(joined(made, contrasts, alone=True)))
    assert has(page, "holds no accuracies", "No alteration, alone, changes any unit.")
    assert page.table("layer", "alteration", "|d_z|")[0][2:] == ["–", "0.0%", "0.0%", "60"]


def test_moments_are_reported_alone() -> None:
    made = make_result(dead=0.3)
    result = joined(made, with_moments(made), alone=True)
    page, table = Page(report_page(result)), moments_table(result).sel(layer="early")
    titles = ["Protocol", "Provenance", "Sample stimuli", "Dead and rarely active units", "Moments"]
    assert page.words["h2"] == [*titles, "How to read the numbers"]
    row = page.table("layer", "mean", "variance")[0]
    names = ("mean", "variance", "coefficient_of_variation", "activity_rate")
    assert row[1:5] == [f"{float(table[name]):.3f} ({float(table[f'{name}_se']):.3f})" for name in names]
    n_units, n_defined = int(table["n_units"]), int(table["n_defined"])
    assert row[5:] == [str(n_defined), str(n_units - n_defined)]
    assert page.table("layer", "units", "with variance")[0][1:3] == [str(n_units), str(n_defined)]
    assert has(page, "do not vary", "± 2.36 standard errors")
    assert "index" not in page.text("th")


@pytest.mark.usefixtures("undrawn")
def test_of_many_layers_some_are_drawn_and_all_are_in_tables() -> None:
    layers = {f"layer{i}": (2, 2, 2) for i in range(MAX_LAYERS + 4)}
    page = Page(report_page(make_result(layers)))
    drawn = [str(image["alt"]) for image in page.attrs("img") if "channels of each factor" in str(image["alt"])]
    assert len(drawn) == MAX_LAYERS
    assert (drawn[0].split(":")[0], drawn[-1].split(":")[0]) == ("layer0", f"layer{MAX_LAYERS + 3}")
    assert f"{MAX_LAYERS} of {len(layers)} layers, spread over the depth, are drawn" in page.text("figcaption")
    assert {row[0] for row in page.table("layer", "units", "with an index")} == set(layers)


def test_text_is_escaped() -> None:
    evil = "<script>alert(1)</script> & <b>'\""
    result = make_result({f"conv<i>{evil[:8]}": (3,)}, [f"hue<img src=x>{evil[-2:]}", "b&amp;"], title=evil)
    page = Page(report_page(result))
    assert {tag for tag, _ in page.elements}.isdisjoint({"script", "b", "i"})
    assert page.text("h1") == page.text("title") == evil
    assert "b&amp;" in page.text("th")


def test_same_result_gives_the_same_page(text: str) -> None:
    assert report_page(make_result(dead=0.3)) == text


def test_page_of_a_run(tmp_path: Path, small_protocol: dict[str, Any]) -> None:
    small_protocol |= {"title": "from a run", "design": {"samples": 64}}
    small_protocol["stimuli"]["images"]["limit"] = 24
    with pytest.warns(UserWarning, match="24 images|on 2 blocks|at most 0.29 px"):
        npr.run(small_protocol, tmp_path / "out.zarr")
    write_report(tmp_path / "out.zarr", tmp_path / "new" / "out.html")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out.html"]
    page = Page((tmp_path / "new" / "out.html").read_text(encoding="utf-8"))
    assert page.text("h1") == "from a run"
    assert page.words["h2"] == SECTIONS
    given = yaml.safe_load(page.text("pre"))
    # as it was written: nothing is there that was not given
    assert given["design"] == {"samples": 64}
    assert given["subject"] == {"network": "embedded", "layers": ["conv6", "linear"]}
    assert given["treatment"]["alterations"][1] == {"name": "grayscale", "switch": 0.5}
    assert "standard errors rest on 2 blocks" in page.text("p")
    factors = [row[0] for row in page.table("factor", "alteration", "applied", "parameters")]
    assert factors == [item["name"] for item in small_protocol["treatment"]["alterations"]]
    result = open_result(tmp_path / "out.zarr")
    median = float(result["sobol/conv6"]["first_order"].sel(factor="hue").median())
    assert page.table("layer", "factor", "S1 median")[3][2].startswith(f"{median:.3f}")


def test_what_cannot_be_reported_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such result"):
        write_report(tmp_path / "none.zarr", tmp_path / "new" / "out.html")
    assert not (tmp_path / "new").exists()


def test_parts_are_escaped_one_by_one() -> None:
    page = Page(
        render("<", ["&"], [">"], [Section("<i>", [Text("<b>"), Text("<pre>", "code"), Table("<u>", ["<"], [["&"]])])])
    )
    assert (page.text("h1"), page.text("pre"), page.text("caption")) == ("<", "<pre>", "<u>")
    assert page.tables == [[["<"], ["&"]]]
