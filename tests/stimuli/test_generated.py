"""Generated stimuli as sets of images: ids, columns, several generators and sources."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neuroprobe.design.repeated import BLANK
from neuroprobe.errors import PlanError
from neuroprobe.protocol.stimuli import StimuliSpec
from neuroprobe.stimuli.decoding import AS_IS, Framing
from neuroprobe.stimuli.images import ImageSet
from neuroprobe.stimuli.opening import open_images


def opened(images: Any, seed: int = 0, declared: Framing = AS_IS) -> ImageSet:
    return open_images(StimuliSpec.model_validate({"images": images}), seed, declared)


GRATINGS = {"grating": {"orientation": [0, 30, 60], "phase": [0, 180]}}


def test_every_combination_is_a_stimulus_with_its_settings() -> None:
    images = opened({"generated": GRATINGS, "screen": {"degrees": 4}, "size": [16, 24]})
    assert images.shape == (3, 16, 24)
    assert images.ids == [f"grating_{number:04}" for number in range(6)]
    columns = images.columns
    assert columns["orientation"].tolist() == [0, 0, 30, 30, 60, 60]
    assert columns["phase"].tolist() == [0, 180] * 3
    assert columns["spatial_frequency"].tolist() == [1.0] * 6  # four cycles on four degrees
    assert columns["colour"] == ["luminance"] * 6
    assert images.factors == ("orientation", "phase")
    assert images.units["orientation"] == "degrees"
    assert images.units["spatial_frequency"] == "cycles/degree"
    shown = images.load([0, 1, BLANK])
    torch.testing.assert_close(shown[0] + shown[1], torch.ones(3, 16, 24))  # phases half a cycle apart
    assert (shown[2] == 0.5).all()


def test_several_generators_leave_out_what_they_lack() -> None:
    images = opened({"generated": {**GRATINGS, "spot": {"size": [4, 8]}}, "size": 16})
    columns = images.columns
    assert columns["generator"] == ["grating"] * 6 + ["spot"] * 2
    np.testing.assert_array_equal(columns["size"], [np.nan] * 6 + [4, 8])
    assert columns["aperture"][5:] == ["circle", "", ""]
    assert images.factors == ()  # none has a value everywhere
    assert images.units["size"] == "px"


def test_sets_of_several_sources_have_the_columns_of_all(image_folder: Path) -> None:
    images = opened([{"folder": str(image_folder), "limit": 2}, {"generated": GRATINGS, "limit": 2, "size": 32}])
    assert images.ids[-1] == "generated/grating_0001"
    assert images.columns["generator"] == ["", "", "grating", "grating"]
    np.testing.assert_array_equal(images.columns["phase"], [np.nan, np.nan, 0, 180])


def test_images_are_scrambled(image_folder: Path) -> None:
    spec = {"generated": {"phase_scrambled": {"coherence": [0, 1]}}, "of": {"folder": str(image_folder), "limit": 3}}
    images, originals = opened({**spec, "size": 20}), opened({"folder": str(image_folder), "limit": 3, "size": 20})
    assert images.columns["of_image"] == [name for name in originals.ids for _ in range(2)]
    assert images.factors == ("of_image", "coherence")
    torch.testing.assert_close(images.load([1, 3, 5]), originals.load([0, 1, 2]), atol=1e-6, rtol=0)
    assert opened({**spec, "size": 20}, seed=1).digest != images.digest == opened({**spec, "size": 20}).digest


def test_the_size_is_the_networks_or_is_asked_for() -> None:
    assert opened({"generated": GRATINGS}, declared=Framing((12, 12))).shape == (3, 12, 12)
    with pytest.raises(PlanError, match="give `size: 224`"):
        opened({"generated": GRATINGS})
    with pytest.raises(PlanError, match=r"cycles/px, and from 0\.5") as found:
        opened({"generated": {"grating": {"spatial_frequency": 0.6}}}, declared=Framing((12, 12)))
    assert found.value.loc == (0, "generated", "grating", "spatial_frequency")
