"""What a plan costs: bytes of memory and of disk by purpose, at each moment at which they may be at their fullest."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from neuroprobe import names
from neuroprobe.analysis.contrast import ContrastAnalysis
from neuroprobe.lesion_costs import lesion_disk, lesion_merging, lesion_recording, lesion_result, lesion_writing
from neuroprobe.machine import give_back, resident_bytes
from neuroprobe.selectivity.costs import (
    layer_states,
    selectivity_disk,
    selectivity_recording,
    selectivity_result,
    selectivity_scoring,
    selectivity_writing,
)

if TYPE_CHECKING:
    from neuroprobe.plans import Plan
    from neuroprobe.probe.sites import Site
    from neuroprobe.rig import Analysis, Rig
    from neuroprobe.statistics.estimators import Terms

PROGRAM: Final = "program"  # Python, its libraries, and what else the process holds before it runs
CHUNK_BYTES: Final = 32 << 20  # of a chunk of stored responses
CHUNK_OF_RESULT: Final = 64 << 20  # bytes of a variable of a result, above which each factor has its own chunk
# what the allocator (glibc's) keeps of freed memory; measured by benchmarks/bench_memory.py
MAPPED_BYTES: Final = 32 << 20  # arrays of this size are given back when they are freed (M_MMAP_THRESHOLD)
HOLES: Final = 0.7  # of smaller tensors: gaps between them that others do not fit into, and the top of the heap,
TOP_BYTES: Final = 64 << 20  # of which so much is kept at most (M_TRIM_THRESHOLD)
KEPT_BYTES: Final = 12 << 20
KEPT_SHARE: Final = 0.05  # of all that comes and goes
KEPT_SHARE_ON_DEVICE: Final = 0.1  # torch hands out memory in blocks
# torch.compile at work, and what it takes more for each sum; its libraries are part of the program by then; measured
COMPILER_BYTES: Final = 60 << 20
COMPILER_BYTES_PER_SUM: Final = 3 << 19
NOISE_ARRAYS: Final = 6  # of float64, that drawing noise takes
METADATA_BYTES: Final = 16 << 10  # of a variable on disk, with the rest of its last block
TEXT_BYTES: Final = 48  # of the role, design and stimulus of a presentation


@dataclass(frozen=True)
class Part:
    """Bytes for one purpose.

    Attributes
    ----------
    purpose : str
    n_bytes : int
    layer : str
        For which; empty where they are for all.
    on_device : bool
        Whether they lie on a CUDA device.
    """

    purpose: str
    n_bytes: int
    layer: str = ""
    on_device: bool = False


Moments = Mapping[str, tuple[Part, ...]]


def fullest(moments: Moments, *, on_device: bool = False) -> tuple[str, tuple[Part, ...]]:
    """Return the moment that takes most on the host, or on the device, and its parts there."""
    parts = {moment: tuple(p for p in all_ if p.on_device is on_device) for moment, all_ in moments.items()}
    return max(parts.items(), key=lambda item: total(item[1]))


def total(parts: Iterable[Part]) -> int:
    """Bytes of some parts."""
    return sum(part.n_bytes for part in parts)


def by_purpose(parts: Iterable[Part]) -> dict[str, int]:
    """Bytes of some parts by purpose."""
    sums: dict[str, int] = {}
    for part in parts:
        sums[part.purpose] = sums.get(part.purpose, 0) + part.n_bytes
    return sums


def most_memory(moments: Moments) -> tuple[int, int]:
    """Bytes that the process takes at most, and those on the CUDA device."""
    return total(fullest(moments)[1]), total(fullest(moments, on_device=True)[1])


# memory


def program_bytes(rig: Rig) -> int:
    """Bytes that the process takes now, but for the network and the images of the rig."""
    import zarr.codecs  # noqa: F401 - what a run has yet to import counts too

    # the passes that are counted page in what libraries need for all others: code, and kernels made for this network
    assert rig.footprint is not None
    give_back()
    opened = rig.images.bytes_kept + (0 if rig.device.type == "cuda" else network_bytes(rig))
    return max(1, resident_bytes() - opened)


def memory_moments(plan: Plan, rig: Rig, program: int) -> Moments:
    """Bytes of memory at each moment of a run.

    Parameters
    ----------
    plan : Plan
    rig : Rig
    program : int
        Bytes that the process takes without network and images.
    """
    on_device = rig.device.type == "cuda"
    weights = network_bytes(rig)
    base = (
        Part(PROGRAM, program),
        Part("network", weights, on_device=on_device),
        Part("images", rig.images.bytes_kept),
    )
    if rig.session == names.MASKING:
        comes_and_goes = {
            "recording": list(lesion_recording(plan, rig)),
            "merging sums": list(lesion_merging(plan, rig)),
            "writing the result": list(lesion_writing(rig)),
        }
    elif rig.session == names.SELECTIVITY:
        comes_and_goes = {
            "recording": list(selectivity_recording(plan, rig)),
            "scoring": list(selectivity_scoring(plan, rig)),
            "writing the result": list(selectivity_writing(rig)),
        }
    else:
        comes_and_goes = {
            "recording": [*_sums(plan, rig), *_recording(plan, rig), *_stored(plan, rig)],
            "merging sums": list(_merging(plan, rig)),
            "writing the result": list(_writing(plan, rig)),
        }
    moments = {moment: (*base, *parts, *_kept(parts)) for moment, parts in comes_and_goes.items()}
    # a file of weights is read beside the network that takes them over
    n_copies = 1 if rig.protocol.subject.weights == "none" or rig.protocol.subject.random_twin else 2
    return {"loading the network": (base[0], Part("network", n_copies * weights)), **moments}


def network_bytes(rig: Rig) -> int:
    """Bytes of the weights and buffers of the network."""
    network = rig.subject.network
    return sum(tensor.nbytes for tensor in (*network.parameters(), *network.buffers()))


def _kept(parts: Iterable[Part]) -> Iterator[Part]:
    on_host, on_device = (total(part for part in parts if part.on_device is there) for there in (False, True))
    yield Part("allocator", KEPT_BYTES + int(KEPT_SHARE * on_host))
    yield Part("allocator", int(KEPT_SHARE_ON_DEVICE * on_device), on_device=True)


def _sums(plan: Plan, rig: Rig) -> Iterator[Part]:
    """Sums of the block that is recorded, and unmerged states of its shard."""
    from neuroprobe.statistics.pick_freeze import FOLD, state_bytes

    for site in plan.sites:
        n_bytes = 0
        for analysis in rig.analyses:
            n_bytes += state_bytes(analysis.terms, site.n_units, depth_of(plan))
            if plan.layout.block <= FOLD:
                # block sums are made when the block ends
                n_bytes -= single_bytes(analysis.terms, site.n_units)
        yield Part("sums", n_bytes, site.name, rig.device.type == "cuda")


def sums_of_layers(plan: Plan, rig: Rig) -> dict[str, int]:
    """Bytes of the sums of each layer while a run records."""
    if rig.session == names.SELECTIVITY:
        return layer_states(rig)
    return {part.layer: part.n_bytes for part in _sums(plan, rig)}


def depth_of(plan: Plan) -> int:
    """Unmerged states that are in memory while the last block of a shard is recorded."""
    return plan.shard.bit_length() - 1


def table_bytes(plan: Plan, rig: Rig) -> int:
    """Bytes of the presentations of a piece: values of every input, and comparisons of all rows with each other."""
    n_inputs, d = sum(len(factor.inputs) for factor in rig.factors), len(rig.players)
    sequence = 8 * 2 * n_inputs * max(plan.layout.piece, plan.layout.scramble or 0)
    return 2 * sequence + plan.layout.piece * plan.n_rows * (8 * (n_inputs + 4) + plan.n_rows * (d + 2))


def _recording(plan: Plan, rig: Rig) -> Iterator[Part]:
    """The tensors of a forward pass, with what its stimuli and the statistics take."""
    from neuroprobe.statistics.pick_freeze import update_bytes
    from neuroprobe.stimuli.treatment import SLICE

    layout, on_device = plan.layout, rig.device.type == "cuda"
    small, large = rig.footprint.forward(layout.batch, 0 if on_device else MAPPED_BYTES)
    for site in plan.sites:
        moment = rig.footprint.sites[site.name]
        if site.units is not None:
            small[moment] += 4 * layout.batch * site.n_units  # a copy
        if not layout.compiled:
            # one analysis after the other
            small[moment] += max(
                (
                    update_bytes(analysis.terms, site.n_units, plan.n_together, tiled=not on_device)
                    for analysis in rig.analyses
                ),
                default=0,
            )
    # on a CPU small tensors stay in the heap when they are gone
    if not on_device:
        yield Part("allocator", min(int(HOLES * small.max()), TOP_BYTES))
    moment = int(np.argmax(small + large))
    forward = int((small + large).max() if on_device else small.max() + large.max())
    yield Part("forward pass", forward, rig.footprint.layer_at(moment), on_device)
    n_run = max(plan.rows_run)
    if n_run > layout.batch:
        # the responses to a base sample wait for those of its last pass, and are joined
        waiting = sum(site.n_units for site in plan.sites) + _largest(plan.sites).n_units
        yield Part("forward pass", 4 * n_run * waiting, on_device=on_device)
    for analysis in rig.analyses:
        for site in sorted(ranked_sites(plan, analysis), key=lambda site: -site.n_units)[:1]:
            # rows of an image, which of them are finite, and the differences with what they are made of
            n_bytes = 5 * plan.n_rows + 4 * len(analysis.factors) + 8 * (plan.n_rows // len(analysis.factors) + 2)
            yield Part("differences", n_bytes * site.n_units, site.name)
    # as altered and as filled up, or as filled up and as the network expects them
    stimuli = 2 * 4 * layout.batch * math.prod(rig.images.shape)
    altering = rig.footprint.per_stimulus * (layout.batch if on_device else min(layout.batch, SLICE))
    yield Part("stimuli", max(0, stimuli + altering - forward), on_device=on_device)
    yield Part("stimuli", table_bytes(plan, rig) + _fed(plan, rig))
    if on_device:
        yield Part("stimuli", _fed(plan, rig) // 2, on_device=True)
    if rig.noise is not None:
        # random numbers of the largest layer, and what is made of them
        yield Part("noise", NOISE_ARRAYS * 8 * plan.n_together * _largest(plan.sites).n_units)
    if layout.compiled:
        n_sums = sum(analysis.terms.n_sums for analysis in rig.analyses)
        yield Part("compiler", COMPILER_BYTES + n_sums * COMPILER_BYTES_PER_SUM)


def _fed(plan: Plan, rig: Rig) -> int:
    """Bytes of a batch that is decoded ahead for a CUDA device: as it comes, and where it is copied from."""
    return 2 * 4 * plan.layout.batch * math.prod(rig.images.shape) if rig.device.type == "cuda" else 0


def _merging(plan: Plan, rig: Rig) -> Iterator[Part]:
    """States of a span of all layers, beside a layer of its sibling, of which the errors are then summarised."""
    from neuroprobe.statistics.pick_freeze import state_bytes

    on_device, largest = rig.device.type == "cuda", _largest(plan.sites)
    for site in plan.sites:
        in_shard = with_merged = merged = 0
        for analysis in rig.analyses:
            partial = state_bytes(analysis.terms, site.n_units, 0) - single_bytes(analysis.terms, site.n_units)
            in_shard += state_bytes(analysis.terms, site.n_units, depth_of(plan) + 1)
            merged += merged_bytes(analysis.terms, site.n_units)
            with_merged += partial
        yield Part("sums", max(in_shard, with_merged + merged), site.name, on_device)
        if on_device:
            yield Part("sums", merged, site.name)  # on their way to the disk
    if not rig.analyses:
        return
    sibling = max(merged_bytes(analysis.terms, largest.n_units) for analysis in rig.analyses)
    yield Part("sums", sibling, largest.name, on_device)
    yield Part("result", max(analysis.summary_bytes(largest.n_units) for analysis in rig.analyses), largest.name)


def single_bytes(terms: Terms, n_units: int) -> int:
    """Bytes of the state of one block."""
    from neuroprobe.statistics.pick_freeze import state_bytes

    return state_bytes(terms, n_units, 1) - state_bytes(terms, n_units, 0)


def merged_bytes(terms: Terms, n_units: int) -> int:
    """Bytes of the state of a span of several blocks."""
    from neuroprobe.statistics.pick_freeze import state_bytes

    return state_bytes(terms, n_units, 2) - state_bytes(terms, n_units, 1)


def _writing(plan: Plan, rig: Rig) -> Iterator[Part]:
    """One layer of one analysis after the other: its sums, its result, and copies on their way to the disk.

    Of a layer of which some units are recorded, the result is that of all, and sums are read part by part.
    """

    def parts(analysis: Analysis, site: Site) -> tuple[Part, Part]:
        sums = min(2, plan.n_blocks.bit_count()) * merged_bytes(analysis.terms, site.n_units)
        variables = analysis.result_bytes(site.n_whole)
        # as it is cut into chunks, compressed and written; measured
        copies = max(3 * min(CHUNK_OF_RESULT, max(variables.values())), 3 * max(variables.values()) // 2)
        result = sum(variables.values()) + max(analysis.finalize_bytes(), copies)
        return Part("sums", sums, site.name), Part("result", result, site.name)

    if rig.analyses:
        sites = [_largest(plan.sites), *(site for site in plan.sites if site.units is not None)]
        yield from max((parts(analysis, site) for analysis in rig.analyses for site in sites), key=total)
    yield from _ranking(plan, rig)


def ranked_sites(plan: Plan, analysis: Analysis) -> tuple[Site, ...]:
    """The sites whose differences are kept, to be ranked."""
    ranks = analysis.ranks if isinstance(analysis, ContrastAnalysis) else ()
    return tuple(site for site in plan.sites if site.name in ranks)


def _ranking(plan: Plan, rig: Rig) -> Iterator[Part]:
    """P-values of all layers, which are corrected together; pieces of differences, and what their ranks say."""
    from neuroprobe.differences import PIECE_BYTES
    from neuroprobe.statistics.paired import VALUES_AT_A_TIME

    for analysis in rig.analyses:
        if not isinstance(analysis, ContrastAnalysis):
            continue
        families = [analysis.result_bytes(site.n_units, ranked=site.name in analysis.ranks) for site in plan.sites]
        p_values = sum(variables[names.P_VALUE] for variables in families)
        one = p_values if analysis.family == "all" else p_values // len(analysis.factors)
        # p and adjusted p; of one family and test, what sorting takes
        yield Part("p-values", 2 * p_values + 4 * one)
        for site in ranked_sites(plan, analysis):
            yield Part("ranks", 3 * 8 * len(analysis.factors) * site.n_units, site.name)
        if ranked_sites(plan, analysis):
            yield Part("ranks", 2 * PIECE_BYTES + 12 * 8 * VALUES_AT_A_TIME)


def _largest(sites: Iterable[Site]) -> Site:
    return max(sites, key=lambda site: site.n_units)


# stored responses


def stored_sites(rig: Rig) -> tuple[Site, ...]:
    """The sites whose responses are written."""
    store = rig.protocol.record.store
    if store == "none":
        return ()
    return tuple(site for site in rig.sites if store.responses is None or site.name in store.responses)


def samples_per_chunk(plan: Plan, bytes_per_row: int) -> int:
    """Base samples of a chunk of stored responses: a power of two that divides a piece."""
    fitting = max(1, CHUNK_BYTES // max(1, bytes_per_row * plan.n_rows))
    return min(plan.layout.piece, 1 << int(math.log2(fitting)))


def _stored(plan: Plan, rig: Rig) -> Iterator[Part]:
    """Responses that wait until they fill a chunk, and copies of those of a layer on their way to the disk."""
    sites = stored_sites(rig)
    if not sites:
        return
    n_samples = samples_per_chunk(plan, 4 * sum(site.n_units for site in sites)) + plan.n_together
    bytes_per_unit = 4 * n_samples * plan.n_rows
    largest = _largest(sites)
    for site in sites:
        yield Part("stored responses", bytes_per_unit * site.n_units, site.name)
    yield Part("stored responses", 3 * bytes_per_unit * largest.n_units, largest.name)
    yield Part("stored responses", plan.layout.piece * plan.n_rows * 8 * TEXT_BYTES)
    if rig.device.type == "cuda":
        yield Part("stored responses", 4 * plan.n_together * plan.n_rows * largest.n_units, largest.name, True)


# disk


def disk_moments(plan: Plan, rig: Rig) -> Moments:
    """Bytes of disk at each moment of a run; compression makes them fewer."""
    if rig.session == names.MASKING:
        return {
            "recording": tuple(lesion_disk(rig, sum(_peak_states(plan)))),
            "writing the result": (*lesion_disk(rig, plan.n_blocks.bit_count()), *lesion_result(rig)),
        }
    if rig.session == names.SELECTIVITY:
        return {
            "recording": tuple(selectivity_disk(rig, sum(_peak_states(plan)))),
            "writing the result": (*selectivity_disk(rig, plan.n_blocks.bit_count()), *selectivity_result(rig)),
        }
    stored = (*_stored_on_disk(plan, rig), *_differences_on_disk(plan, rig))
    return {
        "recording": (*_states_on_disk(plan, rig, *_peak_states(plan)), *stored),
        "writing the result": (
            *_states_on_disk(plan, rig, plan.n_blocks.bit_count(), 0),
            *stored,
            *_result_on_disk(plan, rig),
        ),
    }


def _peak_states(plan: Plan) -> tuple[int, int]:
    """Number of states of several blocks, and of one block, that are on disk at most.

    Before the last shard every level of the tree may hold one; the parent is written before its children are deleted.
    """
    n_levels = (-(-plan.n_blocks // plan.shard)).bit_length() - 1
    n_single = int(plan.shard == 1 and n_levels > 0)
    return n_levels + 1 - n_single, n_single


def _states_on_disk(plan: Plan, rig: Rig, n_merged: int, n_single: int) -> Iterator[Part]:
    for site in plan.sites:
        n_bytes = sum(
            n_merged * merged_bytes(analysis.terms, site.n_units)
            + n_single * single_bytes(analysis.terms, site.n_units)
            for analysis in rig.analyses
        )
        yield Part("states", n_bytes + METADATA_BYTES, site.name)


def _result_on_disk(plan: Plan, rig: Rig) -> Iterator[Part]:
    for site in plan.sites:
        for analysis in rig.analyses:
            variables = analysis.result_bytes(site.n_units)
            yield Part("result", sum(variables.values()) + METADATA_BYTES * (len(variables) + 2), site.name)


def _differences_on_disk(plan: Plan, rig: Rig) -> Iterator[Part]:
    """Differences of every image, of the layers that are ranked."""
    for analysis in rig.analyses:
        for site in ranked_sites(plan, analysis):
            yield Part("differences", 4 * plan.samples * len(analysis.factors) * site.n_units, site.name)


def _stored_on_disk(plan: Plan, rig: Rig) -> Iterator[Part]:
    sites, n_rows = stored_sites(rig), plan.samples * plan.n_rows
    if not sites:
        return
    n_chunks = plan.samples // samples_per_chunk(plan, 4 * sum(site.n_units for site in sites))
    for site in sites:
        # of every chunk its last block on the disk
        yield Part("stored responses", 4 * site.n_units * n_rows + 4096 * (n_chunks + 4), site.name)
    images, factors = rig.images, rig.factors
    columns = [column for column in images.columns.values() if isinstance(column, list)]
    longest = max(len(text.encode()) for column in columns for text in column)
    n_inputs = sum(len(factor.inputs) for factor in factors)
    text = (
        TEXT_BYTES
        + len(images.columns) * longest
        + 2 * max((len(factor.name.encode()) for factor in factors), default=0)
    )
    n_columns = n_inputs + 6
    n_pieces = plan.samples // plan.layout.piece
    yield Part("presentation table", n_rows * (8 * n_columns + text) + n_columns * (METADATA_BYTES + 4096 * n_pieces))
