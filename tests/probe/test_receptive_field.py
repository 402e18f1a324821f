"""Receptive fields: closed forms, published numbers, and the pixels that units see in fact."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models

from neuroprobe.errors import ResponseError, SubjectError, UnknownNameError
from neuroprobe.probe.capture import list_layers
from neuroprobe.probe.receptive_field import ReceptiveField, empirical_field, receptive_fields
from neuroprobe.subjects.networks import find_network
from neuroprobe.subjects.subject import build_network

Numbers = tuple[int, int, float]  # size, stride, first centre


def fields_on_meta(build: Callable[[], nn.Module], layers: Sequence[str], side: int) -> dict[str, ReceptiveField]:
    with torch.device("meta"):
        return receptive_fields(build().eval(), layers, torch.empty(1, 3, side, side))


def numbers(field: ReceptiveField) -> Numbers:
    assert not field.whole_image, field.why
    assert (field.rows, field.measured) == (field.columns, False)
    return field.rows.size, field.rows.stride, field.rows.centre


def closed_form(steps: Sequence[tuple[int, int, int]]) -> Numbers:
    """Size, stride and first centre behind kernels, strides and paddings in a chain."""
    size, stride, centre = 1, 1, 0.0
    for kernel, step, padding in steps:
        size, centre = size + (kernel - 1) * stride, centre + ((kernel - 1) / 2 - padding) * stride
        stride *= step
    return size, stride, centre


# --- published networks ---------------------------------------------------------------------------------------------


def test_vgg16() -> None:
    # outputs of the convolutions of each block, as the authors list them, and of the five pools
    blocks = {(0, 2): [3, 5], (5, 7): [10, 14], (10, 12, 14): [24, 32, 40], (17, 19, 21): [60, 76, 92]}
    blocks |= {(24, 26, 28): [132, 164, 196], (4, 9, 16, 23, 30): [6, 16, 44, 100, 212]}
    expected = {f"features.{place}": size for places, sizes in blocks.items() for place, size in zip(places, sizes)}  # noqa: B905
    found = fields_on_meta(models.vgg16, list(expected), 224)
    assert {layer: field.rows.size for layer, field in found.items()} == expected
    assert numbers(found["features.28"]) == (196, 16, 7.5)


def padded_vgg_m() -> nn.Module:
    """With the place beyond the map of its second pool padded by hand."""
    network = find_network("vgg_m").build()
    network.pool2 = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.MaxPool2d(3, 2))
    return network


@pytest.mark.parametrize("build", [find_network("vgg_m").build, padded_vgg_m])
def test_vgg_m(build: Callable[[], nn.Module]) -> None:
    # rafegas 2019: size, stride, first centre; units along an axis; those whose whole field lies inside; their share
    expected = {
        "relu1": ((7, 2, 3), 109, 109, 1.0),
        "norm1": ((7, 2, 3), 109, 109, 1.0),
        "pool1": ((11, 4, 5), 54, 54, 1.0),
        "relu2": ((27, 8, 9), 26, 25, 0.925),
        "relu3": ((75, 16, 17), 13, 9, 0.48),
        "relu4": ((107, 16, 17), 13, 7, 0.29),
        "relu5": ((139, 16, 17), 13, 5, 0.148),
    }
    found = fields_on_meta(build, [*expected, "pool2", "pool5", "fc6"], 224)
    for name, (size, n_units, n_inside, share) in expected.items():
        field = found[name]
        assert (numbers(field), field.rows.n_units, field.rows.n_inside) == (size, n_units, n_inside)
        inside = field.is_inside(*np.indices((n_units, n_units)))
        assert inside.sum() == n_inside**2
        assert inside.mean() == pytest.approx(share, abs=0.006)
    assert (found["pool2"].rows.n_units, found["pool5"].rows.n_units) == (13, 6)
    assert found["fc6"].whole_image


def test_alexnet() -> None:
    sizes = {0: 11, 3: 51, 6: 99, 8: 131, 10: 163, 12: 195}
    found = fields_on_meta(models.alexnet, [*(f"features.{n}" for n in sizes), "avgpool", "classifier.6"], 224)
    assert [found[f"features.{place}"].rows.size for place in sizes] == list(sizes.values())
    assert found["avgpool"] == found["features.12"]  # from 6 × 6 to 6 × 6 nothing is pooled
    assert found["classifier.6"].whole_image
    assert found["classifier.6"].why == "'flatten' in the network's own forward pass reads all positions together"


def residual_steps(stem: Sequence[tuple[int, int, int]], n_blocks: Sequence[int]) -> list[Numbers]:
    """Closed form of each stage: the longest path through its blocks of two 3×3 convolutions."""
    steps, found = list(stem), []
    for stage, n in enumerate(n_blocks):
        steps += [(3, 2 if stage else 1, 1)] + [(3, 1, 1)] * (2 * n - 1)
        found.append(closed_form(steps))
    return found


def test_resnet18() -> None:
    stages = [f"layer{n}" for n in (1, 2, 3, 4)]
    found = fields_on_meta(models.resnet18, [*stages, "layer2.0.downsample", "layer2.0.relu#0", "avgpool", "fc"], 224)
    expected = residual_steps([(7, 2, 3), (3, 2, 1)], [2, 2, 2, 2])
    assert [numbers(found[stage]) for stage in stages] == expected
    assert expected == [(43, 4, 0), (99, 8, 0), (211, 16, 0), (435, 32, 0)]
    assert numbers(found["layer2.0.downsample"]) == (43, 8, 0)
    assert numbers(found["layer2.0.relu#0"]) == (51, 8, 0)
    for layer in ("avgpool", "fc"):
        assert found[layer].why == "layer 'avgpool' (AdaptiveAvgPool2d) reads all positions together"
    assert [int(edge) for edge in found["fc"].box(0, 0)] == [0, 0, 224, 224]


def test_branches_of_many_operations() -> None:
    # published by Araujo, Norris, Sim 2019 (doi:10.23915/distill.00021)
    found = fields_on_meta(lambda: models.inception_v3(init_weights=False), ["Mixed_7c"], 299)
    assert numbers(found["Mixed_7c"])[:2] == (1311, 32)


def test_networks_of_the_package() -> None:
    image = torch.zeros(1, 3, 32, 32)
    resnet = build_network(find_network("cifar_resnet20"), 0).eval()
    found = receptive_fields(resnet, ["layer1", "layer2", "layer3", "layer2.0.shortcut", "linear"], image)
    stages = [numbers(found[f"layer{n}"]) for n in (1, 2, 3)]
    assert stages == residual_steps([(3, 1, 1)], [3, 3, 3]) == [(15, 1, 0), (37, 2, 0), (81, 4, 0)]
    assert numbers(found["layer2.0.shortcut"]) == (15, 2, 0)
    assert found["linear"].why == "'mean' in the network's own forward pass reads all positions together"

    embedded = build_network(find_network("embedded"), 0).eval()
    conv, pool = (3, 1, 1), (2, 2, 0)
    steps = [conv, pool, conv, conv, pool, conv, conv, pool, conv]
    ends = {"conv1.2": 1, "conv1": 2, "conv2": 3, "conv3": 5, "conv4": 6, "conv5": 8, "conv6": 9}
    expected = {name: closed_form(steps[:end]) for name, end in ends.items()}
    assert expected["conv6"] == (50, 8, 3.5)
    found = receptive_fields(embedded, [*expected, "linear"], image)
    assert {name: numbers(found[name]) for name in expected} == expected
    assert found["linear"].whole_image


def test_every_layer_of_a_network_has_a_field() -> None:
    network = models.shufflenet_v2_x0_5().eval()
    image = torch.zeros(1, 3, 64, 64)
    layers = [layer for layer in list_layers(network, image) if layer.shape]
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    found = receptive_fields(network, [layer.address for layer in layers], image)
    for layer in layers:
        field = found[layer.address]
        assert field.whole_image == (len(layer.shape or ()) == 1)
        assert (field.rows.n_units, field.columns.n_units) == (layer.shape[1:] if not field.whole_image else (1, 1))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not sum(len(module._forward_hooks) for module in network.modules())


# --- what units see in fact -----------------------------------------------------------------------------------------


def seen_pixels(network: nn.Module, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Which pixels (height, width) each unit (rows, columns) sees: of a network of positive weights without biases,
    a single white pixel excites those that do.
    """
    pixels = torch.eye(size[0] * size[1]).reshape(-1, 1, *size).repeat(1, 3, 1, 1)
    with torch.no_grad():
        seen = (network(pixels) > 0).any(1)
    return seen.permute(1, 2, 0).reshape(*seen.shape[1:], *size).numpy()


def extents(seen: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Boxes (rows, columns, 4) of what units see, and which see anything."""
    boxes = []
    for axis in (3, 2):
        along = seen.any(axis)
        n = along.shape[-1]
        boxes.append((along.argmax(-1), n - along[..., ::-1].argmax(-1)))
    (top, bottom), (left, right) = boxes
    return np.stack([top, left, bottom, right], -1), seen.any((2, 3))


def positive(network: nn.Module) -> nn.Module:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
    return network.eval()


def boxes(field: ReceptiveField) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Clipped boxes of all units, and whether each lies inside."""
    rows, columns = np.indices((field.rows.n_units, field.columns.n_units))
    return np.stack(field.clipped_box(rows, columns), -1), field.is_inside(rows, columns)


def convolution(**options: Any) -> nn.Module:
    return nn.Conv2d(3, 3, bias=False, **options)


@st.composite
def flush_stacks(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, int]]:
    """Stacks whose strides leave no position over, with the size of their images: drawn from the last layer on."""
    sizes, layers = [draw(st.integers(1, 3)) for _ in range(2)], []
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["conv", "max", "avg"]))
        kernel, stride, padding, dilation = [], [], [], []
        for axis in range(2):
            k, s = draw(st.integers(1, 4)), draw(st.integers(1, 3))
            d = draw(st.integers(1, 2)) if kind != "avg" else 1
            # padding only where positions lie dense: a dilated window may jump over the first
            p = draw(st.integers(0, k // 2)) if d == 1 else 0
            size = (sizes[axis] - 1) * s + d * (k - 1) + 1 - 2 * p
            if size < 1:
                p, size = 0, size + 2 * p
            sizes[axis] = size
            for options, value in zip((kernel, stride, padding, dilation), (k, s, p, d), strict=True):
                options.append(value)
        given = {"kernel_size": tuple(kernel), "stride": tuple(stride), "padding": tuple(padding)}
        if kind != "avg":
            given["dilation"] = tuple(dilation)
        made = {"conv": convolution, "max": nn.MaxPool2d, "avg": nn.AvgPool2d}[kind](**given)
        layers.insert(0, nn.Sequential(made, nn.ReLU()))
    return positive(nn.Sequential(*layers)), (sizes[0], sizes[1])


@settings(max_examples=60, deadline=None)
@given(flush_stacks())
def test_boxes_are_what_units_see(made: tuple[nn.Module, tuple[int, int]]) -> None:
    network, size = made
    last = str(len(network) - 1)  # type: ignore[arg-type]
    field = receptive_fields(network, [last], torch.zeros(1, 3, *size))[last]
    found, seeing = extents(seen_pixels(network, size))
    assert seeing.all()
    np.testing.assert_array_equal(boxes(field)[0], found)


@st.composite
def stacks(draw: st.DrawFn) -> nn.Module:
    """Stacks of any options, in which strides may leave positions over."""
    layers: list[nn.Module] = []
    for _ in range(draw(st.integers(1, 3))):
        pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
        kernel, stride = draw(pair), draw(pair)
        half = st.tuples(*(st.integers(0, k // 2) for k in kernel))
        ceil_mode = draw(st.booleans())
        match draw(st.sampled_from(["conv", "same", "valid", "max", "avg"])):
            case "conv":
                padding = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
                layers.append(convolution(kernel_size=kernel, stride=stride, padding=padding, dilation=draw(pair)))
            case "max":
                layers.append(nn.MaxPool2d(kernel, stride, draw(half), draw(pair), ceil_mode=ceil_mode))
            case "avg":
                layers.append(nn.AvgPool2d(kernel, stride, draw(half), ceil_mode=ceil_mode))
            case mode:
                layers.append(convolution(kernel_size=kernel, padding=mode, dilation=draw(pair)))
    return positive(nn.Sequential(*layers))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
@settings(max_examples=80, deadline=None)
@given(stacks(), st.tuples(st.integers(15, 20), st.integers(15, 20)))
def test_boxes_miss_nothing_and_are_exact_inside(network: nn.Module, size: tuple[int, int]) -> None:
    try:
        seen = seen_pixels(network, size)
    except RuntimeError:  # an image too small for its kernels
        return
    last = str(len(network) - 1)  # type: ignore[arg-type]
    field = receptive_fields(network, [last], torch.zeros(1, 3, *size))[last]
    (clipped, inside), (found, seeing) = boxes(field), extents(seen)
    np.testing.assert_array_equal(clipped[inside], found[inside])
    assert (clipped[seeing][:, :2] <= found[seeing][:, :2]).all()
    assert (clipped[seeing][:, 2:] >= found[seeing][:, 2:]).all()


class Branches(nn.Module):
    """Two stacks whose responses are joined."""

    def __init__(self, first: nn.Module, second: nn.Module, join: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second, self.join = first, second, join

    def forward(self, x: Tensor) -> Tensor:
        return self.join(self.first(x), self.second(x))


class Holding(nn.Module):
    """A function as a module, in a network whose layers are `before`, `made` and `behind`."""

    def __init__(self, function: Callable[[Tensor], Tensor], before: nn.Module | None = None) -> None:
        super().__init__()
        self.before = before or convolution(kernel_size=3, stride=2, padding=1)
        self.made = Applied(function)

    def forward(self, x: Tensor) -> Tensor:
        return self.made(self.before(x))


class Applied(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


@pytest.mark.parametrize("join", [operator.add, torch.maximum, operator.iadd, lambda x, y: torch.cat([x, y], 1)])
def test_branches_are_united(join: Callable[[Tensor, Tensor], Tensor]) -> None:
    # one reaches further up and left, the other further down and right
    first = convolution(kernel_size=(5, 3), stride=2, padding=(2, 1))
    second = nn.Sequential(nn.ZeroPad2d((0, 2, 0, 2)), convolution(kernel_size=4, stride=2))
    network = positive(nn.Sequential(Branches(first, second, join), nn.ReLU()))
    image = torch.zeros(1, 3, 12, 14)
    found = receptive_fields(network, ["0.first", "0.second", "1"], image)
    one, other, both = ((field.rows, field.columns) for field in found.values())
    assert [(axis.start, axis.size) for axis in one] == [(-2, 5), (-1, 3)]
    assert [(axis.start, axis.size) for axis in other] == [(0, 4), (0, 4)]
    assert [(axis.start, axis.size, axis.stride) for axis in both] == [(-2, 6, 2), (-1, 5, 2)]
    clipped, inside = boxes(found["1"])
    seen = extents(seen_pixels(network, (12, 14)))[0]
    np.testing.assert_array_equal(clipped[inside], seen[inside])


def test_branches_of_other_strides_have_the_whole_image() -> None:
    first, second = convolution(kernel_size=2, stride=2), Applied(lambda x: x[:, :, :4, :4])
    network = Branches(first, second, torch.add).eval()
    field = receptive_fields(nn.Sequential(network), ["0"], torch.zeros(1, 3, 8, 8))["0"]
    assert field.whole_image
    assert field.why == "'add' in layer '0' joins maps whose strides differ (1 and 2 px)"
    assert (field.rows.n_units, field.columns.n_units) == (4, 4)


def parts_of_channels(x: Tensor) -> Tensor:
    first, second, third = x.chunk(3, 1)
    return first - second * third


KEPT: dict[str, tuple[Callable[[Tensor], Tensor], Numbers]] = {
    "the map before": (lambda x: x, (3, 2, 0)),
    "pointwise": (lambda x: functional.gelu(x * 2 + 1).clamp_(0).to(torch.float32).contiguous(), (3, 2, 0)),
    "a constant": (lambda x: torch.ones(3, 1, 1) - x, (3, 2, 0)),
    "slicing": (lambda x: x[..., ::2, ::2], (3, 4, 0)),
    "slicing from the second": (lambda x: x[:, :, 1:-1, 1:-1], (3, 2, 2)),
    "one channel": (lambda x: x[:, 0].unsqueeze(1), (3, 2, 0)),
    "padding in front": (lambda x: functional.pad(x, (1, 0, 1, 0)), (3, 2, -2)),
    "padding behind": (lambda x: functional.pad(x, (0, 1, 0, 1)), (3, 2, 0)),
    "cropping": (lambda x: functional.pad(x, (-1, -1, -1, -1)), (3, 2, 2)),
    "channels of zeros": (lambda x: functional.pad(x, (0, 0, 0, 0, 1, 1)), (3, 2, 0)),
    "over channels": (lambda x: torch.cat([x.mean(1, keepdim=True), x.amax(dim=(1,), keepdim=True)], 1), (3, 2, 0)),
    "parts of channels": (parts_of_channels, (3, 2, 0)),
    "a maximum and its place": (lambda x: x.max(1, keepdim=True)[0], (3, 2, 0)),
    "softmax of channels": (lambda x: functional.softmax(x, dim=1), (3, 2, 0)),
    "shuffled channels": (lambda x: x.view(1, 3, 1, 16, 16).transpose(1, 2).reshape(1, 3, 16, 16), (3, 2, 0)),
    "a function": (lambda x: functional.conv2d(x, torch.ones(2, 3, 3, 3), None, 2, (2, 2), dilation=2), (11, 4, 0)),
    "a pool": (lambda x: functional.max_pool2d(x, 2), (5, 4, 1)),
    "a pool by name": (lambda x: functional.avg_pool2d(x, kernel_size=3, stride=1, padding=1), (7, 2, 0)),
    "adaptive": (lambda x: functional.adaptive_avg_pool2d(x, 4), (9, 8, 3)),
    "adaptive, as it was": (lambda x: functional.adaptive_max_pool2d(x, (None, 16)), (3, 2, 0)),
}
MODULES: dict[str, tuple[nn.Module, Numbers]] = {
    "batch norm": (nn.BatchNorm2d(3), (3, 2, 0)),
    "response norm": (nn.LocalResponseNorm(2), (3, 2, 0)),
    "drop-out": (nn.Dropout2d(), (3, 2, 0)),
    "rectifiers": (nn.Sequential(nn.PReLU(), nn.SELU(inplace=True), nn.Identity(), nn.Softmax2d()), (3, 2, 0)),
    "same, odd one behind": (convolution(kernel_size=4, padding="same"), (9, 2, 1)),
    "mirrored": (convolution(kernel_size=3, padding=1, padding_mode="reflect"), (7, 2, 0)),
    "adaptive": (nn.AdaptiveAvgPool2d((8, 8)), (5, 4, 1)),
    "p-norms": (nn.LPPool2d(2, 3, stride=2), (7, 4, 2)),
    "padded": (nn.ConstantPad2d((2, 0, 2, 0), 0.5), (3, 2, -4)),
}


@pytest.mark.parametrize("case", KEPT)
def test_functions(case: str) -> None:
    function, expected = KEPT[case]
    assert numbers(receptive_fields(Holding(function).eval(), ["made"], torch.zeros(1, 3, 32, 32))["made"]) == expected


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
@pytest.mark.parametrize("case", MODULES)
def test_modules(case: str) -> None:
    module, expected = MODULES[case]
    network = nn.Sequential(convolution(kernel_size=3, stride=2, padding=1), module).eval()
    assert numbers(receptive_fields(network, ["1"], torch.zeros(1, 3, 32, 32))["1"]) == expected


def attention(x: Tensor) -> Tensor:
    tokens = x.flatten(2).transpose(1, 2)
    return functional.scaled_dot_product_attention(tokens, tokens, tokens)


TOGETHER = "reads all positions together"
WHOLE: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "flatten": (lambda x: torch.flatten(x, 1), f"'flatten' in layer 'made' {TOGETHER}"),
    "view": (lambda x: x.view(1, -1), f"'view' in layer 'made' {TOGETHER}"),
    "mean": (lambda x: x.mean([2, 3]), f"'mean' in layer 'made' {TOGETHER}"),
    "mean of all": (lambda x: x.mean(), f"'mean' in layer 'made' {TOGETHER}"),
    "maximum over rows": (lambda x: x.amax(-2), f"'amax' in layer 'made' {TOGETHER}"),
    "linear": (lambda x: functional.linear(x, torch.ones(5, 15)), f"'linear' in layer 'made' {TOGETHER}"),
    "softmax of a row": (lambda x: x.softmax(-1), f"'softmax' in layer 'made' {TOGETHER}"),
    "attention": (attention, f"'flatten' in layer 'made' {TOGETHER}"),
    "global pool": (
        lambda x: functional.adaptive_avg_pool2d(x, 1),
        f"'adaptive_avg_pool2d' in layer 'made' {TOGETHER}",
    ),
    "a gate": (lambda x: x * functional.adaptive_avg_pool2d(x, 1).sigmoid(), "'adaptive_avg_pool2d' in layer 'made'"),
    "uneven": (lambda x: functional.adaptive_avg_pool2d(x, 7), "pools 16 positions in 7 windows that are not of one"),
    "a single place": (lambda x: x[:, :, 3, 3], f"'getitem' in layer 'made' {TOGETHER}"),
    "spread": (lambda x: x + x[:, :, 3:4, 3:4], "'add' in layer 'made' spreads a map over another's positions"),
    "wrapped": (lambda x: functional.pad(x, (1, 1, 1, 1), mode="circular"), "pads a map with what is elsewhere in it"),
    "turned": (lambda x: x.transpose(2, 3), "moves rows and columns to other axes"),
    "channels last": (lambda x: x.permute(0, 2, 3, 1), "moves rows and columns to other axes"),
    "side by side": (lambda x: torch.cat([x, x], -1), f"'cat' in layer 'made' {TOGETHER}"),
    "larger": (lambda x: functional.interpolate(x, scale_factor=2), "'interpolate' in layer 'made' is no operation"),
    "rolled": (lambda x: torch.roll(x, 1, 2), "'roll' in layer 'made' is no operation whose field is known"),
}
WHOLE_MODULES: dict[str, tuple[nn.Module, str]] = {
    "transposed": (nn.ConvTranspose2d(3, 3, 2, 2), "layer '1' (ConvTranspose2d) is no operation whose field is known"),
    "group norm": (nn.GroupNorm(1, 3), f"layer '1' (GroupNorm) {TOGETHER}"),
    "own statistics": (nn.BatchNorm2d(3, track_running_stats=False), f"layer '1' (BatchNorm2d) {TOGETHER}"),
    "wrapped": (convolution(kernel_size=3, padding=1, padding_mode="circular"), "(circular)"),
    "mirrored": (convolution(kernel_size=3, padding=2, padding_mode="reflect"), "(reflect)"),
}


@pytest.mark.parametrize("case", WHOLE)
def test_functions_with_the_whole_image(case: str) -> None:
    function, why = WHOLE[case]
    field = receptive_fields(Holding(function).eval(), ["made"], torch.zeros(1, 3, 32, 30))["made"]
    assert field.whole_image
    assert why in field.why
    assert [int(edge) for edge in field.box(0, 0)] == [0, 0, 32, 30]


@pytest.mark.parametrize("case", WHOLE_MODULES)
def test_modules_with_the_whole_image(case: str) -> None:
    module, why = WHOLE_MODULES[case]
    network = nn.Sequential(convolution(kernel_size=3, stride=2, padding=1), module, nn.ReLU()).eval()
    field = receptive_fields(network, ["2"], torch.zeros(1, 3, 32, 32))["2"]
    assert field.whole_image
    assert why in field.why
    assert field.is_inside([0, 1], [1, 5]).all()


def test_layers_within_a_module_of_torch() -> None:
    tokens = Holding(lambda x: x.flatten(2).transpose(1, 2), nn.Conv2d(3, 8, 4, 4))
    network = nn.Sequential(tokens, nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)).eval()
    found = receptive_fields(network, ["1", "1.linear1"], torch.zeros(1, 3, 16, 16))
    assert found["1"].why == "'flatten' in layer '0.made' reads all positions together"
    assert found["1.linear1"].why == "layer '1.linear1' is part of a module that is followed as a whole"


class OverwrittenLater(nn.Module):
    """A response that is overwritten by a statement, and returned by its first name."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = convolution(kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        y.add_(functional.avg_pool2d(y, 3, 1, 1))
        return y


def test_what_is_written_in_place_is_followed() -> None:
    network = nn.Sequential(OverwrittenLater()).eval()
    assert numbers(receptive_fields(network, ["0"], torch.zeros(1, 3, 8, 8))["0"]) == (3, 1, 0)


# --- on gradients ---------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(flush_stacks(), st.data())
def test_gradients_reach_as_far_as_boxes(made: tuple[nn.Module, tuple[int, int]], data: st.DataObject) -> None:
    network, size = made
    for block in network.children():
        assert isinstance(block, nn.Sequential)
        pool = block[0]
        if isinstance(pool, nn.MaxPool2d):  # its gradient is that of a single pixel
            options = {name: getattr(pool, name) for name in ("kernel_size", "stride", "padding", "dilation")}
            block[0] = positive(convolution(**options))
        block[1] = nn.Softplus()
    image, last = torch.zeros(1, 3, *size), str(len(network) - 1)  # type: ignore[arg-type]
    field = receptive_fields(network, [last], image)[last]
    row = data.draw(st.integers(0, field.rows.n_units - 1))
    column = data.draw(st.integers(0, field.columns.n_units - 1))
    found = empirical_field(network, last, image, (row, column), n_images=1)
    assert tuple(found) == tuple(field.clipped_box(row, column))


@pytest.mark.parametrize("layer", ["conv1", "conv2.0", "conv3", "conv6"])
def test_gradients_of_a_network_with_rectifiers_and_maxima(layer: str) -> None:
    network = build_network(find_network("embedded"), 0).eval()
    image = torch.zeros(1, 3, 48, 40)
    field = receptive_fields(network, [layer], image)[layer]
    for position in ((0, 0), (field.rows.n_units // 2, field.columns.n_units // 2), (1, field.columns.n_units - 1)):
        assert tuple(empirical_field(network, layer, image, position)) == tuple(field.clipped_box(*position))


class Untraceable(nn.Module):
    """A forward pass that depends on values, which torch.fx cannot trace."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.linear = network, nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.network(x * 2 if bool(x.sum() > 1e9) else x)
        return self.linear(x.mean((2, 3)))


def test_a_network_that_cannot_be_traced_is_measured() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        inner = nn.Sequential(
            nn.Conv2d(3, 8, (5, 3), 2, padding=(2, 1)), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(8, 4, 3, padding=1)
        )
        network = Untraceable(inner).eval()
    image = torch.zeros(1, 3, 60, 48)
    names = [f"{place}" for place in range(4)]
    expected = receptive_fields(inner, names, image)
    found = receptive_fields(network, [*(f"network.{name}" for name in names), "network", "linear"], image)
    for name in names:
        field = found[f"network.{name}"]
        assert field.measured
        assert "cannot be traced by torch.fx" in field.why
        assert "measured on gradients in 8 random images" in field.why
        assert (field.rows, field.columns) == (expected[name].rows, expected[name].columns)
    assert found["network"] == found["network.3"]
    assert found["linear"].whole_image
    assert "cannot be traced" in found["linear"].why


def test_fields_that_gradients_do_not_tell_are_the_whole_image() -> None:
    image = torch.zeros(1, 3, 8, 8)
    wide = Untraceable(nn.Conv2d(3, 4, 15, padding=7)).eval()
    field = receptive_fields(wide, ["network"], image)["network"]
    assert (field.whole_image, field.measured, field.rows.n_units) == (True, False, 8)
    assert "do not tell size and spacing" in field.why
    enlarging = Untraceable(nn.Sequential(nn.Upsample(scale_factor=1.5), nn.Conv2d(3, 4, 3))).eval()
    assert receptive_fields(enlarging, ["network"], torch.zeros(1, 3, 20, 20))["network"].whole_image


# --- what cannot be done --------------------------------------------------------------------------------------------


class Constant(nn.Module):
    """A layer that is shown a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.own, self.bias = nn.ReLU(), nn.Parameter(torch.ones(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.own(self.bias)


def test_errors() -> None:
    image = torch.zeros(1, 3, 16, 16)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    mean = network[1].running_mean
    with pytest.raises(SubjectError, match=r"layer '1' \(BatchNorm2d\) is in training mode.*network.eval"):
        receptive_fields(network, ["0"], image)
    assert isinstance(mean, Tensor)
    assert not mean.any()
    network.eval()
    with pytest.raises(UnknownNameError, match="unknown layer 'conv'"):
        receptive_fields(network, ["conv"], image)
    resnet = models.resnet18().eval()
    with pytest.raises(UnknownNameError, match=r"is called 2 times per image: say which, as layer1\.0\.relu#0"):
        receptive_fields(resnet, ["layer1.0.relu"], torch.zeros(1, 3, 64, 64))
    parts = nn.Sequential(Applied(lambda x: x.chunk(3, 1)), Applied(operator.itemgetter(0))).eval()
    with pytest.raises(SubjectError, match=r"layer '0' \(Applied\) does not return one tensor"):
        receptive_fields(parts, ["0"], image)
    with pytest.raises(SubjectError, match="layer 'own' is not made of the image: take another"):
        receptive_fields(Constant().eval(), ["own"], image)


def test_errors_of_gradients() -> None:
    image = torch.zeros(1, 3, 16, 16)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Threshold(1e9, 0.0), nn.Flatten(), nn.Linear(784, 2)).eval()
    with pytest.raises(SubjectError, match=r"layer '0' gives \(4, 14, 14\) per image, and has no unit at \(14, 0\)"):
        empirical_field(network, "0", image, (14, 0))
    with pytest.raises(SubjectError, match=r"layer '3' gives \(2,\) per image, and has no unit at \(0, 0\) of a map"):
        empirical_field(network, "3", image, (0, 0))
    with pytest.raises(ResponseError, match=r"layer '1': no pixel has a gradient on the units at \(2, 3\) in 8 random"):
        empirical_field(network, "1", image, (2, 3))
    detached = nn.Sequential(Applied(lambda x: x.detach()), nn.ReLU()).eval()
    with pytest.raises(SubjectError, match="layer '1' has no gradients"):
        empirical_field(detached, "1", image, (0, 0))


def test_boxes_of_many_units() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, (3, 5), stride=(1, 2), padding=1)).eval()
    field = receptive_fields(network, ["0"], torch.zeros(1, 3, 9, 11))["0"]
    rows, columns = np.indices((field.rows.n_units, field.columns.n_units))
    many, clipped = field.box(rows, columns), field.clipped_box(rows, columns)
    assert many.top.shape == (9, 5)
    for row, column in ((0, 0), (3, 2), (8, 4)):
        assert [edge[row, column] for edge in many] == list(field.box(row, column))
        assert list(field.box(row, column)) == [row - 1, 2 * column - 1, row + 2, 2 * column + 4]
        assert [edge[row, column] for edge in clipped] == [
            max(row - 1, 0), max(2 * column - 1, 0), min(row + 2, 9), min(2 * column + 4, 11)
        ]  # fmt: skip
    assert field.is_inside(rows, columns).sum() == field.rows.n_inside * field.columns.n_inside == 7 * 3
    assert field.box(1, [0, 1]).top.tolist() == [0, 0]
