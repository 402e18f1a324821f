"""An image, and a unit, explained by units: planted patches are found where they are."""

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

from neuroprobe.analysis.decomposition import decompose_image, decompose_unit
from neuroprobe.errors import ReaderError
from neuroprobe.probe.decomposition import layer_maps, maps_under
from neuroprobe.probe.receptive_field import ReceptiveField, receptive_fields

COLOURS = torch.eye(3)
SIDE = 12


def network() -> nn.Module:
    """Detectors of a red, a green and a blue patch of 3 × 3 pixels, and units that see two beside each other."""
    net = nn.Sequential(nn.Conv2d(3, 3, 3, stride=3, bias=False), nn.ReLU(), nn.Conv2d(3, 2, (1, 2), bias=False))
    net.eval().requires_grad_(False)
    net[0].weight.copy_((COLOURS[..., None, None] - 0.5).expand(3, 3, 3, 3) / 9)
    net[2].weight.zero_()
    net[2].weight[0, 0, 0, 0] = net[2].weight[0, 1, 0, 1] = 1  # red, then green
    net[2].weight[1, 2, 0, 0] = net[2].weight[1, 2, 0, 1] = 1  # blue, twice
    return net


def layer_of(field: ReceptiveField, peak: list[float], features: np.ndarray, top: np.ndarray) -> xr.Dataset:
    about = {
        "image_height": SIDE,
        "image_width": SIDE,
        "field_height": field.rows.size,
        "field_width": field.columns.size,
        "field_stride_y": field.rows.stride,
        "field_stride_x": field.columns.stride,
        "field_start_y": field.rows.start,
        "field_start_x": field.columns.start,
    }
    return xr.Dataset(
        {
            "peak": ("channel", peak),
            "neuron_feature": (("channel", "field_y", "field_x", "rgb"), features),
            "top_value": (("channel", "rank"), top),
        },
        {"channel": np.arange(len(peak)), "rgb": ["red", "green", "blue"]},
        about,
    )


@pytest.fixture
def images() -> torch.Tensor:
    """Patches on black: red and green side by side in the first two, dimmer in the second."""
    images = torch.zeros(3, 3, SIDE, SIDE)
    for number, strength in ((0, 1.0), (1, 0.5)):
        images[number, 0, 3:6, 3 * number : 3 * number + 3] = strength
        images[number, 1, 3:6, 3 * number + 3 : 3 * number + 6] = strength
    images[0, 2, 9:12, 9:12] = 0.8
    images[2, 2, 0:3, 0:6] = 1
    return images


@pytest.fixture
def layers(images: torch.Tensor) -> tuple[xr.Dataset, xr.Dataset]:
    fields = receptive_fields(network(), ["1", "2"], images[:1])
    patches = COLOURS.numpy()[:, None, None] * np.ones((3, 3, 3, 1))
    first = layer_of(fields["1"], [0.5, 0.5, 0.5], patches, np.full((3, 1), 0.5))
    second = layer_of(fields["2"], [1.0, 1.0], np.full((2, 3, 6, 3), 0.5), np.array([[1.0, 0.5], [1.0, 0.0]]))
    return first, second


def test_an_image_is_its_patches(images: torch.Tensor, layers) -> None:
    first, _ = layers
    (maps,) = layer_maps(network(), "1", images[:1])
    found = decompose_image(first, maps, k=2)
    assert found.sizes == {"rank": 2, "y": 4, "x": 4, "tile": 3, "image_y": SIDE, "image_x": SIDE, "rgb": 3}
    assert found["tile_channel"].values.tolist() == [0, 1, 2]
    np.testing.assert_allclose(found["tile_value"], [1, 1, 0.8], rtol=1e-6)
    edges = np.stack([found[f"tile_{edge}"] for edge in ("top", "left", "bottom", "right")], 1)
    assert edges.tolist() == [[3, 0, 6, 3], [3, 3, 6, 6], [9, 9, 12, 12]]
    assert (found["tile_y"].values * 3 == edges[:, 0]).all()
    assert (found["tile_x"].values * 3 == edges[:, 1]).all()
    shown = np.where(found["covered"].values[..., None] == 1, found["collage"], 0)
    np.testing.assert_allclose(shown > 0, images[0].permute(1, 2, 0).numpy() > 0)
    assert (found["collage"].values[found["covered"].values == 0] == 0.5).all()
    assert int(found["view_channel"].sel(rank=1, y=1, x=1)) == 1
    assert int(found["view_channel"].sel(rank=2, y=1, x=1)) == 0  # of equal ones the first
    assert all(array.attrs["long_name"] for array in found.data_vars.values())


def test_channels_are_named_by_their_labels_and_dead_ones_are_left_out(images: torch.Tensor, layers) -> None:
    first, _ = layers
    first = first.assign_coords(channel=[7, 9, 11]).drop_vars("neuron_feature")
    first["peak"] = "channel", [0.5, 0.0, 0.5]
    found = decompose_image(xr.DataTree(first), layer_maps(network(), "1", images[:1])[0], k=5)
    assert set(found["tile_channel"].values) == {7, 11}
    assert set(np.unique(found["view_channel"])) == {-1, 7, 11}
    assert found["view_value"].sel(rank=3).isnull().all()
    assert "collage" not in found


def test_a_unit_is_what_it_sees(images: torch.Tensor, layers) -> None:
    first, second = layers
    fields = receptive_fields(network(), ["1", "2"], images[:1])
    responses = maps_under(
        network(),
        "1",
        fields["1"],
        fields["2"],
        images.__getitem__,
        np.array([0, 1]),
        np.array([1, 1]),
        np.array([0, 1]),
    )
    found = decompose_unit(second, first, 0, responses)
    # weights of 1 and a half, and half of the response to the second
    expected = np.zeros((3, 1, 2))
    expected[0, 0, 0] = expected[1, 0, 1] = (1 * 1 + 0.5 * 0.5) / 2
    np.testing.assert_allclose(found["share"], expected, atol=1e-7)
    np.testing.assert_allclose(found["share_se"].values[0, 0, 0], abs(1 - 0.25) / 2, rtol=1e-6)
    assert (found["n_crops"] == 2).all()
    assert found["tile_channel"].values.tolist() == [0, 1]
    assert found["tile_left"].values.tolist() == [0, 3]
    assert found["collage"].dims == ("field_y", "field_x", "rgb")
    np.testing.assert_array_equal(found["collage"][:, :3, 0], 1)
    np.testing.assert_array_equal(found["collage"][:, 3:, 1], 1)
    # a unit that never fires has no weights
    second["peak"] = "channel", [0.0, 1.0]
    dead = decompose_unit(second, first, 0, responses)
    assert dead["share"].isnull().all()
    assert dead.sizes["tile"] == 0


def test_what_does_not_fit(images: torch.Tensor, layers) -> None:
    first, second = layers
    (maps,) = layer_maps(network(), "1", images[:1])
    with pytest.raises(ReaderError, match=r"maps: received \(2, 4, 4\), expected \(3, rows, columns\)"):
        decompose_image(first, maps[:2])
    with pytest.raises(ReaderError, match="overlap: received 2, expected a number in"):
        decompose_image(first, maps, overlap=2)
    with pytest.raises(ReaderError, match="k: received 0, expected 1 or more"):
        decompose_image(first, maps, k=0)
    kept = {name: value for name, value in first.attrs.items() if name != "field_width"}
    lacking = first.drop_vars("peak").drop_attrs().assign_attrs(kept)
    with pytest.raises(ReaderError, match="no layer of a result of selectivity: it lacks field_width, peak"):
        decompose_image(lacking, maps)
    with pytest.raises(ReaderError, match="channel: received 5, expected one of the 2"):
        decompose_unit(second, first, 5, np.zeros((2, 3, 1, 2)))
    with pytest.raises(ReaderError, match=r"responses: received \(2, 3, 2, 2\), expected \(2, 3, 1, 2\)"):
        decompose_unit(second, first, 0, np.zeros((2, 3, 2, 2)))
    with pytest.raises(ReaderError, match="top_value"):
        decompose_unit(second.drop_vars("top_value"), first, 0, np.zeros((2, 3, 1, 2)))
    first.attrs["field_stride_x"] = 2
    with pytest.raises(ReaderError, match="earlier: fields that are 2 px from each other"):
        decompose_unit(second, first, 0, np.zeros((2, 3, 1, 2)))
