"""One self-contained HTML page per result: it opens offline, with pictures inside."""

from __future__ import annotations

import base64
import html
import io
import json
import os
from pathlib import Path
from typing import Any, Final

import holoviews as hv
import xarray as xr
import yaml

from neuroprobe import names
from neuroprobe.analysis.sensitivity import recorded_order
from neuroprobe.plot import depth_profile, index_maps
from neuroprobe.store import open_result, require_file_name, write_text
from neuroprobe.summary import Status, status

DPI: Final = 110
STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
img { max-width: 100%; } table { border-collapse: collapse; } td, th { padding: .15rem .7rem; text-align: right; }
th { border-bottom: 1px solid #888; } td:first-child, th:first-child { text-align: left; }
pre { background: #f5f5f5; padding: .7rem; overflow-x: auto; } .warning { background: #fff3cd; padding: .3rem .7rem; }
"""


def write_report(store: str | os.PathLike[str], output: str | os.PathLike[str]) -> None:
    """Write the page of a result.

    Parameters
    ----------
    store : path
        Of the result.
    output : path
        Of the page; it appears when it is whole.
    """
    output = Path(output)
    result, state = open_result(store), status(store)
    require_file_name(output)
    details = json.loads(result.attrs[names.PROVENANCE])
    parts = [
        f"<h1>{html.escape(result.attrs['title'] or 'neuroprobe')}</h1>",
        _summary(result, details),
        *(f"<p class=warning>{html.escape(text)}</p>" for text in details["warnings"]),
        "<h2>Depth profile</h2>",
        *(_picture(depth_profile(result, index)) for index in (names.FIRST_ORDER, names.TOTAL_ORDER)),
        _table(state),
        "<h2>Maps</h2>",
        "<p>Share of the variance that a factor explains alone, at every unit of the channels that depend on it most. "
        "White: units without variance. Single values carry the standard errors of the table.</p>",
        *(_picture(index_maps(result, layer)) for layer in _spatial_layers(result)),
        "<h2>Protocol</h2>",
        f"<pre>{html.escape(yaml.safe_dump(details.pop('protocol'), sort_keys=False, allow_unicode=True))}</pre>",
        "<h2>Provenance</h2>",
        f"<pre>{html.escape(yaml.safe_dump(details, allow_unicode=True))}</pre>",
    ]
    page = f"<!doctype html><html lang=en><head><meta charset=utf-8><title>{html.escape(result.attrs['title'])}</title>"
    write_text(output, f"{page}<style>{STYLE}</style></head><body>{''.join(parts)}</body></html>")


def _summary(result: xr.DataTree, details: dict[str, Any]) -> str:
    samples, rows = result.attrs["samples"], result.attrs["rows"]
    units = sum(node[names.DEFINED].size for node in result["sobol"].children.values())
    undefined = sum(node.attrs["n_undefined"] for node in result["sobol"].children.values())
    return (
        f"<p>{samples:,} base samples × {rows} rows, {details['n_images']:,} images, {units:,} units of "
        f"{len(result['sobol'].children)} layers; {undefined:,} units without variance are left out.</p>"
    )


def _table(state: Status) -> str:
    head = "<tr><th>layer<th>factor<th>S1<th>standard error<th>ST<th>standard error</tr>"
    keys = (names.FIRST_ORDER, names.se(names.FIRST_ORDER), names.TOTAL_ORDER, names.se(names.TOTAL_ORDER))
    rows = (
        f"<tr><td>{html.escape(row['layer'])}<td>{html.escape(row['factor'])}"
        + "".join(f"<td>{row[key]:.3f}" for key in keys)
        for row in state.layers
    )
    return f"<table>{head}{''.join(rows)}</table><p>Medians over the units of a layer.</p>"


def _spatial_layers(result: xr.DataTree) -> list[str]:
    sobol = result.children["sobol"]
    return [layer for layer in recorded_order(sobol) if names.Y in sobol.children[layer].dims]


def _picture(element: hv.Dimensioned) -> str:
    """Render an element as an inlined PNG."""
    import matplotlib.pyplot as plt

    figure = hv.render(element, backend="matplotlib")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, bbox_inches="tight")
    plt.close(figure)
    title = hv.Store.lookup_options("matplotlib", element, "plot").kwargs.get("title", "")
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return f'<p><img alt="{html.escape(str(title))}" src="data:image/png;base64,{encoded}"></p>'
