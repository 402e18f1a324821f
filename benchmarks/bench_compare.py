"""Dissimilarities and kernel alignment of many stimuli and units, from stores on disk: time, and memory beside these.

Responses are written to zarr some units at a time, and compared by `neuroprobe.compare` without being held: of 10 000
stimuli × 100 000 units they would be 8 GB. What must be in memory is a few matrices (stimuli, stimuli) and a block of
units. ``--workers 2`` times one process and workers by turns, with one thread each, and compares every number. Run
with ``--stimuli 10000 --permutations 99`` for the full size: 5 GB of disk, and about as much memory.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

import neuroprobe as npr
from neuroprobe import names
from neuroprobe.comparison.representations import rdm_of
from neuroprobe.comparison.responses import UNITS_AT_A_TIME
from neuroprobe.comparison.stimuli import side_of
from neuroprobe.recordings import write_recording

WIDTH = 250  # units that are made at a time
MIB = 2**20


def recording(n: int, n_units: int, seed: int) -> xr.DataTree:
    """Responses (stimuli, units) in dask blocks, which share three dimensions with those of other seeds."""
    shared = np.random.default_rng(0).normal(size=(n, 3)).astype(np.float32)

    def block(block_info: Any = None) -> Any:
        start, stop = block_info[None]["array-location"][1]
        rng = np.random.default_rng((seed, start))
        signal = shared @ rng.standard_normal((3, stop - start), dtype=np.float32)
        return signal + rng.standard_normal((n, stop - start), dtype=np.float32)

    widths = tuple(min(WIDTH, n_units - start) for start in range(0, n_units, WIDTH))
    values = da.map_blocks(block, chunks=((n,), widths), dtype=np.float32, meta=np.empty((0, 0), np.float32))
    ids = {names.STIMULUS_ID: (names.PRESENTATION, np.array([f"s{number}" for number in range(n)], dtype=object))}
    units = {names.UNIT_ID: (names.UNIT, np.array([f"u{number}" for number in range(n_units)], dtype=object))}
    node = xr.Dataset({names.RESPONSE: ((names.PRESENTATION, names.UNIT), values)}, coords=ids | units)
    return xr.DataTree.from_dict({"/": xr.Dataset(coords=ids), "/responses/area": node})


def write(n: int, n_units: int, seed: int, store: Path) -> None:
    """Write one side."""
    write_recording(recording(n, n_units, seed), store)


def peak() -> float:
    """Largest resident memory so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def spread(stores: list[Path], n_workers: int, options: dict[str, dict[str, Any]]) -> None:
    """Compare on workers that are there already, and in this process, in turns."""
    from neuroprobe.cluster.workers import local_workers

    with local_workers(n_workers) as client:
        for metric, given in options.items():
            seconds: dict[str, list[float]] = {"one process": [], "workers": []}
            found = {}
            for _ in range(2):
                for where, theirs in (("one process", None), ("workers", client)):
                    started = time.perf_counter()
                    found[where] = npr.compare(*stores, metric, client=theirs, **given)
                    seconds[where].append(time.perf_counter() - started)
            one, other = found.values()
            same = all(one[name].values.tobytes() == other[name].values.tobytes() for name in one.data_vars)
            alone, shared = (min(of) for of in seconds.values())
            print(
                f"{metric}: one process {alone:.1f} s, {n_workers} workers {shared:.1f} s, {alone / shared:.2f} times "
                f"as fast; {'the same bits' if same else 'OTHER BITS'}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stimuli", type=int, default=3_000)
    parser.add_argument("--units", type=int, default=20_000)
    parser.add_argument("--units-of-brain", type=int, default=2_000)
    parser.add_argument("--permutations", type=int, default=99)
    parser.add_argument("--without-rdm", action="store_true")
    parser.add_argument("--workers", type=int)
    given = parser.parse_args()
    # what is imported when it is first used
    npr.compare(recording(8, 5, 1), recording(8, 5, 2), "cka", n_permutations=1)
    n, square = given.stimuli, given.stimuli**2 * 8 / MIB
    baseline, block = peak(), n * min(UNITS_AT_A_TIME, given.units) * 8 / MIB
    print(f"{n} stimuli × {given.units} units: responses in float64 would be {n * given.units * 8 / MIB:,.0f} MiB")
    print(f"a matrix of stimuli is {square:,.0f} MiB, a block {block:,.0f} MiB; after imports {baseline:,.0f} MiB")
    with tempfile.TemporaryDirectory() as folder:
        stores = [Path(folder) / f"{name}.zarr" for name in ("model", "brain")]
        started = time.perf_counter()
        sizes = zip(stores, (given.units, given.units_of_brain), (1, 2), strict=True)
        # by a process of its own, whose memory is no part of what comparing takes
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            for store, units, seed in sizes:
                pool.submit(write, n, units, seed, store).result()
        print(f"written: {time.perf_counter() - started:.0f} s", flush=True)
        if given.workers is not None:
            few = {"n_draws": 20}, {"n_permutations": given.permutations}
            spread(stores, given.workers, dict(zip(("rsa", "cka"), few, strict=True)))
            return
        # two kernels and a product that is added to one; the last block and its means, the next as it is read
        bound = 3 * square + 6 * block
        started = time.perf_counter()
        found = npr.compare(*stores, "cka", n_permutations=given.permutations)
        value, error, p = (float(found[name].item()) for name in ("score", "score_se", "p_value"))
        print(
            f"alignment with {given.units_of_brain} units, {given.permutations} permutations: "
            f"{time.perf_counter() - started:.0f} s; {peak() - baseline:,.0f} MiB above imports, "
            f"bound {bound:,.0f} (3 matrices, 6 blocks); {value:.4f} ± {error:.4f}, p {p:.3f}",
            flush=True,
        )
        if given.without_rdm:
            return
        # the sums, a product that is added, numbers of pairs and distances
        bound = 5 * square + 6 * block
        started = time.perf_counter()
        side = side_of("model", npr.open_recording(stores[0]), None, None)
        pairs = rdm_of(side.populations[0], side.on, side.stimuli, "correlation")
        print(
            f"dissimilarities: {time.perf_counter() - started:.0f} s; {peak() - baseline:,.0f} MiB above imports, "
            f"bound {bound:,.0f} (5 matrices, 6 blocks); mean {pairs.mean():.4f}"
        )


if __name__ == "__main__":
    main()
