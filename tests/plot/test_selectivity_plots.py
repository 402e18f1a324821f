"""Pictures of selectivity: they show the numbers of the labelled functions, and say so where there are none."""

import base64
import io
import warnings
from collections.abc import Callable

import holoviews as hv
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from PIL import Image

import neuroprobe as npr
from made_selectivity_pictures import DEAD, made_selectivity, with_values
from neuroprobe.analysis import selectivity_overview as overview
from neuroprobe.analysis import selectivity_units as single
from neuroprobe.errors import ReaderError
from neuroprobe.plot import gallery
from neuroprobe.plot.style import png

LAYERS = ["stage1", "stage2", "linear"]


@pytest.fixture(scope="module")
def result() -> xr.DataTree:
    return made_selectivity()


def of_kind(picture: hv.Overlay, kind: type) -> list:
    return [element for element in picture if isinstance(element, kind)]


def said(picture: hv.Overlay) -> list[str]:
    return [text for labels in of_kind(picture, hv.Labels) for text in labels.dimension_values("text")]


def option(element: hv.Element, kind: str, name: str, backend: str = "matplotlib"):
    return hv.Store.lookup_options(backend, element, kind).kwargs[name]


def pixels(sheet: hv.RGB) -> np.ndarray:
    """Pixels (y, x, rgb), from the top."""
    return np.stack([sheet.dimension_values(2 + c, flat=False)[::-1] for c in range(3)], -1)


def test_features_are_stretched_over_what_is_covered() -> None:
    feature = np.full((3, 2, 2, 3), 0.5)
    feature[0, 0, 0], feature[0, 0, 1], feature[0, 1, 0] = [0.2, 0.3, 0.4], [0.4, 0.5, 0.6], [0.3, 0.3, 0.3]
    feature[0, 1, 1] = [0.0, 1.0, 0.5]  # no crop covers it
    feature[2] = np.nan
    coverage = np.array([[[1, 0.4], [1, 0]], np.ones((2, 2)), np.full((2, 2), np.nan)])
    units = xr.Dataset(
        {
            "neuron_feature": (("channel", "field_y", "field_x", "rgb"), feature),
            "coverage": (("channel", "field_y", "field_x"), coverage),
        }
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shown = gallery.displayed(units) / 255
    # one scale for all colours: hues stay
    np.testing.assert_allclose(shown[0, 0, 0], [0, 0.25, 0.5], atol=0.003)
    np.testing.assert_allclose(shown[0, 0, 1], [0.5, 0.75, 1], atol=0.003)
    np.testing.assert_allclose(shown[0, 1, 1], 0.5, atol=0.003)
    # one that is the same everywhere, and one of a unit that does not respond
    np.testing.assert_allclose(shown[1:], 0.5, atol=0.003)


@pytest.mark.parametrize("shape", [(3, 3), (2, 5), (60, 40)])
def test_a_picture_keeps_its_pixels_in_a_square(shape: tuple[int, int]) -> None:
    given = np.random.default_rng(0).integers(0, 255, (2, *shape, 3), dtype=np.uint8)
    large = gallery._enlarged(given)
    assert large.shape[1] == large.shape[2] >= gallery.FINE
    repeats = large.shape[1] // max(shape)
    small = large[:, ::repeats, ::repeats]
    rows, columns = ((np.arange(max(shape)) - (max(shape) - n) // 2) for n in shape)
    inside = np.ix_(range(2), (rows >= 0) & (rows < shape[0]), (columns >= 0) & (columns < shape[1]))
    np.testing.assert_array_equal(small[inside], given)
    assert (small == 255).all(-1).sum() == 2 * (max(shape) ** 2 - shape[0] * shape[1])


@pytest.mark.parametrize(("order_by", "ascending"), [("colour", False), ("gamma", True)])
def test_gallery_is_in_the_order_of_an_index(result: xr.DataTree, order_by: str, ascending: bool) -> None:
    picture = npr.plot.neuron_features(result, "stage2", order_by, ascending, limit=7, columns=4)
    found = single.ordered_units(result, "stage2", order_by, ascending, 7)
    clear = overview.significant(result, "stage2", order_by)
    expected = [
        f"{c}: {v:z.2f}{'*' if clear[c] else ''}"
        for c, v in zip(found["channel"].values, found[order_by].values, strict=True)
    ]
    assert said(picture) == expected
    title = option(picture, "plot", "title")
    assert f"the 7 {'smallest' if ascending else 'largest'} of a layer" in title
    assert "* corrected p < 0.05; 1 undefined left out" in title
    assert [name for _, name in option(picture, "plot", "yticks")] == ["stage2\n13 px"]
    (sheet,) = of_kind(picture, hv.RGB)
    drawn, side, right = pixels(sheet), 52, round(0.12 * 52)
    for number, feature in enumerate(gallery.displayed(found)):
        row, column = divmod(number, 4)
        top, left = row * (side + round(0.39 * side)), column * (side + right)
        np.testing.assert_array_equal(drawn[top : top + side : 4, left : left + side : 4], feature)
    # the place that no unit is in is white
    assert (drawn[side + round(0.39 * side) :, 3 * (side + right) :] == 255).all()


def test_gallery_of_all_layers(result: xr.DataTree) -> None:
    picture = npr.plot.neuron_features(result)
    assert [name.split("\n")[0] for _, name in option(picture, "plot", "yticks")] == LAYERS[::-1]
    heights = [height for height, _ in option(picture, "plot", "yticks")]
    assert heights == sorted(heights)
    tops = [sheet.bounds.lbrt()[3] for sheet in of_kind(picture, hv.RGB)]
    assert tops == sorted(tops)
    assert "3 undefined left out" in option(picture, "plot", "title")
    silent = npr.plot.neuron_features(made_selectivity(dead=range(12)))
    assert said(silent) == ["no unit responds"] * 3
    untested = npr.plot.neuron_features(made_selectivity(nulls=False, dead=()))
    assert "corrected" not in option(untested, "plot", "title")
    for each in (picture, silent, untested):
        assert png(each, 50)[0]


def test_bars_are_shares(result: xr.DataTree) -> None:
    values = np.array([-0.2, 0.05, 0.15, 0.15, 0.55, 0.95, 1.0, 1.4, 0.31, np.nan, 0.35, 0.3])
    made = with_values(result, "stage2", colour=values)
    picture = npr.plot.selectivity_by_layer(made, "colour")
    bars = of_kind(picture, hv.Rectangles)
    lengths = {bar.label: (bar.dimension_values(2) - bar.dimension_values(0))[1] * 11 for bar in bars}
    counts = {"< 0": 1, "0–0.1": 1, "0.1–0.2": 2, "0.3–0.4": 3, "0.5–0.6": 1, "0.9–1": 2, "> 1": 1}
    assert {label: round(length, 9) for label, length in lengths.items() if length > 1e-9} == counts
    assert len(lengths) == 12
    assert said(picture) == ["1 of 12"] * 3 + ["undefined"]
    np.testing.assert_allclose(bars[-1].dimension_values(2), 1)
    # nothing lies outside: no bar says so
    gamma = npr.plot.selectivity_by_layer(result, "gamma")
    assert len(of_kind(gamma, hv.Rectangles)) == 10
    assert png(picture, 50)[0]


def test_scatter_shows_units_that_have_both(result: xr.DataTree) -> None:
    picture = npr.plot.index_scatter(result, "colour", "gamma")
    found = overview.index_correlations(result, "colour", "gamma")
    drawn = of_kind(picture, hv.Points)
    for layer in LAYERS:
        node = result[f"selectivity/{layer}"].to_dataset()
        clear = overview.significant(result, layer, "colour", "gamma")
        for points in (one for one in drawn if set(one.dimension_values("layer")) == {layer}):
            full = option(points, "style", "facecolors") != "none"
            channels = points.dimension_values("channel").astype(int)
            np.testing.assert_array_equal(points.dimension_values("x"), node["colour"][channels])
            np.testing.assert_array_equal(points.dimension_values("y"), node["gamma"][channels])
            assert set(channels) == {c for c in range(12) if clear[c] == full and c != DEAD}
        rho = float(found["correlation"].sel(layer=layer))
        assert sum(one.label.startswith(f"{layer}: ρ {rho:z.2f}, p ") and "n 11" in one.label for one in drawn) == 1
    title = option(picture, "plot", "title")
    assert "full points: corrected p < 0.05; 3 undefined left out" in title
    assert png(picture, 50)[0]


def test_features_appear_under_the_pointer(result: xr.DataTree) -> None:
    from bokeh.models import HoverTool

    backend = hv.Store.current_backend
    picture = npr.plot.index_scatter(result, "colour", "entropy")
    assert hv.Store.current_backend == backend
    figure = hv.renderer("bokeh").get_plot(picture).state
    (hover,) = figure.select({"type": HoverTool})
    # of all layers, not of the first alone
    assert hover.renderers == "auto"
    assert '<img src="@{image}"' in hover.tooltips
    assert "entropy of classes (bit): @{y}{0.00}" in hover.tooltips
    images = {}
    for renderer in figure.renderers:
        data = renderer.data_source.data
        for layer, channel, image in zip(data["layer"], data["channel"], data["image"], strict=True):
            images[layer, int(channel)] = image
    assert len(images) == 33
    for layer in LAYERS:
        shown = gallery.displayed(result[f"selectivity/{layer}"].to_dataset())
        content = base64.b64decode(images[layer, 3].removeprefix("data:image/png;base64,"))
        with Image.open(io.BytesIO(content)) as image:
            np.testing.assert_array_equal(np.asarray(image), shown[3])
    without = npr.plot.index_scatter(result, "colour", "entropy", images=False)
    (hover,) = hv.renderer("bokeh").get_plot(without).state.select({"type": HoverTool})
    assert "<img" not in hover.tooltips


def test_large_features_are_small_under_the_pointer() -> None:
    url = gallery._url(np.zeros((224, 112, 3), np.uint8))
    with Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))) as image:
        assert image.size == (16, 32)


def test_curves_are_responses_by_rank(result: xr.DataTree) -> None:
    picture = npr.plot.activation_curve(result, "stage2", [0, DEAD, 3])
    found, node = single.activation_curves(result, "stage2", [0, 3]), result["selectivity/stage2"].to_dataset()
    curves = of_kind(picture, hv.Curve)
    named = {curve.label: curve for curve in curves if curve.label}
    colour, error = (node[name].values for name in ("colour", "colour_se"))
    expected = [f"channel {c}: colour {colour[c]:z.2f} ± {error[c]:.2f}" for c in (0, 3)]
    assert list(named) == [expected[0], f"channel {DEAD}: no response", expected[1]]
    for label, channel in zip(expected, (0, 3), strict=True):
        np.testing.assert_array_equal(named[label].dimension_values(1), found["share"].sel(channel=channel))
    means = found["mean"].values
    levels = {
        (option(c, "style", "linestyle"), round(float(c.dimension_values(1)[0]), 9)) for c in curves if not c.label
    }
    left = means * (1 - colour[[0, 3]])
    assert levels == {("--", round(m, 9)) for m in means} | {(":", round(m, 9)) for m in left}
    # of what is left itself
    invariant = npr.plot.activation_curve(result, "stage2", 0, "symmetry")
    (dotted,) = [c for c in of_kind(invariant, hv.Curve) if not c.label and option(c, "style", "linestyle") == ":"]
    assert dotted.dimension_values(1)[0] == pytest.approx(means[0] * float(node["symmetry"][0]))
    # γ is no share of the response
    for index in ("gamma", None):
        other = npr.plot.activation_curve(result, "stage2", 0, index)
        assert "dotted" not in option(other, "plot", "title")
        assert len(of_kind(other, hv.Curve)) == 2
    silent = npr.plot.activation_curve(result, "stage2", DEAD)
    for each in (picture, invariant, silent):
        assert png(each, 50)[0]


def test_similarity_is_drawn_as_it_is(result: xr.DataTree) -> None:
    picture, found = npr.plot.similarity_map(result, "stage2"), single.clustered_similarity(result, "stage2")
    image = of_kind(picture, hv.Image)[0]
    np.testing.assert_array_equal(image.dimension_values(2, flat=False)[::-1], found["similarity"])
    rows = [name for _, name in sorted(option(picture, "plot", "yticks"), reverse=True)]
    assert rows == [str(c) for c in found["channel"].values]
    assert [text for text in said(picture) if text not in ("0", "0.5", "1")][:3] == [
        r for r in rows if r not in ("0", "1")
    ][:3]
    assert "1 undefined left out" in option(picture, "plot", "title")
    silent = npr.plot.similarity_map(made_selectivity(dead=range(12)), "stage1")
    assert said(silent) == ["no unit responds"]
    for each in (picture, silent):
        assert png(each, 50)[0]


def test_profiles_are_quantiles_or_a_unit(result: xr.DataTree) -> None:
    picture = npr.plot.selectivity_profile(result, "orientation")
    bands = of_kind(picture, hv.Area)
    curves = [curve for curve in of_kind(picture, hv.Curve) if not isinstance(curve, hv.Area)]
    assert [curve.label for curve in curves] == [f"{layer} (n 11)" for layer in LAYERS]
    for layer, curve, band in zip(LAYERS, curves, bands, strict=True):
        found = single.member_profile(result, "orientation", layer, q=(0.25, 0.5, 0.75))["orientation"].values
        np.testing.assert_array_equal(curve.dimension_values(0), np.arange(15, 360, 15))
        np.testing.assert_array_equal(curve.dimension_values(1), found[1])
        np.testing.assert_array_equal(band.dimension_values(1), found[0])
        np.testing.assert_array_equal(band.dimension_values(2), found[2])
    assert "3 undefined left out" in option(picture, "plot", "title")
    one = npr.plot.selectivity_profile(result, "symmetry", "stage1", channel=2)
    (bars,) = of_kind(one, hv.ErrorBars)
    node = result["selectivity/stage1"].to_dataset()
    np.testing.assert_array_equal(bars.dimension_values(1), node["symmetry_by_member"][:, 2])
    np.testing.assert_array_equal(bars.dimension_values(2), node["symmetry_by_member_se"][:, 2])
    assert option(one, "plot", "ylabel") == "what is left"
    assert option(picture, "plot", "ylabel") == "what is lost"
    silent = npr.plot.selectivity_profile(made_selectivity(dead=range(12)), "orientation")
    dead = npr.plot.selectivity_profile(result, "orientation", "stage1", channel=DEAD)
    for each in (picture, one, silent, dead):
        assert png(each, 50)[0]
    assert of_kind(silent, hv.Curve)[0].label == "stage1: none defined"


def test_words_stand_beside_each_other(result: xr.DataTree) -> None:
    made = result.copy()
    node = made["selectivity/stage1"].to_dataset().assign_coords(contrast_member=["half", "quarter"])
    made["selectivity/stage1"] = xr.DataTree(node)
    picture = npr.plot.selectivity_profile(made, "contrast", "stage1")
    assert option(picture, "plot", "xticks") == [(0.0, "half"), (1.0, "quarter")]
    assert png(picture, 50)[0]


def test_crops_are_shown_as_they_were(result: xr.DataTree) -> None:
    picture, found = npr.plot.top_crops(result, "stage2", 3), single.top_stimuli(result, "stage2", 3)
    drawn = of_kind(picture, hv.RGB)
    assert len(drawn) == 5
    for number, crop in enumerate(found["top_crop"].values):
        np.testing.assert_allclose(pixels(drawn[number + 1])[::4, ::4] / 255, crop, atol=0.003)
    texts = said(picture)
    assert texts[0] == "Neuron Feature"
    assert texts[2].splitlines() == [
        f"{float(found['share'][1]):.2f}",
        found["class_label"].values[1],
        found["image_id"].values[1],
    ]
    assert png(picture, 50)[0]


def test_bars_of_labels(result: xr.DataTree) -> None:
    node = result["selectivity/linear"].to_dataset()
    channel = int(node["population_code"].argmax("channel"))
    picture = npr.plot.label_shares(result, "linear", channel, "colours")
    found = single.label_shares(result, "linear", channel, "colours")
    dark, pale = of_kind(picture, hv.Rectangles)
    shares = found["share"].values
    assert sorted(dark.dimension_values(2)) == sorted(shares[shares >= 0.1])
    assert sorted(pale.dimension_values(2)) == sorted(shares[shares < 0.1])
    assert [name for _, name in option(picture, "plot", "yticks")] == found["label"].values.tolist()
    few = npr.plot.label_shares(result, "linear", channel, "colours", limit=2)
    assert "2 more not drawn" in option(few, "plot", "title")
    silent = npr.plot.label_shares(result, "linear", DEAD)
    assert [name for _, name in option(silent, "plot", "yticks")] == ["no response"]
    for each in (picture, few, silent):
        assert png(each, 50)[0]


def test_no_figure_is_left_open(result: xr.DataTree) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for made in (result, made_selectivity(n_layers=1, n_channels=1, dead=(), n_kept=2, nulls=False)):
            layer = overview.selectivity_layers(made)[0]
            for picture in (
                npr.plot.neuron_features(made),
                npr.plot.selectivity_by_layer(made),
                npr.plot.index_scatter(made, images=False),
                npr.plot.activation_curve(made, layer, 0),
                npr.plot.similarity_map(made, layer),
                npr.plot.selectivity_profile(made),
                npr.plot.top_crops(made, layer, 0),
                npr.plot.label_shares(made, layer, 0),
            ):
                assert png(picture, 50)[0]
    assert not plt.get_fignums()


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda r: npr.plot.neuron_features(r, "stage9"), "unknown layer 'stage9'"),
        (lambda r: npr.plot.neuron_features(r, order_by="colur"), "unknown index 'colur' .did you mean 'colour'"),
        (lambda r: npr.plot.index_scatter(r, "colour", "gama"), "unknown index 'gama' .did you mean 'gamma'"),
        (lambda r: npr.plot.top_crops(r, "stage1", DEAD), "channel 1 of 'stage1' does not respond to any image"),
        (lambda r: npr.plot.top_crops(r, "stage1", 99), "unknown channel 99"),
        (lambda r: npr.plot.selectivity_profile(r, "colour"), "unknown family of alterations 'colour'"),
        (lambda r: npr.plot.selectivity_profile(r, channel=3), "name the one layer that it is of; .*: stage1, stage2"),
        (lambda r: npr.plot.activation_curve(r, "stage1", 0, "gama"), "unknown index 'gama'"),
        (lambda r: npr.plot.label_shares(r, "stage1", 0, "objects"), "unknown labels 'objects'"),
    ],
)
def test_what_cannot_be_drawn_is_named(draw: Callable, message: str, result: xr.DataTree) -> None:
    with pytest.raises(ReaderError, match=message):
        draw(result)
