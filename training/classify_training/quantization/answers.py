"""Answers of an exported version in a process of its own: `python -m classify_training.quantization.answers`.

TensorFlow reads its settings when it starts, so that another kind of processor can be imitated in a new process only.
"""

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from classify_training import interrupts

_BATCH: Final = 32
_PR_SET_PDEATHSIG: Final = 1
"""Of Linux, linux/prctl.h."""


def answers_of(version: Path, images: NDArray[np.uint8], settings: Mapping[str, str]) -> NDArray[np.float32] | str:
    """Ask a version in a new process.

    Args:
        version: folder of the version; images and answers pass through files beside it.
        images: uint8 [N,S,S,3] RGB.
        settings: environment variables of the process.

    Returns:
        Probabilities, float32 [N,C]; or why there are none.

    Raises:
        OSError: the files cannot be written.
        Interrupted: a signal arrived; the process is ended.
    """
    with tempfile.TemporaryDirectory(dir=version.parent) as folder:
        given, found = Path(folder) / "images.npy", Path(folder) / "answers.npy"
        np.save(given, images)
        with interrupts.at_once():
            done = subprocess.run(
                [sys.executable, "-m", __spec__.name, str(version), str(given), str(found)],
                env={**os.environ, **settings},
                stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", errors="backslashreplace",
            )  # fmt: skip
        if done.returncode < 0:
            return f"the process was ended by signal {-done.returncode}, perhaps because memory was full"
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            return lines[-1].strip() if lines else f"the process ended with {done.returncode}"
        answers: NDArray[np.float32] = np.load(found)
        return answers


def _end_with_parent() -> None:
    """Let the system end this process if its parent is killed; on Linux only."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _main(version: str, given: str, found: str) -> None:
    _end_with_parent()
    import tensorflow as tf

    from classify_serving.contract.model import IMAGES, PROBABILITIES, SERVING_DEFAULT

    # The loaded object holds the variables.
    loaded = tf.saved_model.load(version)
    classify = loaded.signatures[SERVING_DEFAULT]
    images = np.load(given)
    parts = [
        classify(**{IMAGES: tf.constant(images[start : start + _BATCH])})[PROBABILITIES].numpy()
        for start in range(0, len(images), _BATCH)
    ]
    np.save(found, np.concatenate(parts))


if __name__ == "__main__":
    _main(*sys.argv[1:])
