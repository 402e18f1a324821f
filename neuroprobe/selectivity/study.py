"""What a protocol tests channels for: indexes, labels of images and of their pixels, and the hierarchy of classes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from neuroprobe import names
from neuroprobe.errors import PlanError, RegistryError, SubjectError, about
from neuroprobe.probe.sites import Site
from neuroprobe.protocol.model import Model
from neuroprobe.protocol.schema import Protocol
from neuroprobe.protocol.selectivity import CLASS_INDEX, IndexSpec, SelectivityOptions
from neuroprobe.stimuli.hierarchies import ancestry_of, read_hierarchy
from neuroprobe.stimuli.images import ImageSet
from neuroprobe.stimuli.label_maps import open_label_maps
from neuroprobe.stimuli.properties import LABELLERS, MANIPULATIONS, Labeller, Manipulation
from neuroprobe.subjects.subject import Subject

N_TRIED: Final = 64  # images that are looked at for colour
GREY: Final = 1 / 512  # between channels of an image without colour


@dataclass(frozen=True)
class Altered:
    """A manipulation with its options.

    Attributes
    ----------
    manipulation : Manipulation
    options : Model
    """

    manipulation: Manipulation
    options: Model

    @property
    def name(self) -> str:
        """Of the index."""
        return self.manipulation.name

    @property
    def members(self) -> tuple[str, ...]:
        """Labels of the family."""
        return self.manipulation.members(self.options)


@dataclass(frozen=True)
class PixelLabels:
    """A label of each pixel of an image.

    Attributes
    ----------
    name : str
        Of the index.
    labels : tuple of str
    read : callable
        From numbers of images and the images (n, 3, height, width) to labels (n, height, width), -1 for none.
    """

    name: str
    labels: tuple[str, ...]
    read: Callable[[NDArray[np.int64], Tensor], NDArray[np.integer]]


@dataclass(frozen=True)
class SelectivityStudy:
    """What channels are tested for.

    Attributes
    ----------
    options : SelectivityOptions
    indexes : tuple of IndexSpec
        In the order of the protocol.
    altered : tuple of Altered
        Of the indexes that alter stimuli.
    pixel_labels : tuple of PixelLabels
    classes : tuple of str
        Of the images; none where they have no classes.
    targets : int array (images,)
        Number of each image's class; the number of classes for one that has none.
    hierarchy : dict, optional
        Class → the one above it.
    digest : str
        Hash of the hierarchy and of label maps.
    """

    options: SelectivityOptions
    indexes: tuple[IndexSpec, ...]
    altered: tuple[Altered, ...]
    pixel_labels: tuple[PixelLabels, ...]
    classes: tuple[str, ...]
    targets: NDArray[np.int64]
    hierarchy: Mapping[str, str | None] | None = None
    digest: str = ""

    @cached_property
    def n_classes(self) -> int:
        """Rows of sums by class, with one for images that have none, if there are such."""
        return max(1, len(self.classes) + bool((self.targets == len(self.classes)).any()))

    @property
    def with_class(self) -> bool:
        """Whether the index of classes is computed."""
        return any(index.name == CLASS_INDEX for index in self.indexes)

    @property
    def n_shown(self) -> int:
        """Times that each crop is shown, as it is and altered."""
        return 1 + sum(len(one.members) + self.options.sham for one in self.altered)


def open_selectivity(
    protocol: Protocol, subject: Subject, images: ImageSet, sites: Sequence[Site]
) -> SelectivityStudy | None:
    """Open what a protocol tests channels for; None where it does not.

    Raises
    ------
    NeuroprobeError
        If layers, images or their labels do not do for it, with the place in the protocol.
    """
    options = protocol.options(names.SELECTIVITY)
    if not isinstance(options, SelectivityOptions):
        return None
    number = [item.name for item in protocol.analyses].index(names.SELECTIVITY)
    if subject.segment is not None:
        raise SubjectError("segment: selectivity shows crops of images to a whole network: leave it out").about(
            "subject", "segment"
        )
    if subject.preprocessing.minmax:
        raise SubjectError(
            "minmax: selectivity shows crops of images as they are in the image, and minmax stretches each by itself: "
            "leave it out"
        ).about("subject", "preprocess", "minmax")
    if protocol.control != "original":
        raise PlanError(
            "control: selectivity shows images as they are; take `control: original`, or a protocol of its own"
        ).about("control")
    for place, site in enumerate(sites):
        with about("subject", "layers", place):
            _require_maps(site)
    with about("analyses", number, names.SELECTIVITY):
        _require_images(options, images)
        indexes = tuple(options.wanted(labelled=images.labels is not None))
        labels = [label or "" for label in images.labels or [""] * len(images)]
        classes = tuple(sorted(set(labels) - {""}))
        _require_classes(options, indexes, classes, images)
        numbers = {label: at for at, label in enumerate(classes)}
        targets = np.array([numbers.get(label, len(classes)) for label in labels], dtype=np.int64)
        altered = tuple(Altered(MANIPULATIONS[one.name], one.given) for one in indexes if one.name in MANIPULATIONS)
        _require_colour(options, indexes, images)
        hierarchy = _open_hierarchy(options, classes)
        pixel_labels, digests = _open_pixel_labels(options, indexes, images)
    content = json.dumps([hierarchy, digests], sort_keys=True)
    digest = hashlib.sha256(content.encode()).hexdigest() if hierarchy or digests else ""
    return SelectivityStudy(options, indexes, altered, pixel_labels, classes, targets, hierarchy, digest)


def _require_maps(site: Site) -> None:
    """Refuse layers whose channels' places in the image are not known."""
    if site.spec.reduce != "none":
        raise SubjectError(
            f"layer {site.name!r}: selectivity takes maps as they are, to find where images drive a channel: leave out "
            f"`reduce: {site.spec.reduce}`"
        )
    if names.TOKEN in site.dims:
        raise SubjectError(
            f"layer {site.name!r} gives tokens, whose receptive fields are not known: record a layer of maps "
            "(channels, height, width) or one of single values"
        )


def _require_images(options: SelectivityOptions, images: ImageSet) -> None:
    if len(images) < options.top:
        raise PlanError(
            f"top: lists of {options.top} images asked for, and there are {len(images)}: show more, or lower `top`"
        ).about("top")


def _require_classes(
    options: SelectivityOptions, indexes: Sequence[IndexSpec], classes: Sequence[str], images: ImageSet
) -> None:
    listed = [index.name for index in indexes]
    if CLASS_INDEX not in listed:
        return
    place = ("indexes", listed.index(CLASS_INDEX)) if options.indexes is not None else ()
    if not classes:
        raise PlanError(
            "class selectivity takes images of classes, and these have none: give a folder with one folder per class, "
            "or a data set with labels, or leave out the index class"
        ).about(*place)
    if len(classes) < 2:
        raise PlanError(
            f"class selectivity takes images of two classes or more, and all {len(images)} are of {classes[0]!r}: show "
            "others too, or leave out the index class (`indexes: [colour, …]`)"
        ).about(*place)


def _require_colour(options: SelectivityOptions, indexes: Sequence[IndexSpec], images: ImageSet) -> None:
    """Refuse the colour index of images without colour."""
    listed = [index.name for index in indexes]
    if "colour" not in listed:
        return
    tried = images.load(np.linspace(0, len(images) - 1, min(N_TRIED, len(images))).round().astype(np.int64))
    if float((tried.amax(1) - tried.amin(1)).max()) < GREY:
        raise PlanError(
            f"the index colour takes away the colour of images, and these have none (of {len(tried)} that were looked "
            "at): show images in colour, or leave it out (`indexes: [class, …]`)"
        ).about(*(("indexes", listed.index("colour")) if options.indexes is not None else ()))


def _open_hierarchy(options: SelectivityOptions, classes: Sequence[str]) -> dict[str, str | None] | None:
    if options.hierarchy is None:
        return None
    with about("hierarchy"):
        if not classes:
            raise PlanError("a hierarchy takes images of classes, and these have none: leave it out")
        return ancestry_of(read_hierarchy(options.hierarchy), classes)


def _open_pixel_labels(
    options: SelectivityOptions, indexes: Sequence[IndexSpec], images: ImageSet
) -> tuple[tuple[PixelLabels, ...], dict[str, str]]:
    found, digests = [], {}
    for index in indexes:
        if index.name in LABELLERS:
            own = LABELLERS[index.name]
            found.append(PixelLabels(own.name, own.labels, _labelling(own)))
        elif index.name in options.label_maps:
            spec = options.label_maps[index.name]
            with about("label_maps", index.name):
                maps = open_label_maps(Path(spec.folder), Path(spec.names), images)
            found.append(PixelLabels(index.name, maps.labels, _reader(maps)))
            digests[index.name] = maps.digest
    return tuple(found), digests


def _reader(maps: Any) -> Callable[[NDArray[np.int64], Tensor], NDArray[np.integer]]:
    def read(numbers: NDArray[np.int64], shown: Tensor) -> NDArray[np.integer]:
        found: NDArray[np.integer] = maps.load(numbers)
        return found

    return read


def _labelling(own: Labeller) -> Callable[[NDArray[np.int64], Tensor], NDArray[np.integer]]:
    def read(numbers: NDArray[np.int64], shown: Tensor) -> NDArray[np.integer]:
        found: NDArray[np.integer] = own.label(shown).cpu().numpy()
        size = (len(shown), *shown.shape[2:])
        if found.shape != size or found.dtype.kind not in "iu":
            raise RegistryError(
                f"{LABELLERS.kind} {own.name!r} gave {found.dtype} of shape {found.shape}, expected integers {size}"
            )
        if found.size and not -1 <= found.min() <= found.max() < len(own.labels):
            raise RegistryError(
                f"{LABELLERS.kind} {own.name!r} gave {found.min()} to {found.max()}, expected places among its "
                f"{len(own.labels)} labels, and -1 for none"
            )
        return found

    return read
