"""How long the client takes to say anything: `make bench`."""

import statistics
import subprocess
import sys
import time
from pathlib import Path

RUNS = 15


def main() -> None:
    """Print the median wall time of `classify-client --help`, in seconds."""
    command = [str(Path(sys.executable).with_name("classify-client")), "--help"]
    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - start)
    print(
        f"classify-client --help: median {statistics.median(seconds):.3f} s of {RUNS} runs, worst {max(seconds):.3f} s"
    )


if __name__ == "__main__":
    main()
