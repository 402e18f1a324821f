"""A result as the sections of its page see it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import holoviews as hv
import numpy as np
import xarray as xr

from neuroprobe import names
from neuroprobe.analysis import overview
from neuroprobe.analysis.effects import contrast_table
from neuroprobe.analysis.lesion_effects import masking_places
from neuroprobe.analysis.moments import moments_table
from neuroprobe.analysis.selectivity_overview import selectivity_layers, selectivity_of
from neuroprobe.analysis.sensitivity import depth_profiles
from neuroprobe.plot.style import png
from neuroprobe.report.page import Picture

DPI: Final = 120
MAX_LAYERS: Final = 16  # that are drawn one by one; tables hold all


@dataclass(frozen=True)
class View:
    """A result with what several sections say of it."""

    tree: xr.DataTree

    @cached_property
    def details(self) -> dict[str, Any]:
        """Provenance."""
        return dict(json.loads(self.tree.attrs[names.PROVENANCE]))

    @cached_property
    def counts(self) -> xr.Dataset:
        """Units of the layers."""
        return overview.unit_counts(self.tree)

    @cached_property
    def values(self) -> list[str]:
        """Indices of single factors that there are, or none beside moments and contrasts."""
        return overview.single_indices(self.tree) if self.has("sobol") or self.has("shapley") else []

    def has(self, group: str) -> bool:
        """Whether there is a group of the result."""
        return group in self.tree.children

    def places(self, group: str) -> list[str]:
        """Places where lesions were made, in the order of the protocol; none without that group."""
        return masking_places(self.tree, group) if self.has(group) else []

    @cached_property
    def contrasts(self) -> xr.Dataset:
        """Contrasts of the layers in numbers."""
        return contrast_table(self.tree)

    @property
    def contrast_attrs(self) -> dict[str, Any]:
        """What the contrasts of any layer say of all."""
        return next(iter(self.tree.children["contrast"].children.values())).to_dataset().attrs

    @property
    def places_of_lesions(self) -> list[str]:
        """Places where any lesion was made."""
        return [place for group in (names.MASKING, names.SINGLE_CLASS) for place in self.places(group)]

    @property
    def selectivity_attrs(self) -> dict[str, Any]:
        """What is known of the selectivity of any layer, and said of all."""
        return selectivity_of(self.tree, selectivity_layers(self.tree)[0]).attrs

    @cached_property
    def moments(self) -> xr.Dataset:
        """Median moments of the layers."""
        return moments_table(self.tree)

    @property
    def is_recording(self) -> bool:
        """Whether a protocol's analyses were made of a recording, an animal's or a stored one."""
        return bool(self.tree.attrs.get("kind") == "recording")

    @property
    def is_pick_freeze(self) -> bool:
        """Whether the alterations were shown together, not each alone only."""
        return bool(self.values) or self.has("moments")

    @property
    def main(self) -> str:
        """Index by which units are chosen."""
        return self.values[0]

    @cached_property
    def medians(self) -> xr.Dataset:
        """Medians over units of the indices of single factors and of their errors: (layer, factor)."""
        tables = [
            depth_profiles(overview.index_group(self.tree, value))[[value, names.se(value)]] for value in self.values
        ]
        return xr.merge(tables, join="outer", compat="equals").sel({names.QUANTILE: 0.5})

    @cached_property
    def layers(self) -> list[str]:
        """All layers, in the order of recording."""
        return [str(layer) for layer in (self.counts if self.is_pick_freeze else self.contrasts)[names.LAYER].values]

    @cached_property
    def factors(self) -> list[str]:
        """Factors of the design."""
        return [str(factor) for factor in json.loads(self.tree.attrs[names.FACTORS])]

    @cached_property
    def drawn(self) -> list[str]:
        """Layers that are drawn one by one: all, or some that are spread over the depth."""
        chosen = np.linspace(0, len(self.layers) - 1, min(MAX_LAYERS, len(self.layers))).round().astype(int)
        return [self.layers[i] for i in chosen]

    def indices(self, layer: str) -> xr.Dataset:
        """Indices of a layer."""
        return overview.layer_indices(self.tree, layer)

    def numbers(self, layers: Sequence[str]) -> tuple[int, int]:
        """Units of some layers, and those of them that have an index."""
        counts = self.counts.sel({names.LAYER: list(layers)})
        return int(counts[names.N_UNITS].sum()), int(counts[names.N_DEFINED].sum())

    def units(self, layers: Sequence[str]) -> str:
        """Say how many units a picture shows, and how many were left out."""
        n_units, n_defined = self.numbers(layers)
        if n_units == n_defined:
            return f"Shown are all {n_units:,} units."
        return f"Shown are {n_defined:,} of {n_units:,} units; {n_units - n_defined:,} without an index are left out."

    def of(self, layer: str) -> str:
        """Say how many units the strongest were chosen from."""
        n_units, n_defined = self.numbers([layer])
        return f"{n_defined:,} units" + (f" of {n_units:,}, the others have no index" if n_units > n_defined else "")

    def left_out(self) -> str:
        """Say which layers a picture leaves out."""
        if self.drawn == self.layers:
            return ""
        return f"{len(self.drawn)} of {len(self.layers)} layers, spread over the depth, are drawn; tables hold all."


def picture(element: hv.Dimensioned, caption: str) -> Picture:
    """Render an element, with a caption."""
    title = hv.Store.lookup_options("matplotlib", element, "plot").kwargs["title"]
    content, width = png(element, DPI)
    return Picture(content, round(width * 96 / DPI), str(title), caption)
