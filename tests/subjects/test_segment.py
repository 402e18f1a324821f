"""Detached segments against the network's own modules, and planes against the standard library."""

from __future__ import annotations

import colorsys
import importlib
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import neuroprobe as npr
from neuroprobe import names
from neuroprobe.errors import NeuroprobeError, ProtocolError, SubjectError, UnknownNameError
from neuroprobe.probe.capture import Probe, find_sites, list_layers
from neuroprobe.protocol.subject import LayerSpec, SegmentSpec, SubjectSpec
from neuroprobe.report import write_report
from neuroprobe.rig import open_rig
from neuroprobe.stimuli.alterations.colour import hsv
from neuroprobe.subjects.networks import find_network
from neuroprobe.subjects.segment import Segment, detach
from neuroprobe.subjects.subject import Subject, build_network, load_subject

SOURCE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.pool = nn.Conv2d(3, 4, 3, padding=1), nn.MaxPool2d(2)
        self.second, self.third, self.spare = nn.Conv2d(4, 5, 3), nn.Conv2d(5, 6, 3), nn.Identity()

    def forward(self, x, twice=False):
        x = self.pool(self.first(x))
        if twice:
            x = 2 * x
        x = self.pool(self.second(x))
        return self.third(x)

class Branching(Net):
    def forward(self, x):
        x = self.first(x)
        if x.mean() > 0:
            x = -x
        return self.second(x)

class Skipping(Net):
    def forward(self, x):
        first = self.first(x)
        return self.third(self.second(first) + first.mean())

def net(): return Net().eval()
def branching(): return Branching().eval()
def skipping(): return Skipping().eval()
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Name of a module that offers networks."""
    (tmp_path / "segments_of_a_test.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield "segments_of_a_test"
    sys.modules.pop("segments_of_a_test", None)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def spec(stop: str, start: str = "input", **options: Any) -> SegmentSpec:
    return SegmentSpec.model_validate({"from": start, "to": stop, "plane": "hue", **options})


def cut(network: nn.Module, start: str, stop: str, *layers: str, **options: Any) -> Segment:
    return detach(network, spec(stop, start, **options), [LayerSpec(name=name) for name in layers or [stop]])


def responses(network: nn.Module, images: Tensor, *layers: str) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    sites = find_sites(network, [LayerSpec(name=name) for name in layers], images[:1])
    with Probe(network, sites) as probe:
        probe.record(images, lambda site, response: found.update({site.name: response.clone()}))
    return found


def through(network: nn.Module, *modules: str) -> Callable[[Tensor], Tensor]:
    """Composition of modules of a network."""
    return nn.Sequential(*(network.get_submodule(name) for name in modules))


@pytest.mark.parametrize(
    ("name", "start", "stop", "between"),
    [
        ("resnet18", "layer1", "layer3", ["layer2", "layer3"]),
        ("resnet18", "maxpool", "layer1.1", ["layer1.0", "layer1.1"]),
        ("resnet18", "layer1.0", "layer2", ["layer1.1", "layer2"]),
        ("resnet18", "input", "maxpool", ["conv1", "bn1", "relu", "maxpool"]),
        ("alexnet", "features.2", "features.9", [f"features.{i}" for i in range(3, 10)]),
        ("alexnet", "features.0", "features.2", ["features.1", "features.2"]),
        ("alexnet", "features.9", "avgpool", ["features.10", "features.11", "features.12", "avgpool"]),
        ("vgg11", "features.5", "features.10", [f"features.{i}" for i in range(6, 11)]),
        ("embedded", "conv2", "conv5", ["conv3", "conv4", "conv5"]),
        ("embedded", "conv2", "linear", ["conv3", "conv4", "conv5", "conv6", "pool", "flatten", "linear"]),
        ("embedded", "conv2.0", "conv3.1", ["conv2.1", "conv2.2", "conv3.0", "conv3.1"]),
        ("cifar_resnet20", "layer1", "layer3", ["layer2", "layer3"]),
        ("cifar_resnet20", "layer1.1", "layer2.0", ["layer1.2", "layer2.0"]),
    ],
)
@torch.no_grad()
def test_a_segment_is_the_composition_of_the_modules(
    name: str, start: str, stop: str, between: list[str], images: Tensor
) -> None:
    network = build_network(find_network(name), seed=3).eval()
    segment = cut(network, start, stop, *between)
    # the channels and the size that the stage sees in the whole network
    seen = images if start == "input" else responses(network, images, start)[start]
    planes = segment.prepare(images)
    assert planes.shape == seen.shape
    assert (planes == planes[:, :1]).all()
    found = responses(segment.network, planes, *between)
    for layer in between:
        expected = through(network, *between[: between.index(layer) + 1])(planes.clone())
        assert torch.equal(found[layer], expected), layer
    # a response of the network itself, sent on by the segment, is the network's
    if start != "input":
        assert torch.equal(segment.network(seen), responses(network, images, stop)[stop])


def test_layers_keep_their_names(images: Tensor) -> None:
    network = build_network(find_network("resnet18"), seed=3).eval()
    segment = cut(network, "layer1", "layer3")
    whole = {layer.address: layer for layer in list_layers(network, images[:1])}
    inside = list_layers(segment.network, segment.prepare(images[:1]))
    assert [layer.address for layer in inside] == [name for name in whole if name.split(".")[0] in {"layer2", "layer3"}]
    assert all(whole[layer.address].shape == layer.shape for layer in inside)


def test_weights_are_shared_and_planes_are_not_overwritten(images: Tensor) -> None:
    network = build_network(find_network("alexnet"), seed=3).eval()
    segment = cut(network, "features.0", "features.3")
    assert segment.network.get_parameter("features.3.weight") is network.get_parameter("features.3.weight")
    assert not any(name.startswith("classifier") for name, _ in segment.network.named_parameters())
    one = segment.prepare(images)
    assert one.is_contiguous()  # features.1 works in place


class TestPlanes:
    COLOURS = np.array([*itertools.product([0.0, 0.2, 0.5, 0.8, 1.0], repeat=3)], dtype=np.float32)

    def test_are_those_of_colorsys(self) -> None:
        expected = np.array([colorsys.rgb_to_hsv(*map(float, colour)) for colour in self.COLOURS])
        found = hsv(torch.from_numpy(self.COLOURS)[:, :, None, None])
        for plane, exact in zip(found, expected.T, strict=True):
            np.testing.assert_allclose(plane.flatten().numpy(), exact, atol=1e-6)

    def test_the_hue_is_below_1(self) -> None:
        # as near to red as there is, from below
        red = torch.tensor([1.0, 0.0, 1e-9]).view(1, 3, 1, 1)
        assert 0 <= float(hsv(red)[0]) < 1

    @pytest.mark.parametrize("plane", ["hue", "saturation", "value"])
    def test_are_taken_at_the_size_of_the_stage(self, plane: str, images: Tensor) -> None:
        network = build_network(find_network("embedded"), seed=3).eval()
        expected = functional.interpolate(images, (32, 32), mode="bilinear", antialias=True)
        native = cut(network, "conv1", "conv3", plane=plane).prepare(images)
        index = ["hue", "saturation", "value"].index(plane)
        torch.testing.assert_close(native[:, 7], hsv(expected)[index])
        large = cut(network, "conv1", "conv3", plane=plane, size="image").prepare(images)
        assert torch.equal(large, hsv(images)[index][:, None].expand(-1, 40, -1, -1))

    def test_a_hue_at_the_seam_stays_there(self) -> None:
        # reds from both sides of 0: the mean of their hues would be cyan
        colours = torch.tensor([colorsys.hsv_to_rgb(hue, 1, 1) for hue in (0.98, 0.02)])
        stripes = colours.t()[:, None, torch.arange(64) % 2].expand(3, 64, 64)[None].contiguous()
        network = build_network(find_network("embedded"), seed=3).eval()
        hue = cut(network, "conv1", "conv3").prepare(stripes)
        assert float(torch.minimum(hue, 1 - hue).max()) < 0.03


@pytest.mark.parametrize(
    ("name", "start", "stop", "layers", "error", "message"),
    [
        (
            "resnet18",
            "layer2.0.conv1",
            "layer3",
            [],
            SubjectError,
            "'add' in layer 'layer2.0' takes .* skip connection",
        ),
        ("resnet18", "layer3", "layer1", [], SubjectError, "'layer1' is not made of the output of 'layer3'"),
        ("resnet18", "layer1", "layer1", [], SubjectError, "let `from` lie before `to`"),
        ("resnet18", "layer1.0.relu", "layer3", [], UnknownNameError, "called 2 times .* layer1.0.relu#0 or layer1.0"),
        ("resnet18", "layer1.1", "layer1", [], UnknownNameError, "'layer1' holds the other end"),
        ("resnet18", "layr1", "layer2", [], UnknownNameError, "segment.from: unknown layer 'layr1' .did you mean 'lay"),
        ("resnet18", "layer1", "layre2", [], UnknownNameError, "segment.to: unknown layer 'layre2' .did you mean 'lay"),
        ("resnet18", "layer1", "layer2", ["layer3"], UnknownNameError, "'layer3' lies outside of the segment"),
        ("resnet18", "layer1", "layer2.0", ["layer2"], UnknownNameError, "holds one of its ends"),
        ("embedded", "flatten", "linear", [], SubjectError, r"gives \(112,\) per image, expected \(channels, height"),
        (
            "OWN:branching",
            "first",
            "second",
            [],
            SubjectError,
            "Branching cannot be cut, .* TraceError: .* control flow",
        ),
        ("OWN:skipping", "second", "third", [], SubjectError, "'add' in the network's own forward pass takes"),
        ("OWN:net", "first", "spare", [], UnknownNameError, "'spare' exists and is not called"),
        ("OWN:net", "pool#0", "third", ["pool"], SubjectError, "'pool' is called both in the segment and outside"),
    ],
)
def test_cuts_that_are_refused(
    own: str, name: str, start: str, stop: str, layers: list[str], error: type, message: str, images: Tensor
) -> None:
    network = build_network(find_network(name.replace("OWN", own)), seed=3).eval()
    with pytest.raises(error, match=message):
        cut(network, start, stop, *layers).prepare(images)


@torch.no_grad()
def test_options_of_the_forward_pass_keep_their_defaults(own: str, images: Tensor) -> None:
    network = build_network(find_network(f"{own}:net"), seed=3).eval()
    segment = cut(network, "pool#0", "third")
    planes = segment.prepare(images)
    assert torch.equal(segment.network(planes), through(network, "second", "pool", "third")(planes))


def subject(**options: Any) -> Subject:
    given = {"network": "cifar_resnet20", "weights": "none", "layers": ["layer2"], **options}
    return load_subject(SubjectSpec.model_validate(given), seed=3)


def test_the_hash_is_that_of_the_whole_network() -> None:
    segment = {"from": "layer1", "to": "layer2", "plane": "hue"}
    assert subject(segment=segment).digest == subject().digest
    twins = [subject(segment=segment, random_twin=True), subject(segment=segment)]
    assert torch.equal(*(next(iter(twin.network.parameters())) for twin in twins))


def test_images_can_be_stretched_before(images: Tensor) -> None:
    segment = {"from": "layer1", "to": "layer2", "plane": "value", "size": "image"}
    dim = 0.5 * images
    planes = subject(segment=segment, preprocess={"minmax": True}).prepare(dim)
    low, high = dim.amin((2, 3), keepdim=True), dim.amax((2, 3), keepdim=True)
    torch.testing.assert_close(planes[:, 0], ((dim - low) / (high - low)).amax(1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"segment": {"to": "layer2"}}, "missing key 'plane'"),
        ({"segment": {"plane": "hue"}}, "missing key 'to'"),
        ({"segment": {"to": "layer2", "plane": "hew"}}, "did you mean 'hue'"),
        ({"segment": {"to": "layer2", "plane": "hue", "form": "layer1"}}, "unknown key 'form' .did you mean 'from'"),
        ({"segment": {"to": "layer2", "plane": "hue", "size": 32}}, "expected 'native' or 'image'"),
        ({"segment": "layer2"}, "expected a block with the keys: from, to, plane, size"),
        (
            {"segment": {"to": "layer2", "plane": "hue"}, "preprocess": {"mean": [0.5, 0.5, 0.5]}},
            "do not go with segment",
        ),
    ],
)
def test_segments_that_are_refused(small_protocol: dict[str, Any], options: dict[str, Any], message: str) -> None:
    small_protocol["subject"] |= options
    with pytest.raises(ProtocolError, match=message):
        npr.load_protocol(small_protocol)


@pytest.mark.filterwarnings("ignore:.*standard errors:UserWarning")
@pytest.mark.parametrize("size", ["native", "image"])
def test_a_run_of_a_segment(small_protocol: dict[str, Any], tmp_path: Path, size: str) -> None:
    segment = {"from": "conv1", "to": "conv6", "plane": "hue", "size": size}
    layers = [{"name": "conv4", "channels": [0, 5]}, {"name": "conv6", "reduce": "mean"}]
    small_protocol["subject"] = {"network": "embedded", "layers": layers, "segment": segment}
    small_protocol["treatment"]["alterations"] = [{"name": name, "switch": 0.5} for name in ("grayscale", "hue")]
    small_protocol["record"]["store"] = "responses"
    path = tmp_path / "out.zarr"
    result = npr.run(small_protocol, path, limit=16)
    side = {"native": 8, "image": 16}[size]
    assert result["sobol/conv4"]["mean"].shape == (2, side, side)
    write_report(path, tmp_path / "out.html")
    assert f"from conv1, to conv6, plane hue, size {size}" in (tmp_path / "out.html").read_text()
    # what is stored is what the segment responds to the control
    table = npr.open_recording(path)["responses/conv6"].to_dataset()
    off = (table[names.switch("grayscale")].values == 0) & (table[names.switch("hue")].values == 0)
    assert off.any()
    rig = open_rig(npr.load_protocol(small_protocol))
    index = [rig.images.ids.index(one) for one in table[names.IMAGE_ID].values[off].tolist()]
    planes = rig.subject.prepare(rig.images.load(index))
    expected = responses(rig.subject.network, planes, "conv6")["conv6"].mean((2, 3))
    np.testing.assert_allclose(table[names.RESPONSE].values[off], expected.numpy(), atol=1e-5)
    # no grey image has a hue
    with_grey = table[names.switch("grayscale")].values == 1
    assert np.ptp(table[names.RESPONSE].values[with_grey], axis=0).max() < 1e-5


def test_errors_stand_at_their_place(small_protocol: dict[str, Any]) -> None:
    small_protocol["subject"] |= {"segment": {"from": "conv7", "to": "linear", "plane": "hue"}}
    with pytest.raises(NeuroprobeError) as caught:
        npr.plan(small_protocol, measure=False)
    assert caught.value.loc == ("subject", "segment", "from")
