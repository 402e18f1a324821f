"""Noise of networks: a function of seed, layer and presentation, whatever the forward passes are."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import neuroprobe as npr
from neuroprobe.errors import ResponseError, SubjectError, UnknownNameError
from neuroprobe.probe.noise import Dropout, Dropped

PROTOCOL: dict[str, Any] = {
    "neuroprobe": 1,
    "seed": 4,
    "subject": {"network": "embedded", "layers": [{"name": "conv2", "reduce": "centre"}, "linear"]},
    "stimuli": {
        "images": {"generated": {"grating": {"orientation": [0, 45, 90, 135]}}, "size": 32},
        "repeats": 60,
        "blanks": 1,
    },
    "analyses": [],
    "record": {"store": "responses", "device": "cpu"},
}
NUMBERS = itertools.count()


def recorded(folder: Path, noise: Any = None, batch: int = 128, repeats: int = 60, **subject: Any) -> xr.DataTree:
    given = copy.deepcopy(PROTOCOL)
    given["subject"] |= subject | ({} if noise is None else {"noise": noise})
    given["record"]["batch"] = batch
    given["stimuli"]["repeats"] = repeats
    out = folder / f"{next(NUMBERS)}.zarr"
    npr.run(given, out)
    return npr.open_recording(out)


def responses(tree: xr.DataTree, layer: str = "conv2") -> np.ndarray:
    return tree[f"responses/{layer}"].response.values


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("noise")


@pytest.fixture(scope="module")
def silent(folder: Path) -> xr.DataTree:
    return recorded(folder)


def test_gaussian_noise_is_of_the_size_that_is_asked_for(folder: Path, silent: xr.DataTree) -> None:
    noisy = recorded(folder, {"gaussian": {"sd": 0.5}})
    for layer in ("conv2", "linear"):
        clean = responses(silent, layer).astype(np.float64)
        noise = responses(noisy, layer) - clean
        # the layer's own: root mean square over units of the deviation over stimuli
        _, rows = np.unique([str(one) for one in silent.stimulus_id.values], return_index=True)
        stimuli = np.delete(clean[rows], [str(one) for one in silent.stimulus_id.values[rows]].index("blank"), axis=0)
        expected = 0.5 * np.sqrt(stimuli.var(0, ddof=1).mean())
        assert noise.std() == pytest.approx(expected, rel=4 / np.sqrt(2 * noise.size))
        assert noise.mean() == pytest.approx(0, abs=4 * expected / np.sqrt(noise.size))
        attrs = noisy[f"responses/{layer}"].response.attrs
        assert attrs["noise_sd"] == pytest.approx(expected, rel=1e-5)
        assert attrs["noise"] == "gaussian"
        # trials are independent, and so are units
        z = noise / expected
        assert abs((z[1:] * z[:-1]).mean()) < 4 / np.sqrt(z[1:].size)
        assert abs((z[:, 1:] * z[:, :-1]).mean()) < 4 / np.sqrt(z[:, 1:].size)


def test_counts_are_poisson_around_rates(folder: Path, silent: xr.DataTree) -> None:
    noisy = recorded(folder, {"poisson": {"scale": 4, "negative": "clip"}})
    mean, counts = 4 * np.maximum(responses(silent, "conv2").astype(np.float64), 0), responses(noisy, "conv2")
    assert (counts == counts.round()).all()
    assert not counts[mean == 0].any()
    away = (counts - mean)[mean > 0] / np.sqrt(mean[mean > 0])
    assert abs(away.mean()) < 4 / np.sqrt(away.size)
    assert (away**2).mean() == pytest.approx(1, abs=0.1)
    attrs = noisy["responses/conv2"].response.attrs
    assert (attrs["units"], attrs["negative_responses"], attrs["noise_scale"]) == ("spikes", "count as 0", 4)
    # so there is noise for statistics of trials
    found = npr.reliability(noisy, "orientation")
    fano = found.fano_factor.values[found.layer.values == "conv2"]
    assert np.nanmedian(fano) == pytest.approx(1, abs=0.1)


def test_negative_rates_are_refused(folder: Path) -> None:
    with pytest.raises(
        ResponseError, match=r"layer 'linear': a response of -.* is no rate of Poisson's: record behind"
    ):
        recorded(folder, "poisson", repeats=1, layers=["linear"])


@pytest.mark.parametrize("noise", ["gaussian", {"poisson": {"negative": "clip"}}, {"dropout": {"at": ["conv1"]}}])
def test_trials_do_not_depend_on_forward_passes(folder: Path, noise: Any) -> None:
    first = recorded(folder, noise, 64, repeats=4)
    longer = recorded(folder, noise, 7, repeats=6)
    for layer in ("conv2", "linear"):
        few, many = responses(first, layer), responses(longer, layer)
        np.testing.assert_allclose(many[: len(few)], few, atol=1e-4 * np.abs(few).max())
        # trials of one stimulus differ
        same = first.stimulus_id.values == first.stimulus_id.values[0]
        assert (few[same].std(0) > 0).any()


def test_dropout_leaves_values_larger_or_none(folder: Path, silent: xr.DataTree) -> None:
    dropped = recorded(folder, {"dropout": {"at": ["conv2"], "p": 0.25}})
    clean, found = responses(silent), responses(dropped)
    kept = found != 0
    np.testing.assert_allclose(found[kept], clean[kept] / 0.75, rtol=1e-4, atol=1e-6)
    share = (~kept & (clean != 0)).sum() / (clean != 0).sum()
    assert share == pytest.approx(0.25, abs=4 * np.sqrt(0.25 * 0.75 / (clean != 0).sum()))
    assert dropped["responses/linear"].response.attrs["noise_long_name"].endswith("0.25 at conv2")
    # what lies behind is noisy too
    same = dropped.stimulus_id.values == dropped.stimulus_id.values[0]
    assert (responses(dropped, "linear")[same].std(0) > 0).all()


class WithDropout(nn.Module):
    """A layer behind dropout of single values, and of channels."""

    def __init__(self) -> None:
        super().__init__()
        self.values, self.channels, self.last = nn.Dropout(0.3), nn.Dropout2d(0.5), nn.ReLU()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.last(self.channels(self.values(self.values(images))))


def test_own_modules_of_dropout_drop_values_and_channels() -> None:
    network = WithDropout().eval()
    noise = Dropout(0, [Dropped("values", 0.3, False), Dropped("channels", 0.5, True)])
    images = torch.ones(40, 3, 9, 9)
    with noise.within(network):
        noise.present(np.arange(38), 40)
        shown = network(images)
    assert torch.equal(network(images), images)  # the hooks are gone
    dropped = (shown == 0).flatten(2).all(2)
    assert 0.3 < dropped.float().mean() < 0.7
    of_kept = shown[~dropped]
    # twice by values, of their own draws, and once by channels
    assert (of_kept == 0).float().mean() == pytest.approx(1 - 0.7**2, abs=0.03)
    torch.testing.assert_close(of_kept[of_kept > 0].unique(), torch.tensor([1 / 0.7**2 / 0.5]))
    assert torch.equal(shown[37], shown[39])  # a pass is filled up by its last presentation


@pytest.mark.parametrize(
    ("noise", "kind", "message"),
    [
        ("dropout", SubjectError, "has no modules of dropout: say where values are dropped by"),
        ({"dropout": {"at": ["conv99"]}}, UnknownNameError, "unknown layer 'conv99'"),
    ],
)
def test_dropout_needs_a_place(folder: Path, noise: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        recorded(folder, noise, repeats=1)


def test_gaussian_noise_needs_responses_that_vary(folder: Path) -> None:
    given = copy.deepcopy(PROTOCOL)
    given["subject"]["noise"] = "gaussian"
    given["stimuli"] = {"images": {"generated": {"grating": {"orientation": 0}}, "size": 32}}
    with pytest.raises(SubjectError, match="gives the same responses to all stimuli that were tried"):
        npr.run(given, folder / "constant.zarr")
