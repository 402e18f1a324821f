"""Labels of units: sets of labels with their shares, and the hierarchy above them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuroprobe.errors import ReaderError, reason
from neuroprobe.statistics.hierarchy import NO_NODE, Forest
from neuroprobe.statistics.label_selectivity import ALIKE

Mask = NDArray[np.bool_]


class LabelText(str):
    """The labels of a unit as text, the most frequent first: ``red .62, blue .21``.

    Attributes
    ----------
    shares : dict or None
        Label → share, in the same order; None of a unit whose labels are undefined, whose text is empty. A unit of
        which no label has enough is ``none``.

    Examples
    --------
    >>> LabelText.of({"red": 0.62, "blue": 0.214})
    'red .62, blue .21'
    >>> LabelText.of({}), LabelText.of({"sea lion": 1.0}), LabelText.of(None)
    ('none', 'sea lion 1.00', '')
    """

    shares: Mapping[str, float] | None = None

    @classmethod
    def of(cls, shares: Mapping[str, float] | None) -> LabelText:
        """Write shares that are in order."""
        listed = ", ".join(f"{label} {f'{share:.2f}'.removeprefix('0')}" for label, share in (shares or {}).items())
        text = cls("" if shares is None else listed or "none")
        text.shares = shares
        return text


@dataclass(frozen=True)
class Vocabulary:
    """What a query may call the labels of a column.

    Attributes
    ----------
    labels : tuple of str
        That units can have.
    nodes : tuple of str or None
        Of the hierarchy above them, the labels among them; None where there is no hierarchy.
    """

    labels: tuple[str, ...]
    nodes: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Hierarchy:
    """What is above labels.

    Attributes
    ----------
    numbers : dict
        Name of a node → its number; the labels are among them.
    forest : Forest
    """

    numbers: dict[str, int]
    forest: Forest

    @classmethod
    def read(cls, text: str, labels: Sequence[str]) -> Hierarchy:
        """Read it as results hold it.

        Parameters
        ----------
        text : str
            A JSON object: child → parent, which is null of roots that are named.
        labels : sequence of str
            Those that it lacks are roots.

        Raises
        ------
        ReaderError
            If it is no such object, or a node is its own ancestor.

        Examples
        --------
        >>> hierarchy = Hierarchy.read('{"cat": "animal", "dog": "animal"}', ["cat", "car"])
        >>> hierarchy.below("animal", ["cat", "car"])
        array([ True, False])
        """
        try:
            parents = json.loads(text)
            if not isinstance(parents, dict) or not all(isinstance(one, str | None) for one in parents.values()):
                raise ValueError("it is no object of names")
            named = [*labels, *parents, *(parent for parent in parents.values() if parent is not None)]
            numbers = {name: number for number, name in enumerate(dict.fromkeys(named))}
            forest = Forest.of([numbers.get(parents.get(name), NO_NODE) for name in numbers])
        except (ValueError, RecursionError) as error:
            raise ReaderError(
                f"the hierarchy of labels in this result cannot be read ({reason(error)}); expected a JSON object "
                "child → parent"
            ) from None
        return cls(numbers, forest)

    def below(self, node: str, labels: Sequence[str]) -> Mask:
        """Which labels are at a node or below it; none where it has no such node."""
        if node not in self.numbers:
            return np.zeros(len(labels), dtype=np.bool_)
        return self.forest.under(self.numbers[node])[[self.numbers[label] for label in labels]]


@dataclass(frozen=True)
class LabelSets:
    """The labels of units, each with its share.

    Attributes
    ----------
    labels : tuple of str
    shares : float array (labels, units)
        NaN for units that do not respond.
    least : float
        Share of a label that belongs to the set.
    hierarchy : Hierarchy, optional

    Examples
    --------
    >>> sets = LabelSets(("red", "blue"), np.array([[0.05, 0.6, np.nan], [0.3, 0.4, np.nan]]), least=0.1)
    >>> sets.has("red"), sets.defined
    (array([False,  True, False]), array([ True,  True, False]))
    >>> sets.texts().tolist()
    ['blue .30', 'red .60, blue .40', '']
    """

    labels: tuple[str, ...]
    shares: NDArray[np.floating[Any]]
    least: float
    hierarchy: Hierarchy | None = None

    @cached_property
    def defined(self) -> Mask:
        """Which units have labels at all: (units,)."""
        return ~np.isnan(self.shares).any(0)

    @cached_property
    def kept(self) -> Mask:
        """Which labels belong to the set of each unit: (labels, units)."""
        slack = max(ALIKE, float(np.finfo(self.shares.dtype).eps))
        kept: Mask = (self.shares > 0) & (self.shares >= self.least - slack)
        return kept & self.defined

    def has(self, label: str | NDArray[np.object_]) -> Mask:
        """Which units have a label, or each its own of an array of labels: (units,)."""
        is_asked = np.array(self.labels, dtype=object)[:, None] == np.atleast_1d(np.asarray(label, dtype=object))
        return (self.kept & is_asked).any(0)

    def under(self, node: str) -> NDArray[np.float64]:
        """Sum of the shares of the labels of each unit's set that are at a node or below it; NaN where undefined."""
        if self.hierarchy is None:
            return np.full(self.kept.shape[1], np.nan)
        below = self.hierarchy.below(node, self.labels)
        shares = self.shares[below].astype(np.float64)
        return np.where(self.defined, np.where(self.kept[below], shares, 0).sum(0), np.nan)

    def take(self, chosen: Mask) -> LabelSets:
        """Those of some units."""
        return LabelSets(self.labels, self.shares[:, chosen], self.least, self.hierarchy)

    def texts(self) -> NDArray[np.object_]:
        """The labels of each unit as text, an object array of `LabelText`."""
        order = np.argsort(-self.shares, axis=0, kind="stable")
        texts = np.empty(self.shares.shape[1], dtype=object)
        for unit in range(len(texts)):
            shares: dict[str, float] = {}
            for place in order[self.kept[order[:, unit], unit], unit]:
                # classes can have one name
                shares[self.labels[place]] = shares.get(self.labels[place], 0) + float(self.shares[place, unit])
            texts[unit] = LabelText.of(shares if self.defined[unit] else None)
        return texts
