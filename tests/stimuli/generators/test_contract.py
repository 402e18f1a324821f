"""The contract of generators: every one that ships keeps it, and breaches are named."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import torch

import neuroprobe as npr
from neuroprobe.errors import RegistryError
from neuroprobe.stimuli.generators import GENERATORS, Screen, Setting


@pytest.fixture
def own_generators() -> Iterator[None]:
    """Take the generators that a test registers out of the registry again."""
    before = set(GENERATORS._known)
    yield
    for name in set(GENERATORS._known) - before:
        GENERATORS._known.pop(name)


@pytest.mark.parametrize("name", list(GENERATORS))
def test_generators_that_ship_keep_the_contract(name: str) -> None:
    npr.check_generator(name)
    assert GENERATORS[name].summary.endswith((".", ")"))


BREACHES = {
    "list": (lambda screen, level: [level], "it gave list, expected a tensor"),
    "shape": (lambda screen, level: level.float(), "of shape (4,), expected torch.float32 of (4, 3, 24, 32)"),
    "double": (lambda screen, level: torch.zeros(len(level), 3, 24, 32).double(), "it gave torch.float64"),
    "range": (lambda screen, level: torch.full((len(level), 3, 24, 32), 1.5), "outside [0, 1]"),
    "random": (lambda screen, level: torch.rand(len(level), 3, 24, 32), "not deterministic"),
    "mixed": (lambda screen, level: torch.full((len(level), 3, 24, 32), len(level) / 9), "mixes the stimuli"),
}


@pytest.mark.parametrize("name", BREACHES)
def test_breaches_are_named(name: str, own_generators: None) -> None:
    function, message = BREACHES[name]
    npr.generator(name, level=Setting(1.0))(function)
    with pytest.raises(RegistryError, match=f"generator '{name}': .*{re.escape(message)}"):
        npr.check_generator(name)


def test_registration_refuses_what_cannot_be_a_column(own_generators: None) -> None:
    with pytest.raises(RegistryError, match="x would be taken for another column"):
        npr.generator("crossed", x=Setting(0.0))
    with pytest.raises(RegistryError, match="expected a word"):
        npr.generator("two words")
    with pytest.raises(RegistryError, match="takes `key` has a setting 'exemplar'"):
        npr.generator("unkeyed")(lambda screen, key: key)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        (Setting(4.0, "frequency", low=0), 2.0, "of 2 cycles/degree has 0.5 cycles/px, and from 0.5"),
        (Setting(4.0, "frequency", low=0), 1.999, ""),
        (Setting(4.0, "frequency", low=0), -1.0, "lies 0 or more, received -1"),
        (Setting(0.5, "extent"), 8.0, ""),
        (Setting(0.5, "extent"), 8.01, "of 8.01 degrees is larger than the screen (32 × 40 px for 8°)"),
        (Setting(0.5, "extent"), 0.2, "of 0.2 degrees is 0.8 px, expected a pixel or more"),
        (Setting(0.5, "extent"), 0.0, "is above 0, received 0"),
        (Setting(0.5, "extent", low=0), 0.0, ""),
        (Setting(0.0, "position"), 5.0, ""),
        (Setting(0.0, "position"), -5.1, "of -5.1 degrees is outside of the screen"),
        (Setting(0.0, "whole"), 1.5, "is a whole number, received 1.5"),
        (Setting(1.0, low=0, high=1), 1.1, "lies between 0 and 1, received 1.1"),
    ],
)
def test_settings_say_what_cannot_be_shown(setting: Setting, value: float, message: str) -> None:
    complaint = setting.complaint(value, Screen(32, 40, 8.0))
    assert complaint.startswith(message)
    assert bool(complaint) == bool(message)
