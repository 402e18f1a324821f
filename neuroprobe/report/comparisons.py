"""Section about how alike the recorded layers are to brains, or to other networks."""

from __future__ import annotations

from collections.abc import Iterator

import xarray as xr

from neuroprobe import plot
from neuroprobe.comparison.findings import GROUP, OF_LESIONS, OF_SCORES, comparison_rows, comparisons_of
from neuroprobe.report.findings import decimal
from neuroprobe.report.page import Part, Table, Text
from neuroprobe.report.view import View, picture


def is_compared(one: View) -> bool:
    """Whether the result holds comparisons."""
    return one.has(GROUP)


def comparisons(one: View) -> Iterator[Part]:
    """Scores of the layers under their ceilings, and what lesions of the nearest units do."""
    rows = comparison_rows(one.tree)
    for name, found, lesion in comparisons_of(one.tree):
        attrs = found.attrs
        yield Text(name, "heading")
        yield Text(f"{attrs['metric']}: {attrs['definition']}.")
        yield picture(
            plot.layer_scores(found),
            "Scores of the layers with intervals of 95 %; the band, or the dashed line, is how well a brain predicts "
            "itself. A star: p < .05, corrected for the number of layers. The best layer of a picture is not the score "
            "to report: it was chosen by the same stimuli.",
        )
        of_brain = [row for row in rows if row["brain"] == name]
        yield Table(
            "Scores" + (f", {_chosen(found)}" if "held_out_score" in found else "") + ".",
            ["layer", "score", "from", "to", "p, corrected"],
            [[row["layer"], *(decimal(row[key]) for key in OF_SCORES)] for row in of_brain],
        )
        if lesion is None:
            continue
        yield picture(
            plot.lesion_drops(lesion),
            f"{lesion.attrs['share']:.0%} of the units of a layer were lesioned: those that are nearest to the brain's "
            f"on {lesion.attrs['n_choosing']} stimuli (large), and as many at random (small). Scores are of the "
            f"{lesion.attrs['n_scoring']} other stimuli.",
        )
        yield Table(
            f"Scores that are lost; p: share of {lesion.attrs['n_random']} random sets that lose as much, add-one.",
            ["layer", "nearest units", "at random", "sd", "p, corrected"],
            [[row["layer"], *(decimal(row[key]) for key in (*OF_LESIONS[:3], "drop_p_adjusted"))] for row in of_brain],
        )


def _chosen(found: xr.Dataset) -> str:
    score = found["held_out_score"]
    return f"and {decimal(float(score))} of the layer that one half of the stimuli chooses, on the other half"
