"""What a model was trained on, as a list of contents that training leaves beside it."""

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TRAINED_ON_FILE: Final = "assets.extra/trained_on.csv"
"""Below a version's folder."""

_COLUMNS: Final = ("sha256", "label", "split")
_SEEN: Final = frozenset(("train", "val"))


class TrainedOnError(Exception):
    """The list cannot be read; the message names it and the remedy."""


@dataclass(frozen=True)
class TrainedOn:
    """Contents of a dataset: SHA-256 as hex -> (label, split).

    Validation images count as seen: they decided which weights were kept.
    """

    contents: Mapping[str, tuple[str, str]]

    def is_seen(self, sha256: str) -> bool:
        """Whether the model was fitted to this content."""
        return self.contents.get(sha256, ("", ""))[1] in _SEEN

    def label(self, sha256: str) -> str:
        """What the dataset files this content under; empty if it is not in it."""
        return self.contents.get(sha256, ("", ""))[0]


def trained_on_csv(contents: Iterable[tuple[str, str, str]]) -> bytes:
    """The list as it is stored, from (SHA-256, label, split)."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([_COLUMNS, *contents])
    return text.getvalue().encode("utf-8", "backslashreplace")


def read_trained_on(path: Path) -> TrainedOn:
    """Read the list; of a model's or a version's folder, the one inside, of the newest version.

    Raises:
        TrainedOnError: there is none, or it is something else.
    """
    file = find_trained_on(path) if path.is_dir() else path
    if file is None:
        raise TrainedOnError(f"no {TRAINED_ON_FILE} in {path}: give the folder of a model exported by classify-train")
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            rows = csv.reader(lines)
            if tuple(next(rows, ())) != _COLUMNS:
                raise TrainedOnError(f"{file} is no list of what a model was trained on: give {TRAINED_ON_FILE}")
            return TrainedOn({digest: (label, split) for digest, label, split in rows})
    except (OSError, ValueError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise TrainedOnError(f"cannot read {file} ({reason.lower()}): give {TRAINED_ON_FILE} of a model") from error


def find_trained_on(folder: Path, version: int | None = None) -> Path | None:
    """The list in a version's folder, or in a model's: of one version, or of the newest; None if there is none."""
    versions = [path for path in folder.glob("*") if path.name.isdecimal() and version in (None, int(path.name))]
    versions.sort(key=lambda path: int(path.name), reverse=True)
    return next((path / TRAINED_ON_FILE for path in (folder, *versions) if (path / TRAINED_ON_FILE).is_file()), None)
