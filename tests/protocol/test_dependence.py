"""How a protocol says that parameters depend on each other."""

import copy
import json

import jsonschema
import pytest

from neuroprobe.errors import ProtocolError
from neuroprobe.protocol import Protocol, load_protocol
from neuroprobe.protocol.digest import as_given, canonical, guard_hash

BASE = """\
neuroprobe: 1
subject:
  network: embedded
  layers: [conv1]
stimuli:
  images: {photographs: {}}
treatment:
  dependence:
    correlation: CORRELATION
  alterations:
    - hue
    - {name: saturation, switch: 0.5}
    - {name: rotation, switch: 0.5, as: turn}
    - {name: grayscale, switch: 0.5}
analyses: [shapley]
"""
WHERE = 18  # column of what stands for CORRELATION


@pytest.fixture
def write(tmp_path):
    def make(correlation, analyses="[shapley]"):
        path = tmp_path / "protocol.yaml"
        path.write_text(BASE.replace("CORRELATION", correlation).replace("[shapley]", analyses))
        return path

    return make


def source(correlation, **changes):
    alterations = ["hue", {"name": "saturation", "switch": 0.5}, {"name": "rotation", "switch": 0.5, "as": "turn"}]
    return {
        "neuroprobe": 1,
        "subject": {"network": "embedded", "layers": ["conv1"]},
        "stimuli": {"images": {"photographs": {}}},
        "treatment": {"alterations": alterations, "dependence": {"correlation": correlation}},
        "analyses": ["shapley"],
        **changes,
    }


@pytest.mark.parametrize(
    ("pair", "inputs"),
    [
        ("[hue, saturation]", ("hue_shift", "saturation_factor")),
        ("[saturation, hue]", ("hue_shift", "saturation_factor")),
        ("[hue_shift, saturation_on]", ("hue_shift", "saturation_on")),
        ("[turn, hue]", ("hue_shift", "turn_angle")),
        ("[grayscale, turn_on]", ("grayscale_on", "turn_on")),
        ("[hue, 'saturation']", ("hue_shift", "saturation_factor")),
    ],
)
@pytest.mark.parametrize("form", ["{PAIR: 0.6}", "\n      PAIR: 0.6", "[{between: PAIR, r: 0.6}]"])
def test_names_and_forms(write, pair: str, inputs: tuple[str, str], form: str) -> None:
    copula = load_protocol(write(form.replace("PAIR", pair))).treatment.copula
    assert copula.inputs == inputs
    assert copula.matrix == ((1, 0.6), (0.6, 1))


def test_a_protocol_without_it_has_independent_parameters() -> None:
    treatment = {"alterations": ["hue"]}
    assert load_protocol(source([], treatment=treatment)).treatment.copula is None


@pytest.mark.parametrize(
    ("correlation", "dependent"),
    [
        ({("hue", "saturation"): 0.5}, (("hue", "saturation"),)),
        ({("hue", "saturation"): 0.5, ("saturation", "turn"): 0.1}, (("hue", "saturation", "turn"),)),
        ({("turn_on", "turn"): 0.5}, ()),
        ({("hue", "saturation"): 0}, ()),
    ],
)
def test_alterations_that_depend_on_each_other(correlation, dependent) -> None:
    assert load_protocol(source(correlation)).treatment.dependent == dependent


CHOICES = "known: hue, saturation, turn, grayscale, hue_shift, saturation_on, saturation_factor, turn_on"


@pytest.mark.parametrize(
    ("correlation", "column", "fragments"),
    [
        ("{[hue, satration]: 0.6}", 1, ["'satration'", "did you mean 'saturation'?", CHOICES]),
        ("{[hue, rotation]: 0.6}", 1, ["unknown parameter 'rotation'", CHOICES]),
        ("{[hue, hue_on]: 0.6}", 1, ["unknown parameter 'hue_on'"]),
        ("{[hue, turn]: 0.1, [hue, image]: 0.6}", 19, ["the image has no scale"]),
        ("{[order, hue]: 0.6}", 1, ["the order has no scale"]),
        ("{[hue, hue_shift]: 0.6}", 1, ["both are hue_shift", "name two parameters"]),
        ("{[hue, turn]: 0.1, [hue, turn]: 0.2}", 19, ["is given twice (first in line 9)"]),
        ("{[hue, turn]: 0.1, [turn, hue]: 0.2}", 19, ["hue_shift and turn_angle is given twice"]),
        ("{[hue, turn]: 0.1, [turn_angle, hue]: 0.2}", 19, ["hue_shift and turn_angle is given twice"]),
        ("{[hue, turn]: 1}", 1, ["given the correlation 1", "between -1 and 1"]),
        ("{[hue, turn]: -1.5}", 1, ["given the correlation -1.5"]),
        ("{[hue, turn]: true}", 1, ["given the correlation True"]),
        ("{[hue, turn]: .nan}", 1, ["given the correlation nan"]),
        ("{[hue, turn]: strong}", 1, ["given the correlation 'strong'"]),
        ("{[hue, turn, saturation]: 0.1}", 1, ["expected the names of two parameters"]),
        ("{[hue, 3]: 0.1}", 1, ["given ('hue', 3)", "expected the names of two parameters"]),
        ("{hue: 0.1}", 1, ["given 'hue'", "{[hue, saturation]: 0.6}"]),
        ("[{between: [hue, turn]}]", 1, ["missing key 'r'"]),
        ("[{between: [hue, turn], r: 0.1, rr: 2}]", 32, ["unknown key 'rr'", "expected: between, r"]),
        ("[{between: [hue, turn], r: 7}]", 24, ["given the correlation 7"]),
        ("[]", -1, ["expected the correlations of pairs"]),
        ("0.5", -1, ["given 0.5", "expected the correlations of pairs"]),
        (
            "{[hue, saturation]: 0.9, [hue, turn]: 0.9, [turn, saturation]: -0.5}",
            -1,
            ["not positive definite; the nearest that is: hue_shift, saturation_factor: 0.608; hue_shift, turn_angle"],
        ),
    ],
)
def test_what_is_refused_at_its_place(write, correlation: str, column: int, fragments: list[str]) -> None:
    with pytest.raises(ProtocolError) as caught:
        load_protocol(write(correlation))
    [problem] = caught.value.problems
    for fragment in fragments:
        assert fragment in problem.message
    # of all pairs together: where the block begins
    assert (problem.line, problem.column) == ((9, 5) if column < 0 else (9, WHERE + column))


def test_lists_are_no_keys_elsewhere(write) -> None:
    with pytest.raises(ProtocolError, match=r"given the key \['a', 'b'\], expected a word"):
        load_protocol(write("{[hue, turn]: 0.1}\n  [a, b]: 3"))


@pytest.mark.parametrize("analyses", ["[sobol]", "[shapley, sobol]"])
def test_sobol_indices_of_dependent_alterations_are_refused(write, analyses: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        load_protocol(write("{[hue, saturation]: 0.6}", analyses))
    [problem] = caught.value.problems
    assert (problem.line, problem.column) == (15, 11 + analyses.index("sobol"))
    for fragment in ("sobol takes independent alterations", "hue and saturation", "`analyses: [shapley]`"):
        assert fragment in problem.message


def test_sobol_indices_go_with_dependence_within_one_alteration(write) -> None:
    assert load_protocol(write("{[turn_on, turn]: 0.6}", "[sobol]")).treatment.dependent == ()


def test_the_default_analysis_is_refused_too() -> None:
    value = source({("hue", "saturation"): 0.5})
    del value["analyses"]
    with pytest.raises(ProtocolError, match="sobol takes independent alterations"):
        load_protocol(value)


def test_it_is_written_as_words_and_read_back() -> None:
    short = {("hue", "saturation"): 0.5, ("turn", "turn_on"): -0.25}
    long = [{"between": ["hue", "saturation"], "r": 0.5}, {"between": ["turn", "turn_on"], "r": -0.25}]
    first, second = load_protocol(source(short)), load_protocol(source(copy.deepcopy(long)))
    assert canonical(first) == canonical(second) == json.loads(json.dumps(canonical(first)))
    assert as_given(first) == as_given(second) == source(long)
    assert load_protocol(canonical(first)) == first == load_protocol(as_given(first))
    other = load_protocol(source({**short, ("hue", "saturation"): 0.4}))
    assert len({guard_hash(one, images="0a") for one in (first, second, other)}) == 2


def test_the_json_schema_knows_both_forms() -> None:
    schema = jsonschema.Draft202012Validator(Protocol.model_json_schema())

    def treatment(correlation):
        return {"alterations": [{"name": "hue"}], "dependence": {"correlation": correlation}}

    for right in ({"[hue, saturation]": 0.5}, [{"between": ["hue", "saturation"], "r": 0.5}]):
        schema.validate(source({}, treatment=treatment(right)))
    for wrong in (3, {"[hue, saturation]": 2}, [{"between": ["hue", "saturation"], "value": 0.5}]):
        with pytest.raises(jsonschema.ValidationError):
            schema.validate(source({}, treatment=treatment(wrong)))
