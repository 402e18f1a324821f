"""The language in which units are asked for: ``layer == 'conv2' and first_order_hue > 2 * first_order_se_hue``.

============================  ======================================================================================
``== != < <= > >=``       comparisons, also chained: ``0.1 < total_order_hue <= 0.3``; text by ``==`` and ``!=`` only
``in``, ``not in``            a list: ``layer in ['conv1', 'conv2']``, ``channel not in [3, 5]``; or a column of labels:
                              ``'red' in colours``, ``preferred_class not in classes``
``and``, ``or``, ``not``      of conditions; parentheses group
``+ - * /``, ``abs()``        of numbers; what is divided by 0 is undefined
``under(classes, 'animal')``  a number: the sum of the shares of those labels of a unit that are at or below a node of
                              the hierarchy of the labels
``near('conv2/17', 0.4)``     a condition: units of layer conv2 that give to the top stimuli of its channel 17 at least
                              0.4 of what they give to their own
``0.3``, ``-1e-3``            numbers
``'conv1'``, ``"conv1"``      text
``true``, ``false``           of columns that hold conditions
``first_order_hue``           a column; one whose name holds other characters in backticks: `` `mean_sea lion` ``
============================  ======================================================================================

A comparison with a value that is missing (NaN, an empty text, a column that a layer does not have) is neither true nor
false, and so are its contrary and what depends on it: neither ``x > 1`` nor ``not (x > 1)`` selects units whose x is
undefined. Units without a defined index are ``defined == 0``.

A column of labels, of the kind ``labels``, holds for each unit the labels whose share reaches the least one that counts
(the attribute ``least`` of the variable, 0.1 by default). Of units that do not respond the labels are undefined:
neither ``'red' in colours`` nor ``'red' not in colours`` selects them. Other comparisons of labels there are none.

``near(u, s)`` is about similarity S(n, m), which is not symmetric: n is the unit asked for, m is u, which is near
itself. It is false of all units of other layers, and undefined of units that do not respond. S itself is the column
`` `similarity_conv2/17` ``, which is missing in other layers.

Text is read by the grammar below and by nothing else: no part of a query is ever executed.

::

    condition   = conjunction {"or" conjunction}
    conjunction = inversion {"and" inversion}
    inversion   = "not" inversion | comparison
    comparison  = sum ({sign sum} | ["not"] "in" ("[" constant {"," constant} "]" | column))
    sum         = product {("+" | "-") product}
    product     = factor {("*" | "/") factor}
    factor      = "-" factor | number | text | "true" | "false" | column | "(" condition ")" | function
    function    = "abs" "(" sum ")" | "under" "(" column "," text ")" | "near" "(" text "," constant ")"
    constant    = ["-"] number | text
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

from neuroprobe import names
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
    Holding,
    Kind,
    Logic,
    Membership,
    Near,
    Truth,
    Under,
    evaluate,
    find_kind,
    require_condition,
)
from neuroprobe.analysis.labels import Vocabulary
from neuroprobe.analysis.query_tokens import OPERATORS, REMEDIES, TRUTHS, Token, tokens
from neuroprobe.errors import QueryError

MAX_LENGTH: Final = 100_000  # characters
MAX_DEPTH: Final = 30  # parentheses, signs and `not` within each other: far from Python's limit of recursion
UNIT: Final = re.compile(r"(?s:(?P<layer>.+))/(?P<channel>[0-9]{1,18})")
FUNCTIONS: Final = ("abs", "under", "near")
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

    def check(self, kinds: Mapping[str, Kind], vocabularies: Mapping[str, Vocabulary] | None = None) -> None:
        """Check it against the columns that there are.

        Parameters
        ----------
        kinds : dict
            Column → ``"number"``, ``"text"``, ``"condition"`` or ``"labels"``.
        vocabularies : dict, optional
            Column → the labels that it can hold, of all columns of labels.

        Raises
        ------
        QueryError
            If a column, a label or a node does not exist, or what is compared or calculated with does not fit.
        """
        try:
            require_condition(self.expression, find_kind(self.expression, kinds, vocabularies))
        except QueryError as error:
            raise error.within(self.text) from None

    def evaluate(self, columns: Mapping[str, Any]) -> Truth:
        """Answer it for units.

        Parameters
        ----------
        columns : dict of arrays and scalars
            Of the kinds that it was checked against, and of shapes that can be broadcast; labels as `LabelSets`. A
            column that is not here is missing: where the answer is true or false all the same, it is so whatever the
            column holds. `expression.HERE` stands for the name of the layer, which `near` asks for.

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


class _Parser:
    """One method per rule of the grammar."""

    def __init__(self, text: str) -> None:
        self.tokens = list(tokens(text))
        self.place = 0
        self.depth = 0

    @property
    def next(self) -> Token:
        return self.tokens[self.place]

    def take(self, *texts: str) -> Token | None:
        """Take the next token, if it is one of these signs or words."""
        token = self.next
        if token.kind in {"sign", "word"} and token.text in texts:
            self.place += 1
            return token
        return None

    def expect(self, sign: str, expected: str) -> Token:
        token = self.take(sign)
        if token is None:
            raise self.next.refusal(expected)
        return token

    @contextmanager
    def within(self, token: Token) -> Iterator[None]:
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

    def membership(self, operand: Expression, negated: bool) -> Membership | Holding:
        if self.is_column():
            column = self.column()
            return Holding(operand.start, column.stop, (operand, column), negated=negated)
        self.expect("[", "a list in brackets, such as ['conv1', 'conv2'], or a column of labels, such as classes")
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
        if token.kind == "word" and token.text in TRUTHS:
            self.place += 1
            return Constant(token.start, token.stop, given=TRUTHS[token.text])
        if not self.is_column():
            raise token.refusal("a column, a number, text in quotes or a parenthesis")
        column = self.column()
        bracket = self.take("(")
        return column if bracket is None else self.function(token, bracket)

    def is_column(self) -> bool:
        """Whether the next token can be the name of a column."""
        token = self.next
        return token.kind in {"word", "column"} and token.text not in (*OPERATORS, *REMEDIES, *TRUTHS)

    def column(self) -> Column:
        token = self.next
        if not self.is_column():
            raise token.refusal("a column of labels, such as classes")
        self.place += 1
        return Column(token.start, token.stop, name=token.text.strip("`"))

    def function(self, name: Token, bracket: Token) -> Expression:
        match name.text:
            case "abs":
                operand, stop = self.group(bracket, self.sum)
                return Function(name.start, stop, (operand,), name="abs")
            case "under":
                column = self.column()
                self.expect(",", "a comma and a node of the hierarchy, such as under(classes, 'animal')")
                if self.next.kind != "text":
                    raise self.next.refusal("a node of the hierarchy in quotes, such as 'animal'")
                node = self.text()
                return Under(name.start, self.end_of(bracket), (column,), node=node)
            case "near":
                return self.near(name, bracket)
        raise name.error(f"a query calls no functions but {', '.join(FUNCTIONS[:-1])} and {FUNCTIONS[-1]}")

    def near(self, name: Token, bracket: Token) -> Near:
        token = self.next
        unit = UNIT.fullmatch(token.text[1:-1]) if token.kind == "text" else None
        if unit is None:
            raise token.refusal("a unit in quotes, layer and channel, such as 'layer3.2/17'")
        self.place += 1
        column = Column(
            token.start, token.stop, name=names.column(names.SIMILARITY, f"{unit['layer']}/{int(unit['channel'])}")
        )
        self.expect(",", "a comma and the least similarity, such as near('layer3.2/17', 0.4)")
        least = self.constant()
        if isinstance(least.given, str) or not 0 <= least.given <= 1:
            raise least.error("expected the least similarity, a number from 0 to 1")
        return Near(name.start, self.end_of(bracket), (column,), layer=unit["layer"], least=float(least.given))

    def end_of(self, bracket: Token) -> int:
        """Read the end of a parenthesis, and tell where it is."""
        return self.expect(")", f"the ) of the ( at character {bracket.start + 1}").stop

    def group(self, bracket: Token, rule: Callable[[], Expression]) -> tuple[Expression, int]:
        """Read what stands between parentheses, and tell where they end."""
        with self.within(bracket):
            inner = rule()
        return inner, self.end_of(bracket)

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


def _negative(sign: Token, number: Constant) -> Constant:
    return Constant(sign.start, number.stop, given=-cast("float", number.given))
