"""What a network loses as channels of a layer are removed, one after the other, over labelled images."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from neuroprobe.errors import ResponseError, SubjectError
from neuroprobe.probe.replaced import ReplacedPasses
from neuroprobe.statistics.redundancy import Outcomes, OutcomeSums

Integers = NDArray[np.int64]
TINY: Final = 1e-12  # least probability whose logarithm is taken


def removal_outcomes(
    network: nn.Module,
    layer: str,
    variants: Integers,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    is_probability: bool = False,
    n_spread: int = 256,
) -> Outcomes:
    """Accuracy and loss of a network some of whose channels are zeroed, or added to others.

    Parameters
    ----------
    network : torch.nn.Module
        In eval mode. It returns a number per class (images, classes).
    layer : str
        Whose channels are removed.
    variants : int array (variants, channels)
        For each channel the one that its map is added to, itself where it stays, -1 where it is zeroed, as
        `neuroprobe.statistics.redundancy.destinations` gives them.
    batches : iterable of (images, targets)
        Images (n, 3, height, width) as the network expects them, and the output (n,) that stands for the class of each.
        They are gone through once.
    is_probability : bool
        Whether outputs are probabilities; else a softmax makes them so.
    n_spread : int
        Images, each once for every variant, that go through the rest of the network at a time.

    Returns
    -------
    Outcomes
        Of the variants. The loss is the negative logarithm of the probability of the class.

    Raises
    ------
    UnknownNameError
        If there is no such layer.
    SubjectError
        If the outputs do not depend on it, or the network or the layer gives something else.
    ResponseError
        If an output is not finite.

    Examples
    --------
    >>> network = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.Flatten()).eval().requires_grad_(False)
    >>> network[0].weight.copy_(torch.tensor([[2.0, 0, 0], [0, 1, 0]])[..., None, None]).shape
    torch.Size([2, 3, 1, 1])
    >>> batches = [(torch.ones(4, 3, 1, 1), torch.tensor([0, 0, 0, 1]))]
    >>> removal_outcomes(network, "0", np.array([[0, 1], [-1, 1], [1, 1]]), batches).accuracy
    array([0.75, 0.25, 0.25])
    """
    rows, which = np.unique(variants, axis=0, return_inverse=True)
    sums, passes = OutcomeSums(len(rows)), None
    for images, targets in batches:
        if passes is None:
            passes = ReplacedPasses(network, layer, images[:4])
            _check(passes, layer, rows.shape[1])
        with torch.no_grad():
            values = passes.before(images)
            own = _outcomes(passes.behind(values, values[0][None].clone()), targets, is_probability)
            found = []
            step = max(1, n_spread // len(images))
            for start in range(0, len(rows), step):
                replaced = torch.stack([moved(values[0], row) for row in rows[start : start + step]])
                found.append(_outcomes(passes.behind(values, replaced), targets, is_probability))
        right, loss = (np.concatenate(parts) for parts in zip(*found, strict=True))
        sums.update(own[0][0], own[1][0], right, loss)
    outcomes = sums.finalize()
    at = which.reshape(-1)
    return Outcomes(**{name: one if name == "n" else one[at] for name, one in vars(outcomes).items()})


def moved(response: Tensor, destination: Integers) -> Tensor:
    """Responses (n, channels, …) with each channel added to another, or left out where that is -1.

    Examples
    --------
    >>> moved(torch.tensor([[1.0, 2.0, 4.0]]), np.array([2, -1, 2]))
    tensor([[0., 0., 5.]])
    """
    kept = np.flatnonzero(destination >= 0)
    source, target = (torch.from_numpy(one).to(response.device) for one in (kept, destination[kept]))
    return torch.zeros_like(response).index_add_(1, target, response.index_select(1, source))


def _check(passes: ReplacedPasses, layer: str, n_channels: int) -> None:
    if len(passes.shape) not in {1, 3} or passes.shape[0] != n_channels:
        raise SubjectError(
            f"layer {layer!r} gives {passes.shape} per image, expected ({n_channels},) or ({n_channels}, rows, "
            "columns): give one destination for each of its channels"
        )


def _outcomes(output: Tensor, targets: Tensor, is_probability: bool) -> tuple[NDArray[np.float64], ...]:
    """Whether outputs (k, n, classes) name the class, and their loss: (k, n) each."""
    if output.ndim != 3:
        raise SubjectError(f"the network returns {tuple(output.shape[2:])} per image, expected one number per class")
    if not bool(torch.isfinite(output).all()):
        raise ResponseError("an output of the network is no finite number: mend the network, or leave such images out")
    output = output.double()
    targets = targets.to(output.device)[None, :, None].expand(len(output), -1, 1)
    own = output.gather(2, targets)
    # of equal outputs the first is the larger, so that a network whose outputs are all alike is not always right
    before = torch.arange(output.shape[2], device=output.device) < targets
    right = ~((output > own) | ((output == own) & before)).any(2)
    loss = -(output.clamp_min(TINY).log() if is_probability else output.log_softmax(2)).gather(2, targets)[..., 0]
    return right.double().cpu().numpy(), loss.cpu().numpy()
