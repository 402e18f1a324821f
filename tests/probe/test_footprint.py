"""The footprint of a forward pass, by hand for small networks, and beside what really lives for one of ours."""

import numpy as np
import pytest
import torch
from torch import nn

from neuroprobe.probe.capture import find_sites
from neuroprobe.probe.footprint import LiveTensors, forward_footprint
from neuroprobe.protocol.subject import LayerSpec
from neuroprobe.subjects.networks import NETWORKS

NO_SMALL = 0


def footprint(network, layers, side=8):
    image = torch.rand(1, 3, side, side)
    sites = find_sites(network, [LayerSpec(name=name) for name in layers], image)
    return forward_footprint(network, sites, image, 0)


def test_live_tensors_come_and_go():
    kept = torch.zeros(100)
    with LiveTensors() as live:
        a = kept + 1  # 400 bytes
        b = a.view(10, 10).t()  # a view takes nothing
        a.add_(1)  # in place, nothing
        c = a.double()  # 800
        del a
        d = b + 1  # b keeps a alive: 400 + 800 + 400
        del b, c, d
        torch.zeros(5)  # 20
    assert [sum(sizes) for sizes in live.during[:2]] == [400, 400]
    assert live.peak == 1600
    assert sum(live.during[-1]) == 20


def test_nothing_lives_where_nothing_is_done():
    with LiveTensors() as live:
        pass
    assert live.peak == 0


@pytest.mark.parametrize("n", [1, 7, 128])
def test_a_convolution_by_hand(n):
    """3 → 4 channels of 8×8, a ReLU in place, then a linear layer of 256 → 5."""
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(256, 5)
    ).eval()
    found = footprint(network, ["0", "3"])
    image, maps, weight = 4 * 3 * 64 * n, 4 * 4 * 64 * n, 4 * 4 * 3 * 9
    small, large = found.forward(n, NO_SMALL)
    assert not small.any()
    # oneDNN's copies of the result and the weights; images of three channels are taken as they are
    assert large.max() == image + 2 * maps + weight
    assert large[found.sites["0"]] == image + maps
    assert large[found.sites["3"]] == image + maps + 4 * 5 * n
    assert found.layer_at(int(large.argmax())) == "0"
    assert found.layer_at(len(large) - 1) == "3"


def test_small_and_large_tensors_are_told_apart():
    found = footprint(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()).eval(), ["1"])
    image, maps = 4 * 3 * 64 * 10, 4 * 4 * 64 * 10
    small, large = found.forward(10, maps)
    at = found.sites["1"]
    assert (small[at], large[at]) == (image, 2 * maps)
    together = sum(found.forward(10, NO_SMALL))
    np.testing.assert_array_equal(small + large, together)


def test_patches_of_double_precision_are_laid_out():
    class Double(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 3, padding=1).double()

        def forward(self, x):
            return self.conv(x.double())

    large = footprint(Double().eval(), ["conv"]).forward(5, NO_SMALL)[1]
    assert large.max() >= 5 * 64 * 8 * (27 + 2)


def test_a_network_that_takes_other_steps_for_more_images():
    class Varied(nn.Module):
        def __init__(self):
            super().__init__()
            self.out = nn.Identity()

        def forward(self, x):
            for _ in range(len(x)):
                x = x + 1
            return self.out(x)

    found = footprint(Varied().eval(), ["out"])
    large = found.forward(30, NO_SMALL)[1]
    # its input, and the sum before and after each step
    assert large.max() >= 3 * 30 * 4 * 3 * 64


@pytest.mark.parametrize("name", ["embedded", "cifar_resnet20"])
@pytest.mark.parametrize("n", [2, 5, 16])
def test_lines_through_two_passes_tell_of_others(name, n):
    """What is extrapolated is what a pass of that size really keeps alive."""
    network = NETWORKS[name].build().eval()
    layers = ["conv2", "linear"] if name == "embedded" else ["layer1", "linear"]
    found = footprint(network, layers, side=32)
    with LiveTensors() as live, torch.no_grad():
        network(torch.rand(1, 3, 32, 32).repeat(n, 1, 1, 1))
    assert found.forward(n, NO_SMALL)[1].max() == live.peak
