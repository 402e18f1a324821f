from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

from neuroprobe.design.laws import Law
from neuroprobe.errors import RegistryError
from neuroprobe.stimuli.alterations import ALTERATIONS, REFERENCE_SIDE, Parameter, alteration, check_alteration
from neuroprobe.stimuli.decoding import Framing
from neuroprobe.stimuli.images import ImageSet
from neuroprobe.stimuli.photographs import open_photographs

OURS = ("erasing", "grayscale", "gaussian_blur", "hue", "rotation")
N_IMAGES = 6


def random_images(height: int, width: int, n: int = N_IMAGES, seed: int = 0) -> Tensor:
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(seed))


def photographs(height: int, width: int) -> Tensor:
    crops = ImageSet(open_photographs(crop=96, per_image=1, seed=3), framing=Framing((height, width)))
    assert len(crops) == N_IMAGES
    return crops.load(range(N_IMAGES))


@pytest.fixture(params=["random", "photographs", "random, wide", "photographs, tall"])
def images(request: pytest.FixtureRequest) -> Tensor:
    height, width = {"wide": (40, 56), "tall": (60, 44)}.get(request.param.split(", ")[-1], (48, 48))
    return random_images(height, width) if "random" in request.param else photographs(height, width)


def altered(name: str, images: Tensor, **parameters: list[float]) -> Tensor:
    """Apply an alteration with lengths in px of these images."""
    values = {key: torch.tensor(value, dtype=images.dtype) for key, value in parameters.items()}
    return ALTERATIONS[name](images, values, torch.arange(len(images)), min(images.shape[-2:]))


class TestAgainstTorchvision:
    def test_gaussian_blur(self, images: Tensor) -> None:
        sigmas = [0.1, 0.4, 0.8, 1.1, 1.7, 2.0]
        expected = [vision.gaussian_blur(image, [7, 7], [s, s]) for image, s in zip(images, sigmas, strict=True)]
        torch.testing.assert_close(altered("gaussian_blur", images, sigma=sigmas), torch.stack(expected))

    def test_gaussian_blur_has_a_wider_kernel_for_a_larger_sigma(self, images: Tensor) -> None:
        sigmas, sizes = [2.0, 2.5, 4.1, 3.9, 6.0, 0.5], [7, 9, 15, 13, 19, 7]
        expected = [
            vision.gaussian_blur(image, [k, k], [s, s]) for image, s, k in zip(images, sigmas, sizes, strict=True)
        ]
        torch.testing.assert_close(altered("gaussian_blur", images, sigma=sigmas), torch.stack(expected))

    def test_hue(self, images: Tensor) -> None:
        shifts = [-0.5, -0.31, 0.02, 1 / 3, 0.45, 0.5]
        expected = [vision.adjust_hue(image, shift) for image, shift in zip(images, shifts, strict=True)]
        torch.testing.assert_close(altered("hue", images, shift=shifts), torch.stack(expected), rtol=0, atol=1e-5)

    def test_hue_of_eight_bit_colours(self) -> None:
        # quantised images are full of ties between channels, where the formula of the hue changes
        images = (random_images(32, 32) * 8).round() / 8
        expected = torch.stack([vision.adjust_hue(image, 0.27) for image in images])
        torch.testing.assert_close(altered("hue", images, shift=[0.27] * N_IMAGES), expected, rtol=0, atol=1e-5)

    def test_grayscale(self, images: Tensor) -> None:
        torch.testing.assert_close(altered("grayscale", images), vision.rgb_to_grayscale(images, 3))

    def test_rotation(self, images: Tensor) -> None:
        angles = [-10.0, -3.3, 0.5, 4.0, 10.0, 37.0]
        height, width = images.shape[-2:]
        margin = 40
        expected = []
        for image, angle in zip(images, angles, strict=True):
            padded = vision.pad(image, [margin, margin], padding_mode="symmetric")
            rotated = vision.rotate(padded, angle, interpolation=vision.InterpolationMode.BILINEAR)
            expected.append(rotated[:, margin : margin + height, margin : margin + width])
        # coordinates of some tens of px carry rounding errors of 1e-5 px
        torch.testing.assert_close(altered("rotation", images, angle=angles), torch.stack(expected), rtol=0, atol=5e-5)

    def test_erasing(self, images: Tensor) -> None:
        height, width = images.shape[-2:]
        rows = [0.0, 20.2, height - 1.0, 3.4, height / 2, 11.0]
        columns = [0.0, 17.0, width - 1.0, width - 4.3, width / 2, 30.0]
        areas = [0.2, 0.1, 0.33, 0.02, 1.0, 0.05]
        aspects = [1.0, 0.3, 3.3, 0.5, 1.0, 2.2]
        result = altered("erasing", images, row=rows, column=columns, area=areas, aspect=aspects)
        for i, image in enumerate(images):
            pixels = areas[i] * height * width
            box = round((pixels * aspects[i]) ** 0.5), round((pixels / aspects[i]) ** 0.5)
            start = round(rows[i] - box[0] / 2), round(columns[i] - box[1] / 2)
            top, left = max(start[0], 0), max(start[1], 0)
            bottom, right = min(start[0] + box[0], height), min(start[1] + box[1], width)
            assert bottom > top
            assert right > left
            expected = vision.erase(image, top, left, bottom - top, right - left, torch.tensor(0.0))
            assert torch.equal(result[i], expected), f"image {i}"


def test_half_a_turn_is_a_flip_on_both_sides(images: Tensor) -> None:
    angles = [180.0] * N_IMAGES
    torch.testing.assert_close(altered("rotation", images, angle=angles), images.flip(2, 3), rtol=0, atol=5e-5)


def test_hue_keeps_value_and_saturation(images: Tensor) -> None:
    result = altered("hue", images, shift=[-0.4, -0.1, 0.1, 0.25, 0.3, 0.5])
    torch.testing.assert_close(result.amax(1), images.amax(1))
    torch.testing.assert_close(result.amin(1), images.amin(1))


@pytest.mark.parametrize("name", [name for name in OURS if name != "grayscale"])
def test_identity_gives_the_image_bit_for_bit(name: str, images: Tensor) -> None:
    parameters = ALTERATIONS[name].parameters
    values = {
        key: [float(parameter.law.ppf(0.3)) if parameter.identity is None else parameter.identity] * N_IMAGES
        for key, parameter in parameters.items()
    }
    assert any(parameter.identity is not None for parameter in parameters.values())
    assert torch.equal(altered(name, images, **values), images)


def test_grayscale_of_black_is_black() -> None:
    assert torch.equal(altered("grayscale", torch.zeros(2, 3, 8, 8)), torch.zeros(2, 3, 8, 8))


def test_the_registry_holds_our_alterations_and_all_keep_the_contract() -> None:
    assert set(OURS) <= set(ALTERATIONS)
    for name in ALTERATIONS:
        check_alteration(name)
        check_alteration(name, side=17, n_images=3)
        assert ALTERATIONS[name].summary.endswith(".")


def test_an_unknown_alteration_names_the_closest() -> None:
    with pytest.raises(RegistryError, match="did you mean 'gaussian_blur'"):
        ALTERATIONS["gausian_blur"]


class TestBrokenAlterations:
    """Each way of breaking the contract has a sentence of its own."""

    @pytest.mark.parametrize(
        ("function", "sentence"),
        [
            (lambda images: images.mul_(0.5), "it changed its input: work on a copy"),
            (lambda images: images[:, :, ::2], r"it gave shape \(6, 3, 16, 32\) for \(6, 3, 32, 32\)"),
            (lambda images: images[:, :1], r"it gave shape \(6, 1, 32, 32\) for \(6, 3, 32, 32\)"),
            (lambda images: images.mean(), r"it gave shape \(\) for \(6, 3, 32, 32\)"),
            (lambda images: images[0], r"it gave shape \(3, 32, 32\) for \(6, 3, 32, 32\)"),
            (lambda images: images.double(), r"it gave torch.float64 for torch.float32"),
            (lambda images: images + 1, r"outside \[0, 1\]: clamp them"),
            (lambda images: images - 0.5, r"outside \[0, 1\]: clamp them"),
            (lambda images: images * float("nan"), r"outside \[0, 1\]: clamp them"),
            (lambda images: torch.rand_like(images), "it is not deterministic: draw from `key`"),
            (lambda images: images * images.mean(), "it mixes the images of a batch"),
            (lambda images: images.flip(0), "it mixes the images of a batch"),
        ],
        ids=["in place", "rows", "channels", "scalar", "one", "dtype", "high", "low", "nan", "random", "mean", "swap"],
    )
    @pytest.mark.usefixtures("own_alterations")
    def test_sentence(self, function: object, sentence: str) -> None:
        alteration("broken")(function)
        with pytest.raises(RegistryError, match=f"^alteration 'broken': .*{sentence}"):
            check_alteration("broken")

    @pytest.mark.usefixtures("own_alterations")
    def test_identity(self) -> None:
        @alteration("dimmed", level=Parameter(Law("uniform", (0, 1)), identity=1.0))
        def dimmed(images: Tensor, level: Tensor) -> Tensor:
            return images * 0.999 * level.view(-1, 1, 1, 1)

        with pytest.raises(RegistryError, match=r"at its identity \{'level': 1.0\} .* bit for bit"):
            check_alteration("dimmed")

    @pytest.mark.usefixtures("own_alterations")
    def test_a_key_that_makes_images_depend_on_each_other(self) -> None:
        @alteration("shared_noise")
        def shared_noise(images: Tensor, key: Tensor) -> Tensor:
            rng = torch.Generator().manual_seed(int(key[0]))
            return torch.rand(images.shape, generator=rng)

        with pytest.raises(RegistryError, match="it mixes the images of a batch"):
            check_alteration("shared_noise")

    def test_a_name_that_is_taken(self) -> None:
        with pytest.raises(RegistryError, match="'hue' is registered already"):
            alteration("hue")(lambda images: images)


class TestCalls:
    @pytest.mark.usefixtures("own_alterations")
    @pytest.mark.parametrize(("height", "width"), [(32, 32), (224, 224), (56, 112)])
    def test_lengths_scale_with_the_shorter_side(self, height: int, width: int) -> None:
        received: dict[str, Tensor] = {}

        @alteration(
            "noted",
            distance=Parameter(Law("uniform", (0, 9)), is_length=True),
            share=Parameter(Law("uniform", (0, 1))),
        )
        def noted(images: Tensor, distance: Tensor, share: Tensor) -> Tensor:
            received.update(distance=distance, share=share)
            return images

        images = torch.zeros(2, 3, height, width)
        values = {"distance": torch.tensor([3.0, 7.0]), "share": torch.tensor([0.2, 0.9])}
        ALTERATIONS["noted"](images, values, torch.arange(2), REFERENCE_SIDE)
        torch.testing.assert_close(received["distance"], values["distance"] * min(height, width) / 224)
        assert torch.equal(received["share"], values["share"])

    def test_the_lengths_of_ours(self) -> None:
        lengths = {
            (name, key)
            for name in OURS
            for key, parameter in ALTERATIONS[name].parameters.items()
            if parameter.is_length
        }
        assert lengths == {("erasing", "row"), ("erasing", "column"), ("gaussian_blur", "sigma")}

    def test_a_reference_side_and_the_image_itself_differ_by_the_scale_only(self) -> None:
        images = random_images(112, 112, n=2)
        key = torch.arange(2)
        scaled = ALTERATIONS["gaussian_blur"](images, {"sigma": torch.tensor([1.0, 3.0])}, key, REFERENCE_SIDE)
        direct = ALTERATIONS["gaussian_blur"](images, {"sigma": torch.tensor([0.5, 1.5])}, key, 112)
        assert torch.equal(scaled, direct)

    @pytest.mark.usefixtures("own_alterations")
    def test_takes_key(self) -> None:
        alteration("keyed")(lambda images, key: images)
        assert ALTERATIONS["keyed"].takes_key
        assert not any(ALTERATIONS[name].takes_key for name in OURS)

    def test_the_default_laws_are_those_of_the_study(self) -> None:
        laws = {(name, key): p.law.arguments for name in OURS for key, p in ALTERATIONS[name].parameters.items()}
        assert laws == {
            ("erasing", "row"): (44, 180),
            ("erasing", "column"): (44, 180),
            ("erasing", "area"): (0.02, 0.33),
            ("erasing", "aspect"): (0.3, 3.3),
            ("gaussian_blur", "sigma"): (0.1, 2.0),
            ("hue", "shift"): (-0.5, 0.5),
            ("rotation", "angle"): (-10, 10),
        }


@st.composite
def batches(draw: st.DrawFn) -> tuple[Tensor, list[float]]:
    """Images that are hard for one alteration or another, and a quantile for the parameters of each."""
    n, height, width = draw(st.integers(1, 4)), draw(st.integers(4, 20)), draw(st.integers(4, 20))
    rng = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    images = torch.rand(n, 3, height, width, generator=rng)
    for i in range(n):
        match draw(st.sampled_from(["random", "grey", "nearly grey", "nearly black", "two values"])):
            case "grey":
                images[i] = images[i, :1]
            case "nearly grey":
                images[i] = (images[i, :1] + 6e-8 * images[i]).clamp(0, 1)
            case "nearly black":
                # a chroma of which the reciprocal is infinite
                images[i] = 1e-40 * images[i]
            case "two values":
                images[i] = images[i].round()
    return images, draw(st.lists(st.floats(0.001, 0.999), min_size=n, max_size=n))


class TestProperties:
    @pytest.mark.parametrize("name", OURS)
    @pytest.mark.parametrize("reference", [REFERENCE_SIDE, 12])
    @given(batch=batches())
    def test_images_stay_in_range_and_by_themselves(
        self, name: str, reference: int, batch: tuple[Tensor, list[float]]
    ) -> None:
        images, quantiles = batch
        thing = ALTERATIONS[name]
        values = {k: torch.from_numpy(p.law.ppf(quantiles)).float() for k, p in thing.parameters.items()}
        key = torch.arange(len(images))
        result = thing(images, values, key, reference)
        assert result.shape == images.shape
        assert result.isfinite().all()
        assert float(result.min()) >= 0
        assert float(result.max()) <= 1
        for i in range(len(images)):
            one = {k: v[i : i + 1] for k, v in values.items()}
            alone = thing(images[i : i + 1], one, key[i : i + 1], reference)
            torch.testing.assert_close(alone[0], result[i], rtol=0, atol=2e-6)

    @given(scale=st.floats(1e-44, 1e-10), shift=st.floats(-0.5, 0.5), seed=st.integers(0, 2**32 - 1))
    def test_hue_of_a_tiny_chroma(self, scale: float, shift: float, seed: int) -> None:
        images = scale * random_images(4, 4, n=1, seed=seed)
        result = altered("hue", images, shift=[shift])
        assert result.isfinite().all()
        assert float((result - images).abs().max()) <= scale
