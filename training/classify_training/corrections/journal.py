"""A journal of changes to a dataset: changes can be finished after a kill, and undone.

The journal is in `DATASET/.review/`, a folder that training ignores. Each entry `<time>.<state>.json` lists changes
with all that is needed to repeat or undo them; `trash/` contains deleted images. The state is part of the file name,
so that renaming the file changes it in one step: `pending` -> `done` -> `undoing` -> `undone`.
"""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, Final, Literal

from classify_serving.contract.text import error_reason
from classify_serving.exchange.review import CONFIRMED
from classify_serving.files import locked, replace_file, replacing, sha256_of
from classify_training.csv_files import write_csv
from classify_training.errors import CorrectionError

FOLDER: Final = ".review"
TRASH: Final = "trash"


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


class Journal:
    """The journal of a dataset, locked by this process; `open_journal` makes it."""

    def __init__(self, dataset: Path) -> None:
        self._dataset = dataset
        self._folder = dataset / FOLDER

    def new_name(self) -> str:
        """Name of the next entry: the current time, and a number that tells entries of one second apart."""
        time = f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%SZ}"
        return next(name for number in count() if not self._entries(name := f"{time}.{number:02}", "*"))

    def perform(self, name: str, changes: Sequence[Change]) -> None:
        """Write an entry and make the changes; if this process is killed meanwhile, `recover` finishes them.

        Raises:
            CorrectionError: a file changed since the changes were planned; changes made before can be undone.
            OSError: a file cannot be moved or copied.
        """
        # JSON with escapes can hold any file name, even one that is not UTF-8.
        content = json.dumps([asdict(change) for change in changes], indent=1).encode()
        pending = self._folder / f"{name}.pending.json"
        replace_file(pending, content)
        self._finish(pending)

    def recover(self) -> bool:
        """Finish the changes of processes that were killed; True if there were any."""
        left = [*self._entries("*", "pending"), *self._entries("*", "undoing")]
        for entry in left:
            self._finish(entry)
        return bool(left)

    def undo(self) -> list[Change]:
        """Undo the newest entry that is not undone, and return its changes; empty if there is none.

        Raises:
            CorrectionError: a file that it moved or added was changed or removed since; nothing is undone.
        """
        entries = [*self._entries("*", "done"), *self._entries("*", "pending"), *self._entries("*", "undoing")]
        if not entries:
            return []
        newest = max(entries, key=lambda entry: entry.name)
        changes = _read(newest)
        for change in changes:
            self._check_undo(change)
        undoing = _renamed(newest, "undoing")
        self._finish(undoing)
        return changes

    def _finish(self, entry: Path) -> None:
        changes = _read(entry)
        if ".undoing." in entry.name:
            for change in reversed(changes):
                self._undo_one(change)
            _renamed(entry, "undone")
        else:
            for change in changes:
                self._do(change)
            _renamed(entry, "done")
        self._write_confirmed()

    def _do(self, change: Change) -> None:
        if change.kind == "confirm":
            return
        source, target = self._dataset / change.source, self._dataset / change.target
        if target.exists() and (change.kind == "add" or not source.exists()):
            self._check(target, change, _REMEDY)
            return
        self._check(source, change, _REMEDY)
        if target.exists():
            raise CorrectionError(f"{target} exists now: {_REMEDY}")
        target.parent.mkdir(parents=True, exist_ok=True)
        if change.kind == "add":
            with replacing(target) as temporary:
                shutil.copy2(source, temporary)
        else:
            os.rename(source, target)

    def _undo_one(self, change: Change) -> None:
        source, target = self._dataset / change.source, self._dataset / change.target
        if change.kind == "add":
            target.unlink(missing_ok=True)
        elif change.kind == "move" and target.exists() and not source.exists():
            source.parent.mkdir(parents=True, exist_ok=True)
            os.rename(target, source)

    def _check_undo(self, change: Change) -> None:
        source, target = self._dataset / change.source, self._dataset / change.target
        if change.kind == "confirm" or (change.kind == "add" and not target.exists()):
            return
        if change.kind == "move" and source.exists():
            if target.exists():
                raise CorrectionError(f"{source} and {target} both exist: move one of them away")
            return
        self._check(target, change, "nothing was undone; restore it, or undo the rest by hand")

    def _check(self, path: Path, change: Change, remedy: str) -> None:
        try:
            is_same = sha256_of(path) == change.sha256
        except FileNotFoundError:
            raise CorrectionError(f"{path} does not exist any more: {remedy}") from None
        if not is_same:
            raise CorrectionError(f"{path} has changed: {remedy}")

    def _entries(self, name: str, state: str) -> list[Path]:
        return sorted(self._folder.glob(f"{name}.{state}.json"))

    def _write_confirmed(self) -> None:
        pairs = {
            (change.sha256, change.target)
            for entry in self._entries("*", "done")
            for change in _read(entry)
            if change.kind == "confirm"
        }
        write_csv(self._dataset / CONFIRMED, [("sha256", "label"), *sorted(pairs)])


_REMEDY: Final = "restore it, or undo all changes with classify-train apply --undo"


@contextmanager
def open_journal(dataset: Path) -> Iterator[Journal]:
    """Lock a dataset's journal, which is created if needed; within the block, other processes get an error.

    Raises:
        CorrectionError: another process has locked it, or a file cannot be read, moved or written.
    """
    try:
        (dataset / FOLDER).mkdir(exist_ok=True)
        with locked(dataset / FOLDER):
            yield Journal(dataset)
    except BlockingIOError:
        raise CorrectionError(f"another classify-train apply is changing {dataset}: wait until it ends") from None
    except OSError as error:
        raise CorrectionError(
            f"cannot change {error.filename or dataset} ({error_reason(error)}): fix that and"
            " run the command again, which continues where it stopped"
        ) from error


def _read(entry: Path) -> list[Change]:
    try:
        records: list[dict[str, Any]] = json.loads(entry.read_bytes())
        return [Change(**record) for record in records]
    except (ValueError, TypeError) as error:
        raise CorrectionError(f"{entry} was not written by classify-train: move it away") from error


def _renamed(entry: Path, state: str) -> Path:
    name, _, _ = entry.name.removesuffix(".json").rpartition(".")
    renamed = entry.with_name(f"{name}.{state}.json")
    os.rename(entry, renamed)
    return renamed
