"""The page of a recording's result: true to the numbers, plain about what is undefined."""

from __future__ import annotations

import json

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

import neuroprobe as npr
from made_animals import animal, trials
from made_results import make_result
from neuroprobe.analysis.anova import anova
from neuroprobe.analysis.correlations import correlations
from neuroprobe.analysis.information import information
from neuroprobe.analysis.latency import latency
from neuroprobe.recordings.build import node_of, tree_of
from neuroprobe.recordings.columns import Table
from neuroprobe.report.writer import report_page
from pages import SECTIONS, Page, has, joined

OURS = ["Units of the recording", "Tuning curves", "Reliability", "Latency and information"]
LAST = "How to read the numbers"


def percent(share: float) -> str:
    return f"{share:.1%}"


def found_of(values: np.ndarray, order: np.ndarray, **more: xr.Dataset) -> dict[str, xr.Dataset]:
    made = animal(values, {"orientation": order * 22.5}, baseline=np.ones_like(values))
    return {
        "/responsiveness": npr.responsiveness(made),
        "/anova": anova(made, "orientation"),
        "/reliability": npr.reliability(made, "orientation", n_splits=10),
        "/correlations": correlations(made, "orientation", n_splits=10),
        "/information": information(made, "orientation", n_shuffles=19),
        "/tuning/orientation": npr.tuning(made, "orientation", model="von_mises", n_draws=0),
        **more,
    }


def latencies() -> xr.Dataset:
    """Of two units, the first of which fires from 0.2 s on."""
    edges = np.linspace(-0.5, 0.5, 21)
    counts = np.random.default_rng(1).poisson(0.5, (40, 2, 20))
    counts[:, 0, 14:] += 5
    units = Table({"unit_id": np.array(["early", "silent"], dtype=object)})
    counts[:, 1] = 0
    bins = np.stack([edges[:-1], edges[1:]], axis=1)
    node = node_of(counts, Table({"kind": np.zeros(40)}), units, attrs={"units": "spikes"}, bins=bins)
    return latency(tree_of({"v1": node}), n_draws=20)


@pytest.fixture(scope="module")
def nodes() -> dict[str, xr.Dataset]:
    values, order, _, _ = trials()
    # one unit is silent, one is not tuned
    values[:, -1] = 0
    values[:, -2] = np.random.default_rng(1).poisson(5, len(values))
    return found_of(values, order, **{"/latency": latencies()})


def page_of(nodes: dict[str, xr.Dataset]) -> Page:
    """The page of a result with these nodes and what a run on a recording says of it."""
    tree = xr.DataTree.from_dict(nodes)
    held = {
        "units": 12,
        "presentations": 80,
        "regions": {"V1": 12},
        "condition_means": False,
        "factors": {"orientation": {"0.0": 10, "22.5": 10}},
    }
    protocol = {"neuroprobe": 1, "subject": {"recording": {"path": "session.nwb"}}, "analyses": ["anova"]}
    source = {"source": "session.nwb", "format": "nwb"}
    details = {"protocol": protocol, "summary": held, "recording": source, "recording_hash": "12ab"}
    tree.attrs = {"title": "mine", "kind": "recording", "seed": 3, "neuroprobe_provenance": json.dumps(details)}
    return Page(report_page(tree))


@pytest.fixture(scope="module")
def page(nodes: dict[str, xr.Dataset]) -> Page:
    return page_of(nodes)


def test_a_result_of_a_recording(page: Page) -> None:
    assert page.words["h2"] == ["Protocol", "Provenance", *OURS]
    assert has(page, "The recording session.nwb: 12 units (V1 12), 80 presentations, single trials.")
    assert has(page, "What was varied: orientation (2 values).")
    assert dict(page.table("what", "value"))["hash of the responses"] == "12ab"
    assert not plt.get_fignums()


def test_sections_stand_beside_others(nodes: dict[str, xr.Dataset]) -> None:
    other = make_result({"linear": (4,)}, examples=False)
    both = Page(report_page(joined(other, xr.DataTree.from_dict({"/anova": nodes["/anova"]}))))
    assert [title for title in both.words["h2"] if title not in SECTIONS] == OURS[:1]
    assert both.words["h2"][-2:] == [OURS[0], LAST]


def test_shares_of_significant_units(nodes: dict[str, xr.Dataset], page: Page) -> None:
    rows = {(row[0], row[1]): row[2:] for row in page.table("analysis", "a unit …")}
    for name in ("anova", "information"):
        found = nodes[f"/{name}"]
        known = np.isfinite(found["p_value"].values)
        (row,) = [cells for (said, _), cells in rows.items() if said == f"{name} (orientation)"][:1]
        shares = [percent(float((found[p].values[known] < 0.05).mean())) for p in ("p_value", "p_adjusted")]
        assert row == ["11", "1", *shares]
    assert ("tuning/orientation", "is tuned for orientation") in rows
    assert has(page, "12 units. Trials of a unit: 80.")


def test_medians_in_numbers(nodes: dict[str, xr.Dataset], page: Page) -> None:
    tuning = {row[0]: row for row in page.table("measure", "group")}
    low, middle, high = np.nanquantile(nodes["/tuning/orientation"]["osi"].values, (0.25, 0.5, 0.75))
    assert tuning["osi"][3:] == ["11", "1", f"{middle:.3f}", f"{low:.3f}", f"{high:.3f}"]
    # angles have none
    assert "preferred_orientation" not in tuning
    every = {row[0]: row for rows in page.tables if rows[0][:2] == ["measure", "group"] for row in rows[1:]}
    explained = nodes["/reliability"]["explainable_variance"].values
    assert every["explainable_variance"][5] == f"{np.nanmedian(explained):.3f}"
    assert every["latency"][3:6] == ["1", "1", f"{float(nodes['/latency']['latency'].max()):.3f}"]


def test_pictures_say_what_was_chosen(page: Page) -> None:
    captions = page.text("figcaption")
    assert "of 8 of 11 units: those whose tuning is least in doubt" in captions
    assert "indexes of selectivity are biased upwards" in captions.lower()
    assert has(page, "1 of 2 units have a latency")


def test_units_without_anything_defined_do_not_break_it() -> None:
    values, order, _, _ = trials(n_units=3)
    values[:] = 4
    nodes = {"/tuning/orientation": npr.tuning(animal(values, {"orientation": order * 22.5}), "orientation")}
    nodes["/latency"] = latencies().isel(unit=[1])
    page = page_of(nodes)
    assert has(page, "The curve of no unit varies.", "0 of 1 units have a latency")
    rows = {row[0]: row for row in page.table("measure", "group")}
    assert rows["latency"][3:] == ["0", "1", "–", "–", "–"]
