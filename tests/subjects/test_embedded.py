from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest
import torch

from neuroprobe.protocol.subject import SubjectSpec
from neuroprobe.stimuli.folders import open_folder
from neuroprobe.stimuli.images import ImageSet
from neuroprobe.subjects.embedded import CLASSES, WEIGHTS_FILE, EmbeddedNetwork, load_embedded_weights
from neuroprobe.subjects.subject import Subject, load_subject

PACKAGE = files("neuroprobe.subjects")


@pytest.fixture(scope="module")
def subject() -> Subject:
    return load_subject(SubjectSpec.model_validate({"network": "embedded", "layers": ["linear"]}), seed=0)


@pytest.fixture(scope="module")
def training() -> dict[str, object]:
    return json.loads((PACKAGE / "embedded_training.json").read_text())


def n_right(subject: Subject, images: ImageSet) -> int:
    assert images.labels is not None
    labels = torch.tensor([CLASSES.index(label) for label in images.labels])
    total = 0
    with torch.inference_mode():
        for index in torch.arange(len(images)).split(250):
            logits = subject.network(subject.prepare(images.load(index.tolist())))
            total += int((logits.argmax(1) == labels[index]).sum())
    return total


def test_the_weights_are_small_and_fit() -> None:
    assert len((PACKAGE / WEIGHTS_FILE).read_bytes()) <= 2_000_000
    weights = load_embedded_weights()
    EmbeddedNetwork().load_state_dict(weights, strict=True)
    assert all(tensor.isfinite().all() for tensor in weights.values())


@pytest.mark.parametrize("side", [16, 32, 45, 64])
def test_any_side_from_16_px(subject: Subject, side: int) -> None:
    logits = subject.network(subject.prepare(torch.rand(2, 3, side, side)))
    assert logits.shape == (2, 10)
    assert logits.isfinite().all()


def test_the_training_is_on_record(training: dict[str, object]) -> None:
    assert isinstance(training["seed"], int)
    assert isinstance(training["test_accuracy"], float)
    assert training["test_accuracy"] >= 0.87
    epochs = training["epochs"]
    assert isinstance(epochs, list)
    assert [entry["epoch"] for entry in epochs] == list(range(1, len(epochs) + 1))
    assert len(epochs) > 1
    assert epochs[-1]["loss"] < epochs[0]["loss"]


def test_accuracy_on_500_images(subject: Subject, data: Path) -> None:
    images = ImageSet(replace(open_folder(data / "cifar10" / "test"), limit=500))
    assert images.labels is not None
    assert [images.labels.count(name) for name in CLASSES] == [50] * 10
    assert n_right(subject, images) / 500 >= 0.85


def test_accuracy_is_that_of_the_record(subject: Subject, cifar_images: ImageSet, training: dict[str, object]) -> None:
    # an image at the border of two classes may fall to the other side on another machine
    assert n_right(subject, cifar_images) / len(cifar_images) == pytest.approx(training["test_accuracy"], abs=0.001)
