"""Pictures: every one renders everywhere, and shows the numbers of the labelled functions."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import holoviews as hv
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

import neuroprobe as npr
from made_masking import make_masking
from made_results import make_result, with_contrasts
from made_selectivity_pictures import made_selectivity
from neuroprobe.analysis import effects, overview
from neuroprobe.analysis.sensitivity import depth_profiles
from neuroprobe.analysis.shares import mean_shares
from neuroprobe.analysis.strongest import strongest_channels, strongest_units
from neuroprobe.errors import ReaderError
from neuroprobe.plot.style import factor_styles

# tests of pictures of recordings and of comparisons, which are of other trees
ELSEWHERE = ("test_recording_plots.py", "test_comparison_plots.py", "test_relation_plots.py")
OF_LESIONS = ("accuracy_dendrogram", "accuracy_differences", "cross_table", "dose_response", "headline", "jaccards")


def masked(result: xr.DataTree) -> xr.DataTree:
    """Lesions under the alterations of a made-up result."""
    return make_masking(json.loads(result.attrs["factors"]), multipliers=(0.0, 1.5))


def with_settings(result: xr.DataTree) -> xr.DataTree:
    """The same with stimuli that were generated."""
    examples = result["stimuli/examples"].to_dataset()
    settings = np.array(
        [f"orientation {30 * n}°, spatial frequency 0.5 cycles/°" for n in range(examples.sizes["image"])]
    )
    said = {"settings": ("image", settings.astype(object))}
    return xr.DataTree.from_dict(
        {"/": result.to_dataset(), "stimuli/examples": examples.isel(treatment=[0]).assign_coords(said)}
    )


OF_SELECTIVITY = {
    "activation_curve": ("stage1", 0),
    "index_scatter": (),
    "label_shares": ("stage1", 0),
    "neuron_features": (),
    "selectivity_by_layer": (),
    "selectivity_profile": (),
    "similarity_map": ("stage1",),
    "top_crops": ("stage1", 0),
}
BUILDERS: dict[str, Callable[[xr.DataTree], hv.Overlay]] = {
    **{name: lambda result, name=name: getattr(npr.plot, name)(masked(result)) for name in OF_LESIONS},
    **{
        name: lambda _, name=name, where=where: getattr(npr.plot, name)(made_selectivity(), *where)
        for name, where in OF_SELECTIVITY.items()
    },
    "accuracies": lambda result: npr.plot.accuracies(with_contrasts(result)),
    "activity": npr.plot.activity,
    "class_shifts": lambda result: npr.plot.class_shifts(masked(result), json.loads(result.attrs["factors"])[0]),
    "confusions": lambda result: npr.plot.confusions(npr.specialisation(result, n_permutations=0)),
    "convergence": npr.plot.convergence,
    "correlations": lambda result: npr.plot.correlations(npr.specialisation(result, n_permutations=0)),
    "depth_profile": npr.plot.depth_profile,
    "effect_sizes": lambda result: npr.plot.effect_sizes(with_contrasts(result)),
    "factor_trees": lambda result: npr.plot.factor_trees(npr.specialisation(result, n_permutations=0)),
    "index_distributions": npr.plot.index_distributions,
    "index_maps": lambda result: npr.plot.index_maps(result, "early"),
    "interactions": npr.plot.interactions,
    "preferences": npr.plot.preferences,
    "significant_units": lambda result: npr.plot.significant_units(with_contrasts(result)),
    "specialisation_profile": lambda result: npr.plot.specialisation_profile(
        npr.specialisation(result, n_permutations=0)
    ),
    "stacked_shares": npr.plot.stacked_shares,
    "stimulus_examples": npr.plot.stimulus_examples,
    "stimulus_sheet": lambda result: npr.plot.stimulus_sheet(with_settings(result)),
    "strongest_units": lambda result: npr.plot.strongest_units(result, "late"),
}
RESULTS = {
    "plain": {},
    "all dead": {"dead": 1.0},
    "many factors": {"factors": [f"a_rather_long_name_{i}" for i in range(13)]},
}


@pytest.fixture(scope="module")
def result() -> xr.DataTree:
    """Two layers, some of their units dead."""
    return make_result({"early": (5, 3, 4), "late": (9,)}, ["hue", "blur", "rotation"], dead=0.3)


@pytest.fixture(scope="module")
def shapley() -> xr.DataTree:
    """The same with Shapley effects, and nothing else."""
    return make_result({"early": (5, 3, 4), "late": (9,)}, ["hue", "blur", "rotation"], shapley=True, sobol=False)


def of_kind(picture: hv.Overlay, kind: type) -> list:
    return [element for element in picture if isinstance(element, kind)]


def said(picture: hv.Overlay) -> list[str]:
    return [text for labels in of_kind(picture, hv.Labels) for text in labels.dimension_values("text")]


def test_every_builder_is_tested() -> None:
    elsewhere = "".join((Path(__file__).parent / name).read_text() for name in ELSEWHERE)
    others = {name for name in npr.plot.__all__ if f"plot.{name}(" in elsewhere}
    assert set(BUILDERS) == set(npr.plot.__all__) - others


@pytest.mark.parametrize("case", RESULTS)
@pytest.mark.parametrize("name", BUILDERS)
def test_pictures_are_saved_without_a_browser(name: str, case: str, tmp_path: Path) -> None:
    picture = BUILDERS[name](make_result(**RESULTS[case]))
    # what is drawn is the same in either format
    for kind, start in (("png", b"\x89PNG"), ("svg", b"<?xml"))[: 2 if case == "plain" else 1]:
        path = tmp_path / f"picture.{kind}"
        hv.save(picture, path, backend="matplotlib")
        assert path.read_bytes().startswith(start)
    assert not plt.get_fignums()
    assert hv.Store.current_backend == "matplotlib"


@pytest.mark.parametrize("name", BUILDERS)
def test_pictures_render_in_bokeh(name: str, result: xr.DataTree) -> None:
    with warnings.catch_warnings():
        # bokeh's own dependencies may warn when they are loaded
        warnings.simplefilter("ignore")
        import holoviews.plotting.bokeh  # noqa: F401
    assert hv.render(BUILDERS[name](result), backend="bokeh")


@pytest.mark.parametrize("n", [1, 8, 9, 13, 40])
def test_factors_have_colours_of_their_own(n: int) -> None:
    styles = factor_styles(range(n))
    assert len({style["color"] for style in styles}) == n
    assert styles == factor_styles([str(i) for i in range(n)])


SINGLE: dict[str, Callable[[xr.DataTree], hv.Overlay]] = {
    "depth_profile": lambda r: npr.plot.depth_profile(r, "shapley_effect"),
    "index_distributions": lambda r: npr.plot.index_distributions(r, "shapley_effect"),
    "index_maps": lambda r: npr.plot.index_maps(r, "early", "shapley_effect"),
    "preferences": lambda r: npr.plot.preferences(r, "shapley_effect"),
    "stacked_shares": npr.plot.stacked_shares,
    "strongest_units": lambda r: npr.plot.strongest_units(r, "late", "shapley_effect"),
}


@pytest.mark.parametrize("name", SINGLE)
def test_pictures_take_shapley_effects(name: str, shapley: xr.DataTree) -> None:
    both = make_result({"early": (5, 3, 4), "late": (9,)}, ["hue", "blur", "rotation"], shapley=True)
    for one in (shapley, both):
        picture = SINGLE[name](one)
        assert "Shapley" in hv.Store.lookup_options("matplotlib", picture, "plot").kwargs["title"]
        assert hv.render(picture, backend="matplotlib")
        plt.close("all")


@pytest.mark.parametrize("index", overview.INDICES)
def test_depth_profile(result: xr.DataTree, index: str) -> None:
    picture = npr.plot.depth_profile(result, index)
    profile, means = depth_profiles(result["sobol"])[index], overview.index_means(result)[index]
    curves, bars, dashes = (of_kind(picture, kind) for kind in (hv.Curve, hv.ErrorBars, hv.Segments))
    assert [curve.label for curve in curves] == result["sobol/early"]["factor"].values.tolist()
    for i in range(3):
        low, median, high = profile.isel(factor=i).transpose("quantile", "layer").values
        np.testing.assert_array_equal(curves[i].dimension_values(1), median)
        np.testing.assert_allclose(bars[i].dimension_values(2), median - low)
        np.testing.assert_allclose(bars[i].dimension_values(3), high - median)
        np.testing.assert_array_equal(dashes[i].dimension_values(1), means.isel(factor=i))


def test_maps_hold_the_values_of_their_channels(result: xr.DataTree) -> None:
    picture = npr.plot.index_maps(result, "early", "total_order", n_channels=4)
    chosen = strongest_channels(result["sobol/early"].to_dataset(), "total_order", 4)
    # a row of maps and its colour scale for each factor
    rows = of_kind(picture, hv.Image)[::2]
    for row, maps in zip(rows, chosen["total_order"].values, strict=True):
        pixels = row.dimension_values(2, flat=False)[::-1]
        repeats = pixels.shape[0] // maps.shape[1]
        width = maps.shape[2] * repeats
        gap = (pixels.shape[1] - 4 * width) // 3
        for rank, one in enumerate(maps):
            part = pixels[::repeats, rank * (width + gap) :][:, :width:repeats]
            np.testing.assert_array_equal(part, one)
        assert np.isnan(pixels[:, width : width + gap]).all()
    numbers = chosen["channel"].values[np.isfinite(chosen["strength"].values)]
    assert said(picture)[: len(numbers)] == [str(number) for number in numbers]


def test_every_row_of_maps_states_its_range(result: xr.DataTree) -> None:
    picture = npr.plot.index_maps(result, "early")
    high = strongest_channels(result["sobol/early"].to_dataset(), "first_order", 8)["high"].values
    scales = of_kind(picture, hv.Image)[1::2]
    for scale, top in zip(scales, high, strict=True):
        assert scale.range(2) == pytest.approx((0, top))
        assert any(text.removeprefix("≥ ") == f"{top:.2g}" for text in said(picture))


@pytest.mark.parametrize(("size", "expected"), [(0.001, "≤ 2 se"), (1e-6, "all < 0.01")])
def test_rows_near_0_are_grey_and_say_so(size: float, expected: str) -> None:
    made = make_result()
    node = made["sobol/early"]
    error = 0.01 if expected == "≤ 2 se" else 1e-9
    node["first_order"][1] = size * (1 + np.arange(60).reshape(3, 4, 5) / 100)
    node["first_order_se"][1] = error
    picture = npr.plot.index_maps(made, "early")
    colours = [
        hv.Store.lookup_options("matplotlib", image, "style").kwargs["cmap"] for image in of_kind(picture, hv.Image)
    ]
    assert expected in said(picture)
    assert [colour == "viridis" for colour in colours] == [True, True, False, False]


def test_points_are_the_strongest_units(result: xr.DataTree) -> None:
    picture = npr.plot.strongest_units(result, "late", n_units=3)
    chosen = strongest_units(result["sobol/late"].to_dataset(), "first_order", 3)
    points, bars = of_kind(picture, hv.Scatter), of_kind(picture, hv.ErrorBars)
    for i in range(3):
        np.testing.assert_array_equal(points[i].dimension_values(1), chosen["first_order"][i])
        np.testing.assert_array_equal(bars[i].dimension_values(2), chosen["first_order_se"][i])
    assert [text.strip() for text in said(picture)] == [str(c) for c in chosen["channel"].values.ravel()]


def test_units_of_tokens_and_maps_are_named_by_place() -> None:
    made = make_result({"tokens": (4, 3), "maps": (2, 3, 4)})
    for layer, dims in (("tokens", ["token"]), ("maps", ["y", "x"])):
        chosen = strongest_units(made[f"sobol/{layer}"].to_dataset(), "first_order", 1).isel(rank=0)
        place = ", ".join(str(int(chosen[dim][0])) for dim in dims)
        assert f"{int(chosen['channel'][0])} ({place})" in [
            t.strip() for t in said(npr.plot.strongest_units(made, layer))
        ]


def test_distributions(result: xr.DataTree) -> None:
    picture = npr.plot.index_distributions(result, layers=["late"])
    found = overview.index_distributions(result).sel(layer=["late"])
    outlines = of_kind(picture, hv.Polygons)
    base, median, error = of_kind(picture, hv.Segments)
    left = base.dimension_values(0) - float(found["bin_start"][0])
    for i, outline in enumerate(outlines):
        heights = outline.dimension_values(1)
        shares = found["share"][0, i].values
        np.testing.assert_allclose(heights[1:120:2] / heights.max(), shares / shares.max())
        np.testing.assert_allclose(median.dimension_values(0)[i] - left[i], found["first_order_median"][0, i])
        half = (error.dimension_values(2) - error.dimension_values(0))[i] / 2
        np.testing.assert_allclose(half, found["first_order_se_median"][0, i])


def test_interactions_show_the_median_above_and_the_tail_below(result: xr.DataTree) -> None:
    picture = npr.plot.interactions(result)
    found = overview.interaction_profile(result)
    matrices = of_kind(picture, hv.Image)[:2]
    for matrix, one in zip(matrices, found["second_order"].values, strict=True):
        values = matrix.dimension_values(2, flat=False)[::-1]
        upper, lower = np.triu_indices(3, 1), np.tril_indices(3, -1)
        np.testing.assert_array_equal(values[upper], one[0][upper])
        np.testing.assert_array_equal(values[lower], one[1][lower])
    shown = {text for text in said(picture) if text.lstrip("-").isdigit()}
    assert str(round(100 * float(found["second_order"][0, 0, 0, 1]))) in shown


def test_bars_are_the_shares(result: xr.DataTree) -> None:
    found = overview.preferences(result, "first_order")
    boxes = of_kind(npr.plot.preferences(result, "first_order"), hv.Rectangles)
    shares = [*found["share"].values.T, found["unclear"].values]
    for box, share in zip(boxes, shares, strict=True):
        np.testing.assert_allclose(box.dimension_values(2) - box.dimension_values(0), share, atol=1e-12)
    counts = overview.unit_counts(result, [0.05])
    boxes = of_kind(npr.plot.activity(result), hv.Rectangles)
    parts = [counts[name].values.ravel() for name in ("n_silent", "n_constant", "n_lost", "n_rare")]
    parts.append(counts["n_units"].values - sum(parts))
    for box, part in zip(boxes, parts, strict=True):
        np.testing.assert_allclose(
            box.dimension_values(2) - box.dimension_values(0), part / counts["n_units"].values, atol=1e-12
        )


@pytest.mark.parametrize(("index", "n_parts"), [("shapley_effect", 3), ("first_order", 4)])
@pytest.mark.parametrize("by_variance", [False, True])
def test_shares_fill_their_bars(index: str, n_parts: int, by_variance: bool) -> None:
    made = make_result({"early": (5, 3, 4), "late": (9,)}, ["hue", "blur", "rotation"], dead=0.3, shapley=True)
    picture = npr.plot.stacked_shares(made, index, by_variance=by_variance)
    found = mean_shares(made, index, by_variance)
    boxes = of_kind(picture, hv.Rectangles)
    assert [box.label for box in boxes] == found["part"].values.tolist()
    assert len(boxes) == n_parts
    for box, share in zip(boxes, found["share"].values.T, strict=True):
        np.testing.assert_allclose(box.dimension_values(2) - box.dimension_values(0), share)
    np.testing.assert_allclose(boxes[-1].dimension_values(2), 1)
    (errors,) = of_kind(picture, hv.Segments)
    lengths = errors.dimension_values(2) - errors.dimension_values(0)
    np.testing.assert_allclose(lengths / 2, found["share_se"].values[:, :-1].ravel())


@pytest.fixture(scope="module")
def found() -> xr.DataTree:
    """What specialisation finds, in maps and in a layer without space."""
    made = make_result({"early": (8, 3, 4), "late": (15,)}, ["hue", "blur", "rotation"], dead=0.2, shapley=True)
    return npr.specialisation(made, n_permutations=0)


def test_correlations_are_those_found(found: xr.DataTree) -> None:
    picture = npr.plot.correlations(found, "total_order", ["late"])
    matrix = of_kind(picture, hv.Image)[0].dimension_values(2, flat=False)[::-1]
    expected = found["correlation"].sel(value="total_order", layer="late").values
    upper = np.triu_indices(3, 1)
    np.testing.assert_array_equal(matrix[upper], expected[upper])
    assert np.isnan(matrix.diagonal()).all()
    assert str(round(100 * expected[0, 1])) in said(picture)


def test_confusions_are_those_found(found: xr.DataTree) -> None:
    picture = npr.plot.confusions(found, "shapley_effect", "unit")
    matrices = of_kind(picture, hv.Image)[:-1]
    # a layer without space has no shapes
    assert len(matrices) == 1
    expected = found["confusion"].sel(value="shapley_effect", normalisation="unit", layer="early")
    np.testing.assert_array_equal(matrices[0].dimension_values(2, flat=False)[::-1], expected)
    accuracy = found["accuracy"].sel(value="shapley_effect", normalisation="unit", layer="early")
    assert any(text.startswith(f"early: {float(accuracy):.0%} ± ") for text in said(picture))
    assert {"late", "not classified"} <= set(said(picture))


def test_trees_merge_at_their_distances(found: xr.DataTree) -> None:
    picture = npr.plot.factor_trees(found, layers=["late"])
    (branches,) = of_kind(picture, hv.Path)
    merges = found["linkage"].sel(value="first_order", layer="late").values
    highest = max(1, merges[:, 2].max())
    tops = [max(branch["y"]) * highest for branch in branches.split(datatype="columns")]
    np.testing.assert_allclose(sorted(tops), merges[:, 2])
    leaves = [text for text in said(picture) if text in {"hue", "blur", "rotation"}]
    order = found["leaf"].sel(value="first_order", layer="late").values
    assert leaves == [["hue", "blur", "rotation"][leaf] for leaf in order]


@pytest.mark.parametrize("quantity", ["accuracy", "mean_correlation"])
def test_specialisation_over_depth(found: xr.DataTree, quantity: str) -> None:
    picture = npr.plot.specialisation_profile(found, quantity)
    curves, bands = of_kind(picture, hv.Curve), of_kind(picture, hv.Spread)
    table = found[quantity].stack(kind=[dim for dim in found[quantity].dims if dim != "layer"]).transpose("kind", ...)
    errors = (
        found[f"{quantity}_se"].stack(kind=[d for d in found[quantity].dims if d != "layer"]).transpose("kind", ...)
    )
    for curve, band, values, error in zip(curves, bands, table.values, errors.values, strict=True):
        np.testing.assert_array_equal(curve.dimension_values(1), values)
        np.testing.assert_array_equal(band.dimension_values(2), error[np.isfinite(error)])
    assert len({curve.label for curve in curves}) == len(curves)
    (line,) = of_kind(picture, hv.HLine)
    assert line.data == pytest.approx(1 / 3 if quantity == "accuracy" else 0)


def test_convergence(result: xr.DataTree) -> None:
    median = overview.convergence_table(result, "total_order")["total_order_se_median"]
    curves = [curve for curve in of_kind(npr.plot.convergence(result, "total_order"), hv.Curve) if curve.label]
    for i, curve in enumerate(curves):
        drawn = curve.dimension_values(1)
        expected = median.isel(factor=i).transpose("layer", "samples").values
        np.testing.assert_array_equal(drawn[np.isfinite(drawn)], expected.ravel())


def test_examples_stand_beside_their_control(result: xr.DataTree) -> None:
    picture = npr.plot.stimulus_examples(result)
    examples = result["stimuli/examples"].to_dataset()
    for column, stimuli in zip(of_kind(picture, hv.RGB), examples["stimulus"].values, strict=True):
        pixels = np.stack([column.dimension_values(i, flat=False)[::-1] for i in (2, 3, 4)], -1)
        height, room = stimuli.shape[1], pixels.shape[0] // 2 - stimuli.shape[1]
        for image, stimulus in enumerate(stimuli):
            np.testing.assert_array_equal(pixels[image * (height + room) :][:height], stimulus)
    assert {"control", "hue", "all", "a/1.png", "hue at 0"} <= set(said(picture))


def test_a_sheet_shows_each_stimulus_above_what_was_varied(result: xr.DataTree) -> None:
    made = with_settings(result)
    picture = npr.plot.stimulus_sheet(made)
    stimuli = made["stimuli/examples/stimulus"].values[0]
    for cell, stimulus in zip(of_kind(picture, hv.RGB), stimuli, strict=True):
        pixels = np.stack([cell.dimension_values(i, flat=False)[::-1] for i in (2, 3, 4)], -1)
        np.testing.assert_array_equal(pixels, stimulus)
    assert said(picture)[1].replace("\N{NO-BREAK SPACE}", " ") == "orientation 30°\nspatial frequency\n0.5 cycles/°"
    assert len(said(picture)) == len(stimuli)


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda r: npr.plot.stimulus_sheet(r), "these stimuli were not generated: take `plot.stimulus_examples`"),
        (lambda r: npr.plot.index_maps(r, "late"), "'late' has no space.*channel.*draw its `strongest_units`"),
        (lambda r: npr.plot.index_maps(r, "earley"), "did you mean 'early'"),
        (lambda r: npr.plot.index_maps(r, "early", "second_order"), "unknown index 'second_order'"),
        (lambda r: npr.plot.depth_profile(r, "first"), "unknown index 'first'"),
        (lambda r: npr.plot.strongest_units(r, "late", "variance"), "unknown index 'variance'"),
        (lambda r: npr.plot.interactions(make_result(second_order=False)), "has no index 'second_order'"),
        (lambda r: npr.plot.depth_profile(r, "shapley_effect"), "has no index 'shapley_effect'; it has: first_order"),
        (lambda r: npr.plot.stacked_shares(r, "total_order"), "unknown index 'total_order'.*; known: shapley_effect"),
        (
            lambda r: npr.plot.correlations(npr.specialisation(r, n_permutations=0), "S1"),
            "unknown value 'S1'; known: first_order, total",
        ),
        (
            lambda r: npr.plot.confusions(npr.specialisation(r, n_permutations=0), None, "max"),
            "unknown normalisation 'max'; known: none",
        ),
        (
            lambda r: npr.plot.specialisation_profile(npr.specialisation(r, n_permutations=0), "p"),
            "unknown quantity 'p'; known: mean",
        ),
        (lambda r: npr.plot.stimulus_examples(make_result(examples=False)), "no group 'stimuli'"),
    ],
)
def test_what_cannot_be_drawn_is_named(draw, message: str, result: xr.DataTree) -> None:
    with pytest.raises(ReaderError, match=message):
        draw(result)


def test_effect_sizes_and_shares_are_those_of_the_units(result: xr.DataTree) -> None:
    made = with_contrasts(result)
    sizes, shares = effects.effect_sizes(made), effects.significant_shares(made, "sign", 0.01)
    for layer, node in made["contrast"].children.items():
        for factor in ("hue", "blur", "rotation"):
            one = node.to_dataset().sel(factor=factor)
            d_z = abs(one["effect_size"].values)
            place = {"layer": layer, "factor": factor}
            assert float(sizes.sel({**place, "quantile": 0.5})) == pytest.approx(np.nanmedian(d_z))
            # units that do not change count
            expected = (one["p_adjusted"].sel(test="sign").values < 0.01).sum() / d_z.size
            assert float(shares.sel(place)) == pytest.approx(expected)
    curves = of_kind(npr.plot.significant_units(made, "sign", 0.01), hv.Curve)
    np.testing.assert_array_equal(curves[0].dimension_values(1), shares.sel(factor="hue"))
    medians = of_kind(npr.plot.effect_sizes(made), hv.Curve)[1].dimension_values(1)
    np.testing.assert_array_equal(medians, sizes.sel(factor="blur", quantile=0.5))


def test_accuracies_have_their_intervals(result: xr.DataTree) -> None:
    made = with_contrasts(result)
    (bars,) = of_kind(npr.plot.accuracies(made, "probability"), hv.ErrorBars)
    table = made["accuracy"].to_dataset().sel(measure="probability")
    np.testing.assert_array_equal(bars.dimension_values(1), table["estimate"])
    np.testing.assert_allclose(bars.dimension_values(1) - bars.dimension_values(2), table["lower"])


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (lambda made: npr.plot.accuracies(made, "top_5"), "unknown measure 'top_5'"),
        (lambda made: npr.plot.significant_units(made, "wilcoxon"), "unknown test 'wilcoxon'.*ranks"),
        (lambda made: npr.plot.effect_sizes(made["contrast/late"]), "no group 'contrast' in this tree"),
        (lambda made: npr.plot.accuracies(made["contrast"]), "no group 'accuracy' in this tree"),
    ],
)
def test_contrasts_that_are_not_there(result: xr.DataTree, picture: Callable, message: str) -> None:
    with pytest.raises(ReaderError, match=message):
        picture(with_contrasts(result))
