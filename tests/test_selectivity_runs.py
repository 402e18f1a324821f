"""Selectivity as a session of a run: units that are selective by their weights, and all numbers by brute force."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch.nn import functional

import neuroprobe as npr
import planted
from neuroprobe.analysis.label_distributions import LabelOptions, gamma_of
from neuroprobe.rig import Rig, open_rig
from neuroprobe.selectivity.recorder import halves
from neuroprobe.statistics.colour_names import name_pixels
from neuroprobe.statistics.label_selectivity import label_indexes, label_shares
from neuroprobe.statistics.sketch import bin_of
from neuroprobe.statistics.top_stimuli import relative_weights
from neuroprobe.stimuli.properties import MANIPULATIONS
from planted import CHECKS, CLASSES, DEAD, LINE, LUMINANCE, RED

STEP = 0.5 / 254 + 1e-5  # of pictures, which are stored in 8 bits


@pytest.fixture(scope="module")
def detectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty images: red discs, lines of all angles, patches of blue checks."""
    return planted.write_images(tmp_path_factory.mktemp("planted") / "images")


def of_detectors(folder: Path, options: dict[str, Any], layers: tuple[str, ...] = ("units",)) -> dict[str, Any]:
    return {
        "neuroprobe": 1,
        "subject": {"network": "planted:build", "layers": list(layers), "preprocess": planted.PREPROCESS},
        "stimuli": {"images": {"folder": str(folder)}},
        "analyses": [{"selectivity": {"top": 10, "stability": [5], "sham": 0, "permutations": 0, **options}}],
        "record": {"device": "cpu", "batch": 16},
    }


@pytest.fixture(scope="module")
def found(detectors: Path, tmp_path_factory: pytest.TempPathFactory) -> xr.DataTree:
    indexes = [{"colour": {"gray": "luma"}}, "class", "colour_name", {"orientation": {"step": 45}}, "symmetry"]
    options = {"indexes": indexes, "sham": 19, "permutations": 99, "thresholds": [1, 0.5]}
    given = of_detectors(detectors, options, ("units", "head"))
    return npr.run(given, tmp_path_factory.mktemp("detectors") / "out.zarr").load()


@pytest.mark.parametrize("layer", ["units", "head"])
def test_a_colour_detector_is_selective_for_its_colour(found: xr.DataTree, layer: str) -> None:
    node = found[f"selectivity/{layer}"].to_dataset()
    np.testing.assert_allclose(node["colour"][[RED, LUMINANCE, LINE]], [1, 0, 0], atol=1e-6)
    assert node["colour"].attrs["selectivity"] == "loss"
    assert (node["hue_modes"][RED], node["hue_modes"][LUMINANCE]) == (1, 0)
    # of pure red: atan2(O3, O2) = atan2(1/2, 1)
    np.testing.assert_allclose(node["hue_1"][RED], np.degrees(np.arctan2(0.5, 1)), atol=5)
    assert (node["chroma"][[LUMINANCE, LINE]] < 0.01).all()
    assert node["chroma"][RED] > 0.1
    red = npr.select_units(found, f"layer == '{layer}' and 'red' in colours")
    assert red["channel"].values.tolist() == [RED]


def test_changes_of_equal_energy_cost_a_colour_detector_less(found: xr.DataTree) -> None:
    node = found["selectivity/units"].to_dataset()
    assert node["colour_p_value"][RED] == 1 / 20
    assert node["colour_sham"][RED] + 3 * node["colour_sham_deviation"][RED] < 1
    np.testing.assert_allclose(node["colour_corrected"], node["colour"] - node["colour_sham"], atol=1e-12)
    # grey stimuli are left as they are, and so are their shams
    assert node["colour_p_value"][LUMINANCE] == 1
    assert node["colour_sham_deviation"][LUMINANCE] < 1e-6


@pytest.mark.parametrize("gray", ["pca_opponent", "lightness", "pca_matched_contrast"])
def test_every_grey_silences_a_colour_detector(detectors: Path, gray: str, tmp_path: Path) -> None:
    options = {"indexes": [{"colour": {"gray": gray}}], "similarity": False, "crops": 0, "stability": []}
    node = npr.run(of_detectors(detectors, options), tmp_path / "out.zarr")["selectivity/units"].to_dataset()
    np.testing.assert_allclose(node["colour"][RED], 1, atol=1e-6)
    if gray == "pca_opponent":  # stretches the contrast
        assert node["colour"][LUMINANCE] < 0.05
        assert node["colour"][LINE] < -0.1
        assert node["colour_raised"][LINE] == 1
    else:
        np.testing.assert_allclose(node["colour"][[LUMINANCE, LINE]], 0, atol=0.01)
    assert "top_crop" not in node
    assert "similarity" not in node
    assert "colour_sham" not in node
    assert "colour_by_n" not in node


def test_a_line_detector_is_selective_for_its_orientation(found: xr.DataTree) -> None:
    node = found["selectivity/units"].to_dataset()
    profile = node["orientation_by_member"].isel(channel=LINE).to_series()
    assert profile.index.tolist() == ["45", "90", "135", "180", "225", "270", "315"]
    np.testing.assert_allclose(profile["180"], 0, atol=1e-6)
    assert node["orientation_best"].values[LINE] == "180"
    assert profile.idxmax() in {"90", "270"}
    assert profile["90"] > 0.7
    # half a turn maps the detector to itself
    np.testing.assert_allclose(profile[["225", "270", "315"]], profile[["45", "90", "135"]], atol=1e-6)
    np.testing.assert_allclose(node["orientation"][LINE], profile.mean(), atol=1e-9)
    assert (node["orientation"][[RED, LUMINANCE]] < 0.05).all()
    # mirrors about the line and across it leave it, the two others do not
    mirrored = node["symmetry_by_member"].isel(channel=LINE).to_series()
    np.testing.assert_allclose(mirrored[["45", "135"]], 1, atol=1e-6)
    assert (mirrored[["0", "90"]] < 0.5).all()
    np.testing.assert_allclose(node["symmetry"][[RED, LUMINANCE]], 1, atol=1e-6)
    # gradients of its Neuron Feature run across the line
    down, right = np.gradient(node["neuron_feature"].isel(channel=LINE).mean("rgb").values)
    angle = np.degrees(np.arctan2(2 * (down * right).sum(), (right**2).sum() - (down**2).sum())) / 2
    np.testing.assert_allclose((90 - angle) % 180, planted.LINE_ANGLE, atol=8)


@pytest.mark.parametrize("layer", ["units", "head"])
def test_a_unit_of_one_class_has_that_class(found: xr.DataTree, layer: str) -> None:
    node = found[f"selectivity/{layer}"].to_dataset()
    assert node["class"].values.tolist() == list(CLASSES)
    assert node["gamma"][CHECKS] == 1
    np.testing.assert_allclose(node["class_frequency"].isel(channel=CHECKS), [1, 0, 0], atol=1e-12)
    assert (node["preferred_class"].values[CHECKS], node["precision_class"].values[CHECKS]) == ("checks", "checks")
    assert node["activity_rate"][CHECKS] == 1 / 3
    assert node["class_selectivity"][CHECKS] == 1
    assert node["auc"].sel({"class": "checks"}).values[CHECKS] == 1
    assert node["gamma_p_value"][CHECKS] == 1 / 100
    assert node["gamma_by_threshold"].isel(channel=CHECKS).values.tolist() == [1, 1]
    near = npr.select_units(found, f"layer == '{layer}' and near('{layer}/{CHECKS}', 0.99)")["channel"].values
    assert CHECKS in near
    assert RED not in near
    np.testing.assert_allclose(np.diag(node["similarity"])[:DEAD], 1, atol=1e-6)


def test_a_dead_unit_is_undefined(found: xr.DataTree) -> None:
    for layer in ("units", "head"):
        node = found[f"selectivity/{layer}"].to_dataset().isel(channel=DEAD)
        assert node["defined"] == 0
        assert node["activity_rate"] == 0
        known = ("top_value", "top_image", "top_y", "top_x", "peak", "defined", "activity_rate", "mean", "mean_se")
        # n: how many stimuli a member applies to; areas under curves and means of classes: of responses of 0
        known += ("variance", "response_quantile", "hue_modes", "opponent", "orientation_n", "symmetry_n", "precision")
        of_zeros = [name for name in node if str(name).split("_")[0] in {"class", "auc", "informedness", "d"}]
        for name, values in node.drop_vars([*known, *of_zeros], errors="ignore").items():
            if "channel" in found[f"selectivity/{layer}"][name].dims:
                undefined = values == "" if values.dtype.kind in "OT" else values.isnull()
                assert undefined.all(), name
        assert node["class_frequency"].isnull().all()


def test_a_layer_without_maps_is_shown_whole_images(found: xr.DataTree) -> None:
    head, units = (found[f"selectivity/{layer}"] for layer in ("head", "units"))
    assert (head.attrs["whole_image"], units.attrs["whole_image"]) == (1, 0)
    assert "reads all positions together" in head.attrs["why"]
    assert head["neuron_feature"].shape == (5, planted.SIDE, planted.SIDE, 3)
    assert units["neuron_feature"].shape == (5, planted.FIELD, planted.FIELD, 3)
    # the same maxima
    np.testing.assert_allclose(head["top_value"], units["top_value"], atol=1e-6)
    np.testing.assert_array_equal(head["top_image"][:DEAD], units["top_image"][:DEAD])


CHANNELS = {"conv1": list(range(0, 40, 8)), "conv3": [3, 17, 40, 60, 80], "linear": list(range(10))}
TOP = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of ten photographs' crops each."""
    from PIL import Image
    from skimage import data

    made = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(4)
    for label, picture in zip(("cat", "person", "coffee"), (data.chelsea(), data.astronaut(), data.coffee())):  # noqa: B905
        (made / label).mkdir()
        for number in range(10):
            top, left = (int(rng.integers(0, side - 96)) for side in picture.shape[:2])
            Image.fromarray(picture[top : top + 96, left : left + 96]).save(made / label / f"{number}.png")
    return made


def of_photographs(folder: Path, batch: int = 64, **options: Any) -> dict[str, Any]:
    layers = [{"name": name, "channels": channels} for name, channels in CHANNELS.items()]
    shared = {"top": TOP, "stability": [4], "indexes": ["colour", "class", "colour_name", "symmetry"], "sham": 2}
    return {
        "neuroprobe": 1,
        "seed": 3,
        "subject": {"network": "embedded", "layers": layers},
        "stimuli": {"images": {"folder": str(folder)}},
        "analyses": [{"selectivity": {**shared, "permutations": 49, **options}}],
        "record": {"device": "cpu", "batch": batch},
    }


@pytest.fixture(scope="module")
def result(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> xr.DataTree:
    return npr.run(of_photographs(folder), tmp_path_factory.mktemp("photographs") / "out.zarr").load()


@pytest.fixture(scope="module")
def rig(folder: Path) -> Rig:
    return open_rig(npr.load_protocol(of_photographs(folder)))


def forward(rig: Rig, layer: str, images: torch.Tensor) -> np.ndarray:
    """Responses of the recorded channels (images, channels, y, x), by a hook of our own."""
    kept: list[torch.Tensor] = []
    handle = rig.subject.network.get_submodule(layer).register_forward_hook(lambda *call: kept.append(call[2].clone()))
    with torch.no_grad():
        rig.subject.network(rig.subject.prepare(images))
    handle.remove()
    maps = kept[0].numpy()[:, CHANNELS[layer]].astype(np.float64)
    return maps if maps.ndim == 4 else maps[:, :, None, None]


@pytest.fixture(scope="module")
def images(rig: Rig) -> torch.Tensor:
    return rig.images.load(np.arange(len(rig.images)))


@pytest.fixture(scope="module", params=list(CHANNELS))
def layer(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def maps(rig: Rig, layer: str, images: torch.Tensor) -> np.ndarray:
    return forward(rig, layer, images)


@pytest.fixture(scope="module")
def node(result: xr.DataTree, layer: str) -> xr.Dataset:
    return result[f"selectivity/{layer}"].to_dataset()


def places(node: xr.Dataset) -> list[tuple[int, ...]]:
    """Channel, rank, image, row and column of every place of a list."""
    columns = (node[name].values for name in ("top_image", "top_y", "top_x"))
    unit, rank = np.indices(node["top_image"].shape)
    return [tuple(map(int, one)) for one in zip(*(array.ravel() for array in (unit, rank, *columns)), strict=True)]


def box_of(node: xr.Dataset, row: int, column: int) -> tuple[slice, slice, slice, slice]:
    """Rows and columns of the image that a unit sees, and where on its field's canvas they are."""
    found = []
    for axis, at in (("y", row), ("x", column)):
        side, size = ("height", "width")[axis == "x"], node.attrs[f"image_{('height', 'width')[axis == 'x']}"]
        start = node.attrs[f"field_start_{axis}"] + node.attrs[f"field_stride_{axis}"] * at
        stop = min(start + node.attrs[f"field_{side}"], size)
        found.append((slice(max(start, 0), stop), slice(max(start, 0) - start, stop - start)))
    (rows, on_rows), (columns, on_columns) = found
    return rows, columns, on_rows, on_columns


def test_lists_are_those_of_sorting(node: xr.Dataset, maps: np.ndarray) -> None:
    peaks = maps.max((2, 3))
    order = np.argsort(-peaks, axis=0, kind="stable")[:TOP].T
    np.testing.assert_allclose(node["top_value"], np.take_along_axis(peaks.T, order, 1), atol=1e-5)
    np.testing.assert_array_equal(node["top_image"], order)
    for unit, rank, image, row, column in places(node):
        assert np.unravel_index(maps[image, unit].argmax(), maps.shape[2:]) == (row, column)
        np.testing.assert_allclose(node["top_value"][unit, rank], maps[image, unit, row, column], atol=1e-5)
    np.testing.assert_array_equal(node["peak"], node["top_value"][:, 0])
    assert (np.diff(node["top_value"]) <= 0).all()


def test_shown_images_have_their_names(result: xr.DataTree, rig: Rig) -> None:
    shown = result["stimuli/shown"].to_dataset()
    listed = {int(one) for layer in CHANNELS for one in result[f"selectivity/{layer}/top_image"].values.ravel()}
    assert shown["image"].values.tolist() == sorted(listed)
    assert shown["image_id"].values.tolist() == [rig.images.ids[number] for number in sorted(listed)]
    assert shown["class_label"].values.tolist() == [rig.images.labels[number] for number in sorted(listed)]


def feature_by_hand(node: xr.Dataset, images: torch.Tensor, *, masked: bool) -> tuple[np.ndarray, np.ndarray]:
    """Neuron Features and coverages, crop by crop."""
    feature, coverage = np.full(node["neuron_feature"].shape, np.nan), np.full(node["coverage"].shape, np.nan)
    for unit in np.flatnonzero(node["defined"]):
        total = np.zeros(feature.shape[1:])
        covered, weight = np.zeros(coverage.shape[1:]), 0.0
        for _, rank, image, row, column in (place for place in places(node) if place[0] == unit):
            value = max(0, float(node["top_value"][unit, rank] / node["top_value"][unit, 0]))  # of logits
            rows, columns, on_rows, on_columns = box_of(node, row, column)
            weight += value
            total[on_rows, on_columns] += value * images[image, :, rows, columns].permute(1, 2, 0).numpy()
            covered[on_rows, on_columns] += value
        coverage[unit] = covered / weight
        if masked:
            least = coverage[unit] > 0.1
            feature[unit] = 127 / 255
            feature[unit][least] = total[least] / covered[least][:, None]
        else:
            feature[unit] = (total + 127 / 255 * (weight - covered)[..., None]) / weight
    return feature, coverage


def test_neuron_features_are_means_of_crops(node: xr.Dataset, images: torch.Tensor, layer: str) -> None:
    feature, coverage = feature_by_hand(node, images, masked=True)
    np.testing.assert_allclose(node["coverage"], coverage, atol=STEP)
    far = np.abs(coverage - 0.1) > 1e-4  # from where a pixel counts as covered
    np.testing.assert_allclose(node["neuron_feature"].values[far], feature[far], atol=STEP)
    if layer != "linear":
        assert (coverage < 1).any()  # at the border of images
        assert (coverage.min((1, 2)) == 1).any() or layer == "conv3"
    # pictures of the first crops
    unit, rank, image, row, column = next(place for place in places(node) if place[1] == 2)
    rows, columns, on_rows, on_columns = box_of(node, row, column)
    picture = node["top_crop"].values[unit, rank][on_rows, on_columns]
    np.testing.assert_allclose(picture, images[image, :, rows, columns].permute(1, 2, 0), atol=1 / 250)


def test_indexes_are_those_of_crops_in_whole_images(
    node: xr.Dataset, rig: Rig, images: torch.Tensor, layer: str
) -> None:
    """Colour and mirror symmetry: the altered crop is put back where it was, and the network runs as a whole."""
    key = torch.zeros(1, dtype=torch.int64)
    at = places(node)
    unit, _, image, row, column = np.array(at).T
    for name, values in (("colour", 1 - node["colour"]), ("symmetry", node["symmetry"])):
        thing = MANIPULATIONS[name]
        members = thing.members(thing.options())
        shown = images[image][None].repeat(len(members), 1, 1, 1, 1)
        known = np.ones((len(members), len(at)), dtype=bool)
        for number, place in enumerate(at):
            rows, columns, *_ = box_of(node, *place[3:])
            crop = images[place[2], :, rows, columns][None]
            altered = thing.alter(crop, thing.options(), key)[:, 0]
            known[:, number] = ~altered.isnan().flatten(1).any(1).numpy()
            shown[:, number, :, rows, columns] = altered.nan_to_num()
        responses = forward(rig, layer, shown.flatten(0, 1)).reshape(len(members), len(at), len(node["channel"]), -1)
        width = int(np.sqrt(responses.shape[-1]))
        kept = responses[:, np.arange(len(at)), unit, row * width + column] * known
        own = np.broadcast_to(node["top_value"].values.ravel(), known.shape) * known
        shape = len(members), *node["top_value"].shape
        share = kept.reshape(shape).sum((0, 2)) / own.reshape(shape).sum((0, 2))
        undefined = node["top_value"].values.sum(1) <= 0  # of logits
        share[undefined] = np.nan
        np.testing.assert_allclose(values, share, atol=1e-4)
        if name == "symmetry":
            by_member = kept.reshape(shape).sum(2) / own.reshape(shape).sum(2)
            by_member[:, undefined] = np.nan
            np.testing.assert_allclose(node["symmetry_by_member"], by_member, atol=1e-4)
            np.testing.assert_array_equal(node["symmetry_n"], known.reshape(shape).sum(2) * node["defined"].values)
        else:
            shorter = 1 - kept.reshape(shape)[0, :, :4].sum(1) / own.reshape(shape)[0, :, :4].sum(1)
            assert node["n_kept"].values.tolist() == ["4", str(TOP)]
            shorter[own.reshape(shape)[0, :, :4].sum(1) <= 0] = np.nan
            np.testing.assert_allclose(node["colour_by_n"].values, [shorter, 1 - share], atol=1e-4)


def test_similarity_is_of_responses_to_others_stimuli(node: xr.Dataset, maps: np.ndarray) -> None:
    n = len(node["channel"])
    sums = np.zeros((n, n))
    for source, _, image, row, column in places(node):
        sums[:, source] += maps[image, :, row, column]
    own = np.diag(sums)
    alive = own > 0  # more is for it than against it
    expected = np.where(alive & alive[:, None], sums / own[:, None], np.nan)
    np.testing.assert_allclose(node["similarity"], expected, atol=1e-5)


def test_colour_names_are_of_pixels_under_maps(node: xr.Dataset, maps: np.ndarray, images: torch.Tensor) -> None:
    names_of_pixels = name_pixels(images.permute(0, 2, 3, 1).numpy())
    sums = np.zeros((len(node["channel"]), len(node["colour_name"])))
    weights = relative_weights(node["top_value"].values)
    for unit, rank, image, row, column in places(node):
        active = torch.from_numpy(maps[image, unit]).clamp(min=0)[None, None].float()
        active = functional.interpolate(active, size=images.shape[2:], mode="bilinear")[0, 0].numpy()
        rows, columns, *_ = box_of(node, row, column)
        for colour in range(sums.shape[1]):
            inside = active[rows, columns][names_of_pixels[image, rows, columns] == colour]
            sums[unit, colour] += weights[unit, rank] * (inside.mean() if inside.size else 0)
    np.testing.assert_allclose(node["colour_share"].T, sums / sums.sum(1, keepdims=True), atol=1e-5)


def test_classes_are_those_of_the_lists(node: xr.Dataset, maps: np.ndarray, rig: Rig) -> None:
    classes = node["class"].values.tolist()
    target = np.array([classes.index(label) for label in rig.images.labels or ()])
    shares = label_shares(relative_weights(node["top_value"].values), target[node["top_image"].values])
    np.testing.assert_allclose(node["class_frequency"].T, shares.frequencies(3), atol=1e-9)
    for name, values in label_indexes(shares).items():
        if name != "defined":
            np.testing.assert_allclose(node[name], values, atol=1e-9)
    # lists of either half
    peaks, half = maps.max((2, 3)), halves(3, len(target))
    assert 0 < half.sum() < len(half)
    for number in range(2):
        mine = np.flatnonzero(half == number)
        order = mine[np.argsort(-peaks[mine], axis=0, kind="stable")[:TOP]].T
        weights = relative_weights(np.take_along_axis(peaks.T, order, 1))
        expected = gamma_of(weights, order, target, 3, LabelOptions())
        np.testing.assert_allclose(node["gamma_by_half"][number], expected, atol=1e-9)
    assert node["half"].values.tolist() == ["first", "second"]


def test_moments_and_quantiles_are_those_of_all_responses(node: xr.Dataset, maps: np.ndarray, rig: Rig) -> None:
    means = maps.mean((2, 3))
    np.testing.assert_allclose(node["mean"], means.mean(0), atol=1e-6)
    np.testing.assert_allclose(node["variance"], means.var(0, ddof=1), rtol=1e-4)
    np.testing.assert_allclose(node["activity_rate"], (maps.max((2, 3)) > 0).mean(0))
    labels = np.array(rig.images.labels)
    for name in node["class"].values:
        mine = means[labels == name]
        at = node.sel({"class": name})
        np.testing.assert_allclose(at["class_mean"], mine.mean(0), atol=1e-6)
        np.testing.assert_allclose(at["class_mean_se"], mine.std(0, ddof=1) / np.sqrt(len(mine)), rtol=1e-3)
    for share, values in zip(node["quantile"].values, node["response_quantile"].values, strict=True):
        exact = np.quantile(means, share, axis=0, method="inverted_cdf")
        assert (np.abs(bin_of(values) - bin_of(exact)) <= 1).all()


def test_batches_blocks_and_borders_change_what_they_should(
    folder: Path, result: xr.DataTree, images: torch.Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Passes of 8 rows and blocks of 4 images; grey where fields stick out."""
    monkeypatch.setattr("neuroprobe.planner.images_per_list", lambda n_images, n_channels: 4)
    monkeypatch.setattr("neuroprobe.selectivity.crops.CROPS_AT_ONCE", 1 << 16)
    monkeypatch.setattr("neuroprobe.selectivity.scores.CROPS_AT_ONCE", 1 << 18)
    other = npr.run(of_photographs(folder, 8, border="fill_gray"), tmp_path / "out.zarr").load()
    for layer in CHANNELS:
        one, two = (tree[f"selectivity/{layer}"].to_dataset() for tree in (result, other))
        of_feature = [name for name in one if str(name).startswith(("hue", "opponent", "chroma", "neuron_feature"))]
        xr.testing.assert_allclose(one.drop_vars(of_feature), two.drop_vars(of_feature), rtol=1e-4, atol=1e-5)
        feature, _ = feature_by_hand(two, images, masked=False)
        np.testing.assert_allclose(two["neuron_feature"], feature, atol=STEP)
