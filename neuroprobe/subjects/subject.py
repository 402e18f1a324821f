"""A network ready to be recorded: built, weighted, checked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from neuroprobe.design.randomness import keys
from neuroprobe.errors import SubjectError, about
from neuroprobe.probe.lesion import INTACT, Lesion
from neuroprobe.protocol.subject import SubjectSpec
from neuroprobe.subjects.networks import NetworkSource, Preprocessing, find_network
from neuroprobe.subjects.segment import Segment, detach
from neuroprobe.subjects.weights import fit_state_dict, read_state_dict, weights_hash


@dataclass(frozen=True)
class Subject:
    """A network in eval mode on its device.

    Attributes
    ----------
    network : torch.nn.Module
    preprocessing : Preprocessing
    name : str
        As the protocol names it.
    digest : str
        Hash of the weights, of the whole network.
    classes : tuple of str
        Class of each output, as the network's usual weights declare them.
    segment : Segment, optional
        Where `network` is one, how images are made its input.
    lesion : Lesion
        What is in the network while it is recorded.
    """

    network: nn.Module
    preprocessing: Preprocessing
    name: str
    digest: str
    classes: tuple[str, ...] = ()
    segment: Segment | None = None
    lesion: Lesion = INTACT

    def prepare(self, images: Tensor) -> Tensor:
        """Standardise images in [0, 1] as the network expects them, or take the plane of them that a segment does."""
        if self.preprocessing.minmax:
            low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
            # a channel of one value is 0
            images = images.sub(low).div_((high - low).where(high > low, 1.0))
        if self.segment is not None:
            return self.segment.prepare(images)
        mean, std = (
            torch.tensor(values, dtype=images.dtype, device=images.device).view(1, 3, 1, 1)
            for values in (self.preprocessing.mean, self.preprocessing.std)
        )
        return images.sub(mean).div_(std)


def build_network(source: NetworkSource, seed: int) -> nn.Module:
    """Build a network with random weights that are a function of the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(keys(seed, "random weights", 0)))
        return source.build()


def load_subject(spec: SubjectSpec, seed: int, device: torch.device | str = "cpu") -> Subject:
    """Load the network of a protocol.

    Parameters
    ----------
    spec : SubjectSpec
    seed : int
        Of random weights.

    Raises
    ------
    SubjectError, ReaderError
        If the network or its weights cannot be had, or it is not in eval mode.
    """
    with about("network"):
        source = find_network(spec.network)
        network = build_network(source, seed)
    mine = ":" not in spec.network
    with about("weights"):
        _set_weights(network, source, spec, seed, mine=mine)
    if mine:
        network.eval()
    with about("network"):
        check_mode(network, spec.network)
    preprocessing = source.preprocessing
    if spec.preprocess is not None:
        given: dict[str, Any] = spec.preprocess.model_dump(exclude_none=True)
        given |= {name: tuple(given[name]) for name in ("mean", "std") if name in given}
        preprocessing = replace(preprocessing, **given)
    digest = weights_hash(network)
    network.requires_grad_(False).to(device)
    if spec.segment is None:
        return Subject(network, preprocessing, spec.network, digest, source.classes)
    segment = detach(network, spec.segment, spec.layers)
    return Subject(segment.network, preprocessing, spec.network, digest, segment=segment)


def _set_weights(network: nn.Module, source: NetworkSource, spec: SubjectSpec, seed: int, *, mine: bool) -> None:
    """Give a network the weights of a protocol; one of a user's brings its default weights along."""
    if not mine and (spec.random_twin or spec.weights == "none"):
        _redraw(network, spec.network, seed)
    elif spec.weights == "DEFAULT" and not spec.random_twin and mine:
        if source.pretrained is None:
            raise SubjectError(
                f"network {spec.network!r} has no default weights: give a file by `weights: path`, "
                "or take random ones by `weights: none`"
            )
        fit_state_dict(network, source.pretrained(), f"default weights of {spec.network!r}")
    elif spec.weights not in {"DEFAULT", "none"} and not spec.random_twin:
        fit_state_dict(network, read_state_dict(spec.weights), f"weights {spec.weights!r}")


def _redraw(network: nn.Module, name: str, seed: int) -> None:
    """Give a user's network random weights by its modules' own initialisation."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(keys(seed, "random weights", 0)))
        for path, module in network.named_modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
            elif next(module.parameters(recurse=False), None) is not None:
                raise SubjectError(
                    f"network {name!r}: {path or 'it'} ({type(module).__name__}) has weights and no "
                    "`reset_parameters`: add one, so that a random twin can be made"
                )


def check_mode(network: nn.Module, name: str) -> None:
    """Refuse a network of which a module that behaves otherwise in training is in train mode."""
    for path, module in network.named_modules():
        if module.training and _depends_on_mode(module):
            raise SubjectError(
                f"network {name!r}: {path or 'it'} ({type(module).__name__}) is in train mode: "
                "call `.eval()` before returning the network"
            )


def _depends_on_mode(module: nn.Module) -> bool:
    kinds = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd, nn.AlphaDropout, nn.RReLU)
    return isinstance(module, kinds)
