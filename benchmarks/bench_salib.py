"""The streamed `estimator: salib` against SALib itself, called on the stored responses of ResNet-20, image: factor.

Needs the weights and images of `NEUROPROBE_DATA` (default: ../shared/data).
"""

from __future__ import annotations

import tempfile
import time
import warnings

import numpy as np
from bench_resnet20 import protocol

import neuroprobe as npr

UNITS = "(layer == 'linear' or layer == 'layer3' and y == 4 and x < 5)"
QUANTITIES = ("first_order", "total_order", "second_order")


def main() -> None:
    warnings.simplefilter("ignore")
    asked = protocol()
    asked["subject"]["layers"] = ["layer3", "linear"]
    asked["stimuli"]["image"] = "factor"
    asked["analyses"] = [{"sobol": {"estimator": "salib"}}]
    asked["record"]["store"] = "responses"
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        streamed = npr.run(asked, f"{folder}/out.zarr")
        print(
            f"run, {sum(node.defined.size for node in streamed['sobol'].children.values()):,} units streamed: ", end=""
        )
        print(f"{time.perf_counter() - started:.1f} s")
        recording = npr.open_recording(f"{folder}/out.zarr")
        started = time.perf_counter()
        called = npr.sobol(recording, estimator="salib", units=UNITS)
        n_units = sum(node.sizes["unit"] for node in called.children.values())
        print(f"SALib on {n_units} stored units: {time.perf_counter() - started:.1f} s")
        print(f"{'largest difference':<20}" + "".join(f"{name:>14}" for name in QUANTITIES))
        for layer, node in called.children.items():
            whole = npr.select_units(streamed, UNITS + f" and layer == '{layer}'", columns=["channel", "y", "x"])
            places = {dim: whole[dim].astype(int) for dim in streamed[f"sobol/{layer}"].dims if dim in whole.coords}
            ours = streamed[f"sobol/{layer}"].to_dataset().isel(places)
            worst = [float(np.nanmax(np.abs(ours[name].values - node[name].values))) for name in QUANTITIES]
            print(f"{layer:<20}" + "".join(f"{value:>14.1e}" for value in worst))


if __name__ == "__main__":
    main()
