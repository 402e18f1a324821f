"""Comparisons as blocks of protocols: what is compared is opened, and its stimuli are joined, before any work."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import xarray as xr

from neuroprobe import names
from neuroprobe.comparison.lesions import LESION, ScoreLesioned, arguments_of, compared_lesioned, require_lesions
from neuroprobe.comparison.metrics import METRICS, compare_sides
from neuroprobe.comparison.sources import open_source
from neuroprobe.comparison.spread import Spread
from neuroprobe.comparison.stimuli import Side, by_area, common_stimuli, side_of
from neuroprobe.errors import ReaderError, about, unknown_name
from neuroprobe.journal import digest_of
from neuroprobe.protocol.animal import AnyProtocol
from neuroprobe.protocol.comparison import CompareOptions
from neuroprobe.protocol.schema import Protocol

OF_SIDES: Final = ("model", "brain", "stimuli", "regression")  # arguments of metrics that are no options


def shown_side(protocol: Protocol, image_ids: Sequence[str]) -> Side:
    """Return the side of a network before it is recorded, of which only the stimuli are known."""
    shown = [*map(str, image_ids), *([names.BLANK] if protocol.stimuli.blanks else [])]
    return Side("model", (), None, names.IMAGE_ID, tuple(dict.fromkeys(shown)))


def brains_of(options: CompareOptions, spread: Spread | None = None) -> dict[str, Side]:
    """Open what is compared with, by name; as one side each, whose areas are not told apart yet.

    Parameters
    ----------
    options : CompareOptions
    spread : callable, optional
        Has workers do what takes all units.

    Raises
    ------
    ReaderError, StoreError
        With the place in the block.
    """
    found = {}
    for name, path in options.recordings.items():
        with about("with", name):
            given = open_source(Path(path), options.metric, None if options.labels is None else Path(options.labels))
            assert not isinstance(given, Path)  # of results alone
            found[name] = side_of("brain", given, options.on, options.units_brain, spread)
            if options.areas is not None:
                by_area(found[name], options.areas)
    return found


def require_comparable(model: Side | xr.DataTree, options: CompareOptions) -> None:
    """Refuse a block that cannot run.

    Parameters
    ----------
    model : Side or DataTree
        A recording; or what a network will be shown.
    options : CompareOptions

    Raises
    ------
    ReaderError, StoreError
        If an option is none of the metric's, a file cannot be read, or stimuli do not match.
    """
    known = [name for name in inspect.signature(METRICS[options.metric]).parameters if name not in OF_SIDES]
    for name in options.options:
        if name not in known:
            raise ReaderError(unknown_name(f"option of {options.metric}", name, known)).about("options", name)
    side = model if isinstance(model, Side) else side_of("model", model, options.on, options.units_model)
    for name, brain in brains_of(options).items():
        with about("with", name):
            if brain.rdms is not None and options.metric != "rsa":
                brain.require_responses(options.metric)
            # what a network's stimuli are called in another column is known when they have been shown
            if options.on is None or not isinstance(model, Side):
                common_stimuli(side, brain, options.join)


def require_comparisons(protocol: Protocol, image_ids: Sequence[str]) -> None:
    """Refuse comparisons of a network that cannot run, before it is recorded.

    Raises
    ------
    ReaderError, StoreError
        With the place in the protocol.
    """
    for number, spec in enumerate(protocol.analyses):
        if isinstance(spec.options, CompareOptions):
            with protocol.places.told(), about("analyses", number, spec.name):
                require_comparable(shown_side(protocol, image_ids), spec.options)
                if spec.options.lesion is not None:
                    require_lesions([layer.name for layer in protocol.subject.layers], spec.options.lesion)


def compared(
    recording: xr.DataTree,
    options: CompareOptions,
    seed: int,
    score_lesioned: ScoreLesioned | None = None,
    spread: Spread | None = None,
) -> dict[str, xr.Dataset]:
    """Compare a recording with all that a block names.

    Parameters
    ----------
    recording : DataTree
    options : CompareOptions
    seed : int
        Of the protocol.
    score_lesioned : callable, optional
        As of `neuroprobe.comparison.lesions.compared_lesioned`; of networks.
    spread : callable, optional
        Has workers do what takes all units.

    Returns
    -------
    dict of Dataset
        By name, as `neuroprobe.compare` gives them; ``<name>/lesion`` as `compared_lesioned` does.
    """
    model = side_of("model", recording, options.on, options.units_model, spread)
    given = arguments_of(options, seed)
    found = {}
    for name, brain in brains_of(options, spread).items():
        with about("with", name):
            found[name] = compare_sides(model, brain, options.metric, options.join, options.areas, **given)
            if options.lesion is not None and score_lesioned is not None:
                found[f"{name}/{LESION}"] = compared_lesioned(model, brain, options, name, seed, score_lesioned)
    return found


def digest_of_compared(protocol: AnyProtocol) -> str:
    """Hash of the files that comparisons of a protocol name; empty where there are none."""
    paths = [
        path
        for spec in protocol.analyses
        if isinstance(spec.options, CompareOptions)
        for path in (*spec.options.recordings.values(), spec.options.labels)
        if path is not None
    ]
    return " ".join(digest_of(Path(path)) for path in paths)
