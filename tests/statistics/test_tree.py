import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuroprobe.statistics.tree import MergeTree, Span, aligned_spans


class Total:
    """A float32 sum, which shows every change of order in its bits."""

    def __init__(self, value):
        self.value = np.array(value, dtype=np.float32)

    def merge(self, right):
        self.value = self.value + right.value


class Text:
    """The order of merging, written out."""

    def __init__(self, text):
        self.text = text

    def merge(self, right):
        self.text = f"({self.text}{right.text})"


def total(values):
    """Sum of a power of two of values by halves: the slow oracle."""
    if len(values) == 1:
        return np.float32(values[0])
    half = len(values) // 2
    return total(values[:half]) + total(values[half:])


def bits(nodes):
    return [(span, state.value.tobytes()) for span, state in nodes]


def tree_of(leaves):
    tree = MergeTree()
    for span, state in leaves:
        tree.add(span, state)
    return tree


starts = st.integers(0, 300)
powers = st.integers(0, 6).map(lambda k: 2**k)
values = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=70)


@settings(deadline=None)
@given(values, st.randoms(use_true_random=False))
def test_any_order_of_completion_gives_the_same_bits(values, random):
    order = list(range(len(values)))
    random.shuffle(order)
    nodes = tree_of((Span(i, i + 1), Total(values[i])) for i in order).nodes()
    in_order = tree_of((Span(i, i + 1), Total(value)) for i, value in enumerate(values)).nodes()
    assert bits(nodes) == bits(in_order)
    assert bits(nodes) == [(span, total(values[span.start : span.stop]).tobytes()) for span, _ in nodes]


@settings(deadline=None)
@given(values, st.integers(0, 70), powers, powers, st.randoms(use_true_random=False))
def test_any_cut_into_spans_gives_the_same_bits(values, cut, left, right, random):
    # a run that was stopped at `cut` and taken up again with shards of another size
    cut = min(cut, len(values))
    spans = [*aligned_spans(0, cut, left), *aligned_spans(cut, len(values), right)]
    random.shuffle(spans)
    nodes = tree_of((span, Total(total(values[span.start : span.stop]))) for span in spans).nodes()
    in_order = tree_of((Span(i, i + 1), Total(value)) for i, value in enumerate(values)).nodes()
    assert bits(nodes) == bits(in_order)


def test_siblings_are_merged_left_with_right():
    tree = tree_of((Span(i, i + 1), Text(str(i))) for i in (3, 6, 0, 2, 5, 1, 4, 7))
    [(span, state)] = tree.nodes()
    assert span == Span(0, 8)
    assert state.text == "(((01)(23))((45)(67)))"


def test_neighbours_that_are_not_siblings_stay_apart():
    tree = tree_of((Span(i, i + 1), Text(str(i))) for i in (2, 1))
    assert [(span, state.text) for span, state in tree.nodes()] == [(Span(1, 2), "1"), (Span(2, 3), "2")]


@given(st.integers(0, 200), st.randoms(use_true_random=False))
def test_what_is_left_is_one_node_per_binary_digit(n_blocks, random):
    order = list(range(n_blocks))
    random.shuffle(order)
    nodes = tree_of((Span(i, i + 1), Text("")) for i in order).nodes()
    assert [len(span) for span, _ in nodes] == [2**k for k in range(8, -1, -1) if n_blocks >> k & 1]


def test_an_empty_tree_has_no_nodes():
    assert MergeTree().nodes() == []


@given(starts, starts, powers)
def test_aligned_spans_cover_the_run_once_and_in_order(start, stop, largest):
    spans = list(aligned_spans(start, stop, largest))
    covered = [block for span in spans for block in range(span.start, span.stop)]
    assert covered == list(range(start, stop))
    for span in spans:
        assert len(span) in {2**k for k in range(7)}
        assert span.start % len(span) == 0
        assert len(span) <= largest
        # as long as they can be
        assert len(span) == largest or not (start <= span.parent.start and span.parent.stop <= stop)


@given(powers, starts)
def test_span_and_its_relatives(length, number):
    span = Span(number * length, (number + 1) * length)
    sibling, parent = span.sibling, span.parent
    assert len(span) == len(sibling) == length
    assert len(parent) == 2 * length
    assert parent.start % len(parent) == 0
    assert sibling.sibling == span
    assert sibling.parent == parent
    assert span.is_left != sibling.is_left
    assert span.is_left == (span < sibling)
    left, right = sorted([sibling, span])
    assert (left.start, left.stop, right.stop) == (parent.start, right.start, parent.stop)
    for inner in (span, sibling, parent):
        assert parent.holds(inner)
    assert span.holds(span)
    assert not span.holds(sibling)
    assert not span.holds(parent)


@pytest.mark.parametrize(
    ("outer", "inner", "holds"),
    [((0, 8), (4, 6), True), ((0, 8), (0, 8), True), ((0, 4), (4, 8), False), ((4, 8), (0, 8), False)],
)
def test_holds(outer, inner, holds):
    assert Span(*outer).holds(Span(*inner)) is holds


def test_spans_are_frozen_values_in_order_of_their_start():
    assert sorted([Span(4, 8), Span(0, 4), Span(8, 9)]) == [Span(0, 4), Span(4, 8), Span(8, 9)]
    assert len({Span(0, 1), Span(0, 1)}) == 1
    with pytest.raises(AttributeError):
        Span(0, 1).start = 3
