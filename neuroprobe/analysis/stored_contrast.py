"""Contrasts of stored responses: the same statistics over the chunks of a recording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.analysis.contrast import FAMILIES, ContrastAnalysis, LayerLayout
from neuroprobe.analysis.stored import stored_responses, stream
from neuroprobe.design.factors import Factor
from neuroprobe.design.treatment_control import BLOCK, TreatmentControl
from neuroprobe.errors import ReaderError, unknown_name

if TYPE_CHECKING:
    from neuroprobe.statistics.pick_freeze import PickFreezeSums


def contrast(
    recording: xr.DataTree,
    *,
    units: str | None = None,
    ranks: bool | str | Sequence[str] = True,
    correction: str = "fdr_by",
    family: str = "alteration",
) -> xr.DataTree:
    """Contrasts of treatment and control in stored responses.

    Parameters
    ----------
    recording : xarray.DataTree
        As `neuroprobe.open_recording` opens it: ``/responses/<layer>`` with ``response(presentation, …)``, and a
        treatment-control design: of each image the ``control``, then the draws of each alteration, in order.
    units : str, optional
        Which units, in the language of `neuroprobe.select_units` over their places (``layer``, ``channel``, ``y``,
        ``x``, ``token``): ``"layer == 'layer3' and channel in [3, 17]"``. All by default.
    ranks : bool, str or sequence of str
        Whether there are signed-rank tests, or for which layers; their differences pass through a temporary file of 4
        bytes per image, alteration and unit.
    correction : str
        Of p-values: fdr_by, fdr_bh, bonferroni, holm, sidak or holm-sidak, by statsmodels; or none.
    family : str
        ``alteration``: tests of one kind and alteration over all units and layers are corrected together; ``all``:
        those of all alterations.

    Returns
    -------
    xarray.DataTree
        One node per layer, as under ``/contrast`` of a result: ``mean_difference(factor, …)``, ``effect_size`` (Cohen's
        d_z), ``rank_biserial``, ``treatment_mean`` and ``control_mean(…)`` with standard errors; ``p_value(test,
        factor, …)``, ``p_adjusted``; ``n_positive``, ``n_negative``, ``defined(factor, …)``. Of chosen units, over
        ``unit`` in place of the layer's dimensions. The image is the unit of replication: draws are averaged within it.

    Raises
    ------
    ReaderError
        If the recording has no treatment-control design, its rows are not in order, an option or layer is unknown, or
        no unit is chosen.
    QueryError
        If `units` cannot be read.
    """
    from neuroprobe.statistics.paired import CORRECTIONS

    for kind, given, known in (("correction", correction, CORRECTIONS), ("family", family, FAMILIES)):
        if given not in known:
            raise ReaderError(unknown_name(kind, given, known))
    table, recorded = _recorded_design(recording)
    analysis = ContrastAnalysis(
        tuple(factor.name for factor in recorded.design.factors),
        recorded.design.draws,
        _ranked_layers(recording, ranks),
        correction,
        family,
        drop=recording.attrs.get("nan") == "drop",
    )
    layouts, found = {}, {}
    for depth, layer, response in stored_responses(recording, units):
        coords = {str(name): array.variable for name, array in response.coords.items()}
        layouts[layer] = LayerLayout(tuple(map(str, response.dims[1:])), response.shape[1:], coords, depth)
        found[layer] = _summed(response[table], analysis, recorded, layer)
    nodes = analysis.label_layers(layouts, lambda layer: analysis.finalize(*found[layer]), recorded.n_samples)
    return xr.DataTree.from_dict(dict(nodes), name=analysis.name)


def _ranked_layers(recording: xr.DataTree, ranks: bool | str | Sequence[str]) -> tuple[str, ...]:
    layers = list(recording.children[names.RESPONSES].children)
    if isinstance(ranks, bool):
        return tuple(layers) if ranks else ()
    ranks = [ranks] if isinstance(ranks, str) else ranks
    for layer in ranks:
        if layer not in layers:
            raise ReaderError("ranks: " + unknown_name("layer", layer, layers))
    return tuple(ranks)


def _summed(
    response: xr.DataArray, analysis: ContrastAnalysis, recorded: _RecordedDesign, layer: str
) -> tuple[PickFreezeSums, dict[str, NDArray[np.float64]] | None]:
    """Sums of the responses of one layer, and the ranks of their differences where they are wanted."""
    if layer not in analysis.ranks:
        return stream(response, analysis, recorded), None
    from neuroprobe.differences import DifferenceFile

    with TemporaryDirectory(prefix="neuroprobe-") as folder:
        file = DifferenceFile(Path(folder) / "differences", len(analysis.factors), int(np.prod(response.shape[1:])))
        sums = stream(response, analysis, recorded, lambda first, rows: file.write(first, analysis.differences(rows)))
        return sums, file.ranked(recorded.n_samples)


@dataclass(frozen=True)
class _RecordedDesign:
    """The treatment-control design of a recording, read off its presentation table."""

    design: TreatmentControl
    block: int

    @property
    def n_samples(self) -> int:
        """Images."""
        return self.design.n_images


def require_pairs(recording: xr.DataTree) -> None:
    """Refuse recordings that are not of a treatment-control design.

    Raises
    ------
    ReaderError
    """
    _recorded_design(recording)


def _recorded_design(recording: xr.DataTree) -> tuple[slice, _RecordedDesign]:
    """Read a design off the presentation table, with the presentations that belong to it."""
    if names.RESPONSES not in recording.children:
        raise ReaderError(
            f"no group {names.RESPONSES!r} in this tree (it has: {', '.join(recording.children) or 'none'}); "
            "open stored responses by `open_recording`"
        )
    table: dict[str, NDArray[Any]] = {str(name): array.values for name, array in recording.to_dataset().coords.items()}
    lacking = [name for name in (names.DESIGN, names.ROLE, names.SAMPLE) if name not in table]
    own = np.flatnonzero(table[names.DESIGN] == names.TREATMENT_CONTROL) if not lacking else np.empty(0, np.int64)
    if not len(own):
        raise ReaderError(
            f"no presentation has the design {names.TREATMENT_CONTROL!r}: record with `analyses: [contrast]`"
        )
    part = slice(int(own[0]), int(own[-1]) + 1)
    role, sample = table[names.ROLE][part].astype(object), table[names.SAMPLE][part]
    n_rows = int((sample == sample[0]).sum())
    drawn = [one.rpartition("_")[0] for one in role[1:n_rows].tolist()]
    factors = tuple(dict.fromkeys(drawn))
    draws = drawn.count(drawn[0]) if drawn else 0
    n_images = len(role) // n_rows
    # the laws of its parameters do not matter any more
    design = TreatmentControl(tuple(Factor(factor, ()) for factor in factors), 0, n_images, draws)
    roles = list(design.roles)
    if (
        len(roles) != n_rows
        or len(roles) == 1
        or len(own) != len(role)
        or len(role) % n_rows
        or not (sample.reshape(n_images, n_rows) == sample[::n_rows, None]).all()
        or not (role.reshape(n_images, n_rows) == np.array(roles, dtype=object)).all()
    ):
        raise ReaderError(
            f"presentations are not whole images in order (roles begin {role[:4].tolist()}, expected {roles[:4]}): "
            "leave the presentations as they were recorded; choose units, not presentations"
        )
    return part, _RecordedDesign(design, int(recording.attrs.get("block", BLOCK)))
