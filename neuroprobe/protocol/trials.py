"""Statistics of trials as blocks of a protocol: each takes the options of the labelled function that it stands for."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from neuroprobe.protocol.comparison import CompareOptions
from neuroprobe.protocol.model import AnalysisSpec, Model
from neuroprobe.statistics.paired import CORRECTIONS

Factors = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)] | None
Correction = Literal[CORRECTIONS]  # type: ignore[valid-type]  # a tuple of words
Level = Annotated[float, Field(gt=0, lt=1)]
TuningFunction = Literal[
    "von_mises",
    "double_gaussian",
    "log_gaussian",
    "naka_rushton",
    "super_saturating",
    "difference_of_gaussians",
    "ratio_of_gaussians",
    "gabor",
]


class TrialOptions(Model):
    """Statistics of single trials.

    Attributes
    ----------
    factors : list of str, optional
        Columns of the presentation table; by default those that the recording names.
    units : str, optional
        Which units, in the language of ``neuroprobe select``.
    """

    factors: Factors = None
    units: Annotated[str, Field(min_length=1)] | None = None


class ResponsivenessOptions(TrialOptions):
    """Which units respond: against the time before presentations, or against blank trials."""

    blank: Annotated[str, Field(min_length=1)] | None = None
    correction: Correction = "fdr_bh"
    n_permutations: NonNegativeInt = 0


class AnovaOptions(TrialOptions):
    """Whether conditions differ: analysis of variance over one factor, or several with interactions; and of ranks."""

    order: PositiveInt | None = None
    kind: Literal[1, 2, 3] = 2
    correction: Correction = "fdr_bh"
    n_permutations: NonNegativeInt = 0


class DiscriminationOptions(TrialOptions):
    """How well single trials tell a condition from others: d′ and the area under the ROC curve."""

    against: Annotated[str, Field(min_length=1)] | float | None = None
    correction: Correction = "fdr_bh"


class ReliabilityOptions(TrialOptions):
    """How much of the responses repeats: split halves, explainable variance, noise ceilings, Fano factors."""

    n_splits: PositiveInt = 100


class CorrelationsOptions(TrialOptions):
    """Signal and noise correlations of pairs of units that were recorded together."""

    n_splits: PositiveInt = 100
    correction: Correction = "fdr_bh"


class InformationOptions(TrialOptions):
    """Information that responses carry about conditions, in bits, less the bias of few trials."""

    n_bins: Annotated[int, Field(ge=2)] | None = None
    n_shuffles: PositiveInt = 100
    correction: Correction = "fdr_bh"


class LatencyOptions(TrialOptions):
    """When responses begin, of recordings in bins of time."""

    n_sd: PositiveFloat = 3.0
    n_consecutive: PositiveInt = 3
    n_draws: PositiveInt = 200
    level: Level = 0.95


class PsthOptions(TrialOptions):
    """Mean rates over time of each condition, of recordings in bins of time; smoothed by a kernel of `sigma` s."""

    sigma: PositiveFloat | None = None


class TuningOptions(TrialOptions):
    """Tuning curves for each factor, how selective they are, and functions that are fitted to them."""

    period: Literal[0, 180, 360] | None = None
    model: TuningFunction | Annotated[list[TuningFunction], Field(min_length=1)] | None = None
    correction: Correction = "fdr_bh"
    n_draws: NonNegativeInt = 200
    level: Level = 0.95
    n_permutations: NonNegativeInt = 0


class VarianceDecompositionOptions(TrialOptions):
    """Shares of the variance that follow from factors as they happened to vary, of experiments without a design."""

    estimator: Literal["binned", "ranks"] = "binned"
    n_neighbours: Annotated[int, Field(ge=2)] = 3
    noise: bool | None = None
    n_permutations: PositiveInt = 200
    n_draws: PositiveInt = 100
    correction: Correction = "fdr_bh"


class ResponsivenessSpec(AnalysisSpec):
    """Which units respond."""

    name: ClassVar[str] = "responsiveness"
    responsiveness: ResponsivenessOptions


class AnovaSpec(AnalysisSpec):
    """Whether conditions differ."""

    name: ClassVar[str] = "anova"
    anova: AnovaOptions


class DiscriminationSpec(AnalysisSpec):
    """How well trials tell conditions apart."""

    name: ClassVar[str] = "discrimination"
    discrimination: DiscriminationOptions


class ReliabilitySpec(AnalysisSpec):
    """How much of the responses repeats."""

    name: ClassVar[str] = "reliability"
    reliability: ReliabilityOptions


class CorrelationsSpec(AnalysisSpec):
    """Correlations of pairs of units."""

    name: ClassVar[str] = "correlations"
    correlations: CorrelationsOptions


class InformationSpec(AnalysisSpec):
    """Information about conditions."""

    name: ClassVar[str] = "information"
    information: InformationOptions


class LatencySpec(AnalysisSpec):
    """When responses begin."""

    name: ClassVar[str] = "latency"
    latency: LatencyOptions


class PsthSpec(AnalysisSpec):
    """Mean rates over time."""

    name: ClassVar[str] = "psth"
    psth: PsthOptions


class TuningSpec(AnalysisSpec):
    """Tuning curves."""

    name: ClassVar[str] = "tuning"
    tuning: TuningOptions


class VarianceDecompositionSpec(AnalysisSpec):
    """Shares of the variance without a design."""

    name: ClassVar[str] = "variance_decomposition"
    variance_decomposition: VarianceDecompositionOptions


TRIALS: Final[dict[str, type[Model]]] = {
    "responsiveness": ResponsivenessOptions,
    "anova": AnovaOptions,
    "discrimination": DiscriminationOptions,
    "reliability": ReliabilityOptions,
    "correlations": CorrelationsOptions,
    "information": InformationOptions,
    "latency": LatencyOptions,
    "psth": PsthOptions,
    "tuning": TuningOptions,
    "variance_decomposition": VarianceDecompositionOptions,
    "compare": CompareOptions,
}
