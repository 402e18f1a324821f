"""The stages of a session that stops when its errors are small enough; see `neuroprobe.stopping`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from neuroprobe import names
from neuroprobe.parts import sums_of_layer
from neuroprobe.plans import Plan
from neuroprobe.progress import Checked, Listener
from neuroprobe.statistics.precision import precision, worst_errors
from neuroprobe.statistics.tree import aligned_spans
from neuroprobe.stopping import Decision

if TYPE_CHECKING:
    from neuroprobe.rig import Rig
    from neuroprobe.store import SessionStore


class Stages:
    """The parts of a session that are recorded before it is looked at again.

    Iterate over it and record each; it ends where the run does.

    Parameters
    ----------
    rig : Rig
    plan : Plan
        Of the whole session.
    sessions : dict of SessionStore
        By the names that the journal has.
    listener : callable
        Is told what was found.

    Attributes
    ----------
    whole : Plan
        Of the whole session.
    plan : Plan
        Of what is recorded now, and in the end of what was.
    decision : Decision or None
        What was found when the session was last looked at; None before, and where nothing is to be decided.
    """

    def __init__(self, rig: Rig, plan: Plan, sessions: Mapping[str, SessionStore], listener: Listener) -> None:
        self._rig, self.whole, self._sessions, self._listener = rig, plan, sessions, listener
        self.plan = plan
        self.decision: Decision | None = None

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to record; where all that is there may be enough, errors are looked at."""
        sessions = [self._sessions[part.key] for part in self.whole.recorded]
        if any(session.siblings for session in sessions):
            return False
        for plan in self._left():
            blocks = aligned_spans(0, plan.n_blocks, 1)
            if not all(session.is_done(span) for span in blocks for session in sessions):
                return False
            if self._is_reached(plan):
                break
        return True

    def __iter__(self) -> Iterator[Plan]:
        for plan in self._left():
            self.plan = plan
            yield plan
            is_reached = self._is_reached(plan)
            if self.decision is not None:
                self._listener(Checked(self.decision))
            if is_reached:
                return

    def _left(self) -> Iterator[Plan]:
        """Plans of the stages from that one on which the store is in."""
        rule, block = self.whole.stopping, self.whole.layout.block
        if rule is None:
            yield self.whole
            return
        held = [span.stop for part in self.whole.recorded for span in self._sessions[part.key].spans]
        for samples in rule.checks:
            # where more is held, the run was looked at here, and went on
            if samples >= max(held, default=0) * block:
                yield of_samples(self.whole, samples)

    def _is_reached(self, plan: Plan) -> bool:
        """Look at a session of which some base samples are done, and no more."""
        if plan.stopping is None:
            return False
        self.plan, self.decision = plan, decide(self._rig, plan, self._sessions)
        return self.decision.is_reached


def of_samples(plan: Plan, samples: int) -> Plan:
    """Plan the first base samples of a session."""
    n_pieces, of_all = (-(-n // plan.layout.piece) for n in (samples, plan.samples))
    return replace(
        plan,
        samples=samples,
        n_presented=round(plan.n_presented * samples / plan.samples),
        n_passes=plan.n_passes * n_pieces // of_all,
        parts=tuple(of_samples(part, samples) for part in plan.parts),
    )


def decide(rig: Rig, plan: Plan, sessions: Mapping[str, SessionStore]) -> Decision:
    """Look at the errors of all units of what is in a store; the states of one layer are in memory at a time."""
    rule = plan.stopping
    assert rule is not None
    layers = {}
    for site in plan.sites:
        worst = np.full(site.n_units, np.nan)
        for analysis in rig.variance_analyses:
            if analysis.judged:
                sums = sums_of_layer(plan, sessions, analysis.name, site.name)
                errors = [worst_errors(one, analysis.terms, analysis.judged) for one in sums]
                worst = np.fmax(worst, np.concatenate(errors))
        layers[site.name] = precision(worst, rule.se, rule.share)
    return Decision(rule, plan.samples, layers)


def as_attrs(stages: Mapping[str, Stages]) -> dict[str, str]:
    """Attributes of a result that say where and why its sessions stopped; none where that was not asked for."""
    found = [one.decision for one in stages.values() if one.decision is not None]
    return {names.UNTIL: json.dumps(found[0].as_dict())} if found else {}
