"""Masking studies in a protocol: lesions by the maps of many factors and by many rules, and what they do to outcomes.

Guided masking and single-class sensitivity of Kharyuk et al. 2025 (arXiv 2503.03283), series 2.
"""

from __future__ import annotations

from collections import Counter
from itertools import product
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    NonNegativeInt,
    PositiveInt,
    TypeAdapter,
    model_validator,
)

from neuroprobe.design.treatment_control import MAX_DRAWS
from neuroprobe.errors import closest, shown
from neuroprobe.protocol.lesion import BY_REST, BY_SENSITIVITY, Layers, MapsSpec, RuleSpec
from neuroprobe.protocol.model import Model, problem, problem_at, short_form
from neuroprobe.statistics.paired import CORRECTIONS

MAX_RESAMPLES: Final = 1 << 14  # of images; numbers of draws of a function of the image
# the study's rules
QUANTILES: Final = (0.5, 0.6, 0.7, 0.8, 0.9)
MULTIPLIERS: Final = (0.0, 0.5, 1.5)
STUDY: Final = "study"


def rule_label(rule: RuleSpec) -> str:
    """Name of a rule in results.

    Examples
    --------
    >>> rule_label(RuleSpec(quantile=0.9, multiply=0.0)), rule_label(RuleSpec(multiply="1 - s"))
    ('q0.9 x0', 'x 1-s')
    """
    if isinstance(rule.multiply, str):
        return f"x {rule.multiply.replace(' ', '')}"
    return f"q{rule.quantile:g} x{rule.multiply:g}"


def _each(value: Any) -> Any:
    """Rules that a block stands for, with a label each: of keys that hold lists, every item with every other."""
    if not isinstance(value, dict):
        return {"rule 1": value}
    # whatever the order of the keys is, that of the rules is one
    known = list(RuleSpec.model_fields)
    in_order = sorted(value, key=lambda key: known.index(key) if key in known else len(known))
    lists = {key: value[key] for key in in_order if isinstance(value[key], list)}
    for key, item in lists.items():
        if not item:
            raise problem_at((key,), f"{key}: given an empty list, expected one value or several", item)
    rules = [{**value, **dict(zip(lists, items, strict=True))} for items in product(*lists.values())]
    return {f"rule {number}": rule for number, rule in enumerate(rules, 1)}


# labels, unlike numbers, cannot be mistaken for places in the list of blocks, where errors are told
_BLOCKS: Final = TypeAdapter(list[Annotated[dict[str, RuleSpec], BeforeValidator(_each)]])


def _spread(value: Any) -> Any:
    """Write out rules of which a key holds a list; ``study`` for the study's."""
    if value == STUDY:
        grid = {"quantile": list(QUANTILES), "multiply": list(MULTIPLIERS)}
        value = [grid, {"multiply": [BY_SENSITIVITY, BY_REST]}]
    if isinstance(value, dict | RuleSpec):
        value = [value]
    if not isinstance(value, list):
        hint = closest(value, (STUDY,))
        raise problem(f"rules: given {shown(value)}{hint}, expected {STUDY}, or [{{quantile: …, multiply: …}}, …]")
    return [rule for block in _BLOCKS.validate_python(value) for rule in block.values()]


def _once(rules: list[RuleSpec]) -> list[RuleSpec]:
    twice = [label for label, n in Counter(map(rule_label, rules)).items() if n > 1]
    if twice:
        raise problem(f"rules listed twice: {', '.join(twice)}; list each once")
    return rules


Rules = Annotated[
    list[RuleSpec],
    Field(min_length=1),
    BeforeValidator(_spread, json_schema_input_type=Literal["study"] | dict[str, Any] | list[dict[str, Any]]),
    AfterValidator(_once),
]


class MapsOfFactors(MapsSpec):
    """Maps of several factors in a result.

    Attributes
    ----------
    factors : list of str, optional
        By default those that are alterations of the protocol.
    """

    factors: Annotated[list[str], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        twice = [factor for factor, n in Counter(self.factors or ()).items() if n > 1]
        if twice:
            raise problem_at(("factors",), f"factors listed twice: {', '.join(twice)}", self.factors)
        return self


class PlaceSpec(Model):
    """Layers that are lesioned together.

    Attributes
    ----------
    layers : list of str
    rules, random, controls : optional
        As those of the study, in the place of these.
    """

    layers: Layers
    rules: Rules | None = None
    random: NonNegativeInt | None = None
    controls: NonNegativeInt | None = None

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Allow a bare list of layers."""
        return short_form(core_schema, handler, {"type": "array", "items": {"type": "string"}})

    @model_validator(mode="before")
    @classmethod
    def _from_layers(cls, value: Any) -> Any:
        if not isinstance(value, list | dict | PlaceSpec):
            raise problem(f"given {shown(value)}, expected layers that are lesioned together: [layer, …]")
        return {"layers": value} if isinstance(value, list) else value

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        twice = [layer for layer, n in Counter(self.layers).items() if n > 1]
        if twice:
            raise problem_at(("layers",), f"layers listed twice: {', '.join(twice)}", self.layers)
        return self

    @property
    def name(self) -> str:
        """What results call it."""
        return "+".join(self.layers)


class LesionStudyOptions(Model):
    """What studies of lesions by maps have in common.

    Attributes
    ----------
    maps : list of MapsOfFactors
        Results whose maps make the masks.
    at : list of PlaceSpec, optional
        Layers that are lesioned together; by default all layers of the protocol that have maps, as one place.
    rules : list of RuleSpec
        A key of a rule may hold a list, of which each is taken; ``study`` for those of the study.
    headline : RuleSpec
        The rule under which questions are answered in one number each.
    draws : int
        Draws of each alteration for each image.
    classes : list of str, optional
        Class of each output, as of a contrast.
    """

    maps: Annotated[list[MapsOfFactors], Field(min_length=1)]
    at: Annotated[list[PlaceSpec], Field(min_length=1)] | None = None
    rules: Rules = Field(default=STUDY, validate_default=True)
    headline: RuleSpec = RuleSpec(quantile=0.9, multiply=0.0)
    draws: Annotated[int, Field(ge=1, le=MAX_DRAWS)] = 1
    correction: Literal[CORRECTIONS] = "fdr_bh"  # type: ignore[valid-type]  # a tuple of words
    classes: Annotated[list[str], Field(min_length=2)] | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if isinstance(self.headline.multiply, str):
            message = "headline: expected a rule with a quantile, of which random masks of equal size can be made"
            raise problem_at(("headline",), message, self.headline)
        for number, place in enumerate(self.at or [None]):
            if self.headline not in (self.rules if place is None else self.rules_at(place)):
                message = (
                    f"headline: {rule_label(self.headline)} is not among the rules"
                    f"{'' if place is None else f' of {place.name}'}: list it there, or take one of them"
                )
                own = place is not None and place.rules is not None
                raise problem_at(("at", number, "rules") if own else ("headline",), message, self.headline)
        places = ["+".join(sorted(place.layers)) for place in self.at or ()]
        for number, place in enumerate(self.at or ()):
            if places[number] in places[:number]:
                message = f"at: listed twice: {place.name}, in whatever order; list each place once"
                raise problem_at(("at", number), message, place.layers)
        return self

    def rules_at(self, place: PlaceSpec) -> list[RuleSpec]:
        """Rules that are applied at a place."""
        return self.rules if place.rules is None else place.rules


class MaskingOptions(LesionStudyOptions):
    """Guided masking: accuracies under each alteration with units masked by the maps of each factor.

    Attributes
    ----------
    random : int
        Random masks of equal size by the headline's rule.
    controls : int
        Random masks by each other rule with the headline's multiplier.
    bootstrap : int
        Resamples of the images, for intervals of what is derived from accuracies.
    """

    random: NonNegativeInt = 199
    controls: NonNegativeInt = 19
    bootstrap: Annotated[int, Field(ge=40, le=MAX_RESAMPLES)] = 200

    def n_random(self, place: PlaceSpec) -> dict[RuleSpec, int]:
        """Random masks by each rule at a place."""
        random = self.random if place.random is None else place.random
        controls = self.controls if place.controls is None else place.controls
        rules = [rule for rule in self.rules_at(place) if rule.multiply == self.headline.multiply]
        return {rule: random if rule == self.headline else controls for rule in rules}


class SingleClassOptions(LesionStudyOptions):
    """Single-class sensitivity: whether lesions push predictions to the classes most sensitive to a factor.

    Attributes
    ----------
    layer : str, optional
        Of the maps, whose units stand for the classes; by default the last one with as many units as outputs.
    k : int
        Sensitive classes of each factor, and largest outputs that they are compared with.
    permutations : int
        Sets of classes drawn at random, with which the sensitive ones are compared.
    """

    layer: str | None = None
    k: PositiveInt = 5
    permutations: Annotated[int, Field(ge=99, le=1 << 16)] = 999
