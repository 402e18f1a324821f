"""Results in other formats."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import xarray as xr

from neuroprobe import names
from neuroprobe.disk import replacing, require_file_name, require_room
from neuroprobe.store import open_result

NODE_BYTES: Final = 64 << 10  # of a group's names, attributes and indexes of chunks


def export_netcdf(store: str | os.PathLike[str], output: str | os.PathLike[str]) -> None:
    """Write a result as netCDF4, with a group per analysis and layer; stored responses stay where they are.

    Parameters
    ----------
    store : path
        Of the result.
    output : path
        Of the file; it appears when it is whole.
    """
    output = Path(output)
    require_file_name(output)
    tree = open_result(store)
    nodes = {
        node.path: _plain_text(node.to_dataset(inherit=False))
        for node in tree.subtree
        if names.PRESENTATION not in node.dataset.dims
    }
    nodes["/"] = xr.Dataset(attrs=tree.attrs)
    compressed = {
        path: {str(name): {"zlib": True, "complevel": 4} for name, v in node.data_vars.items() if v.ndim}
        for path, node in nodes.items()
        if path != "/"
    }
    # HDF5 keeps a file open that it could not finish, and so what the disk lacks
    require_room(output, sum(node.nbytes + NODE_BYTES for node in nodes.values()))
    with replacing(output) as temporary:
        xr.DataTree.from_dict(nodes).to_netcdf(temporary, engine="netcdf4", encoding=compressed)


def _plain_text(dataset: xr.Dataset) -> xr.Dataset:
    """Text as objects, which netCDF4 writes as strings."""
    texts = {name: v.astype(object) for name, v in dataset.variables.items() if v.dtype.kind == "T"}
    return dataset.assign_coords({name: (v.dims, v.values, v.attrs) for name, v in texts.items()})
