"""Networks by name: ours, torchvision's, and callables by import path."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from neuroprobe.errors import SubjectError, UnknownNameError, closest, reason, shown
from neuroprobe.registry import Registry
from neuroprobe.stimuli.decoding import Framing
from neuroprobe.subjects import cifar_resnet, embedded, vgg_m


@dataclass(frozen=True)
class Preprocessing:
    """What a network expects: channel means and standard deviations of images in [0, 1], and their size.

    With `minmax` each channel of every image is stretched to [0, 1] before.
    """

    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    framing: Framing = field(default_factory=Framing)
    minmax: bool = False


@dataclass(frozen=True)
class NetworkSource:
    """A network that can be built by name.

    Attributes
    ----------
    build : callable
        Makes the network with random weights.
    pretrained : callable, optional
        Returns a state dict of the weights that ``weights: DEFAULT`` stands for.
    preprocessing : Preprocessing
        What those weights declare.
    summary : str
        One line for lists.
    classes : tuple of str
        Class of each output, as those weights declare them.
    """

    build: Callable[[], nn.Module]
    pretrained: Callable[[], dict[str, torch.Tensor]] | None = None
    preprocessing: Preprocessing = Preprocessing()
    summary: str = ""
    classes: tuple[str, ...] = ()


NETWORKS: Final[Registry[NetworkSource]] = Registry("network")

NETWORKS.add(
    "embedded",
    NetworkSource(
        embedded.EmbeddedNetwork,
        embedded.load_embedded_weights,
        Preprocessing(embedded.MEAN, embedded.STD, Framing((embedded.INPUT_SIDE, embedded.INPUT_SIDE))),
        "small CIFAR-10 classifier; its weights ship with neuroprobe",
        embedded.CLASSES,
    ),
)
for _depth in (20, 32, 44, 56):
    NETWORKS.add(
        f"cifar_resnet{_depth}",
        NetworkSource(
            partial(cifar_resnet.CifarResNet, (_depth - 2) // 6),
            preprocessing=Preprocessing(
                cifar_resnet.MEAN,
                cifar_resnet.STD,
                Framing((cifar_resnet.INPUT_SIDE, cifar_resnet.INPUT_SIDE)),
            ),
            summary=f"ResNet-{_depth} for CIFAR-10 (He et al. 2016); give its weights by a path",
            classes=embedded.CLASSES,
        ),
    )
NETWORKS.add(
    "vgg_m",
    NetworkSource(
        vgg_m.VggM,
        preprocessing=Preprocessing(vgg_m.MEAN, vgg_m.STD, Framing((vgg_m.INPUT_SIDE, vgg_m.INPUT_SIDE), 256)),
        summary="VGG-M for ImageNet (Chatfield et al. 2014); give its weights and their mean by the protocol",
    ),
)


def network_names() -> list[str]:
    """All names that ``subject.network`` takes, but for import paths."""
    from torchvision import models

    return [*NETWORKS.names(), *(name for name in models.list_models(models) if name not in NETWORKS)]


def find_network(name: str) -> NetworkSource:
    """Find a network by name or import path.

    Raises
    ------
    UnknownNameError
        If there is none, with the closest name.
    SubjectError
        If its module cannot be imported.
    """
    if name in NETWORKS:
        return NETWORKS[name]
    if ":" in name:
        return NetworkSource(partial(_call_by_path, name, _import_callable(name)), summary="a callable of yours")
    from torchvision import models

    if name in models.list_models(models):
        return _torchvision_source(name)
    raise UnknownNameError(
        f"unknown network {shown(name)}{closest(name, network_names())}; `neuroprobe list networks` prints all; a "
        "network of your own is given as package.module:callable"
    )


def _torchvision_source(name: str) -> NetworkSource:
    from torchvision import models

    weights: Any = models.get_model_weights(name).DEFAULT
    declared: Any = weights.transforms()
    crop, resize = declared.crop_size[0], declared.resize_size[0]

    def pretrained() -> dict[str, torch.Tensor]:
        try:
            state: dict[str, torch.Tensor] = weights.get_state_dict(progress=sys.stderr.isatty(), check_hash=True)
        except Exception as error:
            raise SubjectError(
                f"weights of {name!r} could not be downloaded from {weights.url}: {error}; "
                "get the file elsewhere and give it as `weights: path`, or take random ones by `weights: none`"
            ) from error
        return state

    extra: dict[str, Any] = {}
    if name in {"googlenet", "inception_v3"}:
        # as they are with torchvision's weights; the initialisation would be warned about otherwise
        extra = {"init_weights": True, "transform_input": True}
    if name.startswith("vit_"):
        extra = {"image_size": crop}
    return NetworkSource(
        partial(models.get_model, name, weights=None, **extra),
        pretrained,
        Preprocessing(tuple(declared.mean), tuple(declared.std), Framing((crop, crop), resize)),
        f"torchvision, {weights.meta['num_params'] / 1e6:.1f} million parameters",
        tuple(weights.meta.get("categories", ())),
    )


def _import_callable(path: str) -> Callable[[], object]:
    module_name, _, attribute = path.partition(":")
    where = f"network {path!r}"
    if not module_name or not attribute:
        raise UnknownNameError(f"{where}: expected package.module:callable")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # a module of a user's may fail in any way
        raise SubjectError(
            f"{where}: module {module_name!r} does not import: {reason(error)}; install it, or run where it lies"
        ) from error
    if not hasattr(module, attribute):
        callables = [name for name, thing in vars(module).items() if callable(thing)]
        raise UnknownNameError(
            f"{where}: {module_name!r} has no {attribute!r}{closest(attribute, callables)}; expected a callable of it "
            "that returns a network"
        )
    found: Callable[[], object] = getattr(module, attribute)
    if not callable(found):
        raise SubjectError(
            f"{where}: {attribute!r} is {type(found).__name__}, expected a callable that returns a network"
        )
    return found


def _call_by_path(path: str, build: Callable[[], object]) -> nn.Module:
    try:
        network = build()
    except (Exception, SystemExit) as error:  # a callable of a user's may fail in any way
        raise SubjectError(
            f"network {path!r}: calling it without arguments failed: {reason(error)}; wrap it in a function that does"
        ) from error
    if not isinstance(network, nn.Module):
        raise SubjectError(f"network {path!r}: it returned {type(network).__name__}, expected a torch.nn.Module")
    return network
