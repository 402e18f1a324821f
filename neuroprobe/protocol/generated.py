"""Generated stimuli in a protocol: generators with values of their settings, of which all combinations are shown."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, PositiveFloat, WithJsonSchema
from pydantic_core import InitErrorDetails, ValidationError

from neuroprobe.errors import closest, shown, unknown_name
from neuroprobe.protocol.model import Model, problem

Value = float | str
Levels = list[Value]
Place = tuple[str, ...]
MAX_LEVELS: Final = 100_000  # of a setting, and of all combinations
TOLERANCE: Final = 1e-9  # of a step
RANGES: Final = (("from", "to", "step"), ("from", "to", "n"), ("from", "to", "n", "spacing"))
SYNTAX: Final = (
    "a value, a list of values, {from: 0, to: 165, step: 15}, or {from: 0.5, to: 8, n: 5, spacing: log} "
    "(or linear, which is the default)"
)
OWN: Final = "; one of your own is registered by the program that runs the protocol, or by an entry point of a package"
NUMBERS: Final = {"type": "array", "items": {"type": ["number", "string"]}, "minItems": 1}
SCHEMA: Final = {
    "type": "object",
    "minProperties": 1,
    "additionalProperties": {
        "type": "object",
        "additionalProperties": {
            "anyOf": [
                {"type": ["number", "string"]},
                NUMBERS,
                {
                    "type": "object",
                    "properties": {
                        **{key: {"type": "number"} for key in ("from", "to", "step", "n")},
                        "spacing": {"enum": ["linear", "log"]},
                    },
                    "required": ["from", "to"],
                    "additionalProperties": False,
                },
            ]
        },
    },
}


class ScreenSpec(Model):
    """How large images are seen: the visual angle of their shorter side."""

    degrees: PositiveFloat


def _screen(value: Any) -> Any:
    if value == "pixels" or isinstance(value, dict | ScreenSpec):
        return value
    raise problem(f"screen: given {shown(value)}{closest(value, ['pixels'])}, expected pixels, or {{degrees: 8}}")


AnyScreen = Annotated[Literal["pixels"] | ScreenSpec, BeforeValidator(_screen)]


def _generated(value: Any) -> Any:
    """Read generators with the levels of their settings, each with an error at its own place."""
    from neuroprobe.stimuli.generators import GENERATORS

    if not isinstance(value, dict) or not value:
        raise problem(f"generated: given {shown(value)}, expected generators: {{grating: {{orientation: [0, 90]}}}}")
    found: dict[str, dict[str, Levels]] = {}
    errors = []
    for name, settings in value.items():
        if name not in GENERATORS:
            errors.append(_error((name,), unknown_name("generator", name, GENERATORS) + OWN, settings))
            continue
        known, found[name] = GENERATORS[name].settings, {}
        if not isinstance(settings, dict):
            if settings is not None:
                message = f"{name}: given {shown(settings)}, expected settings: {', '.join(known)}"
                errors.append(_error((name,), message, settings))
            continue
        for key, given in settings.items():
            if key not in known:
                message = f"unknown key {shown(key)}{closest(key, known)}; {name} takes: {', '.join(known)}"
                errors.append(_error((name, key), message, given))
                continue
            try:
                found[name][key] = read_levels(given, known[key])
            except ValueError as error:
                errors.append(_error((name, key), f"{key} of {name}: {error}", given))
    if errors:
        raise ValidationError.from_exception_data("Generated", errors)
    return found


def _error(loc: Place, message: str, value: Any) -> InitErrorDetails:
    return InitErrorDetails(type=problem(message), loc=loc, input=value)


def read_levels(value: Any, setting: Any) -> Levels:
    """Read the values of a setting as a protocol writes them.

    Parameters
    ----------
    value : number, word, list, or mapping
    setting : Setting

    Raises
    ------
    ValueError
        Saying what was received and what is expected.

    Examples
    --------
    >>> from neuroprobe.stimuli.generators import Setting
    >>> read_levels({"from": 0, "to": 165, "step": 55}, Setting(0.0, "angle"))
    [0.0, 55.0, 110.0, 165.0]
    >>> read_levels({"from": 1, "to": 4, "n": 3, "spacing": "log"}, Setting(4.0, "frequency"))
    [1.0, 2.0, 4.0]
    """
    levels = value if isinstance(value, list) else [value]
    if isinstance(value, dict):
        levels = _range(value)
    if not levels:
        raise ValueError(f"given no value, expected {SYNTAX}")
    found: Levels = []
    for level in levels:
        if setting.words:
            if level not in setting.words:
                hint = closest(level, setting.words)
                raise ValueError(f"given {shown(level)}{hint}, expected {' or '.join(setting.words)}")
            found.append(level)
            continue
        if isinstance(level, bool) or not isinstance(level, int | float) or not math.isfinite(level):
            raise ValueError(f"given {shown(level)}, expected {SYNTAX}")
        complaint = setting.complaint(float(level))
        if complaint:
            raise ValueError(f"it {complaint}")
        found.append(float(level) + 0.0)  # -0 is 0
    if len(set(found)) < len(found):
        twice = next(one for one in found if found.count(one) > 1)
        raise ValueError(f"{shown(twice)} is listed twice; show all stimuli repeatedly by `repeats`")
    return found


def _range(given: Mapping[str, Any]) -> list[float]:
    """Values from one to another."""
    if tuple(sorted(given)) not in {tuple(sorted(keys)) for keys in RANGES}:
        raise ValueError(f"given {shown(dict(given))}, expected {SYNTAX}")
    numbers = [given[key] for key in ("from", "to", "step", "n") if key in given]
    if not all(isinstance(one, int | float) and not isinstance(one, bool) and math.isfinite(one) for one in numbers):
        raise ValueError(f"given {shown(dict(given))}, expected numbers: {SYNTAX}")
    low, high, spacing = given["from"], given["to"], given.get("spacing", "linear")
    if "step" in given:
        step = given["step"]
        n_steps = (high - low) / step if step else -1.0
        if n_steps < 0 or abs(n_steps - round(n_steps)) > TOLERANCE * max(1.0, n_steps):
            raise ValueError(f"steps of {step:g} do not lead from {low:g} to {high:g}: give others, or `n`")
        n = round(n_steps) + 1
    else:
        n = given["n"]
        if n != int(n) or n < 2:
            raise ValueError(f"n is a whole number from 2, received {n:g}")
    if n > MAX_LEVELS:
        raise ValueError(f"{n:,} values, expected at most {MAX_LEVELS:,}")
    if spacing not in ("linear", "log") or (spacing == "log" and not (low > 0 and high > 0)):
        raise ValueError(f"spacing is linear, or log between numbers above 0; received {shown(dict(given))}")
    # rounded, so that 0.1 + 2 × 0.1 is 0.3
    share = [number / (int(n) - 1) if n > 1 else 0.0 for number in range(int(n))]
    values = [low * (high / low) ** s if spacing == "log" else low + (high - low) * s for s in share]
    return [float(f"{one:.12g}") for one in values]


def n_stimuli(generators: Mapping[str, Mapping[str, Levels]]) -> int:
    """Combinations of values, images that are scrambled apart."""
    return sum(math.prod(map(len, settings.values())) for settings in generators.values())


def _countable(generators: dict[str, dict[str, Levels]]) -> dict[str, dict[str, Levels]]:
    if n_stimuli(generators) > MAX_LEVELS:
        raise problem(
            f"generated: {n_stimuli(generators):,} combinations, expected at most {MAX_LEVELS:,}: give fewer values"
        )
    return generators


AnyGenerators = Annotated[
    dict[str, dict[str, Levels]], BeforeValidator(_generated), AfterValidator(_countable), WithJsonSchema(SCHEMA)
]


def complaints(
    generators: Mapping[str, Mapping[str, Levels]], size: tuple[int, int], degrees: float | None
) -> Iterator[tuple[Place, str]]:
    """Places and sentences of what cannot be shown on a screen.

    Parameters
    ----------
    size : (int, int)
        Height and width of images, px.
    degrees : float or None
        Visual angle of the shorter side.
    """
    from neuroprobe.stimuli.generators import GENERATORS, Screen

    screen = Screen(*size, degrees)
    for name, settings in generators.items():
        for key, setting in GENERATORS[name].settings.items():
            for level in settings.get(key, [setting.default_on(screen)]):
                if isinstance(level, str) or math.isnan(level) or setting.words:
                    continue
                complaint = setting.complaint(level, screen)
                if complaint:
                    yield (name, key) if key in settings else (name,), f"{key} of {name} {complaint}"
                    break
