"""Strict YAML with line marks: YAML 1.2 scalars, duplicate keys refused, and every error of a file in one report."""

from __future__ import annotations

import os
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from neuroprobe.errors import Problem, ProtocolError, closest, shown
from neuroprobe.protocol.analyses import ANALYSES
from neuroprobe.protocol.animal import AnimalProtocol, AnyProtocol, is_of_recording
from neuroprobe.protocol.dependence import PAIRS
from neuroprobe.protocol.images import IMAGE_SOURCES
from neuroprobe.protocol.lesion import LESIONS, AnyLesions, LesionSpec
from neuroprobe.protocol.places import Path_, Places
from neuroprobe.protocol.schema import Protocol
from neuroprobe.protocol.sets import choose_set

MAX_VALUES: Final = 100_000  # of a file; aliases of aliases can make a short one endless
# what YAML says of frequent mistakes → what to do
HINTS: Final = {
    "'\\t'": "; indent by spaces",
    "mapping values are not allowed": "; put text that holds a colon in quotes",
}
KINDS: Final = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}
HALF: Final = re.compile("[\ud800-\udfff]")  # of a character: what no file can hold
VARIABLE = re.compile(r"\$\{([^}\n]*)\}")
# braces have a meaning of their own in YAML's flow style: while it is parsed, ${VAR} is written with these
OPEN, CLOSE = "\ue000", "\ue001"
HIDDEN = re.compile(rf"\${OPEN}([^{CLOSE}]*){CLOSE}")


def load_protocol(
    source: str | os.PathLike[str] | Mapping[str, Any] | AnyProtocol,
    set: str | None = None,  # noqa: A002 - as the key of protocols
) -> AnyProtocol:
    """Read and check a recording protocol.

    Parameters
    ----------
    source : path or mapping
        A YAML file, in which relative paths are relative to the file and ``${VAR}`` is taken from the environment; or
        the same content as a mapping, with paths relative to the working directory.
    set : str, optional
        Of a protocol with several sets of alterations, the one that is run: only its alterations are left. By default
        the one that the protocol names by ``treatment.set``, if any.

    Returns
    -------
    Protocol or AnimalProtocol
        The latter where the subject is a recording.

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
    if isinstance(source, Protocol | AnimalProtocol):
        found: AnyProtocol = source
    elif isinstance(source, Mapping):
        found = _validate(dict(source), _Marks(""), Path.cwd())
    else:
        found = _read(Path(source))
    if isinstance(found, Protocol):
        return choose_set(found, set)
    if set is not None:
        wrong = f"set {shown(set)} asked for, and a recording has no sets of alterations; leave it out"
        raise ProtocolError([Problem(wrong)], found.places.file or "<protocol>")
    return found


def protocol_schema() -> dict[str, Any]:
    """JSON schema of protocols, of networks and of recordings."""
    return TypeAdapter(AnyProtocol).json_schema()


def _read(path: Path) -> AnyProtocol:
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError:
        raise ProtocolError([Problem("no such file")], str(path)) from None
    except OSError as error:
        raise ProtocolError([Problem(f"cannot be read ({error.strerror}); expected a YAML file")], str(path)) from None
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode()
        wrong = f"not UTF-8: byte {error.object[error.start]:#04x} ({error.reason}); save the file as UTF-8"
        raise ProtocolError([Problem(wrong, *_end(before))], str(path)) from None
    marks = _Marks(str(path))
    value = marks.read(text)
    return _validate(value, marks, path.absolute().parent)


def _end(text: str) -> tuple[int, int]:
    """Line and column behind a text."""
    return text.count("\n") + 1, len(text) - text.rfind("\n")


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


def read_lesions(source: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> list[LesionSpec]:
    """Read one lesion or several, written as in ``subject: {lesion: …}``; paths are relative to the working directory.

    Raises
    ------
    ProtocolError
        With every problem.
    """
    try:
        return TypeAdapter(AnyLesions).validate_python(source, context={"base": Path.cwd()})
    except ValidationError as error:
        found = error.errors(include_url=False)
        for details in found:
            details["loc"] = ("subject", "lesion", *details["loc"])
        raise ProtocolError(list(_problems(found, Places(""))), "<lesion>") from None


class _Marks:
    """Plain values of a YAML text, with the place of every key and value."""

    def __init__(self, file: str) -> None:
        self.places = Places(file)
        self.problems: list[Problem] = []
        self._open: list[yaml.Node] = []
        self._n_values = 0

    def error(self, *problems: Problem) -> ProtocolError:
        """Error of these problems and of those that were found before."""
        return ProtocolError([*self.problems, *problems], self.places.file or "<protocol>")

    def read(self, text: str) -> Any:
        loader = None
        try:
            loader = _Loader(VARIABLE.sub(rf"${OPEN}\1{CLOSE}", text))
            node = loader.get_single_node()
            return None if node is None else self._value(loader, node, ())
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            where = (mark.line + 1, mark.column + 1) if mark else (0, 0)
            hint = next((hint for said, hint in HINTS.items() if said in str(error.problem)), "")
            raise self.error(Problem(f"not valid YAML: {error.problem}{hint}", *where)) from None
        except yaml.reader.ReaderError as error:
            wrong = f"not valid YAML: the control character #x{error.character:02x}; remove it"
            raise self.error(Problem(wrong, *_end(text[: error.position]))) from None
        except RecursionError:
            where = (loader.line + 1, loader.column + 1) if loader is not None else (0, 0)
            raise self.error(Problem("too many blocks or brackets within each other", *where)) from None

    def _value(self, loader: yaml.SafeLoader, node: yaml.Node, path: Path_) -> Any:
        place = (node.start_mark.line + 1, node.start_mark.column + 1)
        self.places.marks.setdefault(path, place)
        self._n_values += 1
        if self._n_values > MAX_VALUES:
            raise self.error(Problem(f"more than {MAX_VALUES:,} values, repeated ones included; write fewer", *place))
        if node in self._open:
            raise self.error(Problem("it holds itself, by an anchor and an alias", *place))
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
            value = loader.construct_object(node, deep=True)
            if isinstance(value, str) and HALF.search(value):
                raise ValueError
            return value
        except (ValueError, KeyError, AttributeError):  # of an explicit tag that the text does not fit
            kind = re.split("[:,]", node.tag)[-1]
            wrong = f"given {shown(str(node.value))}, which cannot be read as {KINDS.get(kind, kind)}"
            raise self.error(Problem(wrong, *place)) from None

    def _mapping(self, loader: yaml.SafeLoader, node: yaml.MappingNode, path: Path_) -> dict[Hashable, Any]:
        result: dict[Hashable, Any] = {}
        for key_node, value_node in node.value:
            place = (key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            key = self._scalar(loader, key_node, place)
            if isinstance(key, str):
                key = key.replace(OPEN, "{").replace(CLOSE, "}")
            elif path == PAIRS and isinstance(key, list) and all(isinstance(name, Hashable) for name in key):
                key = tuple(key)
            else:
                self.problems.append(Problem(f"given the key {shown(key)}, expected a word", *place))
                continue
            if key in result:
                first, _ = self.places.mark((*path, key))
                twice = f"key {shown(key)} is given twice (first in line {first}); keep one"
                self.problems.append(Problem(twice, *place))
                continue
            self.places.marks[(*path, key)] = place
            if path == PAIRS:  # errors tell of a pair by its number
                self.places.marks[(*path, len(result))] = place
            result[key] = self._value(loader, value_node, (*path, key))
        return result

    def _expand(self, text: str, place: tuple[int, int]) -> str:
        def value_of(match: re.Match[str]) -> str:
            name = match[1]
            found = os.environ.get(name)
            if found is None:
                wrong = "is not defined; set it, or write the path"
            elif HALF.search(found):
                wrong = f"is {shown(found)}, which is not UTF-8; set it anew, or write the path"
            else:
                return found
            self.problems.append(Problem(f"environment variable {name!r} {wrong}", *place))
            return ""

        return HIDDEN.sub(value_of, text)


def _validate(value: Any, marks: _Marks, base: Path) -> AnyProtocol:
    if not isinstance(value, dict):
        given = "an empty file" if value is None else f"{type(value).__name__}"
        raise marks.error(Problem(f"given {given}, expected a protocol that begins with `neuroprobe: 1`", 1, 1))
    kind: type[AnyProtocol] = AnimalProtocol if is_of_recording(value) else Protocol
    try:
        protocol = kind.model_validate(value, context={"base": base})
    except ValidationError as error:
        found = error.errors(include_url=False)
        raise marks.error(*_problems(found, marks.places, kind)) from None
    if marks.problems:
        raise marks.error()
    return protocol.at(marks.places)


def _problems(found: list[ErrorDetails], places: Places, kind: type[BaseModel] = Protocol) -> Iterator[Problem]:
    """Sentences for errors of pydantic's; a value that fits none of several forms gets one."""
    # a missing key has no place, and another block may have one of its name
    paths = [places.path(details["loc"][: -1 if details["type"] == "missing" else None]) for details in found]
    expected: dict[tuple[Path_, str], list[str]] = {}
    for details, path in zip(found, paths, strict=True):
        message = _sentence(details, path, kind)
        if message is not None:
            expected.setdefault((path, message), [])
        elif not any(len(other) > len(path) and other[: len(path)] == path for other in paths):
            # else it has another form, within which something is wrong
            where = ".".join(map(str, path or details["loc"])) or "protocol"
            given = f"{where}: given {shown(details['input'])}, expected "
            expected.setdefault((path, given), []).append(_expected(details, kind))
    for (path, message), forms in expected.items():
        yield Problem(message + " or ".join(dict.fromkeys(forms)), *places.mark(path))


def _sentence(details: ErrorDetails, path: Path_, kind: type[BaseModel]) -> str | None:
    """Sentence for an error; None if it says what is expected in place of a value."""
    loc, message = details["loc"], details.get("ctx", {}).get("message", details["msg"])
    match details["type"]:
        case "extra_forbidden":
            known = _known_keys(loc[:-1], kind)
            return f"unknown key {shown(loc[-1])}{closest(loc[-1], known)}; expected: {', '.join(known) or 'no keys'}"
        case "missing":
            within = ".".join(map(str, path or loc[:-1]))
            return f"missing key {str(loc[-1])!r}" + (f" in {within}" if within else "")
        case "protocol":
            return str(message)
        case _:
            return None


def _expected(details: ErrorDetails, kind: type[BaseModel]) -> str:
    """What pydantic expects in place of a value, and the closest match."""
    if details["type"] == "literal_error":
        words = str(details["ctx"]["expected"])
        return words + closest(details["input"], re.findall(r"'([^']*)'", words))
    if details["type"] == "model_type":
        return f"a block with the keys: {', '.join(_known_keys(details['loc'], kind))}"
    message = re.sub(r"^(List|String) should have (.*?)( after validation.*)?$", r"A \1 of \2", details["msg"])
    message = re.sub(r"^Input should be (greater|less)", r"a number \1", message).removeprefix("Input should be ")
    return message.replace("A List", "a list").replace("A String", "text").replace("a valid boolean", "true or false")


def _known_keys(loc: Path_, kind: type[BaseModel]) -> list[str]:
    """Keys that the block at a location of a protocol of a kind may have."""
    block: Any = kind
    for part in loc:
        if isinstance(part, str) and part in block.model_fields:
            block = _model_in(block.model_fields[part].annotation) or block
        elif part in IMAGE_SOURCES:
            block = IMAGE_SOURCES[str(part)]
        elif part in LESIONS:
            block = LESIONS[str(part)]
        elif part in ANALYSES:
            block = ANALYSES[str(part)]
    return [field.alias or name for name, field in block.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _model_in(argument)
        if found is not None:
            return found
    return None
