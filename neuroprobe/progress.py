"""What a run tells while it goes on: typed events, and a progress bar that listens to them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from tqdm import tqdm

    from neuroprobe.plans import Plan
    from neuroprobe.statistics.tree import Span
    from neuroprobe.stopping import Decision


@dataclass(frozen=True)
class RunStarted:
    """A run begins, or goes on after blocks that are done."""

    plan: Plan
    n_blocks_done: int


@dataclass(frozen=True)
class BatchDone:
    """Base samples were presented and analysed."""

    n_samples: int


@dataclass(frozen=True)
class ShardDone:
    """A span of blocks is in the store."""

    span: Span


@dataclass(frozen=True)
class StageStarted:
    """All blocks are in the store, and what was found is followed up.

    Attributes
    ----------
    name : str
    total : int
        Of `unit`.
    unit : str
    """

    name: str
    total: int
    unit: str


@dataclass(frozen=True)
class StageAdvanced:
    """Some of a stage is done."""

    n: int


@dataclass(frozen=True)
class Checked:
    """The errors of all units were looked at, to stop or to go on."""

    decision: Decision


@dataclass(frozen=True)
class Finished:
    """All blocks are in the store, or a stage is done."""


Event = RunStarted | BatchDone | ShardDone | StageStarted | StageAdvanced | Checked | Finished
Listener = Callable[[Event], None]


class ProgressBar:
    """Draws a bar of the base samples, with rate and time left.

    Parameters
    ----------
    file : text stream
        Where to; by default stderr.
    """

    def __init__(self, file: TextIO | None = None) -> None:
        self._file = file or sys.stderr
        self._bar: tqdm[Any] | None = None

    def __call__(self, event: Event) -> None:
        """Take in an event."""
        from tqdm import tqdm

        match event:
            case RunStarted(plan=plan, n_blocks_done=done):
                which = "" if plan.part is None else f" part {plan.part[0]} of {plan.part[1]}"
                self._bar = tqdm(
                    total=plan.samples,
                    initial=done * plan.layout.block,
                    unit="sample",
                    desc=f"recording{which}",
                    file=self._file,
                )
            case StageStarted(name=name, total=total, unit=unit):
                self._bar = tqdm(total=total, unit=unit, desc=name, file=self._file)
            case BatchDone(n_samples=n) | StageAdvanced(n=n) if self._bar is not None:
                self._bar.update(n)
            case Finished() if self._bar is not None:
                self._bar.close()
            case Checked(decision=decision):
                tqdm.write(str(decision), file=self._file)


def ignore(event: Event) -> None:
    """Listen to nothing."""


def is_watched() -> bool:
    """Whether somebody watches: stderr is a terminal, or this is a notebook."""
    ipython = sys.modules.get("IPython")
    in_notebook = ipython is not None and ipython.get_ipython() is not None
    return sys.stderr.isatty() or in_notebook


def default_listener() -> Listener:
    """Return a progress bar where somebody watches, in a terminal or a notebook, and silence elsewhere."""
    return ProgressBar() if is_watched() else ignore
