from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from neuroprobe import catalogue
from neuroprobe.errors import SubjectError
from neuroprobe.subjects.cifar_resnet import CifarResNet
from neuroprobe.subjects.embedded import EmbeddedNetwork
from neuroprobe.subjects.networks import NETWORKS, find_network, network_names

MODULE = "networks_of_a_test"


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Write the source of a module that is on the path during the test."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(source: str) -> None:
        (tmp_path / f"{MODULE}.py").write_text(source)
        importlib.invalidate_caches()

    yield write
    sys.modules.pop(MODULE, None)


class TestOurs:
    def test_all_are_found_and_respond(self) -> None:
        for name in NETWORKS:
            source = find_network(name)
            with torch.device("meta"):
                network = source.build().eval()
            side, n_classes = (224, 1000) if name == "vgg_m" else (32, 10)
            assert source.preprocessing.framing.size == (side, side)
            assert network(torch.empty(2, 3, side, side, device="meta")).shape == (2, n_classes)
            assert source.summary
        assert next(iter(NETWORKS)) == "embedded"

    @pytest.mark.parametrize(("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85)])
    def test_cifar_resnets_have_the_published_size(self, depth: int, millions: float) -> None:
        network = find_network(f"cifar_resnet{depth}").build()
        assert isinstance(network, CifarResNet)
        weighted = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
        assert len(weighted) == depth
        assert round(sum(p.numel() for p in network.parameters()) / 1e6, 2) == millions

    def test_vgg_m(self) -> None:
        source = find_network("vgg_m")
        with torch.device("meta"):
            network = source.build().eval()
        kernels = {1: (96, 3, 7, 7), 2: (256, 96, 5, 5), 3: (512, 256, 3, 3), 4: (512, 512, 3, 3), 5: (512, 512, 3, 3)}
        shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items() if tensor.ndim > 1}
        assert shapes == {f"conv{stage}.weight": shape for stage, shape in kernels.items()} | {
            "fc6.weight": (4096, 18432),
            "fc7.weight": (4096, 4096),
            "fc8.weight": (1000, 4096),
        }
        # pixels from 0 to 255 less their mean
        given = source.preprocessing
        assert [(1 - mean) / std for mean, std in zip(given.mean, given.std, strict=True)] == pytest.approx(
            [131.325, 138.72, 151.47]
        )
        assert source.pretrained is None

    def test_normalisation_of_vgg_m_is_the_published_one(self) -> None:
        with torch.device("meta"):
            network = find_network("vgg_m").build()
        response = torch.rand(1, 7, 2, 2, generator=torch.Generator().manual_seed(0)) * 100
        squares = torch.nn.functional.pad(response**2, (0, 0, 0, 0, 2, 2))
        total = sum(squares[:, n : n + 7] for n in range(5))
        expected = response / (2 + 1e-4 * total) ** 0.75  # Krizhevsky et al. 2012
        for stage in (1, 2):
            torch.testing.assert_close(network.get_submodule(f"norm{stage}")(response), expected)

    def test_the_embedded_network(self) -> None:
        network = find_network("embedded").build()
        assert isinstance(network, EmbeddedNetwork)
        assert round(sum(p.numel() for p in network.parameters()) / 1e6, 2) == 0.49


class TestTorchvision:
    def test_preprocessing_is_that_of_the_default_weights(self) -> None:
        source = find_network("resnet18")
        assert source.preprocessing.mean == (0.485, 0.456, 0.406)
        assert source.preprocessing.std == (0.229, 0.224, 0.225)
        assert source.preprocessing.framing.size == (224, 224)
        assert source.preprocessing.framing.resize == 256
        assert source.pretrained is not None
        assert "11.7 million" in source.summary

    def test_names(self) -> None:
        names = network_names()
        assert {"embedded", "cifar_resnet20", "alexnet", "vgg11", "resnet18", "vit_b_16"} <= set(names)
        assert len(names) == len(set(names))

    @pytest.mark.parametrize(
        "name", ["alexnet", "vgg11", "resnet18", "inception_v3", "swin_t", "vit_b_16", "vit_h_14", "regnet_x_400mf"]
    )
    def test_responds_at_the_size_that_it_declares(self, name: str) -> None:
        assert find_network(name).preprocessing.framing.size is not None
        assert catalogue.layers(name)[-1]["shape"] == "1000"

    @pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
    def test_default_weights_that_take_another_standardisation(self, name: str) -> None:
        # torchvision standardises once more inside these networks where they carry their pretrained weights
        with torch.device("meta"):
            assert find_network(name).build().transform_input is True


class TestUnknown:
    @pytest.mark.parametrize(
        ("name", "nearest"), [("embeded", "embedded"), ("resnet81", "resnet18"), ("cifar_resnet22", "cifar_resnet")]
    )
    def test_the_nearest_is_named(self, name: str, nearest: str) -> None:
        with pytest.raises(SubjectError, match=rf"unknown network '{name}' .did you mean '{nearest}") as caught:
            find_network(name)
        message = str(caught.value)
        assert "`neuroprobe list networks` prints all" in message
        assert "package.module:callable" in message

    def test_nothing_is_near(self) -> None:
        with pytest.raises(SubjectError, match="unknown network 'zzzzzz'; `neuroprobe list networks`"):
            find_network("zzzzzz")


class TestImportPath:
    def test_a_function(self, own_module: Callable[[str], None]) -> None:
        own_module("from torch import nn\ndef build():\n    return nn.Conv2d(3, 5, 3)\n")
        source = find_network(f"{MODULE}:build")
        assert isinstance(source.build(), nn.Conv2d)
        assert source.pretrained is None
        assert source.preprocessing.framing.size is None

    def test_a_class(self, own_module: Callable[[str], None]) -> None:
        own_module("from torch import nn\nclass Network(nn.Identity):\n    pass\n")
        assert type(find_network(f"{MODULE}:Network").build()).__name__ == "Network"

    def test_a_module_in_the_working_directory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "path", list(sys.path))
        monkeypatch.chdir(tmp_path)
        (tmp_path / f"{MODULE}.py").write_text("from torch import nn\nbuild = nn.Identity\n")
        try:
            assert isinstance(find_network(f"{MODULE}:build").build(), nn.Identity)
        finally:
            sys.modules.pop(MODULE, None)

    def test_an_absent_module(self) -> None:
        with pytest.raises(SubjectError, match=r"module 'no_such_module' does not import: .*No module named") as caught:
            find_network("no_such_module:build")
        assert "install it, or run where it lies" in str(caught.value)

    def test_a_module_that_needs_an_absent_one(self, own_module: Callable[[str], None]) -> None:
        own_module("import no_such_package\n")
        with pytest.raises(
            SubjectError, match=f"module '{MODULE}' does not import: .*No module named 'no_such_package'"
        ):
            find_network(f"{MODULE}:build")

    def test_a_module_that_is_not_python(self, own_module: Callable[[str], None]) -> None:
        own_module("def build(:\n")
        with pytest.raises(SubjectError, match=f"module '{MODULE}' does not import: .*syntax"):
            find_network(f"{MODULE}:build")

    def test_no_module(self) -> None:
        with pytest.raises(SubjectError, match="network ':build'"):
            find_network(":build")

    def test_an_absent_attribute(self, own_module: Callable[[str], None]) -> None:
        own_module("def build_network():\n    pass\n")
        with pytest.raises(
            SubjectError, match=r"'networks_of_a_test' has no 'build_netwrk' .did you mean 'build_network'"
        ):
            find_network(f"{MODULE}:build_netwrk")

    def test_not_callable(self, own_module: Callable[[str], None]) -> None:
        own_module("build = 3\n")
        with pytest.raises(SubjectError, match="'build' is int, expected a callable that returns a network"):
            find_network(f"{MODULE}:build")

    def test_needs_arguments(self, own_module: Callable[[str], None]) -> None:
        own_module("def build(n_classes):\n    pass\n")
        with pytest.raises(SubjectError, match=r"without arguments failed: .*'n_classes'; wrap it in a function"):
            find_network(f"{MODULE}:build").build()

    def test_not_a_module(self, own_module: Callable[[str], None]) -> None:
        own_module("def build():\n    return 'a network'\n")
        with pytest.raises(SubjectError, match=r"it returned str, expected a torch.nn.Module"):
            find_network(f"{MODULE}:build").build()
