"""Dependence between parameters of alterations: correlations of pairs, by the names that a protocol uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, GetJsonSchemaHandler

from neuroprobe import names
from neuroprobe.design.dependence import GaussianCopula
from neuroprobe.errors import shown, unknown_name
from neuroprobe.protocol.alteration import AlterationSpec
from neuroprobe.protocol.model import Model, problem, problem_at

PAIRS: Final = ("treatment", "dependence", "correlation")  # the block of a protocol whose keys are pairs of names
FORM: Final = "{[hue, saturation]: 0.6} or [{between: [hue, saturation], r: 0.6}]"


def _between(value: Any) -> Any:
    # a pair within a protocol is a list, and as a key in Python a tuple
    if not isinstance(value, list | tuple) or len(value) != 2 or not all(isinstance(name, str) for name in value):
        raise problem(f"given {shown(value)}, expected the names of two parameters, as in {FORM}")
    return list(value)


def _correlation(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1 < value < 1:
        raise problem(f"given the correlation {shown(value)}, expected a number between -1 and 1, both excluded")
    return float(value)


class Correlation(Model):
    """Correlation of the latent normal variables of two parameters."""

    between: Annotated[list[str], BeforeValidator(_between)]
    r: Annotated[float, BeforeValidator(_correlation)]


def _correlations(value: Any) -> Any:
    """Turn the short form into the long one, whose keys are words."""
    if not isinstance(value, list | Mapping) or not value:
        raise problem(f"given {shown(value)}, expected the correlations of pairs of parameters: {FORM}")
    if isinstance(value, Mapping):
        return [{"between": pair, "r": r} for pair, r in value.items()]
    return value


class DependenceSpec(Model):
    """How the parameters of the alterations depend on each other: a Gaussian copula."""

    correlation: Annotated[list[Correlation], BeforeValidator(_correlations)]

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Allow a mapping of pairs."""
        number = {"type": "number", "exclusiveMinimum": -1, "exclusiveMaximum": 1}
        schema = handler.resolve_ref_schema(handler(core_schema))
        correlation = schema["properties"]["correlation"]
        short = {"type": "object", "additionalProperties": number}
        schema["properties"]["correlation"] = {"anyOf": [short, correlation]}
        return schema

    def among(self, alterations: Sequence[AlterationSpec]) -> DependenceSpec | None:
        """Return the correlations between parameters of some alterations; None if there are none."""
        known = inputs_of(alterations)
        kept = [item for item in self.correlation if all(name in known for name in item.between)]
        return DependenceSpec(correlation=kept) if kept else None

    def copula(self, alterations: Sequence[AlterationSpec]) -> GaussianCopula:
        """Make the copula of some alterations.

        Raises
        ------
        ValidationError
            At the pair that names no varying parameter, the same twice, or a pair that is given before; or at all of
            them if no parameters can have these correlations.
        """
        known = inputs_of(alterations)
        pairs: dict[tuple[str, str], float] = {}
        for number, item in enumerate(self.correlation):
            one, other = sorted(known.get(name, "") for name in item.between)
            wrong = ""
            for name in item.between:
                if name in (names.IMAGE, names.ORDER):
                    wrong = (
                        f"the {name} has no scale along which it could be correlated: name parameters of alterations"
                    )
                elif name not in known:
                    wrong = unknown_name("parameter", name, known)
            if not wrong and one == other:
                wrong = f"given {shown(item.between)}, which both are {one}: name two parameters"
            if not wrong and (one, other) in pairs:
                wrong = f"the correlation of {one} and {other} is given twice; keep one"
            if wrong:
                raise problem_at(("dependence", "correlation", number), wrong, item)
            pairs[one, other] = item.r
        try:
            return GaussianCopula.of_pairs(pairs)
        except ValueError as error:
            raise problem_at(("dependence", "correlation"), str(error), self.correlation) from None


def inputs_of(alterations: Sequence[AlterationSpec]) -> dict[str, str]:
    """Names that stand for varying inputs of some alterations, with the coordinates of these.

    The coordinates themselves; and the name of an alteration with one varying parameter, or with none and a switch.
    """
    short: dict[str, str] = {}
    coordinates: dict[str, str] = {}
    for item in alterations:
        switch, parameters = varying_inputs(item)
        if len(parameters or switch) == 1:
            short[item.label] = (parameters or switch)[0]
        coordinates |= {name: name for name in (*switch, *parameters)}
    return short | coordinates


def varying_inputs(item: AlterationSpec) -> tuple[list[str], list[str]]:
    """Coordinates of an alteration that vary: its switch, and its parameters."""
    switch = [names.switch(item.label)] if item.switch not in ("always", 0, 1) else []
    return switch, [names.parameter(item.label, name) for name, law in item.laws.items() if not law.constant]
