"""One alteration in a protocol: a name, a switch, and a law for each of its parameters."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError, ValidationError

from neuroprobe.design.laws import SYNTAX, Law
from neuroprobe.errors import RegistryError, closest

Number = int | float


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

    @model_validator(mode="before")
    @classmethod
    def _read(cls, value: Any, info: ValidationInfo) -> Any:
        """Sort the parameters from the fixed keys, and check each at its own place."""
        if isinstance(value, str):
            value = {"name": value}
        if not isinstance(value, dict) or "laws" in value or not isinstance(value.get("name"), str):
            return value
        from neuroprobe.stimuli.alterations import ALTERATIONS

        errors: list[InitErrorDetails] = []
        try:
            parameters = ALTERATIONS[value["name"]].parameters
        except RegistryError as error:
            _add(errors, ("name",), value["name"], str(error))
            raise ValidationError.from_exception_data(cls.__name__, errors) from None
        fixed = {key: item for key, item in value.items() if key in {"name", "as", "switch"}}
        laws = {name: parameter.law for name, parameter in parameters.items()}
        for key, item in value.items():
            if key in fixed:
                continue
            if key not in parameters:
                allowed = ["name", "as", "switch", *parameters]
                hint = f"unknown key {key!r}{closest(key, allowed)}; {value['name']} takes: {', '.join(allowed)}"
                _add(errors, (key,), item, hint)
                continue
            try:
                laws[key] = read_law(item)
            except ValueError as error:
                _add(errors, (key,), item, str(error))
                continue
            low, high = laws[key].support
            allowed_low, allowed_high = parameters[key].low, parameters[key].high
            if low < allowed_low or high > allowed_high:
                span = f"{low:g}" if low == high else f"{low:g} to {high:g}"
                message = f"{key} of {value['name']} lies between {allowed_low:g} and {allowed_high:g}, received {span}"
                _add(errors, (key,), item, message)
        switch = fixed.get("switch", "always")
        if isinstance(switch, bool) or not isinstance(switch, int | float | str):
            _add(errors, ("switch",), switch, "expected a probability between 0 and 1, or always")
        elif isinstance(switch, str) and switch != "always":
            _add(errors, ("switch",), switch, f"given {switch!r}, expected a probability between 0 and 1, or always")
        elif not isinstance(switch, str) and not 0 <= switch <= 1:
            _add(errors, ("switch",), switch, f"given {switch}, expected a probability between 0 and 1, or always")
        elif switch in {"always", 0, 1} and (switch == 0 or all(law.constant for law in laws.values())):
            message = (
                f"alteration {value['name']!r} is constant under `switch: {switch}`: it cannot explain any variance; "
                "give it a switch between 0 and 1, or a law to one of its parameters"
            )
            _add(errors, (), value, message)
        if errors:
            raise ValidationError.from_exception_data(cls.__name__, errors)
        return {**fixed, "laws": laws}

    @model_validator(mode="after")
    def _labelled(self) -> Self:
        if not self.label:
            object.__setattr__(self, "label", self.name)
        if not self.label.isidentifier():
            message = f"as: given {self.label!r}, expected letters, digits and underscores"
            raise PydanticCustomError("protocol", "{message}", {"message": message})
        return self


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
        return Law("constant", (float(value),))
    if not isinstance(value, dict):
        raise ValueError(f"given {value!r}, expected a number or a law: {'; '.join(SYNTAX.values())}")
    weights = value.get("weights", [])
    kinds = [key for key in value if key != "weights"]
    if len(kinds) != 1 or kinds[0] not in SYNTAX or kinds[0] == "constant":
        hint = closest(kinds[0], SYNTAX) if kinds else ""
        raise ValueError(
            f"given the law {', '.join(map(str, kinds)) or 'none'}{hint}, expected one of: {'; '.join(SYNTAX.values())}"
        )
    kind = kinds[0]
    if "weights" in value and kind != "choice":
        raise ValueError(f"weights belong to choice, not to {kind}")
    for what, numbers in ((kind, value[kind]), ("weights", weights)):
        if not isinstance(numbers, list) or not all(_is_number(number) for number in numbers):
            raise ValueError(f"{what}: given {numbers!r}, expected a list of numbers: {SYNTAX[kind]}")
    return Law(kind, tuple(map(float, value[kind])), tuple(map(float, weights)))


def _is_number(value: Any) -> bool:
    return isinstance(value, Number) and not isinstance(value, bool)
