"""Sets of images as a protocol names them: each source opened by its kind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from neuroprobe.errors import PlanError, about
from neuroprobe.protocol.images import (
    ArrayFile,
    DataSet,
    Folder,
    Generated,
    ImageSource,
    Photographs,
    StoredImages,
    source_names,
)
from neuroprobe.protocol.schema import StimuliSpec
from neuroprobe.stimuli.arrays import open_array
from neuroprobe.stimuli.datasets import open_dataset
from neuroprobe.stimuli.decoding import AS_IS, Framing
from neuroprobe.stimuli.folders import open_folder
from neuroprobe.stimuli.generated import open_generated
from neuroprobe.stimuli.images import ImageSet, Source, Tried
from neuroprobe.stimuli.photographs import open_photographs


def open_images(spec: StimuliSpec, seed: int, declared: Framing, tried: Tried | None = None) -> ImageSet:
    """Open the images of a protocol at its size, or else at the size that the network declares.

    Parameters
    ----------
    tried : Tried, optional
        What another process found of the same images.
    """
    framing = declared if spec.size is None else Framing(spec.size)
    sources = []
    for number, (source, name) in enumerate(zip(spec.sources, source_names(spec.sources), strict=True)):
        with about(number):
            sources.append(open_source(source, name, seed, framing))
    return ImageSet(*sources, framing=framing, seed=seed, tried=tried)


def open_source(spec: ImageSource, name: str, seed: int, framing: Framing = AS_IS) -> Source:
    """Open one source of images; none is decoded yet. Stimuli are generated in the size of the framing."""
    match spec:
        case Folder():
            source = open_folder(Path(spec.folder))
        case Photographs(photographs=how):
            source = open_photographs(crop=how.crop, per_image=how.per_image, seed=seed)
        case ArrayFile():
            source = open_array(Path(spec.array))
        case DataSet():
            source = open_dataset(spec.dataset, spec.root, spec.split, download=spec.download, options=spec.options)
        case Generated():
            source = open_generated(spec, framing, seed, open_source)
        case other:
            raise PlanError(f"no reader for images of {type(other).__name__}")
    if isinstance(spec, StoredImages):
        red, green, blue = spec.background
        source = replace(source, shuffle=spec.shuffle, background=(red, green, blue))
    return replace(source, name=name, limit=spec.limit, skip_broken=spec.skip_broken)
