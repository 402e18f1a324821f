"""What a recording holds, in numbers and in words."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, Final

import numpy as np
import xarray as xr

from neuroprobe import names
from neuroprobe.recordings.build import MEANS
from neuroprobe.recordings.columns import listed

N_LEVELS: Final = 12  # that a summary lists; of more only their number and range


def summarise(tree: xr.DataTree) -> dict[str, Any]:
    """Return what a recording holds as plain values.

    Returns
    -------
    dict
        ``nodes``, ``units``, ``presentations`` (those of all nodes that have a table of their own), ``regions``,
        ``response`` (its units and window), ``baseline`` (whether there is one), ``bins`` (of time),
        ``condition_means``, ``columns`` of the presentation table, ``factors``: levels of each and how often they were
        shown.
    """
    nodes = [node.to_dataset() for node in tree[names.RESPONSES].children.values()]
    first = nodes[0]
    attrs = first[names.RESPONSE].attrs
    together = len(nodes) == 1 or bool(tree.to_dataset().coords)
    tables = nodes[:1] if together else nodes
    factors = json.loads(tree.attrs.get(names.FACTORS, "[]"))
    regions = Counter(
        str(one) for node in nodes if names.REGION in node.coords for one in node[names.REGION].values.tolist()
    )
    return {
        "nodes": len(nodes),
        "units": sum(node.sizes.get(names.UNIT, 0) for node in nodes),
        "presentations": sum(node.sizes[names.PRESENTATION] for node in tables),
        "regions": dict(regions),
        "response": {key: _plain(attrs[key]) for key in ("units", "window_start", "window_end") if key in attrs},
        "baseline": names.BASELINE in first,
        "bins": first.sizes.get(names.TIME_BIN, 0),
        "condition_means": attrs.get("responses") == MEANS,
        "columns": [str(name) for name, coord in first.coords.items() if coord.dims == (names.PRESENTATION,)],
        # factors of a design have several columns, or none of their name
        "factors": {
            name: _levels([table[name].values for table in tables]) if all(name in table for table in tables) else {}
            for name in factors
        },
    }


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _levels(columns: list[Any]) -> dict[str, int]:
    values = [value for column in columns for value in column.tolist()]
    known = [value for value in values if value != "" and value == value]  # NaN is not itself
    return {str(level): n for level, n in sorted(Counter(known).items())}


def described(tree: xr.DataTree) -> str:
    """Return what a recording holds as lines of text."""
    found = summarise(tree)
    where = ", ".join(f"{region or 'unknown'} ({n})" for region, n in found["regions"].items())
    separate = "" if found["nodes"] == 1 else f" in {found['nodes']} sessions or populations"
    units = f"{found['units']:,} units{separate}" + (f": {where}" if where else "")
    what = "condition means" if found["condition_means"] else "presentations"
    response = found["response"]
    window = f" from {response['window_start']:g} to {response['window_end']:g} s" if "window_start" in response else ""
    bins = f" in {found['bins']} bins" if found["bins"] else ""
    lines = [
        units,
        f"{found['presentations']:,} {what}; columns {', '.join(found['columns'])}",
        f"responses in {response.get('units', 'response units')}{window}{bins}"
        + ("; baselines beside them" if found["baseline"] else ""),
    ]
    for name, levels in found["factors"].items():
        few = len(levels) <= N_LEVELS
        told = ", ".join(f"{level} ({n})" for level, n in levels.items()) if few else listed(levels)
        lines.append(f"factor {name}: {told}" if levels else f"factor {name}, of a design")
    return "\n".join(lines)
