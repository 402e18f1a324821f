"""What a query is made of: expressions over columns, their kinds, and their values in three-valued logic.

A value is an array or a scalar of numbers or text, a `Truth`, `LabelSets`, or None where a column is missing. A
comparison with a missing value (NaN, empty text, a missing column) is neither true nor false, as in SQL and in Kleene's
logic.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neuroprobe.analysis.labels import LabelSets, Vocabulary
from neuroprobe.errors import QueryError, closest

Kind = Literal["number", "text", "condition", "labels"]
Mask = NDArray[np.bool_] | np.bool_
Value = Any

# of the dtypes of numpy: signed, unsigned and floating numbers; objects and both sorts of text; truth values
KINDS: Final[dict[str, Kind]] = {**dict.fromkeys("iuf", "number"), **dict.fromkeys("OTU", "text"), "b": "condition"}
NOUNS: Final[dict[Kind, str]] = {
    "number": "a number",
    "text": "text",
    "condition": "a condition",
    "labels": "a set of labels",
}
PARTNERS: Final[dict[Kind, str]] = {
    "number": "a number, such as 0.3",
    "text": "text in quotes, such as 'conv1'",
    "condition": "true, false or a condition",
}
EXAMPLES: Final[dict[Kind, str]] = {"number": "{} > 0", "text": "{} == 'conv1'", "labels": "'dog' in {}"}
EQUALITIES: Final = {"==", "!="}
COMPARISONS: Final[dict[str, Callable[[Value, Value], Any]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
HERE: Final = "/"  # in place of a column: the name of the layer whose units are asked for
N_NAMED: Final = 12  # columns, or labels, that an error names
MAX_SHOWN: Final = 60  # characters of a wrong name that an error shows


def kind_of(dtype: np.dtype[Any]) -> Kind | None:
    """Kind of the values of a column; None for those that a query cannot hold, such as times."""
    return KINDS.get(dtype.kind)


@dataclass(frozen=True)
class Truth:
    """Answers of a condition: where it is true and where it is false; where it is undefined, it is neither."""

    true: Mask
    false: Mask

    def __and__(self, other: Truth) -> Truth:
        return Truth(self.true & other.true, self.false | other.false)

    def __or__(self, other: Truth) -> Truth:
        return Truth(self.true | other.true, self.false & other.false)

    def __invert__(self) -> Truth:
        return Truth(self.false, self.true)


UNDEFINED: Final = Truth(np.False_, np.False_)


@dataclass(frozen=True)
class Expression:
    """A part of a query: its characters from `start` up to but without `stop`, and the parts that it is made of."""

    start: int
    stop: int
    parts: tuple[Expression, ...] = ()

    def __str__(self) -> str:
        """How messages call it."""
        return "this"

    def error(self, message: str) -> QueryError:
        """Error that marks it."""
        return QueryError(message, start=self.start, stop=self.stop)

    def walk(self) -> Iterator[Expression]:
        """It and all that it is made of, from left to right."""
        yield self
        for part in self.parts:
            yield from part.walk()


@dataclass(frozen=True, kw_only=True)
class Constant(Expression):
    """A number, a text, true or false."""

    given: float | str | bool

    def __str__(self) -> str:
        return str(self.given).lower() if isinstance(self.given, bool) else repr(self.given)


@dataclass(frozen=True, kw_only=True)
class Column(Expression):
    """The values of a column."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, kw_only=True)
class Function(Expression):
    """The negative, or the absolute value, of a number."""

    name: Literal["-", "abs"]


@dataclass(frozen=True, kw_only=True)
class Arithmetic(Expression):
    """Sums and differences, or products and quotients, from left to right; what is divided by 0 is undefined."""

    signs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Comparison(Expression):
    """Comparisons of neighbours, all of which must be true: ``0.1 < x <= 0.3``."""

    signs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Membership(Expression):
    """Whether the values of the first part are among the others, or are not."""

    negated: bool


@dataclass(frozen=True, kw_only=True)
class Holding(Expression):
    """Whether the sets of labels of the second part hold the text of the first, or do not."""

    negated: bool


@dataclass(frozen=True, kw_only=True)
class Under(Expression):
    """Sum of the shares of labels that are at a node of their hierarchy or below it."""

    node: Constant


@dataclass(frozen=True, kw_only=True)
class Near(Expression):
    """Whether units of a layer are as similar to one of them as they have to be; of other layers none is."""

    layer: str
    least: float


@dataclass(frozen=True, kw_only=True)
class Logic(Expression):
    """Conditions of which all (and), some (or) or none (not) must be true."""

    word: Literal["and", "or", "not"]


def find_kind(
    expression: Expression, kinds: Mapping[str, Kind], vocabularies: Mapping[str, Vocabulary] | None = None
) -> Kind:
    """Kind of the values of an expression, given those of the columns and the labels of those that hold labels.

    Raises
    ------
    QueryError
        If a column does not exist, or the kinds of its parts do not fit; without the text.
    """
    if isinstance(expression, Near) and str(expression.parts[0]) not in kinds:
        raise expression.error("near needs a result that holds the similarities of units, as of selectivity")
    parts = [(part, find_kind(part, kinds, vocabularies)) for part in expression.parts]
    match expression:
        case Constant(given=given):
            return "condition" if isinstance(given, bool) else "text" if isinstance(given, str) else "number"
        case Column(name=name):
            if name not in kinds:
                raise expression.error(unknown_column(name, list(kinds)))
            return kinds[name]
        case Function() | Arithmetic():
            for part, kind in parts:
                if kind != "number":
                    raise part.error(f"{part} is {NOUNS[kind]}, expected a number to calculate with")
            return "number"
        case Under(node=node):
            _require_node(*parts[0], node, vocabularies or {})
            return "number"
        case Comparison(signs=signs):
            _require_no_labels(parts)
            for left, right in pairwise(parts):
                _require_alike(*left, *right)
            first, kind = parts[0]
            if kind != "number" and not EQUALITIES.issuperset(signs):
                raise expression.error(f"{first} is {NOUNS[kind]}, which has no order: compare by == or !=")
        case Membership():
            (first, kind), *items = parts
            _require_no_labels(parts)
            if kind == "condition":
                raise first.error(f"{first} is a condition, expected a number or text")
            for item in items:
                _require_alike(first, kind, *item)
        case Holding():
            _require_label(*parts[0], *parts[1], vocabularies or {})
        case Logic():
            for part, kind in parts:
                require_condition(part, kind)
    return "condition"


def require_condition(expression: Expression, kind: Kind) -> None:
    """Refuse what is no condition."""
    if kind != "condition":
        example = f", such as {EXAMPLES[kind].format(expression)}" if isinstance(expression, Column) else ""
        raise expression.error(f"{expression} is {NOUNS[kind]}, expected a condition{example}")


def _require_no_labels(parts: list[tuple[Expression, Kind]]) -> None:
    """Refuse to compare a set of labels."""
    for part, kind in parts:
        if kind == "labels":
            texts = [str(other) for other, its_kind in parts if its_kind == "text"]
            raise part.error(
                f"{part} is a set of labels, which is compared with nothing: ask for one of them by "
                f"{(texts or [repr('dog')])[0][:MAX_SHOWN]} in {part}"
            )


def _require_label(
    label: Expression, its_kind: Kind, column: Expression, kind: Kind, vocabularies: Mapping[str, Vocabulary]
) -> None:
    """Refuse what is no set of labels, and a label that no unit can have."""
    if kind != "labels":
        raise column.error(
            f"{column} is {NOUNS[kind]}, expected after in a column of labels, such as classes, or a list in brackets"
        )
    if its_kind != "text":
        raise label.error(f"{label} is {NOUNS[its_kind]}, expected the name of a label in quotes, such as 'dog'")
    if isinstance(label, Constant):
        known = vocabularies[str(column)].labels
        if label.given not in known:
            raise label.error(_unknown_word(f"unknown label of {column}", str(label.given), known))


def _require_node(column: Expression, kind: Kind, node: Constant, vocabularies: Mapping[str, Vocabulary]) -> None:
    """Refuse a node that is in no hierarchy."""
    if kind != "labels":
        raise column.error(f"{column} is {NOUNS[kind]}, expected a column of labels, such as classes")
    known = vocabularies[str(column)].nodes
    if known is None:
        raise column.error(
            f"this result holds no hierarchy of {column}: give one by the option `hierarchy:` of selectivity in the "
            "protocol"
        )
    if node.given not in known:
        raise node.error(_unknown_word(f"unknown node above {column}", str(node.given), known))


def _unknown_word(what: str, given: str, known: Collection[str]) -> str:
    """Sentence for a label or node that does not exist; of many, it names the first."""
    given = given[:MAX_SHOWN]
    rest = f" and {len(known) - N_NAMED} more" if len(known) > N_NAMED else ""
    listed = ", ".join(repr(one[:MAX_SHOWN]) for one in list(known)[:N_NAMED]) or "none"
    return f"{what}, {given!r}{closest(given, known)}; known: {listed}{rest}"


def _require_alike(left: Expression, left_kind: Kind, right: Expression, right_kind: Kind) -> None:
    """Refuse to compare values of two kinds; where one is a constant, that is the wrong one."""
    if left_kind == right_kind:
        return
    if isinstance(left, Constant):
        left, left_kind, right, right_kind = right, right_kind, left, left_kind
    received = f"{right}" if isinstance(right, Constant) else f"{right}, which is {NOUNS[right_kind]}"
    raise right.error(
        f"{left} is {NOUNS[left_kind]}: expected {PARTNERS[left_kind]}, to compare it with; received {received}"
    )


def unknown_column(name: str, known: list[str]) -> str:
    """Sentence for a column that does not exist; of many columns, it names the first."""
    name = name[:MAX_SHOWN]
    # first_order_hue_se is meant for first_order_se_hue
    same_words = [one for one in known if sorted(one.split("_")) == sorted(name.split("_"))]
    rest = f" and {len(known) - N_NAMED} more" if len(known) > N_NAMED else ""
    return f"unknown column {name!r}{closest(name, same_words or known)}; known: {', '.join(known[:N_NAMED])}{rest}"


def evaluate(expression: Expression, columns: Mapping[str, Any]) -> Value:
    """Values of an expression whose kinds fit; columns that are not in the mapping are missing."""
    if isinstance(expression, Membership):
        return _is_among(evaluate(expression.parts[0], columns), expression)
    if isinstance(expression, Near) and columns.get(HERE, expression.layer) != expression.layer:
        return Truth(np.False_, np.True_)
    values = [evaluate(part, columns) for part in expression.parts]
    match expression:
        case Constant(given=given):
            return _truth(given, True) if isinstance(given, bool) else given
        case Column(name=name):
            return _column_value(columns[name]) if name in columns else None
        case Function(name=name):
            return _calculate(FUNCTIONS[name], *values)
        case Arithmetic(signs=signs):
            total = values[0]
            for sign, value in zip(signs, values[1:], strict=True):
                total = _calculate(ARITHMETIC[sign], total, value)
            return total
        case Comparison(signs=signs):
            return reduce(operator.and_, map(_compare, signs, values, values[1:]))
        case Near(least=least):
            return _compare(">=", values[0], least)
        case Under(node=node):
            return None if values[0] is None else values[0].under(node.given)
        case Holding(negated=negated):
            truth = _holds(values[1], values[0])
            return ~truth if negated else truth
        case Logic(word="not"):
            return ~(values[0] or UNDEFINED)
        case Logic(word=word):
            return reduce(operator.and_ if word == "and" else operator.or_, [value or UNDEFINED for value in values])


def _truth(answer: Any, defined: Any) -> Truth:
    return Truth(np.logical_and(answer, defined), np.logical_and(np.logical_not(answer), defined))


def _column_value(given: Any) -> Value:
    if isinstance(given, LabelSets):
        return given
    values = np.asarray(given)
    match kind_of(values.dtype):
        case "condition":
            return _truth(values, True)
        case "text":
            return present_text(values) if values.ndim else values.item()
        case _:
            return values


def present_text(values: NDArray[Any]) -> NDArray[np.object_]:
    """Texts as objects, missing ones (None, NaN) as empty texts."""
    texts = values.astype(object)
    missing = pd.isna(texts)
    if missing.any():
        texts[missing] = ""
    return texts


def _compare(sign: str, left: Value, right: Value) -> Truth:
    if left is None or right is None:
        return UNDEFINED
    if isinstance(left, Truth):
        same = (left & right) | (~left & ~right)
        return same if sign == "==" else ~same
    return _truth(COMPARISONS[sign](left, right), np.logical_and(_defined(left), _defined(right)))


def _holds(sets: LabelSets | None, label: Value) -> Truth:
    if sets is None or label is None:
        return UNDEFINED
    return _truth(sets.has(label), np.logical_and(sets.defined, _defined(label)))


def _is_among(value: Value, expression: Membership) -> Truth:
    if value is None:
        return UNDEFINED
    items = np.array([item.given for item in expression.parts[1:] if isinstance(item, Constant)])
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        items = items.astype(value.dtype)  # as a comparison by == does
    truth = _truth(np.isin(value, items), _defined(value))
    return ~truth if expression.negated else truth


def _defined(value: Value) -> Any:
    """Where numbers are not NaN and texts not empty."""
    kind = np.asarray(value).dtype.kind
    if kind == "f":
        return ~np.isnan(value)
    return value != "" if KINDS[kind] == "text" else np.True_


def _calculate(function: Callable[..., Any], *numbers: Value) -> Any:
    return None if any(number is None for number in numbers) else function(*map(_real, numbers))


def _real(number: Any) -> Any:
    """Integers as floats, which do not overflow."""
    if isinstance(number, np.ndarray):
        return number if number.dtype.kind == "f" else number.astype(np.float64)
    return float(number)


def _divide(numerator: Any, divisor: Any) -> Any:
    if isinstance(divisor, float):
        return numerator / (divisor or math.nan)
    return numerator / np.where(divisor == 0, math.nan, divisor)


FUNCTIONS: Final[dict[str, Callable[[Any], Any]]] = {"-": operator.neg, "abs": operator.abs}
ARITHMETIC: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": _divide,
}
