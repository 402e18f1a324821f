"""Hashes of a protocol: of all of it, and of the part that a store must not mix."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from neuroprobe.protocol.images import PLACES
from neuroprobe.protocol.schema import Protocol


def canonical(protocol: Protocol) -> dict[str, Any]:
    """Return the validated protocol as plain values, defaults filled in."""
    return protocol.model_dump(mode="json", by_alias=True)


def protocol_hash(protocol: Protocol) -> str:
    """Hash of the canonical protocol."""
    return _hash(canonical(protocol))


def guard_hash(protocol: Protocol, **content: str) -> str:
    """Hash of what decides the numbers of a store, whatever its paths, title and number of samples are.

    Parameters
    ----------
    **content : str
        Hashes of what the paths stand for (weights, images).
    """
    value = canonical(protocol)
    del value["title"], value["design"]["samples"], value["subject"]["weights"]
    del value["record"]["device"]
    images = value["stimuli"]["images"]
    for source in images if isinstance(images, list) else [images]:
        for key in PLACES:
            source.pop(key, None)
    return _hash({**value, "content": content})


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
