"""Noise in a protocol: what makes presentations of one stimulus to a network differ, as trials of an animal do."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import BeforeValidator, Discriminator, Field, PositiveFloat, Tag

from neuroprobe.errors import closest, shown
from neuroprobe.protocol.model import Model, problem

KINDS: Final = ("poisson", "gaussian", "dropout")


class PoissonOptions(Model):
    """Counts around responses, which are rates.

    Attributes
    ----------
    scale : float
        Mean count of a response of 1.
    negative : str
        Whether responses below 0, which are no rates, are refused, or count as 0.
    """

    scale: PositiveFloat = 1.0
    negative: Literal["refuse", "clip"] = "refuse"


class GaussianOptions(Model):
    """Normal noise, the same for all units of a layer.

    Attributes
    ----------
    sd : float
        In units of the layer's own standard deviation over stimuli (root mean square over its units).
    """

    sd: PositiveFloat = 1.0


class DropoutOptions(Model):
    """Dropout while the network responds: what is left is made larger, as in training.

    Attributes
    ----------
    at : list of str, optional
        Layers whose outputs are dropped; by default the network's own modules of dropout.
    p : float, optional
        Probability that a value is dropped; by default that of each module of dropout.
    """

    at: Annotated[list[str], Field(min_length=1)] | None = None
    p: Annotated[float, Field(gt=0, lt=1)] | None = None


class NoiseSpec(Model):
    """One kind of noise with its options."""

    name: ClassVar[str]

    @property
    def options(self) -> Model:
        """Options of the noise."""
        found: Model = getattr(self, self.name)
        return found


class PoissonSpec(NoiseSpec):
    """Poisson noise of recorded layers."""

    name: ClassVar[str] = "poisson"
    poisson: PoissonOptions


class GaussianSpec(NoiseSpec):
    """Gaussian noise of recorded layers."""

    name: ClassVar[str] = "gaussian"
    gaussian: GaussianOptions


class DropoutSpec(NoiseSpec):
    """Dropout within the network."""

    name: ClassVar[str] = "dropout"
    dropout: DropoutOptions


def _kind(value: Any) -> str:
    return value.name if isinstance(value, NoiseSpec) else next(iter(value))


def _known(value: Any) -> Any:
    """Turn a bare name into a block, and refuse an unknown one."""
    if isinstance(value, str) and value in KINDS:
        return {value: {}}
    if isinstance(value, NoiseSpec) or (isinstance(value, dict) and len(value) == 1 and next(iter(value)) in KINDS):
        return value
    given = ", ".join(map(str, value)) if isinstance(value, dict) else value
    raise problem(
        f"noise: given {shown(given)}{closest(given, KINDS)}, expected {', '.join(KINDS)}, or one with its options: "
        "{poisson: {scale: 10}}"
    )


AnyNoise = Annotated[
    Annotated[PoissonSpec, Tag("poisson")]
    | Annotated[GaussianSpec, Tag("gaussian")]
    | Annotated[DropoutSpec, Tag("dropout")],
    Discriminator(_kind),
    BeforeValidator(_known),
]
