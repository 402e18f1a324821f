"""References: a word in a protocol for the choices of another code, each of which is the value of a key of its own.

`SETTINGS`, `OF_ANALYSES` and `OF_ALTERATIONS` say which. They are defaults: what the protocol gives itself stays.
"""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from neuroprobe.protocol.schema import Protocol

Reference = Literal["kharyuk2025"]

# the code of Kharyuk et al. 2025 (arXiv 2503.03283)
SETTINGS: Final[dict[str, dict[tuple[str, ...], Any]]] = {
    "kharyuk2025": {
        ("subject", "preprocess", "minmax"): True,
        ("stimuli", "image"): "redrawn",
        ("treatment", "eight_bit"): True,
    }
}
OF_ANALYSES: Final[dict[str, dict[str, dict[tuple[str, ...], Any]]]] = {
    "kharyuk2025": {"shapley": {("design", "players"): "parameters"}}
}
OF_ALTERATIONS: Final[dict[str, dict[str, dict[str, Any]]]] = {
    "kharyuk2025": {"erasing": {"outside": "skip"}, "rotation": {"crop": True}}
}


def with_reference(value: Any) -> Any:
    """Give a protocol, as it is written, the keys that its reference sets; what is malformed stays so.

    Examples
    --------
    >>> with_reference({"reference": "kharyuk2025", "stimuli": {"image": "frozen"}})["stimuli"]
    {'image': 'frozen'}
    """
    name = value.get("reference") if isinstance(value, dict) else None
    if not isinstance(name, str) or name not in SETTINGS:
        return value
    for path, setting in _settings(name, value).items():
        value = _with_default(value, path, setting)
    treatment = value.get("treatment")
    if not isinstance(treatment, dict) or not isinstance(treatment.get("alterations"), list):
        return value
    altered = [_with_options(item, OF_ALTERATIONS[name]) for item in treatment["alterations"]]
    return {**value, "treatment": {**treatment, "alterations": altered}}


def _settings(name: str, value: dict[str, Any]) -> dict[tuple[str, ...], Any]:
    """What a reference sets in a protocol that asks for some analyses, by the path of each key."""
    asked = value.get("analyses")
    listed = (
        [next(iter(one), None) if isinstance(one, dict) else one for one in asked] if isinstance(asked, list) else []
    )
    of_analyses = (settings for analysis, settings in OF_ANALYSES[name].items() if analysis in listed)
    found = reduce(or_, of_analyses, SETTINGS[name])
    subject = value.get("subject")
    # a stage of a network is shown a plane of the image as it is
    is_stage = isinstance(subject, dict) and subject.get("segment") is not None
    return {path: setting for path, setting in found.items() if not (is_stage and path[1] == "preprocess")}


def _with_default(block: Any, path: tuple[str, ...], setting: Any) -> Any:
    """Give a block a value at a path of keys, unless there is one."""
    if not isinstance(block, dict):
        return block
    key, *deeper = path
    if deeper:
        return {**block, key: _with_default(block.get(key, {}), tuple(deeper), setting)}
    return {key: setting, **block}


def _with_options(item: Any, options: dict[str, dict[str, Any]]) -> Any:
    """Give an alteration its options, unless it has them."""
    block = {"name": item} if isinstance(item, str) else item
    name = block.get("name") if isinstance(block, dict) else None
    return {**options[name], **block} if isinstance(name, str) and name in options else item


def reference_settings(protocol: Protocol) -> dict[str, Any]:
    """Values that the keys of a protocol's reference have in it, by their place: the reference's, or the protocol's."""
    from neuroprobe.protocol.digest import canonical

    if protocol.reference is None:
        return {}
    written = canonical(protocol)
    found = {}
    for path in _settings(protocol.reference, written):
        value: Any = written
        for key in path:
            value = value and value[key]
        found[".".join(path)] = value
    for item in written["treatment"]["alterations"]:
        for key in OF_ALTERATIONS[protocol.reference].get(item["name"], {}):
            found[f"{item['as']}.{key}"] = item[key]
    return found
