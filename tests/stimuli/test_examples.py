"""Examples of stimuli: what they show, and what they say of it."""

from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from neuroprobe import names
from neuroprobe.protocol import load_protocol
from neuroprobe.rig import Rig, open_rig
from neuroprobe.stimuli.alterations import ALTERATIONS
from neuroprobe.stimuli.examples import example_stimuli

ALTERATIONS_TRIED = [
    {"name": "hue", "switch": 0.5, "shift": {"uniform": [0.1, 0.4]}},
    {"name": "gaussian_blur", "as": "blur", "sigma": {"uniform": [5, 14]}},
    {"name": "grayscale", "switch": 0.01},
]


def rig(protocol: dict[str, Any], **changes: Any) -> Rig:
    return open_rig(load_protocol({**protocol, **changes}))


def examples(one: Rig) -> xr.Dataset:
    return example_stimuli(one.treatment, one.images, one.design(64), one.device)


@pytest.fixture
def one(small_protocol: dict[str, Any]) -> Rig:
    return rig(small_protocol, treatment={"alterations": ALTERATIONS_TRIED})


def as_bytes(images: torch.Tensor) -> np.ndarray:
    return (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def test_images_are_spread_over_the_set(one: Rig) -> None:
    made = examples(one)
    assert made.sizes == {"treatment": 5, "image": 4, "y": 32, "x": 32, "colour": 3}
    assert made["image_id"].values.tolist() == [one.images.ids[i] for i in (0, 8, 15, 23)]
    assert made["class_label"].values.tolist() == ["cat", "dog", "dog", "ship"]
    assert made["treatment"].values.tolist() == ["control", "hue", "blur", "grayscale", "all"]
    control = made["stimulus"].sel(treatment="control")
    np.testing.assert_array_equal(control, as_bytes(one.images.load([0, 8, 15, 23])))


def test_each_alteration_stands_alone_with_the_values_of_row_a(one: Rig) -> None:
    made, drawn = examples(one), one.design(64).presentations(0, 4)
    images = one.images.load([0, 8, 15, 23])
    key = torch.from_numpy(drawn.key[:, 0])
    altered = images
    for label, kind in (("hue", "hue"), ("blur", "gaussian_blur"), ("grayscale", "grayscale")):
        parameters = {
            name: torch.from_numpy(drawn.values[names.parameter(label, name)][:, 0]).float()
            for name in ALTERATIONS[kind].parameters
        }
        expected = ALTERATIONS[kind](images, parameters, key, 224)
        np.testing.assert_array_equal(made["stimulus"].sel(treatment=label), as_bytes(expected))
        altered = ALTERATIONS[kind](altered, parameters, key, 224)
    # though the switches are nearly always off
    np.testing.assert_array_equal(made["stimulus"].sel(treatment="all"), as_bytes(altered))


def test_parameters_are_said_in_words(one: Rig) -> None:
    said, values = examples(one)["parameters"], one.design(64).presentations(0, 4).values
    for image in range(4):
        words = said.isel(image=image)
        assert words.sel(treatment="control") == words.sel(treatment="grayscale") == ""
        assert words.sel(treatment="hue") == f"shift {values['hue_shift'][image, 0]:.3g} turns"
        assert words.sel(treatment="blur") == f"sigma {values['blur_sigma'][image, 0]:.3g} px of 224"
        assert words.sel(treatment="all") == "as alone, in the order hue, blur, grayscale"


def test_lengths_of_the_images_themselves(small_protocol: dict[str, Any]) -> None:
    treatment = {"alterations": ["erasing"], "reference_side": "image"}
    said = str(examples(rig(small_protocol, treatment=treatment))["parameters"].sel(treatment="erasing")[0].item())
    assert [part.split()[0] for part in said.split(", ")] == ["row", "column", "area", "aspect", "outside"]
    assert "px," in said
    assert "of 224" not in said


def test_order_as_a_factor_is_that_of_row_a(small_protocol: dict[str, Any]) -> None:
    treatment = {"alterations": ALTERATIONS_TRIED, "order": "factor"}
    one = rig(small_protocol, treatment=treatment)
    made, drawn = examples(one), one.design(64).presentations(0, 4)
    ranks = [["hue", "blur", "grayscale"], ["hue", "grayscale", "blur"], ["blur", "hue", "grayscale"]]
    ranks += [["blur", "grayscale", "hue"], ["grayscale", "hue", "blur"], ["grayscale", "blur", "hue"]]
    for image, rank in enumerate(drawn.values["order"][:, 0].astype(int)):
        expected = f"as alone, in the order {', '.join(ranks[rank])}"
        assert made["parameters"].sel(treatment="all")[image] == expected


@pytest.mark.parametrize("image", ["factor", "redrawn"])
def test_images_are_the_same_whatever_they_are_in_the_design(small_protocol: dict[str, Any], image: str) -> None:
    frozen = examples(rig(small_protocol))
    stimuli = {**small_protocol["stimuli"], "image": image}
    made = examples(rig(small_protocol, stimuli=stimuli))
    xr.testing.assert_identical(made["image_id"], frozen["image_id"])
    np.testing.assert_array_equal(made["stimulus"][0], frozen["stimulus"][0])


def test_few_images_without_labels(small_protocol: dict[str, Any], image_folder) -> None:
    images = {"folder": str(image_folder / "cat"), "limit": 3}
    made = examples(rig(small_protocol, stimuli={"images": images}))
    assert made.sizes["image"] == 3
    assert "class_label" not in made.coords


def generated(**given: Any) -> dict[str, Any]:
    return {"stimuli": {"images": {"generated": given, "screen": {"degrees": 8}, "size": 32}}}


def test_generated_stimuli_are_more_and_say_what_was_varied(small_protocol: dict[str, Any]) -> None:
    small_protocol.pop("treatment")
    changes: dict[str, Any] = {"analyses": [], "record": {"store": "responses"}}
    grating = {"orientation": {"from": 0, "to": 174, "step": 6}, "phase": [0, 180], "aperture": ["circle", "square"]}
    one = rig(small_protocol, **generated(grating=grating | {"size": 4}), **changes)
    made = examples(one)
    assert made.sizes["image"] == 24
    chosen = [one.images.ids.index(name) for name in made["image_id"].values]
    assert (chosen[0], chosen[-1]) == (0, 119)
    assert set(np.diff(chosen)) == {5, 6}
    np.testing.assert_array_equal(made["stimulus"][0], as_bytes(one.images.load(chosen)))
    columns = one.images.columns
    for number, text in zip(chosen, made["settings"].values, strict=True):
        words = [f"orientation {columns['orientation'][number]:g}°", f"phase {columns['phase'][number]:g}°"]
        assert text.split(", ") == [*words, f"aperture {columns['aperture'][number]}"]
    both = rig(
        small_protocol, **generated(grating=grating, spot={"size": [1, 2.5]}, lab_hue={"hue": [0, 90]}), **changes
    )
    settings = examples(both)["settings"].values.tolist()
    assert settings[-4:] == ["spot, size 1°", "spot, size 2.5°", "lab_hue, hue 0°", "lab_hue, hue 90°"]
    assert settings[0] == "grating, orientation 0°, phase 0°, aperture circle"
    assert 20 < len(settings) < 36


def test_generated_stimuli_that_are_altered_are_few(small_protocol: dict[str, Any]) -> None:
    given = generated(grating={"spatial_frequency": [0.5, 1], "phase": {"from": 0, "to": 315, "step": 45}})
    made = examples(rig(small_protocol, **given, treatment={"alterations": ALTERATIONS_TRIED}))
    assert made.sizes["image"] == 4
    assert made["settings"].values[0] == "spatial frequency 0.5 cycles/°, phase 0°"
