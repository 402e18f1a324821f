"""What a session of selectivity costs: bytes of memory and of disk at each moment."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from neuroprobe.statistics.response_sums import state_bytes

if TYPE_CHECKING:
    from neuroprobe.costs import Part
    from neuroprobe.plans import Plan
    from neuroprobe.probe.sites import Site
    from neuroprobe.rig import Rig

BUFFER: Final = 64 << 20  # bytes of responses that wait for the end of a block
BYTES_WAITING: Final = 16  # of a channel and an image
MAX_BLOCK: Final = 4096
MIN_BLOCK: Final = 64
CROPS_AT_ONCE: Final = 96 << 20  # bytes of crops and what becomes of them
PICTURE_SIDE: Final = 64  # px, of the crops that are kept


def images_per_list(n_images: int, n_channels: int) -> int:
    """Images of a block: a power of two, as many as may wait, and at least eight blocks where there are images enough.

    Examples
    --------
    >>> images_per_list(50_000, 688), images_per_list(1_281_167, 4_224), images_per_list(300, 10)
    (4096, 512, 64)
    """
    fitting = max(1, BUFFER // (BYTES_WAITING * n_channels))
    most = min(MAX_BLOCK, 1 << (fitting.bit_length() - 1))
    return max(MIN_BLOCK, min(most, 1 << max(0, (n_images // 8).bit_length() - 1)))


def layer_states(rig: Rig) -> dict[str, int]:
    """Bytes of the state of each layer."""
    study = rig.selectivity
    assert study is not None
    return {site.name: state_bytes(len(site.channels), study.options.top, study.n_classes) for site in rig.sites}


def selectivity_recording(plan: Plan, rig: Rig) -> Iterator[Part]:
    """Responses that wait, states of a shard, and the tensors of a forward pass."""
    from neuroprobe.costs import MAPPED_BYTES, Part, depth_of, table_bytes

    on_device = rig.device.type == "cuda"
    for layer, n_bytes in layer_states(rig).items():
        yield Part("lists", (depth_of(plan) + 2) * n_bytes, layer)
    n_channels = sum(len(site.channels) for site in rig.sites)
    # as they come, and joined
    yield Part("responses", 2 * BYTES_WAITING * n_channels * plan.layout.block)
    small, large = rig.footprint.forward(plan.layout.batch, 0 if on_device else MAPPED_BYTES)
    yield Part("forward pass", int(small.max() + large.max()), on_device=on_device)
    channels, height, width = rig.images.shape
    images = 8 * plan.layout.batch * channels * height * width
    yield Part("stimuli", table_bytes(plan, rig) + images)
    if on_device:  # a batch more, decoded ahead
        yield Part("stimuli", images, on_device=True)


def field_bytes(rig: Rig, site: Site) -> int:
    """Bytes of the Neuron Features of a layer, whose fields are at most twice as wide as the image."""
    _, height, width = rig.images.shape
    return 4 * 4 * len(site.channels) * 4 * height * width


def selectivity_scoring(plan: Plan, rig: Rig) -> Iterator[Part]:
    """Lists of all layers, and the responses and features of the largest one."""
    from neuroprobe.costs import MAPPED_BYTES, Part

    study, on_device = rig.selectivity, rig.device.type == "cuda"
    assert study is not None
    n_channels = [len(site.channels) for site in rig.sites]
    yield Part("lists", 4 * 8 * study.options.top * sum(n_channels))
    yield Part("similarity", 8 * sum(n**2 for n in n_channels))
    yield Part("responses", 4 * study.n_shown * study.options.top * max(n_channels))
    yield Part("features", max(field_bytes(rig, site) for site in rig.sites))
    small, large = rig.footprint.forward(plan.layout.batch, 0 if on_device else MAPPED_BYTES)
    yield Part("forward pass", int(small.max() + large.max()), on_device=on_device)
    yield Part("crops", CROPS_AT_ONCE, on_device=on_device)
    if study.options.relevance:
        # responses with each channel silenced, their changes, and these once more where they are summed
        yield Part("relevance", 4 * 8 * max(_silenced(rig), default=0))


def _silenced(rig: Rig) -> Iterator[int]:
    """Responses that are kept at a time where the channels before each layer are silenced."""
    from neuroprobe.probe.relevance import MAX_VALUES

    assert rig.selectivity is not None
    for before, site in pairwise(rig.sites):
        n_before = before.shape[0] if before.spec.channels is None else MAX_VALUES
        yield min(MAX_VALUES, n_before * len(site.channels) * rig.selectivity.options.top)


def selectivity_writing(rig: Rig) -> Iterator[Part]:
    """The result of one layer, and the permutations of labels."""
    from neuroprobe.costs import Part

    states = layer_states(rig)
    yield Part("lists", max(states.values()))
    yield Part("result", max(2 * field_bytes(rig, site) + 3 * states[site.name] for site in rig.sites))


def selectivity_disk(rig: Rig, n_states: int) -> Iterator[Part]:
    """States of spans, and what crops told."""
    from neuroprobe.costs import METADATA_BYTES, Part

    study = rig.selectivity
    assert study is not None
    for site in rig.sites:
        yield Part("states", n_states * (layer_states(rig)[site.name] + METADATA_BYTES), site.name)
        responses = 4 * study.n_shown * study.options.top * len(site.channels)
        yield Part("scores", responses + field_bytes(rig, site), site.name)
    if study.options.relevance:
        yield Part("scores", sum(_relevance_bytes(rig)))


def selectivity_result(rig: Rig) -> Iterator[Part]:
    """Features, pictures and tables of each layer."""
    from neuroprobe.costs import METADATA_BYTES, Part

    study = rig.selectivity
    assert study is not None
    for site in rig.sites:
        n = len(site.channels)
        pictures = n * study.options.crops * 3 * PICTURE_SIDE**2
        tables = 8 * n * (4 * study.options.top + 12 * study.n_classes + 20 * study.n_shown + 64) + 8 * n * n
        yield Part("result", field_bytes(rig, site) + pictures + tables + 80 * METADATA_BYTES, site.name)
    if study.options.relevance:
        yield Part("result", sum(_relevance_bytes(rig)))


def _relevance_bytes(rig: Rig) -> Iterator[int]:
    """Bytes of the relevances of each layer but the first: six numbers of each pair of channels."""
    for before, site in pairwise(rig.sites):
        yield 6 * 8 * len(before.channels) * len(site.channels)
