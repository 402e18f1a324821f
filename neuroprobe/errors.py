"""Every error that neuroprobe raises on purpose: each says where, what was received, what was expected, what to do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import ClassVar, Final, Self

MAX_SHOWN: Final = 100  # characters of a value that a message shows


class NeuroprobeError(Exception):
    """Base of all errors of neuroprobe.

    Attributes
    ----------
    exit_code : int
        Of a command that ends with it: 2 where what the user wrote is wrong, else 1.
    loc : tuple of str and int
        Keys and indices of what it is about in a protocol.
    place : str
        File, line and column of that; empty where the protocol is in no file.
    """

    exit_code: ClassVar[int] = 1
    loc: tuple[str | int, ...] = ()
    place: str = ""

    def __str__(self) -> str:
        message = super().__str__()
        return f"{self.place}: {message}" if self.place else message

    def about(self, *loc: str | int) -> Self:
        """Say what it is about in a protocol, or in which part of it."""
        self.loc = (*loc, *self.loc)
        return self


@contextmanager
def about(*loc: str | int) -> Iterator[None]:
    """Say of every error what it is about in a protocol, or in which part of it."""
    try:
        yield
    except NeuroprobeError as error:
        error.about(*loc)
        raise


@dataclass(frozen=True)
class Problem:
    """One defect of a protocol file, at a line and column (both from 1; 0 where there is no file)."""

    message: str
    line: int = 0
    column: int = 0


class ProtocolError(NeuroprobeError):
    """A protocol that cannot be run, with every problem that was found.

    Attributes
    ----------
    file : str
        Name of the protocol file, or ``<protocol>`` for one that was given as a mapping.
    problems : tuple of Problem
        In the order of the file.
    """

    exit_code = 2

    def __init__(self, problems: Sequence[Problem], file: str = "<protocol>") -> None:
        self.file = file
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.line, problem.column)))
        super().__init__("\n".join(self._line(problem) for problem in self.problems))

    def _line(self, problem: Problem) -> str:
        place = f"{self.file}:{problem.line}:{problem.column}" if problem.line else self.file
        return f"{place}: {problem.message}"

    @property
    def line(self) -> int:
        """Line of the first problem."""
        return self.problems[0].line

    @property
    def column(self) -> int:
        """Column of the first problem."""
        return self.problems[0].column


class QueryError(NeuroprobeError):
    """A query of units that cannot be read, or does not fit the columns that there are.

    Parameters
    ----------
    message : str
    text : str
        The query; empty where the error is about something else, or is raised where the text is not known.
    start, stop : int
        The characters of the query that are wrong: from `start`, counted from 0, up to but without `stop`.

    Attributes
    ----------
    line, column : int
        Place of the first of these characters, both from 1; 0 where the error is not in a query.
    """

    exit_code = 2

    def __init__(self, message: str, text: str = "", start: int = 0, stop: int = 0) -> None:
        self.message, self.start, self.stop = message, start, stop
        self.line = self.column = 0
        if text:
            self.line = text.count("\n", 0, start) + 1
            self.column = start - text.rfind("\n", 0, start)
            marked = _marked(text.split("\n")[self.line - 1], self.column - 1, stop - start)
            message = f"query:{self.line}:{self.column}: {message}\n{marked}"
        super().__init__(message)

    def within(self, text: str) -> QueryError:
        """Return the same error with its place in a text."""
        return QueryError(self.message, text, self.start, self.stop)


def _marked(line: str, start: int, length: int, width: int = 100) -> str:
    """Return a line, or the part of a long one, above carets that mark some of its characters."""
    first = max(0, start - width // 2)
    shown = "".join(character if character.isprintable() else " " for character in line[first : first + width])
    carets = "^" * max(1, min(length, len(shown) - (start - first)))
    return f"  {shown}\n  {' ' * (start - first)}{carets}"


class PlanError(NeuroprobeError):
    """A protocol that is well formed, and that cannot be run on this machine or with these files."""


class WorkerError(NeuroprobeError):
    """Workers of a run that cannot be reached, or on which the same part of it fails again and again."""


class StoreError(NeuroprobeError):
    """A result or recording on disk that cannot be read, written, resumed or extended."""


class ReaderError(NeuroprobeError):
    """Images, weights or a recording that cannot be read."""


class ImageError(ReaderError):
    """An image that cannot be decoded."""


class SubjectError(NeuroprobeError):
    """A network that cannot be recorded as it is."""


class UnknownNameError(SubjectError):
    """A network, a layer or a channel that does not exist."""

    exit_code = 2


class ResponseError(NeuroprobeError):
    """A network that gave responses from which nothing can be computed (NaN, infinities)."""


class RegistryError(NeuroprobeError):
    """An unknown name, or a registration that breaks the contract of its registry."""


def unknown_name(kind: str, given: object, known: Iterable[str]) -> str:
    """Sentence for a name that does not exist: what was given, the closest match, what exists."""
    names = list(known)
    hint = closest(given, names)
    listed = ", ".join(names) if names else "none"
    return f"unknown {kind} {shown(given)}{hint}; known: {listed}"


def closest(given: object, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"``, or an empty string where nothing is close."""
    matches = get_close_matches(str(given), list(known), n=1, cutoff=0.6)
    return f" (did you mean {matches[0]!r}?)" if matches else ""


def shown(value: object) -> str:
    """Return a value as messages show it: as Python writes it, the beginning of a long one."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 1]}…"


def reason(error: BaseException) -> str:
    """Return what an error of a library or of a user's code says, with its type."""
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
