"""What ``BinnedAlignedSpikes`` is, as a file tells it to readers that have not installed ndx-binned-spikes."""

from __future__ import annotations

import json
from typing import Any, Final

from neuroprobe.recordings.binned_nwb import BINNED, BINNED_NAMESPACE, OFFSET, TIMESTAMPS, WIDTH

VERSION: Final = "0.3.1"  # of the extension, whose names and types these are
SOURCE: Final = "ndx-binned-spikes.extensions"


def _attribute(name: str, dtype: str, doc: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "dtype": dtype, "doc": doc, **more}


def _dataset(name: str, dtype: str, dims: tuple[str, ...], doc: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "dtype": dtype, "dims": list(dims), "shape": [None] * len(dims), "doc": doc, **more}


def _definition() -> dict[str, Any]:
    optional = {"quantity": "?"}
    return {
        "neurodata_type_def": BINNED,
        "neurodata_type_inc": "NWBDataInterface",
        "default_name": BINNED,
        "doc": "Spikes in bins of time around events.",
        "attributes": [
            _attribute("name", "text", "Name of this container.", value=BINNED),
            _attribute("description", "text", "What the data are.", value="Spikes in bins of time around events."),
            _attribute(WIDTH, "float64", "Width of a bin in ms."),
            _attribute(
                OFFSET,
                "float64",
                "From an event to the start of the first bin, in ms.",
                default_value=0.0,
                required=False,
            ),
        ],
        "datasets": [
            _dataset("data", "numeric", ("num_units", "number_of_events", "number_of_bins"), "Spikes of each bin."),
            _dataset(TIMESTAMPS, "float64", ("number_of_events",), "Times of the events in s."),
            _dataset("condition_indices", "uint64", ("number_of_events",), "Condition of each event.", **optional),
            _dataset("condition_labels", "text", ("number_of_conditions",), "Names of conditions.", **optional),
            {
                "name": "units_region",
                "neurodata_type_inc": "DynamicTableRegion",
                "doc": "Rows of the table of units.",
                **optional,
            },
        ],
    }


def write_definition(file: Any) -> None:
    """Put the definition of the extension into a file, where readers of NWB look for it."""
    group = file.create_group(f"specifications/{BINNED_NAMESPACE}/{VERSION}")
    namespace = {
        "name": BINNED_NAMESPACE,
        "version": VERSION,
        "doc": "Spikes in bins of time.",
        "author": ["Ben Dichter", "Heberto Mayorquin"],
        "schema": [{"namespace": "core"}, {"source": SOURCE}],
    }
    group["namespace"] = json.dumps({"namespaces": [namespace]})
    group[SOURCE] = json.dumps({"groups": [_definition()]})
    file.attrs[".specloc"] = file["specifications"].ref
