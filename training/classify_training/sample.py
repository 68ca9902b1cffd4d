"""The sample dataset: scikit-learn's handwritten digits as folders of PNGs, unbalanced on purpose."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from classify_training.errors import DatasetError

COUNTS: Final = {
    "zero": 178, "one": 160, "two": 150, "three": 140, "four": 130, "five": 120, "six": 110,
    "seven": 20, "eight": 16, "nine": 12,
}  # fmt: skip
"""Scans taken of each digit, held-out ones included: the last three are too few for classes of their own."""

HELD_OUT: Final = 0.2
_SIDE: Final = 64
_SEED: Final = 7


def write_sample(dataset: Path, images: Path) -> tuple[int, int]:
    """Write `dataset/<digit>/NNNN.png` to train on and `images/<digit>/NNNN.png`, held out, to classify.

    The 8 x 8 scans (E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits, 1998) are enlarged
    to 64 x 64 so that a person can look at them. Each folder appears whole or not at all.

    Returns:
        How many images each of the two holds.

    Raises:
        DatasetError: one of the folders exists already and is not empty.
    """
    for folder in (dataset, images):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise DatasetError(f"{folder} exists and is not empty: name another folder, or remove it")
    digits = load_digits()
    chosen = _choose(digits.target)
    train, held_out = train_test_split(chosen, test_size=HELD_OUT, stratify=digits.target[chosen], random_state=_SEED)
    with ExitStack() as stack:
        written = [
            (folder, stack.enter_context(_written_beside(folder, digits.images, digits.target, indices)))
            for folder, indices in ((images, held_out), (dataset, train))
        ]
        for folder, temporary in written:
            if folder.exists():
                folder.rmdir()
            shutil.move(temporary, folder)
    return len(train), len(held_out)


def _choose(targets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Indices of the first scans of each digit, as many as `COUNTS` says."""
    return np.concatenate([np.flatnonzero(targets == digit)[:count] for digit, count in enumerate(COUNTS.values())])


@contextmanager
def _written_beside(
    folder: Path, scans: NDArray[np.float64], targets: NDArray[np.int64], indices: NDArray[np.int64]
) -> Iterator[Path]:
    """Write scans as PNGs below a temporary folder on the same disk as `folder`."""
    names = list(COUNTS)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
        written = Path(temporary) / "images"
        for index in indices.tolist():
            path = written / names[targets[index]] / f"{index:04}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            grey = Image.fromarray(np.rint(scans[index] * (255 / 16)).astype(np.uint8))
            grey.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC).save(path)
        yield written
