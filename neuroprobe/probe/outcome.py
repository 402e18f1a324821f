"""The outcome of a presentation: whether the network's output is the class of the image, and how sure it is.

The output is what the network's forward pass returns: the response of the network as a module, whose address is empty.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from neuroprobe import names
from neuroprobe.errors import PlanError, SubjectError, shown, unknown_name
from neuroprobe.probe.sites import Site
from neuroprobe.protocol.subject import LayerSpec

OUTPUT: Final = ""  # address of the network among its own modules
TOP: Final = 5
REDUNDANCY: Final = "redundancy"  # which is asked of a result, in Python
# what remains where accuracies cannot be had, by the analysis that asks for them
WITHOUT: Final = {"contrast": ", or leave accuracies out by `contrast: {accuracy: false}`"}


@dataclass(frozen=True)
class Outcome:
    """What is made of the output of a network.

    Attributes
    ----------
    site : Site
        Where it is recorded.
    target : int array (images,)
        The output that stands for the class of each image.
    is_probability : bool
        Whether outputs are probabilities already; else a softmax makes them so.
    classes : tuple of str
        Class of each output.
    """

    site: Site
    target: NDArray[np.int64]
    is_probability: bool
    classes: tuple[str, ...] = ()

    @property
    def measures(self) -> tuple[str, ...]:
        """What is measured; the five largest outputs say nothing where there are no more."""
        top_5 = (names.TOP_5,) if self.site.n_units > TOP else ()
        return (names.TOP_1, *top_5, names.PROBABILITY)

    def measure(self, output: Tensor, image: NDArray[np.int64]) -> Tensor:
        """Measure outputs (n, classes) to presentations of some images (n,).

        Returns
        -------
        Tensor (n, measures)
            1 where the class is (among) the largest, else 0, and its probability; NaN where an output is not finite.
        """
        target = torch.from_numpy(self.target[image]).to(output.device)[:, None]
        own = output.gather(1, target)
        # of equal outputs the first is the larger, so that a network whose outputs are all alike is not always right
        before = torch.arange(output.shape[1], device=output.device) < target
        rank = ((output > own) | ((output == own) & before)).sum(1)
        probability = output if self.is_probability else output.softmax(1)
        found = [(rank < 1).to(output.dtype), (rank < TOP).to(output.dtype), probability.gather(1, target)[:, 0]]
        chosen = [
            one
            for one, name in zip(found, (names.TOP_1, names.TOP_5, names.PROBABILITY), strict=True)
            if name in self.measures
        ]
        finite = torch.isfinite(output).all(1, keepdim=True)
        return torch.where(finite, torch.stack(chosen, 1), torch.nan)


def find_outcome(
    network: nn.Module,
    images: Tensor,
    labels: Sequence[str | None] | None,
    classes: Sequence[str] | None = None,
    declared: Sequence[str] = (),
    analysis: str = "contrast",
) -> Outcome:
    """Find out how outputs of a network stand for the classes of images.

    Parameters
    ----------
    images : tensor (n, 3, height, width)
        A few, as the network expects them.
    labels : sequence of str
        Class of each image of the set.
    classes : sequence of str, optional
        Class of each output, as a protocol gives them.
    declared : sequence of str
        Class of each output, as the weights declare them.
    analysis : str
        Which asks for it.

    Raises
    ------
    PlanError
        If images have no classes, or they cannot be told from the outputs.
    SubjectError
        If the network does not give one number per class.
    """
    with torch.no_grad():
        output = network(images)
    if not isinstance(output, Tensor) or output.ndim != 2:
        given = tuple(output.shape[1:]) if isinstance(output, Tensor) else type(output).__name__
        raise SubjectError(
            f"accuracy: the network returns {given} per image, expected one number per class; wrap it in one that "
            f"returns these{WITHOUT.get(analysis, '')}"
        )
    n_outputs = output.shape[1]
    order = output_classes(labels, n_outputs, classes, declared, analysis)
    # declared names may stand for several outputs, but not those of the images
    number = {label: place for place, label in enumerate(order)}
    target = np.array([number[label] for label in labels or () if label is not None], dtype=np.int64)
    site = Site(OUTPUT, (names.CHANNEL,), (n_outputs,), LayerSpec(name="output"))
    whole = torch.allclose(output.sum(1), torch.ones_like(output[:, 0]), atol=1e-4)
    is_probability = whole and bool((output >= 0).all())
    return Outcome(site, target, is_probability, tuple(order))


def output_classes(
    labels: Sequence[str | None] | None,
    n_outputs: int,
    classes: Sequence[str] | None = None,
    declared: Sequence[str] = (),
    analysis: str = "contrast",
) -> list[str]:
    """Return the class that each output stands for.

    Classes are told from outputs by the first of these that there is: the classes that a protocol lists; those that
    the weights declare, where they hold all classes of the images; the classes of the images in the order of their
    names, as torchvision's ImageFolder numbers them, where there are as many as outputs.

    Raises
    ------
    PlanError
        If images have no classes, or they cannot be told from the outputs.
    """
    without = WITHOUT.get(analysis, "")
    present = [label for label in labels or () if label is not None]
    if not labels or len(present) < len(labels):
        some = f"{len(labels) - len(present)} of {len(labels)} images have" if present and labels else "images have"
        raise PlanError(f"accuracy: {some} no class; give images in one folder per class{without}")
    distinct = sorted(set(present))
    if classes is not None:
        if len(classes) != n_outputs or len(set(classes)) < len(classes):
            raise PlanError(
                f"classes: {len(set(classes))} different ones given, expected one for each of {n_outputs} outputs"
            )
        missing = next((label for label in distinct if label not in classes), None)
        if missing is not None:
            raise PlanError("classes: " + unknown_name("class of an image", missing, classes))
        return list(classes)
    if len(declared) == n_outputs and all(Counter(declared)[label] == 1 for label in distinct):
        return list(declared)
    if len(distinct) == n_outputs and not _numbered_otherwise(distinct):
        return distinct
    by = "`classes=[name, …]`" if analysis == REDUNDANCY else f"`{analysis}: {{classes: [name, …]}}`"
    listed = ", ".join(map(shown, distinct[:4])) + (", …" if len(distinct) > 4 else "")
    raise PlanError(
        f"accuracy: {len(distinct)} classes of images ({listed}) cannot be told from {n_outputs} outputs; list the "
        f"class of each output by {by}{without}"
    )


def _numbered_otherwise(distinct: Sequence[str]) -> bool:
    """Whether classes are numbers that come in another order than their names: 10 before 2."""
    return all(label.isdecimal() for label in distinct) and sorted(distinct, key=int) != list(distinct)
