"""A journal of changes to a dataset: changes can be finished after an interruption, and undone.

The journal is in `DATASET/.review/`, a folder that training ignores. Each entry `<time>.<state>.json` lists changes
with all that is needed to repeat or undo them; `trash/` contains deleted images. The state is part of the file name,
so that renaming the file changes it in one step: `pending` -> `done` -> `undoing` -> `undone`.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any

from classify_serving.contract.text import error_reason
from classify_serving.exchange.review import CONFIRMED
from classify_serving.files import locked
from classify_training.corrections.changes import FOLDER, Change, FileChanger, FileOperations, undo_command
from classify_training.errors import CorrectionError


class Journal:
    """The journal of a dataset, locked by this process; `open_journal` makes it."""

    def __init__(self, dataset: Path, operations: FileOperations) -> None:
        self._dataset, self._operations = dataset, operations
        self._folder = dataset / FOLDER
        self._changer = FileChanger(dataset, operations)

    def new_name(self) -> str:
        """Name of the next entry: the current time, and a number that tells entries of one second apart."""
        time = f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%SZ}"
        return next(name for number in count() if not self._entries(name := f"{time}.{number:02}", "*"))

    def moved(self) -> frozenset[tuple[str, str]]:
        """(SHA-256, former path) of all files that were moved and not moved back by `undo`."""
        return frozenset(
            (change.sha256, change.source)
            for entry in self._entries("*", "done")
            for change in _read(entry)
            if change.kind == "move"
        )

    def perform(self, name: str, changes: Sequence[Change]) -> None:
        """Write an entry and make the changes; after an interruption, `recover` finishes and `undo` undoes them.

        Raises:
            CorrectionError: the changes cannot be made as planned, and nothing was changed; or a file changed
                meanwhile, and the changes before it can be undone.
            OSError: a file cannot be moved or copied.
        """
        self._changer.check_all(changes)
        # JSON with escapes can hold any file name, even one that is not UTF-8.
        content = json.dumps([asdict(change) for change in changes], indent=1).encode()
        pending = self._folder / f"{name}.pending.json"
        try:
            self._operations.write(pending, content)
        except OSError as error:
            raise CorrectionError(
                f"cannot write {pending} ({error_reason(error)}): nothing was changed; free disk space or check"
                " permissions, and run the command again"
            ) from error
        self._finish(pending)

    def recover(self) -> bool:
        """Finish the changes of processes that were interrupted; True if there were any."""
        left = [*self._entries("*", "pending"), *self._entries("*", "undoing")]
        for entry in left:
            self._finish(entry)
        return bool(left)

    def undo(self) -> list[Change] | None:
        """Undo the newest entry that is not undone, and return the changes taken back; None if there is no entry.

        Of an entry that was interrupted, these are the confirmed labels and the files that had been changed.

        Raises:
            CorrectionError: a file that it moved or added was changed or removed since; nothing is undone.
        """
        entries = [*self._entries("*", "done"), *self._entries("*", "pending"), *self._entries("*", "undoing")]
        if not entries:
            return None
        newest = max(entries, key=lambda entry: entry.name)
        changes = _read(newest)
        for change in changes:
            self._changer.check_undo(change, was_made=".done." in newest.name)
        return self._finish(self._renamed(newest, "undoing"))

    def _finish(self, entry: Path) -> list[Change]:
        """Make or undo the changes of an entry; its state changes last, so that an interruption leaves it open.

        Returns:
            The changes made or undone now.
        """
        changes = _read(entry)
        if ".undoing." in entry.name:
            undone = [change for change in reversed(changes) if self._changer.undo(change) or change.kind == "confirm"]
            self._write_confirmed([])
            self._renamed(entry, "undone")
            return undone
        for change in changes:
            self._changer.make(change)
        self._write_confirmed(changes)
        self._renamed(entry, "done")
        return changes

    def _entries(self, name: str, state: str) -> list[Path]:
        return sorted(self._folder.glob(f"{name}.{state}.json"))

    def _renamed(self, entry: Path, state: str) -> Path:
        name, _, _ = entry.name.removesuffix(".json").rpartition(".")
        renamed = entry.with_name(f"{name}.{state}.json")
        if renamed != entry:
            self._operations.rename(entry, renamed)
        return renamed

    def _write_confirmed(self, new: Sequence[Change]) -> None:
        """Write the confirmed labels of the entries that are done and of new changes."""
        done = [change for entry in self._entries("*", "done") for change in _read(entry)]
        pairs = {(change.sha256, change.target) for change in (*done, *new) if change.kind == "confirm"}
        self._operations.write_rows(self._dataset / CONFIRMED, [("sha256", "label"), *sorted(pairs)])


@contextmanager
def open_journal(
    dataset: Path, operations: FileOperations | None = None, is_read_only: bool = False
) -> Iterator[Journal]:
    """Lock a dataset's journal, which is created if needed; within the block, other processes get an error.

    Args:
        dataset: the dataset's folder.
        operations: what changes the disk.
        is_read_only: whether nothing will be changed: then no journal is created.

    Raises:
        CorrectionError: another process has locked it, or a file cannot be read, moved or written.
    """
    folder = dataset / FOLDER
    if is_read_only and not folder.exists():
        yield Journal(dataset, operations or FileOperations())
        return
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise CorrectionError(
            f"cannot create {folder} ({error_reason(error)}): nothing was changed; check permissions, or move away what"
            " has this name"
        ) from error
    try:
        with locked(folder):
            yield Journal(dataset, operations or FileOperations())
    except BlockingIOError:
        raise CorrectionError(f"another classify-train apply is changing {dataset}: wait until it ends") from None
    except OSError as error:
        # An error of moving or copying names two files, and either folder may be the cause.
        where = " to ".join(str(name) for name in (error.filename or dataset, error.filename2) if name)
        raise CorrectionError(
            f"cannot change {where} ({error_reason(error)}): fix that and run the command again, which continues where"
            f" it stopped, or take all changes back with {undo_command(dataset)}"
        ) from error


def _read(entry: Path) -> list[Change]:
    try:
        records: list[dict[str, Any]] = json.loads(entry.read_bytes())
        return _without_repetitions([Change(**record) for record in records])
    except (ValueError, TypeError) as error:
        raise CorrectionError(f"{entry} was not written by classify-train: move it away") from error


def _without_repetitions(changes: Sequence[Change]) -> list[Change]:
    """The changes that can be made of those in an entry of release 0.1.

    It could plan to move a file twice, where only the first move is possible, and to move two files with the same
    content to one path; the second of these gets another name.
    """
    sources: set[str] = set()
    targets: set[str] = set()
    distinct = []
    for change in changes:
        if change.kind == "move" and change.source in sources:
            continue
        if change.kind != "confirm":
            change = _with_free_target(change, targets)
            targets.add(change.target)
            sources |= {change.source} if change.kind == "move" else set()
        distinct.append(change)
    return distinct


def _with_free_target(change: Change, taken: set[str]) -> Change:
    path = PurePosixPath(change.target)
    names = (str(path.with_name(f"{path.stem}_{number}{path.suffix}")) for number in count(2))
    return change if change.target not in taken else replace(change, target=next(n for n in names if n not in taken))
