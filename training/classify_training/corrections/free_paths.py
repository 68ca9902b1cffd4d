"""Paths for files that come to a folder: none that another file has or will have."""

import os
import unicodedata
from collections.abc import Iterator
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Final

_MAX_NAME: Final = 255
"""Bytes that common file systems allow in a file's name."""


class FreePaths:
    """The paths of a dataset that no file has and that were not given out before."""

    def __init__(self, dataset: Path) -> None:
        self._dataset = dataset
        self._taken: set[str] = set()

    def take(self, target: str, digest: str) -> str:
        """The target path; if another file has that path, with a hash of the content in its name.

        Args:
            target: path relative to the dataset, with `/` separators.
            digest: SHA-256 of the content as hex.
        """
        free = next(path for path in _names(PurePosixPath(target), digest) if self._is_free(path))
        self._taken.add(_comparable(free))
        return free

    def _is_free(self, path: str) -> bool:
        return _comparable(path) not in self._taken and not os.path.lexists(self._dataset / path)


def _names(path: PurePosixPath, digest: str) -> Iterator[str]:
    yield str(path)
    for number in count(1):
        ending = f"_{digest[:12]}{f'_{number}' if number > 1 else ''}{path.suffix}"
        stem = path.stem
        while stem and len(os.fsencode(stem + ending)) > _MAX_NAME:
            stem = stem[:-1]
        yield str(path.with_name(stem + ending))


def _comparable(path: str) -> str:
    """The path as file systems compare it that ignore case and Unicode normalisation."""
    return unicodedata.normalize("NFC", path).casefold()
