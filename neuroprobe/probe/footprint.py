"""The footprint of a forward pass: how many bytes of tensors are alive at a time, counted as they come and go.

Two small passes are counted, and lines through them tell of passes of any size: tensors grow with the number of
images, or stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from neuroprobe.probe.capture import Probe
from neuroprobe.probe.lesion import INTACT, Lesion
from neuroprobe.probe.sites import Site

FIRST_CHANNELS: Final = 3  # of the images of a first layer, which oneDNN takes as they are
COUNTED: Final = (2, 3)  # images; networks may treat a single one in another way


class LiveTensors(TorchDispatchMode):
    """Within this context, counts the bytes of the tensors that were made in it and are alive.

    Attributes
    ----------
    during : list of list of int
        Bytes of each tensor that was alive during each operation, and of the operation's workspace.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._alive: dict[StorageWeakRef, int] = {}
        self.during: list[list[int]] = []

    @property
    def peak(self) -> int:
        """Bytes that were alive at most."""
        return max(map(sum, self.during), default=0)

    def note(self, workspace: int = 0) -> None:
        """Write down what is alive."""
        self._alive = {storage: n for storage, n in self._alive.items() if not storage.expired()}
        self.during.append([*self._alive.values(), workspace])

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count what it made."""
        made = func(*args, **(kwargs or {}))
        given = {StorageWeakRef(tensor.untyped_storage()) for tensor in _tensors((args, kwargs))}
        for tensor in _tensors(made):
            storage = StorageWeakRef(tensor.untyped_storage())
            if storage not in given:
                self._alive[storage] = tensor.untyped_storage().nbytes()
        is_convolution = func.overloadpacket is torch.ops.aten.convolution
        self.note(_workspace(args[0], args[1], made) if is_convolution else 0)
        return made


def _tensors(tree: object) -> Iterable[Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor) and leaf.layout is torch.strided)


def _workspace(images: Tensor, weight: Tensor, made: Tensor) -> int:
    """Bytes that a convolution takes beside its operands.

    On a CPU, oneDNN works on copies in blocks of channels of the weights, the result, and the images but for those of
    a first layer; so measured for AlexNet, VGG and ResNet, to 2 %. cuDNN's usual algorithms take no more. In float64
    the patches of all images are laid out beside each other instead (im2col).
    """
    if images.device.type == "cpu" and images.dtype == torch.float64:
        return made.nbytes // weight.shape[0] * weight[0].numel()
    return weight.nbytes + made.nbytes + (images.nbytes if images.shape[1] > FIRST_CHANNELS else 0)


@dataclass(frozen=True)
class Footprint:
    """Bytes of the tensors of a forward pass, as functions of the number of images.

    Attributes
    ----------
    fixed, per_image : int arrays (tensors,)
        Bytes of each tensor, and what each image adds; a tensor that lives on is listed at every moment.
    starts : int array (moments,)
        Where the tensors of each moment begin.
    sites : dict
        Layer → the moment at which its response is taken, with the response as it is taken.
    per_stimulus : int
        Bytes that altering an image takes.
    """

    fixed: NDArray[np.int64]
    per_image: NDArray[np.int64]
    starts: NDArray[np.int64]
    sites: dict[str, int]
    per_stimulus: int

    def forward(self, n_images: int, small: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Bytes that are alive at each moment of a pass: of tensors under `small` bytes, and of the others."""
        sizes = self.fixed + n_images * self.per_image
        of_small = np.where(sizes < small, sizes, 0)
        return np.add.reduceat(of_small, self.starts), np.add.reduceat(sizes - of_small, self.starts)

    def layer_at(self, moment: int) -> str:
        """Return the layer that is recorded next after a moment."""
        return min((layer for layer, at in self.sites.items() if at >= moment), key=self.sites.__getitem__)


def forward_footprint(
    network: nn.Module, sites: Sequence[Site], image: Tensor, per_stimulus: int, lesion: Lesion = INTACT
) -> Footprint:
    """Count what lives in forward passes of a network.

    Parameters
    ----------
    image : tensor (1, 3, height, width)
        As the network expects it, on its device.
    """
    (few, _), (more, moments) = (_count(network, sites, image, n, lesion) for n in COUNTED)
    sizes, starts = np.concatenate(more), np.cumsum([0, *map(len, more[:-1])])
    if list(map(len, few)) == list(map(len, more)):
        per_image = (sizes - np.concatenate(few)) // (COUNTED[1] - COUNTED[0])
    else:
        # a network that takes other steps for other numbers of images: all that lives is taken to grow with them
        per_image = -(-sizes // COUNTED[1])
    return Footprint(sizes - COUNTED[1] * per_image, per_image, starts, moments, per_stimulus)


def _count(
    network: nn.Module, sites: Sequence[Site], image: Tensor, n: int, lesion: Lesion
) -> tuple[list[list[int]], dict[str, int]]:
    """Bytes of what is alive at each moment of a pass of `n` images, and the moments of the sites."""
    live, moments = LiveTensors(), {}

    def consume(site: Site, response: Tensor) -> None:
        taken = response.flatten(1).float()  # as it is handed to the statistics: of some layers a copy
        live.note()
        moments[site.name] = len(live.during) - 1
        del taken

    with live, Probe(network, sites, lesion) as probe:
        probe.record(image.repeat(n, 1, 1, 1), consume)
    return live.during, moments
