"""The sample dataset: scikit-learn's handwritten digits as folders of PNG files, unbalanced on purpose."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from classify_serving.contract.text import error_reason
from classify_training.errors import DatasetError
from classify_training.settings import DATASET_OPTIONS

COUNTS: Final = {
    "zero": 178, "one": 160, "two": 150, "three": 140, "four": 130, "five": 120, "six": 110,
    "seven": 20, "eight": 16, "nine": 12,
}  # fmt: skip
"""Scans of each digit, including held-out ones; the last three classes are so small that they are merged."""

OPTIONS: Final = {"image_size": 32, "weights": "random", "flip": False, "epochs": 12}
"""Options to train on it with: ImageNet's photographs do not help with digits, and a mirrored digit is not a digit.

Twelve epochs reach 98% of the held-out digits; more bring less than one point, and take two to four times as long.
"""

HELD_OUT: Final = 0.2
_SIDE: Final = 64
_SEED: Final = 7
_TEMPORARY: Final = ".sample-"


def holds_something(folder: Path) -> bool:
    """Whether a folder contains anything but hidden files."""
    return folder.exists() and (not folder.is_dir() or any(not path.name.startswith(".") for path in folder.iterdir()))


def write_sample(dataset: Path, images: Path | None) -> tuple[int, int]:
    """Write `dataset/<digit>/NNNN.png` to train on, and held-out `images/<digit>/NNNN.png` to classify.

    The 8 x 8 scans (E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits, 1998) are enlarged to 64 x 64.
    The dataset also gets a `config.json` with training options. Everything is written to temporary folders first and
    moved at the end.

    Args:
        dataset: folder for the dataset; if it exists, it may contain hidden files only.
        images: folder for held-out images, with the same condition; None writes no held-out images.

    Returns:
        Number of images in each of the two.

    Raises:
        DatasetError: one of the folders is not empty, or cannot be written to.
    """
    folders = [folder for folder in (images, dataset) if folder]
    for folder in folders:
        if holds_something(folder):
            raise DatasetError(f"{folder} exists and is not empty: choose another folder, or remove it")
    digits = load_digits()
    chosen = _choose(digits.target)
    train, held_out = train_test_split(chosen, test_size=HELD_OUT, stratify=digits.target[chosen], random_state=_SEED)
    try:
        with ExitStack() as stack:
            if images:
                written = stack.enter_context(_written_within(images))
                _write_scans(written, digits.images, digits.target, held_out)
            written = stack.enter_context(_written_within(dataset))
            _write_scans(written, digits.images, digits.target, train)
            (written / DATASET_OPTIONS).write_bytes(msgspec.json.format(msgspec.json.encode(OPTIONS)) + b"\n")
    except OSError as error:
        raise DatasetError(
            f"cannot write {error.filename} ({error_reason(error)}): fix that, or choose another folder"
        ) from error
    return len(train), len(held_out) if images else 0


def _choose(targets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Indices of the first scans of each digit, `COUNTS` of each."""
    return np.concatenate([np.flatnonzero(targets == digit)[:count] for digit, count in enumerate(COUNTS.values())])


@contextmanager
def _written_within(folder: Path) -> Iterator[Path]:
    """Give a temporary folder inside of `folder`; its content is moved up when the block ends without an error.

    `folder` itself is not replaced, because it may be a mount point.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(f"{_TEMPORARY}*"):
        shutil.rmtree(leftover)
    with tempfile.TemporaryDirectory(prefix=_TEMPORARY, dir=folder) as temporary:
        yield Path(temporary)
        for path in sorted(Path(temporary).iterdir()):
            path.rename(folder / path.name)


def _write_scans(
    folder: Path, scans: NDArray[np.float64], targets: NDArray[np.int64], indices: NDArray[np.int64]
) -> None:
    """Write scans as PNG files, into one folder for each digit."""
    names = list(COUNTS)
    for index in indices.tolist():
        path = folder / names[targets[index]] / f"{index:04}.png"
        path.parent.mkdir(exist_ok=True)
        grey = Image.fromarray(np.rint(scans[index] * (255 / 16)).astype(np.uint8))
        grey.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC).save(path)
