"""`review.csv` while people decide: each decision is written at once, and changes by other programs are taken over."""

import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from classify_serving.contract.text import error_reason
from classify_serving.exchange.review import ReviewError, ReviewRow, ReviewTable, parse_action, read_table
from classify_serving.files import locked

Key = tuple[str, str, str]
"""SHA-256, label and path of a row."""


class ReviewFile:
    """A review that several windows and programs may change.

    Args:
        path: the file.
        dataset: where the images are now; None if they are where they were when they were judged.

    Raises:
        ReviewError: it cannot be read.
    """

    def __init__(self, path: Path, dataset: Path | None = None) -> None:
        self.path = path
        self._dataset = dataset
        self._lock = threading.Lock()
        self._stamp: tuple[int, int, int] | None = None
        self._table: ReviewTable
        self._places: dict[Key, list[int]] = {}
        # Above all numbers of an earlier server, whose windows may still be open.
        self._version = self._whole_version = time.time_ns() // 1_000_000
        self._changes: list[tuple[int, Key, str]] = []
        self._reread()

    @property
    def rows(self) -> list[ReviewRow]:
        """The rows as they are now.

        Raises:
            ReviewError: the file was replaced by something else.
        """
        with self._lock:
            self._reread()
            return self._all_rows()

    def files_of(self, sha256: str) -> list[Path]:
        """Where an image of the review may be; nowhere if the review does not list it.

        Raises:
            ReviewError: the file was replaced by something else.
        """
        rows = [row for row in self.rows if row.sha256 == sha256]
        now = [self._dataset / row.path for row in rows if row.path] if self._dataset else []
        return now + [Path(row.file) for row in rows if row.file]

    def since(self, version: int) -> dict[str, Any]:
        """What has changed since a version: `version`, and `rows` (all of them) or `changes` (key and action of each).

        Raises:
            ReviewError: the file was replaced by something else.
        """
        with self._lock:
            self._reread()
            return self._since(version)

    def decide(self, decisions: Iterable[tuple[Key, str]], version: int) -> dict[str, Any]:
        """Write decisions, and give what has changed since a version; a row that is gone takes none.

        Returns:
            As of `since`, and `refused`: the keys of the decisions that were not written.

        Raises:
            ReviewError: the file cannot be read or written now; then none is written.
        """
        wanted = dict(decisions)
        with self._lock:
            try:
                with locked(self.path.parent):
                    self._reread()
                    refused = [
                        key for key, action in wanted.items() if key not in self._places or not _is_valid(action)
                    ]
                    changed = {
                        key: action for key, action in wanted.items()
                        if key not in refused and self._row(key).action != action
                    }  # fmt: skip
                    if changed:
                        self._write(changed)
            except BlockingIOError as error:
                raise ReviewError("another command is writing to this folder: wait until it has ended") from error
            except OSError as error:
                raise ReviewError(f"cannot write {self.path} ({error_reason(error)})") from error
            return {**self._since(version), "refused": refused}

    def _write(self, changed: Mapping[Key, str]) -> None:
        actions = {place: action for key, action in changed.items() for place in self._places[key]}
        table = self._table.with_actions(actions)
        table.write(self.path)
        self._table, self._stamp = table, self._stamp_now()
        for key, action in changed.items():
            self._version += 1
            self._changes.append((self._version, key, action))

    def _since(self, version: int) -> dict[str, Any]:
        # A window can be ahead of a server whose clock was set back.
        if not self._whole_version <= version <= self._version:
            return {"version": self._version, "rows": self._all_rows()}
        changes = [(key, action) for number, key, action in self._changes if number > version]
        return {"version": self._version, "changes": changes}

    def _reread(self) -> None:
        stamp = self._stamp_now()
        if stamp == self._stamp:
            return
        self._table = read_table(self.path)
        self._places = {}
        for place, row in enumerate(self._table.rows):
            self._places.setdefault((row.sha256, row.label, row.path), []).append(place)
        self._stamp = stamp
        self._version += 1
        self._whole_version, self._changes = self._version, []

    def _row(self, key: Key) -> ReviewRow:
        return self._table.rows[self._places[key][-1]]

    def _all_rows(self) -> list[ReviewRow]:
        """One row for each key; of several lines of the file with the same one, the last."""
        return [self._row(key) for key in self._places]

    def _stamp_now(self) -> tuple[int, int, int]:
        try:
            found = self.path.stat()
        except OSError as error:
            raise ReviewError(
                f"cannot read {self.path} ({error_reason(error)}): give the output folder of an audit or of a run"
            ) from error
        return found.st_mtime_ns, found.st_size, found.st_ino


def _is_valid(action: str) -> bool:
    try:
        parse_action(action)
    except ReviewError:
        return False
    return True
