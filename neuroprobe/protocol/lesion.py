"""Lesions in a protocol: units whose responses are multiplied while the network is recorded."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    NonNegativeInt,
    Tag,
    ValidationInfo,
    model_validator,
)

from neuroprobe.analysis.query import parse_query
from neuroprobe.errors import QueryError, closest, shown
from neuroprobe.protocol.model import Model, RelativePath, problem, problem_at, resolve

BY_SENSITIVITY, BY_REST = "s", "1 - s"  # a unit's sensitivity in [0, 1], and what it leaves of 1


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _changes(value: float) -> float:
    if value == 1:
        raise problem("multiply: given 1, which leaves responses as they are; expected another number")
    return value


def _multiply(value: Any) -> Any:
    if _is_number(value):
        return _changes(value)  # before it is tried as a word
    words = {word.replace(" ", ""): word for word in (BY_SENSITIVITY, BY_REST)}
    if isinstance(value, str) and value.replace(" ", "") in words:
        return words[value.replace(" ", "")]
    raise problem(
        f"multiply: given {shown(value)}, expected a number, {BY_SENSITIVITY} for a unit's own sensitivity, or "
        f"{BY_REST}"
    )


def _array(value: str, info: ValidationInfo) -> str:
    if not value.endswith(".npz"):
        raise problem(f"given {shown(value)}, expected a path that ends in .npz, of one array per layer")
    return resolve(value, info)


def _query(value: str) -> str:
    try:
        parse_query(value)
    except QueryError as error:
        raise problem(f"units: {error}") from None
    return value


Factor_ = Annotated[float, AfterValidator(_changes)]
Layers = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]


class RuleSpec(Model):
    """What a map of sensitivities s does to the units of a layer.

    Attributes
    ----------
    quantile : float, optional
        Units with s at or above this quantile of the layer are multiplied: exactly the share 1 - quantile.
    multiply : float or str
        By what: a number for those units; or, without a quantile, ``s`` or ``1 - s`` for all units.
    """

    quantile: Annotated[float, Field(gt=0, lt=1)] | None = None
    multiply: Annotated[Literal["s", "1 - s"] | Factor_, BeforeValidator(_multiply)] = 0.0

    @model_validator(mode="after")
    def _whole(self) -> Self:
        soft = isinstance(self.multiply, str)
        if soft and self.quantile is not None:
            message = f"quantile: does not go with `multiply: {self.multiply}`, which concerns all units: leave one out"
            raise problem_at(("quantile",), message, self.quantile)
        if not soft and self.quantile is None:
            message = (
                "rule: expected {quantile: 0.9, multiply: 0}, or one without quantile: {multiply: s} or "
                "{multiply: 1 - s}"
            )
            raise problem_at((), message, self.multiply)
        return self


class MapsSpec(Model):
    """Maps of sensitivities in a result of the same network.

    Attributes
    ----------
    result : str
        Path of the result, written as ``from``.
    analysis : str
    value : str, optional
        Which of Sobol's indices.
    any_network : bool
        Whether the result may be of another network, or of other weights.
    """

    result: RelativePath = Field(alias="from")
    analysis: Literal["sobol", "shapley"]
    value: Literal["first_order", "total_order"] | None = None
    any_network: bool = False

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.analysis == "sobol" and self.value is None:
            message = "analysis: sobol gives two maps: say which by `value: first_order` or `value: total_order`"
            raise problem_at(("analysis",), message, self.analysis)
        if self.analysis == "shapley" and self.value is not None:
            raise problem_at(("value",), "value: goes with `analysis: sobol` only: leave it out", self.value)
        return self


class MapLesion(MapsSpec):
    """Units by how sensitive they are to a factor, in a result of the same network.

    Attributes
    ----------
    result, analysis, value, any_network
        As of `MapsSpec`.
    factor : str
    rule : RuleSpec
    layers : list of str, optional
        By default all layers that the result holds.
    """

    factor: Annotated[str, Field(min_length=1)]
    rule: RuleSpec
    layers: Layers | None = None


class UnitsLesion(Model):
    """Units by a query: over their places in the network, or over the columns of a result.

    Attributes
    ----------
    units : str
        In the language of `neuroprobe.analysis.query`.
    result : str, optional
        Path of the result, written as ``from``.
    multiply : float
    layers : list of str, optional
        By default all layers of the result, or of the network.
    any_network : bool
        As of `MapLesion`.
    """

    units: Annotated[str, AfterValidator(_query)]
    result: RelativePath | None = Field(default=None, alias="from")
    multiply: Factor_ = 0.0
    layers: Layers | None = None
    any_network: bool = False


class ArrayLesion(Model):
    """Masks in a file of NumPy's (.npz): one array per layer, called as the layer."""

    array: Annotated[str, AfterValidator(_array)]


class RandomShare(Model):
    """Which share of the units of each layer, drawn by a seed of its own."""

    share: Annotated[float, Field(gt=0, le=1)]
    seed: NonNegativeInt = 0


class RandomLesion(Model):
    """Units at random, the same share of each layer."""

    random: RandomShare
    layers: Layers
    multiply: Factor_ = 0.0


LesionSpec = MapLesion | UnitsLesion | ArrayLesion | RandomLesion
# label of the form in errors → its model; the key that tells it is the first one of these that is given
LESIONS: Final[dict[str, type[Model]]] = {
    "lesion by units": UnitsLesion,
    "lesion by array": ArrayLesion,
    "lesion by random": RandomLesion,
    "lesion by from": MapLesion,
}
KEYS: Final = {label.split()[-1]: label for label in LESIONS}


def _kind(value: Any) -> str:
    if isinstance(value, Model):
        return next(label for label, model in LESIONS.items() if isinstance(value, model))
    return next(label for key, label in KEYS.items() if key in value)


def _known(value: Any) -> Any:
    """Refuse what is no lesion, naming the closest key."""
    if isinstance(value, Model) or (isinstance(value, dict) and any(key in value for key in KEYS)):
        return value
    given = list(value) if isinstance(value, dict) and value else [value]
    hint = next((hint for key in given if (hint := closest(key, KEYS))), "")
    raise problem(
        f"lesion: given {', '.join(map(shown, given))}{hint}, expected a block with one of the keys: {', '.join(KEYS)}"
    )


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


_OneLesion = Annotated[
    Annotated[UnitsLesion, Tag("lesion by units")]
    | Annotated[ArrayLesion, Tag("lesion by array")]
    | Annotated[RandomLesion, Tag("lesion by random")]
    | Annotated[MapLesion, Tag("lesion by from")],
    Discriminator(_kind),
    BeforeValidator(_known),
]
AnyLesions = Annotated[list[_OneLesion], BeforeValidator(_listed, json_schema_input_type=_OneLesion | list[_OneLesion])]
