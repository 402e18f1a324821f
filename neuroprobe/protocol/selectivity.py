"""Selectivity in a protocol: what each unit is driven by, and what it is selective for.

After Rafegas et al. 2019 (arXiv 1702.00382).
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    JsonValue,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from neuroprobe.errors import shown, unknown_name
from neuroprobe.protocol.model import Model, RelativePath, problem, problem_at, resolve, short_form
from neuroprobe.statistics.paired import CORRECTIONS

CLASS_INDEX: Final = "class"
CLASS_SUMMARY: Final = "Of how few classes the top stimuli are."
CIFAR10: Final = "cifar10"  # the hierarchy of its classes
MAX_TOP: Final = 10_000
DEFAULT: Final = ("colour", CLASS_INDEX, "colour_name")


class LabelMapsSpec(Model):
    """Images of labels, one for each image: objects, parts, materials.

    Attributes
    ----------
    folder : path
        Of label images that are named as the images are, with a suffix of their own.
    names : path
        Table of the names of labels: number, name.
    """

    folder: RelativePath
    names: RelativePath


class IndexSpec(Model):
    """A selectivity index and its options.

    Attributes
    ----------
    name : str
        Of a manipulation of stimuli, ``class``, of a labeller of pixels (``colour_name``), or of label maps.
    options : dict
    """

    name: str
    options: dict[str, JsonValue] = Field(default={})

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Allow a bare name, and a block of one name with its options."""
        return short_form(core_schema, handler, {"type": ["string", "object"]})

    @model_validator(mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        if isinstance(value, IndexSpec) or (isinstance(value, dict) and "name" in value):
            return value
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, dict) and len(value) == 1:
            ((name, options),) = value.items()
            return {"name": name, "options": {} if options is None else options}
        raise problem(f"given {shown(value)}, expected an index: its name, or {{name: {{option: …}}}}")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        """Fill in the options of a manipulation, and refuse those that it does not have."""
        from neuroprobe.stimuli.properties import MANIPULATIONS

        if self.name not in MANIPULATIONS:
            if self.options:
                raise problem_at(("options",), f"index {self.name!r} has no options: leave them out", self.options)
            return self
        model = MANIPULATIONS[self.name].options
        try:
            options = model.model_validate(self.options)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            known = ", ".join(model.model_fields) or "none"
            raise problem(f"index {self.name!r}: {place}: {first['msg']}; its options are: {known}") from error
        object.__setattr__(self, "options", options.model_dump(mode="json"))
        return self

    @property
    def given(self) -> Model:
        """Options of a manipulation, checked."""
        from neuroprobe.stimuli.properties import MANIPULATIONS

        found: Model = MANIPULATIONS[self.name].options.model_validate(self.options)
        return found


_Share = Annotated[float, Field(gt=0, le=1)]


def _list(value: Any) -> Any:
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else value


def _hierarchy(value: str, info: ValidationInfo) -> str:
    return value if value == CIFAR10 else resolve(value, info)


class SelectivityOptions(Model):
    """Selectivity: the stimuli that drive each unit most, its Neuron Feature, and what it is selective for.

    Attributes
    ----------
    top : int
        Images of a unit's list, N.
    indexes : list of IndexSpec, optional
        By default colour, and names of colours, and where the images have classes, class.
    thresholds : list of float
        Of γ: share of the weights that its labels hold. The first is that of ``gamma``.
    least : float
        Share from which a label is one of a unit's.
    clamp : str
        How losses of response are limited: ``none``, ``ratio`` (of each stimulus to [0, 1]), ``final`` (the index).
    sham : int
        Draws of changes of equal energy that leave the property, for each manipulation.
    permutations : int
        Of the images' labels.
    correction : str
        Of p-values, over the units of a layer.
    border : str
        What of the Neuron Feature lies outside of images: ``masked``, ``fill_gray``, ``pad_black``, ``resize``.
    crops : int
        Top crops of each unit that are kept as pictures.
    stability : list of int
        Shorter lists for which indexes are computed too.
    similarity : bool
        Whether units of a layer are shown each other's stimuli.
    relevance : bool
        Whether each channel of the layer recorded before is silenced, and how much of a unit's responses that takes.
    hierarchy : str, optional
        Of the classes: ``cifar10``, or a table of child and parent.
    label_maps : dict
        Index → its label maps.
    """

    top: Annotated[int, Field(ge=2, le=MAX_TOP)] = 100
    indexes: Annotated[list[IndexSpec], Field(min_length=1)] | None = None
    thresholds: Annotated[list[_Share], Field(min_length=1), BeforeValidator(_list)] = Field(default=[1.0])
    least: _Share = 0.1
    clamp: Literal["none", "ratio", "final"] = "none"
    sham: NonNegativeInt = 39  # the smallest p-value is 1 / 40; with 19 none could be under 0.05
    permutations: Annotated[int, Field(ge=0, le=1 << 16)] = 199
    correction: Literal[CORRECTIONS] = "fdr_bh"  # type: ignore[valid-type]  # a tuple of words
    border: Literal["masked", "fill_gray", "pad_black", "resize"] = "masked"
    crops: Annotated[int, Field(ge=0, le=100)] = 5
    stability: list[PositiveInt] = Field(default=[25, 50])
    similarity: bool = True
    relevance: bool = False
    hierarchy: Annotated[str, Field(min_length=1), AfterValidator(_hierarchy)] | None = None
    label_maps: dict[str, LabelMapsSpec] = Field(default={})

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        from neuroprobe.stimuli.properties import LABELLERS, MANIPULATIONS

        named = [*MANIPULATIONS, CLASS_INDEX, *LABELLERS]
        known = [*named, *self.label_maps]
        for name in self.label_maps:
            if name in named or not name.isidentifier():
                message = f"label_maps: given {shown(name)}, expected a word that no other index is called by"
                raise problem_at(("label_maps",), message, name)
        listed = [index.name for index in self.indexes or ()]
        for number, name in enumerate(listed):
            if name not in known:
                raise problem_at(("indexes", number), unknown_name("selectivity index", name, known), name)
            if name in listed[:number]:
                raise problem_at(("indexes", number), f"indexes: {name} is listed twice; list it once", name)
        for number, n in enumerate(self.stability):
            if not 2 <= n < self.top:
                message = f"stability: given {n}, expected lists of 2 to {self.top - 1} images, shorter than `top`"
                raise problem_at(("stability", number), message, n)
        return self

    def wanted(self, *, labelled: bool) -> list[IndexSpec]:
        """Indexes that are computed, of images with classes or without."""
        if self.indexes is not None:
            return self.indexes
        names = [name for name in DEFAULT if labelled or name != CLASS_INDEX]
        return [IndexSpec(name=name) for name in (*names, *self.label_maps)]
