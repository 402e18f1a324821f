import copy

import pytest

from neuroprobe.errors import ProtocolError
from neuroprobe.protocol import load_protocol
from neuroprobe.protocol.digest import as_given, canonical, guard_hash, protocol_hash
from neuroprobe.protocol.reference import reference_settings

PLAIN = {
    "neuroprobe": 1,
    "subject": {"network": "embedded", "layers": ["conv1"]},
    "stimuli": {"images": {"photographs": {}}},
    "treatment": {
        "alterations": ["erasing", {"name": "rotation", "as": "turn"}, {"name": "hue", "switch": 0.5}],
    },
    "analyses": ["shapley"],
}
REFERENCE = {**PLAIN, "reference": "kharyuk2025"}

# the place of each key that the reference sets → its value, and another that a protocol may give
KEYS = {
    "subject.preprocess.minmax": (True, False),
    "stimuli.image": ("redrawn", "frozen"),
    "treatment.eight_bit": (True, False),
    "design.players": ("parameters", "factors"),
    "treatment.alterations.0.outside": ("skip", "clip"),
    "treatment.alterations.1.crop": (True, False),
}


def place(protocol, path):
    """Return the block that holds a path's last key, made where it is not there, and that key."""
    *blocks, key = path.split(".")
    block = protocol
    for name in blocks:
        if isinstance(block, list):
            if isinstance(block[int(name)], str):
                block[int(name)] = {"name": block[int(name)]}
            block = block[int(name)]
        else:
            block = block.setdefault(name, {})
    return block, key


def with_values(protocol, values):
    protocol = copy.deepcopy(protocol)
    for path, value in values.items():
        block, key = place(protocol, path)
        block[key] = value
    return protocol


def test_the_reference_is_the_sum_of_its_keys() -> None:
    apart = load_protocol(with_values(PLAIN, {path: value for path, (value, _) in KEYS.items()}))
    together = load_protocol(REFERENCE)
    assert canonical(together) == {**canonical(apart), "reference": "kharyuk2025"}
    assert guard_hash(together) == guard_hash(apart) != guard_hash(load_protocol(PLAIN))
    assert protocol_hash(together) != protocol_hash(apart)
    assert load_protocol(canonical(together)) == together
    assert canonical(load_protocol(as_given(together))) == canonical(together)


@pytest.mark.parametrize("path", KEYS)
def test_a_key_that_is_given_wins(path) -> None:
    given = load_protocol(with_values(REFERENCE, {path: KEYS[path][1]}))
    expected = {key: theirs for key, (theirs, _) in KEYS.items()} | {path: KEYS[path][1]}
    for key, value in expected.items():
        block, last = place(canonical(given), key)
        assert block[last] == value


def test_other_keys_of_the_blocks_stay() -> None:
    given = load_protocol({**REFERENCE, "subject": {**PLAIN["subject"], "preprocess": {"mean": [0.5, 0.5, 0.5]}}})
    assert (given.subject.preprocess.mean, given.subject.preprocess.minmax) == ([0.5, 0.5, 0.5], True)
    without = load_protocol({**REFERENCE, "subject": {**PLAIN["subject"], "preprocess": None}})
    assert without.subject.preprocess is None


def test_a_stage_of_a_network_is_not_preprocessed() -> None:
    stage = {**PLAIN["subject"], "segment": {"to": "conv1", "plane": "hue"}}
    protocol = load_protocol({**REFERENCE, "subject": stage})
    assert protocol.subject.preprocess is None
    assert "subject.preprocess.minmax" not in reference_settings(protocol)


def test_settings_are_told() -> None:
    assert reference_settings(load_protocol(PLAIN)) == {}
    told = reference_settings(load_protocol(with_values(REFERENCE, {"stimuli.image": "frozen"})))
    assert told == {
        "subject.preprocess.minmax": True,
        "stimuli.image": "frozen",
        "treatment.eight_bit": True,
        "design.players": "parameters",
        "erasing.outside": "skip",
        "turn.crop": True,
    }
    without = load_protocol({**REFERENCE, "subject": {**PLAIN["subject"], "preprocess": None}})
    assert reference_settings(without)["subject.preprocess.minmax"] is None


@pytest.mark.parametrize("analyses", [["sobol"], [{"sobol": {}}], None])
def test_players_are_set_for_shapley_effects_alone(analyses) -> None:
    protocol = {key: value for key, value in REFERENCE.items() if key != "analyses"}
    sobol = load_protocol(protocol | ({"analyses": analyses} if analyses else {}))
    assert sobol.design.players == "factors"
    assert "design.players" not in reference_settings(sobol)


@pytest.mark.parametrize(
    ("changed", "fragment"),
    [
        (
            {"analyses": ["sobol", "shapley"]},
            "(set by `reference: kharyuk2025`) concerns Shapley effects only, and Sobol",
        ),
        ({"analyses": "shapley"}, "analyses: given 'shapley'"),
        ({"analyses": [3, {}]}, "unknown analysis 3"),
        ({"reference": "kharyuk2024"}, "did you mean 'kharyuk2025'?"),
        ({"reference": ["kharyuk2025"]}, "expected 'kharyuk2025'"),
        ({"stimuli": 3}, "stimuli: given 3"),
        ({"subject": {"network": "embedded", "layers": ["conv1"], "preprocess": 3}}, "preprocess: given 3"),
        ({"treatment": {"alterations": "hue"}}, "alterations: given 'hue'"),
        ({"treatment": {"alterations": [3, "rotatoin"]}}, "did you mean 'rotation'?"),
    ],
)
def test_what_is_malformed_is_told_as_ever(changed, fragment) -> None:
    with pytest.raises(ProtocolError) as caught:
        load_protocol({**REFERENCE, **changed})
    assert fragment in str(caught.value)
