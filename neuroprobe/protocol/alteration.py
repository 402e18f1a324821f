"""One alteration in a protocol: a name, a switch, and a law for each of its parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, model_serializer, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError, ValidationError

from neuroprobe.design.laws import SYNTAX, Law
from neuroprobe.errors import closest, shown, unknown_name

Number = int | float
FIXED = ("name", "as", "switch")
OWN = "; one of your own is registered by the program that runs the protocol, or by an entry point of a package"


class AlterationSpec(BaseModel):
    """An alteration of the treatment.

    Attributes
    ----------
    name : str
        Name of the alteration in the registry.
    label : str
        Name of the factor; the same unless the protocol gives another by ``as``.
    switch : float or "always"
        Probability that the alteration is applied.
    laws : dict of Law
        Of every parameter; those that the protocol does not give are the alteration's own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    name: str
    label: str = Field(alias="as", default="")
    switch: Annotated[float, Field(ge=0, le=1)] | Literal["always"] = "always"
    laws: dict[str, Law] = {}

    @model_serializer
    def _as_written(self) -> dict[str, Any]:
        """Write an alteration as a protocol does."""
        from neuroprobe.stimuli.alterations import ALTERATIONS

        words = {name: parameter.words for name, parameter in ALTERATIONS[self.name].parameters.items()}
        laws = {name: write_law(law, words[name]) for name, law in self.laws.items()}
        return {"name": self.name, "as": self.label, "switch": self.switch, **laws}

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Describe what a protocol may write: one form per registered alteration."""
        from neuroprobe.stimuli.alterations import ALTERATIONS

        bare = {"enum": list(ALTERATIONS)}
        return {"oneOf": [bare, *(_json_schema(name, ALTERATIONS[name].parameters) for name in ALTERATIONS)]}

    @model_validator(mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        """Sort the parameters from the fixed keys, and check each at its own place."""
        if isinstance(value, str):
            value = {"name": value}
        if isinstance(value, AlterationSpec):
            return value
        if not isinstance(value, dict):
            message = f"given {shown(value)}, expected an alteration: its name, or {{name: …, switch: …}}"
            raise PydanticCustomError("protocol", "{message}", {"message": message})
        from neuroprobe.stimuli.alterations import ALTERATIONS

        errors: list[InitErrorDetails] = []
        name = value.get("name")
        if not isinstance(name, str):
            _add(
                errors,
                ("name",),
                value,
                "missing key 'name'" if name is None else f"name: given {shown(name)}, expected a word",
            )
        elif name not in ALTERATIONS:
            _add(errors, ("name",), name, unknown_name("alteration", name, ALTERATIONS) + OWN)
        else:
            laws = _read_laws(value, ALTERATIONS[name].parameters, errors)
            _check_switch(value, errors)
        if errors:
            raise ValidationError.from_exception_data(cls.__name__, errors)
        return {**{key: item for key, item in value.items() if key in FIXED}, "laws": laws}

    @property
    def constant(self) -> bool:
        """Whether it is the same in all presentations, and so explains no variance."""
        return self.switch == 0 or (self.switch in ("always", 1) and all(law.constant for law in self.laws.values()))

    @model_validator(mode="after")
    def _labelled(self) -> Self:
        if not self.label:
            object.__setattr__(self, "label", self.name)
        if not self.label.isidentifier():
            message = f"as: given {shown(self.label)}, expected letters, digits and underscores"
            raise PydanticCustomError("protocol", "{message}", {"message": message})
        return self


def _read_laws(value: dict[str, Any], parameters: Mapping[str, Any], errors: list[InitErrorDetails]) -> dict[str, Law]:
    """Laws of all parameters of an alteration, the given ones in place of its own."""
    laws = {name: parameter.law for name, parameter in parameters.items()}
    for key, item in value.items():
        if key in FIXED:
            continue
        if key not in parameters:
            allowed = [*FIXED, *parameters]
            hint = f"unknown key {key!r}{closest(key, allowed)}; {value['name']} takes: {', '.join(allowed)}"
            _add(errors, (key,), item, hint)
            continue
        parameter = parameters[key]
        try:
            laws[key] = read_words(item, parameter.words) if parameter.words else read_law(item)
        except ValueError as error:
            _add(errors, (key,), item, str(error))
            continue
        low, high = laws[key].support
        if low < parameter.low or high > parameter.high:
            span = f"{low:g}" if low == high else f"{low:g} to {high:g}"
            allowed_span = f"between {parameter.low:g} and {parameter.high:g}"
            _add(errors, (key,), item, f"{key} of {value['name']} lies {allowed_span}, received {span}")
    return laws


def _check_switch(value: dict[str, Any], errors: list[InitErrorDetails]) -> None:
    switch = value.get("switch", "always")
    if switch != "always" and not (_is_number(switch) and 0 <= switch <= 1):
        _add(errors, ("switch",), switch, f"given {shown(switch)}, expected a probability between 0 and 1, or always")


def _json_schema(name: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """JSON schema of one alteration in a protocol."""
    numbers = {"type": "array", "items": {"type": "number"}}
    law = {
        "type": "object",
        "properties": {kind: numbers for kind in (*SYNTAX, "weights") if kind != "constant"},
        "additionalProperties": False,
    }

    def either(parameter: Any) -> list[dict[str, Any]]:
        if not parameter.words:
            return [{"type": "number"}, law]
        # false and true are 0 and 1 to Python, and no others to JSON
        word = {"enum": [*parameter.words, *(int(word) for word in parameter.words if isinstance(word, bool))]}
        several = {"choice": {"type": "array", "items": word}, "weights": numbers}
        return [word, {"type": "object", "properties": several, "required": ["choice"], "additionalProperties": False}]

    return {
        "type": "object",
        "properties": {
            "name": {"const": name},
            "as": {"type": "string"},
            "switch": {"anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, {"const": "always"}]},
            **{key: {"anyOf": either(parameter)} for key, parameter in parameters.items()},
        },
        "required": ["name"],
        "additionalProperties": False,
    }


def _add(errors: list[InitErrorDetails], loc: tuple[str, ...], value: Any, message: str) -> None:
    kind = PydanticCustomError("protocol", "{message}", {"message": message})
    errors.append(InitErrorDetails(type=kind, loc=loc, input=value))


def read_law(value: Any) -> Law:
    """Read a law as a protocol writes it.

    Raises
    ------
    ValueError
        Saying what was received and what is expected.

    Examples
    --------
    >>> read_law({"uniform": [0, 2]})
    Law(kind='uniform', arguments=(0.0, 2.0), weights=())
    >>> read_law(0.5).constant
    True
    """
    if isinstance(value, Law):
        return value
    if isinstance(value, Number) and not isinstance(value, bool):
        return Law("constant", (_real(value),))
    if not isinstance(value, dict):
        raise ValueError(f"given {shown(value)}, expected a number or a law: {'; '.join(SYNTAX.values())}")
    weights = value.get("weights", [])
    kinds = [key for key in value if key != "weights"]
    if len(kinds) != 1 or kinds[0] not in SYNTAX or kinds[0] == "constant":
        hint = closest(kinds[0], SYNTAX) if len(kinds) == 1 else ""
        raise ValueError(
            f"given the law {', '.join(map(str, kinds)) or 'none'}{hint}, expected one of: {'; '.join(SYNTAX.values())}"
        )
    kind = kinds[0]
    if "weights" in value and kind != "choice":
        raise ValueError(f"weights belong to choice, not to {kind}")
    for what, numbers in ((kind, value[kind]), ("weights", weights)):
        if not isinstance(numbers, list) or not all(_is_number(number) for number in numbers):
            raise ValueError(f"{what}: given {shown(numbers)}, expected a list of numbers: {SYNTAX[kind]}")
    return Law(kind, tuple(map(_real, value[kind])), tuple(map(_real, weights)))


def read_words(value: Any, words: Sequence[str | bool]) -> Law:
    """Read the law of a parameter whose values are words, as a protocol writes it: a word, or a choice between some.

    Raises
    ------
    ValueError
        Saying what was received and what is expected.

    Examples
    --------
    >>> read_words(True, (False, True))
    Law(kind='constant', arguments=(1.0,), weights=())
    >>> read_words({"choice": ["clip", "skip"], "weights": [3, 1]}, ("clip", "skip"))
    Law(kind='choice', arguments=(0.0, 1.0), weights=(3.0, 1.0))
    """
    is_choice = isinstance(value, dict) and isinstance(value.get("choice"), list)
    chosen = value["choice"] if is_choice else [value]
    if not all(isinstance(word, str | Number) and word in words for word in chosen):
        listed = ", ".join(map(spelled, words))
        hint = next((hint for word in chosen if (hint := closest(word, list(map(spelled, words))))), "")
        raise ValueError(f"given {shown(value)}{hint}, expected {listed}, or {{choice: [{listed}], weights: [w, …]}}")
    numbers = [words.index(word) for word in chosen]
    return read_law({**value, "choice": numbers} if is_choice else numbers[0])


def spelled(word: str | bool) -> str:
    """Write a word as YAML does."""
    return str(word).lower() if isinstance(word, bool) else word


def write_law(law: Law, words: Sequence[str | bool] = ()) -> Any:
    """Write a law as a protocol does; `read_law`, or `read_words` of the same words, reads it back."""
    values = [words[int(value)] if words else value for value in law.arguments]
    if law.kind == "constant":
        return values[0]
    weights = {"weights": list(law.weights)} if law.weights else {}
    return {law.kind: values, **weights}


def _real(number: float) -> float:
    """Float, infinite for an integer that is larger than any."""
    try:
        return float(number)
    except OverflowError:
        return math.inf


def _is_number(value: Any) -> bool:
    return isinstance(value, Number) and not isinstance(value, bool)
