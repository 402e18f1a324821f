"""Sources of images in a protocol: a folder, a file of an array, a data set, photographs, generators, or several."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    JsonValue,
    PositiveInt,
    Tag,
    ValidationInfo,
    model_validator,
)
from pydantic_core import InitErrorDetails, ValidationError

from neuroprobe.errors import closest, shown
from neuroprobe.protocol.generated import AnyGenerators, AnyScreen, ScreenSpec, complaints
from neuroprobe.protocol.model import Model, RelativePath, problem, problem_at, resolve

MAX_SIDE = 4096  # px
MAX_CROPS = 10_000  # of a photograph
ARRAY_SUFFIXES = (".npy", ".npz")
# keys that say where images lie: what is there is hashed
PLACES = ("name", "folder", "array", "root", "download", "skip_broken", "of")


_Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]


def _size(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return [value, value]
    if value is None or isinstance(value, list):
        return value
    raise problem(f"size: given {shown(value)}, expected a number of px, or [height, width]")


def _name(value: str) -> str:
    if not value or "/" in value:
        raise problem(f"name: given {shown(value)}, expected a word without '/', which stands between name and image")
    return value


def _array(value: str, info: ValidationInfo) -> str:
    if not value.endswith(ARRAY_SUFFIXES):
        raise problem(f"given {shown(value)}, expected a path that ends in {', '.join(ARRAY_SUFFIXES)}")
    return resolve(value, info)


class ImageSource(Model):
    """What all sources of images share.

    Attributes
    ----------
    name : str, optional
        Of several sources, what stands before the ids of this one's images; by default it is named after its place.
    limit : int, optional
        Number of images; of classes, the same number of each as far as it goes.
    size : int or list of int, optional
        Height and width (px) to which images are resized and cropped; one size holds for all sources of a set.
    skip_broken : bool
        Whether images that cannot be decoded are left out, with a warning, rather than refused.
    probability : float, optional
        Of several sources, where the image is factors: how often an image is of this one. By default in proportion to
        the number of its images.
    """

    name: Annotated[str, AfterValidator(_name)] | None = None
    limit: PositiveInt | None = None
    size: Annotated[
        Annotated[list[_Side], Field(min_length=2, max_length=2)] | None,
        BeforeValidator(_size, json_schema_input_type=_Side | list[_Side] | None),
    ] = None
    skip_broken: bool = False
    probability: Annotated[float, Field(gt=0, lt=1)] | None = None

    @property
    def own_name(self) -> str:
        """What the source is called where the protocol does not name it."""
        raise NotImplementedError


class StoredImages(ImageSource):
    """What sources share whose images lie somewhere.

    Attributes
    ----------
    shuffle : bool
        Whether a limit takes images at random rather than the first ones, and they are shown in that order.
    background : list of float
        RGB in [0, 1] behind transparent pixels; mid-grey by default.
    """

    shuffle: bool = False
    background: list[Annotated[float, Field(ge=0, le=1)]] = Field(default=[0.5, 0.5, 0.5], min_length=3, max_length=3)


class Folder(StoredImages):
    """A folder of images (PNG, JPEG, TIFF, WebP), or of one folder per class."""

    folder: RelativePath

    @property
    def own_name(self) -> str:
        """Name of the folder."""
        return Path(os.path.normpath(self.folder)).name or "folder"


class ArrayFile(StoredImages):
    """Images in a NumPy file: .npy, or .npz with the keys images, labels and ids."""

    array: Annotated[str, AfterValidator(_array)]

    @property
    def own_name(self) -> str:
        """Name of the file."""
        return Path(self.array).stem


class DataSet(StoredImages):
    """A data set of torchvision.datasets by the name of its class; options are further arguments of that class."""

    dataset: str
    root: RelativePath | None = None
    split: str | None = None
    download: bool = False
    options: dict[str, JsonValue] = Field(default={})

    @model_validator(mode="after")
    def _possible(self) -> Self:
        from neuroprobe.stimuli.datasets import complaints

        errors = [
            InitErrorDetails(type=problem(message), loc=loc, input=getattr(self, loc[0]))
            for loc, message in complaints(self.dataset, self.root, self.split, self.download, self.options)
        ]
        if errors:
            raise ValidationError.from_exception_data("DataSet", errors)
        return self

    @property
    def own_name(self) -> str:
        """Name of the data set and of its split."""
        return self.dataset if self.split is None else f"{self.dataset}_{self.split}".replace("/", "_")


class PhotographsSpec(Model):
    """How crops are cut out of the photographs that ship with scikit-image."""

    crop: PositiveInt = 64
    per_image: Annotated[int, Field(ge=1, le=MAX_CROPS)] = 20


class Photographs(ImageSource):
    """Crops (crop: 64 px, per_image: 20) of photographs that need no download."""

    photographs: PhotographsSpec

    @property
    def own_name(self) -> str:
        """The word itself."""
        return "photographs"


def _kind(value: Any) -> str:
    if isinstance(value, list):
        return "several"
    is_read = isinstance(value, ImageSource)
    return next(key for key, model in IMAGE_SOURCES.items() if (isinstance(value, model) if is_read else key in value))


def _known(value: Any) -> Any:
    """Refuse a mapping without the key of a source, naming the closest one."""
    if isinstance(value, ImageSource) or (isinstance(value, dict) and any(key in value for key in IMAGE_SOURCES)):
        return value
    keys = list(value) if isinstance(value, dict) and value else [value]
    unknown = [key for key in keys if key not in list(IMAGE_SOURCES)]
    hint = next((hint for key in unknown if (hint := closest(key, IMAGE_SOURCES))), "")
    raise problem(
        f"given {', '.join(map(shown, keys))}{hint}, expected a source of images: a block with one of "
        f"the keys: {', '.join(IMAGE_SOURCES)}"
    )


def _known_stored(value: Any) -> Any:
    """Refuse what is no source of images that lie somewhere."""
    if isinstance(value, Generated) or (isinstance(value, dict) and "generated" in value):
        raise problem(f"of: given {shown(value)}, expected images that lie somewhere, such as {{folder: …}}")
    return value if value is None else _known(value)


def _all_known(value: Any) -> Any:
    return value if isinstance(value, list) else _known(value)


def _consistent(sources: list[ImageSource]) -> list[ImageSource]:
    sizes = [source.size for source in sources if source.size is not None]
    if any(size != sizes[0] for size in sizes):
        raise problem(f"size: given {', '.join(map(str, sizes))}, expected one: images of a set have one size")
    given = [source.name for source in sources if source.name is not None]
    twice = sorted({name for name in given if given.count(name) > 1})
    if twice:
        raise problem(f"name: sources named twice: {', '.join(twice)}; names tell the sources of a set apart")
    return sources


_Stored = (
    Annotated[Folder, Tag("folder")]
    | Annotated[Photographs, Tag("photographs")]
    | Annotated[ArrayFile, Tag("array")]
    | Annotated[DataSet, Tag("dataset")]
)
_OneStored = Annotated[_Stored, Discriminator(_kind), BeforeValidator(_known_stored)]


class Generated(ImageSource):
    """Stimuli that generators draw: every combination of the values that their settings are given.

    Attributes
    ----------
    generated : dict
        Generator → setting → its values; settings that are not given have their defaults.
    screen : str or ScreenSpec
        Whether lengths are in px, or in degrees of visual angle, of which the shorter side has so many.
    of : source of images, optional
        What is scrambled, by generators that are made of images.
    """

    generated: AnyGenerators
    screen: AnyScreen = "pixels"
    of: _OneStored | None = None

    @model_validator(mode="after")
    def _possible(self) -> Self:
        errors: list[tuple[tuple[str, ...], str, Any]] = []
        if self.size is not None:
            found = complaints(self.generated, (self.size[0], self.size[1]), self.degrees)
            errors = [(("generated", *loc), message, self.generated) for loc, message in found]
        from neuroprobe.stimuli.generators import GENERATORS

        of_images = [name for name in self.generated if GENERATORS[name].takes_images]
        if of_images and self.of is None:
            message = f"{of_images[0]} is made of images: give some by `of: {{folder: …}}`"
            errors.append((("generated", of_images[0]), message, self.generated))
        if self.of is not None and not of_images:
            errors.append((("of",), "of: no generator here is made of images: leave it out", self.of))
        if errors:
            details = [InitErrorDetails(type=problem(message), loc=loc, input=given) for loc, message, given in errors]
            raise ValidationError.from_exception_data("Generated", details)
        return self

    @property
    def degrees(self) -> float | None:
        """Visual angle of the shorter side; None where lengths are in px."""
        return self.screen.degrees if isinstance(self.screen, ScreenSpec) else None

    @property
    def own_name(self) -> str:
        """The word itself."""
        return "generated"


IMAGE_SOURCES: dict[str, type[ImageSource]] = {
    "folder": Folder,
    "photographs": Photographs,
    "array": ArrayFile,
    "dataset": DataSet,
    "generated": Generated,
}


_Source = _Stored | Annotated[Generated, Tag("generated")]
_OneSource = Annotated[_Source, Discriminator(_kind), BeforeValidator(_known)]
_Sources = Annotated[list[_OneSource], Field(min_length=1), AfterValidator(_consistent), Tag("several")]
AnyImages = Annotated[_Source | _Sources, Discriminator(_kind), BeforeValidator(_all_known)]


Level = Literal["partition", "class", "image"]


class ImageFactors(Model):
    """The image as one or several factors: from which source it is, of which class there, and which one of these.

    Attributes
    ----------
    factors : list of str
        Some of partition, class and image. One above them that is not listed is swapped with the next one below it;
        without `image`, each base sample has one rank within the class.
    class_probabilities : str
        Whether classes are equally likely, or as probable as they are large.
    """

    factors: list[Level] = Field(min_length=1)
    class_probabilities: Literal["equal", "size"] = "equal"

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        twice = sorted({level for level in self.factors if self.factors.count(level) > 1})
        if twice:
            raise problem_at(("factors",), f"factors: listed twice: {', '.join(twice)}", self.factors)
        if "class" not in self.factors and self.class_probabilities != "equal":
            message = (
                "class_probabilities: goes with the factor class, which is not listed: leave it out, or list class"
            )
            raise problem_at(("class_probabilities",), message, self.class_probabilities)
        return self


def source_names(sources: Sequence[ImageSource]) -> list[str]:
    """Names that tell the sources of a set apart: those that are given, or else their own, numbered where taken."""
    taken = {source.name for source in sources}
    found = []
    for source in sources:
        name, number = source.name or source.own_name, 1
        while source.name is None and name in taken:
            number += 1
            name = f"{source.own_name}_{number}"
        taken.add(name)
        found.append(name)
    return found
