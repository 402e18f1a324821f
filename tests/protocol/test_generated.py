"""Generated stimuli in protocols: grids, places of errors, what does not go together."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from neuroprobe.errors import ProtocolError
from neuroprobe.protocol import Protocol, load_protocol
from neuroprobe.protocol.digest import as_given, canonical
from neuroprobe.protocol.generated import read_levels
from neuroprobe.stimuli.generators import Setting

TEXT = """\
neuroprobe: 1
subject: {network: embedded, layers: [conv2]}
stimuli:
  images:
    generated:
      grating:
        orientation: {from: 0, to: 165, step: 15}
        spatial_frequency: [0.5, 1]
        colour: [luminance, red_green]
    screen: {degrees: 8}
    size: 32
  blanks: 4
analyses: []
record: {store: responses}
"""


def changed(*path: str, to: Any) -> dict[str, Any]:
    given = copy.deepcopy(yaml.safe_load(TEXT))
    block = given
    for key in path[:-1]:
        block = block.setdefault(key, {})
    block[path[-1]] = to
    return given


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, [3]),
        ([3, 1.5], [3, 1.5]),
        ({"from": 0, "to": 0.3, "step": 0.1}, [0, 0.1, 0.2, 0.3]),
        ({"from": 90, "to": 0, "step": -45}, [90, 45, 0]),
        ({"from": 0, "to": 1, "n": 3}, [0, 0.5, 1]),
        ({"from": 0.5, "to": 8, "n": 5, "spacing": "log"}, [0.5, 1, 2, 4, 8]),
    ],
)
def test_levels(value: Any, expected: list[float]) -> None:
    assert read_levels(value, Setting(0.0)) == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "given no value"),
        (True, "given True, expected a value"),
        ("high", "given 'high', expected a value"),
        ([1, 1.0], "1.0 is listed twice"),
        ({"from": 0, "to": 1}, "expected a value, a list"),
        ({"from": 0, "to": 1, "step": 0.3}, "steps of 0.3 do not lead from 0 to 1"),
        ({"from": 0, "to": 1, "step": 0}, "steps of 0 do not lead"),
        ({"from": 0, "to": 1, "step": -0.5}, "steps of -0.5 do not lead"),
        ({"from": 0, "to": 1, "n": 1}, "n is a whole number from 2"),
        ({"from": 0, "to": 1, "n": 1_000_000}, "1,000,000 values, expected at most"),
        ({"from": 0, "to": 1, "n": 3, "spacing": "log"}, "log between numbers above 0"),
        ({"from": "a", "to": 1, "n": 3}, "expected numbers"),
        (float("nan"), "expected a value"),
    ],
)
def test_levels_that_cannot_be_read(value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_levels(value, Setting(0.0))


def test_protocols_read_back_what_they_say() -> None:
    protocol = load_protocol(yaml.safe_load(TEXT))
    assert protocol.presents
    again = load_protocol(as_given(protocol))
    assert canonical(again) == canonical(protocol)
    images = as_given(protocol)["stimuli"]["images"]
    assert images["generated"]["grating"]["orientation"] == [15.0 * step for step in range(12)]
    assert "generated" in str(Protocol.model_json_schema())


@pytest.mark.parametrize(
    ("line", "by", "place", "message"),
    [
        ("[0.5, 1]", "[0.5, 2]", (8, 9), "has 0.5 cycles/px, and from 0.5 .Nyquist's. it would look as a lower one"),
        ("spatial_freq", "spatial_frek", (8, 9), r"did you mean 'spatial_frequency'\?"),
        ("grating:", "gratings:", (6, 7), r"unknown generator 'gratings' \(did you mean 'grating'\?\)"),
        ("red_green]", "red-green]", (9, 9), r"given 'red-green' \(did you mean 'red_green'\?\)"),
        ("{degrees: 8}", "{degree: 8}", (10, 5), "unknown key 'degree'"),
        ("{degrees: 8}", "pixel", (10, 5), r"screen: given 'pixel' \(did you mean 'pixels'\?\)"),
        ("step: 15", "step: 16", (7, 9), "steps of 16 do not lead from 0 to 165"),
        ("blanks: 4", "blanks: -1", (12, 3), "blanks"),
        ("analyses: []", "analyses: [selectivity]", (12, 3), "blanks: concerns images that are shown as they are"),
        ("responses", "none", (13, 1), "analyses: none, and no responses are stored"),
    ],
)
def test_errors_have_their_place(line: str, by: str, place: tuple[int, int], message: str, tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(TEXT.replace(line, by, 1))
    with pytest.raises(ProtocolError, match=message) as found:
        load_protocol(file)
    assert (found.value.line, found.value.column) == place


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("stimuli", "images", "generated"), {}, "expected generators"),
        (("stimuli", "images", "generated", "grating"), 3, "grating: given 3, expected settings"),
        (("stimuli", "images", "generated", "grating", "size"), 8.5, "is larger than the screen"),
        (("stimuli", "images", "generated", "dense_noise"), {"exemplar": {"from": 0, "to": 99_999, "step": 1}},
         "100,048 combinations, expected at most"),
        (("stimuli", "images", "generated", "phase_scrambled"), {}, "is made of images: give some by `of"),
        (("stimuli", "images", "of"), {"folder": "x"}, "no generator here is made of images"),
        (("stimuli", "images", "of"), {"generated": {}}, "expected images that lie somewhere"),
        (("treatment",), {"alterations": ["hue"]}, "no analysis compares images with altered ones"),
        (("control",), {"alterations": ["hue"]}, "no analysis compares images with altered ones"),
        (("subject", "noise"), "poison", r"did you mean 'poisson'\?"),
        (("subject", "noise"), {"gaussian": {"sd": 0}}, "greater than 0"),
        (("subject", "noise"), {"dropout": {"p": 1}}, "less than 1"),
        (("subject", "noise"), {"poisson": {"rate": 1}}, "unknown key 'rate'"),
    ],
)  # fmt: skip
def test_what_does_not_go_is_refused(path: tuple[str, ...], value: Any, message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        load_protocol(changed(*path, to=value))


def test_noise_is_of_presentations_alone() -> None:
    given = changed("subject", "noise", to="gaussian")
    assert load_protocol(given).subject.noise is not None
    del given["stimuli"]["blanks"]
    given["analyses"], given["treatment"] = ["sobol"], {"alterations": ["hue", "rotation"]}
    given["record"] = {}
    with pytest.raises(ProtocolError, match="noise: sobol takes responses without noise"):
        load_protocol(given)


def test_the_protocol_of_the_readme_is_valid() -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text()
    (block,) = re.findall(r"```yml\n(.*?)```", text, re.DOTALL)
    protocol = load_protocol({"neuroprobe": 1, **yaml.safe_load(block)})
    assert protocol.presents
    assert protocol.stimuli.repeats == 10
