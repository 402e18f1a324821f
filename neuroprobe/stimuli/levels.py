"""The levels of a set of images: which images are of which class in which partition."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.design.nested_images import NestedImages
from neuroprobe.errors import PlanError, shown
from neuroprobe.protocol.images import ImageFactors, source_names
from neuroprobe.protocol.schema import StimuliSpec
from neuroprobe.stimuli.images import ImageSet

N_NAMED = 4  # classes that a message names


def nest_images(images: ImageSet, spec: StimuliSpec) -> NestedImages | None:
    """Nest images in their classes, where `class` is a factor, and these in their sources.

    Returns
    -------
    NestedImages, or None where no level is a factor.

    Raises
    ------
    PlanError
        If images have no class, a class is not in every source, or a level that is a factor has one member only.
    """
    if not isinstance(spec.image, ImageFactors):
        return None
    sources = [""] * len(images) if images.sources is None else images.sources
    partitions = list(dict.fromkeys(sources)) if images.sources is None else source_names(spec.sources)
    members = {name: np.flatnonzero([source == name for source in sources]) for name in partitions}
    if names.CLASS in spec.image.factors:
        nested = _by_class(members, _labels(images))
    else:
        nested = tuple((index,) for index in members.values())
    given = [source.probability for source in spec.sources]
    weights = [len(index) if given is None else given for given, index in zip(given, members.values(), strict=True)]
    made = NestedImages(nested, tuple(map(float, weights)), by_size=spec.image.class_probabilities == "size")
    if names.IMAGE in spec.image.factors and not made.varies(names.IMAGE):
        raise PlanError(
            "factors: image takes two images of some class, received one of each: leave it out, or give more"
        ).about("factors")
    return made


def _labels(images: ImageSet) -> list[str]:
    """Class of each image; all have one."""
    labels = images.labels or [None] * len(images)
    found = [label for label in labels if label is not None]
    if len(found) < len(labels):
        first = images.ids[labels.index(None)]
        raise PlanError(
            f"factors: class takes images with classes, received {len(labels) - len(found):,} of {len(labels):,} "
            f"without ({shown(first)} for instance): give a folder of one folder per class, an array with labels or a "
            "data set with classes, or leave class out"
        ).about("factors")
    if len(set(found)) < 2:
        raise PlanError(
            f"factors: class takes two classes, received {shown(found[0])} alone: give images of more, or leave it out"
        ).about("factors")
    return found


def _by_class(members: dict[str, NDArray[np.int64]], labels: list[str]) -> tuple[tuple[NDArray[np.int64], ...], ...]:
    """Split the images of each partition into the classes, which are the same everywhere."""
    classes, of_image = np.unique(np.array(labels, dtype=object), return_inverse=True)
    for name, index in members.items():
        missing = classes[np.bincount(of_image[index], minlength=len(classes)) == 0].tolist()
        if missing:
            listed = ", ".join(missing[:N_NAMED]) + (", …" if len(missing) > N_NAMED else "")
            raise PlanError(
                f"factors: class takes the same classes in every source, and {shown(name)} lacks {len(missing):,} of "
                f"{len(classes):,} ({listed}): leave these out of the others, raise its limit, or leave class out"
            ).about("factors")
    return tuple(
        tuple(index[of_image[index] == number] for number in range(len(classes))) for index in members.values()
    )
