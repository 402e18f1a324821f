"""Relevance of channels: the closed form against the network that runs again with each channel silenced by a hook."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from neuroprobe.errors import SubjectError, UnknownNameError
from neuroprobe.probe.adjacent import find_convolution
from neuroprobe.probe.capture import list_layers
from neuroprobe.probe.lesion import lesioned
from neuroprobe.probe.relevance import Places, channel_relevance, silenced_responses
from neuroprobe.probe.replaced import ReplacedPasses
from neuroprobe.statistics.unit_relations import relevance_of
from neuroprobe.subjects.networks import find_network
from neuroprobe.subjects.subject import build_network

IMAGES = torch.rand(9, 3, 17, 19, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
N_TOP = 5


def made(*layers: nn.Module) -> nn.Module:
    """A network in double precision whose normalisations are those of a trained one."""
    network = nn.Sequential(*layers).double().eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(7)
    for module in network.modules():
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            if tensor.is_floating_point():
                tensor.copy_(torch.randn(tensor.shape, generator=generator, dtype=torch.float64) * 0.3)
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_var.abs_().add_(0.1)
            module.weight.add_(0.5)
    return network


def response(network: nn.Module, layer: str, silent: tuple[str, int] | None = None) -> Tensor:
    """Response of a layer, with a channel of another set to 0 by a hook."""
    found, handles = [], []
    if silent:

        def silence(module: nn.Module, args: object, output: Tensor) -> Tensor:
            changed = output.clone()
            changed[:, silent[1]] = 0
            return changed

        handles.append(network.get_submodule(silent[0]).register_forward_hook(silence))
    handles.append(
        network.get_submodule(layer).register_forward_hook(lambda m, a, output: found.append(output.clone()))
    )
    network(IMAGES)
    for handle in handles:
        handle.remove()
    return found[0]


def places_of(maps: Tensor) -> Places:
    """Top stimuli of all units but the second, which are also shown in another order than they are numbered."""
    flat = maps.flatten(2) if maps.ndim > 2 else maps[..., None]
    peaks, at = flat.max(2)
    images = peaks.T.argsort(1, descending=True)[:, :N_TOP].numpy()
    units = np.array([0, *range(2, maps.shape[1])])
    at = np.take_along_axis(at.T.numpy(), images, 1)
    n_columns = maps.shape[3] if maps.ndim > 2 else 1
    return Places(units, images[units], at[units] // n_columns, at[units] % n_columns)


def read(maps: Tensor, places: Places) -> np.ndarray:
    maps = maps if maps.ndim > 2 else maps[..., None, None]
    return maps.numpy()[places.images, places.units[:, None], places.rows, places.columns]


def conv(*sizes: int, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(*sizes, **options)


class Averaging(nn.Module):
    """Means over some axes, as networks take them in a forward pass of their own."""

    def __init__(self, *axes: int) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, maps: Tensor) -> Tensor:
        return maps.mean(self.axes)


DIRECT: dict[str, Callable[[], list[nn.Module]]] = {
    "padded": lambda: [conv(4, 6, 3, padding=1), nn.ReLU()],
    "strided, in place": lambda: [conv(4, 6, (5, 3), stride=(2, 3), padding=(2, 0)), nn.ReLU(inplace=True)],
    "groups": lambda: [conv(4, 6, 3, padding=2, dilation=2, groups=2), nn.ReLU()],
    "depthwise": lambda: [conv(4, 8, 3, groups=4, bias=False), nn.ReLU()],
    "normalised": lambda: [conv(4, 6, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU()],
    "same": lambda: [conv(4, 6, (4, 3), padding="same", dilation=(1, 2)), nn.ReLU()],
    "valid": lambda: [conv(4, 6, 3, padding="valid"), nn.ReLU()],
    "behind a pool": lambda: [nn.MaxPool2d(3, 2, padding=1), nn.Dropout(), conv(4, 6, 3, padding=1), nn.ReLU()],
    "not rectified": lambda: [nn.AvgPool2d(2), conv(4, 6, 3)],
    "normalised alone": lambda: [conv(4, 6, 3), nn.BatchNorm2d(6)],
    "linear": lambda: [nn.MaxPool2d(3), nn.Flatten(), nn.Linear(4 * 5 * 5, 6), nn.BatchNorm1d(6), nn.ReLU()],
    "averaged": lambda: [Averaging(2, 3), nn.Linear(4, 6)],
    "averaged, from behind": lambda: [Averaging(-2, -1), nn.Linear(4, 6), nn.ReLU()],
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
@pytest.mark.parametrize("case", DIRECT)
@pytest.mark.parametrize("earlier", ["1", "0"])  # rectified, and before
def test_closed_form_is_what_the_network_does(case: str, earlier: str) -> None:
    network = made(conv(3, 4, 3), nn.ReLU(), *DIRECT[case]())
    layer = str(len(network) - 1)
    places = places_of(response(network, layer))
    expected = np.stack([read(response(network, layer, (earlier, channel)), places) for channel in range(4)])
    original = read(response(network, layer), places)
    passes = ReplacedPasses(network, earlier, IMAGES[:2], layer)
    convolution = find_convolution(network, layer, earlier, passes.shape)
    assert not isinstance(convolution, str), convolution
    for way, batch in ((convolution, 4), ("by hand", 4), ("by hand", 100)):
        found = silenced_responses(passes, way, IMAGES.__getitem__, places, batch)
        np.testing.assert_allclose(found[0], original, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(found[1], expected, rtol=1e-9, atol=1e-12)
        assert found[2] == ("by hand" if way == "by hand" else "")
    relevance = channel_relevance(network, layer, earlier, IMAGES.__getitem__, places)
    assert relevance.closed_form
    slow = relevance_of(original, expected)
    for name, values in vars(relevance.relevance).items():
        np.testing.assert_allclose(values, vars(slow)[name], rtol=1e-6, atol=1e-9)
    assert np.nanmax(slow.absolute) > 0.1


def test_the_closed_form_in_single_precision() -> None:
    network = build_network(find_network("embedded"), 0).eval().requires_grad_(False)
    images = torch.rand(12, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    rng = np.random.default_rng(0)
    image = np.argsort(rng.random((64, 12)), axis=1)[:, :6]
    shape = next(one.shape for one in list_layers(network, images) if one.address == "conv2.2")
    assert shape is not None
    places = Places(np.arange(shape[0])[:64], image[: shape[0]], *rng.integers(0, shape[1], (2, min(shape[0], 64), 6)))
    passes = ReplacedPasses(network, "conv1.2", images[:2], "conv2.2")
    convolution = find_convolution(network, "conv2.2", "conv1.2", passes.shape)
    assert not isinstance(convolution, str), convolution
    fast, slow = (silenced_responses(passes, way, images.__getitem__, places) for way in (convolution, "slow"))
    scale = np.abs(slow[0]).max()
    assert scale > 0
    for one, other in zip(fast[:2], slow[:2], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6 * scale)


INDIRECT: dict[str, tuple[Callable[[], list[nn.Module]], str]] = {
    "normalised over channels": (
        lambda: [nn.LocalResponseNorm(3), conv(4, 6, 3), nn.ReLU()],
        "layer '2' (LocalResponseNorm) lies between",
    ),
    "two convolutions": (
        lambda: [conv(4, 5, 3), nn.ReLU(), conv(5, 6, 3), nn.ReLU()],
        "2 convolutions or linear layers lie between, expected one",
    ),
    "another rectifier": (
        lambda: [conv(4, 6, 3), nn.LeakyReLU()],
        "layer '3' (LeakyReLU) lies behind the convolution, expected a rectifier alone",
    ),
    "pooled": (lambda: [conv(4, 6, 3), nn.ReLU(), nn.MaxPool2d(2)], "layer '3' (ReLU) lies behind the convolution"),
    "mirrored": (lambda: [conv(4, 6, 3, padding=1, padding_mode="reflect"), nn.ReLU()], "pads with 'reflect'"),
    "a bias before": (lambda: [nn.BatchNorm2d(4), conv(4, 6, 3), nn.ReLU()], "layer '2' (BatchNorm2d) lies between"),
    "averaged over channels": (lambda: [Averaging(1, 2), nn.Linear(17, 6)], "'mean' in layer '2' lies between"),
    "along a row": (lambda: [nn.Linear(17, 6)], "layer '2' (Linear) takes a map that is not flattened"),
}


@pytest.mark.parametrize("case", INDIRECT)
def test_anything_else_runs_once_for_each_channel(case: str) -> None:
    build, why = INDIRECT[case]
    network = made(conv(3, 4, 3), nn.ReLU(), *build())
    layer = str(len(network) - 1)
    places = places_of(response(network, layer))
    found = channel_relevance(network, layer, "1", IMAGES.__getitem__, places, batch=4)
    assert not found.closed_form
    assert why in found.why
    original = read(response(network, layer), places)
    ablated = np.stack([read(response(network, layer, ("1", channel)), places) for channel in range(4)])
    slow = relevance_of(original, ablated)
    for name, values in vars(found.relevance).items():
        np.testing.assert_allclose(values, vars(slow)[name], rtol=1e-9, atol=1e-12)


def test_branches_and_lesions_have_no_closed_form() -> None:
    network = build_network(find_network("cifar_resnet20"), 0).eval().requires_grad_(False)
    images = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    rng = np.random.default_rng(1)
    places = Places(np.arange(5), np.tile(np.arange(6), (5, 1)), *rng.integers(0, 32, (2, 5, 6)))
    # the first convolution of a block sees the block before it, its sum takes a shortcut
    direct = channel_relevance(network, "layer1.1.bn1", "layer1.0", images.__getitem__, places)
    assert direct.closed_form
    joined = channel_relevance(network, "layer1.1", "layer1.0", images.__getitem__, places)
    assert not joined.closed_form
    assert "takes 2 values" in joined.why
    mask = np.ones((16, 32, 32))
    mask[3:] = 0
    with lesioned(network, {"layer1.0": mask}):
        found = channel_relevance(network, "layer1.1.bn1", "layer1.0", images.__getitem__, places)
    assert "has hooks" in found.why
    absolute = found.relevance.absolute[:, ~np.isnan(found.relevance.absolute).any(0)]
    assert (absolute[3:] == 0).all()
    assert (absolute[:3] > 0).all()
    assert absolute.size


def test_blocks_of_units_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    network = made(conv(3, 4, 3), nn.ReLU(), conv(4, 6, 3), nn.ReLU())
    places = places_of(response(network, "3"))
    whole = channel_relevance(network, "3", "1", IMAGES.__getitem__, places)
    monkeypatch.setattr("neuroprobe.probe.relevance.MAX_VALUES", 4 * N_TOP * 2)
    parts = channel_relevance(network, "3", "1", IMAGES.__getitem__, places, batch=2)
    for name, values in vars(whole.relevance).items():
        np.testing.assert_allclose(vars(parts.relevance)[name], values, rtol=1e-12)


def test_a_convolution_that_does_not_explain_the_layer_is_not_believed() -> None:
    network = made(conv(3, 4, 3), nn.ReLU(), conv(4, 6, 3), nn.ReLU())
    places = places_of(response(network, "3"))
    passes = ReplacedPasses(network, "1", IMAGES[:2], "3")
    convolution = find_convolution(network, "3", "1", passes.shape)
    assert not isinstance(convolution, str)
    right = silenced_responses(passes, convolution, IMAGES.__getitem__, places)
    wrong = replace(convolution, shift=convolution.shift + 0.5)
    found = silenced_responses(passes, wrong, IMAGES.__getitem__, places)
    assert found[2] == "the layer responds otherwise than the convolution that was found"
    np.testing.assert_allclose(found[1], right[1], rtol=1e-9, atol=1e-12)


def test_layers_that_do_not_fit() -> None:
    network = made(conv(3, 4, 3), nn.ReLU(), conv(4, 6, 3), nn.ReLU(), nn.Flatten(2), nn.ReLU())
    places = places_of(response(network, "3"))
    with pytest.raises(UnknownNameError, match="unknown layer '9'"):
        channel_relevance(network, "3", "9", IMAGES.__getitem__, places)
    with pytest.raises(SubjectError, match="layer '3' does not come before '1'"):
        channel_relevance(network, "1", "3", IMAGES.__getitem__, places)
    with pytest.raises(SubjectError, match=r"layer '5' gives \(6, 195\) per image, expected \(channels,\) or"):
        channel_relevance(network, "5", "1", IMAGES.__getitem__, places)
