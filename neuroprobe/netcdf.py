"""Trees as netCDF4 files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import xarray as xr

from neuroprobe.disk import replacing, require_file_name, require_room

NODE_BYTES: Final = 64 << 10  # of a group's names, attributes and indexes of chunks


def write_netcdf(nodes: Mapping[str, xr.Dataset], path: Path) -> None:
    """Write nodes, by their place in the tree, as one netCDF4 file that appears when it is whole."""
    require_file_name(path)
    # HDF5 keeps a file open that it could not finish, and so what the disk lacks
    require_room(path, sum(node.nbytes + NODE_BYTES for node in nodes.values()))
    plain = {place: _plain_text(node) for place, node in nodes.items()}
    # netCDF4 has no compression of text
    compressed = {
        place: {
            str(name): {"zlib": True, "complevel": 4}
            for name, v in node.data_vars.items()
            if v.ndim and v.dtype != object
        }
        for place, node in plain.items()
    }
    with replacing(path) as temporary:
        xr.DataTree.from_dict(plain).to_netcdf(temporary, engine="netcdf4", encoding=compressed)


def _plain_text(dataset: xr.Dataset) -> xr.Dataset:
    """Text as objects, which netCDF4 writes as strings."""
    texts = {name: v.astype(object) for name, v in dataset.variables.items() if v.dtype.kind in "TU"}
    return dataset.assign({name: (v.dims, v.values, v.attrs) for name, v in texts.items()})
