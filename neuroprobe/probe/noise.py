"""Noise that gives a network trials: on what is recorded of a layer, or as dropout within the network.

Every random number is a function of the seed, the layer, the number of the presentation and the place of the unit:
trials do not depend on how presentations are put into forward passes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from neuroprobe.design.randomness import uniforms
from neuroprobe.errors import ResponseError, SubjectError, UnknownNameError, about
from neuroprobe.probe.capture import Probe, list_layers, no_such_layer
from neuroprobe.probe.sites import Site
from neuroprobe.protocol.noise import DropoutOptions, GaussianOptions, NoiseSpec, PoissonOptions
from neuroprobe.statistics.noise import normal_deviates, poisson_counts
from neuroprobe.stimuli.images import ImageSet
from neuroprobe.subjects.subject import Subject

PLACES: Final = 1 << 32  # units of a layer at most: numbers of presentations and units together are one index
N_TRIED: Final = 64  # images, spread over the set, by which the spread of a layer is told
N_TOGETHER: Final = 16  # of these in a forward pass
HALF: Final = 0.5  # of the values of a layer are dropped, where nothing is said
# modules of dropout, and whether they drop whole channels
DROPOUT: Final[dict[type[nn.Module], bool]] = {
    nn.Dropout: False,
    nn.Dropout1d: True,
    nn.Dropout2d: True,
    nn.Dropout3d: True,
}


class TrialNoise(ABC):
    """Noise of the presentations of one run.

    Parameters
    ----------
    seed : int
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.numbers: NDArray[np.int64] = np.empty(0, dtype=np.int64)

    def present(self, numbers: NDArray[np.int64], size: int) -> None:
        """Say which presentations the next forward pass of `size` rows shows; the last one fills it up."""
        self.numbers = np.concatenate([numbers, np.repeat(numbers[-1:], size - len(numbers))])

    def uniform(self, purpose: str, n_rows: int, n_units: int) -> NDArray[np.float64]:
        """Return numbers in (0, 1) of the first presentations of this forward pass (rows, units)."""
        index = self.numbers[:n_rows, None] * PLACES + np.arange(n_units)
        return uniforms(self.seed, purpose, index)

    @contextmanager
    def within(self, network: nn.Module) -> Iterator[None]:
        """Context in which the network itself is noisy, where it is."""
        yield

    def apply(self, site: Site, response: Tensor) -> Tensor:
        """Return responses (rows, units) of a layer to the presentations of this forward pass, with noise."""
        return response

    @abstractmethod
    def attrs(self, layer: str) -> dict[str, Any]:
        """Attributes of the responses of a layer."""

    @abstractmethod
    def provenance(self) -> dict[str, Any]:
        """Plain values that tell the noise."""


class Poisson(TrialNoise):
    """Counts around responses, of which each is a rate."""

    def __init__(self, seed: int, options: PoissonOptions) -> None:
        super().__init__(seed)
        self.options = options

    def apply(self, site: Site, response: Tensor) -> Tensor:
        """Draw counts; refuse rates below 0, unless they are to be clipped."""
        rates = response.cpu().numpy().astype(np.float64)
        if self.options.negative == "refuse" and rates.size and rates.min() < 0:
            raise ResponseError(
                f"layer {site.name!r}: a response of {rates.min():.3g} is no rate of Poisson's: record behind a "
                "rectifier, or take responses below 0 as 0 by `noise: {poisson: {negative: clip}}`"
            )
        mean = self.options.scale * np.maximum(rates, 0)
        counts = poisson_counts(mean, self.uniform(f"poisson noise of {site.name}", *mean.shape))
        return torch.from_numpy(counts.astype(np.float32)).to(response.device)

    def attrs(self, layer: str) -> dict[str, Any]:
        """Say what is counted."""
        told = {"refuse": "none", "clip": "count as 0"}[self.options.negative]
        return {
            "units": "spikes",
            "noise": "poisson",
            "noise_scale": self.options.scale,
            "noise_long_name": "Poisson counts around noise_scale × response",
            "negative_responses": told,
        }

    def provenance(self) -> dict[str, Any]:
        """Scale, and what becomes of negative responses."""
        return {"kind": "poisson", **self.options.model_dump()}


class Gaussian(TrialNoise):
    """Normal noise around responses.

    Parameters
    ----------
    spread : dict of float
        Layer → standard deviation of its responses over stimuli.
    """

    def __init__(self, seed: int, options: GaussianOptions, spread: Mapping[str, float]) -> None:
        super().__init__(seed)
        self.options, self.spread = options, spread

    def apply(self, site: Site, response: Tensor) -> Tensor:
        """Add noise."""
        drawn = normal_deviates(self.uniform(f"gaussian noise of {site.name}", *response.shape))
        noise = torch.from_numpy(drawn * self._sd(site.name))
        return (response.double() + noise.to(response.device)).to(response.dtype)

    def _sd(self, layer: str) -> float:
        return self.options.sd * self.spread[layer]

    def attrs(self, layer: str) -> dict[str, Any]:
        """Say how large it is."""
        told = f"normal, {self.options.sd:g} of the standard deviation of the layer over stimuli"
        return {"noise": "gaussian", "noise_sd": self._sd(layer), "noise_long_name": told}

    def provenance(self) -> dict[str, Any]:
        """Its size, and that of layers."""
        return {"kind": "gaussian", **self.options.model_dump(), "spread": dict(self.spread)}


@dataclass(frozen=True)
class Dropped:
    """Where values are dropped: a layer's address, how likely, and whether by whole channels."""

    address: str
    p: float
    channels: bool


class Dropout(TrialNoise):
    """Dropout within the network, as in training.

    Parameters
    ----------
    places : sequence of Dropped
    """

    def __init__(self, seed: int, places: Sequence[Dropped]) -> None:
        super().__init__(seed)
        self.places = {place.address: place for place in places}
        self._calls: Counter[str] = Counter()

    def present(self, numbers: NDArray[np.int64], size: int) -> None:
        """Begin a forward pass."""
        super().present(numbers, size)
        self._calls.clear()

    @contextmanager
    def within(self, network: nn.Module) -> Iterator[None]:
        """Context in which values are dropped."""
        modules = dict(network.named_modules())
        with ExitStack() as hooks:
            for name in dict.fromkeys(address.split("#")[0] for address in self.places):
                hooks.callback(modules[name].register_forward_hook(partial(self._drop, name)).remove)
            yield

    def _drop(self, name: str, module: nn.Module, args: object, output: Tensor) -> Tensor:
        address = f"{name}#{self._calls[name]}"
        self._calls[name] += 1
        place = self.places.get(address) or self.places.get(name)
        if place is None:
            return output
        if len(self.numbers) != len(output):
            raise ValueError(f"{len(output)} rows at {address} for {len(self.numbers)} images: they are not told apart")
        shape = output.shape[:2] if place.channels else output.shape
        drawn = self.uniform(f"dropout at {address}", len(output), int(np.prod(shape[1:])))
        kept = torch.from_numpy(drawn >= place.p).to(output.device).view(shape)
        kept = kept.view(*shape, *([1] * (output.ndim - 2))) if place.channels else kept
        return output * kept / (1 - place.p)

    def attrs(self, layer: str) -> dict[str, Any]:
        """Say where it is."""
        told = ", ".join(f"{place.p:g} at {place.address}" for place in self.places.values())
        return {"noise": "dropout", "noise_long_name": f"dropout within the network: {told}"}

    def provenance(self) -> dict[str, Any]:
        """Where values are dropped, and how likely."""
        return {"kind": "dropout", "at": {place.address: place.p for place in self.places.values()}}


@dataclass
class _Moments:
    """Sums over images of responses of units, less those to the first image."""

    first: NDArray[np.float64]
    n: int = 0
    sums: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    squares: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    def add(self, response: NDArray[np.float64]) -> None:
        """Add responses (images, units)."""
        away = response - self.first
        self.n += len(response)
        self.sums = self.sums + away.sum(0) if self.sums.size else away.sum(0)
        self.squares = self.squares + (away**2).sum(0) if self.squares.size else (away**2).sum(0)

    @property
    def spread(self) -> float:
        """Root mean square over units of the standard deviation over images; of units whose responses are finite."""
        variance = (self.squares - self.sums**2 / self.n) / max(self.n - 1, 1)
        finite = variance[np.isfinite(variance)]
        return float(np.sqrt(np.maximum(finite, 0).mean())) if finite.size else 0.0


def spread_of_layers(subject: Subject, images: ImageSet, sites: Sequence[Site]) -> dict[str, float]:
    """Standard deviation over stimuli of each layer: root mean square over its units, by images spread over the set."""
    found: dict[str, _Moments] = {}

    def add(site: Site, response: Tensor) -> None:
        y = response.flatten(1).cpu().numpy().astype(np.float64)
        found.setdefault(site.name, _Moments(y[0])).add(y)

    device = next((tensor.device for tensor in subject.network.parameters()), torch.device("cpu"))
    index = np.unique(np.linspace(0, len(images) - 1, min(N_TRIED, len(images))).round().astype(np.int64))
    with Probe(subject.network, sites, subject.lesion) as probe:
        for start in range(0, len(index), N_TOGETHER):
            shown = images.load(index[start : start + N_TOGETHER]).to(device)
            probe.record(subject.prepare(shown), add)
    return {layer: moments.spread for layer, moments in found.items()}


def open_noise(
    spec: NoiseSpec | None, seed: int, subject: Subject, images: ImageSet, sites: Sequence[Site]
) -> TrialNoise | None:
    """Open the noise of a protocol; None where it gives none.

    Raises
    ------
    SubjectError
        If a layer does not vary over stimuli, by which noise would be measured, or there is nothing to drop.
    """
    if spec is None:
        return None
    with about("subject", "noise", spec.name):
        match spec.options:
            case PoissonOptions() as options:
                return Poisson(seed, options)
            case GaussianOptions() as options:
                spread = spread_of_layers(subject, images, sites)
                for layer, size in spread.items():
                    if not size > 0:
                        raise SubjectError(
                            f"layer {layer!r} gives the same responses to all stimuli that were tried, and noise is "
                            "measured by how these vary: show others, or record another layer"
                        )
                return Gaussian(seed, options, spread)
            case DropoutOptions() as options:
                return Dropout(seed, _places(options, subject, images))
    raise SubjectError(f"no noise for {type(spec.options).__name__}")


def _places(options: DropoutOptions, subject: Subject, images: ImageSet) -> list[Dropped]:
    """Places in the network where values are dropped."""
    modules = dict(subject.network.named_modules())
    if options.at is None:
        found = [
            Dropped(name, module.p if options.p is None else options.p, DROPOUT[type(module)])
            for name, module in modules.items()
            if isinstance(module, nn.Dropout | nn.Dropout1d | nn.Dropout2d | nn.Dropout3d) and type(module) in DROPOUT
        ]
        if not found:
            raise SubjectError(
                f"network {subject.name!r} has no modules of dropout: say where values are dropped by "
                "`dropout: {at: [layer, …], p: 0.2}`"
            )
        return found
    device = next((tensor.device for tensor in subject.network.parameters()), torch.device("cpu"))
    layers = {
        layer.address: layer for layer in list_layers(subject.network, subject.prepare(images.load([0]).to(device)))
    }
    for number, address in enumerate(options.at):
        if address not in layers:
            raise UnknownNameError(no_such_layer(address, layers, subject.network)).about("at", number)
        if layers[address].shape is None:
            raise SubjectError(f"layer {address!r} does not return one tensor: name another").about("at", number)
    return [Dropped(address, HALF if options.p is None else options.p, False) for address in options.at]
