"""One labelled image."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class ImageFile:
    """An image file, with the label of its folder; `split` is None if the dataset has no folders for splits."""

    path: Path
    label: str
    split: Split | None = None


@dataclass(frozen=True)
class Example:
    """A readable image.

    Attributes:
        file: path, label and split.
        digest: SHA-256 of the file's content as hex.
        row: row of its pixels in the cache.
        phash: its 64-bit perceptual hash.
    """

    file: ImageFile
    digest: str
    row: int
    phash: int
