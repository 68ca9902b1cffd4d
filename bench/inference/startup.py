"""Start-up time of the client: `make bench`."""

import statistics
import subprocess
import sys
import time
from pathlib import Path

RUNS = 15


def main() -> None:
    """Print the median and the longest wall time of `classify-client --help`, in seconds."""
    command = [str(Path(sys.executable).with_name("classify-client")), "--help"]
    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - start)
    median, longest = statistics.median(seconds), max(seconds)
    print(f"classify-client --help: median {median:.3f} s of {RUNS} runs, longest {longest:.3f} s")


if __name__ == "__main__":
    main()
