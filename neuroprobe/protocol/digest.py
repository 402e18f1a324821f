"""A protocol as plain values, and its hashes: of all of it, and of the part that a store must not mix."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from neuroprobe.protocol.alteration import write_law
from neuroprobe.protocol.animal import AnimalProtocol, AnyProtocol
from neuroprobe.protocol.images import PLACES
from neuroprobe.protocol.schema import Protocol


def canonical(protocol: AnyProtocol) -> dict[str, Any]:
    """Return the validated protocol as plain values, defaults filled in."""
    return protocol.model_dump(mode="json", by_alias=True)


def as_given(protocol: AnyProtocol) -> dict[str, Any]:
    """Return the protocol as plain values, short as a person writes it: without the defaults that were not given.

    What a reference sets counts as given.
    """
    value = protocol.model_dump(mode="json", by_alias=True, exclude_unset=True)
    if "analyses" in value:
        value["analyses"] = [next(iter(item)) if not any(item.values()) else item for item in value["analyses"]]
    if isinstance(protocol, AnimalProtocol):
        value["subject"]["recording"] = _short(value["subject"]["recording"], "path")
        return value
    for block in (value.get("treatment"), value.get("control")):
        if isinstance(block, dict):
            block["alterations"] = [_alteration_as_given(item) for item in block["alterations"]]
    if not value.get("treatment", {}).get("alterations", True):
        del value["treatment"]
    value["subject"]["layers"] = [_short(layer, "name") for layer in value["subject"]["layers"]]
    if len(value["subject"].get("lesion", ())) == 1:
        (value["subject"]["lesion"],) = value["subject"]["lesion"]
    if value.get("record", {}).get("store") == {"responses": None}:
        value["record"]["store"] = "responses"
    return value


def _alteration_as_given(item: dict[str, Any]) -> Any:
    """Leave out of an alteration what it has by itself."""
    from neuroprobe.stimuli.alterations import ALTERATIONS

    parameters = ALTERATIONS[item["name"]].parameters
    own = {name: write_law(parameter.law, parameter.words) for name, parameter in parameters.items()}
    own |= {"as": item["name"], "switch": "always"}
    return _short({key: value for key, value in item.items() if key not in own or own[key] != value}, "name")


def _short(block: dict[str, Any], key: str) -> Any:
    """Write a block that has one key only as the value of that key."""
    return block[key] if list(block) == [key] else block


def protocol_hash(protocol: AnyProtocol) -> str:
    """Hash of the canonical protocol."""
    return _hash(canonical(protocol))


def guard_of_recording(protocol: AnimalProtocol, recording: str) -> str:
    """Hash of what decides the numbers of a result of a recording that has a hash, whatever its path and title are."""
    value = canonical(protocol)
    del value["title"], value["subject"]["recording"]["path"]
    _without_compared(value)
    return _hash({**value, "content": recording})


def guard_hash(protocol: Protocol, **content: str) -> str:
    """Hash of what decides the numbers of a store, whatever its paths, title and number of samples are.

    Parameters
    ----------
    **content : str
        Hashes of what the paths stand for (weights, images, maps), and of the masks of a lesion.
    """
    value = canonical(protocol)
    del value["title"], value["subject"]["weights"], value["subject"]["lesion"]
    del value["design"]["samples"], value["design"]["until"]
    del value["record"]["device"], value["reference"]  # what a reference sets stands at its own keys
    if value["record"]["precision"] == "float32":
        del value["record"]["precision"]  # as in stores from before there were others
    for options in (options for analysis in value["analyses"] for options in analysis.values()):
        for maps in options.get("maps", ()):
            del maps["from"], maps["any_network"]
        for maps in options.get("label_maps", {}).values():
            del maps["folder"], maps["names"]
        options.pop("hierarchy", None)
        if options.get("relevance") is False:
            del options["relevance"]  # as in stores from before it could be asked for
    _without_compared(value)
    images = value["stimuli"]["images"]
    for source in images if isinstance(images, list) else [images]:
        for key in PLACES:
            source.pop(key, None)
    return _hash({**value, "content": content})


def _without_compared(value: dict[str, Any]) -> None:
    """Leave out the paths of comparisons, but not what they are called."""
    for options in (analysis["compare"] for analysis in value["analyses"] if "compare" in analysis):
        options["with"] = list(options["with"])
        del options["labels"]


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
