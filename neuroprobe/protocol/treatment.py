"""The treatment in a protocol: alterations, their order and sets, and how their parameters depend on each other."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PositiveInt, model_validator

from neuroprobe.design.dependence import GaussianCopula
from neuroprobe.errors import closest, shown, unknown_name
from neuroprobe.protocol.alteration import AlterationSpec
from neuroprobe.protocol.dependence import DependenceSpec, varying_inputs
from neuroprobe.protocol.model import Model, problem, problem_at

MAX_ORDERED = 12  # alterations whose order can be a factor: 12! is under the resolution of the design's points


def _order(value: Any) -> Any:
    is_names = isinstance(value, list) and all(isinstance(name, str) for name in value)
    if is_names or (isinstance(value, str) and value in {"fixed", "factor"}):
        return value
    hint = closest(value, ("fixed", "factor"))
    raise problem(f"order: given {shown(value)}{hint}, expected fixed, factor, or a list of the alterations")


class TreatmentSpec(Model):
    """How the images are altered, all alterations at once, or those of one set at once.

    Attributes
    ----------
    sets : dict, optional
        Name → labels of the alterations that are applied together, in their order; each set is a run of its own.
    chosen : str, optional
        The set that is run, written as ``set``.
    """

    alterations: list[AlterationSpec] = Field(min_length=1)
    sets: dict[str, Annotated[list[str], Field(min_length=1)]] | None = Field(default=None, min_length=1)
    chosen: str | None = Field(default=None, alias="set")
    order: Annotated[Literal["fixed", "factor"] | list[str], BeforeValidator(_order)] = "fixed"
    reference_side: PositiveInt | Literal["image"] = 224
    eight_bit: bool = False
    dependence: DependenceSpec | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        listed = [item.label for item in self.alterations]
        twice = sorted({name for name in listed if listed.count(name) > 1})
        if twice:
            raise problem(f"alterations listed twice: {', '.join(twice)}; tell them apart by `as: NAME`")
        if isinstance(self.order, list) and sorted(self.order) != sorted(listed):
            raise problem_at(
                ("order",), f"order: given {shown(self.order)}, expected each of {listed} once", self.order
            )
        for together in [listed] if self.sets is None else self.sets.values():
            if self.order == "factor" and not 2 <= len(together) <= MAX_ORDERED:
                message = f"order: factor takes 2 to {MAX_ORDERED} alterations, received {len(together)}"
                raise problem_at(("order",), message, self.order)
        return self

    @model_validator(mode="after")
    def _sets_consistent(self) -> Self:
        sets, labels = self.sets or {}, [item.label for item in self.alterations]
        if self.chosen is not None and self.chosen not in sets:
            raise problem_at(("set",), unknown_name("set", self.chosen, sets), self.chosen)
        if sets and isinstance(self.order, list):
            message = "order: a list does not go with sets, which are applied in their own order: leave it out"
            raise problem_at(("order",), message, self.order)
        home: dict[str, str] = {}
        for name, together in sets.items():
            for number, label in enumerate(together):
                place = ("sets", name, number)
                if label not in labels:
                    raise problem_at(place, unknown_name("alteration of this treatment", label, labels), label)
                if label in home:
                    message = f"{label} is in the set {home[label]} already: sets have no alteration in common"
                    raise problem_at(place, message, label)
                home[label] = name
        _ = self.copula  # refuses what it cannot be
        return self

    @property
    def copula(self) -> GaussianCopula | None:
        """How parameters of the alterations depend on each other."""
        return None if self.dependence is None else self.dependence.copula(self.alterations)

    @property
    def dependent(self) -> tuple[tuple[str, ...], ...]:
        """Groups of alterations that depend on each other."""
        owner = {name: item.label for item in self.alterations for part in varying_inputs(item) for name in part}
        return () if self.copula is None else self.copula.groups(owner)

    @property
    def in_order(self) -> tuple[AlterationSpec, ...]:
        """The alterations as they are applied."""
        if not isinstance(self.order, list):
            return tuple(self.alterations)
        return tuple(sorted(self.alterations, key=lambda item: self.order.index(item.label)))


def no_treatment() -> TreatmentSpec:
    """Return the treatment of a protocol whose analyses show images as they are."""
    return TreatmentSpec.model_construct(alterations=[])


class ControlSpec(Model):
    """A control that is itself altered."""

    alterations: list[AlterationSpec] = Field(min_length=1)
