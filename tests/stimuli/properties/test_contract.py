from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from manipulating import manipulated
from neuroprobe.errors import RegistryError
from neuroprobe.protocol.model import Model
from neuroprobe.stimuli.properties import MANIPULATIONS, Manipulation, NoOptions, check_manipulation, manipulation
from neuroprobe.stimuli.properties.contract import one_member

OURS = {
    "colour": ("",),
    "orientation": tuple(str(angle) for angle in range(15, 360, 15)),
    "symmetry": ("0", "45", "90", "135"),
    "shape": ("1", "2", "3", "4", "5"),
    "spatial_frequency": ("0.25", "0.125", "0.0625"),
    "contrast": ("0.75", "0.5", "0.25", "0"),
}
OTHER_OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("colour", {"gray": "luma"}),
    ("colour", {"gray": "lightness"}),
    ("colour", {"gray": "pca_matched_contrast"}),
    ("orientation", {"step": 90}),
    ("orientation", {"step": 7.5}),
    ("symmetry", {"axes": [135]}),
    ("shape", {"draws": 1}),
    ("spatial_frequency", {"cutoffs": [0.5, 0.01], "keep": "high"}),
    ("contrast", {"factors": [1, 3]}),
]


def test_members_by_default() -> None:
    found = {name: MANIPULATIONS[name].members(MANIPULATIONS[name].options()) for name in OURS}
    assert found == OURS
    assert {name for name in OURS if MANIPULATIONS[name].invariance} == {"symmetry"}


@pytest.mark.parametrize("name", OURS)
def test_ours_keep_the_contract(name: str) -> None:
    check_manipulation(name)
    assert MANIPULATIONS[name].name == name
    assert MANIPULATIONS[name].summary.endswith(".")


@pytest.mark.parametrize(("name", "options"), OTHER_OPTIONS)
def test_ours_keep_the_contract_with_other_options(name: str, options: dict[str, Any]) -> None:
    check_manipulation(name, MANIPULATIONS[name].options(**options))


@pytest.mark.parametrize("name", OURS)
def test_no_crops(name: str) -> None:
    for altered in manipulated(name, torch.zeros(0, 3, 4, 5)).values():
        assert altered.shape == (0, 3, 4, 5)


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("colour", {"gray": "grey"}, "gray"),
        ("colour", {"step": 3}, "step"),
        ("orientation", {"step": 0}, "step"),
        ("orientation", {"step": 360}, "step"),
        ("symmetry", {"axes": [30]}, "axes"),
        ("symmetry", {"axes": []}, "axes"),
        ("symmetry", {"axes": [0, 90, 0]}, "given 0, 90, 0, expected distinct numbers"),
        ("shape", {"draws": 0}, "draws"),
        ("spatial_frequency", {"cutoffs": [0.6]}, "cutoffs"),
        ("spatial_frequency", {"cutoffs": [0.1, 0.1]}, "expected distinct numbers"),
        ("spatial_frequency", {"keep": "band"}, "keep"),
        ("contrast", {"factors": [-1]}, "factors"),
        ("contrast", {"factors": [0.5, 0.5000000001]}, "expected distinct numbers"),
    ],
)
def test_options_that_make_no_sense(name: str, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        MANIPULATIONS[name].options(**options)


def test_the_group_of_entry_points() -> None:
    assert MANIPULATIONS.group == "neuroprobe.selectivity_indexes"
    with pytest.raises(RegistryError, match=r"unknown selectivity index 'color' \(did you mean 'colour'\?\)"):
        MANIPULATIONS["color"]


class Levels(Model):
    """Options of a manipulation in tests."""

    levels: tuple[float, ...] = (0.25, 0.5)


@pytest.mark.usefixtures("own_manipulations")
class TestOwn:
    def test_a_family_in_a_few_lines(self) -> None:
        @manipulation("dimming", options=Levels, members=lambda options: tuple(map(str, options.levels)))
        def dimming(crops: Tensor, options: Levels, keys: Tensor) -> Tensor:
            """Dim.

            More is said here.
            """
            return torch.stack([level * crops for level in options.levels])

        check_manipulation("dimming")
        assert MANIPULATIONS["dimming"].summary == "Dim."
        crops = torch.rand(2, 3, 4, 4)
        assert torch.equal(manipulated("dimming", crops, levels=(1, 0.5))["0.5"], 0.5 * crops)

    def test_a_summary_of_its_own(self) -> None:
        manipulation("identity", summary="Stay.", invariance=True)(lambda crops, options, keys: crops[None])
        found = MANIPULATIONS["identity"]
        assert (found.summary, found.invariance, found.options) == ("Stay.", True, NoOptions)

    def test_a_name_that_is_taken(self) -> None:
        with pytest.raises(RegistryError, match="selectivity index 'colour' is registered already"):
            manipulation("colour")(lambda crops, options, keys: crops[None])

    @pytest.mark.parametrize("name", ["spatial frequency", "colour-free", "3d", ""])
    def test_a_name_that_a_query_cannot_hold(self, name: str) -> None:
        with pytest.raises(RegistryError, match="expected a word of letters, digits and _"):
            manipulation(name)


def broken(alter: Callable[[Tensor, Any, Tensor], Any], **parts: Any) -> Manipulation:
    return Manipulation(**{"options": NoOptions, "members": one_member, **parts}, name="x", summary="", alter=alter)


def in_place(crops: Tensor, options: Model, keys: Tensor) -> Tensor:
    return crops.mul_(0.5)[None]


def partly_missing(crops: Tensor, options: Model, keys: Tensor) -> Tensor:
    altered = crops.clone()
    altered[:, 0] = math.nan
    return altered[None]


def by_first_key(crops: Tensor, options: Model, keys: Tensor) -> Tensor:
    rng = torch.Generator().manual_seed(int(keys[0]))
    return torch.rand(crops.shape, generator=rng, dtype=crops.dtype)[None]


def of_three_pixels(crops: Tensor, options: Model, keys: Tensor) -> Tensor:
    return torch.nn.functional.pad(crops, (1, 1, 1, 1), mode="reflect")[None, ..., 1:-1, 1:-1]


class TestBrokenManipulations:
    """Each way of breaking the contract has a sentence of its own."""

    @pytest.mark.parametrize(
        ("alter", "sentence"),
        [
            (lambda crops, options, keys: None, "gave NoneType, expected a tensor"),
            (in_place, "it changed its input: work on a copy"),
            (lambda crops, options, keys: crops, r"gave shape \(6, 3, 40, 33\), expected .* = \(1, 6, 3, 40, 33\)"),
            (lambda crops, options, keys: crops[None, :, :1], r"gave shape \(1, 6, 1, 40, 33\)"),
            (lambda crops, options, keys: crops.mT[None], r"gave shape \(1, 6, 3, 33, 40\)"),
            (lambda crops, options, keys: crops[None].expand(2, -1, -1, -1, -1), r"gave shape \(2, 6"),
            (lambda crops, options, keys: crops[None].double(), "gave torch.float64 on cpu for torch.float32"),
            (lambda crops, options, keys: crops[None].float(), "gave torch.float32 on cpu for torch.float64"),
            (lambda crops, options, keys: crops[None] + 0.1, r"outside \[0, 1\]: clamp them"),
            (lambda crops, options, keys: crops[None] + math.inf, r"outside \[0, 1\]: clamp them"),
            (partly_missing, "NaN for a part of a crop"),
            (lambda crops, options, keys: torch.rand_like(crops)[None], "not deterministic: draw from `keys`"),
            (lambda crops, options, keys: (crops * crops.mean())[None], "mixes the crops of a batch"),
            (by_first_key, "mixes the crops of a batch"),
            (of_three_pixels, r"of crops of 1×7 px: it raised RuntimeError: .*[Pp]adding size"),
        ],
    )
    def test_sentence(self, alter: Callable[[Tensor, Any, Tensor], Any], sentence: str) -> None:
        with pytest.raises(RegistryError, match=f"^selectivity index 'x': .*{sentence}"):
            check_manipulation(broken(alter))

    @pytest.mark.parametrize(
        ("parts", "sentence"),
        [
            ({"members": lambda options: ()}, r"its members are \(\), expected a tuple of labels"),
            ({"members": lambda options: ["a"]}, r"its members are \['a'\], expected a tuple of labels"),
            ({"members": lambda options: (1, 2)}, r"its members are \(1, 2\), expected a tuple of labels"),
            ({"members": lambda options: ("a", "a")}, "its members a, a are not distinct"),
            ({"options": dict}, "its options are <class 'dict'>, expected a subclass of Model"),
        ],
    )
    def test_parts(self, parts: dict[str, Any], sentence: str) -> None:
        with pytest.raises(RegistryError, match=sentence):
            check_manipulation(broken(lambda crops, options, keys: crops[None], **parts))

    def test_options_without_defaults(self) -> None:
        class Needy(Model):
            level: float

        with pytest.raises(RegistryError, match="its options have no valid default for level: give each one"):
            check_manipulation(broken(lambda crops, options, keys: crops[None], options=Needy))
        check_manipulation(broken(lambda crops, options, keys: crops[None], options=Needy), Needy(level=1))
