from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from neuroprobe.errors import SubjectError
from neuroprobe.probe.sites import Site, keep, make_site
from neuroprobe.protocol.subject import LayerSpec


def spec(**options: Any) -> LayerSpec:
    return LayerSpec.model_validate({"name": "layer", **options})


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5))


MAPS, TOKENS, FLAT = random(2, 4, 5, 6), random(2, 7, 4), random(2, 4)

CASES = [
    (MAPS, {}, MAPS),
    (MAPS, {"reduce": "mean"}, MAPS.mean((-1, -2))),
    (MAPS, {"reduce": "max"}, MAPS.flatten(2).max(2).values),
    (MAPS, {"reduce": "centre"}, MAPS[:, :, 2, 3]),
    (MAPS[:, :, :, :5], {"reduce": "centre"}, MAPS[:, :, 2, 2]),
    (MAPS, {"channels": [3, 0]}, torch.stack([MAPS[:, 3], MAPS[:, 0]], 1)),
    (MAPS, {"channels": [2], "reduce": "max"}, MAPS[:, 2:3].amax((2, 3))),
    (MAPS, {"transform": "softmax"}, torch.softmax(MAPS, 1)),
    (MAPS, {"transform": "softmax", "channels": [1], "reduce": "mean"}, torch.softmax(MAPS, 1)[:, 1:2].mean((2, 3))),
    (TOKENS, {}, TOKENS),
    (TOKENS, {"reduce": "mean"}, TOKENS.mean(1)),
    (TOKENS, {"reduce": "max"}, TOKENS.max(1).values),
    (TOKENS, {"channels": [3, 1]}, TOKENS[:, :, [3, 1]]),
    (TOKENS, {"transform": "softmax"}, torch.softmax(TOKENS, 2)),
    (TOKENS, {"channels": [0, 2], "reduce": "mean"}, TOKENS[..., [0, 2]].mean(1)),
    (FLAT, {}, FLAT),
    (FLAT, {"channels": [1, 2]}, FLAT[:, 1:3]),
    (FLAT, {"transform": "softmax"}, torch.softmax(FLAT, 1)),
    # the share of the chosen channels among all, not among themselves
    (FLAT, {"transform": "softmax", "channels": [3]}, torch.softmax(FLAT, 1)[:, 3:]),
]


@pytest.mark.parametrize(("response", "options", "expected"), CASES)
def test_what_is_kept(response: Tensor, options: dict[str, Any], expected: Tensor) -> None:
    kept = keep(response, spec(**options))
    torch.testing.assert_close(kept, expected)
    site = make_site(spec(**options), tuple(response.shape[1:]))
    assert site.shape == expected.shape[1:]
    assert len(site.dims) == len(site.shape)
    assert site.n_units == expected[0].numel()


@pytest.mark.parametrize(
    ("shape", "options", "dims"),
    [
        ((4, 5, 6), {}, ("channel", "y", "x")),
        ((4, 5, 6), {"reduce": "mean"}, ("channel",)),
        ((4, 5, 6), {"channels": [1]}, ("channel", "y", "x")),
        ((7, 4), {}, ("token", "channel")),
        ((7, 4), {"reduce": "max"}, ("channel",)),
        ((4,), {}, ("channel",)),
    ],
)
def test_dimensions(shape: tuple[int, ...], options: dict[str, Any], dims: tuple[str, ...]) -> None:
    assert make_site(spec(**options), shape).dims == dims


@pytest.mark.parametrize("reduce", ["none", "mean"])
@pytest.mark.parametrize("shape", [(4, 5, 6), (7, 4)])
def test_channels_carry_their_number_in_the_layer(shape: tuple[int, ...], reduce: str) -> None:
    assert make_site(spec(reduce=reduce), shape).channels == [0, 1, 2, 3]
    assert make_site(spec(reduce=reduce, channels=[3, 1]), shape).channels == [3, 1]


def test_a_site_is_a_frozen_value() -> None:
    site = make_site(spec(), (4,))
    assert site == Site("layer", ("channel",), (4,), spec())
    with pytest.raises(AttributeError):
        site.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((), {}, r"layer 'layer' gives \(\) per image, expected \(channels,\), \(tokens, channels\) or"),
        ((2, 3, 4, 5), {}, r"gives \(2, 3, 4, 5\) per image, expected .*; record a layer beside it"),
        ((4, 5, 6), {"channels": [1, 4]}, "layer 'layer' has channels 0 to 3, received 4"),
        ((7, 4), {"channels": [6]}, "layer 'layer' has channels 0 to 3, received 6"),
        ((4,), {"reduce": "mean"}, "layer 'layer' has no space to reduce: leave out `reduce: mean`"),
        ((4,), {"reduce": "centre"}, "has no space to reduce: leave out `reduce: centre`"),
        ((7, 4), {"reduce": "centre"}, r"has no centre \(its dimensions are .*'token'.*\): use mean or max"),
    ],
)
def test_refused(shape: tuple[int, ...], options: dict[str, Any], message: str) -> None:
    with pytest.raises(SubjectError, match=message):
        make_site(spec(**options), shape)
