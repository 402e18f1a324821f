"""Hierarchies of labels: tables of children and parents, that of CIFAR-10, and WordNet's as ImageNet gives it.

A hierarchy is a dictionary from each node to its parent, None for roots. Nodes are known by their names.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from neuroprobe.errors import ReaderError, closest, reason
from neuroprobe.statistics.hierarchy import NO_NODE, Forest, find_cycle

Hierarchy = dict[str, str | None]
N_NAMED: Final = 3  # of many things that are wrong, messages name these
WORDS: Final = "words.txt"
HEADER: Final = ("child", "parent")
CIFAR10: Final[Mapping[str, str | None]] = {
    "thing": None,
    "animal": "thing",
    "vehicle": "thing",
    "bird": "animal",
    "frog": "animal",
    "mammal": "animal",
    "carnivore": "mammal",
    "ungulate": "mammal",
    "cat": "carnivore",
    "dog": "carnivore",
    "deer": "ungulate",
    "horse": "ungulate",
    "craft": "vehicle",
    "motor vehicle": "vehicle",
    "airplane": "craft",
    "ship": "craft",
    "automobile": "motor vehicle",
    "truck": "motor vehicle",
}
BUILT_IN: Final = {"cifar10": CIFAR10}


def read_hierarchy(source: str | Path | Mapping[str, str | None]) -> Hierarchy:
    """Read a hierarchy of labels.

    Parameters
    ----------
    source : str, Path or dict
        ``cifar10``; or a file: CSV or TSV with a child and its parent in each row, after the header ``child,parent`` or
        without one, the parent empty for a root; JSON with an object from children to parents, null for roots; or text,
        WordNet as ImageNet gives it, ``wordnet.is_a.txt``, with a parent and a child in each line. Parents that have no
        row are roots.

    Returns
    -------
    dict
        From each node to its parent.

    Raises
    ------
    ReaderError
        If the file cannot be read, a row is malformed, a child comes twice, or nodes are their own ancestors.

    Notes
    -----
    Of WordNet's synsets that have several parents, the first one in the file counts. Where ``words.txt`` lies beside
    the file, a synset is known by the first of its words, followed by its number where several have it; its number, as
    class folders of ImageNet are called, is then a node below it. Without, synsets are known by their numbers.

    Examples
    --------
    >>> hierarchy = read_hierarchy("cifar10")
    >>> hierarchy["cat"], hierarchy["carnivore"], hierarchy["thing"]
    ('carnivore', 'mammal', None)
    """
    if isinstance(source, Mapping):
        rows, where = _pairs(source.items(), "hierarchy"), "hierarchy"
    elif str(source) in BUILT_IN:
        return dict(BUILT_IN[str(source)])
    else:
        file, where = Path(source), str(source)
        text = _text(file, f"; built in: {', '.join(BUILT_IN)}")
        suffix = file.suffix.lower()
        if suffix == ".txt":
            rows = iter(_wordnet(file, text).items())
        elif suffix == ".json":
            rows = _json(file, text)
        elif suffix in {".csv", ".tsv"}:
            rows = _table(file, text, "\t" if suffix == ".tsv" else ",")
        else:
            raise ReaderError(
                f"hierarchy {where!r}: expected a .csv, .tsv, .json or .txt file, or {', '.join(BUILT_IN)}"
            )
    found = dict(rows)
    for parent in [parent for parent in found.values() if parent is not None]:
        found.setdefault(parent, None)
    if not found:
        raise ReaderError(f"{where}: the hierarchy is empty; expected a child and its parent in each row")
    names = list(found)
    cycle = find_cycle(_parents(found, names))
    if cycle:
        listed = " → ".join(names[node] for node in [*cycle, cycle[0]])
        raise ReaderError(
            f"{where}: nodes are their own ancestors: {listed}; one of them needs another parent, or none"
        )
    return found


def forest_of(
    hierarchy: Mapping[str, str | None], labels: Sequence[str]
) -> tuple[list[str], Forest, NDArray[np.int64]]:
    """Make of a hierarchy what the statistics of hierarchies take: labels and their ancestors, as numbers.

    Parameters
    ----------
    hierarchy : dict
        As `read_hierarchy` returns it.
    labels : sequence of str
        All labels of the images, each in the hierarchy.

    Returns
    -------
    names : list of str
        Of the nodes, roots first; nodes that are above no label are left out.
    forest : Forest
    nodes : int array (labels,)
        Node of each label.

    Raises
    ------
    ReaderError
        If labels are not in the hierarchy.

    Examples
    --------
    >>> names, forest, nodes = forest_of(read_hierarchy("cifar10"), ["cat", "ship"])
    >>> names
    ['thing', 'animal', 'vehicle', 'mammal', 'craft', 'carnivore', 'ship', 'cat']
    >>> forest.depth, nodes
    (array([0, 1, 1, 2, 2, 3, 3, 4]), array([7, 6]))
    """
    own = ancestry_of(hierarchy, labels)
    names = list(own)
    number = {name: at for at, name in enumerate(names)}
    return names, Forest.of(_parents(own, names)), np.array([number[label] for label in labels], dtype=np.int64)


def ancestry_of(hierarchy: Mapping[str, str | None], labels: Sequence[str]) -> Hierarchy:
    """Part of a hierarchy: labels and their ancestors, roots first.

    Raises
    ------
    ReaderError
        If labels are not in the hierarchy.
    """
    missing = [label for label in dict.fromkeys(labels) if label not in hierarchy]
    if missing:
        listed = ", ".join(f"{label!r}{closest(label, hierarchy)}" for label in missing[:N_NAMED])
        more = f" and {len(missing) - N_NAMED} more" if len(missing) > N_NAMED else ""
        raise ReaderError(
            f"{len(missing)} of {len(set(labels))} labels are not in the hierarchy: {listed}{more}; add a row for "
            f"each: {missing[0]!r}, and its parent"
        )
    depth: dict[str, int] = {}
    for label in labels:
        path: list[str] = []
        node: str | None = label
        while node is not None and node not in depth:
            path.append(node)
            node = hierarchy[node]
        above = -1 if node is None else depth[node]
        for place, name in enumerate(reversed(path)):
            depth[name] = above + 1 + place
    order = [name for name in hierarchy if name in depth]
    return {name: hierarchy[name] for name in sorted(order, key=depth.__getitem__)}


def _parents(hierarchy: Mapping[str, str | None], names: Sequence[str]) -> NDArray[np.int64]:
    number = {name: at for at, name in enumerate(names)}
    parents = (hierarchy[name] for name in names)
    return np.array([NO_NODE if parent is None else number[parent] for parent in parents], dtype=np.int64)


def _text(file: Path, known: str = "") -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ReaderError(f"hierarchy {str(file)!r} cannot be read: {reason(error)}{known}") from error


def _pairs(rows: Iterable[tuple[object, object]], where: str) -> Iterator[tuple[str, str | None]]:
    """Children and parents, none of the children twice."""
    seen: set[str] = set()
    for child, parent in rows:
        if not isinstance(child, str) or not child or not (parent is None or isinstance(parent, str)):
            raise ReaderError(f"{where}: received {child!r}: {parent!r}, expected the names of a child and its parent")
        if child in seen:
            raise ReaderError(f"{where}: {child!r} is listed twice; a child has one parent")
        seen.add(child)
        yield child, parent or None


def _json(file: Path, text: str) -> Iterator[tuple[str, str | None]]:
    try:
        given = json.loads(text, object_pairs_hook=tuple)
    except json.JSONDecodeError as error:
        raise ReaderError(f"{file}:{error.lineno}: no JSON: {error.msg}") from error
    if not isinstance(given, tuple):
        raise ReaderError(f'{file}: expected an object of children and parents, {{"cat": "animal"}}')
    return _pairs(given, str(file))


def _table(file: Path, text: str, delimiter: str) -> Iterator[tuple[str, str | None]]:
    seen: dict[str, int] = {}
    reader = csv.reader(text.splitlines(), delimiter=delimiter)
    for row in reader:
        cells = [cell.strip() for cell in row]
        if not any(cells) or (not seen and tuple(cell.lower() for cell in cells) == HEADER):
            continue
        place = f"{file}:{reader.line_num}"
        if len(cells) != 2 or not cells[0]:
            raise ReaderError(f"{place}: received {cells}, expected a child and its parent")
        child, parent = cells
        if child in seen:
            raise ReaderError(f"{place}: {child!r} is listed in line {seen[child]} too; a child has one parent")
        seen[child] = reader.line_num
        yield child, parent or None


def _wordnet(file: Path, text: str) -> Hierarchy:
    """First parent of each synset, by words where there are any."""
    parents: Hierarchy = {}
    for line, row in enumerate(text.splitlines(), 1):
        cells = row.split()
        if not cells:
            continue
        if len(cells) != 2:
            raise ReaderError(f"{file}:{line}: received {row!r}, expected the numbers of a parent and of a child")
        parent, child = cells
        parents.setdefault(child, parent)
    words_file = file.with_name(WORDS)
    if not words_file.is_file():
        return parents
    every = dict.fromkeys([*parents, *(parent for parent in parents.values() if parent is not None)])
    words: dict[str, str] = {}
    for line, row in enumerate(_text(words_file).splitlines(), 1):
        synset, tab, synonyms = row.partition("\t")
        if not row.strip() or synset not in every:
            continue
        if not tab or not synonyms.strip(" ,"):
            raise ReaderError(f"{words_file}:{line}: received {row!r}, expected a number, a tab and words")
        words[synset] = synonyms.split(",")[0].strip()
    shared = Counter(words.values())
    name = {synset: f"{word} ({synset})" if shared[word] > 1 else word for synset, word in words.items()}
    found: Hierarchy = {}
    for synset in every:
        above = parents.get(synset)
        found[name.get(synset, synset)] = None if above is None else name.get(above, above)
        if synset in name:
            found[synset] = name[synset]
    return found
