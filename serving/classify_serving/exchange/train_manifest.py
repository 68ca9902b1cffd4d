"""The train manifest: SHA-256, label and split of every image in the dataset that a model was trained on.

Training stores it in the model's version folder. With it, the client recognises images that the model was trained on,
and images that the dataset has under several labels.
"""

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from classify_serving.contract.text import error_reason
from classify_serving.contract.versions import version_folders
from classify_serving.exchange.csv_columns import ColumnsError, read_columns

TRAIN_MANIFEST_FILE: Final = "assets.extra/train_manifest.csv"
"""In a version's folder."""

_FILES: Final = (TRAIN_MANIFEST_FILE, "assets.extra/trained_on.csv")
"""The current name, and the name in release 0.1."""
_COLUMNS: Final = ("sha256", "label", "split")
_SEEN: Final = frozenset(("train", "val"))
NOT_USED: Final = "none"
"""In place of a split: the image was left out, because it has several labels."""


class TrainManifestError(Exception):
    """The manifest is missing or cannot be read; the message names the file or folder and what to do."""


@dataclass(frozen=True)
class TrainManifest:
    """The images of a dataset.

    Attributes:
        contents: SHA-256 (64 hexadecimal digits) -> split of each label; split is `train`, `val`, `test` or, for each
            label of an image that has several, `NOT_USED`.
    """

    contents: Mapping[str, Mapping[str, str]]

    def is_seen(self, sha256: str) -> bool:
        """Whether the image was in the training or validation split.

        Validation images count as seen, because training selected the best weights with them.
        """
        return not _SEEN.isdisjoint(self.contents.get(sha256, {}).values())

    def labels(self, sha256: str) -> frozenset[str]:
        """The image's labels in the dataset; empty if the dataset does not contain it."""
        return frozenset(self.contents.get(sha256, ()))


def train_manifest_csv(contents: Iterable[tuple[str, str, str]]) -> bytes:
    """The content of a manifest file, UTF-8.

    Args:
        contents: (SHA-256, label, split) of each image; one entry for each label of an image that has several.
    """
    text = io.StringIO(newline="")
    csv.writer(text).writerows([_COLUMNS, *contents])
    return text.getvalue().encode("utf-8", "backslashreplace")


def read_train_manifest(path: Path) -> TrainManifest:
    """Read a manifest.

    Args:
        path: the file, a version's folder that contains it, or a model's folder (then its newest version that has one).

    Raises:
        TrainManifestError: the manifest is missing, or the file has other content.
    """
    file = find_train_manifest(path) if path.is_dir() else path
    if file is None:
        raise TrainManifestError(
            f"no {TRAIN_MANIFEST_FILE} in {path}: give the folder of a model that classify-train exported"
        )
    try:
        contents: dict[str, dict[str, str]] = defaultdict(dict)
        for digest, label, split in read_columns(file, _COLUMNS):
            contents[digest][label] = split
        return TrainManifest(dict(contents))
    except ColumnsError as error:
        raise TrainManifestError(
            f"{file} is not a train manifest ({error}): give the {TRAIN_MANIFEST_FILE} of a model"
        ) from error
    except OSError as error:
        raise TrainManifestError(
            f"cannot read {file} ({error_reason(error)}): give the {TRAIN_MANIFEST_FILE} of a model"
        ) from error


def find_train_manifest(folder: Path, version: int | None = None) -> Path | None:
    """Find the manifest in the folder of a version or of a model; None if there is none.

    Args:
        folder: a version's folder, or a model's folder.
        version: in a model's folder, the version to look in; None means the newest version that has a manifest.
    """
    versions = (path for path in version_folders(folder) if version in (None, int(path.name)))
    candidates = (place / name for place in (folder, *versions) for name in _FILES)
    return next((path for path in candidates if path.is_file()), None)
