"""Hierarchies from tables of all kinds, what is wrong with them, and the forests that statistics take."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuroprobe.errors import ReaderError
from neuroprobe.statistics.hierarchy import ancestors, deepest_common
from neuroprobe.stimuli.hierarchies import ancestry_of, forest_of, read_hierarchy
from neuroprobe.subjects.embedded import CLASSES

ANIMALS = {"cat": "mammal", "dog": "mammal", "hen, red": "animal", "mammal": "animal", "stone": None, "animal": None}


def write(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", 'child,parent\ncat,mammal\ndog , mammal\n\n"hen, red",animal\nmammal,animal\nstone,\n'),
        ("a.csv", '\ufeffcat,mammal\ndog,mammal\n"hen, red",animal\nmammal,animal\nstone,\nanimal,\n'),
        ("a.tsv", "Child\tParent\ncat\tmammal\ndog\tmammal\nhen, red\tanimal\nmammal\tanimal\nstone\t\n"),
        ("a.json", json.dumps(ANIMALS)),
    ],
)
def test_tables(tmp_path: Path, name: str, text: str) -> None:
    assert read_hierarchy(write(tmp_path, name, text)) == ANIMALS
    assert read_hierarchy(str(tmp_path / name)) == ANIMALS


def test_a_dictionary() -> None:
    assert read_hierarchy({"cat": "animal"}) == {"cat": "animal", "animal": None}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "child,parent\ncat,animal\ndog\n", r"a.csv:3: received \['dog'\], expected a child and its parent"),
        ("a.csv", "cat,animal,thing\n", "a.csv:1: received"),
        ("a.csv", ",animal\n", "a.csv:1: received"),
        ("a.csv", "cat,animal\n\ncat,pet\n", "a.csv:3: 'cat' is listed in line 1 too; a child has one parent"),
        ("a.csv", "child,parent\n", "the hierarchy is empty"),
        ("a.csv", "x,a\na,b\nb,c\nc,a\n", "nodes are their own ancestors: a → b → c → a;"),
        ("a.csv", "a,a\n", "nodes are their own ancestors: a → a;"),
        ("a.json", '{"cat": "animal", "cat": "pet"}', "'cat' is listed twice"),
        ("a.json", '{"cat": 3}', "received 'cat': 3, expected the names"),
        ("a.json", '["cat"]', "expected an object of children and parents"),
        ("a.json", '{\n"cat" 1}', "a.json:2: no JSON"),
        ("a.txt", "n1 n2\nn3\n", "a.txt:2: received 'n3', expected the numbers of a parent and of a child"),
        ("a.txt", "n1 n2\nn2 n1\n", "nodes are their own ancestors: n2 → n1 → n2;"),
        ("a.yaml", "", "expected a .csv, .tsv, .json or .txt file, or cifar10"),
    ],
)
def test_tables_that_are_malformed(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(ReaderError, match=message):
        read_hierarchy(write(tmp_path, name, text))


def test_what_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ReaderError, match=r"'cifar11' cannot be read: FileNotFoundError.*; built in: cifar10"):
        read_hierarchy("cifar11")


def test_cifar10_holds_all_its_classes() -> None:
    names, forest, nodes = forest_of(read_hierarchy("cifar10"), CLASSES)
    assert [names[node] for node in nodes] == list(CLASSES)
    assert names[0] == "thing"
    assert (forest.parents == -1).sum() == 1
    # classes are leaves, and every other node is above some
    assert set(np.flatnonzero(np.bincount(forest.parents[1:], minlength=len(names)) == 0)) == set(nodes)

    def common(*labels: str) -> str:
        shares = np.array([[label in labels for label in CLASSES]]) / len(labels)
        return names[int(deepest_common(ancestors(shares, nodes, forest), forest).node[0])]

    assert common("cat", "dog") == "carnivore"
    assert common("cat", "horse") == "mammal"
    assert common("cat", "bird") == common("frog", "deer") == "animal"
    assert common("airplane", "ship") == "craft"
    assert common("ship", "truck") == "vehicle"
    assert common("truck", "dog") == "thing"
    assert common("truck") == "truck"


WORDNET = "n1 n2\nn1 n3\nn2 n4\nn2 n5\nn3 n6\nn3 n5\n"


def test_wordnet_without_words(tmp_path: Path) -> None:
    found = read_hierarchy(write(tmp_path, "wordnet.is_a.txt", WORDNET))
    # n5 has two parents, of which n2 comes first
    assert found == {"n1": None, "n2": "n1", "n3": "n1", "n4": "n2", "n5": "n2", "n6": "n3"}


def test_wordnet_with_words(tmp_path: Path) -> None:
    write(tmp_path, "words.txt", "n1\tentity\nn2\tanimal, beast\nn3\tartifact\nn4\tcrane\nn6\tcrane, hoist\nn9\n")
    found = read_hierarchy(write(tmp_path, "wordnet.is_a.txt", WORDNET))
    assert found["animal"] == "entity"
    assert found["entity"] is None
    assert found["crane (n4)"] == "animal"
    assert found["crane (n6)"] == "artifact"
    assert found["n6"] == "crane (n6)"
    assert found["n5"] == "animal"  # which has no word
    names, forest, nodes = forest_of(found, ["n4", "n5"])
    assert names == ["entity", "animal", "crane (n4)", "n5", "n4"]
    assert forest.parents.tolist() == [-1, 0, 1, 1, 2]
    assert nodes.tolist() == [4, 3]
    write(tmp_path, "words.txt", "n1\tentity\nn2 animal\nn2\t\n")
    with pytest.raises(ReaderError, match=r"words.txt:3: received 'n2\\t', expected a number, a tab and words"):
        read_hierarchy(tmp_path / "wordnet.is_a.txt")


def test_labels_that_are_missing() -> None:
    hierarchy = read_hierarchy("cifar10")
    with pytest.raises(
        ReaderError, match=r"1 of 2 labels are not in the hierarchy: 'cats' \(did you mean 'cat'\?\); add"
    ):
        forest_of(hierarchy, ["cats", "dog", "cats"])
    with pytest.raises(ReaderError, match=r"4 of 4 labels .*: 'q1', 'q2', 'q3' and 1 more; add a row for each: 'q1',"):
        forest_of(hierarchy, ["q1", "q2", "q3", "q4"])


@given(st.integers(0, 10**6), st.integers(1, 30))
def test_forests_keep_the_ancestors_of_labels_and_nothing_else(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    parents = [int(rng.integers(-1, at)) if at else -1 for at in range(n)]
    order = rng.permutation(n).tolist()
    hierarchy = {f"v{at}": None if parents[at] < 0 else f"v{parents[at]}" for at in order}
    labels = [f"v{at}" for at in rng.choice(n, int(rng.integers(1, n + 1)))]
    names, forest, nodes = forest_of(read_hierarchy(hierarchy), labels)
    assert [names[node] for node in nodes] == labels
    assert list(ancestry_of(hierarchy, labels)) == names
    assert (np.diff(forest.depth) >= 0).all()
    above = set()
    for label in labels:
        node: str | None = label
        steps = 0
        while node is not None:
            above.add(node)
            node, steps = hierarchy[node], steps + 1
        assert forest.depth[names.index(label)] == steps - 1
    assert set(names) == above
    assert len(names) == len(above)


def test_a_long_line_of_nodes() -> None:
    """Depth costs no recursion, nor the square of it."""
    n = 5000
    hierarchy = {f"v{at}": f"v{at + 1}" for at in range(n)}
    names, forest, nodes = forest_of(read_hierarchy(hierarchy), [f"v{at}" for at in range(n)])
    assert forest.depth[nodes[0]] == n
    assert names[0] == f"v{n}"
