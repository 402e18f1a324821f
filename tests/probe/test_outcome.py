"""Outcomes: which output stands for the class of an image, and what is measured of it."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from neuroprobe.errors import NeuroprobeError, PlanError, SubjectError
from neuroprobe.probe.capture import Probe
from neuroprobe.probe.outcome import OUTPUT, Outcome, find_outcome, output_classes

IMAGES = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def network(n_outputs: int, *last: nn.Module) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, n_outputs), *last).eval()


@pytest.mark.parametrize(
    ("labels", "n_outputs", "options", "expected"),
    [
        (["dog", "cat", "dog"], 2, {}, [1, 0, 1]),
        (["dog", "cat"], 3, {"classes": ["dog", "ship", "cat"]}, [0, 2]),
        (["dog", "cat"], 3, {"declared": ["ship", "dog", "cat"]}, [1, 2]),
        (["dog", "cat"], 2, {"declared": ["dog", "cat"]}, [0, 1]),
        # names that are declared twice tell nothing: the order of names is left
        (["crane", "cat"], 2, {"declared": ["crane", "crane"]}, [1, 0]),
        (["n02", "n01"], 2, {"declared": ["tench", "goldfish"]}, [1, 0]),
        (["1", "0"], 2, {}, [1, 0]),
    ],
)
def test_classes_are_told_from_outputs(labels: list[str], n_outputs: int, options: dict, expected: list[int]) -> None:
    order = output_classes(labels, n_outputs, **options)
    assert [max(i for i, name in enumerate(order) if name == label) for label in labels] == expected
    assert len(order) == n_outputs


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (None, {}, "images have no class; give images in one folder per class, or leave"),
        (["cat", None], {}, "1 of 2 images have no class"),
        (["cat", "dog"], {}, r"2 classes of images \('cat', 'dog'\) cannot be told from 3 outputs; list the class"),
        (["cat"], {"classes": ["cat", "dog"]}, "2 different ones given, expected one for each of 3 outputs"),
        (["cat"], {"classes": ["cat", "dog", "cat"]}, "2 different ones given"),
        (["cad"], {"classes": ["cat", "dog", "ship"]}, r"unknown class of an image 'cad' \(did you mean 'cat'\?\)"),
        (["2", "10", "1"], {}, "cannot be told from 3 outputs"),
    ],
)
def test_classes_that_cannot_be_told(labels: list, options: dict, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        output_classes(labels, 3, **options)


def test_measures_against_sorting(rng: np.random.Generator) -> None:
    output = torch.from_numpy(rng.normal(size=(200, 8)).astype(np.float32))
    image = rng.integers(0, 8, 200)
    outcome = find_outcome(network(8), IMAGES, list("abcdefgh"))
    assert outcome.measures == ("top_1", "top_5", "probability")
    found = outcome.measure(output, image).numpy()
    order = np.argsort(-output.numpy(), axis=1)
    np.testing.assert_array_equal(found[:, 0], order[:, 0] == image)
    np.testing.assert_array_equal(found[:, 1], (order[:, :5] == image[:, None]).any(1))
    exponential = np.exp(output.numpy().astype(float))
    expected = exponential[np.arange(200), image] / exponential.sum(1)
    np.testing.assert_allclose(found[:, 2], expected, rtol=1e-5)


def test_outputs_that_are_all_alike_are_right_by_chance_only() -> None:
    outcome = find_outcome(network(6), IMAGES, list("abcdef"))
    found = outcome.measure(torch.zeros(6, 6), np.arange(6))
    assert found[:, 0].tolist() == [1, 0, 0, 0, 0, 0]
    assert found[:, 1].tolist() == [1, 1, 1, 1, 1, 0]
    torch.testing.assert_close(found[:, 2], torch.full((6,), 1 / 6))


def test_five_outputs_have_no_five_largest() -> None:
    outcome = find_outcome(network(5), IMAGES, list("abcde"))
    assert outcome.measures == ("top_1", "probability")
    assert outcome.measure(torch.eye(5), np.arange(5)).shape == (5, 2)


def test_probabilities_pass_no_second_softmax() -> None:
    logits, sure = (find_outcome(network(3, *last), IMAGES, list("abc")) for last in ((), (nn.Softmax(1),)))
    assert (logits.is_probability, sure.is_probability) == (False, True)
    output = torch.randn(4, 3, generator=torch.Generator().manual_seed(2))
    image = np.array([0, 1, 2, 0])
    torch.testing.assert_close(logits.measure(output, image), sure.measure(output.softmax(1), image))


def test_outputs_that_are_not_finite_have_no_outcome() -> None:
    outcome = find_outcome(network(3), IMAGES, list("abc"))
    found = outcome.measure(torch.tensor([[0.0, torch.nan, 1.0], [0.0, 1.0, 2.0]]), np.array([2, 2]))
    assert found[0].isnan().all()
    assert found[1, 0] == 1


class Pair(nn.Module):
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return images, images


@pytest.mark.parametrize(
    ("given", "message"),
    [(Pair(), "returns tuple per image"), (nn.Identity(), r"returns \(3, 4, 4\) per image, expected one number")],
)
def test_networks_without_classes(given: nn.Module, message: str) -> None:
    with pytest.raises(NeuroprobeError, match=message) as caught:
        find_outcome(given, IMAGES, ["a"])
    assert isinstance(caught.value, SubjectError)


def test_the_output_is_recorded_behind_all_layers() -> None:
    made = network(3, nn.ReLU(inplace=True))
    outcome: Outcome = find_outcome(made, IMAGES, list("abc"))
    found: list[tuple[str, Tensor]] = []
    with Probe(made, [outcome.site]) as probe:
        probe.record(IMAGES, lambda site, response: found.append((site.name, response.clone())))
    ((name, output),) = found
    assert name == OUTPUT
    torch.testing.assert_close(output, made(IMAGES), rtol=0, atol=0)
