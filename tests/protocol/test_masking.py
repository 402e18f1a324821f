"""Masking studies in a protocol: grids of rules, places, and what two studies of one protocol must agree on."""

import copy
import itertools
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from neuroprobe.errors import ProtocolError
from neuroprobe.protocol import Protocol, load_protocol
from neuroprobe.protocol.digest import as_given, canonical, guard_hash, protocol_hash
from neuroprobe.protocol.lesion import RuleSpec
from neuroprobe.protocol.masking import MaskingOptions, PlaceSpec, SingleClassOptions, rule_label

MAPS = [{"from": "/a.zarr", "analysis": "shapley"}]
HEADLINE = {"quantile": 0.9, "multiply": 0}
SMALLEST: dict[str, Any] = {
    "neuroprobe": 1,
    "subject": {"network": "embedded", "layers": ["conv1", "conv2", "linear"]},
    "stimuli": {"images": {"photographs": {}}},
    "treatment": {"alterations": ["hue", "rotation"]},
}
STUDIES = ("masking", "single_class")
SCHEMA = jsonschema.Draft202012Validator(Protocol.model_json_schema())


def protocol(analysis: str = "masking", **options: Any) -> dict[str, Any]:
    """Write a protocol of one study with these options."""
    return {**copy.deepcopy(SMALLEST), "analyses": [{analysis: {"maps": MAPS, **options}}]}


def read(analysis: str = "masking", **options: Any) -> Any:
    """Options of one study, read."""
    return load_protocol(protocol(analysis, **options)).options(analysis)


def refused(source: dict[str, Any] | Path) -> str:
    with pytest.raises(ProtocolError) as caught:
        load_protocol(source)
    return str(caught.value)


def pairs(rules: list[RuleSpec]) -> list[tuple[float | None, float | str]]:
    return [(rule.quantile, rule.multiply) for rule in rules]


GRID = list(itertools.product([0.5, 0.6, 0.7, 0.8, 0.9], [0, 0.5, 1.5]))


def test_defaults() -> None:
    masking, single_class = read(), read("single_class")
    for options in (masking, single_class):
        assert pairs(options.rules) == [*GRID, (None, "s"), (None, "1 - s")]
        assert options.headline == RuleSpec(quantile=0.9, multiply=0.0)
        assert (options.at, options.draws, options.correction, options.classes) == (None, 1, "fdr_bh", None)
    assert (masking.random, masking.controls, masking.bootstrap) == (199, 19, 200)
    assert (single_class.layer, single_class.k, single_class.permutations) == (None, 5, 999)
    assert masking.maps[0].factors is None


# rules


@pytest.mark.parametrize("analysis", STUDIES)
def test_the_rules_of_the_study_are_seventeen(analysis: str) -> None:
    assert read(analysis, rules="study") == read(analysis)
    assert len({rule_label(rule) for rule in read(analysis, rules="study").rules}) == 17


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ([HEADLINE], [(0.9, 0)]),
        (HEADLINE, [(0.9, 0)]),
        ([{"quantile": [0.8, 0.9]}], [(0.8, 0), (0.9, 0)]),
        ({"quantile": [0.8, 0.9]}, [(0.8, 0), (0.9, 0)]),
        ([{"quantile": 0.9, "multiply": [0, 2]}], [(0.9, 0), (0.9, 2)]),
        (
            [{"quantile": [0.9, 0.5], "multiply": [0, 1.5]}, {"multiply": ["1-s", "s"]}],
            [(0.9, 0), (0.9, 1.5), (0.5, 0), (0.5, 1.5), (None, "1 - s"), (None, "s")],
        ),
        ([{"multiply": "s"}, HEADLINE, {"quantile": [0.2], "multiply": -1}], [(None, "s"), (0.9, 0), (0.2, -1)]),
    ],
)
def test_a_key_of_a_rule_may_hold_a_list(rules: Any, expected: list[Any]) -> None:
    source = protocol(rules=rules)
    SCHEMA.validate(source)
    assert pairs(read(rules=rules).rules) == expected
    at = [["conv1"], {"layers": ["conv2"], "rules": rules}]
    assert pairs(read(at=at).at[1].rules) == expected


@pytest.mark.parametrize(
    ("rules", "fragment"),
    [
        ([], "at least 1 item"),
        ("studdy", "rules: given 'studdy' (did you mean 'study'?), expected study, or [{quantile: …"),
        (3, "rules: given 3, expected study, or [{quantile: …"),
        ([0.9], "given 0.9, expected a block with the keys: quantile, multiply"),
        (["study"], "given 'study', expected a block with the keys: quantile, multiply"),
        ([{"quantile": 0}], "given 0, expected a number greater than 0"),
        ([{"quantile": 1}], "given 1, expected a number less than 1"),
        ([{"quantile": [0.5, 1.2]}], "given 1.2, expected a number less than 1"),
        ([{"quantile": -0.1}], "given -0.1, expected a number greater than 0"),
        ([{"quantile": float("nan")}], "given nan, expected"),
        ([{"quantile": True}], "given True, expected a valid number"),
        ([{"quantile": "0.9"}], "given '0.9', expected a valid number"),
        ([{"quantile": []}, HEADLINE], "quantile: given an empty list, expected one value or several"),
        ([HEADLINE, {"multiply": []}], "multiply: given an empty list, expected one value or several"),
        ([{"quantile": 0.9, "multiply": 1}], "multiply: given 1, which leaves responses as they are; expected another"),
        ([{"quantile": 0.9, "multiply": [0, 1.0]}], "multiply: given 1, which leaves responses as they are"),
        (
            [{"quantile": 0.9, "multiply": "t"}],
            "multiply: given 't', expected a number, s for a unit's own sensitivity",
        ),
        ([{"quantile": 0.9, "multiply": True}], "multiply: given True, expected a number, s for"),
        ([{"quantile": 0.9, "multiply": "s"}], "quantile: does not go with `multiply: s`, which concerns all units"),
        ([{"multiply": 0}], "rule: expected {quantile: 0.9, multiply: 0}, or one without quantile"),
        ([{}], "rule: expected {quantile: 0.9, multiply: 0}, or one without quantile"),
        ([HEADLINE, {"quantile": 0.9}], "rules listed twice: q0.9 x0; list each once"),
        ([{"quantile": [0.9, 0.8, 0.9]}], "rules listed twice: q0.9 x0; list each once"),
        ([HEADLINE, {"multiply": ["s", "1-s", "1 - s"]}], "rules listed twice: x 1-s; list each once"),
        ([{"quantil": [0.8, 0.9]}], "unknown key 'quantil' (did you mean 'quantile'?); expected: quantile, multiply"),
        ([{"quantile": 0.9, "times": 0}], "unknown key 'times'; expected: quantile, multiply"),
    ],
)
def test_rules_that_are_refused(rules: Any, fragment: str) -> None:
    """Of the study and of a place of it, in one sentence."""
    for options in ({"rules": rules}, {"at": [["conv1"], {"layers": ["conv2"], "rules": rules}]}):
        message = refused(protocol(**options))
        assert fragment in message
        assert len(message.splitlines()) == 1


WRITTEN = """\
neuroprobe: 1
subject: {network: embedded, layers: [conv1, conv2]}
stimuli: {images: {photographs: {}}}
treatment: {alterations: [hue]}
analyses:
  - masking:
      maps: [{from: a.zarr, analysis: shapley}]
"""


@pytest.mark.parametrize(
    ("text", "place", "fragment"),
    [
        ("rules:\n        - {quantile: [0.5, 1.2]}\n        - {quantile: 0.7}", "9:12", "rules.0.quantile: given 1.2"),
        ("rules: [{quantile: [0.8, 0.9]},\n       {multiply: [s, t]}]", "9:9", "multiply: given 't'"),
        ("rules: {quantile: [0.8, 0.9],\n       multiply: [0, 1]}", "9:8", "multiply: given 1, which leaves"),
        ("rules: [{quantile: 0.9},\n       {quantile: 0.9}]", "8:7", "rules listed twice"),
        ("at:\n        - [conv1]\n        - {layers: [conv2], rules: [{quantile: 0}]}", "10:38", "given 0, expected"),
        ("at:\n        - [conv1, conv2]\n        - [conv2, conv1]", "10:11", "at: listed twice: conv2+conv1"),
        ("headline: {quantile: 0.4}", "8:7", "headline: q0.4 x0 is not among the rules"),
        (
            "rules: [{quantile: 0.9,\n       multiply: .inf}]",
            "9:8",
            "given inf, expected 's' or '1 - s' or a finite numb",
        ),
        ("random: -1", "8:7", "given -1, expected a number greater than or equal to 0"),
    ],
)
def test_errors_stand_where_the_file_has_them(text: str, place: str, fragment: str, tmp_path: Path) -> None:
    """Also of rules that are written out from lists, whose numbers are not those of the file's blocks."""
    path = tmp_path / "a.yaml"
    path.write_text(f"{WRITTEN}      {text}\n")
    message = refused(path)
    assert message.startswith(f"{path}:{place}: ")
    assert fragment in message


def test_paths_are_beside_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(WRITTEN)
    assert load_protocol(path).options("masking").maps[0].result == str(tmp_path / "a.zarr")


def test_labels_of_rules() -> None:
    labels = [rule_label(rule) for rule in read(rules=[{"quantile": [0.9, 0.25], "multiply": [0, -1.5]}]).rules]
    assert labels == ["q0.9 x0", "q0.9 x-1.5", "q0.25 x0", "q0.25 x-1.5"]


# the headline


@pytest.mark.parametrize("analysis", STUDIES)
@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"headline": {"multiply": "s"}}, "headline: expected a rule with a quantile, of which random masks of equal"),
        ({"headline": {"quantile": 0.4}}, "headline: q0.4 x0 is not among the rules: list it there, or take one"),
        ({"rules": {"quantile": 0.8}}, "headline: q0.9 x0 is not among the rules"),
        (
            {"rules": HEADLINE, "at": [{"layers": ["conv1"], "rules": {"quantile": 0.8}}]},
            "headline: q0.9 x0 is not among the rules",
        ),
        ({"headline": 0.9}, "given 0.9, expected a block with the keys: quantile, multiply"),
    ],
)
def test_headlines_that_are_refused(analysis: str, options: dict[str, Any], fragment: str) -> None:
    assert fragment in refused(protocol(analysis, **options))


def test_the_headline_is_a_rule_of_every_place() -> None:
    at = [{"layers": ["conv1"], "rules": {"quantile": [0.7, 0.8]}}, {"layers": ["conv2"], "rules": {"quantile": 0.7}}]
    options = read(at=at, headline={"quantile": 0.7}, rules={"quantile": 0.5})
    assert [pairs(options.rules_at(place)) for place in options.at] == [[(0.7, 0), (0.8, 0)], [(0.7, 0)]]
    message = refused(protocol(at=at, headline={"quantile": 0.8}))
    assert "headline: q0.8 x0 is not among the rules of conv2: list it there, or take one of them" in message


# places


def test_places_are_lists_or_blocks() -> None:
    options = read(at=[["conv1", "conv2"], {"layers": ["conv2"]}])
    assert options.at == [PlaceSpec(layers=["conv1", "conv2"]), PlaceSpec(layers=["conv2"])]
    assert [place.name for place in options.at] == ["conv1+conv2", "conv2"]
    assert all(options.rules_at(place) == options.rules for place in options.at)


@pytest.mark.parametrize(
    ("at", "fragment"),
    [
        ([], "at least 1 item"),
        ([[]], "at least 1 item"),
        ([["conv1"], ["conv2"], ["conv1"]], "at: listed twice: conv1, in whatever order; list each place once"),
        ([["conv1", "conv2"], ["conv2", "conv1"]], "at: listed twice: conv2+conv1"),
        ([["conv1"], {"layers": ["conv1"], "random": 3}], "at: listed twice: conv1"),
        ([["conv1", "conv2", "conv1"]], "layers listed twice: conv1"),
        ([{"layers": ["conv1", "conv1"]}], "layers listed twice: conv1"),
        (["conv1"], "given 'conv1', expected layers that are lesioned together: [layer, …]"),
        (
            [{"layer": ["conv1"]}],
            "unknown key 'layer' (did you mean 'layers'?); expected: layers, rules, random, contr",
        ),
        ([{"layers": ["conv1"], "control": 3}], "unknown key 'control' (did you mean 'controls'?)"),
        ([{"layers": ["conv1"], "random": -1}], "given -1, expected a number greater than or equal to 0"),
    ],
)
def test_places_that_are_refused(at: list[Any], fragment: str) -> None:
    for analysis in STUDIES:
        assert fragment in refused(protocol(analysis, at=at))


def test_random_masks_are_of_the_headlines_multiplier() -> None:
    """As many as of the place, or of the study: most by the headline's rule, some by its other quantiles."""
    rules = [{"quantile": [0.5, 0.9], "multiply": [0, 0.5]}, {"multiply": ["s", "1 - s"]}]
    at = [["conv1"], {"layers": ["conv2"], "random": 7}, {"layers": ["linear"], "random": 0, "controls": 2}]
    at += [{"layers": ["conv1", "conv2"], "rules": [{"quantile": 0.9}, {"quantile": 0.5, "multiply": [0.5, 0]}]}]
    options = read(at=at, rules=rules, random=30, controls=4)
    half, most = RuleSpec(quantile=0.5, multiply=0.0), RuleSpec(quantile=0.9, multiply=0.0)
    found = [options.n_random(place) for place in options.at]
    assert found == [{half: 4, most: 30}, {half: 4, most: 7}, {half: 2, most: 0}, {half: 4, most: 30}]
    other = read(at=at, rules=rules, headline={"quantile": 0.5, "multiply": 0.5}, random=30, controls=4)
    assert [rule.multiply for place in other.at for rule in other.n_random(place)] == [0.5] * 7
    assert other.n_random(other.at[0])[RuleSpec(quantile=0.5, multiply=0.5)] == 30


# maps and other options


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"maps": []}, "at least 1 item"),
        ({"maps": [{"from": "/a.zarr", "analysis": "sobol"}]}, "analysis: sobol gives two maps: say which by `value:"),
        ({"maps": [{**MAPS[0], "value": "first_order"}]}, "value: goes with `analysis: sobol` only"),
        ({"maps": [{**MAPS[0], "factors": []}]}, "at least 1 item"),
        ({"maps": [{**MAPS[0], "factors": ["hue", "rotation", "hue"]}]}, "factors listed twice: hue"),
        ({"maps": [{**MAPS[0], "factor": ["hue"]}]}, "unknown key 'factor' (did you mean 'factors'?)"),
        ({"rule": "study"}, "unknown key 'rule' (did you mean 'rules'?)"),
        ({"draw": 3}, "unknown key 'draw' (did you mean 'draws'?)"),
        ({"draws": 0}, "given 0, expected a number greater than or equal to 1"),
        ({"correction": "fdr"}, "given 'fdr', expected 'fdr_by'"),
        ({"classes": ["cat"]}, "at least 2 items"),
    ],
)
def test_options_that_are_refused(options: dict[str, Any], fragment: str) -> None:
    for analysis in STUDIES:
        assert fragment in refused(protocol(analysis, **options))


@pytest.mark.parametrize(
    ("analysis", "options", "fragment"),
    [
        ("masking", {"bootstrap": 39}, "greater than or equal to 40"),
        ("masking", {"bootstrap": 2**14 + 1}, "less than or equal to 16384"),
        ("masking", {"randoms": 3}, "unknown key 'randoms' (did you mean 'random'?)"),
        ("masking", {"permutations": 999}, "unknown key 'permutations'"),
        ("single_class", {"permutations": 98}, "greater than or equal to 99"),
        ("single_class", {"k": 0}, "greater than 0"),
        ("single_class", {"random": 3}, "unknown key 'random'"),
    ],
)
def test_options_of_one_study_that_are_refused(analysis: str, options: dict[str, Any], fragment: str) -> None:
    assert fragment in refused(protocol(analysis, **options))


@pytest.mark.parametrize("analysis", STUDIES)
def test_maps_are_asked_for(analysis: str) -> None:
    source = {**SMALLEST, "analyses": [analysis]}
    assert "missing key 'maps'" in refused(source)


# what goes together


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("maps", [{**MAPS[0], "factors": ["hue"]}]),
        ("maps", [{"from": "/b.zarr", "analysis": "shapley"}]),
        ("draws", 2),
        ("classes", ["cat", "dog"]),
    ],
)
@pytest.mark.parametrize("first", STUDIES)
def test_both_studies_of_a_protocol_are_of_the_same_maps_draws_and_classes(first: str, key: str, value: Any) -> None:
    second = STUDIES[1 - STUDIES.index(first)]
    source = {**SMALLEST, "analyses": [{first: {"maps": MAPS}}, {second: {"maps": MAPS, key: value}}]}
    assert f"{key}: masking and single_class of one protocol show the same images" in refused(source)
    source["analyses"][0][first][key] = value
    assert load_protocol(source).options(first).maps == load_protocol(source).options(second).maps


def test_both_studies_may_have_rules_and_places_of_their_own() -> None:
    single_class = {"maps": MAPS, "at": [["conv2"]], "rules": [HEADLINE], "correction": "none"}
    both = load_protocol({**SMALLEST, "analyses": [{"masking": {"maps": MAPS}}, {"single_class": single_class}]})
    assert [one.name for one in both.lesion_studies] == ["masking", "single_class"]
    assert isinstance(both.options("masking"), MaskingOptions)
    assert isinstance(both.options("single_class"), SingleClassOptions)


@pytest.mark.parametrize("analysis", STUDIES)
def test_what_studies_do_not_go_with(analysis: str) -> None:
    segment = protocol(analysis)
    segment["subject"]["segment"] = {"from": "conv1", "to": "linear", "plane": "hue"}
    assert f"segment: {analysis} takes the outputs of a whole network: leave it out" in refused(segment)
    for store in ("responses", {"responses": ["conv1"]}):
        stored = protocol(analysis) | {"record": {"store": store}}
        assert f"store: responses under the masks of {analysis} are not stored" in refused(stored)
    twice = protocol(analysis)
    twice["analyses"] *= 2
    assert f"analyses: {analysis} is listed twice" in refused(twice)


@pytest.mark.parametrize("analysis", STUDIES)
def test_alterations_need_not_vary(analysis: str) -> None:
    """As of a contrast: each is shown alone, beside the original."""
    source = protocol(analysis)
    source["treatment"]["alterations"] = ["grayscale", {"name": "hue", "shift": 0.1}]
    assert len(load_protocol(source).treatment.alterations) == 2


# round trips and hashes

FULL: dict[str, Any] = {
    "rules": [{"quantile": [0.5, 0.9], "multiply": [0, 1.5]}, {"multiply": ["s", "1 - s"]}],
    "headline": {"quantile": 0.5, "multiply": 1.5},
    "at": [["conv1", "conv2"], {"layers": ["conv2"], "rules": "study", "random": 9, "controls": 0}],
    "maps": [
        {"from": "/b.zarr", "analysis": "sobol", "value": "total_order", "factors": ["hue"], "any_network": True},
        *MAPS,
    ],
    "draws": 3,
    "classes": ["cat", "dog"],
    "correction": "holm",
}


@pytest.mark.parametrize(
    "source",
    [
        protocol(),
        protocol("single_class"),
        protocol(rules="study"),
        protocol(**FULL, random=3, controls=2, bootstrap=50),
        protocol("single_class", **FULL, k=2, permutations=99, layer="linear"),
    ],
)
def test_protocols_read_back_as_themselves(source: dict[str, Any]) -> None:
    found, before = load_protocol(source), copy.deepcopy(source)
    assert source == before
    for written in (as_given(found), canonical(found)):
        plain = json.loads(json.dumps(written))
        again = load_protocol(plain)
        assert again == found
        assert canonical(again) == canonical(found)
        SCHEMA.validate(plain)
    SCHEMA.validate(source)


def test_what_is_not_given_is_not_written() -> None:
    source = protocol(draws=2)
    assert as_given(load_protocol(source)) == source


@pytest.mark.parametrize(
    "options",
    [{"maps": [{"from": "/b.zarr", "analysis": "shapley"}]}, {"maps": [{**MAPS[0], "any_network": True}]}],
)
@pytest.mark.parametrize("analysis", STUDIES)
def test_where_maps_lie_does_not_guard_a_store(analysis: str, options: dict[str, Any]) -> None:
    """Their content does, which is hashed with it."""
    first, second = load_protocol(protocol(analysis)), load_protocol(protocol(analysis, **options))
    assert protocol_hash(first) != protocol_hash(second)
    assert guard_hash(first, maps="0a") == guard_hash(second, maps="0a")
    assert guard_hash(first, maps="0a") != guard_hash(second, maps="0b")
    assert canonical(second)["analyses"][0][analysis]["maps"][0]["from"] == second.options(analysis).maps[0].result


GUARDED: list[dict[str, Any]] = [
    {"rules": [HEADLINE]},
    {"headline": {"quantile": 0.8}},
    {"at": [["conv1"]]},
    {"draws": 2},
    {"correction": "none"},
    {"classes": ["cat", "dog"]},
    {"maps": [{**MAPS[0], "factors": ["hue"]}]},
    {"maps": [{"from": "/a.zarr", "analysis": "sobol", "value": "first_order"}]},
]


@pytest.mark.parametrize(
    ("analysis", "options"),
    [
        *itertools.product(STUDIES, GUARDED),
        *itertools.product(["masking"], [{"random": 3}, {"controls": 3}, {"bootstrap": 99}]),
        *itertools.product(["single_class"], [{"k": 2}, {"permutations": 199}, {"layer": "linear"}]),
    ],
)
def test_what_decides_the_numbers_guards_a_store(analysis: str, options: dict[str, Any]) -> None:
    first, second = load_protocol(protocol(analysis)), load_protocol(protocol(analysis, **options))
    assert guard_hash(first, maps="0a") != guard_hash(second, maps="0a")
    assert protocol_hash(first) != protocol_hash(second)


def test_rules_that_mean_the_same_hash_alike() -> None:
    grid = [{"quantile": [0.5, 0.6, 0.7, 0.8, 0.9], "multiply": [0, 0.5, 1.5]}, {"multiply": ["s", "1-s"]}]
    hashes = {guard_hash(load_protocol(source)) for source in (protocol(), protocol(rules=grid))}
    assert len(hashes) == 1
    assert guard_hash(load_protocol(protocol(at=[["conv1"]]))) not in hashes


# the JSON schema


@pytest.mark.parametrize(
    "options",
    [{"rules": 3}, {"rules": "studdy"}, {"at": ["conv1"]}, {"colour": 3}, {"draws": 0}, {"maps": []}, {"random": -1}],
)
def test_the_json_schema_refuses_what_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        SCHEMA.validate(protocol(**options))
    assert refused(protocol(**options))


def test_the_order_of_keys_is_no_part_of_a_rule() -> None:
    headline = {"quantile": 0.6, "multiply": 0}
    rules = {"quantile": [0.6, 0.8], "multiply": [0, 1.5]}, {"multiply": [0, 1.5], "quantile": [0.6, 0.8]}
    one, other = (read(rules=[each], headline=headline) for each in rules)
    assert one == other
    assert pairs(one.rules) == [(0.6, 0), (0.6, 1.5), (0.8, 0), (0.8, 1.5)]
