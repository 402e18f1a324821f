"""What was found of units, population by population, as one labelled table: units of all sessions along ``unit``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuroprobe import names
from neuroprobe.analysis.populations import Population
from neuroprobe.errors import ReaderError, unknown_name
from neuroprobe.statistics.paired import CORRECTIONS, adjust

CONDITION: Final = "condition"
DEFINED_AS: Final = "1 where the measure is defined"
Described = Mapping[str, tuple[str, str]]  # variable → long name, method


def require_correction(correction: str) -> None:
    """Refuse an unknown correction of p-values.

    Raises
    ------
    ReaderError
    """
    if correction not in CORRECTIONS:
        raise ReaderError(unknown_name("correction", correction, CORRECTIONS))


class UnitResults:
    """Collects results of pieces of populations, each over units, and conditions or other labels before them."""

    def __init__(self, populations: Sequence[Population]) -> None:
        self._populations = list(populations)
        labels = {label for one in populations for label in one.conditions.labels}
        self.labels = sorted(labels)
        self._place = {label: place for place, label in enumerate(self.labels)}
        self._found: dict[str, list[NDArray[Any]]] = {}
        self._dims: dict[str, tuple[str, ...]] = {}

    def add(self, population: Population, dims: Sequence[str] = (), /, **arrays: NDArray[Any]) -> None:
        """Add arrays (…, units) of the next units; along ``condition`` they are of the population's own conditions."""
        for name, array in arrays.items():
            if CONDITION in dims:
                array = self.spread(population, array, list(dims).index(CONDITION))
            self._dims[name] = (*dims, names.UNIT)
            self._found.setdefault(name, []).append(array)

    def add_spread(self, dims: Sequence[str], /, **arrays: NDArray[Any]) -> None:
        """Add arrays (…, units) of the next units, which are of all conditions already."""
        for name, array in arrays.items():
            self._dims[name] = (*dims, names.UNIT)
            self._found.setdefault(name, []).append(array)

    def spread(self, population: Population, array: NDArray[Any], axis: int = 0) -> NDArray[Any]:
        """Put an axis of a population's own conditions among those of all; NaN, or 0 trials, where it has none."""
        places = [self._place[label] for label in population.conditions.labels]
        empty: Any = 0 if array.dtype.kind in "iu" else np.nan
        shape = list(array.shape)
        shape[axis] = len(self.labels)
        found = np.full(shape, empty, dtype=array.dtype)
        found[(slice(None),) * axis + (places,)] = array
        return found

    def dataset(
        self,
        described: Described,
        attrs: Mapping[str, Any],
        *,
        defined: str,
        correction: str | None = None,
        coords: Mapping[str, Any] | None = None,
    ) -> xr.Dataset:
        """Return all as one dataset.

        Parameters
        ----------
        described : dict
            Variable → what it is, and how it was computed.
        attrs : dict
        defined : str
            The variable that is the measure: ``defined`` is 1 where it is not NaN.
        correction : str, optional
            Of p-values: each gets another one beside it, of a family of all units, one for each other label.
        coords : dict, optional
            Of dimensions other than conditions and units.
        """
        data: dict[str, Any] = {}
        for name, parts in self._found.items():
            array = np.concatenate(parts, axis=-1)
            data[name] = (self._dims[name], array, attrs_of(name, described))
            if correction is not None and name.endswith(names.P_VALUE):
                adjusted = name.removesuffix(names.P_VALUE) + names.P_ADJUSTED
                told = {
                    "long_name": f"{data[name][2].get('long_name', name)}, corrected for the number of units",
                    "method": correction,
                    "family": "units" if len(self._dims[name]) == 1 else f"units, for each {self._dims[name][0]}",
                }
                data[adjusted] = (self._dims[name], _adjusted(array, correction), told)
        measure = data[defined]
        known = ~np.isnan(measure[1])
        along = tuple(range(known.ndim - 1))
        told = {"long_name": DEFINED_AS, "method": f"{defined} is a number"}
        data[names.DEFINED] = ((names.UNIT,), known.any(along).astype(np.int8), told)
        dataset = xr.Dataset(data, coords={**self._unit_coords(), **(coords or {})}, attrs=dict(attrs))
        return dataset.assign_coords(self._condition_coords()) if CONDITION in dataset.dims else dataset

    def _condition_coords(self) -> dict[str, Any]:
        factors = self._populations[0].factors
        taken = self._unit_coords()
        return {
            f"{CONDITION}_{factor}" if factor in taken else factor: (
                CONDITION,
                plain([label[place] for label in self.labels]),
            )
            for place, factor in enumerate(factors)
        }

    def _unit_coords(self) -> dict[str, Any]:
        """Coordinates of units; NaN or empty text where a population has none of a name."""
        sets = [one.dataset for one in self._populations]
        known = [
            {str(n): c.values for n, c in one.coords.items() if c.dims == (names.UNIT,) and n != names.UNIT}
            for one in sets
        ]
        found = {}
        for name in dict.fromkeys(name for of in known for name in of):
            columns = [
                of[name] if name in of else np.full(one.n_units, np.nan)
                for of, one in zip(known, self._populations, strict=True)
            ]
            if any(column.dtype.kind in "OUT" for column in columns):
                columns = [
                    np.array(["" if value != value else str(value) for value in column.tolist()], dtype=object)
                    for column in columns
                ]
            found[name] = (names.UNIT, np.concatenate(columns))
        return found


def plain(values: Sequence[Any]) -> NDArray[Any]:
    """Values as numbers, or as text where any is."""
    if any(isinstance(value, str) for value in values):
        return np.array([str(value) for value in values], dtype=object)
    return np.asarray(values)


def attrs_of(name: str, described: Described) -> dict[str, str]:
    """Attributes of a variable, also of the standard error or the ends of the interval of one."""
    for ending, what in (("_se", "standard error of the"), ("_lower", "lower end of"), ("_upper", "upper end of")):
        base = name.removesuffix(ending)
        if name.endswith(ending) and name not in described and base in described:
            long_name, method = described[base]
            return {"long_name": f"{what} {long_name}", "method": method}
    long_name, method = described[name]
    return {"long_name": long_name, "method": method}


def _adjusted(p: NDArray[np.float64], correction: str) -> NDArray[np.float64]:
    rows = p.reshape(-1, p.shape[-1])
    return np.array([adjust(row, correction) for row in rows]).reshape(p.shape)


def common_attrs(what: str, populations: Sequence[Population], **more: Any) -> dict[str, Any]:
    """Attributes of a result: what it is, of which factors, and how it was computed."""
    response = populations[0].dataset[names.RESPONSE].attrs
    window = {key: response[key] for key in ("window_start", "window_end") if key in response}
    return {
        "long_name": what,
        names.FACTORS: json.dumps(list(populations[0].factors)),
        "response_units": str(response.get("units", "")),
        **window,
        **{key: value for key, value in more.items() if value is not None},
    }
