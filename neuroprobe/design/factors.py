"""Factors: groups of scalar inputs that are swapped together between the two points of a base sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuroprobe.design.laws import Law

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Input:
    """One scalar input: the name of its coordinate in the presentation table, and its law."""

    name: str
    law: Law


@dataclass(frozen=True)
class Factor:
    """A group of inputs that counts as one factor.

    Parameters
    ----------
    name : str
        Label of the factor in results.
    inputs : tuple of Input
        Constant ones are allowed beside varying ones; they take no dimension of the design.
    switched : bool
        Whether the first input is an on/off switch: where it is off, the others have no effect.
    """

    name: str
    inputs: tuple[Input, ...]
    switched: bool = False

    @property
    def varying(self) -> tuple[Input, ...]:
        """The inputs that take a dimension of the design."""
        return tuple(item for item in self.inputs if not item.law.constant)

    @property
    def players(self) -> tuple[Factor, ...]:
        """A factor for each varying input by itself, named after it; the constant ones go with the first."""
        first, *others = self.varying
        constant = (item for item in self.inputs if item.law.constant)
        return Factor(first.name, (first, *constant)), *(Factor(item.name, (item,)) for item in others)

    def same(self, a: Mapping[str, Array], b: Mapping[str, Array]) -> NDArray[np.bool_]:
        """Where points have the same *effective* value of this factor; arrays of inputs are broadcast."""
        names = [item.name for item in self.inputs]
        if not self.switched:
            return _all_equal(names, a, b)
        switch, *others = names
        both_off = (a[switch] == 0) & (b[switch] == 0)
        return both_off | (_all_equal(others, a, b) & (a[switch] == b[switch]))


def _all_equal(names: Sequence[str], a: Mapping[str, Array], b: Mapping[str, Array]) -> NDArray[np.bool_]:
    # an empty list of names means that nothing can differ
    return np.asarray(np.logical_and.reduce([a[name] == b[name] for name in names]))
