"""Analyses of a protocol and their options: each a name, or a block of one name with its options."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from neuroprobe.design.treatment_control import MAX_DRAWS
from neuroprobe.errors import unknown_name
from neuroprobe.protocol.comparison import CompareSpec
from neuroprobe.protocol.masking import MaskingOptions, SingleClassOptions
from neuroprobe.protocol.model import AnalysisSpec, Model, problem
from neuroprobe.protocol.selectivity import SelectivityOptions
from neuroprobe.protocol.trials import (
    TRIALS,
    AnovaSpec,
    CorrelationsSpec,
    DiscriminationSpec,
    InformationSpec,
    LatencySpec,
    PsthSpec,
    ReliabilitySpec,
    ResponsivenessSpec,
    TuningSpec,
    VarianceDecompositionSpec,
)
from neuroprobe.statistics.paired import CORRECTIONS


class SobolOptions(Model):
    """Sobol indices: the share of each unit's variance that a factor explains alone, in pairs, and in all."""

    total_interaction: bool = False
    estimator: Literal["differences", "salib"] = "differences"


class ShapleyOptions(Model):
    """Shapley effects: one share of each unit's variance per factor, which sum to 1."""


class MomentsOptions(Model):
    """Mean, variance and coefficient of variation of each unit under the treatment."""


class ContrastOptions(Model):
    """Treatment against control: each alteration alone, on every image, in several draws."""

    draws: Annotated[int, Field(ge=1, le=MAX_DRAWS)] = 4
    ranks: list[str] | None = None
    correction: Literal[CORRECTIONS] = "fdr_by"  # type: ignore[valid-type]  # a tuple of words
    family: Literal["alteration", "all"] = "alteration"
    accuracy: Literal["auto"] | bool = "auto"
    classes: Annotated[list[str], Field(min_length=2)] | None = None


class SobolSpec(AnalysisSpec):
    """Sobol indices of every recorded unit."""

    name: ClassVar[str] = "sobol"
    sobol: SobolOptions


class ShapleySpec(AnalysisSpec):
    """Shapley effects of every recorded unit."""

    name: ClassVar[str] = "shapley"
    shapley: ShapleyOptions


class MomentsSpec(AnalysisSpec):
    """Moments of every recorded unit."""

    name: ClassVar[str] = "moments"
    moments: MomentsOptions


class ContrastSpec(AnalysisSpec):
    """The contrast of treatment and control of every recorded unit."""

    name: ClassVar[str] = "contrast"
    contrast: ContrastOptions


class MaskingSpec(AnalysisSpec):
    """Accuracies of the network under many lesions."""

    name: ClassVar[str] = "masking"
    masking: MaskingOptions


class SingleClassSpec(AnalysisSpec):
    """The classes that lesions push predictions to."""

    name: ClassVar[str] = "single_class"
    single_class: SingleClassOptions


class SelectivitySpec(AnalysisSpec):
    """What drives each channel, and what it is selective for."""

    name: ClassVar[str] = "selectivity"
    selectivity: SelectivityOptions


ANALYSES: dict[str, type[Model]] = {
    "sobol": SobolOptions,
    "shapley": ShapleyOptions,
    "moments": MomentsOptions,
    "contrast": ContrastOptions,
    "masking": MaskingOptions,
    "single_class": SingleClassOptions,
    "selectivity": SelectivityOptions,
    **TRIALS,
}
ALONE: Final = ("contrast", "masking", "single_class")  # those that show each alteration alone, beside the control
PRESENTED: Final = tuple(TRIALS)  # those of responses to images as they are, each shown several times
UNALTERED: Final = ("selectivity", *PRESENTED)  # those that show images without the treatment


def _name(value: Any) -> str:
    return value.name if isinstance(value, AnalysisSpec) else next(iter(value))


def _known(value: Any) -> Any:
    """Turn a bare name into a block, and refuse an unknown one, naming the closest."""
    if isinstance(value, AnalysisSpec):
        return value
    if isinstance(value, str) and value in ANALYSES:
        return {value: {}}
    if isinstance(value, dict) and len(value) == 1 and next(iter(value)) in ANALYSES:
        return value
    given = ", ".join(map(str, value)) if isinstance(value, dict) else value
    raise problem(
        unknown_name("analysis", given, ANALYSES) + "; options are written as {sobol: {total_interaction: true}}"
    )


AnyAnalysis = Annotated[
    Annotated[SobolSpec, Tag("sobol")]
    | Annotated[ShapleySpec, Tag("shapley")]
    | Annotated[MomentsSpec, Tag("moments")]
    | Annotated[ContrastSpec, Tag("contrast")]
    | Annotated[MaskingSpec, Tag("masking")]
    | Annotated[SingleClassSpec, Tag("single_class")]
    | Annotated[SelectivitySpec, Tag("selectivity")]
    | Annotated[ResponsivenessSpec, Tag("responsiveness")]
    | Annotated[AnovaSpec, Tag("anova")]
    | Annotated[DiscriminationSpec, Tag("discrimination")]
    | Annotated[ReliabilitySpec, Tag("reliability")]
    | Annotated[CorrelationsSpec, Tag("correlations")]
    | Annotated[InformationSpec, Tag("information")]
    | Annotated[LatencySpec, Tag("latency")]
    | Annotated[PsthSpec, Tag("psth")]
    | Annotated[TuningSpec, Tag("tuning")]
    | Annotated[VarianceDecompositionSpec, Tag("variance_decomposition")]
    | Annotated[CompareSpec, Tag("compare")],
    Discriminator(_name),
    BeforeValidator(_known),
]
