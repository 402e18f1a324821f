"""The page of a result with lesions: with other analyses or alone, true to the numbers, and plain about what is not."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

from made_masking import make_masking
from made_results import make_result, with_contrasts
from neuroprobe.analysis import lesion_effects
from neuroprobe.report.masking import MAX_PLACES
from neuroprobe.report.writer import report_page
from pages import SECTIONS, Page, has, joined

ABOUT = SECTIONS[:3]
LAST = "How to read the numbers"


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(report_page(make_masking()))


def cell(at: Any, name: str, n: int = 3) -> str:
    value, low, high = (f"{float(at[f'{name}{end}']):z.{n}f}" for end in ("", "_lower", "_upper"))
    return f"{value} [{low}, {high}]"


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("group", ["masking", "single_class"])
def test_one_analysis_alone(group: str) -> None:
    made = make_masking(masking=group == "masking", single_class=group == "single_class", places=[["late"]])
    page = Page(report_page(made))
    assert page.words["h2"] == [*ABOUT, {"masking": "Lesions", "single_class": "Single classes"}[group], LAST]
    assert has(page, "50 images, each as it is and under one of these at a time", "without and with lesions (late)")
    assert dict(page.table("what", "value"))[group] == "50 images, 3 draws; late"
    assert not plt.get_fignums()


@pytest.mark.usefixtures("undrawn")
def test_provenance_lists_the_places_of_each_analysis() -> None:
    made = make_masking()
    made["single_class"] = made["single_class"].copy().filter(lambda node: node.name != "late")
    told = dict(Page(report_page(made)).table("what", "value"))
    assert told["masking"].endswith("; early+late, late")
    assert told["single_class"].endswith("; early+late")


@pytest.mark.usefixtures("undrawn")
def test_with_other_analyses() -> None:
    made = make_result()
    masked = make_masking(["hue", "rotation"], places=[["late"]])
    both = Page(report_page(joined(made, with_contrasts(made), masked)))
    assert both.words["h2"] == [*SECTIONS[:-1], "Contrasts", "Lesions", "Single classes", LAST]
    contrasts = Page(report_page(joined(made, with_contrasts(made), masked, alone=True)))
    assert contrasts.words["h2"] == [*ABOUT, "Contrasts", "Lesions", "Single classes", LAST]
    assert has(contrasts, "66 units of 2 layers", "largest median effect size", "differs most from random masks")


def test_headline_in_numbers(page: Page) -> None:
    made = make_masking()
    rows = page.table("measure", "factor", "own map")
    assert [row[:2] for row in rows] == [[m, f] for m in ("top_1", "probability") for f in ("hue", "blur")]
    table = made["masking/early+late"].to_dataset().sel(measure="top_1", rule="q0.9 x0", input="blur", factor="blur")
    names = ["difference", "random_mean", "excess"]
    assert rows[1][2:5] == [cell(table, name) for name in names]
    assert rows[1][5:8] == [f"{float(table[name]):.3f}" for name in ("p_value", "p_adjusted", "p_less_adjusted")]
    assert rows[1][8:] == [cell(table, "against_others"), f"{float(table['p_others']):.3f}"]
    excess = lesion_effects.headline(made)["excess"]
    largest = excess.isel(factor=int(abs(excess.values).argmax()))
    assert has(page, f"that of {largest['factor'].item()} differs most from random masks: top_1 changes by")
    assert has(page, f"{float(largest):z.3f} [")


def test_other_tables_in_numbers(page: Page) -> None:
    table = make_masking()["masking/early+late"].to_dataset()
    unlesioned = page.table("input", "top_1", "probability")
    assert unlesioned[2] == [
        "blur",
        *(cell(table.sel(input="blur", measure=m), "unlesioned") for m in table["measure"]),
    ]
    top = table.sel(measure="top_1")
    differences = page.table("input", "hue", "blur")
    assert differences[0][0] == "original"
    assert differences[2][1] == cell(top.sel(input="blur", factor="hue", rule="q0.9 x0"), "difference")
    rules = page.table("rule", "hue", "blur")
    assert [row[0] for row in rules] == table["rule"].values.tolist()
    assert rules[-1][2] == cell(top.sel(input="blur", factor="blur", rule="x 1-s"), "difference")
    assert page.table("layer", "units", "candidates") == [
        [layer, "100", "90", "9", "10", "2"] for layer in ("early", "late")
    ]


def test_what_was_tested_is_said(page: Page) -> None:
    assert has(
        page,
        "50 images, as they are and under each alteration alone, 3 draws of each",
        "The replicate of this test is the mask: the own map is ranked among 8 random ones, so that p is at least 0.11",
        "corrected by fdr_by; the family is factors of one place and measure",
        "not larger than that of random masks says that the units are not special",
        "Tukey's, of the permuted sets",
        "permuted (99 times)",
    )
    assert "Left out, as no rule changes them or they are undefined: 0 of 6" in page.text("figcaption")
    # the second place lost an image
    assert "interval over 49 images" in page.text("figcaption")
    assert page.words["h3"] == 2 * ["Lesions in early, late", "Lesions in late"]


def test_single_classes_in_numbers(page: Page) -> None:
    table = make_masking()["single_class/early+late"].to_dataset()
    rows = page.table("factor", "input", "unlesioned")
    assert [row[:2] for row in rows] == [["hue", "original"], ["blur", "original"], ["hue", "hue"], ["blur", "blur"]]
    at = table.sel(input="blur", factor="blur", rule="q0.9 x0")
    assert rows[3][2:5] == [cell(at, name, 4) for name in ("unlesioned", "jaccard", "difference")]
    assert rows[3][5] == f"{float(at['fence']):.4f}"
    ps = ("p_unlesioned_adjusted", "p_adjusted", "p_shift_adjusted")
    assert rows[3][6:] == [f"{float(at[name]):.3f}" for name in ps]
    classes = page.table("factor", "classes")
    assert classes[1] == ["blur", ", ".join(table["sensitive_class"].sel(factor="blur").values)]


SPECIAL: dict[str, tuple[dict[str, Any], str]] = {
    "no random masks": ({"n_random": 0}, "has no random masks beside it, so that nothing is tested"),
    "no p-values": ({"p_values": False}, "The replicate of this test is the mask"),
    "no own inputs": ({"maps": ["other"]}, "No factor of a map is an alteration too"),
    "some own inputs": ({"maps": ["other", "hue"]}, "that of hue differs most"),
    "soft rules": ({"quantiles": ()}, "The rule x s has no random masks"),
    "one rule": ({"quantiles": (0.9,), "multipliers": (0.0,), "soft": False}, "What is tested, at the rule q0.9 x0"),
    "nothing silenced": ({"multipliers": (0.5, 1.5)}, "The rule q0.9 x0.5 has no random masks"),
    "no examples": ({"examples": False}, "holds no examples"),
    "one factor": ({"factors": ["hue"]}, "What is tested"),
}


@pytest.mark.parametrize("case", SPECIAL)
def test_special_cases(case: str) -> None:
    options, expected = SPECIAL[case]
    page = Page(report_page(make_masking(**{"places": [["late"]], **options})))
    assert page.words["h2"] == [*ABOUT, "Lesions", "Single classes", LAST]
    assert has(page, expected)
    assert "nan" not in " ".join(page.words["td"])
    assert "nan" not in page.text("p").split()
    assert not plt.get_fignums()


@pytest.mark.usefixtures("undrawn")
def test_of_many_places_some_are_drawn_and_all_are_in_a_table() -> None:
    places = [[f"layer{i}"] for i in range(MAX_PLACES + 2)]
    options: dict[str, Any] = {"quantiles": (0.5, 0.9), "multipliers": (0.0,), "n_random": 3}
    page = Page(report_page(make_masking(["hue"], places=places, **options)))
    assert has(page, f"at {len(places)} places", f"2 of {len(places)} places are not shown")
    rows = page.table("place", "measure", "factor")
    assert [row[0] for row in rows] == [place for (place,) in places]
    drawn = [str(image["alt"]) for image in page.attrs("img") if "lesioned − unlesioned (" in str(image["alt"])]
    assert len(drawn) == MAX_PLACES


@pytest.mark.usefixtures("undrawn")
def test_doses_are_those_of_the_headline() -> None:
    page = Page(report_page(make_masking(multipliers=(0.5, 1.5), places=[["late"]])))
    assert "by the share of the units that is multiplied by 0.5, with" in page.text("figcaption")
    soft = Page(report_page(make_masking(quantiles=(), places=[["late"]])))
    assert "by the share of the units" not in soft.text("figcaption")


@pytest.mark.usefixtures("undrawn")
def test_undefined_excess_is_said() -> None:
    made = make_masking(n_random=0)
    assert np.isnan(lesion_effects.headline(made)["excess"]).all()
    assert has(Page(report_page(made)), "No map could be compared with random masks")
