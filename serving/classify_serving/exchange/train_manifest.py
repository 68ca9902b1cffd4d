"""The train manifest: every image content that a model was trained or tested on, with its label and split.

Training stores it inside the model's version, so that a client can tell images the model has seen from new ones.
"""

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from classify_serving.contract.text import error_reason
from classify_serving.contract.versions import version_folders

TRAIN_MANIFEST_FILE: Final = "assets.extra/train_manifest.csv"
"""Below a version's folder."""

_FILES: Final = (TRAIN_MANIFEST_FILE, "assets.extra/trained_on.csv")
"""Today's name, and the name in models of release 0.1."""
_COLUMNS: Final = ("sha256", "label", "split")
_SEEN: Final = frozenset(("train", "val"))


class TrainManifestError(Exception):
    """The manifest cannot be read; the message names it and the remedy."""


@dataclass(frozen=True)
class TrainManifest:
    """Contents of a dataset: SHA-256 as hex -> (label, split).

    Validation images count as seen: they decided which weights were kept.
    """

    contents: Mapping[str, tuple[str, str]]

    def is_seen(self, sha256: str) -> bool:
        """Whether the model was fitted to this content."""
        return self.contents.get(sha256, ("", ""))[1] in _SEEN

    def label(self, sha256: str) -> str:
        """The label that the dataset gives this content; empty if it is not in it."""
        return self.contents.get(sha256, ("", ""))[0]


def train_manifest_csv(contents: Iterable[tuple[str, str, str]]) -> bytes:
    """The manifest as it is stored, from (SHA-256, label, split)."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([_COLUMNS, *contents])
    return text.getvalue().encode("utf-8", "backslashreplace")


def read_train_manifest(path: Path) -> TrainManifest:
    """Read a manifest.

    Args:
        path: the file, or the folder of a model or of one version that contains it; of a model, the newest version's.

    Raises:
        TrainManifestError: there is none, or the file is something else.
    """
    file = find_train_manifest(path) if path.is_dir() else path
    if file is None:
        raise TrainManifestError(
            f"no {TRAIN_MANIFEST_FILE} in {path}: give the folder of a model exported by classify-train"
        )
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            rows = csv.reader(lines)
            if tuple(next(rows, ())) != _COLUMNS:
                raise TrainManifestError(f"{file} is not a train manifest: give the {TRAIN_MANIFEST_FILE} of a model")
            return TrainManifest({digest: (label, split) for digest, label, split in rows})
    except (OSError, ValueError, csv.Error) as error:
        raise TrainManifestError(
            f"cannot read {file} ({error_reason(error)}): give the {TRAIN_MANIFEST_FILE} of a model"
        ) from error


def find_train_manifest(folder: Path, version: int | None = None) -> Path | None:
    """The manifest below the folder of a version, or of a model: of one version, or of the newest that has one."""
    versions = (path for path in version_folders(folder) if version in (None, int(path.name)))
    candidates = (place / name for place in (folder, *versions) for name in _FILES)
    return next((path for path in candidates if path.is_file()), None)
