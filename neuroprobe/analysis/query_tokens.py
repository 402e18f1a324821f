"""The signs and words that a query of units is made of."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from neuroprobe.analysis.expression import MAX_SHOWN
from neuroprobe.errors import QueryError

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


@dataclass(frozen=True)
class Token:
    """A sign, a word, a number or a text of a query, and where it stands."""

    kind: str
    text: str
    start: int
    stop: int

    def error(self, message: str) -> QueryError:
        """Error that marks it."""
        return QueryError(message, start=self.start, stop=self.stop)

    def refusal(self, expected: str) -> QueryError:
        """Error for a token where another is expected."""
        if self.kind in {"word", "wrong"} and self.text in REMEDIES:
            return self.error(f"{self.text!r} is not part of a query: write {REMEDIES[self.text]}")
        received = "the end of the query" if self.kind == "end" else repr(self.text[:MAX_SHOWN])
        return self.error(f"received {received}, expected {expected}")


def tokens(text: str) -> Iterator[Token]:
    """Take a query apart; behind the last token comes one of the kind ``end``.

    Raises
    ------
    QueryError
        If something is no part of the language; without the text.

    Examples
    --------
    >>> [token.text for token in tokens("'red' in colours")]
    ["'red'", 'in', 'colours', '']
    """
    place = 0
    while place < len(text):
        match = TOKEN.match(text, place)
        if match is None or match.lastgroup == "wrong":
            raise _wrong(Token("wrong", match[0] if match else text[place], place, match.end() if match else place + 1))
        place = match.end()
        if match.lastgroup != "space":
            yield Token(str(match.lastgroup), match[0], match.start(), place)
    end = len(text.rstrip())
    yield Token("end", "", end, end)


def _wrong(token: Token) -> QueryError:
    """Error for characters that no part of the language begins with."""
    if token.text in {"'", '"', "`"}:
        return token.error(f"what begins here has no end: close it by {token.text}")
    if token.text[0].isdigit():
        return token.error(f"{token.text[:MAX_SHOWN]!r} is not a number: expected one such as 3, 0.25 or 1e-3")
    if token.text in REMEDIES:
        return token.refusal("")
    return token.error(f"{token.text[:MAX_SHOWN]!r} is not part of a query")
