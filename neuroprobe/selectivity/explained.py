"""What a finished result of selectivity is asked once more, with the network at hand: collages, and what is redundant.

Each function takes a rig, which `neuroprobe.rig.open_rig` opens from the protocol, and the result of its run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from neuroprobe import names
from neuroprobe.analysis.decomposition import decompose_image, decompose_unit
from neuroprobe.analysis.redundancy import SHARES, redundancy
from neuroprobe.analysis.selectivity_overview import selectivity_of
from neuroprobe.analysis.selectivity_units import unit_of
from neuroprobe.errors import ReaderError
from neuroprobe.probe.decomposition import layer_maps, maps_under
from neuroprobe.probe.lesion import lesioned
from neuroprobe.probe.outcome import REDUNDANCY, find_outcome
from neuroprobe.probe.receptive_field import ReceptiveField, receptive_fields
from neuroprobe.selectivity.crops import within_images

if TYPE_CHECKING:
    from neuroprobe.rig import Rig

N_TRIED = 2  # images that the output of a network is looked at with


def explain_image(rig: Rig, result: xr.DataTree, layer: str, image: int, **options: Any) -> xr.Dataset:
    """Explain an image by the units of a layer that respond to it most, and where.

    Parameters
    ----------
    rig : Rig
        Of the protocol of the result.
    result : xarray.DataTree
        As `neuroprobe.open_result` opens it.
    layer : str
    image : int
        Its number, in the order of the protocol's images.
    **options
        As of `neuroprobe.analysis.decomposition.decompose_image`: ``k``, ``overlap``.

    Returns
    -------
    xarray.Dataset
        As of that function, with the ``picture(image_y, image_x, rgb)`` of the image; `npr.plot.decomposition` draws
        it.

    Raises
    ------
    ReaderError
        If the result has no such layer, or there is no such image.
    """
    units = selectivity_of(result, layer)
    if not 0 <= image < len(rig.images):
        raise ReaderError(f"image: received {image}, expected 0 to {len(rig.images) - 1}, a number of the images")
    shown = rig.images.load([image])
    with lesioned(rig.subject.network, rig.subject.lesion):
        maps = layer_maps(rig.subject.network, layer, rig.subject.prepare(shown.to(rig.device)))[0]
    found = decompose_image(units, maps[units[names.CHANNEL].values], **options)
    found.attrs |= {names.LAYER: layer, names.IMAGE_ID: rig.images.ids[image]}
    return found.assign(picture=(("image_y", "image_x", names.RGB), shown[0].permute(1, 2, 0).numpy()))


def explain_unit(rig: Rig, result: xr.DataTree, layer: str, channel: int, earlier: str, **options: Any) -> xr.Dataset:
    """Explain the Neuron Feature of a unit by the units of an earlier layer that respond to its top stimuli.

    Parameters
    ----------
    rig, result
        As of `explain_image`.
    layer : str
    channel : int
    earlier : str
        Another layer of the result, whose receptive fields lie in those of the unit's layer.
    **options
        As of `neuroprobe.analysis.decomposition.decompose_unit`: ``k``, ``overlap``.

    Returns
    -------
    xarray.Dataset
        As of that function, with the ``picture(field_y, field_x, rgb)`` of the Neuron Feature.

    Raises
    ------
    ReaderError, SubjectError
        If the result has no such layer or channel, or fields do not lie in each other.
    """
    later, before = selectivity_of(result, layer), selectivity_of(result, earlier)
    unit = unit_of(later, channel)
    network = rig.subject.network
    fields = receptive_fields(network, [layer, earlier], rig.subject.prepare(rig.images.load([0]).to(rig.device)))

    def load(numbers: np.ndarray) -> Tensor:
        return rig.subject.prepare(rig.images.load(numbers).to(rig.device))

    top = (unit[name].values.astype(np.int64) for name in (names.TOP_IMAGE, names.TOP_Y, names.TOP_X))
    with lesioned(network, rig.subject.lesion):
        responses = maps_under(network, earlier, _within(fields[earlier]), _within(fields[layer]), load, *top)
    responses = responses[:, before[names.CHANNEL].values]
    found = decompose_unit(later, before, channel, responses, **options)
    found.attrs |= {names.LAYER: layer, names.CHANNEL: channel, names.EARLIER: earlier}
    feature = unit[names.NEURON_FEATURE].transpose("field_y", "field_x", names.RGB)
    return found.assign(picture=(feature.dims, feature.values))


def _within(field: ReceptiveField) -> ReceptiveField:
    """Fields without what lies outside of the image for every unit, as a result tells them."""
    return replace(field, rows=within_images(field.rows), columns=within_images(field.columns))


def layer_redundancy(
    rig: Rig,
    result: xr.DataTree,
    layer: str,
    *,
    n_images: int | None = None,
    classes: Sequence[str] | None = None,
    n_random: int = 19,
    shares: Sequence[float] = SHARES,
) -> xr.Dataset:
    """Curve of accuracy and loss as channels of a layer are removed: most redundant, or weakest first, or at random.

    Parameters
    ----------
    rig, result
        As of `explain_image`.
    layer : str
        All of whose channels are recorded.
    n_images : int, optional
        Images that are shown, spread over all of the protocol's, which are shown by default.
    classes : sequence of str, optional
        Class that each output of the network stands for, where the weights and the images do not tell.
    n_random : int
        Orders at random.
    shares : sequence of float
        Of the channels, that are removed.

    Returns
    -------
    xarray.Dataset
        As of `neuroprobe.analysis.redundancy.redundancy`, which tells what it holds; the norm of a channel is its mean
        response. `npr.plot.removal_curve` draws it.

    Raises
    ------
    ReaderError
        If the layer has no similarity.
    PlanError, SubjectError
        If it is not known which outputs stand for the classes of the images.
    """
    units = selectivity_of(result, layer)
    if names.SIMILARITY not in units:
        raise ReaderError(
            f"layer {layer!r} has no similarity of its units: run with `selectivity: {{similarity: true}}`"
        )
    # channels count by their own numbers, in whatever order they were recorded
    units = units[[names.SIMILARITY, names.MEAN]].sortby([names.CHANNEL, names.CHANNEL_2])
    network, images = rig.subject.network, rig.images
    tried = rig.subject.prepare(images.load(range(min(N_TRIED, len(images)))).to(rig.device))
    outcome = find_outcome(network, tried, images.labels, classes, rig.subject.classes, REDUNDANCY)
    n_shown = len(images) if n_images is None else min(n_images, len(images))
    chosen = np.linspace(0, len(images) - 1, n_shown).round().astype(np.int64)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, n_shown, rig.protocol.record.batch):
            numbers = chosen[start : start + rig.protocol.record.batch]
            shown = rig.subject.prepare(images.load(numbers).to(rig.device))
            yield shown, torch.from_numpy(outcome.target[numbers])

    with lesioned(network, rig.subject.lesion):
        return redundancy(
            network,
            layer,
            batches(),
            units[names.SIMILARITY],
            norm=units[names.MEAN].values,
            shares=shares,
            n_random=n_random,
            seed=rig.protocol.seed,
            is_probability=outcome.is_probability,
        )
