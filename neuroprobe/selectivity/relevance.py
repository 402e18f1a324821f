"""How much the units of a layer rest on each channel of the layer recorded before: their lists, shown once more."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from neuroprobe.errors import SubjectError
from neuroprobe.probe.adjacent import find_convolution
from neuroprobe.probe.lesion import lesioned
from neuroprobe.probe.relevance import Load, Places, channel_relevance, passes_between, silenced_responses
from neuroprobe.statistics.top_stimuli import TopStimuli

if TYPE_CHECKING:
    from neuroprobe.plans import Plan
    from neuroprobe.rig import Rig

Arrays = dict[str, NDArray[Any]]
N_TIMED: Final = 4  # images


def relevance_arrays(rig: Rig, plan: Plan, number: int, top: TopStimuli) -> Arrays:
    """Silence each channel of the layer before a layer, by its number, and read its units where they are driven most.

    Returns
    -------
    dict of arrays
        Over (channels of the layer before, channels): ``relevance``, ``signed relevance``, each with ``… error``, and
        where images have classes ``class drop`` and ``dropped class``. ``why not`` says in words, as bytes, why there
        is no relevance, and ``why slow`` why the network ran once for each channel. Nothing where none is asked for.
    """
    study = rig.selectivity
    assert study is not None
    if not study.options.relevance or not number:
        return {}
    site, before = rig.sites[number], rig.sites[number - 1]
    if site.spec.transform != "none":
        return _said(f"its responses are transformed ({site.spec.transform})", "")
    labels = study.targets[top.images] if study.classes else None
    places = Places(np.array(site.channels), top.images, top.rows, top.columns)
    network, batch = rig.subject.network, plan.layout.batch
    try:
        with lesioned(network, rig.subject.lesion):
            found = channel_relevance(network, site.name, before.name, _loader(rig), places, labels=labels, batch=batch)
    except SubjectError as error:  # of layers that do not follow each other
        return _said(str(error), "")
    kept = before.channels
    relevance = found.relevance
    arrays: Arrays = {
        "relevance": relevance.absolute[kept],
        "relevance error": relevance.absolute_se[kept],
        "signed relevance": relevance.signed[kept],
        "signed relevance error": relevance.signed_se[kept],
    }
    if found.drop is not None and found.dropped is not None:
        arrays |= {"class drop": found.drop[kept], "dropped class": found.dropped[kept]}
    return arrays | _said("", found.why)


def time_relevance(rig: Rig, plan: Plan, number: int) -> float:
    """Silence channels for a few images and return the seconds that all will take at most."""
    study = rig.selectivity
    assert study is not None
    site, before = rig.sites[number], rig.sites[number - 1]
    if not study.options.relevance or not number or site.spec.transform != "none":
        return 0.0
    shape, load = (len(site.channels), min(N_TIMED, len(rig.images))), _loader(rig)
    nowhere = np.zeros(shape, np.int64)
    places = Places(np.array(site.channels), np.broadcast_to(np.arange(shape[1]), shape), nowhere, nowhere)
    network, seconds = rig.subject.network, []
    with lesioned(network, rig.subject.lesion):
        try:
            passes = passes_between(network, site.name, before.name, load(np.arange(shape[1])))
        except SubjectError:
            return 0.0
        convolution = find_convolution(network, site.name, before.name, passes.shape)
        for _ in range(2):  # the first time is slower
            started = time.perf_counter()
            silenced_responses(passes, convolution, load, places, plan.layout.batch)
            seconds.append(time.perf_counter() - started)
    return min(seconds) / shape[1] * min(len(site.channels) * study.options.top, plan.samples)


def _loader(rig: Rig) -> Load:
    """Images by their numbers, as the network expects them."""
    return lambda numbers: rig.subject.prepare(rig.images.load(numbers).to(rig.device))


def _said(why_not: str, why_slow: str) -> Arrays:
    words = {"why not": why_not, "why slow": why_slow}
    return {name: np.frombuffer(text.encode(), dtype=np.uint8).copy() for name, text in words.items()}
