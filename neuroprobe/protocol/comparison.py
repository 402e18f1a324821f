"""Comparisons in a protocol: with which brains or networks, by which metric, and what lesions do to them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Self

from pydantic import BeforeValidator, Field, PositiveInt, ValidationInfo, model_validator

from neuroprobe.errors import shown, unknown_name
from neuroprobe.protocol.lesion import Factor_, Layers
from neuroprobe.protocol.model import AnalysisSpec, Model, RelativePath, problem, problem_at

# those of recordings; profiles are of results
METRICS: Final = ("rsa", "cka", "pls", "ridge", "ridge_cv", "linear", "neuron_to_neuron")
MOST_RANDOM: Final = 9999


def _metric(value: Any) -> Any:
    if value == "profiles":
        raise problem(
            "metric: profiles compares results, which are there when runs have ended: "
            "`neuroprobe compare a.zarr b.zarr --metric profiles`"
        )
    if value not in METRICS:
        raise problem(unknown_name("metric", str(value), METRICS))
    return value


def _named(value: Any, info: ValidationInfo) -> Any:
    """Give a path alone the name of its file."""
    if isinstance(value, str) and value:
        return {Path(value).stem: value}
    if isinstance(value, dict) and value:
        return value
    raise problem(f"with: given {shown(value)}, expected the path of a recording, or {{name: path, …}}")


class NearestOptions(Model):
    """Lesions of the units that are nearest to a brain's, and of as many at random.

    Attributes
    ----------
    share : float
        Of the units of each layer that is lesioned.
    layers : list of str, optional
        Those that are lesioned; by default the one that scores best on the stimuli by which units are chosen.
    multiply : float
        By what responses of these units are multiplied.
    random : int
        Sets of as many units that are drawn at random, each of which is recorded too.
    """

    share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    layers: Layers | None = None
    multiply: Factor_ = 0.0
    random: Annotated[PositiveInt, Field(le=MOST_RANDOM)] = 19


class CompareOptions(Model):
    """How alike the recorded layers are to recordings of brains, or of other networks.

    Attributes
    ----------
    recordings : dict of str
        Written as ``with``: path of a recording, or of dissimilarities; or several by name.
    metric : str
    on, join, units_model, units_brain, areas
        As of `neuroprobe.compare`.
    labels : str, optional
        Path of a text file that says what the stimuli of dissimilarities are called, one in a line, in their order.
    options : dict
        Of the metric, as of `neuroprobe.compare`.
    lesion : NearestOptions, optional
        What is recorded again under lesions, and compared again.
    """

    recordings: Annotated[dict[str, RelativePath], BeforeValidator(_named)] = Field(alias="with")
    metric: Annotated[str, BeforeValidator(_metric)] = "rsa"
    on: Annotated[str, Field(min_length=1)] | None = None
    join: Annotated[str, Field(pattern="^(exact|inner)$")] = "exact"
    units_model: Annotated[str, Field(min_length=1)] | None = None
    units_brain: Annotated[str, Field(min_length=1)] | None = None
    areas: Annotated[str, Field(min_length=1)] | None = None
    labels: RelativePath | None = None
    options: dict[str, bool | int | float | str] = Field(default_factory=dict)
    lesion: NearestOptions | None = None

    @model_validator(mode="after")
    def _plain_names(self) -> Self:
        for name in self.recordings:
            if not name or "/" in name:
                message = f"with: given the name {shown(name)}, expected one without '/', which results are told by"
                raise problem_at(("with",), message, self.recordings)
        return self


class CompareSpec(AnalysisSpec):
    """How alike the recorded layers are to other recordings."""

    name: ClassVar[str] = "compare"
    compare: CompareOptions
