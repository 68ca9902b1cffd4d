"""`miss/`: a copy of every image a model was wrong about, named `{true}_to_{predicted}_{filename}`.

The client and a training's evaluation leave the same folder.
"""

import filecmp
import hashlib
import os
import re
import shutil
from pathlib import Path
from typing import Final

from classify_serving.folders import printable

MISS: Final = "miss"
_LONGEST: Final = 255
_PARTIAL: Final = ".partial-"


class Misses:
    """The miss folder of a run, made when the first miss comes.

    Args:
        output: the folder it is in.
    """

    def __init__(self, output: Path) -> None:
        self.folder = output / MISS

    def add(self, path: Path, true_class: str, predicted: str) -> str:
        """Copy a file, and return the copy's name.

        The same file is never copied twice; another one of the same name gets a hash of its content.

        Raises:
            OSError: it cannot be read, or the copy not be written.
        """
        self.folder.mkdir(exist_ok=True)
        name = miss_name(true_class, predicted, path.name)
        if not self._is_free(name, path):
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            name = miss_name(true_class, predicted, f"{path.stem}_{digest[:12]}{path.suffix}")
        partial = self.folder / f"{_PARTIAL}{os.getpid()}"
        shutil.copy2(path, partial)
        os.replace(partial, self.folder / name)
        return name

    def _is_free(self, name: str, path: Path) -> bool:
        target = self.folder / name
        return not target.exists() or filecmp.cmp(path, target, shallow=False)

    def remove(self, name: str) -> None:
        """Remove a copy made by an earlier run; a name that is no plain file name is not touched."""
        if name and name == os.path.basename(name):
            (self.folder / name).unlink(missing_ok=True)

    def remove_partial(self) -> None:
        """Remove what killed runs left half-copied."""
        for partial in self.folder.glob(f"{_PARTIAL}*"):
            partial.unlink(missing_ok=True)


def miss_name(true_class: str, predicted: str, file_name: str) -> str:
    """`{true}_to_{predicted}_{filename}` as one file name, whatever the labels hold, within 255 bytes.

    Characters that some file system refuses, and bytes that are no UTF-8, become `_`. A name that is too long
    loses its beginning, since its end tells files apart.
    """
    prefix = _plain(printable(f"{true_class}_to_{predicted}_"))
    name = _plain(printable(file_name))
    while len(os.fsencode(prefix)) > _LONGEST // 2:
        prefix = prefix[:-2] + "_"
    while len(os.fsencode(prefix + name)) > _LONGEST:
        name = name[1:]
    return prefix + name


def _plain(text: str) -> str:
    return re.sub(r'[\x00-\x1f\x7f/\\:*?"<>|]', "_", text).lstrip(".") or "_"
