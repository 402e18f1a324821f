"""Counts of 10⁷ spikes of 1 000 units in 10⁴ windows: time beside a mask per presentation, and memory."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np

from neuroprobe.statistics.spikes import count_spikes, ragged_by_unit

N_UNITS, N_SPIKES, N_PRESENTATIONS = 1_000, 10_000_000, 10_000
DURATION, LENGTH = 10_000.0, 0.5  # s
N_MASKED = 20  # presentations by masks, from which the time of all is told


def main() -> None:
    rng = np.random.default_rng(0)
    times, offsets = ragged_by_unit(
        rng.uniform(0, DURATION, N_SPIKES), rng.integers(0, N_UNITS, N_SPIKES), n_units=N_UNITS
    )
    starts = np.sort(rng.uniform(0, DURATION - LENGTH, N_PRESENTATIONS))
    started = time.perf_counter()
    counts = count_spikes(times, offsets, starts, starts + LENGTH)
    searched = time.perf_counter() - started

    started = time.perf_counter()
    for row in range(N_MASKED):
        inside = (times >= starts[row]) & (times < starts[row] + LENGTH)
        # reduceat takes an empty unit for its neighbour's first spike: here none is empty
        assert (np.add.reduceat(inside, offsets[:-1], dtype=np.int64) == counts[row]).all()
    masked = (time.perf_counter() - started) / N_MASKED * N_PRESENTATIONS

    tracemalloc.start()
    counts = count_spikes(times, offsets, starts, starts + LENGTH)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    needed = times.nbytes + counts.nbytes
    print(f"by search: {searched:.2f} s; by masks: {masked:.0f} s (from {N_MASKED}); ratio {masked / searched:.0f}")
    print(f"spikes and counts: {needed / 2**20:.0f} MiB; at most {(times.nbytes + peak) / needed:.3f} of that was used")


if __name__ == "__main__":
    main()
