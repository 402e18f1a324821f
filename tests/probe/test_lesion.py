"""Lesions as values, and what they do to networks."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import neuroprobe as npr
from neuroprobe.errors import SubjectError, UnknownNameError
from neuroprobe.probe.capture import Probe, find_sites, list_layers
from neuroprobe.probe.lesion import INTACT, Lesion, lesioned
from neuroprobe.protocol.subject import LayerSpec
from neuroprobe.subjects.networks import find_network
from neuroprobe.subjects.subject import build_network

IMAGES = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(2))
FITTING = nn.functional.interpolate(IMAGES[:2], 64)  # as large as AlexNet needs them


class Reused(nn.Module):
    """One rectifier at two places, in place, and a skip connection around the second; one module that is not called."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1)
        self.relu, self.spare, self.pair = nn.ReLU(inplace=True), nn.Identity(), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv1(x))
        return self.relu(self.conv2(x)) + self.pair((x,))[0]


@pytest.fixture
def reused() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return Reused().eval().requires_grad_(False)


def n_hooks(network: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules())


def channel_mask(shape: tuple[int, ...], *channels: int, multiply: float = 0) -> np.ndarray:
    mask = np.ones(shape)
    mask[list(channels)] = multiply
    return mask


def recorded(network: nn.Module, layers: list[str], lesion: Lesion = INTACT) -> dict[str, Tensor]:
    sites = find_sites(network, [LayerSpec(name=layer) for layer in layers], IMAGES[:1])
    found: dict[str, Tensor] = {}
    with Probe(network, sites, lesion) as probe:
        probe.record(IMAGES, lambda site, response: found.update({site.name: response.clone()}))
    return found


@pytest.mark.parametrize("name", ["embedded", "cifar_resnet20", "alexnet"])
def test_masks_of_ones_change_nothing(name: str) -> None:
    network = build_network(find_network(name), 0).eval()
    images = IMAGES if name != "alexnet" else FITTING
    layers = {one.address: one.shape for one in list_layers(network, images[:1]) if one.shape}
    with torch.no_grad():
        expected = network(images)
        for lesion in (Lesion({}), Lesion({layer: np.ones(shape) for layer, shape in layers.items()})):
            assert not any(lesion.n_masked.values())
            with lesioned(network, lesion) as same:
                assert torch.equal(same(images), expected)


@pytest.mark.parametrize("multiply", [0, 0.5, 1.5, -1])
@pytest.mark.parametrize("layer", ["conv1.0", "conv3.0", "conv3.1", "linear", "features.3", "classifier.6"])
def test_a_masked_channel_is_one_with_other_weights(layer: str, multiply: float) -> None:
    name, images = ("alexnet", FITTING) if layer in {"features.3", "classifier.6"} else ("embedded", IMAGES)
    network = build_network(find_network(name), 0).eval().requires_grad_(False)
    by_hand = copy.deepcopy(network)
    (shape,) = (one.shape for one in list_layers(network, images[:1]) if one.address == layer)
    for parameter in by_hand.get_submodule(layer).parameters():  # weights and biases
        parameter[[7, 9]] *= multiply
    with lesioned(network, Lesion({layer: channel_mask(shape, 7, 9, multiply=multiply)})):
        found = network(images)
    torch.testing.assert_close(found, by_hand(images), rtol=0, atol=1e-6)
    assert not torch.equal(found, network(images))


def test_calls_of_a_module_have_masks_of_their_own(reused: nn.Module) -> None:
    first = torch.relu(reused.conv1(IMAGES))
    mask = channel_mask((4, 14, 14), 1)
    at = torch.tensor(mask, dtype=torch.float32)
    for layer, expected in {
        "relu#0": torch.relu(reused.conv2(first * at)) + first * at,
        "relu#1": torch.relu(reused.conv2(first)) * at + first,
        "conv1": torch.relu(reused.conv2(torch.relu(reused.conv1(IMAGES) * at)))
        + torch.relu(reused.conv1(IMAGES) * at),
    }.items():
        with lesioned(reused, Lesion({layer: mask})):
            for _ in range(2):  # calls are counted anew in each forward pass
                assert torch.equal(reused(IMAGES), expected), layer


@pytest.mark.parametrize("order", [0, 1])
def test_a_probe_sees_the_product_whichever_came_first(reused: nn.Module, order: int) -> None:
    mask = channel_mask((4, 14, 14), 0, 2, multiply=0.5)
    lesion = Lesion({"conv1": mask})
    plain = recorded(reused, ["conv1"])["conv1"]
    sites = find_sites(reused, [LayerSpec(name="conv1"), LayerSpec(name="relu#1")], IMAGES[:1])
    found: dict[str, Tensor] = {}
    probe = Probe(reused, sites)
    contexts = [probe, lesioned(reused, lesion)]
    with contexts[order], contexts[1 - order]:
        probe.record(IMAGES, lambda site, response: found.update({site.name: response.clone()}))
    assert torch.equal(found["conv1"], plain * torch.tensor(mask, dtype=torch.float32))
    with_own = recorded(reused, ["conv1", "relu#1"], lesion)
    assert all(torch.equal(found[layer], with_own[layer]) for layer in found)
    assert not n_hooks(reused)


def test_lesions_within_each_other_are_multiplied(reused: nn.Module) -> None:
    one, two = (Lesion({"conv1": channel_mask((4, 14, 14), n, multiply=0.5)}) for n in (0, 1))
    other = Lesion({"conv2": channel_mask((4, 14, 14), 3)})
    with lesioned(reused, one), lesioned(reused, two), lesioned(reused, other):
        expected = reused(IMAGES)
    with lesioned(reused, one * two * other):
        assert torch.equal(reused(IMAGES), expected)
    assert (one * two * other).n_masked == {"conv1": 2 * 196, "conv2": 196}
    assert (one * INTACT).digest == one.digest == (INTACT * one).digest


def test_gradients_go_through_masks(reused: nn.Module) -> None:
    images, mask = IMAGES.clone().requires_grad_(), np.zeros((4, 14, 14))
    mask[:, 3, 3] = 1
    with lesioned(reused, Lesion({"conv1": mask})):
        with torch.inference_mode():
            reused(IMAGES)
        reused(images).sum().backward()
    assert images.grad is not None
    seen = images.grad.abs().sum((0, 1)) > 0
    assert seen[3:6, 3:6].any()
    assert not seen[6:].any()
    assert not seen[:3].any()


def test_masks_follow_the_type_of_the_responses(reused: nn.Module) -> None:
    lesion = Lesion({"conv1": channel_mask((4, 14, 14), 1)})
    with lesioned(reused, lesion):
        single = reused(IMAGES)
        assert reused.double()(IMAGES.double()).dtype == torch.float64
        torch.testing.assert_close(reused(IMAGES.double()).float(), single)


WRONG: dict[str, tuple[dict[str, np.ndarray], type[Exception], str]] = {
    "unknown": (
        {"conv3": np.ones((4, 14, 14))},
        UnknownNameError,
        r"unknown layer 'conv3' \(did you mean 'conv\d'\?\)",
    ),
    "another shape": ({"conv1": np.ones((4, 7, 7))}, SubjectError, r"gives \(4, 14, 14\) .* mask is \(4, 7, 7\)"),
    "ambiguous": ({"relu": np.ones((4, 14, 14))}, SubjectError, "called several times .* relu#0 or relu#1"),
    "not called": ({"spare": np.ones(3)}, SubjectError, "'spare' is called 0 times"),
    "a third call": ({"relu#2": np.ones((4, 14, 14))}, SubjectError, "'relu' is called 2 times"),
    "no tensor": ({"pair": np.ones((4, 14, 14))}, SubjectError, "gives tuple per image"),
}


@pytest.mark.parametrize("case", WRONG)
def test_lesions_that_do_not_fit(reused: nn.Module, case: str) -> None:
    masks, error, said = WRONG[case]
    with pytest.raises(error, match=said), lesioned(reused, Lesion(masks)):
        reused(IMAGES)
    assert not n_hooks(reused)


def test_hooks_are_gone_after_an_error(reused: nn.Module) -> None:
    expected, lesion = reused(IMAGES), Lesion({"relu#0": np.zeros((4, 14, 14))})
    sites = find_sites(reused, [LayerSpec(name="relu#1")], IMAGES[:1])

    def fail(*_: object) -> None:
        assert n_hooks(reused)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Probe(reused, sites, lesion) as probe:
        probe.record(IMAGES, fail)
    assert not n_hooks(reused)
    with pytest.raises(KeyboardInterrupt), lesioned(reused, lesion):
        fail()
    with pytest.raises(UnknownNameError), Probe(reused, sites, Lesion({"conv9": np.ones(3)})):
        pass
    assert not n_hooks(reused)
    assert torch.equal(reused(IMAGES), expected)


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        ([1, np.nan], "NaN or infinity at 1 of 2 units"),
        ([1e300, 1], "NaN or infinity at 1 of 2"),
        (["a", "b"], "holds <U1, expected numbers"),
        ([1j], "holds complex128"),
        ([[1], [1, 2]], "is no array"),
    ],
)
def test_masks_are_finite_numbers(mask: list[object], said: str) -> None:
    with pytest.raises(SubjectError, match=said):
        Lesion({"conv1": mask})  # type: ignore[dict-item]


def test_lesions_are_values() -> None:
    given = np.ones(3)
    lesion = Lesion({"b": given, "a": torch.tensor([0.5, 1, 1])})  # type: ignore[dict-item]
    given[0] = 0
    assert lesion.n_masked == {"b": 0, "a": 1}
    assert lesion.digest == Lesion({"a": [0.5, 1, 1], "b": [1, 1, 1]}).digest  # type: ignore[dict-item]
    others = ({"a": [1, 0.5, 1], "b": [1, 1, 1]}, {"a": [0.5, 1, 1]}, {"a": [[0.5, 1, 1]], "b": [1, 1, 1]})
    assert len({Lesion(masks).digest for masks in others} | {lesion.digest}) == 4  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="read-only"):
        lesion.masks["b"][0] = 0
    with pytest.raises(SubjectError, match="expected one shape"):
        lesion * Lesion({"b": np.ones(4)})
    for wrong in ({"c": [True]}, {"a": [True]}):
        with pytest.raises(SubjectError, match="candidates of layer"):
            Lesion({"a": np.ones(3)}, wrong)  # type: ignore[arg-type]


def test_random_twins_have_the_same_size_and_keep_to_the_candidates() -> None:
    rng = np.random.default_rng(4)
    candidates = {"a": rng.random((8, 5, 5)) < 0.7, "b": rng.random(40) < 0.5}
    masks = {layer: np.where(where & (rng.random(where.shape) < 0.3), 0, 1) for layer, where in candidates.items()}
    lesion = Lesion(masks, candidates, [{"array": "masks.npz"}])  # type: ignore[arg-type]
    twins = [lesion.random_twin(seed) for seed in (0, 1, 0)]
    for twin in twins:
        assert twin.n_masked == lesion.n_masked
        assert all((twin.masks[layer][~where] == 1).all() for layer, where in candidates.items())
        assert twin.origin[0]["of"] == [{"array": "masks.npz"}]
    assert twins[0].digest == twins[2].digest
    assert len({twin.digest for twin in (*twins, lesion)}) == 3
    # no unit is preferred: each is masked as often as the others, within 5 standard errors
    often = np.mean([lesion.random_twin(seed).masks["b"] == 0 for seed in range(400)], axis=0)[candidates["b"]]
    share = lesion.n_masked["b"] / candidates["b"].sum()
    assert np.abs(often - share).max() < 5 * np.sqrt(share * (1 - share) / 400)


def test_public_names() -> None:
    assert npr.Lesion is Lesion
    assert npr.lesioned is lesioned


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_masks_go_where_the_responses_are(reused: nn.Module) -> None:
    with lesioned(reused, Lesion({"relu#0": channel_mask((4, 14, 14), 1)})):
        expected = reused(IMAGES)
        found = reused.cuda()(IMAGES.cuda())
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-3, atol=1e-3)


def test_masks_alone_are_a_lesion(reused: nn.Module) -> None:
    mask = channel_mask((4, 14, 14), 1)
    with torch.no_grad(), lesioned(reused, {"conv1": mask}) as one:
        found = one(IMAGES)
    with torch.no_grad(), lesioned(reused, Lesion({"conv1": mask})) as other:
        assert torch.equal(found, other(IMAGES))
