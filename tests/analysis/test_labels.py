"""Sets of labels and hierarchies, against brute force; what is no hierarchy."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from neuroprobe.analysis.labels import Hierarchy, LabelSets, LabelText
from neuroprobe.errors import ReaderError

LABELS = ("a", "b", "c d", "'e'")


@st.composite
def label_sets(draw: st.DrawFn) -> LabelSets:
    """Sets of up to 5 units, some of which do not respond; shares at the threshold among them."""
    n = draw(st.integers(1, 5))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    shares = draw(hnp.arrays(dtype, (len(LABELS), n), elements=st.sampled_from([0.0, 0.05, 0.1, 0.3, 0.7, 1.0])))
    shares[:, draw(hnp.arrays(bool, n))] = np.nan
    parents = {}
    for label in LABELS:
        if parent := draw(st.sampled_from([None, "x", "y"])):
            parents[label] = parent
    parents |= draw(
        st.sampled_from([{}, {"x": "y"}, {"x": "top", "y": "top"}, {"x": "b"} if "b" not in parents else {}])
    )
    names = ", ".join(f'"{child}": "{parent}"' for child, parent in parents.items())
    return LabelSets(LABELS, shares, draw(st.sampled_from([0.0, 0.1, 0.7])), Hierarchy.read(f"{{{names}}}", LABELS))


def kept(sets: LabelSets, unit: int) -> dict[str, float] | None:
    """Labels of one unit with their shares; None where it does not respond."""
    shares = sets.shares[:, unit]
    if np.isnan(shares).any():
        return None
    least = np.dtype(shares.dtype).type(sets.least)
    return {label: float(share) for label, share in zip(LABELS, shares, strict=True) if share > 0 and share >= least}


def is_below(sets: LabelSets, label: str, node: str) -> bool:
    assert sets.hierarchy is not None
    parents = sets.hierarchy.forest.parents
    names = list(sets.hierarchy.numbers)
    at = names.index(label)
    while at >= 0:
        if names[at] == node:
            return True
        at = int(parents[at])
    return False


@given(label_sets())
def test_sets_equal_brute_force(sets: LabelSets) -> None:
    units = range(sets.shares.shape[1])
    found = [kept(sets, unit) for unit in units]
    assert sets.defined.tolist() == [one is not None for one in found]
    for label in (*LABELS, "none of them", ""):
        assert sets.has(label).tolist() == [label in (one or {}) for one in found]
    own = np.array([LABELS[unit % len(LABELS)] for unit in units], dtype=object)
    assert sets.has(own).tolist() == [label in (one or {}) for label, one in zip(own, found, strict=True)]
    assert sets.hierarchy is not None
    for node in (*sets.hierarchy.numbers, "no node"):
        expected = [
            np.nan if one is None else sum(share for label, share in one.items() if is_below(sets, label, node))
            for one in found
        ]
        np.testing.assert_allclose(sets.under(node), expected, atol=1e-12)


@given(label_sets())
def test_texts_hold_the_sets(sets: LabelSets) -> None:
    texts = sets.texts()
    for unit, text in enumerate(texts):
        expected = kept(sets, unit)
        assert text.shares == expected
        if expected is None:
            assert text == ""
        else:
            assert list(text.shares.values()) == sorted(expected.values(), reverse=True)
            assert text == (", ".join(f"{k} {f'{v:.2f}'.removeprefix('0')}" for k, v in text.shares.items()) or "none")
    assert sets.take(sets.defined).texts().tolist() == texts[sets.defined].tolist()


def test_texts_are_copied_with_their_shares() -> None:
    text = LabelText.of({"red": 0.62, "blue": 0.21})
    for copied in (copy.deepcopy(text), pickle.loads(pickle.dumps(text))):
        assert copied == text == "red .62, blue .21"
        assert copied.shares == {"red": 0.62, "blue": 0.21}


def test_classes_of_one_name_are_one_label() -> None:
    """ImageNet has two that are called crane."""
    sets = LabelSets(("crane", "crane", "dog"), np.array([[0.3, 0.0], [0.5, 0.0], [0.2, 1.0]]), 0.1)
    assert sets.has("crane").tolist() == [True, False]
    assert sets.texts().tolist() == ["crane .80, dog .20", "dog 1.00"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "JSONDecodeError"),
        ("[1]", "it is no object of names"),
        ('{"a": 1}', "it is no object of names"),
        ('{"a": "b", "b": "a"}', "their own ancestors"),
        ('{"a": "a"}', "their own ancestors"),
        ("[" * 100_000, "RecursionError"),
    ],
)
def test_what_is_no_hierarchy(text: str, said: str) -> None:
    with pytest.raises(ReaderError, match="the hierarchy of labels in this result cannot be read") as raised:
        Hierarchy.read(text, LABELS)
    assert said in str(raised.value)


def test_roots_may_be_named() -> None:
    below: Any = Hierarchy.read('{"a": "x", "x": null}', LABELS).below
    assert below("x", LABELS).tolist() == [True, False, False, False]
    assert below("b", LABELS).tolist() == [False, True, False, False]
