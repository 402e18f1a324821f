"""The result of a session of selectivity: its lists and scores, layer by layer, with labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from neuroprobe import names
from neuroprobe.analysis.label_distributions import LabelOptions
from neuroprobe.analysis.manipulations import Manipulated
from neuroprobe.analysis.selectivity import ListedLayer, SelectivityAnalysis
from neuroprobe.recorder import state_key
from neuroprobe.selectivity.recorder import halves
from neuroprobe.selectivity.scores import read_lists, read_scores
from neuroprobe.statistics.plain_sums import PlainSums

if TYPE_CHECKING:
    from neuroprobe.plans import Plan
    from neuroprobe.rig import Rig
    from neuroprobe.store import SessionStore


def selectivity_nodes(rig: Rig, plan: Plan, session: SessionStore, folder: Path) -> Iterator[tuple[str, xr.Dataset]]:
    """Datasets of the layers, one after the other."""
    analysis = make_analysis(rig, plan)
    for number, site in enumerate(rig.sites):
        lists = read_lists(session, site)
        layer = ListedLayer(
            site.name,
            site.channels,
            number,
            lists.all,
            *lists.halves,
            session.merged(state_key(names.SELECTIVITY, site.name), PlainSums),
            read_scores(folder, plan, number, site),
            (rig.sites[number - 1].name, rig.sites[number - 1].channels) if number else None,
        )
        yield site.name, analysis.label(layer)


def make_analysis(rig: Rig, plan: Plan) -> SelectivityAnalysis:
    """Say what the labelled analysis of a rig needs to know."""
    study = rig.selectivity
    assert study is not None
    options = study.options
    # chance is about the images that were shown
    shown = rig.design(plan.layout.scramble).presentations(0, plan.samples).image[:, 0]
    target = np.full_like(study.targets, len(study.classes))
    target[shown] = study.targets[shown]
    return SelectivityAnalysis(
        manipulated=tuple(
            Manipulated(one.name, one.manipulation.summary, one.members, one.manipulation.invariance)
            for one in study.altered
        ),
        pixel_labels={one.name: one.labels for one in study.pixel_labels},
        classes=study.classes,
        target=target,
        with_class=study.with_class,
        labels=LabelOptions(
            tuple(options.thresholds),
            options.least,
            options.permutations,
            rig.protocol.seed,
            options.correction,
            tuple(options.stability),
        ),
        clamp=options.clamp,
        hierarchy=study.hierarchy,
        image_size=(rig.images.shape[1], rig.images.shape[2]),
        half=halves(rig.protocol.seed, len(rig.images)),
    )


def shown_images(rig: Rig, session: SessionStore) -> xr.Dataset:
    """Identity and class of the images that are in some list."""
    lists = [read_lists(session, site).all.images.ravel() for site in rig.sites]
    numbers = np.unique(np.concatenate(lists))
    images = rig.images
    variables = {names.IMAGE_ID: (names.IMAGE, np.array([images.ids[number] for number in numbers], dtype=object))}
    if images.labels is not None:
        labels = np.array([images.labels[number] or "" for number in numbers], dtype=object)
        variables[names.CLASS_LABEL] = (names.IMAGE, labels)
    return xr.Dataset(variables, {names.IMAGE: numbers})
