import copy
import re

import pytest

from neuroprobe.protocol import load_protocol
from neuroprobe.protocol.digest import as_given, canonical, guard_hash, protocol_hash

SOURCE = {
    "neuroprobe": 1,
    "title": "a title",
    "seed": 3,
    "subject": {"network": "embedded", "weights": "/a/net.pt", "layers": ["conv1", "conv2"]},
    "stimuli": {"images": {"folder": "/images"}},
    "treatment": {"alterations": ["hue", {"name": "rotation", "switch": 0.5}]},
    "design": {"samples": 256},
}
CONTENT = {"weights": "0a", "images": "0b"}


def changed(path, value):
    source = copy.deepcopy(SOURCE)
    *blocks, key = path.split(".")
    block = source
    for name in blocks:
        block = block.setdefault(name, {})
    block[key] = value
    return load_protocol(source)


# what says where things lie, what they are called and how long a run goes on
IGNORED = {
    "title": "another title",
    "subject.weights": "/b/other.pt",
    "stimuli.images.folder": "/elsewhere",
    "design.samples": 512,
    "record.device": "cpu",
}

# what decides the numbers
GUARDED = {
    "seed": 4,
    "subject.network": "alexnet",
    "subject.layers": ["conv1"],
    "subject.random_twin": True,
    "subject.preprocess": {"minmax": True},
    "stimuli.image": "factor",
    "stimuli.images.limit": 5,
    "stimuli.images.size": 32,
    "stimuli.images.shuffle": True,
    "stimuli.images": {"photographs": {}},
    "treatment.alterations": ["hue", {"name": "rotation", "switch": 0.6}],
    "treatment.order": ["rotation", "hue"],
    "treatment.reference_side": "image",
    "treatment.eight_bit": True,
    "design.second_order": False,
    "design.scramble": 128,
    "analyses": [{"sobol": {"total_interaction": True}}],
    "record.batch": 64,
    "record.nan": "drop",
}


@pytest.mark.parametrize(("path", "value"), IGNORED.items(), ids=IGNORED)
def test_what_a_store_may_mix(path, value):
    first, second = load_protocol(SOURCE), changed(path, value)
    assert first != second
    assert guard_hash(first, **CONTENT) == guard_hash(second, **CONTENT)
    assert protocol_hash(first) != protocol_hash(second)


@pytest.mark.parametrize(("path", "value"), GUARDED.items(), ids=GUARDED)
def test_what_a_store_must_not_mix(path, value):
    first, second = load_protocol(SOURCE), changed(path, value)
    assert guard_hash(first, **CONTENT) != guard_hash(second, **CONTENT)
    assert protocol_hash(first) != protocol_hash(second)


@pytest.mark.parametrize(
    "alterations",
    [
        [{"name": "hue", "shift": {"uniform": [-0.5, 0.4]}}, {"name": "rotation", "switch": 0.5}],
        [{"name": "hue", "shift": {"choice": [-0.5, 0.5]}}, {"name": "rotation", "switch": 0.5}],
        [{"name": "hue", "shift": {"choice": [-0.5, 0.5], "weights": [1, 2]}}, {"name": "rotation", "switch": 0.5}],
        [{"name": "hue", "as": "tint"}, {"name": "rotation", "switch": 0.5}],
        [{"name": "rotation", "switch": 0.5}, "hue"],
        ["hue", "rotation"],
        ["hue", {"name": "rotation", "switch": 0.5}, "gaussian_blur"],
    ],
)
def test_laws_labels_and_the_order_of_alterations_count(alterations):
    first, second = load_protocol(SOURCE), changed("treatment.alterations", alterations)
    assert guard_hash(first, **CONTENT) != guard_hash(second, **CONTENT)


@pytest.mark.parametrize(
    "content", [{"weights": "0a"}, {"weights": "0b", "images": "0a"}, {}, {**CONTENT, "more": "0c"}]
)
def test_the_content_counts(content):
    protocol = load_protocol(SOURCE)
    assert guard_hash(protocol, **content) != guard_hash(protocol, **CONTENT)


def test_content_has_no_order():
    protocol = load_protocol(SOURCE)
    assert guard_hash(protocol, images="0b", weights="0a") == guard_hash(protocol, weights="0a", images="0b")


def test_defaults_that_are_written_out_change_nothing():
    source = copy.deepcopy(SOURCE)
    source["treatment"]["alterations"] = [
        {"name": "hue", "as": "hue", "switch": "always", "shift": {"uniform": [-0.5, 0.5]}},
        {"switch": 0.5, "angle": {"uniform": [-10, 10]}, "name": "rotation"},
    ]
    source["subject"]["layers"] = [{"name": "conv1", "reduce": "none"}, "conv2"]
    source |= {"control": "original", "analyses": ["sobol"], "record": {"batch": 128}}
    first, second = load_protocol(SOURCE), load_protocol(dict(reversed(source.items())))
    assert canonical(first) == canonical(second)
    assert protocol_hash(first) == protocol_hash(second)
    assert guard_hash(first, **CONTENT) == guard_hash(second, **CONTENT)


def test_a_protocol_is_not_changed_by_its_hash():
    protocol = load_protocol(SOURCE)
    before = protocol_hash(protocol)
    guard_hash(protocol, **CONTENT)
    assert protocol_hash(protocol) == before
    assert protocol.title == "a title"


def test_hashes_are_sha256():
    protocol = load_protocol(SOURCE)
    for value in (protocol_hash(protocol), guard_hash(protocol)):
        assert re.fullmatch("[0-9a-f]{64}", value)
    assert protocol_hash(protocol) != guard_hash(protocol)


GIVEN = [
    SOURCE,
    {**SOURCE, "control": {"alterations": ["hue"]}, "analyses": ["sobol"], "record": {"store": "responses"}},
    {
        **SOURCE,
        "subject": {"network": "embedded", "layers": ["conv1", {"name": "conv2", "reduce": "mean"}]},
        "treatment": {
            "alterations": [
                {"name": "rotation", "as": "turn", "angle": {"choice": [0.0, 5.0], "weights": [1.0, 2.0]}},
                {"name": "hue", "switch": 0.25, "shift": 0.5},
            ],
            "order": ["hue", "turn"],
        },
        "analyses": [{"sobol": {"total_interaction": True}}],
        "record": {"store": {"responses": ["conv1"]}, "nan": "drop"},
    },
]


@pytest.mark.parametrize("source", GIVEN)
def test_as_given_is_what_was_written_and_means_the_same(source):
    protocol = load_protocol(copy.deepcopy(source))
    given = as_given(protocol)
    assert given == source
    assert canonical(load_protocol(given)) == canonical(protocol)


def test_as_given_leaves_out_what_an_alteration_has_by_itself():
    alterations = [{"name": "rotation", "as": "rotation", "switch": "always", "angle": {"uniform": [-10, 10]}}]
    given = as_given(load_protocol({**SOURCE, "treatment": {"alterations": alterations}}))
    assert given["treatment"]["alterations"] == ["rotation"]
