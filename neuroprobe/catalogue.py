"""Lists of what a protocol can name."""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING

from neuroprobe.errors import SubjectError
from neuroprobe.protocol.alteration import spelled
from neuroprobe.protocol.analyses import ANALYSES
from neuroprobe.protocol.images import IMAGE_SOURCES
from neuroprobe.protocol.model import Model

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo
    from torch import Tensor, nn

    from neuroprobe.stimuli.alterations import Parameter


def alterations() -> list[dict[str, str]]:
    """Alterations with their parameters and default laws."""
    from neuroprobe.stimuli.alterations import ALTERATIONS

    rows = []
    for name in ALTERATIONS:
        laws = (f"{key}: {_default(parameter)}" for key, parameter in ALTERATIONS[name].parameters.items())
        rows.append({"name": name, "summary": ALTERATIONS[name].summary, "parameters": ", ".join(laws)})
    return rows


def _default(parameter: Parameter) -> str:
    """Law of a parameter as a protocol writes it."""
    law = parameter.law
    if parameter.words and law.constant:
        return spelled(parameter.words[int(law.arguments[0])])
    numbers = ", ".join(f"{number:g}" for number in law.arguments)
    return numbers if law.kind == "constant" else f"{{{law.kind}: [{numbers}]}}"


def generators() -> list[dict[str, str]]:
    """Generators of stimuli with their settings and defaults: lengths and frequencies of an image of side 1."""
    from neuroprobe.stimuli.generators import GENERATORS, Setting

    def default(setting: Setting) -> str:
        if setting.words:
            return setting.words[int(setting.default)]
        if setting.default != setting.default:
            return "none"
        sides = {"extent": " of the side", "position": " of the side", "frequency": " cycles per side"}
        return f"{setting.default:g}{sides.get(setting.kind, '')}"

    rows = []
    for name in GENERATORS:
        settings = ", ".join(f"{key}: {default(setting)}" for key, setting in GENERATORS[name].settings.items())
        rows.append({"name": name, "summary": GENERATORS[name].summary, "settings": settings})
    return rows


def networks() -> list[dict[str, str]]:
    """Networks that can be named."""
    from neuroprobe.subjects.networks import find_network, network_names

    return [{"name": name, "summary": find_network(name).summary} for name in network_names()]


def analyses() -> list[dict[str, str]]:
    """Analyses with their options."""
    rows = []
    for name, model in ANALYSES.items():
        options = ", ".join(_option(key, field) for key, field in model.model_fields.items())
        summary = (inspect.getdoc(model) or "").partition("\n")[0]
        rows.append({"name": name, "summary": summary, "options": options})
    return rows


def _option(key: str, field: FieldInfo) -> str:
    """Option with its default, which one that has to be given lacks."""
    if field.is_required():
        return key
    default = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(default, Model):
        default = default.model_dump()
    return f"{key}: {_written(default)}"


def _written(value: object) -> str:
    """Value as a protocol writes it; what is left open as what it stands for."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_written(one)}' for key, one in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_written, value))}]"
    if isinstance(value, float):
        return f"{value:g}"
    if value is None:
        return "null"
    return spelled(value) if isinstance(value, str | bool) else str(value)


def indexes() -> list[dict[str, str]]:
    """Selectivity indexes with their options."""
    from neuroprobe.protocol.selectivity import CLASS_INDEX, CLASS_SUMMARY
    from neuroprobe.stimuli.properties import LABELLERS, MANIPULATIONS

    rows = []
    for name in MANIPULATIONS:
        one = MANIPULATIONS[name]
        kind = "invariance" if one.invariance else "loss"
        options = ", ".join(_option(key, field) for key, field in one.options.model_fields.items())
        rows.append({"name": name, "kind": kind, "summary": one.summary, "options": options})
    labels = {CLASS_INDEX: CLASS_SUMMARY} | {name: LABELLERS[name].summary for name in LABELLERS}
    rows += [{"name": name, "kind": "labels", "summary": text, "options": ""} for name, text in labels.items()]
    return rows


def images() -> list[dict[str, str]]:
    """Sources of images with their keys and defaults, their own keys first."""
    rows = []
    for name, model in IMAGE_SOURCES.items():
        fields = sorted(model.model_fields.items(), key=lambda item: item[0] not in model.__annotations__)
        keys = (key if field.is_required() else f"{key}: {json.dumps(field.default)}" for key, field in fields)
        rows.append({"name": name, "summary": inspect.getdoc(model) or "", "keys": ", ".join(keys)})
    return rows


def readers() -> list[dict[str, str]]:
    """Formats of recordings that are read, with the choices that each takes."""
    from neuroprobe.recordings import READERS

    return [
        {"name": name, "summary": READERS[name].summary, "choices": ", ".join(sorted(READERS[name].choices))}
        for name in READERS
    ]


def writers() -> list[dict[str, str]]:
    """Formats that recordings are written in, by the ends of their names."""
    from neuroprobe.recordings import WRITERS

    return [
        {"name": name, "summary": WRITERS[name].summary, "names end in": ", ".join(WRITERS[name].suffixes) or "by name"}
        for name in WRITERS
    ]


def layers(network: str, size: int | None = None) -> list[dict[str, str]]:
    """Layers of a network, for images of a side of `size` px: shapes of responses, and receptive fields."""
    import torch

    from neuroprobe.probe.capture import list_layers
    from neuroprobe.subjects.networks import find_network

    source = find_network(network)
    declared = source.preprocessing.framing.size or (224, 224)
    height, width = (size, size) if size else declared
    try:
        # nothing is computed and no weights take memory on the meta device
        with torch.device("meta"):
            built, image = source.build().eval(), torch.empty(1, 3, height, width)
            found = list_layers(built, image)
    except (NotImplementedError, RuntimeError, SubjectError):  # some constructors compute with their weights
        built, image = source.build().eval(), torch.zeros(1, 3, height, width)
        found = list_layers(built, image)
    fields = _fields(built, [layer.address for layer in found if layer.shape is not None], image)
    return [
        {
            "layer": layer.address,
            "module": layer.kind,
            "shape": "no tensor" if layer.shape is None else " × ".join(map(str, layer.shape)),
            "receptive_field": fields.get(layer.address, ""),
        }
        for layer in found
    ]


def _fields(network: nn.Module, layers: list[str], image: Tensor) -> dict[str, str]:
    """Receptive fields of layers in words; none of a network that cannot be traced, which would take a while."""
    from neuroprobe.probe.graph import trace_operations
    from neuroprobe.probe.receptive_field import receptive_fields

    try:
        trace_operations(network)
        found = receptive_fields(network, layers, image)
    except (NotImplementedError, RuntimeError, SubjectError):
        return {}
    return {
        layer: "whole image"
        if field.whole_image
        else f"{field.rows.size} × {field.columns.size} px, every {field.rows.stride} px"
        for layer, field in found.items()
    }
