"""What fewer digits than float32's bring into every index: the total index of a factor without effect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

import numpy as np
import torch
from torch import Tensor

from neuroprobe.packing import packs
from neuroprobe.plans import Plan
from neuroprobe.probe.capture import Probe
from neuroprobe.probe.precision import FLOAT32, full_float32
from neuroprobe.rig import Rig

N_PACKS: Final = 4  # packs of rows that are compared
N_UNITS: Final = 4096  # units of a layer that are compared, at most
TOLD: Final = 0.01  # total index of nothing at all that is said to be large


@dataclass(frozen=True)
class Dummy:
    """Total index that a factor without effect would have in a layer, over its units that vary.

    Attributes
    ----------
    median, largest : float
        NaN where none varies.
    """

    median: float
    largest: float


class _Moments:
    """Sums of responses and of their rounding errors, unit by unit."""

    def __init__(self) -> None:
        self.n, self.sums = 0, torch.zeros(())

    def add(self, exact: Tensor, rounded: Tensor) -> None:
        y, error = exact.double(), rounded.double() - exact.double()
        self.n += len(y)
        self.sums = self.sums.to(y.device) + torch.stack([y.sum(0), (y * y).sum(0), error.sum(0), (error**2).sum(0)])

    def index(self) -> Dummy:
        mean, square, bias, error = (self.sums / self.n).cpu().numpy()
        variance, noise = square - mean**2, np.maximum(error - bias**2, 0)
        varies = variance > 1e-12 * square
        shares = noise[varies] / variance[varies]
        return Dummy(float(np.median(shares)), float(shares.max())) if len(shares) else Dummy(np.nan, np.nan)


def dummy_indices(rig: Rig, plan: Plan) -> dict[str, Dummy]:
    """Show some rows in both precisions, and tell what rounding adds to total indices, by layer.

    A total index is half the mean squared difference between responses to two stimuli, over the variance. Rounding
    errors e of the two are as good as independent, and add Var(e) / Var(y): what a factor without effect would have.
    """
    presentations = rig.design(plan.layout.scramble, plan.layout.groups).presentations(
        0, min(plan.layout.piece, plan.samples)
    )
    moments = {site.name: _Moments() for site in rig.sites}
    probes = [
        Probe(rig.subject.network, rig.sites, rig.subject.lesion, precision)
        for precision in (FLOAT32, rig.protocol.record.precision)
    ]
    for pack in islice(packs(presentations, plan.layout.batch), N_PACKS):
        part = slice(0, plan.layout.batch)
        stimuli = rig.treatment.stimuli(rig.images, presentations, pack.sample[part], pack.row[part], rig.device)
        found: list[dict[str, Tensor]] = []
        for probe in probes:
            responses: dict[str, Tensor] = {}
            with full_float32(), probe:
                probe.record(
                    rig.subject.prepare(stimuli),
                    lambda site, y, kept=responses: kept.update({site.name: _some(y)}),  # type: ignore[misc]
                )
            found.append(responses)
        for name, one in moments.items():
            one.add(found[0][name], found[1][name])
    return {name: one.index() for name, one in moments.items()}


def _some(response: Tensor) -> Tensor:
    """Responses of some of the units (n, units), as many apart as it takes."""
    y = response.flatten(1)
    return y[:, :: -(-y.shape[1] // N_UNITS)].clone()


def told_rounding(rig: Rig, plan: Plan) -> Plan:
    """Say in a plan's warnings what its precision does to indices, where it is not float32."""
    precision = rig.protocol.record.precision
    if precision == FLOAT32 or not rig.sites:
        return plan
    return replace(plan, warnings=(*plan.warnings, _sentence(precision, dummy_indices(rig, plan))))


def _sentence(precision: str, found: Mapping[str, Dummy]) -> str:
    told = ", ".join(f"{layer} {one.median:.2g} ({one.largest:.2g})" for layer, one in found.items())
    large = [layer for layer, one in found.items() if one.median > TOLD]
    remedy = f"; in {', '.join(large)} that is much: take `precision: float32`" if large else ""
    return (
        f"precision: {precision} rounds responses, and the total index of a factor without effect is not 0: median "
        f"(largest) of units: {told}{remedy}"
    )
