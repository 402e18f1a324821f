from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

import neuroprobe as npr
from neuroprobe.cli import main
from neuroprobe.errors import PlanError, ProtocolError, StoreError
from neuroprobe.protocol.digest import as_given, canonical, guard_hash, protocol_hash
from neuroprobe.protocol.reader import load_protocol
from neuroprobe.rig import open_rig

SOURCE: dict[str, Any] = {
    "neuroprobe": 1,
    "subject": {"network": "embedded", "layers": ["linear"]},
    "stimuli": {"images": {"photographs": {"per_image": 2}, "size": 16}},
    "treatment": {
        "alterations": [
            {"name": "hue", "switch": 0.5},
            {"name": "erasing", "row": {"uniform": [400, 500]}, "as": "patch"},
            {"name": "rotation", "switch": 0.5},
            {"name": "grayscale", "switch": 0.5},
        ],
        "sets": {"shapes": ["rotation", "patch"], "colours": ["grayscale", "hue"]},
    },
    "design": {"samples": 8},
    "record": {"device": "cpu"},
}


def changed(**treatment: Any) -> dict[str, Any]:
    source = copy.deepcopy(SOURCE)
    source["treatment"] |= treatment
    return source


@pytest.mark.parametrize("chosen", ["shapes", "colours"])
def test_a_set_is_a_protocol_of_its_alterations_in_its_order(chosen: str) -> None:
    protocol = load_protocol(SOURCE, set=chosen)
    labels = SOURCE["treatment"]["sets"][chosen]
    assert [item.label for item in protocol.treatment.in_order] == labels
    assert [factor.name for factor in open_rig(protocol).factors] == labels
    # in whatever way it is chosen or read back
    for again in (
        load_protocol(load_protocol(SOURCE), set=chosen),
        load_protocol(changed(set=chosen)),
        load_protocol(protocol),
        load_protocol(protocol, set=chosen),
        load_protocol(canonical(protocol)),
        load_protocol(as_given(protocol)),
    ):
        assert again == protocol
        assert protocol_hash(again) == protocol_hash(protocol)


def test_sets_are_told_apart_by_their_hashes() -> None:
    protocols = [load_protocol(SOURCE), *(load_protocol(SOURCE, set=name) for name in ("shapes", "colours"))]
    protocols.append(load_protocol(changed(sets={"tints": ["grayscale", "hue"]}), set="tints"))
    assert len({protocol_hash(protocol) for protocol in protocols}) == 4
    assert len({guard_hash(protocol) for protocol in protocols}) == 4


def test_the_call_wins_over_the_file() -> None:
    assert load_protocol(changed(set="shapes"), set="colours") == load_protocol(SOURCE, set="colours")


@pytest.mark.parametrize(
    ("treatment", "message"),
    [
        ({"sets": {}}, "at least 1 item"),
        ({"sets": {"one": []}}, "at least 1 item"),
        ({"sets": {"one": ["hue", "rotaton"]}}, r"'rotaton' \(did you mean 'rotation'\?\)"),
        ({"sets": {"one": ["hue"], "two": ["patch", "hue"]}}, "hue is in the set one already"),
        ({"sets": {"one": ["hue", "hue"]}}, "hue is in the set one already"),
        ({"sets": ["hue"]}, "given \\['hue'\\], expected a valid dictionary"),
        ({"set": "shape"}, r"unknown set 'shape' \(did you mean 'shapes'\?\); known: shapes, colours"),
        ({"order": ["hue", "patch", "rotation", "grayscale"]}, "a list does not go with sets"),
        ({"order": "factor", "sets": {"one": ["hue"], "two": ["patch", "rotation"]}}, "takes 2 to 12 .* received 1"),
    ],
)
def test_sets_that_are_refused(treatment: dict[str, Any], message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        load_protocol(changed(**treatment))


@pytest.mark.parametrize(
    ("source", "chosen", "message"),
    [
        (SOURCE, "colour", r"unknown set 'colour' \(did you mean 'colours'\?\); known: shapes, colours"),
        (changed(sets=None), "colours", "known: none; sets are written as"),
        (load_protocol(SOURCE, set="shapes"), "colours", "known: shapes"),
    ],
)
def test_a_set_that_is_not_there(source: Any, chosen: str, message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        load_protocol(source, set=chosen)


def test_command_line(tmp_path: Path) -> None:
    file, out = tmp_path / "p.yaml", tmp_path / "out.zarr"
    file.write_text(yaml.safe_dump(SOURCE, sort_keys=False))

    def call(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(main, [str(word) for word in words])
        return done.exit_code, done.output

    code, said = call("run", file, "-o", out)
    assert code == 2
    assert "choose one by --set" in said
    assert "shapes (rotation, patch); colours (grayscale, hue)" in said
    assert said.startswith(f"{file}:")
    assert not out.exists()
    assert call("run", file, "-o", out, "--set", "colour")[0] == 2
    assert call("run", file, "-o", out, "--set", "colours")[0] == 0
    assert npr.open_result(out)["sobol/linear"]["factor"].values.tolist() == ["grayscale", "hue"]
    assert call("check", file)[0] == call("check", file, "--set", "colours")[0] == 0


def test_another_set_does_not_go_on_with_a_store(tmp_path: Path) -> None:
    sets = changed(sets={"one": ["hue"], "two": ["grayscale"]})
    with pytest.warns(UserWarning, match="standard errors"):
        npr.run(sets, tmp_path / "out.zarr", set="one")
    with pytest.raises(StoreError, match="another protocol"):
        npr.run(sets, tmp_path / "out.zarr", set="two")


def test_an_error_stands_at_the_alteration_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    text = yaml.safe_dump(changed(reference_side="image"), sort_keys=False)
    file.write_text(text)
    line = text[: text.index("row:")].count("\n") + 1
    with pytest.raises(PlanError, match=f"p.yaml:{line}:.*row lies between 400 and 500 px"):
        npr.plan(file, set="shapes", measure=False)
