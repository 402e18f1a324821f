"""Examples of the stimuli of a run: some images as they are, under each alteration alone, and under all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from neuroprobe import names
from neuroprobe.packing import Design
from neuroprobe.protocol.alteration import spelled
from neuroprobe.stimuli.images import ImageSet
from neuroprobe.stimuli.treatment import Applied, Treatment

N_IMAGES: Final = 4
N_GENERATED: Final = 24  # of a set that generators draw, about
ALL: Final = "all"
SIGNS: Final = {"degrees": "°", "cycles/degree": " cycles/°", "1": ""}  # for units
NO_SETTINGS: Final = (names.IMAGE_ID, names.CLASS_LABEL, names.SOURCE, names.GENERATOR)


def example_stimuli(
    treatment: Treatment, images: ImageSet, design: Design, device: torch.device | str = "cpu"
) -> xr.Dataset:
    """Show what the treatment does to a few images that are spread over the set; or more that are generated, as shown.

    Parameters
    ----------
    design : PickFreeze or TreatmentControl
        The parameters are those of the first row of its first base samples, one for each image; every switch is
        turned on.

    Returns
    -------
    Dataset
        ``stimulus(treatment, image, y, x, colour)`` in uint8, and the ``parameters(treatment, image)`` in words.
        The first treatment is the control, the last applies all alterations together, where there are any. Where images
        are generated, ``settings(image)`` says in words what was varied, and to what.
    """
    columns = images.columns
    drawn = np.array(columns.get(names.GENERATOR, [""] * len(images)), dtype=object)
    is_generated = bool((drawn != "").any())
    as_they_are = is_generated and not treatment.applied
    index = _of_each(drawn) if as_they_are else _spread(len(images), N_IMAGES)
    n = len(index)
    first = design.presentations(0, n)
    values = {name: torch.from_numpy(value[:, 0]).to(device) for name, value in first.values.items()}
    key = torch.from_numpy(first.key[:, 0]).to(device)
    shown = images.load(index).to(device)
    applied = [one.name for one in treatment.applied if not one.of_control]
    of_control = [one.name for one in treatment.applied if one.of_control]
    together = [applied] if applied else []
    labels = [names.CONTROL, *applied, *([ALL] if applied else [])]
    switched_on = [of_control, *([name] for name in applied), *together]
    stimuli = [
        treatment.apply(
            shown,
            values
            | {
                names.switch(one.name): torch.full((n,), float(one.name in chosen), device=device)
                for one in treatment.applied
            },
            key,
        )
        for chosen in switched_on
    ]
    order = treatment.order(values, len(key)).tolist()
    words = {one.name: _in_words(one, values, treatment.reference) for one in treatment.applied}
    in_words = [
        [" ".join(each) for each in zip([""] * n, *(words[name] for name in of_control), strict=True)],
        *(words[name] for name in applied),
        *(
            [f"as alone, in the order {', '.join(applied[i] for i in each if i < len(applied))}" for each in order]
            for _ in together
        ),
    ]
    coords = {
        names.TREATMENT: np.array(labels, dtype=object),
        names.COLOUR: np.array(["red", "green", "blue"], dtype=object),
        names.IMAGE_ID: (names.IMAGE, np.array([images.ids[i] for i in index], dtype=object)),
    }
    if images.labels is not None:
        coords[names.CLASS_LABEL] = (names.IMAGE, np.array([images.labels[i] for i in index], dtype=object))
    if is_generated:
        coords[names.SETTINGS] = (names.IMAGE, np.array(_settings(columns, drawn, images.units)[index], dtype=object))
    return xr.Dataset(
        {
            names.STIMULUS: (
                (names.TREATMENT, names.IMAGE, names.Y, names.X, names.COLOUR),
                np.stack([_as_bytes(one) for one in stimuli]),
                {"long_name": "stimulus, before it is standardised for the network"},
            ),
            names.PARAMETERS: (
                (names.TREATMENT, names.IMAGE),
                np.array(in_words, dtype=object),
                {"long_name": "values of the parameters that are shown"},
            ),
        },
        coords,
    )


def _spread(n: int, n_chosen: int) -> NDArray[np.int64]:
    """Numbers that are spread evenly over 0 to n - 1."""
    return np.linspace(0, n - 1, min(n, n_chosen)).round().astype(np.int64)


def _of_each(drawn: NDArray[Any]) -> NDArray[np.int64]:
    """Numbers of images, of each generator as its share of the set, but some of each."""
    kinds = list(dict.fromkeys(drawn.tolist()))
    least = max(1, N_GENERATED // (2 * len(kinds)))
    found = []
    for kind in kinds:
        own = np.flatnonzero(drawn == kind)
        found.append(own[_spread(len(own), max(least, round(N_GENERATED * len(own) / len(drawn))))])
    return np.concatenate(found)


def _settings(columns: Mapping[str, Any], drawn: NDArray[Any], units: Mapping[str, str]) -> NDArray[Any]:
    """What was varied among the stimuli of each image's generator, and to what; which one, where there are several."""
    kinds = list(dict.fromkeys(drawn.tolist()))
    said: list[list[str]] = [[kind] if len(kinds) > 1 and kind else [] for kind in drawn.tolist()]
    for name, given in columns.items():
        values = np.asarray(given, dtype=object if isinstance(given, list) else np.float64)
        if name in NO_SETTINGS:
            continue
        unit = units.get(name, "")
        sign = SIGNS.get(unit, f" {unit}" if unit else "")
        for kind in kinds:
            own = np.flatnonzero(drawn == kind)
            known = [at for at in own.tolist() if values[at] == values[at] and values[at] != ""]
            if len({values[at] for at in known}) > 1:
                for at in known:
                    written = values[at] if isinstance(values[at], str) else f"{values[at]:g}{sign}"
                    said[at].append(f"{name.replace('_', ' ')} {written}")
    return np.array([", ".join(words) for words in said], dtype=object)


def _in_words(one: Applied, values: dict[str, Tensor], reference: float | None) -> list[str]:
    """Write the parameters of one alteration, for each image."""
    columns = []
    for name, parameter in one.alteration.parameters.items():
        scaled = f" of {reference:g}" if parameter.is_length and reference is not None else ""
        units = "" if parameter.units == "1" else f" {parameter.units}{scaled}"
        drawn = values[names.parameter(one.name, name)].tolist()
        written = [spelled(parameter.words[int(v)]) if parameter.words else f"{v:.3g}{units}" for v in drawn]
        columns.append([f"{name} {text}" for text in written])
    return (
        [", ".join(row) for row in zip(*columns, strict=True)] if columns else [""] * len(next(iter(values.values())))
    )


def _as_bytes(images: Tensor) -> np.ndarray:
    return (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
