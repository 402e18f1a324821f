"""Capture: forward hooks that hand each layer's response to a consumer, and drop it.

A layer is addressed by the name of its module; a module that is called several times in one forward pass, by name and
call index (``layer1.0.relu#1`` is its second call).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, nn

from neuroprobe.errors import ResponseError, SubjectError, UnknownNameError, about, reason, shown
from neuroprobe.probe.lesion import INTACT, Lesion, lesioned
from neuroprobe.probe.precision import FLOAT32, forward_precision
from neuroprobe.probe.sites import Site, keep, make_site
from neuroprobe.protocol.subject import LayerSpec

MAX_NAME: Final = 255  # bytes that file systems take
Consumer = Callable[[Site, Tensor], None]


@dataclass(frozen=True)
class Layer:
    """A call of a module: its address, its type, and the shape of its response to one image (None if no tensor)."""

    address: str
    kind: str
    shape: tuple[int, ...] | None


class _AllCaptured(Exception):  # noqa: N818 - it ends a forward pass, as StopIteration ends a loop
    """Raised in the hook of the last site, to leave the forward pass."""


@contextmanager
def _hooks(network: nn.Module, hook: Callable[[str, nn.Module, int, Any], None]) -> Iterator[Counter[str]]:
    """Call `hook(name, module, call index, output)` at every module, and always take the hooks off again."""
    calls: Counter[str] = Counter()

    def on_call(name: str, module: nn.Module, args: object, output: Any) -> None:
        calls[name] += 1
        hook(name, module, calls[name] - 1, output)

    handles = [module.register_forward_hook(partial(on_call, name)) for name, module in network.named_modules() if name]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def list_layers(network: nn.Module, image: Tensor) -> list[Layer]:
    """List every call of every module in the order of the forward pass.

    Parameters
    ----------
    image : tensor (1, 3, height, width)
        On the network's device; the meta device costs nothing.
    """
    found: list[tuple[str, int, str, tuple[int, ...] | None]] = []

    def note(name: str, module: nn.Module, call: int, output: Any) -> None:
        shape = tuple(output.shape[1:]) if isinstance(output, Tensor) else None
        found.append((name, call, type(module).__name__, shape))

    with _hooks(network, note) as calls, torch.inference_mode():
        try:
            network(image)
        except (Exception, SystemExit) as error:  # of a network that takes other images
            size = " × ".join(map(str, image.shape[1:]))
            raise SubjectError(
                f"{type(network).__name__} cannot be shown an image of {size}: {reason(error)}; mend its forward "
                "pass, or give the size that it takes by `stimuli: {images: {size: …}}`"
            ) from error
    return [Layer(f"{name}#{call}" if calls[name] > 1 else name, kind, shape) for name, call, kind, shape in found]


def find_sites(network: nn.Module, specs: Sequence[LayerSpec], image: Tensor) -> tuple[Site, ...]:
    """Find the layers of a protocol in a network.

    Raises
    ------
    UnknownNameError
        For a name that is unknown (with the nearest) or ambiguous, or a channel that is not there.
    SubjectError
        For a module that gives no tensor, or one without units, or one that cannot be reduced as asked.
    """
    with about("network"):
        layers = {layer.address: layer for layer in list_layers(network, image)}
    sites = []
    for number, spec in enumerate(specs):
        with about("layers", number):
            sites.append(_find_site(spec, layers, network))
    return tuple(sites)


def _find_site(spec: LayerSpec, layers: dict[str, Layer], network: nn.Module) -> Site:
    if spec.name not in layers:
        raise UnknownNameError(no_such_layer(spec.name, layers, network))
    if "/" in spec.name or spec.name == "zarr.json" or len(spec.name.encode()) > MAX_NAME:
        raise SubjectError(
            f"layer {shown(spec.name)} cannot be stored under its name, expected one without '/' of at most {MAX_NAME} "
            "bytes: give its module another"
        )
    shape = layers[spec.name].shape
    if shape is None:
        inside = [address for address in layers if address.startswith(f"{spec.name}.")]
        raise SubjectError(
            f"layer {spec.name!r} ({layers[spec.name].kind}) does not return one tensor: record a module inside it"
            + (f" ({', '.join(inside[:6])})" if inside else "")
            + ", or wrap the network so that it returns one"
        )
    return make_site(spec, shape)


def no_such_layer(name: str, layers: dict[str, Layer], network: nn.Module) -> str:
    """Sentence about an address that a network does not have, with what is near."""
    calls = [address for address in layers if address.startswith(f"{name}#")]
    if calls:
        return f"layer {name!r} is called {len(calls)} times per image: say which, as {' or '.join(calls)}"
    if name in dict(network.named_modules()):
        return f"layer {name!r} exists and is not called when an image is shown: record another"
    near = get_close_matches(name, layers, n=3, cutoff=0.4)
    hint = f"nearest: {', '.join(near)}" if near else f"the network has: {', '.join(list(layers)[:12])}"
    return f"unknown layer {name!r}; {hint}; `neuroprobe list layers --network …` prints all"


class Probe:
    """A probe at some sites of a network; a context that takes its hooks off at the end.

    Parameters
    ----------
    network : torch.nn.Module
    sites : sequence of Site
    lesion : Lesion, optional
        It is in the network while the probe is.
    precision : str
        Of forward passes; responses are float32 always.

    Examples
    --------
    >>> import torch
    >>> network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(inplace=True)).eval()
    >>> image = torch.rand(1, 3, 8, 8)
    >>> sites = find_sites(network, [LayerSpec(name="0")], image)
    >>> with Probe(network, sites) as probe:
    ...     probe.record(image, lambda site, response: print(site.name, tuple(response.shape)))
    0 (1, 4, 6, 6)
    """

    def __init__(
        self, network: nn.Module, sites: Sequence[Site], lesion: Lesion = INTACT, precision: str = FLOAT32
    ) -> None:
        self.network, self.lesion, self.precision = network, lesion, precision
        self.sites = {site.name: site for site in sites}
        self._consume: Consumer | None = None
        self._consuming = False
        self._calls: Counter[str] = Counter()
        self._left = 0
        self._hooks = ExitStack()

    def __enter__(self) -> Probe:
        self._hooks.enter_context(lesioned(self.network, self.lesion))
        modules = dict(self.network.named_modules())
        for name in dict.fromkeys(address.split("#")[0] for address in self.sites):
            self._hooks.callback(modules[name].register_forward_hook(partial(self._on_call, name)).remove)
        return self

    def __exit__(self, *_: object) -> None:
        self._hooks.close()

    def _on_call(self, name: str, module: nn.Module, args: object, output: Tensor) -> None:
        if self._consume is None:
            return
        call = self._calls[name]
        self._calls[name] += 1
        site = self.sites.get(name) or self.sites.get(f"{name}#{call}")
        if site is None:
            return
        self._consuming = True
        if self.precision == FLOAT32:
            self._consume(site, keep(output, site.spec))
        else:
            with forward_precision(FLOAT32, output.device):
                self._consume(site, keep(output.float(), site.spec))
        self._consuming = False
        self._left -= 1
        if not self._left:
            raise _AllCaptured

    def _in_precision(self, device: torch.device) -> AbstractContextManager[None]:
        return nullcontext() if self.precision == FLOAT32 else forward_precision(self.precision, device)

    def record(self, images: Tensor, consume: Consumer) -> None:
        """Show images (n, 3, height, width); `consume` gets each site's response (n, …) while it is intact.

        The response may be overwritten by the network as soon as `consume` returns. The forward pass ends at the
        last site.
        """
        self._consume, self._consuming, self._left = consume, False, len(self.sites)
        self._calls.clear()
        try:
            # not inference mode: the consumers' own tensors live on after the forward pass
            with torch.no_grad(), self._in_precision(images.device):
                self.network(images)
        except _AllCaptured:
            pass
        except (Exception, SystemExit) as error:  # a network of a user's may fail in any way
            if self._consuming or isinstance(error, MemoryError) or "memory" in str(error):
                raise  # that is no fault of the network's
            raise SubjectError(
                f"{type(self.network).__name__} failed when it was shown {len(images)} images: {reason(error)}; mend "
                "its forward pass"
            ) from error
        finally:
            self._consume = None
        if self._left:
            raise SubjectError(
                f"{self._left} of the layers {list(self.sites)} did not respond: the network took another path"
            )


def check_network(
    network: nn.Module,
    sites: Sequence[Site],
    images: Tensor,
    name: str,
    *,
    allow_nan: bool = True,
    lesion: Lesion = INTACT,
) -> None:
    """Show a few images and turn each way in which a network cannot be recorded into a sentence.

    Raises
    ------
    SubjectError
        If the same images give other responses the second time, an image's response depends on the others, or
        responses are in half precision.
    ResponseError
        If there are NaN or infinite responses to them, unless these are allowed.
    """

    def responses(batch: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        with Probe(network, sites, lesion) as probe:
            probe.record(batch, lambda site, response: found.update({site.name: response.clone()}))
        return found

    first, second, alone = responses(images), responses(images), responses(images[:1])
    for layer, response in first.items():
        if response.dtype not in {torch.float32, torch.float64}:
            raise SubjectError(
                f"network {name!r}: layer {layer!r} gives {response.dtype}, expected float32: rounding to fewer digits "
                "would look like an effect of every factor; run it in float32 (`network.float()`, no autocast)"
            )
        if len(response) != len(images):
            raise SubjectError(
                f"network {name!r}: layer {layer!r} gives {len(response)} responses to {len(images)} images; "
                "its first axis has to be the image"
            )
        n_bad = int((~torch.isfinite(response)).any(0).sum())
        if n_bad and not allow_nan:
            raise ResponseError(
                f"network {name!r}: layer {layer!r} gives NaN or infinity in {n_bad} of {response[0].numel()} units "
                "for images that are not altered; mend the network or its weights, or leave such base samples out by "
                "`record: {nan: drop}`"
            )
        if not torch.equal(torch.nan_to_num(response), torch.nan_to_num(second[layer])):
            raise SubjectError(
                f"network {name!r}: layer {layer!r} responds otherwise when the same images are shown again: "
                "take the randomness out of its forward pass (dropout, noise), or seed it there"
            )
        scale = float(torch.nan_to_num(response).abs().max()) + 1e-12
        if float(torch.nan_to_num(response[:1] - alone[layer]).abs().max()) > 1e-2 * scale:
            raise SubjectError(
                f"network {name!r}: at layer {layer!r} the response to an image depends on the other images of the "
                "batch: put batch normalisation in eval mode"
            )
