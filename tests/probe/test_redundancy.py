"""Networks whose channels are removed, against hooks and losses of torch's."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from neuroprobe.errors import ResponseError, SubjectError, UnknownNameError
from neuroprobe.probe.redundancy import moved, removal_outcomes
from neuroprobe.subjects.networks import find_network
from neuroprobe.subjects.subject import build_network

IMAGES = torch.rand(23, 3, 32, 32, generator=torch.Generator().manual_seed(2))
TARGETS = torch.randint(0, 10, (23,), generator=torch.Generator().manual_seed(3))
BATCHES = list(zip(IMAGES.split(9), TARGETS.split(9), strict=True))


def resnet20() -> nn.Module:
    return build_network(find_network("cifar_resnet20"), 0).eval().requires_grad_(False)


def outputs(network: nn.Module, layer: str, destination: np.ndarray) -> Tensor:
    """Outputs with the maps of a layer moved by a matrix."""
    matrix = torch.zeros(len(destination), len(destination))
    for source, target in enumerate(destination):
        if target >= 0:
            matrix[target, source] = 1
    handle = network.get_submodule(layer).register_forward_hook(
        lambda module, args, response: torch.einsum("oc,nc...->no...", matrix, response)
    )
    found = network(IMAGES)
    handle.remove()
    return found


@pytest.mark.parametrize("layer", ["layer1.1", "layer3.0.bn1"])
@pytest.mark.parametrize("n_spread", [1, 256])
def test_outcomes_are_those_under_hooks(layer: str, n_spread: int, rng: np.random.Generator) -> None:
    network = resnet20()
    n_channels = {"layer1.1": 16, "layer3.0.bn1": 64}[layer]
    variants = rng.integers(-1, n_channels, (5, n_channels))
    variants[0], variants[1] = np.arange(n_channels), -1
    variants[4] = variants[3]
    found = removal_outcomes(network, layer, variants, iter(BATCHES), n_spread=n_spread)
    own = network(IMAGES)
    losses = nn.functional.cross_entropy(own, TARGETS, reduction="none").double()
    for row, destination in enumerate(variants):
        given = outputs(network, layer, destination)
        loss = nn.functional.cross_entropy(given, TARGETS, reduction="none").double()
        assert found.accuracy[row] == pytest.approx(float((given.argmax(1) == TARGETS).double().mean()))
        assert found.loss[row] == pytest.approx(float(loss.mean()), rel=1e-5)
        assert found.loss_change[row] == pytest.approx(float((loss - losses).mean()), abs=1e-5)
        change = (given.argmax(1) == TARGETS).double() - (own.argmax(1) == TARGETS).double()
        assert found.accuracy_change[row] == pytest.approx(float(change.mean()))
    assert abs(found.loss_change[2:]).min() > 1e-4
    assert found.loss[3] == found.loss[4]
    assert found.accuracy_change[0] == found.loss_change_se[0] == 0


def test_probabilities_have_the_same_loss() -> None:
    network = resnet20()
    variants = np.array([np.arange(16), np.full(16, -1)])
    plain = removal_outcomes(network, "layer1.1", variants, BATCHES)
    probable = nn.Sequential(network, nn.Softmax(1))
    found = removal_outcomes(probable, "0.layer1.1", variants, BATCHES, is_probability=True)
    np.testing.assert_allclose(found.loss, plain.loss, rtol=1e-5)
    np.testing.assert_array_equal(found.accuracy, plain.accuracy)


def test_equal_outputs_are_not_all_right() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.Flatten()).eval().requires_grad_(False)
    batches = [(torch.rand(8, 3, 1, 1), torch.arange(8) % 4)]
    found = removal_outcomes(network, "0", np.full((1, 4), -1), batches)
    assert found.accuracy == 0.25
    assert found.loss == pytest.approx(np.log(4))


def test_moved_maps_add_up(rng: np.random.Generator) -> None:
    response = torch.from_numpy(rng.normal(size=(2, 4, 3, 3)))
    found = moved(response, np.array([1, 1, -1, 1]))
    assert torch.allclose(found[:, 1], response[:, [0, 1, 3]].sum(1))
    assert (found[:, [0, 2, 3]] == 0).all()
    assert torch.equal(moved(response, np.arange(4)), response)


def test_what_does_not_fit() -> None:
    network = resnet20()
    variants = np.arange(16)[None]
    with pytest.raises(UnknownNameError, match="unknown layer 'layer9'"):
        removal_outcomes(network, "layer9", variants, BATCHES)
    with pytest.raises(
        SubjectError, match=r"layer 'layer2' gives \(32, 16, 16\) per image, expected \(16,\) or \(16, "
    ):
        removal_outcomes(network, "layer2", variants, BATCHES)
    with pytest.raises(
        SubjectError, match=r"the network returns \(4, 32, 32\) per image, expected one number per class"
    ):
        removal_outcomes(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()).eval(), "0", np.arange(4)[None], BATCHES)
    spoilt = [(torch.full((2, 3, 32, 32), torch.nan), TARGETS[:2])]
    with pytest.raises(ResponseError, match="an output of the network is no finite number"):
        removal_outcomes(network, "layer1", variants, [BATCHES[0], *spoilt])
