"""Studies of lesions that a protocol asks for: how outputs stand for classes, the maps, and the analyses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch import Tensor

from neuroprobe.analysis.masking import MaskedLayer, MaskedPlace, MaskingAnalysis, Rule
from neuroprobe.analysis.single_class import SingleClassAnalysis
from neuroprobe.design.randomness import generator
from neuroprobe.errors import NeuroprobeError, PlanError, SubjectError, about
from neuroprobe.probe.map_sources import Target
from neuroprobe.probe.masking import Condition, MaskingStudy, Place, open_study
from neuroprobe.probe.outcome import Outcome, find_outcome
from neuroprobe.protocol.analyses import ContrastOptions
from neuroprobe.protocol.lesion import RuleSpec
from neuroprobe.protocol.masking import (
    LesionStudyOptions,
    MaskingOptions,
    SingleClassOptions,
    rule_label,
)
from neuroprobe.protocol.schema import Protocol
from neuroprobe.statistics.single_class import random_sets, sensitive_classes
from neuroprobe.stimuli.images import ImageSet
from neuroprobe.subjects.subject import Subject

LesionAnalysis = MaskingAnalysis | SingleClassAnalysis


def open_outcome(protocol: Protocol, subject: Subject, images: ImageSet, tried: Tensor) -> Outcome | None:
    """Find out how the network's outputs stand for the classes of the images; None where no accuracy is wanted.

    Raises
    ------
    PlanError, SubjectError
        If accuracies are asked for and there is no telling; with ``accuracy: auto`` only where classes are listed.
    """
    for number, item in enumerate(protocol.analyses):
        options = item.options
        if not isinstance(options, ContrastOptions | LesionStudyOptions):
            continue
        of_contrast = isinstance(options, ContrastOptions)
        wanted = options.accuracy if isinstance(options, ContrastOptions) else True
        if wanted is False:
            continue
        try:
            with about("analyses", number, item.name, "accuracy" if of_contrast else "classes"):
                return find_outcome(
                    subject.network, tried, images.labels, options.classes, subject.classes, analysis=item.name
                )
        except (PlanError, SubjectError):
            if wanted is True or options.classes is not None:
                raise
    return None


def open_studies(
    protocol: Protocol, subject: Subject, target: Target, tried: Tensor, outcome: Outcome | None
) -> MaskingStudy | None:
    """Open the maps and the places of the studies of lesions of a protocol; None where there are none.

    Raises
    ------
    NeuroprobeError
        As of `neuroprobe.probe.masking.open_study`, with its place in the protocol.
    """
    studies = {item.name: item.options for item in protocol.analyses if isinstance(item.options, LesionStudyOptions)}
    if not studies or outcome is None:
        return None
    try:
        return open_study(
            studies,
            [item.label for item in protocol.treatment.in_order],
            [layer.name for layer in protocol.subject.layers],
            target,
            tried,
            outcome.site.n_units,
            seed=protocol.seed,
            lesion=subject.lesion,
        )
    except NeuroprobeError as error:
        listed = [item.name for item in protocol.analyses]
        if error.loc and error.loc[0] in listed:
            error.about("analyses", listed.index(str(error.loc[0])))
        raise


def lesion_analyses(
    protocol: Protocol, study: MaskingStudy, outcome: Outcome, alterations: Sequence[str]
) -> Iterator[LesionAnalysis]:
    """Make the analyses of the studies of lesions of a protocol: one for each place."""
    places = {place.name: place for place in study.places}
    for item in protocol.analyses:
        options = item.options
        if not isinstance(options, LesionStudyOptions):
            continue
        for depth, spec in enumerate(study.asked[item.name]):
            place = places[spec.name]
            rules = options.rules_at(spec)
            numbers = {condition: number for number, condition in enumerate(place.conditions)}
            by_map = np.array([[numbers[Condition(rule, factor)] for rule in rules] for factor in study.factors])
            drawn = options.n_random(spec) if isinstance(options, MaskingOptions) else {}
            shared = {
                "place": _masked_place(place, depth, rules, drawn),
                "factors": study.factors,
                "alterations": tuple(alterations),
                "draws": options.draws,
                "headline": rule_label(options.headline),
                "correction": options.correction,
                "by_map": by_map,
            }
            match options:
                case MaskingOptions():
                    at_random = {
                        rules.index(rule): np.array([numbers[Condition(rule, number=number)] for number in range(n)])
                        for rule, n in drawn.items()
                        if n
                    }
                    yield MaskingAnalysis(
                        **shared,
                        measures=outcome.measures,
                        at_random=at_random,
                        n_conditions=len(place.conditions),
                        n_resamples=options.bootstrap,
                        seed=protocol.seed,
                    )
                case SingleClassOptions():
                    assert study.class_sensitivity is not None
                    sets = sensitive_classes(study.class_sensitivity, options.k)
                    random = generator(protocol.seed, "sets of classes")
                    yield SingleClassAnalysis(
                        **shared,
                        classes=outcome.classes,
                        layer=study.class_layer,
                        sets=sets,
                        sensitivity=np.take_along_axis(study.class_sensitivity, sets, axis=1),
                        random=random_sets(len(outcome.classes), options.k, options.permutations, random),
                    )


def _masked_place(place: Place, depth: int, rules: Sequence[RuleSpec], drawn: dict[RuleSpec, int]) -> MaskedPlace:
    """Say of a place what results show of it."""
    layers = tuple(
        MaskedLayer(
            one.layer,
            one.candidates.size,
            one.n_candidates,
            tuple(one.n_clipped.tolist()),
            tuple(one.n_masked(rule) for rule in rules),
        )
        for one in place.maps
    )
    shown = tuple(
        Rule(
            rule_label(rule),
            np.nan if rule.quantile is None else rule.quantile,
            np.nan if isinstance(rule.multiply, str) else rule.multiply,
            drawn.get(rule, 0),
        )
        for rule in rules
    )
    return MaskedPlace(place.name, depth, layers, shown, place.passes.shares)
