"""Pictures of lesions: they show the numbers of the labelled functions, and say so where there are none."""

import warnings
from collections.abc import Callable

import holoviews as hv
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

import neuroprobe as npr
from made_masking import make_masking
from neuroprobe.analysis import lesion_effects
from neuroprobe.analysis.effects import p_text
from neuroprobe.errors import ReaderError
from neuroprobe.plot.style import png

FACTORS = ["hue", "blur", "rotation"]


@pytest.fixture(scope="module")
def result() -> xr.DataTree:
    return make_masking(FACTORS)


def of_kind(picture: hv.Overlay, kind: type) -> list:
    return [element for element in picture if isinstance(element, kind)]


def labelled(picture: hv.Overlay, label: str) -> hv.Element:
    (found,) = [element for element in picture if element.label == label]
    return found


def said(picture: hv.Overlay) -> list[str]:
    return [text for labels in of_kind(picture, hv.Labels) for text in labels.dimension_values("text")]


def option(element: hv.Element, kind: str, name: str):
    return hv.Store.lookup_options("matplotlib", element, kind).kwargs[name]


@pytest.mark.parametrize("which", ["own", "original", "blur"])
def test_curves_are_accuracies_by_share(result: xr.DataTree, which: str) -> None:
    picture = npr.plot.dose_response(result, which, "late")
    found = lesion_effects.dose_response(result, "late")
    own = [curve for curve in of_kind(picture, hv.Curve) if option(curve, "style", "color") == "#0072B2"]
    bands = of_kind(picture, hv.Polygons)
    assert (len(own), len(bands)) == (3, 6)
    for number, factor in enumerate(FACTORS):
        at = found.sel(input=factor if which == "own" else which)
        one = at.sel(factor=factor)
        x, y = (own[number].dimension_values(i) for i in range(2))
        np.testing.assert_allclose(x - x[0], found["masked_share"])
        # each panel has a place of its own
        base = y - one["estimate"].values
        np.testing.assert_allclose(base, base[0])
        low, high = np.split(bands[2 * number + 1].dimension_values(1)[:12], 2)
        np.testing.assert_allclose(low - base[0], one["estimate_lower"])
        np.testing.assert_allclose(high[::-1] - base[0], one["estimate_upper"])
        low, high = np.split(bands[2 * number].dimension_values(1)[:12], 2)
        np.testing.assert_allclose(low - base[0], at["random_lower"])
        np.testing.assert_allclose(high[::-1] - base[0], at["random_upper"])
    labels = [curve.label for curve in of_kind(picture, hv.Curve) if curve.label]
    # the legend names each thing once
    assert sorted(labels) == ["map of the factor", "maps of other factors", "random masks"]
    assert [text for text in said(picture) if text in FACTORS] == FACTORS
    assert "masked share (%)" in said(picture)


@pytest.mark.parametrize("options", [{"n_random": 0}, {"n_random": 1}])
def test_random_masks_may_be_missing(options: dict) -> None:
    made = make_masking(FACTORS, **options)
    is_there = options["n_random"] > 0
    dose, head = npr.plot.dose_response(made), npr.plot.headline(made)
    assert len(of_kind(dose, hv.Polygons)) == (6 if is_there else 3)
    assert len(labelled(head, "random masks")) == len(labelled(head, "mean of random masks")) == 3 * is_there
    np.testing.assert_array_equal(labelled(head, "own map").dimension_values(1), [2, 1, 0])
    for picture in (dose, head):
        assert png(picture, 50)[0]


@pytest.mark.parametrize("rule", [None, "x 1-s"])
def test_tables_of_differences(result: xr.DataTree, rule: str | None) -> None:
    picture = npr.plot.accuracy_differences(result, "late", "probability", rule)
    found = lesion_effects.accuracy_differences(result, "late", "probability", rule)
    table = of_kind(picture, hv.Image)[0]
    np.testing.assert_array_equal(table.dimension_values(2, flat=False)[::-1], found["difference"])
    grey = [labels for labels in of_kind(picture, hv.Labels) if option(labels, "style", "color") == "#707070"]
    unclear = (found["difference_lower"] <= 0) & (found["difference_upper"] >= 0)
    assert sum(map(len, grey)) <= int(unclear.sum())
    assert [name for _, name in option(picture, "plot", "yticks")] == ["original", *FACTORS]
    # numbers and the scale are in one unit
    limit = 100 * float(abs(found["difference"]).max())
    assert {f"{-limit:.3g} %", "0 %", f"{limit:.3g} %", f"maps, rule {rule or 'q0.9 x0'}"} < set(said(picture))
    title = option(picture, "plot", "title")
    assert all(word in title for word in ("bold: ", "grey: ", "framed: "))
    # own cells are framed: the middles of their frames lie on the diagonal under the original images
    frames = [
        (one["x"][:-1].mean(), one["y"][:-1].mean()) for one in of_kind(picture, hv.Path)[0].split(datatype="columns")
    ]
    np.testing.assert_allclose(frames, [(0.5, 2.5), (1.5, 1.5), (2.5, 0.5)])


def test_numbers_are_grey_where_the_interval_includes_0() -> None:
    made = make_masking(["hue", "blur"])
    table = made["masking/late"].to_dataset()
    table["cross_lower"].values[:] = 0.01
    table["cross"].values[1:] = 0.25
    table["cross_lower"][1, 0] = -0.01
    table["cross"][2, 1] = np.nan
    made["masking/late"] = xr.DataTree(table)
    picture = npr.plot.cross_table(made, "late")
    found = {
        (option(labels, "style", "color"), option(labels, "style", "weight")): len(labels)
        for labels in of_kind(picture, hv.Labels)
        if {"25"} & set(labels.dimension_values("text"))
    }
    assert found == {("#707070", "normal"): 1, ("black", "bold"): 2}
    values = of_kind(picture, hv.Image)[0].dimension_values(2, flat=False)[::-1]
    np.testing.assert_array_equal(values, table["cross"].sel(measure="top_1")[1:])


def test_headline_shows_own_maps_beside_random_ones(result: xr.DataTree) -> None:
    picture, found = npr.plot.headline(result, "late"), lesion_effects.headline(result, "late")
    own = labelled(picture, "own map")
    np.testing.assert_array_equal(own.dimension_values(0), found["difference"])
    np.testing.assert_array_equal(own.dimension_values(1), [2, 1, 0])
    interval = next(e for e in of_kind(picture, hv.Segments) if not e.label)
    np.testing.assert_array_equal(interval.dimension_values(0), found["difference_lower"])
    np.testing.assert_array_equal(interval.dimension_values(2), found["difference_upper"])
    np.testing.assert_array_equal(
        labelled(picture, "random masks").dimension_values(0), found["random_difference"].values.ravel()
    )
    np.testing.assert_array_equal(labelled(picture, "mean of random masks").dimension_values(0), found["random_mean"])
    box = labelled(picture, "95 % of random masks")
    np.testing.assert_array_equal(box.dimension_values(0), found["random_mean_lower"])
    np.testing.assert_array_equal(box.dimension_values(2), found["random_mean_upper"])
    others = found["others"].values.ravel()
    drawn = labelled(picture, "other factors' maps")
    np.testing.assert_array_equal(drawn.dimension_values(0), others[np.isfinite(others)])
    np.testing.assert_allclose((drawn.dimension_values(1) + drawn.dimension_values(3)) / 2, [2, 2, 1, 1, 0, 0])
    assert said(picture)[1:4] == [f"{float(p):.3f}" for p in found["p_adjusted"]]


def test_p_values_may_be_undefined() -> None:
    made = make_masking(FACTORS, p_values=False)
    assert said(npr.plot.headline(made))[1:] == ["–"] * 3
    assert said(npr.plot.jaccards(made)).count("–") == 6


def test_factors_without_an_input_of_their_own_are_left_out() -> None:
    made = make_masking(["hue", "blur"], maps=["other", "blur"])
    for picture in (npr.plot.headline(made), npr.plot.jaccards(made)):
        assert [name for _, name in option(picture, "plot", "yticks")] == ["blur"]
    assert [t for t in said(npr.plot.dose_response(made)) if t in ("other", "blur")] == ["blur"]
    assert [t for t in said(npr.plot.dose_response(made, "hue")) if t in ("other", "blur")] == ["other", "blur"]
    assert len(of_kind(npr.plot.accuracy_differences(made), hv.Path)[0].split()) == 1
    assert png(npr.plot.accuracy_dendrogram(made), 50)[0]


def test_soft_rules_alone() -> None:
    made = make_masking(FACTORS, quantiles=())
    head = npr.plot.headline(made)
    assert len(labelled(head, "random masks")) == len(labelled(head, "95 % of random masks")) == 0
    assert len(labelled(head, "own map")) == 3
    assert any("it takes 3 rules" in text for text in said(npr.plot.accuracy_dendrogram(made)))
    for picture in (head, npr.plot.accuracy_dendrogram(made), npr.plot.accuracy_differences(made)):
        assert png(picture, 50)[0]


def test_tree_merges_at_its_distances(result: xr.DataTree) -> None:
    picture, found = npr.plot.accuracy_dendrogram(result), lesion_effects.accuracy_clusters(result)
    (branches,) = of_kind(picture, hv.Path)
    heights = found["linkage"].values[:, 2]
    roots = [1 - min(branch["x"]) for branch in branches.split(datatype="columns")]
    np.testing.assert_allclose(sorted(np.array(roots) * heights.max()), heights)
    leaves = [text for text in said(picture) if " · " in text]
    pairs = [f"{found['input'].values[leaf]} · {found['factor'].values[leaf]}" for leaf in found["leaf"].values]
    assert leaves == pairs
    assert {"distance √(1 − |ρ|)", "squares: input, map"} < set(said(picture))
    # a cell for the input and one for the map of each leaf
    assert sum(map(len, of_kind(picture, hv.Rectangles))) == 2 * len(pairs)
    colours = {option(e, "style", "facecolor") for e in of_kind(picture, hv.Rectangles)}
    assert len(colours) == 4


def test_bars_are_shifts_of_classes(result: xr.DataTree) -> None:
    result = result.copy()
    table = result["single_class/early+late"].to_dataset().copy(deep=True)
    # a sensitive class without a bar
    still = table["sensitive_class"].sel(factor="blur").values[0]
    table["class_share_shift"].loc[{"class": still}] = 0
    result["single_class/early+late"] = xr.DataTree(table)
    picture = npr.plot.class_shifts(result, "blur", n_classes=8)
    found = lesion_effects.class_shifts(result, "blur", n_classes=8)
    drawn = {}
    for label in ("● most sensitive to blur", "others"):
        for left, bottom, right, top in labelled(picture, label).array():
            drawn[round(7 - (bottom + top) / 2)] = (label, left + right)
    for row, name in enumerate(found["class"].values):
        one = found.sel({"class": name})
        label = "● most sensitive to blur" if one["sensitive_class"] else "others"
        assert drawn[row] == (label, pytest.approx(float(one["class_share_shift"])))
    labels = [text for _, text in option(picture, "plot", "yticks")]
    assert [text.removeprefix("● ") for text in labels] == found["class"].values.tolist()
    assert [text.startswith("● ") for text in labels] == found["sensitive_class"].values.tolist()
    assert f"● {still}" in labels
    lines = of_kind(picture, hv.Segments)[0]
    half = (lines.dimension_values(2) - lines.dimension_values(0)) / 2
    np.testing.assert_allclose(half, found["class_share_shift_se"])
    assert "8 of 12 classes" in option(picture, "plot", "title")


def test_jaccards_stand_beside_their_fence(result: xr.DataTree) -> None:
    picture, found = npr.plot.jaccards(result, "hue", "late"), lesion_effects.jaccards(result, "hue", "late")
    at = found.sel(rule="q0.9 x0")
    for label, name in (("unlesioned", "unlesioned"), ("lesioned, q0.9 x0", "jaccard")):
        np.testing.assert_array_equal(labelled(picture, label).dimension_values(0), at[name])
    np.testing.assert_array_equal(labelled(picture, "all rules").dimension_values(0), found["jaccard"].values.ravel())
    np.testing.assert_array_equal(labelled(picture, "fence of permuted sets").dimension_values(0), found["fence"])
    assert set(labelled(picture, "mean of sets drawn at random").dimension_values(0)) == {0.21}
    expected = [p_text(float(p)) for name in ("p_unlesioned_adjusted", "p_adjusted") for p in at[name]]
    assert [text for text in said(picture) if text[0] in "0<"] == expected


def test_class_shifts_are_by_default_those_of_the_first_factor_with_such_an_input() -> None:
    made = make_masking(["hue", "blur"], maps=["other", "blur"])
    for which, factor in (("own", "blur"), ("original", "other")):
        title = option(npr.plot.class_shifts(made, which=which), "plot", "title")
        assert title == option(npr.plot.class_shifts(made, factor, which), "plot", "title")


DRAWN = ("dose_response", "accuracy_differences", "cross_table", "headline", "accuracy_dendrogram")


@pytest.mark.parametrize("name", [*DRAWN, "class_shifts", "jaccards"])
def test_titles_name_one_of_several_places(name: str) -> None:
    long = [f"layer{i}.conv" for i in range(5)]
    made, draw = make_masking(["hue", "blur"], places=[["late"], long]), getattr(npr.plot, name)
    for place, expected in (
        (None, "lesions in late"),
        ("late", "lesions in late"),
        ("+".join(long), "lesions in layer0.conv … layer4.conv (5 layers)"),
    ):
        assert expected in option(draw(made, place=place), "plot", "title").splitlines()
    alone = make_masking(["hue", "blur"], places=[["late"]])
    assert "lesions in" not in option(draw(alone), "plot", "title")


@pytest.mark.parametrize("which", ["own", "original"])
def test_undefined_numbers_are_left_out(which: str) -> None:
    made = make_masking(FACTORS)
    for group in ("masking", "single_class"):
        table = made[f"{group}/late"].to_dataset()
        for name in table.data_vars:
            if "factor" in table[name].dims and table[name].dtype == float:
                table[name].loc[{"factor": "hue"}] = np.nan
        made[f"{group}/late"] = xr.DataTree(table)
    pictures = [
        npr.plot.dose_response(made, which, "late"),
        npr.plot.accuracy_differences(made, "late"),
        npr.plot.cross_table(made, "late"),
        npr.plot.headline(made, "late"),
        npr.plot.accuracy_dendrogram(made, "late"),
        npr.plot.class_shifts(made, "hue", which, "late"),
        npr.plot.jaccards(made, which, "late"),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for picture in pictures:
            assert png(picture, 50)[0]
    assert not plt.get_fignums()


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda r: npr.plot.headline(r, "latte"), "unknown place 'latte' .did you mean 'late'"),
        (lambda r: npr.plot.dose_response(r, "noise"), "unknown input 'noise'; known: original, hue"),
        (lambda r: npr.plot.dose_response(r, measure="top_5"), "unknown measure 'top_5'"),
        (lambda r: npr.plot.accuracy_differences(r, rule="q1"), "unknown rule 'q1'"),
        (lambda r: npr.plot.class_shifts(r, "noise"), "unknown factor 'noise'"),
        (lambda r: npr.plot.jaccards(make_masking(single_class=False)), "no group 'single_class'.*masking"),
        (
            lambda r: npr.plot.headline(make_masking(["hue"], maps=["other"])),
            "maps of: other; inputs: original, hue.; ask for one",
        ),
    ],
)
def test_what_cannot_be_drawn_is_named(draw: Callable, message: str, result: xr.DataTree) -> None:
    with pytest.raises(ReaderError, match=message):
        draw(result)
