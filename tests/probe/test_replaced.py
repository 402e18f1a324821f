"""Forward passes with other responses of a layer: the same as of the network under hooks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from neuroprobe.errors import SubjectError, UnknownNameError
from neuroprobe.probe.capture import list_layers
from neuroprobe.probe.lesion import lesioned
from neuroprobe.probe.replaced import ReplacedPasses
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


class CountingBefore(Skipping):
    """Its number of images is read before the cut, and used behind it."""

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[0]
        return self.linear(self.conv2(self.conv1(x)).view(n, 4, -1).mean(2))


def made(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return build().eval().requires_grad_(False)


def resnet20() -> nn.Module:
    return build_network(find_network("cifar_resnet20"), 0)


def by_hooks(network: nn.Module, layer: str, until: str, images: Tensor, replaced: Tensor | None) -> Tensor:
    """Response of `until`, or the output, with the response of one call of a module replaced."""
    calls, found = {}, []

    def on_call(address: str, module: nn.Module, args: object, output: Tensor) -> Tensor | None:
        _name, _, number = address.partition("#")
        calls[address] = calls.get(address, -1) + 1
        if calls[address] != int(number or 0):
            return None
        if address == until:
            found.append(output.clone())
        return replaced if address == layer else None

    handles = [
        network.get_submodule(address.split("#")[0]).register_forward_hook(
            lambda *given, address=address: on_call(address, *given)
        )
        for address in {layer, until} - {""}
    ]
    output = network(images)
    for handle in handles:
        handle.remove()
    return found[0] if until else output


CASES: dict[str, tuple[Callable[[], nn.Module], str, str, bool]] = {
    "output": (resnet20, "layer2.1", "", True),
    "within a block": (resnet20, "layer2.1.conv1", "layer2.1", True),
    "across stages": (resnet20, "layer1", "layer3.0.bn2", True),
    "in place behind": (Skipping, "conv1", "", True),
    "first call": (Skipping, "relu#0", "relu#1", True),
    "a skip connection across": (Skipping, "conv2", "", True),
    "not traced": (Branching, "conv", "linear", False),
    "counts images before": (CountingBefore, "conv1", "", False),
}


@pytest.mark.parametrize("case", CASES)
def test_responses_are_those_under_hooks(case: str) -> None:
    build, layer, until, cut = CASES[case]
    network = made(build)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    passes = ReplacedPasses(network, layer, IMAGES[:2], until)
    assert (passes.why == "") == cut, passes.why
    assert passes.shape == next(one.shape for one in list_layers(network, IMAGES) if one.address == layer)
    values = passes.before(IMAGES)
    own = values[0].clone()
    assert own.shape == (3, *passes.shape)
    replaced = torch.stack([own, torch.rand(own.shape, generator=torch.Generator().manual_seed(1)), own.flip(1)])
    found = passes.behind(values, replaced.clone())
    expected = [by_hooks(network, layer, until, IMAGES, one.clone()) for one in replaced]
    torch.testing.assert_close(found, torch.stack(expected), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[0], by_hooks(network, layer, until, IMAGES, None), atol=1e-5, rtol=1e-5)
    assert float((found[0] - found[1]).abs().max()) > 1e-4
    # what comes before is not touched by what comes behind
    assert torch.equal(values[0], own)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not sum(len(module._forward_hooks) for module in network.modules())


def test_a_lesion_stays_in_the_network() -> None:
    network = made(resnet20)
    mask = (torch.arange(16).view(16, 1, 1) % 3 > 0).float().expand(16, 32, 32)
    with lesioned(network, {"layer1.0": mask.numpy()}):
        passes = ReplacedPasses(network, "layer1.1", IMAGES)
        assert "has hooks" in passes.why
        for _ in range(2):
            values = passes.before(IMAGES)
            found = passes.behind(values, values[0][None])
        expected = network(IMAGES)
    torch.testing.assert_close(found[0], expected)
    assert float((expected - network(IMAGES)).abs().max()) > 1e-3


def test_layers_that_do_not_fit() -> None:
    network = made(resnet20)
    with pytest.raises(UnknownNameError, match=r"unknown layer 'layer1\.9'"):
        ReplacedPasses(network, "layer1.9", IMAGES)
    with pytest.raises(UnknownNameError, match="layer 'relu' is called 2 times per image"):
        ReplacedPasses(made(Skipping), "relu", IMAGES)
    with pytest.raises(SubjectError, match="layer 'layer2' does not come before 'layer1'"):
        ReplacedPasses(network, "layer2", IMAGES, "layer1")

    class Beside(Skipping):
        def forward(self, x: Tensor) -> Tensor:
            self.conv2(self.conv1(x))
            return self.linear(self.conv1(x).mean((2, 3)))

    with pytest.raises(SubjectError, match="silencing layer 'conv2' does not change the outputs of the network"):
        ReplacedPasses(made(Beside), "conv2", IMAGES)
