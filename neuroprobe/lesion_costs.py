"""What a session of masks costs: bytes of memory and of disk at each moment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from neuroprobe.analysis.single_class import SingleClassAnalysis

if TYPE_CHECKING:
    from neuroprobe.costs import Part
    from neuroprobe.plans import Plan
    from neuroprobe.rig import Rig

N_OF_OUTCOMES: Final = 5  # arrays of outcomes of a pack: as they are, differences, squares, and what is made of these
N_OF_RESAMPLES: Final = 6  # arrays of all resamples while they are turned into intervals


def lesion_recording(plan: Plan, rig: Rig) -> Iterator[Part]:
    """Sums, maps, and the tensors of forward passes under several masks, which take as much as those of one do."""
    from neuroprobe.costs import MAPPED_BYTES, Part, depth_of, table_bytes
    from neuroprobe.probe.masking import CACHE_BYTES

    assert rig.study is not None
    on_device = rig.device.type == "cuda"
    yield Part("sums", (depth_of(plan) + 2) * lesion_states(rig))
    for layer in {one.layer: one for place in rig.study.places for one in place.maps}.values():
        yield Part("maps", layer.sensitivity.nbytes + layer.ranks.nbytes, layer.layer)
        if on_device:
            yield Part("maps", layer.ranks.nbytes, layer.layer, on_device)
        n_random = max((one.number + 1 for place in rig.study.places for one in place.conditions), default=0)
        yield Part("maps", min(CACHE_BYTES, n_random * 4 * layer.candidates.size), layer.layer, on_device)
    small, large = rig.footprint.forward(plan.layout.batch, 0 if on_device else MAPPED_BYTES)
    yield Part("forward pass", int(small.max() + large.max()), on_device=on_device)
    n_parts = -(-max(plan.rows_run) // plan.layout.batch)
    values = max(place.bytes_before for place in rig.study.places)
    yield Part("forward pass", n_parts * plan.layout.batch * values, on_device=on_device)
    yield Part("stimuli", table_bytes(plan, rig) + 4 * plan.layout.batch * n_parts * _image_size(rig))
    if on_device:  # and a batch that is decoded ahead
        yield Part("stimuli", 8 * plan.layout.batch * _image_size(rig))
        yield Part("stimuli", 4 * plan.layout.batch * (n_parts + 1) * _image_size(rig), on_device=True)
    masks = max(place.at_once * sum(4 * one.candidates.size for one in place.maps) for place in rig.study.places)
    yield Part("masks", 2 * masks, on_device=on_device)
    rows = plan.n_together * plan.n_rows
    for analysis in rig.lesion_analyses:
        if isinstance(analysis, SingleClassAnalysis):
            at_once = next(place.at_once for place in rig.study.places if place.name == analysis.place.name)
            n_sets = len(analysis.sets) + len(analysis.random)
            yield Part("outcomes", at_once * rows * (16 * n_sets + 24 * len(analysis.classes)))
            # sums of random sets, and shares of classes of each image
            yield Part("outcomes", 2 * analysis.state_bytes)
            n_inputs, n_factors = len(analysis.inputs), len(analysis.factors)
            yield Part("outcomes", 8 * 3 * plan.n_together * n_inputs * (1 + n_factors) * len(analysis.classes))
        else:
            cells = len(analysis.inputs) * analysis.n_conditions * len(analysis.measures)
            yield Part("outcomes", 8 * cells * (N_OF_OUTCOMES * plan.n_together + analysis.n_resamples))


def _image_size(rig: Rig) -> int:
    channels, height, width = rig.images.shape
    return channels * height * width


def lesion_states(rig: Rig) -> int:
    """Bytes of the sums of a span of blocks."""
    return sum(analysis.state_bytes for analysis in rig.lesion_analyses)


def lesion_merging(plan: Plan, rig: Rig) -> Iterator[Part]:
    """States of a span, beside a sibling's of one place."""
    from neuroprobe.costs import Part, depth_of

    largest = max(analysis.state_bytes for analysis in rig.lesion_analyses)
    yield Part("sums", (depth_of(plan) + 2) * lesion_states(rig) + largest)


def lesion_writing(rig: Rig) -> Iterator[Part]:
    """Sums of one place, and what becomes of them."""
    from neuroprobe.costs import Part

    largest = max(analysis.state_bytes for analysis in rig.lesion_analyses)
    yield Part("sums", largest)
    yield Part("result", N_OF_RESAMPLES * largest)


def lesion_disk(rig: Rig, n_states: int) -> Iterator[Part]:
    """States of spans."""
    from neuroprobe.costs import METADATA_BYTES, Part

    yield Part("states", n_states * (lesion_states(rig) + METADATA_BYTES * len(rig.lesion_analyses)))


def lesion_result(rig: Rig) -> Iterator[Part]:
    """Tables of the result: fewer numbers than sums."""
    from neuroprobe.costs import METADATA_BYTES, Part

    for analysis in rig.lesion_analyses:
        cells = 8 * len(analysis.inputs) * analysis.by_map.size
        yield Part("result", 60 * cells + 48 * METADATA_BYTES, analysis.place.name)
