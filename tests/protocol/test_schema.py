import copy
import json

import jsonschema
import pytest
from pydantic import ValidationError

from neuroprobe.design.laws import Law
from neuroprobe.errors import ProtocolError
from neuroprobe.protocol import Protocol, load_protocol
from neuroprobe.protocol.alteration import AlterationSpec, read_law
from neuroprobe.protocol.digest import canonical
from neuroprobe.protocol.images import Folder, Photographs
from neuroprobe.protocol.schema import Responses
from neuroprobe.protocol.subject import LayerSpec
from neuroprobe.stimuli.alterations import ALTERATIONS

SCHEMA = jsonschema.Draft202012Validator(Protocol.model_json_schema())
SMALLEST = {
    "neuroprobe": 1,
    "subject": {"network": "embedded", "layers": ["conv1"]},
    "stimuli": {"images": {"photographs": {}}},
    "treatment": {"alterations": ["hue"]},
}

# every block with values that are not the defaults
LARGEST = {
    "neuroprobe": 1,
    "title": "all of it",
    "seed": 11,
    "subject": {
        "network": "embedded",
        "weights": "/weights/net.pt",
        "layers": ["conv1", {"name": "conv2", "reduce": "mean", "channels": [0, 3], "transform": "softmax"}],
        "preprocess": {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]},
        "random_twin": True,
    },
    "stimuli": {"images": {"folder": "/images", "shuffle": True, "limit": 9, "size": 32}, "image": "factor"},
    "treatment": {
        "alterations": [
            {"name": "hue", "as": "slow_hue", "switch": 0.5, "shift": {"choice": [-0.1, 0.1], "weights": [1, 2]}},
            {"name": "hue", "shift": {"truncated_normal": [0, 0.1, -0.5, 0.5]}},
            {"name": "rotation", "angle": {"normal": [0, 3]}},
            {"name": "grayscale", "switch": 0.25},
        ],
        "order": ["rotation", "grayscale", "hue", "slow_hue"],
        "reference_side": "image",
    },
    "control": {"alterations": ["gaussian_blur"]},
    "design": {"samples": 512, "second_order": False, "scramble": 128},
    "analyses": [{"sobol": {"total_interaction": True}}],
    "record": {"batch": 16, "device": "cuda:1", "store": {"responses": ["conv1"]}, "nan": "drop"},
}


def with_value(protocol, path, value):
    """Copy a protocol with the value at a dotted path replaced."""
    changed = copy.deepcopy(protocol)
    *blocks, key = path.split(".")
    block = changed
    for name in blocks:
        block = block.setdefault(name, {})
    block[key] = value
    return changed


def loaded(path, value):
    return load_protocol(with_value(SMALLEST, path, value))


def refused(path, value):
    with pytest.raises(ProtocolError) as caught:
        loaded(path, value)
    return str(caught.value)


def test_defaults():
    protocol = load_protocol(SMALLEST)
    assert (protocol.title, protocol.seed, protocol.control) == ("", 0, "original")
    subject = protocol.subject
    assert (subject.weights, subject.preprocess, subject.random_twin) == ("DEFAULT", None, False)
    assert subject.layers == [LayerSpec(name="conv1", reduce="none", channels=None, transform="none")]
    assert (protocol.stimuli.image, protocol.treatment.order, protocol.treatment.reference_side) == (
        "frozen",
        "fixed",
        224,
    )
    assert (protocol.design.samples, protocol.design.second_order, protocol.design.scramble) == (1024, True, "auto")
    assert protocol.options("sobol").total_interaction is False
    record = protocol.record
    assert (record.batch, record.device, record.store, record.nan) == (128, "auto", "none", "error")


def test_protocols_are_frozen():
    protocol = load_protocol(SMALLEST)
    for block in (protocol, protocol.subject, protocol.design, protocol.treatment.alterations[0]):
        name = next(iter(type(block).model_fields))
        with pytest.raises(ValidationError, match="frozen"):
            setattr(block, name, getattr(block, name))


@pytest.mark.parametrize(
    "block",
    [
        "",
        "subject.",
        "subject.preprocess.",
        "stimuli.",
        "stimuli.images.",
        "stimuli.images.photographs.",
        "treatment.",
        "design.",
        "record.",
    ],
)
def test_nothing_else_is_allowed_in_any_block(block):
    assert "unknown key 'colour'" in refused(f"{block}colour", 3)


@pytest.mark.parametrize(
    "block",
    [
        ("subject.layers", [{"name": "a", "colour": 3}]),
        ("treatment.alterations", [{"name": "hue", "colour": 3}]),
        ("analyses", [{"sobol": {"colour": 3}}]),
        ("record.store", {"colour": 3}),
        ("control", {"colour": 3}),
    ],
)
def test_nothing_else_is_allowed_in_items(block):
    assert "unknown key 'colour'" in refused(*block)


# layers


def test_layers_are_names_or_mappings():
    given = ["conv1", {"name": "conv2", "reduce": "mean"}, {"name": "fc", "transform": "softmax", "channels": [2, 0]}]
    first, second, third = loaded("subject.layers", given).subject.layers
    assert first == LayerSpec(name="conv1")
    assert (second.name, second.reduce) == ("conv2", "mean")
    assert (third.transform, third.channels) == ("softmax", [2, 0])


@pytest.mark.parametrize(
    ("layers", "fragment"),
    [
        (["a", "b", "a", {"name": "b", "reduce": "max"}], "layers listed twice: a, b"),
        ([{"name": "a", "channels": [1, 2, 1]}], "channels of 'a' are listed twice"),
        ([{"name": "a", "channels": []}], "at least 1 item"),
        ([{"name": "a", "channels": [-1]}], "greater than or equal to 0"),
        ([{"reduce": "mean"}], "missing key 'name'"),
        ([], "at least 1 item"),
    ],
)
def test_layers_that_are_refused(layers, fragment):
    assert fragment in refused("subject.layers", layers)


@pytest.mark.parametrize(
    ("weights", "kept"),
    [("DEFAULT", True), ("none", True), ("/a/b.pt", True), ("/b.pth", True), ("/c.safetensors", True), ("/d.th", True)],
)
def test_weights(weights, kept):
    assert (loaded("subject.weights", weights).subject.weights == weights) is kept


@pytest.mark.parametrize("weights", ["default", "/a/b.bin", "", None, 3])
def test_weights_that_are_refused(weights):
    assert repr(weights) in refused("subject.weights", weights)


@pytest.mark.parametrize(
    ("preprocess", "fragment"),
    [({"mean": [1, 1]}, "at least 3"), ({"std": [1, 1, 1, 1]}, "at most 3"), ({"std": [1, 0, 1]}, "greater than 0")],
)
def test_preprocess_is_of_three_channels(preprocess, fragment):
    assert fragment in refused("subject.preprocess", preprocess)


# images


def test_images_are_a_folder_or_photographs():
    folder = loaded("stimuli.images", {"folder": "/images", "limit": 3}).stimuli.images
    assert folder == Folder(folder="/images", limit=3, shuffle=False)
    photographs = loaded("stimuli.images", {"photographs": {"crop": 32}, "size": [32, 48]}).stimuli.images
    assert isinstance(photographs, Photographs)
    assert (photographs.photographs.crop, photographs.photographs.per_image, photographs.size) == (32, 20, [32, 48])


def test_one_number_is_a_square():
    assert loaded("stimuli.images.size", 32).stimuli.images.size == [32, 32]


def test_the_size_can_be_left_to_the_network():
    assert loaded("stimuli.images.size", None) == load_protocol(SMALLEST)
    assert loaded("subject.layers", [{"name": "conv1", "channels": None}]) == load_protocol(SMALLEST)


@pytest.mark.parametrize("size", [0, [1], [1, 2, 3], [1, -1], "large", True])
def test_sizes_that_are_refused(size):
    assert "size" in refused("stimuli.images.size", size)


@pytest.mark.parametrize("images", [{}, {"folder": ""}, {"folder": "/a", "photographs": {}}, [], "folder", None])
def test_images_that_are_refused(images):
    assert refused("stimuli.images", images)


# alterations


def test_alterations_are_names_or_mappings():
    given = ["hue", {"name": "rotation", "switch": 0.5, "angle": 3}, {"name": "hue", "as": "hue_2"}]
    hue, rotation, second = loaded("treatment.alterations", given).treatment.alterations
    assert (hue.name, hue.label, hue.switch) == ("hue", "hue", "always")
    assert hue.laws == {"shift": ALTERATIONS["hue"].parameters["shift"].law}
    assert (rotation.switch, rotation.laws) == (0.5, {"angle": Law("constant", (3,)), "crop": Law("constant", (0,))})
    assert (second.name, second.label) == ("hue", "hue_2")
    assert second.laws == hue.laws


def test_parameters_that_are_not_given_keep_their_own_laws():
    [erasing] = loaded("treatment.alterations", [{"name": "erasing", "area": 0.1}]).treatment.alterations
    own = {name: parameter.law for name, parameter in ALTERATIONS["erasing"].parameters.items()}
    assert erasing.laws == {**own, "area": Law("constant", (0.1,))}


@pytest.mark.parametrize("name", list(ALTERATIONS))
def test_every_alteration_can_be_switched_with_its_own_laws(name):
    [item] = loaded("treatment.alterations", [{"name": name, "switch": 0.5}]).treatment.alterations
    assert set(item.laws) == set(ALTERATIONS[name].parameters)


@pytest.mark.parametrize("label", ["a b", "1a", "a-b", "a/b"])
def test_a_label_is_a_name(label):
    assert f"as: given {label!r}" in refused("treatment.alterations", [{"name": "hue", "as": label}])


@pytest.mark.parametrize("label", ["image", "order"])
def test_labels_of_other_factors_are_taken(label):
    message = refused("treatment.alterations", [{"name": "hue", "as": label}])
    assert f"an alteration cannot be called {label}" in message


@pytest.mark.parametrize(
    "item",
    [
        {"name": "hue", "shift": 0.1},
        {"name": "hue", "shift": {"uniform": [0.1, 0.1]}, "switch": 1},
        {"name": "hue", "switch": 0},
        "grayscale",
    ],
)
def test_an_alteration_that_never_varies_is_refused(item):
    assert "it cannot explain any variance" in refused("treatment.alterations", [item])


@pytest.mark.parametrize(
    "item",
    [
        {"name": "hue", "laws": {}},
        {"name": "nothing", "laws": {}},
        {"name": "hue", "laws": {"colour": {"kind": "uniform", "arguments": [0, 1], "weights": []}}},
        {"name": "hue", "laws": {"shift": {"kind": "uniform", "arguments": [0, 9], "weights": []}}},
    ],
)
def test_laws_of_a_canonical_protocol_are_checked_too(item):
    assert refused("treatment.alterations", [item])


FLAGS = [
    (True, Law("constant", (1,))),
    (False, Law("constant", (0,))),
    (1, Law("constant", (1,))),
    (0.0, Law("constant", (0,))),
    ({"choice": [True, False]}, Law("choice", (1, 0))),
    ({"choice": [0, 1], "weights": [3, 1]}, Law("choice", (0, 1), (3, 1))),
]


@pytest.mark.parametrize(("given", "law"), FLAGS)
def test_a_flag_is_read_and_written(given, law):
    protocol = with_value(SMALLEST, "treatment.alterations", [{"name": "rotation", "crop": given}])
    SCHEMA.validate(protocol)
    loaded = load_protocol(protocol)
    assert loaded.treatment.alterations[0].laws["crop"] == law
    assert load_protocol(json.loads(json.dumps(canonical(loaded)))) == loaded


FLAG = "expected false, true, or {choice: [false, true], weights: [w, …]}"


@pytest.mark.parametrize(
    ("given", "fragment"),
    [
        ("yes", f"given 'yes', {FLAG}"),
        (None, FLAG),
        (2, FLAG),
        (0.5, FLAG),
        ([True], FLAG),
        ({"uniform": [0, 1]}, FLAG),
        ({"integers": [0, 1]}, FLAG),
        ({"choice": True}, FLAG),
        ({"choice": [True, 2]}, FLAG),
        ({"choice": [True, "no"]}, FLAG),
        ({"choice": []}, "choice takes at least one value"),
        ({"choice": [True, False], "weights": [1]}, "choice has 2 values and 1 weights"),
    ],
)
def test_flags_that_are_refused(given, fragment):
    assert fragment in refused("treatment.alterations", [{"name": "rotation", "crop": given}])


@pytest.mark.parametrize(
    ("given", "law"),
    [("clip", Law("constant", (0,))), ("skip", Law("constant", (1,))), ({"choice": ["skip"]}, Law("choice", (1,)))],
)
def test_a_word_is_read_and_written(given, law):
    protocol = with_value(SMALLEST, "treatment.alterations", [{"name": "erasing", "outside": given}])
    SCHEMA.validate(protocol)
    loaded = load_protocol(protocol)
    assert loaded.treatment.alterations[0].laws["outside"] == law
    assert canonical(loaded)["treatment"]["alterations"][0]["outside"] == given
    assert load_protocol(json.loads(json.dumps(canonical(loaded)))) == loaded


@pytest.mark.parametrize("given", ["skp", "true", True, 1, None, ["skip"], {"choice": ["clip", 1]}])
def test_words_that_are_refused(given):
    message = refused("treatment.alterations", [{"name": "erasing", "outside": given}])
    assert "expected clip, skip, or {choice: [clip, skip], weights: [w, …]}" in message
    assert ("did you mean 'skip'?" in message) == (given in ("skp", ["skip"]))


def test_other_parameters_take_no_booleans():
    for given in (True, {"uniform": [False, True]}, {"choice": [False, True]}):
        assert "given" in refused("treatment.alterations", [{"name": "hue", "shift": given}])
        wrong = with_value(SMALLEST, "treatment.alterations", [{"name": "hue", "shift": given}])
        with pytest.raises(jsonschema.ValidationError):
            SCHEMA.validate(wrong)


READ = [
    (3, Law("constant", (3.0,))),
    (0.5, Law("constant", (0.5,))),
    ({"uniform": [0, 1]}, Law("uniform", (0.0, 1.0))),
    ({"choice": [1, 2], "weights": [1, 3]}, Law("choice", (1.0, 2.0), (1.0, 3.0))),
    ({"beta": [1, 2, 0, 4]}, Law("beta", (1.0, 2.0, 0.0, 4.0))),
    ({"integers": [0, 4]}, Law("integers", (0.0, 4.0))),
]


@pytest.mark.parametrize(("given", "law"), READ)
def test_read_law(given, law):
    assert read_law(given) == law
    assert read_law(law) is law


@pytest.mark.parametrize(
    ("given", "fragment"),
    [
        ("uniform", "expected a number or a law"),
        (True, "given True"),
        (None, "given None"),
        ({}, "given the law none"),
        ({"weights": [1]}, "given the law none"),
        ({"unifrom": [0, 1]}, "did you mean 'uniform'?"),
        ({"constant": [1]}, "given the law constant"),
        ({"bernoulli": [0.5]}, "given the law bernoulli"),
        ({"uniform": [0, 1], "normal": [0, 1]}, "given the law uniform, normal"),
        ({"uniform": 3}, "uniform: given 3, expected a list of numbers"),
        ({"uniform": [0, True]}, "given [0, True]"),
        ({"uniform": [0, "1"]}, "given [0, '1']"),
        ({"normal": [0, 1], "weights": [1]}, "weights belong to choice, not to normal"),
        ({"choice": [0, 1], "weights": ["a", 1]}, "weights: given ['a', 1]"),
        ({"uniform": [0]}, "uniform takes 2 numbers, received 1"),
    ],
)
def test_read_law_refuses(given, fragment):
    with pytest.raises(ValueError, match=r"given|takes|belong") as caught:
        read_law(given)
    assert fragment in str(caught.value)


@pytest.mark.parametrize(
    ("analyses", "fragment"),
    [
        (["sobol"], "players: parameters concerns Shapley effects only, which `analyses` does not list"),
        (["sobol", "shapley"], "Sobol indices of factors have another design: take `players: factors`"),
    ],
)
def test_players_are_those_of_shapley_effects(analyses, fragment):
    protocol = with_value(SMALLEST, "design.players", "parameters")
    with pytest.raises(ProtocolError) as caught:
        load_protocol({**protocol, "analyses": analyses})
    assert fragment in str(caught.value)
    assert load_protocol({**protocol, "analyses": ["shapley"]}).design.players == "parameters"


# order


def test_in_order():
    treatment = with_value(SMALLEST, "treatment.alterations", ["hue", "rotation", {"name": "hue", "as": "b"}])
    fixed = load_protocol(treatment).treatment
    assert [item.label for item in fixed.in_order] == ["hue", "rotation", "b"]
    listed = load_protocol(with_value(treatment, "treatment.order", ["b", "hue", "rotation"])).treatment
    assert [item.label for item in listed.in_order] == ["b", "hue", "rotation"]
    assert [item.label for item in listed.alterations] == ["hue", "rotation", "b"]
    factor = load_protocol(with_value(treatment, "treatment.order", "factor")).treatment
    assert [item.label for item in factor.in_order] == ["hue", "rotation", "b"]


@pytest.mark.parametrize("order", [[], ["hue"], ["hue", "hue"], ["hue", "rotation", "blur"], ["rotation", "hoe"]])
def test_an_order_names_each_alteration_once(order):
    treatment = with_value(SMALLEST, "treatment.alterations", ["hue", "rotation"])
    with pytest.raises(ProtocolError, match="each of \\['hue', 'rotation'\\] once"):
        load_protocol(with_value(treatment, "treatment.order", order))


@pytest.mark.parametrize(("n", "accepted"), [(1, False), (2, True), (12, True), (13, False)])
def test_order_is_a_factor_of_two_to_twelve_alterations(n, accepted):
    alterations = [{"name": "hue", "as": f"hue_{i}"} for i in range(n)]
    protocol = with_value(with_value(SMALLEST, "treatment.alterations", alterations), "treatment.order", "factor")
    if accepted:
        assert load_protocol(protocol).treatment.order == "factor"
    else:
        with pytest.raises(ProtocolError, match=f"takes 2 to 12 alterations, received {n}"):
            load_protocol(protocol)


# design


@pytest.mark.parametrize("scramble", ["auto", "whole", 64, 128, 512])
def test_scrambles(scramble):
    assert loaded("design.scramble", scramble).design.scramble == scramble


@pytest.mark.parametrize("scramble", [0, 1, 32, 63, 65, 100, -64, 96])
def test_scrambles_are_powers_of_two_from_64(scramble):
    assert f"given {scramble}, expected auto, whole, or a power of two from 64" in refused("design.scramble", scramble)


@pytest.mark.parametrize("scramble", [True, None, 64.0, "64", [], {}])
def test_scrambles_of_other_kinds_are_refused(scramble):
    assert "scramble" in refused("design.scramble", scramble)


def test_there_are_at_least_two_scrambles():
    assert loaded("design", {"samples": 128, "scramble": 64}).design.samples == 128
    assert "raise samples to 512 or lower scramble" in refused("design", {"samples": 511, "scramble": 256})


@pytest.mark.parametrize("samples", [3, 0, -8, 64.0, "64", True])
def test_samples_that_are_refused(samples):
    assert "samples" in refused("design.samples", samples)


# analyses and record


@pytest.mark.parametrize(
    ("analyses", "total_interaction"),
    [(["sobol"], False), ([{"sobol": {}}], False), ([{"sobol": {"total_interaction": True}}], True)],
)
def test_analyses(analyses, total_interaction):
    assert loaded("analyses", analyses).options("sobol").total_interaction is total_interaction


@pytest.mark.parametrize(
    ("analyses", "fragment"),
    [
        (["sobol", {"sobol": {}}], "sobol is listed twice"),
        ([], "analyses: none, and no responses are stored"),
        (["sobols"], "unknown analysis 'sobols' (did you mean 'sobol'?); known: sobol, shapley"),
        ([{"sobol": {}, "shapley": {}}], "unknown analysis 'sobol, shapley'"),
        (["sobol", 3], "unknown analysis 3"),
    ],
)
def test_analyses_that_are_refused(analyses, fragment):
    assert fragment in refused("analyses", analyses)


def test_forms_of_store():
    assert loaded("record.store", "none").record.store == "none"
    assert loaded("record.store", "responses").record.store == Responses(responses=None)
    assert loaded("record.store", {"responses": ["conv1"]}).record.store == Responses(responses=["conv1"])
    assert loaded("record.store", {"responses": None}).record.store == Responses(responses=None)


def test_only_recorded_layers_can_be_stored():
    message = refused("record.store", {"responses": ["conv1", "conv2"]})
    assert "['conv2'] not among the recorded layers ['conv1']" in message


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:13", "mps"])
def test_devices(device):
    assert loaded("record.device", device).record.device == device


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:a", "CPU", "cuda:0\n", 0])
def test_devices_that_are_refused(device):
    assert "record.device" in refused("record.device", device)


# round trips


@pytest.mark.parametrize("source", [SMALLEST, LARGEST], ids=["smallest", "largest"])
def test_a_canonical_protocol_reads_back_as_itself(source):
    protocol = load_protocol(source)
    dumped = canonical(protocol)
    again = load_protocol(json.loads(json.dumps(dumped)))
    assert again == protocol
    assert canonical(again) == dumped


def test_a_canonical_protocol_has_every_key():
    dumped = canonical(load_protocol(SMALLEST))
    assert set(dumped) == set(Protocol.model_fields)
    assert dumped["treatment"]["alterations"][0]["as"] == "hue"
    assert set(dumped["treatment"]["alterations"][0]) == {"name", "as", "switch", "shift"}


def test_the_source_is_left_alone():
    source = copy.deepcopy(LARGEST)
    load_protocol(source)
    assert source == LARGEST


def test_an_alteration_by_itself():
    spec = AlterationSpec.model_validate({"name": "hue", "as": "h", "switch": 0.5})
    assert AlterationSpec.model_validate(spec.model_dump(by_alias=True)) == spec
