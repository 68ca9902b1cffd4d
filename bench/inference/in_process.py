"""A SavedModel that is called in a process of its own, by TensorFlow or by a peer."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np

from bench.inference.exported_models import Version

LEAST_SECONDS = 1.0
"""A measurement repeats its batch for at least this time."""


class InProcess:
    """Measures one model.

    Args:
        command: a program that prints JSON of the two values of `rates` for each line `size batch` on stdin.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.terminate()
        self._process.communicate()

    def rates(self, size: int, batch: int) -> tuple[float, float]:
        """Images per second, and images per second of all cores together, in batches of images of some size."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{size} {batch}\n")
        self._process.stdin.flush()
        wall, cpu = json.loads(self._process.stdout.readline())
        return wall, cpu


def in_tensorflow(version: Version) -> InProcess:
    """Measures a version as a server would compute it."""
    return InProcess([sys.executable, "-m", __name__, str(version.folder), version.mixed_precision])


def in_openvino(python: str, version: Version, precision: str) -> InProcess:
    """Measures OpenVINO's runtime on a float32 model, with an interpreter that has it."""
    return InProcess([python, str(Path(__file__).with_name("openvino_peer.py")), str(version.folder), precision])


def _work(version: str, mixed_precision: str) -> None:
    """For each line `size batch`, print the two rates."""
    import tensorflow as tf

    from classify_serving.server.mixed_precision import use_mixed_precision

    use_mixed_precision("bfloat16" if mixed_precision == "bfloat16" else "none")
    # The loaded object holds the variables.
    loaded = tf.saved_model.load(version)
    classify = loaded.signatures["serving_default"]
    for line in sys.stdin:
        size, batch = map(int, line.split())
        images = np.random.default_rng(1).integers(0, 256, (batch, size, size, 3), np.uint8)
        start, start_cpu, count = time.perf_counter(), time.process_time(), 0
        while time.perf_counter() - start < LEAST_SECONDS:
            # Convert the outputs, so that the time includes the computation.
            for value in classify(images=tf.constant(images)).values():
                value.numpy()
            count += batch
        rates = count / (time.perf_counter() - start), count / (time.process_time() - start_cpu)
        print(json.dumps(rates), flush=True)


if __name__ == "__main__":
    _work(*sys.argv[1:])
