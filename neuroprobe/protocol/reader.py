"""Strict YAML with line marks: YAML 1.2 scalars, duplicate keys refused, and every error of a file in one report."""

from __future__ import annotations

import os
import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from neuroprobe.errors import Problem, ProtocolError, closest
from neuroprobe.protocol.images import IMAGE_SOURCES
from neuroprobe.protocol.schema import Protocol

Path_ = tuple[Hashable, ...]
VARIABLE = re.compile(r"\$\{([^}\n]*)\}")
# braces have a meaning of their own in YAML's flow style: while it is parsed, ${VAR} is written with these
OPEN, CLOSE = "\ue000", "\ue001"
HIDDEN = re.compile(rf"\${OPEN}([^{CLOSE}]*){CLOSE}")


def load_protocol(source: str | os.PathLike[str] | Mapping[str, Any] | Protocol) -> Protocol:
    """Read and check a recording protocol.

    Parameters
    ----------
    source : path or mapping
        A YAML file, in which relative paths are relative to the file and ``${VAR}`` is taken from the environment; or
        the same content as a mapping, with paths relative to the working directory.

    Returns
    -------
    Protocol

    Raises
    ------
    ProtocolError
        With every problem of the file, each with its line and column.

    Examples
    --------
    >>> load_protocol({"neuroprobe": 1, "sed": 3})
    Traceback (most recent call last):
        ...
    neuroprobe.errors.ProtocolError: <protocol>: unknown key 'sed' (did you mean 'seed'?); ...
    """
    if isinstance(source, Protocol):
        return source
    if isinstance(source, Mapping):
        return _validate(dict(source), _Marks("<protocol>"), Path.cwd())
    path = Path(source)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ProtocolError([Problem("no such file")], str(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ProtocolError([Problem(f"cannot be read: {error}")], str(path)) from None
    marks = _Marks(str(path))
    value = marks.read(text)
    return _validate(value, marks, path.absolute().parent)


class _Loader(yaml.SafeLoader):
    """SafeLoader that resolves plain scalars by the core schema of YAML 1.2."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}  # type: ignore[misc]


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver(
    "tag:neuroprobe,int", re.compile(r"^([-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    "tag:neuroprobe,float",
    re.compile(r"^([-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"),
    list("-+.0123456789"),
)
_Loader.add_constructor(
    "tag:neuroprobe,int",
    lambda _, node: int(node.value, 0) if node.value[:2] in {"0o", "0x"} else int(node.value),
)
_Loader.add_constructor(
    "tag:neuroprobe,float", lambda _, node: float(node.value.lower().replace(".inf", "inf").replace(".nan", "nan"))
)


class _Marks:
    """Plain values of a YAML text, with the place of every key and value."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.places: dict[Path_, tuple[int, int]] = {}
        self.problems: list[Problem] = []
        self._open: list[yaml.Node] = []

    def read(self, text: str) -> Any:
        try:
            loader = _Loader(VARIABLE.sub(rf"${OPEN}\1{CLOSE}", text))
            node = loader.get_single_node()
            return None if node is None else self._value(loader, node, ())
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            where = (mark.line + 1, mark.column + 1) if mark else (0, 0)
            raise ProtocolError(
                [*self.problems, Problem(f"not valid YAML: {error.problem}", *where)], self.file
            ) from None
        except yaml.YAMLError as error:
            raise ProtocolError([Problem(f"not valid YAML: {error}")], self.file) from None

    def _value(self, loader: yaml.SafeLoader, node: yaml.Node, path: Path_) -> Any:
        place = (node.start_mark.line + 1, node.start_mark.column + 1)
        self.places.setdefault(path, place)
        if node in self._open:
            raise ProtocolError(
                [*self.problems, Problem("it holds itself, by an anchor and an alias", *place)], self.file
            )
        self._open.append(node)
        try:
            return self._plain(loader, node, path, place)
        finally:
            self._open.pop()

    def _plain(self, loader: yaml.SafeLoader, node: yaml.Node, path: Path_, place: tuple[int, int]) -> Any:
        if isinstance(node, yaml.SequenceNode):
            return [self._value(loader, item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._mapping(loader, node, path)
        value = self._scalar(loader, node, place)
        return self._expand(value, place) if isinstance(value, str) else value

    def _scalar(self, loader: yaml.SafeLoader, node: yaml.Node, place: tuple[int, int]) -> Any:
        try:
            return loader.construct_object(node, deep=True)
        except (ValueError, KeyError, AttributeError):  # of an explicit tag that the text does not fit
            wrong = Problem(f"given {str(node.value)[:40]!r}, which is no {node.tag.split(':')[-1]}", *place)
            raise ProtocolError([*self.problems, wrong], self.file) from None

    def _mapping(self, loader: yaml.SafeLoader, node: yaml.MappingNode, path: Path_) -> dict[Hashable, Any]:
        result: dict[Hashable, Any] = {}
        for key_node, value_node in node.value:
            place = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            key = self._scalar(loader, key_node, place)
            if isinstance(key, str):
                key = key.replace(OPEN, "{").replace(CLOSE, "}")
            if not isinstance(key, str):
                self.problems.append(Problem(f"given the key {key!r}, expected a word", *place))
                continue
            if key in result:
                first = self.places[(*path, key)][0]
                self.problems.append(Problem(f"key {key!r} is given twice (first in line {first}); keep one", *place))
                continue
            self.places[(*path, key)] = place
            result[key] = self._value(loader, value_node, (*path, key))
        return result

    def _expand(self, text: str, place: tuple[int, int]) -> str:
        def value_of(match: re.Match[str]) -> str:
            name = match[1]
            if name not in os.environ:
                self.problems.append(
                    Problem(f"environment variable {name!r} is not defined; set it, or write the path", *place)
                )
            return os.environ.get(name, "")

        return HIDDEN.sub(value_of, text)

    def place(self, loc: Path_) -> tuple[int, int]:
        """Line and column of a location of pydantic's, which holds labels of unions beside keys and indices."""
        # a label may have the name of a key: of all paths within the location, the longest that ends as it does
        paths: list[Path_] = [()]
        for part in loc:
            paths += [(*path, part) for path in paths if (*path, part) in self.places]
        best = max(paths, key=lambda path: (bool(path) and path[-1] == loc[-1], len(path)))
        return self.places.get(best, (0, 0))


def _validate(value: Any, marks: _Marks, base: Path) -> Protocol:
    problems = list(marks.problems)
    try:
        if not isinstance(value, dict):
            given = "an empty file" if value is None else f"{type(value).__name__}"
            raise ProtocolError(
                [Problem(f"given {given}, expected a protocol that begins with `neuroprobe: 1`", 1, 1)], marks.file
            )
        protocol = Protocol.model_validate(value, context={"base": base})
    except ValidationError as error:
        seen = {}
        for details in error.errors(include_url=False):
            place = marks.place(details["loc"])
            message = _sentence(details)
            seen[place, message] = Problem(message, *place)
        problems += seen.values()
    if problems:
        raise ProtocolError(problems, marks.file)
    return protocol


def _sentence(details: ErrorDetails) -> str:
    """Turn an error of pydantic's into a sentence: what was given, what is expected, the closest match."""
    loc, given, context = details["loc"], details["input"], details.get("ctx", {})
    where = ".".join(str(part) for part in loc)
    match details["type"]:
        case "extra_forbidden":
            known = _known_keys(loc[:-1])
            return f"unknown key {loc[-1]!r}{closest(loc[-1], known)}; expected: {', '.join(known)}"
        case "missing":
            return f"missing key {str(loc[-1])!r}" + (f" in {'.'.join(map(str, loc[:-1]))}" if loc[:-1] else "")
        case "literal_error":
            expected = str(context["expected"])
            hint = closest(given, re.findall(r"'([^']*)'", expected))
            return f"{where}: given {given!r}{hint}, expected {expected}"
        case "protocol":
            return str(context.get("message", details["msg"]))
        case _:
            message = details["msg"]
            return f"{where}: given {given!r}, expected: {message[0].lower()}{message[1:]}"


def _known_keys(loc: Path_) -> list[str]:
    """Keys that the block at a location may have."""
    block: Any = Protocol
    for part in loc:
        if isinstance(part, str) and part in block.model_fields:
            block = _model_in(block.model_fields[part].annotation) or block
        elif part in IMAGE_SOURCES:
            block = IMAGE_SOURCES[str(part)]
    return [field.alias or name for name, field in block.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _model_in(argument)
        if found is not None:
            return found
    return None
