"""Lesions: masks that multiply the responses of layers while the network runs, before a probe sees them.

Layers are addressed as in `neuroprobe.probe.capture`. A mask has the layer's native shape: it does the same to every
image.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from neuroprobe.design.randomness import generator
from neuroprobe.errors import SubjectError, UnknownNameError, closest, reason, shown
from neuroprobe.statistics.masks import shuffled_mask


@dataclass(frozen=True, eq=False)
class Lesion:
    """Layers, and the masks that multiply their responses.

    Attributes
    ----------
    masks : mapping of arrays
        Address of a layer → mask in the shape of its response to one image: 0 silences a unit, 1 leaves it as it is.
        Anything that NumPy makes an array of numbers of is taken, and kept in float32.
    candidates : mapping of bool arrays
        Units of these layers that could have been masked: all, by default; those without a defined sensitivity could
        not.
    origin : sequence of mappings
        Where the masks come from, in the words of a protocol, with the units that were masked.

    Raises
    ------
    SubjectError
        If a mask holds anything but finite numbers, or candidates do not fit.

    See Also
    --------
    lesioned : The context in which a lesion is in a network.
    Lesion.from_spec : Lesions from results, queries, files, or at random.

    Examples
    --------
    >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True)).eval().requires_grad_(False)
    >>> mask = np.ones((4, 6, 6))
    >>> mask[1:3] = 0
    >>> lesion = Lesion({"0": mask})
    >>> lesion
    Lesion(0: 72 of 144 units masked)
    >>> with lesioned(network, lesion):
    ...     response = network(torch.ones(1, 3, 8, 8))
    >>> response[0, 1:3].abs().max()
    tensor(0.)
    >>> lesion.random_twin(seed=1).n_masked
    {'0': 72}
    """

    masks: Mapping[str, NDArray[np.float32]]
    candidates: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    origin: Sequence[Mapping[str, Any]] = ()

    def __post_init__(self) -> None:
        masks = {layer: _checked(layer, mask) for layer, mask in self.masks.items()}
        candidates = {layer: np.ones(mask.shape, dtype=bool) for layer, mask in masks.items()}
        for layer, given in self.candidates.items():
            expected = masks[layer].shape if layer in masks else None
            if np.shape(given) != expected:
                raise SubjectError(f"lesion: candidates of layer {layer!r} are {np.shape(given)}, expected {expected}")
            candidates[layer] = np.array(given, dtype=bool)
        for array in (*masks.values(), *candidates.values()):
            array.flags.writeable = False
        object.__setattr__(self, "masks", masks)
        object.__setattr__(self, "candidates", candidates)

    @classmethod
    def from_spec(
        cls, spec: Mapping[str, Any] | Sequence[Mapping[str, Any]], network: nn.Module, image: Tensor
    ) -> Lesion:
        """Make a lesion as a protocol describes it under ``subject: {lesion: …}``.

        Parameters
        ----------
        spec : mapping, or sequence of mappings
            One lesion, or several that are multiplied together; paths are relative to the working directory.
        network : torch.nn.Module
            Which it is for. A result that maps are taken from has to be of its weights.
        image : tensor (1, 3, height, width)
            As the network expects it; it decides on the shapes of the layers.

        Raises
        ------
        ProtocolError
            If it is not written as in a protocol.
        UnknownNameError, SubjectError, QueryError, ReaderError, StoreError
            As of `neuroprobe.probe.lesion_sources.make_lesion`.

        Examples
        --------
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).eval()
        >>> image = torch.zeros(1, 3, 8, 8)
        >>> Lesion.from_spec({"units": "layer == '0' and channel in [1, 2]", "multiply": 0.5}, network, image)
        Lesion(0: 72 of 144 units masked)
        >>> Lesion.from_spec({"random": {"share": 0.4, "seed": 3}, "layers": ["3"]}, network, image)
        Lesion(3: 2 of 5 units masked)
        """
        from neuroprobe.probe.lesion_sources import make_lesion
        from neuroprobe.probe.map_sources import Target
        from neuroprobe.protocol.reader import read_lesions
        from neuroprobe.subjects.weights import weights_hash

        return make_lesion(read_lesions(spec), Target(network, image, "", weights_hash(network)))

    def __repr__(self) -> str:
        counts = [f"{layer}: {n:,} of {self.masks[layer].size:,} units masked" for layer, n in self.n_masked.items()]
        return f"Lesion({', '.join(counts)})"

    def __mul__(self, other: Lesion) -> Lesion:
        """Return both lesions together: masks of one layer are multiplied."""
        masks, candidates = dict(self.masks), dict(self.candidates)
        for layer, mask in other.masks.items():
            if layer in masks and masks[layer].shape != mask.shape:
                raise SubjectError(
                    f"lesion: masks of layer {layer!r} are {masks[layer].shape} and {mask.shape}, expected one shape"
                )
            masks[layer] = masks[layer] * mask if layer in masks else mask
            candidates[layer] = candidates.get(layer, False) | other.candidates[layer]
        return Lesion(masks, candidates, (*self.origin, *other.origin))

    @cached_property
    def n_masked(self) -> dict[str, int]:
        """Units of each layer that are multiplied by anything but 1."""
        return {layer: int((mask != 1).sum()) for layer, mask in self.masks.items()}

    @cached_property
    def digest(self) -> str:
        """SHA-256 of layers, shapes and masks."""
        digest = hashlib.sha256()
        for layer, mask in sorted(self.masks.items()):
            digest.update(f"{layer}\0{mask.shape}\0".encode())
            digest.update(mask.tobytes())
        return digest.hexdigest()

    def random_twin(self, seed: int) -> Lesion:
        """Return a lesion of the same size at random: the same masks, of units drawn among each layer's candidates.

        Parameters
        ----------
        seed : int
        """
        masks = {
            layer: shuffled_mask(mask, self.candidates[layer], generator(seed, f"random twin of a lesion of {layer}"))
            for layer, mask in self.masks.items()
        }
        return Lesion(masks, self.candidates, ({"random_twin": {"seed": seed}, "of": list(self.origin)},))

    def provenance(self) -> dict[str, Any]:
        """Return where it comes from, as plain values."""
        return {"hash": self.digest, "n_masked": self.n_masked, "lesions": list(self.origin)}


INTACT: Final = Lesion({})


def _checked(layer: str, given: Any) -> NDArray[np.float32]:
    try:
        array = np.asarray(given)
    except (TypeError, ValueError) as error:  # lists of several lengths, tensors on a GPU
        raise SubjectError(f"lesion: the mask of layer {layer!r} is no array ({reason(error)})") from error
    if array.dtype.kind not in "biuf":
        raise SubjectError(f"lesion: the mask of layer {layer!r} holds {array.dtype}, expected numbers")
    with np.errstate(over="ignore"):  # what is too large is refused
        mask = array.astype(np.float32)  # a copy, which nobody else can change
    n_bad = int((~np.isfinite(mask)).sum())
    if n_bad:
        raise SubjectError(
            f"lesion: the mask of layer {layer!r} holds NaN or infinity at {n_bad} of {mask.size} units, expected "
            "finite numbers: 1 leaves a unit as it is"
        )
    return mask


@contextmanager
def lesioned(network: nn.Module, lesion: Lesion | Mapping[str, Any]) -> Iterator[nn.Module]:
    """Put a lesion into a network, and always take it out again.

    Within the context, the response of each layer of the lesion is multiplied by its mask in every forward pass of the
    network: what lies behind the layer, and every hook on it, gets the product. The network's own tensors are left as
    they are, so that modules that work in place do no harm.

    Parameters
    ----------
    network : torch.nn.Module
        It is called as a whole: calls of a module are counted from the beginning of a forward pass.
    lesion : Lesion, or mapping
        Or the masks of one: layer → array.

    Yields
    ------
    torch.nn.Module
        The network.

    Raises
    ------
    UnknownNameError
        If the network lacks a layer.
    SubjectError
        In a forward pass: if a response is no tensor of the mask's shape; a layer that is called several times was
        given without the number of the call; or a layer was not called.
    """
    lesion = lesion if isinstance(lesion, Lesion) else Lesion(lesion)
    modules = dict(network.named_modules())
    for layer in lesion.masks:
        if layer.split("#")[0] not in modules:
            raise UnknownNameError(f"lesion: unknown layer {shown(layer)}{closest(layer, modules)}")
    with ExitStack() as hooks:
        if lesion.masks:
            masks = _Masks(lesion)
            hooks.callback(network.register_forward_pre_hook(masks.begin).remove)
            for name in dict.fromkeys(layer.split("#")[0] for layer in lesion.masks):
                # before any other hook of the module: these get what is left of the response
                hooks.callback(modules[name].register_forward_hook(masks.hook(name), prepend=True).remove)
            hooks.callback(network.register_forward_hook(masks.end).remove)
        yield network


class _Masks:
    """Masks on the devices of the responses, and the calls of one forward pass."""

    def __init__(self, lesion: Lesion) -> None:
        self._lesion = lesion
        self._calls: Counter[str] = Counter()
        self._tensors: dict[tuple[str, torch.device, torch.dtype], Tensor] = {}

    def begin(self, *_: object) -> None:
        self._calls.clear()

    def hook(self, name: str) -> Any:
        masks = self._lesion.masks

        def on_call(module: nn.Module, args: object, response: Any) -> Any:
            call = self._calls[name]
            self._calls[name] += 1
            if call and name in masks:
                raise SubjectError(
                    f"lesion: layer {name!r} is called several times per image: say which, as {name}#0 or {name}#1"
                )
            layer = name if name in masks else f"{name}#{call}"
            return response * self._mask(layer, response) if layer in masks else response

        return on_call

    def _mask(self, layer: str, response: Any) -> Tensor:
        mask = self._lesion.masks[layer]
        given = tuple(response.shape[1:]) if isinstance(response, Tensor) else type(response).__name__
        if given != mask.shape:
            raise SubjectError(f"lesion: layer {layer!r} gives {given} per image, and its mask is {mask.shape}")
        key = (layer, response.device, response.dtype)
        if key not in self._tensors:
            with torch.inference_mode(False):  # it lives on, and may be met by gradients later
                self._tensors[key] = torch.tensor(mask, device=response.device, dtype=response.dtype)
        return self._tensors[key]

    def end(self, *_: object) -> None:
        """Refuse a lesion that had no place in a whole forward pass."""
        for layer in self._lesion.masks:
            name, *call = layer.split("#")
            n_calls = self._calls[name]
            if n_calls <= int(call[0] if call else 0):
                raise SubjectError(
                    f"lesion: layer {layer!r} was not called: {name!r} is called {n_calls} times when an image is "
                    "shown; leave it out of the lesion"
                )
