"""Runs on a GPU agree with those on the CPU: on a real one where there is one, else on one that is pretended.

The pretended one finds tensors of two devices; its numbers are the CPU's, and have to be the same bit for bit. A real
one rounds otherwise: of each variable 98 of 100 numbers have to be within 1e-4 + 1e-3 of the value, as of what is
chosen (a largest response, a rank) some are others.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import neuroprobe as npr
from cluster_runs import SELECTIVITY, maps, masking, protocol
from neuroprobe.protocol.schema import Protocol
from pretended_cuda import pretended_cuda

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*(standard errors|upper bound|accuracies are left out):UserWarning",
    "ignore:.*(undefined in some map|as a whole):UserWarning",
)
HAS_CUDA = torch.cuda.is_available()
SHARE, ABSOLUTE, RELATIVE = 0.98, 1e-4, 1e-3
RUNS: dict[str, dict[str, Any]] = {
    "sobol": {"analyses": ["sobol", "shapley"]},
    "several passes": {"analyses": ["sobol"], "record": {"batch": 5}},
    "contrast": {"analyses": [{"contrast": {"draws": 2, "ranks": ["linear"]}}], "record": {}},
    "selectivity": {"analyses": [SELECTIVITY], "record": {}},
}


def on(device: str, given: dict[str, Any]) -> Protocol:
    return npr.load_protocol({**given, "record": {"batch": 64, **given["record"], "device": device}})


def cuda() -> AbstractContextManager[object]:
    return nullcontext() if HAS_CUDA else pretended_cuda()


def assert_agree(found: xr.DataTree, expected: xr.DataTree) -> None:
    n_compared = 0
    for path in expected.groups:
        for name, variable in expected[path].to_dataset(inherit=False).data_vars.items():
            here, there = found[path][name].values, variable.values
            assert here.dtype == there.dtype, f"{path}/{name}"
            if here.dtype.kind != "f":
                continue
            n_compared += here.size
            if HAS_CUDA:
                close = np.isclose(here, there, ABSOLUTE, RELATIVE, equal_nan=True)
                assert close.size == 0 or close.mean() >= SHARE, f"{path}/{name}: {close.mean()}"
            else:
                np.testing.assert_array_equal(here, there, err_msg=f"{path}/{name}")
    assert n_compared > 100


def compare(given: dict[str, Any], tmp_path: Path, limit: int | None = None) -> None:
    expected = npr.run(on("cpu", given), tmp_path / "cpu.zarr", limit=limit).load()
    with cuda():
        found = npr.run(on("cuda:0", given), tmp_path / "cuda.zarr", limit=limit).load()
    assert_agree(found, expected)


@pytest.mark.parametrize("name", RUNS)
def test_results_agree(name: str, tmp_path: Path) -> None:
    compare(protocol(**RUNS[name]), tmp_path, limit=16 if name == "several passes" else 128)


@pytest.mark.parametrize("noise", [{"gaussian": {"sd": 0.5}}, {"dropout": {"at": ["conv3"], "p": 0.2}}])
def test_stored_responses_agree(noise: dict[str, Any], tmp_path: Path) -> None:
    """Of a lesioned network with noise, to images as they are."""
    given = {
        "neuroprobe": 1,
        "subject": {
            "network": "embedded",
            "layers": ["conv5", {"name": "linear", "transform": "softmax"}],
            "lesion": {"units": "layer == 'conv3' and channel in [1, 2]"},
            "noise": noise,
        },
        "stimuli": {"images": {"photographs": {"per_image": 2}, "size": 16}, "repeats": 2, "blanks": 2},
        "analyses": [],
        "record": {"store": "responses"},
    }
    npr.run(on("cpu", given), tmp_path / "cpu.zarr")
    with cuda():
        npr.run(on("cuda:0", given), tmp_path / "cuda.zarr")
    assert_agree(npr.open_recording(tmp_path / "cuda.zarr"), npr.open_recording(tmp_path / "cpu.zarr"))


def test_masking_agrees(image_folder: Path, tmp_path: Path) -> None:
    npr.run(maps(image_folder), tmp_path / "maps.zarr")
    compare(masking(image_folder, tmp_path / "maps.zarr"), tmp_path)


@pytest.mark.skipif(HAS_CUDA, reason="a real device is tested on")
def test_the_pretended_device_finds_mistakes() -> None:
    with pretended_cuda() as device:
        there, here = torch.arange(6.0, device=device).view(2, 3), torch.ones(2, 3)
        assert there.device == device
        for wrong in (lambda: there + here, lambda: torch.cat([there, here]), lambda: here[there.long()[0] // 3]):
            with pytest.raises(RuntimeError, match="expected all tensors to be on the same device"):
                wrong()
        for wrong in (there.numpy, lambda: np.asarray(there)):
            with pytest.raises((RuntimeError, TypeError)):
                wrong()
        # scalars, and indices, may be on the CPU
        assert (there * torch.tensor(2.0))[torch.tensor([1])].cpu().tolist() == [[6.0, 8.0, 10.0]]
        assert float(there.sum()) == 15
        there[0] = 0
        assert there.to("cpu").numpy().tolist() == [[0, 0, 0], [3, 4, 5]]
