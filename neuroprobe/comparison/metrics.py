"""How alike two recordings are, by any of several metrics, each with a name, a version and a definition."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr

from neuroprobe.comparison.representations import compare_representations
from neuroprobe.comparison.responses import AREA, compare_kernels, compare_regressions
from neuroprobe.comparison.sensitivities import compare_profiles
from neuroprobe.comparison.stimuli import Side, by_area, common_stimuli, side_of, with_areas
from neuroprobe.errors import ReaderError, unknown_name
from neuroprobe.statistics.encoding import REGRESSIONS

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
    try:
        if metric == OF_RESULTS:
            return compare_profiles(_result(model), _result(brain), **options)
        mine = side_of("model", _recording(model), on, units_model)
        theirs = side_of("brain", _recording(brain), on, units_brain)
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
