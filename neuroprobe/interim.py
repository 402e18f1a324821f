"""Results of a run that goes on: of the blocks that its journal says are done, made when somebody asks.

A run notes in ``.neuroprobe/interim.json``, before its first forward pass, what labels its numbers: layers, analyses,
provenance. Whoever opens an interim result reads that, the journal, and the states that the journal names; the network
is not needed, nothing is written, and the run does not notice. States that the run merges and deletes meanwhile stay
readable, as they are open.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr

from neuroprobe import names
from neuroprobe.analysis.contrast import ContrastAnalysis, LayerLayout
from neuroprobe.analysis.sensitivity import (
    MomentsAnalysis,
    ShapleyAnalysis,
    SobolAnalysis,
    VarianceAnalysis,
    label_convergence,
)
from neuroprobe.disk import write_text
from neuroprobe.errors import StoreError, reason
from neuroprobe.journal import RUN_FOLDER, Begun, Header, journal_entries, live_spans, require_store
from neuroprobe.store import SEPARATOR, SessionStore

if TYPE_CHECKING:
    from neuroprobe.rig import Rig
    from neuroprobe.statistics.pick_freeze import PickFreezeSums

FILE: Final = "interim.json"
ANALYSES: Final[dict[str, Any]] = {kind.name: kind for kind in (SobolAnalysis, ShapleyAnalysis, MomentsAnalysis)}
TRIES: Final = 20  # of opening what the run merges at this moment
Described = dict[str, Any]


def describe(folder: Path, rigs: Mapping[str, Rig], attrs: Mapping[str, Any]) -> None:
    """Note what interim results of a run will be labelled with.

    Parameters
    ----------
    folder : Path
        Of the run.
    rigs : dict of Rig
        By session.
    attrs : dict
        Of the root of its result.
    """
    sessions = {name: _session(rig) for name, rig in rigs.items() if rig.analyses}
    write_text(folder / FILE, json.dumps({"attrs": dict(attrs), "sessions": sessions}))


def _session(rig: Rig) -> Described:
    layers = [
        {
            "name": site.name,
            "dims": site.dims,
            "shape": site.shape,
            "channels": None if site.spec.channels is None else list(map(int, site.channels)),
        }
        for site in rig.sites
    ]
    measured = rig.outcome is not None and rig.outcome.site in rig.probed
    return {
        "layers": layers,
        "factors": [factor.name for factor in rig.factors],
        "analyses": {analysis.name: asdict(analysis) for analysis in rig.analyses},
        "accuracy": [rig.outcome.site.name, list(rig.outcome.measures)] if measured and rig.outcome else None,
    }


def open_interim(path: Path) -> xr.DataTree:
    """Make the result of what is done of a run.

    Parameters
    ----------
    path : Path
        Of its store.

    Returns
    -------
    xarray.DataTree
        In memory, with the groups of the whole result that can be made of some blocks: ``sobol``, ``shapley``,
        ``moments``, ``contrast`` (without signed ranks), ``accuracy`` and ``convergence``. The attribute ``interim``
        of the root says how many blocks of each session are in it. Of a session that is recorded part by part, there
        are the layers of which all units have been recorded so far, over the same base samples; ``samples`` of the
        root are then those that all these layers have.

    Raises
    ------
    StoreError
        If there is no run, nothing is done yet, or what the run does has no interim results.
    """
    header = require_store(path)
    described = _described(path)
    groups: dict[str, dict[str, xr.Dataset]] = {}
    done: dict[str, tuple[int, int]] = {}
    samples: dict[str, int] = {}
    with ExitStack() as stack:
        for name, session in described["sessions"].items():
            begun = header.sessions[name]
            held = _HeldParts({key: _hold(path, key, stack) for key in begun.keys(name)}, begun, session["layers"])
            if not held.layers:
                continue
            done[name] = held.n_blocks, begun.n_blocks * len(held.parts)
            samples[name] = held.n_samples
            for group, nodes in _groups(session, held, begun).items():
                groups.setdefault(group, {}).update(nodes)
    if not groups:
        raise StoreError(f"{str(path)!r}: {_nothing(path, described, header)}")
    attrs = described["attrs"] | {"interim": json.dumps(done)}
    attrs |= {"sessions": json.dumps(samples), "samples": next(iter(samples.values()))}
    nodes = {
        f"/{group}/{node}".rstrip("/"): dataset for group, found in groups.items() for node, dataset in found.items()
    }
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=attrs), **nodes})


def _described(path: Path) -> Described:
    try:
        found: Described = json.loads((path / RUN_FOLDER / FILE).read_text())
        return found
    except FileNotFoundError:
        raise StoreError(
            f"{str(path)!r} has no interim results: the run has just begun, was begun by an earlier version, or "
            "analyses a recording; wait for its end"
        ) from None
    except ValueError as error:
        raise StoreError(
            f"{str(path)!r}: {FILE} cannot be read ({reason(error)}); go on with the run, which writes it anew"
        ) from error


def _nothing(path: Path, described: Described, header: Header) -> str:
    if not described["sessions"]:
        return f"{', '.join(header.sessions)} has no interim results; wait for the end of the run"
    if not live_spans(path):
        return f"none of {header.n_blocks} blocks is done yet; try again later"
    if any(begun.parts for begun in header.sessions.values()):
        return "it is recorded part by part, and no layer is whole yet; try again later"
    return f"nothing of {', '.join(described['sessions'])} is done yet, and other sessions have no interim results"


class _Held:
    """The states of a session, open, so that they can be read though the run deletes them."""

    def __init__(self, session: SessionStore, stack: ExitStack) -> None:
        from safetensors import safe_open

        self.convergence = session.convergence
        self.files = {
            span: stack.enter_context(safe_open(session.folder / session.spans[span]["file"], framework="pt"))
            for span in sorted(session.spans)
        }
        self.blocks = [block for span in self.files for block in range(span.start, span.stop)]

    def merged(self, analysis: str, layer: str) -> PickFreezeSums:
        """Read the states of a layer, merged from left to right."""
        from neuroprobe.recorder import state_key
        from neuroprobe.statistics.pick_freeze import PickFreezeSums

        prefix = f"{state_key(analysis, layer)}{SEPARATOR}"
        merged: PickFreezeSums | None = None
        for file in self.files.values():
            mine = [name for name in list(file.keys()) if name.startswith(prefix)]
            # copies: sums are merged in place, and may be read again
            state = PickFreezeSums.from_state({n.removeprefix(prefix): file.get_tensor(n).clone() for n in mine})
            if merged is None:
                merged = state
            else:
                merged.merge(state)
        assert merged is not None
        return merged


class _HeldParts:
    """The states of a session, part by part.

    Attributes
    ----------
    layers : list of str
        Those of which the states of all units are there, of the same blocks.
    """

    def __init__(self, parts: Mapping[str, _Held], begun: Begun, layers: Sequence[Described]) -> None:
        self.parts, self._begun = list(parts.values()), begun
        whole = tuple((layer["name"], 0, 0) for layer in layers)
        self._of_layer: dict[str, list[tuple[int, _Held]]] = {layer["name"]: [] for layer in layers}
        for held, pieces in zip(self.parts, begun.parts or (whole,), strict=True):
            for name, start, _ in pieces:
                self._of_layer[name].append((start, held))
        self.layers = []
        for name, found in self._of_layer.items():
            found.sort(key=lambda piece: piece[0])
            if all(held.blocks and held.blocks == found[0][1].blocks for _, held in found):
                self.layers.append(name)

    @property
    def n_blocks(self) -> int:
        """Blocks that are done, of all parts."""
        return sum(len(held.blocks) for held in self.parts)

    @property
    def n_samples(self) -> int:
        """Base samples of the layer that has the fewest."""
        layout, samples = self._begun.layout, self._begun.samples
        fewest = min((self._of_layer[name][0][1].blocks for name in self.layers), key=len)
        return sum(min((block + 1) * layout.block, samples) - block * layout.block for block in fewest)

    @property
    def convergence(self) -> dict[int, dict[str, dict[str, dict[str, list[float]]]]]:
        """Summaries of errors: base samples → analysis → layer, of layers that are in one part."""
        table: dict[int, dict[str, dict[str, dict[str, list[float]]]]] = {}
        for held in self.parts:
            for n, entry in held.convergence.items():
                for analysis, layers in entry.items():
                    table.setdefault(n, {}).setdefault(analysis, {}).update(layers)
        return table

    def sums(self, analysis: str, layer: str) -> Iterator[PickFreezeSums]:
        """Read what there is of a layer, in the order of its units."""
        return (held.merged(analysis, layer) for _, held in self._of_layer[layer])

    def merged(self, analysis: str, layer: str) -> PickFreezeSums:
        """Read what there is of a layer that is in one part, or of what is recorded beside the layers."""
        return self.parts[0].merged(analysis, layer)


def _hold(path: Path, name: str, stack: ExitStack) -> _Held:
    """Open the states that the journal names now; what the run deletes in this moment stands in the journal merged."""
    for attempt in range(1, TRIES + 1):
        session = SessionStore(path, name, [one for one in journal_entries(path) if one["session"] == name])
        n_blocks = sum(stop - start for start, stop in live_spans(path, name))
        # where fewer are whole than the journal names, some were merged meanwhile, or are damaged
        if sum(map(len, session.spans)) < n_blocks and attempt < TRIES:
            continue
        with ExitStack() as own:
            try:
                held = _Held(session, own)
            except (OSError, FileNotFoundError):
                continue
            stack.push(own.pop_all())
            return held
    raise StoreError(f"{str(path)!r}: the run merges its sums faster than they can be opened; try again")


def _groups(session: Described, held: _HeldParts, begun: Begun) -> dict[str, dict[str, xr.Dataset]]:
    """Label what a session found so far: group → node → dataset."""
    layouts = {
        layer["name"]: LayerLayout(
            tuple(layer["dims"]),
            tuple(layer["shape"]),
            {} if layer["channels"] is None else {names.CHANNEL: np.array(layer["channels"])},
            depth,
        )
        for depth, layer in enumerate(session["layers"])
        if layer["name"] in held.layers
    }
    groups: dict[str, dict[str, xr.Dataset]] = {}
    for kind, fields in session["analyses"].items():
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in fields.items()}
        if kind == ContrastAnalysis.name:
            contrast = ContrastAnalysis(**{**values, "ranks": ()})
            groups[kind] = dict(_contrasts(contrast, held, layouts))
            if session["accuracy"] is not None:
                site, measures = session["accuracy"]
                groups[names.ACCURACY] = {"": contrast.label_accuracy(held.merged(kind, site), measures)}
            continue
        analysis: VarianceAnalysis = ANALYSES[kind](**values)
        scramble = begun.layout.scramble
        groups[kind] = {
            layer: analysis.label(held.sums(kind, layer), one.dims, one.shape, one.coords, scramble, one.depth)
            for layer, one in layouts.items()
        }
        table = {n: entry[kind] for n, entry in held.convergence.items() if entry.get(kind)}
        if table:
            groups.setdefault(names.CONVERGENCE, {})[kind] = label_convergence(table, session["factors"])
    return groups


def _contrasts(
    analysis: ContrastAnalysis, held: _HeldParts, layouts: Mapping[str, LayerLayout]
) -> Iterator[tuple[str, xr.Dataset]]:
    n_images = held.merged(analysis.name, next(iter(layouts))).n_samples

    def arrays(layer: str) -> dict[str, Any]:
        return analysis.finalize(held.merged(analysis.name, layer))

    yield from analysis.label_layers(layouts, arrays, n_images)
