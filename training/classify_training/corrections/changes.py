"""Changes of single files in a dataset: checked as a whole, then made and undone one by one.

Every change can be repeated: what was made before an interruption is recognised and left as it is.
"""

import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Final, Literal

from classify_serving.files import replace_file, sha256_of
from classify_training.csv_files import write_csv
from classify_training.errors import CorrectionError

FOLDER: Final = ".review"
"""In a dataset: journal, trash and confirmed labels; training and client skip it."""
TRASH: Final = "trash"
"""In `FOLDER`: deleted images."""

_LONGEST_NAME: Final = 255
_NOTHING: Final = "nothing was changed"


@dataclass(frozen=True)
class Change:
    """A change of one file of the dataset.

    Attributes:
        kind: `move` within the dataset, `add` a copy of a file outside, or `confirm` that a label is right.
        sha256: SHA-256 of the file's content as hex.
        target: new path, relative to the dataset with `/` separators; for `confirm`, the label.
        source: current path, relative to the dataset; for `add`, an absolute path.
    """

    kind: Literal["move", "add", "confirm"]
    sha256: str
    target: str
    source: str = ""

    @property
    def is_deletion(self) -> bool:
        """Whether the file moves to the trash."""
        return self.kind == "move" and self.target.startswith(f"{FOLDER}/{TRASH}/")


def undo_command(dataset: Path) -> str:
    """The command that takes back the last changes of a dataset; `dataset` is the default of its option."""
    option = "" if dataset == Path("dataset") else f" --dataset {quote(str(dataset))}"
    return f"classify-train apply --undo{option}"


class FileOperations:
    """Everything that changes the disk; each method raises OSError if it fails."""

    def make_folder(self, folder: Path) -> None:
        """Create a folder and those above it, unless they exist."""
        folder.mkdir(parents=True, exist_ok=True)

    def rename(self, source: Path, target: Path) -> None:
        """Rename a file in one step."""
        os.rename(source, target)

    def copy(self, source: Path, target: Path) -> None:
        """Copy a file's content and times."""
        shutil.copy2(source, target)

    def remove(self, path: Path) -> None:
        """Remove a file, unless it does not exist."""
        path.unlink(missing_ok=True)

    def write(self, path: Path, content: bytes) -> None:
        """Write a file atomically."""
        replace_file(path, content)

    def write_rows(self, path: Path, rows: Iterable[Iterable[object]]) -> None:
        """Write a CSV file atomically."""
        write_csv(path, rows)


class FileChanger:
    """Makes and undoes changes in one dataset."""

    def __init__(self, dataset: Path, operations: FileOperations) -> None:
        self._dataset, self._operations = dataset, operations
        self._restore = f"restore it, or undo all changes with {undo_command(dataset)}"

    def check_all(self, changes: Sequence[Change]) -> None:
        """Check that all changes can be made, before the first one is.

        Raises:
            CorrectionError: a file would be moved twice or to the path of another file, has changed, or is missing.
            OSError: a file cannot be read.
        """
        used: set[tuple[str, Path]] = set()
        for change in changes:
            if change.kind == "confirm":
                continue
            source, target = self._paths(change)
            for path, role in ((source, change.kind), (target, "target")):
                # A linked folder can make two paths of one file.
                place = role, path.parent.resolve() / path.name
                if place in used:
                    raise CorrectionError(
                        f"{path} would be used twice: {_NOTHING}; if a folder is a link, replace it by what it links to"
                    )
                used.add(place)
            _check(source, change, f"{_NOTHING}; run the command again")
            if os.path.lexists(target):
                raise CorrectionError(f"{target} exists now: {_NOTHING}; run the command again")
            if any(len(os.fsencode(part)) > _LONGEST_NAME for part in Path(change.target).parts):
                raise CorrectionError(
                    f"{change.target} has a name of more than {_LONGEST_NAME} bytes, which no file system takes:"
                    f" {_NOTHING}; shorten the class in the review"
                )
            if not next(folder for folder in target.parents if os.path.lexists(folder)).is_dir():
                raise CorrectionError(f"{target.parent} is no folder: {_NOTHING}; move the file at this path away")

    def make(self, change: Change) -> None:
        """Make a change, unless it was made before.

        Raises:
            CorrectionError: a file has changed since the change was planned.
            OSError: a file cannot be moved or copied.
        """
        if change.kind == "confirm":
            return
        source, target = self._paths(change)
        if os.path.lexists(target) and (change.kind == "add" or not os.path.lexists(source)):
            _check(target, change, self._restore)
            return
        _check(source, change, self._restore)
        if os.path.lexists(target):
            raise CorrectionError(f"{target} exists now: move it away, or undo with {undo_command(self._dataset)}")
        self._operations.make_folder(target.parent)
        if change.kind == "add":
            temporary = _temporary(target, change)
            self._operations.copy(source, temporary)
            self._operations.rename(temporary, target)
        else:
            self._operations.rename(source, target)

    def undo(self, change: Change) -> bool:
        """Undo a change, unless it was not made or is already undone; False if there was nothing to do.

        Raises:
            CorrectionError: as `check_undo`.
            OSError: a file cannot be moved or removed.
        """
        self.check_undo(change)
        source, target = self._paths(change)
        if change.kind == "add":
            was_made = os.path.lexists(target)
            self._operations.remove(_temporary(target, change))
            self._operations.remove(target)
            return was_made
        if change.kind == "move" and not os.path.lexists(source):
            self._operations.make_folder(source.parent)
            self._operations.rename(target, source)
            return True
        return False

    def check_undo(self, change: Change, was_made: bool = False) -> None:
        """Check that a change can be undone.

        Args:
            change: the change.
            was_made: whether the change is known to be made; otherwise it may have been interrupted before.

        Raises:
            CorrectionError: the file that it moved or added was changed or removed since.
        """
        source, target = self._paths(change)
        if change.kind == "confirm" or (change.kind == "add" and not os.path.lexists(target)):
            return
        if change.kind == "move" and os.path.lexists(source):
            if os.path.lexists(target) and (was_made or not _is_same(source, change)):
                raise CorrectionError(f"{source} and {target} both exist: move one of them away")
            return
        _check(target, change, "nothing was undone; restore it, or undo the rest by hand")

    def _paths(self, change: Change) -> tuple[Path, Path]:
        return self._dataset / change.source, self._dataset / change.target


def _temporary(target: Path, change: Change) -> Path:
    # Short, because the file's own name may have the greatest length that is allowed.
    return target.with_name(f".{change.sha256[:32]}.tmp")


def _check(path: Path, change: Change, remedy: str) -> None:
    if not os.path.lexists(path):
        raise CorrectionError(f"{path} does not exist any more: {remedy}")
    if not _is_same(path, change):
        raise CorrectionError(f"{path} has changed: {remedy}")


def _is_same(path: Path, change: Change) -> bool:
    """Whether a file has the planned content; a relative link may lead nowhere from its new folder, and is trusted."""
    return path.is_symlink() or sha256_of(path) == change.sha256
