"""Changes to a dataset that can be finished after a kill, and undone.

Everything is in `DATASET/.review/`, which training passes over: `<time>.<state>.json` says what is done and holds
enough to do it again or take it back; `trash/` has the images that were taken out. The state is part of the name, so
that it changes in one step: `pending` -> `done` -> `undoing` -> `undone`.
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
from classify_training.errors import MendError

FOLDER: Final = ".review"
TRASH: Final = "trash"


@dataclass(frozen=True)
class Change:
    """One file of the dataset.

    Attributes:
        kind: `move` within the dataset, `add` a copy from elsewhere, or `confirm` that its label is right.
        sha256: of its content.
        target: where it goes, relative to the dataset with `/`; of `confirm`, the label.
        source: where it is: relative to the dataset, of `add` an absolute path.
    """

    kind: Literal["move", "add", "confirm"]
    sha256: str
    target: str
    source: str = ""


class Journal:
    """The journal of a dataset, held by this process; made with `open_journal`."""

    def __init__(self, dataset: Path) -> None:
        self._dataset = dataset
        self._folder = dataset / FOLDER

    def new_name(self) -> str:
        """For the next entry: the time, and a number where there is one of this second already."""
        time = f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%SZ}"
        return next(name for number in count() if not self._entries(name := f"{time}.{number:02}", "*"))

    def perform(self, name: str, changes: Sequence[Change]) -> None:
        """Do the changes and remember them; a kill in between is made good by `recover`.

        Raises:
            MendError: a file changed since the changes were planned; what was done until then can be undone.
            OSError: a file cannot be moved or copied.
        """
        # JSON with escapes holds any file name, also one that is no text.
        content = json.dumps([asdict(change) for change in changes], indent=1).encode()
        pending = self._folder / f"{name}.pending.json"
        replace_file(pending, content)
        self._finish(pending)

    def recover(self) -> bool:
        """Finish what a killed process began; True if there was anything."""
        left = [*self._entries("*", "pending"), *self._entries("*", "undoing")]
        for entry in left:
            self._finish(entry)
        return bool(left)

    def undo(self) -> list[Change]:
        """Take back the newest entry that is not undone, and give what it was; empty if there is none.

        Raises:
            MendError: a file that it moved or added has changed or gone since; nothing is taken back.
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
                self._take_back(change)
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
            raise MendError(f"{target} appeared meanwhile: {_REMEDY}")
        target.parent.mkdir(parents=True, exist_ok=True)
        if change.kind == "add":
            with replacing(target) as temporary:
                shutil.copy2(source, temporary)
        else:
            os.rename(source, target)

    def _take_back(self, change: Change) -> None:
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
                raise MendError(f"{source} is there again beside {target}: move one of them away")
            return
        self._check(target, change, "nothing was taken back; put it back as it was, or do the rest by hand")

    def _check(self, path: Path, change: Change, remedy: str) -> None:
        try:
            is_same = sha256_of(path) == change.sha256
        except FileNotFoundError:
            raise MendError(f"{path} is not there any more: {remedy}") from None
        if not is_same:
            raise MendError(f"{path} has changed: {remedy}")

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


_REMEDY: Final = "put it back as it was, or take everything back with classify-train apply --undo"


@contextmanager
def open_journal(dataset: Path) -> Iterator[Journal]:
    """Give a dataset's journal, made if absent; other processes that want it are refused meanwhile.

    Raises:
        MendError: another process is at it, or a file in it cannot be read, moved or written.
    """
    try:
        (dataset / FOLDER).mkdir(exist_ok=True)
        with locked(dataset / FOLDER):
            yield Journal(dataset)
    except BlockingIOError:
        raise MendError(f"another classify-train apply is at work in {dataset}: wait for it") from None
    except OSError as error:
        raise MendError(
            f"cannot change {error.filename or dataset} ({error_reason(error)}): fix that and"
            " repeat the command, which goes on where it stopped"
        ) from error


def _read(entry: Path) -> list[Change]:
    try:
        records: list[dict[str, Any]] = json.loads(entry.read_bytes())
        return [Change(**record) for record in records]
    except (ValueError, TypeError) as error:
        raise MendError(f"{entry} was not written by classify-train: move it away") from error


def _renamed(entry: Path, state: str) -> Path:
    name, _, _ = entry.name.removesuffix(".json").rpartition(".")
    renamed = entry.with_name(f"{name}.{state}.json")
    os.rename(entry, renamed)
    return renamed
