"""Pictures of what units rest on, can be spared, and are made of: they show the numbers of their datasets."""

from collections.abc import Callable

import holoviews as hv
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr
from torch import nn, ones, zeros

import neuroprobe as npr
from made_selectivity_pictures import DEAD, made_selectivity
from neuroprobe.analysis import relevance
from neuroprobe.analysis.decomposition import decompose_image
from neuroprobe.analysis.redundancy import redundancy
from neuroprobe.errors import ReaderError
from neuroprobe.plot.style import COLOURS, png


@pytest.fixture(scope="module")
def result() -> xr.DataTree:
    return made_selectivity(n_layers=4, relevance=True)


@pytest.fixture(scope="module")
def curve() -> xr.Dataset:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(4, 3)).eval().requires_grad_(False)
    images = ones(12, 3, 1, 1) * (zeros(12, 3, 1, 1).uniform_())
    similarity = np.random.default_rng(0).random((4, 4))
    batches = [(images, network(images).argmax(1))]
    return redundancy(network, "1", batches, similarity, norm=np.arange(4.0), shares=[0, 0.5, 1], n_random=3)


@pytest.fixture(scope="module")
def collage(result: xr.DataTree) -> xr.Dataset:
    layer = result["selectivity/stage1"].to_dataset().fillna({"neuron_feature": 0.5})
    maps = np.random.default_rng(0).random((12, 9, 9))
    return decompose_image(layer, maps, overlap=0.3)


def of_kind(picture: hv.Overlay, kind: type) -> list:
    return [element for element in picture if type(element) is kind]


def said(picture: hv.Overlay) -> list[str]:
    return [text for labels in of_kind(picture, hv.Labels) for text in labels.dimension_values("text")]


def option(element: hv.Element, kind: str, name: str):
    return hv.Store.lookup_options("matplotlib", element, kind).kwargs[name]


def test_the_tree_is_drawn_with_its_numbers(result: xr.DataTree) -> None:
    tree, picture = relevance.relevance_tree(result, "linear", 3), npr.plot.relevance_tree(result, "linear", 3)
    shares, errors = tree["relevance"].values[1:], tree["relevance_se"].values[1:]
    below = zip(tree["channel"].values[1:], shares, errors, strict=True)
    assert said(picture) == ["3", *(f"{channel}: {share:.2f} ± {error:.2f}" for channel, share, error in below)]
    assert len(of_kind(picture, hv.RGB)) == tree.sizes["node"]
    lines = of_kind(picture, hv.Segments)
    assert len(lines) == tree.sizes["node"] - 1
    colours = [option(line, "style", "color") for line in lines]
    assert colours == [COLOURS[int(sign < 0)] for sign in tree["signed_relevance"].values[1:]]
    widths = np.array([option(line, "style", "linewidth") for line in lines])
    np.testing.assert_allclose(widths, np.clip(6 * shares, 0.5, 6))
    assert [name for _, name in option(picture, "plot", "yticks")] == ["linear", "stage3", "stage2", "stage1"]
    assert png(picture, 50)[0]


def test_nodes_of_one_level_do_not_overlap(result: xr.DataTree) -> None:
    tree = relevance.relevance_tree(result, "linear", 3, 3, 0.0)
    pictures = of_kind(npr.plot.relevance_tree(result, "linear", 3, 3, 0.0), hv.RGB)
    for level in range(4):
        lefts = sorted(pictures[node].bounds.lbrt()[0] for node in np.flatnonzero(tree["level"] == level))
        assert (np.diff(lefts) > 1).all()


def test_a_unit_without_a_response_stands_alone(result: xr.DataTree) -> None:
    picture = npr.plot.relevance_tree(result, "linear", DEAD)
    assert said(picture) == [str(DEAD)]
    assert "it responds to nothing" in option(picture, "plot", "title")
    assert png(picture, 50)[0]


@pytest.mark.parametrize("measure", ["loss_change", "accuracy_change", "loss", "accuracy"])
def test_curves_are_those_of_the_orders(curve: xr.Dataset, measure: str) -> None:
    picture = npr.plot.removal_curve(curve, measure)
    drawn = {line.label: line.dimension_values("value") for line in of_kind(picture, hv.Curve)}
    ways = {"zero": "zeroed", "add": "added to the most similar left"}
    for removal, how in ways.items():
        at = curve.sel(removal=removal)
        for order, name in (("similarity", "most redundant first"), ("low_norm", "smallest norm first")):
            np.testing.assert_array_equal(drawn.pop(f"{name}, {how}"), at[measure].sel(order=order))
        np.testing.assert_array_equal(drawn.pop(f"at random, {how}"), at[f"random_mean_{measure}"])
    assert not drawn
    assert "grey: 3 orders at random" in option(picture, "plot", "title")
    assert png(picture, 50)[0]
    alone = curve.sel(order=["similarity"]).drop_vars([name for name in curve.data_vars if "random" in str(name)])
    assert len(of_kind(npr.plot.removal_curve(alone.assign_attrs(n_random=0), measure), hv.Curve)) == 2


def test_a_collage_stands_beside_its_picture(collage: xr.Dataset) -> None:
    given = np.random.default_rng(1).random(collage["collage"].shape)
    for picture, n in ((npr.plot.decomposition(collage, given, limit=3), 2), (npr.plot.decomposition(collage), 1)):
        sheets = of_kind(picture, hv.RGB)
        assert len(sheets) == n
        shown = np.stack([sheets[-1].dimension_values(2 + c, flat=False)[::-1] for c in range(3)], -1)
        np.testing.assert_array_equal(shown, np.rint(255 * collage["collage"].values))
        assert png(picture, 50)[0]
    labels = said(npr.plot.decomposition(collage, given, limit=3))
    channels = [str(one) for one in collage["tile_channel"].values[:3]]
    assert labels[:6] == [*channels, *channels]
    assert labels[6].startswith(f"channels (share of their largest response): {channels[0]} (")
    with_picture = collage.assign(picture=(collage["collage"].dims, given))
    assert len(of_kind(npr.plot.decomposition(with_picture), hv.RGB)) == 2
    assert not plt.get_fignums()


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda r, c, d: npr.plot.relevance_tree(r, "stage1", 0), "has no relevance of the channels before it"),
        (lambda r, c, d: npr.plot.removal_curve(c, "los"), "unknown measure 'los' .did you mean 'loss'"),
        (lambda r, c, d: npr.plot.removal_curve(d), "no removal curve: loss_change.* missing"),
        (lambda r, c, d: npr.plot.decomposition(c), "no collage here"),
        (
            lambda r, c, d: npr.plot.decomposition(d, np.zeros((2, 2, 3))),
            r"received \(2, 2, 3\), expected \(24, 24, 3\)",
        ),
    ],
)
def test_what_cannot_be_drawn_is_named(
    draw: Callable, message: str, result: xr.DataTree, curve: xr.Dataset, collage: xr.Dataset
) -> None:
    with pytest.raises(ReaderError, match=message):
        draw(result, curve, collage)
