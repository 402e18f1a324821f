from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from altering import N_IMAGES, altered, random_images
from neuroprobe.errors import ReaderError, SubjectError
from neuroprobe.protocol.subject import SubjectSpec
from neuroprobe.subjects import cifar_resnet, embedded
from neuroprobe.subjects.networks import find_network
from neuroprobe.subjects.subject import Subject, build_network, load_subject
from neuroprobe.subjects.weights import weights_hash

MODULE = "subjects_of_a_test"
SOURCE = """
import torch
from torch import nn

def trained():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 2))
    with torch.no_grad():
        for tensor in [*network.parameters(), network[1].running_mean]:
            tensor.fill_(0.5)
    return network.eval()

def random():
    return nn.Conv2d(3, 4, 3)

def in_train_mode():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.BatchNorm2d(4)))

def with_dropout():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout2d())
    network[0].eval()
    return network

class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3, 1, 1))

    def forward(self, x):
        return self.scale * x

def scaled():
    return nn.Sequential(Scaled(), nn.Conv2d(3, 4, 3))
"""


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Name of a module that offers networks."""
    (tmp_path / f"{MODULE}.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield MODULE
    sys.modules.pop(MODULE, None)


def spec(network: str, **options: Any) -> SubjectSpec:
    return SubjectSpec.model_validate({"network": network, "layers": ["0"], **options})


def vector(subject: Subject | nn.Module) -> torch.Tensor:
    network = subject.network if isinstance(subject, Subject) else subject
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


class TestRandomWeights:
    @pytest.mark.parametrize("name", ["embedded", "cifar_resnet20", "squeezenet1_1"])
    def test_are_a_function_of_the_seed(self, name: str) -> None:
        source = find_network(name)
        first, again, other = (build_network(source, seed) for seed in (1, 1, 2))
        assert torch.equal(vector(first), vector(again))
        assert not torch.equal(vector(first), vector(other))

    def test_of_a_callable(self, own_module: str) -> None:
        first, again, other = (load_subject(spec(f"{own_module}:random"), seed) for seed in (1, 1, 2))
        assert first.digest == again.digest
        assert first.digest != other.digest

    @pytest.mark.parametrize(
        ("network", "options"),
        [
            ("embedded", {}),
            ("embedded", {"weights": "none"}),
            ("embedded", {"random_twin": True}),
            ("cifar_resnet20", {"weights": "none"}),
            ("squeezenet1_1", {"weights": "none"}),
            (f"{MODULE}:random", {}),
            (f"{MODULE}:trained", {"random_twin": True}),
        ],
    )
    @pytest.mark.usefixtures("own_module")
    def test_the_global_generator_is_left_alone(self, network: str, options: dict[str, Any]) -> None:
        before = torch.get_rng_state()
        load_subject(spec(network, **options), seed=4)
        assert torch.equal(torch.get_rng_state(), before)

    def test_the_global_generator_has_no_effect(self) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            first = load_subject(spec("embedded", weights="none"), 0)
            torch.manual_seed(2)
            again = load_subject(spec("embedded", weights="none"), 0)
        assert first.digest == again.digest


class TestRandomTwin:
    def test_of_a_named_network(self) -> None:
        trained = load_subject(spec("embedded"), 3)
        twin = load_subject(spec("embedded", random_twin=True), 3)
        assert twin.digest == load_subject(spec("embedded", weights="none"), 3).digest
        assert twin.digest != trained.digest
        assert twin.preprocessing == trained.preprocessing
        assert {k: v.shape for k, v in twin.network.state_dict().items()} == {
            k: v.shape for k, v in trained.network.state_dict().items()
        }
        assert twin.digest != load_subject(spec("embedded", random_twin=True), 4).digest

    def test_of_a_callable(self, own_module: str) -> None:
        name = f"{own_module}:trained"
        trained = load_subject(spec(name), 3)
        first, again, other = (load_subject(spec(name, random_twin=True), seed) for seed in (3, 3, 4))
        assert torch.equal(vector(trained).unique(), torch.tensor([0.5]))
        assert first.digest == again.digest
        assert len({trained.digest, first.digest, other.digest}) == 3
        # statistics that batch normalisation has gathered are part of what was learnt
        assert torch.equal(first.network[1].running_mean, torch.zeros(4))
        assert not any(module.training for module in first.network.modules())

    def test_does_not_need_the_weights_file(self) -> None:
        twin = load_subject(spec("embedded", weights="absent.pt", random_twin=True), 3)
        assert twin.digest == load_subject(spec("embedded", random_twin=True), 3).digest

    def test_of_a_module_without_reset_parameters(self, own_module: str) -> None:
        with pytest.raises(SubjectError, match=r"0 \(Scaled\) has weights and no `reset_parameters`: add one"):
            load_subject(spec(f"{own_module}:scaled", random_twin=True), 3)


class TestWeights:
    def test_default_weights_of_the_embedded_network(self) -> None:
        subject = load_subject(spec("embedded"), 0)
        for name, tensor in embedded.load_embedded_weights().items():
            assert torch.equal(subject.network.state_dict()[name], tensor)
        assert subject.digest == load_subject(spec("embedded"), 5).digest == weights_hash(subject.network)

    def test_from_a_file(self, tmp_path: Path) -> None:
        source = build_network(find_network("cifar_resnet20"), 1)
        torch.save(source.state_dict(), tmp_path / "weights.pt")
        subject = load_subject(spec("cifar_resnet20", weights=str(tmp_path / "weights.pt")), 2)
        assert subject.digest == weights_hash(source)

    def test_a_file_for_a_callable(self, own_module: str, tmp_path: Path) -> None:
        state = {"weight": torch.ones(4, 3, 3, 3), "bias": torch.zeros(4)}
        torch.save(state, tmp_path / "weights.pt")
        subject = load_subject(spec(f"{own_module}:random", weights=str(tmp_path / "weights.pt")), 2)
        assert torch.equal(subject.network.weight, state["weight"])

    def test_a_file_of_another_network(self, tmp_path: Path) -> None:
        torch.save(build_network(find_network("embedded"), 1).state_dict(), tmp_path / "weights.pt")
        with pytest.raises(ReaderError, match=r"weights '.*weights.pt' do not fit CifarResNet"):
            load_subject(spec("cifar_resnet20", weights=str(tmp_path / "weights.pt")), 2)

    def test_a_network_without_default_weights(self) -> None:
        with pytest.raises(
            SubjectError, match=r"'cifar_resnet20' has no default weights: give a file by .*`weights: n"
        ):
            load_subject(spec("cifar_resnet20"), 0)

    def test_a_download_that_fails(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        # an empty cache, so that it has to ask the network, which tests refuse
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        with pytest.raises(SubjectError, match=r"'squeezenet1_1' could not be downloaded from https://\S+\.pth: ") as e:
            load_subject(spec("squeezenet1_1"), 0)
        assert "no network" in str(e.value)
        assert "get the file elsewhere and give it as `weights: path`" in str(e.value)
        assert "`weights: none`" in str(e.value)


class TestMode:
    @pytest.mark.parametrize("name", ["embedded", "cifar_resnet20", "squeezenet1_1"])
    def test_named_networks_are_in_eval_mode(self, name: str) -> None:
        subject = load_subject(spec(name, weights="none"), 0)
        assert not any(module.training for module in subject.network.modules())
        assert not any(parameter.requires_grad for parameter in subject.network.parameters())

    @pytest.mark.parametrize(
        ("name", "module"), [("in_train_mode", r"1.0 \(BatchNorm2d\)"), ("with_dropout", r"1 \(Dropout2d\)")]
    )
    def test_a_callable_in_train_mode_is_refused(self, own_module: str, name: str, module: str) -> None:
        with pytest.raises(SubjectError, match=rf"{module} is in train mode: call `.eval\(\)` before returning"):
            load_subject(spec(f"{own_module}:{name}"), 0)

    def test_a_network_without_modes_need_not_call_eval(self, own_module: str) -> None:
        subject = load_subject(spec(f"{own_module}:scaled"), 0)
        assert subject.network.training
        assert not any(parameter.requires_grad for parameter in subject.network.parameters())


class TestPreprocessing:
    def test_prepare_standardises_the_channels(self) -> None:
        subject = load_subject(spec("cifar_resnet20", weights="none"), 0)
        images = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
        prepared = subject.prepare(images)
        for channel in range(3):
            expected = (images[:, channel] - cifar_resnet.MEAN[channel]) / cifar_resnet.STD[channel]
            torch.testing.assert_close(prepared[:, channel], expected)

    def test_a_protocol_gives_another(self) -> None:
        options = {"preprocess": {"mean": [0.5, 0.25, 0.0], "std": [0.5, 1.0, 2.0]}}
        subject = load_subject(spec("embedded", **options), 0)
        prepared = subject.prepare(torch.ones(1, 3, 1, 1))
        assert prepared.flatten().tolist() == [1.0, 0.75, 0.5]
        # the size that is shown stays that of the network
        assert subject.preprocessing.framing.size == (32, 32)

    def test_what_a_protocol_does_not_give_is_the_networks_own(self) -> None:
        own, given = (
            load_subject(spec("cifar_resnet20", weights="none", **options), 0).preprocessing
            for options in ({}, {"preprocess": {"std": [1.0, 1.0, 1.0]}})
        )
        assert tuple(given.mean) == own.mean == cifar_resnet.MEAN
        assert tuple(given.std) == (1, 1, 1)

    @pytest.mark.parametrize("name", ["brightness", "contrast"])
    def test_minmax_undoes_what_darkens_and_flattens(self, name: str) -> None:
        """A factor up to 1 is an affine map of each channel without clipping, which min and max take back."""
        shown, reduced = random_images(16, 16), torch.linspace(0.2, 1, N_IMAGES).tolist()
        darker = altered(name, shown, factor=reduced)
        for minmax in (True, False):
            subject = load_subject(spec("cifar_resnet20", weights="none", preprocess={"minmax": minmax}), 0)
            same = torch.allclose(subject.prepare(darker), subject.prepare(shown), atol=1e-5)
            assert same is minmax
        brighter = altered(name, shown, factor=[1.5] * N_IMAGES)
        subject = load_subject(spec("cifar_resnet20", weights="none", preprocess={"minmax": True}), 0)
        assert not torch.allclose(subject.prepare(brighter), subject.prepare(shown), atol=0.1)

    def test_minmax_takes_each_channel_of_each_image_to_0_and_1(self) -> None:
        images = random_images(8, 8) / 3 + 0.2
        images[2, 1] = 0.7
        ones = {"mean": [0.0] * 3, "std": [1.0] * 3}
        prepared = load_subject(spec("embedded", preprocess={"minmax": True, **ones}), 0).prepare(images)
        assert (prepared.amin((2, 3)) == 0).all()
        highest = torch.ones(N_IMAGES, 3)
        highest[2, 1] = 0  # a channel of one value
        torch.testing.assert_close(prepared.amax((2, 3)), highest)

    def test_a_callable_gets_the_images_as_they_are(self, own_module: str) -> None:
        images = torch.rand(1, 3, 4, 4)
        assert torch.equal(load_subject(spec(f"{own_module}:random"), 0).prepare(images), images)
