"""The merge tree: states of aligned spans of blocks, siblings merged left + right as soon as both exist.

Floating-point sums depend on their order. Here the order is that of one fixed binary tree over the blocks, so a
result does not depend on how the blocks were shared out, interrupted or extended.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeVar

if TYPE_CHECKING:
    from torch import Tensor


class Mergeable(Protocol):
    """A state that takes in the state of the blocks that follow its own."""

    def merge(self, right: Self) -> None:
        """Add the state of the blocks to the right, in place."""


class State(Mergeable, Protocol):
    """What a statistic keeps of a span of blocks, as it is saved."""

    def state(self) -> dict[str, Tensor]:
        """Return the arrays that describe it."""

    @classmethod
    def from_state(cls, arrays: dict[str, Tensor]) -> Self:
        """Make it of what `state` returned."""


S = TypeVar("S", bound=Mergeable)


@dataclass(frozen=True, order=True)
class Span:
    """An aligned run of blocks: `stop - start` is a power of two that divides `start`."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def is_left(self) -> bool:
        """Whether the sibling lies to the right."""
        return (self.start // len(self)) % 2 == 0

    @property
    def sibling(self) -> Span:
        """The span with which this one is merged."""
        shift = len(self) if self.is_left else -len(self)
        return Span(self.start + shift, self.stop + shift)

    @property
    def parent(self) -> Span:
        """The span of both siblings."""
        return Span(min(self.start, self.sibling.start), max(self.stop, self.sibling.stop))

    def holds(self, other: Span) -> bool:
        """Whether `other` lies within this span."""
        return self.start <= other.start and other.stop <= self.stop


def aligned_spans(start: int, stop: int, largest: int) -> Iterator[Span]:
    """Cut a run of blocks into aligned spans of at most `largest` blocks (a power of two), in order."""
    while start < stop:
        length = largest
        while start % length or start + length > stop:
            length //= 2
        yield Span(start, start + length)
        start += length


class MergeTree(Generic[S]):
    """The unmerged nodes of a merge tree, in memory.

    Examples
    --------
    >>> class Total:
    ...     def __init__(self, value): self.value = value
    ...     def merge(self, right): self.value += right.value
    >>> tree = MergeTree()
    >>> for block in (1, 0, 2):
    ...     tree.add(Span(block, block + 1), Total(10.0 ** block))
    >>> [(span.start, span.stop, state.value) for span, state in tree.nodes()]
    [(0, 2, 11.0), (2, 3, 100.0)]
    """

    def __init__(self) -> None:
        self._nodes: dict[Span, S] = {}

    def add(self, span: Span, state: S) -> None:
        """Put in the state of a span and merge as far as siblings are there."""
        while span.sibling in self._nodes:
            sibling = self._nodes.pop(span.sibling)
            left, right = (state, sibling) if span.is_left else (sibling, state)
            left.merge(right)
            span, state = span.parent, left
        self._nodes[span] = state

    def nodes(self) -> list[tuple[Span, S]]:
        """The unmerged nodes, left to right."""
        return sorted(self._nodes.items(), key=lambda node: node[0])
