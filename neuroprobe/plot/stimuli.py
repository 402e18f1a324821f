"""Pictures of what was shown."""

from __future__ import annotations

import re
import textwrap
from typing import Final

import holoviews as hv
import numpy as np
import xarray as xr

from neuroprobe import names
from neuroprobe.analysis.overview import stored_examples
from neuroprobe.errors import ReaderError
from neuroprobe.plot.panels import Panels
from neuroprobe.plot.style import FONT, LETTER, plain_axes, texts

INCHES: Final = 1.05  # side of a stimulus
LETTERS: Final = 19  # of a line of a caption
MAX_LINES: Final = 5
LINE: Final = 0.115  # height of a line, in sides of a stimulus
FINE: Final = 100  # px of a stimulus whose pixels are not told apart
MOST: Final = 4  # images that stand one above the other


def stimulus_sheet(result: xr.DataTree, n_columns: int = 8) -> hv.Overlay:
    """Sheet of generated stimuli, spread evenly over the set, each with what was varied below it.

    Parameters
    ----------
    result : xarray.DataTree
        As `neuroprobe.open_result` opens it.
    n_columns : int
        Stimuli that stand side by side.

    Returns
    -------
    holoviews.Overlay
        Stimuli as they were shown, in the order of the set: of several generators one after the other.

    Raises
    ------
    ReaderError
        If the result holds no examples, or its stimuli were not generated.
    """
    examples = stored_examples(result)
    if names.SETTINGS not in examples:
        raise ReaderError("these stimuli were not generated: take `plot.stimulus_examples`")
    shown = examples.isel({names.TREATMENT: 0})
    stimuli = shown[names.STIMULUS].transpose(names.IMAGE, names.Y, names.X, names.COLOUR).values
    texts_ = [
        text or name for text, name in zip(shown[names.SETTINGS].values, shown[names.IMAGE_ID].values, strict=True)
    ]
    # a number stands in one line with its unit
    whole = [re.sub(r"(?<=\d) ", "\N{NO-BREAK SPACE}", text) for text in texts_]
    lines = [[part for one in text.split(", ") for part in textwrap.wrap(one, LETTERS)] for text in whole]
    height = stimuli.shape[1] / stimuli.shape[2]
    below = LINE * max(map(len, lines)) + 0.08
    panels = Panels(len(stimuli), 1.0, height, right=0.15, above=0.06, below=below, n_columns=n_columns)
    corners = [panels.corner(number) for number in range(len(stimuli))]
    pictures = [
        hv.RGB(one, bounds=(left, bottom, left + 1, bottom + height)).opts(
            interpolation="nearest" if len(one) < FINE else "antialiased", backend="matplotlib"
        )
        for one, (left, bottom) in zip(stimuli, corners, strict=True)
    ]
    captions = [(left, bottom - 0.04, "\n".join(one)) for (left, bottom), one in zip(corners, lines, strict=True)]
    return hv.Overlay([*pictures, texts(captions, horizontalalignment="left", verticalalignment="top", size=6.5)]).opts(
        title=f"{len(stimuli)} stimuli, spread evenly over the set",
        yaxis=None,
        hooks=[plain_axes],
        **panels.options(INCHES, INCHES),
    )


def stimulus_examples(result: xr.DataTree) -> hv.Overlay:
    """Examples of the stimuli: a column per treatment, the control first, in it one image above the other.

    Parameters
    ----------
    result : xarray.DataTree
        As `neuroprobe.open_result` opens it.

    Returns
    -------
    holoviews.Overlay
        Stimuli; below them the image's name in the column of the control, and the values of the parameters in others.

    Raises
    ------
    ReaderError
        If the result holds no examples.
    """
    examples = stored_examples(result)
    n_images = examples.sizes[names.IMAGE]
    examples = examples.isel({names.IMAGE: np.linspace(0, n_images - 1, min(n_images, MOST)).round().astype(int)})
    stimuli = examples[names.STIMULUS].transpose(names.TREATMENT, names.IMAGE, names.Y, names.X, names.COLOUR).values
    said = examples[names.PARAMETERS].transpose(names.TREATMENT, names.IMAGE).values.astype(object)
    said[0] = examples[names.IMAGE_ID].values
    lines = [[textwrap.wrap(text, LETTERS, max_lines=MAX_LINES, placeholder=" …") for text in each] for each in said]
    n_images, height, width = stimuli.shape[1:4]
    # the captions take whole rows of pixels, so that all images of a treatment are one picture
    room = round(width * (LINE * max(len(one) for each in lines for one in each) + 0.1))
    columns = np.pad(stimuli, ((0, 0), (0, 0), (0, room), (0, 0), (0, 0)), constant_values=255)
    columns = columns.reshape(len(stimuli), n_images * (height + room), width, 3)
    panels = Panels(len(stimuli), 1.0, columns.shape[1] / width, right=0.12, above=0.3, n_columns=7)
    pictures, heads, captions = [], [], []
    for number, treatment in enumerate(examples[names.TREATMENT].values):
        left, bottom = panels.corner(number)
        top = bottom + panels.height
        picture = hv.RGB(columns[number], bounds=(left, bottom, left + 1, top))
        pictures.append(picture.opts(interpolation="antialiased", backend="matplotlib"))
        heads.append((left + 0.5, top + 0.03, str(treatment)))
        captions += [
            (left, top - (image * (height + room) + height) / width - 0.04, "\n".join(text))
            for image, text in enumerate(lines[number])
        ]
    elements = [
        *pictures,
        texts(heads, size=min(FONT, FONT * (INCHES + 0.1) / LETTER / max(len(head) for _, _, head in heads))),
        texts(captions, horizontalalignment="left", verticalalignment="top", size=6.5),
    ]
    return hv.Overlay(elements).opts(
        title="examples of the stimuli", yaxis=None, hooks=[plain_axes], **panels.options(INCHES, INCHES)
    )
