"""Sets of alterations of one protocol, each of which is a run of its own."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from neuroprobe.errors import Problem, ProtocolError, unknown_name
from neuroprobe.protocol.places import Places
from neuroprobe.protocol.schema import Protocol

BLOCK = ("treatment", "alterations")


def choose_set(protocol: Protocol, name: str | None) -> Protocol:
    """Return the protocol with the alterations of one set alone, in the order of the set.

    Parameters
    ----------
    name : str, optional
        By default the set that the protocol itself names; if it names none, the protocol is returned as it is.

    Raises
    ------
    ProtocolError
        If there is no such set.
    """
    spec = protocol.treatment
    sets, chosen = spec.sets or {}, name if name is not None else spec.chosen
    if chosen is None:
        return protocol
    if chosen not in sets:
        missing = unknown_name("set", chosen, sets)
        raise _error(
            protocol, missing if sets else f"{missing}; sets are written as `treatment: {{sets: {{NAME: […]}}}}`"
        )
    labels = [item.label for item in spec.alterations]
    numbers = [labels.index(label) for label in sets[chosen]]
    alterations = [spec.alterations[number] for number in numbers]
    update: dict[str, Any] = {"alterations": alterations, "sets": {chosen: sets[chosen]}, "chosen": chosen}
    update["dependence"] = None if spec.dependence is None else spec.dependence.among(alterations)
    treatment = spec.model_copy(update=update)
    return protocol.model_copy(update={"treatment": treatment}).at(_moved(protocol.places, numbers))


def require_set(protocol: Protocol) -> None:
    """Refuse to run a protocol of several sets, none of which was chosen."""
    sets = protocol.treatment.sets
    if sets is not None and protocol.treatment.chosen is None:
        listed = "; ".join(f"{name} ({', '.join(labels)})" for name, labels in sets.items())
        raise _error(protocol, f"each set of alterations is a run of its own: choose one by --set, or set=…: {listed}")


def _error(protocol: Protocol, message: str) -> ProtocolError:
    places = protocol.places
    path = places.path(("treatment", "sets"))
    return ProtocolError([Problem(message, *places.mark(path))], places.file or "<protocol>")


def _moved(places: Places, numbers: list[int]) -> Places:
    """Places of the alterations that are left, under their new numbers."""
    depth = len(BLOCK)
    new: dict[Hashable, int] = {number: place for place, number in enumerate(numbers)}
    marks = {}
    for path, mark in places.marks.items():
        if path[:depth] != BLOCK or len(path) == depth:
            marks[path] = mark
        elif path[depth] in new:
            marks[(*BLOCK, new[path[depth]], *path[depth + 1 :])] = mark
    return Places(places.file, marks)
