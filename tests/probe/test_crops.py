"""Crops: units respond to what they see alone as they respond to it in its image, at the border too."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models

from neuroprobe.errors import SubjectError, UnknownNameError
from neuroprobe.probe.capture import Probe, find_sites, list_layers
from neuroprobe.probe.crops import CropPasses
from neuroprobe.probe.lesion import INTACT, Lesion, lesioned
from neuroprobe.protocol.subject import LayerSpec
from neuroprobe.subjects.networks import find_network
from neuroprobe.subjects.subject import build_network

CLOSE = 1e-5  # of a layer's largest response
SEED = 3


def made(build: Callable[[], nn.Module]) -> nn.Module:
    """A network in eval mode whose normalisations do something."""
    torch.manual_seed(SEED)
    network = build().eval().requires_grad_(False)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            module.weight.uniform_(0.5, 2)
            module.bias.normal_()
    return network


def noise(height: int, width: int, n: int = 1) -> Tensor:
    return torch.randn(n, 3, height, width, generator=torch.Generator().manual_seed(SEED))


def whole_response(network: nn.Module, layer: str, images: Tensor, lesion: Lesion = INTACT) -> Tensor:
    found: list[Tensor] = []
    with Probe(network, find_sites(network, [LayerSpec(name=layer)], images[:1]), lesion) as probe:
        probe.record(images, lambda _, response: found.append(response.clone()))
    return found[0]


def places_of(shape: tuple[int, int], limit: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All places of a map; of a large one corners, edges, and some inside."""
    rows, columns = (np.arange(n) for n in shape)
    if len(rows) * len(columns) > limit:
        rows, columns = (np.unique([0, 1, n // 3, n // 2, n - 2, n - 1]) for n in shape)
    pairs = np.array(list(itertools.product(rows, columns)))
    return pairs[:, 0], pairs[:, 1]


def on_crops(
    passes: CropPasses, image: Tensor, rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> NDArray[np.float64]:
    boxes, found = passes.boxes(rows, columns), np.full((len(rows), passes.n_channels), np.nan)
    for group in passes.groups(rows, columns):
        crops = [image[:, :, top:bottom, left:right] for top, left, bottom, right in boxes[group]]
        found[group] = passes.responses(torch.cat(crops), rows[group], columns[group])
    return found


def check(
    network: nn.Module,
    layer: str,
    image: Tensor,
    lesion: Lesion = INTACT,
    limit: int = 150,
    whole_image: bool = False,
) -> CropPasses:
    """Every place of a map against whole images, and altered crops alone against altered crops in their image."""
    passes = CropPasses(network, layer, image, lesion)
    assert passes.whole_image == whole_image, passes.why
    whole = whole_response(network, layer, image, lesion)
    assert passes.map_shape == tuple(whole.shape[2:])
    rows, columns = places_of(passes.map_shape, limit)
    expected = whole[0, :, rows, columns].T.numpy()
    scale = np.abs(expected).max()
    assert scale > 0
    np.testing.assert_allclose(on_crops(passes, image, rows, columns), expected, rtol=0, atol=CLOSE * scale)

    some = np.random.default_rng(SEED).permutation(len(rows))[:8]
    altered = image.flip(1) * 1.5 - 0.2
    pasted = image.repeat(len(some), 1, 1, 1)
    for one, (top, left, bottom, right) in zip(pasted, passes.boxes(rows[some], columns[some]), strict=True):
        one[:, top:bottom, left:right] = altered[0, :, top:bottom, left:right]
    expected = whole_response(network, layer, pasted, lesion)[range(len(some)), :, rows[some], columns[some]].numpy()
    found = on_crops(passes, altered, rows[some], columns[some])
    np.testing.assert_allclose(found, expected, rtol=0, atol=CLOSE * max(scale, np.abs(expected).max()))
    return passes


# --- operations -----------------------------------------------------------------------------------------------------

SIZES = st.tuples(st.integers(1, 4), st.integers(1, 4))


@st.composite
def convolutions(draw: st.DrawFn, n_in: int, n_out: int) -> nn.Module:
    size, dilation = draw(SIZES), draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    groups = draw(st.sampled_from([1, n_in]))
    same = draw(st.booleans())
    stride = (1, 1) if same else draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    padding = "same" if same else draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    return nn.Conv2d(n_in, n_out, size, stride, padding, dilation, groups)


@st.composite
def pools(draw: st.DrawFn) -> nn.Module:
    size = draw(st.integers(1, 4))
    options: dict[str, Any] = {
        "stride": draw(st.sampled_from([None, 1, 2, 3])),
        "padding": draw(st.integers(0, size // 2)),
        "ceil_mode": draw(st.booleans()),
    }
    if draw(st.booleans()):
        return nn.MaxPool2d(size, dilation=draw(st.integers(1, 2)), **options)
    options["divisor_override"] = draw(st.sampled_from([None, 5]))
    return nn.AvgPool2d(size, count_include_pad=draw(st.booleans()), **options)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_chains_of_windows(data: st.DataObject) -> None:
    torch.manual_seed(SEED)
    first, second = data.draw(convolutions(3, 6)), data.draw(convolutions(6, 6))
    network = nn.Sequential(first, nn.ReLU(inplace=True), data.draw(pools()), second, data.draw(pools()))
    image = noise(data.draw(st.integers(9, 20)), data.draw(st.integers(9, 20)))
    network.eval().requires_grad_(False)
    layer = data.draw(st.sampled_from(["2", "3", "4"]))
    try:
        whole = whole_response(network, layer, image)
    except SubjectError:  # a window that is larger than its map
        assume(False)
    assume(whole.numel() and torch.isfinite(whole).all() and whole.abs().max() > 0)
    check(network, layer, image)


class Function(nn.Module):
    def __init__(self, function: Callable[..., Tensor], *layers: nn.Module) -> None:
        super().__init__()
        self.function, self.layers = function, nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.layers)


def shuffled(x: Tensor) -> Tensor:
    n, channels, height, width = x.shape
    return x.view(n, 2, channels // 2, height, width).transpose(1, 2).reshape(n, -1, height, width)


def added_in_place(x: Tensor, layer: nn.Module) -> Tensor:
    y = layer(x)
    y += x
    return y.relu_() + x


def overwritten(x: Tensor, layer: nn.Module) -> Tensor:
    y = layer(x)
    z = functional.relu(y, inplace=True)
    return torch.cat([z, y], 1)  # the same, twice


def half_overwritten(x: Tensor) -> Tensor:
    y = x * 2
    y[:, :2].relu_()
    return y + 1


def written_by_the_way(x: Tensor) -> Tensor:
    y = x + 1
    functional.relu_(y)
    return y


WEIGHT = torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(SEED))
FUNCTIONS: Mapping[str, nn.Module] = {
    "conv": Function(lambda x: functional.conv2d(x, WEIGHT, None, 2, (1, 2), 1, 2)),
    "same": Function(lambda x: functional.conv2d(x, WEIGHT, padding="same", groups=2, stride=1, dilation=(2, 1))),
    "max pool": Function(lambda x: functional.max_pool2d(x, 3, 2, padding=1, ceil_mode=True)),
    "mean pool": Function(lambda x: functional.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)),
    "mean pool of 4": Function(lambda x: functional.avg_pool2d(x, (2, 3), 3, (1, 1), ceil_mode=True)),
    "norm pool": Function(lambda x: functional.lp_pool2d(x.abs(), 2, 3, 2)),
    "adaptive pool": nn.AdaptiveAvgPool2d((6, 7)),
    "adaptive max": nn.AdaptiveMaxPool2d((3, 14)),
    "pad": Function(lambda x: functional.pad(x, (3, 1, -1, 2, 1, 2), value=0.7)),
    "pads of a module": nn.Sequential(nn.ConstantPad2d((4, 0, 2, 1), -1.5), nn.MaxPool2d(3, 2)),
    "slices": Function(lambda x: x[:, 1:, 1::2, 2:-1:3]),
    "rows alone": Function(lambda x: x[..., 1:, :]),
    "shortcut A": Function(lambda x: functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))),
    "sees padding alone": nn.Conv2d(4, 4, 1, padding=2),
    "sum": Function(lambda x, a, b: a(x) + b(x), nn.Conv2d(4, 5, 3, 2, 1), nn.Conv2d(4, 5, 1, 2)),
    "branches": Function(
        lambda x, a, b, c: torch.cat([a(x), b(x), c(x)], 1),
        nn.Conv2d(4, 2, 5, 2, 2),
        nn.Conv2d(4, 3, 1, 2),
        nn.MaxPool2d(3, 2, 1),
    ),
    "chunks": Function(lambda x: x.chunk(2, 1)[0] + x.chunk(2, 1)[1]),
    "split and joined": Function(lambda x: torch.stack(x.split([1, 3], 1)[1].unbind(1), 1)),
    "largest channel": Function(lambda x: x.max(1, keepdim=True)[0]),
    "shuffle": Function(shuffled),
    "sizes": Function(lambda x: x * x.shape[2] / x.size(3)),
    "gate": Function(lambda x: x * torch.sigmoid(x.mean(1, keepdim=True))),
    "lrn": nn.LocalResponseNorm(3),
    "batch norm": nn.Sequential(nn.BatchNorm2d(4), nn.Dropout2d(0.5), nn.PReLU(4), nn.Softmax(1)),
    "in place": Function(added_in_place, nn.Conv2d(4, 4, 3, padding=1)),
    "overwritten": Function(overwritten, nn.Conv2d(4, 4, 3, padding=1)),
    "written by the way": Function(written_by_the_way),
    "mirrored inside": nn.Conv2d(4, 3, 3, padding_mode="reflect"),  # pads nothing
}


def between(part: nn.Module, n_channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True), part, nn.Conv2d(n_channels, 4, 3, padding=1)
    )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_operations(name: str) -> None:
    part = made(lambda: FUNCTIONS[name])
    n_channels = part(torch.randn(1, 4, 12, 14)).shape[1]
    network = made(lambda: between(part, n_channels))
    for layer in ("2", "3"):
        passes = check(network, layer, noise(12, 14))
        assert not passes.why
        assert len(passes.groups(*places_of(passes.map_shape, 1000))) > 1


def unlike_its_graph(x: Tensor) -> Tensor:
    return x.cumsum(2) if isinstance(x, Tensor) else x * 2


REFUSED: Mapping[str, tuple[nn.Module, str]] = {
    "reflected": (nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), "pads a map with what is in it (reflect)"),
    "reflecting pad": (Function(lambda x: functional.pad(x, (1, 1, 0, 0), mode="replicate")), "elsewhere in it (repl"),
    "gate": (Function(lambda x: x * x.mean((2, 3), keepdim=True)), "reads all positions together"),
    "unknown": (Function(lambda x: x.cumsum(2)), "is no operation whose field is known"),
    "positions": (Function(lambda x: x + torch.arange(14.0)), "takes constants that differ between positions"),
    "values": (Function(lambda x: x + x.max().item()), "'max' in layer '2' reads all positions together"),
    "numbers": (Function(lambda x: x * x.stride(3)), "'stride' in layer '2' makes numbers of a map"),
    "half overwritten": (Function(half_overwritten), "an operation has overwritten a part"),
    "images together": (Function(lambda x: x.softmax(0)), "works along the axis of the images"),
    "norm with ceil": (nn.LPPool2d(2, 3, 2, ceil_mode=True), "`ceil_mode`"),
    "given sizes": (
        Function(lambda x: x[:, :1].expand(x.shape[0], 4, 12, 14)),
        "is not known to do the same on a part",
    ),
    "not its graph": (Function(unlike_its_graph), "respond otherwise to a crop than to the whole image"),
    "not traced": (Function(lambda x: x if x.sum() > 1e9 else x + 1), "measured on gradients"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_had_from_crops_is_had_from_whole_images(name: str) -> None:
    part, why = REFUSED[name]
    network = made(lambda: between(part, 4))
    passes = CropPasses(network, "3", noise(12, 14))
    assert passes.whole_image
    assert why in passes.why
    assert np.array_equal(passes.boxes([0, 2], [1, 3]), [[0, 0, 12, 14]] * 2)
    images, rows, columns = noise(12, 14, 3), [0, 3, 5], [4, 0, 5]
    (group,) = passes.groups(rows, columns)
    assert np.array_equal(group, [0, 1, 2])
    expected = whole_response(network, "3", images)[range(3), :, rows, columns]
    torch.testing.assert_close(passes.responses(images, rows, columns), expected)
    assert CropPasses(network, "1", noise(12, 14)).whole_image == (name == "not traced")  # it is before that


def test_hooks_of_others() -> None:
    network = made(lambda: between(nn.Identity(), 4))
    handle = network[0].register_forward_hook(lambda *_: None)
    passes = CropPasses(network, "3", noise(12, 14))
    handle.remove()
    assert passes.why == "layer '0' (Conv2d) has forward hooks, which may do anything to a map"


# --- networks -------------------------------------------------------------------------------------------------------

NETWORKS: Mapping[str, tuple[Callable[[], nn.Module], int, list[str]]] = {
    "alexnet": (models.alexnet, 96, ["features.2", "features.11"]),
    "vgg16": (lambda: models.vgg.make_layers(models.vgg.cfgs["D"]), 48, ["3", "13", "29"]),
    "resnet18": (models.resnet18, 64, ["conv1", "layer1.0.relu#1", "layer2.0.downsample", "layer3"]),
    "googlenet": (
        lambda: models.googlenet(init_weights=False, aux_logits=False, transform_input=True),
        64,
        ["maxpool2", "inception3b.branch4", "inception4a"],
    ),
    "squeezenet": (models.squeezenet1_1, 64, ["features.3.squeeze", "features.7"]),
    "densenet": (models.densenet121, 48, ["features.denseblock1", "features.transition2.pool"]),
    "shufflenet": (models.shufflenet_v2_x0_5, 64, ["stage2.1", "stage3.0"]),
    "mobilenet": (models.mobilenet_v2, 48, ["features.3", "features.6.conv"]),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name: str) -> None:
    build, side, layers = NETWORKS[name]
    network = made(build)
    for layer in layers:
        check(network, layer, noise(side, side + 9), limit=36)


def test_trained_resnet(data: Path) -> None:
    network = build_network(find_network("cifar_resnet20"), 0)
    weights = torch.load(data / "cifar10/resnet20.th", map_location="cpu", weights_only=True)["state_dict"]
    network.load_state_dict({name.removeprefix("module."): value for name, value in weights.items()})
    network.eval().requires_grad_(False)
    layers = [layer.address for layer in list_layers(network, noise(32, 32)) if len(layer.shape or ()) == 3]
    for layer in layers[1::9]:
        check(network, layer, noise(32, 32), limit=36)
    whole = CropPasses(network, "linear", noise(32, 32))
    assert whole.why == "'mean' in the network's own forward pass reads all positions together"


def vgg_m() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 7, 2),
        nn.ReLU(),
        nn.LocalResponseNorm(5),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(8, 8, 5, 2, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        nn.Conv2d(8, 8, 3, padding=1),
    )


def test_every_place_at_the_border() -> None:
    passes = check(made(vgg_m), "7", noise(112, 112), limit=200)
    rows, columns = places_of(passes.map_shape, 200)
    box, boxes = passes.field.clipped_box(rows, columns), passes.boxes(rows, columns)
    assert np.array_equal(np.stack(box, 1), boxes)
    sizes = {(bottom - top, right - left) for top, left, bottom, right in boxes}
    assert len(sizes) > 4


# --- lesions --------------------------------------------------------------------------------------------------------


def lesions(network: nn.Module, image: Tensor) -> dict[str, Lesion]:
    shapes = {layer.address: layer.shape for layer in list_layers(network, image)}
    draws = np.random.default_rng(SEED)
    channel = np.ones(shapes["layer1.0.conv1"])
    channel[2:7] = 0
    units = draws.integers(0, 2, shapes["layer1.0"])
    return {
        "channels": Lesion({"layer1.0.conv1": channel}),
        "units": Lesion({"layer1.0": units}),
        "several": Lesion(
            {"layer1.0": units, "layer1.0.bn2": draws.random(shapes["layer1.0.bn2"]), "conv1": 2 * channel}
        ),
        "at the layer": Lesion({"layer1.1": draws.random(shapes["layer1.1"])}),
        "behind it": Lesion({"layer1.2": np.zeros(shapes["layer1.2"])}),
    }


@pytest.mark.parametrize("name", ["channels", "units", "several", "at the layer", "behind it"])
def test_lesions(name: str) -> None:
    network, image = made(lambda: build_network(find_network("cifar_resnet20"), 0)), noise(20, 24)
    lesion = lesions(network, image)[name]
    check(network, "layer1.1", image, lesion)
    intact, hurt = whole_response(network, "layer1.1", image), whole_response(network, "layer1.1", image, lesion)
    assert torch.equal(intact, hurt) == (name == "behind it")


def test_a_call_of_a_module_is_lesioned_alone() -> None:
    network, image = made(models.resnet18), noise(40, 40)
    mask = np.random.default_rng(SEED).random((64, 10, 10))
    check(network, "layer1.1", image, Lesion({"layer1.0.relu#0": mask}), limit=36)


def test_lesions_of_whole_images_and_wrong_ones() -> None:
    network, images = made(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(400, 5))), noise(12, 12, 3)
    mask = np.random.default_rng(SEED).random((4, 10, 10))
    lesion = Lesion({"0": mask})
    passes = CropPasses(network, "2", images[:1], lesion)
    assert (passes.whole_image, passes.map_shape, passes.n_channels) == (True, None, 5)
    with lesioned(network, lesion):
        expected = network(images)
    torch.testing.assert_close(passes.responses(images, [0] * 3, [0] * 3), expected)
    with pytest.raises(SubjectError, match=r"gives \(4, 10, 10\) per image, and its mask is \(4, 3, 3\)"):
        CropPasses(network, "0", images[:1], Lesion({"0": np.ones((4, 3, 3))}))


# --- what a caller meets --------------------------------------------------------------------------------------------


def test_tokens() -> None:
    network = made(
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(2), Function(lambda x: x.transpose(1, 2)), nn.ReLU())
    )
    images = noise(8, 8, 2)
    passes = CropPasses(network, "3", images[:1])
    assert (passes.whole_image, passes.map_shape, passes.n_channels) == (True, None, 4)
    found = passes.responses(images, [35, 2], [0, 0])
    assert torch.equal(found, network(images)[[0, 1], [35, 2]])
    with pytest.raises(SubjectError, match="has rows 0 to 35, received 36"):
        passes.responses(images[:1], [36], [0])


def test_groups_hold_crops_of_one_size_and_all_places() -> None:
    passes = CropPasses(made(vgg_m), "5", noise(96, 112))
    rows, columns = places_of(passes.map_shape, 1000)
    groups = passes.groups(rows, columns)
    assert np.array_equal(np.sort(np.concatenate(groups)), np.arange(len(rows)))
    assert [len(group) for group in groups] == sorted(map(len, groups), reverse=True)
    boxes = passes.boxes(rows, columns)
    for group in groups:
        assert len(np.unique(boxes[group, 2:] - boxes[group, :2], axis=0)) == 1
    inside = passes.field.is_inside(rows, columns)
    assert set(np.flatnonzero(inside)) <= set(groups[0])
    assert passes.groups([], []) == []
    assert passes.responses(noise(5, 5)[:0], [], []).shape == (0, 8)


def test_bad_input_is_refused() -> None:
    network = made(vgg_m)
    with pytest.raises(UnknownNameError, match="unknown layer 'conv9'"):
        CropPasses(network, "conv9", noise(96, 96))
    passes = CropPasses(network, "0", noise(96, 96))
    with pytest.raises(SubjectError, match="has columns 0 to 44, received 45"):
        passes.boxes([0], [45])
    with pytest.raises(SubjectError, match=r"of shapes \(2,\) and \(1,\)"):
        passes.groups([0, 1], [0])
    with pytest.raises(SubjectError, match=r"received crops of \(1, 3, 6, 7\) for 1 places, expected 1 of 7 × 7 px"):
        passes.responses(noise(6, 7), [0], [0])
    with pytest.raises(SubjectError, match=r"received crops of \(2, 3, 7, 7\) for 1 places"):
        passes.responses(noise(7, 7, 2), [0], [0])
    deep = CropPasses(network, "4", noise(96, 96))
    with pytest.raises(SubjectError, match="received places of several groups"):
        deep.responses(noise(27, 27, 2), [0, 3], [2, 3])


def test_nothing_is_left_behind() -> None:
    network, image = made(lambda: between(Function(added_in_place, nn.Conv2d(4, 4, 3, padding=1)), 4)), noise(12, 14)
    passes = CropPasses(network, "3", image)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    (top, left, bottom, right) = passes.boxes([5], [5])[0]
    crop = image[:, :, top:bottom, left:right].clone()
    before = crop.clone()
    first = passes.responses(crop, [5], [5])
    assert torch.equal(crop, before)
    assert torch.equal(passes.responses(crop, [5], [5]), first)
    assert not first.requires_grad
