"""The schema of a recording protocol: frozen pydantic models; nothing that is not named here is allowed."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    PositiveInt,
    PrivateAttr,
    model_validator,
)

from neuroprobe import names
from neuroprobe.design.pick_freeze import is_power_of_two
from neuroprobe.errors import closest, shown, unknown_name
from neuroprobe.protocol.analyses import (
    ALONE,
    PRESENTED,
    UNALTERED,
    AnyAnalysis,
    ContrastOptions,
    SobolOptions,
    SobolSpec,
)
from neuroprobe.protocol.masking import LesionStudyOptions, MaskingOptions, SingleClassOptions
from neuroprobe.protocol.model import Model, problem, problem_at, short_form
from neuroprobe.protocol.places import Places
from neuroprobe.protocol.reference import Reference, with_reference
from neuroprobe.protocol.stimuli import StimuliSpec
from neuroprobe.protocol.subject import SubjectSpec
from neuroprobe.protocol.treatment import ControlSpec, TreatmentSpec, no_treatment
from neuroprobe.protocol.trials import TRIALS

DEVICES = r"auto|cpu|mps|cuda(:\d+)?"
TAKEN = (
    names.IMAGE,
    names.CLASS,
    names.PARTITION,
    names.ORDER,
    names.LAYER,
)  # what results and their pictures name by these words
MAX_SEED = 2**63 - 1  # what result files hold
MAX_SAMPLES = 2**24  # base samples; scrambles of a sixteenth of them are made at a time


def _scramble(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool) and (value < 64 or not is_power_of_two(value)):
        raise problem(f"given {shown(value)}, expected auto, whole, or a power of two from 64")
    return value


class UntilSpec(Model):
    """When a run stops before it has all base samples.

    Attributes
    ----------
    se : float
        Standard error of shares of the variance.
    share : float
        Of the units of every layer, undefined ones apart, that have to have reached it in all their shares.
    """

    se: Annotated[float, Field(gt=0)]
    share: Annotated[float, Field(gt=0, le=1)] = 0.95


class DesignSpec(Model):
    """Sizes of the design."""

    samples: Annotated[int, Field(ge=4, le=MAX_SAMPLES)] = 1024
    until: UntilSpec | None = None
    second_order: bool = True
    replicate: Literal["sample", "image"] = "sample"
    players: Literal["factors", "parameters"] = "factors"
    scramble: Annotated[Literal["auto", "whole"] | int, BeforeValidator(_scramble)] = "auto"

    @model_validator(mode="after")
    def _long_enough(self) -> Self:
        if isinstance(self.scramble, int) and self.samples < 2 * self.scramble:
            message = (
                f"samples: {self.samples} is under two scrambles of {self.scramble}; "
                f"raise samples to {2 * self.scramble} or lower scramble"
            )
            raise problem_at(("samples",), message, self.samples)
        return self


class Responses(Model):
    """Which responses are written to disk."""

    responses: Annotated[list[str], Field(min_length=1)] | None = None

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Allow the bare word."""
        return short_form(core_schema, handler, {"const": "responses"})


def _store(value: Any) -> Any:
    if not isinstance(value, dict | Responses) and value not in ("none", "responses"):
        hint = closest(value, ("none", "responses"))
        raise problem(
            f"record.store: given {shown(value)}{hint}, expected 'none', 'responses', or {{responses: [layer, …]}}"
        )
    return {"responses": None} if value == "responses" else value


def _device(value: str) -> str:
    if not re.fullmatch(DEVICES, value):
        raise problem(f"record.device: given {shown(value)}, expected auto, cpu, cuda, or cuda:N")
    return value


class RecordSpec(Model):
    """How the recording is made."""

    batch: PositiveInt = 128
    device: Annotated[str, AfterValidator(_device)] = "auto"
    store: Annotated[Literal["none"] | Responses, BeforeValidator(_store)] = "none"
    nan: Literal["error", "drop"] = "error"
    precision: Literal["float32", "tf32", "bfloat16"] = "float32"


class Protocol(Model):
    """A recording protocol, version 1."""

    neuroprobe: Literal[1]
    title: str = ""
    reference: Reference | None = None
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] = 0
    subject: SubjectSpec
    stimuli: StimuliSpec
    treatment: TreatmentSpec = Field(default_factory=no_treatment)
    control: Literal["original"] | ControlSpec = "original"
    design: DesignSpec = DesignSpec()
    analyses: list[AnyAnalysis] = Field(default=[SobolSpec(sobol=SobolOptions())])
    record: RecordSpec = RecordSpec()
    _places: Places = PrivateAttr(default_factory=Places)

    @property
    def places(self) -> Places:
        """Where in its file each part stands."""
        return self._places

    def at(self, places: Places) -> Self:
        """Note where in its file each part stands."""
        self._places = places
        return self

    @model_validator(mode="before")
    @classmethod
    def _refer(cls, value: Any) -> Any:
        return with_reference(value)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        stored = self.record.store
        if stored != "none" and stored.responses is not None:
            recorded = [layer.name for layer in self.subject.layers]
            unknown = [name for name in stored.responses if name not in recorded]
            if unknown:
                message = f"record.store.responses: {unknown} not among the recorded layers {recorded}"
                raise problem_at(("record", "store", "responses"), message, stored.responses)
        for number, item in enumerate(self.treatment.alterations):
            if item.label in TAKEN:
                message = (
                    f"an alteration cannot be called {item.label}: that names something else; give another by `as`"
                )
                raise problem_at(("treatment", "alterations", number, "as"), message, item.label)
            if item.constant and any(analysis.name not in (*ALONE, *UNALTERED) for analysis in self.analyses):
                message = (
                    f"alteration {item.name!r} is constant under `switch: {item.switch}`: it cannot explain any "
                    "variance; give it a switch between 0 and 1, or a law to one of its parameters"
                )
                raise problem_at(("treatment", "alterations", number), message, item)
        listed = [analysis.name for analysis in self.analyses]
        for number, name in enumerate(listed):
            if name in listed[:number]:
                message = f"analyses: {name} is listed twice; list it once"
                raise problem_at(("analyses", number), message, self.analyses)
        self._check_treatment()
        self._check_presentations()
        self._check_estimator()
        self._check_contrast()
        self._check_stored()
        self._check_trials()
        self._check_masking()
        self._check_players()
        self._check_until()
        self._check_precision()
        if self.treatment.dependent and "sobol" in listed:
            groups = "; ".join(" and ".join(group) for group in self.treatment.dependent)
            message = (
                "analyses: sobol takes independent alterations, as what one of several dependent ones explains by "
                f"itself is not defined; treatment.dependence links {groups}: ask for `analyses: [shapley]`"
            )
            written = "analyses" in self.model_fields_set  # where it is not, it is Sobol indices
            place = ("analyses", listed.index("sobol")) if written else ("treatment", "dependence")
            raise problem_at(place, message, self.analyses)
        if self.design.replicate == "image" and self.stimuli.image != "frozen":
            message = (
                f"replicate: image takes frozen images, received image: {self.stimuli.image_law}, where every base "
                "sample has images of its own already: leave replicate out"
            )
            raise problem_at(("design", "replicate"), message, self.design.replicate)
        return self

    def _check_treatment(self) -> None:
        """Refuse analyses of a treatment without one."""
        needing = [analysis.name for analysis in self.analyses if analysis.name not in UNALTERED]
        if needing and not self.treatment.alterations:
            raise problem_at(
                ("treatment",),
                f"missing key 'treatment': {' and '.join(needing)} compares images with altered ones; give "
                "`treatment: {alterations: […]}`, or ask for `analyses: [selectivity]` alone, or for `analyses: []`",
                None,
            )

    def _check_presentations(self) -> None:
        """Refuse presentations for their own sake that leave nothing, and what concerns these where there are none."""
        if self.presents:
            if not self.analyses and self.record.store == "none":
                message = "analyses: none, and no responses are stored: ask for one, or `record: {store: responses}`"
                raise problem_at(("analyses",), message, self.analyses)
            if self.treatment.alterations or self.control != "original":
                key = "treatment" if self.treatment.alterations else "control"
                message = f"{key}: no analysis compares images with altered ones: ask for one, or leave it out"
                raise problem_at((key,), message, None)
            return
        listed = ", ".join(analysis.name for analysis in self.analyses)
        if self.stimuli.repeated:
            key = self.stimuli.repeated[0]
            message = (
                f"{key}: concerns images that are shown as they are; {listed} has a design of its own: leave it out"
            )
            raise problem_at(("stimuli", key), message, getattr(self.stimuli, key))
        if self.subject.noise is not None:
            message = f"noise: {listed} takes responses without noise: leave it out, or ask for `analyses: []`"
            raise problem_at(("subject", "noise"), message, self.subject.noise)

    @property
    def presents(self) -> bool:
        """Whether images are presented for their own sake, as no analysis has another design."""
        return all(analysis.name in PRESENTED for analysis in self.analyses)

    def _check_estimator(self) -> None:
        """Refuse SALib's formulas where they are wrong, or where it has none."""
        number = next((i for i, analysis in enumerate(self.analyses) if isinstance(analysis, SobolSpec)), 0)
        options = self.options("sobol")
        if not isinstance(options, SobolOptions) or options.estimator != "salib":
            return
        if self.stimuli.image_law.startswith("frozen"):
            reason = (
                "frozen images: their denominator holds the variance between images, so that no index would be one "
                "within images; take estimator: differences, or image: factor"
            )
        elif options.total_interaction:
            reason = "total_interaction, which SALib does not compute; take estimator: differences"
        elif self.record.nan == "drop":
            reason = "nan: drop, as they need every base sample; take estimator: differences"
        else:
            return
        place = ("analyses", number, "sobol", "estimator")
        raise problem_at(place, f"estimator: SALib's formulas do not go with {reason}", options.estimator)

    def _check_contrast(self) -> None:
        """Refuse ranks of layers that are not recorded."""
        options = self.options("contrast")
        if not isinstance(options, ContrastOptions):
            return
        recorded = [layer.name for layer in self.subject.layers]
        for place, layer in enumerate(options.ranks or ()):
            if layer not in recorded:
                message = "ranks: " + unknown_name("layer", layer, recorded)
                raise problem_at(("analyses", self._number("contrast"), "contrast", "ranks", place), message, layer)

    def _check_stored(self) -> None:
        """Refuse responses to two designs in one store, and to the many networks of a masking study."""
        if self.record.store == "none":
            return
        listed = [analysis.name for analysis in self.analyses if analysis.name not in TRIALS]
        if self.lesion_studies:
            message = (
                f"store: responses under the masks of {self.lesion_studies[0].name} are not stored; store none, or "
                "record a lesioned network by `subject: {lesion: …}`"
            )
        elif "selectivity" in listed:
            message = (
                "store: selectivity keeps of each channel what drives it, and no responses; store none, or record "
                "responses by a protocol of their own"
            )
        elif "contrast" in listed and len(listed) > 1:
            message = (
                "store: responses to the designs of contrast and of other analyses have no place in one store; give "
                "contrast a protocol of its own, or store none"
            )
        else:
            return
        raise problem_at(("record", "store"), message, self.record.store)

    def _check_trials(self) -> None:
        """Refuse statistics of trials where none are stored."""
        asked = [analysis.name for analysis in self.analyses if analysis.name in TRIALS]
        if not asked:
            return
        place = ("analyses", self._number(asked[0]))
        if self.record.store == "none":
            message = f"analyses: {asked[0]} is of stored responses: give `record: {{store: responses}}`"
            raise problem_at(place, message, self.analyses)
        if "compare" in asked and not self.presents:
            message = (
                "analyses: compare is of responses to images as they are, and other analyses alter them: give it a "
                "protocol of its own"
            )
            raise problem_at(("analyses", self._number("compare")), message, self.analyses)

    def _check_masking(self) -> None:
        """Refuse masking studies of a stage, and two studies of one protocol that are not about the same maps."""
        masking, single_class = self.options("masking"), self.options("single_class")
        if self.lesion_studies and self.subject.segment is not None:
            message = f"segment: {self.lesion_studies[0].name} takes the outputs of a whole network: leave it out"
            raise problem_at(("subject", "segment"), message, self.subject.segment)
        if not (isinstance(masking, MaskingOptions) and isinstance(single_class, SingleClassOptions)):
            return
        for key in ("maps", "draws", "classes"):
            if getattr(masking, key) != getattr(single_class, key):
                message = (
                    f"{key}: masking and single_class of one protocol show the same images to the same lesioned "
                    "networks: give both the same, or a protocol each"
                )
                place = ("analyses", self._number("single_class"), "single_class", key)
                raise problem_at(place, message, getattr(single_class, key))

    @property
    def lesion_studies(self) -> list[AnyAnalysis]:
        """Analyses that compare lesions."""
        return [analysis for analysis in self.analyses if isinstance(analysis.options, LesionStudyOptions)]

    def _number(self, analysis: str) -> int:
        """Place of an analysis in the list of analyses."""
        return [one.name for one in self.analyses].index(analysis)

    def _check_players(self) -> None:
        """Refuse parameters as players where factors have to be swapped, or where nothing would be different."""
        if self.design.players == "factors":
            return
        if self.options("shapley") is None:
            reason = "Shapley effects only, which `analyses` does not list: leave it out, or add shapley"
        elif self.options("sobol") is not None:
            reason = (
                "Shapley effects only, and Sobol indices of factors have another design: take `players: factors`, or "
                "ask for Sobol indices in a protocol of their own"
            )
        else:
            return
        set_by = f" (set by `reference: {self.reference}`)" if self.reference else ""
        raise problem_at(("design", "players"), f"players: parameters{set_by} concerns {reason}", self.design.players)

    def _check_until(self) -> None:
        """Refuse to wait for errors of shares of the variance where there are none."""
        if self.design.until is None or self.options("sobol") is not None or self.options("shapley") is not None:
            return
        listed = ", ".join(analysis.name for analysis in self.analyses) or "no analysis"
        message = (
            f"until: concerns standard errors of Sobol indices and Shapley effects, and `analyses` asks for {listed}: "
            "leave it out, or add sobol or shapley"
        )
        raise problem_at(("design", "until"), message, self.design.until)

    def _check_precision(self) -> None:
        """Refuse fewer digits for what shows images in several ways, whose numbers are compared."""
        exact = [one for one in self.analyses if one in self.lesion_studies or one.name == names.SELECTIVITY]
        if self.record.precision != "float32" and exact:
            message = (
                f"precision: {self.record.precision} does not go with {exact[0].name}, whose networks run in float32 "
                "always: leave it out, or ask for the other analyses in a protocol of their own"
            )
            raise problem_at(("record", "precision"), message, self.record.precision)

    def options(self, analysis: str) -> Model | None:
        """Options of an analysis; None where the protocol does not ask for it."""
        return next((item.options for item in self.analyses if item.name == analysis), None)
