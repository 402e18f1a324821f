"""A trained network, the 92 images of Kriegeskorte et al. 2008, and human IT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from PIL import Image
from scipy.io import loadmat

import neuroprobe as npr
from neuroprobe.recordings.rdms import read_rdms
from neuroprobe.subjects.cifar_resnet import MEAN, STD, CifarResNet


def logits(data: Path) -> Any:
    told = loadmat(data / "it92" / "Kriegeskorte_Neuron2008_supplementalData.mat")
    shown = [
        Image.fromarray(one).resize((32, 32), Image.Resampling.BICUBIC) for one in told["stimuli_92objs"]["image"][0]
    ]
    x = torch.from_numpy(np.stack([np.asarray(one) for one in shown])).permute(0, 3, 1, 2).float() / 255
    state = torch.load(data / "cifar10" / "resnet20.th", map_location="cpu", weights_only=True)["state_dict"]
    model = CifarResNet(3)
    model.load_state_dict({name.removeprefix("module."): value for name, value in state.items()})
    with torch.no_grad():
        return model.eval()((x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)).numpy()


def test_logits_of_resnet20_are_like_human_it(data: Path) -> None:
    if not (data / "it92").is_dir() or not (data / "cifar10" / "resnet20.th").is_file():
        pytest.skip(f"{data}: no it92 or no weights")
    ids = {"stimulus_id": ("presentation", np.array([str(k) for k in range(92)], dtype=object))}
    response = xr.Dataset({"response": (("presentation", "channel"), logits(data))}, coords=ids)
    tree = xr.DataTree.from_dict({"/": xr.Dataset(coords=ids), "/responses/linear": response})
    human = read_rdms(data / "it92" / "Kriegeskorte_Neuron2008_supplementalData.mat").isel(subject=[1])
    found = npr.compare(tree, human, n_draws=100)
    assert found.score.item() == pytest.approx(0.333, abs=1e-3)
    assert found.score_lower.item() > 0.1
    subjects = npr.compare(tree, read_rdms(data / "it92" / "fmri_IT_RDMs_15subjects.npz"), n_draws=10)
    assert round(subjects.ceiling_lower.item(), 4) == 0.4525
    assert round(subjects.ceiling_upper.item(), 4) == 0.5422
