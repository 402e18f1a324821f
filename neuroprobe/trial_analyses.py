"""Blocks of a protocol that are labelled functions on a recording: their functions, what they need, their nodes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import xarray as xr

from neuroprobe.analysis.nodes import ANALYSIS
from neuroprobe.analysis.populations import Noise, Population, populations_of, require_repeats, require_trials
from neuroprobe.errors import ReaderError

if TYPE_CHECKING:
    from neuroprobe.comparison.spread import Spread
    from neuroprobe.lesioned_runs import LesionedRuns
    from neuroprobe.protocol.model import AnalysisSpec, Model

COMPARE: Final = "compare"
N_LOOKED_AT: Final = 64  # units at a time, of which one with noise is looked for
TAKE: Final = "take variance_decomposition, which needs no design"


def _trials(populations: Sequence[Population], options: Any, what: str) -> None:
    require_trials(populations, what)


def _repeats(populations: Sequence[Population], options: Any, what: str) -> None:
    """Refuse recordings without repetitions, or whose repetitions do not differ."""
    require_repeats(populations, what)
    noise = Noise(what)
    for one in populations:
        for piece in one.pieces(most=N_LOOKED_AT):
            noise.look(piece)
            if piece.is_noisy:
                return
    noise.require()


def _terms(populations: Sequence[Population], options: Any, what: str) -> None:
    from neuroprobe.analysis.anova import require_one_factor

    require_one_factor(populations, options.n_permutations)
    _repeats(populations, options, what)


def _apart(populations: Sequence[Population], options: Any, what: str) -> None:
    from neuroprobe.analysis.discrimination import require_conditions

    require_conditions(populations, options.against)


def _responses(populations: Sequence[Population], options: Any, what: str) -> None:
    from neuroprobe.analysis.responsiveness import require_reference

    require_trials(populations, what)
    require_reference(populations, options.blank)


def _bins(populations: Sequence[Population], options: Any, what: str) -> None:
    from neuroprobe.analysis.latency import require_bins

    require_trials(populations, what)
    require_bins(populations)


def _edges(populations: Sequence[Population], options: Any, what: str) -> None:
    from neuroprobe.analysis.spike_trains import require_edges

    require_edges(populations)


def _pairs(populations: Sequence[Population], options: Any, what: str) -> None:
    from neuroprobe.analysis.correlations import require_few

    require_few(populations)
    _repeats(populations, options, what)


def _curves(populations: Sequence[Population], options: Any, what: str) -> None:
    from neuroprobe.analysis.tuning import models_of, require_period

    for factor in populations[0].factors:
        of_one = [one.of_factor(factor) for one in populations]
        models_of(of_one, options.model)
        require_period(of_one, options.period)


def _few_factors(populations: Sequence[Population], options: Any, what: str) -> None:
    from neuroprobe.analysis.variance_decomposition import require_factors

    require_trials(populations, what)
    require_factors(populations)


@dataclass(frozen=True)
class TrialAnalysis:
    """A labelled function on recordings, as a block of a protocol.

    Attributes
    ----------
    home : str
        Module of the function, which is called as the block is.
    what : str
        What it is called in messages.
    require : callable, optional
        (populations, options, what) → raises where it cannot run on these; None where the design tells.
    all_trials : bool
        Whether trials count that lack a factor, where none is named.
    """

    home: str
    what: str
    require: Callable[[Sequence[Population], Any, str], None] | None
    all_trials: bool = False


FUNCTIONS: Final = {
    "responsiveness": TrialAnalysis("responsiveness", "responsiveness", _responses, all_trials=True),
    "anova": TrialAnalysis("anova", "analysis of variance", _terms),
    "discrimination": TrialAnalysis("discrimination", "discrimination", _apart),
    "reliability": TrialAnalysis("reliability", "reliability", _repeats),
    "correlations": TrialAnalysis("correlations", "noise correlation", _pairs),
    "information": TrialAnalysis("information", "information", _repeats),
    "latency": TrialAnalysis("latency", "latency", _bins, all_trials=True),
    "psth": TrialAnalysis("spike_trains", "PSTH", _edges),
    "tuning": TrialAnalysis("tuning", "tuning", _curves),
    "variance_decomposition": TrialAnalysis("variance_decomposition", "variance decomposition", _few_factors),
}
# those of a design, on stored responses that have one
OF_DESIGNS: Final = {
    "sobol": TrialAnalysis("stored", "sobol", None),
    "shapley": TrialAnalysis("stored", "shapley", None),
    "contrast": TrialAnalysis("stored_contrast", "contrast", None),
}
# those that are of networks while they are recorded → why
OF_NETWORKS: Final = {
    "moments": f"moments are summed while treatments are shown: {TAKE}",
    "masking": "masks are of networks, which are shown images again under each",
    "single_class": "masks are of networks, which are shown images again under each",
    "selectivity": "it shows images again, altered, which no recording can: take tuning, or anova over their classes",
}


def require_runnable(recording: xr.DataTree, spec: AnalysisSpec) -> None:
    """Refuse an analysis that cannot run on a recording, before any work.

    Raises
    ------
    ReaderError
        With the reason, and what to take instead.
    """
    if spec.name in OF_NETWORKS:
        raise ReaderError(f"{spec.name} cannot run on a recording: {OF_NETWORKS[spec.name]}")
    if spec.name in OF_DESIGNS:
        _require_design(recording, spec)
        return
    if spec.name == COMPARE:
        _require_comparison(recording, spec.options)
        return
    one = FUNCTIONS[spec.name]
    options: Any = spec.options
    factors = () if options.factors is None and one.all_trials and not getattr(options, "blank", None) else None
    populations = populations_of(recording, options.factors or factors, options.units)
    assert one.require is not None
    one.require(populations, options, one.what)


def _require_comparison(recording: xr.DataTree, options: Any) -> None:
    from neuroprobe.comparison.blocks import require_comparable

    if options.lesion is not None:
        raise ReaderError("lesion: is of networks, which can be recorded again: leave it out").about("lesion")
    require_comparable(recording, options)


def _require_design(recording: xr.DataTree, spec: AnalysisSpec) -> None:
    try:
        if spec.name == "contrast":
            from neuroprobe.analysis.stored_contrast import require_pairs

            require_pairs(recording)
        else:
            from neuroprobe.analysis.stored import require_design

            require_design(recording, spec.name)
    except ReaderError as error:
        raise ReaderError(f"{spec.name} cannot run on this recording: {error}; or {TAKE}") from None


def analysed(
    recording: xr.DataTree,
    spec: AnalysisSpec,
    seed: int,
    lesioned: LesionedRuns | None = None,
    spread: Spread | None = None,
) -> dict[str, xr.Dataset]:
    """Run an analysis on a recording.

    Parameters
    ----------
    recording : xarray.DataTree
        As `neuroprobe.read_recording` or `neuroprobe.open_recording` gives it.
    spec : AnalysisSpec
    seed : int
        Of the protocol.
    lesioned : LesionedRuns, optional
        What records the network again, where it is one.
    spread : callable, optional
        Has workers do parts of comparisons.

    Returns
    -------
    dict of Dataset
        By the place within the group of the analysis: ``""`` for the group itself; a factor of tuning; a layer; what
        is compared with.
    """
    if spec.name == COMPARE:
        from neuroprobe.comparison.blocks import compared

        score = None if lesioned is None else lesioned.score
        found = compared(recording, spec.options, seed, score, spread)  # type: ignore[arg-type]  # its own options
        return {node: dataset.assign_attrs({ANALYSIS: COMPARE}) for node, dataset in found.items()}
    function = _function(spec.name)
    given = _arguments(function, spec.options, seed)
    if spec.name == "tuning":
        factors = given.pop("factors", None) or populations_of(recording)[0].factors
        found = {str(factor).replace("/", "_"): function(recording, factor, **given) for factor in factors}
    elif spec.name in OF_DESIGNS:
        tree = function(recording, **given)
        return {layer: node.to_dataset(inherit=False) for layer, node in tree.children.items()}
    else:
        found = {"": function(recording, **given)}
    return {node: dataset.assign_attrs({ANALYSIS: spec.name}) for node, dataset in found.items()}


def _function(name: str) -> Callable[..., Any]:
    home = {**FUNCTIONS, **OF_DESIGNS}[name].home
    function: Callable[..., Any] = getattr(import_module(f"neuroprobe.analysis.{home}"), name)
    return function


def _arguments(function: Callable[..., Any], options: Model, seed: int) -> dict[str, Any]:
    """Options that the function takes; those of recording alone, such as draws of a contrast, are none of its."""
    known = inspect.signature(function).parameters
    listed: Mapping[str, Any] = options.model_dump()
    given = {name: value for name, value in listed.items() if name in known or name == "factors"}
    if given.get("ranks", "") is None:
        del given["ranks"]
    return given | ({"seed": seed} if "seed" in known else {})


def units_of(recording: xr.DataTree) -> int:
    """Number of units of all populations."""
    return sum(one.n_units for one in populations_of(recording, ()))
