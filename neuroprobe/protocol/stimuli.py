"""The stimuli in a protocol: which images, what the image is in the design, and how often each is presented."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, NonNegativeInt, PositiveInt, model_validator

from neuroprobe import names
from neuroprobe.errors import closest, shown
from neuroprobe.protocol.images import AnyImages, ImageFactors, ImageSource
from neuroprobe.protocol.model import Model, problem, problem_at


def _image(value: Any) -> Any:
    words = ("frozen", "factor", "redrawn")
    if isinstance(value, dict | ImageFactors) or value in words:
        return value
    raise problem(
        f"image: given {shown(value)}{closest(value, words)}, expected frozen, factor, redrawn, or "
        "{factors: [partition, class, image]}"
    )


class StimuliSpec(Model):
    """Which images are shown, and what the image is in the design.

    Attributes
    ----------
    repeats : int
        Of presentations for their own sake, how often each image is shown.
    blanks : int
        Of these, presentations of mean grey in each repetition.
    order : str
        Whether each of these repetitions has an order of chance (of the seed), or that of the images.
    """

    images: AnyImages
    image: Annotated[Literal["frozen", "factor", "redrawn"] | ImageFactors, BeforeValidator(_image)] = "frozen"
    repeats: PositiveInt = 1
    blanks: NonNegativeInt = 0
    order: Literal["random", "given"] = "random"

    @model_validator(mode="after")
    def _drawn(self) -> Self:
        given = [source.probability for source in self.sources if source.probability is not None]
        if given and not (isinstance(self.image, ImageFactors) and len(self.sources) > 1):
            message = (
                "probability: goes with several sources of which images are drawn as factors: leave it out, or write "
                "`image: {factors: [partition, class, image]}`"
            )
            raise problem_at(("images",), message, given)
        if given and (len(given) < len(self.sources) or not math.isclose(sum(given), 1, abs_tol=1e-6)):
            message = (
                f"probability: given {shown(given)}, expected one per source, {len(self.sources)} that add up to 1"
            )
            raise problem_at(("images",), message, given)
        if isinstance(self.image, ImageFactors) and names.PARTITION in self.image.factors and len(self.sources) < 2:
            message = "factors: partition tells sources of images apart, received one: list several, or leave it out"
            raise problem_at(("image", "factors"), message, self.image.factors)
        return self

    @property
    def repeated(self) -> list[str]:
        """Keys that are not at their defaults, of those that concern presentations for their own sake."""
        keys = ("repeats", "blanks", "order")
        return [key for key in keys if getattr(self, key) != type(self).model_fields[key].default]

    @property
    def image_law(self) -> str:
        """What the image is in the design, in the words of `analysis.sensitivity.SCOPES`."""
        if not isinstance(self.image, ImageFactors):
            return self.image
        return "factors" if names.IMAGE in self.image.factors else "frozen rank"

    @property
    def sources(self) -> list[ImageSource]:
        """The sources of the images, one or several."""
        return list(self.images) if isinstance(self.images, list) else [self.images]

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width of the images, where a source gives them."""
        return next(((source.size[0], source.size[1]) for source in self.sources if source.size is not None), None)
