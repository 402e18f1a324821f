from __future__ import annotations

from itertools import permutations
from math import factorial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from neuroprobe.design.factors import Factor, Input
from neuroprobe.design.laws import Law
from neuroprobe.design.pick_freeze import PickFreeze
from neuroprobe.protocol.reader import load_protocol
from neuroprobe.protocol.treatment import TreatmentSpec
from neuroprobe.rig import Rig, alteration_factor, make_treatment, open_rig
from neuroprobe.stimuli import treatment as treatment_module
from neuroprobe.stimuli.alterations import ALTERATIONS, Parameter, alteration
from neuroprobe.stimuli.alterations.contract import per_image
from neuroprobe.stimuli.folders import open_folder
from neuroprobe.stimuli.images import ImageSet
from neuroprobe.stimuli.treatment import Applied, Treatment, n_orders, nth_order

N = 5
KEY = torch.arange(N)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(N, 3, 32, 32, generator=torch.Generator().manual_seed(1))


# no two of them commute: the result tells in which order they were applied
FUNCTIONS = {"halved": lambda x: x / 2, "inverted": lambda x: 1 - x, "squared": lambda x: x**2}


@pytest.fixture
def arithmetic(own_alterations: None) -> None:
    for name, function in FUNCTIONS.items():
        alteration(name)(function)


def treat(names: list[str], reference: float | None = None) -> Treatment:
    return Treatment(tuple(Applied(name, name) for name in names), reference)


def full(value: float) -> Tensor:
    return torch.full((N,), value, dtype=torch.float64)


def noise(images: Tensor, level: Tensor, key: Tensor) -> Tensor:
    """Multiply by noise that is a function of the key."""
    drawn = [torch.rand(images.shape[1:], generator=torch.Generator().manual_seed(int(k))) for k in key]
    return images * (1 - level.view(-1, 1, 1, 1) * torch.stack(drawn))


class TestOrder:
    @pytest.mark.parametrize("n", range(1, 7))
    def test_nth_order_counts_through_all_permutations(self, n: int) -> None:
        assert n_orders(n) == factorial(n)
        expected = list(permutations(range(n)))
        assert nth_order(torch.arange(factorial(n)), n).tolist() == [list(order) for order in expected]

    @given(st.integers(1, 12).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, factorial(n) - 1))))
    def test_nth_order_of_any_rank(self, case: tuple[int, int]) -> None:
        n, rank = case
        order = nth_order(torch.tensor([rank]), n)[0].tolist()
        assert sorted(order) == list(range(n))
        # the rank is the number of permutations that come before
        before = sum(sum(later < here for later in order[i:]) * factorial(n - 1 - i) for i, here in enumerate(order))
        assert before == rank

    @pytest.mark.usefixtures("arithmetic")
    def test_fixed(self, images: Tensor) -> None:
        result = treat(["halved", "inverted", "squared"]).apply(images, {}, KEY)
        assert torch.equal(result, (1 - images / 2) ** 2)

    @pytest.mark.usefixtures("arithmetic")
    def test_list(self, images: Tensor) -> None:
        listed = ["squared", "halved", "inverted"]
        spec = TreatmentSpec.model_validate(
            {
                "alterations": [{"name": name, "switch": 0.5} for name in ("halved", "inverted", "squared")],
                "order": listed,
            }
        )
        treatment = make_treatment(spec)
        assert [one.name for one in treatment.applied] == listed
        assert torch.equal(treatment.apply(images, {}, KEY), 1 - images**2 / 2)

    @pytest.mark.usefixtures("arithmetic")
    def test_factor(self, images: Tensor) -> None:
        names = list(FUNCTIONS)
        ranks = torch.tensor([0.0, 5.0, 3.0, 1.0, 4.0], dtype=torch.float64)
        result = treat(names).apply(images, {"order": ranks}, KEY)
        orders = list(permutations(names))
        for i, rank in enumerate(ranks.int().tolist()):
            expected = images[i]
            for name in orders[rank]:
                expected = FUNCTIONS[name](expected)
            assert torch.equal(result[i], expected), orders[rank]


class TestEightBit:
    @pytest.mark.usefixtures("arithmetic")
    def test_each_alteration_is_rounded(self, images: Tensor) -> None:
        names = ["halved", "squared"]
        applied = tuple(Applied(name, name) for name in names)
        result = Treatment(applied, None, eight_bit=True).apply(
            images, {"squared_on": torch.tensor([1, 0, 1, 0, 1.0])}, KEY
        )
        halved = (images * 127.5).round() / 255
        expected = torch.where(per_image(torch.tensor([1, 0, 1, 0, 1.0])) > 0, (halved**2 * 255).round() / 255, halved)
        assert torch.equal(result, expected)

    def test_a_protocol_says_so(self) -> None:
        spec = {"alterations": [{"name": "hflip", "switch": 0.5}], "eight_bit": True}
        assert make_treatment(TreatmentSpec.model_validate(spec)).eight_bit
        assert not make_treatment(TreatmentSpec.model_validate({**spec, "eight_bit": False})).eight_bit


class TestSwitch:
    def test_all_off_leaves_the_images_bit_for_bit(self, images: Tensor) -> None:
        names = list(ALTERATIONS)
        values = {f"{name}_on": full(0) for name in names}
        for name in names:
            for key, parameter in ALTERATIONS[name].parameters.items():
                values[f"{name}_{key}"] = full(float(parameter.law.ppf(0.9)))
        kept = images.clone()
        result = treat(names).apply(images, values, KEY)
        assert torch.equal(result, kept)
        assert result.data_ptr() != images.data_ptr()

    @pytest.mark.usefixtures("arithmetic")
    def test_off_for_some_images(self, images: Tensor) -> None:
        on = torch.tensor([1.0, 0.0, 0.0, 1.0, 0.0], dtype=torch.float64)
        result = treat(["halved", "inverted"]).apply(images, {"halved_on": on}, KEY)
        assert torch.equal(result, 1 - torch.where(on.view(-1, 1, 1, 1) > 0, images / 2, images))

    def test_the_input_is_left_alone(self, images: Tensor) -> None:
        kept = images.clone()
        result = treat(["grayscale"]).apply(images, {}, KEY)
        assert torch.equal(images, kept)
        assert not torch.equal(result, kept)

    def test_each_image_gets_its_own_parameters(self, images: Tensor) -> None:
        angle = torch.tensor([-10.0, 0.0, 5.0, 10.0, 3.0], dtype=torch.float64)
        on = torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0], dtype=torch.float64)
        result = treat(["rotation"]).apply(
            images, {"rotation_on": on, "rotation_angle": angle, "rotation_crop": full(0)}, KEY
        )
        for i in range(N):
            one = {"angle": angle[i : i + 1].float(), "crop": torch.zeros(1)}
            alone = ALTERATIONS["rotation"](images[i : i + 1], one, KEY[:1], 32)
            expected = alone[0] if on[i] else images[i]
            torch.testing.assert_close(result[i], expected, rtol=0, atol=1e-6)

    @pytest.mark.usefixtures("own_alterations")
    @pytest.mark.parametrize("on", [[1, 1, 1, 1, 1], [1, 0, 1, 1, 0]])
    def test_an_alteration_may_return_a_view_of_its_images(self, images: Tensor, on: list[int]) -> None:
        alteration("transposed")(lambda images: images.transpose(2, 3))
        alteration("nothing")(lambda images: images)
        switch = torch.tensor(on, dtype=torch.float64)
        result = treat(["transposed", "nothing"]).apply(images, {"transposed_on": switch}, KEY)
        expected = torch.where(switch.view(-1, 1, 1, 1) > 0, images.transpose(2, 3), images)
        assert torch.equal(result, expected)

    @pytest.mark.usefixtures("own_alterations")
    def test_each_image_gets_its_own_key(self, images: Tensor) -> None:
        alteration("noise", level=Parameter(Law("uniform", (0, 1))))(noise)
        key = torch.tensor([11, 12, 13, 14, 12])
        on = torch.tensor([0.0, 1.0, 0.0, 1.0, 1.0], dtype=torch.float64)
        result = treat(["noise"]).apply(images, {"noise_on": on, "noise_level": full(0.5)}, key)
        expected = torch.where(on.view(-1, 1, 1, 1) > 0, noise(images, torch.full((N,), 0.5), key), images)
        assert torch.equal(result, expected)

    def test_the_same_alteration_twice_under_two_names(self, images: Tensor) -> None:
        treatment = Treatment((Applied("first", "hue"), Applied("second", "hue")), None)
        values = {"first_shift": full(0.2), "second_shift": full(0.3)}
        expected = ALTERATIONS["hue"](images, {"shift": torch.full((N,), 0.5)}, KEY, 32)
        torch.testing.assert_close(treatment.apply(images, values, KEY), expected, rtol=0, atol=1e-5)


class TestReference:
    def test_lengths_are_in_px_of_the_reference(self, images: Tensor) -> None:
        at_224 = treat(["gaussian_blur"], 224.0).apply(images, {"gaussian_blur_sigma": full(7.0)}, KEY)
        at_image = treat(["gaussian_blur"], None).apply(images, {"gaussian_blur_sigma": full(1.0)}, KEY)
        torch.testing.assert_close(at_224, at_image)
        assert not torch.allclose(at_image, images, atol=1e-3)

    def test_from_a_protocol(self) -> None:
        base = {"alterations": [{"name": "hue"}]}
        assert make_treatment(TreatmentSpec.model_validate(base)).reference == 224
        image = TreatmentSpec.model_validate(base | {"reference_side": "image"})
        assert make_treatment(image).reference is None


@pytest.mark.usefixtures("own_alterations")
@pytest.mark.parametrize(("side", "seen"), [(224, [2, 2, 1]), (112, [5]), (300, [1] * 5)])
def test_slices_hold_so_many_pixels(side: int, seen: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    noted = []
    alteration("noted")(lambda images: noted.append(len(images)) or images)
    monkeypatch.setattr(treatment_module, "SLICE", 2)
    treat(["noted"]).apply(torch.zeros(N, 3, side, side), {}, KEY)
    assert noted == seen


@pytest.mark.usefixtures("own_alterations")
def test_rows_of_a_base_sample_share_their_noise(image_folder: Path) -> None:
    alteration("noise", level=Parameter(Law("uniform", (0, 1)), low=0, high=1, identity=0.0))(noise)
    images = ImageSet(open_folder(image_folder))
    shift, level = Law("uniform", (-0.5, 0.5)), Law("uniform", (0.5, 1.0))
    factors = (Factor("hue", (Input("hue_shift", shift),)), Factor("noise", (Input("noise_level", level),)))
    design = PickFreeze(factors, seed=3, n_images=len(images), second_order=True, scramble=4)
    rows = design.presentations(0, 4)
    sample, row = np.indices(rows.image.shape).reshape(2, -1)
    # noise comes first, so that dividing by the image shows it
    only_noise = treat(["noise"])
    shown = only_noise.stimuli(images, rows, sample, row)
    plain = images.load(rows.image[sample, row])
    levels = torch.from_numpy(rows.values["noise_level"][sample, row]).float().view(-1, 1, 1, 1)
    # a black pixel tells nothing
    field = torch.where(plain > 0.2, (1 - shown / plain) / levels, torch.nan).view(*rows.image.shape, 3, 32, 32)
    for i in range(4):
        for j in range(1, rows.image.shape[1]):
            torch.testing.assert_close(field[i, j], field[i, 0], rtol=0, atol=1e-5, equal_nan=True)
        assert (field[i, 0] - field[(i + 1) % 4, 0]).abs().nanmean() > 0.1


@pytest.fixture
def rig(small_protocol: dict[str, Any]) -> Rig:
    small_protocol["treatment"]["order"] = "factor"
    return open_rig(load_protocol(small_protocol))


class TestStimuliOfAProtocol:
    def test_slices_do_not_change_the_stimuli(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        rows = rig.design(16).presentations(16, 20)
        sample, row = np.indices(rows.image.shape).reshape(2, -1)
        whole = rig.treatment.stimuli(rig.images, rows, sample, row)
        assert whole.shape == (sample.size, 3, 32, 32)
        assert whole.dtype == torch.float32
        for step in (1, 3, 1000):
            monkeypatch.setattr(treatment_module, "SLICE", step)
            again = rig.treatment.stimuli(rig.images, rows, sample, row)
            torch.testing.assert_close(again, whole, rtol=0, atol=2e-6)

    def test_any_selection_of_rows_gives_the_same_stimuli(self, rig: Rig, rng: np.random.Generator) -> None:
        rows = rig.design(16).presentations(0, 4)
        sample, row = np.indices(rows.image.shape).reshape(2, -1)
        whole = rig.treatment.stimuli(rig.images, rows, sample, row)
        chosen = rng.permutation(sample.size)[:11]
        some = rig.treatment.stimuli(rig.images, rows, sample[chosen], row[chosen])
        torch.testing.assert_close(some, whole[chosen], rtol=0, atol=2e-6)

    def test_rows_that_need_not_be_run_show_the_same_stimulus(self, rig: Rig) -> None:
        rows = rig.design(16).presentations(0, 8)
        n, n_rows = rows.image.shape
        sample, row = np.indices((n, n_rows)).reshape(2, -1)
        shown = rig.treatment.stimuli(rig.images, rows, sample, row).view(n, n_rows, 3, 32, 32)
        spared = np.argwhere(~rows.is_run)
        assert len(spared)
        for i, j in spared.tolist():
            torch.testing.assert_close(shown[i, j], shown[i, rows.source[i, j]], rtol=0, atol=2e-6)

    def test_cached_images_are_not_altered(self, rig: Rig) -> None:
        before = rig.images.load(range(len(rig.images)))
        rows = rig.design(16).presentations(0, 2)
        sample, row = np.indices(rows.image.shape).reshape(2, -1)
        rig.treatment.stimuli(rig.images, rows, sample, row)
        assert torch.equal(rig.images.load(range(len(rig.images))), before)

    def test_factors_are_the_alterations_and_the_order(self, rig: Rig) -> None:
        names = [factor.name for factor in rig.factors]
        assert names == ["erasing", "grayscale", "gaussian_blur", "hue", "rotation", "order"]
        spec = rig.protocol.treatment.alterations[3]
        assert [item.name for item in alteration_factor(spec).inputs] == ["hue_on", "hue_shift"]
