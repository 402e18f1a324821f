"""Stimuli of a pick-freeze design, for an experimenter's rig: altered images, and which row of the design each is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.design.pick_freeze import PickFreeze, Presentations
from neuroprobe.design.randomness import generator
from neuroprobe.errors import PlanError
from neuroprobe.protocol.schema import Protocol
from neuroprobe.recordings.columns import Table
from neuroprobe.responses import table_columns
from neuroprobe.rig import SESSIONS, Rig, asked_sessions, open_rig

if TYPE_CHECKING:
    from torch import Tensor

REPEATS: Final = 2  # of each row, which is what the variance that repeats can be told from
N_SCRAMBLES: Final = 8  # at least, where there are base samples enough
LEAST_SCRAMBLE: Final = 4  # base samples


@dataclass(frozen=True)
class DesignStimuli:
    """The rows of a design as stimuli, in the order in which they are presented.

    Parameters
    ----------
    rig : Rig
        Of a session of pick-freeze rows.
    repeats : int
        Presentations of each row.
    """

    rig: Rig
    repeats: int

    @cached_property
    def scramble(self) -> int:
        """Base samples that share a scramble; 0 for one of all."""
        given, n = self.rig.protocol.design.scramble, self.rig.n_samples
        if isinstance(given, int):
            return given
        fitting = 1 << max(0, (n // N_SCRAMBLES).bit_length() - 1)
        return fitting if given == "auto" and fitting >= LEAST_SCRAMBLE else 0

    @cached_property
    def shown(self) -> Presentations:
        """Rows of all base samples."""
        design = self.rig.design(self.scramble or None)
        assert isinstance(design, PickFreeze)
        return design.presentations(0, self.rig.n_samples)

    @cached_property
    def _rows(self) -> list[tuple[int, int]]:
        """Base sample and row of each stimulus."""
        n, n_rows = self.shown.image.shape
        return [(sample, row) for sample in range(n) for row in range(n_rows)]

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Names of the stimuli, of which no two rows share one."""
        return tuple(f"{self.shown.sample[sample]}_{self.shown.roles[row]}" for sample, row in self._rows)

    @property
    def pictures(self) -> dict[str, str]:
        """Stimulus → the one of the same base sample that shows the same picture."""
        n_rows = len(self.shown.roles)
        return {
            name: self.ids[sample * n_rows + int(self.shown.source[sample, row])]
            for name, (sample, row) in zip(self.ids, self._rows, strict=True)
        }

    @property
    def factors(self) -> list[str]:
        """Columns that were varied by themselves: none, as factors of a design have several."""
        return []

    @property
    def design(self) -> dict[str, Any]:
        """What a recording of these stimuli has to know of their design."""
        return {names.FACTORS: [factor.name for factor in self.rig.factors], "scramble": self.scramble}

    def load(self, ids: Sequence[str]) -> Tensor:
        """Altered images (n, 3, height, width) in [0, 1]."""
        place = {name: number for number, name in enumerate(self.ids)}
        sample, row = np.array([self._rows[place[name]] for name in ids], dtype=np.int64).T
        return self.rig.treatment.stimuli(self.rig.images, self.shown, sample, row)

    def table(self) -> Table:
        """One row per presentation, in order: every row of the design once in each repetition, shuffled."""
        columns = table_columns(self.shown, self.rig.images.columns)
        columns[names.STIMULUS_ID] = np.array(self.ids, dtype=object)
        seed = self.rig.protocol.seed
        order = np.concatenate(
            [generator(seed, "order of presentations", k).permutation(len(self.ids)) for k in range(self.repeats)]
        )
        kept: dict[str, NDArray[Any]] = {name: column[order] for name, column in columns.items()}
        kept[names.REPETITION] = np.repeat(np.arange(self.repeats), len(self.ids))
        del kept[names.DESIGN]
        units = {name: unit for name, unit in self.rig.images.units.items() if name in kept}
        return Table(kept, units)


def design_stimuli(protocol: Protocol, repeats: int | None) -> DesignStimuli:
    """Open the stimuli of a protocol of pick-freeze rows.

    Raises
    ------
    PlanError
        If it has another design, or one that no table of factors tells.
    """
    asked = asked_sessions(protocol)
    if asked != [names.PICK_FREEZE]:
        other = [one.name for one in protocol.analyses if one.name not in SESSIONS[names.PICK_FREEZE]]
        raise PlanError(
            f"analyses: {', '.join(other)} shows images in a design of its own; stimuli are written of a protocol with "
            "`analyses: []`, statistics of trials alone, or sobol and shapley"
        )
    reasons = {
        "dependence: rows take values that are drawn anew given the others": protocol.treatment.copula is not None,
        "players: parameters are swapped one by one": protocol.design.players == "parameters",
        "image: redrawn shows every row another image": protocol.stimuli.image == "redrawn",
    }
    for reason, holds in reasons.items():
        if holds:
            raise PlanError(f"{reason}, which the table of an experiment does not tell: leave it out to write stimuli")
    return DesignStimuli(open_rig(protocol), REPEATS if repeats is None else repeats)
