"""Protocols that many workers run, for tests and for processes that are killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def protocol(**changes: Any) -> dict[str, Any]:
    """Eight blocks of three sessions, with stored responses and differences that are ranked."""
    return {
        "neuroprobe": 1,
        "subject": {"network": "embedded", "layers": [{"name": "conv5", "channels": [0, 5, 9]}, "linear"]},
        "stimuli": {"images": {"photographs": {"per_image": 22}, "size": 16}},
        "treatment": {
            "reference_side": "image",
            "alterations": [
                {"name": "erasing", "switch": 0.5, "row": {"uniform": [2, 14]}, "column": {"uniform": [2, 14]}},
                {"name": "grayscale", "switch": 0.5},
                {"name": "hue", "switch": 0.5},
            ],
        },
        "design": {"samples": 512, "scramble": 64},
        "analyses": ["sobol", "shapley"],
        "record": {"batch": 64, "device": "cpu", "store": {"responses": ["linear"]}},
        **changes,
    }


SELECTIVITY = {
    "selectivity": {
        "top": 5,
        "stability": [],
        "sham": 0,
        "permutations": 0,
        "indexes": ["colour", "symmetry"],
    }
}

CLASSES = ["cat", "dog", "ship", *"abcdefg"]  # of the ten outputs of the embedded network


def maps(folder: Path) -> dict[str, Any]:
    """Maps of three layers, for masks, of a folder of the three first classes."""
    return protocol(
        subject={"network": "embedded", "layers": ["conv3", "conv5", "linear"]},
        stimuli={"images": {"folder": str(folder), "size": 16}},
        analyses=["shapley"],
        design={"samples": 128},
        record={"batch": 64, "device": "cpu"},
    )


def masking(folder: Path, path: Path) -> dict[str, Any]:
    """Masks by maps of a result, in both kinds of study, of images that give several blocks."""
    rule = {"quantile": 0.8, "multiply": 0}
    shared = {
        "maps": [{"from": str(path), "analysis": "shapley"}],
        "at": [["conv3", "conv5"], ["conv5"]],
        "rules": [rule],
        "headline": rule,
        "draws": 2,
        "classes": CLASSES,
    }
    studies = [
        {"masking": {**shared, "random": 4, "bootstrap": 40}},
        {"single_class": {**shared, "k": 3, "permutations": 99}},
    ]
    return {**maps(folder), "analyses": studies, "record": {"batch": 20, "device": "cpu"}}
