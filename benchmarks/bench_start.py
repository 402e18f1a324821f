"""Time until `import neuroprobe` and `neuroprobe --help` are done, and of an empty Python beside them."""

from __future__ import annotations

import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import neuroprobe": [sys.executable, "-c", "import neuroprobe"],
    "neuroprobe --help": [sys.executable, "-m", "neuroprobe", "--help"],
}


def main() -> None:
    for name, command in COMMANDS.items():
        times = []
        for _ in range(7):
            started = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            times.append(time.perf_counter() - started)
        print(f"{name:<18} {sorted(times)[3]:.3f} s (median of 7)")


if __name__ == "__main__":
    main()
