"""The rig: everything that a protocol names, opened and checked, ready to be planned and run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
import torch

from neuroprobe import names
from neuroprobe.analysis.contrast import ContrastAnalysis
from neuroprobe.analysis.sensitivity import MomentsAnalysis, ShapleyAnalysis, SobolAnalysis, VarianceAnalysis
from neuroprobe.design.factors import Factor, Input
from neuroprobe.design.laws import Law
from neuroprobe.design.nested_images import NestedImages
from neuroprobe.design.pick_freeze import MAX_ENUMERATED, ImageGroups, PickFreeze
from neuroprobe.design.repeated import Repeated
from neuroprobe.design.treatment_control import TreatmentControl
from neuroprobe.errors import PlanError, SubjectError, about
from neuroprobe.packing import Design
from neuroprobe.probe.capture import Probe, check_network, find_sites
from neuroprobe.probe.footprint import Footprint, LiveTensors, forward_footprint
from neuroprobe.probe.lesion_sources import make_lesion, require_effect
from neuroprobe.probe.map_sources import Target
from neuroprobe.probe.masking import MaskingStudy
from neuroprobe.probe.noise import TrialNoise, open_noise
from neuroprobe.probe.outcome import Outcome
from neuroprobe.probe.precision import require_precision
from neuroprobe.probe.sites import Site
from neuroprobe.protocol.alteration import AlterationSpec
from neuroprobe.protocol.analyses import PRESENTED, ContrastOptions, MomentsOptions, ShapleyOptions, SobolOptions
from neuroprobe.protocol.images import (
    ImageFactors,
)
from neuroprobe.protocol.masking import LesionStudyOptions
from neuroprobe.protocol.model import Model
from neuroprobe.protocol.schema import Protocol
from neuroprobe.protocol.sets import require_set
from neuroprobe.protocol.treatment import TreatmentSpec
from neuroprobe.selectivity.study import SelectivityStudy, open_selectivity
from neuroprobe.stimuli.images import ImageSet, Tried
from neuroprobe.stimuli.levels import nest_images
from neuroprobe.stimuli.opening import open_images
from neuroprobe.stimuli.treatment import SLICE, Applied, Treatment, n_orders
from neuroprobe.studies import LesionAnalysis, lesion_analyses, open_outcome, open_studies
from neuroprobe.subjects.subject import Subject, load_subject

Analysis = VarianceAnalysis | ContrastAnalysis
N_CHECKED = 2  # images that a network is tried on
# designs, and the analyses that each serves: those of one design share a recording, which is one session of a run
SESSIONS: Final = {
    names.PICK_FREEZE: ("sobol", "shapley", "moments"),
    names.TREATMENT_CONTROL: ("contrast",),
    names.MASKING: (names.MASKING, names.SINGLE_CLASS),
    names.SELECTIVITY: (names.SELECTIVITY,),
    names.REPEATED: PRESENTED,
}
OF_LAYERS: Final = (names.PICK_FREEZE, names.TREATMENT_CONTROL)  # sessions whose sums of layers analyses are made of


@dataclass(frozen=True)
class Rig:
    """A network, images and a probe, set up as a protocol says.

    Attributes
    ----------
    protocol : Protocol
    device : torch.device
    subject : Subject
    images : ImageSet
    treatment : Treatment
    layers : tuple of Site
        What the protocol records.
    outcome : Outcome, optional
        What is made of the network's output, where accuracies are wanted.
    nested : NestedImages, optional
        The levels of the set of images, where some of them are factors.
    study : MaskingStudy, optional
        Lesions that are compared, where some are.
    selectivity : SelectivityStudy, optional
        What channels are tested for, where they are.
    session : str
        Design of the session that it is set up for.
    noise : TrialNoise, optional
        What makes presentations of one stimulus differ.
    """

    protocol: Protocol
    device: torch.device
    subject: Subject
    images: ImageSet
    treatment: Treatment
    layers: tuple[Site, ...]
    outcome: Outcome | None = None
    nested: NestedImages | None = None
    study: MaskingStudy | None = None
    selectivity: SelectivityStudy | None = None
    session: str = names.PICK_FREEZE
    noise: TrialNoise | None = None

    @property
    def sessions(self) -> tuple[Rig, ...]:
        """A rig for each session, in turn."""
        return tuple(
            self
            if name == self.session
            else self.varied(session=name, treatment=treatment_of_session(self.protocol, name))
            for name in asked_sessions(self.protocol)
        )

    @property
    def shows_each_alone(self) -> bool:
        """Whether the session shows each alteration alone, beside the control, rather than several together."""
        return self.session != names.PICK_FREEZE

    @property
    def sites(self) -> tuple[Site, ...]:
        """The sites that are recorded in this session: none where lesions are compared by the network's output."""
        return () if self.session == names.MASKING else self.layers

    @property
    def probed(self) -> tuple[Site, ...]:
        """The sites that are recorded, and the network's output where accuracies are wanted."""
        contrast = self.protocol.options("contrast")
        of_contrast = isinstance(contrast, ContrastOptions) and contrast.accuracy is not False
        with_outcome = self.session == names.MASKING or (self.session == names.TREATMENT_CONTROL and of_contrast)
        return (*self.sites, self.outcome.site) if self.outcome is not None and with_outcome else self.sites

    def probe(self) -> Probe:
        """Return a probe at these sites, with the subject's lesion."""
        return Probe(self.subject.network, self.probed, self.subject.lesion, self.protocol.record.precision)

    @cached_property
    def factors(self) -> tuple[Factor, ...]:
        """What varies: the alterations and, where the protocol says so, the image and the order."""
        spec = self.protocol.treatment
        if self.session in names.AS_THEY_ARE:
            return ()
        if self.shows_each_alone:
            # each is on in its own rows, whatever its switch is under the treatment
            return alone(spec.in_order)
        factors = [alteration_factor(item) for item in spec.in_order]
        if spec.order == "factor":
            last = n_orders(len(spec.alterations)) - 1
            factors.append(Factor(names.ORDER, (Input(names.ORDER, Law("integers", (0, last))),)))
        if self.protocol.stimuli.image == "factor":
            law = Law("integers", (0, len(self.images) - 1))
            factors.append(Factor(names.IMAGE, (Input(names.IMAGE, law),)))
        if self.nested is not None and isinstance(self.protocol.stimuli.image, ImageFactors):
            factors += self.nested.factors(self.protocol.stimuli.image.factors)
        return tuple(factors)

    @property
    def alterations(self) -> tuple[AlterationSpec, ...]:
        """What the protocol says of the alterations that this session applies."""
        if self.session in names.AS_THEY_ARE:
            return ()
        control = control_alterations(self.protocol) if self.shows_each_alone else ()
        return (*self.protocol.treatment.in_order, *control)

    @cached_property
    def players(self) -> tuple[Factor, ...]:
        """What the design swaps: the factors or, where the protocol says so, each of their parameters by itself."""
        if not self.groups:
            return self.factors
        return tuple(player for factor in self.factors for player in factor.players)

    @cached_property
    def groups(self) -> tuple[int, ...]:
        """Number of the factor that each player belongs to; empty where the players are the factors."""
        if self.protocol.design.players == "factors":
            return ()
        return tuple(number for number, factor in enumerate(self.factors) for _ in factor.players)

    @property
    def told_factors(self) -> tuple[str, ...]:
        """Names of what varies: factors of a design, or settings of stimuli that are shown as they are."""
        if self.session == names.REPEATED:
            return self.images.factors
        return tuple(factor.name for factor in self.factors)

    @property
    def n_samples(self) -> int:
        """Base samples of the whole session."""
        if self.session == names.REPEATED:
            return self._repeated.n_presentations
        return len(self.images) if self.shows_each_alone else self.protocol.design.samples

    @property
    def draws(self) -> int:
        """Draws of each alteration for each image, where it is shown alone."""
        served = (self.protocol.options(name) for name in SESSIONS[self.session])
        return next((one.draws for one in served if isinstance(one, ContrastOptions | LesionStudyOptions)), 1)

    @cached_property
    def _repeated(self) -> Repeated:
        spec = self.protocol.stimuli
        return Repeated(self.protocol.seed, len(self.images), spec.repeats, spec.blanks, spec.order == "random")

    def design(self, scramble: int | None, groups: ImageGroups | None = None) -> Design:
        """Return the design of the session."""
        if self.session == names.REPEATED:
            return self._repeated
        if self.shows_each_alone:
            random = tuple(one.name for one in self.treatment.applied if one.alteration.takes_key)
            control = alone(control_alterations(self.protocol)) if self.session != names.SELECTIVITY else ()
            n_images = len(self.images)
            return TreatmentControl(self.factors, self.protocol.seed, n_images, self.draws, random, control)
        return PickFreeze(
            factors=self.players,
            seed=self.protocol.seed,
            n_images=len(self.images),
            second_order=self.protocol.design.second_order,
            scramble=scramble,
            redrawn=self.protocol.stimuli.image == "redrawn",
            groups=groups,
            nested=self.nested,
            single=self.protocol.options("sobol") is not None,
            walks=self.shapley in {"walks", "conditional walks"},
            subsets=self.shapley == "subsets",
            copula=self.protocol.treatment.copula,
        )

    @property
    def shapley(self) -> str:
        """How Shapley effects are estimated; empty where they are not asked for."""
        if self.protocol.options("shapley") is None:
            return ""
        # parameters of one alteration that depend on each other are apart where each is a player
        if self.protocol.treatment.dependent or (self.groups and self.protocol.treatment.copula is not None):
            return "conditional walks"
        few = not self.groups and len(self.factors) <= MAX_ENUMERATED
        return "subsets" if few else "walks"

    @cached_property
    def footprint(self) -> Footprint:
        """What forward passes and the making of stimuli keep in memory."""
        image = self.subject.prepare(self.images.load([0]).to(self.device))
        probed = self.layers if self.outcome is None else (*self.layers, self.outcome.site)
        return forward_footprint(self.subject.network, probed, image, self._bytes_per_stimulus(), self.subject.lesion)

    def _bytes_per_stimulus(self) -> int:
        """Bytes that altering an image takes, by those rows of the first base samples that are altered most."""
        shown = self.design(None).presentations(0, 1 << 6)
        switches = [value for name, value in shown.values.items() if name.endswith(names.switch(""))]
        n_on = sum(switches, np.zeros(shown.image.shape))
        most = np.argsort(-n_on, axis=None, kind="stable")[:SLICE]
        sample, row = np.unravel_index(most, n_on.shape)
        with LiveTensors() as live:
            self.treatment.stimuli(self.images, shown, sample, row, self.device)
        return live.peak // SLICE

    def varied(self, **changes: Any) -> Rig:
        """Return a rig with another protocol, or fewer or smaller sites; the footprint is an upper bound for it."""
        other = replace(self, **changes)
        if "footprint" in vars(self):  # it was asked for
            vars(other)["footprint"] = self.footprint
        return other

    @cached_property
    def analyses(self) -> tuple[Analysis, ...]:
        """The analyses of layers that share the recording of this session, in the order of the protocol."""
        served = SESSIONS[self.session] if self.session in OF_LAYERS else ()
        return tuple(self._analysis(item.options) for item in self.protocol.analyses if item.name in served)

    @property
    def variance_analyses(self) -> tuple[VarianceAnalysis, ...]:
        """Those of them that are of pick-freeze rows."""
        return tuple(analysis for analysis in self.analyses if isinstance(analysis, VarianceAnalysis))

    @cached_property
    def lesion_analyses(self) -> tuple[LesionAnalysis, ...]:
        """The analyses of lesions, each of one place, that share the recording of this session."""
        if self.session != names.MASKING or self.study is None or self.outcome is None:
            return ()
        alterations = tuple(factor.name for factor in self.factors)
        return tuple(lesion_analyses(self.protocol, self.study, self.outcome, alterations))

    def _analysis(self, options: Model) -> Analysis:
        shared: dict[str, Any] = {
            "factors": tuple(factor.name for factor in self.factors),
            "drop": self.protocol.record.nan == "drop",
        }
        if isinstance(options, ContrastOptions):
            given = options.model_dump(include={"draws", "correction", "family"})
            return ContrastAnalysis(**shared, **given, ranks=tuple(options.ranks or ()))
        shared |= {"image": self.protocol.stimuli.image_law, "replicate": self.protocol.design.replicate}
        match options:
            case SobolOptions():
                return SobolAnalysis(
                    **shared,
                    second_order=self.protocol.design.second_order,
                    total_interaction=options.total_interaction,
                    estimator=options.estimator,
                )
            case ShapleyOptions():
                return ShapleyAnalysis(**shared, estimator=self.shapley, groups=self.groups)
            case MomentsOptions():
                return MomentsAnalysis(**shared)
            case other:
                raise PlanError(f"no analysis for {type(other).__name__}")


def asked_sessions(protocol: Protocol) -> list[str]:
    """Sessions that the analyses of a protocol take, in turn."""
    if protocol.presents:
        return [names.REPEATED]
    # statistics of trials are of what another analysis shows, where there is one
    asked = {analysis.name for analysis in protocol.analyses} - set(PRESENTED)
    return [name for name, served in SESSIONS.items() if asked.intersection(served)]


def control_alterations(protocol: Protocol) -> tuple[AlterationSpec, ...]:
    """Alterations of the control, under names of their own."""
    given = () if protocol.control == "original" else protocol.control.alterations
    return tuple(item.model_copy(update={"label": names.control(item.label)}) for item in given)


def alone(specs: Sequence[AlterationSpec]) -> tuple[Factor, ...]:
    """Make factors of the parameters of alterations, without their switches."""
    return tuple(Factor(item.label, alteration_inputs(item)) for item in specs)


def alteration_inputs(spec: AlterationSpec) -> tuple[Input, ...]:
    """Parameters of an alteration, under the names that they have in the presentation table."""
    return tuple(Input(names.parameter(spec.label, name), law) for name, law in spec.laws.items())


def alteration_factor(spec: AlterationSpec) -> Factor:
    """Make one factor of an alteration: its switch with all its parameters."""
    inputs = alteration_inputs(spec)
    if spec.switch == "always":
        return Factor(spec.label, inputs)
    switch = Input(names.switch(spec.label), Law("bernoulli", (spec.switch,)))
    return Factor(spec.label, (switch, *inputs), switched=True)


def treatment_of_session(protocol: Protocol, session: str) -> Treatment:
    """Make the treatment of a session: sessions of alterations that are shown together have no control.

    Those of selectivity, and of presentations for their own sake, show images as they are.
    """
    if session in names.AS_THEY_ARE:
        return Treatment((), None)
    return make_treatment(protocol.treatment, () if session == names.PICK_FREEZE else control_alterations(protocol))


def make_treatment(spec: TreatmentSpec, control: Sequence[AlterationSpec] = ()) -> Treatment:
    """Make the treatment of a protocol, with the alterations of the control where a session shows it."""
    applied = [Applied(item.label, item.name) for item in spec.in_order]
    applied += [Applied(item.label, item.name, of_control=True) for item in control]
    return Treatment(
        tuple(applied), None if spec.reference_side == "image" else float(spec.reference_side), spec.eight_bit
    )


def choose_device(name: str) -> torch.device:
    """Return the device of a protocol; `auto` is the GPU where there is one.

    Raises
    ------
    PlanError
        If the device is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise PlanError(f"device {name!r}: torch {torch.__version__} sees no CUDA device; use `device: auto` or cpu")
    if name.startswith("cuda:") and int(name[5:]) >= torch.cuda.device_count():
        raise PlanError(
            f"device {name!r}: torch sees the devices 0 to {torch.cuda.device_count() - 1}; name one of them"
        )
    if name == "mps":
        raise PlanError("device 'mps' has no float64, which the sums need: use `device: cpu`")
    return torch.device(name)


def open_rig(protocol: Protocol, known: Tried | None = None) -> Rig:
    """Open everything that a protocol names, and try the network on two images.

    Parameters
    ----------
    protocol : Protocol
    known : Tried, optional
        What another process found of the same images.

    Raises
    ------
    ProtocolError
        If it has several sets of alterations and none was chosen.
    SubjectError, ReaderError, PlanError, ResponseError
        If something is missing, broken, or cannot be recorded; with its place in the protocol's file.
    """
    require_set(protocol)
    with protocol.places.told():
        device = choose_device(protocol.record.device)
        with about("record", "precision"):
            require_precision(protocol.record.precision, device)
        with about("subject"):
            subject = load_subject(protocol.subject, protocol.seed, device)
        with about("stimuli", "images"):
            images = open_images(protocol.stimuli, protocol.seed, subject.preprocessing.framing, known)
        shown = images.load(np.arange(min(N_CHECKED, len(images)))).to(device)
        with about("subject"):
            tried = subject.prepare(shown)
            sites = find_sites(subject.network, protocol.subject.layers, tried[:1])
        target = Target(subject.network, tried[:1], subject.name, subject.digest)
        with about("subject", "lesion"):
            subject = replace(subject, lesion=make_lesion(protocol.subject.lesion, target))
            _require_own_calls(subject)
        with about("subject", "network"):
            drop = protocol.record.nan == "drop"
            check_network(subject.network, sites, tried, subject.name, allow_nan=drop, lesion=subject.lesion)
        if protocol.stimuli.image == "factor" and len(images) < 2:
            raise PlanError("image: factor takes at least two images, received one").about("stimuli", "image")
        outcome = open_outcome(protocol, subject, images, tried)
        lesion = subject.lesion.digest if protocol.subject.lesion else ""
        study = open_studies(protocol, subject, replace(target, lesion=lesion), tried, outcome)
        if outcome is None and subject.lesion.masks:
            with about("subject", "lesion"):
                require_effect(subject.lesion, target, [site.name for site in sites])
        with about("stimuli", "image"):
            nested = nest_images(images, protocol.stimuli)
        selectivity = open_selectivity(protocol, subject, images, sites)
        noise = open_noise(protocol.subject.noise, protocol.seed, subject, images, sites)
    session = asked_sessions(protocol)[0]
    treatment = treatment_of_session(protocol, session)
    return Rig(protocol, device, subject, images, treatment, sites, outcome, nested, study, selectivity, session, noise)


def _require_own_calls(subject: Subject) -> None:
    """Refuse numbers of calls in a segment: they may be other ones than in the whole network."""
    numbered = [layer for layer in subject.lesion.masks if "#" in layer]
    if subject.segment is not None and numbered:
        raise SubjectError(
            f"a lesion of {numbered[0]!r} does not go with segment, where calls may have other numbers than in the "
            "whole network: mask a layer that is called once"
        )
