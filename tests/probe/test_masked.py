"""Forward passes under many masks: the same outputs as of whole passes of the lesioned network, one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from neuroprobe.errors import SubjectError
from neuroprobe.probe import masked
from neuroprobe.probe.capture import list_layers
from neuroprobe.probe.lesion import INTACT, Lesion, lesioned
from neuroprobe.probe.masked import MaskedPasses
from neuroprobe.subjects.networks import find_network
from neuroprobe.subjects.subject import build_network

IMAGES = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(2))


class Skipping(nn.Module):
    """A rectifier at two places, in place, and a sum of what comes before and behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1)
        self.relu, self.linear = nn.ReLU(inplace=True), nn.Linear(4, 5)
        self.scale = nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor) -> Tensor:
        before = self.relu(self.conv1(x))
        return self.linear((self.relu(self.conv2(before)) + self.scale * before).mean((2, 3)))


class Branching(nn.Module):
    """A forward pass that depends on values, which torch.fx cannot trace."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).relu()
        return self.linear(x.mean((2, 3)) if bool(x.sum() > 0) else x.amax((2, 3)))


def made(network: nn.Module) -> nn.Module:
    return network.eval().requires_grad_(False)


def own(kind: type[nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return made(kind())


def shapes_of(network: nn.Module, layers: Sequence[str]) -> dict[str, tuple[int, ...]]:
    found = {one.address: one.shape for one in list_layers(network, IMAGES[:1])}
    return {layer: found[layer] or () for layer in layers}


def random_masks(shapes: Mapping[str, Sequence[int]], n: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.rand((n, *shape), generator=generator).round_(decimals=1) for shape in shapes.values()]


def one_by_one(network: nn.Module, layers: Sequence[str], masks: Sequence[Tensor], lesion: Lesion = INTACT) -> Tensor:
    outputs = []
    for number in range(len(masks[0])):
        own = Lesion({layer: mask[number].numpy() for layer, mask in zip(layers, masks, strict=True)})
        with torch.no_grad(), lesioned(network, lesion * own) as changed:
            outputs.append(changed(IMAGES))
    return torch.stack(outputs)


CASES: dict[str, tuple[str | type[nn.Module], list[str]]] = {
    "stages": ("cifar_resnet20", ["layer1.2", "layer2.2", "layer3.2"]),
    "whole stages": ("cifar_resnet20", ["layer1", "layer3"]),
    "listed out of order": ("cifar_resnet20", ["layer3.2", "layer1.2"]),
    "within a block": ("cifar_resnet20", ["layer2.1.conv1"]),
    "outputs": ("cifar_resnet20", ["linear"]),
    "embedded": ("embedded", ["conv1", "conv3", "linear"]),
    "calls of one module": (Skipping, ["relu#0", "relu#1"]),
    "the second call": (Skipping, ["relu#1"]),
    "a skip connection across": (Skipping, ["conv2"]),
    "in place behind": (Skipping, ["conv1", "conv2"]),
}


@pytest.mark.parametrize("case", CASES)
def test_outputs_are_those_of_the_lesioned_network(case: str) -> None:
    network, layers = CASES[case]
    network = made(build_network(find_network(network), 0)) if isinstance(network, str) else own(network)
    shapes = shapes_of(network, layers)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    passes = MaskedPasses(network, shapes, IMAGES)
    assert passes.shares, passes.why
    masks = random_masks(shapes, 4)
    with torch.no_grad():
        values = passes.before(IMAGES)
        found = passes.outputs(values, masks)
        again = passes.outputs(values, masks)
    torch.testing.assert_close(found, one_by_one(network, layers, masks), atol=1e-5, rtol=1e-5)
    # what comes before is not touched by what comes behind, in place or not
    assert torch.equal(found, again)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not sum(len(module._forward_hooks) for module in network.modules())


def test_nothing_before_a_mask_is_computed_again() -> None:
    network = made(build_network(find_network("cifar_resnet20"), 0))
    calls: list[str] = []
    for name in ("conv1", "layer1.0", "layer1.2", "layer2.0", "layer3.2", "linear"):
        network.get_submodule(name).register_forward_hook(lambda *_, name=name: calls.append(name))
    shapes = shapes_of(network, ["layer2.2", "layer3.2"])
    passes = MaskedPasses(network, shapes, IMAGES)
    calls.clear()
    with torch.no_grad():
        values = passes.before(IMAGES)
        assert calls == ["conv1", "layer1.0", "layer1.2", "layer2.0"]
        for _ in range(3):
            calls.clear()
            passes.outputs(values, random_masks(shapes, 2))
            assert calls == ["layer3.2", "linear"]
    assert sum(value.shape[1:].numel() for value in values) == 32 * 16 * 16


def test_masks_of_ones_change_nothing() -> None:
    network = made(build_network(find_network("cifar_resnet20"), 0))
    shapes = shapes_of(network, ["layer1.2", "layer3.2"])
    passes = MaskedPasses(network, shapes, IMAGES)
    with torch.no_grad():
        found = passes.outputs(passes.before(IMAGES), [torch.ones(1, *shape) for shape in shapes.values()])
        assert torch.equal(found[0], network(IMAGES))


@pytest.mark.parametrize("layers", [["conv2"], ["conv3", "conv5"]])
def test_a_lesion_of_the_subject_stays_in_the_network(layers: list[str]) -> None:
    network = made(build_network(find_network("embedded"), 0))
    shapes = shapes_of(network, ["conv1", "conv3", "conv4"])
    lesion = Lesion({layer: (torch.arange(64).repeat(99999)[: torch.Size(shape).numel()].view(shape) % 3 > 0).numpy()
                     for layer, shape in shapes.items()})  # fmt: skip
    passes = MaskedPasses(network, shapes_of(network, layers), IMAGES, lesion)
    assert passes.shares
    masks = random_masks(shapes_of(network, layers), 3)
    with torch.no_grad():
        found = passes.outputs(passes.before(IMAGES), masks)
    torch.testing.assert_close(found, one_by_one(network, layers, masks, lesion), atol=1e-5, rtol=1e-5)
    assert float((found - one_by_one(network, layers, masks)).abs().max()) > 1e-4


@pytest.mark.parametrize(
    ("network", "layers", "why"),
    [
        (Branching, ["conv"], "Branching cannot be cut, as its forward pass cannot be traced"),
        ("cifar_resnet20", ["layer2", "layer2.0.conv2"], "layer 'layer2' holds another masked layer"),
    ],
)
def test_a_network_that_cannot_be_cut_runs_as_a_whole(network: object, layers: list[str], why: str) -> None:
    one = own(network) if isinstance(network, type) else made(build_network(find_network(str(network)), 0))
    shapes = shapes_of(one, layers)
    passes = MaskedPasses(one, shapes, IMAGES)
    assert not passes.shares
    assert why in passes.why
    masks = random_masks(shapes, 3)
    with torch.no_grad():
        found = passes.outputs(passes.before(IMAGES), masks)
    assert torch.equal(found, one_by_one(one, layers, masks))


def test_a_cut_that_gives_something_else_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(nn.Module):
        def __init__(self, behind: nn.Module) -> None:
            super().__init__()
            self.behind = behind

        def forward(self, *values: Tensor) -> Tensor:
            return self.behind(*values) * 1.01

    cut = masked.cut_network
    monkeypatch.setattr(masked, "cut_network", lambda *given: replace(cut(*given), behind=Wrong(cut(*given).behind)))
    network = own(Skipping)
    passes = MaskedPasses(network, shapes_of(network, ["conv2"]), IMAGES)
    assert not passes.shares
    assert passes.why == "Skipping gives other outputs when its forward pass is cut"


def test_masks_without_effect_are_refused() -> None:
    class Unused(Skipping):
        def forward(self, x: Tensor) -> Tensor:
            self.conv2(self.conv1(x))
            return self.linear(self.conv1(x).mean((2, 3)))

    network = own(Unused)
    with pytest.raises(SubjectError, match="silencing 'conv2' does not change the outputs of the network"):
        MaskedPasses(network, shapes_of(network, ["conv2"]), IMAGES)
