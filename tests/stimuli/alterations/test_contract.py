from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from altering import N_IMAGES, altered, random_images
from neuroprobe.design.laws import Law
from neuroprobe.errors import RegistryError
from neuroprobe.stimuli.alterations import ALTERATIONS, REFERENCE_SIDE, Parameter, alteration, check_alteration

# those that are applied together, with the laws of Kharyuk et al. 2025 for 224 px
SETS: list[dict[str, dict[str, Law]]] = [
    {
        "erasing": {
            "row": Law("uniform", (44, 180)),
            "column": Law("uniform", (44, 180)),
            "area": Law("uniform", (0.02, 0.33)),
            "aspect": Law("loguniform", (0.3, 3.3)),
            "outside": Law("constant", (0,)),
        },
        "sharpness": {"factor": Law("constant", (1.5,))},
        "rolling": {"dy": Law("integers", (-44, 44)), "dx": Law("integers", (-44, 44))},
        "grayscale": {},
        "gaussian_blur": {"sigma": Law("uniform", (0.1, 2.0))},
    },
    {
        "brightness": {"factor": Law("uniform", (0.1, 2.5))},
        "contrast": {"factor": Law("uniform", (0.01, 3.5))},
        "saturation": {"factor": Law("uniform", (0.01, 3.5))},
        "hue": {"shift": Law("uniform", (-0.5, 0.5))},
        "hflip": {},
        "rotation": {"angle": Law("uniform", (-10, 10)), "crop": Law("constant", (0,))},
        "elliptic_local_blur": {
            "a": Law("uniform", (10, 32)),
            "b": Law("uniform", (10, 32)),
            "dy": Law("uniform", (-32, 32)),
            "dx": Law("uniform", (-32, 32)),
            "angle": Law("uniform", (-15, 15)),
            "sigma": Law("constant", (3,)),
        },
    },
]
OTHERS: dict[str, dict[str, Law]] = {
    "gaussian_noise": {"sd": Law("uniform", (0.08, 0.38))},
    "jpeg": {"quality": Law("integers", (7, 25))},
    "shift": {"dy": Law("uniform", (-24, 24)), "dx": Law("uniform", (-24, 24))},
    "zoom": {"factor": Law("loguniform", (0.8, 1.25))},
    "occlusion": {
        "row": Law("uniform", (0, 224)),
        "column": Law("uniform", (0, 224)),
        "side": Law("uniform", (32, 64)),
        "value": Law("constant", (0.5,)),
    },
}
OURS = SETS[0] | SETS[1] | OTHERS
LENGTHS = {
    "erasing": {"row", "column"},
    "rolling": {"dy", "dx"},
    "gaussian_blur": {"sigma"},
    "elliptic_local_blur": {"a", "b", "dy", "dx", "sigma"},
    "shift": {"dy", "dx"},
    "occlusion": {"row", "column", "side"},
}
WORDS = {"erasing": {"outside": ("clip", "skip")}, "rotation": {"crop": (False, True)}}
IDENTITIES = {
    "erasing": {"area": 0},
    "sharpness": {"factor": 1},
    "rolling": {"dy": 0, "dx": 0},
    "gaussian_blur": {"sigma": 0},
    "brightness": {"factor": 1},
    "contrast": {"factor": 1},
    "saturation": {"factor": 1},
    "hue": {"shift": 0},
    "rotation": {"angle": 0},
    "elliptic_local_blur": {"sigma": 0},
    "gaussian_noise": {"sd": 0},
    "shift": {"dy": 0, "dx": 0},
    "zoom": {"factor": 1},
    "occlusion": {"side": 0},
}


def test_the_default_laws_are_those_of_the_study() -> None:
    laws = {name: {key: p.law for key, p in ALTERATIONS[name].parameters.items()} for name in ALTERATIONS}
    assert laws == OURS


def test_lengths_scale_and_words_are_words() -> None:
    for name in OURS:
        parameters = ALTERATIONS[name].parameters
        assert {key for key, p in parameters.items() if p.is_length} == LENGTHS.get(name, set())
        assert all(p.units == "px" for p in parameters.values() if p.is_length)
        assert {key: p.words for key, p in parameters.items() if p.words} == WORDS.get(name, {})


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("quantile", [0.01, 0.3, 0.99])
def test_identity_gives_the_image_bit_for_bit(name: str, quantile: float, images: Tensor) -> None:
    parameters = ALTERATIONS[name].parameters
    identity = {key: p.identity for key, p in parameters.items() if p.identity is not None}
    assert identity == IDENTITIES.get(name, {})
    drawn = {key: float(p.law.ppf(quantile)) for key, p in parameters.items()}
    result = altered(name, images, **{key: [value] * N_IMAGES for key, value in (drawn | identity).items()})
    assert torch.equal(result, images) == bool(identity)


def test_the_registry_holds_our_alterations_and_all_keep_the_contract() -> None:
    for name in ALTERATIONS:
        for side in (32, 17, 3, 2, 1):
            check_alteration(name, side=side, n_images=3)
        check_alteration(name)
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
        assert [name for name in OURS if ALTERATIONS[name].takes_key] == ["gaussian_noise"]


@st.composite
def batches(draw: st.DrawFn) -> tuple[Tensor, list[float]]:
    """Images that are hard for one alteration or another, and a quantile for the parameters of each."""
    n, height, width = draw(st.integers(1, 4)), draw(st.integers(1, 20)), draw(st.integers(1, 20))
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

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    @pytest.mark.parametrize("name", OURS)
    def test_a_gpu_gives_the_same(self, name: str) -> None:
        images, key = random_images(48, 56), torch.arange(N_IMAGES) + 10**17
        parameters = ALTERATIONS[name].parameters.items()
        values = {k: torch.from_numpy(p.law.ppf([0.1, 0.3, 0.5, 0.6, 0.8, 0.9])).float() for k, p in parameters}
        there = ALTERATIONS[name](images.cuda(), {k: v.cuda() for k, v in values.items()}, key.cuda(), REFERENCE_SIDE)
        here = ALTERATIONS[name](images, values, key, REFERENCE_SIDE)
        torch.testing.assert_close(there.cpu(), here, rtol=0, atol=1e-4)
