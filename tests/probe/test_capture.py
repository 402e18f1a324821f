from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import VisionTransformer

from neuroprobe.errors import SubjectError
from neuroprobe.probe.capture import Probe, check_network, find_sites, list_layers
from neuroprobe.probe.sites import Site
from neuroprobe.protocol.subject import LayerSpec
from neuroprobe.subjects.networks import find_network
from neuroprobe.subjects.subject import build_network

FAILURE = (RuntimeError, SubjectError)  # of a forward pass
IMAGES = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(2))


class Called(nn.Identity):
    """Counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.n_calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.n_calls += 1
        return x


class Reused(nn.Module):
    """One rectifier at two places, in place; one module that is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)
        self.relu = nn.ReLU(inplace=True)
        self.spare = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.conv2(self.relu(self.conv1(x))))


class Pair(nn.Module):
    """Returns two tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.inner(x), x


class FirstOfPair(nn.Module):
    def __init__(self, pair: nn.Module) -> None:
        super().__init__()
        self.pair = pair

    def forward(self, x: Tensor) -> Tensor:
        return self.pair(x)[0]


class Apply(nn.Module):
    """Any function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return build().eval()


def n_hooks(network: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules())


def sites_of(network: nn.Module, *specs: LayerSpec | str, images: Tensor = IMAGES) -> tuple[Site, ...]:
    return find_sites(network, [LayerSpec.model_validate(spec) for spec in specs], images[:1])


def record(network: nn.Module, *specs: LayerSpec | str, images: Tensor = IMAGES) -> dict[str, Tensor]:
    """Record what stands in each response while the consumer has it."""
    found: dict[str, Tensor] = {}

    def consume(site: Site, response: Tensor) -> None:
        assert site.name not in found
        assert response.shape == (len(images), *site.shape)
        found[site.name] = response.clone()

    with Probe(network, sites_of(network, *specs, images=images)) as probe:
        probe.record(images, consume)
    assert n_hooks(network) == 0
    return found


def vision_transformer() -> VisionTransformer:
    return VisionTransformer(
        image_size=16, patch_size=8, num_layers=2, num_heads=2, hidden_dim=12, mlp_dim=16, num_classes=5
    )


class TestList:
    def test_calls_are_in_the_order_of_the_forward_pass(self) -> None:
        layers = list_layers(seeded(Reused), IMAGES[:1])
        assert [(layer.address, layer.kind, layer.shape) for layer in layers] == [
            ("conv1", "Conv2d", (4, 14, 14)),
            ("relu#0", "ReLU", (4, 14, 14)),
            ("conv2", "Conv2d", (5, 12, 12)),
            ("relu#1", "ReLU", (5, 12, 12)),
        ]

    def test_containers_come_after_what_they_hold(self) -> None:
        network = nn.Sequential(nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU()), nn.Flatten())
        assert [layer.address for layer in list_layers(network, IMAGES[:1])] == ["0.0", "0.1", "0", "1"]

    def test_a_module_without_a_tensor_has_no_shape(self) -> None:
        layers = {layer.address: layer.shape for layer in list_layers(FirstOfPair(Pair()), IMAGES[:1])}
        assert layers == {"pair.inner": (2, 16, 16), "pair": None}

    @pytest.mark.parametrize(
        ("name", "side"), [("embedded", 32), ("cifar_resnet20", 32), ("squeezenet1_1", 64), ("resnet18", 40)]
    )
    def test_shapes_on_the_meta_device_are_the_real_ones(self, name: str, side: int) -> None:
        source = find_network(name)
        real = list_layers(build_network(source, 0).eval(), torch.rand(1, 3, side, side))
        with torch.device("meta"):
            meta = list_layers(source.build().eval(), torch.empty(1, 3, side, side))
        assert meta == real
        assert all(layer.shape is not None for layer in real)

    def test_a_rectifier_of_a_residual_block(self) -> None:
        with torch.device("meta"):
            network = find_network("resnet18").build().eval()
            addresses = [layer.address for layer in list_layers(network, torch.empty(1, 3, 224, 224))]
            assert {"relu", "layer1.0.relu#0", "layer1.0.relu#1", "layer1", "avgpool", "fc"} <= set(addresses)
            assert "layer1.0.relu" not in addresses
            sites = sites_of(network, "layer1.0.relu#1", images=torch.empty(1, 3, 224, 224))
        assert sites[0].shape == (64, 56, 56)


class TestRecord:
    def test_a_rectifier_in_place_does_not_reach_what_was_before(self) -> None:
        network = seeded(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 2, 3)))
        found = record(network, "0", "1", "2")
        with torch.no_grad():
            first = functional.conv2d(IMAGES, network[0].weight, network[0].bias)
            last = functional.conv2d(first.relu(), network[2].weight, network[2].bias)
        assert float(first.min()) < 0
        torch.testing.assert_close(found["0"], first)
        torch.testing.assert_close(found["1"], first.relu())
        torch.testing.assert_close(found["2"], last)

    @pytest.mark.parametrize("reduce", ["mean", "max", "centre"])
    def test_a_reduction_is_taken_before_a_rectifier_in_place(self, reduce: str) -> None:
        network = seeded(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True)))
        with torch.no_grad():
            first = functional.conv2d(IMAGES, network[0].weight, network[0].bias)
        expected = {"mean": first.mean((2, 3)), "max": first.amax((2, 3)), "centre": first[:, :, 7, 7]}[reduce]
        found = record(network, LayerSpec(name="0", reduce=reduce), "1")
        torch.testing.assert_close(found["0"], expected)

    def test_both_calls_of_a_reused_module(self) -> None:
        network = seeded(Reused)
        with torch.no_grad():
            first = functional.conv2d(IMAGES, network.conv1.weight, network.conv1.bias).relu()
            second = functional.conv2d(first, network.conv2.weight, network.conv2.bias).relu()
        found = record(network, "relu#1", "relu#0")
        torch.testing.assert_close(found["relu#0"], first)
        torch.testing.assert_close(found["relu#1"], second)
        torch.testing.assert_close(record(network, "relu#1")["relu#1"], second)

    def test_calls_are_counted_anew_for_every_batch(self) -> None:
        network = seeded(Reused)
        found: list[str] = []
        with Probe(network, sites_of(network, "relu#1")) as probe:
            for _ in range(3):
                probe.record(IMAGES, lambda site, response: found.append(f"{site.name} {response.shape[1]}"))
        assert found == ["relu#1 5"] * 3

    def test_softmax_and_channels(self) -> None:
        network = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(768, 6)))
        with torch.no_grad():
            expected = network(IMAGES).softmax(1)
        found = record(network, LayerSpec(name="1", transform="softmax", channels=[5, 2]))
        torch.testing.assert_close(found["1"], expected[:, [5, 2]])

    def test_tokens(self) -> None:
        network = seeded(vision_transformer)
        name = "encoder.layers.encoder_layer_0"
        whole = record(network, name, "encoder.ln")
        assert whole[name].shape == (3, 5, 12)
        with torch.no_grad():
            tokens = network._process_input(IMAGES)
            tokens = torch.cat([network.class_token.expand(3, -1, -1), tokens], 1) + network.encoder.pos_embedding
            expected = network.encoder.layers.encoder_layer_0(tokens)
        torch.testing.assert_close(whole[name], expected)
        for reduce, reduced in (("mean", expected.mean(1)), ("max", expected.amax(1))):
            found = record(network, LayerSpec(name=name, reduce=reduce, channels=[11, 0]))
            torch.testing.assert_close(found[name], reduced[:, [11, 0]])

    def test_the_network_stops_at_the_last_site(self) -> None:
        network = nn.Sequential(Called(), Called(), Called(), Called())
        sites = sites_of(network, "0", "1")
        counted = [module.n_calls for module in network]
        with Probe(network, sites) as probe:
            probe.record(IMAGES, lambda site, response: None)
        assert [module.n_calls - before for module, before in zip(network, counted, strict=True)] == [1, 1, 0, 0]

    def test_the_order_of_the_sites_does_not_matter(self) -> None:
        network = nn.Sequential(nn.Sequential(Called(), Called()), Called())
        first, second = record(network, "0", "0.0"), record(network, "0.0", "0")
        assert list(first) == list(second) == ["0.0", "0"]
        assert network[1].n_calls == 2  # from the two listings

    def test_a_pass_outside_of_a_recording_is_whole_and_silent(self) -> None:
        network = seeded(Reused)
        plain = network(IMAGES)
        found: list[Site] = []
        with Probe(network, sites_of(network, "conv1")) as probe:
            probe.record(IMAGES, lambda site, response: found.append(site))
            assert torch.equal(network(IMAGES), plain)
        assert len(found) == 1

    def test_another_path_is_an_error(self) -> None:
        network = nn.Sequential(Called(), Called())
        sites = sites_of(network, "0", "1")
        with Probe(network, sites) as probe:
            network.forward = network[0].__call__
            with pytest.raises(SubjectError, match=r"1 of the layers \['0', '1'\] did not respond"):
                probe.record(IMAGES, lambda site, response: None)

    def test_no_gradients_are_kept(self) -> None:
        network = seeded(Reused)
        found: list[bool] = []
        with Probe(network, sites_of(network, "conv1")) as probe:
            probe.record(IMAGES, lambda site, response: found.append(response.requires_grad))
        assert found == [False]


class TestHooks:
    def test_are_taken_off_at_the_end(self) -> None:
        network = seeded(Reused)
        with Probe(network, sites_of(network, "conv1", "relu#1")) as probe:
            probe.record(IMAGES, lambda site, response: None)
            assert n_hooks(network) == 2
        assert n_hooks(network) == 0

    def test_are_taken_off_when_the_consumer_fails(self) -> None:
        network = seeded(Reused)

        def fail(site: Site, response: Tensor) -> None:
            raise ValueError("the consumer failed")

        with (
            pytest.raises(ValueError, match="the consumer failed"),
            Probe(network, sites_of(network, "conv1")) as probe,
        ):
            probe.record(IMAGES, fail)
        assert n_hooks(network) == 0

    def test_are_taken_off_when_the_network_fails(self) -> None:
        network = seeded(Reused)
        sites = sites_of(network, "conv1", "conv2")
        with pytest.raises(FAILURE), Probe(network, sites) as probe:
            probe.record(torch.rand(1, 7, 16, 16), lambda site, response: None)
        assert n_hooks(network) == 0

    def test_are_taken_off_when_a_listing_fails(self) -> None:
        network = seeded(Reused)
        with pytest.raises(FAILURE):
            list_layers(network, torch.rand(1, 7, 16, 16))
        assert n_hooks(network) == 0

    def test_are_taken_off_by_a_check(self) -> None:
        network = seeded(Reused)
        check_network(network, sites_of(network, "conv1", "relu#0"), IMAGES, "mine")
        assert n_hooks(network) == 0

    def test_of_others_stay(self) -> None:
        network = seeded(Reused)
        handle = network.conv1.register_forward_hook(lambda module, args, output: None)
        with Probe(network, sites_of(network, "conv1")) as probe:
            probe.record(IMAGES, lambda site, response: None)
        assert n_hooks(network) == 1
        handle.remove()

    def test_a_recording_goes_on_after_one_that_failed(self) -> None:
        network = seeded(Reused)
        found: list[str] = []
        with Probe(network, sites_of(network, "relu#0", "relu#1")) as probe:
            with pytest.raises(FAILURE):
                probe.record(torch.rand(1, 7, 16, 16), lambda site, response: None)
            probe.record(IMAGES, lambda site, response: found.append(site.name))
        assert found == ["relu#0", "relu#1"]


class TestRefusedLayers:
    def test_ambiguous(self) -> None:
        with pytest.raises(SubjectError, match="layer 'relu' is called 2 times per image: say which, as relu#0 or rel"):
            sites_of(seeded(Reused), "relu")

    def test_not_called(self) -> None:
        with pytest.raises(SubjectError, match="layer 'spare' exists and is not called"):
            sites_of(seeded(Reused), "spare")

    @pytest.mark.parametrize(("name", "nearest"), [("conv_1", "conv1"), ("relu#2", "relu#1"), ("Conv2", "conv2")])
    def test_unknown(self, name: str, nearest: str) -> None:
        with pytest.raises(SubjectError, match=f"unknown layer '{name}'; nearest: .*{nearest}") as caught:
            sites_of(seeded(Reused), name)
        assert "`neuroprobe list layers" in str(caught.value)

    def test_nothing_is_near(self) -> None:
        with pytest.raises(SubjectError, match="unknown layer 'zzz'; the network has: conv1, relu#0, conv2, relu#1"):
            sites_of(seeded(Reused), "zzz")

    def test_a_tuple(self) -> None:
        network = FirstOfPair(Pair())
        with pytest.raises(
            SubjectError, match=r"layer 'pair' \(Pair\) does not return one tensor: record a module"
        ) as e:
            sites_of(network, "pair")
        assert "(pair.inner)" in str(e.value)
        assert "or wrap the network so that it returns one" in str(e.value)
        assert record(network, "pair.inner")["pair.inner"].shape == (3, 2, 16, 16)

    def test_attention_returns_a_tuple(self) -> None:
        name = "encoder.layers.encoder_layer_0.self_attention"
        with pytest.raises(SubjectError, match=r"\(MultiheadAttention\) does not return one tensor"):
            sites_of(seeded(vision_transformer), name)


class TestRefusedNetworks:
    def check(self, function: Callable[[Tensor], Tensor], images: Tensor = IMAGES) -> bool:
        """Whether a network passes; one that does not raises."""
        network = nn.Sequential(nn.Flatten(), Apply(function))
        try:
            check_network(network, sites_of(network, "0", "1"), images, "mine")
        finally:
            assert n_hooks(network) == 0
        return True

    def test_a_good_one_passes(self) -> None:
        assert self.check(lambda x: x.relu())
        assert self.check(lambda x: x.relu(), IMAGES[:1])

    def test_nan_is_not_taken_for_randomness(self) -> None:
        assert self.check(lambda x: torch.where(x > 0.5, x, torch.nan))

    def test_random(self) -> None:
        with torch.random.fork_rng(devices=[]):
            with pytest.raises(SubjectError, match=r"'mine': layer '1' responds otherwise when the same images are sh"):
                self.check(functional.dropout)
            with pytest.raises(SubjectError, match=r"take the randomness out of its forward pass \(dropout, noise\)"):
                self.check(lambda x: x + 1e-3 * torch.randn_like(x))

    def test_dependent_on_the_batch(self) -> None:
        with pytest.raises(SubjectError, match="'mine': at layer '1' the response to an image depends on the other"):
            self.check(lambda x: x - x.mean(0))

    def test_batch_normalisation_in_train_mode(self) -> None:
        network = nn.Sequential(nn.BatchNorm2d(3)).train()
        with pytest.raises(SubjectError, match="put batch normalisation in eval mode"):
            check_network(network, sites_of(network, "0"), IMAGES, "mine")

    def test_images_that_are_not_the_first_axis(self) -> None:
        with pytest.raises(SubjectError, match="layer '1' gives 768 responses to 3 images; its first axis has to be"):
            self.check(lambda x: x.t())

    def test_images_that_it_cannot_take(self) -> None:
        # a network for larger images: its maps run out of pixels
        network = nn.Sequential(*(nn.Sequential(nn.Conv2d(3, 3, 3), nn.MaxPool2d(2)) for _ in range(4)))
        with pytest.raises(SubjectError, match="16"):
            sites_of(network, "0")
