"""How alike two recordings are, by any of several metrics, each with a name, a version and a definition."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr

from neuroprobe.cluster.hired import require_one
from neuroprobe.comparison.representations import compare_representations
from neuroprobe.comparison.responses import AREA, compare_kernels, compare_regressions
from neuroprobe.comparison.sensitivities import compare_profiles
from neuroprobe.comparison.spread import Spread
from neuroprobe.comparison.stimuli import Side, by_area, common_stimuli, side_of, with_areas
from neuroprobe.errors import PlanError, ReaderError, unknown_name
from neuroprobe.journal import digest_of
from neuroprobe.statistics.encoding import REGRESSIONS

if TYPE_CHECKING:
    from distributed import Client

Source = xr.DataTree | xr.Dataset | str | Path
OF_RESULTS: Final = "profiles"
METRICS: Final[dict[str, Callable[..., xr.Dataset]]] = {
    "rsa": compare_representations,
    "cka": compare_kernels,
    **{name: partial(compare_regressions, regression=name) for name in REGRESSIONS},
    OF_RESULTS: compare_profiles,
}


def compare(
    model: Source,
    brain: Source,
    metric: str = "rsa",
    *,
    on: str | None = None,
    join: str = "exact",
    units_model: str | None = None,
    units_brain: str | None = None,
    areas: str | None = None,
    workers: int | None = None,
    client: Client | None = None,
    **options: Any,
) -> xr.Dataset:
    """Compare the layers of a model with a brain's areas, or with the layers of another model.

    Parameters
    ----------
    model, brain : DataTree, Dataset or path
        Recordings as `neuroprobe.open_recording` and `neuroprobe.read_recording` give them, or paths of stored ones.
        For ``rsa``, the brain may be dissimilarities alone, as `neuroprobe.recordings.read_rdms` gives them. For
        ``profiles``, results with shares of variance (`neuroprobe.open_result`, or their paths).
    metric : {"rsa", "cka", "pls", "ridge", "ridge_cv", "linear", "neuron_to_neuron", "profiles"}
    on : str, optional
        Column of the presentation tables that tells stimuli apart: ``stimulus_id``, or ``image_id``, by default.
    join : {"exact", "inner"}
        Whether both sides must have been shown the same stimuli, or those are taken that both were.
    units_model, units_brain : str, optional
        Which units, in the language of `neuroprobe.select_units`.
    areas : str, optional
        Coordinate of the brain's units by which they are told apart, such as ``region``: each value is an area.
    workers : int, optional
        Processes on this machine that read recordings which are given as paths, and sum, or predict, by parts of their
        units or layers; by default this process does. Numbers are the same.
    client : distributed.Client, optional
        Of a scheduler whose workers do it, in place of those: they must see recordings under the same paths.
    **options
        Of the metric. ``rsa``: ``distance`` (correlation, euclidean, cosine, poisson; of repetitions mahalanobis,
        crossnobis), ``distance_brain`` where that of the brain is another, ``comparison`` (spearman,
        pearson, cosine, rho_a, tau_a, tau_b, cosine_cov, corr_cov), ``ceiling`` (rsatoolbox, brainscore, net2brain),
        ``over`` (both, stimuli, subjects), ``n_draws``. ``cka``: ``biased``, ``n_permutations``. Regressions:
        ``strata``, ``n_components``, ``version`` (brainscore-2026, brainscore-2025). ``profiles``: ``variable``,
        ``n_permutations``. All but regressions: ``seed``; all: ``correction``; all but profiles: ``level``.

    Returns
    -------
    Dataset
        Over ``layer``, and ``area`` where there are several: ``score``, ``score_se``, ``score_lower``, ``score_upper``,
        ``p_value``, ``p_adjusted`` over layers. Of ``rsa`` also ``ceiling_lower``, ``ceiling_upper`` with intervals,
        ``subject_score``, differences of layers, and ``held_out_score`` of the layer that other stimuli choose. Of
        regressions ``ceiling`` and ``ceiled_score``, and ``unit_score``. Of ``profiles`` distances, of which small ones
        are alike, and over ``neuron`` the ``nearest_unit`` of each layer. Attributes: ``metric``, ``version``,
        ``definition``.

    Raises
    ------
    ReaderError
        If stimuli do not match: it says which. If a metric does not go with what is given.
    PlanError
        If workers do not see the same files, or neither side is a path.

    Examples
    --------
    >>> import numpy as np
    >>> def recording(values):
    ...     node = xr.Dataset(
    ...         {"response": (("presentation", "unit"), values)},
    ...         coords={"stimulus_id": ("presentation", [f"s{n}" for n in range(len(values))])},
    ...     )
    ...     return xr.DataTree.from_dict({"/responses/it": node})
    >>> values = np.random.default_rng(0).normal(size=(8, 5))
    >>> compare(recording(values), recording(values[:, ::-1]), "cka", n_permutations=99)["score"].round(6).item()
    1.0
    """
    if metric not in METRICS:
        raise ReaderError(unknown_name("metric", metric, METRICS))
    require_one(workers, client)
    if workers is not None or client is not None:
        return _on_workers(model, brain, metric, on, join, (units_model, units_brain, areas), workers, client, options)
    return _compared(model, brain, metric, on, join, (units_model, units_brain, areas), options)


def _on_workers(
    model: Source,
    brain: Source,
    metric: str,
    on: str | None,
    join: str,
    units: tuple[str | None, str | None, str | None],
    workers: int | None,
    client: Client | None,
    options: dict[str, Any],
) -> xr.Dataset:
    """Compare with the help of workers, which see the recordings."""
    from neuroprobe.cluster.hired import hired
    from neuroprobe.cluster.station import Job

    paths = [Path(one).absolute() for one in (model, brain) if isinstance(one, str | Path)]
    if not paths or metric == OF_RESULTS:
        raise PlanError(
            "workers read recordings under their paths: "
            + ("profiles are of results, which take no time; leave workers and client out" if paths else "give paths")
        )
    for path in paths:
        if not path.exists():
            raise ReaderError(f"{str(path)!r}: no such file or folder")
    job = Job(None, {}, "", "", seen={str(path): digest_of(path) for path in paths})
    with hired(job, client, workers) as crew:
        return _compared(model, brain, metric, on, join, units, options, crew.ordered)


def _compared(
    model: Source,
    brain: Source,
    metric: str,
    on: str | None,
    join: str,
    units: tuple[str | None, str | None, str | None],
    options: dict[str, Any],
    spread: Spread | None = None,
) -> xr.Dataset:
    units_model, units_brain, areas = units
    try:
        if metric == OF_RESULTS:
            return compare_profiles(_result(model), _result(brain), **options)
        # workers may not see what lies where a tree was opened from
        of_each = [spread if isinstance(one, str | Path) else None for one in (model, brain)]
        mine = side_of("model", _recording(model), on, units_model, of_each[0])
        theirs = side_of("brain", _recording(brain), on, units_brain, of_each[1])
        if mine.rdms is not None and theirs.rdms is None:
            raise ReaderError("model: dissimilarities alone go on the other side: compare(recording, rdms)")
        return compare_sides(mine, theirs, metric, join, areas, **options)
    except TypeError as error:
        if "unexpected keyword" not in str(error):
            raise
        raise ReaderError(f"{metric}: {str(error).partition('() ')[2] or error}") from None


def compare_sides(
    model: Side, brain: Side, metric: str, join: str, areas: str | None = None, **options: Any
) -> xr.Dataset:
    """Compare two sides; see `compare`."""
    if metric == "rsa" and areas is not None:
        # the populations of one area are what subjects are elsewhere
        parts = {
            area: compare_sides(model, part, metric, join, **options) for area, part in by_area(brain, areas).items()
        }
        label = xr.Variable(AREA, np.array(list(parts), dtype=object))
        found = xr.concat(list(parts.values()), label, data_vars="all", join="outer", combine_attrs="drop_conflicts")
        # errors of an area with one subject are of stimuli alone
        told = dict.fromkeys(part.attrs["definition"] for part in parts.values())
        return found.assign_attrs(definition="; or ".join(told))
    if areas is not None:
        brain = with_areas(brain, areas)
    stimuli = common_stimuli(model, brain, join)
    found = METRICS[metric](model, brain, stimuli, **options)
    return found.assign_attrs(n_stimuli=len(stimuli), stimuli_by=model.on)


def _recording(given: Source) -> xr.DataTree | xr.Dataset:
    if isinstance(given, xr.DataTree | xr.Dataset):
        return given
    from neuroprobe.store import open_recording

    return open_recording(given)


def _result(given: Source) -> xr.DataTree:
    if isinstance(given, xr.DataTree):
        return given
    if isinstance(given, xr.Dataset):
        raise ReaderError("profiles are compared of results, which are trees; received a Dataset")
    from neuroprobe.store import open_result

    return open_result(given)
