"""Pictures of what was shown."""

from __future__ import annotations

import textwrap
from typing import Final

import holoviews as hv
import numpy as np
import xarray as xr

from neuroprobe import names
from neuroprobe.analysis.overview import stored_examples
from neuroprobe.plot.panels import Panels
from neuroprobe.plot.style import FONT, LETTER, plain_axes, texts

INCHES: Final = 1.05  # side of a stimulus
LETTERS: Final = 19  # of a line of a caption
MAX_LINES: Final = 5
LINE: Final = 0.115  # height of a line, in sides of a stimulus


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
