"""What is known of one labelled image."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class ImageFile:
    """A file and the label its folder gives it; `split` is None where the dataset does not say."""

    path: Path
    label: str
    split: Split | None = None


@dataclass(frozen=True)
class Example:
    """A readable image.

    Attributes:
        file: where it is, and its label.
        digest: SHA-256 of its content as hex.
        row: of its pixels in the cache.
        look: its 64-bit perceptual hash.
    """

    file: ImageFile
    digest: str
    row: int
    look: int
