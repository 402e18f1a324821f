"""The language in which units are asked for: ``layer == 'conv2' and first_order_hue > 2 * first_order_se_hue``.

========================  ==========================================================================================
``== != < <= > >=``       comparisons, also chained: ``0.1 < total_order_hue <= 0.3``; text by ``==`` and ``!=`` only
``in``, ``not in``        a list: ``layer in ['conv1', 'conv2']``, ``channel not in [3, 5]``
``and``, ``or``, ``not``  of conditions; parentheses group
``+ - * /``, ``abs()``    of numbers; what is divided by 0 is undefined
``0.3``, ``-1e-3``        numbers
``'conv1'``, ``"conv1"``  text
``true``, ``false``       of columns that hold conditions
``first_order_hue``       a column; one whose name holds other characters in backticks: `` `mean_sea lion` ``
========================  ==========================================================================================

A comparison with a value that is missing (NaN, an empty text, a column that a layer does not have) is neither true nor
false, and so are its contrary and what depends on it: neither ``x > 1`` nor ``not (x > 1)`` selects units whose x is
undefined. Units without a defined index are ``defined == 0``.

Text is read by the grammar below and by nothing else: no part of a query is ever executed.

::

    condition   = conjunction {"or" conjunction}
    conjunction = inversion {"and" inversion}
    inversion   = "not" inversion | comparison
    comparison  = sum ({sign sum} | ["not"] "in" "[" constant {"," constant} "]")
    sum         = product {("+" | "-") product}
    product     = factor {("*" | "/") factor}
    factor      = "-" factor | number | text | "true" | "false" | column | "abs" "(" sum ")" | "(" condition ")"
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal, cast

import numpy as np

from neuroprobe.analysis.expression import (
    COMPARISONS,
    MAX_SHOWN,
    UNDEFINED,
    Arithmetic,
    Column,
    Comparison,
    Constant,
    Expression,
    Function,
    Kind,
    Logic,
    Membership,
    Truth,
    evaluate,
    find_kind,
    require_condition,
)
from neuroprobe.errors import QueryError

MAX_LENGTH: Final = 100_000  # characters
MAX_DEPTH: Final = 30  # parentheses, signs and `not` within each other: far from Python's limit of recursion
TOKEN: Final = re.compile(
    r"""
      (?P<space>\s+)
    | (?P<number>(?>[0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?+(?![\w.]))  # never tried again with fewer digits
    | (?P<text>'[^']*'|"[^"]*")
    | (?P<column>`[^`]+`)
    | (?P<word>[^\W\d]\w*)
    | (?P<wrong>&&?|\|\|?|\*\*|//|<>|=[<>]|[.\d][.\w]*)
    | (?P<sign>[=!<>]=|[-+*/<>()\[\],])
    """,
    re.VERBOSE,
)
OPERATORS: Final = ("and", "or", "not", "in")  # words that no column is called, other than in backticks
TRUTHS: Final = {"true": True, "True": True, "false": False, "False": False}
# what is written here ← what other languages have
WRITTEN: Final = {
    "and": ("&", "&&", "AND"),
    "or": ("|", "||", "OR"),
    "not": ("!", "~", "NOT"),
    "in": ("IN",),
    "==": ("=", "is"),
    "!=": ("<>", "≠"),
    "<=": ("=<", "≤"),
    ">=": ("=>", "≥"),
    "-": ("−",),
    "* or /": ("×", "÷", "//"),
    "x * x": ("**",),
    "' or \"": tuple("“”„‘’´"),
    "true or false": ("TRUE", "FALSE"),
    "defined == 0 for units that are undefined": ("nan", "NaN", "NAN", "None", "null", "NULL"),
}
REMEDIES: Final = {wrong: right for right, wrongs in WRITTEN.items() for wrong in wrongs}
EXPECTED_OPERATOR: Final = "an operator (== != < <= > >= in + - * / and or) or the end"


@dataclass(frozen=True)
class Query:
    """A condition on units that has been read.

    Examples
    --------
    >>> query = parse_query("layer == 'conv1' and channel < 2")
    >>> list(query.columns)
    ['layer', 'channel']
    >>> query.check({"layer": "text", "channel": "number"})
    >>> query.evaluate({"layer": "conv1", "channel": np.arange(4)}).true
    array([ True,  True, False, False])
    >>> query.evaluate({"layer": "conv2"}).false  # whatever the channels are
    np.True_
    """

    text: str
    expression: Expression

    @cached_property
    def columns(self) -> dict[str, Column]:
        """Columns that it names, each where it does so first."""
        found: dict[str, Column] = {}
        for part in self.expression.walk():
            if isinstance(part, Column):
                found.setdefault(part.name, part)
        return found

    def check(self, kinds: Mapping[str, Kind]) -> None:
        """Check it against the columns that there are.

        Parameters
        ----------
        kinds : dict
            Column → ``"number"``, ``"text"`` or ``"condition"``.

        Raises
        ------
        QueryError
            If a column does not exist, or what is compared or calculated with does not fit.
        """
        try:
            require_condition(self.expression, find_kind(self.expression, kinds))
        except QueryError as error:
            raise error.within(self.text) from None

    def evaluate(self, columns: Mapping[str, Any]) -> Truth:
        """Answer it for units.

        Parameters
        ----------
        columns : dict of arrays and scalars
            Of the kinds that it was checked against, and of shapes that can be broadcast. A column that is not here is
            missing: where the answer is true or false all the same, it is so whatever the column holds.

        Returns
        -------
        Truth
            Masks in the shape that the columns have together.
        """
        with np.errstate(all="ignore"):
            return evaluate(self.expression, columns) or UNDEFINED


def parse_query(text: str) -> Query:
    """Read a query.

    Raises
    ------
    QueryError
        With the place of the first part that is no part of the language.

    Examples
    --------
    >>> parse_query("first_order_hue > 0.1 & first_order_hue < 0.3")
    Traceback (most recent call last):
        ...
    neuroprobe.errors.QueryError: query:1:23: '&' is not part of a query: write and
      first_order_hue > 0.1 & first_order_hue < 0.3
                            ^
    """
    if not isinstance(text, str):
        raise QueryError(f"received {type(text).__name__}, expected a query as text, such as \"layer == 'conv1'\"")
    if not text.strip():
        raise QueryError("the query is empty: expected a condition, such as \"layer == 'conv1'\"")
    if len(text) > MAX_LENGTH:
        raise QueryError(f"the query has {len(text):,} characters, expected {MAX_LENGTH:,} at most")
    try:
        return Query(text, _Parser(text).query())
    except QueryError as error:
        raise error.within(text) from None


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    start: int
    stop: int

    def error(self, message: str) -> QueryError:
        return QueryError(message, start=self.start, stop=self.stop)

    def refusal(self, expected: str) -> QueryError:
        """Error for a token where another is expected."""
        if self.kind in {"word", "wrong"} and self.text in REMEDIES:
            return self.error(f"{self.text!r} is not part of a query: write {REMEDIES[self.text]}")
        received = "the end of the query" if self.kind == "end" else repr(self.text[:MAX_SHOWN])
        return self.error(f"received {received}, expected {expected}")


def _tokens(text: str) -> Iterator[_Token]:
    place = 0
    while place < len(text):
        match = TOKEN.match(text, place)
        if match is None or match.lastgroup == "wrong":
            raise _wrong(
                _Token("wrong", match[0] if match else text[place], place, match.end() if match else place + 1)
            )
        place = match.end()
        if match.lastgroup != "space":
            yield _Token(str(match.lastgroup), match[0], match.start(), place)
    end = len(text.rstrip())
    yield _Token("end", "", end, end)


def _wrong(token: _Token) -> QueryError:
    """Error for characters that no part of the language begins with."""
    if token.text in {"'", '"', "`"}:
        return token.error(f"what begins here has no end: close it by {token.text}")
    if token.text[0].isdigit():
        return token.error(f"{token.text[:MAX_SHOWN]!r} is not a number: expected one such as 3, 0.25 or 1e-3")
    if token.text in REMEDIES:
        return token.refusal("")
    return token.error(f"{token.text[:MAX_SHOWN]!r} is not part of a query")


class _Parser:
    """One method per rule of the grammar."""

    def __init__(self, text: str) -> None:
        self.tokens = list(_tokens(text))
        self.place = 0
        self.depth = 0

    @property
    def next(self) -> _Token:
        return self.tokens[self.place]

    def take(self, *texts: str) -> _Token | None:
        """Take the next token, if it is one of these signs or words."""
        token = self.next
        if token.kind in {"sign", "word"} and token.text in texts:
            self.place += 1
            return token
        return None

    def expect(self, sign: str, expected: str) -> _Token:
        token = self.take(sign)
        if token is None:
            raise self.next.refusal(expected)
        return token

    @contextmanager
    def within(self, token: _Token) -> Iterator[None]:
        """Count the level that a token opens."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise token.error(f"more than {MAX_DEPTH} levels within each other: write it shorter")
        yield
        self.depth -= 1

    def query(self) -> Expression:
        expression = self.condition()
        if self.next.kind != "end":
            raise self.next.refusal(EXPECTED_OPERATOR)
        return expression

    def condition(self) -> Expression:
        return self.logic("or", self.conjunction)

    def conjunction(self) -> Expression:
        return self.logic("and", self.inversion)

    def logic(self, word: Literal["and", "or"], operand: Callable[[], Expression]) -> Expression:
        operands = [operand()]
        while self.take(word):
            operands.append(operand())
        if len(operands) == 1:
            return operands[0]
        return Logic(operands[0].start, operands[-1].stop, tuple(operands), word=word)

    def inversion(self) -> Expression:
        token = self.take("not")
        if token is None:
            return self.comparison()
        with self.within(token):
            operand = self.inversion()
        return Logic(token.start, operand.stop, (operand,), word="not")

    def comparison(self) -> Expression:
        first = self.sum()
        negated = self.take("not") is not None
        if negated or self.next.text == "in":
            self.expect("in", "in")
            return self.membership(first, negated)
        return self.chain(Comparison, first, self.sum, COMPARISONS)

    def membership(self, operand: Expression, negated: bool) -> Membership:
        self.expect("[", "a list in brackets, such as ['conv1', 'conv2']")
        items = [self.constant()]
        while self.take(","):
            items.append(self.constant())
        bracket = self.expect("]", "a comma, or the ] of the list")
        return Membership(operand.start, bracket.stop, (operand, *items), negated=negated)

    def constant(self) -> Constant:
        sign = self.take("-")
        token = self.next
        if token.kind == "number":
            number = self.number()
            return number if sign is None else _negative(sign, number)
        if token.kind != "text" or sign is not None:
            raise token.refusal("a number" if sign else "a number or text in quotes")
        return self.text()

    def sum(self) -> Expression:
        return self.chain(Arithmetic, self.product(), self.product, ("+", "-"))

    def product(self) -> Expression:
        return self.chain(Arithmetic, self.factor(), self.factor, ("*", "/"))

    def chain(
        self,
        node: type[Arithmetic | Comparison],
        first: Expression,
        operand: Callable[[], Expression],
        signs: Iterable[str],
    ) -> Expression:
        taken, operands = [], [first]
        while token := self.take(*signs):
            taken.append(token.text)
            operands.append(operand())
        return node(first.start, operands[-1].stop, tuple(operands), signs=tuple(taken)) if taken else first

    def factor(self) -> Expression:
        token = self.next
        if self.take("-"):
            with self.within(token):
                operand = self.factor()
            if isinstance(operand, Constant) and type(operand.given) in {int, float}:
                return _negative(token, operand)
            return Function(token.start, operand.stop, (operand,), name="-")
        if self.take("("):
            return self.group(token, self.condition)[0]
        if token.kind == "number":
            return self.number()
        if token.kind == "text":
            return self.text()
        if token.kind not in {"word", "column"} or token.text in (*OPERATORS, *REMEDIES):
            raise token.refusal("a column, a number, text in quotes or a parenthesis")
        self.place += 1
        if token.text in TRUTHS:
            return Constant(token.start, token.stop, given=TRUTHS[token.text])
        bracket = self.take("(")
        if bracket is None:
            return Column(token.start, token.stop, name=token.text.strip("`"))
        if token.text != "abs":
            raise token.error("a query calls no functions but abs")
        operand, stop = self.group(bracket, self.sum)
        return Function(token.start, stop, (operand,), name="abs")

    def group(self, bracket: _Token, rule: Callable[[], Expression]) -> tuple[Expression, int]:
        """Read what stands between parentheses, and tell where they end."""
        with self.within(bracket):
            inner = rule()
        return inner, self.expect(")", f"the ) of the ( at character {bracket.start + 1}").stop

    def text(self) -> Constant:
        token = self.next
        self.place += 1
        return Constant(token.start, token.stop, given=token.text[1:-1])

    def number(self) -> Constant:
        token = self.next
        value = float(token.text)
        if not math.isfinite(value):
            raise token.error(f"{token.text[:MAX_SHOWN]} is too large for a number")
        self.place += 1
        is_whole = token.text.isdigit() and len(token.text) < len(str(2**63))
        return Constant(token.start, token.stop, given=int(token.text) if is_whole else value)


def _negative(sign: _Token, number: Constant) -> Constant:
    return Constant(sign.start, number.stop, given=-cast("float", number.given))
