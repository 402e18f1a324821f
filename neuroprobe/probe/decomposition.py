"""Maps of an earlier layer in the receptive fields of a unit's top stimuli, place by place over one another."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from neuroprobe.errors import SubjectError
from neuroprobe.probe.capture import Probe, find_sites
from neuroprobe.probe.receptive_field import Axis, ReceptiveField
from neuroprobe.protocol.subject import LayerSpec
from neuroprobe.statistics.decomposition import Fields, places_within

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


def layer_maps(network: nn.Module, layer: str, images: Tensor) -> Array:
    """Maps (images, channels, rows, columns) of a layer; of one place where it has none.

    Raises
    ------
    UnknownNameError, SubjectError
        As of `neuroprobe.probe.capture.find_sites`, or if its units are tokens.

    Examples
    --------
    >>> import torch
    >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()).eval()
    >>> [layer_maps(network, layer, torch.zeros(2, 3, 8, 8)).shape for layer in "01"]
    [(2, 4, 6, 6), (2, 144, 1, 1)]
    """
    sites = find_sites(network, [LayerSpec(name=layer)], images[:1])
    (site,) = sites
    if len(site.shape) == 2:
        raise SubjectError(f"layer {layer!r} gives {site.shape} per image, expected a map or channels: take another")
    found: list[Array] = []
    with Probe(network, sites) as probe:
        probe.record(images, lambda _, response: found.append(response.double().cpu().numpy().copy()))
    return found[0] if found[0].ndim == 4 else found[0][..., None, None]


def maps_under(
    network: nn.Module,
    earlier: str,
    earlier_field: ReceptiveField,
    field: ReceptiveField,
    load: Callable[[Integers], Tensor],
    images: Integers,
    rows: Integers,
    columns: Integers,
    *,
    batch: int = 32,
) -> Array:
    """Responses of an earlier layer in the receptive field of a unit, to its top stimuli.

    Parameters
    ----------
    network : torch.nn.Module
    earlier : str
        Address of the earlier layer.
    earlier_field, field : ReceptiveField
        Of its units, and of the units of the later layer.
    load : callable
        Numbers (n,) → images (n, 3, height, width), as the network expects them.
    images, rows, columns : int arrays (N,)
        Number of each top stimulus, and where in its map the unit responds most.
    batch : int
        Images that are shown at a time.

    Returns
    -------
    float array (N, channels, places, places)
        Counted from the corner of each crop. NaN where the field of a place leaves the image: in the crop, whole fields
        of all places that there are lie.

    Raises
    ------
    SubjectError
        If the units of the earlier layer see the whole image, or no field of theirs lies in one of the later layer's.

    Notes
    -----
    The whole image is shown, with the crop where it is. As only places are read whose fields lie in the crop, that is
    the same as if all around it were grey; a crop that is moved to a corner meets other padding.

    Examples
    --------
    >>> import torch
    >>> from neuroprobe.probe.receptive_field import receptive_fields
    >>> network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Conv2d(2, 4, 3, stride=2, padding=1)).eval()
    >>> images, top = torch.zeros(5, 3, 9, 9), np.array([4, 1])
    >>> fields = receptive_fields(network, ["1", "2"], images[:1])
    >>> found = maps_under(network, "1", fields["1"], fields["2"], images.__getitem__, top, np.array([0, 1]), top * 0)
    >>> found.shape, np.isnan(found[:, 0]).sum((1, 2))
    ((2, 2, 3, 3), array([5, 3]))
    """
    if earlier_field.whole_image:
        raise SubjectError(
            f"layer {earlier!r}: its units see the whole image ({earlier_field.why}): take an earlier one"
        )
    row, row_there = _places(earlier, earlier_field.rows, field.rows, rows)
    column, column_there = _places(earlier, earlier_field.columns, field.columns, columns)
    distinct, which = np.unique(images, return_inverse=True)
    which = which.reshape(-1)
    found: Array | None = None
    for start in range(0, len(distinct), batch):
        maps = layer_maps(network, earlier, load(distinct[start : start + batch]))
        if found is None:
            found = np.empty((len(images), maps.shape[1], row.shape[1], column.shape[1]))
        at = np.flatnonzero((which >= start) & (which < start + batch))
        picked = maps[(which[at] - start)[:, None, None], :, row[at][:, :, None], column[at][:, None, :]]
        found[at] = np.moveaxis(picked, -1, 1)
    if found is None:
        raise SubjectError("no image was given, expected the unit's top stimuli")
    there = row_there[:, :, None] & column_there[:, None, :]
    return np.where(there[:, None], found, np.nan)


def fields_of(axis: Axis) -> Fields:
    """Fields along an axis, as the statistics know them."""
    return Fields(axis.start, axis.stride, axis.size)


def _places(earlier: str, axis: Axis, later: Axis, place: Integers) -> tuple[Integers, NDArray[np.bool_]]:
    """Places (N, places) of the earlier layer, and whether their whole fields are in the image."""
    try:
        ratio, first, n = places_within(fields_of(later), fields_of(axis))
    except ValueError as error:
        raise SubjectError(f"layer {earlier!r}: {error}") from error
    if not n:
        raise SubjectError(
            f"layer {earlier!r}: its fields of {axis.size} px do not lie in those of {later.size} px of the later "
            "layer: take an earlier layer"
        )
    places = place[:, None] * ratio + first + np.arange(n)
    start = axis.start + places * axis.stride
    is_there = (places >= 0) & (places < axis.n_units) & (start >= 0) & (start + axis.size <= axis.n_pixels)
    return np.clip(places, 0, axis.n_units - 1), is_there
