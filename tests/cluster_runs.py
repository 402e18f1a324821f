"""Protocols that many workers run, for tests and for processes that are killed."""

from __future__ import annotations

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
