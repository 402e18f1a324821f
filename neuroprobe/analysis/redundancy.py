"""Redundancy of the channels of a layer: what a network loses as they are removed, most redundant first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from neuroprobe import names
from neuroprobe.errors import ReaderError
from neuroprobe.statistics.accuracy import LEVEL
from neuroprobe.statistics.redundancy import closest_partners, destinations, removal_counts
from neuroprobe.statistics.unit_relations import low_norm_order, random_orders, removal_order

if TYPE_CHECKING:
    from torch import Tensor, nn

Integers = NDArray[np.int64]
SHARES: Final = tuple(tenth / 10 for tenth in range(11))
SIMILARITY: Final = "similarity"
LOW_NORM: Final = "low_norm"
REMOVALS: Final = ("zero", "add")
COMPARED: Final = (names.ACCURACY, names.LOSS, names.ACCURACY_CHANGE, names.LOSS_CHANGE)
LONG_NAMES: Final = {
    names.ACCURACY: "share of the images whose class is the largest output",
    names.LOSS: "mean over images of the negative logarithm of the probability of the class",
    names.ACCURACY_CHANGE: "accuracy less that of the network as it is",
    names.LOSS_CHANGE: "loss less that of the network as it is",
    names.N_REMOVED: "channels that are removed",
    names.REMOVED: "channels in the order in which they are removed",
    names.P_VALUE: "share of random orders, the order by similarity among them, that raise the loss no more than it",
}


def redundancy(
    network: nn.Module,
    layer: str,
    batches: Iterable[tuple[Tensor, Tensor]],
    similarity: ArrayLike | xr.DataArray,
    *,
    norm: ArrayLike | None = None,
    shares: Sequence[float] = SHARES,
    n_random: int = 19,
    seed: int = 0,
    is_probability: bool = False,
) -> xr.Dataset:
    """Curve of accuracy and loss as channels of a layer are removed, most redundant first, beside other orders.

    Of the most similar pair of channels that is left, the one that is more like all others goes. Its map is set to 0
    (``zero``), or added to that of its partner (``add``), in any order the most similar channel that is left.

    Parameters
    ----------
    network : torch.nn.Module
        In eval mode.
    layer : str
    batches : iterable of (images, targets)
        Images (n, 3, height, width) as the network expects them, and the output (n,) that stands for the class of each.
    similarity : array_like (channels, channels)
        As ``similarity`` of the layer in a result of `selectivity`.
    norm : array_like (channels,), optional
        Of the filter of each channel, or its mean response: makes the order ``low_norm``, the smallest first.
    shares : sequence of float
        Of the channels, that are removed.
    n_random : int
        Orders at random, each a function of `seed` and its number.
    seed : int
    is_probability : bool
        Whether the network returns probabilities.

    Returns
    -------
    xarray.Dataset
        Over ``order`` (``similarity``, ``low_norm``, ``random_0`` …), ``removal`` and ``removed_share``: ``accuracy``
        with Wilson's interval, ``loss`` with Student's, and their changes from the network as it is, paired over
        images. ``random_mean_loss_change`` and the like over random orders, with their standard deviation
        (``random_deviation_…``) over these; ``p_value``. ``n_removed``, and the ``removed`` channels of each order.
        Channels without a similarity go last in the first order, and their maps are always zeroed.

    Raises
    ------
    ReaderError
        If similarities or norms do not fit, or numbers are out of their range.
    UnknownNameError, SubjectError, ResponseError
        As of `neuroprobe.probe.redundancy.removal_outcomes`.

    Examples
    --------
    >>> import torch
    >>> network = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1, bias=False), torch.nn.Flatten()).eval()
    >>> network[0].weight.data = torch.tensor([[2.0, 0, 0], [0, 1, 0]])[..., None, None]
    >>> batches = [(torch.ones(4, 3, 1, 1), torch.zeros(4, dtype=int))]
    >>> found = redundancy(network, "0", batches, [[1, 0.5], [0.2, 1]], shares=[0, 0.5, 1], n_random=1)
    >>> found.accuracy.sel(order="similarity", removal="zero").values, found.removed.values
    (array([1., 0., 1.]), array([[0, 1],
           [...]]))
    """
    from neuroprobe.probe.redundancy import removal_outcomes

    matrix = _square(similarity)
    n_channels = len(matrix)
    labels, orders, partners = _orders(matrix, norm, n_random, seed)
    try:
        counts = removal_counts(n_channels, list(shares))
    except ValueError as error:
        raise ReaderError(f"shares: {error}") from error
    nowhere = np.full(n_channels, -1)
    variants = np.stack(
        [
            destinations(order, partner, counts)
            for order, closest in zip(orders, partners, strict=True)
            for partner in (nowhere, closest)
        ]
    )
    shape = len(labels), len(REMOVALS), len(counts)
    outcomes = vars(
        removal_outcomes(network, layer, variants.reshape(-1, n_channels), batches, is_probability=is_probability)
    )
    n_images = outcomes.pop("n")
    dims = (names.ORDER, names.REMOVAL, names.REMOVED_SHARE)
    made = xr.Dataset(
        {name: (dims, values.reshape(shape)) for name, values in outcomes.items()},
        {
            names.ORDER: (names.ORDER, np.array(labels, dtype=object)),
            names.REMOVAL: (names.REMOVAL, np.array(REMOVALS, dtype=object)),
            names.REMOVED_SHARE: (names.REMOVED_SHARE, np.array(shares, dtype=np.float64)),
        },
        {"layer": layer, "n_images": n_images, "n_random": n_random, "seed": seed},
    )
    made[names.N_REMOVED] = names.REMOVED_SHARE, counts
    made[names.REMOVED] = (names.ORDER, names.RANK), orders
    made = made.assign_coords({names.RANK: np.arange(1, n_channels + 1)}).assign(_against_random(made, n_random))
    for name, text in LONG_NAMES.items():
        described = {
            name: text,
            names.se(name): f"standard error over images of: {text}",
            names.lower(name): f"lower end of the {LEVEL:.0%} interval over images of: {text}",
            names.upper(name): f"upper end of the {LEVEL:.0%} interval over images of: {text}",
            f"{names.RANDOM_MEAN}_{name}": f"mean over random orders of: {text}",
            f"{names.RANDOM_DEVIATION}_{name}": f"standard deviation over random orders of: {text}",
        }
        for variable, said in described.items():
            if variable in made:
                made[variable].attrs["long_name"] = said
    return made


def _square(similarity: ArrayLike | xr.DataArray) -> NDArray[np.float64]:
    if isinstance(similarity, xr.DataArray) and {names.CHANNEL, names.CHANNEL_2} <= set(similarity.dims):
        similarity = similarity.transpose(names.CHANNEL, names.CHANNEL_2)
    matrix = np.asarray(similarity, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not len(matrix):
        raise ReaderError(f"similarity: received {matrix.shape}, expected (channels, channels)")
    return matrix


def _orders(
    similarity: NDArray[np.float64], norm: ArrayLike | None, n_random: int, seed: int
) -> tuple[list[str], Integers, Integers]:
    """Labels (orders,), orders and partners (orders, channels)."""
    n_channels = len(similarity)
    if n_random < 0:
        raise ReaderError(f"n_random: received {n_random}, expected 0 or more")
    order, partner = removal_order(similarity)
    labels, orders, partners = [SIMILARITY], [order], [partner]
    if norm is not None:
        given = np.asarray(norm, dtype=np.float64)
        if given.shape != (n_channels,):
            raise ReaderError(f"norm: received {given.shape}, expected one for each of {n_channels} channels")
        labels.append(LOW_NORM)
        orders.append(low_norm_order(given))
    labels += [f"{names.RANDOM}_{number}" for number in range(n_random)]
    orders += list(random_orders(n_channels, n_random, seed))
    partners += [closest_partners(similarity, one) for one in orders[1:]]
    return labels, np.stack(orders), np.stack(partners)


def _against_random(made: xr.Dataset, n_random: int) -> dict[str, Any]:
    """Mean and deviation of what random orders do, and how the order by similarity compares."""
    if not n_random:
        return {}
    drawn = made.isel({names.ORDER: slice(-n_random, None)})
    found: dict[str, Any] = {}
    for name in COMPARED:
        found[f"{names.RANDOM_MEAN}_{name}"] = drawn[name].mean(names.ORDER)
        ddof = 1 if n_random > 1 else 0
        deviation = drawn[name].std(names.ORDER, ddof=ddof)
        found[f"{names.RANDOM_DEVIATION}_{name}"] = deviation if n_random > 1 else deviation * np.nan
    # of equal variants the loss is the same number: they were run once
    lower = drawn[names.LOSS] <= made[names.LOSS].sel({names.ORDER: SIMILARITY}, drop=True)
    found[names.P_VALUE] = (1 + lower.sum(names.ORDER)) / (1 + n_random)
    return found
