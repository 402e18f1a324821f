"""Sources of images in a protocol: what is read, where a fault is reported, what a store may mix."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuroprobe.errors import ProtocolError
from neuroprobe.protocol import Protocol, load_protocol
from neuroprobe.protocol.digest import canonical, guard_hash, protocol_hash
from neuroprobe.protocol.images import (
    IMAGE_SOURCES,
    ArrayFile,
    DataSet,
    Folder,
    ImageSource,
    Photographs,
    PhotographsSpec,
    source_names,
)

SCHEMA = jsonschema.Draft202012Validator(Protocol.model_json_schema())
CIFAR10 = {"dataset": "CIFAR10", "root": "/data"}
FORMS = {
    "folder": {"folder": "/images", "shuffle": True, "background": [0, 0.5, 1]},
    "photographs": {"photographs": {"crop": 32}, "limit": 3},
    "npy": {"array": "/a/b.npy", "skip_broken": True},
    "npz": {"array": "/a/b.npz", "size": [32, 48]},
    "dataset": {**CIFAR10, "split": "test", "download": True},
    "options": {"dataset": "FakeData", "options": {"size": 20, "image_size": [3, 32, 32]}},
    "several": [{"folder": "/a", "size": 32}, {"array": "/b.npz", "limit": 100, "name": "b"}, {"photographs": {}}],
    "one in a list": [{"folder": "/a"}],
}


def protocol(images: Any) -> dict[str, Any]:
    return {
        "neuroprobe": 1,
        "subject": {"network": "embedded", "layers": ["conv1"]},
        "stimuli": {"images": images},
        "treatment": {"alterations": [{"name": "hue"}]},
    }


def refused(images: Any) -> str:
    with pytest.raises(ProtocolError) as caught:
        load_protocol(protocol(images))
    return str(caught.value)


@pytest.mark.parametrize("form", FORMS)
def test_forms_read_back_as_themselves(form: str) -> None:
    loaded = load_protocol(protocol(FORMS[form]))
    assert len(loaded.stimuli.sources) == (len(FORMS[form]) if isinstance(FORMS[form], list) else 1)
    again = load_protocol(json.loads(json.dumps(canonical(loaded))))
    assert again == loaded
    assert protocol_hash(again) == protocol_hash(loaded)


@pytest.mark.parametrize("form", FORMS)
def test_the_schema_allows_what_is_read(form: str) -> None:
    SCHEMA.validate(protocol(FORMS[form]))
    SCHEMA.validate(canonical(load_protocol(protocol(FORMS[form]))))


@pytest.mark.parametrize("images", [{"folders": "/a"}, {"folder": "/a", "sise": 3}, [], [{"photographs": 3}], [[]]])
def test_the_schema_refuses_what_is_not_read(images: Any) -> None:
    assert refused(images)
    with pytest.raises(jsonschema.ValidationError):
        SCHEMA.validate(protocol(images))


def test_values_and_defaults() -> None:
    [source] = load_protocol(protocol(FORMS["dataset"])).stimuli.sources
    assert isinstance(source, DataSet)
    assert (source.dataset, source.root, source.split, source.download, source.options) == (
        "CIFAR10",
        "/data",
        "test",
        True,
        {},
    )
    [source] = load_protocol(protocol(CIFAR10)).stimuli.sources
    assert isinstance(source, DataSet)
    assert (source.split, source.download, source.skip_broken, source.shuffle) == (None, False, False, False)
    assert source.background == [0.5, 0.5, 0.5]


def test_paths_are_relative_to_the_protocol(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    images = [{"folder": "a"}, {"array": "../b.npy"}, {"dataset": "CIFAR10", "root": "data"}]
    path.write_text(json.dumps(protocol(images)))
    folder, array, dataset = load_protocol(path).stimuli.sources
    assert isinstance(folder, Folder)
    assert isinstance(array, ArrayFile)
    assert isinstance(dataset, DataSet)
    assert folder.folder == str(tmp_path / "a")
    assert Path(array.array).resolve() == tmp_path.parent.resolve() / "b.npy"
    assert dataset.root == str(tmp_path / "data")


@pytest.mark.parametrize(
    ("images", "size"),
    [
        ({"folder": "/a"}, None),
        ({"folder": "/a", "size": 8}, (8, 8)),
        ([{"folder": "/a"}, {"folder": "/b"}], None),
        ([{"folder": "/a"}, {"folder": "/b", "size": [8, 9]}], (8, 9)),
        ([{"folder": "/a", "size": 8}, {"folder": "/b", "size": [8, 8]}], (8, 8)),
    ],
)
def test_one_size_holds_for_all(images: Any, size: tuple[int, int] | None) -> None:
    assert load_protocol(protocol(images)).stimuli.size == size


# where a fault is reported: line and column in YAML that begins in line 7, column 3

HEAD = """\
neuroprobe: 1
subject:
  network: embedded
  layers: [conv1]
treatment: {alterations: [hue]}
stimuli:
"""

FAULTS = {
    "  images: {folders: x}": (7, 3, "given 'folders' (did you mean 'folder'?)"),
    "  images: {limit: 3}": (7, 3, "with one of the keys: folder, photographs, array, dataset"),
    "  images: {}": (7, 3, "given {}, expected a source of images"),
    "  images: photograph": (7, 3, "given 'photograph' (did you mean 'photographs'?)"),
    "  images: 3": (7, 3, "given 3, expected a source of images"),
    "  images: []": (7, 3, "at least 1 item"),
    "  images: [{folder: a}, {aray: b.npy}]": (7, 25, "given 'aray' (did you mean 'array'?)"),
    "  images: [[{folder: a}]]": (7, 12, "expected a source of images"),
    "  images:\n    - folder: a\n    - array: b.npz\n      limt: 3": (10, 7, "'limt' (did you mean 'limit'?)"),
    "  images:\n    - folder: a\n    - array: b.npz\n      limit: 0": (10, 7, "given 0, expected a number greater"),
    "  images: {folder: a, photographs: {}}": (7, 23, "unknown key 'photographs'"),
    "  images: {folder: a, split: test}": (7, 23, "unknown key 'split'"),
    "  images: {folder: a, skip_brokn: true}": (7, 23, "did you mean 'skip_broken'?"),
    "  images: {folder: a, skip_broken: yes}": (7, 23, "given 'yes'"),
    "  images: {folder: a, background: [0, 0]}": (7, 23, "at least 3 items"),
    "  images: {folder: a, background: [0, 0, 255]}": (7, 42, "given 255, expected a number less"),
    "  images: {folder: a, name: a/b}": (7, 23, "name: given 'a/b', expected a word without '/'"),
    "  images: {folder: a, name: ''}": (7, 23, "name: given ''"),
    "  images: {photographs: {}, shuffle: true}": (7, 29, "unknown key 'shuffle'"),
    "  images: {array: a.mat}": (7, 12, "given 'a.mat', expected a path that ends in .npy, .npz"),
    "  images: {array: a.npy, labels: b}": (7, 26, "unknown key 'labels'"),
    "  images: {dataset: CIFAR, root: a}": (7, 12, "unknown data set 'CIFAR' (did you mean 'CIFAR10'?)"),
    "  images: {dataset: CIFAR10}": (7, 12, "CIFAR10 needs the key root"),
    "  images: {dataset: CIFAR10, root: a, split: tst}": (7, 39, "given 'tst' (did you mean 'test'?)"),
    "  images: {dataset: CIFAR10, root: a, splt: test}": (7, 39, "'splt' (did you mean 'split'?)"),
    "  images: {dataset: SEMEION, root: a, split: test}": (7, 39, "SEMEION has no splits"),
    "  images: {dataset: ImageNet, root: a, download: true}": (7, 40, "torchvision does not download ImageNet"),
    "  images: {dataset: FakeData, options: {sise: 3}}": (7, 41, "unknown option 'sise' (did you mean 'size'?)"),
    "  images: [{photographs: {}}, {dataset: FakeData, options: {sise: 3}}]": (7, 61, "did you mean 'size'?"),
    "  images: {dataset: FakeData, options: [3]}": (7, 31, "given [3]"),
    "  images: [{folder: a, size: 8}, {folder: b, size: 9}]": (7, 3, "size: given [8, 8], [9, 9], expected one"),
    "  images: [{folder: a, name: x}, {folder: b, name: x}]": (7, 3, "sources named twice: x"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "place"), FAULTS.items(), ids=FAULTS)
def test_faults_are_reported_at_their_place(tmp_path: Path, text: str, place: tuple[int, int, str]) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(HEAD + text + "\n")
    with pytest.raises(ProtocolError) as caught:
        load_protocol(path)
    [problem] = caught.value.problems
    line, column, fragment = place
    assert fragment in problem.message
    assert (problem.line, problem.column) == (line, column)


def test_every_fault_of_a_data_set_is_reported() -> None:
    message = refused({"dataset": "ImageNet", "download": True, "options": {"a": 1, "b": 2}})
    for fragment in ("needs the key root", "does not download", "unknown option 'a'", "unknown option 'b'"):
        assert fragment in message


# names


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ([Folder(folder="/x/cats"), Folder(folder="/y/dogs/")], ["cats", "dogs"]),
        ([Folder(folder="/x/a"), Folder(folder="/y/a"), ArrayFile(array="/a.npy")], ["a", "a_2", "a_3"]),
        ([Folder(folder="/x/a"), Folder(folder="/y/b", name="a")], ["a_2", "a"]),
        ([Folder(folder="/a"), Folder(folder="/b", name="a"), Folder(folder="/a_2")], ["a_2", "a", "a_2_2"]),
        ([Folder(folder="/x/../y/.")], ["y"]),
        ([Folder(folder="/"), Photographs(photographs=PhotographsSpec())], ["folder", "photographs"]),
        ([DataSet(**CIFAR10), DataSet(**CIFAR10, split="test")], ["CIFAR10", "CIFAR10_test"]),
    ],
)
def test_names_tell_sources_apart(sources: list[ImageSource], expected: list[str]) -> None:
    assert source_names(sources) == expected


WORDS = st.sampled_from(["a", "b", "a_2", "a_3", "a_2_2"])


@given(st.lists(st.tuples(WORDS, st.booleans()), max_size=8))
def test_names_are_unique_whatever_is_given(drawn: list[tuple[str, bool]]) -> None:
    given_names: set[str] = set()
    sources = []
    for word, is_given in drawn:
        is_named = is_given and word not in given_names
        given_names |= {word} if is_named else set()
        sources.append(Folder(folder=f"/x/{word}", name=word if is_named else None))
    found = source_names(sources)
    assert len(set(found)) == len(found) == len(sources)
    assert all(source.name in {None, name} for source, name in zip(sources, found, strict=True))
    assert not any("/" in name for name in found)


# hashes: places and what only says how files are treated may change, all that decides on images may not

SAME = [
    ({"folder": "/a"}, {"folder": "/b"}),
    ({"folder": "/a"}, {"folder": "/a", "name": "x"}),
    ({"folder": "/a"}, {"folder": "/a", "skip_broken": True}),
    ({"array": "/a.npy"}, {"array": "/b.npz"}),
    (CIFAR10, {**CIFAR10, "root": "/elsewhere", "download": True}),
    ([{"folder": "/a"}, {"array": "/a.npy"}], [{"folder": "/b"}, {"array": "/b.npy"}]),
]
OTHER = [
    ({"folder": "/a"}, {"folder": "/a", "limit": 3}),
    ({"folder": "/a"}, {"folder": "/a", "shuffle": True}),
    ({"folder": "/a"}, {"folder": "/a", "background": [0, 0, 0]}),
    ([{"folder": "/a"}, {"folder": "/b"}], [{"folder": "/a"}, {"folder": "/b", "limit": 3}]),
    (CIFAR10, {**CIFAR10, "split": "test"}),
    ({"dataset": "FakeData"}, {"dataset": "FakeData", "options": {"size": 20}}),
    ({"photographs": {}}, {"photographs": {"crop": 32}}),
]


@pytest.mark.parametrize(("one", "other", "is_same"), [(*p, True) for p in SAME] + [(*p, False) for p in OTHER])
def test_guard(one: Any, other: Any, is_same: bool) -> None:
    first, second = (load_protocol(protocol(images)) for images in (one, other))
    assert (guard_hash(first, images="0a") == guard_hash(second, images="0a")) is is_same
    assert guard_hash(first, images="0a") != guard_hash(first, images="0b")
    assert protocol_hash(first) != protocol_hash(second)


def test_every_source_is_read_by_its_key() -> None:
    assert set(IMAGE_SOURCES) == {"folder", "photographs", "array", "dataset", "generated"}
    for key, model in IMAGE_SOURCES.items():
        assert key in model.model_fields
