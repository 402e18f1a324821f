"""Whether the maps of different factors differ: correlations, classification and clusters, layer after layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.analysis.factor_maps import (
    Maps,
    Sources,
    map_factors,
    map_layers,
    map_nodes,
    map_sources,
    read_maps,
    replicate_dim,
    space_dims,
)
from neuroprobe.errors import ReaderError
from neuroprobe.statistics import specialisation as kernels
from neuroprobe.statistics.paired import adjust

NORMALISATIONS: Final = ("none", "unit")
DEFAULT_FOLDS: Final = 5
MAX_CLUSTERED: Final = 10_000  # channels of a layer whose distances fit in memory
LINKAGE_PARTS: Final = ("left", "right", "distance", "size")
LONG_NAMES: Final = {
    names.CORRELATION: "Spearman's correlation over channels between the maps of two factors, mean over pixels",
    names.MEAN_CORRELATION: "mean over pairs of factors of the correlation between their maps",
    names.AGREEMENT: "Spearman's correlation over channels between two kinds of maps of a factor, mean over pixels",
    names.VARIATION_CORRELATION: "Spearman's correlation over channels of a map with the coefficient of variation of "
    "the responses, mean over pixels",
    names.ACCURACY: "share of the maps whose factor a linear discriminant tells, cross-validated",
    names.PERMUTED_ACCURACY: "mean accuracy with the factors permuted within channels",
    names.CONFUSION: "share of the maps of a factor that are taken for factor_2",
    names.P_VALUE: "share of permutations, the given order among them, with at least this accuracy",
    names.P_ADJUSTED: "p-value adjusted over the layers of one value and normalisation (Benjamini & Yekutieli)",
    names.LINKAGE: "merges of factors: average linkage of 1 - correlation; numbers from the number of factors on are "
    "earlier merges",
    names.LEAF: "numbers of the factors in an order in which no merges cross",
    names.CLUSTER_SIZE: "channels in a cluster by Ward's method on the medians of maps, the largest cluster first",
    names.CLUSTER_PROFILE: "mean over the channels of a cluster of the medians of their maps",
    names.N_PIXELS: "pixels of a map; 1 for a fully connected layer",
    names.N_CHANNELS: "channels with a defined unit, which were classified",
    names.N_FEATURES: "values of a map that were classified, each the mean of a cell of pixels",
    names.N_IMPUTED: "values of classified maps without a defined unit, which were set to 0",
    names.N_FOLDS: "folds of the cross-validation; 0 where there are too few channels",
}
JACKKNIFE: Final = f"jackknife over channels, at most {kernels.N_GROUPS} groups left out in turn"
OVER_CHANNELS: Final = "over channels, each with all of its maps"


@dataclass(frozen=True)
class Classification:
    """How the classification of maps is done: see `specialisation`."""

    n_folds: int | None
    n_permutations: int
    max_features: int
    seed: int

    def folds(self, n_channels: int) -> int:
        """Folds for a number of channels; 0 where there are too few of them."""
        if n_channels < kernels.MIN_CHANNELS:
            return 0
        return min(DEFAULT_FOLDS, n_channels) if self.n_folds is None else self.n_folds


def specialisation(
    result: xr.DataTree,
    *,
    layers: str | Sequence[str] | None = None,
    values: str | Sequence[str] | None = None,
    n_folds: int | None = None,
    n_permutations: int = 100,
    max_features: int = 196,
    n_clusters: int = 8,
    seed: int = 0,
) -> xr.DataTree:
    """Ask whether the maps of different factors are those of different channels and places.

    Parameters
    ----------
    result : xarray.DataTree
        With the groups ``sobol`` or ``shapley`` or both, as `neuroprobe.open_result` opens it.
    layers, values : str or sequence of str, optional
        Layers, and kinds of maps (``first_order``, ``total_order``, ``shapley_effect``); by default all that there are.
    n_folds : int, optional
        Of the cross-validation: by default 5, or as many as there are channels in a layer of fewer.
    n_permutations : int
        Of the factors within channels; they make the p-values. 0 leaves these out.
    max_features : int
        Values that a map may have when it is classified: the maps of larger ones are averaged over cells of pixels.
    n_clusters : int
        Clusters of channels, at most; 0 leaves them out.
    seed : int
        Of the permutations, and of the groups of the jackknife.

    Returns
    -------
    xarray.DataTree
        Over ``layer``, in the order of recording, and ``value``, the kind of maps; most with a standard error
        (``_se``):

        - ``correlation(…, factor, factor_2)``, Spearman's over channels, pixel by pixel, then averaged over pixels;
          ``correlation_n_used``, pixels that entered, and ``correlation_n_constant``, pixels left out because one of
          the two maps does not vary over channels; ``mean_correlation``, its mean over pairs. All others of the
          ``n_pixels`` had fewer than 3 defined channels;
        - ``agreement(…, value_2, factor)``, between two kinds of maps, and ``variation_correlation(…, factor)``, with
          the coefficient of variation √variance / abs(mean), in the same way;
        - ``accuracy(…, normalisation)`` of a linear discriminant that is asked which factor a map is of, where chance
          gives the attribute ``chance``; ``confusion(…, normalisation, factor, factor_2)``; ``permuted_accuracy``,
          ``p_value`` and ``p_adjusted``. Normalisation ``none`` takes maps as they are, so that levels tell factors
          apart; ``unit`` divides each map by its norm, so that shapes alone do (NaN for maps of one pixel);
        - ``linkage(…, merge, part)`` and ``leaf(…, rank)``, the tree of the factors, as scipy has it;
        - of channels, clustered by the medians of their maps (Ward's method): ``cluster_size(…, cluster)``,
          ``cluster_profile(…, cluster, factor)``, and ``cluster_of(value, channel)`` in ``/channels/<layer>`` (−1: no
          unit is defined).

    Raises
    ------
    ReaderError
        If there are no such maps or layers, fewer than two factors, or a layer has too few channels for `n_folds`.

    Notes
    -----
    Standard errors count channels as replicates and take the maps as they are. The errors of the indices themselves
    blur all that is found: they pull correlations and accuracies towards those of chance. Where both maps share draws,
    as those of one run do, their errors may correlate.

    Discriminants share a covariance, shrunk by Ledoit & Wolf's rule, and all maps of a channel are in one fold. In
    maps that are classified, values without a defined unit are 0, for all factors alike; ``n_imputed`` counts them.
    Clusters are chosen to differ: the errors of their profiles describe their spread, and test nothing.
    """
    layers, values = ([one] if isinstance(one, str) else one for one in (layers, values))
    sources = map_sources(result, values)
    chosen = map_layers(sources, layers)
    _require(n_folds is None or n_folds >= 2, "n_folds", n_folds, "2 or more")
    _require(n_permutations >= 0, "n_permutations", n_permutations, "0 or more")
    _require(max_features >= 1, "max_features", max_features, "1 or more")
    _require(n_clusters >= 0, "n_clusters", n_clusters, "0 or more")
    factors = map_factors(sources, chosen)
    method = Classification(n_folds, n_permutations, max_features, seed)
    for layer in chosen:
        _check_channels(sources, layer, method, n_clusters)
    tables, members = [], {}
    with _progress(len(chosen) * len(sources) * len(NORMALISATIONS)) as advance:
        for layer in chosen:
            maps = read_maps(sources, layer, factors)
            table = _correlations(maps, list(sources), seed) | _classified(maps, list(sources), method, advance)
            if n_clusters:
                clustered, membership = _clusters(maps, list(sources), n_clusters)
                table |= clustered
                members[f"{names.CHANNELS}/{layer}"] = _membership(sources, layer, membership)
            tables.append(xr.Dataset(table))
    labels = {
        names.LAYER: chosen,
        names.VALUE: list(sources),
        names.VALUE_2: list(sources),
        names.FACTOR: factors,
        names.FACTOR_2: factors,
        names.NORMALISATION: NORMALISATIONS,
        names.PART: LINKAGE_PARTS,
    }
    coords = {dim: (dim, np.array(list(some), dtype=object)) for dim, some in labels.items()}
    found = xr.concat(tables, names.LAYER).assign_coords(coords)
    if n_permutations:
        found[names.P_ADJUSTED] = xr.apply_ufunc(
            adjust,
            found[names.P_VALUE],
            kwargs={"method": "fdr_by"},
            input_core_dims=[[names.LAYER]],
            output_core_dims=[[names.LAYER]],
            vectorize=True,
        ).transpose(names.LAYER, ...)
    return xr.DataTree.from_dict({"/": _described(found, method, len(factors)), **members}, name="specialisation")


def _require(is_met: bool, argument: str, given: object, expected: str) -> None:
    if not is_met:
        raise ReaderError(f"{argument}: received {given}, expected {expected}")


def _check_channels(sources: Sources, layer: str, method: Classification, n_clusters: int) -> None:
    """Refuse a layer whose channels are too few for the folds, or too many to be clustered."""
    for node in map_nodes(sources, layer).values():
        n = node.sizes[replicate_dim(node)]
        n_defined = int((node[names.DEFINED] == 1).any(space_dims(node)).sum())
        if n_clusters and n > MAX_CLUSTERED:
            raise ReaderError(
                f"layer {layer!r} has {n:,} channels, more than the {MAX_CLUSTERED:,} whose distances are kept; "
                "give n_clusters=0, or choose others by `layers`"
            )
        folds = method.n_folds
        # a discriminant learns from two channels at least
        if folds is not None and (n_defined < folds or n_defined - -(-n_defined // folds) < 2):
            fits = f"give n_folds={min(n_defined, DEFAULT_FOLDS)}"
            remedy = (
                fits if n_defined >= kernels.MIN_CHANNELS else "leave the layer out by `layers`, or give no n_folds"
            )
            raise ReaderError(
                f"layer {layer!r} has {n_defined} channels with a defined unit, too few for n_folds={folds}: "
                f"each fold needs a channel, and the others two; {remedy}"
            )


def _correlations(maps: Maps, values: Sequence[str], seed: int) -> dict[str, Any]:
    """Correlations between factors, between values, and with the coefficient of variation."""
    held = [value for value in values if value in maps.indices]
    varied = [value for value in held if value in maps.variation]
    n = len(next(iter(maps.indices.values())))
    series = [*(maps.indices[value] for value in held), *(maps.variation[value][None] for value in varied)]
    found = kernels.rank_correlations(np.concatenate(series), seed)
    # places of series; what is not there is at the end, where nothing is
    factor = np.full((len(values), n), -1)
    variation = np.full((len(values), 1), -1)
    for i, value in enumerate(values):
        if value in held:
            factor[i] = held.index(value) * n + np.arange(n)
        if value in varied:
            variation[i] = len(held) * n + varied.index(value)

    def block(name: str, dims: Sequence[str], rows: NDArray[np.int64], columns: NDArray[np.int64]) -> dict[str, Any]:
        def at(array: NDArray[Any], fill: float) -> NDArray[Any]:
            padded = np.pad(array, [(0, 0)] * (array.ndim - 2) + [(0, 1)] * 2, constant_values=fill)
            return padded[..., rows, columns]

        return {
            name: (dims, at(found.mean, np.nan)),
            names.se(name): (dims, kernels.jackknife_error(at(found.replicates, np.nan))),
            f"{name}_{names.N_USED}": (dims, at(found.n_used, 0)),
            f"{name}_{names.N_CONSTANT}": (dims, at(found.n_constant, 0)),
        }

    by_pair = block(
        names.CORRELATION, (names.VALUE, names.FACTOR, names.FACTOR_2), factor[:, :, None], factor[:, None, :]
    )
    upper = np.triu_indices(n, 1)
    pairs = (factor[:, upper[0]], factor[:, upper[1]])
    replicates = np.pad(found.replicates, [(0, 0), (0, 1), (0, 1)], constant_values=np.nan)[:, *pairs]
    tree = [kernels.linkage_tree(1 - one) for one in by_pair[names.CORRELATION][1]]
    between = block(names.AGREEMENT, (names.VALUE, names.VALUE_2, names.FACTOR), factor[:, None, :], factor[None, :, :])
    for name in (names.AGREEMENT, names.se(names.AGREEMENT)):
        # a map agrees with itself: nothing is found there
        between[name][1][np.diag_indices(len(values))] = np.nan
    return {
        **by_pair,
        names.MEAN_CORRELATION: (
            names.VALUE,
            kernels.defined_mean(by_pair[names.CORRELATION][1][:, upper[0], upper[1]]),
        ),
        names.se(names.MEAN_CORRELATION): (
            names.VALUE,
            kernels.jackknife_error(kernels.defined_mean(replicates)),
        ),
        **between,
        **block(names.VARIATION_CORRELATION, (names.VALUE, names.FACTOR), factor, variation),
        names.LINKAGE: ((names.VALUE, names.MERGE, names.PART), np.stack([merges for merges, _ in tree])),
        names.LEAF: ((names.VALUE, names.RANK), np.stack([order for _, order in tree])),
        names.N_PIXELS: int(np.prod(maps.shape)),
    }


def _classified(
    maps: Maps, values: Sequence[str], method: Classification, advance: Callable[[], object]
) -> dict[str, Any]:
    """Accuracies and confusions of the classification of maps, and what went into it."""
    n, v, m = len(next(iter(maps.indices.values()))), len(values), len(NORMALISATIONS)
    scalars = [names.ACCURACY, names.se(names.ACCURACY)]
    scalars += [names.PERMUTED_ACCURACY, names.P_VALUE] if method.n_permutations else []
    by_kind = {name: np.full((v, m), np.nan) for name in scalars}
    shares = {name: np.full((v, m, n, n), np.nan) for name in (names.CONFUSION, names.se(names.CONFUSION))}
    counts = {name: np.zeros(v, dtype=np.int64) for name in (names.N_CHANNELS, names.N_FOLDS, names.N_IMPUTED)}
    n_features = 0
    for i, value in enumerate(values):
        if value not in maps.indices:
            continue
        cells = kernels.pooled(maps.indices[value], maps.shape, method.max_features)
        there = ~np.isnan(cells).all((0, 2))
        cells, n_features = cells[:, there], cells.shape[-1]
        n_folds = method.folds(cells.shape[1])
        imputed = int(np.isnan(cells).sum())
        for name, count in ((names.N_CHANNELS, cells.shape[1]), (names.N_FOLDS, n_folds), (names.N_IMPUTED, imputed)):
            counts[name][i] = count
        for j, normalisation in enumerate(NORMALISATIONS):
            features = np.nan_to_num(cells)
            if n_folds and (normalisation == "none" or n_features > 1):
                features = features if normalisation == "none" else kernels.unit_norm(features)
                found = _classify(features, n_folds, method)
                for name, array in (by_kind | shares).items():
                    array[i, j] = found[name]
            advance()
    by_pair = (names.VALUE, names.NORMALISATION, names.FACTOR, names.FACTOR_2)
    return {
        **{name: ((names.VALUE, names.NORMALISATION), array) for name, array in by_kind.items()},
        **{name: (by_pair, array) for name, array in shares.items()},
        **{name: (names.VALUE, array) for name, array in counts.items()},
        names.N_FEATURES: n_features,
    }


def _classify(features: NDArray[np.float64], n_folds: int, method: Classification) -> dict[str, Any]:
    predicted = kernels.predicted_factors(features, n_folds)
    accuracy, error = kernels.channel_mean((predicted == np.arange(len(features))).mean(1))
    shares, errors = kernels.confusion(predicted)
    found: dict[str, Any] = {
        names.ACCURACY: accuracy,
        names.se(names.ACCURACY): error,
        names.CONFUSION: shares,
        names.se(names.CONFUSION): errors,
    }
    if method.n_permutations:
        permuted = kernels.permuted_accuracies(features, n_folds, method.n_permutations, method.seed)
        found[names.PERMUTED_ACCURACY] = permuted.mean()
        found[names.P_VALUE] = kernels.permutation_p(float(accuracy), permuted)
    return found


def _clusters(maps: Maps, values: Sequence[str], n_clusters: int) -> tuple[dict[str, Any], NDArray[np.int64]]:
    """Sizes and mean profiles of clusters of channels, and the cluster of each channel (value, channel)."""
    n, n_channels, _ = next(iter(maps.indices.values())).shape
    of = np.full((len(values), n_channels), -1)
    sizes = np.zeros((len(values), n_clusters), dtype=np.int64)
    profiles, errors = (np.full((len(values), n_clusters, n), np.nan) for _ in range(2))
    for i, value in enumerate(values):
        if value not in maps.indices:
            continue
        channels = kernels.defined_median(maps.indices[value]).T
        of[i] = kernels.channel_clusters(channels, n_clusters)
        for cluster in range(int(of[i].max(initial=-1)) + 1):
            inside = channels[of[i] == cluster]
            sizes[i, cluster] = len(inside)
            profiles[i, cluster, :], errors[i, cluster, :] = kernels.channel_mean(inside)
    dims = (names.VALUE, names.CLUSTER, names.FACTOR)
    return {
        names.CLUSTER_SIZE: ((names.VALUE, names.CLUSTER), sizes),
        names.CLUSTER_PROFILE: (dims, profiles),
        names.se(names.CLUSTER_PROFILE): (dims, errors),
    }, of


def _membership(sources: Sources, layer: str, of: NDArray[np.int64]) -> xr.Dataset:
    node = next(iter(map_nodes(sources, layer).values()))
    dim = replicate_dim(node)
    coords = {name: array.variable for name, array in node.coords.items() if array.dims == (dim,)}
    attrs = {"long_name": "cluster of a channel; -1: no unit is defined"}
    return xr.Dataset({names.CLUSTER_OF: ((names.VALUE, dim), of, attrs)}, coords)


def _described(found: xr.Dataset, method: Classification, n_factors: int) -> xr.Dataset:
    """Say of every variable what it is, and of errors what they rest on."""
    jackknifed = (names.CORRELATION, names.MEAN_CORRELATION, names.AGREEMENT, names.VARIATION_CORRELATION)
    for name, array in found.data_vars.items():
        value = str(name).removesuffix("_se").removesuffix(f"_{names.N_USED}").removesuffix(f"_{names.N_CONSTANT}")
        said, attrs = LONG_NAMES[value], {"units": "1"}
        if str(name).endswith("_se"):
            said = f"standard error of: {said}"
            attrs |= {
                "se_kind": JACKKNIFE if value in jackknifed else OVER_CHANNELS,
                "se_scope": "channels of this kind",
            }
        elif str(name).endswith(f"_{names.N_USED}"):
            said = f"pixels that entered: {said}"
        elif value != name:
            said = f"pixels left out because a map does not vary over channels: {said}"
        array.attrs = {"long_name": said, **attrs}
    found[names.ACCURACY].attrs["chance"] = 1 / n_factors
    if method.n_permutations:
        found[names.P_ADJUSTED].attrs |= {"correction": "fdr_by", "family": "layers of one value and normalisation"}
    return found.assign_attrs(
        seed=method.seed,
        n_permutations=method.n_permutations,
        max_features=method.max_features,
        classifier="linear discriminant analysis, covariance shrunk by Ledoit & Wolf's rule, folds grouped by channel",
        comment="maps of more than max_features pixels were averaged over cells; values without a defined unit were "
        "set to 0 for all factors alike, and counted",
    )


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], object]]:
    """A progress bar where somebody watches."""
    from tqdm import tqdm

    from neuroprobe.progress import is_watched

    with tqdm(total=total, desc="specialisation", unit="map", disable=not is_watched()) as bar:
        yield bar.update
