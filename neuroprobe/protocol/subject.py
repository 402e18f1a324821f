"""The network of a protocol: weights, layers, a segment of it, a lesion."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    GetJsonSchemaHandler,
    NonNegativeInt,
    PositiveFloat,
    ValidationInfo,
    model_validator,
)

from neuroprobe.errors import shown
from neuroprobe.protocol.lesion import AnyLesions
from neuroprobe.protocol.model import Model, problem, problem_at, resolve, short_form
from neuroprobe.protocol.noise import AnyNoise

WEIGHT_SUFFIXES = (".pt", ".pth", ".th", ".safetensors")
INPUT = "input"  # stands for the image where a segment begins


def _weights(value: str, info: ValidationInfo) -> str:
    if value in {"DEFAULT", "none"}:
        return value
    if not value.endswith(WEIGHT_SUFFIXES):
        raise problem(
            f"given {shown(value)}, expected DEFAULT, none, or a path that ends in {', '.join(WEIGHT_SUFFIXES)}"
        )
    return resolve(value, info)


class Preprocess(Model):
    """Standardisation of the channels of images in [0, 1]; what is not given is the network's own.

    Attributes
    ----------
    mean, std : list of float, optional
    minmax : bool
        Whether each channel of every image, altered as it is shown, is stretched to [0, 1] before.
    """

    mean: list[float] | None = Field(default=None, min_length=3, max_length=3)
    std: list[PositiveFloat] | None = Field(default=None, min_length=3, max_length=3)
    minmax: bool = False


class LayerSpec(Model):
    """Where to record: a layer, and what is kept of it."""

    name: Annotated[str, Field(min_length=1)]
    reduce: Literal["none", "mean", "max", "centre"] = "none"
    channels: list[NonNegativeInt] | None = Field(default=None, min_length=1)
    transform: Literal["none", "softmax"] = "none"

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Allow a bare name."""
        return short_form(core_schema, handler, {"type": "string"})

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        if not isinstance(value, str | dict | LayerSpec):
            raise problem(f"given {shown(value)}, expected a layer: its name, or {{name: …, channels: …, reduce: …}}")
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if self.channels is not None and len(set(self.channels)) < len(self.channels):
            raise problem(f"channels of {self.name!r} are listed twice: {self.channels}")
        return self


class SegmentSpec(Model):
    """A stage of the network that is detached and shown one plane of the image, in as many channels as it takes.

    Attributes
    ----------
    start : str
        Layer whose output the plane stands for, written as ``from``; ``input`` for the image itself.
    stop : str
        Last layer, written as ``to``.
    plane : str
    size : str
        Whether planes have the size of that output for the image, or that of the image.
    """

    start: Annotated[str, Field(min_length=1)] = Field(default=INPUT, alias="from")
    stop: Annotated[str, Field(min_length=1)] = Field(alias="to")
    plane: Literal["hue", "saturation", "value"]
    size: Literal["native", "image"] = "native"


class SubjectSpec(Model):
    """The network that is recorded."""

    network: Annotated[str, Field(min_length=1)]
    weights: Annotated[str, AfterValidator(_weights)] = "DEFAULT"
    layers: list[LayerSpec] = Field(min_length=1)
    preprocess: Preprocess | None = None
    random_twin: bool = False
    segment: SegmentSpec | None = None
    lesion: AnyLesions = Field(default=[])
    noise: AnyNoise | None = None

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        given = self.preprocess
        if self.segment is not None and given is not None and (given.mean is not None or given.std is not None):
            message = "preprocess: mean and std do not go with segment, which takes a plane of the image in [0, 1]"
            raise problem_at(("preprocess",), f"{message}: leave them out", given)
        listed = [layer.name for layer in self.layers]
        twice = sorted({name for name in listed if listed.count(name) > 1})
        if twice:
            raise problem_at(("layers",), f"layers listed twice: {', '.join(twice)}", listed)
        return self
